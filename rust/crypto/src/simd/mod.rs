//! ChaCha20-Poly1305 (RFC 8439, 2.8) over batches, in AVX-512 F, BW and IFMA; and AES-CBC over batches (`cbc`).
//!
//! A library is called once per packet, and spends its wide registers on one packet's blocks: the odd blocks at the end
//! and the set-up of each packet go to waste, and they are much of a 1,420-byte packet and nearly all of a 64-byte one. A batch
//! has better uses for lanes:
//!
//! - `chacha`: a lane is any block of any packet of the batch;
//! - `poly`: a lane is a packet.
//!
//! Sixteen packets at a time (their text stays in the first cache between the two passes):
//! sealing is block 0 of all (the one-time keys) and all text, then the tags; opening is the one-time keys, the
//! tags, then the text of those packets alone whose tags are right.
//!
//! No branch and no address depends on a key, a nonce or a text; on lengths they do. One-time keys are zeroed before return. All
//! `unsafe` is loads and stores of memory that the safe face in `packet` has bounded, and the check that the CPU has
//! the instructions.

pub mod cbc;
mod chacha;
mod poly;

use core::arch::x86_64::{__m512i, _mm512_shuffle_i32x4};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::packet::TAG_SIZE;

use chacha::Lanes;
use poly::Message;

/// Packets that are worked on together.
const GROUP: usize = 16;

/// The first `count` bits of 64.
fn prefix_mask(count: usize) -> u64 {
    if count >= 64 {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}

/// Four registers of four 128-bit parts each, transposed.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_parts(rows: [__m512i; 4]) -> [__m512i; 4] {
    let low01 = _mm512_shuffle_i32x4::<0x44>(rows[0], rows[1]);
    let high01 = _mm512_shuffle_i32x4::<0xee>(rows[0], rows[1]);
    let low23 = _mm512_shuffle_i32x4::<0x44>(rows[2], rows[3]);
    let high23 = _mm512_shuffle_i32x4::<0xee>(rows[2], rows[3]);
    [
        _mm512_shuffle_i32x4::<0x88>(low01, low23),
        _mm512_shuffle_i32x4::<0xdd>(low01, low23),
        _mm512_shuffle_i32x4::<0x88>(high01, high23),
        _mm512_shuffle_i32x4::<0xdd>(high01, high23),
    ]
}

/// Proof that this CPU has the instructions: made by [`Avx512::detect`] alone.
#[derive(Clone, Copy)]
pub struct Avx512(());

/// A key as it is computed with: little-endian words, and the first word of every nonce.
pub struct Key {
    words: Zeroizing<[u32; 8]>,
    prefix: u32,
}

impl Key {
    pub fn new(key: &[u8; 32], prefix: u32) -> Self {
        let mut words = Zeroizing::new([0; 8]);
        for (word, bytes) in words.iter_mut().zip(key.chunks_exact(4)) {
            *word = bytes
                .iter()
                .rev()
                .fold(0, |word, byte| (word << 8) | u32::from(*byte));
        }
        Self { words, prefix }
    }
}

/// One packet: its text lies at `slab[start..start + size]`, its tag behind.
#[derive(Clone, Copy)]
pub struct Item {
    /// The last eight bytes of the nonce, read little-endian.
    pub counter: u64,
    pub start: usize,
    pub size: usize,
    /// The associated data, zero-padded, as two little-endian words.
    pub associated: [u64; 2],
}

impl Item {
    /// Without text: what is too short to be opened stands for itself as this.
    pub const NONE: Self = Self {
        counter: 0,
        start: 0,
        size: 0,
        associated: [0; 2],
    };

    /// # Panics
    /// Unless the text, and `extra` bytes behind it, lie within a slab of `size` bytes. Memory safety rests on this check.
    fn assert_within(&self, extra: usize, size: usize) {
        let end = self
            .start
            .checked_add(self.size)
            .and_then(|end| end.checked_add(extra));
        assert!(end.is_some_and(|end| end <= size));
    }
}

/// One packet's text: where it lies, without the tag.
#[derive(Clone, Copy)]
struct Text {
    counter: u64,
    start: *mut u8,
    size: usize,
    associated: [u64; 2],
}

impl Text {
    const NONE: Self = Self {
        counter: 0,
        start: core::ptr::null_mut(),
        size: 0,
        associated: [0; 2],
    };
}

/// The one-time keys of a group: block 0 of each packet, of which the first 32 bytes count.
type KeyBlocks = [[u64; chacha::BLOCK / 8]; GROUP];

#[allow(clippy::unused_self)] // to have one is the proof
impl Avx512 {
    /// `None` where the CPU or the operating system lacks them.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512ifma");
        has.then_some(Self(()))
    }

    /// Seal what `describe` makes of each job; the tag goes behind the text. `AD` bytes of each item's associated data count, 16 at most.
    ///
    /// # Panics
    /// When an item does not lie within the slab.
    pub fn seal_many<const AD: usize, J>(
        self,
        key: &Key,
        slab: &mut [u8],
        jobs: &[J],
        describe: impl Fn(&J, &mut [u8]) -> Item,
    ) {
        for jobs in jobs.chunks(GROUP) {
            let mut items = [Item::NONE; GROUP];
            for (item, job) in items.iter_mut().zip(jobs) {
                *item = describe(job, slab);
                item.assert_within(TAG_SIZE, slab.len());
            }
            let items = &items[..jobs.len()];
            let mut group = Group::new(slab.as_mut_ptr(), items);
            // SAFETY: `self` proves the instructions; each text lies within the slab, as just checked. Texts that overlap are
            // a mistake of the caller that garbles them: all accesses are through raw pointers, one after the other.
            let tags = unsafe {
                group.combine(key, true, true);
                group.tags::<AD>()
            };
            for (item, tag) in items.iter().zip(tags) {
                slab[item.start + item.size..][..TAG_SIZE].copy_from_slice(&tag.to_le_bytes());
            }
        }
    }

    /// Open what `describe` makes of each job; `None` is refused.
    ///
    /// # Panics
    /// When an item does not lie within the slab.
    pub fn open_many<const AD: usize, J>(
        self,
        key: &Key,
        slab: &mut [u8],
        jobs: &[J],
        ok: &mut [bool],
        describe: impl Fn(&J, &[u8]) -> Option<Item>,
    ) {
        for (jobs, ok) in jobs.chunks(GROUP).zip(ok.chunks_mut(GROUP)) {
            let mut items = [Item::NONE; GROUP];
            for ((item, job), ok) in items.iter_mut().zip(jobs).zip(&mut *ok) {
                let described = describe(job, slab);
                *ok = described.is_some();
                if let Some(described) = described {
                    described.assert_within(TAG_SIZE, slab.len());
                    *item = described;
                }
            }
            let items = &items[..jobs.len()];
            let mut group = Group::new(slab.as_mut_ptr(), items);
            // SAFETY: as above.
            let tags = unsafe {
                group.combine(key, true, false);
                group.tags::<AD>()
            };
            for (at, (item, expected)) in items.iter().zip(&tags).enumerate() {
                let found = slab[item.start + item.size..].first_chunk::<TAG_SIZE>();
                ok[at] &= found.is_some_and(|found| equal(u128::from_le_bytes(*found), *expected));
                if !ok[at] {
                    group.texts[at].size = 0;
                }
            }
            // SAFETY: as above; the pointers are made anew, since the slab was read through its reference in between.
            unsafe {
                group.rebase(slab.as_mut_ptr(), items);
                group.combine(key, false, true);
            }
        }
    }
}

/// Constant time.
fn equal(one: u128, other: u128) -> bool {
    let difference = one ^ other;
    (difference as u64 | (difference >> 64) as u64)
        .ct_eq(&0)
        .into()
}

/// Up to sixteen packets, and the blocks that their one-time keys are made in.
struct Group {
    texts: [Text; GROUP],
    used: usize,
    keys: Zeroizing<KeyBlocks>,
}

impl Group {
    fn new(base: *mut u8, items: &[Item]) -> Self {
        let mut texts = [Text::NONE; GROUP];
        for (text, item) in texts.iter_mut().zip(items) {
            *text = Text {
                counter: item.counter,
                start: base.wrapping_add(item.start),
                size: item.size,
                associated: item.associated,
            };
        }
        Self {
            texts,
            used: items.len(),
            keys: Zeroizing::new([[0; chacha::BLOCK / 8]; GROUP]),
        }
    }

    fn rebase(&mut self, base: *mut u8, items: &[Item]) {
        for (text, item) in self.texts.iter_mut().zip(items) {
            text.start = base.wrapping_add(item.start);
        }
    }

    /// Run the cipher: over block 0 of each packet (the one-time keys), over the texts, or over both.
    ///
    /// # Safety
    /// The CPU has the instructions, and every text may be read and written.
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn combine(&mut self, key: &Key, keys: bool, texts: bool) {
        let mut lanes = Lanes::new(key.prefix);
        let key = &key.words;
        if keys {
            for (text, block) in self.texts[..self.used].iter().zip(self.keys.iter_mut()) {
                // Sixteen at most: never full here.
                lanes.push(text.counter, 0, block.as_mut_ptr().cast(), chacha::BLOCK);
            }
        }
        if texts {
            for text in &self.texts[..self.used] {
                for (number, at) in (0..text.size).step_by(chacha::BLOCK).enumerate() {
                    let size = (text.size - at).min(chacha::BLOCK);
                    if lanes.push(
                        text.counter,
                        number as u32 + 1,
                        text.start.wrapping_add(at),
                        size,
                    ) {
                        // SAFETY: each lane is within its text, or is a whole key block.
                        unsafe { lanes.combine(key) };
                    }
                }
            }
        }
        // SAFETY: the same.
        unsafe { lanes.combine(key) };
    }

    /// The tags of all texts, which are ciphertext now, with `AD` bytes of associated data each.
    ///
    /// # Safety
    /// The CPU has the instructions, and every text may be read.
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    unsafe fn tags<const AD: usize>(&self) -> [u128; GROUP] {
        let mut tags = [0; GROUP];
        for from in (0..self.used).step_by(poly::LANES) {
            let mut messages = [Message::EMPTY; poly::LANES];
            let mut keys = Zeroizing::new([[0; 4]; poly::LANES]);
            let range = from..self.used.min(from + poly::LANES);
            for (lane, at) in range.clone().enumerate() {
                messages[lane] = Message {
                    head: self.texts[at].associated,
                    text: self.texts[at].start,
                    size: self.texts[at].size,
                    last: [AD as u64, self.texts[at].size as u64],
                };
                keys[lane].copy_from_slice(&self.keys[at][..4]);
            }
            // SAFETY: as the caller promises.
            let [low, high] = unsafe {
                if AD == 0 {
                    poly::tags::<false>(&keys, &messages)
                } else {
                    poly::tags::<true>(&keys, &messages)
                }
            };
            for (lane, at) in range.enumerate() {
                tags[at] = u128::from(low[lane]) | (u128::from(high[lane]) << 64);
            }
        }
        tags
    }
}

#[cfg(test)]
mod tests;
