"""
A TOML text with a part of it changed and every other byte as it was: comments, blanks, order, line endings.

A `Patch` collects what is to be taken out, renamed or put in, by paths of the document, and makes the new text in one go. It
works on the text itself, by where `config.positions` says each token stands; what it makes is for the caller to read again and
compare, since not every way to write TOML has a place for every change.

What goes with what: a table has the comment lines directly above its header, all down to its last pair, and the comment lines and
blank lines directly behind that; an item of a list has its line, or its comma where it shares one; a pair has its line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ginnel.config.positions import Layout, Path, Token

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class _Section:
    """A table as it is written: from the comment above its header to its last line, and on over the blank lines behind."""

    path: Path
    start: int
    content_end: int
    end: int


class Patch:
    """The changes to one text."""

    def __init__(self, text: str) -> None:
        """Begin with *text*, which must be valid TOML."""
        self.original = text
        self.text = text.replace("\r\n", "\n")
        self.layout = Layout(self.text)
        self._cuts: list[tuple[int, int, str]] = []
        self._sections = self._find_sections()
        self._gone: dict[int, _Section] = {}

    def _find_sections(self) -> list[_Section]:
        headers, pairs = self.layout.headers, iter([*self.layout.pairs, None])
        starts = [self._with_comment(header.start) for header in headers]
        found: list[_Section] = []
        pair = next(pairs)
        for header, start, after in zip(headers, starts, [*starts, len(self.text)][1:], strict=True):
            last = header.end
            while pair is not None and pair.start < after:
                last = max(last, pair.end) if pair.start > header.start else last
                pair = next(pairs)
            end = self._line_end(last)
            while end < after and self.text[end : self._line_end(end)].lstrip().startswith("#"):
                end = self._line_end(end)
            content_end = end = min(end, after)
            while end < after and not self.text[end : self._line_end(end)].strip():
                end = self._line_end(end)
            found.append(_Section(header.path, start, content_end, end))
        return found

    def _line_start(self, at: int) -> int:
        return self.text.rfind("\n", 0, at) + 1

    def _line_end(self, at: int) -> int:
        """Behind the line feed."""
        end = self.text.find("\n", at)
        return len(self.text) if end < 0 else end + 1

    def _with_comment(self, at: int) -> int:
        """Where the comment lines directly above a header begin; those that the file itself begins with are the file's."""
        start = self._line_start(at)
        while start > 0:
            above = self._line_start(start - 1)
            if not self.text[above:start].lstrip().startswith("#"):
                return start
            start = above
        return self._line_start(at)

    # ------------------------------------------------------------ changes

    def rename(self, path: Path, name: str) -> None:
        """Call the last key of *path* by another name, wherever it is written."""
        for key in self.layout.keys:
            if key.path == path:
                self._cuts.append((key.start, key.end, bare_or_quoted(name)))

    def set_text(self, path: Path, text: str) -> None:
        """Put another string for the string at *path*, in the quotes that it has."""
        value = self.layout.values[path]
        written = self.text[value.start : value.end]
        quote = "'" if written.startswith("'") and not written.startswith("'''") else '"'
        self._cuts.append((value.start, value.end, quote + text + quote))

    def remove_table(self, path: Path) -> None:
        """Take out all that is written of the table at *path*: its sections, its sub-tables, its dotted keys."""
        gone = [section for section in self._sections if section.path[: len(path)] == path]
        self._gone.update((section.start, section) for section in gone)
        behind = 0
        for pair in self.layout.pairs:
            inside = pair.start < behind or any(section.start <= pair.start < section.end for section in gone)
            if pair.path[: len(path)] == path and not inside:
                self._remove_pair(pair)
                behind = pair.end

    def remove_tables(self, name: str, indexes: Iterable[int]) -> None:
        """Take tables out of the array *name*, whether it is written as `[[name]]` or as a list."""
        indexes = list(indexes)
        if (name,) in self.layout.values:
            self.remove_items((name,), indexes)
            return
        for index in indexes:
            self.remove_table((name, index))

    def _remove_pair(self, pair: Token) -> None:
        """With its line, where it has one for itself; in an inline table with its comma."""
        start, end = self._line_start(pair.start), self._line_end(pair.end)
        behind = self.text[pair.end : end].strip()
        if not self.text[start : pair.start].strip() and (not behind or behind.startswith("#")):
            self._cuts.append((start, end, ""))
            return
        rest = re.match(r"\s*,\s*", self.text[pair.end :])
        if rest:
            self._cuts.append((pair.start, pair.end + rest.end(), ""))
            return
        before = re.search(r"\s*,\s*$", self.text[: pair.start])
        self._cuts.append((before.start() if before else pair.start, pair.end, ""))

    def _items(self, path: Path) -> list[Token]:
        """The items of the list at *path*."""
        items: list[Token] = []
        while (value := self.layout.values.get((*path, len(items)))) is not None:
            items.append(value)
        return items

    def _own_lines(self, item: Token) -> bool:
        """Whether an item of a list shares its lines with nothing but its comma, if it has one, and a comment."""
        line = self.text[item.end : self._line_end(item.end)].strip()
        behind = line.removeprefix(",").lstrip()
        alone = not self.text[self._line_start(item.start) : item.start].strip() and (not behind or behind.startswith("#"))
        return alone and (line.startswith(",") or self._after_blank(item.end) == "]")

    def _after_blank(self, at: int) -> str:
        """The first character behind *at* that is no blank and in no comment."""
        found = re.compile(r"(?:\s|#[^\n]*)*([^\s#])").match(self.text, at)
        return found[1] if found else ""

    def remove_items(self, path: Path, indexes: Iterable[int]) -> None:
        """Take items out of the list at *path*; the others stay on their lines."""
        gone = set(indexes)
        items = self._items(path)
        kept_before: Token | None = None
        first: Token | None = None
        for index, item in enumerate(items):
            if index in gone and self._own_lines(item):
                self._cuts.append((self._line_start(item.start), self._line_end(item.end), ""))
            elif index in gone:
                first = first or item
                continue
            elif first is None:
                kept_before = item
                continue
            if first is not None:
                self._cuts.append((first.start, item.start, ""))
                first = None
            kept_before = item if index not in gone else kept_before
        if first is not None:
            self._cuts.append((kept_before.end if kept_before else first.start, items[-1].end, ""))

    def append_item(self, path: Path, text: str) -> None:
        """Put a string at the end of the list at *path*, on a line of its own where the last one has one."""
        whole = self.layout.values[path]
        items = self._items(path)
        if not items:
            self._cuts.append((whole.start, whole.end, f'["{text}"]'))
            return
        last = items[-1]
        if not self._own_lines(last):
            self._cuts.append((last.end, last.end, f', "{text}"'))
            return
        line = self._line_end(last.end)
        indent = self.text[self._line_start(last.start) : last.start]
        if self.text[last.end : line].lstrip().startswith(","):
            self._cuts.append((line, line, f'{indent}"{text}",\n'))
        else:
            self._cuts.append((last.end, last.end, ","))
            self._cuts.append((line, line, f'{indent}"{text}"\n'))

    def insert_after(self, top: str, section: str) -> None:
        """Put a table (header and pairs) behind the last one under *top*, or at the end where there is none."""
        places = [section.content_end for section in self._sections if section.path[0] == top]
        at = places[-1] if places else len(self.text)
        feed = "" if not at or self.text[at - 1] == "\n" else "\n"
        self._cuts.append((at, at, f"{feed}\n{section}\n" if at else f"{section}\n"))

    # ------------------------------------------------------------ the result

    def _section_cuts(self) -> Iterator[tuple[int, int, str]]:
        """One for each run of tables that go, so that blank lines are left on one side of it."""
        run: list[_Section] = []
        for section in [*(self._gone[start] for start in sorted(self._gone)), None]:
            if run and (section is None or section.start != run[-1].end):
                start = run[0].start
                above = self.text[self._line_start(start - 1) : start] if start else ""
                yield start, run[-1].content_end if above.strip() else run[-1].end, ""
                run = []
            if section is not None:
                run.append(section)

    def result(self) -> str:
        """The text with all changes made; what lies within something that was taken out is gone with it."""
        returns = [found.start() - index for index, found in enumerate(re.finditer(r"\r\n", self.original))]
        crlf = bool(returns) and self.original.find("\r\n") + 1 == self.original.find("\n")

        def there(at: int) -> int:
            # Every CRLF before this place is one character longer in the original.
            return at + bisect_right(returns, at - 1)

        out: list[str] = []
        at = 0
        for start, end, new in sorted({*self._cuts, *self._section_cuts()}, key=lambda cut: (cut[0], -cut[1])):
            if there(start) < at:
                continue
            out.append(self.original[at : there(start)])
            out.append(new.replace("\n", "\r\n") if crlf else new)
            at = there(end)
        out.append(self.original[at:])
        result = "".join(out)
        # Nothing follows the last table that blank lines would part from what stands before.
        last_gone = any(section.end == len(self.text) for section in self._gone.values())
        kept = result.rstrip("\r\n") if last_gone else ""
        return kept + ("\r\n" if crlf else "\n") if kept else result


def bare_or_quoted(key: str) -> str:
    """A key as TOML has it."""
    return key if _BARE.fullmatch(key) else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
