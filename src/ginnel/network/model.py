"""
The network as the operator means it: nodes, links between them, what must reach what. Pure values, already checked for form.

A `Network` is what the file says; nothing here is allocated or derived (addresses come from `addressing`, paths from
`paths`, what each host runs from `compile`). All names are node names; all prefixes have their host bits clear.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from ginnel.units import Prefix

Shape = Literal["mesh", "hub", "none"]
#: Kinds of links that have a device at each end and a subnet of their own; a WireGuard interface serves all links of its node.
POINT_TO_POINT = ("gre", "gre+ipsec", "ipsec")
#: Those of them that IPsec protects.
PROTECTED = ("gre+ipsec", "ipsec")
#: What a node is run by: ginnel itself, or whatever reads the file that is rendered for it; "other": its files are not ours to
#: write.
Runs = Literal[
    "ginnel",
    "wg-quick",
    "networkd",
    "networkmanager",
    "netplan",
    "iproute2",
    "swanctl",
    "docker",
    "cisco-ios",
    "routeros",
    "vyos",
    "other",
]
#: Preshared keys of WireGuard links: none, random for each pair, or derived for each pair from one secret of the network.
Psk = Literal["none", "random", "derived"]
Outer = Literal["any", "ipv4"]

#: Where an unmanned WireGuard listens, by convention (and in most firewalls' rule sets).
DEFAULT_LISTEN_PORT = 51820
#: Seconds between keepalives of a node behind NAT: below the 30 s after which the meanest NATs forget a UDP mapping.
NAT_KEEPALIVE_S = 25
#: Ethernet's; what a path carries unless the file says otherwise.
DEFAULT_UNDERLAY_MTU = 1500
#: What most hosts send with. Inherited instead, what a routing protocol sends to its neighbour with a TTL of 1 would not
#: live beyond the first router of the underlay.
DEFAULT_GRE_TTL = 64


@dataclass(frozen=True, slots=True)
class HostPort:
    """A node's public endpoint: a numeric address or a host name, and a UDP port when one is written (0 = the listen port)."""

    host: str
    port: int = 0


#: Of a link's end: it waits until the other speaks, although that has an endpoint.
NO_ENDPOINT = HostPort("")


@dataclass(frozen=True, slots=True)
class Mapped:
    """A LAN that the network knows by another prefix of the same length, one to one, because its own is somebody else's as
    well."""

    #: As all other nodes know it; it is also in `Node.lans`.
    seen: Prefix
    #: As the hosts in it have it.
    real: Prefix


@dataclass(frozen=True, slots=True)
class Node:
    """One host (or phone) of the network."""

    name: str
    #: Where others reach it from outside; None: it is behind NAT, and speaks first.
    endpoint: HostPort | None = None
    #: As the network knows them.
    lans: tuple[Prefix, ...] = ()
    #: Those of them that are something else on the spot.
    mapped: tuple[Mapped, ...] = ()
    #: Whose relays, and whose hub, it prefers.
    region: str | None = None
    #: May carry traffic between nodes that have no link of their own.
    relay: bool = False
    runs: Runs = "ginnel"
    #: The node through which all its traffic leaves, or None.
    exit: str | None = None
    dns: tuple[str, ...] = ()
    #: Domains that its resolvers are asked about.
    search: tuple[str, ...] = ()
    #: Fixed tunnel addresses, as the file demands them (packed); otherwise allocated from the pools.
    address: tuple[bytes, ...] = ()
    #: One for each of `address`: the lengths of their prefixes on the interface. Then these are all its addresses, wherever they
    #: lie, and none is allocated; without lengths they are completed from the pools, and have the pools' lengths.
    lengths: tuple[int, ...] = ()
    listen_port: int | None = None
    #: What its way to the internet carries (1492 behind PPPoE, 1500 otherwise).
    underlay_mtu: int = DEFAULT_UNDERLAY_MTU
    #: Of its WireGuard interface, where it differs from the network's; mtu None: computed.
    interface: str | None = None
    mtu: int | None = None
    #: Seconds between keepalives to its peers; None: `NAT_KEEPALIVE_S` behind NAT, else none. Links may differ.
    keepalive_s: int | None = None
    #: wg-quick's `Table` ("auto", "off", a number or name) and `FwMark`.
    table: str = "auto"
    fwmark: int = 0
    #: wg-quick's hooks, in order: ("PostUp", "command").
    hooks: tuple[tuple[str, str], ...] = ()

    @property
    def behind_nat(self) -> bool:
        """It cannot be reached from outside until it has spoken."""
        return self.endpoint is None


@dataclass(frozen=True, slots=True)
class Gre:
    """
    How GRE links are, the same at both ends; iproute2's names. Of an "ipsec" link `mtu` and `routes` alone mean something.

    key None: one is allocated where a tunnel could not be told apart without. ttl 0 and tos None inherit. mtu None: computed.
    keepalive "auto": see `gre.keepalive_of`; None: none are sent; else (interval in s, retries or None for the usual).
    """

    key: int | None = None
    csum: bool = False
    seq: bool = False
    ttl: int = DEFAULT_GRE_TTL
    tos: int | None = 0
    pmtudisc: bool = True
    ignore_df: bool = False
    #: GRE in UDP (RFC 8086); None: where one of the ends is behind NAT. Under IPsec it is ESP that goes in UDP.
    udp: bool | None = None
    keepalive: tuple[int, int | None] | Literal["auto"] | None = "auto"
    mtu: int | None = None
    #: False: nothing is routed through the link; a routing daemon on the nodes finds out what is to be.
    routes: bool = True


@dataclass(frozen=True, slots=True)
class Ipsec:
    """
    How links are protected by IPsec, the same at both ends; strongSwan's words. See `ginnel.config.node.IpsecConfig`.

    Proposals empty: `network.ipsec` has the usual ones. Secrets are not here: see `ipsec.files_of` for where a node has them.
    """

    mode: Literal["transport", "tunnel"] = "transport"
    auth: Literal["psk", "certificate"] = "psk"
    ike: tuple[str, ...] = ()
    esp: tuple[str, ...] = ()
    #: In UDP a packet costs a fraction of what raw ESP costs in user space, and it passes more firewalls.
    encapsulation: Literal["auto", "udp", "raw"] = "udp"
    ike_rekey_s: int = 14_400
    rekey_s: int = 3_600
    dpd_s: int = 30


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """
    What one node has for one of its links instead of what follows from the network; None: it follows.

    allowed: its AllowedIPs for the other end, or its routes there: all of them. endpoint: by which it finds the other;
    `NO_ENDPOINT`: by none. keepalive_s: 0 sends none. device: what it calls its device of a link that is point to point.
    """

    allowed: tuple[Prefix, ...] | None = None
    endpoint: HostPort | None = None
    keepalive_s: int | None = None
    device: str | None = None


_NOTHING_OF_ITS_OWN = LinkEnd()


@dataclass(frozen=True, slots=True)
class Link:
    """A link between two nodes; the first gets the lower address where a link has addresses of its own (GRE)."""

    between: tuple[str, str]
    kind: str = "wireguard"
    #: Of the kinds that are point to point.
    gre: Gre | None = None
    #: Of the kinds that are protected by IPsec.
    ipsec: Ipsec | None = None
    #: The addresses of such a link, as the file demands them, at most one prefix of each pool; otherwise allocated.
    subnet: tuple[Prefix, ...] = ()
    #: Of WireGuard: whether the pair has a preshared key; None: as the network says.
    psk: bool | None = None
    #: What its ends have of their own, by the order of `between`.
    ends: tuple[LinkEnd, LinkEnd] = (_NOTHING_OF_ITS_OWN, _NOTHING_OF_ITS_OWN)
    #: Which `[[link]]` of the file says it, for messages; one with a group is several links.
    row: int = field(default=0, compare=False)

    @property
    def point_to_point(self) -> bool:
        """Whether each end has a device for this link alone."""
        return self.kind in POINT_TO_POINT

    @property
    def routed(self) -> bool:
        """Whether the network's own routes go through it."""
        return self.gre is None or self.gre.routes

    def end(self, name: str) -> LinkEnd:
        """What the node *name* has of its own for it."""
        return self.ends[self.between.index(name)]

    def other(self, name: str) -> str:
        """The node at the other end."""
        left, right = self.between
        return right if name == left else left


@dataclass(frozen=True, slots=True)
class Target:
    """What an expectation is about: an address (packed) or a node's name, and a TCP port or 0 for a ping."""

    text: str
    node: str | None
    packed: bytes
    port: int = 0


@dataclass(frozen=True, slots=True)
class Expect:
    """A test of the network: *source* (a node or an address in a LAN) does, or does not, reach *target*."""

    source: str
    target: Target
    reaches: bool = True
    #: Which `[[expect]]` of the file says it, for messages; one with a group is several.
    row: int = field(default=0, compare=False)


#: Of IPv4; the protocol of ICMPv6 is blocked with it.
ICMP = 1


@dataclass(frozen=True, slots=True)
class Faults:
    """What a link of the lab's internet does to packets; all zero: a plain, fast link. Ratios are 0..1."""

    loss: float = 0.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    blocked_protocols: tuple[int, ...] = ()
    blocked_udp_ports: tuple[int, ...] = ()
    #: ICMP that says "too big" vanishes.
    blocked_too_big: bool = False
    #: What the path carries, unknown to the nodes; 0: as much as they think.
    mtu: int = 0

    @property
    def black_hole(self) -> bool:
        """What is too big for the path vanishes, and nobody says so."""
        return self.mtu != 0 and (self.blocked_too_big or ICMP in self.blocked_protocols)

    @property
    def any(self) -> bool:
        """Whether this link needs the relay at all; a small path whose router says so does not."""
        return replace(self, mtu=0) != Faults() or self.black_hole


@dataclass(frozen=True, slots=True)
class Lab:
    """How the rehearsal differs from a perfect internet: the same faults for all, or a node's own."""

    faults: Faults = Faults()
    of_node: dict[str, Faults] = field(default_factory=dict)
    seed: int = 1

    def faults_of(self, node: str) -> Faults:
        """The faults of the link between *node* and the internet."""
        return self.of_node.get(node, self.faults)


@dataclass(frozen=True, slots=True)
class Region:
    """Nodes that are near to one another (`Node.region`); its relays and its hub are those of its nodes that are one."""

    name: str
    #: Other regions, nearest first.
    near: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes under one name: `@name` in links and expectations, and perhaps a shape of its own beside the network's."""

    name: str
    nodes: tuple[str, ...]
    shape: Shape = "none"
    hubs: tuple[str, ...] = ()
    #: None: the network's.
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Protect:
    """
    A hidden origin behind one edge or several: the edges take what is for `addresses` and pass it on, unchanged, to the origin,
    which has these addresses, answers through the edge that a connection came by, and admits them from nowhere else.
    """

    edges: tuple[str, ...]
    origin: str
    addresses: tuple[Prefix, ...]
    #: The origin's own address answers nobody but the edges' tunnels.
    only_edges: bool = False
    #: The edges' interface on whose network the addresses lie, where nobody routes them to the edge: it answers ARP and NDP for
    #: each of them there. Empty: they are routed to the edges.
    uplink: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """The whole of a network file."""

    name: str
    pool: tuple[Prefix, ...]
    nodes: tuple[Node, ...]
    shape: Shape = "mesh"
    #: Of shape hub: linked with one another; a node is linked with the nearest one (`links`), and with the next, held ready.
    hubs: tuple[str, ...] = ()
    kind: str = "wireguard"
    interface: str = "wg0"
    listen_port: int = DEFAULT_LISTEN_PORT
    #: None: computed from the underlay.
    mtu: int | None = None
    outer: Outer = "any"
    #: What links of these kinds are unless they say otherwise.
    gre: Gre = Gre()
    ipsec: Ipsec = Ipsec()
    psk: Psk = "none"
    regions: tuple[Region, ...] = ()
    groups: tuple[Group, ...] = ()
    links: tuple[Link, ...] = ()
    protects: tuple[Protect, ...] = ()
    expects: tuple[Expect, ...] = ()
    lab: Lab = Lab()
    _by_name: dict[str, Node] = field(init=False, repr=False, compare=False)
    _all_hubs: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """What is asked for by name, thousands of times."""
        object.__setattr__(self, "_by_name", {node.name: node for node in reversed(self.nodes)})
        object.__setattr__(self, "_all_hubs", frozenset((*self.hubs, *(hub for group in self.groups for hub in group.hubs))))

    @property
    def kinds(self) -> frozenset[str]:
        """Of what kinds its links are, those of its shape and its groups' and those by name."""
        shapes = {group.kind or self.kind for group in self.groups if group.shape != "none"}
        if self.shape != "none":
            shapes.add(self.kind)
        return frozenset((*shapes, *(link.kind for link in self.links)))

    def node(self, name: str) -> Node:
        """The node called *name*; KeyError when there is none."""
        return self._by_name[name]

    def has(self, name: str) -> bool:
        """Whether there is a node called *name*."""
        return name in self._by_name

    def carries(self, node: Node) -> bool:
        """Whether *node* may stand in the middle of a path: a relay, or a hub of the network or a group."""
        return node.relay or node.name in self._all_hubs
