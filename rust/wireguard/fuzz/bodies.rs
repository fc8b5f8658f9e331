//! What each fuzz target does with its bytes: plain functions, called by libFuzzer and by the replay of the corpus alike.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use ginnel_crypto::{aead, blake2s};
use ginnel_wireguard::allowed_ips::Table;
use ginnel_wireguard::constants::{REJECT_AFTER_MESSAGES, SECOND_NS};
use ginnel_wireguard::gate::{Gate, Reason, Verdict};
use ginnel_wireguard::replay::{Window, WINDOW_SIZE};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The bytes of the input, used up from the front; zeros after the end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let taken = std::array::from_fn(|at| self.0.get(at).copied().unwrap_or(0));
        self.0 = self.0.get(N..).unwrap_or_default();
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn some(&mut self, len: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        let mut taken = taken.to_vec();
        taken.resize(len, 0);
        taken
    }
}

/// Datagrams in any order at any time, some with a valid mac1 and with cookies, and the control plane's word about them.
pub fn gate(data: &[u8]) {
    const PUBLIC: [u8; 32] = [7; 32];
    let mac1_key = blake2s::hash(&[b"mac1----", &PUBLIC]);
    let cookie_key = blake2s::hash(&[b"cookie--", &PUBLIC]);
    let mut input = Input(data);
    let mut gate = Gate::new([1; 32]);
    let mut has_key = false;
    let mut now = 1000 * SECOND_NS;
    let mut cookie = None;
    while !input.0.is_empty() {
        let op = input.byte();
        let src = source(input.word());
        let pending = usize::from(input.byte()) * 20;
        match op & 0x0f {
            0 => {
                has_key = op & 0x10 != 0;
                gate.set_public_key(has_key.then_some(&PUBLIC));
                continue;
            }
            1 => gate.outcome(&src, op & 0x10 != 0, now),
            2 => now += u64::from(input.word()) * SECOND_NS / 1000,
            3 => now -= u64::from(input.byte()) * SECOND_NS / 1000,
            _ => {}
        }
        let len = match op >> 4 & 3 {
            0 => 148,
            1 => 92,
            2 => 64,
            _ => usize::from(input.word()) % 2000,
        };
        let mut msg = input.some(len);
        if op & 4 != 0 {
            for (byte, wanted) in msg.iter_mut().zip([1 + (op >> 4 & 3), 0, 0, 0]) {
                *byte = wanted;
            }
        }
        let is_handshake = matches!((kind(&msg), len), (Some(1), 148) | (Some(2), 92));
        let is_cookie_reply = matches!((kind(&msg), len), (Some(3), 64));
        let good_mac1 = is_handshake && op & 8 != 0;
        if good_mac1 {
            let mac1 = blake2s::mac(&mac1_key, &[&msg[..len - 32]]).unwrap();
            msg[len - 32..len - 16].copy_from_slice(&mac1);
            if let Some(cookie) = cookie.filter(|_| op & 0x40 != 0) {
                let mac2 = mac2(&msg, &cookie);
                msg[len - 16..].copy_from_slice(&mac2);
            }
        }
        match gate.check(&msg, &src, pending, now) {
            Verdict::Drop(Reason::BadLength) => assert!(!is_handshake && !is_cookie_reply),
            Verdict::Drop(Reason::NoKey) => assert!(!has_key),
            Verdict::Drop(Reason::BadMac1) => assert!(is_handshake && !good_mac1),
            Verdict::Drop(Reason::RateLimited | Reason::Overload) => assert!(has_key),
            Verdict::Accept => assert!(has_key && pending < 4096 && (is_cookie_reply || good_mac1)),
            Verdict::Cookie(reply) => {
                assert!(has_key && good_mac1);
                assert_eq!(reply[..8], [&[3, 0, 0, 0], &msg[4..8]].concat());
                let sealed = aead::xopen(
                    &cookie_key,
                    reply[8..32].try_into().unwrap(),
                    &reply[32..],
                    &msg[len - 32..len - 16],
                );
                let fresh: [u8; 16] = sealed.unwrap().try_into().unwrap();
                cookie = Some(fresh);
                // Who uses it at once is not asked again.
                let mac2 = mac2(&msg, &fresh);
                msg[len - 16..].copy_from_slice(&mac2);
                assert!(!matches!(
                    gate.check(&msg, &src, pending, now),
                    Verdict::Cookie(_)
                ));
            }
        }
        assert!(gate.heavy_hitters(now).len() <= 32);
    }
}

fn mac2(msg: &[u8], cookie: &[u8; 16]) -> [u8; 16] {
    blake2s::mac(cookie, &[&msg[..msg.len() - 16]]).unwrap()
}

fn kind(msg: &[u8]) -> Option<u32> {
    msg.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn source(number: u16) -> SocketAddr {
    let port = number >> 8;
    let ip = if number & 1 == 0 {
        IpAddr::V4(Ipv4Addr::from_bits(u32::from(number & 0x7f)))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(u128::from(number & 0x7f) << 62))
    };
    SocketAddr::new(ip, port)
}

/// Counters in any order: the window accepts what a set of all accepted ones would.
pub fn replay(data: &[u8]) {
    let mut input = Input(data);
    let base = match input.byte() % 5 {
        0 => 0,
        1 => 1 << 32,
        2 => (1 << 60) - 100,
        3 => REJECT_AFTER_MESSAGES - 20_000,
        _ => u64::from_le_bytes(input.take()),
    };
    let mut window = Window::new();
    let mut accepted: HashSet<u64> = HashSet::new();
    let mut highest: Option<u64> = None;
    while !input.0.is_empty() {
        let counter = base.saturating_add(u64::from(input.word()));
        let too_old =
            highest.is_some_and(|highest| counter < highest && highest - counter > WINDOW_SIZE);
        let expected = counter < REJECT_AFTER_MESSAGES && !too_old && accepted.insert(counter);
        assert_eq!(window.accept(counter), expected, "counter {counter}");
        if expected {
            highest = highest.max(Some(counter));
        }
    }
}

/// Changes and lookups in any order: the table answers what a linear list would.
pub fn allowed_ips(data: &[u8]) {
    let mut input = Input(data);
    let mut table: Table<u8> = Table::new();
    let mut list: Vec<(IpAddr, u8, u8)> = Vec::new();
    while !input.0.is_empty() {
        let op = input.byte();
        let (peer, cidr) = (op >> 5, input.byte());
        let addr = if op & 4 == 0 {
            IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes(input.take())))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(u128::from_be_bytes(input.take())))
        };
        let width = if addr.is_ipv4() { 32 } else { 128 };
        let cidr = cidr.min(width);
        let at = list.iter().position(|&(base, len, _)| {
            len == cidr && base.is_ipv4() == addr.is_ipv4() && covers(base, len, addr)
        });
        match op & 3 {
            0 | 1 => {
                let held_by = at.map(|at| list.remove(at).2);
                list.push((addr, cidr, peer));
                assert_eq!(table.insert(addr, cidr, peer), held_by);
            }
            2 if op & 8 != 0 => {
                list.retain(|&(_, _, holder)| holder != peer);
                table.remove_peer(peer);
            }
            2 => {
                let held = at.filter(|&at| list[at].2 == peer);
                assert_eq!(table.remove(addr, cidr, peer), held.is_some());
                held.map(|at| list.remove(at));
            }
            _ => {}
        }
        let longest = list
            .iter()
            .filter(|&&(base, len, _)| covers(base, len, addr))
            .max_by_key(|&&(_, len, _)| len);
        assert_eq!(
            table.lookup(addr),
            longest.map(|&(_, _, holder)| holder),
            "{addr}"
        );
        assert_eq!(table.len(), list.len());
    }
    for peer in 0..8 {
        assert_eq!(
            table.prefixes_of(peer).len(),
            list.iter()
                .filter(|&&(_, _, holder)| holder == peer)
                .count()
        );
    }
}

fn covers(base: IpAddr, len: u8, addr: IpAddr) -> bool {
    let same = |differing: u128, width: u32| len == 0 || differing >> (width - u32::from(len)) == 0;
    match (base, addr) {
        (IpAddr::V4(base), IpAddr::V4(addr)) => {
            same(u128::from(base.to_bits() ^ addr.to_bits()), 32)
        }
        (IpAddr::V6(base), IpAddr::V6(addr)) => same(base.to_bits() ^ addr.to_bits(), 128),
        _ => false,
    }
}
