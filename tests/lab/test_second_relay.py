"""A relay fails, and what `ginnel plan --without` says is done on the running nodes: traffic is back, and no session was lost."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.conftest import GINNEL, LabRunner
from namespaces import wait_until


@pytest.fixture
def kept(lab: LabRunner, example: Callable[[str], Path]) -> Iterator[Path]:
    path = example("bounce")
    ran = lab(path, "--keep", "--throughput", "0")
    assert ran.code == 0, ran.stderr + ran.stdout
    yield path
    assert lab(path, "--down").code == 0


def test_the_second_relay_takes_over_by_moved_prefixes_alone(lab: LabRunner, kept: Path) -> None:
    def on(node: str, *argv: str, check: bool = True) -> str:
        done = subprocess.run(
            [GINNEL, "lab", str(kept), "--enter", node, "--", *argv],
            capture_output=True, text=True, check=False, timeout=60, env=lab.environment(),
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def reaches() -> bool:
        return "1 received" in on("home", "ping", "-n", "-c1", "-W1", "10.27.0.5", check=False)

    def handshakes(node: str) -> dict[str, str]:
        lines = on(node, "ginnel", "show", "wg0", "latest-handshakes").splitlines()
        return dict(line.split("\t") for line in lines)

    keys = {f"KEY-OF-{name}": on(name, "ginnel", "show", "wg0", "public-key").strip() for name in ("bounce", "spare")}
    assert reaches()
    before = {name: handshakes(name)[keys["KEY-OF-spare"]] for name in ("home", "office", "laptop")}
    on("bounce", "ginnel", "down", "/run/lab/wg0.conf")
    assert not reaches()

    done = subprocess.run(
        [GINNEL, "plan", str(kept), "--without", "bounce", "--json"], capture_output=True, text=True, check=True, timeout=60
    )
    plan = json.loads(done.stdout)
    changed = {host["name"]: host["steps"] for host in plan["hosts"] if host["status"] == "changed"}
    assert set(changed) == {"home", "office", "laptop"}
    for name, steps in changed.items():
        assert {step["sessions"] for step in steps} == {"kept"}
        for step in steps:
            for words in step["commands"]:
                assert words[:2] == ["wg", "set"], "nothing but prefixes moves: the routes lead to the same device"
                on(name, "ginnel", "set", *(keys.get(word, word) for word in words[2:]))
    wait_until(reaches, 5, "the way by the second relay")
    assert "1 received" in on("office", "ping", "-n", "-c1", "-W1", "fd10:26::5")
    for name, shaken in before.items():
        assert handshakes(name)[keys["KEY-OF-spare"]] == shaken, "the session was there, and is the same"
