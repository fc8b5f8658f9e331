"""
Files of sections, keys and values, as systemd and GLib write them: for `networkd` and `networkmanager`.

    [Section]
    # a comment on a line of its own
    Key=value

A backslash at the end of a line goes on in the next (systemd). The same section may come more than once. Comments directly above
a section, and those in it before its first key, belong to it: tools put names there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ginnel.network.host import Place
from ginnel.network.importing.reading import Notes

_HEADER = re.compile(r"\[([^\]]{1,256})\]\s*\Z")


@dataclass(frozen=True, slots=True)
class Entry:
    """One key with its value, and where it stands."""

    key: str
    value: str
    place: Place


@dataclass(slots=True)
class Section:
    """One section."""

    name: str
    place: Place
    comments: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    def all(self, key: str) -> Iterator[Entry]:
        """Every entry of *key*, in any case."""
        return (entry for entry in self.entries if entry.key.lower() == key.lower())

    def one(self, key: str) -> str:
        """The last value of *key*, or ""."""
        return next((entry.value for entry in reversed(self.entries) if entry.key.lower() == key.lower()), "")


def sections(text: str, notes: Notes) -> list[Section]:
    """The sections of a file in order; a line that is none of the three is a finding."""
    found: list[Section] = []
    above: list[str] = []
    lines = iter(enumerate(text.split("\n"), 1))
    for number, raw in lines:
        line = raw.strip()
        if not line:
            above = []
            continue
        if line[0] in "#;":
            above.append(line)
            if found and not found[-1].entries:
                found[-1].comments.append(line)
            continue
        if header := _HEADER.match(line):
            found.append(Section(header[1], notes.place(number, raw), above))
            above = []
            continue
        above = []
        parts = [line]
        while parts[-1].endswith("\\"):
            parts[-1] = parts[-1][:-1]
            parts.append(next(lines, (0, ""))[1].strip())
        whole = " ".join(parts)
        key, equals, value = whole.partition("=")
        if not equals or not found:
            notes.add("G0802", "a line that is not understood is left out", notes.place(number, raw))
            continue
        found[-1].entries.append(Entry(key.strip(), value.strip(), notes.place(number, raw, value.strip()[:80])))
    return found


def left_out(section: Section, entry: Entry, notes: Notes, known: frozenset[str] = frozenset()) -> None:
    """Name what has no counterpart here; *known* are keys that change nothing that a network file says."""
    if entry.key.lower() not in known:
        notes.add("G0802", f"[{section.name[:40]}] {entry.key[:40]}= has no counterpart here, and is left out", entry.place)
