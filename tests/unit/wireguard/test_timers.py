"""The table of deadlines: against a plain dictionary, and that it stays small."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ginnel.wireguard.timers import Timer, Timers

RETRANSMIT, ZERO = Timer.RETRANSMIT_HANDSHAKE, Timer.ZERO_KEY_MATERIAL


def test_a_timer_is_due_at_its_deadline_and_not_a_nanosecond_before() -> None:
    timers = Timers()
    timers.arm(7, RETRANSMIT, 100)
    assert timers.next_ns() == 100
    assert timers.pop_due(99) is None
    assert timers.pop_due(100) == (7, RETRANSMIT)
    assert timers.pop_due(100) is None
    assert timers.next_ns() is None
    assert not timers.armed(7, RETRANSMIT)


def test_arming_again_moves_the_deadline_either_way() -> None:
    timers = Timers()
    timers.arm(1, ZERO, 100)
    timers.arm(1, ZERO, 200)
    assert timers.next_ns() == 200
    timers.arm(1, ZERO, 50)
    assert timers.next_ns() == 50
    timers.arm(1, ZERO, 70)
    assert timers.deadline(1, ZERO) == 70
    assert timers.pop_due(60) is None
    assert timers.pop_due(70) == (1, ZERO)
    assert timers.pop_due(1000) is None


def test_cancelling_one_timer_leaves_the_peers_others() -> None:
    timers = Timers()
    for kind in Timer:
        timers.arm(3, kind, 10 + kind)
        timers.arm(4, kind, 20 + kind)
    timers.cancel(3, Timer.RETRANSMIT_HANDSHAKE)
    assert timers.next_ns() == 10 + Timer.ZERO_KEY_MATERIAL
    timers.cancel_all(3)
    assert timers.next_ns() == 20
    assert [timers.pop_due(100) for _ in range(5)] == [*((4, kind) for kind in Timer), None]


def test_a_session_every_few_milliseconds_does_not_grow_the_table() -> None:
    timers = Timers()
    for round_ in range(1_000):
        for peer in range(10):
            timers.arm(peer, ZERO, 540_000 + round_)
            timers.arm(peer, RETRANSMIT, 5_000 + round_)
            timers.cancel(peer, RETRANSMIT)
    assert len(timers._heap) <= 20


def test_peers_that_come_and_go_do_not_grow_the_table() -> None:
    timers = Timers()
    for peer in range(20_000):
        timers.arm(peer, ZERO, 540_000 + peer)
        timers.cancel_all(peer)
    assert len(timers._heap) <= 1_100
    assert len(timers._queued) <= 1_100
    assert timers.next_ns() is None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arm"), st.integers(0, 3), st.sampled_from(Timer), st.integers(0, 50)),
        st.tuples(st.just("cancel"), st.integers(0, 3), st.sampled_from(Timer), st.just(0)),
        st.tuples(st.just("cancel_all"), st.integers(0, 3), st.just(ZERO), st.just(0)),
        st.tuples(st.just("pass"), st.just(0), st.just(ZERO), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(STEPS)
def test_it_is_a_dictionary_of_deadlines(steps: list[tuple[str, int, Timer, int]]) -> None:
    timers = Timers()
    model: dict[tuple[int, Timer], int] = {}
    now = 0
    for step, peer, kind, number in steps:
        match step:
            case "arm":
                timers.arm(peer, kind, now + number)
                model[peer, kind] = now + number
            case "cancel":
                timers.cancel(peer, kind)
                model.pop((peer, kind), None)
            case "cancel_all":
                timers.cancel_all(peer)
                model = {key: at for key, at in model.items() if key[0] != peer}
            case _:
                now += number
                fired = []
                while (due := timers.pop_due(now)) is not None:
                    fired.append(due)
                expected = {key for key, at in model.items() if at <= now}
                assert set(fired) == expected
                assert len(fired) == len(expected)
                assert [model[key] for key in fired] == sorted(model[key] for key in fired)
                model = {key: at for key, at in model.items() if at > now}
        assert timers.next_ns() == min(model.values(), default=None)
        assert {(p, k) for p in range(4) for k in Timer if timers.armed(p, k)} == set(model)
