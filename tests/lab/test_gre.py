"""
GRE links in the lab beyond the examples: through NAT in UDP, beside WireGuard; and what is said when the way is not as the file
thinks: protocol 47 filtered, a smaller path, a black hole.

Finding out that protocol 47 is filtered takes the processes 40 seconds of silence, and OSPF half of that to find its ways, so
all labs here run at once; each test waits for its own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.conftest import EXAMPLES, GINNEL, LAB_TIMEOUT_S, LabRunner, Ran
from namespaces import wait_until

HEAD = """\
[network]
name = "gre"
pool = ["10.10.0.0/24", "fd10:10::/64"]
kind = "gre"
"""
TWO = f"""{HEAD}
[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24"]
[node.lyon]
endpoint = "198.51.100.20"
lans = ["10.30.0.0/24"]
"""
#: A hub of GRE in UDP: two offices behind NAT, one router known by name with every option there is, and a phone with WireGuard.
HUB = f"""{HEAD}
shape = "hub"
hub = "centre"
[gre]
encapsulation = "udp"
csum = true
[node.centre]
endpoint = "203.0.113.10"
lans = ["10.40.0.0/24"]
[node.north]
lans = ["10.20.0.0/24"]
[node.south]
lans = ["10.30.0.0/24", "fd30::/64"]
[node.east]
endpoint = "vpn.example.org"
[node.phone]
[[link]]
between = ["phone", "centre"]
kind = "wireguard"
[[link]]
between = ["east", "centre"]
encapsulation = "none"
key = "10.0.0.7"
seq = true
tos = "inherit"
[[expect]]
from = "north"
to = "10.30.0.5:445"
[[expect]]
from = "phone"
to = "10.20.0.5:443"
[[expect]]
from = "fd30::7"
to = "phone"
"""
SIX = TWO.replace("203.0.113.10", "2001:db8:a::10").replace("198.51.100.20", "2001:db8:b::20")
#: A firewall that knows no protocol 47, as most do.
FILTER = '[lab.node.lyon]\nblock = ["gre"]\n'
LABS = {
    "hub": HUB,
    "over IPv6": SIX,
    "filtered": TWO + FILTER,
    "in UDP past the filter": TWO + FILTER + '[gre]\nencapsulation = "udp"\n',
    "small": TWO + "[lab.node.lyon]\nmtu = 1400\n",
    "black hole": TWO + '[lab.node.lyon]\nmtu = 1400\nblock = ["icmp"]\n',
}


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Ran]]:
    """Every lab, started at once; how each ended. Afterwards nothing of them is left."""
    runner = LabRunner(f"{os.getpid()}-{os.urandom(4).hex()}", Path())
    running: dict[str, subprocess.Popen[str]] = {}
    ended: dict[str, Ran] = {}
    for name, text in LABS.items():
        path = tmp_path_factory.mktemp("lab") / "network.toml"
        path.write_text(text)
        running[name] = runner.start(path, "--json", "--throughput", "0")
    running["gre-ospf"] = subprocess.Popen(
        [EXAMPLES / "gre-ospf" / "run.sh"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**runner.environment(), "PATH": f"{GINNEL.parent}:{os.environ['PATH']}"},
        start_new_session=True,
    )

    def result(name: str) -> Ran:
        if name not in ended:
            stdout, stderr = running[name].communicate(timeout=LAB_TIMEOUT_S)
            ended[name] = Ran(running[name].returncode, stdout, stderr)
        return ended[name]

    try:
        yield result
    finally:
        for process in running.values():
            if process.poll() is None:
                process.terminate()  # a lab ends itself, and the script its lab
            process.communicate(timeout=60)
    wait_until(lambda: not runner.left(), 10, "every process of the labs has ended")


def good(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.stdout + ran.stderr
    report = ran.report()
    assert (report["ok"], report["failures"]) == (True, [])
    return report


def failed(ran: Ran) -> tuple[dict[str, Any], list[str], list[str]]:
    """The report, what is not as the file says, and what to look at."""
    assert ran.code == 1, ran.stdout + ran.stderr
    report = ran.report()
    assert report["ok"] is False
    return report, [item["what"] for item in report["failures"]], [item["look_at"] for item in report["failures"]]


def test_a_hub_with_offices_behind_nat_and_a_phone_with_wireguard(labs: Callable[[str], Ran]) -> None:
    report = good(labs("hub"))
    links = {" ".join(link["between"]): link for link in report["links"]}
    assert {name: link["kind"] for name, link in links.items()} == {
        "centre north": "gre",
        "centre south": "gre",
        "east centre": "gre",
        "phone centre": "wireguard",
    }
    assert "GRE in UDP over IPv4, key 1, checksums" in links["centre north"]["configured"]["evidence"]
    assert "GRE over IPv4, key 167772167, checksums, sequence numbers" in links["east centre"]["configured"]["evidence"]
    proven = {" ".join(item["between"]): item["mtu"] for item in report["mtu"]}
    assert proven == {"centre north": 1460, "centre south": 1460, "east centre": 1464, "phone centre": 1420}
    through = [reach for reach in report["reachability"] if reach["path"] == ["north", "centre", "south"]]
    assert [reach["found"] for reach in through] == [True]
    assert {item["source"] for item in report["expectations"]} == {"north", "phone", "fd30::7"}


def test_over_ipv6(labs: Callable[[str], Ran]) -> None:
    report = good(labs("over IPv6"))
    assert [item["mtu"] for item in report["mtu"]] == [1456]
    assert "GRE over IPv6" in report["links"][0]["configured"]["evidence"]


def test_protocol_47_filtered_is_found_out_and_said_with_the_way_out(labs: Callable[[str], Ran]) -> None:
    report, what, look_at = failed(labs("filtered"))
    (link,) = report["links"]
    assert link["configured"]["ok"]
    assert not link["carrying"]["ok"]
    assert what[0].startswith("paris — lyon is configured, but not alive: ")
    said = link["alive"]["evidence"]
    assert "protocol 47 seems filtered on the way: " in said
    assert 'encapsulation = "udp" goes around it' in said
    assert look_at[0].endswith("this file's lab blocks gre on the way to lyon")
    assert "2 of 2 ways fail with the links above" in what


def test_in_udp_the_same_filter_lets_it_pass(labs: Callable[[str], Ran]) -> None:
    report = good(labs("in UDP past the filter"))
    assert "GRE in UDP over IPv4" in report["links"][0]["configured"]["evidence"]


def test_a_smaller_path_is_learned_from_icmp_and_the_sender_is_told(labs: Callable[[str], Ran]) -> None:
    report, what, look_at = failed(labs("small"))
    assert all(part["ok"] for part in (report["links"][0][name] for name in ("configured", "alive", "carrying")))
    (mtu,) = what
    assert mtu.startswith("the MTU of paris — lyon is not 1476: 1476 bytes do not pass: needs fragmentation, mtu 1376")
    assert "has learned that the path takes 1376" in mtu
    assert look_at == ["1500 - 20 (IPv4) - 4 (GRE) = 1476; this file's lab carries no more than 1400 bytes on the way to lyon"]


def test_a_black_hole_is_found_by_probes_and_named_as_what_the_lab_does(labs: Callable[[str], Ran]) -> None:
    report, what, look_at = failed(labs("black hole"))
    assert all(part["ok"] for part in (report["links"][0][name] for name in ("configured", "alive", "carrying")))
    assert what[0].startswith("the MTU of paris — lyon is not 1476: 1476 bytes do not pass: ")
    assert "has learned that the path takes 1376" in what[0], "one end at least, by its probes, for nobody told it"
    assert "a black hole, found by probes" in what[0]
    assert "blocks icmp, carries no more than 1400 bytes and nobody says so on the way to lyon" in look_at[0]


def test_the_example_gre_ospf_finds_the_other_way(labs: Callable[[str], Ran]) -> None:
    ran = labs("gre-ospf")
    assert ran.code == 0, ran.stdout + ran.stderr
    said = ran.stdout
    assert said.count("Full/PtP") == 2, "Paris has both neighbours"
    before, after = said.split("== protocol 47 between Paris and Lyon is filtered from now on")
    assert "10.30.0.0/24 via 10.10.0.2 dev gre-lyon" in before
    assert "10.30.0.0/24 via 10.10.0.6 dev gre-nice" in after.split("== and let through again")[0]
    assert "10.30.0.0/24 via 10.10.0.2 dev gre-lyon" in after.split("== and let through again")[1]
    assert said.count("2 received") == 2
    assert said.endswith("traffic found its way\n")
