"""
The sum held against live tunnels: what `ginnel mtu` says passes, one byte more does not, and the wire is full.

All kinds of tunnel stand beside each other in two namespaces, brought up from node files over a link of 1500 and one of 1400.
Then paths: with a smaller link in the middle, with ICMP and without, and with a way back that is narrower than the way there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ginnel import mtu
from namespaces import Namespace, Net, wait_until
from peers.guest import Guest
from peers.node_files import GINNEL, NodeFile
from peers.nodes import Capture, Keys


@dataclass(frozen=True, slots=True)
class Kind:
    """One tunnel: its number gives it addresses; *lines* are its options in the node file, *stack* what `ginnel mtu` calls it."""

    number: int
    kind: str
    family: mtu.Family
    lines: str
    stack: str

    @property
    def name(self) -> str:
        return f"t{self.number}"

    def outer(self, end: int) -> str:
        return f"192.0.2.{100 * (end - 1) + self.number + 10}" if self.family == 4 else f"2001:db8::{end}:{self.number}"

    def inner(self, end: int) -> str:
        """IPv4 where the tunnel carries it, else IPv6."""
        return f"fd20:{self.number}::{end}" if self.kind == "sit" else f"10.77.{self.number}.{end}"

    def table(self, end: int) -> str:
        bits = 64 if ":" in self.inner(end) else 24
        return (
            f'[tunnel.{self.name}]\nkind = "{self.kind}"\nlocal = "{self.outer(end)}"\nremote = "{self.outer(3 - end)}"\n'
            f'address = ["{self.inner(end)}/{bits}"]\n{self.lines}\n'
        )


KINDS = [
    Kind(number, *row)
    for number, row in enumerate(
        [
            ("gre", 4, "", "gre"),
            ("gre", 6, "", "gre"),
            ("gre", 4, "key = 7", "gre+key"),
            ("gre", 6, "key = 7", "gre+key"),
            ("gre", 4, "csum = true", "gre+csum"),
            ("gre", 4, "csum = true\nkey = 7\nseq = true", "gre+csum+key+seq"),
            ("gre", 6, "csum = true\nkey = 7\nseq = true", "gre+csum+key+seq"),
            ("gre", 6, "encaplimit = 4", "gre+encaplimit"),
            ("gretap", 4, "", "gretap"),
            ("gretap", 6, "key = 7", "gretap+key"),
            ("ipip", 4, "", "ipip"),
            ("sit", 4, "", "sit"),
            ("ip6tnl", 6, "", "ip6tnl"),
            ("ip6tnl", 6, "encaplimit = 4", "ip6tnl+encaplimit"),
            ("gre", 4, 'encapsulation = "udp"', "gre-in-udp"),
            ("gre", 6, 'encapsulation = "udp"\nkey = 7', "gre-in-udp+key"),
        ],
        1,
    )
]


@dataclass(slots=True)
class World:
    """Two namespaces joined by one link, all tunnels up at both."""

    link_mtu: int
    near: Namespace
    far: Namespace
    capture: Capture
    #: What `ginnel mtu NAME --prove` said of each tunnel, all asked at once.
    answers: dict[Kind, dict[str, Any]]


def told(space: Namespace, *argv: str) -> dict[str, Any]:
    """`ginnel mtu --json`; whatever its exit code."""
    answer = json.loads(space.run(GINNEL, "mtu", *argv, "--json", check=False))
    assert isinstance(answer, dict)
    return answer


@pytest.fixture(scope="module", params=[1500, 1400])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("mtu")
    with Net.create() as net, ExitStack() as stack:
        near, far = net.namespace("near"), net.namespace("far")
        addresses = [[f"{kind.outer(end)}/{24 if kind.family == 4 else 64}" for kind in KINDS] for end in (1, 2)]
        link = net.veth(near, far, *addresses, mtu=request.param)
        for end, space in ((1, near), (2, far)):
            text = "".join(kind.table(end) for kind in KINDS)
            stack.enter_context(NodeFile.write(net, space, directory, text))
        capture = Capture.start(near, link.left, directory / "seen")
        yield World(request.param, near, far, capture, prove_all(near))
        capture.stop()


def prove_all(space: Namespace) -> dict[Kind, dict[str, Any]]:
    """`ginnel mtu NAME --prove` for all tunnels at once."""
    with ThreadPoolExecutor(len(KINDS)) as pool:
        answers = pool.map(lambda kind: told(space, kind.name, "--prove", kind.inner(2)), KINDS)
        return dict(zip(KINDS, answers, strict=True))


def widest(capture: Capture, kind: Kind) -> int:
    """The largest packet of this tunnel that was seen, from its IP header on."""
    at, size = (26, 4) if kind.family == 4 else (22, 16)
    ends = {bytes(_packed(kind.outer(end))) for end in (1, 2)}
    ours = [len(frame) - 14 for frame in capture.packets() if frame[at : at + size] in ends]
    return max(ours, default=0)


def _packed(address: str) -> bytes:
    import ipaddress

    return ipaddress.ip_address(address).packed


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.stack}-over{kind.family}")
def test_the_sum_passes_one_more_does_not_and_the_wire_is_full(world: World, kind: Kind) -> None:
    expected = mtu.parse(kind.stack, kind.family).sum(world.link_mtu).inner
    found = world.answers[kind]
    assert (found["stack"], found["link"]) == (mtu.parse(kind.stack, kind.family).text, world.link_mtu)
    assert found["interface_mtu"] == found["sums"][0]["inner_mtu"] == expected
    assert found["warnings"] == []
    proof = found["proof"]
    assert (proof["where"], proof["passes"], proof["passes_back_whole"]) == ("inside", expected, expected)
    assert proof["agrees"]
    assert proof["beyond"]["end"] == "refused"
    wait_until(lambda: widest(world.capture, kind) == world.link_mtu, 5, "a packet as large as the link")


def test_a_device_that_is_one_byte_too_large_does_not_make_the_path_larger(world: World) -> None:
    """It is not the device's MTU alone that refuses: what the engine would send does not fit, and its sender is told."""
    sums = {kind: mtu.parse(kind.stack, kind.family).sum(world.link_mtu).inner for kind in KINDS}
    for kind, expected in sums.items():
        world.near.ip("link", "set", kind.name, "mtu", str(expected + 1))
    found = prove_all(world.near)
    for kind, expected in sums.items():
        world.near.ip("link", "set", kind.name, "mtu", str(expected))
    for kind, expected in sums.items():
        assert found[kind]["proof"]["passes"] == expected, kind
        assert f"has an MTU of {expected + 1}, 1 more than fits" in found[kind]["warnings"][0], kind
        assert found[kind]["proof"]["beyond"]["size"] == expected + 1, kind


def test_a_tunnel_in_words_is_proven_by_the_route_to_the_host(world: World) -> None:
    inside = told(world.near, "gre+key", "--link", str(world.link_mtu), "--over", "ipv4", "--prove", KINDS[2].inner(2))
    assert (inside["proof"]["where"], inside["proof"]["agrees"]) == ("inside", True)
    outside = told(world.near, "gre", "--link", str(world.link_mtu), "--prove", KINDS[0].outer(2))
    assert (outside["proof"]["where"], outside["proof"]["agrees"]) == ("outside", True)


def test_a_device_smaller_than_the_sum_is_proven_as_it_is(world: World) -> None:
    kind = KINDS[0]
    world.near.ip("link", "set", kind.name, "mtu", "1300")
    found = told(world.near, kind.name, "--prove", kind.inner(2))
    world.near.ip("link", "set", kind.name, "mtu", str(world.link_mtu - 24))
    assert found["proof"]["agrees"]
    assert found["proof"]["sentences"][0].startswith("t1 says 1300: 1300 passes both ways, 1301 does not")
    assert found["warnings"] == [f"t1 has an MTU of 1300: it could be {world.link_mtu - 24}"]


# ---------------------------------------------------------------- WireGuard


@pytest.mark.parametrize(("family", "size"), [(4, 1440), (6, 1420)])
def test_wireguard(net: Net, tmp_path: Path, family: mtu.Family, size: int) -> None:
    near, far = net.namespace("near"), net.namespace("far")
    link = net.veth(near, far, ["192.0.2.1/24", "2001:db8::1/64"], ["192.0.2.2/24", "2001:db8::2/64"])
    name, keys, others = net.unique("wm"), Keys.fresh(), Keys.fresh()
    with ExitStack() as stack:
        for space, end, mine, theirs in ((near, 1, keys, others), (far, 2, others, keys)):
            directory = tmp_path / str(end)
            directory.mkdir()
            # Names are the machine's: one for each side.
            path = directory / f"{name}{end}.conf"
            outer = f"192.0.2.{3 - end}" if family == 4 else f"[2001:db8::{3 - end}]"
            path.write_text(
                f"[Interface]\nPrivateKey = {mine.private}\nAddress = 10.78.0.{end}/24\nListenPort = 51820\nMTU = {size}\n"
                f"[Peer]\nPublicKey = {theirs.public}\nAllowedIPs = 10.78.0.0/24\nEndpoint = {outer}:51820\n"
            )
            path.chmod(0o600)
            space.run(GINNEL, "up", str(path))
            stack.callback(space.run, GINNEL, "down", str(path))
        assert near.ping("10.78.0.2", within_s=4)
        capture = Capture.start(near, link.left, tmp_path / "seen", "udp", "port", "51820")
        found = told(near, f"{name}1", "--prove", "10.78.0.2")
        assert (found["stack"], found["sums"][0]["over"], found["interface_mtu"]) == ("wireguard", f"ipv{family}", size)
        assert found["proof"]["agrees"], found
        assert found["proof"]["passes"] == size
        wait_until(lambda: max((len(frame) - 14 for frame in capture.packets()), default=0) == 1500, 5, "a full packet")
        capture.stop()


# ---------------------------------------------------------------- paths


@dataclass(slots=True)
class Route:
    """near - router - far; the router's link to far carries 1400."""

    net: Net
    near: Namespace
    router: Namespace
    far: Namespace
    inner_link: str


@pytest.fixture
def route(net: Net) -> Route:
    near, router, far = net.namespace("near"), net.namespace("router"), net.namespace("far")
    left = net.veth(near, router, ["192.0.2.1/24", "2001:db8:1::1/64"], ["192.0.2.254/24", "2001:db8:1::ff/64"])
    net.veth(router, far, ["198.51.100.254/24", "2001:db8:2::ff/64"], ["198.51.100.2/24", "2001:db8:2::2/64"], mtu=1400)
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    for space, gateway4, gateway6 in ((near, "192.0.2.254", "2001:db8:1::ff"), (far, "198.51.100.254", "2001:db8:2::ff")):
        space.ip("route", "add", "default", "via", gateway4)
        space.ip("-6", "route", "add", "default", "via", gateway6)
    wait_until(lambda: near.ping("198.51.100.2") and near.ping("2001:db8:2::2"), 10, "the path")
    return Route(net, near, router, far, left.right)


def no_icmp(router: Namespace) -> None:
    """The router says nothing of packets that are too big."""
    router.run(
        "nft",
        "table inet hole { chain said { type filter hook output priority 0; "
        "icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; }",
    )


OUTER = pytest.mark.parametrize(("host", "inner"), [("198.51.100.2", 1376), ("2001:db8:2::2", 1356)], ids=["v4", "v6"])


@OUTER
def test_a_smaller_link_on_the_path_is_found_and_its_router_named(route: Route, host: str, inner: int) -> None:
    done = route.near.run(GINNEL, "mtu", "gre", "--prove", host, check=False)
    router = "192.0.2.254" if "." in host else "2001:db8:1::ff"
    assert f"✗ the link says 1500, but only 1400 passes: 1401 does not ({router} refuses it: the next link carries 1400)" in done
    assert f"over a path of 1400 the inner MTU is {inner}" in done


def test_a_host_that_does_not_exist(route: Route) -> None:
    done = route.near.run(GINNEL, "mtu", "gre", "--prove", "203.0.113.77", check=False)
    assert "✗ nothing is proven: 192.0.2.254 says of 203.0.113.77: network unreachable" in done


@OUTER
def test_a_black_hole_is_found_and_called_so(route: Route, host: str, inner: int) -> None:
    no_icmp(route.router)
    done = route.near.run(GINNEL, "mtu", "gre", "--prove", host, check=False)
    assert "✗ the link says 1500, but only 1400 passes: 1401 does not (it vanishes, and no ICMP came back: a black hole)" in done
    assert f"over a path of 1400 the inner MTU is {inner}" in done


@pytest.mark.parametrize(("host", "fragment"), [("198.51.100.2", 1340), ("2001:db8:2::2", 1336)], ids=["v4", "v6"])
def test_a_way_back_that_is_narrower_is_told_by_the_fragments(route: Route, host: str, fragment: int) -> None:
    """The router sends back through a route of 1340; the way there carries 1400."""
    route.router.ip("route", "replace", "192.0.2.0/24", "dev", route.inner_link, "mtu", "lock", "1340", "scope", "link")
    route.router.ip("-6", "route", "replace", "2001:db8:1::/64", "dev", route.inner_link, "mtu", "1340", "metric", "256")
    found = told(route.near, "gre", "--link", "1400", "--prove", host)["proof"]
    assert (found["passes"], found["passes_back_whole"], found["largest_fragment_back"]) == (1400, 1340, fragment)
    assert not found["agrees"]
    assert f"the way back is narrower: the reply of 1400 came in fragments, the largest of {fragment}" in found["sentences"][1]


@OUTER
def test_an_ordinary_user_sees_the_same_where_ping_sockets_are_allowed(route: Route, host: str, inner: int) -> None:
    """Without CAP_NET_RAW: the same answers; where ping sockets are not allowed either, it is said how to allow them."""
    without = ("setpriv", "--bounding-set=-net_raw", GINNEL, "mtu", "gre", "--prove", host)
    route.near.write_proc("/proc/sys/net/ipv4/ping_group_range", "1 0")
    done = route.near.popen(*without, stdout=-1, stderr=-1, text=True)
    _, said = done.communicate(timeout=30)
    assert done.returncode == 1
    assert "this user may not" in said
    assert "net.ipv4.ping_group_range" in said
    route.near.write_proc("/proc/sys/net/ipv4/ping_group_range", f"0 {os.getgid() + 1}")
    answer = route.near.run(*without, check=False)
    assert "only 1400 passes: 1401 does not (" in answer
    assert "the next link carries 1400" in answer


#: How the tunnel of the following tests is delivered: family, lines of the node file, and what it leaves of 1500 and of 1400.
DELIVERED = {
    "raw4": (4, "", 1476, 1376),
    "raw6": (6, "", 1456, 1356),
    "udp4": (4, 'encapsulation = "udp"\n', 1468, 1368),
    "udp6": (6, 'encapsulation = "udp"\n', 1448, 1348),
}
ENDS = {4: ("192.0.2.1", "198.51.100.2"), 6: ("2001:db8:1::1", "2001:db8:2::2")}


def gre_over(route: Route, directory: Path, stack: ExitStack, delivered: str, lines: str = "") -> tuple[NodeFile, NodeFile]:
    """A tunnel from near to far, both ends believing in 1500."""
    family, encapsulation, size, _ = DELIVERED[delivered]
    near, far = (
        stack.enter_context(
            NodeFile.write(
                route.net,
                space,
                directory,
                f'[tunnel.gre1]\nkind = "gre"\nlocal = "{ENDS[family][end - 1]}"\nremote = "{ENDS[family][2 - end]}"\n'
                f'address = ["10.79.0.{end}/24"]\nmtu = {size}\n{encapsulation}{lines}',
            )
        )
        for end, space in ((1, route.near), (2, route.far))
    )
    wait_until(lambda: route.near.ping("10.79.0.2", within_s=0.5), 10, "the tunnel")
    return near, far


@pytest.mark.parametrize("delivered", DELIVERED)
def test_inside_a_tunnel_the_path_is_learned_from_icmp(route: Route, tmp_path: Path, delivered: str) -> None:
    """The router's ICMP goes to the tunnel, which tells the sender inside: the proof names it."""
    _, _, size, fits = DELIVERED[delivered]
    with ExitStack() as stack:
        near, _ = gre_over(route, tmp_path, stack, delivered)
        route.near.ping("10.79.0.2", options=("-s", str(size - 28), "-M", "do"))
        wait_until(lambda: near.show("gre1")["path_mtu"] == fits, 5, "the path's MTU")
        found = told(route.near, "gre1", "--link", "1500", "--prove", "10.79.0.2")
        assert found["learned_mtu"] == fits
        assert (found["proof"]["passes"], found["proof"]["beyond"]["mtu"]) == (fits, fits)
        # What the inner sender does not forbid to be cut passes whatever its size, once the other side has learned it too.
        wait_until(lambda: route.near.ping("10.79.0.2", options=("-s", "4000")), 5, "a packet in pieces")


def test_inside_a_tunnel_a_black_hole_is_found_by_the_proof(route: Route, tmp_path: Path) -> None:
    no_icmp(route.router)
    with ExitStack() as stack:
        gre_over(route, tmp_path, stack, "raw4")
        done = route.near.run(GINNEL, "mtu", "gre1", "--prove", "10.79.0.2", check=False)
        assert (
            "✗ the sum says 1476, but only 1376 passes: 1377 does not (it vanishes, and no ICMP came back: a black hole)" in done
        )


@pytest.mark.parametrize("delivered", ["raw4", "raw6"])
def test_a_running_tunnel_finds_the_black_hole_by_itself(route: Route, tmp_path: Path, delivered: str) -> None:
    """With keepalives the path is probed: ten seconds after it came up the tunnel keeps to what passes."""
    _, _, size, fits = DELIVERED[delivered]
    no_icmp(route.router)
    with ExitStack() as stack:
        near, far = gre_over(route, tmp_path, stack, delivered, "keepalive = 1\n")
        wait_until(lambda: near.show("gre1")["path_mtu"] == fits, 60, "the path's MTU, by probes")
        assert any("a black hole, found by probes" in text for text in near.show("gre1")["warnings"])
        # Back it is far's own link that is small; it knows from its device.
        wait_until(lambda: far.show("gre1")["path_mtu"] == fits, 60, "the other side's")
        wait_until(lambda: route.near.ping("10.79.0.2", options=("-s", str(size - 28), "-M", "dont")), 5, "a packet in pieces")


def test_the_linux_kernel_sends_padded_keepalives_back(guest: Guest, net: Net, tmp_path: Path) -> None:
    """
    As any router does that answers keepalives: what lies behind the packet inside is cut off, the packet is routed back.

    Linux takes a packet with its own source address from a tunnel only with accept_local.
    """
    near = net.namespace("near")
    link = guest.join(near, ["192.0.2.81/24"])
    guest.load("ip_gre")
    guest.shell(
        "ip address add 192.0.2.181/24 dev eth0; sysctl -qw net.ipv4.ip_forward=1;"
        " ip link add probed type gre local 192.0.2.181 remote 192.0.2.81; ip link set probed up;"
        " sysctl -qw net.ipv4.conf.probed.accept_local=1 net.ipv4.conf.probed.rp_filter=0 net.ipv4.conf.all.rp_filter=0"
    )
    text = (
        '[tunnel.gre1]\nkind = "gre"\nlocal = "192.0.2.81"\nremote = "192.0.2.181"\n'
        'address = ["10.79.1.1/24"]\nmtu = 1476\nkeepalive = 1\n'
    )
    capture = Capture.start(near, link.left, tmp_path / "seen", "proto", "47")

    def seen(source: str, size: int, protocol: int) -> bool:
        return any(
            frame[26:30] == _packed(source)
            and int.from_bytes(frame[16:18], "big") == size
            and int.from_bytes(frame[36:38], "big") == protocol
            for frame in capture.packets()
        )

    try:
        with NodeFile.write(net, near, tmp_path, text) as node:
            wait_until(lambda: seen("192.0.2.81", 1500, 0x0800), 20, "a probe that fills the link")
            wait_until(lambda: seen("192.0.2.181", 24, 0x86DD), 5, "what was inside it, and nothing else")
            assert node.show("gre1")["path_mtu"] is None
            assert node.show("gre1")["alive"]["answer"] == "yes"
    finally:
        capture.stop()
        guest.shell("ip link del probed; ip address del 192.0.2.181/24 dev eth0", check=False)


def test_nothing_here_is_the_command_of_another_namespace(route: Route) -> None:
    done = route.far.popen(GINNEL, "mtu", "t1", stdout=-1, stderr=-1, text=True)
    _, said = done.communicate(timeout=30)
    assert done.returncode == 2
    assert "no interface here is called 't1'" in said
