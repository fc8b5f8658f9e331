//! What an ICMP error quotes: enough of our own packet to know the tunnel, never more than is there.
//!
//! Only the IP header and eight bytes behind it are sure to be quoted (RFC 792): with them the key is seen if there is no
//! checksum before it, and the UDP ports. A total length says what was sent, not what is quoted, and is not looked at. What
//! is quoted may be invented: it names a tunnel that is alive or it is dropped by who asked.

use std::net::IpAddr;

use ginnel_packet::ip::{self, Fragment, PROTO_UDP};

use crate::demux::{GRE, IPV4_IN_IP, IPV6_IN_IP};

/// The delivery packet of ours that an error is about, as far as it was quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    pub local: IpAddr,
    pub remote: IpAddr,
    /// 47, 4, 41 or 17.
    pub protocol: u8,
    /// Some(None): the GRE header was quoted and has no key; None: too little was quoted to tell.
    pub key: Option<Option<u32>>,
    /// The first two bytes of the GRE header, when quoted: what it has, and its version.
    pub flags: Option<u16>,
    /// UDP ports (source, destination), when quoted.
    pub ports: Option<(u16, u16)>,
}

/// Reads a quoted packet that begins with its IP header; extension headers of IPv6 are walked within bounds.
pub fn parse(packet: &[u8]) -> Option<Quoted> {
    let at = ip::layout(packet)?;
    if !matches!(at.protocol, GRE | IPV4_IN_IP | IPV6_IN_IP | PROTO_UDP) {
        return None;
    }
    // Nobody tells an error about a later fragment (RFC 1122 3.2.2), and anything could be its middle.
    if at.fragment == Fragment::Later {
        return None;
    }
    let transport = packet.get(at.transport..)?;
    let (ports, gre) = match at.protocol {
        GRE => (None, Some(transport)),
        PROTO_UDP => (ports(transport), transport.get(8..)),
        _ => (None, None),
    };
    Some(Quoted {
        local: ip::source(packet)?,
        remote: ip::destination(packet)?,
        protocol: at.protocol,
        key: gre.and_then(key),
        flags: gre.and_then(flags),
        ports,
    })
}

fn ports(udp: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *udp.first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// What is there of a GRE header says that it has; None when too little is there.
pub fn flags(gre: &[u8]) -> Option<u16> {
    gre.first_chunk::<2>().copied().map(u16::from_be_bytes)
}

/// The key in what is there of a GRE header: Some(None) when it has none, None when too little is there to tell.
pub fn key(gre: &[u8]) -> Option<Option<u32>> {
    let flags = flags(gre)?;
    // Not a header that we write.
    if flags & 0x4007 != 0 {
        return None;
    }
    if flags & 0x2000 == 0 {
        return Some(None);
    }
    let at = if flags & 0x8000 == 0 { 4 } else { 8 };
    let bytes = gre.get(at..)?.first_chunk::<4>()?;
    Some(Some(u32::from_be_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tests::{v4, v6};

    /// As a router quotes it: header and eight bytes, whatever the total length says.
    fn cut(packet: &[u8], header: usize) -> &[u8] {
        &packet[..header + 8]
    }

    #[test]
    fn eight_bytes_are_enough_for_addresses_protocol_and_a_key_without_checksum() {
        let gre = [0x20, 0, 8, 0, 0, 0, 0, 7, 0x45, 0, 0, 20];
        let expected = Quoted {
            local: "10.0.0.1".parse().unwrap(),
            remote: "10.0.0.2".parse().unwrap(),
            protocol: 47,
            key: Some(Some(7)),
            flags: Some(0x2000),
            ports: None,
        };
        assert_eq!(parse(cut(&v4(0, 47, &gre), 20)), Some(expected));
        let six = Quoted {
            local: "fd00::1".parse().unwrap(),
            remote: "fd00::2".parse().unwrap(),
            ..expected
        };
        assert_eq!(parse(cut(&v6(0, 47, &gre), 40)), Some(six));
    }

    #[test]
    fn no_key_is_told_from_not_seen() {
        let key_of = |gre: &[u8]| parse(&v4(0, 47, gre)).unwrap().key;
        assert_eq!(key_of(&[0, 0, 8, 0]), Some(None));
        assert_eq!(key_of(&[0x90, 0, 8, 0, 1, 2, 0, 0]), Some(None));
        assert_eq!(key_of(&[0x20, 0, 8, 0, 0, 0, 0]), None);
        // Behind a checksum it lies in bytes 8 to 12.
        let both = [0xa0, 0, 8, 0, 1, 2, 0, 0, 0, 0, 0, 9];
        for len in 2..12 {
            assert_eq!(key_of(&both[..len]), None, "{len}");
        }
        assert_eq!(key_of(&both), Some(Some(9)));
        assert_eq!(key_of(&[0]), None);
        assert_eq!(key_of(&[]), None);
        assert_eq!(key_of(&[0x00, 1, 8, 0]), None, "not version 0");
    }

    #[test]
    fn udp_shows_its_ports_and_the_gre_header_if_it_is_there() {
        let udp = [
            0x12, 0x34, 0x12, 0x92, 0, 40, 0, 0, 0x20, 0, 8, 0, 0, 0, 0, 5,
        ];
        let found = parse(&v4(0, 17, &udp)).unwrap();
        assert_eq!(
            (found.ports, found.key),
            (Some((0x1234, 4754)), Some(Some(5)))
        );
        let whole = v4(0, 17, &udp);
        let short = parse(cut(&whole, 20)).unwrap();
        assert_eq!((short.ports, short.key), (Some((0x1234, 4754)), None));
        assert_eq!(parse(&whole[..23]).unwrap().ports, None);
    }

    #[test]
    fn options_and_extension_headers_are_passed() {
        let mut with_options = v4(0, 47, &[0, 0, 8, 0]);
        with_options[0] = 0x47;
        with_options.splice(20..20, [7, 7, 4, 0, 0, 0, 0, 0]);
        assert_eq!(parse(&with_options).unwrap().key, Some(None));
        // Linux's own default over IPv6.
        let limited = v6(0, 60, &[47, 0, 4, 1, 4, 1, 1, 0, 0x20, 0, 8, 0, 0, 0, 0, 3]);
        assert_eq!(parse(&limited).unwrap().key, Some(Some(3)));
        let mut many = Vec::new();
        for _ in 0..8 {
            many.extend([60, 0, 1, 4, 0, 0, 0, 0]);
        }
        many.extend([47, 0, 1, 4, 0, 0, 0, 0, 0, 0, 8, 0]);
        assert_eq!(parse(&v6(0, 60, &many)), None, "nine headers");
        assert_eq!(parse(&limited[..47]), None, "an extension cut off");
    }

    #[test]
    fn a_later_fragment_is_nothing() {
        let mut fragment = v4(0, 47, &[0x20, 0, 8, 0, 0, 0, 0, 7]);
        fragment[6] = 0x20;
        assert_eq!(parse(&fragment).unwrap().key, Some(Some(7)), "the first");
        fragment[7] = 9;
        assert_eq!(parse(&fragment), None);
    }

    #[test]
    fn flags_are_shown_as_they_are_quoted() {
        let flags_of = |gre: &[u8]| parse(&v4(0, 47, gre)).unwrap().flags;
        assert_eq!(flags_of(&[0xb0, 7, 8, 0]), Some(0xb007));
        assert_eq!(flags_of(&[0xb0]), None);
        assert_eq!(parse(&v4(0, 4, &[0x45; 20])).unwrap().flags, None);
    }

    #[test]
    fn what_is_not_one_of_ours_is_nothing() {
        for protocol in [1, 6, 50, 58, 97] {
            assert_eq!(parse(&v4(0, protocol, &[0; 20])), None, "{protocol}");
        }
        for protocol in [4, 41] {
            let found = parse(&v4(0, protocol, &[0x45; 20])).unwrap();
            assert_eq!(
                (found.protocol, found.key, found.ports),
                (protocol, None, None)
            );
        }
        let whole = v4(0, 47, &[0; 8]);
        for len in 0..20 {
            assert_eq!(parse(&whole[..len]), None, "{len}");
        }
    }
}
