"""
What there is to be seen of a network: who it has, in which roles, who is linked with whom and how, who is near whom.

Roles are what others depend on: a hub, a relay, an exit, an edge and the origin behind it. `nat` and what a node runs are beside.
Links are those that the network has; a pair that reaches each other through a relay has none, and is listed (`relayed`) only when
asked for. Cells are regions, or without them the groups; a node in none is in the nameless cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ginnel.network.compile import Compilation
from ginnel.network.links import State
from ginnel.network.model import Network, Node
from ginnel.network.paths import Paths

#: Pairs through a relay that are drawn at most: beyond it is a picture of nothing.
RELAYED_MAX = 300

KINDS = {
    "wireguard": "WireGuard",
    "gre": "GRE, in clear",
    "gre+ipsec": "GRE over IPsec",
    "ipsec": "IPsec",
}


@dataclass(frozen=True, slots=True)
class Actor:
    """
    One node. labels: its LANs and protected addresses, in file order. exit: through whom all its traffic leaves. cell: its index
    in `Scene.cells`.
    """

    name: str
    roles: tuple[str, ...]
    nat: bool
    runs: str
    labels: tuple[str, ...]
    exit: str | None
    cell: int


@dataclass(frozen=True, slots=True)
class Wire:
    """One link. held: it carries only when another fails. exits: the end through which all traffic of the other leaves, or ""."""

    left: str
    right: str
    kind: str
    held: bool = False
    exits: str = ""

    @property
    def style(self) -> tuple[str, bool, str]:
        """What links have in common that may be drawn as one."""
        return self.kind, self.held, self.exits


@dataclass(frozen=True, slots=True)
class Cell:
    """Nodes that belong together. what: "region", "group", or "" for those in none."""

    name: str
    what: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """See the module; everything in file order."""

    name: str
    facts: tuple[str, ...]
    actors: tuple[Actor, ...]
    wires: tuple[Wire, ...]
    cells: tuple[Cell, ...]
    relayed: tuple[tuple[str, str, str], ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of links that there are, in the order of `KINDS`."""
        there = {wire.kind for wire in self.wires}
        return tuple(kind for kind in KINDS if kind in there)


def see(compilation: Compilation, *, relayed: bool = False) -> Scene:
    """
    Look at a network.

    Args:
        compilation: its paths say who is linked.
        relayed: also the pairs that reach each other through a relay, as (one, other, relay); RELAYED_MAX at most.
    """
    network, paths = compilation.network, compilation.paths
    cells = _cells(network)
    where = {name: index for index, cell in enumerate(cells) for name in cell.members}
    roles = _roles(network)
    actors = tuple(
        Actor(node.name, roles[node.name], node.behind_nat, node.runs, _labels(network, node), node.exit, where[node.name])
        for node in network.nodes
    )
    wires = tuple(_wires(network, paths))
    facts = (_count(len(actors), "node"), _count(len(wires), "link"), ", ".join(map(str, network.pool)))
    return Scene(network.name, facts, actors, wires, cells, tuple(_relayed(network, paths)) if relayed else ())


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _wires(network: Network, paths: Paths) -> Iterator[Wire]:
    exit_of = {node.name: node.exit for node in network.nodes}
    # Only a link to a second hub is ever held, and a mesh has too many to ask of each.
    has_hubs = bool(network.hubs or any(group.hubs for group in network.groups))
    for link in paths.links:
        left, right = link.between
        exits = right if exit_of[left] == right else left if exit_of[right] == left else ""
        held = has_hubs and paths.all_links.state(left, right) is State.HELD
        yield Wire(left, right, link.kind, held, exits)


def _roles(network: Network) -> dict[str, tuple[str, ...]]:
    hubs = {*network.hubs, *(hub for group in network.groups for hub in group.hubs)}
    exits = {node.exit for node in network.nodes if node.exit is not None}
    edges = {edge for protect in network.protects for edge in protect.edges}
    origins = {protect.origin for protect in network.protects}
    found = {}
    for node in network.nodes:
        # A hub carries anyhow: "relay" would say nothing more.
        tried = (
            ("hub", node.name in hubs),
            ("relay", node.relay and node.name not in hubs),
            ("exit", node.name in exits),
            ("edge", node.name in edges),
            ("origin", node.name in origins),
        )
        found[node.name] = tuple(role for role, has in tried if has)
    return found


def _labels(network: Network, node: Node) -> tuple[str, ...]:
    real = {mapped.seen: mapped.real for mapped in node.mapped}
    labels = [f"{lan} ← {real[lan]}" if lan in real else str(lan) for lan in node.lans]
    for protect in network.protects:
        if protect.origin == node.name:
            labels += [f"{prefix} protected" for prefix in protect.addresses]
    return tuple(labels)


def _cells(network: Network) -> tuple[Cell, ...]:
    """Regions where there are any, else groups; a node of several groups is drawn in the first."""
    named: dict[str, list[str]] = {}
    what = "region" if any(node.region is not None for node in network.nodes) else "group"
    if what == "region":
        named |= {region.name: [] for region in network.regions}
        claimed = {node.name: node.region for node in network.nodes if node.region is not None}
    else:
        claimed = {}
        for group in network.groups:
            if len(group.nodes) > 1:
                named[group.name] = []
                for name in group.nodes:
                    claimed.setdefault(name, group.name)
    others = []
    for node in network.nodes:
        cell = claimed.get(node.name)
        if cell is None:
            others.append(node.name)
        else:
            named.setdefault(cell, []).append(node.name)
    found = [Cell(name, what, tuple(members)) for name, members in named.items() if members]
    return (*found, Cell("", "", tuple(others))) if others or not found else tuple(found)


def _relayed(network: Network, paths: Paths) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for index, left in enumerate(network.nodes):
        for right in network.nodes[index + 1 :]:
            if paths.linked(left.name, right.name):
                continue
            path = paths.path(left.name, right.name)
            if path is not None:
                found.append((left.name, right.name, path[1]))
                if len(found) == RELAYED_MAX:
                    return found
    return found
