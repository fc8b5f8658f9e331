"""
A lab that was left up: how to find it again, enter it and end it.

A record (JSON, no secret) names the file, the lab and the process that holds each namespace, with its start time, so that a
process id that was used again is never taken for ours. Ending a lab kills process 1 of each of its namespaces; the kernel
does the rest.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ginnel.errors import UsageError
from ginnel.lab.namespaces import INSIDE, Held, start_time

#: Killing process 1 of a namespace is done by the kernel at once; this is for a very busy machine.
END_DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class HeldRecord:
    """One namespace: its name and the process that holds it."""

    name: str
    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return start_time(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Record:
    """One lab that was left up."""

    file: str
    lab_id: str
    interface: str
    held: tuple[HeldRecord, ...]

    def find(self, name: str) -> HeldRecord:
        """The namespace called *name*; UsageError names the others."""
        for item in self.held:
            if item.name == name:
                return item
        raise UsageError(f"no {name!r} in this lab; it has {', '.join(item.name for item in self.held)}")


def directory() -> Path:
    """Where records lie: /run for root, the user's own runtime or cache directory otherwise."""
    if os.environ.get(INSIDE) is None and os.geteuid() == 0:
        return Path("/run/ginnel-lab")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "ginnel-lab" if runtime else Path.home() / ".cache" / "ginnel-lab"


def remember(file: Path, lab_id: str, interface: str, held: dict[str, Held]) -> Record:
    """Write the record of a lab that stays up."""
    record = Record(
        str(file.resolve()),
        lab_id,
        interface,
        tuple(HeldRecord(name, space.pid, start_time(space.pid) or 0) for name, space in held.items()),
    )
    where = directory()
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = where / f"{lab_id}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record), indent=1))
    temporary.rename(path)
    return record


def recall(file: Path) -> list[Record]:
    """The labs of *file* that are still up, oldest first; records of those that are not are removed."""
    found = []
    for path in sorted(directory().glob("*.json"), key=lambda path: path.stat().st_mtime):
        document = json.loads(path.read_text())
        record = Record(
            document["file"],
            document["lab_id"],
            document["interface"],
            tuple(HeldRecord(**item) for item in document["held"]),
        )
        if not any(item.alive for item in record.held):
            path.unlink(missing_ok=True)
        elif record.file == str(file.resolve()):
            found.append(record)
    return found


def end(record: Record) -> None:
    """End a lab and forget it; UsageError when something of it will not go."""
    for item in record.held:
        if item.alive:
            try:
                os.kill(item.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it went by itself in between
    deadline = time.monotonic() + END_DEADLINE_S
    while left := [item for item in record.held if item.alive]:
        if time.monotonic() > deadline:
            raise UsageError(f"these namespaces of lab {record.lab_id} did not end: {', '.join(item.name for item in left)}")
        time.sleep(0.02)
    (directory() / f"{record.lab_id}.json").unlink(missing_ok=True)


def enter_command(pid: int) -> list[str]:
    """The argv that opens a namespace of a kept lab from outside, for the user who made it."""
    inside_user = os.environ.get(INSIDE) is not None or os.geteuid() != 0
    user = ["-U", "--preserve-credentials"] if inside_user else []
    return ["nsenter", "-t", str(pid), *user, "-n", "-m", "-p", "-u"]
