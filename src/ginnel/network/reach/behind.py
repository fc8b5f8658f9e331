"""
What lies behind hosts whose configuration does not say it: a wg-quick file knows its peers' LANs, and never its own.

A prefix that others send to a host, which the host sends on into no tunnel and which is not a subnet of its tunnels, is taken
for a LAN of that host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ginnel.config import words
from ginnel.network.host import Host
from ginnel.network.reach.fleet import Fleet
from ginnel.network.reach.protected import holds
from ginnel.network.reach.routes import LongestMatch, cryptokey
from ginnel.units import Prefix


def with_lans(hosts: Sequence[Host]) -> list[Host]:
    """The same hosts, those without LANs with what the others send to them."""
    fleet = Fleet(hosts)
    found: dict[str, list[Prefix]] = {}
    for host in hosts:
        for far, prefixes in _sent(fleet, host):
            if not far.lans:
                found.setdefault(far.name, []).extend(prefix for prefix in prefixes if _lies_there(far, prefix))
    return [replace(host, lans=tuple(dict.fromkeys(found.get(host.name, host.lans)))) for host in hosts]


def _sent(fleet: Fleet, host: Host) -> Iterator[tuple[Host, Iterable[Prefix]]]:
    """What a host sends to whom."""
    for interface in host.interfaces:
        for peer in interface.peers:
            if (end := fleet.far_end(host, interface, peer)) is not None:
                yield end[0], peer.allowed_ips
    for tunnel in host.tunnels:
        if (other := fleet.far_tunnel(host, tunnel)) is not None:
            yield other[0], [words.Route.parse(text).prefix for text in tunnel.config.routes]


def _lies_there(host: Host, prefix: Prefix) -> bool:
    if not prefix.length or any(holds(prefix, packed) for packed in host.addresses):
        return False
    subnets = [address for interface in host.interfaces for address in interface.address]
    if any(address.length <= prefix.length and holds(Prefix.parse(str(address)), prefix.packed) for address in subnets):
        return False
    onward: LongestMatch[None] = LongestMatch()
    for tunnel in host.tunnels:
        for text in tunnel.config.routes:
            onward.add(words.Route.parse(text).prefix, None)
    tables = [cryptokey(interface.peers).find(prefix.packed, 1) for interface in host.interfaces]
    return onward.find(prefix.packed, 1) is None and not any(tables)
