"""
The interface machine, one input at a time: which effects come out, in which order, and what a refused input leaves behind.

`Machine` is the machine under test with counters for an engine. `Remote` is a peer written out by hand on the noise functions,
so that it can also send what a correct peer never sends.
"""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import pytest

from ginnel import crypto
from ginnel.crypto import Secret
from ginnel.units import Endpoint, Now, Prefix, PublicKey
from ginnel.wire import wireguard as wire
from ginnel.wireguard import constants, cookie, noise, tai64n
from ginnel.wireguard.effects import (
    AttemptOver,
    AttemptStarted,
    Authentic,
    ClearSource,
    ClockBehind,
    Down,
    Effect,
    Established,
    Event,
    ExpireSession,
    Flush,
    GaveUp,
    InstallSession,
    Outcome,
    ReleaseIndex,
    RemoveAllowedIps,
    RemovePeer,
    SendHandshake,
    SetAllowedIps,
    SetEndpoint,
    SetFwmark,
    SetKeepalive,
    SetListenPort,
    SetPrivateKey,
    StopKeepaliveTimer,
    Up,
    WaitUntil,
    ZeroSessions,
)
from ginnel.wireguard.interface import TIMERS_PER_CALL, Drop, Interface
from ginnel.wireguard.peer import Peer, PeerChange, Remembered

SECOND = 1_000_000_000
MS = 1_000_000
START = Now(1_000 * SECOND, 1_700_000_000 * SECOND)
THERE = Endpoint(b"\xc0\x00\x02\x02", 51820)
ELSEWHERE = Endpoint(b"\xc0\x00\x02\x63", 9)
LOW_ORDER = PublicKey(bytes(32))

Output = Effect | Event


def later(now: Now, ns: int) -> Now:
    return Now(now.mono_ns + ns, now.unix_ns + ns)


class Machine(Interface):
    """The machine under test: up and with a key unless asked otherwise, and everything it put out so far taken."""

    def __init__(self, *, up: bool = True, key: bool = True, entropy: Callable[[int], bytes] = bytes) -> None:
        handles, indices = itertools.count(1), itertools.count(1000)
        self.reserved: list[int] = []

        def reserve(_peer: int) -> int:
            self.reserved.append(next(indices))
            return self.reserved[-1]

        super().__init__(add_peer=lambda _key: next(handles), reserve_index=reserve, entropy=entropy)
        if key:
            self.set_private_key(crypto.generate_private_key(), START)
        if up:
            self.up(START)
        self.outputs()

    def outputs(self) -> list[Output]:
        """Everything put out since the last call."""
        found: list[Output] = []
        while not isinstance(output := self.poll(), WaitUntil):
            found.append(output)
        return found

    @property
    def deadline(self) -> int | None:
        wait = self.poll()
        assert isinstance(wait, WaitUntil)
        return wait.mono_ns

    def know(self, remote: Remote, *, endpoint: Endpoint | None = THERE, **change: object) -> Peer:
        """Add *remote* as a peer."""
        peer = self.configure_peer(PeerChange(remote.public_key, endpoint=endpoint, **change), START)  # type: ignore[arg-type]
        assert peer is not None
        self.outputs()
        return peer

    @property
    def key(self) -> PublicKey:
        assert self.public_key is not None
        return self.public_key


class Answer(NamedTuple):
    keys: noise.SessionKeys
    message: bytes


class Remote:
    """The other side, by hand."""

    def __init__(self, private_key: Secret | None = None) -> None:
        self.private_key = private_key or crypto.generate_private_key()
        self.public_key = crypto.public_key(self.private_key)
        self.initiated: noise.Initiated | None = None

    def initiation(
        self, to: PublicKey, timestamp_ns: int = START.unix_ns, *, sender: int = 77, claims: PublicKey | None = None
    ) -> bytes:
        self.initiated, *fields = noise.create_initiation(
            noise.initial_hash(to),
            claims or self.public_key,
            to,
            crypto.dh(self.private_key, to),
            tai64n.encode(timestamp_ns),
            Secret.random(),
        )
        return cookie.Stamps(to).stamp(wire.Initiation(sender, *fields).build(), 0)

    def answer(self, initiation: bytes, *, psk: Secret | None = None, sender: int = 88) -> Answer:
        message = wire.Initiation.parse(initiation)
        half = noise.consume_static(
            noise.initial_hash(self.public_key), self.private_key, message.ephemeral, message.encrypted_static
        )
        static_static = crypto.dh(self.private_key, half.remote_static)
        consumed, _ = noise.consume_payload(half, static_static, message.encrypted_timestamp)
        keys, *fields = noise.create_response(consumed, psk or Secret.zero(), Secret.random())
        response = wire.Response(sender, message.sender, *fields).build()
        return Answer(keys, cookie.Stamps(half.remote_static).stamp(response, 0))

    def finish(self, response: bytes, *, psk: Secret | None = None) -> noise.SessionKeys:
        assert self.initiated is not None
        message = wire.Response.parse(response)
        return noise.consume_response(
            self.initiated, self.private_key, psk or Secret.zero(), message.ephemeral, message.encrypted_nothing
        )[0]

    def timestamp_of(self, initiation: bytes) -> bytes:
        message = wire.Initiation.parse(initiation)
        half = noise.consume_static(
            noise.initial_hash(self.public_key), self.private_key, message.ephemeral, message.encrypted_static
        )
        static_static = crypto.dh(self.private_key, half.remote_static)
        return noise.consume_payload(half, static_static, message.encrypted_timestamp)[1]


def kinds(outputs: list[Output]) -> list[type]:
    return [type(output) for output in outputs]


T = TypeVar("T")


def every(kind: type[T], outputs: list[Output]) -> list[T]:
    return [output for output in outputs if isinstance(output, kind)]


def only(kind: type[T], outputs: list[Output]) -> T:
    (found,) = every(kind, outputs)
    return found


def initiate(machine: Machine, peer: Peer, now: Now = START) -> bytes:
    """The machine's initiation."""
    machine.session_needed(peer.handle, "packets", now)
    return only(SendHandshake, machine.outputs()).message


def state_of(machine: Machine) -> dict[str, object]:
    """Everything the machine remembers but its drop counts: equal before and after a message that leaves no trace."""
    peers = {
        peer.handle: {name: getattr(peer, name) for name in Peer.__slots__ if name not in {"static_static", "stamps", "unusable"}}
        for peer in machine.peers()
    }
    return {
        "peers": peers,
        "indices": {index: peer.handle for index, peer in machine._by_index.items()},
        "timers": dict(machine._timers._deadline),
        "reserved": len(machine.reserved),
    }


# ---------------------------------------------------------------- answering


def test_an_initiation_is_answered_by_five_effects_in_this_order() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote, endpoint=None)
    assert machine.receive(remote.initiation(machine.key), ELSEWHERE, START) is None
    outputs = machine.outputs()
    assert kinds(outputs) == [Outcome, Authentic, InstallSession, SendHandshake]
    assert only(Outcome, outputs).genuine
    assert only(Authentic, outputs) == Authentic(peer.handle, ELSEWHERE, 148)
    install = only(InstallSession, outputs)
    assert (install.local_index, install.remote_index, install.initiator) == (1000, 77, False)
    response = only(SendHandshake, outputs).message
    assert wire.Response.parse(response).receiver == 77
    assert wire.Response.parse(response).sender == 1000
    assert cookie.mac1_valid(cookie.mac1_key(remote.public_key), response)
    keys = remote.finish(response)
    assert install.send == keys.responder_sends
    assert install.receive == keys.initiator_sends
    assert machine.deadline == START.mono_ns + constants.ZERO_KEY_MATERIAL_TIME_NS


def test_the_responders_handshake_is_complete_with_the_first_packet_not_before() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    machine.receive(remote.initiation(machine.key), THERE, START)
    assert not every(Established, machine.outputs())
    assert peer.handshake_unix_ns == 0
    confirmed = later(START, 30 * MS)
    machine.session_confirmed(peer.handle, 1000, confirmed)
    assert machine.outputs() == [Established(peer.handle, 1000, initiator=False)]
    assert peer.handshake_unix_ns == confirmed.unix_ns


@pytest.mark.parametrize("back_ns", [0, 1, tai64n.GRAIN_NS, SECOND])
def test_a_timestamp_that_is_not_greater_is_a_replay(back_ns: int) -> None:
    machine, remote = Machine(), Remote()
    machine.know(remote)
    machine.receive(remote.initiation(machine.key, START.unix_ns), THERE, START)
    machine.outputs()
    before = state_of(machine)
    again = remote.initiation(machine.key, START.unix_ns - back_ns)
    assert machine.receive(again, ELSEWHERE, later(START, SECOND)) is Drop.REPLAY
    assert machine.outputs() == [Outcome(ELSEWHERE, genuine=False)]
    assert state_of(machine) == before


def test_a_timestamp_one_nanosecond_greater_is_fresh() -> None:
    machine, remote = Machine(), Remote()
    machine.know(remote)
    machine.receive(remote.initiation(machine.key, START.unix_ns), THERE, START)
    assert machine.receive(remote.initiation(machine.key, START.unix_ns + 1), THERE, later(START, SECOND)) is None


@pytest.mark.parametrize(("after_ns", "taken"), [(20 * MS - 1, False), (20 * MS, True)])
def test_one_initiation_in_20_ms_is_consumed(after_ns: int, taken: bool) -> None:
    machine, remote = Machine(), Remote()
    machine.know(remote)
    machine.receive(remote.initiation(machine.key, START.unix_ns), THERE, START)
    machine.outputs()
    before = state_of(machine)
    drop = machine.receive(remote.initiation(machine.key, START.unix_ns + 1), THERE, later(START, after_ns))
    outputs = machine.outputs()
    if taken:
        assert drop is None
        assert SendHandshake in kinds(outputs)
    else:
        assert drop is Drop.TOO_SOON
        # It proved to be one of ours, which the gate should hear, though nothing is answered.
        assert outputs == [Outcome(THERE, genuine=True)]
        assert state_of(machine) == before


def test_the_limit_is_per_peer() -> None:
    machine = Machine()
    remotes = [Remote() for _ in range(3)]
    for remote in remotes:
        machine.know(remote)
    for remote in remotes:
        assert machine.receive(remote.initiation(machine.key), THERE, START) is None


def test_a_new_response_replaces_the_old_ones_index() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    for number in range(50):
        now = later(START, number * SECOND)
        assert machine.receive(remote.initiation(machine.key, now.unix_ns), THERE, now) is None
    assert list(machine._by_index) == [1049]
    assert peer.response_index == 1049


# ---------------------------------------------------------------- refusing


def damaged(message: bytes, at: int) -> bytes:
    return message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]


REFUSED_INITIATIONS: dict[str, tuple[Drop, Callable[[Machine, Remote], bytes]]] = {
    "empty": (Drop.MALFORMED, lambda _m, _r: b""),
    "data message": (Drop.MALFORMED, lambda _m, _r: b"\x04" + bytes(31)),
    "one byte short": (Drop.MALFORMED, lambda m, r: r.initiation(m.key)[:-1]),
    "one byte long": (Drop.MALFORMED, lambda m, r: r.initiation(m.key) + b"\0"),
    "reserved byte": (Drop.MALFORMED, lambda m, r: damaged(r.initiation(m.key), 2)),
    "other ephemeral": (Drop.NOT_FOR_US, lambda m, r: damaged(r.initiation(m.key), 8)),
    "low-order ephemeral": (Drop.LOW_ORDER, lambda m, r: r.initiation(m.key)[:8] + bytes(32) + bytes(108)),
    "damaged static": (Drop.NOT_FOR_US, lambda m, r: damaged(r.initiation(m.key), 40)),
    "damaged timestamp": (Drop.IMPOSTOR, lambda m, r: damaged(r.initiation(m.key), 88)),
    "sealed to another": (Drop.NOT_FOR_US, lambda _m, r: r.initiation(Remote().public_key)),
    "a stranger": (Drop.UNKNOWN_PEER, lambda m, _r: Remote().initiation(m.key)),
    "an impostor": (Drop.IMPOSTOR, lambda m, r: Remote().initiation(m.key, claims=r.public_key)),
}


@pytest.mark.parametrize("name", REFUSED_INITIATIONS)
def test_r20_a_refused_initiation_leaves_no_trace_but_its_count(name: str) -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    initiate(machine, peer)
    expected, make = REFUSED_INITIATIONS[name]
    message = make(machine, remote)
    before = state_of(machine)
    assert machine.receive(message, ELSEWHERE, later(START, SECOND)) is expected
    assert machine.drops[expected] == 1
    assert state_of(machine) == before
    # Only the gate hears of it, and only of what claimed to be an initiation.
    assert machine.outputs() == ([] if expected is Drop.MALFORMED else [Outcome(ELSEWHERE, genuine=False)])


def test_a_static_key_that_gives_no_secret_is_refused() -> None:
    machine = Machine()
    machine.configure_peer(PeerChange(LOW_ORDER), START)
    # Only a forger can claim it, as nobody holds its private key: the first half opens, the second never can.
    message = Remote().initiation(machine.key, claims=LOW_ORDER)
    machine.outputs()
    assert machine.receive(message, ELSEWHERE, START) is Drop.LOW_ORDER
    assert machine.outputs() == [Outcome(ELSEWHERE, genuine=False)]


@pytest.mark.parametrize("point", ["ephemeral", "bad tag", "another psk", "unknown index", "truncated"])
def test_r20_a_refused_response_leaves_no_trace_and_the_true_one_is_still_taken(point: str) -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    initiation = initiate(machine, peer)
    true = remote.answer(initiation).message
    wrong, expected = {
        "ephemeral": (true[:12] + bytes(32) + true[44:], Drop.LOW_ORDER),
        "bad tag": (damaged(true, 44), Drop.BAD_RESPONSE),
        "another psk": (remote.answer(initiation, psk=Secret.random()).message, Drop.BAD_RESPONSE),
        "unknown index": (damaged(true, 8), Drop.UNKNOWN_INDEX),
        "truncated": (true[:-1], Drop.MALFORMED),
    }[point]
    before = state_of(machine)
    assert machine.receive(wrong, ELSEWHERE, later(START, MS)) is expected
    assert machine.outputs() == []
    assert state_of(machine) == before
    assert machine.receive(true, THERE, later(START, 2 * MS)) is None


def test_nothing_is_consumed_without_a_private_key_or_while_down() -> None:
    machine, remote = Machine(), Remote()
    machine.know(remote)
    message = remote.initiation(machine.key)
    machine.down()
    machine.outputs()
    assert machine.receive(message, THERE, START) is Drop.DOWN
    machine.up(START)
    machine.set_private_key(None, START)
    machine.outputs()
    assert machine.receive(message, THERE, START) is Drop.NO_PRIVATE_KEY
    assert machine.outputs() == []


# ---------------------------------------------------------------- initiating


def test_a_session_that_is_needed_begins_a_handshake() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    machine.session_needed(peer.handle, "packets", START)
    outputs = machine.outputs()
    assert kinds(outputs) == [AttemptStarted, SendHandshake]
    assert only(AttemptStarted, outputs) == AttemptStarted(peer.handle, "packets")
    initiation = only(SendHandshake, outputs).message
    assert cookie.mac1_valid(cookie.mac1_key(remote.public_key), initiation)
    assert remote.timestamp_of(initiation) == tai64n.encode(tai64n.next_after(0, START.unix_ns))
    assert machine.deadline == START.mono_ns + 5 * SECOND

    answer = remote.answer(initiation)
    now = later(START, 40 * MS)
    assert machine.receive(answer.message, ELSEWHERE, now) is None
    outputs = machine.outputs()
    assert kinds(outputs) == [Authentic, InstallSession, Established]
    install = only(InstallSession, outputs)
    assert (install.peer, install.local_index, install.remote_index, install.initiator) == (peer.handle, 1000, 88, True)
    assert install.send == answer.keys.initiator_sends
    assert install.receive == answer.keys.responder_sends
    assert peer.handshake_unix_ns == now.unix_ns
    assert machine.deadline == now.mono_ns + constants.ZERO_KEY_MATERIAL_TIME_NS


def test_asking_again_during_an_attempt_changes_nothing() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    initiate(machine, peer)
    for reason in ("packets", "silent", "ageing", "keepalive"):
        machine.session_needed(peer.handle, reason, later(START, SECOND))
    assert machine.outputs() == []
    assert machine.deadline == START.mono_ns + 5 * SECOND


def test_the_retransmit_timer_repeats_with_a_new_ephemeral_a_new_index_and_a_cleared_source() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    first = initiate(machine, peer)
    assert machine.deadline is not None
    machine.timeout(later(START, 5 * SECOND - 1))
    assert machine.outputs() == []
    machine.timeout(later(START, 5 * SECOND))
    outputs = machine.outputs()
    assert kinds(outputs) == [ClearSource, ReleaseIndex, SendHandshake]
    assert only(ReleaseIndex, outputs) == ReleaseIndex(1000)
    second = only(SendHandshake, outputs).message
    one, two = wire.Initiation.parse(first), wire.Initiation.parse(second)
    assert one.ephemeral != two.ephemeral
    assert (one.sender, two.sender) == (1000, 1001)
    assert remote.timestamp_of(second) > remote.timestamp_of(first)
    # The first is forgotten: its response comes too late.
    assert machine.receive(remote.answer(first).message, THERE, later(START, 6 * SECOND)) is Drop.UNKNOWN_INDEX
    assert machine.receive(remote.answer(second).message, THERE, later(START, 6 * SECOND)) is None


def test_r11_the_jitter_is_spread_over_the_whole_third_of_a_second() -> None:
    chances = iter([b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80"])
    machine = Machine(entropy=lambda _n: next(chances))
    jitters = []
    for _ in range(3):
        peer = machine.know(Remote())
        initiate(machine, peer)
        deadline = machine._timers.deadline(peer.handle, 0)  # type: ignore[arg-type]
        assert deadline is not None
        jitters.append(deadline - START.mono_ns - 5 * SECOND)
    assert jitters == [0, 333 * MS, 333 * MS // 2]


def test_an_attempt_is_twenty_initiations_and_then_given_up() -> None:
    machine = Machine()
    peer = machine.know(Remote())
    initiate(machine, peer)
    for number in range(1, 20):
        machine.timeout(later(START, number * 5 * SECOND))
        assert kinds(machine.outputs()) == [ClearSource, ReleaseIndex, SendHandshake], number
    end = later(START, 100 * SECOND)
    machine.timeout(end)
    assert machine.outputs() == [
        StopKeepaliveTimer(peer.handle),
        AttemptOver(peer.handle, purge=True),
        GaveUp(peer.handle, 20),
    ]
    # No session was ever made, so nothing else had armed it.
    assert machine.deadline == end.mono_ns + 540 * SECOND
    # The last initiation can still be answered, as with the kernel, until it too is forgotten.
    assert len(machine._by_index) == 1
    machine.timeout(later(end, 540 * SECOND))
    assert machine.outputs() == [ReleaseIndex(1019), ZeroSessions(peer.handle)]
    assert machine.deadline is None
    assert machine._by_index == {}


def test_giving_up_does_not_delay_the_zeroing_that_a_session_armed() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    machine.receive(remote.answer(initiate(machine, peer)).message, THERE, START)
    machine.outputs()
    began = later(START, 130 * SECOND)
    machine.session_needed(peer.handle, "ageing", began)
    for number in range(1, 21):
        machine.timeout(later(began, number * 5 * SECOND))
    assert GaveUp in kinds(machine.outputs())
    assert machine.deadline == START.mono_ns + 540 * SECOND


def test_a_new_attempt_after_giving_up_counts_from_the_start() -> None:
    machine = Machine()
    peer = machine.know(Remote())
    initiate(machine, peer)
    for number in range(1, 21):
        machine.timeout(later(START, number * 5 * SECOND))
    machine.outputs()
    machine.session_needed(peer.handle, "packets", later(START, 200 * SECOND))
    assert kinds(machine.outputs()) == [ReleaseIndex, AttemptStarted, SendHandshake]
    assert peer.initiations == 1


# ---------------------------------------------------------------- the 5 s limit


def test_within_5_s_of_a_response_the_wish_for_a_session_waits() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    machine.receive(remote.initiation(machine.key), THERE, START)
    machine.outputs()
    machine.session_needed(peer.handle, "packets", later(START, SECOND))
    assert machine.outputs() == []
    assert machine.deadline == START.mono_ns + 5 * SECOND
    machine.timeout(later(START, 5 * SECOND - 1))
    assert machine.outputs() == []
    machine.timeout(later(START, 5 * SECOND))
    assert kinds(machine.outputs()) == [AttemptStarted, SendHandshake]


def test_the_wait_ends_when_the_responders_session_is_confirmed() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    machine.receive(remote.initiation(machine.key), THERE, START)
    machine.session_needed(peer.handle, "packets", later(START, MS))
    machine.outputs()
    machine.session_confirmed(peer.handle, 1000, later(START, 2 * MS))
    assert kinds(machine.outputs()) == [Established, AttemptOver]
    machine.timeout(later(START, 10 * SECOND))
    assert machine.outputs() == []


def test_the_retransmit_timer_is_not_held_back_by_a_response_in_between() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    initiate(machine, peer)
    machine.receive(remote.initiation(machine.key), THERE, later(START, 4 * SECOND))
    machine.outputs()
    machine.timeout(later(START, 5 * SECOND))
    assert SendHandshake in kinds(machine.outputs())


def test_a_question_that_a_session_has_answered_meanwhile_starts_nothing() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    machine.receive(remote.answer(initiate(machine, peer)).message, THERE, later(START, MS))
    machine.outputs()
    machine.session_needed(peer.handle, "silent", later(START, 2 * MS))
    assert machine.outputs() == [AttemptOver(peer.handle, purge=False)]
    machine.session_needed(peer.handle, "silent", later(START, 5 * SECOND))
    assert SendHandshake in kinds(machine.outputs())


# ---------------------------------------------------------------- R22, and both at once


def test_r22_a_response_starts_one_session_however_often_it_comes() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    response = remote.answer(initiate(machine, peer)).message
    machine.receive(response, THERE, START)
    assert kinds(machine.outputs()) == [Authentic, InstallSession, Established]
    for _ in range(3):
        assert machine.receive(response, ELSEWHERE, START) is Drop.UNKNOWN_INDEX
    assert machine.outputs() == []


def test_r22_a_response_does_not_reach_across_a_new_initiation() -> None:
    """The order of CVE-2026-99059: response, a new initiation, the same response again."""
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    response = remote.answer(initiate(machine, peer)).message
    machine.receive(response, THERE, START)
    machine.outputs()
    machine.session_needed(peer.handle, "ageing", later(START, 120 * SECOND))
    machine.outputs()
    assert machine.receive(response, THERE, later(START, 120 * SECOND)) is Drop.UNKNOWN_INDEX
    assert machine.outputs() == []


def test_r22_a_response_after_the_session_was_confirmed_the_other_way_is_refused() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    response = remote.answer(initiate(machine, peer)).message
    machine.receive(remote.initiation(machine.key), THERE, later(START, MS))
    machine.outputs()
    machine.session_confirmed(peer.handle, machine.reserved[-1], later(START, 2 * MS))
    assert peer.initiation is None
    machine.outputs()
    assert machine.receive(response, THERE, later(START, 3 * MS)) is Drop.UNKNOWN_INDEX
    assert not every(InstallSession, machine.outputs())


def ordered() -> tuple[Secret, Secret]:
    """Two private keys; the first's public key is the smaller."""
    one, two = sorted((crypto.generate_private_key(), crypto.generate_private_key()), key=crypto.public_key)
    return one, two


@pytest.mark.parametrize("smaller", [True, False])
def test_of_two_initiations_that_cross_the_one_of_the_smaller_key_goes_on(smaller: bool) -> None:
    ours, theirs = ordered() if smaller else reversed(ordered())
    machine, remote = Machine(key=False), Remote(theirs)
    machine.set_private_key(ours, START)
    peer = machine.know(remote)
    response = remote.answer(initiate(machine, peer)).message
    assert machine.receive(remote.initiation(machine.key), THERE, START) is None
    outputs = machine.outputs()
    assert SendHandshake in kinds(outputs)  # answered either way
    assert (ReleaseIndex(1000) in outputs) is not smaller
    assert machine.receive(response, THERE, START) is (None if smaller else Drop.UNKNOWN_INDEX)
    # Either way something goes on trying until a session is confirmed.
    if not smaller:
        assert machine.deadline == START.mono_ns + 5 * SECOND


# ---------------------------------------------------------------- cookies


def cookie_reply(remote: Remote, message: bytes, receiver: int) -> bytes:
    nonce = bytes(24)
    sealed = crypto.xaead_seal(cookie.cookie_key(remote.public_key), nonce, b"\xcc" * 16, message[-32:-16])
    return wire.CookieReply(receiver, nonce, sealed).build()


def test_r4_r5_a_cookie_is_shown_in_the_next_initiation() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    initiation = initiate(machine, peer)
    assert machine.receive(cookie_reply(remote, initiation, 1000), ELSEWHERE, START) is None
    machine.timeout(later(START, 5 * SECOND))
    again = only(SendHandshake, machine.outputs()).message
    assert again[-16:] == crypto.mac(b"\xcc" * 16, again[:-16])


def test_r6_a_cookie_reply_moves_neither_endpoint_nor_timers() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    initiation = initiate(machine, peer)
    before = state_of(machine)
    assert machine.receive(cookie_reply(remote, initiation, 1000), ELSEWHERE, later(START, SECOND)) is None
    assert machine.outputs() == []
    assert state_of(machine) == before


def test_a_cookie_reply_may_name_a_handshake_or_a_session() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    # ... to an initiation whose response came meanwhile: the index is the session's now.
    initiation = initiate(machine, peer)
    machine.receive(remote.answer(initiation).message, THERE, START)
    assert machine.receive(cookie_reply(remote, initiation, 1000), THERE, START) is None
    # ... to our response.
    machine.outputs()
    machine.receive(remote.initiation(machine.key), THERE, START)
    response = only(SendHandshake, machine.outputs()).message
    assert machine.receive(cookie_reply(remote, response, 1001), THERE, START) is None


def test_a_cookie_reply_is_refused_when_none_is_awaited_or_it_does_not_open() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    initiation = initiate(machine, peer)
    reply = cookie_reply(remote, initiation, 1000)
    assert machine.receive(cookie_reply(remote, initiation, 999), THERE, START) is Drop.UNKNOWN_INDEX
    assert machine.receive(damaged(reply, 40), THERE, START) is Drop.BAD_COOKIE
    assert machine.receive(reply, THERE, START) is None
    assert machine.receive(reply, THERE, START) is Drop.BAD_COOKIE


# ---------------------------------------------------------------- low-order keys


@pytest.mark.parametrize("point", range(5))
def test_nothing_is_ever_sent_to_a_low_order_key(point: int) -> None:
    keys = [
        bytes(32),
        b"\x01" + bytes(31),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
        bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ]
    machine = Machine()
    peer = machine.configure_peer(PeerChange(PublicKey(keys[point]), endpoint=THERE, persistent_keepalive_s=1), START)
    assert peer is not None
    machine.outputs()
    for second in range(30):
        machine.session_needed(peer.handle, "keepalive", later(START, second * SECOND))
        machine.timeout(later(START, second * SECOND))
    assert machine.outputs() == []
    assert machine.reserved == []
    (view,) = machine.view(START)
    assert view.state == "bad-key"


# ---------------------------------------------------------------- configuration: the interface


def test_the_private_key_is_clamped_and_the_same_one_again_is_nothing() -> None:
    machine = Machine(key=False)
    raw = Secret.from_bytes(b"\xff" * 32)
    machine.set_private_key(raw, START)
    (effect,) = machine.outputs()
    assert isinstance(effect, SetPrivateKey)
    assert effect.key == raw.clamp()
    assert machine.private_key == raw.clamp()
    machine.set_private_key(raw, START)
    machine.set_private_key(raw.clamp(), START)
    assert machine.outputs() == []


def test_an_all_zero_private_key_is_none() -> None:
    machine = Machine()
    machine.set_private_key(Secret.zero(), START)
    assert machine.outputs() == [SetPrivateKey(None)]
    assert machine.private_key is None
    assert machine.public_key is None
    machine.set_private_key(None, START)
    assert machine.outputs() == []


def test_a_new_private_key_removes_the_peer_that_is_ourselves_and_expires_the_others() -> None:
    machine, other, ourselves = Machine(), Remote(), Remote()
    kept, removed = machine.know(other), machine.know(ourselves)
    machine.set_private_key(ourselves.private_key, START)
    outputs = machine.outputs()
    assert kinds(outputs) == [SetPrivateKey, RemovePeer, ExpireSession]
    assert only(RemovePeer, outputs).peer == removed.handle
    assert only(ExpireSession, outputs).peer == kept.handle
    assert machine.peer(ourselves.public_key) is None


def test_after_a_new_private_key_handshakes_are_of_the_new_identity() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    machine.receive(remote.answer(initiate(machine, peer)).message, THERE, START)
    old = machine.key
    machine.set_private_key(crypto.generate_private_key(), START)
    machine.outputs()
    # The 5 s limit was lifted, and the static-static secret is a new one.
    machine.session_needed(peer.handle, "packets", later(START, MS))
    initiation = only(SendHandshake, machine.outputs()).message
    half = noise.consume_static(
        noise.initial_hash(remote.public_key),
        remote.private_key,
        wire.Initiation.parse(initiation).ephemeral,
        wire.Initiation.parse(initiation).encrypted_static,
    )
    assert half.remote_static == machine.key != old
    assert machine.receive(remote.answer(initiation).message, THERE, later(START, 2 * MS)) is None


def test_an_attempt_under_way_begins_anew_with_the_new_identity() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    first = initiate(machine, peer)
    machine.set_private_key(crypto.generate_private_key(), later(START, MS))
    outputs = machine.outputs()
    assert kinds(outputs) == [SetPrivateKey, ReleaseIndex, ExpireSession, AttemptStarted, SendHandshake]
    assert machine.receive(remote.answer(first).message, THERE, later(START, MS)) is Drop.UNKNOWN_INDEX
    assert machine.receive(remote.answer(only(SendHandshake, outputs).message).message, THERE, later(START, MS)) is None


def test_without_a_private_key_nothing_is_sent_and_the_wish_is_kept() -> None:
    machine, remote = Machine(key=False), Remote()
    peer = machine.know(remote)
    machine.session_needed(peer.handle, "packets", START)
    assert machine.outputs() == []
    assert machine.deadline is None
    machine.set_private_key(crypto.generate_private_key(), START)
    assert SendHandshake in kinds(machine.outputs())


def test_taking_the_private_key_away_ends_every_attempt() -> None:
    machine = Machine()
    peer = machine.know(Remote())
    initiate(machine, peer)
    machine.set_private_key(None, START)
    assert kinds(machine.outputs()) == [SetPrivateKey, ReleaseIndex, ExpireSession]
    machine.timeout(later(START, 100 * SECOND))
    assert machine.outputs() == []


def test_port_and_mark_are_passed_on_and_remembered() -> None:
    machine = Machine()
    machine.set_listen_port(51820)
    machine.set_fwmark(0xCA6C)
    assert machine.outputs() == [SetListenPort(51820), SetFwmark(0xCA6C)]
    assert (machine.listen_port, machine.fwmark) == (51820, 0xCA6C)


def test_down_forgets_handshakes_wishes_and_the_5_s_limit_but_not_timestamps() -> None:
    machine, remote, other = Machine(), Remote(), Remote()
    peer, answered = machine.know(remote), machine.know(other)
    initiate(machine, peer)
    machine.receive(other.initiation(machine.key), THERE, START)
    machine.outputs()
    machine.down()
    assert machine.outputs() == [ReleaseIndex(1000), Down()]
    assert machine.deadline is None
    assert machine.receive(other.initiation(machine.key), THERE, START) is Drop.DOWN
    machine.up(later(START, MS))
    assert machine.outputs() == [Up()]
    for asked in (peer, answered):
        machine.session_needed(asked.handle, "packets", later(START, MS))
        assert kinds(machine.outputs()) == [AttemptStarted, SendHandshake]
    assert machine.receive(other.initiation(machine.key), THERE, later(START, SECOND)) is Drop.REPLAY


def test_down_forgets_what_was_wanted_and_what_was_given_up() -> None:
    machine, unknown, silent = Machine(), Remote(), Remote()
    waiting, gone = machine.know(unknown, endpoint=None), machine.know(silent)
    machine.session_needed(waiting.handle, "packets", START)
    initiate(machine, gone)
    for number in range(1, 21):
        machine.timeout(later(START, number * 5 * SECOND))
    machine.down()
    machine.up(later(START, 200 * SECOND))
    machine.outputs()
    machine.endpoint_changed(waiting.handle, later(START, 200 * SECOND))
    assert machine.outputs() == []
    assert [view.why for view in machine.view(START)] == ["nothing was sent to it; the next packet starts a handshake"] * 2


def test_up_and_down_twice_are_once() -> None:
    machine = Machine(up=False)
    machine.down()
    assert machine.outputs() == []
    machine.up(START)
    machine.up(START)
    assert machine.outputs() == [Up()]


# ---------------------------------------------------------------- configuration: peers


def test_adding_and_changing_a_peer() -> None:
    machine, remote = Machine(), Remote()
    prefixes = (Prefix.parse("10.0.0.0/24"), Prefix.parse("fd00::/64"))
    machine.configure_peer(
        PeerChange(
            remote.public_key,
            endpoint=THERE,
            persistent_keepalive_s=25,
            replace_allowed_ips=True,
            allowed_ips=prefixes,
            removed_allowed_ips=prefixes[:1],
        ),
        START,
    )
    assert machine.outputs() == [
        SetEndpoint(1, THERE.packed, THERE.port, 0),
        SetAllowedIps(1, list(prefixes), replace=True),
        RemoveAllowedIps(1, [prefixes[0]]),
        SetKeepalive(1, 25),
        Flush(1),
    ]
    machine.configure_peer(PeerChange(remote.public_key, allowed_ips=prefixes[:1]), START)
    assert machine.outputs() == [SetAllowedIps(1, [prefixes[0]], replace=False), Flush(1)]
    machine.configure_peer(PeerChange(remote.public_key, replace_allowed_ips=True), START)
    assert machine.outputs() == [SetAllowedIps(1, [], replace=True), Flush(1)]
    assert machine.peer(remote.public_key) is machine.peer_of(1)


def test_removing_a_peer_takes_everything_with_it() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    initiate(machine, peer)
    machine.receive(remote.initiation(machine.key), THERE, START)
    machine.outputs()
    assert machine.configure_peer(PeerChange(remote.public_key, remove=True), START) is None
    assert kinds(machine.outputs())[-1] is RemovePeer
    assert machine.deadline is None
    assert machine._by_index == {}
    # What the engine had already queued for it is ignored.
    machine.session_needed(peer.handle, "packets", START)
    machine.session_confirmed(peer.handle, 1001, START)
    machine.endpoint_changed(peer.handle, START)
    machine.send_failed(peer.handle, "why")
    assert machine.outputs() == []
    # Added again it is another peer, and old timestamps do not bind it.
    again = machine.know(remote)
    assert again.handle != peer.handle
    assert machine.receive(remote.initiation(machine.key), THERE, later(START, SECOND)) is None


@pytest.mark.parametrize("change", [{"remove": True}, {"update_only": True, "persistent_keepalive_s": 5}])
def test_removing_or_only_updating_a_peer_that_does_not_exist_does_nothing(change: dict[str, object]) -> None:
    machine = Machine()
    assert machine.configure_peer(PeerChange(Remote().public_key, **change), START) is None  # type: ignore[arg-type]
    assert machine.outputs() == []
    assert list(machine.peers()) == []


def test_update_only_changes_a_peer_that_exists() -> None:
    machine, remote = Machine(), Remote()
    machine.know(remote)
    machine.configure_peer(PeerChange(remote.public_key, update_only=True, persistent_keepalive_s=5), START)
    assert machine.outputs() == [SetKeepalive(1, 5), Flush(1)]


def test_adding_our_own_key_is_ignored() -> None:
    machine = Machine()
    assert machine.configure_peer(PeerChange(machine.key, endpoint=THERE), START) is None
    assert machine.outputs() == []


def test_replacing_all_peers_removes_each() -> None:
    machine = Machine()
    handles = [machine.know(Remote()).handle for _ in range(3)]
    machine.replace_peers()
    assert machine.outputs() == [RemovePeer(handle) for handle in handles]
    assert list(machine.peers()) == []


def test_r7_a_preshared_key_counts_from_the_next_handshake_on() -> None:
    machine, remote, psk = Machine(), Remote(), Secret.random()
    peer = machine.know(remote)
    machine.receive(remote.answer(initiate(machine, peer)).message, THERE, START)
    machine.outputs()
    machine.configure_peer(PeerChange(remote.public_key, preshared_key=psk), START)
    assert machine.outputs() == [Flush(peer.handle)]  # the session lives on
    now = later(START, 120 * SECOND)
    initiation = initiate(machine, peer, now)
    assert machine.receive(remote.answer(initiation).message, THERE, now) is Drop.BAD_RESPONSE
    assert machine.receive(remote.answer(initiation, psk=psk).message, THERE, now) is None
    # And as a responder.
    now = later(now, SECOND)
    machine.outputs()
    machine.receive(remote.initiation(machine.key, now.unix_ns), THERE, now)
    remote.finish(only(SendHandshake, machine.outputs()).message, psk=psk)
    # All zero is none again.
    machine.configure_peer(PeerChange(remote.public_key, preshared_key=Secret.zero()), now)
    machine.outputs()
    now = later(now, SECOND)
    machine.receive(remote.initiation(machine.key, now.unix_ns), THERE, now)
    remote.finish(only(SendHandshake, machine.outputs()).message)


def test_without_an_endpoint_the_wish_waits_for_one() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote, endpoint=None)
    machine.session_needed(peer.handle, "packets", START)
    assert machine.outputs() == []
    machine.configure_peer(PeerChange(remote.public_key, endpoint=THERE), START)
    assert kinds(machine.outputs()) == [SetEndpoint, Flush, AttemptStarted, SendHandshake]


def test_an_endpoint_that_the_engine_learned_serves_too() -> None:
    machine = Machine()
    peer = machine.know(Remote(), endpoint=None)
    machine.session_needed(peer.handle, "packets", START)
    machine.endpoint_changed(peer.handle, START)
    assert kinds(machine.outputs()) == [AttemptStarted, SendHandshake]


# ---------------------------------------------------------------- clocks


def test_r13_timestamps_increase_when_the_wall_clock_is_set_back() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    first = initiate(machine, peer)
    back = Now(START.mono_ns + 5 * SECOND, START.unix_ns - 10 * 365 * 86_400 * SECOND)
    machine.timeout(back)
    second = only(SendHandshake, machine.outputs()).message
    assert remote.timestamp_of(second) > remote.timestamp_of(first)


def test_r13_a_clock_set_back_is_reported_when_an_attempt_begins() -> None:
    machine, remote = Machine(), Remote()
    peer = machine.know(remote)
    machine.receive(remote.answer(initiate(machine, peer)).message, THERE, START)
    machine.outputs()
    hour = 3600 * SECOND
    machine.session_needed(peer.handle, "ageing", Now(START.mono_ns + 120 * SECOND, START.unix_ns - hour))
    behind = only(ClockBehind, machine.outputs())
    assert behind.peer == peer.handle
    assert 0 <= behind.behind_ns - hour <= 2 * tai64n.GRAIN_NS


def test_r13_deadlines_do_not_follow_the_wall_clock() -> None:
    machine = Machine()
    peer = machine.know(Remote())
    initiate(machine, peer)
    machine.timeout(Now(START.mono_ns + SECOND, START.unix_ns + 10**9 * SECOND))
    assert machine.outputs() == []
    assert machine.deadline == START.mono_ns + 5 * SECOND


def test_r13_waking_from_a_long_sleep_does_each_thing_once() -> None:
    machine = Machine()
    peer = machine.know(Remote())
    initiate(machine, peer)
    machine.timeout(later(START, 86_400 * SECOND))
    assert kinds(machine.outputs()) == [ClearSource, ReleaseIndex, SendHandshake]


def crowd(count: int) -> tuple[Machine, list[Peer]]:
    """A machine in the middle of *count* attempts that nobody answers."""
    machine = Machine()
    peers: list[Peer] = []
    for number in range(count):
        peer = machine.configure_peer(PeerChange(crypto.public_key(crypto.generate_private_key()), endpoint=THERE), START)
        assert peer is not None
        machine.session_needed(peer.handle, "packets", later(START, number))
        peers.append(peer)
    machine.outputs()
    return machine, peers


def test_one_call_does_a_bounded_part_of_what_is_due_and_asks_to_be_called_again_at_once() -> None:
    count = 3 * TIMERS_PER_CALL + 1
    machine, peers = crowd(count)
    now = later(START, 60 * SECOND)
    sent: list[list[int]] = []
    while machine.deadline is not None and machine.deadline <= now.mono_ns:
        machine.timeout(now)
        sent.append([output.peer for output in machine.outputs() if isinstance(output, SendHandshake)])
    assert [len(batch) for batch in sent] == [TIMERS_PER_CALL, TIMERS_PER_CALL, TIMERS_PER_CALL, 1]
    assert [handle for batch in sent for handle in batch] == [peer.handle for peer in peers], "the longest overdue first"


def test_a_private_key_that_thousands_waited_for_begins_their_handshakes_in_turns() -> None:
    machine, peers = crowd(2 * TIMERS_PER_CALL)
    machine.set_private_key(crypto.generate_private_key(), START)
    assert len(every(SendHandshake, machine.outputs())) == TIMERS_PER_CALL
    assert machine.deadline == START.mono_ns
    machine.timeout(START)
    assert len(every(SendHandshake, machine.outputs())) == TIMERS_PER_CALL
    assert all(peer.initiations == 1 for peer in peers)


def test_what_is_overdue_of_many_does_not_touch_a_handshake_that_begins_meanwhile() -> None:
    machine, _ = crowd(2 * TIMERS_PER_CALL)
    remote = Remote()
    peer = machine.know(remote)
    assert machine.receive(remote.initiation(machine.key), THERE, START) is None
    machine.outputs()
    now = later(START, constants.ZERO_KEY_MATERIAL_TIME_NS + SECOND)
    machine.session_needed(peer.handle, "packets", now)
    begun = machine.outputs()
    assert [type(output) for output in begun if getattr(output, "peer", None) == peer.handle] == [
        ZeroSessions, AttemptStarted, SendHandshake
    ]  # fmt: skip
    assert len(begun) < 10, "one question does one peer's work"
    while machine.deadline is not None and machine.deadline <= now.mono_ns:
        machine.timeout(now)
        machine.outputs()
    assert peer.initiation is not None


# ---------------------------------------------------------------- restart


def counters(peer: Peer, endpoint: Endpoint | None, last_receive_ns: int) -> object:
    class Counters(NamedTuple):
        peer: int
        endpoint: tuple[bytes, int, int] | None
        last_receive_ns: int

    return Counters(peer.handle, endpoint, last_receive_ns)


def test_what_is_remembered() -> None:
    machine, remote, silent = Machine(), Remote(), Remote()
    peer, quiet = machine.know(remote), machine.know(silent)
    machine.receive(remote.answer(initiate(machine, peer)).message, THERE, START)
    now = later(START, 60 * SECOND)
    heard = now.mono_ns - 7 * SECOND
    found = machine.remembered([counters(peer, ELSEWHERE, heard), counters(quiet, None, 0)], now)  # type: ignore[list-item]
    assert found == {remote.public_key: Remembered(ELSEWHERE, tai64n.next_after(0, START.unix_ns), now.unix_ns - 7 * SECOND)}


def restored(machine: Machine, remotes: list[Remote], now: Now, age_s: int, endpoint: Endpoint | None = ELSEWHERE) -> None:
    machine.restore(
        {
            remote.public_key: Remembered(endpoint, now.unix_ns - age_s * SECOND, now.unix_ns - age_s * SECOND)
            for remote in remotes
        },
        now,
    )


@pytest.mark.parametrize("configured_first", [True, False])
@pytest.mark.parametrize("up_first", [True, False])
def test_after_a_restart_an_active_peer_is_spoken_to_first(configured_first: bool, up_first: bool) -> None:
    machine, remote = Machine(up=up_first), Remote()
    if configured_first:
        machine.configure_peer(PeerChange(remote.public_key), START)
        restored(machine, [remote], START, 60)
    else:
        restored(machine, [remote], START, 60)
        machine.configure_peer(PeerChange(remote.public_key), START)
    if not up_first:
        machine.up(START)
    outputs = machine.outputs()
    assert SetEndpoint(1, ELSEWHERE.packed, ELSEWHERE.port, 0) in outputs
    machine.timeout(START)
    assert machine.outputs()[0] == AttemptStarted(1, "restart")


@pytest.mark.parametrize(("age_s", "spoken"), [(179, True), (180, False)])
def test_only_peers_active_within_180_s_are_spoken_to(age_s: int, spoken: bool) -> None:
    machine, remote = Machine(), Remote()
    restored(machine, [remote], START, age_s)
    machine.configure_peer(PeerChange(remote.public_key), START)
    machine.timeout(START)
    assert (SendHandshake in kinds(machine.outputs())) is spoken


def test_recovery_is_paced_at_200_a_second() -> None:
    machine = Machine()
    remotes = [Remote() for _ in range(400)]
    restored(machine, remotes, START, 10)
    for remote in remotes:
        machine.configure_peer(PeerChange(remote.public_key), START)
    machine.outputs()
    sent = []
    for tick in range(2_001):
        machine.timeout(later(START, tick * MS))
        sent += [tick for output in machine.outputs() if isinstance(output, SendHandshake)]
    assert sent == [5 * number for number in range(400)]


def test_a_configured_endpoint_counts_more_than_a_remembered_one() -> None:
    machine, remote = Machine(), Remote()
    restored(machine, [remote], START, 10)
    machine.configure_peer(PeerChange(remote.public_key, endpoint=THERE), START)
    assert [output[1] for output in machine.outputs() if isinstance(output, SetEndpoint)][-1] == THERE.packed


def test_a_session_made_meanwhile_makes_recovery_needless() -> None:
    machine, remote = Machine(), Remote()
    restored(machine, [remote], START, 10)
    peer = machine.configure_peer(PeerChange(remote.public_key), START)
    assert peer is not None
    machine.receive(remote.initiation(machine.key), THERE, START)
    machine.session_confirmed(peer.handle, machine.reserved[-1], START)
    machine.outputs()
    machine.timeout(later(START, MS))
    assert machine.outputs() == []


def test_a_remembered_timestamp_binds_even_when_the_clock_was_set_back_before_the_restart() -> None:
    machine, remote = Machine(), Remote()
    ahead = START.unix_ns + 3600 * SECOND
    machine.restore({remote.public_key: Remembered(THERE, ahead, START.unix_ns)}, START)
    machine.configure_peer(PeerChange(remote.public_key), START)
    machine.timeout(START)
    initiation = only(SendHandshake, machine.outputs()).message
    # ... and by an attempt's length more, as the attempt under way may have gone on after the last was written down.
    assert remote.timestamp_of(initiation) > tai64n.encode(ahead + 100 * SECOND)


def test_a_remembered_timestamp_in_the_past_changes_nothing() -> None:
    machine, remote = Machine(), Remote()
    machine.restore({remote.public_key: Remembered(THERE, START.unix_ns - SECOND, START.unix_ns)}, START)
    machine.configure_peer(PeerChange(remote.public_key), START)
    machine.timeout(START)
    initiation = only(SendHandshake, machine.outputs()).message
    assert remote.timestamp_of(initiation) == tai64n.encode(START.unix_ns)


# ---------------------------------------------------------------- what a person sees


def view_of(machine: Machine, now: Now) -> tuple[str, str]:
    (view,) = machine.view(now)
    return view.state, view.why


def test_each_state_and_why() -> None:
    machine, remote = Machine(up=False, key=False), Remote()
    peer = machine.know(remote, endpoint=None)
    assert view_of(machine, START) == ("no-key", "the interface has no private key")
    machine.set_private_key(crypto.generate_private_key(), START)
    assert view_of(machine, START) == ("down", "the interface is down")
    machine.up(START)
    assert view_of(machine, START)[0] == "no-endpoint"
    machine.configure_peer(PeerChange(remote.public_key, endpoint=THERE), START)
    assert view_of(machine, START) == ("never", "nothing was sent to it; the next packet starts a handshake")
    machine.outputs()
    initiation = initiate(machine, peer)
    assert view_of(machine, START) == ("handshaking", "1 initiation sent, no answer yet (packets wait)")
    machine.send_failed(peer.handle, "Network is unreachable")
    assert view_of(machine, START)[1].endswith("sending fails: Network is unreachable")
    machine.receive(remote.answer(initiation).message, THERE, START)
    machine.outputs()
    assert view_of(machine, later(START, 23 * SECOND)) == ("up", "handshake 23 s ago")
    assert view_of(machine, later(START, 180 * SECOND - 1))[0] == "up"
    assert view_of(machine, later(START, 180 * SECOND))[0] == "stale"
    (view,) = machine.view(later(START, 200 * SECOND))
    assert view.handshake_age_ns == 200 * SECOND
    assert view.handshake_unix_ns == START.unix_ns


def test_a_peer_that_never_answers_is_explained() -> None:
    machine = Machine()
    peer = machine.know(Remote())
    initiate(machine, peer)
    for number in range(1, 21):
        machine.timeout(later(START, number * 5 * SECOND))
    state, why = view_of(machine, later(START, 101 * SECOND))
    assert state == "never"
    assert "gave up after 90 s" in why
    assert "preshared key" in why


# ---------------------------------------------------------------- R15, and memory


def test_r15_any_order_of_commands_and_events_is_survived() -> None:
    """Every pair and triple of inputs, on a machine with one peer in the middle of a handshake."""
    remote = Remote()
    inputs: dict[str, Callable[[Machine], object]] = {
        "up": lambda m: m.up(START),
        "down": lambda m: m.down(),
        "key": lambda m: m.set_private_key(crypto.generate_private_key(), START),
        "no key": lambda m: m.set_private_key(None, START),
        "add": lambda m: m.configure_peer(PeerChange(remote.public_key, endpoint=THERE), START),
        "remove": lambda m: m.configure_peer(PeerChange(remote.public_key, remove=True), START),
        "replace": lambda m: m.replace_peers(),
        "needed": lambda m: m.session_needed(1, "packets", START),
        "confirmed": lambda m: m.session_confirmed(1, 1000, START),
        "endpoint": lambda m: m.endpoint_changed(1, START),
        "failed": lambda m: m.send_failed(1, "why"),
        "time": lambda m: m.timeout(later(START, 600 * SECOND)),
        "junk": lambda m: m.receive(bytes(148), THERE, START),
        "initiation": lambda m: m.receive(remote.initiation(m.public_key or remote.public_key), THERE, START),
    }
    for names in itertools.product(inputs, repeat=3):
        machine = Machine()
        initiate(machine, machine.know(remote))
        for name in names:
            inputs[name](machine)
            machine.outputs()
        assert len(machine._by_index) <= 2 * len(machine._by_key), names
        handles = {peer.handle for peer in machine.peers()}
        assert {timer // 4 for timer in machine._timers._deadline} <= handles, names
        machine.timeout(later(START, 10_000 * SECOND))


def test_an_idle_peer_costs_less_than_two_kibibytes() -> None:
    machine = Machine(up=False)
    count = 2_000
    keys = [PublicKey(number.to_bytes(32, "big")) for number in range(1, count + 1)]
    gc.collect()
    tracemalloc.start()
    for key in keys:
        machine.configure_peer(PeerChange(PublicKey(bytes(key)), endpoint=THERE, persistent_keepalive_s=25), START)
        machine.outputs()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / count < 2048
