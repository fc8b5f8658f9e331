//! The C functions of aws-lc that its safe Rust crate does not offer as we need them.
//!
//! `aws_lc_rs::agreement` takes a static private key only by way of a heap-allocated key object, and computes its public
//! key each time; these take the 32 bytes as they are.
#![allow(unsafe_code)]

use aws_lc_sys::{X25519_public_from_private, X25519};

/// Scalar multiplication into `out`; false when the result is all zero (`out` is then all zero).
pub fn x25519(out: &mut [u8; 32], private: &[u8; 32], public: &[u8; 32]) -> bool {
    // SAFETY: X25519 writes 32 bytes to its first argument and reads 32 from each of the others; the three references are
    // valid for exactly that, and the borrow rules keep the written one apart from the read ones.
    let nonzero = unsafe { X25519(out.as_mut_ptr(), private.as_ptr(), public.as_ptr()) };
    nonzero == 1
}

/// The public key of `private`.
pub fn x25519_public(private: &[u8; 32]) -> [u8; 32] {
    let mut public = [0; 32];
    // SAFETY: writes 32 bytes to its first argument and reads 32 from the second; both are valid for that and distinct.
    unsafe { X25519_public_from_private(public.as_mut_ptr(), private.as_ptr()) };
    public
}
