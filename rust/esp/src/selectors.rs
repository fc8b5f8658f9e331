//! Which packets an SA may carry: the traffic selectors it was negotiated with (RFC 4301 4.4.1.1; RFC 7296 3.13.1).
//!
//! | of a packet | taken from |
//! | --- | --- |
//! | protocol | the first header that is no extension header, whole packet or first fragment or later one |
//! | ports | TCP, UDP, DCCP, SCTP, UDP-Lite: source and destination |
//! | | ICMP, ICMPv6: type and code as one number, on both sides; Mobility Header: its type and 0, likewise |
//! | | anything else, a later fragment, a header cut short: OPAQUE, there is none to be seen |
//! | addresses | of the IP header: the inner one in tunnel mode, the outer one in transport mode |
//!
//! A range of ports matches the port that is seen; *any* (0 to 65535) also what is OPAQUE; the range 65535 to 0 only that. So fragments
//! but the first match no selector that names ports: RFC 4301 7 leaves them to selectors of their own.
//!
//! In transport mode in UDP addresses are not looked at: nothing vouches for them, and a NAT on the way changes them when it likes. The SPI
//! has found the tunnel, and the ICV the sender.
//!
//! A packet whose headers can not be walked (an extension header beyond its end, more of them than anybody sends) matches nothing. No
//! selectors at all let everything pass: the tunnel's own checks remain.

use std::net::IpAddr;

use ginnel_packet::ip::{self, Fragment};

/// What one traffic selector payload of IKE holds at most (its count is a byte), of each side; each with each is the engine's list.
pub const MAX_SELECTORS: usize = 255;

const MOBILITY: u8 = 135;

/// Ports of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub first: u16,
    pub last: u16,
}

impl Ports {
    pub const ANY: Self = Self {
        first: 0,
        last: u16::MAX,
    };
    /// Only packets that show none.
    pub const OPAQUE: Self = Self {
        first: u16::MAX,
        last: 0,
    };

    #[inline]
    fn admit(self, seen: Option<u16>) -> bool {
        match seen {
            Some(port) => (self.first..=self.last).contains(&port),
            None => self == Self::ANY || self == Self::OPAQUE,
        }
    }
}

/// Packets from one range to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector {
    /// 0 = any.
    protocol: u8,
    source_ports: Ports,
    source: (IpAddr, IpAddr),
    destination_ports: Ports,
    destination: (IpAddr, IpAddr),
}

impl Selector {
    /// `None`: the addresses are of two families or a range runs backwards (but for [`Ports::OPAQUE`]).
    pub fn new(
        protocol: u8,
        source_ports: Ports,
        source: (IpAddr, IpAddr),
        destination_ports: Ports,
        destination: (IpAddr, IpAddr),
    ) -> Option<Self> {
        let v6 = source.0.is_ipv6();
        let one_family = [source.1, destination.0, destination.1]
            .iter()
            .all(|address| address.is_ipv6() == v6);
        let forwards = source.0 <= source.1 && destination.0 <= destination.1;
        let ports = |ports: Ports| ports.first <= ports.last || ports == Ports::OPAQUE;
        (one_family && forwards && ports(source_ports) && ports(destination_ports)).then_some(
            Self {
                protocol,
                source_ports,
                source,
                destination_ports,
                destination,
            },
        )
    }

    #[inline]
    fn admits(&self, seen: &Seen) -> bool {
        let within = |range: (IpAddr, IpAddr), address| range.0 <= address && address <= range.1;
        (self.protocol == 0 || self.protocol == seen.protocol)
            && seen.ends.is_none_or(|(source, destination)| {
                within(self.source, source) && within(self.destination, destination)
            })
            && self.source_ports.admit(seen.source_port)
            && self.destination_ports.admit(seen.destination_port)
    }
}

/// Of a packet, what selectors look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    protocol: u8,
    /// Source and destination; `None`: anywhere.
    ends: Option<(IpAddr, IpAddr)>,
    /// `None` = OPAQUE.
    source_port: Option<u16>,
    destination_port: Option<u16>,
}

/// The selectors of one SA.
#[derive(Clone, Debug, Default)]
pub struct Selectors(Vec<Selector>);

impl Selectors {
    /// `None`: more than each of one side's with each of the other's.
    pub fn new(selectors: Vec<Selector>) -> Option<Self> {
        (selectors.len() <= MAX_SELECTORS * MAX_SELECTORS).then_some(Self(selectors))
    }

    /// Whether a whole IP packet, trimmed to its length, may pass (tunnel mode).
    #[inline]
    pub fn admit_packet(&self, packet: &[u8]) -> bool {
        self.0.is_empty() || see_packet(packet).is_some_and(|seen| self.any(&seen))
    }

    /// Whether a payload may pass between *ends*, source and destination, or wherever they are (transport mode). *protocol* is what the
    /// payload begins with; before and after ESP it is a whole datagram, never a fragment.
    #[inline]
    pub fn admit_payload(
        &self,
        ends: Option<(IpAddr, IpAddr)>,
        protocol: u8,
        payload: &[u8],
    ) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let (source_port, destination_port) = ports(protocol, payload);
        self.any(&Seen {
            protocol,
            ends,
            source_port,
            destination_port,
        })
    }

    #[inline]
    fn any(&self, seen: &Seen) -> bool {
        self.0.iter().any(|selector| selector.admits(seen))
    }
}

fn see_packet(packet: &[u8]) -> Option<Seen> {
    let at = ip::layout(packet)?;
    let (source_port, destination_port) = match at.fragment {
        Fragment::Whole | Fragment::First => ports(at.protocol, packet.get(at.transport..)?),
        Fragment::Later => (None, None),
    };
    Some(Seen {
        protocol: at.protocol,
        ends: Some((ip::source(packet)?, ip::destination(packet)?)),
        source_port,
        destination_port,
    })
}

/// (source, destination) of a transport header; both `None` when it shows none.
fn ports(protocol: u8, transport: &[u8]) -> (Option<u16>, Option<u16>) {
    match (protocol, transport) {
        (6 | 17 | 33 | 132 | 136, &[a, b, c, d, ..]) => (
            Some(u16::from_be_bytes([a, b])),
            Some(u16::from_be_bytes([c, d])),
        ),
        (ip::PROTO_ICMP | ip::PROTO_ICMPV6, &[kind, code, ..]) => {
            let both = Some(u16::from_be_bytes([kind, code]));
            (both, both)
        }
        // RFC 6275 6.1.1: payload protocol, length, type.
        (MOBILITY, &[_, _, kind, ..]) => {
            let both = Some(u16::from_be_bytes([kind, 0]));
            (both, both)
        }
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tests::{v4, v6};

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ends(source: &str, destination: &str) -> (IpAddr, IpAddr) {
        (address(source), address(destination))
    }

    fn range(text: &str) -> (IpAddr, IpAddr) {
        let (first, last) = text.split_once(' ').unwrap();
        (address(first), address(last))
    }

    const ALL4: &str = "0.0.0.0 255.255.255.255";
    const ALL6: &str = ":: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

    fn port(first: u16, last: u16) -> Ports {
        Ports { first, last }
    }

    fn only(protocol: u8, source: Ports, destination: Ports, all: &str) -> Selectors {
        let all = range(all);
        let one = Selector::new(protocol, source, all, destination, all).unwrap();
        Selectors::new(vec![one]).unwrap()
    }

    /// 10.0.0.1:4660 to 10.0.0.2:80
    fn udp4() -> Vec<u8> {
        v4(0, 17, &[0x12, 0x34, 0, 80, 0, 8, 0, 0])
    }

    fn udp6() -> Vec<u8> {
        v6(0, 17, &[0x12, 0x34, 0, 80, 0, 8, 0, 0])
    }

    #[test]
    fn none_let_everything_pass_even_what_is_no_packet() {
        let none = Selectors::default();
        assert!(none.admit_packet(&udp4()) && none.admit_packet(&[]) && none.admit_packet(&[0x45]));
        assert!(none.admit_payload(Some(ends("::1", "::2")), 47, &[]));
    }

    #[test]
    fn addresses_lie_within_both_ranges_first_and_last_included() {
        for (source, destination, admitted) in [
            ("10.0.0.1 10.0.0.1", "10.0.0.2 10.0.0.2", true),
            ("10.0.0.0 10.0.0.255", "0.0.0.0 255.255.255.255", true),
            ("9.255.255.255 10.0.0.1", "10.0.0.2 11.0.0.0", true),
            ("10.0.0.2 10.0.0.9", "10.0.0.2 10.0.0.2", false),
            ("10.0.0.0 10.0.0.0", "10.0.0.2 10.0.0.2", false),
            ("10.0.0.1 10.0.0.1", "10.0.0.3 10.0.0.3", false),
            ("10.0.0.1 10.0.0.1", "10.0.0.0 10.0.0.1", false),
        ] {
            let one = Selector::new(0, Ports::ANY, range(source), Ports::ANY, range(destination));
            let selectors = Selectors::new(vec![one.unwrap()]).unwrap();
            assert_eq!(
                selectors.admit_packet(&udp4()),
                admitted,
                "{source} to {destination}"
            );
            assert!(!selectors.admit_packet(&udp6()), "the other family");
        }
        assert!(only(0, Ports::ANY, Ports::ANY, ALL6).admit_packet(&udp6()));
        assert!(!only(0, Ports::ANY, Ports::ANY, ALL4).admit_packet(&udp6()));
        let six = range("fd00::1 fd00::1");
        let one = Selector::new(0, Ports::ANY, six, Ports::ANY, range("fd00::2 fd00::3"));
        let selectors = Selectors::new(vec![one.unwrap()]).unwrap();
        assert!(selectors.admit_packet(&udp6()));
        assert!(selectors.admit_payload(Some(ends("fd00::1", "fd00::3")), 47, &[]));
        assert!(!selectors.admit_payload(Some(ends("fd00::1", "fd00::4")), 47, &[]));
    }

    #[test]
    fn protocol_and_ports_each_must_match() {
        let any = Ports::ANY;
        for (protocol, source, destination, admitted) in [
            (0, any, any, true),
            (17, any, any, true),
            (6, any, any, false),
            (17, port(0x1234, 0x1234), port(80, 80), true),
            (17, port(0x1233, 0x1235), port(79, 81), true),
            (17, port(0x1235, 0xffff), any, false),
            (17, port(0, 0x1233), any, false),
            (17, any, port(81, 81), false),
            (17, any, port(0, 79), false),
            (0, any, port(80, 80), true),
            (17, Ports::OPAQUE, any, false),
            (17, any, Ports::OPAQUE, false),
        ] {
            for (packet, all) in [(udp4(), ALL4), (udp6(), ALL6)] {
                let selectors = only(protocol, source, destination, all);
                let says = format!("{protocol} {source:?} {destination:?}");
                assert_eq!(selectors.admit_packet(&packet), admitted, "{says}");
                let at = ip::layout(&packet).unwrap().transport;
                let from = ip::source(&packet).unwrap();
                let to = ip::destination(&packet).unwrap();
                let payload = selectors.admit_payload(Some((from, to)), 17, &packet[at..]);
                assert_eq!(payload, admitted, "transport mode: {says}");
            }
        }
    }

    #[test]
    fn one_of_several_is_enough() {
        let all = range(ALL4);
        let dns = Selector::new(17, Ports::ANY, all, port(53, 53), all).unwrap();
        let web = Selector::new(17, Ports::ANY, all, port(80, 80), all).unwrap();
        assert!(Selectors::new(vec![dns, web])
            .unwrap()
            .admit_packet(&udp4()));
        assert!(!Selectors::new(vec![dns]).unwrap().admit_packet(&udp4()));
        assert!(Selectors::new(vec![dns; MAX_SELECTORS * MAX_SELECTORS]).is_some());
        assert!(Selectors::new(vec![dns; MAX_SELECTORS * MAX_SELECTORS + 1]).is_none());
    }

    #[test]
    fn fragments_but_the_first_match_only_any_and_opaque() {
        let exact = only(17, port(0x1234, 0x1234), port(80, 80), ALL4);
        let any = only(17, Ports::ANY, Ports::ANY, ALL4);
        let opaque = only(17, Ports::OPAQUE, Ports::OPAQUE, ALL4);
        for (field, first) in [(0x2000_u16, true), (0x2001, false), (0x0001, false)] {
            let mut packet = udp4();
            packet[6..8].copy_from_slice(&field.to_be_bytes());
            assert_eq!(exact.admit_packet(&packet), first, "{field:#x}");
            assert_eq!(opaque.admit_packet(&packet), !first, "{field:#x}");
            assert!(any.admit_packet(&packet));
        }
        // The same behind IPv6's fragment header, whose later fragments are not walked into.
        let exact = only(17, Ports::ANY, port(80, 80), ALL6);
        for (field, first) in [(1_u16, true), (9, false), (8, false)] {
            let [high, low] = field.to_be_bytes();
            let mut body = vec![17, 0, high, low, 0, 0, 0, 7];
            body.extend([0x12, 0x34, 0, 80, 0, 8, 0, 0]);
            assert_eq!(exact.admit_packet(&v6(0, 44, &body)), first, "{field:#x}");
        }
    }

    #[test]
    fn icmp_type_and_code_stand_for_ports() {
        let request = [8, 0, 0, 0, 0, 1, 0, 1];
        for (protocol, packet, all) in [
            (1, v4(0, 1, &request), ALL4),
            (58, v6(0, 58, &request), ALL6),
        ] {
            let echo = port(8 << 8, 8 << 8);
            assert!(only(protocol, echo, echo, all).admit_packet(&packet));
            assert!(
                only(protocol, port(8 << 8, 8 << 8 | 0xff), Ports::ANY, all).admit_packet(&packet)
            );
            assert!(!only(protocol, port(0, 0), Ports::ANY, all).admit_packet(&packet));
            assert!(
                !only(protocol, Ports::ANY, port(8 << 8 | 1, 9 << 8), all).admit_packet(&packet)
            );
        }
        // Binding update: type 5.
        let mobile = v6(0, 135, &[59, 0, 5, 0, 0, 0, 0, 0]);
        assert!(only(135, port(5 << 8, 5 << 8), Ports::ANY, ALL6).admit_packet(&mobile));
        assert!(!only(135, port(6 << 8, 6 << 8), Ports::ANY, ALL6).admit_packet(&mobile));
    }

    #[test]
    fn what_shows_no_ports_matches_any_and_opaque_alone() {
        let gre = v4(0, 47, &[0, 0, 8, 0]);
        let short = v4(0, 17, &[0x12, 0x34, 0]);
        for (protocol, packet) in [(47, gre), (17, short), (1, v4(0, 1, &[8]))] {
            assert!(only(protocol, Ports::ANY, Ports::ANY, ALL4).admit_packet(&packet));
            assert!(only(protocol, Ports::OPAQUE, Ports::ANY, ALL4).admit_packet(&packet));
            assert!(!only(protocol, port(0, 65_534), Ports::ANY, ALL4).admit_packet(&packet));
        }
        let host = only(47, Ports::ANY, Ports::ANY, ALL4);
        assert!(host.admit_payload(Some(ends("192.0.2.1", "192.0.2.2")), 47, &[]));
        assert!(!host.admit_payload(Some(ends("192.0.2.1", "192.0.2.2")), 4, &[]));
    }

    #[test]
    fn extension_headers_are_walked_and_what_can_not_be_matches_nothing() {
        let web = only(17, Ports::ANY, port(80, 80), ALL6);
        let udp = [0x12, 0x34, 0, 80, 0, 8, 0, 0];
        let hop = |next: u8| [next, 0, 0, 0, 0, 0, 0, 0];
        assert!(web.admit_packet(&v6(0, 0, &[hop(17), udp].concat())));
        assert!(web.admit_packet(&v6(0, 0, &[hop(60), hop(17), udp].concat())));
        let anything = only(0, Ports::ANY, Ports::ANY, ALL6);
        let beyond = v6(0, 60, &[17, 200, 0, 0, 0, 0, 0, 0]);
        let chain: Vec<u8> = (0..=ip::MAX_EXTENSIONS).flat_map(|_| hop(60)).collect();
        for bad in [
            beyond,
            v6(0, 60, &chain),
            vec![],
            vec![0x60; 39],
            vec![0x45; 19],
        ] {
            assert!(!anything.admit_packet(&bad));
        }
    }

    #[test]
    fn without_ends_the_protocol_and_the_ports_count_alone() {
        let here = range("192.0.2.1 192.0.2.1");
        let one = Selector::new(17, Ports::ANY, here, port(80, 80), here).unwrap();
        let selectors = Selectors::new(vec![one]).unwrap();
        let web = [0x12, 0x34, 0, 80];
        assert!(selectors.admit_payload(None, 17, &web));
        assert!(selectors.admit_payload(Some(ends("192.0.2.1", "192.0.2.1")), 17, &web));
        assert!(!selectors.admit_payload(Some(ends("192.0.2.2", "192.0.2.1")), 17, &web));
        assert!(!selectors.admit_payload(None, 6, &web));
        assert!(!selectors.admit_payload(None, 17, &[0x12, 0x34, 0, 81]));
    }

    #[test]
    fn selectors_that_say_nothing_sensible_are_refused() {
        let (four, six) = (range(ALL4), range(ALL6));
        let any = Ports::ANY;
        assert!(Selector::new(0, any, four, any, six).is_none());
        assert!(Selector::new(0, any, (four.0, six.1), any, four).is_none());
        assert!(Selector::new(0, any, (four.1, four.0), any, four).is_none());
        assert!(Selector::new(0, any, four, any, (four.1, four.0)).is_none());
        assert!(Selector::new(0, port(2, 1), four, any, four).is_none());
        assert!(Selector::new(0, any, four, port(65_535, 1), four).is_none());
        assert!(Selector::new(0, Ports::OPAQUE, four, Ports::OPAQUE, four).is_some());
    }
}
