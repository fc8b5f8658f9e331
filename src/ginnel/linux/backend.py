"""
What makes a tunnel's interface and answers for it: our own daemon, or the kernel.

`start` returns at once and `wait` when the interface is usable, so that a command can do its own slow things in between. The
daemon is a process of its own session that outlives the command; what it says of its start comes through a pipe as one line,
`ready`, or `error: ` and a text for a person.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ginnel.errors import EngineError, GinnelError
from ginnel.linux import uapi
from ginnel.linux.host import Kernel
from ginnel.linux.record import RUN_DIR, Process

START_TIMEOUT_S = 15.0
END_TIMEOUT_S = 5.0
_REPORT_MAX_BYTES = 1 << 16
_POLL_S = 0.02


class Backend(Protocol):
    """One way to have an interface."""

    @property
    def name(self) -> str:
        """ "engine" or "kernel"."""
        ...

    @property
    def words(self) -> str:
        """What `start` does, as a command; `%i` is the interface."""
        ...

    def start(self, interface: str, config: str) -> Process:
        """Begin to make the interface; the process that does it, and will serve it (pid 0: the kernel itself)."""
        ...

    def wait(self, interface: str, kernel: Kernel) -> None:
        """
        Until the interface exists and can be configured.

        Raises:
            GinnelError: it cannot be made; the text is for a person. Nothing is left.
        """
        ...

    def configure(self, interface: str, lines: str) -> None:
        """UAPI lines, applied as they stand."""
        ...

    def read(self, interface: str) -> uapi.Device:
        """The device as it is."""
        ...


class EngineBackend:
    """Our daemon, in user space."""

    name = "engine"

    def __init__(self, *, detached: bool = True) -> None:
        """
        Args:
            detached: the daemon outlives this process, silent; else (`ginnel run`) it writes its log to our stderr.
        """
        self._detached = detached
        self.child: Child | None = None

    @property
    def words(self) -> str:
        """See `Backend`."""
        return "ginnel-wireguard %i"

    def start(self, interface: str, config: str) -> Process:
        """See `Backend`."""
        self.child = Child("ginnel.runtime.daemon", ["--interface", interface, "--config", config], detached=self._detached)
        return Process.of(self.child.pid)

    def wait(self, interface: str, kernel: Kernel) -> None:  # noqa: ARG002 - the daemon makes the interface
        """See `Backend`."""
        if self.child is None:
            raise EngineError("the daemon was not started")
        self.child.wait_ready(interface)

    def configure(self, interface: str, lines: str) -> None:
        """See `Backend`."""
        uapi.write(interface, lines)

    def read(self, interface: str) -> uapi.Device:
        """See `Backend`."""
        return uapi.read(interface)


class Child:
    """A process of ours that outlives this one: started at once, and ready when it says so."""

    def __init__(self, module: str, arguments: Sequence[str], *, detached: bool, told: bool = False) -> None:
        """
        Args:
            module: of ginnel.runtime.
            detached: it is silent; else (`ginnel run`) it writes its log to our stderr.
            told: it waits on its standard input for what to do (see `tell`).
        """
        self._reading, writing = os.pipe()
        # -P: never import from the directory in which root happens to stand.
        command = [sys.executable, "-P", "-m", module, "--foreground", *arguments, "--ready-fd", str(writing)]
        silent = subprocess.DEVNULL if detached else None
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if told else subprocess.DEVNULL,
                stdout=silent,
                stderr=silent,
                pass_fds=[writing],
                start_new_session=True,
                cwd="/" if os.environ.get("PYTHONPATH", "/").startswith("/") else None,
            )
        finally:
            os.close(writing)
        self.pid = self._process.pid

    def tell(self, text: str) -> None:
        """
        Hand over what it waits for. Done once the process is on record: when we are killed before, it reads nothing and ends, and
        nobody is left who makes devices that no record knows of.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:  # it ended: `wait_ready` says why
            pipe.write(text.encode())

    def wait_ready(self, name: str) -> None:
        """
        Until it says that it is ready.

        Raises:
            EngineError: it is not, and has ended; the text is for a person.
        """
        try:
            report = _read_report(self._reading, START_TIMEOUT_S)
        finally:
            os.close(self._reading)
            self._reading = -1
        if report == "ready":
            return
        process = Process.of(self.pid)
        if process.alive:
            end_process(process)
        code = self._process.wait()
        if report is None:
            raise EngineError(f"the daemon of {name} did not become ready within {START_TIMEOUT_S:.0f} s; it was ended")
        text = report.removeprefix("error:").strip()
        raise EngineError(text or f"the daemon of {name} ended with {code} before it was ready, and said nothing")


def _read_report(descriptor: int, timeout_s: float) -> str | None:
    """What comes through the pipe until a `ready` line or its end; None when the time is over."""
    deadline = time.monotonic() + timeout_s
    text = b""
    while len(text) < _REPORT_MAX_BYTES:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        piece = os.read(descriptor, 4096)
        text += piece
        if text == b"ready\n" or not piece:
            break
    return text.decode("utf-8", "replace").strip()


def end_process(process: Process, timeout_s: float = END_TIMEOUT_S) -> None:
    """
    Wait for a process to end by itself, then ask it (TERM), then make it (KILL); each step has *timeout_s*.

    Nothing is ever sent to a process that merely has the same number.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not process.alive:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        if wait_gone(process, timeout_s):
            return


def wait_gone(process: Process, timeout_s: float = END_TIMEOUT_S) -> bool:
    """Until *process* has ended, at most *timeout_s*; a child of ours is reaped. Whether it has."""
    deadline = time.monotonic() + timeout_s
    while process.alive:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def control(
    interface: str, request: Mapping[str, object], directory: Path = RUN_DIR, timeout_s: float = 5.0
) -> dict[str, Any] | None:
    """
    One request to our daemon's control socket: a JSON line each way. None when nothing listens there (another implementation).

    Raises:
        GinnelError: it answered with an error, or with something that is not an answer.
    """
    path = directory / f"{interface}.sock"
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError:
            raise GinnelError(f"{path}: {os.strerror(errno.EACCES)}\n  hint: this needs root: try `sudo`") from None
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline(1 << 28)
            answer = json.loads(line)
        except (OSError, ValueError) as error:
            raise GinnelError(f"{path}: no answer that can be read: {error}") from None
    if not isinstance(answer, dict):
        raise GinnelError(f"{path}: expected a JSON object, found {type(answer).__name__}")
    if "error" in answer:
        raise GinnelError(f"{interface}: {answer['error']}")
    return answer
