"""The lock: whatever happens to the network, what others have stays; and the file says where two have the same."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ginnel.errors import ConfigError
from ginnel.network import Compilation, HostPort, Link, Lock, Network, Node, NodeDescription, allocate, parse_lock, render_lock
from ginnel.network.lock import PinnedPair
from ginnel.network.model import Gre, Ipsec
from ginnel.units import Prefix, PublicKey
from unit.network.networks import THREE, keys_for, parsed

POOLS = (Prefix.parse("10.0.0.0/22"), Prefix.parse("fd10::/64"))
NAMES = [f"n{index}" for index in range(12)]


def named(*names: str) -> Network:
    return Network("x", POOLS, tuple(Node(name, HostPort(f"{name}.example")) for name in names))


class Changes(RuleBasedStateMachine):
    """Nodes come, go, get other names and places; links of GRE between them as well."""

    @initialize()
    def begin(self) -> None:
        self.nodes: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.lock = allocate(self.network(), Lock())

    @rule(name=st.sampled_from(NAMES), place=st.integers(0, 12))
    def add(self, name: str, place: int) -> None:
        if name not in self.nodes:
            self.nodes.insert(place, name)
            self.allocate()

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.nodes:
            name = data.draw(st.sampled_from(self.nodes))
            self.nodes.remove(name)
            self.links = [link for link in self.links if name not in link]
            self.allocate()

    @rule(data=st.data(), new=st.sampled_from(NAMES))
    def rename(self, data: st.DataObject, new: str) -> None:
        if self.nodes and new not in self.nodes:
            old = data.draw(st.sampled_from(self.nodes))
            self.nodes[self.nodes.index(old)] = new
            self.links = [tuple(new if name == old else name for name in link) for link in self.links]  # type: ignore[misc]
            known_as = self.lock.known_as(old)
            self.lock = self.lock.renamed(old, new)
            assert self.lock.known_as(new) == known_as
            self.allocate()

    @rule(data=st.data())
    def link(self, data: st.DataObject) -> None:
        if len(self.nodes) > 1:
            pair = tuple(data.draw(st.lists(st.sampled_from(self.nodes), min_size=2, max_size=2, unique=True)))
            if pair not in self.links and pair[::-1] not in self.links:
                self.links.append(pair)  # type: ignore[arg-type]
                self.allocate()

    @rule(chance=st.randoms(use_true_random=False))
    def reorder(self, chance: random.Random) -> None:
        text = render_lock(self.lock)
        chance.shuffle(self.nodes)
        chance.shuffle(self.links)
        self.allocate()
        assert render_lock(self.lock) == text, "not a byte"

    def allocate(self) -> None:
        before, network = self.lock, self.network()
        self.lock = allocate(network, before)
        common = [name for name in before.nodes if name in self.lock.nodes]
        assert list(self.lock.nodes)[: len(common)] == common
        for name in common:
            assert self.lock.nodes[name] == before.nodes[name]
        for ends in before.links.keys() & self.lock.links.keys():
            assert self.lock.links[ends] == before.links[ends]

    def network(self) -> Network:
        links = tuple(Link(pair, "gre", Gre()) for pair in self.links)
        # Everybody has WireGuard with one node that stays, and so an address of its own whatever other links it has.
        return replace(named("anchor", *self.nodes), shape="hub", hubs=("anchor",), links=links)

    @invariant()
    def nobody_has_what_another_has(self) -> None:
        taken = [packed for pin in self.lock.nodes.values() for packed in pin.address]
        with_own_links = [packed for link in self.lock.links.values() for name in link.between for packed in link.end(name)]
        assert len(set(taken)) == len(taken)
        assert len(set(with_own_links)) == len(with_own_links)
        identities = [self.lock.known_as(name) for name in self.lock.nodes]
        assert len(set(identities)) == len(identities)

    @invariant()
    def the_file_is_the_lock(self) -> None:
        text = render_lock(self.lock)
        assert parse_lock(text, "x") == self.lock
        assert render_lock(parse_lock(text, "x")) == text
        assert allocate(self.network(), self.lock) == self.lock


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=50, stateful_step_count=12)


# ---------------------------------------------------------------- renamed


def protected(*names: str) -> Network:
    network = named(*names)
    return replace(network, kind="gre+ipsec", shape="mesh", gre=Gre(), ipsec=Ipsec())


def test_a_renamed_node_changes_nothing_for_its_peers_in_wireguard() -> None:
    network = named("a", "b", "c")
    lock = allocate(network, Lock()).with_keys(keys_for(network))
    before, after = Compilation(network, lock), Compilation(named("a", "boulogne", "c"), lock.renamed("b", "boulogne"))
    for name in ("a", "c"):
        old, new = (each.node(name).host().interfaces[0] for each in (before, after))
        assert replace(new, peers=tuple(replace(peer, name=peer.name[0]) for peer in new.peers)).peers[0].endpoint
        assert [(peer.public_key, peer.allowed_ips, peer.psk) for peer in new.peers] == [
            (peer.public_key, peer.allowed_ips, peer.psk) for peer in old.peers
        ]
    assert after.node("boulogne").address == before.node("b").address


def test_a_renamed_node_is_known_to_its_peers_by_its_old_name() -> None:
    network, other = protected("a", "b"), protected("a", "boulogne")
    lock = allocate(network, Lock())
    renamed = lock.renamed("b", "boulogne")
    assert allocate(other, renamed) == renamed

    def tunnel(description: NodeDescription) -> object:
        config = description.tunnels[0].config
        return replace(config, local=config.local.replace("boulogne", "b"), remote=config.remote.replace("boulogne", "b"))

    before, after = Compilation(network, lock), Compilation(other, renamed)
    assert tunnel(after.node("a")) == tunnel(before.node("a"))
    assert tunnel(after.node("boulogne")) == tunnel(before.node("b"))
    config = after.node("a").tunnels[0].config
    assert config.ipsec is not None
    assert (config.name, config.ipsec.remote_id, config.ipsec.psk_file) == ("gre-b", "b.x", "b.psk")


def test_a_new_node_of_an_old_name_is_not_taken_for_the_renamed_one() -> None:
    lock = allocate(named("a", "b"), Lock()).renamed("b", "boulogne")
    after = allocate(named("a", "b", "boulogne"), lock)
    assert (after.known_as("boulogne"), after.known_as("b")) == ("b", "b-2")
    assert 'known_as = "b-2"' in render_lock(after)
    assert "version = 2" in render_lock(after), "who reads version 1 alone would lose it"


def test_a_node_that_gets_its_old_name_back_is_as_it_was() -> None:
    lock = allocate(named("a", "b"), Lock())
    assert lock.renamed("b", "boulogne").renamed("boulogne", "b") == lock


def test_a_preshared_key_is_called_as_before() -> None:
    lock = allocate(named("a", "b"), Lock())
    assert lock.pair("a", "b") == PinnedPair("a+b")
    assert lock.renamed("b", "boulogne").pair("boulogne", "a") == PinnedPair("a+b")
    pinned = replace(lock, pairs={frozenset(("a", "b")): PinnedPair("a+b", 3, "2026-11-21")})
    assert pinned.renamed("a", "arras").pair("arras", "b") == PinnedPair("a+b", 3, "2026-11-21")


def test_what_cannot_be_renamed() -> None:
    lock = allocate(named("a", "b"), Lock())
    with pytest.raises(ValueError, match="b is a node already"):
        lock.renamed("a", "b")
    with pytest.raises(KeyError):
        lock.renamed("c", "d")


# ---------------------------------------------------------------- the file


MERGED = """\
version = 1

[node.paris]
address = ["10.10.0.1"]

[node.athens]
address = ["10.10.0.2"]

[node.nantes]
address = ["10.10.0.2"]
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_lock(text, "network.lock.toml")
    return [
        f"{one.span.line if one.span else 0}: {one.message} {[each.span.line for each in one.also]}"
        for one in caught.value.mistakes
    ]


def test_two_branches_that_have_given_out_one_address() -> None:
    assert mistakes(MERGED) == ["10: node.nantes: 10.10.0.2 is already athens's [7]"]


def test_two_branches_that_have_given_out_one_subnet() -> None:
    link = '[[link]]\nbetween = ["{}", "{}"]\nsubnet = ["10.10.0.4/30"]\n'
    nodes = "".join(f"[node.{name}]\naddress = []\n" for name in "abcd")
    text = "version = 1\n" + nodes + link.format("a", "b") + link.format("c", "d")
    assert [line.partition(" [")[0] for line in mistakes(text)] == [
        "15: the link of c and d: 10.10.0.5 is already that of another link",
        "15: the link of c and d: 10.10.0.6 is already that of another link",
    ]
    twice = "version = 1\n" + link.format("a", "b") + link.format("b", "a").replace("0.4/30", "0.8/30")
    assert mistakes(twice) == ["5: link[1]: a and b already have an entry [2]"]


def test_two_nodes_that_are_known_by_one_name() -> None:
    text = 'version = 2\n[node.a]\naddress = []\n[node.b]\naddress = []\nknown_as = "a"\n'
    assert mistakes(text) == ["6: node.b: the name a is already a's [2]"]


def test_an_unfinished_merge_is_called_one() -> None:
    text = MERGED.replace("[node.athens]", "<<<<<<< HEAD\n[node.athens]").replace("[node.nantes]", "=======\n[node.nantes]")
    with pytest.raises(ConfigError) as caught:
        parse_lock(text + ">>>>>>> branch\n", "network.lock.toml")
    assert "a merge in git is not finished" in str(caught.value)


def test_a_file_of_version_1_is_read_and_written_as_it_was() -> None:
    network = parsed(THREE)
    text = render_lock(allocate(network, Lock()).with_keys(keys_for(network)))
    assert "version = 1\n" in text
    assert render_lock(allocate(network, parse_lock(text, "x"))) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[node."a\\nb"]\naddress = []\n', "expected the name of a node"),
        ("[node.a]\naddress = 7\n", "node.a: expected a list of IP addresses, found 7"),
        ("[node.a]\naddress = [7]\n", "node.a: expected an IP address, found 7"),
        ("[node.a]\nlisten_port = true\n", "node.a: expected a port, found True"),
        ("[node.a]\npublic_key = 7\n", "node.a: expected a public key of 44 base64 characters"),
        ('[node.a]\nknown_as = "A B"\n', "node.a: expected a name, found 'A B'"),
        ('[node.a]\nkey_since = "yesterday"\n', "node.a: expected a day such as 2026-11-21, found 'yesterday'"),
        ("link = [7]\n", "link[0]: expected a table"),
        ('[[link]]\nbetween = ["a", "../b"]\nsubnet = []\n', "link[0]: between: expected the names of two nodes"),
        ('[[link]]\nbetween = ["a", "b"]\nsubnet = ["10.0.0.1/32"]\n', "has no room for two ends"),
        ('[[psk]]\nbetween = ["a", "b"]\nid = "/etc"\n', "psk[0]: id: expected a name such as lyon+paris"),
        ('[[psk]]\nbetween = ["a", "b"]\nid = "a+b"\ngeneration = 0\n', "psk[0]: generation: expected a number from 1, found 0"),
    ],
)
def test_entries_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_lock(f"version = 1\n{text}", "network.lock.toml")
    assert message in str(caught.value)


def test_public_keys_outlive_everything_but_their_node() -> None:
    network = named("a", "b")
    lock = allocate(network, Lock()).with_keys({"a": PublicKey(b"a" * 32)})
    assert allocate(named("c", "b", "a"), lock).nodes["a"].public_key == PublicKey(b"a" * 32)
    assert allocate(named("b"), lock).nodes.keys() == {"b"}
