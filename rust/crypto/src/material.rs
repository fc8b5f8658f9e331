//! [`KeyMaterial`]: secret bytes of any length that are zeroed when dropped.
//!
//! What [`crate::Secret`] is for WireGuard's 32 bytes, for IKE's and ESP's keys, whose lengths are negotiated. The same rules: the bytes
//! live on the heap in a buffer that never grows, there is no `Clone`, `Display` or serialisation, `Debug` shows nothing (not even the
//! length), and `==` takes the same time whatever the bytes. Lengths are public.

use core::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Secret bytes: a pre-shared key, a Diffie-Hellman result, a key of an SA.
pub struct KeyMaterial(Box<[u8]>);

impl KeyMaterial {
    /// `size` zero bytes, to be written in place.
    pub(crate) fn zero(size: usize) -> Self {
        Self(vec![0; size].into_boxed_slice())
    }

    /// Write `size` bytes in place: no copy of them exists outside what `write` itself makes.
    pub fn fill(size: usize, write: impl FnOnce(&mut [u8])) -> Self {
        let mut material = Self::zero(size);
        write(&mut material.0);
        material
    }

    /// As [`KeyMaterial::fill`], for a source that can fail; what was written is zeroed then.
    pub fn try_fill<E>(
        size: usize,
        write: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut material = Self::zero(size);
        write(&mut material.0)?;
        Ok(material)
    }

    /// A copy; the caller zeroes its own.
    pub fn from_slice(raw: &[u8]) -> Self {
        Self::fill(raw.len(), |bytes| bytes.copy_from_slice(raw))
    }

    /// From the operating system's generator.
    ///
    /// # Errors
    /// The generator failed: nothing may be generated then.
    pub fn random(size: usize) -> Result<Self, getrandom::Error> {
        Self::try_fill(size, getrandom::fill)
    }

    /// The concatenation of `parts`.
    pub fn concat(parts: &[&[u8]]) -> Self {
        Self::fill(parts.iter().map(|part| part.len()).sum(), |bytes| {
            let mut rest = bytes;
            for part in parts {
                let (here, after) = rest.split_at_mut(part.len());
                here.copy_from_slice(part);
                rest = after;
            }
        })
    }

    /// A second, independent copy: explicit, because each copy is one more place to zero.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self::from_slice(&self.0)
    }

    /// Consecutive parts of these sizes; `None` unless they add up to the length.
    pub fn split(&self, sizes: &[usize]) -> Option<Vec<Self>> {
        let total = sizes
            .iter()
            .try_fold(0_usize, |sum, size| sum.checked_add(*size))?;
        if total != self.0.len() {
            return None;
        }
        let mut rest = &*self.0;
        let mut parts = Vec::with_capacity(sizes.len());
        for size in sizes {
            let (here, after) = rest.split_at(*size);
            parts.push(Self::from_slice(here));
            rest = after;
        }
        Some(parts)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, for a primitive that consumes them; never to be copied into anything that is not zeroed.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for KeyMaterial {
    /// Constant time for equal lengths.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyMaterial {}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMaterial(..)")
    }
}

impl Drop for KeyMaterial {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let shown = format!("{:?}", KeyMaterial::from_slice(&[0x41; 7]));
        assert_eq!(shown, "KeyMaterial(..)");
    }

    #[test]
    fn equality_sees_every_bit_and_the_length() {
        let one = KeyMaterial::from_slice(&[7; 20]);
        assert_eq!(one, one.duplicate());
        assert_ne!(one, KeyMaterial::from_slice(&[7; 19]));
        for bit in 0..160 {
            let mut raw = [7; 20];
            raw[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(one, KeyMaterial::from_slice(&raw), "bit {bit}");
        }
    }

    #[test]
    fn parts_are_consecutive_and_complete() {
        let whole = KeyMaterial::from_slice(b"abcdefg");
        let parts = whole.split(&[2, 0, 5]).unwrap();
        let exposed: Vec<_> = parts.iter().map(KeyMaterial::expose).collect();
        assert_eq!(exposed, [&b"ab"[..], b"", b"cdefg"]);
        assert_eq!(KeyMaterial::concat(&exposed), whole);
        for sizes in [&[6][..], &[8], &[], &[3, 3], &[usize::MAX, 8]] {
            assert!(whole.split(sizes).is_none(), "{sizes:?}");
        }
    }

    #[test]
    fn random_is_not_constant() {
        assert_ne!(
            KeyMaterial::random(16).unwrap(),
            KeyMaterial::random(16).unwrap()
        );
        assert_eq!(KeyMaterial::random(0).unwrap().len(), 0);
    }
}
