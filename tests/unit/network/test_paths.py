"""Paths: direct where there is a link, otherwise the shortest through carriers; the way back is the way there."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ginnel.network import HostPort, Link, Network, Node
from ginnel.network.paths import Paths, links_of, unreachable_pairs
from ginnel.units import Prefix

POOL = (Prefix.parse("10.0.0.0/16"),)


def network(
    nodes: list[Node], shape: str = "mesh", hub: str | None = None, links: list[tuple[str, str]] | None = None
) -> Network:
    return Network(
        "x", POOL, tuple(nodes), shape=shape, hubs=(hub,) if hub else (), links=tuple(Link(pair) for pair in links or [])
    )  # type: ignore[arg-type]


def reachable(name: str, relay: bool = False) -> Node:
    return Node(name, endpoint=HostPort(f"{name}.example"), relay=relay)


def test_a_mesh_links_all_but_pairs_behind_nat() -> None:
    found = links_of(network([reachable("a"), Node("b"), Node("c"), reachable("d")]))
    assert [link.between for link in found] == [("a", "b"), ("a", "c"), ("a", "d"), ("b", "d"), ("c", "d")]


def test_a_link_by_name_is_not_doubled() -> None:
    found = links_of(network([reachable("a"), reachable("b")], links=[("b", "a")]))
    assert [link.between for link in found] == [("b", "a")], "what the file says of a link goes before what the shape says of all"


def test_a_hub_carries_between_spokes() -> None:
    paths = Paths(network([reachable("h"), Node("n"), Node("s")], "hub", "h"))
    assert paths.path("n", "s") == ("n", "h", "s")
    assert paths.neighbours("n") == ("h",)
    assert paths.next_hop("h", "s") == "s"


def test_only_carriers_carry_and_the_first_in_the_file_is_preferred() -> None:
    nodes = [reachable("plain"), reachable("second", relay=True), reachable("third", relay=True), Node("n"), Node("s")]
    assert Paths(network(nodes)).path("n", "s") == ("n", "second", "s")
    assert unreachable_pairs(
        network([reachable("plain"), Node("n"), Node("s")]), Paths(network([reachable("plain"), Node("n"), Node("s")]))
    )


def test_a_direct_link_is_always_used() -> None:
    nodes = [reachable("r", relay=True), reachable("a"), reachable("b")]
    assert Paths(network(nodes)).path("a", "b") == ("a", "b")


def test_longer_ways_over_several_relays() -> None:
    nodes = [reachable("r1", relay=True), reachable("r2", relay=True), Node("a"), Node("b")]
    paths = Paths(network(nodes, "none", links=[("r1", "r2"), ("a", "r1"), ("b", "r2")]))
    assert paths.path("a", "b") == ("a", "r1", "r2", "b")
    assert paths.path("b", "a") == ("b", "r2", "r1", "a")


@st.composite
def graphs(draw: st.DrawFn) -> Network:
    count = draw(st.integers(2, 9))
    names = [f"n{index}" for index in range(count)]
    nodes = [reachable(name, relay=draw(st.booleans())) for name in names]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    links = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=len(pairs)))
    return network(nodes, "none", links=links)


@given(graphs())
def test_paths_are_symmetric_consistent_and_only_through_carriers(net: Network) -> None:
    paths = Paths(net)
    linked = {frozenset(link.between) for link in paths.links}
    for a in net.nodes:
        for b in net.nodes:
            if a is b:
                continue
            path = paths.path(a.name, b.name)
            back = paths.path(b.name, a.name)
            assert (path is None) == (back is None)
            if path is None or back is None:
                continue
            assert path == back[::-1], "the source check of every hop needs it"
            assert len(set(path)) == len(path)
            assert all(frozenset(hop) in linked for hop in pairwise(path))
            assert all(net.node(name).relay for name in path[1:-1])
            for start, name in enumerate(path[:-1]):
                assert paths.path(name, b.name) == path[start:], "every part of a path is the path between its ends"
