//! The Internet checksum (RFC 1071), wide.
//!
//! Theory. The checksum is the complement of the one's complement sum of 16-bit words, which is the sum modulo 65535.
//! Three of its properties make it fast:
//! - 2^16 ≡ 1 (mod 65535), so wider words may be added and folded at the end: 32-bit words into 64-bit lanes cannot
//!   overflow below 2^32 words (16 GiB), far beyond any packet, and the loop has no carries, so it vectorises.
//! - It commutes with swapping the bytes of every word: words are loaded in the machine's order and the folded
//!   result, stored in the machine's order, is right on the wire.
//! - It is additive, so that constant parts of a header are summed once for all segments of a super-packet, and a change
//!   of one word updates an existing checksum (RFC 1624).
//!
//! A sum over pieces needs each piece to start at an even offset; an odd piece counts as if followed by a zero byte.

/// Bytes taken by one turn of the wide loop.
const BLOCK: usize = 32;
/// 64-bit words in a block.
const LANES: usize = BLOCK / 8;

/// A one's complement sum on its way, in the machine's byte order, unfolded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The empty sum.
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds bytes that start at an even offset of what is summed.
    #[must_use]
    #[inline]
    pub fn bytes(self, data: &[u8]) -> Self {
        self.plus(sum(data))
    }

    /// Adds one 16-bit field given by its value.
    #[must_use]
    #[inline]
    pub fn word(self, value: u16) -> Self {
        self.plus(Self(u16::from_ne_bytes(value.to_be_bytes()) as u64))
    }

    /// Adds one 32-bit field given by its value.
    #[must_use]
    #[inline]
    pub fn long(self, value: u32) -> Self {
        self.plus(Self(u32::from_ne_bytes(value.to_be_bytes()) as u64))
    }

    /// Adds another sum.
    #[must_use]
    #[inline]
    pub fn plus(self, other: Self) -> Self {
        // Both stay far below 2^63 (module comment); wrapping only spares the check.
        Self(self.0.wrapping_add(other.0))
    }

    /// The sum folded to 16 bits, as bytes in wire order: what a field holds while its checksum is *partial*.
    #[inline]
    pub fn partial(self) -> [u8; 2] {
        self.fold().to_ne_bytes()
    }

    /// The checksum, as bytes in wire order.
    #[inline]
    pub fn checksum(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// The checksum for a field in which zero means "none" (UDP): zero is sent as 0xffff, which verifies just the same.
    #[inline]
    pub fn checksum_nonzero(self) -> [u8; 2] {
        match self.checksum() {
            [0, 0] => [0xff, 0xff],
            other => other,
        }
    }

    /// Whether this sum, taken over data that includes its checksum field, says that the data is intact.
    #[inline]
    pub fn verifies(self) -> bool {
        self.fold() == 0xffff
    }

    #[inline]
    fn fold(self) -> u16 {
        let s = (self.0 >> 32) + (self.0 & 0xffff_ffff); // < 2^33
        let s = (s >> 16) + (s & 0xffff); // < 2^18
        let s = (s >> 16) + (s & 0xffff); // <= 0x1_0002
        ((s >> 16) + (s & 0xffff)) as u16
    }
}

/// The sum of `data`, which starts at an even offset.
#[inline]
pub fn sum(data: &[u8]) -> Sum {
    let (blocks, rest) = data.as_chunks::<BLOCK>();
    Sum(sum_blocks(blocks).wrapping_add(sum_rest(rest)))
}

/// The wide loop, a function of its own so that what surrounds a call cannot spoil how it is compiled.
#[inline(never)]
fn sum_blocks(blocks: &[[u8; BLOCK]]) -> u64 {
    let (mut low, mut high) = ([0u64; LANES], [0u64; LANES]);
    for block in blocks {
        let words = block.as_chunks::<8>().0;
        for i in 0..LANES {
            let word = u64::from_ne_bytes(words[i]);
            low[i] = low[i].wrapping_add(word & 0xffff_ffff);
            high[i] = high[i].wrapping_add(word >> 32);
        }
    }
    low.iter()
        .chain(&high)
        .fold(0, |a: u64, lane| a.wrapping_add(*lane))
}

/// The sum of a piece whose length, a multiple of four, is known when compiling: a few loads and adds.
#[inline]
pub fn sum_fixed<const N: usize>(data: &[u8; N]) -> Sum {
    const { assert!(N.is_multiple_of(4) && N < 1 << 30) };
    Sum(data
        .as_chunks::<4>()
        .0
        .iter()
        .fold(0, |a: u64, w| a.wrapping_add(u32::from_ne_bytes(*w) as u64)))
}

/// Copies `from` into `to` and sums it. The shorter length counts; callers pass equal ones.
#[inline]
pub fn copy(to: &mut [u8], from: &[u8]) -> Sum {
    let len = to.len().min(from.len());
    to[..len].copy_from_slice(&from[..len]);
    sum(&from[..len])
}

/// The pseudo-header of TCP and UDP without its length: both addresses as they lie in the IP header, and the protocol.
///
/// Source: RFC 9293 3.1, RFC 768, RFC 8200 8.1.
#[inline]
pub fn pseudo<const N: usize>(addresses: &[u8; N], protocol: u8) -> Sum {
    sum_fixed(addresses).word(protocol as u16)
}

/// An existing checksum after one 16-bit word that it covers changed (RFC 1624, equation 3).
pub fn update(checksum: [u8; 2], old: u16, new: u16) -> [u8; 2] {
    Sum::new()
        .word(!u16::from_be_bytes(checksum))
        .word(!old)
        .word(new)
        .checksum()
}

/// Fewer than `BLOCK` bytes, each word at an even offset, the last odd byte as if a zero followed.
#[inline]
fn sum_rest(rest: &[u8]) -> u64 {
    let (words, rest) = rest.as_chunks::<8>();
    let s = words
        .iter()
        .fold(0, |a: u64, w| a.wrapping_add(sum_fixed(w).0));
    let (words, rest) = rest.as_chunks::<2>();
    let s = words
        .iter()
        .fold(s, |a, w| a.wrapping_add(u16::from_ne_bytes(*w) as u64));
    s.wrapping_add(
        rest.first()
            .map_or(0, |b| u16::from_ne_bytes([*b, 0]) as u64),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// RFC 1071 as its first page says it: one word at a time, carries put back.
    fn naive(data: &[u8]) -> u16 {
        let mut s: u32 = 0;
        for pair in data.chunks(2) {
            s += (pair[0] as u32) << 8 | pair.get(1).copied().unwrap_or(0) as u32;
            s = (s & 0xffff) + (s >> 16);
        }
        s as u16
    }

    fn noise(len: usize, seed: u32) -> Vec<u8> {
        let mut x = seed | 1;
        (0..len)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 17;
                x ^= x << 5;
                x as u8
            })
            .collect()
    }

    #[test]
    fn rfc_1071_example() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&data).partial(), [0xdd, 0xf2]);
        assert_eq!(sum(&data).checksum(), [0x22, 0x0d]);
        assert_eq!(sum_fixed(&data), sum(&data));
    }

    #[test]
    fn an_ipv4_header_from_the_wire() {
        // 45 00 00 73 00 00 40 00 40 11 b8 61 c0 a8 00 01 c0 a8 00 c7, the usual textbook capture.
        let mut header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert!(sum(&header).verifies());
        header[10..12].fill(0);
        assert_eq!(sum(&header).checksum(), [0xb8, 0x61]);
    }

    #[test]
    fn every_length_and_pattern_equals_the_naive_sum() {
        for len in 0..400 {
            for data in [noise(len, len as u32 + 7), vec![0xff; len], vec![0; len]] {
                let mut expected = naive(&data);
                let got = u16::from_be_bytes(sum(&data).partial());
                // 0 and 0xffff are both zero; the sum is 0 only for all-zero data in either method.
                if data.iter().all(|b| *b == 0) {
                    expected = 0;
                }
                assert_eq!(got, expected, "len {len}");
                let mut to = vec![0; len];
                assert_eq!(copy(&mut to, &data), sum(&data));
                assert_eq!(to, data);
            }
        }
        let big = noise(65_535, 3);
        assert_eq!(u16::from_be_bytes(sum(&big).partial()), naive(&big));
        let worst = vec![0xff; 1 << 20];
        assert_eq!(sum(&worst).partial(), [0xff, 0xff]);
    }

    #[test]
    fn pieces_at_even_offsets_add_up() {
        let data = noise(1501, 9);
        for cut in (0..=1500).step_by(2) {
            let pieces = sum(&data[..cut]).bytes(&data[cut..]);
            assert_eq!(pieces.partial(), sum(&data).partial(), "cut {cut}");
        }
        assert_eq!(
            Sum::new().long(0x1234_5678).partial(),
            sum(&[0x12, 0x34, 0x56, 0x78]).partial()
        );
        assert_eq!(Sum::new().word(0x1234).partial(), [0x12, 0x34]);
    }

    #[test]
    fn zero_is_never_sent_where_it_means_none() {
        let s = sum(&[0xff, 0xff]);
        assert_eq!(s.checksum(), [0, 0]);
        assert_eq!(s.checksum_nonzero(), [0xff, 0xff]);
    }

    #[test]
    fn incremental_update_equals_recomputation() {
        let mut data = noise(20, 5);
        for new in [0u16, 1, 0x4500, 0x4503, 0xfffe, 0xffff] {
            data[10..12].fill(0);
            let check = sum(&data).checksum();
            let old = u16::from_be_bytes([data[0], data[1]]);
            data[..2].copy_from_slice(&new.to_be_bytes());
            let updated = update(check, old, new);
            data[10..12].copy_from_slice(&updated);
            assert!(sum(&data).verifies(), "{old:04x} -> {new:04x}");
        }
    }
}
