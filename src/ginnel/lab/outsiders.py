"""
Who comes from outside to a protected origin, in the lab: for each edge a client, for each origin an attacker. Pure.

All of them live in the internet's namespace, under addresses of their own, and it routes what they send by who sends it:

    a client    the addresses are where its edge is, as a network that announces them at several places routes them
    an attacker has found out where the origin is: the addresses are behind the origin's own wire

The internet takes from each wire only what it would send there, for whoever it is meant (`topology`): an answer that a client
gets came by the client's edge, and by no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ginnel.network import Network
from ginnel.network.model import Protect
from ginnel.units import Prefix

#: The internet's routing tables for what they send.
FIRST_CLIENT_TABLE = 2000
FIRST_ATTACKER_TABLE = 4000


@dataclass(frozen=True, slots=True)
class Outsider:
    """Somebody on the internet. near: whose wire the protected addresses are behind, for them. table: the internet's, of it."""

    near: str
    table: int
    v4: str
    v6: str

    def address(self, version: int) -> str:
        """Where it sends from."""
        return self.v4 if version == 4 else self.v6


@dataclass(frozen=True, slots=True)
class Outsiders:
    """All of them: by edge, and by origin."""

    clients: Mapping[str, Outsider]
    attackers: Mapping[str, Outsider]

    def listening(self) -> tuple[str, ...]:
        """The addresses of attackers, who hear an answer by whichever wire it comes."""
        return tuple(address for each in self.attackers.values() for address in (each.v4, each.v6))


def outsiders(network: Network, allocate: Callable[[], str]) -> Outsiders:
    """
    Those that the protected origins of *network* need.

    Args:
        allocate: gives a free IPv4 address of the internet.
    """
    edges = dict.fromkeys(edge for protect in network.protects for edge in protect.edges)
    origins = dict.fromkeys(protect.origin for protect in network.protects)

    def made(names: dict[str, None], first_table: int, subnet: str) -> dict[str, Outsider]:
        return {
            name: Outsider(name, first_table + number, allocate(), f"{subnet}::{number + 1:x}")
            for number, name in enumerate(names)
        }

    return Outsiders(
        made(edges, FIRST_CLIENT_TABLE, "2001:db8:fffe"),
        made(origins, FIRST_ATTACKER_TABLE, "2001:db8:fffd"),
    )


def commands(
    network: Network, found: Outsiders, ports: Mapping[str, str], routes: Mapping[str, tuple[str, ...]]
) -> Iterator[str]:
    """
    What the internet is told, in the words of `ip -batch`.

    Args:
        ports: its interface towards each node.
        routes: its routes there: "ADDRESS/LENGTH …", of both versions.
    """
    for someone in (*found.clients.values(), *found.attackers.values()):
        yield f"addr add {someone.v4}/32 dev lo"
        yield f"addr add {someone.v6}/128 dev lo nodad"
        yield f"rule add from {someone.v4} lookup {someone.table}"
        yield f"-6 rule add from {someone.v6} lookup {someone.table}"
    for protect in network.protects:
        for prefix in protect.addresses:
            for edge in protect.edges:
                yield f"route replace {way(protect, prefix, edge, ports, routes)} table {found.clients[edge].table}"
            yield f"route replace {way(protect, prefix, protect.edges[0], ports, routes)}"
            attacker = found.attackers[protect.origin]
            yield f"route replace {_via(prefix, protect.origin, ports, routes)} table {attacker.table}"


def way(protect: Protect, prefix: Prefix, edge: str, ports: Mapping[str, str], routes: Mapping[str, tuple[str, ...]]) -> str:
    """The internet's route to a protected prefix by an edge: routed to it, or on the edge's own network, where it answers ARP."""
    return f"{prefix} dev {ports[edge]}" if protect.uplink else _via(prefix, edge, ports, routes)


def _via(prefix: Prefix, node: str, ports: Mapping[str, str], routes: Mapping[str, tuple[str, ...]]) -> str:
    for route in routes[node]:
        words = route.split()
        if (":" in words[0]) == (prefix.version == 6):
            if "via" in words:  # behind a NAT, by its own address on the wire
                return f"{prefix} via {words[words.index('via') + 1]} dev {ports[node]}"
            return f"{prefix} via {words[0].partition('/')[0]} dev {ports[node]}{' onlink' if prefix.version == 4 else ''}"
    raise KeyError(node)
