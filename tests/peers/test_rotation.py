"""
What `ginnel keys rotate` says of sessions, measured: pings all the time while a key is replaced as its steps are, between the
engine and each other implementation, and who rotates is either of them.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest

from namespaces import wait_until
from peers.nodes import Keys, Pair, Side, fresh_psk, latest_handshake, ping, set_key, wg

#: Between pings, s; few enough that a slow guest answers each.
INTERVAL_S = 0.05


class Pinging:
    """Pings from the subject to the other, all the time; `lost` ends it."""

    def __init__(self, pair: Pair) -> None:
        argv = ["ping", "-n", "-i", str(INTERVAL_S), "-W", "1", pair.other.inner4]
        self._process = pair.space.popen(*argv, stdout=subprocess.PIPE, text=True)
        self._pair = pair

    def lost(self) -> tuple[int, int]:
        """How many it sent, and how many of these did not come back."""
        self._process.send_signal(2)
        said, _ = self._process.communicate(timeout=10)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        assert found, said
        sent, received = int(found[1]), int(found[2])
        # The last may still be on its way when it is told to end.
        return sent, max(0, sent - received - 1)


def seen(pair: Pair, times: int = 10) -> None:
    """Some pings, one after the other: what was done has had its time to do harm."""
    assert ping(pair.subject.node, pair.other.inner4, count=times, interval_s=INTERVAL_S)


@pytest.mark.peers
@pytest.mark.parametrize("first", ["subject", "other"])
def test_a_new_preshared_key_costs_no_packet_and_holds_in_the_next_handshake(pair: Pair, first: str) -> None:
    pair.configure(psk=fresh_psk())
    assert ping(pair.subject.node, pair.other.inner4, within_s=4)
    one, two = pair.sides(first)
    psk = fresh_psk()
    pinging = Pinging(pair)
    seen(pair)
    for near, far in ((one, two), (two, one)):
        set_key(near.node, "preshared-key", psk, "peer", far.keys.public)
        seen(pair)
    sent, lost = pinging.lost()
    assert sent >= 10
    assert lost == 0
    # Both forget the session: what follows is a handshake with the new key.
    for near, far in ((one, two), (two, one)):
        wg(near.node, "set", near.node.interface, "peer", far.keys.public, "remove")
        give(near, far, far.keys.public, psk)
    wait_until(lambda: ping(pair.subject.node, pair.other.inner4, within_s=0.5), 15, "a handshake with the new key")


def give(near: Side, far: Side, public: str, psk: str | None = None) -> None:
    """*near* has the key *public* of *far* with all of its prefixes."""
    words = ["endpoint", far.endpoint(), "allowed-ips", ",".join(far.prefixes)]
    wg(near.node, "set", near.node.interface, "peer", public, *words)
    if psk is not None:
        set_key(near.node, "preshared-key", psk, "peer", public)


@pytest.mark.peers
@pytest.mark.parametrize("who", ["subject", "other"])
def test_the_first_step_costs_no_packet_and_the_second_one_handshake(pair: Pair, who: str) -> None:
    pair.configure()
    assert ping(pair.subject.node, pair.other.inner4, within_s=4)
    node, peer = pair.sides(who)
    before = latest_handshake(peer.node, node.keys.public)
    coming = Keys.fresh()
    pinging = Pinging(pair)
    seen(pair)
    wg(peer.node, "set", peer.node.interface, "peer", coming.public, "endpoint", node.endpoint())
    seen(pair)
    sent, lost = pinging.lost()
    assert sent >= 10
    assert lost == 0
    assert latest_handshake(peer.node, node.keys.public) == before, "the session is the same"

    set_key(node.node, "private-key", coming.private)
    assert not ping(pair.subject.node, pair.other.inner4, within_s=0.3), "its sessions have ended"
    give(peer, node, coming.public)
    wait_until(lambda: ping(pair.subject.node, pair.other.inner4, within_s=0.5), 15, "the link with the new key")
    renewed = replace(node, keys=coming)
    assert latest_handshake(peer.node, renewed.keys.public) > 0
    allowed = wg(peer.node, "show", peer.node.interface, "allowed-ips")
    assert re.search(rf"{re.escape(node.keys.public)}\s+\(none\)", allowed), "the old key has lost its prefixes"
