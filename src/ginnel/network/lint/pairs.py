"""
Which two tunnels are the two ends of one.

The other end of a tunnel is that of the node it names, where names are known; else the tunnel whose `local` is this one's
`remote`. Of several between the same two hosts it is the one that mirrors it best.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ginnel.config.node import PlainConfig
from ginnel.network.findings import Finding
from ginnel.network.host import Host, Place, Tunnel
from ginnel.network.lint.view import View
from ginnel.units import Prefix

#: Of local and remote: whatever it is.
ANY = ("any", "", "0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Pair:
    """Both ends of one tunnel."""

    near: Host
    tunnel: Tunnel
    far: Host
    other: Tunnel

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(each.place for each in (self.tunnel, self.other) if each.place is not None)

    @property
    def nodes(self) -> tuple[str, str]:
        return self.near.name, self.far.name

    def finding(self, code: str, what: str, cause: str, mend: str) -> Finding:
        """A finding that is called by both devices."""
        name = f"{self.near.name}'s {self.tunnel.config.name} and {self.far.name}'s {self.other.config.name}"
        return Finding(code, f"{name}: {what}", self.places, cause, mend, self.nodes)


def pairs(view: View) -> Iterator[Pair | Finding]:
    """Every tunnel of which both ends are known, once; and a finding for each whose far host has none."""
    if not any(host.tunnels for host in view.hosts):
        return
    locals_: dict[str, list[tuple[Host, Tunnel]]] = {}
    by_peer: dict[tuple[str, str], list[Tunnel]] = {}
    for host in view.hosts:
        for tunnel in host.tunnels:
            if tunnel.config.local not in ANY:
                locals_.setdefault(tunnel.config.local, []).append((host, tunnel))
            if tunnel.peer:
                by_peer.setdefault((host.name, tunnel.peer), []).append(tunnel)
    told: set[frozenset[tuple[str, str]]] = set()
    for host in view.hosts:
        for tunnel in host.tunnels:
            found = _other_end(view, host, tunnel, locals_, by_peer)
            if found is None:
                continue
            far, other = found
            if other is None:
                yield _alone(host, tunnel, far)
                continue
            both = frozenset(((host.name, tunnel.config.name), (far.name, other.config.name)))
            if both not in told:
                told.add(both)
                yield Pair(host, tunnel, far, other)


def _other_end(
    view: View,
    host: Host,
    tunnel: Tunnel,
    locals_: dict[str, list[tuple[Host, Tunnel]]],
    by_peer: dict[tuple[str, str], list[Tunnel]],
) -> tuple[Host, Tunnel | None] | None:
    """The host and the tunnel at the other end; (host, None) where the host is known and has none; None: nothing is known."""
    remote = tunnel.config.remote
    if tunnel.peer and (far := view.by_name.get(tunnel.peer)) is not None:
        candidates = [(far, each) for each in by_peer.get((far.name, host.name), ())]
        if not candidates:
            return far, None
    else:
        candidates = [(other, each) for other, each in locals_.get(remote, ()) if other is not host] if remote not in ANY else []
        back = [item for item in candidates if item[1].config.remote in (tunnel.config.local, *ANY)]
        if not candidates:
            return None
        if not back:
            # Somebody has that address, and no tunnel to here: only where our own address is known can that be said.
            return (candidates[0][0], None) if tunnel.config.local not in ANY else None
        candidates = back
    return max(candidates, key=lambda item: _likeness(tunnel.config, item[1].config))


def _likeness(one: PlainConfig, other: PlainConfig) -> tuple[int, ...]:
    """How well two ends go together, by what tells tunnels between the same hosts apart."""
    return (
        int(one.kind == other.kind),
        int(one.okey == other.ikey and one.ikey == other.okey),
        int(one.remote == other.local) + int(one.local == other.remote),
        int(subnets(one) == subnets(other)),
    )


def _alone(host: Host, tunnel: Tunnel, far: Host) -> Finding:
    return Finding(
        "G0310",
        f"{host.name}'s {tunnel.config.name} leads to {far.name}, which has no tunnel back",
        (tunnel.place,) if tunnel.place is not None else (),
        f"what arrives at {far.name} finds no tunnel, and is dropped",
        f"at {far.name}: a tunnel with remote = {tunnel.config.local if tunnel.config.local not in ANY else host.name}",
        (host.name, far.name),
    )


def subnets(config: PlainConfig) -> frozenset[Prefix]:
    found = (Prefix.parse(text) for text in config.address)
    return frozenset(prefix for prefix in found if not (len(prefix.packed) == 16 and prefix.packed[:1] == b"\xfe"))
