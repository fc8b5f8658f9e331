"""
ginnel beside Debian's wireguard-go and the Linux kernel: handshakes from either side, over IPv4 and IPv6, with and without a
preshared key, and everything that happens to a tunnel in its life. Each case asks both sides what they know.
"""

from __future__ import annotations

import pytest

from namespaces import wait_until
from peers.nodes import (
    Pair,
    fresh_psk,
    handshake_age_known,
    known_endpoint,
    ping,
    set_key,
    transfer,
    wg,
)


@pytest.mark.parametrize("with_psk", [False, True], ids=["plain", "psk"])
@pytest.mark.parametrize("initiator", ["subject", "other"])
@pytest.mark.parametrize("family", [4, 6], ids=["outer4", "outer6"])
def test_handshake(pair: Pair, family: int, initiator: str, with_psk: bool) -> None:
    """Either side starts, knowing the other's endpoint while it is not known itself; both inner families pass both ways."""
    pair.configure(
        family=family,
        psk=fresh_psk() if with_psk else None,
        subject_knows=initiator == "subject",
        other_knows=initiator == "other",
    )
    first, second = pair.sides(initiator)
    assert ping(first.node, second.inner4, within_s=4)
    assert ping(first.node, second.inner6, within_s=2)
    assert ping(second.node, first.inner4, count=5, within_s=2)
    assert ping(second.node, first.inner6, count=5, within_s=2)
    assert handshake_age_known(first.node, second.keys.public)
    assert handshake_age_known(second.node, first.keys.public)
    assert known_endpoint(second.node, first.keys.public) == first.endpoint(family)


@pytest.mark.parametrize("initiator", ["subject", "other"])
def test_bytes_are_counted_as_the_kernel_counts(pair: Pair, initiator: str) -> None:
    """Ten pings of 84 bytes: 10 x 128 in data messages, 148 for the initiation, 92 for the response, nothing else."""
    pair.configure(subject_knows=initiator == "subject", other_knows=initiator == "other")
    first, second = pair.sides(initiator)
    assert ping(first.node, second.inner4, count=10, within_s=4)
    assert transfer(first.node, second.keys.public) == (92 + 1280, 148 + 1280)
    assert transfer(second.node, first.keys.public) == (148 + 1280, 92 + 1280)


@pytest.mark.parametrize("initiator", ["subject", "other"])
def test_a_wrong_preshared_key_gives_no_session(pair: Pair, initiator: str) -> None:
    """Nothing passes and nobody claims a handshake; with the key put right, it does."""
    psk = fresh_psk()
    pair.configure(psk=psk)
    first, second = pair.sides(initiator)
    set_key(second.node, "preshared-key", fresh_psk(), "peer", first.keys.public)
    assert not ping(first.node, second.inner4, within_s=1)
    assert not handshake_age_known(first.node, second.keys.public)
    assert not handshake_age_known(second.node, first.keys.public)
    set_key(second.node, "preshared-key", psk, "peer", first.keys.public)
    # The next attempt of the side that has data waiting comes after REKEY_TIMEOUT.
    wait_until(lambda: ping(first.node, second.inner4, within_s=1), 12, "traffic with the right preshared key")


def test_wg_reads_what_we_say(pair: Pair) -> None:
    """Debian's `wg show` and `showconf` understand every line of ours."""
    pair.configure(psk=fresh_psk(), subject_keepalive=25)
    node = pair.subject.node
    assert ping(node, pair.other.inner4, within_s=4)
    (interface, peer) = [line.split("\t") for line in wg(node, "show", node.interface, "dump").splitlines()]
    assert interface[1:3] == [pair.subject.keys.public, "51820"]
    assert peer[0] == pair.other.keys.public
    assert peer[2] == pair.other.endpoint()
    assert peer[3].split(",") == pair.other.prefixes
    assert peer[7] == "25"
    assert f"ListenPort = {pair.subject.port}" in wg(node, "showconf", node.interface)
