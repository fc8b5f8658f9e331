"""A private host for the commands."""

from __future__ import annotations

import pytest

from namespaces import Net
from quick_world import World


@pytest.fixture
def world(net: Net) -> World:
    """See `quick_world`."""
    return World.create(net)
