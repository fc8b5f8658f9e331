"""
From one network to what each host runs: the node description.

A `NodeDescription` is complete and holds no secret: interface, addresses, MTU with its arithmetic, peers with their
prefixes, whether the host forwards, what it hides behind its own address. Everything that renders or runs a node reads it.

Rules: a peer's AllowedIPs are the addresses and LANs of every node that is reached *through* that peer (itself included),
so every prefix of the network appears at most once on a node, and the source check holds on every hop (see `paths`).
A node with an exit gives that peer everything (`0.0.0.0/0, ::/0`). The side behind NAT sends the keepalives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ginnel.network import mtu as arithmetic_of
from ginnel.network.addressing import Lock
from ginnel.network.model import NAT_KEEPALIVE_S, HostPort, Network, Node
from ginnel.network.paths import Paths
from ginnel.units import Prefix, PublicKey

_EVERYTHING = (Prefix(bytes(4), 0), Prefix(bytes(16), 0))


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address of the interface, with the length of its pool."""

    packed: bytes
    length: int

    @property
    def host(self) -> Prefix:
        """The address alone, as a prefix."""
        return Prefix(self.packed, len(self.packed) * 8)

    def __str__(self) -> str:
        return f"{self.host.address}/{self.length}"


@dataclass(frozen=True, slots=True)
class PeerDescription:
    """One peer as a node has it."""

    name: str
    public_key: PublicKey
    allowed_ips: tuple[Prefix, ...]
    #: With its port filled in; None: it is behind NAT and speaks first.
    endpoint: HostPort | None
    keepalive_s: int
    #: Nodes that are reached through it, besides itself.
    carries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """Exactly what one host runs."""

    node: Node
    network: str
    interface: str
    address: tuple[InterfaceAddress, ...]
    #: 0: any.
    listen_port: int
    mtu: int
    mtu_arithmetic: arithmetic_of.Mtu
    peers: tuple[PeerDescription, ...]
    dns: tuple[str, ...]
    #: It passes packets on: it has LANs, carries between others, or is somebody's exit.
    forwards: bool
    #: Sources that leave through this node under its own address.
    masquerades: tuple[Prefix, ...]

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    def peer(self, name: str) -> PeerDescription:
        """The peer called *name*; KeyError when there is none."""
        for peer in self.peers:
            if peer.name == name:
                return peer
        raise KeyError(name)


def compile_network(network: Network, lock: Lock, keys: Mapping[str, PublicKey]) -> dict[str, NodeDescription]:
    """
    Compile a network.

    Args:
        network: a checked network.
        lock: the result of `addressing.allocate` for it.
        keys: every node's public key.

    Returns:
        one description per node, in file order.

    Raises:
        KeyError: a node without a pin or a key.
    """
    paths = Paths(network)
    return {node.name: _node(network, node, paths, lock, keys) for node in network.nodes}


def prefixes_of(lock: Lock, node: Node) -> tuple[Prefix, ...]:
    """What lies at a node: its tunnel addresses as host prefixes, then its LANs."""
    return (*(Prefix(packed, len(packed) * 8) for packed in lock.nodes[node.name].address), *node.lans)


def _node(network: Network, node: Node, paths: Paths, lock: Lock, keys: Mapping[str, PublicKey]) -> NodeDescription:
    neighbours = paths.neighbours(node.name)
    behind: dict[str, list[Node]] = {name: [] for name in neighbours}
    for other in network.nodes:
        if other is not node and (hop := paths.next_hop(node.name, other.name)) is not None:
            behind[hop].append(other)
    leaving = [other for other in network.nodes if other.exit == node.name]
    underlay = min([node.underlay_mtu, *(network.node(name).underlay_mtu for name in neighbours)])
    arithmetic = arithmetic_of.wireguard(underlay, network.outer)
    pin = lock.nodes[node.name]
    return NodeDescription(
        node=node,
        network=network.name,
        interface=network.interface,
        address=tuple(InterfaceAddress(packed, pool.length) for packed, pool in zip(pin.address, network.pool, strict=True)),
        listen_port=pin.listen_port,
        mtu=arithmetic.inner if network.mtu is None else network.mtu,
        mtu_arithmetic=arithmetic,
        peers=tuple(_peer(node, network.node(name), behind[name], lock, keys) for name in neighbours),
        dns=node.dns,
        forwards=bool(node.lans or leaving) or network.carries(node),
        masquerades=tuple(prefix for other in leaving for prefix in prefixes_of(lock, other)),
    )


def _peer(node: Node, peer: Node, behind: list[Node], lock: Lock, keys: Mapping[str, PublicKey]) -> PeerDescription:
    if node.exit == peer.name:
        allowed: tuple[Prefix, ...] = _EVERYTHING
    else:
        ordered = [peer, *(other for other in behind if other is not peer)]
        allowed = tuple(prefix for other in ordered for prefix in prefixes_of(lock, other))
    endpoint = None
    if peer.endpoint is not None:
        endpoint = HostPort(peer.endpoint.host, peer.endpoint.port or lock.nodes[peer.name].listen_port)
    return PeerDescription(
        name=peer.name,
        public_key=keys[peer.name],
        allowed_ips=allowed,
        endpoint=endpoint,
        keepalive_s=NAT_KEEPALIVE_S if node.behind_nat else 0,
        carries=tuple(other.name for other in behind if other is not peer),
    )
