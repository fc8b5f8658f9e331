//! [`PacketKey`]: ChaCha20-Poly1305 over a batch of packets that lie in one slab.
//!
//! A WireGuard data packet is sealed with a counter nonce and no associated data. A batch names its packets by
//! [`Job`]s: where each lies, and its counter. Nothing is copied and nothing allocated.
//!
//! Two implementations, chosen once a process: our own in AVX-512, which works across the packets of a batch
//! (`simd`), and aws-lc's where the CPU lacks the instructions. The environment variable `GINNEL_AEAD` (`avx512`,
//! `aws-lc`) overrides the choice, for tests and the bench.

use std::sync::OnceLock;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use zeroize::Zeroizing;

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

impl Job {
    /// The end of this job and of `extra` bytes behind it.
    ///
    /// # Panics
    /// When that is outside a slab of `size` bytes. The vector code's memory safety rests on this check.
    pub(crate) fn end_within(&self, extra: usize, size: usize) -> usize {
        let end = self.start.checked_add(self.len).and_then(|end| end.checked_add(extra));
        assert!(end.is_some_and(|end| end <= size), "a job lies outside the slab of {size} bytes: {self:?}");
        self.start + self.len + extra
    }
}

/// Which implementation serves; made where the CPU is known to have it.
#[derive(Clone, Copy)]
enum Backend {
    AwsLc,
    #[cfg(target_arch = "x86_64")]
    Avx512(crate::simd::Avx512),
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::AwsLc => "aws-lc",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
        }
    }

    fn by_name(name: &str) -> Result<Self, String> {
        match name {
            "aws-lc" => Ok(Self::AwsLc),
            "avx512" => vector().ok_or_else(|| format!("{ENVIRONMENT}=avx512: this CPU lacks AVX-512 F, BW or IFMA")),
            _ => Err(format!("{ENVIRONMENT}: expected aws-lc or avx512, found {name:?}")),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn vector() -> Option<Backend> {
    crate::simd::Avx512::detect().map(Backend::Avx512)
}

#[cfg(not(target_arch = "x86_64"))]
fn vector() -> Option<Backend> {
    None
}

const ENVIRONMENT: &str = "GINNEL_AEAD";

fn chosen() -> Result<Backend, &'static str> {
    static CHOSEN: OnceLock<Result<Backend, String>> = OnceLock::new();
    let choose = || match std::env::var(ENVIRONMENT) {
        Ok(name) => Backend::by_name(&name),
        Err(std::env::VarError::NotPresent) => Ok(vector().unwrap_or(Backend::AwsLc)),
        Err(error) => Err(format!("{ENVIRONMENT}: {error}")),
    };
    CHOSEN.get_or_init(choose).as_ref().copied().map_err(String::as_str)
}

/// The implementation that is live, for `status`.
pub fn aead_backend() -> &'static str {
    if UNENCRYPTED {
        return "none (bench)";
    }
    chosen().map_or("refused", Backend::name)
}

/// Whether `GINNEL_AEAD`, if set, names something that this CPU can do: to be asked once, before the first [`PacketKey`].
///
/// # Errors
/// What was expected and what was found.
pub fn check_aead_backend() -> Result<(), &'static str> {
    chosen().map(|_| ())
}

enum Key {
    AwsLc(LessSafeKey),
    #[cfg(target_arch = "x86_64")]
    Avx512(crate::simd::Avx512, Box<Zeroizing<[u32; 8]>>),
}

/// One direction of a session.
pub struct PacketKey(Key);

impl PacketKey {
    /// # Panics
    /// When `GINNEL_AEAD` asks for what is not there: see [`check_aead_backend`].
    pub fn new(key: &Secret) -> Self {
        match chosen() {
            Ok(backend) => Self::with(backend, key),
            // Sealing with something else than was asked for would make every measurement and test a lie.
            Err(_) => std::process::abort(),
        }
    }

    /// With a named implementation rather than the process's choice: for the bench and the differential tests.
    ///
    /// # Errors
    /// As [`check_aead_backend`].
    pub fn with_backend(name: &str, key: &Secret) -> Result<Self, String> {
        Backend::by_name(name).map(|backend| Self::with(backend, key))
    }

    fn with(backend: Backend, key: &Secret) -> Self {
        Self(match backend {
            Backend::AwsLc => Key::AwsLc(library_key(key.expose())),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512(cpu) => {
                let mut words = Box::new(Zeroizing::new([0; 8]));
                for (word, bytes) in words.iter_mut().zip(key.expose().chunks_exact(4)) {
                    *word = bytes.iter().rev().fold(0, |word, byte| (word << 8) | u32::from(*byte));
                }
                Key::Avx512(cpu, words)
            }
        })
    }

    /// Seal each job in place; the tag goes to `slab[start + len..start + len + 16]`.
    ///
    /// # Panics
    /// When a job does not lie within the slab: a mistake of the caller, never of a peer.
    pub fn seal_many(&self, slab: &mut [u8], jobs: &[Job]) {
        if UNENCRYPTED {
            for job in jobs {
                slab[job.start + job.len..][..TAG_SIZE].fill(0);
            }
            return;
        }
        match &self.0 {
            Key::AwsLc(key) => {
                for job in jobs {
                    let (text, rest) = slab[job.start..].split_at_mut(job.len);
                    let nonce = Nonce::assume_unique_for_key(nonce(job.counter));
                    match key.seal_in_place_separate_tag(nonce, Aad::empty(), text) {
                        Ok(tag) => rest[..TAG_SIZE].copy_from_slice(tag.as_ref()),
                        // Only a text over 256 GiB is refused; plaintext must not leave, so the process ends.
                        Err(_) => std::process::abort(),
                    }
                }
            }
            #[cfg(target_arch = "x86_64")]
            Key::Avx512(cpu, key) => cpu.seal_many(key, slab, jobs),
        }
    }

    /// Open each job in place; `ok[i]` tells whether job i is genuine. The bytes of one that is not are unspecified.
    ///
    /// # Panics
    /// When a job does not lie within the slab, or `ok` is shorter than `jobs`.
    pub fn open_many(&self, slab: &mut [u8], jobs: &[Job], ok: &mut [bool]) {
        let ok = &mut ok[..jobs.len()];
        if UNENCRYPTED {
            jobs.iter().zip(ok).for_each(|(job, ok)| *ok = job.len >= TAG_SIZE);
            return;
        }
        match &self.0 {
            Key::AwsLc(key) => {
                for (job, ok) in jobs.iter().zip(ok) {
                    let text = &mut slab[job.start..job.start + job.len];
                    let nonce = Nonce::assume_unique_for_key(nonce(job.counter));
                    *ok = key.open_in_place(nonce, Aad::empty(), text).is_ok();
                }
            }
            #[cfg(target_arch = "x86_64")]
            Key::Avx512(cpu, key) => cpu.open_many(key, slab, jobs, ok),
        }
    }
}
