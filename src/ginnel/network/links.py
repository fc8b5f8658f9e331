"""
Who is linked with whom, as questions that are answered and not as a list that is made: a mesh of a thousand has 499,500 links.

Links come from shapes and from `[[link]]`s, weakest first; of one pair that both speak of, the last says of what kind it is:

    the network's shape   mesh: every two nodes of which at least one can be reached from outside
                          hub: each node with the nearest hub and, held ready, the next; the hubs with one another
                          none: nothing
    each group's shape    the same among its nodes, in the order of the file
    [[link]]              two nodes by name

A link is one of three things to the paths: *active*; *held*, that to a second hub, which carries nothing while the first one
does; *unrouted*, where a routing daemon finds out what goes through it. What a link by name says of one that a shape makes
is how it differs; it does not make a held one active.

The nearest hub: the one that is the node's exit, then of its own region, then by the region's `near`, then by the order in
`hubs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from ginnel.network.model import POINT_TO_POINT, PROTECTED, Link, Network, Node, Shape


class State(IntEnum):
    """What a pair of nodes has."""

    NONE = 0
    UNROUTED = 1
    HELD = 2
    ACTIVE = 3


@dataclass(frozen=True, slots=True)
class Around:
    """The nodes that one node has links with, each tuple in file order."""

    active: tuple[str, ...]
    held: tuple[str, ...] = ()
    unrouted: tuple[str, ...] = ()


_NOBODY = Around(())


class Distances:
    """How far regions are from one another: nothing within one, else where each stands in the other's `near`, added."""

    def __init__(self, network: Network) -> None:
        self._near = {region.name: {name: rank for rank, name in enumerate(region.near, 1)} for region in network.regions}
        #: Farther than anything that is named; also from, and to, a node without a region.
        self._far = max(map(len, self._near.values()), default=0) + 1
        self._between: dict[tuple[str | None, str | None], int] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Distances) and self._near == other._near

    __hash__ = None  # type: ignore[assignment]

    def rank(self, region: str | None, other: str | None) -> int:
        """How far *other* is as *region* sees it."""
        if region == other:
            return 0
        if region is None or other is None:
            return self._far
        return self._near.get(region, {}).get(other, self._far)

    def between(self, region: str | None, other: str | None) -> int:
        """The same from both sides."""
        if (found := self._between.get((region, other))) is None:
            found = self._between[region, other] = self.rank(region, other) + self.rank(other, region)
        return found


class _Mesh:
    """Every two of its members, but not two behind NAT."""

    def __init__(self, members: Sequence[Node], kind: str, routed: bool) -> None:
        self.kind, self.routed = kind, routed
        self.names = tuple(node.name for node in members)
        self.reachable = tuple(node.name for node in members if not node.behind_nat)
        self.hidden = frozenset(node.name for node in members if node.behind_nat)
        self.index = {name: index for index, name in enumerate(self.names)}

    def state(self, left: str, right: str) -> State:
        """What the shape alone says of two nodes."""
        if left == right or left not in self.index or right not in self.index or {left, right} <= self.hidden:
            return State.NONE
        return State.ACTIVE if self.routed else State.UNROUTED

    def around(self, name: str) -> Around:
        """What the shape alone says of one."""
        if (index := self.index.get(name)) is None:
            return _NOBODY
        others = self.reachable if name in self.hidden else self.names[:index] + self.names[index + 1 :]
        return Around(others) if self.routed else Around((), (), others)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """All that it links, the earlier in the file first."""
        for index, left in enumerate(self.names):
            for right in self.names[index + 1 :]:
                if not (left in self.hidden and right in self.hidden):
                    yield left, right

    def between(self, left: str, right: str) -> tuple[str, str]:
        """The two in the order of the link."""
        return (left, right) if self.index[left] < self.index[right] else (right, left)

    def position(self, left: str, right: str) -> tuple[int, ...]:
        """By what `pairs` is ordered."""
        return tuple(sorted((self.index[left], self.index[right])))


class _Hub:
    """Each member with one hub or two, the hubs with one another."""

    def __init__(self, members: Sequence[Node], hubs: Sequence[Node], distances: Distances, kind: str, routed: bool) -> None:
        self.kind, self.routed = kind, routed
        self.index = {node.name: index for index, node in enumerate(members)}
        self.hubs = {hub.name: index for index, hub in enumerate(hubs)}
        self.choice: dict[str, tuple[str, ...]] = {}
        self.first: dict[str, list[str]] = {name: [] for name in self.hubs}
        self.second: dict[str, list[str]] = {name: [] for name in self.hubs}
        self._alike: dict[tuple[str, ...], Around] = {}
        nearest: dict[str | None, tuple[str, ...]] = {}
        for node in members:
            if node.name in self.hubs or node.name in self.choice or not hubs:
                continue
            if (chosen := nearest.get(node.region)) is None:
                ordered = sorted(hubs, key=lambda hub: distances.rank(node.region, hub.region))
                chosen = nearest[node.region] = tuple(hub.name for hub in ordered[:2])
            if node.exit in self.hubs:
                chosen = tuple(dict.fromkeys((node.exit, *chosen)))[:2]
            self.choice[node.name] = chosen
            self.first[chosen[0]].append(node.name)
            if len(chosen) > 1:
                self.second[chosen[1]].append(node.name)

    def state(self, left: str, right: str) -> State:
        """See `_Mesh.state`."""
        if left in self.hubs and right in self.hubs:
            found = State.ACTIVE if left != right else State.NONE
        else:
            hub, node = (left, right) if left in self.hubs else (right, left)
            chosen = self.choice.get(node, ())
            if hub not in chosen:
                return State.NONE
            found = State.ACTIVE if chosen[0] == hub else State.HELD
        return found if self.routed or found is State.NONE else State.UNROUTED

    def around(self, name: str) -> Around:
        """See `_Mesh.around`."""
        if name in self.hubs:
            active = (*(hub for hub in self.hubs if hub != name), *self.first[name])
            held = tuple(self.second[name])
        else:
            # The same object for all that have chosen alike.
            chosen = self.choice.get(name, ())
            if (found := self._alike.get(chosen)) is None:
                found = self._alike[chosen] = self._around(chosen[:1], chosen[1:])
            return found
        return self._around(active, held)

    def _around(self, active: tuple[str, ...], held: tuple[str, ...]) -> Around:
        return Around(active, held) if self.routed else Around((), (), (*active, *held))

    def pairs(self) -> Iterator[tuple[str, str]]:
        """See `_Mesh.pairs`."""
        hubs = list(self.hubs)
        for index, left in enumerate(hubs):
            for right in hubs[index + 1 :]:
                yield left, right
        for name in self.index:
            for hub in self.choice.get(name, ()):
                yield hub, name

    def between(self, left: str, right: str) -> tuple[str, str]:
        """See `_Mesh.between`."""
        if left in self.hubs and right in self.hubs:
            return (left, right) if self.hubs[left] < self.hubs[right] else (right, left)
        return (left, right) if left in self.hubs else (right, left)

    def position(self, left: str, right: str) -> tuple[int, ...]:
        """See `_Mesh.position`."""
        hub, other = self.between(left, right)
        if other in self.hubs:
            return (0, self.hubs[hub], self.hubs[other])
        return (1, self.index[other], self.choice[other].index(hub))


_Pattern = _Mesh | _Hub


class Links:
    """All links of a network. Names are those of its nodes; another one's is a KeyError, or has no links."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.order = {node.name: index for index, node in enumerate(network.nodes)}
        self.distances = Distances(network)
        self._patterns = list(self._shapes())
        self._named: dict[frozenset[str], Link] = {}
        self._named_at: dict[str, dict[str, Link]] = {}
        for link in network.links:
            left, right = link.between
            if left != right:  # which `check` refuses
                self._named[frozenset(link.between)] = link
                self._named_at.setdefault(left, {})[right] = link
                self._named_at.setdefault(right, {})[left] = link
        self._around: dict[str, Around] = {}
        self._neighbours: dict[int, tuple[str, ...]] = {}

    def _shapes(self) -> Iterator[_Pattern]:
        network, nodes = self.network, {node.name: node for node in self.network.nodes}
        if pattern := self._shape(network.shape, network.nodes, [nodes[name] for name in network.hubs], network.kind):
            yield pattern
        for group in network.groups:
            hubs = [nodes[name] for name in group.hubs]
            members = sorted({*group.nodes, *group.hubs}, key=self.order.__getitem__)
            if pattern := self._shape(group.shape, [nodes[name] for name in members], hubs, group.kind or network.kind):
                yield pattern

    def _shape(self, shape: Shape, members: Sequence[Node], hubs: Sequence[Node], kind: str) -> _Pattern | None:
        routed = kind not in POINT_TO_POINT or self.network.gre.routes
        match shape:
            case "mesh":
                return _Mesh(members, kind, routed)
            case "hub" if hubs:
                return _Hub(members, hubs, self.distances, kind, routed)
            case _:
                return None

    # -- two nodes

    def state(self, left: str, right: str) -> State:
        """Whether the two are linked, and what that is to the paths."""
        named = self._named_at.get(left, {}).get(right)
        if named is None and len(self._patterns) == 1:
            return self._patterns[0].state(left, right)
        said = [found for pattern in self._patterns if (found := pattern.state(left, right))]
        if named is None and not said:
            return State.NONE
        if not (named.routed if named is not None else said[-1] is not State.UNROUTED):
            return State.UNROUTED
        return State.HELD if said and all(found is State.HELD for found in said) else State.ACTIVE

    def link(self, left: str, right: str) -> Link:
        """The link between two nodes; KeyError when they have none."""
        if (named := self._named_at.get(left, {}).get(right)) is not None:
            return named
        for pattern in reversed(self._patterns):
            if pattern.state(left, right):
                return self._made(pattern, pattern.between(left, right))
        raise KeyError((left, right))

    def named(self, left: str, right: str) -> Link | None:
        """What a `[[link]]` says of the two; None where none does."""
        return self._named_at.get(left, {}).get(right)

    def named_at(self, name: str) -> Mapping[str, Link]:
        """What `[[link]]`s say of one node's links, by the node at the other end."""
        return self._named_at.get(name, {})

    def _made(self, pattern: _Pattern, between: tuple[str, str]) -> Link:
        kind = pattern.kind
        gre = self.network.gre if kind in POINT_TO_POINT else None
        return Link(between, kind, gre, self.network.ipsec if kind in PROTECTED else None)

    # -- one node

    def around(self, name: str) -> Around:
        """The nodes that it is linked with, by what the link is to the paths."""
        if (found := self._around.get(name)) is None:
            found = self._around[name] = self._around_of(name)
        return found

    def _around_of(self, name: str) -> Around:
        named = self._named_at.get(name, {})
        if len(self._patterns) == 1:
            by_shape = self._patterns[0].around(name)
            if not named:
                return self._sorted(by_shape) if isinstance(self._patterns[0], _Hub) else by_shape
        others = set(named)
        for pattern in self._patterns:
            around = pattern.around(name)
            others.update(around.active, around.held, around.unrouted)
        kinds: dict[State, list[str]] = {state: [] for state in State}
        for other in sorted(others, key=self.order.__getitem__):
            kinds[self.state(name, other)].append(other)
        return Around(*(tuple(kinds[state]) for state in (State.ACTIVE, State.HELD, State.UNROUTED)))

    def _sorted(self, around: Around) -> Around:
        if len(around.active) < 2 and len(around.held) < 2 and len(around.unrouted) < 2:
            return around
        return Around(
            *(tuple(sorted(each, key=self.order.__getitem__)) for each in (around.active, around.held, around.unrouted))
        )

    def neighbours(self, name: str) -> tuple[str, ...]:
        """All that it is linked with, in file order."""
        around = self.around(name)
        if not (around.held or around.unrouted):
            return around.active
        # By the object, of which spokes that are alike have one; all are kept in `_around`.
        if (found := self._neighbours.get(id(around))) is None:
            others = (*around.active, *around.held, *around.unrouted)
            found = self._neighbours[id(around)] = tuple(sorted(others, key=self.order.__getitem__))
        return found

    def kinds_at(self, name: str) -> frozenset[str]:
        """Of what kinds its links are."""
        named = self._named_at.get(name, {})
        kinds = {link.kind for link in named.values()}
        for index, pattern in enumerate(self._patterns):
            if pattern.kind in kinds:
                continue
            around = pattern.around(name)
            later = self._patterns[index + 1 :]
            for other in (*around.active, *around.held, *around.unrouted):
                if other not in named and not any(each.state(name, other) for each in later):
                    kinds.add(pattern.kind)
                    break
        return frozenset(kinds)

    def differs_at(self, name: str) -> bool:
        """Whether any of its links is anything else than the network's shape makes it."""
        return name in self._named_at or len(self._patterns) > 1

    # -- all

    @property
    def shape_kinds(self) -> frozenset[str]:
        """Of what kinds shapes make links."""
        return frozenset(pattern.kind for pattern in self._patterns)

    @property
    def routed(self) -> bool:
        """Whether paths are all there is: no link is a routing daemon's business."""
        return all(pattern.routed for pattern in self._patterns) and all(link.routed for link in self.network.links)

    def __iter__(self) -> Iterator[Link]:
        """Every link once: those of shapes in their order, each as the last word on it says, then the others by name."""
        for index, pattern in enumerate(self._patterns):
            for left, right in pattern.pairs():
                if not any(earlier.state(left, right) for earlier in self._patterns[:index]):
                    yield self.link(left, right)
        for ends, link in self._named.items():
            if not any(pattern.state(*ends) for pattern in self._patterns):
                yield link

    def point_to_point(self) -> tuple[Link, ...]:
        """Those with devices of their own, in the order of all."""
        if not self.shape_kinds.isdisjoint(POINT_TO_POINT):
            return tuple(link for link in self if link.point_to_point)
        found = [link for link in self._named.values() if link.point_to_point]
        return tuple(sorted(found, key=self._position))

    def _position(self, link: Link) -> tuple[int, ...]:
        for index, pattern in enumerate(self._patterns):
            if pattern.state(*link.between):
                return (index, *pattern.position(*link.between))
        return (len(self._patterns),)
