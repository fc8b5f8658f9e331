"""
`[[expect]]`, judged on the model: each expectation tried as the lab tries it, by the same rule of what it means.

An expectation that starts at a node is about the node itself and about everybody in its LANs; one that starts at an address is
about whoever has that address, by whichever family the target has. It holds when every one of these trials ends as it says. A
LAN that has no address of the target's family is not asked. Where the network leaves routes to a routing daemon, a packet that
finds none is undecided, not lost.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ginnel.network.compile import Compilation, NodeDescription
from ginnel.network.findings import Finding
from ginnel.network.host import Host, Place
from ginnel.network.model import POINT_TO_POINT, Expect, Network
from ginnel.network.reach.fleet import Fleet, Surroundings, nth, numeric, version_of
from ginnel.network.reach.places import Point, at, called, reach, resolve
from ginnel.network.reach.routes import Routings
from ginnel.network.reach.values import Verdict
from ginnel.units import Prefix


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an expectation: a verdict for each place that it is about."""

    expect: Expect
    trials: tuple[Verdict, ...]
    #: A routing daemon decides about a part of it.
    undecided: bool = False

    @property
    def reaches(self) -> bool | None:
        """All trials reach, or none; None: some do, or nobody knows."""
        found = {trial.reaches for trial in self.trials}
        return found.pop() if len(found) == 1 and not self.undecided else None

    @property
    def holds(self) -> bool:
        """It is as the file expects."""
        return self.reaches is self.expect.reaches

    @property
    def telling(self) -> Verdict:
        """The trial that tells most: the first that is not as expected, else the first."""
        return next((trial for trial in self.trials if trial.reaches != self.expect.reaches), self.trials[0])

    @property
    def why(self) -> str:
        """The way of the telling trial, or what stops it."""
        return self.telling.why


def fleet_of(compilation: Compilation, surroundings: Mapping[str, Surroundings] | None = None, down: Iterable[str] = ()) -> Fleet:
    """All hosts of a network, each called as its description is."""
    return Fleet(hosts_of(compilation), surroundings, down)


def hosts_of(compilation: Compilation) -> Iterator[Host]:
    """The hosts of a network, in file order."""
    return map(called_host, compilation.nodes())


def called_host(description: NodeDescription) -> Host:
    """The host of a description, called by the addresses that the network calls it by."""
    return replace(description.host(), called=tuple(address.packed for address in description.address))


def judge(network: Network, routings: Routings, expects: Iterable[Expect] | None = None) -> tuple[Outcome, ...]:
    """Every expectation of *network* (or those given), tried on its hosts."""
    return tuple(_judge(network, routings, expect) for expect in (network.expects if expects is None else expects))


def findings(outcomes: Iterable[Outcome], place: Callable[[Expect], Place | None]) -> Iterator[Finding]:
    """What does not hold, with the rule that decides as its cause."""
    for outcome in outcomes:
        if outcome.holds:
            continue
        expect, trial = outcome.expect, outcome.telling
        where = tuple(each for each in (place(expect), trial.stop.place if trial.stop else None) if each is not None)
        if outcome.undecided:
            message = f"whether {expect.source} reaches {expect.target.text} is decided by a routing daemon (routes = false)"
            yield Finding("G0704", message, where, trial.why, "", trial.there.nodes)
            continue
        wanted = "to reach" if expect.reaches else "not to reach"
        message = f"{expect.source} is expected {wanted} {expect.target.text}, and {trial.source} "
        message += "does not" if expect.reaches else "does"
        mend = trial.stop.mend if trial.stop is not None else ""
        if trial.stop is not None and trial.stop.code in ("no-peer", "no-route") and expect.reaches:
            mend = "a [[link]] between them, or relay = true at a node that both have a link with"
        yield Finding("G0701", message, where, trial.why, mend, trial.there.nodes)


def lan_host(lan: Prefix) -> bytes:
    """Somebody in a LAN who stands for all: the first address after the router's."""
    return nth(lan, 2) if len(lan.packed) * 8 - lan.length >= 2 else lan.packed


def _judge(network: Network, routings: Routings, expect: Expect) -> Outcome:
    target = _target(routings.fleet, expect)
    trials = tuple(reach(routings, source, target, version) for source, version in _sources(routings.fleet, expect, target))
    return Outcome(expect, trials, any(map(undecided, trials)) and routed_by_a_daemon(network))


def _target(fleet: Fleet, expect: Expect) -> Point:
    if expect.target.node is not None:
        return replace(resolve(fleet, expect.target.node), text=expect.target.text)
    return at(fleet, expect.target.packed, expect.target.text)


def _sources(fleet: Fleet, expect: Expect, target: Point) -> Iterator[tuple[Point, int]]:
    """The places that an expectation is about, and the family in which each is to be tried."""
    packed = numeric(expect.source)
    if packed is not None:
        source = at(fleet, packed, expect.source)
        if target.packed is not None and version_of(target.packed) != version_of(packed):
            source = _by_its_other_address(source)
        yield source, 0 if source.packed is None else version_of(source.packed)
        return
    node = fleet[expect.source]
    addresses = called(target.host) if target.host is not None and target.packed is None else (target.packed or b"",)
    version = version_of(addresses[0]) if addresses else 0
    yield Point(node.name, node), version
    for lan in node.lans:
        if lan.version == version:
            host = lan_host(lan)
            yield Point(f"{ipaddress.ip_address(host)} in {node.name}'s LAN", node, host, lan), version


def _by_its_other_address(point: Point) -> Point:
    """The same machine in the LAN of the other family that goes with this one: the first with the first, and so on."""
    if point.host is None or point.lan is None:
        return point
    here = [lan for lan in point.host.lans if lan.version == point.lan.version]
    there = [lan for lan in point.host.lans if lan.version != point.lan.version]
    number = here.index(point.lan)
    if number >= len(there):
        return point
    return Point(point.text, point.host, lan_host(there[number]), there[number])


def undecided(verdict: Verdict) -> bool:
    """Whether it fails only for a route that a routing daemon might bring."""
    return verdict.stop is not None and verdict.stop.code in ("no-route", "no-peer", "no-answer")


def routed_by_a_daemon(network: Network) -> bool:
    """Whether there is a link of which the file does not say what goes through it."""
    shape = network.kind in POINT_TO_POINT and network.shape != "none" and not network.gre.routes
    return shape or any(not link.routed for link in network.links)
