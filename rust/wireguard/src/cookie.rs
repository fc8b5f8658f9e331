//! The two MACs of a handshake message and the cookies behind the second (paper 5.4.4, 5.4.7).
//!
//! `mac1` shows that the sender knows our public key. `mac2` shows that it received a datagram at the address *and port*
//! that it claims: its key is the cookie, a MAC of that place under a secret of ours, sent there in a cookie reply. The secret
//! lives 120 s, and what it made dies with it: there is never a second valid one.
//!
//! Nothing is stored for any sender. Secrets and nonces are drawn from a random seed by hashing a counter, so that a run
//! under a simulated clock repeats bit for bit; to who does not know the seed they are random, and no nonce comes twice.

use crate::constants::{COOKIE_REPLY_SIZE, COOKIE_SECRET_MAX_AGE_NS, MAC_SIZE, TYPE_COOKIE_REPLY};
use ginnel_crypto::{aead, blake2s, Secret};
use std::net::{IpAddr, SocketAddr};

/// Issues and verifies cookies, verifies `mac1`.
pub(crate) struct Cookies {
    seed: Secret,
    /// How many values were drawn from the seed.
    drawn: u64,
    secret: Secret,
    /// When `secret` was drawn; none was yet = never valid.
    secret_born_ns: Option<u64>,
    keys: Option<Keys>,
}

/// Derived from our public key, and as public as that.
struct Keys {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl Cookies {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        Self {
            seed: Secret::from_slice(seed),
            drawn: 0,
            secret: Secret::zero(),
            secret_born_ns: None,
            keys: None,
        }
    }

    /// Without a key nothing verifies.
    pub(crate) fn set_public_key(&mut self, public: Option<&[u8; 32]>) {
        self.keys = public.map(|public| Keys {
            mac1: blake2s::hash(&[b"mac1----", public]),
            cookie: blake2s::hash(&[b"cookie--", public]),
        });
    }

    pub(crate) fn has_key(&self) -> bool {
        self.keys.is_some()
    }

    /// `msg` is an initiation or a response of the right length.
    pub(crate) fn mac1_is_valid(&self, msg: &[u8]) -> bool {
        let Some(keys) = &self.keys else { return false };
        let Some((before, mac1, _)) = take_apart(msg) else {
            return false;
        };
        blake2s::mac_equal(&keys.mac1, &[before], mac1) == Ok(true)
    }

    /// Whether the sender of `msg` has our cookie for `src`.
    pub(crate) fn mac2_is_valid(&self, msg: &[u8], src: &SocketAddr, now_ns: u64) -> bool {
        let Some((before, mac1, mac2)) = take_apart(msg) else {
            return false;
        };
        if *mac2 == [0; MAC_SIZE] || !self.secret_is_fresh(now_ns) {
            return false;
        }
        let Some(cookie) = self.cookie(src) else {
            return false;
        };
        blake2s::mac_equal(&cookie, &[before, mac1], mac2) == Ok(true)
    }

    /// The cookie reply that answers `msg`; None without a key.
    pub(crate) fn reply(
        &mut self,
        msg: &[u8],
        src: &SocketAddr,
        now_ns: u64,
    ) -> Option<[u8; COOKIE_REPLY_SIZE]> {
        if !self.secret_is_fresh(now_ns) {
            self.secret = Secret::from_slice(&self.draw(b"secret"));
            self.secret_born_ns = Some(now_ns);
        }
        let drawn = self.draw(b"nonce");
        let nonce: &[u8; 24] = drawn.first_chunk()?;
        let (_, mac1, _) = take_apart(msg)?;
        let sealed =
            aead::xseal(&self.keys.as_ref()?.cookie, nonce, &self.cookie(src)?, mac1).ok()?;
        let mut reply = [0; COOKIE_REPLY_SIZE];
        reply[..4].copy_from_slice(&TYPE_COOKIE_REPLY.to_le_bytes());
        reply[4..8].copy_from_slice(&msg[4..8]);
        reply[8..32].copy_from_slice(nonce);
        reply[32..].copy_from_slice(&sealed);
        Some(reply)
    }

    fn secret_is_fresh(&self, now_ns: u64) -> bool {
        self.secret_born_ns
            .is_some_and(|born| now_ns.saturating_sub(born) < COOKIE_SECRET_MAX_AGE_NS)
    }

    /// The cookie of a place: address and port.
    fn cookie(&self, src: &SocketAddr) -> Option<[u8; MAC_SIZE]> {
        let port = src.port().to_be_bytes();
        match src.ip() {
            IpAddr::V4(addr) => blake2s::mac(self.secret.expose(), &[&addr.octets(), &port]).ok(),
            IpAddr::V6(addr) => blake2s::mac(self.secret.expose(), &[&addr.octets(), &port]).ok(),
        }
    }

    fn draw(&mut self, purpose: &[u8]) -> [u8; 32] {
        self.drawn += 1;
        blake2s::hash(&[self.seed.expose(), purpose, &self.drawn.to_le_bytes()])
    }
}

/// (all before mac1, mac1, mac2).
pub(crate) fn take_apart(msg: &[u8]) -> Option<(&[u8], &[u8; MAC_SIZE], &[u8; MAC_SIZE])> {
    let (rest, mac2) = msg.split_last_chunk()?;
    let (before, mac1) = rest.split_last_chunk()?;
    Some((before, mac1, mac2))
}
