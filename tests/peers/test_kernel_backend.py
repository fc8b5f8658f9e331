"""
`ginnel up --backend kernel` where the kernel really has WireGuard: this very ginnel, run inside the guest.

Starting Python there takes seconds, so each case does all that it can with few commands.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from namespaces import Net, wait_until
from peers.gre_nodes import ping_argv, succeeds
from peers.guest import Guest
from peers.nodes import SUBJECT, Keys, PeerConfig, Userspace, fresh_psk, ping, render, setconf, up

GINNEL = str(Path(sys.executable).with_name("ginnel"))
#: What `up` may touch, as it was before and must be after `down`.
STATE = (
    "ip link show | grep -o '^[0-9]*: [^:]*'; ip address; ip -4 rule; ip -6 rule;"
    "ip -4 route show table all; ip -6 route; host nft list ruleset"
)


@pytest.fixture
def machine(guest: Guest) -> Iterator[Guest]:
    """The guest with what wg-quick's ways need of a kernel, and an address."""
    guest.load("nf_tables", "nft_ct", "nft_fib_inet", "nft_reject_inet")
    guest.run("ip", "address", "add", "192.0.2.2/24", "dev", "eth0")
    yield guest
    guest.run("ip", "address", "flush", "dev", "eth0")


def test_a_wg_quick_file_on_the_kernels_wireguard(machine: Guest, net: Net, tmp_path: Path) -> None:
    """A full tunnel with a preshared key and hooks: it carries both ways, says so by name, and leaves nothing behind."""
    space = net.namespace("peer")
    link = machine.join(space, ["192.0.2.1/24"])
    peer = Userspace(SUBJECT, space, net.unique("wp"), link.left, tmp_path / "peer.log")
    keys, theirs, psk = Keys.fresh(), Keys.fresh(), fresh_psk()
    peer.start()
    try:
        setconf(peer, render(theirs.private, 51820, [PeerConfig(keys.public, ["10.88.0.2/32", "fd88::2/128"], psk=psk)]))
        up(peer, ["10.88.0.1/24", "fd88::1/64"])
        text = (
            f"[Interface]\nPrivateKey = {keys.private}\nAddress = 10.88.0.2/24, fd88::2/64\nMTU = 1400\n"
            "PostUp = echo %i up >> /tmp/hooks\nPostDown = echo %i down >> /tmp/hooks\n\n"
            f"# paris\n[Peer]\nPublicKey = {theirs.public}\nPresharedKey = {psk}\nEndpoint = 192.0.2.1:51820\n"
            "AllowedIPs = 0.0.0.0/0, ::/0\n"
        )
        machine.host("sh", "-c", f"umask 077; mkdir -p /run/conf; printf %s {shlex.quote(text)} > /run/conf/wgk.conf")
        before = machine.shell(STATE)
        said = machine.host(GINNEL, "up", "--backend", "kernel", "/run/conf/wgk.conf")
        assert "ip link add wgk type wireguard" in said
        assert keys.private not in said
        assert "wireguard" in machine.run("ip", "-d", "link", "show", "wgk")
        wait_until(lambda: succeeds(machine, *ping_argv("10.88.0.1", count=1)), 10, "the kernel to reach the peer")
        assert succeeds(machine, *ping_argv("fd88::1"))
        assert ping(peer, "10.88.0.2", within_s=2)
        assert ping(peer, "fd88::2", within_s=2)
        # Everything else goes into the tunnel, what WireGuard itself sends does not.
        assert "dev wgk" in machine.run("ip", "route", "get", "198.51.100.1")
        assert "dev eth0" in machine.run("ip", "route", "get", "192.0.2.1", "mark", "0xca6c")

        shown = json.loads(machine.host(GINNEL, "show", "wgk", "--json"))["tunnel"]
        assert (shown["backend"], shown["state"], shown["mtu"]) == ("kernel", "up", 1400)
        assert shown["configured"]["answer"] == "yes"
        assert shown["alive"]["answer"] == "yes"
        (other,) = shown["peers"]
        assert other["public_key"] == theirs.public
        assert min(other["rx_bytes"], other["tx_bytes"]) > 0

        machine.host(GINNEL, "down", "/run/conf/wgk.conf")
        assert machine.shell(STATE) == before
        assert machine.shell("cat /host/tmp/hooks").split("\n")[:2] == ["wgk up", "wgk down"]
    finally:
        peer.stop()
        machine.run("ip", "link", "del", "wgk", check=False)
