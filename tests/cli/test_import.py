"""`ginnel import` from the command line: what goes where, exit codes, and that nothing is written over."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from cli.test_commands import ginnel
from ginnel.cli.replace import write_over
from quick_world import ROOT
from unit.network.importing.fleets import base64_of, filled, fleet, preshared_key, private_key

SECRETS = [base64_of(private_key(name)) for name in ("hub", "alice", "bob")] + [preshared_key("alice", "hub")]


def laid_out(name: str, at: Path) -> Path:
    """A fleet of the corpus as files that only their owner reads."""
    for source in fleet(name):
        file = at / source.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(source.content)
        file.chmod(0o600)
    return at / name


def test_a_network_file_to_stdout_and_findings_to_stderr(tmp_path: Path) -> None:
    done = ginnel("import", str(laid_out("installer", tmp_path)))
    assert done.returncode == 0
    assert done.stdout.startswith("# Imported from the configurations of 3 hosts")
    assert 'hub = "installer"' in done.stdout
    assert "note G0810 renamed: bobs_laptop is called bobs-laptop" in done.stderr
    assert done.stderr.endswith("3 notes\n")
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)


def test_files_beside_one_another_and_their_plan_is_empty(tmp_path: Path) -> None:
    fleet_at, output = laid_out("installer", tmp_path), tmp_path / "acme.toml"
    assert ginnel("import", str(fleet_at), "-o", str(output)).returncode == 0
    assert 'name = "acme"' in output.read_text()
    assert "public_key" in (tmp_path / "acme.lock.toml").read_text()
    planned = ginnel("plan", str(output), "--against", str(fleet_at), "--exit-code")
    assert (planned.returncode, planned.stdout) == (0, "Nothing to do: 3 hosts are as they should be.\n")
    again = ginnel("import", str(fleet_at), "-o", str(output))
    assert again.returncode == 2
    assert "is there already" in again.stderr
    assert ginnel("import", str(fleet_at), "-o", str(output), "--force").returncode == 0


def test_the_guide_shows_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out("sites", tmp_path)
    monkeypatch.chdir(tmp_path)
    done = ginnel("import", "sites", "-o", "acme.toml")
    assert (done.returncode, done.stderr) == (0, "")
    guide = (ROOT / "docs" / "howto" / "import.md").read_text()
    assert f"-o acme.toml\n{done.stdout}" in guide
    assert f"```toml\n{(tmp_path / 'acme.toml').read_text()}```" in guide
    assert ginnel("plan", "acme.toml", "--against", "sites").stdout in guide
    wider = (tmp_path / "acme.toml").read_text().replace('["192.168.10.0/24"]', '["192.168.10.0/24", "192.168.11.0/24"]')
    (tmp_path / "acme.toml").write_text(wider)
    assert ginnel("plan", "acme.toml", "--against", "sites").stdout in guide


def test_errors_are_an_exit_code_and_the_file_is_written_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "lyon.conf"
    file.write_text(filled("[Interface]\nPrivateKey = @private a@\nAddress = 10.0.0.1/24\nMTU = many\n"))
    file.chmod(0o600)
    done = ginnel("import", str(file), "-o", str(tmp_path / "net.toml"))
    assert done.returncode == 1
    assert f"{file}:4:7: error G0803 value-not-understood" in done.stderr
    assert "[node.lyon]" in (tmp_path / "net.toml").read_text()


def test_a_file_that_others_can_read_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "lyon.conf"
    file.write_text(filled("[Interface]\nPrivateKey = @private a@\nAddress = 10.0.0.1/24\n"))
    file.chmod(0o644)
    done = ginnel("import", str(file))
    assert done.returncode == 1
    assert "G0602" in done.stderr


def test_a_host_said_outright(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("[Interface]\nAddress = 10.0.0.1/24\n")
    assert "[node.lyon]" in ginnel("import", f"lyon={file}").stdout


def test_json(tmp_path: Path) -> None:
    document = json.loads(ginnel("import", str(laid_out("web", tmp_path)), "--json").stdout)
    assert document["schema"] == "ginnel.import/1"
    assert document["left"]["empty"] is True
    assert [finding["code"] for finding in document["findings"]][-3:] == ["G0812", "G0812", "G0813"]
    assert "[node.mums-ipad]" in document["network"]


@pytest.mark.parametrize("arguments", [(), ("nowhere.conf",)])
def test_wrong_calls(arguments: tuple[str, ...]) -> None:
    done = ginnel("import", *arguments)
    assert (done.returncode, done.stdout) == (2, "")


def test_nothing_to_import(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "a.key").write_text("secret")
    done = ginnel("import", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "G0817 format-unknown" in done.stderr
    assert "a.key" not in done.stderr


def test_what_runs_here_is_read_as_wg_prints_it(tmp_path: Path) -> None:
    """`wg` itself reads what was imported: the file's stripped form is `wg showconf`'s."""
    text = filled("[Interface]\nPrivateKey = @private a@\n\n[Peer]\nPublicKey = @public b@\nAllowedIPs = 10.0.0.2/32\n")
    assert "[node.lyon]" in ginnel("import", f"lyon={_written(tmp_path / 'showconf', text)}").stdout
    public = subprocess.run(
        ["wg", "pubkey"], input=base64_of(private_key("a")), capture_output=True, text=True, check=True
    ).stdout
    ginnel("import", f"lyon={tmp_path / 'showconf'}", "-o", str(tmp_path / "n.toml"))
    assert public.strip() in (tmp_path / "n.lock.toml").read_text()


def _written(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o600)
    return file


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target in (pipe, tmp_path / "link"):
        if target != pipe:
            target.symlink_to(pipe)
        with pytest.raises(OSError, match="not an ordinary file"):
            write_over(target, "text")
        assert pipe.is_fifo()
    told = tmp_path / "there"
    (tmp_path / "other").symlink_to(told)
    write_over(tmp_path / "other", "text")
    assert (tmp_path / "other").is_symlink()
    assert told.read_text() == "text"
