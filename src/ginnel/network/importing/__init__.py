"""
What runs already, read: the files of one or many hosts, in whatever format they have, to `Host`s.

    sources -> whose (`naming`) -> which format (by content) -> parts -> hosts, and what could not be taken in (chapter 08)

`read_hosts` is pure: the caller reads the files. Formats are told by their content, never by their names, one module each.
Nothing is lost silently: each line that has no place in a `Host` is named by a finding. Nothing secret gets out: see `reading`.
`infer` makes a network file of the hosts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ginnel.config.wgquick import is_interface_name
from ginnel.network.findings import Finding
from ginnel.network.host import Host, InterfaceAddress, Place, Secret, Tunnel, WireguardInterface
from ginnel.network.importing import hostfiles, iproute, networkd, networkmanager, nodefile, swanctl, wgdump, wgquick
from ginnel.network.importing.naming import Origin, in_directory, origin
from ginnel.network.importing.own_keys import with_own_keys
from ginnel.network.importing.reading import Fingerprints, Notes
from ginnel.network.importing.source import SOURCE_MAX_BYTES, SOURCES_MAX, TOTAL_MAX_BYTES, LinkFacts, Part, Source, text_of
from ginnel.units import Prefix

__all__ = ["Fingerprints", "Imported", "Source", "read_hosts"]

#: What an interface is called where nothing says it.
_USUAL_INTERFACE = "wg0"


@dataclass(frozen=True, slots=True)
class Imported:
    """The hosts, in the order of their first files, and what is to be said about the reading."""

    hosts: tuple[Host, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Format:
    """How a format is known and read. *by_directory*: a host has several such files side by side."""

    detect: Callable[[str], bool]
    read: Callable[[str, str, Notes], Part]
    by_directory: bool = False


#: The first that knows the text reads it.
_FORMATS: tuple[_Format, ...] = (
    _Format(wgdump.detect, wgdump.read),
    _Format(networkmanager.detect, networkmanager.read, by_directory=True),
    _Format(networkd.detect, networkd.read, by_directory=True),
    _Format(nodefile.detect, nodefile.read),
    _Format(swanctl.detect, swanctl.read),
    _Format(iproute.detect, iproute.read),
    _Format(hostfiles.detect, hostfiles.read, by_directory=True),
    _Format(wgquick.detect, wgquick.read),
)


@dataclass(frozen=True, slots=True)
class _Known:
    """A source whose format is known."""

    source: Source
    text: str
    format: _Format
    whose: Origin


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
    given = tuple(sources)
    read: list[_Known] = []
    drop_ins = _drop_ins(given)
    added = {source.path for each in drop_ins.values() for source in each}
    for count, source in enumerate(given):
        if source.path in added:
            continue
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
        if (known_source := _known(source, drop_ins.get(source.path, ()), findings)) is not None:
            read.append(known_source)
    for known_source in _by_directories(read):
        whose = known_source.whose
        gathered.setdefault(whose.key, _Gathered(whose)).sources.append(known_source)
    hosts = [gathering.host(known, findings) for gathering in gathered.values()]
    named = _told_apart([host for host in hosts if host is not None])
    return Imported(with_own_keys(named), tuple(findings))


def _known(source: Source, drop_ins: Iterable[Source], findings: list[Finding]) -> _Known | None:
    """The format of a source, and so whose it is; None, and a finding, when it is none."""
    text = "\n".join([text_of(source.content), *(text_of(each.content) for each in drop_ins)])
    found = next((each for each in _FORMATS if each.detect(text)), None) if "\0" not in text else None
    if found is None:
        message = f"{source.path}: none of the formats that can be imported; left out"
        findings.append(Finding("G0817", message, (Place(source.path),)))
        return None
    return _Known(source, text, found, origin(source.path, source.host, by_directory=found.by_directory))


def _by_directories(read: list[_Known]) -> list[_Known]:
    """Files that are called alike in several directories are called after interfaces, and their directories after hosts."""
    places: dict[str, set[str]] = {}
    for known in read:
        if known.whose.by_stem:
            places.setdefault(known.whose.name, set()).add(known.whose.key)
    return [
        replace(known, whose=in_directory(known.source.path))
        if known.whose.by_stem and len(places[known.whose.name]) > 1
        else known
        for known in read
    ]


class _Gathered:
    """All files of one host."""

    def __init__(self, whose: Origin) -> None:
        self.whose = whose
        self.sources: list[_Known] = []

    def host(self, fingerprints: Fingerprints, findings: list[Finding]) -> Host | None:
        """Put together what they say; None where none of them says anything of a tunnel."""
        parts: list[Part] = []
        secrets: list[Secret] = []
        for known in self.sources:
            notes = Notes(known.source.path, fingerprints)
            if "\ufffd" in known.text:
                notes.add("G0802", f"{known.source.path}: bytes that are no text stand as '\ufffd'")
            called = known.whose.interface
            part = known.format.read(known.text, called if is_interface_name(called) else _USUAL_INTERFACE, notes)
            parts.append(part)
            if part.secret and known.source.mode is not None:
                secrets.append(Secret(known.source.path, known.source.mode))
            findings += notes.findings
        if not any(part.interfaces or part.tunnels for part in parts):
            return None
        return _host(self.whose, parts, secrets, findings)


def _drop_ins(sources: Sequence[Source]) -> dict[str, list[Source]]:
    """What `wg0.netdev.d/*.conf` add, by the path of what they add to, in the order of their names."""
    paths = {source.path for source in sources}
    found: dict[str, list[Source]] = {}
    for source in sorted(sources, key=lambda each: each.path):
        directory, _, _ = source.path.rpartition("/")
        unit = directory.removesuffix(".d")
        if unit != directory and unit.endswith((".netdev", ".network")) and unit in paths:
            found.setdefault(unit, []).append(source)
    return found


def _host(whose: Origin, parts: list[Part], secrets: list[Secret], findings: list[Finding]) -> Host:
    name = whose.name
    interfaces: dict[str, WireguardInterface] = {}
    tunnels: dict[str, Tunnel] = {}
    facts: dict[str, LinkFacts] = {}
    children = [tunnel for part in parts for tunnel in part.tunnels if swanctl.protects_another(tunnel)]
    secrets_of_ipsec = {identities: number for part in parts for identities, number in part.secrets.items()}
    for part in parts:
        for fact in part.links:
            facts[fact.name] = facts[fact.name] | fact if fact.name in facts else fact
        for interface in part.interfaces:
            first = interfaces.get(interface.name)
            interfaces[interface.name] = interface if first is None else _both(first, interface, name, findings)
        for tunnel in part.tunnels:
            if tunnel.kernel and tunnel in children:
                continue
            if tunnels.setdefault(tunnel.config.name, tunnel) is not tunnel:
                _said_twice(name, tunnel.config.name, (tunnels[tunnel.config.name].place, tunnel.place), findings)
    for fact in facts.values():
        if fact.name in interfaces:
            interfaces[fact.name] = _with_facts(interfaces[fact.name], fact, findings)
        elif fact.name in tunnels:
            tunnels[fact.name] = _tunnel_with_facts(tunnels[fact.name], fact)
    for child in children:
        _protect(child, tunnels, name, findings)
    for device, tunnel in tunnels.items():
        tunnels[device] = _with_secret(tunnel, secrets_of_ipsec)
    said = next((part.name for part in parts if part.name), "")
    forwards = [part.forwards for part in parts if part.forwards is not None]
    return Host(
        name=said if said and (whose.by_stem or not name or all(part.ours for part in parts)) else name,
        interfaces=tuple(interfaces.values()),
        tunnels=tuple(tunnels.values()),
        forwards=any(forwards) if forwards else None,
        masquerades=tuple(dict.fromkeys(prefix for part in parts for prefix in part.masquerades)),
        mapped=tuple(dict.fromkeys(mapped for part in parts for mapped in part.mapped)),
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


def _protect(child: Tunnel, tunnels: dict[str, Tunnel], host: str, findings: list[Finding]) -> None:
    """Put what a child of swanctl protects under its protection."""
    ends = (child.config.local, child.config.remote)
    for device, tunnel in tunnels.items():
        if tunnel.config.kind != "ipsec" and (tunnel.config.local, tunnel.config.remote) == ends:
            tunnels[device] = swanctl.protected(tunnel, child)
            return
    message = (
        f"{host or 'a host'}: {child.config.name} protects a tunnel to {child.config.remote} that is not among what was given"
    )
    findings.append(
        Finding("G0816", message, (child.place,) if child.place else (), mend="give `ip -j -d link` of the host as well")
    )


def _with_secret(tunnel: Tunnel, secrets: dict[frozenset[str], str]) -> Tunnel:
    """The fingerprint of the secret that two identities have; one that is for everybody serves where there is no other."""
    ipsec = tunnel.config.ipsec
    if ipsec is None or ipsec.auth != "psk" or tunnel.psk or not secrets:
        return tunnel
    wanted = {ipsec.local_id or tunnel.config.local, ipsec.remote_id or tunnel.config.remote}
    found = max(secrets, key=lambda identities: (len(identities & wanted), -len(identities - wanted)))
    return replace(tunnel, psk=secrets[found]) if found <= wanted or not found else tunnel


def _tunnel_with_facts(tunnel: Tunnel, fact: LinkFacts) -> Tunnel:
    config = tunnel.config
    addresses = tuple(str(InterfaceAddress(packed, length)) for packed, length in fact.addresses)
    return replace(
        tunnel,
        config=replace(
            config,
            address=config.address or addresses,
            routes=config.routes or fact.routes,
            mtu=fact.mtu if config.mtu is None else config.mtu,
        ),
    )


def _with_facts(interface: WireguardInterface, fact: LinkFacts, findings: list[Finding]) -> WireguardInterface:
    meant = {str(prefix) for peer in interface.peers for prefix in peer.allowed_ips}
    own = [Prefix(packed, length) for packed, length in fact.addresses]
    meant |= {str(Prefix.parse(f"{each.address}/{each.length}")) for each in own}
    for route in fact.routes:
        if route not in meant and not route.endswith("/0"):
            message = f"{interface.name}: the route to {route} is none that AllowedIPs say, and is left out"
            findings.append(Finding("G0802", message, (fact.place,) if fact.place else ()))
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
