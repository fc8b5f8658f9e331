"""
Who is linked to whom, and through whom the others are reached.

Links are a pure function of the shape: a mesh links every two nodes of which at least one can be reached from outside;
a hub links everybody to the hub; `[[link]]`s are added to either (or say how one of its links differs), and are all there is
in shape "none".

Two nodes without a link reach each other through nodes that may carry (relays, the hub). WireGuard checks the source of
every packet against the peer it came from, so the way back must be the way there, and every part of a path must itself
be the chosen path between its ends. A link whose routes are somebody else's business (a routing daemon's) is no part of any
path. Shortest paths have both properties when no two paths ever cost the same: the cost
is (hops, relays by their order in the file, a fingerprint of the links), added up and compared in that order.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator

from ginnel.network.model import POINT_TO_POINT, PROTECTED, Link, Network, Node

#: A path's cost: hops, the relays it uses (a bit each, earlier in the file = cheaper), and a tie-breaker.
_Cost = tuple[int, int, int]


def links_of(network: Network) -> tuple[Link, ...]:
    """Every link of the network, in file order, each once."""
    found: dict[frozenset[str], Link] = {}
    for link in _shape_links(network):
        found[frozenset(link.between)] = link
    for link in network.links:  # what the file says of a link goes before what the shape says of all
        found[frozenset(link.between)] = link
    return tuple(found.values())


def _shape_links(network: Network) -> Iterator[Link]:
    if network.shape == "mesh":
        for index, left in enumerate(network.nodes):
            for right in network.nodes[index + 1 :]:
                if not (left.behind_nat and right.behind_nat):
                    yield _shape_link(network, left.name, right.name)
    elif network.shape == "hub" and network.hubs:
        for node in network.nodes:
            if node.name != network.hubs[0]:
                yield _shape_link(network, network.hubs[0], node.name)


def _shape_link(network: Network, left: str, right: str) -> Link:
    kind = network.kind
    gre = network.gre if kind in POINT_TO_POINT else None
    return Link((left, right), kind, gre, network.ipsec if kind in PROTECTED else None)


class Paths:
    """Next hops between all nodes of a network."""

    def __init__(self, network: Network) -> None:
        """Compute all paths: direct where there is a link, otherwise through carriers."""
        self.network = network
        self.links = links_of(network)
        self._links = {frozenset(link.between): link for link in self.links}
        self._adjacent: dict[str, dict[str, int]] = {node.name: {} for node in network.nodes}
        self._others: dict[str, set[str]] = {node.name: set() for node in network.nodes}
        self._kinds: dict[str, set[str]] = {node.name: set() for node in network.nodes}
        for link in self.links:
            left, right = link.between
            self._others[left].add(right)
            self._others[right].add(left)
            self._kinds[left].add(link.kind)
            self._kinds[right].add(link.kind)
            if not link.routed:
                continue
            mark = _fingerprint(left, right)
            self._adjacent[left][right] = mark
            self._adjacent[right][left] = mark
        carriers = [node.name for node in network.nodes if network.carries(node)]
        self._weight = {name: 1 << index for index, name in enumerate(carriers)}
        self._next: dict[str, dict[str, str]] = {}

    def neighbours(self, node: str) -> tuple[str, ...]:
        """The nodes that *node* has a link with, in file order."""
        others = self._others[node]
        return tuple(other.name for other in self.network.nodes if other.name in others)

    def link(self, left: str, right: str) -> Link:
        """The link between two neighbours; KeyError when they have none."""
        return self._links[frozenset((left, right))]

    def kinds_at(self, node: str) -> frozenset[str]:
        """Of what kinds the links are that end at *node*."""
        return frozenset(self._kinds[node])

    def point_to_point_at(self, node: str) -> tuple[Link, ...]:
        """The links that end at *node* in a device of their own, by the order of the neighbours in the file."""
        if self._kinds[node].isdisjoint(POINT_TO_POINT):
            return ()
        found = (self.link(node, other) for other in self.neighbours(node))
        return tuple(link for link in found if link.point_to_point)

    def next_hop(self, source: str, target: str) -> str | None:
        """The peer to which *source* hands what is for *target*; None when nothing carries between them."""
        if target in self._adjacent[source]:
            return target
        if source not in self._next:
            self._next[source] = self._search(source)
        return self._next[source].get(target)

    def path(self, source: str, target: str) -> tuple[str, ...] | None:
        """All nodes from *source* to *target*, both included."""
        path = [source]
        while path[-1] != target:
            following = self.next_hop(path[-1], target)
            if following is None:
                return None
            path.append(following)
        return tuple(path)

    def _search(self, source: str) -> dict[str, str]:
        """Dijkstra over carriers: the first hop from *source* to every node it can reach."""
        best: dict[str, _Cost] = {source: (0, 0, 0)}
        first: dict[str, str] = {}
        queue: list[tuple[_Cost, str]] = [((0, 0, 0), source)]
        while queue:
            cost, here = heapq.heappop(queue)
            if cost > best[here] or (here != source and here not in self._weight):
                continue
            transit = 0 if here == source else self._weight[here]
            for other, mark in self._adjacent[here].items():
                there = (cost[0] + 1, cost[1] + transit, cost[2] + mark)
                if other not in best or there < best[other]:
                    best[other] = there
                    first[other] = other if here == source else first[here]
                    heapq.heappush(queue, (there, other))
        return first


def _fingerprint(left: str, right: str) -> int:
    names = "\0".join(sorted((left, right))).encode()
    return int.from_bytes(hashlib.sha256(names).digest()[:8], "big")


def unreachable_pairs(network: Network, paths: Paths) -> list[tuple[Node, Node]]:
    """Pairs of nodes between which nothing carries, in file order."""
    return [
        (left, right)
        for index, left in enumerate(network.nodes)
        for right in network.nodes[index + 1 :]
        if paths.next_hop(left.name, right.name) is None
    ]
