"""
Bad packets: the Linux kernel drops what the table says it drops, ginnel drops the same, each under its own reason, and nobody
else ever hears of it.

The table is gre_packets.py. The kernel is asked first: what it does is what the table must say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from scapy.all import IP, IPv6

from namespaces import Namespace, Net, wait_until
from peers.gre_nodes import Far, Near, batch
from peers.gre_packets import CASES, FAR_MAC, NEAR_MAC, STRANGER, TAP, TUNNELS, Case, Wire
from peers.guest import Guest

#: After the last packet, for as long as something still comes.
QUIET_S = 0.4


WIRE_ADDRESSES = [*(f"{one.far}/{24 if one.family == 4 else 64}" for one in TUNNELS), f"{STRANGER}/24"]


def silence(space: Namespace) -> None:
    """The kernel of the wire's own end answers nothing but who has an address: it knows no GRE and would refuse it."""
    space.run("nft", "add table inet quiet; add chain inet quiet in { type filter hook input priority 0; policy drop; }")
    space.run("nft", "add rule inet quiet in icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept")


def is_multicast(packet: bytes) -> bool:
    """Whether it is, or carries, what a kernel says by itself to the neighbours of an interface that came up."""
    layer: Any = IPv6(packet) if packet[0] >> 4 == 6 else IP(packet)
    while layer := layer.getlayer(IPv6):
        if layer.dst.startswith("ff02:"):
            return True
        layer = layer.payload
    return False


@dataclass(slots=True)
class Heard:
    """What came back to the far end, by the place in *cases* of what it is about."""

    cases: Sequence[Case]
    answered: set[int] = field(default_factory=set)
    unreachable: set[int] = field(default_factory=set)
    #: Packets from the near end that are neither.
    other: list[bytes] = field(default_factory=list)

    def listen(self, wire: Wire, quiet_s: float) -> None:
        """Sort what comes, until nothing does."""
        for packet in wire.heard(quiet_s):
            self._sort(packet)

    def _sort(self, packet: bytes) -> None:
        for index, case in enumerate(self.cases):
            # An ICMP error quotes the packet that it is about.
            if packet[0] == 0x45 and packet[9] == 1 and packet[20] == 3 and case.packets[0].startswith(packet[28 : 28 + 120]):
                self.unreachable.add(index)
                return
            # An echo reply ends in what was asked.
            at = packet.find(b"ginnel") - 8
            if case.number and at > 0 and packet[at] in {0, 129} and packet[at + 4 : at + 6] == case.number.to_bytes(2, "big"):
                self.answered.add(index)
                return
        if not is_multicast(packet):
            self.other.append(packet)

    def verdict(self, index: int) -> str:
        """In the table's words."""
        if index in self.answered:
            return "answered"
        return "unreachable" if index in self.unreachable else "silent"


def test_linux_does_what_the_table_says(guest: Guest, net: Net) -> None:
    """The control of the table: each verdict is that of the kernel."""
    space = net.namespace("wire")
    link = guest.join(space, WIRE_ADDRESSES)
    silence(space)
    kernel = Far(guest, end=1)
    try:
        kernel.prepare(TUNNELS)
        kernel.add(TUNNELS)
        batch(guest, [f"link set {TAP.name} address {NEAR_MAC}", f"neigh add {TAP.inner(2, 4)} lladdr {FAR_MAC} dev {TAP.name}"])
        guest.shell("echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; echo 0 > /proc/sys/net/ipv6/icmp/ratelimit")
        wire = Wire(space, link.left, bytes.fromhex("525400000001"))
        heard = Heard(CASES)
        for case in CASES:
            wire.send_all(case.packets)
            heard.listen(wire, 0.005)
        heard.listen(wire, QUIET_S)
        wire.close()
    finally:
        kernel.clear(TUNNELS)
    wrong = {case.label: (heard.verdict(index), case.linux) for index, case in enumerate(CASES)}
    assert {label: pair for label, pair in wrong.items() if pair[0] != pair[1]} == {}


@dataclass(slots=True)
class Stage:
    """Ginnel's engine with every tunnel of the table, and the wire to it."""

    near: Near
    wire: Wire


@pytest.fixture
def stage(net: Net) -> Iterator[Stage]:
    """The engine in a namespace that forwards, which makes every mistake worse."""
    space, outside = net.namespace("near"), net.namespace("wire")
    link = net.veth(space, outside, [f"{one.near}/{24 if one.family == 4 else 64}" for one in TUNNELS], WIRE_ADDRESSES)
    silence(outside)
    for forwarding in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        space.write_proc(f"/proc/sys/net/{forwarding}", "1")
    near = Near(space)
    near.start()
    near.add(TUNNELS, {one.name: 1400 for one in TUNNELS})
    space.ip("link", "set", TAP.name, "address", NEAR_MAC)
    space.ip("neigh", "add", TAP.inner(2, 4), "lladdr", FAR_MAC, "dev", TAP.name)
    (shown,) = space.ip_json("link", "show", link.left)
    wire = Wire(outside, link.right, bytes.fromhex(shown["address"].replace(":", "")))
    yield Stage(near, wire)
    wire.close()
    near.stop()


def written(near: Near, name: str) -> int:
    """Packets that the kernel got from the device."""
    (shown,) = near.space.ip_json("-s", "link", "show", name)
    count = shown["stats64"]["rx"]["packets"]
    assert isinstance(count, int)
    return count


def refused(state: dict[str, Any]) -> dict[tuple[str, str], int]:
    """Every counter of drops that is not zero, by tunnel and reason; ("", "no_tunnel") for what was for none."""
    counts = {(name, reason): count for name, one in state["tunnels"].items() for reason, count in one["drops"].items() if count}
    if state["carrier"]["no_tunnel"]:
        counts["", "no_tunnel"] = state["carrier"]["no_tunnel"]
    return counts


def outcome(stage: Stage, case: Case, before: dict[tuple[str, str], int]) -> tuple[object, object, dict[tuple[str, str], int]]:
    """Send one case; what came of it, what should have, and all counters of drops afterwards."""
    expected = dict(before)
    if case.reason not in {"", "below us"}:
        pair = ("" if case.reason == "no_tunnel" else case.tunnel.name, case.reason)
        expected[pair] = expected.get(pair, 0) + 1
    device = written(stage.near, case.tunnel.name)
    heard = Heard([case])
    stage.wire.send_all(case.packets)

    def at_its_end() -> bool:
        heard.listen(stage.wire, 0.01)
        return bool(heard.answered) or (expected != before and refused(stage.near.state()) == expected)

    with contextlib.suppress(AssertionError):  # what is wrong is told by the caller, all cases at once
        wait_until(at_its_end, 0.05 if case.reason == "below us" else 1.0)
    after = refused(stage.near.state())
    counted = {pair: count - before.get(pair, 0) for pair, count in after.items() if count != before.get(pair)}
    wanted = {pair: 1 for pair in expected if expected[pair] != before.get(pair)}
    admitted = written(stage.near, case.tunnel.name) - device
    others = [packet.hex() for packet in heard.other]
    return (heard.verdict(0), counted, admitted, others), (case.ginnel, wanted, int(not case.reason), []), after


def test_ginnel_admits_and_refuses_the_same_each_under_its_reason(stage: Stage) -> None:
    """Every case by itself: its verdict, its counter and no other, the device's own count, and silence towards all others."""
    wrong: dict[str, object] = {}
    before = refused(stage.near.state())
    for case in CASES:
        found, wanted, before = outcome(stage, case, before)
        if found != wanted:
            wrong[case.label] = (found, wanted)
    assert wrong == {}
