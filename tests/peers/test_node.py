"""
The process of a node file, from its start to each of its ends, on real devices and namespaces.

What a person meets when something is wrong (another key at the peer, a peer that is gone, a protocol that is refused, a smaller
path, a route that goes round, a port that is taken, a device that is deleted, renamed or moved, a kill -9) is here with what
`show` says of it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ginnel.config.node import Encapsulation, Keepalive, NodeConfig, PlainConfig, WireguardConfig, to_json
from namespaces import Namespace, Net, wait_until
from peers.node_running import NodeProcess, refusal
from peers.running import control_path

GINNEL = [sys.executable, "-m", "ginnel.cli.main"]
Start = Callable[..., NodeProcess]
LEFT = PlainConfig("gre1", "gre", 4, local="192.0.2.1", remote="192.0.2.2", mtu=1476)
RIGHT = PlainConfig("gre1", "gre", 4, local="192.0.2.2", remote="192.0.2.1", mtu=1476)


@pytest.fixture
def start(net: Net, tmp_path: Path) -> Iterator[Start]:
    """`start(space, *tunnels)`: a running node under a name of its own; ended at the end."""
    started: list[NodeProcess] = []

    def made(space: Namespace, *tunnels: PlainConfig, name: str = "") -> NodeProcess:
        node = NodeProcess.start(space, name or net.unique("node"), tmp_path, tunnels)
        started.append(node)
        return node

    yield made
    for node in started:
        if node.process.poll() is None:
            node.stop()
        control_path(node.config.name).unlink(missing_ok=True)


class Joined:
    """Two nodes with one tunnel each, 10.9.0.1 and .2, over one link, 192.0.2.1 and .2."""

    def __init__(self, net: Net, start: Start, left: PlainConfig = LEFT, right: PlainConfig = RIGHT) -> None:
        self.left_space, self.right_space = net.namespace("l"), net.namespace("r")
        self.veth = net.veth(self.left_space, self.right_space, ["192.0.2.1/24"], ["192.0.2.2/24"])
        self.left, self.right = start(self.left_space, left), start(self.right_space, right)
        # The right side first: what arrives before its sockets are open its kernel would refuse.
        self.right.up(("gre1", "10.9.0.2/30"))
        wait_until(lambda: self.right.show()["state"] == "up", 5, "the right side to be up")
        self.left.up(("gre1", "10.9.0.1/30"))
        wait_until(lambda: self.left.show()["state"] == "up", 5, "the left side to be up")


@pytest.fixture(scope="module", autouse=True)
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joined]:
    """
    Two nodes of which the left one's tunnel was held when the tests of this file began, and its route mended at once.

    The hold-down takes half a minute: it passes while the other tests run.
    """
    nodes: list[NodeProcess] = []
    with Net.create() as net:

        def made(space: Namespace, *tunnels: PlainConfig) -> NodeProcess:
            nodes.append(NodeProcess.start(space, net.unique("node"), tmp_path_factory.mktemp("released"), tunnels))
            return nodes[-1]

        both = Joined(net, made)
        both.left_space.ip("route", "add", "192.0.2.2/32", "dev", "gre1")
        reaches(both.left, "configured", "no: held: the route to 192.0.2.2 goes through gre1 itself")
        both.left_space.ip("route", "del", "192.0.2.2/32", "dev", "gre1")
        yield both
        for node in nodes:
            node.stop()


def answer(node: NodeProcess, part: str, tunnel: str = "gre1") -> str:
    """What is judged of one part, and why: `yes: sent 0 s ago, ...`."""
    verdict = node.show(tunnel)[part]
    return f"{verdict['answer']}: {verdict['why']}"


def reaches(node: NodeProcess, part: str, text: str, within_s: float = 10) -> None:
    """Wait until that part is judged so; *text* begins it, or is the reason."""
    wait_until(lambda: text in answer(node, part), within_s, f"{part} to be {text!r}; it is {answer(node, part)!r}")


# ---------------------------------------------------------------- all is well


def test_two_nodes_carry_and_say_so_and_leave_nothing(net: Net, start: Start) -> None:
    both = Joined(net, start)
    assert both.left_space.ping("10.9.0.2", count=5)
    for node in (both.left, both.right):
        assert answer(node, "configured") == "yes: device, ends and options are in place"
        assert answer(node, "carrying").startswith("yes: sent ")
        shown = node.show()
        assert (shown["rx_packets"] >= 5, shown["tx_packets"] >= 5) == (True, True)
        assert {reason: count for reason, count in shown["drops"].items() if count} == {}
        assert node.running().status_kb("VmRSS") < 36_000
    told = json.loads(both.left_space.run(*GINNEL, "show", both.left.config.name, "--json"))
    assert (told["schema"], told["node"]["name"]) == ("ginnel.show/1", both.left.config.name)
    assert [one["remote"] for one in told["tunnels"]] == ["192.0.2.2"]
    assert "  gre1    gre   carrying  192.0.2.2" in both.left_space.run(*GINNEL, "show", both.left.config.name)
    assert f"node {both.left.config.name}" in both.left_space.run(*GINNEL, "show", "gre1"), "of this namespace"
    assert f"node {both.right.config.name}" in both.right_space.run(*GINNEL, "show", "gre1"), "of that one"
    listed = json.loads(both.left_space.run(*GINNEL, "show", "--json"))["tunnels"]
    assert [one["node"] for one in listed if one["kind"] == "gre"] == [both.left.config.name]
    state = both.left.ask(op="state")
    assert state["tunnels"] == [{"name": "gre1", "kind": "gre", "state": "up", "error": ""}]
    assert both.left.ask(op="stop")["ok"] is True
    assert both.left.process.wait(timeout=10) == 0
    assert both.right.stop() == 0
    for space, node in ((both.left_space, both.left), (both.right_space, both.right)):
        assert not space.succeeds("ip", "link", "show", "gre1")
        assert not control_path(node.config.name).exists()
        assert "failed " not in node.said()


def test_after_a_kill_traffic_is_back_at_once(net: Net, start: Start) -> None:
    both = Joined(net, start)
    assert both.left_space.ping("10.9.0.2")
    os.kill(both.left.process.pid, signal.SIGKILL)
    both.left.process.wait()
    wait_until(lambda: not both.left_space.succeeds("ip", "link", "show", "gre1"), 5, "the device to go with its process")
    again = start(both.left_space, LEFT, name=both.left.config.name)
    again.up(("gre1", "10.9.0.1/30"))
    wait_until(lambda: both.left_space.ping("10.9.0.2", within_s=0.2), 3, "traffic")


def test_idle_it_sleeps(net: Net, start: Start) -> None:
    both = Joined(net, start)
    assert both.left_space.ping("10.9.0.2")
    assert answer(both.left, "carrying").startswith("yes")
    for space in (both.left_space, both.right_space):  # the kernel's own chatter on the device is no work of ours
        space.write_proc("/proc/sys/net/ipv6/conf/gre1/disable_ipv6", "1")
    running = both.left.running()
    deadline = time.monotonic() + 15
    quiet = 0
    before = running.wakeups()
    while quiet < 30 and time.monotonic() < deadline:
        time.sleep(0.1)  # measuring, not waiting: how often it wakes in a time
        now = running.wakeups()
        quiet = quiet + 1 if now - before <= 1 else 0
        before = now
    assert quiet == 30, "three seconds in a row with at most one wakeup in each tenth"


def test_link_news_are_followed(net: Net, start: Start) -> None:
    both = Joined(net, start)
    both.left_space.ip("link", "set", "gre1", "mtu", "1300")
    wait_until(lambda: both.left.show()["mtu"] == 1300, 5, "the MTU")
    both.left_space.ip("link", "set", "gre1", "down")
    reaches(both.left, "configured", "no: the device is down")
    both.left_space.ip("link", "set", "gre1", "name", "wan0")
    wait_until(lambda: both.left.ask(op="state")["tunnels"][0]["name"] == "wan0", 5, "the name")
    both.left_space.ip("link", "set", "wan0", "up")
    wait_until(lambda: both.left_space.ping("10.9.0.2", within_s=0.2), 5, "traffic")
    inside = net.namespace("in")
    both.left_space.ip("link", "set", "wan0", "netns", inside.name)
    wait_until(lambda: both.left.show("wan0")["namespace"] == "moved", 5, "the move")
    inside.ip("address", "add", "10.9.0.1/30", "dev", "wan0")
    inside.ip("link", "set", "wan0", "up")
    wait_until(lambda: inside.ping("10.9.0.2", within_s=0.2), 5, "traffic from the other namespace")
    inside.ip("link", "del", "wan0")
    assert both.left.process.wait(timeout=10) == 0, "its last device was deleted"
    assert 'reason="its last device was deleted"' in both.left.said()


def test_link_news_that_were_lost_are_asked_for(net: Net, start: Start) -> None:
    space = net.namespace("busy")
    net.veth(space, net.namespace("far"), ["192.0.2.1/24"], ["192.0.2.2/24"])
    names = [f"gre{number}" for number in range(20)]
    node = start(space, *[dataclasses.replace(LEFT, name=name, ikey=at, okey=at) for at, name in enumerate(names)])
    os.kill(node.process.pid, signal.SIGSTOP)
    try:  # far more news than its buffer takes
        toggles = [f"link set {name} mtu {mtu}" for mtu in range(800, 1400) for name in names]
        space.run("ip", "-batch", "-", stdin="\n".join([*toggles, *(f"link set {name} mtu 1321 up" for name in names)]))
        sockets = [line.split() for line in space.run("cat", "/proc/net/netlink").splitlines()[1:]]
        lost = [int(drops) for _, _, _, groups, _, _, _, _, drops, _ in sockets if groups == "00000001"]
        assert any(lost), f"nothing was lost: {sockets}"
    finally:
        os.kill(node.process.pid, signal.SIGCONT)
    wait_until(lambda: node.ask(op="state")["state"] == "up", 5, "all of them to be up")
    assert {one["mtu"] for one in node.ask(op="show")["tunnels"]} == {1321}


def test_one_of_two_deleted_devices_ends_only_itself(net: Net, start: Start) -> None:
    space = net.namespace("one")
    node = start(space, LEFT, dataclasses.replace(RIGHT, name="gre2", ikey=2, okey=2))
    space.ip("link", "del", "gre1")
    wait_until(lambda: [one["name"] for one in node.ask(op="state")["tunnels"]] == ["gre2"], 5, "gre1 to go")
    refused = node.ask(op="show", tunnel="gre1")
    assert refused == {"schema": "ginnel.control/1", "ok": False, "error": "tunnel: there is no 'gre1' here"}
    assert node.ask(op="names", peers={})["ok"] is False


# ---------------------------------------------------------------- what is wrong is said


def test_another_key_at_the_peer(net: Net, start: Start) -> None:
    both = Joined(
        net, start, dataclasses.replace(LEFT, ikey=8, okey=8), dataclasses.replace(RIGHT, ikey=7, okey=7)
    )  # fmt: skip
    assert not both.left_space.ping("10.9.0.2", within_s=0.3)
    assert not both.right_space.ping("10.9.0.1", within_s=0.3)
    reaches(both.left, "configured", "no: peer sends key 7, this tunnel expects 8")
    reaches(both.right, "configured", "no: peer sends key 8, this tunnel expects 7")
    assert both.left.show()["drops"]["key_mismatch"] >= 1


def test_checksums_on_one_side(net: Net, start: Start) -> None:
    both = Joined(net, start, dataclasses.replace(LEFT, ocsum=True, icsum=True))
    assert not both.left_space.ping("10.9.0.2", within_s=0.3)
    reaches(both.right, "configured", "no: peer sends checksums, this tunnel does not expect them (icsum)")
    assert not both.right_space.ping("10.9.0.1", within_s=0.3)
    reaches(both.left, "configured", "no: peer sends no checksums, this tunnel expects them (icsum)")


def test_a_peer_that_stops_answering_is_dead_and_alive_again(net: Net, start: Start) -> None:
    both = Joined(net, start, dataclasses.replace(LEFT, keepalive=Keepalive(1, 2)))
    reaches(both.left, "alive", "yes: a keepalive came back")
    both.right_space.ip("link", "set", "gre1", "down")
    reaches(both.left, "alive", "keepalives in a row did not come back")
    assert answer(both.left, "carrying").startswith("no: ")
    both.right_space.ip("link", "set", "gre1", "up")
    reaches(both.left, "alive", "yes: a keepalive came back")
    assert "peer_dead interface=gre1" in both.left.said()
    assert both.right.show()["rx_packets"] == 0, "keepalives are not the inner side's packets"


#: Each tunnel of the left side; the right side's is its mirror.
DIALECTS: dict[str, dict[str, object]] = {
    "bare": {},
    "keys": {"ikey": 1, "okey": 2},
    "csum": {"ikey": 3, "okey": 3, "icsum": True, "ocsum": True},
    "seq": {"ikey": 4, "okey": 4, "iseq": True, "oseq": True},
    "every": {"ikey": 5, "okey": 6, "icsum": True, "ocsum": True, "iseq": True, "oseq": True},
    "udp": {"encapsulation": Encapsulation()},
    "six": {"family": 6},
    "six-keys": {"family": 6, "ikey": 7, "okey": 8},
    "six-tik": {"family": 6, "ikey": 9, "okey": 9, "dialect": "mikrotik"},
}


def dialects(ours: int) -> list[PlainConfig]:
    """The tunnels of one side, 1 or 2; keepalives from the left alone."""
    found = []
    for name, options in DIALECTS.items():
        given = {"family": 4, **options}
        dialect = given.pop("dialect", "cisco")
        ends = [f"2001:db8::{end}" if given["family"] == 6 else f"192.0.2.{end}" for end in (ours, 3 - ours)]
        if ours == 2:
            given["ikey"], given["okey"] = given.get("okey"), given.get("ikey")
        keepalive = Keepalive(1, 3, dialect) if ours == 1 else None  # type: ignore[arg-type]
        found.append(PlainConfig(name, "gre", local=ends[0], remote=ends[1], mtu=1300, keepalive=keepalive, **given))  # type: ignore[arg-type]
    return found


def test_keepalives_come_back_in_every_dialect_and_with_every_option(net: Net, start: Start) -> None:
    left, right = net.namespace("l"), net.namespace("r")
    net.veth(left, right, ["192.0.2.1/24", "2001:db8::1/64"], ["192.0.2.2/24", "2001:db8::2/64"])
    asked, answers = start(left, *dialects(1)), start(right, *dialects(2))
    for node in (answers, asked):
        node.space.run("ip", "-batch", "-", stdin="\n".join(f"link set {name} up" for name in DIALECTS))
        wait_until(lambda node=node: node.ask(op="state")["state"] == "up", 5, "all to be up")
    for name in DIALECTS:
        wait_until(lambda name=name: asked.show(name)["keepalive"]["state"] == "alive", 5, f"a keepalive of {name} to come back")
        assert answers.show(name)["configured"]["answer"] == "yes"
    for name in DIALECTS:
        assert asked.show(name)["keepalive"]["unanswered"] <= 1
        assert {reason: count for reason, count in asked.show(name)["drops"].items() if count} == {}


def test_no_tunnel_at_the_peer(net: Net, start: Start) -> None:
    left, right = net.namespace("l"), net.namespace("r")
    net.veth(left, right, ["192.0.2.1/24"], ["192.0.2.2/24"])
    node = start(left, LEFT)
    node.up(("gre1", "10.9.0.1/30"))
    wait_until(lambda: node.show()["state"] == "up", 5, "the tunnel to be up")
    assert not left.ping("10.9.0.2", within_s=0.3)
    reaches(node, "carrying", "no: 192.0.2.2 does not know protocol 47: there is no tunnel of this kind")
    assert answer(node, "configured").startswith("yes")


class Routed:
    """Two nodes with a router between them, 192.0.2.1 - .254, 198.51.100.254 - .2; the link behind it as small as told."""

    def __init__(self, net: Net, start: Start, left: PlainConfig = LEFT, *, mtu: int = 1500) -> None:
        self.left_space, self.router, self.right_space = (net.namespace(label) for label in "lmr")
        net.veth(self.left_space, self.router, ["192.0.2.1/24"], ["192.0.2.254/24"])
        net.veth(self.router, self.right_space, ["198.51.100.254/24"], ["198.51.100.2/24"], mtu=mtu)
        self.router.write_proc("/proc/sys/net/ipv4/ip_forward", "1")
        self.left_space.ip("route", "add", "default", "via", "192.0.2.254")
        self.right_space.ip("route", "add", "default", "via", "198.51.100.254")
        self.left = start(self.left_space, dataclasses.replace(left, remote="198.51.100.2"))
        self.right = start(self.right_space, dataclasses.replace(RIGHT, local="198.51.100.2"))
        self.right.up(("gre1", "10.9.0.2/30"))
        wait_until(lambda: self.right.show()["state"] == "up", 5, "the right side to be up")
        self.left.up(("gre1", "10.9.0.1/30"))
        wait_until(lambda: self.left_space.ping("10.9.0.2", within_s=0.2), 5, "traffic")


def test_a_smaller_path_is_learned(net: Net, start: Start) -> None:
    three = Routed(net, start, mtu=1400)
    assert not three.left_space.ping("10.9.0.2", options=["-M", "do", "-s", "1448"], within_s=0.3), "1476: too large for the path"
    wait_until(lambda: three.left.show()["path_mtu"] == 1376, 5, "the path MTU, 1400 less 24")
    assert three.left_space.ping("10.9.0.2", options=["-M", "do", "-s", "1348"]), "1376"
    assert not three.left_space.ping("10.9.0.2", options=["-M", "do", "-s", "1349"], within_s=0.3), "1377"
    wait_until(  # the answers teach the other side, too
        lambda: three.left_space.ping("10.9.0.2", options=["-M", "dont", "-s", "3000"], within_s=0.2), 5, "fragments inside"
    )
    assert three.right.show()["path_mtu"] == 1376
    assert "path_mtu interface=gre1 mtu=1376 delivery=1400 origin=192.0.2.254" in three.left.said()


def test_a_protocol_that_is_refused_on_the_way_is_said_with_the_way_out(net: Net, start: Start) -> None:
    three = Routed(net, start)
    chain = "type filter hook forward priority 0; ip protocol 47 reject with icmp admin-prohibited"
    three.router.run("nft", "-f", "-", stdin=f"table ip f {{ chain c {{ {chain}\n}}\n}}")
    assert not three.left_space.ping("10.9.0.2", within_s=0.3)
    why = 'protocol 47 is refused on the way: 192.0.2.254 said so; encapsulation = "udp" goes around it'
    reaches(three.left, "carrying", f"no: {why}")
    assert why in three.left.show()["warnings"]


def test_a_route_that_goes_round_is_held_and_named(net: Net, start: Start) -> None:
    both = Joined(net, start)
    assert both.left_space.ping("10.9.0.2")
    both.left_space.ip("route", "add", "192.0.2.2/32", "dev", "gre1")
    reaches(both.left, "configured", "no: held: the route to 192.0.2.2 goes through gre1 itself", 3)
    assert not both.left_space.ping("10.9.0.2", within_s=0.3)
    assert both.left.show()["drops"]["held"] >= 1
    assert both.left.show()["drops"]["looped"] <= 5, "what went out before the answer came"
    both.left_space.ip("route", "del", "192.0.2.2/32", "dev", "gre1")
    assert not both.left_space.ping("10.9.0.2", count=3, interval_s=0.4, within_s=0.3), "the hold-down holds"
    assert both.left.show()["held"] == "the route to 192.0.2.2 goes through gre1 itself"


def test_two_tunnels_in_a_circle_and_one_inside_the_other(net: Net, start: Start) -> None:
    left, right = net.namespace("l"), net.namespace("r")
    net.veth(left, right, ["192.0.2.1/24"], ["192.0.2.2/24"])
    inner = PlainConfig("gre2", "gre", 4, local="10.9.0.1", remote="10.9.0.2", mtu=1400)
    node = start(left, LEFT, inner)
    node.up(("gre1", "10.9.0.1/30"), ("gre2", "10.9.1.1/30"))
    reaches(node, "configured", "yes")
    wait_until(lambda: node.show("gre2")["state"] == "up", 5, "gre2")
    assert answer(node, "configured", "gre2").startswith("yes"), "nesting is nobody's mistake"
    left.ip("route", "add", "192.0.2.2/32", "dev", "gre2")
    reaches(node, "configured", "no: held: the route to 192.0.2.2 goes in a circle: gre2 through gre1")
    assert "held: the route to 10.9.0.2 goes in a circle: gre1 through gre2" in answer(node, "configured", "gre2")


def test_ends_that_are_missing_are_said_until_they_come(net: Net, start: Start) -> None:
    left, right = net.namespace("l"), net.namespace("r")
    link = net.veth(left, right, [], ["192.0.2.2/24"])
    node = start(left, LEFT)
    node.up(("gre1", "10.9.0.1/30"))
    reaches(node, "configured", "no: the local address 192.0.2.1 is on no interface of this host")
    left.ip("address", "add", "192.0.2.1/32", "dev", link.left)
    reaches(node, "configured", "no: there is no route to 192.0.2.2: Network is unreachable")
    left.ip("route", "add", "192.0.2.2/32", "dev", link.left)
    reaches(node, "configured", "yes: ")


def test_a_taken_port_is_said_and_taken_when_it_is_free(net: Net, start: Start) -> None:
    space, other = net.namespace("l"), net.namespace("r")
    net.veth(space, other, ["192.0.2.1/24"], ["192.0.2.2/24"])
    held = space.popen("socat", "-u", "UDP4-RECV:4754", "OPEN:/dev/null")
    wait_until(lambda: "4754" in space.run("ss", "-Hlun"), 5, "the port to be taken")
    node = start(space, dataclasses.replace(LEFT, encapsulation=Encapsulation()))
    node.up(("gre1", "10.9.0.1/30"))
    wait_until(lambda: node.ask(op="state")["tunnels"][0]["error"], 5, "the error")
    assert answer(node, "configured") == "no: UDP port 4754 is taken by another program; free it or set another (listen)"
    held.terminate()
    held.wait()
    space.ip("link", "set", "gre1", "down")
    space.ip("link", "set", "gre1", "up")
    wait_until(lambda: node.show()["state"] == "up", 5, "the tunnel to be up")


def test_a_remote_by_name(net: Net, start: Start) -> None:
    both = Joined(net, start)
    names = Path("/etc/netns", both.left_space.name)
    names.mkdir(parents=True)
    try:
        (names / "hosts").write_text("192.0.2.2 b.example.org\n")
        assert both.left.stop() == 0
        node = start(both.left_space, dataclasses.replace(LEFT, remote="b.example.org"))
        node.up(("gre1", "10.9.0.1/30"))
        wait_until(lambda: both.left_space.ping("10.9.0.2", within_s=0.2), 5, "traffic")
        assert (node.show()["remote"], node.show()["remote_host"]) == ("192.0.2.2", "b.example.org")
    finally:
        (names / "hosts").unlink()
        names.rmdir()


# ---------------------------------------------------------------- what cannot start


def node_text(name: str, *tunnels: PlainConfig) -> str:
    return to_json(NodeConfig(name, "/x.toml", plain=tunnels))


def test_what_it_does_not_begin_with(net: Net) -> None:
    space = net.namespace("x")
    name = net.unique("node")
    wireguard = NodeConfig(name, "/x.toml", wireguard=(WireguardConfig("wg0", "", "/k"),))
    space.ip("link", "add", "taken", "type", "veth", "peer", "name", "taken2")
    cases = [
        ("{}", 2, "expected a node's description in JSON"),
        ("[" * 100_000, 2, "expected a node's description in JSON"),
        (node_text("other", LEFT), 2, f"expected the description of '{name}', found 'other'"),
        (node_text(name), 2, "expected at least one tunnel"),
        (to_json(wireguard), 2, "a node's process serves no WireGuard tunnels"),
        (node_text(name, dataclasses.replace(LEFT, dev="eth77")), 1, "gre1: there is no interface eth77"),
        (node_text(name, dataclasses.replace(LEFT, name="a/b")), 1, "expected the name of an interface"),
        (node_text(name, dataclasses.replace(LEFT, name="taken")), 1, "taken: "),
        (node_text(name, dataclasses.replace(LEFT, name="all")), 1, "the kernel has that word for itself"),
        (
            node_text(name, LEFT, dataclasses.replace(LEFT, name="gre2")),
            1,
            "gre2: its packets could not be told from those of gre1",
        ),
    ]
    for text, code, message in cases:
        found = refusal(space, name, text)
        assert found[0] == code, (message, found)
        assert message in found[1], found
        assert "Traceback" not in found[1]
        assert not control_path(name).exists()
        assert not space.succeeds("ip", "link", "show", "gre1")


def test_a_second_process_of_the_same_node_is_refused(net: Net, start: Start) -> None:
    space = net.namespace("x")
    node = start(space, LEFT)
    code, said = refusal(space, node.config.name, node_text(node.config.name, RIGHT))
    assert (code, "unix socket in use" in said) == (1, True)
    assert node.show()["name"] == "gre1"


# ---------------------------------------------------------------- many


def test_a_thousand_tunnels_are_ready_soon_and_stay_small(net: Net, start: Start) -> None:
    space = net.namespace("many")
    link = net.veth(space, net.namespace("far"), ["192.0.2.1/16"], ["192.0.2.2/16"])
    tunnels = [
        PlainConfig(f"gre{number}", "gre", 4, local="192.0.2.1", remote="192.0.2.2", ikey=number, okey=number, mtu=1476)
        for number in range(1_000)
    ]
    assert link.left
    began = time.monotonic()
    node = start(space, *tunnels)
    ready_s = time.monotonic() - began
    batch = "\n".join(f"link set gre{number} up" for number in range(1_000))
    space.run("ip", "-batch", "-", stdin=batch)
    wait_until(lambda: node.ask(op="state")["state"] == "up", 10, "all of them to be up")
    up_s = time.monotonic() - began
    memory_kb = node.running().status_kb("VmRSS")
    assert len(node.ask(op="show")["tunnels"]) == 1_000
    began = time.monotonic()
    assert node.stop() == 0
    print(f"ready {ready_s:.2f} s, up {up_s:.2f} s, {memory_kb / 1024:.0f} MiB, down {time.monotonic() - began:.2f} s")
    assert memory_kb < 100_000
    assert ready_s < 6, "1.5 s on a machine that does nothing else"


# ---------------------------------------------------------------- half a minute later


def test_a_hold_down_ends(released: Joined) -> None:
    reaches(released.left, "configured", "yes: ", 40)
    wait_until(lambda: released.left_space.ping("10.9.0.2", within_s=0.2), 5, "traffic")
    assert "released interface=gre1 held_s=3" in released.left.said()
