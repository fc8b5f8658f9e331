"""
Chapter 01, one host by itself: what its devices route, what its hooks hide, what a default route leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ginnel.network.findings import Finding
from ginnel.network.host import Host, Peer
from ginnel.network.lint.view import (
    View,
    covers,
    hides,
    host_prefix,
    is_at,
    main_routes,
    peer_place,
    places,
    routed,
    text_of,
)
from ginnel.units import Prefix

_DEFAULT4, _DEFAULT6 = Prefix(bytes(4), 0), Prefix(bytes(16), 0)


def routes_twice(view: View) -> Iterator[Finding]:
    """G0109: two devices of a host with a route for one prefix."""
    for host in view.hosts:
        if len(host.interfaces) + len(host.tunnels) < 2:
            continue
        seen: dict[Prefix, str] = {}
        for interface in host.interfaces:
            prefixes = {prefix for peer in interface.peers for prefix in peer.allowed_ips} if routed(interface) else set()
            for prefix in sorted(prefixes):
                if (other := seen.setdefault(prefix, interface.name)) != interface.name:
                    yield _route_twice(host, prefix, other, interface.name)
        for tunnel in host.tunnels:
            for prefix in dict.fromkeys(main_routes(tunnel)):
                if (other := seen.setdefault(prefix, tunnel.config.name)) != tunnel.config.name:
                    yield _route_twice(host, prefix, other, tunnel.config.name)


def _route_twice(host: Host, prefix: Prefix, first: str, second: str) -> Finding:
    devices = {each.name: each.place for each in host.interfaces} | {each.config.name: each.place for each in host.tunnels}
    return Finding(
        "G0109",
        f"{host.name} has a route to {prefix} by {first} and by {second}",
        tuple(place for name in (first, second) if (place := devices[name]) is not None),
        "the second one cannot be made, or takes what was meant for the first",
        f"leave {prefix} at one of them, or Table = off and rules",
        (host.name,),
    )


def hidden_sites(view: View) -> Iterator[Finding]:
    """G0110: a site that hides itself from one that would know it."""
    for end in view.ends:
        if not end.interface.hooks or not hides(end):
            continue
        for peer in end.interface.peers:
            for far, seen in view.back(end, peer):
                site = next((prefix for prefix in seen.allowed_ips if prefix.length and not is_at(prefix, end)), None)
                lan = next((lan for lan in end.host.lans if any(covers(prefix, lan) for prefix in seen.allowed_ips)), site)
                if lan is not None:
                    yield Finding(
                        "G0110",
                        f"{end.called} hides what it sends to {far.host.name}, which accepts {lan} from it",
                        places(end.interface) + peer_place(far, seen),
                        f"{far.host.name} sees all of {lan} as {', '.join(map(text_of, end.addresses))}",
                        "take the rule that masquerades out of PostUp; it belongs to the device that leads to the internet",
                        (end.host.name, far.host.name),
                    )


def defaults(view: View) -> Iterator[Finding]:
    """G0111, G0112: everything by a peer, and what that leaves out."""
    if not {_DEFAULT4, _DEFAULT6}.intersection(view.holders):
        return
    for end, peer in view.having({id(p): p for d in (_DEFAULT4, _DEFAULT6) for p in view.holders.get(d, ())}.values()):
        name, interface = view.called(peer), end.interface
        hooks = any(re.search(r"\b(route|rule|ip -6|bird|frr)\b", text) for _, text in interface.hooks)
        if interface.table == "off" and not hooks:
            yield Finding(
                "G0111",
                f"{end.called} may send everything to {name}, and with Table = off has no route to it",
                peer_place(end, peer),
                "wg-quick makes no routes; a routing daemon may",
                "",
                (end.host.name, name),
            )
        elif routed(interface) and not any(_DEFAULT6 in each.allowed_ips for each in interface.peers):
            yield Finding(
                "G0112",
                f"{end.called} sends all of IPv4 through {name}, and IPv6 past it",
                peer_place(end, peer),
                "where the host has IPv6, most names have an IPv6 address as well, and that is tried first",
                f"AllowedIPs = {', '.join([*map(str, peer.allowed_ips), '::/0'])}",
                (end.host.name, name),
            )


def nothing_allowed(view: View) -> Iterator[Finding]:
    """G0113: a peer that gets nothing."""
    for end, peer in view.having(peer for peer in view.peers if not peer.allowed_ips and not peer.waiting):
        name = view.called(peer)
        yield Finding(
            "G0113",
            f"{end.called} has no AllowedIPs for {name}",
            peer_place(end, peer),
            "nothing is sent to it, and whatever it sends is dropped, though handshakes succeed",
            _mend_nothing(view, peer),
            (end.host.name, name),
        )


def _mend_nothing(view: View, peer: Peer) -> str:
    addresses = [packed for far in view.far(peer)[:1] for packed in far.addresses]
    return (
        f"AllowedIPs = {', '.join(str(host_prefix(packed)) for packed in addresses)}" if addresses else "add its tunnel address"
    )


RULES = (routes_twice, hidden_sites, defaults, nothing_allowed)
