"""The native relay between two namespaces: what it does to real packets."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Thread
from typing import Any

import pytest

from ginnel.engine import Relay
from ginnel.lab import offload
from ginnel.lab.namespaces import Held, Namespaces
from ginnel.lab.probe import Pinger
from namespaces import wait_until

CANARY = b"relay test"
#: rust/relay/src/path.rs, each way; and what neighbours say meanwhile.
MAX_FRAMES = 8192 + 16


@dataclass(slots=True)
class Relayed:
    """left -- relay -- right, 192.0.2.1 and 192.0.2.2 (2001:db8::1 and ::2)."""

    left: Held
    right: Held
    middle: Held
    relay: Relay

    def count(self, name: str) -> int:
        return int(self.relay.counters()[name])

    def receiver(self, port: int = 9000) -> socket.socket:
        def make() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            sock.bind(("192.0.2.2", port))
            sock.settimeout(5)
            return sock

        return self.right.inside(make)

    def sender(self) -> socket.socket:
        return self.left.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


def make(seed: int = 1) -> Iterator[Relayed]:
    with Namespaces("test") as spaces:
        spaces.start({"left": "lan", "middle": "relay", "right": "lan"})
        left, middle, right = spaces["left"], spaces["middle"], spaces["right"]
        left.configure([f"link add eth type veth peer name left netns {middle.pid}"])
        right.configure([f"link add eth type veth peer name right netns {middle.pid}"])
        middle.configure(["link set left up", "link set right up"])
        for held, last in ((left, 1), (right, 2)):
            held.configure(
                ["link set eth up", f"addr add 192.0.2.{last}/24 dev eth", f"addr add 2001:db8::{last}/64 dev eth nodad"]
            )
            held.inside(lambda: offload.turn_off("eth"))
        relay = middle.inside(lambda: Relay("left", "right", seed=seed))
        with Pinger(left, 4, CANARY) as pinger:  # the neighbours are known from here on
            assert pinger.ping("192.0.2.2", 5, tries=1).ok
        try:
            yield Relayed(left, right, middle, relay)
        finally:
            relay.close()


@pytest.fixture
def relayed() -> Iterator[Relayed]:
    yield from make()


@pytest.mark.parametrize("version", [4, 6])
def test_without_faults_it_is_a_wire(relayed: Relayed, version: int) -> None:
    with Pinger(relayed.left, version, CANARY) as pinger:
        pong = pinger.ping("192.0.2.2" if version == 4 else "2001:db8::2", 5, 1500)
    assert pong.ok
    assert relayed.count("lost") == relayed.count("oversize") == 0


def test_tcp_passes_whole(relayed: Relayed) -> None:
    """Checksums are done and segments are frames: otherwise nothing of this arrives."""
    data = bytes(range(256)) * 8192
    got = b""
    with ExitStack() as stack:
        server = stack.enter_context(relayed.right.inside(lambda: socket.create_server(("192.0.2.2", 9000))))
        client = stack.enter_context(relayed.left.inside(lambda: socket.create_connection(("192.0.2.2", 9000), timeout=20)))
        connection, _ = server.accept()
        stack.enter_context(connection)
        connection.settimeout(20)

        def send() -> None:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        sending = Thread(target=send)
        sending.start()
        while piece := connection.recv(1 << 20):
            got += piece
        sending.join()
    assert got == data
    assert relayed.count("oversize") == relayed.count("send_failed") == 0


def test_delay(relayed: Relayed) -> None:
    with Pinger(relayed.left, 4, CANARY) as pinger:
        relayed.relay.configure(delay_ms=30)
        rtt_ms = pinger.ping("192.0.2.2", 5, tries=1).rtt_ms
    assert 60 <= rtt_ms < 160, "30 ms each way, and what a busy machine adds"


def settled(relayed: Relayed, count: int) -> bool:
    """Whether at least *count* frames came in, and every one of them has met its fate."""
    counters = relayed.relay.counters()
    gone = counters["lost"] + counters["blocked"] + counters["overflow"] + counters["oversize"]
    out = counters["sent"] + counters["send_failed"] - counters["duplicated"]
    return counters["received"] >= count and gone + out >= counters["received"]


def numbers(relayed: Relayed, count: int) -> list[int]:
    """Send *count* numbered datagrams and list those that arrive, in their order."""
    found = []
    with relayed.receiver() as receiver, relayed.sender() as sender:
        processors = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(processors)})  # a veth pair keeps the order of one processor only
        try:
            for number in range(count):
                sender.sendto(number.to_bytes(4, "big"), ("192.0.2.2", 9000))
        finally:
            os.sched_setaffinity(0, processors)
        wait_until(lambda: settled(relayed, count), 10, "every frame has met its fate")
        receiver.settimeout(0.3)
        try:
            while True:
                found.append(int.from_bytes(receiver.recv(16), "big"))
        except TimeoutError:
            return found


def test_loss_is_near_its_share_and_counted(relayed: Relayed) -> None:
    relayed.relay.configure(loss=0.2)
    arrived = numbers(relayed, 1000)
    assert 700 < len(arrived) < 900
    assert arrived == sorted(arrived)
    assert relayed.count("lost") == 1000 - len(arrived)


def test_the_same_seed_loses_the_same() -> None:
    runs = []
    for seed in (5, 5, 6):
        made = make(seed)
        relayed = next(made)
        relayed.relay.configure(loss=0.3)
        runs.append(numbers(relayed, 200))
        made.close()
    assert runs[0] == runs[1] != runs[2]


def test_reordering_overtakes_and_loses_nothing(relayed: Relayed) -> None:
    relayed.relay.configure(reorder=0.1)
    arrived = numbers(relayed, 500)
    assert sorted(arrived) == list(range(500))
    assert arrived != sorted(arrived)
    assert relayed.count("reordered") > 10


def test_duplicates(relayed: Relayed) -> None:
    relayed.relay.configure(duplicate=1.0)
    arrived = numbers(relayed, 100)
    assert arrived == [number for number in range(100) for _ in range(2)]


def test_blocked_ports_and_protocols(relayed: Relayed) -> None:
    relayed.relay.configure(blocked_udp_ports=[9000])
    assert numbers(relayed, 10) == []
    assert relayed.count("blocked") == 10
    with Pinger(relayed.left, 4, CANARY) as pinger:
        assert pinger.ping("192.0.2.2", 5).ok
        relayed.relay.configure(blocked_protocols=[1])
        assert not pinger.ping("192.0.2.2", 0.5).ok
    relayed.relay.configure()
    assert len(numbers(relayed, 10)) == 10


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [4, 41, 47])
def test_tunnels_without_ports_are_blocked_by_their_protocol(relayed: Relayed, version: int, protocol: int) -> None:
    family, source, target = (
        (socket.AF_INET, "192.0.2.1", "192.0.2.2") if version == 4 else (socket.AF_INET6, "2001:db8::1", "2001:db8::2")
    )
    with Pinger(relayed.left, version, CANARY) as pinger:
        assert pinger.ping(target, 5).ok
    with relayed.left.inside(lambda: socket.socket(family, socket.SOCK_RAW, protocol)) as sock:
        sock.bind((source, 0))
        sent = relayed.count("sent")
        sock.sendto(b"\0\0\x08\0" + bytes(20), (target, 0))
        wait_until(lambda: relayed.count("sent") > sent, 5, "it passes while nothing is blocked")
        relayed.relay.configure(blocked_protocols=[protocol])
        blocked = relayed.count("blocked")
        sock.sendto(b"\0\0\x08\0" + bytes(20), (target, 0))
        wait_until(lambda: relayed.count("blocked") > blocked, 5, "it is blocked")


@pytest.mark.parametrize(("version", "kind", "code"), [(4, 3, 4), (6, 2, 0)])
def test_too_big_can_be_blocked_while_pings_pass(relayed: Relayed, version: int, kind: int, code: int) -> None:
    family, protocol, target = (
        (socket.AF_INET, socket.IPPROTO_ICMP, "192.0.2.2")
        if version == 4
        else (socket.AF_INET6, socket.IPPROTO_ICMPV6, "2001:db8::2")
    )
    relayed.relay.configure(blocked_too_big=True)
    with relayed.left.inside(lambda: socket.socket(family, socket.SOCK_RAW, protocol)) as sock:
        sock.sendto(bytes([kind, code]) + bytes(34), (target, 0))
        wait_until(lambda: relayed.count("blocked") == 1, 5, "it is blocked")
    with Pinger(relayed.left, version, CANARY) as pinger:
        assert pinger.ping(target, 5).ok
    assert relayed.count("blocked") == 1


def test_an_mtu_is_a_black_hole(relayed: Relayed) -> None:
    relayed.relay.configure(mtu=1400)
    with Pinger(relayed.left, 4, CANARY) as pinger:
        assert pinger.ping("192.0.2.2", 5, 1400).ok
        assert pinger.ping("192.0.2.2", 0.5, 1401).said == "no answer"
    assert relayed.count("oversize") > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": 1.5},
        {"loss": -0.1},
        {"reorder": float("nan")},
        {"delay_ms": -1.0},
        {"delay_ms": 1e9},
        {"blocked_protocols": [256]},
    ],
)
def test_settings_that_make_no_sense(relayed: Relayed, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        relayed.relay.configure(**settings)


def test_an_interface_that_is_not_there_is_named() -> None:
    with pytest.raises(OSError, match="nothere") as caught:
        Relay("lo", "nothere")
    assert caught.value.filename == "nothere"


def test_closing_ends_its_thread_and_may_be_repeated(relayed: Relayed) -> None:
    relayed.relay.close()
    relayed.relay.close()
    with Pinger(relayed.left, 4, CANARY) as pinger:
        assert not pinger.ping("192.0.2.2", 0.5).ok


def test_its_process_says_what_is_wrong() -> None:
    with Namespaces("test") as spaces:
        spaces.start({"middle": "relay"})
        done = spaces["middle"].run([sys.executable, "-m", "ginnel.lab.relay", "lo", "nothere", "1", "{}"])
    assert done.returncode == 1
    assert "nothere" in done.stdout


def test_frames_in_flight_are_bounded(relayed: Relayed) -> None:
    relayed.relay.configure(delay_ms=10_000)
    with relayed.sender() as sender:
        deadline = time.monotonic() + 20
        while relayed.count("overflow") == 0 and time.monotonic() < deadline:
            for _ in range(500):
                sender.sendto(b"x", ("192.0.2.2", 9000))
    counters = relayed.relay.counters()
    assert counters["overflow"] > 0
    assert counters["received"] - counters["overflow"] - counters["sent"] <= MAX_FRAMES
