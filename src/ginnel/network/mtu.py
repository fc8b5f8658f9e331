"""
MTU as arithmetic: what the path carries, minus every layer, with the layers named.

    1500  the underlay
     -40  IPv6 header (IPv4: 20)
      -8  UDP header
     -16  WireGuard data header (type 4, receiver index 4, counter 8)
     -16  ChaCha20-Poly1305 tag
    1420  inside (over IPv4 alone: 1440)

The outer address family may change under a tunnel (roaming, a name with both A and AAAA), so the larger header counts
unless the network says `outer = "ipv4"`. Packets are padded to a multiple of 16 but never beyond the MTU, so padding costs
nothing here.

Source: WireGuard paper 5.4.6; RFC 8200 3; RFC 791 3.1; RFC 768.
"""

from __future__ import annotations

from dataclasses import dataclass

from ginnel.network.model import Outer

IPV4_HEADER_BYTES = 20
IPV6_HEADER_BYTES = 40
UDP_HEADER_BYTES = 8
DATA_HEADER_BYTES = 16
TAG_BYTES = 16
#: IPv6 demands it of every link (RFC 8200, 5); below it the kernel turns IPv6 off on the interface.
MIN_IPV6_MTU = 1280


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer on the way down: its name and what it takes."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Mtu:
    """An MTU with its derivation."""

    underlay: int
    layers: tuple[Layer, ...]

    @property
    def inner(self) -> int:
        """What is left for a packet inside the tunnel."""
        return self.underlay - sum(layer.size_bytes for layer in self.layers)

    def __str__(self) -> str:
        steps = " ".join(f"- {layer.size_bytes} ({layer.name})" for layer in self.layers)
        return f"{self.underlay} {steps} = {self.inner}"


def wireguard(underlay: int, outer: Outer = "any") -> Mtu:
    """
    The MTU inside a WireGuard tunnel.

    Args:
        underlay: what the path carries, bytes of IP packet.
        outer: "ipv4" when the tunnel never runs over IPv6.
    """
    header = Layer("IPv4", IPV4_HEADER_BYTES) if outer == "ipv4" else Layer("IPv6", IPV6_HEADER_BYTES)
    return Mtu(
        underlay,
        (header, Layer("UDP", UDP_HEADER_BYTES), Layer("WireGuard", DATA_HEADER_BYTES), Layer("tag", TAG_BYTES)),
    )
