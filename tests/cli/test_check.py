"""`ginnel check`, as it is called: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ginnel.network.codes import CODES
from ginnel.network.codes.reference import explain, reference

ROOT = Path(__file__).parents[2]
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}

TWO = """\
[network]
name = "acme"
pool = ["10.10.0.0/24"]

[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24"]

[node.lyon]
lans = ["10.30.0.0/24"]
"""

KEY_A = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
KEY_B = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
KEY_C = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="


def ginnel(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """One command."""
    command = [sys.executable, "-P", "-m", "ginnel.cli.main", "check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=ENV, cwd=cwd, check=False, timeout=60)


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*/network.toml")), ids=lambda path: path.parent.name)
def test_the_examples_are_in_order(example: Path) -> None:
    done = ginnel(str(example), "--strict", cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_what_is_to_be_mended_is_said_in_the_words_of_the_network_file(tmp_path: Path) -> None:
    file = tmp_path / "network.toml"
    silent = f"{TWO}keepalive = 0\n"
    file.write_text(silent)
    done = ginnel(cwd=tmp_path)
    assert "mend: keepalive = 25 in [node.lyon]" in done.stdout
    file.write_text(silent.replace("keepalive = 0", "keepalive = 25"))
    assert ginnel(cwd=tmp_path).stdout == "nothing to mend in 1 file, 2 nodes\n"
    apart = TWO.replace('name = "acme"', 'name = "acme"\nshape = "none"') + '[[expect]]\nfrom = "lyon"\nto = "paris"\n'
    file.write_text(apart)
    done = ginnel(cwd=tmp_path)
    assert done.returncode == 1
    assert "mend: a [[link]] between them" in done.stdout
    file.write_text(f'{apart}[[link]]\nbetween = ["lyon", "paris"]\n')
    assert ginnel(cwd=tmp_path).returncode == 0


def test_a_directory_of_nothing_is_no_answer(tmp_path: Path) -> None:
    done = ginnel(str(tmp_path), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing there to check" in done.stderr


def test_the_usual_file_and_nothing_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text(TWO)
    done = ginnel(cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing to mend in 1 file, 2 nodes\n", "")
    assert not (tmp_path / "network.lock.toml").exists()


def test_a_mistake_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text(TWO.replace("10.30.0.0/24", "10.20.0.128/25"))
    done = ginnel(cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == (
        "network.toml:10:9: error G0402 lans-overlap: lyon's lan 10.20.0.128/25 overlaps paris's lan 10.20.0.0/24: a packet for "
        "both has one way to go\n"
        '    lans = ["10.20.0.128/25"]\n'
        "            ^^^^^^^^^^^^^^^^\n"
        "  and network.toml:7:9:\n"
        '    lans = ["10.20.0.0/24"]\n'
        "            ^^^^^^^^^^^^^^\n"
        "  mend: give each site its own range, or let the network know both by others: "
        '{ seen = "10.120.0.0/24", real = "…" }\n'
        "\n"
        "1 error in 1 file, 2 nodes\n"
    )


def test_form_comes_first_and_has_codes_too(tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text(TWO.replace("endpoint", "endpiont"))
    done = ginnel("--json", cwd=tmp_path)
    assert done.returncode == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["code"].startswith("G09")
    assert finding["places"][0]["line"] == 6


def test_an_expectation_is_judged_by_the_model(tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text(TWO + '[[expect]]\nfrom = "lyon"\nto = "paris"\nreaches = false\n')
    done = ginnel(cwd=tmp_path)
    assert done.returncode == 1
    assert "network.toml:11:1: error G0701 expect-fails: lyon is expected not to reach paris" in done.stdout


def test_a_lock_file_that_is_broken_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text(TWO)
    (tmp_path / "network.lock.toml").write_text("<<<<<<< ours\n")
    done = ginnel(cwd=tmp_path)
    assert done.returncode == 1
    assert "network.lock.toml" in done.stdout
    assert "G0913" in done.stdout


def _foreign(directory: Path, lyon_sees: str = "10.10.0.1/32") -> None:
    (directory / "paris.conf").write_text(
        f"[Interface]\nAddress = 10.10.0.1/24\nPrivateKey = {KEY_C}\nListenPort = 51820\n\n"
        f"[Peer]\nPublicKey = {_public(KEY_B)}\nAllowedIPs = 10.10.0.2/32\n"
    )
    (directory / "lyon.conf").write_text(
        f"[Interface]\nAddress = 10.10.0.2/24\nPrivateKey = {KEY_B}\n\n"
        f"[Peer]\nPublicKey = {_public(KEY_C)}\nAllowedIPs = {lyon_sees}\nEndpoint = 203.0.113.10:51820\n"
    )
    for name in ("paris.conf", "lyon.conf"):
        (directory / name).chmod(0o600)


def _public(private: str) -> str:
    return subprocess.run(
        [sys.executable, "-P", "-m", "ginnel.cli.main", "pubkey"],
        input=private,
        capture_output=True,
        text=True,
        env=ENV,
        check=True,
    ).stdout.strip()


def test_hosts_of_others_that_agree(tmp_path: Path) -> None:
    _foreign(tmp_path)
    done = ginnel("paris.conf", "lyon.conf", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing to mend in 2 files, 2 nodes\n", "")


def test_hosts_of_others_that_do_not(tmp_path: Path) -> None:
    _foreign(tmp_path, lyon_sees="10.10.0.9/32")
    done = ginnel(".", cwd=tmp_path)
    assert done.returncode == 1
    head = done.stdout.splitlines()[0]
    assert "error G0104 address-not-accepted: lyon does not accept 10.10.0.1 from paris" in head
    assert "mend: at lyon, in the peer paris: AllowedIPs = 10.10.0.9/32, 10.10.0.1/32" in done.stdout
    assert done.stdout.endswith("1 error in 2 files, 2 nodes\n")
    for secret in (KEY_B, KEY_C):
        assert secret not in done.stdout


def test_warnings_fail_when_they_are_to_and_codes_can_be_left_out(tmp_path: Path) -> None:
    _foreign(tmp_path)
    text = (tmp_path / "paris.conf").read_text()
    (tmp_path / "paris.conf").write_text(text.replace("51820", "51821"))
    assert ginnel(".", cwd=tmp_path).returncode == 0
    assert ginnel(".", "--strict", cwd=tmp_path).returncode == 1
    done = ginnel(".", "--strict", "--ignore", "endpoint-port", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "nothing to mend in 2 files, 2 nodes (1 left out)\n")


def test_a_file_that_others_can_read(tmp_path: Path) -> None:
    _foreign(tmp_path)
    (tmp_path / "lyon.conf").chmod(0o644)
    done = ginnel("--json", ".", cwd=tmp_path)
    whole = json.loads(done.stdout)
    assert done.returncode == 1
    assert whole["schema"] == "ginnel.check/1"
    assert (whole["errors"], whole["warnings"], whole["files"], whole["nodes"]) == (1, 0, 2, 2)
    assert whole["findings"][0]["code"] == "G0602"
    assert whole["findings"][0]["mend"] == "chmod 600 lyon.conf"


def test_what_others_wrote_does_not_reach_the_terminal(tmp_path: Path) -> None:
    _foreign(tmp_path)
    with (tmp_path / "lyon.conf").open("a") as stream:
        stream.write("\x1b]0;owned\x07 = 1\n[\x1b[2J]\n")
    done = ginnel(".", cwd=tmp_path)
    assert "\x1b" not in done.stdout + done.stderr
    assert "\x07" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.toml",), "No such file"),
        (("--ignore", "G9999"), "expected a code such as G0102"),
        (("--explain", "nonsense"), "expected a code such as G0102"),
        ((), "no network.toml here"),
    ],
)
def test_wrongly_called(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = ginnel(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_code_is_explained(tmp_path: Path) -> None:
    by_number, by_name = ginnel("--explain", "g0102", cwd=tmp_path), ginnel("--explain", "allowed-ips-duplicate", cwd=tmp_path)
    assert by_number.stdout == by_name.stdout == explain("G0102")
    assert by_number.returncode == 0


def test_the_reference_is_that_of_the_codes() -> None:
    text = (ROOT / "docs" / "reference" / "check.md").read_text()
    mark = "<!-- What follows is printed by `ginnel check --explain all`. -->\n\n"
    assert text.partition(mark)[2] == reference(), "ginnel check --explain all has something else: put it below the mark"


def test_every_code_is_complete() -> None:
    slugs = [entry.slug for entry in CODES.values()]
    assert len(set(slugs)) == len(slugs)
    for code, entry in CODES.items():
        assert entry.meaning, code
        assert entry.example, code
        assert entry.mend, code


def test_node_files_of_two_hosts_are_hosts_like_any_other(tmp_path: Path) -> None:
    for name in ("edge.toml", "origin.toml"):
        (tmp_path / name).write_text((ROOT / "examples" / "gre-edge-origin" / name).read_text())
    done = ginnel(".", "--strict", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "nothing to mend in 2 files, 2 nodes\n")
    text = (tmp_path / "origin.toml").read_text()
    assert "key" not in text
    (tmp_path / "origin.toml").write_text(text.replace('kind = "gre"', 'kind = "gre"\nkey = 7'))
    done = ginnel(".", cwd=tmp_path)
    assert done.returncode == 1
    assert "G0311 tunnel-key-differs: edge's" in done.stdout
