"""What is in order has no findings: random networks as they compile, and configurations as they are found in the world."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings

from ginnel.network import Compilation, Lock, Network, allocate
from ginnel.network.importing import read_hosts
from ginnel.network.lint import lint
from ginnel.units import PublicKey
from unit.network.drawn_networks import networks
from unit.network.importing.fleets import compiled, sources
from unit.network.networks import parsed


def _silent_on_purpose(network: Network) -> Network:
    """Without what a person says against the grain: no keepalives behind NAT."""
    return replace(
        network,
        nodes=tuple(replace(node, keepalive_s=None if node.keepalive_s == 0 else node.keepalive_s) for node in network.nodes),
    )


@settings(max_examples=300)
@given(networks())
def test_a_network_in_order_has_no_findings(drawn: Network) -> None:
    network = _silent_on_purpose(drawn)
    lock = allocate(network, Lock())
    for keys in ({}, {node.name: PublicKey(f"{node.name:>32}".encode()) for node in network.nodes}):
        hosts = [description.host() for description in Compilation(network, lock, keys).nodes()]
        assert [(each.code, each.message) for each in lint(hosts)] == []


@settings(max_examples=60)
@given(networks(kinds=("wireguard",)))
def test_the_same_network_read_from_the_files_of_its_hosts_has_none_either(drawn: Network) -> None:
    compilation = compiled(_silent_on_purpose(drawn))
    imported = read_hosts(sources(compilation, "wg-quick"))
    assert len(imported.hosts) == len(drawn.nodes)
    assert [(each.code, each.message) for each in lint(imported.hosts) if each.severity != "note"] == []


def test_an_origin_whose_second_edge_is_a_hub_held_ready() -> None:
    text = '[network]\nname = "x"\npool = ["10.0.0.0/24"]\nshape = "hub"\nhub = ["paris", "lyon"]\n'
    text += (
        '[node.paris]\nendpoint = "203.0.113.1"\n[node.lyon]\nendpoint = "203.0.113.2"\n[node.rome]\nlans = ["10.20.0.0/24"]\n'
    )
    text += '[[protect]]\nedge = ["paris", "lyon"]\norigin = "rome"\naddresses = ["198.51.100.64/32"]\n'
    hosts = [description.host() for description in compiled(parsed(text)).nodes()]
    assert [(each.code, each.message) for each in lint(hosts)] == []
