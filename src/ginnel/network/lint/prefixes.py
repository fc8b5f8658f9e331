"""
Chapter 01: which peer gets which destination, and whose sources are let in.

The theory is short. An interface has one table: prefix to peer, the longest one wins, a prefix stands at one peer only. The table
is asked twice: for the destination of what leaves, and for the source of what arrives, which must give the peer that it came
from. So everything about a link is a question to two tables: what A has at B, and what B has at A.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ginnel.network.findings import Finding
from ginnel.network.host import Host, Peer
from ginnel.network.lint.view import (
    End,
    View,
    covered,
    covers,
    host_prefix,
    identity,
    is_at,
    lies_in,
    main_routes,
    peer_place,
    places,
    routed,
    text_of,
)
from ginnel.units import Prefix

_DEFAULT4, _DEFAULT6 = Prefix(bytes(4), 0), Prefix(bytes(16), 0)


def duplicates(view: View) -> Iterator[Finding]:
    """G0102: one prefix at two peers of an interface."""
    suspects = {id(peer) for peers in view.contested.values() for peer in peers}
    for end in view.ends if suspects else ():
        seen: dict[Prefix, Peer] = {}
        for peer in end.interface.peers:
            if id(peer) not in suspects:
                continue
            for prefix in peer.allowed_ips:
                first = seen.get(prefix)
                if first is not None and identity(first) != identity(peer):
                    yield _duplicate(view, end, prefix, first, peer)
                seen[prefix] = peer


def _duplicate(view: View, end: End, prefix: Prefix, first: Peer, last: Peer) -> Finding:
    loser, winner = view.called(first), view.called(last)
    return Finding(
        "G0102",
        f"{end.called} has {prefix} at {loser} and at {winner}",
        peer_place(end, first) + peer_place(end, last),
        f"a prefix stands at one peer: {winner}, which comes last, gets it; what is for {loser} goes to {winner}, and what "
        f"{loser} sends from there is dropped on arrival, though its handshakes succeed",
        f"leave {prefix} out at {loser} or at {winner}",
        (end.host.name, loser, winner),
    )


def shadowed(view: View) -> Iterator[Finding]:
    """G0101: what is at one peer lies in a longer prefix of another one."""
    for peer in view.peers:
        for far in view.far(peer)[:1]:
            own = (*map(host_prefix, far.addresses), *far.host.lans)
            for prefix in own:
                mine = covered(peer.allowed_ips, prefix.packed)
                if mine is None:
                    continue
                thieves = [
                    (longer, other)
                    for longer in (*_around(view, prefix, mine.length), *view.inside(prefix))
                    if longer.length > mine.length
                    for other in view.holders[longer]
                    if identity(other) != identity(peer)
                ]
                yield from _shadows(view, peer, prefix, mine, thieves)


def _around(view: View, prefix: Prefix, length: int) -> Iterator[Prefix]:
    """Prefixes that anybody has, longer than *length*, that cover *prefix* and are not it."""
    return (found for found, _ in view.table.covering(prefix.packed, prefix.length - 1) if found.length > length)


def _shadows(view: View, peer: Peer, own: Prefix, mine: Prefix, thieves: list[tuple[Prefix, Peer]]) -> Iterator[Finding]:
    if not thieves:
        return
    with_peer = {end.number for end, _ in view.having([peer])}
    said: set[int] = set()
    for longer, thief in thieves:
        for end, _ in view.having([thief]):
            if end.number not in with_peer or end.number in said:
                continue
            said.add(end.number)
            name, other = view.called(peer), view.called(thief)
            part = own if covers(longer, own) else longer
            yield Finding(
                "G0101",
                f"{end.called} has {mine} at {name}, but {longer} in it at {other}; {part} is {name}'s",
                peer_place(end, peer) + peer_place(end, thief),
                f"the longer prefix wins: what is for {part} goes to {other}, and what {name} sends from there is dropped as "
                f"forged",
                f"take {longer} out of {other}'s AllowedIPs, or add {part} to {name}'s",
                (end.host.name, name, other),
            )


def carved(view: View) -> Iterator[Finding]:
    """G0103: the same of peers that nothing more is known of; right where the part is behind the other one."""
    unknown = {id(peer) for peer in view.peers if not view.far(peer)}
    for end in view.ends if unknown else ():
        peers = [peer for peer in end.interface.peers if peer.allowed_ips]
        for peer in peers:
            if id(peer) not in unknown:
                continue
            for prefix in peer.allowed_ips:
                if prefix.length in (0, 1) or any(lies_in(packed, prefix) for packed in end.addresses):
                    continue  # a way to everybody, with exceptions
                for other in peers:
                    longer = next((one for one in other.allowed_ips if one.length > prefix.length and covers(prefix, one)), None)
                    if other is not peer and longer is not None:
                        yield Finding(
                            "G0103",
                            f"{end.called} has {prefix} at {view.called(peer)}, and {longer} in it at {view.called(other)}",
                            peer_place(end, peer) + peer_place(end, other),
                            f"the longer prefix wins: {longer} goes to {view.called(other)}",
                            "",
                            (end.host.name,),
                        )


def not_accepted(view: View) -> Iterator[Finding]:
    """G0104, G0105: the sources that a host sends from, among the AllowedIPs that the other side has for it."""
    odd = [peer for peer in view.peers if (owners := view.far(peer)) and not _accepts_all(peer, owners[0])]
    for far, seen in view.having(odd):
        for near in view.far(seen):
            if near.host is far.host or (mine := view.at(near).get(far.identity)) is None:
                continue
            yield from _addresses_not_accepted(near, mine, far, seen)
            yield from _lans_not_accepted(near, mine, far, seen)


def _accepts_all(peer: Peer, owner: End) -> bool:
    prefixes = frozenset(peer.allowed_ips)
    return all(host_prefix(packed) in prefixes or covered(prefixes, packed) for packed in owner.addresses) and all(
        lan in prefixes or any(covers(prefix, lan) for prefix in prefixes) for lan in owner.host.lans
    )


def _addresses_not_accepted(near: End, mine: Peer, far: End, seen: Peer) -> Iterator[Finding]:
    for size in sorted({len(prefix.packed) for prefix in mine.allowed_ips}):
        sources = [packed for packed in near.addresses if len(packed) == size]
        if not sources or any(covered(seen.allowed_ips, packed) for packed in sources):
            continue
        source = host_prefix(sources[0])
        has = ", ".join(map(str, seen.allowed_ips[:4])) or "nothing"
        yield Finding(
            "G0104",
            f"{far.called} does not accept {source.address} from {near.called}",
            peer_place(far, seen) + peer_place(near, mine),
            f"{near.host.name} sends from {source.address}, and {far.host.name} takes from it only {has}: it decrypts the "
            f"packets, and "
            "drops them",
            f"at {far.host.name}, in the peer {near.host.name}: AllowedIPs = "
            f"{', '.join([*map(str, seen.allowed_ips), str(source)])}",
            (far.host.name, near.host.name),
        )


def _lans_not_accepted(near: End, mine: Peer, far: End, seen: Peer) -> Iterator[Finding]:
    if not mine.allowed_ips or hides(near):
        return
    for lan in near.host.lans:
        if any(covers(prefix, lan) for prefix in seen.allowed_ips):
            continue
        if not any(len(prefix.packed) == len(lan.packed) for prefix in mine.allowed_ips):
            continue
        yield Finding(
            "G0105",
            f"{far.called} does not accept {near.host.name}'s LAN {lan} from it",
            peer_place(far, seen) + peer_place(near, mine),
            f"packets from {lan} that {near.host.name} sends to {far.host.name} are decrypted there, and dropped",
            f"at {far.host.name}, in the peer {near.host.name}: AllowedIPs = "
            f"{', '.join([*map(str, seen.allowed_ips), str(lan)])}",
            (far.host.name, near.host.name),
        )


def own_lan(view: View) -> Iterator[Finding]:
    """G0107: one's own LAN behind somebody else."""
    for host in view.hosts:
        for lan in host.lans:
            suspects = {id(peer) for prefix in view.inside(lan) for peer in view.holders[prefix]}
            for end in view.of_host[host.name] if suspects else ():
                for peer in end.interface.peers:
                    if id(peer) not in suspects or not routed(end.interface):
                        continue
                    prefix = next(prefix for prefix in peer.allowed_ips if covers(lan, prefix))
                    name = view.called(peer)
                    yield Finding(
                        "G0107",
                        f"{end.called} has its own LAN {lan} at {name}: {prefix}",
                        peer_place(end, peer),
                        f"a route into the tunnel is made for what is next door, and {name} may send under the LAN's addresses",
                        f"take {prefix} out of the AllowedIPs of {name} here; at {name} it belongs to those of {host.name}",
                        (host.name, name),
                    )


def loops(view: View) -> Iterator[Finding]:
    """G0108: two hosts that have one prefix at each other."""
    suspects = {id(peer) for peers in view.contested.values() for peer in peers}
    for end in view.ends if suspects else ():
        for peer in end.interface.peers:
            if id(peer) not in suspects:
                continue
            for far, seen in view.back(end, peer):
                if far.number < end.number or not (routed(end.interface) and routed(far.interface)):
                    continue
                for prefix in sorted(set(peer.allowed_ips).intersection(seen.allowed_ips)):
                    if is_at(prefix, end) or is_at(prefix, far):
                        continue
                    near_name, far_name = end.host.name, far.host.name
                    yield Finding(
                        "G0108",
                        f"{end.called} has {prefix} at {far_name}, and {far.called} has it at {near_name}",
                        peer_place(end, peer) + peer_place(far, seen),
                        "a packet for it goes to and fro between the two until its TTL is used up",
                        f"take {prefix} out on the side that it is not behind of",
                        (near_name, far_name),
                    )


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


_HIDING = re.compile(r"\b(masquerade|snat)\b", re.IGNORECASE)


def hides(end: End) -> bool:
    """Whether a hook hides what leaves into this tunnel."""
    into = re.compile(rf"(?:-o\s+|--out-interface[ =]|oifname\s+\"?)(?:%i|{re.escape(end.interface.name)})(?![\w-])")
    return any(_HIDING.search(text) and into.search(text) for name, text in end.interface.hooks if name in ("PreUp", "PostUp"))


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


RULES = (
    duplicates,
    shadowed,
    carved,
    not_accepted,
    own_lan,
    loops,
    routes_twice,
    hidden_sites,
    defaults,
    nothing_allowed,
)
