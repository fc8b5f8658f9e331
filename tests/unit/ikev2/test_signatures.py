"""AUTH by signatures: the RFCs' algorithm identifiers byte by byte, every kind of key both ways, and all that is refused."""

from __future__ import annotations

import functools

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

import pki
from ginnel.ikev2 import signatures
from ginnel.ikev2.connection import CannotProve
from ginnel.ikev2.signatures import IDENTITY, SHA256, SHA384, SHA512, Pss
from ginnel.wire.ikev2 import Auth, AuthMethod

OCTETS = (b"message", b"nonce", b"identity")
ALL = frozenset({1, SHA256, SHA384, SHA512, IDENTITY})

# RFC 7427 A: sha256/384/512WithRSAEncryption, ecdsa-with-SHA256/384/512; RFC 8420 A.1: Ed25519.
RSA = {
    SHA256: "300d06092a864886f70d01010b0500",
    SHA384: "300d06092a864886f70d01010c0500",
    SHA512: "300d06092a864886f70d01010d0500",
}
ECDSA = {SHA256: "300a06082a8648ce3d040302", SHA384: "300a06082a8648ce3d040303", SHA512: "300a06082a8648ce3d040304"}
ED25519 = "300506032b6570"
# RFC 7427 A.4.3: RSASSA-PSS with SHA-256, with the trailer field that DER would leave out.
PSS_SHA256_RFC = (
    "304606092a864886f70d01010a3039a00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120a303020101"
)
PSS_SHA256 = (
    "304106092a864886f70d01010a3034a00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120"
)


@functools.cache
def key(word: str) -> pki.Key:
    match word:
        case "rsa2048":
            return pki.rsa_key(2048)
        case "rsa2047":
            return pki.rsa_key(2047)
        case "rsa4096":
            return pki.rsa_key(4096)
        case "p256":
            return pki.ecdsa_key(ec.SECP256R1())
        case "p384":
            return pki.ecdsa_key(ec.SECP384R1())
        case "p521":
            return pki.ecdsa_key(ec.SECP521R1())
        case _:
            return pki.ed25519_key()


def public(word: str) -> signatures.PublicKey:
    return signatures.checked_public(key(word).public_key())


def judged(word: str, auth: Auth, octets: tuple[object, ...] = OCTETS, *, sha1: bool = False) -> str:
    return signatures.verify(public(word), octets, auth, sha1=sha1)


def digital(identifier: str, signature: bytes) -> Auth:
    raw = bytes.fromhex(identifier)
    return Auth(14, bytes([len(raw)]) + raw + signature)


def tlv(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes([tag, len(body)]) + body


def pss_identifier(salt: int, *, null: bool = True) -> str:
    """RSASSA-PSS with SHA-256, by hand; null: NULL behind each hash, else nothing."""
    hashed = tlv(0x30, bytes.fromhex("0609608648016503040201"), bytes.fromhex("0500") if null else b"")
    mask = tlv(0x30, bytes.fromhex("06092a864886f70d010108"), hashed)
    value = bytes([salt]) if salt < 128 else bytes([0, salt])
    fields = tlv(0x30, tlv(0xA0, hashed), tlv(0xA1, mask), tlv(0xA2, tlv(2, value)))
    return tlv(0x30, bytes.fromhex("06092a864886f70d01010a"), fields).hex()


# ---------------------------------------------------------------- what we send


@pytest.mark.parametrize(
    ("word", "hashes_", "identifier"),
    [
        ("rsa2048", ALL, RSA[SHA256]),
        ("rsa4096", ALL, RSA[SHA384]),
        ("rsa2048", {SHA512}, RSA[SHA512]),
        ("rsa4096", {SHA256}, RSA[SHA256]),
        ("p256", ALL, ECDSA[SHA256]),
        ("p384", ALL, ECDSA[SHA384]),
        ("p521", ALL, ECDSA[SHA512]),
        ("p521", {SHA256, SHA384}, ECDSA[SHA384]),
        ("p256", {SHA384, SHA512}, ECDSA[SHA384]),
        ("ed25519", ALL, ED25519),
        ("ed25519", {IDENTITY}, ED25519),
    ],
)
def test_the_hash_fits_the_key_and_the_peer(word: str, hashes_: set[int], identifier: str) -> None:
    auth = signatures.sign(key(word), OCTETS, frozenset(hashes_))
    assert auth.method == AuthMethod.DIGITAL_SIGNATURE
    assert auth.data[1 : 1 + auth.data[0]].hex() == identifier
    assert judged(word, auth) == ""


@pytest.mark.parametrize(("word", "method", "size"), [("p256", 9, 64), ("p384", 10, 96), ("p521", 11, 132)])
@pytest.mark.parametrize("hashes_", [frozenset(), frozenset({1}), frozenset({IDENTITY})])
def test_ecdsa_needs_no_announcement(word: str, method: int, size: int, hashes_: frozenset[int]) -> None:
    auth = signatures.sign(key(word), OCTETS, hashes_)
    assert (auth.method, len(auth.data)) == (method, size)
    assert judged(word, auth) == ""


@pytest.mark.parametrize(
    ("word", "hashes_", "said"),
    [
        ("rsa2048", set(), "RSA"),
        ("rsa2048", {1}, "SHA-1"),
        ("rsa2048", {5}, "RSA"),
        ("ed25519", {2, 3, 4}, "identity"),
        ("ed25519", set(), "RFC 8420"),
    ],
)
def test_a_peer_that_takes_nothing_of_ours_is_told_of(word: str, hashes_: set[int], said: str) -> None:
    with pytest.raises(CannotProve, match=said):
        signatures.sign(key(word), OCTETS, frozenset(hashes_))


@pytest.mark.parametrize("hash_", [SHA256, SHA384, SHA512])
def test_pss_both_ways(hash_: int) -> None:
    auth = signatures.sign(key("rsa2048"), OCTETS, frozenset({hash_}), pss=True)
    assert judged("rsa2048", auth) == ""
    identifier = auth.data[1 : 1 + auth.data[0]]
    assert signatures.parse_pss(identifier) == Pss(hash_, {SHA256: 32, SHA384: 48, SHA512: 64}[hash_])


def test_a_key_for_pss_alone_proves_nothing_by_pkcs1() -> None:
    by_pss, by_pkcs1 = (signatures.sign(key("rsa2048"), OCTETS, frozenset({SHA256}), pss=pss) for pss in (True, False))
    theirs = public("rsa2048")
    assert signatures.verify(theirs, OCTETS, by_pss, pss_only=True) == ""
    assert signatures.verify(theirs, OCTETS, by_pkcs1) == ""
    assert "its key signs by RSASSA-PSS alone" in signatures.verify(theirs, OCTETS, by_pkcs1, pss_only=True)


def test_pss_identifier_is_the_rfcs_without_the_default() -> None:
    assert signatures.pss_identifier(Pss(SHA256, 32)).hex() == PSS_SHA256 == pss_identifier(32)
    assert signatures.parse_pss(bytes.fromhex(PSS_SHA256_RFC)) == Pss(SHA256, 32)


def test_octets_may_be_cut_anywhere_but_are_no_secrets() -> None:
    auth = signatures.sign(key("p256"), OCTETS, ALL)
    assert judged("p256", auth, (b"".join(OCTETS),)) == ""
    with pytest.raises(TypeError, match="expected signed octets as bytes"):
        signatures.joined((b"x", object()))


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("word", ["rsa2048", "p256", "p384", "p521", "ed25519"])
@pytest.mark.parametrize("hashes_", [ALL, frozenset()])
def test_one_bit_makes_it_wrong(word: str, hashes_: frozenset[int]) -> None:
    if not hashes_ and word in {"rsa2048", "ed25519"}:
        with pytest.raises(CannotProve):
            signatures.sign(key(word), OCTETS, hashes_)
        return
    auth = signatures.sign(key(word), OCTETS, hashes_)
    assert judged(word, auth, (b"massage", *OCTETS[1:])) != ""
    start = 1 + auth.data[0] if auth.method == 14 else 0
    for at in (start, start + 5, len(auth.data) - 1):
        bent = bytearray(auth.data)
        bent[at] ^= 0x01
        assert judged(word, Auth(auth.method, bytes(bent))) != "", at
    assert judged(word, Auth(auth.method, auth.data[:-1])) != ""
    assert judged(word, Auth(auth.method, auth.data + b"\0")) != ""


def test_another_key_of_the_same_kind_does_not_do() -> None:
    auth = signatures.sign(pki.ecdsa_key(), OCTETS, ALL)
    assert "is not made with that key" in judged("p256", auth)


@pytest.mark.parametrize(
    ("identifier", "word"),
    [
        *[(one, "p256") for one in RSA.values()],
        *[(one, "ed25519") for one in RSA.values()],
        (PSS_SHA256, "p256"),
        (ED25519, "rsa2048"),
        (ED25519, "p256"),
        *[(one, "rsa2048") for one in ECDSA.values()],
        *[(one, "ed25519") for one in ECDSA.values()],
    ],
)
def test_the_algorithm_has_to_be_the_keys(identifier: str, word: str) -> None:
    said = judged(word, digital(identifier, bytes(64)))
    assert said.startswith("it signs with ")
    assert "its key is" in said


@pytest.mark.parametrize(
    "identifier",
    [
        "300d06092a864886f70d0101050500",  # sha1WithRSAEncryption
        "300906072a8648ce3d0401",  # ecdsa-with-SHA1
        "300d06092a864886f70d01010a3000",  # PSS with its defaults: SHA-1
        "300b06092a864886f70d01010a",  # PSS without parameters
        "300506032b6571",  # Ed448
        "300d06092a864886f70d01010b0501",  # not NULL
        "300e06092a864886f70d01010b05000000",  # a length that lies
        "300c06082a8648ce3d0403020500",  # ECDSA with parameters
        "300706032b65700500",  # Ed25519 with parameters
        "3081" + "0d06092a864886f70d01010b0500",  # not DER
        "ff",
        PSS_SHA256.replace("a203020120", "a202020120"),
        PSS_SHA256_RFC.replace("a303020101", "a303020102"),  # an unknown trailer
        PSS_SHA256_RFC.replace("a203020120a303020101", "a303020101a203020120"),  # salt and trailer the other way round
        PSS_SHA256_RFC.replace("a303020101", "a203020120"),  # two salts
        # another hash in MGF1
        PSS_SHA256.replace("0108300d06096086480165030402010500", "0108300d06096086480165030402020500"),
        # a hash that is not taken (SHA-224), in both
        PSS_SHA256.replace("608648016503040201", "608648016503040204"),
    ],
)
def test_other_algorithms_are_refused_by_name(identifier: str) -> None:
    right = key("rsa2048")
    assert isinstance(right, rsa.RSAPrivateKey)
    signature = right.sign(b"".join(OCTETS), padding.PKCS1v15(), hashes.SHA256())
    for word in ("rsa2048", "p256", "ed25519"):
        said = judged(word, digital(identifier, signature))
        assert said.startswith("it signs with an ") or "AlgorithmIdentifier" in said, said


def test_absent_and_null_parameters_are_both_taken() -> None:
    right = key("rsa2048")
    assert isinstance(right, rsa.RSAPrivateKey)
    signature = right.sign(b"".join(OCTETS), padding.PKCS1v15(), hashes.SHA256())
    assert judged("rsa2048", digital("300b06092a864886f70d01010b", signature)) == ""
    pss = right.sign(b"".join(OCTETS), padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    assert judged("rsa2048", digital(pss_identifier(32, null=False), pss)) == ""
    assert judged("rsa2048", digital(pss_identifier(32, null=True), pss)) == ""


@pytest.mark.parametrize("salt", [0, 20, 32, 64, 222])
def test_any_salt_that_fits_is_taken_and_has_to_be_the_said_one(salt: int) -> None:
    right = key("rsa2048")
    assert isinstance(right, rsa.RSAPrivateKey)
    signature = right.sign(b"".join(OCTETS), padding.PSS(padding.MGF1(hashes.SHA256()), salt), hashes.SHA256())

    assert judged("rsa2048", digital(pss_identifier(salt), signature)) == ""
    assert judged("rsa2048", digital(pss_identifier(salt + 1), signature)) != ""
    assert judged("rsa2048", digital(pss_identifier(223), signature)) != ""


@pytest.mark.parametrize(
    "body", [b"", b"\x00", b"\x0f", bytes.fromhex("0f" + RSA[SHA256]), b"\x05\x30\x03", b"\xff" + bytes(300)]
)
def test_an_auth_that_is_too_short_or_empty(body: bytes) -> None:
    assert judged("rsa2048", Auth(14, body)) != ""


@pytest.mark.parametrize(
    ("method", "word"), [(9, "p384"), (9, "rsa2048"), (9, "ed25519"), (10, "p256"), (11, "p384"), (1, "p256")]
)
def test_a_classic_method_is_for_its_curve(method: int, word: str) -> None:
    said = judged(word, Auth(method, bytes(64)), sha1=True)
    assert said.startswith("it signs with ")
    assert "its key is" in said


@pytest.mark.parametrize("size", [0, 1, 63, 65, 72])
def test_r_and_s_have_a_fixed_length(size: int) -> None:
    assert "bytes instead of 64" in judged("p256", Auth(9, bytes(size)))


def test_r_and_s_of_zero_and_of_the_order_are_nothing() -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    for r in (0, 1, order, 2**256 - 1):
        for s in (0, 1, order, 2**256 - 1):
            assert judged("p256", Auth(9, r.to_bytes(32, "big") + s.to_bytes(32, "big"))) != ""


def test_ecdsa_in_an_encoding_that_is_not_der_is_refused() -> None:
    auth = signatures.sign(key("p256"), OCTETS, ALL)
    r, s = decode_dss_signature(auth.data[1 + auth.data[0] :])
    padded = b"\x02\x22\x00\x00" + r.to_bytes(32, "big") + b"\x02\x22\x00\x00" + s.to_bytes(32, "big")
    assert judged("p256", digital(ECDSA[SHA256], b"\x30" + bytes([len(padded)]) + padded)) != ""


def test_sha1_only_by_name() -> None:
    right = key("rsa2048")
    assert isinstance(right, rsa.RSAPrivateKey)
    auth = Auth(AuthMethod.RSA_SHA1, right.sign(b"".join(OCTETS), padding.PKCS1v15(), hashes.SHA1()))
    assert "too weak" in judged("rsa2048", auth)
    assert judged("rsa2048", auth, sha1=True) == ""
    assert judged("rsa2048", auth, (b"other",), sha1=True) != ""


@pytest.mark.parametrize("method", [0, 2, 3, 12, 13, 15, 255])
def test_other_methods_are_no_signatures(method: int) -> None:
    assert "where a signature was expected" in judged("rsa2048", Auth(method, bytes(256)), sha1=True)


# ---------------------------------------------------------------- keys


def test_weak_and_strange_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="expected an RSA key of 2048 to 8192 bits, found 1024"):
        signatures.checked_public(pki.rsa_key(1024).public_key())
    with pytest.raises(ValueError, match="found 2047"):
        signatures.checked_private(pki.rsa_key(2047))
    with pytest.raises(ValueError, match="P-256, P-384 or P-521, found secp256k1"):
        signatures.checked_public(ec.generate_private_key(ec.SECP256K1()).public_key())
    with pytest.raises(ValueError, match="found Ed448"):
        signatures.checked_private(ed448.Ed448PrivateKey.generate())
    with pytest.raises(ValueError, match="expected an RSA, ECDSA or Ed25519 key"):
        signatures.checked_public(dsa.generate_private_key(1024).public_key())


@pytest.mark.parametrize("exponent", [2**34 + 1, 2**63 + 1])
def test_an_exponent_that_only_costs_time_is_refused(exponent: int) -> None:
    numbers = pki.rsa_key(2048).public_key().public_numbers()
    with pytest.raises(ValueError, match="ordinary exponent"):
        signatures.checked_public(rsa.RSAPublicNumbers(exponent, numbers.n).public_key())
