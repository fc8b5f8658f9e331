//! ICMP errors written back to the sender of a packet that the tunnel cannot carry.
//!
//! A packet read from TUN has nowhere to go (no peer owns its destination, or the peer has no endpoint), or is too big.
//! The kernel's WireGuard answers its own stack with ICMP; in user space the answer is built here and written into TUN.
//!
//! When an error must not be answered (RFC 1122 3.2.2, RFC 1812 4.3.2.7, RFC 4443 2.4 e): to an ICMP error or an unknown
//! ICMP type, to a fragment other than the first, from or to multicast or broadcast, from an address that is nobody's
//! (unspecified, loopback, class E), to what is malformed. Limiting the rate is the caller's, who has a clock.
//!
//! ```text
//! IPv4 (20) | type 3 | code | checksum | 0 | MTU | the packet, as much as keeps the whole <= 576
//! IPv6 (40) | type 1 or 2 | code | checksum | 0 or MTU | the packet, as much as keeps the whole <= 1280
//! ```
//!
//! Call it with a finished packet (after `split`), so that the quote's checksums are right. Reading received errors that quote
//! our packets is `ginnel-gre`'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum;
use crate::ip::{self, Fragment, Ip};

/// The longest answer: IPv6's minimum MTU (RFC 4443 3.1).
pub const MAX_SIZE: usize = 1280;
/// No IPv6 link is smaller; what says so is not believed, or makes senders add a fragment header to every packet (RFC 8200 5).
const MIN_MTU_V6: u32 = 1280;
/// The longest `ICMPv4` answer (RFC 1812 4.3.2.3).
const MAX_SIZE_V4: usize = 576;
/// Type, code, checksum and four bytes that depend on the type.
const ICMP_HEADER: usize = 8;
/// Internetwork control, as the kernel marks its ICMP errors (RFC 1812 4.3.2.5).
const TOS_V4: u8 = 0xc0;
/// The answer crosses the host that made it, no more, but hosts may forward it.
const HOP_LIMIT: u8 = 64;
/// What follows an IPv4 broadcast, and begins class E (RFC 1112 4).
const CLASS_E: u8 = 240;

/// What to tell the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// `ICMPv4` 3/1 host unreachable; `ICMPv6` 1/3 address unreachable.
    HostUnreachable,
    /// `ICMPv4` 3/13 communication administratively prohibited; `ICMPv6` 1/1: the tunnel is held down on purpose.
    AdminProhibited,
    /// `ICMPv4` 3/4 fragmentation needed (only when DF was set); `ICMPv6` 2/0 packet too big.
    PacketTooBig {
        /// The largest packet that would go through; to IPv6 never less than 1280 is said (RFC 8200 5).
        mtu: u32,
    },
}

/// Builds the ICMP error that answers `packet`, from `from` if that is a usable address of its family, else from the
/// packet's destination. Returns its length in `out`, or `None` when it must not be answered.
pub fn unreachable(
    packet: &[u8],
    why: Unreachable,
    from: Option<IpAddr>,
    out: &mut [u8; MAX_SIZE],
) -> Option<usize> {
    let packet = &packet[..ip::total_len(packet).ok()?];
    match (ip::source(packet)?, ip::destination(packet)?) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            if !answerable(packet, Ip::V4, why) || !host_v4(source) || group_v4(destination) {
                return None;
            }
            let from = match from {
                Some(IpAddr::V4(a)) if host_v4(a) => a,
                _ => destination,
            };
            Some(build_v4(packet, why, from, source, out))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            // RFC 4443 2.4 e.3 lets "packet too big" answer multicast; WireGuard carries none to a peer without a prefix
            // that says so, and staying silent is always allowed.
            if !answerable(packet, Ip::V6, why) || !host_v6(source) || destination.is_multicast() {
                return None;
            }
            let from = match from {
                Some(IpAddr::V6(a)) if host_v6(a) => a,
                _ => destination,
            };
            Some(build_v6(packet, why, from, source, out))
        }
        _ => None,
    }
}

fn host_v4(a: Ipv4Addr) -> bool {
    let first = a.octets()[0];
    first != 0 && !a.is_loopback() && !a.is_multicast() && first < CLASS_E
}

fn group_v4(a: Ipv4Addr) -> bool {
    a.is_multicast() || a.is_broadcast()
}

fn host_v6(a: Ipv6Addr) -> bool {
    !a.is_unspecified() && !a.is_loopback() && !a.is_multicast()
}

fn answerable(packet: &[u8], family: Ip, why: Unreachable) -> bool {
    let Some(at) = ip::layout(packet) else {
        return false;
    };
    if at.fragment == Fragment::Later {
        return false;
    }
    let message_type = packet.get(at.transport).copied();
    match (family, at.protocol) {
        // Echo, router discovery, timestamp, information, mask; all else is an error or unknown (as the kernel judges).
        (Ip::V4, ip::PROTO_ICMP) if !matches!(message_type, Some(0 | 8..=10 | 13..=18)) => {
            return false
        }
        // Below 128 are errors; 137 is redirect.
        (Ip::V6, ip::PROTO_ICMPV6) if !matches!(message_type, Some(128..=136 | 138..)) => {
            return false
        }
        _ => {}
    }
    let may_fragment = family == Ip::V4 && packet.get(6).is_some_and(|flags| flags & 0x40 == 0);
    !(may_fragment && matches!(why, Unreachable::PacketTooBig { .. }))
}

fn build_v4(
    packet: &[u8],
    why: Unreachable,
    from: Ipv4Addr,
    to: Ipv4Addr,
    out: &mut [u8; MAX_SIZE],
) -> usize {
    const HEADERS: usize = ip::V4_HEADER + ICMP_HEADER;
    let quote = packet.len().min(MAX_SIZE_V4 - HEADERS);
    let total = HEADERS + quote;
    let (code, mtu) = match why {
        Unreachable::HostUnreachable => (1, 0),
        Unreachable::AdminProhibited => (13, 0),
        Unreachable::PacketTooBig { mtu } => (4, u16::try_from(mtu).unwrap_or(u16::MAX)),
    };
    out[..HEADERS].fill(0);
    out[0] = 0x45;
    out[1] = TOS_V4;
    out[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    out[8] = HOP_LIMIT;
    out[9] = ip::PROTO_ICMP;
    out[12..16].copy_from_slice(&from.octets());
    out[16..20].copy_from_slice(&to.octets());
    let check = checksum::sum(&out[..ip::V4_HEADER]).checksum();
    out[10..12].copy_from_slice(&check);
    out[20] = 3;
    out[21] = code;
    out[26..28].copy_from_slice(&mtu.to_be_bytes()); // RFC 1191 4
    out[HEADERS..total].copy_from_slice(&packet[..quote]);
    let check = checksum::sum(&out[ip::V4_HEADER..total]).checksum();
    out[22..24].copy_from_slice(&check);
    total
}

fn build_v6(
    packet: &[u8],
    why: Unreachable,
    from: Ipv6Addr,
    to: Ipv6Addr,
    out: &mut [u8; MAX_SIZE],
) -> usize {
    const HEADERS: usize = ip::V6_HEADER + ICMP_HEADER;
    let quote = packet.len().min(MAX_SIZE - HEADERS);
    let total = HEADERS + quote;
    let payload = (ICMP_HEADER + quote) as u16;
    let (kind, code, mtu) = match why {
        Unreachable::HostUnreachable => (1, 3, 0),
        Unreachable::AdminProhibited => (1, 1, 0),
        Unreachable::PacketTooBig { mtu } => (2, 0, mtu.max(MIN_MTU_V6)),
    };
    out[..HEADERS].fill(0);
    out[0] = 0x60;
    out[4..6].copy_from_slice(&payload.to_be_bytes());
    out[6] = ip::PROTO_ICMPV6;
    out[7] = HOP_LIMIT;
    out[8..24].copy_from_slice(&from.octets());
    out[24..40].copy_from_slice(&to.octets());
    out[40] = kind;
    out[41] = code;
    out[44..48].copy_from_slice(&mtu.to_be_bytes());
    out[HEADERS..total].copy_from_slice(&packet[..quote]);
    let pseudo = checksum::sum(&out[8..ip::V6_HEADER])
        .word(ip::PROTO_ICMPV6 as u16)
        .word(payload);
    let check = pseudo.bytes(&out[ip::V6_HEADER..total]).checksum();
    out[42..44].copy_from_slice(&check);
    total
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn v4(protocol: u8, flags: u16, source: [u8; 4], destination: [u8; 4], body: &[u8]) -> Vec<u8> {
        let mut p = vec![0x45, 0];
        p.extend(((20 + body.len()) as u16).to_be_bytes());
        p.extend([0, 1]);
        p.extend(flags.to_be_bytes());
        p.extend([64, protocol, 0, 0]);
        p.extend(source);
        p.extend(destination);
        p.extend(body);
        let check = checksum::sum(&p[..20]).checksum();
        p[10..12].copy_from_slice(&check);
        p
    }

    fn v6(next: u8, source: &str, destination: &str, body: &[u8]) -> Vec<u8> {
        let mut p = vec![0x60, 0, 0, 0];
        p.extend((body.len() as u16).to_be_bytes());
        p.extend([next, 64]);
        p.extend(source.parse::<Ipv6Addr>().unwrap().octets());
        p.extend(destination.parse::<Ipv6Addr>().unwrap().octets());
        p.extend(body);
        p
    }

    fn answer(packet: &[u8], why: Unreachable, from: Option<&str>) -> Option<Vec<u8>> {
        let mut out = [0xee; MAX_SIZE];
        let n = unreachable(packet, why, from.map(|a| a.parse().unwrap()), &mut out)?;
        Some(out[..n].to_vec())
    }

    const A: [u8; 4] = [10, 0, 0, 1];
    const B: [u8; 4] = [10, 9, 9, 9];
    const HOST: Unreachable = Unreachable::HostUnreachable;

    #[test]
    fn icmpv4_host_unreachable_byte_for_byte() {
        let packet = v4(17, 0x4000, A, B, &[0, 1, 0, 2, 0, 8, 0, 0]);
        let got = answer(&packet, HOST, Some("10.0.0.254")).unwrap();
        let mut expected = vec![
            0x45, 0xc0, 0, 56, 0, 0, 0, 0, 64, 1, 0x65, 0x07, 10, 0, 0, 254, 10, 0, 0,
            1, // IP
            3, 1, 0xfc, 0xf3, 0, 0, 0, 0, // ICMP
        ];
        expected.extend(&packet);
        assert_eq!(&got[28..], &packet);
        assert!(checksum::sum(&got[..20]).verifies());
        assert!(checksum::sum(&got[20..]).verifies());
        assert_eq!(got, expected);
    }

    #[test]
    fn icmpv6_address_unreachable_byte_for_byte() {
        let packet = v6(17, "fd00::1", "fd00::9", &[0, 1, 0, 2, 0, 8, 0xff, 0xff]);
        let got = answer(&packet, HOST, Some("fd00::fe")).unwrap();
        assert_eq!(&got[..8], &[0x60, 0, 0, 0, 0, 56, 58, 64]);
        assert_eq!(ip::source(&got), Some("fd00::fe".parse().unwrap()));
        assert_eq!(ip::destination(&got), Some("fd00::1".parse().unwrap()));
        assert_eq!((&got[40..42], &got[44..48]), (&[1, 3][..], &[0; 4][..]));
        assert_eq!(&got[48..], &packet);
        assert!(checksum::sum(&got[8..40])
            .word(58)
            .word(56)
            .bytes(&got[40..])
            .verifies());
    }

    #[test]
    fn packet_too_big_carries_the_mtu() {
        let four = answer(
            &v4(6, 0x4000, A, B, &[0; 1400]),
            Unreachable::PacketTooBig { mtu: 1280 },
            None,
        )
        .unwrap();
        assert_eq!(
            (four[20], four[21], &four[24..28]),
            (3, 4, &[0, 0, 5, 0][..])
        );
        assert_eq!(
            answer(
                &v4(6, 0, A, B, &[0; 1400]),
                Unreachable::PacketTooBig { mtu: 1280 },
                None
            ),
            None,
            "no DF"
        );
        let six = answer(
            &v6(6, "fd00::1", "fd00::9", &[0; 1400]),
            Unreachable::PacketTooBig { mtu: 70_000 },
            None,
        )
        .unwrap();
        assert_eq!(
            (six[40], six[41], &six[44..48]),
            (2, 0, &[0, 1, 0x11, 0x70][..])
        );
        let clamped = answer(
            &v4(6, 0x4000, A, B, &[0; 9]),
            Unreachable::PacketTooBig { mtu: 70_000 },
            None,
        )
        .unwrap();
        assert_eq!(&clamped[26..28], &[0xff, 0xff]);
    }

    #[test]
    fn no_ipv6_sender_is_told_of_less_than_1280() {
        let packet = v6(6, "fd00::1", "fd00::9", &[0; 1400]);
        for (mtu, said) in [(0, 1280), (1279, 1280), (1280, 1280), (1281, 1281)] {
            let got = answer(&packet, Unreachable::PacketTooBig { mtu }, None).unwrap();
            assert_eq!(got[44..48], u32::to_be_bytes(said));
        }
    }

    #[test]
    fn what_is_held_down_is_said_to_be_prohibited() {
        let why = Unreachable::AdminProhibited;
        let four = answer(&v4(17, 0, A, B, &[0; 8]), why, None).unwrap();
        assert_eq!(four[20..22], [3, 13]);
        let six = answer(&v6(17, "fd00::1", "fd00::9", &[0; 8]), why, None).unwrap();
        assert_eq!(six[40..42], [1, 1]);
        // It is an error like the others: never answered itself.
        assert_eq!(answer(&four, why, None), None);
        assert_eq!(answer(&six, why, None), None);
    }

    #[test]
    fn the_answer_comes_from_the_destination_when_nothing_better_is_known() {
        let packet = v4(17, 0, A, B, &[0; 8]);
        for from in [None, Some("fd00::1"), Some("0.0.0.0"), Some("224.0.0.1")] {
            let got = answer(&packet, HOST, from).unwrap();
            assert_eq!(ip::source(&got), Some(IpAddr::from(B)), "{from:?}");
        }
        let six = v6(17, "fd00::1", "fd00::9", &[0; 8]);
        for from in [None, Some("10.0.0.1"), Some("::")] {
            assert_eq!(
                ip::source(&answer(&six, HOST, from).unwrap()),
                Some("fd00::9".parse().unwrap())
            );
        }
    }

    #[test]
    fn the_quote_is_bounded_and_padding_is_not_quoted() {
        for body in [0usize, 1, 527, 528, 529, 1191, 1192, 1193, 60_000] {
            let four = answer(&v4(17, 0, A, B, &vec![7; body]), HOST, None).unwrap();
            assert_eq!(four.len(), (28 + 20 + body).min(576));
            assert!(checksum::sum(&four[20..]).verifies());
            assert_eq!(ip::total_len(&four), Ok(four.len()));
            let six = answer(&v6(17, "fd00::1", "fd00::9", &vec![7; body]), HOST, None).unwrap();
            assert_eq!(six.len(), (48 + 40 + body).min(1280));
            let sum = checksum::sum(&six[8..40])
                .word(58)
                .word((six.len() - 40) as u16);
            assert!(sum.bytes(&six[40..]).verifies());
        }
        let mut padded = v4(17, 0, A, B, &[1; 8]);
        padded.extend([0; 4]);
        assert_eq!(answer(&padded, HOST, None).unwrap().len(), 28 + 28);
    }

    #[test]
    fn what_must_not_be_answered_is_not() {
        let refused = |p: &[u8]| answer(p, HOST, None).is_none();
        for source in [
            [0, 0, 0, 0],
            [0, 1, 2, 3],
            [127, 0, 0, 1],
            [224, 0, 0, 5],
            [255; 4],
            [240, 0, 0, 1],
        ] {
            assert!(refused(&v4(17, 0, source, B, &[0; 8])), "{source:?}");
        }
        for destination in [[224, 0, 0, 251], [239, 1, 1, 1], [255; 4]] {
            assert!(
                refused(&v4(17, 0, A, destination, &[0; 8])),
                "{destination:?}"
            );
        }
        assert!(refused(&v4(17, 1, A, B, &[0; 8])), "later fragment");
        assert!(!refused(&v4(17, 0x2000, A, B, &[0; 8])), "first fragment");
        for kind in 0..=255u8 {
            let informational = matches!(kind, 0 | 8 | 9 | 10 | 13..=18);
            assert_eq!(
                refused(&v4(1, 0, A, B, &[kind, 0, 0, 0])),
                !informational,
                "type {kind}"
            );
            let informational = kind >= 128 && kind != 137;
            assert_eq!(
                refused(&v6(58, "fd00::1", "fd00::9", &[kind, 0, 0, 0])),
                !informational,
                "v6 type {kind}"
            );
        }
        assert!(refused(&v4(1, 0, A, B, &[])), "ICMP without its type");
        assert!(refused(&v6(58, "fd00::1", "fd00::9", &[])));
        // An error hidden behind a destination-options header is still an error.
        assert!(refused(&v6(
            60,
            "fd00::1",
            "fd00::9",
            &[58, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
        )));
        for source in ["::", "ff02::1", "::1"] {
            assert!(refused(&v6(17, source, "fd00::9", &[0; 8])), "{source}");
        }
        assert!(refused(&v6(17, "fd00::1", "ff02::fb", &[0; 8])));
        assert!(
            refused(&v6(44, "fd00::1", "fd00::9", &[17, 0, 0, 8, 0, 0, 0, 0])),
            "later fragment"
        );
    }

    #[test]
    fn every_truncation_and_every_other_version_is_silent() {
        for packet in [
            v4(17, 0, A, B, &[0; 8]),
            v6(17, "fd00::1", "fd00::9", &[0; 8]),
        ] {
            for len in 0..packet.len() {
                assert_eq!(answer(&packet[..len], HOST, None), None);
            }
            for other in (0..16u8).filter(|v| *v != 4 && *v != 6) {
                let mut p = packet.clone();
                p[0] = other << 4 | p[0] & 15;
                assert_eq!(answer(&p, HOST, None), None);
            }
        }
    }
}
