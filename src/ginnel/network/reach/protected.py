"""
Protected origins, as the hosts at both ends of them see a packet: what `origin` and `hostrules` make of `[[protect]]`.

    origin   has the addresses; takes what is for them from its edges' links alone, and sends under them into those alone; a
             connection is answered by the link that it came by (its mark), whatever else the routes say
    edge     passes on what comes for the addresses, and lets it leave to the origin alone; what comes back leaves unchanged
    internet hands what is for the addresses to an edge: to the first, where nothing else is said

With `only-edges` the origin's own addresses answer nobody who comes by its uplink.
"""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.config.node_host import addresses_in, is_few
from ginnel.config.words import Rule
from ginnel.network import origin
from ginnel.network.host import Host
from ginnel.network.model import Protect
from ginnel.units import Prefix


def holds(prefix: Prefix, packed: bytes) -> bool:
    """Whether an address lies in a prefix; never across families."""
    shift = len(packed) * 8 - prefix.length
    same = len(packed) == len(prefix.packed)
    return same and int.from_bytes(packed, "big") >> shift == int.from_bytes(prefix.packed, "big") >> shift


def has(host: Host, packed: bytes) -> bool:
    """Whether a protected address is the origin's own; those in a LAN behind it are not."""
    if not any(holds(prefix, packed) for prefix in origin.addresses_of(host.protects, host.name)):
        return False
    return not any(holds(lan, packed) for lan in host.lans)


def on_loopback(host: Host) -> Iterator[bytes]:
    """The protected addresses that an origin has one by one, and so may send from of its own accord."""
    for prefix in origin.addresses_of(host.protects, host.name):
        if is_few(prefix) and has(host, prefix.packed):
            yield from (address.packed for address in addresses_in(prefix))


def of(hosts: Iterator[Host], packed: bytes) -> Protect | None:
    """The protection that an address has."""
    for host in hosts:
        for protect in host.protects:
            if any(holds(prefix, packed) for prefix in protect.addresses):
                return protect
    return None


def takes(edge: Host, packed: bytes) -> bool:
    """Whether the host is an edge of this address."""
    mine = (protect for protect in edge.protects if edge.name in protect.edges)
    return any(holds(prefix, packed) for protect in mine for prefix in protect.addresses)


def rules(host: Host) -> Iterator[Rule]:
    """The policy rules that come with an origin's WireGuard interfaces; those of other tunnels are in their configuration."""
    peers = {peer.name for interface in host.interfaces for peer in interface.peers}
    for edge in origin.edges_of(host.protects, host.name):
        if edge in peers:
            yield from origin.rules_of(host.protects, host.name, edge)


def edge_devices(host: Host) -> dict[str, str]:
    """At an origin: by which device which edge is."""
    edges = origin.edges_of(host.protects, host.name)
    found = {interface.name: peer.name for interface in host.interfaces for peer in interface.peers if peer.name in edges}
    return found | {tunnel.config.name: tunnel.peer for tunnel in host.tunnels if tunnel.peer in edges}


def mark(host: Host, target: bytes, came: str) -> int:
    """What a connection to *target* is marked with at an origin, by the device that it came by; 0: nothing."""
    edge = edge_devices(host).get(came)
    if edge is None or not any(holds(each, target) for each in origin.addresses_behind(host.protects, host.name, edge)):
        return 0
    return origin.mark_of(origin.edges_of(host.protects, host.name).index(edge) + 1)


def refuses(host: Host, source: bytes | None, target: bytes, came: str, leaves: str) -> str:
    """Why a host's firewall drops a packet that came by one device ("": it begins here) and leaves by another, in words."""
    mine = origin.addresses_of(host.protects, host.name)
    devices = edge_devices(host)
    if came and came not in devices and any(holds(each, target) for each in mine):
        return "takes what is for its protected addresses from its edges alone"
    if leaves and leaves not in devices and source is not None and any(holds(each, source) for each in mine):
        return "sends under its protected addresses through its edges alone"
    if came and leaves and takes(host, target) and not _to_origin(host, target, leaves):
        return "passes on what is for the protected addresses to their origin alone"
    return ""


def _to_origin(edge: Host, target: bytes, leaves: str) -> bool:
    """Whether a device of an edge leads to the origin of an address."""
    mine = (each for each in edge.protects if edge.name in each.edges and any(holds(one, target) for one in each.addresses))
    origins = {protect.origin for protect in mine}
    by_key = {interface.name for interface in edge.interfaces for peer in interface.peers if peer.name in origins}
    return leaves in by_key | {tunnel.config.name for tunnel in edge.tunnels if tunnel.peer in origins}


def hides(host: Host) -> bool:
    """Whether its own addresses answer nobody from outside."""
    return any(protect.only_edges and protect.origin == host.name for protect in host.protects)
