//! Writes the fuzz targets' seeds: `cargo run -p ginnel-gre --example seeds`. Inputs that fuzzing found are kept beside them.
#![allow(clippy::unwrap_used)] // a program run by hand; a folder that cannot be written should stop it

use std::fs;
use std::path::Path;

use ginnel_gre::header;
use ginnel_packet::checksum;

fn keep(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

/// From us to the peer, as the bodies name their ends.
fn v4(tos: u8, field: u16, protocol: u8, options: &[u8], body: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, tos];
    packet.extend(((header + body.len()) as u16).to_be_bytes());
    packet.extend([0, 7]);
    packet.extend(field.to_be_bytes());
    packet.extend([255, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(options);
    let sum = checksum::sum(&packet).checksum();
    packet[10..12].copy_from_slice(&sum);
    packet.extend(body);
    packet
}

fn v6(class: u8, next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60 | class >> 4, class << 4, 0, 0];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    for last in [1, 2] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(body);
    packet
}

fn gre(
    protocol: u16,
    checksum: bool,
    key: Option<u32>,
    sequence: Option<u32>,
    inner: &[u8],
) -> Vec<u8> {
    let mut head = [0; header::MAX_LEN];
    let len = header::write(&mut head, protocol, checksum, key, sequence);
    let mut packet = [&head[..len], inner].concat();
    header::set_checksum(&mut packet);
    packet
}

fn frame(tags: &[u16], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x45, 0, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 9];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 42]);
    }
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

fn inners() -> Vec<(&'static str, u16, Vec<u8>)> {
    let udp = [0x30, 0x39, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
    let limit = [17, 0, 4, 1, 3, 1, 1, 0];
    vec![
        ("udp4", 0x0800, v4(2, 0, 17, &[], &udp)),
        ("held4", 0x0800, v4(0xb8, 0x4000, 6, &[], &[0; 20])),
        ("congested4", 0x0800, v4(3, 0, 17, &[], &udp)),
        ("later4", 0x0800, v4(0, 0x2003, 17, &[], &udp[..8])),
        ("udp6", 0x86dd, v6(1, 17, &udp)),
        ("limited6", 0x86dd, v6(0, 60, &[&limit[..], &udp].concat())),
        ("empty", 0x86dd, Vec::new()),
        (
            "nested4",
            0x0800,
            v4(0, 0, 4, &[], &v4(0, 0, 17, &[], &udp)),
        ),
        (
            "frame4",
            0x6558,
            frame(&[], 0x0800, &v4(2, 0, 17, &[], &udp)),
        ),
        (
            "tagged6",
            0x6558,
            frame(&[0x88a8, 0x8100], 0x86dd, &v6(1, 17, &udp)),
        ),
        ("arp", 0x6558, frame(&[], 0x0806, &[1; 28])),
    ]
}

fn main() {
    for (n, (name, protocol, inner)) in inners().into_iter().enumerate() {
        let kind = u8::from(protocol == 0x6558);
        let packet = gre(
            protocol,
            n % 2 == 0,
            Some(7),
            (n % 3 == 0).then_some(9),
            &inner,
        );
        keep("header", name, &packet);
        // kind, switches, TTL, TOS, whether a number is expected, which, outer TOS
        let switches = if n % 2 == 0 { 0x14 } else { 0 } | if n % 3 == 0 { 8 } else { 0 };
        let mut head = vec![kind, switches, 0, 0, 0, (n % 2) as u8];
        if n % 2 == 1 {
            head.extend([0, 0]);
        }
        head.push(n as u8);
        keep("admit", name, &[&head[..], &packet].concat());
        keep(
            "admit",
            &format!("{name}_bare"),
            &[&[2 + kind, 0, 0, 0, 0, 0, 3][..], &inner].concat(),
        );
        for (switches, stack) in [(0x40, "plain"), (0x6e, "all4"), (0x0f, "all6")] {
            let head = [
                kind,
                switches,
                (n % 8) as u8,
                (n % 2 * 64) as u8,
                0xb8,
                0,
                9,
                0,
                (protocol == 0x86dd) as u8,
            ];
            keep(
                "outer",
                &format!("{name}_{stack}"),
                &[&head[..], &inner].concat(),
            );
        }
        for (kind, name) in [(2, "ipip"), (3, "sit"), (4, "ip6tnl")] {
            keep(
                "outer",
                &format!("{n}_{name}"),
                &[&[kind, 0x40, 3, 0, 1, 0, 9, 0, 1][..], &inner].concat(),
            );
        }
        let delivered = if n % 2 == 0 {
            v4(0, 0x4000, 47, &[], &packet)
        } else {
            v6(0, 60, &[&[47, 0, 4, 1, 4, 1, 1, 0][..], &packet].concat())
        };
        keep("quoted", name, &delivered);
        keep(
            "fragment",
            name,
            &[&[0, 0x40, 0, 0, 0, 0, 100][..], &delivered].concat(),
        );
    }
    let udp = [
        &[0xc0, 1, 0x12, 0x92, 0, 40, 0, 0][..],
        &gre(0x0800, false, Some(7), None, &[]),
    ]
    .concat();
    keep("quoted", "udp", &v4(0, 0, 17, &[], &udp));
    keep(
        "quoted",
        "options",
        &v4(0, 0, 47, &[148, 4, 0, 0], &[0x20, 0, 8, 0, 0, 0, 0, 7]),
    );
    keep(
        "quoted",
        "short",
        &v4(0, 0, 47, &[], &[0xa0, 0, 8, 0, 0, 0, 0, 7]),
    );
    keep("header", "routing", &[0x40, 0, 8, 0, 1, 2, 3, 4]);
    keep(
        "header",
        "pptp",
        &[0x30, 0x81, 0x88, 0x0b, 0, 4, 0, 1, 0, 0, 0, 1],
    );
    keep("header", "short", &[0xb0, 0, 8, 0, 1, 2, 3, 4]);

    let bare = |protocol| gre(protocol, false, None, None, &[]);
    let keyed = gre(0, true, Some(7), Some(1), &[]);
    for (name, packet) in [
        ("returned", bare(0)),
        ("returned6", bare(0x86dd)),
        (
            "cisco",
            gre(0x0800, false, None, None, &v4(0, 0, 47, &[], &bare(0))),
        ),
        (
            "cisco_keyed",
            gre(0x0800, false, Some(7), None, &v4(0, 0, 47, &[], &keyed)),
        ),
        (
            "cisco6",
            gre(0x86dd, false, None, None, &v6(0, 47, &bare(0))),
        ),
        (
            "mikrotik",
            gre(0x86dd, false, None, None, &v6(0, 47, &bare(0x86dd))),
        ),
        (
            "options",
            gre(
                0x0800,
                false,
                None,
                None,
                &v4(0, 0, 47, &[1, 1, 1, 0], &bare(0)),
            ),
        ),
        (
            "data",
            gre(
                0x0800,
                false,
                None,
                None,
                &v4(0, 0, 47, &[], &gre(0x0800, false, None, None, &[1; 20])),
            ),
        ),
        (
            "extension",
            gre(
                0x86dd,
                false,
                None,
                None,
                &v6(0, 60, &[&[47, 0, 1, 4, 0, 0, 0, 0][..], &bare(0)].concat()),
            ),
        ),
    ] {
        keep("keepalive", name, &packet);
    }

    let long: Vec<u8> = (0..1200u32).map(|n| (n * 31) as u8).collect();
    for (name, mtu, packet) in [
        ("long", 576u16, v4(0, 0, 17, &[], &long)),
        ("long_held", 576, v4(0, 0x4000, 17, &[], &long)),
        ("long_later", 300, v4(0, 0x2100, 17, &[], &long)),
        (
            "copied",
            128,
            v4(0, 0, 17, &[148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0], &long),
        ),
        ("least", 68, v4(0, 0, 17, &[], &long)),
        ("too_small", 67, v4(0, 0, 17, &[], &long)),
        ("beyond", 300, v4(0, 0x1ffe, 17, &[], &long)),
        ("six", 1280, v6(0, 17, &long)),
    ] {
        let [a, b] = mtu.to_be_bytes();
        keep(
            "fragment",
            name,
            &[&[0, 0x40, 0, 0, 0, a, b][..], &packet].concat(),
        );
        keep(
            "fragment",
            &format!("{name}_tap"),
            &[&[1, 0, 0, 0, 0, a, b][..], &frame(&[], 0x0800, &packet)].concat(),
        );
    }

    // Pairs: what to do, to which; see the body.
    let mut state = 1u32;
    for n in 0..12 {
        let mut steps = Vec::new();
        for _ in 0..(20 + 20 * n) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [what, which, ..] = state.to_be_bytes();
            // Mostly in, then mostly asked.
            let what = if steps.len() < 20 { what & !3 } else { what };
            steps.extend([what, which & if n % 2 == 0 { 0xc7 } else { 0xff }]);
        }
        keep("demux", &format!("steps{n}"), &steps);
    }
}
