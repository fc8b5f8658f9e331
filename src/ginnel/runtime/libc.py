"""
The few calls of libc that Python's standard library lacks, each one function, each raising OSError.

prctl, mallopt and inotify are in no Python.
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_DUMPABLE = 4
M_ARENA_MAX = -8
IN_CLOEXEC = os.O_CLOEXEC
IN_NONBLOCK = os.O_NONBLOCK
IN_ATTRIB = 0x0000_0004
IN_DELETE_SELF = 0x0000_0400
IN_MOVE_SELF = 0x0000_0800


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def forbid_dumps() -> None:
    """No core file, no ptrace and no /proc/PID/mem for others of the same user: keys live in this memory."""
    _checked(_libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl PR_SET_DUMPABLE")


def one_malloc_arena() -> None:
    """One arena for all threads: the engine's allocate nothing per packet, and each arena would cost memory. Best effort."""
    _libc.mallopt(M_ARENA_MAX, 1)


def inotify_open() -> int:
    """A non-blocking inotify descriptor."""
    return _checked(_libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK), "inotify_init1")


def inotify_watch(fd: int, path: str, mask: int) -> int:
    """Watch *path* for *mask*; returns the watch's number."""
    return _checked(_libc.inotify_add_watch(fd, os.fsencode(path), ctypes.c_uint32(mask)), f"inotify_add_watch {path}")
