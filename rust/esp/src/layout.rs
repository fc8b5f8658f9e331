//! Where everything lies in an ESP packet, and the trailer: padding, pad length, next header.
//!
//! ```text
//! | SPI 4 | sequence 4 | IV 8 or 16 | payload | 1 2 3 … n | n | next header | ICV 12 to 32 |
//!                                   |<----- text: whole blocks of 4 or 16 ----->|
//! ```
//! Rules (RFC 4303 2.4 to 2.7). We pad to the block and no further. What arrives may be padded by up to 255 bytes; they must be 1, 2, 3 …
//! and within the text, else the packet is refused: it was made by somebody who has the keys and not the standard (the kernel
//! does not look). Padding that hides a packet's length (TFC) is not this but lies behind the inner packet's own end, in tunnel mode.

use ginnel_crypto::esp::{Suite, HEADER_SIZE};

/// SPI and sequence number.
pub const HEADER: usize = HEADER_SIZE;
/// Pad length and next header.
const TRAILER: usize = 2;
/// The most that lies before the payload: header and CBC's IV.
pub const MAX_HEADROOM: usize = HEADER + 16;
/// The most that lies behind it: padding, trailer, the longest ICV.
pub const MAX_TAILROOM: usize = 15 + TRAILER + 32;
/// Next header of a packet that carries nothing (RFC 4303 2.6).
pub const DUMMY: u8 = 59;

/// Bytes before the payload.
#[inline]
pub fn headroom(suite: Suite) -> usize {
    HEADER + suite.iv_len()
}

/// Bytes of text for a payload of this length: with padding and trailer.
#[inline]
pub fn text_len(suite: Suite, payload: usize) -> usize {
    (payload + TRAILER).next_multiple_of(suite.block())
}

/// Bytes of the whole ESP packet.
#[inline]
pub fn sealed_len(suite: Suite, payload: usize) -> usize {
    headroom(suite) + text_len(suite, payload) + suite.icv_len()
}

/// The largest payload whose ESP packet fits into `room` bytes; `None` when not even an empty one does.
#[inline]
pub fn largest_payload(suite: Suite, room: usize) -> Option<usize> {
    let text = room.checked_sub(headroom(suite) + suite.icv_len())?;
    (text - text % suite.block()).checked_sub(TRAILER)
}

/// The text's length in an ESP packet of `len` bytes; `None`: too short, or not whole blocks.
#[inline]
pub fn text_of(suite: Suite, len: usize) -> Option<usize> {
    let text = len.checked_sub(headroom(suite) + suite.icv_len())?;
    (text > 0 && text.is_multiple_of(suite.block())).then_some(text)
}

/// SPI and the low half of the sequence number, at the front of `packet`.
///
/// # Panics
/// When there is no room for them: a mistake of the caller.
#[inline]
pub fn write_header(packet: &mut [u8], spi: u32, number: u64) {
    packet[..4].copy_from_slice(&spi.to_be_bytes());
    packet[4..HEADER].copy_from_slice(&(number as u32).to_be_bytes());
}

/// SPI and the low half of the sequence number; `None`: shorter than they.
#[inline]
pub fn read_header(packet: &[u8]) -> Option<(u32, u32)> {
    let (spi, rest) = packet.split_first_chunk()?;
    let low = rest.first_chunk()?;
    Some((u32::from_be_bytes(*spi), u32::from_be_bytes(*low)))
}

/// Padding, pad length and next header behind the payload that `text` begins with; `text` is [`text_len`] bytes.
///
/// # Panics
/// When it is shorter: a mistake of the caller.
#[inline]
pub fn write_trailer(text: &mut [u8], payload: usize, next_header: u8) {
    let padding = text.len() - payload - TRAILER;
    let (padding, trailer) = text[payload..].split_at_mut(padding);
    for (at, byte) in padding.iter_mut().enumerate() {
        *byte = at as u8 + 1;
    }
    trailer.copy_from_slice(&[padding.len() as u8, next_header]);
}

/// What an opened text says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Bytes of payload, from the text's first.
    pub payload: usize,
    pub next_header: u8,
}

/// Reads the end of an opened text; `None`: the padding is longer than the text, or not 1, 2, 3 ….
#[inline]
pub fn read_trailer(text: &[u8]) -> Option<Trailer> {
    let (rest, &[length, next_header]) = text.split_last_chunk::<TRAILER>()?;
    let payload = rest.len().checked_sub(usize::from(length))?;
    let right = rest[payload..]
        .iter()
        .zip(1..=u8::MAX)
        .all(|(byte, at)| *byte == at);
    right.then_some(Trailer {
        payload,
        next_header,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lengths_of_a_full_packet_by_suite() {
        // (suite, payload, sealed): by hand from the drawing above.
        for (name, payload, sealed) in [
            ("aes128gcm16", 1446, 8 + 8 + 1448 + 16),
            ("aes256gcm16", 1447, 8 + 8 + 1452 + 16),
            ("chacha20poly1305", 0, 8 + 8 + 4 + 16),
            ("aes128-sha1", 1438, 8 + 16 + 1440 + 12),
            ("aes256-sha256", 1439, 8 + 16 + 1456 + 16),
            ("aes256-sha384", 14, 8 + 16 + 16 + 24),
            ("aes256-sha512", 15, 8 + 16 + 32 + 32),
        ] {
            let suite = Suite::parse(name).unwrap();
            assert_eq!(sealed_len(suite, payload), sealed, "{name}");
        }
    }

    #[test]
    fn the_largest_payload_fills_the_room_and_one_byte_more_does_not_fit() {
        for suite in Suite::all() {
            let least = sealed_len(suite, 0);
            for room in 0..least {
                assert_eq!(
                    largest_payload(suite, room),
                    None,
                    "{} {room}",
                    suite.name()
                );
            }
            for room in least..3000 {
                let payload = largest_payload(suite, room).unwrap();
                assert!(sealed_len(suite, payload) <= room);
                assert!(sealed_len(suite, payload + 1) > room);
            }
        }
    }

    #[test]
    fn the_text_ends_on_the_block_and_the_room_around_is_enough() {
        for suite in Suite::all() {
            assert!(headroom(suite) <= MAX_HEADROOM);
            for payload in 0..600 {
                let text = text_len(suite, payload);
                assert!(text.is_multiple_of(suite.block()) && text.is_multiple_of(4));
                assert!(text - payload - TRAILER < suite.block());
                let behind = sealed_len(suite, payload) - headroom(suite) - payload;
                assert!(behind <= MAX_TAILROOM);
                assert_eq!(text_of(suite, sealed_len(suite, payload)), Some(text));
            }
        }
    }

    #[test]
    fn a_length_that_no_sender_makes_is_refused() {
        for suite in Suite::all() {
            let least = sealed_len(suite, 0);
            for len in 0..least {
                assert_eq!(text_of(suite, len), None, "{} {len}", suite.name());
            }
            for extra in 1..suite.block() {
                assert_eq!(text_of(suite, least + extra), None);
            }
        }
    }

    #[test]
    fn the_header_both_ways() {
        let mut packet = [0xee; 9];
        write_header(&mut packet, 0x0102_0304, 0xaaaa_aaaa_0506_0708);
        assert_eq!(packet, [1, 2, 3, 4, 5, 6, 7, 8, 0xee]);
        assert_eq!(read_header(&packet), Some((0x0102_0304, 0x0506_0708)));
        for short in 0..8 {
            assert_eq!(read_header(&packet[..short]), None);
        }
    }

    #[test]
    fn the_trailer_both_ways_from_literal_bytes() {
        let mut text = *b"payload\xee\xee\xee\xee\xee";
        write_trailer(&mut text, 7, 47);
        assert_eq!(&text, b"payload\x01\x02\x03\x03\x2f");
        let found = Trailer {
            payload: 7,
            next_header: 47,
        };
        assert_eq!(read_trailer(&text), Some(found));
        let mut exact = *b"..\xee\xee";
        write_trailer(&mut exact, 2, 4);
        assert_eq!(&exact, b"..\x00\x04");
    }

    #[test]
    fn padding_of_any_length_is_1_to_n_within_the_text() {
        for length in 0..=255_u8 {
            let mut text = vec![9; 3];
            text.extend(1..=length);
            text.extend([length, 47]);
            let found = read_trailer(&text).unwrap();
            assert_eq!((found.payload, found.next_header), (3, 47));
            assert_eq!(read_trailer(&text[3..]).unwrap().payload, 0);
            if length > 0 {
                assert_eq!(read_trailer(&text[4..]), None, "longer than the text");
                for at in 3..3 + usize::from(length) {
                    let mut wrong = text.clone();
                    wrong[at] ^= 0x10;
                    assert_eq!(read_trailer(&wrong), None, "byte {at} of {length}");
                }
            }
        }
        assert_eq!(read_trailer(&[]), None);
        assert_eq!(read_trailer(&[47]), None);
    }
}
