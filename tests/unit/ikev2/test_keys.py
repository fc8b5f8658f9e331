"""Key derivation against Python's own HMAC, step by step as RFC 7296 2.14, 2.17, 2.18 have it; and the lines for tshark."""

from __future__ import annotations

import hmac

import pytest

from ginnel.crypto.ike import IkeCipher, KeyMaterial
from ginnel.ikev2 import keys, proposals
from ginnel.ikev2.keys import Exchanged
from ginnel.ikev2.proposals import Chosen

NI, NR, SPI_I, SPI_R, SHARED = b"i" * 32, b"r" * 32, b"I" * 8, b"R" * 8, b"s" * 32
SAID = Exchanged(NI, NR, SPI_I, SPI_R)


def chosen(words: str, protocol: str) -> Chosen:
    (one,) = proposals.parse_list((words,), protocol)  # type: ignore[arg-type]
    found = proposals.select((one,), (one,), ke=True, ke_group=proposals.groups((one,))[0] or None)
    assert isinstance(found, Chosen)
    return found


def prf_plus(hash_: str, key: bytes, seed: bytes, size: int) -> bytes:
    out, block = b"", b""
    for number in range(1, 256):
        if len(out) >= size:
            break
        block = hmac.digest(key, block + seed + bytes((number,)), hash_)
        out += block
    return out[:size]


def expected_ike(words: str, old: tuple[str, bytes] | None = None) -> list[bytes]:
    found = chosen(words, "ike")
    seed = hmac.digest(NI + NR, SHARED, found.hash) if old is None else hmac.digest(old[1], SHARED + NI + NR, old[0])
    size = hmac.new(b"", b"", found.hash).digest_size
    a, e = found.integrity_key_bytes, found.encryption_key_bytes
    sizes = [size, a, a, e, e, size, size]
    made = prf_plus(found.hash, seed, NI + NR + SPI_I + SPI_R, sum(sizes))
    return [made[sum(sizes[:at]) : sum(sizes[: at + 1])] for at in range(7)]


@pytest.mark.parametrize(
    "words",
    ["aes256gcm16-prfsha384-x25519", "aes128-sha256-ecp256", "chacha20poly1305-prfsha256-x25519", "aes192-sha512-modp2048"],
)
@pytest.mark.parametrize("rekeyed", [False, True])
def test_an_ike_sa_has_the_same_keys_at_both_ends_and_they_are_the_rfcs(words: str, rekeyed: bool) -> None:
    found = chosen(words, "ike")
    old = None
    if rekeyed:
        empty = IkeCipher("aes128gcm16", KeyMaterial.random(20), KeyMaterial.from_bytes(b""))
        nothing = KeyMaterial.random(1)
        old = keys.IkeKeys("sha512", KeyMaterial.from_bytes(b"d" * 64), empty, empty, nothing, nothing)
    left, right = (
        keys.of_ike(found, KeyMaterial.from_bytes(SHARED), SAID, initiator=side, old=old, debug=True) for side in (True, False)
    )
    sk_d, sk_ai, sk_ar, sk_ei, sk_er, sk_pi, sk_pr = expected_ike(words, ("sha512", b"d" * 64) if rekeyed else None)
    assert left.sk_d == right.sk_d == KeyMaterial.from_bytes(sk_d)
    assert left.sk_p_ours == right.sk_p_theirs == KeyMaterial.from_bytes(sk_pi)
    assert left.sk_p_theirs == right.sk_p_ours == KeyMaterial.from_bytes(sk_pr)
    for one, other in ((left, right), (right, left)):
        assert other.open.open(b"associated", one.seal.seal(b"associated", b"text")) == b"text"
    reader = IkeCipher(found.suite, KeyMaterial.from_bytes(sk_ei), KeyMaterial.from_bytes(sk_ai))
    assert reader.open(b"associated", left.seal.seal(b"associated", b"text")) == b"text"
    assert left.decryption_line == right.decryption_line
    start = f"{SPI_I.hex()},{SPI_R.hex()},{sk_ei.hex()},{sk_er.hex()}"
    assert left.decryption_line.startswith(start)
    assert f"{sk_ai.hex()},{sk_ar.hex()}" in left.decryption_line


def test_nothing_is_revealed_without_the_debug_mode() -> None:
    found = chosen("aes128gcm16-prfsha256-x25519", "ike")
    made = keys.of_ike(found, KeyMaterial.from_bytes(SHARED), SAID, initiator=True)
    assert made.decryption_line == ""
    child = keys.of_child(chosen("aes128gcm16-x25519", "esp"), made, None, NI + NR, initiator=True)
    assert child.esp is None


@pytest.mark.parametrize("words", ["aes256gcm16", "aes128-sha256", "chacha20poly1305", "aes256-sha512"])
@pytest.mark.parametrize("pfs", [False, True])
def test_a_childs_keys_are_in_the_rfcs_order(words: str, pfs: bool) -> None:
    ike = keys.of_ike(chosen("aes128gcm16-prfsha256-x25519", "ike"), KeyMaterial.from_bytes(SHARED), SAID, initiator=True)
    sk_d = expected_ike("aes128gcm16-prfsha256-x25519")[0]
    found = chosen(f"{words}-none", "esp")
    e, a = found.encryption_key_bytes, found.integrity_key_bytes
    shared = b"g" * 32 if pfs else b""
    made = prf_plus("sha256", sk_d, shared + NI + NR, 2 * (e + a))
    expected = [KeyMaterial.from_bytes(made[at : at + size]) for at, size in ((0, e), (e, a), (e + a, e), (2 * e + a, a))]
    for initiator in (True, False):
        child = keys.of_child(
            found, ike, KeyMaterial.from_bytes(shared) if pfs else None, NI + NR, initiator=initiator, debug=True
        )
        ours = [child.outbound.key, child.outbound.integrity, child.inbound.key, child.inbound.integrity]
        assert ours == (expected if initiator else expected[2:] + expected[:2])
        assert child.esp is not None
        assert child.esp[0 if initiator else 1] == (made[:e].hex(), made[e : e + a].hex())


def test_the_lines_of_esp() -> None:
    line = keys.esp_line("aes256gcm16", "192.0.2.1", "192.0.2.2", 0x1234, ("ab", ""))
    assert line == '"IPv4","192.0.2.1","192.0.2.2","0x00001234","AES-GCM with 16 octet ICV [RFC4106]","0xab","NULL",""'
    line = keys.esp_line("aes128-sha256", "2001:db8::1", "2001:db8::2", 0xFFFF_FFFF, ("ab", "cd"))
    assert (
        line == '"IPv6","2001:db8::1","2001:db8::2","0xffffffff","AES-CBC [RFC3602]","0xab","HMAC-SHA-256-128 [RFC4868]","0xcd"'
    )
