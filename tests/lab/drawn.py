"""
Random networks, and random faults planted in what their hosts run. The same seed draws the same network and the same faults.

A network is drawn as the text of a network file, so that what is tested is what a person could have written; what the parser
refuses is drawn anew. Faults are planted in the node descriptions, where a file written by hand could have them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ginnel.errors import ConfigError
from ginnel.network import Lock, Network, NodeDescription, PeerDescription, TunnelDescription, allocate, parse_network
from ginnel.network.model import HostPort
from ginnel.network.reach import Fleet
from ginnel.network.reach.routes import Routings
from ginnel.units import Prefix

NAMES = ("paris", "lyon", "berlin", "oslo", "rome", "cork")
Kind = str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A network, and how its hosts are spoiled."""

    seed: int
    text: str
    network: Network
    lock: Lock
    faults: tuple[str, ...]
    descriptions: dict[str, NodeDescription]


def draw(seed: int, compiled: Callable[[Network, Lock], dict[str, NodeDescription]]) -> Drawn:
    """The network of *seed*; every other one has faults."""
    for attempt in range(200):
        chance = random.Random(f"{seed}/{attempt}")
        text = _text(chance)
        try:
            network = parse_network(text, f"seed {seed}")
            lock = allocate(network, Lock())
            descriptions = compiled(network, lock)
        except ConfigError:
            continue
        fleet = Fleet(each.host() for each in descriptions.values())
        if any(Routings(fleet)[name].conflicts for name in descriptions):
            continue  # a node that does not come up has nothing to be compared
        faults: list[str] = []
        if seed % 2:
            for _ in range(chance.randint(1, 3)):
                _spoil(chance, network, descriptions, faults)
        return Drawn(seed, text, network, lock, tuple(faults), descriptions)
    raise AssertionError(f"seed {seed} draws nothing that the parser takes")


# ---------------------------------------------------------------- files


def _text(chance: random.Random) -> str:
    names = NAMES[: chance.randint(2, 5)]
    shape = chance.choice(("mesh", "mesh", "hub", "none"))
    kind = chance.choice(("wireguard", "wireguard", "wireguard", "gre", "gre+ipsec", "ipsec"))
    pools = chance.choice((('"10.10.0.0/24"',), _BOTH, _BOTH, ('"fd10:10::/64"',)))
    lines = ["[network]", 'name = "drawn"', f"pool = [{', '.join(pools)}]", f'shape = "{shape}"', f'kind = "{kind}"']
    public = [name for name in names if chance.random() < 0.6] or [names[0]]
    if shape == "hub":
        lines.append(f"hub = [{', '.join(json.dumps(name) for name in public[: chance.choice((1, 1, 2))])}]")
    for index, name in enumerate(names):
        lines += ["", f"[node.{name}]", *_node(chance, index, name in public)]
        if kind == "wireguard" and name not in public and shape != "none" and chance.random() < 0.3:
            lines.append(f'exit = "{public[0]}"')
    pairs = [(left, right) for index, left in enumerate(names) for right in names[index + 1 :]]
    for left, right in pairs:
        if chance.random() < {"none": 0.7, "hub": 0.15, "mesh": 0.2}[shape]:
            lines += ["", "[[link]]", f'between = ["{left}", "{right}"]']
            other = chance.choice(("wireguard", "gre", "gre+ipsec")) if chance.random() < 0.4 else ""
            lines += [f'kind = "{other}"'] if other else []
            if (other or kind) == "wireguard" and chance.random() < 0.15:
                lines.append(f'ends.{right} = {{ endpoint = "192.0.2.{len(lines)}:51820" }}')
            elif chance.random() < 0.15:
                lines.append(f"ends.{left} = {{ allowed-ips = {json.dumps(chance.choice(_ODD))} }}")
    if len(public) > 1 and chance.random() < 0.35:
        edges = public[: chance.choice((1, 2))]
        origin = chance.choice([name for name in names if name not in edges] or [public[-1]])
        addresses = chance.choice((["198.51.100.64/29"], ["198.51.100.64/32", "2001:db8:77::/64"]))
        lines += [
            "",
            "[[protect]]",
            f"edge = {json.dumps(edges)}",
            f'origin = "{origin}"',
            f"addresses = {json.dumps(addresses)}",
        ]
        if chance.random() < 0.4:
            lines.append("only-edges = true")
    return "\n".join(lines) + "\n"


_BOTH = ('"10.10.0.0/24"', '"fd10:10::/64"')
#: What an end of a link may have written down that is not what follows from the network.
_ODD = (["10.10.0.0/24"], ["10.20.0.0/15"], ["10.10.0.2/32", "10.21.0.0/24"], ["fd10:10::/64", "10.10.0.0/24", "10.22.0.0/24"])


def _node(chance: random.Random, index: int, public: bool) -> Iterator[str]:
    if public:
        yield f'endpoint = "203.0.113.{10 + index}"'
        if chance.random() < 0.4:
            yield "relay = true"
    lans = [f'"10.{20 + index}.{number}.0/24"' for number in range(chance.choice((0, 1, 1, 2)))]
    lans += [f'"fd{20 + index}::/64"'] * (chance.random() < 0.4)
    if chance.random() < 0.2:
        lans.append(f'{{ seen = "10.{120 + index}.0.0/24", real = "192.168.1.0/24" }}')
    if lans:
        yield f"lans = [{', '.join(lans)}]"


# ---------------------------------------------------------------- faults


def _spoil(chance: random.Random, network: Network, nodes: dict[str, NodeDescription], said: list[str]) -> None:
    """One fault in one node, or none where it has nothing to spoil."""
    name = chance.choice(sorted(nodes))
    node = nodes[name]
    options: list[Callable[[], tuple[NodeDescription, str] | None]] = []
    if node.peers:
        peer = chance.choice(node.peers)
        options += [
            lambda: _less_allowed(chance, node, peer),
            lambda: _moved(chance, node, peer),
            lambda: _stranger(chance, network, node, peer),
            lambda: _forgotten(node, peer),
            lambda: _no_endpoint(node, peer),
            lambda: _misled(network, node, peer),
        ]
    if node.tunnels:
        tunnel = chance.choice(node.tunnels)
        options += [
            lambda: _less_routed(chance, node, tunnel),
            lambda: _key(node, tunnel),
            lambda: _checksums(node, tunnel),
        ]
    if node.masquerades:
        options.append(lambda: (replace(node, masquerades=()), f"{name} hides nobody"))
    if node.forwards:
        options.append(lambda: (replace(node, forwards=False), f"{name} does not forward"))
    found = chance.choice(options)() if options else None
    if found is not None:
        nodes[name] = found[0]
        said.append(found[1])


def _with_peer(node: NodeDescription, peer: PeerDescription, changed: PeerDescription | None) -> NodeDescription:
    peers = tuple(changed if each is peer else each for each in node.peers)
    return replace(node, peers=tuple(each for each in peers if each is not None))


def _less_allowed(chance: random.Random, node: NodeDescription, peer: PeerDescription) -> tuple[NodeDescription, str] | None:
    if not peer.allowed_ips:
        return None
    gone = chance.choice(peer.allowed_ips)
    rest = tuple(prefix for prefix in peer.allowed_ips if prefix != gone)
    return _with_peer(node, peer, replace(peer, allowed_ips=rest)), f"{node.name} has not {gone} of {peer.name}"


def _moved(chance: random.Random, node: NodeDescription, peer: PeerDescription) -> tuple[NodeDescription, str] | None:
    others = [each for each in node.peers if each is not peer]
    if not others or not peer.allowed_ips:
        return None
    other, prefix = chance.choice(others), chance.choice(peer.allowed_ips)
    if prefix in other.allowed_ips:
        return None
    took = replace(other, allowed_ips=(*other.allowed_ips, prefix))
    lost = replace(peer, allowed_ips=tuple(each for each in peer.allowed_ips if each != prefix))
    return _with_peer(_with_peer(node, peer, lost), other, took), f"{node.name} has {prefix} of {peer.name} at {other.name}"


def _stranger(
    chance: random.Random, network: Network, node: NodeDescription, peer: PeerDescription
) -> tuple[NodeDescription, str] | None:
    lans = [lan for each in network.nodes for lan in each.lans if each.name not in (node.name, peer.name)]
    known = {prefix for each in node.peers for prefix in each.allowed_ips}
    free = [lan for lan in lans if lan not in known and lan.length < len(lan.packed) * 8]
    if not free:
        return None
    lan = chance.choice(free)
    half = Prefix(lan.packed, lan.length + 1)
    changed = replace(peer, allowed_ips=(*peer.allowed_ips, half))
    return _with_peer(node, peer, changed), f"{node.name} sends {half} to {peer.name}"


def _forgotten(node: NodeDescription, peer: PeerDescription) -> tuple[NodeDescription, str] | None:
    if node.protects:
        return None  # what its firewall is about would be gone
    return _with_peer(node, peer, None), f"{node.name} does not know {peer.name}"


def _no_endpoint(node: NodeDescription, peer: PeerDescription) -> tuple[NodeDescription, str] | None:
    if peer.endpoint is None:
        return None
    return _with_peer(node, peer, replace(peer, endpoint=None)), f"{node.name} has no endpoint for {peer.name}"


def _misled(network: Network, node: NodeDescription, peer: PeerDescription) -> tuple[NodeDescription, str] | None:
    others = [
        each.endpoint.host for each in network.nodes if each.endpoint is not None and each.name not in (node.name, peer.name)
    ]
    if not others or peer.endpoint is None:
        return None
    wrong = replace(peer, endpoint=HostPort(others[0], peer.endpoint.port))
    return _with_peer(node, peer, wrong), f"{node.name} looks for {peer.name} at {others[0]}"


def _with_tunnel(node: NodeDescription, tunnel: TunnelDescription, **changes: object) -> NodeDescription:
    changed = replace(tunnel, config=replace(tunnel.config, **changes))  # type: ignore[arg-type]
    return replace(node, tunnels=tuple(changed if each is tunnel else each for each in node.tunnels))


def _less_routed(chance: random.Random, node: NodeDescription, tunnel: TunnelDescription) -> tuple[NodeDescription, str] | None:
    if not tunnel.config.routes:
        return None
    gone = chance.choice(tunnel.config.routes)
    rest = tuple(each for each in tunnel.config.routes if each != gone)
    return _with_tunnel(node, tunnel, routes=rest), f"{node.name} has no route {gone} to {tunnel.peer}"


def _key(node: NodeDescription, tunnel: TunnelDescription) -> tuple[NodeDescription, str] | None:
    if tunnel.config.kind != "gre":
        return None
    return _with_tunnel(node, tunnel, ikey=777, okey=777), f"{node.name} has another key for {tunnel.peer}"


def _checksums(node: NodeDescription, tunnel: TunnelDescription) -> tuple[NodeDescription, str] | None:
    if tunnel.config.kind != "gre":
        return None
    return _with_tunnel(node, tunnel, icsum=True, ocsum=True), f"{node.name} has checksums to {tunnel.peer}"
