"""
What every command about a whole network begins with: its file, checked, and its lock file beside it.

The file comes first on the command line; none is `./network.toml`, and a directory is the network.toml in it or all files
`*.toml` of it.
Commands that only look allocate in memory; those that hand something out (`render`, `lab`, `keys`, `node add`) pin it first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ginnel.cli import ui
from ginnel.errors import GinnelError, UsageError
from ginnel.network import Compilation, Lock, Network, allocate, parse_lock, parse_network, render_lock

DEFAULT = Path("network.toml")


@dataclass(frozen=True, slots=True)
class Opened:
    """A network as its files have it. *pinned*: the lock file's text as it is, None where there is none."""

    file: Path
    network: Network
    lock: Lock
    lock_file: Path
    pinned: str | None

    def compiled(self) -> Compilation:
        """Its hosts; public keys as far as they are pinned."""
        return Compilation(self.network, self.lock)

    def pin(self, *, must: bool = False) -> None:
        """Keep what was allocated beside the file; where that cannot be written a warning says so, or (must) a GinnelError."""
        text = render_lock(self.lock)
        if text == self.pinned:
            return
        temporary = self.lock_file.with_name(f".{self.lock_file.name}.{os.getpid()}")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.rename(self.lock_file)
        except OSError as error:
            if must:
                raise GinnelError(f"{self.lock_file}: {error.strerror}: nothing is pinned") from None
            ui.warn(f"{self.lock_file}: {error.strerror}: addresses are not pinned")
        finally:
            temporary.unlink(missing_ok=True)


def open_network(file: Path | None) -> Opened:
    """
    Read the network file, and the lock file beside it.

    Raises:
        ConfigError: every mistake in it.
        UsageError: it cannot be read.
    """
    path = find(file)
    network = parse_network(read(path), str(path))
    lock_file = path.with_name(f"{path.stem}.lock.toml")
    pinned = read(lock_file) if lock_file.exists() else None
    lock = allocate(network, parse_lock(pinned, str(lock_file)) if pinned is not None else Lock())
    return Opened(path, network, lock, lock_file, pinned)


def find(file: Path | None) -> Path:
    """The file that is meant."""
    if file is None:
        if not DEFAULT.exists():
            raise UsageError("no FILE given, and there is no network.toml here\n  hint: `ginnel init` writes one to begin with")
        return DEFAULT
    return file / "network.toml" if file.is_dir() else file


def read(file: Path) -> str:
    """Its text; UsageError when that cannot be had."""
    try:
        return file.read_text(encoding="utf-8")
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
