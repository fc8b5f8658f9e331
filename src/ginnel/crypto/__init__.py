"""
The primitives under the names that the papers use, over opaque `Secret` handles.

A typed face on the engine: no arithmetic here. Secrets are made, mixed and consumed in the engine; Python holds handles on
them and composes the handshake in full view without ever seeing a key byte. What is public (public keys, hashes,
ciphertexts, MACs) is plain `bytes`.

| here | WireGuard paper, 5.4 | Noise rev 34 |
| --- | --- | --- |
| `dh(private, public)` | DH | DH |
| `hash(*parts)` | Hash | HASH |
| `mac(key, *parts)` | Mac | |
| `kdf1` `kdf2` `kdf3` | Kdf_n | HKDF |
| `aead_seal` `aead_open` | Aead | ENCRYPT, DECRYPT |
| `xaead_seal` `xaead_open` | Xaead | |

Refusals are exceptions here, because a handshake composes these calls and any refusal ends it: `ZeroSecret` from `dh`,
`AuthenticationFailed` from the `_open` functions. Both are ValueErrors and say nothing of the content.
"""

from ginnel._native import (
    AuthenticationFailed,
    Secret,
    ZeroSecret,
    aead_open,
    aead_seal,
    entropy,
    kdf1,
    kdf2,
    kdf3,
    x25519_public,
    xaead_open,
    xaead_seal,
)
from ginnel._native import blake2s as hash  # noqa: A004 - the paper's name; never star-imported
from ginnel._native import blake2s_mac as mac
from ginnel._native import blake2s_mac_equal as mac_equal
from ginnel._native import x25519 as dh
from ginnel.units import PublicKey

__all__ = [
    "AuthenticationFailed",
    "Secret",
    "ZeroSecret",
    "aead_open",
    "aead_seal",
    "dh",
    "entropy",
    "generate_private_key",
    "hash",
    "kdf1",
    "kdf2",
    "kdf3",
    "mac",
    "mac_equal",
    "public_key",
    "xaead_open",
    "xaead_seal",
]


def generate_private_key() -> Secret:
    """
    A fresh X25519 private key, clamped as `wg genkey` prints it.

    Raises:
        OSError: the operating system gave no randomness.

    Source: RFC 7748, 5.
    """
    return Secret.random().clamp()


def public_key(private: Secret) -> PublicKey:
    """
    The public key of *private*, which may be clamped or not.

    Source: RFC 7748, 6.1.
    """
    return PublicKey(x25519_public(private))
