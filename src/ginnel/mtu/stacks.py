"""
Stacks from plain values: the delivery header, the encapsulations, WireGuard.

    IPv4                20    RFC 791; IPv6 40, RFC 8200
    destination options  8    RFC 2473, 4.1.1: the tunnel encapsulation limit, which Linux adds to ip6gre and ip6tnl
    UDP                  8    RFC 768; under GRE it is RFC 8086
    GRE                  4    RFC 2784; + 4 checksum, + 4 key, + 4 sequence number (RFC 2890)
    Ethernet            14    the inner frame of GRETAP and EoIP, without its checksum; + 4 for an 802.1Q tag
    EoIP                 8    over IPv6 (protocol 97) 2
    WireGuard           32    type 4, receiver 4, counter 8; tag 16. Padding never goes beyond the MTU, so it costs nothing here
    PPPoE                8    RFC 2516: PPPoE 6, PPP 2

The MTU of GRETAP and EoIP is the Ethernet device's: of IP packets, the frame's header is one of the layers.
"""

from __future__ import annotations

from typing import Literal

from ginnel.mtu.layers import Family, Layer, Stack, StackError

PlainKind = Literal["gre", "gretap", "ipip", "sit", "ip6tnl"]

UDP = Layer("UDP", 8)
ETHERNET = Layer("inner Ethernet", 14)
VLAN = Layer("inner VLAN tag", 4)
DESTINATION_OPTIONS = Layer("destination options (encaplimit)", 8)
PPPOE = Layer("PPPoE", 8)
WIREGUARD = (Layer("WireGuard", 16), Layer("tag", 16))

#: What each kind of plain tunnel carries, and over which it exists. IPv4 in IPv6 is called ip6tnl, IPv6 in IPv4 sit.
CARRIES: dict[PlainKind, frozenset[Family]] = {
    "gre": frozenset({4, 6}),
    "gretap": frozenset({4, 6}),
    "ipip": frozenset({4}),
    "sit": frozenset({6}),
    "ip6tnl": frozenset({4, 6}),
}
EXISTS_OVER: dict[PlainKind, frozenset[Family]] = {
    "gre": frozenset({4, 6}),
    "gretap": frozenset({4, 6}),
    "ipip": frozenset({4}),
    "sit": frozenset({4}),
    "ip6tnl": frozenset({6}),
}


def ip(family: Family) -> Layer:
    """The IP header of *family*, without options."""
    return Layer("IPv4", 20, slot="IP") if family == 4 else Layer("IPv6", 40, slot="IP")


def gre(*, key: bool = False, csum: bool = False, seq: bool = False) -> tuple[Layer, ...]:
    """The GRE header, each optional field a layer of its own."""
    fields = (("GRE", True), ("GRE checksum", csum), ("GRE key", key), ("GRE sequence number", seq))
    return tuple(Layer(name, 4) for name, present in fields if present)


def underlay() -> Stack:
    """No tunnel at all: what the link carries."""
    return Stack("link", ())


def plain(
    kind: PlainKind,
    family: Family,
    *,
    key: bool = False,
    csum: bool = False,
    seq: bool = False,
    udp: bool = False,
    encaplimit: bool = False,
    vlan: bool = False,
) -> Stack:
    """
    A tunnel without protection, as this side sends it (okey, ocsum, oseq).

    Args:
        kind: as in the node file.
        family: of the delivery header.
        udp: GRE in UDP.
        encaplimit: with the tunnel encapsulation limit (IPv6 alone).
        vlan: the inner Ethernet frame carries an 802.1Q tag.

    Raises:
        StackError: there is no such tunnel.
    """
    with_gre = kind in {"gre", "gretap"}
    if family not in EXISTS_OVER[kind]:
        other = "ip6tnl carries IPv4 and IPv6 over IPv6" if family == 6 else "over IPv4, ipip carries IPv4 and sit carries IPv6"
        raise StackError(f"{kind} over IPv{family}: there is no such tunnel\n  hint: {other}")
    if not with_gre and (key or csum or seq):
        raise StackError(f"{kind}: key, csum and seq are fields of the GRE header, which {kind} does not have\n  hint: use gre")
    if udp and not with_gre:
        raise StackError(f"{kind} in UDP: only GRE goes in UDP (RFC 8086)\n  hint: use gre-in-udp")
    if encaplimit and family == 4:
        raise StackError(f"{kind}+encaplimit: the encapsulation limit is an option of IPv6\n  hint: over IPv4 leave it out")
    if encaplimit and udp:
        raise StackError("encaplimit: GRE in UDP is not an IPv6 tunnel in the sense of RFC 2473\n  hint: leave it out")
    if vlan and kind != "gretap":
        raise StackError(f"{kind}+vlan: only Ethernet frames carry a VLAN tag\n  hint: use gretap")
    layers = [ip(family)]
    layers += [DESTINATION_OPTIONS] if encaplimit else []
    layers += [UDP] if udp else []
    layers += gre(key=key, csum=csum, seq=seq) if with_gre else []
    layers += [ETHERNET] if kind == "gretap" else []
    layers += [VLAN] if vlan else []
    name = f"{kind}-in-udp" if udp else kind
    options = [
        word for word, on in (("csum", csum), ("key", key), ("seq", seq), ("vlan", vlan), ("encaplimit", encaplimit)) if on
    ]
    return Stack("+".join([name, *options]), tuple(layers), CARRIES[kind], family)


def overhead(
    kind: PlainKind,
    family: Family,
    *,
    key: bool = False,
    csum: bool = False,
    seq: bool = False,
    udp: bool = False,
    encaplimit: bool = False,
) -> int:
    """What a plain tunnel takes from the link's MTU, in bytes; see `plain`."""
    stack = plain(kind, family, key=key, csum=csum, seq=seq, udp=udp, encaplimit=encaplimit)
    return stack.wire_size(0)


def wireguard(family: Family) -> Stack:
    """A WireGuard tunnel over *family*."""
    return Stack("wireguard", (ip(family), UDP, *WIREGUARD), frozenset({4, 6}), family)
