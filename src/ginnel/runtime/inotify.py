"""
Tells when a file that we own is no longer where we put it.

`wg` and `wg-quick` end a user-space implementation by removing its socket file. The inode lives on while the socket is bound,
so its removal shows as a change of attributes (the link count), never as IN_DELETE_SELF alone; what counts is the path, looked
at anew.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from ginnel.runtime import libc
from ginnel.runtime.stream import identity


class FileWatch:
    """Calls *gone* once when *path* no longer names our file, even if that happened before the watch began."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, path: str, ours: tuple[int, int] | None, gone: Callable[[], None]
    ) -> None:
        """
        Args:
            ours: the file's `stream.identity` when it was made.
            gone: called from the loop.
        """
        self._loop, self._path, self._ours, self._gone = loop, path, ours, gone
        self._fd = libc.inotify_open()
        try:
            libc.inotify_watch(self._fd, path, libc.IN_ATTRIB | libc.IN_DELETE_SELF | libc.IN_MOVE_SELF)
        except FileNotFoundError:
            pass  # told in a moment
        loop.add_reader(self._fd, self._readable)
        loop.call_soon(self._look)

    @property
    def intact(self) -> bool:
        """The path still names our file."""
        return self._ours is not None and identity(self._path) == self._ours

    def close(self) -> None:
        """Stop watching; idempotent."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        try:
            os.read(self._fd, 4096)
        except BlockingIOError:
            return
        self._look()

    def _look(self) -> None:
        if self._fd >= 0 and not self.intact:
            self.close()
            self._gone()
