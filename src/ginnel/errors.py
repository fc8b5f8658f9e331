"""
Every exception that ginnel raises on purpose.

    GinnelError
    ├── UsageError      our caller used a function or a command wrongly
    ├── ConfigError     the operator's file is wrong; carries every mistake found, each with its place and a hint
    ├── PeerError       bytes from the network are wrong; above `wire` these become values (`Drop`), not exceptions
    ├── KernelError     the kernel refused; carries what was attempted and the errno
    └── EngineError     the engine cannot go on (a device is gone, a worker died)

A message says what was expected, what was found, where, and how to mend it. It never holds a secret.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Nobody reads more mistakes at once; the rest is counted.
MAX_SHOWN = 1000


class GinnelError(Exception):
    """The root: `except GinnelError` catches all that ginnel raises on purpose."""


class UsageError(GinnelError):
    """A command or function was called in a way that it cannot serve; exit code 2."""


class PeerError(GinnelError):
    """Bytes from the network that do not follow their protocol."""


class EngineError(GinnelError):
    """The engine cannot go on; what was lost is in the message."""


class KernelError(GinnelError):
    """The kernel refused a request."""

    def __init__(self, attempted: str, errno_: int, hint: str = "") -> None:
        """
        Args:
            attempted: what was asked, in the words of `ip`, `nft` or the system call.
            errno_: the positive errno that came back.
            hint: how to mend it, or empty.
        """
        self.attempted = attempted
        self.errno = errno_
        self.hint = hint
        text = f"{attempted}: {os.strerror(errno_)}"
        super().__init__(f"{text}\n  hint: {hint}" if hint else text)


@dataclass(frozen=True, slots=True)
class Span:
    """Where in a file: 1-based line and column, and the length in characters (0 = to the end of the line)."""

    line: int
    column: int = 1
    length: int = 0


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A second place that a mistake is about: what it collides with."""

    span: Span
    excerpt: str = field(default="", repr=False)
    source: str = ""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong with a configuration: where, what was expected, what was found, how to mend it."""

    message: str
    span: Span | None = None
    hint: str = ""
    #: The line of the file for the caret; empty where it holds a secret.
    excerpt: str = field(default="", repr=False)
    #: A stable code, where there is one: "G0401" (`ginnel.network.findings`).
    code: str = ""
    #: The file, of a configuration that is several; empty: the error's own.
    source: str = ""
    also: tuple[Elsewhere, ...] = ()


class ConfigError(GinnelError):
    """A configuration with mistakes: all of them at once, never a secret."""

    def __init__(self, source: str, mistakes: Sequence[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(mistakes)
        super().__init__(self.render())

    def render(self) -> str:
        """The mistakes as a person reads them: `file:line:column: message [code]`, the line, a caret, a hint."""
        lines: list[str] = []
        for mistake in self.mistakes[:MAX_SHOWN]:
            source = mistake.source or self.source
            code = f" [{mistake.code}]" if mistake.code else ""
            lines.append(f"{_place(source, mistake.span)}: {mistake.message}{code}")
            lines += caret(mistake.span, mistake.excerpt)
            for other in mistake.also:
                lines.append(f"  and {_place(other.source or source, other.span)}:")
                lines += caret(other.span, other.excerpt)
            if mistake.hint:
                lines.append(f"  hint: {mistake.hint}")
        if len(self.mistakes) > MAX_SHOWN:
            lines.append(f"{self.source}: and {len(self.mistakes) - MAX_SHOWN} more")
        return "\n".join(lines)


def caret(span: Span | None, excerpt: str) -> list[str]:
    """The line that a span points into, and the carets under it; nothing without one of them."""
    if span is None or not excerpt:
        return []
    return [f"    {excerpt}", "    " + " " * (span.column - 1) + "^" * max(1, span.length)]


def _place(source: str, span: Span | None) -> str:
    return f"{source}:{span.line}:{span.column}" if span else source
