"""
Node files where the kernel has GRE and IP in IP: this very ginnel, run inside the guest.

As a backend: `up --backend kernel` makes by netlink what `ip` makes of the very words that it says, and takes it down again.
Beside our own tunnels: the kernel gets every packet that our raw sockets get, and refuses what it has no tunnel for; none of
those answers may leave. Starting Python there takes seconds, so each case does all that it can with few commands.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from namespaces import Net, wait_until
from peers.gre_nodes import TUNNEL_MODULES, Near, ping_argv, succeeds
from peers.guest import Guest
from peers.nodes import Capture

GINNEL = str(Path(sys.executable).with_name("ginnel"))

#: One of each kind, and every option that has a word of iproute2's.
KINDS = """
[tunnel.k1]
kind = "gre"
local = "192.0.2.2"
remote = "192.0.2.1"
ikey = 7
okey = 4000000022
csum = true
seq = true
ttl = 33
tos = 16
address = ["10.91.1.2/24"]
routes = ["10.191.1.0/24"]

[tunnel.k2]
kind = "gre"
local = "2001:db8::2"
remote = "2001:db8::1"
key = 9
encaplimit = 4
flowlabel = 0x12345
tos = "inherit"
address = ["10.91.2.2/24", "fd91:2::2/64"]

[tunnel.k3]
kind = "gretap"
local = "192.0.2.2"
remote = "192.0.2.1"
key = 3
ignore-df = true
pmtudisc = false
fwmark = 0x42
address = ["10.91.3.2/24"]

[tunnel.k4]
kind = "gretap"
local = "2001:db8::2"
remote = "2001:db8::1"
address = ["10.91.4.2/24"]

[tunnel.k5]
kind = "ipip"
local = "192.0.2.2"
remote = "192.0.2.1"
dev = "eth0"
address = ["10.91.5.2/24"]

[tunnel.k6]
kind = "sit"
local = "192.0.2.2"
remote = "192.0.2.1"
tos = "inherit"
address = ["fd91:6::2/64"]

[tunnel.k7]
kind = "ip6tnl"
local = "2001:db8::2"
remote = "2001:db8::1"
ttl = 12
address = ["10.91.7.2/24", "fd91:7::2/64"]

[tunnel.k8]
kind = "gre"
local = "192.0.2.2"
remote = "192.0.2.1"
encapsulation = "udp"
key = 8
address = ["10.91.8.2/24"]

[tunnel.k9]
kind = "gre"
local = "2001:db8::2"
remote = "2001:db8::1"
encapsulation = "udp"
key = 8
address = ["10.91.9.2/24"]
"""
#: What `up` may touch, as it was before and must be after `down`.
STATE = (
    "ip link show | grep -o '^[0-9]*: [^:]*'; ip address show dev eth0; ip rule; ip route show table all; ip -6 route;"
    "ip fou show; ip -6 fou show; host nft list ruleset"
)


@pytest.fixture
def machine(guest: Guest) -> Iterator[Guest]:
    """The guest with tunnels of its own, and addresses."""
    guest.load("nf_tables", "nft_ct", "nft_fib_inet", "nft_reject_inet", "tun", *TUNNEL_MODULES)
    for address in ("192.0.2.2/24", "2001:db8::2/64"):
        guest.run("ip", "address", "add", address, "dev", "eth0")
    guest.host("mkdir", "-p", "/run/conf")
    yield guest
    guest.run("ip", "address", "flush", "dev", "eth0")


def put(machine: Guest, path: str, text: str) -> str:
    """A file in the guest's /run; its path."""
    machine.shell(f"printf %s {shlex.quote(text)} > /host{path}")
    return path


def devices(machine: Guest, *options: str) -> dict[str, Any]:
    """What the kernel says of the tunnels k1, k2 …, but for what is a device's own."""
    shown = json.loads(machine.run("ip", *options, "-details", "-json", "link", "show"))
    return {
        link["ifname"]: {"mtu": link["mtu"], **link["linkinfo"]}
        for link in shown
        if link["ifname"].startswith("k") and link["ifname"][1:].isdigit()
    }


def test_the_kernels_tunnels_are_those_that_ip_makes_of_the_same_words(machine: Guest, net: Net) -> None:
    """Each device is attribute for attribute what iproute2 makes of the line that `up` printed; `down` leaves nothing."""
    machine.join(net.namespace("peer"), ["192.0.2.1/24", "2001:db8::1/64"])
    path = put(machine, "/run/conf/kinds.toml", KINDS)
    machine.shell("ip link del gre1 2>/dev/null; ip netns add words; ip -n words link set lo up")
    try:
        before = machine.shell(STATE)
        said = machine.host(GINNEL, "up", "--backend", "kernel", path)
        ours = devices(machine)
        assert sorted(ours) == [f"k{index}" for index in range(1, 10)]
        lines = [line.partition("ip link add ")[2] for line in said.splitlines() if "ip link add " in line]
        assert len(lines) == 9
        # The same underlay in another namespace, and the same lines, by iproute2 itself.
        machine.shell(
            "set -e; ip -n words link add eth0 type dummy; ip -n words link set eth0 up;"
            "ip -n words address add 192.0.2.2/24 dev eth0; ip -n words address add 2001:db8::2/64 dev eth0 nodad;"
            + "".join(f"ip -n words link add {line};" for line in lines)
        )
        theirs = devices(machine, "-n", "words")
        assert ours == theirs
        assert "10.191.1.0/24 dev k1" in machine.run("ip", "route")
        shown = json.loads(machine.host(GINNEL, "show", "kinds", "--json"))
        told = {one["name"]: (one["backend"], one["state"], one["mtu"]) for one in shown["tunnels"]}
        assert told == {name: ("kernel", "up", device["mtu"]) for name, device in ours.items()}
        machine.host(GINNEL, "down", path)
        assert machine.shell(STATE) == before
    finally:
        machine.shell("ip netns del words; for index in 1 2 3 4 5 6 7 8 9; do ip link del k$index 2>/dev/null; done", check=False)


# ---------------------------------------------------------------- beside our own

OURS = """
[node]
backend = "engine"

[tunnel.b1]
kind = "gre"
local = "192.0.2.2"
remote = "192.0.2.1"
key = 7
address = ["10.92.1.2/24"]

[tunnel.b2]
kind = "gre"
local = "2001:db8::2"
remote = "2001:db8::1"
address = ["10.92.2.2/24"]

[tunnel.b3]
kind = "ipip"
local = "192.0.2.2"
remote = "192.0.2.1"
address = ["10.92.3.2/24"]
"""


def test_the_kernels_own_gre_refuses_nothing_of_ours_and_a_twin_is_named(machine: Guest, net: Net, tmp_path: Path) -> None:
    """
    Control: without ginnel the kernel answers each packet of the peer's with port-unreachable. With it none leaves, traffic goes
    both ways, and `up` tells of the kernel's GRE; a kernel's tunnel with the same ends is refused by its name.
    """
    space = net.namespace("peer")
    link = machine.join(space, ["192.0.2.1/24", "2001:db8::1/64"])
    near = Near(space)
    near.start()
    ends4, ends6 = {"local": "192.0.2.1", "remote": "192.0.2.2"}, {"local": "2001:db8::1", "remote": "2001:db8::2"}
    made = {"p1": ("gre", ends4, {"ikey": 7, "okey": 7}), "p2": ("gre", ends6, {}), "p3": ("ipip", ends4, {})}
    for number, (name, (kind, ends, options)) in enumerate(made.items(), 1):
        near.make(name, kind, ends["local"], ends["remote"], mtu=1400, **options)
        space.write_proc(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "1")
        near.raise_up(name, 1400, [f"10.92.{number}.1/24"])
    refusals = Capture.start(space, link.left, tmp_path / "refusals.pcap", "icmp[0] == 3 or (icmp6 and ip6[40] == 1)")
    machine.shell("echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; echo 0 > /proc/sys/net/ipv6/icmp/ratelimit")
    # Whoever tested IPsec here before left it, and it takes every packet of protocol 4 and answers none.
    machine.unload("xfrm_interface")
    path = put(machine, "/run/conf/ours.toml", OURS)
    try:
        for number in (1, 2, 3):
            had = len(refusals.packets())

            def refused_once_more(number: int = number, had: int = had) -> bool:
                # The first may find no neighbour yet: the guest is slow.
                assert not succeeds(near, *ping_argv(f"10.92.{number}.2", count=1, within_s=0.5))
                return len(refusals.packets()) > had

            wait_until(refused_once_more, 20, f"the control: a refusal of p{number}")

        before = machine.shell(STATE)
        machine.shell("ip link add twin type gre local 192.0.2.2 remote 192.0.2.1 key 7")
        refused = machine.host(GINNEL, "up", path, check=False)
        assert "twin" in refused
        assert "b1" in refused
        machine.shell("ip link del twin")
        assert machine.shell(STATE) == before
        control = len(refusals.packets())

        said = machine.host(GINNEL, "up", path)
        warned = [line for line in said.splitlines() if line.startswith("[!]")]
        assert [line for line in warned if "GRE" in line and "IPv4" in line and "ip_gre" in line]
        assert [line for line in warned if "GRE" in line and "IPv6" in line and "ip6_gre" in line]
        assert [line for line in warned if "IP in IP" in line and "IPv4" in line]
        for number in (1, 2, 3):
            assert succeeds(near, *ping_argv(f"10.92.{number}.2")), said
            machine.run(*ping_argv(f"10.92.{number}.1"))
        assert len(refusals.packets()) == control, "a refusal left while ginnel ran"
        machine.host(GINNEL, "down", path)
        assert machine.shell(STATE) == before
    finally:
        near.stop()
        if "ours.json" in machine.shell("ls /host/run/ginnel 2>/dev/null", check=False):
            machine.host(GINNEL, "down", path, check=False)
