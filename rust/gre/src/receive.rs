//! May a packet that found its tunnel come in? The checks in Linux's order, each refusal with what was seen.

use crate::header::Header;
use crate::options::Options;

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
    _options: &Options,
    _state: &mut State,
    _header: &Header,
    _outer_tos: u8,
    _packet: &mut [u8],
) -> Result<(Payload, std::ops::Range<usize>), Refusal> {
    unimplemented!()
}

/// The same for the kinds without GRE: *protocol* is 4 or 41.
pub fn admit_ip(
    _options: &Options,
    _protocol: u8,
    _outer_tos: u8,
    _packet: &mut [u8],
) -> Result<(Payload, std::ops::Range<usize>), Refusal> {
    unimplemented!()
}
