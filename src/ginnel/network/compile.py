"""
From one network to what each host runs: the node description.

A `NodeDescription` is complete and holds no secret: interface, addresses, MTU with its arithmetic, peers with their
prefixes, GRE tunnels with their routes, whether the host forwards, what it hides behind its own address. Everything that
renders or runs a node reads it: WireGuard as one wg-quick file, GRE as one node file (`NodeConfig`).

Rules: a peer's AllowedIPs (a GRE tunnel's routes) are the addresses and LANs of every node that is reached *through* that
peer (itself included), so every prefix of the network appears at most once on a node, and the source check holds on every
hop (see `paths`). To a node whose addresses are those of its GRE links belongs that one, too, from which what it sends here
comes. A node with an exit gives that peer everything (`0.0.0.0/0, ::/0`). The side behind NAT sends the keepalives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ginnel import mtu
from ginnel.config.node import NodeConfig, PlainConfig
from ginnel.network import gre, ipsec, origin
from ginnel.network import mtu as arithmetic_of
from ginnel.network.addressing import Lock
from ginnel.network.host import Host, InterfaceAddress, Peer, Tunnel, WireguardInterface
from ginnel.network.model import NAT_KEEPALIVE_S, HostPort, Link, Mapped, Network, Node, Protect
from ginnel.network.paths import Paths
from ginnel.units import Prefix, PublicKey

_EVERYTHING = (Prefix(bytes(4), 0), Prefix(bytes(16), 0))


@dataclass(frozen=True, slots=True)
class PeerDescription:
    """One peer as a node has it."""

    name: str
    #: None: not known yet; what is rendered needs it (`ginnel keys new`).
    public_key: PublicKey | None
    allowed_ips: tuple[Prefix, ...]
    #: With its port filled in; None: it is behind NAT and speaks first.
    endpoint: HostPort | None
    keepalive_s: int
    #: Nodes that are reached through it, besides itself.
    carries: tuple[str, ...] = ()
    #: Whether the pair has a preshared key.
    psk: bool = False
    #: The key that the peer of this name is about to take: known, and without a prefix until it does.
    coming: bool = False


@dataclass(frozen=True, slots=True)
class TunnelDescription:
    """One link that is point to point as one of its ends has it; files of secrets are named relative to the node file."""

    peer: str
    config: PlainConfig
    #: Addresses of this end, with the length of the link's subnets; and of the other.
    address: tuple[InterfaceAddress, ...]
    peer_address: tuple[InterfaceAddress, ...]
    mtu_arithmetic: mtu.Sum
    #: Nodes that are reached through it, besides the peer.
    carries: tuple[str, ...] = ()

    @property
    def mtu(self) -> int:
        """As the file says, or by the arithmetic."""
        return self.mtu_arithmetic.inner if self.config.mtu is None else self.config.mtu


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
    #: Whether it has a WireGuard interface; without one, `interface`, `listen_port` and `peers` are nothing's.
    wireguard: bool = True
    #: Its GRE tunnels, by the order of their peers in the file.
    tunnels: tuple[TunnelDescription, ...] = ()
    public_key: PublicKey | None = None
    search: tuple[str, ...] = ()
    #: What the network's protected origins ask of it, as an edge or as the origin.
    protects: tuple[Protect, ...] = ()
    #: Further WireGuard interfaces of the same host, each described by itself: same node, same key. See `origin`.
    beside: tuple[NodeDescription, ...] = ()
    #: Of such a one: the interface that the node is called by.
    beside_of: str = ""

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    def peer(self, name: str) -> PeerDescription:
        """The peer called *name*, on whichever interface; KeyError when there is none."""
        for each in (self, *self.beside):
            for peer in each.peers:
                if peer.name == name:
                    return peer
        raise KeyError(name)

    def device(self, peer: str) -> str:
        """The interface that leads to the neighbour *peer*; KeyError when it is none."""
        for each in (self, *self.beside):
            if any(other.name == peer for other in each.peers):
                return each.interface
        return self.tunnel(peer).config.name

    def tunnel(self, peer: str) -> TunnelDescription:
        """The GRE tunnel to *peer*; KeyError when there is none."""
        for tunnel in self.tunnels:
            if tunnel.peer == peer:
                return tunnel
        raise KeyError(peer)

    @property
    def mapped(self) -> tuple[Mapped, ...]:
        """Its LANs that the network knows by another prefix."""
        return self.node.mapped

    def host(self) -> Host:
        """The same as any host's configuration is seen: what `check`, `path` and `plan` work on."""
        own = (self,) if self.wireguard else ()
        return Host(
            name=self.name,
            interfaces=tuple(each._interface() for each in (*own, *self.beside)),
            tunnels=tuple(Tunnel(tunnel.config, tunnel.peer) for tunnel in self.tunnels),
            lans=self.node.lans,
            mapped=self.mapped,
            endpoint=self.node.endpoint,
            behind_nat=self.node.behind_nat,
            forwards=self.forwards,
            masquerades=self.masquerades,
            underlay_mtu=self.node.underlay_mtu,
        )

    def _interface(self) -> WireguardInterface:
        return WireguardInterface(
            name=self.interface,
            public_key=self.public_key,
            address=self.address,
            listen_port=self.listen_port,
            mtu=self.mtu,
            peers=tuple(
                Peer(peer.public_key, peer.name, peer.allowed_ips, peer.endpoint, peer.keepalive_s, psk="?" if peer.psk else "")
                for peer in self.peers
            ),
            dns=self.dns,
            search=self.search,
            table=self.node.table,
            fwmark=self.node.fwmark,
            hooks=self.node.hooks,
        )

    def config(self, path: str) -> NodeConfig:
        """The node file's content, for a host that has it at *path*; without tunnels where no link is point to point."""
        directory, _, base = path.rpartition("/")
        tunnels = tuple(_beside(tunnel.config, directory) for tunnel in self.tunnels)
        return NodeConfig(name=base.removesuffix(".toml"), path=path, plain=tunnels)


def _beside(config: PlainConfig, directory: str) -> PlainConfig:
    """With the files of its secrets where the node file is."""
    if config.ipsec is None:
        return config

    def at(name: str) -> str:
        return f"{directory}/{name}" if name and directory else name

    return replace(
        config,
        ipsec=replace(
            config.ipsec,
            psk_file=at(config.ipsec.psk_file),
            private_key_file=at(config.ipsec.private_key_file),
            certificate_files=tuple(map(at, config.ipsec.certificate_files)),
            ca_files=tuple(map(at, config.ipsec.ca_files)),
        ),
    )


class Compilation:
    """
    A network on its way to its hosts: one description a node, made when it is asked for and then kept.

    `updated` makes the compilation of a network that has changed, and takes over what the change does not touch.
    """

    def __init__(self, network: Network, lock: Lock, keys: Mapping[str, PublicKey] | None = None) -> None:
        """
        Args:
            network: a checked network.
            lock: the result of `addressing.allocate` for it.
            keys: public keys by node; those of *lock* where this has none. A node may be without.
        """
        self.network, self.lock = network, lock
        self.keys = {name: pin.public_key for name, pin in lock.nodes.items() if pin.public_key is not None} | dict(keys or {})
        self.paths = Paths(network)
        self._nodes = {node.name: node for node in network.nodes}
        self._prefixes = _Prefixes(self.paths, lock)
        self._made: dict[str, NodeDescription] = {}

    def node(self, name: str) -> NodeDescription:
        """What the node *name* runs; KeyError when there is no such node."""
        if (made := self._made.get(name)) is None:
            made = _node(self.network, self._nodes[name], self.paths, self._prefixes, self.lock, self.keys)
            self._made[name] = made
        return made

    def nodes(self) -> Iterator[NodeDescription]:
        """Every node's, in file order."""
        return map(self.node, self._nodes)

    def updated(self, network: Network, lock: Lock, keys: Mapping[str, PublicKey] | None = None) -> Compilation:
        """The compilation of what the network has become."""
        return Compilation(network, lock, {**self.keys, **(keys or {})})


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


class _Prefixes:
    """
    What lies at a node, as others reach it: its tunnel addresses as host prefixes, then its LANs, each once.

    That depends on who reaches it only by the link on which what the node sends there begins; so it is worked out once for
    each of a node's links, not for each pair of nodes.
    """

    def __init__(self, paths: Paths, lock: Lock) -> None:
        self._paths, self._lock = paths, lock
        self._known: dict[tuple[str, str | None], tuple[Prefix, ...]] = {}

    def of(self, node: Node, seen_by: Node) -> tuple[Prefix, ...]:
        """Of *node*, for *seen_by* to reach."""
        hop = self._paths.next_hop(node.name, seen_by.name)
        found = self._known.get((node.name, hop))
        if found is None:
            addresses = list(self._lock.nodes[node.name].address)
            if hop is not None and self._paths.link(node.name, hop).point_to_point:
                addresses += self._lock.link(node.name, hop).end(node.name)
            hosts = (Prefix(packed, len(packed) * 8) for packed in dict.fromkeys(addresses))
            found = self._known[(node.name, hop)] = (*hosts, *node.lans)
        return found


def _node(
    network: Network, node: Node, paths: Paths, known: _Prefixes, lock: Lock, keys: Mapping[str, PublicKey]
) -> NodeDescription:
    neighbours = paths.neighbours(node.name)
    own_device = {name: paths.link(node.name, name).point_to_point for name in neighbours}
    behind: dict[str, list[Node]] = {name: [] for name in neighbours}
    for other in network.nodes:
        if other is not node and (hop := paths.next_hop(node.name, other.name)) is not None:
            behind[hop].append(other)
    leaving = [other for other in network.nodes if other.exit == node.name]
    prefixes = {other.name: known.of(other, node) for others in behind.values() for other in others}
    peers = tuple(
        _peer(node, network.node(name), behind[name], prefixes, lock, keys) for name in neighbours if not own_device[name]
    )
    tunnels = tuple(
        _tunnel(network, node, paths.link(node.name, name), behind[name], prefixes, lock)
        for name in neighbours
        if own_device[name]
    )
    peers += tuple(
        PeerDescription(peer.name, following, (), None, 0, psk=peer.psk, coming=True)
        for peer in peers
        if (following := lock.nodes[peer.name].next_key) is not None
    )
    underlay = min([node.underlay_mtu, *(network.node(peer.name).underlay_mtu for peer in peers)])
    arithmetic = arithmetic_of.wireguard(underlay, network.outer)
    pin = lock.nodes[node.name]
    description = NodeDescription(
        node=node,
        network=network.name,
        interface=node.interface or network.interface,
        address=_addresses(network, pin.address, tunnels),
        listen_port=pin.listen_port,
        mtu=arithmetic.inner if network.mtu is None else network.mtu,
        mtu_arithmetic=arithmetic,
        peers=peers,
        dns=node.dns,
        forwards=bool(node.lans or leaving) or network.carries(node),
        masquerades=tuple(prefix for other in leaving for prefix in prefixes[other.name]),
        wireguard=bool(peers) or not tunnels,
        tunnels=tunnels,
        public_key=keys.get(node.name),
        search=node.search,
        protects=tuple(protect for protect in network.protects if node.name in (*protect.edges, protect.origin)),
    )
    return origin.arranged(description, network, paths)


def _addresses(
    network: Network, pinned: tuple[bytes, ...], tunnels: tuple[TunnelDescription, ...]
) -> tuple[InterfaceAddress, ...]:
    """What the node is called by: its own addresses with the length of their pools, or those of one of its GRE links."""
    for tunnel in tunnels:
        if tuple(item.packed for item in tunnel.address) == pinned:
            return tunnel.address
    return tuple(InterfaceAddress(packed, pool.length) for packed, pool in zip(pinned, network.pool, strict=bool(pinned)))


def _tunnel(
    network: Network, node: Node, link: Link, behind: list[Node], prefixes: Mapping[str, tuple[Prefix, ...]], lock: Lock
) -> TunnelDescription:
    options = gre.gre_of(link)
    peer = network.node(link.other(node.name))
    pin = lock.link(node.name, peer.name)
    arithmetic = gre.arithmetic(network, link, pin.key)
    near = tuple(InterfaceAddress(packed, subnet.length) for packed, subnet in zip(pin.end(node.name), pin.subnet, strict=True))
    far = tuple(InterfaceAddress(packed, subnet.length) for packed, subnet in zip(pin.end(peer.name), pin.subnet, strict=True))
    ordered = [peer, *(other for other in behind if other is not peer)] if link.routed else []
    # What lies in the link's own subnet needs no route of its own.
    connected = {packed for subnet in pin.subnet for packed in gre.ends_of(subnet)}
    routes = tuple(str(prefix) for other in ordered for prefix in prefixes[other.name] if prefix.packed not in connected)
    mtu_bytes = options.mtu or network.mtu or arithmetic.inner
    config = PlainConfig(
        name=gre.device_name(peer.name, link.kind),
        kind="ipsec" if link.kind == "ipsec" else "gre",
        family=gre.family(network, link),
        local=_local(node),
        remote=peer.endpoint.host if peer.endpoint is not None else "any",
        ikey=pin.key,
        okey=pin.key,
        icsum=options.csum,
        ocsum=options.csum,
        iseq=options.seq,
        oseq=options.seq,
        ttl=options.ttl,
        tos=options.tos,
        pmtudisc=options.pmtudisc,
        ignore_df=options.ignore_df,
        encapsulation=gre.encapsulation_of(network, link, peer),
        address=tuple(map(str, near)),
        routes=routes,
        mtu=mtu_bytes,
        keepalive=gre.keepalive_of(network, link, peer),
        ipsec=ipsec.config_of(network, link, node, peer),
    )
    carried = tuple(other.name for other in behind if other is not peer)
    return TunnelDescription(peer.name, config, near, far, arithmetic, carried)


def _local(node: Node) -> str:
    """The address that the node sends from: its own endpoint where that is a number, else the route's choice."""
    packed = gre.numeric_endpoint(node)
    return "any" if packed is None else Prefix(packed, len(packed) * 8).address


def _peer(
    node: Node,
    peer: Node,
    behind: list[Node],
    prefixes: Mapping[str, tuple[Prefix, ...]],
    lock: Lock,
    keys: Mapping[str, PublicKey],
) -> PeerDescription:
    if node.exit == peer.name:
        allowed: tuple[Prefix, ...] = _EVERYTHING
    else:
        ordered = [peer, *(other for other in behind if other is not peer)]
        allowed = tuple(prefix for other in ordered for prefix in prefixes[other.name])
    endpoint = None
    if peer.endpoint is not None:
        endpoint = HostPort(peer.endpoint.host, peer.endpoint.port or lock.nodes[peer.name].listen_port)
    return PeerDescription(
        name=peer.name,
        public_key=keys.get(peer.name),
        allowed_ips=allowed,
        endpoint=endpoint,
        keepalive_s=NAT_KEEPALIVE_S if node.behind_nat else 0,
        carries=tuple(other.name for other in behind if other is not peer),
    )
