//! ChaCha20-Poly1305 (RFC 8439, 2.8) over batches, in AVX-512 F, BW and IFMA.
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

mod chacha;
mod poly;

use core::arch::x86_64::{__m512i, _mm512_shuffle_i32x4};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::packet::{Job, TAG_SIZE};

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

/// One packet's text: where it lies, without the tag.
#[derive(Clone, Copy)]
struct Text {
    counter: u64,
    start: *mut u8,
    size: usize,
}

impl Text {
    const NONE: Self = Self {
        counter: 0,
        start: core::ptr::null_mut(),
        size: 0,
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

    /// As [`crate::PacketKey::seal_many`].
    ///
    /// # Panics
    /// When a job does not lie within the slab.
    pub fn seal_many(self, key: &[u32; 8], slab: &mut [u8], jobs: &[Job]) {
        for jobs in jobs.chunks(GROUP) {
            for job in jobs {
                job.assert_within(TAG_SIZE, slab.len());
            }
            let mut group = Group::new(slab.as_mut_ptr(), jobs, 0);
            // SAFETY: `self` proves the instructions; each text lies within the slab, as just checked. Texts that overlap are
            // a mistake of the caller that garbles them: all accesses are through raw pointers, one after the other.
            let tags = unsafe {
                group.combine(key, true, true);
                group.tags()
            };
            for (job, tag) in jobs.iter().zip(tags) {
                slab[job.start + job.len..][..TAG_SIZE].copy_from_slice(&tag.to_le_bytes());
            }
        }
    }

    /// As [`crate::PacketKey::open_many`].
    ///
    /// # Panics
    /// When a job does not lie within the slab.
    pub fn open_many(self, key: &[u32; 8], slab: &mut [u8], jobs: &[Job], ok: &mut [bool]) {
        for (jobs, ok) in jobs.chunks(GROUP).zip(ok.chunks_mut(GROUP)) {
            for job in jobs {
                job.assert_within(0, slab.len());
            }
            let mut group = Group::new(slab.as_mut_ptr(), jobs, TAG_SIZE);
            // SAFETY: as above.
            let tags = unsafe {
                group.combine(key, true, false);
                group.tags()
            };
            for (at, (job, expected)) in jobs.iter().zip(&tags).enumerate() {
                let found = slab[job.start..job.start + job.len].last_chunk::<TAG_SIZE>();
                ok[at] = found.is_some_and(|found| equal(u128::from_le_bytes(*found), *expected));
                if !ok[at] {
                    group.texts[at].size = 0;
                }
            }
            // SAFETY: as above; the pointers are made anew, since the slab was read through its reference in between.
            unsafe {
                group.rebase(slab.as_mut_ptr(), jobs);
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
    /// The last `tag_size` bytes of each job are not text.
    fn new(base: *mut u8, jobs: &[Job], tag_size: usize) -> Self {
        let mut texts = [Text::NONE; GROUP];
        for (text, job) in texts.iter_mut().zip(jobs) {
            let start = base.wrapping_add(job.start);
            *text = Text {
                counter: job.counter,
                start,
                size: job.len.saturating_sub(tag_size),
            };
        }
        Self {
            texts,
            used: jobs.len(),
            keys: Zeroizing::new([[0; chacha::BLOCK / 8]; GROUP]),
        }
    }

    fn rebase(&mut self, base: *mut u8, jobs: &[Job]) {
        for (text, job) in self.texts.iter_mut().zip(jobs) {
            text.start = base.wrapping_add(job.start);
        }
    }

    /// Run the cipher: over block 0 of each packet (the one-time keys), over the texts, or over both.
    ///
    /// # Safety
    /// The CPU has the instructions, and every text may be read and written.
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn combine(&mut self, key: &[u32; 8], keys: bool, texts: bool) {
        let mut lanes = Lanes::new(0);
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

    /// The tags of all texts, which are ciphertext now.
    ///
    /// # Safety
    /// The CPU has the instructions, and every text may be read.
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    unsafe fn tags(&self) -> [u128; GROUP] {
        let mut tags = [0; GROUP];
        for from in (0..self.used).step_by(poly::LANES) {
            let mut messages = [Message::EMPTY; poly::LANES];
            let mut keys = Zeroizing::new([[0; 4]; poly::LANES]);
            let range = from..self.used.min(from + poly::LANES);
            for (lane, at) in range.clone().enumerate() {
                messages[lane] = Message {
                    text: self.texts[at].start,
                    size: self.texts[at].size,
                    last: [0, self.texts[at].size as u64],
                };
                keys[lane].copy_from_slice(&self.keys[at][..4]);
            }
            // SAFETY: as the caller promises.
            let [low, high] = unsafe { poly::tags(&keys, &messages) };
            for (lane, at) in range.enumerate() {
                tags[at] = u128::from(low[lane]) | (u128::from(high[lane]) << 64);
            }
        }
        tags
    }
}

#[cfg(test)]
mod tests;
