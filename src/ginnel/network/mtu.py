"""
The MTU inside the network's WireGuard tunnels, from the arithmetic of layers in `ginnel.mtu`.

The outer address family may change under a tunnel (roaming, a name with both A and AAAA), so the larger header counts
unless the network says `outer = "ipv4"`.
"""

from __future__ import annotations

import functools

from ginnel import mtu
from ginnel.mtu import MIN_IPV6_MTU
from ginnel.network.model import Outer

__all__ = ["MIN_IPV6_MTU", "Mtu", "Outer", "wireguard"]

Mtu = mtu.Sum


@functools.cache
def wireguard(underlay: int, outer: Outer = "any") -> Mtu:
    """
    The MTU inside a WireGuard tunnel.

    Args:
        underlay: what the path carries, bytes of IP packet.
        outer: "ipv4" when the tunnel never runs over IPv6.
    """
    return mtu.wireguard(4 if outer == "ipv4" else 6).sum(underlay)
