"""Where log lines go: by level, cut, and never in the way."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from ginnel.runtime import journal
from ginnel.watch.log import Level


def test_lines_below_the_level_are_not_written() -> None:
    written: list[tuple[Level, str]] = []
    log = journal.Journal(Level.WARN, lambda level, line: written.append((level, line)))
    log("started", interface="wg0")
    log("clock_set_back", peer="lyon")
    assert written == [(Level.WARN, "clock_set_back peer=lyon")]
    assert not log.debugging


@pytest.mark.parametrize(
    ("text", "level"),
    [(None, Level.INFO), ("", Level.INFO), ("verbose", Level.DEBUG), ("DEBUG", Level.DEBUG), (" error ", Level.ERROR),
     ("silent", Level.SILENT), ("loud", Level.INFO)],
)  # fmt: skip
def test_levels_by_name(text: str | None, level: Level) -> None:
    assert journal.level_of(text) == level


def test_a_line_has_a_bound() -> None:
    written: list[str] = []
    journal.Journal(Level.DEBUG, lambda _, line: written.append(line))("failed", error="x" * 5000)
    assert len(written[0]) == journal.LINE_LIMIT_CHARACTERS


def test_a_line_that_cannot_be_written_is_counted_and_harms_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = journal.Journal(Level.DEBUG, journal.to_stderr(writing))
    log("started")
    os.close(writing)
    log("started")
    assert log.lost == 2


def test_stderr_carries_priorities_for_the_journal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    journal.Journal(Level.DEBUG, journal.to_stderr(writing))("started", interface="wg0")
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    journal.Journal(Level.DEBUG, journal.to_stderr(writing))("clock_set_back")
    assert os.read(reading, 100) == b"started interface=wg0\n<4>clock_set_back\n"
    os.close(reading)
    os.close(writing)


def test_syslog_has_facility_severity_and_tag(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    assert journal.to_syslog("ginnel", path) is None, "no log on this host"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        write = journal.to_syslog("ginnel", path)
        assert write is not None
        journal.Journal(Level.DEBUG, write)("clock_set_back", peer="lyon")
        assert receiver.recv(200) == f"<28>ginnel[{os.getpid()}]: clock_set_back peer=lyon".encode()
        write.close()


def test_a_reader_that_stopped_loses_lines_and_blocks_nobody() -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    log = journal.Journal(Level.DEBUG, journal.to_stderr(writing))
    for _ in range(100):
        log("failed", error="x" * 500)
    assert log.lost > 80
    os.read(reading, 65_536)
    lost = log.lost
    log("started")
    assert log.lost == lost
    os.close(reading)
    os.close(writing)


def test_a_log_that_was_restarted_is_written_to_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        write = journal.to_syslog("ginnel", str(path))
        assert write is not None
        log = journal.Journal(Level.DEBUG, write)
    path.unlink()
    log("started")
    assert log.lost == 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        log("started")
        assert receiver.recv(200).endswith(b": started")
    write.close()
