"""
The WireGuard peers of each node, and the prefixes that lie at nodes.

A peer's AllowedIPs are the addresses and LANs of every node that is reached *through* it, itself first, then in file order. So
every prefix of the network appears at most once on a node, and the source check holds on every hop (see `paths`).

    sole peer   one through which all other nodes are reached (a spoke's hub) has the pools themselves, addresses outside of
                them and all other LANs: a new spoke changes nothing at the others
    exit        has everything: 0.0.0.0/0, ::/0
    held        a second hub has nothing as long as the first one lives; keepalives keep its session warm
    by name     what a `[[link]]` says of its end goes before all that

To a node whose addresses are those of its GRE links belongs that one, too, from which what it sends here comes. The side behind
NAT sends the keepalives.

Most peers of a large network look the same to everybody who has them: those are made once (`description` says why). What was made
for an earlier version of the network and is still the same is taken over from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ginnel.network.addressing import within
from ginnel.network.description import PeerDescription
from ginnel.network.links import State
from ginnel.network.lock import Lock, Pinned
from ginnel.network.model import NAT_KEEPALIVE_S, NO_ENDPOINT, POINT_TO_POINT, HostPort, Link, LinkEnd, Network, Node
from ginnel.network.paths import Paths
from ginnel.units import Prefix, PublicKey

EVERYTHING: tuple[Prefix, ...] = (Prefix(bytes(4), 0), Prefix(bytes(16), 0))
_NOTHING_SAID = LinkEnd()


class Prefixes:
    """
    What lies at a node, as others reach it: its tunnel addresses as host prefixes, then its LANs, each once.

    That depends on who reaches it only by the link on which what the node sends there begins, and only where that link has
    addresses of its own; so it is worked out once for each of a node's links, not for each pair of nodes.
    """

    def __init__(self, paths: Paths, lock: Lock, before: Prefixes | None = None) -> None:
        self._paths, self._lock = paths, lock
        self._before: Mapping[str, tuple[Pinned, tuple[Prefix, ...], tuple[Prefix, ...]]] = (
            before._taken if before is not None else {}
        )
        self._taken: dict[str, tuple[Pinned, tuple[Prefix, ...], tuple[Prefix, ...]]] = {}
        self._nodes = {node.name: node for node in paths.network.nodes}
        self._known: dict[tuple[str, str], tuple[Prefix, ...]] = {}
        self._own_devices = {name for ends in lock.links for name in ends}

    def of(self, name: str, seen_by: str) -> tuple[Prefix, ...]:
        """Of the node *name*, for *seen_by* to reach."""
        if name in self._own_devices:
            hop = self._paths.next_hop(name, seen_by)
            if hop is not None and self._paths.link(name, hop).point_to_point:
                if (found := self._known.get((name, hop))) is None:
                    found = self._known[name, hop] = self._at(name, self._lock.link(name, hop).end(name))
                return found
        return self.of_peer(name)

    def of_peer(self, name: str) -> tuple[Prefix, ...]:
        """Of the node *name*, for those with whom it has a WireGuard link: nothing that a link of another kind brings."""
        if (taken := self._taken.get(name)) is None:
            pin, lans = self._lock.nodes[name], self._nodes[name].lans
            taken = self._before.get(name)
            if taken is None or (taken[0] is not pin and taken[0] != pin) or taken[1] != lans:
                taken = (pin, lans, self._at(name, ()))
            self._taken[name] = taken
        return taken[2]

    def _at(self, name: str, of_link: tuple[bytes, ...]) -> tuple[Prefix, ...]:
        addresses = dict.fromkeys((*self._lock.nodes[name].address, *of_link))
        return (*(Prefix(packed, len(packed) * 8) for packed in addresses), *self._nodes[name].lans)


def _beside_pools(network: Network, node: Node) -> tuple[Prefix, ...]:
    """The addresses of *node* that are in no pool, which only those with lengths of their own may be, and its LANs."""
    if not node.lengths:
        return node.lans
    outside = (packed for packed in dict.fromkeys(node.address) if not any(within(packed, pool) for pool in network.pool))
    return (*(Prefix(packed, len(packed) * 8) for packed in outside), *node.lans)


class _AlikeForAll(dict[str, PeerDescription]):
    """Peers that are reached alike, made as they are asked for."""

    def __init__(self, make: Callable[[str], PeerDescription]) -> None:
        self._make = make

    def __missing__(self, name: str) -> PeerDescription:
        made = self[name] = self._make(name)
        return made


class Peers:
    """The peers of all nodes of one network."""

    def __init__(
        self,
        network: Network,
        lock: Lock,
        keys: Mapping[str, PublicKey],
        paths: Paths,
        prefixes: Prefixes,
        before: Peers | None = None,
    ) -> None:
        """As for `Compilation`; *before*: of the network as it was."""
        self._network, self._lock, self._keys, self._paths, self._prefixes = network, lock, keys, paths, prefixes
        self._links = paths.all_links
        self._psk = network.psk != "none"
        self._before = before._made if before is not None else {}
        #: What each was made of, and what it is.
        self._made: dict[Any, tuple[tuple[Any, ...], PeerDescription]] = {}
        self._alike: dict[tuple[int, bool], _AlikeForAll] = {}
        self._ready: dict[tuple[int, bool], _AlikeForAll] = {}
        self._rest: dict[Any, tuple[Prefix, ...]] = {}
        self._of_spokes: dict[tuple[int, int], tuple[PeerDescription, ...]] = {}
        #: Of relays' and hubs' peers, by what they carry; the tuples by whose `id` they are found, so that these live as long.
        self._carriers: dict[tuple[str, int, int, int], tuple[PeerDescription, tuple[str, ...], tuple[str, ...]]] = {}
        self._only_wireguard = self._links.shape_kinds.isdisjoint(POINT_TO_POINT)
        #: Whether what lies at a node is the same for all.
        self._may_share = not lock.links
        self._coming = {name: pin.next_key for name, pin in lock.nodes.items() if pin.next_key is not None}
        #: What lies at nodes outside of the pools, of those that have such: addresses of their own choice, and LANs.
        self._beside = {node.name: found for node in network.nodes if (found := _beside_pools(network, node))}

    def neighbours(self, name: str) -> tuple[str, ...]:
        """Those that are its peers: the nodes at the other ends of its WireGuard links, in file order."""
        found = self._paths.neighbours(name)
        if self._only_wireguard and not self._links.differs_at(name):
            return found
        return tuple(other for other in found if not self._paths.link(name, other).point_to_point)

    def of(self, node: Node, neighbours: tuple[str, ...]) -> tuple[PeerDescription, ...]:
        """Of *node*, whose `neighbours` those are; those in the middle of a change of keys have their next one as well, last."""
        if not neighbours:
            return ()
        keepalive_s = node.keepalive_s if node.keepalive_s is not None else NAT_KEEPALIVE_S if node.behind_nat else 0
        alike: int | None = None
        if not (node.name in self._beside or node.exit or self._coming or self._paths.failed or self._links.named_at(node.name)):
            alike = self._paths.alike(node.name)
            if alike is not None and (known := self._of_spokes.get((alike, keepalive_s))) is not None:
                return known
        sole = self._paths.sole(node.name)
        if sole is None or sole not in neighbours:
            peers = self._of_any(node, neighbours, keepalive_s)
        else:
            peers = tuple(self._at_spoke(node, other, sole, keepalive_s) for other in neighbours)
            if alike is not None:
                self._of_spokes[alike, keepalive_s] = peers
        return peers + tuple(self._to_come(peer) for peer in peers if peer.name in self._coming) if self._coming else peers

    def _of_any(self, node: Node, neighbours: tuple[str, ...], keepalive_s: int) -> tuple[PeerDescription, ...]:
        """Of a node that is no spoke: most of its peers are what they are for everybody."""
        behind = self._paths.behind(node.name)
        standby = self._paths.standby(node.name) if behind else {}
        held = self._paths.around(node.name).held
        own_way = {*behind, *standby, *held, *self._links.named_at(node.name), node.exit}
        alike = self._alike_for(keepalive_s, self._psk)
        if own_way == {None}:
            return tuple(map(alike.__getitem__, neighbours))
        # Held ready to themselves alone they look the same to whoever holds them.
        ready: dict[str, _AlikeForAll] = {}
        named = self._links.named_at(node.name)
        for other in held:
            if other not in behind and other != node.exit and other not in named:
                instead = standby.get(other, ())
                if instead in ((), (other,)):
                    ready[other] = self._ready_for(keepalive_s, bool(instead))
        return tuple(
            ready[other][other]
            if other in ready
            else self._one(node, other, behind.get(other, ()), standby.get(other, ()), keepalive_s)
            if other in own_way
            else alike[other]
            for other in neighbours
        )

    def _ready_for(self, keepalive_s: int, instead: bool) -> _AlikeForAll:
        """Peers whose link is held ready and of which nothing more is said; *instead*: it leads there if the first hub fails."""
        if (found := self._ready.get((keepalive_s, instead))) is None:
            psk = self._psk

            def make(name: str) -> PeerDescription:
                standby = (name,) if instead else ()
                values = (
                    name,
                    self._keys.get(name),
                    (),
                    self._endpoint(name),
                    keepalive_s,
                    (),
                    psk,
                    False,
                    False,
                    standby,
                    False,
                )
                return self._kept((name, keepalive_s, "ready", instead), (*values, True))

            found = self._ready[keepalive_s, instead] = _AlikeForAll(make)
        return found

    def _to_come(self, peer: PeerDescription) -> PeerDescription:
        return self._kept((peer.name, "to come", peer.psk), (peer.name, self._coming[peer.name], (), None, 0, (), peer.psk, True))

    # -- the kinds of them

    def _alike_for(self, keepalive_s: int, psk: bool) -> _AlikeForAll:
        """Peers of which nothing is to be said but what they are themselves."""
        if (found := self._alike.get((keepalive_s, psk))) is None:

            def make(name: str) -> PeerDescription:
                allowed, endpoint = self._prefixes.of_peer(name), self._endpoint(name)
                return self._kept((name, keepalive_s, psk), (name, self._keys.get(name), allowed, endpoint, keepalive_s, (), psk))

            found = self._alike[keepalive_s, psk] = _AlikeForAll(make)
        return found

    def _one(
        self, node: Node, other: str, behind: tuple[str, ...], standby: tuple[str, ...], keepalive_s: int
    ) -> PeerDescription:
        """A peer through which some are reached, or none."""
        named = self._links.named(node.name, other)
        end, psk, keepalive_s = self._said(node, named, keepalive_s)
        state = self._links.state(node.name, other)
        active = state is State.ACTIVE
        shared = (other, keepalive_s, id(behind), id(standby)) if self._may_share and active and named is None else None
        if shared is not None and node.exit != other and (known := self._carriers.get(shared)) is not None:
            return known[0]
        carries = behind if active else tuple(name for name in behind if name != other)
        if end.allowed is not None:
            allowed = end.allowed
        elif node.exit == other:
            allowed = EVERYTHING
        elif active and not carries and not standby and end == _NOTHING_SAID:
            return self._alike_for(keepalive_s, psk)[other]
        else:
            reached = ((other,) if active or len(carries) < len(behind) else ()) + carries
            allowed = tuple(prefix for name in reached for prefix in self._prefixes.of(name, node.name))
        endpoint = self._endpoint(other, end)
        key, held = self._keys.get(other), state is State.HELD
        values = (other, key, allowed, endpoint, keepalive_s, carries, psk, False, False, standby, False, held)
        made = self._kept((other, node.name), values)
        if shared is not None and node.exit != other:
            self._carriers[shared] = (made, behind, standby)
        return made

    def _at_spoke(self, node: Node, other: str, sole: str, keepalive_s: int) -> PeerDescription:
        """A peer of a node that reaches all others through *sole*."""
        end, psk, keepalive_s = self._said(node, self._links.named(node.name, other), keepalive_s)
        held = self._links.state(node.name, other) is State.HELD
        instead = self._paths.without(sole).sole(node.name) == other
        key: Any = (other, keepalive_s, psk, end, other == sole, held, instead, node.exit == other)
        if other == sole:
            gone = tuple(name for name in self._paths.around(node.name).active if name in self._paths.failed)
            own = self._beside.get(node.name, ())
            allowed = self._all_but((node.name, *gone) if own else gone)
            key = (*key, own, gone)
        else:
            allowed = () if held else self._prefixes.of_peer(other)
        if node.exit == other:
            allowed = EVERYTHING
        if end.allowed is not None:
            allowed = end.allowed
        if (known := self._made.get(key)) is not None:
            return known[1]
        endpoint, rest = self._endpoint(other, end), other == sole
        values = (other, self._keys.get(other), allowed, endpoint, keepalive_s, (), psk, False, rest, (), instead, held)
        return self._kept(key, values)

    def _all_but(self, names: tuple[str, ...]) -> tuple[Prefix, ...]:
        """The pools and what lies outside of them, but for what *names* have."""
        if (found := self._rest.get(names)) is None:
            beside = (prefix for name, of_node in self._beside.items() if name not in names for prefix in of_node)
            found = self._rest[names] = (*self._network.pool, *beside)
        return found

    # -- what they are made of

    def _said(self, node: Node, named: Link | None, keepalive_s: int) -> tuple[LinkEnd, bool, int]:
        """What the file says of this end of a link, whether it has a preshared key, and its keepalive."""
        if named is None:
            return _NOTHING_SAID, self._psk, keepalive_s
        end = named.end(node.name)
        psk = self._psk if named.psk is None else named.psk
        return end, psk, keepalive_s if end.keepalive_s is None else end.keepalive_s

    def _endpoint(self, name: str, end: LinkEnd = _NOTHING_SAID) -> HostPort | None:
        """Where a node is found: as the link says, else as the node does; with its port."""
        if end.endpoint == NO_ENDPOINT:
            return None
        endpoint = end.endpoint or self._network.node(name).endpoint
        return endpoint and HostPort(endpoint.host, endpoint.port or self._lock.nodes[name].listen_port)

    def _kept(self, key: Any, values: tuple[Any, ...]) -> PeerDescription:
        """The description with these values, in the order of its fields: the one from before, where it had the same."""
        found = self._before.get(key)
        if found is None or found[0] != values:
            found = (values, PeerDescription(*values))
        self._made[key] = found
        return found[1]
