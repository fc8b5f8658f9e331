"""
A packet through compiled hosts, by their configuration alone: longest prefixes, and WireGuard's check of the source at each hop.

It knows nothing of paths, shapes or relays; what it finds is what the configuration does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ginnel.network.host import Host
from ginnel.units import Prefix


@dataclass(frozen=True)
class Entry:
    prefix: Prefix
    peer: str
    wireguard: bool


class Fleet:
    """All hosts of a network."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self.hosts = hosts
        self.tables = {name: table(host) for name, host in hosts.items()}
        self.own = {name: {*host.addresses} for name, host in hosts.items()}

    def trace(self, source: str, packed_source: bytes, packed_target: bytes) -> list[str] | str:
        """The hosts a packet passes, the last being the one that has the target or its LAN; or why it does not arrive."""
        here, way = source, [source]
        while not self._is_at(here, packed_target):
            out = longest(self.tables[here], packed_target)
            if out is None:
                return f"{here} has no way to it"
            if out.peer in way:
                return f"a loop: {way} and {out.peer}"
            if len(way) > 1 and not self.hosts[here].forwards:
                return f"{here} does not forward"
            if out.wireguard:
                back = longest([entry for entry in self.tables[out.peer] if entry.wireguard], packed_source)
                if back is None or back.peer != here:
                    return f"{out.peer} does not take it from {here}"
            here = out.peer
            way.append(here)
        return way

    def _is_at(self, name: str, packed: bytes) -> bool:
        return packed in self.own[name] or any(within(packed, lan) for lan in self.hosts[name].lans)


def table(host: Host) -> list[Entry]:
    """What leads where; of one prefix there is one entry."""
    entries: dict[Prefix, Entry] = {}
    for interface in host.interfaces:
        for peer in interface.peers:
            for prefix in peer.allowed_ips:
                assert prefix not in entries, f"{host.name} has {prefix} twice"
                entries[prefix] = Entry(prefix, peer.name, wireguard=True)
    for tunnel in host.tunnels:
        connected = [str(Prefix.parse(text)) for text in tunnel.config.address]
        for text in (*connected, *tunnel.config.routes):
            prefix = Prefix.parse(text)
            assert prefix not in entries, f"{host.name} has {prefix} twice"
            entries[prefix] = Entry(prefix, tunnel.peer, wireguard=False)
    return sorted(entries.values(), key=lambda entry: -entry.prefix.length)


def longest(entries: list[Entry], packed: bytes) -> Entry | None:
    return next((entry for entry in entries if within(packed, entry.prefix)), None)


def within(packed: bytes, prefix: Prefix) -> bool:
    bits = len(packed) * 8 - prefix.length
    return len(packed) == len(prefix.packed) and int.from_bytes(packed) >> bits == int.from_bytes(prefix.packed) >> bits
