"""
Both ends of one network file: ginnel with the node file that is rendered for it, strongSwan on the Linux kernel with what is
rendered for it by `swanctl`; GRE under IPsec and IPsec alone, either end beginning.

    paris  203.0.113.10    ginnel, in a namespace       10.20.0.1 behind it
    lyon   198.51.100.20   the guest, by acme.conf, acme.secrets.conf and acme.sh as they stand      10.30.0.1 behind it
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ginnel.network import Lock, NodeDescription, allocate, compile_network, parse_network
from ginnel.network.render import Secrets, node_toml, swanctl
from namespaces import Namespace, Net, wait_until
from peers.guest import Guest
from peers.ipsec_kernel import ESP_MODULES
from peers.node_files import NodeFile
from peers.strongswan import Charon, InGuest

NETWORK = """\
[network]
name = "acme"
pool = ["10.10.0.0/30"]
kind = "{kind}"
shape = "none"

[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24"]

[node.lyon]
endpoint = "198.51.100.20"
lans = ["10.30.0.0/24"]

[[link]]
between = {between}
"""
PARIS, LYON = "203.0.113.10", "198.51.100.20"
BEHIND_PARIS, BEHIND_LYON = "10.20.0.1", "10.30.0.1"
SECRET = 'nobody "guesses" \\ this'
UP_S = 30.0
#: By its path: the name alone is busybox, and its own `ip` with it.
SHELL = "/bin/sh"


@dataclass(slots=True)
class Ends:
    """Both hosts; nothing runs yet but charon, which knows nothing."""

    net: Net
    guest: Guest
    space: Namespace
    charon: Charon
    directory: Path

    def swanctl(self, description: NodeDescription) -> str:
        """lyon's files, where they belong; the script's path."""
        made = {file.name: file for file in swanctl.files(description, Secrets(ipsec={"paris": SECRET}))}
        script = f"{self.charon.directory}/acme.sh"
        self.charon.place.write(script, made["acme.sh"].content, 0o755)
        self.charon.place.run(SHELL, script, "up")
        self.charon.load_text(made["acme.conf"].text + made["acme.secrets.conf"].text)
        return script

    def node(self, description: NodeDescription) -> NodeFile:
        """paris's node file, its secret beside it."""
        secret = self.directory / "lyon.psk"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        return NodeFile.write(self.net, self.space, self.directory, node_toml.render(description))


@pytest.fixture(scope="module")
def ends(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    guest.load("ip_gre", "nf_tables", *ESP_MODULES)
    with Net.create() as net:
        space = net.namespace("paris")
        link = guest.join(space, [f"{PARIS}/24"])
        space.ip("route", "add", f"{LYON}/32", "dev", link.left)
        space.ip("address", "add", f"{BEHIND_PARIS}/24", "dev", "lo")
        guest.shell(
            f"set -e; ip address add {LYON}/32 dev eth0; ip route add {PARIS}/32 dev eth0 src {LYON};"
            f"ip address add {BEHIND_LYON}/24 dev lo"
        )
        charon = Charon.start(InGuest(guest))
        try:
            yield Ends(net, guest, space, charon, tmp_path_factory.mktemp("swanctl"))
        finally:
            charon.close()
            guest.shell(
                f"ip address del {LYON}/32 dev eth0; ip route del {PARIS}/32; ip address del {BEHIND_LYON}/24 dev lo", check=False
            )


@pytest.mark.parametrize(("kind", "begins"), [("gre+ipsec", "lyon"), ("ipsec", "paris")])
def test_both_ends_of_one_file(ends: Ends, kind: str, begins: str) -> None:
    between = '["paris", "lyon"]' if begins == "paris" else '["lyon", "paris"]'
    network = parse_network(NETWORK.format(kind=kind, between=between), "network.toml")
    both = compile_network(network, allocate(network, Lock()), {})
    script = ends.swanctl(both["lyon"])
    try:
        with ends.node(both["paris"]) as node:
            try:
                wait_until(lambda: ends.space.ping(BEHIND_LYON, count=2, options=["-I", BEHIND_PARIS]), UP_S, "a ping")
            except AssertionError as missing:
                raise AssertionError(f"{missing}\n{node.text()}\n{ends.charon.said()[-4000:]}") from None
            children = ends.charon.children()
            assert children
            assert {child["mode"] for child in children} == {"TUNNEL" if kind == "ipsec" else "TRANSPORT"}
            assert all(child.get("encap") == "yes" for child in children), "in UDP, as both files say"
            ends.charon.place.run("ping", "-n", "-q", "-c", "2", "-W", "3", "-I", BEHIND_LYON, BEHIND_PARIS)
            tunnel = both["paris"].tunnel("lyon")
            ends.space.ping(BEHIND_LYON, options=["-M", "do", "-s", str(tunnel.mtu - 28), "-I", BEHIND_PARIS])
        # The device's own packets (neighbour discovery) spring the trap again: what ends is the child.
        wait_until(lambda: not ends.charon.children(), UP_S, "the end there, when ours is taken down")
    finally:
        ends.charon.load_text("")
        ends.charon.place.run(SHELL, script, "down", check=False)


def test_without_strongswan_nothing_leaves_in_clear(ends: Ends) -> None:
    """The script's own rules: no connection is loaded, so there is no policy, and GRE is dropped all the same."""
    network = parse_network(NETWORK.format(kind="gre+ipsec", between='["paris", "lyon"]'), "network.toml")
    description = compile_network(network, allocate(network, Lock()), {})["lyon"]
    script = ends.swanctl(description)
    ends.charon.load_text("")
    try:
        seen = ends.directory / "seen"
        with seen.open("wb") as output:
            capture = ends.space.popen(
                "tcpdump", "-n", "-l", "-i", "any", "--immediate-mode", "proto gre or udp port 9", stdout=output, stderr=output
            )
            try:
                wait_until(lambda: b"listening" in seen.read_bytes(), 10, "tcpdump")
                ping = ("ping", "-n", "-q", "-c", "2", "-W", "1", "-I", BEHIND_LYON, BEHIND_PARIS)
                ends.charon.place.run(*ping, check=False)
                # A control that comes after it by the same wire: when that is seen, GRE would have been.
                ends.charon.place.run(SHELL, "-c", f"echo control | socat - UDP4-DATAGRAM:{PARIS}:9")
                wait_until(lambda: b"UDP" in seen.read_bytes(), 10, "the control")
            finally:
                capture.terminate()
                capture.wait(timeout=10)
        assert b"GRE" not in seen.read_bytes()
        # And with the rules taken away it does leave: the test can fail.
        ends.charon.place.run("nft", "delete", "table", "inet", "ginnel-acme-ipsec")
        with seen.open("wb") as output:
            capture = ends.space.popen(
                "tcpdump", "-n", "-l", "-i", "any", "--immediate-mode", "proto gre", stdout=output, stderr=output
            )
            try:
                wait_until(lambda: b"listening" in seen.read_bytes(), 10, "tcpdump")
                ends.charon.place.run(*ping, check=False)
                wait_until(lambda: b"GRE" in seen.read_bytes(), 10, "GRE in clear")
            finally:
                capture.terminate()
                capture.wait(timeout=10)
    finally:
        ends.charon.place.run(SHELL, script, "down", check=False)
