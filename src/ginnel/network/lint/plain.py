"""
Networks in order, and whether one stays in order when hosts come or go: looking at what comes and goes alone.

A network is *plain* when `lint` finds nothing in it and when it is simple enough that this can be carried over: each host has one
WireGuard interface, no tunnels of other kinds, no hooks; every peer is a host that is known, and no two hosts have a key, an
address or an endpoint in common. Then hosts that come or go leave it in order as long as

    others keep     all that they say themselves; of their peers nothing changes but prefixes
    prefixes        that others get or lose are what those who come or go have themselves, and nobody else had (so no table of
                    theirs looks anything else up differently)
    links           come or go at both ends, and one end is a host that comes or goes
    a link's ends   agree, by the rules of `prefixes`, `ends`, `reaching` and `sizes` asked of that link
    ways            between who comes and others lead there, and back the same way (as `ways` does; of many, some)

Whatever is not as simple as that is not judged here: `with_hosts` gives None, and all rules look at all hosts. So what is said
here is never more than "in order", and only where each rule would find nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

from ginnel.network.host import Host, Peer, WireguardInterface
from ginnel.network.lint.prefixes import accepts_all
from ginnel.network.lint.reaching import number_of
from ginnel.network.lint.sizes import over_path
from ginnel.network.lint.view import End, Identity, View, covers, host_prefix, identity
from ginnel.network.model import HostPort
from ginnel.network.prefix_table import PrefixTable
from ginnel.units import Prefix

_T = TypeVar("_T")
#: Between a host that comes and so many others ways are walked, evenly spread.
_WALKS = 64
_MAX_HOPS = 16
_HOST = "name tunnels lans mapped endpoint behind_nat forwards masquerades protects underlay_mtu secrets place called"
_INTERFACE = "name public_key address listen_port mtu dns search table fwmark hooks place"
_PEER = "public_key name endpoint keepalive_s psk waiting place"
_OF_HOST, _OF_INTERFACE, _OF_PEER = (attrgetter(*words.split()) for words in (_HOST, _INTERFACE, _PEER))


@dataclass(frozen=True, slots=True)
class Plain:
    """A plain network. What it knows of prefixes and endpoints may be more than there is: those of hosts that have gone."""

    by_name: dict[str, Host]
    by_identity: dict[Identity, Host]
    #: What hosts have themselves, tunnel addresses and LANs.
    own: PrefixTable[str]
    #: What anybody has at a peer.
    held: PrefixTable[bool]
    #: Who is looked for where, and the numbers of those places.
    found_at: dict[tuple[str, int], Identity]
    numbers: dict[str, bytes | None]
    sizes: frozenset[int | None]
    asks: bool

    @classmethod
    def of(cls, hosts: Sequence[Host]) -> Plain | None:
        """Of hosts in which `lint` finds nothing; None where they are not as simple."""
        if not all(map(_simple, hosts)):
            return None
        made = cls({}, {}, PrefixTable(), PrefixTable(), {}, {}, frozenset(_interface(host).mtu for host in hosts), _asks(hosts))
        if not all(made._settle(host, apart=True) for host in hosts):
            return None
        peers = {id(peer): peer for host in hosts for peer in _interface(host).peers}.values()
        if not all(made._known(peer) for peer in peers):
            return None
        for peer in peers:
            for prefix in peer.allowed_ips:
                made.held.add(prefix, True)
        numbers = [number for number in made.numbers.values() if number is not None]
        return None if any(made._inside(number) for number in numbers) else made

    def with_hosts(self, hosts: Sequence[Host]) -> Plain | None:
        """What the network becomes with these hosts in place of its own, if it is in order then; None where that is not clear."""
        now = {host.name: host for host in hosts}
        if len(now) != len(hosts):
            return None
        come = [host for host in hosts if host.name not in self.by_name]
        gone = [host for name, host in self.by_name.items() if name not in now]
        changed = [(was, host) for host in hosts if (was := self.by_name.get(host.name)) is not None and was is not host]
        if not all(map(_simple, come)) or not all(_same_but_peers(was, host) for was, host in changed):
            return None
        sizes = self.sizes.union(_interface(host).mtu for host in come)
        if (gone and (self.asks or len(sizes) > 1)) or _asks(come):
            return None
        following = Plain(
            now,
            dict(self.by_identity),
            self.own.copy(),
            self.held.copy(),
            dict(self.found_at),
            dict(self.numbers),
            sizes,
            self.asks,
        )
        going = _going(following, gone)
        for _, host in changed:
            following.by_identity[_identity(host)] = host
        if not all(map(following._settle, come)):
            return None
        links = _Links(self, following, come, gone, going)
        if not links.all_agree(changed) or any(over_path(View([*come, *(host for _, host in changed)]))):
            return None
        walker = _Walker(following)
        others = hosts[:: max(1, len(hosts) // _WALKS)]
        if not all(walker.both_ways(host, other) for host in come for other in others if host is not other):
            return None
        return following

    def _settle(self, host: Host, *, apart: bool = False) -> bool:
        """Take a host in; False where somebody has its key or an address, or what overlaps a LAN (*apart*: known not to)."""
        known = _identity(host)
        if known in self.by_identity or host.name in self.by_identity:
            return False
        addresses = host.addresses
        if len(set(addresses)) != len(addresses) or any(self.own.longest(packed) is not None for packed in addresses):
            return False
        for lan in () if apart else host.lans:
            if self.own.longest(lan.packed) is not None or any(covers(lan, other) for other in self.own.prefixes()):
                return False
        for prefix in (*map(host_prefix, addresses), *host.lans):
            self.own.add(prefix, host.name)
        self.by_name[host.name] = self.by_identity[known] = host
        return True

    def _known(self, peer: Peer) -> bool:
        """Whether a peer by itself is in order: of a known host, that passes on what is sent to it, at a place of its own."""
        far = self.by_identity.get(identity(peer))
        if far is None or peer.psk not in ("", "?"):
            return False
        if not far.forwards and not set(map(host_prefix, far.addresses)).issuperset(peer.allowed_ips):
            return False
        if peer.endpoint is None:
            return True
        where = peer.endpoint.host, peer.endpoint.port
        if self.found_at.setdefault(where, identity(peer)) != identity(peer):
            return False
        if where[0] not in self.numbers:
            self.numbers[where[0]] = number_of(where[0])
        return True

    def _inside(self, packed: bytes) -> bool:
        """Whether an address lies in what anybody has at a peer, but for all of the internet."""
        return any(prefix.length for prefix, _ in self.held.covering(packed))


def _going(following: Plain, gone: list[Host]) -> set[Prefix]:
    """Take out hosts that go; their prefixes."""
    going: set[Prefix] = set()
    for host in gone:
        del following.by_identity[_identity(host)]
        for prefix in _own(host):
            following.own.remove(prefix)
            going.add(prefix)
    return going


class _Links:
    """What changes at links when hosts come or go."""

    def __init__(self, was: Plain, following: Plain, come: list[Host], gone: list[Host], going: set[Prefix]) -> None:
        self.was, self.now, self.come, self.gone, self.going = was, following, come, gone, going
        self.coming = {prefix: host for host in come for prefix in _own(host)}
        self.new = {_identity(host) for host in come}
        #: Links that come, by both ends, and prefixes that come, by the same.
        self.links: dict[tuple[Identity, Identity], Peer] = {}
        self.prefixes: dict[tuple[Identity, Identity], frozenset[Prefix]] = {}
        #: Links that go, by the end that stays and the one that goes.
        self.left: set[tuple[Identity, Identity]] = set()
        #: Prefixes that nobody has had.
        self.unheard: set[Prefix] = set()
        self._looked: dict[int, bool] = {}
        #: Of two objects, what prefixes the latter has more; None: they differ in more than prefixes.
        self._more: dict[tuple[int, int], frozenset[Prefix] | None] = {}

    def all_agree(self, changed: list[tuple[Host, Host]]) -> bool:
        """Whether everything that comes is in order, and everything that goes leaves the rest in order."""
        if any(self.was.held.get(prefix) or self._around_held(prefix) for prefix in self.coming):
            return False
        if not all(self._changes(_interface(was), host) for was, host in changed):
            return False
        if not all(self._comes(host) for host in self.come):
            return False
        for host in self.gone:
            for peer in _interface(host).peers:
                if identity(peer) in self.now.by_identity and (identity(peer), _identity(host)) not in self.left:
                    return False
        for (near, far), peer in self.links.items():
            back = self.links.get((far, near))
            if back is None or not self._agree(self.now.by_identity[near], peer, self.now.by_identity[far], back):
                return False
        for (near, far), more in self.prefixes.items():
            if near not in self.new and far not in self.new and not more.isdisjoint(self.prefixes.get((far, near), ())):
                return False
        fresh = [number for text, number in self.now.numbers.items() if text not in self.was.numbers and number is not None]
        return not any(map(self.now._inside, fresh)) and not self._around_endpoints()

    def _around_held(self, prefix: Prefix) -> bool:
        """Whether anybody has had a part of a LAN that comes."""
        alone = prefix.length == len(prefix.packed) * 8
        return not alone and any(covers(prefix, other) for other in self.was.held.prefixes())

    def _around_endpoints(self) -> bool:
        """Whether somebody is looked for in what somebody has now."""
        known = {number for number in self.was.numbers.values() if number is not None}
        lans = [prefix for prefix in self.unheard if prefix.length < len(prefix.packed) * 8]
        return any(prefix.packed in known for prefix in self.unheard) or any(
            covers(lan, host_prefix(number)) for lan in lans for number in known
        )

    def _changes(self, was: WireguardInterface, host: Host) -> bool:
        """The peers of a host that stays."""
        near = _identity(host)
        before, after = _differing(was.peers, _interface(host).peers)
        known = {identity(peer): peer for peer in before}
        if len({identity(peer) for peer in after}) != len(after):
            return False
        come: set[Prefix] = set()
        for peer in after:
            far = identity(peer)
            old = known.pop(far, None)
            if old is None:
                if far not in self.new:
                    return False
                self.links[near, far] = peer
                self._hear(peer.allowed_ips)
                more: frozenset[Prefix] | None = frozenset(peer.allowed_ips)
            else:
                more = self._replaced(old, peer)
            if more is None or not self._looked_at(peer) or not more.issubset(self.coming) or not come.isdisjoint(more):
                return False
            come |= more
            self.prefixes[near, far] = more
        for far, old in known.items():  # nobody's peer any more: of a host that goes, with no prefix but its own
            if far in self.now.by_identity or not self.going.issuperset(old.allowed_ips):
                return False
            self.left.add((near, far))
        return True

    def _replaced(self, old: Peer, peer: Peer) -> frozenset[Prefix] | None:
        """Which prefixes a peer gets; None where more than prefixes changes, or it loses those of hosts that stay."""
        both = id(old), id(peer)
        if both not in self._more:
            before, after = _differing(old.allowed_ips, peer.allowed_ips)
            had, has = frozenset(before), frozenset(after)
            same = _OF_PEER(old) == _OF_PEER(peer) and all(_any_of(size, old) == _any_of(size, peer) for size in (4, 16))
            far = self.now.by_identity.get(identity(peer))
            accepts = far is not None and _accepts_all(peer, far)
            self._more[both] = has - had if same and accepts and self.going.issuperset(had - has) else None
            self._hear(has - had)
        return self._more[both]

    def _hear(self, prefixes: Iterable[Prefix]) -> None:
        for prefix in prefixes:
            if not self.now.held.get(prefix):
                self.unheard.add(prefix)
                self.now.held.add(prefix, True)

    def _comes(self, host: Host) -> bool:
        """A host that comes: its peers, and that what one has is not in what another has, but where that is meant."""
        near, peers = _identity(host), _interface(host).peers
        if len({identity(peer) for peer in peers}) != len(peers) or near in map(identity, peers):
            return False
        for peer in peers:
            self.links[near, identity(peer)] = peer
            self._hear(peer.allowed_ips)
            if not self._looked_at(peer):
                return False
        held = sorted((len(prefix.packed), prefix.packed, prefix.length, number) for number, peer in enumerate(peers)
                      for prefix in peer.allowed_ips)  # fmt: skip
        around: list[tuple[Prefix, int]] = []
        for _, packed, length, number in held:
            prefix = Prefix(packed, length)
            if not length or any(covers(lan, prefix) for lan in host.lans):
                return False
            while around and not covers(around[-1][0], prefix):
                around.pop()
            for wide, other in around:
                if other == number:
                    continue
                own = _own(self.now.by_identity[identity(peers[other])])
                if wide == prefix or any(covers(one, prefix) or covers(prefix, one) for one in own):
                    return False
            around.append((prefix, number))
        return True

    def _looked_at(self, peer: Peer) -> bool:
        """What can be asked of a peer by itself, once for each object."""
        if (found := self._looked.get(id(peer))) is None:
            found = self._looked[id(peer)] = self.now._known(peer) and self._right(peer)
        return found

    def _right(self, peer: Peer) -> bool:
        if not peer.allowed_ips and not peer.waiting:
            return False
        return peer.endpoint is None or not peer.endpoint.port or _listens(self.now.by_identity[identity(peer)], peer.endpoint)

    def _agree(self, near: Host, peer: Peer, far: Host, back: Peer) -> bool:
        """Both ends of a link that comes, by *near*'s *peer*; the other one is asked as well."""
        if peer.psk != back.psk or (peer.endpoint is None and back.endpoint is None):
            return False
        if near.behind_nat and peer.endpoint is not None and not peer.keepalive_s:
            return False
        if _interface(near).mtu != _interface(far).mtu:
            return False
        if back.allowed_ips and not _accepts_all(peer, far):
            return False
        both = set(peer.allowed_ips).intersection(back.allowed_ips)
        return not both


class _Walker:
    """Ways through several hosts, as `ways` walks them, between hosts that come and others."""

    def __init__(self, network: Plain) -> None:
        self._network = network
        self._peers: dict[str, dict[Identity, Peer]] = {}
        self._prefixes: dict[int, frozenset[Prefix]] = {}
        self._wide: dict[str, list[tuple[Prefix, Peer]]] = {}
        self._many: dict[str, list[Peer]] = {}

    def both_ways(self, host: Host, other: Host) -> bool:
        """Whether packets find their way from each to what the other has, and are taken."""
        return all(self._walk(near, far, packed) for near, far in ((host, other), (other, host)) for packed in _targets(far))

    def _walk(self, near: Host, target: Host, packed: bytes) -> bool:
        source = next((each for each in near.addresses if len(each) == len(packed)), None)
        if source is None:
            return True
        here, visited = near, {near.name}
        for _ in range(_MAX_HOPS):
            onward = self._peer(here, packed)
            if onward is None:
                return True  # it does not claim to get there
            far = self._network.by_identity[identity(onward)]
            back = self._peer(far, source)
            if back is None or identity(back) != _identity(here):
                return False
            if far is target:
                return True
            if far.name in visited:
                return False
            visited.add(far.name)
            here = far
        return False

    def _peer(self, host: Host, packed: bytes) -> Peer | None:
        """The peer that an address belongs to."""
        alone = host_prefix(packed)
        peers = self._at(host)
        owner = self._network.own.longest(packed)
        mine = peers.get(_identity(self._network.by_name[owner[1]])) if owner is not None else None
        for peer in (mine, *self._many[host.name]):
            if peer is not None and alone in self._of(peer):
                return peer
        best = [item for item in self._wide_at(host) if covers(item[0], alone)]
        return max(best, key=lambda item: item[0].length)[1] if best else None

    def _at(self, host: Host) -> dict[Identity, Peer]:
        if (found := self._peers.get(host.name)) is None:
            all_of = _interface(host).peers
            found = self._peers[host.name] = {peer.public_key or peer.name: peer for peer in all_of}
            self._many[host.name] = [peer for peer in all_of if len(peer.allowed_ips) > _interface_addresses(self._network, peer)]
        return found

    def _wide_at(self, host: Host) -> list[tuple[Prefix, Peer]]:
        if (found := self._wide.get(host.name)) is None:
            peers = _interface(host).peers
            found = [(one, peer) for peer in peers for one in peer.allowed_ips if one.length < len(one.packed) * 8]
            self._wide[host.name] = found
        return found

    def _of(self, peer: Peer) -> frozenset[Prefix]:
        if (found := self._prefixes.get(id(peer))) is None:
            found = self._prefixes[id(peer)] = frozenset(peer.allowed_ips)
        return found


def _interface_addresses(network: Plain, peer: Peer) -> int:
    """How many addresses a peer's own are: with more prefixes, it has others' as well."""
    return len(_interface(network.by_identity[identity(peer)]).address)


def _targets(host: Host) -> Iterator[bytes]:
    yield from host.addresses
    for lan in host.lans:
        yield lan.packed


def _simple(host: Host) -> bool:
    if len(host.interfaces) != 1 or host.tunnels or host.secrets or host.behind_nat is None or host.forwards is None:
        return False
    interface = host.interfaces[0]
    return not interface.hooks and all(address.packed[:1] != b"\xfe" for address in interface.address)


def _asks(hosts: Sequence[Host]) -> bool:
    return any(_interface(host).dns for host in hosts)


def _interface(host: Host) -> WireguardInterface:
    return host.interfaces[0]


def _identity(host: Host) -> Identity:
    return host.interfaces[0].public_key or host.name


def _own(host: Host) -> set[Prefix]:
    return {*map(host_prefix, host.addresses), *host.lans}


def _accepts_all(peer: Peer, far: Host) -> bool:
    return accepts_all(peer, End(0, far, _interface(far)))


def _listens(host: Host, endpoint: HostPort) -> bool:
    said = host.endpoint
    return endpoint.port == _interface(host).listen_port or (said is not None and said.port == endpoint.port)


def _same_but_peers(was: Host, host: Host) -> bool:
    return (
        len(host.interfaces) == 1
        and _OF_HOST(was) == _OF_HOST(host)
        and _OF_INTERFACE(_interface(was)) == _OF_INTERFACE(_interface(host))
    )


def _any_of(size: int, peer: Peer) -> bool:
    return any(len(prefix.packed) == size for prefix in peer.allowed_ips)


def _differing(before: tuple[_T, ...], after: tuple[_T, ...]) -> tuple[tuple[_T, ...], tuple[_T, ...]]:
    """What is between the equal beginnings and the equal ends of both, but for objects that are in both."""
    begin = _alike(before, after)
    before, after = before[begin:], after[begin:]
    if before and after:
        end = _alike(before[::-1], after[::-1])
        before, after = before[: len(before) - end], after[: len(after) - end]
    was, now = set(map(id, before)), set(map(id, after))
    return tuple(one for one in before if id(one) not in now), tuple(one for one in after if id(one) not in was)


def _alike(before: tuple[_T, ...], after: tuple[_T, ...]) -> int:
    """With how much both begin: by halves, since tuples of the same objects compare at once."""
    low, high = 0, min(len(before), len(after))
    if before[:high] == after[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if before[low:middle] == after[low:middle] else (low, middle)
    return low
