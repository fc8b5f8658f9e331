"""
Raw public keys as proof of identity: each end has the other's key in a file, as SSH does.

A key is a SubjectPublicKeyInfo (DER), in a CERT payload of encoding 15. What a peer sends is only compared with what is
configured for it: no key is believed because it was sent, and a peer need not send it. The identity is a name for the log and
for finding the connection; what vouches for it is that the operator put this key there.

Source: RFC 7670; RFC 7427.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ginnel.ikev2 import identities, signatures
from ginnel.ikev2.psk import method_words
from ginnel.wire.ikev2 import Auth, AuthMethod, Cert, CertEncoding, Id


def spki(key: signatures.PublicKey) -> bytes:
    """The key as it travels."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class RawKeyProving:
    """We prove ourselves with a private key whose public half the peer has."""

    __slots__ = ("_key", "_public", "name")

    kind: Final = "public-key"

    def __init__(self, key: signatures.PrivateKey, name: str = "") -> None:
        self._key = key
        self._public = spki(key.public_key())
        self.name = name

    def certificates(self, requested: Sequence[bytes]) -> tuple[Cert, ...]:  # noqa: ARG002 - `Proving`
        """The public key."""
        return (Cert(CertEncoding.RAW_PUBLIC_KEY, self._public),)

    def auth(self, octets: Sequence[object], prf: str, hashes: frozenset[int]) -> Auth:  # noqa: ARG002 - `Proving`
        """See `connection.Proving.auth`."""
        return signatures.sign(self._key, octets, hashes)


class RawKeyBelieving:
    """The peer has to prove itself with *key*, which lies in the file *name*."""

    __slots__ = ("_key", "_public", "name")

    kind: Final = "public-key"

    def __init__(self, key: signatures.PublicKey, name: str = "") -> None:
        self._key = key
        self._public = spki(key)
        self.name = name

    def requests(self) -> bytes:
        """Nothing: the key is here."""
        return b""

    def verify(
        self,
        octets: Sequence[object],
        auth: Auth,
        certificates: Sequence[Cert],
        peer: Id,
        prf: str,  # noqa: ARG002 - `Believing`
        unix_ns: int,  # noqa: ARG002 - `Believing`
    ) -> str:
        """See `connection.Believing.verify`."""
        who = identities.text(peer)
        where = f" in {self.name}" if self.name else ""
        if auth.method in {AuthMethod.PSK, AuthMethod.NULL}:
            return f"expected {who} to prove itself with the key{where}, found {method_words(auth.method)}"
        sent = [one.data for one in certificates if one.encoding == CertEncoding.RAW_PUBLIC_KEY]
        if sent and self._public not in sent:
            return f"{who}: it sent another public key than the one{where}"
        wrong = signatures.verify(self._key, octets, auth)
        return f"{who}: {wrong} (the key{where}, {signatures.key_words(self._key)})" if wrong else ""
