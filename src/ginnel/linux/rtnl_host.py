"""
rtnetlink about the host itself: addresses on lo, prefixes that are its own as a whole, addresses that it answers ARP and NDP for.

A prefix as a whole is one route of type local: every address of it is the host's (IPv6 sockets bind to one of them only with
IP_FREEBIND, or to none by listening everywhere). An address that is answered for needs neither proxy_arp nor a range: ARP
looks for exactly it; NDP wants proxy_ndp as well.

Source: linux/rtnetlink.h, linux/neighbour.h; ip-route(8), ip-neighbour(8).
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from ginnel.linux.rtnl import Index, Message, attribute, u32
from ginnel.units import Prefix

_NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE, _NEWNEIGH, _DELNEIGH = 20, 21, 24, 25, 28, 29
_CREATE, _EXCL = 0x400, 0x200
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF = 1, 4
_LOCAL_TABLE, _PROTOCOL_BOOT, _SCOPE_UNIVERSE, _SCOPE_HOST, _LOCAL = 255, 3, 0, 254, 2
_NDA_DST, _NTF_PROXY, _NUD_PERMANENT = 1, 0x08, 0x80
LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """One address of the host, on lo."""

    address: Prefix
    delete: bool = False

    @property
    def words(self) -> str:
        """See `rtnl.Request`."""
        return f"ip address {'delete' if self.delete else 'add'} {self.address} dev {LOOPBACK}"

    def message(self, index: Index) -> Message:
        """See `rtnl.Request`."""
        packed = self.address.packed
        body = struct.pack("=BBBBI", _family(packed), self.address.length, 0, _SCOPE_UNIVERSE, index(LOOPBACK))
        body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
        return (_DELADDR, 0, body) if self.delete else (_NEWADDR, _CREATE | _EXCL, body)


@dataclass(frozen=True, slots=True)
class OwnPrefix:
    """Every address of a prefix is the host's."""

    prefix: Prefix
    delete: bool = False

    @property
    def words(self) -> str:
        """See `rtnl.Request`."""
        verb = "delete" if self.delete else "add"
        return f"ip -{self.prefix.version} route {verb} local {self.prefix} dev {LOOPBACK}"

    def message(self, index: Index) -> Message:
        """See `rtnl.Request`."""
        packed = self.prefix.packed
        body = struct.pack(
            "=BBBBBBBBI", _family(packed), self.prefix.length, 0, 0, _LOCAL_TABLE, _PROTOCOL_BOOT, _SCOPE_HOST, _LOCAL, 0
        )
        body += attribute(_RTA_DST, packed) + u32(_RTA_OIF, index(LOOPBACK))
        return (_DELROUTE, 0, body) if self.delete else (_NEWROUTE, _CREATE | _EXCL, body)


@dataclass(frozen=True, slots=True)
class Proxied:
    """An address that the host answers for on the network of *device*."""

    address: Prefix
    device: str
    delete: bool = False

    @property
    def words(self) -> str:
        """See `rtnl.Request`."""
        verb = "delete" if self.delete else "add"
        return f"ip neighbour {verb} proxy {self.address.address} dev {self.device}"

    def message(self, index: Index) -> Message:
        """See `rtnl.Request`."""
        packed = self.address.packed
        body = struct.pack("=BBHIHBB", _family(packed), 0, 0, index(self.device), _NUD_PERMANENT, _NTF_PROXY, 0)
        body += attribute(_NDA_DST, packed)
        return (_DELNEIGH, 0, body) if self.delete else (_NEWNEIGH, _CREATE | _EXCL, body)


def _family(packed: bytes) -> int:
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6
