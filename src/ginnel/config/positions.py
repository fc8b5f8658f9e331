"""
Where each key and value of a TOML text stands, so that a mistake can be shown with line, column and caret.

No TOML library says where a value was. This is one pass over a text that `tomllib` has already accepted, so it can be
lenient: it never judges, it only notes places. A path is the tuple of keys and list indexes by which the parsed value is
reached: `("node", "paris", "lans", 0)`; `("link", 1)` is the second `[[link]]`.

Rules: every path of the parsed document has a place (a test compares them on random documents); lines and columns count
from 1, in characters; a value that spans lines is marked on its first line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ginnel.errors import Span

Path = tuple[str | int, ...]

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a thing was named (its key or table header; the value itself inside a list), and where its value stands."""

    key: Span
    value: Span


class Positions:
    """The index: path to place, with the lines of the text for excerpts."""

    def __init__(self, text: str) -> None:
        """Index *text*, which must be valid TOML (ask `tomllib` first)."""
        self.lines: Sequence[str] = text.split("\n")
        self._text = text

    @cached_property
    def places(self) -> dict[Path, Place]:
        """All of them, noted when the first is asked for: a file without mistakes does not pay for it."""
        places: dict[Path, Place] = {}
        _Scanner(self._text, places).document()
        return places

    def key(self, path: Path) -> Span | None:
        """The span of the key named by *path*, or of the nearest table around it."""
        place = self._nearest(path)
        return place.key if place else None

    def value(self, path: Path) -> Span | None:
        """The span of the value at *path*, or of the nearest table around it."""
        place = self._nearest(path)
        return place.value if place else None

    def line(self, span: Span | None) -> str:
        """The text of the line that *span* points into; empty without one."""
        if span is None or not 0 < span.line <= len(self.lines):
            return ""
        return self.lines[span.line - 1].rstrip("\r")

    def _nearest(self, path: Path) -> Place | None:
        for end in range(len(path), 0, -1):
            place = self.places.get(path[:end])
            if place is not None:
                return place
        return None


@dataclass(frozen=True, slots=True)
class Token:
    """What stands from *start* to *end* (offsets into the text), and what it is of."""

    path: Path
    start: int
    end: int


class Layout:
    """
    A text token by token, for those who change a part of it and leave the rest as it is; its lines end in a line feed alone.

    keys: every key wherever it is written, in headers too (a table's key once for each header that it is in). headers: the whole
    of each `[table]` and `[[table]]`. pairs: each key with its value, however dotted the key. values: each value, of lists and
    inline tables too. All but values in the order of the text.
    """

    def __init__(self, text: str) -> None:
        """Take *text* apart, which must be valid TOML."""
        self.keys: list[Token] = []
        self.headers: list[Token] = []
        self.pairs: list[Token] = []
        self.values: dict[Path, Token] = {}
        _Scanner(text, {}, self).document()


class _Scanner:
    """One forward pass; `at` only grows."""

    def __init__(self, text: str, places: dict[Path, Place], layout: Layout | None = None) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.places = places
        self.layout = layout
        self.tables: dict[Path, int] = {}  # [[array]] path -> how many so far
        self.line_starts = [0, *(found.end() for found in re.finditer("\n", self.text))]

    def document(self) -> None:
        table: Path = ()
        while self._skip_blank():
            if self.text.startswith("[", self.at):
                table = self._header()
            else:
                self._pair(table)

    # -- pieces

    def _header(self) -> Path:
        start = self.at
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        keys = self._dotted()
        self.at = self.text.index("]", self.at) + (2 if array else 1)
        span = self._span(start, self.at)
        path: Path = ()
        for depth, (key, key_start, key_end) in enumerate(keys):
            path += (key,)
            if self.layout is not None:
                self.layout.keys.append(Token(path, key_start, key_end))
            if array and depth == len(keys) - 1:
                self.places.setdefault(path, Place(span, span))
                self.tables[path] = self.tables.get(path, 0) + 1
            if path in self.tables:
                path += (self.tables[path] - 1,)
            self.places.setdefault(path, Place(span, span))
        # A header may come after its own sub-tables ([a.b] then [a]); the header itself is the better place.
        self.places[path] = Place(span, span)
        if self.layout is not None:
            self.layout.headers.append(Token(path, start, self.at))
        return path

    def _pair(self, table: Path) -> None:
        path = table
        keys = self._dotted()
        for key, start, end in keys:
            path += (key,)
            span = self._span(start, end)
            self.places.setdefault(path, Place(span, span))
            if self.layout is not None:
                self.layout.keys.append(Token(path, start, end))
        began = len(self.layout.pairs) if self.layout is not None else 0
        key_span = self.places[path].key
        self.at = self.text.index("=", self.at) + 1
        self._skip_space()
        start = self.at
        self._value(path)
        self.places[path] = Place(key_span, self._span(start, self.at))
        if self.layout is not None:
            self.layout.pairs.insert(began, Token(path, keys[0][1], self.at))
            self.layout.values[path] = Token(path, start, self.at)

    def _dotted(self) -> list[tuple[str, int, int]]:
        keys: list[tuple[str, int, int]] = []
        while True:
            self._skip_space()
            start = self.at
            if self.text[self.at] in "\"'":
                key = self._string()
            else:
                while self.at < len(self.text) and self.text[self.at] in _BARE:
                    self.at += 1
                key = self.text[start : self.at]
            keys.append((key, start, self.at))
            self._skip_space()
            if not self.text.startswith(".", self.at):
                return keys
            self.at += 1

    def _value(self, path: Path) -> None:
        match self.text[self.at]:
            case '"' | "'":
                self._string()
            case "[":
                self._list(path)
            case "{":
                self._inline_table(path)
            case _:
                start = self.at
                while self.at < len(self.text) and self.text[self.at] not in ",]}#\n":
                    self.at += 1
                self.at = start + len(self.text[start : self.at].rstrip())

    def _list(self, path: Path) -> None:
        self.at += 1
        index = 0
        while self._skip_blank() and self.text[self.at] != "]":
            start = self.at
            self._value((*path, index))
            span = self._span(start, self.at)
            self.places[(*path, index)] = Place(span, span)
            if self.layout is not None:
                self.layout.values[(*path, index)] = Token((*path, index), start, self.at)
            index += 1
            self._skip_blank()
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        while self._skip_blank() and self.text[self.at] != "}":
            self._pair(path)
            self._skip_blank()
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _string(self) -> str:
        """Pass over a string; returns its text (escapes only resolved as far as keys need them)."""
        quote = self.text[self.at]
        triple = self.text.startswith(quote * 3, self.at)
        delimiter = quote * 3 if triple else quote
        self.at += len(delimiter)
        start = self.at
        while not self.text.startswith(delimiter, self.at):
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
        while triple and self.text.startswith(quote, self.at + 3):
            self.at += 1  # up to two quotes may stand directly before the closing three
        raw = self.text[start : self.at]
        self.at += len(delimiter)
        return _unescape(raw) if quote == '"' and "\\" in raw else raw

    # -- blanks and places

    def _skip_space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self.at += 1

    def _skip_blank(self) -> bool:
        """Pass over blanks, newlines and comments; whether anything is left."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif char in " \t\r\n":
                self.at += 1
            else:
                return True
        return False

    def _span(self, start: int, end: int) -> Span:
        line = bisect_right(self.line_starts, start)
        stop = min(end, self.line_starts[line] - 1) if line < len(self.line_starts) else end
        return Span(line, start - self.line_starts[line - 1] + 1, max(1, stop - start))


_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def _unescape(raw: str) -> str:
    out: list[str] = []
    at = 0
    while at < len(raw):
        if raw[at] != "\\":
            out.append(raw[at])
            at += 1
            continue
        letter = raw[at + 1]
        if letter in "uU":
            digits = 4 if letter == "u" else 8
            out.append(chr(int(raw[at + 2 : at + 2 + digits], 16)))
            at += 2 + digits
        else:
            out.append(_ESCAPES.get(letter, letter))
            at += 2
    return "".join(out)
