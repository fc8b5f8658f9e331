"""
Protected origins: what `[[protect]]` makes of the links between edges and the origin behind them.

    client ── internet ── edge ═══ link ═══ origin         the addresses are routed to the edge and live on the origin

    edge     a route to the addresses by the link (of WireGuard: AllowedIPs of the origin), forwarding, no NAT: the origin sees
             who asks
    origin   takes from the link whatever the source, and answers by the link that a connection came by: each edge has a number,
             a routing table (`table_of`) whose default route leads to it, and where there are several edges a connection mark
             (`mark_of`) that chooses the table; what the origin begins under a protected address goes by the first edge. All
             else goes its usual way.

WireGuard knows a peer by the sources that it may send, and only one peer of an interface may send everything. So at the origin
each edge has an interface of its own, with the same key; only where the node's own would otherwise have no peer (all are edges)
the first edge stays on it, with its table. On an interface beside the node's own the origin speaks first and goes on speaking,
behind NAT or not: it needs no port that the edges would have to know, and its address is in none of their files.

Source: crypto-key routing, WireGuard paper 2.1; ip-rule(8), fwmark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ginnel.config.words import Rule
from ginnel.network.model import NAT_KEEPALIVE_S, Network, Node, Protect
from ginnel.network.paths import Paths
from ginnel.units import Prefix

if TYPE_CHECKING:  # they have this as their last step
    from ginnel.network.compile import NodeDescription, PeerDescription, TunnelDescription

#: The bits of packet and connection marks that say by which edge; others of the host keep theirs.
MARK_MASK = 0xFF00_0000
_MARK_SHIFT = 24
MAX_EDGES = 255
#: Tables and priorities of rules are counted from here: far from what wg-quick (51820, 32764) and people (small numbers) use.
FIRST_TABLE = 20_100
#: Rules by mark come before rules by source.
_FROM_PRIORITY = 20_400

_PREFIX, _ROOM = "wg-", 12


def edges_of(protects: Iterable[Protect], origin: str) -> tuple[str, ...]:
    """The edges of *origin*, each once, in the order of the file: the first is number 1."""
    return tuple(dict.fromkeys(edge for protect in protects if protect.origin == origin for edge in protect.edges))


def addresses_behind(protects: Iterable[Protect], origin: str, edge: str) -> tuple[Prefix, ...]:
    """What *edge* takes for *origin*."""
    found = (protect.addresses for protect in protects if protect.origin == origin and edge in protect.edges)
    return tuple(dict.fromkeys(prefix for addresses in found for prefix in addresses))


def addresses_of(protects: Iterable[Protect], origin: str) -> tuple[Prefix, ...]:
    """All protected addresses of *origin*."""
    found = (protect.addresses for protect in protects if protect.origin == origin)
    return tuple(dict.fromkeys(prefix for addresses in found for prefix in addresses))


def several(protects: Iterable[Protect], origin: str) -> bool:
    """Whether *origin* has to remember by which edge a connection came; the one edge is known by the source address alone."""
    return len(edges_of(protects, origin)) > 1


def mark_of(number: int) -> int:
    """The mark of connections that came by the edge with this number (from 1)."""
    return number << _MARK_SHIFT


def table_of(number: int) -> int:
    """The routing table whose default route leads to the edge with this number."""
    return FIRST_TABLE + number


def rules_of(protects: Iterable[Protect], origin: str, edge: str) -> tuple[Rule, ...]:
    """The policy rules at *origin* that lead to *edge*, with their priorities."""
    protects = tuple(protects)
    number = edges_of(protects, origin).index(edge) + 1
    table, mark = str(table_of(number)), mark_of(number)
    addresses = addresses_behind(protects, origin, edge)
    # A rule that says no more than a mark would be for both versions.
    all_of = dict.fromkeys(Prefix(bytes(len(prefix.packed)), 0) for prefix in addresses)
    marked = (
        Rule(table, source=every, mark=mark, mask=MARK_MASK, priority=table_of(number), version=every.version) for every in all_of
    )
    sent = (Rule(table, source=prefix, priority=_FROM_PRIORITY + number, version=prefix.version) for prefix in addresses)
    return (*marked, *sent) if several(protects, origin) else tuple(sent)


def device_name(edge: str) -> str:
    """What the interface is called that leads to *edge* alone: at most 15 characters, readable, the same for ever."""
    if len(edge) <= _ROOM:
        return _PREFIX + edge
    mark = hashlib.sha256(edge.encode()).hexdigest()[:4]
    return f"{_PREFIX}{edge[: _ROOM - 5]}.{mark}"


def apart(network: Network, paths: Paths, origin: str) -> tuple[str, ...]:
    """The edges to which *origin* has a WireGuard interface beside its own."""
    edges = edges_of(network.protects, origin)
    if not edges:
        return ()
    peers = [name for name in paths.neighbours(origin) if not paths.link(origin, name).point_to_point]
    mine = tuple(edge for edge in edges if edge in peers)
    # A routing table that the file gives the node's own interface is not ours to change.
    return mine if len(mine) < len(peers) or network.node(origin).table != "auto" else mine[1:]


def arranged(description: NodeDescription, network: Network, paths: Paths) -> NodeDescription:
    """
    What a node runs, with its part in the network's protected origins.

    Args:
        description: the same without; its `protects` name the node.

    Returns:
        that description where they are none.
    """
    protects, name = description.protects, description.name
    if not protects:
        return description
    for origin in dict.fromkeys(protect.origin for protect in protects if name in protect.edges):
        description = _as_edge(description, network, paths, origin)
    if edges_of(protects, name):
        description = _as_origin(description, paths, apart(network, paths, name))
    return description


# ---------------------------------------------------------------- the edge


def _as_edge(description: NodeDescription, network: Network, paths: Paths, origin: str) -> NodeDescription:
    addresses = addresses_behind(description.protects, origin, description.name)
    speaks_first = description.name in apart(network, paths, origin)

    def peer(each: PeerDescription) -> PeerDescription:
        if each.name != origin:
            return each
        allowed = (*each.allowed_ips, *(prefix for prefix in addresses if prefix not in each.allowed_ips))
        return replace(each, allowed_ips=allowed, endpoint=None if speaks_first else each.endpoint)

    def tunnel(each: TunnelDescription) -> TunnelDescription:
        if each.peer != origin:
            return each
        routes = (*each.config.routes, *(text for prefix in addresses if (text := str(prefix)) not in each.config.routes))
        return replace(each, config=replace(each.config, routes=routes))

    return replace(
        description,
        forwards=True,
        peers=tuple(map(peer, description.peers)),
        tunnels=tuple(map(tunnel, description.tunnels)),
    )


# ---------------------------------------------------------------- the origin


def _as_origin(description: NodeDescription, paths: Paths, beside: tuple[str, ...]) -> NodeDescription:
    protects, name = description.protects, description.name
    edges = edges_of(protects, name)

    def everything(edge: str) -> tuple[Prefix, ...]:
        versions = {prefix.version for prefix in addresses_behind(protects, name, edge)}
        return tuple(Prefix(bytes(4 if version == 4 else 16), 0) for version in sorted(versions))

    def peer(each: PeerDescription) -> PeerDescription:
        if each.name not in edges:
            return each
        first = everything(each.name)
        keepalive_s = each.keepalive_s or (NAT_KEEPALIVE_S if each.name in beside else 0)
        allowed = (*first, *(prefix for prefix in each.allowed_ips if prefix not in first))
        return replace(each, allowed_ips=allowed, keepalive_s=keepalive_s)

    def tunnel(each: TunnelDescription) -> TunnelDescription:
        if each.peer not in edges:
            return each
        table = table_of(edges.index(each.peer) + 1)
        routes = (*each.config.routes, *(f"{prefix} table {table}" for prefix in everything(each.peer)))
        rules = (*each.config.rules, *map(str, rules_of(protects, name, each.peer)))
        return replace(each, config=replace(each.config, routes=routes, rules=rules))

    peers = tuple(map(peer, description.peers))
    own = tuple(each for each in peers if each.name not in beside)
    here = next((each.name for each in own if each.name in edges), None)
    own_node = description.node
    if here is not None:
        own_node = replace(own_node, table=str(table_of(edges.index(here) + 1)))
    # Interfaces that share the network share no subnet: each prefix has its own route to the one that leads there.
    hosts = tuple(replace(address, length=len(address.packed) * 8) for address in description.address)
    alone = tuple(
        replace(
            description,
            node=_beside_node(description.node, str(table_of(edges.index(each.name) + 1))),
            interface=paths.link(name, each.name).end(name).device or device_name(each.name),
            address=hosts,
            listen_port=0,
            peers=(each,),
            tunnels=(),
            dns=(),
            search=(),
            masquerades=(),
            beside_of=description.interface,
        )
        for edge in edges
        for each in peers
        if each.name == edge and edge in beside
    )
    return replace(
        description,
        node=own_node,
        address=hosts if alone else description.address,
        peers=own,
        tunnels=tuple(map(tunnel, description.tunnels)),
        beside=alone,
    )


def _beside_node(node: Node, table: str) -> Node:
    """Hooks and names are the business of the node's own interface."""
    return replace(node, table=table, hooks=(), dns=(), search=())
