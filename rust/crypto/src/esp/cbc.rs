//! AES-CBC with HMAC in ESP (RFC 3602, RFC 4868): encrypted first, then authenticated from the SPI on, with ESN's high half behind.
//!
//! The IV is the sequence number encrypted under a key that serves nothing else.

use super::{EspJob, Parts};
use crate::hash::Hmac;
use crate::sys::aes;

pub struct CbcHmac {
    encrypt: aes::Encrypt,
    decrypt: aes::Decrypt,
    ivs: aes::Encrypt,
    hmac: Hmac,
}

impl CbcHmac {
    /// `None` when the key is none of AES.
    pub fn new(key: &[u8], hmac: Hmac) -> Option<Self> {
        // Shorter than any packet, so it is never the input of a packet's MAC.
        let ivs = hmac.sign(&[b"IVs of AES-CBC"]);
        Some(Self {
            encrypt: aes::Encrypt::new(key)?,
            decrypt: aes::Decrypt::new(key)?,
            ivs: aes::Encrypt::new(&ivs[..16])?,
            hmac,
        })
    }

    pub fn seal(&self, esn: bool, job: &EspJob, parts: Parts<'_>) {
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
