"""The hold-down of a route that went round ends: half a minute in which nothing else may happen."""

from __future__ import annotations

import pytest

from namespaces import Net, wait_until
from peers.test_node import Joined, Start, reaches
from peers.test_node import start as start  # noqa: PLC0414 - the fixture


@pytest.mark.slow
def test_a_hold_down_ends(net: Net, start: Start) -> None:
    both = Joined(net, start)
    both.left_space.ip("route", "add", "192.0.2.2/32", "dev", "gre1")
    reaches(both.left, "configured", "no: held: the route to 192.0.2.2 goes through gre1 itself")
    both.left_space.ip("route", "del", "192.0.2.2/32", "dev", "gre1")
    reaches(both.left, "configured", "yes: ", 40)
    wait_until(lambda: both.left_space.ping("10.9.0.2", within_s=0.2), 5, "traffic")
    assert "released interface=gre1 held_s=3" in both.left.said()
