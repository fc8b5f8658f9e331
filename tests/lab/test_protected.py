"""
Protected origins beyond the example: by GRE and by two kinds at once, an edge on its addresses' network, stock wg-quick;
and that the trials find what they are there to find: an origin without its rules.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ginnel.lab.rehearse import Options, Rehearsal
from ginnel.network import Lock, NodeDescription, allocate, hostrules, parse_network
from ginnel.network.hostrules import HostRules
from lab.conftest import EXAMPLES, LabRunner, Ran

TEXT = (EXAMPLES / "protected-origin" / "network.toml").read_text()
#: An edge by WireGuard, one by GRE; the second has the addresses on its own network, and some of its own; the origin is behind a
#: host name and lets itself be asked under its own address.
MIXED = """
[network]
name = "mixed"
pool = ["10.10.0.0/24"]
shape = "none"
[node.paris]
endpoint = "203.0.113.1"
[node.berlin]
endpoint = "edge.example.org"
[node.lyon]
endpoint = "origin.example.org"
lans = ["10.30.0.0/24"]
[[link]]
between = ["paris", "lyon"]
[[link]]
between = ["berlin", "lyon"]
kind = "gre"
[[link]]
between = ["berlin", "paris"]
[[protect]]
edge = ["paris", "berlin"]
origin = "lyon"
addresses = ["192.0.2.64/28"]
[[protect]]
edge = "berlin"
origin = "lyon"
addresses = ["198.51.100.64/31", "2001:db8:9::7/128"]
uplink = "eth0"
"""


def trials(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [trial for protect in report["protects"] for trial in protect["trials"]]


def good(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.stdout + ran.stderr
    report = ran.report()
    assert (report["ok"], report["failures"]) == (True, [])
    return report


def test_by_gre(lab: LabRunner) -> None:
    report = good(lab(lab.write(TEXT.replace('kind = "wireguard"', 'kind = "gre"')), "--json", "--throughput", "0"))
    assert {link["kind"] for link in report["links"]} == {"gre"}
    assert len(trials(report)) == 11


def test_by_two_kinds_and_on_the_edges_own_network(lab: LabRunner) -> None:
    report = good(lab(lab.write(MIXED), "--json", "--throughput", "0"))
    assert {link["kind"] for link in report["links"]} == {"gre", "wireguard"}
    assert len(trials(report)) == 7 + 5
    (first, _) = [trial for trial in trials(report) if trial["what"] == "lyon under its own address"]
    assert "the service answers" in first["evidence"]
    assert "only-edges = true in [[protect]] would end that" in first["evidence"]


def test_by_stock_wg_quick(lab: LabRunner) -> None:
    text = TEXT.replace("[node.origin]", "[node.origin]\nlans = []").replace(', "2001:db8:64::/64"', "")
    report = good(lab(lab.write(text), "--all-wg-quick", "--json", "--throughput", "0"))
    assert {node["runs"] for node in report["nodes"]} == {"wg-quick"}
    assert len(trials(report)) == 7


def test_an_origin_without_its_rules_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    complete = hostrules.host_part

    def without(description: NodeDescription) -> HostRules:
        rules = complete(description)
        missing = {"answering", "guarding", "only_edges"}
        return replace(rules, chains=tuple(chain for chain in rules.chains if chain[0] not in missing))

    monkeypatch.setattr(hostrules, "host_part", without)
    text = TEXT.partition("[[expect]]")[0].replace(', "2001:db8:64::/64"', "")
    network = parse_network(text, str(tmp_path / "network.toml"))
    report = Rehearsal(network, allocate(network, Lock()), Options(throughput_s=0), lambda _: None).run()
    (protect,) = report.protects
    found = dict(protect.trials)
    assert {what for what, finding in found.items() if not finding.ok} == {
        "a client by edge-b (IPv4)",  # it is answered by edge-a, and the internet takes that from nobody
        "the address past the edges (IPv4)",
        "origin under its own address",
        "without edge-a",
    }
    assert found["a client by edge-a (IPv4)"].ok
    assert "the service answers" in found["the address past the edges (IPv4)"].evidence
    assert len(report.failures) == 4
