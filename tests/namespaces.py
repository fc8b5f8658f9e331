"""
Network namespaces for tests: made under unique names, joined by veth pairs, and gone afterwards.

Rules: every name holds the process id and a random part, so that test runs beside each other never meet. Clean-up goes by what
was recorded when it was made: our own `Popen`s, then whatever still runs inside our own namespaces, then the namespaces
themselves. A missing tool or a missing privilege is an error, never a skip.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

#: How long a command may take before it is taken for hung.
COMMAND_TIMEOUT_S = 60.0
#: How long the kernel may take to make an address deliverable (`Namespace.settled`).
SETTLED_WITHIN_S = 10.0
POLL_S = 0.02


class CommandFailed(AssertionError):
    """A command that had to succeed did not; says what it printed."""


T = TypeVar("T")


def wait_until(predicate: Callable[[], T], within_s: float, what: str = "") -> T:
    """
    Poll *predicate* until it gives something true, and give that back.

    Raises AssertionError, naming *what*, when *within_s* seconds have passed.
    """
    deadline = time.monotonic() + within_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or predicate} not reached within {within_s} s; last: {value!r}")
        time.sleep(POLL_S)


def run(argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Run a command; its stdout. CommandFailed with both outputs when *check* and it fails."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    if check and done.returncode:
        raise CommandFailed(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass(slots=True)
class Namespace:
    """One network namespace, and what was started in it."""

    name: str
    started: list[subprocess.Popen[Any]] = field(default_factory=list)

    def prefix(self) -> list[str]:
        """What goes before a command to run it in here."""
        return ["ip", "netns", "exec", self.name]

    def run(self, *argv: str, stdin: str | None = None, check: bool = True, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a command in here; its stdout."""
        return run([*self.prefix(), *argv], stdin=stdin, check=check, timeout_s=timeout_s)

    def succeeds(self, *argv: str, timeout_s: float = COMMAND_TIMEOUT_S) -> bool:
        """Whether a command in here exits with 0."""
        try:
            self.run(*argv, timeout_s=timeout_s)
        except CommandFailed:
            return False
        return True

    def ip(self, *argv: str) -> str:
        """iproute2 on this namespace."""
        return run(["ip", "-n", self.name, *argv])

    def ip_json(self, *argv: str) -> Any:
        """The same with `-json`, parsed."""
        return json.loads(run(["ip", "-n", self.name, "-json", *argv]) or "[]")

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a command in here; it is ended with the namespace at the latest."""
        process = subprocess.Popen([*self.prefix(), *argv], **options)
        self.started.append(process)
        return process

    def settled(self, device: str) -> None:
        """
        Until packets to each IPv6 address of a device are delivered.

        An address can be shown and bound as soon as it is added, even `nodad`; its route in the table `local` comes from the
        kernel's work queue (addrconf_dad_work), on a busy machine milliseconds later. A packet that arrives before takes the
        route of the prefix instead and is dropped (Ip6InAddrErrors). IPv4's local routes are there at once.
        """

        def missing() -> set[str]:
            links = self.ip_json("-6", "address", "show", "dev", device)
            routes = self.ip_json("-6", "route", "show", "table", "local", "type", "local", "dev", device)
            return {one["local"] for link in links for one in link.get("addr_info", ())} - {route["dst"] for route in routes}

        wait_until(lambda: not missing(), SETTLED_WITHIN_S, f"local routes of the addresses of {device}")

    def write_proc(self, path: str, value: str) -> None:
        """Write one of the namespace's own /proc/sys files."""
        self.run("sh", "-c", 'printf %s "$1" > "$2"', "sh", value, path)

    def ping(
        self, target: str, *, count: int = 1, within_s: float = 1.0, interval_s: float = 0.05, options: Sequence[str] = ()
    ) -> bool:
        """Whether *count* pings all come back, each within *within_s* seconds."""
        return self.succeeds(
            "ping", "-n", "-q", "-c", str(count), "-i", str(interval_s), "-W", str(within_s), *options, target,
            timeout_s=count * max(interval_s, within_s) + 10,
        )  # fmt: skip

    def processes(self) -> list[int]:
        """Ids of the processes that run in here."""
        return [int(pid) for pid in run(["ip", "netns", "pids", self.name]).split()]

    def close(self) -> None:
        """End what runs in here and delete the namespace; idempotent."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
        for process in self.started:
            process.wait(timeout=10)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        self.started.clear()
        if not Path("/run/netns", self.name).exists():
            return
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run(["ip", "netns", "del", self.name])


@dataclass(frozen=True, slots=True)
class Link:
    """A veth pair: the name of each end."""

    left: str
    right: str


@dataclass(slots=True)
class Net:
    """Namespaces and the links between them; a context manager that leaves nothing behind."""

    prefix: str
    namespaces: list[Namespace] = field(default_factory=list)
    counter: int = 0

    @classmethod
    def create(cls) -> Net:
        """An empty net with a prefix of its own. PermissionError unless root."""
        if os.geteuid() != 0:
            raise PermissionError("these tests make network namespaces: run them as root")
        return cls(f"gt{os.getpid():x}{secrets.token_hex(2)}")

    def unique(self, label: str) -> str:
        """A name for an interface or namespace that nobody else has; at most 15 characters."""
        self.counter += 1
        return f"{label[:4]}{self.counter}{self.prefix[2:]}"[:15]

    def namespace(self, label: str) -> Namespace:
        """A new namespace with loopback up and duplicate address detection off."""
        self.counter += 1
        space = Namespace(f"{self.prefix}-{self.counter}-{label}")
        run(["ip", "netns", "add", space.name])
        self.namespaces.append(space)
        space.ip("link", "set", "lo", "up")
        for scope in ("all", "default"):
            space.write_proc(f"/proc/sys/net/ipv6/conf/{scope}/accept_dad", "0")
            space.write_proc(f"/proc/sys/net/ipv6/conf/{scope}/router_solicitations", "0")
        return space

    def veth(
        self,
        left: Namespace,
        right: Namespace,
        left_addresses: Sequence[str] = (),
        right_addresses: Sequence[str] = (),
        *,
        mtu: int = 1500,
    ) -> Link:
        """Join two namespaces; both ends up, with their addresses (`192.0.2.1/24`)."""
        link = Link(self.unique("vl"), self.unique("vr"))
        far = ["peer", "name", link.right, "mtu", str(mtu), "netns", right.name]
        left.ip("link", "add", link.left, "mtu", str(mtu), "type", "veth", *far)
        for space, name, addresses in ((left, link.left, left_addresses), (right, link.right, right_addresses)):
            for address in addresses:
                space.ip("address", "add", address, "dev", name)
            space.ip("link", "set", name, "up")
        for space, name, addresses in ((left, link.left, left_addresses), (right, link.right, right_addresses)):
            if any(":" in address for address in addresses):
                space.settled(name)
        return link

    def close(self) -> None:
        """Everything made here is gone."""
        for space in reversed(self.namespaces):
            space.close()
        self.namespaces.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextlib.contextmanager
def fresh_net() -> Iterator[Net]:
    """`with fresh_net() as net:` for benches and scripts."""
    with Net.create() as net:
        yield net
