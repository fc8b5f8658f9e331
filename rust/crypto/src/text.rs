//! Keys as text: the 44 base64 characters of `wg`, the 64 hexadecimal ones of UAPI.
//!
//! Both directions run in time independent of the bytes (no table is indexed by a secret, no early exit), and accept only
//! the canonical form: exact length, padding where it must be, unused bits zero. Source: RFC 4648, sections 4, 8 and 3.5.

// Differences of character codes, in i32 so that a borrow shows as a sign; what is cast back has been masked to its width.
#![allow(clippy::decimal_bitwise_operands, clippy::cast_sign_loss)]

use core::fmt;

use zeroize::Zeroizing;

use crate::Secret;

pub const BASE64_SIZE: usize = 44;
pub const HEX_SIZE: usize = 64;

/// The text is not a key; which says no more than that, because the text may be most of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAKey;

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a key: 44 base64 or 64 hexadecimal characters")
    }
}

impl std::error::Error for NotAKey {}

/// All ones when `low <= value <= high`, else zero; opaque to the optimiser, which would make branches of the masks.
fn within(value: u8, low: u8, high: u8) -> i32 {
    let (value, low, high) = (i32::from(value), i32::from(low), i32::from(high));
    core::hint::black_box(!(((value - low) | (high - value)) >> 31))
}

/// The character of a 6-bit value: 'A' plus what each crossed range boundary adds.
fn base64_character(value: u8) -> u8 {
    let v = i32::from(value);
    let crossed = |boundary: i32| core::hint::black_box((boundary - 1 - v) >> 31);
    let c = v + i32::from(b'A') + (crossed(26) & 6) - (crossed(52) & 75) - (crossed(62) & 15)
        + (crossed(63) & 3);
    c as u8
}

/// The 6-bit value of a character, or a negative number.
fn base64_value(c: u8) -> i32 {
    let v = i32::from(c);
    -1 + (within(c, b'A', b'Z') & (v - 64))
        + (within(c, b'a', b'z') & (v - 70))
        + (within(c, b'0', b'9') & (v + 5))
        + (within(c, b'+', b'+') & 63)
        + (within(c, b'/', b'/') & 64)
}

fn hex_value(c: u8) -> i32 {
    let v = i32::from(c);
    -1 + (within(c, b'0', b'9') & (v - 47))
        + (within(c, b'a', b'f') & (v - 86))
        + (within(c, b'A', b'F') & (v - 54))
}

impl Secret {
    /// Canonical base64 of 32 bytes.
    ///
    /// # Errors
    /// [`NotAKey`].
    pub fn from_base64(text: &[u8]) -> Result<Self, NotAKey> {
        if text.len() != BASE64_SIZE || text[BASE64_SIZE - 1] != b'=' {
            return Err(NotAKey);
        }
        // 42 characters make 31 1/2 bytes; the 43rd holds the last four bits and two that must be zero.
        Self::try_fill(|raw| {
            let mut bad = 0;
            for (characters, bytes) in text[..BASE64_SIZE].chunks_exact(4).zip(raw.chunks_mut(3)) {
                let pad = usize::from(bytes.len() == 2);
                let mut word = 0;
                for &c in &characters[..4 - pad] {
                    let value = base64_value(c);
                    bad |= value;
                    word = (word << 6) | (value & 63);
                }
                word <<= 6 * pad;
                bytes
                    .iter_mut()
                    .zip([16, 8, 0])
                    .for_each(|(byte, shift)| *byte = (word >> shift) as u8);
                if pad == 1 {
                    bad |= -(word & 0xff);
                }
            }
            if bad < 0 {
                Err(NotAKey)
            } else {
                Ok(())
            }
        })
    }

    /// Hexadecimal, either case.
    ///
    /// # Errors
    /// [`NotAKey`].
    pub fn from_hex(text: &[u8]) -> Result<Self, NotAKey> {
        if text.len() != HEX_SIZE {
            return Err(NotAKey);
        }
        Self::try_fill(|raw| {
            let mut bad = 0;
            for (pair, byte) in text.chunks_exact(2).zip(raw.iter_mut()) {
                let (high, low) = (hex_value(pair[0]), hex_value(pair[1]));
                bad |= high | low;
                *byte = ((high << 4) | (low & 15)) as u8;
            }
            if bad < 0 {
                Err(NotAKey)
            } else {
                Ok(())
            }
        })
    }

    /// The key as `wg` prints it.
    pub fn base64(&self) -> Zeroizing<[u8; BASE64_SIZE]> {
        let mut text = Zeroizing::new([b'='; BASE64_SIZE]);
        for (bytes, characters) in self.expose().chunks(3).zip(text.chunks_exact_mut(4)) {
            let word = bytes
                .iter()
                .zip([16, 8, 0])
                .fold(0_u32, |word, (&byte, shift)| {
                    word | (u32::from(byte) << shift)
                });
            let count = bytes.len() + 1;
            characters[..count]
                .iter_mut()
                .zip([18, 12, 6, 0])
                .for_each(|(c, shift)| *c = base64_character((word >> shift) as u8 & 63));
        }
        text
    }

    /// The key as UAPI writes it, lower case.
    pub fn hex(&self) -> Zeroizing<[u8; HEX_SIZE]> {
        let mut text = Zeroizing::new([0; HEX_SIZE]);
        let digit = |value: u8| {
            value + b'0' + (core::hint::black_box((9 - i32::from(value)) >> 31) & 39) as u8
        };
        for (byte, pair) in self.expose().iter().zip(text.chunks_exact_mut(2)) {
            pair[0] = digit(byte >> 4);
            pair[1] = digit(byte & 15);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    #[test]
    fn the_alphabet_both_ways_and_nothing_else() {
        for value in 0..64_u8 {
            assert_eq!(base64_character(value), ALPHABET[usize::from(value)]);
        }
        for c in 0..=255_u8 {
            let expected = ALPHABET
                .iter()
                .position(|&a| a == c)
                .map_or(-1, |at| i32::try_from(at).unwrap());
            assert_eq!(base64_value(c), expected, "character {c}");
            let expected = (c as char)
                .to_digit(16)
                .map_or(-1, |digit| i32::try_from(digit).unwrap());
            assert_eq!(hex_value(c), expected, "character {c}");
        }
    }

    #[test]
    fn known_texts() {
        let counting = Secret::fill(|raw| raw.iter_mut().zip(0..).for_each(|(byte, i)| *byte = i));
        assert_eq!(
            counting.base64().as_slice(),
            b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
        );
        assert_eq!(
            counting.hex().as_slice(),
            b"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        );
    }

    #[test]
    fn there_and_back() {
        for _ in 0..1000 {
            let secret = Secret::random().unwrap();
            assert_eq!(
                Secret::from_base64(secret.base64().as_slice()).unwrap(),
                secret
            );
            assert_eq!(Secret::from_hex(secret.hex().as_slice()).unwrap(), secret);
            assert_eq!(
                Secret::from_hex(&secret.hex().to_ascii_uppercase()).unwrap(),
                secret
            );
        }
    }

    #[test]
    fn every_character_position_is_checked() {
        let good = Secret::from_slice(&[0x5a; 32]);
        for at in 0..BASE64_SIZE {
            let mut text = *good.base64();
            text[at] = b'*';
            assert_eq!(
                Secret::from_base64(&text),
                Err(NotAKey),
                "base64 position {at}"
            );
        }
        for at in 0..HEX_SIZE {
            let mut text = *good.hex();
            text[at] = b'g';
            assert_eq!(
                Secret::from_hex(&text),
                Err(NotAKey),
                "hexadecimal position {at}"
            );
        }
    }

    #[test]
    fn unused_bits_and_wrong_lengths_are_refused() {
        let text = *b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        assert!(Secret::from_base64(&text).unwrap().is_zero());
        for last in [b'B', b'C', b'D'] {
            let mut text = text;
            text[42] = last;
            assert_eq!(Secret::from_base64(&text), Err(NotAKey));
        }
        let mut fourth = text;
        fourth[42] = b'E';
        assert!(Secret::from_base64(&fourth).is_ok());
        for wrong in [&text[..43], &text[..40], b""] {
            assert_eq!(Secret::from_base64(wrong), Err(NotAKey));
            assert_eq!(Secret::from_hex(wrong), Err(NotAKey));
        }
    }
}
