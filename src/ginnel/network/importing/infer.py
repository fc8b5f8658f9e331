"""
One network file for what runs already: the simplest one whose compilation is what was imported.

    draft       nodes, keys, addresses, LANs, endpoints, exits
    shapes      mesh, a hub for everybody, or links alone, with and without relays: each is compiled, and what an end has
                otherwise than the compilation becomes its own (`ends`); the shape that leaves least to be said wins
    write       the text, which is read back and checked like any other: what is returned is a network file that is right
    plan        what would have to be done on the imported hosts; it should be nothing, and what it is is a finding

Nodes whose files were not given are nobody's to compare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ginnel.errors import ConfigError
from ginnel.network import gre
from ginnel.network.addressing import Lock, Pinned, allocate
from ginnel.network.compile import Compilation, NodeDescription, PeerDescription
from ginnel.network.file import parse_network
from ginnel.network.findings import Finding
from ginnel.network.host import Host
from ginnel.network.importing import plain
from ginnel.network.importing.draft import Draft, Said, draft
from ginnel.network.importing.units import Unit, holds
from ginnel.network.importing.write import network_text
from ginnel.network.model import (
    DEFAULT_LISTEN_PORT,
    NAT_KEEPALIVE_S,
    NO_ENDPOINT,
    HostPort,
    Link,
    LinkEnd,
    Network,
    Node,
)
from ginnel.network.plan import Plan, plan

#: What WireGuard leaves of 1500, and what it takes of any path.
_USUAL_MTU, _OVERHEAD = 1420, 80
_MTU_RANGE = (1280, 65455)

#: Of so many links, what needs no word at all is tried before the others are thought of.
_MANY = 2_000
#: What it weighs that a shape asks something of a host that it does not do: more than any number of words.
_CHANGED = 1_000_000

_T = TypeVar("_T", int, str)


@dataclass(frozen=True, slots=True)
class Inferred:
    """
    A network for the imported hosts. *text*: of its file; *lock*: what belongs beside it. *left*: what would still be to do on
    the hosts. network None: there is none that is right, and the findings say why.
    """

    network: Network | None
    lock: Lock
    text: str
    left: Plan
    findings: tuple[Finding, ...]


def infer(hosts: Iterable[Host], name: str = "") -> Inferred:
    """
    Find the network that the hosts are.

    Args:
        hosts: as `read_hosts` gives them.
        name: what the network is to be called; without it, what IPsec's identities say (NODE.NETWORK), or "imported".
    """
    imported = tuple(hosts)
    found = draft(imported)
    name = name or found.joined.network() or "imported"
    findings = list(found.findings)
    if not found.units:
        findings.append(Finding("G0815", "nothing that was imported is a tunnel"))
        return Inferred(None, Lock(), "", Plan(()), tuple(findings))
    missing = _Endpoints(found)
    findings += missing.findings
    comments = {unit.name: _comment(unit) for unit in found.units}
    refused: ConfigError | None = None
    for links in (found.joined, found.joined.dissolved()) if found.joined.pairs else (found.joined,):
        for candidate in _candidates(found, missing, links, name):
            text = network_text(candidate, comments, _head(imported))
            try:
                network = parse_network(text, f"{name}.toml")
                lock = allocate(network, _pins(found))
            except ConfigError as error:
                refused = refused or error
                continue
            left = _left(imported, found, links, Compilation(network, lock))
            findings += [*links.findings, *_not_the_same(left)]
            return Inferred(network, lock, text, left, tuple(findings))
    for mistake in refused.mistakes if refused is not None else ():
        findings.append(Finding(mistake.code or "G0815", mistake.message, mend=mistake.hint))
    return Inferred(None, Lock(), "", Plan(()), tuple(findings))


def _head(imported: Sequence[Host]) -> list[str]:
    return [
        f"Imported from the configurations of {len(imported)} host{'s' if len(imported) != 1 else ''}: look it over, and keep it."
    ]


def _comment(unit: Unit) -> str:
    if unit.host is None:
        return f"Its key is {unit.key.base64()}; no file of its own was imported." if unit.key is not None else ""
    return f"{unit.place.source}" if unit.place is not None and unit.place.source.isprintable() else ""


# ---------------------------------------------------------------- endpoints


class _Endpoints:
    """Who is behind NAT, as the network file has it, and which ends need an endpoint (or none) of their own."""

    def __init__(self, found: Draft) -> None:
        self.findings: list[Finding] = []
        self.of: dict[str, HostPort | None] = {}
        for unit in found.units:
            # A node with an endpoint listens on a port that is known; where none is, each link says where it is found.
            known = unit.interface is None or unit.listen_port
            self.of[unit.name] = unit.endpoint if known else None
        self._give(found)

    def _give(self, found: Draft) -> None:
        """A name that leads nowhere to one end of each link of which nobody knows an end: to as few nodes as possible."""
        lost = []
        for pair, said in found.pairs().items():
            if not any(one.peer.endpoint for one in said) and all(self.of[name] is None for name in pair):
                lost.append(tuple(sorted(pair)))
        while lost:
            counted = Counter(name for pair in lost for name in pair)
            units = {unit.name: unit for unit in found.units}
            best = max(
                counted, key=lambda each: (counted[each], bool(units[each].listen_port), units[each].host is not None, each)
            )
            unit = units[best]
            self.of[best] = HostPort(f"{best}.invalid", 0 if unit.listen_port else DEFAULT_LISTEN_PORT)
            message = f"{best}: nobody says where it is reached; {best}.invalid stands for it"
            self.findings.append(Finding("G0813", message, (unit.place,) if unit.place else (), nodes=(best,)))
            lost = [pair for pair in lost if best not in pair]


# ---------------------------------------------------------------- candidates


def _candidates(found: Draft, endpoints: _Endpoints, links: plain.Joined, name: str) -> Iterator[Network]:
    """Networks that say what was imported, the one that needs fewest words first."""
    base = _base(found, endpoints, links, name)
    ranked: list[tuple[int, int, Network]] = []
    for index, shape in enumerate(_shapes(base, found)):
        try:
            lock = allocate(shape, _pins(found))
        except ConfigError:
            continue
        compilation = Compilation(shape, lock)
        network, said = _with_ends(shape, found, compilation, links)
        said += _CHANGED * sum(
            unit.host.forwards is False and compilation.node(unit.name).forwards for unit in found.units if unit.host is not None
        )
        ranked.append((said, index, network))
        if not said and len(found.pairs()) > _MANY:
            yield network
    ranked.sort(key=lambda each: each[:2])
    for _, _, network in ranked:
        yield network
    for _, _, network in ranked:
        without = replace(network, nodes=tuple(replace(node, exit=None) for node in network.nodes))
        if without != network:
            lock = allocate(without, _pins(found))
            yield _with_ends(without, found, Compilation(without, lock), links)[0]


def _shapes(base: Network, found: Draft) -> Iterator[Network]:
    names = [node.name for node in base.nodes]
    reachable = {node.name for node in base.nodes if node.endpoint is not None}
    pairs = set(found.pairs())
    if not pairs:
        yield replace(base, shape="none")
        return
    relays = frozenset(_relays(found) & reachable)
    hidden = len(names) - len(reachable)
    complete = len(pairs) == len(reachable) * (len(reachable) - 1) // 2 + len(reachable) * hidden
    mesh = complete and all(not pair.isdisjoint(reachable) for pair in pairs)
    with_relays = replace(base, nodes=tuple(replace(node, relay=node.name in relays) for node in base.nodes))
    degree = Counter(name for pair in pairs for name in pair)
    if mesh and len(pairs) >= len(names):  # more than a star
        yield replace(with_relays, shape="mesh")
    for hub, count in degree.most_common(2):
        if count == len(names) - 1 and hub in reachable and len(names) > 2:
            own = replace(base, nodes=tuple(replace(node, relay=node.name in relays and node.name != hub) for node in base.nodes))
            yield replace(own, shape="hub", hubs=(hub,))
    if mesh and len(pairs) < len(names):
        yield replace(with_relays, shape="mesh")
    yield replace(base, shape="none")
    if relays:
        yield replace(with_relays, shape="none")


def _relays(found: Draft) -> set[str]:
    """Nodes to which somebody sends what is another's address or LAN."""
    owner = {address.host: unit.name for unit in found.units for address in unit.address}
    owner |= {lan: unit.name for unit in found.units for lan in unit.lans}
    carrying = set()
    for one in found.said:
        whose = {owner[prefix] for prefix in one.peer.allowed_ips if prefix in owner}
        wide = any(prefix.length and any(holds(prefix, pool) for pool in found.pools) for prefix in one.peer.allowed_ips)
        if wide or whose - {one.of.name}:
            carrying.add(one.of.name)
    return carrying


def _base(found: Draft, endpoints: _Endpoints, links: plain.Joined, name: str) -> Network:
    """Everything but the shape."""
    own = [unit.interface for unit in found.units if unit.interface is not None]
    interface = _usual([each.name for each in own], "wg0")
    mtus = [each.mtu or _USUAL_MTU for each in own]
    mtu = (
        mtus[0] if mtus and len(set(mtus)) == 1 and mtus[0] != _USUAL_MTU and _MTU_RANGE[0] <= mtus[0] <= _MTU_RANGE[1] else None
    )
    underlay = max([1500, *(each + _OVERHEAD for each in mtus)])
    reached = [unit for unit in found.units if endpoints.of[unit.name] is not None]
    port = _usual([unit.listen_port for unit in reached if unit.listen_port], DEFAULT_LISTEN_PORT)
    nodes = tuple(_node(unit, found, endpoints, links, interface, port, mtu, underlay) for unit in found.units)
    secret = sum(any(one.peer.psk for one in said) for said in found.pairs().values())
    return Network(
        name=name,
        pool=found.pools,
        nodes=nodes,
        shape="none",
        interface=interface,
        listen_port=port,
        mtu=mtu,
        psk="random" if secret * 2 > len(found.pairs()) else "none",
        links=(),
    )


def _usual(values: Sequence[_T], default: _T) -> _T:
    """The most frequent value; of equals the first."""
    return Counter(values).most_common(1)[0][0] if values else default


def _node(
    unit: Unit,
    found: Draft,
    endpoints: _Endpoints,
    links: plain.Joined,
    interface: str,
    port: int,
    mtu: int | None,
    underlay: int,
) -> Node:
    own = unit.interface
    endpoint = endpoints.of[unit.name]
    if (tunnels_end := links.endpoints().get(unit.name)) is not None:
        endpoint = HostPort(tunnels_end.host, endpoint.port if endpoint is not None else 0)
    listen_port = unit.listen_port or None
    if endpoint is not None:
        if endpoint.port == (listen_port or port):
            endpoint = HostPort(endpoint.host)
        if listen_port == port:
            listen_port = None
    address = tuple(address.packed for address in unit.address)
    exact = [(pool.length, True) for pool in found.pools] != [
        (each.length, holds(pool, each.host)) for each, pool in zip(unit.address, found.pools, strict=False)
    ] or len(unit.address) != len(found.pools)
    said = found.peers_of(unit)
    natural = 0 if endpoint is not None else NAT_KEEPALIVE_S
    keepalive = _usual([peer.keepalive_s for peer in said], natural)
    node = Node(
        name=unit.name,
        endpoint=endpoint,
        lans=tuple(unit.lans),
        exit=unit.exit,
        address=address if own is None or unit.host is None or unit.address else (),
        lengths=tuple(each.length for each in unit.address) if exact and unit.host is not None else (),
        runs="ginnel" if unit.host is not None else "other",
        underlay_mtu=underlay,
    )
    if node.address and not node.lengths and len(node.address) > len(found.pools):
        node = replace(node, lengths=tuple(each.length for each in unit.address))
    if unit.host is None:
        lacking = exact and unit.address
        return replace(node, listen_port=listen_port, lengths=tuple(each.length for each in unit.address) if lacking else ())
    if own is None:
        return replace(node, address=(), lengths=())
    return replace(
        node,
        listen_port=listen_port,
        interface=own.name if own.name != interface else None,
        mtu=own.mtu if own.mtu not in {mtu, None, _USUAL_MTU if mtu is None else None} and _fits(own.mtu) else None,
        keepalive_s=keepalive if keepalive != natural and said else None,
        table=own.table,
        fwmark=own.fwmark,
        hooks=own.hooks,
        dns=own.dns,
        search=own.search,
    )


def _fits(mtu: int | None) -> bool:
    return mtu is not None and _MTU_RANGE[0] <= mtu <= _MTU_RANGE[1]


# ---------------------------------------------------------------- what ends have of their own


def _with_ends(shape: Network, found: Draft, compilation: Compilation, links: plain.Joined) -> tuple[Network, int]:
    """*shape* with the links that it does not make by itself, and what ends have otherwise; and how much that is to say."""
    made = {link_ends: True for node in compilation.nodes() for link_ends in _linked(node)} if shape.shape != "none" else {}
    complete = shape
    if missing := [pair for pair in found.pairs() if pair not in made]:
        complete = replace(shape, links=tuple(Link(_ordered(pair, found)) for pair in missing))
    complete = replace(complete, links=(*complete.links, *links.links()))
    compiled = Compilation(complete, allocate(complete, _pins(found))) if complete is not shape else compilation
    named: dict[frozenset[str], Link] = {frozenset(link.between): link for link in complete.links}
    said = len(named)
    psk = complete.psk != "none"
    known: dict[str, dict[str, PeerDescription]] = {}

    def peers_of(name: str) -> dict[str, PeerDescription]:
        if name not in known:
            known[name] = {peer.name: peer for peer in compiled.node(name).peers}
        return known[name]

    for pair, statements in found.pairs().items():
        ends = {one.by.name: _own_end(one, peers_of(one.by.name)[one.of.name]) for one in statements}
        ends |= {name: LinkEnd() for name in pair if name not in ends}
        secret = any(one.peer.psk for one in statements)
        differs = [end for end in ends.values() if end != LinkEnd()]
        if differs or secret != psk:
            link = named.get(pair) or Link(_ordered(pair, found))
            said += len(differs) + (pair not in named)
            one, other = link.between
            named[pair] = replace(link, ends=(ends[one], ends[other]), psk=secret if secret != psk else None)
    for pair_of_ends in links.pairs:
        said += _own_routes(pair_of_ends, compiled, named)
    return replace(complete, links=tuple(named.values())), said


def _own_routes(ends: tuple[plain.End, plain.End], compiled: Compilation, named: dict[frozenset[str], Link]) -> int:
    """What the ends of a link route otherwise than the compilation; how many do."""
    pair = frozenset(end.unit.name for end in ends)
    own = []
    for end, other in (ends, ends[::-1]):
        tunnel = compiled.node(end.unit.name).tunnel(other.unit.name)
        usual = gre.device_name(other.unit.name, named[pair].kind)
        device = end.config.name if end.config.name != usual else None
        differs = {str(prefix) for prefix in end.routes} != set(tunnel.config.routes)
        own.append(LinkEnd(allowed=end.routes if differs else None, device=device))
        computed = tunnel.mtu_arithmetic.inner == end.config.mtu
        if computed and (options := named[pair].gre) is not None:
            named[pair] = replace(named[pair], gre=replace(options, mtu=None))
    named[pair] = replace(named[pair], ends=(own[0], own[1]))
    return sum(each.allowed is not None for each in own)


def _linked(node: NodeDescription) -> Iterator[frozenset[str]]:
    for peer in node.peers:
        yield frozenset((node.name, peer.name))


def _ordered(pair: frozenset[str], found: Draft) -> tuple[str, str]:
    one, other = sorted(pair, key=found.index)
    return one, other


def _own_end(said: Said, peer: PeerDescription) -> LinkEnd:
    """What a host has for a peer, where the compilation has something else."""
    allowed = said.peer.allowed_ips if set(peer.allowed_ips) != set(said.peer.allowed_ips) else None
    endpoint = None
    if peer.endpoint != said.peer.endpoint:
        endpoint = said.peer.endpoint or NO_ENDPOINT
    keepalive = said.peer.keepalive_s if peer.keepalive_s != said.peer.keepalive_s else None
    return LinkEnd(allowed, endpoint, keepalive)


# ---------------------------------------------------------------- what is pinned, what is left


def _pins(found: Draft) -> Lock:
    """Addresses and public keys as they are."""
    nodes = {}
    for unit in found.units:
        address = tuple(address.packed for pool in found.pools for address in unit.address if holds(pool, address.host))
        nodes[unit.name] = Pinned(tuple(dict.fromkeys(address)), unit.listen_port, unit.key)
    return Lock(nodes)


def _left(imported: Sequence[Host], found: Draft, links: plain.Joined, compilation: Compilation) -> Plan:
    """What the network file would change at the hosts that were imported."""
    after = [compilation.node(unit.name).host() for unit in found.units if unit.host is not None]
    return plan(links.without_untaken(imported), after)


def _not_the_same(left: Plan) -> Iterator[Finding]:
    for host in left.hosts:
        for step in host.steps:
            called = " ".join(part for part in (step.device, step.peer) if part)
            yield Finding("G0815", f"{host.name}: {called + ': ' if called else ''}{step.text}", nodes=(host.name,))
