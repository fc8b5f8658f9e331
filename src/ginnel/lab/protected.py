"""
Protected origins, tried: by clients, by somebody who has found the origin, and without one of the edges.

    client      for each edge and IP version, a client on the internet connects to a protected address by that edge. The service
                says whom it sees (it must be the client), a page goes there and back (segments fit), and what the client hears
                came by the same edge, since the internet takes it from nowhere else
    found out   somebody sends to the protected address straight on the origin's own wire: silence
    own address somebody tries the origin's own address, and the service there: silence, where the file says so (only-edges), or
                a NAT sees to it; else what is found is told
    edge lost   with several edges: one of them is cut off; connections by another go on, new ones begin there, and what was by
                the lost one goes on by the other as soon as the internet routes it there

The service is as careless as most are: it listens on every address of its host.
"""

from __future__ import annotations

import errno
import ipaddress
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Self

from ginnel.config.node_host import addresses_in
from ginnel.errors import UsageError
from ginnel.lab import probe
from ginnel.lab.namespaces import Held
from ginnel.lab.outsiders import Outsider, way
from ginnel.lab.report import Finding, ProtectReport
from ginnel.lab.topology import INTERNET, Topology
from ginnel.lab.world import World
from ginnel.network import Network
from ginnel.network.model import Protect
from ginnel.units import Prefix

#: Where the service listens: a port that nothing else of a lab has.
PORT = 8443
DEADLINE_S = 6.0
#: How long silence is listened to.
SILENCE_S = 1.0
#: There and back; more than one segment, more than one window's beginning.
PAGE_BYTES = 40_000

_CUT = "ginnel-lab-cut"


class Service:
    """A TCP listener on every address of a namespace: it says who is calling, then sends back what it gets."""

    def __init__(self, held: Held) -> None:
        def make() -> socket.socket:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                sock.bind(("::", PORT))
                sock.listen(64)
            except BaseException:
                sock.close()
                raise
            return sock

        self._socket = held.inside(make)
        self._wake_read, self._wake_write = socket.socketpair()
        self._threads = [threading.Thread(target=self._work, name=f"service-{held.name}", daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._wake_write.close()
        for thread in self._threads:
            thread.join()
        self._wake_read.close()
        self._socket.close()

    def _work(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._wake_read], [], [])
            if self._wake_read in ready:
                return
            connection, caller = self._socket.accept()
            thread = threading.Thread(target=self._answer, args=(connection, str(caller[0])), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket, caller: str) -> None:
        seen = caller.removeprefix("::ffff:")
        with connection:
            connection.settimeout(DEADLINE_S)
            try:
                connection.sendall(f"{seen}\n".encode())
                while True:
                    if self._wake_read in select.select([connection, self._wake_read], [], [])[0]:
                        return
                    data = connection.recv(65536)
                    if not data:
                        return
                    connection.sendall(data)
            except OSError:
                pass  # who called notices


class Call:
    """A connection from an outsider to a protected address; a context manager."""

    def __init__(self, held: Held, source: str, target: str) -> None:
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        self._socket = held.inside(lambda: socket.socket(family, socket.SOCK_STREAM))
        self._source, self._target = source, target
        #: Whom the service sees.
        self.seen = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def connect(self, deadline_s: float) -> str:
        """Connect and hear whom the service sees; what went wrong, or nothing."""
        self._socket.settimeout(deadline_s)
        try:
            self._socket.bind((self._source, 0))
            self._socket.connect((self._target, PORT))
            line = b""
            while not line.endswith(b"\n") and len(line) < 64 and (data := self._socket.recv(1)):
                line += data
        except OSError as error:
            return _why(error, deadline_s)
        self.seen = line.decode("ascii", "replace").strip()
        return "" if self.seen else "the connection was closed"

    def exchange(self, page: bytes, deadline_s: float) -> str:
        """Send *page* and wait for it to come back; what went wrong, or nothing."""
        back = bytearray()
        end = time.monotonic() + deadline_s
        left = memoryview(page)
        try:
            while len(back) < len(page):
                self._socket.settimeout(max(0.01, end - time.monotonic()))
                readable, writable, _ = select.select(
                    [self._socket], [self._socket] if left else [], [], max(0.0, end - time.monotonic())
                )
                if not readable and not writable:
                    return f"{len(back)} of {len(page)} bytes came back in {deadline_s:.0f} s"
                if writable:
                    left = left[self._socket.send(left[:8192]) :]
                if readable:
                    data = self._socket.recv(65536)
                    if not data:
                        return f"closed after {len(back)} of {len(page)} bytes"
                    back += data
        except OSError as error:
            return _why(error, deadline_s)
        return "" if bytes(back) == page else "other bytes came back"


def _why(error: OSError, deadline_s: float) -> str:
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return f"no answer in {deadline_s:.0f} s"
    return (error.strerror or str(error)).lower()


class Trial:
    """All that is tried of the protected origins of one network."""

    def __init__(self, network: Network, world: World, payload: bytes, progress: Callable[[str], None]) -> None:
        """
        Args:
            payload: in every packet of a client and of an attacker.
            progress: is told in a few words what is tried.
        """
        self._network, self._world, self._payload = network, world, payload
        self._topology: Topology = world.topology
        self._internet = world[INTERNET]
        self._progress = progress

    def run(self) -> tuple[ProtectReport, ...]:
        """Try each of them."""
        reports = []
        for protect in self._network.protects:
            with ExitStack() as stack:
                stack.enter_context(Service(self._world[protect.origin]))
                with ThreadPoolExecutor(max_workers=8) as pool:
                    jobs = [pool.submit(job) for job in self._jobs(protect)]
                    found = [job.result() for job in jobs]
                if len(protect.edges) > 1:
                    found += self._without(protect, protect.edges[0], protect.edges[1])
            reports.append(ProtectReport(protect.origin, protect.edges, tuple(map(str, protect.addresses)), tuple(found)))
            good = sum(finding.ok for _, finding in found)
            self._progress(
                f"{protect.origin} behind {' and '.join(protect.edges)}: {good} of {len(found)} trials as they should be"
            )
        return tuple(reports)

    def _jobs(self, protect: Protect) -> Iterator[Callable[[], tuple[str, Finding]]]:
        for address in _one_of_each_version(protect):
            for edge in protect.edges:
                yield partial(self._client, edge, address)
            yield partial(self._found_out, protect, address)
        yield partial(self._own_address, protect)

    def _page(self) -> bytes:
        return (self._payload * (PAGE_BYTES // len(self._payload) + 1))[:PAGE_BYTES]

    # -- as it should be used

    def _client(self, edge: str, address: Prefix) -> tuple[str, Finding]:
        client = self._topology.outsiders.clients[edge]
        source, target = client.address(address.version), address.address
        what = f"a client by {edge} (IPv{address.version})"
        with Call(self._internet, source, target) as call:
            wrong = call.connect(DEADLINE_S) or call.exchange(self._page(), DEADLINE_S)
            if wrong:
                return what, Finding(False, f"{target} from {source}: {wrong}")
            if call.seen != source:
                return what, Finding(False, f"the service sees {call.seen} instead of {source}")
        return what, Finding(True, f"the service at {target} sees {source}; {PAGE_BYTES} bytes there and back by {edge}")

    # -- as it should not

    def _found_out(self, protect: Protect, address: Prefix) -> tuple[str, Finding]:
        attacker = self._topology.outsiders.attackers[protect.origin]
        heard = self._heard(attacker, address.address, address.version)
        what = f"the address past the edges (IPv{address.version})"
        if heard:
            return what, Finding(False, f"{address.address} answers what came by {protect.origin}'s own wire: {heard}")
        return what, Finding(True, f"silence to what came by {protect.origin}'s own wire")

    def _own_address(self, protect: Protect) -> tuple[str, Finding]:
        origin = self._network.node(protect.origin)
        attacker = self._topology.outsiders.attackers[protect.origin]
        own = self._topology.public[protect.origin]
        addresses = [own] if origin.behind_nat else list(self._topology.inside[protect.origin])
        with ThreadPoolExecutor(max_workers=2) as pool:
            heard = list(pool.map(lambda each: self._heard(attacker, each, ipaddress.ip_address(each).version), addresses))
        answers = [f"{address}: {said}" for address, said in zip(addresses, heard, strict=True) if said]
        what = f"{protect.origin} under its own address"
        if not answers:
            return what, Finding(True, f"silence at {', '.join(addresses)}")
        if any(each.only_edges for each in self._network.protects if each.origin == protect.origin):
            return what, Finding(False, "; ".join(answers))
        return what, Finding(True, f"{'; '.join(answers)} (only-edges = true in [[protect]] would end that)")

    def _heard(self, attacker: Outsider, target: str, version: int) -> str:
        """What somebody hears from *target*, by a ping and a connection to the service; empty: nothing at all."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            both = pool.map(lambda ask: ask(attacker.address(version), target, version), (self._echoed, self._served))
        return ", ".join(filter(None, both))

    def _echoed(self, source: str, target: str, version: int) -> str:
        with probe.Pinger(self._internet, version, self._payload, source) as pinger:
            pong = pinger.ping(target, SILENCE_S)
        if pong.said == "no answer":
            return ""
        return "it answers a ping" if pong.ok else f"a ping: {pong.said}"

    def _served(self, source: str, target: str, _version: int) -> str:
        with Call(self._internet, source, target) as call:
            wrong = call.connect(SILENCE_S)
        return "" if wrong.startswith("no answer") else f"port {PORT}: {wrong or 'the service answers'}"

    # -- without one of the edges

    def _without(self, protect: Protect, lost: str, other: str) -> list[tuple[str, Finding]]:
        """Cut *lost* off the internet, and see who is still served."""
        self._progress(f"{lost} is cut off")
        found = []
        addresses = list(_one_of_each_version(protect))
        with ExitStack() as stack:
            calls = {
                (edge, address): stack.enter_context(
                    Call(self._internet, self._topology.outsiders.clients[edge].address(address.version), address.address)
                )
                for edge in (lost, other)
                for address in addresses
            }
            for (edge, address), call in calls.items():
                if wrong := call.connect(DEADLINE_S):
                    return [(f"without {lost}", Finding(False, f"{address.address} by {edge}, before: {wrong}"))]
            stack.callback(self._join)
            self._cut(lost)
            found.append(self._judged(f"a connection by {other}, without {lost}", calls, other, addresses))
            found += [self._client_again(lost, other, address) for address in addresses]
            stack.callback(self._route, protect, lost, lost)
            self._route(protect, lost, other)
            found.append(self._judged(f"a connection that came by {lost}, once it is routed to {other}", calls, lost, addresses))
        return found

    def _judged(
        self, what: str, calls: dict[tuple[str, Prefix], Call], edge: str, addresses: Sequence[Prefix]
    ) -> tuple[str, Finding]:
        wrong = [
            f"{address.address}: {said}"
            for address in addresses
            if (said := calls[edge, address].exchange(self._page(), DEADLINE_S))
        ]
        return what, Finding(not wrong, "; ".join(wrong) or f"goes on: {PAGE_BYTES} bytes there and back")

    def _client_again(self, lost: str, other: str, address: Prefix) -> tuple[str, Finding]:
        what, finding = self._client(other, address)
        return f"{what}, without {lost}", finding

    def _cut(self, node: str) -> None:
        port = self._topology.ports[node]
        self._nft(
            f"table inet {_CUT} {{\n"
            f'  chain arriving {{ type filter hook prerouting priority -400; iifname "{port}" drop; }}\n'
            f'  chain departing {{ type filter hook postrouting priority 400; oifname "{port}" drop; }}\n'
            "}\n"
        )

    def _join(self) -> None:
        self._nft(f"add table inet {_CUT}\ndelete table inet {_CUT}\n")

    def _route(self, protect: Protect, client: str, edge: str) -> None:
        """Route what the client of one edge sends by another, as the internet does when an edge is gone."""
        table = self._topology.outsiders.clients[client].table
        ways = (way(protect, prefix, edge, self._topology.ports, self._topology.routes) for prefix in protect.addresses)
        self._internet.configure([f"route replace {each} table {table}" for each in ways])

    def _nft(self, script: str) -> None:
        done = self._internet.run(["nft", "-f", "-"], stdin=script, network_only=True)
        if done.returncode != 0:
            raise UsageError(f"in {INTERNET}: nft: {done.stderr.strip()}")


def _one_of_each_version(protect: Protect) -> Iterator[Prefix]:
    """An address to try, of the first prefix of each version: not a network's own where there are others."""
    for version in (4, 6):
        for prefix in protect.addresses:
            if prefix.version == version:
                first, *more = (address for address, _ in zip(addresses_in(prefix), range(2), strict=False))
                yield more[0] if more else first
                break
