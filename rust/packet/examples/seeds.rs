//! Writes the fuzz targets' seeds: `cargo run -p ginnel-packet --example seeds`. Inputs that fuzzing found are kept beside them.
#![allow(clippy::unwrap_used)] // a program run by hand; a folder that cannot be written should stop it

#[path = "../tests/reference/mod.rs"]
mod reference;

use std::fs;
use std::path::Path;

use ginnel_packet::virtio::{
    VirtioNetHdr, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM,
};
use reference::{noise, Build};

fn keep(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

fn main() {
    let build = |v6| Build {
        v6,
        payload: noise(90, 1),
        flags: 0x99,
        ..Build::default()
    };
    let extended = |v6, next| Build {
        extra: if v6 {
            vec![next, 0, 1, 4, 0, 0, 0, 0]
        } else {
            vec![1, 1, 1, 0]
        },
        ..build(v6)
    };
    let hdr = |gso_type, csum_start, csum_offset| VirtioNetHdr {
        flags: NEEDS_CSUM,
        gso_type,
        hdr_len: 40,
        gso_size: 32,
        csum_start,
        csum_offset,
    };
    for (name, hdr, packet) in [
        ("tcp4", hdr(GSO_TCPV4, 20, 16), build(false).tcp()),
        (
            "tcp4_ecn",
            hdr(GSO_TCPV4 | GSO_ECN, 20, 16),
            build(false).tcp(),
        ),
        (
            "tcp4_options",
            hdr(GSO_TCPV4, 24, 16),
            extended(false, 0).tcp(),
        ),
        ("tcp6", hdr(GSO_TCPV6, 40, 16), build(true).tcp()),
        (
            "tcp6_extension",
            hdr(GSO_TCPV6, 48, 16),
            extended(true, 6).tcp(),
        ),
        ("udp4", hdr(GSO_UDP_L4, 20, 6), build(false).udp()),
        ("udp6", hdr(GSO_UDP_L4, 40, 6), build(true).udp()),
        ("partial4", hdr(GSO_NONE, 20, 6), build(false).udp()),
        ("partial6", hdr(GSO_NONE, 40, 16), build(true).tcp()),
        ("plain", VirtioNetHdr::default(), build(true).udp()),
    ] {
        keep(
            "virtio_split",
            name,
            &[&hdr.to_bytes()[..], &packet].concat(),
        );
        keep("ip_header", name, &[&[3], &packet[..]].concat());
        keep("icmp", name, &[&[0x81], &packet[..]].concat());
    }
    let ping =
        |v6: bool, kind| build(v6).around(if v6 { 58 } else { 1 }, &[kind, 0, 0, 0, 0, 0, 0, 0]);
    for (name, packet) in [
        ("echo4", ping(false, 8)),
        ("echo6", ping(true, 128)),
        ("error4", ping(false, 3)),
        ("error6", ping(true, 1)),
        (
            "later4",
            Build {
                fragment: 9,
                ..build(false)
            }
            .udp(),
        ),
        (
            "big4",
            Build {
                payload: noise(1400, 2),
                ..build(false)
            }
            .udp(),
        ),
        (
            "big6",
            Build {
                payload: noise(1400, 2),
                ..build(true)
            }
            .udp(),
        ),
    ] {
        keep("icmp", name, &[&[0x81], &packet[..]].concat());
        keep(
            "icmp",
            &format!("{name}_too_big"),
            &[&[0x1c], &packet[..]].concat(),
        );
        keep("ip_header", name, &[&[1], &packet[..]].concat());
    }
    // Per packet: kind, number, length, flags, difference, where, what.
    let plain = |kind: u8, n: u8| [kind, n, 0, 0, 0, 0, 0];
    let batch = |packets: &[[u8; 7]]| [&[0][..], &packets.concat()].concat();
    for (name, bytes) in [
        ("tcp4", batch(&[plain(0, 0), plain(0, 1), plain(0, 2)])),
        ("tcp6", batch(&[plain(1, 0), plain(1, 1), plain(1, 2)])),
        ("udp4", batch(&[plain(2, 0), plain(2, 1), plain(2, 2)])),
        ("udp6", batch(&[plain(3, 0), plain(3, 1), plain(3, 2)])),
        (
            "interleaved",
            batch(&[
                plain(0, 0),
                plain(1, 0),
                plain(4, 0),
                plain(0, 1),
                plain(1, 1),
                plain(4, 1),
            ]),
        ),
        (
            "psh",
            batch(&[
                plain(0, 0),
                [0, 1, 0, 0x19, 0, 0, 0],
                plain(0, 2),
                plain(0, 3),
            ]),
        ),
        (
            "short",
            batch(&[plain(0, 0), [0, 1, 0x90, 0, 0, 0, 0], plain(0, 2)]),
        ),
        (
            "fragment",
            batch(&[plain(0, 0), [0, 1, 0, 0, 8, 0, 0x20], plain(0, 1)]),
        ),
        (
            "options",
            batch(&[
                [0, 0, 0, 0, 0x40, 0, 1],
                [0, 1, 0, 0, 0x40, 0, 1],
                [0, 2, 0, 0, 0x40, 0, 0],
            ]),
        ),
        (
            "damaged",
            batch(&[
                plain(0, 0),
                [0, 1, 0, 0, 0x80, 50, 1],
                plain(0, 2),
                plain(0, 3),
            ]),
        ),
        (
            "raw",
            [
                &[0][..],
                &plain(0, 0),
                &[0xff, 4, 0x45, 0, 0, 4],
                &plain(0, 1),
            ]
            .concat(),
        ),
    ] {
        keep("coalesce", name, &bytes);
    }
}
