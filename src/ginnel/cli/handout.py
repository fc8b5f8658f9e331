"""
A directory of rendered files: written so that nobody else reads a secret, and only where something changed.

    DIR/NODE/...      what is to go to NODE
    DIR/MANIFEST      `sha256sum -c` reads it: what was written here, and thereby what is no longer rendered

Rules. A file is written beside its place and renamed into it; one with secrets is 0600 before its bytes are in. Nothing is
written or removed through a symbolic link: below DIR every step is opened without following any. A file that is the same stays
as it is, with its time. What no node has any more is named, and removed only when that was asked for; what is not in MANIFEST
was not written here, and is never touched.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from ginnel.errors import GinnelError
from ginnel.network.render import File

MANIFEST = "MANIFEST"
#: 10,000 nodes with ten files each have 10 MB.
MANIFEST_MAX_BYTES = 1 << 26
_LINE = re.compile(r"([0-9a-f]{64})  (.{1,4096})")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

State = Literal["new", "changed", "same"]


class Handout:
    """The directory, open; use it as a context."""

    def __init__(self, directory: Path) -> None:
        """GinnelError when it cannot be made or opened; that DIR itself is a link is its owner's business."""
        self.directory = directory
        try:
            directory.mkdir(0o755, parents=True, exist_ok=True)
            self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise GinnelError(f"{directory}: {error.strerror}") from None
        self._before: dict[str, str] = {}
        self._now: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    # ------------------------------------------------------------ files

    def put(self, path: str, file: File) -> State:
        """
        Write a file at *path* below the directory, unless it is there already.

        Raises:
            GinnelError: the path leads out of the directory or through a link, or it cannot be written.
        """
        parts = _parts(path)
        self._now[path] = hashlib.sha256(file.content).hexdigest()
        alone = file.secret or file.private
        mode = (0o600 if alone else 0o644) | ((0o100 if alone else 0o111) if file.executable else 0)
        with self._opened(parts[:-1], make=True) as place:
            try:
                return _put(place, parts[-1], file, mode)
            except OSError as error:
                raise self._failed(path, error) from None

    def read_manifest(self) -> None:
        """What was written here before; GinnelError when MANIFEST is not one."""
        try:
            descriptor = os.open(MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._root)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._failed(MANIFEST, error) from None
        with os.fdopen(descriptor, "rb") as stream:
            text = stream.read(MANIFEST_MAX_BYTES).decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            match = _LINE.fullmatch(line)
            if match is None or not _is_path(match[2]):
                raise GinnelError(
                    f"{self.directory / MANIFEST}:{number}: expected a checksum and a path, as `sha256sum` writes them\n"
                    f"  hint: remove {MANIFEST}: it is written anew, and nothing is taken for stale"
                )
            self._before[match[2]] = match[1]

    def stale(self) -> list[str]:
        """What was written here before, is still there, and was not written this time."""
        return sorted(path for path in self._before if path not in self._now and self._is_there(path))

    def keep(self, path: str) -> None:
        """What was written before and could not be rendered now is not stale."""
        self._now.update({each: digest for each, digest in self._before.items() if each.startswith(path)})

    def remove(self, path: str) -> None:
        """A stale file, and its directory when that is empty then."""
        parts = _parts(path)
        with self._opened(parts[:-1]) as place:
            try:
                os.unlink(parts[-1], dir_fd=place)
            except OSError as error:
                raise self._failed(path, error) from None
        self._before.pop(path, None)
        while parts := parts[:-1]:
            with self._opened(parts[:-1]) as place:
                try:
                    os.rmdir(parts[-1], dir_fd=place)
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                        return
                    raise self._failed("/".join(parts), error) from None

    def write_manifest(self) -> None:
        """What is here now: what was written, and what is stale and stayed."""
        lines = {**{path: self._before[path] for path in self.stale()}, **self._now}
        text = "".join(f"{digest}  {path}\n" for path, digest in sorted(lines.items()))
        try:
            _put(self._root, MANIFEST, File(MANIFEST, text.encode()), 0o644)
        except OSError as error:
            raise self._failed(MANIFEST, error) from None

    # ------------------------------------------------------------ steps

    @contextlib.contextmanager
    def _opened(self, parts: list[str], *, make: bool = False) -> Iterator[int]:
        """The directory at *parts* below ours, each step a directory and no link."""
        place = os.dup(self._root)
        try:
            for depth, part in enumerate(parts):
                try:
                    if make:
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(part, 0o755, dir_fd=place)
                    further = os.open(part, _DIRECTORY, dir_fd=place)
                except OSError as error:
                    raise self._failed("/".join(parts[: depth + 1]), error) from None
                os.close(place)
                place = further
            yield place
        finally:
            os.close(place)

    def _is_there(self, path: str) -> bool:
        parts = _parts(path)
        try:
            with self._opened(parts[:-1]) as place:
                return stat.S_ISREG(os.stat(parts[-1], dir_fd=place, follow_symlinks=False).st_mode)
        except (GinnelError, OSError):
            return False

    def _failed(self, path: str, error: OSError) -> GinnelError:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return GinnelError(f"{self.directory / path}: a symbolic link or no directory; nothing is written through one")
        return GinnelError(f"{self.directory / path}: {error.strerror}")


def _put(place: int, name: str, file: File, mode: int) -> State:
    """The file, in an open directory; OSError."""
    there = _content(place, name, len(file.content))
    if there is not None:
        content, there_mode = there
        # Only what matters of the mode: whether others may read secrets, and whether it can be run.
        if content == file.content and (there_mode & 0o100) == (mode & 0o100) and not (there_mode & 0o077 & ~mode):
            return "same"
    temporary = f".{name}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=place)  # of one who was killed and had our number
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=place)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            # Not waited for: what is lost when the machine stops just now is rendered again, and then found to differ.
            stream.write(file.content)
        os.replace(temporary, name, src_dir_fd=place, dst_dir_fd=place)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=place)
        raise
    return "new" if there is None else "changed"


def _content(place: int, name: str, size: int) -> tuple[bytes, int] | None:
    """What is there now, up to a byte more than *size*, and its mode; None: nothing. OSError: a link, or unreadable."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EEXIST, "expected a file, found something else")
        return stream.read(size + 1), status.st_mode


def _is_path(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and "/".join(parts) == path and ".." not in parts and parts[0] != "/" and path.isprintable()


def _parts(path: str) -> list[str]:
    if not _is_path(path):
        raise GinnelError(f"{path!r}: expected a path below the directory")
    return path.split("/")
