"""
Echo requests of exact sizes, never fragmented, and all that comes back of them: replies and the pieces they came in, ICMP errors
and who sent them, the refusal of this host itself.

    DF                   IP_MTU_DISCOVER = PROBE: set, and what was learned of the path before is ignored
    who refused          IP_RECVERR: the error queue has type, code, the MTU that was named, and the sender
    the way back         IP_RECVFRAGSIZE: the largest fragment that the kernel put the reply together from

Two kinds of socket do all of this: raw ones (CAP_NET_RAW), and ping sockets, which the kernel gives to ordinary users whose group
is in net.ipv4.ping_group_range. The same is seen by both. A reply must carry a nonce of 8 bytes, so nobody off the path can
answer.

Source: ip(7), ipv6(7), icmp(7), raw(7); linux/errqueue.h; RFC 792, 1191, 4443, 8201.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ginnel.errors import GinnelError, KernelError
from ginnel.mtu.layers import Family
from ginnel.mtu.proof import Answer, Proof, Prover

#: A size is sent so often before it counts as not answered: 3 lost packets of one size are rare even at a tenth lost.
TRIES = 3
#: Of the first round, whose round trip time nobody knows; satellites answer in 0.7 s.
FIRST_WAIT_S = 1.0
#: Between these, later rounds wait three times what the slowest reply took.
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.15, 2.0
#: For all of it.
DEADLINE_S = 30.0

_IP_MTU_DISCOVER, _IP_RECVERR, _IP_RECVFRAGSIZE = 10, 11, 25
_IPV6_MTU_DISCOVER, _IPV6_RECVERR, _IPV6_DONTFRAG, _IPV6_RECVFRAGSIZE = 23, 25, 62, 77
_PMTUDISC_PROBE = 3
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1
_ORIGIN_LOCAL = 1
#: sock_extended_err: errno, origin, type, code, pad, info, data.
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_NONCE_BYTES = 8
#: A reply of the largest size, with its IP header.
_READ_BYTES = 1 << 16
_HEADERS: dict[Family, int] = {4: 28, 6: 48}
#: What is said of (family, type, code).
_UNREACHABLE = {
    (4, 3, 0): "network unreachable",
    (4, 3, 1): "host unreachable",
    (4, 3, 2): "protocol unreachable",
    (4, 3, 3): "port unreachable",
    (4, 3, 9): "network administratively prohibited",
    (4, 3, 10): "host administratively prohibited",
    (4, 3, 13): "administratively prohibited",
    (6, 1, 0): "no route",
    (6, 1, 1): "administratively prohibited",
    (6, 1, 3): "address unreachable",
    (6, 1, 4): "port unreachable",
    (6, 1, 5): "source address refused by policy",
    (6, 1, 6): "route rejected",
    (4, 11, 0): "the TTL ran out on the way: a routing loop",
    (6, 3, 0): "the hop limit ran out on the way: a routing loop",
}


@dataclass(frozen=True, slots=True)
class _Sent:
    size: int
    at: float


class Echo:
    """One host, probed from one socket; a context manager."""

    def __init__(self, address: str, *, device: str = "") -> None:
        """
        Args:
            address: numeric; of IPv6 with its scope when it is link-local (`fe80::1%eth0`).
            device: leave by this interface; the routes' choice without one.

        Raises:
            GinnelError: this user may open neither kind of socket.
            KernelError: there is no route to it.
        """
        self.address = address
        self.family: Family = 6 if ":" in address else 4
        self._nonce = os.urandom(_NONCE_BYTES)
        self._ident = int.from_bytes(os.urandom(2), "big")
        self._sequence = int.from_bytes(os.urandom(1), "big")
        self._sent: dict[int, _Sent] = {}
        self.wait_s = FIRST_WAIT_S
        self._socket, self._raw = _open(self.family)
        try:
            self._prepare(device)
            target = socket.getaddrinfo(address, 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0][4]
            self._socket.connect(target)
        except OSError as error:
            self._socket.close()
            raise KernelError(f"ip route get {address}", error.errno or errno.EINVAL) from None

    @property
    def privileged(self) -> bool:
        """Whether the socket is a raw one."""
        return self._raw

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def _prepare(self, device: str) -> None:
        sock = self._socket
        if self.family == 4:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVFRAGSIZE, 1)
            if self._raw:
                sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~(1 << 0) & 0xFFFFFFFF))
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVFRAGSIZE, 1)
            if self._raw:
                passed = [0xFFFFFFFF] * 8
                passed[129 // 32] &= ~(1 << 129 % 32)
                sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *passed))
        if device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        # Replies of 64 KiB, a whole round of them.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        sock.setblocking(False)

    # ------------------------------------------------------------ one round

    def round(self, sizes: Iterable[int], until: float) -> dict[int, Answer]:
        """
        Probe all *sizes* at once, those without an answer again and again; an answer for each.

        Args:
            sizes: of whole IP packets.
            until: time.monotonic() at which nothing is waited for any longer.
        """
        pending = dict.fromkeys(sizes)
        answers: dict[int, Answer] = {}
        refused: dict[int, Answer] = {}
        slowest = 0.0
        for _ in range(TRIES):
            for size in pending:
                self._send(size, refused)
            slowest = max(slowest, self._gather(pending, answers, refused, min(until, time.monotonic() + self.wait_s)))
            # Who refuses does so again: only silence is worth another try.
            pending = dict.fromkeys(size for size in pending if size not in answers and size not in refused)
            if not pending or time.monotonic() >= until:
                break
        if slowest:
            self.wait_s = min(max(SHORTEST_WAIT_S, 3 * slowest), LONGEST_WAIT_S)
        return {size: answers.get(size) or refused.get(size) or Answer(size, "silent") for size in sizes}

    def _gather(self, pending: Iterable[int], answers: dict[int, Answer], refused: dict[int, Answer], until: float) -> float:
        """Take what comes until all of *pending* is settled; the slowest round trip time seen, seconds."""
        slowest = 0.0
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while True:
            self._errors(refused)
            for answer, took in self._replies():
                answers[answer.size] = answer
                slowest = max(slowest, took)
            left = until - time.monotonic()
            if left <= 0 or all(size in answers or size in refused for size in pending):
                return slowest
            poll.poll(left * 1000)

    def _send(self, size: int, refused: dict[int, Answer]) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFF
        payload = self._nonce.ljust(size - _HEADERS[self.family], b"\xa5")
        kind = 8 if self.family == 4 else 128
        message = struct.pack("!BBHHH", kind, 0, 0, self._ident, self._sequence) + payload
        if self._raw and self.family == 4:
            message = message[:2] + struct.pack("!H", _checksum(message)) + message[4:]
        self._sent[self._sequence] = _Sent(size, time.monotonic())
        # An error of an earlier probe is handed to whatever call comes next; once it is taken, the way is free.
        for _ in range(4):
            try:
                self._socket.send(message)
            except OSError as error:
                if error.errno in {errno.ENOBUFS, errno.EAGAIN}:
                    return  # this try is lost; there are others
                self._errors(refused, local=size)
                if size in refused and not refused[size].by:
                    return
                why = os.strerror(error.errno or errno.EIO).lower()
            else:
                return
        refused[size] = Answer(size, "unreachable", why=why)

    def _errors(self, refused: dict[int, Answer], local: int = 0) -> None:
        """Empty the error queue; *local* is the size that was being sent, for what this host refuses at once."""
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(128, 512, socket.MSG_ERRQUEUE)
            except BlockingIOError:
                return
            for _, _, raw in ancillary:
                if len(raw) < _EXTENDED_ERROR.size:
                    continue
                number, origin, kind, code, _, info, _ = _EXTENDED_ERROR.unpack_from(raw)
                if origin == _ORIGIN_LOCAL:
                    if local and number == errno.EMSGSIZE:
                        refused[local] = Answer(local, "refused", "", info)
                    continue
                sent = self._quoted(data)
                answer = self._refusal(sent.size, kind, code, info, _sender(raw)) if sent is not None else None
                if answer is not None:
                    refused[answer.size] = answer

    def _quoted(self, data: bytes) -> _Sent | None:
        """Which of our probes an error quotes: at least its ICMP header."""
        if len(data) < 8:
            return None
        _, _, _, ident, sequence = struct.unpack_from("!BBHHH", data)
        if self._raw and ident != self._ident:
            return None
        return self._sent.get(sequence)

    def _refusal(self, size: int, kind: int, code: int, info: int, by: str) -> Answer | None:
        if (self.family, kind, code) == (4, 3, 4) or (self.family, kind) == (6, 2):
            return Answer(size, "refused", by, info)
        why = _UNREACHABLE.get((self.family, kind, code))
        if why is None and kind == (3 if self.family == 4 else 1):
            why = f"unreachable (code {code})"
        return None if why is None else Answer(size, "unreachable", by, why=why)

    def _replies(self) -> Iterator[tuple[Answer, float]]:
        """All replies that have come, and how long each took."""
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_READ_BYTES, 128)
            except BlockingIOError:
                return
            except OSError:
                continue  # an error that lies in the queue too, taken from there
            now = time.monotonic()
            if self._raw and self.family == 4:
                data = data[(data[0] & 0x0F) * 4 :] if data else b""
            if len(data) < 8 + _NONCE_BYTES:
                continue
            kind, _, _, ident, sequence = struct.unpack_from("!BBHHH", data)
            sent = self._sent.get(sequence)
            if kind != (0 if self.family == 4 else 129) or sent is None or (self._raw and ident != self._ident):
                continue
            if data[8 : 8 + _NONCE_BYTES] != self._nonce or len(data) + _HEADERS[self.family] - 8 != sent.size:
                continue
            yield Answer(sent.size, "passed", fragment=_fragment(ancillary)), now - sent.at


def prove(address: str, expected: int, *, device: str = "", deadline_s: float = DEADLINE_S) -> Proof:
    """
    Find out what really passes to *address* and back; see `ginnel.mtu.proof`.

    Raises:
        GinnelError: as `Echo`.
    """
    with Echo(address, device=device) as echo:
        prover = Prover(expected, echo.family)
        until = time.monotonic() + deadline_s
        while (sizes := prover.sizes()) and time.monotonic() < until:
            prover.took(echo.round(sizes, until).values())
        return prover.proof()


def _open(family: Family) -> tuple[socket.socket, bool]:
    """(socket, whether it is raw): raw where that is allowed, else a ping socket."""
    kind, protocol = (socket.AF_INET, socket.IPPROTO_ICMP) if family == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    try:
        return socket.socket(kind, socket.SOCK_RAW, protocol), True
    except PermissionError:
        pass  # an ordinary user
    except OSError as error:
        raise KernelError(f"socket of IPv{family}", error.errno or errno.EAFNOSUPPORT) from None
    try:
        return socket.socket(kind, socket.SOCK_DGRAM, protocol), False
    except OSError:
        raise GinnelError(
            "--prove sends ICMP echo requests, and this user may not\n"
            "  hint: run it with `sudo`, or let your group: sysctl net.ipv4.ping_group_range='0 2147483647'"
        ) from None


def _sender(raw: bytes) -> str:
    """The address behind a sock_extended_err (SO_EE_OFFENDER), "" when there is none."""
    rest = raw[_EXTENDED_ERROR.size :]
    if len(rest) >= 8 and struct.unpack_from("=H", rest)[0] == socket.AF_INET:
        return str(ipaddress.IPv4Address(rest[4:8]))
    if len(rest) >= 24 and struct.unpack_from("=H", rest)[0] == socket.AF_INET6:
        return str(ipaddress.IPv6Address(rest[8:24]))
    return ""


def _fragment(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The largest fragment that a reply was put together from; 0 when it came whole."""
    for level, kind, raw in ancillary:
        wanted = (socket.IPPROTO_IP, _IP_RECVFRAGSIZE), (socket.IPPROTO_IPV6, _IPV6_RECVFRAGSIZE)
        if (level, kind) in wanted and len(raw) >= 4:
            return int(struct.unpack_from("=i", raw)[0])
    return 0


def _checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
