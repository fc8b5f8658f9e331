"""
A node as systemd-networkd reads it: a .netdev and a .network for each device, numbered so that they go before a host's general
ones. The interface's addresses, routes and policy rules are networkd's; the kernel's settings and the firewall are files for
sysctl.d and nftables, since networkd changes its own words for them between versions (`IPForward=`) and has none for most.

Without secrets, keys lie in /etc/systemd/network/, where networkd may read them: owner root:systemd-network, mode 0640, as a
.netdev that holds keys has to be.

Source: systemd.netdev(5), systemd.network(5); every key here is known to systemd 252.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ginnel.config import words
from ginnel.config.link_words import kernel_kind
from ginnel.config.node import PlainConfig
from ginnel.errors import UsageError
from ginnel.network.compile import NodeDescription, TunnelDescription
from ginnel.network.hostrules import HostRules, interface_part
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
from ginnel.units import Prefix

WHERE = "/etc/systemd/network/"
_WHO = "systemd-networkd"
_GRE = 47
#: wg-quick's rules lie just before the main table's, 32766.
FULL_PRIORITIES = (32764, 32765)


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """The units of each device, then those files of the host that are not networkd's."""
    sound.check(description, secrets)
    made: list[File] = []
    notes = [f"# {note}" for note in kernel.notes(description, _WHO)]
    for each in interfaces(description):
        secret = setconf.is_secret(each, secrets)
        made.append(_file(f"10-{each.interface}.netdev", [title(description), *notes, *_wireguard(each, secrets)], secret=secret))
        made.append(_file(f"10-{each.interface}.network", [title(description), *_network(each)]))
        notes = []
    ports = {}
    for tunnel in description.tunnels:
        config = tunnel.config
        kernel.check(config, _WHO)
        if config.encapsulation is not None:
            ports[config.encapsulation.listen] = f"fou{config.encapsulation.listen}"
        made.append(_file(f"10-{config.name}.netdev", [title(description), *notes, *_tunnel(tunnel)]))
        made.append(_file(f"10-{config.name}.network", [title(description), *_tunnel_network(tunnel)]))
        notes = []
    for port, name in sorted(ports.items()):
        lines = [title(description), "[NetDev]", f"Name={name}", "Kind=fou", "", "[FooOverUDP]"]
        made.append(_file(f"10-{name}.netdev", [*lines, "Encapsulation=FooOverUDP", f"Port={port}", f"Protocol={_GRE}"]))
    rules = hostfiles.rules_of(description)
    if rules.addresses or any(words_of.endswith(" dev lo") for words_of in rules.routes):
        made.append(_file("10-lo.network", [title(description), *_loopback(rules)]))
    rest = replace(rules, addresses=(), routes=(), rules=())
    return (*made, *hostfiles.files(description, rest, "systemd-networkd.service"))


def _file(name: str, lines: Iterator[str] | list[str], *, secret: bool = False) -> File:
    return File(name, ("\n".join(lines) + "\n").encode(), WHERE, secret)


def _wireguard(description: NodeDescription, secrets: Secrets) -> Iterator[str]:
    name, mark = description.interface, routing(description).mark
    if setconf.is_secret(description, secrets):
        yield f"# This file holds keys: chown root:systemd-network 10-{name}.netdev; chmod 0640 10-{name}.netdev"
    yield from ("[NetDev]", f"Name={name}", "Kind=wireguard", f"MTUBytes={description.mtu}")
    yield from ("", "[WireGuard]")
    if secrets.private_key:
        yield f"PrivateKey={secrets.private_key}"
    else:
        yield "# chown root:systemd-network, chmod 0640:"
        yield f"PrivateKeyFile={setconf.key_file(description.beside_of or name, WHERE.rstrip('/'))}"
    if description.listen_port:
        yield f"ListenPort={description.listen_port}"
    if mark:
        yield f"FirewallMark={mark}"
    for peer in description.peers:
        yield from ("", "[WireGuardPeer]", f"# Name = {peer.name}", f"PublicKey={public_key(peer).base64()}")
        if peer.name in secrets.psk:
            yield f"PresharedKey={secrets.psk[peer.name]}"
        elif peer.psk:
            yield f"PresharedKeyFile={setconf.psk_file(name, peer.name, WHERE.rstrip('/'))}"
        if peer.allowed_ips:
            yield f"AllowedIPs={','.join(map(str, peer.allowed_ips))}"
        if peer.endpoint is not None:
            yield f"Endpoint={host_port(peer.endpoint)}"
        if peer.keepalive_s:
            yield f"PersistentKeepalive={peer.keepalive_s}"


def _network(description: NodeDescription) -> Iterator[str]:
    ways, part = routing(description), interface_part(description)
    yield from ("[Match]", f"Name={description.interface}")
    yield from ("", "[Link]", f"MTUBytes={description.mtu}", "RequiredForOnline=no")
    yield from ("", "[Network]", *(f"Address={address}" for address in description.address))
    yield from (f"DNS={address}" for address in description.dns)
    # A name server of a full tunnel is asked about everything, as wg-quick's `resolvconf -x` has it.
    domains = (*description.search, *(("~.",) if description.dns and ways.full else ()))
    if domains:
        yield f"Domains={' '.join(domains)}"
    if description.dns:
        yield f"DNSDefaultRoute={'yes' if ways.full else 'no'}"
    yield "IPv6AcceptRA=no"
    for prefix in ways.routes:
        yield from _route(prefix, ways.table)
    if ways.full:
        for version in ways.full:
            yield from _route(Prefix(bytes(4 if version == 4 else 16), 0), str(ways.mark))
        near, through = FULL_PRIORITIES
        for version in ways.full:
            family = f"Family=ipv{version}"
            yield from ("", "[RoutingPolicyRule]", family, f"Priority={near}", "Table=main", "SuppressPrefixLength=0")
            yield from ("", "[RoutingPolicyRule]", family, f"Priority={through}", "InvertRule=yes")
            yield from (f"FirewallMark={ways.mark}", f"Table={ways.mark}")
    for text in part.routes:
        yield from _host_route(text)
    for text in part.rules:
        yield from _rule(text)


def _route(prefix: Prefix, table: str = "", metric: int = 0, source: str = "") -> Iterator[str]:
    yield from ("", "[Route]", f"Destination={prefix}")
    if prefix.version == 4:
        yield "Scope=link"
    if table:
        yield f"Table={table}"
    if metric:
        yield f"Metric={metric}"
    if source:
        yield f"PreferredSource={source}"


def _host_route(text: str) -> Iterator[str]:
    """A route beside those of AllowedIPs, in the .network of its device."""
    route = kernel.host_route(text)
    yield from ("", "[Route]", f"Destination={route.prefix}")
    if route.kind != "unicast":
        yield f"Type={route.kind}"
    elif route.gateway:
        yield from (f"Gateway={route.gateway}", "GatewayOnLink=yes")
    elif route.prefix.version == 4:
        yield "Scope=link"
    if route.table:
        yield f"Table={route.table}"


def _loopback(rules: HostRules) -> Iterator[str]:
    """What is the host's own, whichever device it comes by."""
    yield from ("[Match]", "Name=lo", "", "[Network]", "KeepConfiguration=static")
    yield from (f"Address={text.removesuffix(' dev lo')}" for text in rules.addresses)
    for text in rules.routes:
        if text.endswith(" dev lo"):
            yield from _host_route(text)


def _rule(text: str) -> Iterator[str]:
    rule = words.Rule.parse(text)
    yield from ("", "[RoutingPolicyRule]")
    yield {0: "Family=both", 4: "Family=ipv4", 6: "Family=ipv6"}[rule.version]
    if rule.inverted:
        yield "InvertRule=yes"
    if rule.source is not None:
        yield f"From={rule.source}"
    if rule.destination is not None:
        yield f"To={rule.destination}"
    if rule.mark is not None:
        yield f"FirewallMark={rule.mark}{'' if rule.mask is None else f'/{rule.mask}'}"
    if rule.iif:
        yield f"IncomingInterface={rule.iif}"
    if rule.oif:
        yield f"OutgoingInterface={rule.oif}"
    if rule.priority:
        yield f"Priority={rule.priority}"
    yield f"Table={rule.table or 'main'}"


def _tunnel(tunnel: TunnelDescription) -> Iterator[str]:
    config = tunnel.config
    kernel.refuse(
        config,
        _WHO,
        csum=config.icsum or config.ocsum,
        ignore_df=config.ignore_df,
        dev=config.dev,
        fwmark=config.fwmark,
    )
    if config.iseq != config.oseq:
        raise UsageError(f"{config.name}: {_WHO} has sequence numbers both ways or not at all\n  hint: --as iproute2 has either")
    yield from ("[NetDev]", f"Name={config.name}", f"Kind={kernel_kind(config)}", f"MTUBytes={tunnel.mtu}")
    yield from ("", "[Tunnel]", "Independent=yes", f"Local={config.local}", f"Remote={config.remote}")
    yield from _keys(config)
    yield f"TTL={config.ttl}"
    if config.tos != 0:
        # 1, which no packet can have, stands for "inherit" in the kernel's own interface.
        yield f"TOS={1 if config.tos is None else config.tos}"
    if not config.pmtudisc:
        yield "DiscoverPathMTU=no"
    if config.iseq:
        yield "SerializeTunneledPackets=yes"
    if config.family == 6:
        yield f"EncapsulationLimit={'none' if config.encaplimit is None else config.encaplimit}"
        if config.flowlabel is not None:
            yield f"IPv6FlowLabel={config.flowlabel}"
    if config.kind == "ip6tnl":
        yield "Mode=any"
    if config.encapsulation is not None:
        if config.family == 6:
            raise UsageError(f"{config.name}: {_WHO} has GRE in UDP over IPv4 alone\n  hint: --as iproute2 has it over both")
        yield from ("FooOverUDP=yes", "Encapsulation=FooOverUDP", f"FOUDestinationPort={config.encapsulation.dport}")
        if config.encapsulation.sport:
            yield f"FOUSourcePort={config.encapsulation.sport}"


def _keys(config: PlainConfig) -> Iterator[str]:
    if config.ikey is not None and config.ikey == config.okey:
        yield f"Key={config.ikey}"
        return
    for name, key in (("InputKey", config.ikey), ("OutputKey", config.okey)):
        if key is not None:
            yield f"{name}={key}"


def _tunnel_network(tunnel: TunnelDescription) -> Iterator[str]:
    config = tunnel.config
    yield from ("[Match]", f"Name={config.name}")
    yield from ("", "[Link]", f"MTUBytes={tunnel.mtu}", "RequiredForOnline=no")
    yield from ("", "[Network]", *(f"Address={address}" for address in config.address), "IPv6AcceptRA=no")
    for text in config.routes:
        route = words.Route.parse(text)
        yield from _route(route.prefix, route.table, route.metric, route.source)
    for text in config.rules:
        yield from _rule(text)
