"""`ginnel path`: text, JSON, exit codes, mistakes; the documentation's transcripts, run and compared."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from ginnel import crypto
from ginnel.cli.main import run

ROOT = Path(__file__).resolve().parents[2]
HOWTO = (ROOT / "docs" / "howto" / "path.md").read_text()
TRANSCRIPTS = re.findall(r"```console\n\$ ginnel (.+)\n((?:.*\n)+?)```\n", HOWTO)

NETWORK = """\
[network]
name = "acme"
pool = ["10.10.0.0/24"]
[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24"]
relay = true
[node.frankfurt]
endpoint = "198.51.100.20"
relay = true
[node.lyon]
lans = ["10.40.0.0/24"]
[node.nice]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "network.toml").write_text(NETWORK)
    return tmp_path


def test_the_transcripts_were_found() -> None:
    assert len(TRANSCRIPTS) >= 2


@pytest.mark.parametrize(("command", "printed"), TRANSCRIPTS, ids=[command for command, _ in TRANSCRIPTS])
def test_what_the_documentation_shows_is_what_is_printed(
    command: str, printed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert run(shlex.split(command)) == int("does not reach" in printed)
    assert capsys.readouterr().out == printed


def test_there_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["path", "lyon", "10.20.0.5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("lyon reaches 10.20.0.5\n\nthere  10.10.0.3 → 10.20.0.5\n  1  lyon\n")
    assert "\nback   10.20.0.5 → 10.10.0.3\n" in out
    assert "mtu    1420 bytes pass whole" in out


def test_the_file_comes_first(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = here / "other.toml"
    other.write_text(NETWORK.replace("10.20.0.0", "10.99.0.0"))
    assert run(["path", "other.toml", "lyon", "10.99.0.5"]) == 0
    assert run(["path", "lyon", "10.99.0.5"]) == 1
    assert "[no-route]" in capsys.readouterr().out
    assert not (here / "other.lock.toml").exists(), "who only looks pins nothing"


def test_what_is_held_ready(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["path", "lyon", "nice"]) == 0
    assert "\nheld ready  frankfurt, if paris fails: lyon → frankfurt → nice\n" in capsys.readouterr().out
    assert run(["path", "--without", "paris", "lyon", "nice"]) == 0
    assert "to frankfurt" in capsys.readouterr().out
    assert run(["path", "--without", "paris", "lyon", "10.20.0.5"]) == 1
    assert "[down]" in capsys.readouterr().out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["path", "--json", "lyon", "nice"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["reaches"], found["why"], found["mtu"]) == (
        "ginnel.path/1",
        True,
        "lyon → paris → nice",
        1420,
    )
    assert [hop["node"] for hop in found["there"]["hops"]] == ["lyon", "paris", "nice"]
    assert found["back"]["stop"] is None
    assert found["standby"] == [{"without": "paris", "reaches": True, "why": "lyon → frankfurt → nice"}]
    assert run(["path", "--json", "lyon", "10.99.0.1"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["there"]["stop"]["code"], found["back"], found["standby"]) == ("no-route", None, [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lyon"], "expected [FILE] FROM TO, found 1 words"),
        (["lyn", "nice"], "expected a node or an address, found 'lyn'"),
        (["lyon", "10.20.0.5.7"], "expected a node or an address, found '10.20.0.5.7'"),
        (["lyon", "\x1b[31mnice"], "expected a node or an address"),
        (["--without", "nobody", "lyon", "nice"], "--without: there is no node 'nobody'"),
        (["--hosts", ".", "network.toml", "lyon", "nice"], "--hosts takes the place of FILE"),
        (["nowhere.toml", "lyon", "nice"], "nowhere.toml: No such file or directory"),
    ],
)
def test_called_wrongly(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["path", *arguments]) == 2
    found = capsys.readouterr()
    assert said in found.err
    assert found.out == ""
    assert "\x1b" not in found.err


def test_configurations_that_hosts_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [crypto.generate_private_key() for _ in range(2)]
    texts = [key.reveal_base64() for key in keys]
    public = [crypto.public_key(key) for key in keys]
    from ginnel.units import PublicKey

    shown = [PublicKey(each).base64() for each in public]
    files = {
        "hub": f"[Interface]\nPrivateKey = {texts[0]}\nAddress = 10.8.0.1/24\nListenPort = 51820\n"
        f"[Peer]\nPublicKey = {shown[1]}\nAllowedIPs = 10.8.0.2/32\n",
        "phone": f"[Interface]\nPrivateKey = {texts[1]}\nAddress = 10.8.0.2/24\n"
        f"[Peer]\nPublicKey = {shown[0]}\nEndpoint = vpn.example.org:51820\nAllowedIPs = 10.8.0.0/24, 192.168.7.0/24\n",
    }
    for name, text in files.items():
        (here / "hosts" / name).mkdir(parents=True)
        file = here / "hosts" / name / "wg0.conf"
        file.write_text(text)
        file.chmod(0o600)
    assert run(["path", "--hosts", "hosts", "phone", "hub"]) == 0
    assert run(["path", "--hosts", "hosts", "phone", "192.168.7.9"]) == 0
    out = capsys.readouterr().out
    assert "192.168.7.0/24 is hub's own LAN" in out
    assert not any(text in out for text in texts)
