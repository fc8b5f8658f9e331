"""Random networks of all shapes: NAT, relays, regions, hubs, groups, kinds, exits. As a checked file would have them."""

from __future__ import annotations

from hypothesis import strategies as st

from ginnel.network import HostPort, Link, Network, Node
from ginnel.network.links import Links, State
from ginnel.network.model import PROTECTED, Group, Ipsec, Region
from ginnel.units import Prefix

POOLS = (Prefix.parse("10.0.0.0/20"), Prefix.parse("fd10::/64"))
KINDS = ("wireguard", "gre", "ipsec")


@st.composite
def networks(draw: st.DrawFn, *, kinds: tuple[str, ...] = KINDS, exits: bool = True, most: int = 9) -> Network:
    """Names are n0, n1 …; those that carry can be reached from outside, as `check` demands."""
    count = draw(st.integers(2, most))
    names = [f"n{index}" for index in range(count)]
    regions = draw(st.lists(st.sampled_from(["east", "north", "south"]), unique=True))
    nodes = [
        Node(
            name,
            endpoint=HostPort(f"203.0.113.{index + 1}") if (reachable := draw(st.booleans())) else None,
            lans=(Prefix.parse(f"10.20.{index}.0/24"),) if draw(st.booleans()) else (),
            relay=reachable and draw(st.booleans()),
            region=draw(st.sampled_from([None, *regions])),
            keepalive_s=draw(st.sampled_from([None, 0, 10])),
        )
        for index, name in enumerate(names)
    ]
    open_names = [node.name for node in nodes if not node.behind_nat]
    shape = draw(st.sampled_from(["mesh", "mesh", "hub", "none"])) if open_names else "mesh"
    hubs = draw(st.lists(st.sampled_from(open_names), min_size=1, max_size=3, unique=True)) if shape == "hub" else []
    pairs = [(a, b) for a in names for b in names if a != b and (a in open_names or b in open_names)]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=4, unique_by=frozenset)) if pairs else []
    network = Network(
        "x",
        POOLS,
        tuple(nodes),
        shape=shape,
        hubs=tuple(hubs),
        kind=draw(st.sampled_from(kinds)),
        regions=tuple(Region(name, tuple(draw(st.permutations([one for one in regions if one != name])))) for name in regions),
        groups=tuple(_groups(draw, names, open_names, kinds)),
        links=tuple(_link(pair, draw(st.sampled_from(kinds))) for pair in chosen),
        psk=draw(st.sampled_from(["none", "derived"])),
    )
    return _with_exits(draw, network) if exits else network


def _groups(draw: st.DrawFn, names: list[str], open_names: list[str], kinds: tuple[str, ...]) -> list[Group]:
    found = []
    for name in draw(st.lists(st.sampled_from(["one", "two"]), unique=True)):
        members = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        shape = draw(st.sampled_from(["mesh", "hub", "none"] if open_names else ["mesh"]))
        hubs = draw(st.lists(st.sampled_from(open_names), min_size=1, max_size=2, unique=True)) if shape == "hub" else []
        kind = draw(st.sampled_from([None, *kinds]))
        found.append(Group(name, tuple(members), shape, tuple(hubs), kind))
    return found


def _link(pair: tuple[str, str], kind: str) -> Link:
    if kind == "wireguard":
        return Link(pair, kind)
    template = Network("x", POOLS, ())
    return Link(pair, kind, template.gre, Ipsec() if kind in PROTECTED else None)


def _with_exits(draw: st.DrawFn, network: Network) -> Network:
    """Of nodes all of whose links are WireGuard, some leave through a neighbour that itself does not."""
    from dataclasses import replace

    links = Links(network)
    leaving: dict[str, str] = {}
    for node in network.nodes:
        if links.kinds_at(node.name) != {"wireguard"} or node.name in leaving.values() or network.carries(node):
            continue
        ways = [one for one in links.around(node.name).active if one not in leaving]
        if ways and draw(st.integers(0, 3)) == 0:
            leaving[node.name] = draw(st.sampled_from(ways))
    assert all(links.state(*each) is State.ACTIVE for each in leaving.items())
    return replace(network, nodes=tuple(replace(node, exit=leaving.get(node.name)) for node in network.nodes))
