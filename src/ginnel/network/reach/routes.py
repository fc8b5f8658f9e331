"""
Where one host sends a packet, as Linux decides it: policy rules in order, in each table the longest prefix, then the source.

What a configuration puts into the tables:

    own addresses   delivered here, before anything else (table `local`)
    LANs            connected, by the prefix that they have on the spot
    interfaces      the subnet of each address, but of a host's address alone (/32)
    AllowedIPs      as wg-quick does it: `Table = auto` routes each prefix that no subnet of the same interface covers; a default
                    route goes into a table of its own, which every packet asks that the tunnel itself has not marked, after the
                    main table's routes that are no default; `off` routes nothing; a number or a name is a table that only a rule
                    leads to
    tunnels         `routes` and `rules` of a node file
    uplink          the default route of the main table, for both families

Source: an address of the device that it leaves by: for IPv4 the one in the target's subnet, else the first; for IPv6 by RFC 6724
(rules 5, 6 and 8). A device without one borrows: IPv4 that of the uplink, IPv6 the best of all.

Source: Linux fib_rules, fib_select_default, inet_select_addr, ipv6_dev_get_saddr; wg-quick(8), `add_route`, `add_default`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Literal, TypeVar

from ginnel.config import words
from ginnel.network.host import Host, Peer, Place, Tunnel, WireguardInterface
from ginnel.network.reach import protected
from ginnel.network.reach.fleet import Fleet, numeric, real_lans, version_of
from ginnel.network.reach.protected import holds
from ginnel.units import Prefix

_T = TypeVar("_T")

#: How it leaves: into a LAN, a WireGuard interface, another tunnel, or by the host's uplink.
Exit = Literal["lan", "wireguard", "tunnel", "uplink"]
_EVERYTHING = (Prefix(bytes(4), 0), Prefix(bytes(16), 0))
MAIN = "main"


class LongestMatch(Generic[_T]):
    """Prefixes of both families, and what the longest one that holds an address has."""

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, int], dict[int, tuple[Prefix, _T]]] = {}
        self._lengths: list[tuple[int, int]] = []

    def add(self, prefix: Prefix, value: _T, *, replace: bool = False) -> bool:
        """Add one; a prefix that is there already stays, unless it is to be replaced. Whether it was added."""
        key = (len(prefix.packed), prefix.length)
        if key not in self._by_length:
            self._by_length[key] = {}
            self._lengths = sorted(self._by_length, key=lambda each: -each[1])
        bits = int.from_bytes(prefix.packed, "big") >> (len(prefix.packed) * 8 - prefix.length)
        if bits in self._by_length[key] and not replace:
            return False
        self._by_length[key][bits] = (prefix, value)
        return True

    def find(self, packed: bytes, least: int = 0) -> tuple[Prefix, _T] | None:
        """The longest of at least *least* bits that holds *packed*."""
        number, size = int.from_bytes(packed, "big"), len(packed)
        for key in self._lengths:
            if key[0] == size and key[1] >= least and (found := self._by_length[key].get(number >> (size * 8 - key[1]))):
                return found
        return None


@dataclass(frozen=True, slots=True)
class Route:
    """One route: by which device, and the words that explain it."""

    exit: Exit
    device: str
    #: "AllowedIPs of wg0", "its own LAN"
    because: str
    #: The preferred source, where the route has one.
    source: bytes | None = None
    place: Place | None = None
    interface: WireguardInterface | None = None
    tunnel: Tunnel | None = None
    #: The kernel made it for an address of the device.
    connected: bool = False


@dataclass(frozen=True, slots=True)
class _Rule:
    """One policy rule. *least*: routes of fewer bits do not count (`suppress_prefixlength`)."""

    table: str
    version: int = 0
    selector: words.Rule | None = None
    #: Packets of the tunnels themselves pass it by.
    unmarked_only: bool = False
    least: int = 0

    def asks(self, source: bytes | None, target: bytes, came: str, mark: int, *, outer: bool) -> bool:
        """Whether a packet is looked up in its table. *outer*: it is a tunnel's own."""
        if self.version and self.version != version_of(target):
            return False
        if self.unmarked_only and outer:
            return False
        if self.selector is None:
            return True
        return self.selector.inverted != self._selects(self.selector, source, target, came, mark)

    @staticmethod
    def _selects(rule: words.Rule, source: bytes | None, target: bytes, came: str, mark: int) -> bool:
        if rule.source is not None and rule.source.length and (source is None or not holds(rule.source, source)):
            return False
        if rule.destination is not None and not holds(rule.destination, target):
            return False
        if rule.mark is not None and mark & (0xFFFFFFFF if rule.mask is None else rule.mask) != rule.mark:
            return False
        # No packet that is followed here is sent by a socket that is bound to a device.
        return rule.iif in ("", came) and not rule.oif


@dataclass(frozen=True, slots=True)
class Decision:
    """The route that was taken, its prefix, and the table where it is not the main one's."""

    prefix: Prefix
    route: Route
    table: str = MAIN


class Routing:
    """The tables and rules of one host."""

    def __init__(self, fleet: Fleet, host: Host) -> None:
        self.fleet, self.host = fleet, host
        self._tables: dict[str, LongestMatch[Route]] = {MAIN: LongestMatch()}
        self._rules: list[_Rule] = []
        #: Prefixes that two devices are to have in one table: `ip route add` refuses the second, and `up` fails.
        self.conflicts: list[Prefix] = []
        self._connected()
        chosen: list[tuple[int, _Rule]] = []
        automatic = 32766
        for interface in host.interfaces:
            for rule in self._wireguard(interface):
                automatic -= 1
                chosen.append((automatic, rule))
        for tunnel in host.tunnels:
            self._routes(tunnel)
            for text in tunnel.config.rules:
                parsed = words.Rule.parse(text)
                automatic -= 0 if parsed.priority else 1
                chosen.append((parsed.priority or automatic, _Rule(parsed.table or MAIN, parsed.version, parsed)))
        chosen += [(one.priority, _Rule(one.table, one.version, one)) for one in protected.rules(host)]
        self._rules = [rule for _, rule in sorted(chosen, key=lambda each: each[0])] + [_Rule(MAIN)]
        for everything in _EVERYTHING:
            self._tables[MAIN].add(everything, Route("uplink", "", "the default route"))

    def decide(
        self, source: bytes | None, target: bytes, came: str = "", mark: int = 0, *, outer: bool = False
    ) -> Decision | None:
        """
        Where a packet goes that is not for the host itself.

        Args:
            source: None: not chosen yet.
            target: packed.
            came: the device it came by; "": it begins here.
            mark: of its connection.
            outer: it is a packet of a tunnel of this host, which carries the mark that wg-quick gives.
        """
        for rule in self._rules:
            if not rule.asks(source, target, came, mark, outer=outer):
                continue
            table = self._tables.get(rule.table)
            if table is not None and (found := table.find(target, rule.least)) is not None:
                return Decision(found[0], found[1], rule.table)
        return None

    def guard(self, target: bytes, came: str) -> WireguardInterface | None:
        """The full tunnel that takes packets for its own address from nowhere else: wg-quick's firewall has that rule."""
        for interface in self.host.interfaces:
            if came == interface.name or interface.table != "auto" or not self._takes_all(interface, version_of(target)):
                continue
            if any(address.packed == target for address in interface.address):
                return interface
        return None

    @staticmethod
    def _takes_all(interface: WireguardInterface, version: int) -> bool:
        return any(not each.length and each.version == version for peer in interface.peers for each in peer.allowed_ips)

    # -- filling the tables

    def _connected(self) -> None:
        main = self._tables[MAIN]
        mapped = {each.real: each.seen for each in self.host.mapped}
        for lan in real_lans(self.host):
            known = f" (known as {mapped[lan]})" if lan in mapped else ""
            main.add(lan, Route("lan", "LAN", f"{self.host.name}'s own LAN{known}", place=self.host.place, connected=True))
        for interface in self.host.interfaces:
            for address in interface.address:
                if address.length < len(address.packed) * 8:
                    subnet = Prefix.parse(str(address))
                    because = f"the subnet of {interface.name}"
                    main.add(
                        subnet,
                        Route("wireguard", interface.name, because, address.packed, interface.place, interface, connected=True),
                    )
        for tunnel in self.host.tunnels:
            for text in tunnel.config.address:
                subnet = Prefix.parse(text)
                if subnet.length < len(subnet.packed) * 8:
                    packed = Prefix.parse(text.partition("/")[0]).packed
                    because = f"the subnet of {tunnel.config.name}"
                    main.add(
                        subnet, Route("tunnel", tunnel.config.name, because, packed, tunnel.place, tunnel=tunnel, connected=True)
                    )

    def _wireguard(self, interface: WireguardInterface) -> Iterator[_Rule]:
        """Routes of its AllowedIPs; the rules that go with a default route, the later before the earlier."""
        if interface.table == "off":
            return
        route = Route("wireguard", interface.name, f"AllowedIPs on {interface.name}", None, interface.place, interface)
        prefixes = sorted({prefix for peer in interface.peers for prefix in peer.allowed_ips}, key=_longest_first)
        if interface.table != "auto":
            name = MAIN if interface.table in (MAIN, "254") else interface.table
            table = self._tables.setdefault(name, LongestMatch())
            for prefix in prefixes:
                self._add(table, prefix, route)
                if prefix.length and interface.name in protected.edge_devices(self.host):
                    self._tables[MAIN].add(prefix, route)  # beside the default route that only connections by it take
            return
        for prefix in prefixes:
            if prefix.length and not self._covered(interface, prefix):
                self._add(self._tables[MAIN], prefix, route)
        for prefix in (each for each in prefixes if not each.length):
            name = f"{interface.name}'s"
            self._tables.setdefault(name, LongestMatch()).add(prefix, route)
            yield _Rule(name, prefix.version, unmarked_only=True)
            yield _Rule(MAIN, prefix.version, least=1)

    def _add(self, table: LongestMatch[Route], prefix: Prefix, route: Route) -> None:
        """As `ip route add` does: what is there already, by another device, is an error (for IPv6, unless the kernel made it)."""
        if table.add(prefix, route):
            return
        found = table.find(prefix.packed, prefix.length)
        there = found[1] if found is not None and found[0] == prefix else None
        if there is None or there.device == route.device:
            return
        if prefix.version == 4 or not there.connected:
            self.conflicts.append(prefix)

    def _covered(self, interface: WireguardInterface, prefix: Prefix) -> bool:
        """Whether the route of an address of the same interface leads there already."""
        return any(
            address.length <= prefix.length
            and holds(Prefix.parse(str(address)), prefix.packed)
            # The kernel makes no route of an IPv4 host address.
            and (len(address.packed) == 16 or address.length < 32)
            for address in interface.address
        )

    def _routes(self, tunnel: Tunnel) -> None:
        for text in tunnel.config.routes:
            parsed = words.Route.parse(text)
            source = numeric(parsed.source) if parsed.source else None
            because = f"the routes of {tunnel.config.name}"
            route = Route("tunnel", tunnel.config.name, because, source, tunnel.place, tunnel=tunnel)
            self._add(self._tables.setdefault(parsed.table or MAIN, LongestMatch()), parsed.prefix, route)

    # -- source addresses

    def source(self, decision: Decision, target: bytes) -> bytes:
        """Which of its addresses the host sends from, by the route that was taken."""
        route, version = decision.route, version_of(target)
        if route.source is not None and version_of(route.source) == version:
            return route.source
        on_device = [each for each in self._of(route, decision.prefix) if version_of(each[0]) == version]
        if version == 4:
            first = next((packed for packed, subnet in on_device if holds(subnet, target)), None)
            return first or next((packed for packed, _ in (*on_device, *self._all) if version_of(packed) == 4))
        candidates = on_device or [each for each in self._all if version_of(each[0]) == 6]
        # Of equals Linux takes the one that was added last.
        return max(reversed(candidates), key=lambda each: _rank(each, target))[0]

    def _of(self, route: Route, lan: Prefix) -> list[tuple[bytes, Prefix]]:
        """The addresses of the device of a route, with their subnets."""
        match route.exit:
            case "wireguard" if route.interface is not None:
                return [(each.packed, Prefix.parse(str(each))) for each in route.interface.address]
            case "tunnel" if route.tunnel is not None:
                return [(numeric(text.partition("/")[0]) or b"", Prefix.parse(text)) for text in route.tunnel.config.address]
            case "lan":
                own = self.fleet.in_lan(self.host, lan)
                return [(own, lan)] if own is not None else []
        return list(self._on_uplink())

    def _on_uplink(self) -> Iterator[tuple[bytes, Prefix]]:
        for version in (4, 6):
            for packed in self.fleet.uplink(self.host, version):
                yield packed, Prefix(packed, len(packed) * 8)

    @cached_property
    def _all(self) -> list[tuple[bytes, Prefix]]:
        """Every address of the host, by the order in which its devices usually come to be."""
        found = [(packed, Prefix(packed, len(packed) * 8)) for packed in protected.on_loopback(self.host)]
        found += self._on_uplink()
        found += [(own, lan) for lan in real_lans(self.host) if (own := self.fleet.in_lan(self.host, lan)) is not None]
        for interface in self.host.interfaces:
            found += [(each.packed, Prefix.parse(str(each))) for each in interface.address]
        for tunnel in self.host.tunnels:
            found += [(numeric(text.partition("/")[0]) or b"", Prefix.parse(text)) for text in tunnel.config.address]
        return found


class Routings:
    """The routing of every host, and the tables of their WireGuard interfaces, each made when it is first asked for."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._made: dict[str, Routing] = {}
        self._keyed: dict[tuple[str, str], LongestMatch[Peer]] = {}

    def __getitem__(self, name: str) -> Routing:
        if (found := self._made.get(name)) is None:
            found = self._made[name] = Routing(self.fleet, self.fleet[name])
        return found

    def cryptokey(self, host: Host, interface: WireguardInterface) -> LongestMatch[Peer]:
        """Which peer of an interface a prefix belongs to."""
        if (found := self._keyed.get((host.name, interface.name))) is None:
            found = self._keyed[(host.name, interface.name)] = cryptokey(interface.peers)
        return found


def cryptokey(peers: Iterable[Peer]) -> LongestMatch[Peer]:
    """The table of a WireGuard interface: which peer a prefix belongs to; of two with the same one, the later has it."""
    table: LongestMatch[Peer] = LongestMatch()
    for peer in peers:
        for prefix in peer.allowed_ips:
            table.add(prefix, peer, replace=True)
    return table


def _longest_first(prefix: Prefix) -> tuple[int, bytes]:
    return (-prefix.length, prefix.packed)


def _rank(candidate: tuple[bytes, Prefix], target: bytes) -> tuple[bool, int]:
    """RFC 6724, rules 6 and 8: the same label, then the longest common prefix, within the address's own subnet."""
    packed, subnet = candidate
    differing = int.from_bytes(packed, "big") ^ int.from_bytes(target, "big")
    return _label(packed) == _label(target), min(128 - differing.bit_length(), subnet.length)


def _label(packed: bytes) -> int:
    """Linux's table of labels, as far as addresses of hosts go."""
    if packed[0] & 0xFE == 0xFC:
        return 5
    if packed[:2] == b"\x20\x02":
        return 2
    return 6 if packed[:4] == b"\x20\x01\x00\x00" else 1
