"""The table of conformance points at files and tests that exist: a renamed test must not leave a promise without its proof."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "reference" / "wireguard-conformance.md"


def names_defined() -> set[str]:
    """Every test function of the tree, Python and Rust."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        found.update(re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    for path in (ROOT / "rust").glob("*/[st]*/**/*.rs"):
        found.update(re.findall(r"\bfn (\w+)\s*\(", path.read_text()))
    return found


def rows() -> list[list[str]]:
    """The cells of every row that states a rule."""
    lines = [
        line for line in TABLE.read_text().splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| rule"))
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_rule_has_a_place_and_a_test_or_says_why_not() -> None:
    """Four cells; an empty place is explained in the note."""
    for row in rows():
        assert len(row) == 4, row
        rule, where, tests, note = row
        assert rule
        assert (where and tests) or "not done" in note, row


def test_every_named_file_exists() -> None:
    """Second column, and the paragraph before the tables."""
    for path in re.findall(r"`((?:src|rust|tests)/[^`]+)`", TABLE.read_text()):
        assert (ROOT / path).exists(), path


def test_every_named_test_exists() -> None:
    """Third column."""
    defined = names_defined()
    named = {name for row in rows() for name in re.findall(r"`(\w+)`", row[2])}
    assert len(named) > 100
    assert named <= defined, sorted(named - defined)
