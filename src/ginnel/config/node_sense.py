"""
What is wrong with tunnels whose values are all well formed: with one by itself, and with one because of another.

Each rule is one `yield` with its reason: what would come up and then not work, or work until the second tunnel. The rules are
those of VyOS (interfaces_tunnel.py) and of the kernel, and our own: see `docs/reference/node-file.md`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ginnel.config import ipsec_sense, words
from ginnel.config.ipsec_sense import Around, Ipsec
from ginnel.config.node import IpsecConfig, PlainConfig, PlainKind
from ginnel.config.node_values import IPV6_MTU_MIN, version_of
from ginnel.config.positions import Path
from ginnel.units import Prefix

GRE_KINDS = frozenset({"gre", "gretap"})
_GRE_ONLY = ("key", "ikey", "okey", "csum", "icsum", "ocsum", "seq", "iseq", "oseq", "tolerant", "encapsulation")
_UDP_ONLY = ("encap-sport", "encap-dport", "listen")
_MULTIPLE_END_HINT = "give them different keys (key = 1, key = 2 …), the same at the other ends"

#: Path, message (after the tunnel's name), hint, whether the key is meant rather than its value.
Complaint = tuple[Path, str, str, bool]


@dataclass(slots=True)
class Tunnel:
    """One tunnel while it is checked: what the file gives, by the keys as they are known here, and as they stand there."""

    name: str
    given: dict[str, Any] = field(default_factory=dict)
    spelled: dict[str, str] = field(default_factory=dict)
    #: Its `[tunnel.NAME.ipsec]`, when it has one.
    ipsec: Ipsec | None = None

    def path(self, key: str = "") -> Path:
        return ("tunnel", self.name, self.spelled.get(key, key)) if key else ("tunnel", self.name)

    def given_path(self, key: str) -> Path:
        """The key where it is given, else the tunnel."""
        return self.path(key if key in self.given else "")

    def has(self, *keys: str) -> str:
        """The first of *keys* that is given and on, or nothing."""
        return next((key for key in keys if key in self.given and self.given[key] is not False), "")


def family_of(tunnel: Tunnel, version: Literal[0, 4, 6]) -> Literal[4, 6]:
    """Of the delivery header: what the kind says, else what the addresses say, else IPv4."""
    for end in (tunnel.given.get("local", "any"), tunnel.given.get("remote", "any")):
        version = version or version_of(end)
    return version or 4


def around(tunnel: Tunnel, kind: PlainKind, version: Literal[0, 4, 6]) -> Around:
    """What of a tunnel its protection has to go with."""
    given = tunnel.given
    family = family_of(tunnel, version)
    return Around(kind, family, given.get("local", "any"), given.get("remote", "any"), given, tunnel.spelled)


def of_one(tunnel: Tunnel, kind: PlainKind, version: Literal[0, 4, 6]) -> Iterator[Complaint]:
    """What is wrong with one tunnel whose values are all well formed."""
    family = family_of(tunnel, version)
    yield from _options_of_the_kind(tunnel, kind, family)
    yield from _ends(tunnel, kind, family)
    yield from _header(tunnel, family)
    yield from _inside(tunnel, kind)
    yield from _recursion(tunnel)
    yield from _protection(tunnel, kind, version)


def _protection(tunnel: Tunnel, kind: PlainKind, version: Literal[0, 4, 6]) -> Iterator[Complaint]:
    ipsec = tunnel.ipsec
    if ipsec is None:
        if kind == "ipsec":
            hint = f'add [tunnel.{tunnel.name}.ipsec] and psk-file = "{tunnel.name}.psk"'
            yield tunnel.path("kind"), f" is of kind ipsec and has no [tunnel.{tunnel.name}.ipsec]", hint, False
        return
    for key, message, hint, at_key in ipsec_sense.of_one(ipsec, around(tunnel, kind, version)):
        where = f".ipsec.{ipsec.spelled.get(key, key)}" if key else ".ipsec"
        yield (*tunnel.path(), *ipsec.path(key)), f"{where}{message}", hint, at_key
    for key, message, hint, at_key in ipsec_sense.of_the_tunnel(around(tunnel, kind, version)):
        yield tunnel.path(key), f".{tunnel.spelled[key]}{message}", hint, at_key


def _options_of_the_kind(tunnel: Tunnel, kind: PlainKind, family: Literal[4, 6]) -> Iterator[Complaint]:
    given = tunnel.given
    if kind not in GRE_KINDS:
        for key in (*_GRE_ONLY, "keepalive"):
            if key in given:
                hint = f'leave it out, or use kind = "gre": {kind} has no header to hold it'
                yield tunnel.path(key), f".{tunnel.spelled[key]} is an option of GRE, and this is {kind}", hint, True
    if "ignore-df" in given and kind not in GRE_KINDS:
        yield tunnel.path("ignore-df"), f".ignore-df is an option of gre and gretap, and this is {kind}", "leave it out", True
    if kind == "gretap" and "keepalive" in given:
        yield tunnel.path("keepalive"), ".keepalive is an IP packet in GRE, and gretap carries Ethernet", "leave it out", True
    for key in ("encaplimit", "flowlabel"):
        if key in given and family == 4:
            yield tunnel.path(key), f".{tunnel.spelled[key]} is of IPv6, and this tunnel goes over IPv4", "leave it out", True
    for key in ("pmtudisc", "ignore-df"):
        if key in given and family == 6:
            hint = "leave it out: IPv6 packets are never fragmented on the way"
            yield tunnel.path(key), f".{tunnel.spelled[key]} is of IPv4, and this tunnel goes over IPv6", hint, True
    if "encapsulation" not in given:
        for key in _UDP_ONLY:
            if key in given:
                yield tunnel.path(key), f".{tunnel.spelled[key]} is of GRE in UDP", 'add encapsulation = "udp"', True
    for key, hint in (("encaplimit", "leave it out"), ("flowlabel", "leave it out: in UDP the flow is told by the source port")):
        if given.get(key) is not None and given.get("encapsulation"):
            yield tunnel.path(key), f".{key} is not sent in UDP", hint, True


def _ends(tunnel: Tunnel, kind: PlainKind, family: Literal[4, 6]) -> Iterator[Complaint]:
    given = tunnel.given
    local, remote = given.get("local", "any"), given.get("remote", "any")
    for key, end in (("local", local), ("remote", remote)):
        if version_of(end) not in {0, family}:
            other = "remote" if key == "local" else "local"
            found = f"{end} is IPv{version_of(end)}"
            why = (
                f"{other} is IPv{family}"
                if version_of(given.get(other, "any")) == family
                else f"the tunnel goes over IPv{family}"
            )
            hint = "both ends are of one version"
            if kind in {"ipip", "sit", "ip6tnl"}:
                better = {"ipip": '"ip6tnl"', "sit": '"ip6tnl"', "ip6tnl": '"ipip" (IPv4 inside) or "sit" (IPv6 inside)'}[kind]
                hint = f"{kind} goes over IPv{family}; over IPv{version_of(end)} use kind = {better}"
            yield tunnel.path(key), f".{key}: {found}, and {why}", hint, False
    no_local, no_remote = (end in {"any", "0.0.0.0", "::"} for end in (local, remote))
    keyed = bool(tunnel.has("key", "ikey"))
    if not no_local and local == remote:
        yield tunnel.path("remote"), f": both ends are {local}", "remote is the address of the other host", False
    if tunnel.ipsec is not None:
        pass  # The security association tells its packets, wherever they come from.
    elif kind in GRE_KINDS:
        if no_remote and not keyed:
            hint = "add remote, or key for a tunnel whose remote is learned"
            yield tunnel.given_path("remote"), " has no remote, and no key to know its packets by", hint, True
        elif no_local and not keyed:
            hint = "add local (`ip route get REMOTE` names it after src), or key"
            message = f" has no local: without one and without a key every packet of {remote} would be this tunnel's"
            yield tunnel.given_path("local"), message, hint, True
    elif no_remote:
        message = f" has no remote, and {kind} has nothing else to know its packets by"
        yield tunnel.given_path("remote"), message, "add remote", True
    for key, end in (("local", local), ("remote", remote)):
        if end.startswith(("fe8", "fe9", "fea", "feb")) and version_of(end) == 6 and "dev" not in given:
            yield tunnel.path(key), f".{key}: {end} is on one link only, and which is not said", 'add dev = "eth0"', False
    if "dev" in given and given["dev"] == tunnel.name:
        yield tunnel.path("dev"), f".dev: {tunnel.name} would be carried by itself", "dev is the device below the tunnel", False


def _header(tunnel: Tunnel, family: Literal[4, 6]) -> Iterator[Complaint]:
    given = tunnel.given
    ttl, pmtudisc = given.get("ttl", 0), given.get("pmtudisc", True)
    if ttl and not pmtudisc:
        hint = "leave ttl out (it is then the inner packet's), or pmtudisc"
        message = f".ttl: a fixed TTL needs path MTU discovery: with pmtudisc off a routing loop would go on for {ttl} hops"
        yield tunnel.path("ttl"), message, hint, False
    if given.get("ignore-df") and pmtudisc:
        hint = "add pmtudisc = false: then large packets are sent in fragments"
        yield tunnel.path("ignore-df"), ".ignore-df contradicts path MTU discovery, which sets DF on every packet", hint, True
    entropy = given.get("encapsulation") and given.get("encap-sport") == 0
    if entropy and (key := tunnel.has("seq", "oseq")):
        hint = 'leave it out, or set encap-sport to a port: with "auto" packets take several ways and change their order'
        message = f".{tunnel.spelled[key]}: sequence numbers and source ports by flow exclude each other (RFC 8086)"
        yield tunnel.path(key), message, hint, True
    keepalive = given.get("keepalive")
    if keepalive and keepalive.get("interval_s", 1):
        if given.get("remote", "any") in {"any", "0.0.0.0", "::"}:
            yield tunnel.path("keepalive"), ".keepalive: there is nobody to send it to without a remote", "add remote", False
        if keepalive.get("dialect") == "mikrotik" and family == 4:
            message = ".keepalive: the mikrotik dialect is for tunnels over IPv6; over IPv4 RouterOS speaks cisco's"
            yield tunnel.path("keepalive"), message, "leave dialect out", False


def _inside(tunnel: Tunnel, kind: PlainKind) -> Iterator[Complaint]:
    given = tunnel.given
    only = {"ipip": 4, "sit": 6}.get(kind, 0)
    addresses, routes = given.get("address", ()), [words.Route.parse(text) for text in given.get("routes", ())]
    inner = [(("address", index), text, 6 if ":" in text else 4) for index, text in enumerate(addresses)]
    inner += [(("routes", index), str(route.prefix), route.prefix.version) for index, route in enumerate(routes)]
    for (key, index), text, version in inner:
        if only and version != only:
            path = (*tunnel.path(key), index)
            better = f'kind = "{"sit" if only == 4 else "ipip"}" carries IPv{version}, "gre" both'
            yield path, f".{key}[{index}]: {text} is IPv{version}, and {kind} carries IPv{only} alone", better, False
    mtu = given.get("mtu")
    if mtu is not None and mtu < IPV6_MTU_MIN:
        first = next((text for _, text, version in inner if version == 6), "")
        if first or kind == "sit":
            what = f"{first} is IPv6" if first else "sit carries IPv6"
            hint = f"{IPV6_MTU_MIN} or more, or no IPv6 inside"
            yield tunnel.path("mtu"), f".mtu: {mtu} is too small: {what}, which needs {IPV6_MTU_MIN}", hint, False
    local = given.get("local", "any")
    for index, text in enumerate(addresses):
        if text.partition("/")[0] == local:
            hint = "inside the tunnel the hosts have addresses of their own, such as 10.10.10.1/30"
            yield (*tunnel.path("address"), index), f".address[{index}]: {local} is the tunnel's outer end", hint, False


def _recursion(tunnel: Tunnel) -> Iterator[Complaint]:
    """A route of the tunnel that its own packets would take: they would go round until they are dropped."""
    given = tunnel.given
    remote = given.get("remote", "any")
    if not version_of(remote) or remote in {"0.0.0.0", "::"} or given.get("dev") or given.get("fwmark"):
        return
    packed = Prefix.parse(remote)
    hint = 'bind the tunnel to the device below it (dev = "eth0"), or mark its packets (fwmark) and route those elsewhere'
    for key in ("address", "routes"):
        for index, text in enumerate(given.get(key, ())):
            route = words.Route.parse(text) if key == "routes" else None
            prefix = route.prefix if route is not None else Prefix.parse(text)
            if route is not None and route.table not in {"", "main", "254"}:
                continue
            if prefix.version == packed.version and _covers(prefix, packed):
                message = f".{key}[{index}]: {prefix} holds the remote {remote}: the tunnel would carry itself"
                yield (*tunnel.path(key), index), message, hint, False


def _covers(prefix: Prefix, inner: Prefix) -> bool:
    shift = len(prefix.packed) * 8 - prefix.length
    return int.from_bytes(prefix.packed, "big") >> shift == int.from_bytes(inner.packed, "big") >> shift


def of_all(tunnels: Sequence[tuple[Tunnel, PlainConfig]]) -> Iterator[Complaint]:
    """What is wrong only because of another tunnel of the file; messages are whole."""
    ends: dict[object, str] = {}
    addresses: dict[str, str] = {}
    networks: dict[Prefix, str] = {}
    routes: dict[tuple[str, str, str], str] = {}
    protected: dict[object, str] = {}
    for tunnel, config in tunnels:
        if config.ipsec is not None:
            yield from _same_peer(tunnel, config, config.ipsec, protected)
        else:
            other = ends.setdefault(_identity(config), tunnel.name)
            if other != tunnel.name:
                yield tunnel.path("remote"), *_same_ends(tunnel.name, other, config), False
        for index, text in enumerate(config.address):
            where = f"tunnel.{tunnel.name}.address[{index}]"
            bare = text.partition("/")[0]
            if ipaddress.ip_interface(text).is_link_local:
                continue  # each link has its own
            if (other := addresses.setdefault(bare, tunnel.name)) != tunnel.name:
                hint = "each end of each tunnel has an address of its own"
                yield (*tunnel.path("address"), index), f"{where}: {bare} is the address of {other} already", hint, False
                continue
            network = Prefix.parse(text)
            if network.length == len(network.packed) * 8:
                continue
            if (other := networks.setdefault(network, tunnel.name)) != tunnel.name:
                message = f"{where}: {network} is the network of {other} already, and packets to it take one way only"
                yield (*tunnel.path("address"), index), message, "each tunnel has a network of its own", False
        for index, text in enumerate(config.routes):
            route = words.Route.parse(text)
            key = (str(route.prefix), route.table, str(route.metric))
            if (other := routes.setdefault(key, tunnel.name)) != tunnel.name:
                message = f"tunnel.{tunnel.name}.routes[{index}]: {route.prefix} goes through {other} already"
                hint = f'give one of them a metric: "{route.prefix} metric 20" is taken when the other is gone'
                yield (*tunnel.path("routes"), index), message, hint, False


def _same_peer(tunnel: Tunnel, config: PlainConfig, ipsec: IpsecConfig, seen: dict[object, str]) -> Iterator[Complaint]:
    """Two protected tunnels between the same ends and identities: whoever is called cannot tell which is meant."""
    key = (config.family, config.local, config.remote, ipsec.local_id, ipsec.remote_id)
    other = seen.setdefault(key, tunnel.name)
    if other != tunnel.name:
        who = f"{ipsec.local_id or config.local} and {ipsec.remote_id or config.remote}"
        message = f"tunnel.{tunnel.name}: {other} is protected between {who} already, and IKE could not tell the two apart"
        yield tunnel.path("remote"), message, "give each its own local-id and remote-id, the mirror image at the other end", False


def _identity(config: PlainConfig) -> object:
    """
    What tells this tunnel's packets from those of others; two tunnels with the same are one to the receiver.

    UDP ports are not part of it: a NAT makes of them what it wants.
    """
    return (config.family, config.kind, config.encapsulation is not None, config.local, config.remote, config.ikey, config.dev)


def _same_ends(name: str, other: str, config: PlainConfig) -> tuple[str, str]:
    ends = f"from {config.remote} to {config.local}"
    if config.kind not in GRE_KINDS:
        message = f"tunnel.{name}: packets {ends} are those of {other} already, and {config.kind} has no keys to tell them apart"
        return message, 'use kind = "gre" with keys, or other addresses'
    if config.ikey is None:
        return f"tunnel.{name}: packets {ends} without a key are those of {other} already", _MULTIPLE_END_HINT
    return f"tunnel.{name}: packets {ends} with key {config.ikey} are those of {other} already", _MULTIPLE_END_HINT
