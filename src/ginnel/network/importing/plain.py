"""
GRE and IPsec tunnels of several hosts, joined to links: two tunnels are the ends of one when each has the other's address as its
remote, and the same key.

A link of a network file has the options of both ends, so the ends must agree; a tunnel whose other end is nobody's, or of a kind
that a network file does not have, is named and left to its host.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ginnel.network.findings import Finding
from ginnel.network.host import Host, Tunnel
from ginnel.network.importing.draft import Draft
from ginnel.network.model import HostPort, Link


@dataclass(slots=True)
class Links:
    """The links, and which tunnels became none (host, device)."""

    links: list[Link] = field(default_factory=list)
    untaken: set[tuple[str, str]] = field(default_factory=set)
    endpoints: dict[str, HostPort] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def endpoint(self, name: str) -> HostPort | None:
        """Where a node's tunnels end, if it has any that became links."""
        return self.endpoints.get(name)

    def without_untaken(self, hosts: Iterable[Host]) -> list[Host]:
        """The hosts without the tunnels that stay theirs alone."""
        return [
            replace(host, tunnels=tuple(t for t in host.tunnels if (host.name, t.config.name) not in self.untaken))
            for host in hosts
        ]


def links(found: Draft) -> Links:
    """Join the tunnels of *found*'s hosts."""
    made = Links()
    for unit in found.units:
        for tunnel in unit.tunnels:
            assert unit.host is not None  # only a host has tunnels
            _leave(made, unit.host, tunnel)
    return made


def _leave(made: Links, host: Host, tunnel: Tunnel) -> None:
    made.untaken.add((host.name, tunnel.config.name))
    message = (
        f"{host.name}: {tunnel.config.name}: a {tunnel.config.kind} tunnel to {tunnel.config.remote} that stays the host's own"
    )
    made.findings.append(Finding("G0816", message, (tunnel.place,) if tunnel.place else (), nodes=(host.name,)))
