//! The GRE header (RFC 2784, RFC 2890).
//!
//! ```text
//! |C| |K|S| reserved | version |  protocol type  |
//! | checksum (if C)            |  reserved (if C)|
//! | key (if K)                                   |
//! | sequence number (if S)                       |
//! ```

/// A header as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub protocol: u16,
    pub checksum: bool,
    pub key: Option<u32>,
    pub sequence: Option<u32>,
    /// Bytes of it.
    pub len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Shorter than its flags say.
    Truncated,
    /// Not version 0 (1 is PPTP).
    Version(u8),
    /// The Routing bit, which nobody uses and Linux refuses.
    Routing,
}

/// Reads the header; reserved bits are ignored, as Linux does.
pub fn parse(_packet: &[u8]) -> Result<Header, HeaderError> {
    unimplemented!()
}

/// Whether the checksum over the whole *packet* (header and payload) verifies; true when it has none.
pub fn checksum_verifies(_packet: &[u8]) -> bool {
    unimplemented!()
}

/// Writes a header into `out[..len]`, checksum field zero; returns its length.
pub fn write(
    _out: &mut [u8],
    _protocol: u16,
    _checksum: bool,
    _key: Option<u32>,
    _sequence: Option<u32>,
) -> usize {
    unimplemented!()
}

/// Computes the checksum over the whole *packet*, whose header has the C bit, and puts it in place.
pub fn set_checksum(_packet: &mut [u8]) {
    unimplemented!()
}
