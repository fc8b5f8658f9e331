"""
NetworkManager keyfiles: NAME.nmconnection, a connection a file, of the types wireguard and ip-tunnel.

    [wireguard]              private-key, listen-port, fwmark, mtu, peer-routes
    [wireguard-peer.KEY]     endpoint, preshared-key, allowed-ips, persistent-keepalive
    [ip-tunnel]              mode, local, remote, input-key, output-key, ttl, tos, path-mtu-discovery, mtu
    [ipv4], [ipv6]           address1 …, dns, dns-search, routeN

Source: nm-settings-keyfile(5), nm-settings-nmcli(5).
"""

from __future__ import annotations

import re

from ginnel.config import wgquick
from ginnel.config.node import PlainConfig, PlainKind
from ginnel.network.host import InterfaceAddress, Peer, Tunnel, WireguardInterface
from ginnel.network.importing import comments
from ginnel.network.importing.ini import Section, left_out, sections
from ginnel.network.importing.ours import is_ours
from ginnel.network.importing.reading import Notes, host_port, interface_address, number, shown
from ginnel.network.importing.source import LinkFacts, Part
from ginnel.units import Prefix, PublicKey

#: NM_IP_TUNNEL_MODE_*: what is carried, and the family of the delivery header.
_MODES: dict[str, tuple[PlainKind, int]] = {
    "1": ("ipip", 4), "ipip": ("ipip", 4), "2": ("gre", 4), "gre": ("gre", 4), "3": ("sit", 4), "sit": ("sit", 4),
    "5": ("ip6tnl", 6), "ip6ip6": ("ip6tnl", 6), "6": ("ip6tnl", 6), "ipip6": ("ip6tnl", 6),
    "7": ("gre", 6), "ip6gre": ("gre", 6),
    "10": ("gretap", 4), "gretap": ("gretap", 4), "11": ("gretap", 6), "ip6gretap": ("gretap", 6),
}  # fmt: skip
_PLAIN = {
    "connection": frozenset({"id", "uuid", "type", "interface-name", "autoconnect", "autoconnect-priority", "timestamp", "zone",
                             "permissions", "autoconnect-retries"}),
    "wireguard": frozenset({"private-key-flags", "peer-routes", "ip4-auto-default-route", "ip6-auto-default-route"}),
    "ip-tunnel": frozenset({"parent"}),
    "proxy": frozenset(),
}  # fmt: skip
_IP_PLAIN = frozenset(
    {"method", "addr-gen-mode", "may-fail", "never-default", "dns-priority", "ignore-auto-dns", "ignore-auto-routes", "gateway"}
)


def detect(text: str) -> bool:
    """Whether a text is of this format."""
    return re.search(r"^\s*\[connection\]\s*$", text, re.MULTILINE) is not None and "type=" in text.replace(" ", "")


def read(text: str, interface: str, notes: Notes) -> Part:
    """Read one connection; *interface*: its device where the file does not say it."""
    found = sections(text, notes)
    by_name = {section.name: section for section in found}
    connection = by_name["connection"] if "connection" in by_name else Section("connection", notes.place(0))
    name = connection.one("interface-name") or interface
    kind = connection.one("type")
    part = Part(ours=is_ours(text), place=notes.place(0))
    if not wgquick.is_interface_name(name):
        notes.add("G0803", f"expected the name of an interface, found {shown(name)}")
        return part
    facts = _addresses(name, found, notes)
    if kind == "wireguard":
        part.interfaces.append(_wireguard(name, found, facts, part, notes))
    elif kind == "ip-tunnel":
        part.tunnels += _tunnel(name, by_name.get("ip-tunnel", connection), notes)
        part.links.append(facts)
    else:
        notes.add("G0817", f"{notes.source}: a connection of type {shown(kind)} is left out")
    for section in found:
        for entry in section.entries if section.name in {"connection", "proxy"} else ():
            left_out(section, entry, notes, _PLAIN[section.name])
    return part


def _wireguard(name: str, found: list[Section], facts: LinkFacts, part: Part, notes: Notes) -> WireguardInterface:
    key: PublicKey | None = None
    port = fwmark = 0
    mtu: int | None = None
    table = "auto"
    peers = []
    for section in found:
        if section.name.startswith("wireguard-peer."):
            if (peer := _peer(name, section, part, notes)) is not None:
                peers.append(peer)
            continue
        for entry in section.entries if section.name == "wireguard" else ():
            try:
                match entry.key.lower():
                    case "private-key":
                        part.secret = True
                        key = notes.own_key(entry.value)
                        if key is None:
                            raise ValueError("expected a key of 44 base64 characters; the value is not shown here")
                    case "listen-port":
                        port = number(entry.value, 0, 65535)
                    case "fwmark":
                        fwmark = number(entry.value, 0, 2**32 - 1)
                    case "mtu":
                        mtu = number(entry.value, 0, 65535) or None
                    case "peer-routes" if entry.value in {"false", "0", "no"}:
                        table = "off"
                    case _:
                        left_out(section, entry, notes, _PLAIN["wireguard"])
            except ValueError as error:
                notes.add("G0803", f"{name}: {entry.key}: {error}", entry.place)
    if key is None:
        notes.add("G0807", f"{name}: the file has no private key, so whose peer it is follows from the other hosts alone")
    if part.ours and any(prefix.length == 0 for peer in peers for prefix in peer.allowed_ips):
        fwmark, table = 0, "auto"  # how the renderer keeps the tunnel's own packets out of it
    return WireguardInterface(
        name,
        key,
        tuple(InterfaceAddress(packed, length) for packed, length in facts.addresses),
        port,
        mtu,
        tuple(peers),
        facts.dns,
        facts.search,
        table,
        fwmark,
        place=notes.place(0),
    )


def _peer(name: str, section: Section, part: Part, notes: Notes) -> Peer | None:
    try:
        key = PublicKey.from_base64(section.name.partition(".")[2])
    except ValueError:
        notes.add("G0803", f"{name}: expected [wireguard-peer.KEY] with a public key", section.place)
        return None
    allowed: dict[Prefix, None] = {}
    endpoint, keepalive, psk = None, 0, ""
    for entry in section.entries:
        try:
            match entry.key.lower():
                case "endpoint":
                    endpoint = host_port(entry.value)
                case "allowed-ips":
                    for word in re.split(r"[;,\s]+", entry.value):
                        if word:
                            allowed[wgquick.parse_allowed_ip(word).prefix] = None
                case "persistent-keepalive":
                    keepalive = number(entry.value, 0, 65535)
                case "preshared-key":
                    part.secret = True
                    known = notes.psk(entry.value)
                    if known is None:
                        raise ValueError("expected a key of 44 base64 characters; the value is not shown here")
                    psk = known
                case "preshared-key-flags":
                    psk = psk or ("?" if entry.value in {"1", "2", "3"} else "")
                case _:
                    left_out(section, entry, notes)
        except ValueError as error:
            notes.add("G0803", f"{name}: {entry.key}: {str(error).partition(chr(10))[0]}", entry.place)
    return Peer(key, comments.name_of(section.comments), tuple(allowed), endpoint, keepalive, psk, section.place)


def _tunnel(name: str, section: Section, notes: Notes) -> list[Tunnel]:
    if section.one("mode").lower() not in _MODES:
        notes.add("G0816", f"{name}: a tunnel of mode {shown(section.one('mode'))} is left out", section.place)
        return []
    kind, family = _MODES[section.one("mode").lower()]
    known = {
        "mode",
        "local",
        "remote",
        "input-key",
        "output-key",
        "ttl",
        "tos",
        "path-mtu-discovery",
        "mtu",
        "encapsulation-limit",
    }
    for entry in section.entries:
        left_out(section, entry, notes, frozenset(known) | _PLAIN["ip-tunnel"])
    try:
        return [
            Tunnel(
                PlainConfig(
                    name=name,
                    kind=kind,
                    family=4 if family == 4 else 6,
                    local=Prefix.parse(section.one("local")).address if section.one("local") else "any",
                    remote=Prefix.parse(section.one("remote")).address if section.one("remote") else "any",
                    ikey=_gre_key(section.one("input-key")),
                    okey=_gre_key(section.one("output-key")),
                    ttl=number(section.one("ttl") or "0", 0, 255),
                    tos=number(section.one("tos") or "0", 0, 255),
                    pmtudisc=section.one("path-mtu-discovery").lower() not in {"false", "0", "no"},
                    mtu=number(section.one("mtu") or "0", 0, 65535) or None,
                ),
                place=section.place,
                kernel=True,
            )
        ]
    except ValueError as error:
        notes.add("G0803", f"{name}: {error}", section.place)
        return []


def _gre_key(text: str) -> int | None:
    if not text:
        return None
    return int.from_bytes(Prefix.parse(text).packed, "big") if "." in text else number(text, 0, 2**32 - 1)


def _addresses(name: str, found: list[Section], notes: Notes) -> LinkFacts:
    addresses: list[tuple[bytes, int]] = []
    dns: list[str] = []
    search: list[str] = []
    routes: list[str] = []
    for section in found:
        for entry in section.entries if section.name in {"ipv4", "ipv6"} else ():
            key = entry.key.lower()
            try:
                if re.fullmatch(r"address(?:es)?\d*", key):
                    words = (word.partition(",")[0] for word in entry.value.split(";"))
                    addresses += [interface_address(word) for word in words if word]
                elif key == "dns":
                    dns += [Prefix.parse(word).address for word in re.split(r"[;,\s]+", entry.value) if word]
                elif key == "dns-search":
                    search += [word for word in re.split(r"[;,\s]+", entry.value) if word and word != "~"]
                elif re.fullmatch(r"routes?\d*", key):
                    routes.append(str(Prefix.parse(entry.value.partition(",")[0])))
                elif not re.fullmatch(r"route\d*_options|routing-rule\d+|route-table", key):
                    left_out(section, entry, notes, _IP_PLAIN)
            except ValueError as error:
                notes.add("G0803", f"{name}: {entry.key}: {error}", entry.place)
    return LinkFacts(name, tuple(addresses), None, tuple(dict.fromkeys(routes)), tuple(dns), tuple(search), place=notes.place(0))
