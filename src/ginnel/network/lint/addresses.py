"""Chapter 04: addresses and ports that two have, or that nobody gets to."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ginnel.network.findings import Finding
from ginnel.network.host import Host, InterfaceAddress, Peer, Place
from ginnel.network.lint.view import Identity, View, covers, identity, lies_in, link_local, peer_place, places, text_of
from ginnel.network.prefix_table import PrefixTable
from ginnel.units import Prefix


def addresses(view: View) -> Iterator[Finding]:
    """G0401: one address inside the tunnels at two hosts."""
    owner: dict[bytes, Host] = {}
    told: set[tuple[str, str]] = set()
    for host in view.hosts:
        for packed in host.addresses:
            first = owner.setdefault(packed, host)
            if first is host or link_local(packed) or (first.name, host.name) in told:
                continue
            told.add((first.name, host.name))
            yield Finding(
                "G0401",
                f"{first.name} and {host.name} both have the address {text_of(packed)}",
                _device_places(first, packed) + _device_places(host, packed),
                "packets for it go to one of them, and answers to the other get lost",
                f"another Address at {host.name}, and in the AllowedIPs that its peers have for it",
                (first.name, host.name),
            )


def _device_places(host: Host, packed: bytes) -> tuple[Place, ...]:
    return places(*(each for each in host.interfaces if any(address.packed == packed for address in each.address))) or places(
        host
    )


def lans(view: View) -> Iterator[Finding]:
    """G0402, G0405: LANs that overlap one another, or the addresses of the tunnels."""
    owned = sorted(
        ((lan, number) for number, host in enumerate(view.hosts) for lan in host.lans),
        key=lambda item: (len(item[0].packed), item[0].packed, item[0].length),
    )
    around: list[tuple[Prefix, int]] = []
    for lan, number in owned:
        while around and not covers(around[-1][0], lan):
            around.pop()
        if around and around[-1][1] != number:
            other, first = around[-1][0], view.hosts[around[-1][1]]
            host = view.hosts[number]
            yield Finding(
                "G0402",
                f"{host.name}'s LAN {lan} overlaps {first.name}'s {other}",
                places(host, first),
                "a packet for both has one way to go",
                f"another range for one of them, or map it one to one: known as another /{lan.length}",
                (host.name, first.name),
            )
        around.append((lan, number))
    table: PrefixTable[Host] = PrefixTable()
    for host in view.hosts:
        for lan in host.lans:
            table.add(lan, host)
    told: set[tuple[str, str]] = set()
    for host in view.hosts if owned else ():
        for packed in host.addresses:
            found = table.longest(packed)
            if found is None or found[1] is host or (found[1].name, host.name) in told:
                continue
            told.add((found[1].name, host.name))
            yield Finding(
                "G0405",
                f"{found[1].name}'s LAN {found[0]} holds {host.name}'s tunnel address {text_of(packed)}",
                places(found[1], host),
                f"hosts in that LAN look for {text_of(packed)} next door",
                "another range for the LAN, or for the tunnels",
                (found[1].name, host.name),
            )


def ports(view: View) -> Iterator[Finding]:
    """G0403: two interfaces of a host on one port."""
    for host in view.hosts:
        if len(host.interfaces) < 2:
            continue
        first: dict[int, str] = {}
        for interface in host.interfaces:
            other = first.setdefault(interface.listen_port, interface.name) if interface.listen_port else interface.name
            if other != interface.name:
                yield Finding(
                    "G0403",
                    f"{host.name} listens on port {interface.listen_port} with {other} and with {interface.name}",
                    places(*(each for each in host.interfaces if each.name in (other, interface.name))),
                    "the second one does not come up",
                    f"another ListenPort for {interface.name}, and in the endpoints that its peers have",
                    (host.name,),
                )


def endpoints(view: View) -> Iterator[Finding]:
    """G0309, G0404: one public address and port, and two who are to be there."""
    seen: dict[tuple[str, int], list[Peer]] = {}
    for peer in view.peers:
        if peer.endpoint is not None and peer.endpoint.port:
            seen.setdefault((peer.endpoint.host, peer.endpoint.port), []).append(peer)
    for (host, port), objects in seen.items():
        peers: dict[Identity, Peer] = {}
        for peer in objects:
            peers.setdefault(identity(peer), peer)
        if len(peers) < 2:
            continue
        strangers = [peer for peer in peers.values() if not view.far(peer)]
        if len(peers) - len(strangers) < 2 and not _together(view, objects):
            continue  # an old key of the same host, perhaps
        names = [view.called(peer) for peer in peers.values()]
        if len(set(names)) < 2:
            continue  # two interfaces of one host
        said = [
            peer
            for peer in peers.values()
            for far in view.far(peer)[:1]
            if far.host.endpoint is not None
            and far.host.endpoint.host == host
            and (far.host.endpoint.port or far.interface.listen_port) == port
        ]
        others = [peer for peer in peers.values() if peer not in said]
        holders = list(view.having(others or list(peers.values())))
        where = tuple(dict.fromkeys(place for end, peer in holders[:4] for place in peer_place(end, peer)))
        if len(said) == 1:
            for end, peer in holders[:1]:
                yield Finding(
                    "G0309",
                    f"{end.called} looks for {view.called(peer)} at {host}:{port}, where {view.called(said[0])} is",
                    where,
                    f"{view.called(said[0])} does not have the key of {view.called(peer)}, and does not answer",
                    f"write the endpoint of {view.called(peer)}",
                    (end.host.name, view.called(peer)),
                )
        else:
            yield Finding(
                "G0404",
                f"{' and '.join(names[:4])} are both looked for at {host}:{port}",
                where,
                "what comes there goes to one of them",
                "another port for one of them, forwarded by its router",
                tuple(names[:4]),
            )


def _together(view: View, peers: list[Peer]) -> bool:
    """Whether one interface has two of these."""
    seen: dict[int, Identity] = {}
    return any(seen.setdefault(end.number, identity(peer)) != identity(peer) for end, peer in view.having(peers))


def resolvers(view: View) -> Iterator[Finding]:
    """G0406: DNS servers in the network that no peer leads to."""
    for end in view.ends:
        for text in end.interface.dns:
            try:
                packed = ipaddress.ip_address(text).packed
            except ValueError:
                continue  # a search domain
            if packed in end.host.addresses or any(lies_in(packed, lan) for lan in end.host.lans):
                continue
            owner = view.owner(packed)
            if owner is end.host or (owner is None and not any(_in_subnet(packed, each) for each in end.interface.address)):
                continue
            if any(
                lies_in(packed, prefix)
                for each in view.of_host[end.host.name]
                for p in each.interface.peers
                for prefix in p.allowed_ips
            ):
                continue
            behind = owner.name if owner is not None else "the peer that it is behind"
            yield Finding(
                "G0406",
                f"{end.called} asks {text} for names, which no AllowedIPs lead to",
                places(end.interface),
                "every question goes unanswered, or outside of the tunnel",
                f"add {text}/{len(packed) * 8} to the AllowedIPs for {behind}",
                (end.host.name,) + ((owner.name,) if owner is not None else ()),
            )


def _in_subnet(packed: bytes, address: InterfaceAddress) -> bool:
    if address.length == len(address.packed) * 8 or len(packed) != len(address.packed):
        return False
    shift = len(packed) * 8 - address.length
    return int.from_bytes(packed, "big") >> shift == int.from_bytes(address.packed, "big") >> shift


RULES = (addresses, lans, ports, endpoints, resolvers)
