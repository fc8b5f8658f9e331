"""
Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, step by step: the two messages of WireGuard's handshake.

        <- s                                   the initiator knows the responder's static key beforehand
        ...
        -> e, es, s, ss, {timestamp}           create_initiation | consume_static + consume_payload
        <- e, ee, se, psk, {}                  create_response   | consume_response

Two running values go through it: `chain`, a secret into which every Diffie-Hellman result is mixed, and `hash`, public,
into which everything sent is mixed, so that both sides agree on all of it or no tag opens. As in the paper:

    mix e          chain = KDF1(chain, e);  hash = HASH(hash, e)       (the chain too, as in all PSK patterns)
    mix DH         chain, key = KDF2(chain, dh)
    seal           ciphertext = AEAD(key, 0, plaintext, hash);  hash = HASH(hash, ciphertext)
    mix psk        chain, tau, key = KDF3(chain, psk);  hash = HASH(hash, tau)
    split          KDF2(chain, "") = (initiator's sending key, responder's sending key)

Rules:
- Functions only: what a step needs comes in, what the next one needs goes out. A caller that gets an exception has lost
  nothing and changed nothing.
- Secrets are opaque handles of the engine, zeroed when the last reference drops; no byte of a key is ever seen here.
- A Diffie-Hellman result of zero (a low-order point) is `ZeroSecret`, at every one of them; a tag that does not open, or
  a static key that is not ours to talk to, is `AuthenticationFailed`.
- Prologue and payloads are arguments, so the published Noise vectors run through these very functions; WireGuard fixes
  the prologue to its identifier, the first payload to a timestamp, the second to nothing.

The static-static result is the caller's to keep: it is the same for every handshake with a peer.

Source: WireGuard paper 5.4; Noise specification rev 34, 5 and 9.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ginnel import crypto
from ginnel.crypto import Secret

CONSTRUCTION: Final = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER: Final = b"WireGuard v1 zx2c4 Jason@zx2c4.com"

#: The name is longer than a hash, so Noise starts from its hash; it is no secret yet.
_CONSTRUCTION_HASH: Final = crypto.hash(CONSTRUCTION)
_INITIAL_CHAIN: Final = Secret.from_bytes(_CONSTRUCTION_HASH)


class Initiated(NamedTuple):
    """What an initiator keeps until the response comes. It is bound to the remote static key through *hash*."""

    ephemeral: Secret
    chain: Secret
    hash: bytes


class HalfConsumed(NamedTuple):
    """A responder half way through an initiation: it knows who claims to be calling, and nothing is proven yet."""

    chain: Secret
    hash: bytes
    remote_static: bytes
    remote_ephemeral: bytes


class Consumed(NamedTuple):
    """What a responder answers from: the initiator has proven who it is (but not that the message is fresh)."""

    chain: Secret
    hash: bytes
    remote_static: bytes
    remote_ephemeral: bytes


class SessionKeys(NamedTuple):
    """Both keys of a session, named by who sends with them."""

    initiator_sends: Secret
    responder_sends: Secret


def initial_hash(responder_static: bytes, prologue: bytes = IDENTIFIER) -> bytes:
    """The hash that all handshakes *to* one static key start from; worth keeping."""
    return crypto.hash(crypto.hash(_CONSTRUCTION_HASH, prologue), responder_static)


def create_initiation(
    start: bytes,
    local_static: bytes,
    remote_static: bytes,
    static_static: Secret,
    payload: bytes,
    ephemeral: Secret,
) -> tuple[Initiated, bytes, bytes, bytes]:
    """
    The first message: e, es, s, ss, payload.

    Args:
        start: `initial_hash` of *remote_static*.
        local_static: our public key.
        remote_static: the responder's public key.
        static_static: DH of our private key with *remote_static*.
        payload: a TAI64N timestamp in WireGuard.
        ephemeral: a fresh private key, used for this message only.

    Returns:
        (what to keep, ephemeral public key, encrypted static, encrypted payload).

    Raises:
        ZeroSecret: *remote_static* is a low-order point.
    """
    ephemeral_public = crypto.public_key(ephemeral)
    chain = crypto.kdf1(_INITIAL_CHAIN, ephemeral_public)
    running = crypto.hash(start, ephemeral_public)
    chain, key = crypto.kdf2(chain, crypto.dh(ephemeral, remote_static))
    encrypted_static = crypto.aead_seal(key, 0, local_static, running)
    running = crypto.hash(running, encrypted_static)
    chain, key = crypto.kdf2(chain, static_static)
    encrypted_payload = crypto.aead_seal(key, 0, payload, running)
    running = crypto.hash(running, encrypted_payload)
    return Initiated(ephemeral, chain, running), ephemeral_public, encrypted_static, encrypted_payload


def consume_static(start: bytes, local_private: Secret, ephemeral: bytes, encrypted_static: bytes) -> HalfConsumed:
    """
    The first half of an initiation, e, es, s: who says to be calling. To be followed by `consume_payload`.

    Args:
        start: `initial_hash` of our own static key.
        local_private: our private key.
        ephemeral, encrypted_static: as received.

    Raises:
        ZeroSecret: the ephemeral is a low-order point.
        AuthenticationFailed: it was not sealed to our static key.
    """
    chain = crypto.kdf1(_INITIAL_CHAIN, ephemeral)
    running = crypto.hash(start, ephemeral)
    chain, key = crypto.kdf2(chain, crypto.dh(local_private, ephemeral))
    remote_static = crypto.aead_open(key, 0, encrypted_static, running)
    return HalfConsumed(chain, crypto.hash(running, encrypted_static), remote_static, ephemeral)


def consume_payload(half: HalfConsumed, static_static: Secret, encrypted_payload: bytes) -> tuple[Consumed, bytes]:
    """
    The second half of an initiation, ss, payload: the caller proves to be who it said.

    Args:
        half: from `consume_static`.
        static_static: DH of our private key with *half*.remote_static.
        encrypted_payload: as received.

    Returns:
        (what to answer from, the payload).

    Raises:
        AuthenticationFailed: the sender does not hold the private key of *half*.remote_static.
    """
    chain, key = crypto.kdf2(half.chain, static_static)
    payload = crypto.aead_open(key, 0, encrypted_payload, half.hash)
    running = crypto.hash(half.hash, encrypted_payload)
    return Consumed(chain, running, half.remote_static, half.remote_ephemeral), payload


def create_response(
    consumed: Consumed, preshared_key: Secret, ephemeral: Secret, payload: bytes = b""
) -> tuple[SessionKeys, bytes, bytes]:
    """
    The second message: e, ee, se, psk, payload.

    Args:
        consumed: from `consume_payload`.
        preshared_key: of this peer; all zero for none.
        ephemeral: a fresh private key, used for this message only.
        payload: nothing in WireGuard; the tag over it is the proof.

    Returns:
        (the session's keys, ephemeral public key, encrypted payload).

    Raises:
        ZeroSecret: one of the initiator's keys is a low-order point.
    """
    ephemeral_public = crypto.public_key(ephemeral)
    chain = crypto.kdf1(consumed.chain, ephemeral_public)
    running = crypto.hash(consumed.hash, ephemeral_public)
    chain = crypto.kdf1(chain, crypto.dh(ephemeral, consumed.remote_ephemeral))
    chain = crypto.kdf1(chain, crypto.dh(ephemeral, consumed.remote_static))
    chain, key, running = _mix_psk(chain, running, preshared_key)
    encrypted_payload = crypto.aead_seal(key, 0, payload, running)
    return _split(chain), ephemeral_public, encrypted_payload


def consume_response(
    initiated: Initiated, local_private: Secret, preshared_key: Secret, ephemeral: bytes, encrypted_payload: bytes
) -> tuple[SessionKeys, bytes]:
    """
    Take the second message: e, ee, se, psk, payload.

    Args:
        initiated: from `create_initiation`.
        local_private: our private key.
        preshared_key: of this peer; all zero for none.
        ephemeral, encrypted_payload: as received.

    Returns:
        (the session's keys, the payload).

    Raises:
        ZeroSecret: the ephemeral is a low-order point.
        AuthenticationFailed: the responder is not who we called, or has another preshared key.
    """
    chain = crypto.kdf1(initiated.chain, ephemeral)
    running = crypto.hash(initiated.hash, ephemeral)
    chain = crypto.kdf1(chain, crypto.dh(initiated.ephemeral, ephemeral))
    chain = crypto.kdf1(chain, crypto.dh(local_private, ephemeral))
    chain, key, running = _mix_psk(chain, running, preshared_key)
    payload = crypto.aead_open(key, 0, encrypted_payload, running)
    return _split(chain), payload


def _mix_psk(chain: Secret, running: bytes, preshared_key: Secret) -> tuple[Secret, Secret, bytes]:
    chain, tau, key = crypto.kdf3(chain, preshared_key)
    return chain, key, crypto.hash(running, tau)


def _split(chain: Secret) -> SessionKeys:
    return SessionKeys(*crypto.kdf2(chain, b""))
