//! How long the machines of this crate take, in nanoseconds: `cargo run --release -p ginnel-wireguard --example protocol_speed`.
//!
//! One core, warm caches, the best of several rounds; random addresses, so that each lookup is of another flow.

#![allow(clippy::print_stdout, clippy::cast_precision_loss)]

use ginnel_wireguard::allowed_ips::Table;
use ginnel_wireguard::gate::{Gate, Verdict};
use ginnel_wireguard::replay::Window;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

/// The next number of a small generator (splitmix64).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Nanoseconds a call, the best of five rounds of `calls`.
fn best(calls: u32, mut round: impl FnMut()) -> f64 {
    (0..5)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .fold(f64::MAX, f64::min)
}

fn lookups(name: &str, prefixes: &[(IpAddr, u8)], targets: &[IpAddr]) {
    let start = Instant::now();
    let mut table = Table::new();
    for (peer, &(addr, cidr)) in prefixes.iter().enumerate() {
        table.insert(addr, cidr, peer as u32);
    }
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let v4: Vec<u32> = targets
        .iter()
        .filter_map(|a| {
            if let IpAddr::V4(a) = a {
                Some(a.to_bits())
            } else {
                None
            }
        })
        .collect();
    let v6: Vec<u128> = targets
        .iter()
        .filter_map(|a| {
            if let IpAddr::V6(a) = a {
                Some(a.to_bits())
            } else {
                None
            }
        })
        .collect();
    let calls = 1_000_000;
    let nanos = if v4.is_empty() {
        best(calls, || {
            for call in 0..calls as usize {
                black_box(table.lookup_v6(v6[call % v6.len()]));
            }
        })
    } else {
        best(calls, || {
            for call in 0..calls as usize {
                black_box(table.lookup_v4(v4[call % v4.len()]));
            }
        })
    };
    println!(
        "{name:<44} {:>7} prefixes, loaded in {load_ms:6.1} ms, lookup {nanos:5.1} ns",
        prefixes.len()
    );
}

fn allowed_ips() {
    let mut state = 1;
    let mut v4 = |mask: u32, base: u32| {
        IpAddr::V4(Ipv4Addr::from_bits(base | random(&mut state) as u32 & mask))
    };
    let pool: Vec<_> = (0..10_000)
        .map(|host| (IpAddr::V4(Ipv4Addr::from_bits(0x0a0a_0000 + host)), 32))
        .collect();
    let targets: Vec<_> = (0..8192).map(|_| v4(0x1fff, 0x0a0a_0000)).collect();
    lookups("10,000 /32 of one pool", &pool, &targets);
    let scattered: Vec<_> = (0..10_000_u32)
        .map(|n| (v4(u32::MAX, 0), (8 + n % 25) as u8))
        .collect();
    let targets: Vec<_> = (0..8192)
        .map(|n| {
            v4(
                0xff,
                if let IpAddr::V4(a) = scattered[n].0 {
                    a.to_bits() & !0xff
                } else {
                    0
                },
            )
        })
        .collect();
    lookups("10,000 random IPv4 /8 to /32", &scattered, &targets);

    let mut state = 2;
    let mut v6 = |mask: u128, base: u128| {
        let noise = u128::from(random(&mut state)) << 64 | u128::from(random(&mut state));
        IpAddr::V6(Ipv6Addr::from_bits(base | noise & mask))
    };
    let net = 0xfd10_0010 << 96;
    let pool: Vec<_> = (0..10_000)
        .map(|host| (IpAddr::V6(Ipv6Addr::from_bits(net + host)), 128))
        .collect();
    let targets: Vec<_> = (0..8192).map(|_| v6(0x1fff, net)).collect();
    lookups("10,000 /128 of one pool", &pool, &targets);
    let scattered: Vec<_> = (0..10_000_u32)
        .map(|n| (v6(u128::MAX, 0), (16 + n % 113) as u8))
        .collect();
    let targets: Vec<_> = (0..8192)
        .map(|n| {
            v6(
                0xff,
                if let IpAddr::V6(a) = scattered[n].0 {
                    a.to_bits() & !0xff
                } else {
                    0
                },
            )
        })
        .collect();
    lookups("10,000 random IPv6 /16 to /128", &scattered, &targets);

    let both: Vec<_> = (0..65_280_u128)
        .flat_map(|n| {
            let v4 = IpAddr::V4(Ipv4Addr::from_bits(0x0100_0000 + ((n as u32) << 8)));
            [
                (v4, 24),
                (IpAddr::V6(Ipv6Addr::from_bits(net + (n << 64))), 64),
            ]
        })
        .collect();
    let targets: Vec<_> = both
        .iter()
        .step_by(16)
        .map(|&(addr, _)| addr)
        .filter(IpAddr::is_ipv4)
        .collect();
    lookups("a full UAPI load, both families", &both, &targets);
}

fn replay() {
    let calls = 1_000_000;
    let mut base = 0;
    let in_order = best(calls, || {
        let mut window = Window::new();
        for counter in 0..u64::from(calls) {
            black_box(window.accept(counter));
        }
        base += 1;
    });
    println!("{:<44} {in_order:5.1} ns", "replay window, in order");
}

/// An initiation whose mac1 is valid for `public`.
fn initiation(public: &[u8; 32]) -> Vec<u8> {
    let mut msg = vec![0; 148];
    msg[0] = 1;
    let key = ginnel_crypto::blake2s::hash(&[b"mac1----", public]);
    let mac1 = ginnel_crypto::blake2s::mac(&key, &[&msg[..116]]).unwrap_or_default();
    msg[116..132].copy_from_slice(&mac1);
    msg
}

fn gate() {
    let public = [7; 32];
    let msg = initiation(&public);
    let mut bad = msg.clone();
    bad[116] ^= 1;
    let mut with_mac2 = msg.clone();
    with_mac2[140] = 1;
    let place = |n: u32| {
        SocketAddr::new(
            Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b9)).into(),
            51_820,
        )
    };
    let calls = 200_000;
    let case = |name: &str, msg: &[u8], places: u32, pending: usize, forged: bool| {
        let mut gate = Gate::new([1; 32]);
        gate.set_public_key(Some(&public));
        let mut now = 1_000_000_000;
        let mut verdicts = std::collections::BTreeMap::new();
        if forged {
            gate.check(msg, &place(0), 0, now);
            for _ in 0..100 {
                gate.outcome(&place(0), false, now);
            }
        }
        let nanos = best(calls, || {
            for call in 0..calls {
                now += 5_000;
                let verdict = gate.check(msg, &place(call % places), pending, now);
                if call % 100 == 99 {
                    let seen = match verdict {
                        Verdict::Accept => "accept",
                        Verdict::Cookie(_) => "cookie",
                        Verdict::Drop(_) => "drop",
                    };
                    *verdicts.entry(seen).or_insert(0) += 1;
                }
            }
        });
        println!("{name:<44} {nanos:5.0} ns at 200,000/s, {verdicts:?}");
    };
    case("gate, no load, one address", &msg, 1, 0, false);
    case("gate, no load, random addresses", &msg, u32::MAX, 0, false);
    case("gate, wrong mac1", &bad, 1, 0, false);
    case("gate, load, random addresses", &msg, u32::MAX, 600, false);
    case(
        "gate, load, random addresses, wrong mac2",
        &with_mac2,
        u32::MAX,
        600,
        false,
    );
    case("gate, flood of a suspect address", &msg, 1, 600, true);
    case(
        "gate, flood of a suspect address, wrong mac2",
        &with_mac2,
        1,
        600,
        true,
    );
}

fn main() {
    allowed_ips();
    replay();
    gate();
}
