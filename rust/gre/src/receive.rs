//! May a packet that found its tunnel come in? The checks in Linux's order, each refusal with what was seen.
//!
//! Linux verifies a checksum where it reads the header, before it looks for the tunnel; then come, tunnel by tunnel, presence of
//! the checksum, sequence number, ECN. Here all are one function, in that order: a checksum that does not verify is *wrong* even
//! where none was expected. Refusals and Linux's counters: checksums `rx_crc_errors` (a wrong one is not counted there at all),
//! sequence numbers `rx_fifo_errors`, ECN `rx_frame_errors`, a short frame `rx_length_errors`; what is inside is judged there by
//! the protocols above, here as well by [`Refusal::UnknownProtocol`] and [`Refusal::InnerMalformed`].
//!
//! A refused packet leaves no trace: the sequence number is taken when everything else was found good. (Linux takes it before it
//! looks at ECN; and it takes an expected number of 0 for *none yet*, so once in 2^32 packets it accepts any number.)

use std::ops::Range;

use ginnel_packet::ecn::{self, EcnVerdict};
use ginnel_packet::ip::{self, Ip};

use crate::ethernet;
use crate::header::{self, Header};
use crate::options::{Kind, Options};

/// What is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    Ipv4,
    Ipv6,
    Ethernet,
}

/// What one tunnel remembers of what it received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The sequence number expected next; None before the first.
    pub expected: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    ChecksumMissing,
    ChecksumUnexpected,
    ChecksumWrong,
    SequenceMissing,
    /// An older number than expected: reordered, repeated, or from a second sender.
    OutOfOrder {
        seen: u32,
        expected: u32,
    },
    UnknownProtocol(u16),
    /// Not what the protocol type says, or shorter than it says.
    InnerMalformed,
    /// Inner Not-ECT under an outer CE (RFC 6040).
    Ecn,
}

/// Checks *packet* (from the GRE header on), which *header* heads, and applies ECN to the inner packet in place.
///
/// Returns what is inside and where it begins and ends in *packet* (trailing bytes are cut off by the inner length).
pub fn admit(
    options: &Options,
    state: &mut State,
    header: &Header,
    outer_tos: u8,
    packet: &mut [u8],
) -> Result<(Payload, Range<usize>), Refusal> {
    checksum(options, header, packet)?;
    let next = sequence(options, *state, header)?;
    let (payload, start) = payload(options.kind, header, packet)?;
    let inner = bounded(payload, start, packet)?;
    congestion(payload, outer_tos, &mut packet[inner.clone()])?;
    if next.is_some() {
        state.expected = next;
    }
    Ok((payload, inner))
}

/// The same for the kinds without GRE: *protocol* is 4 or 41.
pub fn admit_ip(
    options: &Options,
    protocol: u8,
    outer_tos: u8,
    packet: &mut [u8],
) -> Result<(Payload, Range<usize>), Refusal> {
    let payload = match (options.kind, protocol) {
        (Kind::Ipip | Kind::Ip6Tnl, 4) => Payload::Ipv4,
        (Kind::Sit | Kind::Ip6Tnl, 41) => Payload::Ipv6,
        _ => return Err(Refusal::UnknownProtocol(u16::from(protocol))),
    };
    let inner = bounded(payload, 0, packet)?;
    congestion(payload, outer_tos, &mut packet[inner.clone()])?;
    Ok((payload, inner))
}

#[inline]
fn checksum(options: &Options, header: &Header, packet: &[u8]) -> Result<(), Refusal> {
    if header.checksum && !header::checksum_verifies(packet) {
        return Err(Refusal::ChecksumWrong);
    }
    match (options.icsum, header.checksum) {
        (true, false) if !options.tolerant => Err(Refusal::ChecksumMissing),
        (false, true) if !options.tolerant => Err(Refusal::ChecksumUnexpected),
        _ => Ok(()),
    }
}

/// The number to expect after this packet; None when the tunnel does not look at them.
#[inline]
fn sequence(options: &Options, state: State, header: &Header) -> Result<Option<u32>, Refusal> {
    if !options.iseq {
        return Ok(None);
    }
    let seen = header.sequence.ok_or(Refusal::SequenceMissing)?;
    match state.expected {
        // RFC 2890 2.2: older is what lies in the half of all numbers behind the expected one.
        Some(expected) if (seen.wrapping_sub(expected) as i32) < 0 => {
            Err(Refusal::OutOfOrder { seen, expected })
        }
        _ => Ok(Some(seen.wrapping_add(1))),
    }
}

/// By the protocol type: what is inside, and where it begins.
#[inline]
fn payload(kind: Kind, header: &Header, packet: &[u8]) -> Result<(Payload, usize), Refusal> {
    match (kind, header.protocol) {
        (Kind::Gre, header::IPV4) => Ok((Payload::Ipv4, header.len)),
        (Kind::Gre, header::IPV6) => Ok((Payload::Ipv6, header.len)),
        (Kind::GreTap, header::ETHERNET) => Ok((Payload::Ethernet, header.len)),
        // Only a header without any flag; version 2 of WCCP has four bytes of its own before the packet.
        (Kind::Gre, header::WCCP) if packet.starts_with(&[0, 0]) => {
            let version_1 = packet.get(4).is_some_and(|first| first >> 4 == 4);
            Ok((Payload::Ipv4, if version_1 { 4 } else { 8 }))
        }
        _ => Err(Refusal::UnknownProtocol(header.protocol)),
    }
}

/// From *start* to where the inner packet says that it ends.
#[inline]
fn bounded(payload: Payload, start: usize, packet: &[u8]) -> Result<Range<usize>, Refusal> {
    let inner = packet.get(start..).ok_or(Refusal::InnerMalformed)?;
    let expected = match payload {
        Payload::Ipv4 => Ip::V4,
        Payload::Ipv6 => Ip::V6,
        Payload::Ethernet if inner.len() >= ethernet::HEADER => return Ok(start..packet.len()),
        Payload::Ethernet => return Err(Refusal::InnerMalformed),
    };
    if ip::version(inner) != Some(expected) {
        return Err(Refusal::InnerMalformed);
    }
    let total = ip::total_len(inner).map_err(|_| Refusal::InnerMalformed)?;
    Ok(start..start + total)
}

#[inline]
fn congestion(payload: Payload, outer_tos: u8, inner: &mut [u8]) -> Result<(), Refusal> {
    let at = match payload {
        Payload::Ipv4 | Payload::Ipv6 => Some(0),
        Payload::Ethernet => ethernet::ip_at(inner),
    };
    let packet = at.and_then(|at| inner.get_mut(at..)).unwrap_or_default();
    match ecn::decapsulate(outer_tos, packet) {
        EcnVerdict::Drop => Err(Refusal::Ecn),
        EcnVerdict::Unchanged | EcnVerdict::Marked => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ethernet::tests::frame;
    use crate::options::tests::options;
    use crate::tests::{v4, v6};

    const KINDS: [Kind; 2] = [Kind::Gre, Kind::GreTap];

    fn tunnel(kind: Kind) -> Options {
        options(kind, "192.0.2.1", "198.51.100.2")
    }

    fn gre(protocol: u16, sum: bool, sequence: Option<u32>, inner: &[u8]) -> Vec<u8> {
        let mut packet = [0; 16];
        let len = header::write(&mut packet, protocol, sum, None, sequence);
        let mut packet = packet[..len].to_vec();
        packet.extend(inner);
        header::set_checksum(&mut packet);
        packet
    }

    fn try_in(
        options: &Options,
        state: &mut State,
        tos: u8,
        packet: &mut [u8],
    ) -> Result<(Payload, Range<usize>), Refusal> {
        let header = header::parse(packet).unwrap();
        admit(options, state, &header, tos, packet)
    }

    fn once(options: &Options, packet: &[u8]) -> Result<(Payload, Range<usize>), Refusal> {
        try_in(options, &mut State::default(), 0, &mut packet.to_vec())
    }

    #[test]
    fn each_protocol_type_is_for_its_kind_of_tunnel() {
        let (four, six) = (v4(0, 17, &[0; 12]), v6(0, 17, &[0; 12]));
        let whole = frame(&[], header::IPV4, &four);
        let plain = tunnel(Kind::Gre);
        let tap = tunnel(Kind::GreTap);
        let packet = |protocol, inner: &[u8]| gre(protocol, false, None, inner);
        assert_eq!(
            once(&plain, &packet(0x0800, &four)),
            Ok((Payload::Ipv4, 4..36))
        );
        assert_eq!(
            once(&plain, &packet(0x86dd, &six)),
            Ok((Payload::Ipv6, 4..56))
        );
        assert_eq!(
            once(&tap, &packet(0x6558, &whole)),
            Ok((Payload::Ethernet, 4..4 + whole.len()))
        );
        for (options, protocol) in [
            (&plain, 0x6558),
            (&tap, 0x0800),
            (&tap, 0x86dd),
            (&tap, 0x883e),
        ] {
            assert_eq!(
                once(options, &packet(protocol, &whole)),
                Err(Refusal::UnknownProtocol(protocol))
            );
        }
        for protocol in [0, 0x8847, 0x88be, 0x880b, 0xffff] {
            for kind in KINDS {
                assert_eq!(
                    once(&tunnel(kind), &packet(protocol, &four)),
                    Err(Refusal::UnknownProtocol(protocol))
                );
            }
        }
    }

    #[test]
    fn the_first_nibble_agrees_with_the_type() {
        let plain = tunnel(Kind::Gre);
        let malformed = Err(Refusal::InnerMalformed);
        let (four, six) = (v4(0, 17, &[0; 12]), v6(0, 17, &[0; 12]));
        assert_eq!(once(&plain, &gre(0x0800, false, None, &six)), malformed);
        assert_eq!(once(&plain, &gre(0x86dd, false, None, &four)), malformed);
        assert_eq!(once(&plain, &gre(0x86dd, false, None, &[])), malformed);
        for len in 0..four.len() {
            assert_eq!(
                once(&plain, &gre(0x0800, false, None, &four[..len])),
                malformed
            );
        }
        let tap = tunnel(Kind::GreTap);
        for len in 0..16 {
            let got = once(&tap, &gre(0x6558, false, None, &vec![1; len]));
            assert_eq!(got.is_ok(), len >= 14, "{len}");
        }
    }

    #[test]
    fn trailing_bytes_are_cut_by_the_inner_length() {
        let mut inner = v4(0, 17, &[0; 12]);
        inner.extend([9; 10]);
        let got = once(&tunnel(Kind::Gre), &gre(0x0800, false, None, &inner));
        assert_eq!(got, Ok((Payload::Ipv4, 4..36)));
    }

    #[test]
    fn wccp_is_ipv4_with_or_without_four_bytes_more() {
        let plain = tunnel(Kind::Gre);
        let inner = v4(0, 17, &[0; 12]);
        let version_2 = [&[0, 0, 0, 1][..], &inner].concat();
        assert_eq!(
            once(&plain, &gre(0x883e, false, None, &inner)),
            Ok((Payload::Ipv4, 4..36))
        );
        assert_eq!(
            once(&plain, &gre(0x883e, false, None, &version_2)),
            Ok((Payload::Ipv4, 8..40))
        );
        assert_eq!(
            once(&plain, &gre(0x883e, false, None, &[])),
            Err(Refusal::InnerMalformed)
        );
        // With any flag it is no WCCP that Linux knows.
        assert_eq!(
            once(&plain, &gre(0x883e, false, Some(1), &inner)),
            Err(Refusal::UnknownProtocol(0x883e))
        );
    }

    #[test]
    fn presence_of_the_checksum_equals_the_configuration() {
        let inner = v4(0, 17, &[0; 12]);
        for icsum in [false, true] {
            for present in [false, true] {
                let packet = gre(0x0800, present, None, &inner);
                let strict = Options {
                    icsum,
                    ..tunnel(Kind::Gre)
                };
                let expected = match (icsum, present) {
                    (true, false) => Some(Refusal::ChecksumMissing),
                    (false, true) => Some(Refusal::ChecksumUnexpected),
                    _ => None,
                };
                assert_eq!(once(&strict, &packet).err(), expected);
                let tolerant = Options {
                    tolerant: true,
                    ..strict
                };
                assert!(once(&tolerant, &packet).is_ok());
            }
        }
    }

    #[test]
    fn a_wrong_checksum_is_refused_whatever_is_configured() {
        let mut packet = gre(0x0800, true, None, &v4(0, 17, &[0; 12]));
        packet[20] ^= 1;
        for icsum in [false, true] {
            for tolerant in [false, true] {
                let options = Options {
                    icsum,
                    tolerant,
                    ..tunnel(Kind::Gre)
                };
                assert_eq!(once(&options, &packet), Err(Refusal::ChecksumWrong));
            }
        }
    }

    #[test]
    fn sequence_numbers_may_jump_but_not_go_back() {
        let options = Options {
            iseq: true,
            ..tunnel(Kind::Gre)
        };
        let mut state = State::default();
        let mut push = |sequence| {
            let mut packet = gre(0x0800, false, sequence, &v4(0, 17, &[0; 12]));
            (
                try_in(&options, &mut state, 0, &mut packet).err(),
                state.expected,
            )
        };
        assert_eq!(push(None), (Some(Refusal::SequenceMissing), None));
        assert_eq!(push(Some(41)), (None, Some(42)), "any first");
        assert_eq!(push(Some(42)), (None, Some(43)));
        let old = |seen, expected| (Some(Refusal::OutOfOrder { seen, expected }), Some(expected));
        assert_eq!(push(Some(42)), old(42, 43));
        assert_eq!(push(Some(100)), (None, Some(101)), "a gap is loss");
        assert_eq!(push(Some(50)), old(50, 101));
        assert_eq!(push(None), (Some(Refusal::SequenceMissing), Some(101)));
        assert_eq!(push(Some(100 + (1 << 31))), (None, Some(101 + (1 << 31))));
        // Half of all numbers behind the expected one is old, the other half new.
        assert_eq!(push(Some(101)), old(101, 101 + (1 << 31)));
        assert_eq!(push(Some(200)), old(200, 101 + (1 << 31)));
        assert_eq!(push(Some(u32::MAX)), (None, Some(0)), "around");
        assert_eq!(push(Some(u32::MAX)), old(u32::MAX, 0));
        assert_eq!(push(Some(0)), (None, Some(1)));
    }

    #[test]
    fn a_sequence_number_that_nobody_asked_for_is_ignored() {
        let mut state = State::default();
        for sequence in [9, 3, 3] {
            let mut packet = gre(0x0800, false, Some(sequence), &v4(0, 17, &[0; 12]));
            let got = try_in(&tunnel(Kind::Gre), &mut state, 0, &mut packet);
            assert_eq!(got, Ok((Payload::Ipv4, 8..40)));
            assert_eq!(state, State::default());
        }
    }

    #[test]
    fn a_refused_packet_leaves_no_trace() {
        let options = Options {
            iseq: true,
            ..tunnel(Kind::Gre)
        };
        let mut state = State { expected: Some(5) };
        for (protocol, tos, inner) in [
            (0x0800, 0, vec![0x45, 0]),
            (0x8847, 0, vec![0x45, 0]),
            (0x0800, 3, v4(0, 17, &[0; 12])),
        ] {
            let before = gre(protocol, false, Some(9), &inner);
            let mut packet = before.clone();
            assert!(try_in(&options, &mut state, tos, &mut packet).is_err());
            assert_eq!((state.expected, &packet), (Some(5), &before));
        }
    }

    #[test]
    fn congestion_is_carried_in_and_refused_where_it_cannot_be_heard() {
        for (protocol, inner) in [(0x0800, v4 as fn(u8, u8, &[u8]) -> Vec<u8>), (0x86dd, v6)] {
            for (inside, outside, result) in [
                (0, 3, None),
                (2, 3, Some(3)),
                (1, 3, Some(3)),
                (2, 1, Some(1)),
                (0, 2, Some(0)),
            ] {
                let mut packet = gre(protocol, false, None, &inner(0xb8 | inside, 17, &[0; 12]));
                let got = try_in(
                    &tunnel(Kind::Gre),
                    &mut State::default(),
                    outside,
                    &mut packet,
                );
                match result {
                    None => assert_eq!(got, Err(Refusal::Ecn)),
                    Some(ecn) => {
                        let (_, range) = got.unwrap();
                        assert_eq!(packet[range], inner(0xb8 | ecn, 17, &[0; 12]));
                    }
                }
            }
        }
    }

    #[test]
    fn congestion_reaches_the_packet_in_a_tagged_frame() {
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100]] {
            let build = |tos| frame(tags, header::IPV4, &v4(tos, 17, &[0; 12]));
            let mut packet = gre(0x6558, false, None, &build(2));
            let tap = tunnel(Kind::GreTap);
            let (_, range) = try_in(&tap, &mut State::default(), 3, &mut packet).unwrap();
            assert_eq!(packet[range], build(3));
            let mut deaf = gre(0x6558, false, None, &build(0));
            assert_eq!(
                try_in(&tap, &mut State::default(), 3, &mut deaf),
                Err(Refusal::Ecn)
            );
        }
        let arp = frame(&[], 0x0806, &[0x45; 28]);
        let mut packet = gre(0x6558, false, None, &arp);
        let (_, range) =
            try_in(&tunnel(Kind::GreTap), &mut State::default(), 3, &mut packet).unwrap();
        assert_eq!(packet[range], arp, "not IP: untouched");
    }

    #[test]
    fn the_kinds_without_gre_take_their_protocol() {
        let (four, six) = (v4(0, 17, &[0; 12]), v6(0, 17, &[0; 12]));
        for (kind, protocol, inner, expected) in [
            (Kind::Ipip, 4, &four, Ok((Payload::Ipv4, 0..32))),
            (Kind::Ipip, 41, &six, Err(Refusal::UnknownProtocol(41))),
            (Kind::Ipip, 4, &six, Err(Refusal::InnerMalformed)),
            (Kind::Sit, 41, &six, Ok((Payload::Ipv6, 0..52))),
            (Kind::Sit, 4, &four, Err(Refusal::UnknownProtocol(4))),
            (Kind::Ip6Tnl, 4, &four, Ok((Payload::Ipv4, 0..32))),
            (Kind::Ip6Tnl, 41, &six, Ok((Payload::Ipv6, 0..52))),
            (Kind::Ip6Tnl, 41, &four, Err(Refusal::InnerMalformed)),
            (Kind::Gre, 4, &four, Err(Refusal::UnknownProtocol(4))),
        ] {
            let mut packet = inner.clone();
            packet.extend([0; 3]);
            let got = admit_ip(&tunnel(kind), protocol, 0, &mut packet);
            assert_eq!(got, expected, "{kind:?} {protocol}");
        }
        let mut marked = v4(2, 17, &[0; 12]);
        assert!(admit_ip(&tunnel(Kind::Ipip), 4, 3, &mut marked).is_ok());
        assert_eq!(marked, v4(3, 17, &[0; 12]));
        assert_eq!(
            admit_ip(&tunnel(Kind::Ipip), 4, 3, &mut v4(0, 17, &[0; 12])),
            Err(Refusal::Ecn)
        );
    }
}
