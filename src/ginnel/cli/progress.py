"""
A bar on the terminal for what takes longer than a second: on stderr, only where somebody looks, gone when it is done.

    with Progress("compiling") as progress:
        for node in progress.over(nodes, len(nodes)):
            …

Nothing is shown, and rich is not imported, before a second has passed: what is quick stays quick, and a pipe or a log gets
nothing at all. What one step costs is a comparison of two clocks, so it may be asked for each of ten thousand nodes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

#: Nobody minds a second of silence.
PATIENCE_S = 1.0
#: How often a bar is worth drawing.
_EVERY_S = 0.1

_T = TypeVar("_T")


def _is_watched(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Progress:
    """One piece of work, of one stage or several one after the other."""

    def __init__(self, stage: str, stream: TextIO | None = None) -> None:
        """*stage*: what is done first, in a word or two; *stream*: stderr."""
        self._stream = sys.stderr if stream is None else stream
        self._stage, self._watched = stage, _is_watched(self._stream)
        self._since = self._drawn = time.monotonic()
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def stage(self, name: str) -> None:
        """What is done from now on; how long it will take is not known."""
        self._stage = name
        self._draw(None, None, force=self._bar is not None)

    def over(self, items: Iterable[_T], total: int) -> Iterator[_T]:
        """*items*, of which there are *total*; the bar moves as they are taken."""
        for number, item in enumerate(items):
            self._draw(number, total)
            yield item
        self._draw(total, total)

    def _draw(self, done: int | None, total: int | None, *, force: bool = False) -> None:
        if not self._watched:
            return
        now = time.monotonic()
        if now - self._since < PATIENCE_S or (now - self._drawn < _EVERY_S and not force):
            return
        self._drawn = now
        if self._bar is None:
            self._begin()
        assert self._bar is not None  # begun just now
        assert self._task is not None
        self._bar.update(self._task, description=self._stage, total=total, completed=done or 0, refresh=True)

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        console = Console(file=self._stream, highlight=False, no_color=bool(os.environ.get("NO_COLOR")))
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        # Drawn when there is something new, by nobody else: no thread, and nothing between two lines of output.
        self._bar = Bar(*columns, console=console, transient=True, auto_refresh=False)
        self._task = self._bar.add_task(self._stage, total=None)
        self._bar.start()
