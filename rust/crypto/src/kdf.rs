//! The paper's Kdf1, Kdf2, Kdf3: HKDF over HMAC-BLAKE2s (paper 5.4; Noise rev 34, 4.3; RFC 2104).
//!
//! ```text
//! t0 = Hmac(chain, input)    t1 = Hmac(t0, 0x01)    t2 = Hmac(t0, t1 || 0x02)    t3 = Hmac(t0, t2 || 0x03)
//! ```
//! Every pad, inner digest and t0 is zeroed before return, and the stack wiped: the hash keeps its state, which ends as the
//! output, in registers that the compiler may spill.

use zeroize::Zeroizing;

use crate::blake2s::hash_into;
use crate::secret::on_wiped_stack;
use crate::Secret;

const BLOCK: usize = 64;

/// (t1).
pub fn kdf1(chain: &Secret, input: &[u8]) -> Secret {
    on_wiped_stack(|| {
        let t0 = extract(chain, input);
        expand(&t0, None, 1)
    })
}

/// (t1, t2).
pub fn kdf2(chain: &Secret, input: &[u8]) -> (Secret, Secret) {
    on_wiped_stack(|| {
        let t0 = extract(chain, input);
        let t1 = expand(&t0, None, 1);
        let t2 = expand(&t0, Some(&t1), 2);
        (t1, t2)
    })
}

/// (t1, t2, t3).
pub fn kdf3(chain: &Secret, input: &[u8]) -> (Secret, Secret, Secret) {
    on_wiped_stack(|| {
        let t0 = extract(chain, input);
        let t1 = expand(&t0, None, 1);
        let t2 = expand(&t0, Some(&t1), 2);
        let t3 = expand(&t0, Some(&t2), 3);
        (t1, t2, t3)
    })
}

fn extract(chain: &Secret, input: &[u8]) -> Secret {
    Secret::fill(|out| hmac(chain.expose(), input, &[], out))
}

fn expand(t0: &Secret, previous: Option<&Secret>, number: u8) -> Secret {
    let previous: &[u8] = previous.map_or(&[], |secret| secret.expose());
    Secret::fill(|out| hmac(t0.expose(), previous, &[number], out))
}

/// HMAC-BLAKE2s-256 of `head || tail`; the key is shorter than a block, so it is only padded.
fn hmac(key: &[u8; 32], head: &[u8], tail: &[u8], out: &mut [u8; 32]) {
    let mut pad = Zeroizing::new([0x36_u8; BLOCK]);
    pad.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
    let mut inner = Zeroizing::new([0_u8; 32]);
    hash_into(&[pad.as_slice(), head, tail], &mut inner);
    pad.iter_mut().for_each(|pad| *pad ^= 0x36 ^ 0x5c);
    hash_into(&[pad.as_slice(), inner.as_slice()], out);
}
