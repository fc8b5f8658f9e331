"""
The engine's tunnel in bad company: full send buffers, floods, forks, strange descriptors, removed and sleeping peers.

Each test is named after what must hold; most of them failed once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ginnel import _native as native
from namespaces import Namespace, Net, wait_until
from native.rig import (
    OUR_ADDRESS,
    PEER_ADDRESS,
    WITHIN_S,
    Rig,
    checksum,
    inside,
    prefix,
    rig,
    secret,
    udp4,
)

UDP_SEGMENT = 103
TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM = 1


@pytest.fixture
def one(net: Net) -> Iterator[Rig]:
    """A tunnel that is up, and its peer."""
    with rig(net.namespace("h")) as made:
        yield made


def confirmed(made: Rig) -> Rig:
    """With a session, its first keepalive read."""
    made.session()
    assert made.receive_inner() == (0, b"")
    return made


def carries_both_ways(made: Rig) -> None:
    """One packet out and one in."""
    out = made.udp_socket(OUR_ADDRESS)
    out.sendto(b"out", (PEER_ADDRESS, 9))
    assert made.receive_inner()[1][28:31] == b"out"
    application = made.udp_socket(OUR_ADDRESS, 7001)
    made.send(made.seal(udp4(b"in", source=PEER_ADDRESS, destination=OUR_ADDRESS)))
    assert application.recv(100) == b"in"


# ---------------------------------------------------------------- the send buffer is full


def fill_the_send_buffer(made: Rig) -> None:
    """Packets for a neighbour that never answers wait in the kernel, on our socket's account."""
    made.space.ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
    made.space.ip("address", "add", "192.0.2.1/24", "dev", "v0")
    made.space.ip("link", "set", "v0", "up")
    made.space.ip("link", "set", "v1", "up")
    # The neighbour must stay unanswered while the test runs, and the kernel must hold what waits for it.
    for key, value in (("unres_qlen_bytes", 1 << 30), ("mcast_solicit", 30)):
        made.space.write_proc(f"/proc/sys/net/ipv4/neigh/v0/{key}", str(value))
    hog = made.tunnel.add_peer(os.urandom(32))
    made.tunnel.set_endpoint(hog, socket.inet_aton("192.0.2.99"), 9)
    made.tunnel.set_allowed_ips(hog, [prefix("10.9.0.3", 32)], False)
    made.tunnel.install_session(hog, made.tunnel.reserve_index(hog), 9, secret(8), secret(9), True)
    application = made.udp_socket(OUR_ADDRESS)
    application.setblocking(False)
    application.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
    last, since = -1, time.monotonic()

    def stuck() -> bool:
        nonlocal last, since
        for _ in range(20):
            with contextlib.suppress(BlockingIOError):
                application.sendto(bytes(50_000), ("10.9.0.3", 9))
        sent = made.tunnel.peer_counters(hog).tx_bytes
        if sent != last:
            last, since = sent, time.monotonic()
        return sent > 0 and time.monotonic() - since > 0.2

    wait_until(stuck, 10, "the send buffer is full")


def test_a_full_send_buffer_delays_neither_the_control_plane_nor_the_end(one: Rig) -> None:
    confirmed(one)
    fill_the_send_buffer(one)
    began = time.monotonic()
    with contextlib.suppress(OSError):
        one.tunnel.send_handshake(one.peer, b"h" * 148)
    assert time.monotonic() - began < 0.5, "a handshake message waits a moment, not for ever"
    began = time.monotonic()
    one.tunnel.down()
    assert time.monotonic() - began < 1
    began = time.monotonic()
    one.tunnel.close()
    assert time.monotonic() - began < 1


def test_a_full_send_buffer_does_not_stop_receiving(one: Rig) -> None:
    confirmed(one)
    fill_the_send_buffer(one)
    application = one.udp_socket(OUR_ADDRESS, 7001)
    for number in range(20):
        one.send(one.seal(udp4(bytes([number]), source=PEER_ADDRESS, destination=OUR_ADDRESS)))
        assert application.recv(100) == bytes([number])
    one.wait_drop("send_failed")


# ---------------------------------------------------------------- floods


def test_a_flood_over_ipv4_does_not_starve_ipv6(one: Rig) -> None:
    confirmed(one)
    ended = threading.Event()
    with inside(one.space):
        floods = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    junk = struct.pack("<IIQ", 4, 0xDEAD, 0) + bytes(16)

    def flood(sender: socket.socket) -> None:
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(junk))
        sender.connect(("127.0.0.1", one.tunnel.listen_port))
        while not ended.is_set():
            with contextlib.suppress(OSError):
                sender.send(junk * 60)

    threads = [threading.Thread(target=flood, args=(sender,)) for sender in floods]
    for thread in threads:
        thread.start()
    try:
        one.wait_drop("unknown_index", 100_000)
        received = one.tunnel.peer_counters(one.peer).rx_bytes

        def heard() -> bool:
            six.sendto(one.seal(b""), ("::1", one.tunnel.listen_port))
            return bool(one.tunnel.peer_counters(one.peer).rx_bytes > received)

        wait_until(heard, 1.0, "a keepalive over IPv6 is heard")
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        for opened in (*floods, six):
            opened.close()
    carries_both_ways_again(one)


def carries_both_ways_again(made: Rig) -> None:
    """After the flood: the peer has roamed to the socket that last spoke."""
    application = made.udp_socket(OUR_ADDRESS, 7001)

    def arrives() -> bool:
        made.send(made.seal(udp4(b"in", source=PEER_ADDRESS, destination=OUR_ADDRESS)))
        application.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            return application.recv(100) == b"in"
        return False

    wait_until(arrives, WITHIN_S, "a packet is delivered after the flood")


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_after_a_flood_is_bounded(one: Rig) -> None:
    """M8: junk, forged data and forged handshakes in chains of 60 leave no more behind than the fixed slabs."""
    confirmed(one)
    before = resident_bytes()
    with inside(one.space):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", one.tunnel.listen_port))
    forged = struct.pack("<IIQ", 4, one.index, 5) + bytes(16)
    for message in (struct.pack("<IIQ", 4, 0xDEAD, 0) + bytes(1004), forged, b"\x01\0\0\0" + bytes(144)):
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(message))
        for _ in range(2000):
            with contextlib.suppress(OSError):
                sender.send(message * 60)
    sender.close()
    one.wait_drop("authentication_failed")
    one.wait_drop("bad_mac1")
    assert resident_bytes() - before < 12 << 20
    carries_both_ways(one)


# ---------------------------------------------------------------- forks and descriptors


def test_a_forked_child_can_let_go_of_a_tunnel(one: Rig) -> None:
    """The threads are not in the child: waiting for their end would be for ever."""
    child = os.fork()
    if child == 0:
        one.tunnel.close()
        one.engine.close()
        os._exit(0)
    deadline = time.monotonic() + WITHIN_S
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs in close")
        time.sleep(0.02)
    confirmed(one)
    carries_both_ways(one)


def test_closed_tunnels_leave_no_descriptors(net: Net) -> None:
    space = net.namespace("f")
    engine = native.Engine()

    def cycle() -> int:
        with inside(space):
            tunnel = engine.wireguard("wg" + os.urandom(4).hex())
            tunnel.up()
            tunnel.close()
        return len(list(Path("/proc/self/fd").iterdir()))

    first = cycle()
    assert max(cycle() for _ in range(20)) <= first + 4
    engine.close()


def opened_elsewhere(name: str, flags: int, *, header_size: int = 0, offloads: int = 0) -> int:
    """A TUN descriptor as another program would hand it over."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    if header_size:
        fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", header_size))
    fcntl.ioctl(fd, TUNSETOFFLOAD, offloads)
    return fd


@pytest.mark.parametrize(
    ("flags", "header_size", "offloads"),
    [
        (IFF_TUN | IFF_NO_PI, 0, 0),
        (IFF_TUN | IFF_NO_PI, 0, TUN_F_CSUM),
        (IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, 0, 0),
        (IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, 12, TUN_F_CSUM),
    ],
    ids=["plain", "plain-with-offload", "header", "longer-header"],
)
def test_an_adopted_device_carries(net: Net, flags: int, header_size: int, offloads: int) -> None:
    def opened(name: str) -> int:
        return opened_elsewhere(name, flags, header_size=header_size, offloads=offloads)

    with rig(net.namespace("a"), adopt=opened) as made:
        confirmed(made)
        carries_both_ways(made)
        application = made.udp_socket(OUR_ADDRESS)
        application.sendto(os.urandom(777), (PEER_ADDRESS, 9))
        _, inner = made.receive_inner()
        packet = inner[: struct.unpack_from("!H", inner, 2)[0]]
        assert checksum(packet[:20]) == 0
        assert checksum(packet[12:20] + struct.pack("!BBH", 0, 17, len(packet) - 20) + packet[20:]) == 0


def test_what_is_no_plain_tun_is_not_adopted(net: Net) -> None:
    engine = native.Engine()
    with inside(net.namespace("x")):
        fd = opened_elsewhere("tap0", 0x0002 | IFF_NO_PI)
        with pytest.raises(OSError, match="adopt") as caught:
            engine.wireguard("tap0", tun_fd=fd)
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(OSError) as caught:
            os.fstat(fd)
        assert caught.value.errno == errno.EBADF, "a refused descriptor is closed: it was handed over"
        with pytest.raises(OSError, match="TUNGETIFF"):
            engine.wireguard("null", tun_fd=os.open("/dev/null", os.O_RDWR))
    engine.close()


# ---------------------------------------------------------------- sleep


def switches() -> dict[str, int]:
    """How often each thread of the engine gave up the processor of its own accord: its wake-ups."""
    counts = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            name = (task / "comm").read_text().strip()
            status = dict(line.split(":\t") for line in (task / "status").read_text().splitlines() if ":\t" in line)
            if name.startswith("ginnel-"):
                counts[f"{name} {task.name}"] = int(status["voluntary_ctxt_switches"])
    return counts


def wakeups(during_s: float) -> int:
    """Wake-ups of all engine threads within that time."""
    before = switches()
    time.sleep(during_s)  # the thing measured is what happens in this time
    return sum(count - before.get(name, count) for name, count in switches().items())


def test_an_idle_tunnel_sleeps(one: Rig) -> None:
    confirmed(one)
    carries_both_ways(one)
    assert wakeups(2.0) <= 2


def test_a_tunnel_that_is_down_sleeps(one: Rig) -> None:
    """Timers run only while the interface is up, whatever the control plane still says to it."""
    one.tunnel.set_keepalive(one.peer, 1)
    one.wait_event(native.SessionNeeded)
    one.tunnel.send_handshake(one.peer, b"\x01\0\0\0" + bytes(144))
    one.tunnel.down()
    with pytest.raises(OSError) as caught:
        one.tunnel.send_handshake(one.peer, b"\x01\0\0\0" + bytes(144))
    assert caught.value.errno == errno.ENETDOWN
    wakeups(1.5)  # what was armed while up may come once
    assert wakeups(2.5) <= 1


def test_a_tunnel_whose_device_is_down_sleeps_and_counts(one: Rig) -> None:
    confirmed(one)
    one.space.ip("link", "set", one.tunnel.name, "down")
    for _ in range(5):
        one.send(one.seal(udp4(b"in", source=PEER_ADDRESS, destination=OUR_ADDRESS)))
    one.wait_drop("device_write", 5)
    assert one.drops("device_write") == 5
    assert wakeups(1.0) <= 2


def test_keepalive_set_while_down_runs_once_the_endpoint_is_known(one: Rig) -> None:
    one.tunnel.down()
    late = one.tunnel.add_peer(os.urandom(32))
    one.tunnel.set_keepalive(late, 1)
    with inside(one.space):
        one.tunnel.up()
    one.tunnel.set_endpoint(late, socket.inet_aton("127.0.0.1"), 9)

    def asked() -> bool:
        one.events.extend(one.engine.drain())
        return any(isinstance(event, native.SessionNeeded) and event.peer == late for event in one.events)

    wait_until(asked, WITHIN_S, "a session is wanted for the keepalive")


# ---------------------------------------------------------------- underlays


def linked(net: Net) -> tuple[Namespace, Namespace]:
    """Two hosts on one wire that have IPv6 link-local addresses and nothing else."""
    left, right = net.namespace("l"), net.namespace("r")
    left.ip("link", "add", "w0", "type", "veth", "peer", "name", "w0", "netns", right.name)
    for space, address in ((left, "fe80::1"), (right, "fe80::2")):
        space.ip("link", "set", "w0", "addrgenmode", "none")
        space.ip("address", "add", f"{address}/64", "dev", "w0", "nodad")
        space.ip("link", "set", "w0", "up")
    return left, right


def test_link_local_endpoints_keep_their_scope(net: Net) -> None:
    """IPv6 alone, and an address that means nothing without its link."""
    left, right = linked(net)
    with inside(right):
        far = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    far.bind(("fe80::2", 0, 0, socket_scope(right)))
    far.settimeout(WITHIN_S)
    with rig(left) as made:
        scope = int(left.ip_json("link", "show", "w0")[0]["ifindex"])
        made.tunnel.set_endpoint(made.peer, socket.inet_pton(socket.AF_INET6, "fe80::2"), far.getsockname()[1], scope)
        made.session()
        datagram, came_from = far.recvfrom(2000)
        assert made.open(datagram) == (0, b"")
        assert came_from[0].startswith("fe80::1")
        application = made.udp_socket(OUR_ADDRESS, 7001)
        far.sendto(made.seal(udp4(b"in", source=PEER_ADDRESS, destination=OUR_ADDRESS)), came_from)
        assert application.recv(100) == b"in"
        assert made.tunnel.peer_counters(made.peer).endpoint == (
            socket.inet_pton(socket.AF_INET6, "fe80::2"), far.getsockname()[1], scope,
        )  # fmt: skip
        application.sendto(b"back", (PEER_ADDRESS, 9))
        assert made.open(far.recv(2000))[1][28:32] == b"back"
    far.close()


def socket_scope(space: Namespace) -> int:
    """The number of the wire in there."""
    return int(space.ip_json("link", "show", "w0")[0]["ifindex"])


def test_prohibited_and_missing_routes_are_counted_and_do_not_last(one: Rig) -> None:
    """EACCES, EHOSTUNREACH, ENETUNREACH: each packet one reason; when the route is back so is the traffic."""
    confirmed(one)
    application = one.udp_socket(OUR_ADDRESS)
    one.space.ip("address", "add", "192.0.2.7/32", "dev", "lo")
    elsewhere = one.udp_socket("192.0.2.7")
    one.tunnel.set_endpoint(one.peer, socket.inet_aton("198.51.100.7"), elsewhere.getsockname()[1])
    for kind in ("prohibit", "unreachable", "blackhole"):
        one.space.ip("route", "add", kind, "198.51.100.7/32")
        before = one.drops("send_failed")
        application.sendto(b"x", (PEER_ADDRESS, 9))
        one.wait_drop("send_failed", before + 1)
        assert one.drops("send_failed") == before + 1
        one.space.ip("route", "del", kind, "198.51.100.7/32")
    one.tunnel.set_endpoint(one.peer, socket.inet_aton("192.0.2.7"), elsewhere.getsockname()[1])
    application.sendto(b"back", (PEER_ADDRESS, 9))
    assert one.open(elsewhere.recv(2000))[1][28:32] == b"back"


@pytest.mark.parametrize("mtu", [1500, 400], ids=["no-checksum-offload", "segments-over-the-mtu"])
def test_an_underlay_that_takes_no_segmentation_loses_nothing(one: Rig, mtu: int) -> None:
    """EIO and EINVAL of UDP_SEGMENT: the same datagrams leave one by one, fragmented where they must be."""
    with inside(one.space):
        under = opened_elsewhere("under", IFF_TUN | IFF_NO_PI)
    os.set_blocking(under, False)
    one.space.ip("link", "set", "under", "up", "mtu", str(mtu))
    one.space.ip("address", "add", "192.0.2.1/24", "dev", "under")
    one.tunnel.set_endpoint(one.peer, socket.inet_aton("192.0.2.2"), 9)
    one.session()
    counters: list[int] = []

    def read() -> list[int]:
        with contextlib.suppress(BlockingIOError):
            while packet := os.read(under, 65_536):
                first = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF == 0
                if packet[0] == 0x45 and packet[9] == socket.IPPROTO_UDP and first:
                    counters.append(struct.unpack_from("<Q", packet, 20 + 8 + 8)[0])
        return counters

    wait_until(lambda: read() == [0], WITHIN_S, "the keepalive")
    application = one.udp_socket(OUR_ADDRESS)
    application.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 500)
    for number in range(1, 4):
        application.sendto(bytes(500 * 10), (PEER_ADDRESS, 9))
        wait_until(lambda expected=number * 10 + 1: len(read()) >= expected, WITHIN_S, "all datagrams")
    assert counters == list(range(31))
    assert one.drops("send_failed") == 0
    if mtu < 500:
        assert "larger segments were refused" in one.tunnel.offloads()["udp_gso"]
    assert one.tunnel.peer_counters(one.peer).tx_packets == 31
    os.close(under)
