"""What docs/howto/gre.md and docs/reference/node-file.md show is what the parser takes and what the words of `ip` are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ginnel.config import node_host, nodefile
from ginnel.config.link_words import link_words
from ginnel.config.node_values import KEYS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ["howto/gre.md", "reference/node-file.md"]


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    found: list[str] = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", (DOCS / page).read_text())
    return found


EXAMPLES = [(page, text) for page in PAGES for text in blocks(page, "toml")]


def test_the_examples_were_found() -> None:
    assert len(blocks("howto/gre.md", "toml")) == 16
    assert len(blocks("reference/node-file.md", "toml")) >= 1


@pytest.mark.parametrize(("page", "text"), EXAMPLES, ids=[f"{page}-{number}" for number, (page, _) in enumerate(EXAMPLES)])
def test_every_example_is_a_node_file(page: str, text: str) -> None:
    assert nodefile.parse(text, f"/{page}.toml").plain


def test_each_ip_link_add_of_the_howto_is_what_one_of_its_examples_means() -> None:
    told = [line for text in blocks("howto/gre.md", "sh") for line in text.splitlines() if line.startswith("ip link add")]
    meant = {link_words(tunnel) for text in blocks("howto/gre.md", "toml") for tunnel in nodefile.parse(text, "x.toml").plain}
    assert len(told) == 13
    assert [line for line in told if line not in meant] == []


def test_every_key_is_in_the_reference() -> None:
    rows = re.findall(r"(?m)^\| (`.*?) \| ", (DOCS / "reference/node-file.md").read_text())
    named = {key for row in rows for key in re.findall(r"`([a-z0-9-]+)`", row)}
    assert set(KEYS) - named == set()
    assert {
        "kind",
        "hoplimit",
        "tclass",
        "dsfield",
        "backend",
        *node_host.READERS,
        "interval",
        "retries",
        "dialect",
    } - named == set()
