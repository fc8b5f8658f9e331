"""
From what stands on the command line to a checked file.

NAME is /etc/wireguard/NAME.conf where that is, else /etc/ginnel/NAME.toml; anything else is a path, of a wg-quick file
(`.conf`) or of a node file (`.toml`, which needs no slash before it). What is up is known by its record: `down NAME` finds the
file it came from.

Also who may read it: a warning names the mode when others can read the keys.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ginnel.cli import ui
from ginnel.config import nodefile, wgquick
from ginnel.config.node import NodeConfig
from ginnel.errors import GinnelError

CONFIG_DIR = Path("/etc/wireguard")
NODE_DIR = Path("/etc/ginnel")
#: A file of 100,000 peers is 20 MB.
SIZE_MAX_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file as it was found: its interface (or node), its path without symbolic links, its text."""

    name: str
    path: Path
    text: str

    @property
    def is_node(self) -> bool:
        """Whether it is a node file, not a wg-quick file."""
        return self.path.suffix == ".toml"


def find(argument: str) -> tuple[str, Path]:
    """
    The interface (or node) and the path that *argument* means; the file need not exist.

    Raises:
        GinnelError: the file's name is not that of an interface.
    """
    if nodefile.is_node_name(argument) and not argument.endswith(".toml"):
        quick = CONFIG_DIR / f"{argument}.conf"
        node = NODE_DIR / f"{argument}.toml"
        return argument, quick if _is_there(quick) or (wgquick.is_interface_name(argument) and not _is_there(node)) else node
    if argument.endswith(".toml"):
        node_name = nodefile.node_name(argument)
        if node_name is None:
            hint = "at most 64 of a-z A-Z 0-9 _ = + . -, as in edge.toml"
            raise GinnelError(f"{ui.printable(argument)}: a node file is called NAME.toml\n  hint: {hint}")
        return node_name, Path(argument)
    name = wgquick.interface_name(argument)
    if name is None:
        raise GinnelError(
            f"{ui.printable(argument)}: the file's name must be that of the interface, then .conf\n"
            "  hint: at most 15 of a-z A-Z 0-9 _ = + . -, as in wg0.conf"
        )
    return name, Path(argument)


def _is_there(path: Path) -> bool:
    """Whether a file exists; where that may not be known it may, and reading it says so."""
    try:
        return path.exists()
    except PermissionError:
        return True


def load(argument: str) -> Loaded:
    """Read the file that *argument* means; GinnelError when that cannot be done."""
    name, path = find(argument)
    try:
        path = path.resolve(strict=True)
        with path.open("rb") as file:
            raw = file.read(SIZE_MAX_BYTES + 1)
    except FileNotFoundError:
        other = NODE_DIR / f"{name}.toml"
        where = f"neither {path} nor {other} exists" if path == CONFIG_DIR / f"{name}.conf" else f"{path} does not exist"
        raise GinnelError(f"{where}{_nearby(argument)}") from None
    except PermissionError:
        raise GinnelError(f"{path}: permission denied\n  hint: this needs root: try `sudo`") from None
    except IsADirectoryError:
        raise GinnelError(f"{path}: expected a file, found a directory{_inside(path)}") from None
    except OSError as error:
        raise GinnelError(f"{path}: {error.strerror}") from None
    except RuntimeError:  # what pathlib makes of ELOOP
        raise GinnelError(f"{path}: expected a file, found symbolic links that lead to themselves") from None
    if len(raw) > SIZE_MAX_BYTES:
        raise GinnelError(f"{path}: expected a file of at most {SIZE_MAX_BYTES >> 20} MiB")
    return Loaded(name, path, raw.decode("utf-8", "surrogateescape"))


def load_quick(argument: str) -> Loaded:
    """The same for what only wg-quick files have."""
    loaded = load(argument)
    if loaded.is_node:
        raise GinnelError(f"{loaded.path} is a node file, and this is for wg-quick files\n  hint: a node file is written by hand")
    return loaded


def _inside(directory: Path) -> str:
    """The files that may have been meant."""
    with contextlib.suppress(OSError):
        names = sorted(path.name for path in directory.iterdir() if path.suffix in {".toml", ".conf"} and path.is_file())
        if names:
            return f"\n  hint: it has {', '.join(ui.printable(name) for name in names[:10])}"
    return ""


def _nearby(argument: str) -> str:
    if Path(f"{argument}.toml").is_file():
        return f"\n  hint: for the file here: ./{argument}.toml"
    if Path(f"{argument}.conf").is_file():
        return f"\n  hint: for the file here: ./{argument}.conf"
    if argument.endswith(".conf") and Path(argument).is_file():
        return f"\n  hint: for the file here: ./{argument}"
    found = []
    for directory, ending in ((CONFIG_DIR, ".conf"), (NODE_DIR, ".toml")):
        try:
            names = sorted(path.stem for path in directory.glob(f"*{ending}"))
        except OSError:
            names = []
        if names:
            found.append(f"{directory} has {', '.join(names[:10])}")
    return f"\n  hint: {'; '.join(found)}" if found else ""


def check_node(loaded: Loaded) -> NodeConfig:
    """The node file's meaning. ConfigError has all of its mistakes."""
    return nodefile.parse(loaded.text, str(loaded.path), loaded.name)


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
        # A file that somebody else made there, and perhaps has open, is not what the secret goes into.
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise GinnelError(f"write {path}: {error.strerror}") from None
