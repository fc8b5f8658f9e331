//! [`Suite`]: the pairs of encryption and integrity that ESP and IKE are offered here, their names and sizes.
//!
//! One table has them all; names are those of a node file (strongSwan's words).

use core::fmt;

use aws_lc_rs::aead::{Algorithm, AES_128_GCM, AES_192_GCM, AES_256_GCM, CHACHA20_POLY1305};

use crate::hash::Hash;
use crate::sys::aes;

/// The part of an AEAD's key that is not the cipher's key.
pub(crate) const SALT_SIZE: usize = 4;
/// An AEAD's IV; salt and IV are its nonce.
pub(crate) const AEAD_IV: usize = 8;
const AEAD_TAG: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encryption {
    AesGcm128,
    AesGcm192,
    AesGcm256,
    ChaCha20Poly1305,
    AesCbc128,
    AesCbc192,
    AesCbc256,
}

/// `None` for AEADs, and only there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Integrity {
    None,
    HmacSha1_96,
    HmacSha256_128,
    HmacSha384_192,
    HmacSha512_256,
}

impl Integrity {
    pub(crate) fn hash(self) -> Option<Hash> {
        match self {
            Self::None => None,
            Self::HmacSha1_96 => Some(Hash::Sha1),
            Self::HmacSha256_128 => Some(Hash::Sha256),
            Self::HmacSha384_192 => Some(Hash::Sha384),
            Self::HmacSha512_256 => Some(Hash::Sha512),
        }
    }
}

/// What protects a packet: an AEAD, or CBC with an HMAC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suite {
    pub encryption: Encryption,
    pub integrity: Integrity,
}

const NAMES: [(&str, Encryption, Integrity); 16] = {
    use Encryption::{
        AesCbc128, AesCbc192, AesCbc256, AesGcm128, AesGcm192, AesGcm256, ChaCha20Poly1305,
    };
    use Integrity::{HmacSha1_96, HmacSha256_128, HmacSha384_192, HmacSha512_256, None};
    [
        ("aes128gcm16", AesGcm128, None),
        ("aes192gcm16", AesGcm192, None),
        ("aes256gcm16", AesGcm256, None),
        ("chacha20poly1305", ChaCha20Poly1305, None),
        ("aes128-sha1", AesCbc128, HmacSha1_96),
        ("aes128-sha256", AesCbc128, HmacSha256_128),
        ("aes128-sha384", AesCbc128, HmacSha384_192),
        ("aes128-sha512", AesCbc128, HmacSha512_256),
        ("aes192-sha1", AesCbc192, HmacSha1_96),
        ("aes192-sha256", AesCbc192, HmacSha256_128),
        ("aes192-sha384", AesCbc192, HmacSha384_192),
        ("aes192-sha512", AesCbc192, HmacSha512_256),
        ("aes256-sha1", AesCbc256, HmacSha1_96),
        ("aes256-sha256", AesCbc256, HmacSha256_128),
        ("aes256-sha384", AesCbc256, HmacSha384_192),
        ("aes256-sha512", AesCbc256, HmacSha512_256),
    ]
};

impl Suite {
    /// All suites there are, in the order in which they are documented.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.into_iter().map(|(_, encryption, integrity)| Self {
            encryption,
            integrity,
        })
    }

    pub fn parse(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(known, ..)| *known == name)
            .map(|&(_, encryption, integrity)| Self {
                encryption,
                integrity,
            })
    }

    /// As `parse` takes it; "none" for a pair that is no suite (an AEAD with an HMAC, or CBC without).
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, encryption, integrity)| {
                (*encryption, *integrity) == (self.encryption, self.integrity)
            })
            .map_or("none", |(name, ..)| name)
    }

    /// Bytes of key, an AEAD's salt included.
    pub fn key_len(self) -> usize {
        match self.encryption {
            Encryption::AesCbc128 => 16,
            Encryption::AesGcm128 => 16 + SALT_SIZE,
            Encryption::AesCbc192 => 24,
            Encryption::AesGcm192 => 24 + SALT_SIZE,
            Encryption::AesCbc256 => 32,
            Encryption::AesGcm256 | Encryption::ChaCha20Poly1305 => 32 + SALT_SIZE,
        }
    }

    /// Bytes of the HMAC's key: the hash's size; 0 for AEADs.
    pub fn integrity_len(self) -> usize {
        self.integrity.hash().map_or(0, Hash::size)
    }

    pub fn iv_len(self) -> usize {
        if self.is_aead() {
            AEAD_IV
        } else {
            aes::BLOCK
        }
    }

    pub fn icv_len(self) -> usize {
        match self.integrity {
            Integrity::None | Integrity::HmacSha256_128 => AEAD_TAG,
            Integrity::HmacSha1_96 => 12,
            Integrity::HmacSha384_192 => 24,
            Integrity::HmacSha512_256 => 32,
        }
    }

    /// What the text is a multiple of: 16 for CBC; 4 for all others, as ESP itself wants it.
    pub fn block(self) -> usize {
        if self.is_aead() {
            4
        } else {
            aes::BLOCK
        }
    }

    pub fn is_aead(self) -> bool {
        !matches!(
            self.encryption,
            Encryption::AesCbc128 | Encryption::AesCbc192 | Encryption::AesCbc256
        )
    }

    /// The AEAD of the library.
    pub(crate) fn aead(self) -> Option<&'static Algorithm> {
        match self.encryption {
            Encryption::AesGcm128 => Some(&AES_128_GCM),
            Encryption::AesGcm192 => Some(&AES_192_GCM),
            Encryption::AesGcm256 => Some(&AES_256_GCM),
            Encryption::ChaCha20Poly1305 => Some(&CHACHA20_POLY1305),
            Encryption::AesCbc128 | Encryption::AesCbc192 | Encryption::AesCbc256 => None,
        }
    }
}

/// A key's size is not what its suite takes (or an AEAD was paired with an HMAC, CBC with none).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongKeySize {
    pub suite: Suite,
    pub found: [usize; 2],
}

impl fmt::Display for WrongKeySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { suite, found } = self;
        write!(
            f,
            "{} takes a key of {} bytes and one of {} for integrity, found {} and {}",
            suite.name(),
            suite.key_len(),
            suite.integrity_len(),
            found[0],
            found[1]
        )
    }
}

impl std::error::Error for WrongKeySize {}
