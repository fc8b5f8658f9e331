"""
Probes from inside any namespace: pings, TCP and DNS, each carrying the canary.

Sockets are opened on a thread in the namespace (`Held.inside`) and used from here; nothing is started, so a probe costs
what its packets cost. Every wait has a deadline; a probe that got no answer says so as a value.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ginnel.lab.namespaces import Held

#: Between two tries of the same ping; a lost packet costs this much.
RETRY_S = 0.2

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
_IPV6_DONTFRAG = 62


@dataclass(frozen=True, slots=True)
class Pong:
    """The end of one ping: how long it took and at which try, or why there is none."""

    target: str
    ok: bool
    rtt_ms: float = 0.0
    tries: int = 0
    #: "answered", "no answer", or what was said ("needs fragmentation, mtu 1420", "network unreachable").
    said: str = "answered"


class Pinger:
    """ICMP echo of one address family from one namespace. Use one a thread."""

    def __init__(self, held: Held, version: int, canary: bytes, source: str | None = None) -> None:
        """
        Args:
            held: where to ping from.
            version: 4 or 6.
            canary: goes into every payload.
            source: the local address to send from; the kernel's choice without one.
        """
        self.version = version
        self._ident = int.from_bytes(os.urandom(2), "big")
        self._canary = canary
        self._sequence = 0

        def make() -> socket.socket:
            family, protocol = (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
            sock = socket.socket(family, socket.SOCK_RAW, protocol)
            if version == 4:
                sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
            if source is not None:
                sock.bind((source, 0))
            return sock

        self._socket = held.inside(make)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def ping(self, target: str, deadline_s: float, size_bytes: int = 0, tries: int = 1000) -> Pong:
        """Ping *target* until it answers; see `ping_all`."""
        return self.ping_all([target], deadline_s, size_bytes, tries)[0]

    def ping_all(self, targets: Sequence[str], deadline_s: float, size_bytes: int = 0, tries: int = 1000) -> list[Pong]:
        """
        Ping all *targets* at once, again every 0.2 s, until each has answered, has refused, or the deadline has passed.

        Args:
            targets: numeric addresses.
            deadline_s: for all of them together.
            size_bytes: of the whole IP packet (0: as small as the canary allows); never fragmented.
            tries: at most so many packets to each.
        """
        end = time.monotonic() + deadline_s
        pending: dict[str, int] = dict.fromkeys(targets, 0)
        sent: dict[int, tuple[str, float]] = {}
        done: dict[str, Pong] = {}
        while pending:
            round_end = min(end, time.monotonic() + RETRY_S)
            for target in list(pending):
                if pending[target] >= tries:
                    continue
                pending[target] += 1
                refused = self._send(target, size_bytes, sent)
                if refused is not None:
                    done[target] = Pong(target, False, 0.0, pending.pop(target), refused)
            while pending and (left := round_end - time.monotonic()) > 0:
                if not select.select([self._socket], [], [], left)[0]:
                    break
                self._receive(sent, pending, done)
            if time.monotonic() >= end or all(count >= tries for count in pending.values()):
                break
        for target, count in pending.items():
            done[target] = Pong(target, False, 0.0, count, "no answer")
        return [done[target] for target in targets]

    def _send(self, target: str, size_bytes: int, sent: dict[int, tuple[str, float]]) -> str | None:
        self._sequence = (self._sequence + 1) & 0xFFFF
        header_bytes = 28 if self.version == 4 else 48
        payload = self._canary.ljust(max(0, size_bytes - header_bytes), b"\xa5")
        kind = 8 if self.version == 4 else 128
        message = struct.pack("!BBHHH", kind, 0, 0, self._ident, self._sequence) + payload
        if self.version == 4:  # for ICMPv6 the kernel fills it in
            message = message[:2] + struct.pack("!H", _checksum(message)) + message[4:]
        sent[self._sequence] = (target, time.monotonic())
        try:
            self._socket.sendto(message, (target, 0))
        except OSError as error:
            return (
                "message too long for the interface" if error.errno == errno.EMSGSIZE else (error.strerror or "refused").lower()
            )
        return None

    def _receive(self, sent: dict[int, tuple[str, float]], pending: dict[str, int], done: dict[str, Pong]) -> None:
        data, (sender, *_) = self._socket.recvfrom(65536)
        if self.version == 4:
            data = data[(data[0] & 0x0F) * 4 :]
        if len(data) < 8:
            return
        kind, code = data[0], data[1]
        if kind == (0 if self.version == 4 else 129):
            ident, sequence = struct.unpack("!HH", data[4:8])
            if ident == self._ident and sequence in sent:
                target, at = sent[sequence]
                # An answer under another address (of a NAT that it should not have met) is an answer to nobody.
                if target in pending and ipaddress.ip_address(sender) == ipaddress.ip_address(target):
                    done[target] = Pong(target, True, (time.monotonic() - at) * 1000, pending.pop(target))
            return
        said = _refusal(self.version, kind, code, data)
        if said is None:
            return
        inner = data[8:]
        inner = inner[(inner[0] & 0x0F) * 4 :] if self.version == 4 and inner else inner[40:]
        if len(inner) >= 8:
            ident, sequence = struct.unpack("!HH", inner[4:8])
            if ident == self._ident and sequence in sent:
                target, _ = sent[sequence]
                if target in pending:
                    done[target] = Pong(target, False, 0.0, pending.pop(target), said)


def _refusal(version: int, kind: int, code: int, data: bytes) -> str | None:
    """What an ICMP error says; None for anything that is not one."""
    if (version, kind) == (4, 3):
        if code == 4:
            return f"needs fragmentation, mtu {int.from_bytes(data[6:8], 'big')}"
        return f"unreachable (code {code})"
    if (version, kind) == (6, 2):
        return f"needs fragmentation, mtu {int.from_bytes(data[4:8], 'big')}"
    if (version, kind) == (6, 1):
        return f"unreachable (code {code})"
    return None


def _checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# ---------------------------------------------------------------- TCP


class Echo:
    """A TCP listener in a namespace that sends back what it gets, the canary among it; a context manager."""

    def __init__(self, held: Held, address: str, port: int) -> None:
        """Listen on *address* and *port*; OSError when that is not possible there."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def make() -> socket.socket:
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, port))
                sock.listen(16)
            except BaseException:
                sock.close()
                raise
            return sock

        self._socket = held.inside(make)
        self.port = int(self._socket.getsockname()[1])
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(target=self._work, name=f"echo-{held.name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._wake_write.close()
        self._thread.join()
        self._wake_read.close()
        self._socket.close()

    def _work(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._wake_read], [], [])
            if self._wake_read in ready:
                return
            connection, _ = self._socket.accept()
            with connection:
                connection.settimeout(5)
                try:
                    while data := connection.recv(65536):
                        connection.sendall(data)
                except OSError:
                    pass  # the prober notices


def tcp(held: Held, target: str, port: int, canary: bytes, deadline_s: float, source: str | None = None) -> tuple[bool, str]:
    """Connect from inside *held*, send the canary and wait for it to come back; (worked, what happened)."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with held.inside(lambda: socket.socket(family, socket.SOCK_STREAM)) as sock:
        sock.settimeout(deadline_s)
        began = time.monotonic()
        try:
            if source is not None:
                sock.bind((source, 0))
            sock.connect((target, port))
            sock.sendall(canary)
            sock.shutdown(socket.SHUT_WR)
            back = b""
            while data := sock.recv(65536):
                back += data
        except TimeoutError:
            return False, f"no answer in {deadline_s:.0f} s"
        except OSError as error:
            return False, (error.strerror or str(error)).lower()
        if back != canary:
            return False, f"{len(back)} of {len(canary)} bytes came back"
        return True, f"echoed in {(time.monotonic() - began) * 1000:.0f} ms"


# ---------------------------------------------------------------- DNS


class Responder:
    """A DNS server in a namespace that gives one answer to every A question; a context manager."""

    def __init__(self, held: Held, address: str, answer: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def make() -> socket.socket:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            try:
                sock.bind((address, 53))
            except BaseException:
                sock.close()
                raise
            return sock

        self._socket = held.inside(make)
        self._answer = ipaddress.IPv4Address(answer).packed
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(target=self._work, name=f"dns-{held.name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._wake_write.close()
        self._thread.join()
        self._wake_read.close()
        self._socket.close()

    def _work(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._wake_read], [], [])
            if self._wake_read in ready:
                return
            question, source = self._socket.recvfrom(2048)
            end = question.find(b"\0", 12) + 5
            if len(question) < 17 or end < 17:
                continue
            reply = question[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + question[12:end]
            reply += b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04" + self._answer
            try:
                self._socket.sendto(reply, source)
            except OSError:
                pass  # no way back: the asker will say that nothing came


def resolver_of(held: Held) -> list[str]:
    """The name servers that programs in *held* use: those of its /etc/resolv.conf."""
    text = (held.root / "etc" / "resolv.conf").read_text()
    return [words[1] for line in text.splitlines() if len(words := line.split()) >= 2 and words[0] == "nameserver"]


def search_of(held: Held) -> list[str]:
    """The domains that programs in *held* search: those of the last such line, which is the one that counts."""
    lines = [line.split() for line in (held.root / "etc" / "resolv.conf").read_text().splitlines()]
    found = [words[1:] for words in lines if words[:1] == ["search"]]
    return found[-1] if found else []


def resolve(held: Held, name: str, deadline_s: float) -> tuple[str | None, str]:
    """Ask the resolver of *held* for *name* as its programs would; (address or None, what happened)."""
    servers = resolver_of(held)
    if not servers:
        return None, "no nameserver in /etc/resolv.conf"
    server = servers[0]
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    ident = os.urandom(2)
    question = ident + b"\x01\x00\x00\x01" + bytes(6)
    for label in name.split("."):
        question += bytes([len(label)]) + label.encode()
    question += b"\0\0\x01\0\x01"
    with held.inside(lambda: socket.socket(family, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(min(1.0, deadline_s))
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            try:
                sock.sendto(question, (server, 53))
                reply = sock.recv(2048)
            except TimeoutError:
                continue
            except OSError as error:
                return None, f"{server}: {(error.strerror or str(error)).lower()}"
            if reply[:2] == ident and len(reply) >= 16:
                return str(ipaddress.ip_address(reply[-4:])), f"answered by {server}"
    return None, f"{server} did not answer in {deadline_s:.0f} s"


def send_clear(held: Held, target: str, payload: bytes) -> None:
    """Send one UDP datagram to the discard port, in clear."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with held.inside(lambda: socket.socket(family, socket.SOCK_DGRAM)) as sock:
        sock.sendto(payload, (target, 9))
