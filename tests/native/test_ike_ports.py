"""
IKE's ports in the engine: what comes in as an event and what does not, what leaves and from where, and how little a flood can do.

The far end is a namespace with sockets of this test.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from ginnel import _native as native
from namespaces import fresh_net, wait_until
from native.plain_rig import FAR, FAR6, LINK_MTU, NEAR, NEAR6, Outer, Wire, ip4, joined, packed
from native.rig import WITHIN_S, inside

IKE, NATT = 500, 4500
MARKER = bytes(4)
ENDS = {4: (NEAR, FAR), 6: (NEAR6, FAR6)}


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Two namespaces that all tests of this file share."""
    with fresh_net() as net, joined(net) as made:
        yield made


def message(size: int = 40, *, length: int | None = None, major: int = 2) -> bytes:
    """An IKE header of an IKE_SA_INIT request, and zeros behind it."""
    head = bytes(range(8)) + bytes(8) + struct.pack("!BBBBI", 33, major << 4, 34, 8, 0)
    return head + struct.pack("!I", size if length is None else length) + bytes(size - 28)


@dataclass
class Ports:
    """The engine's ports in the near namespace; at the far end one socket a family and port."""

    engine: Any
    ports: Any
    peers: dict[tuple[int, int], socket.socket]
    events: list[Any] = field(default_factory=list)

    def received(self, count: int = 1) -> list[Any]:
        """That many messages, which came in as events."""

        def enough() -> list[Any] | None:
            self.events.extend(self.engine.drain())
            found = [event for event in self.events if isinstance(event, native.IkeReceived)]
            return found if len(found) >= count else None

        return wait_until(enough, WITHIN_S, f"{count} messages; {self.ports.counters()}") or []

    def wait_counter(self, name: str, count: int) -> None:
        """Until that counter is so high."""
        wait_until(lambda: self.ports.counters()[name] >= count, WITHIN_S, f"{count} {name}, have {self.ports.counters()}")


@contextmanager
def opened(wire: Wire, **options: Any) -> Iterator[Ports]:
    """Ports that are open, until the end."""
    engine = native.Engine()
    peers: dict[tuple[int, int], socket.socket] = {}
    with inside(wire.near):
        ports = engine.ike(**options)
    with inside(wire.far):
        for family, kind in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            for port in (IKE, NATT):
                made = socket.socket(kind, socket.SOCK_DGRAM)
                if family == 6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.bind(("", port))
                made.settimeout(WITHIN_S)
                peers[family, port] = made
    wire.flush()
    try:
        yield Ports(engine, ports, peers)
    finally:
        engine.close()
        for peer in peers.values():
            peer.close()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("natt", [False, True])
def test_a_message_comes_in_and_is_answered_from_where_it_was_sent_to(wire: Wire, family: int, natt: bool) -> None:
    near, far = ENDS[family]
    port, marker = (NATT, MARKER) if natt else (IKE, b"")
    with opened(wire) as made:
        peer = made.peers[family, port]
        peer.sendto(marker + message(), (near, port))
        (seen,) = made.received()
        assert (seen.message, seen.remote, seen.remote_port) == (message(), packed(far), port)
        assert (seen.local, seen.natt) == (packed(near), natt)
        made.ports.send(message(60), local=seen.local, remote=seen.remote, remote_port=seen.remote_port, natt=seen.natt)
        answer, source = peer.recvfrom(65536)
        assert answer == marker + message(60)
        assert source[:2] == (near, port)
        assert made.ports.counters()["received"] == made.ports.counters()["sent"] == 1


def test_the_local_address_that_was_asked_for_is_the_source(wire: Wire) -> None:
    other = "192.0.2.77"
    wire.near.ip("address", "add", f"{other}/24", "dev", wire.link.left)
    with opened(wire) as made:
        for natt, port in ((False, IKE), (True, NATT)):
            made.ports.send(message(), local=packed(other), remote=packed(FAR), remote_port=port, natt=natt)
            assert made.peers[4, port].recvfrom(65536)[1] == (other, port)
        with pytest.raises(OSError):
            made.ports.send(message(), local=packed("192.0.2.200"), remote=packed(FAR), remote_port=IKE, natt=False)


def test_what_is_no_message_is_counted_and_not_told(wire: Wire) -> None:
    with opened(wire) as made:
        plain, natt = made.peers[4, IKE], made.peers[4, NATT]
        bad = [b"", b"\xff", message()[:27], message(40, length=41), message(40, length=39), message(40, length=0)]
        for datagram in bad:
            plain.sendto(datagram, (NEAR, IKE))
        for datagram in (b"", b"\0", b"\xff\xff", MARKER, MARKER + message()[:27]):
            natt.sendto(datagram, (NEAR, NATT))
        made.wait_counter("truncated", len(bad) + 5)
        natt.sendto(b"\xff", (NEAR, NATT))
        made.wait_counter("keepalives", 1)
        # Another version is for the machine to refuse.
        plain.sendto(message(major=3), (NEAR, IKE))
        assert [event.message for event in made.received()] == [message(major=3)]


def test_messages_longer_than_the_link_go_in_fragments_whatever_esp_does(wire: Wire) -> None:
    size = 4 * LINK_MTU
    with opened(wire) as made:
        for natt, port in ((False, IKE), (True, NATT)):
            made.ports.send(message(size), local=None, remote=packed(FAR), remote_port=port, natt=natt)
            assert len(made.peers[4, port].recv(65536)) == size + (4 if natt else 0)
            made.peers[4, port].sendto((MARKER if natt else b"") + message(size), (NEAR, port))
        assert [len(event.message) for event in made.received(2)] == [size] * 2


def test_a_keepalive_is_one_byte_from_the_port_of_nat_traversal(wire: Wire) -> None:
    with opened(wire) as made:
        for family, (near, far) in ENDS.items():
            made.ports.send_keepalive(local=packed(near), remote=packed(far), remote_port=NATT)
            data, source = made.peers[family, NATT].recvfrom(100)
            assert (data, source[:2]) == (b"\xff", (near, NATT))


def test_a_flood_of_one_source_leaves_room_for_others(wire: Wire) -> None:
    others = [f"192.0.2.{last}" for last in range(100, 120)]
    with opened(wire) as made:
        flood = made.peers[4, IKE]
        for _ in range(6000):
            flood.sendto(message(), (NEAR, IKE))
        made.wait_counter("beyond_share", 1)
        before = made.ports.counters()
        assert before["received"] < 4096 // 2
        for other in others:
            packet = struct.pack("!HHHH", 777, IKE, 8 + 40, 0) + message()
            wire.send(ip4(packet, source=other, destination=NEAR, protocol=17))
        made.wait_counter("received", before["received"] + len(others))
        sources = {event.remote for event in made.received(made.ports.counters()["received"])}
        assert sources == {packed(FAR), *map(packed, others)}


def test_a_port_that_is_taken_is_named(wire: Wire) -> None:
    for port, name in ((IKE, "UDP port 500 over IPv4"), (NATT, "UDP port 4500 over IPv4")):
        with inside(wire.near), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("", port))
            engine = native.Engine()
            with pytest.raises(OSError) as refused:
                engine.ike()
            assert (refused.value.errno, refused.value.filename) == (errno.EADDRINUSE, name)
            other.close()
            # What was refused left nothing open, and what is closed is free at once.
            engine.ike().close()
            engine.ike()
            engine.close()


def test_a_second_pair_of_ports_is_refused_and_the_first_goes_on(wire: Wire) -> None:
    with opened(wire) as made:
        with inside(wire.near), pytest.raises(OSError) as refused:
            made.engine.ike()
        assert refused.value.errno == errno.EADDRINUSE
        made.peers[4, NATT].sendto(MARKER + message(), (NEAR, NATT))
        made.received()


def test_icmp_errors_cost_no_message(wire: Wire) -> None:
    """Of a peer whose daemon is away: told to the next send, which has nothing to do with it."""
    with opened(wire) as made:
        for number in range(20):
            made.ports.send(message(), local=None, remote=packed(FAR), remote_port=9, natt=number % 2 == 0)
            made.ports.send(message(), local=None, remote=packed(FAR), remote_port=NATT, natt=True)
            assert made.peers[4, NATT].recv(100) == MARKER + message()


def test_nobody_answers_protocol_50_while_the_ports_are_open(wire: Wire) -> None:
    """Without a socket the kernel says "protocol unreachable", which would end a peer's SA."""
    stray = ip4(struct.pack("!II", 0x1234_5678, 1) + bytes(40), source=FAR, destination=NEAR, protocol=50)

    def answered() -> bool:
        wire.flush()
        wire.send(stray)
        with inside(wire.far), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Behind the stray packet: once its own answer is there, that of the other was.
            probe.sendto(b"?", (NEAR, 9))
        while True:
            packet, address = wire.tap.recvfrom(65536)
            if address[2] == socket.PACKET_OUTGOING or packet[0] >> 4 != 4:
                continue
            outer = Outer.parse(packet)
            if outer.protocol == 1 and outer.payload[:2] == bytes((3, 2)):
                return True
            if outer.protocol == 1 and outer.payload[:2] == bytes((3, 3)):
                return False

    wire.tap.settimeout(WITHIN_S)
    with opened(wire):
        assert not answered()
    # (Unless this kernel has IPsec of its own, which swallows it too.)
    modules = "/proc/net/xfrm_stat"
    assert answered() or wire.near.succeeds("test", "-e", modules)


def test_what_is_given_is_checked_and_closing_is_final(wire: Wire) -> None:
    engine = native.Engine()
    for options in ({"port": 0}, {"natt_port": 500}, {"families": ()}, {"families": (5,)}):
        with pytest.raises(ValueError, match="expected"):
            engine.ike(**options)
    engine.close()
    with opened(wire, port=501, natt_port=4501, families=(4,)) as made:
        assert (made.ports.port, made.ports.natt_port) == (501, 4501)
        made.peers[4, IKE].sendto(message(), (NEAR, 501))
        made.received()
        with pytest.raises(OSError) as refused:
            made.ports.send(message(), local=None, remote=packed(FAR6), remote_port=IKE, natt=False)
        assert refused.value.errno == errno.EAFNOSUPPORT
        made.ports.close()
        made.ports.close()
        with pytest.raises(OSError) as closed:
            made.ports.send(message(), local=None, remote=packed(FAR), remote_port=IKE, natt=False)
        assert closed.value.errno == errno.EBADF
        assert made.ports.counters()["received"] == 1
