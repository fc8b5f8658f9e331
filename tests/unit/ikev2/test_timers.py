"""Deadlines: the next one, in order, moved and cancelled; against a list that is sorted each time."""

from __future__ import annotations

import random

from ginnel.ikev2.timers import Timer, Timers


def test_each_comes_once_in_order() -> None:
    timers: Timers[str] = Timers()
    timers.arm("b", Timer.REKEY, 20)
    timers.arm("a", Timer.REKEY, 10)
    timers.arm("a", Timer.HARD, 30)
    assert timers.next_ns() == 10
    assert timers.pop_due(9) is None
    assert [timers.pop_due(30) for _ in range(4)] == [("a", Timer.REKEY), ("b", Timer.REKEY), ("a", Timer.HARD), None]
    assert timers.next_ns() is None


def test_moved_and_cancelled() -> None:
    timers: Timers[str] = Timers()
    timers.arm("a", Timer.REKEY, 10)
    timers.arm("a", Timer.REKEY, 40)
    assert timers.at("a", Timer.REKEY) == 40
    assert timers.pop_due(39) is None
    timers.arm("a", Timer.REKEY, 5)
    assert timers.pop_due(5) == ("a", Timer.REKEY)
    assert timers.pop_due(100) is None, "what it was moved from does not come"
    timers.arm("a", Timer.REKEY, 10)
    timers.arm("a", Timer.HARD, 11)
    timers.arm("b", Timer.HARD, 12)
    timers.cancel("b", Timer.REKEY)
    timers.cancel_all("a")
    assert timers.at("a", Timer.HARD) is None
    assert timers.pop_due(100) == ("b", Timer.HARD)


def test_as_a_sorted_list_would_and_the_heap_stays_small() -> None:
    chance = random.Random(5)
    timers: Timers[int] = Timers()
    model: dict[tuple[int, Timer], int] = {}
    now = 0
    for _ in range(20_000):
        owner, timer = chance.randrange(20), chance.choice(list(Timer))
        match chance.randrange(4):
            case 0 | 1:
                at = now + chance.randrange(100)
                timers.arm(owner, timer, at)
                model[owner, timer] = at
            case 2:
                timers.cancel(owner, timer)
                model.pop((owner, timer), None)
            case _:
                now += chance.randrange(5)
                while (due := timers.pop_due(now)) is not None:
                    assert model.pop(due) <= now
                assert all(at > now for at in model.values())
        assert timers.next_ns() == min(model.values(), default=None)
        assert len(timers) == len(model)
    assert len(timers._heap) <= 4 * len(model) + 64
