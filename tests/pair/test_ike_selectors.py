"""
Selectors that leave nothing to carry: an SA that the engine would take for one that carries everything is not made. And more of
them than each packet can be held against.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from ginnel.ikev2.effects import Refused
from ginnel.wire.ikev2 import Selector
from ike_pair import IkePair


def net(text: str, protocol: int = 0) -> Selector:
    prefix = ipaddress.ip_network(text)
    return Selector(protocol, 0, 65_535, prefix.network_address.packed, prefix.broadcast_address.packed)


BOTH_A = (net("10.1.0.0/16"), net("fd01::/64"))
BOTH_B = (net("10.2.0.0/16"), net("fd02::/64"))


@pytest.mark.parametrize(
    ("local_ts", "remote_ts"),
    [
        ((net("10.1.0.0/16"),), (net("fd02::/64"),)),
        ((net("fd01::/64"),), (net("10.2.0.0/16"),)),
        ((net("10.1.0.0/16", 6),), (net("10.2.0.0/16", 17),)),
    ],
    ids=["4 to 6", "6 to 4", "tcp to udp"],
)
def test_ends_without_a_family_or_protocol_in_common_are_refused(
    local_ts: tuple[Selector, ...], remote_ts: tuple[Selector, ...]
) -> None:
    pair = IkePair(transport=False)
    now = pair.clock.now()
    a, b = pair.connections
    pair.a.ike.change(replace(a, local_ts=local_ts, remote_ts=remote_ts), now)
    pair.b.ike.change(replace(b, local_ts=BOTH_B, remote_ts=BOTH_A), now)
    pair.a.initiate()
    pair.flush()
    for host in pair.hosts:
        assert not host.engine.inbound
        assert host.engine.outbound is None
    refused = pair.b.told(Refused)
    assert [(one.by, one.reason) for one in refused if isinstance(one, Refused)] == [("us", "selectors")]


def test_each_family_with_its_own_is_taken() -> None:
    pair = IkePair(transport=False)
    now = pair.clock.now()
    a, b = pair.connections
    pair.a.ike.change(replace(a, local_ts=BOTH_A, remote_ts=BOTH_B), now)
    pair.b.ike.change(replace(b, local_ts=BOTH_B, remote_ts=BOTH_A), now)
    pair.a.initiate()
    pair.flush()
    for host in pair.hosts:
        assert len(host.engine.inbound) == 1
        assert host.engine.outbound is not None


def pieces(second: int, count: int) -> tuple[Selector, ...]:
    return tuple(net(f"10.{second}.{at}.0/24") for at in range(count))


EVERYTHING = (net("0.0.0.0/0"),)


def test_a_peer_that_cuts_everything_into_pieces_is_narrowed_to_what_a_packet_can_be_held_against() -> None:
    pair = IkePair(transport=False)
    now = pair.clock.now()
    a, b = pair.connections
    pair.a.ike.change(replace(a, local_ts=pieces(1, 200), remote_ts=pieces(2, 200)), now)
    pair.b.ike.change(replace(b, local_ts=EVERYTHING, remote_ts=EVERYTHING), now)
    pair.a.initiate()
    pair.flush()
    for host in pair.hosts:
        (inbound,) = host.engine.inbound.values()
        assert len(inbound.source) * len(inbound.destination) <= 1024


def test_an_answer_in_more_pieces_than_that_is_refused_and_said() -> None:
    pair = IkePair(transport=False)
    now = pair.clock.now()
    a, b = pair.connections
    pair.a.ike.change(replace(a, local_ts=EVERYTHING, remote_ts=EVERYTHING), now)
    pair.b.ike.change(replace(b, local_ts=pieces(2, 40), remote_ts=pieces(1, 40)), now)
    pair.a.initiate()
    pair.flush()
    assert pair.a.engine.outbound is None
    lines = [one.lines[0] for one in pair.a.told(Refused) if isinstance(one, Refused)]
    assert lines[0] == "the peer answered with 40 traffic selectors for our side and 40 for its own: at most 1024 pairs are taken"
