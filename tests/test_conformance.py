"""The tables of conformance point at files and tests that exist: a renamed test must not leave a promise without its proof."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
#: And how many different tests each names at least: an emptied table is no conformance.
TABLES = {
    REFERENCE / "wireguard-conformance.md": 100,
    REFERENCE / "gre-conformance.md": 150,
    REFERENCE / "ipsec-conformance.md": 200,
}

each_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)


def names_defined() -> set[str]:
    """Every test function of the tree, Python and Rust."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        found.update(re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    for path in (ROOT / "rust").glob("*/[st]*/**/*.rs"):
        found.update(re.findall(r"\bfn (\w+)\s*\(", path.read_text()))
    return found


def rows(table: Path) -> list[list[str]]:
    """The cells of every row that states a rule."""
    lines = [
        line for line in table.read_text().splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| rule"))
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@each_table
def test_every_rule_has_a_place_and_a_test_or_says_why_not(table: Path) -> None:
    """Four cells; an empty place is explained in the note."""
    for row in rows(table):
        assert len(row) == 4, row
        rule, where, tests, note = row
        assert rule
        assert (where and tests) or "not done" in note, row


@each_table
def test_every_named_file_exists(table: Path) -> None:
    """Second column, and the paragraph before the tables."""
    for path in re.findall(r"`((?:src|rust|tests)/[^`]+)`", table.read_text()):
        assert (ROOT / path).exists(), path


@each_table
def test_every_named_test_exists(table: Path) -> None:
    """Third column."""
    defined = names_defined()
    named = {name for row in rows(table) for name in re.findall(r"`(\w+)`", row[2])}
    assert len(named) >= TABLES[table]
    assert named <= defined, sorted(named - defined)
