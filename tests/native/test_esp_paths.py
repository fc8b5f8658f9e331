"""
Protected packets on the wire: what their delivery headers say, what is too large, what ICMP tells, keepalives.

One engine; at the far end everything is opened, sealed and answered by this test.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from ginnel import _native as native
from namespaces import fresh_net
from native.esp_rig import ENDS, NATT, keys, opened, sealed
from native.plain_rig import (
    ETH_P_IP,
    FAR,
    LINK_MTU,
    NEAR,
    OUR,
    OUR6,
    PEER,
    PEER6,
    Gre,
    Outer,
    Plain,
    Wire,
    gre,
    ip,
    ip4,
    ip6,
    joined,
    packed,
    plain,
    udp,
)
from native.rig import WITHIN_S, checksum, inside

ESP, GRE = 50, 47
SPI_OUT = 0x1020_3040


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Two namespaces; at the far end somebody who wants ESP: else its kernel answers that nobody does."""
    with fresh_net() as net, joined(net) as made:
        with inside(made.far):
            for family in (socket.AF_INET, socket.AF_INET6):
                made.sinks.append(socket.socket(family, socket.SOCK_RAW, ESP))
                natt = socket.socket(family, socket.SOCK_DGRAM)
                if family == socket.AF_INET6:
                    natt.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                natt.bind(("", NATT))
                made.sinks.append(natt)
        yield made


@dataclass
class Covered:
    """A protected tunnel with SAs, and this test as its peer."""

    made: Plain
    spi: int
    udp: bool
    number: int = 0

    def receive(self) -> tuple[Outer, bytes, int]:
        """The next packet at the far end: its delivery header, what ESP protected, and as what."""
        while True:
            outer = self.made.wire.receive(WITHIN_S)
            if outer.protocol == (17 if self.udp else ESP):
                packet = outer.payload[8:] if self.udp else outer.payload
                spi, _, payload, next_header = opened(packet, direction=0)
                assert spi == SPI_OUT
                return outer, payload, next_header

    def deliver(self, payload: bytes, next_header: int, *, tos: int = 0) -> None:
        """The same the other way."""
        self.number += 1
        packet = sealed(self.spi, self.number, payload, next_header, direction=1)
        near, far = self.made.near, self.made.far
        if self.udp:
            self.made.wire.send(udp(packet, source=far, destination=near, sport=NATT, dport=NATT, tos=tos))
        else:
            self.made.wire.send(ip(packet, source=far, destination=near, protocol=ESP, tos=tos))


@contextmanager
def covered(
    wire: Wire, kind: str = "gre", *, transport: bool = True, in_udp: bool = False, outer: int = 4,
    sa: dict[str, Any] | None = None, **options: Any,
) -> Iterator[Covered]:  # fmt: skip
    """A protected tunnel that is up, with an SA in each direction."""
    with plain(wire, kind, outer=outer, protected=True, **options) as made:
        with inside(wire.near):
            made.engine.ike()
        spi = made.tunnel.reserve_spi()
        made.tunnel.add_inbound(spi, transport=transport, **keys("aes128gcm16", 1))
        near, far = ENDS[outer]
        port = NATT if in_udp else 0
        made.tunnel.set_outbound(
            SPI_OUT,
            transport=transport,
            local=packed(near),
            remote=packed(far),
            local_port=port,
            remote_port=port,
            **keys("aes128gcm16", 0),
            **(sa or {}),
        )
        yield Covered(made, spi, in_udp)


WAYS = [(outer, in_udp) for outer in (4, 6) for in_udp in (False, True)]


@pytest.mark.parametrize(("outer", "in_udp"), WAYS)
def test_what_is_on_the_wire(wire: Wire, outer: int, in_udp: bool) -> None:
    near, far = ENDS[outer]
    packet = udp(os.urandom(100), source=OUR, destination=PEER)
    for transport in (True, False):
        for kind, okey in (("gre", 5), ("ipsec", None)):
            if transport and kind == "ipsec":
                continue
            options = {"okey": okey, "ikey": okey, "oseq": True, "ocsum": True, "icsum": True} if kind == "gre" else {}
            with covered(wire, kind, outer=outer, in_udp=in_udp, transport=transport, **options) as made:
                made.made.write(packet)
                delivery, payload, next_header = made.receive()
                assert (delivery.source, delivery.destination, delivery.ttl) == (near, far, 64)
                if kind == "ipsec":
                    assert (payload, next_header) == (packet, 4)
                    back = udp(b"back", source=PEER, destination=OUR, dport=0x2345)
                    rest = back
                else:
                    header = payload
                    if not transport:
                        inside_ = Outer.parse(payload)
                        assert next_header == (4 if outer == 4 else 41)
                        assert (inside_.source, inside_.destination, inside_.protocol) == (near, far, GRE)
                        header = inside_.payload
                    else:
                        assert next_header == GRE
                    seen = Gre.parse(header)
                    assert (seen.key, seen.sequence, seen.checksum, seen.payload) == (5, 0, True, packet)
                    back = udp(b"back", source=PEER, destination=OUR, dport=0x2345)
                    rest = gre(back, key=5, csum=True)
                    if not transport:
                        rest = ip(rest, source=far, destination=near, protocol=GRE)
                look = made.made.application(OUR, 0x2345)
                made.deliver(rest, next_header)
                assert look.recv(100) == b"back"


def test_congestion_and_class_of_service(wire: Wire) -> None:
    """RFC 6040 and RFC 4301 5.1.2; in transport mode the rules of the encapsulation, whose header it is."""
    packet = udp(b"x", source=OUR, destination=PEER, tos=0xB8 | 2)
    for in_udp in (False, True):
        for kind, transport, sa, expected in (
            ("ipsec", False, {}, 0xB8 | 2),
            ("ipsec", False, {"dscp": False}, 2),
            ("gre", True, {}, 2),
            ("gre", False, {}, 2),
        ):
            with covered(wire, kind, transport=transport, in_udp=in_udp, sa=sa) as made:
                made.made.write(packet)
                assert made.receive()[0].tos == expected
                # On the way in: marked where it can be heard, dropped where not.
                for inner_tos, outer_tos, heard in ((2, 3, 3), (1, 3, 3), (0, 2, 0), (0, 3, None)):
                    payload = udp(b"y", source=PEER, destination=OUR, tos=inner_tos, dport=0x2345)
                    next_header = 4
                    if kind == "gre":
                        payload, next_header = gre(payload), GRE
                        if not transport:
                            payload = ip4(payload, source=FAR, destination=NEAR, protocol=GRE, tos=inner_tos)
                            next_header = 4
                    before = made.made.drops("ecn")
                    look = made.made.application(OUR, 0x2345)
                    look.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
                    made.deliver(payload, next_header, tos=outer_tos)
                    if heard is None:
                        made.made.wait_drop("ecn", before + 1)
                    else:
                        _, ancillary, _, _ = look.recvmsg(100, 100)
                        assert ancillary[0][2][0] & 3 == heard
                    look.close()


def test_df_is_copied_set_or_cleared(wire: Wire) -> None:
    for in_udp in (False, True):
        for df, expected in (("copy", (False, True)), ("set", (True, True)), ("clear", (False, False))):
            with covered(wire, "ipsec", transport=False, in_udp=in_udp, sa={"df": df}) as made:
                for held, wanted in zip((False, True), expected, strict=True):
                    made.made.write(udp(b"x", source=OUR, destination=PEER, df=held))
                    assert made.receive()[0].df == wanted
    for transport in (False, True):
        for pmtudisc in (False, True):
            with covered(wire, transport=transport, pmtudisc=pmtudisc, ttl=0 if not pmtudisc else 64) as made:
                made.made.write(udp(b"x", source=OUR, destination=PEER))
                assert made.receive()[0].df == pmtudisc


# ---------------------------------------------------------------- too large


def test_what_is_larger_than_the_path_is_cut_inside_or_answered(wire: Wire) -> None:
    for kind, transport in (("gre", True), ("gre", False), ("ipsec", False)):
        with covered(wire, kind, transport=transport) as made:
            made.made.tunnel.set_path_mtu(600)
            made.made.write(udp(os.urandom(1000), source=OUR, destination=PEER))
            for _ in range(2):
                _, payload, _ = made.receive()
                inner = payload
                if kind == "gre":
                    inner = Gre.parse(payload if transport else Outer.parse(payload).payload).payload
                assert len(inner) <= 600
                assert Outer.parse(inner).destination == PEER
            made.made.write(udp(os.urandom(1000), source=OUR, destination=PEER, df=True))
            made.made.wait_drop("too_big")


@pytest.mark.parametrize(("outer", "in_udp"), WAYS)
def test_ipv6_in_a_path_of_less_than_1280_is_cut_outside(wire: Wire, outer: int, in_udp: bool) -> None:
    if in_udp:
        # The kernel cuts, and only to what it knows of the path.
        wire.near.ip("link", "set", wire.link.left, "mtu", "1280")
    try:
        with covered(wire, "ipsec", transport=False, outer=outer, in_udp=in_udp, v6=True) as made:
            made.made.tunnel.set_path_mtu(1200)
            packet = udp(os.urandom(1280 - 48), source=OUR6, destination=PEER6)
            made.made.write(packet)
            first, second = wire.receive(), wire.receive()
            if outer == 4:
                assert (first.fragment, first.df, first.ident) == (0x2000, False, second.ident)
                body = first.payload + second.payload
            else:
                assert first.protocol == second.protocol == 44
                body = first.payload[8:] + second.payload[8:]
            assert opened(body[8:] if in_udp else body, direction=0)[2] == packet
            assert made.made.all_drops() == {}
    finally:
        wire.near.ip("link", "set", wire.link.left, "mtu", str(LINK_MTU))


def test_a_device_that_is_too_small_is_told_or_cut_for(wire: Wire) -> None:
    packet = udp(os.urandom(1472), source=OUR, destination=PEER, df=True)
    for in_udp in (False, True):
        with covered(wire, "ipsec", transport=False, in_udp=in_udp, mtu=1500) as made:
            made.made.write(packet)
            told = made.made.wait_event(native.PathError)
            assert (told.tunnel, told.kind, told.mtu, told.origin) == (made.made.tunnel.id, "too-big", LINK_MTU, packed(NEAR))
            made.made.wait_drop("too_big")
        with covered(wire, "ipsec", transport=False, in_udp=in_udp, mtu=1500, sa={"df": "clear"}) as made:
            made.made.write(packet)
            body = wire.receive().payload + wire.receive().payload
            assert opened(body[8:] if in_udp else body, direction=0)[2] == packet
            assert made.made.wait_sent(1).tx_packets == 1


# ---------------------------------------------------------------- ICMP


def icmp4(kind: int, code: int, rest: bytes, quote: bytes) -> bytes:
    """An ICMP error to the engine's host."""
    body = struct.pack("!BBH", kind, code, 0) + rest + quote
    return ip4(body[:2] + struct.pack("!H", checksum(body)) + body[4:], source=FAR, destination=NEAR, protocol=1)


def icmp6(kind: int, code: int, rest: bytes, quote: bytes) -> bytes:
    body = struct.pack("!BBH", kind, code, 0) + rest + quote
    near, far = ENDS[6]
    pseudo = packed(far) + packed(near) + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    return ip6(body, source=far, destination=near, protocol=58)


@pytest.mark.parametrize(("outer", "in_udp"), WAYS)
def test_icmp_errors_are_told_to_the_tunnel_that_they_quote(wire: Wire, outer: int, in_udp: bool) -> None:
    near, far = ENDS[outer]

    def quote(spi: int, *, port: int = NATT, to: str = far) -> bytes:
        head = struct.pack("!II", spi, 1)
        if in_udp:
            return udp(head, source=near, destination=to, sport=NATT, dport=port)
        return ip(head, source=near, destination=to, protocol=ESP)

    with covered(wire, outer=outer, in_udp=in_udp) as made:
        made.made.write(udp(b"x", source=OUR, destination=PEER))
        made.receive()
        wrong = [quote(0x9999_9999)]
        if in_udp:
            wrong.append(quote(SPI_OUT, port=4501))
            wrong.append(udp(bytes(4) + bytes(28), source=near, destination=far, sport=NATT, dport=NATT))
        for told, (kind6, kind4, rest4, rest6) in {
            "too-big": ((2, 0), (3, 4), struct.pack("!HH", 0, 1400), struct.pack("!I", 1400)),
            "unreachable": ((1, 3), (3, 1), bytes(4), bytes(4)),
            "time-exceeded": ((3, 0), (11, 0), bytes(4), bytes(4)),
        }.items():
            for quoted in (*wrong, quote(SPI_OUT)):
                wire.send(icmp4(*kind4, rest4, quoted) if outer == 4 else icmp6(*kind6, rest6, quoted))
            event = made.made.wait_event(native.PathError)
            assert (event.tunnel, event.kind, event.origin) == (made.made.tunnel.id, told, packed(far))
            assert event.mtu == (1400 if told == "too-big" else 0)
            assert made.made.count_events(native.PathError) == 1
            made.made.events.clear()
        # And no packet is lost by being told.
        made.made.write(udp(b"y", source=OUR, destination=PEER))
        made.receive()


# ---------------------------------------------------------------- the control plane's packets


@pytest.mark.parametrize("transport", [True, False])
def test_keepalives_are_protected_both_ways(wire: Wire, transport: bool) -> None:
    with covered(wire, transport=transport, okey=4, ikey=4) as made:

        def wrapped(packet: bytes) -> tuple[bytes, int]:
            return (packet, GRE) if transport else (ip4(packet, source=FAR, destination=NEAR, protocol=GRE), 4)

        asked = ip4(gre(b"", 0, key=4), source=NEAR, destination=FAR, protocol=GRE, ttl=255)
        made.deliver(*wrapped(gre(asked, key=4)))
        told = made.made.wait_event(native.ControlReceived)
        assert (told.kind, told.packet) == ("asked", asked)
        made.made.tunnel.send_back(asked)
        delivery, payload, next_header = made.receive()
        assert (delivery.source, delivery.destination) == (NEAR, FAR)
        assert (payload, next_header) == ((gre(b"", 0, key=4), GRE) if transport else (asked, 4))
        made.made.events.clear()
        ours = ip4(gre(b"", 0, key=4), source=FAR, destination=NEAR, protocol=GRE, ttl=255)
        made.made.tunnel.send_control(ETH_P_IP, ours)
        _, payload, _ = made.receive()
        assert Gre.parse(payload if transport else Outer.parse(payload).payload).payload == ours
        made.deliver(*wrapped(gre(b"", 0, key=4)))
        assert made.made.wait_event(native.ControlReceived).kind == "returned"
        made.made.tunnel.clear_outbound()
        before = made.made.drops("no_sa")
        made.made.tunnel.send_back(asked)
        made.made.tunnel.send_control(ETH_P_IP, ours)
        made.made.wait_drop("no_sa", before + 2)
        assert wire.silent()


def test_what_leads_round_in_a_circle_is_dropped(wire: Wire) -> None:
    """A route that leads the peer into the tunnel: ESP and IKE would go into themselves."""
    with covered(wire, "ipsec", transport=False, in_udp=True) as made:
        for packet in (
            udp(bytes(40), source=NEAR, destination=FAR, sport=NATT, dport=NATT),
            udp(bytes(40), source=NEAR, destination=FAR, sport=500, dport=500),
            ip4(bytes(40), source=NEAR, destination=FAR, protocol=ESP),
        ):
            made.made.write(packet)
        made.made.wait_drop("looped", 3)
        made.made.write(udp(b"x", source=NEAR, destination=FAR, sport=9, dport=9))
        assert made.receive()[2] == 4


def test_a_datagram_of_ipv6_without_a_checksum_is_taken(wire: Wire) -> None:
    """RFC 3948 2.1 wants none, and of IPv6 a kernel takes none else."""
    near, far = ENDS[6]
    with covered(wire, outer=6, in_udp=True) as made:
        packet = sealed(made.spi, 1, gre(udp(b"x", source=PEER, destination=OUR)), GRE, direction=1)
        datagram = struct.pack("!HHHH", NATT, NATT, 8 + len(packet), 0) + packet
        wire.send(ip6(datagram, source=far, destination=near, protocol=17))
        made.made.wait_received(1)


def test_other_ends_of_the_encapsulation(wire: Wire) -> None:
    """Of its delivery header in tunnel mode: ESP's own path is its SA's."""
    other = "192.0.2.33"
    with covered(wire, transport=False) as made:
        made.made.tunnel.set_ends(packed(NEAR), packed(other))
        made.made.write(udp(b"x", source=OUR, destination=PEER))
        delivery, payload, _ = made.receive()
        assert (delivery.destination, Outer.parse(payload).destination) == (FAR, other)
        body = gre(udp(b"x", source=PEER, destination=OUR))
        made.deliver(ip4(body, source=FAR, destination=NEAR, protocol=GRE), 4)
        made.made.wait_drop("selectors")
        made.deliver(ip4(body, source=other, destination=NEAR, protocol=GRE), 4)
        made.made.wait_received(1)
        lines = made.made.engine.carrier().sockets
        assert set(lines) == {
            f"{name} over {family}" for name in ("ike port 500", "ike and esp port 4500", "esp") for family in ("IPv4", "IPv6")
        }
        assert set(lines.values()) == {"on"}


def test_held_like_a_plain_one(wire: Wire) -> None:
    with covered(wire) as made:
        made.made.tunnel.set_hold(True)
        made.made.write(udp(b"x", source=OUR, destination=PEER))
        made.made.wait_drop("held")
        made.made.tunnel.set_hold(False)
        made.made.write(udp(b"x", source=OUR, destination=PEER))
        made.receive()
        offloads = made.made.tunnel.offloads()
        assert offloads["raw"].startswith("on")
        made.made.tunnel.set_outbound_path(packed(NEAR), packed(FAR), NATT, NATT)
        assert made.made.tunnel.offloads()["udp_gro"] == "on"
        with pytest.raises(ValueError, match="from our end"):
            made.made.tunnel.send_back(ip4(gre(b"", 0), source=FAR, destination=NEAR, protocol=GRE))
