"""
Where log lines go: `event key=value ...`, one line each, as `ginnel.watch.log` names them.

In the foreground to stderr, where systemd and people read them. Detached, to the host's log by its datagram socket (/dev/log:
journald or syslogd) where there is one; a detached process with neither is silent, as wireguard-go is. Writing never blocks the
loop and never fails it: a full socket loses the line and counts it.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable

from ginnel.watch.log import EVENTS, LEVELS, Level, render

#: A line is cut here: the longest honest one names a file and an errno.
LINE_LIMIT_CHARACTERS = 1_000
#: syslog's facility daemon (3), and its severities for our levels.
_SEVERITY = {Level.DEBUG: 7, Level.INFO: 6, Level.WARN: 4, Level.ERROR: 3}


class Journal:
    """Filters by level and writes; `journal("link_up", interface="wg0")`."""

    def __init__(self, level: Level, write: Callable[[Level, str], None]) -> None:
        self.level = level
        self._write = write
        #: Lines that could not be written.
        self.lost = 0

    def __call__(self, event: str, **fields: object) -> None:
        """Log *event*; a KeyError when it is not in the table of events."""
        level = EVENTS[event][0]
        if level < self.level:
            return
        try:
            self._write(level, render(event, fields)[:LINE_LIMIT_CHARACTERS])
        except OSError:
            self.lost += 1

    @property
    def debugging(self) -> bool:
        """DEBUG lines are wanted; hot paths ask before they gather fields."""
        return self.level <= Level.DEBUG


def level_of(text: str | None) -> Level:
    """The level LOG_LEVEL names; INFO without one, and for a name that nobody knows."""
    return LEVELS.get((text or "").strip().lower(), Level.INFO)


def to_stderr(fd: int = 2) -> Callable[[Level, str], None]:
    """
    A writer of whole lines to a descriptor; with systemd's <N> priority prefix when stderr is the journal.

    The descriptor is shared with whoever started us, so it is not made non-blocking: it is asked whether it takes a line. A pipe
    that says so has room for 4 KiB, which is what the longest line can take.
    """
    prefixed = "JOURNAL_STREAM" in os.environ
    room = select.poll()
    room.register(fd, select.POLLOUT)

    def write(level: Level, line: str) -> None:
        if not room.poll(0):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        os.write(fd, f"<{_SEVERITY[level]}>{line}\n".encode() if prefixed else f"{line}\n".encode())

    return write


class Syslog:
    """A writer to the host's log, which may be restarted: each line is sent to whoever has the path then."""

    def __init__(self, tag: str, sender: socket.socket, path: str) -> None:
        self._prefix, self._sender, self._path = f"{tag}[{os.getpid()}]", sender, path

    def __call__(self, level: Level, line: str) -> None:
        """One datagram, as RFC 3164 has them."""
        self._sender.sendto(f"<{3 << 3 | _SEVERITY[level]}>{self._prefix}: {line}".encode(), self._path)

    def close(self) -> None:
        """Write no more."""
        self._sender.close()


def to_syslog(tag: str, path: str = "/dev/log") -> Syslog | None:
    """A writer to the host's log, or None where there is none."""
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_UNIX, kind) as probe:
        try:
            probe.connect(path)
        except OSError:
            return None
    return Syslog(tag, socket.socket(socket.AF_UNIX, kind), path)


def nowhere(level: Level, line: str) -> None:
    """The writer of a detached process on a host without a log."""
