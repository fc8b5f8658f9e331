"""
What each host runs, in the compiler's words: the node description, its peers and its tunnels.

A `NodeDescription` is complete and holds no secret: interface, addresses, MTU with its arithmetic, peers with their
prefixes, GRE tunnels with their routes, whether the host forwards, what it hides behind its own address. Everything that
renders or runs a node reads it: WireGuard as one wg-quick file, GRE as one node file (`NodeConfig`).

Descriptions are shared: a peer looks the same to all nodes that reach it in the same way, and is one object then, so that a mesh
of a thousand has a thousand of them and not a million. What is the same object need not be compared or rendered twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TypeVar

from ginnel import mtu
from ginnel.config.node import NodeConfig, PlainConfig
from ginnel.network import mtu as arithmetic_of
from ginnel.network.host import Host, InterfaceAddress, Peer, Tunnel, WireguardInterface
from ginnel.network.model import HostPort, Mapped, Node, Protect
from ginnel.units import Prefix, PublicKey

_T = TypeVar("_T")


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
    #: Nodes that are reached through it, besides itself; not named where that is everybody (`carries_rest`).
    carries: tuple[str, ...] = ()
    #: Whether the pair has a preshared key.
    psk: bool = False
    #: The key that the peer of this name is about to take: known, and without a prefix until it does.
    coming: bool = False
    #: All other nodes are reached through it: it has the pools and every LAN, and no node by name.
    carries_rest: bool = False
    #: Nodes that would be reached through it if the peer through which they are now failed, as with `Compilation.without`.
    standby: tuple[str, ...] = ()
    #: All other nodes would.
    standby_rest: bool = False
    #: The link is held ready: it has no prefix while the first hub lives (`links`).
    held: bool = False
    _seen: Peer | None = field(default=None, init=False, repr=False, compare=False)
    _said: dict[object, object] | None = field(default=None, init=False, repr=False, compare=False)

    def said(self, how: Callable[[PeerDescription], _T]) -> _T:
        """What *how* makes of it: once, however many nodes have it for a peer; *how* asks nothing else."""
        if self._said is None:
            object.__setattr__(self, "_said", {})
        said: dict[object, _T] = self._said  # type: ignore[assignment]
        if (found := said.get(how)) is None:
            found = said[how] = how(self)
        return found

    def seen(self) -> Peer:
        """The same as any host's peer, as `Host` has it; one object."""
        if self._seen is None:
            psk = "?" if self.psk else ""
            waiting = self.coming or (self.held and not self.allowed_ips)
            made = Peer(self.public_key, self.name, self.allowed_ips, self.endpoint, self.keepalive_s, psk, waiting=waiting)
            object.__setattr__(self, "_seen", made)
            return made
        return self._seen


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
    _host: Host | None = field(default=None, init=False, repr=False, compare=False)

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
        if self._host is None:
            made = self._as_host()
            object.__setattr__(self, "_host", made)
            return made
        return self._host

    def _as_host(self) -> Host:
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
            protects=self.protects,
            underlay_mtu=self.node.underlay_mtu,
        )

    def _interface(self) -> WireguardInterface:
        return WireguardInterface(
            name=self.interface,
            public_key=self.public_key,
            address=self.address,
            listen_port=self.listen_port,
            mtu=self.mtu,
            peers=_seen(self.peers),
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


def _seen(peers: tuple[PeerDescription, ...]) -> tuple[Peer, ...]:
    """As `PeerDescription.seen`, of a thousand at once."""
    found: tuple[Peer | None, ...] = tuple(map(_SEEN, peers))
    return found if all(found) else tuple(peer.seen() for peer in peers)  # type: ignore[return-value]


_SEEN = attrgetter("_seen")


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
