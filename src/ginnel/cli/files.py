"""
From what stands on the command line to a checked file: NAME is /etc/wireguard/NAME.conf, anything else is a path.

Also who may read it: a warning names the mode when others can read the keys.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ginnel.cli import ui
from ginnel.config import wgquick
from ginnel.errors import GinnelError

CONFIG_DIR = Path("/etc/wireguard")
#: A file of 100,000 peers is 20 MB.
SIZE_MAX_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file as it was found: its interface, its path without symbolic links, its text."""

    name: str
    path: Path
    text: str


def find(argument: str) -> tuple[str, Path]:
    """
    The interface and the path that *argument* means; the file need not exist.

    Raises:
        GinnelError: the file's name is not that of an interface.
    """
    if wgquick.NAME_PATTERN.fullmatch(argument):
        return argument, CONFIG_DIR / f"{argument}.conf"
    name = wgquick.interface_name(argument)
    if name is None:
        raise GinnelError(
            f"{ui.printable(argument)}: the file's name must be that of the interface, then .conf\n"
            "  hint: at most 15 of a-z A-Z 0-9 _ = + . -, as in wg0.conf"
        )
    return name, Path(argument)


def load(argument: str) -> Loaded:
    """Read the file that *argument* means; GinnelError when that cannot be done."""
    name, path = find(argument)
    try:
        path = path.resolve(strict=True)
        with path.open("rb") as file:
            raw = file.read(SIZE_MAX_BYTES + 1)
    except FileNotFoundError:
        raise GinnelError(f"{path} does not exist{_nearby(argument)}") from None
    except PermissionError:
        raise GinnelError(f"{path}: permission denied\n  hint: this needs root: try `sudo`") from None
    except OSError as error:
        raise GinnelError(f"{path}: {error.strerror}") from None
    if len(raw) > SIZE_MAX_BYTES:
        raise GinnelError(f"{path}: expected a file of at most {SIZE_MAX_BYTES >> 20} MiB")
    return Loaded(name, path, raw.decode("utf-8", "surrogateescape"))


def _nearby(argument: str) -> str:
    if Path(f"{argument}.conf").is_file():
        return f"\n  hint: for the file here: ./{argument}.conf"
    if argument.endswith(".conf") and Path(argument).is_file():
        return f"\n  hint: for the file here: ./{argument}"
    if CONFIG_DIR.is_dir():
        try:
            names = sorted(path.stem for path in CONFIG_DIR.glob("*.conf"))
        except OSError:
            names = []
        if names:
            return f"\n  hint: {CONFIG_DIR} has {', '.join(names[:10])}"
    return ""


def check(loaded: Loaded) -> wgquick.WgQuickFile:
    """The file's meaning; its warnings go to stderr. ConfigError has all of its mistakes."""
    file = wgquick.parse(loaded.text, str(loaded.path))
    for text in file.warnings:
        ui.warn(text)
    if file.interface.private_key is not None or any(peer.preshared_key is not None for peer in file.peers):
        _warn_of_readers(loaded.path)
    return file


def _warn_of_readers(path: Path) -> None:
    """wg-quick's rule, for the group as well: both the file and its directory let others in."""
    mode, directory = path.stat().st_mode, path.parent.stat().st_mode
    if mode & directory & 0o077:
        ui.warn(f"{path} holds keys and others can read it: its mode is {stat.S_IMODE(mode):04o}; chmod 600 {path}")


def write_secret(path: Path, text: str) -> None:
    """Replace *path* as a whole, readable by its owner alone, on disk before it has the name."""
    fresh = path.with_name(path.name + ".tmp")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise GinnelError(f"write {path}: {error.strerror}") from None
