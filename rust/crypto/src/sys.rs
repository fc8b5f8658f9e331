//! What safe Rust cannot say: C functions of aws-lc that aws-lc-rs does not lead to, and clearing vector registers.
//!
//! - X25519 here: `aws_lc_rs::agreement` takes a static private key only by way of a heap-allocated key object, and computes its
//!   public key each time; these take the 32 bytes as they are.
//! - [`sha`]: SHA as a plain value, so that HMAC can start from a key's two prepared states without allocating.
//! - [`aes`]: AES-CBC without padding, and single blocks.
//! - [`modp`]: modular exponentiation, for IKE's MODP groups.
//! - [`ecp`]: ECDH on the NIST curves with private keys that are zeroed.
#![allow(unsafe_code)]

pub mod aes;
pub mod ecp;
pub mod modp;
pub mod sha;

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

/// Zero the vector registers that any calculation here uses.
#[cfg(target_arch = "x86_64")]
pub fn clear_vector_registers() {
    use core::arch::asm;

    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has the instructions; the registers that the calling convention lets a call clobber are declared so.
        unsafe {
            asm!(
                "vzeroall",
                "vpxord zmm16, zmm16, zmm16",
                "vpxord zmm17, zmm17, zmm17",
                "vpxord zmm18, zmm18, zmm18",
                "vpxord zmm19, zmm19, zmm19",
                "vpxord zmm20, zmm20, zmm20",
                "vpxord zmm21, zmm21, zmm21",
                "vpxord zmm22, zmm22, zmm22",
                "vpxord zmm23, zmm23, zmm23",
                "vpxord zmm24, zmm24, zmm24",
                "vpxord zmm25, zmm25, zmm25",
                "vpxord zmm26, zmm26, zmm26",
                "vpxord zmm27, zmm27, zmm27",
                "vpxord zmm28, zmm28, zmm28",
                "vpxord zmm29, zmm29, zmm29",
                "vpxord zmm30, zmm30, zmm30",
                "vpxord zmm31, zmm31, zmm31",
                // Leaves the upper halves marked clean: SSE code after it would be slowed otherwise.
                "vzeroupper",
                clobber_abi("sysv64"),
                options(nomem, nostack, preserves_flags),
            );
        }
    } else if is_x86_feature_detected!("avx") {
        // SAFETY: as above.
        unsafe {
            asm!(
                "vzeroall",
                clobber_abi("sysv64"),
                options(nomem, nostack, preserves_flags)
            );
        };
    } else {
        // SAFETY: as above; every x86-64 CPU has SSE2.
        unsafe {
            asm!(
                "pxor xmm0, xmm0",
                "pxor xmm1, xmm1",
                "pxor xmm2, xmm2",
                "pxor xmm3, xmm3",
                "pxor xmm4, xmm4",
                "pxor xmm5, xmm5",
                "pxor xmm6, xmm6",
                "pxor xmm7, xmm7",
                "pxor xmm8, xmm8",
                "pxor xmm9, xmm9",
                "pxor xmm10, xmm10",
                "pxor xmm11, xmm11",
                "pxor xmm12, xmm12",
                "pxor xmm13, xmm13",
                "pxor xmm14, xmm14",
                "pxor xmm15, xmm15",
                clobber_abi("sysv64"),
                options(nomem, nostack, preserves_flags),
            );
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub fn clear_vector_registers() {}
