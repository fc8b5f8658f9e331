"""`ginnel mtu` without a network: tables, JSON, mistakes; the documentation's transcripts and figures, run and compared."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from ginnel.cli.main import run
from ginnel.mtu.text import describe

ROOT = Path(__file__).resolve().parents[2]
HOWTO = (ROOT / "docs" / "howto" / "mtu.md").read_text()
REFERENCE = (ROOT / "docs" / "reference" / "mtu.md").read_text()
TRANSCRIPTS = re.findall(r"```console\n\$ ginnel (.+)\n((?:.*\n)+?)```\n", HOWTO + REFERENCE)


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


def test_the_transcripts_were_found() -> None:
    assert len(TRANSCRIPTS) >= 2


@pytest.mark.parametrize(("command", "printed"), TRANSCRIPTS, ids=[command for command, _ in TRANSCRIPTS])
def test_what_the_documentation_shows_is_what_is_printed(command: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(command)) == 0
    assert capsys.readouterr().out == printed


def test_the_table_of_the_reference_is_the_arithmetic() -> None:
    rows = re.findall(r"^\| `([^`]+)`(?: \(Linux's default\))? \| (\d+|–) \| (\d+|–) \|$", REFERENCE, re.MULTILINE)
    assert len(rows) == 22
    for text, over4, over6 in rows:
        described = describe(text)
        expected = {4: over4, 6: over6}
        assert {family: str(described.over(family).inner(1500)) for family in described.families} == {
            family: cell for family, cell in expected.items() if cell != "–"
        }, text


def test_the_python_of_the_reference_says_what_it_says() -> None:
    (code,) = re.findall(r"```python\n((?:.*\n)+?)```", REFERENCE)
    checks = re.findall(r"^(mtu\..+?) +# (\d+)$", code, re.MULTILINE)
    assert len(checks) == 3
    space: dict[str, object] = {}
    exec("from ginnel import mtu", space)
    for expression, value in checks:
        assert eval(expression, space) == int(value)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mtu", "gre+key", "--over", "ipv6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": "ginnel.mtu/1",
        "stack": "gre+key",
        "interface": None,
        "interface_mtu": None,
        "learned_mtu": None,
        "link": 1500,
        "sums": [
            {
                "over": "ipv6",
                "layers": [{"name": "IPv6", "bytes": 40}, {"name": "GRE", "bytes": 4}, {"name": "GRE key", "bytes": 4}],
                "inner_mtu": 1452,
                "mss_ipv4": 1412,
                "mss_ipv6": 1392,
                "wire_bytes": 1500,
                "breaks_at": 1453,
                "breaks_wire_bytes": 1501,
                "notes": [],
            }
        ],
        "warnings": [],
        "proof": None,
    }


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (
            ["grr"],
            2,
            "no interface here is called 'grr', and as a stack: 'grr' is neither a tunnel nor an option\n  hint: did you mean",
        ),
        (["gre+kay"], 2, "'kay' is neither a tunnel nor an option\n  hint: did you mean key?"),
        (["esp(aes256)"], 2, "aes256 needs an integrity algorithm beside it"),
        (["ipip", "--over", "ipv6"], 2, "ipip over IPv6: it is over IPv4"),
        (["gre", "--link", "80"], 2, "the link must be 92 or more"),
        (["gre", "--link", "9"], 2, "9 is not in the range 68<=x<=65535"),
        (["gre", "--inside"], 2, "--inside and --outside say where HOST of --prove is"),
        (["gre", "--prove", "127.0.0.1", "--inside"], 2, "say --over ipv4 or --over ipv6"),
        (["gre", "--prove", "no.such.host.invalid"], 1, "--prove no.such.host.invalid: "),
        (["lo"], 1, "lo is none of the tunnels that ginnel runs: it is not a tunnel at all"),
    ],
)
def test_mistakes(argv: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mtu", *argv]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_proof_over_loopback(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its MTU is 65,536, so the largest packet there is passes."""
    assert run(["mtu", "gre", "--link", "65535", "--prove", host]) == 0
    assert "✓ the link says 65535: 65535 passes both ways, that is the largest there is" in capsys.readouterr().out
    assert run(["mtu", "gre", "--prove", host]) == 1
    printed = capsys.readouterr().out
    assert "✗ the link says 1500, and more passes: 65535 does" in printed
    assert "over a path of 65535 the inner MTU is" in printed


def test_colour_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run(["mtu", "gre", "--link", "1300"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b[1mgre\x1b[0m on a link of 1300" in printed
    assert "\x1b[36mnote:\x1b[0m over IPv4: 1276 is below 1280" in printed
    assert re.search(r"\x1b\[1m  inner MTU +1276 +1256\x1b\[0m", printed)


def test_a_sum_loads_nothing_heavy(capsys: pytest.CaptureFixture[str]) -> None:
    import subprocess

    code = "import sys\nfrom ginnel.cli.main import run\nrun(['mtu', 'gre'])\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pyroute2", "rich", "pydantic", "asyncio", "ginnel._native", "ginnel.linux.echo"}
    assert not heavy & set(done.stderr.split())
