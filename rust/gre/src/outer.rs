//! The delivery header that goes in front of an encapsulated packet, for sockets that take the header from us.

use std::net::IpAddr;

use crate::options::Options;

/// Room before an inner packet that every stack of ours fits into: IPv6 40, Destination Options 8, GRE 16.
pub const MAX_LEN: usize = 64;

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
pub fn fields(_options: &Options, _inner: &[u8]) -> Fields {
    unimplemented!()
}

/// A hash of the inner flow (addresses, protocol, ports), stable for a flow: for source ports and flow labels.
pub fn flow_hash(_inner: &[u8]) -> u32 {
    unimplemented!()
}

/// Bytes that `write` writes for these options: delivery header (with options) and GRE; 0 for the delivery header when in UDP.
pub fn len(_options: &Options) -> usize {
    unimplemented!()
}

/// Writes delivery header and GRE header into `packet[..len(options)]`, in front of the inner packet that is there already.
///
/// *packet* is all of it; *protocol* the GRE protocol type, or for the kinds without GRE 0x0800 or 0x86DD. IPv4: total length, identification
/// and checksum are filled in; *id* for the identification. In UDP only the GRE header is written.
#[allow(clippy::too_many_arguments)]
pub fn write(
    _options: &Options,
    _local: IpAddr,
    _remote: IpAddr,
    _fields: Fields,
    _id: u16,
    _protocol: u16,
    _sequence: u32,
    _packet: &mut [u8],
) {
    unimplemented!()
}
