//! Keepalives, told from data. Cisco's: GRE protocol 0 with nothing inside comes back to who sent it, wrapped in a packet that the far end only
//! has to route. MikroTik's over IPv6 has 0x86DD instead of 0.

use crate::header::Header;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keepalive {
    /// Ours came back: GRE without payload (protocol 0, or 0x86DD).
    Returned,
    /// The peer's: inside is a packet from us (its destination's address) to the peer, protocol 47, that it wants back.
    Asked,
    No,
}

/// *payload* is what follows the GRE header; *local* and *remote* are those of the delivery header.
///
/// `Asked` only when the inner packet goes from *local* to *remote* exactly, is GRE, and has nothing inside: whatever else it is, we
/// are nobody's reflector.
pub fn recognise(
    _header: &Header,
    _payload: &[u8],
    _local: std::net::IpAddr,
    _remote: std::net::IpAddr,
) -> Keepalive {
    unimplemented!()
}
