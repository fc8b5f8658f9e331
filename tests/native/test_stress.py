"""
Everything at once: traffic both ways while peers come and go, sessions are installed, expired and zeroed, the interface goes
down and up and changes its port, and somebody reads all counters.

What must hold, whatever the order of events: no (session, counter) leaves twice; nothing is delivered twice; every packet
that the device gave is on the wire or counted under one reason; counters never go back; no thread dies; and afterwards the
tunnel simply works.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from ginnel import _native as native
from namespaces import Net, wait_until
from native.rig import HEADER, OUR_ADDRESS, PEER_ADDRESS, WITHIN_S, Rig, inside, prefix, rig, udp4

SO_RCVBUFFORCE = 33
DURATION_S = 8.0
KEEPALIVE_SIZE = 32
#: Reasons for packets that came from the device.
OUTWARD = (
    "not_ip", "no_peer", "no_endpoint", "looped", "malformed", "staged_overflow", "staged_purged", "down", "send_failed",
    "counter_limit",
)  # fmt: skip


@pytest.fixture
def one(net: Net) -> Iterator[Rig]:
    """A tunnel that is up, and its peer, whose socket loses nothing."""
    with rig(net.namespace("s")) as made:
        made.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        yield made


@dataclass
class Wire:
    """Reads all that the engine sends, to whichever peer: they share one socket and differ by their remote index."""

    socket: socket.socket
    seen: set[tuple[int, int]] = field(default_factory=set)
    twice: list[tuple[int, int]] = field(default_factory=list)
    data: int = 0

    def read(self, datagram: bytes) -> None:
        """One datagram of the engine."""
        kind, index, counter = HEADER.unpack_from(datagram)
        if kind != 4:
            return
        if (index, counter) in self.seen:
            self.twice.append((index, counter))
        self.seen.add((index, counter))
        self.data += len(datagram) > KEEPALIVE_SIZE

    def run(self, ended: threading.Event) -> None:
        """Until told, and then until nothing more comes."""
        self.socket.settimeout(0.3)
        while True:
            try:
                self.read(self.socket.recv(2048))
            except TimeoutError:
                if ended.is_set():
                    return


class Keys:
    """Session keys that the test can derive again; every session has its own."""

    def __init__(self) -> None:
        self.count = 0

    def next(self) -> int:
        """The number of the next session, also its remote index."""
        self.count += 1
        return self.count

    @staticmethod
    def secret(number: int, direction: bytes) -> native.Secret:
        """A key of the session of that number."""
        return native.Secret.from_bytes(native.blake2s(direction, struct.pack("<I", number)))


@dataclass
class Chaos:
    """The control plane gone mad, one step at a time; reproducible but for the threads."""

    made: Rig
    keys: Keys
    draw: random.Random
    #: Local index and number of the lasting peer's newest session.
    current: tuple[int, int] = (0, 0)
    others: list[int] = field(default_factory=list)

    def install(self, peer: int, *, initiator: bool) -> tuple[int, int]:
        """A session with keys of its own."""
        number = self.keys.next()
        index = self.made.tunnel.reserve_index(peer)
        send, receive = Keys.secret(number, b"out"), Keys.secret(number, b"in")
        self.made.tunnel.install_session(peer, index, number, send, receive, initiator)
        return index, number

    def add(self) -> None:
        """A peer that takes a part of the addresses."""
        tunnel = self.made.tunnel
        peer = tunnel.add_peer(os.urandom(32))
        self.others.append(peer)
        tunnel.set_allowed_ips(peer, [prefix(f"10.9.0.{self.draw.randrange(3, 20)}", 32)], False)
        if self.draw.random() < 0.8:
            tunnel.set_endpoint(peer, socket.inet_aton("127.0.0.1"), self.made.socket.getsockname()[1])
        tunnel.set_keepalive(peer, self.draw.randrange(2))
        if self.draw.random() < 0.8:
            self.install(peer, initiator=self.draw.random() < 0.7)

    def remove(self) -> None:
        """One of them goes."""
        if self.others:
            self.made.tunnel.remove_peer(self.others.pop(self.draw.randrange(len(self.others))))

    def down_and_up(self) -> None:
        """And the lasting peer has no session until the next one."""
        self.made.tunnel.down()
        with inside(self.made.space):
            self.made.tunnel.up()

    def port(self) -> None:
        """Another port; the sessions live on."""
        with inside(self.made.space), contextlib.suppress(OSError):
            self.made.tunnel.set_listen_port(self.draw.randrange(20_000, 60_000))

    def renew(self) -> None:
        """The lasting peer gets a session, as either side."""
        self.current = self.install(self.made.peer, initiator=self.draw.random() < 0.7)

    def small(self) -> None:
        """What costs nothing."""
        tunnel, peer = self.made.tunnel, self.made.peer
        steps: list[Callable[[], object]] = [
            lambda: tunnel.expire_session(peer),
            lambda: tunnel.zero_sessions(peer),
            lambda: tunnel.flush(peer),
            lambda: tunnel.attempt_over(peer, self.draw.random() < 0.2),
            tunnel.clear_sources,
            lambda: tunnel.stop_keepalive_timer(peer),
            lambda: tunnel.set_mtu(self.draw.choice((1280, 1420))),
            lambda: tunnel.set_keepalive(peer, self.draw.randrange(3)),
            lambda: tunnel.send_handshake(peer, b"\x01\0\0\0" + bytes(144)),
            lambda: tunnel.release_index(tunnel.reserve_index(peer)),
            lambda: tunnel.set_endpoint(peer, socket.inet_aton("127.0.0.1"), self.made.socket.getsockname()[1]),
        ]
        self.draw.choice(steps)()

    def step(self) -> None:
        """One thing, mostly a session, so that traffic flows."""
        kinds = {self.renew: 10, self.small: 6, self.add: 4, self.remove: 4, self.port: 1, self.down_and_up: 1}
        self.draw.choices(list(kinds), list(kinds.values()))[0]()


def send_out(made: Rig, ended: threading.Event) -> None:
    """An application's packets to the lasting peer and to others, known or not."""
    sender = made.udp_socket(OUR_ADDRESS)
    turn = 0
    while not ended.is_set():
        for _ in range(20):
            turn += 1
            sender.sendto(bytes(turn % 1300), (PEER_ADDRESS if turn % 3 else f"10.9.0.{3 + turn % 17}", 9))
        time.sleep(0.002)  # a pace, so that the peer's socket holds all


def send_in(made: Rig, chaos: Chaos, ended: threading.Event) -> None:
    """The peer's packets: each a number, each sent twice; and forged ones, and strangers'."""
    session, counter, number = (0, 0), 0, 0
    while not ended.is_set():
        for _ in range(10):
            if session != chaos.current:
                session, counter = chaos.current, 0
            number += 1
            packet = udp4(struct.pack("<Q", number), source=PEER_ADDRESS, destination=OUR_ADDRESS)
            packet += bytes(-len(packet) % 16)
            sealed = native.aead_seal(Keys.secret(session[1], b"in"), counter, packet, b"")
            datagram = HEADER.pack(4, session[0], counter) + sealed
            counter += 1
            to = ("127.0.0.1", made.tunnel.listen_port)
            for message in (datagram, datagram[:-1] + b"\0", datagram, os.urandom(4) + datagram[4:]):
                with contextlib.suppress(OSError):
                    made.socket.sendto(message, to)
        time.sleep(0.002)


def receive_in(application: socket.socket, ended: threading.Event, numbers: list[int]) -> None:
    """What is delivered."""
    application.settimeout(0.3)
    while True:
        try:
            numbers.append(struct.unpack("<Q", application.recv(2048))[0])
        except TimeoutError:
            if ended.is_set():
                return


def watch(made: Rig, ended: threading.Event, wrong: list[str]) -> None:
    """Reads everything, over and over: the lasting peer's counters only grow, and no thread dies."""
    last = (0, 0, 0, 0)
    while not ended.is_set():
        mine = next(counters for counters in made.tunnel.counters() if counters.peer == made.peer)
        now = (mine.rx_bytes, mine.tx_bytes, mine.rx_packets, mine.tx_packets)
        if any(new < old for new, old in zip(now, last, strict=True)):
            wrong.append(f"{last} went back to {now}")
        last = now
        made.tunnel.drops()
        made.tunnel.offloads()
        wrong.extend(event.reason for event in made.engine.drain() if isinstance(event, native.DeviceGone))


def given_by_device(made: Rig) -> int:
    """Packets that the engine has read."""
    packets: int = made.space.ip_json("-statistics", "link", "show", made.tunnel.name)[0]["stats64"]["tx"]["packets"]
    return packets


def test_everything_at_once(one: Rig) -> None:
    """See above."""
    seed = int.from_bytes(os.urandom(4))
    chaos = Chaos(one, Keys(), random.Random(seed))
    wire = Wire(one.socket)
    application = one.udp_socket(OUR_ADDRESS, 7001)
    application.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    ended, drained = threading.Event(), threading.Event()
    delivered: list[int] = []
    wrong: list[str] = []
    chaos.renew()
    traffic = [
        threading.Thread(target=send_out, args=(one, ended)),
        threading.Thread(target=send_out, args=(one, ended)),
        threading.Thread(target=send_in, args=(one, chaos, ended)),
        threading.Thread(target=watch, args=(one, ended, wrong)),
    ]
    readers = [
        threading.Thread(target=wire.run, args=(drained,)),
        threading.Thread(target=receive_in, args=(application, drained, delivered)),
    ]
    for thread in (*traffic, *readers):
        thread.start()
    try:
        until = time.monotonic() + DURATION_S
        while time.monotonic() < until:
            chaos.step()
            time.sleep(chaos.draw.random() * 0.01)
    finally:
        ended.set()
        for thread in traffic:
            thread.join()
        # What the threads of the engine still hold: until the device gives no more, and the staged ones have been let go.
        with contextlib.suppress(AssertionError):
            wait_until(lambda: settled(one), WITHIN_S, "settled")
        drained.set()
        for thread in readers:
            thread.join()
    assert not wrong, seed
    assert not wire.twice, seed
    assert len(delivered) == len(set(delivered)), seed
    assert len(delivered) > 100, seed
    assert wire.data > 1000, seed
    drops = one.tunnel.drops()
    counted = wire.data + sum(drops[reason] for reason in OUTWARD)
    assert counted == given_by_device(one), (seed, wire.data, drops)
    works_again(one, chaos)


def settled(made: Rig) -> bool:
    """Nothing waits any more."""
    for counters in made.tunnel.counters():
        made.tunnel.attempt_over(counters.peer, True)
    before = given_by_device(made), made.tunnel.drops()
    time.sleep(0.1)
    return before == (given_by_device(made), made.tunnel.drops())


def works_again(made: Rig, chaos: Chaos) -> None:
    """One packet each way under a new session."""
    tunnel = made.tunnel
    for peer in chaos.others:
        tunnel.remove_peer(peer)
    assert [counters.peer for counters in tunnel.counters()] == [made.peer]
    tunnel.set_keepalive(made.peer, 0)
    tunnel.set_endpoint(made.peer, socket.inet_aton("127.0.0.1"), made.socket.getsockname()[1])
    index, number = chaos.install(made.peer, initiator=True)
    made.socket.settimeout(WITHIN_S)
    while HEADER.unpack_from(datagram := made.socket.recv(2048))[:2] != (4, number):
        pass
    assert native.aead_open(Keys.secret(number, b"out"), 0, datagram[HEADER.size :], b"") == b""
    application = made.udp_socket(OUR_ADDRESS, 7002)
    application.sendto(b"after all", (PEER_ADDRESS, 9))
    datagram = made.socket.recv(2048)
    assert native.aead_open(Keys.secret(number, b"out"), 1, datagram[HEADER.size :], b"")[28:37] == b"after all"
    packet = udp4(b"and back", source=PEER_ADDRESS, destination=OUR_ADDRESS, dport=7002)
    made.send(HEADER.pack(4, index, 0) + native.aead_seal(Keys.secret(number, b"in"), 0, packet, b""))
    assert application.recv(100) == b"and back"
