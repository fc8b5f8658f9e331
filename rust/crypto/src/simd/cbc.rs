//! AES-CBC encryption (NIST SP 800-38A, 6.2) of eight packets at once, with AES-NI.
//!
//! Within one packet each block waits for the one before, and the CPU's AES unit stands idle nine tenths of the time; packets do not
//! wait for each other. A lane is a packet; one that is done takes the next of the batch, and when there is none, goes on over a block
//! of its own that nobody reads. (Decryption needs none of this: its blocks wait for nothing, and the library works on many.)

use core::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128, _mm_cvtsi128_si32,
    _mm_loadu_si128, _mm_set_epi32, _mm_storeu_si128, _mm_xor_si128,
};

use zeroize::Zeroizing;

const BLOCK: usize = 16;
const LANES: usize = 8;
/// Round keys of the longest schedule.
const MAX_ROUNDS: usize = 14;

/// Proof that this CPU has the instructions: made by [`AesNi::detect`] alone.
#[derive(Clone, Copy)]
pub struct AesNi(());

impl AesNi {
    /// `None` where the CPU lacks them.
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("aes").then_some(Self(()))
    }
}

/// One packet's text in its slab: whole blocks, and what the first is combined with.
#[derive(Clone, Copy)]
pub struct Chain {
    pub start: usize,
    pub size: usize,
    pub iv: [u8; BLOCK],
}

impl Chain {
    pub const NONE: Self = Self {
        start: 0,
        size: 0,
        iv: [0; BLOCK],
    };
}

/// A key schedule (FIPS 197, 5.2).
pub struct Schedule {
    keys: Box<Zeroizing<[[u8; BLOCK]; MAX_ROUNDS + 1]>>,
    rounds: usize,
}

impl Schedule {
    /// `None` unless the key has 16, 24 or 32 bytes.
    pub fn new(_: AesNi, key: &[u8]) -> Option<Self> {
        let words = match key.len() {
            16 | 24 | 32 => key.len() / 4,
            _ => return None,
        };
        let rounds = words + 6;
        let mut keys = Box::new(Zeroizing::new([[0; BLOCK]; MAX_ROUNDS + 1]));
        let flat = keys.as_flattened_mut();
        flat[..key.len()].copy_from_slice(key);
        let mut constant = 1_u8;
        for at in words..4 * (rounds + 1) {
            let word = |at: usize| {
                flat[4 * at..]
                    .first_chunk()
                    .map_or(0, |raw| u32::from_le_bytes(*raw))
            };
            let (before, last) = (word(at - words), word(at - 1));
            let added = if at % words == 0 {
                // The byte in front, as the word is read little-endian, is the lowest.
                // SAFETY: the argument proves the instructions.
                let added = unsafe { substitute(last) }.rotate_right(8) ^ u32::from(constant);
                constant = (constant << 1) ^ if constant & 0x80 == 0 { 0 } else { 0x1b };
                added
            } else if words == 8 && at % words == 4 {
                // SAFETY: the same.
                unsafe { substitute(last) }
            } else {
                last
            };
            flat[4 * at..][..4].copy_from_slice(&(before ^ added).to_le_bytes());
        }
        Some(Self { keys, rounds })
    }

    /// Encrypt each chain in place.
    ///
    /// # Panics
    /// When a chain does not lie within the slab, or is not whole blocks.
    pub fn encrypt(&self, slab: &mut [u8], chains: &[Chain]) {
        for chain in chains {
            let end = chain.start.checked_add(chain.size);
            assert!(
                chain.size.is_multiple_of(BLOCK) && end.is_some_and(|end| end <= slab.len()),
                "a chain is not whole blocks of the slab"
            );
        }
        // SAFETY: a schedule proves the instructions; every chain is whole blocks within the slab, as just checked.
        unsafe { encrypt(&self.keys, self.rounds, slab.as_mut_ptr(), chains) }
    }
}

/// The S-box over each byte of a word.
#[target_feature(enable = "aes")]
fn substitute(word: u32) -> u32 {
    let word = word.cast_signed();
    // The lowest word of the result is the second of the argument, substituted.
    _mm_cvtsi128_si32(_mm_aeskeygenassist_si128::<0>(_mm_set_epi32(0, 0, word, 0))).cast_unsigned()
}

#[inline]
#[target_feature(enable = "sse2")]
fn load(block: &[u8; BLOCK]) -> __m128i {
    // SAFETY: reads the 16 bytes; no alignment is needed.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

/// # Safety
/// The CPU has AES-NI; each chain's text may be read and written behind `base`, in whole blocks.
#[target_feature(enable = "aes")]
unsafe fn encrypt(
    keys: &[[u8; BLOCK]; MAX_ROUNDS + 1],
    rounds: usize,
    base: *mut u8,
    chains: &[Chain],
) {
    let mut idle = [[0_u8; BLOCK]; LANES];
    let mut states = [load(&[0; BLOCK]); LANES];
    let mut texts = [core::ptr::null_mut::<u8>(); LANES];
    let mut left = [0; LANES];
    let mut waiting = chains.iter().filter(|chain| chain.size > 0);
    loop {
        // Whoever is done takes the next.
        for lane in 0..LANES {
            if left[lane] == 0 {
                if let Some(chain) = waiting.next() {
                    states[lane] = load(&chain.iv);
                    texts[lane] = base.wrapping_add(chain.start);
                    left[lane] = chain.size / BLOCK;
                }
            }
        }
        let Some(steps) = left.iter().copied().filter(|left| *left > 0).min() else {
            return;
        };
        let mut strides = [BLOCK; LANES];
        for lane in 0..LANES {
            if left[lane] == 0 {
                texts[lane] = idle[lane].as_mut_ptr();
                strides[lane] = 0;
            } else {
                left[lane] -= steps;
            }
        }
        for _ in 0..steps {
            let first = load(&keys[0]);
            for lane in 0..LANES {
                // SAFETY: a lane at work has `steps` blocks before it; an idle one has a block of its own.
                let text = unsafe { _mm_loadu_si128(texts[lane].cast()) };
                states[lane] = _mm_xor_si128(_mm_xor_si128(text, first), states[lane]);
            }
            for key in &keys[1..rounds] {
                let key = load(key);
                for state in &mut states {
                    *state = _mm_aesenc_si128(*state, key);
                }
            }
            let last = load(&keys[rounds]);
            for lane in 0..LANES {
                states[lane] = _mm_aesenclast_si128(states[lane], last);
                // SAFETY: as above.
                unsafe { _mm_storeu_si128(texts[lane].cast(), states[lane]) };
                texts[lane] = texts[lane].wrapping_add(strides[lane]);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    /// NIST SP 800-38A, F.2.1, F.2.3 and F.2.5: four blocks under each size of key, in every lane.
    #[test]
    fn cbc_of_nist() {
        let Some(cpu) = AesNi::detect() else {
            return; // nothing here to test
        };
        let text = hex(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        );
        let iv: [u8; 16] = core::array::from_fn(|at| at as u8);
        for (key, expected) in [
            (
                "2b7e151628aed2a6abf7158809cf4f3c",
                "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b273bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
            ),
            (
                "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
                "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd",
            ),
            (
                "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
                "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
            ),
        ] {
            let schedule = Schedule::new(cpu, &hex(key)).unwrap();
            for count in 1..=2 * LANES + 1 {
                let mut slab = text.repeat(count);
                let chains: Vec<_> = (0..count)
                    .map(|at| Chain {
                        start: at * 64,
                        size: 64,
                        iv,
                    })
                    .collect();
                schedule.encrypt(&mut slab, &chains);
                assert_eq!(slab, hex(expected).repeat(count));
            }
        }
        assert!(Schedule::new(cpu, &[0; 20]).is_none());
    }
}
