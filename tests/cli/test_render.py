"""`ginnel render`: what is printed, what is written and who may read it, and what it says when something is in the way."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ginnel.cli import main
from quick_world import GINNEL, ROOT

#: A public key.
BOX = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM="

NETWORK = """\
[network]
name = "acme"
pool = ["10.10.0.0/24"]
psk = "random"

[node.paris]
endpoint = "203.0.113.10"
relay = true

[node.lyon]
runs = "networkd"

[node.phone]
runs = "wg-quick"

[node.box]
runs = "other"
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


Ginnel = Callable[..., Done]


@pytest.fixture
def ginnel(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Ginnel]:
    """The command, in this process: starting one for each would take longer than all that is tested here."""
    monkeypatch.chdir(here)
    before = os.umask(0o022)

    def run(*argv: str) -> Done:
        capfd.readouterr()
        code = main.run(list(argv))
        said = capfd.readouterr()
        return Done(code, said.out, said.err)

    yield run
    os.umask(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose keys are all made."""
    directory = tmp_path_factory.mktemp("network")
    (directory / "network.toml").write_text(NETWORK)
    command = [*GINNEL, "keys", "new"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    assert subprocess.run(command, cwd=directory, env=environment, capture_output=True, check=False, timeout=60).returncode == 0
    box = (*GINNEL, "keys", "new", "box", "--public", BOX)
    subprocess.run(box, cwd=directory, env=environment, capture_output=True, check=True, timeout=60)
    return directory


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "network"))


def secrets_of(directory: Path) -> list[str]:
    return [path.read_text().strip() for path in (directory / "network.keys").iterdir() if path.name != ".gitignore"]


def tree(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below it: content and mode."""
    return {
        str(path.relative_to(directory)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


# ---------------------------------------------------------------- one node


def test_one_file_is_printed_as_it_is_and_holds_no_secret(here: Path, ginnel: Ginnel) -> None:
    done = ginnel("render", "--for", "phone")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# acme: phone. Rendered by ginnel; changes belong in the network file.\n[Interface]\n")
    assert "PostUp = wg set %i private-key /etc/wireguard/%i.key\n" in done.stdout
    assert not any(secret in done.stdout for secret in secrets_of(here))


def test_several_files_are_each_behind_a_comment_with_their_place(here: Path, ginnel: Ginnel) -> None:
    done = ginnel("render", "network.toml", "--for", "lyon")
    assert done.returncode == 0
    heads = [line for line in done.stdout.splitlines() if line.startswith("# ====")]
    assert heads == ["# ==== /etc/systemd/network/10-wg0.netdev", "# ==== /etc/systemd/network/10-wg0.network"]


def test_keys_are_put_in_where_they_are_asked_for(here: Path, ginnel: Ginnel) -> None:
    done = ginnel("render", "--for", "phone", "--keys", "network.keys")
    assert done.returncode == 0
    assert f"PrivateKey = {(here / 'network.keys/phone.key').read_text()}" in done.stdout
    assert f"PresharedKey = {(here / 'network.keys/paris+phone.psk').read_text()}" in done.stdout


def test_a_secret_into_a_file_that_others_can_read_is_warned_of(here: Path) -> None:
    command = [*GINNEL, "render", "--for", "phone"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
    for words, warned in (["--keys", "network.keys"], True), ([], False):
        with (here / "seen").open("w") as out:
            (here / "seen").chmod(0o644)
            done = subprocess.run(
                [*command, *words],
                cwd=here,
                env=environment,
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
                check=True,
                timeout=60,
            )
        assert ("writing a secret to a file that others can read (mode 0644)" in done.stderr) == warned


def test_json_has_each_file(here: Path, ginnel: Ginnel) -> None:
    done = ginnel("render", "--for", "phone", "--keys", "network.keys", "--as", "setconf", "--json")
    report = json.loads(done.stdout)
    assert (report["schema"], report["node"]) == ("ginnel.render/1", "phone")
    (file,) = report["files"]
    assert (file["name"], file["secret"], file["executable"]) == ("wg0.setconf", True, False)
    assert "PrivateKey" in file["content"]


def test_a_picture_goes_where_it_is_told_0600(here: Path, ginnel: Ginnel) -> None:
    done = ginnel("render", "--for", "phone", "--keys", "network.keys", "--as", "png", "-o", "phone.png")
    assert (done.returncode, done.stdout) == (0, "new      phone.png\n")
    path = here / "phone.png"
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    code = ginnel("render", "--for", "phone", "--keys", "network.keys", "--as", "qr")
    assert set(code.stdout) == {"█", "▀", "▄", " ", "\n"}


def test_a_directory_gets_the_files_under_their_own_names(here: Path, ginnel: Ginnel) -> None:
    done = ginnel("render", "--for", "lyon", "-o", "lyon.d", "--keys", "network.keys")
    assert done.returncode == 0
    modes = {name: mode for name, (_, mode) in tree(here / "lyon.d").items()}
    assert modes == {"10-wg0.netdev": 0o600, "10-wg0.network": 0o644}
    again = ginnel("render", "--for", "lyon", "-o", "lyon.d", "--keys", "network.keys")
    assert (again.stdout, again.stderr) == ("", "2 of 2 files are as they were\n")


def test_what_was_allocated_is_pinned_before_it_is_handed_out(here: Path, ginnel: Ginnel) -> None:
    (here / "network.toml").write_text(NETWORK + '\n[node.brest]\nendpoint = "203.0.113.20"\n')
    assert ginnel("render", "--for", "brest").returncode == 0
    assert "[node.brest]" in (here / "network.lock.toml").read_text()


# ---------------------------------------------------------------- all nodes


def test_all_nodes_each_as_what_it_runs_and_only_what_changed_is_written(here: Path, ginnel: Ginnel) -> None:
    done = ginnel("render", "--all", "-o", "hosts", "--keys", "network.keys")
    assert done.returncode == 0, done.stderr
    first = tree(here / "hosts")
    assert set(first) == {
        "MANIFEST", "paris/wg0.conf", "lyon/10-wg0.netdev", "lyon/10-wg0.network", "phone/wg0.conf",
    }  # fmt: skip
    assert {name for name, (_, mode) in first.items() if mode == 0o600} == {
        "paris/wg0.conf",
        "lyon/10-wg0.netdev",
        "phone/wg0.conf",
    }
    assert "box: it runs something" in done.stderr
    subprocess.run(["sha256sum", "--check", "--quiet", "MANIFEST"], cwd=here / "hosts", check=True)
    times = {name: (here / "hosts" / name).stat().st_mtime_ns for name in first}

    done = ginnel("render", "--all", "-o", "hosts", "--keys", "network.keys")
    assert (done.returncode, done.stdout) == (0, "")
    assert {name: (here / "hosts" / name).stat().st_mtime_ns for name in first} == times

    (here / "network.toml").write_text(NETWORK.replace("203.0.113.10", "203.0.113.11"))
    done = ginnel("render", "--all", "-o", "hosts", "--keys", "network.keys")
    assert done.stdout == "changed  hosts/lyon/10-wg0.netdev\nchanged  hosts/phone/wg0.conf\n"


def test_what_is_no_nodes_any_more_is_named_and_removed_when_asked_and_nothing_else_is(here: Path, ginnel: Ginnel) -> None:
    assert ginnel("render", "--all", "-o", "hosts").returncode == 0
    (here / "hosts/phone/notes.txt").write_text("mine")
    (here / "network.toml").write_text(NETWORK.replace('[node.phone]\nruns = "wg-quick"\n', ""))
    for _ in range(2):  # it is not forgotten
        done = ginnel("render", "--all", "-o", "hosts")
        assert "stale    hosts/phone/wg0.conf\n" in done.stdout
        assert "--prune" in done.stderr
        assert (here / "hosts/phone/wg0.conf").exists()
    done = ginnel("render", "--all", "-o", "hosts", "--prune", "--json")
    assert json.loads(done.stdout)["pruned"] == ["phone/wg0.conf"]
    assert [path.name for path in (here / "hosts/phone").iterdir()] == ["notes.txt"]
    assert "phone" not in (here / "hosts/MANIFEST").read_text()


def test_a_node_that_cannot_be_rendered_keeps_its_files_and_the_others_are_written(here: Path, ginnel: Ginnel) -> None:
    assert ginnel("render", "--all", "-o", "hosts").returncode == 0
    (here / "network.toml").write_text(NETWORK + '\n[node.brest]\nendpoint = "203.0.113.20"\n')
    done = ginnel("render", "--all", "-o", "hosts")
    assert done.returncode == 1
    assert "brest has no public key yet" in done.stderr
    assert "stale" not in done.stdout
    assert ginnel("keys", "new").returncode == 0
    assert ginnel("render", "--all", "-o", "hosts").returncode == 0
    assert (here / "hosts/brest/wg0.conf").exists()


# ---------------------------------------------------------------- in the way


def test_nothing_is_written_through_a_symbolic_link(here: Path, ginnel: Ginnel) -> None:
    target = here / "elsewhere"
    target.mkdir()
    (here / "hosts").mkdir()
    (here / "hosts/phone").symlink_to(target)
    done = ginnel("render", "--all", "-o", "hosts", "--keys", "network.keys")
    assert done.returncode == 1
    assert "nothing is written through one" in done.stderr
    assert list(target.iterdir()) == []

    (here / "victim").write_text("as it was")
    (here / "out").mkdir()
    (here / "out/wg0.conf").symlink_to(here / "victim")
    done = ginnel("render", "--for", "phone", "-o", "out", "--keys", "network.keys")
    assert done.returncode == 1
    assert (here / "victim").read_text() == "as it was"


def test_a_manifest_that_leads_elsewhere_removes_nothing(here: Path, ginnel: Ginnel) -> None:
    (here / "victim").write_text("as it was")
    (here / "hosts").mkdir()
    (here / "hosts/MANIFEST").write_text(f"{'0' * 64}  ../victim\n")
    done = ginnel("render", "--all", "-o", "hosts", "--prune")
    assert done.returncode == 1
    assert "MANIFEST:1" in done.stderr
    assert (here / "victim").read_text() == "as it was"


def test_a_secret_file_that_others_could_read_is_made_anew(here: Path, ginnel: Ginnel) -> None:
    argv = ("render", "--for", "phone", "-o", "out", "--keys", "network.keys")
    assert ginnel(*argv).returncode == 0
    (here / "out/wg0.conf").chmod(0o644)
    assert ginnel(*argv).stdout == "changed  out/wg0.conf\n"
    assert stat.S_IMODE((here / "out/wg0.conf").stat().st_mode) == 0o600


def test_a_private_key_that_is_not_the_pinned_one_is_refused(here: Path, ginnel: Ginnel) -> None:
    (here / "network.keys/phone.key").write_text((here / "network.keys/lyon.key").read_text())
    done = ginnel("render", "--for", "phone", "--keys", "network.keys")
    assert done.returncode == 1
    assert "is not the key that the others know of phone" in done.stderr
    assert done.stdout == ""


def test_a_key_that_is_missing_is_named_and_the_file_looks_for_it_on_the_host(here: Path, ginnel: Ginnel) -> None:
    (here / "network.keys/paris+phone.psk").unlink()
    done = ginnel("render", "--for", "phone", "--keys", "network.keys")
    assert done.returncode == 0
    assert "no preshared key of phone and paris" in done.stderr
    assert "preshared-key /etc/wireguard/%i.paris.psk" in done.stdout


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "expected --for NODE or --all"),
        (("--all",), "expected -o DIR"),
        (("--for", "phone", "--all", "-o", "x"), "expected --for NODE or --all"),
        (("--for", "phome"), "did you mean phone?"),
        (("--for", "box"), "runs something that ginnel does not know"),
        (("--for", "phone", "--as", "windows"), "expected one of ginnel, wg-quick"),
        (("--for", "phone", "--keys", "nowhere"), "nowhere is no directory"),
        (("--for", "phone", "--as", "qr"), "it is not at hand"),
        (("--for", "phone", "--prune"), "--prune goes with --all"),
        (("nowhere.toml", "--for", "phone"), "nowhere.toml"),
    ],
)
def test_wrongly_called(ginnel: Ginnel, argv: tuple[str, ...], said: str) -> None:
    done = ginnel("render", *argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_formats_are_listed(ginnel: Ginnel) -> None:
    done = ginnel("render", "--formats")
    assert done.returncode == 0
    assert {"wg-quick", "networkd", "netplan", "png"} <= {line.split()[0] for line in done.stdout.splitlines()}
