"""
How the kernel would send: RTM_GETROUTE for many destinations at once.

One question for each distinct `Way`; `BATCH` of them in one message to the kernel, which answers within the call. The answer is
the device that packets leave by and the source address that they get, as the routing rules say for that mark and device.

`request` and `parse` are pure; layouts from linux/rtnetlink.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ginnel.runtime import monitor

RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTA_DST, RTA_SRC, RTA_OIF, RTA_PREFSRC, RTA_MARK = 1, 2, 4, 7, 16
#: What the kernel answers to so many fits its default receive buffer.
BATCH = 64

_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=8BI")


@dataclass(frozen=True, slots=True)
class Way:
    """What decides a route: the packed destination, our own packed address or None, mark, and index of the device or 0."""

    remote: bytes
    local: bytes | None = None
    mark: int = 0
    device: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """
    Where packets go: index of the device (0: nowhere), and the packed source address they get when they have none.

    errno: why they go nowhere; EINVAL (IPv4): the own address is on no interface.
    """

    device: int
    source: bytes | None = None
    errno: int = 0


def request(way: Way, sequence: int) -> bytes:
    """RTM_GETROUTE for one way."""
    family = socket.AF_INET if len(way.remote) == 4 else socket.AF_INET6
    bits = len(way.remote) * 8
    body = _ROUTE.pack(family, bits, bits if way.local else 0, 0, 0, 0, 0, 0, 0) + monitor.attribute(RTA_DST, way.remote)
    if way.local:
        body += monitor.attribute(RTA_SRC, way.local)
    if way.mark:
        body += monitor.attribute(RTA_MARK, struct.pack("=I", way.mark))
    if way.device:
        body += monitor.attribute(RTA_OIF, struct.pack("=I", way.device))
    return _HEADER.pack(_HEADER.size + len(body), RTM_GETROUTE, monitor.NLM_F_REQUEST, sequence, 0) + body


def parse(data: bytes) -> Iterator[tuple[int, Route]]:
    """The answers in one datagram, each with the sequence number of its question; a cut-off one ends them."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        size, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
        if size < _HEADER.size or offset + size > len(data):
            return
        body = data[offset + _HEADER.size : offset + size]
        if kind == RTM_NEWROUTE and len(body) >= _ROUTE.size:
            attributes = dict(monitor.attributes(body, _ROUTE.size))
            yield sequence, Route(monitor.u32(attributes.get(RTA_OIF)), attributes.get(RTA_PREFSRC))
        elif kind == monitor.NLMSG_ERROR and len(body) >= 4 and (number := -struct.unpack_from("=i", body)[0]) > 0:
            yield sequence, Route(0, None, number)
        offset += (size + 3) & ~3


class Router:
    """Asks the kernel; in the namespace in which it was made."""

    def __init__(self) -> None:
        self._socket = monitor.open_netlink(0)
        self._socket.setblocking(True)
        self._socket.settimeout(1.0)
        self._sequence = 0

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()

    def ask(self, ways: Sequence[Way]) -> dict[Way, Route]:
        """
        The route of each.

        Raises:
            OSError: the kernel does not answer.
        """
        found: dict[Way, Route] = {}
        for start in range(0, len(ways), BATCH):
            batch = ways[start : start + BATCH]
            asked = {(self._sequence + number) & 0xFFFF_FFFF: way for number, way in enumerate(batch, 1)}
            self._sequence += len(batch)
            self._socket.send(b"".join([request(way, sequence) for sequence, way in asked.items()]))
            while asked:
                for sequence, route in parse(self._socket.recv(65_536)):
                    way = asked.pop(sequence, None)  # None: the late answer to a question that was given up
                    if way is not None:
                        found[way] = route
        return found


def address_is_here(address: bytes) -> bool:
    """Whether the host has that address: a socket can be bound to it."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.bind((socket.inet_ntop(family, address), 0))
        except OSError:
            return False
    return True
