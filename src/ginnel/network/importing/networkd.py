"""
systemd-networkd: NAME.netdev makes a device, NAME.network says what is on it; NAME.netdev.d/*.conf add to either.

A .netdev is read for WireGuard ([WireGuard], [WireGuardPeer]) and for GRE, IP in IP and SIT ([Tunnel]); of a .network whatever
belongs to such a device: addresses, routes, resolvers, MTU. A network file routes what AllowedIPs say (wg-quick's `Table =
auto`); a route of an interface that says anything else is named, and left out.

Source: systemd.netdev(5), systemd.network(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ginnel.config import wgquick
from ginnel.config.node import PlainConfig, PlainKind
from ginnel.network.host import Peer, Tunnel, WireguardInterface
from ginnel.network.importing import comments
from ginnel.network.importing.ini import Entry, Section, left_out, sections
from ginnel.network.importing.ours import is_ours
from ginnel.network.importing.reading import Notes, host_port, interface_address, number, shown
from ginnel.network.importing.source import LinkFacts, Part
from ginnel.units import Prefix, PublicKey

_KINDS: dict[str, tuple[PlainKind, int]] = {
    "gre": ("gre", 4),
    "ip6gre": ("gre", 6),
    "gretap": ("gretap", 4),
    "ip6gretap": ("gretap", 6),
    "ipip": ("ipip", 4),
    "sit": ("sit", 4),
    "ip6tnl": ("ip6tnl", 6),
}
#: What changes nothing that a network file says.
_NETWORK_PLAIN = frozenset(
    {"ipv6acceptra", "requiredforonline", "linklocaladdressing", "dnsdefaultroute", "ipmasquerade", "configurewithoutcarrier",
     "dhcp", "multicast", "activationpolicy", "unmanaged", "keepconfiguration"}
)  # fmt: skip
_ROUTE_PLAIN = frozenset({"scope", "gatewayonlink", "metric", "preferredsource", "protocol", "type"})


def detect(text: str) -> bool:
    """Whether a text is a .netdev, a .network or a part of one."""
    return re.search(r"^\s*\[(?:NetDev|WireGuard|WireGuardPeer|Match|Network)\]\s*$", text, re.MULTILINE) is not None


def read(text: str, interface: str, notes: Notes) -> Part:  # noqa: ARG001 - the files say which device they are about
    """Read one file, with what its drop-ins add below it."""
    found = sections(text, notes)
    names = {section.name for section in found}
    part = Part(ours=is_ours(text), place=notes.place(0))
    if names & {"NetDev", "WireGuard", "WireGuardPeer"}:
        _netdev(found, part, notes)
    else:
        _network(found, part, notes)
    return part


# ---------------------------------------------------------------- .netdev


def _netdev(found: list[Section], part: Part, notes: Notes) -> None:
    heads = [section for section in found if section.name == "NetDev"]
    head = Section("NetDev", notes.place(0), entries=[entry for section in heads for entry in section.entries])
    name, kind = head.one("Name"), head.one("Kind").lower()
    if not wgquick.is_interface_name(name):
        notes.add("G0803", f"expected [NetDev] with the name of an interface, found {shown(name)}")
        return
    mtu = _mtu(head, notes)
    if kind == "wireguard":
        part.interfaces.append(_wireguard(name, mtu, found, part, notes))
    elif kind in _KINDS:
        part.tunnels.append(_tunnel(name, kind, mtu, found, notes))
    else:
        notes.add("G0816", f"{name}: a device of kind {shown(kind)} is left out", head.place)


def _wireguard(name: str, mtu: int | None, found: list[Section], part: Part, notes: Notes) -> WireguardInterface:
    key: PublicKey | None = None
    port = fwmark = 0
    table = ""
    peers = []
    for section in found:
        if section.name == "WireGuardPeer":
            peers += list(_peer(name, section, part, notes))
            continue
        for entry in section.entries if section.name == "WireGuard" else ():
            try:
                match entry.key.lower():
                    case "privatekey":
                        part.secret = True
                        key = notes.own_key(entry.value)
                        if key is None and not entry.value.startswith("@"):
                            raise ValueError("expected a key of 44 base64 characters; the value is not shown here")
                    case "listenport":
                        port = 0 if entry.value == "auto" else number(entry.value, 0, 65535)
                    case "firewallmark":
                        fwmark = number(entry.value, 0, 2**32 - 1)
                    case "routetable":
                        table = entry.value
                    case "privatekeyfile":
                        pass
                    case _:
                        left_out(section, entry, notes)
            except ValueError as error:
                notes.add("G0803", f"{name}: {entry.key}: {error}", entry.place)
    if key is None:
        message = f"{name}: the file has no private key, so whose peer it is follows from the other hosts alone"
        notes.add("G0807", message)
    if part.ours and any(prefix.length == 0 for peer in peers for prefix in peer.allowed_ips):
        fwmark = 0  # how the renderer keeps the tunnel's own packets out of it
    tables = {"": "auto", "main": "auto", "off": "auto"}
    return WireguardInterface(
        name, key, (), port, mtu, tuple(peers), table=tables.get(table, table), fwmark=fwmark, place=notes.place(0)
    )


def _peer(name: str, section: Section, part: Part, notes: Notes) -> Iterator[Peer]:
    key: PublicKey | None = None
    allowed: dict[Prefix, None] = {}
    endpoint, keepalive, psk = None, 0, ""
    called = comments.name_of(section.comments)
    for entry in section.entries:
        try:
            match entry.key.lower():
                case "publickey":
                    key = _key(entry)
                case "allowedips":
                    for word in re.split(r"[,\s]+", entry.value):
                        if word:
                            allowed[wgquick.parse_allowed_ip(word).prefix] = None
                case "endpoint":
                    endpoint = host_port(entry.value)
                case "persistentkeepalive":
                    keepalive = wgquick.parse_keepalive(entry.value)
                case "presharedkey":
                    part.secret = True
                    psk = "?" if entry.value.startswith("@") else notes.psk(entry.value) or ""
                    if not psk and notes.psk(entry.value) is None:
                        raise ValueError("expected a key of 44 base64 characters; the value is not shown here")
                case "presharedkeyfile":
                    psk = "?"
                case "routetable" | "routemetric":
                    left_out(section, entry, notes)
                case _:
                    left_out(section, entry, notes)
        except ValueError as error:
            notes.add("G0803", f"{name}: {entry.key}: {str(error).partition(chr(10))[0]}", entry.place)
    if key is None:
        notes.add("G0803", f"{name}: a peer without a PublicKey is left out", section.place)
        return
    yield Peer(key, called, tuple(allowed), endpoint, keepalive, psk, section.place)


def _key(entry: Entry) -> PublicKey:
    try:
        return PublicKey.from_base64(entry.value)
    except ValueError:
        raise ValueError("expected a key of 44 base64 characters") from None


def _tunnel(name: str, kind: str, mtu: int | None, found: list[Section], notes: Notes) -> Tunnel:
    plain, family = _KINDS[kind]
    values: dict[str, str] = {}
    for section in found:
        for entry in section.entries if section.name == "Tunnel" else ():
            if entry.key.lower() in {
                "local",
                "remote",
                "ttl",
                "tos",
                "key",
                "inputkey",
                "outputkey",
                "discoverpathmtu",
                "copydscp",
            }:
                values[entry.key.lower()] = entry.value
            else:
                left_out(section, entry, notes, frozenset({"independent"}))
    place = next((section.place for section in found if section.name == "Tunnel"), notes.place(0))
    try:
        both = _gre_key(values.get("key", ""))
        return Tunnel(
            PlainConfig(
                name=name,
                kind=plain,
                family=4 if family == 4 else 6,
                local=_end(values.get("local", "any")),
                remote=_end(values.get("remote", "any")),
                ikey=_gre_key(values.get("inputkey", "")) if both is None else both,
                okey=_gre_key(values.get("outputkey", "")) if both is None else both,
                ttl=0 if values.get("ttl", "inherit") == "inherit" else number(values["ttl"], 0, 255),
                tos=None if values.get("tos") == "inherit" else number(values.get("tos", "0"), 0, 255),
                pmtudisc=values.get("discoverpathmtu", "yes").lower() in {"yes", "true", "1", "on"},
                mtu=mtu,
            ),
            place=place,
            kernel=True,
        )
    except ValueError as error:
        notes.add("G0803", f"{name}: {error}", place)
        return Tunnel(PlainConfig(name=name, kind=plain, family=4 if family == 4 else 6, mtu=mtu), place=place, kernel=True)


def _gre_key(text: str) -> int | None:
    if not text:
        return None
    return int.from_bytes(Prefix.parse(text).packed, "big") if "." in text else number(text, 0, 2**32 - 1)


def _end(text: str) -> str:
    return (
        "any" if text in {"any", "0.0.0.0", "::", "dhcp4", "dhcp6", "dynamic"} else Prefix.parse(text.partition("/")[0]).address
    )


def _mtu(section: Section, notes: Notes) -> int | None:
    text = section.one("MTUBytes").upper()
    if not text:
        return None
    try:
        return number(text.removesuffix("K"), 1, 65535) * (1024 if text.endswith("K") else 1)
    except ValueError as error:
        notes.add("G0803", f"MTUBytes: {error}", section.place)
        return None


# ---------------------------------------------------------------- .network


def _network(found: list[Section], part: Part, notes: Notes) -> None:
    names = [word for section in found if section.name == "Match" for word in section.one("Name").split()]
    if len(names) != 1 or not wgquick.is_interface_name(names[0]):
        notes.add("G0817", f"{notes.source}: it is about no single device ({shown(' '.join(names))}), and is left out")
        return
    addresses: list[tuple[bytes, int]] = []
    routes: list[str] = []
    dns: list[str] = []
    search: list[str] = []
    mtu: int | None = None
    for section in found:
        if section.name == "Link":
            mtu = _mtu(section, notes)
        for entry in section.entries:
            try:
                match section.name, entry.key.lower():
                    case (("Network" | "Address"), "address"):
                        addresses.append(interface_address(entry.value))
                    case "Network", "dns":
                        dns += entry.value.split()
                    case "Network", "domains":
                        search += [word for word in entry.value.split() if word != "~."]
                    case "Route", "destination":
                        routes.append(str(Prefix.parse(entry.value)))
                    case "Network", ("ipforward" | "ipv4forwarding" | "ipv6forwarding"):
                        part.forwards = bool(part.forwards) or entry.value.lower() in {"yes", "true", "1", "on", "ipv4", "ipv6"}
                    case ("Network", "tunnel") | ("Match", _) | ("RoutingPolicyRule", _) | ("Route", "table"):
                        pass
                    case ("Network", key) if key in _NETWORK_PLAIN:
                        pass
                    case ("Route", key) if key in _ROUTE_PLAIN:
                        pass
                    case ("Link", ("mtubytes" | "requiredforonline" | "unmanaged" | "activationpolicy" | "multicast")):
                        pass
                    case _:
                        left_out(section, entry, notes)
            except ValueError as error:
                notes.add("G0803", f"{names[0]}: {entry.key}: {error}", entry.place)
    part.links.append(
        LinkFacts(names[0], tuple(addresses), mtu, tuple(dict.fromkeys(routes)), tuple(dns), tuple(search), place=notes.place(0))
    )
