"""
The rules of output.

What was asked for goes to stdout; progress, warnings and errors go to stderr. Colour only where a terminal reads, and never with
NO_COLOR set. Exit codes: 0 done, 1 failed, 2 wrongly called. An error is `ginnel: ` and its text, which names what was expected,
what was found, and how to mend it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

DONE, FAILED, USAGE = 0, 1, 2
#: How long nothing may be heard of a command whose reader sits at a terminal.
PATIENCE_S = 1.0

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def has_colour(stream: TextIO) -> bool:
    """Whether *stream* is a terminal of somebody who did not ask for none."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def paint(text: str, style: str, *, on: bool) -> str:
    """*text* in a style of `_CODES`, when *on*."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if on and text else text


def complain(text: str) -> None:
    """An error, for a person."""
    sys.stderr.write(f"{paint('ginnel:', 'red', on=has_colour(sys.stderr))} {printable_lines(text)}\n")


def warn(text: str) -> None:
    """Something that works and should still be mended."""
    sys.stderr.write(f"{paint('Warning:', 'yellow', on=has_colour(sys.stderr))} {printable_lines(text)}\n")


def printable(text: str) -> str:
    """Without control characters: names and files come from elsewhere, and a terminal obeys them."""
    return "".join(character if character.isprintable() else "?" for character in text)


def printable_lines(text: str) -> str:
    """The same of a text of several lines: what quotes names need not think of it."""
    return "\n".join(map(printable, text.expandtabs(4).split("\n")))


@contextlib.contextmanager
def working(on_what: str) -> Iterator[None]:
    """Tell a terminal what is being worked on once that has taken a second; the line is gone when the work is done."""
    if not sys.stderr.isatty():
        yield
        return
    from threading import Timer

    said = False

    def say() -> None:
        nonlocal said
        said = True
        sys.stderr.write(f"{printable(on_what)} …")
        sys.stderr.flush()

    timer = Timer(PATIENCE_S, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if said:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class StderrConsole:
    """`bringup.Console`: each step as wg-quick prints it."""

    def step(self, words: str) -> None:
        """See `bringup.Console`."""
        self._say("[#]", words, "dim")

    def note(self, text: str) -> None:
        """See `bringup.Console`."""
        self._say("[!]", text, "yellow")

    def _say(self, mark: str, text: str, style: str) -> None:
        sys.stderr.write(f"{paint(mark, style, on=has_colour(sys.stderr))} {printable_lines(text)}\n")
        sys.stderr.flush()


class ListConsole:
    """`bringup.Console` for `--json`: steps and notes as lists."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []

    def step(self, words: str) -> None:
        """See `bringup.Console`."""
        self.steps.append(words)

    def note(self, text: str) -> None:
        """See `bringup.Console`."""
        self.notes.append(text)
