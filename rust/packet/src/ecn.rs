//! Explicit congestion notification across the tunnel (RFC 6040, normal mode).
//!
//! Going in, the outer header carries a copy of the inner ECN field; the DSCP stays inside, since it would tell an
//! observer what kind of traffic this is. Coming out, what the path did to the outer field is merged into the inner one:
//!
//! ```text
//! inner \ outer   Not-ECT    ECT(0)     ECT(1)     CE
//! Not-ECT         Not-ECT    Not-ECT    Not-ECT    drop
//! ECT(0)          ECT(0)     ECT(0)     ECT(1)     CE
//! ECT(1)          ECT(1)     ECT(1)     ECT(1)     CE
//! CE              CE         CE         CE         CE
//! ```
//!
//! The kernel's WireGuard differs twice: it sends ECT(0) outside for CE inside (RFC 3168), which its own and this decapsulation
//! give back as CE; and it delivers where the table says drop. Here the verdict is returned and the caller decides.

use crate::checksum;
use crate::ip::{self, Ip};

/// The ECN bits of a traffic class.
pub const MASK: u8 = 3;
/// Not ECN-capable.
pub const NOT_ECT: u8 = 0;
/// ECN-capable, codepoint 1.
pub const ECT1: u8 = 1;
/// ECN-capable, codepoint 0.
pub const ECT0: u8 = 2;
/// Congestion experienced.
pub const CE: u8 = 3;

/// What `decapsulate` did, or would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EcnVerdict {
    /// The inner packet stands as it is.
    Unchanged,
    /// The inner ECN field was rewritten (and the IPv4 header checksum with it).
    Marked,
    /// Congestion on the path of a packet whose sender cannot hear of it: RFC 6040 drops it. Nothing was changed.
    Drop,
}

/// The ECN bits for the outer header of this packet; `NOT_ECT` for what is not IP.
#[inline]
pub fn outer_ecn(packet: &[u8]) -> u8 {
    inner_ecn(packet).unwrap_or(NOT_ECT)
}

/// Merges the outer traffic class into a decrypted packet.
#[inline]
pub fn decapsulate(outer_tos: u8, packet: &mut [u8]) -> EcnVerdict {
    let outer = outer_tos & MASK;
    // Nearly every packet: an outer field that says nothing new, settled by two loads.
    if outer == NOT_ECT || outer == ECT0 {
        return EcnVerdict::Unchanged;
    }
    match (inner_ecn(packet), outer) {
        (Some(NOT_ECT), CE) => EcnVerdict::Drop,
        (Some(ECT0), ECT1) => remark(packet, ECT1),
        (Some(ECT0 | ECT1), CE) => remark(packet, CE),
        _ => EcnVerdict::Unchanged,
    }
}

fn inner_ecn(packet: &[u8]) -> Option<u8> {
    match (ip::version(packet)?, packet) {
        (Ip::V4, [_, tos, ..]) => Some(tos & MASK),
        (Ip::V6, [_, second, ..]) => Some(second >> 4 & MASK),
        _ => None,
    }
}

fn remark(packet: &mut [u8], ecn: u8) -> EcnVerdict {
    match ip::version(packet) {
        Some(Ip::V4) => {
            let Some(h) = packet.first_chunk_mut::<{ ip::V4_HEADER }>() else {
                return EcnVerdict::Unchanged;
            };
            let old = u16::from_be_bytes([h[0], h[1]]);
            h[1] = h[1] & !MASK | ecn;
            let new = u16::from_be_bytes([h[0], h[1]]);
            let check = checksum::update([h[10], h[11]], old, new);
            h[10..12].copy_from_slice(&check);
        }
        Some(Ip::V6) if packet.len() >= ip::V6_HEADER => {
            packet[1] = packet[1] & !(MASK << 4) | ecn << 4;
        }
        _ => return EcnVerdict::Unchanged,
    }
    EcnVerdict::Marked
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::checksum::sum;

    fn v4(tos: u8) -> Vec<u8> {
        let mut p = vec![
            0x45, tos, 0, 20, 0, 7, 0x40, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        let check = sum(&p).checksum();
        p[10..12].copy_from_slice(&check);
        p
    }

    fn v6(tos: u8) -> Vec<u8> {
        let mut p = vec![0x60 | tos >> 4, tos << 4 | 0x0a, 0xbc, 0xde, 0, 0, 59, 64];
        p.extend([0x20; 32]);
        p
    }

    fn tos_of(p: &[u8]) -> u8 {
        if p[0] >> 4 == 4 {
            p[1]
        } else {
            p[0] << 4 | p[1] >> 4
        }
    }

    /// RFC 6040 figure 4, row by row: (inner, outer, result); `None` is drop.
    const TABLE: [(u8, u8, Option<u8>); 16] = [
        (NOT_ECT, NOT_ECT, Some(NOT_ECT)),
        (NOT_ECT, ECT0, Some(NOT_ECT)),
        (NOT_ECT, ECT1, Some(NOT_ECT)),
        (NOT_ECT, CE, None),
        (ECT0, NOT_ECT, Some(ECT0)),
        (ECT0, ECT0, Some(ECT0)),
        (ECT0, ECT1, Some(ECT1)),
        (ECT0, CE, Some(CE)),
        (ECT1, NOT_ECT, Some(ECT1)),
        (ECT1, ECT0, Some(ECT1)),
        (ECT1, ECT1, Some(ECT1)),
        (ECT1, CE, Some(CE)),
        (CE, NOT_ECT, Some(CE)),
        (CE, ECT0, Some(CE)),
        (CE, ECT1, Some(CE)),
        (CE, CE, Some(CE)),
    ];

    #[test]
    fn rfc_6040_figure_4_with_any_dscp() {
        for (inner, outer, result) in TABLE {
            for dscp in [0u8, 0x2e << 2, 0x3f << 2] {
                for packet in [v4(dscp | inner), v6(dscp | inner)] {
                    let mut p = packet.clone();
                    let verdict = decapsulate(0xb8 | outer, &mut p); // the outer DSCP is ignored
                    let Some(ecn) = result else {
                        assert_eq!((verdict, &p), (EcnVerdict::Drop, &packet));
                        continue;
                    };
                    assert_eq!(tos_of(&p), dscp | ecn, "inner {inner} outer {outer}");
                    assert_eq!(verdict == EcnVerdict::Marked, ecn != inner);
                    if p[0] >> 4 == 4 {
                        assert!(sum(&p).verifies());
                    } else {
                        assert_eq!(
                            (p[1] & 15, &p[2..]),
                            (0x0a, &packet[2..]),
                            "flow label untouched"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn only_ecn_leaks_outside() {
        for tos in 0..=255 {
            assert_eq!(outer_ecn(&v4(tos)), tos & 3);
            assert_eq!(outer_ecn(&v6(tos)), tos & 3);
        }
        assert_eq!(outer_ecn(&[]), 0);
        assert_eq!(outer_ecn(&[0x45]), 0);
        assert_eq!(outer_ecn(&[0xff, 0xff]), 0);
    }

    #[test]
    fn every_truncation_stays_untouched() {
        for packet in [v4(ECT0), v6(ECT0)] {
            for len in 0..packet.len() {
                let mut p = packet[..len].to_vec();
                assert_eq!(decapsulate(CE, &mut p), EcnVerdict::Unchanged, "{len}");
                assert_eq!(p, packet[..len]);
            }
        }
    }
}
