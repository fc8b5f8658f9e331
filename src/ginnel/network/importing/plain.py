"""
GRE and IPsec tunnels of several hosts, joined to links.

Two tunnels are the ends of one link when their addresses inside are the two of one small subnet, or else when each has the
other's address as its remote, and the same key. A link of a network file has the options of both ends, so they must agree; what
is of a kind that a network file does not have, or whose other end is not among what was imported, is named and left to its host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from ginnel.config.node import Keepalive, PlainConfig
from ginnel.network import ipsec
from ginnel.network.findings import Finding
from ginnel.network.host import Host, Tunnel
from ginnel.network.importing.units import Unit, cut
from ginnel.network.model import Gre, HostPort, Ipsec, Link, LinkEnd
from ginnel.units import Prefix

_KINDS = ("gre", "ipsec")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
#: A link's subnet: what two ends need, and what people give them.
_SMALL = {4: 29, 6: 120}


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link: a tunnel of a node, and what it routes there."""

    unit: Unit
    tunnel: Tunnel

    @property
    def config(self) -> PlainConfig:
        """The tunnel as it is configured."""
        return self.tunnel.config

    @property
    def routes(self) -> tuple[Prefix, ...]:
        """Where packets go through it; the words behind a prefix are left."""
        return tuple(Prefix.parse(route.split()[0]) for route in self.config.routes)


@dataclass(slots=True)
class Joined:
    """The links, and which tunnels became none (host, device)."""

    pairs: list[tuple[End, End]] = field(default_factory=list)
    untaken: set[tuple[str, str]] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def links(self) -> tuple[Link, ...]:
        """As a network file has them; what ends route is not said here."""
        return tuple(_link(*pair) for pair in self.pairs)

    def endpoints(self) -> dict[str, HostPort]:
        """Where the nodes' tunnels end, as far as that is an address."""
        found = {}
        for end in (end for pair in self.pairs for end in pair):
            if end.config.local != "any":
                found[end.unit.name] = HostPort(end.config.local)
        for one, other in self.pairs:
            for end, far in ((one, other), (other, one)):
                if far.config.remote != "any":
                    found.setdefault(end.unit.name, HostPort(far.config.remote))
        return found

    def network(self) -> str:
        """The network's name, where all ends call themselves NODE.NETWORK; else ""."""
        found = set()
        for end in (end for pair in self.pairs for end in pair):
            if end.config.ipsec is not None:
                node, _, network = end.config.ipsec.local_id.partition(".")
                found.add(network if node == end.unit.name and _NAME.fullmatch(network) else "")
        return found.pop() if len(found) == 1 else ""

    def without_untaken(self, hosts: Iterable[Host]) -> list[Host]:
        """The hosts without the tunnels that stay theirs alone."""
        return [
            replace(host, tunnels=tuple(each for each in host.tunnels if (host.name, each.config.name) not in self.untaken))
            for host in hosts
        ]

    def dissolved(self) -> Joined:
        """No links at all: every tunnel stays its host's."""
        left = Joined(untaken=set(self.untaken), findings=list(self.findings))
        for end in (end for pair in self.pairs for end in pair):
            _leave(left, end, "the links that it would be one of are none that a network file can have")
        return left


def join(units: Iterable[Unit]) -> Joined:
    """Find the links of all tunnels."""
    made = Joined()
    ends = [End(unit, tunnel) for unit in units for tunnel in unit.tunnels]
    waiting = []
    for end in ends:
        if end.config.kind in _KINDS:
            waiting.append(end)
        else:
            _leave(made, end, f"a network file has no links of kind {end.config.kind}")
    for matching in (_by_subnet, _by_ends):
        for one, other in matching(waiting):
            waiting = [end for end in waiting if end is not one and end is not other]
            if why := _disagree(one.config, other.config):
                _leave(made, one, why)
                _leave(made, other, why)
            elif {frozenset((a.unit.name, b.unit.name)) for a, b in made.pairs} & {frozenset((one.unit.name, other.unit.name))}:
                _leave(made, one, "a network file has one link between two nodes")
                _leave(made, other, "a network file has one link between two nodes")
            else:
                made.pairs.append((one, other) if _lowest(one) <= _lowest(other) else (other, one))
    for end in waiting:
        _leave(made, end, f"its other end ({end.config.remote}) is not among what was imported")
    return made


def _leave(made: Joined, end: End, why: str) -> None:
    assert end.unit.host is not None  # only a host has tunnels
    made.untaken.add((end.unit.host.name, end.config.name))
    places = (end.tunnel.place,) if end.tunnel.place else ()
    message = f"{end.unit.name}: {end.config.name} stays the host's own: {why}"
    made.findings.append(Finding("G0816", message, places, nodes=(end.unit.name,)))


def _by_subnet(ends: list[End]) -> Iterator[tuple[End, End]]:
    found: dict[Prefix, list[End]] = {}
    for end in ends:
        for subnet in subnets(end.config):
            if subnet.length >= _SMALL[subnet.version]:
                found.setdefault(subnet, []).append(end)
    done: set[int] = set()
    for pair in found.values():
        if len(pair) == 2 and pair[0].unit is not pair[1].unit and done.isdisjoint(map(id, pair)):
            done.update(map(id, pair))
            yield pair[0], pair[1]


def _by_ends(ends: list[End]) -> Iterator[tuple[End, End]]:
    done: set[int] = set()
    for index, one in enumerate(ends):
        for other in ends[index + 1 :]:
            here, there = one.config, other.config
            mirrored = (here.local, here.remote) == (there.remote, there.local) and "any" not in (here.local, here.remote)
            keys = (here.ikey, here.okey) == (there.okey, there.ikey)
            if mirrored and keys and here.kind == there.kind and done.isdisjoint({id(one), id(other)}):
                done |= {id(one), id(other)}
                yield one, other


def subnets(config: PlainConfig) -> tuple[Prefix, ...]:
    """The networks of a tunnel's addresses."""
    found = []
    for text in config.address:
        prefix = Prefix.parse(text.partition("/")[0])
        length = int(text.partition("/")[2] or prefix.length)
        found.append(cut(prefix, length))
    return tuple(found)


def _lowest(end: End) -> tuple[str, ...]:
    """Who has the lower address is named first; without addresses, by name."""
    packed = [Prefix.parse(text.partition("/")[0]).packed.hex() for text in end.config.address]
    return (*packed, end.unit.name)


def _disagree(one: PlainConfig, other: PlainConfig) -> str:
    if one.kind != other.kind or (one.ipsec is None) != (other.ipsec is None):
        return "its ends are of two kinds"
    if (one.ikey, one.okey) != (other.okey, other.ikey) or one.ikey != one.okey:
        return "its ends have different keys"
    for field_name in ("icsum", "ocsum", "iseq", "oseq", "ttl", "tos", "pmtudisc", "ignore_df", "mtu"):
        if getattr(one, field_name) != getattr(other, field_name):
            return f"its ends differ in {field_name}"
    return ""


def _link(one: End, other: End) -> Link:
    config = one.config
    kind = "ipsec" if config.kind == "ipsec" else "gre+ipsec" if config.ipsec is not None else "gre"
    keepalive: tuple[int, int | None] | Literal["auto"] | None = None
    sent = config.keepalive or other.config.keepalive
    if kind == "gre" and sent is not None:
        usual = Keepalive(retries=0) if config.encapsulation is not None else Keepalive()
        keepalive = "auto" if sent == usual else (sent.interval_s, sent.retries)
    elif kind != "gre":
        keepalive = "auto"
    gre = Gre(
        key=config.okey,
        csum=config.ocsum,
        seq=config.oseq,
        ttl=config.ttl,
        tos=config.tos,
        pmtudisc=config.pmtudisc,
        ignore_df=config.ignore_df,
        udp=config.encapsulation is not None if kind == "gre" else None,
        keepalive=keepalive,
        mtu=config.mtu,
    )
    if kind == "ipsec":
        gre = Gre(mtu=config.mtu)
    ends = (LinkEnd(device=config.name), LinkEnd(device=other.config.name))
    return Link((one.unit.name, other.unit.name), kind, gre, _ipsec(config), subnets(config), ends=ends)


def _ipsec(config: PlainConfig) -> Ipsec | None:
    found = config.ipsec
    if found is None:
        return None
    usual = Ipsec()
    return Ipsec(
        mode="transport" if config.kind == "ipsec" else found.mode,
        auth="psk" if found.auth == "psk" else "certificate",
        ike=found.ike_proposals if found.ike_proposals != ipsec.IKE_PROPOSALS else (),
        esp=found.esp_proposals if found.esp_proposals != ipsec.ESP_PROPOSALS else (),
        encapsulation=found.encapsulation,
        ike_rekey_s=found.ike_rekey_s or usual.ike_rekey_s,
        rekey_s=found.rekey_s or usual.rekey_s,
        dpd_s=found.dpd_s,
    )
