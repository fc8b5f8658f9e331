"""
The tables of the network file: which keys each has, of what form, what they are by default and what they mean.

This is the one place where a key's meaning is written: the JSON Schema has it as the key's description, and the reference has
it as its row (`ginnel.network.schema`). Values are parsed while they are checked (`values`), so that a table holds what the model
will.

Rules: an unknown key is a mistake; everything that can be long has a bound; `alias` is what the file says. A list that may be
left out is a tuple here, and its default is not copied for each of ten thousand nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from ginnel.network import model
from ginnel.network.language import values
from ginnel.units import Prefix

#: More nodes than one file is good for, hubs and all.
MAX_NODES = 20_000


def _said(parse: Callable[[object], Any], schema: dict[str, Any]) -> tuple[PlainValidator, WithJsonSchema]:
    return PlainValidator(parse), WithJsonSchema(schema)


def _text(pattern: str = "", examples: tuple[str, ...] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "string", "maxLength": values.MAX_TEXT}
    if pattern:
        found["pattern"] = pattern
    if examples:
        found["examples"] = list(examples)
    return found


_NAME = "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
_PREFIX = _text(r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$", ("10.20.0.0/24", "fd10:20::/64"))
_ADDRESS = _text("^[0-9A-Fa-f:.]+$")
_NODE_NAME = _text(f"^{_NAME}$")
_MEMBER = _text(f"^@?{_NAME}$")
_NAMES = {"anyOf": [_NODE_NAME, {"type": "array", "items": _NODE_NAME, "minItems": 1, "maxItems": 1000, "uniqueItems": True}]}
_MAPPED = {
    "type": "object",
    "properties": {
        "seen": {**_PREFIX, "description": "the prefix by which all other nodes know it"},
        "real": {**_PREFIX, "description": "the prefix that it has on the spot, of the same length"},
    },
    "required": ["seen", "real"],
    "additionalProperties": False,
}
_KEEPALIVE = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": 32767},
        {
            "type": "object",
            "properties": {
                "interval": {"type": "integer", "minimum": 0, "maximum": 32767, "description": "seconds; 0: none"},
                "retries": {"type": "integer", "minimum": 0, "maximum": 255, "description": "unanswered ones until it is dead"},
            },
            "additionalProperties": False,
        },
    ]
}


def _number(least: int, most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most}


def _or(word: str, other: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"const": word}, other]}


Prefix_ = Annotated[Prefix, *_said(values.parse_prefix, _PREFIX)]
Lan = Annotated[Prefix | model.Mapped, *_said(values.parse_lan, {"anyOf": [_PREFIX, _MAPPED]})]
InterfaceAddress = Annotated[
    tuple[bytes, int | None], *_said(values.parse_interface_address, _text("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$", ("10.10.0.7",)))
]
Resolver = Annotated[str, *_said(values.parse_resolver, _ADDRESS)]
Domain = Annotated[str, *_said(values.parse_domain, _text(examples=("example.org",)))]
Endpoint = Annotated[
    model.HostPort, *_said(values.parse_endpoint, _text(examples=("203.0.113.10", "[2001:db8::1]:4500", "vpn.example.org")))
]
EndEndpoint = Annotated[
    model.HostPort, *_said(values.parse_end_endpoint, {"anyOf": [_text(examples=("203.0.113.10:4500",)), {"const": False}]})
]
Target = Annotated[model.Target, *_said(values.parse_target, _text(examples=("10.20.0.5:443", "lyon", "@servers:443")))]
Source = Annotated[str, *_said(values.parse_source, _text(examples=("lyon", "10.20.0.5", "@branches")))]
Name = Annotated[str, *_said(values.parse_name, _NODE_NAME)]
NodeName = Annotated[str, *_said(values.text_of, _NODE_NAME)]
Member = Annotated[str, *_said(values.parse_member, _MEMBER)]
Names = Annotated[tuple[str, ...], *_said(values.parse_names, _NAMES)]
Interface = Annotated[str, *_said(values.parse_interface, _text("^[a-zA-Z0-9_=+.-]{1,15}$"))]
Kind = Annotated[str, *_said(values.text_of, {"enum": ["wireguard", *model.POINT_TO_POINT]})]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Mtu = Annotated[int, Field(strict=True, ge=576, le=65535)]
TunnelMtu = Annotated[int | None, *_said(values.parse_tunnel_mtu, _or("auto", _number(1280, 65455)))]
RoutingTable = Annotated[str, *_said(values.parse_routing_table, {"anyOf": [_text(), _number(1, 0xFFFFFFFF)]})]
Fwmark = Annotated[int, *_said(values.parse_fwmark, {"anyOf": [_text("^(off|0x[0-9a-fA-F]{1,8})$"), _number(0, 0xFFFFFFFF)]})]
Hook = Annotated[str, *_said(values.parse_hook, _text())]
Ratio = Annotated[
    float, *_said(values.parse_ratio, {"anyOf": [_text("%?$", ("1%",)), {"type": "number", "minimum": 0, "maximum": 1}]})
]
Milliseconds = Annotated[
    float,
    *_said(
        values.parse_milliseconds, {"anyOf": [_text("m?s *$", ("20ms",)), {"type": "number", "minimum": 0, "maximum": 10_000}]}
    ),
]
Protocol = Annotated[int, *_said(values.parse_protocol, {"anyOf": [_text("^[a-z0-9]+$", ("gre",)), _number(0, 255)]})]
Block = Annotated[str | int, *_said(values.parse_block, {"anyOf": [{"enum": [*values.BLOCKS, values.TOO_BIG]}, _number(0, 255)]})]
GreKey = Annotated[
    int, *_said(values.parse_gre_key, {"anyOf": [_number(0, 0xFFFFFFFF), _text(r"^[0-9]+(\.[0-9]+){3}$", ("10.0.0.7",))]})
]
Inherited = Annotated[int | None, *_said(values.parse_inherited, _or("inherit", _number(0, 255)))]
GreKeepalive = Annotated[tuple[int, int | None], *_said(values.parse_keepalive, _KEEPALIVE)]
#: Seconds between keepalives of WireGuard; 0: none.
Keepalive = Annotated[int, Field(strict=True, ge=0, le=65535)]
Flag = Annotated[bool, Field(strict=True)]
IkeText = Annotated[str, *_said(values.parse_ike_words, _text(examples=("aes256gcm16-prfsha384-x25519",)))]
EspText = Annotated[str, *_said(values.parse_esp_words, _text(examples=("aes256gcm16-x25519",)))]
#: Seconds. Rekeying more often than every half minute is a test's business.
Lifetime = Annotated[int, Field(strict=True, ge=30, le=86_400 * 7)]
Seconds = Annotated[int, Field(strict=True, ge=0, le=86_400)]
Shape = Literal["mesh", "hub", "none"]


class Table(BaseModel):
    """What all tables have in common: no key but theirs."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=False, arbitrary_types_allowed=True)


class NetworkTable(Table):
    """What all nodes share."""

    name: Name = Field(description="lower-case letters, digits, `-`; at most 32")
    pool: list[Prefix_] = Field(
        min_length=1,
        max_length=8,
        description="prefixes; every node (every link with devices of its own) gets addresses from each, and keeps them",
    )
    kind: Kind = Field(
        default="wireguard", description='what links are: `"wireguard"`, `"gre"`, `"gre+ipsec"` or `"ipsec"` (route-based)'
    )
    shape: Shape = Field(
        default="mesh",
        description='`"mesh"`: every two nodes of which one can be reached · `"hub"`: everybody with a hub · `"none"`: only '
        "`[[link]]`s and groups",
    )
    hub: Names | None = Field(
        default=None,
        description="of shape hub: its name, or several: hubs are linked with one another, a node with that of its region (else "
        "the first) and with the next one; a hub needs an endpoint",
    )
    interface: Interface = Field(default="wg0", description="name of the WireGuard interface on every node")
    listen_port: Port = Field(default=model.DEFAULT_LISTEN_PORT, description="where nodes with an endpoint listen")
    mtu: TunnelMtu = Field(
        default=None,
        description='inside the tunnel: `"auto"` (the underlay minus its layers: 80 for WireGuard, 60 with `outer = "ipv4"`; 24 '
        "and more for GRE, 66 for GRE over IPsec) or bytes",
        json_schema_extra={"default": "auto"},
    )
    outer: model.Outer = Field(default="any", description='`"any"`, or `"ipv4"` when tunnels never run over IPv6')
    psk: model.Psk = Field(
        default="none",
        description='preshared keys of WireGuard links: `"none"` · `"random"`: one for each pair · `"derived"`: one for each '
        "pair, from one secret of the network. The keys themselves are never here",
    )
    dns: tuple[Resolver, ...] = Field(default=(), max_length=8, description="resolvers of every node that does not name its own")
    search: tuple[Domain, ...] = Field(default=(), max_length=32, description="domains that they are asked about, likewise")
    keepalive: Keepalive | None = Field(
        default=None,
        description="seconds between WireGuard's keepalives, of every node that does not say otherwise; 0: none",
        json_schema_extra={"shown": f"{model.NAT_KEEPALIVE_S} behind NAT, else none"},
    )


class HooksTable(Table):
    """Commands around going up and down, as wg-quick runs them, each a line of shell; `%i` is the interface."""

    pre_up: tuple[Hook, ...] = Field(default=(), max_length=64, alias="pre-up", description="before the interface is made")
    post_up: tuple[Hook, ...] = Field(default=(), max_length=64, alias="post-up", description="after all is up")
    pre_down: tuple[Hook, ...] = Field(default=(), max_length=64, alias="pre-down", description="before anything is taken down")
    post_down: tuple[Hook, ...] = Field(default=(), max_length=64, alias="post-down", description="after all is down")


class NodeTable(Table):
    """One host, or a phone."""

    endpoint: Endpoint | None = Field(
        default=None,
        description="address or host name, with or without `:port`: others reach it there; without one it is behind NAT",
    )
    lans: tuple[Lan, ...] = Field(
        default=(),
        max_length=1024,
        description='prefixes behind it; `{ seen = "10.120.0.0/24", real = "192.168.1.0/24" }` for one that the network knows by '
        "another prefix, address by address, because its own is somebody else's as well",
    )
    region: Name | None = Field(default=None, description="the `[region.NAME]` it is in: whose relays, and whose hub, it prefers")
    relay: Flag = Field(default=False, description="`true`: it may carry between nodes that have no link; needs an endpoint")
    runs: model.Runs = Field(
        default="ginnel",
        description="what runs it: "
        + ", ".join(f'`"{word}"`' for word in get_args(model.Runs))
        + " (its files are not ours to write)",
    )
    exit: NodeName | None = Field(
        default=None,
        description="all its traffic leaves through that node (`0.0.0.0/0, ::/0`), hidden behind that node's address",
    )
    dns: tuple[Resolver, ...] | None = Field(
        default=None, max_length=8, description="its resolvers", json_schema_extra={"shown": "the network's"}
    )
    search: tuple[Domain, ...] | None = Field(
        default=None, max_length=32, description="domains that they are asked about", json_schema_extra={"shown": "the network's"}
    )
    address: tuple[InterfaceAddress, ...] = Field(
        default=(),
        max_length=64,
        description="tunnel addresses that it must have, at most one of each pool; with lengths (`10.10.0.7/32`) they are all "
        "that it has, wherever they lie",
        json_schema_extra={"shown": "allocated"},
    )
    listen_port: Port | None = Field(default=None, description="its own", json_schema_extra={"shown": "the network's"})
    underlay_mtu: Mtu = Field(
        default=model.DEFAULT_UNDERLAY_MTU, description="what its way to the internet carries (1492 behind PPPoE)"
    )
    interface: Interface | None = Field(
        default=None, description="name of its WireGuard interface", json_schema_extra={"shown": "the network's"}
    )
    mtu: TunnelMtu = Field(
        default=None, description='of its WireGuard interface: `"auto"` or bytes', json_schema_extra={"shown": "the network's"}
    )
    keepalive: Keepalive | None = Field(
        default=None,
        description="seconds between its WireGuard keepalives, to every peer; 0: none",
        json_schema_extra={"shown": "the network's"},
    )
    table: RoutingTable = Field(
        default="auto",
        description='where its routes go, as wg-quick\'s `Table`: `"auto"`, `"off"` (none are made), a table\'s number or name',
    )
    fwmark: Fwmark = Field(
        default=0,
        description='mark of its encrypted packets: `"off"`, a number, or `"0x…"`',
        json_schema_extra={"shown": '`"off"`'},
    )
    hooks: HooksTable = Field(
        default=HooksTable(),
        description="commands around going up and down: `pre-up`, `post-up`, `pre-down`, `post-down`",
        json_schema_extra={"shown": "none"},
    )


class GreTable(Table):
    """What GRE links are unless they say otherwise; iproute2's names, as in a node file."""

    key: GreKey | None = Field(
        default=None,
        description="a number, or four numbers with dots",
        json_schema_extra={"shown": "none; allocated where a tunnel could not be told apart without"},
    )
    csum: Flag = Field(default=False, description="checksums")
    seq: Flag = Field(default=False, description="sequence numbers")
    ttl: Inherited = Field(
        default=model.DEFAULT_GRE_TTL,
        description='1 to 255, or `"inherit"`',
        json_schema_extra={"shown": '64 (`"inherit"` with `pmtudisc = false`)'},
    )
    tos: Inherited = Field(default=0, description='0 to 255, or `"inherit"`')
    pmtudisc: Flag = Field(default=True, description="path MTU discovery; over IPv4 alone")
    ignore_df: Flag = Field(
        default=False, alias="ignore-df", description="fragment what may not be; needs `pmtudisc = false`; over IPv4 alone"
    )
    encapsulation: Literal["auto", "none", "udp"] = Field(
        default="auto",
        description='`"udp"`: GRE in UDP (RFC 8086, port 4754) · `"none"` · `"auto"`: in UDP where an end is behind NAT. '
        "Not over IPsec",
    )
    keepalive: GreKeepalive | None = Field(
        default=None,
        description="seconds (0: none), or `{ interval = 10, retries = 3 }`; not over IPsec, where IKE watches the peer",
        json_schema_extra={"shown": "every 10 s; dead after 3, in UDP never; none to a peer whose kernel has the tunnel"},
    )
    mtu: TunnelMtu = Field(default=None, description='inside: `"auto"` or bytes', json_schema_extra={"shown": "the network's"})
    routes: Flag = Field(default=True, description="`false`: addresses only, a routing daemon finds the routes")


class IpsecTable(Table):
    """How links of kind "gre+ipsec" and "ipsec" are protected unless they say otherwise; strongSwan's words."""

    mode: Literal["transport", "tunnel"] = Field(
        default="transport", description='`"transport"` or `"tunnel"`; a link of kind `"ipsec"` is always `"tunnel"`'
    )
    auth: Literal["psk", "certificate"] = Field(
        default="psk", description='`"psk"`: a key for each link · `"certificate"`: a certificate for each node'
    )
    ike: tuple[IkeText, ...] = Field(
        default=(),
        max_length=16,
        description="proposals for IKE, in the order of preference",
        json_schema_extra={"shown": '`["aes256gcm16-prfsha384-x25519"]`'},
    )
    esp: tuple[EspText, ...] = Field(
        default=(), max_length=16, description="proposals for ESP", json_schema_extra={"shown": '`["aes256gcm16-x25519"]`'}
    )
    encapsulation: Literal["auto", "udp", "raw"] = Field(
        default="udp",
        description='`"udp"` · `"auto"`: in UDP where there is a NAT · `"raw"` (protocol 50). In UDP a packet costs a fraction '
        "of what it costs raw",
    )
    rekey: Lifetime = Field(default=3_600, description="seconds after which the keys of ESP are made anew")
    ike_rekey: Lifetime = Field(
        default=14_400, alias="ike-rekey", description="seconds after which the keys of IKE are made anew"
    )
    dpd: Seconds = Field(default=30, description="seconds of silence after which the peer is asked whether it is there; 0: never")


class EndTable(Table):
    """What one node has for a link instead of what follows from the network."""

    allowed_ips: tuple[Prefix_, ...] | None = Field(
        default=None,
        max_length=4096,
        alias="allowed-ips",
        description="all that this end sends to the other, and takes from it: its AllowedIPs, or its routes",
        json_schema_extra={"shown": "computed"},
    )
    endpoint: EndEndpoint | None = Field(
        default=None,
        description="by which this end finds the other; `false`: it waits for the other to speak",
        json_schema_extra={"shown": "the other's `endpoint`"},
    )
    keepalive: Keepalive | None = Field(
        default=None,
        description="seconds between WireGuard's keepalives to the other; 0: none",
        json_schema_extra={"shown": "the node's"},
    )
    device: Interface | None = Field(
        default=None,
        description="what this end calls its device of a link that is point to point",
        json_schema_extra={"shown": "after the other: `gre-lyon`, `sec-lyon`"},
    )


class LinkTable(GreTable):
    """A link, or several at once, by name; what it says of itself goes before what `[gre]` and `[ipsec]` say of all."""

    between: list[Member] = Field(
        min_length=2, max_length=2, description="two nodes; `@group` instead of one: a link with each node of the group"
    )
    kind: Kind | None = Field(default=None, description="of this link", json_schema_extra={"shown": "the network's"})
    subnet: tuple[Prefix_, ...] = Field(
        default=(),
        max_length=8,
        description="of a link with devices of its own: its prefixes, at most one of each pool: a /30 or /31, a /126 or /127; "
        "the node named first gets the lower address",
        json_schema_extra={"shown": "allocated"},
    )
    psk: Flag | None = Field(
        default=None,
        description="of a WireGuard link: whether it has a preshared key",
        json_schema_extra={"shown": "as the network's `psk` says"},
    )
    ipsec: IpsecTable | None = Field(
        default=None,
        description="of a link under IPsec: keys of `[ipsec]`, as a table",
        json_schema_extra={"shown": "as `[ipsec]` says"},
    )
    ends: dict[str, EndTable] = Field(
        default_factory=dict,
        max_length=1000,
        description="`ends.lyon = { … }`: what that node has for it instead of what follows; see below",
        json_schema_extra={"shown": "nothing"},
    )


class RegionTable(Table):
    """Nodes that are near to one another; its relays and hubs are those of its nodes that are one."""

    near: tuple[Name, ...] = Field(
        default=(), max_length=1000, description="other regions, nearest first: whose relays serve when its own do not"
    )


class GroupTable(Table):
    """Nodes under one name, `@NAME`; perhaps with a shape of their own beside the network's."""

    nodes: list[NodeName] = Field(min_length=1, max_length=MAX_NODES, description="its nodes")
    shape: Shape = Field(default="none", description="how its nodes are linked with one another, as the network's `shape`")
    hub: Names | None = Field(default=None, description="of shape hub: which of its nodes")
    kind: Kind | None = Field(default=None, description="what those links are", json_schema_extra={"shown": "the network's"})


class ProtectTable(Table):
    """A hidden origin behind edges that take what is for its addresses, and pass it on unchanged."""

    edge: Names = Field(description="a node, or several: where the addresses are reached from outside")
    origin: NodeName = Field(
        description="the node that has the addresses, and answers through the edge that a connection came by"
    )
    addresses: list[Prefix_] = Field(
        min_length=1, max_length=256, description="what is protected: prefixes, a single one as /32 or /128"
    )
    only_edges: Flag = Field(
        default=False, alias="only-edges", description="`true`: the origin's own address answers nobody but the edges' tunnels"
    )
    uplink: Interface | None = Field(
        default=None,
        description="the edges' interface on whose network the addresses lie, where nobody routes them to the edge: it answers "
        "for each of them there",
        json_schema_extra={"shown": "they are routed to the edges"},
    )


class ExpectTable(Table):
    """A test of the network."""

    source: Source = Field(
        alias="from",
        description="a node (then it holds for the node and for its LANs), an address in a LAN, or `@group`: each of its nodes",
    )
    to: Target = Field(
        description="a node, an address or `@group`, with `:port`: a TCP connection; without: a ping",
    )
    reaches: Flag = Field(default=True, description="`false`: it must not arrive")


class FaultsTable(Table):
    """What the lab's internet does to this node's packets."""

    loss: Ratio = Field(default=0.0, description='share that is lost: `"1%"` or 0.01')
    delay: Milliseconds = Field(default=0.0, description='time by which packets are late: `"20ms"`')
    jitter: Milliseconds = Field(default=0.0, description="how much the delay differs, likewise")
    reorder: Ratio = Field(default=0.0, description="share that arrives out of order")
    duplicate: Ratio = Field(default=0.0, description="share that arrives twice")
    block: tuple[Block, ...] = Field(
        default=(),
        max_length=32,
        description='what a firewall on the way stops: `"gre"`, `"ipip"`, `"sit"`, `"esp"`, `"tcp"`, `"udp"`, `"icmp"`, a '
        'protocol\'s number, or `"icmp-too-big"`: of ICMP only what path MTU discovery lives on',
    )
    mtu: Mtu | None = Field(
        default=None,
        description='what the path carries, unknown to the node: its router says so by ICMP. With `"icmp"` or `"icmp-too-big"` '
        "blocked as well nobody says so: a black hole",
        json_schema_extra={"shown": "as much as the node thinks"},
    )
    blocked_protocols: tuple[Protocol, ...] = Field(
        default=(), max_length=32, description="`block` for protocols only, by name or number"
    )
    blocked_udp_ports: tuple[Port, ...] = Field(default=(), max_length=32, description="UDP from or to these ports is stopped")


class LabTable(FaultsTable):
    """The same for every node that has no table of its own."""

    seed: Annotated[int, Field(strict=True, ge=0, lt=1 << 63)] = Field(default=1, description="of all faults; in `[lab]` alone")
    node: dict[NodeName, FaultsTable] = Field(default={}, max_length=MAX_NODES, description="a node's own")


class NetworkFile(Table):
    """A ginnel network: nodes, links between them, what must reach what."""

    network: NetworkTable = Field(description="what all nodes share")
    node: dict[Name, NodeTable] = Field(
        min_length=1,
        max_length=MAX_NODES,
        description="each host by its name",
        json_schema_extra={"propertyNames": {"pattern": f"^{_NAME}$"}},
    )
    region: dict[Name, RegionTable] = Field(
        default={},
        max_length=1000,
        description="nodes that are near to one another",
        json_schema_extra={"propertyNames": {"pattern": f"^{_NAME}$"}},
    )
    group: dict[Name, GroupTable] = Field(
        default={},
        max_length=1000,
        description="nodes under one name: `@name`",
        json_schema_extra={"propertyNames": {"pattern": f"^{_NAME}$"}},
    )
    gre: GreTable = Field(default=GreTable(), description="what GRE links are unless they say otherwise")
    ipsec: IpsecTable = Field(default=IpsecTable(), description="how links are protected by IPsec unless they say otherwise")
    link: tuple[LinkTable, ...] = Field(default=(), max_length=100_000, description="links by name")
    protect: tuple[ProtectTable, ...] = Field(default=(), max_length=1000, description="hidden origins behind edges")
    expect: tuple[ExpectTable, ...] = Field(default=(), max_length=10_000, description="tests of the network")
    lab: LabTable = Field(default=LabTable(), description="what the lab's internet does to packets")
