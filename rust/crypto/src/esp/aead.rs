//! AEADs in ESP (RFC 4106, RFC 7634): nonce = salt, IV; associated data = SPI, the sequence number's high half with ESN, its low half.
//!
//! AES-GCM is the library's, one packet at a time: the bytes are most of what it costs. ChaCha20-Poly1305 works across the
//! packets of a batch where the CPU has what `simd` needs.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};

use super::suite::SALT_SIZE;
use super::{EspJob, Parts, Suite};
use crate::packet::Backend;
#[cfg(target_arch = "x86_64")]
use crate::packet::Vector;

/// Bytes of associated data without ESN and with.
const SHORT_AAD: usize = 8;
const LONG_AAD: usize = 12;

/// What an AEAD authenticates besides the text: 12 bytes, or the first 8.
fn associated(esn: bool, header: &[u8], job: &EspJob) -> [u8; LONG_AAD] {
    let mut all = [0; LONG_AAD];
    if esn {
        all[..4].copy_from_slice(&header[..4]);
        all[4..8].copy_from_slice(&job.high());
        all[8..].copy_from_slice(&header[4..]);
    } else {
        all[..SHORT_AAD].copy_from_slice(header);
    }
    all
}

fn aad_size(esn: bool) -> usize {
    if esn {
        LONG_AAD
    } else {
        SHORT_AAD
    }
}

pub struct Aead {
    key: LessSafeKey,
    salt: [u8; SALT_SIZE],
    #[cfg(target_arch = "x86_64")]
    vector: Option<Vector>,
}

#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
impl Aead {
    /// `None` when the suite is no AEAD or the key not of its size.
    pub fn new(suite: Suite, backend: Backend, key: &[u8]) -> Option<Self> {
        let (key, salt) = key.split_last_chunk::<SALT_SIZE>()?;
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(suite.aead()?, key).ok()?),
            salt: *salt,
            #[cfg(target_arch = "x86_64")]
            vector: match suite.encryption {
                super::Encryption::ChaCha20Poly1305 => {
                    Vector::new(backend, key.try_into().ok()?, u32::from_le_bytes(*salt))
                }
                _ => None,
            },
        })
    }

    /// As [`super::EspCipher::seal_many`].
    pub fn seal_many(&self, suite: Suite, esn: bool, slab: &mut [u8], jobs: &[EspJob]) {
        // A batch of one is the library's: there lanes across packets lie idle.
        #[cfg(target_arch = "x86_64")]
        if let (Some(vector), 2..) = (&self.vector, jobs.len()) {
            return across::seal(vector, suite, esn, slab, jobs);
        }
        for job in jobs {
            self.seal(esn, job, job.parts(suite, slab));
        }
    }

    /// As [`super::EspCipher::open_many`].
    pub fn open_many(
        &self,
        suite: Suite,
        esn: bool,
        slab: &mut [u8],
        jobs: &[EspJob],
        ok: &mut [bool],
    ) {
        #[cfg(target_arch = "x86_64")]
        if let (Some(vector), 2..) = (&self.vector, jobs.len()) {
            return across::open(vector, suite, esn, slab, jobs, ok);
        }
        for (job, ok) in jobs.iter().zip(ok) {
            *ok = self.open(esn, job, job.parts(suite, slab));
        }
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
        let aad = associated(esn, header, job);
        let (nonce, aad) = (self.nonce(iv), Aad::from(&aad[..aad_size(esn)]));
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
        let aad = associated(esn, header, job);
        let (nonce, aad) = (self.nonce(iv), Aad::from(&aad[..aad_size(esn)]));
        self.key
            .open_in_place_separate_tag(nonce, aad, icv, text)
            .is_ok()
    }
}

/// ChaCha20-Poly1305 across the packets of a batch.
#[cfg(target_arch = "x86_64")]
mod across {
    use super::{associated, EspJob, Suite, LONG_AAD, SHORT_AAD};
    use crate::esp::suite::AEAD_IV;
    use crate::esp::HEADER_SIZE;
    use crate::packet::Vector;
    use crate::simd::Item;

    /// The job as the vector code takes it; its IV stands in the slab.
    fn item(suite: Suite, esn: bool, job: &EspJob, slab: &[u8]) -> Item {
        let packet = &slab[job.range(suite, slab.len())];
        let mut iv = [0; AEAD_IV];
        iv.copy_from_slice(&packet[HEADER_SIZE..][..AEAD_IV]);
        let aad = associated(esn, &packet[..HEADER_SIZE], job);
        let mut block = [0; 16];
        block[..LONG_AAD].copy_from_slice(&aad);
        let block = u128::from_le_bytes(block);
        Item {
            counter: u64::from_le_bytes(iv),
            start: job.start + HEADER_SIZE + AEAD_IV,
            size: job.len,
            associated: [block as u64, (block >> 64) as u64],
        }
    }

    pub fn seal(vector: &Vector, suite: Suite, esn: bool, slab: &mut [u8], jobs: &[EspJob]) {
        let describe = |job: &EspJob, slab: &mut [u8]| {
            let iv = job.parts(suite, slab).iv;
            iv.copy_from_slice(&job.sequence.to_be_bytes());
            item(suite, esn, job, slab)
        };
        let (cpu, key) = (vector.cpu, &vector.key);
        if esn {
            cpu.seal_many::<LONG_AAD, _>(key, slab, jobs, describe);
        } else {
            cpu.seal_many::<SHORT_AAD, _>(key, slab, jobs, describe);
        }
    }

    pub fn open(
        vector: &Vector,
        suite: Suite,
        esn: bool,
        slab: &mut [u8],
        jobs: &[EspJob],
        ok: &mut [bool],
    ) {
        let describe = |job: &EspJob, slab: &[u8]| Some(item(suite, esn, job, slab));
        let (cpu, key) = (vector.cpu, &vector.key);
        if esn {
            cpu.open_many::<LONG_AAD, _>(key, slab, jobs, ok, describe);
        } else {
            cpu.open_many::<SHORT_AAD, _>(key, slab, jobs, ok, describe);
        }
    }
}
