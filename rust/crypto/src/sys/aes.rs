//! AES: CBC over whole blocks, and single blocks.

use aws_lc_sys::{AES_cbc_encrypt, AES_encrypt, AES_set_decrypt_key, AES_set_encrypt_key, AES_KEY};
use zeroize::Zeroize;

pub const BLOCK: usize = 16;

/// A key schedule of one direction, zeroed when dropped.
pub struct Schedule(Box<AES_KEY>);

impl Drop for Schedule {
    fn drop(&mut self) {
        self.0.rd_key.zeroize();
    }
}

fn empty() -> Box<AES_KEY> {
    Box::new(AES_KEY {
        rd_key: [0; 60],
        rounds: 0,
    })
}

/// To encrypt; `None` unless the key has 16, 24 or 32 bytes.
pub struct Encrypt(Schedule);

impl Encrypt {
    pub fn new(key: &[u8]) -> Option<Self> {
        let mut schedule = empty();
        if !matches!(key.len(), 16 | 24 | 32) {
            return None;
        }
        // SAFETY: reads as many bytes of the key as it has, and writes the schedule.
        let failed =
            unsafe { AES_set_encrypt_key(key.as_ptr(), key.len() as u32 * 8, &raw mut *schedule) };
        let made = Self(Schedule(schedule));
        (failed == 0).then_some(made)
    }

    /// One block in place.
    pub fn block(&self, block: &mut [u8; BLOCK]) {
        let at = block.as_mut_ptr();
        // SAFETY: reads and writes 16 bytes at `at`; in place is allowed.
        unsafe { AES_encrypt(at, at, &raw const *self.0 .0) };
    }

    /// CBC in place.
    ///
    /// # Panics
    /// Unless the text is whole blocks: a mistake of the caller.
    pub fn cbc(&self, iv: &[u8; BLOCK], text: &mut [u8]) {
        cbc(&self.0, iv, text, 1);
    }
}

/// To decrypt; `None` unless the key has 16, 24 or 32 bytes.
pub struct Decrypt(Schedule);

impl Decrypt {
    pub fn new(key: &[u8]) -> Option<Self> {
        let mut schedule = empty();
        if !matches!(key.len(), 16 | 24 | 32) {
            return None;
        }
        // SAFETY: reads as many bytes of the key as it has, and writes the schedule.
        let failed =
            unsafe { AES_set_decrypt_key(key.as_ptr(), key.len() as u32 * 8, &raw mut *schedule) };
        let made = Self(Schedule(schedule));
        (failed == 0).then_some(made)
    }

    /// CBC in place.
    ///
    /// # Panics
    /// Unless the text is whole blocks: a mistake of the caller.
    pub fn cbc(&self, iv: &[u8; BLOCK], text: &mut [u8]) {
        cbc(&self.0, iv, text, 0);
    }
}

fn cbc(schedule: &Schedule, iv: &[u8; BLOCK], text: &mut [u8], encrypt: i32) {
    assert!(
        text.len().is_multiple_of(BLOCK),
        "CBC takes whole blocks, not {} bytes",
        text.len()
    );
    let mut iv = *iv;
    let at = text.as_mut_ptr();
    // SAFETY: reads and writes the text, whole blocks, in place, which is allowed; writes the 16 bytes of our copy of the IV.
    // The schedule is of the direction that is asked for, by the two types.
    unsafe {
        AES_cbc_encrypt(
            at,
            at,
            text.len(),
            &raw const *schedule.0,
            iv.as_mut_ptr(),
            encrypt,
        );
    };
}
