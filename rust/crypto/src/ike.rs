//! [`IkeCipher`]: encryption of IKE messages, the content of SK and SKF payloads (RFC 7296 3.14, RFC 5282, RFC 7383).
//!
//! ```text
//! sealed:  IV 8 or 16 | encrypted: plaintext, padding, pad length | checksum 12 to 32
//! ```
//! CBC is padded to whole blocks, its IV unpredictable (a counter encrypted under a key of its own), and the HMAC goes over what
//! is associated, the IV and the ciphertext. AEADs are not padded (RFC 5282, 3: pad length 0), their IV is a counter that starts
//! at random: it never repeats under one key. One object for each direction; the keys are given to one object alone.

use core::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};

use crate::aead::AuthenticationFailed;
use crate::esp::{Suite, WrongKeySize};
use crate::hash::Hmac;
use crate::secret::on_wiped_stack;
use crate::sys::aes;
use crate::KeyMaterial;

const SALT: usize = 4;

/// Why there is no cipher.
#[derive(Debug)]
pub enum NoCipher {
    WrongKeySize(WrongKeySize),
    Entropy(getrandom::Error),
}

enum Keys {
    Aead {
        key: Box<LessSafeKey>,
        salt: [u8; SALT],
    },
    Cbc {
        encrypt: aes::Encrypt,
        decrypt: aes::Decrypt,
        ivs: aes::Encrypt,
        hmac: Hmac,
    },
}

/// One direction of one IKE SA.
pub struct IkeCipher {
    suite: Suite,
    keys: Keys,
    next_iv: AtomicU64,
}

impl IkeCipher {
    /// # Errors
    /// [`NoCipher`].
    pub fn new(suite: Suite, key: &KeyMaterial, integrity: &KeyMaterial) -> Result<Self, NoCipher> {
        let mut start = [0; 8];
        getrandom::fill(&mut start).map_err(NoCipher::Entropy)?;
        let wrong = WrongKeySize {
            suite,
            found: [key.len(), integrity.len()],
        };
        if wrong.found != [suite.key_len(), suite.integrity_len()] {
            return Err(NoCipher::WrongKeySize(wrong));
        }
        let keys = on_wiped_stack(|| Self::keys(suite, key.expose(), integrity.expose()));
        Ok(Self {
            suite,
            keys: keys.ok_or(NoCipher::WrongKeySize(wrong))?,
            next_iv: AtomicU64::new(u64::from_be_bytes(start)),
        })
    }

    fn keys(suite: Suite, key: &[u8], integrity: &[u8]) -> Option<Keys> {
        match (suite.aead(), suite.integrity.hash()) {
            (Some(algorithm), None) => {
                let (key, salt) = key.split_last_chunk::<SALT>()?;
                Some(Keys::Aead {
                    key: Box::new(LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?)),
                    salt: *salt,
                })
            }
            (None, Some(hash)) => {
                let hmac = Hmac::new(hash, integrity);
                // Shorter than any message, so it is never the input of a message's checksum.
                let ivs = hmac.sign(&[b"IVs of AES-CBC"]);
                Some(Keys::Cbc {
                    encrypt: aes::Encrypt::new(key)?,
                    decrypt: aes::Decrypt::new(key)?,
                    ivs: aes::Encrypt::new(&ivs[..16])?,
                    hmac,
                })
            }
            _ => None,
        }
    }

    /// The plaintext with padding and pad length.
    fn padded_size(&self, plaintext: usize) -> usize {
        if self.suite.is_aead() {
            plaintext + 1
        } else {
            (plaintext + 1).next_multiple_of(aes::BLOCK)
        }
    }

    /// Bytes of [`IkeCipher::seal`]'s result.
    pub fn sealed_size(&self, plaintext: usize) -> usize {
        self.suite.iv_len() + self.padded_size(plaintext) + self.suite.icv_len()
    }

    /// IV, ciphertext, checksum.
    pub fn seal(&self, associated: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let iv_size = self.suite.iv_len();
        let padded = self.padded_size(plaintext.len());
        let mut out = vec![0; iv_size + padded + self.suite.icv_len()];
        let (iv, rest) = out.split_at_mut(iv_size);
        let (text, icv) = rest.split_at_mut(padded);
        text[..plaintext.len()].copy_from_slice(plaintext);
        text[padded - 1] = (padded - plaintext.len() - 1) as u8;
        let number = self.next_iv.fetch_add(1, Ordering::Relaxed);
        on_wiped_stack(|| match &self.keys {
            Keys::Aead { key, salt } => {
                iv.copy_from_slice(&number.to_be_bytes());
                match key.seal_in_place_separate_tag(nonce(*salt, iv), Aad::from(associated), text)
                {
                    Ok(tag) => icv.copy_from_slice(tag.as_ref()),
                    // Only a text over 64 GiB is refused; plaintext must not leave, so the process ends.
                    Err(_) => std::process::abort(),
                }
            }
            Keys::Cbc {
                encrypt, ivs, hmac, ..
            } => {
                let mut block = [0; aes::BLOCK];
                block[..8].copy_from_slice(&number.to_be_bytes());
                ivs.block(&mut block);
                iv.copy_from_slice(&block);
                encrypt.cbc(&block, text);
                let checksum = hmac.sign(&[associated, iv, text]);
                icv.copy_from_slice(&checksum[..icv.len()]);
            }
        });
        out
    }

    /// The plaintext without padding.
    ///
    /// # Errors
    /// [`AuthenticationFailed`]: also when it is genuine but of a size that cannot be, or claims more padding than there is.
    pub fn open(&self, associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, AuthenticationFailed> {
        let least = self.sealed_size(0);
        let blocks = if self.suite.is_aead() { 1 } else { aes::BLOCK };
        let beyond = sealed
            .len()
            .checked_sub(least)
            .ok_or(AuthenticationFailed)?;
        if !beyond.is_multiple_of(blocks) {
            return Err(AuthenticationFailed);
        }
        let (iv, rest) = sealed.split_at(self.suite.iv_len());
        let (text, icv) = rest.split_at(rest.len() - self.suite.icv_len());
        let mut plain = text.to_vec();
        on_wiped_stack(|| match &self.keys {
            Keys::Aead { key, salt } => key
                .open_in_place_separate_tag(
                    nonce(*salt, iv),
                    Aad::from(associated),
                    icv,
                    &mut plain,
                )
                .map(|_| ())
                .map_err(|_| AuthenticationFailed),
            Keys::Cbc { decrypt, hmac, .. } => {
                if !hmac.verify(&[associated, iv, text], icv) {
                    return Err(AuthenticationFailed);
                }
                let iv: &[u8; aes::BLOCK] = iv.try_into().map_err(|_| AuthenticationFailed)?;
                decrypt.cbc(iv, &mut plain);
                Ok(())
            }
        })?;
        let padding = plain.pop().ok_or(AuthenticationFailed)?;
        let size = plain
            .len()
            .checked_sub(usize::from(padding))
            .ok_or(AuthenticationFailed)?;
        plain.truncate(size);
        Ok(plain)
    }
}

fn nonce(salt: [u8; SALT], iv: &[u8]) -> Nonce {
    let mut nonce = [0; SALT + 8];
    nonce[..SALT].copy_from_slice(&salt);
    nonce[SALT..].copy_from_slice(iv);
    Nonce::assume_unique_for_key(nonce)
}
