//! An inner packet that is too large for the tunnel's path (RFC 7588, RFC 7676).
//!
//! | inner packet, larger than the path takes | path MTU discovery | without |
//! | --- | --- | --- |
//! | IPv4 with DF | answered | answered (its DF is copied out); with `ignore_df` sent anyway |
//! | IPv4 without DF | cut, each piece encapsulated | sent anyway |
//! | IPv6, path of 1280 and more | answered | sent anyway |
//! | IPv6, path of less | up to 1280 bytes sent anyway, more answered with 1280 | sent anyway |
//! | Ethernet, other | dropped | as IPv4 by the DF of what is inside, never cut: dropped, or sent anyway |
//!
//! *Sent anyway* is in a delivery packet without DF, which the network cuts and the far end puts together: what a user asks for
//! by turning path MTU discovery off, and what RFC 2473 7.1 (b) and RFC 7676 3.2 leave for IPv6, whose senders need not go below
//! 1280.

use std::ops::Range;

use ginnel_packet::ip::{self, Fragment, Ip, PROTO_UDP};

use crate::demux::{GRE, IPV4_IN_IP, IPV6_IN_IP};
use crate::options::{Kind, Options};
use crate::{ethernet, header};

/// No IPv4 link is smaller (RFC 791 3.2): the longest header and one unit of data.
pub const MIN_MTU_V4: usize = 68;
/// No IPv6 link is smaller (RFC 8200 5).
pub const MIN_MTU_V6: usize = 1280;
/// The destination port of GRE in UDP (RFC 8086).
const GRE_IN_UDP: u16 = 4754;

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Fits,
    /// IPv4 without DF: cut the inner packet into fragments of at most the MTU, then encapsulate each.
    Fragment,
    /// Answer with ICMP fragmentation needed, or packet too big, naming the MTU; and drop.
    Answer,
    /// It can neither be cut nor answered: send it in a delivery packet without DF (IPv6 in less than 1280, `ignore_df`).
    SendAnyway,
    /// An Ethernet frame that does not fit a DF tunnel: dropped.
    Drop,
}

/// Judges one inner packet of *len* bytes against the largest that the path takes (both with the Ethernet header, if there is
/// one).
#[inline]
pub fn fit(options: &Options, inner: &[u8], len: usize, mtu: usize) -> Fit {
    if len <= mtu {
        return Fit::Fits;
    }
    too_large(options, inner, len, mtu)
}

#[cold]
fn too_large(options: &Options, inner: &[u8], len: usize, mtu: usize) -> Fit {
    if options.kind == Kind::GreTap {
        let packet = ethernet::ip_at(inner).and_then(|at| inner.get(at..));
        let held = packet.is_some_and(dont_fragment) && !options.ignore_df;
        return if options.pmtudisc || held {
            Fit::Drop
        } else {
            Fit::SendAnyway
        };
    }
    match ip::version(inner) {
        Some(Ip::V4) if dont_fragment(inner) => {
            if options.ignore_df {
                Fit::SendAnyway
            } else {
                Fit::Answer
            }
        }
        Some(Ip::V4) if options.pmtudisc => Fit::Fragment,
        Some(Ip::V6) if options.pmtudisc && (mtu >= MIN_MTU_V6 || len > MIN_MTU_V6) => Fit::Answer,
        Some(Ip::V4 | Ip::V6) => Fit::SendAnyway,
        None => Fit::Drop,
    }
}

/// The MTU to name in the answer: what the path takes, but never less than the family's least (a smaller one would be ignored,
/// or worse).
pub fn answer_mtu(inner: &[u8], mtu: usize) -> usize {
    match ip::version(inner) {
        Some(Ip::V6) => mtu.max(MIN_MTU_V6),
        _ => mtu.max(MIN_MTU_V4),
    }
}

fn dont_fragment(packet: &[u8]) -> bool {
    ip::version(packet) == Some(Ip::V4) && packet.get(6).is_some_and(|flags| flags & 0x40 != 0)
}

/// Cuts an IPv4 packet into fragments of at most *mtu* bytes; calls *emit* with each, in order. Options that must not be copied
/// are left out of all but the first. False when it cannot be cut (malformed, or mtu too small), and then nothing was emitted.
///
/// What fits already is emitted as it is. DF is cleared: who calls has decided. Checksums of what is inside must be finished.
///
/// Source: RFC 791 3.2 (fragmentation), 3.1 (the copied flag).
pub fn fragment_ipv4(packet: &[u8], mtu: usize, emit: &mut dyn FnMut(&[u8])) -> bool {
    let Ok(total) = ip::total_len(packet) else {
        return false;
    };
    if ip::version(packet) != Some(Ip::V4) || mtu < MIN_MTU_V4 {
        return false;
    }
    let packet = &packet[..total];
    if total <= mtu {
        emit(packet);
        return true;
    }
    let (head, body) = packet.split_at(usize::from(packet[0] & 15) * 4);
    let field = u16::from_be_bytes([head[6], head[7]]);
    let (evil, more, offset) = (field & 0x8000, field & 0x2000, usize::from(field & 0x1fff));
    let Some(later) = later_header(head) else {
        return false;
    };
    // A fragment whose end no offset can name (or none but the last may be of odd length): not to be cut further.
    let odd = more != 0 && !body.len().is_multiple_of(8);
    if odd || offset * 8 + body.len() > 65_535 {
        return false;
    }
    let mut piece = Vec::with_capacity(mtu);
    let mut at = 0;
    while at < body.len() {
        let head = if at == 0 { head } else { &later };
        let room = (mtu - head.len()) & !7;
        let end = body.len().min(at + room);
        let last = end == body.len();
        let flags = evil | if last { more } else { 0x2000 };
        piece.clear();
        piece.extend_from_slice(head);
        piece.extend_from_slice(&body[at..end]);
        let length = piece.len() as u16;
        piece[2..4].copy_from_slice(&length.to_be_bytes());
        piece[6..8].copy_from_slice(&(flags | (offset + at / 8) as u16).to_be_bytes());
        piece[10..12].fill(0);
        let sum = ginnel_packet::checksum::sum(&piece[..head.len()]).checksum();
        piece[10..12].copy_from_slice(&sum);
        emit(&piece);
        at = end;
    }
    true
}

/// The header of all fragments but the first: without the options that are not copied, padded to whole words. None: its options
/// cannot be read.
fn later_header(head: &[u8]) -> Option<Vec<u8>> {
    let (fixed, mut options) = head.split_at_checked(ip::V4_HEADER)?;
    let mut later = fixed.to_vec();
    loop {
        options = match options {
            [] | [0, ..] => break,
            [1, rest @ ..] => rest,
            [kind, len, ..] => {
                let (one, rest) = options.split_at_checked(usize::from(*len))?;
                if one.len() < 2 {
                    return None;
                }
                if kind & 0x80 != 0 {
                    later.extend_from_slice(one);
                }
                rest
            }
            [_] => return None,
        };
    }
    later.resize(later.len().next_multiple_of(4), 0);
    later[0] = 0x40 | (later.len() / 4) as u8;
    Some(later)
}

/// How many tunnels deep *inner* is already: headers of protocol 47, 4 or 41 (and GRE in UDP, port 4754) inside each other,
/// counted up to *limit*.
///
/// *inner* is an IP packet; of an Ethernet frame pass what [`ethernet::ip_at`] finds.
pub fn nesting(inner: &[u8], limit: usize) -> usize {
    let mut packet = inner;
    for depth in 0..limit {
        match deeper(packet) {
            Some(inside) => packet = &packet[inside],
            None => return depth,
        }
    }
    limit
}

/// What the packet carries if it is a tunnel's.
fn deeper(packet: &[u8]) -> Option<Range<usize>> {
    let at = ip::layout(packet)?;
    if at.fragment == Fragment::Later {
        return None;
    }
    let gre = match at.protocol {
        IPV4_IN_IP | IPV6_IN_IP => return Some(at.transport..packet.len()),
        GRE => at.transport,
        PROTO_UDP => {
            let port = packet.get(at.transport + 2..)?.first_chunk::<2>()?;
            if u16::from_be_bytes(*port) != GRE_IN_UDP {
                return None;
            }
            at.transport + 8
        }
        _ => return None,
    };
    let found = header::parse(packet.get(gre..)?).ok()?;
    let start = gre + found.len;
    match found.protocol {
        header::ETHERNET => {
            // Behind a frame that is not IP there is nothing more, but it was a tunnel.
            let frame = packet.get(start..)?;
            let at = ethernet::ip_at(frame).unwrap_or(frame.len());
            Some(start + at..packet.len())
        }
        _ => Some(start..packet.len()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ethernet::tests::frame;
    use crate::options::tests::options;
    use crate::tests::{seal, v4, v6};
    use ginnel_packet::checksum;
    use proptest::prelude::*;

    const A: &str = "192.0.2.1";
    const B: &str = "198.51.100.2";

    fn with_df(mut packet: Vec<u8>) -> Vec<u8> {
        packet[6] |= 0x40;
        seal(&mut packet);
        packet
    }

    fn judged(options: &Options, inner: &[u8], mtu: usize) -> Fit {
        fit(options, inner, inner.len(), mtu)
    }

    #[test]
    fn size_m_passes_and_m_plus_1_does_not() {
        let gre = options(Kind::Gre, A, B);
        let sized = |len: usize| with_df(v4(0, 17, &vec![0; len - 20]));
        assert_eq!(judged(&gre, &sized(1476), 1476), Fit::Fits);
        assert_eq!(judged(&gre, &sized(1477), 1476), Fit::Answer);
        let six = |len: usize| v6(0, 17, &vec![0; len - 40]);
        assert_eq!(judged(&gre, &six(1476), 1476), Fit::Fits);
        assert_eq!(judged(&gre, &six(1477), 1476), Fit::Answer);
    }

    #[test]
    fn ipv4_is_answered_cut_or_sent_anyway_by_df() {
        let free = v4(0, 17, &[0; 1480]);
        let held = with_df(free.clone());
        for (pmtudisc, ignore_df, of_free, of_held) in [
            (true, false, Fit::Fragment, Fit::Answer),
            (true, true, Fit::Fragment, Fit::SendAnyway),
            (false, false, Fit::SendAnyway, Fit::Answer),
            (false, true, Fit::SendAnyway, Fit::SendAnyway),
        ] {
            let options = Options {
                pmtudisc,
                ignore_df,
                ..options(Kind::Gre, A, B)
            };
            assert_eq!(judged(&options, &free, 1400), of_free);
            assert_eq!(judged(&options, &held, 1400), of_held);
        }
    }

    #[test]
    fn ipv6_is_answered_down_to_1280_and_carried_below() {
        let gre = options(Kind::Gre, A, B);
        let sized = |len: usize| v6(0, 17, &vec![0; len - 40]);
        assert_eq!(judged(&gre, &sized(1300), 1280), Fit::Answer);
        assert_eq!(judged(&gre, &sized(1280), 1279), Fit::SendAnyway);
        assert_eq!(judged(&gre, &sized(1281), 1279), Fit::Answer);
        assert_eq!(answer_mtu(&sized(1281), 1279), 1280);
        assert_eq!(answer_mtu(&sized(1500), 1400), 1400);
        assert_eq!(answer_mtu(&v4(0, 17, &[]), 1279), 1279);
        assert_eq!(answer_mtu(&v4(0, 17, &[]), 20), 68);
        let off = Options {
            pmtudisc: false,
            ..gre
        };
        assert_eq!(judged(&off, &sized(1500), 1400), Fit::SendAnyway);
    }

    #[test]
    fn a_frame_is_dropped_or_sent_anyway_and_never_cut() {
        let tap = options(Kind::GreTap, A, B);
        let free = frame(&[0x8100], 0x0800, &v4(0, 17, &[0; 1480]));
        let held = frame(&[0x8100], 0x0800, &with_df(v4(0, 17, &[0; 1480])));
        let arp = frame(&[], 0x0806, &[0; 1500]);
        for inner in [&free, &held, &arp] {
            assert_eq!(judged(&tap, inner, 1462), Fit::Drop);
            assert_eq!(judged(&tap, inner, inner.len()), Fit::Fits);
        }
        let off = Options {
            pmtudisc: false,
            ..tap
        };
        assert_eq!(judged(&off, &free, 1462), Fit::SendAnyway);
        assert_eq!(judged(&off, &arp, 1462), Fit::SendAnyway);
        assert_eq!(judged(&off, &held, 1462), Fit::Drop);
        let ignoring = Options {
            ignore_df: true,
            ..off
        };
        assert_eq!(judged(&ignoring, &held, 1462), Fit::SendAnyway);
    }

    fn cut(packet: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
        let mut pieces = Vec::new();
        let done = fragment_ipv4(packet, mtu, &mut |piece| pieces.push(piece.to_vec()));
        assert!(done || pieces.is_empty());
        done.then_some(pieces)
    }

    /// Puts fragments together again, in order, as the receiver of RFC 791 would: (payload, offset of the first, more follow).
    fn together(pieces: &[Vec<u8>]) -> (Vec<u8>, usize, bool) {
        let mut body = Vec::new();
        let field = |p: &[u8]| u16::from_be_bytes([p[6], p[7]]);
        let start = usize::from(field(&pieces[0]) & 0x1fff) * 8;
        for (n, piece) in pieces.iter().enumerate() {
            let header = usize::from(piece[0] & 15) * 4;
            assert!(checksum::sum(&piece[..header]).verifies());
            assert_eq!(ip::total_len(piece), Ok(piece.len()));
            let at = usize::from(field(piece) & 0x1fff) * 8;
            assert_eq!(at, start + body.len());
            if n + 1 < pieces.len() {
                assert_ne!(field(piece) & 0x2000, 0);
            }
            assert_eq!(field(piece) & 0x4000, 0, "DF");
            body.extend(&piece[header..]);
        }
        let more = field(pieces.last().unwrap()) & 0x2000 != 0;
        (body, start, more)
    }

    #[test]
    fn what_is_cut_comes_together_again() {
        let body: Vec<u8> = (0..3000u32).map(|n| (n * 7) as u8).collect();
        let packet = v4(0x28, 17, &body);
        let pieces = cut(&packet, 1400).unwrap();
        assert_eq!(
            pieces.iter().map(Vec::len).collect::<Vec<_>>(),
            [1396, 1396, 268]
        );
        assert_eq!(together(&pieces), (body, 0, false));
        for piece in &pieces {
            assert_eq!(piece[4..6], packet[4..6], "identification");
            assert_eq!((piece[1], piece[8], piece[9]), (0x28, 33, 17));
            assert_eq!(piece[12..20], packet[12..20]);
        }
    }

    #[test]
    fn a_fragment_is_cut_further() {
        let body = [5; 1600];
        let mut packet = v4(0, 17, &body);
        packet[6..8].copy_from_slice(&(0x2000u16 | 0x64).to_be_bytes());
        seal(&mut packet);
        let pieces = cut(&packet, 600).unwrap();
        assert_eq!(together(&pieces), (body.to_vec(), 800, true));
        packet[6] = 0;
        assert_eq!(
            together(&cut(&packet, 600).unwrap()),
            (body.to_vec(), 800, false)
        );
    }

    #[test]
    fn options_that_are_not_copied_are_in_the_first_fragment_only() {
        // Record route (7, not copied), no-operation, router alert (148, copied), end.
        let options = [7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0];
        let mut packet = v4(0, 17, &[9; 300]);
        packet.splice(20..20, options);
        packet[0] = 0x48;
        let total = packet.len() as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        seal(&mut packet);
        let pieces = cut(&packet, 128).unwrap();
        assert_eq!(pieces[0][20..32], options);
        for piece in &pieces[1..] {
            assert_eq!((piece[0], &piece[20..24]), (0x46, &[148, 4, 0, 0][..]));
        }
        assert_eq!(together(&pieces), (vec![9; 300], 0, false));
    }

    #[test]
    fn what_fits_is_emitted_as_it_is_without_trailing_bytes() {
        let mut packet = with_df(v4(0, 17, &[1; 80]));
        packet.extend([0; 50]);
        assert_eq!(cut(&packet, 100), Some(vec![packet[..100].to_vec()]));
    }

    #[test]
    fn what_cannot_be_cut_is_refused_before_anything_is_emitted() {
        let right = v4(0, 17, &[0; 1000]);
        for mtu in 0..68 {
            assert_eq!(cut(&right, mtu), None, "{mtu}");
        }
        assert!(cut(&right, 68).is_some());
        assert_eq!(cut(&v6(0, 17, &[0; 1500]), 1280), None);
        assert_eq!(cut(&right[..500], 300), None, "truncated");
        assert_eq!(cut(&[], 300), None);
        let mut beyond = right.clone();
        beyond[6..8].copy_from_slice(&0x1fffu16.to_be_bytes());
        assert_eq!(cut(&beyond, 300), None, "ends behind 65,535");
        let mut odd = v4(0, 17, &[0; 1001]);
        odd[6] = 0x20;
        assert_eq!(cut(&odd, 300), None, "no later fragment could follow it");
        for bad in [[148, 1, 0, 0], [148, 0, 0, 0], [7, 5, 0, 0], [1, 1, 1, 148]] {
            let mut packet = right.clone();
            packet.splice(20..20, bad);
            packet[0] = 0x46;
            packet[2..4].copy_from_slice(&1024u16.to_be_bytes());
            assert_eq!(cut(&packet, 300), None, "{bad:?}");
        }
    }

    fn in_gre(inner: &[u8], protocol: u16) -> Vec<u8> {
        let mut gre = vec![0, 0];
        gre.extend(protocol.to_be_bytes());
        gre.extend(inner);
        v4(0, 47, &gre)
    }

    #[test]
    fn nesting_counts_every_kind_of_tunnel_up_to_the_limit() {
        let plain = v4(0, 6, &[0; 20]);
        assert_eq!(nesting(&plain, 5), 0);
        assert_eq!(nesting(&in_gre(&plain, 0x0800), 5), 1);
        assert_eq!(nesting(&v4(0, 4, &plain), 5), 1);
        assert_eq!(nesting(&v4(0, 41, &v6(0, 17, &[0; 8])), 5), 1);
        assert_eq!(nesting(&v6(0, 4, &v4(0, 4, &plain)), 5), 2);
        assert_eq!(
            nesting(
                &in_gre(&frame(&[0x8100], 0x0800, &v4(0, 4, &plain)), 0x6558),
                5
            ),
            2
        );
        assert_eq!(
            nesting(&in_gre(&frame(&[], 0x0806, &[0; 28]), 0x6558), 5),
            1
        );
        let mut deep = plain.clone();
        for _ in 0..9 {
            deep = in_gre(&deep, 0x0800);
        }
        assert_eq!(nesting(&deep, 5), 5);
        assert_eq!(nesting(&deep, 20), 9);
        assert_eq!(nesting(&deep, 0), 0);
    }

    #[test]
    fn gre_in_udp_is_a_tunnel_and_other_udp_is_not() {
        let plain = v4(0, 6, &[0; 20]);
        let on = |port: u16| {
            let mut udp = vec![0xc0, 0];
            udp.extend(port.to_be_bytes());
            udp.extend([0, 32, 0, 0, 0, 0, 8, 0]);
            udp.extend(&v4(0, 4, &plain));
            nesting(&v4(0, 17, &udp), 5)
        };
        assert_eq!((on(4754), on(4753)), (2, 0));
        // Behind the extension header that Linux sends.
        let limited = v6(0, 60, &[&[4, 0, 4, 1, 4, 1, 1, 0][..], &plain].concat());
        assert_eq!(nesting(&limited, 5), 1);
        let mut later = v4(0, 4, &plain);
        later[7] = 1;
        assert_eq!(nesting(&later, 5), 0, "the middle of a packet");
    }

    proptest! {
        #[test]
        fn fragments_always_come_together(
            body in prop::collection::vec(any::<u8>(), 0..4000),
            mtu in 68usize..1600,
            offset in 0u16..7000,
            more in any::<bool>(),
            options in prop::collection::vec(prop::sample::select(vec![&[1][..], &[148, 4, 0, 0], &[7, 7, 4, 0, 0, 0, 0]]), 0..4),
        ) {
            let mut body = body;
            if more {
                body.truncate(body.len() & !7);
            }
            let mut options: Vec<u8> = options.concat();
            options.resize(options.len().next_multiple_of(4), 0);
            let mut packet = v4(0, 17, &[&options[..], &body].concat());
            packet[0] = 0x45 + (options.len() / 4) as u8;
            let field = offset | if more { 0x2000 } else { 0 };
            packet[6..8].copy_from_slice(&field.to_be_bytes());
            seal(&mut packet);
            let pieces = cut(&packet, mtu).unwrap();
            prop_assert!(pieces.iter().all(|piece| piece.len() <= mtu));
            prop_assert_eq!(together(&pieces), (body, usize::from(offset) * 8, more));
        }
    }
}
