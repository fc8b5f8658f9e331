"""
Protected tunnels under traffic: SAs replaced a thousand times, tunnels and engines closed, floods of junk.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from ginnel import _native as native
from namespaces import fresh_net, wait_until
from native.esp_rig import NATT, Pair, key_sizes, paired
from native.plain_rig import FAR, NEAR, Wire, ip4, joined, udp
from native.rig import WITHIN_S, inside

SO_RCVBUFFORCE = 33
#: Sent and not yet received: less than any queue on the way takes.
IN_FLIGHT = 200
SWAPS = 1000


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Two namespaces that all tests of this file share."""
    with fresh_net() as net, joined(net) as made:
        yield made


@dataclass
class Traffic:
    """Numbered datagrams from near to far, as fast as they are taken."""

    pair: Pair
    sent: int = 0
    received: list[int] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    all_sent: threading.Event = field(default_factory=threading.Event)

    def send(self, source: socket.socket, target: tuple[str, int]) -> None:
        while not self.over.is_set():
            if self.sent - len(self.received) < IN_FLIGHT:
                source.sendto(struct.pack("!I", self.sent) + bytes(60), target)
                self.sent += 1
            else:
                # Woken by nothing: the other thread is given its turn.
                self.over.wait(0.0005)
        self.all_sent.set()

    def receive(self, sink: socket.socket) -> None:
        while not self.all_sent.is_set() or len(self.received) < self.sent:
            try:
                self.received.append(struct.unpack_from("!I", sink.recv(2000))[0])
            except TimeoutError:
                if self.over.is_set():
                    return


def soon(predicate: Callable[[], bool], pair: Pair) -> None:
    """Polls faster than `wait_until`: what is waited for a thousand times takes some microseconds."""
    deadline = time.monotonic() + WITHIN_S
    while not predicate():
        assert time.monotonic() < deadline, pair.told()
        time.sleep(0.0002)


@contextmanager
def traffic(pair: Pair, patience_s: float = 1) -> Iterator[Traffic]:
    """While it runs, and until everything has come or is lost."""
    source, sink = pair.application(0), pair.application(1)
    sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    sink.settimeout(patience_s)
    made = Traffic(pair)
    threads = [
        threading.Thread(target=made.send, args=(source, sink.getsockname())),
        threading.Thread(target=made.receive, args=(sink,)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made.over.set()
        for thread in threads:
            thread.join(30)


@pytest.mark.parametrize("udp_", [True, False])
def test_a_thousand_rekeyings_under_traffic_lose_nothing(wire: Wire, udp_: bool) -> None:
    """Make before break: receive by the new SA, send by it, and let go of the old one when the new one was heard."""
    suites = ["aes128gcm16", "chacha20poly1305", "aes256-sha256"]
    with paired(wire) as pair:
        old: deque[tuple[int, int]] = deque([pair.install(udp=udp_)])
        with traffic(pair) as made:
            for swap in range(SWAPS):
                suite = suites[swap % len(suites)]
                spis = pair.install(suite, transport=swap % 2 == 0, udp=udp_)
                old.append(spis)
                soon(lambda spi=spis[1]: pair.far.sa(spi).packets > 0, pair)
                pair.remove(old.popleft())
                if swap % 100 == 0:
                    # So that the queue of events stays short, as a control plane keeps it.
                    pair.far.seen(native.SaUsed)
        assert made.sent > SWAPS
        assert made.received == list(range(made.sent)), f"{len(made.received)} of {made.sent}; {pair.told()}"
        assert pair.far.drops().keys() <= {"no_sa"}
        # (The very first may have had no packet.)
        assert len(pair.far.seen(native.SaUsed)) in (SWAPS, SWAPS + 1)
        pair.echo()


def test_another_path_under_traffic_loses_nothing(wire: Wire) -> None:
    with paired(wire) as pair:
        pair.install()
        near, far = socket.inet_aton(NEAR), socket.inet_aton(FAR)
        with traffic(pair) as made:
            for swap in range(400):
                before = len(made.received)
                port = NATT if swap % 2 else 0
                pair.near.tunnel.set_outbound_path(near, far, port, port)
                soon(lambda least=before: len(made.received) > least, pair)
        # Two sockets at the far end: between them order is not kept, and nothing is lost.
        assert sorted(made.received) == list(range(made.sent))


def test_tunnels_and_engines_are_closed_under_traffic(wire: Wire) -> None:
    for what in range(8):
        with paired(wire) as pair:
            pair.install()
            with traffic(pair, patience_s=0.1) as made:
                soon(lambda m=made: len(m.received) > 100, pair)
                closed = (
                    pair.far.tunnel.close,
                    pair.far.ports.close,
                    pair.far.engine.close,
                    pair.near.ports.close,
                    pair.near.tunnel.clear_outbound,
                    pair.far.tunnel.down,
                    lambda p=pair: [p.far.tunnel.remove_inbound(sa.spi) for sa in p.far.tunnel.associations()],
                    pair.near.tunnel.down,
                )[what]
                closed()
                made.over.set()


def test_floods_of_junk_do_not_stop_traffic(wire: Wire) -> None:
    """Unknown SPIs, wrong checksums, damaged packets, by both ways: dropped, counted, and what is genuine goes on."""
    with paired(wire) as pair:
        pair.install(only=(1,))
        spi = pair.far.tunnel.reserve_spi()
        pair.receive(1, spi, "aes128gcm16", transport=True)
        pair.send(0, spi, "aes128gcm16", transport=True)
        over = threading.Event()

        def flood() -> None:
            number = 0
            while not over.is_set():
                number += 1
                for known in (spi, 0x7000_0000 + number):
                    junk = struct.pack("!II", known, 0x4000_0000 + number) + os.urandom(8 + 4 * (number % 300) + 16)
                    for packet in (
                        udp(junk, source="192.0.2.9", destination=FAR, sport=NATT, dport=NATT),
                        ip4(junk, source="192.0.2.9", destination=FAR, protocol=50),
                        udp(os.urandom(number % 40), source="192.0.2.9", destination=FAR, sport=NATT, dport=NATT),
                    ):
                        flooding.sendto(packet, (FAR, 0))

        with inside(wire.near):
            flooding = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            with traffic(pair) as made:
                wait_until(lambda: len(made.received) > 3000 and pair.far.tunnel.drops()["bad_icv"] > 100, 30, pair.told())
        finally:
            over.set()
            thread.join(10)
            flooding.close()
        # A burst may fill a socket's buffer, which is counted there; nothing else is lost.
        lost = made.sent - len(made.received)
        assert lost <= pair.far.ports.counters()["at_socket"], pair.told()
        assert made.received == sorted(made.received)
        assert pair.far.ports.counters()["unknown_spi"] > 100
        # A thousand strangers, ten a second at most (and this source once).
        assert len(pair.far.seen(native.UnknownSpi)) <= 2
        assert pair.far.seen(native.SaMoved) == []


def test_many_tunnels_find_their_own_by_spi_alone(wire: Wire) -> None:
    """Between the same two addresses, as behind one NAT."""
    count = 20
    with paired(wire) as pair:
        tunnels = []
        for _ in range(count):
            name = "m" + os.urandom(5).hex()
            with inside(wire.near):
                tunnel = pair.near.engine.plain(
                    name, kind="gre", local=socket.inet_aton(NEAR), remote=socket.inet_aton(FAR), mtu=1300, protected=True
                )
                tunnel.up()
            spi = tunnel.reserve_spi()
            key, integrity = key_sizes("aes128gcm16")
            raw = os.urandom(key)
            tunnel.add_inbound(
                spi,
                suite="aes128gcm16",
                key=native.KeyMaterial.from_bytes(raw),
                integrity=native.KeyMaterial.from_bytes(bytes(integrity)),
                transport=True,
            )
            tunnels.append((tunnel, spi, raw))
        for tunnel, spi, raw in tunnels:
            pair.far.tunnel.set_outbound(
                spi,
                suite="aes128gcm16",
                key=native.KeyMaterial.from_bytes(raw),
                integrity=native.KeyMaterial.from_bytes(b""),
                transport=True,
                local=socket.inet_aton(FAR),
                remote=socket.inet_aton(NEAR),
                local_port=NATT,
                remote_port=NATT,
            )
            for _ in range(3):
                pair.far.tunnel.send_control(0x0800, udp(b"x" * 40, source="10.8.0.1", destination="10.8.0.2"))
            wait_until(lambda t=tunnel: t.counters().rx_packets == 3, WITHIN_S, str(tunnel.drops()))
        assert [tunnel.counters().rx_packets for tunnel, _, _ in tunnels] == [3] * count
