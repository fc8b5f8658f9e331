"""
What a node's host has to do beside its tunnels, in the words of Linux: forwarding, NAT, policy routes. Renderers write it down.

    sysctls         it forwards; and settings of single interfaces, once these are there
    nft             one table of ginnel's own, of the family inet
    rules, routes   `ip rule` and `ip route`, in tables of their own but for routes to other nodes
    addresses       of the host itself, on lo
    neighbours      addresses that it answers ARP and NDP for on its own network

Every rule lies in the one table (and the routing tables) that `nft` and `origin` name, so that taking it away takes away exactly
that. `host_part` belongs to the host once, `interface_part` to one WireGuard interface, `tunnel_part` to the tunnels of the node
file, and each file that brings interfaces up brings its part: the host's own is with the node's WireGuard interface, or in the
node file where there is none. `host_rules` is all three. What a tunnel needs of routes and rules is in its `PlainConfig`.

The chains of a protected origin (see `origin`), in the order in which a packet meets them:

    guarding    prerouting   for the addresses, and not out of a tunnel from an edge: dropped before anything looks at it
    arriving    prerouting   (several edges) out of such a tunnel: the connection is marked with its edge
    only_edges  input        (only-edges) for the origin's own addresses: what it asked for, the edges' tunnels, its LANs
    answering   output       (several edges) an answer gets the mark of its connection, and is routed anew
    segments    postrouting  TCP agrees on segments that the tunnel takes (an edge's: as it forwards, both ways)
    departing   postrouting  under the addresses, and not into such a tunnel: dropped, before it shows where the origin is

Its addresses are on lo, and no ARP is answered for them on its networks (`arp_ignore`).

Source: nft(8); ip-rule(8); ip-neighbour(8); ARP for others needs no proxy_arp where each address is named (net/ipv4/arp.c).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ginnel.config.node_host import FORWARDING, HostConfig, addresses_in, is_few
from ginnel.network import origin
from ginnel.network.compile import NodeDescription
from ginnel.units import Prefix

_WORD = {4: "ip", 6: "ip6"}
_SYN = "tcp flags & (syn | rst) == syn"
#: Headers that an MSS leaves out: IP and TCP without options.
_HEADERS = {4: ("ipv4", 40), 6: ("ipv6", 60)}

Chain = tuple[str, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class HostRules:
    """
    sysctls: (name, value); names are sysctl's: dots between the parts, a slash for a dot inside of one. chains: (name, the words
    in its first line, its rules) of a table of the family inet. rules: what follows `ip [-6] rule add`. routes: what follows
    `ip [-6] route add`. addresses: what follows `ip address add`. neighbours: what follows `ip neighbour add`.

    Interfaces have their names. Words are of IPv6 where there is a colon in them, else of IPv4.
    """

    sysctls: tuple[tuple[str, str], ...] = ()
    chains: tuple[Chain, ...] = ()
    rules: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()

    def nft(self, table: str) -> str:
        """The table as `nft -f` reads it; empty without chains."""
        if not self.chains:
            return ""
        lines = [f"table inet {table} {{", *(f"  {line}" if line else "" for line in self.inside().splitlines()), "}"]
        return "\n".join(lines) + "\n"

    def inside(self) -> str:
        """What stands between the braces of that table."""
        lines: list[str] = []
        for name, head, rules in self.chains:
            lines += [f"chain {name} {{", f"  {head}", *(f"  {rule}" for rule in rules), "}"]
        return "".join(f"{line}\n" for line in lines)

    def __add__(self, other: HostRules) -> HostRules:
        return HostRules(
            self.sysctls + other.sysctls,
            self.chains + other.chains,
            self.rules + other.rules,
            self.routes + other.routes,
            self.addresses + other.addresses,
            self.neighbours + other.neighbours,
        )


def host_rules(description: NodeDescription) -> HostRules:
    """What the host of *description* needs besides its tunnels; of one of its `beside`, what that interface needs."""
    return host_part(description) + interface_part(description) + tunnel_part(description)


def of_wireguard(description: NodeDescription) -> HostRules:
    """What comes and goes with one WireGuard interface: its own part, and the host's with the node's own."""
    return host_part(description) + interface_part(description)


def of_node_file(description: NodeDescription) -> HostRules:
    """What comes and goes with the tunnels of the node file."""
    return (HostRules() if description.wireguard else host_part(description)) + tunnel_part(description)


def _loose(description: NodeDescription, devices: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """An answer's way is chosen by its mark, which the kernel does not have yet when it asks if a source is plausible."""
    needed = origin.several(description.protects, description.name)
    return tuple((_of_device(4, device, "rp_filter"), "2") for device in devices) if needed else ()


def host_config(description: NodeDescription) -> HostConfig:
    """`of_node_file` as a node file says it."""
    own = origin.addresses_of(description.protects, description.name)
    rules = of_node_file(description)
    settings = dict(rules.sysctls)
    return HostConfig(
        forward=tuple(version for version, name in FORWARDING.items() if name in settings),
        sysctls=tuple((name, value) for name, value in rules.sysctls if name not in FORWARDING.values()),
        addresses=tuple(map(str, own)) if rules.addresses or rules.routes else (),
        proxy=tuple(f"{prefix} dev {uplink}" for uplink, prefix in answered(description)) if rules.neighbours else (),
        nft=rules.inside(),
    )


def tunnel_part(description: NodeDescription) -> HostRules:
    """What the tunnels to edges of a protected origin need; see `interface_part`."""
    edges = origin.edges_of(description.protects, description.name)
    names = [tunnel.config.name for tunnel in description.tunnels if tunnel.peer in edges]
    return HostRules(sysctls=_loose(description, names))


def host_part(description: NodeDescription) -> HostRules:
    """What the host needs once, whichever of its interfaces are up; nothing for one of another's `beside`."""
    if description.beside_of:
        return HostRules()
    chains = (*_mapped(description), *_exit(description), *_edge(description), *_origin(description))
    own = origin.addresses_of(description.protects, description.name)
    others = tuple(answered(description))
    sixth = dict.fromkeys(interface for interface, address in others if address.version == 6)
    return HostRules(
        sysctls=(
            *_forwarding(description),
            *_silent(own),
            *((_of_device(6, interface, "proxy_ndp"), "1") for interface in sixth),
        ),
        chains=chains,
        routes=tuple(f"local {prefix} dev lo" for prefix in own if not is_few(prefix)),
        addresses=tuple(f"{address} dev lo" for prefix in own if is_few(prefix) for address in addresses_in(prefix)),
        neighbours=tuple(
            f"proxy {address.address} dev {interface}" for interface, prefix in others for address in addresses_in(prefix)
        ),
    )


def interface_part(description: NodeDescription) -> HostRules:
    """
    What one WireGuard interface needs: where an edge of a protected origin is its peer, whose default route is the `Table` of the
    interface.
    """
    name, protects = description.name, description.protects
    edges = origin.edges_of(protects, name)
    here = [peer for peer in description.peers if peer.name in edges]
    if not here:
        return HostRules()
    rules = [str(rule) for peer in here for rule in origin.rules_of(protects, name, peer.name)]
    routes = [
        f"{prefix} dev {description.interface}"
        for peer in here
        for prefix in peer.allowed_ips
        if prefix.length and not _connected(prefix, description)
    ]
    return HostRules(sysctls=_loose(description, [description.interface]), rules=tuple(rules), routes=tuple(routes))


def _connected(prefix: Prefix, description: NodeDescription) -> bool:
    """Whether the interface's own address brings the route."""
    return any(
        len(address.packed) == len(prefix.packed)
        and address.length < len(address.packed) * 8
        and prefix.length >= address.length
        and _within(prefix.packed, address.packed, address.length)
        for address in description.address
    )


def _within(packed: bytes, network: bytes, length: int) -> bool:
    if len(packed) != len(network):
        return False
    shift = len(packed) * 8 - length
    return int.from_bytes(packed, "big") >> shift == int.from_bytes(network, "big") >> shift


def _forwarding(description: NodeDescription) -> tuple[tuple[str, str], ...]:
    if not description.forwards:
        return ()
    packed = [address.packed for address in description.address] + [lan.packed for lan in description.node.lans]
    # What others send each other through it may be of a family that it has no address of.
    packed += [prefix.packed for peer in description.peers for prefix in peer.allowed_ips]
    packed += [Prefix.parse(text.split()[0]).packed for tunnel in description.tunnels for text in tunnel.config.routes]
    if any(description.name in protect.edges for protect in description.protects):
        packed += [prefix.packed for protect in description.protects for prefix in protect.addresses]
    versions = {4 if len(each) == 4 else 6 for each in packed}
    return tuple((name, "1") for version, name in FORWARDING.items() if version in versions)


def _silent(own: Sequence[Prefix]) -> tuple[tuple[str, str], ...]:
    """
    Addresses on lo are nobody's business on the networks of the host: ARP would be answered for them there (NDP is not), and tell
    who has them; and where an edge is on the same network, take from it what is for them.
    """
    return (("net.ipv4.conf.all.arp_ignore", "1"),) if any(prefix.version == 4 for prefix in own) else ()


def _of_device(version: int, device: str, setting: str) -> str:
    """The name of an interface's setting."""
    return f"net.ipv{version}.conf.{device.replace('.', '/')}.{setting}"


def _devices(description: NodeDescription) -> tuple[str, ...]:
    """Every tunnel interface of the host."""
    own = (description.interface,) if description.wireguard else ()
    beside = (each.interface for each in description.beside)
    return (*own, *beside, *(tunnel.config.name for tunnel in description.tunnels))


# ---------------------------------------------------------------- exits and mapped LANs


def _exit(description: NodeDescription) -> Iterator[Chain]:
    """Sources that exit here leave under the host's own address, but not towards its own LANs."""
    real = {mapped.seen: mapped.real for mapped in description.mapped}
    lines = []
    for version, word in _WORD.items():
        sources = [prefix for prefix in description.masquerades if prefix.version == version]
        if not sources:
            continue
        # The destination of a mapped LAN is its real one by now.
        lans = [real.get(prefix, prefix) for prefix in description.node.lans if prefix.version == version]
        outside = f" {word} daddr != {_set(lans)}" if lans else ""
        lines.append(f"oifname != {_names(_devices(description))} {word} saddr {_set(sources)}{outside} masquerade")
    if lines:
        yield "leaving", "type nat hook postrouting priority srcnat;", tuple(lines)


def _mapped(description: NodeDescription) -> Iterator[Chain]:
    """LANs that the network knows by another prefix: it is written over the real one as packets leave, and back as they come."""
    if not description.mapped:
        return
    names = _names(_devices(description))
    inward: list[str] = []
    outward: list[str] = []
    for version, word in _WORD.items():
        pairs = [(mapped.seen, mapped.real) for mapped in description.mapped if mapped.seen.version == version]
        if not pairs:
            continue
        real = _set(each for _, each in pairs)
        forth = f"snat {word} prefix to {word} saddr map {{ {', '.join(f'{real} : {seen}' for seen, real in pairs)} }}"
        inward.append(f"dnat {word} prefix to {word} daddr map {{ {', '.join(f'{seen} : {real}' for seen, real in pairs)} }}")
        outward.append(f"oifname {names} {forth}")
        # Two hosts of one LAN see each other as they call each other, or the answer would go past the node.
        outward.append(f"ct status dnat {word} saddr {real} {word} daddr {real} {forth}")
    # Whoever says it the network's way: what comes out of tunnels, hosts of the LANs here, and the node itself.
    yield "mapped_in", "type nat hook prerouting priority dstnat;", tuple(inward)
    yield "mapped_here", "type nat hook output priority -100;", tuple(inward)  # nft has no name for it at this hook
    yield "mapped_out", "type nat hook postrouting priority srcnat;", tuple(outward)


# ---------------------------------------------------------------- protected origins


def _edge(description: NodeDescription) -> Iterator[Chain]:
    """What is for the addresses goes to the origin or nowhere; TCP agrees on segments that the link takes."""
    name = description.name
    origins = dict.fromkeys(protect.origin for protect in description.protects if name in protect.edges)
    drops: list[str] = []
    devices: list[str] = []
    for other in origins:
        device = description.device(other)
        devices.append(device)
        addresses = origin.addresses_behind(description.protects, other, name)
        drops += [f'oifname != "{device}" {word} daddr {_set(some)} drop' for word, some in _by_version(addresses)]
    if drops:
        yield "passing", "type filter hook forward priority filter;", tuple(drops)
        yield "segments", "type filter hook forward priority mangle;", tuple(_clamp(description, devices))


def _origin(description: NodeDescription) -> Iterator[Chain]:
    name, protects = description.name, description.protects
    edges = origin.edges_of(protects, name)
    if not edges:
        return
    devices = [description.device(edge) for edge in edges]
    every, local = origin.addresses_of(protects, name), _names(["lo", *devices])
    keep = f"{~origin.MARK_MASK & 0xFFFF_FFFF:#010x}"
    arriving: list[str] = []
    answering: list[str] = []
    for number, (edge, device) in enumerate(zip(edges, devices, strict=True), 1):
        mark = f"{origin.mark_of(number):#010x}"
        for word, some in _by_version(origin.addresses_behind(protects, name, edge)):
            arriving.append(f'iifname "{device}" {word} daddr {_set(some)} ct mark set ct mark and {keep} or {mark}')
            of_this = f"{word} saddr {_set(some)} ct mark and {origin.MARK_MASK:#010x} == {mark}"
            answering.append(f"{of_this} meta mark set meta mark and {keep} or {mark}")
    guarding = tuple(f"iifname != {local} {word} daddr {_set(some)} drop" for word, some in _by_version(every))
    departing = tuple(f"oifname != {local} {word} saddr {_set(some)} drop" for word, some in _by_version(every))
    yield "guarding", "type filter hook prerouting priority raw;", guarding
    if origin.several(protects, name):
        yield "arriving", "type filter hook prerouting priority mangle;", tuple(arriving)
        yield "answering", "type route hook output priority mangle;", tuple(answering)
    yield "segments", "type filter hook postrouting priority mangle;", (_clamp_out(devices),)
    yield "departing", "type filter hook postrouting priority filter;", departing
    if any(protect.only_edges for protect in protects if protect.origin == name):
        yield "only_edges", "type filter hook input priority filter;", tuple(_only_edges(description))


def _only_edges(description: NodeDescription) -> Iterator[str]:
    """Who is answered at the host's own addresses; last, nobody."""
    yield f"iifname {_names(['lo', *_devices(description)])} accept"
    yield "ct state established,related accept"
    yield "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, mld-listener-query } accept"
    yield "udp sport 67 udp dport 68 accept"  # what DHCP answers comes from nobody whom we asked
    yield "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept"
    real = {mapped.seen: mapped.real for mapped in description.mapped}
    for word, lans in _by_version(real.get(lan, lan) for lan in description.node.lans):
        yield f"{word} saddr {_set(lans)} fib saddr . iif oif exists accept"  # and not by the way of somebody outside
    yield from dict.fromkeys(_doors(description))
    yield "drop"


def _doors(description: NodeDescription) -> Iterator[str]:
    """
    What its tunnels are carried by, where the other end may speak first.

    A peer behind NAT may come from anywhere; WireGuard answers nobody who does not know its key.
    """
    for peer in description.peers if description.listen_port else ():
        yield f"{_from(peer.endpoint.host if peer.endpoint else '')}udp dport {description.listen_port} accept"
    for tunnel in description.tunnels:
        config = tunnel.config
        outside = _from(config.remote)
        if config.ipsec is not None:
            yield f"{outside}udp dport {{ {config.ipsec.ike_port}, {config.ipsec.natt_port} }} accept"
            yield f"{outside}meta l4proto esp accept"
        elif config.encapsulation is not None:
            yield f"{outside}udp dport {config.encapsulation.listen} accept"
        else:
            yield f"{outside}meta l4proto gre accept"


def _from(host: str) -> str:
    """Packets from an address; from anywhere where it is a name or not known."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ""
    return f"{_WORD[address.version]} saddr {address} "


def _clamp(description: NodeDescription, devices: Sequence[str]) -> Iterator[str]:
    """TCP's segments, both ways; only ever lowered: nft does not raise an MSS."""
    sizes = {each.interface: each.mtu for each in (description, *description.beside) if each.wireguard}
    sizes |= {tunnel.config.name: tunnel.mtu for tunnel in description.tunnels}
    yield _clamp_out(devices)
    for device in devices:
        for protocol, headers in _HEADERS.values():
            clamped = f"tcp option maxseg size set {sizes[device] - headers}"
            yield f'iifname "{device}" meta nfproto {protocol} {_SYN} {clamped}'


def _clamp_out(devices: Sequence[str]) -> str:
    return f"oifname {_names(devices)} {_SYN} tcp option maxseg size set rt mtu"


def answered(description: NodeDescription) -> Iterator[tuple[str, Prefix]]:
    """(interface, prefix) that an edge answers ARP and NDP for, address by address."""
    found = (
        (protect.uplink, prefix)
        for protect in description.protects
        if protect.uplink and description.name in protect.edges
        for prefix in protect.addresses
    )
    yield from dict.fromkeys(found)


# ---------------------------------------------------------------- words


def _by_version(prefixes: Iterable[Prefix]) -> Iterator[tuple[str, list[Prefix]]]:
    found = list(dict.fromkeys(prefixes))
    for version, word in _WORD.items():
        if some := [prefix for prefix in found if prefix.version == version]:
            yield word, some


def _set(prefixes: Iterable[Prefix]) -> str:
    return "{ " + ", ".join(map(str, prefixes)) + " }"


def _names(devices: Sequence[str]) -> str:
    """One name, or a set of them."""
    quoted = [f'"{device}"' for device in devices]
    return quoted[0] if len(quoted) == 1 else "{ " + ", ".join(quoted) + " }"
