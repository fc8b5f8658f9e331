"""
All hosts that are known of, together: who has which address, who is whose peer.

A configuration does not say everything about its host: which address it has on its uplink or in its LANs. `Surroundings` has what
is known of that; without it, the uplink's address is the endpoint where that is a number, and the address in a LAN its first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ginnel.network.host import Host, Peer, Tunnel, WireguardInterface
from ginnel.network.model import HostPort, Protect
from ginnel.network.reach import protected
from ginnel.network.reach.protected import holds
from ginnel.network.reach.values import UNKNOWN
from ginnel.units import Prefix, PublicKey


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Addresses that a host has outside of its tunnels; None: the usual guess."""

    uplink: tuple[bytes, ...] | None = None
    lan: tuple[bytes, ...] | None = None


_USUAL = Surroundings()


class Fleet:
    """Hosts by all that they are known by."""

    def __init__(
        self, hosts: Iterable[Host], surroundings: Mapping[str, Surroundings] | None = None, down: Iterable[str] = ()
    ) -> None:
        """
        Args:
            hosts: each under its own name.
            surroundings: by the names of hosts.
            down: hosts that do not run.
        """
        self.hosts = {host.name: host for host in hosts}
        self.down = frozenset(down)
        self._around = dict(surroundings or {})
        self._own: dict[str, frozenset[bytes]] = {}

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def uplink(self, host: Host, version: int) -> tuple[bytes, ...]:
        """Its addresses on its uplink, of one family; that nobody else has where none is known."""
        known = self._around.get(host.name, _USUAL).uplink
        if known is None:
            packed = numeric(host.endpoint.host) if host.endpoint is not None else None
            known = (packed,) if packed is not None else ()
        return tuple(packed for packed in known if version_of(packed) == version) or (UNKNOWN[version],)

    def in_lan(self, host: Host, lan: Prefix) -> bytes | None:
        """Its own address in one of its LANs (by the prefix that this has on the spot)."""
        known = self._around.get(host.name, _USUAL).lan
        if known is not None:
            return next((packed for packed in known if holds(lan, packed)), None)
        return nth(lan, 1) if len(lan.packed) * 8 - lan.length >= 2 else None

    def own(self, host: Host) -> frozenset[bytes]:
        """Every address at which the host itself answers."""
        if (found := self._own.get(host.name)) is None:
            lans = (self.in_lan(host, lan) for lan in real_lans(host))
            uplinks = (packed for version in (4, 6) for packed in self.uplink(host, version))
            found = frozenset((*host.addresses, *uplinks, *(packed for packed in lans if packed is not None)))
            self._own[host.name] = found
        return found

    def answers(self, host: Host, packed: bytes) -> bool:
        """Whether an address is the host's own."""
        return packed in self.own(host) or (bool(host.protects) and protected.has(host, packed))

    def protection(self, packed: bytes) -> Protect | None:
        """The protected origin that an address belongs to."""
        return protected.of(iter(self._protecting), packed)

    @cached_property
    def _protecting(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.protects]

    @cached_property
    def _by_key(self) -> dict[PublicKey, list[tuple[Host, WireguardInterface]]]:
        found: dict[PublicKey, list[tuple[Host, WireguardInterface]]] = {}
        for host in self.hosts.values():
            for interface in host.interfaces:
                if interface.public_key is not None:
                    found.setdefault(interface.public_key, []).append((host, interface))
        return found

    @cached_property
    def _by_endpoint(self) -> dict[str, list[Host]]:
        found: dict[str, list[Host]] = {}
        for host in self.hosts.values():
            if host.endpoint is not None:
                found.setdefault(_canonical(host.endpoint.host), []).append(host)
        return found

    @cached_property
    def _by_address(self) -> dict[bytes, Host]:
        """By addresses inside tunnels; the first host that has it."""
        found: dict[bytes, Host] = {}
        for host in self.hosts.values():
            for packed in host.addresses:
                found.setdefault(packed, host)
        return found

    def at_endpoint(self, host: str) -> tuple[Host, ...]:
        """The hosts that are reached from outside by this address or name."""
        return tuple(self._by_endpoint.get(_canonical(host), ()))

    def at_address(self, packed: bytes) -> Host | None:
        """The host that has this address inside a tunnel."""
        return self._by_address.get(packed)

    def at_lan(self, packed: bytes) -> tuple[Host, Prefix] | None:
        """The host behind which an address lies, as the network knows it, and the LAN: the most specific."""
        best: tuple[Host, Prefix] | None = None
        for host in self.hosts.values():
            for lan in host.lans:
                if holds(lan, packed) and (best is None or lan.length > best[1].length):
                    best = (host, lan)
        return best

    def whose(self, packed: bytes) -> str:
        """In words: what an address is; empty where nobody in the network has it."""
        if (host := self.at_address(packed)) is not None:
            return host.name
        if (found := self.at_lan(packed)) is not None:
            return f"{found[0].name}'s LAN {found[1]}"
        if (protect := self.protection(packed)) is not None:
            return f"a protected address of {protect.origin}"
        hosts = self.at_endpoint(str(ipaddress.ip_address(packed)))
        return f"{hosts[0].name}'s endpoint" if hosts else ""

    # -- who is whose peer

    def far_end(self, host: Host, interface: WireguardInterface, peer: Peer) -> tuple[Host, WireguardInterface] | None:
        """
        The interface that *peer* of an interface of *host* is: by its key; where no key is known, by its name. Of several with
        one key, the one that knows this end.
        """
        ends = self._by_key.get(peer.public_key, ()) if peer.public_key is not None else ()
        if not ends and (other := self.hosts.get(peer.name)) is not None:
            ends = [(other, each) for each in other.interfaces if each.public_key is None or peer.public_key is None]
        knowing = (end for end in ends if self.known_there(end[1], host, interface.public_key) is not None)
        return next(knowing, next(iter(ends), None))

    def known_there(self, interface: WireguardInterface, near: Host, near_key: PublicKey | None) -> Peer | None:
        """*near*, with its key, as a peer of the interface of another."""
        if near_key is not None:
            for peer in interface.peers:
                if peer.public_key == near_key:
                    return peer
        for peer in interface.peers:
            if peer.name == near.name and (peer.public_key is None or near_key is None):
                return peer
        return None

    def far_tunnel(self, host: Host, tunnel: Tunnel) -> tuple[Host, Tunnel] | None:
        """The other end of a tunnel: by the node's name where that is known, else by the addresses of its ends."""
        other = self.hosts.get(tunnel.peer)
        if other is not None:
            found = [each for each in other.tunnels if each.peer == host.name]
            same = [each for each in found if (each.config.kind, each.config.okey) == (tunnel.config.kind, tunnel.config.ikey)]
            if found:
                return other, (same or found)[0]
        if tunnel.config.remote == "any":
            return None
        for candidate in self.hosts.values():
            if candidate is host:
                continue
            for each in candidate.tunnels:
                here = each.config.local == tunnel.config.remote or candidate in self.at_endpoint(tunnel.config.remote)
                back = each.config.remote in (tunnel.config.local, "any") or host in self.at_endpoint(each.config.remote)
                if here and back and not (each.peer and each.peer != host.name):
                    return candidate, each
        return None

    def misled(self, endpoint: HostPort, far: Host, interface: WireguardInterface) -> str:
        """Why an endpoint does not lead to an interface, in words; empty: nothing speaks against it."""
        if not interface.listen_port:
            return f"{far.name} listens on any port (it has no ListenPort)"
        hosts = self.at_endpoint(endpoint.host)
        if hosts and far not in hosts:
            return f"that is {hosts[0].name}"
        ports = {interface.listen_port, far.endpoint.port if far.endpoint is not None else 0} - {0}
        if far in hosts and endpoint.port and ports and endpoint.port not in ports:
            return f"{far.name} listens on port {interface.listen_port}, not {endpoint.port}"
        return ""


def show(endpoint: HostPort) -> str:
    """An endpoint as it is written."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}" if endpoint.port else host


def real_lans(host: Host) -> tuple[Prefix, ...]:
    """Its LANs by the prefixes that they have on the spot."""
    real = {each.seen: each.real for each in host.mapped}
    return tuple(dict.fromkeys(real.get(lan, lan) for lan in host.lans))


def moved(packed: bytes, before: Prefix, after: Prefix) -> bytes:
    """An address in *before* as it is in *after*, one to one."""
    size = len(packed)
    host = int.from_bytes(packed, "big") & ((1 << (size * 8 - before.length)) - 1)
    return (int.from_bytes(after.packed, "big") | host).to_bytes(size, "big")


def nth(prefix: Prefix, number: int) -> bytes:
    """The address *number* of a prefix."""
    return (int.from_bytes(prefix.packed, "big") + number).to_bytes(len(prefix.packed), "big")


def version_of(packed: bytes) -> int:
    """4 or 6."""
    return 4 if len(packed) == 4 else 6


def numeric(text: str) -> bytes | None:
    """An address packed; None where the text is a name."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return None


def _canonical(host: str) -> str:
    packed = numeric(host)
    return host.lower() if packed is None else str(ipaddress.ip_address(packed))
