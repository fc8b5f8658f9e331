"""
Ginnel's plain tunnels on a path with a router in it: traceroute, filters, and what `show` says of them.

    lan1 -- r1 ------ way ------ r2 -- lan2       r1 ===== gre, ipip ===== r2

All of it by node files and the command, as an operator would.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from namespaces import Namespace, Net, wait_until
from peers.node_files import NodeFile

NODE = """
[tunnel.lan]
kind = "gre"
local = "192.0.2.{here}"
remote = "192.0.2.{there}"
ttl = 64
address = ["10.10.1.{end}/30"]
routes = ["10.{other}.0.0/24"]

[tunnel.ip]
kind = "ipip"
local = "192.0.2.{here}"
remote = "192.0.2.{there}"
ttl = 64
address = ["10.10.2.{end}/30"]

[tunnel.udp]
kind = "gre"
encapsulation = "udp"
local = "192.0.2.{here}"
remote = "192.0.2.{there}"
ttl = 64
address = ["10.10.3.{end}/30"]
"""


@dataclass(slots=True)
class Path2:
    """Both routers with their LANs' machines, and the way between them."""

    way: Namespace
    routers: list[Namespace]
    machines: list[Namespace]
    nodes: list[NodeFile]

    def works(self, network: int) -> bool:
        """Whether a ping goes from the first router to the second through the tunnel of 10.10.*network*.0."""
        return self.routers[0].ping(f"10.10.{network}.2", within_s=0.5)


@pytest.fixture
def path(net: Net, tmp_path: Path) -> Iterator[Path2]:
    """Up, and carrying."""
    way = net.namespace("way")
    way.write_proc("/proc/sys/net/ipv4/ip_forward", "1")
    made = Path2(way, [], [], [])
    for end, other in ((1, 2), (2, 1)):
        router, machine = net.namespace(f"r{end}"), net.namespace(f"lan{end}")
        router.write_proc("/proc/sys/net/ipv4/ip_forward", "1")
        here, there = 4 * end + 1, 4 * other + 1
        net.veth(router, way, [f"192.0.2.{here}/30"], [f"192.0.2.{here + 1}/30"])
        router.ip("route", "add", "192.0.2.0/24", "via", f"192.0.2.{here + 1}")
        net.veth(router, machine, [f"10.{end}.0.1/24"], [f"10.{end}.0.2/24"])
        machine.ip("route", "add", "default", "via", f"10.{end}.0.1")
        node = NodeFile.write(net, router, tmp_path, NODE.format(here=here, there=there, end=end, other=other))
        node.up()
        made.routers.append(router)
        made.machines.append(machine)
        made.nodes.append(node)
    wait_until(lambda: all(made.works(network) for network in (1, 2, 3)), 10, "all tunnels to carry")
    yield made
    for node in made.nodes:
        node.down()


def hop(machine: Namespace, target: str, ttl: int) -> str:
    """Who says that a ping with this TTL ended there; the target itself when it arrived."""
    said = machine.run("ping", "-n", "-c", "1", "-W", "2", "-t", str(ttl), target, check=False)
    found = re.search(r"^From (\S+) .*Time to live exceeded|bytes from (\S+):", said, re.MULTILINE)
    assert found, said
    return found[1] or found[2]


def test_traceroute_sees_both_ends_of_the_tunnel_and_nothing_between(path: Path2) -> None:
    """From LAN to LAN: our router, the far end of the tunnel, the machine; both ways."""
    left, right = path.machines
    assert [hop(left, "10.2.0.2", ttl) for ttl in (1, 2, 3)] == ["10.1.0.1", "10.10.1.2", "10.2.0.2"]
    assert [hop(right, "10.1.0.2", ttl) for ttl in (1, 2, 3)] == ["10.2.0.1", "10.10.1.1", "10.1.0.2"]


@pytest.mark.slow
def test_a_protocol_that_is_filtered_is_named_with_the_way_out(path: Path2) -> None:
    """Dropped in silence on the way: `show` says which protocol, and for GRE that UDP goes around it; and UDP does."""
    path.way.run("nft", "add table ip f; add chain ip f in { type filter hook forward priority 0; }")
    path.way.run("nft", "add rule ip f in ip protocol { 4, 47 } drop")
    for network in (1, 2):
        path.routers[0].popen("ping", "-n", "-q", "-i", "0.5", f"10.10.{network}.2", stdout=subprocess.DEVNULL)
    for tunnel, protocol, way_out in (("lan", "protocol 47", True), ("ip", "protocol 4", False)):

        def told(tunnel: str = tunnel, protocol: str = protocol) -> str:
            view = path.nodes[0].show(tunnel)
            why = " ".join([view["carrying"]["why"], *view["warnings"]])
            return why if f"{protocol} seems filtered" in why else ""

        said = wait_until(told, 60, f"{tunnel}: the filter to be named")
        assert ('encapsulation = "udp" goes around it' in said) == way_out
    assert "protocol 47 seems filtered" in path.nodes[0].text()
    assert path.works(3), "GRE in UDP is not filtered"
    assert "filtered" not in str(path.nodes[0].show("udp")["warnings"])


def test_a_refusal_on_the_way_is_told_with_who_said_it(path: Path2) -> None:
    """A router that rejects protocol 47: `show` says so at once, by its address, with the way out."""
    path.way.run("nft", "add table ip f; add chain ip f in { type filter hook forward priority 0; }")
    path.way.run("nft", "add rule ip f in ip protocol gre reject with icmp type admin-prohibited")
    assert not path.works(1)

    def said() -> str:
        view = path.nodes[0].show("lan")
        return " ".join([view["carrying"]["why"], *view["warnings"]])

    wait_until(lambda: "protocol 47 is refused on the way: 192.0.2.6 said so" in said(), 5, "the refusal to be told")
    assert 'encapsulation = "udp"' in said()
    # Who sends into the tunnel meanwhile is told, too, as Linux tells it.
    assert "Destination Host Unreachable" in path.routers[0].run("ping", "-n", "-c", "2", "-i", "0.2", "10.10.1.2", check=False)
    path.way.run("nft", "flush chain ip f in")

    def carries() -> bool:
        return path.works(1) and path.nodes[0].show("lan")["carrying"]["answer"] == "yes"

    wait_until(carries, 15, "it to carry again, and show to notice")
