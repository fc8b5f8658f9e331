"""
The engine's plain tunnels, one rule a test, with the test as the peer: what they send, and what they let in.

What is refused, and why, is in `test_plain_refusals`; many tunnels, and much at once, in `test_plain_stress`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from ginnel import _native as native
from namespaces import fresh_net, wait_until
from native.plain_rig import (
    ETH_P_IP,
    ETH_P_IPV6,
    ETH_P_TEB,
    FAR,
    FAR6,
    LINK_MTU,
    NEAR,
    NEAR6,
    OUR,
    OUR6,
    PEER,
    PEER6,
    PORT,
    Gre,
    Plain,
    Wire,
    gre,
    ip4,
    ip6,
    joined,
    packed,
    plain,
    udp,
)
from native.rig import WITHIN_S, checksum, inside

UDP_SEGMENT = 103
SOL_PACKET = 263
PACKET_VNET_HDR = 15
IP_RECVERR = 11
#: (kind, family outside, families inside).
KINDS = [
    ("gre", 4, (4, 6)),
    ("gre", 6, (4, 6)),
    ("gretap", 4, (4, 6)),
    ("gretap", 6, (4, 6)),
    ("ipip", 4, (4,)),
    ("sit", 4, (6,)),
    ("ip6tnl", 6, (4, 6)),
]
IDS = [f"{kind}-{outer}" for kind, outer, _ in KINDS]


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """One pair of namespaces for all tests here: each makes its own tunnel."""
    with fresh_net() as net, joined(net) as made:
        yield made


def framed(made: Plain, packet: bytes) -> bytes:
    """As the kind carries it: with an Ethernet header in gretap."""
    if made.kind != "gretap":
        return packet
    kind = ETH_P_IPV6 if packet[0] >> 4 == 6 else ETH_P_IP
    address = made.wire.near.ip_json("link", "show", "dev", made.tunnel.name)[0]["address"]
    return bytes.fromhex(address.replace(":", "")) + b"\x02\0\0\0\0\x02" + struct.pack("!H", kind) + packet


def wrapped(made: Plain, packet: bytes, **options: Any) -> bytes:
    """As the peer sends it: behind a GRE header if the kind has one."""
    if made.kind not in ("gre", "gretap"):
        return packet
    protocol = ETH_P_TEB if made.kind == "gretap" else ETH_P_IPV6 if packet[0] >> 4 == 6 else ETH_P_IP
    return gre(framed(made, packet), protocol, **options)


# ---------------------------------------------------------------- every kind, both ways


@pytest.mark.parametrize(("kind", "outer", "inner"), KINDS, ids=IDS)
@pytest.mark.parametrize("offload", [True, False], ids=["offload", "plain"])
def test_each_kind_carries_its_families_both_ways(
    wire: Wire, kind: str, outer: int, inner: tuple[int, ...], offload: bool
) -> None:
    with plain(wire, kind, outer=outer, v6=6 in inner, offload=offload) as made:
        for family in inner:
            ours, peer = (OUR, PEER) if family == 4 else (OUR6, PEER6)
            application = made.application(ours, 7001)
            application.sendto(b"out", (peer, 7000))
            delivery, rest = made.receive()
            assert (delivery.source, delivery.destination, delivery.version) == (made.near, made.far, outer)
            if kind in ("gre", "gretap"):
                assert delivery.protocol == 47
                header = Gre.parse(rest)
                expected = ETH_P_TEB if kind == "gretap" else ETH_P_IP if family == 4 else ETH_P_IPV6
                assert (header.protocol, header.key, header.sequence, header.checksum) == (expected, None, None, False)
                rest = header.payload
                if kind == "gretap":
                    assert rest[:6] == b"\x02\0\0\0\0\x02"
                    rest = rest[14:]
            else:
                assert delivery.protocol == (4 if family == 4 else 41)
            # An IP packet to the peer, its checksum finished.
            assert rest.endswith(b"out")
            assert packed(peer) in rest[:40]
            transport = 20 if family == 4 else 40
            addresses = rest[12:20] if family == 4 else rest[8:40]
            assert checksum(addresses + struct.pack("!HH", 17, 11) + rest[transport:]) == 0
            made.deliver(wrapped(made, udp(b"back", source=peer, destination=ours)))
            assert application.recv(100) == b"back"
        made.wait_sent(len(inner))
        # (The time is written behind the number.)
        wait_until(lambda: made.tunnel.counters().last_send_ns > 0, WITHIN_S, "a time of sending")
        counters = made.tunnel.counters()
        assert counters.rx_packets == len(inner)
        assert counters.last_receive_ns > 0
        assert counters.remote == (packed(made.far), 0)
        assert made.all_drops() == {}


def test_counters_are_those_of_the_inner_side(wire: Wire) -> None:
    with plain(wire, ikey=1, okey=1) as made:
        application = made.application(OUR, 7001)
        for size in (0, 10, 1000):
            application.sendto(bytes(size), (PEER, 9))
            made.receive()
        made.deliver(gre(udp(bytes(100), source=PEER, destination=OUR), key=1))
        made.wait_received(1)
        made.wait_sent(3)
        wait_until(lambda: made.tunnel.counters().tx_bytes == 3 * 28 + 1010, WITHIN_S, "the bytes of three packets")
        counters = made.tunnel.counters()
        assert counters.tx_packets == 3
        assert (counters.rx_packets, counters.rx_bytes) == (1, 128)


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("outer", [4, 6])
def test_keys_checksums_and_sequence_numbers_each_way(wire: Wire, outer: int) -> None:
    options = {"ikey": 7, "okey": 0xFFFFFFFE, "icsum": True, "ocsum": True, "iseq": True, "oseq": True}
    with plain(wire, outer=outer, **options) as made:
        application = made.application(OUR, 7001)
        for number in range(3):
            application.sendto(b"x" * (11 + number), (PEER, 7000))
            _, header = made.receive_gre()
            assert (header.key, header.sequence, header.checksum) == (0xFFFFFFFE, number, True)
        for number in (5, 6, 9):
            made.deliver(gre(udp(b"y", source=PEER, destination=OUR), key=7, csum=True, seq=number))
            assert application.recv(10) == b"y"
        counters = made.tunnel.counters()
        assert (counters.sequence_out, counters.sequence_in) == (3, 10)


@pytest.mark.parametrize("outer", [4, 6])
def test_ttl_is_inherited_or_fixed(wire: Wire, outer: int) -> None:
    for in_udp in (None, (PORT, PORT, PORT)):
        for configured, inner, expected in ((0, 33, 33), (77, 33, 77), (255, 1, 255)):
            with plain(wire, outer=outer, ttl=configured, in_udp=in_udp) as made:
                application = made.application(OUR)
                application.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, inner)
                application.sendto(b"x", (PEER, 9))
                assert made.receive()[0].ttl == expected


def test_tos_is_fixed_or_inherited_and_ecn_always_the_inner_one(wire: Wire) -> None:
    cases = (
        # configured, inherit, inner -> outer
        (0x00, False, 0xB8, 0x00),
        (0x20, False, 0xB8, 0x20),
        (0x20, False, 0x02, 0x22),
        (0x00, True, 0xB8, 0xB8),
        (0x00, True, 0x49, 0x49),
        # CE: the far end has it inside.
        (0x00, True, 0x2B, 0x2A),
    )
    for configured, inherit, inner, expected in cases:
        for outer, in_udp in ((4, None), (6, None), (4, (PORT, PORT, PORT)), (6, (PORT, PORT, PORT))):
            with plain(wire, outer=outer, tos=configured, tos_inherit=inherit, in_udp=in_udp) as made:
                made.write(udp(b"x", source=OUR, destination=PEER, tos=inner))
                assert made.receive()[0].tos == expected, (configured, inherit, inner, outer, in_udp)


def test_df_by_path_mtu_discovery_or_by_the_inner_packet(wire: Wire) -> None:
    for pmtudisc, ignore_df, inner, expected in (
        (True, False, False, True),
        (True, False, True, True),
        (False, False, False, False),
        (False, False, True, True),
        (False, True, True, False),
    ):
        with plain(wire, pmtudisc=pmtudisc, ignore_df=ignore_df) as made:
            made.write(udp(b"x", source=OUR, destination=PEER, df=inner))
            assert made.receive_gre()[0].df is expected, (pmtudisc, ignore_df, inner)


def test_identifications_follow_each_other_and_are_never_0(wire: Wire) -> None:
    with plain(wire, pmtudisc=False) as made:
        application = made.application(OUR)
        seen = []
        for _ in range(5):
            application.sendto(b"x", (PEER, 9))
            seen.append(made.receive_gre()[0].ident)
        assert 0 not in seen
        assert len(set(seen)) == 5


def test_flow_label_is_fixed_or_that_of_the_flow(wire: Wire) -> None:
    def labels(made: Plain) -> list[int]:
        found = []
        for port in (1000, 1000, 1001, 1002):
            made.write(udp(b"x", source=OUR, destination=PEER, dport=port))
            found.append(made.receive_gre()[0].label)
        return found

    with plain(wire, outer=6, flowlabel=0xABCDE) as made:
        assert labels(made) == [0xABCDE] * 4
    with plain(wire, outer=6) as made:
        found = labels(made)
        assert found[0] == found[1]
        assert len(set(found)) == 3


def test_encapsulation_limit_is_sent_and_lessened(wire: Wire) -> None:
    """RFC 2473 4.1.1."""
    with plain(wire, "ip6tnl", outer=6, encaplimit=4, v6=True) as made:
        made.write(udp(b"x", source=OUR6, destination=PEER6))
        delivery, rest = made.receive()
        assert (delivery.protocol, rest[:8]) == (60, bytes([41, 0, 4, 1, 4, 1, 1, 0])), rest[:8]
        # One that has a limit itself, of 1: it may go in once more; of 0: it may not.
        for limit, goes in ((1, True), (0, False)):
            option = bytes([59, 0, 4, 1, limit, 1, 1, 0])
            made.write(ip6(option, source=OUR6, destination=PEER6, protocol=60))
            if goes:
                assert made.receive()[1][4] == 0
            else:
                made.wait_drop("nested")


def test_destination_options_of_the_peer_are_passed_over(wire: Wire) -> None:
    """The Linux kernel's ip6gre and ip6tnl send them by default."""
    option = bytes([4, 1, 4, 1, 1, 0])
    for kind, protocol in (("gre", 47), ("ip6tnl", 4)):
        with plain(wire, kind, outer=6) as made:
            application = made.application(OUR, 7001)
            inner = udp(b"x", source=PEER, destination=OUR)
            made.deliver(bytes([protocol, 0]) + option + (gre(inner) if kind == "gre" else inner), protocol=60)
            assert application.recv(10) == b"x"


def test_a_mark_of_congestion_on_the_way_is_told_inside(wire: Wire) -> None:
    for outer in (4, 6):
        with plain(wire, outer=outer) as made:
            application = made.application(OUR, 7001)
            application.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            made.deliver(gre(udp(b"x", source=PEER, destination=OUR, tos=2)), tos=3)
            _, told, _, _ = application.recvmsg(10, 64)
            assert told[0][2][0] & 3 == 3


def test_padding_behind_the_inner_packet_is_cut_off(wire: Wire) -> None:
    with plain(wire) as made:
        look = made.look()
        packet = udp(b"abc", source=PEER, destination=OUR)
        made.deliver(gre(packet) + bytes(18))
        assert look.recv(200) == packet


def test_tolerant_takes_packets_with_and_without_checksum(wire: Wire) -> None:
    for icsum in (True, False):
        with plain(wire, icsum=icsum, tolerant=True) as made:
            application = made.application(OUR, 7001)
            for csum in (True, False):
                made.deliver(gre(udp(b"x", source=PEER, destination=OUR), csum=csum))
                assert application.recv(10) == b"x"


def test_local_any_is_the_routes_choice(wire: Wire) -> None:
    for outer, near in ((4, NEAR), (6, NEAR6)):
        with plain(wire, outer=outer, local=None) as made:
            application = made.application(OUR, 7001)
            application.sendto(b"x", (PEER, 7000))
            assert made.receive_gre()[0].source == near
            made.deliver(gre(udp(b"x", source=PEER, destination=OUR)))
            assert application.recv(10) == b"x"


def test_remote_any_with_a_key_answers_whoever_came_last(wire: Wire) -> None:
    wire.far.ip("address", "replace", "192.0.2.9/24", "dev", wire.link.right)
    with plain(wire, remote=None, ikey=3, okey=3) as made:
        application = made.application(OUR, 7001)
        application.sendto(b"x", (PEER, 7000))
        made.wait_drop("no_remote")
        assert made.tunnel.counters().remote is None
        for source in (FAR, "192.0.2.9"):
            made.deliver(gre(udp(b"in", source=PEER, destination=OUR), key=3), source=source)
            assert application.recv(10) == b"in"
            changed = made.wait_event(native.EndpointChanged)
            assert (changed.tunnel, changed.peer) == (made.tunnel.id, 0)
            made.events.clear()
            assert made.tunnel.counters().remote == (packed(source), 0)
            application.sendto(b"x", (PEER, 7000))
            assert made.receive_gre()[0].destination == source


def test_remote_any_without_a_key_believes_nobody(wire: Wire) -> None:
    with plain(wire, remote=None) as made:
        application = made.application(OUR, 7001)
        made.deliver(gre(udp(b"in", source=PEER, destination=OUR)))
        assert application.recv(10) == b"in"
        application.sendto(b"x", (PEER, 7000))
        made.wait_drop("no_remote")


def test_fwmark_and_device_choose_the_way(wire: Wire) -> None:
    """A rule that sends marked packets nowhere shows the mark; a device that is another shows the binding."""
    wire.near.ip("rule", "add", "fwmark", "77", "prohibit")
    try:
        for mark, goes in ((0, True), (77, False)):
            with plain(wire, fwmark=mark) as made:
                made.application(OUR).sendto(b"x", (PEER, 9))
                if goes:
                    made.receive_gre()
                else:
                    made.wait_drop("send_failed")
    finally:
        wire.near.ip("rule", "del", "fwmark", "77", "prohibit")
    index = wire.near.ip_json("link", "show", "dev", wire.link.left)[0]["ifindex"]
    for device, goes in ((index, True), (1, False)):
        with plain(wire, device=device) as made:
            made.application(OUR).sendto(b"x", (PEER, 9))
            if goes:
                made.receive_gre()
            else:
                assert wire.silent()


def test_a_rule_by_source_address_is_heeded(wire: Wire) -> None:
    """The kernel chooses the route by the tunnel's local address, as for its own tunnels."""
    wire.near.ip("rule", "add", "from", NEAR, "to", FAR, "prohibit")
    try:
        with plain(wire) as made:
            made.application(OUR).sendto(b"x", (PEER, 9))
            made.wait_drop("send_failed")
    finally:
        wire.near.ip("rule", "del", "from", NEAR, "to", FAR, "prohibit")


# ---------------------------------------------------------------- in UDP


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("kind", ["gre", "gretap"])
def test_in_udp_both_ways(wire: Wire, outer: int, kind: str) -> None:
    with plain(wire, kind, outer=outer, in_udp=(PORT, PORT, PORT), ikey=5, okey=6, ocsum=True, icsum=True) as made:
        application = made.application(OUR, 7001)
        application.sendto(b"out", (PEER, 7000))
        delivery, rest = made.receive()
        assert delivery.protocol == 17
        assert struct.unpack("!HH", delivery.payload[:4]) == (PORT, PORT)
        # The checksum of UDP is there; on a veth pair the kernel leaves it to be finished.
        assert delivery.payload[6:8] != b"\0\0"
        header = Gre.parse(rest)
        assert (header.key, header.checksum, header.payload[-3:]) == (6, True, b"out")
        made.deliver(wrapped(made, udp(b"back", source=PEER, destination=OUR), key=5, csum=True))
        assert application.recv(10) == b"back"
        assert made.all_drops() == {}


def test_df_in_udp_by_path_mtu_discovery(wire: Wire) -> None:
    for pmtudisc in (True, False):
        with plain(wire, in_udp=(PORT, PORT, PORT), pmtudisc=pmtudisc) as made:
            made.write(udp(b"x", source=OUR, destination=PEER))
            assert made.receive()[0].df is pmtudisc


def test_a_port_that_is_learned_follows_the_peer(wire: Wire) -> None:
    with plain(wire, in_udp=(PORT, PORT, 0)) as made:
        application = made.application(OUR, 7001)
        application.sendto(b"x", (PEER, 9))
        made.wait_drop("no_remote")
        for port in (40_000, 40_001):
            made.sport = port
            made.deliver(gre(udp(b"in", source=PEER, destination=OUR)))
            assert application.recv(10) == b"in"
            assert made.wait_event(native.EndpointChanged).tunnel == made.tunnel.id
            made.events.clear()
            assert made.tunnel.counters().remote == (packed(FAR), port)
            application.sendto(b"x", (PEER, 9))
            outer = wire.receive()
            assert struct.unpack("!HH", outer.payload[:4]) == (PORT, port)


def test_source_ports_are_those_of_the_flow(wire: Wire) -> None:
    """RFC 8086 3.1: a flow keeps its port, several flows have several, all of the ephemeral range."""
    with plain(wire, in_udp=(PORT, 0, PORT)) as made:
        seen: dict[int, set[int]] = {}
        for _ in range(3):
            for port in range(1000, 1040):
                made.write(udp(b"x", source=OUR, destination=PEER, dport=port))
                outer, _ = made.receive()
                seen.setdefault(port, set()).add(struct.unpack("!H", outer.payload[:2])[0])
        assert all(len(ports) == 1 for ports in seen.values())
        used = {port for ports in seen.values() for port in ports}
        assert min(used) >= 49_152
        assert len(used) > 8


def test_an_answer_to_a_port_of_the_flow_comes_in(wire: Wire) -> None:
    with plain(wire, in_udp=(PORT, 0, PORT)) as made:
        application = made.application(OUR, 7001)
        application.sendto(b"x", (PEER, 9))
        port = struct.unpack("!H", made.receive()[0].payload[:2])[0]
        wire.send(udp(gre(udp(b"in", source=PEER, destination=OUR)), source=FAR, destination=NEAR, sport=PORT, dport=port))
        assert application.recv(10) == b"in"


def test_a_port_of_another_program_is_refused_and_shared_among_ours(wire: Wire) -> None:
    with inside(wire.near):
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    other.bind(("", PORT))
    engine = native.Engine()
    try:
        with inside(wire.near):
            first, second = (
                engine.plain(
                    f"u{key}", kind="gre", local=packed(NEAR), remote=packed(FAR), ikey=key, okey=key, fwmark=key,
                    udp=(PORT, PORT, PORT),
                )
                for key in (1, 2)
            )  # fmt: skip
            with pytest.raises(OSError, match="in use") as raised:
                first.up()
            assert raised.value.errno == errno.EADDRINUSE
            assert not first.is_up
            other.close()
            first.up()
            # Another mark is another socket, on the same port.
            second.up()
            assert first.is_up
            assert second.is_up
            names = {f"udp port {PORT} over IPv4, mark {mark}" for mark in (1, 2)}
            assert set(engine.carrier().sockets) == names
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger, pytest.raises(OSError, match="in use"):
                stranger.bind(("", PORT))
            first.down()
            second.down()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind(("", PORT))
    finally:
        engine.close()
        other.close()


# ---------------------------------------------------------------- super-packets


def tcp_bytes(made: Plain, size: int) -> int:
    """
    Sends that much over TCP through the tunnel, to a second engine in the far namespace; how many packets its device was given.
    """
    data = os.urandom(size)
    far_engine = native.Engine()
    name = "q" + os.urandom(5).hex()
    made.wire.senders[4].getsockname()
    with inside(made.wire.far):
        options: dict[str, Any] = {"udp": (PORT + 1, PORT + 1, PORT)} if made.sport else {}
        end = far_engine.plain(name, kind=made.kind, local=packed(made.far), remote=packed(made.near), mtu=1400, **options)
        end.up()
        listener = socket.socket()
    try:
        for step in (("address", "add", f"{PEER}/24", "dev", name), ("link", "set", name, "up")):
            made.wire.far.ip(*step)
        if made.kind == "gretap":
            for space, address, device, other in (
                (made.wire.near, PEER, made.tunnel.name, (made.wire.far, name)),
                (made.wire.far, OUR, name, (made.wire.near, made.tunnel.name)),
            ):
                hardware = other[0].ip_json("link", "show", "dev", other[1])[0]["address"]
                space.ip("neighbour", "replace", address, "lladdr", hardware, "dev", device)
        listener.bind((PEER, 0))
        listener.listen(1)
        with inside(made.wire.near):
            client = socket.create_connection(listener.getsockname(), timeout=WITHIN_S)
        server, _ = listener.accept()
        server.settimeout(WITHIN_S)
        with client, server:
            client.settimeout(WITHIN_S)
            sent = received = 0
            got = bytearray()
            while received < size:
                if sent < size:
                    sent += client.send(data[sent : sent + 60_000])
                chunk = server.recv(1 << 20)
                got += chunk
                received += len(chunk)
            assert bytes(got) == data
        assert {k: v for k, v in end.drops().items() if v} == {}
        statistics = made.wire.far.ip_json("-s", "link", "show", "dev", name)[0]["stats64"]["rx"]
        return int(statistics["packets"])
    finally:
        listener.close()
        far_engine.close()


@pytest.mark.parametrize("kind", ["gre", "gretap", "ipip"])
def test_super_packets_are_cut_and_coalesced_without_a_byte_wrong(wire: Wire, kind: str) -> None:
    size = 3 << 20
    with plain(wire, kind, mtu=1400) as made:
        given = tcp_bytes(made, size)
        # Cut: at least one packet for each 1,348 bytes.
        sent = made.wait_sent(size // 1348).tx_packets
        if kind != "gretap":
            # Coalesced: the device got fewer packets than were sent to it.
            assert given < sent * 0.8
        assert made.all_drops() == {}


def test_super_packets_behind_a_vlan_tag(wire: Wire) -> None:
    """As a bridge over gretap carries them: the tag stays before every segment, and checksums are counted from behind it."""
    with plain(wire, "gretap", mtu=1400) as made, inside(wire.near), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        for tags in (b"\x81\0\0\5", b"\x88\xa8\0\7\x81\0\0\5"):
            link = b"\2\0\0\0\0\2" + b"\2\0\0\0\0\1" + tags + b"\x08\0"
            payload = os.urandom(3000)
            tcp = struct.pack("!HHIIBBHHH", 1, 2, 1000, 0, 0x50, 0x18, 100, 0, 0)
            pseudo = packed(OUR) + packed(PEER) + struct.pack("!HH", 6, len(tcp) + len(payload))
            tcp = tcp[:16] + struct.pack("!H", ~checksum(pseudo) & 0xFFFF) + tcp[18:]
            packet = ip4(tcp + payload, source=OUR, destination=PEER, protocol=6)
            # NEEDS_CSUM, TCPv4, 1,000 bytes a segment.
            header = struct.pack("=BBHHHH", 1, 1, len(link) + 40, 1000, len(link) + 20, 16)
            raw.sendto(header + link + packet, (made.tunnel.name, 0x8100))
            got = b""
            for number in range(3):
                frame = made.receive_gre()[1].payload
                assert frame[: len(link)] == link
                inner = frame[len(link) :]
                assert checksum(inner[:20]) == 0
                assert struct.unpack_from("!I", inner, 24)[0] == 1000 + number * 1000
                pseudo = packed(OUR) + packed(PEER) + struct.pack("!HH", 6, len(inner) - 20)
                assert checksum(pseudo + inner[20:]) == 0
                got += inner[40:]
            assert got == payload
        assert made.all_drops() == {}


def test_udp_super_packets_are_cut(wire: Wire) -> None:
    with plain(wire) as made:
        application = made.application(OUR)
        application.sendmsg([bytes(range(250)) * 10], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", 500))], 0, (PEER, 9))
        for _ in range(5):
            _, header = made.receive_gre()
            inner = header.payload
            assert len(inner) == 528
            assert inner[28:] == bytes(range(250)) * 2
            assert checksum(inner[12:20] + struct.pack("!HH", 17, 508) + inner[20:]) == 0


def test_packets_of_a_flow_keep_their_order(wire: Wire) -> None:
    with plain(wire) as made:
        application = made.application(OUR, 7001)
        for number in range(200):
            application.sendto(struct.pack("!I", number), (PEER, 7000))
        seen = [struct.unpack("!I", made.receive_gre()[1].payload[28:32])[0] for _ in range(200)]
        assert seen == list(range(200))
        for number in range(200):
            made.deliver(gre(udp(struct.pack("!I", number) * 8, source=PEER, destination=OUR)))
        assert [struct.unpack_from("!I", application.recv(100))[0] for _ in range(200)] == list(range(200))


def test_a_checksum_that_is_wrong_inside_is_not_laundered(wire: Wire) -> None:
    """Neighbours are coalesced, and the kernel told nothing about the checksum of the one that is wrong: it drops it."""
    with plain(wire) as made:
        application = made.application(OUR, 7001)
        for number in range(30):
            packet = bytearray(udp(bytes([number]) * 100, source=PEER, destination=OUR))
            if number == 7:
                packet[60] ^= 0xFF
            made.deliver(gre(bytes(packet)))
        seen = [application.recv(200)[0] for _ in range(29)]
        assert seen == [number for number in range(30) if number != 7]


@pytest.mark.parametrize("csum", [False, True])
def test_packets_that_a_kernel_left_unfinished_are_finished(wire: Wire, csum: bool) -> None:
    """Between containers a kernel's tunnel leaves the inner checksum to a card that is not there."""
    with plain(wire, icsum=csum) as made:
        application = made.application(OUR, 7001)
        right = udp(b"unfinished", source=PEER, destination=OUR)
        pseudo = packed(PEER) + packed(OUR) + struct.pack("!HH", 17, len(right) - 20)
        partial = right[:26] + struct.pack("!H", ~checksum(pseudo) & 0xFFFF) + right[28:]
        whole = gre(right, csum=csum)
        # The checksum of GRE is that of the finished packet.
        made.deliver(whole[: -len(right)] + partial)
        assert application.recv(100) == b"unfinished"


# ---------------------------------------------------------------- sizes


def test_fragments_of_the_delivery_packet_are_put_together(wire: Wire) -> None:
    with plain(wire) as made:
        application = made.application(OUR, 7001)
        data = os.urandom(1000)
        whole = gre(udp(data, source=PEER, destination=OUR))
        for at, more in ((512, False), (0, True)):
            piece = whole[at : at + 512] if more else whole[at:]
            wire.send(ip4(piece, source=FAR, destination=NEAR, protocol=47, ident=99, fragment=(0x2000 if more else 0) | at // 8))
        assert application.recv(2000) == data
    with plain(wire, outer=6) as made:
        application = made.application(OUR, 7001)
        for at, more in ((512, 0), (0, 1)):
            piece = whole[at : at + 512] if more else whole[at:]
            header = struct.pack("!BBHI", 47, 0, at | more, 99)
            wire.send(ip6(header + piece, source=FAR6, destination=NEAR6, protocol=44))
        assert application.recv(2000) == data


def reassembled(pieces: list[bytes]) -> bytes:
    """IPv4 fragments, in order, as one packet."""
    body = b""
    for piece in pieces:
        field_ = struct.unpack_from("!H", piece, 6)[0]
        assert (field_ & 0x1FFF) * 8 == len(body)
        assert checksum(piece[:20]) == 0
        body += piece[20:]
        more = field_ & 0x2000
        assert bool(more) == (piece is not pieces[-1])
    return body


def test_what_is_larger_than_the_path_is_cut_inside(wire: Wire) -> None:
    """RFC 7588: an inner packet without DF is fragmented before it is encapsulated."""
    with plain(wire) as made:
        made.tunnel.set_path_mtu(600)
        packet = udp(os.urandom(1300), source=OUR, destination=PEER)
        made.write(packet)
        pieces = []
        while sum(len(piece) - 20 for piece in pieces) < len(packet) - 20:
            delivery, header = made.receive_gre()
            assert delivery.df
            assert len(header.payload) <= 600
            pieces.append(header.payload)
        assert reassembled(pieces) == packet[20:]
        assert made.all_drops() == {}
        # And no more once the path is forgotten.
        made.tunnel.set_path_mtu(0)
        made.write(packet)
        assert made.receive_gre()[1].payload == packet


def test_what_may_not_be_cut_is_answered_with_icmp(wire: Wire) -> None:
    with plain(wire, v6=True) as made:
        made.tunnel.set_path_mtu(1300)
        for address, peer, level, discover, recverr, mtu_option in (
            (OUR, PEER, socket.IPPROTO_IP, 10, IP_RECVERR, 14),
            (OUR6, PEER6, socket.IPPROTO_IPV6, 23, 25, 24),
        ):
            application = made.application(address)
            application.setsockopt(level, discover, 2)
            application.setsockopt(level, recverr, 1)
            application.connect((peer, 7000))
            application.send(bytes(1301 - (28 if address == OUR else 48)))
            made.wait_drop("too_big", 1 if address == OUR else 2)
            wait_until(lambda s=application, o=(level, mtu_option): s.getsockopt(*o) == 1300, WITHIN_S, "the kernel knows")
            with pytest.raises(OSError, match="too long"):
                application.recv(10)
            # One byte less goes.
            application.send(bytes(1300 - (28 if address == OUR else 48)))
            assert len(made.receive_gre()[1].payload) == 1300


def test_tcp_learns_the_path(wire: Wire) -> None:
    """Segments that are too large are answered once, and what TCP sends then fits."""
    with plain(wire) as made:
        made.tunnel.set_path_mtu(1000)
        assert tcp_bytes(made, 300_000) > 0
        assert 0 < made.drops("too_big") < 100


def test_ipv6_in_a_path_of_less_than_1280_is_cut_outside(wire: Wire) -> None:
    """RFC 7676: it cannot be answered, since no IPv6 link may have less."""
    for outer in (4, 6):
        with plain(wire, outer=outer, v6=True) as made:
            made.tunnel.set_path_mtu(1200)
            packet = udp(os.urandom(1280 - 48), source=OUR6, destination=PEER6)
            made.write(packet)
            first, second = wire.receive(), wire.receive()
            if outer == 4:
                assert (first.fragment, first.df, first.ident) == (0x2000, False, second.ident)
                body = first.payload + second.payload
                assert second.fragment * 8 == len(first.payload)
            else:
                assert first.protocol == second.protocol == 44
                body = first.payload[8:] + second.payload[8:]
            assert Gre.parse(body).payload == packet
            made.wait_sent(1)
            assert made.all_drops() == {}


def test_a_device_that_is_too_small_is_told_or_cut_for(wire: Wire) -> None:
    """With DF the kernel's refusal is a path error; without it the packet goes in fragments."""
    for outer, overhead in ((4, 24), (6, 44)):
        with plain(wire, outer=outer, mtu=1500) as made:
            made.write(udp(bytes(1472), source=OUR, destination=PEER))
            told = made.wait_event(native.PathError)
            near = packed(made.near)
            assert (told.tunnel, told.kind, told.mtu, told.origin) == (made.tunnel.id, "too-big", LINK_MTU, near)
            made.wait_drop("too_big")
            made.write(udp(bytes(1472 - overhead), source=OUR, destination=PEER))
            assert len(made.receive_gre()[1].payload) == 1500 - overhead
        with plain(wire, outer=outer, mtu=1500, pmtudisc=False) as made:
            packet = udp(os.urandom(1472), source=OUR, destination=PEER)
            made.write(packet)
            pieces = [wire.receive().payload, wire.receive().payload]
            body = b"".join(piece[8 if outer == 6 else 0 :] for piece in pieces)
            assert Gre.parse(body).payload == packet
            assert made.wait_sent(1).tx_packets == 1


def test_a_device_that_is_too_small_for_udp(wire: Wire) -> None:
    with plain(wire, mtu=1500, in_udp=(PORT, PORT, PORT)) as made:
        made.write(udp(bytes(1472), source=OUR, destination=PEER))
        told = made.wait_event(native.PathError)
        assert (told.kind, told.mtu) == ("too-big", LINK_MTU)
        made.wait_drop("too_big")
    with plain(wire, mtu=1500, in_udp=(PORT, PORT, PORT), pmtudisc=False) as made:
        made.write(udp(bytes(1472), source=OUR, destination=PEER))
        assert wire.receive().fragment == 0x2000


# ---------------------------------------------------------------- the control plane's hand


def test_held_and_let_go(wire: Wire) -> None:
    with plain(wire) as made:
        application = made.application(OUR, 7001)
        made.tunnel.set_hold(True)
        application.sendto(b"x", (PEER, 7000))
        made.wait_drop("held")
        made.deliver(gre(udp(b"in", source=PEER, destination=OUR)))
        assert application.recv(10) == b"in"
        made.tunnel.send_control(0, b"")
        assert made.receive_gre()[1].protocol == 0
        made.tunnel.set_hold(False)
        application.sendto(b"y", (PEER, 7000))
        assert made.receive_gre()[1].payload[-1:] == b"y"


def test_senders_are_told_that_the_far_end_is_unreachable(wire: Wire) -> None:
    with plain(wire) as made:
        application = made.application(OUR)
        application.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        application.connect((PEER, 7000))
        made.tunnel.set_unreachable(2, 1 << 62)
        for number in range(3):
            application.send(b"x")
            # It is sent all the same.
            made.receive_gre()
            if number < 2:
                with pytest.raises(OSError, match="No route to host"):
                    application.recv(10)
        application.settimeout(0.2)
        with pytest.raises(TimeoutError):
            application.recv(10)
        made.tunnel.set_unreachable(5, 1)
        application.send(b"x")
        made.receive_gre()
        with pytest.raises(TimeoutError):
            application.recv(10)


def test_control_packets_take_their_sequence_number(wire: Wire) -> None:
    with plain(wire, okey=9, ikey=9, oseq=True, ocsum=True) as made:
        application = made.application(OUR)
        application.sendto(b"x", (PEER, 9))
        assert made.receive_gre()[1].sequence == 0
        inner = ip4(gre(b"", 0), source=FAR, destination=NEAR, protocol=47, ttl=255)
        made.tunnel.send_control(0x0800, inner)
        _, header = made.receive_gre()
        assert (header.protocol, header.key, header.sequence, header.payload) == (0x0800, 9, 1, inner)
        application.sendto(b"x", (PEER, 9))
        assert made.receive_gre()[1].sequence == 2
        with pytest.raises(ValueError, match="9216"):
            made.tunnel.send_control(0, bytes(9217))


def test_keepalives_are_told(wire: Wire) -> None:
    for outer, protocol in ((4, 0), (6, 0), (6, 0x86DD)):
        near, far = (NEAR, FAR) if outer == 4 else (NEAR6, FAR6)
        build = ip4 if outer == 4 else ip6
        with plain(wire, outer=outer) as made:
            made.deliver(gre(b"", protocol))
            told = made.wait_event(native.ControlReceived)
            assert (told.tunnel, told.kind, told.protocol) == (made.tunnel.id, "returned", protocol)
            assert made.tunnel.counters().last_receive_ns > 0
            made.events.clear()
            asked = build(gre(b"", protocol), source=near, destination=far, protocol=47, ttl=255)
            for padding in (0, 10, 1000):
                made.deliver(gre(asked + bytes(padding), ETH_P_IP if outer == 4 else ETH_P_IPV6))
                told = made.wait_event(native.ControlReceived)
                assert (told.kind, told.packet) == ("asked", asked)
                made.events.clear()
            made.tunnel.send_back(asked)
            delivery, rest = made.receive_gre()
            assert (delivery.source, delivery.destination, delivery.ttl) == (near, far, 255)
            assert (rest.protocol, rest.payload) == (protocol, b"")


def test_keepalives_in_udp_come_back_in_udp(wire: Wire) -> None:
    with plain(wire, in_udp=(PORT, PORT, PORT), okey=4, ikey=4) as made:
        asked = ip4(gre(b"", 0, key=4), source=NEAR, destination=FAR, protocol=47, ttl=255)
        made.deliver(gre(asked, key=4))
        assert made.wait_event(native.ControlReceived).packet == asked
        made.tunnel.send_back(asked)
        delivery, rest = made.receive()
        assert (delivery.protocol, rest) == (17, gre(b"", 0, key=4))


def test_nothing_is_sent_back_that_is_not_exactly_ours(wire: Wire) -> None:
    with plain(wire) as made:
        good = ip4(gre(b"", 0), source=NEAR, destination=FAR, protocol=47)
        for packet in (
            b"",
            good[:-1],
            good + b"\0",
            ip4(gre(b"", 0), source=FAR, destination=NEAR, protocol=47),
            ip4(gre(b"", 0), source=NEAR, destination="192.0.2.77", protocol=47),
            ip4(gre(b"", 0), source="192.0.2.77", destination=FAR, protocol=47),
            ip4(gre(b"", 0), source=NEAR, destination=FAR, protocol=17),
            ip6(gre(b"", 0), source=NEAR6, destination=FAR6, protocol=47),
        ):
            with pytest.raises(ValueError, match="from our end"):
                made.tunnel.send_back(packet)
        made.tunnel.send_back(good)
        assert made.receive()[0].destination == FAR
        assert wire.silent()


def test_probes_of_an_edge_come_back(wire: Wire) -> None:
    """
    Edges ask in two ways whether a tunnel carries: by an echo request to our inner address, which is answered through the tunnel;
    and by an echo *reply* to themselves, which we only have to route back as it is.
    """

    def echo(kind: int, source: str, destination: str) -> bytes:
        body = struct.pack("!BBHHH", kind, 0, 0, 7, 1) + b"is it up"
        return ip4(body[:2] + struct.pack("!H", checksum(body)) + body[4:], source=source, destination=destination, protocol=1)

    with plain(wire) as made:
        made.deliver(wrapped(made, echo(8, PEER, OUR)))
        _, answer = made.receive_gre()
        assert (answer.payload[20], answer.payload[12:16], answer.payload[16:20]) == (0, packed(OUR), packed(PEER))
        assert answer.payload[-8:] == b"is it up"
        # Forwarded: one hop less, nothing else changed.
        wire.near.write_proc(f"/proc/sys/net/ipv4/conf/{made.tunnel.name}/forwarding", "1")
        wire.near.write_proc(f"/proc/sys/net/ipv4/conf/{made.tunnel.name}/rp_filter", "0")
        reply = echo(0, "198.18.0.9", PEER)
        made.deliver(wrapped(made, reply))
        _, back = made.receive_gre()
        assert back.payload[8] == reply[8] - 1
        assert back.payload[:8] + back.payload[12:] == reply[:8] + reply[12:]
        assert made.all_drops() == {}


def test_a_packet_inside_that_only_looks_like_a_keepalive_is_data(wire: Wire) -> None:
    """From anywhere else, to anywhere else, or with something inside."""
    with plain(wire) as made:
        look = made.look()
        for packet in (
            ip4(gre(b"", 0), source="192.0.2.77", destination=FAR, protocol=47),
            ip4(gre(b"", 0), source=NEAR, destination="192.0.2.77", protocol=47),
            ip4(gre(b"x", 0), source=NEAR, destination=FAR, protocol=47),
            ip4(gre(b"", 0), source=NEAR, destination=FAR, protocol=17),
        ):
            made.deliver(gre(packet))
            assert look.recv(200) == packet
        assert made.count_events(native.ControlReceived) == 0


# ---------------------------------------------------------------- errors of the path


def icmp4(kind: int, code: int, rest: bytes, quote: bytes, source: str) -> bytes:
    """An ICMP error to the engine's host."""
    body = struct.pack("!BBH", kind, code, 0) + rest + quote
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return ip4(body, source=source, destination=NEAR, protocol=1)


def icmp6(kind: int, code: int, rest: bytes, quote: bytes) -> bytes:
    body = struct.pack("!BBH", kind, code, 0) + rest + quote
    pseudo = packed(FAR6) + packed(NEAR6) + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    return ip6(body, source=FAR6, destination=NEAR6, protocol=58)


def test_icmp_errors_are_told_to_the_tunnel_that_they_quote(wire: Wire) -> None:
    wire.far.ip("address", "replace", "192.0.2.8/24", "dev", wire.link.right)
    with plain(wire, ikey=1, okey=1) as made, plain(wire, ikey=2, okey=2) as other:
        quote = ip4(gre(bytes(100), key=1)[:8], source=NEAR, destination=FAR, protocol=47)
        for kind, code, rest, expected, mtu in (
            (3, 4, struct.pack("!HH", 0, 1400), "too-big", 1400),
            (3, 1, bytes(4), "unreachable", 0),
            (3, 3, bytes(4), "unreachable", 0),
            (11, 0, bytes(4), "time-exceeded", 0),
            (12, 0, bytes(4), "other", 0),
        ):
            wire.send(icmp4(kind, code, rest, quote, "192.0.2.8"))
            told = made.wait_event(native.PathError)
            assert (told.tunnel, told.kind, told.code, told.mtu) == (made.tunnel.id, expected, code, mtu)
            assert told.origin == packed("192.0.2.8")
            made.events.clear()
        assert other.count_events(native.PathError) == 0


def test_icmpv6_errors_are_told(wire: Wire) -> None:
    for kind, outer_protocol in (("gre", 47), ("ip6tnl", 4)):
        with plain(wire, kind, outer=6) as made:
            inside_ = gre(bytes(50)) if kind == "gre" else ip4(bytes(8), source=OUR, destination=PEER, protocol=17)
            quote = ip6(inside_, source=NEAR6, destination=FAR6, protocol=outer_protocol)
            for icmp_kind, code, rest, expected, mtu in (
                (2, 0, struct.pack("!I", 1380), "too-big", 1380),
                (1, 4, bytes(4), "unreachable", 0),
                (3, 0, bytes(4), "time-exceeded", 0),
            ):
                wire.send(icmp6(icmp_kind, code, rest, quote))
                told = made.wait_event(native.PathError)
                assert (told.kind, told.code, told.mtu, told.origin) == (expected, code, mtu, packed(FAR6))
                made.events.clear()


def test_icmp_errors_about_udp_are_told(wire: Wire) -> None:
    with plain(wire, in_udp=(PORT, PORT, PORT)) as made:
        # The kernel tells a socket of what it may have sent: with DF.
        made.application(OUR).sendto(b"x", (PEER, 9))
        made.receive()
        quote = udp(gre(bytes(30)), source=NEAR, destination=FAR, sport=PORT, dport=PORT)
        wire.send(icmp4(3, 4, struct.pack("!HH", 0, 1300), quote, FAR))
        told = made.wait_event(native.PathError)
        assert (told.kind, told.mtu, told.origin) == ("too-big", 1300, packed(FAR))


def test_icmp_errors_cost_no_packets(wire: Wire) -> None:
    """The kernel tells them to the next send as well, which has nothing to do with them."""
    with plain(wire, in_udp=(PORT, PORT, PORT)) as made:
        quote = udp(gre(bytes(30)), source=NEAR, destination=FAR, sport=PORT, dport=PORT)
        application = made.application(OUR)
        for _ in range(200):
            wire.send(icmp4(3, 3, bytes(4), quote, FAR))
            application.sendto(b"x", (PEER, 9))
        made.wait_event(native.PathError)
        wait_until(lambda: made.tunnel.counters().tx_packets == 200, WITHIN_S, f"all sent; dropped {made.all_drops()}")
        assert made.all_drops() == {}


def test_icmp_errors_about_others_are_told_to_nobody(wire: Wire) -> None:
    with plain(wire, ikey=1, okey=1) as made:
        for quote in (
            ip4(gre(b"", key=2), source=NEAR, destination=FAR, protocol=47),
            ip4(gre(b"", key=1), source=NEAR, destination="192.0.2.77", protocol=47),
            ip4(gre(b"", key=1), source=NEAR, destination=FAR, protocol=4),
        ):
            wire.send(icmp4(3, 1, bytes(4), quote, FAR))
        wire.send(icmp4(3, 4, struct.pack("!HH", 0, 1400), ip4(gre(b"", key=1), source=NEAR, destination=FAR, protocol=47), FAR))
        assert made.wait_event(native.PathError).kind == "too-big"
        assert made.count_events(native.PathError) == 1


def test_path_errors_are_limited_but_the_first_of_a_sort_is_not_lost(wire: Wire) -> None:
    with plain(wire) as made:
        quote = ip4(gre(bytes(50))[:8], source=NEAR, destination=FAR, protocol=47)
        for _ in range(200):
            wire.send(icmp4(3, 1, bytes(4), quote, FAR))
        wire.send(icmp4(3, 13, bytes(4), quote, FAR))
        made.wait_event(native.PathError, lambda event: event.code == 13)
        # Ten at once, and ten a second: these came in less than three.
        assert made.count_events(native.PathError) <= 41


# ---------------------------------------------------------------- life


def test_down_carries_nothing_and_up_again_does(wire: Wire) -> None:
    with plain(wire, up=False) as made:
        assert not made.tunnel.is_up
        application = made.application(OUR, 7001)
        application.sendto(b"x", (PEER, 7000))
        made.wait_drop("down")
        for _ in range(2):
            with inside(wire.near):
                made.tunnel.up()
            assert made.tunnel.is_up
            application.sendto(b"y", (PEER, 7000))
            made.receive_gre()
            made.deliver(gre(udp(b"in", source=PEER, destination=OUR)))
            assert application.recv(10) == b"in"
            made.tunnel.down()
            made.tunnel.down()
        before = made.drops("down")
        application.sendto(b"z", (PEER, 7000))
        made.wait_drop("down", before + 1)
        assert wire.silent()


def test_other_ends_while_it_runs(wire: Wire) -> None:
    for space, link, last in ((wire.near, wire.link.left, 5), (wire.far, wire.link.right, 6)):
        space.ip("address", "replace", f"192.0.2.{last}/24", "dev", link)
    with plain(wire) as made:
        application = made.application(OUR, 7001)
        made.tunnel.set_ends(packed("192.0.2.5"), packed("192.0.2.6"))
        application.sendto(b"x", (PEER, 7000))
        delivery, _ = made.receive_gre()
        assert (delivery.source, delivery.destination) == ("192.0.2.5", "192.0.2.6")
        made.deliver(gre(udp(b"old", source=PEER, destination=OUR)))
        wait_until(lambda: made.engine.carrier().no_tunnel >= 1, WITHIN_S, "the old ends are nobody's")
        # The other family.
        with inside(wire.near):
            made.tunnel.set_ends(packed(NEAR6), packed(FAR6))
        made.near, made.far = NEAR6, FAR6
        application.sendto(b"x", (PEER, 7000))
        assert made.receive_gre()[0].version == 6
        made.deliver(gre(udp(b"new", source=PEER, destination=OUR)))
        assert application.recv(10) == b"new"
        with pytest.raises(ValueError, match="different families"):
            made.tunnel.set_ends(packed(NEAR), packed(FAR6))


def test_two_tunnels_that_could_not_be_told_apart_are_refused(wire: Wire) -> None:
    engine = native.Engine()
    try:
        with inside(wire.near):
            ends: dict[str, Any] = {"local": packed(NEAR), "remote": packed(FAR)}
            engine.plain("x1", kind="gre", **ends)
            with pytest.raises(FileExistsError) as raised:
                engine.plain("x2", kind="gre", **ends)
            assert raised.value.filename == "x1"
            assert "x2" not in {link["ifname"] for link in wire.near.ip_json("link")}
            # A key, Ethernet, another protocol, UDP: each is enough.
            engine.plain("x3", kind="gre", ikey=1, **ends)
            engine.plain("x4", kind="gretap", **ends)
            engine.plain("x5", kind="ipip", **ends)
            engine.plain("x6", kind="gre", udp=(PORT, PORT, PORT), **ends)
            moved = engine.plain("x7", kind="gre", local=packed(NEAR), remote=packed("192.0.2.7"))
            with pytest.raises(FileExistsError) as raised:
                moved.set_ends(packed(NEAR), packed(FAR))
            assert raised.value.filename == "x1"
            # It kept what it had.
            with pytest.raises(FileExistsError):
                engine.plain("x8", kind="gre", local=packed(NEAR), remote=packed("192.0.2.7"))
    finally:
        engine.close()


def test_what_contradicts_itself_is_refused(wire: Wire) -> None:
    engine = native.Engine()
    try:
        for options, said in (
            ({"kind": "gre", "local": packed(NEAR), "remote": packed(FAR6)}, "different families"),
            ({"kind": "gre", "local": None, "remote": packed("224.1.2.3")}, "one other end"),
            ({"kind": "ipip", "local": packed(NEAR6), "remote": packed(FAR6)}, "over IPv4"),
            ({"kind": "sit", "local": None, "remote": packed(FAR6)}, "over IPv4"),
            ({"kind": "ip6tnl", "local": None, "remote": packed(FAR)}, "over IPv6"),
            ({"kind": "ipip", "local": None, "remote": packed(FAR), "udp": (PORT, PORT, PORT)}, "in UDP"),
            ({"kind": "gre", "local": None, "remote": packed(FAR), "udp": (0, PORT, PORT)}, "listen"),
            (
                {"kind": "gre", "local": None, "remote": packed(FAR6), "udp": (PORT, PORT, PORT), "flowlabel": 1},
                "neither encaplimit nor flowlabel",
            ),
            ({"kind": "vxlan", "local": None, "remote": packed(FAR)}, "expected gre"),
            ({"kind": "gre", "local": b"123", "remote": packed(FAR)}, "packed address"),
            ({"kind": "gre", "local": None, "remote": packed(FAR6), "flowlabel": 1 << 20}, "20 bits"),
        ):
            with pytest.raises(ValueError, match=said):
                engine.plain("x1", **options)
        with inside(wire.near), pytest.raises(OSError, match="TUNSETIFF") as raised:
            engine.plain("x" * 16, kind="gre", local=None, remote=packed(FAR))
        assert raised.value.errno == errno.EINVAL
    finally:
        engine.close()


def test_a_device_that_is_deleted_takes_only_its_own_tunnel(wire: Wire) -> None:
    with plain(wire, ikey=1, okey=1) as made:
        with inside(wire.near):
            other = made.engine.plain("y1", kind="gre", local=packed(NEAR), remote=packed(FAR), ikey=2, okey=2)
            other.up()
        wire.near.ip("link", "del", "y1")
        gone = made.wait_event(native.DeviceGone)
        assert (gone.tunnel, gone.reason) == (other.id, "the device y1 was deleted")
        with pytest.raises(OSError, match="tun_fd"):
            _ = other.tun_fd
        other.close()
        made.application(OUR).sendto(b"x", (PEER, 9))
        made.receive_gre()


def test_an_adopted_device_carries(wire: Wire) -> None:
    import fcntl

    for kind, flags in (("gre", 0x0001), ("gretap", 0x0002)):
        name = "z" + os.urandom(4).hex()
        with inside(wire.near):
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            # TUNSETIFF, IFF_NO_PI: without virtio headers.
            fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), flags | 0x1000))
        engine = native.Engine()
        try:
            with inside(wire.near):
                wrong = "gre" if kind == "gretap" else "gretap"
                with pytest.raises(OSError, match="adopt"):
                    engine.plain("", kind=wrong, local=packed(NEAR), remote=packed(FAR), tun_fd=os.dup(fd))
                tunnel = engine.plain("", kind=kind, local=packed(NEAR), remote=packed(FAR), tun_fd=fd)
                tunnel.up()
            assert tunnel.name == name
            assert tunnel.offloads()["tun_tcp"].startswith("off")
        finally:
            engine.close()


def test_a_closed_tunnel_takes_every_call(wire: Wire) -> None:
    with plain(wire) as made:
        tunnel = made.tunnel
        tunnel.close()
        tunnel.close()
        tunnel.up()
        assert not tunnel.is_up
        tunnel.down()
        tunnel.set_mtu(1000)
        tunnel.set_path_mtu(1000)
        tunnel.set_hold(True)
        tunnel.set_unreachable(1, 1)
        tunnel.set_ends(packed(NEAR), packed(FAR))
        tunnel.send_control(0, b"")
        tunnel.counters()
        tunnel.drops()
        tunnel.offloads()
        assert tunnel.name not in {link["ifname"] for link in wire.near.ip_json("link")}


def test_sockets_are_shared_and_named(wire: Wire) -> None:
    engine = native.Engine()
    assert engine.carrier().sockets == {}
    try:
        with inside(wire.near):
            tunnels = [engine.plain(f"s{key}", kind="gre", local=packed(NEAR), remote=packed(FAR), ikey=key) for key in range(3)]
            tunnels.append(engine.plain("s3", kind="ip6tnl", local=None, remote=packed(FAR6)))
            tunnels.append(engine.plain("s4", kind="gre", local=None, remote=packed(FAR), udp=(PORT, 0, PORT)))
            for tunnel in tunnels:
                tunnel.up()
        assert set(engine.carrier().sockets) == {
            "gre over IPv4", "ipv4 over IPv6", "ipv6 over IPv6", f"udp port {PORT} over IPv4", "16 udp ports over IPv4",
        }  # fmt: skip
        for tunnel in tunnels[1:]:
            tunnel.close()
        assert set(engine.carrier().sockets) == {"gre over IPv4"}
        tunnels[0].down()
        assert engine.carrier().sockets == {}
    finally:
        engine.close()


def test_offloads_say_what_is_live(wire: Wire) -> None:
    with plain(wire) as made:
        told = made.tunnel.offloads()
        assert set(told) == {"tun_tcp", "tun_udp", "udp_gso", "udp_gro", "raw"}
        assert told["tun_tcp"] == "on"
        assert told["raw"].startswith("on")
        assert told["udp_gso"] == "off (not in UDP)"
    with plain(wire, in_udp=(PORT, PORT, PORT)) as made:
        told = made.tunnel.offloads()
        assert (told["udp_gso"], told["udp_gro"], told["raw"]) == ("on", "on", "off (in UDP)")
