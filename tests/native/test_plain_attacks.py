"""
Plain tunnels under attack: what a stranger, or a slow link, must not be able to do to those who have nothing to do with it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from ginnel import _native as native
from namespaces import fresh_net, wait_until
from native.plain_rig import FAR, NEAR, OUR, PEER, PORT, Wire, gre, ip4, joined, packed, plain, udp
from native.rig import WITHIN_S, inside
from native.test_plain import icmp4

#: How long a packet of one tunnel may take while another waits for its slow link.
QUICK_S = 1.0


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """One pair of namespaces for all tests here."""
    with fresh_net() as net, joined(net) as made:
        yield made


def test_a_learned_port_does_not_make_an_address_believed(wire: Wire) -> None:
    """Without a key anybody could take over a tunnel whose remote is open, by one packet."""
    with plain(wire, remote=None, in_udp=(PORT, PORT, 0)) as made:
        application = made.application(OUR, 7001)
        made.deliver(gre(udp(b"in", source=PEER, destination=OUR)))
        assert application.recv(10) == b"in"
        assert made.tunnel.counters().remote is None
        application.sendto(b"x", (PEER, 7000))
        made.wait_drop("no_remote")


def test_an_icmp_error_that_hides_the_key_is_not_believed(wire: Wire) -> None:
    """Who does not know the key cannot forge a path MTU: a quote of eight bytes has the key of every packet without checksum."""
    with plain(wire, ikey=1, okey=1) as made:
        rest = struct.pack("!HH", 0, 600)
        for forged in (
            gre(b"", key=1, csum=True),  # a checksum, which we do not send, before the key
            gre(bytes(4)),  # no key
            gre(b"", key=1, seq=3),
            gre(b"", key=1, flags=0x0001),  # another version
            gre(b"", key=1, flags=0x4000),
        ):
            quote = ip4(forged, source=NEAR, destination=FAR, protocol=47)
            wire.send(icmp4(3, 4, rest, quote[:28], FAR))
        later = ip4(bytes(8), source=NEAR, destination=FAR, protocol=47, fragment=7)
        wire.send(icmp4(3, 4, rest, later, FAR))
        quote = ip4(gre(b"", key=1), source=NEAR, destination=FAR, protocol=47)
        wire.send(icmp4(3, 4, struct.pack("!HH", 0, 1400), quote, FAR))
        made.wait_event(native.PathError, lambda event: event.mtu == 1400)
        assert made.count_events(native.PathError) == 1


def test_invented_icmp_errors_do_not_hide_those_that_are_meant(wire: Wire) -> None:
    """A stranger's errors about others are not counted against the number that is looked up in a second."""
    with plain(wire) as made:
        invented = ip4(gre(bytes(8)), source=NEAR, destination="192.0.2.77", protocol=47)
        junk = icmp4(3, 3, bytes(4), invented, FAR)
        meant = icmp4(3, 4, struct.pack("!HH", 0, 1400), ip4(gre(bytes(8)), source=NEAR, destination=FAR, protocol=47), FAR)
        for _ in range(5000):
            wire.send(junk)
        wire.send(meant)
        made.wait_event(native.PathError, lambda event: event.mtu == 1400)


def test_an_icmp_error_that_quotes_no_more_than_udp_is_for_a_tunnel_without_key(wire: Wire) -> None:
    """With keys there may be a thousand between two ends, and each would have to be told."""
    for key, told in ((1, 0), (None, 1)):
        with plain(wire, ikey=key, okey=key, in_udp=(PORT, PORT, PORT)) as made:
            made.application(OUR).sendto(b"x", (PEER, 9))
            made.receive()
            whole = udp(gre(bytes(30), key=key), source=NEAR, destination=FAR, sport=PORT, dport=PORT)
            for mtu, quote in ((1300, whole[:28]), (1200, whole)):
                wire.send(icmp4(3, 4, struct.pack("!HH", 0, mtu), quote, FAR))
            made.wait_event(native.PathError, lambda event: event.mtu == 1200)
            assert made.count_events(native.PathError) == told + 1


def test_an_empty_datagram_is_counted(wire: Wire) -> None:
    with plain(wire, in_udp=(PORT, PORT, PORT)) as made:
        made.deliver(b"")
        made.wait_drop("header_truncated")


def test_another_remote_counts_its_packets_anew(wire: Wire) -> None:
    """A remote whose name means another host now must not be shut out by the numbers of the one before."""
    with plain(wire, iseq=True) as made:
        application = made.application(OUR, 7001)
        made.deliver(gre(udp(b"old", source=PEER, destination=OUR), seq=100_000))
        assert application.recv(10) == b"old"
        made.tunnel.set_ends(packed(NEAR), packed("192.0.2.9"))
        made.deliver(gre(udp(b"new", source=PEER, destination=OUR), seq=0), source="192.0.2.9")
        assert application.recv(10) == b"new"
        made.tunnel.set_ends(None, packed("192.0.2.9"))
        made.deliver(gre(udp(b"twice", source=PEER, destination=OUR), seq=0), source="192.0.2.9")
        made.wait_drop("out_of_order")


def test_packets_with_and_without_df_keep_their_order_in_udp(wire: Wire) -> None:
    """The far end of a tunnel with sequence numbers drops whatever comes late."""
    with plain(wire, in_udp=(PORT, PORT, PORT), pmtudisc=False, oseq=True, offload=False) as made:
        count = 200
        with inside(wire.near), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as device:
            for number in range(count):
                packet = udp(b"%3d" % number, source=OUR, destination=PEER, df=number % 3 == 0)
                device.sendto(packet, (made.tunnel.name, 0x0800))
        numbers = [made.receive_gre()[1].sequence for _ in range(count)]
        assert numbers == list(range(count))


@pytest.mark.parametrize("in_udp", [None, (PORT, PORT, PORT)], ids=["raw", "udp"])
def test_a_slow_link_of_one_tunnel_is_not_that_of_the_next(in_udp: tuple[int, int, int] | None) -> None:
    """A flood that waits for a link of 1 Mb/s fills what its socket may have under way; another tunnel leaves by another link."""
    with fresh_net() as net, joined(net) as wire:
        behind = net.namespace("s")
        slow = net.veth(wire.near, behind, ["198.51.100.1/24"], ["198.51.100.2/24"], mtu=1500)
        shaped = ("tc", "qdisc", "add", "dev", slow.left, "root", "tbf", "rate", "1mbit", "burst", "10kb", "limit", "2mb")
        wire.near.run(*shaped)
        with plain(wire, ikey=1, okey=1, in_udp=in_udp) as made:
            ends = {"local": packed("198.51.100.1"), "remote": packed("198.51.100.2")}
            with inside(wire.near):
                other = made.engine.plain("slow", kind="gre", **ends, ikey=2, okey=2, mtu=1400, udp=in_udp)
                other.up()
            wire.near.write_proc("/proc/sys/net/ipv6/conf/slow/disable_ipv6", "1")
            wire.near.ip("address", "add", "10.8.0.1/24", "dev", "slow")
            wire.near.ip("link", "set", "slow", "up")
            stop = threading.Event()
            flooding = made.application("10.8.0.1")

            def flood() -> None:
                while not stop.is_set():
                    with contextlib.suppress(OSError):
                        flooding.sendto(bytes(1300), ("10.8.0.2", 9))

            worker = threading.Thread(target=flood)
            worker.start()
            try:
                wait_until(lambda: other.counters().tx_packets > 500, WITHIN_S, "the flood")
                application = made.application(OUR, 7001)
                waited = []
                for number in range(20):
                    began = time.monotonic()
                    application.sendto(b"%02d" % number, (PEER, 7000))
                    while not made.receive_gre(5.0)[1].payload.endswith(b"%02d" % number):
                        pass
                    waited.append(time.monotonic() - began)
            finally:
                stop.set()
                worker.join()
            assert max(waited) < QUICK_S, waited
            assert made.all_drops() == {}
