"""`ginnel graph` as it is called; and that Graphviz, librsvg and Compose read what is written for them."""

from __future__ import annotations

import os
import pty
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ginnel.cli.graph import draw
from ginnel.network import Compilation, Lock, allocate, parse_network
from ginnel.network.render import Secrets, docker
from ginnel.units import PublicKey
from quick_world import GINNEL, ROOT

ENV = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
EXAMPLES = sorted(path.parent.name for path in (ROOT / "examples").glob("*/network.toml"))


def ginnel(*argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GINNEL, *argv], capture_output=True, text=True, env=ENV, cwd=cwd, check=False, timeout=60)


def test_an_svg_unless_said_otherwise(tmp_path: Path) -> None:
    example = ROOT / "examples" / "three-sites"
    done = ginnel("graph", cwd=example)
    assert (done.returncode, done.stderr) == (0, "")
    assert ET.fromstring(done.stdout).tag == "{http://www.w3.org/2000/svg}svg"
    target = tmp_path / "network.svg"
    assert ginnel("graph", str(example / "network.toml"), "-o", str(target)).stdout == ""
    assert target.read_text() == done.stdout
    assert not list(example.glob("*.svg"))


def test_a_drawing_is_nothing_for_a_terminal() -> None:
    main, other = pty.openpty()
    with os.fdopen(main, "rb"), os.fdopen(other, "wb") as terminal:
        argv = [*GINNEL, "graph", str(ROOT / "examples" / "hub")]
        done = subprocess.run(argv, stdout=terminal, stderr=subprocess.PIPE, text=True, env=ENV, check=False, timeout=60)
    assert done.returncode == 2
    assert "nothing for a terminal" in done.stderr
    assert "-o network.svg" in done.stderr


@pytest.mark.parametrize("format_", ["dot", "mermaid"])
def test_the_texts(format_: str) -> None:
    done = ginnel("graph", str(ROOT / "examples" / "hub"), "--as", format_)
    assert done.returncode == 0
    assert done.stdout.startswith({"dot": "graph ", "mermaid": "%% "}[format_])


def test_what_is_wrong(tmp_path: Path) -> None:
    assert ginnel("graph", str(tmp_path / "none.toml")).returncode == 2
    assert ginnel("graph", cwd=tmp_path).returncode == 2
    assert ginnel("graph", "--as", "png", str(ROOT / "examples" / "hub")).returncode == 2
    done = ginnel("graph", str(ROOT / "examples" / "hub"), "-o", str(tmp_path / "no" / "where.svg"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such file or directory" in done.stderr
    wrong = tmp_path / "network.toml"
    wrong.write_text('[network]\nname = "x"\n')
    done = ginnel("graph", str(wrong))
    assert done.returncode == 1
    assert "pool" in done.stderr


@pytest.mark.parametrize("example", EXAMPLES)
def test_other_programs_read_every_example(example: str, tmp_path: Path) -> None:
    file = ROOT / "examples" / example / "network.toml"
    picture = tmp_path / "network.png"
    subprocess.run(["rsvg-convert", "-o", str(picture)], input=draw(file, "svg", relayed=True), text=True, check=True, timeout=60)
    assert picture.read_bytes().startswith(b"\x89PNG")
    lines = draw(file, "dot", relayed=True)
    laid_out = subprocess.run(["dot", "-Tsvg"], input=lines, capture_output=True, text=True, check=True, timeout=60)
    assert laid_out.stderr == ""
    titles = {title.text for title in ET.fromstring(laid_out.stdout).iter("{http://www.w3.org/2000/svg}title")}
    nodes = tomllib.loads(file.read_text())["node"]
    assert set(nodes) <= titles


@pytest.mark.parametrize(
    ("example", "node"), [("gre-ipsec-sites", "server-a"), ("three-sites", "paris"), ("road-warrior", "laptop")]
)
def test_compose_takes_what_is_rendered_for_it(example: str, node: str, tmp_path: Path) -> None:
    network = parse_network((ROOT / "examples" / example / "network.toml").read_text(), "network.toml")
    keys = {each.name: PublicKey(bytes([index + 1]) * 32) for index, each in enumerate(network.nodes)}
    compilation = Compilation(network, allocate(network, Lock()), keys)
    secrets = Secrets("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", {}, dict.fromkeys(keys, "a secret"))
    for file in docker.files(compilation.node(node), secrets):
        (tmp_path / file.name).write_bytes(file.content)
    checked = compose(tmp_path / "compose.yaml")
    assert (checked.returncode, checked.stderr) == (0, "")
    text = (tmp_path / "compose.yaml").read_text()
    (tmp_path / "broken.yaml").write_text(text.replace("cap_add", "cap_ad"))
    assert compose(tmp_path / "broken.yaml").returncode != 0, "a key that Compose does not know is refused"


def compose(file: Path) -> subprocess.CompletedProcess[str]:
    argv = ["docker-compose", "-f", str(file), "config", "--quiet"]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
