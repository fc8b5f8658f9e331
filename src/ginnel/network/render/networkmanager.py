"""
A node as NetworkManager reads it: a keyfile for each device, mode 0600 whether it holds a secret or not, or it is not read.

NetworkManager takes no key from a file. Without secrets the profile asks for the private key when it comes up
(`private-key-flags=2`), and does not come up by itself; the comment has the command. A full tunnel, its policy rules and its name
server are NetworkManager's own doing; what the host does beside its devices are files for sysctl.d, nftables and a unit.

Names of peers are comments. A profile's UUID follows from network, node and device, so that rendering again replaces it.

Source: nm-settings-keyfile(5), libnm's NMSettingWireGuard and NMSettingIPTunnel; 1.42.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace

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
    public_key,
    setconf,
    sound,
    title,
)
from ginnel.network.render.routing import routing

WHERE = "/etc/NetworkManager/system-connections/"
_WHO = "NetworkManager"
#: NMIPTunnelMode.
_MODES = {"ipip": 1, "gre": 2, "sit": 3, "ip6gre": 8, "gretap": 10, "ip6gretap": 11}
#: It cannot leave out the option with the encapsulation limit over IPv6 (RFC 2473, 4.1.1): 8 bytes of every packet.
_ENCAP_LIMIT, _ENCAP_LIMIT_BYTES = 4, 8
#: What `ip` calls main.
_MAIN = "254"
#: The name servers of a full tunnel are asked before and instead of all others.
_FULL_DNS_PRIORITY = -50


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """A profile for each device, then the files of the host."""
    sound.check(description, secrets)
    notes = [f"# {note}" for note in kernel.notes(description, _WHO)]
    made: list[File] = []
    for each in interfaces(description):
        lines = [title(description), *notes, *_wireguard(each, secrets)]
        made.append(_file(each.interface, lines, secret=setconf.is_secret(each, secrets)))
        notes = []
    for tunnel in description.tunnels:
        made.append(_file(tunnel.config.name, [title(description), *notes, *_tunnel(description, tunnel)]))
        notes = []
    rules = hostfiles.rules_of(description)
    rest = replace(rules, rules=(), routes=tuple(text for text in rules.routes if text.endswith(" dev lo")))
    return (*made, *hostfiles.files(description, rest, "NetworkManager.service"))


def _file(name: str, lines: Sequence[str], *, secret: bool = False) -> File:
    return File(f"{name}.nmconnection", ("\n".join(lines) + "\n").encode(), WHERE, secret, private=True)


def _connection(description: NodeDescription, device: str, kind: str) -> Iterator[str]:
    yield from ("[connection]", f"id={device}")
    yield f"uuid={uuid.uuid5(uuid.NAMESPACE_DNS, f'{device}.{description.name}.{description.network}.ginnel.invalid')}"
    yield from (f"type={kind}", f"interface-name={device}")


def _wireguard(description: NodeDescription, secrets: Secrets) -> Iterator[str]:
    name, node, ways = description.interface, description.node, routing(description)
    mark, full = ways.mark, bool(ways.full)
    if not secrets.private_key:
        yield "# This file holds no key. It is asked for, or is a line in a file of mode 0600: wireguard.private-key:KEY"
        yield f"# nmcli connection up {name} passwd-file FILE"
    yield from _connection(description, name, "wireguard")
    if not secrets.private_key:
        yield "autoconnect=false"
    yield from ("", "[wireguard]")
    if secrets.private_key:
        yield from (f"private-key={secrets.private_key}", "private-key-flags=0")
    else:
        yield "private-key-flags=2"
    if description.listen_port:
        yield f"listen-port={description.listen_port}"
    if mark:
        yield f"fwmark={mark}"
    yield f"mtu={description.mtu}"
    if node.table == "off":
        yield "peer-routes=false"
    if node.table != "auto":
        # Everything is a route like any other, in the table that was named.
        yield from ("ip4-auto-default-route=0", "ip6-auto-default-route=0")
    for peer in description.peers:
        yield from ("", f"[wireguard-peer.{public_key(peer).base64()}]", f"# Name = {peer.name}")
        if peer.endpoint is not None:
            yield f"endpoint={host_port(peer.endpoint)}"
        if peer.name in secrets.psk:
            yield from (f"preshared-key={secrets.psk[peer.name]}", "preshared-key-flags=0")
        elif peer.psk:
            yield from (
                f"# wireguard.peers.{public_key(peer).base64()}.preshared-key:KEY is the line in FILE",
                "preshared-key-flags=2",
            )
        if peer.keepalive_s:
            yield f"persistent-keepalive={peer.keepalive_s}"
        if peer.allowed_ips:
            yield f"allowed-ips={''.join(f'{prefix};' for prefix in peer.allowed_ips)}"
    part = interface_part(description)
    for version in (4, 6):
        yield from _ip(
            version,
            [str(address) for address in description.address if (len(address.packed) == 4) == (version == 4)],
            routes=[route for route in map(_host_route, part.routes) if route[0] == version],
            rules=[text for text in part.rules if (":" in text) == (version == 6)],
            table="" if node.table in ("auto", "off", "main") else node.table,
            dns=[each for each in description.dns if (":" in each) == (version == 6)],
            search=(*description.search, *(("~",) if full else ())),
            full=full,
        )


def _host_route(text: str) -> tuple[int, str, str]:
    route = kernel.host_route(text)
    return route.prefix.version, str(route.prefix), f"table={_number(route.table or _MAIN)}"


def _number(table: str) -> str:
    """NetworkManager knows no names of tables."""
    if not table.isdigit():
        known = {"main": _MAIN, "local": "255", "default": "253"}
        if table not in known:
            raise UsageError(f"table {table}: {_WHO} takes numbers\n  hint: /etc/iproute2/rt_tables has the table's number")
        return known[table]
    return table


def _ip(
    version: int,
    addresses: Sequence[str],
    *,
    routes: Sequence[tuple[int, str, str]] = (),
    rules: Sequence[str] = (),
    table: str = "",
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    full: bool = False,
) -> Iterator[str]:
    yield from ("", f"[ipv{version}]", f"method={'manual' if addresses else 'disabled'}")
    if not addresses:
        return
    if version == 6:
        # By the MAC address, which tunnels do not have, it would look for a link-local address in vain, and for ever.
        yield "addr-gen-mode=stable-privacy"
    yield from (f"address{number}={address}" for number, address in enumerate(addresses, 1))
    if dns:
        yield f"dns={''.join(f'{each};' for each in dns)}"
    if dns and search:
        yield f"dns-search={''.join(f'{each};' for each in search)}"
    if dns and full:
        yield f"dns-priority={_FULL_DNS_PRIORITY}"
    if table:
        yield f"route-table={_number(table)}"
    for number, (_, destination, options) in enumerate(routes, 1):
        yield f"route{number}={destination}"
        if options:
            yield f"route{number}_options={options}"
    for number, text in enumerate(rules, 1):
        yield f"routing-rule{number}={_rule(text)}"


def _rule(text: str) -> str:
    """The words of `ip rule` with a priority, which NetworkManager wants to be told."""
    rule = words.Rule.parse(text)
    if not rule.priority:
        raise UsageError(f"the rule {text!r} has no priority, and {_WHO} wants one")
    rest = str(replace(rule, priority=0, table=_number(rule.table or _MAIN)))
    return f"priority {rule.priority} {rest}"


def _tunnel(description: NodeDescription, tunnel: TunnelDescription) -> Iterator[str]:
    config = tunnel.config
    kernel.check(config, _WHO)
    kernel.refuse(
        config,
        _WHO,
        csum=config.icsum or config.ocsum,
        seq=config.iseq or config.oseq,
        ignore_df=config.ignore_df,
        encapsulation=config.encapsulation,
        fwmark=config.fwmark,
    )
    kind = kernel_kind(config)
    if kind not in _MODES:
        raise UsageError(f"{config.name}: {_WHO} has no tunnel of kind {kind} for both IP versions\n  hint: --as iproute2 has it")
    if config.remote == "any":
        raise UsageError(f"{config.name}: {_WHO} wants the other end's address\n  hint: --as iproute2 and --as node do without")
    yield from _connection(description, config.name, "ip-tunnel")
    yield from ("", "[ip-tunnel]", f"mode={_MODES[kind]}", f"remote={config.remote}")
    if config.local != "any":
        yield f"local={config.local}"
    if config.dev:
        yield f"parent={config.dev}"
    if config.ttl:
        yield f"ttl={config.ttl}"
    if config.tos != 0:
        # 1, which no packet can have, stands for "inherit" in the kernel's own interface.
        yield f"tos={1 if config.tos is None else config.tos}"
    if not config.pmtudisc:
        yield "path-mtu-discovery=false"
    for name, key in (("input-key", config.ikey), ("output-key", config.okey)):
        if key is not None:
            yield f"{name}={key}"
    if config.family == 6:
        if config.encaplimit is None:
            yield f"# It puts an option of {_ENCAP_LIMIT_BYTES} bytes into every packet; the MTU is so much smaller."
        yield f"encapsulation-limit={_ENCAP_LIMIT if config.encaplimit is None else config.encaplimit}"
        if config.flowlabel is not None:
            yield f"flow-label={config.flowlabel}"
    yield f"mtu={tunnel.mtu - (_ENCAP_LIMIT_BYTES if config.family == 6 and config.encaplimit is None else 0)}"
    ways = [words.Route.parse(text) for text in config.routes]
    for version in (4, 6):
        yield from _ip(
            version,
            [address for address in config.address if (":" in address) == (version == 6)],
            routes=[(version, *_route(way)) for way in ways if way.prefix.version == version],
            rules=[text for text in config.rules if (":" in text) == (version == 6)],
        )


def _route(way: words.Route) -> tuple[str, str]:
    options = [f"table={_number(way.table)}"] if way.table else []
    options += [f"src={way.source}"] if way.source else []
    return f"{way.prefix}{f',,{way.metric}' if way.metric else ''}", ",".join(options)
