"""
One WireGuard node per implementation, all with the same face: start, setconf, addresses, stop, and commands run where it lives.

`Userspace` is any program that is started as `PROGRAM -f IFNAME` and serves the standard UAPI socket (ginnel-wireguard,
wireguard-go, boringtun-cli); `KernelWireGuard` is the Linux kernel in QEMU. Both are configured by Debian's own `wg`, so that no
node is given anything the others are not. `Pair` is two nodes with a link, keys and addresses, in the shape that most tests want.

GINNEL_TEST_SUBJECT=wireguard-go puts that program in ginnel's place: what fails then is a difference, or a mistake of the test.
GINNEL_TEST_OTHERS=boringtun puts others than wireguard-go and the kernel on the other side (`make bench` builds boringtun-cli).
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from namespaces import CommandFailed, Link, Namespace, Net, run, wait_until
from peers.guest import Guest

ROOT = Path(__file__).resolve().parents[2]
UAPI_DIRECTORY = Path("/var/run/wireguard")
START_S = 10.0
#: Installed next to the interpreter that runs the tests.
GINNEL = str(Path(sys.executable).with_name("ginnel-wireguard"))
PROGRAMS: dict[str, list[str]] = {
    "ginnel": [GINNEL, "-f"],
    "wireguard-go": ["/usr/bin/wireguard-go", "-f"],
    "boringtun": [str(ROOT / ".cache/boringtun/bin/boringtun-cli"), "-f", "--disable-drop-privileges"],
}
SUBJECT = os.environ.get("GINNEL_TEST_SUBJECT", "ginnel")
OTHERS = os.environ.get("GINNEL_TEST_OTHERS", "wireguard-go,kernel").split(",")


# ---------------------------------------------------------------- keys and configuration


@dataclass(frozen=True, slots=True)
class Keys:
    """A key pair, in base64."""

    private: str
    public: str

    @classmethod
    def fresh(cls) -> Keys:
        """A new pair, made by `wg` itself."""
        private = run(["wg", "genkey"]).strip()
        return cls(private, run(["wg", "pubkey"], stdin=private).strip())


def fresh_psk() -> str:
    """A new preshared key, in base64."""
    return run(["wg", "genpsk"]).strip()


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """A [Peer] section."""

    public: str
    allowed_ips: Sequence[str]
    endpoint: str | None = None
    psk: str | None = None
    keepalive: int = 0

    def render(self) -> str:
        """The section as `wg setconf` reads it."""
        lines = ["[Peer]", f"PublicKey = {self.public}", f"AllowedIPs = {', '.join(self.allowed_ips)}"]
        if self.endpoint:
            lines.append(f"Endpoint = {self.endpoint}")
        if self.psk:
            lines.append(f"PresharedKey = {self.psk}")
        if self.keepalive:
            lines.append(f"PersistentKeepalive = {self.keepalive}")
        return "\n".join(lines) + "\n"


def render(private: str | None, port: int | None, peers: Sequence[PeerConfig], *, fwmark: int = 0) -> str:
    """A whole configuration for `wg setconf`."""
    lines = ["[Interface]"]
    if private:
        lines.append(f"PrivateKey = {private}")
    if port:
        lines.append(f"ListenPort = {port}")
    if fwmark:
        lines.append(f"FwMark = {fwmark}")
    return "\n".join(lines) + "\n\n" + "\n".join(peer.render() for peer in peers)


def endpoint(address: str, port: int) -> str:
    """`192.0.2.1:51820` or `[2001:db8::1]:51820`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# ---------------------------------------------------------------- nodes


class Node(Protocol):
    """What a test may ask of any implementation."""

    kind: str
    interface: str
    #: The device that carries the outer packets, in the place where `run` runs.
    underlay: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def run(self, *argv: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """A command where the node's addresses are."""

    def write(self, path: str, text: str) -> None:
        """A file where `run` finds it."""


def wg(node: Node, *argv: str) -> str:
    """`wg ...` where the node lives."""
    return node.run("wg", *argv)


def setconf(node: Node, text: str, verb: str = "setconf") -> None:
    """Give the node a whole configuration."""
    path = f"/tmp/{node.interface}.conf"
    node.write(path, text)
    try:
        node.run("wg", verb, node.interface, path)
    finally:
        node.run("rm", "-f", path)


def set_key(node: Node, option: str, key: str, *before: str) -> None:
    """`wg set IF [peer P] private-key|preshared-key FILE`."""
    path = f"/tmp/{node.interface}.key"
    node.write(path, key + "\n")
    try:
        node.run("wg", "set", node.interface, *before, option, path)
    finally:
        node.run("rm", "-f", path)


def up(node: Node, addresses: Sequence[str], *, mtu: int = 1420) -> None:
    """Addresses, MTU and up."""
    for address in addresses:
        node.run("ip", "address", "add", address, "dev", node.interface)
    node.run("ip", "link", "set", node.interface, "mtu", str(mtu), "up")


def ping(
    node: Node, target: str, *, count: int = 1, within_s: float = 1.0, interval_s: float = 0.02, options: Sequence[str] = ()
) -> bool:
    """Whether *count* pings from the node all come back in time."""
    argv = ["ping", "-n", "-q", "-c", str(count), "-i", str(interval_s), "-W", str(within_s), *options, target]
    try:
        node.run(*argv, timeout_s=count * max(interval_s, within_s) + 20)
    except CommandFailed:
        return False
    return True


def handshake_age_known(node: Node, public: str) -> bool:
    """Whether the node says that it has had a handshake with this peer."""
    for line in wg(node, "show", node.interface, "latest-handshakes").splitlines():
        key, when = line.split()
        if key == public:
            return int(when) > 0
    return False


def transfer(node: Node, public: str) -> tuple[int, int]:
    """(received, sent) bytes, as `wg show transfer` says."""
    for line in wg(node, "show", node.interface, "transfer").splitlines():
        key, received, sent = line.split()
        if key == public:
            return int(received), int(sent)
    raise AssertionError(f"{node.kind} knows no peer {public}")


def known_endpoint(node: Node, public: str) -> str:
    """The peer's endpoint, as `wg show endpoints` says."""
    for line in wg(node, "show", node.interface, "endpoints").splitlines():
        key, value = line.split("\t")
        if key == public:
            return value
    raise AssertionError(f"{node.kind} knows no peer {public}")


def latest_handshake(node: Node, public: str) -> int:
    """Unix seconds of the last handshake; 0 for never."""
    for line in wg(node, "show", node.interface, "latest-handshakes").splitlines():
        key, when = line.split()
        if key == public:
            return int(when)
    raise AssertionError(f"{node.kind} knows no peer {public}")


@dataclass(slots=True)
class Userspace:
    """A program with a TUN device and a UAPI socket, in a namespace."""

    kind: str
    space: Namespace
    interface: str
    underlay: str
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    #: Another program than the one that PROGRAMS has under *kind*.
    program: list[str] | None = None
    process: subprocess.Popen[Any] | None = None

    def start(self) -> None:
        """Run it, and wait until its socket answers."""
        program = self.program or PROGRAMS[self.kind]
        environment = {**os.environ, "LOG_LEVEL": "verbose" if self.kind == "wireguard-go" else "debug", **self.environment}
        with self.log.open("ab") as log:
            self.process = self.space.popen(
                *program, self.interface,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            )  # fmt: skip

        def answers() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"{self.kind} ended with {self.process.returncode}: {self.said()}")
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(self.socket)) == 0

        wait_until(answers, START_S, f"{self.kind}: the UAPI socket")

    @property
    def socket(self) -> Path:
        """Its UAPI socket."""
        return UAPI_DIRECTORY / f"{self.interface}.sock"

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        assert self.process is not None
        return self.process.pid

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """SIGKILL, as in a crash."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=10)

    def stop(self) -> None:
        """SIGTERM, and wait; what does not end in time is killed, and that is a failure."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"{self.kind} did not end on SIGTERM: {self.said()}") from None
        finally:
            self.socket.unlink(missing_ok=True)

    def run(self, *argv: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """A command in its namespace."""
        return self.space.run(*argv, check=check, timeout_s=timeout_s)

    def write(self, path: str, text: str) -> None:
        """A file, readable by nobody else."""
        with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(text)


@dataclass(slots=True)
class KernelWireGuard:
    """An interface of the guest's kernel."""

    guest: Guest
    interface: str
    kind: str = "kernel"
    underlay: str = "eth0"

    def start(self) -> None:
        """Make the interface."""
        self.guest.run("ip", "link", "add", self.interface, "type", "wireguard")

    def stop(self) -> None:
        """The interface, and what the test gave to the underlay, are gone."""
        self.guest.run("ip", "link", "del", self.interface, check=False)
        self.guest.shell(
            "ip link set dummy0 down; ip address flush dev dummy0; ip address flush dev eth0; ip neigh flush dev eth0"
        )

    def run(self, *argv: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """A command in the guest."""
        return self.guest.run(*argv, check=check, timeout_s=timeout_s)

    def write(self, path: str, text: str) -> None:
        """A file in the guest."""
        self.guest.shell(f"printf %s {shlex.quote(text)} > {shlex.quote(path)}")


# ---------------------------------------------------------------- two nodes


@dataclass(slots=True)
class Side:
    """One node of a pair, with its keys and addresses."""

    node: Node
    keys: Keys
    port: int
    outer4: str
    outer6: str
    inner4: str
    inner6: str

    def endpoint(self, family: int = 4) -> str:
        """Where the other side finds it."""
        return endpoint(self.outer4 if family == 4 else self.outer6, self.port)

    def inner(self, family: int = 4) -> str:
        """Its address inside the tunnel."""
        return self.inner4 if family == 4 else self.inner6

    @property
    def prefixes(self) -> list[str]:
        """What the other side allows it."""
        return [f"{self.inner4}/32", f"{self.inner6}/128"]


@dataclass(slots=True)
class Pair:
    """The subject (ginnel) and another implementation, one link apart."""

    net: Net
    subject: Side
    other: Side
    #: The subject's namespace, and its end of the link.
    space: Namespace
    link: Link
    #: The other's namespace; the guest's bridge lives there for the kernel.
    other_space: Namespace

    def configure(
        self,
        *,
        family: int = 4,
        psk: str | None = None,
        subject_knows: bool = True,
        other_knows: bool = True,
        subject_keepalive: int = 0,
        other_keepalive: int = 0,
        mtu: int = 1420,
    ) -> None:
        """Give both their configuration and addresses; *knows* tells who has the other's endpoint from the start."""
        for side, peer, knows, keepalive in (
            (self.other, self.subject, other_knows, other_keepalive),
            (self.subject, self.other, subject_knows, subject_keepalive),
        ):
            section = PeerConfig(peer.keys.public, peer.prefixes, peer.endpoint(family) if knows else None, psk, keepalive)
            setconf(side.node, render(side.keys.private, side.port, [section]))
            up(side.node, [f"{side.inner4}/24", f"{side.inner6}/64"], mtu=mtu)

    def sides(self, initiator: str) -> tuple[Side, Side]:
        """(who speaks first, who answers)."""
        return (self.subject, self.other) if initiator == "subject" else (self.other, self.subject)

    def stop(self) -> None:
        """Both ended."""
        self.subject.node.stop()
        self.other.node.stop()


SUBJECT_OUTER = ("192.0.2.1", "2001:db8::1")
OTHER_OUTER = ("192.0.2.2", "2001:db8::2")


def make_pair(net: Net, other: str, directory: Path, guest: Guest | None = None, *, subject: str = SUBJECT) -> Pair:
    """
    Two started, unconfigured nodes: *subject* in a namespace, *other* in another or in the guest.

    Args:
        other: a name in PROGRAMS, or "kernel", which needs *guest*.
        directory: where logs go.
    """
    space = net.namespace("subject")
    subject_addresses = [f"{SUBJECT_OUTER[0]}/24", f"{SUBJECT_OUTER[1]}/64"]
    other_addresses = [f"{OTHER_OUTER[0]}/24", f"{OTHER_OUTER[1]}/64"]
    name, other_name = net.unique("ws"), net.unique("wo")
    other_node: Node
    if other == "kernel":
        assert guest is not None
        link = guest.join(space, subject_addresses)
        for address in other_addresses:
            guest.run("ip", "address", "add", address, "dev", "eth0")
        other_node = KernelWireGuard(guest, other_name)
        other_space = guest.space
    else:
        other_space = net.namespace("other")
        link = net.veth(space, other_space, subject_addresses, other_addresses)
        other_node = Userspace(other, other_space, other_name, link.right, directory / "other.log")
    subject_node = Userspace(subject, space, name, link.left, directory / "subject.log")
    pair = Pair(
        net,
        Side(subject_node, Keys.fresh(), 51820, *SUBJECT_OUTER, "10.77.0.1", "fd77::1"),
        Side(other_node, Keys.fresh(), 51821, *OTHER_OUTER, "10.77.0.2", "fd77::2"),
        space,
        link,
        other_space,
    )
    other_node.start()
    try:
        subject_node.start()
    except BaseException:
        other_node.stop()
        raise
    return pair


# ---------------------------------------------------------------- captures


@dataclass(slots=True)
class Capture:
    """tcpdump on one interface, to a file; `packets` gives the raw frames seen so far."""

    process: subprocess.Popen[Any]
    path: Path

    @classmethod
    def start(cls, space: Namespace, interface: str, path: Path, *expression: str) -> Capture:
        """Begin, and wait until tcpdump says that it listens."""
        process = space.popen(
            "tcpdump", "-i", interface, "-n", "-U", "--immediate-mode", "-B", "8192", "-s", "0", "-w", str(path), "-Z", "root",
            *expression,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        heard = process.stderr.readline()
        while "listening on" not in heard:
            if not heard:
                raise AssertionError(f"tcpdump did not start on {interface}")
            heard = process.stderr.readline()
        return cls(process, path)

    def stop(self) -> None:
        """End it; the file is whole."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=10)

    def packets(self) -> list[bytes]:
        """Frames written until now, link header included."""
        raw = self.path.read_bytes()
        frames: list[bytes] = []
        at = 24
        while at + 16 <= len(raw):
            size = int.from_bytes(raw[at + 8 : at + 12], "little")
            if at + 16 + size > len(raw):
                break
            frames.append(raw[at + 16 : at + 16 + size])
            at += 16 + size
        return frames


def fields(path: Path, names: Sequence[str], *, display: str = "", options: Sequence[str] = ()) -> list[dict[str, str]]:
    """What tshark reads in a capture: one dictionary a packet."""
    argv = ["tshark", "-r", str(path), "-n", "-T", "json", *(item for name in names for item in ("-e", name)), *options]
    if display:
        argv += ["-Y", display]
    rows = json.loads(run(argv) or "[]")
    return [{name: value[0] for name, value in row["_source"]["layers"].items()} for row in rows]
