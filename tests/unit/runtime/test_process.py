"""Readiness and detaching, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ginnel.errors import UsageError
from ginnel.runtime import daemon, process, wireguard_main

SRC = str(Path(process.__file__).parents[2])


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": SRC},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_readiness_says_one_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    ready = process.Readiness(writing)
    ready.ready()
    ready.ready()
    assert os.read(reading, 100) == b"ready\n"
    assert os.read(reading, 100) == b"", "and the pipe is closed"
    os.close(reading)
    reading, writing = os.pipe()
    process.Readiness(writing).failed("no\n  hint: yes")
    assert os.read(reading, 100) == b"error: no\n  hint: yes\n"
    assert capsys.readouterr().err == "no\n  hint: yes\n"
    os.close(reading)


def test_a_starter_that_went_away_does_not_matter() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process.Readiness(writing).ready()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"ready\n", None),
        (b"error: no\n  hint: yes\n", "no\n  hint: yes"),
        (b"", "the process ended before it was ready, without a word"),
        (b"rea", "rea"),
    ],
)
def test_what_a_child_says(said: bytes, expected: str | None) -> None:
    reading, writing = os.pipe()
    os.write(writing, said)
    os.close(writing)
    assert process.wait_for_report(reading) == expected
    os.close(reading)


def test_detaching_returns_what_the_child_says() -> None:
    ready = "from ginnel.runtime import process as p\nimport os,sys\nr = p.detach(p.Readiness(None), keep_stderr=False)\n"
    done = python(ready + "if isinstance(r, int): sys.exit(r)\nr.ready()")
    assert (done.returncode, done.stderr) == (0, "")
    done = python(ready + "if isinstance(r, int): sys.exit(r)\nr.failed('no')")
    assert (done.returncode, done.stderr) == (1, "no\n"), "said once, by the parent"
    done = python(ready + "if isinstance(r, int): sys.exit(r)\nos._exit(3)")
    assert (done.returncode, done.stderr) == (1, "the process ended before it was ready, without a word\n")


def test_hardening_holds() -> None:
    done = python(
        "import ctypes, os, resource\nfrom ginnel.runtime import process\nprocess.slim()\nprocess.harden()\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE), os.umask(0))"
    )
    assert done.stdout == f"0 (0, 0) {0o077}\n"


def test_the_process_imports_nothing_heavy() -> None:
    done = python("import sys, ginnel.runtime.wireguard_main\nprint('\\n'.join(sys.modules))")
    heavy = {"click", "pydantic", "pyroute2", "rich", "ginnel.cli", "ginnel.linux", "ginnel.network", "ginnel.testing"}
    assert heavy & set(done.stdout.split()) == set()


@pytest.mark.parametrize("name", ["wg0", "a", "fifteen-letters", "a.b_c=d+e-f"])
def test_names_that_an_interface_may_have(name: str) -> None:
    assert daemon.check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "sixteen-letters-", "ü", "a\n", "a:b"])
def test_names_that_none_may_have(name: str) -> None:
    with pytest.raises(UsageError, match="expected the name of an interface"):
        daemon.check_name(name)


@pytest.mark.parametrize(
    ("arguments", "environment", "foreground"),
    [
        (["wg0"], {}, False),
        (["-f", "wg0"], {}, True),
        (["--foreground", "wg0"], {}, True),
        (["wg0"], {"WG_PROCESS_FOREGROUND": "1"}, True),
        (["wg0"], {"WG_PROCESS_FOREGROUND": "0"}, False),
    ],
)
def test_the_command_line_of_wireguard_go(arguments: list[str], environment: dict[str, str], foreground: bool) -> None:
    assert wireguard_main.parse(arguments, environment) == (daemon.Options("wg0"), foreground)


@pytest.mark.parametrize("text", ["x", "-1", "1e3", "9" * 12])
def test_descriptors_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="WG_TUN_FD"):
        wireguard_main.parse(["wg0"], {"WG_TUN_FD": text})


@pytest.mark.parametrize(
    ("number", "step", "word"),
    [
        (2, "/dev/net/tun", "modprobe tun"),
        (1, "TUNSETIFF wg0", "CAP_NET_ADMIN"),
        (16, "TUNSETIFF wg0", "ip link show wg0"),
        (5, "x", "Input"),
    ],
)
def test_refusals_of_the_kernel_are_explained(number: int, step: str, word: str) -> None:
    assert word in daemon.explain(OSError(number, os.strerror(number), step), "wg0")
