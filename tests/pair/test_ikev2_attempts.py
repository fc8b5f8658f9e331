"""
Attempts whose other end forgets them on the way: a responder that is pressed, or was started anew between the two exchanges.

It says INVALID_IKE_SPI in the open to what it does not know, and that is nobody's word: the attempt goes on for a while, and
another is begun beside it, one at a time.
"""

from __future__ import annotations

import pytest

from ginnel.ikev2.effects import Path, Refused
from ginnel.testing.ike import LEFT, RIGHT, Datagram, Host, Net, pair
from ginnel.units import NS_PER_S
from ginnel.wire.ikev2 import Exchange, Header, Message, Notify, NotifyType, build

AUTH = Exchange.IKE_AUTH


def forgotten(host: Host) -> Message:
    """INVALID_IKE_SPI for the newest attempt of *host*, as anybody could send who sees it."""
    asked = next(one.header for one in reversed(host.net.sent) if one.is_(host.name, AUTH, response=False))
    header = Header(asked.spi_i, asked.spi_r, asked.exchange, False, True, asked.message_id)
    return Message(header, (Notify(NotifyType.INVALID_IKE_SPI),))


def test_a_responder_that_was_started_anew_between_the_exchanges_costs_no_minute() -> None:
    net = Net()
    left, right = pair(net)
    assert net.run_until(lambda: any(one.is_("left", AUTH, response=False) for one in net.sent), 1)
    right.restart()
    assert net.run_until(lambda: net.carries(left, right), 2)
    net.run(120)
    assert net.carries(left, right)
    assert len(left.inbound) == len(right.inbound) == 1
    assert not left.told(Refused), "the forgotten attempt is no failure"
    assert not left.reserved


@pytest.mark.parametrize("lost", [False, True])
def test_a_forged_word_ends_no_attempt_and_begins_one_more_at_most(lost: bool) -> None:
    net = Net()

    def rule(one: Datagram) -> list[int]:
        if one.is_("right", AUTH, response=True):
            return [] if lost and one.sent_ns < began + 4 * NS_PER_S else [NS_PER_S]
        return [net.delay_ns]

    began = net.clock.mono_ns
    net.rule = rule
    left, right = pair(net)
    assert net.run_until(lambda: any(one.is_("left", AUTH, response=False) for one in net.sent), 1)
    path = Path(LEFT, RIGHT, 500, False)
    for _ in range(50):
        left.do(lambda ike, now: ike.receive(build(forgotten(left)), path, now))
        net.run(0.01)
    begun = {one.header.spi_i for one in net.sent if one.sender == "left" and one.header.exchange == Exchange.IKE_SA_INIT}
    assert len(begun) == 2
    assert net.run_until(lambda: net.carries(left, right), 10)
    net.run(120)
    assert net.carries(left, right)
    assert len(left.inbound) == len(right.inbound) == 1
    assert not left.reserved
    assert not right.reserved


def test_from_elsewhere_it_is_not_even_heard() -> None:
    net = Net()
    left, _ = pair(net)
    assert net.run_until(lambda: any(one.is_("left", AUTH, response=False) for one in net.sent), 1)
    path = Path(LEFT, bytes((198, 51, 100, 7)), 500, False)
    left.do(lambda ike, now: ike.receive(build(forgotten(left)), path, now))
    net.run(30)
    assert len({one.header.spi_i for one in net.sent if one.is_("left", Exchange.IKE_SA_INIT, response=False)}) == 1
