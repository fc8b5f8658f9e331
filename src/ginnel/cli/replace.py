"""
Files that people keep, changed as a whole or not at all.

A new text has the old file's mode and owner, is on disk before it has the name, and goes where a symbolic link points. What
somebody else wrote in the meantime is not overwritten. `difference` is what `--dry-run` shows.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from ginnel.cli import ui
from ginnel.errors import GinnelError


def replace_texts(new: Mapping[str, str], old: Mapping[str, str]) -> None:
    """
    Give each file its new text.

    Args:
        new, old: texts by path; *old* is what the new one was made from.

    Raises:
        GinnelError: a file is not what it was, or cannot be written; files before it in the order are changed then.
    """
    for path in new:
        if Path(path).read_bytes() != old[path].encode():
            raise GinnelError(f"{path}: somebody else changed it just now; nothing was written")
    for path, text in new.items():
        try:
            _replace(Path(path).resolve(strict=True), text)
        except OSError as error:
            raise GinnelError(f"{path}: {error.strerror}") from None


def _replace(path: Path, text: str) -> None:
    before = path.stat()
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with contextlib.suppress(PermissionError):  # only root gives files away
                os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            file.write(text.encode())
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def write_over(path: Path, text: str, *, settled: bool = False) -> None:
    """
    Give a file of ours, there or not, a new text as a whole; OSError.

    What lies where the text is put together first is never followed nor written into; a device or a pipe is not replaced by a
    file. settled: on disk before it has the name.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "not an ordinary file")
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)  # of one who was killed and had our number
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if settled:
                os.fsync(descriptor)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def write_new(path: Path, text: str) -> None:
    """Make a file that was not there; GinnelError when it was, or when it cannot be made."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise GinnelError(f"{path}: exists already, and is not overwritten") from None
    except OSError as error:
        raise GinnelError(f"{path}: {error.strerror}") from None


def difference(new: Mapping[str, str], old: Mapping[str, str], *, colour: bool) -> str:
    """What changes, as `diff -u` shows it."""
    lines: list[str] = []
    for path, text in new.items():
        before, after = old[path].splitlines(), text.splitlines()
        name = ui.printable(path)
        for line in difflib.unified_diff(before, after, name, name, n=2, lineterm=""):
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
            shown = ui.printable(line.replace("\t", "    "))
            lines.append(ui.paint(shown, style, on=colour) if style else shown)
    return "\n".join(lines) + "\n" if lines else ""
