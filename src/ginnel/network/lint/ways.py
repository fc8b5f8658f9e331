"""
Chapter 01, packets that go through several hosts: does the host at the end answer the way they come?

Every link may be right, and all of them wrong together: A sends to C by B, B takes it and sends it on, and C drops it, because at
C the source is not B's, or nobody's. So the way is walked: from each host to hosts that it reaches through another. Where a
network has more such pairs than there is time for, each host walks a few, evenly spread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from ginnel.network.findings import Finding
from ginnel.network.host import Peer
from ginnel.network.lint.view import End, View, hides, host_prefix, identity, is_at, peer_place, routed, text_of
from ginnel.units import Prefix

#: Altogether: all pairs of a network of 60, and a sample of a larger one.
MAX_WALKS = 4_000
_MAX_HOPS = 16
#: So many addresses are looked at whether they are the peer's own.
_FEW = 64


class _Tables:
    """What interfaces look destinations and sources up in; no interface's table is ever made, there may be a million entries."""

    def __init__(self, view: View) -> None:
        self.view = view
        known = dict(_sites(view, self))
        known.update(((len(packed), packed), end) for end in view.ends for packed in end.addresses)
        #: Somewhere to go: tunnel addresses, and the first address of each LAN.
        self.addresses = sorted(known.items(), key=_key)
        self.keys = [key for key, _ in self.addresses]
        self.exactly = known

    def peer(self, end: End, packed: bytes) -> Peer | None:
        """The peer that an address belongs to at an interface."""
        here = self.view.at(end)
        for _, holders in self.view.table.covering(packed):
            found = [holder for holder in holders if here.get(identity(holder)) is holder]
            if found:  # of several, which is a fault of its own, the last has it
                return found[0] if len(found) == 1 else max(found, key=end.interface.peers.index)
        return None

    def within(self, prefix: Prefix) -> tuple[int, int]:
        """The range of `addresses` that lies in a prefix."""
        size = len(prefix.packed)
        host_bits = size * 8 - prefix.length
        last = (int.from_bytes(prefix.packed, "big") | ((1 << host_bits) - 1)).to_bytes(size, "big")
        return bisect_left(self.keys, (size, prefix.packed)), bisect_left(self.keys, (size, last + b"\0"))


def _sites(view: View, tables: _Tables) -> Iterator[tuple[tuple[int, bytes], End]]:
    """LANs: those that hosts say, and of hosts that say none what a peer has at them and they have at nobody."""
    for host in view.hosts:
        for end in view.of_host[host.name][:1]:
            for lan in host.lans:
                yield (len(lan.packed), lan.packed), end
    for peer in view.peers:
        for far in view.far(peer)[:1]:
            if far.host.behind_nat is not None:
                continue  # it says what it is
            for prefix in peer.allowed_ips:
                alone = prefix.length == len(prefix.packed) * 8
                if prefix.length and not alone and not is_at(prefix, far) and tables.peer(far, prefix.packed) is None:
                    yield (len(prefix.packed), prefix.packed), far


def _key(item: tuple[tuple[int, bytes], End]) -> tuple[int, bytes]:
    return item[0]


def returns(view: View) -> Iterator[Finding]:
    """G0106, G0108: ways through others that do not come back, or not out."""
    tables = _Tables(view)
    onward = {id(peer): ranges for peer in view.peers if (ranges := _onward(view, tables, peer))}
    walkers = [
        end
        for end in (view.ends if onward else ())
        if routed(end.interface) and end.addresses and any(id(peer) in onward for peer in end.interface.peers)
    ]
    told: set[tuple[str, str, str]] = set()
    for end in walkers[:: max(1, -(-len(walkers) // MAX_WALKS))]:
        for peer, target, packed in _targets(view, tables, end, onward, max(1, MAX_WALKS // len(walkers))):
            finding = _walk(view, tables, end, peer, target, packed)
            if finding is not None and (found := (finding.code, finding.nodes[0], finding.nodes[-1])) not in told:
                told.add(found)
                yield finding


def _onward(view: View, tables: _Tables, peer: Peer) -> list[tuple[int, int]]:
    """Where the addresses of others stand in `addresses` that are sent to a peer."""
    fars = view.far(peer)
    if not fars:
        return []
    host = fars[0].host
    ranges = []
    for prefix in peer.allowed_ips:
        known = tables.exactly.get((len(prefix.packed), prefix.packed)) if prefix.length == len(prefix.packed) * 8 else None
        if known is not None and known.host is host:
            continue  # most of all: a peer's own address
        if prefix.length:  # who leaves through a peer does not claim that it joins what is behind
            low, high = tables.within(prefix)
            if high - low > _FEW or any(target.host is not host for _, target in tables.addresses[low:high]):
                ranges.append((low, high))
    return ranges


def _targets(
    view: View, tables: _Tables, end: End, onward: dict[int, list[tuple[int, int]]], most: int
) -> Iterator[tuple[Peer, End, bytes]]:
    """Interfaces of third hosts whose addresses are sent to a peer, evenly spread where there are too many."""
    ranges = [(peer, low, high) for peer in end.interface.peers for low, high in onward.get(id(peer), ())]
    step = max(1, -(-sum(high - low for _, low, high in ranges) // most))
    following = end.number % step  # counted through all ranges
    for peer, low, high in ranges:
        first, following = following, following - (high - low)
        for index in range(low + first, high, step):
            following += step
            (_, packed), target = tables.addresses[index]
            if target.host is not end.host and target.host is not view.far(peer)[0].host and tables.peer(end, packed) is peer:
                yield peer, target, packed


def _walk(view: View, tables: _Tables, end: End, peer: Peer, target: End, packed: bytes) -> Finding | None:
    """One packet from *end* to *packed*, by WireGuard alone; None where nothing is wrong, or something is not known."""
    source = next((each for each in end.addresses if len(each) == len(packed)), None)
    if source is None:
        return None
    here, onward = end, peer
    visited = {end.number}
    through: list[str] = []
    for _ in range(_MAX_HOPS):
        backs = [(far, seen) for far, seen in view.back(here, onward)]
        if len(backs) != 1:
            return None  # of the link itself other rules tell
        far, seen = backs[0]
        owner = tables.peer(far, source)
        if owner is not seen:
            return _dropped(view, end, far, seen, owner, source, target, packed, through) if through else None
        if far.host is target.host:
            return None
        if far.number in visited:
            return _loop(end, far, target, packed, through)
        visited.add(far.number)
        through.append(far.host.name)
        following = tables.peer(far, packed)
        if following is None or not routed(far.interface) or len(far.host.interfaces) > 1 or far.host.tunnels:
            return None
        if hides(far) or (far.host.behind_nat is None and far.host.masquerades):
            return None  # it goes on under another source
        here, onward = far, following
    return None


def _dropped(
    view: View, end: End, far: End, seen: Peer, owner: Peer | None, source: bytes, target: End, packed: bytes, through: list[str]
) -> Finding:
    sender = through[-1]
    at = f"is {view.called(owner)}'s" if owner is not None else "is nobody's"
    return Finding(
        "G0106",
        f"{end.called} sends to {_named(target, packed)} by {' and '.join(through)}, and {far.called} does not take it",
        peer_place(far, seen),
        f"at {far.host.name}, {text_of(source)} {at}: what comes from it by {sender} is dropped, and answers do not go there",
        f"at {far.host.name}, in the peer {sender}: add {host_prefix(source)} to AllowedIPs"
        + (f", and take it from {view.called(owner)}" if owner is not None else ""),
        tuple(dict.fromkeys((end.host.name, *through, far.host.name, target.host.name))),
    )


def _named(target: End, packed: bytes) -> str:
    return target.called if packed in target.addresses else f"{text_of(packed)} behind {target.called}"


def _loop(end: End, far: End, target: End, packed: bytes, through: list[str]) -> Finding:
    return Finding(
        "G0108",
        f"what {end.called} sends to {_named(target, packed)} goes round: {' → '.join([end.host.name, *through, far.host.name])}",
        (),
        f"a packet for {text_of(packed)} comes back to where it was, until its TTL is used up",
        f"send {host_prefix(packed)} on to a host that is nearer to {target.host.name}",
        tuple(dict.fromkeys((end.host.name, *through, target.host.name))),
    )


RULES = (returns,)
