//! The delivery header that goes in front of an encapsulated packet, for sockets that take the header from us.
//!
//! ```text
//! IPv4 (20)                     | GRE (4..16, or none) | inner packet
//! IPv6 (40) | Destination Options (8, if configured) | GRE | inner packet
//! in UDP, whose headers are the kernel's:              GRE | inner packet
//! ```
//!
//! | field | rule (that of `ip_tunnel_xmit` and `ip6gre`) |
//! | --- | --- |
//! | TTL, hop limit | fixed, or the inner packet's; 64 for what has none |
//! | DSCP | fixed, or the inner packet's |
//! | ECN | the inner packet's, whatever is configured; ECT(0) for CE, which the far end does not need (it has the inner one). Linux's ip6gre sends none |
//! | DF | path MTU discovery, or the inner DF unless `ignore_df` |
//! | identification | never 0 without DF: fragments are put together by it (RFC 6864 4.3) |
//! | flow label | fixed, or from the inner flow (RFC 6438) |
//! | encapsulation limit | as configured, but less by one than that of the packet inside (RFC 2473 4.1.1) |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ginnel_packet::checksum;
use ginnel_packet::ecn;
use ginnel_packet::ip::{self, Fragment, Ip};

use crate::demux::{GRE, IPV4_IN_IP, IPV6_IN_IP};
use crate::ethernet;
use crate::header;
use crate::options::{Kind, Options};

/// Room before an inner packet that every stack of ours fits into: IPv6 40, Destination Options 8, GRE 16.
pub const MAX_LEN: usize = 64;

/// TTL for what has none (RFC 1700; `ip4_dst_hoplimit`).
pub const DEFAULT_TTL: u8 = 64;
/// The Destination Options header with nothing but the encapsulation limit, padded to 8 bytes.
const LIMIT_LEN: usize = 8;
/// Next header value of Destination Options.
const DESTINATION_OPTIONS: u8 = 60;
/// Option types (RFC 2473 4.1.1; RFC 8200 4.2).
const OPTION_LIMIT: u8 = 4;
const OPTION_PAD: u8 = 1;
/// What fits into the length field of either family.
const MAX_TOTAL: usize = 65_535;

/// The parts of the delivery header that depend on the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    pub df: bool,
    pub flow_label: u32,
}

/// From the tunnel's options and the inner packet (or Ethernet frame, whose IP header is looked for behind tags).
#[inline]
pub fn fields(options: &Options, inner: &[u8]) -> Fields {
    let packet = ip_of(options, inner);
    let seen = packet.and_then(visible);
    let (ttl, tos, df) = seen.unwrap_or((DEFAULT_TTL, 0, false));
    let dscp = if options.tos_inherit {
        tos
    } else {
        options.tos
    };
    let congestion = match tos & ecn::MASK {
        ecn::CE => ecn::ECT0,
        other => other,
    };
    Fields {
        ttl: if options.ttl == 0 { ttl } else { options.ttl },
        tos: dscp & !ecn::MASK | congestion,
        df: options.pmtudisc || df && !options.ignore_df,
        flow_label: match options.flowlabel {
            _ if !options.over_v6() => 0,
            Some(label) => label & 0xf_ffff,
            None => flow_hash_of(options, inner) & 0xf_ffff,
        },
    }
}

/// TTL, TOS and DF of an IP packet that has its fixed header.
#[inline]
fn visible(packet: &[u8]) -> Option<(u8, u8, bool)> {
    match ip::version(packet)? {
        Ip::V4 => {
            let h = packet.first_chunk::<{ ip::V4_HEADER }>()?;
            Some((h[8], h[1], h[6] & 0x40 != 0))
        }
        Ip::V6 => {
            let h = packet.first_chunk::<{ ip::V6_HEADER }>()?;
            Some((h[7], h[0] << 4 | h[1] >> 4, false))
        }
    }
}

/// The IP packet in what this tunnel carries.
#[inline]
fn ip_of<'a>(options: &Options, inner: &'a [u8]) -> Option<&'a [u8]> {
    match options.kind {
        Kind::GreTap => inner.get(ethernet::ip_at(inner)?..),
        Kind::Gre | Kind::Ipip | Kind::Sit | Kind::Ip6Tnl => Some(inner),
    }
}

/// A hash of an IP packet's flow (addresses, protocol, ports), stable for a flow: for source ports and flow labels.
///
/// All fragments of a packet have one hash, without ports. What is not IP hashes to 0; for Ethernet frames see [`flow_hash_of`].
#[inline]
pub fn flow_hash(inner: &[u8]) -> u32 {
    let Some(at) = ip::layout(inner) else {
        return 0;
    };
    let addresses = match at.ip {
        Ip::V4 => inner.get(12..20),
        Ip::V6 => inner.get(8..40),
    };
    let ports = match (at.fragment, at.protocol) {
        // TCP, UDP, DCCP, SCTP, UDP-Lite: ports are the first four bytes.
        (Fragment::Whole, 6 | 17 | 33 | 132 | 136) => inner.get(at.transport..at.transport + 4),
        _ => None,
    };
    // Behind a fragment header of IPv6 the first fragment shows another protocol than the others, if there are more extensions.
    let protocol = match (at.ip, at.fragment) {
        (Ip::V6, Fragment::First | Fragment::Later) => 0,
        _ => at.protocol,
    };
    let seed = mix(u64::from(protocol), word(ports.unwrap_or_default()));
    scramble(addresses.unwrap_or_default(), seed)
}

/// [`flow_hash`] of what this tunnel carries: for Ethernet that of the IP packet inside, else of both stations.
#[inline]
pub fn flow_hash_of(options: &Options, inner: &[u8]) -> u32 {
    match ip_of(options, inner) {
        Some(packet) => flow_hash(packet),
        None => scramble(inner.get(..ethernet::HEADER).unwrap_or_default(), 0),
    }
}

/// The UDP source port for a flow: 49152 and up, as RFC 8086 3.1 recommends.
#[inline]
pub fn entropy_port(hash: u32) -> u16 {
    0xc000 | (hash >> 18) as u16
}

fn scramble(bytes: &[u8], seed: u64) -> u32 {
    let folded = bytes
        .chunks(4)
        .fold(seed, |state, chunk| mix(state, word(chunk)));
    (folded >> 32) as u32 ^ folded as u32
}

/// Up to four bytes.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Multiply and fold: every bit of either argument reaches every bit of the result.
#[inline]
fn mix(state: u64, value: u64) -> u64 {
    let wide =
        u128::from(state.rotate_left(32) ^ value ^ 0xa076_1d64_78bd_642f) * 0xe703_7ed1_a0b4_28db;
    (wide >> 64) as u64 ^ wide as u64
}

/// Bytes that `write` writes for these options: delivery header (with options) and GRE; 0 for the delivery header when in UDP.
#[inline]
pub fn len(options: &Options) -> usize {
    let delivery = match (options.udp, options.over_v6(), options.encaplimit) {
        (Some(_), _, _) => 0,
        (None, false, _) => ip::V4_HEADER,
        (None, true, None) => ip::V6_HEADER,
        (None, true, Some(_)) => ip::V6_HEADER + LIMIT_LEN,
    };
    delivery + options.gre_len()
}

/// Writes delivery header and GRE header into `packet[..len(options)]`, in front of the inner packet that is there already.
///
/// *packet* is all of it; *protocol* the GRE protocol type, or for the kinds without GRE 0x0800 or 0x86DD. IPv4: total length,
/// identification and checksum are filled in; *id* for the identification. In UDP only the GRE header is written.
///
/// False: it must not be sent: it has no room for the headers or is longer than a packet can be, the addresses are not of the
/// tunnel's family, or the inner packet's encapsulation limit is used up (RFC 2473 4.1.1 a).
#[must_use]
#[allow(clippy::too_many_arguments)]
pub fn write(
    options: &Options,
    local: IpAddr,
    remote: IpAddr,
    fields: Fields,
    id: u16,
    protocol: u16,
    sequence: u32,
    packet: &mut [u8],
) -> bool {
    let gre_at = len(options) - options.gre_len();
    if packet.len() < len(options) || packet.len() > MAX_TOTAL {
        return false;
    }
    if options.carries_gre() {
        let gre = &mut packet[gre_at..];
        let number = options.oseq.then_some(sequence);
        header::write(gre, protocol, options.ocsum, options.okey, number);
        if options.ocsum {
            header::set_checksum(gre);
        }
    }
    if options.udp.is_some() {
        return true;
    }
    let next = match (options.carries_gre(), protocol) {
        (true, _) => GRE,
        (false, header::IPV6) => IPV6_IN_IP,
        (false, _) => IPV4_IN_IP,
    };
    match (local, remote, options.over_v6()) {
        (IpAddr::V4(local), IpAddr::V4(remote), false) => {
            write_v4(local, remote, fields, id, next, packet)
        }
        (IpAddr::V6(local), IpAddr::V6(remote), true) => {
            let limit = match options.encaplimit {
                None => None,
                Some(configured) => match inner_limit(&packet[len(options)..]) {
                    Some(0) => return false,
                    Some(inner) => Some(inner - 1),
                    None => Some(configured),
                },
            };
            write_v6(local, remote, fields, limit, next, packet)
        }
        _ => false,
    }
}

/// Writes a bare IPv4 or IPv6 header into the front of `packet`, for what has no GRE header: *next* is the protocol behind it.
///
/// False: no room, too long for an IP packet, or addresses of two families.
#[must_use]
pub fn write_delivery(
    local: IpAddr,
    remote: IpAddr,
    fields: Fields,
    id: u16,
    next: u8,
    packet: &mut [u8],
) -> bool {
    if packet.len() > MAX_TOTAL {
        return false;
    }
    match (local, remote) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            write_v4(local, remote, fields, id, next, packet)
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) if packet.len() >= ip::V6_HEADER => {
            write_v6(local, remote, fields, None, next, packet)
        }
        _ => false,
    }
}

fn write_v4(
    local: Ipv4Addr,
    remote: Ipv4Addr,
    fields: Fields,
    id: u16,
    next: u8,
    packet: &mut [u8],
) -> bool {
    let total = packet.len() as u16;
    let Some(h) = packet.first_chunk_mut::<{ ip::V4_HEADER }>() else {
        return false;
    };
    let id = if fields.df { id } else { id.max(1) };
    h[0] = 0x45;
    h[1] = fields.tos;
    h[2..4].copy_from_slice(&total.to_be_bytes());
    h[4..6].copy_from_slice(&id.to_be_bytes());
    h[6..8].copy_from_slice(&[if fields.df { 0x40 } else { 0 }, 0]);
    h[8] = fields.ttl;
    h[9] = next;
    h[10..12].fill(0);
    h[12..16].copy_from_slice(&local.octets());
    h[16..20].copy_from_slice(&remote.octets());
    let sum = checksum::sum_fixed(h).checksum();
    h[10..12].copy_from_slice(&sum);
    true
}

fn write_v6(
    local: Ipv6Addr,
    remote: Ipv6Addr,
    fields: Fields,
    limit: Option<u8>,
    next: u8,
    packet: &mut [u8],
) -> bool {
    let payload = packet.len() - ip::V6_HEADER;
    let Some((h, rest)) = packet.split_first_chunk_mut::<{ ip::V6_HEADER }>() else {
        return false;
    };
    let first = 6 << 28 | u32::from(fields.tos) << 20 | fields.flow_label & 0xf_ffff;
    h[..4].copy_from_slice(&first.to_be_bytes());
    h[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
    h[6] = next;
    h[7] = fields.ttl;
    h[8..24].copy_from_slice(&local.octets());
    h[24..40].copy_from_slice(&remote.octets());
    if let (Some(limit), Some(options)) = (limit, rest.first_chunk_mut::<LIMIT_LEN>()) {
        h[6] = DESTINATION_OPTIONS;
        *options = [next, 0, OPTION_LIMIT, 1, limit, OPTION_PAD, 1, 0];
    }
    true
}

/// The encapsulation limit that an IPv6 packet carries: in the options header that is its first extension but for hop-by-hop
/// options.
///
/// Source: RFC 2473 4.1.1.
pub fn inner_limit(packet: &[u8]) -> Option<u8> {
    if ip::version(packet) != Some(Ip::V6) {
        return None;
    }
    let mut next = *packet.get(6)?;
    let mut at = ip::V6_HEADER;
    for _ in 0..ip::MAX_EXTENSIONS {
        let header = packet.get(at..)?;
        let len = (usize::from(*header.get(1)?) + 1) * 8;
        match next {
            0 | 43 => {}
            DESTINATION_OPTIONS => {
                if let Some(limit) = limit_option(header.get(2..len)?) {
                    return Some(limit);
                }
            }
            _ => return None,
        }
        next = *header.first()?;
        at += len;
    }
    None
}

fn limit_option(mut options: &[u8]) -> Option<u8> {
    loop {
        match options {
            [OPTION_LIMIT, 1, limit, ..] => return Some(*limit),
            [0, rest @ ..] => options = rest,
            [_, len, rest @ ..] => options = rest.get(usize::from(*len)..)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ethernet::tests::frame;
    use crate::options::tests::{options, udp};
    use crate::tests::{seal, v4, v6};

    const A: &str = "192.0.2.1";
    const B: &str = "198.51.100.2";
    const A6: &str = "2001:db8::1";
    const B6: &str = "2001:db8::2";

    fn four() -> Options {
        options(Kind::Gre, A, B)
    }

    fn six() -> Options {
        options(Kind::Gre, A6, B6)
    }

    fn with_df(mut packet: Vec<u8>) -> Vec<u8> {
        packet[6] |= 0x40;
        seal(&mut packet);
        packet
    }

    fn written(options: &Options, id: u16, protocol: u16, inner: &[u8]) -> Option<Vec<u8>> {
        let mut packet = vec![0xee; len(options)];
        packet.extend(inner);
        let (local, remote) = (options.local.unwrap(), options.remote.unwrap());
        let fields = fields(options, inner);
        write(options, local, remote, fields, id, protocol, 9, &mut packet).then_some(packet)
    }

    #[test]
    fn a_bare_delivery_header_names_what_is_behind_it() {
        let fields = Fields {
            ttl: 64,
            tos: 0xb9,
            df: false,
            flow_label: 7,
        };
        for (local, remote, header, at) in [(A, B, 20, 9), (A6, B6, 40, 6)] {
            let (local, remote): (IpAddr, IpAddr) =
                (local.parse().unwrap(), remote.parse().unwrap());
            let mut packet = vec![0xee; header + 12];
            assert!(write_delivery(local, remote, fields, 0, 50, &mut packet));
            assert_eq!(packet[at], 50);
            assert_eq!(packet[header..], [0xee; 12]);
            assert_eq!(ip::total_len(&packet), Ok(header + 12));
            assert_eq!(ip::source(&packet), Some(local));
            assert_eq!(ip::destination(&packet), Some(remote));
            for short in 0..header {
                let room = &mut packet[..short];
                assert!(!write_delivery(local, remote, fields, 0, 50, room));
            }
        }
        let (four, six) = (A.parse().unwrap(), B6.parse().unwrap());
        assert!(!write_delivery(four, six, fields, 0, 50, &mut [0; 80]));
        let mut long = vec![0; MAX_TOTAL + 1];
        assert!(!write_delivery(four, four, fields, 0, 50, &mut long));
    }

    #[test]
    fn ttl_is_inherited_or_fixed_or_64() {
        for inner in [v4(0, 17, &[0; 8]), v6(0, 17, &[0; 8])] {
            assert_eq!(fields(&four(), &inner).ttl, 33);
            assert_eq!(fields(&six(), &inner).ttl, 33);
            let fixed = Options { ttl: 7, ..four() };
            assert_eq!(fields(&fixed, &inner).ttl, 7);
        }
        assert_eq!(fields(&four(), &[]).ttl, 64);
        let tap = options(Kind::GreTap, A, B);
        assert_eq!(fields(&tap, &frame(&[], 0x0806, &[0x45; 28])).ttl, 64);
        let tagged = frame(&[0x88a8, 0x8100], 0x86dd, &v6(0, 17, &[0; 8]));
        assert_eq!(fields(&tap, &tagged).ttl, 33);
    }

    #[test]
    fn dscp_is_fixed_or_inherited_and_ecn_always_the_inner_one() {
        for (inside, ecn) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
            for inner in [
                v4(0xb8 | inside, 17, &[0; 8]),
                v6(0xb8 | inside, 17, &[0; 8]),
            ] {
                for base in [four(), six()] {
                    let tos = |options: &Options| fields(options, &inner).tos;
                    assert_eq!(tos(&base), ecn);
                    let fixed = Options {
                        tos: 0x2b,
                        ..base.clone()
                    };
                    assert_eq!(tos(&fixed), 0x28 | ecn, "its own ECN bits are not sent");
                    let inherit = Options {
                        tos_inherit: true,
                        ..base
                    };
                    assert_eq!(tos(&inherit), 0xb8 | ecn, "CE is sent as ECT(0)");
                }
            }
        }
        let tap = Options {
            tos_inherit: true,
            ..options(Kind::GreTap, A, B)
        };
        let tagged = frame(&[0x8100], 0x0800, &v4(0x2a, 17, &[0; 8]));
        assert_eq!(fields(&tap, &tagged).tos, 0x2a);
        assert_eq!(fields(&tap, &frame(&[], 0x0806, &[0xff; 28])).tos, 0);
    }

    #[test]
    fn df_is_path_mtu_discovery_or_the_inner_one_unless_ignored() {
        let free = v4(0, 17, &[0; 8]);
        let held = with_df(free.clone());
        for (pmtudisc, ignore_df, of_free, of_held) in [
            (true, false, true, true),
            (true, true, true, true),
            (false, false, false, true),
            (false, true, false, false),
        ] {
            let options = Options {
                pmtudisc,
                ignore_df,
                ..four()
            };
            assert_eq!(fields(&options, &free).df, of_free);
            assert_eq!(fields(&options, &held).df, of_held);
            assert_eq!(fields(&options, &v6(0, 17, &[])).df, pmtudisc);
        }
    }

    #[test]
    fn the_flow_label_is_fixed_or_the_flows() {
        let inner = v4(0, 17, &[0, 1, 0, 2, 0, 8, 0, 0]);
        let other = v4(0, 17, &[0, 1, 0, 3, 0, 8, 0, 0]);
        let label = fields(&six(), &inner).flow_label;
        assert!(label <= 0xf_ffff && label != 0);
        assert_ne!(label, fields(&six(), &other).flow_label);
        for (fixed, sent) in [(0, 0), (0x12345, 0x12345), (0xfff1_2345, 0x12345)] {
            let options = Options {
                flowlabel: Some(fixed),
                ..six()
            };
            assert_eq!(fields(&options, &inner).flow_label, sent);
        }
    }

    #[test]
    fn the_hash_is_of_the_flow_alone() {
        let udp = |tos, ports: [u8; 4]| v4(tos, 17, &[&ports[..], &[0; 20]].concat());
        let one = udp(0, [1, 2, 3, 4]);
        let mut same = udp(0xfc, [1, 2, 3, 4]);
        same[4] = 77; // identification
        same[8] = 3; // TTL
        assert_eq!(flow_hash(&one), flow_hash(&same));
        assert_ne!(flow_hash(&one), flow_hash(&udp(0, [1, 2, 3, 5])));
        let mut other = one.clone();
        other[19] = 9;
        assert_ne!(flow_hash(&one), flow_hash(&other));
        assert_ne!(flow_hash(&one), flow_hash(&v4(0, 6, &one[20..])));
        // ICMP has no ports: what stands there is not the flow.
        let echo = |n| v4(0, 1, &[8, 0, n, n, 0, 1, 0, n]);
        assert_eq!(flow_hash(&echo(1)), flow_hash(&echo(2)));
        let six = |port| v6(0, 17, &[0, 1, 0, port, 0, 8, 0, 0]);
        assert_ne!(flow_hash(&six(1)), flow_hash(&six(2)));
        assert_eq!(flow_hash(&[]), 0);
        assert_eq!(flow_hash(&[0x00; 40]), 0);
    }

    #[test]
    fn all_fragments_of_a_packet_have_one_hash() {
        let mut first = v4(0, 17, &[1, 2, 3, 4, 5, 6, 7, 8]);
        let mut later = v4(0, 17, &[9, 9, 9, 9, 9, 9, 9, 9]);
        first[6] = 0x20;
        later[7] = 1;
        assert_eq!(flow_hash(&first), flow_hash(&later));
        // IPv6: UDP behind destination options behind the fragment header.
        let first = v6(
            0,
            44,
            &[60, 0, 0, 1, 0, 0, 0, 5, 17, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3, 4],
        );
        let later = v6(0, 44, &[60, 0, 0, 16, 0, 0, 0, 5, 7, 7, 7, 7, 7, 7, 7, 7]);
        assert_eq!(flow_hash(&first), flow_hash(&later));
    }

    #[test]
    fn a_frame_hashes_as_its_packet_or_its_stations() {
        let tap = options(Kind::GreTap, A, B);
        let inner = v4(0, 17, &[0, 1, 0, 2, 0, 8, 0, 0]);
        for tags in [&[][..], &[0x8100]] {
            let whole = frame(tags, 0x0800, &inner);
            assert_eq!(flow_hash_of(&tap, &whole), flow_hash(&inner));
        }
        let arp = |last| {
            let mut arp = frame(&[], 0x0806, &[1; 28]);
            arp[11] = last;
            flow_hash_of(&tap, &arp)
        };
        assert_eq!(arp(1), arp(1));
        assert_ne!(arp(1), arp(2));
    }

    #[test]
    fn source_ports_are_49152_and_up_and_spread() {
        let mut ports = std::collections::HashSet::new();
        for n in 0..4096u16 {
            let [a, b] = n.to_be_bytes();
            let port = entropy_port(flow_hash(&v4(0, 6, &[a, b, 0, 80])));
            assert!(port >= 49_152);
            ports.insert(port);
        }
        // Random would give 3,624 of 16,384.
        assert!(ports.len() > 3_400, "{}", ports.len());
        assert_eq!(entropy_port(0), 49_152);
        assert_eq!(entropy_port(u32::MAX), 65_535);
    }

    #[test]
    fn ipv4_byte_for_byte() {
        let inner = v4(0xb9, 17, &[0; 8]);
        let options = Options {
            okey: Some(0x2a),
            oseq: true,
            tos_inherit: true,
            ..four()
        };
        let packet = written(&options, 0x1234, 0x0800, &inner).unwrap();
        let head = [
            0x45, 0xb9, 0, 60, 0x12, 0x34, 0x40, 0, 33, 47, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2,
        ];
        let gre = [0x30, 0, 8, 0, 0, 0, 0, 0x2a, 0, 0, 0, 9];
        assert_eq!(packet[..10], head[..10]);
        assert_eq!(packet[12..20], head[12..]);
        assert!(checksum::sum(&packet[..20]).verifies());
        assert_eq!(packet[20..32], gre);
        assert_eq!(packet[32..], inner);
    }

    #[test]
    fn ipv6_byte_for_byte_with_and_without_the_encapsulation_limit() {
        let inner = v4(0xb9, 17, &[0; 8]);
        let base = Options {
            ttl: 9,
            flowlabel: Some(0x54321),
            tos: 0x28,
            ..six()
        };
        let packet = written(&base, 0, 0x0800, &inner).unwrap();
        assert_eq!(packet[..8], [0x62, 0x95, 0x43, 0x21, 0, 32, 47, 9]);
        assert_eq!(packet[8..24], A6.parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(packet[24..40], B6.parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(packet[40..44], [0, 0, 8, 0]);
        assert_eq!(packet[44..], inner);

        let limited = Options {
            encaplimit: Some(4),
            ..base
        };
        let packet = written(&limited, 0, 0x0800, &inner).unwrap();
        assert_eq!(packet[..8], [0x62, 0x95, 0x43, 0x21, 0, 40, 60, 9]);
        assert_eq!(packet[40..48], [47, 0, 4, 1, 4, 1, 1, 0]);
        assert_eq!(packet[48..52], [0, 0, 8, 0]);
        assert_eq!(inner_limit(&packet), Some(4));
    }

    #[test]
    fn the_kinds_without_gre_have_their_protocol_number() {
        for (kind, local, remote, protocol, next, at) in [
            (Kind::Ipip, A, B, 0x0800, 4, 9),
            (Kind::Sit, A, B, 0x86dd, 41, 9),
            (Kind::Ip6Tnl, A6, B6, 0x0800, 4, 6),
            (Kind::Ip6Tnl, A6, B6, 0x86dd, 41, 6),
        ] {
            let options = options(kind, local, remote);
            let packet = written(&options, 1, protocol, &v4(0, 17, &[])).unwrap();
            assert_eq!(packet[at], next, "{kind:?}");
            assert_eq!(packet.len(), len(&options) + 20);
        }
    }

    #[test]
    fn the_identification_is_never_0_without_df() {
        let inner = v4(0, 17, &[]);
        let id = |pmtudisc, id| {
            let options = Options { pmtudisc, ..four() };
            let packet = written(&options, id, 0x0800, &inner).unwrap();
            u16::from_be_bytes([packet[4], packet[5]])
        };
        assert_eq!((id(false, 0), id(false, 7), id(true, 0)), (1, 7, 0));
    }

    #[test]
    fn the_gre_checksum_covers_the_inner_packet() {
        for base in [four(), six(), udp(&four())] {
            let options = Options {
                ocsum: true,
                ..base
            };
            let mut packet = written(&options, 1, 0x0800, &v4(0, 17, &[5; 33])).unwrap();
            let gre = len(&options) - options.gre_len();
            assert!(header::checksum_verifies(&packet[gre..]));
            *packet.last_mut().unwrap() ^= 1;
            assert!(!header::checksum_verifies(&packet[gre..]));
        }
    }

    #[test]
    fn in_udp_only_gre_is_written() {
        let inner = v4(0, 17, &[]);
        let options = udp(&four());
        assert_eq!(len(&options), 4);
        let packet = written(&options, 1, 0x0800, &inner).unwrap();
        assert_eq!(packet[..4], [0, 0, 8, 0]);
        assert_eq!(packet[4..], inner);
    }

    #[test]
    fn lengths_of_every_stack() {
        for bits in 0..64u8 {
            let on = |bit: u8| bits & 1 << bit != 0;
            let base = if on(0) { six() } else { four() };
            let options = Options {
                okey: on(1).then_some(1),
                ocsum: on(2),
                oseq: on(3),
                encaplimit: on(4).then_some(4),
                ..if on(5) { udp(&base) } else { base }
            };
            let gre = 4 + 4 * (usize::from(on(1)) + usize::from(on(2)) + usize::from(on(3)));
            let delivery = match (on(5), on(0), on(4)) {
                (true, _, _) => 0,
                (_, false, _) => 20,
                (_, true, false) => 40,
                (_, true, true) => 48,
            };
            assert_eq!(len(&options), delivery + gre);
            assert!(len(&options) <= MAX_LEN);
        }
    }

    #[test]
    fn what_cannot_be_sent_is_not_written() {
        let (a, b) = (A.parse().unwrap(), B.parse().unwrap());
        let (a6, b6): (IpAddr, IpAddr) = (A6.parse().unwrap(), B6.parse().unwrap());
        let fields = fields(&four(), &[]);
        let try_write = |options: &Options, local, remote, size| {
            let mut packet = vec![0; size];
            write(options, local, remote, fields, 1, 0x0800, 0, &mut packet)
        };
        for size in 0..24 {
            assert!(!try_write(&four(), a, b, size), "{size}");
        }
        assert!(try_write(&four(), a, b, 24));
        assert!(try_write(&four(), a, b, 65_535));
        assert!(!try_write(&four(), a, b, 65_536));
        for (options, local, remote) in [(four(), a6, b6), (four(), a, b6), (six(), a, b)] {
            assert!(!try_write(&options, local, remote, 100));
        }
    }

    #[test]
    fn the_limit_of_the_packet_inside_is_counted_down() {
        let limited = Options {
            encaplimit: Some(4),
            ..six()
        };
        let inner = |limit| v6(0, 60, &[59, 0, 4, 1, limit, 1, 1, 0]);
        for (inside, sent) in [(9, Some(8)), (1, Some(0)), (0, None)] {
            let packet = written(&limited, 0, 0x86dd, &inner(inside));
            assert_eq!(packet.map(|p| p[44]), sent);
        }
        // Behind hop-by-hop options and padding of one byte.
        let behind = v6(0, 0, &[60, 0, 1, 4, 0, 0, 0, 0, 59, 0, 0, 0, 0, 4, 1, 6]);
        assert_eq!(inner_limit(&behind), Some(6));
        assert_eq!(inner_limit(&v6(0, 59, &[])), None);
        assert_eq!(inner_limit(&v6(0, 17, &[60, 0, 4, 1, 3, 1, 1, 0])), None);
        assert_eq!(inner_limit(&v4(0, 60, &[59, 0, 4, 1, 3, 1, 1, 0])), None);
        // An option that runs out of its header, a header that runs out of the packet.
        assert_eq!(inner_limit(&v6(0, 60, &[59, 0, 5, 9, 0, 0, 0, 0])), None);
        assert_eq!(inner_limit(&v6(0, 60, &[59, 1, 4, 1, 3, 1, 1, 0])), None);
    }
}
