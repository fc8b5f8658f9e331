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

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{
    Aad, Algorithm, LessSafeKey, Nonce, UnboundKey, AES_128_GCM, AES_192_GCM, AES_256_GCM,
    CHACHA20_POLY1305,
};

use crate::hash::{Hash, Hmac};
use crate::packet::UNENCRYPTED;
use crate::secret::on_wiped_stack;
use crate::sys::aes;
use crate::KeyMaterial;

/// SPI and sequence number.
pub const HEADER_SIZE: usize = 8;
/// The part of an AEAD's key that is not the cipher's key.
const SALT_SIZE: usize = 4;
const AEAD_IV: usize = 8;
const AEAD_TAG: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encryption {
    AesGcm128,
    AesGcm192,
    AesGcm256,
    ChaCha20Poly1305,
    AesCbc128,
    AesCbc192,
    AesCbc256,
}

/// `None` for AEADs, and only there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Integrity {
    None,
    HmacSha1_96,
    HmacSha256_128,
    HmacSha384_192,
    HmacSha512_256,
}

impl Integrity {
    pub(crate) fn hash(self) -> Option<Hash> {
        match self {
            Self::None => None,
            Self::HmacSha1_96 => Some(Hash::Sha1),
            Self::HmacSha256_128 => Some(Hash::Sha256),
            Self::HmacSha384_192 => Some(Hash::Sha384),
            Self::HmacSha512_256 => Some(Hash::Sha512),
        }
    }
}

/// What protects a packet: an AEAD, or CBC with an HMAC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suite {
    pub encryption: Encryption,
    pub integrity: Integrity,
}

const NAMES: [(&str, Encryption, Integrity); 16] = {
    use Encryption::{
        AesCbc128, AesCbc192, AesCbc256, AesGcm128, AesGcm192, AesGcm256, ChaCha20Poly1305,
    };
    use Integrity::{HmacSha1_96, HmacSha256_128, HmacSha384_192, HmacSha512_256, None};
    [
        ("aes128gcm16", AesGcm128, None),
        ("aes192gcm16", AesGcm192, None),
        ("aes256gcm16", AesGcm256, None),
        ("chacha20poly1305", ChaCha20Poly1305, None),
        ("aes128-sha1", AesCbc128, HmacSha1_96),
        ("aes128-sha256", AesCbc128, HmacSha256_128),
        ("aes128-sha384", AesCbc128, HmacSha384_192),
        ("aes128-sha512", AesCbc128, HmacSha512_256),
        ("aes192-sha1", AesCbc192, HmacSha1_96),
        ("aes192-sha256", AesCbc192, HmacSha256_128),
        ("aes192-sha384", AesCbc192, HmacSha384_192),
        ("aes192-sha512", AesCbc192, HmacSha512_256),
        ("aes256-sha1", AesCbc256, HmacSha1_96),
        ("aes256-sha256", AesCbc256, HmacSha256_128),
        ("aes256-sha384", AesCbc256, HmacSha384_192),
        ("aes256-sha512", AesCbc256, HmacSha512_256),
    ]
};

impl Suite {
    /// All suites there are, in the order in which they are documented.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.into_iter().map(|(_, encryption, integrity)| Self {
            encryption,
            integrity,
        })
    }

    pub fn parse(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(known, ..)| *known == name)
            .map(|&(_, encryption, integrity)| Self {
                encryption,
                integrity,
            })
    }

    /// As `parse` takes it; "none" for a pair that is no suite (an AEAD with an HMAC, or CBC without).
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, encryption, integrity)| {
                (*encryption, *integrity) == (self.encryption, self.integrity)
            })
            .map_or("none", |(name, ..)| name)
    }

    /// Bytes of key, an AEAD's salt included.
    pub fn key_len(self) -> usize {
        match self.encryption {
            Encryption::AesCbc128 => 16,
            Encryption::AesGcm128 => 16 + SALT_SIZE,
            Encryption::AesCbc192 => 24,
            Encryption::AesGcm192 => 24 + SALT_SIZE,
            Encryption::AesCbc256 => 32,
            Encryption::AesGcm256 | Encryption::ChaCha20Poly1305 => 32 + SALT_SIZE,
        }
    }

    /// Bytes of the HMAC's key: the hash's size; 0 for AEADs.
    pub fn integrity_len(self) -> usize {
        self.integrity.hash().map_or(0, Hash::size)
    }

    pub fn iv_len(self) -> usize {
        if self.is_aead() {
            AEAD_IV
        } else {
            aes::BLOCK
        }
    }

    pub fn icv_len(self) -> usize {
        match self.integrity {
            Integrity::None | Integrity::HmacSha256_128 => AEAD_TAG,
            Integrity::HmacSha1_96 => 12,
            Integrity::HmacSha384_192 => 24,
            Integrity::HmacSha512_256 => 32,
        }
    }

    /// What the text is a multiple of: 16 for CBC; 4 for all others, as ESP itself wants it.
    pub fn block(self) -> usize {
        if self.is_aead() {
            4
        } else {
            aes::BLOCK
        }
    }

    pub fn is_aead(self) -> bool {
        !matches!(
            self.encryption,
            Encryption::AesCbc128 | Encryption::AesCbc192 | Encryption::AesCbc256
        )
    }

    /// The AEAD of the library.
    pub(crate) fn aead(self) -> Option<&'static Algorithm> {
        match self.encryption {
            Encryption::AesGcm128 => Some(&AES_128_GCM),
            Encryption::AesGcm192 => Some(&AES_192_GCM),
            Encryption::AesGcm256 => Some(&AES_256_GCM),
            Encryption::ChaCha20Poly1305 => Some(&CHACHA20_POLY1305),
            Encryption::AesCbc128 | Encryption::AesCbc192 | Encryption::AesCbc256 => None,
        }
    }
}

/// A key's size is not what its suite takes (or an AEAD was paired with an HMAC, CBC with none).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongKeySize {
    pub suite: Suite,
    pub found: [usize; 2],
}

impl fmt::Display for WrongKeySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { suite, found } = self;
        write!(
            f,
            "{} takes a key of {} bytes and one of {} for integrity, found {} and {}",
            suite.name(),
            suite.key_len(),
            suite.integrity_len(),
            found[0],
            found[1]
        )
    }
}

impl std::error::Error for WrongKeySize {}

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
    /// # Panics
    /// When the packet does not lie within the slab.
    fn parts<'a>(&self, suite: Suite, slab: &'a mut [u8]) -> Parts<'a> {
        let size = HEADER_SIZE + suite.iv_len() + suite.icv_len();
        let end = self
            .start
            .checked_add(self.len)
            .and_then(|end| end.checked_add(size));
        let Some(packet) = end.and_then(|end| slab.get_mut(self.start..end)) else {
            panic_outside(self)
        };
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
    Aead(Aead),
    CbcHmac(CbcHmac),
}

impl EspCipher {
    /// # Errors
    /// [`WrongKeySize`].
    pub fn new(
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
        let keys = on_wiped_stack(|| match (suite.aead(), suite.integrity.hash()) {
            (Some(algorithm), None) => Aead::new(algorithm, key.expose()).map(Keys::Aead),
            (None, Some(hash)) => {
                CbcHmac::new(key.expose(), Hmac::new(hash, integrity.expose())).map(Keys::CbcHmac)
            }
            _ => None,
        });
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
        on_wiped_stack(|| match &self.keys {
            Keys::Aead(key) => {
                for job in jobs {
                    key.seal(self.esn, job, job.parts(self.suite, slab));
                }
            }
            Keys::CbcHmac(key) => {
                for job in jobs {
                    key.seal(self.esn, job, job.parts(self.suite, slab));
                }
            }
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
        on_wiped_stack(|| {
            for (job, ok) in jobs.iter().zip(ok) {
                let parts = job.parts(self.suite, slab);
                *ok = match &self.keys {
                    Keys::Aead(key) => key.open(self.esn, job, parts),
                    Keys::CbcHmac(key) => key.open(self.esn, job, parts),
                };
            }
        });
    }
}

/// What an AEAD authenticates besides the text.
fn associated(esn: bool, header: &[u8], job: &EspJob) -> ([u8; 12], usize) {
    let mut all = [0; 12];
    if esn {
        all[..4].copy_from_slice(&header[..4]);
        all[4..8].copy_from_slice(&job.high());
        all[8..].copy_from_slice(&header[4..]);
        (all, 12)
    } else {
        all[..8].copy_from_slice(header);
        (all, 8)
    }
}

struct Aead {
    key: LessSafeKey,
    salt: [u8; SALT_SIZE],
}

impl Aead {
    fn new(algorithm: &'static Algorithm, key: &[u8]) -> Option<Self> {
        let (key, salt) = key.split_last_chunk::<SALT_SIZE>()?;
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?),
            salt: *salt,
        })
    }

    fn nonce(&self, iv: &[u8]) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..SALT_SIZE].copy_from_slice(&self.salt);
        nonce[SALT_SIZE..].copy_from_slice(iv);
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&self, esn: bool, job: &EspJob, parts: Parts<'_>) {
        let Parts {
            header,
            iv,
            text,
            icv,
        } = parts;
        iv.copy_from_slice(&job.sequence.to_be_bytes());
        let (aad, size) = associated(esn, header, job);
        let (nonce, aad) = (self.nonce(iv), Aad::from(&aad[..size]));
        match self.key.seal_in_place_separate_tag(nonce, aad, text) {
            Ok(tag) => icv.copy_from_slice(tag.as_ref()),
            // Only a text over 64 GiB is refused; plaintext must not leave, so the process ends.
            Err(_) => std::process::abort(),
        }
    }

    fn open(&self, esn: bool, job: &EspJob, parts: Parts<'_>) -> bool {
        let Parts {
            header,
            iv,
            text,
            icv,
        } = parts;
        let (aad, size) = associated(esn, header, job);
        let (nonce, aad) = (self.nonce(iv), Aad::from(&aad[..size]));
        self.key
            .open_in_place_separate_tag(nonce, aad, icv, text)
            .is_ok()
    }
}

struct CbcHmac {
    encrypt: aes::Encrypt,
    decrypt: aes::Decrypt,
    ivs: aes::Encrypt,
    hmac: Hmac,
}

impl CbcHmac {
    fn new(key: &[u8], hmac: Hmac) -> Option<Self> {
        // Shorter than any packet, so it is never the input of a packet's MAC.
        let ivs = hmac.sign(&[b"IVs of AES-CBC"]);
        Some(Self {
            encrypt: aes::Encrypt::new(key)?,
            decrypt: aes::Decrypt::new(key)?,
            ivs: aes::Encrypt::new(&ivs[..16])?,
            hmac,
        })
    }

    fn seal(&self, esn: bool, job: &EspJob, parts: Parts<'_>) {
        let Parts {
            header,
            iv,
            text,
            icv,
        } = parts;
        let mut block = [0; aes::BLOCK];
        block[..8].copy_from_slice(&job.sequence.to_be_bytes());
        self.ivs.block(&mut block);
        iv.copy_from_slice(&block);
        self.encrypt.cbc(&block, text);
        let high = job.high();
        let implicit: &[u8] = if esn { &high } else { &[] };
        let tag = self.hmac.sign(&[header, iv, text, implicit]);
        icv.copy_from_slice(&tag[..icv.len()]);
    }

    fn open(&self, esn: bool, job: &EspJob, parts: Parts<'_>) -> bool {
        let Parts {
            header,
            iv,
            text,
            icv,
        } = parts;
        let Ok(iv) = <[u8; aes::BLOCK]>::try_from(&*iv) else {
            return false;
        };
        let high = job.high();
        let implicit: &[u8] = if esn { &high } else { &[] };
        let genuine = text.len().is_multiple_of(aes::BLOCK)
            && self.hmac.verify(&[header, &iv, text, implicit], icv);
        if genuine {
            self.decrypt.cbc(&iv, text);
        }
        genuine
    }
}
