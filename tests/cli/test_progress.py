"""A bar where somebody looks and waits, and nothing anywhere else."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from ginnel.cli import progress
from ginnel.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    monkeypatch.setattr(progress, "_EVERY_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.usefixtures("impatient")
def test_a_bar_on_a_terminal_that_is_gone_at_the_end() -> None:
    stream = Terminal()
    with Progress("reading", stream) as shown:
        assert list(shown.over(iter("abc"), 3)) == ["a", "b", "c"]
        shown.stage("compiling [bold]")
        assert list(shown.over(range(2), 2)) == [0, 1]
    text = stream.getvalue()
    assert "reading" in text
    assert "1/3" in text
    assert "compiling [bold]" in text, "words are no markup"
    assert text.rstrip("\r").endswith("\x1b[2K"), "the line is cleared"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("term", ["dumb", None])
def test_nothing_where_nobody_looks(monkeypatch: pytest.MonkeyPatch, term: str | None) -> None:
    if term is not None:
        monkeypatch.setenv("TERM", term)
    stream = Terminal() if term is not None else io.StringIO()
    with Progress("reading", stream) as shown:
        assert list(shown.over(range(3), 3)) == [0, 1, 2]
        shown.stage("compiling")
    assert stream.getvalue() == ""


def test_nothing_before_a_second_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress("reading", stream) as shown:
        assert list(shown.over(range(1000), 1000)) == list(range(1000))
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("impatient")
def test_an_error_leaves_no_bar_behind() -> None:
    stream = Terminal()
    with pytest.raises(ValueError, match="no"), Progress("reading", stream) as shown:
        for _ in shown.over(range(3), 3):
            raise ValueError("no")
    assert stream.getvalue().rstrip("\r").endswith(("\x1b[2K", "\x1b[?25h"))


def test_rich_is_imported_when_there_is_something_to_show() -> None:
    work = "from ginnel.cli.progress import Progress\nwith Progress('x') as p: list(p.over([1], 1))"
    code = f"import sys\n{work}\nassert 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
