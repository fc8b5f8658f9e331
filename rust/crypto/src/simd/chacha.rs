//! `ChaCha20` (RFC 8439, 2.3): sixteen blocks at once, one in each 32-bit lane of sixteen 512-bit registers.
//!
//! ```text
//! register w holds word w of the state of all sixteen blocks:      after the rounds, a 16 x 16 transposition
//!     w0:  block 0 word 0 | block 1 word 0 | ... | block 15         gives sixteen rows, each the 64 bytes of one block,
//!     w1:  block 0 word 1 | block 1 word 1 | ...                    which is combined with the text where that lies.
//! ```
//! The lanes share the key and nothing else: each has its own block number and nonce, so one call serves blocks of many
//! packets, and a batch wastes no lanes on the odd blocks at the end of each. `N` such sets run interleaved: one alone
//! waits for the latency of its own additions, two together fill all 32 registers and nearly all execution slots.

use core::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_mask_storeu_epi8,
    _mm512_maskz_loadu_epi8, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::prefix_mask;

/// Blocks in one set.
pub const LANES: usize = 16;
pub const BLOCK: usize = 64;

const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Sets in one call, at most.
pub const SETS: usize = 2;
pub const CAPACITY: usize = SETS * LANES;

/// What each lane does: which block of which nonce, and the text that it is combined with.
pub struct Lanes {
    /// Word 12: the block number.
    block: [u32; CAPACITY],
    /// Word 13, of all lanes: zero for packets.
    prefix: u32,
    /// Words 14 and 15: the packet counter.
    counter_low: [u32; CAPACITY],
    counter_high: [u32; CAPACITY],
    /// Where the text lies, and how many bytes of it (0 to 64).
    text: [*mut u8; CAPACITY],
    size: [usize; CAPACITY],
    used: usize,
}

impl Lanes {
    /// `prefix` is the first word of every nonce.
    pub fn new(prefix: u32) -> Self {
        Self {
            prefix,
            block: [0; CAPACITY],
            counter_low: [0; CAPACITY],
            counter_high: [0; CAPACITY],
            text: [core::ptr::null_mut(); CAPACITY],
            size: [0; CAPACITY],
            used: 0,
        }
    }

    /// One lane more; true when that was the last free one.
    #[inline]
    pub fn push(&mut self, counter: u64, block: u32, text: *mut u8, size: usize) -> bool {
        let at = self.used;
        self.block[at] = block;
        self.counter_low[at] = counter as u32;
        self.counter_high[at] = (counter >> 32) as u32;
        self.text[at] = text;
        self.size[at] = size;
        self.used += 1;
        self.used == CAPACITY
    }

    /// Combine each lane's text with its block of keystream, and be empty again.
    ///
    /// # Safety
    /// The CPU has AVX-512 F and BW. For each lane, `size` bytes at `text` may be read and written, and overlap no other lane's.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub unsafe fn combine(&mut self, key: &[u32; 8]) {
        let used = core::mem::take(&mut self.used);
        self.size[used..].fill(0);
        match used.div_ceil(LANES) {
            0 => {}
            // SAFETY: as the caller promises; a lane of size 0 touches no text.
            1 => unsafe { combine::<1>(key, self) },
            // SAFETY: the same.
            _ => unsafe { combine::<SETS>(key, self) },
        }
    }
}

type State = [__m512i; 16];

#[inline]
#[target_feature(enable = "avx512f")]
#[allow(clippy::many_single_char_names)] // the RFC's
fn quarter_round(s: &mut State, a: usize, b: usize, c: usize, d: usize) {
    s[a] = _mm512_add_epi32(s[a], s[b]);
    s[d] = _mm512_rol_epi32::<16>(_mm512_xor_si512(s[d], s[a]));
    s[c] = _mm512_add_epi32(s[c], s[d]);
    s[b] = _mm512_rol_epi32::<12>(_mm512_xor_si512(s[b], s[c]));
    s[a] = _mm512_add_epi32(s[a], s[b]);
    s[d] = _mm512_rol_epi32::<8>(_mm512_xor_si512(s[d], s[a]));
    s[c] = _mm512_add_epi32(s[c], s[d]);
    s[b] = _mm512_rol_epi32::<7>(_mm512_xor_si512(s[b], s[c]));
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(words: &[u32; CAPACITY], set: usize) -> __m512i {
    let words = &words[LANES * set..][..LANES];
    // SAFETY: reads the 64 bytes of the sixteen words; the instruction needs no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn initial(key: &[u32; 8], lanes: &Lanes, set: usize) -> State {
    let mut state = [_mm512_setzero_si512(); 16];
    for at in 0..4 {
        state[at] = splat(CONSTANTS[at]);
    }
    for at in 0..8 {
        state[4 + at] = splat(key[at]);
    }
    state[12] = load(&lanes.block, set);
    state[13] = splat(lanes.prefix);
    state[14] = load(&lanes.counter_low, set);
    state[15] = load(&lanes.counter_high, set);
    state
}

/// Words by lane to blocks by row, each combined with its text at once (a row that waits is a row that spills).
///
/// # Safety
/// As [`Lanes::combine`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn transpose_and_combine(words: &State, lanes: &Lanes, set: usize) {
    // Four words of four blocks each: 128-bit part `p` of `quads[q][i]` is words 4q..4q+4 of block 4p+i.
    let mut quads = [[_mm512_setzero_si512(); 4]; 4];
    for q in 0..4 {
        let [w0, w1, w2, w3] = [
            words[4 * q],
            words[4 * q + 1],
            words[4 * q + 2],
            words[4 * q + 3],
        ];
        let (low01, high01) = (_mm512_unpacklo_epi32(w0, w1), _mm512_unpackhi_epi32(w0, w1));
        let (low23, high23) = (_mm512_unpacklo_epi32(w2, w3), _mm512_unpackhi_epi32(w2, w3));
        quads[q] = [
            _mm512_unpacklo_epi64(low01, low23),
            _mm512_unpackhi_epi64(low01, low23),
            _mm512_unpacklo_epi64(high01, high23),
            _mm512_unpackhi_epi64(high01, high23),
        ];
    }
    let base = LANES * set;
    // Written out: as a loop the compiler keeps it one, with the registers in memory to be indexed.
    macro_rules! blocks {
        ($($i:literal)*) => {$(
            let [p0, p1, p2, p3] = super::transpose_parts([quads[0][$i], quads[1][$i], quads[2][$i], quads[3][$i]]);
            // SAFETY: the caller's promise, lane by lane.
            unsafe {
                combine_row(p0, lanes, base + $i);
                combine_row(p1, lanes, base + 4 + $i);
                combine_row(p2, lanes, base + 8 + $i);
                combine_row(p3, lanes, base + 12 + $i);
            }
        )*};
    }
    blocks!(0 1 2 3);
}

/// One block of keystream into its text.
///
/// # Safety
/// As [`Lanes::combine`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn combine_row(row: __m512i, lanes: &Lanes, lane: usize) {
    let (text, size) = (lanes.text[lane], lanes.size[lane]);
    if size == BLOCK {
        // SAFETY: the caller grants 64 bytes at `text`; no alignment is needed.
        unsafe {
            _mm512_storeu_si512(
                text.cast(),
                _mm512_xor_si512(row, _mm512_loadu_si512(text.cast())),
            );
        };
    } else if size > 0 {
        let mask = prefix_mask(size);
        // SAFETY: the mask has `size` bits, and masked-out bytes are neither read nor written.
        unsafe {
            let bytes = _mm512_maskz_loadu_epi8(mask, text.cast());
            _mm512_mask_storeu_epi8(text.cast(), mask, _mm512_xor_si512(row, bytes));
        }
    }
}

/// [`Lanes::combine`] for the first `N` sets.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn combine<const N: usize>(key: &[u32; 8], lanes: &Lanes) {
    let mut states = [[_mm512_setzero_si512(); 16]; N];
    for (set, state) in states.iter_mut().enumerate() {
        *state = initial(key, lanes, set);
    }
    for _ in 0..10 {
        for state in &mut states {
            quarter_round(state, 0, 4, 8, 12);
            quarter_round(state, 1, 5, 9, 13);
            quarter_round(state, 2, 6, 10, 14);
            quarter_round(state, 3, 7, 11, 15);
        }
        for state in &mut states {
            quarter_round(state, 0, 5, 10, 15);
            quarter_round(state, 1, 6, 11, 12);
            quarter_round(state, 2, 7, 8, 13);
            quarter_round(state, 3, 4, 9, 14);
        }
    }
    // SAFETY: the caller's promise. The branch is decided by `N`; a loop over the sets would not be unrolled.
    unsafe {
        finish(&states[0], key, lanes, 0);
        if N > 1 {
            finish(&states[1], key, lanes, 1);
        }
    }
}

/// Add the initial state, and combine.
///
/// # Safety
/// As [`Lanes::combine`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn finish(state: &State, key: &[u32; 8], lanes: &Lanes, set: usize) {
    let mut words = initial(key, lanes, set);
    for (word, state) in words.iter_mut().zip(state) {
        *word = _mm512_add_epi32(*word, *state);
    }
    // SAFETY: the caller's promise.
    unsafe { transpose_and_combine(&words, lanes, set) };
}
