"""
Each node's real process in its namespace, and what its interface says of itself.

A node runs what its host would run: `ginnel up FILE`, or stock `wg-quick up FILE` where the network file says so (then with
`ginnel-wireguard` under it, unless the environment names another by WG_QUICK_USERSPACE_IMPLEMENTATION). WireGuard is one
wg-quick file, GRE one node file; a node may have both. What an interface says is asked over the UAPI socket, which every
user-space implementation has, or of `wg` where the kernel itself is the implementation.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ginnel.errors import UsageError
from ginnel.lab.namespaces import Held
from ginnel.lab.tunnels import NODE_NAME
from ginnel.network import NodeDescription
from ginnel.network.render import interfaces, node_toml, wgquick
from ginnel.units import Endpoint, Prefix, PublicKey

#: Bounds what a broken daemon can make us read.
MAX_REPLY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Started:
    """How the start of one node went."""

    ok: bool
    seconds: float
    said: str
    command: str


@dataclass(frozen=True, slots=True)
class LivePeer:
    """One peer as the running interface has it."""

    public_key: PublicKey
    endpoint: Endpoint | None
    allowed_ips: frozenset[Prefix]
    keepalive_s: int
    handshake_unix_s: float
    rx_bytes: int
    tx_bytes: int


@dataclass(frozen=True, slots=True)
class LiveInterface:
    """A running interface."""

    listen_port: int
    peers: Mapping[PublicKey, LivePeer] = field(default_factory=dict)


def configure(
    held: Held,
    description: NodeDescription,
    private_key: str,
    credentials: Mapping[str, bytes] | None = None,
    psk: Mapping[str, str] | None = None,
) -> list[Path]:
    """
    Write the node's files where only the node sees them, 0600.

    Args:
        private_key: of its WireGuard interface, base64.
        credentials: what its node file names, by the names there.
        psk: preshared keys of WireGuard by peer, base64.

    Returns:
        what is to be brought up, by the paths inside the namespace.
    """
    files: dict[str, str] = {}
    for each in interfaces(description):
        files[f"{each.interface}.conf"] = wgquick.render(each, private_key, psk or {})
    if description.tunnels:
        files[f"{NODE_NAME}.toml"] = node_toml.render(description)
    for name, content in {**{name: text.encode() for name, text in files.items()}, **(credentials or {})}.items():
        fd = os.open(held.root / "run" / "lab" / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
    return [Path("/run/lab") / name for name in files]


def start(held: Held, description: NodeDescription, paths: Sequence[Path], timeout_s: float) -> Started:
    """Bring the node up, one file after the other, and wait until the last command has returned or one has failed."""
    began = time.monotonic()
    commands = [up_command(description, path) for path in paths]
    words = "; ".join(" ".join(argv) for argv in commands)
    for argv in commands:
        try:
            done = held.run(argv, env=environment(), timeout_s=timeout_s)
        except subprocess.TimeoutExpired:
            said = f"{' '.join(argv)} did not return in {timeout_s:.0f} s"
            return Started(False, time.monotonic() - began, said, words)
        if done.returncode != 0:
            return Started(False, time.monotonic() - began, (done.stderr or done.stdout).strip(), " ".join(argv))
    return Started(True, time.monotonic() - began, "", words)


def up_command(description: NodeDescription, path: Path) -> list[str]:
    """What this node's operator would type."""
    if description.node.runs == "wg-quick":
        return ["wg-quick", "up", str(path)]
    return [*ginnel_command(), "up", str(path)]


def ginnel_command() -> list[str]:
    """The `ginnel` of the running interpreter, whatever PATH says."""
    script = Path(sys.executable).with_name("ginnel")
    if not script.exists():
        raise UsageError(f"no {script}: install the package into the environment that runs it (pip install .)")
    return [str(script)]


def environment() -> dict[str, str]:
    """The environment of a node's commands: ours, with our own programs first in PATH."""
    ours = {key: value for key, value in os.environ.items() if key not in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID")}
    ours["PATH"] = f"{Path(sys.executable).parent}:{ours.get('PATH', '')}:/usr/sbin:/sbin"
    ours.setdefault("WG_QUICK_USERSPACE_IMPLEMENTATION", "ginnel-wireguard")
    return ours


# ---------------------------------------------------------------- what runs


def interface(held: Held, name: str) -> LiveInterface | None:
    """The running interface *name*; None when there is none."""
    path = held.root / "run" / "wireguard" / f"{name}.sock"
    if path.exists():
        text = _ask(path)
        return parse_uapi(text) if text is not None else None
    done = held.run(["wg", "show", name, "dump"])
    return parse_dump(done.stdout) if done.returncode == 0 else None


def _ask(path: Path) -> str | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        try:
            sock.connect(str(path))
            sock.sendall(b"get=1\n\n")
            reply = b""
            while not reply.endswith(b"\n\n") and len(reply) < MAX_REPLY_BYTES and (data := sock.recv(1 << 16)):
                reply += data
        except OSError:
            return None
    return reply.decode() if b"\nerrno=0\n" in b"\n" + reply else None


def parse_uapi(text: str) -> LiveInterface:
    """Read the answer to UAPI `get=1`."""
    port = 0
    peers: list[dict[str, str]] = []
    allowed: list[set[Prefix]] = []
    for line in text.splitlines():
        key, _, value = line.partition("=")
        match key:
            case "listen_port":
                port = int(value)
            case "public_key":
                peers.append({"public_key": value})
                allowed.append(set())
            case "allowed_ip" if peers:
                allowed[-1].add(Prefix.parse(value))
            case _ if peers:
                peers[-1][key] = value
    found = {}
    for peer, prefixes in zip(peers, allowed, strict=True):
        public_key = PublicKey(bytes.fromhex(peer["public_key"]))
        found[public_key] = LivePeer(
            public_key=public_key,
            endpoint=Endpoint.parse(peer["endpoint"]) if "endpoint" in peer else None,
            allowed_ips=frozenset(prefixes),
            keepalive_s=int(peer.get("persistent_keepalive_interval", "0")),
            handshake_unix_s=int(peer.get("last_handshake_time_sec", "0")) + int(peer.get("last_handshake_time_nsec", "0")) / 1e9,
            rx_bytes=int(peer.get("rx_bytes", "0")),
            tx_bytes=int(peer.get("tx_bytes", "0")),
        )
    return LiveInterface(port, found)


def parse_dump(text: str) -> LiveInterface:
    """Read what `wg show NAME dump` prints."""
    first, *rest = text.splitlines()
    found = {}
    for line in rest:
        key_text, _, endpoint, allowed, handshake, rx, tx, keepalive = line.split("\t")
        public_key = PublicKey.from_base64(key_text)
        found[public_key] = LivePeer(
            public_key=public_key,
            endpoint=None if endpoint == "(none)" else Endpoint.parse(endpoint),
            allowed_ips=frozenset(() if allowed == "(none)" else map(Prefix.parse, allowed.split(","))),
            keepalive_s=0 if keepalive == "off" else int(keepalive),
            handshake_unix_s=float(handshake),
            rx_bytes=int(rx),
            tx_bytes=int(tx),
        )
    return LiveInterface(int(first.split("\t")[2]), found)
