"""
What a protected tunnel does not let out and does not let in, each reason provoked.

Packets that come in are mostly this test's own, sealed with the keys or not, from the address of the far engine.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from ginnel import _native as native
from namespaces import fresh_net, wait_until
from native.esp_rig import NATT, Pair, keys, paired, sealed
from native.plain_rig import FAR, NEAR, OUR, PEER, Wire, gre, ip4, joined, packed, udp
from native.rig import WITHIN_S, inside

GRE, IPV4, DUMMY = 47, 4, 59
ANY4 = (bytes(4), b"\xff" * 4)
IP_RECVERR, SO_EE_ORIGIN_ICMP = 11, 2


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Two namespaces that all tests of this file share."""
    with fresh_net() as net, joined(net) as made:
        yield made


@pytest.fixture
def pair(wire: Wire) -> Iterator[Pair]:
    """A GRE tunnel, protected, without SAs."""
    with paired(wire) as made:
        yield made


def forge(pair: Pair, packet: bytes, *, source: str = FAR, port: int = NATT, tos: int = 0) -> None:
    """An ESP packet in UDP to the near engine."""
    pair.wire.send(udp(packet, source=source, destination=NEAR, sport=port, dport=NATT, tos=tos))


def inner(data: bytes = b"x" * 20, **options: Any) -> bytes:
    """What the peer's side sends through the tunnel."""
    return udp(data, source=PEER, destination=OUR, **options)


def selector(protocol: int = 0, source: tuple[bytes, bytes] = ANY4, destination: tuple[bytes, bytes] = ANY4) -> tuple[Any, ...]:
    """With any port."""
    return (protocol, 0, 65535, *source, 0, 65535, *destination)


def only(address: str) -> tuple[bytes, bytes]:
    """That one."""
    return packed(address), packed(address)


# ---------------------------------------------------------------- out


def seen_by_far(wire: Wire, canary: bytes, during: Callable[[], None]) -> bool:
    """Whether a frame with these bytes comes to the far end while something happens, or shortly after."""
    wire.flush()
    during()
    with inside(wire.near), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
        # Behind everything: nothing else is on its way when it is there.
        last.sendto(b"the end of " + canary, (FAR, 9))
    wire.tap.settimeout(WITHIN_S)
    while True:
        frame = wire.tap.recv(65536)
        if b"the end of " + canary in frame:
            return False
        if canary in frame:
            return True


@pytest.mark.parametrize("kind", ["gre", "gretap", "ipip", "ipsec"])
def test_without_an_sa_nothing_leaves_and_senders_are_told(wire: Wire, kind: str) -> None:
    """Before the first SA, after the last was taken away, when it has come to its end, and while the control plane is away."""
    canary = os.urandom(24)
    with paired(wire, kind) as pair:
        application = pair.application(0)

        def send(passing: int = 0) -> None:
            before = sum(pair.near.tunnel.drops().values())
            sent = 0
            for _ in range(20):
                # What is told of an earlier one (EHOSTUNREACH, and of Ethernet ECONNREFUSED) is told instead of sending.
                with suppress(OSError):
                    application.sendto(canary, (PEER, 9))
                    sent += 1
            least = 1 if kind == "gretap" else sent - passing
            wait_until(lambda: sum(pair.near.tunnel.drops().values()) >= before + least, WITHIN_S, f"{least} dropped")

        if kind != "gretap":
            application.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        assert not seen_by_far(wire, canary, send)
        pair.near.wait_drop("no_sa", 1)
        if kind != "gretap":
            # An Ethernet segment has no router that could say so.
            def told() -> bytes:
                try:
                    return application.recvmsg(100, 1000, socket.MSG_ERRQUEUE)[1][0][2]
                except BlockingIOError:
                    return b""

            _, origin, kind_, code = struct.unpack_from("=IBBB", wait_until(told, WITHIN_S))
            assert (origin, kind_, code) == (SO_EE_ORIGIN_ICMP, 3, 1)
            application.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 0)
        pair.near.wait_event(native.SaMissing)
        assert len(pair.near.seen(native.SaMissing)) == 1
        spis = pair.install(transport=kind != "ipsec", hard_packets=100)
        pair.echo()
        pair.near.tunnel.clear_outbound()
        assert not seen_by_far(wire, canary, send)
        pair.near.wait_event(native.SaMissing, 2)
        pair.remove(spis)
        pair.install(transport=kind != "ipsec", hard_packets=3)
        assert not seen_by_far(wire, canary, lambda: send(passing=3))
        pair.near.wait_drop("sa_exhausted", 1)
        # The other way round: what is in the clear is what the capture would have seen.
        assert seen_by_far(wire, canary, lambda: in_the_clear(wire, canary))


def in_the_clear(wire: Wire, canary: bytes) -> None:
    """The same bytes, unprotected."""
    with inside(wire.near), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(canary, (FAR, 9))


def test_what_no_selector_lets_through_stays(wire: Wire) -> None:
    with paired(wire, "ipsec") as pair:
        spis = pair.install(transport=False, only=(1,))
        spi = pair.far.tunnel.reserve_spi()
        pair.receive(1, spi, "aes128gcm16", transport=False)
        mine = [selector(17, only(OUR), only(PEER)), selector(1)]
        pair.send(0, spi, "aes128gcm16", transport=False, selectors=mine)
        pair.echo()
        pair.near.tunnel.remove_inbound(spis[0])
        assert pair.near.drops().get("no_selector", 0) == 0
        application = pair.application(0)
        application.sendto(b"x", ("10.9.0.9", 9))
        pair.near.wait_drop("no_selector")
        # IPv6 matches no selector of IPv4.
        pair.application(0, 6).sendto(b"x", ("fd09::2", 9))
        pair.near.wait_drop("no_selector", 2)


def test_hard_limits_stop_and_soft_ones_tell_once(pair: Pair) -> None:
    limits = {"soft_packets": 4, "hard_packets": 8}
    pair.install(only=(1,))
    spi = pair.far.tunnel.reserve_spi()
    pair.receive(1, spi, "aes128gcm16", transport=True)
    pair.send(0, spi, "aes128gcm16", transport=True, **limits)
    application = pair.application(0)
    for _ in range(20):
        application.sendto(b"x", (PEER, 9))
    pair.near.wait_drop("sa_exhausted", 12)
    wait_until(lambda: pair.far.sa(spi).packets == 8, WITHIN_S)
    told = [(event.spi, event.inbound, event.hard) for event in pair.near.seen(native.SaExpiring)]
    assert told[-1] == (spi, False, True)
    assert told in ([(spi, False, False), (spi, False, True)], [(spi, False, True)])


def test_inbound_limits_and_times(pair: Pair) -> None:
    spis = pair.install(hard_bytes=2000)
    application = pair.application(0)
    for _ in range(10):
        application.sendto(bytes(500), (PEER, 9))
    pair.near.wait_drop("sa_exhausted", 7)
    pair.near.tunnel.clear_outbound()
    pair.remove(spis)
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    # The sender does not know that the receiver's time is over.
    spi = pair.far.tunnel.reserve_spi()
    pair.receive(1, spi, "aes128gcm16", transport=True, hard_ns=now_ns)
    pair.send(0, spi, "aes128gcm16", transport=True)
    application.sendto(b"x", (PEER, 9))
    pair.far.wait_drop("expired_sa")
    event = pair.far.wait_event(native.SaExpiring)
    assert (event.tunnel, event.spi, event.inbound, event.hard) == (pair.far.tunnel.id, spi, True, True)
    pair.send(0, spi, "aes128gcm16", transport=True, hard_ns=now_ns, sequence=100)
    before = pair.near.tunnel.drops()["sa_exhausted"]
    application.sendto(b"x", (PEER, 9))
    pair.near.wait_drop("sa_exhausted", before + 1)


def test_numbers_never_wrap(pair: Pair) -> None:
    spis = pair.install(sequence=2**32 - 1 - 10)
    application = pair.application(0)
    for _ in range(15):
        application.sendto(b"x", (PEER, 9))
    pair.near.wait_drop("sa_exhausted", 5)
    wait_until(lambda: pair.far.sa(spis[1]).packets == 10, WITHIN_S)
    assert pair.near.tunnel.associations()[0].sequence == 2**32 - 1


def test_with_esn_they_go_on_past_32_bits(pair: Pair) -> None:
    for suite in ("aes256gcm16", "chacha20poly1305", "aes128-sha256"):
        spis = pair.install(suite, esn=True, sequence=2**32 - 30)
        pair.echo(times=50)
        assert pair.near.tunnel.associations()[0].sequence >= 2**32 + 20
        assert pair.far.sa(spis[1]).sequence >= 2**32 + 20
        pair.remove(spis)


# ---------------------------------------------------------------- in


def test_replays_and_forgeries_are_dropped_each_for_its_reason(pair: Pair) -> None:
    spi = pair.near.tunnel.reserve_spi()
    pair.receive(0, spi, "aes128gcm16", transport=True, replay_window=64)
    body = gre(inner())

    def packet(number: int, **options: Any) -> bytes:
        return sealed(spi, number, body, GRE, direction=1, **options)

    for number in (1, 2, 100):
        forge(pair, packet(number))
    wait_until(lambda: pair.near.sa(spi).packets == 3, WITHIN_S)
    for number in (100, 0):
        forge(pair, packet(number))
    pair.near.wait_drop("replayed", 2)
    for number in (1, 2, 36):
        forge(pair, packet(number))
    pair.near.wait_drop("too_old", 3)
    good = packet(101)
    for at in (4, 8, 20, len(good) - 1):
        wrong = bytearray(good)
        wrong[at] ^= 1
        if at == 4:
            # Another number: with the highest bit it lies far ahead.
            wrong[at] ^= 0x80
        forge(pair, bytes(wrong))
    forge(pair, sealed(spi, 101, body, GRE, direction=0))
    pair.near.wait_drop("bad_icv", 5)
    # None of them has moved the window.
    forge(pair, good)
    wait_until(lambda: pair.near.sa(spi).packets == 4, WITHIN_S)
    sa = pair.near.sa(spi)
    assert (sa.sequence, sa.drops["replayed"], sa.drops["too_old"], sa.drops["bad_icv"]) == (101, 2, 3, 5)


def test_what_is_genuine_and_makes_no_sense_is_dropped(pair: Pair) -> None:
    spi, _ = pair.install(only=(1,))
    numbers = iter(range(1, 100))

    def send(payload: bytes, next_header: int = GRE, **options: Any) -> None:
        forge(pair, sealed(spi, next(numbers), payload, next_header, direction=1, **options))

    send(b"", DUMMY)
    pair.near.wait_drop("dummy")
    send(inner(), IPV4)
    pair.near.wait_drop("wrong_mode")
    send(gre(inner()), padding=b"\1\2\4\5")
    forge(pair, struct.pack("!II", spi, 50) + bytes(20))
    forge(pair, struct.pack("!II", spi, 50) + bytes(33))
    pair.near.wait_drop("esp_malformed", 3)
    send(gre(inner(), key=7))
    pair.near.wait_drop("key_mismatch")
    send(gre(inner())[:3])
    pair.near.wait_drop("header_truncated")
    send(gre(inner(), 0x6558))
    pair.near.wait_drop("unknown_protocol")
    send(gre(inner()[:15]))
    pair.near.wait_drop("inner_malformed")
    # And still it carries.
    application = pair.application(0)
    port = application.getsockname()[1]
    send(gre(inner(b"last", dport=port)))
    assert application.recv(100) == b"last"
    assert {reason: count for reason, count in pair.near.drops().items() if reason != "no_sa"} == {
        "dummy": 1,
        "wrong_mode": 1,
        "esp_malformed": 3,
        "key_mismatch": 1,
        "header_truncated": 1,
        "unknown_protocol": 1,
        "inner_malformed": 1,
    }


def test_in_tunnel_mode_the_delivery_header_inside_is_the_tunnels_own(pair: Pair) -> None:
    spi, _ = pair.install(transport=False, only=(1,))
    numbers = iter(range(1, 100))

    def send(packet: bytes, next_header: int = IPV4) -> None:
        forge(pair, sealed(spi, next(numbers), packet, next_header, direction=1))

    body = gre(inner())
    for source, destination in ((FAR, "192.0.2.9"), ("192.0.2.9", NEAR)):
        send(ip4(body, source=source, destination=destination, protocol=GRE))
    pair.near.wait_drop("selectors", 2)
    send(ip4(body, source=FAR, destination=NEAR, protocol=IPV4))
    send(ip4(body, source=FAR, destination=NEAR, protocol=GRE, fragment=0x2000))
    send(body, GRE)
    pair.near.wait_drop("wrong_mode", 3)
    send(body, IPV4)
    pair.near.wait_drop("esp_malformed", 1)
    # What hides the length of a packet lies behind it.
    application = pair.application(0)
    port = application.getsockname()[1]
    send(ip4(gre(inner(b"last", dport=port)), source=FAR, destination=NEAR, protocol=GRE) + bytes(100))
    assert application.recv(100) == b"last"


def test_selectors_hold_on_arrival(wire: Wire) -> None:
    with paired(wire, "ipsec") as pair:
        spi = pair.near.tunnel.reserve_spi()
        mine = [selector(17, only(PEER), only(OUR))]
        pair.receive(0, spi, "aes128gcm16", transport=False, selectors=mine)
        forge(pair, sealed(spi, 1, udp(b"x", source="10.9.0.7", destination=OUR), IPV4, direction=1))
        forge(pair, sealed(spi, 2, ip4(b"x" * 8, source=PEER, destination=OUR, protocol=1), IPV4, direction=1))
        pair.near.wait_drop("selectors", 2)
        application = pair.application(0)
        forge(pair, sealed(spi, 3, inner(b"y", dport=application.getsockname()[1]), IPV4, direction=1))
        assert application.recv(100) == b"y"
        assert pair.near.sa(spi).drops["selectors"] == 2


def test_what_comes_without_protection_does_not_come_in(pair: Pair) -> None:
    """Nor does it where a plain tunnel would take it from anywhere."""
    pair.install()
    engine = pair.near.engine
    with inside(pair.wire.near):
        other = engine.plain("o" + os.urandom(4).hex(), kind="gre", local=None, remote=None)
        other.up()
    before = pair.near.tunnel.counters().rx_packets
    for packet in (gre(inner()), gre(inner(), key=9)):
        pair.wire.send(ip4(packet, source=FAR, destination=NEAR, protocol=GRE))
    pair.near.wait_drop("unprotected", 1)
    assert pair.near.tunnel.counters().rx_packets == before
    wait_until(lambda: other.drops()["key_mismatch"] + pair.near.tunnel.drops()["unprotected"] >= 2, WITHIN_S)
    # A plain one with the same ends there is not.
    with pytest.raises(FileExistsError) as refused:
        engine.plain("o" + os.urandom(4).hex(), kind="gre", local=packed(NEAR), remote=packed(FAR))
    assert refused.value.filename == pair.near.tunnel.name
    # But another protected one, of a second peer behind the same NAT.
    engine.plain("o" + os.urandom(4).hex(), kind="gre", local=packed(NEAR), remote=packed(FAR), protected=True).close()


def test_a_tunnel_that_is_down_takes_and_sends_nothing(pair: Pair) -> None:
    spi, _ = pair.install()
    pair.echo()
    pair.near.tunnel.down()
    pair.application(1).sendto(b"x", (OUR, 9))
    pair.near.wait_drop("down")
    before = pair.near.sa(spi).packets
    pair.application(0).sendto(b"x", (PEER, 9))
    pair.near.wait_drop("down", 2)
    assert pair.near.sa(spi).packets == before
    with inside(pair.wire.near):
        pair.near.tunnel.up()
    pair.echo()


# ---------------------------------------------------------------- what is told


def test_an_unknown_spi_is_counted_and_told_once_a_source(pair: Pair) -> None:
    stray = struct.pack("!II", 0x7777_7777, 1) + bytes(40)
    for _ in range(5):
        forge(pair, stray, port=1234)
    wait_until(lambda: pair.near.ports.counters()["unknown_spi"] == 5, WITHIN_S)
    pair.wire.send(ip4(stray, source="192.0.2.44", destination=NEAR, protocol=50))
    wait_until(lambda: pair.near.ports.counters()["unknown_spi"] == 6, WITHIN_S)
    pair.near.wait_event(native.UnknownSpi, 2)
    first, second = pair.near.seen(native.UnknownSpi)
    assert (first.spi, first.remote, first.remote_port, first.local, first.natt) == (
        0x7777_7777, packed(FAR), 1234, packed(NEAR), True,
    )  # fmt: skip
    assert (second.remote, second.remote_port, second.natt) == (packed("192.0.2.44"), 0, False)


def test_the_first_genuine_packet_is_told_and_so_is_where_the_peer_has_moved(pair: Pair) -> None:
    spi, _ = pair.install()
    assert pair.near.seen(native.SaUsed) == []
    body = gre(inner())
    forge(pair, sealed(spi, 1000, body, GRE, direction=0), port=9999)
    pair.near.wait_drop("bad_icv")
    assert pair.near.seen(native.SaUsed) == []
    assert pair.near.seen(native.SaMoved) == []
    for number in range(1, 6):
        forge(pair, sealed(spi, 1000 + number, body, GRE, direction=1), port=9999)
    used = pair.near.wait_event(native.SaUsed)
    assert (used.tunnel, used.spi) == (pair.near.tunnel.id, spi)
    moved = pair.near.wait_event(native.SaMoved)
    assert (moved.tunnel, moved.spi, moved.remote, moved.remote_port) == (pair.near.tunnel.id, spi, packed(FAR), 9999)
    wait_until(lambda: pair.near.sa(spi).packets == 5, WITHIN_S)
    assert len(pair.near.seen(native.SaMoved)) == len(pair.near.seen(native.SaUsed)) == 1
    # Nothing was changed.
    assert pair.near.tunnel.counters().remote == (packed(FAR), NATT)
    pair.near.tunnel.set_outbound_path(packed(NEAR), packed(FAR), NATT, 9999)
    assert pair.near.tunnel.counters().remote == (packed(FAR), 9999)
    with inside(pair.wire.far), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as moved_to:
        moved_to.bind((FAR, 9999))
        moved_to.settimeout(WITHIN_S)
        pair.application(0).sendto(b"x", (PEER, 9))
        assert len(moved_to.recv(1000)) > 40
    forge(pair, sealed(spi, 1100, body, GRE, direction=1), source="192.0.2.55", port=NATT)
    moved = pair.near.wait_event(native.SaMoved, 2)
    assert (moved.remote, moved.remote_port) == (packed("192.0.2.55"), NATT)


# ---------------------------------------------------------------- what is given


def test_what_is_given_is_checked(pair: Pair) -> None:
    tunnel = pair.near.tunnel
    spis = [tunnel.reserve_spi() for _ in range(5)]
    assert len(set(spis)) == 5
    assert min(spis) >= 256
    tunnel.release_spi(spis[4])
    for spi in spis[:4]:
        tunnel.add_inbound(spi, transport=True, **keys("aes128gcm16", 1))
    with pytest.raises(OSError) as full:
        tunnel.add_inbound(spis[4], transport=True, **keys("aes128gcm16", 1))
    assert full.value.errno == errno.ENOBUFS
    tunnel.remove_inbound(spis[0])
    tunnel.remove_inbound(spis[0])
    assert [sa.spi for sa in tunnel.associations()] == spis[1:4]

    def refused(match: str, spi: int = 300, **given: Any) -> None:
        terms = {"transport": True, **keys("aes128gcm16", 1), **given}
        with pytest.raises(ValueError, match=match):
            tunnel.add_inbound(spi, **terms)

    refused("already", spis[1])
    refused("256 or more", 255)
    refused("takes a key of 36 bytes", suite="aes256gcm16")
    refused("expected one of", suite="des")
    refused("replay window", replay_window=65537)
    refused("replay window", replay_window=0, esn=True)
    refused("one family", selectors=[(0, 0, 65535, *ANY4, 0, 65535, bytes(16), bytes(16))])
    refused("backwards", selectors=[(0, 9, 5, *ANY4, 0, 65535, *ANY4)])
    taken = keys("aes128gcm16", 1)
    taken["key"].split(20)
    refused("taken|used", **taken)
    path = {"local": packed(NEAR), "remote": packed(FAR)}
    for match, given in (
        ("different families", {"remote": bytes(16)}),
        ("NAT traversal", {"local_port": 4501, "remote_port": 4500}),
        ("used up", {"sequence": 2**32}),
        ("copy, set or clear", {"df": "keep"}),
    ):
        with pytest.raises(ValueError, match=match):
            tunnel.set_outbound(300, transport=True, **keys("aes128gcm16", 0), **{**path, **given})
    with pytest.raises(KeyError):
        tunnel.set_outbound_path(packed(NEAR), packed(FAR), 0, 0)
    assert [sa.inbound for sa in tunnel.associations()] == [True] * 3
    tunnel.clear_outbound()


def test_only_protected_tunnels_have_sas_and_bare_ones_no_transport(wire: Wire) -> None:
    engine = native.Engine()
    with inside(wire.near):
        plain = engine.plain("o" + os.urandom(4).hex(), kind="gre", local=None, remote=packed(FAR))
        bare = engine.plain("o" + os.urandom(4).hex(), kind="ipsec", local=None, remote=None)
        for call in (plain.reserve_spi, plain.clear_outbound, plain.associations, lambda: plain.remove_inbound(300)):
            with pytest.raises(ValueError, match="not protected"):
                call()
        with pytest.raises(ValueError, match="tunnel mode"):
            bare.add_inbound(300, transport=True, **keys("aes128gcm16", 0))
        with pytest.raises(ValueError, match="ESP"):
            engine.plain("o" + os.urandom(4).hex(), kind="gre", local=None, remote=None, udp=(1, 1, 1), protected=True)
    engine.close()


def test_a_closed_tunnel_gives_its_spis_back(pair: Pair) -> None:
    spi, other = pair.install()
    pair.far.tunnel.close()
    stray = sealed(spi, 5, gre(inner()), GRE, direction=1)
    forge(pair, stray)
    wait_until(lambda: pair.near.sa(spi).packets == 1, WITHIN_S)
    pair.application(0).sendto(b"x", (PEER, 9))
    wait_until(lambda: pair.far.ports.counters()["unknown_spi"] >= 1, WITHIN_S)
    with pytest.raises(OSError):
        pair.far.tunnel.add_inbound(other, transport=True, **keys("aes128gcm16", 0))
    pair.near.ports.close()
    pair.application(0).sendto(b"x", (PEER, 9))
    pair.near.wait_drop("no_sa")
