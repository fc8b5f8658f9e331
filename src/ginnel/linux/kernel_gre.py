"""
The kernel beside us: its own GRE and IP-in-IP, as another way to have a node's tunnels, and as what meets our packets first.

As a backend: the same node file as `ip link add NAME type gre …`, by netlink, with no process. `config.link_words` has the
words of that, which a dry run prints and `up` says for our own devices too.

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ginnel.config.link_words import kernel_kind, link_options
from ginnel.config.node import NodeConfig, PlainConfig
from ginnel.errors import GinnelError
from ginnel.linux.host import Fou, Requests
from ginnel.linux.links import Link, attributes_of
from ginnel.linux.record import FouDone, Process
from ginnel.linux.rtnl import AddLink, attribute, u32

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
    words = ""

    def __init__(self, requests: Requests, fou: Fou) -> None:
        self._requests = requests
        self._fou = fou

    def ports(self, config: NodeConfig) -> list[FouDone]:
        """UDP ports that the kernel has to be told of."""
        found = [FouDone(each.family, each.encapsulation.listen) for each in config.plain if each.encapsulation]
        return list(dict.fromkeys(found))

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

    def carrying(self, config: NodeConfig, tunnels: Sequence[str], directory: Path) -> dict[str, str]:  # noqa: ARG002
        """See `NodeBackend`: what is up carries."""
        return {}


def _possible(tunnel: PlainConfig) -> None:
    """What our engine can do and the kernel cannot; GinnelError names it."""
    reason = ""
    if tunnel.ipsec is not None:
        raise GinnelError(
            f"{tunnel.name}: IPsec is our engine's: the kernel's own is served by other IKE daemons, not by ginnel\n"
            "  hint: leave out --backend kernel, or put this tunnel into a node file of its own"
        )
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


# ---------------------------------------------------------------- beside ours

_MODULES_AT = Path("/sys/module")
#: What answers packets of our kinds, by family: modules (as /sys/module names them) and kinds of devices.
_HANDLERS: dict[tuple[str, int], tuple[tuple[str, ...], tuple[str, ...]]] = {
    ("gre", 4): (("ip_gre",), ("gre", "gretap", "erspan")),
    ("gre", 6): (("ip6_gre",), ("ip6gre", "ip6gretap", "ip6erspan")),
    ("ip", 4): (("tunnel4", "ipip", "sit"), ("ipip", "sit")),
    ("ip", 6): (("tunnel6", "ip6_tunnel"), ("ip6tnl",)),
}
#: Protocol of the delivery header, by what the tunnel is.
_PROTOCOLS = {"gre": (47,), "gretap": (47,), "ipip": (4,), "sit": (41,), "ip6tnl": (4, 41)}
_DESTINATION_OPTIONS = 60
_NAMES = {"gre": "GRE", "ip": "IP in IP"}


@dataclass(frozen=True, slots=True)
class Twin:
    """A tunnel of the kernel that gets the packets of one of ours, too."""

    tunnel: str
    kernel: str


@dataclass(frozen=True, slots=True)
class Beside:
    """
    What the kernel does with packets of our tunnels.

    handlers: by which modules or devices it answers them, a sentence each; empty = it does not. twins: its own tunnels that
    would get them.
    """

    handlers: tuple[str, ...] = ()
    twins: tuple[Twin, ...] = ()


def beside(tunnels: Sequence[PlainConfig], links: Sequence[Link], modules: Path = _MODULES_AT) -> Beside:
    """
    Look for the kernel's own handlers of what *tunnels* send and receive in raw packets.

    Args:
        links: all interfaces of this namespace.
        modules: /sys/module; where it cannot be read, devices tell.
    """
    raw = [tunnel for tunnel in tunnels if _is_raw(tunnel)]
    said = []
    for way, family in dict.fromkeys((_way(tunnel), tunnel.family) for tunnel in raw):
        names, kinds = _HANDLERS[way, family]
        by = [name for name in names if (modules / name).is_dir()] or [link.name for link in links if link.kind in kinds]
        if by:
            said.append(f"this kernel has {_NAMES[way]} of its own over IPv{family} ({', '.join(by[:3])})")
    twins = [Twin(tunnel.name, link.name) for tunnel in raw for link in links if _is_twin(tunnel, link)]
    return Beside(tuple(said), tuple(twins))


def _is_raw(tunnel: PlainConfig) -> bool:
    """Whether its packets lie behind an IP header as they are: not in UDP, and not under ESP."""
    return tunnel.encapsulation is None and tunnel.ipsec is None


def _way(tunnel: PlainConfig) -> str:
    return "gre" if tunnel.kind in {"gre", "gretap"} else "ip"


def _is_twin(tunnel: PlainConfig, link: Link) -> bool:
    """
    Whether the kernel would give *link* a packet that is for *tunnel*.

    A device without ends of its own (gre0 and the like) takes what nobody else takes, and only while it is up; it is no twin.
    """
    if link.kind != kernel_kind(tunnel):
        return False
    gre = tunnel.kind in {"gre", "gretap"}
    which = 0 if gre else 1
    found = dict(attributes_of(link.data))
    local, remote = (_end(found.get(place[which], b"")) for place in (_LOCAL, _REMOTE))
    if remote == "any" and local == "any":
        return False
    if not all("any" in pair or pair[0] == pair[1] for pair in ((local, tunnel.local), (remote, tunnel.remote))):
        return False
    if not gre:
        return True
    has_key = bool(int.from_bytes(found.get(_IFLAGS, b""), "big") & _KEY)
    return (int.from_bytes(found.get(_IKEY, b""), "big") if has_key else None) == tunnel.ikey


def _end(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed)) if len(packed) in {4, 16} and any(packed) else "any"


def drops(tunnels: Sequence[PlainConfig]) -> list[str]:
    """
    Matches of nft on outgoing packets: the kernel's port-unreachable about the packets of our raw tunnels, and nothing else.

    An ICMP error quotes the packet that it is about: its protocol, and that it came from the remote that the error goes to. The
    kernel loads its modules when somebody makes a device of theirs, so the rules are there before they are needed.
    """
    remotes: dict[tuple[int, int], dict[str, None]] = {}
    for tunnel in tunnels:
        if _is_raw(tunnel):
            for protocol in _PROTOCOLS[tunnel.kind]:
                remotes.setdefault((tunnel.family, protocol), {})[tunnel.remote] = None
    return list(_matches(remotes))


def _matches(remotes: dict[tuple[int, int], dict[str, None]]) -> Iterator[str]:
    for (family, protocol), found in remotes.items():
        numeric = [end for end in found if ":" in end or end.replace(".", "").isdigit()]
        # A name's address may change, and "any" has none: then whoever it is about.
        towards = "" if len(numeric) < len(found) else f"{'ip' if family == 4 else 'ip6'} daddr {{ {', '.join(numeric)} }} "
        if family == 4:
            # Quoted behind 8 bytes of ICMP: protocol at 9 of the IPv4 header.
            yield f"{towards}icmp type destination-unreachable icmp code port-unreachable @th,136,8 {protocol}"
        else:
            # Next header at 6 of the IPv6 header; the kernel's own GRE puts Destination Options before it.
            quoted = f"{{ {protocol}, {_DESTINATION_OPTIONS} }}"
            yield f"{towards}icmpv6 type destination-unreachable icmpv6 code port-unreachable @th,112,8 {quoted}"
