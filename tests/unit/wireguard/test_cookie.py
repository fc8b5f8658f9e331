"""mac1, mac2, and when a cookie is taken and used."""

from __future__ import annotations

import hashlib

import pytest

from ginnel import crypto
from ginnel.wire.wireguard import CookieReply, Initiation, Response
from ginnel.wireguard.cookie import Stamps, cookie_key, mac1_key, mac1_valid

PUBLIC = bytes(range(32))
SECOND = 1_000_000_000
INITIATION = Initiation(7, b"\x01" * 32, b"\x02" * 48, b"\x03" * 28).build()
RESPONSE = Response(8, 7, b"\x01" * 32, b"\x02" * 16).build()
COOKIE = b"\xcc" * 16
NONCE = b"\x0e" * 24


def reply_to(message: bytes, issuer: bytes = PUBLIC, cookie: bytes = COOKIE) -> CookieReply:
    return CookieReply(7, NONCE, crypto.xaead_seal(cookie_key(issuer), NONCE, cookie, message[-32:-16]))


def blake2s_mac(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2s(data, key=key, digest_size=16).digest()


def test_keys_are_the_labelled_hash_of_the_receivers_public_key() -> None:
    assert mac1_key(PUBLIC) == hashlib.blake2s(b"mac1----" + PUBLIC).digest()
    assert cookie_key(PUBLIC) == hashlib.blake2s(b"cookie--" + PUBLIC).digest()


@pytest.mark.parametrize("message", [INITIATION, RESPONSE], ids=["initiation", "response"])
def test_mac1_covers_everything_before_it_and_mac2_is_zero_without_a_cookie(message: bytes) -> None:
    stamped = Stamps(PUBLIC).stamp(message, 0)
    assert stamped[:-32] == message[:-32]
    assert stamped[-32:-16] == blake2s_mac(mac1_key(PUBLIC), message[:-32])
    assert stamped[-16:] == bytes(16)


def test_mac1_is_judged() -> None:
    stamped = Stamps(PUBLIC).stamp(INITIATION, 0)
    assert mac1_valid(mac1_key(PUBLIC), stamped)
    assert not mac1_valid(mac1_key(bytes(32)), stamped)
    for at in range(len(stamped) - 16):
        damaged = bytearray(stamped)
        damaged[at] ^= 0x80
        assert not mac1_valid(mac1_key(PUBLIC), bytes(damaged)), at
    for size in (0, 31, 32, 64):
        assert not mac1_valid(mac1_key(PUBLIC), stamped[:size])


@pytest.mark.parametrize("message", [INITIATION, RESPONSE], ids=["initiation", "response"])
def test_a_cookie_becomes_the_key_of_mac2_which_covers_mac1_too(message: bytes) -> None:
    stamps = Stamps(PUBLIC)
    first = stamps.stamp(message, 0)
    assert stamps.accept(reply_to(first), 0)
    second = stamps.stamp(message, 1)
    assert second[-16:] == blake2s_mac(COOKIE, second[:-16])


def test_a_cookie_is_used_for_115_seconds_and_not_a_nanosecond_more() -> None:
    stamps = Stamps(PUBLIC)
    first = stamps.stamp(INITIATION, 0)
    assert stamps.accept(reply_to(first), 10 * SECOND)
    assert stamps.stamp(INITIATION, 125 * SECOND - 1)[-16:] != bytes(16)
    assert stamps.has_cookie(125 * SECOND - 1)
    assert not stamps.has_cookie(125 * SECOND)
    assert stamps.stamp(INITIATION, 125 * SECOND)[-16:] == bytes(16)


def test_a_reply_is_refused_when_nothing_was_sent() -> None:
    stamps = Stamps(PUBLIC)
    assert not stamps.accept(reply_to(INITIATION), 0)
    assert not stamps.has_cookie(0)


def test_one_reply_is_taken_for_one_mac1() -> None:
    stamps = Stamps(PUBLIC)
    first = stamps.stamp(INITIATION, 0)
    assert stamps.accept(reply_to(first), 0)
    assert not stamps.accept(reply_to(first, cookie=b"\xdd" * 16), 0)
    assert stamps.stamp(INITIATION, 1)[-16:] == blake2s_mac(COOKIE, stamps.stamp(INITIATION, 1)[:-16])


def test_a_reply_to_an_older_message_is_refused() -> None:
    stamps = Stamps(PUBLIC)
    first = stamps.stamp(INITIATION, 0)
    stamps.stamp(RESPONSE, 1)
    assert not stamps.accept(reply_to(first), 2)


def test_a_reply_of_somebody_else_is_refused_and_the_true_one_still_taken() -> None:
    stamps = Stamps(PUBLIC)
    first = stamps.stamp(INITIATION, 0)
    assert not stamps.accept(reply_to(first, issuer=bytes(32)), 0)
    true = reply_to(first)
    for at in range(32):
        damaged = bytearray(true.encrypted_cookie)
        damaged[at] ^= 1
        assert not stamps.accept(CookieReply(true.receiver, true.nonce, bytes(damaged)), 0)
    assert stamps.accept(true, 0)
