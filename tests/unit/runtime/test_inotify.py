"""The watch on our own socket file: every way to take it away, also before the watch began, and none that is not one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ginnel.runtime.inotify import FileWatch
from ginnel.runtime.stream import identity


def renamed_over(path: Path) -> None:
    (path.parent / "new").write_text("theirs")
    (path.parent / "new").rename(path)


def made_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


WAYS: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "renamed": lambda path: path.rename(path.parent / "elsewhere"),
    "renamed over": renamed_over,
    "made a directory": made_a_directory,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", [True, False])
def test_it_tells_when_the_file_is_gone(tmp_path: Path, way: str, before: bool) -> None:
    path = tmp_path / "file"
    bound = socket.socket(socket.AF_UNIX)  # holds the inode, so that its number is not given to another file meanwhile
    bound.bind(str(path))
    ours = identity(str(path))

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] = loop.create_future()
        if before:
            WAYS[way](path)
        watch = FileWatch(loop, str(path), ours, lambda: gone.set_result(None))
        if not before:
            await asyncio.sleep(0)
            assert watch.intact
            WAYS[way](path)
        await asyncio.wait_for(gone, 5)
        watch.close()

    asyncio.run(scene())
    bound.close()


def test_changes_of_the_file_itself_are_not_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("ours")

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        gone: list[None] = []
        watch = FileWatch(loop, str(path), identity(str(path)), lambda: gone.append(None))
        path.chmod(0o600)
        (tmp_path / "second").hardlink_to(path)
        for _ in range(20):
            await asyncio.sleep(0)
        assert gone == []
        assert watch.intact
        watch.close()
        watch.close()

    asyncio.run(scene())
