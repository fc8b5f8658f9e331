"""
What is held ready: whether a way goes on existing when one of the nodes that carry it fails, and which way that is.

The hosts are those of `Compilation.without`: what the others run when the node is down. Nobody is told of that by itself: the
second way is there as soon as they run it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ginnel.network.compile import Compilation
from ginnel.network.reach.expect import fleet_of
from ginnel.network.reach.places import reach, resolve
from ginnel.network.reach.routes import Routings
from ginnel.network.reach.values import INTERNET, Verdict


@dataclass(frozen=True, slots=True)
class Standby:
    """The verdict when the node *without* is down."""

    without: str
    verdict: Verdict


def standby(compilation: Compilation, verdict: Verdict) -> Iterator[Standby]:
    """For each node that stands in the middle of the way: what becomes of it when that node fails."""
    for name in verdict.there.nodes[1:-1]:
        if name == INTERNET or name == verdict.there.nodes[0]:
            continue
        fleet = fleet_of(compilation.without(name), down=(name,))
        yield Standby(name, reach(Routings(fleet), resolve(fleet, verdict.source), resolve(fleet, verdict.target)))
