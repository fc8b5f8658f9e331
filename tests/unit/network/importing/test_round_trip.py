"""The main promise: what was rendered, imported again, is a network file whose plan against it is empty."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ginnel.network import Network, parse_network
from ginnel.network.importing import Source, read_hosts
from ginnel.network.importing.infer import infer
from ginnel.network.plan import plan
from unit.network.drawn_networks import networks
from unit.network.importing.fleets import as_it_runs, compiled, sources

#: Formats that have all of a node whose links are WireGuard.
FORMATS = ("wg-quick", "networkd", "networkmanager")
_SLOW = (HealthCheck.too_slow,)


def reads_back(network: Network, files: list[Source]) -> None:
    """Against the network that it was, the plan is empty; and against the one that is inferred."""
    imported = read_hosts(files)
    assert [finding.message for finding in imported.findings if finding.severity != "note"] == []
    found = plan(imported.hosts, [node.host() for node in compiled(network).nodes()])
    assert [(host.name, step.action, step.text) for host in found.hosts for step in host.steps] == []
    inferred = infer(imported.hosts)
    assert inferred.network is not None, inferred.findings
    assert [(host.name, step.action, step.text) for host in inferred.left.hosts for step in host.steps] == []
    assert [finding.message for finding in inferred.findings if finding.severity != "note"] == []
    assert parse_network(inferred.text, "again.toml") == inferred.network


@settings(max_examples=100, suppress_health_check=_SLOW, deadline=None)
@given(networks(kinds=("wireguard",)), st.sampled_from(FORMATS), st.booleans())
def test_what_was_rendered_is_what_is_read(network: Network, format_name: str, keys: bool) -> None:
    reads_back(network, sources(compiled(network), format_name, keys=keys))


@settings(max_examples=60, suppress_health_check=_SLOW, deadline=None)
@given(networks(), st.booleans())
def test_so_are_node_files_with_tunnels_of_all_kinds(network: Network, keys: bool) -> None:
    compilation = compiled(network)
    assume(all(node.peers or node.tunnels for node in compilation.nodes()))  # a relay without a link has nothing to forward
    reads_back(network, sources(compilation, "ginnel", keys=keys))


@settings(max_examples=30, suppress_health_check=_SLOW, deadline=None)
@given(networks(kinds=("wireguard",)), st.randoms(use_true_random=False))
def test_the_order_of_the_files_does_not_matter_to_what_is_to_be_done(network: Network, chance: random.Random) -> None:
    files = sources(compiled(network), "wg-quick")
    chance.shuffle(files)
    reads_back(network, files)


@settings(max_examples=50, suppress_health_check=_SLOW, deadline=None)
@given(networks(kinds=("wireguard",)))
def test_what_wg_and_ip_say_of_what_runs_is_enough(network: Network) -> None:
    reads_back(network, as_it_runs(compiled(network)))
