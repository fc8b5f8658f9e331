//! [`Secret`]: 32 bytes that are zeroed when dropped.
//!
//! The bytes live on the heap, so moving a `Secret` moves a pointer and leaves no copy behind on the stack; they are
//! written in place by [`Secret::fill`] wherever the source allows. There is no `Clone`, `Display` or serialisation, `Debug`
//! shows nothing, and `==` takes the same time whatever the bytes.

use core::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::sys;

/// 32 secret bytes: a private key, a pre-shared key, a chaining key, a session key.
pub struct Secret(Box<[u8; 32]>);

impl Secret {
    pub const SIZE: usize = 32;

    /// All zero: the absent pre-shared key.
    pub fn zero() -> Self {
        Self(Box::new([0; 32]))
    }

    /// From the operating system's generator.
    ///
    /// # Errors
    /// The generator failed (no `getrandom` and no `/dev/urandom`): nothing may be generated then.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut secret = Self::zero();
        getrandom::fill(secret.0.as_mut_slice())?;
        Ok(secret)
    }

    /// Write the bytes in place: no copy of them exists outside what `write` itself makes.
    pub fn fill(write: impl FnOnce(&mut [u8; 32])) -> Self {
        let mut secret = Self::zero();
        write(&mut secret.0);
        secret
    }

    /// As [`Secret::fill`], for a source that can fail; what was written is zeroed then.
    pub fn try_fill<E>(write: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self::zero();
        write(&mut secret.0)?;
        Ok(secret)
    }

    /// A copy of 32 bytes; the caller zeroes its own.
    pub fn from_slice(raw: &[u8; 32]) -> Self {
        Self::fill(|bytes| bytes.copy_from_slice(raw))
    }

    /// A second, independent copy: explicit, because each copy is one more place to zero.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self::from_slice(&self.0)
    }

    /// A copy clamped as RFC 7748, section 5: the form in which a private key is stored and shown.
    #[must_use]
    pub fn clamp(&self) -> Self {
        let mut clamped = self.duplicate();
        clamped.0[0] &= 0b1111_1000;
        clamped.0[31] = (clamped.0[31] & 0b0111_1111) | 0b0100_0000;
        clamped
    }

    /// Constant time.
    pub fn is_zero(&self) -> bool {
        self.0.as_slice().ct_eq(&[0; 32]).into()
    }

    /// The bytes, for a primitive that consumes them; never to be copied into anything that is not zeroed.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Secret {
    /// Constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Do `work` on a part of the stack, and in vector registers, that are overwritten before return.
///
/// Code here keeps key material in buffers that it zeroes, but the library's assembly leaves keys in its frame, and a compiler
/// spills registers that hold them. The registers themselves keep them too, until something saves all registers: the dynamic
/// linker does at the first call of each function, and a signal. For a batch or a handshake step, not for each packet: it costs some 30 ns.
pub(crate) fn on_wiped_stack<R>(work: impl FnOnce() -> R) -> R {
    /// What the deepest of those calls use, in an unoptimised build too, and as much again.
    const DEPTH: usize = 8 * 1024;

    // Never inlined, so that all of their frames lie below this one: what is inlined into the caller would spill there, and stay.
    #[inline(never)]
    fn apart<R>(work: impl FnOnce() -> R) -> R {
        work()
    }
    #[inline(never)]
    fn wipe() {
        core::hint::black_box(&mut [0_u64; DEPTH / 8]);
    }

    let result = apart(work);
    wipe();
    sys::clear_vector_registers();
    result
}

/// Fill `out` from the operating system's generator: nonces, indices, jitter.
///
/// # Errors
/// As [`Secret::random`].
pub fn entropy(out: &mut [u8]) -> Result<(), getrandom::Error> {
    getrandom::fill(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(
            format!("{:?}", Secret::from_slice(&[0x41; 32])),
            "Secret(..)"
        );
    }

    #[test]
    fn equality_sees_every_bit() {
        let one = Secret::from_slice(&[7; 32]);
        assert_eq!(one, one.duplicate());
        for bit in 0..256 {
            let other = Secret::fill(|bytes| {
                *bytes = [7; 32];
                bytes[bit / 8] ^= 1 << (bit % 8);
            });
            assert_ne!(one, other);
        }
    }

    #[test]
    fn zero_is_zero_and_nothing_else_is() {
        assert!(Secret::zero().is_zero());
        for byte in 0..32 {
            assert!(!Secret::fill(|bytes| bytes[byte] = 0x80).is_zero());
        }
    }

    #[test]
    fn clamping_sets_and_clears_the_five_bits() {
        let ones = Secret::from_slice(&[0xff; 32]).clamp();
        assert_eq!((ones.expose()[0], ones.expose()[31]), (248, 127));
        let zeros = Secret::zero().clamp();
        assert_eq!((zeros.expose()[0], zeros.expose()[31]), (0, 64));
        assert_eq!(ones.clamp(), ones);
    }

    #[test]
    fn random_is_not_constant() {
        assert_ne!(Secret::random(), Secret::random());
    }

    #[test]
    fn a_failed_fill_yields_no_secret() {
        assert_eq!(Secret::try_fill(|_| Err::<(), _>("no")), Err("no"));
    }
}
