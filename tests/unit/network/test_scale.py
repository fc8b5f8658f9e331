"""What is shared, what is taken over, and what that costs: counted in objects, and in calls, not in seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginnel.network import Compilation, HostPort, Link, Lock, Network, Node, allocate, parse_network
from ginnel.network.model import Protect, Region
from ginnel.network.paths import Paths, unreachable_pairs
from ginnel.units import Prefix, PublicKey
from unit.network.drawn_networks import networks

POOL = (Prefix.parse("10.0.0.0/8"),)


def mesh(count: int, hidden: int = 0) -> Network:
    """The first *hidden* behind NAT, the one after them a relay."""
    nodes = (
        Node(f"n{index}", None if index < hidden else HostPort(f"n{index}.example"), relay=index == hidden)
        for index in range(count)
    )
    return Network("x", POOL, tuple(nodes))


def hub(spokes: int, hubs: int) -> Network:
    of_hubs = (Node(f"h{index}", HostPort(f"h{index}.example"), region=f"r{index}") for index in range(hubs))
    of_spokes = (Node(f"s{index}", region=f"r{index % hubs}") for index in range(spokes))
    regions = tuple(Region(f"r{index}", (f"r{(index + 1) % hubs}",)) for index in range(hubs))
    names = tuple(f"h{index}" for index in range(hubs))
    return Network("x", POOL, (*of_hubs, *of_spokes), "hub", hubs=names, regions=regions)


def keys(network: Network) -> dict[str, PublicKey]:
    return {node.name: PublicKey(f"{node.name:>32}".encode()) for node in network.nodes}


def compiled(network: Network, lock: Lock | None = None) -> Compilation:
    done = Compilation(network, allocate(network, lock or Lock()), keys(network))
    assert len(list(done.nodes())) == len(network.nodes)
    return done


def grown(before: Compilation, node: Node) -> Compilation:
    network = replace(before.network, nodes=(*before.network.nodes, node))
    return before.updated(network, allocate(network, before.lock), keys(network))


def calls(work: Callable[[], object]) -> int:
    """How many functions of Python are called: the same on every machine."""
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_a_mesh_has_one_description_of_each_peer() -> None:
    nodes = list(compiled(mesh(60)).nodes())
    assert sum(len(node.peers) for node in nodes) == 60 * 59
    assert len({id(peer) for node in nodes for peer in node.peers}) == 60
    assert len({id(peer) for node in nodes for peer in node.host().interfaces[0].peers}) == 60


def test_spokes_of_one_hub_share_what_they_have_of_it() -> None:
    done = compiled(hub(40, 2))
    assert len({id(done.node(f"s{index}").peers) for index in range(0, 40, 2)}) == 1


def test_work_in_a_full_mesh_grows_with_its_nodes_and_not_with_its_links() -> None:
    small, large = (calls(lambda count=count: compiled(mesh(count))) for count in (100, 400))  # type: ignore[misc]
    assert large < 6 * small, "four times the nodes, sixteen times the links"


def test_work_for_hubs_grows_with_the_spokes() -> None:
    small, large = (calls(lambda count=count: compiled(hub(count, 4))) for count in (200, 800))  # type: ignore[misc]
    assert large < 6 * small


def test_that_all_reach_all_is_seen_without_asking_for_each_pair() -> None:
    for network in (mesh(300), mesh(300, 150), hub(300, 3)):
        assert calls(lambda network=network: unreachable_pairs(network, Paths(network))) < 40_000  # type: ignore[misc]


def test_no_more_pairs_are_named_than_asked_for() -> None:
    network = Network("x", POOL, tuple(Node(f"n{index}") for index in range(100)))
    assert len(unreachable_pairs(network, Paths(network), most=10)) == 10
    assert len(unreachable_pairs(network, Paths(network))) == 100 * 99 // 2


# ---------------------------------------------------------------- one more


def test_a_new_spoke_changes_its_hubs_and_nobody_else() -> None:
    before = compiled(hub(30, 3))
    after = grown(before, Node("new", region="r0"))
    changed = {name for name in before.lock.nodes if after.node(name) is not before.node(name)}
    assert changed == {"h0", "h1", "h2"}, "the hubs of other regions reach it through its own"


def test_a_new_spoke_with_a_lan_is_known_to_all() -> None:
    before = compiled(hub(30, 3))
    after = grown(before, Node("new", region="r0", lans=(Prefix.parse("192.168.7.0/24"),)))
    assert all(after.node(name) is not before.node(name) for name in before.lock.nodes)
    assert len({id(after.node(f"s{index}").peers) for index in range(0, 30, 3)}) == 1


def test_a_new_node_of_a_mesh_is_one_more_peer_and_the_others_are_the_same_objects() -> None:
    before = compiled(mesh(30))
    after = grown(before, Node("new", HostPort("new.example")))
    for node in before.nodes():
        peers = after.node(node.name).peers
        assert all(old is new for old, new in zip(node.peers, peers, strict=False))
        assert [peer.name for peer in peers[len(node.peers) :]] == ["new"]


def test_a_node_without_a_link_to_the_new_one_is_the_same() -> None:
    nodes = tuple(Node(name, HostPort(f"{name}.example")) for name in "abc")
    before = compiled(Network("x", POOL, nodes, "none", links=(Link(("a", "b")), Link(("b", "c")))))
    network = replace(before.network, nodes=(*nodes, Node("d")), links=(*before.network.links, Link(("c", "d"))))
    after = before.updated(network, allocate(network, before.lock), keys(network))
    assert [after.node(name) is before.node(name) for name in "abc"] == [True, True, False]


def test_what_is_the_same_for_all_changes_all() -> None:
    before = compiled(hub(6, 2))
    network = replace(before.network, mtu=1300)
    after = before.updated(network, before.lock)
    assert {node.mtu for node in after.nodes()} == {1300}


def test_a_narrow_underlay_reaches_the_peers_of_its_node() -> None:
    before = compiled(mesh(80))
    nodes = (replace(before.network.nodes[0], underlay_mtu=1400), *before.network.nodes[1:])
    after = before.updated(replace(before.network, nodes=nodes), before.lock)
    assert {node.mtu for node in after.nodes()} == {1320}
    assert {node.mtu for node in before.nodes()} == {1420}


def test_another_peer_of_a_protected_origin_changes_its_edge() -> None:
    """Where all peers of an origin are edges, one of them is on its own interface and has its port."""
    nodes = (Node("edge", HostPort("203.0.113.1")), Node("origin", HostPort("203.0.113.2")), Node("other"))
    protect = Protect(("edge",), "origin", (Prefix.parse("198.51.100.0/28"),))
    alone = Network("x", POOL, nodes, "none", links=(Link(("edge", "origin")),), protects=(protect,))
    before = compiled(alone)
    joined = replace(alone, links=(*alone.links, Link(("origin", "other"))))
    after = before.updated(joined, before.lock)
    assert before.node("edge").peer("origin").endpoint is not None
    assert after.node("edge").peer("origin").endpoint is None
    assert list(after.nodes()) == list(Compilation(joined, before.lock, keys(joined)).nodes())


@settings(max_examples=60)
@given(networks(), networks(), st.booleans())
def test_what_is_taken_over_is_what_would_have_been_made(one: Network, two: Network, other_settings: bool) -> None:
    """From any network to any other; the second has some nodes of the first as they were."""
    same = {node.name: replace(node, exit=None) for node in one.nodes[::2]}
    carrying = {name for name, node in same.items() if not node.behind_nat}
    needed = {*two.hubs, *(hub for group in two.groups for hub in group.hubs)}
    nodes = tuple(
        same[node.name] if node.name in same and (node.name in carrying or node.name not in needed) else node
        for node in (replace(node, exit=None) for node in two.nodes)
    )
    two = replace(two, nodes=nodes, mtu=1300 if other_settings else None)
    before = compiled(replace(one, nodes=tuple(replace(node, exit=None) for node in one.nodes)))
    lock = allocate(two, before.lock)
    after = before.updated(two, lock, keys(two))
    fresh = Compilation(two, lock, keys(two))
    assert list(after.nodes()) == list(fresh.nodes())
    for node in two.nodes:
        if two.carries(node):
            assert list(after.without(node.name).nodes()) == list(fresh.without(node.name).nodes())


@pytest.mark.parametrize("count", [1000])
def test_a_thousand_nodes_of_a_file(count: int) -> None:
    text = '[network]\nname = "x"\npool = ["10.0.0.0/16"]\n' + "".join(
        f'[node.n{index}]\nendpoint = "203.0.{index // 250}.{index % 250 + 1}"\n' for index in range(count)
    )
    network = parse_network(text, "network.toml")
    assert sum(len(node.peers) for node in compiled(network).nodes()) == count * (count - 1)
