"""
As Linux does: two ends that are configured differently, and the delivery header of the same packet by either end.

A mismatch is tried both ways: Linux drops what it does not expect, under its own counter; ginnel drops the same, counts it
under its reason and says what the peer sends. For the delivery headers both ends send the same pings through the same tunnel,
and the two headers are compared field by field: TTL, TOS with its ECN bits, DF.

One difference is meant: what Linux sends by ip6gre has no ECN, or with `tclass inherit` a copy, a CE mark included. All its other
tunnels, and all of ours, make the mark of the inside the outside's, CE as ECT(0) (RFC 3168 9.1.1).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from namespaces import Net, run, wait_until
from peers.gre_nodes import TUNNEL_MODULES, Far, Near, Plain, ping_argv, succeeds
from peers.guest import Guest
from peers.node_files import NodeFile
from peers.nodes import Capture

#: Above those of the other tables, whose addresses they would share.
FIRST = 71


@dataclass(frozen=True, slots=True)
class Mismatch:
    """
    *ours*: the near end's options. *theirs*: those that would fit the far end as it is. linux: its counter, or "" where it has
    none but answers port-unreachable. reason, seen: ginnel's, None where nothing is dropped.
    """

    label: str
    ours: Mapping[str, Any]
    theirs: Mapping[str, Any]
    linux: str
    reason: str | None
    seen: int | None = None


MISMATCHES = [
    Mismatch("another key", {"ikey": 8, "okey": 8}, {"ikey": 7, "okey": 7}, "", "key_mismatch", 7),
    Mismatch("a key where none is", {}, {"ikey": 7, "okey": 7}, "", "key_mismatch", 7),
    Mismatch("no key where one is", {"ikey": 8, "okey": 8}, {}, "", "key_mismatch", None),
    Mismatch("checksums where none are", {}, {"icsum": True, "ocsum": True}, "rx_crc_errors", "checksum_unexpected"),
    Mismatch("no checksums where some are", {"icsum": True, "ocsum": True}, {}, "rx_crc_errors", "checksum_missing"),
    Mismatch("sequence numbers not sent", {"iseq": True}, {"oseq": True}, "rx_fifo_errors", "sequence_missing"),
]


def plain(index: int, kind: str = "gre", family: int = 4, options: Mapping[str, Any] | None = None, *linux: str) -> Plain:
    """The tunnel at this place."""
    return Plain(f"m{index}", FIRST + index, kind, family, options or {}, linux)


@dataclass(slots=True)
class Ends:
    """Ginnel's process and the guest, on one link."""

    near: Near
    far: Far
    guest: Guest
    #: Our end of the link.
    link: str


@pytest.fixture
def ends(guest: Guest, net: Net) -> Iterator[Ends]:
    """Both, with no tunnels yet; addresses of either family for thirty."""
    space = net.namespace("near")
    every = [plain(index, family=family) for index in range(28) for family in (4, 6)]
    link = guest.join(space, [f"{one.near}/{24 if one.family == 4 else 64}" for one in every])
    near, far = Near(space), Far(guest)
    near.start()
    far.prepare(every)
    guest.shell("echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; echo 0 > /proc/sys/net/ipv6/icmp/ratelimit")
    yield Ends(near, far, guest, link.left)
    near.stop()
    far.clear(every)


def test_ends_that_differ_drop_the_same_and_ginnel_says_why(ends: Ends) -> None:
    """A ping each way through each tunnel: none arrives, and both ends tell the reason."""
    ours = [plain(index, options=one.ours) for index, one in enumerate(MISMATCHES)]
    theirs = [plain(index, options=one.theirs) for index, one in enumerate(MISMATCHES)]
    mtus = ends.far.add(theirs)
    ends.near.add(ours, mtus)
    wrong: dict[str, object] = {}
    for one, tunnel in zip(MISMATCHES, ours, strict=True):
        before = ends.far.counters()[tunnel.name]
        assert not succeeds(ends.near, *ping_argv(tunnel.inner(2, 4), count=1, within_s=0.2))
        after = ends.far.counters()[tunnel.name]
        errors = {name for name, count in after.wrong.items() if count != before.wrong.get(name)}
        assert after.rx_packets == before.rx_packets
        if one.linux:
            refused = one.linux in {f"rx_{name.removeprefix('rx_')}" for name in errors}
        else:
            refused = bool(wait_for(lambda tunnel=tunnel: ends.near.told("PathError", tunnel.name, kind="unreachable", code=3)))
        assert not succeeds(ends.guest, *ping_argv(tunnel.inner(1, 4), count=1, within_s=0.2))
        told = ends.near.told("Mismatch", tunnel.name, reason=one.reason, seen=one.seen)
        if not refused or not told or list(ends.near.counters()[tunnel.name].wrong) != [one.reason]:
            wrong[one.label] = (errors, told, ends.near.counters()[tunnel.name], ends.near.events)
    assert wrong == {}


def wait_for(predicate: Any) -> Any:
    """What it gives within a second, true or not."""
    try:
        return wait_until(predicate, 1)
    except AssertionError:
        return predicate()


# ---------------------------------------------------------------- the delivery header

#: Tunnels by what decides the delivery header: kind, family, ginnel's options, iproute2's.
HEADERS: list[tuple[str, int, dict[str, Any], tuple[str, ...]]] = [
    ("gre", 4, {}, ()),
    ("gre", 4, {"ttl": 33}, ("ttl", "33")),
    ("gre", 4, {"tos": 0x10}, ("tos", "0x10")),
    ("gre", 4, {"tos_inherit": True}, ("tos", "inherit")),
    ("gre", 4, {"pmtudisc": False}, ("nopmtudisc",)),
    ("gre", 6, {}, ("hoplimit", "inherit", "encaplimit", "none")),
    ("gre", 6, {"ttl": 33, "tos": 0x20}, ("hoplimit", "33", "tclass", "0x20", "encaplimit", "none")),
    ("gre", 6, {"tos_inherit": True}, ("hoplimit", "inherit", "tclass", "inherit", "encaplimit", "none")),
    ("ipip", 4, {}, ()),
    ("ipip", 4, {"tos_inherit": True, "ttl": 9}, ("tos", "inherit", "ttl", "9")),
    ("ipip", 4, {"pmtudisc": False}, ("nopmtudisc",)),
    ("sit", 4, {}, ()),
    ("sit", 4, {"tos_inherit": True}, ("tos", "inherit")),
    ("ip6tnl", 6, {}, ("hoplimit", "inherit", "encaplimit", "none")),
    ("ip6tnl", 6, {"tos_inherit": True}, ("hoplimit", "inherit", "tclass", "inherit", "encaplimit", "none")),
    ("gretap", 4, {}, ()),
    ("gretap", 4, {"tos_inherit": True, "ttl": 5}, ("tos", "inherit", "ttl", "5")),
    ("gretap", 6, {"tos_inherit": True}, ("hoplimit", "inherit", "tclass", "inherit", "encaplimit", "none")),
]
#: What is inside: TOS, TTL, and whether DF is set (IPv4); told apart on the wire by their size.
INSIDE = [*((tos, 64, True) for tos in (0, 1, 3, 0xBA)), (0, 64, False), (0x28, 7, False)]
SIZE = 100
FIELDS = (
    "ip.dst",
    "ipv6.dst",
    "ip.ttl",
    "ip.dsfield",
    "ip.flags.df",
    "ipv6.hlim",
    "ipv6.tclass",
    "ipv6.flow",
    "ip.len",
    "ipv6.plen",
)
HEADER = {4: ("ip.ttl", "ip.dsfield", "ip.flags.df"), 6: ("ipv6.hlim", "ipv6.tclass")}


def pings(tunnel: Plain, end: int) -> str:
    """Shell that sends one echo request of each sort into the tunnel from *end*."""
    lines: list[str] = []
    for family in tunnel.carries:
        for number, (tos, ttl, df) in enumerate(INSIDE):
            if family == 6 and not df:
                continue
            size = SIZE + number
            target = tunnel.inner(3 - end, family)
            lines.append(f"ping -n -q -c 1 -W 1 -Q {tos} -t {ttl} -s {size} {'-M do' if df else '-M dont'} {target} >/dev/null")
    return " & ".join(lines) + " & wait"


def headers(path: Path, tunnels: list[Plain], end: int) -> dict[tuple[str, int, int], tuple[str, ...]]:
    """What the delivery headers of this end's requests have, by tunnel, inner family and number."""
    argv = ["tshark", "-r", str(path), "-n", "-T", "json", "-Y", "icmp.type == 8 or icmpv6.type == 128"]
    rows = json.loads(run([*argv, *(word for name in FIELDS for word in ("-e", name))]))
    inner = {tunnel.inner(3 - end, family): (tunnel, family) for tunnel in tunnels for family in tunnel.carries}
    found: dict[tuple[str, int, int], tuple[str, ...]] = {}
    for row in rows:
        layers = row["_source"]["layers"]
        ((tunnel, family),) = [inner[one] for one in layers.get("ip.dst", []) + layers.get("ipv6.dst", []) if one in inner] or [
            (None, 0)
        ]
        if tunnel is None:
            continue
        size = int(layers["ip.len"][-1]) - 28 if family == 4 else int(layers["ipv6.plen"][-1]) - 8
        found[tunnel.name, family, size - SIZE] = tuple(layers[name][0] for name in HEADER[tunnel.family])
    return found


def with_ecn(header: tuple[str, ...], inside: int) -> tuple[str, ...]:
    """A delivery header of ip6gre as it would be if Linux treated ECN there as in its other tunnels."""
    hop_limit, traffic_class = header
    ecn = {0: 0, 1: 1, 2: 2, 3: 2}[inside & 3]
    return hop_limit, f"0x{int(traffic_class, 16) & ~3 | ecn:08x}"


def test_the_delivery_header_is_that_of_linux(ends: Ends, tmp_path: Path) -> None:
    """The same requests from both ends, and the same fields in front of each."""
    tunnels = [plain(index, *one[:3], *one[3]) for index, one in enumerate(HEADERS)]
    ends.near.add(tunnels, ends.far.add(tunnels))
    capture = Capture.start(ends.near.space, ends.link, tmp_path / "headers.pcap", "ip or ip6")
    for tunnel in tunnels:
        ends.near.run("sh", "-c", pings(tunnel, 1))
        ends.guest.shell(pings(tunnel, 2))
    capture.stop()
    ours, theirs = (headers(capture.path, tunnels, end) for end in (1, 2))
    expected = sum(sum(df or family == 4 for _, _, df in INSIDE) for tunnel in tunnels for family in tunnel.carries)
    assert (len(ours), len(theirs)) == (expected, expected)
    different: dict[str, object] = {}
    for index, tunnel in enumerate(tunnels):
        for family in tunnel.carries:
            for number, inside in enumerate(INSIDE):
                here, there = (ends_.get((tunnel.name, family, number)) for ends_ in (ours, theirs))
                if here is not None and there is not None and tunnel.family == 6 and tunnel.kind in {"gre", "gretap"}:
                    there = with_ecn(there, inside[0])
                if here != there:
                    different[f"{HEADERS[index]} {family} {inside}"] = (here, there)
    assert different == {}


# ---------------------------------------------------------------- too large

OVERSIZE = """
[tunnel.big]
kind = "gre"
local = "192.0.2.1"
remote = "192.0.2.2"
ttl = 64
mtu = 1500
address = ["10.66.0.1/30", "fd66::1/64"]
routes = ["10.66.2.0/24", "fd66:2::/64"]
"""
TOLD = re.compile(r"mtu ?= ?(\d+)")


def named(said: str) -> set[int]:
    """Every MTU that a ping was told."""
    return {int(mtu) for mtu in TOLD.findall(said)}


def test_what_is_too_large_is_answered_as_linux_answers_it(guest: Guest, net: Net, tmp_path: Path) -> None:
    """
    A tunnel whose device takes more than its path: who sends from a LAN behind either end is told the same MTU, by ICMP, in both
    families; what may be cut into fragments arrives.
    """
    router, lan = net.namespace("router"), net.namespace("lan")
    guest.join(router, ["192.0.2.1/24"])
    net.veth(router, lan, ["10.66.1.1/24", "fd66:1::1/64"], ["10.66.1.2/24", "fd66:1::2/64"])
    for forwarding in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        router.write_proc(f"/proc/sys/net/{forwarding}", "1")
    lan.ip("route", "add", "default", "via", "10.66.1.1")
    lan.ip("route", "add", "default", "via", "fd66:1::1")
    guest.load("veth", *TUNNEL_MODULES)
    guest.shell(
        "set -e; echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding;"
        "ip netns add lan; ip link add lan0 type veth peer name lan1 netns lan; ip link set lan0 up; ip -n lan link set lan1 up;"
        "ip address add 10.66.2.1/24 dev lan0; ip address add fd66:2::1/64 dev lan0 nodad;"
        "ip -n lan address add 10.66.2.2/24 dev lan1; ip -n lan address add fd66:2::2/64 dev lan1 nodad;"
        "ip -n lan route add default via 10.66.2.1; ip -n lan route add default via fd66:2::1;"
        "ip address add 192.0.2.2/24 dev eth0;"
        "ip link add big type gre local 192.0.2.2 remote 192.0.2.1 ttl 64; ip link set big mtu 1500 up;"
        "ip address add 10.66.0.2/30 dev big; ip address add fd66::2/64 dev big nodad;"
        "ip route add 10.66.1.0/24 dev big; ip route add fd66:1::/64 dev big"
    )
    try:
        with NodeFile.write(net, router, tmp_path, OVERSIZE):
            wait_until(lambda: lan.ping("10.66.2.2") and lan.ping("fd66:2::2"), 10, "LAN to reach LAN")
            for ours, theirs, size in (("10.66.1.2", "10.66.2.2", 1472), ("fd66:1::2", "fd66:2::2", 1452)):
                words = ["ping", "-n", "-c", "3", "-i", "0.3", "-W", "1", "-M", "do", "-s", str(size)]
                here = named(lan.run(*words, theirs, check=False))
                there = named(guest.shell(shlex.join(["ip", "netns", "exec", "lan", *words, ours]), check=False))
                assert here == there == {1476}
                # What just fits arrives.
                assert lan.ping(theirs, options=["-M", "do", "-s", str(size - 24)])
            assert lan.ping("10.66.2.2", options=["-M", "dont", "-s", "3000"])
    finally:
        guest.shell("ip link del big; ip netns del lan; ip link del lan0; ip address flush dev eth0", check=False)


# ---------------------------------------------------------------- keepalives

KEEPALIVES = """
[tunnel.ka4]
kind = "gre"
local = "192.0.2.1"
remote = "192.0.2.2"
key = 7
address = ["10.67.4.1/30"]
keepalive = { interval = 1, retries = 3 }

[tunnel.ka6]
kind = "gre"
local = "2001:db8::1"
remote = "2001:db8::2"
address = ["10.67.6.1/30"]
keepalive = { interval = 1, retries = 3 }
"""


def test_linux_sends_our_keepalives_back_without_knowing(guest: Guest, net: Net, tmp_path: Path) -> None:
    """A Linux that takes packets from its own address (accept_local) keeps the tunnel alive; when it is gone they are missed."""
    space = net.namespace("near")
    guest.join(space, ["192.0.2.1/24", "2001:db8::1/64"])
    guest.load(*TUNNEL_MODULES)
    guest.shell(
        "set -e; ip address add 192.0.2.2/24 dev eth0; ip address add 2001:db8::2/64 dev eth0 nodad;"
        "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding;"
        "ip link add ka4 type gre local 192.0.2.2 remote 192.0.2.1 key 7; ip link set ka4 up;"
        "ip link add ka6 type ip6gre local 2001:db8::2 remote 2001:db8::1; ip link set ka6 up;"
        "ip address add 10.67.4.2/30 dev ka4; ip address add 10.67.6.2/30 dev ka6;"
        "echo 1 > /proc/sys/net/ipv4/conf/ka4/accept_local"
    )
    try:
        with NodeFile.write(net, space, tmp_path, KEEPALIVES) as node:
            for name in ("ka4", "ka6"):
                wait_until(lambda name=name: node.show(name)["keepalive"]["returned"] >= 2, 15, f"{name}: keepalives to return")
                assert node.show(name)["alive"]["answer"] == "yes"
                assert "keepalive came back" in node.show(name)["alive"]["why"]
            guest.shell("ip link set ka4 down")
            wait_until(lambda: node.show("ka4")["alive"]["answer"] == "no", 15, "the missing ones to be noticed")
            assert node.show("ka6")["alive"]["answer"] == "yes"
    finally:
        guest.shell("ip link del ka4; ip link del ka6; ip address flush dev eth0", check=False)
