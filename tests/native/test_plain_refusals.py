"""
What a plain tunnel does not take, from either side: each reason of the closed list, that it is counted once and under its own
name, that what is misconfigured is said and how often, and that nothing of it harms the next good packet.
"""

from __future__ import annotations

import ast
import inspect
import os
import random
import re
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ginnel
from ginnel import _native as native
from namespaces import fresh_net, wait_until
from native.plain_rig import (
    ETH_P_IP,
    ETH_P_TEB,
    FAR,
    FAR6,
    NEAR,
    NEAR6,
    OUR,
    OUR6,
    PEER,
    PEER6,
    PORT,
    Plain,
    Wire,
    gre,
    ip,
    ip4,
    ip6,
    joined,
    packed,
    plain,
    udp,
)
from native.rig import WITHIN_S, checksum, inside

JUNK_S = 2.0
SOL_PACKET = 263
PACKET_VNET_HDR = 15
INNER = udp(b"inner", source=PEER, destination=OUR)
INNER6 = udp(b"inner", source=PEER6, destination=OUR6)


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """One pair of namespaces for all tests here: each makes its own tunnel."""
    with fresh_net() as net, joined(net) as made:
        yield made


def good(made: Plain, packet: bytes) -> None:
    """A packet of the peer still comes in, and nothing but it."""
    before = made.tunnel.counters().rx_packets
    made.deliver(packet)
    made.wait_received(before + 1)
    assert made.tunnel.counters().rx_packets == before + 1


# ---------------------------------------------------------------- from the network

#: reason -> (the tunnel's options, what the peer sends, what is seen of it; "-" where nothing is said).
INWARD: list[tuple[str, dict[str, Any], bytes, object]] = [
    ("header_truncated", {}, b"", "-"),
    ("header_truncated", {}, b"\0\0\x08", "-"),
    ("header_truncated", {}, b"\xb0\0\x08\0" + bytes(11), "-"),
    ("version", {}, gre(INNER, flags=1), 1),
    ("version", {}, gre(INNER, flags=7), 7),
    ("routing", {}, gre(INNER, flags=0x4000), "-"),
    ("key_mismatch", {}, gre(INNER, key=7), 7),
    ("key_mismatch", {"ikey": 8, "okey": 8}, gre(INNER, key=7), 7),
    ("key_mismatch", {"ikey": 8, "okey": 8}, gre(INNER), None),
    ("checksum_missing", {"icsum": True}, gre(INNER), None),
    ("checksum_unexpected", {}, gre(INNER, csum=True), None),
    ("checksum_wrong", {"icsum": True}, gre(INNER, csum=True)[:-1] + b"?", "-"),
    ("checksum_wrong", {"tolerant": True}, gre(INNER, csum=True)[:-1] + b"?", "-"),
    ("sequence_missing", {"iseq": True}, gre(INNER), None),
    ("unknown_protocol", {}, gre(INNER, 0x8847), 0x8847),
    ("unknown_protocol", {}, gre(bytes(20), ETH_P_TEB), ETH_P_TEB),
    ("inner_malformed", {}, gre(INNER, 0x86DD), "-"),
    ("inner_malformed", {}, gre(INNER[:-1]), "-"),
    ("inner_malformed", {}, gre(b"\x45"), "-"),
    ("inner_malformed", {}, gre(b"", ETH_P_IP), "-"),
]


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize(
    ("reason", "options", "packet", "seen"), INWARD, ids=[f"{number}-{case[0]}" for number, case in enumerate(INWARD)]
)
def test_refused_from_the_network(
    wire: Wire, outer: int, reason: str, options: dict[str, Any], packet: bytes, seen: object
) -> None:
    with plain(wire, outer=outer, **options) as made:
        made.deliver(packet)
        made.wait_drop(reason)
        assert made.all_drops() == {reason: 1}
        if seen == "-":
            assert made.count_events(native.Mismatch) == 0
        else:
            told = made.wait_event(native.Mismatch)
            assert (told.tunnel, told.reason, told.seen, told.remote) == (made.tunnel.id, reason, seen, packed(made.far))
        key = options.get("ikey")
        good(made, gre(INNER, key=key, csum=options.get("icsum", False), seq=5 if options.get("iseq") else None))


def test_sequence_numbers_that_are_old(wire: Wire) -> None:
    with plain(wire, iseq=True) as made:
        for number in (10, 10, 9, 0xFFFFFFF0, 11, 0x80000000 + 12):
            made.deliver(gre(INNER, seq=number))
        # 10 and 11 come in, and what is half of all numbers ahead is behind.
        made.wait_drop("out_of_order", 4)
        made.wait_received(2)
        assert made.all_drops() == {"out_of_order": 4}
        assert made.tunnel.counters().sequence_in == 12


@pytest.mark.parametrize("outer", [4, 6])
def test_congestion_outside_a_packet_that_cannot_carry_it(wire: Wire, outer: int) -> None:
    """RFC 6040 4.2."""
    with plain(wire, outer=outer) as made:
        made.deliver(gre(INNER), tos=3)
        made.wait_drop("ecn")
        assert made.all_drops() == {"ecn": 1}


def test_kinds_without_gre_refuse_what_is_no_packet(wire: Wire) -> None:
    for kind, outer, protocol, packets in (
        ("ipip", 4, 4, (INNER[:-1], INNER6, b"", b"\x45")),
        ("sit", 4, 41, (INNER6[:-1], INNER, b"")),
        ("ip6tnl", 6, 4, (INNER6, INNER[:19])),
        ("ip6tnl", 6, 41, (INNER, INNER6[:39])),
    ):
        with plain(wire, kind, outer=outer) as made:
            for packet in packets:
                made.deliver(packet, protocol=protocol)
            made.wait_drop("inner_malformed", len(packets))
            assert made.all_drops() == {"inner_malformed": len(packets)}
            good(made, INNER6 if kind == "sit" else INNER)


def test_ethernet_into_gre_and_gre_into_ethernet(wire: Wire) -> None:
    with plain(wire, "gretap") as made:
        made.deliver(gre(INNER))
        assert made.wait_event(native.Mismatch).reason == "unknown_protocol"
        made.deliver(gre(bytes(13), ETH_P_TEB))
        made.wait_drop("inner_malformed")


def test_joined_datagrams_cannot_be_told_apart(wire: Wire) -> None:
    with plain(wire, mtu=1400) as made:
        whole = udp(bytes(4000), source=PEER, destination=OUR)
        pseudo = packed(PEER) + packed(OUR) + struct.pack("!HH", 17, len(whole) - 20)
        partial = whole[:26] + struct.pack("!H", ~checksum(pseudo) & 0xFFFF) + whole[28:]
        packet = gre(partial)
        for at in range(0, len(packet), 1400):
            piece = packet[at : at + 1400]
            more = at + 1400 < len(packet)
            field_ = (0x2000 if more else 0) | at // 8
            wire.send(ip4(piece, source=FAR, destination=NEAR, protocol=47, ident=7, fragment=field_))
        made.wait_drop("joined")


def test_what_is_for_no_tunnel_is_counted_and_not_answered(wire: Wire) -> None:
    with plain(wire, ikey=1, okey=1) as made:
        before = made.engine.carrier().no_tunnel
        made.deliver(gre(INNER, key=1), source="192.0.2.77")
        made.deliver(gre(INNER, ETH_P_TEB, key=9), source="192.0.2.77")
        wait_until(lambda: made.engine.carrier().no_tunnel == before + 2, WITHIN_S, "two for nobody")
        assert made.all_drops() == {}
        # No ICMP, which the wire would not show: nothing at all but what a test sends.
        wire.tap.settimeout(0.2)
        with pytest.raises(TimeoutError):
            while True:
                packet, address = wire.tap.recvfrom(65536)
                assert not (address[1] == ETH_P_IP and packet[9] == 1), packet


def test_a_mismatch_is_said_once_a_minute_for_each_reason(wire: Wire) -> None:
    with plain(wire, icsum=True) as made:
        for number in range(50):
            made.deliver(gre(INNER, key=number))
            made.deliver(gre(INNER))
        made.wait_drop("key_mismatch", 50)
        made.wait_drop("checksum_missing", 50)
        made.wait_event(native.Mismatch)
        assert sorted(event.reason for event in made.events) == ["checksum_missing", "key_mismatch"]


def test_keepalives_over_their_share_are_dropped(wire: Wire) -> None:
    with plain(wire) as made:
        started = time.monotonic()
        for _ in range(300):
            made.deliver(gre(b"", 0))
        wait_until(
            lambda: made.count_events(native.ControlReceived) + made.drops("control_limited") == 300, WITHIN_S, "all of them"
        )
        # Fifty at once, and fifty a second.
        assert made.count_events(native.ControlReceived) <= 51 + 50 * (time.monotonic() - started)
        assert made.drops("control_limited") > 0


def test_a_device_that_is_down_takes_nothing(wire: Wire) -> None:
    with plain(wire) as made:
        wire.near.ip("link", "set", made.tunnel.name, "down")
        made.deliver(gre(INNER))
        made.wait_drop("device_write")
        wire.near.ip("link", "set", made.tunnel.name, "up")
        application = made.application(OUR, 7001)
        made.deliver(gre(INNER))
        assert application.recv(10) == b"inner"


# ---------------------------------------------------------------- from the device


def test_refused_from_the_device(wire: Wire) -> None:
    out = udp(b"x", source=OUR, destination=PEER)
    out6 = udp(b"x", source=OUR6, destination=PEER6)
    with plain(wire) as made:
        for packet in (b"\x45" + bytes(10), out[:-1], b"\x15" + bytes(30)):
            made.write(packet)
        made.wait_drop("not_ip", 3)
        assert made.all_drops() == {"not_ip": 3}
    for kind, packet in (("ipip", out6), ("sit", out)):
        with plain(wire, kind) as made:
            made.write(packet)
            made.wait_drop("wrong_family")
            assert made.all_drops() == {"wrong_family": 1}


def test_a_super_packet_that_is_not_what_it_says(wire: Wire) -> None:
    """A virtio header whose checksum would begin in the options of the IP header: the kernel passes it on as it got it."""
    with plain(wire) as made, inside(wire.near), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        header = struct.pack("=BBHHHH", 1, 0, 0, 0, 20, 2)
        packet = bytearray(ip4(b"\1\1\1\0" + bytes(8), source=OUR, destination=PEER, protocol=17))
        packet[0] = 0x46
        raw.sendto(header + packet, (made.tunnel.name, ETH_P_IP))
        made.wait_drop("malformed")
        assert made.all_drops() == {"malformed": 1}


def test_our_own_delivery_packet_does_not_go_round(wire: Wire) -> None:
    """A route leads the tunnel's far end into the tunnel."""
    for outer, near, far in ((4, NEAR, FAR), (6, NEAR6, FAR6)):
        with plain(wire, outer=outer) as made:
            made.write(ip(gre(INNER), source=near, destination=far, protocol=47))
            made.wait_drop("looped")
            # Somebody else's tunnel to the same host goes, and so does any other packet to it.
            made.write(ip(gre(INNER), source=OUR if outer == 4 else OUR6, destination=far, protocol=47))
            made.receive()
            made.write(ip(bytes(8), source=near, destination=far, protocol=17))
            made.receive()
            assert made.all_drops() == {"looped": 1}
    with plain(wire, in_udp=(PORT, PORT, PORT)) as made:
        made.write(udp(gre(INNER), source=NEAR, destination=FAR, sport=PORT, dport=PORT))
        made.wait_drop("looped")
        made.write(udp(gre(INNER), source=NEAR, destination=FAR, sport=PORT + 1, dport=PORT))
        made.receive()


def test_a_route_into_itself_ends(wire: Wire) -> None:
    """The whole loop: the kernel routes our delivery packets back into the device."""
    with plain(wire) as made:
        wire.near.ip("route", "add", f"{FAR}/32", "dev", made.tunnel.name, "src", NEAR)
        try:
            made.application(OUR).sendto(b"x", (PEER, 9))
            made.wait_drop("looped")
            counters = made.tunnel.counters()
            assert counters.tx_packets == 1
        finally:
            wire.near.ip("route", "del", f"{FAR}/32", "dev", made.tunnel.name)


def test_five_tunnels_inside_each_other_and_no_more(wire: Wire) -> None:
    with plain(wire) as made:
        packet = udp(b"x", source=OUR, destination=PEER)
        for depth in range(1, 8):
            made.write(packet)
            if depth <= 5:
                made.receive()
            else:
                made.wait_drop("nested", depth - 5)
            packet = ip4(gre(packet) if depth % 2 else packet, source=OUR, destination=PEER, protocol=47 if depth % 2 else 4)


def test_a_frame_that_is_too_large_is_dropped(wire: Wire) -> None:
    with plain(wire, "gretap", mtu=1400) as made:
        made.tunnel.set_path_mtu(1000)
        application = made.application(OUR)
        application.setsockopt(socket.IPPROTO_IP, 10, 0)
        application.sendto(bytes(1001 - 28), (PEER, 9))
        made.wait_drop("too_big")
        application.sendto(bytes(1000 - 28), (PEER, 9))
        _, header = made.receive_gre()
        assert len(header.payload) == 1014
        assert made.all_drops() == {"too_big": 1}


def test_no_way_to_the_far_end(wire: Wire) -> None:
    with plain(wire, remote=packed("203.0.113.1"), local=None) as made:
        application = made.application(OUR)
        application.setsockopt(socket.IPPROTO_IP, 11, 1)
        application.connect((PEER, 9))
        application.send(b"x")
        made.wait_drop("no_remote")
        with pytest.raises(OSError, match="No route to host"):
            application.recv(10)
        # A way appears.
        wire.near.ip("route", "add", "203.0.113.0/24", "via", FAR)
        try:
            application.send(b"y")
            assert made.receive_gre()[0].destination == "203.0.113.1"
        finally:
            wire.near.ip("route", "del", "203.0.113.0/24")
        application.send(b"z")
        made.wait_drop("send_failed")


# ---------------------------------------------------------------- junk


def test_junk_from_the_network(wire: Wire) -> None:
    """Random bytes behind delivery headers: nothing ends, everything is counted, the next good packet comes in."""
    random_ = random.Random(8086)
    with (
        plain(wire, ikey=5, okey=5, icsum=True, iseq=True) as made,
        plain(wire, "gretap", ikey=6, okey=6) as tap,
        plain(wire, "ipip") as ipip,
        plain(wire, "ip6tnl", outer=6) as ip6tnl,
        plain(wire, in_udp=(PORT, PORT, PORT)) as in_udp,
    ):
        tunnels = [made, tap, ipip, ip6tnl, in_udp]
        sent = 0
        deadline = time.monotonic() + JUNK_S
        base = gre(INNER, key=5, csum=True, seq=1)
        while time.monotonic() < deadline:
            for _ in range(20):
                choice = random_.randrange(4)
                if choice == 0:
                    junk = random_.randbytes(random_.randrange(0, 200))
                elif choice == 1:
                    mutable = bytearray(base)
                    for _ in range(random_.randrange(1, 4)):
                        mutable[random_.randrange(len(mutable))] = random_.randrange(256)
                    junk = bytes(mutable)
                elif choice == 2:
                    junk = base[: random_.randrange(len(base))]
                else:
                    junk = struct.pack("!HH", random_.randrange(1 << 16), random_.choice([0x800, 0x86DD, ETH_P_TEB, 0]))
                    junk += random_.randbytes(random_.randrange(0, 100))
                wire.send(ip4(junk, source=FAR, destination=NEAR, protocol=random_.choice([47, 4, 41])))
                wire.send(ip6(junk, source=FAR6, destination=NEAR6, protocol=random_.choice([47, 4, 41])))
                wire.send(udp(junk, source=FAR, destination=NEAR, sport=PORT, dport=PORT))
                sent += 3
        application = made.application(OUR, 7001)

        def comes_in() -> bool:
            made.deliver(gre(INNER, key=5, csum=True, seq=random_.randrange(1 << 31)))
            return received(application)

        wait_until(comes_in, WITHIN_S, "a good packet after the junk")
        counted = sum(sum(one.tunnel.drops().values()) + one.tunnel.counters().rx_packets for one in tunnels)
        assert counted > sent / 3
        for one in tunnels:
            assert one.count_events(native.DeviceGone) == 0


def received(application: socket.socket) -> bool:
    """Whether the good packet arrives."""
    application.settimeout(0.2)
    try:
        return application.recv(100) == b"inner"
    except TimeoutError:
        return False


def test_junk_from_the_device(wire: Wire) -> None:
    random_ = random.Random(1701)
    for kind in ("gre", "gretap", "ipip"):
        with plain(wire, kind) as made, inside(wire.near), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            before = made.tunnel.counters().tx_packets
            count = 500
            for _ in range(count):
                junk = random_.randbytes(random_.randrange(14, 300))
                if random_.random() < 0.7:
                    junk = bytes([random_.choice([0x45, 0x46, 0x60])]) + junk[1:]
                raw.sendto(junk, (made.tunnel.name, ETH_P_IP))
            wait_until(
                lambda m=made, b=before, c=count: m.tunnel.counters().tx_packets - b + sum(m.tunnel.drops().values()) >= c,
                WITHIN_S,
                "all of it counted",
            )
            application = made.application(OUR)
            wire.flush()
            application.sendto(b"after", (PEER, 9))
            wait_until(lambda m=made: m.receive()[1].endswith(b"after"), WITHIN_S, "a good packet after the junk")


# ---------------------------------------------------------------- the seam


def documented() -> ast.Module:
    """The stub that says what the engine is."""
    return ast.parse((Path(ginnel.__file__).parent / "_native.pyi").read_text())


def test_everything_that_is_documented_is_there() -> None:
    """Each class and method of the stub exists in the engine, each attribute of an event has its place in a match."""
    for node in documented().body:
        if isinstance(node, ast.FunctionDef):
            assert callable(getattr(native, node.name)), node.name
        if not isinstance(node, ast.ClassDef):
            continue
        real = getattr(native, node.name)
        for member in node.body:
            if isinstance(member, ast.FunctionDef) and member.name not in ("__init__", "__eq__"):
                assert hasattr(real, member.name), f"{node.name}.{member.name}"
            if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                assert hasattr(real, member.target.id), f"{node.name}.{member.target.id}"
                if member.target.id == "__match_args__":
                    assert member.value is not None
                    assert real.__match_args__ == ast.literal_eval(member.value), node.name


def test_the_arguments_of_a_plain_tunnel_are_those_documented() -> None:
    engine = next(node for node in documented().body if isinstance(node, ast.ClassDef) and node.name == "Engine")
    stub = next(node for node in engine.body if isinstance(node, ast.FunctionDef) and node.name == "plain")
    signature = inspect.signature(native.Engine.plain)
    said = [argument.arg for argument in (*stub.args.args, *stub.args.kwonlyargs)]
    assert list(signature.parameters) == said
    for argument, default in zip(stub.args.kwonlyargs, stub.args.kw_defaults, strict=True):
        real = signature.parameters[argument.arg].default
        assert real == (inspect.Parameter.empty if default is None else ast.literal_eval(default)), argument.arg


def test_every_reason_has_a_test_or_a_word_why_not(wire: Wire) -> None:
    """The closed list of drops: each name is provoked by a test of these files."""
    with plain(wire) as made:
        names = set(made.tunnel.drops())
    texts = "".join(path.read_text() for path in Path(__file__).parent.glob("test_[ep][ls]*.py"))
    tested = set(re.findall(r'"([a-z_]+)"', texts))
    assert names <= tested, names - tested


def test_the_reasons_are_documented() -> None:
    """`PlainTunnel.drops` lists them, in order."""
    tunnel = next(node for node in documented().body if isinstance(node, ast.ClassDef) and node.name == "PlainTunnel")
    drops = next(node for node in tunnel.body if isinstance(node, ast.FunctionDef) and node.name == "drops")
    text = ast.get_docstring(drops) or ""
    listed = re.findall(r"[a-z]+(?:_[a-z]+)*", text.partition(":")[2].partition(".")[0])
    engine = native.Engine()
    name = "d" + os.urandom(4).hex()
    tunnel_ = engine.plain(name, kind="gre", local=None, remote=packed("127.0.0.9"))
    try:
        assert list(tunnel_.drops()) == listed
    finally:
        engine.close()
