"""
Everything here needs namespaces, so it is marked `peers`; and every test that starts a lab proves that it left nothing behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ginnel.lab.namespaces import Held, Namespaces
from namespaces import wait_until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
GINNEL = Path(sys.executable).with_name("ginnel")
#: Longer than any healthy lab takes on a slow machine that does other things as well.
LAB_TIMEOUT_S = 120.0

HERE = Path(__file__).parent
#: These look at nothing but values.
PURE = {"test_topology.py", "test_report.py", "test_table.py", "test_tunnels.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and item.path.name not in PURE:
            item.add_marker(pytest.mark.peers)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a `ginnel lab` ended."""

    code: int
    stdout: str
    stderr: str

    def report(self) -> dict[str, Any]:
        """The JSON report; the schema is checked here for all tests."""
        document: dict[str, Any] = json.loads(self.stdout)
        assert document["schema"] == "ginnel.lab/1"
        return document


def of_marker(marker: str) -> list[int]:
    """Processes whose environment holds *marker*: whatever a lab of this test started, wherever it went."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if marker.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it has gone, or hides its environment (a daemon of ours does; it lives in a held namespace)
    return found


@dataclass(frozen=True, slots=True)
class LabRunner:
    """Runs labs with a mark of this test in their environment."""

    marker: str
    #: Where its files are.
    directory: Path

    def environment(self) -> dict[str, str]:
        return {**os.environ, "GINNEL_TEST_MARK": self.marker}

    def __call__(self, *arguments: str | Path, cwd: Path | None = None) -> Ran:
        done = subprocess.run(
            [GINNEL, "lab", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=LAB_TIMEOUT_S,
            env=self.environment(),
            check=False,
            cwd=cwd,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start one and let it run; the test ends it."""
        return subprocess.Popen(
            [GINNEL, "lab", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
            start_new_session=True,
        )

    def left(self) -> list[int]:
        """What still runs of what this test started."""
        return of_marker(self.marker)

    def write(self, text: str, name: str = "network.toml") -> Path:
        path = self.directory / name
        path.write_text(text)
        return path


def host_links() -> set[str]:
    links = json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True).stdout)
    return {link["ifname"] for link in links}


def mounts() -> list[str]:
    """The mounts of the host that a lab could have left: other tests make namespaces beside us."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "overlay" in line or " /etc " in line]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabRunner]:
    """`lab("file", "--json")`: run `ginnel lab`. Afterwards: no process, no link of the host, no mount is left over."""
    runner = LabRunner(f"{os.getpid()}-{os.urandom(4).hex()}", tmp_path)
    before = mounts()
    yield runner
    wait_until(lambda: not runner.left(), 10, "every process of the lab has ended")
    assert mounts() == before
    assert not any(name.startswith(("to-", "lan0", "home")) for name in host_links())


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of an example, so that a test run changes no file of the tree."""

    def copy(name: str) -> Path:
        target = tmp_path / name
        target.mkdir()
        for path in (EXAMPLES / name).glob("*.toml"):
            (target / path.name).write_bytes(path.read_bytes())
        return target / "network.toml"

    return copy


@dataclass(frozen=True, slots=True)
class Pair:
    """Two held namespaces joined by a wire, `eth` at both ends: 192.0.2.1 and 2001:db8::1 left, .2 and ::2 right."""

    left: Held
    right: Held


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Namespaces("test") as spaces:
        spaces.start({"left": "lan", "right": "lan"})
        left, right = spaces["left"], spaces["right"]
        left.configure([f"link add eth type veth peer name eth netns {right.pid}"])
        for held, last in ((left, 1), (right, 2)):
            held.configure(
                ["link set eth up", f"addr add 192.0.2.{last}/24 dev eth", f"addr add 2001:db8::{last}/64 dev eth nodad"]
            )
        yield Pair(left, right)
