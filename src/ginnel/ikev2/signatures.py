"""
Signatures as AUTH: which key signs how, and what is taken from a peer.

    method 14 (RFC 7427)   1 byte: length of the AlgorithmIdentifier | AlgorithmIdentifier (DER) | signature
    methods 9, 10, 11      ECDSA with the curve's own hash, r || s, each as long as the curve's order (RFC 4754)
    method 1               RSA PKCS #1 with SHA-1 (RFC 7296); verified only where it was allowed by name, never made

Which of them we use: 14 when the peer announced hashes (SIGNATURE_HASH_ALGORITHMS), with the hash that fits the key best among
those; else 9…11, which need no announcement. An RSA key has nothing to say to a peer that knows SHA-1 alone, and we say so.

What is taken: RSA of 2,048 to 8,192 bits with SHA-2 (PKCS #1 1.5, and PSS with the same hash in MGF1), ECDSA on P-256, P-384
and P-521 with SHA-2, Ed25519. The algorithm that the peer names must be one that its key is for. AlgorithmIdentifiers are
compared byte by byte with the ones the RFCs list; only PSS has parameters that are looked into, and the two spellings that RFC
4055 tells everybody to accept (NULL or nothing after a hash) are.

ECDSA's second valid signature (r, n-s) is taken as the first is: no decision here rests on the bytes of a signature.

Source: RFC 7427 3, 4, A; RFC 8420; RFC 4055 3.1; RFC 4754.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes as chash
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, types
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ginnel.ikev2 import der
from ginnel.ikev2.connection import CannotProve
from ginnel.ikev2.psk import method_words
from ginnel.wire.ikev2 import Auth, AuthMethod

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

#: RFC 8247 4: less is broken or will be; more costs the verifier milliseconds (the peer chooses it before it is believed).
RSA_MIN_BITS: Final = 2048
RSA_MAX_BITS: Final = 8192
#: OpenSSL's own limit is 64 bits; larger ones only serve to keep a verifier busy.
RSA_EXPONENT_MAX_BITS: Final = 33
CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")

#: IANA's numbers in SIGNATURE_HASH_ALGORITHMS (RFC 7427 7, RFC 8420 2).
SHA256: Final = 2
SHA384: Final = 3
SHA512: Final = 4
IDENTITY: Final = 5

_HASHES: Final[dict[int, chash.SHA256 | chash.SHA384 | chash.SHA512]] = {
    SHA256: chash.SHA256(),
    SHA384: chash.SHA384(),
    SHA512: chash.SHA512(),
}

_RSA: Final = {
    SHA256: bytes.fromhex("300d06092a864886f70d01010b0500"),
    SHA384: bytes.fromhex("300d06092a864886f70d01010c0500"),
    SHA512: bytes.fromhex("300d06092a864886f70d01010d0500"),
}
_ECDSA: Final = {
    SHA256: bytes.fromhex("300a06082a8648ce3d040302"),
    SHA384: bytes.fromhex("300a06082a8648ce3d040303"),
    SHA512: bytes.fromhex("300a06082a8648ce3d040304"),
}
_ED25519: Final = bytes.fromhex("300506032b6570")

#: RSASSA-PSS: OIDs of the scheme, of MGF1, of the hashes (contents of OBJECT IDENTIFIER).
_PSS_OID: Final = bytes.fromhex("2a864886f70d01010a")
_MGF1_OID: Final = bytes.fromhex("2a864886f70d010108")
_HASH_OIDS: Final = {
    bytes.fromhex("608648016503040201"): SHA256,
    bytes.fromhex("608648016503040202"): SHA384,
    bytes.fromhex("608648016503040203"): SHA512,
}
#: Of parameters that name no salt: DER leaves a default out, whatever the hash (RFC 4055 3.1).
_PSS_DEFAULT_SALT_BYTES: Final = 20

#: The classic ECDSA methods: curve, hash, bytes of r and of s.
_CLASSIC: Final = {
    AuthMethod.ECDSA_SHA256_P256: ("secp256r1", SHA256, 32),
    AuthMethod.ECDSA_SHA384_P384: ("secp384r1", SHA384, 48),
    AuthMethod.ECDSA_SHA512_P521: ("secp521r1", SHA512, 66),
}


class Pss(NamedTuple):
    """The parameters of RSASSA-PSS: hash (also MGF1's) and the salt's bytes."""

    hash: int
    salt_bytes: int


def pss_identifier(parameters: Pss) -> bytes:
    """
    The AlgorithmIdentifier of RSASSA-PSS, in DER (the trailer field is left at its default).

    Source: RFC 4055 3.1; RFC 7427 A.4.
    """
    oid = next(oid for oid, number in _HASH_OIDS.items() if number == parameters.hash)
    hashed = _tlv(der.SEQUENCE, _tlv(der.OID, oid) + _tlv(der.NULL, b""))
    mgf = _tlv(der.SEQUENCE, _tlv(der.OID, _MGF1_OID) + hashed)
    salt = _tlv(der.INTEGER, bytes([parameters.salt_bytes]))
    return _tlv(
        der.SEQUENCE,
        _tlv(der.OID, _PSS_OID) + _tlv(der.SEQUENCE, _tlv(0xA0, hashed) + _tlv(0xA1, mgf) + _tlv(0xA2, salt)),
    )


def parse_pss(identifier: bytes) -> Pss | None:
    """
    The parameters that an AlgorithmIdentifier of RSASSA-PSS gives; None when it is another algorithm's.

    Raises:
        ValueError: parameters that are not taken (SHA-1 by default, another hash in MGF1), with which.
    """
    parts = list(der.elements(der.one(identifier, der.SEQUENCE).body))
    if not parts or parts[0].tag != der.OID or parts[0].body != _PSS_OID:
        return None
    if len(parts) != 2 or parts[1].tag != der.SEQUENCE:
        raise ValueError("RSASSA-PSS without parameters, which means SHA-1")
    fields = list(der.elements(parts[1].body))
    tags = [field.tag for field in fields]
    if tags != sorted(set(tags)) or not set(tags) <= {0xA0, 0xA1, 0xA2, 0xA3}:
        raise ValueError("RSASSA-PSS with unreadable parameters")
    given = {field.tag: field.body for field in fields}
    if 0xA0 not in given or 0xA1 not in given:
        raise ValueError("RSASSA-PSS without a hash or a mask function of its own, which means SHA-1")
    hashed = _hash(given[0xA0])
    mask = list(der.elements(der.one(given[0xA1], der.SEQUENCE).body))
    if len(mask) != 2 or (mask[0].tag, mask[0].body) != (der.OID, _MGF1_OID) or _hash(mask[1].whole) != hashed:
        raise ValueError("RSASSA-PSS with another mask function than MGF1 with the same hash")
    if 0xA3 in given and der.small_integer(der.one(given[0xA3], der.INTEGER)) != 1:
        raise ValueError("RSASSA-PSS with an unknown trailer")
    salt_bytes = der.small_integer(der.one(given[0xA2], der.INTEGER)) if 0xA2 in given else _PSS_DEFAULT_SALT_BYTES
    return Pss(hashed, salt_bytes)


def _hash(identifier: bytes) -> int:
    """The hash of an AlgorithmIdentifier; its parameters may be NULL or absent (RFC 4055 2.1)."""
    parts = list(der.elements(der.one(identifier, der.SEQUENCE).body))
    if not parts or parts[0].tag != der.OID or not (len(parts) == 1 or (len(parts) == 2 and parts[1].whole == b"\x05\x00")):
        raise ValueError("RSASSA-PSS with an unreadable hash")
    number = _HASH_OIDS.get(parts[0].body)
    if number is None:
        raise ValueError("RSASSA-PSS with another hash than SHA-256, SHA-384 and SHA-512")
    return number


def _tlv(tag: int, body: bytes) -> bytes:
    """One short element."""
    return bytes([tag, len(body)]) + body


# ---------------------------------------------------------------- keys


def checked_public(key: types.PublicKeyTypes) -> PublicKey:
    """
    A public key that we work with.

    Raises:
        ValueError: too short, too long, another curve or kind; the sentence says which and what is taken.
    """
    match key:
        case rsa.RSAPublicKey():
            if not RSA_MIN_BITS <= key.key_size <= RSA_MAX_BITS:
                raise ValueError(f"expected an RSA key of {RSA_MIN_BITS} to {RSA_MAX_BITS} bits, found {key.key_size}")
            exponent = key.public_numbers().e
            if exponent < 3 or exponent % 2 == 0 or exponent.bit_length() > RSA_EXPONENT_MAX_BITS:
                raise ValueError(f"expected an RSA key with an ordinary exponent, found one of {exponent.bit_length()} bits")
            return key
        case ec.EllipticCurvePublicKey():
            if key.curve.name not in CURVES:
                raise ValueError(f"expected an ECDSA key on P-256, P-384 or P-521, found {key.curve.name}")
            return key
        case ed25519.Ed25519PublicKey():
            return key
        case _:
            raise ValueError(f"expected an RSA, ECDSA or Ed25519 key, found {type(key).__name__.removesuffix('PublicKey')}")


def checked_private(key: types.PrivateKeyTypes) -> PrivateKey:
    """A private key that we work with; ValueError as of `checked_public`."""
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise ValueError(f"expected an RSA, ECDSA or Ed25519 key, found {type(key).__name__.removesuffix('PrivateKey')}")
    checked_public(key.public_key())
    return key


def key_words(key: PublicKey) -> str:
    """What kind of key it is, for sentences: "RSA 3072", "ECDSA P-256", "Ed25519"."""
    match key:
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"ECDSA P-{key.curve.key_size}"
        case _:
            return "Ed25519"


# ---------------------------------------------------------------- signing


def sign(key: PrivateKey, octets: Sequence[object], hashes: frozenset[int], *, pss: bool = False) -> Auth:
    """
    Our AUTH.

    Args:
        octets: the signed octets in pieces; all are bytes.
        hashes: that the peer announced; empty: it knows no RFC 7427.
        pss: RSASSA-PSS instead of PKCS #1 1.5 for an RSA key (the certificate's key is for PSS alone).

    Raises:
        CannotProve: the peer takes nothing that this key can give; the sentence says what it lacks.
    """
    data = joined(octets)
    match key:
        case ed25519.Ed25519PrivateKey():
            if IDENTITY not in hashes:
                raise CannotProve(
                    "our key is Ed25519, and the peer announced no hash 'identity' in SIGNATURE_HASH_ALGORITHMS (RFC 8420)"
                )
            return _digital(_ED25519, key.sign(data))
        case rsa.RSAPrivateKey():
            number = _best(hashes, SHA256 if key.key_size <= 3072 else SHA384 if key.key_size <= 7680 else SHA512)
            if number is None:
                raise CannotProve(
                    "our key is RSA, and the peer announced no SHA-2 in SIGNATURE_HASH_ALGORITHMS: it knows only RSA with "
                    "SHA-1, which we do not sign with; an ECDSA key works with such peers"
                )
            digest = _HASHES[number]
            if pss:
                parameters = Pss(number, digest.digest_size)
                return _digital(
                    pss_identifier(parameters),
                    key.sign(data, padding.PSS(padding.MGF1(digest), parameters.salt_bytes), digest),
                )
            return _digital(_RSA[number], key.sign(data, padding.PKCS1v15(), digest))
        case _:
            return _sign_ecdsa(key, data, hashes)


def _sign_ecdsa(key: ec.EllipticCurvePrivateKey, data: bytes, hashes: frozenset[int]) -> Auth:
    method, (_, own, size) = next((m, entry) for m, entry in _CLASSIC.items() if entry[0] == key.curve.name)
    number = _best(hashes, own)
    signature = key.sign(data, ec.ECDSA(_HASHES[own if number is None else number]))
    if number is not None:
        return _digital(_ECDSA[number], signature)
    r, s = decode_dss_signature(signature)
    return Auth(method, r.to_bytes(size, "big") + s.to_bytes(size, "big"))


def _best(hashes: frozenset[int], fitting: int) -> int | None:
    """The hash that fits the key, or the next stronger, or the next weaker one that the peer has."""
    stronger = [number for number in (SHA256, SHA384, SHA512) if number >= fitting]
    weaker = [number for number in (SHA384, SHA256) if number < fitting]
    return next((number for number in (*stronger, *weaker) if number in hashes), None)


def _digital(identifier: bytes, signature: bytes) -> Auth:
    return Auth(AuthMethod.DIGITAL_SIGNATURE, bytes([len(identifier)]) + identifier + signature)


# ---------------------------------------------------------------- verifying


def verify(key: PublicKey, octets: Sequence[object], auth: Auth, *, sha1: bool = False, pss_only: bool = False) -> str:
    """
    Whether *auth* is *key*'s signature over *octets*.

    Args:
        sha1: RSA with SHA-1 (method 1) is taken.
        pss_only: the certificate says that its key signs by RSASSA-PSS alone (RFC 4055, 1.2).

    Returns:
        "" or the end of a sentence that says what does not fit.
    """
    data = joined(octets)
    match auth.method:
        case AuthMethod.DIGITAL_SIGNATURE:
            return _verify_digital(key, data, auth.data, pss_only=pss_only)
        case AuthMethod.ECDSA_SHA256_P256 | AuthMethod.ECDSA_SHA384_P384 | AuthMethod.ECDSA_SHA512_P521:
            return _verify_classic(key, data, AuthMethod(auth.method), auth.data)
        case AuthMethod.RSA_SHA1:
            if not sha1:
                return "it signs with RSA and SHA-1 (AUTH method 1), which is too weak; let it use RFC 7427 with SHA-2, or ECDSA"
            if not isinstance(key, rsa.RSAPublicKey):
                return f"it signs with {method_words(auth.method)}, and its key is {key_words(key)}"
            # The hash of an AUTH is not a lasting document; allowed by name only (the attack is on collisions, "SLOTH").
            return _tried(key, data, auth.data, None, chash.SHA1())  # noqa: S303
        case _:
            return f"it sent {method_words(auth.method)} where a signature was expected"


def _verify_digital(key: PublicKey, data: bytes, body: bytes, *, pss_only: bool) -> str:
    if not body or len(body) <= 1 + body[0] or body[0] == 0:
        return "its AUTH of RFC 7427 has no AlgorithmIdentifier or no signature"
    identifier, signature = body[1 : 1 + body[0]], body[1 + body[0] :]
    if identifier == _ED25519:
        if not isinstance(key, ed25519.Ed25519PublicKey):
            return f"it signs with Ed25519, and its key is {key_words(key)}"
        try:
            key.verify(signature, data)
        except InvalidSignature:
            return _WRONG
        return ""
    for number, known in _ECDSA.items():
        if identifier == known:
            if not isinstance(key, ec.EllipticCurvePublicKey):
                return f"it signs with ECDSA, and its key is {key_words(key)}"
            return _tried_ecdsa(key, data, signature, number)
    parameters = None
    hash_number = next((number for number, known in _RSA.items() if identifier in {known, _without_null(known)}), None)
    if hash_number is None:
        try:
            parameters = parse_pss(identifier)
        except ValueError as wrong:
            return f"it signs with an algorithm that is not taken: {wrong}"
        if parameters is None:
            return f"it signs with an unknown or too weak algorithm (AlgorithmIdentifier {identifier[:40].hex()})"
        hash_number = parameters.hash
    if not isinstance(key, rsa.RSAPublicKey):
        return f"it signs with RSA, and its key is {key_words(key)}"
    if parameters is None and pss_only:
        return "it signs with RSA by PKCS #1 v1.5, and its certificate says that its key signs by RSASSA-PSS alone"
    return _tried(key, data, signature, parameters, _HASHES[hash_number])


_WRONG: Final = "its AUTH is not made with that key over this exchange"


def _tried(key: rsa.RSAPublicKey, data: bytes, signature: bytes, parameters: Pss | None, digest: chash.HashAlgorithm) -> str:
    if len(signature) != (key.key_size + 7) // 8:
        return _WRONG
    if parameters is not None and parameters.salt_bytes > len(signature) - digest.digest_size - 2:
        return _WRONG
    scheme = padding.PKCS1v15() if parameters is None else padding.PSS(padding.MGF1(digest), parameters.salt_bytes)
    try:
        key.verify(signature, data, scheme, digest)
    except InvalidSignature:
        return _WRONG
    return ""


def _tried_ecdsa(key: ec.EllipticCurvePublicKey, data: bytes, signature: bytes, number: int) -> str:
    try:
        r, s = decode_dss_signature(signature)
        if encode_dss_signature(r, s) != signature:
            return _WRONG
        key.verify(signature, data, ec.ECDSA(_HASHES[number]))
    except (InvalidSignature, ValueError):
        return _WRONG
    return ""


def _verify_classic(key: PublicKey, data: bytes, method: AuthMethod, signature: bytes) -> str:
    curve, number, size = _CLASSIC[method]
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != curve:
        return f"it signs with {method_words(method)}, and its key is {key_words(key)}"
    if len(signature) != 2 * size:
        return f"it signs with {method_words(method)} in {len(signature)} bytes instead of {2 * size}"
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    return _tried_ecdsa(key, data, encode_dss_signature(r, s), number)


def _without_null(identifier: bytes) -> bytes:
    """The same without its NULL parameters (RFC 4055 5 tells verifiers to take both)."""
    return bytes([identifier[0], identifier[1] - 2]) + identifier[2:-2]


def joined(octets: Sequence[object]) -> bytes:
    """The signed octets as one; TypeError for a secret among them (what is signed is known to both ends)."""
    pieces: list[bytes] = []
    for piece in octets:
        if not isinstance(piece, bytes):
            raise TypeError(f"expected signed octets as bytes, found {type(piece).__name__}")
        pieces.append(piece)
    return b"".join(pieces)
