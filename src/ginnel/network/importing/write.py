"""
A network as the text of a network file, for people to go on with: only what differs from the defaults, in the order in which
it is read, with comments where something had to be guessed.

What is written reads back as the same network (`parse_network`); names, prefixes and numbers have their own narrow forms, and all
other text stands in TOML strings.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping

from ginnel.network import model
from ginnel.network.model import Gre, HostPort, Ipsec, Link, LinkEnd, Network, Node
from ginnel.units import Prefix

_HOOKS = {"PreUp": "pre-up", "PostUp": "post-up", "PreDown": "pre-down", "PostDown": "post-down"}
_WIDTH = 120


def network_text(network: Network, comments: Mapping[str, str], head: Iterable[str] = ()) -> str:
    """
    The text of *network*.

    Args:
        network: what is written.
        comments: by a node's name, what stands above its table.
        head: lines above all.
    """
    lines = [f"# {line}" if line else "#" for line in head]
    lines += ["", *_network(network)]
    for node in network.nodes:
        comment = comments.get(node.name)
        lines += ["", *([f"# {comment}"] if comment else []), *_node(node)]
    lines += [line for link in network.links for line in ("", *_link(link, network))]
    return "\n".join(lines).lstrip("\n") + "\n"


def _network(network: Network) -> Iterator[str]:
    yield "[network]"
    yield f"name = {_text(network.name)}"
    yield f"pool = {_list(network.pool)}"
    if network.kind != "wireguard":
        yield f"kind = {_text(network.kind)}"
    yield f"shape = {_text(network.shape)}"
    if network.hubs:
        yield f"hub = {_text(network.hubs[0]) if len(network.hubs) == 1 else _list(network.hubs)}"
    if network.interface != "wg0":
        yield f"interface = {_text(network.interface)}"
    if network.listen_port != model.DEFAULT_LISTEN_PORT:
        yield f"listen_port = {network.listen_port}"
    if network.mtu is not None:
        yield f"mtu = {network.mtu}"
    if network.psk != "none":
        yield f"psk = {_text(network.psk)}"


def _node(node: Node) -> Iterator[str]:
    yield f"[node.{node.name}]"
    if node.endpoint is not None:
        yield f"endpoint = {_text(endpoint_text(node.endpoint))}"
    if node.lans:
        yield f"lans = {_list(node.lans)}"
    if node.relay:
        yield "relay = true"
    if node.runs != "ginnel":
        yield f"runs = {_text(node.runs)}"
    if node.exit is not None:
        yield f"exit = {_text(node.exit)}"
    if node.dns:
        yield f"dns = {_list(node.dns)}"
    if node.search:
        yield f"search = {_list(node.search)}"
    if node.address:
        lengths = node.lengths or (None,) * len(node.address)
        words = [
            str(ipaddress.ip_address(packed)) + (f"/{length}" if length is not None else "")
            for packed, length in zip(node.address, lengths, strict=True)
        ]
        yield f"address = {_list(words)}"
    if node.listen_port is not None:
        yield f"listen_port = {node.listen_port}"
    if node.underlay_mtu != model.DEFAULT_UNDERLAY_MTU:
        yield f"underlay_mtu = {node.underlay_mtu}"
    if node.interface is not None:
        yield f"interface = {_text(node.interface)}"
    if node.mtu is not None:
        yield f"mtu = {node.mtu}"
    if node.keepalive_s is not None:
        yield f"keepalive = {node.keepalive_s}"
    if node.table != "auto":
        yield f"table = {_text(node.table)}"
    if node.fwmark:
        yield f'fwmark = "0x{node.fwmark:x}"'
    if node.hooks:
        yield f"[node.{node.name}.hooks]"
        for key, word in _HOOKS.items():
            commands = [command for hook, command in node.hooks if hook == key]
            if commands:
                yield f"{word} = {_list(commands)}"


def _link(link: Link, network: Network) -> Iterator[str]:
    yield "[[link]]"
    yield f"between = {_list(link.between)}"
    if link.kind != network.kind:
        yield f"kind = {_text(link.kind)}"
    if link.psk is not None:
        yield f"psk = {_flag(link.psk)}"
    if link.subnet:
        yield f"subnet = {_list(link.subnet)}"
    if link.gre is not None:
        yield from _gre(link.gre, network.gre)
    if link.ipsec is not None and link.ipsec != network.ipsec:
        yield f"ipsec = {{ {', '.join(_ipsec(link.ipsec))} }}"
    for name, end in zip(link.between, link.ends, strict=True):
        words = ", ".join(_end(end))
        if words:
            yield f"ends.{name} = {{ {words} }}"


def _end(end: LinkEnd) -> Iterator[str]:
    if end.allowed is not None:
        yield f"allowed-ips = {_list(end.allowed, wide=True)}"
    if end.endpoint is not None:
        yield f"endpoint = {_text(endpoint_text(end.endpoint)) if end.endpoint.host else 'false'}"
    if end.keepalive_s is not None:
        yield f"keepalive = {end.keepalive_s}"
    if end.device is not None:
        yield f"device = {_text(end.device)}"


def _gre(gre: Gre, usual: Gre) -> Iterator[str]:
    if gre.key is not None and gre.key != usual.key:
        yield f"key = {gre.key}"
    for word, flag, other in (
        ("csum", gre.csum, usual.csum),
        ("seq", gre.seq, usual.seq),
        ("pmtudisc", gre.pmtudisc, usual.pmtudisc),
        ("ignore-df", gre.ignore_df, usual.ignore_df),
        ("routes", gre.routes, usual.routes),
    ):
        if flag != other:
            yield f"{word} = {_flag(flag)}"
    if gre.ttl != usual.ttl:
        yield f"ttl = {gre.ttl or _text('inherit')}"
    if gre.tos != usual.tos:
        yield f"tos = {_text('inherit') if gre.tos is None else gre.tos}"
    if gre.udp is not None:
        yield f"encapsulation = {_text('udp' if gre.udp else 'none')}"
    match gre.keepalive:
        case None:
            yield "keepalive = 0"
        case (interval, retries) if retries is not None:
            yield f"keepalive = {{ interval = {interval}, retries = {retries} }}"
        case (interval, _):
            yield f"keepalive = {interval}"
    if gre.mtu is not None:
        yield f"mtu = {gre.mtu}"


def _ipsec(ipsec: Ipsec) -> Iterator[str]:
    usual = Ipsec()
    if ipsec.mode != usual.mode:
        yield f"mode = {_text(ipsec.mode)}"
    if ipsec.auth != usual.auth:
        yield f"auth = {_text(ipsec.auth)}"
    if ipsec.ike:
        yield f"ike = {_list(ipsec.ike, wide=True)}"
    if ipsec.esp:
        yield f"esp = {_list(ipsec.esp, wide=True)}"
    if ipsec.encapsulation != usual.encapsulation:
        yield f"encapsulation = {_text(ipsec.encapsulation)}"
    for word, number, other in (
        ("rekey", ipsec.rekey_s, usual.rekey_s),
        ("ike-rekey", ipsec.ike_rekey_s, usual.ike_rekey_s),
        ("dpd", ipsec.dpd_s, usual.dpd_s),
    ):
        if number != other:
            yield f"{word} = {number}"


def endpoint_text(endpoint: HostPort) -> str:
    """As the network file has it."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host and endpoint.port else endpoint.host
    return f"{host}:{endpoint.port}" if endpoint.port else host


def _list(items: Iterable[str | Prefix], *, wide: bool = False) -> str:
    """On one line where that fits, or where it must be (in an inline table)."""
    words = [_text(str(item)) for item in items]
    line = f"[{', '.join(words)}]"
    if wide or len(line) <= _WIDTH:
        return line
    return "[\n" + "".join(f"    {word},\n" for word in words) + "]"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # what else JSON escapes, TOML escapes the same way


def _flag(value: bool) -> str:
    return "true" if value else "false"
