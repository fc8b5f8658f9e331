//! The GRE header (RFC 2784, RFC 2890).
//!
//! ```text
//! |C| |K|S| reserved | version |  protocol type  |
//! | checksum (if C)            |  reserved (if C)|
//! | key (if K)                                   |
//! | sequence number (if S)                       |
//! ```
//!
//! The order of the optional words is fixed, so their places follow from the flags. The checksum is the Internet checksum over
//! the GRE header and all that follows, with its own field as zero; there is no pseudo-header.
//!
//! Version and Routing bit are refused as Linux refuses them. Reserved bits are ignored, as RFC 2784 2.3 asks for bits 6 to 12;
//! Linux agrees for bits 4 to 8 and takes 9 to 12 for a part of the version, so that only a sender of nonsense meets a
//! difference.

use ginnel_packet::checksum;

/// Checksum (and the reserved half-word behind it) present.
const CHECKSUM: u16 = 0x8000;
/// Source routing of RFC 1701.
const ROUTING: u16 = 0x4000;
/// Key present.
const KEY: u16 = 0x2000;
/// Sequence number present.
const SEQUENCE: u16 = 0x1000;
const VERSION: u16 = 0x0007;

/// IPv4 inside (EtherType).
pub const IPV4: u16 = 0x0800;
/// IPv6 inside.
pub const IPV6: u16 = 0x86dd;
/// Ethernet inside (transparent Ethernet bridging).
pub const ETHERNET: u16 = 0x6558;
/// IPv4 redirected by WCCP, with four more bytes before it in version 2.
pub const WCCP: u16 = 0x883e;
/// Cisco's keepalive.
pub const KEEPALIVE: u16 = 0;

/// The longest header: all three optional words.
pub const MAX_LEN: usize = 16;

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
#[inline]
pub fn parse(packet: &[u8]) -> Result<Header, HeaderError> {
    let first = packet.first_chunk::<4>().ok_or(HeaderError::Truncated)?;
    let flags = u16::from_be_bytes([first[0], first[1]]);
    if flags & VERSION != 0 {
        return Err(HeaderError::Version((flags & VERSION) as u8));
    }
    if flags & ROUTING != 0 {
        return Err(HeaderError::Routing);
    }
    let mut header = Header {
        protocol: u16::from_be_bytes([first[2], first[3]]),
        checksum: flags & CHECKSUM != 0,
        key: None,
        sequence: None,
        len: 4,
    };
    if header.checksum {
        word(packet, &mut header.len)?;
    }
    if flags & KEY != 0 {
        header.key = Some(word(packet, &mut header.len)?);
    }
    if flags & SEQUENCE != 0 {
        header.sequence = Some(word(packet, &mut header.len)?);
    }
    Ok(header)
}

#[inline]
fn word(packet: &[u8], at: &mut usize) -> Result<u32, HeaderError> {
    let bytes = packet.get(*at..).and_then(<[u8]>::first_chunk::<4>);
    *at += 4;
    bytes
        .map(|b| u32::from_be_bytes(*b))
        .ok_or(HeaderError::Truncated)
}

/// Whether the checksum over the whole *packet* (header and payload) verifies; true when it has none.
#[inline]
pub fn checksum_verifies(packet: &[u8]) -> bool {
    let has = packet.first().is_some_and(|b| b & 0x80 != 0);
    !has || packet.len() >= 8 && checksum::sum(packet).verifies()
}

/// The first two bytes of a header that has these.
#[inline]
pub fn flags(checksum: bool, key: bool, sequence: bool) -> u16 {
    [(checksum, CHECKSUM), (key, KEY), (sequence, SEQUENCE)]
        .into_iter()
        .fold(0, |flags, (has, bit)| if has { flags | bit } else { flags })
}

/// Writes a header into `out[..len]`, checksum field zero; returns its length, or 0 when it does not fit and nothing was written.
#[inline]
pub fn write(
    out: &mut [u8],
    protocol: u16,
    checksum: bool,
    key: Option<u32>,
    sequence: Option<u32>,
) -> usize {
    let words =
        usize::from(checksum) + usize::from(key.is_some()) + usize::from(sequence.is_some());
    let len = 4 + 4 * words;
    let Some(out) = out.get_mut(..len) else {
        return 0;
    };
    let flags = flags(checksum, key.is_some(), sequence.is_some());
    let (first, optional) = out.split_at_mut(4);
    first[..2].copy_from_slice(&flags.to_be_bytes());
    first[2..].copy_from_slice(&protocol.to_be_bytes());
    let values = [checksum.then_some(0), key, sequence];
    for (place, value) in optional
        .chunks_exact_mut(4)
        .zip(values.into_iter().flatten())
    {
        place.copy_from_slice(&value.to_be_bytes());
    }
    len
}

/// Computes the checksum over the whole *packet*, whose header has the C bit, and puts it in place; without the C bit it does
/// nothing.
#[inline]
pub fn set_checksum(packet: &mut [u8]) {
    if packet.len() < 8 || packet[0] & 0x80 == 0 {
        return;
    }
    packet[4..8].fill(0);
    let sum = checksum::sum(packet).checksum();
    packet[4..6].copy_from_slice(&sum);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// All of it: C, K, S; the checksum computed by hand over the 16 bytes and the payload.
    const ALL: [u8; 18] = [
        0xb0, 0x00, 0x08, 0x00, 0x47, 0xd7, 0x00, 0x00, 0x00, 0x00, 0x00, 0x2a, 0x00, 0x00, 0x00,
        0x07, 0xff, 0xf6,
    ];

    #[test]
    fn literal_bytes_both_ways() {
        let bare = [0, 0, 0x86, 0xdd];
        let header = parse(&bare).unwrap();
        assert_eq!(
            header,
            Header {
                protocol: IPV6,
                checksum: false,
                key: None,
                sequence: None,
                len: 4
            }
        );
        let mut out = [0xee; 16];
        assert_eq!(write(&mut out, IPV6, false, None, None), 4);
        assert_eq!(out[..4], bare);
        assert_eq!(out[4..], [0xee; 12]);

        let header = parse(&ALL).unwrap();
        assert_eq!(
            header,
            Header {
                protocol: IPV4,
                checksum: true,
                key: Some(42),
                sequence: Some(7),
                len: 16
            }
        );
        assert!(checksum_verifies(&ALL));
        let mut packet = [0u8; 18];
        assert_eq!(write(&mut packet, IPV4, true, Some(42), Some(7)), 16);
        packet[16..].copy_from_slice(&ALL[16..]);
        set_checksum(&mut packet);
        assert_eq!(packet, ALL);
    }

    #[test]
    fn every_combination_of_options_has_its_length_and_comes_back() {
        for bits in 0..8u8 {
            let checksum = bits & 1 != 0;
            let key = (bits & 2 != 0).then_some(0xfeed_beef);
            let sequence = (bits & 4 != 0).then_some(u32::MAX);
            let mut out = [0u8; MAX_LEN];
            let len = write(&mut out, ETHERNET, checksum, key, sequence);
            assert_eq!(len, 4 + 4 * bits.count_ones() as usize);
            let header = parse(&out).unwrap();
            assert_eq!(
                (
                    header.protocol,
                    header.checksum,
                    header.key,
                    header.sequence,
                    header.len
                ),
                (ETHERNET, checksum, key, sequence, len)
            );
            for short in 0..len {
                assert_eq!(
                    parse(&out[..short]),
                    Err(HeaderError::Truncated),
                    "{bits} {short}"
                );
                assert_eq!(
                    write(&mut [0xee; 16][..short], 0, checksum, key, sequence),
                    0
                );
            }
        }
    }

    #[test]
    fn any_version_but_0_is_refused() {
        for version in 1..8u8 {
            // With the key flag as PPTP has it, and with the Routing bit: the version is judged first.
            for first in [0x00, 0x30, 0x40] {
                let packet = [first, version, 0x88, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0];
                assert_eq!(parse(&packet), Err(HeaderError::Version(version)));
            }
        }
    }

    #[test]
    fn the_routing_bit_is_refused() {
        assert_eq!(parse(&[0x40, 0, 8, 0]), Err(HeaderError::Routing));
        assert_eq!(parse(&[0xf0, 0, 8, 0]), Err(HeaderError::Routing));
    }

    #[test]
    fn reserved_bits_are_ignored() {
        for bit in 3..=11 {
            let flags = (1u16 << bit).to_be_bytes();
            let header = parse(&[flags[0], flags[1], 8, 0]).unwrap();
            assert_eq!((header.protocol, header.len), (IPV4, 4), "bit {bit}");
        }
    }

    #[test]
    fn the_checksum_covers_header_and_payload() {
        for at in (0..ALL.len()).filter(|at| *at != 0) {
            let mut packet = ALL;
            packet[at] ^= 0x10;
            assert!(!checksum_verifies(&packet), "byte {at}");
        }
        // Odd lengths count as if a zero followed (RFC 1071).
        let mut odd = [0u8; 11];
        write(&mut odd, IPV4, true, None, None);
        odd[8..].copy_from_slice(&[1, 2, 3]);
        set_checksum(&mut odd);
        assert!(checksum_verifies(&odd));
        assert_eq!(odd[6..8], [0, 0]);
    }

    #[test]
    fn without_the_c_bit_there_is_nothing_to_verify_or_set() {
        let mut packet = [0x20, 0, 8, 0, 1, 2, 3, 4, 5, 6];
        assert!(checksum_verifies(&packet));
        set_checksum(&mut packet);
        assert_eq!(packet, [0x20, 0, 8, 0, 1, 2, 3, 4, 5, 6]);
        assert!(checksum_verifies(&[]));
        // Too short to hold the checksum that it claims.
        assert!(!checksum_verifies(&[0x80, 0, 8, 0, 0, 0]));
    }
}
