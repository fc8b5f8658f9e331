#!/usr/bin/env python3
"""
Initiators for the scenes of IKE: ginnel's own machine on plain UDP sockets, in a process of its own, from many addresses.

    ike_load.py handshakes --to ADDR --from ADDR --peers N --seconds S     full handshakes: as one is up the next begins
    ike_load.py half-open  --to ADDR --from ADDR --peers N --seconds S --rate R    IKE_SA_INIT only; cookies are given back
    ike_load.py message    --to ADDR --from ADDR                                   one IKE_SA_INIT, in hexadecimal
    ike_load.py reach      --from ADDR --step N --peers N --seconds S      one ping through each tunnel until all are answered

One JSON object on stdout. --from is the first of N addresses, which must be local (`ip route add local PREFIX dev lo`). What is
installed in an engine elsewhere is thrown away here. A peer whose handshake is done forgets it without a word, and begins anew as
after a power failure, so that the responder replaces what it had (INITIAL_CONTACT).
"""

from __future__ import annotations

import argparse
import ipaddress
import itertools
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ginnel.crypto.ike import KeyMaterial
from ginnel.ikev2 import proposals, selectors
from ginnel.ikev2.connection import Connection
from ginnel.ikev2.effects import ChildUp, Path, Refused, Send, WaitUntil
from ginnel.ikev2.ike import Ike
from ginnel.ikev2.psk import PskBelieving, PskProving
from ginnel.units import NS_PER_S, Now
from ginnel.wire.ikev2 import Exchange, Header, Id, IdType, Message, Notify, NotifyType, build, parse, parse_header

PORT, NATT_PORT = 500, 4500
MARKER = bytes(4)
SUITE = "aes128gcm16-prfsha256-x25519"
#: Handshakes under way at once: enough that the responder never waits for us.
AT_ONCE = 16
#: Python has no name for it before 3.14: <linux/in.h>.
IP_PKTINFO = 8
PKTINFO = struct.Struct("=i4s4s")


def now() -> Now:
    """Both clocks."""
    return Now(time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns())


# ---------------------------------------------------------------- sockets


class Ports:
    """Both ports of IKE on all addresses."""

    def __init__(self) -> None:
        self._sockets = {natt: _bound(NATT_PORT if natt else PORT) for natt in (False, True)}

    def send(self, message: bytes, path: Path) -> None:
        """From path.local. What does not fit is lost, as on the way."""
        about = PKTINFO.pack(0, path.local, bytes(4))
        data = MARKER + message if path.natt else message
        to = (socket.inet_ntoa(path.remote), path.remote_port)
        try:
            self._sockets[path.natt].sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, about)], 0, to)
        except (BlockingIOError, ConnectionRefusedError):
            return

    def receive(self, wait_s: float) -> Iterator[tuple[bytes, Path]]:
        """What is there; waits for the first so long."""
        ready, _, _ = select.select(self._sockets.values(), (), (), max(0.0, wait_s))
        for natt, one in self._sockets.items():
            for _ in range(64 if one in ready else 0):
                try:
                    data, about, _, (remote, port) = one.recvmsg(2048, 64)
                except BlockingIOError:
                    break
                except ConnectionRefusedError:
                    continue
                local = PKTINFO.unpack(about[0][2][: PKTINFO.size])[2]
                yield (data[4:] if natt else data), Path(local, socket.inet_aton(remote), port, natt)


def _bound(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    made.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    made.bind(("0.0.0.0", port))
    return made


# ---------------------------------------------------------------- full handshakes


def connection(index: int, local: bytes, remote: bytes, secret: bytes) -> Connection:
    """What the scene's node file says of peer *index*, from the other end."""
    anything = (selectors.parse_words("0.0.0.0/0").at(b""), selectors.parse_words("::/0").at(b""))
    return Connection(
        name=f"p{index}",
        local=local,
        remote=remote,
        local_id=Id(IdType.FQDN, f"p{index}.example.org".encode()),
        remote_id=Id(IdType.FQDN, b"hub.example.org"),
        proving=PskProving(KeyMaterial.from_bytes(secret), "bench"),
        believing=PskBelieving(KeyMaterial.from_bytes(secret), "bench"),
        ike_proposals=proposals.parse_list([SUITE], "ike"),
        child_proposals=proposals.parse_list(["aes128gcm16-x25519"], "esp"),
        transport=False,
        local_ts=anything,
        remote_ts=anything,
        start="trap",
    )


@dataclass(slots=True)
class Initiators:
    """All peers, in one machine; the next begins as one is done."""

    ports: Ports
    connections: list[Connection]
    up: int = 0
    refused: list[str] = field(default_factory=list)

    def run(self, seconds: float) -> float:
        """How long it took, to the last one that was counted."""
        spi = itertools.count(0x1000)
        ike = Ike(
            entropy=os.urandom,
            reserve_spi=lambda _: next(spi),
            last_received_ns=lambda _: 0,
            crash_secret=KeyMaterial.from_bytes(os.urandom(32)),
        )
        waiting = iter(itertools.cycle(range(len(self.connections))))
        for one in self.connections:
            ike.add(one, now())
        began = time.perf_counter()
        for index in itertools.islice(waiting, min(AT_ONCE, len(self.connections))):
            ike.initiate(f"p{index}", now())
        until_ns = self._apply(ike, waiting)
        while (passed := time.perf_counter() - began) < seconds:
            left_s = 0.05 if until_ns is None else min(0.05, (until_ns - now().mono_ns) / NS_PER_S)
            for message, path in self.ports.receive(left_s):
                ike.receive(message, path, now())
                until_ns = self._apply(ike, waiting)
            if until_ns is not None and until_ns <= now().mono_ns:
                ike.timeout(now())
                until_ns = self._apply(ike, waiting)
        return passed

    def _apply(self, ike: Ike, waiting: Iterator[int]) -> int | None:
        done = []
        while not isinstance(output := ike.poll(), WaitUntil):
            match output:
                case Send(_, message, path):
                    self.ports.send(message, path)
                case ChildUp(name):
                    done.append(name)
                case Refused(_, _, _, lines):
                    self.refused.append(lines[0])
        for name in done:
            self.up += 1
            ike.remove(name, now())
            while not isinstance(output := ike.poll(), WaitUntil):
                pass  # its goodbye is not sent
            ike.add(self.connections[int(name[1:])], now())
            ike.initiate(f"p{next(waiting)}", now())
        return self._apply(ike, waiting) if done else output.mono_ns


def handshakes(options: argparse.Namespace) -> dict[str, object]:
    """See the module."""
    secret = sys.stdin.readline().strip().encode()
    remote, first = socket.inet_aton(options.to), ipaddress.IPv4Address(options.first)
    connections = [connection(n, (first + n).packed, remote, secret) for n in range(options.peers)]
    load = Initiators(Ports(), connections)
    cpu = time.process_time()
    seconds = load.run(options.seconds)
    return {
        "up": load.up,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "refused": Counter(load.refused).most_common(3),
    }


# ---------------------------------------------------------------- half-open


def beginning(local: bytes, remote: bytes) -> bytes:
    """A genuine IKE_SA_INIT."""
    ike = Ike(
        entropy=os.urandom,
        reserve_spi=lambda _: 1,
        last_received_ns=lambda _: 0,
        crash_secret=KeyMaterial.from_bytes(bytes(32)),
    )
    ike.add(connection(0, local, remote, b"none"), now())
    ike.initiate("p0", now())
    while True:
        match ike.poll():
            case Send(_, message, _):
                return message
            case WaitUntil():
                raise RuntimeError("the machine did not begin")


def message(options: argparse.Namespace) -> dict[str, object]:
    """See the module."""
    return {"message": beginning(socket.inet_aton(options.first), socket.inet_aton(options.to)).hex()}


def half_open(options: argparse.Namespace) -> dict[str, object]:
    """See the module. Each message has an SPI of its own, and the address of the next of all peers."""
    first, remote = ipaddress.IPv4Address(options.first), socket.inet_aton(options.to)
    template = beginning(first.packed, remote)
    parsed = parse(template)
    ports, chance = Ports(), random.Random(1)
    answers: Counter[str] = Counter()
    sent, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < options.seconds:
        for _ in range(min(256, int(passed * options.rate) - sent)):
            local = (first + sent % options.peers).packed
            ports.send(chance.randbytes(8) + template[8:], Path(local, remote, PORT, False))
            sent += 1
        for message, path in ports.receive(0.0005):
            header = parse_header(message)
            if header.exchange != Exchange.IKE_SA_INIT:
                continue
            told = next((one for one in parse(message).payloads if isinstance(one, Notify)), None)
            cookie = told is not None and told.kind == NotifyType.COOKIE
            answers["cookie" if cookie else "half-open" if header.spi_r != bytes(8) else "refused"] += 1
            if told is not None and cookie:
                again = Header(header.spi_i, bytes(8), Exchange.IKE_SA_INIT, True, False, 0)
                ports.send(build(Message(again, (Notify(NotifyType.COOKIE, told.data), *parsed.payloads))), path)
    return {"sent": sent, "sent_per_second": sent / passed, "seconds": passed, **answers}


# ---------------------------------------------------------------- a packet through each


def reach(options: argparse.Namespace) -> dict[str, object]:
    """See the module; a ping is repeated every half a second."""
    first = ipaddress.IPv4Address(options.first)
    missing = {str(first + options.step * n): n for n in range(options.peers)}
    ports = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    ports.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    ports.setblocking(False)
    began, next_s = time.perf_counter(), 0.0
    while missing and (passed := time.perf_counter() - began) < options.seconds:
        if passed >= next_s:
            next_s = passed + 0.5
            for address, number in missing.items():
                try:
                    ports.sendto(_echo(number), (address, 0))
                except OSError:
                    continue  # the way is not there yet, or the queue is full: again in a while
        if select.select([ports], (), (), 0.05)[0]:
            while True:
                try:
                    data, (source, _) = ports.recvfrom(2048)
                except BlockingIOError:
                    break
                if data[20] == 0:
                    missing.pop(source, None)
    return {"seconds": time.perf_counter() - began, "missing": len(missing)}


def _echo(number: int) -> bytes:
    words = (0x0800, 0, os.getpid() & 0xFFFF, number & 0xFFFF)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!4H", words[0], ~(total + (total >> 16)) & 0xFFFF, *words[2:])


LOADS = {"handshakes": handshakes, "half-open": half_open, "message": message, "reach": reach}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("load", choices=LOADS)
    parser.add_argument("--to", default="127.0.0.1", metavar="ADDR")
    parser.add_argument("--from", dest="first", required=True, metavar="ADDR")
    parser.add_argument("--peers", type=int, default=1)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=int, default=1000)
    options = parser.parse_args()
    print(json.dumps(LOADS[options.load](options)))


if __name__ == "__main__":
    main()
