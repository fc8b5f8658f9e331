"""
A pre-shared secret as proof of identity: AUTH method 2.

    AUTH = prf(prf(secret, "Key Pad for IKEv2"), signed octets)

The secret is a `KeyMaterial`: it lies in the engine, and neither it nor the padded key ever becomes Python bytes. AUTH values are
compared in constant time. `cryptography` is not imported from here (a process without certificates stays small).

What tells one peer from another is its identity, not its address: the sentence for the log says which identity the secret
was looked up for and in which file, since "authentication failed" is what people meet most and can mend least.

Source: RFC 7296 2.15.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, cast

from ginnel.crypto.ike import KeyMaterial, bytes_equal, prf, prf_public
from ginnel.ikev2 import identities
from ginnel.wire.ikev2 import Auth, AuthMethod, Cert, Id

KEY_PAD: Final = b"Key Pad for IKEv2"

#: The hashes that the engine has an HMAC of; `prf` arguments are of them.
_Hash = Literal["sha1", "sha256", "sha384", "sha512"]


#: 128 bits: what nobody can try out. Shorter ones are taken, and told.
SECRET_MIN_BYTES: Final = 16


class PskProving:
    """We prove ourselves with *secret*, which lies in the file *name*."""

    __slots__ = ("_secret", "name")

    kind: Final = "psk"

    def __init__(self, secret: KeyMaterial, name: str = "") -> None:
        _check(secret)
        self._secret = secret
        self.name = name

    def doubts(self) -> tuple[str, ...]:
        """What makes the secret a weak one; for the one who starts us."""
        if len(self._secret) >= SECRET_MIN_BYTES:
            return ()
        sentence = (
            f"{self.name}: the pre-shared secret is only {len(self._secret)} bytes long: whoever answers once in the peer's "
            f"place can try words until one fits; make one of {SECRET_MIN_BYTES} or more: `head -c 32 /dev/urandom | base64`"
        )
        return (sentence,)

    def certificates(self, requested: Sequence[bytes]) -> tuple[Cert, ...]:  # noqa: ARG002 - `Proving`
        """None: the secret proves us alone."""
        return ()

    def auth(self, octets: Sequence[object], prf: str, hashes: frozenset[int]) -> Auth:  # noqa: ARG002 - `Proving`
        """See `connection.Proving.auth`."""
        return Auth(AuthMethod.PSK, auth_value(self._secret, prf, octets))


class PskBelieving:
    """The peer has to prove itself with *secret*, which lies in the file *name*."""

    __slots__ = ("_secret", "name")

    kind: Final = "psk"

    def __init__(self, secret: KeyMaterial, name: str = "") -> None:
        _check(secret)
        self._secret = secret
        self.name = name

    def requests(self) -> bytes:
        """Nothing: no certificate is wanted."""
        return b""

    def verify(
        self,
        octets: Sequence[object],
        auth: Auth,
        certificates: Sequence[Cert],  # noqa: ARG002 - `Believing`
        peer: Id,
        prf: str,
        unix_ns: int,  # noqa: ARG002 - `Believing`
    ) -> str:
        """See `connection.Believing.verify`."""
        who = identities.text(peer)
        if auth.method != AuthMethod.PSK:
            return f"expected {who} to prove itself with a pre-shared secret, found {method_words(auth.method)}"
        if bytes_equal(auth_value(self._secret, prf, octets), auth.data):
            return ""
        where = f" of {self.name}" if self.name else ""
        return f"wrong pre-shared secret: looked up for the identity {who}, and the secret{where} does not give the peer's AUTH"


def auth_value(secret: KeyMaterial, hash_name: str, octets: Sequence[object]) -> bytes:
    """
    The AUTH of a pre-shared secret.

    Args:
        secret: as configured, any length but none.
        hash_name: of the IKE SA's prf ("sha256", ...).
        octets: the signed octets in pieces.

    Source: RFC 7296 2.15.
    """
    hash_ = cast(_Hash, hash_name)
    pieces = cast(Sequence[bytes | KeyMaterial], octets)
    return prf_public(hash_, prf(hash_, secret, KEY_PAD), *pieces)


def method_words(method: int) -> str:
    """The AUTH method in words for a sentence: "a digital signature (RFC 7427)"."""
    return _METHODS.get(method, f"AUTH method {method}")


_METHODS: Final[dict[int, str]] = {
    AuthMethod.RSA_SHA1: "an RSA signature with SHA-1 (AUTH method 1)",
    AuthMethod.PSK: "a pre-shared secret",
    AuthMethod.ECDSA_SHA256_P256: "an ECDSA P-256 signature (AUTH method 9)",
    AuthMethod.ECDSA_SHA384_P384: "an ECDSA P-384 signature (AUTH method 10)",
    AuthMethod.ECDSA_SHA512_P521: "an ECDSA P-521 signature (AUTH method 11)",
    AuthMethod.NULL: "no proof at all (NULL authentication)",
    AuthMethod.DIGITAL_SIGNATURE: "a digital signature (AUTH method 14)",
}


def _check(secret: KeyMaterial) -> None:
    """An empty secret would let everybody in."""
    if len(secret) == 0:
        raise ValueError("expected a pre-shared secret, found nothing")
