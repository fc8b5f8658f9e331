"""
Many plain tunnels, and much at once: a thousand of them in one process, traffic while tunnels come and go, nothing left behind.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ginnel import _native as native
from namespaces import fresh_net, wait_until
from native.plain_rig import FAR, NEAR, OUR, PEER, PORT, Gre, Wire, gre, ip4, joined, packed, plain, udp
from native.rig import WITHIN_S, inside

MANY = 1000
#: The issue's own bounds for a thousand tunnels.
UP_WITHIN_S = 3.0
RESIDENT_MIB = 100
CHURN_S = 3.0
#: Events about packets that wait at most.
MAX_QUEUED = 4096


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """One pair of namespaces for all tests here."""
    with fresh_net() as net, joined(net) as made:
        yield made


def resident_mib() -> float:
    """This process's memory."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


def make(engine: Any, key: int) -> Any:
    """One tunnel of many between the same ends."""
    return engine.plain(f"m{key}", kind="gre", local=packed(NEAR), remote=packed(FAR), ikey=key, okey=key)


def test_a_thousand_tunnels_are_made_and_each_carries(wire: Wire) -> None:
    fds, before = descriptors(), resident_mib()
    engine = native.Engine()
    try:
        started = time.monotonic()
        with inside(wire.near):
            tunnels = [make(engine, key) for key in range(MANY)]
            for tunnel in tunnels:
                tunnel.up()
        took_s = time.monotonic() - started
        # Two threads, one socket to send and one to receive by, however many tunnels.
        assert descriptors() - fds < MANY + 12
        assert engine.carrier().sockets == {"gre over IPv4": "on"}
        # A packet out of each and one into each, in any order.
        order = sorted(range(MANY), key=lambda key: key * 7919 % MANY)
        wire.flush()
        for key in order:
            tunnels[key].send_control(0x0800, struct.pack("!I", key))
        seen = []
        for _ in order:
            header = Gre.parse(wire.receive().payload)
            assert header.key == struct.unpack("!I", header.payload)[0]
            seen.append(header.key)
        assert seen == order
        for key in order:
            wire.send(gre_packet(key))
        wait_until(lambda: sum(tunnel.counters().last_receive_ns > 0 for tunnel in tunnels) == MANY, WITHIN_S, "one into each")
        # The devices are down, so each packet that found its tunnel ended there.
        assert all(tunnel.drops()["device_write"] == 1 for tunnel in tunnels)
        assert resident_mib() - before < RESIDENT_MIB
        assert took_s < UP_WITHIN_S
    finally:
        started = time.monotonic()
        engine.close()
        closed_s = time.monotonic() - started
    # The engine's own eventfds and epolls go with its last handle.
    assert descriptors() <= fds + 6
    assert closed_s < 2 * UP_WITHIN_S


def gre_packet(key: int) -> bytes:
    """What the peer of that tunnel sends."""
    return ip4(gre(udp(b"in", source=PEER, destination=OUR), key=key), source=FAR, destination=NEAR, protocol=47)


def test_nothing_stays_open_when_tunnels_come_and_go(wire: Wire) -> None:
    """A thousand times open, up, close, of every sort of underlay."""
    engine = native.Engine()
    sorts: list[dict[str, Any]] = [
        {"kind": "gre"},
        {"kind": "gretap"},
        {"kind": "ipip"},
        {"kind": "gre", "udp": (PORT, PORT, PORT)},
        {"kind": "gre", "udp": (PORT, 0, PORT)},
    ]
    ends = {"local": packed(NEAR), "remote": packed(FAR)}
    try:
        make(engine, 1).close()
        fds = descriptors()
        threads = threading.active_count()
        failures: list[BaseException] = []

        def churn(number: int) -> None:
            try:
                with inside(wire.near):
                    for turn in range(40):
                        sort = sorts[(number + turn) % len(sorts)]
                        keys = {} if sort["kind"] == "ipip" else {"ikey": number, "okey": number}
                        with contextlib.suppress(FileExistsError):
                            tunnel = engine.plain(f"c{number}", **sort, **ends, **keys)
                            tunnel.up()
                            tunnel.close()
            except BaseException as error:  # noqa: BLE001 - told by the test's own thread
                failures.append(error)

        workers = [threading.Thread(target=churn, args=(number,)) for number in range(25)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not failures
        assert descriptors() == fds
        assert threading.active_count() == threads
        assert engine.carrier().sockets == {}
    finally:
        engine.close()


def test_tunnels_come_and_go_while_traffic_runs(wire: Wire) -> None:
    """One tunnel carries both ways and in order, while others with the same sockets are made, used and closed."""
    with plain(wire, ikey=9999, okey=9999) as made:
        stop = threading.Event()
        failures: list[BaseException] = []

        def churn() -> None:
            try:
                key = 0
                while not stop.is_set():
                    key += 1
                    with inside(wire.near):
                        other = make(made.engine, key)
                        other.up()
                    other.send_control(0x0800, b"x" * 100)
                    other.set_ends(packed(NEAR), packed("192.0.2.7"))
                    other.down()
                    other.close()
            except BaseException as error:  # noqa: BLE001 - told by the test's own thread
                failures.append(error)

        worker = threading.Thread(target=churn)
        worker.start()
        try:
            application = made.application(OUR, 7001)
            deadline = time.monotonic() + CHURN_S
            number = 0
            while time.monotonic() < deadline:
                for _ in range(16):
                    made.deliver(gre(udp(struct.pack("!I", number), source=PEER, destination=OUR), key=9999))
                    number += 1
                for expected in range(number - 16, number):
                    assert struct.unpack("!I", application.recv(100))[0] == expected
                application.sendto(b"out", (PEER, 7000))
        finally:
            stop.set()
            worker.join()
        assert not failures
        assert made.all_drops() == {}
        assert number > 100


def test_closing_while_packets_wait_on_both_sides(wire: Wire) -> None:
    """Each tunnel is closed in the middle of its traffic; the threads outlive them all."""
    stop = threading.Event()
    engine = native.Engine()
    failures: list[BaseException] = []

    def flood() -> None:
        try:
            while not stop.is_set():
                for key in range(4):
                    with contextlib.suppress(BlockingIOError, OSError):
                        wire.send(gre_packet(key))
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            failures.append(error)

    worker = threading.Thread(target=flood)
    worker.start()
    try:
        for _ in range(10):
            with inside(wire.near):
                tunnels = [make(engine, key) for key in range(4)]
                for tunnel in tunnels:
                    tunnel.up()
            for key, tunnel in enumerate(tunnels):
                wire.near.ip("link", "set", f"m{key}", "up")
                for _ in range(50):
                    tunnel.send_control(0x0800, bytes(1000))
            for tunnel in tunnels:
                tunnel.close()
        assert not [event for event in engine.drain(10_000) if isinstance(event, native.DeviceGone)]
    finally:
        stop.set()
        worker.join()
        engine.close()
    assert not failures


def test_what_waits_to_be_told_is_bounded(wire: Wire) -> None:
    """Nobody drains: the queue of events stops growing, and says so in the counters of the tunnels."""
    engine = native.Engine()
    try:
        count = 120
        with inside(wire.near):
            tunnels = [make(engine, key) for key in range(count)]
            for tunnel in tunnels:
                tunnel.up()
        for key in range(count):
            keepalive = ip4(gre(b"", 0, key=key), source=FAR, destination=NEAR, protocol=47)
            for _ in range(60):
                wire.send(keepalive)
        limited = count * 60 - MAX_QUEUED

        def counted() -> bool:
            return sum(tunnel.drops()["control_limited"] for tunnel in tunnels) >= limited - engine.carrier().at_socket

        wait_until(counted, WITHIN_S, "all beyond the bound counted")
        told = 0
        while batch := engine.drain(1024):
            told += sum(isinstance(event, native.ControlReceived) for event in batch)
        assert 0 < told <= MAX_QUEUED
    finally:
        engine.close()


def test_a_forked_child_closes_nothing(wire: Wire) -> None:
    with plain(wire) as made:
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                made.tunnel.close()
                made.engine.close()
            os._exit(0)
        os.waitpid(child, 0)
        application = made.application(OUR, 7001)
        made.deliver(gre(udp(b"in", source=PEER, destination=OUR)))
        assert application.recv(10) == b"in"


def test_a_stuck_neighbour_does_not_stop_the_others(wire: Wire) -> None:
    """A tunnel whose packets cannot leave (its far end has no link address) does not hold up the rest for long."""
    with plain(wire, ikey=1, okey=1) as made:
        with inside(wire.near):
            stuck = made.engine.plain("stuck", kind="gre", local=packed(NEAR), remote=packed("192.0.2.99"), ikey=2, okey=2)
            stuck.up()
        for _ in range(500):
            stuck.send_control(0x0800, bytes(1200))
        application = made.application(OUR, 7001)
        application.sendto(b"x", (PEER, 7000))
        assert made.receive_gre(1.0)[1].payload.endswith(b"x")


def test_a_flood_in_one_tunnel_leaves_the_next_its_turn(wire: Wire) -> None:
    with plain(wire, ikey=1, okey=1) as made:
        with inside(wire.near):
            other = made.engine.plain("quiet", kind="gre", local=packed(NEAR), remote=packed(FAR), ikey=2, okey=2)
            other.up()
        wire.near.write_proc("/proc/sys/net/ipv6/conf/quiet/disable_ipv6", "1")
        wire.near.ip("address", "add", "10.8.0.1/24", "dev", "quiet")
        wire.near.ip("link", "set", "quiet", "up")
        stop = threading.Event()
        application = made.application(OUR)

        def flood() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    application.sendto(bytes(1000), (PEER, 9))

        worker = threading.Thread(target=flood)
        worker.start()
        try:
            wait_until(lambda: made.tunnel.counters().tx_packets > 1000, WITHIN_S, "the flood")
            with inside(wire.near):
                quiet = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with quiet:
                for number in range(1, 21):
                    quiet.sendto(b"x", ("10.8.0.2", 9))
                    wait_until(lambda n=number: other.counters().tx_packets == n, WITHIN_S, "a packet of the quiet tunnel")
        finally:
            stop.set()
            worker.join()
        assert {reason: count for reason, count in other.drops().items() if count} == {}


def test_a_socket_of_an_application_is_not_ours(wire: Wire) -> None:
    """Another program's raw socket for GRE gets its copies while ours reads."""
    with inside(wire.near):
        other = socket.socket(socket.AF_INET, socket.SOCK_RAW, 47)
    with other, plain(wire) as made:
        other.settimeout(WITHIN_S)
        application = made.application(OUR, 7001)
        made.deliver(gre(udp(b"both", source=PEER, destination=OUR)))
        assert application.recv(10) == b"both"
        assert other.recv(2000).endswith(b"both")
