//! What each fuzz target does with its bytes: plain functions, called by libFuzzer and by the replay of the corpus alike.
//!
//! Each holds the crate against the naive reference (`tests/reference`) or against promises that hold for any input. Expects a
//! sibling module `reference`.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::net::IpAddr;

use ginnel_packet::coalesce::{Coalescer, Limits};
use ginnel_packet::icmp::{self, Unreachable};
use ginnel_packet::virtio::VirtioNetHdr;
use ginnel_packet::{ecn, ip, split};

use crate::reference::{self, be16, Build, Kept};

/// A virtio header and a packet: the segments of the reference, or refused by both.
pub fn virtio_split(data: &[u8]) {
    let Some(hdr) = VirtioNetHdr::parse(data) else {
        return;
    };
    let packet = &data[VirtioNetHdr::SIZE..];
    let mut sink = Kept::new(usize::MAX);
    let result = split::split(&hdr, packet, &mut sink);
    let expected = reference::split(&hdr, packet);
    assert_eq!(result.ok(), expected.as_ref().map(Vec::len));
    assert_eq!(sink.packets, expected.unwrap_or_default());
    // A sink that fills up on the way keeps finished packets.
    let room = sink.packets.len() / 2;
    let mut small = Kept::new(room);
    if result.is_ok() {
        assert_eq!(
            split::split(&hdr, packet, &mut small),
            Err(split::SplitError::Full)
        );
        assert_eq!(small.packets, sink.packets[..room]);
    }
}

/// A batch of packets described in ten bytes each, or given raw: the law and the order of coalescing.
///
/// First byte: the device's limits. Then per packet: flow and kind, segment number, length, flags, how it differs, damage.
/// A kind byte of 0xff takes the next byte as a length and that many bytes as the packet.
pub fn coalesce(data: &[u8]) {
    let Some((limits, mut rest)) = data.split_first() else {
        return;
    };
    let limits = Limits {
        tcp: limits & 1 == 0,
        udp: limits & 2 == 0,
    };
    let mut packets = Vec::new();
    while packets.len() < 160 {
        let packet = match rest {
            [0xff, len, tail @ ..] => {
                let (raw, tail) = tail.split_at((*len as usize).min(tail.len()));
                rest = tail;
                raw.to_vec()
            }
            [kind, number, len, flags, differ, at, value, tail @ ..] => {
                rest = tail;
                described(*kind, *number, *len, *flags, *differ, *at, *value)
            }
            _ => break,
        };
        packets.push(trimmed(packet));
    }
    let mut coalescer = Coalescer::new(limits);
    reference::coalesce(&mut coalescer, limits, &packets);
    reference::coalesce(&mut coalescer, limits, &packets);
}

fn described(kind: u8, number: u8, len: u8, flags: u8, differ: u8, at: u8, value: u8) -> Vec<u8> {
    let (v6, udp) = (kind & 1 != 0, kind & 2 != 0);
    let payload = if len & 0x80 == 0 {
        32
    } else {
        (len & 0x7f) as usize
    };
    let build = Build {
        v6,
        ports: (u16::from(kind >> 2 & 3), 7),
        destination: kind >> 4 & 1,
        sequence: u32::from(number & 15) * 32,
        flags: if flags & 1 == 0 { 0x10 } else { flags },
        payload: reference::noise(payload, u32::from(number)),
        ttl: 64 - (differ & 1),
        tos: differ >> 1 & 3,
        fragment: if differ & 8 == 0 {
            0x4000
        } else {
            u16::from(value) << 8
        },
        window: 1000 + u16::from(differ >> 4 & 1),
        extra: match (differ & 0x20 == 0, v6) {
            (true, _) => vec![],
            (_, false) => vec![1; 4],
            (_, true) => vec![if udp { 17 } else { 6 }, 0, 1, 4, 0, 0, 0, 0],
        },
        options: if differ & 0x40 == 0 {
            vec![]
        } else {
            vec![1, 1, 8, 10, 0, 0, 0, value & 1, 0, 0, 0, 1]
        },
        ..Build::default()
    };
    let mut packet = if udp { build.udp() } else { build.tcp() };
    if differ & 0x80 != 0 {
        let at = at as usize % packet.len();
        packet[at] ^= value;
    }
    packet
}

fn trimmed(mut packet: Vec<u8>) -> Vec<u8> {
    if let Ok(total) = ip::total_len(&packet) {
        packet.truncate(total);
    }
    packet
}

/// Lengths, addresses, ECN both ways, padding.
pub fn ip_header(data: &[u8]) {
    let Some((outer, packet)) = data.split_first() else {
        return;
    };
    let total = ip::total_len(packet);
    if let Ok(total) = total {
        assert!(total <= packet.len() && total >= 20);
        let addresses = if packet[0] >> 4 == 4 {
            [&packet[12..16], &packet[16..20]]
        } else {
            [&packet[8..24], &packet[24..40]]
        };
        for (found, bytes) in [ip::source(packet), ip::destination(packet)]
            .into_iter()
            .zip(addresses)
        {
            match found.unwrap() {
                IpAddr::V4(a) => assert_eq!(a.octets(), bytes),
                IpAddr::V6(a) => assert_eq!(a.octets(), bytes),
            }
        }
    }
    if let Some(parsed) = reference::parse(packet) {
        assert_eq!(total, Ok(parsed.total));
    }
    let inner = ecn::outer_ecn(packet);
    assert!(inner <= 3);
    let mut marked = packet.to_vec();
    let verdict = ecn::decapsulate(*outer, &mut marked);
    // RFC 6040 figure 4 by its rules: CE wins unless the inside cannot bear it; ECT(1) outside beats ECT(0) inside.
    let expected = match (inner, outer & 3) {
        (0 | 3, _) => inner,
        (_, 3) => 3,
        (2, 1) => 1,
        _ => inner,
    };
    if total.is_ok() {
        assert_eq!(ecn::outer_ecn(&marked), expected);
        assert_eq!(
            verdict == ecn::EcnVerdict::Drop,
            inner == 0 && outer & 3 == 3
        );
        assert_eq!(verdict == ecn::EcnVerdict::Marked, expected != inner);
        if packet[0] >> 4 == 4 {
            let header = (packet[0] & 15) as usize * 4;
            let valid = |p: &[u8]| reference::ones_sum(&[&p[..header]]) == 0xffff;
            assert_eq!(valid(packet), valid(&marked));
        }
    } else if verdict != ecn::EcnVerdict::Marked {
        assert_eq!(marked, packet);
    }
    let (len, mtu) = (
        packet.len(),
        be16(&[*outer, packet.first().copied().unwrap_or(0)], 0) as usize,
    );
    let padded = ip::padded_len(len, mtu);
    assert!(padded >= len && padded < len + 16 && (mtu == 0 || len > mtu || padded <= mtu));
}

/// An answer, if there is one, is a right packet that goes back to the sender and must not itself be answered.
pub fn icmp(data: &[u8]) {
    let Some((choice, packet)) = data.split_first() else {
        return;
    };
    let why = match choice & 3 {
        0 => Unreachable::PacketTooBig {
            mtu: u32::from(*choice) << (choice & 0x1c),
        },
        _ => Unreachable::HostUnreachable,
    };
    let from: Option<IpAddr> = match choice >> 6 {
        0 => Some([10, 0, 0, 254].into()),
        1 => Some([0xfd00, 0, 0, 0, 0, 0, 0, 0xfe].into()),
        _ => None,
    };
    let mut out = [0xee; icmp::MAX_SIZE];
    let Some(len) = icmp::unreachable(packet, why, from, &mut out) else {
        return;
    };
    let answer = &out[..len];
    let v4 = packet[0] >> 4 == 4;
    let (header, most) = if v4 { (20, 576) } else { (40, 1280) };
    assert!(len <= most && reference::parse(answer).unwrap().total == len);
    assert_eq!(ip::destination(answer), ip::source(packet));
    assert!(ip::source(answer) == from || ip::source(answer) == ip::destination(packet));
    if v4 {
        assert_eq!(reference::ones_sum(&[&answer[..20]]), 0xffff);
        assert_eq!(reference::ones_sum(&[&answer[20..]]), 0xffff);
    } else {
        assert!(reference::intact(answer));
    }
    let total = ip::total_len(packet).unwrap();
    let mut second = [0; icmp::MAX_SIZE];
    assert_eq!(answer[header + 8..], packet[..total.min(most - header - 8)]);
    assert_eq!(
        icmp::unreachable(answer, why, None, &mut second),
        None,
        "an error is never answered"
    );
}
