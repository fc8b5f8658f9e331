"""Log lines: one line each whatever is in them, named from one table; and every name in the sources is in that table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ginnel.watch import log

SOURCES = Path(log.__file__).parents[1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("wg0", "wg0"),
        (7, "7"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('say "x"', '"say \\"x\\""'),
        ("two\nlines", '"two\\nlines"'),
        ("\x1b[31m", '"\\x1b[31m"'),
        ("back\\slash here", '"back\\\\slash here"'),
        ("été", "été"),
    ],
)
def test_values_are_one_word_each(value: object, text: str) -> None:
    assert log.quote(value) == text


def test_a_line_is_the_event_and_its_fields_in_order() -> None:
    assert log.render("link_mtu", {"interface": "wg0", "mtu": 1420}) == "link_mtu interface=wg0 mtu=1420"


def test_an_event_that_is_not_in_the_table_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        log.render("no_such_event", {})


def test_every_event_that_is_logged_is_in_the_table_and_the_reverse() -> None:
    used: set[str] = set()
    for path in (SOURCES / "runtime").glob("*.py"):
        for call in re.findall(r"(?:journal|_log|\blog)\(\s*(\"\w+\"[^,)]*)", path.read_text()):
            used |= set(re.findall(r"\"(\w+)\"", call))
    assert used == set(log.EVENTS)


def test_the_reference_has_every_event_as_it_is() -> None:
    page = (SOURCES.parents[1] / "docs/reference/process.md").read_text()
    rows = [f"| `{name}` | {level.name} | {what} |" for name, (level, what) in log.EVENTS.items()]
    assert page.rpartition("| --- | --- | --- |\n")[2].splitlines() == rows
