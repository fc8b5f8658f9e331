"""Going on from what was found before: the same as looking at everything, whatever has changed; and what is looked at then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginnel.network import Compilation, HostPort, Lock, Network, Node, allocate
from ginnel.network import lint as rules
from ginnel.network.host import Host, Peer
from ginnel.network.links import Links
from ginnel.network.lint import Linted, lint
from ginnel.network.lint.plain import Plain
from ginnel.units import Prefix, PublicKey
from unit.network.drawn_networks import networks


def keys(network: Network) -> dict[str, PublicKey]:
    return {node.name: PublicKey(f"{node.name:>32}".encode()) for node in network.nodes}


def changed(data: st.DataObject, network: Network, number: int) -> Network:
    """The network with one node more, one less, or one that is not what it was."""
    names = {name for link in network.links for name in link.between} | {
        name for group in network.groups for name in (*group.nodes, *group.hubs)
    }
    names |= {*network.hubs, *(node.exit for node in network.nodes if node.exit is not None)}
    free = [node for node in network.nodes if node.name not in names]
    how = data.draw(st.sampled_from(["add", "add", "add", "remove", "remove", "lan", "endpoint", "key", "relay"]))
    index = data.draw(st.integers(0, len(network.nodes) - 1))
    nodes = list(network.nodes)
    node = nodes[index]
    match how:
        case "add":
            new = Node(
                f"new{number}",
                endpoint=HostPort(f"198.51.100.{number + 1}") if data.draw(st.booleans()) else None,
                lans=(Prefix.parse(f"10.30.{number}.0/24"),) if data.draw(st.booleans()) else (),
                region=node.region,
            )
            nodes.insert(index, new)
        case "remove" if len(nodes) > 2 and free:
            nodes.remove(data.draw(st.sampled_from(free)))
        case "lan":
            nodes[index] = replace(node, lans=(Prefix.parse(f"10.40.{data.draw(st.integers(0, 3))}.0/24"),))
        case "endpoint" if node.endpoint is not None:
            # somebody else's, perhaps, or one that lies inside of the tunnels
            nodes[index] = replace(node, endpoint=HostPort(data.draw(st.sampled_from(["203.0.113.1", "192.0.2.1", "10.0.0.3"]))))
        case "relay" if node.endpoint is not None:
            nodes[index] = replace(node, relay=not node.relay)
    following = replace(network, nodes=tuple(nodes))
    links = Links(following)
    # A node whose exit it is no longer linked with is a mistake that `check` finds before there are hosts.
    lost = any(node.exit is not None and not links.state(node.name, node.exit) for node in nodes)
    return network if lost else following


def spoiled(data: st.DataObject, hosts: Sequence[Host]) -> list[Host]:
    """One host as somebody has edited it."""
    found = list(hosts)
    index = data.draw(st.integers(0, len(found) - 1))
    host = found[index]
    if not host.interfaces or not host.interfaces[0].peers:
        return found
    interface = host.interfaces[0]
    peers = list(interface.peers)
    which = data.draw(st.integers(0, len(peers) - 1))
    peer, other = peers[which], data.draw(st.sampled_from(peers))
    match data.draw(
        st.sampled_from(["drop", "steal", "nothing", "psk", "port", "key", "wide", "silent", "address", "twice", "forward"])
    ):
        case "drop":
            del peers[which]
        case "steal":
            peers[which] = replace(peer, allowed_ips=(*peer.allowed_ips, *other.allowed_ips))
        case "nothing":
            peers[which] = replace(peer, allowed_ips=())
        case "psk":
            peers[which] = replace(peer, psk=data.draw(st.sampled_from(["", "?", "one"])))
        case "port":
            peers[which] = replace(peer, endpoint=HostPort("203.0.113.1", data.draw(st.sampled_from([51820, 51821]))))
        case "key":
            peers[which] = replace(peer, public_key=PublicKey(b"?" * 32))
        case "wide":
            peers[which] = replace(peer, allowed_ips=(*peer.allowed_ips, Prefix.parse("10.0.0.0/8")))
        case "silent":
            peers[which] = replace(peer, keepalive_s=0)
        case "twice":
            peers.append(peer)
        case "address":
            theirs = data.draw(st.sampled_from(found)).interfaces
            if theirs:
                interface = replace(interface, address=theirs[0].address)
        case "forward":
            host = replace(host, forwards=False)
    found[index] = replace(host, interfaces=(replace(interface, peers=tuple(peers)), *host.interfaces[1:]))
    return found


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_what_is_found_after_a_change_is_what_is_found_in_what_it_has_become(data: st.DataObject) -> None:
    network = data.draw(networks(kinds=("wireguard",), exits=data.draw(st.booleans())))
    made = Compilation(network, allocate(network, Lock()), keys(network))
    linted = Linted.of([node.host() for node in made.nodes()])
    for number in range(4):
        network = changed(data, network, number)
        known = keys(network)
        if data.draw(st.booleans()):
            known[network.nodes[0].name] = PublicKey(bytes([number + 1]) * 32)
        made = made.updated(network, allocate(network, made.lock), known)
        hosts = [node.host() for node in made.nodes()]
        if data.draw(st.booleans()):
            hosts = spoiled(data, hosts)
        linted = linted.updated(hosts)
        assert list(linted.findings) == lint(hosts)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_newcomer_whom_somebody_has_set_up_wrongly(data: st.DataObject) -> None:
    """One host comes, and one is spoiled at the same time: most often the rules that look at the new links alone see it."""
    relays = data.draw(st.booleans())
    nodes = [Node(f"n{index}", endpoint=HostPort(f"203.0.113.{index + 1}"), relay=relays and index == 0) for index in range(3)]
    nodes += [Node(f"m{index}") for index in range(2 if relays else 0)]
    network = Network("x", (Prefix.parse("10.0.0.0/20"), Prefix.parse("fd10::/64")), tuple(nodes))
    made = Compilation(network, allocate(network, Lock()), keys(network))
    linted = Linted.of([node.host() for node in made.nodes()])
    assert linted.plain is not None
    lans = (Prefix.parse("10.30.0.0/24"),) if data.draw(st.booleans()) else ()
    new = Node("new", endpoint=HostPort("198.51.100.1") if data.draw(st.booleans()) else None, lans=lans)
    grown = replace(network, nodes=(*nodes, new) if relays or new.endpoint else (*nodes, replace(new, endpoint=HostPort("h"))))
    after = made.updated(grown, allocate(grown, made.lock), keys(grown))
    hosts = spoiled(data, [node.host() for node in after.nodes()])
    assert list(linted.updated(hosts).findings) == lint(hosts)


def mesh(count: int, relay: bool = False) -> Network:
    nodes = tuple(
        Node(
            f"n{index}",
            endpoint=HostPort(f"203.0.113.{index + 1}") if not relay or index < 2 else None,
            relay=relay and index < 2,
        )
        for index in range(count)
    )
    return Network("x", (Prefix.parse("10.0.0.0/20"), Prefix.parse("fd10::/64")), nodes)


@pytest.mark.parametrize("relay", [False, True])
def test_of_a_network_in_order_only_what_comes_and_goes_is_looked_at(relay: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    network = mesh(20, relay)
    before = Compilation(network, allocate(network, Lock()), keys(network))
    linted = Linted.of([node.host() for node in before.nodes()])
    monkeypatch.setattr(rules, "RULES", ())  # a look at everything would find nothing now, and be plain for that
    monkeypatch.setattr(Plain, "of", lambda _: pytest.fail("everything is looked at"))
    last = network.nodes[-1]
    new = replace(last, name="new", endpoint=last.endpoint and HostPort("198.51.100.1"), lans=(Prefix.parse("10.30.0.0/24"),))
    more = replace(network, nodes=(*network.nodes[:7], new, *network.nodes[7:]))
    grown = before.updated(more, allocate(more, before.lock), keys(more))
    linted = linted.updated([node.host() for node in grown.nodes()])
    assert linted.findings == ()
    assert linted.plain is not None
    back = grown.updated(network, allocate(network, grown.lock), keys(network))
    linted = linted.updated([node.host() for node in back.nodes()])
    assert linted.plain is not None
    assert set(linted.plain.by_name) == {node.name for node in network.nodes}


def test_a_prefix_that_one_host_takes_from_another_is_found_by_going_on() -> None:
    network = mesh(5)
    made = Compilation(network, allocate(network, Lock()), keys(network))
    hosts = [node.host() for node in made.nodes()]
    linted = Linted.of(hosts)
    interface = hosts[1].interfaces[0]
    thief = Peer(**{name: getattr(interface.peers[0], name) for name in Peer.__slots__ if name != "allowed_ips"})
    thief = replace(thief, allowed_ips=(*interface.peers[0].allowed_ips, *interface.peers[1].allowed_ips))
    hosts[1] = replace(hosts[1], interfaces=(replace(interface, peers=(thief, *interface.peers[1:])),))
    found = linted.updated(hosts)
    assert "G0102" in {finding.code for finding in found.findings}
    assert found.plain is None
