"""
Protected tunnels: what one engine seals the other opens, whatever the suite, the mode, the encapsulation and the way.

What is refused is in `test_esp_refusals`, what changes under traffic in `test_esp_rekey`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from namespaces import fresh_net
from native.esp_rig import SUITES, paired
from native.plain_rig import Wire, joined

#: (kind, family outside, families inside).
KINDS = [
    ("gre", 4, (4, 6)),
    ("gre", 6, (4, 6)),
    ("gretap", 4, (4, 6)),
    ("gretap", 6, (4,)),
    ("ipip", 4, (4,)),
    ("sit", 4, (6,)),
    ("ip6tnl", 6, (4, 6)),
    ("ipsec", 4, (4, 6)),
    ("ipsec", 6, (4, 6)),
]


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Two namespaces that all tests of this file share."""
    with fresh_net() as net, joined(net) as made:
        yield made


@pytest.mark.parametrize(("kind", "family", "inner"), KINDS)
def test_every_kind_in_every_mode_by_every_way(wire: Wire, kind: str, family: int, inner: tuple[int, ...]) -> None:
    with paired(wire, kind, family=family) as pair:
        for transport in (False, True):
            for udp in (False, True):
                if transport and kind == "ipsec":
                    continue
                spis = pair.install(transport=transport, udp=udp)
                for version in inner:
                    pair.echo(version)
                    pair.stream(version)
                pair.remove(spis)
        assert "bad_icv" not in pair.far.drops()


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite(wire: Wire, suite: str) -> None:
    with paired(wire) as pair:
        for esn in (False, True):
            for transport, udp in ((True, True), (False, False)):
                spis = pair.install(suite, transport=transport, udp=udp, esn=esn)
                # Every length of padding.
                for size in range(100, 117):
                    pair.echo(size=size)
                pair.stream()
                pair.remove(spis)
        # (Before there were SAs the kernel had something to say to its groups.)
        assert pair.far.drops().keys() <= {"no_sa"}
