"""The debug mode's directory: ours alone, made and never found, and what tshark reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ginnel.errors import UsageError
from ginnel.runtime import keylog
from ginnel.runtime.keylog import KeyLog


def test_both_tables_are_made_for_the_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    log = KeyLog(str(directory))
    log.write("esp_sa", '"IPv4","*","*","0x01"')
    log.write("ikev2_decryption_table", "aa,bb\n")
    log.close()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in directory.iterdir()) == sorted(keylog.TABLES)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in directory.iterdir())
    assert (directory / "esp_sa").read_text() == '"IPv4","*","*","0x01"\n'
    assert (directory / "ikev2_decryption_table").read_text() == "aa,bb\n"


def test_an_earlier_runs_files_are_not_written_to(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    KeyLog(str(directory)).close()
    with pytest.raises(UsageError, match="of an earlier run"):
        KeyLog(str(directory))


@pytest.mark.parametrize("name", keylog.TABLES)
def test_a_symbolic_link_in_its_place_is_not_followed(tmp_path: Path, name: str) -> None:
    directory, target = tmp_path / "keys", tmp_path / "precious"
    directory.mkdir(0o700)
    target.write_text("precious")
    (directory / name).symlink_to(target)
    with pytest.raises(UsageError):
        KeyLog(str(directory))
    assert target.read_text() == "precious"


def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    directory.mkdir()
    directory.chmod(0o755)
    with pytest.raises(UsageError, match="expected mode 0700, found 0755"):
        KeyLog(str(directory))
    assert not list(directory.iterdir())


def test_a_link_to_a_directory_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("")
    for name in ("link", "file", "missing/keys"):
        with pytest.raises(UsageError):
            KeyLog(str(tmp_path / name))
    assert not list((tmp_path / "real").iterdir())


def test_a_table_that_there_is_not_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = KeyLog(str(tmp_path / "keys"))
    with pytest.raises(KeyError):
        log.write("secrets", "x")

    def full(*_: object) -> int:
        raise OSError(28, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        log.write("esp_sa", "lost")
    log.write("esp_sa", "kept")
    assert (tmp_path / "keys" / "esp_sa").read_text() == "kept\n"
    monkeypatch.setattr(keylog, "SIZE_MAX_BYTES", 6)
    log.write("esp_sa", "more")
    assert (tmp_path / "keys" / "esp_sa").read_text() == "kept\n"
    log.close()
