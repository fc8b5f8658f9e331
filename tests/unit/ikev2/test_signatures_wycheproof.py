"""
Wycheproof's signatures through `signatures.verify`, as AUTH: what a peer can do wrong with a signature, found by others.

How a case becomes an AUTH:
    ECDSA in DER, Ed25519, RSA    method 14 (RFC 7427) with the AlgorithmIdentifier of the group
    ECDSA as r || s               methods 9, 10, 11; and once more in DER by method 14, with the same verdict
    RSASSA-PSS                    the AlgorithmIdentifier is the one that the set's own key carries, where it carries one

Valid has to be taken, invalid refused. What the sets leave open ("acceptable"), and valid signatures that we refuse by policy,
are named here one by one, each with the reason. ECDSA's second valid signature (r, n-s) is valid in these sets, and taken.
Every test asserts how many cases it ran. The sets: tests/vectors/README.md.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ginnel.ikev2 import der, signatures
from ginnel.ikev2.signatures import SHA256, SHA384, SHA512, Pss
from ginnel.wire.ikev2 import Auth, AuthMethod

VECTORS: Final = Path(__file__).parents[2] / "vectors"

HASHES: Final = {"SHA-256": SHA256, "SHA-384": SHA384, "SHA-512": SHA512}
# RFC 7427 A and RFC 8420 A.1, not taken from the code under test.
ECDSA: Final = {
    "SHA-256": "300a06082a8648ce3d040302",
    "SHA-384": "300a06082a8648ce3d040303",
    "SHA-512": "300a06082a8648ce3d040304",
}
RSA: Final = {
    "SHA-256": ("300d06092a864886f70d01010b0500", "300b06092a864886f70d01010b"),
    "SHA-384": ("300d06092a864886f70d01010c0500", "300b06092a864886f70d01010c"),
    "SHA-512": ("300d06092a864886f70d01010d0500", "300b06092a864886f70d01010d"),
}
ED25519: Final = "300506032b6570"
CLASSIC: Final = {
    32: AuthMethod.ECDSA_SHA256_P256,
    48: AuthMethod.ECDSA_SHA384_P384,
    66: AuthMethod.ECDSA_SHA512_P521,
}

WRONG: Final = "its AUTH is not made with that key over this exchange"

Group = dict[str, Any]


def groups(name: str, type_: str | None = None) -> Iterator[Group]:
    for group in json.loads((VECTORS / name).read_text())["testGroups"]:
        if type_ is None or group["type"] == type_:
            yield group


def key(group: Group) -> signatures.PublicKey:
    return signatures.checked_public(load_der_public_key(bytes.fromhex(group["publicKeyDer"])))


def judged(key_: signatures.PublicKey, case: dict[str, str], identifier: str, signature: bytes | None = None) -> str:
    """The verdict on a case by RFC 7427; *signature* instead of the case's own."""
    algorithm = bytes.fromhex(identifier)
    body = bytes([len(algorithm)]) + algorithm + (bytes.fromhex(case["sig"]) if signature is None else signature)
    return signatures.verify(key_, (bytes.fromhex(case["msg"]),), Auth(AuthMethod.DIGITAL_SIGNATURE, body))


def judged_classic(key_: signatures.PublicKey, case: dict[str, str], size: int, signature: bytes) -> str:
    return signatures.verify(key_, (bytes.fromhex(case["msg"]),), Auth(CLASSIC[size], signature))


def size_of(curve: str) -> int:
    """Bytes of r and of s."""
    return {"p256": 32, "p384": 48, "p521": 66}["p" + curve.removeprefix("ecdsa_secp")[:3]]


def test_ecdsa_in_der() -> None:
    """RFC 7427; a valid one is also valid as r || s where the hash is its curve's own, and never with another hash."""
    ran: Counter[str] = Counter()
    for group in groups("wycheproof_ecdsa.json", "EcdsaVerify"):
        public, size = key(group), size_of(group["set"])
        own = {32: "SHA-256", 48: "SHA-384", 66: "SHA-512"}[size]
        for case in group["tests"]:
            where = (group["set"], case["tcId"])
            verdicts = {name: judged(public, case, identifier) for name, identifier in ECDSA.items()}
            assert (verdicts.pop(group["sha"]) == "") == (case["result"] == "valid"), where
            assert "" not in verdicts.values(), where
            if case["result"] == "valid":
                r, s = decode_dss_signature(bytes.fromhex(case["sig"]))
                classic = judged_classic(public, case, size, r.to_bytes(size, "big") + s.to_bytes(size, "big"))
                assert (classic == "") == (group["sha"] == own), where
            ran[case["result"]] += 1
    assert ran == {"valid": 126, "invalid": 431}


def test_ecdsa_as_r_and_s() -> None:
    """Methods 9, 10 and 11: a signature of another length is told by its length, and no padding or cutting helps it."""
    ran: Counter[str] = Counter()
    for group in groups("wycheproof_ecdsa.json", "EcdsaP1363Verify"):
        public, size = key(group), size_of(group["set"])
        for case in group["tests"]:
            where, signature = (group["set"], case["tcId"]), bytes.fromhex(case["sig"])
            verdict = judged_classic(public, case, size, signature)
            if len(signature) != 2 * size:
                assert case["result"] == "invalid", where
                assert f"in {len(signature)} bytes instead of {2 * size}" in verdict, where
                ran["length"] += 1
                continue
            assert verdict == ("" if case["result"] == "valid" else WRONG), where
            r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
            assert judged(public, case, ECDSA[group["sha"]], encode_dss_signature(r, s)) == verdict, where
            ran[case["result"]] += 1
    assert ran == {"valid": 102, "invalid": 100, "length": 49}


def test_ed25519() -> None:
    """All 151; S beyond the order (malleable) is invalid in this set, and refused."""
    ran: Counter[str] = Counter()
    for group in groups("wycheproof_ed25519.json"):
        public = key(group)
        for case in group["tests"]:
            assert (judged(public, case, ED25519) == "") == (case["result"] == "valid"), case["tcId"]
            ran[case["result"]] += 1
    assert ran == {"valid": 88, "invalid": 63}


#: Left open by the sets, refused by us: the DigestInfo inside of the signature lacks its NULL. "Not a vulnerability" say the
#: sets, and invalid by RFC 8017 B.1 (NULL is a "SHALL" there). The AlgorithmIdentifier outside may lack it (RFC 4055 5).
PKCS1_ACCEPTABLE_REFUSED: Final = {
    ("rsa_signature_2048_sha256", 8),
    ("rsa_signature_2048_sha384", 8),
    ("rsa_signature_2048_sha512", 8),
    ("rsa_signature_3072_sha256", 8),
    ("rsa_signature_3072_sha384", 8),
    ("rsa_signature_3072_sha512", 8),
    ("rsa_signature_4096_sha256", 8),
    ("rsa_signature_4096_sha384", 8),
    ("rsa_signature_4096_sha512", 8),
    ("rsa_signature_8192_sha512", 8),
}


def test_rsa_pkcs1() -> None:
    """Both spellings of the AlgorithmIdentifier; what is valid is so with its own hash alone."""
    ran: Counter[str] = Counter()
    refused = set()
    for group in groups("wycheproof_rsa_pkcs1.json"):
        public = key(group)
        for case in group["tests"]:
            where = (group["set"], case["tcId"])
            for identifier in RSA[group["sha"]]:
                assert (judged(public, case, identifier) == "") == (case["result"] == "valid"), where
            if case["result"] == "valid":  # some invalid ones are right with another hash than the group's
                others = [identifier for name in RSA.keys() - {group["sha"]} for identifier in RSA[name]]
                assert "" not in [judged(public, case, identifier) for identifier in others], where
            if case["result"] == "acceptable":
                assert case["comment"] == "Missing NULL in the ASN encoding", where
                refused.add(where)
            ran[case["result"]] += 1
    assert refused == PKCS1_ACCEPTABLE_REFUSED
    assert ran == {"valid": 21, "acceptable": 10, "invalid": 339}


def pss_of(group: Group) -> str:
    """The AlgorithmIdentifier: the key's own where it is one of RSASSA-PSS with parameters, else as we write it."""
    algorithm = next(der.elements(der.one(bytes.fromhex(group["publicKeyDer"]), der.SEQUENCE).body)).whole
    if group["type"] == "RsassaPssWithParametersVerify":
        return algorithm.hex()
    return signatures.pss_identifier(Pss(HASHES[group["sha"]], group["sLen"])).hex()


def pss_policy(group: Group) -> str:
    """Why a valid signature with these parameters is refused; "" when it is not. In the order of the code's looking."""
    hashes = {group["sha"], group["mgfSha"]}
    if "SHA-1" in hashes:
        return "which means SHA-1"
    if not hashes <= HASHES.keys():
        return "another hash than SHA-256, SHA-384 and SHA-512"
    return "another mask function than MGF1 with the same hash" if len(hashes) > 1 else ""


def test_rsa_pss() -> None:
    """Salts of 0 to 64 bytes, also the 20 that DER leaves out; parameters of SHA-1, SHA-224 or two hashes are refused."""
    ran: Counter[str] = Counter()
    for group in groups("wycheproof_rsa_pss.json"):
        public, identifier, policy = key(group), pss_of(group), pss_policy(group)
        if not policy:
            parameters = Pss(HASHES[group["sha"]], group["sLen"])
            assert signatures.parse_pss(bytes.fromhex(identifier)) == parameters
            assert group["sLen"] == 20 or signatures.pss_identifier(parameters).hex() == identifier
        for case in group["tests"]:
            where, verdict = (group["set"], case["tcId"]), judged(public, case, identifier)
            if policy:
                assert case["result"] == "valid", where
                assert verdict.startswith("it signs with an algorithm that is not taken: RSASSA-PSS"), where
                assert policy in verdict, where
                ran[policy] += 1
            else:
                assert (verdict == "") == (case["result"] == "valid"), (where, verdict)
                ran[case["result"]] += 1
    assert ran == {
        "valid": 129,
        "invalid": 73,
        "which means SHA-1": 9,
        "another hash than SHA-256, SHA-384 and SHA-512": 7,
        "another mask function than MGF1 with the same hash": 6,
    }


# ---------------------------------------------------------------- valid, and refused by policy

KEY: Final = "the key is not taken"
METHOD_9: Final = "method 9 is with SHA-256 alone"
METHOD_1: Final = "method 1: SHA-1, unless allowed by name"

#: Set: its AlgorithmIdentifier (or one of the words above, where it does not come to one), and what is said of it. The two of
#: "sig_gen" are "acceptable" in their sets: small modulus, weak hash.
REFUSED: Final = {
    "ecdsa_secp224r1_sha256": (KEY, "expected an ECDSA key on P-256, P-384 or P-521, found secp224r1"),
    "ecdsa_secp256k1_sha256": (KEY, "expected an ECDSA key on P-256, P-384 or P-521, found secp256k1"),
    "ecdsa_brainpoolP256r1_sha256": (KEY, "expected an ECDSA key on P-256, P-384 or P-521, found brainpoolP256r1"),
    "ed448": (KEY, "expected an RSA, ECDSA or Ed25519 key, found"),
    "rsa_pkcs1_1024_sig_gen": (KEY, "expected an RSA key of 2048 to 8192 bits, found 1024"),
    "ecdsa_secp256r1_sha512_p1363": (METHOD_9, WRONG),
    "rsa_pkcs1_2048_sig_gen": (METHOD_1, "too weak"),
    "ecdsa_secp256r1_sha3_256": ("300b060960864801650304030a", "unknown or too weak algorithm"),
    "rsa_signature_2048_sha224": ("300d06092a864886f70d01010e0500", "unknown or too weak algorithm"),
    "rsa_signature_2048_sha512_224": ("300d06092a864886f70d01010f0500", "unknown or too weak algorithm"),
    "rsa_signature_2048_sha512_256": ("300d06092a864886f70d0101100500", "unknown or too weak algorithm"),
    "rsa_signature_2048_sha3_256": ("300d060960864801650304030e0500", "unknown or too weak algorithm"),
    "rsa_pss_2048_sha1_mgf1_20_params": ("300d06092a864886f70d01010a3000", "which means SHA-1"),
    "rsa_pss_2048_sha512_mgf1sha256_32_params": (
        (
            "304106092a864886f70d01010a3034a00f300d06096086480165030402030500"
            "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120"
        ),
        "another mask function than MGF1 with the same hash",
    ),
}


@pytest.mark.parametrize("group", list(groups("wycheproof_signatures_refused.json")), ids=lambda group: group["set"])
def test_valid_and_refused_by_policy(group: Group) -> None:
    (case,) = group["tests"]
    how, why = REFUSED[group["set"]]
    if how == KEY:
        with pytest.raises(ValueError, match=why):
            key(group)
        return
    public, octets, signature = key(group), (bytes.fromhex(case["msg"]),), bytes.fromhex(case["sig"])
    if how == METHOD_9:
        assert judged_classic(public, case, 32, signature) == why
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        assert judged(public, case, ECDSA["SHA-512"], encode_dss_signature(r, s)) == "", "by RFC 7427 it can say so"
    elif how == METHOD_1:
        assert why in signatures.verify(public, octets, Auth(AuthMethod.RSA_SHA1, signature))
        assert signatures.verify(public, octets, Auth(AuthMethod.RSA_SHA1, signature), sha1=True) == ""
        assert "too weak" in judged(public, case, "300d06092a864886f70d0101050500")
    else:
        assert why in judged(public, case, how)


def test_every_refused_set_is_there() -> None:
    assert {group["set"] for group in groups("wycheproof_signatures_refused.json")} == REFUSED.keys()
