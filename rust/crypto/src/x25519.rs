//! X25519 (RFC 7748), by aws-lc's formally verified s2n-bignum code.
//!
//! Private keys are clamped by the function itself, so any 32 bytes are one. A result of all zeros means that the other
//! side sent a point of low order: it is refused, in constant time (RFC 7748, section 6.1).

use core::fmt;

use crate::secret::on_wiped_stack;
use crate::{sys, Secret};

pub const PUBLIC_KEY_SIZE: usize = 32;

/// A Diffie-Hellman result was all zero: the other side sent a low-order point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZeroSecret;

impl fmt::Display for ZeroSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the Diffie-Hellman result is all zero: a low-order public key")
    }
}

impl std::error::Error for ZeroSecret {}

/// DH(private, public).
///
/// # Errors
/// [`ZeroSecret`] for a public key of low order.
pub fn dh(private: &Secret, public: &[u8; PUBLIC_KEY_SIZE]) -> Result<Secret, ZeroSecret> {
    let multiply = |out: &mut [u8; 32]| sys::x25519(out, private.expose(), public);
    on_wiped_stack(|| Secret::try_fill(|out| multiply(out).then_some(()).ok_or(ZeroSecret)))
}

/// The public key of `private`.
pub fn public_key(private: &Secret) -> [u8; PUBLIC_KEY_SIZE] {
    on_wiped_stack(|| sys::x25519_public(private.expose()))
}
