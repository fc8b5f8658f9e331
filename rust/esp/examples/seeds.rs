//! Writes the fuzz targets' seeds: `cargo run -p ginnel-esp --example seeds`. Inputs that fuzzing found are kept beside them.
#![allow(clippy::unwrap_used)] // a program run by hand; a folder that cannot be written should stop it

use std::fs;
use std::path::Path;

fn keep(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

fn v4(field: u16, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(((20 + body.len()) as u16).to_be_bytes());
    packet.extend([0, 7]);
    packet.extend(field.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(body);
    packet
}

fn v6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    for last in [1, 2] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(body);
    packet
}

fn trailers() {
    for length in [0_u8, 1, 2, 3, 13, 15, 254, 255] {
        let mut text = b"payload".to_vec();
        text.extend(1..=length);
        text.extend([length, 47]);
        keep("trailer", &format!("padded{length}"), &text);
    }
    keep("trailer", "nothing", &[0, 59]);
    keep("trailer", "too_long", &[1, 2, 4, 47]);
    keep("trailer", "zeros", &[0, 0, 2, 47]);
}

fn datagrams() {
    keep("demultiplex", "empty", &[]);
    keep("demultiplex", "keepalive", &[0xff]);
    keep("demultiplex", "marker", &[0, 0, 0, 0]);
    keep("demultiplex", "ike", &[&[0; 4][..], &[7; 28]].concat());
    keep("demultiplex", "esp", &[0xc0, 0xff, 0xee, 1, 0, 0, 0, 1]);
    keep("demultiplex", "iana", &[0, 0, 0, 255, 0, 0, 0, 1]);
    keep("demultiplex", "short", &[0xc0, 0xff, 0xee]);
    // Steps on the table: promise, use, find taken, take back, remove, wait, promise again.
    keep(
        "demultiplex",
        "life",
        &[
            0, 6, 1, 6, 0, 6, 1, 6, 2, 6, 3, 6, 0, 6, 254, 0, 254, 0, 0, 6,
        ],
    );
    keep("demultiplex", "release", &[0, 9, 2, 9, 0, 9, 3, 9, 1, 9]);
}

fn packets() {
    let udp = [0x12, 0x34, 0, 80, 0, 8, 0, 0];
    // Family, source range, destination range, protocol, both sides' ports.
    let rule = |six: u8, protocol: u8, ports: [u8; 8]| {
        let mut head = vec![six, 1, 1, 2, 2, protocol];
        head.extend(ports);
        head
    };
    let any = [0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff];
    let web = [0, 0, 0xff, 0xff, 0, 80, 0, 80];
    let opaque = [0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0];
    let echo = [8, 0, 8, 0, 8, 0, 8, 0];
    let behind = |next: u8, field: u16, body: &[u8]| {
        let [a, b] = field.to_be_bytes();
        v6(44, &[&[next, 0, a, b, 0, 0, 0, 1][..], body].concat())
    };
    for (name, rule, packet) in [
        ("any4", rule(0, 0, any), v4(0, 17, &udp)),
        ("web4", rule(0, 17, web), v4(0, 17, &udp)),
        ("web6", rule(1, 17, web), v6(17, &udp)),
        ("first4", rule(0, 17, web), v4(0x2000, 17, &udp)),
        ("later4", rule(0, 17, opaque), v4(9, 17, &udp)),
        ("first6", rule(1, 17, web), behind(17, 1, &udp)),
        ("later6", rule(1, 17, opaque), behind(17, 9, &udp)),
        ("echo4", rule(0, 1, echo), v4(0, 1, &[8, 0, 0, 0])),
        ("echo6", rule(1, 58, any), v6(58, &[128, 0, 0, 0])),
        ("gre4", rule(0, 47, any), v4(0, 47, &[0, 0, 8, 0])),
        (
            "options6",
            rule(1, 17, web),
            v6(
                0,
                &[
                    &[60, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0],
                    &udp[..],
                ]
                .concat(),
            ),
        ),
        (
            "mobile6",
            rule(1, 135, [5, 0, 5, 0, 0, 0, 0xff, 0xff]),
            v6(135, &[59, 0, 5, 0]),
        ),
    ] {
        keep("selectors", name, &[rule, packet].concat());
    }
}

fn schedules() {
    // ESN, window, the number it begins at (32 bits, shift), then steps of 16 bits and their shift.
    let head = |esn: u8, window: u16, received: u32, shift: u8| {
        let mut head = vec![esn];
        head.extend(window.to_be_bytes());
        head.push(0);
        head.extend(received.to_be_bytes());
        head.push(shift);
        head
    };
    let steps: Vec<u8> = [
        1_i16, 1, -1, 0, 5, -3, 64, -63, -64, -65, 1024, -1023, -1024, 8191, -2,
    ]
    .iter()
    .flat_map(|step| [step.to_be_bytes()[0], step.to_be_bytes()[1], 0])
    .collect();
    for (name, head) in [
        ("begin", head(0, 64, 0, 0)),
        ("begin_esn", head(1, 64, 0, 0)),
        ("wrap", head(1, 1024, u32::MAX, 0)),
        ("wrap_small", head(1, 32, u32::MAX - 3, 0)),
        ("large", head(1, u16::MAX, 0x1000_0000, 8)),
        ("none", head(0, 0, 5, 0)),
        ("one", head(1, 1, 9, 4)),
        ("end", head(0, 128, u32::MAX, 0)),
        ("refused", head(1, 0, 0, 0)),
    ] {
        keep("replay", name, &[head, steps.clone()].concat());
    }
}

fn arrivals() {
    // Suite, mode, ESN, packets allowed, how near the low half's end; then action and size of each packet.
    let steps = [
        0, 40, 3, 0, 7, 0, 0, 9, 1, 8, 60, 11, 0, 0, 0, 41, 0, 59, 20, 47, 255, 3, 0, 4, 20, 0, 30,
        0x80,
    ];
    for suite in 0..16_u8 {
        let (mode, esn) = (suite & 1, suite >> 1 & 1);
        let limit = if suite == 5 { 3 } else { 0 };
        let head = [suite, mode, esn, limit, 2 + suite % 4];
        keep(
            "arrive",
            &format!("suite{suite}"),
            &[&head[..], &steps].concat(),
        );
    }
}

fn main() {
    trailers();
    datagrams();
    packets();
    schedules();
    arrivals();
}
