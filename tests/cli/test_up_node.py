"""`up`, `down` and `run` of node files on real hosts: the seed's two servers, and that nothing is left whatever happens."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from namespaces import Namespace, Net, wait_until
from quick_world import GINNEL, ROOT, World

pytestmark = pytest.mark.peers

MODULE = "ginnel.runtime.node"
SEED = """
[tunnel.gre1]
kind = "gre"
local = "203.0.113.10"
remote = "198.51.100.20"
ttl = 255
address = ["10.10.10.1/30"]
routes = ["10.20.0.0/24"]
mtu = "auto"
"""
OTHER = """
[tunnel.gre1]
kind = "gre"
local = "198.51.100.20"
remote = "203.0.113.10"
ttl = 255
address = ["10.10.10.2/30"]
routes = ["10.30.0.0/24"]
mtu = "auto"
"""
FILE = "/etc/ginnel/edge.toml"


@dataclass(slots=True)
class Sites:
    """
    Two servers with a LAN behind each, and a router between them that is the internet.

    left 203.0.113.10 and 2001:db8:a::10, its LAN 10.30.0.0/24 · right 198.51.100.20 and 2001:db8:b::20, its LAN 10.20.0.0/24.
    """

    left: World
    right: World
    left_lan: Namespace
    right_lan: Namespace
    router: Namespace


def join(net: Net, host: Namespace, name: str, addresses: list[str], far: Namespace, far_addresses: list[str]) -> None:
    """A veth pair whose near end is called *name*."""
    link = net.veth(host, far, [], far_addresses)
    host.ip("link", "set", "dev", link.left, "down")
    host.ip("link", "set", "dev", link.left, "name", name)
    for address in addresses:
        host.ip("address", "add", address, "dev", name)
    host.ip("link", "set", "dev", name, "up")


def default(space: Namespace, *gateways: str) -> None:
    for gateway in gateways:
        space.ip("route", "add", "default", "via", gateway)


@pytest.fixture
def sites(net: Net) -> Sites:
    left, right, router = net.namespace("left"), net.namespace("right"), net.namespace("inet")
    left_lan, right_lan = net.namespace("llan"), net.namespace("rlan")
    join(net, left, "eth0", ["203.0.113.10/24", "2001:db8:a::10/64"], router, ["203.0.113.1/24", "2001:db8:a::1/64"])
    join(net, right, "eth0", ["198.51.100.20/24", "2001:db8:b::20/64"], router, ["198.51.100.1/24", "2001:db8:b::1/64"])
    join(net, left, "lan", ["10.30.0.1/24"], left_lan, ["10.30.0.2/24"])
    join(net, right, "lan", ["10.20.0.1/24"], right_lan, ["10.20.0.2/24"])
    default(left, "203.0.113.1", "2001:db8:a::1")
    default(right, "198.51.100.1", "2001:db8:b::1")
    default(left_lan, "10.30.0.1")
    default(right_lan, "10.20.0.1")
    for space in (left, right, router):
        space.write_proc("/proc/sys/net/ipv4/ip_forward", "1")
        space.write_proc("/proc/sys/net/ipv6/conf/all/forwarding", "1")
    made = Sites(World.around(left), World.around(right), left_lan, right_lan, router)
    for world in (made.left, made.right):
        wait_until(lambda world=world: link_locals(world) == {"eth0", "lan"}, 10, "link-local addresses")
    return made


def link_locals(world: World) -> set[str]:
    """Interfaces that have got their link-local address: the kernel gives it a moment after they are up."""
    return {link["ifname"] for link in world.json("ip", "-j", "-6", "address", "show", "scope", "link")}


def up(world: World, text: str) -> str:
    world.write(FILE, text, 0o644)
    done = world.ginnel("up", "edge")
    assert done.returncode == 0, done.stderr
    return done.stderr


def nothing_is_left(world: World, before: dict[str, Any]) -> None:
    assert world.snapshot() == before
    assert not world.path("/run/ginnel/edge.json").exists()
    wait_until(lambda: not world.processes(MODULE), 10, "the process's end")
    assert not world.path("/run/ginnel/edge.sock").exists()


_SERVE = """
import socket, sys
listener = socket.create_server((sys.argv[1], 7001))
print("ready", flush=True)
connection, _ = listener.accept()
size = 0
while data := connection.recv(65536):
    size += len(data)
connection.sendall(size.to_bytes(8, "big"))
print(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), flush=True)
"""
_SEND = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 7001), timeout=20)
print(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), flush=True)
connection.sendall(bytes(1 << 20))
connection.shutdown(socket.SHUT_WR)
assert int.from_bytes(connection.recv(8), "big") == 1 << 20
"""


def tcp(client: Namespace, server: Namespace, address: str, bind: str = "0.0.0.0") -> tuple[int, int]:
    """A MiB by TCP; the segment size of each side (client, server), without options."""
    listening = server.popen(sys.executable, "-c", _SERVE, bind, stdout=subprocess.PIPE, text=True)
    assert listening.stdout is not None
    assert listening.stdout.readline() == "ready\n"
    sent = client.run(sys.executable, "-c", _SEND, address)
    return int(sent), int(listening.stdout.readline())


# ---------------------------------------------------------------- the seed's example


def test_two_servers_and_their_lans_as_the_seed_has_it(sites: Sites) -> None:
    before = sites.left.snapshot(), sites.right.snapshot()
    said = up(sites.left, SEED)
    assert said.splitlines() == [
        "[#] nft -f - # table inet ginnel-edge: TCP MSS of gre1",
        "[#] python -m ginnel.runtime.node --name edge",
        "[#] ip link add gre1 type gre local 203.0.113.10 remote 198.51.100.20 ttl 255 # in user space",
        "[#] ip link set dev gre1 mtu 1476 addrgenmode none",
        "[#] ip address add 10.10.10.1/30 dev gre1",
        "[#] ip address add fe80::200:5efe:cb00:710a/64 dev gre1",
        "[#] ip link set dev gre1 up",
        "[#] ip -4 route add 10.20.0.0/24 dev gre1",
    ]
    up(sites.right, OTHER)
    assert sites.left.space.ping("10.10.10.2", count=3)
    assert sites.left_lan.ping("10.20.0.2", count=3)
    assert sites.right_lan.ping("10.30.0.2", count=3)
    # Both LANs have 1500: without the clamp both sides would begin with 1460.
    assert tcp(sites.left_lan, sites.right_lan, "10.20.0.2") == (1436 - 12, 1436 - 12)
    shown = json.loads(sites.left.ginnel("show", "edge", "--json").stdout)
    assert shown["schema"] == "ginnel.show/1"
    for world, snapshot in zip((sites.left, sites.right), before, strict=True):
        done = world.ginnel("down", "edge")
        assert done.returncode == 0, done.stderr
        nothing_is_left(world, snapshot)


ALL_KINDS = """
[tunnel.g4]
kind = "gre"
{v4}
key = 1
csum = true
seq = true
address = ["10.9.1.{host}/30", "fd09:1::{host}/64"]

[tunnel.g6]
kind = "gre"
{v6}
address = ["10.9.2.{host}/30", "fd09:2::{host}/64"]

[tunnel.t4]
kind = "gretap"
{v4}
ikey = {host}
okey = {other}
address = ["10.9.3.{host}/30", "fd09:3::{host}/64"]

[tunnel.i4]
kind = "ipip"
{v4}
address = ["10.9.4.{host}/30"]

[tunnel.s4]
kind = "sit"
{v4}
address = ["fd09:5::{host}/64"]

[tunnel.i6]
kind = "ip6tnl"
{v6}
encaplimit = 4
address = ["10.9.6.{host}/30", "fd09:6::{host}/64"]

[tunnel.u4]
kind = "gre"
{v4}
encapsulation = "udp"
address = ["10.9.7.{host}/30", "fd09:7::{host}/64"]
"""


def test_every_kind_in_one_file(sites: Sites) -> None:
    before = sites.left.snapshot()
    ends = ("203.0.113.10", "198.51.100.20"), ("2001:db8:a::10", "2001:db8:b::20")
    for world, host, other in ((sites.left, 1, 2), (sites.right, 2, 1)):
        v4, v6 = (f'local = "{pair[host - 1]}"\nremote = "{pair[other - 1]}"' for pair in ends)
        up(world, ALL_KINDS.format(v4=v4, v6=v6, host=host, other=other))
    mtus = {link["ifname"]: link["mtu"] for link in sites.left.json("ip", "-j", "link")}
    assert {name: mtus[name] for name in ("g4", "g6", "t4", "i4", "s4", "i6", "u4")} == {
        "g4": 1464,
        "g6": 1456,
        "t4": 1458,
        "i4": 1480,
        "s4": 1480,
        "i6": 1452,
        "u4": 1468,
    }
    for target in ("10.9.1.2", "fd09:1::2", "10.9.2.2", "fd09:2::2", "10.9.3.2", "fd09:3::2", "10.9.4.2", "fd09:5::2"):
        assert sites.left.space.ping(target, count=2, within_s=3), target
    for target in ("10.9.6.2", "fd09:6::2", "10.9.7.2", "fd09:7::2"):
        assert sites.left.space.ping(target, count=2, within_s=3), target
    assert sites.left.ginnel("down", "edge").returncode == 0
    nothing_is_left(sites.left, before)


EDGE = """
[tunnel.gre1]
kind = "gre"
local = "203.0.113.10"
remote = "198.51.100.20"
address = ["10.10.10.1/30"]
routes = ["192.0.2.64/28"]
"""
ORIGIN = """
[tunnel.gre1]
kind = "gre"
local = "198.51.100.20"
remote = "203.0.113.10"
address = ["10.10.10.2/30"]
routes = ["0.0.0.0/0 table 64"]
rules = ["from 192.0.2.64/28 table 64"]
"""


def test_a_protected_edge_and_a_hidden_origin(sites: Sites, net: Net) -> None:
    """Clients come to the edge; the origin answers with the protected address, back through the tunnel it came by."""
    client = net.namespace("client")
    join(net, client, "eth0", ["192.0.2.2/30"], sites.router, ["192.0.2.1/30"])
    default(client, "192.0.2.1")
    sites.router.ip("route", "add", "192.0.2.64/28", "via", "203.0.113.10")
    # The protected addresses must not leave by the origin's own line: its provider drops them, and they would show where it is.
    sites.router.run(
        "nft",
        "add table ip out; add chain ip out c { type filter hook prerouting priority raw; }; "
        "add rule ip out c ip saddr 192.0.2.64/28 ip daddr 192.0.2.2 meta iifname != "
        f'"{sites.router.ip_json("route", "get", "203.0.113.10")[0]["dev"]}" drop',
    )
    before = sites.right.snapshot()
    up(sites.left, EDGE)
    said = up(sites.right, ORIGIN)
    assert "[#] ip -4 rule add from 192.0.2.64/28 priority 32765 table 64" in said
    sites.right.space.ip("address", "add", "192.0.2.64/32", "dev", "lo")
    assert client.ping("192.0.2.64", count=3)
    tcp(client, sites.right.space, "192.0.2.64", "192.0.2.64")
    sites.right.space.ip("address", "delete", "192.0.2.64/32", "dev", "lo")
    assert sites.right.ginnel("down", "edge").returncode == 0
    nothing_is_left(sites.right, before)


def test_everything_through_a_tunnel_that_is_bound_to_the_device_below(sites: Sites) -> None:
    before = sites.left.snapshot()
    routes = 'routes = ["0.0.0.0/1", "128.0.0.0/1"]'
    up(sites.left, SEED.replace('routes = ["10.20.0.0/24"]', f'{routes}\ndev = "eth0"'))
    up(sites.right, OTHER)
    assert sites.left.json("ip", "-j", "route", "get", "198.51.100.77")[0]["dev"] == "gre1"
    assert sites.left_lan.ping("10.20.0.2", count=5, interval_s=0.2)
    shown = json.loads(sites.left.ginnel("show", "gre1", "--json").stdout)
    assert not shown["tunnel"]["held"]
    assert sites.left.ginnel("down", "edge").returncode == 0
    nothing_is_left(sites.left, before)


# ---------------------------------------------------------------- whatever happens


@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_process_that_was_killed_is_mended(verb: str, world: World) -> None:
    before = world.snapshot()
    up(world, SEED + 'rules = ["fwmark 7 table 64"]')
    (pid,) = world.processes(MODULE)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not world.has_link("gre1"), 10, "the interface's end")
    assert "ginnel-edge" in world.ok("nft", "list", "tables")
    mend = "its process has ended; `ginnel up edge` or `ginnel down edge` mends what it left"
    assert world.ginnel("show").stdout == f"edge: killed · {FILE}\n  {mend}\n"
    assert json.loads(world.ginnel("show", "--json").stdout)["killed"] == [{"name": "edge", "config": FILE}]
    for name, whose in (("edge", ""), ("gre1", ", of edge,")):
        done = world.ginnel("show", name)
        assert (done.returncode, done.stderr) == (1, f"ginnel: {name}{whose} was killed\n  hint: {mend}\n")
    done = world.ginnel(verb, "edge")
    assert done.returncode == 0, done.stderr
    assert "killed" in done.stderr
    if verb == "up":
        assert world.has_link("gre1")
        assert world.ginnel("down", "edge").returncode == 0
    nothing_is_left(world, before)


def test_a_killed_up_is_mended_by_the_next(world: World) -> None:
    """Killed at any moment: whatever it had reached, the next `up` goes on from a clean host."""
    before = world.snapshot()
    world.write(FILE, SEED, 0o644)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(world.command(*GINNEL, "up", "edge"), env=environment, stderr=subprocess.DEVNULL)
    wait_until(lambda: world.path("/run/ginnel/edge.json").exists(), 20, "the record")
    process.kill()
    process.wait()
    up(world, SEED)
    assert len(world.processes(MODULE)) == 1
    assert world.ginnel("down", "edge").returncode == 0
    nothing_is_left(world, before)


def test_down_works_when_the_file_is_gone_or_wrong(world: World) -> None:
    before = world.snapshot()
    for spoil in (lambda: world.path(FILE).unlink(), lambda: world.write(FILE, "nonsense")):
        up(world, SEED)
        spoil()
        done = world.ginnel("down", "edge")
        assert done.returncode == 0, done.stderr
        nothing_is_left(world, before)


def test_a_device_deleted_under_us_ends_the_process_and_down_mends(world: World) -> None:
    before = world.snapshot()
    up(world, SEED)
    world.ok("ip", "link", "delete", "dev", "gre1")
    wait_until(lambda: not world.processes(MODULE), 10, "the process's end")
    assert world.ginnel("down", "edge").returncode == 0
    nothing_is_left(world, before)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SEED.replace("10.20.0.0/24", "10.77.0.0/16"), "ip -4 route add 10.77.0.0/16 dev gre1: File exists"),
        (
            SEED + 'rules = ["from 10.0.0.0/8 priority 77 table 5"]',
            "ip -4 rule add from 10.0.0.0/8 priority 77 table 5: File exists",
        ),
        (SEED + 'dev = "eth7"', "gre1: dev: there is no interface eth7 here"),
        (SEED + 'encapsulation = "udp"', "UDP port 4754 is taken by python"),
        (SEED.replace("203.0.113.10", "2001:db8::1"), "tunnel.gre1.remote: 198.51.100.20 is IPv4, and local is IPv6"),
        (SEED.replace('"gre"', '"gre"\ntll = 3\ncsum = 2'), "did you mean 'ttl'?"),
        (
            SEED + '[tunnel.gre2]\nkind = "gre"\nlocal = "192.0.2.1"\nremote = "192.0.2.9"\nroutes = ["10.77.0.0/16"]',
            "File exists",
        ),
    ],
)
def test_whatever_fails_is_said_and_undone(text: str, message: str, world: World) -> None:
    world.ok("ip", "route", "add", "10.77.0.0/16", "dev", "eth0", "scope", "link")
    world.ok("ip", "rule", "add", "from", "10.0.0.0/8", "priority", "77", "table", "5")
    script = "import socket, sys; s = socket.socket(2, 2); s.bind(('', 4754)); print(1, flush=True); sys.stdin.read()"
    command = world.command(sys.executable, "-c", script)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        before = world.snapshot()
        world.write(FILE, text, 0o644)
        done = world.ginnel("up", "edge")
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        nothing_is_left(world, before)
        assert holder.stdin is not None
        holder.stdin.close()


def test_a_wrong_file_tells_all_of_its_mistakes_and_touches_nothing(world: World) -> None:
    before = world.snapshot()
    world.write(FILE, SEED.replace('"gre"', '"gre"\ntll = 3\ncsum = 2') + "[tunnel.x]\nkind = 7\n", 0o644)
    done = world.ginnel("up", "edge")
    assert done.returncode == 1
    assert re.findall(rf"{FILE}:([0-9:]+): ", done.stderr) == ["4:1", "5:8", "13:8"]
    assert "tunnel.gre1.tll: there is no such option" in done.stderr
    assert "tunnel.gre1.csum: expected true or false, found 2" in done.stderr
    assert "tunnel.x.kind: expected one of gre, gretap" in done.stderr
    assert not world.path("/run/ginnel").exists()
    assert world.snapshot() == before


def test_what_is_up_is_not_brought_up_again(world: World) -> None:
    up(world, SEED)
    before = world.snapshot()
    done = world.ginnel("up", "edge")
    assert done.returncode == 1
    assert f"edge is already up (from {FILE})" in done.stderr
    world.write("/etc/ginnel/twin.toml", SEED, 0o644)
    done = world.ginnel("up", "twin")
    assert done.returncode == 1
    assert f"gre1 already exists: {FILE} has it up\n  hint: `ginnel down edge` first" in done.stderr
    assert world.snapshot() == before


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        (lambda text: text, True),
        (lambda text: text.replace('remote = "198.51.100.20"', "key = 1"), False),
        (lambda text: text.replace("ttl = 255", "key = 1"), False),
        (lambda text: text.replace("ttl = 255", 'encapsulation = "udp"'), False),
        (lambda text: text.replace('"gre"', '"gretap"'), False),
        (lambda text: text.replace("198.51.100.20", "198.51.100.21"), False),
    ],
)
def test_two_nodes_do_not_take_the_same_packets(change: Callable[[str], str], taken: bool, world: World) -> None:
    up(world, SEED)
    before = world.snapshot()
    other = change(SEED.replace("gre1", "gre2")).replace("10.10.10.1", "10.10.11.1").replace("10.20.0.0", "10.21.0.0")
    world.write("/etc/ginnel/other.toml", other, 0o644)
    done = world.ginnel("up", "other")
    assert done.returncode == int(taken), done.stderr
    if taken:
        assert "gre2: gre1 of edge has the same ends: both would get every packet\n  hint: give them" in done.stderr
    else:
        differ_by_key = "key = 1" in other
        assert ("gre2 and gre1 of edge differ by their keys alone: put them into one node file" in done.stderr) == differ_by_key
        assert world.ginnel("down", "other").returncode == 0
    assert world.snapshot() == before


def test_a_tunnel_goes_down_with_its_node_alone(world: World) -> None:
    up(world, SEED)
    before = world.snapshot()
    done = world.ginnel("down", "gre1")
    assert done.returncode == 1
    assert "gre1 is a tunnel of the node edge, which goes down as a whole\n  hint: `ginnel down edge`" in done.stderr
    done = world.ginnel("set", "gre1", "fwmark", "3")
    assert (done.returncode, "gre1 is a plain tunnel, without keys and peers" in done.stderr) == (1, True)
    assert world.snapshot() == before


def test_without_root_down_says_so(world: World) -> None:
    up(world, SEED)
    before = world.snapshot()
    # As root first, so that everything is imported: the interpreter may lie where only root may go.
    give_up = "import os, sys; import ginnel.cli.main as main; main.run(['down', 'nosuch']); os.setuid(65534)"
    script = f"{give_up}; sys.exit(main.run(['down', sys.argv[1]]))"
    for which, what in (("edge", "edge.json"), ("./other.toml", "other.lock")):
        done = world.run(sys.executable, "-P", "-c", script, which)
        assert done.returncode == 1
        expected = f"ginnel: open /run/ginnel/{what}: Permission denied\n  hint: this needs root: try `sudo`\n"
        assert done.stderr.endswith(f"\n{expected}")
        assert "Traceback" not in done.stderr
    assert world.snapshot() == before


def test_what_is_no_file_is_said(world: World) -> None:
    done = world.ginnel("up", "nosuch")
    assert "neither /etc/wireguard/nosuch.conf nor /etc/ginnel/nosuch.toml exists" in done.stderr
    world.write("/etc/ginnel/sites.toml/a.toml", SEED, 0o644)
    done = world.ginnel("up", "/etc/ginnel/sites.toml")
    assert done.returncode == 1
    assert "/etc/ginnel/sites.toml: expected a file, found a directory\n  hint: it has a.toml" in done.stderr


def test_a_taken_name_is_refused(world: World) -> None:
    world.ok("ip", "link", "add", "gre1", "type", "veth", "peer", "name", "x")
    world.write(FILE, SEED, 0o644)
    done = world.ginnel("up", "edge")
    assert done.returncode == 1
    assert "gre1 already exists, and ginnel did not make it" in done.stderr
    assert world.has_link("gre1")


@pytest.mark.parametrize("capability", ["net_admin", "net_raw"])
def test_without_privilege_it_says_which(capability: str, world: World) -> None:
    world.write(FILE, SEED, 0o644)
    done = world.run("setpriv", f"--bounding-set=-{capability}", f"--inh-caps=-{capability}", *GINNEL, "up", "edge")
    assert done.returncode == 1
    assert f"this needs CAP_{capability.upper()}, which this process does not have" in done.stderr


def test_gre_in_udp_needs_no_raw_sockets(world: World) -> None:
    world.write(FILE, SEED + 'encapsulation = "udp"', 0o644)
    done = world.run("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", *GINNEL, "up", "edge")
    assert done.returncode == 0, done.stderr
    assert world.ginnel("down", "edge").returncode == 0


def test_without_a_tun_device_it_says_how_to_have_one(world: World) -> None:
    world.write(FILE, SEED, 0o644)
    world.ok("mount", "-t", "tmpfs", "tmpfs", "/dev/net")
    done = world.ginnel("up", "edge")
    assert done.returncode == 1
    assert "open /dev/net/tun: No such file or directory" in done.stderr


def test_without_nftables_it_says_what_for(world: World) -> None:
    world.write(FILE, SEED, 0o644)
    before = world.snapshot()
    command = ["env", "PATH=/nonexistent", *GINNEL]
    done = world.run(*command, "up", "edge")
    assert done.returncode == 1
    assert "nft -f -: No such file or directory\n  hint: tunnels of a node file need nftables" in done.stderr
    nothing_is_left(world, before)
    world.write(FILE, SEED + "mss-clamp = false", 0o644)
    for verb in ("up", "down"):
        done = world.run(*command, verb, "edge")
        assert done.returncode == 0, done.stderr
    nothing_is_left(world, before)


PRIVATE_SIDE = """
[tunnel.gre1]
kind = "gre"
local = "192.168.1.10"
remote = "198.51.100.20"
key = 7
encapsulation = "udp"
keepalive = 25
address = ["10.10.10.1/30"]
"""
PUBLIC_SIDE = """
[tunnel.gre1]
kind = "gre"
local = "198.51.100.20"
key = 7
encapsulation = "udp"
encap-dport = "learned"
address = ["10.10.10.2/30"]
"""


def test_through_a_nat_by_udp_the_private_side_speaks_first(net: Net) -> None:
    private, nat, public = net.namespace("private"), net.namespace("nat"), net.namespace("public")
    join(net, private, "eth0", ["192.168.1.10/24"], nat, ["192.168.1.1/24"])
    join(net, nat, "out", ["198.51.100.1/24"], public, ["198.51.100.20/24"])
    default(private, "192.168.1.1")
    nat.write_proc("/proc/sys/net/ipv4/ip_forward", "1")
    chain = "add chain ip n p { type nat hook postrouting priority srcnat; }"
    nat.run("nft", f'add table ip n; {chain}; add rule ip n p oifname "out" masquerade random')
    far = World.around(public)
    up(far, PUBLIC_SIDE)
    up(World.around(private), PRIVATE_SIDE)
    # The keepalive has opened the way: nothing was sent by anybody else.
    wait_until(lambda: public.ping("10.10.10.1"), 10, "the public side's way back")
    assert private.ping("10.10.10.2", count=2)
    shown = json.loads(far.ginnel("show", "edge", "--json").stdout)
    assert "198.51.100.1" in json.dumps(shown)


def test_the_kernel_backend_says_when_there_is_no_kernel_module(world: World) -> None:
    if world.run("ip", "link", "add", "probe", "type", "gre").returncode == 0:
        pytest.fail("this kernel has GRE: the test needs one without")
    before = world.snapshot()
    world.write(FILE, '[node]\nbackend = "kernel"\n' + SEED, 0o644)
    done = world.ginnel("up", "edge")
    assert done.returncode == 1
    assert "this kernel has no gre: `modprobe ip_gre`" in done.stderr
    nothing_is_left(world, before)


# ---------------------------------------------------------------- names and dry runs


def test_a_name_is_a_wg_quick_file_first_and_a_path_needs_no_slash(world: World) -> None:
    world.write(FILE, SEED, 0o644)
    assert "ip link add gre1 type gre" in world.ginnel("up", "--dry-run", "edge").stderr
    world.write("/etc/wireguard/edge.conf", "[Interface]\nPrivateKey = mEEyFdKeEQWDxqZCT/qu2hr0gHnGKsdz8DgQYIPjJ2M=\n")
    assert "ginnel-wireguard edge" in world.ginnel("up", "--dry-run", "edge").stderr
    script = f"cd /etc/ginnel && exec {' '.join(GINNEL)} up --dry-run edge.toml"
    assert "ip link add gre1 type gre" in world.run("sh", "-c", script).stderr
    done = world.ginnel("up", "nosuch")
    assert "/etc/wireguard has edge; /etc/ginnel has edge" in done.stderr


def test_a_dry_run_prints_the_steps_of_the_real_run(world: World) -> None:
    before = world.snapshot()
    world.write(FILE, SEED + 'rules = ["fwmark 7 table 64"]', 0o644)
    dry = world.ginnel("up", "--dry-run", "edge")
    assert dry.returncode == 0, dry.stderr
    assert world.snapshot() == before
    assert not world.path("/run/ginnel").exists()
    plan = json.loads(world.ginnel("up", "--dry-run", "--json", "edge").stdout)
    assert (plan["schema"], plan["node"]) == ("ginnel.plan/1", "edge")
    real = world.ginnel("up", "edge")
    assert dry.stderr == real.stderr
    assert plan["steps"] == [line.removeprefix("[#] ") for line in real.stderr.splitlines() if line.startswith("[#]")]
    assert plan["notes"][-1:] == ["this host forwards no IPv4: others can use these routes with [node] forward = true"]


def test_who_may_not_look_into_the_directory_is_told(world: World) -> None:
    world.write(FILE, SEED, 0o644)
    world.path("/etc/wireguard").chmod(0o700)
    # The interpreter of the tests may lie where only root may go: the process gives root up when it has imported what it needs.
    give_up = "import os, sys; import ginnel.cli.main as main, ginnel.cli.tunnel; os.setuid(65534)"
    script = f"{give_up}; sys.exit(main.run(['up', '--dry-run', 'edge']))"
    done = world.run(sys.executable, "-P", "-c", script)
    assert done.returncode == 1
    assert "/etc/wireguard/edge.conf: permission denied" in done.stderr


def test_a_link_to_a_file_is_called_by_its_own_name(world: World) -> None:
    before = world.snapshot()
    world.write("/etc/ginnel/paris.toml", SEED, 0o644)
    world.ok("ln", "-s", "paris.toml", FILE)
    assert world.ginnel("up", "edge").returncode == 0
    assert world.path("/run/ginnel/edge.json").exists()
    assert world.ginnel("down", "edge").returncode == 0
    nothing_is_left(world, before)


@pytest.mark.parametrize("verb", ["save", "strip"])
def test_what_only_wg_quick_files_have(verb: str, world: World) -> None:
    world.write(FILE, SEED, 0o644)
    done = world.ginnel(verb, "edge")
    assert done.returncode == 1
    assert f"{FILE} is a node file, and this is for wg-quick files" in done.stderr


# ---------------------------------------------------------------- run


def run_service(world: World, tmp_path: Path) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """`ginnel run` under a service manager of ours, once it has said READY."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(20)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NOTIFY_SOCKET": str(tmp_path / "notify")}
    process = subprocess.Popen(world.command(*GINNEL, "run", "edge"), env=env, stderr=subprocess.DEVNULL)
    assert listener.recv(4096).startswith(b"READY=1\n")
    return process, listener


def test_run_is_up_in_the_foreground_until_a_signal(world: World, tmp_path: Path) -> None:
    before = world.snapshot()
    world.write(FILE, SEED, 0o644)
    process, listener = run_service(world, tmp_path)
    with listener:
        assert world.has_link("gre1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert listener.recv(4096) == b"STOPPING=1\n"
    nothing_is_left(world, before)


def test_run_mends_and_fails_when_its_process_dies(world: World, tmp_path: Path) -> None:
    before = world.snapshot()
    world.write(FILE, SEED, 0o644)
    process, listener = run_service(world, tmp_path)
    with listener:
        os.kill(world.processes(MODULE)[0], signal.SIGKILL)
        assert process.wait(20) == 1
    nothing_is_left(world, before)


# ---------------------------------------------------------------- a thousand


def test_a_thousand_tunnels_up_and_down_cost_little(world: World) -> None:
    """
    The budget is 3 s of wall time on an idle machine, each way. Tests share theirs, so processor time is what counts here: of the
    command and of the process together.
    """
    before = world.snapshot()
    text = "".join(
        f'[tunnel.g{n}]\nkind = "gre"\nlocal = "192.0.2.1"\nremote = "10.{n // 250}.{n % 250}.1"\n'
        f'address = ["172.16.{n // 64}.{n % 64 * 4 + 1}/30"]\nroutes = ["10.128.{n // 250}.{n % 250}/32"]\n'
        for n in range(1000)
    )
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = up(world, text)
    middle = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert said.splitlines()[:4] == [
        "[#] nft -f - # table inet ginnel-edge: TCP MSS of g0, g1, g2 and 997 more",
        "[#] python -m ginnel.runtime.node --name edge",
        "[#] ip -batch - # 1000 x link add",
        "[#] ip -batch - # 5000 x link set, address add, route add",
    ]
    (pid,) = world.processes(MODULE)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    process_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    resident = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    assert len([link for link in world.json("ip", "-j", "link") if link["ifname"].startswith("g")]) == 1000
    assert world.ginnel("down", "edge").returncode == 0
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    up_s = middle.ru_utime - start.ru_utime + middle.ru_stime - start.ru_stime + process_s
    down_s = end.ru_utime - middle.ru_utime + end.ru_stime - middle.ru_stime
    assert up_s < 3, up_s
    assert down_s < 3, down_s
    assert int(resident.split()[1]) < 100_000, resident
    nothing_is_left(world, before)
