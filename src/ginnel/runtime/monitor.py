"""
What the kernel tells of our link and of the host, by rtnetlink: up and down, MTU, gone, moved; routes and addresses changed.

The UDP sockets of a tunnel live in the namespace where the process was born, and so do its two listeners, one for links, one for
routes and addresses. The device may be moved into another namespace ("the only way out of a container"), and its link is
followed
there: the kernel tells by TUNGETDEVNETNS on the device's own descriptor where it is, and by TUNGETIFF how it is called there;
that namespace is given a number in ours (RTM_NEWNSID), by which it can be asked about its links (IFLA_TARGET_NETNSID) and heard
(NETLINK_LISTEN_ALL_NSID). No socket of ours is in there: it would keep the namespace alive after its last process.

A message that the link went away means nothing by itself (it was deleted, or moved): the descriptor is asked.

Routes and addresses: only what may make a remembered source address wrong counts: an address that went, a route or rule that
changed, unless the route leads into the tunnel itself (a full wg-quick file adds ten thousand of those) or is only a
cache. What counts is told once in `SETTLE_S`: the listener is not read in between, and what piled up is thrown away unread.

`parse` and `link_request` are pure; layouts from linux/netlink.h, linux/rtnetlink.h, linux/if_link.h.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWRULE, RTM_DELRULE = 20, 21, 24, 25, 32, 33
RTM_NEWNSID, RTM_GETNSID = 88, 90
NLM_F_REQUEST, NLM_F_ACK = 1, 4
NLMSG_ERROR = 2
IFF_UP = 1
IFLA_IFNAME, IFLA_MTU, IFLA_GROUP, IFLA_TARGET_NETNSID = 3, 4, 27, 46
NETNSA_NSID, NETNSA_FD = 1, 3
SOL_NETLINK, NETLINK_LISTEN_ALL_NSID = 270, 8
RTA_OIF, RTA_TABLE = 4, 15
RT_TABLE_LOCAL = 255
RTM_F_CLONED = 0x200

RTMGRP_LINK = 0x1
#: IPv4 and IPv6 addresses, routes and rules.
RTMGRP_HOST = 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18

TUNGETDEVNETNS = 0x54E3
TUNGETIFF = 0x800454D2

#: Changes of routes and addresses come in bursts; one burst clears the sources once.
SETTLE_S = 0.1
#: More messages than this in one go are not looked at one by one: something changed.
LOOK_AT_MOST = 256

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change mask
_ROUTE = struct.Struct("=8BI")  # family, dst_len, src_len, tos, table, protocol, scope, type; flags
_ATTRIBUTE = struct.Struct("=HH")  # length, type


@dataclass(frozen=True, slots=True)
class Link:
    """A link as it is now."""

    index: int
    name: str
    up: bool
    mtu: int
    #: Our number for the namespace that was asked about it; None for our own, and in what is told unasked.
    namespace: int | None = None


@dataclass(frozen=True, slots=True)
class LinkGone:
    """A link left this namespace: deleted or moved."""

    index: int


@dataclass(frozen=True, slots=True)
class HostChanged:
    """An address went, or a route or a rule changed; *via* is the interface index of a route, 0 = none."""

    via: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The kernel's answer to a request of ours: a positive errno."""

    errno: int


Message = Link | LinkGone | HostChanged | Refused


def parse(data: bytes, *, arrivals: bool = False) -> Iterator[Message]:
    """
    The messages of one netlink datagram that matter here, in order; a cut-off message ends it.

    Args:
        arrivals: an address that came matters, too: it makes no other wrong, but may be the one that was missing.

    Source: RFC 3549 2.3; linux/netlink.h (4-byte alignment of messages and attributes).
    """
    offset = 0
    while offset + _HEADER.size <= len(data):
        size, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if size < _HEADER.size or offset + size > len(data):
            return
        if arrivals and kind == RTM_NEWADDR:
            yield HostChanged(0)
        message = _message(kind, data[offset + _HEADER.size : offset + size])
        if message is not None:
            yield message
        offset += (size + 3) & ~3


def _message(kind: int, body: bytes) -> Message | None:
    match kind:
        case 16 | 17 if len(body) >= _LINK.size:
            _, _, index, flags, _ = _LINK.unpack_from(body)
            if kind == RTM_DELLINK:
                return LinkGone(index)
            values = dict(attributes(body, _LINK.size))
            name = values.get(IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
            asked = values.get(IFLA_TARGET_NETNSID)
            return Link(index, name, bool(flags & IFF_UP), u32(values.get(IFLA_MTU)), u32(asked) if asked else None)
        case 21 | 32 | 33:
            return HostChanged(0)
        case 24 | 25 if len(body) >= _ROUTE.size:
            *_, table, _, _, _, flags = _ROUTE.unpack_from(body)
            if flags & RTM_F_CLONED:
                return None
            values = dict(attributes(body, _ROUTE.size))
            if (u32(values.get(RTA_TABLE)) or table) == RT_TABLE_LOCAL:
                return None  # the shadow of an address: RTM_DELADDR tells
            return HostChanged(u32(values.get(RTA_OIF)))
        case 2 if len(body) >= 4 and (number := -struct.unpack_from("=i", body)[0]):
            return Refused(number)
    return None


def attributes(body: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """The attributes of *body* from there on; a cut-off one ends them."""
    while offset + _ATTRIBUTE.size <= len(body):
        size, kind = _ATTRIBUTE.unpack_from(body, offset)
        if size < _ATTRIBUTE.size or offset + size > len(body):
            return
        yield kind, body[offset + _ATTRIBUTE.size : offset + size]
        offset += (size + 3) & ~3


def u32(raw: bytes | None) -> int:
    """A number of the host's byte order, 0 where there is none."""
    return int.from_bytes(raw[:4], "little" if struct.pack("=H", 1) == b"\1\0" else "big") if raw else 0


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def link_request(name: str, namespace: int | None = None) -> bytes:
    """
    RTM_GETLINK for one link by name, here or in the namespace of that number.

    The answer is a `Link`, or `Refused(ENODEV)`.
    """
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attribute(IFLA_IFNAME, name.encode() + b"\0")
    if namespace is not None:
        body += attribute(IFLA_TARGET_NETNSID, struct.pack("=i", namespace))
    return _HEADER.pack(_HEADER.size + len(body), RTM_GETLINK, NLM_F_REQUEST, 1, 0) + body


def change_request(kind: int, index: int, attributes_: bytes, *, acknowledged: bool = False) -> bytes:
    """RTM_NEWLINK or RTM_DELLINK with these attributes for one link, or for index 0 for those that the attributes name."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + attributes_
    flags = NLM_F_REQUEST | (NLM_F_ACK if acknowledged else 0)
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body


def open_netlink(groups: int) -> socket.socket:
    """A route socket, not blocking, that hears those groups."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    sock.bind((0, groups))
    return sock


def namespace_number(fd: int) -> int:
    """
    The number by which our namespace knows the namespace *fd*; it is given one when it has none.

    Raises:
        OSError: the kernel refuses (EPERM without CAP_NET_ADMIN).
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(1.0)  # the kernel answers within the call
        if (number := _ask_number(sock, fd)) is None:
            body = b"\0" * 4 + attribute(NETNSA_FD, struct.pack("=I", fd)) + attribute(NETNSA_NSID, struct.pack("=i", -1))
            sock.send(_HEADER.pack(_HEADER.size + len(body), RTM_NEWNSID, NLM_F_REQUEST | NLM_F_ACK, 1, 0) + body)
            sock.recv(4096)  # an errno of 0, or EEXIST when somebody was quicker
            number = _ask_number(sock, fd)
    if number is None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), "RTM_NEWNSID")
    return number


def _ask_number(sock: socket.socket, fd: int) -> int | None:
    body = b"\0" * 4 + attribute(NETNSA_FD, struct.pack("=I", fd))
    sock.send(_HEADER.pack(_HEADER.size + len(body), RTM_GETNSID, NLM_F_REQUEST, 1, 0) + body)
    answer = sock.recv(4096)
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind != RTM_NEWNSID:
        return None
    raw = dict(attributes(answer, _HEADER.size + 4)).get(NETNSA_NSID, b"\xff" * 4)
    number: int = struct.unpack_from("=i", raw)[0]
    return number if number >= 0 else None


def device_namespace(tun_fd: int) -> int:
    """
    A descriptor of the namespace that the device is in now.

    Raises:
        OSError: EBADFD when the device is gone; EPERM without CAP_NET_ADMIN in its namespace; ENOTTY before Linux 5.10.
    """
    return fcntl.ioctl(tun_fd, TUNGETDEVNETNS)


def device_name(tun_fd: int) -> str:
    """How the device is called where it is now; OSError EBADFD when it is gone."""
    answer = fcntl.ioctl(tun_fd, TUNGETIFF, bytes(40))
    return answer[:16].split(b"\0", 1)[0].decode()


def identity(fd: int) -> tuple[int, int]:
    """Which namespace a descriptor is of."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def throw_away(sock: socket.socket) -> None:
    """Read everything that waits there, and look at nothing."""
    while True:
        try:
            sock.recv(1, socket.MSG_TRUNC)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise


class Monitor:
    """
    Watches one TUN device and the host around its sockets.

    Calls, from the loop: *link(Link)* at every news of the link, first when `start` is called; *moved(inside: bool)* when it
    was followed to another namespace (inside = the process's own again); *lost(reason)* when it lives but cannot be followed;
    *host_changed()*. That the device is gone is told by the engine, which reads it; the monitor just falls silent then.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tun_fd: int,
        *,
        link: Callable[[Link], None],
        moved: Callable[[bool], None],
        lost: Callable[[str], None],
        host_changed: Callable[[], None],
    ) -> None:
        self._loop, self._tun_fd = loop, tun_fd
        self._tell_link, self._tell_moved, self._tell_lost, self._tell_host = link, moved, lost, host_changed
        self._index = 0
        self._settling: asyncio.TimerHandle | None = None
        with open("/proc/self/ns/net", "rb") as own:
            self._own = identity(own.fileno())
        self._here = self._own
        #: Our number for the namespace the device is in; None for our own.
        self._number: int | None = None
        self._link_socket = open_netlink(RTMGRP_LINK)
        self._watching = False
        self._host_socket = open_netlink(RTMGRP_HOST)
        loop.add_reader(self._host_socket, self._host_readable)

    def start(self) -> None:
        """Find the link and begin to follow it."""
        self._watching = True
        self._loop.add_reader(self._link_socket, self._link_readable)
        self._ask()

    def close(self) -> None:
        """Close both sockets; idempotent."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        self._loop.remove_reader(self._host_socket)
        self._host_socket.close()
        self._unwatch()
        self._link_socket.close()

    # -- the link

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._link_socket)

    def _ask(self) -> None:
        """Ask how the link is now; when it is not here, look where it went."""
        try:
            self._link_socket.send(link_request(device_name(self._tun_fd), self._number))
        except OSError as error:
            self._out_of_sight(error)

    def _link_readable(self) -> None:
        try:
            data, ancillary, _, _ = self._link_socket.recvmsg(65_536, socket.CMSG_SPACE(4))
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.ENOBUFS:  # messages were lost: ask anew
                self._ask()
                return
            raise
        told_by = next((struct.unpack("=i", raw[:4])[0] for level, _, raw in ancillary if level == SOL_NETLINK), None)
        for message in parse(data):
            match message:
                case Refused(errno.ENODEV):  # the answer to our question, wherever that was asked
                    self._follow()
                    return
                case Link(namespace=number) if (number if told_by is None else told_by) != self._number:
                    pass
                case LinkGone() if told_by != self._number:
                    pass
                case Link() if self._is_ours(message):
                    self._index = message.index
                    self._tell_link(message)
                case LinkGone(index) if index == self._index:
                    self._follow()
                    return

    def _is_ours(self, message: Link) -> bool:
        if self._index:
            return message.index == self._index
        try:
            return message.name == device_name(self._tun_fd)
        except OSError:
            return False

    def _follow(self) -> None:
        """The link left the namespace we listen to: go where it is, if it still is."""
        try:
            namespace = device_namespace(self._tun_fd)
        except OSError as error:
            self._out_of_sight(error)
            return
        try:
            here = identity(namespace)
            if here == self._here and self._index == 0:
                return  # renamed while we asked; the next message tells
            number = None if here == self._own else namespace_number(namespace)
            if number is not None:
                self._link_socket.setsockopt(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1)
            self._index, self._number = 0, number
            if here != self._here:
                self._here = here
                self._tell_moved(here == self._own)
            self._ask()
        except OSError as error:
            self._out_of_sight(error)
        finally:
            os.close(namespace)

    def _out_of_sight(self, error: OSError) -> None:
        if error.errno != errno.EBADFD:  # which means deleted: the engine tells that
            self._unwatch()
            self._tell_lost(f"{error.filename or 'following the device'}: {os.strerror(error.errno or 0)}")

    # -- the host

    def _host_readable(self) -> None:
        seen = 0
        while True:
            try:
                data = self._host_socket.recv(65_536)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                break  # overrun: something changed
            for message in parse(data):
                seen += 1
                if isinstance(message, HostChanged) and not (self._here == self._own and 0 < message.via == self._index):
                    self._settle()
                    return
            if seen > LOOK_AT_MOST:
                break
        self._settle()

    def _settle(self) -> None:
        """Stop reading, and tell once when the burst is over."""
        self._loop.remove_reader(self._host_socket)
        self._settling = self._loop.call_later(SETTLE_S, self._settled)

    def _settled(self) -> None:
        self._settling = None
        throw_away(self._host_socket)
        self._loop.add_reader(self._host_socket, self._host_readable)
        self._tell_host()
