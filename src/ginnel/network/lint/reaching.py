"""
Chapter 02: who can begin, who stays reachable, and where the outer packets go.

A handshake is begun by an end that knows where the other is. Behind a NAT nobody is found who has not spoken a moment ago. And a
tunnel's own packets need a way that does not lead through the tunnel.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from ginnel.network.findings import Finding
from ginnel.network.host import Host, Peer
from ginnel.network.lint.sizes import OVER_IPV4, OVER_IPV6
from ginnel.network.lint.view import End, View, covered, covers, is_at, lies_in, main_routes, peer_place, places, routed
from ginnel.units import Prefix


def nobody_begins(view: View) -> Iterator[Finding]:
    """G0201: neither end knows where the other is."""
    without = {id(peer) for peer in view.peers if peer.endpoint is None}
    for end in view.ends if without else ():
        for peer in end.interface.peers:
            if id(peer) not in without:
                continue
            backs = list(view.back(end, peer))
            if backs and all(seen.endpoint is None and far.number > end.number for far, seen in backs):
                far, seen = backs[0]
                yield Finding(
                    "G0201",
                    f"neither {end.called} nor {far.called} has an endpoint for the other",
                    peer_place(end, peer) + peer_place(far, seen),
                    "neither can begin: there is never a handshake between them",
                    f"give one of them an Endpoint for the other, or let a host that both reach carry between {end.host.name} "
                    f"and "
                    f"{far.host.name}: its AllowedIPs get the other's addresses",
                    (end.host.name, far.host.name),
                )


def keepalives(view: View) -> Iterator[Finding]:
    """G0202, G0203: behind NAT, and silent."""
    silent = {id(peer) for peer in view.peers if peer.endpoint is not None and not peer.keepalive_s}
    for end in view.ends if silent else ():
        if end.host.behind_nat is False:
            continue
        peers = [peer for peer in end.interface.peers if id(peer) in silent]
        found: list[tuple[Peer, bool]] = []
        for peer in peers:
            backs = [seen for _, seen in view.back(end, peer)]
            hidden = end.host.behind_nat or (bool(backs) and all(seen.endpoint is None for seen in backs))
            site = bool(end.host.lans) or any(
                prefix.length and not is_at(prefix, end) for seen in backs for prefix in seen.allowed_ips
            )
            if hidden and (site or end.host.behind_nat):
                found.append((peer, site))
        if not found:
            continue
        peer, site = found[0]
        names = ", ".join(view.called(each) for each, _ in found[:4]) + (" …" if len(found) > 4 else "")
        yield Finding(
            "G0202" if site else "G0203",
            f"{end.called} is behind NAT and sends no keepalives to {names}",
            peer_place(end, peer),
            "after half a minute without traffic its NAT forgets the mapping, and nothing from outside gets through until it "
            "speaks",
            f"PersistentKeepalive = 25 for {names}",
            (end.host.name, view.called(peer)),
        )


# ---------------------------------------------------------------- where the outer packets go


def number_of(text: str) -> bytes | None:
    """An address packed; None for a name."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return None


def own_tunnel(view: View) -> Iterator[Finding]:
    """G0204, G0205, G0206: endpoints behind tunnels."""
    endpoints: dict[str, bytes] = {}
    for peer in view.peers:
        if peer.endpoint is not None and peer.endpoint.host not in endpoints and (packed := number_of(peer.endpoint.host)):
            endpoints[peer.endpoint.host] = packed
    routes = _routes_of_tunnels(view.hosts)
    suspicious = {
        text
        for text, packed in endpoints.items()
        if any(prefix.length for prefix, _ in view.table.covering(packed)) or any(lies_in(packed, one) for one in routes)
    }
    asking = {id(peer) for peer in view.peers if peer.endpoint is not None and peer.endpoint.host in suspicious}
    for host in view.hosts:
        ways: dict[str, set[str]] = {}
        for end in view.of_host[host.name] if asking else ():
            for peer in end.interface.peers:
                if id(peer) in asking and peer.endpoint is not None:
                    found = _way_of(view, end, peer, endpoints[peer.endpoint.host])
                    if found is not None:
                        ways.setdefault(end.interface.name, set()).add(found[0])
                        yield from _told(view, end, peer, *found)
        yield from _of_tunnels(host)
        for first, others in sorted(ways.items()):
            for second in sorted(others):
                if first < second and first in ways.get(second, set()):
                    yield Finding(
                        "G0206",
                        f"{host.name} finds the peers of {first} through {second}, and those of {second} through {first}",
                        places(*(each for each in host.interfaces if each.name in (first, second))),
                        "neither can begin before the other is up",
                        "use an address outside for one of the endpoints",
                        (host.name,),
                    )


def _way_of(view: View, end: End, peer: Peer, packed: bytes) -> tuple[str, Prefix, Peer | None] | None:
    """The device that packets to an endpoint leave by, where that is a tunnel: its name, the prefix, and whose that is."""
    best: tuple[str, Prefix, Peer | None] | None = None
    for each in view.of_host[end.host.name]:
        if not routed(each.interface):
            continue
        for holder in each.interface.peers:
            for prefix in holder.allowed_ips:
                # wg-quick sees to a default route itself, by a mark
                if prefix.length and lies_in(packed, prefix) and (best is None or prefix.length > best[1].length):
                    best = (each.interface.name, prefix, holder)
    for tunnel in end.host.tunnels:
        for prefix in main_routes(tunnel):
            if prefix.length and lies_in(packed, prefix) and (best is None or prefix.length > best[1].length):
                best = (tunnel.config.name, prefix, None)
    if best is None or any(lies_in(packed, lan) and lan.length >= best[1].length for lan in end.host.lans):
        return None
    assert peer.endpoint is not None  # it is what is asked for
    if any(peer.endpoint.host in text for _, text in end.interface.hooks):
        return None  # a hook makes a way for it
    return best


def _told(view: View, end: End, peer: Peer, device: str, prefix: Prefix, holder: Peer | None) -> Iterator[Finding]:
    assert peer.endpoint is not None  # it is what was asked for
    name, where = view.called(peer), peer.endpoint.host
    if holder is peer:
        yield Finding(
            "G0204",
            f"{end.called} would send its packets to {name}'s endpoint {where} into the tunnel to {name} itself",
            peer_place(end, peer),
            f"{where} lies in {prefix} of its AllowedIPs: every packet would have to be inside of itself, and none leaves",
            f"AllowedIPs without {where}, or PostUp = ip route add {where} by the way outside",
            (end.host.name, name),
        )
    else:
        through = f"{device} to {view.called(holder)}" if holder is not None else device
        yield Finding(
            "G0205",
            f"{end.called} reaches {name}'s endpoint {where} through {through}",
            peer_place(end, peer),
            f"{where} lies in {prefix} there: packets are wrapped twice",
            "",
            (end.host.name, name),
        )
        sizes = {each.name: each.mtu for each in end.host.interfaces} | {t.config.name: t.config.mtu for t in end.host.tunnels}
        inner, outer = end.interface.mtu, sizes[device]
        header = OVER_IPV6 if ":" in where else OVER_IPV4
        if inner is not None and outer is not None and inner > outer - header:
            yield Finding(
                "G0505",
                f"{end.called} has MTU {inner}, and reaches {name} through {device}, whose MTU is {outer}",
                peer_place(end, peer) + places(*(each for each in end.host.interfaces if each.name == device)),
                f"a full packet is {inner + header} bytes when it is wrapped: it is fragmented, or lost",
                f"MTU = {outer - header} for {end.interface.name}",
                (end.host.name, name),
            )


def _routes_of_tunnels(hosts: Iterable[Host]) -> list[Prefix]:
    return [prefix for host in hosts for tunnel in host.tunnels for prefix in main_routes(tunnel)]


def _of_tunnels(host: Host) -> Iterator[Finding]:
    for tunnel in host.tunnels:
        remote = number_of(tunnel.config.remote)
        if remote is None:
            continue
        own = covered(main_routes(tunnel), remote)
        if own is None or not own.length:
            continue
        longer = [
            prefix
            for other in host.tunnels
            if other is not tunnel
            for prefix in main_routes(other)
            if prefix.length > own.length and lies_in(remote, prefix)
        ]
        if not longer and not any(covers(own, lan) and lies_in(remote, lan) for lan in host.lans):
            yield Finding(
                "G0204",
                f"{host.name} would send the packets of {tunnel.config.name} into {tunnel.config.name} itself",
                (tunnel.place,) if tunnel.place is not None else places(host),
                f"its remote {tunnel.config.remote} lies in its own route {own}",
                f"leave {tunnel.config.remote} out of the route, or route it past the tunnel: "
                f"ip route add {tunnel.config.remote} by the way outside",
                tuple(filter(None, (host.name, tunnel.peer))),
            )


def not_forwarding(view: View) -> Iterator[Finding]:
    """G0207: packets for others at a host that passes none on."""
    for peer in view.peers:
        ends = view.far(peer)
        if not ends or ends[0].host.forwards is not False:
            continue
        host = ends[0].host
        own = {packed for end in ends for packed in end.addresses} | set(host.addresses)
        for onward in (prefix for prefix in peer.allowed_ips if not _only(prefix, own)):
            senders = _senders(view, host, peer, onward)
            if senders:
                break
        else:
            continue
        end, found = senders[0]
        yield Finding(
            "G0207",
            f"{end.host.name} sends {onward} through {host.name}, which does not forward",
            peer_place(end, found) + places(host),
            f"{host.name} takes what is for itself, and drops the rest",
            f"at {host.name}: sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
            (host.name, end.host.name),
        )


def _senders(view: View, host: Host, peer: Peer, onward: Prefix) -> list[tuple[End, Peer]]:
    """Who sends to *host* what lies in *onward*, where that is more than its own: its LAN, the internet, another host."""
    found = [(end, each) for end, each in view.having([peer]) if routed(end.interface)]
    if onward.length == 0 or any(covers(onward, lan) or covers(lan, onward) for lan in host.lans):
        return found
    served = [other for other in view.hosts if other is not host and _any_in(other, onward)]
    return [(end, each) for end, each in found if any(other is not end.host for other in served)]


def _only(prefix: Prefix, own: set[bytes]) -> bool:
    return prefix.length == len(prefix.packed) * 8 and prefix.packed in own


def _any_in(host: Host, prefix: Prefix) -> bool:
    return any(lies_in(packed, prefix) for packed in host.addresses) or any(covers(prefix, lan) for lan in host.lans)


RULES = (nobody_begins, keepalives, own_tunnel, not_forwarding)
