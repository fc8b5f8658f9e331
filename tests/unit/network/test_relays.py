"""Relays computed: on the configuration of the hosts alone every pair reaches both ways, also while any relay is down."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ginnel.network import Compilation, HostPort, Link, Lock, Network, Node, NodeDescription, allocate
from ginnel.network.description import PeerDescription
from ginnel.network.links import Links
from ginnel.network.model import Region
from ginnel.network.paths import Paths, unreachable_pairs
from ginnel.units import Prefix, PublicKey
from unit.network.drawn_networks import POOLS, networks
from unit.network.networks import parsed
from unit.network.packets import Fleet


def compilation(network: Network, lock: Lock | None = None) -> Compilation:
    keys = {node.name: PublicKey(f"{node.name:>32}".encode()) for node in network.nodes}
    return Compilation(network, allocate(network, lock or Lock()), keys)


def reachable_from(network: Network, source: str, down: str = "") -> set[str]:
    """By links alone: through nodes that carry and are not down."""
    links = Links(network)
    found, waiting = {source}, [source]
    while waiting:
        here = waiting.pop()
        if here != source and (here == down or not network.carries(network.node(here))):
            continue
        around = links.around(here)
        new = [name for name in (*around.active, *around.held) if name not in found]
        found.update(new)
        waiting += new
    return found


def addresses(compiled: Compilation, source: str, target: str) -> list[tuple[bytes, bytes]]:
    """What a packet from one to the other may be from and to: IPv4 and IPv6, of the hosts and of their LANs."""
    near, far = compiled.node(source), compiled.node(target)
    out = [one.packed for one in near.address]
    hop = compiled.paths.next_hop(source, target)
    if hop is not None and any(tunnel.peer == hop for tunnel in near.tunnels):
        out = [one.packed for one in near.tunnel(hop).address]  # what the kernel takes for what leaves there
    pairs = [(one, other.packed) for one in out for other in far.address if len(one) == len(other.packed)]
    sources = [out[0], *(inside(lan) for lan in near.node.lans)]
    targets = [far.address[0].packed, *(inside(lan) for lan in far.node.lans)]
    return pairs + [(one, other) for one in sources for other in targets]


def inside(lan: Prefix) -> bytes:
    return lan.packed[:-1] + b"\x05"


def all_arrive(compiled: Compilation, down: str = "") -> None:
    network = compiled.network
    fleet = Fleet({description.name: description.host() for description in compiled.nodes()})
    for source in network.nodes:
        reached = reachable_from(network, source.name, down)
        for target in network.nodes:
            if source is target or down in (source.name, target.name) or target.name not in reached:
                continue
            for near, far in addresses(compiled, source.name, target.name):
                way = fleet.trace(source.name, near, far)
                assert isinstance(way, list), f"{source.name} to {target.name}: {way}"
                assert fleet.trace(target.name, far, near) == way[::-1]
                assert down not in way


@given(networks())
def test_every_pair_reaches_both_ways_by_the_hosts_configuration_alone(network: Network) -> None:
    all_arrive(compilation(network))


@given(networks())
def test_what_is_said_to_be_unreachable_is(network: Network) -> None:
    found = {(left.name, right.name) for left, right in unreachable_pairs(network, Paths(network))}
    names = [node.name for node in network.nodes]
    for index, left in enumerate(names):
        reached = reachable_from(network, left)
        for right in names[index + 1 :]:
            assert ((left, right) in found) == (right not in reached)


@given(networks(), st.data())
def test_while_a_relay_is_down_the_others_still_reach_one_another_where_links_allow(
    network: Network, data: st.DataObject
) -> None:
    carriers = [node.name for node in network.nodes if network.carries(node)]
    if not carriers:
        return
    before = compilation(network)
    down = data.draw(st.sampled_from(carriers))
    after = before.without(down)
    all_arrive(after, down)
    assert after.node(down) is before.node(down)
    for description in before.nodes():
        assert only_prefixes_moved(description, after.node(description.name))


def only_prefixes_moved(before: NodeDescription, after: NodeDescription) -> bool:
    """The same peers and tunnels, so that no session ends."""

    def bare(peer: PeerDescription) -> PeerDescription:
        return replace(peer, allowed_ips=(), carries=(), carries_rest=False, standby=(), standby_rest=False)

    assert [bare(peer) for peer in before.peers] == [bare(peer) for peer in after.peers]
    for old, new in zip(before.tunnels, after.tunnels, strict=True):
        assert replace(new, carries=old.carries, config=replace(new.config, routes=old.config.routes)) == old
    return replace(after, peers=before.peers, tunnels=before.tunnels, masquerades=before.masquerades) == before


@given(networks(kinds=("wireguard",)))
def test_standby_says_who_would_move(network: Network) -> None:
    """Of nodes without links of other kinds, whose peers are all there is."""
    before = compilation(network)
    paths = before.paths
    for description in before.nodes():
        name = description.name
        others = [node.name for node in network.nodes if node.name != name]
        expected: dict[str, list[str]] = {}
        for target in others:
            hop = paths.next_hop(name, target)
            if hop not in (None, target):
                instead = paths.without(str(hop)).next_hop(name, target)
                if instead is not None:
                    expected.setdefault(instead, []).append(target)
        said = {peer.name: [*peer.standby] for peer in description.peers if peer.standby}
        sole = next((peer.name for peer in description.peers if peer.carries_rest), None)
        if sole is None:
            assert said == expected
        else:
            everybody_else = {peer.name for peer in description.peers if peer.standby_rest}
            assert set(expected) >= everybody_else
            for peer in everybody_else:
                assert set(expected[peer]) == set(others) - {sole}


@given(networks(kinds=("wireguard",)), st.randoms(use_true_random=False))
def test_the_order_of_the_file_does_not_matter_but_for_those_who_carry(network: Network, chance: random.Random) -> None:
    lock = allocate(network, Lock())
    nodes = [node for node in network.nodes if not network.carries(node)]
    chance.shuffle(nodes)
    carriers = iter([node for node in network.nodes if network.carries(node)])
    places = [True] * len(nodes) + [False] * (len(network.nodes) - len(nodes))
    chance.shuffle(places)
    rest = iter(nodes)
    links = list(network.links)
    chance.shuffle(links)
    shuffled = replace(network, nodes=tuple(next(rest) if place else next(carriers) for place in places), links=tuple(links))
    assert allocate(shuffled, lock) == lock
    before, after = compilation(network, lock), compilation(shuffled, lock)
    for description in before.nodes():
        assert unordered(description) == unordered(after.node(description.name))


def unordered(description: NodeDescription) -> object:
    peers = frozenset(
        replace(
            peer,
            allowed_ips=tuple(sorted(peer.allowed_ips)),
            carries=tuple(sorted(peer.carries)),
            standby=tuple(sorted(peer.standby)),
        )
        for peer in description.peers
    )
    return replace(description, peers=(), masquerades=tuple(sorted(description.masquerades))), peers


# ---------------------------------------------------------------- by hand


def node(name: str, *, nat: bool = False, relay: bool = False, region: str | None = None) -> Node:
    return Node(name, None if nat else HostPort(f"{name}.example"), relay=relay, region=region)


def names(network: Network, left: str, right: str, down: str = "") -> tuple[str, ...] | None:
    paths = Paths(network)
    return (paths.without(down) if down else paths).path(left, right)


def test_a_relay_of_the_own_region_then_a_near_one() -> None:
    regions = (Region("eu", ("us",)), Region("us", ("eu",)), Region("asia", ("us",)))
    relays = [node(f"r-{name}", relay=True, region=name) for name in ("asia", "us", "eu")]
    hidden = [node(f"{name}{index}", nat=True, region=name) for name in ("eu", "us", "asia") for index in (1, 2)]
    network = Network("x", POOLS, (*relays, *hidden), regions=regions)
    assert names(network, "eu1", "eu2") == ("eu1", "r-eu", "eu2")
    assert names(network, "eu1", "eu2", down="r-eu") == ("eu1", "r-us", "eu2")
    assert names(network, "us1", "us2") == ("us1", "r-us", "us2")
    assert names(network, "asia1", "asia2", down="r-asia") == ("asia1", "r-us", "asia2")


def test_relays_that_know_only_one_another_carry_in_two_hops() -> None:
    network = Network(
        "x",
        POOLS,
        (node("r1", relay=True), node("r2", relay=True), node("a", nat=True), node("b", nat=True), node("c", nat=True)),
        shape="none",
        links=(Link(("r1", "r2")), Link(("a", "r1")), Link(("b", "r2")), Link(("c", "r2"))),
    )
    assert names(network, "a", "b") == ("a", "r1", "r2", "b")
    compiled = compilation(network)
    assert compiled.node("r1").peer("r2").carries == ("b", "c")
    assert compiled.node("r2").peer("r1").carries == ("a",)
    all_arrive(compiled)


def hubs() -> Network:
    regions = (Region("eu", ("us", "asia")), Region("us", ("eu", "asia")), Region("asia", ("us", "eu")))
    of_hubs = [node(f"hub-{name}", region=name) for name in ("eu", "us", "asia")]
    spokes = [node(f"{name}{index}", nat=True, region=name) for name in ("eu", "us", "asia") for index in (1, 2)]
    everywhere = node("nomad", nat=True)
    return Network("x", POOLS, (*of_hubs, *spokes, everywhere), "hub", hubs=("hub-eu", "hub-us", "hub-asia"), regions=regions)


def test_hubs_of_regions_are_linked_and_each_node_holds_a_second_one_ready() -> None:
    paths = Paths(hubs())
    assert paths.neighbours("hub-us") == ("hub-eu", "hub-asia", "eu1", "eu2", "us1", "us2", "asia1", "asia2", "nomad")
    around = paths.around("asia1")
    assert (around.active, around.held) == (("hub-asia",), ("hub-us",))
    assert paths.path("asia1", "eu1") == ("asia1", "hub-asia", "hub-eu", "eu1")
    assert paths.path("asia1", "hub-us") == ("asia1", "hub-asia", "hub-us")
    assert paths.around("nomad").active == ("hub-eu",), "without a region the first"
    assert paths.around("nomad").held == ("hub-us",)


def test_a_spoke_has_the_pools_and_its_second_hub_nothing_until_the_first_one_fails() -> None:
    network = hubs()
    compiled = compilation(network)
    spoke = compiled.node("eu1")
    first, second = spoke.peer("hub-eu"), spoke.peer("hub-us")
    assert (first.allowed_ips, first.carries_rest, first.standby_rest) == (POOLS, True, False)
    assert (second.allowed_ips, second.carries_rest, second.standby_rest) == ((), False, True)
    assert second.keepalive_s == 25, "its session is warm"
    assert compiled.node("hub-us").peer("eu1").allowed_ips == ()
    assert compiled.node("hub-us").peer("eu1").standby == ("eu1",)
    assert compiled.node("hub-asia").peer("hub-us").standby == ("eu1", "eu2", "nomad")
    before = {description.name: description for description in compiled.nodes()}
    down = compiled.without("hub-eu")
    moved = down.node("eu1")
    assert moved.peer("hub-us").allowed_ips == POOLS
    assert moved.peer("hub-eu").allowed_ips == first_addresses(compiled, "hub-eu")
    assert down.node("asia1") is before["asia1"], "whom it does not concern"
    all_arrive(down, "hub-eu")


def first_addresses(compiled: Compilation, name: str) -> tuple[Prefix, ...]:
    return tuple(address.host for address in compiled.node(name).address)


def test_two_behind_nat_have_a_second_relay_named() -> None:
    relays = [node("r1", relay=True), node("r2", relay=True)]
    network = Network("x", POOLS, (*relays, node("a", nat=True), node("b", nat=True), node("c", nat=True)))
    compiled = compilation(network)
    a = compiled.node("a")
    assert (a.peer("r1").carries, a.peer("r1").standby) == (("b", "c"), ())
    assert (a.peer("r2").carries, a.peer("r2").standby) == ((), ("b", "c"))
    down = compiled.without("r1")
    assert down.node("a").peer("r2").allowed_ips == tuple(
        prefix for name in ("r2", "b", "c") for prefix in first_addresses(compiled, name)
    )
    assert down.node("r2") == compiled.node("r2"), "it has both as peers already"


def test_a_spoke_reaches_addresses_outside_of_the_pools() -> None:
    network = parsed("""
[network]
name = "x"
pool = ["10.10.0.0/24"]
shape = "hub"
hub = "paris"
[node.paris]
endpoint = "203.0.113.1"
address = ["172.31.0.1/24"]
[node.lyon]
address = ["172.31.1.1/24"]
[node.rome]
lans = ["10.30.0.0/24"]
""")
    compiled = compilation(network)
    all_arrive(compiled)
    rest = {name: list(map(str, compiled.node(name).peers[0].allowed_ips)) for name in ("lyon", "rome")}
    assert rest == {
        "lyon": ["10.10.0.0/24", "172.31.0.1/32", "10.30.0.0/24"],
        "rome": ["10.10.0.0/24", "172.31.0.1/32", "172.31.1.1/32"],
    }


def test_a_node_that_leaves_through_a_hub_is_linked_with_that_one_first() -> None:
    network = parsed("""
[network]
name = "x"
pool = ["10.10.0.0/24"]
shape = "hub"
hub = ["paris", "lyon"]
[node.paris]
endpoint = "203.0.113.1"
[node.lyon]
endpoint = "203.0.113.2"
[node.rome]
exit = "lyon"
[node.oslo]
""")
    compiled = compilation(network)
    all_arrive(compiled)
    peers = {peer.name: peer for peer in compiled.node("rome").peers}
    assert (peers["lyon"].held, peers["paris"].held, peers["paris"].allowed_ips) == (False, True, ())
    rome = next(peer for peer in compiled.node("lyon").peers if peer.name == "rome")
    assert list(map(str, rome.allowed_ips)) == ["10.10.0.3/32"], "what comes from it is taken"
