//! IPv4 and IPv6 headers, as far as a tunnel must read them: length, addresses, the way to the transport header, padding.
//!
//! Rules. [`total_len`] is the gate: after it said `Ok(n)`, `packet[..n]` has a whole IP header and what lies behind `n` is
//! padding. The cheap accessors check only that the bytes they read exist, so they may be called before or after it.
//! The walk over IPv6 extension headers is bounded in headers, hence in time, and never leaves the packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP protocol numbers read here (IANA).
pub const PROTO_ICMP: u8 = 1;
/// TCP.
pub const PROTO_TCP: u8 = 6;
/// UDP.
pub const PROTO_UDP: u8 = 17;
/// `ICMPv6`.
pub const PROTO_ICMPV6: u8 = 58;

/// Extension headers that are followed before giving up. RFC 8200 4.1 names six kinds, each at most once but for destination
/// options, at most twice; more is an attack or a mistake.
pub const MAX_EXTENSIONS: usize = 8;

/// WireGuard pads plaintext to a multiple of this (paper 5.4.6).
pub const PADDING_MULTIPLE: usize = 16;

/// The fixed part of an IPv4 header.
pub const V4_HEADER: usize = 20;
/// The fixed part of an IPv6 header.
pub const V6_HEADER: usize = 40;

/// Both addresses of a packet that has its fixed header, as they lie there: what a pseudo-header sums.
#[inline]
pub(crate) fn v4_addresses(packet: &[u8]) -> Option<&[u8; 8]> {
    packet.first_chunk::<V4_HEADER>()?.last_chunk()
}

/// Likewise for IPv6.
#[inline]
pub(crate) fn v6_addresses(packet: &[u8]) -> Option<&[u8; 32]> {
    packet.first_chunk::<V6_HEADER>()?.last_chunk()
}

/// Which Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
}

/// Why bytes are not a packet to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpError {
    /// Empty, or the version is neither 4 nor 6.
    NotIp,
    /// Too short for its header, or its lengths contradict each other.
    Malformed,
}

/// The version a packet claims in its first four bits.
pub fn version(packet: &[u8]) -> Option<Ip> {
    match packet.first()? >> 4 {
        4 => Some(Ip::V4),
        6 => Some(Ip::V6),
        _ => None,
    }
}

/// The packet's own length: header whole, header <= total <= what is there. What remains behind it is padding.
pub fn total_len(packet: &[u8]) -> Result<usize, IpError> {
    match version(packet).ok_or(IpError::NotIp)? {
        Ip::V4 => {
            let h = packet
                .first_chunk::<V4_HEADER>()
                .ok_or(IpError::Malformed)?;
            let header = (h[0] & 15) as usize * 4;
            let total = u16::from_be_bytes([h[2], h[3]]) as usize;
            let fits = header >= V4_HEADER && header <= total && total <= packet.len();
            fits.then_some(total).ok_or(IpError::Malformed)
        }
        Ip::V6 => {
            let h = packet
                .first_chunk::<V6_HEADER>()
                .ok_or(IpError::Malformed)?;
            let total = V6_HEADER + u16::from_be_bytes([h[4], h[5]]) as usize;
            (total <= packet.len())
                .then_some(total)
                .ok_or(IpError::Malformed)
        }
    }
}

/// The destination address; `None` when the fixed header is not there.
#[inline]
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    match version(packet)? {
        Ip::V4 => v4_address(packet, 16),
        Ip::V6 => v6_address(packet, 24),
    }
}

/// The source address; `None` when the fixed header is not there.
#[inline]
pub fn source(packet: &[u8]) -> Option<IpAddr> {
    match version(packet)? {
        Ip::V4 => v4_address(packet, 12),
        Ip::V6 => v6_address(packet, 8),
    }
}

/// The length after WireGuard's padding of a packet of `len` bytes on a device of this MTU (0: no limit known).
///
/// Padding goes to the next multiple of 16 but never makes a packet that fitted exceed the MTU. A packet longer than the
/// MTU counts modulo the MTU, as the kernel does, so that its last part is padded by the same rule.
/// Source: paper 5.4.6; `calculate_skb_padding` in the kernel's `send.c` for the edges.
#[inline]
pub fn padded_len(len: usize, mtu: usize) -> usize {
    let last = if mtu != 0 && len > mtu {
        len % mtu
    } else {
        len
    };
    let aligned = last
        .checked_next_multiple_of(PADDING_MULTIPLE)
        .unwrap_or(last);
    let padded = if mtu == 0 { aligned } else { aligned.min(mtu) };
    len.saturating_add(padded - last)
}

/// Whether a packet is a fragment, and whether the transport header is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Not a fragment.
    Whole,
    /// With the beginning of the payload, its transport header.
    First,
    /// Without.
    Later,
}

/// Where the transport header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The version.
    pub ip: Ip,
    /// Offset of the first byte behind the IP header and its options or extensions; at most the packet's length.
    pub transport: usize,
    /// What begins there, but for a later fragment.
    pub protocol: u8,
    /// Whether this is all of the packet.
    pub fragment: Fragment,
    /// An IPv6 routing header was passed: the pseudo-header's destination is then not the header's.
    pub routed: bool,
}

/// Walks to the transport header of a packet that `total_len` accepted and that is trimmed to it. `None` when an extension
/// header overruns the packet or there are more than `MAX_EXTENSIONS`.
pub fn layout(packet: &[u8]) -> Option<Layout> {
    match version(packet)? {
        Ip::V4 => {
            let h = packet.first_chunk::<V4_HEADER>()?;
            let transport = (h[0] & 15) as usize * 4;
            let offset_and_more = u16::from_be_bytes([h[6], h[7]]) & 0x3fff;
            let fragment = fragment_of(offset_and_more & 0x1fff, offset_and_more & 0x2000 != 0);
            (transport >= V4_HEADER && transport <= packet.len()).then_some(Layout {
                ip: Ip::V4,
                transport,
                protocol: h[9],
                fragment,
                routed: false,
            })
        }
        Ip::V6 => walk_extensions(packet),
    }
}

fn fragment_of(offset: u16, more: bool) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    }
}

fn walk_extensions(packet: &[u8]) -> Option<Layout> {
    let h = packet.first_chunk::<V6_HEADER>()?;
    let mut at = Layout {
        ip: Ip::V6,
        transport: V6_HEADER,
        protocol: h[6],
        fragment: Fragment::Whole,
        routed: false,
    };
    for _ in 0..=MAX_EXTENSIONS {
        let units = match at.protocol {
            0 | 43 | 60 | 44 | 51 => packet.get(at.transport..)?.first_chunk::<8>()?,
            _ => return Some(at),
        };
        // Lengths in RFC 8200 4.3 and 4.5, RFC 4302 2.2 for the authentication header.
        let len = match at.protocol {
            44 => {
                let field = u16::from_be_bytes([units[2], units[3]]);
                at.fragment = fragment_of(field >> 3, field & 1 != 0);
                8
            }
            51 => (units[1] as usize + 2) * 4,
            _ => (units[1] as usize + 1) * 8,
        };
        at.routed |= at.protocol == 43;
        at.protocol = units[0];
        at.transport += len;
        if at.transport > packet.len() {
            return None;
        }
        // Behind a later fragment's header lies the middle of something, not headers.
        if at.fragment == Fragment::Later {
            return Some(at);
        }
    }
    None
}

fn v4_address(packet: &[u8], at: usize) -> Option<IpAddr> {
    packet
        .first_chunk::<V4_HEADER>()?
        .get(at..)?
        .first_chunk::<4>()
        .map(|a| IpAddr::V4(Ipv4Addr::from(*a)))
}

fn v6_address(packet: &[u8], at: usize) -> Option<IpAddr> {
    packet
        .first_chunk::<V6_HEADER>()?
        .get(at..)?
        .first_chunk::<16>()
        .map(|a| IpAddr::V6(Ipv6Addr::from(*a)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// 192.0.2.1 -> 198.51.100.2, ICMP, 24 bytes in all.
    const V4: [u8; 24] = [
        0x45, 0, 0, 24, 0, 0, 0x40, 0, 64, 1, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2, 8, 0, 0, 0,
    ];

    fn v6(next: u8, body: &[u8]) -> Vec<u8> {
        let mut p = vec![
            0x60,
            0,
            0,
            0,
            (body.len() >> 8) as u8,
            body.len() as u8,
            next,
            64,
        ];
        p.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        p.extend("2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
        p.extend(body);
        p
    }

    #[test]
    fn lengths_and_addresses_from_literal_bytes() {
        assert_eq!(total_len(&V4), Ok(24));
        assert_eq!(source(&V4), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(destination(&V4), Some("198.51.100.2".parse().unwrap()));
        let six = v6(58, &[128, 0, 0, 0]);
        assert_eq!(total_len(&six), Ok(44));
        assert_eq!(source(&six), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(destination(&six), Some("2001:db8::2".parse().unwrap()));
    }

    #[test]
    fn padding_behind_the_packet_is_not_the_packet() {
        let mut padded = V4.to_vec();
        padded.extend([0; 8]);
        assert_eq!(total_len(&padded), Ok(24));
        let mut six = v6(59, &[]);
        six.extend([0; 8]);
        assert_eq!(total_len(&six), Ok(40));
    }

    #[test]
    fn every_truncation_is_refused() {
        assert_eq!(total_len(&[]), Err(IpError::NotIp));
        for packet in [V4.to_vec(), v6(58, &[128, 0, 0, 0])] {
            for len in 1..packet.len() {
                assert_eq!(total_len(&packet[..len]), Err(IpError::Malformed), "{len}");
            }
        }
        assert_eq!(destination(&V4[..19]), None);
        assert_eq!(source(&v6(59, &[])[..39]), None);
    }

    #[test]
    fn one_bad_value_per_field() {
        for first in 0..=255u8 {
            let mut p = V4;
            p[0] = first;
            let expected = match (first >> 4, first & 15) {
                (4, 5 | 6) => Ok(24),
                (4 | 6, _) => Err(IpError::Malformed), // header length below 5 or beyond the packet; v6 needs 40 bytes
                _ => Err(IpError::NotIp),
            };
            assert_eq!(total_len(&p), expected, "{first:#x}");
        }
        for total in 0..=30u8 {
            let mut p = V4;
            p[3] = total;
            assert_eq!(total_len(&p).is_ok(), (20..=24).contains(&total), "{total}");
        }
        let mut p = V4;
        p[2] = 0xff;
        assert_eq!(total_len(&p), Err(IpError::Malformed));
        let mut six = v6(58, &[0; 4]);
        six[5] = 5;
        assert_eq!(total_len(&six), Err(IpError::Malformed));
    }

    #[test]
    fn extension_headers_are_walked_and_bounded() {
        let hop = |next| [next, 0, 0, 0, 0, 0, 0, 0];
        let one = v6(0, &[&hop(6)[..], &[0; 20]].concat());
        let at = layout(&one).unwrap();
        assert_eq!((at.transport, at.protocol, at.routed), (48, 6, false));
        let routed = layout(&v6(43, &[&hop(6)[..], &[0; 20]].concat())).unwrap();
        assert!(routed.routed);
        // Authentication header: (4 + 2) * 4 = 24 bytes.
        let mut ah = vec![17, 4];
        ah.extend([0; 30]);
        let at = layout(&v6(51, &ah)).unwrap();
        assert_eq!((at.transport, at.protocol), (64, 17));
        for n in 0..12 {
            let mut body = Vec::new();
            for i in 0..n {
                body.extend(hop(if i + 1 == n { 17 } else { 60 }));
            }
            let first = if n == 0 { 17 } else { 60 };
            assert_eq!(
                layout(&v6(first, &body)).is_some(),
                n <= MAX_EXTENSIONS,
                "{n} headers"
            );
        }
        // One that says it is longer than the packet.
        assert_eq!(layout(&v6(0, &[6, 1, 0, 0, 0, 0, 0, 0])), None);
        assert_eq!(layout(&v6(0, &[6, 0, 0, 0, 0, 0, 0])), None);
    }

    #[test]
    fn fragments_are_told_apart() {
        for (field, expected) in [
            (0x4000u16, Fragment::Whole),
            (0x2000, Fragment::First),
            (0x2001, Fragment::Later),
            (1, Fragment::Later),
        ] {
            let mut p = V4;
            p[6..8].copy_from_slice(&field.to_be_bytes());
            assert_eq!(layout(&p).unwrap().fragment, expected, "{field:#x}");
        }
        for (field, expected) in [
            (0u16, Fragment::Whole),
            (1, Fragment::First),
            (9, Fragment::Later),
            (8, Fragment::Later),
        ] {
            let [a, b] = field.to_be_bytes();
            let at = layout(&v6(44, &[6, 0, a, b, 0, 0, 0, 0, 1, 2])).unwrap();
            assert_eq!(
                (at.fragment, at.transport, at.protocol),
                (expected, 48, 6),
                "{field:#x}"
            );
        }
        // The bytes behind a later fragment's header are not read as an extension header.
        let at = layout(&v6(44, &[60, 0, 0, 8, 0, 0, 0, 0, 255, 255])).unwrap();
        assert_eq!(
            (at.fragment, at.transport, at.protocol),
            (Fragment::Later, 48, 60)
        );
    }

    #[test]
    fn r9_padding_length_table() {
        for (len, mtu, expected) in [
            (0, 1420, 0),
            (1, 1420, 16),
            (15, 1420, 16),
            (16, 1420, 16),
            (17, 1420, 32),
            (1408, 1420, 1408),
            (1409, 1420, 1420), // 1424 would exceed the MTU
            (1419, 1420, 1420),
            (1420, 1420, 1420),
            (1421, 1420, 1421 + 15), // beyond the MTU: 1 byte of a second part, padded to 16
            (1420 + 16, 1420, 1420 + 16),
            (2 * 1420, 1420, 2 * 1420),
            (2 * 1420 - 1, 1420, 2 * 1420),
            (1299, 1299, 1299),
            (1298, 1299, 1299),
            (1280, 1299, 1280),
            (1281, 1299, 1296),
            (1297, 1299, 1299),
            (100, 0, 112),
            (5, 1, 5),
            (65_535, 65_535, 65_535),
            (65_521, 65_535, 65_535),
            (65_519, 65_535, 65_520),
            (usize::MAX, 0, usize::MAX),
        ] {
            assert_eq!(padded_len(len, mtu), expected, "len {len} mtu {mtu}");
        }
    }

    #[test]
    fn r19_padding_holds_its_promises_for_every_mtu() {
        for mtu in 68..=65_535usize {
            for len in [
                0,
                1,
                20,
                67,
                68,
                mtu - 17,
                mtu - 16,
                mtu - 15,
                mtu - 1,
                mtu,
                mtu + 1,
                2 * mtu,
                65_535,
            ] {
                let padded = padded_len(len, mtu);
                assert!(
                    padded >= len && padded - len < PADDING_MULTIPLE,
                    "len {len} mtu {mtu}"
                );
                assert!(len > mtu || padded <= mtu, "len {len} mtu {mtu}");
                assert!(
                    len > mtu || padded == mtu || padded.is_multiple_of(PADDING_MULTIPLE),
                    "len {len} mtu {mtu}"
                );
            }
        }
    }
}
