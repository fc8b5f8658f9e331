"""
A node's tunnels as a node file: what `ginnel up NAME.toml` runs.

Only what differs from the defaults of a node file is written, under iproute2's names, so the file reads as one written by hand;
reading it back gives the same `PlainConfig`s. What the host has to do beside them (`hostrules`) is its `[node]`, unless the
node's WireGuard file has it. The same description renders to the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from ginnel.config.ipsec_values import READERS
from ginnel.config.node import GRE_IN_UDP_PORT, Encapsulation, IpsecConfig, Keepalive, PlainConfig
from ginnel.config.node_host import HostConfig
from ginnel.errors import UsageError
from ginnel.network.compile import NodeDescription
from ginnel.network.hostrules import host_config
from ginnel.network.render import NONE, File, Secrets, sound

WHERE = "/etc/ginnel/"


#: What the node's file is called; the secrets of its tunnels lie beside it.
NAME = "node.toml"


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """The node file, and the keys of its protected tunnels as far as they are at hand."""
    sound.check(description, secrets)
    if not description.tunnels:
        raise UsageError(f"{description.name} has WireGuard links alone\n  hint: --as wg-quick; `ginnel up` takes that")
    made = [File(NAME, render(description).encode(), WHERE)]
    for tunnel in description.tunnels:
        if tunnel.config.ipsec is not None and tunnel.config.ipsec.psk_file and tunnel.peer in secrets.ipsec:
            content = f"{secrets.ipsec[tunnel.peer]}\n".encode()
            made.append(File(tunnel.config.ipsec.psk_file, content, WHERE, secret=True))
    return tuple(made)


def render(description: NodeDescription) -> str:
    """
    Render the node file of one node.

    Args:
        description: what the node runs; its GRE tunnels are what is rendered.

    Returns:
        the text of NAME.toml; it holds no secret, only the names of the files that do.
    """
    lines = [f"# {description.network}: {description.name}. Rendered by ginnel; changes belong in the network file."]
    if host := list(_host(host_config(description))):
        lines += ["", "[node]", *host]
    for tunnel in description.tunnels:
        lines += ["", *_tunnel(tunnel.config), *_protection(tunnel.config)]
    return "\n".join(lines) + "\n"


def render_tunnels(tunnels: tuple[PlainConfig, ...]) -> str:
    """The same for tunnels alone, whatever describes them."""
    return "\n\n".join("\n".join([*_tunnel(config), *_protection(config)]) for config in tunnels) + "\n"


def _host(host: HostConfig) -> Iterator[str]:
    """`[node]`, as far as there is anything in it."""
    match host.forward:
        case ():
            pass
        case (version,):
            yield f"forward = {_text(f'ipv{version}')}"
        case _:
            yield f"forward = {_flag(True)}"
    if host.sysctls:
        yield f"sysctls = {{ {', '.join(f'{_text(name)} = {_text(value)}' for name, value in host.sysctls)} }}"
    for key, texts in (("addresses", host.addresses), ("proxy", host.proxy)):
        if texts:
            yield f"{key} = [{', '.join(map(_text, texts))}]"
    if host.nft:
        yield f"nft = '''\n{host.nft}'''"


def _tunnel(config: PlainConfig) -> Iterator[str]:
    yield f"[tunnel.{_key(config.name)}]"
    numeric = any(":" in end or end.replace(".", "").isdigit() for end in (config.local, config.remote))
    # Where no address says it, the kind's name says that the delivery header is IPv6.
    sixth = config.kind in ("gre", "gretap") and config.family == 6 and not numeric
    yield f'kind = "{"ip6" if sixth else ""}{config.kind}"'
    for key, value in _values(config):
        yield f"{key} = {value}"


def _values(config: PlainConfig) -> Iterator[tuple[str, str]]:
    default = PlainConfig(name=config.name, kind=config.kind, family=config.family)
    if config.local != "any":
        yield "local", _text(config.local)
    if config.remote != "any":
        yield "remote", _text(config.remote)
    if config.encapsulation is not None:
        yield from _encapsulation(config.encapsulation)
    yield from _both_ways("key", config.ikey, config.okey)
    yield from _both_ways("csum", config.icsum or None, config.ocsum or None)
    yield from _both_ways("seq", config.iseq or None, config.oseq or None)
    if config.ttl != default.ttl:
        yield "ttl", str(config.ttl)
    if config.tos != default.tos:
        yield "tos", _text("inherit") if config.tos is None else str(config.tos)
    for key, flag, usual in (
        ("pmtudisc", config.pmtudisc, default.pmtudisc),
        ("ignore-df", config.ignore_df, default.ignore_df),
        ("tolerant", config.tolerant, default.tolerant),
    ):
        if flag != usual:
            yield key, _flag(flag)
    for key, number in (("encaplimit", config.encaplimit), ("flowlabel", config.flowlabel)):
        if number is not None:
            yield key, str(number)
    if config.dev:
        yield "dev", _text(config.dev)
    if config.fwmark:
        yield "fwmark", str(config.fwmark)
    for key, texts in (("address", config.address), ("routes", config.routes), ("rules", config.rules)):
        if texts:
            yield key, f"[{', '.join(map(_text, texts))}]"
    if config.mtu is not None:
        yield "mtu", str(config.mtu)
    if config.mss_clamp != default.mss_clamp:
        yield "mss-clamp", _flag(config.mss_clamp)
    if config.keepalive is not None:
        yield "keepalive", _keepalive(config.keepalive, Keepalive(retries=0) if config.encapsulation else Keepalive())


#: The fields of `IpsecConfig` that say what a node file leaves to be concluded: from the files given, from the remote.
_CONCLUDED = frozenset({"auth"})


def _protection(config: PlainConfig) -> Iterator[str]:
    """The table of what protects a tunnel, under the keys that a node file has for it."""
    if config.ipsec is None:
        return
    default = IpsecConfig(
        mode="tunnel" if config.kind == "ipsec" else "transport", start="wait" if config.remote == "any" else "start"
    )
    yield ""
    yield f"[tunnel.{_key(config.name)}.ipsec]"
    for key, (field, _) in READERS.items():
        value = getattr(config.ipsec, field)
        if value != getattr(default, field) and field not in _CONCLUDED:
            yield f"{key} = {_value(value)}"


def _value(value: bool | float | str | tuple[str, ...]) -> str:
    match value:
        case bool():
            return _flag(value)
        case str():
            return _text(value)
        case (only,):
            return _text(only)
        case tuple():
            return f"[{', '.join(map(_text, value))}]"
    return str(value)


def _encapsulation(udp: Encapsulation) -> Iterator[tuple[str, str]]:
    yield "encapsulation", _text("udp")
    if udp.listen != GRE_IN_UDP_PORT:
        yield "listen", str(udp.listen)
    if udp.sport != udp.listen:
        yield "encap-sport", str(udp.sport) if udp.sport else _text("auto")
    if udp.dport != GRE_IN_UDP_PORT:
        yield "encap-dport", str(udp.dport) if udp.dport else _text("learned")


def _both_ways(key: str, inward: int | None, outward: int | None) -> Iterator[tuple[str, str]]:
    """One line where both directions agree, else one each."""
    lines = ((key, inward),) if inward == outward else ((f"i{key}", inward), (f"o{key}", outward))
    for name, value in lines:
        if value is not None:
            yield name, _flag(value) if isinstance(value, bool) else str(value)


def _keepalive(keepalive: Keepalive, default: Keepalive) -> str:
    if (keepalive.retries, keepalive.dialect) == (default.retries, default.dialect):
        return str(keepalive.interval_s)
    parts = [f"interval = {keepalive.interval_s}", f"retries = {keepalive.retries}"]
    if keepalive.dialect != default.dialect:
        parts.append(f"dialect = {_text(keepalive.dialect)}")
    return f"{{ {', '.join(parts)} }}"


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _text(value: str) -> str:
    return json.dumps(value)  # what JSON escapes, TOML escapes the same way


def _key(name: str) -> str:
    """A bare key where TOML takes it as one: a dot in it would be a table."""
    bare = all(char.isascii() and (char.isalnum() or char in "-_") for char in name)
    return name if bare else _text(name)
