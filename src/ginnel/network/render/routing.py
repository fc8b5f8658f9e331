"""
What wg-quick would route through an interface, as values: for formats whose readers do not work it out themselves.

A prefix that a peer has is routed through the interface, unless an address of the interface has it on-link already; the longer
first. `table` "off": nothing is; a number or a name: there, whatever it is. With "auto", everything (0.0.0.0/0 or ::/0) is
taken by two rules instead of a route in the main table: what does not carry the tunnel's own mark looks into a table of the
tunnel's, and before that into the main table without its default route, so that what is near stays near.

Source: wg-quick(8), `Table`, and its add_route, add_default.
"""

from __future__ import annotations

from dataclasses import dataclass

from ginnel.network.compile import NodeDescription
from ginnel.units import Prefix

#: wg-quick's first choice for table and mark. One full tunnel a host: two would each take everything.
FULL_TABLE = 51820


@dataclass(frozen=True, slots=True)
class Routing:
    """
    routes: through the interface, in `table` ("" main). full: the IP versions of which everything goes through it, by way of
    the table whose number is `mark`. mark: what its own packets carry (0: nothing).
    """

    routes: tuple[Prefix, ...] = ()
    table: str = ""
    full: tuple[int, ...] = ()
    mark: int = 0


def routing(description: NodeDescription) -> Routing:
    """The routes of the node's WireGuard interface."""
    node = description.node
    if not description.wireguard or node.table == "off":
        return Routing(mark=node.fwmark if description.wireguard else 0)
    prefixes = sorted(
        {prefix for peer in description.peers for prefix in peer.allowed_ips}, key=lambda each: (each.version, -each.length, each)
    )
    on_link = [Prefix(_masked(address.packed, address.length), address.length) for address in description.address]
    routes = [prefix for prefix in prefixes if not any(_within(prefix, near) for near in on_link)]
    if node.table != "auto":
        return Routing(tuple(routes), "" if node.table == "main" else node.table, (), node.fwmark)
    full = tuple(prefix.version for prefix in routes if prefix.length == 0)
    mark = node.fwmark or (FULL_TABLE if full else 0)
    return Routing(tuple(prefix for prefix in routes if prefix.length), "", full, mark)


def _within(inner: Prefix, outer: Prefix) -> bool:
    same = len(inner.packed) == len(outer.packed)
    return same and inner.length >= outer.length and _masked(inner.packed, outer.length) == outer.packed


def _masked(packed: bytes, length: int) -> bytes:
    shift = len(packed) * 8 - length
    return (int.from_bytes(packed, "big") >> shift << shift).to_bytes(len(packed), "big")
