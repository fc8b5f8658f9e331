//! A program for the UDP socket: what can be no WireGuard message dies in the kernel, before it costs user space anything.
//!
//! Classic BPF, for `SO_ATTACH_FILTER`, which needs no privilege. On a UDP socket the program sees the datagram from its UDP header
//! on: the payload begins at 8, and the length includes the header. It keeps types 1 to 4 with zero reserved bytes and
//! the lengths of their messages; data needs only its 32 bytes, because not every implementation pads to 16.
//!
//! # Receive offload
//!
//! With `UDP_GRO` on the socket the kernel shows the program what the socket will receive: a *chain* of up to 64 datagrams of one
//! flow as one, the first one's payload in front and the length of all of them (also in the UDP header). It does so whether the
//! chain was aggregated on receive or never segmented by the sender on the same machine; without `UDP_GRO` each datagram comes by itself.
//! (`tests/filter_in_kernel.rs` shows both.) A chain of equal datagrams may end in a shorter one, so a chain of initiations has no exact length: with
//! `gro` the lengths become minima, and user space, which must check them anyway, checks them. A chain is judged by its
//! first datagram, and datagrams of one flow are one sender's, or of one who forges his address exactly.
//!
//! # Floods
//!
//! Initiations of listed addresses (see `Gate::heavy_hitters`) are kept with a chance of 1 in 32: enough for the gate to see that the
//! flood goes on. One with a mac2, which may be a cookie's (or random bytes), is kept with a chance of 1 in 4, so that who has a
//! cookie gets through within some retries. Only type 1 is touched: sessions, and handshakes that we begin, live on.

use std::net::IpAddr;

/// `struct sock_filter`: code, jump if true, jump if false, k.
pub type Instruction = (u16, u8, u8, u32);

/// Of the initiations of a listed address, one in so many is kept; a power of two.
pub const KEEP_ONE_IN: u32 = 32;
/// ... and with a mac2, of so many.
pub const KEEP_ONE_WITH_MAC2_IN: u32 = 4;
/// Addresses of each family that the program takes; more are ignored.
pub const MAX_LISTED: usize = crate::heavy::MAX_LISTED;

const LOAD_LENGTH: u16 = 0x80; // BPF_LD | BPF_W | BPF_LEN
const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const SHIFT_RIGHT: u16 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets from here are into the IP header (`SKF_NET_OFF`).
const IP_HEADER: u32 = 0xfff0_0000;
/// A load from here is a random word (`SKF_AD_OFF + SKF_AD_RANDOM`).
const RANDOM: u32 = 0xffff_f000 + 56;
const UDP_HEADER_SIZE: u32 = 8;
/// Where mac2 begins in an initiation, UDP header included.
const MAC2: u32 = UDP_HEADER_SIZE + 132;
/// Keep all of the datagram.
const ALL: u32 = u32::MAX;

/// The program for a socket with or without `UDP_GRO`, and the addresses listed now (an IPv6 address stands for its /64).
///
/// At most 128 instructions. The same for IPv4 and IPv6 sockets.
pub fn socket_filter_program(gro: bool, listed: &[IpAddr]) -> Vec<Instruction> {
    let mut program = Program::default();
    program.kinds(gro);
    program.initiations_of(listed);
    program.finish()
}

/// Where a conditional jump goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    /// So many instructions further.
    Skip(u8),
    Keep,
    Drop,
    /// The draw for a listed address.
    Draw,
}

/// Instructions whose jumps are still named.
#[derive(Default)]
struct Program {
    steps: Vec<(u16, u32, To, To)>,
}

impl Program {
    fn load(&mut self, code: u16, from: u32) {
        self.steps.push((code, from, To::Next, To::Next));
    }

    fn jump(&mut self, code: u16, k: u32, yes: To, no: To) {
        self.steps.push((code, k, yes, no));
    }

    /// Decide all but initiations of the right length, which fall through.
    fn kinds(&mut self, gro: bool) {
        let fits = if gro { JUMP_IF_AT_LEAST } else { JUMP_IF_EQUAL };
        self.load(LOAD_LENGTH, 0);
        self.jump(JUMP_IF_AT_LEAST, UDP_HEADER_SIZE + 32, To::Next, To::Drop);
        self.load(LOAD_WORD, UDP_HEADER_SIZE); // the type, read as big-endian
        self.jump(JUMP_IF_EQUAL, 4 << 24, To::Keep, To::Next);
        for (kind, size) in [(2 << 24, 92), (3 << 24, 64)] {
            self.jump(JUMP_IF_EQUAL, kind, To::Next, To::Skip(2));
            self.load(LOAD_LENGTH, 0);
            self.jump(fits, UDP_HEADER_SIZE + size, To::Keep, To::Drop);
        }
        self.jump(JUMP_IF_EQUAL, 1 << 24, To::Next, To::Drop);
        self.load(LOAD_LENGTH, 0);
        self.jump(fits, UDP_HEADER_SIZE + 148, To::Next, To::Drop);
    }

    fn initiations_of(&mut self, listed: &[IpAddr]) {
        let v4: Vec<u32> = listed
            .iter()
            .filter_map(|addr| {
                if let IpAddr::V4(addr) = addr {
                    Some(addr.to_bits())
                } else {
                    None
                }
            })
            .take(MAX_LISTED)
            .collect();
        let v6: Vec<u64> = listed
            .iter()
            .filter_map(|addr| {
                if let IpAddr::V6(addr) = addr {
                    Some((addr.to_bits() >> 64) as u64)
                } else {
                    None
                }
            })
            .take(MAX_LISTED)
            .collect();
        if v4.is_empty() && v6.is_empty() {
            return;
        }
        self.load(LOAD_BYTE, IP_HEADER);
        self.load(SHIFT_RIGHT, 4);
        // Over the IPv4 part: its load, a comparison each, and the end of the list.
        self.jump(JUMP_IF_EQUAL, 4, To::Next, To::Skip(v4.len() as u8 + 2));
        self.load(LOAD_WORD, IP_HEADER + 12);
        for addr in v4 {
            self.jump(JUMP_IF_EQUAL, addr, To::Draw, To::Next);
        }
        self.jump(JUMP_IF_AT_LEAST, 0, To::Keep, To::Keep);
        for prefix in v6 {
            self.load(LOAD_WORD, IP_HEADER + 8);
            self.jump(JUMP_IF_EQUAL, (prefix >> 32) as u32, To::Next, To::Skip(2));
            self.load(LOAD_WORD, IP_HEADER + 12);
            self.jump(JUMP_IF_EQUAL, prefix as u32, To::Draw, To::Next);
        }
    }

    /// The common ends, and the jumps turned into distances.
    fn finish(self) -> Vec<Instruction> {
        let keep = self.steps.len();
        let drop = keep + 1;
        let draw = keep + 2;
        let ends = [
            (RETURN, ALL, To::Next, To::Next),
            (RETURN, 0, To::Next, To::Next),
            (LOAD_WORD, MAC2, To::Next, To::Next),
            (JUMP_IF_EQUAL, 0, To::Next, To::Skip(3)),
            (LOAD_WORD, RANDOM, To::Next, To::Next),
            (AND, KEEP_ONE_IN - 1, To::Next, To::Next),
            (JUMP_IF_EQUAL, 0, To::Skip(3), To::Skip(4)),
            (LOAD_WORD, RANDOM, To::Next, To::Next),
            (AND, KEEP_ONE_WITH_MAC2_IN - 1, To::Next, To::Next),
            (JUMP_IF_EQUAL, 0, To::Next, To::Skip(1)),
            (RETURN, ALL, To::Next, To::Next),
            (RETURN, 0, To::Next, To::Next),
        ];
        let distance = |at: usize, to: To| match to {
            To::Next => 0,
            To::Skip(steps) => steps,
            To::Keep => (keep - at - 1) as u8,
            To::Drop => (drop - at - 1) as u8,
            To::Draw => (draw - at - 1) as u8,
        };
        let steps = self.steps.into_iter().chain(ends).enumerate();
        steps
            .map(|(at, (code, k, yes, no))| (code, distance(at, yes), distance(at, no), k))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    /// What the kernel does: returns what the program returns. Loads beyond the packet end it with 0.
    fn run(program: &[Instruction], ip: &[u8], datagram: &[u8], random: u32) -> u32 {
        let load = |from: u32, size: usize| -> Option<u32> {
            if from == RANDOM {
                return Some(random);
            }
            let (bytes, at) = if from >= IP_HEADER {
                (ip, from - IP_HEADER)
            } else {
                (datagram, from)
            };
            let field = bytes.get(at as usize..at as usize + size)?;
            Some(
                field
                    .iter()
                    .fold(0, |value, &byte| value << 8 | u32::from(byte)),
            )
        };
        let mut a = 0;
        let mut at = 0;
        for _ in 0..program.len() {
            let (code, yes, no, k) = program[at];
            let jump = |condition: bool| usize::from(if condition { yes } else { no });
            at += 1;
            match code {
                LOAD_LENGTH => a = datagram.len() as u32,
                LOAD_WORD => match load(k, 4) {
                    Some(value) => a = value,
                    None => return 0,
                },
                LOAD_BYTE => match load(k, 1) {
                    Some(value) => a = value,
                    None => return 0,
                },
                SHIFT_RIGHT => a >>= k,
                AND => a &= k,
                JUMP_IF_EQUAL => at += jump(a == k),
                JUMP_IF_AT_LEAST => at += jump(a >= k),
                RETURN => return k,
                other => panic!("no such instruction: {other:#x}"),
            }
        }
        panic!("no end: classic BPF only jumps forward");
    }

    fn ip_header(from: IpAddr) -> Vec<u8> {
        match from {
            IpAddr::V4(addr) => [&[0x45; 12][..], &addr.octets(), &[0; 4]].concat(),
            IpAddr::V6(addr) => [&[0x60; 8][..], &addr.octets(), &[0; 16]].concat(),
        }
    }

    fn datagram(kind: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; 8 + len];
        let known = len.min(4);
        bytes[8..8 + known].copy_from_slice(&kind.to_le_bytes()[..known]);
        bytes
    }

    fn keeps(program: &[Instruction], from: &str, datagram: &[u8], random: u32) -> bool {
        run(program, &ip_header(from.parse().unwrap()), datagram, random) != 0
    }

    #[test]
    fn without_offload_lengths_are_exact() {
        let program = socket_filter_program(false, &[]);
        for kind in (0..=6).chain([0x101, 0x1_0004, 0x0400_0000, u32::MAX]) {
            for len in (0..300).chain([1400, 1452, 65_507]) {
                let expected = match kind {
                    1 => len == 148,
                    2 => len == 92,
                    3 => len == 64,
                    4 => len >= 32,
                    _ => false,
                };
                assert_eq!(
                    keeps(&program, "192.0.2.1", &datagram(kind, len), 0),
                    expected,
                    "type {kind:#x}, {len} bytes"
                );
            }
        }
    }

    #[test]
    fn with_offload_chains_pass() {
        let program = socket_filter_program(true, &[]);
        for (kind, least) in [(1, 148), (2, 92), (3, 64), (4, 32)] {
            for len in 0..600 {
                assert_eq!(
                    keeps(&program, "::1", &datagram(kind, len), 0),
                    len >= least,
                    "type {kind}, {len} bytes"
                );
            }
        }
        assert!(!keeps(&program, "::1", &datagram(5, 1000), 0));
    }

    #[test]
    fn a_listed_address_gets_one_initiation_in_32_through_and_all_else() {
        let listed: Vec<IpAddr> = [
            "192.0.2.66",
            "198.51.100.9",
            "2001:db8:0:66::",
            "2001:db9::",
        ]
        .map(|text| text.parse().unwrap())
        .to_vec();
        for gro in [false, true] {
            let program = socket_filter_program(gro, &listed);
            let initiation = datagram(1, 148);
            let mut with_mac2 = initiation.clone();
            with_mac2[MAC2 as usize] = 9;
            for from in [
                "192.0.2.66",
                "198.51.100.9",
                "2001:db8:0:66::1",
                "2001:db8:0:66:ffff::",
                "2001:db9::5",
            ] {
                let kept = (0..3200)
                    .filter(|&random| keeps(&program, from, &initiation, random))
                    .count();
                assert_eq!(kept, 100, "{from}");
                let kept = (0..3200)
                    .filter(|&random| keeps(&program, from, &with_mac2, random))
                    .count();
                assert_eq!(kept, 800, "{from}");
                for (kind, len) in [(2, 92), (3, 64), (4, 32), (4, 1452)] {
                    assert!(
                        keeps(&program, from, &datagram(kind, len), 1),
                        "{from}, type {kind}"
                    );
                }
            }
            for from in [
                "192.0.2.67",
                "66.2.0.192",
                "2001:db8:0:67::1",
                "2001:db8:1:66::1",
                "2001:db9:0:1::",
                "::",
            ] {
                assert!(
                    (0..64).all(|random| keeps(&program, from, &initiation, random)),
                    "{from}"
                );
            }
        }
    }

    #[test]
    fn the_longest_list_fits_and_more_is_ignored() {
        let v4 = (1..=20_u32).map(|n| IpAddr::V4(n.into()));
        let v6 = (1..=20_u128).map(|n| IpAddr::V6((n << 64).into()));
        let listed: Vec<IpAddr> = v4.chain(v6).collect();
        let program = socket_filter_program(true, &listed);
        assert!(program.len() <= 128, "{}", program.len());
        let drops = |addr: &IpAddr| run(&program, &ip_header(*addr), &datagram(1, 148), 1) == 0;
        assert_eq!(
            listed.iter().filter(|addr| drops(addr)).count(),
            2 * MAX_LISTED
        );
        assert!(
            drops(&listed[0])
                && drops(&listed[15])
                && drops(&listed[20])
                && drops(&listed[35])
                && !drops(&listed[16])
        );
        for only in [&listed[..1], &listed[20..21]] {
            let program = socket_filter_program(false, only);
            assert_eq!(run(&program, &ip_header(only[0]), &datagram(1, 148), 1), 0);
        }
    }
}
