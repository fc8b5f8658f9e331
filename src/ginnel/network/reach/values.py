"""
What is found out about a packet's way, as values: hops, or the rule that stops it; the way there, the way back.

A `Hop` is one host that the packet is at: by what it came, why it was let in, what was changed of it, and the rule by which it
goes on.
A `Stop` is the rule that ends it, under a word of its own (`Stop.code`), which scripts may rely on:

    no-route          nothing leads there; but for the default route it would not even leave
    no-peer           the route leads into a WireGuard interface, of which no peer has the address
    source-refused    the other end accepts from this peer only other sources (cryptokey routing)
    not-forwarded     the host that it came to passes nothing on
    guarded           a full tunnel's address answers to what comes by the tunnel alone (as wg-quick sees to it)
    unknown-peer      nothing is known of the other end: its configuration was not given, or its key is nobody's
    not-mutual        the other end does not know this one (its key, its tunnel)
    no-session        neither end can begin: nobody has an endpoint that leads to the other
    endpoint-inside   packets to the endpoint would be routed into the very tunnel that they carry
    psk-mismatch      the preshared keys differ, or one end has none
    tunnel-mismatch   the ends of a tunnel do not agree (kind, ends, key, checksums, protection)
    loop              it comes back to where it was
    no-answer         it leaves the network under an address to which nothing comes back
    down              the host is the one that is taken to have failed
    not-up            the host's configuration cannot be brought up: a prefix is to be routed by two devices
    families          source and target have no address family in common

Nothing here decides; `walk` does. Addresses are packed.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from ginnel.network.host import Place

SCHEMA = "ginnel.path/1"
#: What stands for the addresses of an uplink where they are not known: nobody else has them (RFC 7600; RFC 6666).
UNKNOWN = {4: bytes((192, 0, 0, 8)), 6: bytes.fromhex("0100") + bytes(13) + b"\x08"}
#: What stands in for all hosts that are no part of the network.
INTERNET = "the internet"


@dataclass(frozen=True, slots=True)
class Stop:
    """The rule that ends a packet: on which host, why, and what would let it pass."""

    node: str
    code: str
    message: str
    mend: str = ""
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """
    One host on the way.

    came: the device it came by ("": it begins here; "LAN", "uplink"); sender: the node it came from, where it was one. admitted:
    why it was let in. source, target: as they are when it leaves. changed: what NAT did to them. rule: why it goes where it
    goes. device: by which it leaves ("": it has arrived), to: the next node. mtu: of that device.
    """

    node: str
    came: str
    sender: str
    admitted: str
    source: bytes
    target: bytes
    rule: str
    changed: tuple[str, ...] = ()
    device: str = ""
    to: str = ""
    mtu: int | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """One direction: the packet as it begins, its hops, and the rule that stopped it (None: it arrived)."""

    source: bytes
    target: bytes
    hops: tuple[Hop, ...]
    stop: Stop | None = None
    #: What holds only under a condition that no configuration tells of.
    notes: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The hosts it was at, in order."""
        return tuple(hop.node for hop in self.hops)

    @property
    def mtu(self) -> int | None:
        """What passes whole: the least MTU of all devices on the way; None where none is known."""
        return min((hop.mtu for hop in self.hops if hop.mtu is not None), default=None)

    @property
    def narrowest(self) -> Hop | None:
        """The first hop of that MTU: the one that refuses what is bigger."""
        return next((hop for hop in self.hops if hop.mtu is not None and hop.mtu == self.mtu), None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether *source* reaches *target* (as they were asked for), and how; back None: the packet never arrived."""

    source: str
    target: str
    there: Way
    back: Way | None = None

    @property
    def reaches(self) -> bool:
        """The packet arrives, and so does the answer."""
        return self.there.stop is None and self.back is not None and self.back.stop is None

    @property
    def stop(self) -> Stop | None:
        """The rule that stops the packet, or its answer."""
        return self.there.stop or (self.back.stop if self.back is not None else None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What it depends on besides, each once."""
        return tuple(dict.fromkeys((*self.there.notes, *(self.back.notes if self.back is not None else ()))))

    @property
    def mtu(self) -> int | None:
        """What passes whole in both directions."""
        ways = (self.there, self.back) if self.back is not None else (self.there,)
        return min((way.mtu for way in ways if way.mtu is not None), default=None)

    @property
    def why(self) -> str:
        """In a line: the nodes on the way, or what stops it and where."""
        if self.there.stop is not None:
            return self.there.stop.message
        if self.back is not None and self.back.stop is not None:
            return f"it arrives, but the answer does not: {self.back.stop.message}"
        return " → ".join(self.there.nodes)

    def to_json(self) -> dict[str, Any]:
        """As a JSON document; names and types are those of the schema, which only ever grows."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            "target": self.target,
            "reaches": self.reaches,
            "why": self.why,
            "mtu": self.mtu,
            "there": _way(self.there),
            "back": _way(self.back) if self.back is not None else None,
            "notes": list(self.notes),
        }


def text_of(packed: bytes) -> str:
    """An address as people write it; in words where it is that of an uplink and not known."""
    if packed in UNKNOWN.values():
        return "its uplink's address"
    return str(ipaddress.ip_address(packed))


def _way(way: Way) -> dict[str, Any]:
    return {
        "source": text_of(way.source),
        "target": text_of(way.target),
        "mtu": way.mtu,
        "hops": [
            {
                "node": hop.node,
                "came": hop.came,
                "sender": hop.sender,
                "admitted": hop.admitted,
                "source": text_of(hop.source),
                "target": text_of(hop.target),
                "changed": list(hop.changed),
                "rule": hop.rule,
                "device": hop.device,
                "to": hop.to,
                "mtu": hop.mtu,
                "place": _place(hop.place),
            }
            for hop in way.hops
        ],
        "stop": {
            "node": way.stop.node,
            "code": way.stop.code,
            "message": way.stop.message,
            "mend": way.stop.mend,
            "place": _place(way.stop.place),
        }
        if way.stop is not None
        else None,
    }


def _place(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    span = place.span
    return {"source": place.source, "line": span.line if span else None, "column": span.column if span else None}
