"""Fixtures of the tests against other implementations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from namespaces import Net
from peers.guest import Guest
from peers.nodes import OTHERS, Pair, make_pair


@pytest.fixture(scope="session")
def guest() -> Iterator[Guest]:
    """The Linux kernel in QEMU, booted once."""
    with Net.create() as net:
        booted = Guest.boot(net)
        yield booted
        booted.close()


@pytest.fixture
def make(net: Net, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Pair]]:
    """`make("kernel")`: a started pair, stopped at the end."""
    pairs: list[Pair] = []

    def made(other: str) -> Pair:
        booted = request.getfixturevalue("guest") if other == "kernel" else None
        directory = tmp_path / str(len(pairs))
        directory.mkdir()
        pair = make_pair(net, other, directory, booted)
        pairs.append(pair)
        return pair

    yield made
    for pair in pairs:
        pair.stop()


@pytest.fixture(params=OTHERS)
def pair(request: pytest.FixtureRequest, make: Callable[..., Pair]) -> Pair:
    """The subject beside each other implementation in turn."""
    return make(request.param)
