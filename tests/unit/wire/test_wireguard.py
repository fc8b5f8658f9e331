"""The three handshake messages from literal bytes, both ways; then every truncation and one bad value per field."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.errors import PeerError
from ginnel.wire.wireguard import CookieReply, Initiation, Message, Response, parse

INITIATION = bytes.fromhex(
    "01000000"
    "78563412"
    + "e0" * 32  # ephemeral
    + "51" * 32
    + "5a" * 16  # encrypted static and its tag
    + "71" * 12
    + "7a" * 16  # encrypted timestamp and its tag
    + "a1" * 16
    + "a2" * 16  # mac1, mac2
)
RESPONSE = bytes.fromhex(
    "02000000"
    "efbeadde"
    "78563412"
    + "e1" * 32  # ephemeral
    + "0a" * 16  # the tag over nothing
    + "b1" * 16
    + "b2" * 16  # mac1, mac2
)
COOKIE_REPLY = bytes.fromhex(
    "03000000"
    "78563412"
    + "0c" * 24  # nonce
    + "c0" * 16
    + "ca" * 16  # encrypted cookie and its tag
)
CASES: list[tuple[bytes, Message]] = [
    (
        INITIATION,
        Initiation(
            sender=0x12345678,
            ephemeral=b"\xe0" * 32,
            encrypted_static=b"\x51" * 32 + b"\x5a" * 16,
            encrypted_timestamp=b"\x71" * 12 + b"\x7a" * 16,
            mac1=b"\xa1" * 16,
            mac2=b"\xa2" * 16,
        ),
    ),
    (
        RESPONSE,
        Response(
            sender=0xDEADBEEF,
            receiver=0x12345678,
            ephemeral=b"\xe1" * 32,
            encrypted_nothing=b"\x0a" * 16,
            mac1=b"\xb1" * 16,
            mac2=b"\xb2" * 16,
        ),
    ),
    (
        COOKIE_REPLY,
        CookieReply(receiver=0x12345678, nonce=b"\x0c" * 24, encrypted_cookie=b"\xc0" * 16 + b"\xca" * 16),
    ),
]
IDS = ["initiation", "response", "cookie reply"]


@pytest.mark.parametrize(("data", "message"), CASES, ids=IDS)
def test_parses_literal_bytes(data: bytes, message: Message) -> None:
    assert parse(data) == message


@pytest.mark.parametrize(("data", "message"), CASES, ids=IDS)
def test_builds_literal_bytes(data: bytes, message: Message) -> None:
    assert message.build() == data
    assert len(data) == message.SIZE_BYTES


@pytest.mark.parametrize(("data", "_message"), CASES, ids=IDS)
def test_refuses_every_truncation(data: bytes, _message: Message) -> None:
    for size in range(len(data)):
        with pytest.raises(PeerError):
            parse(data[:size])


@pytest.mark.parametrize(("data", "_message"), CASES, ids=IDS)
@pytest.mark.parametrize("extra", [1, 16, 65_507])
def test_refuses_every_byte_too_many(data: bytes, _message: Message, extra: int) -> None:
    with pytest.raises(PeerError, match=f"found {extra} more bytes"):
        parse(data + bytes(extra))


@pytest.mark.parametrize(("data", "_message"), CASES, ids=IDS)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_reserved_byte_makes_another_type(data: bytes, _message: Message, at: int) -> None:
    with pytest.raises(PeerError, match="expected a handshake message of type 1, 2 or 3"):
        parse(data[:at] + b"\x01" + data[at + 1 :])


@pytest.mark.parametrize("type_", [0, 4, 5, 255])
def test_refuses_every_other_type(type_: int) -> None:
    with pytest.raises(PeerError, match=f"found {type_}"):
        parse(bytes([type_]) + INITIATION[1:])


@pytest.mark.parametrize(("kind", "wrong"), [(Initiation, RESPONSE), (Response, COOKIE_REPLY), (CookieReply, INITIATION)])
def test_a_message_is_not_parsed_as_another(kind: type[Message], wrong: bytes) -> None:
    with pytest.raises(PeerError, match=f"expected a message of type {kind.TYPE}"):
        kind.parse(wrong)


@pytest.mark.parametrize(("_data", "message"), CASES, ids=IDS)
def test_refuses_to_build_a_field_of_the_wrong_size(_data: bytes, message: Message) -> None:
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        wrong = [value[:-1], value + b"\x00"] if isinstance(value, bytes) else [-1, 2**32]
        for bad in wrong:
            with pytest.raises((ValueError, OverflowError)):
                dataclasses.replace(message, **{field.name: bad}).build()


@given(st.binary(max_size=200))
def test_any_bytes_parse_to_what_builds_them_or_are_refused(data: bytes) -> None:
    try:
        message = parse(data)
    except PeerError:
        return
    assert message.build() == data


@pytest.mark.parametrize(("data", "_message"), CASES, ids=IDS)
@given(st.data())
def test_any_content_of_the_right_shape_survives_the_round_trip(data: bytes, _message: Message, chance: st.DataObject) -> None:
    content = data[:4] + chance.draw(st.binary(min_size=len(data) - 4, max_size=len(data) - 4))
    assert parse(content).build() == content
