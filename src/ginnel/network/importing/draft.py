"""
From hosts to nodes: who is whose peer, what each is called, which addresses and LANs are whose.

    units       a node for each WireGuard interface of a host (`lyon`, and `lyon-wg1` for its second one), and for each key that
                some host has as a peer and none has as its own
    pools       the networks of the interfaces' addresses; where only single addresses are written, the /24 (IPv6: /64) around
                them
    addresses   of a node without a file: the single addresses among the AllowedIPs that others have for it, so far as they lie
                in pools
    LANs        every other prefix belongs to the node that it is sent to by those who send it on to nobody else; prefixes that
                cover pools, or that several nodes could have, belong to nobody, and stay what they are: an end's own AllowedIPs
    endpoints   what most of the others have; who differs keeps his own
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ginnel.network.findings import Finding
from ginnel.network.host import Host, InterfaceAddress, Peer, Place
from ginnel.network.importing import plain
from ginnel.network.importing.units import Unit, cut, holds, overlap
from ginnel.network.model import HostPort
from ginnel.units import Prefix

NAME_MAX = 32
POOLS_MAX = 8
#: Names that say nothing: what others call the host is better.
_NAMELESS = re.compile(r"host(?:-[0-9a-f.:]+)?(?:-\d+)?|wg\d*|client|server|peer|wireguard|conf(?:ig)?s?", re.IGNORECASE)
#: What a network is narrowed to when only single addresses of it are known.
_USUAL_LENGTH = {4: 24, 6: 64}


@dataclass(frozen=True, slots=True)
class Said:
    """That a node has another as its peer, and what it says of it."""

    by: Unit
    of: Unit
    peer: Peer


@dataclass(slots=True)
class Draft:
    """All that is known before a shape is looked for."""

    units: list[Unit]
    said: list[Said]
    pools: tuple[Prefix, ...]
    joined: plain.Joined
    findings: list[Finding]
    _pairs: dict[frozenset[str], list[Said]] = field(init=False, repr=False)
    _peers: dict[str, list[Peer]] = field(init=False, repr=False)
    _order: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._order = {unit.name: index for index, unit in enumerate(self.units)}
        self._pairs, self._peers = {}, {}
        for one in self.said:
            self._pairs.setdefault(frozenset((one.by.name, one.of.name)), []).append(one)
            self._peers.setdefault(one.by.name, []).append(one.peer)

    def pairs(self) -> dict[frozenset[str], list[Said]]:
        """What is said of each pair of nodes, in the order of the files."""
        return self._pairs

    def peers_of(self, unit: Unit) -> list[Peer]:
        """The peers of a node that are nodes."""
        return self._peers.get(unit.name, [])

    def index(self, name: str) -> int:
        """Where a node stands in the order of all."""
        return self._order[name]


def draft(hosts: Iterable[Host]) -> Draft:
    """Find nodes, their names, addresses, LANs, endpoints and exits; whatever had to be guessed is a finding."""
    findings: list[Finding] = []
    units = _units(hosts)
    by_key = {unit.key: unit for unit in units if unit.key is not None}
    others: list[Unit] = []
    said: list[Said] = []
    for unit in units:
        for peer in unit.interface.peers if unit.interface is not None else ():
            if peer.public_key is None:
                continue
            known = by_key.get(peer.public_key)
            if known is None:
                known = by_key[peer.public_key] = Unit("", peer.public_key, place=peer.place)
                others.append(known)
            if known is not unit:
                said.append(Said(unit, known, peer))
    _names(units, others, said, findings)
    for unit in others:
        message = f"{unit.name}: a peer without a file of its own, so others look after it"
        findings.append(Finding("G0812", message, (unit.place,) if unit.place else (), nodes=(unit.name,)))
    everybody = [*units, *others]
    joined = plain.join(units)
    pools = _pools(units, said, joined)
    _addresses(everybody, said, pools)
    _endpoints(everybody, said, findings)
    _exits(said)
    _lans(said, joined, everybody, pools)
    return Draft(everybody, said, pools, joined, findings)


def _units(hosts: Iterable[Host]) -> list[Unit]:
    found: list[Unit] = []
    for host in hosts:
        first = True
        for interface in host.interfaces:
            name = host.name if first else f"{host.name}-{interface.name}"
            place = interface.place or host.place
            tunnels = host.tunnels if first else ()
            found.append(Unit(name, interface.public_key, host, interface, tunnels, interface.address, place=place))
            first = False
        if first:
            found.append(Unit(host.name, None, host, None, host.tunnels, place=host.place))
    return found


# ---------------------------------------------------------------- names


def numeric(host: str) -> bool:
    """Whether an endpoint's host is an address."""
    return ":" in host or host.replace(".", "").isdigit()


def normalised(text: str) -> str:
    """A node's name of any text: lower-case letters, digits and '-'; "" when nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "")).strip("-")[:NAME_MAX].strip("-")


def _names(units: list[Unit], others: list[Unit], said: list[Said], findings: list[Finding]) -> None:
    called: dict[int, Counter[str]] = {}
    found_at: dict[int, str] = {}
    for one in said:
        if one.peer.name:
            called.setdefault(id(one.of), Counter())[one.peer.name] += 1
        if one.peer.endpoint is not None and not numeric(one.peer.endpoint.host):
            found_at.setdefault(id(one.of), one.peer.endpoint.host.partition(".")[0])
    used: set[str] = set()
    for unit in [*units, *others]:
        before = unit.name
        by_others = next((name for name, _ in called.get(id(unit), Counter()).most_common(1)), "")
        choices = [by_others, found_at.get(id(unit), "")]
        if unit.host is not None:
            choices.insert(2 if _NAMELESS.fullmatch(unit.name) else 0, unit.name)
        if unit.key is not None:
            choices.append(f"peer-{re.sub('[^a-z0-9]', '', unit.key.base64().lower())[:8]}")
        name = _unused(next((name for text in choices if (name := normalised(text))), "node"), used)
        used.add(name)
        unit.name = name
        if unit.host is not None and name != before:
            message = f"{before} is called {name} in the network file"
            findings.append(Finding("G0810", message, (unit.place,) if unit.place else (), nodes=(name,)))


def _unused(base: str, used: set[str]) -> str:
    name, number = base, 1
    while name in used:
        number += 1
        suffix = f"-{number}"
        name = base[: NAME_MAX - len(suffix)].rstrip("-") + suffix
    return name


# ---------------------------------------------------------------- addresses


def _pools(units: list[Unit], said: list[Said], joined: plain.Joined) -> tuple[Prefix, ...]:
    wide = {prefix for one in said for prefix in one.peer.allowed_ips if 0 < prefix.length < len(prefix.packed) * 8}
    networks: dict[Prefix, None] = {}
    single: dict[Prefix, None] = {}
    for unit in units:
        for address in unit.address:
            network = cut(address.host, address.length)
            # A network with others' LANs in it is how somebody saved himself routes, and no pool.
            lans_inside = any(holds(network, prefix) and prefix != network for prefix in wide)
            if address.length == len(address.packed) * 8 or lans_inside or address.length == 0:
                single[address.host] = None
            else:
                networks[network] = None
    networks.update(dict.fromkeys(_of_links(joined)))
    if not networks and not single:  # `wg` alone was asked, and it knows no addresses of the interface
        single.update(
            dict.fromkeys(prefix for one in said for prefix in one.peer.allowed_ips if prefix.length == len(prefix.packed) * 8)
        )
    for host in single:
        if not any(holds(network, host) for network in networks):
            networks[cut(host, min(_USUAL_LENGTH[host.version], host.length))] = None
    found = [one for one in networks if not any(holds(other, one) and other != one for other in networks)]
    if len(found) > POOLS_MAX:
        families = [[one for one in found if one.version == version] for version in (4, 6)]
        found = [_around(family) for family in families if family]
    return tuple(found) or (Prefix.parse("10.0.0.0/24"),)


def _of_links(joined: plain.Joined) -> Iterator[Prefix]:
    """One pool of each family for all links that have subnets of their own."""
    found = [subnet for pair in joined.pairs for subnet in plain.subnets(pair[0].config)]
    for version in (4, 6):
        family = [cut(one, min(one.length, _USUAL_LENGTH[version])) for one in found if one.version == version]
        if family:
            yield _around(family)


def _around(prefixes: list[Prefix]) -> Prefix:
    found = prefixes[0]
    for prefix in prefixes[1:]:
        length = min(found.length, prefix.length)
        while cut(found, length) != cut(prefix, length):
            length -= 1
        found = cut(found, length)
    return found


def _addresses(units: list[Unit], said: list[Said], pools: tuple[Prefix, ...]) -> None:
    """Of those whose own files do not say them."""
    known = {address.packed for unit in units for address in unit.address}
    for one in said:
        if one.of.interface is not None and one.of.interface.address:
            continue
        for prefix in one.peer.allowed_ips:
            single = prefix.length == len(prefix.packed) * 8
            if single and prefix.packed not in known and any(holds(pool, prefix) for pool in pools):
                one.of.address = (*one.of.address, InterfaceAddress(prefix.packed, prefix.length))
                known.add(prefix.packed)


# ---------------------------------------------------------------- endpoints, exits, LANs


def _endpoints(units: list[Unit], said: list[Said], findings: list[Finding]) -> None:
    votes: dict[str, Counter[HostPort]] = {}
    places: dict[tuple[str, HostPort], Place | None] = {}
    for one in said:
        if one.peer.endpoint is not None:
            votes.setdefault(one.of.name, Counter())[one.peer.endpoint] += 1
            places.setdefault((one.of.name, one.peer.endpoint), one.peer.place)
    for unit in units:
        counted = votes.get(unit.name)
        if not counted:
            continue
        unit.endpoint = counted.most_common(1)[0][0]
        if len(counted) > 1:
            words = ", ".join(f"{each.host}:{each.port}" for each in counted)
            found = tuple(place for each in counted if (place := places[unit.name, each]) is not None)
            findings.append(Finding("G0811", f"{unit.name} is found by different endpoints: {words}", found, nodes=(unit.name,)))


def _exits(said: list[Said]) -> None:
    through: dict[str, list[Said]] = {}
    for one in said:
        if any(prefix.length == 0 for prefix in one.peer.allowed_ips):
            through.setdefault(one.by.name, []).append(one)
    for found in through.values():
        if len(found) == 1 and found[0].of.name not in through:
            found[0].by.exit = found[0].of.name


def _lans(said: list[Said], joined: plain.Joined, units: list[Unit], pools: tuple[Prefix, ...]) -> None:
    hosts = {address.host for unit in units for address in unit.address}
    stated: dict[Prefix, list[tuple[Unit, Unit]]] = {}
    for by, of, prefixes in _statements(said, joined):
        for prefix in prefixes:
            if prefix.length and prefix not in hosts and not any(overlap(prefix, pool) for pool in pools):
                stated.setdefault(prefix, []).append((by, of))
    # Longest first: a wide prefix over several LANs is a way of writing them, and no LAN.
    above: set[Prefix] = set()
    for prefix in sorted(stated, key=lambda each: (-each.length, each.version, each.packed)):
        statements = stated[prefix]
        senders = {by.name for by, _ in statements}
        ends = {of.name: of for _, of in statements if of.name not in senders}
        if len(ends) != 1 or prefix in above:
            continue
        above.update(cut(prefix, length) for length in range(prefix.length + 1))
        (owner,) = ends.values()
        owner.lans.append(prefix)
    order = {prefix: index for index, prefix in enumerate(stated)}
    for unit in units:
        unit.lans.sort(key=order.__getitem__)


def _statements(said: list[Said], joined: plain.Joined) -> Iterator[tuple[Unit, Unit, tuple[Prefix, ...]]]:
    """Who sends what to whom: AllowedIPs, and the routes of links."""
    for one in said:
        yield one.by, one.of, one.peer.allowed_ips
    for one_end, other_end in joined.pairs:
        yield one_end.unit, other_end.unit, one_end.routes
        yield other_end.unit, one_end.unit, other_end.routes
