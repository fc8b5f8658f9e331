"""Keepalives on a simulated clock, to the nanosecond."""

from __future__ import annotations

import socket

from ginnel.gre import effects
from ginnel.gre.keepalive import ANSWERS_BURST, ANSWERS_PER_S, KeepaliveMachine, Output
from ginnel.testing import FakeClock
from ginnel.units import NS_PER_S
from ginnel.wire import gre
from ginnel.wire.gre import Keepalive

US, PEER, STRANGER = (socket.inet_aton(f"192.0.2.{number}") for number in (1, 2, 3))
US6, PEER6 = (socket.inet_pton(socket.AF_INET6, f"2001:db8::{number}") for number in (1, 2))
ASKED = Keepalive(US, PEER).build()


def drained(machine: KeepaliveMachine) -> list[Output]:
    """All outputs up to and without the wait."""
    found: list[Output] = []
    while not isinstance(output := machine.poll(), effects.WaitUntil):
        found.append(output)
    return found


class World:
    """One machine that is up, and a clock that follows its timer; everything it does with its time."""

    def __init__(self, **options: object) -> None:
        self.clock = FakeClock()
        self.begin_ns = self.clock.mono_ns
        self.machine = KeepaliveMachine(**{"interval_s": 10, "retries": 3, **options})  # type: ignore[arg-type]
        self.machine.set_ends(US, PEER)
        self.machine.up(self.clock.mono_ns)
        self.seen: list[tuple[float, Output]] = []
        #: Times, in seconds since the start, at which the peer sends back what it got then.
        self.answers_from_s, self.answers_until_s = 0.0, 0.0

    def now_s(self) -> float:
        return (self.clock.mono_ns - self.begin_ns) / NS_PER_S

    def run_until(self, at_s: float) -> None:
        while True:
            for output in drained(self.machine):
                self.seen.append((self.now_s(), output))
                if isinstance(output, effects.SendControl) and self.answers_from_s <= self.now_s() < self.answers_until_s:
                    self.machine.returned_to_us(self.clock.mono_ns)
            wait = self.machine.poll()
            while not isinstance(wait, effects.WaitUntil):
                self.seen.append((self.now_s(), wait))
                wait = self.machine.poll()
            due_ns = wait.mono_ns
            if due_ns is None or due_ns > self.begin_ns + round(at_s * NS_PER_S):
                self.clock.advance_to(self.begin_ns + round(at_s * NS_PER_S))
                return
            self.clock.advance_to(due_ns)
            self.machine.timeout(self.clock.mono_ns)

    def times(self, kind: type) -> list[float]:
        return [at_s for at_s, output in self.seen if isinstance(output, kind)]


def test_one_is_sent_at_once_and_one_each_interval_dead_or_alive() -> None:
    world = World()
    world.run_until(65)
    assert world.times(effects.SendControl) == [0, 10, 20, 30, 40, 50, 60]
    (first,) = {output for _, output in world.seen if isinstance(output, effects.SendControl)}
    assert first == effects.SendControl(0x0800, Keepalive(PEER, US).build())


def test_dead_when_the_one_after_the_last_retry_is_due() -> None:
    world = World()
    world.answers_until_s = 5
    world.run_until(100)
    assert world.times(effects.PeerAlive) == [0]
    assert world.times(effects.PeerDead) == [40], "sent at 10, 20 and 30, unanswered: missing at 40"
    assert world.machine.state == "dead"


def test_never_answered_is_dead_after_retries_too() -> None:
    world = World(retries=2, interval_s=5)
    world.run_until(9.999)
    assert world.machine.state == "silent"
    world.run_until(10)
    assert world.machine.state == "dead"
    assert world.times(effects.PeerDead) == [10]


def test_alive_with_the_first_that_comes_back() -> None:
    world = World()
    world.answers_from_s, world.answers_until_s = 55, 200
    world.run_until(100)
    assert world.times(effects.PeerDead) == [30]
    assert world.times(effects.PeerAlive) == [60]
    assert world.machine.unanswered == 0


def test_no_retries_is_never_judged() -> None:
    world = World(retries=0)
    world.run_until(10_000)
    assert not world.machine.is_judged
    assert world.machine.state == "silent"
    assert not world.times(effects.PeerDead)
    world.machine.returned_to_us(world.clock.mono_ns)
    assert world.machine.state == "alive", "what comes back is evidence all the same"


def test_what_the_peer_asks_is_no_evidence() -> None:
    world = World()
    for _ in range(100):
        world.run_until(world.now_s() + 1)
        world.machine.asked(ASKED, world.clock.mono_ns)
    assert world.machine.state == "dead"
    assert world.machine.answered == 100


def test_without_an_interval_it_only_answers() -> None:
    machine = KeepaliveMachine()
    machine.set_ends(US, PEER)
    machine.up(0)
    assert machine.poll() == effects.WaitUntil(None)
    machine.asked(ASKED, 1)
    assert drained(machine) == [effects.SendBack(ASKED)]
    machine.asked(ASKED + bytes(40), 1)
    assert drained(machine) == [effects.SendBack(ASKED)], "what follows it was to fill the way here, not the way back"
    machine.returned_to_us(2)
    assert machine.state == "silent", "it never sent any: what comes back is somebody's joke"


def test_the_inner_packet_has_what_our_tunnel_expects() -> None:
    machine = KeepaliveMachine(interval_s=1, mikrotik=True, key=7, checksum=True)
    machine.set_ends(US6, PEER6)
    machine.up(5)
    machine.timeout(5)
    assert drained(machine) == [
        effects.SendControl(0x86DD, Keepalive(PEER6, US6, gre.MIKROTIK, 7, checksum=True).build()),
    ]


def test_nobody_is_answered_but_the_peer() -> None:
    machine = KeepaliveMachine()
    machine.asked(ASKED, 0)
    machine.set_ends(US, PEER)
    for packet in (
        Keepalive(US, STRANGER).build(),
        Keepalive(STRANGER, PEER).build(),
        Keepalive(PEER, US).build(),
        Keepalive(US6, PEER6).build(),
        ASKED[:-1],
        b"",
        ASKED[:20] + b"\0\0\x08\0",
    ):
        machine.asked(packet, 0)
    assert drained(machine) == []
    assert (machine.answered, machine.refused) == (0, 8)


def test_answers_are_limited() -> None:
    machine = KeepaliveMachine()
    machine.set_ends(US, PEER)
    now_ns = 100 * NS_PER_S
    for _ in range(3 * ANSWERS_BURST):
        machine.asked(ASKED, now_ns)
    assert len(drained(machine)) == ANSWERS_BURST
    for step in range(1, 10 * NS_PER_S // 1_000_000):
        machine.asked(ASKED, now_ns + step * 1_000_000)
    assert len(drained(machine)) == 10 * ANSWERS_PER_S - 1, "one token every 20 ms, and the last millisecond is not over"


def test_without_ends_nothing_is_sent_and_nobody_dies() -> None:
    world = World()
    world.machine.set_ends(US, None)
    world.run_until(99)
    assert world.seen == []
    assert world.machine.poll() == effects.WaitUntil(None)
    world.machine.set_ends(US, PEER)
    world.machine.timeout(world.clock.mono_ns)
    world.run_until(111)
    assert world.times(effects.SendControl) == [99, 100, 110], "at once, and then in the phase that it had"


def test_down_forgets_and_up_begins_anew() -> None:
    world = World()
    world.answers_until_s = 1_000
    world.run_until(25)
    world.machine.down()
    assert world.machine.state == "silent"
    assert world.machine.poll() == effects.WaitUntil(None)
    world.machine.returned_to_us(world.clock.mono_ns)
    assert world.machine.state == "silent", "a late one is not of this life"
    world.run_until(40)
    world.machine.up(world.clock.mono_ns)
    world.run_until(55)
    assert world.times(effects.SendControl) == [0, 10, 20, 40, 50]


def test_a_late_timer_moves_no_deadline_and_a_suspend_sends_one() -> None:
    world = World()
    world.run_until(1)
    world.clock.advance_to(world.begin_ns + 12 * NS_PER_S)
    world.machine.timeout(world.clock.mono_ns)
    assert world.machine.poll() == effects.SendControl(0x0800, Keepalive(PEER, US).build())
    assert world.machine.poll() == effects.WaitUntil(world.begin_ns + 20 * NS_PER_S)
    world.clock.advance_to(world.begin_ns + 3_605 * NS_PER_S)
    world.machine.timeout(world.clock.mono_ns)
    assert len(drained(world.machine)) == 1
    assert world.machine.poll() == effects.WaitUntil(world.begin_ns + 3_610 * NS_PER_S)
