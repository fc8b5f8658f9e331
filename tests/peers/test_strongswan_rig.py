"""
The rig itself: strongSwan against strongSwan, so that what fails elsewhere is not the rig.

Two daemons in two namespaces, ESP in user space at both ends; and once in the guest, ESP in its kernel.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from ginnel.wire import ikev2
from namespaces import Net, wait_until
from native.rig import inside
from peers.strongswan import Charon, InNamespace, child, connection, installed, parsed, psk, secret


@pytest.fixture
def two(net: Net) -> Iterator[tuple[Charon, Charon]]:
    """Moon (192.0.2.1, inside 10.1.0.1) and sun (192.0.2.2, 10.2.0.1), connected by name `peer`, child `net`."""
    started: list[Charon] = []
    spaces = [net.namespace("moon"), net.namespace("sun")]
    net.veth(*spaces, ["192.0.2.1/24"], ["192.0.2.2/24"])
    names = ["moon", "sun"]
    try:
        for me in (0, 1):
            spaces[me].ip("address", "add", f"10.{me + 1}.0.1/32", "dev", "lo")
            charon = Charon.start(InNamespace(spaces[me]))
            started.append(charon)
            children = {"net": child(f"10.{me + 1}.0.0/16", f"10.{2 - me}.0.0/16", esp_proposals="aes256gcm16-x25519-noesn")}
            ends = f"192.0.2.{me + 1}", f"192.0.2.{2 - me}"
            charon.load(
                {"peer": connection(*ends, psk(names[me]), psk(names[1 - me]), children, encap=True)},
                {"ike-1": secret("a secret", *names)},
            )
        yield started[0], started[1]
    finally:
        for charon in started:
            charon.close()


def test_two_of_them_talk_rekey_and_part(two: tuple[Charon, Charon]) -> None:
    """Pings go through both; each rekeys the child and the IKE SA; the end of one is the end of both."""
    moon, sun = two
    assert "established" in moon.initiate("net")
    assert isinstance(moon.place, InNamespace)
    assert moon.place.space.ping("10.2.0.1", count=3)
    (mine,), (theirs,) = installed(moon), installed(sun)
    assert (mine["spi-in"], mine["spi-out"]) == (theirs["spi-out"], theirs["spi-in"])
    assert mine["remote-ts"] == ["10.2.0.0/16"]
    assert int(mine["packets-in"]) == int(theirs["packets-in"]) == 3
    for charon in two:
        before = charon.children()[0]["spi-in"]
        charon.rekey_child("net")
        wait_until(lambda c=charon, b=before: [one for one in c.children() if one["spi-in"] != b], 10, "a rekeyed child")
        spi = charon.associations()[0]["initiator-spi"]
        charon.rekey_ike("peer")
        wait_until(
            lambda c=charon, b=spi: [one["initiator-spi"] for one in c.associations()] not in ([], [b]), 10, "a rekeyed IKE SA"
        )
        assert moon.place.space.ping("10.2.0.1", count=3)
    sun.terminate("peer")
    wait_until(lambda: not moon.associations(), 10, "the end")


def test_our_codec_reads_what_they_say_and_builds_it_again(two: tuple[Charon, Charon]) -> None:
    """Every IKE message of an establishment and its end: the header of all, the whole of what is not encrypted, byte for byte."""
    moon, _ = two
    assert isinstance(moon.place, InNamespace)
    with inside(moon.place.space), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as wire:
        moon.initiate("net")
        moon.terminate("peer")
        wire.settimeout(0.2)
        messages: list[bytes] = []
        with contextlib.suppress(TimeoutError):
            while True:
                packet, address = wire.recvfrom(65536)
                if address[1] != 0x0800 or packet[9] != 17:
                    continue
                ports, data = struct.unpack_from("!HH", packet, 20), packet[28 : 20 + int.from_bytes(packet[24:26], "big")]
                if 500 in ports or (4500 in ports and data[:4] == bytes(4)):
                    messages.append(data[4:] if 4500 in ports else data)
    exchanges = [ikev2.parse(message).header.exchange for message in messages]
    assert exchanges == [34, 34, 35, 35, 37, 37]
    for message in messages[:2]:
        assert ikev2.build(ikev2.parse(message)) == message
    for message in messages[2:]:
        (sealed,) = ikev2.parse(message).payloads
        assert isinstance(sealed, ikev2.Sk)


def test_raw_answers_are_read_whole() -> None:
    """Values with blanks and equals signs, lists, empty sections."""
    raw = (
        "{peer {uniqueid=1 local-id=C=CH, O=a b, CN=moon state=ESTABLISHED"
        " child-sas {net-1 {name=net local-ts=[10.1.0.0/16 10.9.0.1/32[gre]] x=}}}}"
    )
    assert parsed(raw) == {
        "peer": {
            "uniqueid": "1", "local-id": "C=CH, O=a b, CN=moon", "state": "ESTABLISHED",
            "child-sas": {"net-1": {"name": "net", "local-ts": ["10.1.0.0/16", "10.9.0.1/32[gre]"], "x": ""}},
        }
    }  # fmt: skip
