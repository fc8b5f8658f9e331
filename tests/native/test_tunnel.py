"""
The engine's tunnel, one rule a test, with the test as the peer: what it sends, what it lets in, what it refuses and why.

Numbers such as R2 are those of the list of mistakes that implementations made.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from ginnel import _native as native
from namespaces import Net, wait_until
from native.rig import (
    OUR_ADDRESS,
    OUR_ADDRESS6,
    PEER_ADDRESS,
    PEER_ADDRESS6,
    WITHIN_S,
    Rig,
    checksum,
    inside,
    ipv4,
    prefix,
    rig,
    secret,
    udp4,
)

MTU = 1420
IP_RECVERR = 11
IPV6_RECVERR = 25
UDP_SEGMENT = 103


@pytest.fixture(params=[True, False], ids=["offload", "plain"])
def tun(request: pytest.FixtureRequest, net: Net) -> Iterator[Rig]:
    """A tunnel with and without segmentation offloads."""
    with rig(net.namespace("n"), offload=request.param) as made:
        yield made


@pytest.fixture
def one(net: Net) -> Iterator[Rig]:
    """A tunnel, for what offloads cannot change."""
    with rig(net.namespace("n")) as made:
        yield made


def confirmed(made: Rig) -> Rig:
    """With a session, its first keepalive read."""
    made.session()
    counter, inner = made.receive_inner()
    assert (counter, inner) == (0, b"")
    return made


# ---------------------------------------------------------------- sending


def test_initiator_confirms_with_an_empty_packet(one: Rig) -> None:
    one.session(remote_index=0xCAFEF00D)
    datagram = one.receive()
    assert len(datagram) == 32
    assert struct.unpack_from("<IIQ", datagram) == (4, 0xCAFEF00D, 0)
    assert one.open(datagram) == (0, b"")


def test_staged_packets_leave_in_order_and_instead_of_the_keepalive(tun: Rig) -> None:
    application = tun.udp_socket(OUR_ADDRESS)
    for number in range(40):
        application.sendto(bytes([number]) * 20, (PEER_ADDRESS, 9))
    needed = tun.wait_event(native.SessionNeeded)
    assert (needed.peer, needed.reason) == (tun.peer, "packets")
    wait_until(lambda: tun.tunnel.peer_counters(tun.peer).staged == 40, WITHIN_S, "40 staged")
    tun.session()
    got = [tun.receive_inner() for _ in range(40)]
    assert [counter for counter, _ in got] == list(range(40))
    assert [inner[28] for _, inner in got] == list(range(40))
    tun.engine.drain()
    assert not [event for event in tun.engine.drain() if isinstance(event, native.SessionNeeded)]


def test_staging_is_bounded_and_the_oldest_gives_way(one: Rig) -> None:
    application = one.udp_socket(OUR_ADDRESS)
    for number in range(130):
        application.sendto(bytes([number]), (PEER_ADDRESS, 9))
    one.wait_drop("staged_overflow", 2)
    one.session()
    assert one.receive_inner()[1][28] == 2


def test_padding_is_zeros_to_sixteen_clamped_to_the_mtu(tun: Rig) -> None:
    """R9."""
    confirmed(tun)
    application = tun.udp_socket(OUR_ADDRESS)
    for size in (0, 1, 3, 4, 5, 100, MTU - 28 - 5, MTU - 28 - 4, MTU - 28 - 1, MTU - 28):
        application.sendto(b"\xff" * size, (PEER_ADDRESS, 9))
        _, inner = tun.receive_inner()
        packet = 28 + size
        assert len(inner) == min(-(-packet // 16) * 16, MTU), size
        assert struct.unpack_from("!H", inner, 2)[0] == packet
        assert not any(inner[packet:])


def test_ecn_is_copied_out_and_dscp_is_not(tun: Rig) -> None:
    """RFC 6040; DSCP would tell the network what is inside."""
    confirmed(tun)
    tun.socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    application = tun.udp_socket(OUR_ADDRESS)
    tun.socket.settimeout(WITHIN_S)
    for tos in (0x00, 0x01, 0x02, 0xB8, 0xBA):
        application.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        application.sendto(b"x", (PEER_ADDRESS, 9))
        datagram, ancillary, _, _ = tun.socket.recvmsg(2048, 64)
        assert ancillary[0][2][0] == tos & 3
        assert tun.open(datagram)[1][1] == tos


def test_handshakes_carry_af41(one: Rig) -> None:
    one.socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    one.tunnel.send_handshake(one.peer, b"h" * 148)
    one.socket.settimeout(WITHIN_S)
    datagram, ancillary, _, _ = one.socket.recvmsg(2048, 64)
    assert (datagram, ancillary[0][2][0]) == (b"h" * 148, 0x88)


def test_no_peer_and_no_endpoint_are_answered_with_icmp(one: Rig) -> None:
    one.space.ip("route", "add", "198.51.100.0/24", "dev", one.tunnel.name)
    application = one.udp_socket(OUR_ADDRESS)
    # Host unreachable is a soft error: a UDP socket hears of it only when it asks.
    application.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    application.connect(("198.51.100.1", 9))
    application.send(b"nobody")
    with pytest.raises(OSError) as caught:
        application.recv(100)
    assert caught.value.errno == errno.EHOSTUNREACH
    assert one.drops("no_peer") == 1
    bare = one.tunnel.add_peer(os.urandom(32))
    one.tunnel.set_allowed_ips(bare, [prefix("198.51.100.0", 24)], True)
    application.send(b"nowhere")
    with pytest.raises(OSError) as caught:
        application.recv(100)
    assert caught.value.errno == errno.EHOSTUNREACH
    assert one.drops("no_endpoint") == 1


# ---------------------------------------------------------------- receiving


def test_a_packet_is_delivered_trimmed_of_its_padding(tun: Rig) -> None:
    confirmed(tun)
    application = tun.udp_socket(OUR_ADDRESS, 7001)
    for size in (0, 1, 17, 500, 1392):
        data = os.urandom(size)
        tun.send(tun.seal(udp4(data, source=PEER_ADDRESS, destination=OUR_ADDRESS)))
        assert application.recv(2000) == data


def test_replayed_and_stale_counters_are_refused(tun: Rig) -> None:
    """R16: 8,000 late is in time, 8,193 late is not; nothing is delivered twice."""
    confirmed(tun)
    application = tun.udp_socket(OUR_ADDRESS, 7001)
    packet = udp4(b"p", source=PEER_ADDRESS, destination=OUR_ADDRESS)
    for counter, fresh in ((20_000, True), (20_000, False), (12_000, True), (12_000, False), (20_000 - 8193, False)):
        before = tun.drops("replay")
        tun.send(tun.seal(packet, counter=counter))
        if fresh:
            assert application.recv(100) == b"p"
        else:
            tun.wait_drop("replay", before + 1)
    assert tun.drops("replay") == 3


def test_reject_after_messages_is_enforced_on_receive(one: Rig) -> None:
    """R3."""
    confirmed(one)
    packet = udp4(b"p", source=PEER_ADDRESS, destination=OUR_ADDRESS)
    limit = native.CONSTANTS["REJECT_AFTER_MESSAGES"]
    for counter in (limit, 2**64 - 1):
        one.send(one.seal(packet, counter=counter))
    one.wait_drop("counter_limit", 2)
    application = one.udp_socket(OUR_ADDRESS, 7001)
    one.send(one.seal(packet, counter=limit - 1))
    assert application.recv(100) == b"p"


def test_another_peers_prefix_is_refused_although_the_endpoint_roams(one: Rig) -> None:
    """R2: the check is on the interface-wide table; roaming comes before it."""
    confirmed(one)
    nested = one.tunnel.add_peer(os.urandom(32))
    one.tunnel.set_allowed_ips(nested, [prefix("10.9.0.2", 32)], False)
    with inside(one.space):
        elsewhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    elsewhere.bind(("127.0.0.1", 0))
    spoofed = one.seal(udp4(b"p", source=PEER_ADDRESS, destination=OUR_ADDRESS))
    elsewhere.sendto(spoofed, ("127.0.0.1", one.tunnel.listen_port))
    one.wait_drop("source_not_allowed")
    assert one.wait_event(native.EndpointChanged).peer == one.peer
    assert one.tunnel.peer_counters(one.peer).endpoint[:2] == (socket.inet_aton("127.0.0.1"), elsewhere.getsockname()[1])
    elsewhere.close()


def test_nothing_moves_before_the_tag_is_checked(one: Rig) -> None:
    """R20: a forged packet changes no endpoint, no counter, no timer."""
    confirmed(one)
    before = one.tunnel.peer_counters(one.peer)
    with inside(one.space):
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    good = bytearray(one.seal(udp4(b"p", source=PEER_ADDRESS, destination=OUR_ADDRESS)))
    good[-1] ^= 1
    stranger.sendto(bytes(good), ("127.0.0.1", one.tunnel.listen_port))
    one.wait_drop("authentication_failed")
    after = one.tunnel.peer_counters(one.peer)
    assert (after.endpoint, after.rx_bytes, after.last_receive_ns) == (before.endpoint, before.rx_bytes, before.last_receive_ns)
    stranger.close()


def test_inner_packets_that_lie_about_their_length_are_refused(tun: Rig) -> None:
    confirmed(tun)
    whole = udp4(b"payload", source=PEER_ADDRESS, destination=OUR_ADDRESS)
    for bad in (
        whole[:2] + b"\xff\xff" + whole[4:],
        whole[:2] + struct.pack("!H", 19) + whole[4:],
        b"\x05" + whole[1:],
        b"\x44" + whole[1:],
        b"\x60" + bytes(38),
        b"E",
    ):
        before = tun.drops("inner_malformed")
        tun.send(tun.seal(bad, pad=False))
        tun.wait_drop("inner_malformed", before + 1)


def test_ecn_ce_on_the_outside_reaches_the_inside(tun: Rig) -> None:
    confirmed(tun)
    application = tun.udp_socket(OUR_ADDRESS, 7001)
    application.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    tun.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 3)
    for inner, seen in ((0x02, 0x03), (0xB8 | 2, 0xB8 | 3), (0x00, 0x00)):
        tun.send(tun.seal(udp4(b"e", source=PEER_ADDRESS, destination=OUR_ADDRESS, tos=inner)))
        _, ancillary, _, _ = application.recvmsg(100, 64)
        assert ancillary[0][2][0] == seen


@pytest.mark.parametrize("size", [0, 1, 3, 4, 15, 16, 31, 32, 33, 64, 92, 147, 148, 149, 1500, 65_507])
def test_datagrams_of_any_size_leave_the_thread_alive(tun: Rig, size: int) -> None:
    """R1."""
    confirmed(tun)
    for first in range(6):
        tun.send((struct.pack("<I", first) + os.urandom(size))[:size])
    application = tun.udp_socket(OUR_ADDRESS, 7001)
    tun.send(tun.seal(udp4(b"alive", source=PEER_ADDRESS, destination=OUR_ADDRESS)))
    assert application.recv(100) == b"alive"


def test_bursts_of_datagrams_are_delivered_in_order(tun: Rig) -> None:
    confirmed(tun)
    application = tun.udp_socket(OUR_ADDRESS, 7001)
    application.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sent = [struct.pack("!I", number) + bytes(number % 700) for number in range(200)]
    for data in sent:
        tun.send(tun.seal(udp4(data, source=PEER_ADDRESS, destination=OUR_ADDRESS)))
    assert [application.recv(2000) for _ in sent] == sent


# ---------------------------------------------------------------- sessions


def test_responder_is_silent_until_the_first_packet(one: Rig) -> None:
    application = one.udp_socket(OUR_ADDRESS)
    application.sendto(b"early", (PEER_ADDRESS, 9))
    wait_until(lambda: one.tunnel.peer_counters(one.peer).staged == 1, WITHIN_S, "staged")
    one.session(initiator=False)
    assert one.silence()
    one.send(one.seal(b""))
    event = one.wait_event(native.SessionConfirmed)
    assert (event.peer, event.index) == (one.peer, one.index)
    assert one.receive_inner()[1][28:33] == b"early"


def test_previous_session_still_opens_after_a_rekey(one: Rig) -> None:
    confirmed(one)
    late = one.seal(udp4(b"late", source=PEER_ADDRESS, destination=OUR_ADDRESS))
    one.session(send=0x51, receive=0x52)
    assert one.receive_inner() == (0, b"")
    application = one.udp_socket(OUR_ADDRESS, 7001)
    one.send(late)
    assert application.recv(100) == b"late"


def test_a_key_installs_once(one: Rig) -> None:
    """R22: no key ever seals twice."""
    keys = (secret(1), secret(2))
    one.tunnel.install_session(one.peer, one.tunnel.reserve_index(one.peer), 1, *keys, True)
    with pytest.raises(ValueError, match="used once"):
        one.tunnel.install_session(one.peer, one.tunnel.reserve_index(one.peer), 1, *keys, True)
    index = one.tunnel.reserve_index(one.peer)
    one.tunnel.install_session(one.peer, index, 1, secret(3), secret(4), True)
    with pytest.raises(ValueError, match="reserved"):
        one.tunnel.install_session(one.peer, index, 1, secret(5), secret(6), True)


def test_expired_sessions_ask_for_a_handshake_and_still_open(one: Rig) -> None:
    confirmed(one)
    one.tunnel.expire_session(one.peer)
    one.udp_socket(OUR_ADDRESS).sendto(b"x", (PEER_ADDRESS, 9))
    assert one.wait_event(native.SessionNeeded).reason == "packets"
    assert one.silence()
    application = one.udp_socket(OUR_ADDRESS, 7001)
    one.send(one.seal(udp4(b"in", source=PEER_ADDRESS, destination=OUR_ADDRESS)))
    assert application.recv(100) == b"in"


def test_zeroed_sessions_are_unknown(one: Rig) -> None:
    confirmed(one)
    one.tunnel.zero_sessions(one.peer)
    one.send(one.seal(b""))
    one.wait_drop("unknown_index")
    assert one.tunnel.peer_counters(one.peer).session == "none"


def test_indices_are_unpredictable_and_unique(one: Rig) -> None:
    """R8: no pattern in any bit; 4,096 draws make each bit's count stray by less than five standard deviations."""
    draws = 4096
    indices = [one.tunnel.reserve_index(one.peer) for _ in range(draws)]
    assert len(set(indices)) == draws
    for bit in range(32):
        ones = sum(index >> bit & 1 for index in indices)
        assert abs(ones - draws / 2) < 5 * (draws / 4) ** 0.5, bit
    for index in indices:
        one.tunnel.release_index(index)


def test_removed_peer_is_gone_everywhere(one: Rig) -> None:
    confirmed(one)
    one.tunnel.remove_peer(one.peer)
    one.send(one.seal(b""))
    one.wait_drop("unknown_index")
    with pytest.raises(KeyError):
        one.tunnel.peer_counters(one.peer)
    assert one.tunnel.counters() == []


# ---------------------------------------------------------------- timers, in real time


def test_turning_on_persistent_keepalive_speaks_at_once_and_again(one: Rig) -> None:
    confirmed(one)
    one.tunnel.set_keepalive(one.peer, 1)
    assert one.receive_inner() == (1, b"")
    assert one.receive_inner(2.5) == (2, b"")
    one.tunnel.set_keepalive(one.peer, 0)


def test_keepalive_without_a_session_asks_for_one(one: Rig) -> None:
    one.tunnel.set_keepalive(one.peer, 1)
    assert one.wait_event(native.SessionNeeded).reason == "keepalive"


# ---------------------------------------------------------------- interface


def test_listen_port_changes_live_and_refuses_a_taken_one(one: Rig) -> None:
    confirmed(one)
    with inside(one.space):
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    holder.bind(("0.0.0.0", 0))
    before = one.tunnel.listen_port
    with inside(one.space), pytest.raises(OSError) as caught:
        one.tunnel.set_listen_port(holder.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE
    assert one.tunnel.listen_port == before
    holder.close()
    with inside(one.space):
        one.tunnel.set_listen_port(holder_port := before % 60000 + 1025)
    assert one.tunnel.listen_port == holder_port
    application = one.udp_socket(OUR_ADDRESS, 7001)
    one.send(one.seal(udp4(b"still", source=PEER_ADDRESS, destination=OUR_ADDRESS)))
    assert application.recv(100) == b"still"


def test_down_forgets_sessions_and_frees_the_port_at_once(one: Rig) -> None:
    confirmed(one)
    port = one.tunnel.listen_port
    for _ in range(20):
        one.tunnel.down()
        with inside(one.space):
            again = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        again.bind(("0.0.0.0", port))
        again.close()
        with inside(one.space):
            one.tunnel.set_listen_port(port)
            one.tunnel.up()
    assert one.tunnel.listen_port == port
    assert one.tunnel.peer_counters(one.peer).session == "none"


def test_deleting_the_device_is_reported(one: Rig) -> None:
    """R18."""
    one.space.ip("link", "del", one.tunnel.name)
    assert "deleted" in one.wait_event(native.DeviceGone).reason


def test_deleting_the_device_under_load_is_reported(tun: Rig) -> None:
    confirmed(tun)
    application = tun.udp_socket(OUR_ADDRESS)
    application.setblocking(False)
    for _ in range(200):
        application.sendto(b"x" * 1000, (PEER_ADDRESS, 9))
    tun.space.ip("link", "del", tun.tunnel.name)
    assert "deleted" in tun.wait_event(native.DeviceGone).reason


def test_ipv4_only_hosts_work(net: Net) -> None:
    """R14."""
    space = net.namespace("v4")
    for scope in ("all", "default", "lo"):
        space.write_proc(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6", "1")
    engine = native.Engine()
    with inside(space):
        tunnel = engine.wireguard("wg4", mtu=1420)
        tunnel.set_private_key(native.Secret.random())
        tunnel.up()
    assert tunnel.listen_port > 0
    engine.close()


@pytest.mark.parametrize("mtu", [68, 576, 1280, 1420, 9000, 65535])
def test_extreme_mtus_carry(net: Net, mtu: int) -> None:
    """R19."""
    with rig(net.namespace("m"), mtu=max(mtu, 1280) if mtu < 1280 else mtu) as made:
        made.space.ip("link", "set", made.tunnel.name, "mtu", str(mtu))
        made.tunnel.set_mtu(mtu)
        confirmed(made)
        application = made.udp_socket(OUR_ADDRESS)
        for size in {1, min(mtu, 65_000) - 28}:
            application.sendto(b"m" * size, (PEER_ADDRESS, 9))
            _, inner = made.receive_inner()
            assert struct.unpack_from("!H", inner, 2)[0] == size + 28


def test_ipv6_inside(tun: Rig) -> None:
    confirmed(tun)
    application = tun.udp_socket(OUR_ADDRESS6)
    application.sendto(b"six", (PEER_ADDRESS6, 9))
    _, inner = tun.receive_inner()
    assert inner[0] >> 4 == 6
    assert inner[48:51] == b"six"


def test_device_errors_name_the_step(net: Net) -> None:
    engine = native.Engine()
    with inside(net.namespace("n")):
        with pytest.raises(OSError, match="TUNSETIFF") as caught:
            engine.wireguard("name-that-is-too-long")
        assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, "TUNSETIFF")
    engine.close()


def test_source_not_owned_by_the_peer_is_counted_not_delivered(one: Rig) -> None:
    confirmed(one)
    one.send(one.seal(ipv4(b"", source="203.0.113.9", destination=OUR_ADDRESS)))
    one.wait_drop("source_not_allowed")


# ---------------------------------------------------------------- offloads, partial sends, sources


def test_a_segmented_write_becomes_whole_datagrams(tun: Rig) -> None:
    """USO: the application's one write of 20 datagrams; each arrives complete, in order, its checksum right."""
    confirmed(tun)
    application = tun.udp_socket(OUR_ADDRESS)
    application.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 500)
    whole = os.urandom(500 * 19 + 123)
    application.sendto(whole, (PEER_ADDRESS, 9))
    got = b""
    for counter in range(1, 21):
        seen, inner = tun.receive_inner()
        assert seen == counter
        length = struct.unpack_from("!H", inner, 2)[0]
        packet = inner[:length]
        assert checksum(packet[:20]) == 0
        assert checksum(packet[12:20] + struct.pack("!BBH", 0, 17, length - 20) + packet[20:]) == 0
        got += packet[28:]
    assert got == whole


def test_a_chain_of_datagrams_is_opened_checked_and_delivered_in_order(tun: Rig) -> None:
    """GRO on the way in and coalescing into the device, with one forged packet in the middle."""
    confirmed(tun)
    application = tun.udp_socket(OUR_ADDRESS, 7001)
    tun.socket.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 16 + 16 * 63 + 16)
    sealed = [tun.seal(udp4(bytes([number]) * 980, source=PEER_ADDRESS, destination=OUR_ADDRESS)) for number in range(30)]
    forged = bytearray(sealed[13])
    forged[40] ^= 1
    sealed[13] = bytes(forged)
    tun.send(b"".join(sealed))
    for number in [*range(13), *range(14, 30)]:
        assert application.recv(2000) == bytes([number]) * 980
    assert tun.drops("authentication_failed") == 1


def test_one_unreachable_peer_does_not_cost_another_its_packets(one: Rig) -> None:
    """R14: the kernel sends a part of a batch and refuses the rest; the rest still goes."""
    confirmed(one)
    lost = one.tunnel.add_peer(os.urandom(32))
    one.tunnel.set_endpoint(lost, socket.inet_aton("203.0.113.1"), 9)
    one.tunnel.set_allowed_ips(lost, [prefix("10.9.0.3", 32)], False)
    one.tunnel.install_session(lost, one.tunnel.reserve_index(lost), 9, secret(8), secret(9), True)
    one.wait_drop("send_failed")
    application = one.udp_socket(OUR_ADDRESS)
    for number in range(50):
        application.sendto(bytes([number]), ("10.9.0.3" if number % 3 else PEER_ADDRESS, 9))
    assert [one.receive_inner()[1][28] for _ in range(17)] == list(range(0, 50, 3))
    one.wait_drop("send_failed", 1 + 33)


def test_replies_come_from_the_address_that_was_written_to(one: Rig) -> None:
    confirmed(one)
    one.space.ip("address", "add", "192.0.2.5/32", "dev", "lo")
    one.socket.sendto(one.seal(b""), ("192.0.2.5", one.tunnel.listen_port))
    wait_until(lambda: one.tunnel.peer_counters(one.peer).rx_bytes >= 32, WITHIN_S, "received")
    application = one.udp_socket(OUR_ADDRESS)
    application.sendto(b"x", (PEER_ADDRESS, 9))
    one.socket.settimeout(WITHIN_S)
    assert one.socket.recvfrom(2000)[1][0] == "192.0.2.5"
    # The address goes away: what follows leaves from another, and nothing is lost.
    one.space.ip("address", "del", "192.0.2.5/32", "dev", "lo")
    for _ in range(3):
        application.sendto(b"x", (PEER_ADDRESS, 9))
        assert one.socket.recvfrom(2000)[1][0] == "127.0.0.1"


def test_unreachable_over_ipv6(one: Rig) -> None:
    one.space.ip("route", "add", "2001:db8:5::/48", "dev", one.tunnel.name)
    application = one.udp_socket(OUR_ADDRESS6)
    application.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    application.connect(("2001:db8:5::1", 9))
    application.send(b"nobody")
    with pytest.raises(OSError) as caught:
        application.recv(100)
    assert caught.value.errno == errno.EHOSTUNREACH


def test_a_fork_is_refused(one: Rig) -> None:
    """The child has the memory but not the threads."""
    child = os.fork()
    if child == 0:
        try:
            one.engine.drain()
        except RuntimeError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_junk_dies_in_the_kernel_and_is_counted(one: Rig) -> None:
    confirmed(one)
    junk = ((b"", 0), (b"\x04", 0), (b"\x05\0\0\0", 60), (b"\x04\0\0\1", 60), (b"\x01\0\0\0", 100), (b"\x04\0\0\0", 20))
    for head, rest in junk:
        one.send(head + bytes(rest))
    one.send(one.seal(b""))
    one.wait_drop("at_socket", 6)
    assert one.tunnel.offloads()["socket_filter"] == "on"
    assert not one.drops("unknown_type") + one.drops("bad_length")
