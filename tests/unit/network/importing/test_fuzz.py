"""Whatever a file holds, reading it, making a network of it and planning against it end, and end without an exception."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ginnel.network.importing import Source, read_hosts
from ginnel.network.importing.infer import infer
from ginnel.network.lint import lint
from ginnel.network.plan import plan
from unit.network.importing.fleets import FLEETS, fleet
from unit.network.importing.test_formats import ODD, SWANCTL
from unit.network.importing.test_secrets import FORMATS

CORPUS = [source for name in FLEETS for source in fleet(name)] + [Source(path, text.encode()) for path, text in FORMATS.items()]
CORPUS += [Source("lyon/wg0.conf", ODD.encode()), Source("lyon/swanctl.conf", SWANCTL.encode())]
PIECES = (
    "[Peer]",
    "[Interface]",
    "=",
    "/",
    "0.0.0.0/0",
    "{",
    "}",
    "\t",
    "\0",
    "\n",
    ",",
    "-1",
    "99999999999999999999",
    "é",
    "::/0",
    "#",
)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The same with some pieces gone, doubled, moved or strange."""
    text = bytearray(content)
    for _ in range(chance.randint(1, 12)):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(4):
            case 0:
                del text[at : at + chance.randint(1, 30)]
            case 1:
                text[at:at] = chance.choice(PIECES).encode()
            case 2:
                text[at:at] = text[at : at + 60]
            case _:
                text[at : at + 1] = bytes([chance.randrange(256)])
    return bytes(text)


def all_of_it(sources: list[Source]) -> None:
    imported = read_hosts(sources)
    inferred = infer(imported.hosts)
    lint(imported.hosts)
    assert plan(imported.hosts, imported.hosts).empty
    plan(imported.hosts, [])
    assert all(finding.slug for finding in (*imported.findings, *inferred.findings))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.sampled_from(CORPUS), min_size=1, max_size=4), st.integers(0, 2**32))
def test_files_that_somebody_spoiled(sources: list[Source], seed: int) -> None:
    chance = random.Random(seed)
    all_of_it([Source(source.path, mutated(source.content, chance)) for source in sources])


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(FLEETS), st.integers(0, 2**32))
def test_fleets_of_which_a_file_is_spoiled(name: str, seed: int) -> None:
    chance = random.Random(seed)
    sources = fleet(name)
    at = chance.randrange(len(sources))
    sources[at] = Source(sources[at].path, mutated(sources[at].content, chance))
    all_of_it(sources)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200), st.binary(max_size=300))
def test_anything_at_all(path: str, content: bytes) -> None:
    all_of_it(
        [
            Source(path, content),
            Source(path + ".conf", b"[Interface]\n" + content),
            Source("x/ip-link.json", b'[{"ifname":' + content),
        ]
    )
    all_of_it([Source("x/deep.json", b'[{"dst":' + b"[" * 100_000), Source("x/swanctl.conf", b"connections {\n" + content * 3)])
