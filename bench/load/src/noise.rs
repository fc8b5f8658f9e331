//! The initiator's half of a WireGuard handshake (paper 5.4), and what a forger makes of it.
//!
//! Written apart from the product, with other libraries: a mistake there is not repeated here.

use blake2::digest::consts::{U16, U32};
use blake2::digest::{Digest, FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::ChaCha20Poly1305;
use hmac::SimpleHmac;
use x25519_dalek::{PublicKey, StaticSecret};

pub type Hash = [u8; 32];

pub const INITIATION_SIZE: usize = 148;
pub const RESPONSE_SIZE: usize = 92;
pub const COOKIE_REPLY_SIZE: usize = 64;

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

pub fn hash(parts: &[&[u8]]) -> Hash {
    let mut state = Blake2s256::new();
    for part in parts {
        Digest::update(&mut state, part);
    }
    state.finalize().into()
}

/// Keyed BLAKE2s with a 16-byte output; the key is one of ours, or a cookie of 16 bytes.
pub fn mac<const N: usize>(key: &[u8; N], data: &[u8]) -> [u8; 16] {
    const { assert!(N >= 1 && N <= 32, "BLAKE2s takes keys of 1 to 32 bytes") };
    <Blake2sMac<U16> as KeyInit>::new_from_slice(key).map_or([0; 16], |mut state| {
        Update::update(&mut state, data);
        state.finalize_fixed().into()
    })
}

fn hmac(key: &Hash, parts: &[&[u8]]) -> Hash {
    let mut state = <SimpleHmac<Blake2s256> as KeyInit>::new(blake2::digest::Key::<
        SimpleHmac<Blake2s256>,
    >::from_slice(&padded(key)));
    for part in parts {
        Update::update(&mut state, part);
    }
    let output: blake2::digest::generic_array::GenericArray<u8, U32> = state.finalize_fixed();
    output.into()
}

/// HMAC keys are padded with zeros to the block size anyway.
fn padded(key: &Hash) -> [u8; 64] {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    block
}

fn kdf<const N: usize>(chain: &Hash, input: &[u8]) -> [Hash; N] {
    let secret = hmac(chain, &[input]);
    let mut outputs = [[0; 32]; N];
    let mut before: &[u8] = &[];
    for (number, output) in outputs.iter_mut().enumerate() {
        *output = hmac(&secret, &[before, &[number as u8 + 1]]);
        before = output;
    }
    outputs
}

fn seal(key: &Hash, plaintext: &[u8], ad: &Hash) -> Vec<u8> {
    // Encryption fails only beyond 256 GiB.
    ChaCha20Poly1305::new(key.into())
        .encrypt(
            &[0; 12].into(),
            Payload {
                msg: plaintext,
                aad: ad,
            },
        )
        .unwrap_or_default()
}

/// The responder that all initiations go to.
pub struct Responder {
    public: PublicKey,
    hash: Hash,
    chain: Hash,
    mac1_key: Hash,
}

impl Responder {
    pub fn new(public: [u8; 32]) -> Self {
        let chain = hash(&[CONSTRUCTION]);
        Self {
            public: PublicKey::from(public),
            hash: hash(&[&hash(&[&chain, IDENTIFIER]), &public]),
            chain,
            mac1_key: hash(&[b"mac1----", &public]),
        }
    }

    /// Give a message of any type the mac1 that its length asks for.
    pub fn set_mac1(&self, msg: &mut [u8]) {
        let at = msg.len() - 32;
        let mac1 = mac(&self.mac1_key, &msg[..at]);
        msg[at..at + 16].copy_from_slice(&mac1);
    }
}

/// A peer of the responder.
pub struct Peer {
    private: StaticSecret,
    pub public: [u8; 32],
    static_static: [u8; 32],
}

/// What an initiator remembers until the response.
pub struct Pending {
    ephemeral: StaticSecret,
    hash: Hash,
    chain: Hash,
}

impl Peer {
    /// The peer of this number: its key is a hash of the seed, so that no list has to be kept.
    pub fn new(seed: &str, number: u32, responder: &Responder) -> Self {
        let (private, public) = keys(seed, number);
        let static_static = private.diffie_hellman(&responder.public).to_bytes();
        Self {
            private,
            public,
            static_static,
        }
    }

    /// A genuine initiation with this sender index and TAI64N timestamp.
    pub fn initiate(
        &self,
        responder: &Responder,
        index: u32,
        timestamp: [u8; 12],
        random: [u8; 32],
    ) -> ([u8; INITIATION_SIZE], Pending) {
        let ephemeral = StaticSecret::from(random);
        let ephemeral_public = PublicKey::from(&ephemeral).to_bytes();
        let mut h = hash(&[&responder.hash, &ephemeral_public]);
        let [chain] = kdf(&responder.chain, &ephemeral_public);
        let [chain, key] = kdf(
            &chain,
            ephemeral.diffie_hellman(&responder.public).as_bytes(),
        );
        let sealed_static = seal(&key, &self.public, &h);
        h = hash(&[&h, &sealed_static]);
        let [chain, key] = kdf(&chain, &self.static_static);
        let sealed_timestamp = seal(&key, &timestamp, &h);
        h = hash(&[&h, &sealed_timestamp]);
        let mut msg = [0; INITIATION_SIZE];
        msg[0] = 1;
        msg[4..8].copy_from_slice(&index.to_le_bytes());
        msg[8..40].copy_from_slice(&ephemeral_public);
        msg[40..88].copy_from_slice(&sealed_static);
        msg[88..116].copy_from_slice(&sealed_timestamp);
        responder.set_mac1(&mut msg);
        (
            msg,
            Pending {
                ephemeral,
                hash: h,
                chain,
            },
        )
    }

    /// Whether `msg` is a response that only the responder can have made (no preshared key).
    pub fn accepts(&self, pending: &Pending, msg: &[u8]) -> bool {
        let Some(ephemeral) = msg
            .get(12..44)
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        else {
            return false;
        };
        let h = hash(&[&pending.hash, &ephemeral]);
        let [chain] = kdf(&pending.chain, &ephemeral);
        let ephemeral = PublicKey::from(ephemeral);
        let [chain] = kdf(
            &chain,
            pending.ephemeral.diffie_hellman(&ephemeral).as_bytes(),
        );
        let [chain] = kdf(&chain, self.private.diffie_hellman(&ephemeral).as_bytes());
        let [_, tau, key] = kdf(&chain, &[0; 32]);
        let h = hash(&[&h, &tau]);
        let Some(nothing) = msg.get(44..60) else {
            return false;
        };
        ChaCha20Poly1305::new(&key.into())
            .decrypt(
                &[0; 12].into(),
                Payload {
                    msg: nothing,
                    aad: &h,
                },
            )
            .is_ok()
    }
}

/// The key pair of this number.
pub fn keys(seed: &str, number: u32) -> (StaticSecret, [u8; 32]) {
    let private = StaticSecret::from(hash(&[
        b"ginnel-load",
        seed.as_bytes(),
        &number.to_le_bytes(),
    ]));
    let public = PublicKey::from(&private).to_bytes();
    (private, public)
}

/// TAI64N of a time since 1970.
pub fn tai64n(since_epoch: std::time::Duration) -> [u8; 12] {
    let mut stamp = [0; 12];
    stamp[..8].copy_from_slice(&(0x4000_0000_0000_000a + since_epoch.as_secs()).to_be_bytes());
    stamp[8..].copy_from_slice(&since_epoch.subsec_nanos().to_be_bytes());
    stamp
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn open(key: &Hash, ciphertext: &[u8], ad: &Hash) -> Option<Vec<u8>> {
        ChaCha20Poly1305::new(key.into())
            .decrypt(
                &[0; 12].into(),
                Payload {
                    msg: ciphertext,
                    aad: ad,
                },
            )
            .ok()
    }

    /// The responder's half, from the paper: reads an initiation and answers it.
    fn respond(
        private: &StaticSecret,
        msg: &[u8; INITIATION_SIZE],
    ) -> ([u8; 32], Vec<u8>, [u8; RESPONSE_SIZE]) {
        let public = PublicKey::from(private).to_bytes();
        let responder = Responder::new(public);
        assert_eq!(msg[116..132], mac(&responder.mac1_key, &msg[..116]));
        let ephemeral: [u8; 32] = msg[8..40].try_into().unwrap();
        let h = hash(&[&responder.hash, &ephemeral]);
        let [chain] = kdf(&responder.chain, &ephemeral);
        let ephemeral = PublicKey::from(ephemeral);
        let [chain, key] = kdf(&chain, private.diffie_hellman(&ephemeral).as_bytes());
        let peer: [u8; 32] = open(&key, &msg[40..88], &h).unwrap().try_into().unwrap();
        let h = hash(&[&h, &msg[40..88]]);
        let [chain, key] = kdf(
            &chain,
            private.diffie_hellman(&PublicKey::from(peer)).as_bytes(),
        );
        let stamp = open(&key, &msg[88..116], &h).unwrap();
        let h = hash(&[&h, &msg[88..116]]);

        let own = StaticSecret::from([9; 32]);
        let own_public = PublicKey::from(&own).to_bytes();
        let h = hash(&[&h, &own_public]);
        let [chain] = kdf(&chain, &own_public);
        let [chain] = kdf(&chain, own.diffie_hellman(&ephemeral).as_bytes());
        let [chain] = kdf(
            &chain,
            own.diffie_hellman(&PublicKey::from(peer)).as_bytes(),
        );
        let [_, tau, key] = kdf(&chain, &[0; 32]);
        let h = hash(&[&h, &tau]);
        let mut response = [0; RESPONSE_SIZE];
        response[0] = 2;
        response[8..12].copy_from_slice(&msg[4..8]);
        response[12..44].copy_from_slice(&own_public);
        response[44..60].copy_from_slice(&seal(&key, &[], &h));
        (peer, stamp, response)
    }

    #[test]
    fn a_responder_reads_the_initiation_and_its_answer_is_accepted() {
        let (private, public) = keys("responder", 0);
        let responder = Responder::new(public);
        let peer = Peer::new("seed", 5, &responder);
        let stamp = tai64n(std::time::Duration::new(1, 2));
        assert_eq!(stamp, [0x40, 0, 0, 0, 0, 0, 0, 0x0b, 0, 0, 0, 2]);
        let (msg, pending) = peer.initiate(&responder, 77, stamp, [3; 32]);
        let (from, read_stamp, response) = respond(&private, &msg);
        assert_eq!((from, read_stamp), (peer.public, stamp.to_vec()));
        assert!(peer.accepts(&pending, &response));
        for at in 12..60 {
            let mut changed = response;
            changed[at] ^= 1;
            // The top bit of a public key does not count (RFC 7748); this is the lowest.
            assert!(!peer.accepts(&pending, &changed), "byte {at}");
        }
        assert!(!Peer::new("seed", 6, &responder).accepts(&pending, &response));
    }

    #[test]
    fn keys_are_the_same_from_run_to_run_and_differ() {
        assert_eq!(keys("a", 1).1, keys("a", 1).1);
        assert_ne!(keys("a", 1).1, keys("a", 2).1);
        assert_ne!(keys("a", 1).1, keys("b", 1).1);
    }
}
