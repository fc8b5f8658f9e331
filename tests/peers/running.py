"""A running ginnel-wireguard for tests of the process itself: start it, talk to both of its sockets, see that it is gone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namespaces import Namespace, wait_until

ROOT = Path(__file__).resolve().parents[2]
BARE = [sys.executable, "-m", "ginnel.runtime.wireguard_main"]
DAEMON = [sys.executable, "-m", "ginnel.runtime.daemon"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
for name in ("LOG_LEVEL", "WG_PROCESS_FOREGROUND", "WG_TUN_FD", "WG_UAPI_FD"):
    ENVIRONMENT.pop(name, None)


def uapi_path(interface: str) -> Path:
    """The interface's UAPI socket."""
    return Path("/var/run/wireguard", f"{interface}.sock")


def control_path(interface: str) -> Path:
    """The interface's control socket."""
    return Path("/run/ginnel", f"{interface}.sock")


def state_path(interface: str) -> Path:
    """What is remembered of the interface."""
    return Path("/run/ginnel", f"{interface}.state")


def ask(interface: str, request: dict[str, Any]) -> dict[str, Any]:
    """One question to the control socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(control_path(interface)))
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile("rb") as answers:
            answer = json.loads(answers.readline())
    assert isinstance(answer, dict)
    return answer


def show(interface: str) -> dict[str, Any]:
    """The snapshot's tunnel."""
    answer = ask(interface, {"op": "show"})
    assert answer["schema"] == "ginnel.show/1"
    tunnel = answer["tunnel"]
    assert isinstance(tunnel, dict)
    return tunnel


def uapi(interface: str, text: str) -> str:
    """What the UAPI socket answers to *text*, until it closes or the answer of as many operations is whole."""
    operations = sum(text.count(start) for start in ("get=1\n", "set=1\n"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(uapi_path(interface)))
        sock.sendall(text.encode())
        said = b""
        while said.count(b"\n\n") < operations:
            data = sock.recv(1 << 20)
            if not data:
                break
            said += data
    return said.decode()


@dataclass(slots=True)
class Running:
    """A process in the foreground, in a namespace; its log is in a file."""

    space: Namespace
    interface: str
    log: Path
    process: subprocess.Popen[Any]

    @classmethod
    def start(cls, space: Namespace, interface: str, directory: Path, **environment: str) -> Running:
        """Start it and wait until both sockets answer."""
        log = directory / f"{interface}.log"
        with log.open("ab") as output:
            process = space.popen(
                *BARE, "-f", interface,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**ENVIRONMENT, "LOG_LEVEL": "debug", **environment},
            )  # fmt: skip
        running = cls(space, interface, log, process)
        wait_until(running.answers, 10, f"{interface} to answer: {running.said()}")
        return running

    def answers(self) -> bool:
        """Both sockets accept connections."""
        assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.said()}"
        for path in (uapi_path(self.interface), control_path(self.interface)):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(path)) != 0:
                    return False
        return True

    @property
    def pid(self) -> int:
        """Its process id: `ip netns exec` became it."""
        return self.process.pid

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")

    def device(self) -> bool:
        """Whether its device exists where it was made."""
        return self.space.succeeds("ip", "link", "show", self.interface)

    def ended(self, within_s: float = 5) -> int:
        """Wait until it has ended by itself; its exit code."""
        return self.process.wait(timeout=within_s)

    def status_kb(self, field: str) -> int:
        """A field of /proc/PID/status, in kB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        raise AssertionError(f"no {field}")

    def wakeups(self) -> int:
        """Voluntary context switches of all its threads since they began."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
        return total

    def cpu_s(self) -> float:
        """Processor time that all its threads have used, to the nanosecond."""
        return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{self.pid}/task").iterdir()) / 1e9
