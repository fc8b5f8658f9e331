"""
The files of a protected origin and of its edge, on a real host: up by ginnel and by stock wg-quick, the same rules, routes and
addresses by both, and nothing of it after down.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ginnel import crypto
from ginnel.network import Lock, NodeDescription, allocate, compile_network, parse_network
from ginnel.network.render import interfaces, wgquick
from ginnel.units import PublicKey
from namespaces import Net, wait_until
from quick_world import World

pytestmark = pytest.mark.peers

NETWORK = """
[network]
name = "acme"
pool = ["10.10.0.0/24", "fd10:10::/64"]
shape = "none"
[node.paris]
endpoint = "192.0.2.2"
[node.berlin]
endpoint = "198.51.100.1"
[node.lyon]
lans = [{ seen = "10.99.0.0/24", real = "192.168.1.0/24" }]
[[link]]
between = ["paris", "lyon"]
[[link]]
between = ["berlin", "lyon"]
[[protect]]
edge = ["paris", "berlin"]
origin = "lyon"
addresses = ["203.0.113.64/31", "2001:db8:64::/64"]
only-edges = true
"""
UPLINK = NETWORK.replace("only-edges = true", 'uplink = "eth0"').replace("2001:db8:64::/64", "2001:db8:64::7/128")


def described(text: str, name: str) -> NodeDescription:
    network = parse_network(text, "network.toml")
    keys = {node.name: PublicKey(crypto.public_key(crypto.generate_private_key())) for node in network.nodes}
    return compile_network(network, allocate(network, Lock()), keys)[name]


@pytest.fixture
def world(net: Net) -> World:
    made = World.create(net)
    # What hooks set with /proc stays, as with wg-quick.
    for setting in ("ipv4/ip_forward", "ipv4/conf/all/arp_ignore", "ipv6/conf/all/forwarding", "ipv6/conf/eth0/proxy_ndp"):
        made.space.write_proc(f"/proc/sys/net/{setting}", "1")
    wait_until(lambda: made.json("ip", "-j", "-6", "address", "show", "dev", "eth0", "scope", "link"), 10, "a link-local address")
    return made


def written(world: World, description: NodeDescription) -> list[str]:
    key = crypto.generate_private_key().reveal_base64()
    return [world.write(f"/etc/wireguard/{each.interface}.conf", wgquick.render(each, key)) for each in interfaces(description)]


def state(world: World) -> dict[str, Any]:
    return {**world.snapshot(), "proxy": world.json("ip", "-j", "neighbour", "show", "proxy")}


def run(world: World, by: str, verb: str, path: str) -> None:
    # By its path: the tests may run without the environment's programs on theirs.
    environment = {"WG_QUICK_USERSPACE_IMPLEMENTATION": str(Path(sys.executable).with_name("ginnel-wireguard"))}
    done = world.ginnel(verb, path) if by == "ginnel" else world.run("wg-quick", verb, path, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("text", "name"), [(NETWORK, "lyon"), (UPLINK, "paris")], ids=["origin", "edge"])
def test_the_same_by_both_and_nothing_of_it_afterwards(text: str, name: str, world: World) -> None:
    description = described(text, name)
    files = written(world, description)
    before = state(world)
    found = {}
    for by in ("ginnel", "wg-quick"):
        for path in files:
            run(world, by, "up", path)
        found[by] = state(world)
        for path in files[::-1]:
            run(world, by, "down", path)
        assert state(world) == before, by
    assert found["ginnel"] == found["wg-quick"]


def test_what_the_origin_sends_goes_by_its_edges_alone(world: World) -> None:
    for path in written(world, described(NETWORK, "lyon")):
        run(world, "ginnel", "up", path)
    to = "198.18.0.1"
    assert " dev wg0 " in world.ok("ip", "route", "get", to, "from", "203.0.113.64")
    assert " dev wg-berlin " in world.ok("ip", "route", "get", to, "from", "203.0.113.65", "mark", "0x2000000")
    assert " dev wg-berlin " in world.ok("ip", "route", "get", "10.10.0.2")
    assert " dev eth0 " in world.ok("ip", "route", "get", to), "the host's own way is what it was"
    run(world, "ginnel", "down", "/etc/wireguard/wg-berlin.conf")
    assert " dev wg0 " in world.ok("ip", "route", "get", to, "from", "203.0.113.65", "mark", "0x2000000"), "by the other edge"


def test_its_neighbours_are_not_told_who_has_the_addresses(world: World, net: Net) -> None:
    world.space.write_proc("/proc/sys/net/ipv4/conf/all/arp_ignore", "0")
    files = written(world, described(NETWORK, "lyon"))
    for path in files:
        run(world, "ginnel", "up", path)
    (far,) = [space for space in net.namespaces if space.name.endswith("-far")]
    (uplink,) = [each["dev"] for each in far.ip_json("route") if each["dst"] == "192.0.2.0/24"]
    addresses = ("203.0.113.64", "203.0.113.65", "2001:db8:64::7")
    for address in addresses:
        far.ip("route", "add", address, "dev", uplink)
    for address in ("192.0.2.1", *addresses):
        far.succeeds("ping", "-c", "1", "-W", "1", address)
    known = {each["dst"]: each.get("lladdr") for each in far.ip_json("neighbour", "show", "dev", uplink)}
    assert known["192.0.2.1"], "the host is there"
    assert not any(known.get(address) for address in addresses), known
