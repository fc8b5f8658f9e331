"""
The client side of the UAPI socket: any user-space WireGuard on this host, ours or another's.

`read` gives what `wg show` is made of, `write` sends lines that are applied as they are parsed. Secrets pass through as text for
as long as a call lasts: the protocol has no other form. Parsing is one loop without a dataclass per line: a device may have
10,000 peers.

Source: wireguard.com/xplatform.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path

from ginnel.errors import GinnelError, KernelError

SOCKET_DIR = Path("/var/run/wireguard")
#: An implementation that is alive answers at once; a full load of 130,560 prefixes takes seconds.
TIMEOUT_S = 30.0
#: A bound on what an implementation may answer: 130,560 prefixes are 5 MB, 100,000 peers 40 MB.
_ANSWER_MAX_BYTES = 1 << 28

NO_KEY = "0" * 64


@dataclass(slots=True)
class DevicePeer:
    """One peer as the implementation tells it; keys are 64 hexadecimal digits, *preshared_key* empty without one."""

    public_key: str
    preshared_key: str = field(default="", repr=False)
    endpoint: str = ""
    handshake_sec: int = 0
    handshake_nsec: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    keepalive_s: int = 0
    allowed_ips: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Device:
    """One interface as the implementation tells it; *private_key* empty without one."""

    name: str
    private_key: str = field(default="", repr=False)
    listen_port: int = 0
    fwmark: int = 0
    peers: list[DevicePeer] = field(default_factory=list)


def socket_path(name: str, directory: Path = SOCKET_DIR) -> Path:
    """Where the implementation of *name* listens."""
    return directory / f"{name}.sock"


def is_served(name: str, directory: Path = SOCKET_DIR) -> bool:
    """Whether something answers there; a socket that nothing listens on is not removed, only reported absent."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        try:
            connection.connect(str(socket_path(name, directory)))
        except OSError:
            return False
    return True


def served_names(directory: Path = SOCKET_DIR) -> list[str]:
    """All interfaces with a live socket, in the order of the directory, as `wg show interfaces` has them."""
    try:
        entries = [entry.name for entry in os.scandir(directory)]
    except OSError:
        return []
    names = [entry.removesuffix(".sock") for entry in entries if entry.endswith(".sock")]
    return [name for name in names if _is_socket(socket_path(name, directory)) and is_served(name, directory)]


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


def serving_pid(name: str, directory: Path = SOCKET_DIR) -> int:
    """The process behind the socket (SO_PEERCRED), or 0."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        try:
            connection.connect(str(socket_path(name, directory)))
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        except OSError:
            return 0
    pid: int = struct.unpack("3i", raw)[0]
    return pid


def read(name: str, directory: Path = SOCKET_DIR) -> Device:
    """
    Everything about *name*.

    Raises:
        GinnelError: nothing listens there, or it answered with an error.
    """
    return parse(name, _exchange(name, b"get=1\n\n", directory))


def write(name: str, lines: str, directory: Path = SOCKET_DIR) -> None:
    """
    Change *name*.

    Args:
        lines: `key=value` lines, each ended, without the operation and without an empty line.

    Raises:
        KernelError: the implementation refused; the lines before the refused one have been applied.
        GinnelError: nothing listens there.
    """
    answer = _exchange(name, f"set=1\n{lines}\n".encode(), directory)
    number = abs(_errno_of(answer))
    if number:
        hint = "the UDP port is in use" if number == errno.EADDRINUSE else ""
        raise KernelError(f"configure {name}", number, hint)


def parse(name: str, answer: bytes) -> Device:
    """An answer to `get`, which may end with an error."""
    number = abs(_errno_of(answer))
    if number:
        raise KernelError(f"read {name}", number)
    device = Device(name)
    peer: DevicePeer | None = None
    for line in answer.decode("ascii", "replace").split("\n"):
        key, _, value = line.partition("=")
        if key == "allowed_ip" and peer is not None:
            peer.allowed_ips.append(value)
        elif key == "public_key":
            peer = DevicePeer(value)
            device.peers.append(peer)
        elif peer is None:
            if key == "private_key":
                device.private_key = "" if value == NO_KEY else value
            elif key == "listen_port":
                device.listen_port = int(value)
            elif key == "fwmark":
                device.fwmark = int(value)
        elif key == "preshared_key":
            peer.preshared_key = "" if value == NO_KEY else value
        elif key == "endpoint":
            peer.endpoint = value
        elif key == "last_handshake_time_sec":
            peer.handshake_sec = int(value)
        elif key == "last_handshake_time_nsec":
            peer.handshake_nsec = int(value)
        elif key == "rx_bytes":
            peer.rx_bytes = int(value)
        elif key == "tx_bytes":
            peer.tx_bytes = int(value)
        elif key == "persistent_keepalive_interval":
            peer.keepalive_s = int(value)
    return device


def _errno_of(answer: bytes) -> int:
    """The number in the last line; GinnelError when the answer was cut short."""
    last = answer.rstrip(b"\n").rpartition(b"\n")[2]
    key, _, value = last.partition(b"=")
    try:
        if key != b"errno" or not answer.endswith(b"\n\n"):
            raise ValueError
        return int(value)
    except ValueError:
        raise GinnelError("expected an answer that ends with errno=, found one cut short: did the process end?") from None


def _exchange(name: str, request: bytes, directory: Path) -> bytes:
    path = socket_path(name, directory)
    pieces: list[bytes] = []
    size = 0
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(str(path))
            connection.sendall(request)
            while piece := connection.recv(1 << 20):
                pieces.append(piece)
                size += len(piece)
                if size > _ANSWER_MAX_BYTES:
                    raise GinnelError(f"{path}: answered with more than {_ANSWER_MAX_BYTES} bytes")
                # The connection may stay open for further operations: the empty line is the end.
                if piece.endswith(b"\n\n") or (piece == b"\n" and b"".join(pieces[-2:]).endswith(b"\n\n")):
                    break
        except TimeoutError:
            raise GinnelError(f"{path}: no answer within {TIMEOUT_S:.0f} s") from None
        except PermissionError:
            raise KernelError(f"open {path}", errno.EACCES, "this needs root: try `sudo`") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise GinnelError(f"{name} is not served by any user-space WireGuard here ({path})") from None
        except OSError as error:
            raise GinnelError(f"{path}: {error.strerror}") from None
    return b"".join(pieces)
