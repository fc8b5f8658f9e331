//! Coalescing: exact items for named cases, and the law (splitting gives back what was joined) for whatever comes.
#![allow(clippy::unwrap_used, clippy::panic)]

mod reference;

use ginnel_packet::coalesce::{Coalescer, Limits, MAX_RANGES, MAX_UDP_SEGMENTS};
use ginnel_packet::split::split;
use ginnel_packet::virtio::{DATA_VALID, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4};
use proptest::prelude::*;
use reference::{be16, noise, set16, Build, Emitted, Kept};

const BOTH: Limits = Limits {
    tcp: true,
    udp: true,
};
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

fn emitted(packets: &[Vec<u8>]) -> Vec<Emitted> {
    reference::coalesce(&mut Coalescer::new(BOTH), BOTH, packets)
}

/// Which packets each item is made of.
fn items(packets: &[Vec<u8>]) -> Vec<Vec<usize>> {
    emitted(packets).into_iter().map(|i| i.members).collect()
}

/// Segment `n` of a flow, 100 bytes each.
fn segment(n: u32) -> Build {
    Build {
        sequence: 1 + 100 * n,
        id: n as u16,
        payload: noise(100, n),
        ..Build::default()
    }
}

fn tcp(n: u32) -> Vec<u8> {
    segment(n).tcp()
}

fn udp(n: u32) -> Vec<u8> {
    segment(n).udp()
}

#[test]
fn a_whole_item_byte_for_byte() {
    let a = Build {
        payload: b"abcd".to_vec(),
        ..Build::default()
    };
    let b = Build {
        payload: b"efg".to_vec(),
        sequence: 5,
        id: 9,
        flags: ACK | PSH,
        ..Build::default()
    };
    let out = emitted(&[a.tcp(), b.tcp()]);
    #[rustfmt::skip]
    let expected = [
        0x45, 0, 0, 47, 0, 1, 0x40, 0, 64, 6, 0x26, 0xc6, 10, 0, 0, 1, 10, 0, 0, 2,
        0x9c, 0x40, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 77, 0x50, 0x18, 0x03, 0xe8, 0x14, 0x24, 0, 0,
        b'a', b'b', b'c', b'd', b'e', b'f', b'g',
    ];
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].packet, expected);
    let hdr = out[0].hdr;
    assert_eq!(
        (hdr.flags, hdr.gso_type, hdr.hdr_len, hdr.gso_size),
        (1, GSO_TCPV4, 40, 4)
    );
    assert_eq!((hdr.csum_start, hdr.csum_offset), (20, 16));
}

#[test]
fn four_kinds_of_flow_interleaved() {
    let of = |v6, port, n| Build {
        v6,
        ports: (port, 80),
        ..segment(n)
    };
    let mut packets = Vec::new();
    for n in 0..3 {
        packets.extend([
            of(false, 1, n).tcp(),
            of(true, 1, n).tcp(),
            of(false, 1, n).udp(),
            of(true, 1, n).udp(),
        ]);
        packets.push(of(false, 2, n).tcp());
    }
    let out = emitted(&packets);
    let kinds: Vec<u8> = out.iter().map(|i| i.hdr.gso_type).collect();
    assert_eq!(
        kinds,
        [GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_UDP_L4, GSO_TCPV4]
    );
    let members: Vec<_> = out.into_iter().map(|i| i.members).collect();
    assert_eq!(
        members,
        (0..5).map(|k| vec![k, k + 5, k + 10]).collect::<Vec<_>>()
    );
}

#[test]
fn psh_ends_an_item_and_stays_on_its_last_segment() {
    let pushed = |n| {
        Build {
            flags: ACK | PSH,
            ..segment(n)
        }
        .tcp()
    };
    assert_eq!(
        items(&[tcp(0), pushed(1), tcp(2), tcp(3)]),
        [vec![0, 1], vec![2, 3]]
    );
    assert_eq!(
        items(&[pushed(0), tcp(1), pushed(2)]),
        [vec![0], vec![1, 2]]
    );
    let out = emitted(&[tcp(0), pushed(1)]);
    assert_eq!(out[0].packet[33], ACK | PSH);
    assert_eq!(emitted(&[tcp(0), tcp(1)])[0].packet[33], ACK);
}

#[test]
fn gaps_repeats_and_reordering_begin_a_new_item() {
    assert_eq!(items(&[tcp(0), tcp(2), tcp(3)]), [vec![0], vec![1, 2]]);
    assert_eq!(items(&[tcp(1), tcp(0), tcp(1)]), [vec![0], vec![1, 2]]);
    assert_eq!(items(&[tcp(0), tcp(0)]), [vec![0], vec![1]]);
    // The sequence number wraps in the middle.
    let at = |sequence: u32| {
        Build {
            sequence,
            ..segment(0)
        }
        .tcp()
    };
    assert_eq!(
        items(&[at(u32::MAX - 149), at(u32::MAX - 49), at(50)]),
        [vec![0, 1, 2]]
    );
}

#[test]
fn lengths_a_shorter_segment_ends_a_longer_begins() {
    let sized = |sequence, len| Build {
        sequence,
        payload: noise(len, 1),
        ..Build::default()
    };
    assert_eq!(
        items(&[
            sized(1, 100).tcp(),
            sized(101, 60).tcp(),
            sized(161, 60).tcp()
        ]),
        [vec![0, 1], vec![2]]
    );
    assert_eq!(
        items(&[
            sized(1, 60).tcp(),
            sized(61, 100).tcp(),
            sized(161, 100).tcp()
        ]),
        [vec![0], vec![1, 2]]
    );
    assert_eq!(
        items(&[sized(0, 100).udp(), sized(0, 60).udp(), sized(0, 60).udp()]),
        [vec![0, 1], vec![2]]
    );
    assert_eq!(
        items(&[sized(0, 60).udp(), sized(0, 100).udp(), sized(0, 100).udp()]),
        [vec![0], vec![1, 2]]
    );
}

/// Each of these, in the middle of a flow, passes alone, and what follows does not go ahead of it.
#[test]
fn what_is_not_plain_data_passes_alone_and_ends_the_item() {
    for v6 in [false, true] {
        let plain = |n| Build { v6, ..segment(n) };
        let odd_tcp: Vec<(&str, Build)> = vec![
            (
                "bare ACK",
                Build {
                    payload: vec![],
                    ..plain(2)
                },
            ),
            (
                "FIN",
                Build {
                    flags: ACK | 1,
                    ..plain(2)
                },
            ),
            (
                "SYN",
                Build {
                    flags: ACK | 2,
                    ..plain(2)
                },
            ),
            (
                "RST",
                Build {
                    flags: ACK | 4,
                    ..plain(2)
                },
            ),
            (
                "no ACK",
                Build {
                    flags: 0,
                    ..plain(2)
                },
            ),
            (
                "PSH alone",
                Build {
                    flags: PSH,
                    ..plain(2)
                },
            ),
            (
                "URG",
                Build {
                    flags: ACK | 0x20,
                    ..plain(2)
                },
            ),
            (
                "ECE",
                Build {
                    flags: ACK | 0x40,
                    ..plain(2)
                },
            ),
            (
                "CWR",
                Build {
                    flags: ACK | 0x80,
                    ..plain(2)
                },
            ),
        ];
        for (name, odd) in odd_tcp {
            let packets = [
                plain(0).tcp(),
                plain(1).tcp(),
                odd.tcp(),
                plain(2).tcp(),
                plain(3).tcp(),
            ];
            assert_eq!(
                items(&packets),
                [vec![0, 1], vec![2], vec![3, 4]],
                "{name} v6 {v6}"
            );
        }
        let mut cut = plain(2).tcp();
        let offset = if v6 { 52 } else { 32 };
        cut[offset] = 0x40; // a data offset of 16 bytes
        assert_eq!(
            items(&[plain(0).tcp(), plain(1).tcp(), cut, plain(2).tcp()]),
            [vec![0, 1], vec![2], vec![3]]
        );
        let empty = Build {
            payload: vec![],
            ..plain(1)
        }
        .udp();
        assert_eq!(
            items(&[plain(0).udp(), empty, plain(0).udp()]),
            [vec![0], vec![1], vec![2]]
        );
        let mut unsummed = plain(0).udp();
        set16(&mut unsummed, if v6 { 46 } else { 26 }, 0);
        assert_eq!(
            items(&[plain(0).udp(), unsummed, plain(0).udp()]),
            [vec![0], vec![1], vec![2]]
        );
        let mut short = plain(0).udp();
        let field = if v6 { 44 } else { 24 };
        let lie = be16(&short, field) - 1;
        set16(&mut short, field, lie);
        assert_eq!(
            items(&[plain(0).udp(), short, plain(0).udp()]),
            [vec![0], vec![1], vec![2]]
        );
    }
}

/// Datagrams whose checksums verify as they stand, but that an item could not give back.
#[test]
fn lies_that_a_checksum_does_not_show_pass_alone() {
    let (good, at) = (udp(0), 26);
    // "No checksum" where the right one would be zero, sent as 0xffff: both verify.
    let mut zero = segment(1);
    let sum = be16(&zero.udp(), at);
    zero.payload.extend(sum.to_be_bytes());
    let grown = be16(&zero.udp(), at);
    let last = zero.payload.len() - 2;
    // Two bytes longer changed both lengths; what is still missing goes into the last word.
    let word = reference::ones_sum(&[&sum.to_be_bytes(), &grown.to_be_bytes()]);
    set16(&mut zero.payload, last, word);
    let mut none = zero.udp();
    assert_eq!(be16(&none, at), 0xffff);
    let like = |n| {
        Build {
            payload: noise(102, n),
            ..segment(n)
        }
        .udp()
    };
    assert_eq!(items(&[like(0), none.clone(), like(2)]), [vec![0, 1, 2]]);
    set16(&mut none, at, 0);
    assert_eq!(
        items(&[like(0), none, like(2)]),
        [vec![0], vec![1], vec![2]]
    );
    // A UDP length one short of the packet, made up for in the checksum.
    let mut short = udp(1);
    let (length, sum) = (be16(&short, 24), be16(&short, at));
    set16(&mut short, 24, length - 1);
    set16(&mut short, at, sum + 1);
    assert!(reference::intact(&short));
    assert_eq!(items(&[good.clone(), short]), [vec![0], vec![1]]);
    // An IP packet with bytes behind it: not what `push` asks for, and never joined.
    let mut untrimmed = udp(1);
    let total = be16(&untrimmed, 2);
    set16(&mut untrimmed, 2, total - 4);
    let sum = be16(&untrimmed, 10);
    set16(&mut untrimmed, 10, sum + 4);
    assert_eq!(items(&[good, untrimmed]), [vec![0], vec![1]]);
}

#[test]
fn fragments_and_odd_headers_end_every_item_between_their_addresses() {
    let other = |n| {
        Build {
            ports: (9, 9),
            ..segment(n)
        }
        .tcp()
    };
    let elsewhere = |n| {
        Build {
            destination: 77,
            ..segment(n)
        }
        .tcp()
    };
    let first = Build {
        fragment: 0x2000,
        ..segment(1)
    }
    .tcp();
    let later = Build {
        fragment: 0x0005,
        ..segment(1)
    }
    .tcp();
    let reserved = Build {
        fragment: 0x8000,
        ..segment(1)
    }
    .tcp();
    let options = Build {
        extra: vec![1, 1, 1, 0],
        ..segment(1)
    }
    .tcp();
    let tiny = Build::default().around(6, &[1, 2, 3]);
    for odd in [first, later, reserved, options, tiny] {
        let packets = [
            tcp(0),
            other(0),
            elsewhere(0),
            odd,
            tcp(1),
            other(1),
            elsewhere(1),
        ];
        assert_eq!(
            items(&packets),
            [vec![0], vec![1], vec![2, 6], vec![3], vec![4], vec![5]]
        );
    }
    let six = |n| Build {
        v6: true,
        ..segment(n)
    };
    let hop = Build {
        extra: vec![6, 0, 1, 4, 0, 0, 0, 0],
        ..six(1)
    }
    .tcp();
    assert_eq!(
        items(&[six(0).tcp(), hop, six(1).tcp()]),
        [vec![0], vec![1], vec![2]]
    );
}

#[test]
fn other_protocols_and_what_is_not_ip_concern_nobody() {
    let ping = Build::default().around(1, &[8, 0, 0, 0, 0, 0, 0, 0]);
    let gre = Build::default().around(47, &[0; 40]);
    let packets = [
        tcp(0),
        ping,
        gre,
        vec![0xff; 30],
        vec![0x45],
        vec![],
        tcp(1),
    ];
    assert_eq!(
        items(&packets),
        [vec![0, 6], vec![1], vec![2], vec![3], vec![4], vec![5]]
    );
}

#[test]
fn what_an_item_has_once_must_be_equal() {
    let unequal: Vec<(&str, Build)> = vec![
        (
            "TTL",
            Build {
                ttl: 63,
                ..segment(1)
            },
        ),
        (
            "TOS",
            Build {
                tos: 0x10,
                ..segment(1)
            },
        ),
        (
            "ECN",
            Build {
                tos: 1,
                ..segment(1)
            },
        ),
        (
            "DF",
            Build {
                fragment: 0,
                ..segment(1)
            },
        ),
        (
            "source",
            Build {
                source: 9,
                ..segment(1)
            },
        ),
        (
            "destination",
            Build {
                destination: 9,
                ..segment(1)
            },
        ),
        (
            "source port",
            Build {
                ports: (1, 5201),
                ..segment(1)
            },
        ),
        (
            "destination port",
            Build {
                ports: (40_000, 1),
                ..segment(1)
            },
        ),
        (
            "v6 hop limit",
            Build {
                v6: true,
                ttl: 63,
                ..segment(1)
            },
        ),
        (
            "v6 traffic class",
            Build {
                v6: true,
                tos: 0x10,
                ..segment(1)
            },
        ),
        (
            "v6 flow label",
            Build {
                v6: true,
                flow_label: 0x52345,
                ..segment(1)
            },
        ),
        (
            "v6 source",
            Build {
                v6: true,
                source: 9,
                ..segment(1)
            },
        ),
        (
            "version",
            Build {
                v6: true,
                ..segment(1)
            },
        ),
    ];
    for (name, odd) in unequal {
        let like = Build {
            v6: odd.v6 && name != "version",
            ..segment(0)
        };
        assert_eq!(
            items(&[like.tcp(), odd.tcp()]),
            [vec![0], vec![1]],
            "{name}"
        );
        assert_eq!(
            items(&[like.udp(), odd.udp()]),
            [vec![0], vec![1]],
            "{name} UDP"
        );
    }
    let timestamps = |value| vec![1, 1, 8, 10, 0, 0, 0, value, 0, 0, 0, 7];
    let unequal: Vec<(&str, Build)> = vec![
        (
            "acknowledgement",
            Build {
                acknowledgement: 78,
                ..segment(1)
            },
        ),
        (
            "window",
            Build {
                window: 999,
                ..segment(1)
            },
        ),
        (
            "urgent pointer",
            Build {
                urgent: 1,
                ..segment(1)
            },
        ),
        (
            "options' presence",
            Build {
                options: vec![1, 1, 1, 0],
                ..segment(1)
            },
        ),
    ];
    for (name, odd) in unequal {
        assert_eq!(items(&[tcp(0), odd.tcp()]), [vec![0], vec![1]], "{name}");
    }
    let at = |n, value| {
        Build {
            options: timestamps(value),
            ..segment(n)
        }
        .tcp()
    };
    assert_eq!(
        items(&[at(0, 1), at(1, 1), at(2, 2)]),
        [vec![0, 1], vec![2]]
    );
}

#[test]
fn a_wrong_checksum_is_never_laundered() {
    for v6 in [false, true] {
        let good = |n| Build { v6, ..segment(n) };
        let last = |mut p: Vec<u8>| {
            *p.last_mut().unwrap() ^= 1;
            p
        };
        for (a, b, c, d) in [
            (good(0).tcp(), good(1).tcp(), good(2).tcp(), good(3).tcp()),
            (good(0).udp(), good(1).udp(), good(2).udp(), good(3).udp()),
        ] {
            // In the middle, first, last.
            let out = emitted(&[a.clone(), last(b.clone()), c.clone(), d.clone()]);
            assert_eq!(
                out.iter().map(|i| i.members.clone()).collect::<Vec<_>>(),
                [vec![0], vec![1], vec![2, 3]]
            );
            assert_eq!((out[0].hdr.flags, out[1].hdr.flags), (DATA_VALID, 0));
            let out = emitted(&[last(a.clone()), b.clone(), c.clone()]);
            assert_eq!(
                out.iter().map(|i| i.members.clone()).collect::<Vec<_>>(),
                [vec![0], vec![1, 2]]
            );
            assert_eq!(out[0].hdr.flags, 0);
            assert_eq!(items(&[a, b, last(c)]), [vec![0, 1], vec![2]]);
        }
    }
    // The IPv4 header's own.
    let mut bad = tcp(1);
    bad[10] ^= 1;
    assert_eq!(
        items(&[tcp(0), bad.clone(), tcp(2)]),
        [vec![0], vec![1], vec![2]]
    );
    assert_eq!(items(&[bad, tcp(2)]), [vec![0], vec![1]]);
}

#[test]
fn without_verification_it_would_be() {
    // Shows that the flag is what the test above depends on.
    let mut bad = tcp(1);
    *bad.last_mut().unwrap() ^= 1;
    let (mut slab, places) = reference::lay(&[tcp(0), bad]);
    let mut coalescer = Coalescer::new(BOTH);
    coalescer.set_verify(false);
    for place in &places {
        coalescer.push(&slab, place.start, place.len());
    }
    let mut joined = 0;
    coalescer.flush(&mut slab, &mut |_, _, ranges| joined = ranges.len());
    assert_eq!(joined, 2);
}

#[test]
fn limits_of_the_device_are_kept() {
    for (limits, expected) in [
        (
            Limits {
                tcp: false,
                udp: false,
            },
            vec![vec![0], vec![1], vec![2], vec![3]],
        ),
        (
            Limits {
                tcp: true,
                udp: false,
            },
            vec![vec![0, 2], vec![1], vec![3]],
        ),
        (
            Limits {
                tcp: false,
                udp: true,
            },
            vec![vec![0], vec![1, 3], vec![2]],
        ),
    ] {
        let out = reference::coalesce(
            &mut Coalescer::new(limits),
            limits,
            &[tcp(0), udp(0), tcp(1), udp(1)],
        );
        assert_eq!(
            out.into_iter().map(|i| i.members).collect::<Vec<_>>(),
            expected
        );
    }
}

#[test]
fn bounds_of_an_item() {
    let big = |n: u32| Build {
        sequence: 1 + 1400 * n,
        payload: noise(1400, n),
        ..Build::default()
    };
    let sizes = |packets: &[Vec<u8>]| items(packets).iter().map(Vec::len).collect::<Vec<_>>();
    // 46 * 1400 + 40 = 64,440 fits into 65,535 bytes, 47 do not.
    assert_eq!(
        sizes(&(0..60).map(|n| big(n).tcp()).collect::<Vec<_>>()),
        [46, 14]
    );
    assert_eq!(
        sizes(&(0..60).map(|n| big(n).udp()).collect::<Vec<_>>()),
        [46, 14]
    );
    assert_eq!(
        sizes(&(0..150).map(udp).collect::<Vec<_>>()),
        [MAX_UDP_SEGMENTS, MAX_UDP_SEGMENTS, 22]
    );
    assert_eq!(
        sizes(&(0..150).map(tcp).collect::<Vec<_>>()),
        [MAX_RANGES, 22]
    );
    // To the byte: 32,747 + 32,748 of payload with 40 of header is 65,535.
    let two = |a: usize, b: usize| {
        let first = Build {
            payload: noise(a, 1),
            ..Build::default()
        };
        let second = Build {
            payload: noise(b, 2),
            sequence: 1 + a as u32,
            ..Build::default()
        };
        sizes(&[first.tcp(), second.tcp()])
    };
    assert_eq!(two(32_748, 32_747), [2]);
    assert_eq!(two(32_748, 32_748), [1, 1]);
}

#[test]
fn more_flows_than_the_table_holds_cost_coalescing_only() {
    // 300 flows, three segments each, interleaved in the worst way; the helper checks order and completeness.
    let mut packets = Vec::new();
    for n in 0..3 {
        for flow in 0..300u16 {
            packets.push(
                Build {
                    ports: (flow, 1),
                    payload: vec![flow as u8; 8],
                    sequence: 8 * n,
                    ..segment(0)
                }
                .tcp(),
            );
        }
    }
    let out = items(&packets);
    assert!(out.len() < 900, "some still coalesce: {}", out.len());
    // A batch's usual number of flows coalesces almost wholly.
    let packets: Vec<_> = packets
        .iter()
        .filter(|p| be16(p, 20) < 32)
        .cloned()
        .collect();
    assert!(items(&packets).len() <= 36, "{}", items(&packets).len());
}

#[test]
fn r21_nothing_of_one_batch_is_left_in_the_next() {
    let mut coalescer = Coalescer::new(BOTH);
    let six = |n| {
        Build {
            v6: true,
            ..segment(n)
        }
        .tcp()
    };
    let batches = [
        vec![tcp(0), tcp(1)],
        vec![tcp(2)], // continues the flow, but its item is gone
        vec![udp(0), udp(1), udp(2)],
        vec![six(0), six(1)],
        vec![],
        vec![tcp(3), udp(3), six(2)],
        vec![tcp(4), udp(4), six(3), tcp(5), udp(5), six(4)],
    ];
    for batch in batches {
        let again = reference::coalesce(&mut coalescer, BOTH, &batch);
        let fresh = emitted(&batch);
        let what = |items: Vec<Emitted>| {
            items
                .into_iter()
                .map(|i| (i.hdr, i.packet, i.members))
                .collect::<Vec<_>>()
        };
        assert_eq!(what(again), what(fresh));
    }
}

#[test]
fn the_fast_split_undoes_it_too() {
    let packets: Vec<_> = (0..40)
        .map(|n| {
            Build {
                v6: true,
                ..segment(n)
            }
            .tcp()
        })
        .collect();
    let out = emitted(&packets);
    let mut sink = Kept::new(100);
    assert_eq!(split(&out[0].hdr, &out[0].packet, &mut sink), Ok(40));
    assert_eq!(sink.packets, packets);
}

/// A few flows, so that packets meet; small differences, so that they nearly fit; now and then damage.
fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let kind = (0u8..3, any::<bool>(), any::<bool>(), 0u32..6);
    let shape = (
        0usize..4,
        prop_oneof![6 => Just(ACK), 1 => Just(ACK | PSH), 1 => any::<u8>()],
    );
    let rare = |n: u32| prop_oneof![n => Just(0u16), 1 => any::<u16>()];
    let damage = prop_oneof![8 => Just(None), 1 => any::<(u16, u8)>().prop_map(Some)];
    (kind, shape, rare(12), rare(12), rare(12), damage).prop_map(
        |((flow, v6, is_udp, n), (size, flags), ttl, fragment, extra, damage)| {
            let build = Build {
                v6,
                ports: (u16::from(flow), 80),
                sequence: 1 + 40 * n,
                payload: noise([40, 40, 25, 0][size], n),
                flags,
                ttl: 64 - (ttl & 1) as u8,
                fragment: if fragment == 0 { 0x4000 } else { fragment },
                extra: match (extra & 1, v6) {
                    (0, _) => vec![],
                    (_, false) => vec![1; 4],
                    (_, true) => vec![if is_udp { 17 } else { 6 }, 0, 1, 4, 0, 0, 0, 0],
                },
                ..Build::default()
            };
            let mut packet = if is_udp { build.udp() } else { build.tcp() };
            if let Some((at, value)) = damage {
                let at = usize::from(at) % packet.len();
                packet[at] = value;
                // What the coalescer is given is trimmed.
                if let Some(parsed) = reference::parse(&packet) {
                    packet.truncate(parsed.total);
                }
            }
            packet
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_law_holds_for_whatever_comes(packets in proptest::collection::vec(any_packet(), 0..60), tcp: bool, udp: bool) {
        let limits = Limits { tcp, udp };
        let mut coalescer = Coalescer::new(limits);
        reference::coalesce(&mut coalescer, limits, &packets);
        // And again with its buffers warm.
        reference::coalesce(&mut coalescer, limits, &packets);
    }

    /// What was split comes back as the super-packet it was.
    #[test]
    fn coalescing_undoes_splitting(v6: bool, is_udp: bool, payload in 1usize..20_000, size in 200u16..1400, push: bool) {
        let build = Build { v6, payload: noise(payload, 1), flags: if push { ACK | PSH } else { ACK }, ..Build::default() };
        let whole = if is_udp { build.udp() } else { build.tcp() };
        let hdr = ginnel_packet::virtio::VirtioNetHdr {
            gso_type: match (is_udp, v6) { (true, _) => GSO_UDP_L4, (_, true) => GSO_TCPV6, _ => GSO_TCPV4 },
            gso_size: size,
            ..Default::default()
        };
        let mut sink = Kept::new(200);
        let count = split(&hdr, &whole, &mut sink).unwrap();
        let out = emitted(&sink.packets);
        let bound = if is_udp { MAX_UDP_SEGMENTS } else { MAX_RANGES };
        prop_assert_eq!(out.len(), count.div_ceil(bound));
        if out.len() == 1 {
            // But for the checksum field, which is partial now.
            let field = if v6 { 40 } else { 20 } + if is_udp { 6 } else { 16 };
            let mut got = out[0].packet.clone();
            if count > 1 {
                set16(&mut got, field, be16(&whole, field));
            }
            prop_assert_eq!(got, whole);
        }
    }
}
