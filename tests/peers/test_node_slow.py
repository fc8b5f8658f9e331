"""What takes half a minute because it is judged over half a minute: silence, and the hold-down of a route that went round."""

from __future__ import annotations

import subprocess

import pytest

from namespaces import Net, wait_until
from peers.test_node import Joined, Routed, Start, answer, reaches
from peers.test_node import start as start  # noqa: PLC0414 - the fixture


@pytest.mark.slow
def test_silence_is_explained_and_a_hold_down_ends(net: Net, start: Start) -> None:
    round_trip = Joined(net, start)
    round_trip.left_space.ip("route", "add", "192.0.2.2/32", "dev", "gre1")
    reaches(round_trip.left, "configured", "no: held: the route to 192.0.2.2 goes through gre1 itself")
    round_trip.left_space.ip("route", "del", "192.0.2.2/32", "dev", "gre1")

    three = Routed(net, start)
    chain = "type filter hook forward priority 0; ip protocol 47 drop"
    three.router.run("nft", "-f", "-", stdin=f"table ip f {{ chain c {{ {chain}\n}}\n}}")
    three.left_space.popen("ping", "-n", "-q", "-i", "1", "10.9.0.2", stdout=subprocess.DEVNULL)
    why = "protocol 47 seems filtered on the way: 198.51.100.2 answers ping but nothing came back for "

    reaches(round_trip.left, "configured", "yes: ", 40)
    assert round_trip.left_space.ping("10.9.0.2")
    assert "released interface=gre1 held_s=3" in round_trip.left.said()

    reaches(three.left, "carrying", f"no: {why}", 40)
    assert answer(three.left, "carrying").endswith('; encapsulation = "udp" goes around it')
    assert "path_filtered interface=gre1" in three.left.said()
    three.router.run("nft", "delete", "table", "ip", "f")
    wait_until(lambda: three.left_space.ping("10.9.0.2", within_s=0.2), 5, "traffic")
    reaches(three.left, "carrying", "yes: ", 15)
