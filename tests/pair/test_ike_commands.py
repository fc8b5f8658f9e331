"""What a person asks of a connection, in whatever order and however soon after another."""

from __future__ import annotations

import pytest

from ginnel.testing.ike import Net, pair


@pytest.mark.parametrize("pause_s", [0.0, 0.001, 1.0])
def test_terminated_and_initiated_again_it_is_up_again(pause_s: float) -> None:
    """Also before the peer has answered the DELETE."""
    net = Net()
    left, right = pair(net)
    assert net.run_until(lambda: net.carries(left, right), 5)
    before = left.view().ike.spi_i
    left.do(lambda ike, now: ike.terminate("t", now))
    net.run(pause_s)
    left.do(lambda ike, now: ike.initiate("t", now))
    assert net.run_until(lambda: net.carries(left, right) and left.view().ike.spi_i != before, 10)
    net.run(30)
    assert net.carries(left, right)
    assert len(left.inbound) == len(right.inbound) == 1


def test_initiated_and_terminated_it_stays_down() -> None:
    net = Net()
    left, right = pair(net)
    assert net.run_until(lambda: net.carries(left, right), 5)
    left.do(lambda ike, now: ike.initiate("t", now))
    left.do(lambda ike, now: ike.terminate("t", now))
    left.do(lambda ike, now: ike.initiate("t", now))
    left.do(lambda ike, now: ike.terminate("t", now))
    net.run(60)
    assert not net.carries(left, right)
    assert (left.view().state, left.view().ike, right.view().ike) == ("down", None, None)
    assert not left.inbound
    assert not right.inbound
