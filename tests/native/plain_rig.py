"""
A plain tunnel of the native engine in one namespace, and this test as its peer in another: at the far end of a veth pair, with
sockets that send and see whole delivery packets.

The far namespace has no tunnel of its own, so whatever comes and goes there was made here byte by byte, or by the engine.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ginnel import _native as native
from namespaces import Link, Namespace, Net, wait_until
from native.rig import WITHIN_S, checksum, inside

ETH_P_ALL = 3
ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
ETH_P_TEB = 0x6558
SO_RCVBUFFORCE = 33
SO_SNDBUFFORCE = 32

NEAR, FAR = "192.0.2.1", "192.0.2.2"
NEAR6, FAR6 = "2001:db8::1", "2001:db8::2"
#: Inside the tunnel.
OUR, PEER = "10.9.0.1", "10.9.0.2"
OUR6, PEER6 = "fd09::1", "fd09::2"
PORT = 4754
LINK_MTU = 1500
#: The delivery header's protocols that are looked at.
PROTOCOLS = (47, 4, 41, 17, 44, 50, 60)


def packed(address: str) -> bytes:
    """As the engine takes it."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


# ---------------------------------------------------------------- bytes


def ip4(
    payload: bytes, *, source: str, destination: str, protocol: int, tos: int = 0, ttl: int = 64, df: bool = False,
    ident: int = 1, fragment: int = 0,
) -> bytes:  # fmt: skip
    """An IPv4 packet; *fragment* is the flags-and-offset field but for DF."""
    field_ = fragment | (0x4000 if df else 0)
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, tos, 20 + len(payload), ident, field_, ttl, protocol, 0, packed(source), packed(destination)
    )
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ip6(payload: bytes, *, source: str, destination: str, protocol: int, tos: int = 0, ttl: int = 64, label: int = 0) -> bytes:
    """An IPv6 packet."""
    first = 0x60000000 | tos << 20 | label
    return struct.pack("!IHBB", first, len(payload), protocol, ttl) + packed(source) + packed(destination) + payload


def ip(payload: bytes, *, source: str, destination: str, **options: Any) -> bytes:
    """Either, by the addresses."""
    return (ip6 if ":" in source else ip4)(payload, source=source, destination=destination, **options)


def udp(data: bytes, *, source: str, destination: str, sport: int = 7000, dport: int = 7001, **options: Any) -> bytes:
    """A UDP packet with its checksum, in IP."""
    length = 8 + len(data)
    if ":" in source:
        pseudo = packed(source) + packed(destination) + struct.pack("!II", length, 17)
    else:
        pseudo = packed(source) + packed(destination) + struct.pack("!BBH", 0, 17, length)
    head = struct.pack("!HHHH", sport, dport, length, 0)
    total = checksum(pseudo + head + data) or 0xFFFF
    whole = head[:6] + struct.pack("!H", total) + data
    return ip(whole, source=source, destination=destination, protocol=17, **options)


def gre(
    payload: bytes,
    protocol: int = ETH_P_IP,
    *,
    key: int | None = None,
    csum: bool = False,
    seq: int | None = None,
    flags: int = 0,
) -> bytes:
    """A GRE packet, from its header on; *flags* is added to the first two bytes."""
    flags |= (0x8000 if csum else 0) | (0x2000 if key is not None else 0) | (0x1000 if seq is not None else 0)
    head = struct.pack("!HH", flags, protocol)
    if csum:
        head += bytes(4)
    if key is not None:
        head += struct.pack("!I", key)
    if seq is not None:
        head += struct.pack("!I", seq)
    if csum:
        head = head[:4] + struct.pack("!HH", checksum(head + payload), 0) + head[8:]
    return head + payload


@dataclass(frozen=True)
class Gre:
    """A GRE header that the engine sent."""

    protocol: int
    key: int | None
    sequence: int | None
    checksum: bool
    payload: bytes

    @classmethod
    def parse(cls, packet: bytes) -> Gre:
        """From the header on; a checksum must be right."""
        flags, protocol = struct.unpack_from("!HH", packet)
        assert flags & ~0xB000 == 0, hex(flags)
        at, key, sequence = 4, None, None
        if flags & 0x8000:
            assert checksum(packet) == 0
            assert packet[6:8] == b"\0\0"
            at += 4
        if flags & 0x2000:
            (key,) = struct.unpack_from("!I", packet, at)
            at += 4
        if flags & 0x1000:
            (sequence,) = struct.unpack_from("!I", packet, at)
            at += 4
        return cls(protocol, key, sequence, bool(flags & 0x8000), packet[at:])


@dataclass(frozen=True)
class Outer:
    """A delivery packet that the engine sent."""

    version: int
    source: str
    destination: str
    protocol: int
    ttl: int
    tos: int
    df: bool
    ident: int
    #: IPv4: flags and offset but for DF.
    fragment: int
    label: int
    payload: bytes

    @classmethod
    def parse(cls, packet: bytes) -> Outer:
        """From its IP header on; lengths and the header's checksum must be right."""
        if packet[0] >> 4 == 4:
            _, tos, total, ident, field_, ttl, protocol, _, source, destination = struct.unpack_from("!BBHHHBBH4s4s", packet)
            assert packet[0] == 0x45
            assert checksum(packet[:20]) == 0
            # Short frames are padded.
            assert total <= len(packet)
            ends = socket.inet_ntop(socket.AF_INET, source), socket.inet_ntop(socket.AF_INET, destination)
            return cls(
                4, *ends, protocol, ttl, tos, bool(field_ & 0x4000), ident, field_ & 0x3FFF, 0, packet[20:total]
            )  # fmt: skip
        first, length, protocol, ttl = struct.unpack_from("!IHBB", packet)
        ends = socket.inet_ntop(socket.AF_INET6, packet[8:24]), socket.inet_ntop(socket.AF_INET6, packet[24:40])
        payload = packet[40 : 40 + length]
        assert len(payload) == length
        return cls(6, *ends, protocol, ttl, first >> 20 & 0xFF, False, 0, 0, first & 0xFFFFF, payload)


# ---------------------------------------------------------------- the two namespaces


def is_chatter(outer: Outer) -> bool:
    """Whether it carries what the kernel says to join its groups (MLD), whenever it likes."""
    return packed("ff02::16") in outer.payload


@dataclass
class Wire:
    """Two namespaces joined by a link: the engine's, and the one where the test is the peer."""

    near: Namespace
    far: Namespace
    link: Link
    #: Sees every frame that comes to the far end.
    tap: socket.socket
    senders: dict[int, socket.socket]
    sinks: list[socket.socket]

    def send(self, packet: bytes) -> None:
        """A whole delivery packet, from the far end."""
        version = packet[0] >> 4
        destination = (
            (socket.inet_ntop(socket.AF_INET, packet[16:20]), 0)
            if version == 4
            else (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0)
        )
        self.senders[version].sendto(packet, destination)

    def receive(self, within_s: float = WITHIN_S) -> Outer:
        """The next delivery packet that came to the far end."""
        deadline = time.monotonic() + within_s
        while True:
            self.tap.settimeout(max(deadline - time.monotonic(), 0.001))
            packet, address = self.tap.recvfrom(65536)
            if address[2] == socket.PACKET_OUTGOING or address[1] not in (ETH_P_IP, ETH_P_IPV6):
                continue
            outer = Outer.parse(packet)
            if outer.protocol in PROTOCOLS and not is_chatter(outer):
                return outer

    def silent(self, for_s: float = 0.2) -> bool:
        """Whether nothing comes for a while (an upper bound on our patience, not a delay that others rely on)."""
        try:
            self.receive(for_s)
        except TimeoutError:
            return True
        return False

    def flush(self) -> None:
        """Forget what came so far."""
        self.tap.setblocking(False)
        try:
            while True:
                self.tap.recv(65536)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Its sockets; the namespaces are the net's."""
        for opened in (self.tap, *self.senders.values(), *self.sinks):
            opened.close()


@contextmanager
def joined(net: Net) -> Iterator[Wire]:
    """Two fresh namespaces and their link."""
    near, far = net.namespace("n"), net.namespace("f")
    link = net.veth(near, far, [f"{NEAR}/24", f"{NEAR6}/64"], [f"{FAR}/24", f"{FAR6}/64"], mtu=LINK_MTU)
    with inside(far):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        tap.bind((link.right, ETH_P_ALL))
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        senders = {
            4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
            6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW),
        }
        # Somebody who wants these protocols: else the far kernel answers that nobody does.
        sinks = [
            socket.socket(family, socket.SOCK_RAW, protocol)
            for family in (socket.AF_INET, socket.AF_INET6)
            for protocol in (47, 4, 41)
        ]
        for port_family in (socket.AF_INET, socket.AF_INET6):
            sink = socket.socket(port_family, socket.SOCK_DGRAM)
            if port_family == socket.AF_INET6:
                sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sink.bind(("", PORT))
            sinks.append(sink)
    for sender in senders.values():
        sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 16 << 20)
    wire = Wire(near, far, link, tap, senders, sinks)
    # Both ends know each other's link address before a test counts packets.
    try:
        for address in (FAR, FAR6):
            wait_until(lambda at=address: near.ping(at), WITHIN_S, f"a ping of {address}")
        yield wire
    finally:
        wire.close()


# ---------------------------------------------------------------- the tunnel


@dataclass
class Plain:
    """One tunnel that is up, its device configured, and the test as its peer."""

    wire: Wire
    engine: Any
    tunnel: Any
    kind: str
    near: str
    far: str
    #: Whether in UDP, and the port that we send from.
    sport: int
    events: list[Any] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)

    # -- as the peer

    def deliver(self, payload: bytes, *, protocol: int | None = None, tos: int = 0, source: str = "", df: bool = False) -> None:
        """*payload* in a delivery packet of the peer's (from *source*): what follows its header, GRE or IP."""
        source = source or self.far
        if self.sport:
            self.wire.send(udp(payload, source=source, destination=self.near, sport=self.sport, dport=PORT, tos=tos))
            return
        if protocol is None:
            protocol = {"gre": 47, "gretap": 47, "ipip": 4, "sit": 41}.get(self.kind) or (4 if payload[0] >> 4 == 4 else 41)
        options: dict[str, Any] = {} if ":" in source else {"df": df}
        self.wire.send(ip(payload, source=source, destination=self.near, protocol=protocol, tos=tos, **options))

    def receive(self, within_s: float = WITHIN_S) -> tuple[Outer, bytes]:
        """The next packet of the tunnel at the far end: its delivery header, and what follows it (and UDP's)."""
        while True:
            outer = self.wire.receive(within_s)
            if outer.protocol == 17:
                if outer.payload[2:4] == PORT.to_bytes(2, "big"):
                    return outer, outer.payload[8:]
                continue
            return outer, outer.payload

    def receive_gre(self, within_s: float = WITHIN_S) -> tuple[Outer, Gre]:
        """The same, its GRE header read."""
        outer, rest = self.receive(within_s)
        return outer, Gre.parse(rest)

    # -- inside

    def application(self, address: str = OUR, port: int = 0) -> socket.socket:
        """A UDP socket in the engine's namespace."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with inside(self.wire.near):
            made = socket.socket(family, socket.SOCK_DGRAM)
        self.sockets.append(made)
        made.settimeout(WITHIN_S)
        made.bind((address, port))
        return made

    def look(self) -> socket.socket:
        """Sees what the device gets, with its Ethernet header if it has one."""
        with inside(self.wire.near):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.sockets.append(made)
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        made.bind((self.tunnel.name, ETH_P_ALL))
        made.settimeout(WITHIN_S)
        return made

    def write(self, packet: bytes) -> None:
        """A packet (or frame) as the kernel would route it into the device."""
        with inside(self.wire.near), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as made:
            made.sendto(packet, (self.tunnel.name, ETH_P_IPV6 if packet[0] >> 4 == 6 else ETH_P_IP))

    # -- counters and events

    def drops(self, reason: str) -> int:
        """How many packets were dropped for that reason."""
        count: int = self.tunnel.drops()[reason]
        return count

    def all_drops(self) -> dict[str, int]:
        """Those that there are."""
        return {reason: count for reason, count in self.tunnel.drops().items() if count}

    def wait_drop(self, reason: str, count: int = 1) -> None:
        """Until that many packets were dropped for that reason."""
        wait_until(lambda: self.drops(reason) >= count, WITHIN_S, f"{count} dropped as {reason}, have {self.all_drops()}")

    def wait_received(self, count: int) -> None:
        """Until that many packets came in."""
        wait_until(lambda: self.tunnel.counters().rx_packets >= count, WITHIN_S, f"{count} in; dropped {self.all_drops()}")

    def wait_sent(self, count: int) -> Any:
        """Until that many packets are counted as sent; the counters. (They are counted behind the sending.)"""
        wait_until(lambda: self.tunnel.counters().tx_packets >= count, WITHIN_S, f"{count} out; dropped {self.all_drops()}")
        return self.tunnel.counters()

    def wait_event(self, kind: type, matching: Callable[[Any], bool] = lambda event: True) -> Any:
        """The first event of that kind, seen or to come."""

        def seen() -> Any:
            self.events.extend(self.engine.drain())
            return next((event for event in self.events if isinstance(event, kind) and matching(event)), None)

        return wait_until(seen, WITHIN_S, kind.__name__)

    def count_events(self, kind: type) -> int:
        """How many events of that kind were seen so far."""
        self.events.extend(self.engine.drain())
        return sum(isinstance(event, kind) for event in self.events)


@contextmanager
def plain(
    wire: Wire, kind: str = "gre", *, outer: int = 4, mtu: int = 1400, in_udp: tuple[int, int, int] | None = None,
    up: bool = True, v6: bool = False, offload: bool = True, **options: Any,
) -> Iterator[Plain]:  # fmt: skip
    """
    A tunnel between the two namespaces' addresses of that family, its device up with addresses inside.

    *v6*: also one of IPv6; without it the device is silent, with it the kernel joins groups (see `is_chatter`).
    """
    near, far = (NEAR, FAR) if outer == 4 else (NEAR6, FAR6)
    engine = native.Engine()
    name = "p" + os.urandom(5).hex()
    ends = {"local": packed(near), "remote": packed(far)} | {
        end: options.pop(end) for end in ("local", "remote") if end in options
    }
    with inside(wire.near):
        tunnel = engine.plain(name, kind=kind, **ends, mtu=mtu, udp=in_udp, tun_offload=offload, udp_offload=offload, **options)
        if up:
            tunnel.up()
    wire.near.write_proc(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "0" if v6 else "1")
    wire.near.write_proc(f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode", "1")
    wire.near.ip("address", "add", f"{OUR}/24", "dev", name)
    if v6:
        wire.near.ip("address", "add", f"{OUR6}/64", "dev", name, "nodad")
    wire.near.ip("link", "set", name, "up")
    if v6:
        wire.near.settled(name)
    if kind == "gretap":
        for address in (PEER, PEER6) if v6 else (PEER,):
            wire.near.ip("neighbour", "add", address, "lladdr", "02:00:00:00:00:02", "dev", name)
    made = Plain(wire, engine, tunnel, kind, near, far, PORT if in_udp else 0)
    wire.flush()
    try:
        yield made
    finally:
        engine.close()
        for opened in made.sockets:
            opened.close()
