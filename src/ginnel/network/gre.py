"""
GRE links: what a network file leaves open about them, decided.

A GRE link is point to point: each end has a device of its own, named after the other end, and an address of the link's own subnet
(IPv4 /30, or /31 where the pool is one; IPv6 /127, RFC 6164). The lower address is that of the node named first.

    ends      the node's own numeric endpoint; "any" where it has none that is known here (behind NAT, or known by its name)
    family    that of the numeric endpoints; IPv4 where both are names
    key       as the file says; allocated where an end is "any", for then addresses alone tell too little
    NAT       has nothing to tell two GRE tunnels apart by, so there GRE goes in UDP; the node behind it speaks first and keeps
              speaking, and the other sends to where that came from
    IPsec     around GRE sees to all that itself: ESP goes in UDP through a NAT, its SPI tells tunnels apart, its peer is watched
    keepalive over bare GRE every 10 s, judged by what comes back; in UDP sent every 10 s and not judged, because what the peer
              sends back is bare GRE, which the way may not let through. To a peer whose kernel has the tunnel none: Linux takes
              what it is to send back for a forgery, as long as accept_local is 0
"""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Literal

from ginnel import mtu
from ginnel.config import layers
from ginnel.config.node import GRE_IN_UDP_PORT, Encapsulation, Keepalive, PlainConfig
from ginnel.network import ipsec
from ginnel.network.model import Gre, Link, Network, Node
from ginnel.units import Prefix

#: Linux's limit of 15 characters.
_DEVICE_PREFIX, _IPSEC_PREFIX, _DEVICE_ROOM = "gre-", "sec-", 11


#: Whose tunnels are the kernel's.
SILENT = frozenset({"networkd", "networkmanager", "netplan", "iproute2", "swanctl", "vyos"})


def gre_of(link: Link) -> Gre:
    """The options of a link that is point to point."""
    if link.gre is None:
        raise ValueError(f"{link.between} is not point to point")
    return link.gre


def numeric_endpoint(node: Node) -> bytes | None:
    """The packed address at which others reach the node; None when it has none, or a name for it."""
    if node.endpoint is None:
        return None
    try:
        return ipaddress.ip_address(node.endpoint.host).packed
    except ValueError:
        return None


def families(network: Network, link: Link) -> frozenset[int]:
    """The families (4, 6) that the link's ends ask for: one, or two that do not go together."""
    found = {len(packed) for name in link.between if (packed := numeric_endpoint(network.node(name))) is not None}
    return frozenset(4 if size == 4 else 6 for size in found) or frozenset({4})


def family(network: Network, link: Link) -> Literal[4, 6]:
    """The family of the link's delivery header."""
    return 6 if families(network, link) == {6} else 4


def needs_key(network: Network, link: Link) -> bool:
    """Whether addresses alone do not tell this tunnel from another of its ends'."""
    return link.kind == "gre" and any(numeric_endpoint(network.node(name)) is None for name in link.between)


def device_name(peer: str, kind: str = "gre") -> str:
    """What the device that leads to *peer* is called: at most 15 characters, readable, the same for ever."""
    prefix = _IPSEC_PREFIX if kind == "ipsec" else _DEVICE_PREFIX
    if len(peer) <= _DEVICE_ROOM:
        return prefix + peer
    mark = hashlib.sha256(peer.encode()).hexdigest()[:4]
    return f"{prefix}{peer[: _DEVICE_ROOM - 5]}.{mark}"


def subnet_length(pool: Prefix) -> int | None:
    """How long the subnets of links in *pool* are; None when the pool has room for none."""
    if pool.version == 6:
        return 127 if pool.length <= 127 else None
    return max(30, pool.length) if pool.length <= 31 else None


def ends_of(subnet: Prefix) -> tuple[bytes, bytes]:
    """The two addresses of a link's subnet, lower first: all of a /31 and /127, the first two hosts of what is larger."""
    size = len(subnet.packed)
    base = int.from_bytes(subnet.packed, "big") + (0 if size * 8 - subnet.length == 1 else 1)
    return base.to_bytes(size, "big"), (base + 1).to_bytes(size, "big")


def in_udp(network: Network, link: Link) -> bool:
    """Whether the link is GRE in UDP: as it says, else where a NAT is on the way."""
    if link.kind != "gre":
        return False
    said = gre_of(link).udp
    return any(network.node(name).behind_nat for name in link.between) if said is None else said


def keepalive_of(network: Network, link: Link, peer: Node) -> Keepalive | None:
    """The keepalives that one end sends; to a peer behind NAT there is nowhere to send them until it has spoken."""
    if peer.behind_nat or link.kind != "gre":
        return None
    udp = in_udp(network, link)
    usual = usual_keepalive(udp or peer.runs in SILENT)
    match gre_of(link).keepalive:
        case "auto":
            return usual if udp or usual.retries else None
        case None:
            return None
        case (interval_s, retries):
            return Keepalive(interval_s, usual.retries if retries is None else retries)


def usual_keepalive(unjudged: bool) -> Keepalive:
    """Every 10 s, which even the meanest NATs (30 s for UDP) take for alive."""
    return Keepalive(retries=0) if unjudged else Keepalive()


def encapsulation_of(network: Network, link: Link, peer: Node) -> Encapsulation | None:
    """GRE in UDP as one end has it: to a peer behind NAT, packets go where its last came from."""
    if not in_udp(network, link):
        return None
    return Encapsulation(dport=0 if peer.behind_nat else GRE_IN_UDP_PORT)


def arithmetic(network: Network, link: Link, key: int | None) -> mtu.Sum:
    """The MTU inside the link, over the smaller underlay of its two ends, layer by layer; of the worst suite under IPsec."""
    options, near, far = gre_of(link), *(network.node(name) for name in link.between)
    config = PlainConfig(
        name=device_name(far.name, link.kind),
        kind="ipsec" if link.kind == "ipsec" else "gre",
        family=family(network, link),
        okey=key,
        ocsum=options.csum,
        oseq=options.seq,
        encapsulation=encapsulation_of(network, link, far),
        ipsec=ipsec.config_of(network, link, near, far),
    )
    underlay = min(near.underlay_mtu, far.underlay_mtu)
    return min((stack.sum(underlay) for stack in layers.stacks(config)), key=lambda each: each.inner)
