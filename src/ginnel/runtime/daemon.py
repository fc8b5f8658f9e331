"""
The process that owns one WireGuard tunnel: `python -m ginnel.runtime.daemon --interface NAME`.

    --interface NAME   the TUN device to make, and the name of both sockets
    --config PATH      the file that describes the tunnel; only told again by `show`
    --foreground       stay; without it the process detaches and its starter returns when the tunnel is usable
    --ready-fd N       "ready" or "error: ..." is written there, see `process`
    --mtu N            the device's first MTU

It configures nothing: keys, peers and ports come over the UAPI socket, addresses, routes and `up` from whoever started it. The
device begins down; `ip link set NAME up` opens the sockets.

It ends, leaving nothing but the state file, when it is told to (SIGTERM, SIGINT, the control socket), when its UAPI socket file
is removed and when its device is deleted: exit 0. It exits with 1 when it could not start, or the engine could not go on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ginnel.engine import Engine, Tunnel, open_engine
from ginnel.errors import GinnelError, UsageError
from ginnel.runtime import process, stream
from ginnel.runtime.control import ControlSession, peer_may_ask
from ginnel.runtime.inotify import FileWatch
from ginnel.runtime.journal import Journal
from ginnel.runtime.owner import Owner
from ginnel.runtime.uapi import UapiSession

UAPI_DIRECTORY = "/var/run/wireguard"
RUN_DIRECTORY = "/run/ginnel"
#: As wg-quick has it; the kernel adds that "." and ".." are no names.
NAME_PATTERN = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")
DEFAULT_MTU = 1420


@dataclass(frozen=True, slots=True)
class Options:
    """What to run. *tun_fd* and *uapi_fd* are adopted descriptors: a TUN device and a listening socket."""

    interface: str
    config: str = ""
    mtu: int = DEFAULT_MTU
    tun_fd: int | None = None
    uapi_fd: int | None = None


def check_name(name: str) -> str:
    """The name when it can be an interface's; UsageError otherwise."""
    if not NAME_PATTERN.fullmatch(name) or name in {".", ".."}:
        raise UsageError(
            f"expected the name of an interface, found {name!r}\n  hint: one to fifteen letters, digits or any of _ = + . -"
        )
    return name


def explain(error: OSError, name: str) -> str:
    """What a person needs to know when the device could not be made."""
    step = error.filename or "the device"
    text = f"{name}: {step}: {os.strerror(error.errno or 0)}"
    match error.errno:
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return f"{text}\n  hint: there is no TUN driver: `modprobe tun`; in a container, `--device /dev/net/tun`"
        case errno.EPERM | errno.EACCES:
            return f"{text}\n  hint: it takes root, or CAP_NET_ADMIN; in a container, `--cap-add NET_ADMIN`"
        case errno.EBUSY | errno.EEXIST:
            return f"{text}\n  hint: an interface of that name exists: see `ip link show {name}`"
        case errno.EINVAL if name in {"all", "default"}:
            return f"{text}\n  hint: the kernel has that word for itself (net.ipv4.conf.{name}): choose another name"
        case errno.EINVAL if os.path.exists(f"/sys/class/net/{name}"):
            return f"{text}\n  hint: an interface of that name exists, of another kind: see `ip link show {name}`"
        case _:
            return text


class Daemon:
    """Device, sockets and owner of one tunnel, made together and ended together."""

    def __init__(self, options: Options, log: Journal) -> None:
        """
        Make everything.

        Raises:
            GinnelError: with the message a person needs; nothing is left behind.
        """
        self._options = options
        self._log = log
        self._loop = asyncio.new_event_loop()
        self.uapi_path = f"{UAPI_DIRECTORY}/{options.interface}.sock"
        self.control_path = f"{RUN_DIRECTORY}/{options.interface}.sock"
        with contextlib.ExitStack() as undo:
            undo.callback(self._loop.close)
            for number in (signal.SIGTERM, signal.SIGINT):  # before anything is made that an early one would leave behind
                self._loop.add_signal_handler(number, self._signalled, signal.Signals(number).name)
            uapi = self._uapi_socket(undo)
            control = stream.bind(self.control_path, what="this tunnel")
            undo.callback(stream.remove, self.control_path, stream.identity(self.control_path))
            undo.callback(control.close)
            engine = open_engine()
            undo.callback(engine.close)
            self._owner = Owner(
                self._loop,
                engine,
                self._open_device(engine),
                log,
                state_path=f"{RUN_DIRECTORY}/{options.interface}.state",
                uapi_path=self.uapi_path,
                config=options.config,
                mtu=options.mtu,
            )
            undo.callback(self._owner.close)
            self._watch = FileWatch(self._loop, self.uapi_path, self._uapi_file, self._socket_removed)
            undo.callback(self._watch.close)
            self._owner.start()
            listeners = [
                stream.Listener(self._loop, uapi, lambda _: UapiSession(self._owner)),
                stream.Listener(self._loop, control, self._control_session),
            ]
            for listener in listeners:
                undo.callback(listener.close)
            self._undo = undo.pop_all()

    def run(self, ready: process.Readiness) -> int:
        """Serve until the end; the exit code."""
        self._log("started", interface=self._options.interface, pid=os.getpid())
        process.settle()
        ready.ready()
        with self._undo:
            reason = self._loop.run_until_complete(self._owner.finished)
            self._log("stopping", interface=self._options.interface, reason=reason)
        return self._owner.exit_code

    def _uapi_socket(self, undo: contextlib.ExitStack) -> socket.socket:
        adopted = self._options.uapi_fd
        if adopted is None:
            sock = stream.bind(self.uapi_path, what="an interface of that name")
        else:
            try:
                sock = socket.socket(fileno=adopted)
                self.uapi_path = str(sock.getsockname())
            except OSError as error:
                raise UsageError(f"WG_UAPI_FD={adopted}: expected a listening unix socket: {error.strerror}") from None
        self._uapi_file = stream.identity(self.uapi_path)
        undo.callback(stream.remove, self.uapi_path, self._uapi_file)
        undo.callback(sock.close)
        return sock

    def _open_device(self, engine: Engine) -> Tunnel:
        name = self._options.interface
        try:
            return engine.wireguard(name, mtu=self._options.mtu, tun_fd=self._options.tun_fd)
        except OSError as error:
            raise UsageError(explain(error, name)) from None

    def _signalled(self, name: str) -> None:
        self._owner.stop(name)

    def _socket_removed(self) -> None:
        self._log("socket_removed", interface=self._options.interface, path=self.uapi_path)
        self._owner.stop("its UAPI socket was removed")

    def _control_session(self, accepted: socket.socket) -> ControlSession | None:
        if peer_may_ask(accepted):
            return ControlSession(self._owner)
        self._log("control_refused", interface=self._options.interface, error="expected root or the owner of the process")
        return None


def serve(options: Options, log: Journal, ready: process.Readiness) -> int:
    """Make the tunnel, say whether it is usable, and serve it; the exit code."""
    process.slim()
    process.harden()
    try:
        daemon = Daemon(options, log)
    except GinnelError as error:
        log("start_failed", interface=options.interface, error=str(error).partition("\n")[0])
        ready.failed(str(error))
        return 1
    return daemon.run(ready)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of `python -m ginnel.runtime.daemon`."""
    parser = argparse.ArgumentParser("ginnel.runtime.daemon", description="The process that owns one WireGuard tunnel.")
    parser.add_argument("--interface", required=True, metavar="NAME")
    parser.add_argument("--config", default="", metavar="PATH")
    parser.add_argument("--foreground", action="store_true")
    parser.add_argument("--ready-fd", type=int, metavar="N")
    parser.add_argument("--mtu", type=int, default=DEFAULT_MTU, metavar="N")
    given = parser.parse_args(argv)
    starter = process.Readiness(given.ready_fd)
    try:
        options = Options(check_name(given.interface), given.config, given.mtu)
    except GinnelError as error:
        starter.failed(str(error))
        return 2
    return start(options, foreground=given.foreground, starter=starter)


def start(options: Options, *, foreground: bool, starter: process.Readiness) -> int:
    """Serve here, or in a process of its own and return when that is usable; the exit code."""
    return process.start(lambda log, ready: serve(options, log, ready), foreground=foreground, starter=starter)


if __name__ == "__main__":
    sys.exit(main())
