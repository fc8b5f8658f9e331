//! SHA and HMAC (RFC 2104) as IKE and ESP use them.
//!
//! [`Hmac`] holds the two states that a key leads to, so that a packet pays for its own bytes alone and nothing is allocated.
//! What a key led to is zeroed: the states when the `Hmac` is dropped, the running copies at the end of each use.

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::sys::sha::State;

/// SHA-1 for peers that have nothing else (as HMAC it is not broken), and for NAT detection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// The largest digest.
pub const MAX_SIZE: usize = 64;

impl Hash {
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of a digest.
    pub fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Bytes of a block: a longer HMAC key is hashed first.
    fn block(self) -> usize {
        match self {
            Self::Sha1 | Self::Sha256 => 64,
            Self::Sha384 | Self::Sha512 => 128,
        }
    }

    fn start(self) -> State {
        match self {
            Self::Sha1 => State::sha1(),
            Self::Sha256 => State::sha256(),
            Self::Sha384 => State::sha384(),
            Self::Sha512 => State::sha512(),
        }
    }

    /// The digest of the concatenation, of public bytes.
    pub fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        let mut state = self.start();
        for part in parts {
            state.update(part);
        }
        let mut out = [0; MAX_SIZE];
        state.finish(&mut out);
        out[..self.size()].to_vec()
    }
}

/// Whether two byte strings are equal, in constant time for equal lengths.
pub fn bytes_equal(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// A digest: the first [`Hash::size`] bytes count.
pub type Digest = Zeroizing<[u8; MAX_SIZE]>;

struct Prepared {
    inner: State,
    outer: State,
}

/// HMAC under one key, of any length.
pub struct Hmac {
    hash: Hash,
    prepared: Box<Prepared>,
}

impl Hmac {
    pub fn new(hash: Hash, key: &[u8]) -> Self {
        let mut block = Zeroizing::new([0; 128]);
        if key.len() > hash.block() {
            let mut state = hash.start();
            state.update(key);
            let mut digest = Digest::new([0; MAX_SIZE]);
            state.finish(&mut digest);
            state.zeroize();
            block[..hash.size()].copy_from_slice(&digest[..hash.size()]);
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let block = &mut block[..hash.block()];
        let mut prepared = Box::new(Prepared {
            inner: hash.start(),
            outer: hash.start(),
        });
        for byte in block.iter_mut() {
            *byte ^= 0x36;
        }
        prepared.inner.update(block);
        for byte in block.iter_mut() {
            *byte ^= 0x36 ^ 0x5c;
        }
        prepared.outer.update(block);
        Self { hash, prepared }
    }

    /// The MAC of the concatenation.
    pub fn sign(&self, parts: &[&[u8]]) -> Digest {
        let mut out = Digest::new([0; MAX_SIZE]);
        let mut state = self.prepared.inner;
        for part in parts {
            state.update(part);
        }
        state.finish(&mut out);
        state.zeroize();
        let mut state = self.prepared.outer;
        state.update(&out[..self.hash.size()]);
        state.finish(&mut out);
        state.zeroize();
        out
    }

    /// Whether `tag` is the MAC of the concatenation, truncated to the tag's own size. Constant time.
    ///
    /// # Panics
    /// On a tag that is empty or longer than the digest: its size is the suite's, never a peer's.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        assert!(!tag.is_empty() && tag.len() <= self.hash.size());
        self.sign(parts)[..tag.len()].ct_eq(tag).into()
    }
}

impl Drop for Hmac {
    fn drop(&mut self) {
        self.prepared.inner.zeroize();
        self.prepared.outer.zeroize();
    }
}
