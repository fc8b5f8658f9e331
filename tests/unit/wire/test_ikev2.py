"""
IKEv2 messages from literal bytes, both ways; then every truncation, one bad value per field, and bytes that were mutated.

The mutations know where the types and lengths of a message are (a dictionary of them, as fuzzers have), so they get past the
first checks; and they begin with what strongSwan sends, among others. Whatever comes, there is a message or a PeerError, and what
was parsed builds the same message again.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.errors import PeerError
from ginnel.wire import ikev2 as wire
from ginnel.wire.ikev2 import (
    Auth,
    Cert,
    CertReq,
    Delete,
    Header,
    IdI,
    IdR,
    InvalidMajorVersion,
    Ke,
    Message,
    Nonce,
    Notify,
    Payload,
    Proposal,
    Sa,
    Selector,
    Sk,
    Transform,
    TsI,
    TsR,
    Unknown,
    UnsupportedCriticalPayload,
    Vendor,
)

SPI_I, SPI_R = bytes(range(1, 9)), bytes(range(0x11, 0x19))

#: IKE_SA_INIT, request: SA (two proposals), KE, nonce, a notify.
INIT = bytes.fromhex(
    "0102030405060708 0000000000000000 21 20 22 08 00000000 000000d4"
    # SA, 80 bytes
    "22 00 0050"
    #   IKE, 4 transforms: AES-GCM-16 256, PRF SHA2-256, Curve25519, and a second group
    "02 00 002c 01 01 00 04"
    "  03 00 000c 01 00 0014 800e0100"
    "  03 00 0008 02 00 0005"
    "  03 00 0008 04 00 001f"
    "  00 00 0008 04 00 0013"
    #   IKE, 2 transforms, one with an attribute that nobody knows
    "00 00 0020 02 01 00 02"
    "  03 00 0010 01 00 000c 800e0080 80070003"
    "  00 00 0008 03 00 000c"
    # KE, Curve25519
    "28 00 0028 001f 0000"
    + "e1" * 32
    +
    # nonce
    "29 00 0024"
    + "a5" * 32
    +
    # NAT detection, source
    "00 00 001c 00 00 4004"
    + "5a" * 20
)
INIT_MESSAGE = Message(
    Header(SPI_I, bytes(8), 34, initiator=True, response=False, message_id=0),
    (
        Sa(
            (
                Proposal(1, 1, b"", (Transform(1, 20, 256), Transform(2, 5), Transform(4, 31), Transform(4, 19))),
                Proposal(2, 1, b"", (Transform(1, 12, 128, ((0x8007, b"\0\3"),)), Transform(3, 12))),
            )
        ),
        Ke(31, b"\xe1" * 32),
        Nonce(b"\xa5" * 32),
        Notify(16388, b"\x5a" * 20),
    ),
)
#: What IKE_AUTH carries inside, from IDi on.
INSIDE = bytes.fromhex(
    "25 00 000c 02 000000" + b"moon".hex() +
    "26 00 0009 04" + "c0ffee01" +
    "24 00 0019 04" + "aa" * 20 +
    "27 00 000c 01 000000 c0000202"
    "29 00 0018 02 000000" + "0f" * 16 +
    "21 00 0008 00 00 4007"
    # ESP, SPI c1c2c3c4: AES-GCM-16 128, no ESN
    "2c 00 0024 00 00 0020 01 03 04 02 c1c2c3c4 0300000c01000014800e0080 0000000805000000"
    # TSi: 192.0.2.1, GRE
    "2d 00 0018 01 000000 07 2f 0010 0000 ffff c0000201 c0000201"
    # TSr: all of IPv6, and TCP 80 to 443 of some
    "2a 00 0040 02 000000 08 00 0028 0000 ffff" + "00" * 16 + "ff" * 16 + "07 06 0010 0050 01bb 0a010000 0a01ffff"
    # delete two ESP SAs, then the IKE SA
    "2a 00 0010 03 04 0002 c1c2c3c4 d1d2d3d4"
    "2b 00 0008 01 00 0000"
    # vendor; configuration, critical though it may not be; a notify about an SA
    "2f 00 0007 010203"
    "29 80 0006 0102"
    "00 00 000c 03 04 400c c1c2c3c4"
)  # fmt: skip
INSIDE_PAYLOADS: tuple[Payload, ...] = (
    IdI(2, b"moon"),
    Cert(4, b"\xc0\xff\xee\x01"),
    CertReq(4, b"\xaa" * 20),
    IdR(1, bytes((192, 0, 2, 2))),
    Auth(2, b"\x0f" * 16),
    Notify(16391),
    Sa((Proposal(1, 3, bytes.fromhex("c1c2c3c4"), (Transform(1, 20, 128), Transform(5, 0))),)),
    TsI((Selector(47, 0, 65535, bytes((192, 0, 2, 1)), bytes((192, 0, 2, 1))),)),
    TsR(
        (
            Selector(0, 0, 65535, bytes(16), b"\xff" * 16),
            Selector(6, 80, 443, bytes((10, 1, 0, 0)), bytes((10, 1, 255, 255))),
        )
    ),
    Delete(3, (bytes.fromhex("c1c2c3c4"), bytes.fromhex("d1d2d3d4"))),
    Delete(1),
    Vendor(b"\1\2\3"),
    Unknown(47, critical=True, body=b"\1\2"),
    Notify(16396, b"", 3, bytes.fromhex("c1c2c3c4")),
)


def test_the_first_message_of_an_exchange() -> None:
    assert wire.parse(INIT) == INIT_MESSAGE
    assert wire.build(INIT_MESSAGE) == INIT
    assert wire.parse_header(INIT) == INIT_MESSAGE.header


def test_what_is_inside() -> None:
    assert wire.parse_payloads(35, INSIDE) == INSIDE_PAYLOADS
    assert wire.build_payloads(INSIDE_PAYLOADS) == (35, INSIDE)
    assert wire.parse_payloads(0, b"") == ()
    assert wire.build_payloads(()) == (0, b"")


def test_a_protected_message() -> None:
    header = Header(SPI_I, SPI_R, 35, initiator=False, response=True, message_id=1)
    sealed = bytes(range(40))
    data = bytes.fromhex("0102030405060708 1112131415161718 2e 20 23 20 00000001 00000048 23 00 002c") + sealed
    assert wire.parse(data) == Message(header, (Sk(35, sealed),))
    assert wire.build(Message(header, (Sk(35, sealed),))) == data
    assert wire.associated(header, 35, len(sealed)) == data[: -len(sealed)]


def test_a_fragment() -> None:
    header = Header(SPI_I, SPI_R, 35, initiator=True, response=False, message_id=1)
    sealed = bytes(range(40))
    data = bytes.fromhex("0102030405060708 1112131415161718 35 20 23 08 00000001 0000004c 00 00 0030 0002 0003") + sealed
    assert wire.parse(data) == Message(header, (Sk(0, sealed, 2, 3),))
    assert wire.build(Message(header, (Sk(0, sealed, 2, 3),))) == data
    assert wire.associated(header, 0, len(sealed), 2, 3) == data[: -len(sealed)]


def test_payloads_before_the_sealed_one_are_covered() -> None:
    header = Header(SPI_I, SPI_R, 37, initiator=True, response=False, message_id=5)
    message = Message(header, (Vendor(b"abc"), Sk(0, bytes(20))))
    data = wire.build(message)
    assert wire.parse(data) == message
    assert data[:-20] == wire.associated(header, 0, 20, outside=(Vendor(b"abc"),))


def test_the_marker() -> None:
    assert wire.with_marker(b"abc") == b"\0\0\0\0abc"


@pytest.mark.parametrize("size", range(len(INIT)))
def test_every_truncation_of_a_message_is_refused(size: int) -> None:
    with pytest.raises(PeerError):
        wire.parse(INIT[:size])
    with pytest.raises(PeerError):
        # Its own length put right, so that the payloads are what is too short.
        wire.parse(INIT[:24] + size.to_bytes(4, "big") + INIT[28:size] if size > 28 else INIT[:size])


@pytest.mark.parametrize("size", range(len(INSIDE)))
def test_every_truncation_inside_is_refused(size: int) -> None:
    with pytest.raises(PeerError):
        wire.parse_payloads(35, INSIDE[:size])


def test_what_follows_the_last_payload_is_refused() -> None:
    with pytest.raises(PeerError, match="expected the end at offset 212, found 1 more"):
        wire.parse(INIT[:24] + (213).to_bytes(4, "big") + INIT[28:] + b"\0")
    with pytest.raises(PeerError, match="expected the end at offset 0, found 1 more"):
        wire.parse_payloads(0, b"\0")


def _replaced(data: bytes, at: int, value: str) -> bytes:
    new = bytes.fromhex(value)
    assert data[at : at + len(new)] != new, "the test changes nothing"
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize(
    ("at", "value", "sentence"),
    [
        (24, "000000d5", "expected a length of 212 at offset 24, found 213"),
        (30, "0003", "expected a payload of at least 4 bytes at offset 28, found 3"),
        (30, "ffff", "expected 65531 bytes at offset 32, found 180"),
        (32, "00", "expected 2 before another and 0 at the last at offset 32, found 0"),
        (32, "03", "expected 2 before another and 0 at the last at offset 32, found 3"),
        (34, "0007", "expected a length of at least 8 at offset 32, found 7"),
        (34, "0034", "expected 3 before another and 0 at the last at offset 68, found 0"),
        (38, "04", "expected an SPI of 8 bytes for protocol 1 at offset 32, found 4"),
        (39, "05", "expected 5 transforms, found another number at offset 68"),
        (39, "03", "expected 3 transforms, found another number at offset 60"),
        (40, "00", "expected 3 before another and 0 at the last at offset 40, found 0"),
        (42, "0007", "expected a length of at least 8 at offset 40, found 7"),
        (42, "000b", "expected 4 bytes at offset 48, found 3"),
    ],
)
def test_a_wrong_structure_is_told_with_its_place(at: int, value: str, sentence: str) -> None:
    with pytest.raises(PeerError, match=sentence):
        wire.parse(_replaced(INIT, at, value))


def _inside(kind: int, body: str, *, critical: bool = False) -> Callable[[], object]:
    data = bytes.fromhex(body)
    whole = bytes((0, 0x80 if critical else 0)) + (len(data) + 4).to_bytes(2, "big") + data
    return lambda: wire.parse_payloads(kind, whole)


@pytest.mark.parametrize(
    ("kind", "body", "sentence"),
    [
        (34, "001f00", "expected 4 bytes at offset 4, found 3"),
        (35, "020000", "expected 4 bytes"),
        (37, "", "expected 1 bytes"),
        (40, "a5" * 15, "expected a nonce of 16 to 256 bytes, found 15 at offset 4"),
        (40, "a5" * 257, "expected a nonce of 16 to 256 bytes, found 257"),
        (41, "03044007c1c2c3", "expected 4 bytes at offset 8, found 3"),
        (42, "01040001c1c2c3c4", "expected no SPI to delete of IKE"),
        (42, "03080001c1c2c3c4c1c2c3c4", "expected SPIs of 4 bytes"),
        (42, "03040002c1c2c3c4", "expected 2 SPIs at offset 8, found 4 bytes"),
        (44, "00000000", "expected at least one selector"),
        (44, "01000000072f000f0000ffffc0000201c00002", "expected 4 bytes"),
        (44, "01000000072f00110000ffffc0000201c000020100", "expected the end"),
        (44, "02000000072f00100000ffffc0000201c0000201", "expected 8 bytes"),
        (44, "01000000072f00100000ffffc0000202c0000201", "from the lower to the higher end"),
        (44, "01000000070600100051 0050c0000201c0000201", "from the lower to the higher end"),
        (46, "00", "expected no encrypted payload inside another"),
        (53, "0001000100", "expected no encrypted payload inside another"),
        (33, "0000000801030400", "expected 4 bytes at offset 12, found 0"),
        (33, "0000000c01030800c1c2c3c4", "expected an SPI of 4 bytes for protocol 3"),
        (33, "0000 0018 01 03 04 01 c1c2c3c4 0000000c 01000014 800e0080 00", "expected"),
        (33, "0000 0018 01 01 00 01 00000010 01000014 800e0080 800e0100", "expected one key length, found another"),
    ],
)
def test_a_wrong_payload_is_told_with_its_place(kind: int, body: str, sentence: str) -> None:
    with pytest.raises(PeerError, match=sentence):
        _inside(kind, body)()


@pytest.mark.parametrize(
    ("fragment", "sentence"),
    [
        ("00 00 0009 0000 0003 ff", "expected fragment 1 to 3"),
        ("00 00 0009 0004 0003 ff", "expected fragment 1 to 3"),
        ("00 00 0009 0001 0003 ff", "expected the first fragment alone to name a payload"),
        ("23 00 0009 0002 0003 ff", "expected the first fragment alone to name a payload"),
        ("00 00 0007 0002 00", "expected 4 bytes"),
    ],
)
def test_a_wrong_fragment(fragment: str, sentence: str) -> None:
    body = bytes.fromhex(fragment)
    head = bytes.fromhex("0102030405060708 1112131415161718 35 20 23 08 00000001") + (28 + len(body)).to_bytes(4, "big")
    with pytest.raises(PeerError, match=sentence):
        wire.parse(head + body)


def test_opaque_ports_are_a_range_the_other_way_round() -> None:
    assert _inside(44, "01000000 07 06 0010 ffff 0000 c0000201 c0000201")() == (
        TsI((Selector(6, 65535, 0, bytes((192, 0, 2, 1)), bytes((192, 0, 2, 1))),)),
    )


def test_a_selector_of_a_type_that_is_not_known_is_left_out() -> None:
    label = "0a 00 000c 0000 0000 deadbeef"
    assert _inside(45, f"02000000 {label} 07 00 0010 0000 ffff c0000201 c0000201")() == (
        TsR((Selector(0, 0, 65535, bytes((192, 0, 2, 1)), bytes((192, 0, 2, 1))),)),
    )
    assert _inside(45, f"01000000 {label}")() == (TsR(()),)


def test_a_critical_payload_that_is_not_known_is_told_apart() -> None:
    with pytest.raises(UnsupportedCriticalPayload) as caught:
        _inside(200, "0102", critical=True)()
    assert caught.value.kind == 200
    assert _inside(200, "0102")() == (Unknown(200, critical=False, body=b"\1\2"),)
    # Known ones may be marked: the bit means nothing there (RFC 7296, 2.5).
    assert _inside(43, "0102", critical=True)() == (Vendor(b"\1\2"),)


def test_another_major_version_is_told_apart_and_its_header_readable() -> None:
    data = _replaced(INIT, 17, "30")
    with pytest.raises(InvalidMajorVersion) as caught:
        wire.parse(data)
    assert caught.value.major == 3
    assert wire.parse_header(data).major == 3
    # A later minor version is read as this one (2.5).
    assert wire.parse(_replaced(INIT, 17, "21")).header.minor == 1


def test_the_reserved_bytes_of_an_identity_are_kept_for_auth_and_no_part_of_it() -> None:
    (identity,) = wire.parse_payloads(35, bytes.fromhex("00 00 000a 02 010203 6d6e"))
    assert isinstance(identity, IdI)
    assert identity.body == bytes.fromhex("02 010203 6d6e")
    assert identity == IdI(2, b"mn")
    assert IdI(2, b"mn").body == bytes.fromhex("02 000000 6d6e")


def test_what_a_peer_can_grow_is_bounded() -> None:
    vendors = bytes.fromhex("2b 00 0004") * 99 + bytes.fromhex("00 00 0004")
    assert len(wire.parse_payloads(43, vendors)) == wire.PAYLOADS_MAX
    with pytest.raises(PeerError, match="at most 100 payloads"):
        wire.parse_payloads(43, bytes.fromhex("2b 00 0004") + vendors)
    with pytest.raises(PeerError, match="at most 64 proposals"):
        _inside(33, "02000008 01010000" * 64 + "00000008 01010000")()
    transforms = "03000008 01000014" * 64 + "00000008 01000014"
    with pytest.raises(PeerError, match="at most 64 transforms"):
        _inside(33, f"0000 {8 + 65 * 8:04x} 01010041" + transforms)()
    proposal = "0200 0208 01010040" + "03000008 01000014" * 63 + "00000008 01000014"
    with pytest.raises(PeerError, match="at most 512 transforms"):
        _inside(33, proposal * 8 + "0000 0010 01010001 00000008 01000014")()
    attributes = "80070001" * 9
    with pytest.raises(PeerError, match="at most 8 attributes"):
        _inside(33, f"0000 {8 + 8 + 36:04x} 01010001 0000 {8 + 36:04x} 01000014" + attributes)()
    with pytest.raises(PeerError, match="at most 65535 bytes"):
        wire.parse(bytes(65_536))


def _builds_again(message: Message) -> None:
    """What was parsed is what is parsed of its building, except selectors of which none was of a known type."""
    if any(isinstance(payload, TsI | TsR) and not payload.selectors for payload in message.payloads):
        with pytest.raises(ValueError, match="expected at least one selector"):
            wire.build(message)
        return
    assert wire.parse(wire.build(message)) == message


def test_our_own_mistakes_are_value_errors() -> None:
    header = Header(SPI_I, SPI_R, 37, initiator=True, response=False, message_id=0)
    for payload in (
        Nonce(b"short"),
        Delete(3, (b"12345",)),
        Delete(1, (b"1234",)),
        TsI((Selector(0, 0, 1, bytes(4), bytes(16)),)),
    ):
        with pytest.raises(ValueError, match="expected"):
            wire.build(Message(header, (payload,)))
    with pytest.raises(ValueError, match="expected payloads that are not sealed"):
        wire.build(Message(header, (Sk(0, b"x"), Vendor(b""))))
    with pytest.raises(ValueError, match="expected SPIs of 8 bytes"):
        wire.build(Message(dataclasses.replace(header, spi_r=b""), ()))


# ---------------------------------------------------------------- whatever comes

_U8, _U16 = st.integers(0, 255), st.integers(0, 65_535)


def _bytes(least: int, most: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=least, max_size=most)


_OTHERS = st.lists(
    st.one_of(
        st.tuples(st.integers(0x8000, 0xFFFF).filter(lambda one: one != 0x800E), _bytes(2, 2)),
        st.tuples(st.integers(0, 0x7FFF), _bytes(0, 6)),
    ),
    max_size=3,
).map(tuple)
_TRANSFORMS = st.builds(Transform, _U8, _U16, st.none() | _U16, _OTHERS)
_PROPOSALS = st.sampled_from([(1, 0), (1, 8), (2, 4), (3, 4), (77, 3)]).flatmap(
    lambda of: st.builds(Proposal, _U8, st.just(of[0]), _bytes(of[1], of[1]), st.lists(_TRANSFORMS, max_size=4).map(tuple))
)


def _selectors() -> st.SearchStrategy[Selector]:
    def built(family: int) -> st.SearchStrategy[Selector]:
        ends = st.tuples(_bytes(family, family), _bytes(family, family)).map(sorted)
        ports = st.tuples(_U16, _U16).map(sorted) | st.just([65_535, 0])
        return st.tuples(_U8, ports, ends).map(lambda of: Selector(of[0], *of[1], *of[2]))

    return st.sampled_from([4, 16]).flatmap(built)


_SELECTORS = st.lists(_selectors(), min_size=1, max_size=4).map(tuple)
_KNOWN = {int(kind) for kind in wire.PayloadType}
_PAYLOADS = st.one_of(
    st.builds(Sa, st.lists(_PROPOSALS, min_size=1, max_size=3).map(tuple)),
    st.builds(Ke, _U16, _bytes(0, 40)),
    st.builds(IdI, _U8, _bytes(0, 20), _bytes(3, 3)),
    st.builds(IdR, _U8, _bytes(0, 20), _bytes(3, 3)),
    st.builds(Cert, _U8, _bytes(0, 20)),
    st.builds(CertReq, _U8, _bytes(0, 20)),
    st.builds(Auth, _U8, _bytes(0, 20)),
    st.builds(Nonce, _bytes(16, 40)),
    st.builds(Notify, _U16, _bytes(0, 20), _U8, _bytes(0, 8)),
    st.builds(Delete, st.just(3), st.lists(_bytes(4, 4), max_size=3).map(tuple)),
    st.builds(Vendor, _bytes(0, 20)),
    st.builds(TsI, _SELECTORS),
    st.builds(TsR, _SELECTORS),
    st.builds(Unknown, _U8.filter(lambda kind: kind not in _KNOWN), st.just(False), _bytes(0, 20)),
)
_HEADERS = st.builds(Header, _bytes(8, 8), _bytes(8, 8), _U8, st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))


@given(_HEADERS, st.lists(_PAYLOADS, max_size=6).map(tuple))
def test_what_is_built_is_what_is_parsed(header: Header, payloads: tuple[Payload, ...]) -> None:
    message = Message(header, payloads)
    assert wire.parse(wire.build(message)) == message


_COOKIES = st.builds(Notify, st.just(wire.NotifyType.COOKIE), _bytes(0, 64))


@given(_HEADERS, st.lists(_PAYLOADS | _COOKIES, max_size=6).map(tuple))
def test_cookie_and_nonce_are_those_of_the_whole_message(header: Header, payloads: tuple[Payload, ...]) -> None:
    cookies = [one.data for one in payloads if isinstance(one, Notify) and one.kind == wire.NotifyType.COOKIE and not one.spi]
    nonces = [one.data for one in payloads if isinstance(one, Nonce)]
    expected = (cookies or [None])[-1], (nonces or [None])[-1]
    assert wire.cookie_and_nonce(wire.build(Message(header, payloads))) == expected


@pytest.mark.parametrize("size", range(28, len(INIT)))
def test_what_is_cut_shows_neither_cookie_nor_nonce(size: int) -> None:
    with pytest.raises(PeerError):
        wire.cookie_and_nonce(INIT[:size])


def test_what_shows_a_cookie_is_bounded_too() -> None:
    vendors = bytes.fromhex("2b 00 0004") * 100
    with pytest.raises(PeerError):
        wire.cookie_and_nonce(INIT[:16] + b"\x2b" + INIT[17:28] + vendors + bytes.fromhex("00 00 0004"))


@given(_bytes(28, 300))
def test_whatever_the_bytes_they_show_a_cookie_or_are_refused(data: bytes) -> None:
    try:
        _, nonce = wire.cookie_and_nonce(data)
    except PeerError:
        return
    assert nonce is None or 16 <= len(nonce) <= 256


@given(_bytes(0, 300))
def test_whatever_the_bytes_there_is_a_message_or_a_refusal(data: bytes) -> None:
    for first in (33, 44, 46):
        try:
            payloads = wire.parse_payloads(first, data)
        except PeerError:
            continue
        _builds_again(Message(INIT_MESSAGE.header, payloads))


#: What fuzzers of other implementations know: types, lengths and counts at the edges.
_DICTIONARY = (
    *(bytes((kind,)) for kind in (0, 2, 3, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 53, 128, 255)),
    *(number.to_bytes(2, "big") for number in (0, 1, 3, 4, 7, 8, 9, 16, 40, 255, 256, 0x800E, 16384, 32767, 65535)),
    *(number.to_bytes(4, "big") for number in (0, 27, 28, 29, 65535, 65536, 2**31, 2**32 - 1)),
)


def _mutated(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(out))
        match chance.randrange(5):
            case 0:
                word = chance.choice(_DICTIONARY)
                out[at : at + len(word)] = word
            case 1:
                out[at] ^= 1 << chance.randrange(8)
            case 2:
                del out[at : at + chance.randint(1, 8)]
            case 3:
                out[at:at] = out[at : at + chance.randint(1, 40)]
            case _:
                out[at : at + 1] = bytes(chance.randrange(256) for _ in range(chance.randint(0, 4)))
        if not out:
            return b"\0"
    if chance.random() < 0.9 and len(out) >= 28:
        out[24:28] = len(out).to_bytes(4, "big")
    return bytes(out)


def _kept() -> list[tuple[int, bytes]]:
    """What strongSwan sent: (type of the first payload, payloads) of what was inside, (0, message) of whole messages."""
    kept = json.loads((Path(__file__).parents[2] / "vectors" / "ikev2_strongswan.json").read_text())["messages"]
    return [(one.get("first", 0), bytes.fromhex(one.get("inside") or one["message"])) for one in kept]


@pytest.mark.parametrize(("first", "data"), _kept())
def test_what_strongswan_sends_is_read_and_built_again_byte_for_byte(first: int, data: bytes) -> None:
    if first:
        assert wire.build_payloads(wire.parse_payloads(first, data)) == (first, data)
    else:
        assert wire.build(wire.parse(data)) == data


def test_mutated_messages_are_parsed_or_refused_and_nothing_else() -> None:
    chance = random.Random(7296)
    header = Header(SPI_I, SPI_R, 35, initiator=True, response=False, message_id=1)
    corpus = [INIT, wire.build(Message(header, INSIDE_PAYLOADS)), wire.build(Message(header, (Sk(35, bytes(60), 1, 2),)))]
    for first, kept in _kept():
        corpus.append(wire.build(Message(header, wire.parse_payloads(first, kept))) if first else kept)
    accepted = refused = 0
    for turn in range(20_000):
        data = _mutated(corpus[turn % len(corpus)], chance)
        try:
            message = wire.parse(data)
        except PeerError:
            refused += 1
            continue
        accepted += 1
        _builds_again(message)
    assert accepted > 1_000
    assert refused > 1_000
