"""What the how-tos about whole networks show is what the parser takes, and what it becomes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ginnel.network import Lock, allocate, compile_network, parse_network
from ginnel.network.hostrules import host_part

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["howto/protected-origin.md", "howto/overlapping-lans.md"]
HEAD = '[network]\nname = "acme"\npool = ["10.10.0.0/24"]\n'


def blocks(page: str) -> list[str]:
    found: list[str] = re.findall(r"(?ms)^```toml\n(.*?)^```$", (DOCS / page).read_text())
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_network_is_one(page: str) -> None:
    (text,) = blocks(page)
    network = parse_network(text if text.startswith("[network]") else HEAD + text, page)
    assert compile_network(network, allocate(network, Lock()), {})


def test_what_the_pages_say_it_becomes() -> None:
    (text,) = blocks("howto/protected-origin.md")
    network = parse_network(text, "network.toml")
    compiled = compile_network(network, allocate(network, Lock()), {})
    origin = compiled["origin"]
    assert [each.interface for each in (origin, *origin.beside)] == ["wg0", "wg-edge-b"]
    assert [each.node.table for each in (origin, *origin.beside)] == ["20101", "20102"]
    assert str(origin.address[0]).startswith("10.10.0.3/"), "as the page has it for ssh"
    (text,) = blocks("howto/overlapping-lans.md")
    network = parse_network(HEAD + text, "network.toml")
    lyon = host_part(compile_network(network, allocate(network, Lock()), {})["lyon"])
    shown = (DOCS / "howto/overlapping-lans.md").read_text()
    for name, head, rules in lyon.chains:
        if name != "mapped_here":
            assert re.search(rf"chain {name} +{{ {re.escape(head)} {re.escape(rules[0])}", shown)
