"""
What people call the ends of a way, and the verdict on it.

`lyon` is the node itself; an address is the host that has it: a node, by an address in its tunnels or its endpoint, somebody in a
LAN (as the network knows it), or else somebody on the internet. A port may follow (`10.20.0.5:443`, `[fd10::5]:443`); routes do
not look at it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ginnel.network.host import Host
from ginnel.network.reach.fleet import Fleet, moved, numeric, version_of
from ginnel.network.reach.protected import holds
from ginnel.network.reach.routes import Routings
from ginnel.network.reach.values import INTERNET, Stop, Verdict, Way, text_of
from ginnel.network.reach.walk import Arrival, Conversation
from ginnel.units import Prefix

_WITH_PORT = re.compile(r"\[(?P<bracketed>[^]]+)\](?::(?P<port6>\d{1,5}))?|(?P<plain>[^:]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Point:
    """
    One end of a way. host: the node that it is, or behind which it lies; None: it is outside. packed None: any address of the
    node. lan: the LAN (as the network knows it) in which it is.
    """

    text: str
    host: Host | None
    packed: bytes | None = None
    lan: Prefix | None = None


def resolve(fleet: Fleet, text: str) -> Point:
    """
    Find what *text* names.

    Raises:
        ValueError: neither a node nor an address.
    """
    if text in fleet.hosts:
        return Point(text, fleet[text])
    name, packed = _taken_apart(text)
    if name in fleet.hosts:
        return Point(text, fleet[name])
    if packed is None:
        raise ValueError(f"expected a node or an address, found {text!r}")
    return at(fleet, packed, text)


def at(fleet: Fleet, packed: bytes, text: str) -> Point:
    """The point that has the address."""
    if (host := fleet.at_address(packed)) is not None:
        return Point(text, host, packed)
    if (found := fleet.at_lan(packed)) is not None:
        return Point(text, found[0], packed, found[1])
    if (protect := fleet.protection(packed)) is not None and protect.origin in fleet.hosts:
        return Point(text, fleet[protect.origin], packed)
    for host in fleet.hosts.values():
        if packed in fleet.own(host):
            return Point(text, host, packed)
        for each in host.mapped:
            if holds(each.real, packed):
                return Point(text, host, moved(packed, each.real, each.seen), each.seen)
    return Point(text, None, packed)


def called(host: Host) -> tuple[bytes, ...]:
    """The addresses by which a node is called: what it says, or its first of each family."""
    if host.called:
        return host.called
    first: dict[int, bytes] = {}
    for packed in host.addresses:
        first.setdefault(version_of(packed), packed)
    return tuple(first.values())


def reach(routings: Routings, source: Point, target: Point, version: int = 0) -> Verdict:
    """
    Whether one point reaches another, and how.

    Args:
        routings: of all hosts.
        source: where the packet begins.
        target: whom it is for.
        version: 4 or 6 where both have both; 0: the first that the target is called by.
    """
    to = _address(source, target, version)
    if to is None or (source.packed is not None and len(source.packed) != len(to)):
        message = f"{source.text} and {target.text} have no address family in common"
        nothing = Way(source.packed or b"\0" * 4, target.packed or b"\0" * 4, (), Stop(source.text, "families", message))
        return Verdict(source.text, target.text, nothing)
    mapped = source.host is not None and any(each.seen == source.lan for each in source.host.mapped)
    if source.lan is not None and source.lan == target.lan and source.host is target.host and not mapped:
        assert source.packed is not None
        same = ("they are in the same LAN: no node is asked",)
        return Verdict(source.text, target.text, Way(source.packed, to, (), None, same), Way(to, source.packed, ()))
    if source.host is None:
        return _from_outside(routings, source, target, to)
    conversation = Conversation(routings)
    there, end = conversation.send(source.host, _on_the_spot(source), to, Arrival("LAN") if source.lan is not None else Arrival())
    if end is None:
        return Verdict(source.text, target.text, there)
    back, _ = conversation.answer(there, end)
    return Verdict(source.text, target.text, there, back)


def from_outside(routings: Routings, source: Point, target: Point, by: Host) -> Verdict:
    """The same from somebody on the internet, which hands the packet to the host *by*."""
    assert source.packed is not None
    assert target.packed is not None
    if by.behind_nat:
        message = f"{by.name} is behind NAT: nothing that it did not ask for comes in"
        return Verdict(source.text, target.text, Way(source.packed, target.packed, (), Stop(by.name, "no-session", message)))
    conversation = Conversation(routings)
    there, end = conversation.send(by, source.packed, target.packed, Arrival("uplink", INTERNET))
    if end is None:
        return Verdict(source.text, target.text, there)
    back, _ = conversation.answer(there, end)
    return Verdict(source.text, target.text, there, back)


def _from_outside(routings: Routings, source: Point, target: Point, to: bytes) -> Verdict:
    """By the host that has the address outside; to a protected one by each of its edges: the first that fails tells."""
    fleet = routings.fleet
    assert source.packed is not None
    goal = Point(target.text, target.host, to, target.lan)
    protect = fleet.protection(to)
    names = protect.edges if protect is not None else [host.name for host in fleet.at_endpoint(text_of(to))]
    verdicts = [from_outside(routings, source, goal, fleet[name]) for name in names if name in fleet.hosts]
    if verdicts:
        return next((each for each in verdicts if not each.reaches), verdicts[0])
    message = f"{source.text} is outside of the network, and nobody there knows the way to {text_of(to)}"
    return Verdict(source.text, target.text, Way(source.packed, to, (), Stop(INTERNET, "no-route", message)))


def _address(source: Point, target: Point, version: int) -> bytes | None:
    """Which address of the target is meant."""
    if target.packed is not None:
        return target.packed if version in (0, version_of(target.packed)) else None
    assert target.host is not None
    wanted = version or (version_of(source.packed) if source.packed is not None else 0)
    return next((packed for packed in called(target.host) if wanted in (0, version_of(packed))), None)


def _on_the_spot(point: Point) -> bytes | None:
    """The address that somebody in a LAN has there, when the network knows it by another."""
    if point.packed is None or point.host is None:
        return point.packed
    for each in point.host.mapped:
        if each.seen == point.lan:
            return moved(point.packed, each.seen, each.real)
    return point.packed


def _taken_apart(text: str) -> tuple[str, bytes | None]:
    """A name or address, without the port."""
    packed = numeric(text)
    if packed is not None:
        return text, packed
    if (found := _WITH_PORT.fullmatch(text)) is None:
        return text, None
    name = found["bracketed"] or found["plain"]
    return name, numeric(name)
