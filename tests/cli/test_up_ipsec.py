"""
`up`, `down`, `show`, `rekey` of node files with IPsec, on two hosts with a router between them: that the two sites talk, that the
file's mistakes are told before anything is touched, and that nothing is left whatever happens.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from namespaces import Namespace, Net, wait_until
from peers.nodes import Capture
from quick_world import World

pytestmark = pytest.mark.peers

MODULE = "ginnel.runtime.node"
FILE, PSK = "/etc/ginnel/edge.toml", "/etc/ginnel/edge.psk"
SECRET = "0x8f3a11c0ffee5eed5eed5eed0ddba115\n"
GRE = """
[tunnel.gre1]
kind = "gre"
local = "{us}"
remote = "{peer}"
address = ["10.10.10.{number}/30"]
routes = ["10.{lan}.0.0/24"]
mtu = "auto"

[tunnel.gre1.ipsec]
psk-file = "edge.psk"
"""
IPSEC = """
[tunnel.sts1]
kind = "ipsec"
local = "{us}"
remote = "{peer}"
address = ["10.10.10.{number}/30"]
routes = ["10.{lan}.0.0/24"]

[tunnel.sts1.ipsec]
psk-file = "/etc/ginnel/edge.psk"
esp = "aes128gcm16-x25519"
encapsulation = "udp"
"""


@dataclass(slots=True)
class Sites:
    """
    Two hosts with a LAN behind each, and a router between them that is the internet.

    left 203.0.113.10 and its LAN 10.30.0.0/24 · right 198.51.100.20 and its LAN 10.20.0.0/24.
    """

    left: World
    right: World
    left_lan: Namespace
    right_lan: Namespace
    router: Namespace
    #: The router's interface towards the left.
    wire: str

    def write(self, text: str, secret: str = SECRET) -> None:
        """The node file and the secret of both ends."""
        ends = (self.left, "203.0.113.10", "198.51.100.20", 1, 20), (self.right, "198.51.100.20", "203.0.113.10", 2, 30)
        for world, us, peer, number, lan in ends:
            world.write(FILE, text.format(us=us, peer=peer, number=number, lan=lan), 0o644)
            world.write(PSK, secret)

    def up(self, text: str = GRE) -> None:
        """Both ends, until both have an SA."""
        self.write(text)
        for world in (self.right, self.left):
            up(world)
        for world in (self.right, self.left):
            protected(world)


def join(net: Net, host: Namespace, name: str, address: str, far: Namespace, far_address: str) -> str:
    """A veth pair whose near end is called *name*; the far end's name."""
    link = net.veth(host, far, [], [far_address])
    host.ip("link", "set", "dev", link.left, "down")
    host.ip("link", "set", "dev", link.left, "name", name)
    host.ip("address", "add", address, "dev", name)
    host.ip("link", "set", "dev", name, "up")
    return link.right


@pytest.fixture
def sites(net: Net) -> Sites:
    left, right, router = net.namespace("left"), net.namespace("right"), net.namespace("inet")
    left_lan, right_lan = net.namespace("llan"), net.namespace("rlan")
    for space in (left, right, router):
        space.write_proc("/proc/sys/net/ipv4/ip_forward", "1")
    wire = join(net, left, "eth0", "203.0.113.10/24", router, "203.0.113.1/24")
    join(net, right, "eth0", "198.51.100.20/24", router, "198.51.100.1/24")
    join(net, left, "lan", "10.30.0.1/24", left_lan, "10.30.0.2/24")
    join(net, right, "lan", "10.20.0.1/24", right_lan, "10.20.0.2/24")
    for space, gateway in (
        (left, "203.0.113.1"), (right, "198.51.100.1"), (left_lan, "10.30.0.1"), (right_lan, "10.20.0.1"),
    ):  # fmt: skip
        space.ip("route", "add", "default", "via", gateway)
    made = Sites(World.around(left), World.around(right), left_lan, right_lan, router, wire)
    for world in (made.left, made.right):
        wait_until(lambda world=world: link_locals(world) == {"eth0", "lan"}, 10, "link-local addresses")
    return made


def link_locals(world: World) -> set[str]:
    """Interfaces that have got their link-local address: the kernel gives it a moment after they are up."""
    return {link["ifname"] for link in world.json("ip", "-j", "-6", "address", "show", "scope", "link")}


def up(world: World, *options: str) -> str:
    done = world.ginnel("up", "edge", *options)
    assert done.returncode == 0, done.stderr
    return done.stderr


def tunnel(world: World) -> dict[str, Any]:
    """The only tunnel, as `show --json` tells it."""
    done = world.ginnel("show", "edge", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["tunnels"]
    return dict(found)


def protected(world: World) -> dict[str, Any]:
    return wait_until(lambda: (found := tunnel(world))["ipsec"]["child"] and found, 15, "an SA")


def nothing_is_left(world: World, before: dict[str, Any]) -> None:
    assert world.snapshot() == before
    wait_until(lambda: not world.processes(MODULE), 10, "the process's end")
    assert sorted(path.name for path in world.path("/run/ginnel").iterdir() if not path.name.endswith(".lock")) == []


# ---------------------------------------------------------------- two sites


@pytest.mark.parametrize(("text", "name", "mtu"), [(GRE, "gre1", 1418), (IPSEC, "sts1", 1438)], ids=["gre", "ipsec"])
def test_two_sites_talk_and_down_leaves_nothing(sites: Sites, text: str, name: str, mtu: int) -> None:
    before = sites.left.snapshot(), sites.right.snapshot()
    sites.write(text)
    up(sites.right)
    said = up(sites.left)
    assert f"{name}: nothing passes until the peer has proven itself: `ginnel show {name}` tells how far it is" in said
    for world in (sites.left, sites.right):
        protected(world)
    assert sites.left_lan.ping("10.20.0.2", count=3, within_s=2)
    assert sites.right_lan.ping("10.30.0.2", count=3, within_s=2)
    assert sites.left_lan.ping("10.20.0.2", options=["-M", "do", "-s", str(mtu - 28)])
    assert not sites.left_lan.ping("10.20.0.2", options=["-M", "do", "-s", str(mtu - 27)])
    # The default proposals are counted with the heaviest suite in UDP; whoever names one suite has every byte.
    assert tunnel(sites.left)["mtu"] == mtu
    for world, left in zip((sites.left, sites.right), before, strict=True):
        done = world.ginnel("down", "edge")
        assert done.returncode == 0, done.stderr
        nothing_is_left(world, left)
        if world is sites.left:
            wait_until(lambda: tunnel(sites.right)["ipsec"]["child"] is None, 5, "the peer to be told of the end")


def test_show_tells_a_person_everything(sites: Sites) -> None:
    sites.up()
    assert sites.left_lan.ping("10.20.0.2", within_s=2)
    text = sites.left.ginnel("show", "gre1").stdout
    for expected in (
        r"gre1: gre over ipsec, engine, carrying",
        r"  protection: aes256gcm16, transport mode, with 198\.51\.100\.20 for \d+ s",
        r"    identities: we are 203\.0\.113\.10, the peer 198\.51\.100\.20 \(proven by psk\)",
        r"    path: 203\.0\.113\.10 → 198\.51\.100\.20 port 500, ESP as protocol 50, no NAT found",
        r"    ike: [0-9a-f]{16}:[0-9a-f]{16} \((initiator|responder)\) · aes256gcm16-\S+ · \d+ s old, rekeyed in 3 h",
        r"    esp: in [0-9a-f]{8}, out [0-9a-f]{8} · aes256gcm16-\S+ · transport · ESN · \d+ s old, rekeyed in \d+ min",
        r"    selectors: 203\.0\.113\.10\[gre\] ↔ 198\.51\.100\.20\[gre\]",
        r"    out [0-9a-f]{8}: \d+ packets, ",
        r"    mtu: 1418 inside is \d+ on the way: 20 IPv4, 8 ESP header, 8 IV, 16 ICV, ",
        r"  alive: yes \(198\.51\.100\.20 has proven who it is, heard 0 s ago\)",
    ):
        assert re.search(f"^{expected}", text, re.MULTILINE), f"{expected}\n{text}"
    assert "gre over ipsec" in sites.left.ginnel("show").stdout
    summed = sites.left.ginnel("mtu", "gre1")
    assert summed.returncode == 0, summed.stderr
    assert "ESP" in summed.stdout
    assert "1442" in summed.stdout, "what the suite that was agreed on would leave of 1500"
    assert "8f3a11c0" not in text + json.dumps(tunnel(sites.left))


def test_rekey_terminate_and_initiate_by_name(sites: Sites) -> None:
    sites.up()
    spi = tunnel(sites.left)["ipsec"]["child"]["spi_out"]
    for argv in (["rekey", "gre1"], ["rekey", "edge", "gre1", "--ike"]):
        done = sites.left.ginnel(*argv)
        assert (done.returncode, done.stdout) == (0, "gre1\n"), done.stderr
    wait_until(lambda: tunnel(sites.left)["ipsec"]["rekeyings"] >= 1, 5, "the rekeying")
    wait_until(lambda: tunnel(sites.left)["ipsec"]["ike_rekeyings"] >= 1, 5, "the IKE SA's rekeying")
    assert tunnel(sites.left)["ipsec"]["child"]["spi_out"] != spi
    assert sites.left_lan.ping("10.20.0.2", within_s=2)
    ended = tunnel(sites.left)["ipsec"]["ike"]["spi_i"]
    assert sites.left.ginnel("terminate", "edge").returncode == 0
    # The other end is one that starts: it begins anew by itself, perhaps before anybody has looked.
    wait_until(lambda: (ike := tunnel(sites.left)["ipsec"]["ike"]) is None or ike["spi_i"] != ended, 5, "the end")
    assert sites.left.ginnel("initiate", "edge").returncode == 0
    protected(sites.left)
    for argv, message in (
        (["rekey", "nosuch"], "no node or tunnel is called nosuch"),
        (["rekey", "edge", "gre9"], "there is no protected tunnel gre9"),
    ):
        done = sites.left.ginnel(*argv)
        assert done.returncode == 1
        assert message in done.stderr


def test_a_peer_by_name_is_asked_when_the_name_is_known(sites: Sites) -> None:
    sites.write(GRE)
    named = GRE.replace("{peer}", "right.example.org").format(us="203.0.113.10", number=1, lan=20)
    sites.left.write(FILE, named + 'remote-id = "198.51.100.20"\n', 0o644)
    with sites.left.path("/etc/hosts").open("a") as hosts:
        hosts.write("198.51.100.20 right.example.org\n")
    up(sites.right)
    up(sites.left)
    assert protected(sites.left)["remote_host"] == "right.example.org"
    assert sites.left_lan.ping("10.20.0.2", count=2, within_s=2)


# ---------------------------------------------------------------- killed


def test_killed_it_is_mended_and_back_with_the_peers_memory_and_nothing_goes_in_clear(sites: Sites, tmp_path: Path) -> None:
    sites.up()
    capture = Capture.start(sites.router, sites.wire, tmp_path / "wire.pcap", "net 10.0.0.0/8")
    # What hosts in the LAN go on sending must find no other way, at no moment.
    ping = sites.left_lan.popen("ping", "-n", "-q", "-i", "0.01", "10.20.0.2", stdout=subprocess.DEVNULL)
    crash = sites.left.path("/run/ginnel/edge.crash")
    secret = crash.read_bytes()
    (pid,) = sites.left.processes(MODULE)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not sites.left.processes(MODULE), 5, "its end")
    assert "killed" in sites.left.ginnel("show").stdout
    assert not sites.left_lan.ping("10.20.0.2", within_s=0.3)
    assert not sites.left.space.ping("10.10.10.2", within_s=0.3), "the peer's end inside"
    assert "mending what a killed edge left" in up(sites.left)
    assert crash.read_bytes() == secret
    wait_until(lambda: sites.left_lan.ping("10.20.0.2", within_s=0.5), 10, "traffic to be back")
    sites.left.space.ip("link", "set", "gre1", "down")
    assert not sites.left_lan.ping("10.20.0.2", within_s=0.3)
    assert not sites.left.space.ping("10.10.10.2", within_s=0.3)
    capture.stop()
    assert capture.packets() == []
    ping.kill()
    assert sites.left.ginnel("down", "edge").returncode == 0
    assert not crash.exists()


def test_killed_down_mends_it_and_nothing_is_left(sites: Sites) -> None:
    before = sites.left.snapshot()
    sites.up()
    (pid,) = sites.left.processes(MODULE)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not sites.left.processes(MODULE), 5, "its end")
    for name in ("edge", "gre1"):
        done = sites.left.ginnel("rekey", name)
        assert done.returncode == 1
        assert "was killed\n  hint: its process has ended; `ginnel up edge` or `ginnel down edge` mends" in done.stderr
    done = sites.left.ginnel("down", "edge")
    assert done.returncode == 0, done.stderr
    nothing_is_left(sites.left, before)


# ---------------------------------------------------------------- refused before anything is touched


def refused(world: World, *options: str) -> tuple[int, str]:
    """`up` must fail and touch nothing; its exit code and what it said."""
    before = world.snapshot()
    done = world.ginnel("up", "edge", *options)
    assert done.returncode != 0
    assert world.snapshot() == before
    assert not world.path("/run/ginnel/edge.json").exists()
    assert not world.path("/run/ginnel/edge.crash").exists()
    assert "8f3a11c0" not in done.stderr
    return done.returncode, done.stderr


def test_secrets_that_others_can_read_and_files_that_are_missing(sites: Sites) -> None:
    sites.write(GRE)
    sites.left.path(PSK).chmod(0o640)
    code, said = refused(sites.left)
    assert code == 1
    assert f"gre1: {PSK}: others may read the pre-shared secret: expected mode 0600, found 0640" in said
    assert f"hint: `chmod 600 {PSK}`" in said
    assert "[#]" not in said, "a step was begun"
    sites.left.path(PSK).unlink()
    assert f"gre1: {PSK}: the pre-shared secret cannot be read: No such file or directory" in refused(sites.left)[1]
    sites.left.write(PSK, "0xnothex")
    assert f"gre1: {PSK}: expected hexadecimal behind 0x" in refused(sites.left)[1]
    assert "expected hexadecimal" in refused(sites.left, "--dry-run")[1]


def test_a_dry_run_says_what_it_would_do(sites: Sites) -> None:
    before = sites.left.snapshot()
    sites.write(GRE)
    said = up(sites.left, "--dry-run")
    assert "[#] ip -4 route replace unreachable 10.20.0.0/24 metric 4278198272\n[#] python -m ginnel.runtime.node" in said
    assert "ip link set dev gre1 mtu 1418" in said
    assert sites.left.snapshot() == before
    assert not sites.left.processes(MODULE)


def test_the_kernels_backend_is_refused_by_name(sites: Sites) -> None:
    sites.write(GRE)
    code, said = refused(sites.left, "--backend", "kernel")
    assert code == 1
    assert "gre1: IPsec is our engine's" in said
    assert "leave out --backend kernel" in said


TAKE_THE_PORT = """
import socket, sys
taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
taken.bind(("", 4500))
print("ready", flush=True)
sys.stdin.read()
"""


def test_another_ike_daemon_is_named(sites: Sites) -> None:
    sites.write(GRE)
    other = sites.left.space.popen(sys.executable, "-c", TAKE_THE_PORT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    said = refused(sites.left)[1]
    assert re.search(r"UDP port 4500 is taken by python\S* \(process \d+\), and IKE needs it", said)


def test_another_node_that_has_ikes_ports_is_named(sites: Sites) -> None:
    sites.write(GRE)
    up(sites.left)
    text = sites.left.path(FILE).read_text().replace("gre1", "gre2").replace("198.51.100.20", "198.51.100.21")
    sites.left.write("/etc/ginnel/second.toml", text.replace("10.10.10.", "10.10.11.").replace("10.20.", "10.21."), 0o644)
    done = sites.left.ginnel("up", "second")
    assert done.returncode == 1
    assert re.search(r"UDP port 500 is taken by the node edge \(process \d+\), and IKE needs it", done.stderr)
    assert "put all protected tunnels into one node file" in done.stderr


# ---------------------------------------------------------------- the debug mode


def test_keys_are_written_only_when_a_person_asks_and_it_is_said_loudly(sites: Sites) -> None:
    sites.write(GRE)
    said = up(sites.left, "--write-keys", "/run/keys")
    assert "DEBUG: the keys of all IPsec SAs go to /run/keys: whoever reads them reads the tunnels" in said
    up(sites.right)
    protected(sites.left)
    directory = sites.left.path("/run/keys")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert "AES-GCM" in (directory / "esp_sa").read_text()
    assert "warning: the keys of all IPsec SAs are written to /run/keys" in sites.left.ginnel("show", "edge").stdout
    assert not sites.right.path("/run/keys").exists()
    assert sites.left.ginnel("down", "edge").returncode == 0
    before = sites.left.snapshot()
    done = sites.left.ginnel("up", "edge", "--write-keys", "/run/keys")
    assert done.returncode == 1
    assert "it is of an earlier run" in done.stderr
    assert not sites.left.path("/run/ginnel/edge.crash").exists()
    assert sites.left.snapshot() == before
    unprotected = GRE.partition("[tunnel.gre1.ipsec]")[0].format(us="203.0.113.10", peer="198.51.100.20", number=1, lan=20)
    sites.left.write(FILE, unprotected, 0o644)
    done = sites.left.ginnel("up", "edge", "--write-keys", "/run/keys2")
    assert (done.returncode, "is protected by IPsec" in done.stderr) == (2, True)
