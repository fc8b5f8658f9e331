"""
Chapter 01: which peer gets which destination, and whose sources are let in.

The theory is short. An interface has one table: prefix to peer, the longest one wins, a prefix stands at one peer only. The table
is asked twice: for the destination of what leaves, and for the source of what arrives, which must give the peer that it came
from. So everything about a link is a question to two tables: what A has at B, and what B has at A.
"""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.network.findings import Finding
from ginnel.network.host import Peer
from ginnel.network.lint.view import (
    End,
    View,
    covered,
    covers,
    hides,
    host_prefix,
    identity,
    is_at,
    lies_in,
    peer_place,
    routed,
)
from ginnel.units import Prefix

#: So many are looked through faster than they are put into a set.
_FEW = 8


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
                if prefix.length == len(prefix.packed) * 8 and prefix in peer.allowed_ips:
                    continue  # nothing is longer
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
    odd = [peer for peer in view.peers if (owners := view.far(peer)) and not accepts_all(peer, owners[0])]
    for far, seen in view.having(odd):
        for near in view.far(seen):
            if near.host is far.host or (mine := view.at(near).get(far.identity)) is None or _answers_only(near, mine, far):
                continue
            yield from _addresses_not_accepted(near, mine, far, seen)
            yield from _lans_not_accepted(near, mine, far, seen)


def _answers_only(near: End, mine: Peer, far: End) -> bool:
    """Whether a protected origin sends an edge nothing but answers from protected addresses: it has no other route there."""
    edges = {edge for protect in near.host.protects if protect.origin == near.host.name for edge in protect.edges}
    return far.host.name in edges and all(prefix.length == 0 for prefix in mine.allowed_ips)


def accepts_all(peer: Peer, owner: End) -> bool:
    """Whether a peer has all that its owner sends from by itself."""
    prefixes = peer.allowed_ips if len(peer.allowed_ips) <= _FEW else frozenset(peer.allowed_ips)
    return all(host_prefix(packed) in prefixes or covered(prefixes, packed) for packed in owner.addresses) and all(
        lan in prefixes or any(covers(prefix, lan) for prefix in prefixes) for lan in owner.host.lans
    )


def _addresses_not_accepted(near: End, mine: Peer, far: End, seen: Peer) -> Iterator[Finding]:
    for size in sorted({len(prefix.packed) for prefix in mine.allowed_ips}) if mine.allowed_ips else ():
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
                        "a packet for it goes to and fro until its TTL is used up, or stays at a site that has it",
                        f"take {prefix} out on the side that it is not behind of"
                        "; where both sites have it, one of them needs another prefix for the network: "
                        f'lans = [{{ seen = "…", real = "{prefix}" }}]',
                        (near_name, far_name),
                    )


RULES = (duplicates, shadowed, carved, not_accepted, own_lan, loops)
