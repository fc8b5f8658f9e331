"""
What every command about a whole network begins with: its file, checked, and its lock file beside it.

The file comes first on the command line; none is `./network.toml`, and a directory is all files `*.toml` of it.
Commands that only look allocate in memory; those that hand something out (`render`, `lab`, `keys`, `node add`) pin it first.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ginnel.cli import ui
from ginnel.cli.replace import write_over
from ginnel.config import toml
from ginnel.errors import GinnelError, UsageError
from ginnel.network import Compilation, Lock, Network, allocate, parse_lock, render_lock
from ginnel.network.file import MAX_FILE_BYTES, read_network
from ginnel.network.language.sources import MAX_FILES, Sources, is_node_file

DEFAULT = Path("network.toml")


@dataclass(frozen=True, slots=True)
class Opened:
    """
    A network as its files have it.

    file: what was named: a file, or a directory of several. pinned: the lock file's text as it is, None where there is none.
    sources: where each thing is said: `sources.place(("node", "paris", "lans", 0))`.
    """

    file: Path
    network: Network
    lock: Lock
    lock_file: Path
    pinned: str | None
    sources: Sources

    def compiled(self) -> Compilation:
        """Its hosts; public keys as far as they are pinned."""
        return Compilation(self.network, self.lock)

    def pin(self, *, must: bool = False) -> None:
        """Keep what was allocated beside the file; where that cannot be written a warning says so, or (must) a GinnelError."""
        text = render_lock(self.lock)
        if text == self.pinned:
            return
        try:
            write_over(self.lock_file, text, settled=must)
        except OSError as error:
            if must:
                raise GinnelError(f"{self.lock_file}: {error.strerror}: nothing is pinned") from None
            ui.warn(f"{self.lock_file}: {error.strerror}: addresses are not pinned")


def open_network(file: Path | None) -> Opened:
    """
    Read the network file, and the lock file beside it.

    Raises:
        ConfigError: every mistake in it.
        UsageError: it cannot be read.
    """
    path = find(file)
    with ui.working(f"reading {path}"):
        parsed = read_network([(str(each), read(each)) for each in files_of(path)], str(path))
        lock_file = lock_of(path)
        pinned = read(lock_file) if lock_file.exists() else None
        lock = allocate(parsed.network, parse_lock(pinned, str(lock_file)) if pinned is not None else Lock())
    return Opened(path, parsed.network, lock, lock_file, pinned, parsed.sources)


def find(file: Path | None) -> Path:
    """The file or directory that is meant: a directory with one network file is that file."""
    if file is None:
        if not DEFAULT.exists():
            raise UsageError("no FILE given, and there is no network.toml here\n  hint: `ginnel init` writes one to begin with")
        return DEFAULT
    files = files_of(file)
    if len(files) > 1:
        files = [each for each in files if not _is_node_file(each)]
    return files[0] if len(files) == 1 else file


def _is_node_file(file: Path) -> bool:
    """Whether it is plainly a node file; of what is no TOML, the network's own reader says where and why."""
    try:
        return is_node_file(toml.loads(read(file)))
    except tomllib.TOMLDecodeError:
        return False


def files_of(path: Path) -> list[Path]:
    """
    The files of a network: the file itself; of a directory all `*.toml` by their names, but lock files and hidden ones.

    Raises:
        UsageError: the directory has none, or cannot be read.
    """
    if not path.is_dir():
        return [path]
    try:
        names = sorted(each.name for each in path.iterdir() if not each.is_fifo())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    found = [path / name for name in names if name.endswith(".toml") and not name.endswith(".lock.toml") and name[0] != "."]
    if not found:
        raise UsageError(f"{path}: a directory without a network file\n  hint: `ginnel init {path}/network.toml` writes one")
    if len(found) > MAX_FILES or sum(map(_size, found)) > MAX_FILE_BYTES:
        raise UsageError(f"{path}: expected at most {MAX_FILES} network files, and {MAX_FILE_BYTES >> 20} MiB of them together")
    return found


def _size(file: Path) -> int:
    """As far as it can be known; who reads the file says why it cannot."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def lock_of(path: Path) -> Path:
    """
    The lock file beside a network file, or of a directory with several: `network.lock.toml`.

    Where the directory has another one, and no other but that, it is that: a file to which a second one was added keeps its pins.
    """
    if not path.is_dir():
        return path.with_name(f"{path.stem}.lock.toml")
    usual = path / "network.lock.toml"
    there = sorted(each for each in path.glob("*.lock.toml") if each.name[0] != ".")
    return there[0] if len(there) == 1 else usual


def read(file: Path) -> str:
    """Its text with its own line ends, as much of it as any file of ours has; UsageError when that cannot be had."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: expected UTF-8 text") from None


def split_file(arguments: Sequence[str], needed: int, words: str) -> tuple[Path | None, list[str]]:
    """
    `[FILE] a b` taken apart: the file or None, and the *needed* others.

    Raises:
        UsageError: neither *needed* nor one more; *words* says what was expected.
    """
    if len(arguments) == needed + 1:
        return Path(arguments[0]), list(arguments[1:])
    if len(arguments) == needed:
        return None, list(arguments)
    raise UsageError(f"expected {words}, found {len(arguments)} words")
