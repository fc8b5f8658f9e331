//! Splitting, against literal bytes (made with scapy 2.8) and against the naive reference.
#![allow(clippy::unwrap_used, clippy::panic)]

mod reference;

use ginnel_packet::split::{split, SplitError};
use ginnel_packet::virtio::{
    VirtioNetHdr, DATA_VALID, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4,
    NEEDS_CSUM,
};
use proptest::prelude::*;
use reference::{be16, intact, noise, set16, Build, Kept};

#[rustfmt::skip]
mod bytes {
    /// 192.0.2.1:40000 -> 198.51.100.2:443, id 0xfffe, sequence 0xfffffffa, CWR ACK FIN PSH, timestamps, 11 bytes of payload.
    pub const TCP4_SUPER: &[u8] = &[
        0x45, 0x02, 0x00, 0x3f, 0xff, 0xfe, 0x40, 0x00, 0x40, 0x06, 0x4e, 0x81, 0xc0, 0x00, 0x02, 0x01, 0xc6, 0x33, 0x64, 0x02,
        0x9c, 0x40, 0x01, 0xbb, 0xff, 0xff, 0xff, 0xfa, 0x01, 0x02, 0x03, 0x04, 0x80, 0x99, 0x01, 0xf5, 0xb6, 0x2a, 0x00, 0x00,
        0x01, 0x01, 0x08, 0x0a, 0x00, 0x00, 0x03, 0xe8, 0x00, 0x00, 0x07, 0xd0, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
        0x09, 0x0a, 0x0b,
    ];
    pub const TCP4_PARTS: [&[u8]; 3] = [
        &[
            0x45, 0x02, 0x00, 0x38, 0xff, 0xfe, 0x40, 0x00, 0x40, 0x06, 0x4e, 0x88, 0xc0, 0x00, 0x02, 0x01, 0xc6, 0x33, 0x64, 0x02,
            0x9c, 0x40, 0x01, 0xbb, 0xff, 0xff, 0xff, 0xfa, 0x01, 0x02, 0x03, 0x04, 0x80, 0x90, 0x01, 0xf5, 0xd6, 0x52, 0x00, 0x00,
            0x01, 0x01, 0x08, 0x0a, 0x00, 0x00, 0x03, 0xe8, 0x00, 0x00, 0x07, 0xd0, 0x01, 0x02, 0x03, 0x04,
        ],
        &[
            0x45, 0x02, 0x00, 0x38, 0xff, 0xff, 0x40, 0x00, 0x40, 0x06, 0x4e, 0x87, 0xc0, 0x00, 0x02, 0x01, 0xc6, 0x33, 0x64, 0x02,
            0x9c, 0x40, 0x01, 0xbb, 0xff, 0xff, 0xff, 0xfe, 0x01, 0x02, 0x03, 0x04, 0x80, 0x10, 0x01, 0xf5, 0xce, 0xc6, 0x00, 0x00,
            0x01, 0x01, 0x08, 0x0a, 0x00, 0x00, 0x03, 0xe8, 0x00, 0x00, 0x07, 0xd0, 0x05, 0x06, 0x07, 0x08,
        ],
        &[
            0x45, 0x02, 0x00, 0x37, 0x00, 0x00, 0x40, 0x00, 0x40, 0x06, 0x4e, 0x88, 0xc0, 0x00, 0x02, 0x01, 0xc6, 0x33, 0x64, 0x02,
            0x9c, 0x40, 0x01, 0xbb, 0x00, 0x00, 0x00, 0x02, 0x01, 0x02, 0x03, 0x04, 0x80, 0x19, 0x01, 0xf5, 0xc6, 0xbf, 0x00, 0x00,
            0x01, 0x01, 0x08, 0x0a, 0x00, 0x00, 0x03, 0xe8, 0x00, 0x00, 0x07, 0xd0, 0x09, 0x0a, 0x0b,
        ],
    ];
    /// `[2001:db8::1]:4433` to `[2001:db8::2]:5353`, traffic class 1, flow label 0x12345, hop limit 63, 11 bytes.
    pub const UDP6_SUPER: &[u8] = &[
        0x60, 0x11, 0x23, 0x45, 0x00, 0x13, 0x11, 0x3f, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x01, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02,
        0x11, 0x51, 0x14, 0xe9, 0x00, 0x13, 0x59, 0xfb, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b,
    ];
    pub const UDP6_PARTS: [&[u8]; 3] = [
        &[
            0x60, 0x11, 0x23, 0x45, 0x00, 0x0c, 0x11, 0x3f, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x01, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02,
            0x11, 0x51, 0x14, 0xe9, 0x00, 0x0c, 0x7a, 0x21, 0x01, 0x02, 0x03, 0x04,
        ],
        &[
            0x60, 0x11, 0x23, 0x45, 0x00, 0x0c, 0x11, 0x3f, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x01, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02,
            0x11, 0x51, 0x14, 0xe9, 0x00, 0x0c, 0x72, 0x19, 0x05, 0x06, 0x07, 0x08,
        ],
        &[
            0x60, 0x11, 0x23, 0x45, 0x00, 0x0b, 0x11, 0x3f, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x01, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02,
            0x11, 0x51, 0x14, 0xe9, 0x00, 0x0b, 0x6a, 0x1f, 0x09, 0x0a, 0x0b,
        ],
    ];
    /// One UDP datagram, finished, and as TUN hands it over with its checksum partial.
    pub const UDP4_FINISHED: &[u8] = &[
        0x45, 0x00, 0x00, 0x1f, 0x00, 0x07, 0x00, 0x00, 0x40, 0x11, 0x8e, 0x90, 0xc0, 0x00, 0x02, 0x01, 0xc6, 0x33, 0x64, 0x02,
        0x00, 0x01, 0x00, 0x02, 0x00, 0x0b, 0x4f, 0x3b, 0x61, 0x62, 0x63,
    ];
    pub const UDP4_PARTIAL: &[u8] = &[
        0x45, 0x00, 0x00, 0x1f, 0x00, 0x07, 0x00, 0x00, 0x40, 0x11, 0x8e, 0x90, 0xc0, 0x00, 0x02, 0x01, 0xc6, 0x33, 0x64, 0x02,
        0x00, 0x01, 0x00, 0x02, 0x00, 0x0b, 0xec, 0x53, 0x61, 0x62, 0x63,
    ];
}

const TCP4: VirtioNetHdr = VirtioNetHdr {
    flags: NEEDS_CSUM,
    gso_type: GSO_TCPV4,
    hdr_len: 52,
    gso_size: 4,
    csum_start: 20,
    csum_offset: 16,
};
const UDP6: VirtioNetHdr = VirtioNetHdr {
    flags: NEEDS_CSUM,
    gso_type: GSO_UDP_L4,
    hdr_len: 48,
    gso_size: 4,
    csum_start: 40,
    csum_offset: 6,
};
const PARTIAL: VirtioNetHdr = VirtioNetHdr {
    flags: NEEDS_CSUM,
    gso_type: GSO_NONE,
    hdr_len: 0,
    gso_size: 0,
    csum_start: 20,
    csum_offset: 6,
};
const PLAIN: VirtioNetHdr = VirtioNetHdr {
    flags: 0,
    gso_type: GSO_NONE,
    hdr_len: 0,
    gso_size: 0,
    csum_start: 0,
    csum_offset: 0,
};

fn run(hdr: &VirtioNetHdr, packet: &[u8]) -> Result<Vec<Vec<u8>>, SplitError> {
    let mut sink = Kept::new(usize::MAX);
    let result = split(hdr, packet, &mut sink);
    match result {
        Ok(n) => assert_eq!(n, sink.packets.len()),
        Err(_) => assert!(
            sink.packets.is_empty(),
            "nothing is placed of what is refused"
        ),
    }
    result.map(|_| sink.packets)
}

#[test]
fn tcp4_with_every_field_that_changes() {
    // CWR on the first alone, FIN and PSH on the last alone, identification and sequence number across their wrap.
    assert_eq!(run(&TCP4, bytes::TCP4_SUPER).unwrap(), bytes::TCP4_PARTS);
    let ecn = VirtioNetHdr {
        gso_type: GSO_TCPV4 | GSO_ECN,
        ..TCP4
    };
    assert_eq!(run(&ecn, bytes::TCP4_SUPER).unwrap(), bytes::TCP4_PARTS);
}

#[test]
fn udp6_with_a_shorter_last() {
    assert_eq!(run(&UDP6, bytes::UDP6_SUPER).unwrap(), bytes::UDP6_PARTS);
}

#[test]
fn a_partial_checksum_is_completed() {
    assert_eq!(
        run(&PARTIAL, bytes::UDP4_PARTIAL).unwrap(),
        [bytes::UDP4_FINISHED]
    );
    assert_eq!(
        run(&PLAIN, bytes::UDP4_PARTIAL).unwrap(),
        [bytes::UDP4_PARTIAL],
        "unless nobody asked"
    );
    let vouched = VirtioNetHdr {
        flags: DATA_VALID,
        ..PLAIN
    };
    assert_eq!(
        run(&vouched, bytes::UDP4_FINISHED).unwrap(),
        [bytes::UDP4_FINISHED]
    );
}

#[test]
fn a_partial_checksum_deep_inside_is_completed() {
    // UDP in IPv4 in IPv4, as a tunnel over the tunnel hands it over: csum_start speaks of the inner one.
    let outer = Build::default();
    let packet = outer.around(4, bytes::UDP4_PARTIAL);
    let hdr = VirtioNetHdr {
        csum_start: 40,
        ..PARTIAL
    };
    assert_eq!(
        run(&hdr, &packet).unwrap(),
        [outer.around(4, bytes::UDP4_FINISHED)]
    );
}

#[test]
fn hdr_len_is_never_believed() {
    for hdr_len in [0, 1, 19, 40, 51, 53, 65_535] {
        assert_eq!(
            run(&VirtioNetHdr { hdr_len, ..TCP4 }, bytes::TCP4_SUPER).unwrap(),
            bytes::TCP4_PARTS
        );
        assert_eq!(
            run(&VirtioNetHdr { hdr_len, ..UDP6 }, bytes::UDP6_SUPER).unwrap(),
            bytes::UDP6_PARTS
        );
    }
}

#[test]
fn what_lies_behind_the_packet_is_left_out() {
    let mut padded = bytes::TCP4_SUPER.to_vec();
    padded.extend([0xee; 9]);
    assert_eq!(run(&TCP4, &padded).unwrap(), bytes::TCP4_PARTS);
    let mut padded = bytes::UDP4_PARTIAL.to_vec();
    padded.extend([0xee; 9]);
    assert_eq!(run(&PARTIAL, &padded).unwrap(), [bytes::UDP4_FINISHED]);
    assert_eq!(run(&PLAIN, &padded).unwrap(), [bytes::UDP4_PARTIAL]);
}

#[test]
fn every_truncation_is_refused() {
    for (hdr, packet) in [
        (TCP4, bytes::TCP4_SUPER),
        (UDP6, bytes::UDP6_SUPER),
        (PARTIAL, bytes::UDP4_PARTIAL),
    ] {
        for len in 0..packet.len() {
            for hdr in [hdr, PLAIN] {
                assert_eq!(
                    run(&hdr, &packet[..len]),
                    Err(SplitError::Malformed),
                    "{len}"
                );
            }
        }
        // Truncated, but with a total length that says so.
        for len in 0..packet.len() {
            let mut short = packet[..len].to_vec();
            if packet[0] >> 4 == 4 && len >= 20 {
                set16(&mut short, 2, len as u16);
            } else if packet[0] >> 4 == 6 && len >= 40 {
                set16(&mut short, 4, (len - 40) as u16);
            }
            assert_eq!(
                run(&hdr, &short).ok(),
                reference::split(&hdr, &short),
                "{len}"
            );
        }
    }
}

#[test]
fn one_bad_value_per_field() {
    let malformed = |hdr: VirtioNetHdr, packet: &[u8]| {
        assert_eq!(run(&hdr, packet), Err(SplitError::Malformed), "{hdr:?}");
        assert_eq!(reference::split(&hdr, packet), None);
    };
    let changed = |packet: &[u8], at: usize, value: u8| {
        let mut p = packet.to_vec();
        p[at] = value;
        p
    };
    malformed(
        VirtioNetHdr {
            gso_size: 0,
            ..TCP4
        },
        bytes::TCP4_SUPER,
    );
    malformed(
        VirtioNetHdr {
            gso_type: GSO_TCPV6,
            ..TCP4
        },
        bytes::TCP4_SUPER,
    );
    malformed(
        VirtioNetHdr {
            gso_type: GSO_UDP_L4,
            csum_offset: 6,
            ..TCP4
        },
        bytes::TCP4_SUPER,
    );
    malformed(
        VirtioNetHdr {
            gso_type: GSO_TCPV6,
            csum_offset: 16,
            ..UDP6
        },
        bytes::UDP6_SUPER,
    );
    malformed(
        VirtioNetHdr {
            gso_type: GSO_UDP_L4 | GSO_ECN,
            ..UDP6
        },
        bytes::UDP6_SUPER,
    );
    malformed(
        VirtioNetHdr {
            gso_type: GSO_NONE | GSO_ECN,
            ..UDP6
        },
        bytes::UDP6_SUPER,
    );
    for csum_start in [0, 19, 21, 24, 63, 65_535] {
        malformed(VirtioNetHdr { csum_start, ..TCP4 }, bytes::TCP4_SUPER);
    }
    malformed(
        VirtioNetHdr {
            csum_offset: 6,
            ..TCP4
        },
        bytes::TCP4_SUPER,
    );
    for data_offset in [0x00, 0x40, 0xc0, 0xf0] {
        malformed(TCP4, &changed(bytes::TCP4_SUPER, 32, data_offset));
    }
    malformed(TCP4, &changed(bytes::TCP4_SUPER, 9, 17)); // another protocol
    malformed(TCP4, &changed(bytes::TCP4_SUPER, 6, 0x20)); // more fragments
    malformed(TCP4, &changed(bytes::TCP4_SUPER, 7, 1)); // a later fragment
    malformed(TCP4, &changed(bytes::TCP4_SUPER, 0, 0x44));
    malformed(TCP4, &changed(bytes::TCP4_SUPER, 0, 0x4f));
    malformed(TCP4, &changed(bytes::TCP4_SUPER, 0, 0x65));
    malformed(UDP6, &changed(bytes::UDP6_SUPER, 6, 6));
    malformed(UDP6, &changed(bytes::UDP6_SUPER, 5, 20)); // longer than it is
    for (csum_start, csum_offset) in [
        (19, 6),
        (20, 10),
        (30, 0),
        (31, 0),
        (20, 65_535),
        (65_535, 65_535),
        (0, 10),
    ] {
        malformed(
            VirtioNetHdr {
                csum_start,
                csum_offset,
                ..PARTIAL
            },
            bytes::UDP4_PARTIAL,
        );
    }
    for gso_type in [GSO_UDP, GSO_UDP | GSO_ECN, 2, 6, 127, 255] {
        assert_eq!(
            run(&VirtioNetHdr { gso_type, ..TCP4 }, bytes::TCP4_SUPER),
            Err(SplitError::Unsupported)
        );
    }
}

#[test]
fn options_and_extension_headers_go_into_every_segment() {
    let four = Build {
        extra: vec![0x94, 4, 0, 0, 1, 1, 1, 0],
        payload: noise(1000, 1),
        ..Build::default()
    };
    let hdr = VirtioNetHdr {
        gso_size: 300,
        csum_start: 28,
        ..TCP4
    };
    let parts = run(&hdr, &four.tcp()).unwrap();
    assert_eq!(
        (parts.len(), Some(parts.clone())),
        (4, reference::split(&hdr, &four.tcp()))
    );
    assert!(parts.iter().all(|p| intact(p) && p[20..28] == four.extra));
    let six = Build {
        v6: true,
        extra: vec![17, 0, 1, 4, 0, 0, 0, 0],
        ..four
    };
    let hdr = VirtioNetHdr {
        gso_size: 300,
        csum_start: 48,
        ..UDP6
    };
    let parts = run(&hdr, &six.udp()).unwrap();
    assert_eq!(
        (parts.len(), Some(parts.clone())),
        (4, reference::split(&hdr, &six.udp()))
    );
    assert!(parts.iter().all(|p| intact(p) && p[40..48] == six.extra));
}

#[test]
fn segmentation_behind_a_routing_header_is_unsupported() {
    let mut packet = Build {
        v6: true,
        extra: vec![17, 0, 0, 1, 0, 0, 0, 0],
        payload: noise(99, 1),
        ..Build::default()
    }
    .udp();
    packet[6] = 43;
    let hdr = VirtioNetHdr {
        csum_start: 48,
        ..UDP6
    };
    assert_eq!(run(&hdr, &packet), Err(SplitError::Unsupported));
}

#[test]
fn a_udp_checksum_of_zero_goes_out_as_ffff() {
    // Two bytes of payload chosen so that everything else sums to their complement.
    let mut build = Build {
        payload: vec![0, 0],
        ..Build::default()
    };
    let check = be16(&build.udp(), 26);
    build.payload = check.to_be_bytes().to_vec();
    let mut packet = build.udp();
    for gso_type in [GSO_UDP_L4, GSO_NONE] {
        let pseudo = reference::pseudo_sum(&packet, 17, 10);
        set16(&mut packet, 26, pseudo);
        let parts = run(
            &VirtioNetHdr {
                gso_type,
                csum_start: 20,
                ..UDP6
            },
            &packet,
        )
        .unwrap();
        assert_eq!(parts[0][26..28], [0xff, 0xff]);
        assert!(intact(&parts[0]));
    }
}

#[test]
fn an_empty_payload_is_one_segment() {
    let empty = Build::default().tcp();
    assert_eq!(run(&TCP4, &empty).unwrap(), [&empty[..]]);
    let udp = Build {
        v6: true,
        ..Build::default()
    }
    .udp();
    assert_eq!(run(&UDP6, &udp).unwrap(), [&udp[..]]);
}

#[test]
fn a_full_sink_keeps_what_it_has() {
    for room in 0..4 {
        let mut sink = Kept::new(room);
        let result = split(&TCP4, bytes::TCP4_SUPER, &mut sink);
        assert_eq!(
            result,
            if room < 3 {
                Err(SplitError::Full)
            } else {
                Ok(3)
            }
        );
        assert_eq!(sink.packets, bytes::TCP4_PARTS[..room]);
    }
    for hdr in [PLAIN, PARTIAL] {
        assert_eq!(
            split(&hdr, bytes::UDP4_PARTIAL, &mut Kept::new(0)),
            Err(SplitError::Full)
        );
    }
}

#[test]
fn r1_oversize_neither_panics_nor_passes() {
    // The largest that IPv4 and IPv6 can say, one more, and buffers longer than any packet.
    for (v6, payload) in [(false, 65_535 - 40), (true, 65_535 - 20)] {
        let build = Build {
            v6,
            payload: noise(payload, 3),
            ..Build::default()
        };
        let packet = build.tcp();
        let hdr = VirtioNetHdr {
            gso_type: if v6 { GSO_TCPV6 } else { GSO_TCPV4 },
            gso_size: 1380,
            csum_start: if v6 { 40 } else { 20 },
            ..TCP4
        };
        let parts = run(&hdr, &packet).unwrap();
        assert_eq!(Some(&parts), reference::split(&hdr, &packet).as_ref());
        assert!(parts.iter().all(|p| intact(p)));
        let mut longer = packet.clone();
        longer.resize(200_000, 1);
        assert_eq!(run(&hdr, &longer).unwrap(), parts);
        // Total length wrapped around, as a careless writer of 65,536 and more bytes leaves it.
        set16(&mut longer, if v6 { 4 } else { 2 }, 7);
        assert!(run(&hdr, &longer).is_err());
        let whole = VirtioNetHdr {
            gso_size: 65_535,
            ..hdr
        };
        assert_eq!(run(&whole, &packet).unwrap().len(), 1);
    }
}

#[test]
fn r19_every_mtu_from_68_to_65535() {
    let payload = noise(65_535 - 40, 5);
    let four = Build {
        payload: payload.clone(),
        ..Build::default()
    }
    .tcp();
    let six = Build {
        v6: true,
        payload: payload[..65_535 - 60].to_vec(),
        ..Build::default()
    }
    .udp();
    // All small ones, then every 97th, and the last hundred.
    let sweep = (68..1600)
        .chain((1600..65_435).step_by(97))
        .chain(65_435..=65_535);
    for mtu in sweep {
        for (packet, headers, base) in [(&four, 40usize, TCP4), (&six, 48, UDP6)] {
            let hdr = VirtioNetHdr {
                gso_size: (mtu - headers) as u16,
                ..base
            };
            let parts = run(&hdr, packet).unwrap();
            let joined: Vec<u8> = parts.iter().flat_map(|p| p[headers..].to_vec()).collect();
            assert_eq!(joined, packet[headers..], "mtu {mtu}");
            assert!(parts.iter().all(|p| p.len() <= mtu), "mtu {mtu}");
            assert!(
                parts[..parts.len() - 1].iter().all(|p| p.len() == mtu),
                "mtu {mtu}"
            );
            assert!(
                intact(&parts[0]) && intact(parts.last().unwrap()),
                "mtu {mtu}"
            );
        }
    }
}

fn any_hdr() -> impl Strategy<Value = VirtioNetHdr> {
    let gso = prop_oneof![
        Just(GSO_NONE),
        Just(GSO_TCPV4),
        Just(GSO_TCPV6),
        Just(GSO_UDP_L4),
        Just(GSO_TCPV4 | GSO_ECN),
        any::<u8>()
    ];
    let small = prop_oneof![
        0u16..100,
        Just(20u16),
        Just(40),
        Just(16),
        Just(6),
        any::<u16>()
    ];
    (0u8..4, gso, any::<u16>(), 0u16..200, small.clone(), small).prop_map(
        |(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)| VirtioNetHdr {
            flags,
            gso_type,
            hdr_len,
            gso_size,
            csum_start,
            csum_offset,
        },
    )
}

fn any_build() -> impl Strategy<Value = Build> {
    let fields = (
        any::<bool>(),
        any::<u8>(),
        any::<u8>(),
        any::<u16>(),
        any::<u32>(),
        any::<u8>(),
    );
    let extra = prop_oneof![3 => Just(0usize), 1 => 1usize..4];
    (fields, 0usize..11, extra, 0usize..3000, any::<u32>()).prop_map(
        |((v6, tos, ttl, id, sequence, flags), options, extra, payload, seed)| Build {
            v6,
            tos,
            ttl,
            id,
            sequence,
            flags,
            options: noise(options * 4, seed),
            // Hop-by-hop headers that are filled in below by protocol; IPv4 options as no-operations.
            extra: if v6 {
                vec![0; extra * 8]
            } else {
                vec![1; extra * 4]
            },
            payload: noise(payload, seed),
            ..Build::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Real packets under right headers: the fast way equals the naive one, and everything verifies.
    #[test]
    fn real_super_packets_equal_the_reference(build in any_build(), udp: bool, size in 1u16..2000, needs: bool) {
        let mut build = build;
        let count = build.extra.len() / 8;
        if build.v6 {
            for i in 0..count {
                build.extra[i * 8] = if i + 1 < count { 60 } else if udp { 17 } else { 6 };
            }
        }
        let packet = if udp { build.udp() } else { build.tcp() };
        let start = (if build.v6 { 40 } else { 20 }) + build.extra.len() as u16;
        let hdr = VirtioNetHdr {
            flags: u8::from(needs),
            gso_type: match (udp, build.v6) { (true, _) => GSO_UDP_L4, (_, true) => GSO_TCPV6, _ => GSO_TCPV4 },
            hdr_len: 0,
            gso_size: size,
            csum_start: start,
            csum_offset: if udp { 6 } else { 16 },
        };
        let parts = run(&hdr, &packet).unwrap();
        prop_assert!(parts.iter().all(|p| intact(p)));
        prop_assert_eq!(Some(parts), reference::split(&hdr, &packet));
    }

    /// Real packets under any header: the same packets, or the same refusal.
    #[test]
    fn hostile_headers_equal_the_reference(build in any_build(), udp: bool, hdr in any_hdr()) {
        let packet = if udp { build.udp() } else { build.tcp() };
        prop_assert_eq!(run(&hdr, &packet).ok(), reference::split(&hdr, &packet));
    }

    /// Any bytes at all, begun like an IP packet so that they get somewhere.
    #[test]
    fn hostile_bytes_equal_the_reference(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), hdr in any_hdr(), next: u8) {
        if let Some(first) = bytes.first_mut() {
            *first = if *first & 1 == 0 { 0x45 + (*first >> 6) } else { 0x60 };
        }
        if bytes.len() >= 40 {
            let len = bytes.len() as u16;
            if bytes[0] >> 4 == 4 {
                set16(&mut bytes, 2, len - u16::from(next & 3));
                bytes[6] &= 0x40;
                bytes[7] = 0;
                bytes[9] = [6, 17, next][usize::from(next) % 3];
            } else {
                set16(&mut bytes, 4, len - 40);
                bytes[6] = [0, 6, 17, 43, 44, 51, 60, next][usize::from(next) % 8];
            }
        }
        prop_assert_eq!(run(&hdr, &bytes).ok(), reference::split(&hdr, &bytes));
    }
}
