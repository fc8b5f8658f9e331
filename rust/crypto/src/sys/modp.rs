//! Modular exponentiation in constant time, over odd moduli. The library zeroes what it frees.

use aws_lc_sys::{
    BN_CTX_free, BN_CTX_new, BN_MONT_CTX_free, BN_MONT_CTX_new_for_modulus, BN_bin2bn,
    BN_bn2bin_padded, BN_clear_free, BN_get_rfc3526_prime_1536, BN_get_rfc3526_prime_2048,
    BN_get_rfc3526_prime_3072, BN_get_rfc3526_prime_4096, BN_get_rfc3526_prime_6144,
    BN_get_rfc3526_prime_8192, BN_mod_exp_mont_consttime, BN_new, BIGNUM, BN_CTX, BN_MONT_CTX,
};

/// A number, cleared when dropped. Null when memory is missing.
struct Number(*mut BIGNUM);

impl Number {
    fn new() -> Self {
        // SAFETY: no arguments.
        Self(unsafe { BN_new() })
    }

    fn from_bytes(raw: &[u8]) -> Self {
        // SAFETY: reads the slice; a null result is made anew.
        Self(unsafe { BN_bin2bn(raw.as_ptr(), raw.len(), core::ptr::null_mut()) })
    }

    /// Big-endian, padded to `out`; false when it does not fit.
    fn write(&self, out: &mut [u8]) -> bool {
        // SAFETY: the number is valid (the callers checked), and exactly `len` bytes are written.
        unsafe { BN_bn2bin_padded(out.as_mut_ptr(), out.len(), self.0) == 1 }
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        // SAFETY: ours alone, freed once; null is allowed.
        unsafe { BN_clear_free(self.0) }
    }
}

struct Scratch(*mut BN_CTX);

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: ours alone, freed once; null is allowed.
        unsafe { BN_CTX_free(self.0) }
    }
}

struct Montgomery(*mut BN_MONT_CTX);

impl Drop for Montgomery {
    fn drop(&mut self) {
        // SAFETY: ours alone, freed once; null is allowed.
        unsafe { BN_MONT_CTX_free(self.0) }
    }
}

/// The prime of RFC 3526 of that many bits, big-endian; `None` for sizes that it does not define.
pub fn rfc3526_prime(bits: usize) -> Option<Vec<u8>> {
    let read = match bits {
        1536 => BN_get_rfc3526_prime_1536,
        2048 => BN_get_rfc3526_prime_2048,
        3072 => BN_get_rfc3526_prime_3072,
        4096 => BN_get_rfc3526_prime_4096,
        6144 => BN_get_rfc3526_prime_6144,
        8192 => BN_get_rfc3526_prime_8192,
        _ => return None,
    };
    let number = Number::new();
    let mut prime = vec![0; bits / 8];
    // SAFETY: writes the number that it is given, which is not null.
    let made = !number.0.is_null() && !unsafe { read(number.0) }.is_null();
    (made && number.write(&mut prime)).then_some(prime)
}

/// `base ^ exponent mod modulus`, padded to `out`; false when memory is missing, the modulus even, or the base not below it.
/// The time depends on the sizes alone.
pub fn power(base: &[u8], exponent: &[u8], modulus: &[u8], out: &mut [u8]) -> bool {
    let numbers = [base, exponent, modulus].map(Number::from_bytes);
    let result = Number::new();
    // SAFETY: no arguments.
    let scratch = Scratch(unsafe { BN_CTX_new() });
    if result.0.is_null() || scratch.0.is_null() || numbers.iter().any(|n| n.0.is_null()) {
        return false;
    }
    let [base, exponent, modulus] = &numbers;
    // SAFETY: all are valid and distinct; an even modulus gives null.
    let montgomery = Montgomery(unsafe { BN_MONT_CTX_new_for_modulus(modulus.0, scratch.0) });
    if montgomery.0.is_null() {
        return false;
    }
    // SAFETY: the same.
    let done = unsafe {
        BN_mod_exp_mont_consttime(
            result.0,
            base.0,
            exponent.0,
            modulus.0,
            scratch.0,
            montgomery.0,
        )
    };
    done == 1 && result.write(out)
}
