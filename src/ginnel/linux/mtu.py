"""
The MTU of a tunnel from the paths below it.

For each endpoint the route's MTU, else its device's; the smallest of them, since a packet must fit whichever peer it goes to.
Without endpoints the default route's, else 1500. Less WireGuard's layers over IPv6, the largest that there can be.

Source: wg-quick(8), set_mtu_up; the smallest rather than the largest since its version of 2026.
"""

from __future__ import annotations

from collections.abc import Iterable

from ginnel import mtu
from ginnel.linux.host import Kernel

ETHERNET_MTU = 1500


def path_mtu(kernel: Kernel, endpoints: Iterable[str]) -> int:
    """
    What the paths to all *endpoints* carry.

    Args:
        endpoints: addresses, numeric, without ports; each is asked for once.
    """
    paths = [found for address in dict.fromkeys(endpoints) if (found := kernel.mtu_towards(address)) is not None]
    return min(paths) if paths else kernel.default_route_mtu() or ETHERNET_MTU


def from_routes(kernel: Kernel, endpoints: Iterable[str]) -> int:
    """The MTU for a WireGuard tunnel to *endpoints*; see `path_mtu`."""
    return mtu.wireguard(6).inner(path_mtu(kernel, endpoints))
