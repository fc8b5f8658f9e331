"""
IKEv2's primitives under the names of RFC 7296, over opaque `KeyMaterial` handles. The typed face of the engine: no arithmetic
here.

What is public (nonces, Diffie-Hellman values, AUTH, NAT detection hashes) is plain `bytes`.
"""

from ginnel._native import (
    AuthenticationFailed,
    IkeCipher,
    InvalidPublicValue,
    KeyExchange,
    KeyMaterial,
    bytes_equal,
    concat,
    digest,
    prf,
    prf_plus,
    prf_public,
)

__all__ = [
    "AuthenticationFailed",
    "IkeCipher",
    "InvalidPublicValue",
    "KeyExchange",
    "KeyMaterial",
    "bytes_equal",
    "concat",
    "digest",
    "prf",
    "prf_plus",
    "prf_public",
]
