"""What ICMP can do to a tunnel, and for how long."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.gre import effects
from ginnel.gre.path import (
    AGE_NS,
    FLOOR,
    HEARD_NS,
    INNER_FLOOR,
    NOTICE_NS,
    REPEAT_NS,
    UNREACHABLE_LIMIT,
    UNREACHABLE_NS,
    Notice,
    Output,
    PathMachine,
)
from ginnel.units import NS_PER_S

PEER, ROUTER = socket.inet_aton("198.51.100.20"), socket.inet_aton("203.0.113.7")
PEER6, ROUTER6 = (socket.inet_pton(socket.AF_INET6, text) for text in ("2001:db8::20", "2001:db8::7"))
BEGIN = 1_000 * NS_PER_S


def made(*, family: int = 4, overhead: int = 24, ttl: int = 64, link: int = 1476) -> PathMachine:
    machine = PathMachine(family=family, overhead=overhead, ttl=ttl, remote=PEER if family == 4 else PEER6)
    machine.set_link_mtu(link)
    return machine


def drained(machine: PathMachine) -> list[Output]:
    found: list[Output] = []
    while not isinstance(output := machine.poll(), effects.WaitUntil):
        found.append(output)
    return found


def too_big(machine: PathMachine, mtu: int, now_ns: int = BEGIN) -> list[Output]:
    machine.error("too-big", 4, mtu, ROUTER, now_ns)
    return drained(machine)


def test_a_smaller_path_is_learned_less_the_layers() -> None:
    machine = made()
    assert too_big(machine, 1400) == [effects.SetPathMtu(1376), effects.PathMtuLearned(1376, 1400, ROUTER)]
    assert machine.poll() == effects.WaitUntil(BEGIN + AGE_NS)


def test_it_only_lowers() -> None:
    machine = made()
    too_big(machine, 1400)
    assert too_big(machine, 1450) == []
    assert too_big(machine, 1300) == [effects.SetPathMtu(1276), effects.PathMtuLearned(1276, 1300, ROUTER)]


def test_what_the_link_keeps_to_already_is_not_learned() -> None:
    assert too_big(made(), 1500) == []
    assert too_big(made(), 9_000) == []
    assert too_big(made(), 1499) != []


def test_it_ages_and_the_same_again_renews_it() -> None:
    machine = made()
    too_big(machine, 1400)
    assert too_big(machine, 1400, BEGIN + AGE_NS - 1) == []
    machine.timeout(BEGIN + AGE_NS)
    assert machine.mtu == 1376
    machine.timeout(BEGIN + 2 * AGE_NS - 2)
    assert drained(machine) == []
    machine.timeout(BEGIN + 2 * AGE_NS - 1)
    assert drained(machine) == [effects.PathMtuForgotten(1376), effects.SetPathMtu(0)]
    assert machine.poll() == effects.WaitUntil(None)
    assert too_big(machine, 1450, BEGIN + 3 * AGE_NS)[0] == effects.SetPathMtu(1426), "what is forgotten can be learned anew"


@pytest.mark.parametrize(("family", "floor"), [(4, 552), (6, 1280)])
def test_below_the_floor_is_said_and_not_believed(family: int, floor: int) -> None:
    machine = made(family=family, overhead=24 if family == 4 else 44)
    outputs = too_big(machine, 68)
    overhead = 24 if family == 4 else 44
    assert outputs == [
        effects.PathMtuTooSmall(68, floor, ROUTER),
        effects.SetPathMtu(floor - overhead),
        effects.PathMtuLearned(floor - overhead, floor, ROUTER),
    ]


def test_the_inner_packet_is_never_below_its_own_floor() -> None:
    machine = made(overhead=500)
    too_big(machine, 552)
    assert machine.mtu == INNER_FLOOR


def test_a_router_that_names_no_mtu_means_the_next_plateau() -> None:
    machine = made()
    assert [too_big(machine, 0)[0] for _ in range(3)] == [
        effects.SetPathMtu(1492 - 24),
        effects.SetPathMtu(1006 - 24),
        effects.SetPathMtu(552 - 24),
    ]
    assert too_big(machine, 0) == []


def test_an_mtu_that_falls_by_the_overhead_again_and_again_is_a_loop() -> None:
    machine = made()
    assert too_big(machine, 1476)[0] == effects.SetPathMtu(1452)
    assert too_big(machine, 1452, BEGIN + 1)[0] == effects.SetPathMtu(1428)
    assert too_big(machine, 1428, BEGIN + 2) == [effects.RoutingLoop(3, ROUTER)]
    assert machine.looping
    assert too_big(machine, 1404, BEGIN + 3) == [], "no longer followed: that fall is none of the path's"
    machine.timeout(BEGIN + AGE_NS + 1)
    drained(machine)
    assert not machine.looping


def test_slow_falls_by_the_overhead_are_no_loop() -> None:
    machine = made()
    for step in range(6):
        assert too_big(machine, 1476 - 24 * step, BEGIN + step * 61 * NS_PER_S)[0] == effects.SetPathMtu(1452 - 24 * step)


def test_the_links_own_mtu_makes_it_moot() -> None:
    machine = made()
    too_big(machine, 1400)
    machine.set_link_mtu(1300)
    assert drained(machine) == [effects.SetPathMtu(0)]
    assert too_big(machine, 1350) == []


def test_another_peer_is_another_path() -> None:
    machine = made()
    too_big(machine, 1400)
    machine.error("unreachable", 1, 0, ROUTER, BEGIN)
    drained(machine)
    machine.set_remote(PEER)
    assert machine.mtu == 1376
    machine.set_remote(ROUTER)
    assert machine.mtu == 0
    assert machine.notices == {}


def test_unreachables_are_counted_for_thirty_seconds() -> None:
    machine = made()
    counts = []
    for second in (0, 1, 29, 58, 88, 89):
        machine.error("unreachable", 1, 0, ROUTER, BEGIN + second * NS_PER_S)
        counts += [output for output in drained(machine) if isinstance(output, effects.SetUnreachable)]
    assert [count.packets for count in counts] == [1, 2, 3, 4, 1, 2], "thirty seconds after the last one it begins anew"
    assert counts[0].until_ns == BEGIN + UNREACHABLE_NS


def test_unreachables_are_bounded() -> None:
    machine = made()
    for number in range(3 * UNREACHABLE_LIMIT):
        machine.error("unreachable", 1, 0, ROUTER, BEGIN + number)
    assert drained(machine)[-1] == effects.SetUnreachable(UNREACHABLE_LIMIT, BEGIN + 3 * UNREACHABLE_LIMIT - 1 + UNREACHABLE_NS)


def test_time_exceeded_counts_only_with_a_ttl_of_ours() -> None:
    inherited = made(ttl=0)
    inherited.error("time-exceeded", 0, 0, ROUTER, BEGIN)
    assert drained(inherited) == []
    ours = made(ttl=3)
    ours.error("time-exceeded", 0, 0, ROUTER, BEGIN)
    assert drained(ours) == [effects.PathRefused("ttl", ROUTER, 0), effects.SetUnreachable(1, BEGIN + UNREACHABLE_NS)]


@pytest.mark.parametrize(
    ("family", "kind", "code", "from_peer", "notice"),
    [
        (4, "unreachable", 2, True, Notice.NO_PROTOCOL),
        (4, "unreachable", 2, False, Notice.REFUSED),
        (4, "unreachable", 3, True, Notice.NO_TUNNEL),
        (4, "unreachable", 3, False, Notice.REFUSED),
        (4, "unreachable", 9, False, Notice.REFUSED),
        (4, "unreachable", 10, False, Notice.REFUSED),
        (4, "unreachable", 13, False, Notice.REFUSED),
        (4, "unreachable", 13, True, Notice.REFUSED),
        (4, "unreachable", 0, False, Notice.UNREACHABLE),
        (4, "unreachable", 1, False, Notice.UNREACHABLE),
        (6, "unreachable", 4, True, Notice.NO_TUNNEL),
        (6, "unreachable", 1, False, Notice.REFUSED),
        (6, "unreachable", 5, False, Notice.REFUSED),
        (6, "unreachable", 6, False, Notice.REFUSED),
        (6, "unreachable", 0, False, Notice.UNREACHABLE),
        (6, "unreachable", 3, False, Notice.UNREACHABLE),
        (6, "other", 1, True, Notice.NO_PROTOCOL),
        (6, "other", 1, False, Notice.REFUSED),
    ],
)
def test_what_each_code_means(family: int, kind: str, code: int, from_peer: bool, notice: Notice) -> None:
    machine = made(family=family)
    origin = {(4, True): PEER, (4, False): ROUTER, (6, True): PEER6, (6, False): ROUTER6}[family, from_peer]
    machine.error(kind, code, 0, origin, BEGIN)
    assert machine.current_notices(BEGIN) == {notice: origin}
    assert drained(machine)[0] == effects.PathRefused(notice.value, origin, code)


def test_other_errors_do_nothing() -> None:
    machine = made()
    machine.error("other", 1, 0, ROUTER, BEGIN)
    machine.error("other", 0, 0, ROUTER, BEGIN)
    assert drained(machine) == []


def test_a_notice_is_told_once_and_forgotten() -> None:
    machine = made()
    told = []
    for second in (0, 60, 179, 300):
        machine.error("unreachable", 13, 0, ROUTER, BEGIN + second * NS_PER_S)
        told += [second for output in drained(machine) if isinstance(output, effects.PathRefused)]
    assert told == [0, 300]
    assert machine.current_notices(BEGIN + 300 * NS_PER_S + NOTICE_NS - 1)
    assert not machine.current_notices(BEGIN + 300 * NS_PER_S + NOTICE_NS)
    machine.heard(BEGIN, round_trip=True)
    assert not machine.current_notices(BEGIN + 300 * NS_PER_S)
    assert drained(machine) == [effects.SetUnreachable(0, 0)], "inner senders are told no longer"
    machine.heard(BEGIN, round_trip=True)
    assert drained(machine) == []


def test_the_newest_word_comes_first() -> None:
    machine = made()
    machine.error("unreachable", 2, 0, PEER, BEGIN)
    machine.error("unreachable", 0, 0, ROUTER, BEGIN + NS_PER_S)
    assert list(machine.current_notices(BEGIN + NS_PER_S)) == [Notice.UNREACHABLE, Notice.NO_PROTOCOL]
    machine.error("unreachable", 2, 0, PEER, BEGIN + 2 * NS_PER_S)
    assert list(machine.current_notices(BEGIN + 2 * NS_PER_S)) == [Notice.NO_PROTOCOL, Notice.UNREACHABLE]


def test_a_refusal_on_the_way_is_over_when_the_peer_is_heard_and_nobody_repeats_it() -> None:
    machine = made()
    machine.error("unreachable", 13, 0, ROUTER, BEGIN)
    machine.heard(BEGIN + REPEAT_NS - 1)
    assert machine.current_notices(BEGIN + REPEAT_NS) == {Notice.REFUSED: ROUTER}, "one way may work and the other not"
    machine.error("unreachable", 13, 0, ROUTER, BEGIN + REPEAT_NS)
    machine.heard(BEGIN + REPEAT_NS)
    assert machine.current_notices(BEGIN + REPEAT_NS) == {Notice.REFUSED: ROUTER}
    drained(machine)
    machine.heard(BEGIN + 2 * REPEAT_NS)
    assert not machine.current_notices(BEGIN + 2 * REPEAT_NS)
    assert drained(machine) == [effects.SetUnreachable(0, 0)]


def test_a_peer_that_speaks_and_refuses_has_a_kernel_beside_its_tunnel() -> None:
    machine = made()
    machine.error("unreachable", 3, 0, PEER, BEGIN, heard_ns=BEGIN - HEARD_NS + 1)
    assert drained(machine) == [effects.PathRefused("beside", PEER, 3)], "nobody is told that the peer cannot be reached"
    machine.heard(BEGIN)
    machine.heard(BEGIN, round_trip=True)
    assert machine.current_notices(BEGIN) == {Notice.BESIDE: PEER}, "hearing it is no news"
    assert drained(machine) == []
    machine.error("unreachable", 3, 0, PEER, BEGIN, heard_ns=BEGIN - HEARD_NS)
    assert Notice.NO_TUNNEL in machine.current_notices(BEGIN)
    machine.error("unreachable", 13, 0, ROUTER, BEGIN, heard_ns=BEGIN)
    assert Notice.REFUSED in machine.current_notices(BEGIN), "the way is another matter"


def test_hearing_the_peer_refutes_what_was_said_of_its_end_but_not_of_the_way() -> None:
    machine = made()
    machine.error("unreachable", 3, 0, PEER, BEGIN)
    machine.error("unreachable", 13, 0, ROUTER, BEGIN)
    drained(machine)
    machine.heard(BEGIN)
    assert machine.current_notices(BEGIN) == {Notice.REFUSED: ROUTER}
    assert drained(machine) == []
    machine.heard(BEGIN, round_trip=True)
    assert machine.current_notices(BEGIN) == {}


@given(st.lists(st.tuples(st.sampled_from([4, 6]), st.integers(0, 70_000), st.integers(0, 100)), max_size=40))
def test_whatever_is_claimed_the_path_stays_within_its_bounds(claims: list[tuple[int, int, int]]) -> None:
    for family in (4, 6):
        machine = made(family=family, overhead=48, link=1452)
        for _, mtu, second in claims:
            before = machine.mtu or 1452
            machine.error("too-big", 0, mtu, ROUTER, BEGIN + second * NS_PER_S)
            drained(machine)
            assert machine.mtu == 0 or FLOOR[family] - 48 <= machine.mtu <= before
