"""
What is to be done, host by host, so that a network that is becomes the one that is to be.

`plan(old, new)` compares hosts, whoever described them: a compiled network, wg-quick files, what runs. Hosts are the same when an
interface of theirs has the same public key, else by their names; a host that is in only one of the two is one step. The least is
done: what is equal is not mentioned. What one side cannot say (a foreign file, whether the host forwards) is not compared.

    steps       the values
    wireguard   one interface
    tunnels     GRE, IP in IP, IPsec

The same hosts give the same plan. Equal things are mostly identical (a compilation that was updated keeps its descriptions), so
identity is looked at first: a thousand nodes with a thousand peers each compare in well under a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ginnel.network.compile import Compilation, NodeDescription, PeerDescription
from ginnel.network.host import Host, WireguardInterface
from ginnel.network.model import Protect
from ginnel.network.plan import tunnels, wireguard
from ginnel.network.plan.steps import HostPlan, Plan, Sessions, Step
from ginnel.units import PublicKey

__all__ = ["HostPlan", "Plan", "Sessions", "Step", "plan", "plan_compilations"]


def plan(old: Iterable[Host], new: Iterable[Host], *, compiled: bool = False) -> Plan:
    """
    Find what is to be done.

    Args:
        old: the hosts as they are.
        new: as they are to be. A host of several interfaces may be several here, one for each, as `importing.infer` makes them.
        compiled: both are of networks; so what no other configuration says in so many words, protected origins, is compared too.

    Returns:
        the steps, host by host; empty when nothing is to be done.
    """
    after = tuple(new)
    matching = _Matching(tuple(old), after)
    hosts: list[HostPlan] = []
    unchanged = 0
    for host in after:
        before = matching.of(host)
        if before is host:
            unchanged += 1
        elif before is None:
            hosts.append(HostPlan(host.name, "new", (_whole_file(host),)))
        elif steps := tuple(_steps(before, host, compiled=compiled)):
            hosts.append(HostPlan(host.name, "changed", steps))
        else:
            unchanged += 1
    hosts += [HostPlan(host.name, "gone", (_taken_down(host),)) for host in matching.rest()]
    return Plan(tuple(hosts), unchanged)


def plan_compilations(old: Compilation, new: Compilation) -> Plan:
    """The same between two compilations; descriptions that the one took over from the other are not looked into."""
    before = {node.name: node for node in old.nodes()}
    same, hosts_old, hosts_new = 0, [], []
    equal: dict[tuple[int, int], bool] = {}
    for node in new.nodes():
        was = before.pop(node.name, None)
        if was is node:
            same += 1
            continue
        if was is not None:
            was, node = _without_equal_peers(was, node, equal)  # noqa: PLW2901 - the rest is what there is to compare
            hosts_old.append(was.host())
        hosts_new.append(node.host())
    hosts_old += [node.host() for node in before.values()]
    found = plan(hosts_old, hosts_new, compiled=True)
    return replace(found, unchanged=found.unchanged + same)


def _without_equal_peers(
    old: NodeDescription, new: NodeDescription, equal: dict[tuple[int, int], bool]
) -> tuple[NodeDescription, NodeDescription]:
    """
    Both without the peers that are the same in both: nothing is to be done for those, and no prefix comes from or goes to one.

    *equal* remembers which two descriptions of a peer are: the same one serves many nodes, and outlives this.
    """
    begin = _alike(old.peers, new.peers)
    if begin:  # who joins a network is the last of it, mostly
        old, new = replace(old, peers=old.peers[begin:]), replace(new, peers=new.peers[begin:])
    # In the middle of a change of keys a node is two peers.
    names = {(peer.name, peer.coming): peer for peer in old.peers}
    same: set[tuple[str, bool]] = set()
    for peer in new.peers:
        was = names.get((peer.name, peer.coming))
        if was is None:
            continue
        if was is not peer:
            both = (id(was), id(peer))
            known = equal.get(both)
            if known is None:
                known = equal[both] = was == peer
            if not known:
                continue
        same.add((peer.name, peer.coming))
    if not same:
        return old, new
    return (
        replace(old, peers=tuple(peer for peer in old.peers if (peer.name, peer.coming) not in same)),
        replace(new, peers=tuple(peer for peer in new.peers if (peer.name, peer.coming) not in same)),
    )


def _alike(old: tuple[PeerDescription, ...], new: tuple[PeerDescription, ...]) -> int:
    """With how many equal peers both begin: by halves, since tuples of the same objects compare at once."""
    low, high = 0, min(len(old), len(new))
    if old[:high] == new[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if old[low:middle] == new[low:middle] else (low, middle)
    return low


class _Matching:
    """Which of the hosts as they are is the one that is to be; each interface is somebody's once."""

    def __init__(self, hosts: tuple[Host, ...], after: tuple[Host, ...]) -> None:
        self.hosts = hosts
        self.claimed = {each.public_key: host.name for host in after for each in host.interfaces if each.public_key is not None}
        self.by_name = {host.name: host for host in hosts}
        #: Several interfaces of one host may have one key, as an origin's have.
        self.by_key: dict[PublicKey, tuple[Host, tuple[str, ...]] | None] = {}
        for host in hosts:
            for interface in host.interfaces:
                if interface.public_key is not None:
                    whose, names = self.by_key.get(interface.public_key, (host, ())) or (None, ())
                    # A key that two hosts share tells neither.
                    self.by_key[interface.public_key] = (host, (*names, interface.name)) if whose is host else None
        #: What of each host has found its counterpart: interfaces, and its tunnels ("").
        self.found: dict[str, set[str]] = {host.name: set() for host in hosts}

    def of(self, host: Host) -> Host | None:
        """The counterpart of *host*, with those interfaces that are its own; None when it is new."""
        whose = self.by_name.get(host.name)
        if whose is host:
            self.found[host.name] |= {"", *(interface.name for interface in host.interfaces)}
            return host
        by_key = [
            found
            for interface in host.interfaces
            if interface.public_key is not None and (found := self.by_key.get(interface.public_key)) is not None
        ]
        if by_key:
            whose = by_key[0][0]
        if whose is None:
            return None
        taken = self.found[whose.name]
        mine = {name for owner, names in by_key if owner is whose for name in names}
        # Under the same name, what has not gone to another node that has its key; under another, its keys' alone.
        same_name = whose.name == host.name
        interfaces = tuple(
            interface
            for interface in whose.interfaces
            if interface.name not in taken and (interface.name in mine or (same_name and self._nobody_elses(interface, host)))
        )
        ends = whose.tunnels if "" not in taken and (same_name or not self._tunnels_stay(whose)) else ()
        taken |= {interface.name for interface in interfaces}
        if ends or same_name:
            taken.add("")
        return replace(whose, interfaces=interfaces, tunnels=ends)

    def _nobody_elses(self, interface: WireguardInterface, host: Host) -> bool:
        """Whether the interface may be *host*'s although the key differs: it has one of that name, or just one."""
        if interface.public_key is not None and self.claimed.get(interface.public_key, host.name) != host.name:
            return False
        return any(own.name == interface.name for own in host.interfaces) or len(host.interfaces) == 1

    def _tunnels_stay(self, whose: Host) -> bool:
        return any(interface.name not in self.found[whose.name] for interface in whose.interfaces)

    def rest(self) -> Iterator[Host]:
        """Hosts of which nothing has a counterpart."""
        for host in self.hosts:
            if not self.found[host.name]:
                yield host


def _steps(old: Host, new: Host, *, compiled: bool) -> Iterator[Step]:
    yield from _host_rules(old, new)
    if compiled and old.protects != new.protects:
        words = "; ".join(_protected(each) for each in new.protects) or "none any more"
        yield Step("protect", "", "", f"protected origins: {words}", "kept")
    pairs = _pairs(old.interfaces, new.interfaces)
    come = [interface for interface in new.interfaces if not any(interface is other for _, other in pairs)]
    kept = {found.name for found, _ in pairs}
    for interface in old.interfaces:
        if interface.name not in kept:
            command = ("wg-quick", "down", interface.name)
            yield Step("interface-remove", interface.name, "", "the interface is taken down", "ended", (command,))
    several = len(new.interfaces) + len(new.tunnels) > 1  # one alone takes over nobody's routes
    routed = Counter(route for routes in _routes_by_device(new) for route in routes) if several else Counter[str]()
    for found, interface in pairs:
        own = Counter(map(str, wireguard.routed(interface))) if several else Counter[str]()
        yield from wireguard.steps(found, interface, elsewhere=frozenset(routed - own))
    for interface in come:
        text = f"a new interface with {len(interface.peers)} peers"
        yield Step("interface-add", interface.name, "", text, "new", (("wg-quick", "up", interface.name),))
    yield from tunnels.steps(old.tunnels, new.tunnels, frozenset(routed))


def _protected(protect: Protect) -> str:
    only = ", which answers nobody else" if protect.only_edges else ""
    return f"{', '.join(map(str, protect.addresses))} by {', '.join(protect.edges)} to {protect.origin}{only}"


def _pairs(
    old: tuple[WireguardInterface, ...], new: tuple[WireguardInterface, ...]
) -> list[tuple[WireguardInterface, WireguardInterface]]:
    """Which interface becomes which: by key and name, then by key, then by name, then the one that is left on both sides."""
    found: dict[str, WireguardInterface] = {}
    rest = list(old)
    tests: tuple[Callable[[WireguardInterface, WireguardInterface], bool], ...] = (
        lambda one, two: one.name == two.name and one.public_key == two.public_key,
        lambda one, two: one.public_key is not None and one.public_key == two.public_key,
        lambda one, two: one.name == two.name,
        lambda *_: len(old) == len(new) == 1,
    )
    for test in tests:
        for interface in new:
            mine = next((one for one in rest if test(one, interface)), None) if interface.name not in found else None
            if mine is not None:
                found[interface.name] = mine
                rest.remove(mine)
    return [(found[interface.name], interface) for interface in new if interface.name in found]


def _routes_by_device(host: Host) -> Iterator[Iterable[str]]:
    """The prefixes that each of its devices is to have routes for in the main table."""
    for interface in host.interfaces:
        yield map(str, wireguard.routed(interface))
    for tunnel in host.tunnels:
        yield tunnel.config.routes


def _host_rules(old: Host, new: Host) -> Iterator[Step]:
    if old.forwards is None or new.forwards is None:
        return
    if new.forwards and not old.forwards:  # a host that forwards and need not may do so for others
        settings = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
        commands = tuple(("sysctl", "-w", f"{name}=1") for name in settings)
        yield Step("forwarding", "", "", "forwards packets", "kept", commands)
    if set(old.masquerades) != set(new.masquerades):
        words = ", ".join(map(str, new.masquerades)) or "nothing"
        yield Step("masquerade", "", "", f"hides {words} behind its own address", "kept")
    if set(old.mapped) != set(new.mapped):
        words = ", ".join(f"{one.real} as {one.seen}" for one in new.mapped) or "nothing"
        yield Step("mapped", "", "", f"maps one to one: {words}", "kept")


def _whole_file(host: Host) -> Step:
    devices = [*(interface.name for interface in host.interfaces), *(tunnel.config.name for tunnel in host.tunnels)]
    links = sum(len(interface.peers) for interface in host.interfaces) + len(host.tunnels)
    named = f"{', '.join(devices[:8]) or 'nothing'}{' …' if len(devices) > 8 else ''}"
    text = f"its whole file: {named}, {links} link{'' if links == 1 else 's'}"
    return Step("host-add", "", "", text, "new", tuple(("ginnel", "up", interface.name) for interface in host.interfaces))


def _taken_down(host: Host) -> Step:
    commands = tuple(("ginnel", "down", interface.name) for interface in host.interfaces)
    return Step("host-remove", "", "", "is no node any more: its tunnels are taken down", "ended", commands)
