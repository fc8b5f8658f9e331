"""Bring-up of a node file on a host in memory: the order of things, and that a failure at any step leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ginnel.config import nodefile
from ginnel.config.node import NodeConfig
from ginnel.errors import ConfigError, GinnelError
from ginnel.linux import bringup, node_bringup
from ginnel.linux.fake import FakeFou, FakeHost, FakeNode, FakeRequests
from ginnel.linux.kernel_gre import KernelTunnels
from ginnel.linux.record import Process, Record, Store, network_namespace
from ginnel.linux.rtnl import attribute

# The interfaces do not exist on the host that runs the test.
EVERYTHING = """
[tunnel.gnl1]
kind = "gre"
local = "203.0.113.10"
remote = "198.51.100.20"
ttl = 255
address = ["10.10.10.1/30", "fd10::1/64"]
routes = ["10.20.0.0/24", "0.0.0.0/0 table 64"]
rules = ["from 203.0.113.64/28 table 64", "fwmark 7 priority 100 table 64"]

[tunnel.gnl2]
kind = "ipip"
local = "203.0.113.10"
remote = "192.0.2.30"
address = ["10.10.11.1/30"]
mtu = 1400
"""
FORWARDING = {"net.ipv4.ip_forward": "1", "net.ipv6.conf.default.disable_ipv6": "0"}


class Said:
    """A console that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []

    def step(self, words: str) -> None:
        self.steps.append(words)

    def note(self, text: str) -> None:
        self.notes.append(text)


def parsed(text: str = EVERYTHING) -> NodeConfig:
    return nodefile.parse(text, "/etc/ginnel/edge.toml")


def bring_up(world: FakeHost, store: Store, text: str = EVERYTHING, *, dry_run: bool = False) -> Said:
    said = Said()
    node_bringup.up(parsed(text), world.host(), FakeNode(world), store, said, dry_run=dry_run)
    return said


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "run")


@pytest.fixture(autouse=True)
def nobody_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here may wait for or end a process that stands for a daemon."""
    monkeypatch.setattr(bringup, "end_process", lambda process: None)


def test_the_steps_in_their_order(store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    said = bring_up(world, store)
    assert said.steps == [
        "nft -f - # table inet ginnel-edge: TCP MSS of gnl1, gnl2",
        "serve edge",
        "ip link add gnl1 type gre local 203.0.113.10 remote 198.51.100.20 ttl 255 # in user space",
        "ip link add gnl2 type ipip local 203.0.113.10 remote 192.0.2.30 mode ipip # in user space",
        "ip link set dev gnl1 mtu 1476 addrgenmode none",
        "ip address add 10.10.10.1/30 dev gnl1",
        "ip address add fd10::1/64 dev gnl1",
        "ip address add fe80::200:5efe:cb00:710a/64 dev gnl1",
        "ip link set dev gnl1 up",
        "ip -4 route add 10.20.0.0/24 dev gnl1",
        "ip -4 route add 0.0.0.0/0 dev gnl1 table 64",
        "ip link set dev gnl2 mtu 1400 addrgenmode none",
        "ip address add 10.10.11.1/30 dev gnl2",
        "ip link set dev gnl2 up",
        "ip -4 rule add from 203.0.113.64/28 priority 32765 table 64",
        "ip -4 rule add fwmark 0x7 priority 100 table 64",
        "ip -6 rule add fwmark 0x7 priority 100 table 64",
    ]
    assert said.notes == []
    record = store.load("edge")
    assert record is not None
    assert record.complete


def test_a_dry_run_says_the_same_and_does_nothing(store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    planned = bring_up(world, store, dry_run=True).steps
    assert world.calls == []
    assert store.load("edge") is None
    assert planned == bring_up(world, store).steps


def test_the_mss_is_that_of_each_mtu_and_the_kernels_answers_are_dropped(store: Store) -> None:
    world = FakeHost()
    bring_up(world, store)
    rules = world.tables["inet ginnel-edge"]
    assert 'iifname { "gnl1" } meta nfproto ipv4 tcp flags & (syn | rst) == syn tcp option maxseg size set 1436' in rules
    assert 'iifname { "gnl1" } meta nfproto ipv6 tcp flags & (syn | rst) == syn tcp option maxseg size set 1416' in rules
    assert 'iifname { "gnl2" } meta nfproto ipv4 tcp flags & (syn | rst) == syn tcp option maxseg size set 1360' in rules
    assert 'forward oifname { "gnl1", "gnl2" } tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu' in rules
    unreachable = "icmp type destination-unreachable icmp code port-unreachable"
    assert f"ip daddr {{ 198.51.100.20 }} {unreachable} @th,136,8 47 drop" in rules
    assert f"ip daddr {{ 192.0.2.30 }} {unreachable} @th,136,8 4 drop" in rules


def test_without_a_clamp_there_is_no_table(store: Store) -> None:
    world = FakeHost()
    said = bring_up(world, store, EVERYTHING.replace('kind = "', 'mss-clamp = false\nkind = "'))
    assert not any("nft" in step for step in said.steps)
    assert world.tables == {}


def count_of_calls() -> int:
    import tempfile

    world = FakeHost(sysctl=dict(FORWARDING))
    with tempfile.TemporaryDirectory() as directory:
        bring_up(world, Store(Path(directory)))
    return len(world.calls)


CALLS = count_of_calls()


def test_every_step_is_counted() -> None:
    assert CALLS == 2 + 1 + 10 + 3


@pytest.mark.parametrize("when", ["fail_at", "fail_after"])
@pytest.mark.parametrize("number", range(1, CALLS + 1))
def test_a_failure_at_any_step_leaves_the_host_as_it_was(number: int, when: str, store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    world.make_link("other", "")
    world.policies.add((4, "from 10.0.0.0/8 priority 50 table 9"))
    before = world.state()
    setattr(world, when, number)
    with pytest.raises(GinnelError):
        bring_up(world, store)
    after = world.state()
    call = world.calls[number - 1]
    if when == "fail_after" and (call == "nft" or call.split()[2:3] == ["rule"]):
        # What the kernel refuses has not happened: a rule or a transaction that "failed" afterwards is not ours to undo.
        return
    assert after == before
    assert store.load("edge") is None


def test_what_cannot_be_undone_is_said_and_kept_for_later(store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    before = world.state()
    bring_up(world, store)
    pretend_up(store)
    world.fail_at = len(world.calls) + 5  # the table, after three rules and the links
    with pytest.raises(GinnelError, match="could not undo: nft"):
        bringup.down("edge", None, world.host(), store, Said())
    assert store.load("edge") is not None
    said = Said()
    bringup.down("edge", None, world.host(), store, said)
    assert said.notes == ["edge was killed; mending what it left"]
    assert world.state() == before
    assert store.load("edge") is None


def pretend_up(store: Store) -> None:
    """The fake has no process: let the test's parent stand for the daemon."""
    record = store.load("edge")
    assert record is not None
    record.daemon = Process.of(os.getppid())
    store.save(record)


def test_down_undoes_exactly_what_up_did(store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    theirs = (4, "from 203.0.113.64/28 priority 9 table 64")
    world.policies.add(theirs)
    before = world.state()
    bring_up(world, store)
    pretend_up(store)
    said = Said()
    bringup.down("edge", None, world.host(), store, said)
    assert world.state() == before
    assert said.steps == [
        "ip -6 rule delete fwmark 0x7 priority 100 table 64",
        "ip -4 rule delete fwmark 0x7 priority 100 table 64",
        "ip -4 rule delete from 203.0.113.64/28 priority 8 table 64",
        "ip -batch - # 2 x link delete",
        "nft -f - # delete table inet ginnel-edge",
    ]
    assert store.load("edge") is None


def test_up_mends_what_a_killed_up_left(store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    bring_up(world, store)
    left = world.state()
    world.links.clear()  # the process died, and its devices with it
    said = bring_up(world, store)
    assert said.notes[0] == "mending what a killed edge left"
    policies, tables = world.policies, world.tables
    assert (policies, tables) == (left[4], left[2])


def test_what_is_up_is_not_brought_up_again(store: Store) -> None:
    world = FakeHost()
    bring_up(world, store)
    pretend_up(store)
    with pytest.raises(GinnelError, match=r"edge is already up \(from /etc/ginnel/edge.toml\)"):
        bring_up(world, store)


def test_a_rule_that_went_meanwhile_is_told_and_no_failure(store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    bring_up(world, store)
    pretend_up(store)
    world.policies.clear()
    said = Said()
    bringup.down("edge", None, world.host(), store, said)
    assert said.notes[0] == "rule fwmark 0x7 priority 100 table 64 was gone already"


# ---------------------------------------------------------------- MTU


ONE = '[tunnel.gnl1]\nkind = "gre"\nlocal = "203.0.113.10"\nremote = "198.51.100.20"\n'


def mtu_line(said: Said, name: str = "gnl1") -> str:
    return next(step for step in said.steps if step.startswith(f"ip link set dev {name} mtu"))


@pytest.mark.parametrize(
    ("options", "path", "mtu"),
    [
        ("", 1500, 1476),
        ("key = 1", 1500, 1472),
        ("key = 1\nseq = true\ncsum = true", 1500, 1464),
        ("icsum = true\nikey = 3", 1500, 1476),  # only what we send takes room
        ('encapsulation = "udp"', 1500, 1468),
        ("", 1400, 1376),
        ("", 65536, 65511),
    ],
)
def test_the_mtu_is_the_routes_less_the_layers(options: str, path: int, mtu: int, store: Store) -> None:
    said = bring_up(FakeHost(paths={"198.51.100.20": path}), store, ONE + options, dry_run=True)
    assert mtu_line(said).startswith(f"ip link set dev gnl1 mtu {mtu}")


def test_a_tunnel_over_a_tunnel_of_the_file_fits_into_it(store: Store) -> None:
    text = ONE + 'address = ["10.10.10.1/30"]\n[tunnel.gnl2]\nkind = "gre"\nlocal = "203.0.113.10"\nremote = "10.10.10.2"\n'
    said = bring_up(FakeHost(), store, text, dry_run=True)
    assert mtu_line(said, "gnl2").startswith("ip link set dev gnl2 mtu 1452")


def test_a_path_too_small_for_ipv6_is_refused_before_anything_is_touched(store: Store) -> None:
    world = FakeHost(paths={"198.51.100.20": 1300})
    with pytest.raises(
        GinnelError, match=r"gnl1: the path to 198\.51\.100\.20 leaves 1276 bytes for a packet, and IPv6 needs 1280"
    ):
        bring_up(world, store, ONE + 'address = ["fd10::1/64"]')
    assert world.calls == []


def test_a_small_mtu_has_no_link_local_address(store: Store) -> None:
    said = bring_up(FakeHost(sysctl=dict(FORWARDING)), store, ONE + "mtu = 1200", dry_run=True)
    assert mtu_line(said) == "ip link set dev gnl1 mtu 1200"
    assert not any("fe80" in step for step in said.steps)


@pytest.mark.parametrize(
    ("kind", "local", "expected"),
    [
        ("gre", "203.0.113.10", "fe80::200:5efe:cb00:710a/64"),
        ("gre", "192.168.1.1", "fe80::5efe:c0a8:101/64"),
        ("sit", "192.0.2.1", "fe80::c000:201/64"),
        ("gretap", "192.0.2.1", None),
        ("gre", "2001:db8::1", None),
    ],
)
def test_link_local_addresses_are_the_kernels(kind: str, local: str, expected: str | None) -> None:
    remote = "2001:db8::2" if ":" in local else "198.51.100.20"
    config = parsed(f'[tunnel.gnl1]\nkind = "{kind}"\nlocal = "{local}"\nremote = "{remote}"\n')
    assert node_bringup.link_local(config.plain[0]) == expected


def test_a_kernel_without_ipv6_gets_no_rules_for_it(store: Store) -> None:
    world = FakeHost(no_settings=frozenset({"net.ipv6.conf.default.disable_ipv6"}))
    said = bring_up(world, store, ONE + 'rules = ["fwmark 7 table 64"]')
    assert [step for step in said.steps if "rule" in step] == ["ip -4 rule add fwmark 0x7 priority 32765 table 64"]


def test_an_mtu_that_does_not_fit_the_path_is_told(store: Store) -> None:
    said = bring_up(FakeHost(), store, ONE + "mtu = 1500")
    assert said.notes == ["gnl1: the path carries 1476 bytes inside, and mtu is 1500: larger packets are cut or refused"]
    assert bring_up(FakeHost(), store, ONE.replace("gnl1", "gnl3") + "mtu = 1476", dry_run=True).notes == []


def test_without_ipv6_nothing_is_said_about_it(store: Store) -> None:
    said = bring_up(FakeHost(sysctl={"net.ipv6.conf.default.disable_ipv6": "1"}), store, ONE, dry_run=True)
    assert not any("addrgenmode" in step or "fe80" in step for step in said.steps)


# ---------------------------------------------------------------- what the host has


def test_routing_tables_that_nobody_named_are_told_at_once(store: Store) -> None:
    with pytest.raises(ConfigError) as caught:
        bring_up(FakeHost(), store, ONE + 'routes = ["10.0.0.0/8 table nosuchtable"]\nrules = ["from 10.0.0.1/32 table another"]')
    assert "no routing table is called 'nosuchtable' here" in str(caught.value)
    assert "no routing table is called 'another' here" in str(caught.value)


def test_a_device_below_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(GinnelError, match="gnl1: dev: there is no interface eth9 here"):
        bring_up(FakeHost(), store, ONE + 'dev = "eth9"')


def test_ends_that_are_not_there_yet_are_told_and_no_failure(store: Store) -> None:
    world = FakeHost(here=frozenset(), default_mtu=None)
    said = bring_up(world, store, ONE)
    assert said.notes == [
        "gnl1: 203.0.113.10 is no address of this host now, and nothing is sent until it is",
        "gnl1: there is no route to the remote now",
    ]
    assert mtu_line(said).startswith("ip link set dev gnl1 mtu 1476")


def test_a_taken_udp_port_is_named(store: Store) -> None:
    world = FakeHost(taken_ports=frozenset({4754}))
    with pytest.raises(GinnelError, match="UDP port 4754 is taken"):
        bring_up(world, store, ONE + 'encapsulation = "udp"')
    assert world.calls == []


def test_what_is_up_and_does_not_carry_is_said_and_undone(store: Store) -> None:
    world = FakeHost()
    before = world.state()
    backend = FakeNode(world, refuses="raw sockets are not allowed: it takes root or CAP_NET_RAW")
    with pytest.raises(GinnelError, match="gnl1: raw sockets are not allowed"):
        node_bringup.up(parsed(), world.host(), backend, store, Said())
    assert world.state() == before
    assert store.load("edge") is None


def test_a_host_that_does_not_forward_is_told_so(store: Store) -> None:
    said = bring_up(FakeHost(), store)
    assert said.notes == ["this host forwards no IPv4: others can use these routes with [node] forward = true"]


# ---------------------------------------------------------------- the kernel beside us


def test_a_kernel_with_gre_is_told_of_and_kept_from_answering(store: Store, tmp_path: Path) -> None:
    (tmp_path / "ip_gre").mkdir()
    world = FakeHost(sysctl=dict(FORWARDING), modules=tmp_path)
    said = bring_up(world, store, ONE + "mss-clamp = false")
    (note,) = said.notes
    assert note.startswith("this kernel has GRE of its own over IPv4 (ip_gre), which answers our packets with port-unreachable: ")
    assert "nft -f - # table inet ginnel-edge: no port-unreachable of the kernel's own" in said.steps
    assert "@th,136,8 47 drop" in world.tables["inet ginnel-edge"]


def kernel_gre_link(key: int | None = None, remote: str = "198.51.100.20") -> bytes:
    import socket

    data = attribute(6, socket.inet_aton("203.0.113.10")) + attribute(7, socket.inet_aton(remote))
    if key is not None:
        data += attribute(2, b"\x20\x00") + attribute(4, key.to_bytes(4, "big"))
    return data


@pytest.mark.parametrize(
    ("data", "ours", "refused"),
    [
        (kernel_gre_link(), "", True),
        (kernel_gre_link(7), "", False),
        (kernel_gre_link(7), "key = 7", True),
        (kernel_gre_link(7), "key = 8", False),
        (kernel_gre_link(remote="0.0.0.0"), "", True),
        (kernel_gre_link(remote="198.51.100.21"), "", False),
    ],
)
def test_a_kernel_tunnel_with_the_same_ends_is_refused_by_name(data: bytes, ours: str, refused: bool, store: Store) -> None:
    world = FakeHost()
    world.make_link("gre7", "gre")
    world.links["gre7"]["data"] = data
    if not refused:
        assert "has GRE of its own" in bring_up(world, store, ONE + ours).notes[0]
        return
    with pytest.raises(GinnelError, match="gnl1: gre7 of the kernel has the same ends: both would get every packet"):
        bring_up(world, store, ONE + ours)
    assert world.calls == []


# ---------------------------------------------------------------- the kernel instead of us


def by_kernel(world: FakeHost, store: Store, text: str, *, dry_run: bool = False) -> Said:
    said = Said()
    backend = KernelTunnels(FakeRequests(world), FakeFou(world))
    node_bringup.up(parsed(text), world.host(), backend, store, said, dry_run=dry_run)
    return said


UDP = ONE + 'encapsulation = "udp"\nlisten = 5555\n'


def test_the_kernels_tunnels_are_made_by_ip_link_add(store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    before = world.state()
    steps = by_kernel(world, store, UDP).steps
    ends, ports = "local 203.0.113.10 remote 198.51.100.20", "encap-sport 5555 encap-dport 4754"
    assert steps[1] == "ip fou add port 5555 ipproto 47"
    assert steps[2] == f"ip link add gnl1 type gre {ends} encap fou {ports} encap-csum"
    assert world.links["gnl1"]["kind"] == "gre"
    pretend_up(store)
    bringup.down("edge", None, world.host(), store, Said())
    assert world.state() == before


@pytest.mark.parametrize("number", range(1, 9))
def test_a_failure_of_the_kernels_leaves_the_host_as_it_was(number: int, store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    before = world.state()
    world.fail_at = number
    with pytest.raises(GinnelError):
        by_kernel(world, store, UDP + 'rules = ["fwmark 7 table 64"]')
    assert len(world.calls) >= number
    assert world.state() == before
    assert store.load("edge") is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("keepalive = 10", "the kernel sends no keepalives"),
        ("tolerant = true", "the kernel is never tolerant"),
        ('encapsulation = "udp"\nencap-dport = "learned"', "the kernel learns no ports"),
    ],
)
def test_what_the_kernel_cannot_do_is_refused(options: str, reason: str, store: Store) -> None:
    world = FakeHost()
    before = world.state()
    with pytest.raises(GinnelError, match=reason):
        by_kernel(world, store, ONE + options)
    assert world.state() == before


# ---------------------------------------------------------------- protected tunnels

PROTECTED = """
[tunnel.gnl1]
kind = "gre"
local = "203.0.113.10"
remote = "198.51.100.20"
address = ["10.10.10.1/30"]
routes = ["10.20.0.0/24", "10.21.0.0/16 table 64 metric 5"]
[tunnel.gnl1.ipsec]
psk-file = "/nowhere/psk"

[tunnel.gnl2]
kind = "gre"
local = "203.0.113.10"
remote = "198.51.100.21"
address = ["10.10.11.1/30"]
routes = ["10.22.0.0/24"]
"""
#: The network of its address is a route into it as well: there is the peer's end inside.
BLOCKED = {"10.10.10.0/30", "10.20.0.0/24", "10.21.0.0/16 table 64"}


def test_what_is_routed_into_a_protected_tunnel_has_no_other_way(store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    before = world.state()
    said = bring_up(world, store, PROTECTED)
    first = said.steps.index("ip -4 route replace unreachable 10.20.0.0/24 metric 4278198272")
    assert first < said.steps.index("serve edge"), "before the device is there"
    assert world.blocked == BLOCKED, "and an unprotected tunnel's routes are left alone"
    assert said.notes[-1].startswith("gnl1: nothing passes until the peer has proven itself: `ginnel show gnl1`")
    pretend_up(store)
    down = Said()
    bringup.down("edge", None, world.host(), store, down)
    assert down.steps[-3:] == [
        "ip -4 route delete unreachable 10.10.10.0/30 metric 4278198272",
        "ip -4 route delete unreachable 10.20.0.0/24 metric 4278198272",
        "ip -4 route delete unreachable 10.21.0.0/16 table 64 metric 4278198272",
    ], "when everything else is gone"
    assert world.state() == before


@pytest.mark.parametrize("when", ["fail_at", "fail_after"])
@pytest.mark.parametrize("number", range(1, 15))
def test_a_failure_with_a_protected_tunnel_leaves_the_host_as_it_was(number: int, when: str, store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    before = world.state()
    setattr(world, when, number)
    with pytest.raises(GinnelError):
        bring_up(world, store, PROTECTED)
    if when == "fail_after" and world.calls[number - 1] == "nft":
        return  # see above
    assert world.state() == before
    assert store.load("edge") is None


def test_networks_of_addresses_are_blocked_once_and_neither_hosts_nor_link_local_ones(store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    addresses = '"10.10.10.1/30", "10.10.10.2/30", "10.10.12.1/32", "2001:db8:9::1/64", "2001:db8:a::1/128", "fe80::7/64"'
    bring_up(world, store, PROTECTED.replace('"10.10.10.1/30"', addresses))
    assert world.blocked == BLOCKED | {"2001:db8:9::/64"}


def test_after_a_kill_up_takes_them_over_and_never_opens_them(store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    bring_up(world, store, PROTECTED)
    world.links.clear()  # the process died, and its devices with it
    said = bring_up(world, store, PROTECTED.replace("10.21.0.0/16 table 64 metric 5", "10.23.0.0/16"))
    assert said.notes[0] == "mending what a killed edge left"
    deleted = [step for step in said.steps if "route delete unreachable" in step]
    assert deleted == ["ip -4 route delete unreachable 10.21.0.0/16 table 64 metric 4278198272"]
    assert world.blocked == {"10.10.10.0/30", "10.20.0.0/24", "10.23.0.0/16"}
    pretend_up(store)
    bringup.down("edge", None, world.host(), store, Said())
    assert world.blocked == set()
    assert store.load("edge") is None


def test_after_a_kill_down_and_a_failing_up_remove_them(store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    bring_up(world, store, PROTECTED)
    world.links.clear()
    world.fail_at = len(world.calls) + 3
    with pytest.raises(GinnelError):
        bring_up(world, store, PROTECTED)
    assert world.blocked == set()
    world.fail_at = 0
    bring_up(world, store, PROTECTED)
    world.links.clear()
    world.blocked.discard("10.20.0.0/24")  # somebody deleted it: no problem
    bringup.down("edge", None, world.host(), store, Said())
    assert world.blocked == set()


def test_the_kernels_backend_refuses_protection_by_name(store: Store) -> None:
    world = FakeHost()
    before = world.state()
    with pytest.raises(GinnelError, match="gnl1: IPsec is our engine's") as refused:
        by_kernel(world, store, PROTECTED)
    assert "leave out --backend kernel" in str(refused.value)
    assert world.state() == before


def test_another_ike_daemon_is_named_before_anything_is_touched(store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    world.taken_ports = frozenset({4500})
    before = world.state()
    with pytest.raises(GinnelError, match=r"UDP port 4500 is taken.*and IKE needs it"):
        bring_up(world, store, PROTECTED)
    assert world.state() == before
    assert world.calls == []


def test_a_kernel_with_gre_meets_no_packet_of_a_protected_tunnel(store: Store, tmp_path: Path) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    world.modules = tmp_path
    (tmp_path / "ip_gre").mkdir()
    said = bring_up(world, store, PROTECTED)
    script = "".join(str(table) for table in world.tables.values())
    assert "198.51.100.21" in script
    assert "198.51.100.20" not in script
    assert any("this kernel has GRE of its own" in note for note in said.notes)


def test_what_a_killed_process_remembered_for_its_peers_goes_with_down(store: Store) -> None:
    world = FakeHost(sysctl=dict(FORWARDING))
    bring_up(world, store, PROTECTED)
    crash = store.directory / "edge.crash"
    crash.write_bytes(bytes(32))
    world.links.clear()
    bring_up(world, store, PROTECTED)
    assert crash.exists(), "the next process needs it"
    pretend_up(store)
    bringup.down("edge", None, world.host(), store, Said())
    assert not crash.exists()


def test_the_record_survives_its_disk() -> None:
    from ginnel.linux.record import BlocksDone, FouDone, LinksDone, PolicyDone, TableDone

    record = Record("edge", "/etc/ginnel/edge.toml", "engine", network_namespace(), 7, Process())
    record.done = [
        BlocksDone(("10.20.0.0/24", "fd00::/8 table 7")),
        FouDone(6, 4754),
        LinksDone((("gre1", 3), ("gre2", 4))),
        TableDone("ginnel-edge"),
        PolicyDone(4, "fwmark 0x7 priority 9 table 64"),
    ]
    assert Record.from_json(record.to_json()) == record
