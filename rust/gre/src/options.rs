//! What a tunnel is: its kind, its two ends, and iproute2's options under iproute2's names.

use std::net::IpAddr;

/// What is carried, and in what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// IPv4 and IPv6 in GRE (protocol 47), over either family.
    Gre,
    /// Ethernet in GRE (0x6558).
    GreTap,
    /// IPv4 in IPv4 (protocol 4).
    Ipip,
    /// IPv6 in IPv4 (protocol 41).
    Sit,
    /// IPv4 (protocol 4) and IPv6 (protocol 41) in IPv6.
    Ip6Tnl,
}

/// GRE in UDP (RFC 8086): the ports of what we send. We listen on [`Udp::listen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// 4754 by default.
    pub listen: u16,
    /// Source port; 0: from the inner flow, 49152..=65535 (breaks NATs and stateful filters, spreads over links).
    pub source: u16,
    /// The peer's port; 0: whatever port its last matching packet came from.
    pub destination: u16,
}

/// Switches under iproute2's names, each independent of the others.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub kind: Kind,
    /// Our address of the delivery header; None: any on receive, the route's choice on send.
    pub local: Option<IpAddr>,
    /// The peer's; None: any on receive, nothing can be sent until one was learned (never learned without a key).
    pub remote: Option<IpAddr>,
    pub ikey: Option<u32>,
    pub okey: Option<u32>,
    pub icsum: bool,
    pub ocsum: bool,
    pub iseq: bool,
    pub oseq: bool,
    /// 0: inherited from the inner packet (64 for what has none).
    pub ttl: u8,
    /// DSCP and ECN bits of the delivery header; `tos_inherit` takes DSCP from the inner packet. ECN always by RFC 6040.
    pub tos: u8,
    pub tos_inherit: bool,
    /// DF on the delivery header (IPv4).
    pub pmtudisc: bool,
    /// The inner DF is neither copied out nor heeded.
    pub ignore_df: bool,
    /// Over IPv6: value of the Tunnel Encapsulation Limit option (RFC 2473); None: no option, which is our default.
    pub encaplimit: Option<u8>,
    /// Over IPv6: fixed flow label (20 bits); None: from the inner flow.
    pub flowlabel: Option<u32>,
    pub udp: Option<Udp>,
    /// Index of the underlay device it is bound to; 0: any.
    pub device: u32,
    /// Verify a checksum that is present though `icsum` is off, and take packets without though it is on.
    pub tolerant: bool,
}

impl Options {
    /// A tunnel with everything at iproute2's default (but no encapsulation limit); None is *any*.
    pub fn new(kind: Kind, local: Option<IpAddr>, remote: Option<IpAddr>) -> Self {
        Self {
            kind,
            local,
            remote,
            ikey: None,
            okey: None,
            icsum: false,
            ocsum: false,
            iseq: false,
            oseq: false,
            ttl: 0,
            tos: 0,
            tos_inherit: false,
            pmtudisc: true,
            ignore_df: false,
            encaplimit: None,
            flowlabel: None,
            udp: None,
            device: 0,
            tolerant: false,
        }
    }

    /// Whether the delivery header is IPv6: by whichever end is known, else by the kind (IPv4 if it has either).
    #[inline]
    pub fn over_v6(&self) -> bool {
        match (self.kind, self.remote.or(self.local)) {
            (Kind::Ipip | Kind::Sit, _) => false,
            (Kind::Ip6Tnl, _) => true,
            (Kind::Gre | Kind::GreTap, end) => end.is_some_and(|end| end.is_ipv6()),
        }
    }

    /// Whether there is a GRE header.
    #[inline]
    pub fn carries_gre(&self) -> bool {
        matches!(self.kind, Kind::Gre | Kind::GreTap)
    }

    /// Bytes of the GRE header that we send; 0 for the kinds without one.
    pub fn gre_len(&self) -> usize {
        match self.kind {
            Kind::Gre | Kind::GreTap => {
                4 + 4
                    * (usize::from(self.ocsum)
                        + usize::from(self.okey.is_some())
                        + usize::from(self.oseq))
            }
            Kind::Ipip | Kind::Sit | Kind::Ip6Tnl => 0,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A tunnel with everything at its default; an empty address is none.
    pub(crate) fn options(kind: Kind, local: &str, remote: &str) -> Options {
        Options::new(kind, local.parse().ok(), remote.parse().ok())
    }

    /// The same tunnel in UDP.
    pub(crate) fn udp(options: &Options) -> Options {
        Options {
            udp: Some(Udp {
                listen: 4754,
                source: 4754,
                destination: 4754,
            }),
            ..options.clone()
        }
    }

    #[test]
    fn the_family_is_that_of_the_known_end_or_the_kind() {
        let (four, six) = ("192.0.2.1", "2001:db8::1");
        for (kind, local, remote, expected) in [
            (Kind::Gre, four, four, false),
            (Kind::Gre, six, six, true),
            (Kind::GreTap, "", six, true),
            (Kind::Gre, six, "", true),
            (Kind::Gre, "", "", false),
            (Kind::Ipip, "", "", false),
            (Kind::Sit, "", "", false),
            (Kind::Ip6Tnl, "", "", true),
        ] {
            assert_eq!(options(kind, local, remote).over_v6(), expected, "{kind:?}");
        }
    }

    #[test]
    fn each_option_costs_four_bytes_and_only_gre_has_them() {
        let all = |kind| Options {
            okey: Some(1),
            ocsum: true,
            oseq: true,
            ..options(kind, "", "")
        };
        assert_eq!(options(Kind::Gre, "", "").gre_len(), 4);
        assert_eq!(all(Kind::Gre).gre_len(), 16);
        assert_eq!(all(Kind::GreTap).gre_len(), 16);
        for kind in [Kind::Ipip, Kind::Sit, Kind::Ip6Tnl] {
            assert_eq!(all(kind).gre_len(), 0);
        }
    }
}
