"""
A network in one file or in several: their tables put together, and where each of them stands.

A directory is read as if its files were one, but for this: nothing is said twice. `[network]`, `[gre]`, `[ipsec]` and what
`[lab]` says of all stand in one of them; each node, region and group in one; `[[link]]`, `[[protect]]` and `[[expect]]` add up in
the order of the files' names.

Inside, lines are numbered through all files, so that what looks for mistakes need not know that there are several; `settled`
turns those numbers into a file and its own line.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from ginnel.config import toml
from ginnel.config.positions import Path, Place, Positions
from ginnel.errors import ConfigError, Elsewhere, Mistake, Span
from ginnel.network.host import Place as NamedPlace
from ginnel.network.language.mistakes import excerpt

#: More than anybody writes by hand, less than what makes the parser a burden (a 2,000-node file is 424 KiB).
MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_FILES = 1000

#: Tables whose tables may stand in different files; all others stand in one.
_SHARED: frozenset[Path] = frozenset({(), ("node",), ("region",), ("group",), ("lab",), ("lab", "node")})
#: Of which a node file has none.
_TABLES = frozenset({"network", "region", "group", "link", "protect", "expect"})
#: Arrays of tables, to which each file may add.
_LISTS = frozenset({"link", "protect", "expect"})


class Sources(Positions):
    """The document, and the place of everything in it, by numbers of lines that count through all files."""

    def __init__(self, files: Sequence[tuple[str, str]], source: str) -> None:
        """
        Args:
            files: what each is called, and its text; in the order that counts.
            source: what the whole is called.

        Raises:
            ConfigError: a text is no TOML, or something is said twice; all such mistakes.
        """
        _bounded(files, source)
        self.source = source
        self.names: list[str] = []
        self.texts: list[str] = []
        lines: list[str] = []
        #: Of each file, how many lines stand before it.
        self.before: list[int] = []
        documents: list[dict[str, Any]] = []
        mistakes: list[Mistake] = []
        for name, text in files:
            try:
                document = toml.loads(text)
            except tomllib.TOMLDecodeError as error:
                mistake = toml_mistake(str(error), text)
                mistakes.append(mistake if len(files) == 1 else replace(mistake, source=name))
                continue
            if len(files) > 1 and is_node_file(document):
                continue  # one that lies beside
            documents.append(document)
            self.names.append(name)
            self.texts.append(text)
            self.before.append(len(lines))
            lines += text.split("\n")
        if mistakes:
            raise ConfigError(source, mistakes)
        self.lines = lines
        #: Of each file, how many tables of each list stand before its own.
        self._counted: list[dict[str, int]] = []
        self.document = self._together(documents)

    def _together(self, documents: list[dict[str, Any]]) -> dict[str, Any]:
        if len(documents) == 1:
            self._counted = [{}]
            return documents[0]
        whole: dict[str, Any] = {}
        owner: dict[Path, int] = {}
        twice: list[tuple[Path, int, int]] = []

        def merge(into: dict[str, Any], part: dict[str, Any], path: Path, index: int) -> None:
            for key, value in part.items():
                here = (*path, key)
                if key not in into:
                    owner[here] = index
                    shared = here in _SHARED and isinstance(value, dict)
                    into[key] = {} if shared else list(value) if isinstance(value, list) else value
                    if shared:
                        merge(into[key], value, here, index)
                elif here in _SHARED and isinstance(value, dict) and isinstance(into[key], dict):
                    merge(into[key], value, here, index)
                elif path == () and key in _LISTS and isinstance(value, list) and isinstance(into[key], list):
                    into[key].extend(value)
                else:
                    twice.append((here, owner[here], index))

        for index, document in enumerate(documents):
            self._counted.append({key: len(whole[key]) for key in _LISTS if isinstance(whole.get(key), list)})
            merge(whole, document, (), index)
        if twice:
            raise ConfigError(self.source, [self._said_twice(*each) for each in twice])
        return whole

    def _said_twice(self, path: Path, first: int, second: int) -> Mistake:
        one, other = Positions(self.texts[first]), Positions(self.texts[second])
        span, before = other.key(path), one.key(path)
        also = (Elsewhere(before, excerpt(one.line(before)), self.names[first]),) if before else ()
        message = f"{'.'.join(str(part) for part in path)}: stands in two files"
        return Mistake(message, span, "keep one of them", excerpt(other.line(span)), "G0911", self.names[second], also)

    @cached_property
    def places(self) -> dict[Path, Place]:
        """Everything that has a place; made when the first mistake is to be shown."""
        found: dict[Path, Place] = {}
        for text, before, counted in zip(self.texts, self.before, self._counted, strict=True):
            for path, place in Positions(text).places.items():
                there = Place(_later(place.key, before), _later(place.value, before)) if before else place
                match path:
                    case (str(key), int(index), *rest) if key in counted:
                        found.setdefault((key, index + counted[key], *rest), there)
                    case _:
                        found.setdefault(path, there)
        return found

    def line(self, span: Span | None) -> str:
        """The text of the line that *span* points into, as far as it may be shown (`mistakes.excerpt`)."""
        return excerpt(super().line(span))

    def settled(self, mistakes: Iterable[Mistake]) -> list[Mistake]:
        """The same, each with its file and that file's own line."""
        return [self._settled(mistake) for mistake in mistakes] if len(self.names) > 1 else list(mistakes)

    def _settled(self, mistake: Mistake) -> Mistake:
        also = tuple(replace(each, **self._file_of(each.span)) for each in mistake.also)
        if mistake.span is None:
            return replace(mistake, also=also)
        return replace(mistake, also=also, **self._file_of(mistake.span))

    def _file_of(self, span: Span) -> dict[str, Any]:
        index = bisect_right(self.before, span.line - 1) - 1
        return {"source": self.names[index], "span": _later(span, -self.before[index])}

    def place(self, path: Path, *, key: bool = False) -> NamedPlace:
        """Where something is said, for a finding: *path*'s value (or its key), or the nearest table around it."""
        span = self.key(path) if key else self.value(path)
        if span is None:
            return NamedPlace(self.source)
        found = self._file_of(span)
        return NamedPlace(found["source"], found["span"], self.line(span))


def is_node_file(document: Mapping[str, Any]) -> bool:
    """Whether this is a node file, which says nothing of a network: its [node] is the host itself, not a table of hosts."""
    if "tunnel" not in document or not _TABLES.isdisjoint(document):
        return False
    node = document.get("node", {})
    return not isinstance(node, dict) or all(key == "sysctls" or not isinstance(value, dict) for key, value in node.items())


#: What every file for wg-quick has, and no file of TOML: its values have no quotes.
_INTERFACE = re.compile(r"^\s*\[(?:Interface|Peer)\]\s*(?:#.*)?$", re.IGNORECASE | re.MULTILINE)
#: The head of a table, or a key, that may be repeated to somebody's terminal.
_HEAD = re.compile(r"\s*(?P<said>\[{1,2}[\w.@\"' -]{1,80}\]{1,2}|[\w-]{1,40}(?=\s*[.=]))", re.ASCII)


def _later(span: Span, lines: int) -> Span:
    return Span(span.line + lines, span.column, span.length)


def _bounded(files: Sequence[tuple[str, str]], source: str) -> None:
    if len(files) > MAX_FILES:
        raise ConfigError(source, [Mistake(f"expected at most {MAX_FILES} files, found {len(files)}", code="G0906")])
    if sum(len(text.encode()) for _, text in files) > MAX_FILE_BYTES:
        raise ConfigError(source, [Mistake(f"expected at most {MAX_FILE_BYTES} bytes", code="G0906")])


def toml_mistake(message: str, text: str) -> Mistake:
    """What tomllib says of a text that is no TOML, with its place."""
    what, _, place = message.partition(" (at ")
    lines = text.split("\n")
    if _INTERFACE.search(text):
        hint = "`ginnel import` makes a network file of such files, `ginnel check` looks at them as they are"
        return Mistake("expected a network file, found a file for wg-quick", hint=hint, code="G0906")
    if not place:
        return Mistake(f"not TOML that can be read: {what}", code="G0901")
    match = re.match(r"line (\d+), column (\d+)", place)
    span = Span(int(match[1]), int(match[2]), 1) if match else Span(len(lines), max(1, len(lines[-1])), 1)
    line = lines[min(span.line, len(lines)) - 1].rstrip("\r")
    if what.startswith(("Cannot declare", "Cannot overwrite")) and excerpt(line) and (head := _HEAD.match(line)):
        span = Span(span.line, head.start("said") + 1, len(head["said"]))
        return Mistake(f"{head['said']} is said a second time", span, "keep one of them", excerpt(line), "G0901")
    return Mistake(f"not TOML: {what[:1].lower()}{what[1:]}", span, excerpt=excerpt(line), code="G0901")
