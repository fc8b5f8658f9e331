"""
Fixtures that every test may use: namespaces, and waiting by polling.

Hypothesis measures no times (the machine may be busy), and tries the same examples in every run.

`net` makes namespaces and links as the test asks; `netns` is the common case, two namespaces joined by one veth pair.
Tests under tests/peers carry the marker `peers`. A missing tool fails the test that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from namespaces import Link, Namespace, Net
from namespaces import wait_until as poll_until

settings.register_profile("ginnel", deadline=None, derandomize=True)
settings.load_profile("ginnel")

PEERS = Path(__file__).parent / "peers"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything under tests/peers is marked `peers`."""
    for item in items:
        if PEERS in item.path.parents:
            item.add_marker(pytest.mark.peers)


@dataclass(frozen=True, slots=True)
class Joined:
    """Two namespaces and the link between them: 192.0.2.1 and 2001:db8::1 left, .2 and ::2 right."""

    left: Namespace
    right: Namespace
    link: Link


@pytest.fixture
def net() -> Iterator[Net]:
    """An empty net; what the test makes in it is gone afterwards."""
    with Net.create() as made:
        yield made


@pytest.fixture
def netns(net: Net) -> Joined:
    """Two namespaces joined by one veth pair."""
    left, right = net.namespace("a"), net.namespace("b")
    link = net.veth(left, right, ["192.0.2.1/24", "2001:db8::1/64"], ["192.0.2.2/24", "2001:db8::2/64"])
    return Joined(left, right, link)


@pytest.fixture
def run_in() -> Callable[..., str]:
    """`run_in(namespace, "ip", "address")`: stdout of a command that must succeed."""

    def run(space: Namespace, *argv: str, **options: Any) -> str:
        return space.run(*argv, **options)

    return run


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """`wait_until(predicate, seconds, "what")`: poll with a deadline."""
    return poll_until
