"""
The MTU of each tunnel of a node file: what it says, or the route to its remote less the layers in front of each packet.

A protected tunnel's layers are those of the heaviest suite that it offers (`config.layers`): what is agreed on may allow more.
The route is the kernel's answer, for the mark and device that the tunnel's packets have, at the moment of `up`. A remote that is
reached through another tunnel of the same file has no such route yet: there that tunnel's MTU counts. Without a remote to ask
for: the device below, or Ethernet's 1500.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ginnel import mtu
from ginnel.config import layers
from ginnel.config.node import PlainConfig
from ginnel.config.node_values import IPV4_MTU_MIN, IPV6_MTU_MIN
from ginnel.config.words import Route
from ginnel.errors import GinnelError
from ginnel.linux.host import Requests
from ginnel.linux.mtu import ETHERNET_MTU
from ginnel.units import Prefix

#: Of a tunnel over another: the engine drops what is nested deeper, too.
NESTED_MAX = 5


@dataclass(frozen=True, slots=True)
class Sizes:
    """
    The MTU of each tunnel by name; the tunnels whose remote has no route now; what would fit those that the file gives more.
    """

    mtus: dict[str, int]
    routeless: tuple[str, ...]
    too_large: dict[str, int]


def largest(tunnels: Sequence[PlainConfig], requests: Requests, remotes: Mapping[str, bytes]) -> Sizes:
    """
    The MTU of each tunnel.

    Args:
        remotes: packed address by tunnel, of those that have one now.

    Raises:
        GinnelError: a tunnel's path is too small for what it is to carry.
    """
    links = {link.name: link for link in requests.links()}
    by_index = {link.index: link for link in links.values()}
    below = _Below(tunnels)
    found: dict[str, int] = {}
    routeless: dict[str, None] = {}
    too_large: dict[str, int] = {}

    def of(tunnel: PlainConfig, depth: int) -> int:
        if tunnel.name not in found:
            room = mtu.room(layers.stacks(tunnel), path(tunnel, depth))
            found[tunnel.name] = tunnel.mtu if tunnel.mtu is not None else _checked(tunnel, room)
            if found[tunnel.name] > room and tunnel.name in remotes:
                too_large[tunnel.name] = room
        return found[tunnel.name]

    def path(tunnel: PlainConfig, depth: int) -> int:
        device = links.get(tunnel.dev)
        remote = remotes.get(tunnel.name)
        if remote is not None and not tunnel.dev and depth < NESTED_MAX:
            carrier = below.carrier(remote)
            if carrier is not None and carrier.name != tunnel.name:
                return of(carrier, depth + 1)
        way = requests.way(remote, mark=tunnel.fwmark, device=device.index if device else 0) if remote is not None else None
        if way is None and remote is not None:
            routeless[tunnel.name] = None
        if way is not None and way.mtu:
            return way.mtu
        through = by_index.get(way.index, device) if way is not None else device
        return through.mtu if through is not None else ETHERNET_MTU

    mtus = {tunnel.name: of(tunnel, 0) for tunnel in tunnels}
    return Sizes(mtus, tuple(routeless), too_large)


def _checked(tunnel: PlainConfig, size: int) -> int:
    inside = [*tunnel.address, *(text.split()[0] for text in tunnel.routes)]
    six = tunnel.kind == "sit" or any(":" in text for text in inside)
    least = IPV6_MTU_MIN if six else IPV4_MTU_MIN
    if size < least:
        raise GinnelError(
            f"{tunnel.name}: the path to {tunnel.remote} leaves {size} bytes for a packet, and "
            f"{'IPv6' if six else 'IPv4'} needs {least}\n"
            "  hint: mtu = 1280 sends large packets in fragments where the path allows it (pmtudisc = false)"
        )
    # Loopback's 65536 and the like: a packet's length has 16 bits.
    return min(size, mtu.room(layers.stacks(tunnel), 65535))


class _Below:
    """Which tunnel of the file carries an address, by the longest prefix of their addresses and routes in the main table."""

    def __init__(self, tunnels: Sequence[PlainConfig]) -> None:
        self._held: dict[Prefix, PlainConfig] = {}
        for tunnel in tunnels:
            routes = [route for route in map(Route.parse, tunnel.routes) if not route.table]
            for prefix in (*map(Prefix.parse, tunnel.address), *(route.prefix for route in routes)):
                self._held.setdefault(prefix, tunnel)
        self._lengths: Mapping[int, list[int]] = {
            size: sorted({prefix.length for prefix in self._held if len(prefix.packed) == size}, reverse=True) for size in (4, 16)
        }

    def carrier(self, packed: bytes) -> PlainConfig | None:
        number, width = int.from_bytes(packed, "big"), len(packed) * 8
        for length in self._lengths[len(packed)]:
            network = (number >> (width - length) << (width - length)).to_bytes(len(packed), "big")
            if (tunnel := self._held.get(Prefix(network, length))) is not None:
                return tunnel
        return None


def numeric(address: str) -> bytes | None:
    """A numeric address packed; None for a name and for "any"."""
    try:
        return ipaddress.ip_address(address).packed
    except ValueError:
        return None


def family_of(tunnel: PlainConfig) -> socket.AddressFamily:
    """AF_INET or AF_INET6, of the delivery header."""
    return socket.AF_INET if tunnel.family == 4 else socket.AF_INET6
