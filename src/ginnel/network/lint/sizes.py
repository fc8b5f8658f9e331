"""Chapter 05: what fits through which layer. Outer headers of WireGuard are 60 bytes over IPv4 and 80 over IPv6."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ginnel.config import layers
from ginnel.mtu import MIN_IPV6_MTU, StackError
from ginnel.network.findings import Finding
from ginnel.network.host import Place, Tunnel
from ginnel.network.lint.view import End, View, peer_place, places

OVER_IPV4, OVER_IPV6 = 60, 80
#: What Ethernet carries, where nothing is known of a path.
_USUAL = 1500


def over_path(view: View) -> Iterator[Finding]:
    """G0502, G0503: interfaces whose packets do not fit their way."""
    for end in view.ends:
        interface, host = end.interface, end.host
        size = interface.mtu
        if size is None:
            continue
        if size < MIN_IPV6_MTU and any(len(address.packed) == 16 for address in interface.address):
            yield Finding(
                "G0502",
                f"{end.called} has MTU {size} and an IPv6 address",
                places(interface),
                f"IPv6 needs {MIN_IPV6_MTU}: Linux takes the address off",
                f"MTU = {MIN_IPV6_MTU} or more, or no IPv6 address",
                (host.name,),
            )
        underlay = host.underlay_mtu or _USUAL
        if size <= underlay - OVER_IPV6:
            continue
        header = OVER_IPV4 if _over_ipv4(end) else OVER_IPV6
        # Nothing is known of the path: what fits over IPv4 is let pass.
        most = underlay - (header if host.underlay_mtu is not None else OVER_IPV4)
        if size > most and (host.underlay_mtu is not None or size <= _USUAL):
            yield Finding(
                "G0503",
                f"{end.called} has MTU {size}, and at most {most} fits into {underlay}",
                places(interface),
                f"a full packet is {size + header} bytes when it is wrapped: it is fragmented, or lost where fragments are",
                f"MTU = {most}",
                (host.name,),
            )


def _over_ipv4(end: End) -> bool:
    """Whether every endpoint that is known is a number of IPv4's."""
    hosts = {peer.endpoint.host for peer in end.interface.peers if peer.endpoint is not None}
    return bool(hosts) and all(_is_ipv4(host) for host in hosts)


def _is_ipv4(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False


def differing(view: View) -> Iterator[Finding]:
    """G0503, G0504: the two ends of a link."""
    sizes = {end.interface.mtu for end in view.ends}
    if len(sizes) < 2:
        return
    for end in view.ends:
        if end.interface.mtu is None:
            continue
        for peer in end.interface.peers if len(end.interface.peers) <= _FEW else ():
            for far, seen in view.back(end, peer):
                size, other = end.interface.mtu, far.interface.mtu
                if other is None or other >= size:
                    continue
                known = far.host.underlay_mtu
                if known is not None and size + OVER_IPV4 > known:
                    yield Finding(
                        "G0503",
                        f"{end.called} has MTU {size}, and the way to {far.called} carries {known}",
                        peer_place(end, peer) + places(far.interface),
                        f"its full packets are at least {size + OVER_IPV4} bytes when they are wrapped",
                        f"MTU = {other} at {end.host.name} as well",
                        (end.host.name, far.host.name),
                    )
                elif known is None and len(end.interface.peers) == 1:
                    yield Finding(
                        "G0504",
                        f"{end.called} has MTU {size}, {far.called} has {other}",
                        places(end.interface) + places(far.interface) or peer_place(far, seen),
                        f"what {end.host.name} sends in packets of more than {other} bytes is up to path MTU discovery",
                        f"MTU = {other} at {end.host.name}",
                        (end.host.name, far.host.name),
                    )


#: A host with more peers than this has an MTU that suits most of them.
_FEW = 64


def tunnels(view: View) -> Iterator[Finding]:
    """G0502, G0503: GRE, IP in IP and IPsec."""
    for host in view.hosts:
        for tunnel in host.tunnels:
            size = tunnel.config.mtu
            if size is None:
                continue
            if size < MIN_IPV6_MTU and any(":" in text for text in tunnel.config.address):
                yield Finding(
                    "G0502",
                    f"{host.name}'s {tunnel.config.name} has MTU {size} and an IPv6 address",
                    _place(tunnel),
                    f"IPv6 needs {MIN_IPV6_MTU}: Linux takes the address off",
                    f"mtu = {MIN_IPV6_MTU} or more, or no IPv6 address",
                    (host.name,),
                )
            underlay = host.underlay_mtu or _USUAL
            try:
                most = min(stack.sum(underlay).inner for stack in layers.stacks(tunnel.config))
            except StackError:
                continue  # of a proposal that is not known here, nobody knows what it adds
            if size > most and (tunnel.config.pmtudisc or tunnel.config.family == 6):
                yield Finding(
                    "G0503",
                    f"{host.name}'s {tunnel.config.name} has MTU {size}, and at most {most} fits into {underlay}",
                    _place(tunnel),
                    "wrapped, its full packets are larger than the way, and must not be fragmented",
                    f"mtu = {most}, or none: then it is computed",
                    tuple(filter(None, (host.name, tunnel.peer))),
                )


def _place(tunnel: Tunnel) -> tuple[Place, ...]:
    return (tunnel.place,) if tunnel.place is not None else ()


RULES = (over_path, differing, tunnels)
