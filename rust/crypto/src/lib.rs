//! Primitives and secrets: everything in ginnel that touches key bytes.
//!
//! - [`Secret`]: 32 bytes on the heap, zeroed when dropped, never printed, compared in constant time.
//! - [`blake2s`], [`kdf`], [`x25519`], [`aead`]: what a WireGuard handshake is made of, under the paper's names.
//! - [`PacketKey`]: ChaCha20-Poly1305 over a batch of packets in one slab: WireGuard's hot path.
//! - [`KeyMaterial`]: the same as [`Secret`] for keys of any length; [`prf`], [`agreement`], [`ike`]: what IKE is made of.
//! - [`esp`]: ESP's suites over a batch of packets: the hot path of protected tunnels.
//!
//! Rules: key material never leaves a zeroed buffer; a comparison of secret bytes is constant time; nothing here allocates
//! once per packet; `unsafe` is confined to `sys` (the C library) and `simd` (vector instructions).

mod sys;

pub mod aead;
pub mod agreement;
pub mod blake2s;
pub mod esp;
pub mod hash;
pub mod ike;
pub mod kdf;
mod material;
mod packet;
pub mod prf;
mod secret;
#[cfg(target_arch = "x86_64")]
mod simd;
mod text;
pub mod x25519;

pub use aead::AuthenticationFailed;
pub use material::KeyMaterial;
pub use packet::{
    aead_backend, aead_backends, check_aead_backend, Job, PacketKey, TAG_SIZE, UNENCRYPTED,
};
pub use secret::{entropy, Secret};
pub use text::NotAKey;
pub use x25519::ZeroSecret;
