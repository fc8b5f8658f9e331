"""The handshake's two messages: a published vector, agreement of both sides, and refusals at every step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ginnel import crypto
from ginnel.crypto import AuthenticationFailed, Secret, ZeroSecret
from ginnel.wireguard import noise

VECTOR: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "noise_ikpsk2.json").read_text())

#: Points of small order: with any private key they give zero. (0, 1, two of order 8, p-1, p, p+1.)
LOW_ORDER = [
    bytes.fromhex(text)
    for text in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
]


def secret(name: str) -> Secret:
    return Secret.from_hex(VECTOR[name])


def test_the_published_ikpsk2_vector() -> None:
    """`cacophony`: prologue, payloads and ephemerals fixed; both handshake messages and the transport messages after them."""
    initiator, responder = secret("init_static"), secret("resp_static")
    responder_public = bytes.fromhex(VECTOR["init_remote_static"])
    assert crypto.public_key(responder) == responder_public
    start = noise.initial_hash(responder_public, bytes.fromhex(VECTOR["init_prologue"]))
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in VECTOR["messages"]]
    static_static = crypto.dh(initiator, responder_public)

    payload, ciphertext = messages[0]
    initiated, *fields = noise.create_initiation(
        start, crypto.public_key(initiator), responder_public, static_static, payload, secret("init_ephemeral")
    )
    assert b"".join(fields) == ciphertext

    half = noise.consume_static(start, responder, ciphertext[:32], ciphertext[32:80])
    assert half.remote_static == crypto.public_key(initiator)
    consumed, opened = noise.consume_payload(half, crypto.dh(responder, half.remote_static), ciphertext[80:])
    assert opened == payload

    payload, ciphertext = messages[1]
    psk = Secret.from_hex(VECTOR["init_psks"][0])
    responder_keys, *fields = noise.create_response(consumed, psk, secret("resp_ephemeral"), payload)
    assert b"".join(fields) == ciphertext
    initiator_keys, opened = noise.consume_response(initiated, initiator, psk, ciphertext[:32], ciphertext[32:])
    assert opened == payload
    assert initiator_keys.initiator_sends == responder_keys.initiator_sends
    assert initiator_keys.responder_sends == responder_keys.responder_sends

    for number, (payload, ciphertext) in enumerate(messages[2:]):
        key = initiator_keys.initiator_sends if number % 2 == 0 else initiator_keys.responder_sends
        assert crypto.aead_seal(key, number // 2, payload, b"") == ciphertext


class Exchange:
    """Both sides with fresh keys, up to the initiation."""

    def __init__(self, payload: bytes = b"\x40" * 12) -> None:
        self.initiator, self.responder = crypto.generate_private_key(), crypto.generate_private_key()
        self.initiator_public = crypto.public_key(self.initiator)
        self.responder_public = crypto.public_key(self.responder)
        self.static_static = crypto.dh(self.initiator, self.responder_public)
        self.start = noise.initial_hash(self.responder_public)
        self.initiated, self.ephemeral, self.encrypted_static, self.encrypted_payload = noise.create_initiation(
            self.start, self.initiator_public, self.responder_public, self.static_static, payload, Secret.random()
        )

    def consume(self) -> noise.Consumed:
        half = noise.consume_static(self.start, self.responder, self.ephemeral, self.encrypted_static)
        return noise.consume_payload(half, self.static_static, self.encrypted_payload)[0]


def test_two_sides_agree_on_two_different_keys() -> None:
    exchange = Exchange()
    psk = Secret.random()
    theirs, ephemeral, nothing = noise.create_response(exchange.consume(), psk, Secret.random())
    ours, payload = noise.consume_response(exchange.initiated, exchange.initiator, psk, ephemeral, nothing)
    assert payload == b""
    assert ours.initiator_sends == theirs.initiator_sends
    assert ours.responder_sends == theirs.responder_sends
    assert ours.initiator_sends != ours.responder_sends


def test_no_two_handshakes_give_one_key() -> None:
    exchange = Exchange()
    consumed = exchange.consume()
    first, *_ = noise.create_response(consumed, Secret.zero(), Secret.random())
    second, *_ = noise.create_response(consumed, Secret.zero(), Secret.random())
    assert first.initiator_sends != second.initiator_sends


def test_another_preshared_key_does_not_open() -> None:
    exchange = Exchange()
    _, ephemeral, nothing = noise.create_response(exchange.consume(), Secret.random(), Secret.random())
    for wrong in (Secret.zero(), Secret.random()):
        with pytest.raises(AuthenticationFailed):
            noise.consume_response(exchange.initiated, exchange.initiator, wrong, ephemeral, nothing)


def test_another_responder_cannot_answer() -> None:
    exchange = Exchange()
    with pytest.raises(AuthenticationFailed):
        noise.consume_static(
            noise.initial_hash(exchange.initiator_public), exchange.initiator, exchange.ephemeral, exchange.encrypted_static
        )


def test_who_does_not_hold_the_static_key_is_found_out() -> None:
    """The first half opens for anybody who knows the responder's public key; the second only for who it claims to be."""
    exchange = Exchange()
    impostor = crypto.generate_private_key()
    _, ephemeral, encrypted_static, encrypted_payload = noise.create_initiation(
        exchange.start,
        exchange.initiator_public,
        exchange.responder_public,
        crypto.dh(impostor, exchange.responder_public),
        b"\x41" * 12,
        Secret.random(),
    )
    half = noise.consume_static(exchange.start, exchange.responder, ephemeral, encrypted_static)
    assert half.remote_static == exchange.initiator_public
    with pytest.raises(AuthenticationFailed):
        noise.consume_payload(half, exchange.static_static, encrypted_payload)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_any_bit_of_either_message_matters() -> None:
    exchange = Exchange()
    for at in range(48):
        with pytest.raises(AuthenticationFailed):
            noise.consume_static(exchange.start, exchange.responder, exchange.ephemeral, flipped(exchange.encrypted_static, at))
    half = noise.consume_static(exchange.start, exchange.responder, exchange.ephemeral, exchange.encrypted_static)
    for at in range(28):
        with pytest.raises(AuthenticationFailed):
            noise.consume_payload(half, exchange.static_static, flipped(exchange.encrypted_payload, at))
    with pytest.raises(AuthenticationFailed):
        noise.consume_static(exchange.start, exchange.responder, flipped(exchange.ephemeral, 0), exchange.encrypted_static)
    psk = Secret.zero()
    _, ephemeral, nothing = noise.create_response(exchange.consume(), psk, Secret.random())
    for at in range(16):
        with pytest.raises(AuthenticationFailed):
            noise.consume_response(exchange.initiated, exchange.initiator, psk, ephemeral, flipped(nothing, at))
    with pytest.raises(AuthenticationFailed):
        noise.consume_response(exchange.initiated, exchange.initiator, psk, flipped(ephemeral, 0), nothing)


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:6])
def test_a_low_order_point_is_refused_at_every_diffie_hellman(point: bytes) -> None:
    exchange = Exchange()
    consumed = exchange.consume()
    steps: dict[str, Callable[[], object]] = {
        "initiator's es": lambda: noise.create_initiation(
            exchange.start, exchange.initiator_public, point, exchange.static_static, b"", Secret.random()
        ),
        "responder's es": lambda: noise.consume_static(exchange.start, exchange.responder, point, exchange.encrypted_static),
        "ss": lambda: crypto.dh(exchange.initiator, point),
        "responder's ee": lambda: noise.create_response(
            consumed._replace(remote_ephemeral=point), Secret.zero(), Secret.random()
        ),
        "responder's se": lambda: noise.create_response(consumed._replace(remote_static=point), Secret.zero(), Secret.random()),
        "initiator's ee": lambda: noise.consume_response(exchange.initiated, exchange.initiator, Secret.zero(), point, bytes(16)),
    }
    for name, step in steps.items():
        with pytest.raises(ZeroSecret):
            step()
            pytest.fail(name)


def test_nothing_that_a_step_returns_shows_a_key() -> None:
    exchange = Exchange()
    keys, *_ = noise.create_response(exchange.consume(), Secret.zero(), Secret.random())
    text = repr((exchange.initiated, keys))
    for hidden in (exchange.initiated.chain, exchange.initiated.ephemeral, keys.initiator_sends):
        assert hidden.reveal_hex() not in text
        assert hidden.reveal_base64() not in text
