//! The delivery header in front of ESP: what it copies from the packet inside, and writing it where we write it (raw protocol 50).
//!
//! ```text
//! raw   | IPv4 20 or IPv6 40, protocol 50 | ESP …
//! UDP   headers are the kernel's          | ESP …
//! ```
//! In transport mode the packet's own delivery header is the outer one: its fields are those of the encapsulation
//! ([`ginnel_gre::outer::fields`]). In tunnel mode they are made here (RFC 4301 5.1.2):
//!
//! | field | rule |
//! | --- | --- |
//! | TTL, hop limit | 64; the inner one is the sender's business |
//! | DSCP | the inner packet's, or 0 |
//! | ECN | the inner packet's, CE too (RFC 6040 4.1, normal mode) |
//! | DF | the inner packet's (IPv6: set, since nobody on the way fragments it), or set, or clear |
//! | flow label | 0: it would tell which packets belong together |

use std::net::IpAddr;

use ginnel_gre::outer::{self, Fields, DEFAULT_TTL};
use ginnel_packet::ecn;
use ginnel_packet::ip::{self, Ip};

/// ESP's number among the protocols.
pub const ESP: u8 = 50;

/// The DF bit of an IPv4 delivery header, in tunnel mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Df {
    Copy,
    Set,
    Clear,
}

/// What an SA in tunnel mode copies out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub dscp: bool,
    pub df: Df,
}

/// The fields for this inner packet. What is no IP packet shows nothing: 0, and DF unless cleared.
#[inline]
pub fn fields(rules: Rules, inner: &[u8]) -> Fields {
    let (tos, held) = match (ip::version(inner), inner) {
        (Some(Ip::V4), &[_, tos, _, _, _, _, flags, ..]) => (tos, flags & 0x40 != 0),
        (Some(Ip::V6), &[first, second, ..]) => (first << 4 | second >> 4, true),
        _ => (0, true),
    };
    Fields {
        ttl: DEFAULT_TTL,
        tos: if rules.dscp { tos } else { tos & ecn::MASK },
        df: match rules.df {
            Df::Copy => held,
            Df::Set => true,
            Df::Clear => false,
        },
        flow_label: 0,
    }
}

/// Bytes that [`write`] writes.
#[inline]
pub fn len(over_v6: bool) -> usize {
    if over_v6 {
        ip::V6_HEADER
    } else {
        ip::V4_HEADER
    }
}

/// Writes the delivery header in front of the ESP packet that lies behind it already, `packet` being both; *id* is IPv4's identification.
///
/// False: it must not be sent: no room, longer than a packet can be, or addresses of two families.
#[must_use]
#[inline]
pub fn write(local: IpAddr, remote: IpAddr, fields: Fields, id: u16, packet: &mut [u8]) -> bool {
    outer::write_delivery(local, remote, fields, id, ESP, packet)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tests::{v4, v6};

    const COPY: Rules = Rules {
        dscp: true,
        df: Df::Copy,
    };

    #[test]
    fn dscp_is_copied_or_hidden_and_ecn_always_copied_ce_too() {
        for ecn in 0..4 {
            for inner in [v4(0xb8 | ecn, 17, &[0; 8]), v6(0xb8 | ecn, 17, &[0; 8])] {
                assert_eq!(fields(COPY, &inner).tos, 0xb8 | ecn);
                let hidden = Rules {
                    dscp: false,
                    ..COPY
                };
                assert_eq!(fields(hidden, &inner).tos, ecn);
            }
        }
    }

    #[test]
    fn df_is_copied_or_set_or_cleared() {
        let free = v4(0, 17, &[0; 8]);
        let mut held = free.clone();
        held[6] |= 0x40;
        let six = v6(0, 17, &[0; 8]);
        for (df, expected) in [
            (Df::Copy, [false, true, true]),
            (Df::Set, [true; 3]),
            (Df::Clear, [false; 3]),
        ] {
            let rules = Rules { df, ..COPY };
            assert_eq!(
                [&free, &held, &six].map(|inner| fields(rules, inner).df),
                expected
            );
        }
    }

    #[test]
    fn ttl_is_64_and_the_flow_label_0_whatever_is_inside() {
        let mut six = v6(0, 17, &[0; 8]);
        six[1..4].copy_from_slice(&[0x0a, 0xbc, 0xde]);
        for inner in [
            v4(0, 17, &[0; 8]),
            six,
            vec![],
            vec![0x45; 6],
            vec![0xff; 60],
        ] {
            let made = fields(COPY, &inner);
            assert_eq!((made.ttl, made.flow_label), (64, 0));
        }
        let nothing = fields(COPY, &[0xff; 60]);
        assert_eq!((nothing.tos, nothing.df), (0, true));
    }

    #[test]
    fn the_header_is_whole_and_says_50() {
        for (local, remote) in [
            ("192.0.2.1", "198.51.100.2"),
            ("2001:db8::1", "2001:db8::2"),
        ] {
            let (local, remote): (IpAddr, IpAddr) =
                (local.parse().unwrap(), remote.parse().unwrap());
            let head = len(local.is_ipv6());
            let mut packet = vec![0xee; head + 40];
            let made = fields(COPY, &v4(0xb9, 17, &[0; 8]));
            assert!(write(local, remote, made, 0, &mut packet));
            assert_eq!(ip::total_len(&packet), Ok(packet.len()));
            let at = ip::layout(&packet).unwrap();
            assert_eq!((at.transport, at.protocol), (head, ESP));
            assert_eq!(
                (ip::source(&packet), ip::destination(&packet)),
                (Some(local), Some(remote))
            );
            assert_eq!(packet[head..], [0xee; 40]);
            assert_eq!(fields(COPY, &packet).tos, 0xb9);
        }
    }
}
