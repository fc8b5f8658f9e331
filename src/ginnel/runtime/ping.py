"""
Pings outside the tunnels: does a remote answer at all?

One raw ICMP socket for each ping, connected to whom it asks (so it hears nobody else), closed after `WAIT_S`; at most `AT_ONCE`
of them. Raw, because the process has that right for its tunnels anyhow, and ping sockets are forbidden to everybody in a fresh
network namespace.

`echo` and `is_answer` are pure. Source: RFC 792, RFC 4443 4.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from ginnel.wire.gre import checksum

WAIT_S = 2.0
AT_ONCE = 32
SO_MARK, SO_BINDTOIFINDEX = 36, 62
_ICMP_FILTER, _ICMPV6_FILTER = 1, 1
_SOL_RAW, _SOL_ICMPV6 = 255, 58
_ECHO = struct.Struct(">BBHHH")


def echo(family: int, identifier: int) -> bytes:
    """An echo request with that identifier; over IPv6 the kernel adds the checksum."""
    if family == socket.AF_INET6:
        return _ECHO.pack(128, 0, 0, identifier, 1)
    return _ECHO.pack(8, 0, checksum(_ECHO.pack(8, 0, 0, identifier, 1)), identifier, 1)


def is_answer(family: int, data: bytes, identifier: int) -> bool:
    """Whether a raw socket's datagram (over IPv4 with its IP header) is the reply to `echo`."""
    if family == socket.AF_INET:
        data = data[(data[0] & 0x0F) * 4 :] if data else b""
    if len(data) < _ECHO.size:
        return False
    kind, code, _, found, _ = _ECHO.unpack_from(data)
    return (kind, code, found) == (129 if family == socket.AF_INET6 else 0, 0, identifier)


@dataclass(slots=True, eq=False)
class _Ping:
    sock: socket.socket
    identifier: int
    answered: Callable[[], None]
    timer: asyncio.TimerHandle | None = None


class Pinger:
    """Pings, and tells who answered."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pings: set[_Ping] = set()

    def ask(self, remote: bytes, answered: Callable[[], None], *, mark: int = 0, device: int = 0) -> bool:
        """
        Ping *remote* (packed) once; *answered* is called if it answers in time.

        Returns:
            False when it could not be sent: too many at once, no route, no right.
        """
        if len(self._pings) >= AT_ONCE:
            return False
        family = socket.AF_INET if len(remote) == 4 else socket.AF_INET6
        with contextlib.ExitStack() as undo:
            try:
                sock = undo.enter_context(_open(family))
                if mark:
                    sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
                if device:
                    sock.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, device)
                sock.connect((socket.inet_ntop(family, remote), 0))
                ping = _Ping(sock, int.from_bytes(os.urandom(2), "big"), answered)
                sock.send(echo(family, ping.identifier))
            except OSError:
                return False
            undo.pop_all()
        self._loop.add_reader(sock, self._readable, ping)
        ping.timer = self._loop.call_later(WAIT_S, self._end, ping)
        self._pings.add(ping)
        return True

    def close(self) -> None:
        """End all of them."""
        for ping in list(self._pings):
            self._end(ping)

    def _readable(self, ping: _Ping) -> None:
        try:
            data = ping.sock.recv(2048)
        except OSError:  # an ICMP error for it: no answer will come
            self._end(ping)
            return
        if is_answer(ping.sock.family, data, ping.identifier):
            self._end(ping)
            ping.answered()

    def _end(self, ping: _Ping) -> None:
        if ping.timer is not None:
            ping.timer.cancel()
        self._loop.remove_reader(ping.sock)
        ping.sock.close()
        self._pings.discard(ping)


def _open(family: int) -> socket.socket:
    """A raw socket that hears nothing but echo replies."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    if family == socket.AF_INET:
        sock = socket.socket(family, kind, socket.IPPROTO_ICMP)
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~1 & 0xFFFF_FFFF))
    else:
        sock = socket.socket(family, kind, socket.IPPROTO_ICMPV6)
        blocked = bytearray(b"\xff" * 32)
        struct.pack_into("=I", blocked, 4 * (129 >> 5), ~(1 << (129 & 31)) & 0xFFFF_FFFF)
        sock.setsockopt(_SOL_ICMPV6, _ICMPV6_FILTER, bytes(blocked))
    return sock
