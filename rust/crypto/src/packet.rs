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

use crate::aead::{library_key, nonce};
use crate::secret::on_wiped_stack;
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
    /// # Panics
    /// Unless the job, and `extra` bytes behind it, lie within a slab of `size` bytes.
    fn assert_within(&self, extra: usize, size: usize) {
        let end = self
            .start
            .checked_add(self.len)
            .and_then(|end| end.checked_add(extra));
        assert!(
            end.is_some_and(|end| end <= size),
            "a job lies outside the slab of {size} bytes: {self:?}"
        );
    }
}

#[cfg(target_arch = "x86_64")]
impl Job {
    fn item(&self, size: usize) -> crate::simd::Item {
        crate::simd::Item {
            counter: self.counter,
            start: self.start,
            size,
            associated: [0; 2],
        }
    }
}

/// Which implementation serves; made where the CPU is known to have it.
#[derive(Clone, Copy)]
pub(crate) enum Backend {
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

    pub fn by_name(name: &str) -> Result<Self, String> {
        match name {
            "aws-lc" => Ok(Self::AwsLc),
            "avx512" => vector().ok_or_else(|| {
                format!("{ENVIRONMENT}=avx512: this CPU lacks AVX-512 F, BW or IFMA")
            }),
            _ => Err(format!(
                "{ENVIRONMENT}: expected aws-lc or avx512, found {name:?}"
            )),
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

pub(crate) fn chosen() -> Result<Backend, &'static str> {
    static CHOSEN: OnceLock<Result<Backend, String>> = OnceLock::new();
    let choose = || match std::env::var(ENVIRONMENT) {
        Ok(name) => Backend::by_name(&name),
        Err(std::env::VarError::NotPresent) => Ok(vector().unwrap_or(Backend::AwsLc)),
        Err(error) => Err(format!("{ENVIRONMENT}: {error}")),
    };
    CHOSEN
        .get_or_init(choose)
        .as_ref()
        .copied()
        .map_err(String::as_str)
}

/// The implementations that this CPU can run, for tests and the bench.
pub fn aead_backends() -> Vec<&'static str> {
    let all = [Some(Backend::AwsLc), vector()];
    all.into_iter().flatten().map(Backend::name).collect()
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

/// The library's key serves one packet at a time, and a batch of one: there lanes across packets lie idle, and the library
/// is faster by a fifth.
struct Library(LessSafeKey);

impl Library {
    fn seal(&self, slab: &mut [u8], job: &Job) {
        job.assert_within(TAG_SIZE, slab.len());
        let (text, rest) = slab[job.start..].split_at_mut(job.len);
        let nonce = Nonce::assume_unique_for_key(nonce(job.counter));
        match self.0.seal_in_place_separate_tag(nonce, Aad::empty(), text) {
            Ok(tag) => rest[..TAG_SIZE].copy_from_slice(tag.as_ref()),
            // Only a text over 256 GiB is refused; plaintext must not leave, so the process ends.
            Err(_) => std::process::abort(),
        }
    }

    fn open(&self, slab: &mut [u8], job: &Job) -> bool {
        job.assert_within(0, slab.len());
        let text = &mut slab[job.start..job.start + job.len];
        let nonce = Nonce::assume_unique_for_key(nonce(job.counter));
        self.0.open_in_place(nonce, Aad::empty(), text).is_ok()
    }
}

/// The vector code, and the key as it computes with it.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Vector {
    pub cpu: crate::simd::Avx512,
    pub key: Box<crate::simd::Key>,
}

#[cfg(target_arch = "x86_64")]
impl Vector {
    /// Where that implementation was chosen; `prefix` is the first word of every nonce.
    pub fn new(backend: Backend, key: &[u8; 32], prefix: u32) -> Option<Self> {
        match backend {
            Backend::AwsLc => None,
            Backend::Avx512(cpu) => Some(Self {
                cpu,
                key: Box::new(crate::simd::Key::new(key, prefix)),
            }),
        }
    }
}

/// One direction of a session.
pub struct PacketKey {
    library: Library,
    #[cfg(target_arch = "x86_64")]
    vector: Option<Vector>,
}

impl PacketKey {
    /// Ends the process when `GINNEL_AEAD` asks for what is not there: see [`check_aead_backend`].
    pub fn new(key: &Secret) -> Self {
        match chosen() {
            Ok(backend) => on_wiped_stack(|| Self::with(backend, key)),
            // Sealing with something else than was asked for would make every measurement and test a lie.
            Err(_) => std::process::abort(),
        }
    }

    /// With a named implementation rather than the process's choice: for the bench and the differential tests.
    ///
    /// # Errors
    /// As [`check_aead_backend`].
    pub fn with_backend(name: &str, key: &Secret) -> Result<Self, String> {
        Backend::by_name(name).map(|backend| on_wiped_stack(|| Self::with(backend, key)))
    }

    #[cfg(target_arch = "x86_64")]
    fn with(backend: Backend, key: &Secret) -> Self {
        Self {
            library: Library(library_key(key.expose())),
            vector: Vector::new(backend, key.expose(), 0),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn with(Backend::AwsLc: Backend, key: &Secret) -> Self {
        Self {
            library: Library(library_key(key.expose())),
        }
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
        #[cfg(target_arch = "x86_64")]
        if let (Some(vector), 2..) = (&self.vector, jobs.len()) {
            return on_wiped_stack(|| {
                vector
                    .cpu
                    .seal_many::<0, _>(&vector.key, slab, jobs, |job, _| job.item(job.len));
            });
        }
        on_wiped_stack(|| {
            for job in jobs {
                self.library.seal(slab, job);
            }
        });
    }

    /// Open each job in place; `ok[i]` tells whether job i is genuine. The bytes of one that is not are unspecified.
    ///
    /// # Panics
    /// When a job does not lie within the slab, or `ok` is shorter than `jobs`.
    pub fn open_many(&self, slab: &mut [u8], jobs: &[Job], ok: &mut [bool]) {
        let ok = &mut ok[..jobs.len()];
        if UNENCRYPTED {
            for (job, ok) in jobs.iter().zip(ok) {
                *ok = job.len >= TAG_SIZE;
            }
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if let (Some(vector), 2..) = (&self.vector, jobs.len()) {
            return on_wiped_stack(|| {
                let describe = |job: &Job, slab: &[u8]| {
                    job.assert_within(0, slab.len());
                    job.len.checked_sub(TAG_SIZE).map(|size| job.item(size))
                };
                vector
                    .cpu
                    .open_many::<0, _>(&vector.key, slab, jobs, ok, describe);
            });
        }
        on_wiped_stack(|| {
            for (job, ok) in jobs.iter().zip(ok) {
                *ok = self.library.open(slab, job);
            }
        });
    }
}
