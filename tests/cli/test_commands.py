"""Commands that touch no host: keys, help, exit codes, strip; and how little they load."""

from __future__ import annotations

import os
import pty
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ginnel.cli.main import COMMANDS, SECTIONS
from quick_world import GINNEL, ROOT

ENV = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
HEAVY = ("pyroute2", "rich", "pydantic", "asyncio", "hypothesis", "ginnel.runtime", "ginnel.lab", "ginnel._native")


def ginnel(*argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GINNEL, *argv], capture_output=True, text=True, input=stdin, env=ENV, check=False, timeout=60)


def test_keys_are_wgs_keys() -> None:
    private = ginnel("genkey").stdout
    assert len(private) == 45
    theirs = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout
    assert ginnel("pubkey", stdin=private).stdout == theirs
    for _ in range(3):
        private = subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout
        theirs = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout
        assert ginnel("pubkey", stdin=private).stdout == theirs
    assert len(ginnel("genpsk").stdout) == 45
    assert ginnel("genpsk").stdout != ginnel("genpsk").stdout


@pytest.mark.parametrize("text", ["", "x", "A" * 44, "A" * 43 + "= trailing"])
def test_pubkey_refuses_what_is_no_key_and_does_not_repeat_it(text: str) -> None:
    done = ginnel("pubkey", stdin=text)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "expected a private key of 44 base64 characters" in done.stderr
    assert "AAAA" not in done.stderr


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, True), (0o640, True)])
def test_genkey_warns_of_a_file_that_others_can_read(mode: int, warned: bool, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch()
    path.chmod(mode)
    with path.open("w") as file:
        done = subprocess.run([*GINNEL, "genkey"], stdout=file, stderr=subprocess.PIPE, text=True, env=ENV, check=True)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert (f"mode {mode:04o}" in done.stderr) == warned
    assert len(path.read_text()) == 45


def test_every_command_is_in_one_section_of_the_help() -> None:
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(COMMANDS)


def test_help_lists_every_command() -> None:
    done = ginnel("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("group", ["node", "keys"])
def test_no_line_of_a_groups_help_is_cut_off(group: str) -> None:
    assert "..." not in ginnel(group, "--help").stdout.partition("Commands:")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists_and_explains_itself(name: str) -> None:
    done = ginnel(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"Usage: ginnel {name}" in done.stdout


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ([], 2, "Usage: ginnel"),
        (["shwo"], 2, "No such command 'shwo'. Did you mean 'show'?"),
        (["up"], 2, "Missing argument 'NAME|FILE'"),
        (["up", "x", "--json"], 2, "--json goes with --dry-run"),
        (["show", "all", "nonsense"], 2, "expected one of public-key, private-key"),
        (["show", "all", "dump", "--json"], 2, "--json goes without a field"),
        (["set", "wg0"], 2, "expected something to set"),
        (["set", "wg0", "colour", "red"], 2, "expected an option that may stand before the first peer, found 'colour'"),
        (["set", "wg0", "listen-port"], 2, "expected a value after listen-port, found nothing"),
        (["set", "wg0", "listen-port", "70000"], 1, "listen-port: expected a port from 0 to 65535, found '70000'"),
        (["set", "wg0", "peer", "nobody"], 1, "expected a key of 44 base64 characters or the name of a peer, found neither"),
        (["set", "wg0", "private-key", "/nonexistent"], 1, "/nonexistent: No such file or directory"),
        (["strip", "/nonexistent/wg0.conf"], 1, "wg0.conf does not exist"),
    ],
)
def test_wrong_calls_are_2_and_failures_are_1_with_words_on_stderr(argv: list[str], code: int, said: str) -> None:
    done = ginnel(*argv)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_hint_for_the_file_that_lies_here(tmp_path: Path) -> None:
    (tmp_path / "mine7.conf").write_text("[Interface]\n")
    for argument in ("mine7", "mine7.conf"):
        done = subprocess.run([*GINNEL, "strip", argument], capture_output=True, text=True, env=ENV, cwd=tmp_path, check=False)
        assert done.returncode == 1
        assert "hint: for the file here: ./mine7.conf" in done.stderr


def test_strip_passes_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "wg0.conf"
    path.write_bytes(b"# na\xefve\n[Interface]\nMTU = 1400\nListenPort = 1\n")
    done = subprocess.run([*GINNEL, "strip", str(path)], capture_output=True, env=ENV, check=True)
    assert done.stdout == b"# na\xefve\n[Interface]\nListenPort = 1\n\n"


def test_links_in_a_circle_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "edge.toml").symlink_to("edge.toml")
    done = ginnel("up", "--dry-run", str(tmp_path / "edge.toml"))
    assert done.returncode == 1
    assert done.stderr.endswith("edge.toml: expected a file, found symbolic links that lead to themselves\n")


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("{} mtu gre > /dev/full", 1, "ginnel: output: No space left on device\n"),
        ("{} genkey > /dev/full", 1, "ginnel: output: No space left on device\n"),
        ("{} mtu gre >&-", 0, ""),
        ("{} mtu gre <&- >&-", 0, ""),
        ("{} mtu nonsense 2>&-", 2, ""),
    ],
)
def test_output_that_cannot_be_written_is_no_traceback(shell: str, code: int, said: str) -> None:
    command = shell.format(" ".join(GINNEL))
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=ENV, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_a_reader_that_has_enough_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "wg0.conf"
    path.write_text("[Interface]\n" + "# line\n" * 100_000)
    command = " ".join([*GINNEL, "strip", str(path)])
    done = subprocess.run(["bash", "-c", f"{command} | head -1"], capture_output=True, text=True, env=ENV, check=False)
    assert done.stdout == "[Interface]\n"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_help_loads_nothing_heavy_and_is_quick() -> None:
    code = (
        "import sys\nfrom ginnel.cli.main import run\nassert run(['--help']) == 0\n"
        f"print(sorted(m for m in sys.modules for h in {HEAVY!r} if m == h or m.startswith(h + '.')), file=sys.stderr)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=ENV, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stderr.strip() == "[]"
    # 0.2 s of wall time on an idle machine; processor time is what a shared one can promise.
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime <= 0.2


def test_show_loads_no_netlink_library() -> None:
    code = "import sys\nimport ginnel.cli.show, ginnel.cli.devices\n"
    code += "print([m for m in ('pyroute2', 'rich', 'asyncio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=ENV, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("extra", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_only_on_a_terminal_that_wants_it(extra: dict[str, str], coloured: bool) -> None:
    env = {key: value for key, value in ENV.items() if key != "NO_COLOR"} | {"TERM": "xterm"} | extra
    master, slave = pty.openpty()
    done = subprocess.run([*GINNEL, "strip", "/nonexistent/wg0.conf"], stderr=slave, stdout=subprocess.PIPE, env=env, check=False)
    os.close(slave)
    text = os.read(master, 65536).decode()
    os.close(master)
    assert done.returncode == 1
    assert ("\x1b[" in text) == coloured
