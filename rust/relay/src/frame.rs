//! What a frame is, as far as blocking needs to know: never fails, anything unknown is `Kind::Other`.

const ETHERNET: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86DD;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const IGMP: u8 = 2;
const UDP: u8 = 17;

/// RFC 792, RFC 1191: destination unreachable, fragmentation needed.
const FRAGMENTATION_NEEDED: [u8; 2] = [3, 4];
/// RFC 4443 3.2.
const PACKET_TOO_BIG: u8 = 2;

/// IPv6 extension headers that may stand before the transport header, at most so many; more is not read on.
const MAX_EXTENSIONS: usize = 4;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ARP, NDP and reports of multicast listeners: what a local link says to itself.
    Neighbours,
    /// An IP packet: its protocol (GRE is 47, IPv4 in IP 4, IPv6 in IP 41; behind extension headers too), its UDP ports where
    /// it has any (not in later fragments), whether it is the ICMP that path MTU discovery lives on, and its size without
    /// Ethernet.
    Ip {
        protocol: u8,
        udp_ports: Option<(u16, u16)>,
        too_big: bool,
        size_bytes: usize,
    },
    Other,
}

/// Read *frame*, an Ethernet frame without VLAN tag.
pub fn classify(frame: &[u8]) -> Kind {
    match be16(frame, 12) {
        Some(ETHERTYPE_ARP) => Kind::Neighbours,
        Some(ETHERTYPE_IPV4) => ipv4(&frame[ETHERNET..]).unwrap_or(Kind::Other),
        Some(ETHERTYPE_IPV6) => ipv6(&frame[ETHERNET..]).unwrap_or(Kind::Other),
        _ => Kind::Other,
    }
}

fn ipv4(packet: &[u8]) -> Option<Kind> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let protocol = *packet.get(9)?;
    if protocol == IGMP {
        return Some(Kind::Neighbours);
    }
    let fragment_offset = be16(packet, 6)? & 0x1fff;
    let first = fragment_offset == 0;
    let udp_ports = if protocol == UDP && first {
        ports(packet, header)
    } else {
        None
    };
    let too_big =
        protocol == ICMP && first && packet.get(header..header + 2) == Some(&FRAGMENTATION_NEEDED);
    Some(Kind::Ip {
        protocol,
        udp_ports,
        too_big,
        size_bytes: packet.len(),
    })
}

fn ipv6(packet: &[u8]) -> Option<Kind> {
    let mut protocol = *packet.get(6)?;
    let mut at = 40;
    for _ in 0..MAX_EXTENSIONS {
        match protocol {
            0 | 43 | 60 => {
                protocol = *packet.get(at)?;
                at += 8 + usize::from(*packet.get(at + 1)?) * 8;
            }
            44 => {
                let later = be16(packet, at + 2)? & 0xfff8 != 0;
                protocol = *packet.get(at)?;
                at += 8;
                if later {
                    at = packet.len(); // no transport header follows
                }
            }
            _ => break,
        }
    }
    if protocol == ICMPV6
        && packet
            .get(at)
            .is_some_and(|kind| matches!(kind, 130..=137 | 143))
    {
        return Some(Kind::Neighbours);
    }
    let udp_ports = if protocol == UDP {
        ports(packet, at)
    } else {
        None
    };
    let too_big = protocol == ICMPV6 && packet.get(at) == Some(&PACKET_TOO_BIG);
    Some(Kind::Ip {
        protocol,
        udp_ports,
        too_big,
        size_bytes: packet.len(),
    })
}

fn ports(packet: &[u8], at: usize) -> Option<(u16, u16)> {
    Some((be16(packet, at)?, be16(packet, at + 2)?))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn udp4(source: u16, target: u16, fragment: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0];
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, UDP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        packet.extend(source.to_be_bytes());
        packet.extend(target.to_be_bytes());
        packet.extend([0, 8, 0, 0]);
        packet
    }

    #[test]
    fn ipv4_udp_has_ports_unless_it_is_a_later_fragment() {
        let first = classify(&ethernet(ETHERTYPE_IPV4, &udp4(1000, 51820, 0x2000)));
        assert_eq!(
            first,
            Kind::Ip {
                protocol: 17,
                udp_ports: Some((1000, 51820)),
                too_big: false,
                size_bytes: 28
            }
        );
        let later = classify(&ethernet(ETHERTYPE_IPV4, &udp4(1000, 51820, 0x0004)));
        assert_eq!(
            later,
            Kind::Ip {
                protocol: 17,
                udp_ports: None,
                too_big: false,
                size_bytes: 28
            }
        );
    }

    #[test]
    fn ipv6_extension_headers_are_walked() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 16, 60, 64];
        packet.extend([0; 32]);
        packet.extend([UDP, 0, 0, 0, 0, 0, 0, 0]); // destination options, 8 bytes
        packet.extend([0x12, 0x34, 0, 53, 0, 8, 0, 0]);
        let found = classify(&ethernet(ETHERTYPE_IPV6, &packet));
        assert_eq!(
            found,
            Kind::Ip {
                protocol: 17,
                udp_ports: Some((0x1234, 53)),
                too_big: false,
                size_bytes: 56
            }
        );
    }

    #[test]
    fn neighbours_are_arp_and_ndp_and_nothing_else() {
        assert_eq!(
            classify(&ethernet(ETHERTYPE_ARP, &[0; 28])),
            Kind::Neighbours
        );
        let icmp6 = |kind: u8| {
            let mut packet = vec![0x60, 0, 0, 0, 0, 4, ICMPV6, 255];
            packet.extend([0; 32]);
            packet.extend([kind, 0, 0, 0]);
            classify(&ethernet(ETHERTYPE_IPV6, &packet))
        };
        assert_eq!(icmp6(135), Kind::Neighbours);
        assert_eq!(icmp6(143), Kind::Neighbours);
        assert!(matches!(icmp6(128), Kind::Ip { protocol: 58, .. }));
    }

    /// A packet of *protocol* over IPv4, and over IPv6 behind the destination options that Linux sends with a tunnel.
    fn both(protocol: u8, payload: &[u8]) -> [Vec<u8>; 2] {
        let mut v4 = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        v4.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        v4.extend(payload);
        let mut v6 = vec![0x60, 0, 0, 0, 0, 0, 60, 64];
        v6.extend([0; 32]);
        v6.extend([protocol, 0, 4, 1, 4, 1, 0, 0]);
        v6.extend(payload);
        [ethernet(ETHERTYPE_IPV4, &v4), ethernet(ETHERTYPE_IPV6, &v6)]
    }

    #[test]
    fn tunnels_without_ports_are_known_by_their_protocol() {
        for number in [47, 4, 41] {
            for frame in both(number, &[0, 0, 8, 0, 0x45]) {
                assert!(matches!(
                    classify(&frame),
                    Kind::Ip { protocol, udp_ports: None, too_big: false, .. } if protocol == number
                ));
            }
        }
    }

    #[test]
    fn too_big_is_told_from_other_icmp() {
        let too_big = |frame: &[u8]| matches!(classify(frame), Kind::Ip { too_big: true, .. });
        let [needed, _] = both(ICMP, &[3, 4, 0, 0, 0, 0, 5, 120]);
        let [_, packet_too_big] = both(ICMPV6, &[2, 0, 0, 0, 0, 0, 5, 120]);
        assert!(too_big(&needed));
        assert!(too_big(&packet_too_big));
        let mut later = needed.clone();
        later[ETHERNET + 7] = 9; // a later fragment has no ICMP header
        assert!(!too_big(&later));
        for payload in [[3, 3], [8, 0], [11, 0]] {
            assert!(!too_big(&both(ICMP, &payload)[0]));
        }
        assert!(!too_big(&both(ICMPV6, &[1, 4])[1]));
        assert!(!too_big(&both(UDP, &[3, 4])[0]));
    }

    #[test]
    fn every_truncation_is_harmless() {
        for packet in [
            both(ICMP, &[3, 4])[0].clone(),
            both(ICMPV6, &[2, 0])[1].clone(),
            ethernet(ETHERTYPE_IPV4, &udp4(1, 2, 0)),
            ethernet(ETHERTYPE_IPV6, &[0x60; 64]),
            ethernet(ETHERTYPE_IPV6, &[44; 64]),
            ethernet(0x1234, &[0; 4]),
        ] {
            for end in 0..packet.len() {
                let _ = classify(&packet[..end]);
            }
        }
    }
}
