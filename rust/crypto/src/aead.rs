//! The AEADs of the handshake: ChaCha20-Poly1305 with a counter nonce, and XChaCha20-Poly1305 for cookies.
//!
//! One message at a time, any associated data. Packets go through [`crate::PacketKey`] instead.
//! A failed opening yields no bytes: what was decrypted is zeroed before it is freed.

use core::fmt;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey, CHACHA20_POLY1305};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::XChaCha20Poly1305;
use zeroize::Zeroizing;

use crate::secret::on_wiped_stack;
use crate::Secret;

pub const TAG_SIZE: usize = 16;
pub const XNONCE_SIZE: usize = 24;

/// An AEAD tag did not verify, or the message is shorter than a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthenticationFailed;

impl fmt::Display for AuthenticationFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message does not authenticate")
    }
}

impl std::error::Error for AuthenticationFailed {}

/// Why a message cannot be sealed: longer than the construction allows (256 GiB), which no caller reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// The 96-bit nonce `0^4 || LE64(counter)` of the paper, 5.4.6.
pub(crate) fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// The library's key for `key`; its schedule is zeroed by the library when it is freed.
pub(crate) fn library_key(key: &[u8; 32]) -> LessSafeKey {
    match UnboundKey::new(&CHACHA20_POLY1305, key) {
        Ok(key) => LessSafeKey::new(key),
        // The length is right by type; only a failed allocation is left, for which Rust's own answer is to abort.
        Err(_) => std::process::abort(),
    }
}

/// Seal with the nonce of `counter`: ciphertext and tag.
///
/// # Errors
/// [`TooLong`].
pub fn seal(key: &Secret, counter: u64, plaintext: &[u8], ad: &[u8]) -> Result<Vec<u8>, TooLong> {
    seal_nonce(key.expose(), nonce(counter), plaintext, ad)
}

/// Open what [`seal`] made.
///
/// # Errors
/// [`AuthenticationFailed`].
pub fn open(
    key: &Secret,
    counter: u64,
    ciphertext: &[u8],
    ad: &[u8],
) -> Result<Vec<u8>, AuthenticationFailed> {
    open_nonce(key.expose(), nonce(counter), ciphertext, ad)
}

/// The general form, RFC 8439, 2.8: any nonce.
///
/// # Errors
/// [`TooLong`].
pub fn seal_nonce(
    key: &[u8; 32],
    nonce: [u8; 12],
    plaintext: &[u8],
    ad: &[u8],
) -> Result<Vec<u8>, TooLong> {
    let mut out = Vec::with_capacity(plaintext.len() + TAG_SIZE);
    out.extend_from_slice(plaintext);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = on_wiped_stack(|| {
        library_key(key).seal_in_place_separate_tag(nonce, Aad::from(ad), &mut out)
    });
    out.extend_from_slice(tag.map_err(|_| TooLong)?.as_ref());
    Ok(out)
}

/// Open what [`seal_nonce`] made.
///
/// # Errors
/// [`AuthenticationFailed`].
pub fn open_nonce(
    key: &[u8; 32],
    nonce: [u8; 12],
    ciphertext: &[u8],
    ad: &[u8],
) -> Result<Vec<u8>, AuthenticationFailed> {
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let nonce = Nonce::assume_unique_for_key(nonce);
    on_wiped_stack(|| {
        library_key(key)
            .open_in_place(nonce, Aad::from(ad), &mut buffer)
            .map(|plaintext| plaintext.to_vec())
            .map_err(|_| AuthenticationFailed)
    })
}

/// XChaCha20-Poly1305: ciphertext and tag.
///
/// # Errors
/// [`TooLong`].
pub fn xseal(
    key: &[u8; 32],
    nonce: &[u8; XNONCE_SIZE],
    plaintext: &[u8],
    ad: &[u8],
) -> Result<Vec<u8>, TooLong> {
    let mut out = Vec::with_capacity(plaintext.len() + TAG_SIZE);
    out.extend_from_slice(plaintext);
    XChaCha20Poly1305::new(key.into())
        .encrypt_in_place(nonce.into(), ad, &mut out)
        .map_err(|_| TooLong)?;
    Ok(out)
}

/// Open what [`xseal`] made.
///
/// # Errors
/// [`AuthenticationFailed`].
pub fn xopen(
    key: &[u8; 32],
    nonce: &[u8; XNONCE_SIZE],
    ciphertext: &[u8],
    ad: &[u8],
) -> Result<Vec<u8>, AuthenticationFailed> {
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    XChaCha20Poly1305::new(key.into())
        .decrypt_in_place(nonce.into(), ad, &mut *buffer)
        .map_err(|_| AuthenticationFailed)?;
    Ok(core::mem::take(&mut *buffer))
}
