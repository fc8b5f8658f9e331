"""
Two engines in two namespaces with one protected tunnel between them, and SAs that this test makes by hand.

`Pair.install` gives both ends the same SAs, each its half: what IKE would have agreed on.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ginnel import _native as native
from namespaces import Namespace, wait_until
from native.plain_rig import FAR, FAR6, NEAR, NEAR6, OUR, OUR6, PEER, PEER6, Wire, packed
from native.rig import WITHIN_S, inside

NATT = 4500
SUITES = [
    "aes128gcm16",
    "aes192gcm16",
    "aes256gcm16",
    "chacha20poly1305",
    *(f"aes{bits}-{mac}" for bits in (128, 192, 256) for mac in ("sha1", "sha256", "sha384", "sha512")),
]
MAC_SIZES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
#: Of the outer side, by family: near, far.
ENDS = {4: (NEAR, FAR), 6: (NEAR6, FAR6)}
#: Of the inner side.
INNER = {4: (OUR, PEER), 6: (OUR6, PEER6)}


def key_sizes(suite: str) -> tuple[int, int]:
    """Bytes of key (with its salt) and of integrity key."""
    cipher, _, mac = suite.partition("-")
    if cipher == "chacha20poly1305":
        return 36, 0
    bits = int(cipher.removeprefix("aes").removesuffix("gcm16"))
    return bits // 8 + (0 if mac else 4), MAC_SIZES.get(mac, 0)


def raw_keys(suite: str, direction: int) -> tuple[bytes, bytes]:
    """The key and the integrity key of one direction."""
    key, integrity = key_sizes(suite)
    made = hashlib.shake_256(f"{suite} {direction}".encode()).digest(key + integrity)
    return made[:key], made[key:]


def keys(suite: str, direction: int) -> dict[str, Any]:
    """The same, as the engine takes them: once."""
    key, integrity = raw_keys(suite, direction)
    return {
        "suite": suite,
        "key": native.KeyMaterial.from_bytes(key),
        "integrity": native.KeyMaterial.from_bytes(integrity),
    }


@dataclass
class End:
    """One engine with its tunnel."""

    space: Namespace
    engine: Any
    ports: Any
    tunnel: Any
    #: 0 near, 1 far.
    side: int
    events: list[Any] = field(default_factory=list)

    def drops(self) -> dict[str, int]:
        """Those that there are."""
        return {reason: count for reason, count in self.tunnel.drops().items() if count}

    def wait_drop(self, reason: str, count: int = 1) -> None:
        """Until that many packets were dropped for that reason."""
        wait_until(lambda: self.tunnel.drops()[reason] >= count, WITHIN_S, f"{count} dropped as {reason}, have {self.drops()}")

    def seen(self, kind: type) -> list[Any]:
        """The events of that kind so far."""
        self.events.extend(self.engine.drain())
        return [event for event in self.events if isinstance(event, kind)]

    def wait_event(self, kind: type, count: int = 1) -> Any:
        """The last of so many events of that kind."""
        return wait_until(lambda: self.seen(kind)[count - 1 :], WITHIN_S, f"{count} {kind.__name__}, have {self.events}")[0]

    def sa(self, spi: int) -> Any:
        """One SA's counters."""
        return next(sa for sa in self.tunnel.associations() if sa.spi == spi)


@dataclass
class Pair:
    """A tunnel, both its ends."""

    wire: Wire
    ends: tuple[End, End]
    kind: str
    family: int
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def near(self) -> End:
        return self.ends[0]

    @property
    def far(self) -> End:
        return self.ends[1]

    def install(
        self,
        suite: str = "aes128gcm16",
        *,
        transport: bool = True,
        udp: bool = True,
        family: int | None = None,
        only: tuple[int, ...] = (0, 1),
        **options: Any,
    ) -> tuple[int, int]:
        """
        A pair of SAs, one for each direction (*only*: those that these ends send by); the SPIs by which near and far receive.

        *options*: of both halves alike (esn, sequence, limits).
        """
        spis = (self.near.tunnel.reserve_spi(), self.far.tunnel.reserve_spi())
        for side in only:
            self.receive(1 - side, spis[1 - side], suite, transport=transport, **options)
        for side in only:
            self.send(side, spis[1 - side], suite, transport=transport, udp=udp, family=family, **options)
        return spis

    def receive(self, side: int, spi: int, suite: str, *, transport: bool, **options: Any) -> None:
        """One end's inbound half of what the other sends by."""
        self.ends[side].tunnel.add_inbound(spi, transport=transport, **keys(suite, 1 - side), **options)

    def send(
        self, side: int, spi: int, suite: str, *, transport: bool, udp: bool = True, family: int | None = None, **options: Any
    ) -> None:
        """One end's outbound half."""
        addresses = ENDS[family or self.family]
        port = NATT if udp else 0
        self.ends[side].tunnel.set_outbound(
            spi,
            transport=transport,
            local=packed(addresses[side]),
            remote=packed(addresses[1 - side]),
            local_port=port,
            remote_port=port,
            **keys(suite, side),
            **options,
        )

    def remove(self, spis: tuple[int, int]) -> None:
        """The inbound halves of a pair."""
        for end, spi in zip(self.ends, spis, strict=True):
            end.tunnel.remove_inbound(spi)

    # -- applications inside

    def application(self, side: int, inner: int = 4, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """A socket in an end's namespace, bound to its inner address."""
        with inside(self.ends[side].space):
            made = socket.socket(socket.AF_INET6 if inner == 6 else socket.AF_INET, kind)
        self.sockets.append(made)
        made.settimeout(WITHIN_S)
        made.bind((INNER[inner][side], 0))
        return made

    def told(self) -> str:
        """For a test that fails."""
        return f"near {self.near.drops()}, far {self.far.drops()}, near {self.near.ports.counters()}"

    def echo(self, inner: int = 4, size: int = 200, times: int = 1) -> None:
        """Datagrams there and back, one after another."""
        left, right = self.application(0, inner), self.application(1, inner)
        for _ in range(times):
            data = os.urandom(size)
            left.sendto(data, right.getsockname())
            got, source = right.recvfrom(65536)
            assert got == data
            right.sendto(data[::-1], source)
            assert left.recv(65536) == data[::-1]
        left.close()
        right.close()

    def stream(self, inner: int = 4, size: int = 400_000) -> None:
        """A TCP connection that carries *size* bytes from near to far."""
        listener = self.application(1, inner, socket.SOCK_STREAM)
        listener.listen(1)
        data = os.urandom(1 << 16) * (size // (1 << 16) + 1)
        got = bytearray()

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(WITHIN_S)
                while piece := accepted.recv(1 << 20):
                    got.extend(piece)

        server = threading.Thread(target=serve)
        server.start()
        client = self.application(0, inner, socket.SOCK_STREAM)
        client.connect(listener.getsockname())
        client.sendall(data[:size])
        client.close()
        server.join(WITHIN_S)
        listener.close()
        assert bytes(got) == data[:size], f"{len(got)} of {size}; {self.told()}"


def configure(space: Namespace, name: str, side: int, mtu: int) -> None:
    """The device's addresses, it up, and packets to them delivered."""
    space.write_proc(f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode", "1")
    for inner, length in ((4, 24), (6, 64)):
        space.ip("address", "add", f"{INNER[inner][side]}/{length}", "dev", name, *(("nodad",) if inner == 6 else ()))
    space.ip("link", "set", name, "up", "mtu", str(mtu))
    space.settled(name)


@contextmanager
def paired(wire: Wire, kind: str = "gre", *, family: int = 4, mtu: int = 1300, **options: Any) -> Iterator[Pair]:
    """A protected tunnel between the two namespaces, both ends up, without SAs."""
    with ExitStack() as stack:
        ends: list[End] = []
        for side, space in enumerate((wire.near, wire.far)):
            engine = native.Engine()
            stack.callback(engine.close)
            name = "e" + os.urandom(5).hex()
            local, remote = packed(ENDS[family][side]), packed(ENDS[family][1 - side])
            with inside(space):
                ports = engine.ike()
                tunnel = engine.plain(name, kind=kind, local=local, remote=remote, mtu=mtu, protected=True, **options)
                tunnel.up()
            configure(space, name, side, mtu)
            ends.append(End(space, engine, ports, tunnel, side))
        made = Pair(wire, (ends[0], ends[1]), kind, family)
        wire.flush()
        try:
            yield made
        finally:
            for opened in made.sockets:
                opened.close()


# ---------------------------------------------------------------- packets of this test's own


def sealed(
    spi: int, number: int, payload: bytes, next_header: int, *, direction: int, esn: bool = False, padding: bytes | None = None
) -> bytes:
    """An ESP packet under aes128gcm16, as the end of that *direction* sends it (RFC 4106)."""
    key, _ = raw_keys("aes128gcm16", direction)
    if padding is None:
        padding = bytes(range(1, 1 + -(len(payload) + 2) % 4))
    text = payload + padding + bytes((len(padding), next_header))
    header = struct.pack("!II", spi, number & 0xFFFFFFFF)
    associated = struct.pack("!IQ", spi, number) if esn else header
    iv = struct.pack("!Q", number)
    return header + iv + AESGCM(key[:16]).encrypt(key[16:] + iv, text, associated)


def opened(packet: bytes, *, direction: int, esn_high: int | None = None) -> tuple[int, int, bytes, int]:
    """SPI, low number, payload and next header of an ESP packet under aes128gcm16."""
    key, _ = raw_keys("aes128gcm16", direction)
    spi, low = struct.unpack_from("!II", packet)
    associated = packet[:8] if esn_high is None else struct.pack("!III", spi, esn_high, low)
    text = AESGCM(key[:16]).decrypt(key[16:] + packet[8:16], packet[16:], associated)
    length, next_header = text[-2:]
    assert text[-2 - length : -2] == bytes(range(1, length + 1))
    return spi, low, text[: -2 - length], next_header
