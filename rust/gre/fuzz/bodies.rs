//! What each fuzz target does with its bytes: plain functions, called by libFuzzer and by the replay of the corpus alike.
//!
//! Each holds the crate against a naive second way of saying the same, or against promises that hold for any input.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ginnel_gre::demux::{Demux, Found, Seen};
use ginnel_gre::header::{self, Header, HeaderError};
use ginnel_gre::keepalive::{self, Keepalive};
use ginnel_gre::options::{Kind, Options, Udp};
use ginnel_gre::oversize::{self, Fit};
use ginnel_gre::receive::{self, Payload, Refusal, State};
use ginnel_gre::{ethernet, outer, quoted};
use ginnel_packet::ip;

/// The bytes of the input, used up from the front; zeros after the end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let first = self.0.first().copied().unwrap_or(0);
        self.0 = self.0.get(1..).unwrap_or_default();
        first
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }
}

const KINDS: [Kind; 5] = [Kind::Gre, Kind::GreTap, Kind::Ipip, Kind::Sit, Kind::Ip6Tnl];

/// A tunnel between two fixed ends from five bytes: kind, two of switches, TTL, TOS.
fn options(input: &mut Input) -> Options {
    let kind = KINDS[usize::from(input.byte()) % 5];
    let [first, second] = input.word().to_be_bytes();
    let on = |bits: u8, bit: u8| bits & 1 << bit != 0;
    let v6 = match kind {
        Kind::Gre | Kind::GreTap => on(first, 0),
        Kind::Ipip | Kind::Sit => false,
        Kind::Ip6Tnl => true,
    };
    let (local, remote) = ends(v6);
    let gre = matches!(kind, Kind::Gre | Kind::GreTap);
    Options {
        kind,
        local: Some(local),
        remote: Some(remote),
        ikey: on(first, 1).then_some(0x0102_0304),
        okey: on(first, 1).then_some(0x0102_0304),
        icsum: on(first, 2),
        ocsum: on(first, 2),
        iseq: on(first, 3),
        oseq: on(first, 3),
        tolerant: on(first, 4),
        tos_inherit: on(first, 5),
        pmtudisc: on(first, 6),
        ignore_df: on(first, 7),
        encaplimit: on(second, 0).then_some(4),
        flowlabel: on(second, 1).then_some(0xa_bcde),
        udp: (gre && on(second, 2)).then_some(Udp {
            listen: 4754,
            source: 0,
            destination: 4754,
        }),
        device: 0,
        ttl: input.byte(),
        tos: input.byte(),
    }
}

/// (ours, the peer's)
fn ends(v6: bool) -> (IpAddr, IpAddr) {
    if v6 {
        let host = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
        (host(1).into(), host(2).into())
    } else {
        (
            Ipv4Addr::new(10, 0, 0, 1).into(),
            Ipv4Addr::new(10, 0, 0, 2).into(),
        )
    }
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// RFC 1071, one word at a time.
fn ones_sum(data: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in data.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Any bytes as a GRE header, read a second way, and written again.
pub fn header(data: &[u8]) {
    let parsed = header::parse(data);
    let Ok(found) = parsed else {
        let expected = match data {
            [_, second, _, _, ..] if second & 7 != 0 => HeaderError::Version(second & 7),
            [first, _, _, _, ..] if first & 0x40 != 0 => HeaderError::Routing,
            _ => HeaderError::Truncated,
        };
        assert_eq!(parsed, Err(expected));
        return;
    };
    let words: Vec<u32> = data[4..].chunks_exact(4).map(be32).collect();
    let mut words = words.into_iter();
    let mut next = |bit: u8| (data[0] & bit != 0).then(|| words.next().unwrap());
    let sum = next(0x80);
    let (key, sequence) = (next(0x20), next(0x10));
    assert_eq!(
        (found.checksum, found.key, found.sequence),
        (sum.is_some(), key, sequence)
    );
    assert_eq!(found.len, 4 + 4 * (data[0] & 0xb0).count_ones() as usize);
    let right = !found.checksum || ones_sum(data) == 0xffff;
    assert_eq!(header::checksum_verifies(data), right);

    let mut again = data.to_vec();
    let len = header::write(&mut again, found.protocol, found.checksum, key, sequence);
    assert_eq!(len, found.len);
    header::set_checksum(&mut again);
    assert!(header::checksum_verifies(&again));
    assert_eq!(header::parse(&again), Ok(found));
    assert_eq!(again[len..], data[len..]);
}

/// A tunnel, what it expects, an outer TOS, and any bytes as its packet.
pub fn admit(data: &[u8]) {
    let mut input = Input(data);
    let options = options(&mut input);
    let before = State {
        expected: (input.byte() & 1 != 0).then(|| u32::from(input.word()) << 16),
    };
    let tos = input.byte();
    let packet = input.0;
    for protocol in [4, 41, 47] {
        let mut bytes = packet.to_vec();
        let got = receive::admit_ip(&options, protocol, tos, &mut bytes);
        admitted(&options, tos, packet, &bytes, &got);
    }
    let Ok(head) = header::parse(packet) else {
        return;
    };
    let (mut bytes, mut state) = (packet.to_vec(), before);
    let got = receive::admit(&options, &mut state, &head, tos, &mut bytes);
    admitted(&options, tos, packet, &bytes, &got);
    match &got {
        Err(refusal) => {
            assert_eq!((state, &bytes[..]), (before, packet), "no trace");
            refused(&options, before, &head, packet, *refusal);
        }
        Ok(_) if options.iseq => {
            assert_eq!(state.expected, head.sequence.map(|n| n.wrapping_add(1)));
            // A checksum was over the inner packet before ECN was merged into it: the same bytes again.
            let again = receive::admit(&options, &mut state, &head, tos, &mut packet.to_vec());
            assert!(matches!(again, Err(Refusal::OutOfOrder { .. })), "once");
        }
        Ok(_) => assert_eq!(state, before),
    }
}

fn admitted(
    options: &Options,
    tos: u8,
    packet: &[u8],
    bytes: &[u8],
    got: &Result<(Payload, std::ops::Range<usize>), Refusal>,
) {
    let Ok((payload, range)) = got else {
        assert_eq!(bytes, packet);
        return;
    };
    let inner = &bytes[range.clone()];
    let version = inner[0] >> 4;
    match payload {
        Payload::Ethernet => assert!(options.kind == Kind::GreTap && inner.len() >= 14),
        Payload::Ipv4 => assert_eq!((version, ip::total_len(inner)), (4, Ok(inner.len()))),
        Payload::Ipv6 => assert_eq!((version, ip::total_len(inner)), (6, Ok(inner.len()))),
    }
    if matches!(tos & 3, 0 | 2) {
        assert_eq!(bytes, packet, "nothing to merge");
    }
    assert_eq!(bytes[..range.start], packet[..range.start]);
    assert_eq!(bytes[range.end..], packet[range.end..]);
}

/// Each refusal is for what it says.
fn refused(options: &Options, state: State, head: &Header, packet: &[u8], refusal: Refusal) {
    match refusal {
        Refusal::ChecksumWrong => assert_ne!(ones_sum(packet), 0xffff),
        Refusal::ChecksumMissing => assert!(options.icsum && !head.checksum && !options.tolerant),
        Refusal::ChecksumUnexpected => assert!(!options.icsum && head.checksum),
        Refusal::SequenceMissing => assert!(options.iseq && head.sequence.is_none()),
        Refusal::OutOfOrder { seen, expected } => {
            assert_eq!(
                (head.sequence, state.expected),
                (Some(seen), Some(expected))
            );
            assert!(expected.wrapping_sub(seen) <= 1 << 31 && seen != expected);
        }
        Refusal::UnknownProtocol(protocol) => assert_eq!(protocol, head.protocol),
        Refusal::InnerMalformed | Refusal::Ecn => {}
    }
}

/// Any bytes as what an error quotes: more of it never takes back what less of it said.
pub fn quoted(data: &[u8]) {
    let whole = quoted::parse(data);
    if let Some(found) = whole {
        assert!(matches!(found.protocol, 4 | 17 | 41 | 47));
        assert_eq!(Some(found.local), ip::source(data));
        assert_eq!(Some(found.remote), ip::destination(data));
        assert_eq!(
            found.ports.is_some(),
            found.protocol == 17 && found.ports.is_some()
        );
    }
    for len in (0..data.len().min(200)).step_by(3) {
        let Some(less) = quoted::parse(&data[..len]) else {
            continue;
        };
        let found = whole.unwrap();
        assert_eq!(
            (less.local, less.remote, less.protocol),
            (found.local, found.remote, found.protocol)
        );
        assert!(less.key.is_none() || less.key == found.key);
        assert!(less.flags.is_none() || less.flags == found.flags);
        assert!(less.ports.is_none() || less.ports == found.ports);
    }
    let _ = quoted::key(data);
}

/// A GRE header and any payload, between the two fixed ends: what is asked back goes from us to the peer and carries nothing.
pub fn keepalive(data: &[u8]) {
    let Ok(head) = header::parse(data) else {
        return;
    };
    let payload = &data[head.len..];
    for v6 in [false, true] {
        let (local, remote) = ends(v6);
        match keepalive::recognise(&head, payload, local, remote) {
            Keepalive::No => {}
            Keepalive::Returned => assert!(payload.is_empty()),
            Keepalive::Asked => {
                let total = ip::total_len(payload).unwrap();
                assert_eq!(ip::source(payload), Some(local));
                assert_eq!(ip::destination(payload), Some(remote));
                let (at, next) = if v6 {
                    (40, payload[6])
                } else {
                    (20, payload[9])
                };
                assert_eq!((payload[0] >> 4, next), (if v6 { 6 } else { 4 }, 47));
                let inner = header::parse(&payload[at..total]).unwrap();
                assert_eq!(at + inner.len, total);
                assert!(matches!(inner.protocol, 0 | 0x86dd));
            }
        }
    }
}

/// A tunnel and any inner bytes: what is written reads as what the options say, and the far end gets the inner packet back.
pub fn outer(data: &[u8]) {
    let mut input = Input(data);
    let options = options(&mut input);
    let (id, protocol) = (input.word(), input.word());
    let inner = input.0;
    let protocol = match options.kind {
        Kind::Gre => [0x0800, 0x86dd, protocol][usize::from(protocol) % 3],
        Kind::GreTap => header::ETHERNET,
        Kind::Ipip => 0x0800,
        Kind::Sit => 0x86dd,
        Kind::Ip6Tnl => [0x0800, 0x86dd][usize::from(protocol) % 2],
    };
    let (local, remote) = (options.local.unwrap(), options.remote.unwrap());
    let fields = outer::fields(&options, inner);
    assert_eq!(fields, outer::fields(&options, inner));
    assert_eq!(outer::flow_hash(inner), outer::flow_hash(inner));
    let head = outer::len(&options);
    let mut packet = [&vec![0xee; head][..], inner].concat();
    if !outer::write(
        &options,
        local,
        remote,
        fields,
        id,
        protocol,
        7,
        &mut packet,
    ) {
        let used_up = options.encaplimit.is_some() && outer::inner_limit(inner) == Some(0);
        assert!(packet.len() > 65_535 || used_up);
        return;
    }
    assert_eq!(packet[head..], *inner);
    let gre = delivered(&options, fields, protocol, &packet);
    if !options.carries_gre() {
        let next = if protocol == 0x86dd { 41 } else { 4 };
        let got = receive::admit_ip(&options, next, fields.tos, &mut packet[gre..]);
        given_back(options.kind, protocol, inner, &packet[gre..], got);
        return;
    }
    let found = header::parse(&packet[gre..]).unwrap();
    assert_eq!(
        (
            found.protocol,
            found.checksum,
            found.key,
            found.sequence,
            gre + found.len
        ),
        (
            protocol,
            options.ocsum,
            options.okey,
            options.oseq.then_some(7),
            head
        )
    );
    assert!(header::checksum_verifies(&packet[gre..]));
    let mut state = State::default();
    let got = receive::admit(&options, &mut state, &found, fields.tos, &mut packet[gre..]);
    given_back(options.kind, protocol, inner, &packet[gre..], got);
}

/// Reads the delivery header; where the GRE header (or without one the inner packet) begins.
fn delivered(options: &Options, fields: outer::Fields, protocol: u16, packet: &[u8]) -> usize {
    if options.udp.is_some() {
        return 0;
    }
    assert_eq!(ip::total_len(packet), Ok(packet.len()));
    assert_eq!(ip::source(packet), options.local);
    assert_eq!(ip::destination(packet), options.remote);
    let at = ip::layout(packet).unwrap();
    let next = match (options.carries_gre(), protocol) {
        (true, _) => 47,
        (false, 0x86dd) => 41,
        (false, _) => 4,
    };
    assert_eq!((at.protocol, at.fragment), (next, ip::Fragment::Whole));
    if options.over_v6() {
        let first = be32(packet);
        assert_eq!(
            first,
            6 << 28 | u32::from(fields.tos) << 20 | fields.flow_label
        );
        assert_eq!(packet[7], fields.ttl);
    } else {
        assert_eq!(ones_sum(&packet[..20]), 0xffff);
        assert_eq!((packet[1], packet[8]), (fields.tos, fields.ttl));
        assert_eq!(packet[6] & 0x40 != 0, fields.df);
        assert!(fields.df || packet[4..6] != [0, 0]);
    }
    at.transport
}

fn given_back(
    kind: Kind,
    protocol: u16,
    inner: &[u8],
    packet: &[u8],
    got: Result<(Payload, std::ops::Range<usize>), Refusal>,
) {
    let len = match (kind, protocol, inner.first().map(|first| first >> 4)) {
        (Kind::GreTap, _, _) => (inner.len() >= 14).then_some(inner.len()),
        (_, 0x0800, Some(4)) | (_, 0x86dd, Some(6)) => ip::total_len(inner).ok(),
        _ => None,
    };
    match (len, got) {
        (Some(len), Ok((_, range))) => assert_eq!(packet[range], inner[..len]),
        (None, Err(_)) => {}
        // It may have a packet, too, or find one behind four bytes more.
        (None, Ok(_)) => assert_eq!(protocol, header::WCCP),
        (Some(_), Err(refusal)) => panic!("{refusal:?}"),
    }
}

/// An MTU and any bytes as a packet that is larger: judged, and cut into fragments that come together again.
pub fn fragment(data: &[u8]) {
    let mut input = Input(data);
    let options = options(&mut input);
    let mtu = usize::from(input.word());
    let packet = input.0;
    assert!(oversize::nesting(packet, 5) <= 5);
    assert!(oversize::nesting(packet, 2) == oversize::nesting(packet, 9).min(2));
    if let Some(at) = ethernet::ip_at(packet) {
        assert!(at < packet.len() && matches!(packet[at] >> 4, 4 | 6));
    }
    let verdict = oversize::fit(&options, packet, packet.len(), mtu);
    assert_eq!(verdict == Fit::Fits, packet.len() <= mtu);
    assert!(oversize::answer_mtu(packet, mtu) >= mtu.max(68));
    if verdict == Fit::Fragment {
        assert!(packet[0] >> 4 == 4 && packet.get(6).is_none_or(|flags| flags & 0x40 == 0));
    }
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let done = oversize::fragment_ipv4(packet, mtu, &mut |piece| pieces.push(piece.to_vec()));
    assert_eq!(done, !pieces.is_empty());
    if !done {
        return;
    }
    let total = ip::total_len(packet).unwrap();
    if total <= mtu {
        assert_eq!(pieces, [packet[..total].to_vec()]);
        return;
    }
    let field = |p: &[u8]| u16::from_be_bytes([p[6], p[7]]);
    let header = usize::from(packet[0] & 15) * 4;
    let (mut body, start): (Vec<u8>, _) = (Vec::new(), usize::from(field(packet) & 0x1fff) * 8);
    for (n, piece) in pieces.iter().enumerate() {
        let len = usize::from(piece[0] & 15) * 4;
        assert!(piece.len() <= mtu && ip::total_len(piece) == Ok(piece.len()));
        assert_eq!(ones_sum(&piece[..len]), 0xffff);
        assert_eq!(usize::from(field(piece) & 0x1fff) * 8, start + body.len());
        let more = n + 1 < pieces.len() || field(packet) & 0x2000 != 0;
        assert_eq!(field(piece) & 0x6000, if more { 0x2000 } else { 0 });
        assert!(len <= header && piece[12..20] == packet[12..20] && piece[4..6] == packet[4..6]);
        body.extend(&piece[len..]);
    }
    assert_eq!(body, packet[header..total]);
}

/// Tunnels come and go, packets ask: the tables against a search through all tunnels.
pub fn demux(data: &[u8]) {
    let mut input = Input(data);
    let mut table = Demux::new();
    let mut all: Vec<(Options, u32)> = Vec::new();
    let mut number = 0;
    while !input.0.is_empty() && number < 500 {
        number += 1;
        let (what, which) = (input.byte(), input.byte());
        let (key, device) = (u32::from(which & 3), u32::from(which >> 2 & 3));
        let key = (key != 0).then_some(key);
        let v6 = which & 0x10 != 0;
        let kind = KINDS[usize::from(what >> 2) % 5];
        let udp = which & 0x20 != 0;
        let (local, remote) = (
            which_end(v6, what >> 5),
            which_end(v6, which >> 6 | what >> 5 & 4),
        );
        match what & 3 {
            0 => {
                let options = tunnel(kind, v6, udp, local, remote, key, device);
                let same = all.iter().find(|(other, _)| alike(other, &options));
                let got = table.insert(&options, number);
                assert_eq!(got, same.map_or(Ok(()), |(_, there)| Err(*there)));
                if got.is_ok() {
                    all.push((options, number));
                }
            }
            1 if !all.is_empty() => {
                let (_, tunnel) = all.swap_remove(usize::from(which) % all.len());
                table.remove(tunnel);
            }
            _ => {
                let seen = Seen {
                    local: local.unwrap_or(ends(v6).0),
                    remote: remote.unwrap_or(ends(v6).1),
                    key,
                    ethernet: kind == Kind::GreTap,
                    protocol: match kind {
                        Kind::Gre | Kind::GreTap => 47,
                        Kind::Ipip => 4,
                        Kind::Sit | Kind::Ip6Tnl => 41,
                    },
                    udp,
                    device,
                };
                check_found(&all, &seen, table.find(&seen));
            }
        }
        assert_eq!(table.len(), all.len());
    }
}

fn which_end(v6: bool, n: u8) -> Option<IpAddr> {
    let (a, b) = ends(v6);
    let group: IpAddr = if v6 {
        Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 7).into()
    } else {
        Ipv4Addr::new(239, 1, 1, 1).into()
    };
    [None, Some(a), Some(b), Some(group)][usize::from(n) % 4]
}

fn tunnel(
    kind: Kind,
    v6: bool,
    udp: bool,
    local: Option<IpAddr>,
    remote: Option<IpAddr>,
    ikey: Option<u32>,
    device: u32,
) -> Options {
    let options = options(&mut Input(&[]));
    let any = |end: Option<IpAddr>| match (kind, v6) {
        // Ends of the kind's own family, and one that names the family where the kind does not.
        (Kind::Ipip | Kind::Sit, true) | (Kind::Ip6Tnl, false) => None,
        (_, true) => Some(end.unwrap_or(Ipv6Addr::UNSPECIFIED.into())),
        (_, false) => Some(end.unwrap_or(Ipv4Addr::UNSPECIFIED.into())),
    };
    Options {
        kind,
        local: any(local),
        remote: any(remote),
        ikey,
        udp: udp.then_some(Udp {
            listen: 4754,
            source: 4754,
            destination: 4754,
        }),
        device,
        ..options
    }
}

/// What two tunnels may not have in common.
fn alike(a: &Options, b: &Options) -> bool {
    let ends = |o: &Options| {
        let given = |end: Option<IpAddr>| end.filter(|a| !a.is_unspecified());
        match o.remote {
            Some(group) if group.is_multicast() => (Some(group), None),
            remote => (given(o.local), given(remote)),
        }
    };
    let key = |o: &Options| if o.carries_gre() { o.ikey } else { None };
    ends(a) == ends(b)
        && (a.kind, a.over_v6(), a.udp.is_some(), a.device, key(a))
            == (b.kind, b.over_v6(), b.udp.is_some(), b.device, key(b))
}

/// How well a tunnel matches apart from its key, the less the better; None: not at all.
fn rank(options: &Options, seen: &Seen) -> Option<(u8, bool, u8, u32)> {
    let kind = match (seen.protocol, options.kind) {
        (47, Kind::Gre) => {
            if seen.ethernet {
                8
            } else {
                0
            }
        }
        (47, Kind::GreTap) => {
            if seen.ethernet {
                0
            } else {
                8
            }
        }
        (4, Kind::Ipip) | (41, Kind::Sit) | (4 | 41, Kind::Ip6Tnl) => 0,
        _ => return None,
    };
    if options.over_v6() != seen.local.is_ipv6()
        || seen.protocol == 47 && options.udp.is_some() != seen.udp
        || seen.protocol != 47 && options.udp.is_some()
    {
        return None;
    }
    let bound = options.device != 0 && options.device == seen.device;
    let (local, remote) = match options.remote {
        Some(group) if group.is_multicast() => (Some(group), None),
        remote => (options.local, remote),
    };
    let matches = |end: Option<IpAddr>, seen: IpAddr| match end.filter(|a| !a.is_unspecified()) {
        None => Some(false),
        Some(end) => (end == seen).then_some(true),
    };
    let level = match (matches(local, seen.local)?, matches(remote, seen.remote)?) {
        (true, true) => 0,
        (false, true) => 1,
        (true, false) => 2,
        (false, false) => 3,
    };
    Some((kind, !bound, level, if bound { 0 } else { options.device }))
}

fn check_found(all: &[(Options, u32)], seen: &Seen, got: Found<u32>) {
    let key_matches = |o: &Options| !o.carries_gre() || o.ikey == seen.key;
    let best = |keyed: bool| {
        all.iter()
            .filter(|(o, _)| !keyed || key_matches(o))
            .filter_map(|(o, tunnel)| Some((rank(o, seen)?, *tunnel)))
            .min()
    };
    match (best(true), best(false), got) {
        (Some((_, tunnel)), _, found) => assert_eq!(found, Found::Tunnel(tunnel)),
        // Any of those that match as well at that level.
        (None, Some(_), Found::WrongKey(tunnel)) => {
            let (options, _) = all.iter().find(|(_, t)| *t == tunnel).unwrap();
            let nearness = |o| rank(o, seen).map(|(kind, _, level, _)| (kind, level));
            let nearest = all.iter().filter_map(|(o, _)| nearness(o)).min();
            assert_eq!(nearness(options), nearest);
        }
        (None, best, found) => assert_eq!((best, found), (None, Found::None)),
    }
}
