//! What encapsulation costs, in nanoseconds a packet: `cargo run --release -p ginnel-gre --example gre_speed`.
//!
//! One core, warm caches, the best of several rounds; full packets of a 1,500-byte link and small ones. No system call is in here.

#![allow(clippy::print_stdout, clippy::cast_precision_loss)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use ginnel_gre::demux::{Demux, Seen, GRE};
use ginnel_gre::options::{Kind, Options};
use ginnel_gre::receive::{self, State};
use ginnel_gre::{header, outer};

const CALLS: u32 = 200_000;

/// Nanoseconds a call, the best of five rounds.
fn best(mut call: impl FnMut(u32)) -> f64 {
    (0..5)
        .map(|_| {
            let start = Instant::now();
            for n in 0..CALLS {
                call(n);
            }
            start.elapsed().as_nanos() as f64 / f64::from(CALLS)
        })
        .fold(f64::MAX, f64::min)
}

fn tunnel(v6: bool) -> Options {
    let (local, remote): (IpAddr, IpAddr) = if v6 {
        let host = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
        (host(1).into(), host(2).into())
    } else {
        let host = |last| Ipv4Addr::new(192, 0, 2, last);
        (host(1).into(), host(2).into())
    };
    Options {
        ttl: 64,
        ..Options::new(Kind::Gre, Some(local), Some(remote))
    }
}

/// A TCP segment of this length.
fn inner(len: usize) -> Vec<u8> {
    let mut packet = vec![0; len];
    packet[..12].copy_from_slice(&[
        0x45,
        0,
        (len >> 8) as u8,
        len as u8,
        0,
        1,
        0x40,
        0,
        64,
        6,
        0,
        0,
    ]);
    packet[12..20].copy_from_slice(&[10, 1, 0, 1, 10, 2, 0, 1]);
    packet[20..24].copy_from_slice(&[0xd4, 0x31, 0x01, 0xbb]);
    packet
}

fn packets(name: &str, options: &Options, len: usize) {
    let (Some(local), Some(remote)) = (options.local, options.remote) else {
        return;
    };
    let inner = inner(len);
    let head = outer::len(options);
    let mut packet = vec![0; head];
    packet.extend(&inner);
    let write = best(|n| {
        let fields = outer::fields(options, &packet[head..]);
        let id = n as u16;
        black_box(outer::write(
            options,
            local,
            remote,
            fields,
            id,
            header::IPV4,
            n,
            &mut packet,
        ));
    });
    let gre = &mut packet[head - options.gre_len()..];
    let parse = best(|_| {
        let mut state = State::default();
        if let Ok(found) = header::parse(black_box(gre)) {
            black_box(receive::admit(options, &mut state, &found, 0, gre).is_ok());
        }
    });
    println!("{name:<34} {len:>5} bytes: write {write:6.1} ns, parse and admit {parse:6.1} ns");
}

fn find(name: &str, count: u32, key: bool) {
    let peer = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n));
    let mut table = Demux::new();
    for n in 0..count {
        let one = Options {
            remote: Some(peer(n)),
            ikey: key.then_some(n),
            ..tunnel(false)
        };
        let _ = table.insert(&one, n);
    }
    let seen = |n: u32| Seen {
        local: Ipv4Addr::new(192, 0, 2, 1).into(),
        remote: peer(n),
        key: key.then_some(n),
        ethernet: false,
        protocol: GRE,
        udp: false,
        device: 2,
    };
    let known = best(|n| {
        black_box(table.find(&seen(n.wrapping_mul(0x9e37_79b9) % count)));
    });
    let stranger = best(|n| {
        black_box(table.find(&seen(count + n)));
    });
    println!(
        "{name:<34} {count:>5} tunnels: find {known:5.1} ns, a stranger's packet {stranger:5.1} ns"
    );
}

fn main() {
    for len in [1476, 64] {
        packets("GRE over IPv4", &tunnel(false), len);
        packets("GRE over IPv6, label by flow", &tunnel(true), len);
        let all = Options {
            okey: Some(1),
            icsum: true,
            ocsum: true,
            oseq: true,
            ..tunnel(false)
        };
        packets("GRE over IPv4, csum, key, seq", &all, len);
    }
    let packet = inner(64);
    let hash = best(|_| {
        black_box(outer::flow_hash(black_box(&packet)));
    });
    println!("{:<34} {hash:5.1} ns", "flow hash");
    for count in [1, 1_000, 10_000] {
        find("by both ends", count, false);
    }
    find("by both ends and key", 10_000, true);
}
