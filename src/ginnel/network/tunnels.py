"""
The tunnels of each node: one for each of its links that is point to point (GRE, GRE over IPsec, IPsec).

A tunnel's routes are what a peer's AllowedIPs are: the addresses and LANs of every node that is reached through it. What lies in
the link's own subnet needs no route. A link whose routes are a routing daemon's business has none.

A node that was renamed is known to its peers as before (`Lock.known_as`): devices, identities and files of secrets keep their
names, so that a new one ends no session.
"""

from __future__ import annotations

from dataclasses import replace

from ginnel.config.node import IpsecConfig, PlainConfig
from ginnel.network import gre, ipsec
from ginnel.network.description import TunnelDescription
from ginnel.network.host import InterfaceAddress
from ginnel.network.links import State
from ginnel.network.lock import Lock
from ginnel.network.model import NO_ENDPOINT, Link, Network, Node
from ginnel.network.paths import Paths
from ginnel.network.peers import Prefixes
from ginnel.units import Prefix


def tunnels_of(
    network: Network, node: Node, neighbours: tuple[str, ...], paths: Paths, prefixes: Prefixes, lock: Lock
) -> tuple[TunnelDescription, ...]:
    """Those of *node* that lead to *neighbours*, in their order."""
    if not neighbours:
        return ()
    behind = paths.behind(node.name)
    return tuple(_tunnel(network, node, paths, other, behind.get(other, ()), prefixes, lock) for other in neighbours)


def _tunnel(
    network: Network, node: Node, paths: Paths, other: str, behind: tuple[str, ...], prefixes: Prefixes, lock: Lock
) -> TunnelDescription:
    link = paths.link(node.name, other)
    end, options, peer, pin = link.end(node.name), gre.gre_of(link), network.node(other), lock.link(node.name, other)
    arithmetic = gre.arithmetic(network, link, pin.key)
    near = tuple(InterfaceAddress(packed, subnet.length) for packed, subnet in zip(pin.end(node.name), pin.subnet, strict=True))
    far = tuple(InterfaceAddress(packed, subnet.length) for packed, subnet in zip(pin.end(other), pin.subnet, strict=True))
    endpoint = None if end.endpoint == NO_ENDPOINT else end.endpoint or peer.endpoint
    carries = tuple(name for name in behind if name != other)
    config = PlainConfig(
        name=end.device or gre.device_name(lock.known_as(other), link.kind),
        kind="ipsec" if link.kind == "ipsec" else "gre",
        family=gre.family(network, link),
        local=_local(node),
        remote=endpoint.host if endpoint is not None else "any",
        ikey=pin.key,
        okey=pin.key,
        icsum=options.csum,
        ocsum=options.csum,
        iseq=options.seq,
        oseq=options.seq,
        ttl=options.ttl,
        tos=options.tos,
        pmtudisc=options.pmtudisc,
        ignore_df=options.ignore_df,
        encapsulation=gre.encapsulation_of(network, link, peer),
        address=tuple(map(str, near)),
        routes=_routes(node, link, behind, carries, paths, prefixes, lock),
        mtu=options.mtu or network.mtu or arithmetic.inner,
        keepalive=gre.keepalive_of(network, link, peer),
        ipsec=_protection(network, link, node, peer, lock),
    )
    return TunnelDescription(other, config, near, far, arithmetic, carries)


def _routes(
    node: Node, link: Link, behind: tuple[str, ...], carries: tuple[str, ...], paths: Paths, prefixes: Prefixes, lock: Lock
) -> tuple[str, ...]:
    other = link.other(node.name)
    if (said := link.end(node.name).allowed) is not None:
        return tuple(map(str, said))
    if not link.routed:
        return ()
    itself = paths.state(node.name, other) is State.ACTIVE or len(carries) < len(behind)
    reached = ((other,) if itself else ()) + carries
    connected = {packed for subnet in lock.link(node.name, other).subnet for packed in gre.ends_of(subnet)}
    found = (prefix for name in reached for prefix in prefixes.of(name, node.name))
    return tuple(str(prefix) for prefix in found if prefix.packed not in connected)


def _protection(network: Network, link: Link, node: Node, peer: Node, lock: Lock) -> IpsecConfig | None:
    config = ipsec.config_of(network, link, node, peer)
    near, far = (replace(each, name=lock.known_as(each.name)) for each in (node, peer))
    if config is None or (near, far) == (node, peer):
        return config
    psk_file = ipsec.psk_file(far) if config.psk_file else ""
    return replace(config, local_id=ipsec.identity(network, near), remote_id=ipsec.identity(network, far), psk_file=psk_file)


def _local(node: Node) -> str:
    """The address that the node sends from: its own endpoint where that is a number, else the route's choice."""
    packed = gre.numeric_endpoint(node)
    return "any" if packed is None else Prefix(packed, len(packed) * 8).address
