"""
A GRE or IP-in-IP tunnel in the words of `ip link add`: what a dry run prints, and what is rendered for hosts without ginnel.

Options at the kernel's default are left out; over IPv6 some words and some defaults are others.

Source: ip-link(8); iproute2's ip/link_gre.c, link_gre6.c, link_iptnl.c, link_ip6tnl.c.
"""

from __future__ import annotations

from ginnel.config.node import PlainConfig

_SIX = {"gre": "ip6gre", "gretap": "ip6gretap"}
#: Without a word iproute2's tunnels of these kinds carry whatever comes.
_MODES = {"ipip": "ipip", "sit": "ip6ip", "ip6tnl": "any"}


def kernel_kind(tunnel: PlainConfig) -> str:
    """What the kernel calls this kind of device."""
    return _SIX.get(tunnel.kind, tunnel.kind) if tunnel.family == 6 else tunnel.kind


def link_words(tunnel: PlainConfig) -> str:
    """`ip link add …` for this tunnel."""
    return " ".join(["ip link add", tunnel.name, "type", kernel_kind(tunnel), *link_options(tunnel)])


def link_options(tunnel: PlainConfig) -> list[str]:
    """Its options as `ip` takes them, without those that are at the kernel's default."""
    out = ["local", tunnel.local, "remote", tunnel.remote]
    out += ["dev", tunnel.dev] if tunnel.dev else []
    six = tunnel.family == 6
    for name, ours, theirs in (
        ("key", tunnel.ikey, tunnel.okey),
        ("csum", tunnel.icsum, tunnel.ocsum),
        ("seq", tunnel.iseq, tunnel.oseq),
    ):
        for word, value in ((name, ours),) if ours == theirs else ((f"i{name}", ours), (f"o{name}", theirs)):
            if value is True:
                out += [word]
            elif value is not None and value is not False:
                out += [word, str(value)]
    if tunnel.ttl:
        out += ["hoplimit" if six else "ttl", str(tunnel.ttl)]
    elif six:
        out += ["hoplimit", "inherit"]
    if tunnel.tos is None:
        out += ["tclass" if six else "tos", "inherit"]
    elif tunnel.tos:
        out += ["tclass" if six else "tos", f"{tunnel.tos:#x}"]
    out += ["nopmtudisc"] if not tunnel.pmtudisc else []
    out += ["ignore-df"] if tunnel.ignore_df else []
    if six:
        out += ["encaplimit", "none" if tunnel.encaplimit is None else str(tunnel.encaplimit)]
        out += ["flowlabel", f"{tunnel.flowlabel:#x}"] if tunnel.flowlabel is not None else []
    mode = _MODES.get(tunnel.kind)
    out += ["mode", mode] if mode else []
    out += ["fwmark", f"{tunnel.fwmark:#x}"] if tunnel.fwmark else []
    if tunnel.encapsulation is not None:
        udp = tunnel.encapsulation
        out += ["encap", "fou", "encap-sport", str(udp.sport or "auto"), "encap-dport", str(udp.dport or "learned")]
        out += ["encap-udp6-csum" if six else "encap-csum"]
    return out
