"""What docs/howto/ipsec*.md show is what the parser takes, and what they say of the MTU, proposals and refusals is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ginnel.config import ipsec_values, layers, nodefile
from ginnel.config.ipsec_profiles import PROFILES
from ginnel.config.node import PlainConfig
from ginnel.ikev2 import algorithms, explain, proposals, selectors

DOCS = Path(__file__).resolve().parents[2] / "docs"
REFERENCE = (DOCS / "reference" / "node-file.md").read_text()
PAGES = sorted(path.name for path in (DOCS / "howto").glob("ipsec*.md"))


def page(name: str) -> str:
    return (DOCS / "howto" / name).read_text()


def blocks(name: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language ("" for none)."""
    found: list[str] = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", page(name))
    return found


def tunnels(name: str) -> list[PlainConfig]:
    return [nodefile.parse(text, f"/{name}.toml").plain[0] for text in blocks(name, "toml")]


EXAMPLES = [(name, number) for name in PAGES for number in range(len(blocks(name, "toml")))]


def test_the_pages_were_found() -> None:
    assert sorted(["ipsec.md", *(f"ipsec-with-{peer}.md" for peer in PROFILES)]) == PAGES
    assert len(EXAMPLES) == 21


@pytest.mark.parametrize(("name", "number"), EXAMPLES)
def test_every_example_is_a_protected_tunnel_of_that_peer(name: str, number: int) -> None:
    found = tunnels(name)[number]
    assert found.ipsec is not None
    if name != "ipsec.md":
        assert f"ipsec-with-{found.ipsec.peer}.md" == name


@pytest.mark.parametrize("peer", PROFILES)
def test_a_page_says_whether_it_was_tried(peer: str) -> None:
    text = page(f"ipsec-with-{peer}.md")
    assert ("Not tried with" in text) == (not PROFILES[peer].tried)
    assert ("\nTried with" in text) == PROFILES[peer].tried
    row = next(line for line in page("ipsec.md").splitlines() if f"(ipsec-with-{peer}.md)" in line)
    assert ("| yes |" in row) == PROFILES[peer].tried


def test_the_reference_names_every_key_every_profile_and_every_algorithm() -> None:
    for key in ipsec_values.KEYS:
        assert f"`{key}`" in REFERENCE, key
    for peer, profile in PROFILES.items():
        row = next(line for line in REFERENCE.splitlines() if line.startswith(f'| `"{peer}"` |'))
        assert all(f"`{text}`" in row for text in (*profile.ike, *profile.esp))
    for one in algorithms.TABLE:
        word = one.word.removeprefix("prf")
        assert bool(one.engine) == (f"`{word}`" in REFERENCE), one.word
    for proposal in (*proposals.default_ike(), *proposals.default_esp()):
        assert f"`{proposals.words(proposal)}`" in REFERENCE


def inside(tunnel: PlainConfig) -> int:
    """The MTU inside on a link of 1500, as `up` would choose it."""
    return min(stack.inner(1500) for stack in layers.stacks(tunnel))


def example(options: str, kind: str = "gre") -> PlainConfig:
    text = f'[tunnel.t]\nkind = "{kind}"\nlocal = "203.0.113.10"\nremote = "198.51.100.20"\n[tunnel.t.ipsec]\npsk-file = "t"\n'
    return nodefile.parse(text + options, "/t.toml").plain[0]


def test_the_sums_of_the_pages() -> None:
    gcm, cbc = 'esp = "aes256gcm16"\n', 'esp = "aes256-sha256"\n'
    raw, tunnel = 'encapsulation = "raw"\n', 'mode = "tunnel"\n'
    assert [inside(example(one)) for one in (gcm + raw, gcm, cbc + raw, cbc)] == [1442, 1434, 1434, 1418]
    assert "has 1442 inside as protocol 50 and 1434 in UDP; with AES-CBC and SHA2-256 1434 and 1418" in page("ipsec.md")
    assert inside(example(gcm + raw + tunnel)) == 1442 - 20
    assert inside(example(cbc + tunnel)) == 1398
    assert "(1398)" in page("ipsec-with-cisco-ios.md")
    for peer, kind, mtu in (
        ("cisco-ios", "gre", 1434),
        ("cisco-ios", "ipsec", 1438),
        ("vyos", "gre", 1434),
        ("vyos", "ipsec", 1438),
        ("juniper", "gre", 1414),
        ("juniper", "ipsec", 1438),
    ):
        assert inside(example(f'peer = "{peer}"\n', kind)) == mtu
        assert f"mtu {mtu}" in page(f"ipsec-with-{peer}.md")


def test_the_refusals_of_the_page_are_those_that_are_told() -> None:
    told = page("ipsec.md")
    offered, configured = (
        proposals.parse_list(["aes128-sha1-modp1024"], "ike"),
        proposals.parse_list(PROFILES["cisco-ios"].ike, "ike"),
    )
    difference = proposals.select(offered, configured, ke=True)
    assert isinstance(difference, proposals.Difference)
    here, there = bytes((203, 0, 113, 10)), bytes((198, 51, 100, 20))
    networks = [selectors.parse_words(text).at(here) for text in ("10.20.0.0/24", "10.30.0.0/24")]
    for lines in (
        explain.no_proposal("ike", offered, configured, difference),
        explain.selectors_refused(networks[:1], networks[1:], [selectors.host(here, 47)], [selectors.host(there, 47)]),
        explain.no_answer("198.51.100.20", 500, 60, answered=False),
    ):
        assert "\n".join(["```", *lines, "```"]) in told
