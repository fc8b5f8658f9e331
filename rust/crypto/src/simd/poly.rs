//! Poly1305 (RFC 8439, 2.5) of eight packets at once, one in each 64-bit lane, with AVX-512 IFMA.
//!
//! Theory. A message of blocks m1..mN has the tag ((m1 r^N + m2 r^(N-1) + .. + mN r) mod 2^130-5) + s mod 2^128. Each packet
//! has an `r` of its own (from block 0 of its keystream), so lanes across packets need neither tables of powers per packet nor
//! a sum across lanes. Four blocks a step, 64 bytes of each packet:
//!
//! ```text
//! h = (h + m1) r^4 + m2 r^3 + m3 r^2 + m4 r          one reduction for the four; only the first product waits for h
//! ```
//!
//! Numbers are three limbs of 44, 44 and 42 bits. The multiplier takes 52-bit factors and adds either the low or the high
//! 52 bits of the product to a 64-bit lane; a high half weighs 2^52 = 2^(44+8) and so goes to the next limb, shifted by 8.
//! 2^132 = 20 mod p folds what is above the third limb; hence the factors 20 r1 and 20 r2 kept with each power.
//!
//! Bounds, with h0, h1 <= 2^44 + 2^18 and h2 < 2^42 between steps: h + m < 2^45.1; 20 r1 < 2^48.4; a product < 2^93.5, its
//! halves < 2^52 and < 2^41.5; twelve of each are summed: < 2^55.6 and < 2^45.1. All shifted sums stay below 2^61.
//!
//! Packets differ in length. Each is moved to the right in a common frame of whole 64-byte steps: leading blocks that it
//! has not count as zero *without* the bit 2^128, which leaves h = 0; so the last block (of lengths) is the last of the last
//! step for every packet. Where a step is not filled by text in every lane, loads are masked.

use core::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_cmple_epi64_mask, _mm512_cmplt_epu64_mask,
    _mm512_loadu_si512, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_add_epi64,
    _mm512_mask_blend_epi64, _mm512_maskz_loadu_epi8, _mm512_maskz_mov_epi64, _mm512_or_si512,
    _mm512_set1_epi64, _mm512_set_epi64, _mm512_setzero_si512, _mm512_slli_epi64,
    _mm512_srli_epi64, _mm512_storeu_si512, _mm512_sub_epi64, _mm512_test_epi64_mask,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use super::prefix_mask;

/// Packets in one call.
pub const LANES: usize = 8;
const STEP: usize = 64;
const BLOCK: usize = 16;

/// A one-time key: `r` (two words) and `s` (two words).
pub type OneTimeKey = [u64; 4];

/// One lane's message: a first block where there is one, a text, padded to whole blocks, and a last block.
#[derive(Clone, Copy)]
pub struct Message {
    /// Associated data of at most 16 bytes, as two words; counts for `tags::<true>` alone.
    pub head: [u64; 2],
    pub text: *const u8,
    pub size: usize,
    /// The last block as two words: for the AEAD, the sizes of the associated data and of the ciphertext.
    pub last: [u64; 2],
}

impl Message {
    /// The empty message, for lanes without a packet.
    pub const EMPTY: Self = Self {
        head: [0; 2],
        text: core::ptr::null(),
        size: 0,
        last: [0; 2],
    };

    /// The first `heads` blocks, those of text, and the last block.
    fn blocks(self, heads: usize) -> usize {
        heads + self.size.div_ceil(BLOCK) + 1
    }
}

/// Three limbs a lane.
#[derive(Clone, Copy)]
struct Limbs([__m512i; 3]);

/// A power of r, with 20 r1 and 20 r2.
#[derive(Clone, Copy)]
struct Power {
    r: [__m512i; 3],
    twenty: [__m512i; 2],
}

/// Sums of low and of high product halves, by the limb that the low half belongs to.
struct Sums {
    low: [__m512i; 3],
    high: [__m512i; 3],
}

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(value: u64) -> __m512i {
    _mm512_set1_epi64(value.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn mask44() -> __m512i {
    splat((1 << 44) - 1)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn mask42() -> __m512i {
    splat((1 << 42) - 1)
}

/// A 128-bit number in two words to limbs; `top` is added to the third (the bit 2^128, where there is one).
#[inline]
#[target_feature(enable = "avx512f")]
fn limbs(low: __m512i, high: __m512i, top: __m512i) -> Limbs {
    let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
    Limbs([
        _mm512_and_si512(low, mask44()),
        _mm512_and_si512(middle, mask44()),
        _mm512_or_si512(_mm512_srli_epi64::<24>(high), top),
    ])
}

#[inline]
#[target_feature(enable = "avx512f")]
fn power(r: Limbs) -> Power {
    let twenty = |x| _mm512_add_epi64(_mm512_slli_epi64::<4>(x), _mm512_slli_epi64::<2>(x));
    let Limbs(r) = r;
    Power {
        r,
        twenty: [twenty(r[1]), twenty(r[2])],
    }
}

impl Sums {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn zero() -> Self {
        Self {
            low: [_mm512_setzero_si512(); 3],
            high: [_mm512_setzero_si512(); 3],
        }
    }

    /// Add the product of `m` and `p`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn add_product(&mut self, m: Limbs, p: &Power) {
        let Limbs(m) = m;
        let rows = [
            [p.r[0], p.twenty[1], p.twenty[0]],
            [p.r[1], p.r[0], p.twenty[1]],
            [p.r[2], p.r[1], p.r[0]],
        ];
        for (limb, row) in rows.iter().enumerate() {
            for (m, factor) in m.iter().zip(row) {
                self.low[limb] = _mm512_madd52lo_epu64(self.low[limb], *m, *factor);
                self.high[limb] = _mm512_madd52hi_epu64(self.high[limb], *m, *factor);
            }
        }
    }

    /// To limbs within the bounds above.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn reduce(self) -> Limbs {
        let Self { low, high } = self;
        let d0 = low[0];
        let d1 = _mm512_add_epi64(
            _mm512_add_epi64(low[1], _mm512_slli_epi64::<8>(high[0])),
            _mm512_srli_epi64::<44>(d0),
        );
        let d2 = _mm512_add_epi64(
            _mm512_add_epi64(low[2], _mm512_slli_epi64::<8>(high[1])),
            _mm512_srli_epi64::<44>(d1),
        );
        // What is above 2^130: the rest of the third limb, and its high half (2^52 = 2^(42+10)).
        let over = _mm512_add_epi64(
            _mm512_srli_epi64::<42>(d2),
            _mm512_slli_epi64::<10>(high[2]),
        );
        let five = _mm512_add_epi64(over, _mm512_slli_epi64::<2>(over));
        let h0 = _mm512_add_epi64(_mm512_and_si512(d0, mask44()), five);
        Limbs([
            _mm512_and_si512(h0, mask44()),
            _mm512_add_epi64(_mm512_and_si512(d1, mask44()), _mm512_srli_epi64::<44>(h0)),
            _mm512_and_si512(d2, mask42()),
        ])
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn product(a: Limbs, b: &Power) -> Limbs {
    let mut sums = Sums::zero();
    sums.add_product(a, b);
    sums.reduce()
}

/// Word `at` of each lane's one-time key.
#[inline]
#[target_feature(enable = "avx512f")]
fn word(keys: &[OneTimeKey; LANES], at: usize) -> __m512i {
    let k = |lane: usize| keys[lane][at].cast_signed();
    _mm512_set_epi64(k(7), k(6), k(5), k(4), k(3), k(2), k(1), k(0))
}

/// The 64 bytes of each lane at one step, to the four blocks' low and high words.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: &[__m512i; LANES]) -> ([__m512i; 4], [__m512i; 4]) {
    let mut low = [_mm512_setzero_si512(); 4];
    let mut high = [_mm512_setzero_si512(); 4];
    for pair in 0..4 {
        low[pair] = _mm512_unpacklo_epi64(rows[2 * pair], rows[2 * pair + 1]);
        high[pair] = _mm512_unpackhi_epi64(rows[2 * pair], rows[2 * pair + 1]);
    }
    (super::transpose_parts(low), super::transpose_parts(high))
}

/// The tags of eight messages, as low and high words; `HEAD`: each begins with its first block.
///
/// # Safety
/// The CPU has AVX-512 F, BW and IFMA, and each message's text can be read.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub unsafe fn tags<const HEAD: bool>(
    keys: &[OneTimeKey; LANES],
    messages: &[Message; LANES],
) -> [[u64; LANES]; 2] {
    let heads = usize::from(HEAD);
    let r = limbs(
        _mm512_and_si512(word(keys, 0), splat(0x0fff_fffc_0fff_ffff)),
        _mm512_and_si512(word(keys, 1), splat(0x0fff_fffc_0fff_fffc)),
        _mm512_setzero_si512(),
    );
    let r1 = power(r);
    let r2 = power(product(r, &r1));
    let r3 = power(product(Limbs(r2.r), &r1));
    let r4 = power(product(Limbs(r2.r), &r2));
    let powers = [r4, r3, r2, r1];

    let steps = messages
        .iter()
        .map(|m| m.blocks(heads))
        .max()
        .unwrap_or(0)
        .div_ceil(4);
    // Blocks by which each message is moved to the right.
    let shifts = messages.map(|m| 4 * steps - m.blocks(heads));
    let s = |lane: usize| (shifts[lane] as u64).cast_signed();
    let shift = _mm512_set_epi64(s(7), s(6), s(5), s(4), s(3), s(2), s(1), s(0));
    // Steps in which every lane has 64 bytes of text.
    let whole_from = shifts
        .iter()
        .map(|shift| (shift + heads).div_ceil(4))
        .max()
        .unwrap_or(0);
    let whole_to = (0..LANES)
        .map(|lane| (BLOCK * (shifts[lane] + heads) + messages[lane].size) / STEP)
        .min()
        .unwrap_or(0);

    let bit = splat(1 << 40);
    let mut h = Limbs([_mm512_setzero_si512(); 3]);
    for step in 0..steps {
        let mut rows = [_mm512_setzero_si512(); LANES];
        let mut tops = [bit; 4];
        if (whole_from..whole_to).contains(&step) {
            for lane in 0..LANES {
                let at = STEP * step - BLOCK * (shifts[lane] + heads);
                // SAFETY: at + 64 <= size for every lane, by the choice of `whole_from` and `whole_to`.
                rows[lane] = unsafe { _mm512_loadu_si512(messages[lane].text.add(at).cast()) };
            }
        } else {
            for lane in 0..LANES {
                let Message {
                    head,
                    text,
                    size,
                    last,
                } = messages[lane];
                // This step's bytes are frame bytes from..from+64; the text's are begin..begin+size.
                let (from, begin) = (STEP * step, BLOCK * (shifts[lane] + heads));
                let mask = prefix_mask((begin + size).saturating_sub(from))
                    & !prefix_mask(begin.saturating_sub(from));
                // A load that is masked out entirely is skipped: where its address is not mapped, the CPU would take
                // microseconds to find that it need not fault.
                let row = if mask == 0 {
                    _mm512_setzero_si512()
                } else {
                    // SAFETY: only bytes of the text are in the mask; the others are not read, wherever they lie.
                    unsafe {
                        _mm512_maskz_loadu_epi8(
                            mask,
                            text.wrapping_add(from).wrapping_sub(begin).cast(),
                        )
                    }
                };
                let [low, high] = if step + 1 == steps {
                    last.map(u64::cast_signed)
                } else {
                    [0; 2]
                };
                let mut ends = _mm512_set_epi64(high, low, 0, 0, 0, 0, 0, 0);
                if HEAD && shifts[lane] / 4 == step {
                    let mut words = [0_u64; 8];
                    words[shifts[lane] % 4 * 2..][..2].copy_from_slice(&head);
                    // SAFETY: reads the 64 bytes of the eight words; no alignment is needed.
                    ends =
                        _mm512_or_si512(ends, unsafe { _mm512_loadu_si512(words.as_ptr().cast()) });
                }
                rows[lane] = _mm512_or_si512(row, ends);
            }
            for (k, top) in tops.iter_mut().enumerate() {
                let present = _mm512_cmple_epi64_mask(shift, splat((4 * step + k) as u64));
                *top = _mm512_maskz_mov_epi64(present, bit);
            }
        }
        let (low, high) = transpose(&rows);
        let mut sums = Sums::zero();
        for k in [3, 2, 1] {
            sums.add_product(limbs(low[k], high[k], tops[k]), &powers[k]);
        }
        let Limbs(first) = limbs(low[0], high[0], tops[0]);
        let first = Limbs([0, 1, 2].map(|at| _mm512_add_epi64(first[at], h.0[at])));
        sums.add_product(first, &powers[0]);
        h = sums.reduce();
    }
    finish(h, word(keys, 2), word(keys, 3))
}

/// (h mod p) + s mod 2^128, as low and high words.
#[inline]
#[target_feature(enable = "avx512f")]
fn finish(h: Limbs, s_low: __m512i, s_high: __m512i) -> [[u64; LANES]; 2] {
    let Limbs([mut h0, mut h1, mut h2]) = h;
    // Twice around: the first leaves at most a few units above each limb's width, the second none.
    for _ in 0..2 {
        h2 = _mm512_add_epi64(h2, _mm512_srli_epi64::<44>(h1));
        h1 = _mm512_and_si512(h1, mask44());
        let over = _mm512_srli_epi64::<42>(h2);
        h2 = _mm512_and_si512(h2, mask42());
        h0 = _mm512_add_epi64(h0, _mm512_add_epi64(over, _mm512_slli_epi64::<2>(over)));
        h1 = _mm512_add_epi64(h1, _mm512_srli_epi64::<44>(h0));
        h0 = _mm512_and_si512(h0, mask44());
    }
    h2 = _mm512_add_epi64(h2, _mm512_srli_epi64::<44>(h1));
    h1 = _mm512_and_si512(h1, mask44());
    // h - p = h + 5 - 2^130: taken where it is not negative.
    let g0 = _mm512_add_epi64(h0, splat(5));
    let g1 = _mm512_add_epi64(h1, _mm512_srli_epi64::<44>(g0));
    let g2 = _mm512_sub_epi64(
        _mm512_add_epi64(h2, _mm512_srli_epi64::<44>(g1)),
        splat(1 << 42),
    );
    let negative = _mm512_test_epi64_mask(g2, splat(1 << 63));
    h0 = _mm512_mask_blend_epi64(negative, _mm512_and_si512(g0, mask44()), h0);
    h1 = _mm512_mask_blend_epi64(negative, _mm512_and_si512(g1, mask44()), h1);
    h2 = _mm512_mask_blend_epi64(negative, g2, h2);

    let low = _mm512_or_si512(h0, _mm512_slli_epi64::<44>(h1));
    let high = _mm512_or_si512(_mm512_srli_epi64::<20>(h1), _mm512_slli_epi64::<24>(h2));
    let low = _mm512_add_epi64(low, s_low);
    let carry = _mm512_cmplt_epu64_mask(low, s_low);
    let high = _mm512_add_epi64(high, s_high);
    let high = _mm512_mask_add_epi64(high, carry, high, splat(1));

    let mut words = [[0; LANES]; 2];
    // SAFETY: each array has the 64 bytes that are written; no alignment is needed.
    unsafe {
        _mm512_storeu_si512(words[0].as_mut_ptr().cast(), low);
        _mm512_storeu_si512(words[1].as_mut_ptr().cast(), high);
    }
    words
}
