"""
A routing daemon over our GRE: OSPF for both families, which needs multicast to arrive, and BGP. What it learns carries traffic.

    lan1 -- r1 ------ internet ------ r2 -- lan2       r1 ===== gre over IPv4, gre over IPv6 ===== r2

No node of the underlay knows the LANs, and its links are not one network: everything that arrives went through the tunnels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from namespaces import Namespace, Net, wait_until
from peers.node_files import NodeFile
from peers.routers import Bird

NODE = """
[tunnel.ospf4]
kind = "gre"
local = "192.0.2.{here}"
remote = "192.0.2.{there}"
key = 5
ttl = 64
address = ["10.10.4.{end}/30", "fd10:4::{end}/64"]

# BGP's packets have a TTL of 1, which must not be that of the delivery header.
[tunnel.bgp6]
kind = "gre"
local = "2001:db8:{here}::1"
remote = "2001:db8:{there}::1"
ttl = 64
address = ["10.10.6.{end}/30"]
"""
#: OSPF version 3 speaks between link-local addresses; version 2 from those that we gave.
OSPF = """
protocol ospf v2 lan {{ ipv4 {{ import all; export none; }}; area 0 {{
  interface "ospf4" {{ type ptp; hello 1; dead count 4; }}; interface "{lan}" {{ stub yes; }}; }}; }}
protocol ospf v3 lan6 {{ ipv6 {{ import all; export none; }}; area 0 {{
  interface "ospf4" {{ type ptp; hello 1; dead count 4; }}; interface "{lan}" {{ stub yes; }}; }}; }}
protocol static shown {{ ipv4; route 172.16.{end}.0/24 blackhole; }}
protocol bgp session {{ local 10.10.6.{end} as 6500{end}; neighbor 10.10.6.{other} as 6500{other}; connect delay time 1;
  ipv4 {{ import all; export where proto = "shown"; }}; }}
"""


@dataclass(slots=True)
class Site:
    """A router with its tunnels and daemon, and a machine in its LAN."""

    router: Namespace
    machine: Namespace
    node: NodeFile
    bird: Bird

    def wait_for_neighbours(self) -> None:
        """Until both adjacencies and the session stand."""
        for what, stands in (("lan", self.bird.full), ("lan6", self.bird.full), ("session", self.bird.established)):
            try:
                wait_until(lambda stands=stands, what=what: stands(what), 30, what)  # type: ignore[misc]
            except AssertionError as error:
                raise AssertionError(f"{error}; {self.bird.ask('show', 'protocols', 'all')}\n{self.bird.log()}") from None

    def wait_for_route(self, prefix: str, device: str) -> None:
        """Until the daemon has put this route into the kernel."""
        family = "-6" if ":" in prefix else "-4"
        wait_until(lambda: f"dev {device}" in self.router.ip(family, "route", "show", prefix, "proto", "bird"), 15, prefix)


@pytest.fixture
def sites(net: Net, tmp_path: Path) -> Iterator[list[Site]]:
    """Both sites, up, with their daemons started."""
    internet = net.namespace("inet")
    for forwarding in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        internet.write_proc(f"/proc/sys/net/{forwarding}", "1")
    made: list[Site] = []
    for end, other in ((1, 2), (2, 1)):
        router, machine = net.namespace(f"r{end}"), net.namespace(f"lan{end}")
        for forwarding in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            router.write_proc(f"/proc/sys/net/{forwarding}", "1")
        here, there = 4 * end + 1, 4 * other + 1
        inside = [f"192.0.2.{here}/30", f"2001:db8:{here}::1/64"]
        net.veth(router, internet, inside, [f"192.0.2.{here + 1}/30", f"2001:db8:{here}::2/64"])
        router.ip("route", "add", "192.0.2.0/24", "via", f"192.0.2.{here + 1}")
        router.ip("route", "add", "2001:db8::/32", "via", f"2001:db8:{here}::2")
        lan = net.veth(router, machine, [f"10.{end}.0.1/24", f"fd0{end}::1/64"], [f"10.{end}.0.2/24", f"fd0{end}::2/64"])
        machine.ip("route", "add", "default", "via", f"10.{end}.0.1")
        machine.ip("route", "add", "default", "via", f"fd0{end}::1")
        node = NodeFile.write(net, router, tmp_path, NODE.format(here=here, there=there, end=end))
        node.up()
        bird = Bird.start(router, tmp_path / f"bird{end}", f"10.{end}.0.1", OSPF.format(lan=lan.left, end=end, other=other))
        made.append(Site(router, machine, node, bird))
    yield made
    for site in made:
        site.node.down()


def test_ospf_and_bgp_across_our_gre(sites: list[Site]) -> None:
    """Adjacencies of OSPF versions 2 and 3, a BGP session, routes learned by each, and pings from LAN to LAN by those."""
    left, right = sites
    for site in sites:
        site.wait_for_neighbours()
    for site, end in ((left, 2), (right, 1)):
        site.wait_for_route(f"10.{end}.0.0/24", "ospf4")
        site.wait_for_route(f"fd0{end}::/64", "ospf4")
        site.wait_for_route(f"172.16.{end}.0/24", "bgp6")
    assert left.machine.ping("10.2.0.2", count=3)
    assert right.machine.ping("10.1.0.2", count=3)
    assert left.machine.ping("fd02::2", count=3)
    for tunnel in ("ospf4", "bgp6"):
        # What the kernel says to its neighbours while the tunnel is not carrying yet is all that may be lost.
        assert {reason for reason, count in left.node.show(tunnel)["drops"].items() if count} <= {"down"}
