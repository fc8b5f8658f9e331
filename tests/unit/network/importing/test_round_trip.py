"""The main promise: what was rendered, imported again, is a network file whose plan against it is empty."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ginnel.network import Network, parse_network
from ginnel.network.importing import read_hosts
from ginnel.network.importing.infer import infer
from ginnel.network.plan import plan
from unit.network.drawn_networks import networks
from unit.network.importing.fleets import compiled, sources

#: Formats that can be read back; the first two keep everything of a node with WireGuard alone.
FORMATS = ("wg-quick", "networkd", "networkmanager")


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(networks(kinds=("wireguard",)), st.sampled_from(FORMATS), st.booleans())
def test_what_was_rendered_is_what_is_read(network: Network, format_name: str, keys: bool) -> None:
    compilation = compiled(network)
    imported = read_hosts(sources(compilation, format_name, keys=keys))
    assert [finding for finding in imported.findings if finding.severity != "note"] == []
    found = plan(imported.hosts, [node.host() for node in compilation.nodes()])
    assert [(h.name, s.action, s.text) for h in found.hosts for s in h.steps] == []


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(networks(kinds=("wireguard",)), st.sampled_from(FORMATS), st.booleans())
def test_the_plan_of_what_was_imported_is_empty(network: Network, format_name: str, keys: bool) -> None:
    imported = read_hosts(sources(compiled(network), format_name, keys=keys))
    inferred = infer(imported.hosts)
    assert inferred.network is not None, inferred.findings
    assert [(h.name, s.action, s.text) for h in inferred.left.hosts for s in h.steps] == []
    assert [finding for finding in inferred.findings if finding.severity != "note"] == []
    assert parse_network(inferred.text, "again.toml") == inferred.network
