"""Which routes go round, and how long a tunnel is held."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ginnel.gre import effects
from ginnel.gre.recursion import HOLD_NS, HoldMachine, Output, loop_of, sentence

WHY = "the route to 198.51.100.20 goes through gre1 itself"


def drained(machine: HoldMachine) -> list[Output]:
    found: list[Output] = []
    while not isinstance(output := machine.poll(), effects.WaitUntil):
        found.append(output)
    return found


def test_who_goes_round() -> None:
    assert loop_of("gre1", {}) == ()
    assert loop_of("gre1", {"gre1": "gre1"}) == ("gre1",)
    assert loop_of("gre1", {"gre1": "gre2"}) == (), "nesting: gre2 gets out"
    assert loop_of("gre1", {"gre1": "gre2", "gre2": "gre1"}) == ("gre1", "gre2")
    assert loop_of("gre2", {"gre1": "gre2", "gre2": "gre1"}) == ("gre2", "gre1")
    assert loop_of("gre1", {"gre1": "gre2", "gre2": "gre3", "gre3": "gre2"}) == (), "it leads into a loop of others"


def test_it_is_named() -> None:
    assert sentence("198.51.100.20", ("gre1",)) == WHY
    assert sentence("198.51.100.20", ("gre1", "gre2")) == "the route to 198.51.100.20 goes in a circle: gre2 through gre1"


names = st.sampled_from([f"gre{number}" for number in range(6)])


@given(st.dictionaries(names, names))
def test_a_loop_is_exactly_what_comes_back_to_itself(leaves_by: dict[str, str]) -> None:
    for tunnel in leaves_by:
        way = loop_of(tunnel, leaves_by)
        at, comes_back = tunnel, False
        for _ in range(len(leaves_by)):
            at = leaves_by.get(at, "")
            comes_back = comes_back or at == tunnel
        assert bool(way) == comes_back
        assert all(loop_of(other, leaves_by) for other in way), "all on the way round are held, or none"


def test_held_at_once_and_released_after_the_hold_down() -> None:
    machine = HoldMachine()
    machine.routed("", 0)
    assert drained(machine) == []
    machine.routed(WHY, 1_000)
    assert drained(machine) == [effects.SetHold(held=True), effects.Held(WHY)]
    assert machine.poll() == effects.WaitUntil(None), "no release in sight"
    machine.routed("", 5_000)
    assert machine.poll() == effects.WaitUntil(5_000 + HOLD_NS)
    machine.timeout(5_000 + HOLD_NS - 1)
    assert drained(machine) == []
    machine.timeout(5_000 + HOLD_NS)
    assert drained(machine) == [effects.SetHold(held=False), effects.Released(4_000 + HOLD_NS)]
    assert machine.why == ""
    assert machine.poll() == effects.WaitUntil(None)


def test_good_news_that_is_repeated_does_not_hold_longer() -> None:
    machine = HoldMachine()
    machine.routed(WHY, 0)
    machine.routed("", 10)
    machine.routed("", HOLD_NS)
    drained(machine)
    machine.timeout(10 + HOLD_NS)
    assert machine.why == ""


def test_flapping_is_held_through() -> None:
    machine = HoldMachine()
    outputs: list[Output] = []
    for second in range(0, 300, 10):
        machine.routed(WHY if second % 20 == 0 else "", second * 1_000_000_000)
        machine.timeout(second * 1_000_000_000)
        outputs += drained(machine)
    assert outputs == [effects.SetHold(held=True), effects.Held(WHY)]
    assert machine.poll() == effects.WaitUntil(290 * 1_000_000_000 + HOLD_NS)


def test_another_way_round_is_told_but_not_held_twice() -> None:
    machine = HoldMachine()
    machine.routed(WHY, 0)
    machine.routed("the route to 198.51.100.20 goes in a circle: gre2 through gre1", 5)
    assert [type(output) for output in drained(machine)] == [effects.SetHold, effects.Held, effects.Held]
