//! ECDH on the NIST curves. The library zeroes what it frees, private keys among it.
//!
//! Not by `aws_lc_rs::agreement`: it frees the shared secret as it is.

use core::ptr::{null, null_mut};

use aws_lc_sys::{
    point_conversion_form_t, BN_bin2bn, BN_clear_free, ECDH_compute_key, EC_KEY_free,
    EC_KEY_get0_group, EC_KEY_get0_public_key, EC_KEY_new_by_curve_name, EC_KEY_set_private_key,
    EC_KEY_set_public_key, EC_POINT_free, EC_POINT_mul, EC_POINT_new, EC_POINT_oct2point,
    EC_POINT_point2oct, NID_X9_62_prime256v1, NID_secp384r1, NID_secp521r1, BIGNUM, EC_KEY,
    EC_POINT,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// Bytes of one coordinate.
    pub fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    fn nid(self) -> i32 {
        match self {
            Self::P256 => NID_X9_62_prime256v1,
            Self::P384 => NID_secp384r1,
            Self::P521 => NID_secp521r1,
        }
    }
}

/// An uncompressed point, as SEC 1 writes it: 4, x, y.
const UNCOMPRESSED: u8 = 4;

/// A private key with its public one.
pub struct PrivateKey {
    curve: Curve,
    key: *mut EC_KEY,
}

// SAFETY: the key is owned here alone, and the library's functions that take it as const may run in any thread.
unsafe impl Send for PrivateKey {}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        // SAFETY: made by EC_KEY_new_by_curve_name (null is allowed), freed once.
        unsafe { EC_KEY_free(self.key) }
    }
}

struct Point(*mut EC_POINT);

impl Drop for Point {
    fn drop(&mut self) {
        // SAFETY: made by EC_POINT_new (null is allowed), freed once.
        unsafe { EC_POINT_free(self.0) }
    }
}

struct Number(*mut BIGNUM);

impl Drop for Number {
    fn drop(&mut self) {
        // SAFETY: made by BN_bin2bn (null is allowed), freed once.
        unsafe { BN_clear_free(self.0) }
    }
}

impl PrivateKey {
    fn empty(curve: Curve) -> Option<Self> {
        // SAFETY: takes a number, gives a new key or null.
        let key = unsafe { EC_KEY_new_by_curve_name(curve.nid()) };
        let key = Self { curve, key };
        (!key.key.is_null()).then_some(key)
    }

    /// From a big-endian number; `None` unless it is in 1..n.
    pub fn from_number(curve: Curve, number: &[u8]) -> Option<Self> {
        let key = Self::empty(curve)?;
        // SAFETY: each object is checked for null before it is used, and outlives its uses; the group is the key's own.
        unsafe {
            let number = Number(BN_bin2bn(number.as_ptr(), number.len(), null_mut()));
            if number.0.is_null() || EC_KEY_set_private_key(key.key, number.0) != 1 {
                return None;
            }
            let group = EC_KEY_get0_group(key.key);
            let point = Point(EC_POINT_new(group));
            let made = !point.0.is_null()
                && EC_POINT_mul(group, point.0, number.0, null(), null(), null_mut()) == 1
                && EC_KEY_set_public_key(key.key, point.0) == 1;
            made.then_some(key)
        }
    }

    /// x and y of the public key.
    pub fn public(&self) -> Option<Vec<u8>> {
        let mut out = vec![0; 1 + 2 * self.curve.size()];
        // SAFETY: key, group and public key are valid and belong together; at most `len` bytes are written.
        let size = unsafe {
            EC_POINT_point2oct(
                EC_KEY_get0_group(self.key),
                EC_KEY_get0_public_key(self.key),
                point_conversion_form_t::POINT_CONVERSION_UNCOMPRESSED,
                out.as_mut_ptr(),
                out.len(),
                null_mut(),
            )
        };
        (size == out.len()).then(|| out.split_off(1))
    }

    /// The x coordinate of the product with the point `peer` (x and y) into `out`, which has its size; false unless the point lies on
    /// the curve.
    pub fn agree(&self, peer: &[u8], out: &mut [u8]) -> bool {
        if peer.len() != 2 * self.curve.size() || out.len() != self.curve.size() {
            return false;
        }
        let mut encoded = vec![UNCOMPRESSED];
        encoded.extend_from_slice(peer);
        // SAFETY: each object is checked for null before it is used, and outlives its uses; lengths are those of the buffers.
        unsafe {
            let group = EC_KEY_get0_group(self.key);
            let point = Point(EC_POINT_new(group));
            !point.0.is_null()
                && EC_POINT_oct2point(group, point.0, encoded.as_ptr(), encoded.len(), null_mut())
                    == 1
                && ECDH_compute_key(out.as_mut_ptr().cast(), out.len(), point.0, self.key, None)
                    == out.len() as i32
        }
    }
}
