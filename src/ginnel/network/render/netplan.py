"""
A node as netplan reads it: one file for all of its devices, to be generated for systemd-networkd.

Without secrets, keys lie where `networkd` has them, since it is networkd that reads them. netplan has no rule that looks past a
default route (`suppress_prefixlength`): with a full tunnel all but the node's own LANs goes through it, also what is near; the
file says so. What the host does beside its devices are files for sysctl.d, nftables and a unit.

All text is quoted as JSON quotes it, which YAML takes.

Source: netplan's YAML reference; 0.106.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ginnel.config import words
from ginnel.config.link_words import kernel_kind
from ginnel.errors import UsageError
from ginnel.network.compile import NodeDescription, TunnelDescription
from ginnel.network.hostrules import interface_part
from ginnel.network.render import (
    NONE,
    File,
    Secrets,
    host_port,
    hostfiles,
    interfaces,
    kernel,
    networkd,
    public_key,
    setconf,
    sound,
    title,
)
from ginnel.network.render.routing import routing
from ginnel.units import Prefix

WHERE = "/etc/netplan/"
_WHO = "netplan"
_MODES = {"gre", "ip6gre", "gretap", "ip6gretap", "ipip", "sit"}
_MAIN = 254
#: Behind everything of the host's own, before the main table.
_MARKED, _NEAR, _THROUGH = 32760, 32761, 32762
#: A peer without a prefix is a mistake to netplan; this one nothing is ever sent to by a route.
_NOWHERE = "255.255.255.255/32"


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """The one file of netplan's, then the files of the host."""
    sound.check(description, secrets)
    tunnels = {each.interface: _wireguard(each, secrets) for each in interfaces(description)}
    tunnels |= {tunnel.config.name: _tunnel(tunnel) for tunnel in description.tunnels}
    notes = list(kernel.notes(description, _WHO))
    if any(routing(each).full for each in interfaces(description)):
        notes.append("All but this node's LANs goes through the tunnel, also to hosts near by: netplan has no rule for those.")
    network = {"network": {"version": 2, "renderer": "networkd", "tunnels": tunnels}}
    lines = [title(description), *(f"# {note}" for note in notes), *_yaml(network, 0)]
    secret = any(setconf.is_secret(each, secrets) for each in interfaces(description))
    file = File(f"60-ginnel-{description.network}.yaml", ("\n".join(lines) + "\n").encode(), WHERE, secret, private=True)
    rules = hostfiles.rules_of(description)
    rest = replace(rules, rules=(), routes=tuple(text for text in rules.routes if text.endswith(" dev lo")))
    return (file, *hostfiles.files(description, rest, "systemd-networkd.service"))


def _wireguard(description: NodeDescription, secrets: Secrets) -> dict[str, Any]:
    ways, part, name = routing(description), interface_part(description), description.interface
    keys = networkd.WHERE.rstrip("/")
    made: dict[str, Any] = {"mode": "wireguard", "addresses": [str(address) for address in description.address]}
    made["mtu"] = description.mtu
    made["optional"] = True
    if description.listen_port:
        made["port"] = description.listen_port
    if ways.mark:
        made["mark"] = ways.mark
    made["keys"] = {"private": secrets.private_key or setconf.key_file(description.beside_of or name, keys)}
    made["peers"] = []
    for peer in description.peers:
        pair = {"public": public_key(peer).base64()}
        if peer.psk:
            pair["shared"] = secrets.psk.get(peer.name) or setconf.psk_file(name, peer.name, keys)
        one: dict[str, Any] = {"keys": pair, "allowed-ips": list(map(str, peer.allowed_ips)) or [_NOWHERE]}
        if peer.endpoint is not None:
            one["endpoint"] = host_port(peer.endpoint)
        if peer.keepalive_s:
            one["keepalive"] = peer.keepalive_s
        made["peers"].append((f"# Name = {peer.name}", one))
    if description.dns:
        made["nameservers"] = {"addresses": list(description.dns)}
        search = [*description.search, *(["~."] if ways.full else [])]
        if search:
            made["nameservers"]["search"] = search
    routes = [_route(prefix, ways.table) for prefix in ways.routes]
    routes += [_route(route.prefix, route.table) for route in map(kernel.host_route, part.routes)]
    rules = [_rule(text) for text in part.rules]
    for version in ways.full:
        every = Prefix(bytes(4 if version == 4 else 16), 0)
        routes.append(_route(every, str(ways.mark)))
        lans = [lan for lan in description.node.lans if lan.version == version]
        rules += [{"from": str(every), "mark": ways.mark, "table": _MAIN, "priority": _MARKED}]
        rules += [{"to": str(lan), "table": _MAIN, "priority": _NEAR} for lan in lans]
        rules += [{"from": str(every), "table": ways.mark, "priority": _THROUGH}]
    return _with_ways(made, routes, rules)


def _with_ways(made: dict[str, Any], routes: list[dict[str, Any]], rules: list[dict[str, Any]]) -> dict[str, Any]:
    if routes:
        made["routes"] = routes
    if rules:
        made["routing-policy"] = rules
    return made


def _route(prefix: Prefix, table: str = "", metric: int = 0, source: str = "") -> dict[str, Any]:
    route: dict[str, Any] = {"to": str(prefix), "scope": "link"}
    if table:
        route["table"] = _number(table)
    if metric:
        route["metric"] = metric
    if source:
        route["from"] = source
    return route


def _number(table: str) -> int:
    known = {"main": _MAIN, "local": 255, "default": 253}
    if not table.isdigit() and table not in known:
        raise UsageError(f"table {table}: {_WHO} takes numbers\n  hint: /etc/iproute2/rt_tables has the table's number")
    return known[table] if table in known else int(table)


def _rule(text: str) -> dict[str, Any]:
    rule = words.Rule.parse(text)
    if rule.inverted or rule.iif or rule.oif:
        raise UsageError(f"the rule {text!r}: {_WHO} has no words for it\n  hint: --as networkd has")
    made: dict[str, Any] = {}
    if rule.source is not None:
        made["from"] = str(rule.source)
    if rule.destination is not None:
        made["to"] = str(rule.destination)
    if not made:
        made["from"] = "::/0" if rule.version == 6 else "0.0.0.0/0"
    if rule.mark is not None:
        made["mark"] = _marked(rule, text)
    made["table"] = _number(rule.table or "main")
    if rule.priority:
        made["priority"] = rule.priority
    return made


def _marked(rule: words.Rule, text: str) -> int:
    if rule.mark is None or rule.mask not in (None, 0xFFFF_FFFF):
        raise UsageError(f"the rule {text!r}: {_WHO} has no mask for marks\n  hint: --as networkd has")
    return rule.mark


def _tunnel(tunnel: TunnelDescription) -> dict[str, Any]:
    config = tunnel.config
    kernel.check(config, _WHO)
    kernel.refuse(
        config,
        _WHO,
        csum=config.icsum or config.ocsum,
        seq=config.iseq or config.oseq,
        nopmtudisc=not config.pmtudisc,
        ignore_df=config.ignore_df,
        tos=config.tos is None or config.tos,
        encapsulation=config.encapsulation,
        fwmark=config.fwmark,
        dev=config.dev,
        encaplimit=config.encaplimit is not None,
        flowlabel=config.flowlabel is not None,
    )
    kind = kernel_kind(config)
    if kind not in _MODES:
        raise UsageError(f"{config.name}: {_WHO} has no tunnel of kind {kind}\n  hint: --as iproute2 has it")
    nowhere = "::" if config.family == 6 else "0.0.0.0"
    made: dict[str, Any] = {
        "mode": kind,
        "local": nowhere if config.local == "any" else config.local,
        "remote": nowhere if config.remote == "any" else config.remote,
        "addresses": list(config.address),
        "mtu": tunnel.mtu,
        "optional": True,
    }
    if config.ttl:
        made["ttl"] = config.ttl
    keys = {name: key for name, key in (("input", config.ikey), ("output", config.okey)) if key is not None}
    if keys:
        made["keys"] = keys
    ways = [words.Route.parse(text) for text in config.routes]
    routes = [_route(way.prefix, way.table, way.metric, way.source) for way in ways]
    return _with_ways(made, routes, [_rule(text) for text in config.rules])


def _yaml(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Mappings and lists of mappings one below the other, everything else in one line."""
    lead = "  " * depth
    for key, item in value.items():
        match item:
            case Mapping():
                yield f"{lead}{key}:"
                yield from _yaml(item, depth + 1)
            case [dict() | tuple(), *_]:
                yield f"{lead}{key}:"
                yield from _items(item, depth + 1)
            case _:
                yield f"{lead}{key}: {json.dumps(item)}"


def _items(items: Sequence[Any], depth: int) -> Iterator[str]:
    lead = "  " * depth
    for item in items:
        comment, mapping = item if isinstance(item, tuple) else ("", item)
        if comment:
            yield f"{lead}{comment}"
        first, *others = _yaml(mapping, depth + 1)
        yield f"{lead}- {first.lstrip()}"
        yield from others
