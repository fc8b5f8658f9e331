"""`[node]` on a real host: what `up` does to it beside the tunnels, that it works, and that `down` leaves nothing of it."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from cli.test_up_node import default, join
from namespaces import Namespace, Net, wait_until
from quick_world import World
from unit.config.test_node_host import GOOD

pytestmark = pytest.mark.peers

FILE = "/etc/ginnel/edge.toml"
TUNNEL = """
[tunnel.gre1]
kind = "gre"
local = "192.0.2.1"
remote = "192.0.2.2"
address = ["10.9.0.1/30"]
"""
ASKED = """
[node]
forward = true
sysctls = { "net.ipv4.conf.gre1.rp_filter" = 2, "net.ipv6.conf.eth0.proxy_ndp" = 1, "net.ipv4.tcp_mtu_probing" = 1 }
addresses = ["203.0.113.64/31", "198.51.100.0/26", "2001:db8:64::7"]
proxy = ["192.0.2.64/31 dev eth0", "2001:db8::64 dev eth0"]
nft = '''
set blocked { type ipv4_addr; elements = { 192.0.2.2 } }
chain entering {
  type filter hook input priority filter;
  ip saddr @blocked tcp dport 7 counter drop  # nobody needs it: } "
}
'''
"""
SETTINGS = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/eth0/proxy_ndp",
    "net/ipv4/tcp_mtu_probing",
)


@pytest.fixture
def far(net: Net) -> Namespace:
    return net.namespace("far")


@pytest.fixture
def world(net: Net, far: Namespace) -> World:
    here = net.namespace("host")
    join(net, here, "eth0", ["192.0.2.1/24", "2001:db8::1/64"], far, ["192.0.2.2/24", "2001:db8::2/64"])
    default(here, "192.0.2.2", "2001:db8::2")
    made = World.around(here)
    for setting in SETTINGS:
        made.space.write_proc(f"/proc/sys/{setting}", "0")
    wait_until(lambda: made.json("ip", "-j", "-6", "address", "show", "dev", "eth0", "scope", "link"), 10, "a link-local address")
    return made


def state(world: World) -> dict[str, Any]:
    """All that `[node]` may touch."""
    return {
        "settings": [world.ok("cat", f"/proc/sys/{setting}") for setting in SETTINGS],
        "proxy": world.json("ip", "-j", "neighbour", "show", "proxy"),
        "tables": world.ok("nft", "list", "tables"),
        "local": world.ok("ip", "route", "show", "table", "local", "dev", "lo"),
        **world.snapshot(),
    }


def up(world: World, text: str, name: str = "edge") -> str:
    world.write(f"/etc/ginnel/{name}.toml", text, 0o644)
    done = world.ginnel("up", name)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_host_does_what_is_asked_and_is_as_before_afterwards(world: World) -> None:
    before = state(world)
    up(world, ASKED + TUNNEL)
    assert [world.ok("cat", f"/proc/sys/{setting}").strip() for setting in SETTINGS] == ["1"] * 4
    assert world.ok("cat", "/proc/sys/net/ipv4/conf/gre1/rp_filter").strip() == "2"
    mine = {address["local"] for address in world.json("ip", "-j", "address", "show", "dev", "lo")[0]["addr_info"]}
    assert {"203.0.113.64", "203.0.113.65", "2001:db8:64::7"} <= mine
    assert world.ok("ip", "route", "get", "198.51.100.9").startswith("local ")
    listed = world.ok("nft", "list", "table", "inet", "ginnel-edge/host")
    assert "ip saddr @blocked tcp dport 7" in listed
    assert "gre1" in world.ok("nft", "list", "table", "inet", "ginnel-edge"), "the table of the MSS is another one"
    done = world.ginnel("down", "edge")
    assert done.returncode == 0, done.stderr
    assert state(world) == before


def test_a_neighbour_is_answered_for_others_and_forwarded_to_them(world: World, far: Namespace, net: Net) -> None:
    behind = net.namespace("behind")
    net.veth(world.space, behind, ["10.77.0.1/30"], ["10.77.0.2/30"])
    behind.ip("address", "add", "192.0.2.64/32", "dev", "lo")
    behind.ip("route", "add", "default", "via", "10.77.0.1")
    world.space.ip("route", "add", "192.0.2.64/32", "via", "10.77.0.2")
    assert not far.ping("192.0.2.64", count=1)
    up(world, ASKED + TUNNEL)
    far.ip("neighbour", "flush", "all")
    assert far.ping("192.0.2.64", count=1)
    assert world.ginnel("down", "edge").returncode == 0
    far.ip("neighbour", "flush", "all")
    assert not far.ping("192.0.2.64", count=1)


def test_two_nodes_that_forward(world: World) -> None:
    before = state(world)
    up(world, '[node]\nforward = "ipv4"\n' + TUNNEL)
    up(world, '[node]\nforward = "ipv4"\n' + TUNNEL.replace("gre1", "gre2").replace("10.9.0", "10.9.1") + "key = 5\n", "other")
    assert world.ginnel("down", "edge").returncode == 0
    assert world.ok("cat", "/proc/sys/net/ipv4/ip_forward") == "1\n", "the other one forwards still"
    assert world.ginnel("down", "other").returncode == 0
    assert state(world) == before


def test_after_a_kill_the_next_down_undoes_it(world: World) -> None:
    before = state(world)
    up(world, ASKED + TUNNEL)
    for pid in world.processes("ginnel.runtime.node"):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "gre1" not in world.ok("ip", "-br", "link"), 10, "the device's end")
    done = world.ginnel("down", "edge")
    assert done.returncode == 0, done.stderr
    assert state(world) == before


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("nft = 'chain x { type filter hook nowhere priority 0; }'", "nft"),
        ('addresses = ["192.0.2.1"]\n', ""),
        ('proxy = ["192.0.2.64 dev nothere"]', "nothere"),
        ('sysctls = { "net.ipv4.nothing.there.at" = 1 }', "no such setting"),
    ],
)
def test_what_the_host_refuses_leaves_it_as_it_was(world: World, wrong: str, said: str) -> None:
    world.ok("ip", "address", "add", "192.0.2.1/32", "dev", "lo")
    before = state(world)
    world.write(FILE, f"[node]\nforward = true\n{wrong}\n{TUNNEL}", 0o644)
    done = world.ginnel("up", "edge")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert state(world) == before


def test_a_dry_run_touches_nothing(world: World) -> None:
    before = state(world)
    world.write(FILE, ASKED + TUNNEL, 0o644)
    done = world.ginnel("up", "edge", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "ip neighbour add proxy 2001:db8::64 dev eth0" in done.stderr + done.stdout
    assert state(world) == before


def test_nft_reads_quotes_comments_and_braces_as_we_do(world: World) -> None:
    for text in GOOD:
        done = world.run("nft", "-c", "-f", "-", stdin=f"table inet t {{\n{text}\n}}\n")
        assert done.returncode == 0, (text, done.stderr)


def test_the_plan_is_told_as_json(world: World) -> None:
    world.write(FILE, ASKED + TUNNEL, 0o644)
    done = world.ginnel("up", "edge", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert "sysctl -q net.ipv4.tcp_mtu_probing=1" in json.loads(done.stdout)["steps"]
