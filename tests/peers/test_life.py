"""
What happens to a tunnel in its life: addresses and ports move, sides crash and come back, keys change, packets are larger
than the path, sources are forged, nobody is there. With wireguard-go and the Linux kernel on the other side where it matters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from namespaces import Net, run, wait_until
from peers.nodes import (
    SUBJECT,
    Capture,
    KernelWireGuard,
    Keys,
    Pair,
    PeerConfig,
    Side,
    Userspace,
    endpoint,
    known_endpoint,
    latest_handshake,
    ping,
    render,
    set_key,
    setconf,
    transfer,
    up,
    wg,
)


def change_outer(side: Side, family: int, address: str) -> None:
    """The side's underlay has *address* in place of the one it had."""
    bits = 24 if family == 4 else 64
    old = side.outer4 if family == 4 else side.outer6
    # In this order: deleting the first of two addresses of one IPv4 subnet deletes the second as well.
    side.node.run("ip", "address", "del", f"{old}/{bits}", "dev", side.node.underlay)
    side.node.run("ip", "address", "add", f"{address}/{bits}", "dev", side.node.underlay)


# ---------------------------------------------------------------- moving


@pytest.mark.parametrize("mover", ["subject", "other"])
@pytest.mark.parametrize(("family", "address"), [(4, "192.0.2.77"), (6, "2001:db8::77")], ids=["outer4", "outer6"])
def test_an_address_changes_under_a_live_tunnel(pair: Pair, family: int, address: str, mover: str) -> None:
    """The peer learns it from the first packet, in the same session, and answers there."""
    pair.configure(family=family)
    moving, staying = pair.sides(mover)
    assert ping(moving.node, staying.inner4, within_s=4)
    before = latest_handshake(staying.node, moving.keys.public)
    change_outer(moving, family, address)
    if moving.node.kind == "wireguard-go":
        # Debian's, of 2022, holds on to a source address that is gone until the endpoint is set again.
        wg(moving.node, "set", moving.node.interface, "peer", staying.keys.public, "endpoint", staying.endpoint(family))
    wait_until(lambda: ping(moving.node, staying.inner4, within_s=0.3), 2, "a ping from the new address")
    assert known_endpoint(staying.node, moving.keys.public) == endpoint(address, moving.port)
    assert ping(staying.node, moving.inner6, count=5, within_s=1)
    assert latest_handshake(staying.node, moving.keys.public) == before


@pytest.mark.parametrize("mover", ["subject", "other"])
def test_a_port_changes_under_a_live_tunnel(pair: Pair, mover: str) -> None:
    """`wg set listen-port` while sessions live: they are kept, and the peer follows."""
    pair.configure()
    moving, staying = pair.sides(mover)
    assert ping(moving.node, staying.inner4, within_s=4)
    before = latest_handshake(staying.node, moving.keys.public)
    wg(moving.node, "set", moving.node.interface, "listen-port", "40404")
    wait_until(lambda: ping(moving.node, staying.inner4, within_s=0.3), 2, "a ping from the new port")
    assert known_endpoint(staying.node, moving.keys.public) == endpoint(moving.outer4, 40404)
    assert ping(staying.node, moving.inner4, count=5)
    assert latest_handshake(staying.node, moving.keys.public) == before


def test_a_peer_moves_from_ipv4_to_ipv6(pair: Pair) -> None:
    """`wg set endpoint` to the other family: the next packet goes there."""
    pair.configure(family=4)
    subject, other = pair.sides("subject")
    assert ping(subject.node, other.inner4, within_s=4)
    wg(subject.node, "set", subject.node.interface, "peer", other.keys.public, "endpoint", other.endpoint(6))
    assert ping(subject.node, other.inner4, count=3)
    assert known_endpoint(other.node, subject.keys.public) == subject.endpoint(6)
    assert ping(other.node, subject.inner6, count=3)


# ---------------------------------------------------------------- crashing


def test_the_subject_is_killed_and_starts_again(pair: Pair) -> None:
    """
    kill -9 while the other keeps sending, and the subject's file does not say where the other is: the restarted side
    remembers, and speaks first. The protocol alone needs 15 s; two seconds leave room for a slow machine, bench/ has the figure.
    """
    pair.configure(subject_knows=False)
    subject, other = pair.sides("subject")
    assert isinstance(subject.node, Userspace)
    assert ping(other.node, subject.inner4, count=10, within_s=4)
    # What is remembered is written at most once a second.
    time.sleep(1.5)
    subject.node.kill()
    killed = time.monotonic()
    subject.node.start()
    setconf(subject.node, render(subject.keys.private, subject.port, [PeerConfig(other.keys.public, other.prefixes)]))
    up(subject.node, [f"{subject.inner4}/24", f"{subject.inner6}/64"])
    wait_until(lambda: ping(other.node, subject.inner4, within_s=0.1), 10, "traffic after the restart")
    assert time.monotonic() - killed < 2.0


def test_the_other_side_starts_again_and_speaks(pair: Pair) -> None:
    """The other side lost everything but its file, and sends at once: its new handshake is taken although a session lives."""
    pair.configure()
    subject, other = pair.sides("subject")
    assert ping(subject.node, other.inner4, count=3, within_s=4)
    restart(other)
    # Two initiations of one peer within 20 ms would be one too many; the restart took longer.
    setconf(
        other.node,
        render(other.keys.private, other.port, [PeerConfig(subject.keys.public, subject.prefixes, subject.endpoint())]),
    )
    up(other.node, [f"{other.inner4}/24", f"{other.inner6}/64"])
    wait_until(lambda: ping(other.node, subject.inner4, within_s=0.5), 3, "traffic after the other's restart")
    assert ping(subject.node, other.inner4, count=3)


def test_the_other_side_starts_again_and_is_silent(make: Callable[..., Pair]) -> None:
    """It knows no endpoint: the subject's unanswered data brings a handshake after 15 s, no later than 16."""
    pair = make("wireguard-go")
    pair.configure(other_knows=False)
    subject, other = pair.sides("subject")
    assert ping(subject.node, other.inner4, count=3, within_s=4)
    restart(other)
    setconf(other.node, render(other.keys.private, other.port, [PeerConfig(subject.keys.public, subject.prefixes)]))
    up(other.node, [f"{other.inner4}/24", f"{other.inner6}/64"])
    silent = time.monotonic()
    wait_until(lambda: ping(subject.node, other.inner4, within_s=0.2), 20, "traffic after the other's restart")
    assert 14 < time.monotonic() - silent < 17


def restart(side: Side) -> None:
    """Kill a process, or delete the kernel's interface; and start it without configuration."""
    node = side.node
    if isinstance(node, KernelWireGuard):
        node.run("ip", "link", "del", node.interface)
    elif isinstance(node, Userspace):
        node.kill()
    node.start()


# ---------------------------------------------------------------- keepalives


def test_persistent_keepalives_are_32_bytes_a_second_and_nothing_else(pair: Pair) -> None:
    """Interval 1 s, no data: the other receives one empty data message a second, and sends nothing back."""
    pair.configure(subject_keepalive=1, other_knows=False)
    subject, other = pair.sides("subject")
    wait_until(lambda: latest_handshake(other.node, subject.keys.public), 4, "a handshake without any data")
    received, sent = transfer(other.node, subject.keys.public)
    started = time.monotonic()
    wait_until(lambda: transfer(other.node, subject.keys.public)[0] >= received + 4 * 32, 6, "four keepalives")
    assert time.monotonic() - started > 2.5
    after, sent_after = transfer(other.node, subject.keys.public)
    assert (after - received) % 32 == 0
    assert sent_after == sent


def test_a_nat_stays_open(net: Net, tmp_path: Path) -> None:
    """Behind a NAT that forgets after 2 s, with a keepalive of 1 s, the outside can speak first at any time."""
    inside, router, outside = net.namespace("inside"), net.namespace("nat"), net.namespace("outside")
    link = net.veth(inside, router, ["192.168.7.2/24"], ["192.168.7.1/24"])
    far = net.veth(router, outside, ["192.0.2.1/24"], ["192.0.2.2/24"])
    inside.ip("route", "add", "default", "via", "192.168.7.1")
    router.write_proc("/proc/sys/net/ipv4/ip_forward", "1")
    router.run("nft", "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }")
    router.run("nft", f'add rule ip nat post oifname "{far.left}" masquerade')
    for name in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
        router.write_proc(f"/proc/sys/net/netfilter/{name}", "2")
    subject = Userspace(SUBJECT, inside, net.unique("ws"), link.left, tmp_path / "subject.log")
    other = Userspace("wireguard-go", outside, net.unique("wo"), far.right, tmp_path / "other.log")
    keys, other_keys = Keys.fresh(), Keys.fresh()
    other.start()
    subject.start()
    try:
        setconf(other, render(other_keys.private, 51821, [PeerConfig(keys.public, ["10.77.0.1/32"])]))
        up(other, ["10.77.0.2/24"])
        setconf(
            subject, render(keys.private, None, [PeerConfig(other_keys.public, ["10.77.0.2/32"], "192.0.2.2:51821", keepalive=1)])
        )
        up(subject, ["10.77.0.1/24"])
        assert ping(subject, "10.77.0.2", within_s=4)
        assert known_endpoint(other, keys.public).startswith("192.0.2.1:")
        # Longer than the NAT remembers; only keepalives pass meanwhile.
        time.sleep(4)
        assert ping(other, "10.77.0.1")
    finally:
        subject.stop()
        other.stop()


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("family", [4, 6], ids=["outer4", "outer6"])
def test_packets_larger_than_the_path_are_fragmented_outside(pair: Pair, family: int) -> None:
    """An inner MTU of 34,740 over a path of 1,500, in both directions."""
    pair.configure(family=family, mtu=34740)
    subject, other = pair.sides("subject")
    assert ping(subject.node, other.inner4, within_s=4)
    for first, second in (pair.sides("subject"), pair.sides("other")):
        for size in ("1392", "8000", "34700"):
            assert ping(first.node, second.inner4, within_s=3, options=["-s", size]), size
            assert ping(first.node, second.inner6, within_s=3, options=["-s", size]), size


@pytest.mark.parametrize("sender", ["subject", "other"])
def test_eight_megabytes_arrive_as_they_were_sent(pair: Pair, sender: str) -> None:
    """A TCP stream through all offloads: the digest of what arrives is that of what was sent."""
    pair.configure()
    first, second = pair.sides(sender)
    assert ping(first.node, second.inner4, within_s=4)
    path = f"/tmp/{first.node.interface}.data"
    arrived = f"/tmp/{second.node.interface}.data"
    try:
        first.node.run("sh", "-c", f"head -c 8388608 /dev/urandom > {path}")
        # Its stdin stays open: at its end busybox's nc leaves, whatever is still to come.
        second.node.run("sh", "-c", f"(sleep 60 | busybox nc -l -p 5001 > {arrived}) > /dev/null 2>&1 &")
        wait_until(lambda: ":1389 " in second.node.run("cat", "/proc/net/tcp", "/proc/net/tcp6"), 5, "the listener")
        first.node.run("sh", "-c", f"busybox nc {second.inner4} 5001 < {path}", timeout_s=60)
        digest = first.node.run("sha256sum", path).split()[0]
        wait_until(lambda: second.node.run("sha256sum", arrived).split()[0] == digest, 10, "the same digest")
    finally:
        first.node.run("rm", "-f", path)
        second.node.run("rm", "-f", arrived)


# ---------------------------------------------------------------- keys and prefixes


def test_a_new_private_key_works_at_once(pair: Pair) -> None:
    """No wait for the old session to age: the next packet brings a handshake with the new key."""
    pair.configure()
    subject, other = pair.sides("subject")
    assert ping(subject.node, other.inner4, count=2, within_s=4)
    fresh = Keys.fresh()
    wg(
        other.node, "set", other.node.interface,
        "peer", subject.keys.public, "remove",
        "peer", fresh.public, "allowed-ips", ",".join(subject.prefixes), "endpoint", subject.endpoint(),
    )  # fmt: skip
    set_key(subject.node, "private-key", fresh.private)
    assert ping(subject.node, other.inner4, within_s=2)
    assert latest_handshake(other.node, fresh.public)
    assert ping(other.node, subject.inner6, count=3)


def test_a_new_preshared_key_waits_for_the_next_handshake(pair: Pair) -> None:
    """The live session is not touched by a preshared key that only one side has."""
    pair.configure()
    subject, other = pair.sides("subject")
    assert ping(subject.node, other.inner4, count=2, within_s=4)
    set_key(subject.node, "preshared-key", run(["wg", "genpsk"]).strip(), "peer", other.keys.public)
    assert ping(subject.node, other.inner4, count=5)
    assert ping(other.node, subject.inner4, count=5)


def test_a_forged_source_is_refused_but_its_sender_has_moved(pair: Pair) -> None:
    """
    A prefix inside the other's is given to a third peer: the other's packets from there are authentic but not its to send.
    They are refused, while the endpoint they came from is learned, as in the kernel: roaming comes before the source check.
    """
    pair.configure()
    subject, other = pair.sides("subject")
    assert ping(other.node, subject.inner4, within_s=4)
    wg(subject.node, "set", subject.node.interface, "peer", other.keys.public, "allowed-ips", "10.77.0.0/24,fd77::/64")
    assert ping(other.node, subject.inner4)
    third = Keys.fresh()
    wg(subject.node, "set", subject.node.interface, "peer", third.public, "allowed-ips", f"{other.inner4}/32")
    wg(other.node, "set", other.node.interface, "listen-port", "9997")
    assert not ping(other.node, subject.inner4, within_s=0.5)
    assert known_endpoint(subject.node, other.keys.public) == endpoint(other.outer4, 9997)
    # IPv6 is still the other's own.
    assert ping(other.node, subject.inner6)
    wg(subject.node, "set", subject.node.interface, "peer", third.public, "remove")
    assert ping(other.node, subject.inner4)


def test_a_prefix_moves_to_whoever_gets_it_last(pair: Pair) -> None:
    """One prefix has one peer; taken back, traffic flows again."""
    pair.configure()
    subject, other = pair.sides("subject")
    assert ping(subject.node, other.inner4, within_s=4)
    third = Keys.fresh()
    prefix = f"{other.inner4}/32"
    wg(subject.node, "set", subject.node.interface, "peer", third.public, "allowed-ips", prefix)
    shown = dict(line.split("\t", 1) for line in wg(subject.node, "show", subject.node.interface, "allowed-ips").splitlines())
    assert shown[third.public] == prefix
    assert prefix not in shown[other.keys.public].split()
    assert not ping(subject.node, other.inner4, within_s=0.3)
    wg(subject.node, "set", subject.node.interface, "peer", other.keys.public, "allowed-ips", ",".join(other.prefixes))
    assert ping(subject.node, other.inner4)


# ---------------------------------------------------------------- nobody there


@pytest.mark.parametrize("family", [4, 6], ids=["inner4", "inner6"])
def test_no_peer_and_no_endpoint_are_told_by_icmp(make: Callable[..., Pair], family: int) -> None:
    """The sender hears at once that nobody is there, instead of waiting: no peer has the address; or it has, but no endpoint."""
    pair = make("wireguard-go")
    pair.configure(subject_knows=False)
    nobody = "10.77.0.99" if family == 4 else "fd77::99"
    words = "Destination Host Unreachable" if family == 4 else "Destination unreachable: Address unreachable"
    for target in (nobody, pair.other.inner(family)):
        started = time.monotonic()
        said = pair.space.run("ping", "-n", "-c", "1", "-W", "3", target, check=False)
        assert words in said, said
        assert time.monotonic() - started < 2


# ---------------------------------------------------------------- sources


def test_answers_leave_from_the_address_that_was_asked(pair: Pair) -> None:
    """The subject has two addresses; the other speaks to the second, and hears from the second."""
    pair.configure()
    subject, other = pair.sides("subject")
    device = pair.link.left
    for family, second in ((4, "192.0.2.55"), (6, "2001:db8::55")):
        pair.space.ip("address", "add", f"{second}/{24 if family == 4 else 64}", "dev", device)
        wg(other.node, "set", other.node.interface, "peer", subject.keys.public, "endpoint", endpoint(second, subject.port))
        assert ping(other.node, subject.inner4, count=3, within_s=4)
        assert known_endpoint(other.node, subject.keys.public) == endpoint(second, subject.port)
        assert ping(subject.node, other.inner4, count=3)
        assert known_endpoint(other.node, subject.keys.public) == endpoint(second, subject.port)


def test_answers_leave_from_an_address_on_another_device(pair: Pair) -> None:
    """The asked address lies on loopback, as a router's does."""
    pair.configure()
    subject, other = pair.sides("subject")
    pair.space.ip("address", "add", "198.18.0.1/32", "dev", "lo")
    other.node.run("ip", "route", "add", "198.18.0.1/32", "via", subject.outer4)
    wg(other.node, "set", other.node.interface, "peer", subject.keys.public, "endpoint", endpoint("198.18.0.1", subject.port))
    assert ping(other.node, subject.inner4, count=3, within_s=4)
    assert ping(subject.node, other.inner4, count=3)
    assert known_endpoint(other.node, subject.keys.public) == endpoint("198.18.0.1", subject.port)


def test_a_better_route_takes_over(make: Callable[..., Pair]) -> None:
    """A second, more specific way to the endpoint appears: packets take it, with the source that belongs to it."""
    pair = make("wireguard-go")
    pair.configure()
    subject, other = pair.sides("subject")
    assert ping(subject.node, other.inner4, within_s=4)
    assert known_endpoint(other.node, subject.keys.public) == subject.endpoint()
    second = pair.net.veth(pair.space, pair.other_space, ["198.51.100.1/24"], ["198.51.100.2/24"])
    pair.space.ip("route", "add", f"{other.outer4}/32", "via", "198.51.100.2", "dev", second.left)
    wait_until(
        lambda: (
            ping(subject.node, other.inner4, within_s=0.3)
            and known_endpoint(other.node, subject.keys.public) == endpoint("198.51.100.1", subject.port)
        ),
        3,
        "packets on the better route",
    )
    # And back, when it goes away.
    pair.space.ip("route", "del", f"{other.outer4}/32", "via", "198.51.100.2", "dev", second.left)
    pair.space.ip("link", "del", second.left)
    wait_until(lambda: ping(subject.node, other.inner4, within_s=0.3), 3, "packets on the first route again")
    assert known_endpoint(other.node, subject.keys.public) == subject.endpoint()


# ---------------------------------------------------------------- namespaces


def test_an_interface_moved_away_keeps_the_sockets_of_its_birthplace(pair: Pair, net: Net) -> None:
    """The tunnel is the only way out of the namespace that its interface was moved into."""
    pair.configure()
    subject, other = pair.sides("subject")
    assert ping(subject.node, other.inner4, within_s=4)
    cell = net.namespace("cell")
    pair.space.ip("link", "set", subject.node.interface, "netns", cell.name)
    for address in (f"{subject.inner4}/24", f"{subject.inner6}/64"):
        cell.ip("address", "add", address, "dev", subject.node.interface)
    cell.ip("link", "set", subject.node.interface, "up")
    # Down and up again zeroed the sessions; a new one comes with the first packet, if not throttled.
    wait_until(lambda: cell.ping(other.inner4, within_s=0.5), 7, "a ping out of the cell")
    assert cell.ping(other.inner6)
    assert ping(other.node, subject.inner4, count=3)
    wg(other.node, "set", other.node.interface, "listen-port", "40404")
    assert ping(other.node, subject.inner4, count=3)


# ---------------------------------------------------------------- inside each other


def test_a_tunnel_inside_a_tunnel(make: Callable[..., Pair], tmp_path: Path) -> None:
    """A second pair whose endpoints are the first one's inner addresses: both carry, the inner one with its own MTU."""
    pair = make("wireguard-go")
    pair.configure()
    subject, other = pair.sides("subject")
    assert ping(subject.node, other.inner4, within_s=4)
    inner_subject = Userspace(SUBJECT, pair.space, pair.net.unique("wi"), subject.node.interface, tmp_path / "inner-subject.log")
    inner_other = Userspace(
        "wireguard-go", pair.other_space, pair.net.unique("wj"), other.node.interface, tmp_path / "inner-other.log"
    )
    keys, other_keys = Keys.fresh(), Keys.fresh()
    inner_subject.start()
    inner_other.start()
    try:
        setconf(inner_other, render(other_keys.private, 51831, [PeerConfig(keys.public, ["10.78.0.1/32"])]))
        up(inner_other, ["10.78.0.2/24"], mtu=1340)
        sections = [PeerConfig(other_keys.public, ["10.78.0.2/32"], endpoint(other.inner4, 51831))]
        setconf(inner_subject, render(keys.private, 51830, sections))
        up(inner_subject, ["10.78.0.1/24"], mtu=1340)
        assert ping(inner_subject, "10.78.0.2", within_s=4)
        # Exactly the inner MTU, which is exactly what the outer tunnel carries less the headers.
        assert ping(inner_subject, "10.78.0.2", count=3, options=["-M", "do", "-s", str(1340 - 28)])
        assert ping(inner_other, "10.78.0.1", count=3, options=["-M", "do", "-s", str(1340 - 28)])
        assert known_endpoint(inner_other, keys.public) == endpoint(subject.inner4, 51830)
    finally:
        inner_subject.stop()
        inner_other.stop()


# ---------------------------------------------------------------- a loop


def test_a_route_into_itself_does_not_run_away(make: Callable[..., Pair], tmp_path: Path) -> None:
    """
    The endpoint is routed into the tunnel itself: each message would be wrapped again and again. The kernel lets at most
    70,000 bytes go round; so do we, the process lives, and with the route gone the tunnel works.
    """
    pair = make("wireguard-go")
    pair.configure()
    subject, other = pair.sides("subject")
    assert ping(subject.node, other.inner4, within_s=4)
    name = subject.node.interface

    def bytes_out() -> int:
        (shown,) = pair.space.ip_json("-s", "link", "show", "dev", name)
        return int(shown["stats64"]["tx"]["bytes"])

    wg(subject.node, "set", name, "peer", other.keys.public, "allowed-ips", f"{other.inner4}/32,{other.outer4}/32")
    before = bytes_out()
    pair.space.ip("route", "add", f"{other.outer4}/32", "dev", name)
    assert not ping(subject.node, other.inner4, within_s=1)
    after = bytes_out()
    pair.space.ip("route", "del", f"{other.outer4}/32", "dev", name)
    assert after - before <= 70_000
    wait_until(lambda: ping(subject.node, other.inner4, within_s=0.5), 7, "the tunnel after the loop")


# ---------------------------------------------------------------- ECN


@pytest.mark.parametrize(("tos", "outer"), [(0x00, 0), (0x01, 1), (0x02, 2), (0x03, 3), (0xB8, 0), (0xBA, 2)])
@pytest.mark.parametrize("family", [4, 6], ids=["inner4", "inner6"])
def test_the_outer_header_shows_ecn_and_hides_dscp(
    make: Callable[..., Pair], tmp_path: Path, family: int, tos: int, outer: int
) -> None:
    """RFC 6040: the inner ECN field is copied out; DSCP never is."""
    pair = make("wireguard-go")
    pair.configure()
    subject, other = pair.sides("subject")
    assert ping(subject.node, other.inner4, within_s=4)
    capture = Capture.start(pair.space, pair.link.left, tmp_path / "outer.pcap", "udp and src host 192.0.2.1")
    assert ping(subject.node, other.inner(family), options=["-Q", str(tos), "-s", "200"])

    def marks() -> set[int]:
        # 14 bytes of Ethernet, 20 of IPv4, 8 of UDP; data messages that hold the ping.
        return {frame[15] for frame in capture.packets() if frame[42] == 4 and len(frame) > 42 + 200}

    wait_until(marks, 3, "the ping in the capture")
    capture.stop()
    assert marks() == {outer}


@pytest.mark.parametrize(("inner", "expected"), [(0x02, 3), (0x01, 3), (0x00, None)], ids=["ect0", "ect1", "not-ect"])
@pytest.mark.parametrize("family", [4, 6], ids=["inner4", "inner6"])
def test_congestion_marked_outside_is_seen_inside(
    make: Callable[..., Pair], tmp_path: Path, family: int, inner: int, expected: int | None
) -> None:
    """RFC 6040: CE on the outer header goes into an inner one that can carry it; one that cannot is never marked."""
    pair = make("wireguard-go")
    pair.configure()
    subject, other = pair.sides("subject")
    assert ping(subject.node, other.inner4, within_s=4)
    pair.space.run("nft", "add table ip ecn_test; add chain ip ecn_test pre { type filter hook prerouting priority -300; }")
    pair.space.run("nft", f"add rule ip ecn_test pre udp dport {subject.port} ip ecn set ce")
    capture = Capture.start(pair.space, subject.node.interface, tmp_path / "inner.pcap")
    ping(other.node, subject.inner(family), within_s=0.5, options=["-Q", str(inner), "-s", "200"])

    def seen() -> list[int]:
        marks = []
        for packet in capture.packets():
            if packet[0] >> 4 == 4 and packet[12:16] == bytes([10, 77, 0, 2]):
                marks.append(packet[1] & 3)
            elif packet[0] >> 4 == 6 and packet[23] == 2 and packet[6] == 58:
                marks.append(packet[1] >> 4 & 3)
        return marks

    if expected is not None:
        wait_until(seen, 3, "the ping inside")
        assert set(seen()) == {expected}
    else:
        # RFC 6040 lets it be dropped; what arrives must not claim what it cannot.
        capture.stop()
        assert set(seen()) <= {0}
