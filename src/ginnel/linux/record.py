"""
What `up` did, on disk while it holds: /run/ginnel/NAME.json, mode 0600.

Written before each effect and removed after the last one is undone, so that whatever ends a process (kill -9, a crash, the
machine's reboot with a /run that outlives it) the next `up` or `down` knows exactly what is left. It holds no secret but what
hooks may hold. One record is one file, replaced atomically; a lock file beside it keeps two commands on one name apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ginnel.errors import GinnelError
from ginnel.linux.host import Rule

RUN_DIR = Path("/run/ginnel")
SCHEMA = "ginnel.record/1"
#: A record is a few kilobytes; more is not ours.
_SIZE_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LinkDone:
    """The interface was made; *index* 0 = it was about to be. Its addresses and routes go with it."""

    name: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class RuleDone:
    """A policy rule was added."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class FirewallDone:
    """Our nft tables exist, for these IP versions."""

    interface: str
    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DnsDone:
    """Name servers were installed by this method (see `dns`)."""

    method: dict[str, str]


@dataclass(frozen=True, slots=True)
class LinksDone:
    """All interfaces of a node were made: name to index; 0 = about to be. Their addresses and routes go with them."""

    links: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class TableDone:
    """An nft table of ours exists, in the inet family."""

    table: str


@dataclass(frozen=True, slots=True)
class PolicyDone:
    """A policy rule of a node file was added: its words, with the priority that it has."""

    version: int
    words: str


@dataclass(frozen=True, slots=True)
class BlocksDone:
    """Unreachable routes exist behind those into protected tunnels: prefix and table, in words."""

    routes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FouDone:
    """The kernel was told to take GRE out of UDP on this port."""

    version: int
    port: int


@dataclass(frozen=True, slots=True)
class SettingDone:
    """A setting of the kernel has this value; *before*: what it was before the first who wanted it so."""

    name: str
    before: str
    value: str


@dataclass(frozen=True, slots=True)
class OwnDone:
    """An address, or a whole prefix, is the host's own."""

    prefix: str


@dataclass(frozen=True, slots=True)
class ProxyDone:
    """The host answers ARP and NDP for others: "PREFIX dev NAME"."""

    words: str


Done = (
    LinkDone
    | LinksDone
    | RuleDone
    | PolicyDone
    | FirewallDone
    | TableDone
    | BlocksDone
    | FouDone
    | DnsDone
    | SettingDone
    | OwnDone
    | ProxyDone
)


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be mistaken for a later one with its number; pid 0 = none."""

    pid: int = 0
    start_ticks: int = 0
    boot_id: str = ""

    @classmethod
    def of(cls, pid: int) -> Process:
        """The running process *pid*; pid 0 when there is none."""
        ticks = _start_ticks(pid)
        return cls(pid, ticks, _boot_id()) if ticks else cls()

    @property
    def alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        return self.pid > 0 and self.boot_id == _boot_id() and _start_ticks(self.pid) == self.start_ticks


@dataclass(slots=True)
class Record:
    """
    One tunnel that `up` brought up, or was bringing up.

    complete: all steps were done. owner: the command at work on it, or the supervisor of `ginnel run`.
    done: effects in the order in which they were made. hooks: by phase, used when the file cannot be read any more.
    """

    name: str
    config: str
    backend: str
    namespace: str
    started_unix: int
    owner: Process
    daemon: Process = Process()
    complete: bool = False
    table: str = "auto"
    fwmark: int = 0
    done: list[Done] = field(default_factory=list)
    hooks: dict[str, list[str]] = field(default_factory=dict)

    def to_json(self) -> str:
        """The record as it lies on disk."""
        plain = {
            "schema": SCHEMA,
            "name": self.name,
            "config": self.config,
            "backend": self.backend,
            "namespace": self.namespace,
            "started_unix": self.started_unix,
            "owner": _process_json(self.owner),
            "daemon": _process_json(self.daemon),
            "complete": self.complete,
            "table": self.table,
            "fwmark": self.fwmark,
            "done": [_done_json(done) for done in self.done],
            "hooks": self.hooks,
        }
        return json.dumps(plain, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """
        Read what `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            plain = json.loads(text)
            if plain["schema"] != SCHEMA:
                raise ValueError(f"expected schema {SCHEMA}, found {plain['schema']!r}")
            return cls(
                name=str(plain["name"]),
                config=str(plain["config"]),
                backend=str(plain["backend"]),
                namespace=str(plain["namespace"]),
                started_unix=int(plain["started_unix"]),
                owner=Process(**plain["owner"]),
                daemon=Process(**plain["daemon"]),
                complete=bool(plain["complete"]),
                table=str(plain["table"]),
                fwmark=int(plain["fwmark"]),
                done=[_done_of(done) for done in plain["done"]],
                hooks={str(phase): [str(line) for line in lines] for phase, lines in plain["hooks"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a record: {type(error).__name__} {error}") from None


def _process_json(process: Process) -> dict[str, Any]:
    return {"pid": process.pid, "start_ticks": process.start_ticks, "boot_id": process.boot_id}


def _done_json(done: Done) -> dict[str, Any]:
    match done:
        case LinkDone(name, index):
            return {"kind": "link", "name": name, "index": index}
        case LinksDone(links):
            return {"kind": "links", "links": dict(links)}
        case TableDone(table):
            return {"kind": "table", "table": table}
        case PolicyDone(version, words):
            return {"kind": "policy", "version": version, "words": words}
        case BlocksDone(routes):
            return {"kind": "blocks", "routes": list(routes)}
        case FouDone(version, port):
            return {"kind": "fou", "version": version, "port": port}
        case RuleDone(rule):
            fields = {"version": rule.version, "priority": rule.priority, "selects": rule.kind}
            return {"kind": "rule", **fields, "mark": rule.mark, "table": rule.table}
        case FirewallDone(interface, versions):
            return {"kind": "firewall", "interface": interface, "versions": list(versions)}
        case DnsDone(method):
            return {"kind": "dns", "method": method}
        case SettingDone(name, before, value):
            return {"kind": "setting", "name": name, "before": before, "value": value}
        case OwnDone(prefix):
            return {"kind": "own", "prefix": prefix}
        case ProxyDone(words):
            return {"kind": "proxy", "words": words}


def _done_of(plain: dict[str, Any]) -> Done:
    match plain:
        case {"kind": "link", "name": str(name), "index": int(index)}:
            return LinkDone(name, index)
        case {"kind": "links", "links": dict(links)}:
            return LinksDone(tuple((str(name), int(index)) for name, index in links.items()))
        case {"kind": "table", "table": str(table)}:
            return TableDone(table)
        case {"kind": "policy", "version": 4 | 6 as version, "words": str(words)}:
            return PolicyDone(version, words)
        case {"kind": "blocks", "routes": list(routes)}:
            return BlocksDone(tuple(str(route) for route in routes))
        case {"kind": "fou", "version": 4 | 6 as version, "port": int(port)}:
            return FouDone(version, port)
        case {"kind": "rule", "version": 4 | 6 as version, "selects": "unmarked" | "specific" as kind}:
            return RuleDone(Rule(version, int(plain["priority"]), kind, int(plain["mark"]), int(plain["table"])))
        case {"kind": "firewall", "interface": str(interface), "versions": list(versions)}:
            return FirewallDone(interface, tuple(int(version) for version in versions))
        case {"kind": "dns", "method": dict(method)}:
            return DnsDone({str(key): str(value) for key, value in method.items()})
        case {"kind": "setting", "name": str(name), "before": str(before), "value": str(value)}:
            return SettingDone(name, before, value)
        case {"kind": "own", "prefix": str(prefix)}:
            return OwnDone(prefix)
        case {"kind": "proxy", "words": str(words)}:
            return ProxyDone(words)
        case _:
            raise ValueError(f"not an effect that this version knows: {plain.get('kind')!r}")


class Store:
    """The directory of records."""

    def __init__(self, directory: Path = RUN_DIR) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        """Where the record of *name* lies."""
        return self.directory / f"{name}.json"

    def load(self, name: str) -> Record | None:
        """The record of *name*, or None; GinnelError when there is one that cannot be read."""
        path = self.path(name)
        try:
            with path.open("rb") as file:
                raw = file.read(_SIZE_MAX_BYTES)
            return Record.from_json(raw.decode())
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise GinnelError(f"open {path}: {error.strerror}\n  hint: this needs root: try `sudo`") from None
        except (ValueError, OSError) as error:
            raise GinnelError(
                f"{path}: cannot be read: {error}\n"
                f"  hint: it says what was done for {name}; undo that by hand, then delete the file"
            ) from None

    def save(self, record: Record) -> None:
        """Write the record, as a whole or not at all."""
        self._make_directory()
        path = self.path(record.name)
        fresh = path.with_name(path.name + ".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(record.to_json())
        fresh.replace(path)

    def delete(self, name: str) -> None:
        """Forget *name*."""
        self.path(name).unlink(missing_ok=True)

    def forget_crash(self, name: str) -> None:
        """What a killed process would have told IPsec peers after its start (RFC 6290): there will be none."""
        (self.directory / f"{name}.crash").unlink(missing_ok=True)

    def names(self) -> list[str]:
        """All that have a record."""
        return sorted(path.name.removesuffix(".json") for path in self.directory.glob("*.json"))

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """
        Hold *name* (empty: what all tunnels share: tables and priorities).

        Raises:
            GinnelError: another command holds this name. The shared lock is held for moments only, and is waited for.
        """
        self._make_directory()
        path = self.directory / f"{name}.lock" if name else self.directory / ".lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except PermissionError as error:
            raise GinnelError(f"open {path}: {error.strerror}\n  hint: this needs root: try `sudo`") from None
        except OSError as error:
            raise GinnelError(f"open {path}: {error.strerror}") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if name else 0))
            except BlockingIOError:
                raise GinnelError(f"another ginnel command is at work on {name}\n  hint: try again when it has ended") from None
            yield
        finally:
            os.close(descriptor)

    def _make_directory(self) -> None:
        try:
            if not self.directory.is_dir():
                self.directory.mkdir(parents=True, exist_ok=True)
                self.directory.chmod(0o755)  # whatever the umask is: the sockets in it have modes of their own
        except OSError as error:
            hint = "\n  hint: this needs root: try `sudo`" if isinstance(error, PermissionError) else ""
            raise GinnelError(f"make {self.directory}: {error.strerror}{hint}") from None


def network_namespace() -> str:
    """Which network namespace this process is in, as the kernel names it."""
    try:
        return os.readlink("/proc/self/ns/net")
    except OSError:
        return ""


def _start_ticks(pid: int) -> int:
    """When the process started, in ticks since boot; 0 when it does not run."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in {"Z", "X"} else int(fields[19])


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
