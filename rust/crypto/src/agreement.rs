//! [`KeyExchange`]: IKE's Diffie-Hellman groups (RFC 7296 3.4, RFC 5903, RFC 8031), each used once.
//!
//! What the peer sends is checked before it is used (RFC 6989): its exact length; MODP: 2 to p-2 (the primes are safe ones, so
//! nothing else leads to a small subgroup); ECP: both coordinates below p, on the curve; X25519: the result is not zero.
//!
//! MODP exponents have twice the bits of the group's strength (NIST SP 800-56A rev. 3, appendix D) and 256 at least: full-length ones
//! would cost eight times as much and add nothing.

use core::fmt;

use crate::secret::on_wiped_stack;
use crate::sys::ecp::{self, Curve};
use crate::sys::modp;
use crate::{x25519, KeyMaterial, Secret};

/// IANA's "Transform Type 4" numbers that are served here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Bits of the prime. 1024 and 1536 are weak, for peers that have nothing else.
    Modp(usize),
    Ecp(Curve),
    X25519,
}

impl Group {
    pub const NUMBERS: [u16; 11] = [2, 5, 14, 15, 16, 17, 18, 19, 20, 21, 31];

    pub fn from_number(number: u16) -> Option<Self> {
        match number {
            2 => Some(Self::Modp(1024)),
            5 => Some(Self::Modp(1536)),
            14 => Some(Self::Modp(2048)),
            15 => Some(Self::Modp(3072)),
            16 => Some(Self::Modp(4096)),
            17 => Some(Self::Modp(6144)),
            18 => Some(Self::Modp(8192)),
            19 => Some(Self::Ecp(Curve::P256)),
            20 => Some(Self::Ecp(Curve::P384)),
            21 => Some(Self::Ecp(Curve::P521)),
            31 => Some(Self::X25519),
            _ => None,
        }
    }

    /// Bytes of a public value.
    pub fn public_size(self) -> usize {
        match self {
            Self::Modp(bits) => bits / 8,
            Self::Ecp(curve) => 2 * curve.size(),
            Self::X25519 => Secret::SIZE,
        }
    }

    /// Bytes of what both sides then share.
    pub fn shared_size(self) -> usize {
        match self {
            Self::Modp(bits) => bits / 8,
            Self::Ecp(curve) => curve.size(),
            Self::X25519 => Secret::SIZE,
        }
    }
}

/// The prime of RFC 2409, 6.2: 2^1024 - 2^960 - 1 + 2^64 (floor(2^894 pi) + 129093).
const PRIME_1024: [u8; 128] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc9, 0x0f, 0xda, 0xa2, 0x21, 0x68, 0xc2, 0x34,
    0xc4, 0xc6, 0x62, 0x8b, 0x80, 0xdc, 0x1c, 0xd1, 0x29, 0x02, 0x4e, 0x08, 0x8a, 0x67, 0xcc, 0x74,
    0x02, 0x0b, 0xbe, 0xa6, 0x3b, 0x13, 0x9b, 0x22, 0x51, 0x4a, 0x08, 0x79, 0x8e, 0x34, 0x04, 0xdd,
    0xef, 0x95, 0x19, 0xb3, 0xcd, 0x3a, 0x43, 0x1b, 0x30, 0x2b, 0x0a, 0x6d, 0xf2, 0x5f, 0x14, 0x37,
    0x4f, 0xe1, 0x35, 0x6d, 0x6d, 0x51, 0xc2, 0x45, 0xe4, 0x85, 0xb5, 0x76, 0x62, 0x5e, 0x7e, 0xc6,
    0xf4, 0x4c, 0x42, 0xe9, 0xa6, 0x37, 0xed, 0x6b, 0x0b, 0xff, 0x5c, 0xb6, 0xf4, 0x06, 0xb7, 0xed,
    0xee, 0x38, 0x6b, 0xfb, 0x5a, 0x89, 0x9f, 0xa5, 0xae, 0x9f, 0x24, 0x11, 0x7c, 0x4b, 0x1f, 0xe6,
    0x49, 0x28, 0x66, 0x51, 0xec, 0xe6, 0x53, 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
];

fn prime(bits: usize) -> Option<Vec<u8>> {
    if bits == 1024 {
        return Some(PRIME_1024.to_vec());
    }
    modp::rfc3526_prime(bits)
}

/// Bytes of a private exponent.
fn exponent_size(bits: usize) -> usize {
    match bits {
        4096 => 40,
        6144 => 44,
        8192 => 52,
        _ => 32,
    }
}

/// The peer's value has the wrong length, is out of range, not on the curve, or gives zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidPublicValue;

impl fmt::Display for InvalidPublicValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the Diffie-Hellman value is not valid in its group")
    }
}

impl std::error::Error for InvalidPublicValue {}

/// Why there is no key: the system has no entropy or no memory, or the number given is not a private key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoPrivateKey;

enum Private {
    Modp {
        exponent: KeyMaterial,
        prime: Vec<u8>,
    },
    Ecp(ecp::PrivateKey),
    X25519(Secret),
}

/// One side of one exchange.
pub struct KeyExchange {
    group: Group,
    private: Private,
    public: Vec<u8>,
}

impl KeyExchange {
    /// # Errors
    /// [`NoPrivateKey`]: no entropy, no memory.
    pub fn new(group: Group) -> Result<Self, NoPrivateKey> {
        let private = match group {
            Group::Modp(bits) => {
                let exponent =
                    KeyMaterial::random(exponent_size(bits)).map_err(|_| NoPrivateKey)?;
                return Self::with_private(group, exponent.expose());
            }
            Group::Ecp(curve) => Private::Ecp(random_scalar(curve)?),
            Group::X25519 => Private::X25519(Secret::random().map_err(|_| NoPrivateKey)?.clamp()),
        };
        Self::from_private(group, private)
    }

    /// With a private key of the caller's: for published vectors.
    ///
    /// # Errors
    /// [`NoPrivateKey`] when it is not one.
    pub fn with_private(group: Group, private: &[u8]) -> Result<Self, NoPrivateKey> {
        let private = match group {
            Group::Modp(bits) => Private::Modp {
                exponent: KeyMaterial::from_slice(private),
                prime: prime(bits).ok_or(NoPrivateKey)?,
            },
            Group::Ecp(curve) => on_wiped_stack(|| ecp::PrivateKey::from_number(curve, private))
                .map(Private::Ecp)
                .ok_or(NoPrivateKey)?,
            Group::X25519 => Private::X25519(Secret::from_slice(
                private.try_into().map_err(|_| NoPrivateKey)?,
            )),
        };
        Self::from_private(group, private)
    }

    fn from_private(group: Group, private: Private) -> Result<Self, NoPrivateKey> {
        let public = match &private {
            Private::Modp { exponent, prime } => {
                let mut public = vec![0; prime.len()];
                on_wiped_stack(|| modp::power(&[2], exponent.expose(), prime, &mut public))
                    .then_some(public)
            }
            Private::Ecp(key) => key.public(),
            Private::X25519(key) => Some(x25519::public_key(key).to_vec()),
        };
        Ok(Self {
            group,
            public: public.ok_or(NoPrivateKey)?,
            private,
        })
    }

    pub fn group(&self) -> Group {
        self.group
    }

    /// As KE payloads carry it.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// g^ir as SKEYSEED takes it. The private key is used up: one exchange, one answer.
    ///
    /// # Errors
    /// [`InvalidPublicValue`].
    pub fn agree(self, peer: &[u8]) -> Result<KeyMaterial, InvalidPublicValue> {
        if peer.len() != self.group.public_size() {
            return Err(InvalidPublicValue);
        }
        match &self.private {
            Private::Modp { exponent, prime } => {
                if !in_range(peer, prime) {
                    return Err(InvalidPublicValue);
                }
                self.write(|out| modp::power(peer, exponent.expose(), prime, out))
            }
            Private::Ecp(key) => self.write(|out| key.agree(peer, out)),
            Private::X25519(key) => {
                let peer = peer.try_into().map_err(|_| InvalidPublicValue)?;
                let shared = x25519::dh(key, peer).map_err(|_| InvalidPublicValue)?;
                Ok(KeyMaterial::from_slice(shared.expose()))
            }
        }
    }

    fn write(
        &self,
        agree: impl FnOnce(&mut [u8]) -> bool,
    ) -> Result<KeyMaterial, InvalidPublicValue> {
        KeyMaterial::try_fill(self.group.shared_size(), |out| {
            if on_wiped_stack(|| agree(out)) {
                Ok(())
            } else {
                Err(InvalidPublicValue)
            }
        })
    }
}

/// A private key from the operating system's generator alone: the library's own takes 40 ms to start.
///
/// Drawn again when it is not below the curve's order (FIPS 186-5, A.2.2), which for all three is all but impossible.
fn random_scalar(curve: Curve) -> Result<ecp::PrivateKey, NoPrivateKey> {
    const TRIES: usize = 64;
    for _ in 0..TRIES {
        let number = KeyMaterial::try_fill(curve.size(), |raw| {
            getrandom::fill(raw)?;
            if curve == Curve::P521 {
                raw[0] &= 1;
            }
            Ok::<_, getrandom::Error>(())
        });
        let number = number.map_err(|_| NoPrivateKey)?;
        let key = on_wiped_stack(|| ecp::PrivateKey::from_number(curve, number.expose()));
        if let Some(key) = key {
            return Ok(key);
        }
    }
    Err(NoPrivateKey)
}

/// 2 <= value <= prime - 2, both big-endian and of one length; all is public. The primes end in 0xff, so prime - 1 differs from the
/// prime in its last byte alone.
fn in_range(value: &[u8], prime: &[u8]) -> bool {
    let Some((last, above)) = value.split_last() else {
        return false;
    };
    let small = *last < 2 && above.iter().all(|byte| *byte == 0);
    let mut minus_one = prime.to_vec();
    if let Some(last) = minus_one.last_mut() {
        *last -= 1;
    }
    !small && value < minus_one.as_slice()
}
