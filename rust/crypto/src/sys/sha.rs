//! SHA-1 and SHA-2 as plain values that can be copied while they run, and zeroed.

use aws_lc_sys::{
    SHA1_Final, SHA1_Init, SHA1_Update, SHA256_Final, SHA256_Init, SHA256_Update, SHA384_Final,
    SHA384_Init, SHA384_Update, SHA512_Final, SHA512_Init, SHA512_Update, SHA256_CTX, SHA512_CTX,
    SHA_CTX,
};
use zeroize::Zeroize;

/// A hash under way.
#[derive(Clone, Copy)]
pub enum State {
    Sha1(SHA_CTX),
    Sha256(SHA256_CTX),
    Sha384(SHA512_CTX),
    Sha512(SHA512_CTX),
}

const NONE_256: SHA256_CTX = SHA256_CTX {
    h: [0; 8],
    Nl: 0,
    Nh: 0,
    data: [0; 64],
    num: 0,
    md_len: 0,
};
const NONE_512: SHA512_CTX = SHA512_CTX {
    h: [0; 8],
    Nl: 0,
    Nh: 0,
    p: [0; 128],
    num: 0,
    md_len: 0,
};

// SAFETY of all calls below: the state is valid and ours alone, was initialised by its own hash's function, and lengths are
// those of the slices; each `Final` writes its hash's size, at most the 64 bytes that it is given. None of them can fail: they
// return 1 always.
impl State {
    pub fn sha1() -> Self {
        let mut state = SHA_CTX {
            h: [0; 5],
            Nl: 0,
            Nh: 0,
            data: [0; 64],
            num: 0,
        };
        // SAFETY: as above.
        unsafe { SHA1_Init(&raw mut state) };
        Self::Sha1(state)
    }

    pub fn sha256() -> Self {
        let mut state = NONE_256;
        // SAFETY: as above.
        unsafe { SHA256_Init(&raw mut state) };
        Self::Sha256(state)
    }

    pub fn sha384() -> Self {
        let mut state = NONE_512;
        // SAFETY: as above.
        unsafe { SHA384_Init(&raw mut state) };
        Self::Sha384(state)
    }

    pub fn sha512() -> Self {
        let mut state = NONE_512;
        // SAFETY: as above.
        unsafe { SHA512_Init(&raw mut state) };
        Self::Sha512(state)
    }

    pub fn update(&mut self, data: &[u8]) {
        let (from, size) = (data.as_ptr().cast(), data.len());
        // SAFETY: as above.
        unsafe {
            match self {
                Self::Sha1(state) => SHA1_Update(state, from, size),
                Self::Sha256(state) => SHA256_Update(state, from, size),
                Self::Sha384(state) => SHA384_Update(state, from, size),
                Self::Sha512(state) => SHA512_Update(state, from, size),
            };
        }
    }

    /// The digest, in the first bytes of `out`; the state is used up.
    pub fn finish(&mut self, out: &mut [u8; 64]) {
        let out = out.as_mut_ptr();
        // SAFETY: as above.
        unsafe {
            match self {
                Self::Sha1(state) => SHA1_Final(out, state),
                Self::Sha256(state) => SHA256_Final(out, state),
                Self::Sha384(state) => SHA384_Final(out, state),
                Self::Sha512(state) => SHA512_Final(out, state),
            };
        }
    }
}

impl Zeroize for State {
    fn zeroize(&mut self) {
        match self {
            Self::Sha1(state) => {
                state.h.zeroize();
                state.data.zeroize();
            }
            Self::Sha256(state) => {
                state.h.zeroize();
                state.data.zeroize();
            }
            Self::Sha384(state) | Self::Sha512(state) => {
                state.h.zeroize();
                state.p.zeroize();
            }
        }
    }
}
