"""
The kernel beside us: its own GRE and IP-in-IP, as another way to have a node's tunnels, and as what meets our packets first.

As a backend: the same node file as `ip link add NAME type gre …`, by netlink, with no process. `link_words` are the words of
that, which a dry run prints and `up` says for our own devices too.

Beside our own tunnels: where the kernel has a handler for protocol 47 (gre), 4 or 41 (tunnel4, ip6_tunnel, sit) it gets every
packet that our raw sockets get, and one for which it has no tunnel it answers with ICMP port-unreachable, which makes the peer
give us up. `beside` finds that out, by /proc and /sys and the devices of those kinds; `drops` is what keeps such answers from
leaving: matches on ICMP errors to the tunnel's remote that quote its own packets. A tunnel of the kernel with the same ends is
refused by name, since both would get every packet.

Source: net/ipv4/ip_gre.c, net/ipv4/tunnel4.c, net/ipv6/ip6_gre.c; linux/if_tunnel.h.
"""

from __future__ import annotations

import ipaddress
import struct

from ginnel.config.node import NodeConfig, PlainConfig
from ginnel.errors import GinnelError
from ginnel.linux.host import Fou, Requests
from ginnel.linux.record import FouDone, Process
from ginnel.linux.rtnl import AddLink, attribute, u32

_SIX = {"gre": "ip6gre", "gretap": "ip6gretap"}


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
        out += ["mode", "any"] if tunnel.kind == "ip6tnl" else []
    out += ["fwmark", f"{tunnel.fwmark:#x}"] if tunnel.fwmark else []
    if tunnel.encapsulation is not None:
        udp = tunnel.encapsulation
        out += ["encap", "fou", "encap-sport", str(udp.sport or "auto"), "encap-dport", str(udp.dport or "learned")]
        out += ["encap-csum6" if six else "encap-csum"]
    return out


# ---------------------------------------------------------------- as a backend

# Of IFLA_INFO_DATA, for gre and gretap, and (second) for ipip, sit and ip6tnl, where both have them.
_LINK, _LOCAL, _REMOTE, _TTL, _TOS, _PMTUDISC = (1, 1), (6, 2), (7, 3), (8, 4), (9, 5), (10, 10)
_ENCAP_LIMIT, _FLOWINFO, _FLAGS, _FWMARK = (11, 6), (12, 7), (13, 8), (20, 20)
_ENCAP_TYPE, _ENCAP_FLAGS, _ENCAP_SPORT, _ENCAP_DPORT = 14, 15, 16, 17
_IFLAGS, _OFLAGS, _IKEY, _OKEY, _IGNORE_DF, _PROTO = 2, 3, 4, 5, 19, 9
_CSUM, _KEY, _SEQ = 0x8000, 0x2000, 0x1000
_F_IGN_ENCAP_LIMIT, _F_USE_ORIG_TCLASS = 1, 2
_ENCAP_FOU = 1
_ENCAP_FLAG_CSUM, _ENCAP_FLAG_CSUM6 = 1, 2


def _u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes([value]))


def _be16(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">H", value))


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def link_data(tunnel: PlainConfig, device: int) -> bytes:
    """
    The same as `link_options`, as attributes.

    Args:
        device: index of `dev`, 0 without one.
    """
    gre = tunnel.kind in {"gre", "gretap"}
    which = 0 if gre else 1
    out = u32(_LINK[which], device) if device else b""
    for place, end in ((_LOCAL, tunnel.local), (_REMOTE, tunnel.remote)):
        if end != "any":
            out += attribute(place[which], ipaddress.ip_address(end).packed)
    out += _u8(_TTL[which], tunnel.ttl)
    if tunnel.family == 4:
        out += _u8(_TOS[which], 1 if tunnel.tos is None else tunnel.tos)
        out += _u8(_PMTUDISC[which], tunnel.pmtudisc)
        out += _u8(_IGNORE_DF, 1) if tunnel.ignore_df else b""
    else:
        flags = (_F_IGN_ENCAP_LIMIT if tunnel.encaplimit is None else 0) | (_F_USE_ORIG_TCLASS if tunnel.tos is None else 0)
        out += u32(_FLAGS[which], flags) + _u8(_ENCAP_LIMIT[which], tunnel.encaplimit or 0)
        out += _be32(_FLOWINFO[which], (tunnel.tos or 0) << 20 | (tunnel.flowlabel or 0))
    if gre:
        out += _be16(_IFLAGS, _flags(tunnel.icsum, tunnel.ikey is not None, tunnel.iseq))
        out += _be16(_OFLAGS, _flags(tunnel.ocsum, tunnel.okey is not None, tunnel.oseq))
        out += _be32(_IKEY, tunnel.ikey or 0) + _be32(_OKEY, tunnel.okey or 0)
    else:
        # ip6tnl: 0 carries both; ipip and sit carry one each.
        out += _u8(_PROTO, {"ipip": 4, "sit": 41}.get(tunnel.kind, 0))
    out += u32(_FWMARK[which], tunnel.fwmark) if tunnel.fwmark else b""
    if tunnel.encapsulation is not None:
        out += attribute(_ENCAP_TYPE, struct.pack("=H", _ENCAP_FOU))
        out += attribute(_ENCAP_FLAGS, struct.pack("=H", _ENCAP_FLAG_CSUM if tunnel.family == 4 else _ENCAP_FLAG_CSUM6))
        out += _be16(_ENCAP_SPORT, tunnel.encapsulation.sport) + _be16(_ENCAP_DPORT, tunnel.encapsulation.dport)
    return out


def _flags(csum: bool, key: bool, seq: bool) -> int:
    return _CSUM * csum | _KEY * key | _SEQ * seq


class KernelTunnels:
    """`node_bringup.NodeBackend`: the kernel's own devices, no process."""

    name = "kernel"

    def __init__(self, requests: Requests, fou: Fou) -> None:
        self._requests = requests
        self._fou = fou

    def ports(self, config: NodeConfig) -> list[FouDone]:
        """UDP ports that the kernel has to be told of."""
        found = [FouDone(each.family, each.encapsulation.listen) for each in config.plain if each.encapsulation]
        return list(dict.fromkeys(found))

    def steps(self, config: NodeConfig) -> list[str]:
        """See `NodeBackend`."""
        return [link_words(tunnel) for tunnel in config.plain]

    def start(self, config: NodeConfig) -> Process:
        """See `NodeBackend`."""
        for tunnel in config.plain:
            _possible(tunnel)
        return Process()

    def wait(self, config: NodeConfig) -> None:
        """See `NodeBackend`."""
        indexes = {link.name: link.index for link in self._requests.links()}
        made = []
        for tunnel in config.plain:
            data = link_data(tunnel, indexes.get(tunnel.dev, 0))
            made.append(AddLink(tunnel.name, kernel_kind(tunnel), " ".join(link_options(tunnel)), data))
        self._requests.apply(made)


def _possible(tunnel: PlainConfig) -> None:
    """What our engine can do and the kernel cannot; GinnelError names it."""
    reason = ""
    if tunnel.keepalive is not None:
        reason = "the kernel sends no keepalives"
    elif tunnel.tolerant:
        reason = "the kernel is never tolerant"
    elif tunnel.encapsulation is not None and tunnel.encapsulation.dport == 0:
        reason = "the kernel learns no ports"
    elif tunnel.remote != "any" and not tunnel.remote.replace(".", "").isdigit() and ":" not in tunnel.remote:
        reason = "the kernel knows no host names"
    if reason:
        raise GinnelError(f"{tunnel.name}: {reason}\n  hint: leave that out, or leave out --backend kernel")
