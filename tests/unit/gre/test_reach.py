"""Silence, and what a ping makes of it."""

from __future__ import annotations

from ginnel.gre.reach import BELIEVED_NS, PING_NS, SILENT_NS, ReachMachine
from ginnel.units import NS_PER_S

BEGIN = 1_000 * NS_PER_S


def after(seconds: float) -> int:
    return BEGIN + round(seconds * NS_PER_S)


def begun() -> ReachMachine:
    machine = ReachMachine()
    machine.begin(BEGIN)
    return machine


def silent_machine() -> ReachMachine:
    """One that sent at 0 s and at 30 s, and heard nothing."""
    machine = begun()
    machine.looked(after(0), 0)
    machine.looked(after(30), 0)
    return machine


def test_nothing_sent_is_no_silence() -> None:
    machine = begun()
    for second in range(0, 200, 10):
        machine.looked(0, 0)
        assert not machine.wants_ping(after(second))


def test_a_last_packet_that_nobody_answers_is_no_silence() -> None:
    machine = begun()
    machine.looked(after(10.001), after(10))
    assert machine.unanswered_since_ns == after(10)
    machine.looked(after(10.001), after(10))
    assert not machine.is_silent
    assert not machine.wants_ping(after(3_600))


def test_going_on_sending_is() -> None:
    machine = begun()
    machine.looked(after(10.001), after(10))
    machine.looked(after(39.999), after(10))
    assert not machine.is_silent
    machine.looked(after(40), after(10))
    assert machine.is_silent
    assert machine.unanswered_since_ns == after(10)


def test_a_ping_at_once_and_each_ten_seconds() -> None:
    machine = silent_machine()
    assert [second for second in range(30, 91) if machine.wants_ping(after(second))] == [30, 40, 50, 60, 70, 80, 90]
    assert PING_NS == 10 * NS_PER_S
    assert SILENT_NS == 30 * NS_PER_S


def test_filtered_is_an_answer_to_a_ping_while_nothing_comes_back() -> None:
    machine = silent_machine()
    assert not machine.is_filtered(after(31))
    machine.answered(after(31))
    assert machine.is_filtered(after(31))
    machine.looked(after(32), after(32))
    assert not machine.is_filtered(after(32)), "something came back"
    machine.looked(after(70), after(32))
    assert not machine.is_filtered(after(70)), "that answer was to another silence"


def test_keepalives_are_heard() -> None:
    machine = silent_machine()
    machine.answered(after(31))
    machine.heard(after(31.5))
    assert not machine.is_silent
    assert machine.unanswered_since_ns == 0


def test_an_old_answer_says_nothing() -> None:
    machine = silent_machine()
    machine.answered(after(30))
    assert machine.is_filtered(after(30) + BELIEVED_NS - 1)
    assert not machine.is_filtered(after(30) + BELIEVED_NS)


def test_what_was_before_it_began_says_nothing() -> None:
    machine = silent_machine()
    machine.answered(after(30))
    machine.begin(after(60))
    machine.looked(after(30), after(5))
    assert not machine.is_filtered(after(60))
    assert machine.unanswered_since_ns == 0
    machine.looked(after(70), after(5))
    assert machine.unanswered_since_ns == after(70)
