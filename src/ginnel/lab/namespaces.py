"""
Private namespaces, each held by one process, all ended by the kernel.

A `Held` namespace is a network, mount, process and host-name namespace of its own, whose process 1 waits for the end of a
pipe that this process alone holds open. When the pipe closes (clean end, exception, Ctrl-C, even kill -9) process 1 ends,
the kernel kills whatever runs in the namespace, and devices and addresses go with it: there is nothing that could be
left behind, and nothing is ever found by name. A lab that is to be kept holds its namespaces by a sleeper instead, and
`keep` ends them by recorded process id and start time.

/run is private (control and UAPI sockets of several nodes do not meet), and so is /etc (resolv.conf, hosts); process 1
ignores SIGCHLD, so the kernel reaps what daemons leave.

As an ordinary user everything happens inside one user namespace, which `enter_user_namespace` makes by running the program again
under `unshare -Ur`.
"""

from __future__ import annotations

import ctypes
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar

from ginnel.errors import KernelError, UsageError

CLONE_NEWNET = 0x40000000

#: Set in the environment of the program run again inside its user namespace.
INSIDE = "GINNEL_LAB_USER_NAMESPACE"

#: Longer than any single step of a healthy lab; a step that takes it has hung.
STEP_TIMEOUT_S = 60.0

#: What process 1 of a namespace runs.
_HOLDER = Path(__file__).with_name("holder.sh")

_UNSHARE = ("unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--")

_T = TypeVar("_T")
_libc = ctypes.CDLL(None, use_errno=True)


class Held:
    """One namespace, by the process that holds it."""

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid

    @property
    def root(self) -> Path:
        """Its file system, as a path outside of it."""
        return Path(f"/proc/{self.pid}/root")

    def command(self, argv: Sequence[str], *, network_only: bool = False) -> list[str]:
        """The argv that runs *argv* inside."""
        spaces = ["-n"] if network_only else ["-n", "-m", "-p", "-u"]
        return ["nsenter", "-t", str(self.pid), *spaces, "--", *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = STEP_TIMEOUT_S,
        network_only: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run *argv* inside to its end; the caller judges the result. subprocess.TimeoutExpired when it hangs."""
        return subprocess.run(
            self.command(argv, network_only=network_only),
            input=stdin if stdin is not None else "",
            env=dict(env) if env is not None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            start_new_session=True,
        )

    def start(self, argv: Sequence[str], stdout: IO[bytes] | int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start *argv* inside; it ends with the namespace at the latest."""
        return subprocess.Popen(
            self.command(argv),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT if stdout is not subprocess.DEVNULL else subprocess.DEVNULL,
            start_new_session=True,
        )

    def inside(self, make: Callable[[], _T]) -> _T:
        """
        Call *make* on a thread that is in this network namespace, and return its result.

        What it opens (sockets above all) stays in the namespace after the thread has gone. Only the network is entered,
        so files are those of the caller.
        """
        answer: queue.SimpleQueue[tuple[_T | None, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                enter_network(self.pid)
                answer.put((make(), None))
            except BaseException as error:  # noqa: BLE001  it is raised again in the caller, whatever it is
                answer.put((None, error))

        thread = threading.Thread(target=work, name=f"in-{self.name}", daemon=True)
        thread.start()
        result, error = answer.get()
        thread.join()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # None only where make returned it

    def configure(self, commands: Sequence[str]) -> None:
        """Give *commands* to `ip -batch` inside, last those that begin with -6; UsageError names the one that was refused."""
        sixth = [command.removeprefix("-6 ") for command in commands if command.startswith("-6 ")]
        for options, some in ((["-batch"], [each for each in commands if not each.startswith("-6 ")]), (["-6", "-batch"], sixth)):
            if not some:
                continue
            done = self.run(["ip", *options, "-"], stdin="\n".join(some) + "\n", network_only=True)
            if done.returncode != 0:
                raise_refused(self.name, done.stderr, some)


def raise_refused(where: str, stderr: str, commands: Sequence[str]) -> None:
    """Raise what `ip -batch` complained about, with the line it complained of."""
    line = stderr.rpartition("Command failed -:")[2].strip()
    which = commands[int(line) - 1] if line.isdigit() and int(line) <= len(commands) else "ip -batch"
    said = stderr.splitlines()[0] if stderr else "no reason given"
    raise UsageError(f"in {where}: ip {which}: {said}")


def enter_network(pid: int) -> None:
    """Move the calling thread into the network namespace of *pid*; KernelError when that is refused."""
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, CLONE_NEWNET) != 0:
            raise KernelError(f"setns /proc/{pid}/ns/net", ctypes.get_errno())
    finally:
        os.close(fd)


class Namespaces:
    """A set of namespaces with one life; a context manager."""

    def __init__(self, lab_id: str, *, keep: bool = False) -> None:
        """
        Args:
            lab_id: shown in the process list, so that a person can tell labs apart.
            keep: they outlive this process once `leave_running` was called.
        """
        self.lab_id = lab_id
        self.keep = keep
        self.held: dict[str, Held] = {}
        self._holders: list[subprocess.Popen[str]] = []
        self._stack = ExitStack()
        self._read, self._write = os.pipe()
        self.left_running = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self, roles: Mapping[str, str]) -> None:
        """Make a namespace for each name, all at once; UsageError says what the machine does not allow."""
        options = "index=off" if os.environ.get(INSIDE) is None else "userxattr"
        mode = "sleeper" if self.keep else "pipe"
        for name, role in roles.items():
            self._holders.append(
                subprocess.Popen(
                    [*_UNSHARE, "sh", str(_HOLDER), f"gl-{self.lab_id}-{name}", role, name, mode, options],
                    stdin=self._read if mode == "pipe" else subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
        for name, holder in zip(roles, self._holders, strict=True):
            assert holder.stdout is not None and holder.stderr is not None  # noqa: PT018  both are PIPE above
            pid = holder.stdout.readline().strip()
            if not pid:
                raise UsageError(f"the machine does not allow the namespace for {name}: {holder.stderr.read().strip()}")
            self.held[name] = Held(name, int(pid))

    def __getitem__(self, name: str) -> Held:
        return self.held[name]

    def leave_running(self) -> None:
        """Let them outlive this process (made with *keep*)."""
        assert self.keep
        self.left_running = True

    def close(self) -> None:
        """End every namespace and whatever runs in it, and wait until it is gone; idempotent."""
        for fd in (self._read, self._write):
            if fd >= 0:
                os.close(fd)
        self._read = self._write = -1
        if self.left_running:
            return
        for holder in self._holders:
            if self.keep or holder.poll() is None:
                kill_children(holder.pid)
        for holder in self._holders:
            holder.wait(STEP_TIMEOUT_S)
            for stream in (holder.stdout, holder.stderr):
                if stream is not None:
                    stream.close()
        self._holders.clear()


def kill_children(pid: int) -> None:
    """Kill the direct children of *pid*: for a holder, process 1 of its namespace, and with it everything inside."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return  # it has already gone
    for child in children:
        try:
            os.kill(int(child), signal.SIGKILL)
        except ProcessLookupError:
            pass  # it went by itself in between


def start_time(pid: int) -> int | None:
    """When *pid* started, in clock ticks since boot (with the id it names a process for ever); None: there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


def enter_user_namespace(argv: Sequence[str]) -> None:
    """
    As an ordinary user, run the program again as root of a user namespace; returns at once for root or when already inside.

    Raises:
        UsageError: the machine allows neither.
    """
    if os.geteuid() == 0:
        return
    unshare = shutil.which("unshare")
    if unshare is None:
        raise UsageError("the lab needs unshare (Debian: util-linux)")
    tried = subprocess.run([unshare, "-Ur", "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        raise UsageError(
            "the lab needs root, or a kernel that lets users make user namespaces\n"
            f"  unshare -Ur: {tried.stderr.strip()}\n"
            "  hint: run it with sudo, or: sysctl -w kernel.unprivileged_userns_clone=1"
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(unshare, [unshare, "-Ur", "--", *argv], {**os.environ, INSIDE: "1"})  # noqa: S606  no shell is what we want
