"""
Protected tunnels of two node processes of ours, on real devices and namespaces: every kind and mode, both families, UDP and raw.

What nobody may ever see on the wire is a canary in the packets; each test that has traffic captures the link between the nodes.
What other IKE daemons say is in test_ipsec_strongswan.py and test_ipsec_ike_kernel.py.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pki
from ginnel.config.node import IpsecConfig, NodeConfig, PlainConfig, to_json
from namespaces import Namespace, Net, wait_until
from peers.node_running import NodeProcess, refusal
from peers.nodes import Capture, fields
from peers.running import control_path

#: In every packet that tests send through a tunnel; on the wire it is a leak.
CANARY = b"canary-in-a-coal-mine"
SECRET = "correct horse battery staple\n"
#: How long an establishment may take on a busy machine.
UP_S = 10.0
#: What the issue demands after a kill.
BACK_S = 2.0

Start = Callable[..., NodeProcess]


@pytest.fixture
def start(net: Net, tmp_path: Path) -> Iterator[Start]:
    """`start(space, *tunnels)`: a running node under a name of its own; ended at the end."""
    started: list[NodeProcess] = []

    def made(space: Namespace, *tunnels: PlainConfig, name: str = "", write_keys: str = "") -> NodeProcess:
        node = NodeProcess.start(space, name or net.unique("esp"), tmp_path, tunnels, write_keys=write_keys)
        started.append(node)
        return node

    yield made
    for node in started:
        if node.process.poll() is None:
            node.stop()
        for path in (control_path(node.config.name), crash_path(node.config.name)):
            path.unlink(missing_ok=True)


def crash_path(name: str) -> Path:
    return Path("/run/ginnel", f"{name}.crash")


def psk(directory: Path, name: str = "psk", secret: str = SECRET) -> str:
    path = directory / name
    path.write_text(secret)
    path.chmod(0o600)
    return str(path)


@dataclass(slots=True)
class Shape:
    """One way to protect a tunnel."""

    label: str
    kind: Any = "gre"
    family: Any = 4
    mode: Any = "transport"
    encapsulation: Any = "auto"
    esp: str = "aes256gcm16-x25519"
    #: Options of the tunnel itself.
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    #: What is on the wire: tcpdump's words.
    wire: str = "esp"

    def __str__(self) -> str:
        return self.label


class Joined:
    """Two nodes with one protected tunnel each, inside 10.9.0.1 and .2, 2001:db8:9::1 and ::2; over one link."""

    def __init__(
        self,
        net: Net,
        start: Start,
        directory: Path,
        shape: Shape | None = None,
        *,
        left: dict[str, Any] | None = None,
        right: dict[str, Any] | None = None,
        established: bool = True,
        write_keys: str = "",
    ) -> None:
        self.net, self._start, self.directory = net, start, directory
        self.shape = shape or Shape("default")
        self.left_space, self.right_space = net.namespace("l"), net.namespace("r")
        self.veth = net.veth(
            self.left_space, self.right_space, ["192.0.2.1/24", "2001:db8::1/64"], ["192.0.2.2/24", "2001:db8::2/64"]
        )
        self.capture = Capture.start(self.left_space, self.veth.left, directory / "wire.pcap")
        self.left_config = self.config(1, 2, **(left or {}))
        self.right_config = self.config(2, 1, **(right or {}))
        self.left = start(self.left_space, self.left_config, write_keys=write_keys)
        self.right = start(self.right_space, self.right_config)
        self.devices_up(right=True)
        self.devices_up(left=True)
        if established:
            self.established()

    def config(self, us: int, peer: int, **changes: Any) -> PlainConfig:
        shape = self.shape
        network = "192.0.2." if shape.family == 4 else "2001:db8::"
        tunnel = {key: changes.pop(key) for key in ("local", "remote", "start_up") if key in changes}
        ipsec = IpsecConfig(
            mode=shape.mode,
            psk_file=psk(self.directory),
            esp_proposals=(shape.esp,),
            encapsulation=shape.encapsulation,
            retransmit_s=0.5,
            give_up_s=5.0,
            **changes,
        )
        return PlainConfig(
            "gre1",
            shape.kind,
            shape.family,
            **{"local": f"{network}{us}", "remote": f"{network}{peer}", "mtu": 1280, **shape.options, **tunnel},
            ipsec=ipsec,
        )

    def devices_up(self, *, left: bool = False, right: bool = False) -> None:
        addresses = ["10.9.0.{}/30", "2001:db8:9::{}/64"]
        if self.shape.kind == "ipip":
            addresses = addresses[:1]
        if self.shape.kind == "sit":
            addresses = addresses[1:]
        for node, number, wanted in ((self.left, 1, left), (self.right, 2, right)):
            if not wanted:
                continue
            for address in addresses:
                node.space.ip("address", "add", address.format(number), "dev", "gre1")
            node.space.ip("link", "set", "gre1", "up")
            node.space.settled("gre1")

    # ------------------------------------------------------------ what tests ask

    def established(self, within_s: float = UP_S) -> None:
        """Both ends have a child."""
        for node in (self.left, self.right):
            self.protected(node, within_s)

    def protected(self, node: NodeProcess, within_s: float = UP_S) -> dict[str, Any]:
        def child() -> dict[str, Any] | None:
            view = node.show()["ipsec"]
            return view if view["child"] is not None else None

        try:
            return wait_until(child, within_s, "a child SA")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.why()}") from None

    def carries(self, count: int = 3) -> None:
        """Pings with the canary, from both ends."""
        for target in self.targets():
            for space, number in ((self.left_space, 2), (self.right_space, 1)):
                pattern = CANARY[:16].hex()
                done = space.ping(target.format(number), count=count, within_s=2.0, options=["-p", pattern, "-s", "200"])
                assert done, self.why()

    def targets(self) -> list[str]:
        inside = ["10.9.0.{}", "2001:db8:9::{}"]
        return inside[:1] if self.shape.kind == "ipip" else inside[1:] if self.shape.kind == "sit" else inside

    def nothing_in_clear(self) -> list[bytes]:
        """Of what was captured until now."""
        frames = self.capture.packets()
        assert not [frame for frame in frames if CANARY[:16] in frame], "a packet went out in clear"
        return frames

    def revive(self, node: NodeProcess) -> NodeProcess:
        """Start a killed node again, as it was."""
        return self._start(node.space, *node.config.plain, name=node.config.name)

    def why(self) -> str:
        shown = "\n".join(json.dumps(node.show(), indent=1) for node in (self.left, self.right) if node.process.poll() is None)
        return f"{shown}\n--- left:\n{self.left.said()[-4000:]}\n--- right:\n{self.right.said()[-4000:]}"


# ---------------------------------------------------------------- every kind, in one shape or another

SHAPES = [
    Shape("gre-transport"),
    Shape("gre-transport-raw-v6", family=6, encapsulation="raw", options={"ikey": 42, "okey": 42}, esp="aes128-sha256-ecp256"),
    Shape(
        "gre-tunnel-udp-v6",
        family=6,
        mode="tunnel",
        encapsulation="udp",
        esp="chacha20poly1305",
        wire="udp port 4500",
        options={"ikey": 7, "okey": 7, "icsum": True, "ocsum": True},
    ),
    Shape("gretap", kind="gretap", esp="aes256-sha512-modp2048"),
    Shape("ipip", kind="ipip", esp="aes128gcm16-esn"),
    Shape("sit", kind="sit", mode="tunnel"),
    Shape("ip6tnl", kind="ip6tnl", family=6),
    Shape("ipsec-udp-v6", kind="ipsec", mode="tunnel", family=6, encapsulation="udp", wire="udp port 4500"),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_carries_and_nothing_is_in_clear(net: Net, start: Start, tmp_path: Path, shape: Shape) -> None:
    both = Joined(net, start, tmp_path, shape)
    both.carries()
    view = both.protected(both.left)
    assert view["state"] == "protected"
    assert view["encapsulation"] == ("udp" if "udp" in shape.wire else "raw")
    assert view["child"]["mode"] == ("tunnel" if shape.kind == "ipsec" else shape.mode)
    # Both ends begin at once: there may be a second pair for two seconds.
    assert {one["direction"] for one in view["associations"] if one["packets"]} == {"in", "out"}
    shown = both.left.show()
    assert (shown["alive"]["answer"], shown["carrying"]["answer"]) == ("yes", "yes")
    both.capture.stop()
    both.nothing_in_clear()
    seen = subprocess.run(
        ["tcpdump", "-n", "-r", str(both.capture.path), shape.wire], capture_output=True, text=True, check=True, timeout=30
    )
    assert len(seen.stdout.splitlines()) >= 6
    clear = subprocess.run(
        ["tcpdump", "-n", "-r", str(both.capture.path), "proto 47 or proto 4 or proto 41 or ip6 proto 47 or ip6 proto 41"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert clear.stdout == ""


def test_without_the_peer_nothing_leaves_and_it_is_counted(net: Net, start: Start, tmp_path: Path) -> None:
    both = Joined(net, start, tmp_path, established=False, left={"start": "wait"}, right={"start": "wait"})
    assert not both.left_space.ping("10.9.0.2", count=3, within_s=0.3, options=["-p", CANARY[:16].hex()])
    shown = both.left.show()
    assert shown["drops"]["no_sa"] >= 3
    assert (shown["state"], shown["carrying"]["answer"]) == ("up", "no")
    assert shown["carrying"]["why"].startswith("nothing may leave without an SA: ")
    both.capture.stop()
    both.nothing_in_clear()
    assert not [frame for frame in both.capture.packets() if frame[12:14] == b"\x08\x00" and frame[23] in {47, 50}]


def test_the_first_packet_begins_where_it_is_a_trap(net: Net, start: Start, tmp_path: Path) -> None:
    both = Joined(net, start, tmp_path, established=False, left={"start": "trap"}, right={"start": "wait"})
    assert both.left.show()["ipsec"]["child"] is None
    both.left_space.ping("10.9.0.2", count=1, within_s=0.2)
    both.established()
    both.carries()


def test_a_trap_springs_again_when_the_first_attempt_was_given_up(net: Net, start: Start, tmp_path: Path) -> None:
    trap = {"start": "trap", "dpd_action": "trap"}
    both = Joined(net, start, tmp_path, established=False, left=trap, right={"start": "wait"})
    both.right.process.send_signal(signal.SIGKILL)
    both.right.process.wait(timeout=10)
    both.left_space.ping("10.9.0.2", count=1, within_s=0.2)
    wait_until(lambda: both.left.show()["ipsec"]["state"] == "connecting", UP_S, "an attempt")
    wait_until(lambda: both.left.show()["ipsec"]["state"] != "connecting", UP_S, "its end")
    both.right = both.revive(both.right)
    both.devices_up(right=True)
    wait_until(lambda: both.left_space.ping("10.9.0.2", count=1, within_s=0.2), UP_S, "traffic")
    both.capture.stop()
    both.nothing_in_clear()


# ---------------------------------------------------------------- what both ends say


def test_a_wrong_secret_is_said_at_both_ends(net: Net, start: Start, tmp_path: Path) -> None:
    wrong = psk(tmp_path, "wrong", "another secret")
    both = WrongSecret(net, start, tmp_path, wrong)
    refused = wait_until(lambda: both.left.show()["ipsec"]["refusal"], UP_S, "the initiator's explanation")
    answered = wait_until(lambda: both.right.show()["ipsec"]["refusal"], UP_S, "the responder's explanation")
    for lines in (refused, answered):
        assert any("192.0.2." in line for line in lines), lines
    assert any("wrong" in line or "psk" in line for line in answered), answered
    for node in (both.left, both.right):
        said = node.said()
        assert "negotiation_failed" in said
        assert "correct horse" not in said
        assert "another secret" not in said
        shown = node.show()
        assert shown["ipsec"]["child"] is None
        assert shown["carrying"]["answer"] == "no"
    both.capture.stop()
    both.nothing_in_clear()


class WrongSecret(Joined):
    """The right end has another secret."""

    def __init__(self, net: Net, start: Start, directory: Path, wrong: str) -> None:
        self.wrong = wrong
        super().__init__(net, start, directory, established=False)

    def config(self, us: int, peer: int, **changes: Any) -> PlainConfig:
        made = super().config(us, peer, **changes)
        assert made.ipsec is not None
        return dataclasses.replace(made, ipsec=dataclasses.replace(made.ipsec, psk_file=self.wrong)) if us == 2 else made


# ---------------------------------------------------------------- life and death


@pytest.mark.parametrize("side", ["initiator", "responder"])
def test_killed_and_started_again_traffic_is_back_in_two_seconds(net: Net, start: Start, tmp_path: Path, side: str) -> None:
    both = Joined(net, start, tmp_path, right={"start": "wait"})
    both.carries(1)
    victim = both.left if side == "initiator" else both.right
    victim.process.send_signal(signal.SIGKILL)
    victim.process.wait(timeout=10)
    assert crash_path(victim.config.name).exists()
    survivor_space, target = (both.right_space, "10.9.0.1") if side == "initiator" else (both.left_space, "10.9.0.2")
    # The survivor goes on sending: that is how it learns.
    traffic = survivor_space.popen("ping", "-n", "-q", "-i", "0.05", "-w", "20", target, stdout=subprocess.DEVNULL)
    began = time.monotonic()
    again = both.revive(victim)
    if side == "initiator":
        both.left = again
    else:
        both.right = again
    both.devices_up(left=side == "initiator", right=side == "responder")
    wait_until(lambda: survivor_space.ping(target, within_s=0.1, options=["-p", CANARY[:16].hex()]), 15, "traffic to be back")
    took_s = time.monotonic() - began
    traffic.kill()
    assert took_s <= BACK_S, f"{took_s:.1f} s\n{both.why()}"
    both.carries()
    both.capture.stop()
    both.nothing_in_clear()


def test_the_device_down_tells_the_peer_and_up_begins_anew(net: Net, start: Start, tmp_path: Path) -> None:
    both = Joined(net, start, tmp_path, right={"start": "wait"})
    both.left_space.ip("link", "set", "gre1", "down")
    wait_until(lambda: both.right.show()["ipsec"]["child"] is None, 5, "the peer to be told")
    assert both.left.show()["ipsec"]["state"] == "down"
    both.left_space.ip("address", "replace", "2001:db8:9::1/64", "dev", "gre1")
    both.left_space.ip("link", "set", "gre1", "up")
    both.established()
    both.carries()


def test_the_end_of_the_process_tells_the_peer_and_leaves_nothing(net: Net, start: Start, tmp_path: Path) -> None:
    both = Joined(net, start, tmp_path, right={"start": "wait"})
    name = both.left.config.name
    assert crash_path(name).stat().st_mode & 0o777 == 0o600
    assert both.left.stop() == 0
    wait_until(lambda: both.right.show()["ipsec"]["ike"] is None, 5, "the peer to be told")
    assert not crash_path(name).exists()
    assert not both.left_space.succeeds("ip", "link", "show", "gre1")
    assert both.left_space.run("ss", "-lunH") == ""


def test_rekeyed_by_hand_under_traffic_nothing_is_lost(net: Net, start: Start, tmp_path: Path) -> None:
    both = Joined(net, start, tmp_path)
    spis = both.protected(both.left)["child"]["spi_out"]
    ping = both.left_space.popen("ping", "-n", "-q", "-i", "0.005", "-w", "4", "10.9.0.2", stdout=subprocess.PIPE, text=True)
    for what, count in (("rekey", 1), ("rekey-ike", 1), ("rekey", 2), ("rekey", 3)):
        node = both.right if count == 2 else both.left
        field = "ike_rekeyings" if what == "rekey-ike" else "rekeyings"
        before = node.show()["ipsec"][field]
        assert node.ask(op=what, tunnel="gre1") == {"schema": "ginnel.control/1", "ok": True, "tunnels": ["gre1"]}
        wait_until(lambda node=node, field=field, before=before: node.show()["ipsec"][field] > before, 5, f"{what} to be over")
    said, _ = ping.communicate(timeout=20)
    sent, received = (int(word.split()[0]) for word in said.splitlines()[-2].split(", ")[:2])
    assert sent > 200
    assert sent - received <= 1, f"{said}\n{both.why()}"  # the last may be under way when time is up
    assert both.protected(both.left)["child"]["spi_out"] != spis
    shown = both.left.show()
    assert shown["tx_packets"] >= sent, "the tunnel's counters survive rekeying"


def test_terminate_and_initiate_by_hand(net: Net, start: Start, tmp_path: Path) -> None:
    both = Joined(net, start, tmp_path, left={"start": "wait"}, right={"start": "wait"}, established=False)
    assert both.left.ask(op="initiate", tunnel="gre1")["ok"] is True
    both.established()
    assert both.left.ask(op="terminate")["tunnels"] == ["gre1"]
    wait_until(lambda: both.right.show()["ipsec"]["child"] is None, 5, "the peer to be told")
    assert both.left.show()["ipsec"]["child"] is None
    assert "there is no protected tunnel gre9" in both.left.ask(op="rekey", tunnel="gre9")["error"]
    both.left_space.ip("link", "set", "gre1", "down")
    wait_until(lambda: both.left.show()["state"] == "down", 5, "the device to be down")
    assert both.left.ask(op="initiate")["error"] == "gre1: there is nothing to initiate: its device is down"


# ---------------------------------------------------------------- refused before anything is made


def node_json(config: PlainConfig) -> str:
    return to_json(NodeConfig("refused", "/etc/ginnel/refused.toml", plain=(config,)))


def test_what_is_refused_leaves_nothing(net: Net, tmp_path: Path) -> None:
    space = net.namespace("a")
    config = PlainConfig(
        "gre1", "gre", 4, local="192.0.2.1", remote="192.0.2.2", mtu=1400, ipsec=IpsecConfig(psk_file=psk(tmp_path))
    )
    readable = psk(tmp_path, "readable")
    Path(readable).chmod(0o644)
    assert config.ipsec is not None
    for ipsec, message in (
        (dataclasses.replace(config.ipsec, psk_file=readable), "others may read the pre-shared secret: expected mode 0600"),
        (dataclasses.replace(config.ipsec, psk_file="/nowhere"), "cannot be read: No such file or directory"),
        (dataclasses.replace(config.ipsec, esp_proposals=("rot13",)), "rot13"),
    ):
        code, said = refusal(space, "refused", node_json(dataclasses.replace(config, ipsec=ipsec)))
        assert code == 1
        assert message in said
        assert "correct horse" not in said
        assert not space.succeeds("ip", "link", "show", "gre1")
        assert not crash_path("refused").exists()


TAKE_THE_PORT = """
import socket, sys
taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
taken.bind(("", 500))
print("ready", flush=True)
sys.stdin.read()
"""


def test_another_ike_daemon_on_the_port_is_named(net: Net, tmp_path: Path) -> None:
    space = net.namespace("a")
    config = PlainConfig(
        "gre1", "gre", 4, local="192.0.2.1", remote="192.0.2.2", mtu=1400, ipsec=IpsecConfig(psk_file=psk(tmp_path))
    )
    other = space.popen(sys.executable, "-c", TAKE_THE_PORT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    code, said = refusal(space, "refused", node_json(config))
    assert code == 1
    assert "UDP port 500 over IPv4 is taken: another IKE daemon runs here" in said
    assert not space.succeeds("ip", "link", "show", "gre1")
    crash_path("refused").unlink(missing_ok=True)


# ---------------------------------------------------------------- the debug mode


def test_what_it_writes_tshark_decrypts(net: Net, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "keys"
    both = Joined(net, start, tmp_path, Shape("keys", encapsulation="udp", esp="aes128gcm16"), write_keys=str(directory))
    both.carries()
    both.capture.stop()
    both.nothing_in_clear()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert "keys_written" in both.left.said()
    warned = both.left.ask(op="show")["node"]["warnings"]
    assert any("--write-keys" in line for line in warned)
    assert not any("--write-keys" in line for line in both.right.ask(op="show")["node"]["warnings"])
    monkeypatch.setenv("WIRESHARK_CONFIG_DIR", str(directory))
    ike = fields(both.capture.path, ["isakmp.auth.method", "isakmp.id.data"], display="isakmp.auth.method")
    assert ike, "IKE_AUTH is not readable"
    decode = ["-o", "esp.enable_encryption_decode:TRUE"]
    esp = fields(both.capture.path, ["esp.spi", "icmp.type"], display="esp && icmp", options=decode)
    assert len(esp) >= 6


def test_the_address_of_the_right_end_is_the_routes(net: Net, start: Start, tmp_path: Path) -> None:
    """local = "any", and a remote that anybody proven may have."""
    both = Joined(
        net, start, tmp_path,
        left={"local": "any", "local_id": "left.example.org", "remote_id": "right.example.org"},
        right={
            "local": "any", "remote": "any", "local_id": "right.example.org", "remote_id": "left.example.org", "start": "wait",
        },
    )  # fmt: skip
    both.carries()
    wait_until(lambda: both.right.show()["remote"] == "192.0.2.1", 5, "the peer's address to be learned")
    spis = both.protected(both.right)["ike"]["spi_i"]
    # What is learned of the way to it changes nothing of what was agreed on.
    both.right_space.ip("route", "add", "198.51.100.0/24", "via", "192.0.2.1")
    wait_until(lambda: both.right.show()["local"] == "192.0.2.2", 5, "the route to be looked at")
    both.carries()
    assert both.protected(both.right)["ike"]["spi_i"] == spis
    assert "ike_down" not in both.right.said()
    assert both.left.show()["ipsec"]["local"] == "192.0.2.1"
    assert both.right.show()["ipsec"]["remote"] == "192.0.2.1"


def test_another_address_of_ours_is_followed(net: Net, start: Start, tmp_path: Path) -> None:
    """DHCP gives another address: the peer, who takes whoever proves itself, is asked anew from there."""
    both = Joined(
        net, start, tmp_path,
        left={"local": "any", "local_id": "left.example.org", "remote_id": "right.example.org"},
        right={"remote": "any", "local_id": "right.example.org", "remote_id": "left.example.org", "start": "wait"},
    )  # fmt: skip
    both.carries(1)
    both.left_space.ip("address", "del", "192.0.2.1/24", "dev", both.veth.left)
    both.left_space.ip("address", "add", "192.0.2.77/24", "dev", both.veth.left)
    wait_until(lambda: both.right.show()["ipsec"]["remote"] == "192.0.2.77", UP_S, "the peer to be asked from the new address")
    both.established()
    both.carries()
    assert both.left.show()["ipsec"]["local"] == "192.0.2.77"
    both.capture.stop()
    both.nothing_in_clear()


def test_behind_a_nat(net: Net, start: Start, tmp_path: Path) -> None:
    inside, router, outside = net.namespace("in"), net.namespace("nat"), net.namespace("out")
    net.veth(inside, router, ["10.0.0.2/24"], ["10.0.0.1/24"])
    far = net.veth(router, outside, ["203.0.113.1/24"], ["203.0.113.2/24"])
    inside.ip("route", "add", "default", "via", "10.0.0.1")
    router.write_proc("/proc/sys/net/ipv4/ip_forward", "1")
    chain = "add chain ip n p { type nat hook postrouting priority srcnat; }"
    router.run("nft", f'add table ip n; {chain}; add rule ip n p oifname "{far.left}" masquerade random')
    capture = Capture.start(outside, far.right, tmp_path / "nat.pcap")
    secret = psk(tmp_path)
    branch = IpsecConfig(psk_file=secret, local_id="branch", remote_id="hub")
    hub = IpsecConfig(psk_file=secret, local_id="hub", remote_id="branch", start="wait")
    left = start(inside, PlainConfig("gre1", "gre", 4, remote="203.0.113.2", mtu=1280, ipsec=branch))
    right = start(outside, PlainConfig("gre1", "gre", 4, local="203.0.113.2", mtu=1280, ipsec=hub))
    right.up(("gre1", "10.9.0.2/30"))
    left.up(("gre1", "10.9.0.1/30"))
    for node in (left, right):
        wait_until(lambda node=node: node.show()["ipsec"]["child"], UP_S, "a child SA")
    assert inside.ping("10.9.0.2", count=3, options=["-p", CANARY[:16].hex()])
    assert outside.ping("10.9.0.1", count=3)
    assert (left.show()["ipsec"]["nat"], right.show()["ipsec"]["nat"]) == ("us", "peer")
    assert left.show()["ipsec"]["encapsulation"] == "udp"
    assert right.show()["ipsec"]["remote"] == "203.0.113.1"
    capture.stop()
    assert not [frame for frame in capture.packets() if CANARY[:16] in frame]


@dataclass(slots=True)
class Apart:
    """Two nodes with a router between them: 192.0.2.1 and 198.51.100.1, one GRE tunnel, 10.9.0.1 and .2."""

    left: NodeProcess
    right: NodeProcess
    router: Namespace

    @classmethod
    def make(cls, net: Net, begin: Start, directory: Path, *, mtu: int = 1500, **ipsec: Any) -> Apart:
        spaces = net.namespace("l"), net.namespace("r")
        router = net.namespace("inet")
        router.write_proc("/proc/sys/net/ipv4/ip_forward", "1")
        for space, network, link_mtu in ((spaces[0], "192.0.2", 1500), (spaces[1], "198.51.100", mtu)):
            net.veth(space, router, [f"{network}.1/24"], [f"{network}.254/24"], mtu=link_mtu)
            space.ip("route", "add", "default", "via", f"{network}.254")
        ends = "192.0.2.1", "198.51.100.1"
        protection = IpsecConfig(psk_file=psk(directory), retransmit_s=0.5, give_up_s=5.0, **ipsec)
        nodes = [
            begin(space, PlainConfig("gre1", "gre", 4, local=us, remote=peer, mtu=1400, ipsec=protection))
            for space, us, peer in zip(spaces, ends, ends[::-1], strict=True)
        ]
        for number, node in ((2, nodes[1]), (1, nodes[0])):
            node.up(("gre1", f"10.9.0.{number}/30"))
        return cls(nodes[0], nodes[1], router)

    def established(self) -> None:
        for node in (self.left, self.right):
            wait_until(lambda node=node: node.show()["ipsec"]["child"], UP_S, "a child SA")


@pytest.mark.parametrize("encapsulation", ["udp", "raw"])
def test_a_smaller_path_is_learned_from_icmp_about_esp(net: Net, start: Start, tmp_path: Path, encapsulation: Any) -> None:
    both = Apart.make(net, start, tmp_path, mtu=1300, encapsulation=encapsulation, esp_proposals=("aes256gcm16",))
    both.established()
    assert not both.left.space.ping("10.9.0.2", options=["-M", "do", "-s", "1370"])
    learned = wait_until(lambda: both.left.show()["path_mtu"], 5, "the path's MTU")
    # 1300 less IPv4, (UDP,) ESP with AES-GCM (rounded down to 4), and GRE.
    assert learned == (1234 if encapsulation == "udp" else 1242)
    assert both.left.space.ping("10.9.0.2", count=2, options=["-M", "do", "-s", str(learned - 28)])
    assert not both.left.space.ping("10.9.0.2", options=["-M", "do", "-s", str(learned - 27)])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            "ip protocol esp reject with icmp type admin-prohibited",
            "protocol 50 (ESP) is refused on the way: 192.0.2.254 said so",
        ),
        ("udp dport 500 drop", "nothing came back from 198.51.100.1, UDP port 500, for 5 s"),
    ],
    ids=["esp", "ike"],
)
def test_what_the_way_refuses_is_named(net: Net, start: Start, tmp_path: Path, rule: str, words: str) -> None:
    both = Apart.make(net, start, tmp_path, encapsulation="raw", start="wait")
    both.router.run("nft", f"add table ip f; add chain ip f c {{ type filter hook forward priority 0; }}; add rule ip f c {rule}")
    both.left.ask(op="initiate")

    def said() -> bool:
        both.left.space.ping("10.9.0.2", within_s=0.1)
        return words in json.dumps(both.left.show())

    wait_until(said, 15, words)
    assert both.left.show()["carrying"]["answer"] == "no"


# ---------------------------------------------------------------- certificates

NOW = dt.datetime.now(dt.UTC)
VALID: dict[str, Any] = {"begins": NOW - dt.timedelta(days=1), "ends": NOW + dt.timedelta(days=30)}
PAST: dict[str, Any] = {"begins": NOW - dt.timedelta(days=30), "ends": NOW - dt.timedelta(days=1)}


def issued(
    directory: Path, label: str, authority: pki.Authority, name: str, **validity: Any
) -> tuple[dict[str, Any], pki.Issued]:
    """A certificate in files, as fields of `IpsecConfig`; and itself."""
    made = authority.issue(name, **(validity or VALID))
    certificate, key = directory / f"{label}.pem", directory / f"{label}.key"
    certificate.write_bytes(made.pem)
    key.write_bytes(made.key_pem)
    key.chmod(0o600)
    return {"auth": "certificate", "certificate_files": (str(certificate),), "private_key_file": str(key), "psk_file": ""}, made


class Certified(Joined):
    """Both ends prove themselves by certificates; *proofs*: further fields of `IpsecConfig` of either."""

    def __init__(
        self, net: Net, start: Start, directory: Path, left: dict[str, Any], right: dict[str, Any], **options: Any
    ) -> None:
        self.proofs = left, right
        super().__init__(net, start, directory, **options)

    def config(self, us: int, peer: int, **changes: Any) -> PlainConfig:
        made = super().config(us, peer, **changes)
        assert made.ipsec is not None
        return dataclasses.replace(made, ipsec=dataclasses.replace(made.ipsec, **self.proofs[us - 1]))


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("good", ""),
        ("expired", "expired"),
        ("revoked", "revoked"),
        ("stranger", "authority"),
        ("another", "right.example.org"),
    ],
)
def test_certificates_prove_or_are_refused_with_the_reason(
    net: Net, start: Start, tmp_path: Path, what: str, sentence: str
) -> None:
    authority = pki.Authority("Root of the tests", **VALID)
    other = pki.Authority("Root of strangers", **VALID)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    trust = {"ca_files": (str(tmp_path / "ca.pem"),)}
    ours, _ = issued(tmp_path, "left", authority, "left.example.org")
    name = "another.example.org" if what == "another" else "right.example.org"
    theirs, leaf = issued(
        tmp_path, "right", other if what == "stranger" else authority, name, **(PAST if what == "expired" else {})
    )
    if what == "revoked":
        crl = authority.crl(leaf, made=NOW - dt.timedelta(hours=1), following=NOW + dt.timedelta(days=1))
        (tmp_path / "crl.pem").write_bytes(crl)
        trust["crl_files"] = (str(tmp_path / "crl.pem"),)
    both = Certified(
        net, start, tmp_path,
        {**ours, **trust, "local_id": "left.example.org", "remote_id": "right.example.org"},
        {**theirs, **trust, "crl_files": (), "local_id": name, "remote_id": "left.example.org", "start": "wait"},
        established=what == "good",
    )  # fmt: skip
    if what == "good":
        both.carries()
        view = both.protected(both.left)
        assert (view["auth"], view["peer_id"]) == ("certificate", "right.example.org")
    else:
        lines = wait_until(lambda: both.left.show()["ipsec"]["refusal"], UP_S, "the explanation")
        assert any(sentence in line for line in lines), lines
        assert both.left.show()["ipsec"]["child"] is None
        assert both.right.show()["ipsec"]["child"] is None
    both.capture.stop()
    both.nothing_in_clear()


def test_a_certificate_that_is_not_for_our_name_and_a_key_that_is_another_are_refused_at_once(net: Net, tmp_path: Path) -> None:
    space = net.namespace("a")
    authority = pki.Authority("Root of the tests", **VALID)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    proof, _ = issued(tmp_path, "left", authority, "left.example.org")
    another, _ = issued(tmp_path, "other", authority, "left.example.org")
    proof["ca_files"] = (str(tmp_path / "ca.pem"),)
    for fields_of, message in (
        ({"local_id": "moon.example.org"}, "gre1: local_id: "),
        ({"private_key_file": another["private_key_file"]}, "does not belong to the certificate of"),
        ({"ca_files": ()}, "expected an authority or the peer's certificate"),
    ):
        config = PlainConfig(
            "gre1", "gre", 4, local="192.0.2.1", remote="192.0.2.2", mtu=1400, ipsec=IpsecConfig(**{**proof, **fields_of})
        )
        code, said = refusal(space, "refused", node_json(config))
        assert code == 1
        assert message in said
        assert "BEGIN" not in said
        assert not space.succeeds("ip", "link", "show", "gre1")
