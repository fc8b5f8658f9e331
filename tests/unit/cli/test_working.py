"""A terminal hears of what takes long; nobody else does."""

from __future__ import annotations

import io
import sys
import time

import pytest

from ginnel.cli import ui


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_after_a_while_and_the_line_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(ui, "PATIENCE_S", 0.0)
    deadline = time.monotonic() + 30
    with ui.working("reading a\x1bb"):
        while not terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.001)
    assert terminal.getvalue() == "reading a?b …\r\x1b[K"


def test_what_is_quick_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(ui, "PATIENCE_S", 3600.0)
    with pytest.raises(KeyError), ui.working("reading"):
        raise KeyError
    assert terminal.getvalue() == ""


def test_a_file_is_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setattr(ui, "PATIENCE_S", 0.0)
    with ui.working("reading"):
        time.sleep(0.01)
    assert file.getvalue() == ""
