//! BLAKE2s as WireGuard uses it: a 32-byte hash and a 16-byte keyed MAC (RFC 7693; paper 5.4).
//!
//! Inputs come in parts, so that nobody concatenates secrets into a buffer that is not zeroed. States are zeroed on drop.

use blake2::digest::{Digest, FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac};
use subtle::ConstantTimeEq;

pub const HASH_SIZE: usize = 32;
pub const MAC_SIZE: usize = 16;
/// The longest key that BLAKE2s takes.
pub const MAC_KEY_MAX: usize = 32;

/// A MAC key longer than [`MAC_KEY_MAX`] or empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadKeyLength;

/// Hash(input): BLAKE2s-256 of the concatenation of `parts`.
pub fn hash(parts: &[&[u8]]) -> [u8; HASH_SIZE] {
    let mut out = [0; HASH_SIZE];
    hash_into(parts, &mut out);
    out
}

/// As [`hash`], written in place: for an output that is itself secret.
pub fn hash_into(parts: &[&[u8]], out: &mut [u8; HASH_SIZE]) {
    let mut state = Blake2s256::new();
    for part in parts {
        Digest::update(&mut state, part);
    }
    FixedOutput::finalize_into(state, out.into());
}

/// Mac(key, input): keyed BLAKE2s with a 16-byte output over the concatenation of `parts`.
///
/// # Errors
/// [`BadKeyLength`] unless the key has 1 to 32 bytes.
pub fn mac(key: &[u8], parts: &[&[u8]]) -> Result<[u8; MAC_SIZE], BadKeyLength> {
    if key.is_empty() {
        // An empty key would silently be the unkeyed hash, which anybody can compute.
        return Err(BadKeyLength);
    }
    let mut state =
        Blake2sMac::<blake2::digest::consts::U16>::new_from_slice(key).map_err(|_| BadKeyLength)?;
    for part in parts {
        Update::update(&mut state, part);
    }
    Ok(state.finalize_fixed().into())
}

/// Verify a [`mac`] in constant time.
///
/// # Errors
/// As [`mac`].
pub fn mac_equal(key: &[u8], parts: &[&[u8]], tag: &[u8; MAC_SIZE]) -> Result<bool, BadKeyLength> {
    Ok(mac(key, parts)?.ct_eq(tag).into())
}
