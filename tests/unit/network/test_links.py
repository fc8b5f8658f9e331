"""Links of every shape as questions: one answer, however it is asked for."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given

from ginnel.network import Gre, HostPort, Link, Network, Node
from ginnel.network.links import Distances, Links, State
from ginnel.network.model import Group, Region
from ginnel.units import Prefix
from unit.network.drawn_networks import networks

POOL = (Prefix.parse("10.0.0.0/16"),)


def node(name: str, *, nat: bool = False, region: str | None = None) -> Node:
    return Node(name, None if nat else HostPort(f"{name}.example"), region=region)


@given(networks())
def test_pairs_nodes_and_the_list_say_the_same(network: Network) -> None:
    links = Links(network)
    listed = {frozenset(link.between): link for link in links}
    assert len(listed) == len(list(links)), "each once"
    names = [each.name for each in network.nodes]
    for name in names:
        around = links.around(name)
        said = {State.ACTIVE: around.active, State.HELD: around.held, State.UNROUTED: around.unrouted}
        for state, others in said.items():
            assert list(others) == [other for other in names if links.state(name, other) is state]
        assert links.neighbours(name) == tuple(other for other in names if frozenset((name, other)) in listed)
        assert links.kinds_at(name) == {link.kind for ends, link in listed.items() if name in ends}
        for other in names:
            assert links.state(name, other) is links.state(other, name)
            if frozenset((name, other)) in listed:
                assert links.link(name, other) == listed[frozenset((name, other))]
    assert links.point_to_point() == tuple(link for link in links if link.point_to_point)
    assert links.routed == all(link.routed for link in links)


def test_a_group_has_a_shape_and_a_kind_of_its_own() -> None:
    nodes = tuple(map(node, "abcd"))
    network = Network("x", POOL, nodes, "hub", hubs=("a",), groups=(Group("inner", ("b", "c", "d"), "mesh", kind="gre"),))
    links = Links(network)
    assert [(link.between, link.kind) for link in links] == [
        (("a", "b"), "wireguard"),
        (("a", "c"), "wireguard"),
        (("a", "d"), "wireguard"),
        (("b", "c"), "gre"),
        (("b", "d"), "gre"),
        (("c", "d"), "gre"),
    ]
    assert links.kinds_at("a") == {"wireguard"}
    assert links.kinds_at("b") == {"wireguard", "gre"}


def test_what_a_group_says_of_a_link_goes_before_what_the_network_says_and_a_link_by_name_before_both() -> None:
    nodes = tuple(map(node, "abc"))
    group = Group("inner", ("a", "b", "c"), "mesh", kind="ipsec")
    network = Network("x", POOL, nodes, groups=(group,), links=(Link(("c", "b"), "gre", Gre()),))
    links = Links(network)
    assert [(link.between, link.kind) for link in links] == [(("a", "b"), "ipsec"), (("a", "c"), "ipsec"), (("c", "b"), "gre")]


def test_a_hub_of_a_group_carries() -> None:
    nodes = (node("a"), *(node(name, nat=True) for name in "bc"))
    network = Network("x", POOL, nodes, "none", groups=(Group("inner", ("b", "c"), "hub", hubs=("a",)),))
    assert network.carries(network.node("a"))
    assert Links(network).neighbours("a") == ("b", "c")


def test_what_is_said_of_a_link_held_ready_does_not_make_it_carry() -> None:
    network = Network("x", POOL, (node("h"), node("i"), node("s", nat=True)), "hub", hubs=("h", "i"))
    assert Links(network).around("s").held == ("i",)
    said = replace(network, links=(Link(("s", "i"), psk=True),))
    assert Links(said).around("s").held == ("i",)
    assert Links(said).link("i", "s").psk


def test_a_link_that_a_second_shape_makes_carries() -> None:
    network = Network("x", POOL, (node("h"), node("i"), node("s", nat=True)), "hub", hubs=("h", "i"))
    both = replace(network, groups=(Group("with-i", ("s", "i"), "mesh"),))
    assert Links(both).around("s").active == ("h", "i")


def test_the_nearest_hub_is_that_of_the_region_then_by_near_then_by_order() -> None:
    regions = (Region("east", ("north", "south")), Region("north"), Region("south"))
    hubs = tuple(node(name, region=name) for name in ("south", "north"))
    network = Network(
        "x",
        POOL,
        (*hubs, node("e", nat=True, region="east"), node("s", nat=True, region="south"), node("w", nat=True)),
        "hub",
        hubs=("south", "north"),
        regions=regions,
    )
    links = Links(network)
    assert [links.around(name).active for name in "esw"] == [("north",), ("south",), ("south",)]
    assert [links.around(name).held for name in "esw"] == [("south",), ("north",), ("north",)]


def test_distances_are_the_same_in_both_directions() -> None:
    network = Network("x", POOL, (), regions=(Region("a", ("b", "c")), Region("b", ("c", "a")), Region("c")))
    distances = Distances(network)
    assert distances.between("a", "a") == distances.between(None, None) == 0
    assert distances.between("a", "b") == distances.between("b", "a") == 1 + 2
    assert distances.between("a", "c") == distances.between("c", "a") == 2 + 3, "c names nobody: everybody is far"
    assert distances.between(None, "a") > distances.between("a", "b")
