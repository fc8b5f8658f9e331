"""
Ends that are killed and started again, once, twice, both at once, in the middle of rekeyings and under loss: two seconds after
the last restart traffic flows both ways again, and in the end there is one IKE SA and one child.

A killed end has forgotten everything but its crash secret; its engine's SAs are gone with it. "start" begins by itself; "trap"
begins with a packet.
"""

from __future__ import annotations

import random

import pytest

from ginnel.units import NS_PER_S
from ike_pair import Host, IkePair

BACK_NS = 2 * NS_PER_S


def carrying(pair: IkePair) -> bool:
    """Both ends send with what the other receives."""
    return all(
        host.engine.outbound is not None and host.engine.outbound.spi in pair.other(host).engine.inbound for host in pair.hosts
    )


def restart(pair: IkePair, *hosts: Host) -> None:
    """All of them are killed at once and started one after another."""
    for host in hosts:
        host.kill()
    for host in hosts:
        host.add(pair.connections[0 if host is pair.a else 1])


def up(start: str, seed: int = 1) -> IkePair:
    pair = IkePair(traffic=True, seed=seed, start=start)
    pair.a.initiate()
    pair.run_for(1)
    assert carrying(pair), pair.story()
    return pair


def comes_back(pair: IkePair) -> None:
    """In time, and for good."""
    begin_ns = pair.clock.mono_ns
    while not carrying(pair):
        assert pair.clock.mono_ns - begin_ns <= BACK_NS, f"nothing flows 2 s later\n{pair.story()}"
        pair.step()
        pair.run_for(0.05)
    pair.check_settled()


@pytest.mark.parametrize("start", ["start", "trap"])
@pytest.mark.parametrize("who", ["a", "b", "ab"])
@pytest.mark.parametrize("after_s", [0.0, 1.0, 100.0])
def test_killed_and_started_again(start: str, who: str, after_s: float) -> None:
    pair = up(start)
    pair.run_for(after_s)
    restart(pair, *(host for host in pair.hosts if host.letter in who))
    comes_back(pair)


@pytest.mark.parametrize("start", ["start", "trap"])
@pytest.mark.parametrize("command", ["rekey_child", "rekey_ike"])
@pytest.mark.parametrize("steps", range(5))
def test_killed_in_the_middle_of_a_rekeying(start: str, command: str, steps: int) -> None:
    pair = up(start)
    getattr(pair.a, command)()
    for number in range(steps):
        host = pair.b if number % 2 == 0 else pair.a
        if pair.flight[host.letter]:
            pair.deliver(host)
    restart(pair, pair.b if steps % 2 else pair.a)
    comes_back(pair)


@pytest.mark.parametrize("seed", range(4))
def test_restarts_by_chance(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(25):
        pair = up(chance.choice(["start", "trap"]), chance.randrange(10**6))
        for _ in range(chance.choice([1, 2, 3])):
            host = chance.choice(pair.hosts)
            match chance.choice(["kill", "kill", "kill", "both", "rekey_child", "rekey_ike", "loss"]):
                case "kill":
                    restart(pair, host)
                case "both":
                    restart(pair, *pair.hosts)
                case "loss":
                    pair.run_for(5, lambda _: chance.random() < 0.5)
                case command:
                    getattr(host, command)()
            pair.run_for(chance.choice([0.01, 0.3, 2.5, 10]))
        comes_back(pair)


@pytest.mark.parametrize("hinted", [True, False])
def test_a_peer_that_only_waits_is_killed_before_it_has_our_answer(hinted: bool) -> None:
    """It asked for new keys of the IKE SA, and never heard that we made them: we do not wait for its next word for ever."""
    pair = IkePair(traffic=True, start="start", changes_b={"start": "wait"})
    pair.a.initiate()
    pair.run_for(1)
    assert carrying(pair), pair.story()
    pair.b.rekey_ike()
    pair.deliver(pair.a)
    pair.flight["b"].clear()
    restart(pair, pair.b)
    if not hinted:
        pair.flight["a"].clear()
    begin_ns = pair.clock.mono_ns
    while not carrying(pair):
        assert pair.clock.mono_ns - begin_ns <= (BACK_NS if hinted else 40 * NS_PER_S), f"nothing flows\n{pair.story()}"
        pair.step()
        pair.run_for(0.05)
    pair.check_settled()
