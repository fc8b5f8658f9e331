//! IKE's pseudo-random functions (RFC 7296, 2.13): HMAC over any parts, and prf+, which stretches it.

use zeroize::Zeroizing;

use crate::hash::{Hash, Hmac};
use crate::secret::on_wiped_stack;
use crate::KeyMaterial;

/// HMAC of the concatenation, as a secret: SKEYSEED, the padded pre-shared key.
pub fn prf(hash: Hash, key: &[u8], parts: &[&[u8]]) -> KeyMaterial {
    on_wiped_stack(|| KeyMaterial::from_slice(&Hmac::new(hash, key).sign(parts)[..hash.size()]))
}

/// HMAC of the concatenation, for what is sent.
pub fn prf_public(hash: Hash, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    on_wiped_stack(|| Hmac::new(hash, key).sign(parts)[..hash.size()].to_vec())
}

/// prf+ (RFC 7296, 2.13): `size` bytes; `None` beyond 255 blocks, where its counter ends.
///
/// ```text
/// prf+ (K, S) = T1 | T2 | ...      T1 = prf(K, S | 1)      Tn = prf(K, Tn-1 | S | n)
/// ```
pub fn prf_plus(hash: Hash, key: &[u8], seed: &[u8], size: usize) -> Option<KeyMaterial> {
    if size.div_ceil(hash.size()) > 255 {
        return None;
    }
    Some(on_wiped_stack(|| {
        let hmac = Hmac::new(hash, key);
        KeyMaterial::fill(size, |out| {
            let mut previous = Zeroizing::new([0; crate::hash::MAX_SIZE]);
            let mut used = 0;
            for (part, number) in out.chunks_mut(hash.size()).zip(1_u8..=255) {
                previous = hmac.sign(&[&previous[..used], seed, &[number]]);
                used = hash.size();
                part.copy_from_slice(&previous[..part.len()]);
            }
        })
    }))
}
