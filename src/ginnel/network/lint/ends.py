"""
Chapter 03, WireGuard: the two ends of a link, each of which has to know the other by its key.
"""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.network.findings import Finding
from ginnel.network.host import Peer
from ginnel.network.lint.view import End, View, host_prefix, identity, peer_place, places
from ginnel.network.model import HostPort


def themselves(view: View) -> Iterator[Finding]:
    """G0305, G0306: a peer that is the interface itself, and peers that are one."""
    for end in view.ends:
        interface = end.interface
        known = view.at(end)
        if interface.public_key is not None and (mine := known.get(interface.public_key)) is not None:
            yield Finding(
                "G0305",
                f"{end.called} is a peer of itself",
                peer_place(end, mine),
                "WireGuard leaves a peer with the interface's own key out",
                "take the peer out",
                (end.host.name,),
            )
        if len(known) == len(interface.peers):
            continue
        seen: dict[object, Peer] = {}
        for peer in interface.peers:
            first = seen.setdefault(identity(peer), peer)
            if first is not peer and peer.public_key is not None:
                every = ", ".join(map(str, dict.fromkeys((*first.allowed_ips, *peer.allowed_ips))))
                yield Finding(
                    "G0306",
                    f"{end.called} has {view.called(peer)} twice among its peers",
                    peer_place(end, first) + peer_place(end, peer),
                    "they become one peer, with the AllowedIPs of the last",
                    f"one [Peer] with AllowedIPs = {every}",
                    (end.host.name, view.called(peer)),
                )


def unknown_there(view: View) -> Iterator[Finding]:
    """G0301, G0302: a peer that does not have this host, or has it under another key."""
    numbers = {known: [end.number for end in ends] for known, ends in view.by_identity.items()}
    has = [
        {number for peer in end.interface.peers for number in numbers.get(peer.public_key or peer.name, ())} for end in view.ends
    ]
    told: set[tuple[int, int]] = set()
    for end in view.ends:
        number = end.number
        alike = numbers[end.identity]
        for far_number in has[number]:
            if number in has[far_number] or view.ends[far_number].host is end.host:
                continue
            far = view.ends[far_number]
            peer = view.at(end)[far.identity]
            # One of several interfaces with that key is enough, on either side.
            others = numbers[far.identity]
            if any(each in has[other] for each in alike for other in others):
                continue
            if (end.number, others[0]) in told:
                continue
            told.add((end.number, others[0]))
            yield _mistaken(view, end, peer, far)
    yield from _by_name(view, told)


def _mistaken(view: View, end: End, peer: Peer, far: End) -> Finding:
    """*end* knows *far*, which does not know it: perhaps by a key that it no longer has."""
    guess = next(
        (
            other
            for other in far.interface.peers
            if other.public_key is not None and not view.far(other) and _is_meant(other, end)
        ),
        None,
    )
    nodes = (far.host.name, end.host.name)
    if guess is not None and end.interface.public_key is not None:
        return _mismatch(far, guess, end)
    addresses = ", ".join(str(host_prefix(packed)) for packed in end.addresses)
    return Finding(
        "G0302",
        f"{end.called} has {far.called} as a peer, and {far.host.name} does not have {end.host.name}",
        peer_place(end, peer) + places(far.interface),
        f"{far.host.name} answers no handshake of a key that it does not know",
        f"at {far.host.name}: [Peer] PublicKey = {end.interface.public_key.base64()}, AllowedIPs = {addresses}"
        if end.interface.public_key is not None
        else f"add {end.host.name} to the peers of {far.host.name}",
        nodes,
    )


def _is_meant(peer: Peer, end: End) -> bool:
    """Whether a peer of an unknown key is that host by all other signs."""
    return peer.name == end.host.name or any(host_prefix(packed) in peer.allowed_ips for packed in end.addresses)


def _mismatch(near: End, peer: Peer, meant: End) -> Finding:
    key, real = peer.public_key, meant.interface.public_key
    assert key is not None  # such peers are not told of
    assert real is not None
    return Finding(
        "G0301",
        f"{near.called} has another key for {meant.called} than {meant.host.name} has",
        peer_place(near, peer) + places(meant.interface),
        f"{near.host.name} speaks to {key.base64()[:8]}…, {meant.host.name} is {real.base64()[:8]}…: what is sealed for the "
        f"one, the "
        "other cannot open, and does not answer",
        f"at {near.host.name}: PublicKey = {real.base64()}",
        (near.host.name, meant.host.name),
    )


def _by_name(view: View, told: set[tuple[int, int]]) -> Iterator[Finding]:
    """Peers of keys that no host has, whose name or endpoint is that of a host at hand."""
    at: dict[tuple[str, int], End] = {}
    for peer in view.peers:
        for far in view.far(peer)[:1]:
            if peer.endpoint is not None:
                at.setdefault((peer.endpoint.host, peer.endpoint.port), far)
    unknown = [peer for peer in view.peers if peer.public_key is not None and not view.far(peer)]
    for near, peer in view.having(unknown):
        meant = next((end for end in view.of_host.get(peer.name, ()) if end.interface.public_key is not None), None)
        if meant is None and peer.endpoint is not None:
            meant = at.get((peer.endpoint.host, peer.endpoint.port))
        if (
            meant is None
            or meant.interface.public_key is None
            or meant.host is near.host
            or meant.identity in view.at(near)
            or (meant.number, near.number) in told
        ):
            continue
        if view.at(meant).get(near.identity) is None or not _already(view, near, meant):
            yield _mismatch(near, peer, meant)


def _already(view: View, near: End, meant: End) -> bool:
    """Whether `unknown_there` has told of the two."""
    return near.identity in view.at(meant) and meant.identity not in view.at(near)


def preshared(view: View) -> Iterator[Finding]:
    """G0303, G0304: preshared keys that are not the same."""
    kinds = {peer.psk for peer in view.peers}
    if len(kinds) < 2:
        return
    for end in view.ends:
        for peer in end.interface.peers:
            for far, seen in view.back(end, peer):
                if far.number < end.number or peer.psk == seen.psk:
                    continue
                both = peer_place(end, peer) + peer_place(far, seen)
                nodes = (end.host.name, far.host.name)
                if not peer.psk or not seen.psk:
                    has, lacks = (end, far) if peer.psk else (far, end)
                    yield Finding(
                        "G0303",
                        f"{has.called} has a preshared key for {lacks.called}, which has none for it",
                        both,
                        "the handshake fails at its second message",
                        f"the same PresharedKey at {lacks.host.name}, or take it out at {has.host.name}",
                        nodes,
                    )
                elif "?" not in (peer.psk, seen.psk):
                    yield Finding(
                        "G0304",
                        f"{end.called} and {far.called} have different preshared keys for each other",
                        both,
                        "the handshake fails at its second message",
                        "one key (`wg genpsk`), at both ends",
                        nodes,
                    )


def endpoints(view: View) -> Iterator[Finding]:
    """G0307, G0308: ports that nobody listens on."""
    wrong: dict[int, int] = {}
    for peer in view.peers:
        ends = view.far(peer)
        if peer.endpoint is None or not peer.endpoint.port or not ends or ends[0].host is not ends[-1].host:
            continue
        port, ports = peer.endpoint.port, {end.interface.listen_port for end in ends}
        said = ends[0].host.endpoint
        if port not in ports and not (said is not None and said.port == port):
            wrong[id(peer)] = next((each for each in sorted(ports) if each), 0)
    told: set[tuple[object, HostPort | None]] = set()
    for end, peer in view.having(peer for peer in view.peers if id(peer) in wrong):
        far, port = view.far(peer)[0], wrong[id(peer)]
        if (identity(peer), peer.endpoint) in told:
            continue
        told.add((identity(peer), peer.endpoint))
        assert peer.endpoint is not None  # it has a wrong port
        shown = f"{peer.endpoint.host}:{peer.endpoint.port}"
        both = peer_place(end, peer) + places(far.interface)
        nodes = (end.host.name, far.host.name)
        if port:
            yield Finding(
                "G0307",
                f"{end.called} looks for {far.called} at {shown}, and it listens on port {port}",
                both,
                "unless a router in between forwards the one to the other, nobody answers",
                f"Endpoint = {peer.endpoint.host}:{port}, or ListenPort = {peer.endpoint.port} at {far.host.name}",
                nodes,
            )
        else:
            yield Finding(
                "G0308",
                f"{end.called} looks for {far.called} at {shown}, and it listens on any port",
                both,
                "it takes another port at each start",
                f"ListenPort = {peer.endpoint.port} at {far.host.name}",
                nodes,
            )


RULES = (themselves, unknown_there, preshared, endpoints)
