"""
From one network to what each host runs: a `NodeDescription` a node.

Who is a peer of whom and through whom the others are reached is `paths`; what each has of its peers is `peers`, of its links
with devices of their own `tunnels`. Here it comes together: addresses, ports, MTU (of the narrowest underlay among a node and its
peers), whether the host forwards, what it hides behind its own address; and, last, what protected origins change (`origin`).

A description depends on nothing but the network, the lock and the public keys; so one that would come out as it was before is
the one that was there before, the same object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ginnel.network import mtu as arithmetic_of
from ginnel.network import origin
from ginnel.network.description import NodeDescription, PeerDescription, TunnelDescription
from ginnel.network.host import InterfaceAddress
from ginnel.network.lock import Lock
from ginnel.network.model import Lab, Network, Node, Protect
from ginnel.network.paths import Paths
from ginnel.network.peers import Peers, Prefixes
from ginnel.network.tunnels import tunnels_of
from ginnel.units import PublicKey

__all__ = ["Compilation", "NodeDescription", "PeerDescription", "TunnelDescription", "compile_network"]

#: Up to so many peers a node's narrowest underlay is looked for among them, beyond it among the network's narrowest nodes.
_FEW = 64


class Compilation:
    """
    A network on its way to its hosts: one description a node, made when it is asked for and then kept.

    `updated` makes the compilation of a network that has changed, `without` that of the same one while a node is down; both
    take over what the change does not touch.
    """

    def __init__(self, network: Network, lock: Lock, keys: Mapping[str, PublicKey] | None = None) -> None:
        """
        Args:
            network: a checked network.
            lock: the result of `addressing.allocate` for it.
            keys: public keys by node; those of *lock* where this has none. A node may be without.
        """
        pinned = {name: pin.public_key for name, pin in lock.nodes.items() if pin.public_key is not None}
        self._begin(network, lock, pinned | dict(keys or {}), Paths(network), None)

    def _begin(
        self, network: Network, lock: Lock, keys: Mapping[str, PublicKey], paths: Paths, before: Compilation | None
    ) -> None:
        self.network, self.lock, self.keys, self.paths = network, lock, keys, paths
        self._nodes = {node.name: node for node in network.nodes}
        self._prefixes: Prefixes = Prefixes(paths, lock, before._prefixes if before is not None else None)
        self._peers: Peers = Peers(network, lock, keys, paths, self._prefixes, before._peers if before is not None else None)
        self._made: dict[str, NodeDescription] = {}
        #: What each description was made of, beside what is the same for all.
        self._made_of: dict[str, tuple[object, ...]] = {}
        self._settings = replace(network, nodes=(), links=(), groups=(), hubs=(), regions=(), expects=(), lab=Lab())
        alike = before is not None and before._settings == self._settings
        self._before: Mapping[str, NodeDescription] = before._made if before is not None and alike else {}
        self._before_of: Mapping[str, tuple[object, ...]] = before._made_of if before is not None and alike else {}
        self._leaving: dict[str, list[Node]] = {}
        self._protects: dict[str, list[Protect]] = {}
        for node in network.nodes:
            if node.exit is not None:
                self._leaving.setdefault(node.exit, []).append(node)
        for protect in network.protects:
            for name in dict.fromkeys((*protect.edges, protect.origin)):
                self._protects.setdefault(name, []).append(protect)
        self._narrowest = sorted(network.nodes, key=lambda node: node.underlay_mtu)
        self._mtus: dict[int, arithmetic_of.Mtu] = {}
        self._carriers = {node.name for node in network.nodes if network.carries(node)}

    def node(self, name: str) -> NodeDescription:
        """What the node *name* runs; KeyError when there is no such node."""
        if (made := self._made.get(name)) is None:
            made = self._made[name] = self._compiled(self._nodes[name])
        return made

    def nodes(self) -> Iterator[NodeDescription]:
        """Every node's, in file order."""
        return map(self.node, self._nodes)

    def updated(self, network: Network, lock: Lock, keys: Mapping[str, PublicKey] | None = None) -> Compilation:
        """
        The compilation of what the network has become.

        A description that is not touched by what has changed is the same object as in this one, and so is each peer. Keys of this
        one are kept where neither *lock* nor *keys* has one.
        """
        pinned = {name: pin.public_key for name, pin in lock.nodes.items() if pin.public_key is not None}
        following = Compilation.__new__(Compilation)
        following._begin(network, lock, {**self.keys, **pinned, **(keys or {})}, Paths(network, self.paths), self)
        return following

    def without(self, name: str) -> Compilation:
        """
        What the hosts become while the relay or hub *name* is down: AllowedIPs and routes move to the second one, nothing else
        changes, no session ends. *name* itself is what it was; KeyError when there is no such node.
        """
        own = self.node(name)
        following = Compilation.__new__(Compilation)
        following._begin(self.network, self.lock, self.keys, self.paths.without(name), self)
        following._made[name] = own
        return following

    def _compiled(self, node: Node) -> NodeDescription:
        network, pin = self.network, self.lock.nodes[node.name]
        neighbours = self._peers.neighbours(node.name)
        peers = self._peers.of(node, neighbours)
        own_devices = self._own_devices(node.name, neighbours)
        tunnels = tunnels_of(network, node, own_devices, self.paths, self._prefixes, self.lock) if own_devices else ()
        through = self._leaving.get(node.name, ())
        leaving = tuple(prefix for other in through for prefix in self._prefixes.of(other.name, node.name)) if through else ()
        underlay, carries, key = self._narrow(node, neighbours), node.name in self._carriers, self.keys.get(node.name)
        made_of = (node, pin, key, peers, tunnels, leaving, underlay, carries)
        known_of = self._before_of.get(node.name)
        same = known_of == made_of
        self._made_of[node.name] = known_of if known_of is not None and same else made_of
        before = self._before.get(node.name) if same else None
        protects = tuple(self._protects.get(node.name, ()))
        if before is not None and not protects:
            return before
        arithmetic = self._mtus.get(underlay) or self._mtus.setdefault(underlay, arithmetic_of.wireguard(underlay, network.outer))
        description = NodeDescription(
            node=node,
            network=network.name,
            interface=node.interface or network.interface,
            address=_addresses(network, node, pin.address, tunnels),
            listen_port=pin.listen_port,
            mtu=node.mtu or network.mtu or arithmetic.inner,
            mtu_arithmetic=arithmetic,
            peers=peers,
            dns=node.dns,
            forwards=bool(node.lans or leaving or carries),
            masquerades=leaving,
            wireguard=bool(peers) or not tunnels,
            tunnels=tunnels,
            public_key=key,
            search=node.search,
            protects=protects,
        )
        # What an edge runs depends on the origin's other peers as well.
        arranged = origin.arranged(description, network, self.paths)
        return before if before == arranged else arranged

    def _own_devices(self, name: str, neighbours: tuple[str, ...]) -> tuple[str, ...]:
        """The nodes that it is linked with otherwise than as with its peers."""
        if self.paths.only_wireguard:
            return ()
        linked, peers = self.paths.neighbours(name), set(neighbours)
        return tuple(other for other in linked if other not in peers) if len(linked) > len(neighbours) else ()

    def _narrow(self, node: Node, neighbours: tuple[str, ...]) -> int:
        """What the narrowest underlay among a node and its peers carries."""
        if self._narrowest[0].underlay_mtu == node.underlay_mtu:
            return node.underlay_mtu
        if len(neighbours) <= _FEW:
            return min([node.underlay_mtu, *(self._nodes[name].underlay_mtu for name in neighbours)])
        linked: set[str] = set()
        for other in self._narrowest:
            if other.underlay_mtu >= node.underlay_mtu:
                break
            linked = linked or set(neighbours)
            if other.name in linked:
                return other.underlay_mtu
        return node.underlay_mtu


def compile_network(network: Network, lock: Lock, keys: Mapping[str, PublicKey]) -> dict[str, NodeDescription]:
    """
    Compile a network at once.

    Args:
        network: a checked network.
        lock: the result of `addressing.allocate` for it.
        keys: the public key of every node that has a WireGuard link.

    Returns:
        one description per node, in file order.
    """
    return {description.name: description for description in Compilation(network, lock, keys).nodes()}


def _addresses(
    network: Network, node: Node, pinned: tuple[bytes, ...], tunnels: tuple[TunnelDescription, ...]
) -> tuple[InterfaceAddress, ...]:
    """What the node is called by: its own addresses with their or their pools' lengths, or those of one of its GRE links."""
    if node.lengths:
        return tuple(map(InterfaceAddress, node.address, node.lengths))
    for tunnel in tunnels:
        if tuple(item.packed for item in tunnel.address) == pinned:
            return tunnel.address
    return tuple(InterfaceAddress(packed, pool.length) for packed, pool in zip(pinned, network.pool, strict=bool(pinned)))
