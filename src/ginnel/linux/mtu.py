"""
The MTU of a tunnel from the paths below it.

For each endpoint the route's MTU, else its device's; the smallest of them, since a packet must fit whichever peer it goes to.
Without endpoints the default route's, else 1500. Less 80, the largest outer layers there can be: IPv6 header 40, UDP 8,
WireGuard 32.

Source: wg-quick(8), set_mtu_up; the smallest rather than the largest since its version of 2026.
"""

from __future__ import annotations

from collections.abc import Iterable

from ginnel.linux.host import Kernel

OVERHEAD_BYTES = 80
ETHERNET_MTU = 1500


def from_routes(kernel: Kernel, endpoints: Iterable[str]) -> int:
    """
    The MTU for a tunnel to *endpoints*.

    Args:
        endpoints: addresses, numeric, without ports; each is asked for once.
    """
    paths = [mtu for address in dict.fromkeys(endpoints) if (mtu := kernel.mtu_towards(address)) is not None]
    if paths:
        return min(paths) - OVERHEAD_BYTES
    return (kernel.default_route_mtu() or ETHERNET_MTU) - OVERHEAD_BYTES
