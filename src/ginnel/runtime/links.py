"""
The links of many tunnels, and the host around them: one listener for all devices of a process.

What one device's `Monitor` does for WireGuard, for any number: a link message is for whoever's device has that index in that
namespace. How a link is when we begin to watch it, when messages were lost, and when it moved, is asked on a socket of its own:
the kernel answers within the call, so an answer can be nobody else's.

Routes, addresses and rules: all changes count here, also those through our own devices, since a tunnel's remote must not be
routed through the tunnel. A burst is told once, `SETTLE_S` after it began; the listener is not read in between.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from ginnel.runtime import monitor
from ginnel.runtime.monitor import HostChanged, Link, LinkGone, Refused

#: Setting up a thousand devices at once makes some megabytes of messages.
RECEIVE_BUFFER_BYTES = 8 << 20
SO_RCVBUFFORCE = 33
SETTLE_S = monitor.SETTLE_S
_READS_PER_TURN = 64
_REQUESTS_AT_ONCE = 64
_DELETE_TIMEOUT_S = 30.0


@dataclass(slots=True, eq=False)
class Watched:
    """One device: where it is now, and whom to tell."""

    tun_fd: int
    link: Callable[[Link], None]
    moved: Callable[[bool], None]
    lost: Callable[[str], None]
    #: Its index where it is; 0 while it cannot be found.
    index: int = 0
    #: Our number for the namespace that it is in; None for our own.
    number: int | None = None


class Links:
    """
    Watches devices and the host.

    Calls, from the loop: the three of each `watch`, as `Monitor` does; *host_changed()*. The first link is told from within
    `watch`. That a device is gone is told by the engine.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, host_changed: Callable[[], None]) -> None:
        self._loop, self._tell_host = loop, host_changed
        self._by_index: dict[tuple[int | None, int], Watched] = {}
        self._settling: asyncio.TimerHandle | None = None
        with open("/proc/self/ns/net", "rb") as own:
            self._own = monitor.identity(own.fileno())
        self._asking = monitor.open_netlink(0)
        self._asking.setblocking(True)
        self._asking.settimeout(1.0)
        self._link_socket = _with_room(monitor.open_netlink(monitor.RTMGRP_LINK))
        self._host_socket = _with_room(monitor.open_netlink(monitor.RTMGRP_HOST))
        loop.add_reader(self._link_socket, self._link_readable)
        loop.add_reader(self._host_socket, self._host_readable)

    def watch(
        self, tun_fd: int, *, link: Callable[[Link], None], moved: Callable[[bool], None], lost: Callable[[str], None]
    ) -> Watched:
        """Follow the device from now on; *link* is called with how it is, at once."""
        watched = Watched(tun_fd, link, moved, lost)
        self._look(watched)
        return watched

    def forget(self, watched: Watched) -> None:
        """Follow it no longer; idempotent."""
        self._by_index.pop((watched.number, watched.index), None)
        watched.index = 0

    def delete_devices(self) -> None:
        """
        Delete all devices that are watched here, at once; those that it cannot reach are left to whoever has their descriptors.

        Closing a thousand descriptors one by one takes the kernel 18 s, because it waits each time until nobody can use the
        device any more. Of a group of links it deletes all, and waits once. The group is a random number that nobody else has.
        """
        group = monitor.attribute(monitor.IFLA_GROUP, os.urandom(3) + b"\x7f")
        indices = [index for number, index in self._by_index if number is None and index]
        self._by_index.clear()
        if not indices:
            return
        try:
            for start in range(0, len(indices), _REQUESTS_AT_ONCE):
                batch = indices[start : start + _REQUESTS_AT_ONCE]
                self._asking.send(b"".join([monitor.change_request(monitor.RTM_NEWLINK, index, group) for index in batch]))
            self._asking.settimeout(_DELETE_TIMEOUT_S)
            self._asking.send(monitor.change_request(monitor.RTM_DELLINK, 0, group, acknowledged=True))
            self._asking.recv(65_536)
        except OSError:
            return  # the engine closes them

    def close(self) -> None:
        """Close the sockets; idempotent."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        for sock in (self._link_socket, self._host_socket):
            self._loop.remove_reader(sock)
            sock.close()
        self._asking.close()
        self._by_index.clear()

    # -- links

    def _look(self, watched: Watched) -> None:
        """Ask how the link is; when it is not where we thought, look where it went."""
        try:
            found = self._ask(monitor.device_name(watched.tun_fd), watched.number)
            if found is None and (found := self._follow(watched)) is None:
                return
        except OSError as error:
            self._out_of_sight(watched, error)
            return
        self.forget(watched)
        watched.index = found.index
        self._by_index[watched.number, found.index] = watched
        watched.link(found)

    def _ask(self, name: str, number: int | None) -> Link | None:
        """The link of that name in that namespace, None when there is none."""
        self._asking.send(monitor.link_request(name, number))
        for message in monitor.parse(self._asking.recv(65_536)):
            match message:
                case Link():
                    return message
                case Refused(errno.ENODEV):
                    return None
                case Refused(number_):
                    raise OSError(number_, os.strerror(number_), "RTM_GETLINK")
        return None

    def _follow(self, watched: Watched) -> Link | None:
        """Find the namespace that the device is in, and the link in there; None when it was renamed just now: a message tells."""
        namespace = monitor.device_namespace(watched.tun_fd)
        try:
            inside = monitor.identity(namespace) == self._own
            number = None if inside else monitor.namespace_number(namespace)
        finally:
            os.close(namespace)
        if number is not None:
            self._link_socket.setsockopt(monitor.SOL_NETLINK, monitor.NETLINK_LISTEN_ALL_NSID, 1)
        before = watched.number
        self.forget(watched)
        watched.number = number
        if number != before:
            watched.moved(inside)
        return self._ask(monitor.device_name(watched.tun_fd), number)

    def _out_of_sight(self, watched: Watched, error: OSError) -> None:
        self.forget(watched)
        if error.errno != errno.EBADFD:  # which means deleted: the engine tells that
            watched.lost(f"{error.filename or 'following the device'}: {os.strerror(error.errno or 0)}")

    def _link_readable(self) -> None:
        for _ in range(_READS_PER_TURN):
            try:
                data, ancillary, _, _ = self._link_socket.recvmsg(65_536, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                monitor.throw_away(self._link_socket)  # messages were lost; those that were not are older than what we ask now
                for each in list(self._by_index.values()):
                    self._look(each)
                return
            told_by = next((struct.unpack("=i", raw[:4])[0] for level, _, raw in ancillary if level == monitor.SOL_NETLINK), None)
            for message in monitor.parse(data):
                match message:
                    case Link(index) | LinkGone(index):
                        watched = self._by_index.get((told_by, index))
                        if watched is not None:
                            self._told(watched, message)

    def _told(self, watched: Watched, message: Link | LinkGone) -> None:
        if isinstance(message, Link):
            watched.link(message)
        else:
            self.forget(watched)
            self._look(watched)

    # -- the host

    def _host_readable(self) -> None:
        for _ in range(_READS_PER_TURN):
            try:
                data = self._host_socket.recv(65_536)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                break  # overrun: something changed
            if any(isinstance(message, HostChanged) for message in monitor.parse(data, arrivals=True)):
                break
        self._loop.remove_reader(self._host_socket)
        self._settling = self._loop.call_later(SETTLE_S, self._settled)

    def _settled(self) -> None:
        self._settling = None
        monitor.throw_away(self._host_socket)
        self._loop.add_reader(self._host_socket, self._host_readable)
        self._tell_host()


def _with_room(sock: socket.socket) -> socket.socket:
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:  # root of a user namespace has the system's limit; an overrun is noticed and all is asked anew
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    return sock
