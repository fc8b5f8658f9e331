"""
All hosts at one look: who is whose peer, who has which address, and which prefixes anybody has at whom.

A peer is the host that has its public key; where keys are not known yet (a network that is only written down), the one of its
name. In a network that was compiled, one `Peer` object stands for a node at everybody who sees it alike; so what can be asked of
a peer by itself is asked once for each object (`peers`), and only what is suspicious is looked for at every interface (`having`).
That is what makes a million peers a matter of a second.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ginnel.config.words import Route
from ginnel.network.host import Host, Peer, Place, Tunnel, WireguardInterface
from ginnel.network.prefix_table import PrefixTable
from ginnel.units import Prefix, PublicKey

#: What tells who a peer is: its key, else its name.
Identity = PublicKey | str


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """One WireGuard interface of one host."""

    number: int
    host: Host
    interface: WireguardInterface
    #: Packed; but for link-local ones, which nobody routes.
    addresses: tuple[bytes, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = tuple(address.packed for address in self.interface.address if not link_local(address.packed))
        object.__setattr__(self, "addresses", found)

    @property
    def identity(self) -> Identity:
        """As others' peers have it."""
        return self.interface.public_key or self.host.name

    @property
    def called(self) -> str:
        """The host, and the interface where it has several."""
        return f"{self.host.name} ({self.interface.name})" if len(self.host.interfaces) > 1 else self.host.name


def identity(peer: Peer) -> Identity:
    """Who a peer is."""
    return peer.public_key or peer.name


class View:
    """What the rules ask."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.hosts = tuple(hosts)
        self.by_name = {host.name: host for host in self.hosts}
        self.ends = [
            End(number, host, interface)
            for number, (host, interface) in enumerate((host, each) for host in self.hosts for each in host.interfaces)
        ]
        self.by_identity: dict[Identity, list[End]] = {}
        for end in self.ends:
            self.by_identity.setdefault(end.identity, []).append(end)
        self.of_host: dict[str, list[End]] = {host.name: [] for host in self.hosts}
        for end in self.ends:
            self.of_host[end.host.name].append(end)
        self._at: dict[int, dict[Identity, Peer]] = {}

    # -- peers

    @cached_property
    def peers(self) -> list[Peer]:
        """Every distinct object; they live as long as the hosts do."""
        return list({id(peer): peer for end in self.ends for peer in end.interface.peers}.values())

    def far(self, peer: Peer) -> Sequence[End]:
        """The interfaces that a peer is: one; several where a host uses a key for several, or hosts share one."""
        return self.by_identity.get(identity(peer), ())

    def at(self, end: End) -> dict[Identity, Peer]:
        """The peers of an interface by who they are."""
        found = self._at.get(end.number)
        if found is None:
            found = self._at[end.number] = {peer.public_key or peer.name: peer for peer in end.interface.peers}
        return found

    def back(self, end: End, peer: Peer) -> Iterator[tuple[End, Peer]]:
        """The interfaces that *peer* of *end* is and that have *end* for a peer in turn, and that peer."""
        for far in self.far(peer):
            if far.host is not end.host and (found := self.at(far).get(end.identity)) is not None:
                yield far, found

    def having(self, peers: Iterable[Peer]) -> Iterator[tuple[End, Peer]]:
        """Every interface that has one of these very objects, and which."""
        for peer in {id(peer): peer for peer in peers}.values():
            for end in self._having[id(peer)]:
                yield end, peer

    @cached_property
    def _having(self) -> dict[int, list[End]]:
        """The interfaces that have each object; made when the first is looked for."""
        found: dict[int, list[End]] = {id(peer): [] for peer in self.peers}
        for end in self.ends:
            for peer in end.interface.peers:
                found[id(peer)].append(end)
        return found

    def called(self, peer: Peer) -> str:
        """A peer's name as far as it is known."""
        ends = self.far(peer)
        if ends:
            return ends[0].host.name
        return peer.name or (f"the peer {peer.public_key.base64()[:8]}…" if peer.public_key else "a peer")

    # -- prefixes

    @cached_property
    def holders(self) -> dict[Prefix, list[Peer]]:
        """Which peers have a prefix, at anybody."""
        found: dict[Prefix, list[Peer]] = {}
        for peer in self.peers:
            for prefix in peer.allowed_ips:
                found.setdefault(prefix, []).append(peer)
        return found

    @cached_property
    def contested(self) -> dict[Prefix, list[Peer]]:
        """Those that more than one peer has; each of an interface may have but one of them."""
        return {
            prefix: peers
            for prefix, peers in self.holders.items()
            if len(peers) > 1 and any(identity(peer) != identity(peers[0]) for peer in peers)
        }

    @cached_property
    def table(self) -> PrefixTable[list[Peer]]:
        """The same, to look up who covers an address."""
        table: PrefixTable[list[Peer]] = PrefixTable()
        for prefix, peers in self.holders.items():
            table.add(prefix, peers)
        return table

    @cached_property
    def _sorted(self) -> list[tuple[int, bytes, int]]:
        return sorted((len(prefix.packed), prefix.packed, prefix.length) for prefix in self.holders)

    def inside(self, prefix: Prefix) -> Iterator[Prefix]:
        """The prefixes that anybody has and that lie in this one, itself included."""
        size = len(prefix.packed)
        for index in range(bisect_left(self._sorted, (size, prefix.packed, prefix.length)), len(self._sorted)):
            found, packed, length = self._sorted[index]
            if found != size or not lies_in(packed, prefix):
                return
            if length >= prefix.length:
                yield Prefix(packed, length)

    # -- addresses

    @cached_property
    def owners(self) -> PrefixTable[Host]:
        """Whose tunnel address or LAN a prefix is; of two hosts with one, the later."""
        table: PrefixTable[Host] = PrefixTable()
        for host in self.hosts:
            for lan in host.lans:
                table.add(lan, host)
        for host in self.hosts:
            for packed in host.addresses:
                table.add(Prefix(packed, len(packed) * 8), host)
        return table

    def owner(self, packed: bytes) -> Host | None:
        """Whose address it is, or in whose LAN it lies."""
        found = self.owners.longest(packed)
        return found[1] if found is not None else None


def link_local(packed: bytes) -> bool:
    """fe80::/10."""
    return len(packed) == 16 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80


def lies_in(packed: bytes, prefix: Prefix) -> bool:
    """Whether an address lies in a prefix; never across families."""
    size = len(packed)
    if size != len(prefix.packed):
        return False
    shift = size * 8 - prefix.length
    return int.from_bytes(packed, "big") >> shift == int.from_bytes(prefix.packed, "big") >> shift


def covers(wide: Prefix, narrow: Prefix) -> bool:
    """Whether all of *narrow* lies in *wide*."""
    return wide.length <= narrow.length and lies_in(narrow.packed, wide)


def is_at(prefix: Prefix, end: End) -> bool:
    """Whether what the prefix is of lies at that end: its own address, its LAN, the network that both are in."""
    return any(lies_in(packed, prefix) for packed in end.addresses) or any(covers(lan, prefix) for lan in end.host.lans)


def covered(prefixes: Iterable[Prefix], packed: bytes) -> Prefix | None:
    """The longest of the prefixes that an address lies in."""
    return max((prefix for prefix in prefixes if lies_in(packed, prefix)), key=lambda prefix: prefix.length, default=None)


def host_prefix(packed: bytes) -> Prefix:
    """The address alone, as a prefix."""
    return Prefix(packed, len(packed) * 8)


def text_of(packed: bytes) -> str:
    """The address as people write it."""
    return host_prefix(packed).address


def places(*found: Peer | WireguardInterface | Host | None) -> tuple[Place, ...]:
    """Where these are said, as far as that is known, each once."""
    return tuple(dict.fromkeys(each.place for each in found if each is not None and each.place is not None))


def peer_place(end: End, peer: Peer) -> tuple[Place, ...]:
    """Where a peer of an interface is said."""
    return places(peer) or places(end.interface) or places(end.host)


def routed(interface: WireguardInterface) -> bool:
    """Whether wg-quick makes routes for its AllowedIPs, in the table that everything looks into."""
    return interface.table in ("auto", "main", "254")


def main_routes(tunnel: Tunnel) -> Iterator[Prefix]:
    """A tunnel's routes in the table that everything looks into."""
    for words in tunnel.config.routes:
        try:
            route = Route.parse(words)
        except ValueError:
            continue  # what only iproute2 reads
        if route.table in ("", "main", "254"):
            yield route.prefix


_HIDING = re.compile(r"\b(masquerade|snat)\b", re.IGNORECASE)


def hides(end: End) -> bool:
    """Whether a hook hides what leaves into this tunnel."""
    into = re.compile(rf"(?:-o\s+|--out-interface[ =]|oifname\s+\"?)(?:%i|{re.escape(end.interface.name)})(?![\w-])")
    return any(_HIDING.search(text) and into.search(text) for name, text in end.interface.hooks if name in ("PreUp", "PostUp"))
