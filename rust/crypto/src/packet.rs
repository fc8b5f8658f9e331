//! [`PacketKey`]: ChaCha20-Poly1305 over a batch of packets that lie in one slab.
//!
//! A WireGuard data packet is sealed with a counter nonce and no associated data. A batch names its packets by
//! [`Job`]s: where each lies, and its counter. Nothing is copied and nothing allocated.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};

use crate::aead::{library_key, nonce};
use crate::Secret;

/// Bytes that sealing adds to a packet.
pub const TAG_SIZE: usize = 16;

/// True in the bench build alone: packets are framed but not encrypted.
pub const UNENCRYPTED: bool = cfg!(feature = "unencrypted");

/// One packet: plaintext (to seal) or ciphertext and tag (to open) lies at `slab[start..start + len]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    pub counter: u64,
    pub start: usize,
    pub len: usize,
}

/// One direction of a session.
pub struct PacketKey(LessSafeKey);

/// The implementation that is live, for `status`.
pub fn aead_backend() -> &'static str {
    if UNENCRYPTED {
        "none (bench)"
    } else {
        "aws-lc"
    }
}

impl PacketKey {
    pub fn new(key: &Secret) -> Self {
        Self(library_key(key.expose()))
    }

    /// Seal each job in place; the tag goes to `slab[start + len..start + len + 16]`.
    ///
    /// # Panics
    /// When a job does not lie within the slab: a mistake of the caller, never of a peer.
    pub fn seal_many(&self, slab: &mut [u8], jobs: &[Job]) {
        for job in jobs {
            let (text, rest) = slab[job.start..].split_at_mut(job.len);
            let tag = &mut rest[..TAG_SIZE];
            if UNENCRYPTED {
                tag.fill(0);
                continue;
            }
            let nonce = Nonce::assume_unique_for_key(nonce(job.counter));
            match self.0.seal_in_place_separate_tag(nonce, Aad::empty(), text) {
                Ok(made) => tag.copy_from_slice(made.as_ref()),
                // Only a text over 256 GiB is refused; plaintext must not leave, so the process ends.
                Err(_) => std::process::abort(),
            }
        }
    }

    /// Open each job in place; `ok[i]` tells whether job i is genuine. The bytes of one that is not are unspecified.
    ///
    /// # Panics
    /// When a job does not lie within the slab, or `ok` is shorter than `jobs`.
    pub fn open_many(&self, slab: &mut [u8], jobs: &[Job], ok: &mut [bool]) {
        for (job, ok) in jobs.iter().zip(&mut ok[..jobs.len()]) {
            let text = &mut slab[job.start..job.start + job.len];
            *ok = if UNENCRYPTED {
                text.len() >= TAG_SIZE
            } else {
                let nonce = Nonce::assume_unique_for_key(nonce(job.counter));
                self.0.open_in_place(nonce, Aad::empty(), text).is_ok()
            };
        }
    }
}
