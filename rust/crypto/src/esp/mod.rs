//! ESP's ciphers over a batch of packets in one slab (RFC 4303; AES-GCM RFC 4106, ChaCha20-Poly1305 RFC 7634, AES-CBC RFC 3602 with
//! HMAC RFC 2404, 4868).
//!
//! ```text
//!    start                                                    each job
//!      | SPI 4 | sequence 4 | IV 8 or 16 | text: `len` bytes | ICV 12 to 32 |
//! ```
//! SPI and the low half of the sequence number stand in the slab already; the text is payload, padding, pad length and next
//! header, a multiple of [`Suite::block`]. Sealing writes IV and ICV. Nothing is copied and nothing allocated.
//!
//! **Sequence numbers rise.** A GCM or ChaCha20 nonce that repeats under one key gives the texts away, and with GCM the key that
//! authenticates. The IV is the sequence number itself, so it is unique as long as that is; [`EspCipher::seal_many`] holds it to that:
//! a number that is not greater than all sealed before ends the process, in every build. (A second cipher of the same key is ruled
//! out one level up: a [`KeyMaterial`] handle is given away once.)
//!
//! **CBC's IV** must not be predictable: it is the sequence number encrypted under a key that serves nothing else (NIST SP 800-38A,
//! appendix C), an HMAC under the SA's integrity key.
//!
//! With extended sequence numbers the high half is authenticated and not sent: AEADs have it between the two halves that are
//! (RFC 4106, 5), HMACs behind the text (RFC 4303, 2.2.1).

mod aead;
mod cbc;
mod suite;

use core::sync::atomic::{AtomicU64, Ordering};

pub use suite::{Encryption, Integrity, Suite, WrongKeySize};

use crate::hash::Hmac;
use crate::packet::{chosen, Backend, UNENCRYPTED};
use crate::secret::on_wiped_stack;
use crate::KeyMaterial;
use aead::Aead;
use cbc::CbcHmac;

/// SPI and sequence number.
pub const HEADER_SIZE: usize = 8;

/// One packet: see the head of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EspJob {
    /// All 64 bits (without ESN the high half is zero).
    pub sequence: u64,
    /// Where the ESP header begins.
    pub start: usize,
    /// Bytes of text, without IV and ICV.
    pub len: usize,
}

/// The parts of a packet in the slab.
struct Parts<'a> {
    header: &'a mut [u8],
    iv: &'a mut [u8],
    text: &'a mut [u8],
    icv: &'a mut [u8],
}

impl EspJob {
    /// Where the packet lies in a slab of `size` bytes.
    ///
    /// # Panics
    /// When it does not.
    fn range(&self, suite: Suite, size: usize) -> core::ops::Range<usize> {
        let around = HEADER_SIZE + suite.iv_len() + suite.icv_len();
        let end = self
            .start
            .checked_add(self.len)
            .and_then(|end| end.checked_add(around));
        match end {
            Some(end) if end <= size => self.start..end,
            _ => panic_outside(self),
        }
    }

    fn parts<'a>(&self, suite: Suite, slab: &'a mut [u8]) -> Parts<'a> {
        let range = self.range(suite, slab.len());
        let packet = &mut slab[range];
        let (header, rest) = packet.split_at_mut(HEADER_SIZE);
        let (iv, rest) = rest.split_at_mut(suite.iv_len());
        let (text, icv) = rest.split_at_mut(self.len);
        Parts {
            header,
            iv,
            text,
            icv,
        }
    }

    fn high(&self) -> [u8; 4] {
        ((self.sequence >> 32) as u32).to_be_bytes()
    }
}

#[cold]
#[allow(clippy::panic)] // a mistake of the caller, never of a peer; as slices do
fn panic_outside(job: &EspJob) -> ! {
    panic!("a job lies outside its slab: {job:?}")
}

/// One SA's keys, for one direction.
pub struct EspCipher {
    suite: Suite,
    esn: bool,
    /// The number that the next sealed packet has at least.
    next: AtomicU64,
    keys: Keys,
}

enum Keys {
    Aead(Box<Aead>),
    CbcHmac(CbcHmac),
}

/// What computes.
#[derive(Clone, Copy)]
struct Implementations {
    aead: Backend,
    /// CBC across the packets of a batch, where the CPU can.
    cbc_across: bool,
}

impl Keys {
    fn new(suite: Suite, with: Implementations, key: &[u8], integrity: &[u8]) -> Option<Self> {
        match suite.integrity.hash() {
            None => Aead::new(suite, with.aead, key).map(|aead| Self::Aead(Box::new(aead))),
            Some(_) if suite.is_aead() => None,
            Some(hash) => {
                CbcHmac::new(with.cbc_across, key, Hmac::new(hash, integrity)).map(Self::CbcHmac)
            }
        }
    }
}

impl EspCipher {
    /// Ends the process when `GINNEL_AEAD` asks for what is not there: see [`crate::check_aead_backend`].
    ///
    /// # Errors
    /// [`WrongKeySize`].
    pub fn new(
        suite: Suite,
        esn: bool,
        key: &KeyMaterial,
        integrity: &KeyMaterial,
    ) -> Result<Self, WrongKeySize> {
        match chosen() {
            Ok(aead) => {
                let with = Implementations {
                    aead,
                    cbc_across: true,
                };
                Self::with(with, suite, esn, key, integrity)
            }
            // Sealing with something else than was asked for would make every measurement and test a lie.
            Err(_) => std::process::abort(),
        }
    }

    /// With a named implementation ("aws-lc" is the library for CBC as well) rather than the process's choice: for the bench and the
    /// differential tests.
    ///
    /// # Errors
    /// What was expected, and what was found.
    pub fn with_backend(
        name: &str,
        suite: Suite,
        esn: bool,
        key: &KeyMaterial,
        integrity: &KeyMaterial,
    ) -> Result<Self, String> {
        let aead = Backend::by_name(name)?;
        let with = Implementations {
            aead,
            cbc_across: !matches!(aead, Backend::AwsLc),
        };
        Self::with(with, suite, esn, key, integrity).map_err(|wrong| wrong.to_string())
    }

    fn with(
        with: Implementations,
        suite: Suite,
        esn: bool,
        key: &KeyMaterial,
        integrity: &KeyMaterial,
    ) -> Result<Self, WrongKeySize> {
        let wrong = WrongKeySize {
            suite,
            found: [key.len(), integrity.len()],
        };
        if wrong.found != [suite.key_len(), suite.integrity_len()] {
            return Err(wrong);
        }
        let keys = on_wiped_stack(|| Keys::new(suite, with, key.expose(), integrity.expose()));
        Ok(Self {
            suite,
            esn,
            next: AtomicU64::new(0),
            keys: keys.ok_or(wrong)?,
        })
    }

    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Seal each job in place: the IV and the ICV are written, the text encrypted.
    ///
    /// Ends the process when a sequence number is not greater than all before it: see the head of this file.
    ///
    /// # Panics
    /// When a job does not lie within the slab, or CBC's text is not whole blocks: mistakes of the caller.
    pub fn seal_many(&self, slab: &mut [u8], jobs: &[EspJob]) {
        let (Some(first), Some(last)) = (jobs.first(), jobs.last()) else {
            return;
        };
        let rising = jobs
            .windows(2)
            .all(|pair| pair[0].sequence < pair[1].sequence);
        // The largest number is left out, so that "the next" always exists.
        let next = last.sequence.checked_add(1);
        let Some(next) = next.filter(|_| rising) else {
            std::process::abort()
        };
        if self.next.fetch_max(next, Ordering::Relaxed) > first.sequence {
            std::process::abort();
        }
        if UNENCRYPTED {
            for job in jobs {
                let parts = job.parts(self.suite, slab);
                parts.iv.fill(0);
                parts.icv.fill(0);
            }
            return;
        }
        let (suite, esn) = (self.suite, self.esn);
        on_wiped_stack(|| match &self.keys {
            Keys::Aead(key) => key.seal_many(suite, esn, slab, jobs),
            Keys::CbcHmac(key) => key.seal_many(suite, esn, slab, jobs),
        });
    }

    /// Open each job in place; `ok[i]` tells whether packet i is genuine. The text of one that is not is unspecified.
    ///
    /// # Panics
    /// When a job does not lie within the slab, or `ok` is shorter than `jobs`.
    pub fn open_many(&self, slab: &mut [u8], jobs: &[EspJob], ok: &mut [bool]) {
        let ok = &mut ok[..jobs.len()];
        if UNENCRYPTED {
            ok.fill(true);
            return;
        }
        let (suite, esn) = (self.suite, self.esn);
        on_wiped_stack(|| match &self.keys {
            Keys::Aead(key) => key.open_many(suite, esn, slab, jobs, ok),
            Keys::CbcHmac(key) => {
                for (job, ok) in jobs.iter().zip(ok) {
                    *ok = key.open(esn, job, job.parts(suite, slab));
                }
            }
        });
    }
}
