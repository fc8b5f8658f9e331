"""
Many links as few things: who is linked alike, and what they have in common.

Nodes are alike when they have the same links in the same style with the same others (twins, of a graph): those that are linked
with one another as well, then those that are not. Between two such sets either each is linked with each or nobody is, so

    a band      of one set: each of them is linked with each other
    a ribbon    of two sets: each here with each there

say exactly what their links would. What differs from its neighbours' remains a link (`rest`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ginnel.network.graph.scene import Wire

#: More links than this are bundled, ...
LINKS_MAX = 90
#: ... unless that would still be so many pieces.
_PIECES_MAX = 260

_Style = tuple[str, bool, str]


@dataclass(frozen=True, slots=True)
class Bundles:
    """
    sets: nodes that are alike, in file order within the parts that were given. bands: set, its links. ribbons: two sets and the
    links between them.
    """

    sets: tuple[tuple[str, ...], ...]
    bands: tuple[tuple[int, tuple[Wire, ...]], ...]
    ribbons: tuple[tuple[int, int, tuple[Wire, ...]], ...]
    rest: tuple[Wire, ...]

    @property
    def joined(self) -> frozenset[int]:
        """The sets that have a band or a ribbon."""
        ends = {end for left, right, _ in self.ribbons for end in (left, right)}
        return frozenset(ends | {index for index, _ in self.bands})


def bundle(parts: Sequence[Sequence[str]], wires: Sequence[Wire]) -> Bundles | None:
    """
    Links as bands and ribbons; None where they are few, or have too little in common.

    Args:
        parts: the nodes; those of different parts are never of one set.
        wires: the links among them.
    """
    if len(wires) <= LINKS_MAX:
        return None
    adjacent: dict[str, dict[str, _Style]] = {name: {} for part in parts for name in part}
    for wire in wires:
        adjacent[wire.left][wire.right] = adjacent[wire.right][wire.left] = wire.style
    sets = tuple(found for part in parts for found in _twins(part, adjacent))
    set_of = {name: index for index, members in enumerate(sets) for name in members}
    between: dict[tuple[int, int, _Style], list[Wire]] = {}
    for wire in wires:
        left, right = sorted((set_of[wire.left], set_of[wire.right]))
        between.setdefault((left, right, wire.style), []).append(wire)
    if len(between) > _PIECES_MAX:
        return None
    bands, ribbons, rest = [], [], []
    for (left, right, _), some in between.items():
        here, there = len(sets[left]), len(sets[right])
        if len(some) < 3 or len(some) != (here * (here - 1) // 2 if left == right else here * there):
            rest += some
        elif left == right:
            bands.append((left, tuple(some)))
        else:
            ribbons.append((left, right, tuple(some)))
    return Bundles(sets, tuple(bands), tuple(ribbons), tuple(rest))


def _twins(part: Sequence[str], adjacent: Mapping[str, Mapping[str, _Style]]) -> list[tuple[str, ...]]:
    """The nodes of one part by what they have in common."""
    often: dict[_Style, int] = {}
    for name in part:
        for style in adjacent[name].values():
            often[style] = often.get(style, 0) + 1
    # A node is taken for linked with itself as most are linked: then those of a full mesh have all the same links.
    usual = max(often, key=lambda style: often[style]) if often else ("", False, "")
    closed: dict[frozenset[tuple[str, _Style]], list[str]] = {}
    for name in part:
        closed.setdefault(frozenset({**adjacent[name], name: usual}.items()), []).append(name)
    found: dict[object, list[str]] = {}
    for key, members in closed.items():
        for name in members:
            apart = ("apart", frozenset(adjacent[name].items()))
            found.setdefault(key if len(members) > 1 else apart, []).append(name)
    order = {name: index for index, name in enumerate(part)}
    return sorted((tuple(sorted(members, key=order.__getitem__)) for members in found.values()), key=lambda one: order[one[0]])
