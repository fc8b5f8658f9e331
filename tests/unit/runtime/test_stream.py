"""A unix socket with sessions: bounded while nobody reads, fair, and the mending of what a killed process left."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ginnel.errors import UsageError
from ginnel.runtime import stream


class Echo:
    """Answers each piece of data with many pieces, and counts how many it was asked for."""

    def __init__(self, pieces: int) -> None:
        self.pieces, self.made, self.finished = pieces, 0, False

    def receive(self, data: bytes) -> Iterator[bytes]:
        if data == b"bye":
            self.finished = True
            yield b"bye"
            return
        if data:
            for _ in range(self.pieces):
                self.made += 1
                yield b"x" * 65_536


def test_pieces_are_made_only_as_fast_as_they_are_read(tmp_path: Path) -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        session = Echo(1000)
        listener = stream.Listener(loop, stream.bind(str(tmp_path / "s"), what="it"), lambda _: session)
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / "s"))
        client.sendall(b"go")
        for _ in range(200):  # turns of the loop: as many as it would take to make a fifth of them
            await asyncio.sleep(0)
        assert 0 < session.made < 20, "a socket's buffer holds a few"
        client.setblocking(False)
        received = 0
        while received < 1000 * 65_536:
            received += len(await loop.sock_recv(client, 1 << 20))
        assert session.made == 1000
        await loop.sock_sendall(client, b"bye")
        assert await loop.sock_recv(client, 10) == b"bye"
        assert await loop.sock_recv(client, 10) == b"", "closed when finished"
        client.close()
        listener.close()

    asyncio.run(scene())


def test_others_are_served_while_one_does_not_read(tmp_path: Path) -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        listener = stream.Listener(loop, stream.bind(str(tmp_path / "s"), what="it"), lambda _: Echo(3))
        lazy = [socket.socket(socket.AF_UNIX) for _ in range(10)]
        for client in lazy:
            client.connect(str(tmp_path / "s"))
            client.sendall(b"go")
        brisk = socket.socket(socket.AF_UNIX)
        brisk.connect(str(tmp_path / "s"))
        brisk.setblocking(False)
        await loop.sock_sendall(brisk, b"go")
        received = 0
        async with asyncio.timeout(10):
            while received < 3 * 65_536:
                received += len(await loop.sock_recv(brisk, 1 << 20))
        for client in (*lazy, brisk):
            client.close()
        listener.close()

    asyncio.run(scene())


def test_a_session_that_makes_a_mistake_loses_its_connection_alone(tmp_path: Path) -> None:
    class Broken:
        finished = False

        def receive(self, data: bytes) -> Iterator[bytes]:
            raise RuntimeError("a mistake")
            yield b""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        told: list[object] = []
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        listener = stream.Listener(loop, stream.bind(str(tmp_path / "s"), what="it"), lambda _: Broken())
        for _ in range(2):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(tmp_path / "s"))
            client.setblocking(False)
            await loop.sock_sendall(client, b"go")
            assert await loop.sock_recv(client, 10) == b""
            client.close()
        assert [type(error) for error in told] == [RuntimeError, RuntimeError]
        listener.close()

    asyncio.run(scene())


def test_without_descriptors_it_waits_instead_of_spinning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ACCEPT_AGAIN_S", 0.05)

    class Exhausted(socket.socket):
        tries = 0

        def accept(self) -> tuple[socket.socket, object]:
            Exhausted.tries += 1
            if Exhausted.tries <= 2:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return super().accept()

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        listening = Exhausted(fileno=stream.bind(str(tmp_path / "s"), what="it").detach())
        listener = stream.Listener(loop, listening, lambda _: Echo(1))
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / "s"))
        client.setblocking(False)
        await loop.sock_sendall(client, b"bye")
        for _ in range(20):
            await asyncio.sleep(0)
        assert Exhausted.tries == 1
        async with asyncio.timeout(10):
            assert await loop.sock_recv(client, 10) == b"bye"
        assert Exhausted.tries == 3
        client.close()
        listener.close()

    asyncio.run(scene())


def test_a_stale_socket_is_replaced_and_a_live_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s"
    first = stream.bind(str(path), what="an interface of that name")
    assert path.stat().st_mode & 0o777 == 0o700 & ~0o077
    assert path.parent.stat().st_mode & 0o777 == 0o755
    with pytest.raises(UsageError, match="unix socket in use\n  hint: an interface of that name runs already"):
        stream.bind(str(path), what="an interface of that name")
    first.close()
    assert path.exists()
    second = stream.bind(str(path), what="it")
    ours = stream.identity(str(path))
    second.close()
    stream.remove(str(path), ours)
    assert not path.exists()


def test_a_socket_file_that_somebody_else_made_since_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    sock = stream.bind(str(path), what="it")
    ours = stream.identity(str(path))
    path.rename(tmp_path / "away")
    path.write_text("theirs")
    stream.remove(str(path), ours)
    assert path.read_text() == "theirs"
    sock.close()
    stream.remove(str(tmp_path / "never"), None)


def test_a_directory_that_a_group_can_write_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("needs root: it gives the directory to a group")
    os.chown(tmp_path, 0, 65_534)
    tmp_path.chmod(0o775)
    with pytest.raises(UsageError, match="others cannot write"):
        stream.bind(str(tmp_path / "s"), what="it")
    tmp_path.chmod(0o1775)  # sticky: they can neither remove nor rename what is ours
    stream.bind(str(tmp_path / "s"), what="it").close()


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(UsageError, match="others cannot write"):
        stream.bind(str(tmp_path / "s"), what="it")
    tmp_path.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(tmp_path, 65_534, 65_534)
        with pytest.raises(UsageError, match="uid 65534"):
            stream.bind(str(tmp_path / "s"), what="it")


@pytest.mark.parametrize(("number", "word"), [(13, "it takes root"), (30, "tmpfs"), (5, "")])
def test_refusals_are_explained(number: int, word: str) -> None:
    assert word in stream._hint(number)
