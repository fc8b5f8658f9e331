"""Every example, run as a newcomer runs it: all is as its file says, within the time that a newcomer has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ginnel.config import nodefile
from ginnel.lab.namespaces import Namespaces
from ginnel.lab.probe import Pinger
from ginnel.network import Lock, allocate, compile_network, parse_network
from ginnel.network.hostrules import host_config
from lab.conftest import EXAMPLES, GINNEL, LabRunner

#: What the lab of three sites may take (a healthy one takes five seconds).
LAB_BUDGET_S = 40.0

NETWORKS = [
    "point-to-point",
    "three-sites",
    "hub",
    "site-to-site",
    "road-warrior",
    "bounce",
    "regions",
    "mixed",
    "overlapping-lans",
    "protected-origin",
    "gre-sites",
    "gre-ipsec-sites",
    "gre-ipsec-certificates",
]
#: gre-ospf is run in test_gre.py, beside what takes as long.
SCRIPTS = ["gre-ospf", "gre-edge-origin", "container"]


def test_there_is_no_example_without_a_test() -> None:
    found = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert found == {*NETWORKS, *SCRIPTS}


def test_every_example_is_named_in_the_readme() -> None:
    text = (EXAMPLES / "README.md").read_text()
    for name in (*NETWORKS, *SCRIPTS):
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
    assert report["mtu"]
    for item in report["mtu"]:
        expected = MTU.get(name, 1434 if name == "mixed" and item["between"] == ["east", "west"] else 1420)
        assert f"{expected} bytes pass whole, {expected + 1} are refused" in item["proven"]["evidence"]
    assert report["throughput"]["gbit_s"] > 0
    for link in report["capture"]["links"]:
        assert link["control_seen"] > 0, "the capture sees what is in clear"
        assert any(link[which] > 0 for which in SEEN.get(name, ("wireguard",)))
        assert (link["leaks"], link["dropped"]) == (0, 0)
    assert path.with_name("network.lock.toml").read_bytes() == before, "nothing is renumbered"
    CHECKS[name](report)


def point_to_point(report: dict[str, Any]) -> None:
    (link,) = report["links"]
    assert link["kind"] == "wireguard"
    assert [item["mtu"] for item in report["nodes"]] == [1420, 1420]


def paths_of(report: dict[str, Any]) -> dict[tuple[str, str], list[str]]:
    """The way between any two nodes, by their names."""
    return {(reach["path"][0], reach["path"][-1]): reach["path"] for reach in report["reachability"] if reach["path"]}


def bounce(report: dict[str, Any]) -> None:
    ways = paths_of(report)
    hidden = ("home", "office", "laptop")
    for near in hidden:
        for far in hidden:
            if near != far:
                assert ways[near, far] == [near, "bounce", far]
        assert ways[near, "server"] == [near, "server"]


def regions(report: dict[str, Any]) -> None:
    ways = paths_of(report)
    assert ways["lyon", "porto"] == ["lyon", "frankfurt", "porto"]
    assert ways["boston", "austin"] == ["boston", "newyork", "austin"]
    for near in ("lyon", "porto"):
        for far in ("boston", "austin"):
            assert len(ways[near, far]) == 3
            assert ways[near, far] == ways[far, near][::-1]


def mixed(report: dict[str, Any]) -> None:
    kinds = {tuple(link["between"]): link["kind"] for link in report["links"]}
    assert kinds == {("east", "west"): "gre+ipsec", ("office", "east"): "wireguard", ("laptop", "west"): "wireguard"}
    assert paths_of(report)["laptop", "office"] == ["laptop", "west", "east", "office"]


def overlapping_lans(report: dict[str, Any]) -> None:
    (dns,) = report["dns"]
    assert dns["finding"]["evidence"] == "answered by 10.101.1.53, corp.example is searched"
    assert {(reach["source"], reach["target"]) for reach in report["reachability"] if reach["ok"] and reach["version"] == 4} >= {
        *(("lan-paris", "lan-lyon"), ("lan-lyon", "lan-paris")),
        *(("laptop", "lan-paris"), ("laptop", "lan-lyon"), ("lan2-lyon", "lan-lyon")),
    }


def protected_origin(report: dict[str, Any]) -> None:
    (protect,) = report["protects"]
    assert (protect["origin"], protect["edges"]) == ("origin", ["edge-a", "edge-b"])
    found = {trial["what"]: trial["evidence"] for trial in protect["trials"]}
    assert len(found) == 11
    assert all(trial["ok"] for trial in protect["trials"])
    assert "sees 2001:db8:fffe::2" in found["a client by edge-b (IPv6)"]
    assert found["origin under its own address"].startswith("silence at 192.0.2.99")


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


def gre_sites(report: dict[str, Any]) -> None:
    (link,) = report["links"]
    assert link["kind"] == "gre"
    assert link["configured"]["evidence"] == "as planned: GRE over IPv4, 2 routes"
    # Which of the two is told depends on what was first: both ends send keepalives at once, and the lab pings.
    assert "a keepalive came back" in link["alive"]["evidence"] or "heard from it" in link["alive"]["evidence"]
    assert [node["address"] for node in report["nodes"]] == [["10.10.10.1/30"], ["10.10.10.2/30"]]
    assert "of GRE, which does not encrypt" in report["capture"]["clean"]["evidence"]


def gre_ipsec_sites(report: dict[str, Any]) -> None:
    (link,) = report["links"]
    assert link["configured"]["evidence"] == "as planned: GRE over IPsec in transport mode over IPv4, 2 routes"
    assert "server-a.gre-ipsec-sites has proven who it is" in link["alive"]["evidence"]
    assert report["capture"]["clean"]["evidence"].endswith("no canary, no inner address in clear")


def gre_ipsec_certificates(report: dict[str, Any]) -> None:
    through = [reach for reach in report["reachability"] if len(reach["path"]) == 3]
    assert {tuple(reach["path"]) for reach in through} == {
        ("branch-north", "head-office", "branch-south"),
        ("branch-south", "head-office", "branch-north"),
    }
    assert all(reach["found"] for reach in through)
    assert all("has proven who it is" in link["alive"]["evidence"] for link in report["links"])


#: What fits where it is not WireGuard, and what is seen on the way.
MTU = {"gre-sites": 1476, "gre-ipsec-sites": 1434, "gre-ipsec-certificates": 1434}
SEEN = {
    "mixed": ("wireguard", "esp"),
    "gre-sites": ("plain",),
    "gre-ipsec-sites": ("esp",),
    "gre-ipsec-certificates": ("esp",),
}

CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "point-to-point": point_to_point,
    "bounce": bounce,
    "regions": regions,
    "mixed": mixed,
    "overlapping-lans": overlapping_lans,
    "protected-origin": protected_origin,
    "three-sites": three_sites,
    "hub": hub,
    "site-to-site": site_to_site,
    "road-warrior": road_warrior,
    "gre-sites": gre_sites,
    "gre-ipsec-sites": gre_ipsec_sites,
    "gre-ipsec-certificates": gre_ipsec_certificates,
}


@pytest.mark.parametrize(
    ("kind", "mtus", "seen"), [("gre+ipsec", {1434}, "esp"), ("ipsec", {1438}, "esp"), ("gre", {1476, 1464}, "plain")]
)
def test_one_word_makes_three_sites_of_other_tunnels(
    kind: str, mtus: set[int], seen: str, lab: LabRunner, example: Callable[[str], Path]
) -> None:
    """What the file expects of them stays as it is, and holds."""
    path = example("three-sites")
    text = path.read_text()
    path.write_text(text.replace('shape = "mesh"', f'kind = "{kind}"\nshape = "mesh"'))
    assert path.read_text() != text
    ran = lab(path, "--json", "--throughput", "0")
    assert ran.code == 0, ran.stderr + ran.stdout
    report = ran.report()
    assert report["failures"] == []
    assert {link["kind"] for link in report["links"]} == {kind}
    assert [item["finding"]["ok"] for item in report["expectations"]] == [True] * 3
    assert {item["mtu"] for item in report["mtu"]} == mtus
    for link in report["capture"]["links"]:
        assert link[seen] > 0
        assert link["leaks"] == 0
    three_sites(report)


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


def test_the_hand_written_files_are_what_the_network_file_compiles_to() -> None:
    """But for the device's name, and an MTU that the host works out where the network file knows it."""
    text = (EXAMPLES / "gre-sites" / "network.toml").read_text()
    network = parse_network(text, "network.toml")
    compiled = compile_network(network, allocate(network, Lock()), {})
    for name in ("server-a", "server-b"):
        path = EXAMPLES / "gre-sites" / f"{name}.toml"
        file = nodefile.parse(path.read_text(), str(path))
        (written,) = file.plain
        (tunnel,) = compiled[name].tunnels
        assert written == replace(tunnel.config, name="gre1", mtu=None)
        assert file.host == host_config(compiled[name])


@pytest.mark.parametrize(("name", "mtu"), [("gre-sites", 1476), ("gre-ipsec-sites", 1418)])
def test_the_hand_written_files_join_two_servers(name: str, mtu: int, tmp_path: Path) -> None:
    """As the README says: `ginnel up` on both; the LANs reach each other, and `down` takes it all back."""
    files = tmp_path / name
    shutil.copytree(EXAMPLES / name, files)
    psk = files / "gre1.psk"
    psk.touch(mode=0o600)
    psk.write_text("what both servers have\n")
    ends = {"server-a": ("203.0.113.10", "10.20.0"), "server-b": ("198.51.100.20", "10.30.0")}
    with Namespaces("test") as spaces:
        spaces.start(dict.fromkeys(ends, "node") | {f"lan-{name}": "lan" for name in ends})
        left, right = (spaces[name] for name in ends)
        left.configure([f"link add eth0 type veth peer name eth0 netns {right.pid}"])
        for end, (address, lan) in ends.items():
            server, host = spaces[end], spaces[f"lan-{end}"]
            server.configure(
                [
                    f"link add lan0 type veth peer name eth0 netns {host.pid}",
                    "link set eth0 up",
                    "link set lan0 up",
                    f"addr add {address}/32 dev eth0",
                    "route add default dev eth0",
                    f"addr add {lan}.1/24 dev lan0",
                ]
            )
            host.configure(["link set eth0 up", f"addr add {lan}.5/24 dev eth0", f"route add default via {lan}.1"])
        for end in ends:
            up = spaces[end].run([GINNEL, "up", files / f"{end}.toml"])
            assert up.returncode == 0, up.stderr
        with Pinger(spaces["lan-server-a"], 4, b"from LAN to LAN") as pinger:
            assert pinger.ping("10.30.0.5", 10, mtu).ok
            assert pinger.ping("10.30.0.5", 5, mtu + 1).said == f"needs fragmentation, mtu {mtu}"
        for end in ends:
            down = spaces[end].run([GINNEL, "down", files / f"{end}.toml"])
            assert down.returncode == 0, down.stderr
            assert "gre1" not in spaces[end].run(["ip", "link"]).stdout
            assert "10.10.10" not in spaces[end].run(["ip", "route"]).stdout
            assert spaces[end].run(["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout == "0\n"


# ---------------------------------------------------------------- scripts


def script(name: str) -> str:
    """Run the example's run.sh to its end; what it printed."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run([EXAMPLES / name / "run.sh"], capture_output=True, text=True, timeout=150, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_container() -> None:
    said = script("container")
    assert said.count("2 received") == 2
    assert "with wg0 down: no way out" in said


def test_gre_edge_origin_answers_under_the_protected_address_alone() -> None:
    said = script("gre-edge-origin")
    assert "192.0.2.80 from 203.0.113.65 dev edge table 64" in said
    assert "2 received" in said
    assert "1000000 bytes came from 203.0.113.65" in said
    assert "counter packets 0 bytes 0 drop" in said, "nothing forged left the origin's own wire"
