"""Every example, run as a newcomer runs it: all is as its file says, within the time that a newcomer has."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.conftest import EXAMPLES, LabRunner

#: What the lab of three sites may take (a healthy one takes five seconds).
LAB_BUDGET_S = 40.0

NETWORKS = ["three-sites", "hub", "site-to-site", "road-warrior"]


def test_there_is_no_example_without_a_test() -> None:
    found = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert found == {*NETWORKS, "container"}


def test_every_example_is_named_in_the_readme() -> None:
    text = (EXAMPLES / "README.md").read_text()
    for name in (*NETWORKS, "container"):
        assert f"]({name}/" in text


@pytest.mark.parametrize("name", NETWORKS)
def test_an_example_is_as_its_file_says(name: str, lab: LabRunner, example: Callable[[str], Path]) -> None:
    path = example(name)
    before = path.with_name("network.lock.toml").read_bytes()
    ran = lab(path, "--json", "--throughput", "1")
    assert ran.code == 0, ran.stderr + ran.stdout
    report = ran.report()
    assert report["ok"] is True
    assert report["failures"] == []
    assert report["seconds"] <= LAB_BUDGET_S
    file = tomllib.loads(path.read_text())
    assert [node["name"] for node in report["nodes"]] == list(file["node"])
    assert len(report["expectations"]) == len(file["expect"])
    assert all(item["finding"]["ok"] for item in report["expectations"])
    for link in report["links"]:
        assert all(link[part]["ok"] and link[part]["evidence"] for part in ("configured", "alive", "carrying"))
    assert all("1420 bytes pass whole, 1421 are refused" in item["proven"]["evidence"] for item in report["mtu"])
    assert report["throughput"]["gbit_s"] > 0
    for link in report["capture"]["links"]:
        assert link["control_seen"] > 0, "the capture sees what is in clear"
        assert link["wireguard"] > 0
        assert (link["leaks"], link["dropped"]) == (0, 0)
    assert path.with_name("network.lock.toml").read_bytes() == before, "nothing is renumbered"
    CHECKS[name](report)


def three_sites(report: dict[str, Any]) -> None:
    ways = {(reach["source"], reach["target"], reach["version"]) for reach in report["reachability"]}
    assert len(ways) == 12  # every LAN from every other, by IPv4 and IPv6
    assert all(len(reach["path"]) == 2 for reach in report["reachability"])
    assert [node["behind_nat"] for node in report["nodes"]] == [False, False, True]


def hub(report: dict[str, Any]) -> None:
    through = [reach for reach in report["reachability"] if reach["path"] == ["north", "centre", "south"]]
    assert {reach["version"] for reach in through} == {4, 6}
    assert all(reach["found"] for reach in through)


def site_to_site(report: dict[str, Any]) -> None:
    routers = [item for item in report["expectations"] if (item["source"], item["target"]) == ("east", "west")]
    assert len(routers) == 1  # the interface address of the other side


def road_warrior(report: dict[str, Any]) -> None:
    (dns,) = report["dns"]
    assert dns["finding"] == {"ok": True, "evidence": "answered by 10.23.0.53"}
    links = {link["name"]: link for link in report["capture"]["links"]}
    for name in ("laptop", "laptop (home)"):  # outside of the tunnel: not a packet, not a query
        assert links[name]["tunnel_only"]
        assert (links[name]["leaks"], links[name]["left_here"]) == (0, 0)
    assert links["office"]["left_here"] >= 4  # what the laptop sent to the internet, by IPv4 and IPv6, came out here
    outside = [reach for reach in report["reachability"] if reach["target"] == "internet"]
    assert {reach["version"] for reach in outside if reach["found"]} == {4, 6}


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "three-sites": three_sites,
    "hub": hub,
    "site-to-site": site_to_site,
    "road-warrior": road_warrior,
}


@pytest.mark.parametrize("name", ["three-sites", "road-warrior"])
def test_stock_wg_quick_on_every_node_gives_the_same(name: str, lab: LabRunner, example: Callable[[str], Path]) -> None:
    """The rendered files are plain wg-quick files: hosts without ginnel run them."""
    ran = lab(example(name), "--json", "--throughput", "0", "--all-wg-quick")
    assert ran.code == 0, ran.stderr + ran.stdout
    assert {node["runs"] for node in ran.report()["nodes"]} == {"wg-quick"}


def test_another_implementation_is_a_plain_peer(
    lab: LabRunner, example: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The laptop of road-warrior under stock wg-quick and wireguard-go, the office under ginnel."""
    monkeypatch.setenv("WG_QUICK_USERSPACE_IMPLEMENTATION", "wireguard-go")
    ran = lab(example("road-warrior"), "--json", "--throughput", "0")
    assert ran.code == 0, ran.stderr + ran.stdout


def test_container() -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [EXAMPLES / "container" / "run.sh"], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("2 received") == 2
    assert "with wg0 down: no way out" in done.stdout
