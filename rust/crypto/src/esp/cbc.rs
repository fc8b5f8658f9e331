//! AES-CBC with HMAC in ESP (RFC 3602, RFC 4868): encrypted first, then authenticated from the SPI on, with ESN's high half behind.
//!
//! The IV is the sequence number encrypted under a key that serves nothing else. Encryption works across the packets of a batch where the
//! CPU has what `simd::cbc` needs: within one packet every block waits for the one before.

use super::{EspJob, Parts, Suite};
use crate::hash::Hmac;
#[cfg(target_arch = "x86_64")]
use crate::simd::cbc::{AesNi, Chain, Schedule};
use crate::sys::aes;

pub struct CbcHmac {
    encrypt: aes::Encrypt,
    decrypt: aes::Decrypt,
    ivs: aes::Encrypt,
    hmac: Hmac,
    #[cfg(target_arch = "x86_64")]
    across: Option<Schedule>,
}

#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
impl CbcHmac {
    /// `across`: encrypt across the packets of a batch, where the CPU can. `None` when the key is none of AES.
    pub fn new(across: bool, key: &[u8], hmac: Hmac) -> Option<Self> {
        // Shorter than any packet, so it is never the input of a packet's MAC.
        let ivs = hmac.sign(&[b"IVs of AES-CBC"]);
        Some(Self {
            encrypt: aes::Encrypt::new(key)?,
            decrypt: aes::Decrypt::new(key)?,
            ivs: aes::Encrypt::new(&ivs[..16])?,
            hmac,
            #[cfg(target_arch = "x86_64")]
            across: AesNi::detect()
                .filter(|_| across)
                .and_then(|cpu| Schedule::new(cpu, key)),
        })
    }

    /// As [`super::EspCipher::seal_many`].
    pub fn seal_many(&self, suite: Suite, esn: bool, slab: &mut [u8], jobs: &[EspJob]) {
        // A batch of one is the library's: it has nothing to work across.
        #[cfg(target_arch = "x86_64")]
        if let (Some(schedule), 2..) = (&self.across, jobs.len()) {
            return self.seal_across(schedule, suite, esn, slab, jobs);
        }
        for job in jobs {
            let parts = job.parts(suite, slab);
            let iv = self.iv(job);
            parts.iv.copy_from_slice(&iv);
            self.encrypt.cbc(&iv, parts.text);
            self.sign(esn, job, parts);
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn seal_across(
        &self,
        schedule: &Schedule,
        suite: Suite,
        esn: bool,
        slab: &mut [u8],
        jobs: &[EspJob],
    ) {
        // As many as stay in the first cache until they are signed, and a multiple of the lanes.
        const GROUP: usize = 16;
        for jobs in jobs.chunks(GROUP) {
            let mut chains = [Chain::NONE; GROUP];
            for (chain, job) in chains.iter_mut().zip(jobs) {
                let iv = self.iv(job);
                job.parts(suite, slab).iv.copy_from_slice(&iv);
                *chain = Chain {
                    start: job.start + super::HEADER_SIZE + aes::BLOCK,
                    size: job.len,
                    iv,
                };
            }
            schedule.encrypt(slab, &chains[..jobs.len()]);
            for job in jobs {
                self.sign(esn, job, job.parts(suite, slab));
            }
        }
    }

    fn iv(&self, job: &EspJob) -> [u8; aes::BLOCK] {
        let mut block = [0; aes::BLOCK];
        block[..8].copy_from_slice(&job.sequence.to_be_bytes());
        self.ivs.block(&mut block);
        block
    }

    /// The ICV of a packet that is encrypted.
    fn sign(&self, esn: bool, job: &EspJob, parts: Parts<'_>) {
        let Parts {
            header,
            iv,
            text,
            icv,
        } = parts;
        let high = job.high();
        let implicit: &[u8] = if esn { &high } else { &[] };
        let tag = self.hmac.sign(&[header, iv, text, implicit]);
        icv.copy_from_slice(&tag[..icv.len()]);
    }

    /// Whether the packet is genuine; then its text is decrypted.
    pub fn open(&self, esn: bool, job: &EspJob, parts: Parts<'_>) -> bool {
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
