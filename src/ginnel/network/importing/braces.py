"""
swanctl.conf's form: sections in braces, `key = value`, comments, quotes; a tree of it, bounded.

    name {
      key = a value, another   # a comment
      key = "a # in quotes"
      inner { … }
    }

Source: strongswan.conf(5), which swanctl.conf shares its syntax with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ginnel.network.host import Place
from ginnel.network.importing.reading import LINE_MAX, Notes

_DEPTH_MAX = 16
_NAME = re.compile(r"[^\s{}=#\"']{1,128}")


@dataclass(slots=True)
class Block:
    """One section: its settings in order, and the sections in it."""

    name: str
    place: Place
    values: list[tuple[str, str, Place]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def one(self, key: str, default: str = "") -> str:
        """The last value of *key*."""
        return next((value for name, value, _ in reversed(self.values) if name == key), default)

    def named(self, name: str) -> Iterator[Block]:
        """The sections called *name*."""
        return (block for block in self.blocks if block.name == name)


def tree(text: str, notes: Notes) -> Block:
    """The whole file as one section without a name; what is none of the form is a finding each."""
    root = Block("", notes.place(0))
    stack = [root]
    for number, raw in enumerate(text.split("\n"), 1):
        if len(raw) > LINE_MAX:
            notes.add("G0802", f"a line of more than {LINE_MAX} characters is left out", notes.place(number))
            continue
        for kind, name, value in _tokens(raw):
            place = notes.place(number, raw, name)
            match kind:
                case "open" if len(stack) < _DEPTH_MAX:
                    block = Block(name, place)
                    stack[-1].blocks.append(block)
                    stack.append(block)
                case "close" if len(stack) > 1:
                    stack.pop()
                case "set":
                    stack[-1].values.append((name, value, place))
                case _:
                    notes.add("G0802", "a line that is not understood is left out", place)
    return root


def _tokens(raw: str) -> Iterator[tuple[str, str, str]]:
    rest = raw.strip()
    while rest and not rest.startswith("#"):
        if rest.startswith("}"):
            yield "close", "", ""
            rest = rest[1:].lstrip()
            continue
        found = _NAME.match(rest)
        if found is None or not (after := rest[found.end() :].lstrip()) or after[0] not in "{=":
            yield ("include", "", "") if rest.startswith("include ") else ("", "", "")
            return
        if after[0] == "{":
            yield "open", found[0], ""
            rest = after[1:].lstrip()
            continue
        value, rest = _value(after[1:].lstrip())
        yield "set", found[0], value


def _value(text: str) -> tuple[str, str]:
    """A value and what stands behind it on the line."""
    if text.startswith('"'):
        end = text.find('"', 1)
        return (text[1:end], text[end + 1 :].lstrip()) if end > 0 else (text[1:], "")
    end = next((index for index, char in enumerate(text) if char in "#}"), len(text))
    return text[:end].strip(), text[end:].lstrip()
