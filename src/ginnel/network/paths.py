"""
Through whom each node reaches the others.

`links` says who is linked. Two nodes without an active link reach each other through nodes that may carry (relays, hubs).
WireGuard checks the source of every packet against the peer it came from, so the way back must be the way there, and every part
of a path must itself be the chosen path between its ends. Shortest paths have both properties when what a path costs is added
up link by link, the same in both directions, and no two paths between the same ends ever cost the same. A path costs, compared
in this order:

    held       links to a second hub: they carry only where nothing else does
    hops       fewer are better: two nodes that one relay can reach never need two
    distance   between the regions of neighbours: a relay of the nodes' own region first, then by `near`
    carriers   a bit for each that it goes through, earlier in the file = lower

The last makes ties impossible: two paths through the same carriers have them in the same order, since each prefix of a
cheapest path is itself one, and so a carrier's place on both is the number of links it is away.

What a path costs does not depend on who the two nodes are, but on their *class*: region, and which carriers they are linked
with. So there is one search a class, not one a node, and of a network with thousands of spokes and a few hubs the classes
are dozens. A node with a single link that carries needs no search at all: see `sole`.

A carrier that has failed carries nothing: `without` has the paths then. Its links stay, for it will come back.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ginnel.network.links import Around, Links, State
from ginnel.network.model import POINT_TO_POINT, Link, Network, Node

_WITH_DEVICES = frozenset(POINT_TO_POINT)
#: A path's cost, see above.
_Cost = tuple[int, int, int, int]
#: In place of a hop: the link to the target itself, which is one held ready.
_ITSELF = -1
#: A hop, and a class (by number) of which all, or those that are named, are reached by it.
_Handed = tuple[int, int, tuple[str, ...] | None]


def links_of(network: Network) -> tuple[Link, ...]:
    """Every link of the network, in file order, each once; of a large mesh `Links` answers without making them."""
    return tuple(Links(network))


@dataclass(frozen=True, slots=True)
class _Class:
    """What nodes have in common that are reached alike; carriers by their index, lowest first."""

    region: str | None
    active: tuple[int, ...]
    held: tuple[int, ...]
    #: A carrier is a class of its own.
    carrier: int | None = None

    def edges(self) -> Iterator[tuple[int, int]]:
        """(carrier, 1 where the link to it is held ready)."""
        for index in self.active:
            yield index, 0
        for index in self.held:
            yield index, 1


@dataclass(slots=True)
class _Found:
    """What searches have found while certain carriers are down."""

    #: For a class: what each carrier costs, and the first one on the way.
    searches: dict[int, dict[int, tuple[_Cost, int]]] = field(default_factory=dict)
    #: For two classes.
    hops: dict[tuple[int, int], int | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Ground:
    """What does not change when a carrier fails."""

    links: Links
    carriers: tuple[str, ...]
    regions: tuple[str | None, ...]
    index: dict[str, int]
    classes: list[_Class] = field(default_factory=list)
    members: list[list[str]] = field(default_factory=list)
    class_of: dict[str, int] = field(default_factory=dict)
    merged: dict[tuple[int, ...], tuple[str, ...]] = field(default_factory=dict)
    found: dict[frozenset[str], _Found] = field(default_factory=dict)

    def classify(self, nodes: tuple[Node, ...]) -> None:
        """Fill in the classes of all nodes."""
        numbers: dict[tuple[Any, ...], int] = {}
        index = self.index
        # By the object, of which nodes that are linked alike have one; all are kept in `links`.
        among: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        for node in nodes:
            around = self.links.around(node.name)
            if (of_carriers := among.get(id(around))) is None:
                of_carriers = among[id(around)] = self._among(around.active), self._among(around.held)
            key = (node.region, *of_carriers, index.get(node.name))
            if (number := numbers.get(key)) is None:
                number = numbers[key] = len(numbers)
                self.classes.append(_Class(*key))
                self.members.append([])
            self.members[number].append(node.name)
            self.class_of[node.name] = number

    def alike(self, other: _Ground) -> bool:
        """Whether searches find the same in both, whoever belongs to the classes."""
        return (self.carriers, self.regions, self.classes, self.links.distances) == (
            other.carriers,
            other.regions,
            other.classes,
            other.links.distances,
        )

    def all_of(self, classes: tuple[int, ...]) -> tuple[str, ...]:
        """The nodes of several classes, in file order; the same object for the same classes."""
        if (found := self.merged.get(classes)) is None:
            names = (name for number in classes for name in self.members[number])
            found = self.merged[classes] = tuple(sorted(names, key=self.links.order.__getitem__))
        return found

    def _among(self, names: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(sorted([self.index[name] for name in names if name in self.index])) if names and self.index else ()


class Paths:
    """Next hops between all nodes of a network."""

    def __init__(
        self,
        network: Network,
        before: Paths | None = None,
        *,
        _while_up: Paths | None = None,
        _failed: frozenset[str] = frozenset(),
    ) -> None:
        """The paths of *network*, whose links all have two nodes of it; *before*: of the network as it was."""
        self.network = network
        self._before = before
        self._while_up = _while_up
        self._links: Links = _while_up._links if _while_up is not None else Links(network)
        self.failed = _failed
        self._without: dict[str, Paths] = {}

    # -- links

    @property
    def links(self) -> tuple[Link, ...]:
        """Every link, in file order: made when asked for, a million objects in a large mesh; see `all_links`."""
        return tuple(self._links)

    @property
    def all_links(self) -> Links:
        """The same as questions."""
        return self._links

    def neighbours(self, node: str) -> tuple[str, ...]:
        """The nodes that *node* has a link with, in file order."""
        return self._links.neighbours(node)

    def around(self, node: str) -> Around:
        """The same, by what the link is to the paths."""
        return self._links.around(node)

    def linked(self, left: str, right: str) -> bool:
        """Whether the two have a link."""
        return self._links.state(left, right) is not State.NONE

    def state(self, left: str, right: str) -> State:
        """Whether the two have a link, and what that is to the paths."""
        return self._links.state(left, right)

    def link(self, left: str, right: str) -> Link:
        """The link between two neighbours; KeyError when they have none."""
        return self._links.link(left, right)

    @cached_property
    def only_wireguard(self) -> bool:
        """Whether no link is point to point, nor would one more be that the file does not name."""
        return _WITH_DEVICES.isdisjoint((*self.network.kinds, self.network.kind))

    def kinds_at(self, node: str) -> frozenset[str]:
        """Of what kinds the links are that end at *node*."""
        if len(kinds := self._links.shape_kinds) == 1 and not self._links.differs_at(node):
            around = self.around(node)
            return kinds if around.active or around.held or around.unrouted else frozenset()
        return self._links.kinds_at(node)

    def point_to_point_at(self, node: str) -> tuple[Link, ...]:
        """The links that end at *node* in a device of their own, by the order of the neighbours in the file."""
        if self.kinds_at(node).isdisjoint(POINT_TO_POINT):
            return ()
        found = (self.link(node, other) for other in self.neighbours(node))
        return tuple(link for link in found if link.point_to_point)

    # -- paths

    def next_hop(self, source: str, target: str) -> str | None:
        """The peer to which *source* hands what is for *target*; None when nothing carries between them."""
        if self._links.state(source, target) is State.ACTIVE:
            return target
        ground = self._ground
        hop = self._hop(ground.class_of[source], ground.class_of[target])
        return hop if hop is None else self._called(hop, target)

    def path(self, source: str, target: str) -> tuple[str, ...] | None:
        """All nodes from *source* to *target*, both included."""
        path = [source]
        while path[-1] != target:
            following = self.next_hop(path[-1], target)
            if following is None:
                return None
            path.append(following)
        return tuple(path)

    def behind(self, source: str) -> dict[str, tuple[str, ...]]:
        """
        Those that *source* reaches otherwise than by an active link of its own, by the peer to which it hands what is for
        them (through the link held ready to them themselves, where nothing else leads there); in file order.

        Sources that hand the same nodes to a peer have the same tuple, where those are all that are alike (`_Class`).
        """
        if len(self.around(source).active) == len(self.network.nodes) - 1:
            return {}
        return self._named((hop, number, names) for hop, number, names in self._by_class(source))

    def standby(self, source: str) -> dict[str, tuple[str, ...]]:
        """Nodes that *source* reaches through a peer, by the peer through which it would reach them if that one failed."""
        if len(self.around(source).active) == len(self.network.nodes) - 1:
            return {}
        return self._named(self._instead(source))

    def _instead(self, source: str) -> Iterator[_Handed]:
        ground = self._ground
        for hop, number, names in self._by_class(source):
            if hop == _ITSELF or ground.classes[number].carrier == hop:
                continue
            instead = self.without(ground.carriers[hop])._hop(ground.class_of[source], number)
            if instead is not None:
                yield instead, number, names

    def _by_class(self, source: str) -> Iterator[_Handed]:
        """To which carrier *source* hands what is for which class: all of it, or those of it that are named."""
        ground, direct = self._ground, {*self.around(source).active, source}
        own = ground.class_of[source]
        for number, members in enumerate(ground.members):
            names = None if direct.isdisjoint(members) else tuple(name for name in members if name not in direct)
            if names != () and (hop := self._hop(own, number)) is not None:
                yield hop, number, names

    def _named(self, handed: Iterable[_Handed]) -> dict[str, tuple[str, ...]]:
        """By the peer that is handed them, in file order."""
        ground = self._ground
        found: dict[str, tuple[str, ...]] = {}
        by_hop: dict[int, list[tuple[int, tuple[str, ...] | None]]] = {}
        for hop, number, names in handed:
            if hop == _ITSELF:
                found |= {name: (name,) for name in names or ground.members[number]}
            else:
                by_hop.setdefault(hop, []).append((number, names))
        for hop, parts in by_hop.items():
            if all(names is None for _, names in parts):
                found[ground.carriers[hop]] = ground.all_of(tuple(number for number, _ in parts))
            else:
                each = (name for number, names in parts for name in (ground.members[number] if names is None else names))
                found[ground.carriers[hop]] = tuple(sorted(each, key=self._links.order.__getitem__))
        return found

    def sole(self, source: str) -> str | None:
        """
        The one peer through which *source* reaches all other nodes, more than that peer alone; None where there is no such peer.
        A failed neighbour does not count, for it is reached by its own link; and who had several before one failed is no
        spoke for that, so that no more moves than has to.
        """
        if source in self._ground.index or (self._while_up is not None and self._while_up.sole(source) is None):
            return None
        around = self.around(source)
        if len(around.active) > 1 + len(self.failed):
            return None
        living = [name for name in around.active if name not in self.failed] or [
            name for name in around.held if name not in self.failed
        ]
        if len(living) != 1 or len(self.network.nodes) - len(self.failed) < 3 or not self.joined:
            return None
        return living[0] if living[0] in self._ground.index else None

    def without(self, failed: str) -> Paths:
        """The paths while the node *failed* carries nothing."""
        if (found := self._without.get(failed)) is None:
            found = self._without[failed] = Paths(self.network, _while_up=self, _failed=self.failed | {failed})
        return found

    def alike(self, name: str) -> int | None:
        """A number that nodes have in common that are linked with the same carriers in the same way, and with nobody else."""
        around, number = self.around(name), self._ground.class_of[name]
        found = self._ground.classes[number]
        if found.carrier is not None or around.unrouted:
            return None
        return number if len(around.active) + len(around.held) == len(found.active) + len(found.held) else None

    @cached_property
    def _ground(self) -> _Ground:
        if self._while_up is not None:
            return self._while_up._ground
        carriers = [node for node in self.network.nodes if self.network.carries(node)]
        ground = _Ground(
            self._links,
            tuple(node.name for node in carriers),
            tuple(node.region for node in carriers),
            {node.name: index for index, node in enumerate(carriers)},
        )
        ground.classify(self.network.nodes)
        before, self._before = self._before, None
        if before is not None and (known := before.__dict__.get("_ground")) is not None and ground.alike(known):
            ground.found = known.found
        return ground

    @cached_property
    def _found(self) -> _Found:
        return self._ground.found.setdefault(self.failed, _Found())

    @cached_property
    def joined(self) -> bool:
        """Whether the living carriers are one by active links among themselves, and every node is linked with one of them."""
        ground = self._ground
        living = {index for name, index in ground.index.items() if name not in self.failed}
        if not living:
            return False
        edges = {each.carrier: each.active for each in ground.classes if each.carrier is not None}
        reached, waiting = set(), [min(living)]
        while waiting:
            here = waiting.pop()
            if here not in reached:
                reached.add(here)
                waiting += [other for other in edges[here] if other in living]
        return reached == living and all(
            each.carrier in living or not living.isdisjoint((*each.active, *each.held)) for each in ground.classes
        )

    # -- classes

    def _called(self, hop: int, target: str) -> str:
        return target if hop == _ITSELF else self._ground.carriers[hop]

    def _hop(self, source: int, target: int) -> int | None:
        """The carrier to which one class hands what is for another that it has no active link with."""
        key, hops = (source, target), self._found.hops
        if key not in hops:
            found = self._shared(source, target)
            hops[key] = self._far(source, target) if found is None else found
        return hops[key]

    def _carries(self, index: int) -> bool:
        return self._ground.carriers[index] not in self.failed

    def _length(self, region: str | None, carrier: int) -> int:
        return self._links.distances.between(region, self._ground.regions[carrier])

    def _shared(self, source: int, target: int) -> int | None:
        """The best of the carriers that both have an active link with: no other path is as short."""
        near, far = self._ground.classes[source], self._ground.classes[target]
        both = set(near.active).intersection(far.active)
        cost = {one: (self._length(near.region, one) + self._length(far.region, one), one) for one in both if self._carries(one)}
        return min(cost, key=cost.__getitem__, default=None)

    def _far(self, source: int, target: int) -> int | None:
        reached, far = self._search(source), self._ground.classes[target]
        own = self._ground.classes[source].carrier
        if far.carrier is not None:
            found = reached.get(far.carrier)
            return found[1] if found is not None else None
        best: tuple[_Cost, int] | None = None
        for carrier, held in far.edges():
            edge = (held, 1, self._length(far.region, carrier), 0)
            if carrier == own:
                candidate = (edge, _ITSELF)
            elif carrier in reached and self._carries(carrier):
                cost, first = reached[carrier]
                candidate = (_sum(cost, edge, carrier), first)
            else:
                continue
            if best is None or candidate[0] < best[0]:
                best = candidate
        return best[1] if best is not None else None

    def _search(self, source: int) -> dict[int, tuple[_Cost, int]]:
        """Dijkstra over the carriers: what each costs from a class, and the first of them on the way."""
        if (known := self._found.searches.get(source)) is not None:
            return known
        ground = self._ground
        start = ground.classes[source]
        best: dict[int, tuple[_Cost, int]] = {}
        queue: list[tuple[_Cost, int, int]] = [
            ((held, 1, self._length(start.region, carrier), 0), carrier, carrier) for carrier, held in start.edges()
        ]
        heapq.heapify(queue)
        while queue:
            cost, here, first = heapq.heappop(queue)
            if here in best or here == start.carrier:
                continue
            best[here] = (cost, first)
            if not self._carries(here):
                continue
            for other, held in ground.classes[ground.class_of[ground.carriers[here]]].edges():
                if other not in best:
                    edge = (held, 1, self._length(ground.regions[here], other), 0)
                    heapq.heappush(queue, (_sum(cost, edge, here), other, first))
        self._found.searches[source] = best
        return best


def _sum(cost: _Cost, edge: _Cost, through: int) -> _Cost:
    """What a path costs with one more link behind the carrier *through*."""
    return (cost[0] + edge[0], cost[1] + edge[1], cost[2] + edge[2], cost[3] + (1 << through))


def unreachable_pairs(network: Network, paths: Paths, most: int | None = None) -> list[tuple[Node, Node]]:
    """
    Pairs of nodes between which nothing carries, in file order; at most *most*.

    Where there are none, that costs a look at each class of nodes, not at each pair.
    """
    found: list[tuple[Node, Node]] = []
    nodes = {node.name: node for node in network.nodes}
    for left in _not_joined_to_all(network, paths):
        reached = {*paths.around(left).active, left}
        for hop, targets in paths.behind(left).items():
            reached.update((hop, *targets))
        for right in network.nodes:
            if right.name not in reached and paths.all_links.order[left] < paths.all_links.order[right.name]:
                found.append((nodes[left], right))
                if len(found) == most:
                    return found
    return found


def _not_joined_to_all(network: Network, paths: Paths) -> Iterator[str]:
    """Nodes that perhaps do not reach all others."""
    complete = len(network.nodes) - 1
    if all(len(paths.around(node.name).active) == complete for node in network.nodes) or paths.joined:
        return
    yield from (node.name for node in network.nodes if len(paths.around(node.name).active) < complete)
