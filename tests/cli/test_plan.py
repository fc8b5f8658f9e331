"""`ginnel plan` from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cli.test_commands import ginnel

NETWORK = """\
[network]
name = "acme"
pool = ["10.10.0.0/24"]

[node.paris]
endpoint = "203.0.113.10"
relay = true
lans = ["10.20.0.0/24"]

[node.berlin]
endpoint = "203.0.113.20"
relay = true

[node.lyon]
lans = ["10.30.0.0/24"]

[node.nice]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("made") / "network.toml"
    file.write_text(NETWORK)
    assert ginnel("keys", "new", str(file)).returncode == 0
    assert ginnel("render", str(file), "--all", "-o", str(file.parent / "hosts")).returncode == 0
    return file


@pytest.fixture
def rendered(made: Path, tmp_path: Path) -> Path:
    """A network file, and in `hosts` beside it what was rendered of it."""
    shutil.copytree(made.parent, tmp_path / "copy")
    return tmp_path / "copy" / "network.toml"


@pytest.mark.parametrize("form", ["ginnel", "wg-quick", "networkd", "networkmanager"])
def test_what_was_rendered_is_as_it_should_be(rendered: Path, form: str) -> None:
    hosts = rendered.parent / form
    assert ginnel("render", str(rendered), "--all", "-o", str(hosts), "--as", form).returncode == 0
    done = ginnel("plan", str(rendered), "--against", str(hosts), "--exit-code")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Nothing to do: 4 hosts are as they should be.\n", "")


def test_a_change_is_told_and_is_an_exit_code_if_asked(rendered: Path) -> None:
    rendered.write_text(NETWORK.replace("10.30.0.0/24", "10.31.0.0/24"))
    against = ("plan", str(rendered), "--against", str(rendered.parent / "hosts"))
    done = ginnel(*against)
    assert done.returncode == 0
    assert "    wg0 lyon: AllowedIPs +10.31.0.0/24 -10.30.0.0/24\n" in done.stdout
    assert "allowed-ips 10.10.0.3/32,10.31.0.0/24\n" in done.stdout
    assert done.stdout.endswith("as they should be.\n")
    assert ginnel(*against, "--exit-code").returncode == 1
    assert "allowed-ips 10.10.0.3" not in ginnel(*against, "--short").stdout
    document = json.loads(ginnel(*against, "--json").stdout)
    assert (document["schema"], document["empty"]) == ("ginnel.network-plan/1", False)


def test_against_an_older_network_file(rendered: Path) -> None:
    newer = rendered.parent / "newer"
    newer.mkdir()
    (newer / "network.toml").write_text(NETWORK.replace('endpoint = "203.0.113.20"', 'endpoint = "203.0.113.21"'))
    (newer / "network.lock.toml").write_text((rendered.parent / "network.lock.toml").read_text())
    done = ginnel("plan", str(newer / "network.toml"), "--against", str(rendered), "--short")
    assert "    wg0 berlin: is found at 203.0.113.21:51820 instead of 203.0.113.20:51820\n" in done.stdout
    assert "sessions survive" in done.stdout


def test_without_a_relay_the_others_go_through_the_next(rendered: Path) -> None:
    done = ginnel("plan", str(rendered), "--without", "paris", "--short")
    assert done.returncode == 0
    assert "wg0 berlin: AllowedIPs +" in done.stdout
    assert "paris:" not in [line.split()[1] for line in done.stdout.splitlines() if line[:2] in ("~ ", "+ ", "- ")]


@pytest.mark.parametrize(
    "arguments", [(), ("--against", "x", "--without", "paris"), ("--without", "rome"), ("--against", "/does/not/exist")]
)
def test_wrong_calls(rendered: Path, arguments: tuple[str, ...]) -> None:
    done = ginnel("plan", str(rendered), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_plan_against_what_cannot_be_read_is_told_and_is_a_failure(rendered: Path) -> None:
    file = rendered.parent / "hosts" / "lyon" / "wg0.conf"
    file.write_text(file.read_text().replace("AllowedIPs = ", "AllowedIPs = 10.0.0.0/99, "))
    done = ginnel("plan", str(rendered), "--against", str(rendered.parent / "hosts"))
    assert done.returncode == 1
    assert "G0803" in done.stderr
