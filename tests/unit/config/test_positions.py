"""The position index names every path of a document, and points at the right characters."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.config.positions import Layout, Path, Positions, Token

DOCUMENT = """\
# a comment [not a table]
title = "x"           # = not a key
[network]
pool = ["10.0.0.0/8", # first
        'fd00::/8'  ]
dotted.key.deep = 7
"quoted \\"key\\"" = true
inline = { a = 1, b = [2, { c = 3 }] }
text = \"\"\"
[fake]
key = 1\"\"\"
date = 1979-05-27 07:32:00
[[link]]
between = ["a", "b"]
[link.more]
x = 1
[[link]]
between = ["c", "d"]
[a.b]
y = 2
[a]
z = 3
"""


def paths_of(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every path of a parsed document."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths_of(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths_of(item, (*path, index))


def marked(text: str, positions: Positions, path: Path) -> str:
    span = positions.value(path)
    assert span is not None
    return text.split("\n")[span.line - 1][span.column - 1 : span.column - 1 + span.length]


def test_every_path_of_a_document_has_its_own_place() -> None:
    positions = Positions(DOCUMENT)
    wanted = set(paths_of(tomllib.loads(DOCUMENT)))
    assert wanted <= set(positions.places)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("title",), '"x"'),
        (("network", "pool", 0), '"10.0.0.0/8"'),
        (("network", "pool", 1), "'fd00::/8'"),
        (("network", "dotted", "key", "deep"), "7"),
        (("network", 'quoted "key"'), "true"),
        (("network", "inline", "b", 1, "c"), "3"),
        (("network", "date"), "1979-05-27 07:32:00"),
        (("network", "text"), '"""'),
        (("link", 0, "between", 1), '"b"'),
        (("link", 0, "more", "x"), "1"),
        (("link", 1, "between", 0), '"c"'),
        (("a", "b", "y"), "2"),
        (("a", "z"), "3"),
        (("link", 1), "[[link]]"),
        (("a",), "[a]"),
    ],
)
def test_values_are_where_they_stand(path: Path, text: str) -> None:
    assert marked(DOCUMENT, Positions(DOCUMENT), path) == text


def test_a_key_and_its_value_are_two_places() -> None:
    positions = Positions("[t]\n  name  =  'v'\n")
    key, value = positions.key(("t", "name")), positions.value(("t", "name"))
    assert key is not None
    assert value is not None
    assert (key.line, key.column, key.length) == (2, 3, 4)
    assert (value.line, value.column, value.length) == (2, 12, 3)


def test_what_is_not_there_is_placed_at_the_table_around_it() -> None:
    span = Positions("a = 1\n[t]\nb = 2\n").key(("t", "missing"))
    assert span is not None
    assert span.line == 2
    assert Positions("a = 1\n").key(("nothing",)) is None


def test_carriage_returns_do_not_move_columns() -> None:
    positions = Positions("[t]\r\nkey = 'v'\r\n")
    span = positions.value(("t", "key"))
    assert span is not None
    assert (span.line, span.column, span.length) == (2, 7, 3)
    assert positions.line(span) == "key = 'v'"


_keys = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=0, max_size=8)
_leaves = st.one_of(
    st.integers(-(2**60), 2**60), st.booleans(), st.text(max_size=12), st.floats(allow_nan=False, allow_infinity=False)
)
_values = st.recursive(
    _leaves, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_keys, inner, max_size=4)), max_leaves=12
)


def quote(text: str) -> str:
    out = '"'
    for char in text:
        out += (
            f"\\U{ord(char):08x}" if char in '"\\' or ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) < 0xE000 else char
        )
    return out + '"'


def written(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "{ " + ", ".join(f"{quote(key)} = {written(item)}" for key, item in value.items()) + " }"
        case list():
            return "[ # one a line\n" + "".join(f"  {written(item)}, # next ]\n" for item in value) + "]"
        case str():
            return quote(value)
        case _:
            return repr(value)


def document_of(tables: dict[str, Any]) -> str:
    lines = [f"{quote(key)} = {written(value)}" for key, value in tables.items() if not isinstance(value, dict)]
    for key, value in tables.items():
        if isinstance(value, dict):
            lines.append(f"[{quote(key)}] # ]")
            lines += [f"{quote(name)}={written(item)} # =" for name, item in value.items()]
    return "\n".join(lines)


def without_newline_tables(value: Any) -> Any:
    """TOML 1.0 allows no newline inside an inline table, so lists inside them become tuples of nothing."""
    if isinstance(value, dict):
        return {key: [] if isinstance(item, list) else without_newline_tables(item) for key, item in value.items()}
    return [without_newline_tables(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(_keys, st.one_of(_values, st.dictionaries(_keys, _values, max_size=4)), max_size=5))
def test_random_documents_are_covered(tables: dict[str, Any]) -> None:
    shaped = {
        key: {name: without_newline_tables(item) for name, item in value.items()}
        if isinstance(value, dict)
        else without_newline_tables(value)
        for key, value in tables.items()
    }
    text = document_of(shaped).replace("[ # one a line\n]", "[]")
    parsed = tomllib.loads(text)
    assert set(paths_of(parsed)) <= set(Positions(text).places)


def test_a_layout_has_every_token_where_it_stands() -> None:
    layout = Layout(DOCUMENT)

    def text(token: Token) -> str:
        return DOCUMENT[token.start : token.end]

    assert [text(token) for token in layout.headers] == [
        "[network]", "[[link]]", "[link.more]", "[[link]]", "[a.b]", "[a]",
    ]  # fmt: skip
    assert [(token.path, text(token)) for token in layout.keys if token.path[0] in ("link", "a")] == [
        (("link",), "link"),
        (("link", 0, "between"), "between"),
        (("link",), "link"),
        (("link", 0, "more"), "more"),
        (("link", 0, "more", "x"), "x"),
        (("link",), "link"),
        (("link", 1, "between"), "between"),
        (("a",), "a"),
        (("a", "b"), "b"),
        (("a", "b", "y"), "y"),
        (("a",), "a"),
        (("a", "z"), "z"),
    ]
    pairs = {token.path: text(token) for token in layout.pairs}
    assert pairs["network", "dotted", "key", "deep"] == "dotted.key.deep = 7"
    assert pairs["network", "inline"] == "inline = { a = 1, b = [2, { c = 3 }] }"
    assert pairs["network", "inline", "b", 1, "c"] == "c = 3"
    assert [token.start for token in layout.pairs] == sorted(token.start for token in layout.pairs)
    for path, token in layout.values.items():
        found: Any = tomllib.loads(DOCUMENT)
        for part in path:
            found = found[part]
        assert tomllib.loads(f"x = {text(token)}") == {"x": found}
