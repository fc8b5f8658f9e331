"""
What a host writes over in a packet, and what it remembers of it for the answer.

    mapped   a LAN that the network knows by another prefix: the target as it comes, the source as it goes into a tunnel, or back
             into such a LAN
    hidden   sources that leave for the outside under the host's own address: an exit's clients, and what a hook masquerades
    marked   connections to a protected address, by the edge that they came by

Only a connection's first packet meets rules; its answers have undone what was done to it (conntrack). Mapping is the same both
ways and needs no memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from ginnel.network.host import Host
from ginnel.network.reach import protected
from ginnel.network.reach.fleet import moved, version_of
from ginnel.network.reach.protected import holds
from ginnel.network.reach.routes import Decision, Routing
from ginnel.network.reach.values import text_of

_MASQUERADE = {
    4: re.compile(r"\biptables\b.*\bMASQUERADE\b|\bnft\b.*\bmasquerade\b"),
    6: re.compile(r"\bip6tables\b.*\bMASQUERADE\b|\bnft\b.*\bmasquerade\b"),
}


@dataclass(frozen=True, slots=True)
class Packet:
    """Addresses of a packet; source None: the host that sends it has not chosen yet."""

    source: bytes | None
    target: bytes
    #: It answers one that arrived.
    answer: bool = False


@dataclass(slots=True)
class Memory:
    """What all hosts remember of one connection."""

    #: (host, its address, the other's) -> whom it hides behind that.
    hidden: dict[tuple[str, bytes, bytes], bytes] = field(default_factory=dict)
    #: Under which address somebody left for the internet -> by which host.
    left: dict[bytes, Host] = field(default_factory=dict)
    #: (host, one of its protected addresses, the other's) -> the mark of that connection.
    marks: dict[tuple[str, bytes, bytes], int] = field(default_factory=dict)

    def entering(self, host: Host, packet: Packet) -> tuple[Packet, tuple[str, ...]]:
        """The packet with its true target, and words for what was changed."""
        if packet.answer and packet.source is not None:
            inner = self.hidden.get((host.name, packet.target, packet.source))
            if inner is not None:
                words = f"the answer is {text_of(inner)}'s, hidden behind {text_of(packet.target)}"
                return replace(packet, target=inner), (words,)
        for each in host.mapped:
            if holds(each.seen, packet.target):
                target = moved(packet.target, each.seen, each.real)
                return replace(packet, target=target), (f"target {text_of(packet.target)} is {text_of(target)} here",)
        return packet, ()

    def mark(self, host: Host, packet: Packet, came: str) -> int:
        """The mark by which a packet is routed: that of the connection that it answers."""
        if not host.protects or packet.source is None:
            return 0
        if packet.answer:
            return self.marks.get((host.name, packet.source, packet.target), 0)
        self.marks[(host.name, packet.target, packet.source)] = protected.mark(host, packet.target, came)
        return 0

    def leaving(self, routing: Routing, packet: Packet, decision: Decision, *, mapped: bool) -> tuple[Packet, tuple[str, ...]]:
        """The packet under the source by which the other side knows it. *mapped*: its target was written over here."""
        host, source = routing.host, packet.source
        assert source is not None  # it was chosen with the route
        inside = decision.route.exit in ("wireguard", "tunnel")
        if inside or (mapped and decision.route.exit == "lan"):
            for each in host.mapped:
                if holds(each.real, source):
                    seen = moved(source, each.real, each.seen)
                    return replace(packet, source=seen), (f"source {text_of(source)} is {text_of(seen)} outside",)
        if inside or packet.answer or not _hides(host, packet, decision):
            return packet, ()
        shown = routing.source(decision, packet.target)
        if source == shown:
            return packet, ()
        self.hidden[(host.name, shown, packet.target)] = source
        return replace(packet, source=shown), (f"source {text_of(source)} is hidden behind {text_of(shown)}",)


def _hides(host: Host, packet: Packet, decision: Decision) -> bool:
    """Whether a host hides the source of what leaves it, but not from its own LANs."""
    source = packet.source or b""
    if any(holds(lan, packet.target) for lan in host.lans):
        return False
    if any(holds(each, source) for each in host.masquerades):
        return True
    # A hook is a line of shell, and understood as far as it can be from outside.
    commands = (command for each in host.interfaces for _, command in each.hooks)
    return decision.route.exit == "uplink" and any(map(_MASQUERADE[version_of(source)].search, commands))
