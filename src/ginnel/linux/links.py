"""
All interfaces of this network namespace, by one request to the kernel; nothing to import, for `show`.

sysfs would not do: its view is of the namespace in which it was mounted.

    nlmsghdr (16) | ifinfomsg (16): family, type, index, flags, change | attributes: length, type, value padded to 4

Source: rtnetlink(7); linux/if_link.h.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from ginnel.errors import KernelError

_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_NLM_F_REQUEST, _NLM_F_DUMP = 1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_STATS64, _IFLA_INFO_KIND, _IFLA_INFO_DATA = 3, 4, 18, 23, 1, 2
_NLA_TYPE_MASK = 0x3FFF
_IFF_UP = 1
_RECEIVE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Link:
    """
    One interface; *kind* is "wireguard", "tun", … or empty for hardware and loopback.

    data: that kind's own attributes. stats: what it counted, a struct rtnl_link_stats64.
    """

    name: str
    index: int
    mtu: int
    is_up: bool
    kind: str
    data: bytes = field(default=b"", repr=False)
    stats: bytes = field(default=b"", repr=False, compare=False)


def links() -> list[Link]:
    """Every interface, in the kernel's order; KernelError when the kernel refuses."""
    with contextlib.closing(
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    ) as kernel:
        kernel.bind((0, 0))
        request = struct.pack("=IHHIIBxHiII", 32, _RTM_GETLINK, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0, 0, 0, 0, 0, 0)
        kernel.send(request)
        found: list[Link] = []
        while True:
            data = kernel.recv(_RECEIVE_BYTES)
            offset = 0
            while offset + 16 <= len(data):
                length, kind = struct.unpack_from("=IH", data, offset)
                if length < 16 or kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR:
                    raise KernelError("ip link show", -struct.unpack_from("=i", data, offset + 16)[0])
                if kind == _RTM_NEWLINK:
                    found.append(_link(data[offset + 16 : offset + length]))
                offset += (length + 3) & ~3


def link(name: str) -> Link | None:
    """The interface *name*, or None."""
    return next((each for each in links() if each.name == name), None)


def _link(message: bytes) -> Link:
    index, flags = struct.unpack_from("=iI", message, 4)
    attributes = dict(attributes_of(message[16:]))
    info = dict(attributes_of(attributes.get(_IFLA_LINKINFO, b"")))
    return Link(
        name=_text(attributes.get(_IFLA_IFNAME, b"")),
        index=index,
        mtu=struct.unpack("=I", attributes[_IFLA_MTU])[0] if _IFLA_MTU in attributes else 0,
        is_up=bool(flags & _IFF_UP),
        kind=_text(info.get(_IFLA_INFO_KIND, b"")),
        data=info.get(_IFLA_INFO_DATA, b""),
        stats=attributes.get(_IFLA_STATS64, b""),
    )


def attributes_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each netlink attribute in *data*."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & _NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
