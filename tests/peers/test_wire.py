"""
What goes over the wire, read by others: tshark decodes it with keys, captures show what is never sent, and what a stranger may
throw at the port changes nothing.
"""

from __future__ import annotations

import base64
import os
import struct
import subprocess
import time
from collections.abc import Callable
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from namespaces import Net, wait_until
from peers.nodes import (
    SUBJECT,
    Capture,
    Keys,
    Pair,
    PeerConfig,
    Userspace,
    fields,
    fresh_psk,
    handshake_age_known,
    ping,
    render,
    setconf,
    transfer,
    up,
    wg,
)

#: Curve25519 points whose product with any clamped scalar is zero (RFC 7748 section 6.1; the list of seven is well known).
LOW_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def test_tshark_reads_every_field(pair: Pair, tmp_path: Path) -> None:
    """
    An independent reader, given both private keys, opens our initiation and agrees about every length, reserved byte and counter;
    handshakes carry DSCP AF41 and data carries 0.
    """
    pair.configure(other_knows=False, psk=fresh_psk())
    subject, other = pair.sides("subject")
    path = tmp_path / "outer.pcap"
    # Configured means down addresses up: the first packet of the tunnel is still to come.
    capture = Capture.start(pair.space, pair.link.left, path, "udp")
    assert ping(subject.node, other.inner4, count=3, within_s=4)
    wait_until(lambda: len(capture.packets()) >= 8, 3, "eight datagrams in the capture")
    capture.stop()
    keylog = tmp_path / "keys"
    keylog.write_text(
        f"LOCAL_STATIC_PRIVATE_KEY = {other.keys.private}\nLOCAL_STATIC_PRIVATE_KEY = {subject.keys.private}\n"
        f"REMOTE_STATIC_PUBLIC_KEY = {subject.keys.public}\n"
    )
    rows = fields(
        path,
        [
            "ip.src", "ip.dsfield", "udp.length", "wg.type", "wg.reserved", "wg.sender", "wg.receiver", "wg.counter",
            "wg.static", "wg.receiver_pubkey", "wg.timestamp.nanoseconds", "wg.mac2",
        ],
        display="wg",
        options=["-o", f"wg.keylog_file:{keylog}", "-d", f"udp.port=={other.port},wg"],
    )  # fmt: skip
    assert [int(row["wg.type"]) for row in rows[:3]] == [1, 2, 4]
    assert all(row["wg.reserved"].replace(":", "") == "000000" for row in rows)
    initiation, response = rows[0], rows[1]
    assert (initiation["ip.src"], initiation["udp.length"], response["udp.length"]) == (subject.outer4, "156", "100")
    # mac1 names the receiver; its private key opens the sender's public key and the timestamp.
    assert initiation["wg.receiver_pubkey"] == other.keys.public
    assert initiation["wg.static"] == subject.keys.public
    assert initiation["wg.mac2"].replace(":", "") == "0" * 32
    assert response["wg.receiver"] == initiation["wg.sender"]
    # Whitened to hide timing: 24 low bits of the nanoseconds at the least are zero.
    assert int(initiation["wg.timestamp.nanoseconds"]) & 0xFFFFFF == 0
    ours = [row for row in rows if row["ip.src"] == subject.outer4]
    assert initiation["ip.dsfield"] == "0x88"
    data = [row for row in ours if row["wg.type"] == "4"]
    assert [int(row["wg.counter"]) for row in data] == list(range(len(data)))
    assert {row["wg.receiver"] for row in data} == {response["wg.sender"]}
    assert {row["ip.dsfield"] for row in data} == {"0x00"}
    # UDP's 8, the header's 16, the tag's 16; between them what is padded to 16.
    assert all((int(row["udp.length"]) - 8 - 32) % 16 == 0 for row in data)


def test_our_response_is_read_too(pair: Pair, tmp_path: Path) -> None:
    """The other begins; our answer has the right length, index, DSCP, and an empty mac2."""
    pair.configure(subject_knows=False)
    subject, other = pair.sides("subject")
    path = tmp_path / "outer.pcap"
    capture = Capture.start(pair.space, pair.link.left, path, "udp")
    assert ping(other.node, subject.inner4, within_s=4)
    wait_until(lambda: len(capture.packets()) >= 4, 3, "four datagrams in the capture")
    capture.stop()
    rows = fields(
        path,
        ["ip.src", "ip.dsfield", "udp.length", "wg.type", "wg.reserved", "wg.sender", "wg.receiver", "wg.mac2"],
        display="wg",
        options=["-d", f"udp.port=={subject.port},wg"],
    )
    initiation, response = rows[0], rows[1]
    assert (response["ip.src"], response["wg.type"], response["udp.length"]) == (subject.outer4, "2", "100")
    assert response["wg.receiver"] == initiation["wg.sender"]
    assert response["wg.mac2"].replace(":", "") == "0" * 32
    assert response["ip.dsfield"] == "0x88"
    assert {row["wg.receiver"] for row in rows if row["ip.src"] == subject.outer4 and row["wg.type"] == "4"} == {
        initiation["wg.sender"]
    }


def alone(net: Net, tmp_path: Path) -> tuple[Userspace, Keys]:
    """A subject on a link with nobody at the other end."""
    space, far = net.namespace("subject"), net.namespace("far")
    link = net.veth(space, far, ["192.0.2.1/24"], ["192.0.2.2/24"])
    # Whoever is asked for is at hand, so that nothing waits for ARP.
    node = Userspace(SUBJECT, space, net.unique("ws"), link.left, tmp_path / "subject.log")
    node.start()
    return node, Keys.fresh()


def test_low_order_keys_get_nothing(net: Net, tmp_path: Path) -> None:
    """Seven public keys that make every shared secret zero, each with a keepalive of 1 s: not one datagram in two seconds."""
    node, keys = alone(net, tmp_path)
    try:
        peers = [
            PeerConfig(
                base64.b64encode(bytes.fromhex(point)).decode(), [f"10.9.{index}.0/24"], f"192.0.2.2:{1000 + index}", keepalive=1
            )
            for index, point in enumerate(LOW_ORDER)
        ]
        setconf(node, render(keys.private, 51820, peers))
        capture = Capture.start(node.space, node.underlay, tmp_path / "silence.pcap", "udp")
        up(node, ["10.77.0.1/24"])
        time.sleep(2.5)
        assert capture.packets() == []
        # The capture would have seen it: one ordinary peer is spoken to.
        wg(node, "set", node.interface, "peer", Keys.fresh().public, "endpoint", "192.0.2.2:2000", "persistent-keepalive", "1")
        wait_until(capture.packets, 3, "the initiation to an ordinary key")
        capture.stop()
        assert {struct.unpack("!H", frame[36:38])[0] for frame in capture.packets()} == {2000}
    finally:
        node.stop()


def test_without_a_private_key_it_is_silent(net: Net, tmp_path: Path) -> None:
    """No key, no initiation; and with one, at once."""
    node, keys = alone(net, tmp_path)
    try:
        setconf(node, render(None, 51820, [PeerConfig(Keys.fresh().public, ["10.9.0.0/24"], "192.0.2.2:2000", keepalive=1)]))
        capture = Capture.start(node.space, node.underlay, tmp_path / "silence.pcap", "udp")
        up(node, ["10.77.0.1/24"])
        time.sleep(2)
        assert capture.packets() == []
        path = f"/tmp/{node.interface}.key"
        node.write(path, keys.private)
        wg(node, "set", node.interface, "private-key", path)
        Path(path).unlink()
        wait_until(capture.packets, 3, "an initiation once there is a key")
        capture.stop()
    finally:
        node.stop()


def _throw(pair: Pair, datagrams: list[bytes]) -> None:
    """Send from the other's namespace, from a port of its own, to the subject's."""
    script = (
        "import socket,sys,struct\n"
        f"s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        "data=sys.stdin.buffer.read(); at=0\n"
        "while at<len(data):\n"
        "    size,=struct.unpack_from('!H',data,at); at+=2\n"
        f"    s.sendto(data[at:at+size],({pair.subject.outer4!r},{pair.subject.port})); at+=size\n"
    )
    raw = b"".join(struct.pack("!H", len(one)) + one for one in datagrams)
    subprocess.run([*pair.other_space.prefix(), "python3", "-c", script], input=raw, check=True, timeout=30)


def test_what_strangers_throw_changes_nothing(make: Callable[..., Pair]) -> None:
    """
    Every type and many lengths of noise, the largest datagram that UDP carries, an empty one: no answer in kind, no counted
    byte, no moved endpoint, no lost packet of the session that lives.
    """
    pair = make("wireguard-go")
    pair.configure()
    subject, other = pair.sides("subject")
    assert isinstance(subject.node, Userspace)
    assert ping(subject.node, other.inner4, count=2, within_s=4)
    before = transfer(subject.node, other.keys.public)
    endpoints = wg(subject.node, "show", subject.node.interface, "endpoints")
    noise = [b"", b"\x01", b"\x04\x00\x00\x00", os.urandom(65507), b"\x04\x00\x00\x00" + os.urandom(65503)]
    for kind in (0, 1, 2, 3, 4, 5, 255):
        for size in (16, 31, 32, 63, 64, 65, 91, 92, 93, 147, 148, 149, 1500, 9000):
            noise.append(bytes([kind, 0, 0, 0]) + os.urandom(size - 4))
            noise.append(bytes([kind]) + os.urandom(size - 1))
    for _ in range(5):
        _throw(pair, noise)
    assert transfer(subject.node, other.keys.public) == before
    assert wg(subject.node, "show", subject.node.interface, "endpoints") == endpoints
    assert ping(subject.node, other.inner4, count=20)
    assert ping(other.node, subject.inner4, count=20)
    assert subject.node.process is not None
    assert subject.node.process.poll() is None


def test_a_full_replay_delivers_nothing(make: Callable[..., Pair], tmp_path: Path) -> None:
    """What was sent to the subject is sent again, from elsewhere: no byte counted, no endpoint moved, no packet inside."""
    pair = make("wireguard-go")
    pair.configure()
    subject, other = pair.sides("subject")
    capture = Capture.start(pair.space, pair.link.left, tmp_path / "outer.pcap", f"udp and dst host {subject.outer4}")
    assert ping(other.node, subject.inner4, count=50, within_s=4)
    wait_until(lambda: len(capture.packets()) >= 51, 3, "the handshake and fifty pings")
    capture.stop()
    before = transfer(subject.node, other.keys.public)
    endpoints = wg(subject.node, "show", subject.node.interface, "endpoints")
    (link,) = pair.space.ip_json("-s", "link", "show", "dev", subject.node.interface)
    _throw(pair, [frame[42:] for frame in capture.packets()] * 2)
    assert ping(other.node, subject.inner4)
    # The one ping just sent: 84 bytes inside, 128 outside, each way.
    received, sent = transfer(subject.node, other.keys.public)
    assert (received - before[0], sent - before[1]) == (128, 128)
    assert wg(subject.node, "show", subject.node.interface, "endpoints") == endpoints
    (after,) = pair.space.ip_json("-s", "link", "show", "dev", subject.node.interface)
    assert after["stats64"]["rx"]["packets"] == link["stats64"]["rx"]["packets"] + 1


def test_a_port_without_ipv6(net: Net, tmp_path: Path) -> None:
    """A host with IPv6 switched off: the tunnel works over IPv4, and carries IPv6 nowhere."""
    space, far = net.namespace("subject"), net.namespace("other")
    link = net.veth(space, far, ["192.0.2.1/24"], ["192.0.2.2/24"])
    space.write_proc("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")
    subject = Userspace(SUBJECT, space, net.unique("ws"), link.left, tmp_path / "subject.log")
    other = Userspace("wireguard-go", far, net.unique("wo"), link.right, tmp_path / "other.log")
    keys, other_keys = Keys.fresh(), Keys.fresh()
    other.start()
    subject.start()
    try:
        setconf(other, render(other_keys.private, 51821, [PeerConfig(keys.public, ["10.77.0.1/32"])]))
        up(other, ["10.77.0.2/24"])
        setconf(subject, render(keys.private, 51820, [PeerConfig(other_keys.public, ["10.77.0.2/32"], "192.0.2.2:51821")]))
        up(subject, ["10.77.0.1/24"])
        assert ping(subject, "10.77.0.2", within_s=4)
        assert handshake_age_known(other, keys.public)
    finally:
        subject.stop()
        other.stop()


def test_130560_allowed_ips_in_one_set_and_one_get(net: Net, tmp_path: Path) -> None:
    """Half IPv4, half IPv6, over two peers; loaded and read back whole, each within seconds, and replaced as fast."""
    node, keys = alone(net, tmp_path)
    try:
        v4 = [f"10.{high}.{low}.0/24" for high in range(255) for low in range(256)]
        v6 = [str(IPv6Network((0xFD << 120 | high << 96 | low << 80, 48))) for high in range(255) for low in range(256)]
        peers = [Keys.fresh().public, Keys.fresh().public]
        halves = [v4[::2] + v6[::2], v4[1::2] + v6[1::2]]
        text = render(keys.private, 51820, [PeerConfig(public, prefixes) for public, prefixes in zip(peers, halves, strict=True)])
        for _ in range(2):
            started = time.monotonic()
            setconf(node, text)
            assert time.monotonic() - started < 5
        started = time.monotonic()
        shown = dict(line.split("\t", 1) for line in wg(node, "show", node.interface, "allowed-ips").splitlines())
        assert time.monotonic() - started < 5
        for public, prefixes in zip(peers, halves, strict=True):
            assert sorted(shown[public].split()) == sorted(prefixes)
    finally:
        node.stop()


@pytest.mark.parametrize("option", ["listen-port", "fwmark"])
def test_a_taken_port_and_a_mark(net: Net, tmp_path: Path, option: str) -> None:
    """A port that somebody has is refused, and the old one goes on; a mark is on every packet that leaves."""
    node, keys = alone(net, tmp_path)
    try:
        public = Keys.fresh().public
        setconf(node, render(keys.private, 51820, [PeerConfig(public, ["10.9.0.0/24"], "192.0.2.2:2000", keepalive=1)]))
        up(node, ["10.77.0.1/24"])
        if option == "listen-port":
            holder = node.space.popen("ncat", "-u", "-l", "51999", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            wait_until(lambda: ":CB1F " in node.run("cat", "/proc/net/udp", "/proc/net/udp6"), 5, "the port taken")
            assert not node.space.succeeds("wg", "set", node.interface, "listen-port", "51999")
            assert wg(node, "show", node.interface, "listen-port").strip() == "51820"
            holder.kill()
        else:
            node.run("nft", "add table inet t; add chain inet t out { type filter hook output priority 0; }")
            node.run("nft", "add rule inet t out udp dport 2000 meta mark 0x1234 counter")
            wg(node, "set", node.interface, "fwmark", "0x1234")
            wait_until(
                lambda: "packets 0" not in node.run("nft", "list", "chain", "inet", "t", "out"), 8, "a packet with the mark"
            )
    finally:
        node.stop()
