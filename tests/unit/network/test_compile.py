"""Compilation: what each host runs, and that every packet of the network has one way at every hop."""

from __future__ import annotations

import ipaddress
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ginnel.network import HostPort, Lock, Network, allocate, compile_network
from ginnel.network.addressing import within
from ginnel.network.paths import Paths
from ginnel.units import Prefix
from unit.network.networks import HEAD, THREE, compiled, keys_for, parsed


def prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(Prefix.parse, texts))


def test_a_mesh() -> None:
    nodes = compiled(THREE)
    lyon = nodes["lyon"]
    assert [str(address) for address in lyon.address] == ["10.10.0.3/24", "fd10:10::3/64"]
    assert (lyon.listen_port, lyon.mtu, lyon.forwards) == (0, 1420, True)
    assert [peer.name for peer in lyon.peers] == ["paris", "frankfurt"]
    frankfurt = lyon.peer("frankfurt")
    assert frankfurt.allowed_ips == prefixes("10.10.0.2/32", "fd10:10::2/128", "10.30.0.0/24", "fd10:30::/64")
    assert (frankfurt.endpoint, frankfurt.keepalive_s) == (HostPort("198.51.100.20", 51820), 25)
    back = nodes["frankfurt"].peer("lyon")
    assert (back.endpoint, back.keepalive_s) == (None, 0)
    assert nodes["paris"].peer("frankfurt").keepalive_s == 0


def test_a_hub_has_each_spoke_and_a_spoke_the_pools_and_all_other_lans() -> None:
    hub = THREE.replace('name = "acme"', 'name = "acme"\nshape = "hub"\nhub = "paris"')
    nodes = compiled(hub)
    assert [peer.name for peer in nodes["lyon"].peers] == ["paris"]
    peer = nodes["lyon"].peer("paris")
    assert peer.allowed_ips == prefixes("10.10.0.0/24", "fd10:10::/64", "10.20.0.0/24", "10.30.0.0/24", "fd10:30::/64")
    assert peer.carries_rest
    assert nodes["paris"].peer("lyon").allowed_ips == prefixes("10.10.0.3/32", "fd10:10::3/128", "10.40.0.0/24")
    assert nodes["paris"].forwards


def test_an_exit_takes_everything_and_hides_it() -> None:
    text = HEAD + 'shape = "hub"\nhub = "office"\n[node.office]\nendpoint = "203.0.113.1"\n[node.phone]\nexit = "office"\n'
    nodes = compiled(text)
    assert nodes["phone"].peer("office").allowed_ips == prefixes("0.0.0.0/0", "::/0")
    assert nodes["office"].masquerades == prefixes("10.10.0.2/32", "fd10:10::2/128")
    assert not nodes["phone"].forwards


def test_a_port_of_its_own_and_a_forwarded_one() -> None:
    text = THREE.replace('"203.0.113.10"', '"203.0.113.10:4500"')
    nodes = compiled(text)
    assert nodes["lyon"].peer("paris").endpoint == HostPort("203.0.113.10", 4500)
    assert nodes["paris"].listen_port == 51820


def test_mtu_follows_the_narrowest_path_of_a_node() -> None:
    nodes = compiled(THREE + "underlay_mtu = 1492\n")
    assert [nodes[name].mtu for name in ("paris", "frankfurt", "lyon")] == [1412, 1412, 1412]
    assert str(nodes["lyon"].mtu_arithmetic) == "1492 - 40 (IPv6) - 8 (UDP) - 16 (WireGuard) - 16 (tag) = 1412"
    assert compiled(THREE.replace('name = "acme"', 'name = "acme"\nouter = "ipv4"'))["lyon"].mtu == 1440


@st.composite
def networks(draw: st.DrawFn) -> Network:
    count = draw(st.integers(2, 8))
    shape = draw(st.sampled_from(["mesh", "hub"]))
    lines = [
        HEAD,
        f'shape = "{shape}"',
        'hub = "n0"' if shape == "hub" else "",
        '[node.n0]\nendpoint = "203.0.113.1"\nrelay = true',
    ]
    for index in range(1, count):
        lines.append(f"[node.n{index}]")
        if draw(st.booleans()):
            lines.append(f'endpoint = "203.0.113.{index + 1}"')
            if draw(st.booleans()):
                lines.append("relay = true")
        if draw(st.booleans()):
            lines.append(f'lans = ["10.20.{index}.0/24"]')
    return parsed("\n".join(lines))


@given(networks())
def test_every_packet_has_one_way_and_passes_the_source_check_at_every_hop(network: Network) -> None:
    lock = allocate(network, Lock())
    nodes = compile_network(network, lock, keys_for(network))
    paths = Paths(network)
    for description in nodes.values():
        everything = [prefix for peer in description.peers for prefix in peer.allowed_ips]
        assert len(set(everything)) == len(everything), "no prefix belongs to two peers"
    for source in network.nodes:
        for target in network.nodes:
            path = paths.path(source.name, target.name)
            if source is target or path is None:
                continue
            from_address, to_address = lock.nodes[source.name].address[0], lock.nodes[target.name].address[0]
            for here, following in pairwise(path):
                assert holds(nodes[here].peer(following).allowed_ips, to_address), "it is sent to the next hop"
                assert holds(nodes[following].peer(here).allowed_ips, from_address), "the next hop accepts it from here"


def holds(allowed: tuple[Prefix, ...], address: bytes) -> bool:
    assert ipaddress.ip_address(address)
    return any(within(address, prefix) for prefix in allowed)
