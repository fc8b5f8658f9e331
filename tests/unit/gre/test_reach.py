"""Silence, and what a ping makes of it."""

from __future__ import annotations

from ginnel.gre.reach import BELIEVED_NS, PING_NS, SILENT_NS, ReachMachine
from ginnel.units import NS_PER_S

BEGIN = 1_000 * NS_PER_S


def silent_machine() -> ReachMachine:
    machine = ReachMachine()
    machine.looked(0, 0, BEGIN)
    machine.looked(5, 0, BEGIN)
    return machine


def test_nothing_sent_is_no_silence() -> None:
    machine = ReachMachine()
    for second in range(0, 200, 10):
        machine.looked(0, 0, BEGIN + second * NS_PER_S)
        assert not machine.wants_ping(BEGIN + second * NS_PER_S)


def test_a_ping_after_thirty_seconds_and_each_ten() -> None:
    machine = silent_machine()
    assert not machine.wants_ping(BEGIN + SILENT_NS - 1)
    pings = [second for second in range(30, 91) if machine.wants_ping(BEGIN + second * NS_PER_S)]
    assert pings == [30, 40, 50, 60, 70, 80, 90]
    assert PING_NS == 10 * NS_PER_S


def test_silence_begins_with_the_first_unanswered_packet() -> None:
    machine = ReachMachine()
    machine.looked(5, 5, BEGIN)
    machine.looked(5, 5, BEGIN + 100 * NS_PER_S)
    assert machine.silent_since_ns == 0, "idle"
    machine.looked(6, 5, BEGIN + 110 * NS_PER_S)
    machine.looked(7, 5, BEGIN + 120 * NS_PER_S)
    assert machine.silent_since_ns == BEGIN + 110 * NS_PER_S


def test_filtered_is_an_answer_to_a_ping_while_nothing_comes_back() -> None:
    machine = silent_machine()
    machine.answered(BEGIN + SILENT_NS - 1)
    assert not machine.is_filtered(BEGIN + SILENT_NS - 1)
    assert machine.is_filtered(BEGIN + SILENT_NS)
    machine.looked(9, 1, BEGIN + SILENT_NS)
    assert not machine.is_filtered(BEGIN + SILENT_NS), "something came back"


def test_an_old_answer_says_nothing() -> None:
    machine = silent_machine()
    machine.answered(BEGIN + SILENT_NS)
    assert machine.is_filtered(BEGIN + SILENT_NS + BELIEVED_NS - 1)
    assert not machine.is_filtered(BEGIN + SILENT_NS + BELIEVED_NS)


def test_reset_forgets() -> None:
    machine = silent_machine()
    machine.answered(BEGIN)
    machine.reset()
    assert not machine.is_silent(BEGIN + 1_000 * NS_PER_S)
