"""Path MTU probes over simulated paths, on a simulated clock: black holes, peers that do not answer, loss, paths that change."""

from __future__ import annotations

import random
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.gre import effects
from ginnel.gre.probe import RAISE_NS, VERIFY_NS, WAIT_NS, ProbeMachine
from ginnel.units import NS_PER_S
from ginnel.wire import gre
from ginnel.wire.gre import Keepalive

US, PEER = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")
US6, PEER6 = (socket.inet_pton(socket.AF_INET6, f"2001:db8::{number}") for number in (1, 2))
OVERHEAD = {4: 24, 6: 44}


class World:
    """One machine whose packets come back when the path takes them; keepalives of the tunnel every 10 s."""

    def __init__(self, *, family: int = 4, link_mtu: int = 1476, **options: object) -> None:
        self.now_ns = 0
        self.machine = ProbeMachine(family=family, overhead=OVERHEAD[family], **options)  # type: ignore[arg-type]
        self.ends = (US, PEER) if family == 4 else (US6, PEER6)
        self.machine.set_ends(*self.ends)
        self.machine.set_ceiling(link_mtu, 0, 0)
        self.machine.up()
        #: The largest inner packet that passes; whether the peer sends anything back; those with padding.
        self.path, self.answers, self.answers_padded = link_mtu, True, True
        self.lost, self.chance = 0.0, random.Random(7)
        self.delay_ns = NS_PER_S // 20
        self.sent: list[tuple[int, int]] = []
        self.found: list[int] = []
        self._coming: list[tuple[int, bool]] = []
        self._keepalive_ns = 0

    def run(self, seconds: float) -> None:
        until = self.now_ns + round(seconds * NS_PER_S)
        while True:
            due = self._drain()
            times = [self._keepalive_ns, *(at for at, _ in self._coming)] + ([due] if due is not None else [])
            now = min(times)
            if now > until:
                self.now_ns = until
                return
            self.now_ns = max(self.now_ns, now)
            if self.now_ns >= self._keepalive_ns:
                self._keepalive_ns += 10 * NS_PER_S
                if self.answers:
                    self.machine.kept_alive(self.now_ns)
            for at, is_probe in sorted(self._coming):
                if at <= self.now_ns:
                    self._coming.remove((at, is_probe))
                    if is_probe:
                        self.machine.returned(self.now_ns)
                    else:
                        self.machine.kept_alive(self.now_ns)
            self.machine.timeout(self.now_ns)

    def _drain(self) -> int | None:
        while True:
            match self.machine.poll():
                case effects.WaitUntil(at):
                    return at
                case effects.SendControl(protocol, payload):
                    self._send(protocol, payload)
                case effects.PathMtuProbed(mtu):
                    self.found.append(mtu)

    def _send(self, protocol: int, payload: bytes) -> None:
        assert protocol == (0x0800 if len(self.ends[0]) == 4 else 0x86DD)
        inner = Keepalive.parse(payload[: 24 if len(self.ends[0]) == 4 else 44])
        assert (inner.source, inner.destination) == (self.ends[1], self.ends[0])
        assert not any(payload[24 if len(self.ends[0]) == 4 else 44 :])
        is_probe = inner.protocol == self.machine.protocol
        if is_probe:
            self.sent.append((self.now_ns, len(payload)))
        if not self.answers or len(payload) > self.path or self.chance.random() < self.lost:
            return
        if is_probe and not self.answers_padded:
            return
        self._coming.append((self.now_ns + self.delay_ns, is_probe))

    def sizes(self) -> list[int]:
        return [size for _, size in self.sent]


def test_a_path_that_takes_everything_costs_one_probe_a_minute() -> None:
    world = World()
    world.run(600)
    assert world.found == []
    assert set(world.sizes()) == {1476}
    assert [at for at, _ in world.sent[:3]] == [0, VERIFY_NS + world.delay_ns, 2 * (VERIFY_NS + world.delay_ns)]


def test_nothing_is_sent_before_a_keepalive_came_back() -> None:
    world = World()
    world.answers = False
    world.run(600)
    assert world.sent == []


@pytest.mark.parametrize(
    ("family", "link", "path"), [(4, 1476, 1376), (4, 8976, 1476), (6, 1456, 1300), (4, 1476, 528), (4, 1476, 1475)]
)
def test_a_black_hole_is_found_exactly(family: int, link: int, path: int) -> None:
    world = World(family=family, link_mtu=link)
    world.path = path
    world.run(90)
    assert world.found == [path]
    assert world.machine.mtu == path
    assert world.sizes()[:3] == [link] * 3


def test_a_black_hole_that_appears_later_is_noticed_within_a_minute_and_searched_in_another() -> None:
    world = World()
    world.run(300)
    world.path = 1400
    world.run(120)
    assert world.found == [1400]


def test_the_whole_size_is_tried_again_after_ten_minutes() -> None:
    world = World()
    world.path = 1400
    world.run(100)
    assert world.found == [1400]
    world.path = 1476
    world.run(RAISE_NS / NS_PER_S + 70)
    assert world.found == [1400, 0]
    assert world.machine.mtu == 0


def test_a_path_that_grew_by_a_part_is_found_too() -> None:
    world = World()
    world.path = 1400
    world.run(100)
    world.path = 1444
    world.run(RAISE_NS / NS_PER_S + 120)
    assert world.found == [1400, 1444]


def test_a_path_that_stays_as_it_is_costs_two_sizes_every_ten_minutes() -> None:
    world = World()
    world.path = 1400
    world.run(100)
    begun = len(world.sent)
    world.run(3600)
    assert world.found == [1400]
    assert set(world.sizes()[begun:]) == {1400, 1401, 1476}
    assert len(world.sent) - begun < 60 + 6 * 6 + 6


def test_a_peer_that_sends_no_padded_keepalives_back_proves_nothing() -> None:
    world = World()
    world.answers_padded = False
    world.run(1300)
    assert world.found == []
    assert not world.machine.answered
    assert set(world.sizes()) == {1476, 528}
    # Three tries of each, every ten minutes.
    assert len(world.sent) == 18


def test_a_peer_that_is_gone_is_not_taken_for_a_small_path() -> None:
    world = World()
    world.run(70)
    world.answers = False
    world.run(600)
    assert world.found == []
    assert set(world.sizes()) == {1476}
    world.answers = True
    world.path = 1400
    world.run(150)
    assert world.found == [1400]


@pytest.mark.parametrize("lost", [0.1, 0.3])
def test_loss_is_not_taken_for_a_small_path(lost: float) -> None:
    """At a tenth lost three probes of one size go missing once in a thousand; at worst the limit is lower, and raised again."""
    world = World()
    world.lost = lost
    world.run(3600)
    assert all(0 <= found <= 1476 for found in world.found)
    if lost < 0.2:
        assert world.machine.mtu == 0


def test_slow_answers_are_waited_for() -> None:
    world = World()
    world.path, world.delay_ns = 1400, WAIT_NS - NS_PER_S // 10
    world.run(120)
    assert world.found == [1400]


def test_where_the_way_is_short_a_search_is_quick() -> None:
    """50 ms there and back: after the first answer a size is given up after 1.2 s, not 6."""
    world = World()
    world.run(70)
    world.path = 1400
    world.run(75)
    assert world.found == [1400]


@pytest.mark.parametrize("grown_ms", [200, 450, 1000, 1900])
def test_a_way_that_becomes_longer_is_not_taken_for_a_small_path(grown_ms: int) -> None:
    world = World()
    world.run(70)
    world.delay_ns = grown_ms * NS_PER_S // 1000
    world.run(600)
    assert world.found == []


def test_answers_later_than_that_are_never_taken_for_a_larger_size() -> None:
    """2.5 s: the answer to the first try comes during the second. What was found passes, whatever happened."""
    world = World()
    world.path, world.delay_ns = 1400, 5 * NS_PER_S // 2
    world.run(300)
    assert all(found <= 1400 for found in world.found)


def test_icmp_lowers_the_ceiling_and_its_ageing_raises_it() -> None:
    world = World()
    world.path = 1400
    world.run(100)
    world.machine.set_ceiling(1476, 1300, world.now_ns)
    world.run(1)
    assert world.found == [1400, 0]
    world.run(120)
    assert world.found == [1400, 0]
    assert world.sizes()[-1] == 1300
    world.machine.set_ceiling(1476, 0, world.now_ns)
    world.run(120)
    assert world.found == [1400, 0, 1400]


def test_another_peer_or_a_tunnel_that_went_down_begins_anew() -> None:
    world = World()
    world.path = 1400
    world.run(100)
    world.machine.set_ends(US, socket.inet_aton("192.0.2.3"))
    assert world.machine.poll() == effects.PathMtuProbed(0)
    assert world.machine.poll() == effects.WaitUntil(None)
    world.machine.set_ends(*world.ends)
    world.run(100)
    assert world.machine.mtu == 1400
    world.machine.down()
    assert world.machine.poll() == effects.PathMtuProbed(0)
    world.machine.returned(world.now_ns)
    world.machine.timeout(world.now_ns + 10**12)
    assert world.machine.poll() == effects.WaitUntil(None)


def test_without_ends_nothing_is_sent() -> None:
    machine = ProbeMachine(family=4, overhead=24)
    machine.set_ceiling(1476, 0, 0)
    machine.up()
    machine.kept_alive(5)
    assert machine.poll() == effects.WaitUntil(None)


def test_a_link_at_the_floor_is_not_probed() -> None:
    world = World(link_mtu=528)
    world.run(600)
    assert world.sent == []


@pytest.mark.parametrize(("mikrotik", "protocol"), [(False, gre.MIKROTIK), (True, gre.CISCO)])
def test_probes_are_told_from_keepalives_by_the_other_dialect(mikrotik: bool, protocol: int) -> None:
    world = World(family=6, link_mtu=1456, mikrotik=mikrotik, key=7, checksum=True)
    world.machine.kept_alive(0)
    world.machine.timeout(0)
    probe, reference = world.machine.poll(), world.machine.poll()
    assert isinstance(probe, effects.SendControl)
    assert isinstance(reference, effects.SendControl)
    assert world.machine.protocol == protocol
    assert len(probe.payload) == 1456
    inner = Keepalive.parse(probe.payload[: 40 + 12])
    assert (inner.protocol, inner.key, inner.checksum) == (protocol, 7, True)
    assert Keepalive.parse(reference.payload).protocol != protocol


@given(st.integers(600, 9000), st.integers(528, 9000), st.sampled_from([4, 6]))
def test_any_black_hole_above_the_floor_is_found_exactly(link: int, path: int, family: int) -> None:
    world = World(family=family, link_mtu=link)
    world.path = path
    world.run(150)
    floor = {4: 528, 6: 1236}[family]
    expected = [] if path >= link or link <= floor or path < floor else [path]
    assert world.found == expected
