"""Keepalives from literal bytes, both ways; every truncation; bytes at random."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.errors import PeerError
from ginnel.wire import gre
from ginnel.wire.gre import Keepalive

US, PEER = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")
US6, PEER6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1"), socket.inet_pton(socket.AF_INET6, "2001:db8::2")

#: The 24 bytes that IOS prints as "len=24 ttl=255"; the header checksum was computed by scapy.
CISCO = bytes.fromhex("45000018 00000000 ff2f37b3 c0000202 c0000201 00000000")
CISCO_KEY = bytes.fromhex("4500001c 00000000 ff2f37af c0000202 c0000201 20000000 00000007")
MIKROTIK = bytes.fromhex("60000000 00042fff") + PEER6 + US6 + bytes.fromhex("000086dd")


@pytest.mark.parametrize(
    ("packet", "message"),
    [
        (CISCO, Keepalive(PEER, US)),
        (CISCO_KEY, Keepalive(PEER, US, key=7)),
        (MIKROTIK, Keepalive(PEER6, US6, gre.MIKROTIK)),
    ],
)
def test_both_ways_from_literal_bytes(packet: bytes, message: Keepalive) -> None:
    assert message.build() == packet
    assert Keepalive.parse(packet) == message
    assert Keepalive.parse(packet + b"\xff") == message, "what follows the packet is not part of it"


def test_what_it_travels_in() -> None:
    assert Keepalive(PEER, US).carried_as == 0x0800
    assert Keepalive(PEER6, US6).carried_as == 0x86DD


@pytest.mark.parametrize("packet", [CISCO, CISCO_KEY, MIKROTIK, Keepalive(PEER, US, key=1, checksum=True).build()])
def test_every_truncation_is_refused(packet: bytes) -> None:
    for size in range(len(packet)):
        with pytest.raises(PeerError):
            Keepalive.parse(packet[:size])


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (0, 0x46, "without options"),
        (0, 0x44, "without options"),
        (3, 0xFF, "lengths"),
        (6, 0x20, "fragment"),
        (7, 0x01, "fragment"),
        (9, 0x11, "checksum"),
        (20, 0x40, "version 0 without routing"),
        (21, 0x01, "version 0 without routing"),
        (22, 0x08, "a keepalive's protocol"),
        (23, 0x01, "a keepalive's protocol"),
    ],
)
def test_one_wrong_value_in_each_field(at: int, value: int, why: str) -> None:
    changed = bytearray(CISCO)
    changed[at] = value
    with pytest.raises(PeerError) as refused:
        Keepalive.parse(bytes(changed))
    assert why in str(refused.value)


def test_another_protocol_is_refused() -> None:
    header = bytearray(CISCO)
    header[9] = 17
    header[10:12] = bytes(2)
    header[10:12] = gre.checksum(bytes(header[:20])).to_bytes(2, "big")
    with pytest.raises(PeerError, match="expected protocol 47, found 17"):
        Keepalive.parse(bytes(header))
    with pytest.raises(PeerError, match="expected protocol 47, found 59"):
        Keepalive.parse(MIKROTIK[:6] + b"\x3b" + MIKROTIK[7:])


def test_something_inside_is_no_keepalive() -> None:
    longer = bytearray(CISCO + b"\0")
    longer[2:4] = (25).to_bytes(2, "big")
    longer[10:12] = bytes(2)
    longer[10:12] = gre.checksum(bytes(longer[:20])).to_bytes(2, "big")
    with pytest.raises(PeerError, match="nothing inside a keepalive, found 1 bytes"):
        Keepalive.parse(bytes(longer))


def test_a_wrong_checksum_is_refused() -> None:
    packet = Keepalive(PEER, US, checksum=True).build()
    assert Keepalive.parse(packet).checksum
    with pytest.raises(PeerError, match="checksum"):
        Keepalive.parse(packet[:-4] + b"\x00\x00" + packet[-2:])


def test_our_own_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="one family"):
        Keepalive(PEER, US6).build()


@given(
    st.booleans(),
    st.sampled_from([gre.CISCO, gre.MIKROTIK]),
    st.none() | st.integers(0, 2**32 - 1),
    st.booleans(),
    st.none() | st.integers(0, 2**32 - 1),
    st.binary(min_size=32, max_size=32),
)
def test_what_is_built_is_read(
    six: bool, protocol: int, key: int | None, checksum: bool, sequence: int | None, addresses: bytes
) -> None:
    size = 16 if six else 4
    message = Keepalive(addresses[:size], addresses[16 : 16 + size], protocol, key, checksum, sequence)
    packet = message.build()
    assert Keepalive.parse(packet) == message
    assert Keepalive.parse(packet + bytes(7)) == message
    assert message.size == len(packet)


@given(st.binary(max_size=80))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    for packet in (data, b"\x45" + data, b"\x60" + data, CISCO[:20] + data, MIKROTIK[:40] + data):
        try:
            Keepalive.parse(packet)
        except PeerError:
            pass


def test_the_checksum_of_the_standard() -> None:
    assert gre.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D  # RFC 1071 3: the complement of 0xddf2
    assert gre.checksum(b"\x01") == 0xFEFF
    assert gre.checksum(CISCO[:20]) == 0
