"""
What a network becomes on one machine: namespaces, the wires between them, and what each is told. Pure.

    lan-paris ── paris ──────────────── internet ──────────────── nat-lyon ── lyon ── lan-lyon
               lan0  eth0        to-paris    to-lyon          out       home  eth0  lan0

- The internet is one router. It answers from 192.0.0.8, the address that RFC 7600 sets aside for routers without
  one; every public address is a host route behind its wire, so that files may use any addresses they like. What comes by a wire
  from another address it drops.
- A node without an endpoint stands behind a NAT of its own: private IPv4 that is masqueraded, global IPv6 that is
  filtered; neither lets anything in that was not asked for.
- A wire with faults passes through a namespace of its own in which the relay runs; all others are plain veth pairs.
- A path that carries less than its node thinks is the internet's doing: it routes what comes from and goes to that node by a
  smaller MTU, and says so by ICMP. Where ICMP is blocked as well, the relay lets what is too big vanish: a black hole.
- LANs of one node come in pairs (its first IPv4 and its first IPv6 LAN, and so on), each pair one host on one wire. Where
  the network knows a LAN by another prefix, its host has an address of the real one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from ginnel.lab.outsiders import Outsiders, commands, outsiders
from ginnel.network import Faults, Network, Node
from ginnel.network.addressing import within
from ginnel.units import Prefix

INTERNET = "internet"
ROUTER_V4 = "192.0.0.8"
ROUTER_V6 = "fe80::1"
#: A node's own in a LAN that has no address to spare for it; another than the internet's, or the node took itself for that.
LAN_ROUTER_V4 = "169.254.0.1"
#: The resolver that the internet offers to whoever has no better one (RFC 7600's neighbour; also not a real host's).
RESOLVER_V4 = "192.0.0.9"
#: Somebody out there with IPv6, for nodes that send everything through an exit.
OUTSIDE_V6 = "2001:db8:ffff::9"

#: The internet's routing tables for nodes with a small path.
FIRST_SMALL_TABLE = 100

Role = Literal["internet", "nat", "node", "lan", "relay"]


_NO_FAULTS = Faults()


@dataclass(frozen=True, slots=True)
class Space:
    """One namespace: its name, what it plays, what `ip -batch` is told in it, and its nftables rules."""

    name: str
    role: Role
    commands: tuple[str, ...] = ()
    nft: str = ""
    #: The machine it plays forwards packets (a node's own forwarding is its own business).
    forwards: bool = False


@dataclass(frozen=True, slots=True)
class Wire:
    """A veth pair: (namespace, interface) at each end."""

    name: str
    left: tuple[str, str]
    right: tuple[str, str]
    #: Packets of tunnels cross it: it is captured.
    underlay: bool
    mtu: int = 1500
    faults: Faults = _NO_FAULTS


@dataclass(frozen=True, slots=True)
class LanHost:
    """A machine in a node's LAN."""

    space: str
    node: str
    #: Its addresses, one for each LAN of the pair (packed), as the network knows them; the first of each family is what others
    #: ping.
    address: tuple[bytes, ...]
    lans: tuple[Prefix, ...]
    #: The same as it has them itself: others where the LAN is mapped.
    bound: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything to build."""

    spaces: tuple[Space, ...]
    wires: tuple[Wire, ...]
    hosts: tuple[LanHost, ...]
    #: Numeric outside address of each node, as the internet sees it (a NAT's for those behind one).
    public: dict[str, str]
    #: Addresses of each node on its own underlay device.
    inside: dict[str, tuple[str, ...]]
    #: What host-name endpoints stand for in this lab.
    names: dict[str, str]
    #: Addresses outside of the network that expectations speak of; they live in the internet.
    outside: tuple[bytes, ...]
    #: Who tries the network's protected origins from outside.
    outsiders: Outsiders
    #: The internet's interface towards each node, and its routes there.
    ports: dict[str, str]
    routes: dict[str, tuple[str, ...]]

    def space(self, name: str) -> Space:
        """The namespace called *name*; KeyError when there is none."""
        for space in self.spaces:
            if space.name == name:
                return space
        raise KeyError(name)


def plan(network: Network) -> Topology:
    """Lay out *network*: the same network gives the same topology."""
    return _Planner(network).plan()


class _Planner:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.wires: list[Wire] = []
        self.hosts: list[LanHost] = []
        self.commands: dict[str, list[str]] = {INTERNET: []}
        self.roles: dict[str, Role] = {INTERNET: "internet"}
        self.nft: dict[str, str] = {}
        self.public: dict[str, str] = {}
        self.names: dict[str, str] = {}
        #: The internet's interface towards each node, and its routes there.
        self.ports: dict[str, str] = {}
        self.routes: dict[str, tuple[str, ...]] = {}
        self.inside: dict[str, tuple[str, ...]] = {}
        self._used = {node.endpoint.host for node in network.nodes if node.endpoint}
        self._free = (str(address) for address in ipaddress.IPv4Network("198.18.0.0/15").hosts())

    def plan(self) -> Topology:
        outside = _outside(self.network)
        self._tell(INTERNET, f"addr add {RESOLVER_V4}/32 dev lo", f"addr add {OUTSIDE_V6}/128 dev lo nodad")
        for packed in outside:
            self._tell(INTERNET, f"addr add {Prefix(packed, len(packed) * 8)} dev lo{_nodad(packed)}")
        for index, node in enumerate(self.network.nodes):
            self._node(index, node)
        for node in self.network.nodes:
            self._other_ways(node)
        self._small_paths()
        visitors = outsiders(self.network, self._allocate)
        self._tell(INTERNET, *commands(self.network, visitors, self.ports, self.routes))
        heard = "".join(f"    {'ip6' if ':' in each else 'ip'} daddr {each} accept\n" for each in visitors.listening())
        self.nft[INTERNET] = _NO_STRANGERS.format(heard=heard)
        spaces = tuple(
            Space(name, role, tuple(self.commands.get(name, ())), self.nft.get(name, ""), role in ("internet", "nat"))
            for name, role in self.roles.items()
        )
        return Topology(
            spaces,
            tuple(self.wires),
            tuple(self.hosts),
            self.public,
            self.inside,
            self.names,
            outside,
            visitors,
            self.ports,
            self.routes,
        )

    def _tell(self, space: str, *lines: str) -> None:
        self.commands.setdefault(space, []).extend(lines)

    def _node(self, index: int, node: Node) -> None:
        self.roles[node.name] = "node"
        edge = "eth0"
        if node.behind_nat:
            self._behind_nat(index, node)
        else:
            self._uplink(index, node, node.name, edge, self._public_address(node))
        for number, lans in enumerate(_lan_pairs(node)):
            self._lan(node, number, lans)

    def _public_address(self, node: Node) -> str:
        if node.endpoint is None:
            return self._allocate()
        try:
            return str(ipaddress.ip_address(node.endpoint.host))
        except ValueError:
            return self.names.setdefault(node.endpoint.host, self._allocate())

    def _allocate(self) -> str:
        inner = [*self.network.pool, *(lan for node in self.network.nodes for lan in node.lans)]
        for address in self._free:
            if address not in self._used and not any(within(ipaddress.ip_address(address).packed, net) for net in inner):
                self._used.add(address)
                return address
        raise AssertionError("a /15 is larger than any network file")

    def _uplink(self, index: int, node: Node, space: str, interface: str, public: str) -> None:
        """The wire between the internet and *space*, and the addresses at both ends."""
        inner = ipaddress.ip_address(public)
        self.public[node.name] = public
        port = _interface_name("to-", node.name, index)
        self._wire(
            Wire(node.name, (INTERNET, port), (space, interface), True, node.underlay_mtu, self.network.lab.faults_of(node.name))
        )
        v4 = public if inner.version == 4 else self._allocate()
        v6 = public if inner.version == 6 else f"2001:db8:{index + 1:x}::2"
        self._tell(
            INTERNET,
            f"addr add {ROUTER_V4}/32 dev {port}",
            f"addr add {ROUTER_V6}/64 dev {port} nodad",
        )
        self.ports[node.name] = port
        sixth = f"{v6}/128 dev {port}" if space == node.name else f"{_home6(index)}::/64 via fe80::2 dev {port}"
        self.routes[node.name] = (f"{v4}/32 dev {port}", sixth)
        self._tell(INTERNET, *(f"route add {route}" for route in self.routes[node.name]))
        self._tell(
            space,
            f"addr add {v4}/32 dev {interface}",
            f"addr add fe80::2/64 dev {interface} nodad",
            f"route add default via {ROUTER_V4} dev {interface} onlink",
            f"route add default via {ROUTER_V6} dev {interface}",
        )
        if space == node.name:
            self._tell(space, f"addr add {v6}/128 dev {interface} nodad")
            self.inside[node.name] = (v4, v6)

    def _other_ways(self, node: Node) -> None:
        """Addresses by which single links find a node, besides its own: it has them too, or its NAT passes them on."""
        ends = (link.end(link.other(node.name)) for link in self.network.links if node.name in link.between)
        for host in dict.fromkeys(end.endpoint.host for end in ends if end.endpoint is not None):
            try:
                address = ipaddress.ip_address(host)
            except ValueError:
                self.names.setdefault(host, self.public[node.name])
                continue
            if host in self._used:
                continue  # it is somebody's endpoint: theirs, if it was said by mistake
            self._used.add(host)
            single = f"{address}/{address.max_prefixlen}"
            if not node.behind_nat:
                self._tell(INTERNET, f"route add {single} dev {self.ports[node.name]}")
                self._tell(node.name, f"addr add {single} dev eth0{_nodad(address.packed)}")
            elif address.version == 4:
                self._tell(INTERNET, f"route add {single} dev {self.ports[node.name]}")
                self._tell(f"nat-{node.name}", f"addr add {single} dev out")
                home = self.inside[node.name][0]
                ports = f"ip daddr {address} udp dport != {{ 500, 4500, 4754 }} dnat ip to {home}:{node.listen_port};"
                wireguard = ports if node.listen_port is not None else ""
                self.nft[f"nat-{node.name}"] += _FORWARDED.format(address=address, home=home, wireguard=wireguard)

    def _small_paths(self) -> None:
        """Routes by a smaller MTU for what comes from a node whose path is small, and for what goes to it."""
        small = {
            node.name: faults.mtu
            for node in self.network.nodes
            if (faults := self.network.lab.faults_of(node.name)).mtu and not faults.black_hole
        }
        for number, (name, size) in enumerate(small.items()):
            table = FIRST_SMALL_TABLE + number
            for option in ("", "-6 "):
                self._tell(INTERNET, f"{option}rule add from all iif {self.ports[name]} lookup {table}")
            for other, routes in self.routes.items():
                mtu = min(size, small.get(other, size))
                self._tell(INTERNET, *(f"route add {route} mtu lock {mtu} table {table}" for route in routes))
            # In the main table too: others have no table of their own.
            self._tell(INTERNET, *(f"route replace {route} mtu lock {size}" for route in self.routes[name]))

    def _behind_nat(self, index: int, node: Node) -> None:
        nat = f"nat-{node.name}"
        self.roles[nat] = "nat"
        self._uplink(index, node, nat, "out", self._public_address(node))
        home4 = f"100.64.{index % 256}"
        self._wire(Wire(f"{node.name} (home)", (nat, "home"), (node.name, "eth0"), True, node.underlay_mtu))
        self._tell(nat, f"addr add {home4}.1/24 dev home", f"addr add {_home6(index)}::1/64 dev home nodad")
        self._tell(nat, "addr add fe80::1/64 dev home nodad")
        self._tell(
            node.name,
            f"addr add {home4}.2/24 dev eth0",
            f"addr add {_home6(index)}::2/64 dev eth0 nodad",
            f"route add default via {home4}.1 dev eth0",
            f"route add default via {ROUTER_V6} dev eth0",
        )
        self.nft[nat] = _NAT_RULES
        self.inside[node.name] = (f"{home4}.2", f"{_home6(index)}::2")

    def _wire(self, wire: Wire) -> None:
        """Add *wire*, through a relay's namespace where it has faults."""
        if not wire.faults.any:
            self.wires.append(wire)
            return
        relay = f"relay-{wire.name}"
        self.roles[relay] = "relay"
        self.wires += [
            Wire(wire.name, wire.left, (relay, "left"), wire.underlay, wire.mtu, wire.faults),
            Wire(f"{wire.name} (far)", (relay, "right"), wire.right, False, wire.mtu),
        ]

    def _lan(self, node: Node, number: int, lans: tuple[Prefix, ...]) -> None:
        space = f"lan-{node.name}" if number == 0 else f"lan{number + 1}-{node.name}"
        self.roles[space] = "lan"
        interface = f"lan{number}"
        self._wire(Wire(space, (node.name, interface), (space, "eth0"), False))
        real = {mapped.seen: mapped.real for mapped in node.mapped}
        own: list[bytes] = []
        bound: dict[bytes, bytes] = {}
        for lan in lans:
            gateway, seen = _lan_addresses(self.network, lan)
            here, bits = real.get(lan, lan), len(lan.packed) * 8
            addresses = [_moved(packed, lan, here) for packed in seen]
            own += seen
            bound |= dict(zip(seen, addresses, strict=True))
            if gateway is None:
                router = LAN_ROUTER_V4 if lan.version == 4 else ROUTER_V6
                self._tell(
                    node.name,
                    f"addr add {router}/{32 if lan.version == 4 else 64} dev {interface}",
                    f"route add {here} dev {interface}",
                )
                self._tell(space, *(f"addr add {Prefix(packed, bits)} dev eth0" for packed in addresses))
                self._tell(space, f"route add default via {router} dev eth0 onlink")
                continue
            at = Prefix(_moved(gateway, lan, here), bits).address
            self._tell(node.name, f"addr add {at}/{lan.length} dev {interface}{_nodad(gateway)}")
            self._tell(
                space, *(f"addr add {Prefix(packed, bits).address}/{lan.length} dev eth0{_nodad(packed)}" for packed in addresses)
            )
            self._tell(space, f"route add default via {at} dev eth0")
        self.hosts.append(LanHost(space, node.name, tuple(own), lans, bound))


#: As providers do (BCP 38): what comes by a wire has an address that is routed to that wire, so that no answer that left a node
#: by mistake, under an address of the inside, finds its way all the same.
_NO_STRANGERS = """\
table inet internet {{
  chain arriving {{
    type filter hook prerouting priority raw; policy accept;
    iifname "lo" accept
    ip6 saddr {{ ::, fe80::/10 }} accept
{heard}    fib saddr . iif oif missing drop
  }}
}}
"""

_NAT_RULES = """\
table inet nat {
  chain leaving { type nat hook postrouting priority srcnat; oifname "out" meta nfproto ipv4 masquerade; }
  chain passing {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "home" accept
  }
  chain entering {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname { "lo", "home" } accept
    meta l4proto ipv6-icmp accept
  }
}
"""


#: What a NAT's owner has forwarded to the node behind it: WireGuard to the port that it listens on, all else as it comes.
_FORWARDED = """\
table inet nat {{
  chain forwarding {{ type nat hook prerouting priority dstnat; {wireguard} ip daddr {address} dnat ip to {home}; }}
  chain passing {{ ct status dnat accept; }}
}}
"""


def _home6(index: int) -> str:
    return f"2001:db8:ff{index + 1:x}:1" if index < 0xFF else f"2001:db8:{0xF000 + index:x}:1"


def _nodad(packed: bytes) -> str:
    return " nodad" if len(packed) == 16 else ""


def _interface_name(prefix: str, name: str, index: int) -> str:
    """At most 15 characters, readable, unique by its index where it had to be cut."""
    full = prefix + name
    return full if len(full) <= 15 else f"{full[: 14 - len(str(index))]}.{index}"


def _lan_pairs(node: Node) -> Iterator[tuple[Prefix, ...]]:
    v4 = [lan for lan in node.lans if lan.version == 4]
    v6 = [lan for lan in node.lans if lan.version == 6]
    for number in range(max(len(v4), len(v6))):
        yield (*v4[number : number + 1], *v6[number : number + 1])


def _lan_addresses(network: Network, lan: Prefix) -> tuple[bytes | None, list[bytes]]:
    """The node's address in its LAN (None: no room for one), and the host's: all that the file speaks of, or the next free."""
    spoken = [packed for packed in _spoken(network) if within(packed, lan)]
    size = len(lan.packed)
    base = int.from_bytes(lan.packed, "big")
    if size * 8 - lan.length < 2:
        return None, list(dict.fromkeys(spoken)) or [lan.packed]
    first, second, third = ((base + step).to_bytes(size, "big") for step in (1, 2, 3))
    gateway = first if first not in spoken else (second if second not in spoken else third)
    free = second if gateway == first else first
    return gateway, list(dict.fromkeys(spoken)) or [free]


def _moved(packed: bytes, seen: Prefix, real: Prefix) -> bytes:
    """An address of one prefix at its place in another of the same length."""
    host = int.from_bytes(packed, "big") - int.from_bytes(seen.packed, "big")
    return (int.from_bytes(real.packed, "big") + host).to_bytes(len(packed), "big")


def _spoken(network: Network) -> Iterator[bytes]:
    """Every address that an expectation or a `dns` names."""
    for expect in network.expects:
        if expect.target.packed:
            yield expect.target.packed
        try:
            yield ipaddress.ip_address(expect.source).packed
        except ValueError:
            pass  # a node's name
    for node in network.nodes:
        for text in node.dns:
            yield ipaddress.ip_address(text).packed


def _outside(network: Network) -> tuple[bytes, ...]:
    owned = [*network.pool, *(lan for node in network.nodes for lan in node.lans)]
    owned += [prefix for protect in network.protects for prefix in protect.addresses]
    fixed = {packed for node in network.nodes for packed in node.address}
    public = {node.endpoint.host for node in network.nodes if node.endpoint}
    found = [
        packed
        for packed in _spoken(network)
        if packed not in fixed
        and str(ipaddress.ip_address(packed)) not in public
        and not any(within(packed, net) for net in owned)
    ]
    return tuple(dict.fromkeys(found))
