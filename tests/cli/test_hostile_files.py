"""Files and names made to do harm: what a terminal, a program or a file beside them gets of them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from ginnel.cli import rotate, ui
from ginnel.cli.files import write_secret
from ginnel.cli.keyring import Keyring
from ginnel.cli.main import run
from ginnel.cli.replace import write_over
from ginnel.crypto import Secret, public_key
from ginnel.errors import GinnelError
from ginnel.network import parse_lock
from quick_world import GINNEL, ROOT

NETWORK = '[network]\nname = "acme"\npool = ["10.10.0.0/24"]\n[node.paris]\nendpoint = "203.0.113.10"\n[node.lyon]\n'
WG0 = "[Interface]\nAddress = 10.0.0.1/24\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n"


def ginnel(directory: Path, *argv: str | bytes, umask: int = 0o022) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1", "PYTHONUTF8": "1"}
    return subprocess.run(
        [*GINNEL, *argv], cwd=directory, capture_output=True, env=environment, check=False, timeout=60, umask=umask
    )


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "network.toml").write_text(NETWORK)
    return tmp_path


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07", "\u202egnp", "\x9b31m", "one\r\x1b[2K"])
def test_no_name_of_a_file_is_obeyed_by_a_terminal(tmp_path: Path, name: str) -> None:
    missing, wrong = tmp_path / f"{name}.toml", tmp_path / f"{name}wrong.toml"
    wrong.write_text("[network\n")
    for argv in (["check", str(missing)], ["path", str(wrong), "a", "b"], ["graph", str(wrong)], ["up", str(wrong)]):
        done = ginnel(tmp_path, *argv)
        said = (done.stdout + done.stderr).decode()
        assert done.returncode
        assert all(character.isprintable() or character == "\n" for character in said), said


def test_complaints_and_warnings_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    ui.complain("one\n  hint: \x1b[31mtwo")
    ui.warn("a\tb")
    assert capsys.readouterr().err == "ginnel: one\n  hint: ?[31mtwo\nWarning: a   b\n"


def test_a_name_that_is_no_text_is_still_json(tmp_path: Path) -> None:
    file = os.fsencode(tmp_path) + b"/x\xff\xe2\x80\xae.conf"
    Path(os.fsdecode(file)).write_text(WG0)
    done = ginnel(tmp_path, "import", "--json", file)
    assert b"Traceback" not in done.stderr
    assert json.loads(done.stdout.decode("ascii"))["schema"] == "ginnel.import/1"
    written = ginnel(tmp_path, "import", "-o", "it.toml", file)
    assert b"Traceback" not in written.stderr
    assert (tmp_path / "it.toml").exists()


# ---------------------------------------------------------------- what lies where something is written


def test_what_lies_beside_a_file_is_not_written_through(tmp_path: Path) -> None:
    victim, file = tmp_path / "victim", tmp_path / "lock.toml"
    victim.write_text("mine")
    (tmp_path / f".lock.toml.{os.getpid()}").symlink_to(victim)
    write_over(file, "text")
    assert (victim.read_text(), file.read_text()) == ("mine", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock.toml", "victim"]


def test_a_secret_goes_into_a_file_that_nobody_had_open_before(tmp_path: Path) -> None:
    file = tmp_path / "lyon.key"
    planted = tmp_path / "lyon.key.tmp"
    planted.write_text("")
    with planted.open() as held:
        write_secret(file, "secret\n")
        assert held.read() == ""
    assert file.read_text() == "secret\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_rendered_secrets_whatever_the_umask_is(here: Path) -> None:
    assert ginnel(here, "keys", "new", umask=0).returncode == 0
    done = ginnel(here, "render", "--all", "--keys", "network.keys", "-o", "out", umask=0)
    assert done.returncode == 0, done.stderr
    modes = {str(path.relative_to(here)): stat.S_IMODE(path.stat().st_mode) for path in [here / "out", *here.glob("out/**/*")]}
    assert modes == {
        "out": 0o755,
        "out/MANIFEST": 0o644,
        "out/lyon": 0o755,
        "out/lyon/wg0.conf": 0o600,
        "out/paris": 0o755,
        "out/paris/wg0.conf": 0o600,
    }


def test_a_pipe_is_no_key(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lyon.key", 0o600)
    with pytest.raises(GinnelError, match="something else"):
        Keyring(tmp_path).private_key("lyon")


# ---------------------------------------------------------------- what is interrupted


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_rotation_that_was_killed_is_ended_and_loses_no_key(
    here: Path, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    monkeypatch.chdir(here)
    assert run(["keys", "new"]) == 0
    assert run(["keys", "rotate", "lyon", "--do"]) == 0
    coming = Secret.from_base64((here / "network.keys/lyon.next.key").read_text().strip())

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(rotate.Keyring, "promote", killed)
        run(["keys", "rotate", "lyon", "--do"])
    if cancelled:
        assert run(["keys", "rotate", "lyon", "--cancel"]) == 1
    assert run(["keys", "rotate", "lyon", "--do"]) == 0
    kept = Secret.from_base64((here / "network.keys/lyon.key").read_text().strip())
    lock = parse_lock((here / "network.lock.toml").read_text(), "lock")
    assert public_key(kept) == public_key(coming) == lock.nodes["lyon"].public_key
    assert lock.nodes["lyon"].next_key is None
    assert not (here / "network.keys/lyon.next.key").exists()
    assert run(["keys", "status"]) == 0


def test_a_day_that_no_month_has(here: Path) -> None:
    assert ginnel(here, "keys", "new").returncode == 0
    lock = here / "network.lock.toml"
    text = lock.read_text()
    lock.write_text(text.replace('key_since = "2', 'key_since = "2026-02-31" # "2'))
    done = ginnel(here, "keys", "status")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"expected a day such as 2026-11-21, found '2026-02-31'" in done.stderr


# ---------------------------------------------------------------- what is too much


def test_a_directory_of_too_many_files_or_of_too_much_is_not_read(tmp_path: Path) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    few.mkdir()
    many.mkdir()
    for number in range(20):
        with (few / f"{number}.toml").open("wb") as file:
            file.truncate(1 << 20)
    for number in range(1001):
        (many / f"{number}.toml").touch()
    for directory in (few, many):
        done = ginnel(tmp_path, "check", str(directory))
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"expected at most 1000 network files, and 16 MiB" in done.stderr


def test_a_pipe_in_a_directory_is_no_file_of_the_network(here: Path) -> None:
    os.mkfifo(here / "a.toml")
    assert ginnel(here, "path", ".", "paris", "lyon").returncode == 0


def test_a_mistake_does_not_quote_a_line_without_end(here: Path) -> None:
    lans = ", ".join(["'10.1.2.0/24'"] * 20_000)
    (here / "network.toml").write_text(f"{NETWORK}lans = [{lans}]\n")
    done = ginnel(here, "check")
    assert done.returncode == 1
    assert len(done.stdout + done.stderr) < 4000


def test_a_key_of_a_million_parts(here: Path) -> None:
    (here / "network.toml").write_text(f"{NETWORK}{'a.' * 1_000_000}b = 1\n")
    done = ginnel(here, "graph")
    assert done.returncode == 1
    assert b"a key has too many parts" in done.stderr


def test_words_that_are_too_many_are_not_obeyed_either(here: Path) -> None:
    done = ginnel(here, "graph", "network.toml", "\x1b]0;owned\x07")
    assert done.returncode == 2
    assert b"\x1b" not in done.stderr
