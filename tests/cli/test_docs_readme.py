"""What README.md shows of a whole network is what its commands print: they are run, in its order, with its file."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

from quick_world import GINNEL, ROOT

ENV = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
MEND = "relay = true"


def blocks() -> list[str]:
    """The indented blocks of the section, without their margin."""
    section = (ROOT / "README.md").read_text().partition("## A whole network from one file\n")[2].partition("\n## ")[0]
    return [textwrap.dedent(found) for found in re.findall(r"(?m)(?:^    .*\n(?:\n(?=    ))*)+", section)]


def transcript(text: str) -> Iterator[tuple[list[str], str]]:
    """Each command, and what is shown of it."""
    for part in re.split(r"(?m)^\$ ginnel ", text)[1:]:
        command, _, shown = part.partition("\n")
        yield command.split(), shown.rstrip("\n")


def printed(words: list[str], directory: Path) -> str:
    done = subprocess.run([*GINNEL, *words], capture_output=True, text=True, env=ENV, cwd=directory, check=False, timeout=60)
    assert done.returncode in (0, 1)
    assert done.stderr == ""
    return done.stdout.rstrip("\n")


def test_the_network_of_the_readme_does_what_the_readme_says(tmp_path: Path) -> None:
    file, wrong, *right = blocks()
    (tmp_path / "network.toml").write_text(file)
    ((check, shown),) = transcript(wrong)
    assert printed(check, tmp_path) == shown
    assert f"mend: {MEND} in [node.paris]" in shown
    (tmp_path / "network.toml").write_text(file.replace("[node.paris]\n", f"[node.paris]\n{MEND}\n"))
    commands = [each for block in right for each in transcript(block)]
    assert len(commands) == 9
    for words, shown in commands:
        whole, *elided = re.split(r"(?m)^…(?:\n|$)", shown)
        found = printed(words, tmp_path)
        assert found.startswith(whole.rstrip("\n")), words
        assert elided or found == whole, words
    assert (tmp_path / "acme.svg").read_text().endswith("</svg>\n")


def test_every_page_is_in_the_index_and_every_link_leads_somewhere() -> None:
    docs = ROOT / "docs"
    named = set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (docs / "README.md").read_text()))
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")} - {"README.md"}
    assert pages - named == set()
    for page in (ROOT / "README.md", ROOT / "examples" / "README.md", *docs.rglob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
