"""
Bad packets: the Linux kernel drops what the table says it drops, ginnel drops the same, each under its own reason, and nobody
else ever hears of it.

The table is gre_packets.py. The kernel is asked first: what it does is what the table must say.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from scapy.all import GRE, ICMP, IP, UDP, ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6, Raw
from scapy.packet import Packet

from namespaces import CommandFailed, Namespace, Net, wait_until
from native.rig import inside
from peers.gre_nodes import Far, Near, Plain, batch
from peers.gre_packets import (
    CASES,
    FAR_MAC,
    KEYED,
    NEAR_MAC,
    OVER6,
    PLAIN,
    STRANGER,
    SUMMED,
    TAP,
    TUNNELS,
    Case,
    Wire,
    gre,
    outer,
)
from peers.guest import Guest

#: After the last packet, for as long as something still comes.
QUIET_S = 0.4


ROUTER, ROUTER6 = "192.0.2.249", "2001:db8::2:249"
WIRE_ADDRESSES = [
    *(f"{one.far}/{24 if one.family == 4 else 64}" for one in TUNNELS),
    *(f"{one}/24" for one in (STRANGER, ROUTER)),
]


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


# ---------------------------------------------------------------- ICMP that anybody may send


def quoting(kind: int, code: int, quoted: bytes, near: str, mtu: int = 0) -> bytes:
    """An ICMP error from a router, about the packet that begins so."""
    if ":" in near:
        body: Packet = ICMPv6PacketTooBig(mtu=mtu) if kind == 2 else ICMPv6DestUnreach(code=code)
        return bytes(IPv6(src=ROUTER6, dst=near) / body / Raw(quoted))
    return bytes(IP(src=ROUTER, dst=near) / ICMP(type=kind, code=code, nexthopmtu=mtu) / Raw(quoted))


def ours(tunnel: Plain, header: bytes, **fields: str) -> bytes:
    """The beginning of a delivery packet that this tunnel could have sent; *fields* make it another's."""
    ends = {"src": tunnel.near, "dst": tunnel.far, **fields}
    if tunnel.family == 6:
        return bytes(IPv6(**ends, nh=47, plen=1000) / Raw(header))
    return bytes(IP(**ends, proto=47, len=1000, id=77) / Raw(header))


def test_an_icmp_error_counts_only_when_it_quotes_a_packet_of_the_tunnel(stage: Stage) -> None:
    """Addresses, and the key where it was quoted; from any router, since any may be on the way."""
    bare, key7, key8 = bytes.fromhex("0000080000000000"), bytes.fromhex("2000080000000007"), bytes.fromhex("2000080000000008")
    unrelated = [
        (KEYED, quoting(3, 4, ours(KEYED, key8), KEYED.near, 1300)),
        (KEYED, quoting(3, 4, ours(KEYED, bare), KEYED.near, 1300)),
        (KEYED, quoting(3, 4, ours(KEYED, key7, dst=STRANGER), KEYED.near, 1300)),
        (KEYED, quoting(3, 4, ours(KEYED, key7, src=SUMMED.near), KEYED.near, 1300)),
        (PLAIN, quoting(3, 4, ours(PLAIN, key7), PLAIN.near, 1300)),
        (PLAIN, quoting(3, 4, ours(PLAIN, bare)[:23], PLAIN.near, 1300)),
        (OVER6, quoting(2, 0, ours(OVER6, bare, dst="2001:db8::2:99"), OVER6.near, 1300)),
        (OVER6, quoting(2, 0, ours(OVER6, key7), OVER6.near, 1300)),
    ]
    about = [
        (KEYED, quoting(3, 4, ours(KEYED, key7), KEYED.near, 1400), ("too-big", 4, 1400)),
        (PLAIN, quoting(3, 13, ours(PLAIN, bare), PLAIN.near), ("unreachable", 13, 0)),
        (PLAIN, quoting(11, 0, ours(PLAIN, bare), PLAIN.near), ("time-exceeded", 0, 0)),
        (OVER6, quoting(2, 0, ours(OVER6, bare), OVER6.near, 1400), ("too-big", 0, 1400)),
    ]
    for _, packet in unrelated:
        stage.wire.send(packet)
    for _, packet, _ in about:
        stage.wire.send(packet)
    for tunnel, _, (kind, code, mtu) in about:
        wait_until(
            lambda tunnel=tunnel, kind=kind, code=code, mtu=mtu: stage.near.told(
                "PathError", tunnel.name, kind=kind, code=code, mtu=mtu
            ),
            2, f"{tunnel.label}: {kind}",
        )  # fmt: skip
    errors = [one for one in stage.near.events if one["event"] == "PathError"]
    assert len(errors) == len(about), errors


# ---------------------------------------------------------------- nobody's reflector


def asking(tunnel: Plain, inside: Packet) -> bytes:
    """A keepalive that wants *inside* back."""
    return bytes(outer(tunnel) / gre(tunnel) / inside)


def test_a_keepalive_goes_back_to_who_asked_and_to_nobody_else(stage: Stage) -> None:
    """Only a packet from our end to the peer's is one to send back; what names anybody else never leaves."""
    back = IP(src=PLAIN.near, dst=PLAIN.far, proto=47, ttl=255) / GRE(proto=0)
    elsewhere = [
        IP(src=PLAIN.near, dst=STRANGER, proto=47, ttl=255) / GRE(proto=0),
        IP(src=PLAIN.near, dst=KEYED.far, proto=47, ttl=255) / GRE(proto=0),
        IP(src=KEYED.near, dst=PLAIN.far, proto=47, ttl=255) / GRE(proto=0),
        IP(src=PLAIN.near, dst=PLAIN.far, proto=17, ttl=255) / UDP(sport=53, dport=53) / Raw(b"amplified"),
        IP(src=PLAIN.near, dst=PLAIN.far, proto=47, ttl=255) / GRE(proto=0x0800) / IP(src=PLAIN.near, dst=STRANGER) / UDP(),
        IP(src=PLAIN.near, dst="224.0.0.1", proto=47, ttl=255) / GRE(proto=0),
    ]
    for one in elsewhere:
        stage.wire.send(asking(PLAIN, one))
    stage.wire.send(asking(PLAIN, back))
    wait_until(lambda: stage.near.told("ControlReceived", PLAIN.name, kind="asked"), 2, "the one that may be answered")
    (asked,) = stage.near.told("ControlReceived", PLAIN.name)
    assert bytes.fromhex(asked["packet"]) == bytes(back)
    # What a program makes of it is its own affair, but the engine sends only that back.
    with pytest.raises(CommandFailed):
        stage.near.ask(op="call", name=PLAIN.name, method="send_back", arguments=[{"hex": bytes(elsewhere[0]).hex()}])
    stage.near.ask(op="call", name=PLAIN.name, method="send_back", arguments=[{"hex": asked["packet"]}])
    heard = [packet for packet in stage.wire.heard(QUIET_S) if not is_multicast(packet)]
    assert [(packet[9], packet[16:20]) for packet in heard] == [(47, ipaddress.ip_address(PLAIN.far).packed)]


def test_tunnels_in_tunnels_end_somewhere(stage: Stage) -> None:
    """What is nested too deep is not wrapped once more; what is less deep is."""
    inner = IP(src=PLAIN.inner(1, 4), dst=PLAIN.inner(2, 4))

    def nested(levels: int) -> bytes:
        packet: Packet = IP(src="10.0.0.1", dst="10.0.0.2") / UDP()
        for _ in range(levels - 1):
            packet = IP(src="10.0.0.1", dst="10.0.0.2", proto=47) / GRE(proto=0x0800) / packet
        return bytes(inner.copy() / GRE(proto=0x0800) / packet) if levels else bytes(inner.copy() / UDP())

    with inside(stage.near.space), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        before = stage.near.counters()[PLAIN.name]
        for levels in range(9):
            raw.sendto(nested(levels), (PLAIN.inner(2, 4), 0))
    wait_until(lambda: stage.near.counters()[PLAIN.name].tx_packets + nests(stage) >= before.tx_packets + 9, 2, "all looked at")
    assert nests(stage) == 4, "five may be in each other, as in Linux"


def nests(stage: Stage) -> int:
    """Packets that were nested too deep."""
    return stage.near.counters()[PLAIN.name].wrong.get("nested", 0)
