"""
How the process begins: detached or not, telling its starter when it is usable, and keeping what it knows to itself.

Detaching is one fork before anything is made (the engine refuses to be used across one): the child leads a session of its own
with its standard streams on /dev/null, the parent waits on a pipe for one line and returns what it says. Whoever started the
parent reaps it; the child belongs to init: no zombie on either side. When the child dies without a word, the pipe ends and the
parent says so.

    "ready\n"              both sockets and the device are usable now
    "error: text\n..."     they will never be; text is for a person
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import sys
from collections.abc import Callable

from ginnel.runtime import journal, libc
from ginnel.runtime.journal import Journal
from ginnel.watch.log import Level

READY = "ready\n"
#: An error message is cut here; a pipe takes it in one write.
REPORT_LIMIT_BYTES = 4_000


def harden() -> None:
    """No core dumps, no ptrace, files for the owner only. Keys live in this memory."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc.forbid_dumps()


def slim() -> None:
    """Before threads start: one malloc arena."""
    libc.one_malloc_arena()


def settle() -> None:
    """
    After start: what was imported is never looked at again by the collector, and it runs rarely.

    The machines hold no reference cycles; a collection over ten thousand peers would stop handshakes for 20 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


class Readiness:
    """The one line to whoever started us, once: on a descriptor if there is one; failures on stderr, too."""

    def __init__(self, fd: int | None, *, echo: bool = True) -> None:
        """
        Args:
            fd: where the line goes; closed after it.
            echo: write failures to stderr as well; not in a child whose parent does.
        """
        self._fd, self._echo = fd, echo

    def ready(self) -> None:
        """Device and sockets are usable."""
        self._say(READY)

    def failed(self, message: str) -> None:
        """The process will not become usable; *message* is for a person."""
        self._say(f"error: {message}\n")
        if self._echo:
            sys.stderr.write(f"{message}\n")

    def close(self) -> None:
        """Say nothing (any more)."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _say(self, text: str) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):  # the starter went away: nobody to tell
                os.write(self._fd, text.encode()[:REPORT_LIMIT_BYTES])
            self.close()


def wait_for_report(fd: int) -> str | None:
    """
    Read what a child says of its start; None when it is ready, else what to tell a person.

    Does not wait for ever: a child that dies closes the pipe.
    """
    said = b""
    while data := os.read(fd, REPORT_LIMIT_BYTES):
        said += data
    text = said.decode("utf-8", "replace")
    if text == READY:
        return None
    return text.removeprefix("error: ").rstrip("\n") or "the process ended before it was ready, without a word"


def detach(starter: Readiness, *, keep_stderr: bool) -> Readiness | int:
    """
    Fork: in the child returns its own `Readiness`; in the parent, once the child has said how it is, the exit code to end with.

    Args:
        starter: told by the parent what the child said.
        keep_stderr: the child goes on writing to its starter's stdout and stderr (LOG_LEVEL was given), as wireguard-go's does.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(writing)
        failure = wait_for_report(reading)
        os.close(reading)
        if failure is not None:
            starter.failed(failure)
            return 1
        starter.ready()
        return 0
    os.close(reading)
    starter.close()
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0,) if keep_stderr else (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    return Readiness(writing, echo=False)


def start(serve: Callable[[Journal, Readiness], int], *, foreground: bool, starter: Readiness) -> int:
    """Serve here, or in a process of its own and return when that is usable; the exit code."""
    level = journal.level_of(os.environ.get("LOG_LEVEL"))
    if foreground:
        return serve(Journal(level, journal.to_stderr()), starter)
    keep_stderr = bool(os.environ.get("LOG_LEVEL")) and level != Level.SILENT
    ready = detach(starter, keep_stderr=keep_stderr)
    if isinstance(ready, int):
        return ready
    write = journal.to_stderr() if keep_stderr else journal.to_syslog("ginnel") or journal.nowhere
    return serve(Journal(level, write), ready)
