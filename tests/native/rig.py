"""
A tunnel of the native engine in a namespace of its own, with this test as the peer on loopback.

The test holds both session keys, so it can say anything a peer could say, well or badly formed, and read everything that the
engine sends. Inner traffic goes through the namespace's own IP stack: a socket in it, or a raw look at what the device gets.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ginnel import _native as native
from namespaces import Namespace, wait_until

WITHIN_S = 3.0
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

OUR_ADDRESS = "10.9.0.1"
PEER_ADDRESS = "10.9.0.2"
OUR_ADDRESS6 = "fd09::1"
PEER_ADDRESS6 = "fd09::2"
HEADER = struct.Struct("<IIQ")
TAG_SIZE = 16


@contextmanager
def inside(space: Namespace) -> Iterator[None]:
    """This thread, and so what it opens, in the namespace."""
    with Path("/proc/thread-self/ns/net").open() as home, Path("/run/netns", space.name).open() as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def secret(byte: int) -> native.Secret:
    """A session key that the test knows."""
    return native.Secret.from_bytes(bytes([byte]) * 32)


@dataclass
class Rig:
    """One tunnel, one peer of it, and the peer's UDP socket."""

    space: Namespace
    engine: Any
    tunnel: Any
    peer: int
    socket: socket.socket
    index: int = 0
    events: list[Any] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)
    #: What the peer has sealed so far.
    counter: int = 0
    to_engine: int = 0x42
    from_engine: int = 0x41

    def session(self, *, initiator: bool = True, remote_index: int = 0x1234, send: int = 0x41, receive: int = 0x42) -> int:
        """Install a session whose keys the test holds; its local index."""
        self.index = self.tunnel.reserve_index(self.peer)
        self.tunnel.install_session(self.peer, self.index, remote_index, secret(send), secret(receive), initiator)
        self.to_engine, self.from_engine, self.counter = receive, send, 0
        return self.index

    def seal(self, inner: bytes, *, counter: int | None = None, index: int | None = None, pad: bool = True) -> bytes:
        """A data message around *inner*, as the peer would send it."""
        if counter is None:
            counter = self.counter
            self.counter += 1
        if pad:
            inner = inner + bytes(-len(inner) % 16)
        body = native.aead_seal(secret(self.to_engine), counter, inner, b"")
        return HEADER.pack(4, self.index if index is None else index, counter) + body

    def send(self, datagram: bytes) -> None:
        """From the peer's socket to the tunnel."""
        self.socket.sendto(datagram, ("127.0.0.1", self.tunnel.listen_port))

    def receive(self, within_s: float = WITHIN_S) -> bytes:
        """The next datagram that the engine sent to the peer."""
        self.socket.settimeout(within_s)
        return self.socket.recv(65536)

    def receive_inner(self, within_s: float = WITHIN_S) -> tuple[int, bytes]:
        """The next data message, opened: its counter and the padded inner packet."""
        return self.open(self.receive(within_s))

    def open(self, datagram: bytes) -> tuple[int, bytes]:
        """What a data message of the engine says."""
        kind, _, counter = HEADER.unpack_from(datagram)
        assert kind == 4
        return counter, native.aead_open(secret(self.from_engine), counter, datagram[HEADER.size :], b"")

    def silence(self, for_s: float = 0.2) -> bool:
        """Whether the engine says nothing for a while (an upper bound on our patience, not a delay others rely on)."""
        self.socket.settimeout(for_s)
        try:
            self.socket.recv(65536)
        except TimeoutError:
            return True
        return False

    def drops(self, reason: str) -> int:
        """How many packets were dropped for that reason."""
        count: int = self.tunnel.drops()[reason]
        return count

    def wait_drop(self, reason: str, count: int = 1) -> None:
        """Until that many packets were dropped for that reason."""
        wait_until(lambda: self.drops(reason) >= count, WITHIN_S, f"{count} dropped as {reason}, have {self.tunnel.drops()}")

    def wait_event(self, kind: type) -> Any:
        """The first event of that kind, seen or to come."""

        def seen() -> Any:
            self.events.extend(self.engine.drain())
            return next((event for event in self.events if isinstance(event, kind)), None)

        return wait_until(seen, WITHIN_S, kind.__name__)

    def udp_socket(self, address: str, port: int = 0) -> socket.socket:
        """A socket of an application in the namespace."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with inside(self.space):
            made = socket.socket(family, socket.SOCK_DGRAM)
        self.sockets.append(made)
        made.settimeout(WITHIN_S)
        made.bind((address, port))
        return made


@contextmanager
def rig(space: Namespace, *, offload: bool = True, mtu: int = 1420, adopt: Callable[[str], int] | None = None) -> Iterator[Rig]:
    """
    A tunnel that is up, with one peer at 127.0.0.1 for everything in 10.9.0.0/24 and fd09::/64.

    *adopt* opens the device of that name, in the namespace, for the engine to take over.
    """
    engine = native.Engine()
    name = "wg" + os.urandom(4).hex()
    with inside(space):
        tun_fd = adopt(name) if adopt else None
        tunnel = engine.wireguard(name, mtu=mtu, tun_fd=tun_fd, tun_offload=offload, udp_offload=offload)
        tunnel.set_private_key(native.Secret.random().clamp())
        tunnel.up()
        peer_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer_socket.bind(("127.0.0.1", 0))
    space.ip("address", "add", f"{OUR_ADDRESS}/24", "dev", name)
    space.ip("address", "add", f"{OUR_ADDRESS6}/64", "dev", name, "nodad")
    space.ip("link", "set", name, "up")
    space.settled(name)
    peer = tunnel.add_peer(os.urandom(32))
    tunnel.set_endpoint(peer, socket.inet_aton("127.0.0.1"), peer_socket.getsockname()[1])
    tunnel.set_allowed_ips(peer, [prefix("10.9.0.0", 24), prefix("fd09::", 64)], True)
    made = Rig(space, engine, tunnel, peer, peer_socket)
    try:
        yield made
    finally:
        engine.close()
        for opened in (peer_socket, *made.sockets):
            opened.close()


def prefix(address: str, length: int) -> tuple[bytes, int]:
    """As the engine takes it."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address), length


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(payload: bytes, *, source: str, destination: str, protocol: int = 17, tos: int = 0) -> bytes:
    """An IPv4 packet without options."""
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack("!BBHHHBBH8s", 0x45, tos, 20 + len(payload), 1, 0, 64, protocol, 0, addresses)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp4(data: bytes, *, source: str, destination: str, sport: int = 7000, dport: int = 7001, tos: int = 0) -> bytes:
    """An IPv4 UDP packet with its checksum."""
    length = 8 + len(data)
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!BBH", 0, 17, length)
    head = struct.pack("!HHHH", sport, dport, length, 0)
    total = checksum(pseudo + head + data) or 0xFFFF
    return ipv4(head[:6] + struct.pack("!H", total) + data, source=source, destination=destination, tos=tos)
