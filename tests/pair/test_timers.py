"""Two peers on the simulated clock: every deadline of the paper to the millisecond, and none where there should be none."""

from __future__ import annotations

import itertools
import statistics

import pytest

from ginnel.testing import Node, Pair
from ginnel.wireguard import constants
from ginnel.wireguard.effects import AttemptStarted, Established, GaveUp, ZeroSessions
from ginnel.wireguard.peer import PeerChange

MS = 1_000_000
SECOND = 1_000 * MS


def initiations(node: Node) -> list[int]:
    """When the node sent initiations."""
    return [at_ns for at_ns, kind in node.tunnel.handshakes_sent if kind == 1]


def test_a_session_comes_about_and_both_sides_say_so_at_the_right_moment() -> None:
    pair = Pair(delay_ns=20 * MS)
    began = pair.clock.mono_ns
    pair.left.send(b"hello")
    pair.run_for(seconds=1)
    assert pair.right.delivered == [b"hello"]
    assert pair.left.peer.handshake_mono_ns == began + 40 * MS
    assert pair.right.peer.handshake_mono_ns == began + 60 * MS
    pair.right.send(b"and back")
    pair.run_for(seconds=1)
    assert pair.left.delivered == [b"and back"]
    # One handshake of one datagram each way, and nobody asked twice.
    assert len(initiations(pair.left)) == 1
    assert initiations(pair.right) == []


def test_without_data_the_initiator_confirms_by_an_empty_packet() -> None:
    pair = Pair()
    pair.left.command(lambda machine, now: machine.session_needed(pair.left.peer.handle, "keepalive", now))
    pair.run_for(seconds=1)
    assert pair.right.peer.handshake_unix_ns != 0
    assert pair.right.delivered == []


def test_the_responder_does_not_send_under_the_new_keys_before_they_are_confirmed() -> None:
    pair = Pair()
    pair.left.command(lambda machine, now: machine.session_needed(pair.left.peer.handle, "keepalive", now))
    while not pair.right.tunnel_peer.next:
        pair.step(pair.clock.mono_ns + SECOND)
    pair.right.send(b"wait")
    assert [d.payload[0] for _, d in pair.net.sent if d.source == pair.right.address] == [2]
    pair.run_for(seconds=1)
    assert pair.left.delivered == [b"wait"]


def test_an_unanswered_attempt_is_twenty_initiations_5_to_5333_ms_apart_then_silence() -> None:
    pair = Pair(seed=3)
    pair.net.loss = 1.0
    pair.left.send(b"anybody?")
    pair.run_for(seconds=200)
    sent = initiations(pair.left)
    assert len(sent) == 20
    gaps = [later - earlier for earlier, later in itertools.pairwise(sent)]
    assert all(5 * SECOND <= gap <= 5 * SECOND + 333 * MS for gap in gaps)
    assert [event for event in pair.left.events if isinstance(event, GaveUp)] == [GaveUp(1, 20)]
    assert not pair.left.tunnel_peer.staged
    assert pair.left.tunnel.sources_cleared == 19
    # The next packet tries again.
    pair.net.heal()
    pair.left.send(b"now?")
    pair.run_for(seconds=1)
    assert pair.right.delivered == [b"now?"]


def test_keys_are_zeroed_540_s_after_the_last_session_and_not_a_millisecond_earlier() -> None:
    pair = Pair()
    pair.establish()
    made = pair.left.peer.handshake_mono_ns
    pair.run_for(milliseconds=(made + 540 * SECOND - pair.clock.mono_ns) / MS - 1)
    assert pair.left.tunnel_peer.sessions() != []
    pair.run_for(milliseconds=1)
    assert ZeroSessions(1) in pair.left.effects
    assert pair.left.tunnel_peer.sessions() == []
    pair.run_for(seconds=1)
    assert pair.right.tunnel_peer.sessions() == []
    assert pair.left.tunnel.indices == {}
    assert pair.right.tunnel.indices == {}


@pytest.mark.parametrize(("age_ms", "rekeys"), [(119_999, False), (120_000, True)])
def test_the_initiator_rekeys_when_it_sends_after_120_s(age_ms: int, rekeys: bool) -> None:
    pair = Pair()
    pair.establish()
    made = pair.left.peer.handshake_mono_ns
    pair.run_for(milliseconds=(made - pair.clock.mono_ns) / MS + age_ms)
    pair.left.send(b"old")
    pair.run_for(seconds=1)
    assert pair.right.delivered[-1] == b"old"
    assert (len(initiations(pair.left)) == 2) is rekeys


def test_the_responder_never_rekeys() -> None:
    pair = Pair()
    pair.establish()
    for _ in range(170):
        pair.run_for(seconds=1)
        pair.right.send(b"chatter")
    assert initiations(pair.right) == []
    # The initiator did, on receiving after 165 s, having sent nothing but keepalives before ... which count as sending.
    assert len(initiations(pair.left)) == 2


def test_a_rekey_loses_no_packet() -> None:
    pair = Pair(delay_ns=30 * MS)
    pair.establish()
    for number in range(400):
        pair.left.send(b"l%d" % number)
        pair.right.send(b"r%d" % number)
        pair.run_for(seconds=1)
    assert pair.right.delivered[1:] == [b"l%d" % number for number in range(400)]
    assert pair.left.delivered == [b"r%d" % number for number in range(400)]
    assert len(initiations(pair.left)) + len(initiations(pair.right)) == 4


def test_data_unanswered_for_15_s_starts_a_handshake() -> None:
    pair = Pair()
    pair.establish()
    pair.run_for(seconds=20)
    pair.net.cut.add(pair.right.address)
    sent_ns = pair.clock.mono_ns
    pair.left.send(b"lost")
    pair.run_for(seconds=14.999)
    assert len(initiations(pair.left)) == 1
    pair.run_for(seconds=0.334)
    assert 15 * SECOND <= initiations(pair.left)[1] - sent_ns <= 15 * SECOND + 333 * MS
    assert pair.left.events[-1] == AttemptStarted(1, "silent")


def test_r10_two_idle_peers_fall_silent() -> None:
    """24 hours after one packet: it, its handshake, and one passive keepalive. Keepalives are never answered."""
    pair = Pair()
    pair.establish()
    pair.run_for(seconds=86_400)
    kinds = [datagram.payload[0] for _, datagram in pair.net.sent]
    assert kinds == [1, 2, 4, 4]


def test_r10_a_persistent_keepalive_costs_one_datagram_an_interval_and_its_rekeys() -> None:
    pair = Pair()
    pair.left.configure(PeerChange(pair.left.peer.public_key, persistent_keepalive_s=25))
    hours = 24
    pair.run_for(seconds=hours * 3600)
    sent = [datagram.payload[0] for _, datagram in pair.net.sent]
    # A keepalive each 25 s; a handshake (two datagrams, and the confirming keepalive) each 120 to 145 s.
    assert sent.count(1) <= hours * 3600 / 120
    assert sent.count(1) == sent.count(2)
    assert hours * 3600 / 26 <= sent.count(4) <= hours * 3600 / 25 + sent.count(1)
    assert {datagram.source for _, datagram in pair.net.sent if datagram.payload[0] == 4} == {pair.left.address}


def test_r11_jitter_over_ten_thousand_retransmissions() -> None:
    pair = Pair(seed=11)
    pair.net.loss = 1.0
    jitters: list[float] = []
    while len(jitters) < 10_000:
        pair.left.send(b"anybody?")
        pair.left.tunnel.handshakes_sent.clear()
        pair.run_for(seconds=120)
        sent = initiations(pair.left)
        jitters += [(later - earlier) / MS - 5_000 for earlier, later in itertools.pairwise(sent)]
        pair.net.sent.clear()
        pair.left.effects.clear()
    assert min(jitters) >= 0
    assert max(jitters) <= 333
    assert min(jitters) < 1
    assert max(jitters) > 332
    assert statistics.fmean(jitters) == pytest.approx(166.5, abs=4)
    assert statistics.stdev(jitters) == pytest.approx(333 / 12**0.5, abs=3)


def test_r11_no_excessive_rekeys_under_steady_traffic() -> None:
    pair = Pair()
    pair.establish()
    for _ in range(3600):
        pair.left.send(b"tick")
        pair.right.send(b"tock")
        pair.run_for(seconds=1)
    # One at the start, then one with the first packet that finds the session 120 s old: they come once a second.
    assert len(initiations(pair.left)) == 1 + 3600 // 121
    assert initiations(pair.right) == []


@pytest.mark.parametrize("round_trip_ms", [0, 1, 249, 250, 251, 1_000, 2_500, 4_000, 4_900])
def test_r12_a_response_is_taken_however_long_it_takes(round_trip_ms: int) -> None:
    pair = Pair(delay_ns=round_trip_ms * MS // 2)
    pair.left.send(b"far")
    pair.run_for(seconds=10)
    assert pair.right.delivered == [b"far"]
    assert len(initiations(pair.left)) == 1
    assert [type(event) for event in pair.left.events] == [AttemptStarted, Established]


def test_a_lost_initiation_and_a_lost_response_each_cost_one_retry() -> None:
    for lost in (1, 2):
        pair = Pair(seed=lost)
        pair.left.send(b"first")
        while not any(datagram.payload[0] == lost for _, datagram in pair.net.sent):
            pair.step(pair.clock.mono_ns + SECOND)
        assert pair.net.drop_in_flight() == 1
        pair.run_for(seconds=5.4)
        assert pair.right.delivered == [b"first"], lost
        assert len(initiations(pair.left)) == 2


def test_two_peers_that_speak_at_once_need_one_round_trip() -> None:
    pair = Pair(delay_ns=50 * MS)
    pair.left.send(b"from left")
    pair.right.send(b"from right")
    pair.run_for(milliseconds=250)
    assert pair.left.delivered == [b"from right"]
    assert pair.right.delivered == [b"from left"]
    # And they do not go on colliding.
    for _ in range(600):
        pair.run_for(seconds=1)
        pair.left.send(b"x")
        pair.right.send(b"y")
    assert len(initiations(pair.left)) + len(initiations(pair.right)) == 2 + 600 // 121


def test_constants_hold_between_the_sides() -> None:
    """What the initiator stops at and what the responder stops at leave room for one keepalive and one handshake."""
    assert constants.REKEY_AFTER_TIME_NS < constants.REKEY_ON_RECEIVE_TIME_NS < constants.REJECT_AFTER_TIME_NS
    assert constants.REKEY_TIMEOUT_NS > constants.INITIATION_INTERVAL_NS
