//! Packets that a kernel left unfinished, because it meant a network card to finish them.
//!
//! A raw socket gets what the kernel has. Where no real card lies between (containers, virtual machines, a card that joins segments), that may be
//! an inner packet whose checksum field holds only the sum of its pseudo-header, and TCP segments or UDP datagrams that are still, or
//! again, one. The kernel keeps that beside the packet, and a raw socket is not told; but the partial sum is seen: nothing else is taken for
//! unfinished, and what has it by chance (one in 65,536) is known by its checksum being right.
//!
//! TCP has no boundaries to keep: segments of the device's MTU are what the sender was told to send. Joined datagrams cannot be told apart
//! any more.

use ginnel_packet::checksum::{self, Sum};
use ginnel_packet::ip::{self, Fragment, Ip, PROTO_TCP, PROTO_UDP};
use ginnel_packet::virtio::{VirtioNetHdr, GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM};

const TCP_HEADER: usize = 20;
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// What is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// The checksum, over everything from `start` on, at `field`: see `complete`.
    Checksum { start: usize, field: usize },
    /// TCP segments in one: the header with which a device takes them.
    Segments(VirtioNetHdr),
    /// UDP datagrams in one.
    Datagrams,
}

/// Looks at an IP packet that is trimmed to its length; what is longer than *mtu* was joined.
pub(super) fn look(packet: &[u8], mtu: usize) -> Option<Unfinished> {
    let at = ip::layout(packet)?;
    let offset = match at.protocol {
        PROTO_TCP => TCP_CHECKSUM,
        PROTO_UDP => UDP_CHECKSUM,
        _ => return None,
    };
    if at.fragment != Fragment::Whole || at.routed {
        return None;
    }
    let transport = packet.get(at.transport..)?;
    let field = transport.get(offset..offset + 2)?;
    let pseudo = match at.ip {
        Ip::V4 => checksum::pseudo::<8>(packet.get(12..20)?.try_into().ok()?, at.protocol),
        Ip::V6 => checksum::pseudo::<32>(packet.get(8..40)?.try_into().ok()?, at.protocol),
    };
    let pseudo = pseudo.word(transport.len() as u16);
    if field != pseudo.partial() || is_right(pseudo, transport) {
        return None;
    }
    if packet.len() <= mtu {
        return Some(Unfinished::Checksum {
            start: at.transport,
            field: at.transport + offset,
        });
    }
    if at.protocol == PROTO_UDP {
        return Some(Unfinished::Datagrams);
    }
    let header = usize::from(transport.get(12)? >> 4) * 4;
    let headers = at.transport + header;
    if header < TCP_HEADER || headers >= packet.len() || headers >= mtu {
        return None;
    }
    Some(Unfinished::Segments(VirtioNetHdr {
        flags: NEEDS_CSUM,
        gso_type: match at.ip {
            Ip::V4 => GSO_TCPV4,
            Ip::V6 => GSO_TCPV6,
        },
        hdr_len: headers as u16,
        gso_size: (mtu - headers) as u16,
        csum_start: at.transport as u16,
        csum_offset: offset as u16,
    }))
}

#[cold]
fn is_right(pseudo: Sum, transport: &[u8]) -> bool {
    pseudo.bytes(transport).verifies()
}

/// Finishes a checksum, as `look` found it. The pseudo-header's sum is in the field already.
pub(super) fn complete(packet: &mut [u8], start: usize, field: usize) {
    // Never 0: for UDP that would mean none.
    let sum = checksum::sum(&packet[start..]).checksum_nonzero();
    packet[field..field + 2].copy_from_slice(&sum);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use ginnel_packet::split::{split, SegmentSink};

    /// A packet with *payload* bytes, its checksum as *sum* makes it of the pseudo-header and the transport part.
    fn packet(v6: bool, protocol: u8, payload: usize, finished: bool) -> Vec<u8> {
        let mut transport = match protocol {
            PROTO_TCP => {
                let mut tcp = vec![0; 20];
                tcp[..4].copy_from_slice(&[0x1f, 0x90, 0x30, 0x39]);
                tcp[12] = 0x50;
                tcp[13] = 0x10;
                tcp
            }
            _ => vec![0x1f, 0x90, 0x30, 0x39, 0, 0, 0, 0],
        };
        transport.extend((0..payload).map(|at| (at * 7) as u8));
        let length = transport.len() as u16;
        if protocol == PROTO_UDP {
            transport[4..6].copy_from_slice(&length.to_be_bytes());
        }
        let mut packet = if v6 {
            let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
            packet[4..6].copy_from_slice(&length.to_be_bytes());
            packet.extend([0xfd; 16]);
            packet.extend([0xfc; 16]);
            packet
        } else {
            let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0];
            packet[2..4].copy_from_slice(&(20 + length).to_be_bytes());
            packet.extend([10, 9, 0, 1, 10, 9, 0, 2]);
            let sum = checksum::sum(&packet).checksum();
            packet[10..12].copy_from_slice(&sum);
            packet
        };
        let pseudo = if v6 {
            checksum::pseudo::<32>(packet[8..40].try_into().unwrap(), protocol)
        } else {
            checksum::pseudo::<8>(packet[12..20].try_into().unwrap(), protocol)
        };
        let pseudo = pseudo.word(length);
        let offset = if protocol == PROTO_TCP { 16 } else { 6 };
        let sum = if finished {
            pseudo.bytes(&transport).checksum()
        } else {
            pseudo.partial()
        };
        transport[offset..offset + 2].copy_from_slice(&sum);
        packet.extend(transport);
        packet
    }

    #[test]
    fn a_partial_checksum_is_completed_to_the_right_one() {
        for v6 in [false, true] {
            for protocol in [PROTO_TCP, PROTO_UDP] {
                for payload in [0, 1, 100, 1001] {
                    let mut partial = packet(v6, protocol, payload, false);
                    let right = packet(v6, protocol, payload, true);
                    let Some(Unfinished::Checksum { start, field }) = look(&partial, 1476) else {
                        panic!("not seen: {v6} {protocol} {payload}");
                    };
                    complete(&mut partial, start, field);
                    assert_eq!(partial, right);
                    assert_eq!(look(&partial, 1476), None);
                }
            }
        }
    }

    #[test]
    fn what_is_finished_or_wrong_is_left_alone() {
        for v6 in [false, true] {
            for protocol in [PROTO_TCP, PROTO_UDP] {
                for payload in [10, 3000] {
                    let mut packet = packet(v6, protocol, payload, true);
                    assert_eq!(look(&packet, 1476), None);
                    let last = packet.len() - 1;
                    packet[last] ^= 0x55;
                    assert_eq!(look(&packet, 1476), None);
                }
            }
        }
    }

    #[derive(Default)]
    struct Segments(Vec<Vec<u8>>);

    impl SegmentSink for Segments {
        fn place(&mut self, len: usize) -> Option<&mut [u8]> {
            self.0.push(vec![0; len]);
            self.0.last_mut().map(Vec::as_mut_slice)
        }
    }

    #[test]
    fn joined_segments_are_described_so_that_they_are_cut_to_the_mtu() {
        for v6 in [false, true] {
            let whole = packet(v6, PROTO_TCP, 20_000, false);
            let Some(Unfinished::Segments(header)) = look(&whole, 1400) else {
                panic!("not seen: {v6}");
            };
            let mut segments = Segments::default();
            split(&header, &whole, &mut segments).unwrap();
            let headers = if v6 { 60 } else { 40 };
            let payload: Vec<u8> = segments
                .0
                .iter()
                .flat_map(|one| one[headers..].to_vec())
                .collect();
            assert_eq!(payload, whole[headers..]);
            assert!(segments.0.iter().all(|one| one.len() <= 1400));
            assert!(segments.0.iter().all(|one| look(one, 1400).is_none()));
        }
    }

    #[test]
    fn joined_datagrams_are_known_and_fragments_are_not_looked_at() {
        let whole = packet(false, PROTO_UDP, 4000, false);
        assert_eq!(look(&whole, 1400), Some(Unfinished::Datagrams));
        let mut fragment = packet(false, PROTO_UDP, 400, false);
        fragment[6] = 0x20;
        assert_eq!(look(&fragment, 1400), None);
    }

    #[test]
    fn nothing_is_read_beyond_the_packet() {
        for v6 in [false, true] {
            for protocol in [PROTO_TCP, PROTO_UDP] {
                let whole = packet(v6, protocol, 30, false);
                for len in 0..whole.len() {
                    look(&whole[..len], 1400);
                    look(&whole[..len], 20);
                }
            }
        }
    }
}
