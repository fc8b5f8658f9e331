"""
Published vectors through `ginnel.crypto`, as Python uses it: Wycheproof, RFC 7693, RFC 7748, RFC 8439.

The general nonce of ChaCha20-Poly1305 cannot be expressed here, only the counter's; the other cases of that set run through
the same wrapper in rust/crypto/tests/vectors.rs. Each test asserts how many cases it ran.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ginnel import crypto
from ginnel.crypto import AuthenticationFailed, Secret, ZeroSecret

VECTORS = Path(__file__).parents[2] / "vectors"


def cases(name: str) -> Iterator[dict[str, Any]]:
    """Every case of a Wycheproof set."""
    for group in json.loads((VECTORS / name).read_text())["testGroups"]:
        yield from group["tests"]


def test_wycheproof_x25519() -> None:
    """All 518; a zero result, which the set leaves open, is refused."""
    ran = refused = 0
    for case in cases("wycheproof_x25519.json"):
        private, public = Secret.from_hex(case["private"]), bytes.fromhex(case["public"])
        expected = Secret.from_hex(case["shared"])
        if expected.is_zero():
            with pytest.raises(ZeroSecret):
                crypto.dh(private, public)
            refused += 1
        else:
            assert crypto.dh(private, public) == expected, case["tcId"]
        ran += 1
    assert ran == 518
    assert refused == 31


def test_wycheproof_chacha20_poly1305_with_counters() -> None:
    """The cases whose nonce is four zero bytes and a counter."""
    ran = 0
    for case in cases("wycheproof_chacha20_poly1305.json"):
        nonce = bytes.fromhex(case["iv"])
        if len(nonce) != 12 or nonce[:4] != bytes(4):
            continue
        key, counter = Secret.from_hex(case["key"]), int.from_bytes(nonce[4:], "little")
        plaintext, ad = bytes.fromhex(case["msg"]), bytes.fromhex(case["aad"])
        sealed = bytes.fromhex(case["ct"]) + bytes.fromhex(case["tag"])
        if case["result"] == "valid":
            assert crypto.aead_seal(key, counter, plaintext, ad) == sealed, case["tcId"]
            assert crypto.aead_open(key, counter, sealed, ad) == plaintext, case["tcId"]
        else:
            with pytest.raises(AuthenticationFailed):
                crypto.aead_open(key, counter, sealed, ad)
        ran += 1
    assert ran == 10


def test_wycheproof_xchacha20_poly1305() -> None:
    """All 315; those with a nonce of another size are a ValueError that names both sizes."""
    ran = 0
    for case in cases("wycheproof_xchacha20_poly1305.json"):
        key, nonce, ad = (bytes.fromhex(case[name]) for name in ("key", "iv", "aad"))
        plaintext, sealed = bytes.fromhex(case["msg"]), bytes.fromhex(case["ct"]) + bytes.fromhex(case["tag"])
        if len(nonce) != 24:
            assert case["result"] == "invalid"
            with pytest.raises(ValueError, match=f"expected a nonce of 24 bytes, found {len(nonce)}"):
                crypto.xaead_open(key, nonce, sealed, ad)
        elif case["result"] == "valid":
            assert crypto.xaead_seal(key, nonce, plaintext, ad) == sealed, case["tcId"]
            assert crypto.xaead_open(key, nonce, sealed, ad) == plaintext, case["tcId"]
        else:
            with pytest.raises(AuthenticationFailed):
                crypto.xaead_open(key, nonce, sealed, ad)
        ran += 1
    assert ran == 315


def test_rfc7748_diffie_hellman() -> None:
    """RFC 7748, 6.1."""
    alice = Secret.from_hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = Secret.from_hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    shared = Secret.from_hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert crypto.public_key(alice).hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert crypto.public_key(bob).hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert crypto.dh(alice, crypto.public_key(bob)) == shared
    assert crypto.dh(bob, crypto.public_key(alice)) == shared


def test_rfc7693_hash() -> None:
    """RFC 7693, appendix B, in one part and in several."""
    expected = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    assert crypto.hash(b"abc").hex() == expected
    assert crypto.hash(b"a", b"", b"bc").hex() == expected
    assert crypto.hash(b"a", Secret.zero(), b"b") == crypto.hash(b"a" + bytes(32) + b"b")


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 127, 128, 129, 1000])
def test_hash_and_mac_equal_hashlib(size: int) -> None:
    """BLAKE2s of Python's own library, at sizes around the block."""
    data = bytes(i * 7 % 251 for i in range(size))
    assert crypto.hash(data) == hashlib.blake2s(data).digest()
    for key in (b"k", bytes(range(16)), bytes(range(32))):
        expected = hashlib.blake2s(data, key=key, digest_size=16).digest()
        assert crypto.mac(key, data) == expected
        assert crypto.mac(key, data[: size // 2], data[size // 2 :]) == expected
        assert crypto.mac_equal(key, data, expected)


def test_mac_equal_sees_every_bit_and_every_size() -> None:
    """One flipped bit anywhere, or another size, is unequal."""
    tag = crypto.mac(b"key", b"datagram")
    for bit in range(128):
        other = (int.from_bytes(tag, "big") ^ (1 << bit)).to_bytes(16, "big")
        assert not crypto.mac_equal(b"key", b"datagram", other)
    assert not crypto.mac_equal(b"key", b"datagram", tag[:-1])
    assert not crypto.mac_equal(b"key", b"datagram", tag + b"\0")
    assert not crypto.mac_equal(b"key", b"datagram", b"")


@pytest.mark.parametrize("key", [b"", bytes(33)])
def test_mac_key_sizes(key: bytes) -> None:
    """An empty key would be the plain hash; 33 bytes are more than BLAKE2s takes."""
    with pytest.raises(ValueError, match="1 to 32 bytes"):
        crypto.mac(key, b"x")
    with pytest.raises(ValueError, match="1 to 32 bytes"):
        crypto.mac_equal(key, b"x", bytes(16))


@pytest.mark.parametrize("data", [b"", b"x", bytes(32), bytes(range(200))])
def test_kdf_equals_hmac(data: bytes) -> None:
    """The paper's Kdf_n, written with Python's hmac and hashlib."""
    chain = bytes(range(32))
    t0 = hmac.new(chain, data, hashlib.blake2s).digest()
    outputs: list[Secret] = []
    previous = b""
    for number in (1, 2, 3):
        previous = hmac.new(t0, previous + bytes([number]), hashlib.blake2s).digest()
        outputs.append(Secret.from_bytes(previous))
    handle = Secret.from_bytes(chain)
    assert crypto.kdf1(handle, data) == outputs[0]
    assert crypto.kdf2(handle, data) == tuple(outputs[:2])
    assert crypto.kdf3(handle, data) == tuple(outputs)
    if len(data) == 32:
        assert crypto.kdf3(handle, Secret.from_bytes(data)) == tuple(outputs)


def test_kdf_of_a_secret_with_itself() -> None:
    """Chain and data may be one object: no lock is taken twice."""
    handle = Secret.from_bytes(bytes(range(32)))
    assert crypto.kdf1(handle, handle) == crypto.kdf1(handle, bytes(range(32)))


def test_aead_refuses_any_change() -> None:
    """Key, counter, associated data, and every byte of the message."""
    key = Secret.random()
    sealed = crypto.aead_seal(key, 7, b"plaintext", b"ad")
    assert crypto.aead_open(key, 7, sealed, b"ad") == b"plaintext"
    attempts = [
        (Secret.random(), 7, sealed, b"ad"),
        (key, 8, sealed, b"ad"),
        (key, 7, sealed, b"da"),
        (key, 7, sealed[:-1], b"ad"),
    ]
    attempts += [(key, 7, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], b"ad") for at in range(len(sealed))]
    attempts += [(key, 7, bytes(size), b"") for size in range(17)]
    for attempt in attempts:
        with pytest.raises(AuthenticationFailed):
            crypto.aead_open(*attempt)


@pytest.mark.parametrize("counter", [-1, 1 << 64])
def test_counters_have_64_bits(counter: int) -> None:
    """No wrapping into a nonce that was used."""
    with pytest.raises(OverflowError):
        crypto.aead_seal(Secret.zero(), counter, b"", b"")


def test_entropy_sizes() -> None:
    """As many bytes as asked for, different each time."""
    assert crypto.entropy(0) == b""
    assert len(crypto.entropy(1000)) == 1000
    assert crypto.entropy(32) != crypto.entropy(32)
