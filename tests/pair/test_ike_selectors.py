"""Selectors that leave nothing to carry: an SA that the engine would take for one that carries everything is not made."""

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
