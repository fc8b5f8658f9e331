"""
IKEv2's primitives through `ginnel.crypto.ike`, as Python uses them: against the standard library, big integers and
`cryptography`, and every refusal. Published vectors run through the same code in rust/crypto/tests.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import pickle
import threading
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ginnel import _native
from ginnel.crypto.ike import (
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

HASHES: tuple[_native.Hash, ...] = ("sha1", "sha256", "sha384", "sha512")
#: Group: (bits, constant) of p = 2^n - 2^(n-64) - 1 + 2^64 (floor(2^(n-130) pi) + constant); RFC 2409, 6.2; RFC 3526.
MODP = {
    2: (1024, 129093),
    5: (1536, 741804),
    14: (2048, 124476),
    15: (3072, 1690314),
    16: (4096, 240904),
    17: (6144, 929484),
    18: (8192, 4743158),
}
ECP = {19: ec.SECP256R1(), 20: ec.SECP384R1(), 21: ec.SECP521R1()}
#: Suite: bytes of key (with salt), of integrity key, of IV, of checksum.
SUITES = {
    "aes128gcm16": (20, 0, 8, 16),
    "aes192gcm16": (28, 0, 8, 16),
    "aes256gcm16": (36, 0, 8, 16),
    "chacha20poly1305": (36, 0, 8, 16),
    **{
        f"aes{bits}-{name}": (bits // 8, size, 16, icv)
        for bits in (128, 192, 256)
        for name, size, icv in (("sha1", 20, 12), ("sha256", 32, 16), ("sha384", 48, 24), ("sha512", 64, 32))
    },
}


# ---------------------------------------------------------------- key material


def test_material_keeps_its_bytes() -> None:
    for size in (0, 1, 20, 65536):
        raw = bytes(i % 251 for i in range(size))
        material = KeyMaterial.from_bytes(raw)
        assert len(material) == size
        assert material.reveal() == raw
        assert material == material.duplicate()
    assert KeyMaterial.random(32) != KeyMaterial.random(32)
    assert KeyMaterial.from_bytes(b"ab") != KeyMaterial.from_bytes(b"abc")
    assert KeyMaterial.from_bytes(b"ab") != b"ab"
    assert KeyMaterial.from_bytes(b""), "empty material is there all the same"


@pytest.mark.parametrize("make", [KeyMaterial.random, lambda size: KeyMaterial.from_bytes(bytes(size))])
def test_material_is_bounded(make: Callable[[int], KeyMaterial]) -> None:
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        make(65537)
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        concat(bytes(65536), b"x")


def test_material_shows_nothing() -> None:
    material = KeyMaterial.from_bytes(b"secret secret")
    assert {repr(material), str(material), f"{material}"} == {"KeyMaterial(..)"}
    assert not hasattr(material, "__dict__")
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            leak(material)
    with pytest.raises(TypeError):
        hash(material)
    with pytest.raises(TypeError):
        bytes(material)  # type: ignore[call-overload]


def test_split_takes_and_a_second_use_is_refused() -> None:
    material = KeyMaterial.from_bytes(b"abcdef")
    one, none, two = material.split(2, 0, 4)
    assert (one.reveal(), none.reveal(), two.reveal()) == (b"ab", b"", b"cdef")
    uses: tuple[Callable[[], object], ...] = (
        lambda: material.split(6),
        lambda: len(material),
        material.duplicate,
        material.reveal,
        lambda: material == two,
        lambda: two == material,
        lambda: prf("sha256", material),
        lambda: prf("sha256", b"", material),
        lambda: prf_plus("sha256", material, b"", 1),
        lambda: concat(material),
    )
    for use in uses:
        with pytest.raises(ValueError, match="used once"):
            use()
    assert repr(material) == "KeyMaterial(..)"


@pytest.mark.parametrize("sizes", [(), (5,), (7,), (3, 2), (2**63, 2**63, 6)])
def test_split_by_wrong_sizes_takes_nothing(sizes: tuple[int, ...]) -> None:
    material = KeyMaterial.from_bytes(b"abcdef")
    with pytest.raises(ValueError, match="add up to 6"):
        material.split(*sizes)
    assert material.reveal() == b"abcdef"


# ---------------------------------------------------------------- prf


@pytest.mark.parametrize("name", HASHES)
def test_prf_is_hmac(name: _native.Hash) -> None:
    for size in (0, 1, 20, 63, 64, 65, 127, 128, 129, 300):
        key = bytes(i % 256 for i in range(size))
        parts = (b"first", b"", bytes(200))
        expected = hmac.new(key, b"".join(parts), name).digest()
        secret = KeyMaterial.from_bytes(key)
        assert prf_public(name, key, *parts) == expected
        assert prf(name, secret, parts[0], KeyMaterial.from_bytes(parts[1]), parts[2]).reveal() == expected
        assert prf(name, secret, secret, secret).reveal() == hmac.new(key, key + key, name).digest(), "one handle, thrice"
    assert prf_public(name, b"k") == hmac.new(b"k", b"", name).digest()


@pytest.mark.parametrize("name", HASHES)
def test_prf_plus(name: _native.Hash) -> None:
    key, seed = b"key", b"Ni Nr SPIi SPIr"
    expected = previous = b""
    for number in range(1, 256):
        previous = hmac.new(key, previous + seed + bytes([number]), name).digest()
        expected += previous
    secret = KeyMaterial.from_bytes(key)
    for size in (0, 1, 132, len(expected) - 1, len(expected)):
        assert prf_plus(name, secret, seed, size).reveal() == expected[:size]
    assert prf_plus(name, secret, KeyMaterial.from_bytes(seed), 40).reveal() == expected[:40]
    with pytest.raises(ValueError, match=f"at most {len(expected)} bytes"):
        prf_plus(name, secret, seed, len(expected) + 1)


def test_hashes_and_comparisons() -> None:
    for name in HASHES:
        assert digest(name, b"a", b"", b"bc") == hashlib.new(name, b"abc").digest()
        assert digest(name) == hashlib.new(name).digest()
    assert bytes_equal(b"", b"")
    assert bytes_equal(b"abc", b"abc")
    assert not bytes_equal(b"abc", b"abd")
    assert not bytes_equal(b"abc", b"abcd")
    with pytest.raises(ValueError, match='found "md5"'):
        digest("md5", b"")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected bytes or KeyMaterial"):
        prf("sha256", "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected bytes or KeyMaterial"):
        concat(b"a", "b")  # type: ignore[arg-type]
    assert concat(b"a", KeyMaterial.from_bytes(b"b"), b"").reveal() == b"ab"
    assert concat().reveal() == b""


# ---------------------------------------------------------------- Diffie-Hellman


def machin(bits: int) -> int:
    """floor(2^bits pi), by Machin's formula in integers with room to spare."""
    one = 1 << (bits + 64)

    def arctan_of_inverse(x: int) -> int:
        total = term = one // x
        square, n, sign = x * x, 3, -1
        while term:
            term //= square
            total += sign * (term // n)
            n, sign = n + 2, -sign
        return total

    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239)) >> 64


def prime(group: int) -> int:
    bits, constant = MODP[group]
    return int(2**bits - 2 ** (bits - 64) - 1 + 2**64 * (machin(bits - 130) + constant))


@pytest.mark.parametrize("group", MODP)
def test_modp_is_arithmetic(group: int) -> None:
    """The prime by its formula, the other side by Python's integers."""
    p, size = prime(group), MODP[group][0] // 8
    ours = KeyExchange(group)
    assert len(ours.public) == size
    assert ours.group == group
    secret = int.from_bytes(hashlib.sha512(b"the other side").digest()[:32])
    theirs = pow(2, secret, p).to_bytes(size)
    expected = pow(int.from_bytes(ours.public), secret, p).to_bytes(size)
    assert ours.agree(theirs).reveal() == expected

    for wrong in (0, 1, p - 1, p, p + 1, 2 ** (8 * size) - 1):
        with pytest.raises(InvalidPublicValue):
            KeyExchange(group).agree(wrong.to_bytes(size))
    for right in (2, p - 2):
        assert len(KeyExchange(group).agree(right.to_bytes(size))) == size
    for length in (0, size - 1, size + 1):
        with pytest.raises(InvalidPublicValue):
            KeyExchange(group).agree(bytes(length - 1) + b"\2" if length else b"")


def test_a_short_modp_result_is_padded() -> None:
    """g^ir with a leading zero byte keeps the group's length (RFC 7296, 2.14): one in 256 is such a result."""
    p, found = prime(2), 0
    for secret in range(3, 3000):
        exchange = KeyExchange(2)
        expected = pow(int.from_bytes(exchange.public), secret, p)
        if expected < 2**1016:
            assert exchange.agree(pow(2, secret, p).to_bytes(128)).reveal() == expected.to_bytes(128)
            found += 1
            if found == 2:
                return
    pytest.fail("no short result in 3,000 exchanges")


@pytest.mark.parametrize("group", ECP)
def test_ecp_is_ecdh(group: int) -> None:
    curve = ECP[group]
    size = (curve.key_size + 7) // 8
    for _ in range(10):
        ours, theirs = KeyExchange(group), ec.generate_private_key(curve)
        assert len(ours.public) == 2 * size
        point = ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\4" + ours.public)
        public = theirs.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        assert ours.agree(public).reveal() == theirs.exchange(ec.ECDH(), point)


@pytest.mark.parametrize("group", ECP)
def test_ecp_points_are_checked(group: int) -> None:
    size = (ECP[group].key_size + 7) // 8
    good = KeyExchange(group).public
    wrong = [
        good[:-1] + bytes([good[-1] ^ 1]),  # not on the curve
        bytes(2 * size),  # the point at infinity, as some write it
        b"\xff" * (2 * size),  # not below p
        good[:-1],
        good + b"\0",
        b"\4" + good,  # as TLS writes it
        b"\2" + good[:size],  # compressed
        b"",
    ]
    for peer in wrong:
        with pytest.raises(InvalidPublicValue, match="not valid in its group"):
            KeyExchange(group).agree(peer)
    assert len(KeyExchange(group).agree(good)) == size


def test_x25519() -> None:
    ours, theirs = KeyExchange(31), x25519.X25519PrivateKey.generate()
    public = theirs.public_key().public_bytes_raw()
    assert ours.agree(public).reveal() == theirs.exchange(x25519.X25519PublicKey.from_public_bytes(ours.public))
    order_8 = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
    for wrong in (bytes(32), b"\1" + bytes(31), order_8, public[:31], public + b"\0", b""):
        with pytest.raises(InvalidPublicValue):
            KeyExchange(31).agree(wrong)


@pytest.mark.parametrize("group", [0, 1, 3, 22, 23, 24, 30, 32, 35, 65535])
def test_other_groups_are_refused(group: int) -> None:
    with pytest.raises(ValueError, match=rf"found {group}$"):
        KeyExchange(group)


def test_an_exchange_serves_once() -> None:
    """Also when the peer's value was not valid: it was tried with this secret, and is not to try another."""
    peer = KeyExchange(31).public
    for first in (peer, bytes(32)):
        exchange = KeyExchange(31)
        try:
            exchange.agree(first)
        except InvalidPublicValue:
            assert first == bytes(32)
        with pytest.raises(ValueError, match="used already"):
            exchange.agree(peer)
        assert len(exchange.public) == 32
    for leak in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            leak(exchange)


def test_the_gil_is_free_meanwhile() -> None:
    """An 8192-bit exchange in another thread does not stop this one."""
    done = threading.Event()

    def work() -> None:
        KeyExchange(18).agree(KeyExchange(18).public)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    turns = 0
    while not done.is_set():
        turns += 1
    thread.join()
    assert turns > 100, "only as many turns as there are switches between threads"


# ---------------------------------------------------------------- messages


def keys(suite: str) -> tuple[bytes, bytes]:
    size, integrity = SUITES[suite][:2]
    return bytes(range(1, size + 1)), bytes(range(100, 100 + integrity))


def cipher(suite: str) -> IkeCipher:
    key, integrity = keys(suite)
    return IkeCipher(suite, KeyMaterial.from_bytes(key), KeyMaterial.from_bytes(integrity))


def read(suite: str, associated: bytes, sealed: bytes) -> bytes:
    """A sealed message, checked and decrypted by other libraries; with its padding."""
    key, integrity = keys(suite)
    _, _, iv_size, icv_size = SUITES[suite]
    iv, text, icv = sealed[:iv_size], sealed[iv_size:-icv_size], sealed[-icv_size:]
    if not integrity:
        library = ChaCha20Poly1305 if suite.startswith("chacha") else AESGCM
        return library(key[:-4]).decrypt(key[-4:] + iv, text + icv, associated)
    assert hmac.new(integrity, associated + iv + text, suite.partition("-")[2]).digest()[:icv_size] == icv
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(text) + decryptor.finalize()


@pytest.mark.parametrize("suite", SUITES)
def test_messages_are_as_the_rfcs_say(suite: str) -> None:
    one, other = cipher(suite), cipher(suite)
    for size in (0, 1, 4, 7, 14, 15, 16, 17, 100, 1300, 65535):
        plaintext, associated = bytes(i * 7 % 256 for i in range(size)), bytes(32)
        sealed = one.seal(associated, plaintext)
        assert len(sealed) == one.sealed_size(size)
        assert other.open(associated, sealed) == plaintext
        padded = read(suite, associated, sealed)
        assert padded[:size] == plaintext
        assert padded[-1] == len(padded) - size - 1
        assert other.open(associated, sealed) == plaintext, "opening keeps no state"


@pytest.mark.parametrize("suite", SUITES)
def test_ivs_never_repeat(suite: str) -> None:
    size, (one, other) = SUITES[suite][2], (cipher(suite), cipher(suite))
    seen = [each.seal(b"", b"")[:size] for _ in range(500) for each in (one, other)]
    assert len(set(seen)) == 1000


@pytest.mark.parametrize("suite", SUITES)
def test_forgeries_are_refused(suite: str) -> None:
    one, associated = cipher(suite), bytes(range(32))
    sealed = one.seal(associated, b"plain")
    forged = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    shortened = [sealed[:at] for at in range(len(sealed))]
    for message in (*forged, *shortened, sealed + b"\0", sealed + sealed, bytes(len(sealed))):
        with pytest.raises(AuthenticationFailed, match="does not authenticate"):
            one.open(associated, message)
    for other in (b"", associated[:-1], associated + b"\0", bytes(32)):
        with pytest.raises(AuthenticationFailed):
            one.open(other, sealed)
    assert one.open(associated, sealed) == b"plain"


def test_a_cipher_takes_its_keys() -> None:
    key, integrity = KeyMaterial.random(16), KeyMaterial.random(32)
    IkeCipher("aes128-sha256", key, integrity)
    for left in (key, integrity):
        with pytest.raises(ValueError, match="used once"):
            left.reveal()
    same = KeyMaterial.random(16)
    with pytest.raises(ValueError, match="used once"):
        IkeCipher("aes128-sha256", same, same)


@pytest.mark.parametrize("suite", SUITES)
def test_wrong_key_sizes_are_told(suite: str) -> None:
    size, integrity = SUITES[suite][:2]
    for wrong, other in ((size + 1, integrity), (size - 4, integrity), (size, integrity + 1), (0, 0)):
        with pytest.raises(ValueError, match=rf"{suite} takes a key of {size} bytes .*, found {wrong} and {other}"):
            IkeCipher(suite, KeyMaterial.random(wrong), KeyMaterial.random(other))


@pytest.mark.parametrize("suite", ["", "aes128", "AES128GCM16", "aes128gcm8", "3des-sha1", "aes128gcm16-sha256"])
def test_other_suites_are_refused(suite: str) -> None:
    with pytest.raises(ValueError, match="expected one of aes128gcm16, "):
        IkeCipher(suite, KeyMaterial.random(16), KeyMaterial.random(0))
