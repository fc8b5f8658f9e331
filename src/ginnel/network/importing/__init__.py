"""
What runs already, read: the files of one or many hosts, in whatever format they have, to `Host`s.

    sources -> whose (`naming`) -> which format (by content) -> parts -> hosts, and what could not be taken in (chapter 08)

`read_hosts` is pure: the caller reads the files. Formats are told by their content, never by their names, one module each.
Nothing is lost silently: each line that has no place in a `Host` is named by a finding. Nothing secret gets out: see `reading`.
`infer` makes a network file of the hosts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ginnel.network.findings import Finding
from ginnel.network.host import Host, InterfaceAddress, Place, Secret, Tunnel, WireguardInterface
from ginnel.network.importing import wgdump, wgquick
from ginnel.network.importing.naming import Origin, origin
from ginnel.network.importing.reading import Fingerprints, Notes
from ginnel.network.importing.source import SOURCE_MAX_BYTES, SOURCES_MAX, TOTAL_MAX_BYTES, LinkFacts, Part, Source, text_of

__all__ = ["Fingerprints", "Imported", "Source", "read_hosts"]

#: What an interface is called where nothing says it.
_USUAL_INTERFACE = "wg0"


@dataclass(frozen=True, slots=True)
class Imported:
    """The hosts, in the order of their first files, and what is to be said about the reading."""

    hosts: tuple[Host, ...]
    findings: tuple[Finding, ...]


#: Formats that say all they say in one file; the first that knows the text reads it.
_SINGLE: tuple[tuple[Callable[[str], bool], Callable[[str, str, Notes], Part]], ...] = (
    (wgdump.detect, wgdump.read),
    (wgquick.detect, wgquick.read),
)


def read_hosts(sources: Iterable[Source], fingerprints: Fingerprints | None = None) -> Imported:
    """
    Read the configurations of hosts.

    Args:
        sources: the files, in any order; equal orders give equal results.
        fingerprints: shared with other readings when preshared keys are to be compared with theirs.

    Returns:
        one host for each that the paths tell apart; never an exception for what a file holds.
    """
    known = fingerprints or Fingerprints()
    findings: list[Finding] = []
    gathered: dict[str, _Gathered] = {}
    total = 0
    for count, source in enumerate(sources):
        total += len(source.content)
        if count >= SOURCES_MAX or total > TOTAL_MAX_BYTES:
            findings.append(
                Finding("G0808", f"{source.path}: too many files, or too much in them; this and the rest are left out")
            )
            break
        if len(source.content) > SOURCE_MAX_BYTES:
            message = f"{source.path}: {len(source.content)} bytes are more than any configuration has; left out"
            findings.append(Finding("G0808", message, (Place(source.path),)))
            continue
        whose = origin(source.path, source.host)
        gathered.setdefault(whose.key, _Gathered(whose)).sources.append((source, whose))
    hosts = [gathering.host(known, findings) for gathering in gathered.values()]
    return Imported(tuple(_told_apart([host for host in hosts if host is not None])), tuple(findings))


class _Gathered:
    """All files of one host."""

    def __init__(self, whose: Origin) -> None:
        self.whose = whose
        self.sources: list[tuple[Source, Origin]] = []

    def host(self, fingerprints: Fingerprints, findings: list[Finding]) -> Host | None:
        """Put together what they say; None where none of them says anything."""
        parts: list[Part] = []
        secrets: list[Secret] = []
        for source, whose in self.sources:
            notes = Notes(source.path, fingerprints)
            text = text_of(source.content)
            reader = next((read for detect, read in _SINGLE if "\0" not in text and detect(text)), None)
            if reader is None:
                notes.add("G0817", f"{source.path}: none of the formats that can be imported; left out")
            else:
                if "\ufffd" in text:
                    notes.add("G0802", f"{source.path}: bytes that are no text stand as '\ufffd'")
                part = reader(text, whose.interface or _USUAL_INTERFACE, notes)
                parts.append(part)
                if part.secret and source.mode is not None:
                    secrets.append(Secret(source.path, source.mode))
            findings += notes.findings
        return _host(self.whose.name, parts, secrets, findings) if parts else None


def _host(name: str, parts: list[Part], secrets: list[Secret], findings: list[Finding]) -> Host:
    interfaces: dict[str, WireguardInterface] = {}
    tunnels: dict[str, Tunnel] = {}
    facts: dict[str, LinkFacts] = {}
    for part in parts:
        for fact in part.links:
            facts.setdefault(fact.name, fact)
        for interface in part.interfaces:
            first = interfaces.get(interface.name)
            interfaces[interface.name] = interface if first is None else _both(first, interface, name, findings)
        for tunnel in part.tunnels:
            if tunnels.setdefault(tunnel.config.name, tunnel) is not tunnel:
                _said_twice(name, tunnel.config.name, (tunnels[tunnel.config.name].place, tunnel.place), findings)
    for fact in facts.values():
        if fact.name in interfaces:
            interfaces[fact.name] = _with_facts(interfaces[fact.name], fact)
    said = next((part.name for part in parts if part.name), "")
    forwards = [part.forwards for part in parts if part.forwards is not None]
    return Host(
        name=name if name and not (said and all(part.ours for part in parts)) else said or name,
        interfaces=tuple(interfaces.values()),
        tunnels=tuple(tunnels.values()),
        forwards=any(forwards) if forwards else None,
        masquerades=tuple(dict.fromkeys(prefix for part in parts for prefix in part.masquerades)),
        secrets=tuple(secrets),
        place=next((part.place for part in parts if part.place is not None), None),
    )


def _both(first: WireguardInterface, second: WireguardInterface, host: str, findings: list[Finding]) -> WireguardInterface:
    """A file and what runs may both be given: what one of them cannot say, the other does."""
    if first.peers and second.peers and {p.public_key for p in first.peers} != {p.public_key for p in second.peers}:
        _said_twice(host, first.name, (first.place, second.place), findings)
    return replace(
        first,
        public_key=first.public_key or second.public_key,
        address=first.address or second.address,
        listen_port=first.listen_port or second.listen_port,
        mtu=first.mtu if first.mtu is not None else second.mtu,
        peers=first.peers or second.peers,
    )


def _said_twice(host: str, device: str, places: tuple[Place | None, Place | None], findings: list[Finding]) -> None:
    found = tuple(place for place in places if place is not None)
    message = f"{host or 'a host'}: {device} is said twice, and not the same; the first is taken"
    findings.append(Finding("G0806", message, found, mend="leave one of the files out", nodes=(host,) if host else ()))


def _with_facts(interface: WireguardInterface, fact: LinkFacts) -> WireguardInterface:
    return replace(
        interface,
        address=interface.address or tuple(InterfaceAddress(packed, length) for packed, length in fact.addresses),
        mtu=interface.mtu if interface.mtu is not None else fact.mtu,
        dns=interface.dns or fact.dns,
        search=interface.search or fact.search,
        table=fact.table if interface.table == "auto" else interface.table,
    )


def _told_apart(hosts: list[Host]) -> list[Host]:
    """Every host has a name, and no two the same: of directories that are called alike, or of files that say no name at all."""
    used: set[str] = set()
    named = []
    for host in hosts:
        base = host.name or _by_address(host)
        name, number = base, 1
        while name in used:
            number += 1
            name = f"{base}-{number}"
        used.add(name)
        named.append(host.renamed(name))
    return named


def _by_address(host: Host) -> str:
    """For a host that nothing names: its address inside the tunnel."""
    packed = next((address.packed for interface in host.interfaces for address in interface.address), None)
    return f"host-{ipaddress.ip_address(packed)}" if packed is not None else "host"
