//! What an ICMP error quotes: enough of our own packet to know the tunnel, never more than is there.

use std::net::IpAddr;

/// The delivery packet of ours that an error is about, as far as it was quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    pub local: IpAddr,
    pub remote: IpAddr,
    /// 47, 4, 41 or 17.
    pub protocol: u8,
    /// Some(None): the GRE header was quoted and has no key; None: too little was quoted to tell.
    pub key: Option<Option<u32>>,
    /// UDP ports (source, destination), when quoted.
    pub ports: Option<(u16, u16)>,
}

/// Reads a quoted packet that begins with its IP header; extension headers of IPv6 are walked within bounds.
pub fn parse(_packet: &[u8]) -> Option<Quoted> {
    unimplemented!()
}
