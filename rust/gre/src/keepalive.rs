//! Keepalives, told from data. Cisco's: GRE protocol 0 with nothing inside comes back to who sent it, wrapped in a packet that
//! the far end only has to route. MikroTik's over IPv6 has 0x86DD instead of 0.
//!
//! ```text
//! asked    IP (them to us) | GRE 0x0800 or 0x86DD | IP (us to them), protocol 47 | GRE 0 or 0x86DD | nothing
//! returned IP (them to us) | GRE 0 or 0x86DD | nothing
//! ```
//!
//! What is asked for is a packet with our address as its source, sent by us to the one who asked. To be nobody's reflector we ask
//! it to be exactly that: from our end to the peer's end of this tunnel, GRE with nothing inside, no options, no extension
//! headers, no fragment. The GRE header inside may have a key, a checksum and a sequence number.

use std::net::IpAddr;

use ginnel_packet::checksum;
use ginnel_packet::ip::{self, Fragment, Ip};

use crate::demux::GRE;
use crate::header::{self, Header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keepalive {
    /// Ours came back: GRE without payload (protocol 0, or 0x86DD).
    Returned,
    /// The peer's: inside is a packet from us (its destination's address) to the peer, protocol 47, that it wants back.
    Asked,
    No,
}

/// *payload* is what follows the GRE header; *local* and *remote* are those of the delivery header.
///
/// `Asked` only when the inner packet goes from *local* to *remote* exactly, is GRE, and has nothing inside: whatever else it is,
/// we are nobody's reflector.
#[inline]
pub fn recognise(header: &Header, payload: &[u8], local: IpAddr, remote: IpAddr) -> Keepalive {
    match header.protocol {
        header::KEEPALIVE | header::IPV6 if payload.is_empty() => Keepalive::Returned,
        // Nearly every packet of data is settled here, by one byte.
        header::IPV4 | header::IPV6 if !carries_gre(payload) => Keepalive::No,
        header::IPV4 | header::IPV6 if asks(payload, local, remote) => Keepalive::Asked,
        _ => Keepalive::No,
    }
}

/// An IPv6 header and the longest GRE header. What follows the packet that is asked for is not its part: there is as much of it
/// as the sender wants to know whether the path carries.
const MAX_ASKED: usize = ip::V6_HEADER + header::MAX_LEN;

#[inline]
fn carries_gre(packet: &[u8]) -> bool {
    let at = if packet.first().is_some_and(|first| first >> 4 == 6) {
        6
    } else {
        9
    };
    packet.get(at) == Some(&GRE)
}

fn asks(payload: &[u8], local: IpAddr, remote: IpAddr) -> bool {
    let Ok(total) = ip::total_len(payload) else {
        return false;
    };
    if total > MAX_ASKED {
        return false;
    }
    let packet = &payload[..total];
    if ip::source(packet) != Some(local) || ip::destination(packet) != Some(remote) {
        return false;
    }
    let Some(at) = ip::layout(packet) else {
        return false;
    };
    let bare = match at.ip {
        // The kernel writes the checksum of what we send anew: a wrong one would be laundered.
        Ip::V4 => at.transport == ip::V4_HEADER && checksum::sum(&packet[..20]).verifies(),
        Ip::V6 => at.transport == ip::V6_HEADER,
    };
    if !bare || at.protocol != GRE || at.fragment != Fragment::Whole {
        return false;
    }
    let inner = &packet[at.transport..];
    header::parse(inner).is_ok_and(|found| {
        found.len == inner.len()
            && matches!(found.protocol, header::KEEPALIVE | header::IPV6)
            && header::checksum_verifies(inner)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tests::{seal, v4, v6};

    fn head(protocol: u16) -> Header {
        Header {
            protocol,
            checksum: false,
            key: None,
            sequence: None,
            len: 4,
        }
    }

    /// The ends of the packets that `v4` and `v6` build: from us to the peer.
    fn ends(v6: bool) -> (IpAddr, IpAddr) {
        if v6 {
            ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
        } else {
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())
        }
    }

    fn of(protocol: u16, payload: &[u8]) -> Keepalive {
        let (local, remote) = ends(payload.first().is_some_and(|b| b >> 4 == 6));
        recognise(&head(protocol), payload, local, remote)
    }

    fn gre(protocol: u16, checksum: bool, key: Option<u32>, sequence: Option<u32>) -> Vec<u8> {
        let mut out = [0; 16];
        let len = header::write(&mut out, protocol, checksum, key, sequence);
        header::set_checksum(&mut out[..len]);
        out[..len].to_vec()
    }

    #[test]
    fn ours_comes_back_with_nothing_inside_in_both_dialects() {
        assert_eq!(of(0, &[]), Keepalive::Returned);
        assert_eq!(of(0x86dd, &[]), Keepalive::Returned);
        assert_eq!(of(0x0800, &[]), Keepalive::No);
        assert_eq!(of(0x6558, &[]), Keepalive::No);
        assert_eq!(of(0, &[0]), Keepalive::No);
    }

    #[test]
    fn ciscos_24_bytes_are_asked_back() {
        let mut inner = v4(0, 47, &[0, 0, 0, 0]);
        inner[8] = 255;
        seal(&mut inner);
        assert_eq!(inner.len(), 24);
        assert_eq!(of(0x0800, &inner), Keepalive::Asked);
        assert_eq!(of(0x86dd, &v6(0, 47, &[0, 0, 0, 0])), Keepalive::Asked);
    }

    #[test]
    fn mikrotiks_dialect_over_ipv6_is_asked_back() {
        assert_eq!(
            of(0x86dd, &v6(0, 47, &[0, 0, 0x86, 0xdd])),
            Keepalive::Asked
        );
    }

    #[test]
    fn the_inner_header_may_have_key_checksum_and_sequence() {
        for bits in 0..8u8 {
            let inner = gre(
                0,
                bits & 1 != 0,
                (bits & 2 != 0).then_some(7),
                (bits & 4 != 0).then_some(3),
            );
            assert_eq!(of(0x0800, &v4(0, 47, &inner)), Keepalive::Asked, "{bits}");
            assert_eq!(of(0x86dd, &v6(0, 47, &inner)), Keepalive::Asked, "{bits}");
        }
        let mut wrong = gre(0, true, None, None);
        wrong[4] ^= 1;
        assert_eq!(of(0x0800, &v4(0, 47, &wrong)), Keepalive::No);
    }

    #[test]
    fn trailing_bytes_behind_the_inner_packet_do_not_matter() {
        let mut inner = v4(0, 47, &[0; 4]);
        inner.extend([0; 22]);
        assert_eq!(of(0x0800, &inner), Keepalive::Asked);
        inner.resize(8952, 0);
        assert_eq!(of(0x0800, &inner), Keepalive::Asked, "a probe of the path");
        let mut inner = v6(0, 47, &[0, 0, 0x86, 0xdd]);
        inner.resize(1456, 0);
        assert_eq!(of(0x86dd, &inner), Keepalive::Asked, "likewise");
    }

    #[test]
    fn we_are_nobodys_reflector() {
        let right = v4(0, 47, &[0; 4]);
        let (us, peer) = ends(false);
        let stranger: IpAddr = "10.9.9.9".parse().unwrap();
        let ask = |local, remote| recognise(&head(0x0800), &right, local, remote);
        assert_eq!(ask(us, peer), Keepalive::Asked);
        assert_eq!(ask(stranger, peer), Keepalive::No, "not from our end");
        assert_eq!(ask(us, stranger), Keepalive::No, "not to who asked");
        assert_eq!(ask(peer, us), Keepalive::No, "the other way round");
        for (at, value, why) in [
            (9, 1, "not GRE"),
            (6, 0x20, "a fragment"),
            (7, 1, "a later fragment"),
            (22, 8, "data inside"),
            (21, 1, "another version"),
            (20, 0x40, "routing"),
        ] {
            let mut other = right.clone();
            other[at] = value;
            seal(&mut other);
            assert_eq!(of(0x0800, &other), Keepalive::No, "{why}");
        }
        let mut damaged = right.clone();
        damaged[8] ^= 1;
        assert_eq!(
            of(0x0800, &damaged),
            Keepalive::No,
            "checksum of the inner header"
        );
        assert_eq!(
            of(0x0800, &v4(0, 47, &[0; 5])),
            Keepalive::No,
            "something inside"
        );
        let mut routed = right.clone();
        routed[0] = 0x46;
        routed[3] = 28;
        routed.splice(20..20, [131, 3, 4, 0]);
        seal(&mut routed);
        assert_eq!(of(0x0800, &routed), Keepalive::No, "source route");
        let extended = v6(0, 60, &[47, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(of(0x86dd, &extended), Keepalive::No, "extension header");
    }

    #[test]
    fn every_truncation_is_data() {
        for (protocol, whole) in [
            (0x0800, v4(0, 47, &gre(0, true, Some(1), Some(2)))),
            (0x86dd, v6(0, 47, &gre(0, true, Some(1), Some(2)))),
        ] {
            assert_eq!(of(protocol, &whole), Keepalive::Asked);
            for len in 1..whole.len() {
                assert_eq!(of(protocol, &whole[..len]), Keepalive::No, "{len}");
            }
        }
    }
}
