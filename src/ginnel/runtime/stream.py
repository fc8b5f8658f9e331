"""
A unix socket with sessions: what the UAPI and the control socket have in common.

A session is a generator of answers: `receive(data)` yields pieces of bytes, made only when the reader has taken the previous
one. So a reader that stops reading holds one piece and one socket buffer, however long the whole answer, and one that sends
without reading is not read from until it does. Each turn of the loop makes one piece or reads one buffer for each connection:
handshakes are served in between.

Bounds: `CONNECTIONS` at once (a further one waits in the kernel's backlog), `READ_BYTES` a turn.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterator
from typing import Protocol

from ginnel.errors import KernelError, UsageError

#: One turn's reading: about 250 peers of a `set`, some 10 ms of work.
READ_BYTES = 32_768
#: Both sockets serve an administrator's commands, some of which poll.
CONNECTIONS = 64
BACKLOG = 128
#: Out of descriptors or memory: the backlog keeps who waits, and it is looked at again after this.
ACCEPT_AGAIN_S = 1.0
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Session(Protocol):
    """What is said on one connection."""

    def receive(self, data: bytes) -> Iterator[bytes]:
        """Take *data* (empty: the stream ended) and make the answer piece by piece."""

    @property
    def finished(self) -> bool:
        """True once the connection is to be closed when the answer is out."""


class Connection:
    """One accepted socket and its session."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, session: Session, closed: Callable[[Connection], None]
    ) -> None:
        self._loop, self._sock, self._session, self._closed = loop, sock, session, closed
        self._answer: Iterator[bytes] | None = None
        self._piece = memoryview(b"")
        self._ended = False
        loop.add_reader(sock, self._readable)

    def close(self) -> None:
        """Close at once; idempotent."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
            self._closed(self)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._ended = not data
        self._answer = self._session.receive(data)
        self._loop.remove_reader(self._sock)
        self._loop.add_writer(self._sock, self._writable)
        self._writable()

    def _writable(self) -> None:
        """Make one piece, or send what is left of one; back to reading when the answer is out."""
        if not self._piece and self._answer is not None:
            try:
                piece = next(self._answer, None)
            except Exception:
                self.close()  # a mistake of ours: the loop's exception handler tells of it
                raise
            if piece is None:
                self._answer = None
            else:
                self._piece = memoryview(piece)
        if self._piece:
            try:
                self._piece = self._piece[self._sock.send(self._piece) :]
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
        if self._answer is None and not self._piece:
            if self._ended or self._session.finished:
                self.close()
                return
            self._loop.remove_writer(self._sock)
            self._loop.add_reader(self._sock, self._readable)


class Listener:
    """A listening unix socket and its connections."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, session: Callable[[socket.socket], Session | None]
    ) -> None:
        """
        Args:
            sock: bound and listening.
            session: makes the session of an accepted socket; None refuses it.
        """
        self._loop, self._sock, self._session = loop, sock, session
        self._connections: set[Connection] = set()
        self._accepting = False
        self._again: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        self._accept_more()

    def close(self) -> None:
        """Close all connections and the socket; the file is the caller's."""
        if self._again is not None:
            self._again.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()
        for connection in list(self._connections):
            connection.close()

    def _accept_more(self) -> None:
        if not self._accepting and self._sock.fileno() >= 0:
            self._accepting = True
            self._loop.add_reader(self._sock, self._acceptable)

    def _acceptable(self) -> None:
        try:
            accepted, _ = self._sock.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:  # it stays readable: to go on trying would take the whole core
                self._pause()
                self._again = self._loop.call_later(ACCEPT_AGAIN_S, self._accept_more)
            return
        accepted.setblocking(False)
        session = self._session(accepted)
        if session is None:
            accepted.close()
            return
        self._connections.add(Connection(self._loop, accepted, session, self._forget))
        if len(self._connections) >= CONNECTIONS:
            self._pause()

    def _pause(self) -> None:
        self._accepting = False
        self._loop.remove_reader(self._sock)

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._accept_more()


def bind(path: str, *, what: str) -> socket.socket:
    """
    A listening socket at *path*, mode 0600, in a directory of mode 0755 that is made when it is missing.

    A socket file that nobody answers on is what a killed process left behind: it is replaced. One that is answered on is
    refused.

    Raises:
        UsageError: somebody serves *path*.
        KernelError: the directory or the socket cannot be made.
    """
    directory = os.path.dirname(path)
    try:
        if not os.path.isdir(directory):
            os.makedirs(directory, exist_ok=True)
            os.chmod(directory, 0o755)  # noqa: S103 - whatever the umask is; `wg` of others lists it
        _check_directory(directory)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        old_umask = os.umask(0o077)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two that find a stale file at once, one must not remove the other's new one
            return _bound(path, what)
        finally:
            os.umask(old_umask)
            os.close(lock)
    except OSError as error:
        raise KernelError(f"bind {path}", error.errno or 0, _hint(error.errno)) from None


def _hint(number: int | None) -> str:
    match number:
        case errno.EACCES | errno.EPERM:
            return "it takes root"
        case errno.EROFS | errno.ENOSPC:
            return "the directory must be writable and have room: is /run a tmpfs?"
        case _:
            return ""


def identity(path: str) -> tuple[int, int] | None:
    """
    Which file *path* names now (device and inode), None for none.

    While its socket is bound the inode lives, so nobody else's file has this number.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remove(path: str, ours: tuple[int, int] | None) -> None:
    """Remove the socket file that we bound, and only that: when somebody took the name since, it is theirs."""
    if ours is not None and identity(path) == ours:
        os.unlink(path)


def _check_directory(directory: str) -> None:
    status = os.stat(directory)
    strangers = stat.S_IWOTH if status.st_gid in (0, os.getegid()) else stat.S_IWOTH | stat.S_IWGRP
    writable = status.st_mode & strangers and not status.st_mode & stat.S_ISVTX
    if status.st_uid not in (0, os.geteuid()) or writable:
        raise UsageError(
            f"{directory}: expected a directory of root's that others cannot write, found uid {status.st_uid}, "
            f"gid {status.st_gid}, mode {stat.S_IMODE(status.st_mode):04o}\n"
            f"  hint: chown root {directory} && chmod 0755 {directory}"
        )


def _bound(path: str, what: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if _answered(path):
            raise UsageError(f"{path}: unix socket in use\n  hint: {what} runs already; end it first")
        if os.path.lexists(path):
            os.unlink(path)
        sock.bind(path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _answered(path: str) -> bool:
    """Does a process accept connections at *path*? A full backlog is an answer too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True
