"""
A peer that does not keep to the protocol: what the machine answers, by the RFC, and that nothing is installed and nothing breaks.

The faults are those that libreswan's impairments name (no key exchange, zero key exchange, wrong AUTH, repeated messages,
unknown critical payloads, corrupt SK, wrong SPI sizes and lengths, unexpected exchanges, bad message ids) and their relatives,
from either role, before and after authentication. After each the machine still serves an honest peer.

Source: RFC 7296 1.2, 2.1, 2.2, 2.5, 2.6, 2.21, 3; RFC 6989; RFC 8031.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest

from ginnel.ikev2 import proposals
from ginnel.ikev2.effects import ChildUp, IkeUp, Refused
from ginnel.testing import FakeClock
from ginnel.units import NS_PER_S
from ginnel.wire import ikev2 as wire
from ginnel.wire.ikev2 import (
    Auth,
    Cert,
    Delete,
    Exchange,
    IdI,
    IdType,
    Ke,
    Message,
    Nonce,
    Notify,
    NotifyType,
    Payload,
    Sa,
    TsI,
    TsR,
    Unknown,
)
from ike_pair import SECRET, Host, connection
from ike_peer import CHILD_PROPOSALS, IKE_PROPOSALS, PFS_PROPOSALS, Peer, kinds, notify

HERE, THERE = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
N = NotifyType


def machine(**changes: object) -> Host:
    """One end, alone, that waits for b."""
    host = Host("a", HERE, FakeClock(), 7)
    host.add(connection(HERE, THERE, "a.example.org", "b.example.org", **changes))
    host.sent.clear()
    return host


def untouched(host: Host) -> None:
    """Nothing is installed, nothing is up."""
    assert host.engine.inbound == {}
    assert host.engine.outbound is None
    assert host.engine.reserved == set()
    assert not host.told(IkeUp, ChildUp), host.letters()


def honest(host: Host) -> Peer:
    """A peer as it should be gets through; with the child."""
    peer = Peer(host)
    peer.init()
    answer = peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET))
    assert "Auth" in kinds(answer), (kinds(answer), host.letters())
    assert "Sa" in kinds(answer), (kinds(answer), host.letters())
    assert host.engine.outbound is not None
    return peer


def wait(host: Host, seconds: float) -> None:
    """Time goes on and the peer says nothing."""
    end = host.clock.mono_ns + int(seconds * NS_PER_S)
    while host.wake_ns is not None and host.wake_ns <= end:
        host.clock.advance_to(max(host.wake_ns, host.clock.mono_ns))
        host.timeout()
    host.clock.advance_to(end)


# ---------------------------------------------------------------- IKE_SA_INIT, we answer


def init_with(peer: Peer, *payloads: Payload) -> Message | None:
    peer.first = wire.build(Message(peer.header(Exchange.IKE_SA_INIT, 0), payloads))
    answers = peer.send(peer.first)
    return wire.parse(answers[0]) if answers else None


def test_an_honest_peer_gets_through() -> None:
    honest(machine())


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "empty"),
        (bytes(32), "zero"),
        (b"\x01" + bytes(31), "of low order"),
        (bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), "of low order, p - 1"),
        (bytes(31), "too short"),
        (bytes(33), "too long"),
    ],
)
def test_a_key_exchange_that_is_none(data: bytes, name: str) -> None:
    host = machine()
    peer = Peer(host)
    answer = init_with(peer, Sa(IKE_PROPOSALS), Ke(31, data), Nonce(peer.nonce))
    assert kinds(answer) in (["INVALID_SYNTAX"], ["nothing"]), name
    assert host.ike.half_open == 1, "it cost us a key pair, so it has a place of those that are few"
    untouched(host)
    honest(host)


@pytest.mark.parametrize("missing", [Sa, Ke, Nonce])
def test_a_payload_is_missing(missing: type) -> None:
    host = machine()
    peer = Peer(host)
    answer = init_with(peer, *[one for one in peer.init_payloads() if not isinstance(one, missing)])
    assert kinds(answer) in (["INVALID_SYNTAX"], ["nothing"])
    assert host.ike.half_open == 0
    untouched(host)
    honest(host)


@pytest.mark.parametrize("twice", [Sa, Ke, Nonce])
def test_a_payload_comes_twice(twice: type) -> None:
    host = machine()
    peer = Peer(host)
    payloads = peer.init_payloads()
    answer = init_with(peer, *payloads, *[one for one in payloads if isinstance(one, twice)])
    assert kinds(answer) in (["INVALID_SYNTAX"], ["nothing"])
    assert host.ike.half_open == 0
    honest(host)


@pytest.mark.parametrize("size", [0, 1, 15, 257, 1000])
def test_a_nonce_of_a_wrong_size(size: int) -> None:
    """RFC 7296 3.9: 16 to 256 bytes."""
    host = machine()
    peer = Peer(host)
    answer = init_with(peer, Sa(IKE_PROPOSALS), Ke(31, peer.exchange.public), Unknown(40, False, bytes(size)))
    assert kinds(answer) in (["INVALID_SYNTAX"], ["nothing"])
    assert host.ike.half_open == 0
    honest(host)


def test_another_group_than_ours_is_told_ours() -> None:
    """RFC 7296 1.2: INVALID_KE_PAYLOAD with the group that is wanted."""
    host = machine()
    peer = Peer(host)
    offer = proposals.parse_list(["aes128gcm16-prfsha256-ecp256-x25519"], "ike")
    answer = init_with(peer, Sa(offer), Ke(19, bytes(64)), Nonce(peer.nonce))
    assert kinds(answer) == ["INVALID_KE_PAYLOAD"]
    told = notify(answer, N.INVALID_KE_PAYLOAD)
    assert told is not None
    assert told.data == struct.pack(">H", 31)
    assert host.ike.half_open == 0
    honest(host)


@pytest.mark.parametrize(
    "offer",
    [
        ["aes256gcm16-prfsha256-x25519"],
        ["aes128gcm16-prfsha384-x25519"],
        ["aes128gcm16-prfsha256-ecp256"],
        ["aes128-sha256-x25519"],
    ],
)
def test_no_proposal_of_ours(offer: list[str]) -> None:
    host = machine()
    peer = Peer(host)
    answer = init_with(peer, Sa(proposals.parse_list(offer, "ike")), Ke(31, peer.exchange.public), Nonce(peer.nonce))
    assert kinds(answer) == ["NO_PROPOSAL_CHOSEN"]
    assert host.ike.half_open == 0
    untouched(host)
    honest(host)


def test_an_unknown_critical_payload_is_named() -> None:
    """RFC 7296 2.5: UNSUPPORTED_CRITICAL_PAYLOAD with one byte, the type; the exchange fails."""
    host = machine()
    peer = Peer(host)
    answer = init_with(peer, *peer.init_payloads(), Unknown(200, True, b"?"))
    assert kinds(answer) == ["UNSUPPORTED_CRITICAL_PAYLOAD"]
    told = notify(answer, N.UNSUPPORTED_CRITICAL_PAYLOAD)
    assert told is not None
    assert told.data == bytes([200])
    assert host.ike.half_open == 0
    honest(host)


def test_unknown_payloads_and_notifies_that_are_not_critical_are_passed_over() -> None:
    host = machine()
    peer = Peer(host)
    extra = [Unknown(200, False, b"?"), Notify(40_000, b"status"), Notify(8_000, b"an error in a request")]
    assert "Ke" in kinds(peer.init([*peer.init_payloads(), *extra]))
    answer = peer.ask(Exchange.IKE_AUTH, [*peer.auth_payloads(SECRET), *extra])
    assert "Auth" in kinds(answer), host.letters()


@pytest.mark.parametrize("major", [1, 3, 15])
def test_another_major_version(major: int) -> None:
    """RFC 7296 2.5: a higher one is told INVALID_MAJOR_VERSION; of IKEv1 nothing is answered."""
    host = machine()
    peer = Peer(host)
    message = Message(peer.header(Exchange.IKE_SA_INIT, 0, major=major), tuple(peer.init_payloads()))
    answers = peer.send(wire.build(message))
    if major > 2:
        assert kinds(wire.parse(answers[0])) == ["INVALID_MAJOR_VERSION"]
        assert wire.parse_header(answers[0]).major == 2
    else:
        assert answers == []
    assert host.ike.half_open == 0
    honest(host)


def test_a_higher_minor_version_is_ours() -> None:
    host = machine()
    peer = Peer(host)
    peer.first = wire.build(Message(peer.header(Exchange.IKE_SA_INIT, 0, minor=7), tuple(peer.init_payloads())))
    (answer,) = peer.send(peer.first)
    assert "Ke" in kinds(wire.parse(answer))


@pytest.mark.parametrize(
    "changes",
    [
        {"spi_i": bytes(8)},
        {"spi_r": b"ALREADY!"},
        {"initiator": False},
        {"response": True},
        {"message_id": 1},
        {"message_id": 0xFFFFFFFF},
        {"exchange": Exchange.IKE_AUTH},
        {"exchange": Exchange.CREATE_CHILD_SA},
        {"exchange": Exchange.INFORMATIONAL},
        {"exchange": 43},
        {"exchange": 0},
        {"exchange": 255},
    ],
)
def test_a_first_message_with_a_wrong_header_makes_nothing(changes: dict[str, object]) -> None:
    host = machine()
    peer = Peer(host)
    header = replace(peer.header(Exchange.IKE_SA_INIT, 0), **changes)  # type: ignore[arg-type]
    peer.send(wire.build(Message(header, tuple(peer.init_payloads()))))
    assert host.ike.half_open == 0, changes
    untouched(host)
    honest(host)


def test_every_truncation_and_every_wrong_length_of_a_first_message() -> None:
    host = machine()
    peer = Peer(host)
    whole = wire.build(Message(peer.header(Exchange.IKE_SA_INIT, 0), tuple(peer.init_payloads())))
    for size in range(len(whole)):
        peer.send(whole[:size])
        peer.send(whole[:24] + struct.pack(">I", size) + whole[28:size])
    for length in (0, 27, len(whole) - 1, len(whole) + 1, 0xFFFFFFFF):
        peer.send(whole[:24] + struct.pack(">I", length) + whole[28:])
    assert host.ike.half_open == 0
    untouched(host)
    honest(host)


def test_every_bit_of_a_first_message_may_be_wrong() -> None:
    """Whatever comes of it: no exception, nothing installed, half-open ones bounded."""
    host = machine()
    peer = Peer(host)
    whole = wire.build(Message(peer.header(Exchange.IKE_SA_INIT, 0), tuple(peer.init_payloads())))
    for at in range(len(whole)):
        bent = bytearray(whole)
        bent[at] ^= 1 << (at % 8)
        peer.send(bytes(bent))
        untouched(host)
    assert host.ike.half_open <= len(whole)
    wait(host, 120)
    assert host.ike.half_open == 0
    honest(host)


def test_a_repeated_first_message_gets_the_same_answer_and_makes_no_second_sa() -> None:
    host = machine()
    peer = Peer(host)
    peer.init()
    for _ in range(5):
        assert peer.send(peer.first) == [peer.their_first]
    assert host.ike.half_open == 1
    answer = peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET))
    assert "Auth" in kinds(answer)


# ---------------------------------------------------------------- IKE_AUTH, we answer


def half_open(**changes: object) -> tuple[Host, Peer]:
    host = machine(**changes)
    peer = Peer(host)
    peer.init()
    return host, peer


def refused(host: Host, answer: Message | None, *words: str) -> None:
    """AUTHENTICATION_FAILED and nothing else; told to people."""
    assert kinds(answer) == ["AUTHENTICATION_FAILED"], host.letters()
    untouched(host)
    told = [event for event in host.told(Refused) if isinstance(event, Refused)]
    assert told, host.letters()
    text = "\n".join(told[-1].lines)
    for word in words:
        assert word in text, text
    assert SECRET.decode() not in text
    honest(host)


@pytest.mark.parametrize(
    "auth",
    [
        Auth(2, bytes(32)),
        Auth(2, b""),
        Auth(2, bytes(31)),
        Auth(2, bytes(1000)),
        Auth(1, bytes(256)),
        Auth(13, bytes(32)),
        Auth(14, bytes(80)),
        Auth(99, bytes(32)),
    ],
)
def test_a_wrong_auth(auth: Auth) -> None:
    host, peer = half_open()
    answer = peer.ask(Exchange.IKE_AUTH, [peer.id_payload(), auth, *peer.child_payloads()])
    refused(host, answer, "b.example.org")


def test_a_wrong_secret_names_who_was_looked_up() -> None:
    host, peer = half_open()
    answer = peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(b"another secret"))
    refused(host, answer, "wrong pre-shared secret", "b.example.org")


def test_an_auth_over_another_message_or_nonce_or_identity() -> None:
    for spoil in ("first", "their_nonce"):
        host, peer = half_open()
        setattr(peer, spoil, getattr(peer, spoil) + b"x")
        refused(host, peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET)))
    host, peer = half_open()
    other = peer.auth(SECRET, replace(peer.identity, data=b"c.example.org"))
    refused(host, peer.ask(Exchange.IKE_AUTH, [peer.id_payload(), other, *peer.child_payloads()]))


def test_our_own_auth_reflected() -> None:
    """An AUTH made with the other direction's key, as a reflecting attacker would have."""
    host, peer = half_open()
    keys = peer.keys
    assert keys is not None
    keys.pi, keys.pr = keys.pr, keys.pi
    refused(host, peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET)))


def test_an_identity_that_is_not_configured() -> None:
    host, peer = half_open()
    stranger = replace(peer.identity, data=b"stranger.example.org")
    answer = peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET, stranger))
    refused(host, answer, "stranger.example.org", "b.example.org")


@pytest.mark.parametrize("kind", [IdType.KEY_ID, IdType.RFC822_ADDR, IdType.NULL, 99])
def test_the_right_name_as_another_kind_of_identity(kind: int) -> None:
    host, peer = half_open()
    refused(host, peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET, replace(peer.identity, kind=kind))))


@pytest.mark.parametrize("missing", [IdI, Auth])
def test_without_identity_or_auth(missing: type) -> None:
    """Without AUTH it asks for EAP, which is not there."""
    host, peer = half_open()
    answer = peer.ask(Exchange.IKE_AUTH, [one for one in peer.auth_payloads(SECRET) if not isinstance(one, missing)])
    assert kinds(answer)[0] in {"AUTHENTICATION_FAILED", "INVALID_SYNTAX"}
    assert len(kinds(answer)) == 1
    untouched(host)
    honest(host)


def test_identity_twice() -> None:
    host, peer = half_open()
    payloads = peer.auth_payloads(SECRET)
    other = IdI(IdType.FQDN, b"stranger.example.org")
    answer = peer.ask(Exchange.IKE_AUTH, [other, *payloads])
    assert kinds(answer)[0] in {"AUTHENTICATION_FAILED", "INVALID_SYNTAX", "nothing"}
    untouched(host)
    honest(host)


def test_after_a_refusal_a_second_try_on_the_same_sa_is_too_late() -> None:
    host, peer = half_open()
    peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(b"another secret"))
    assert "Auth" not in kinds(peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET)))
    peer.next_id = 1
    answers = peer.send(peer.sealed(Exchange.IKE_AUTH, peer.auth_payloads(SECRET)))
    assert all("Auth" not in kinds(peer.open(one)) for one in answers if wire.parse_header(one).exchange == Exchange.IKE_AUTH)
    untouched(host)
    honest(host)


def test_a_corrupt_sk_is_as_if_it_had_not_come() -> None:
    host, peer = half_open()
    good = peer.sealed(Exchange.IKE_AUTH, peer.auth_payloads(SECRET))
    for at in range(28, len(good), 7):
        bent = bytearray(good)
        bent[at] ^= 0x01
        assert peer.send(bytes(bent)) == [], at
        untouched(host)
    for size in range(28, len(good)):
        assert peer.send(good[:24] + struct.pack(">I", size) + good[28:size]) == []
    assert peer.send(good)
    assert host.told(IkeUp)


@pytest.mark.parametrize("changes", [{"spi_i": b"WRONGSPI"}, {"spi_r": b"WRONGSPI"}, {"initiator": False}, {"response": True}])
def test_a_sealed_message_with_a_wrong_header(changes: dict[str, object]) -> None:
    host, peer = half_open()
    peer.send(peer.sealed(Exchange.IKE_AUTH, peer.auth_payloads(SECRET), 1, **changes))
    untouched(host)
    peer.next_id = 1
    assert "Auth" in kinds(peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET)))


@pytest.mark.parametrize("message_id", [0, 2, 3, 0xFFFFFFFF])
def test_auth_with_another_message_id(message_id: int) -> None:
    host, peer = half_open()
    assert peer.send(peer.sealed(Exchange.IKE_AUTH, peer.auth_payloads(SECRET), message_id)) == []
    untouched(host)
    peer.next_id = 1
    assert "Auth" in kinds(peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET)))


def test_an_unknown_critical_payload_inside_sk_is_named() -> None:
    host, peer = half_open()
    answer = peer.ask(Exchange.IKE_AUTH, [*peer.auth_payloads(SECRET), Unknown(200, True, b"?")])
    told = notify(answer, N.UNSUPPORTED_CRITICAL_PAYLOAD)
    assert told is not None
    assert told.data == bytes([200])
    untouched(host)
    honest(host)


@pytest.mark.parametrize("eap", [Unknown(48, False, b"\x01\x00\x00\x04"), Unknown(48, True, b"\x01\x00\x00\x04")])
def test_eap_is_refused(eap: Payload) -> None:
    host, peer = half_open()
    answer = peer.ask(Exchange.IKE_AUTH, [peer.id_payload(), eap, *peer.child_payloads()])
    assert "Auth" not in kinds(answer)
    untouched(host)
    honest(host)


def test_a_certificate_does_not_help_where_a_secret_is_wanted() -> None:
    host, peer = half_open()
    payloads = [peer.id_payload(), Cert(4, b"\x30\x00"), Auth(14, bytes(80)), *peer.child_payloads()]
    refused(host, peer.ask(Exchange.IKE_AUTH, payloads))


# ---------------------------------------------------------------- the child of IKE_AUTH: it may fail, the IKE SA stays


def child_refused(host: Host, peer: Peer, payloads: Sequence[Payload], *expected: str) -> None:
    answer = peer.ask(Exchange.IKE_AUTH, [peer.id_payload(), peer.auth(SECRET), *payloads])
    assert "Auth" in kinds(answer), host.letters()
    assert set(kinds(answer)) & set(expected), kinds(answer)
    assert host.engine.inbound == {}
    assert host.engine.outbound is None
    assert host.engine.reserved == set()
    assert host.told(IkeUp)
    assert kinds(peer.ask(Exchange.INFORMATIONAL, [])) == []


@pytest.mark.parametrize("size", [0, 1, 3, 5, 8])
def test_esp_spis_of_a_wrong_size(size: int) -> None:
    host, peer = half_open()
    payloads = [
        Notify(N.USE_TRANSPORT_MODE),
        Sa(proposals.numbered(CHILD_PROPOSALS, bytes(range(1, size + 1)))),
        *peer.selectors(),
    ]
    answer = peer.ask(Exchange.IKE_AUTH, [peer.id_payload(), peer.auth(SECRET), *payloads])
    assert set(kinds(answer)) & {"INVALID_SYNTAX", "NO_PROPOSAL_CHOSEN"}, kinds(answer)
    assert host.engine.outbound is None
    assert host.engine.inbound == {}
    assert host.engine.reserved == set()


@pytest.mark.parametrize("spi", [0, 1, 255])
def test_reserved_esp_spis(spi: int) -> None:
    """RFC 4303 2.1: 0 to 255 are not for SAs."""
    host, peer = half_open()
    answer = peer.ask(Exchange.IKE_AUTH, [peer.id_payload(), peer.auth(SECRET), *peer.child_payloads(spi=struct.pack(">I", spi))])
    assert set(kinds(answer)) & {"INVALID_SYNTAX", "NO_PROPOSAL_CHOSEN"}, kinds(answer)
    assert host.engine.outbound is None
    assert host.engine.inbound == {}
    assert host.engine.reserved == set()


def test_a_suite_of_nobody() -> None:
    host, peer = half_open()
    offer = proposals.parse_list(["aes256gcm16-noesn"], "esp")
    child_refused(host, peer, peer.child_payloads(offer), "NO_PROPOSAL_CHOSEN")


def test_selectors_of_nobody() -> None:
    host, peer = half_open()
    ts_i, ts_r = peer.selectors(protocol=6)
    payloads = [Notify(N.USE_TRANSPORT_MODE), Sa(proposals.numbered(CHILD_PROPOSALS, b"\1\2\3\4")), ts_i, ts_r]
    child_refused(host, peer, payloads, "TS_UNACCEPTABLE")


@pytest.mark.parametrize("missing", [TsI, TsR])
def test_half_of_the_selectors(missing: type) -> None:
    host, peer = half_open()
    payloads = [one for one in peer.child_payloads() if not isinstance(one, missing)]
    answer = peer.ask(Exchange.IKE_AUTH, [peer.id_payload(), peer.auth(SECRET), *payloads])
    assert "Sa" not in kinds(answer)
    assert host.engine.outbound is None
    assert host.engine.inbound == {}


# ---------------------------------------------------------------- once authenticated


def established() -> tuple[Host, Peer]:
    host = machine()
    return host, honest(host)


def alive(host: Host, peer: Peer) -> None:
    """Nothing has changed: the IKE SA answers, the child stands."""
    assert kinds(peer.ask(Exchange.INFORMATIONAL, [])) == []
    assert host.engine.outbound is not None
    assert len(host.engine.inbound) == 1


@pytest.mark.parametrize(
    "payloads",
    [
        (),
        (Notify(N.INVALID_IKE_SPI),),
        (Notify(N.INVALID_SPI, bytes(4)),),
        (Notify(N.AUTHENTICATION_FAILED),),
        (Notify(N.INVALID_SYNTAX),),
        (Notify(N.INVALID_MESSAGE_ID, bytes(4)),),
        (Delete(1),),
        (Delete(3, (bytes.fromhex("c0ffee01"),)),),
        (Notify(N.QUICK_CRASH_DETECTION, bytes(32)), Notify(N.INVALID_IKE_SPI)),
        (Notify(N.INITIAL_CONTACT),),
        (Notify(N.REDIRECT, bytes(8)),),
    ],
)
@pytest.mark.parametrize("response", [False, True])
def test_nothing_unprotected_deletes_anything(payloads: tuple[Payload, ...], response: bool) -> None:
    host, peer = established()
    for exchange in (Exchange.INFORMATIONAL, Exchange.IKE_AUTH, Exchange.CREATE_CHILD_SA, Exchange.IKE_SA_INIT):
        for message_id in (0, 1, 2):
            peer.send(wire.build(Message(peer.header(exchange, message_id, response=response), payloads)))
    asked = [one for one in host.sent if not wire.parse_header(one.message).response]
    assert len(asked) <= 1, "hints make no more than one check of liveness"
    for one in asked:
        peer.send(peer.sealed(Exchange.INFORMATIONAL, [], wire.parse_header(one.message).message_id, response=True))
    alive(host, peer)


def test_hints_in_the_open_are_not_an_amplifier() -> None:
    host, peer = established()
    host.sent.clear()
    hint = wire.build(Message(peer.header(Exchange.INFORMATIONAL, 0, response=True), (Notify(N.INVALID_IKE_SPI),)))
    for _ in range(1000):
        peer.send(hint)
    assert len(host.sent) <= 2


def test_a_repeated_request_gets_the_same_bytes_and_does_nothing_twice() -> None:
    host, peer = established()
    request = peer.sealed(Exchange.CREATE_CHILD_SA, [Nonce(bytes(32)), *peer.child_payloads(spi=b"\1\2\3\4")])
    first = peer.send(request)
    state = dict(host.engine.inbound)
    for _ in range(3):
        assert peer.send(request) == first
    assert host.engine.inbound == state
    assert host.drops["repeated"] == 3


@pytest.mark.parametrize("ahead", [1, 2, 100, 2**31])
def test_a_request_from_outside_the_window_is_not_answered(ahead: int) -> None:
    host, peer = established()
    assert peer.send(peer.sealed(Exchange.INFORMATIONAL, [Delete(1)], peer.next_id + ahead)) == []
    alive(host, peer)


def test_an_old_request_with_other_bytes_is_not_done() -> None:
    host, peer = established()
    peer.ask(Exchange.INFORMATIONAL, [])
    peer.ask(Exchange.INFORMATIONAL, [])
    for message_id in range(peer.next_id):
        peer.send(peer.sealed(Exchange.INFORMATIONAL, [Delete(1)], message_id))
    alive(host, peer)


def test_responses_to_nothing_are_dropped() -> None:
    host, peer = established()
    for exchange in (Exchange.INFORMATIONAL, Exchange.CREATE_CHILD_SA, Exchange.IKE_AUTH, 43):
        for message_id in (0, 1, 2, 3):
            assert peer.send(peer.sealed(exchange, [Delete(1)], message_id, response=True)) == []
    alive(host, peer)


@pytest.mark.parametrize("exchange", [Exchange.IKE_AUTH, Exchange.IKE_SA_INIT, 38, 43, 44, 240])
def test_an_exchange_that_may_not_come_now(exchange: int) -> None:
    host, peer = established()
    peer.ask(exchange, peer.auth_payloads(SECRET))
    assert len(host.told(IkeUp)) == 1
    assert len(host.engine.inbound) == 1
    peer.next_id = 2
    answers = peer.send(peer.sealed(Exchange.INFORMATIONAL, []))
    if not answers:
        peer.next_id = 3
        answers = peer.send(peer.sealed(Exchange.INFORMATIONAL, []))
    assert len(host.engine.inbound) in {0, 1}


@pytest.mark.parametrize("missing", [Sa, Nonce, TsI, TsR])
def test_a_new_child_without_a_payload(missing: type) -> None:
    host, peer = established()
    payloads = [one for one in (Nonce(bytes(32)), *peer.child_payloads(spi=b"\1\2\3\4")) if not isinstance(one, missing)]
    answer = peer.ask(Exchange.CREATE_CHILD_SA, payloads)
    assert len(kinds(answer)) == 1, kinds(answer)
    assert host.engine.reserved == set()
    assert len(host.engine.inbound) <= 1


@pytest.mark.parametrize(("group", "data"), [(31, b""), (31, bytes(32)), (31, bytes(31)), (19, bytes(64)), (14, bytes(256))])
def test_pfs_with_a_key_exchange_that_is_none(group: int, data: bytes) -> None:
    host, peer = established()
    payloads = [Nonce(bytes(32)), Ke(group, data), *peer.child_payloads(PFS_PROPOSALS, b"\1\2\3\4")]
    rekey = Notify(N.REKEY_SA, b"", 3, bytes.fromhex("c0ffee01"))
    answer = peer.ask(Exchange.CREATE_CHILD_SA, [rekey, *payloads])
    assert set(kinds(answer)) <= {"INVALID_SYNTAX", "INVALID_KE_PAYLOAD", "NO_PROPOSAL_CHOSEN"}, kinds(answer)
    assert host.engine.reserved == set()
    if "INVALID_SYNTAX" not in kinds(answer):
        alive(host, peer)


def test_pfs_without_a_key_exchange() -> None:
    host, peer = established()
    rekey = Notify(N.REKEY_SA, b"", 3, bytes.fromhex("c0ffee01"))
    answer = peer.ask(Exchange.CREATE_CHILD_SA, [rekey, Nonce(bytes(32)), *peer.child_payloads(PFS_PROPOSALS, b"\1\2\3\4")])
    assert set(kinds(answer)) <= {"INVALID_SYNTAX", "INVALID_KE_PAYLOAD", "NO_PROPOSAL_CHOSEN"}, kinds(answer)
    assert host.engine.reserved == set()


@pytest.mark.parametrize(
    "rekey",
    [
        Notify(N.REKEY_SA, b"", 3, b"\1\2\3\4"),
        Notify(N.REKEY_SA, b"", 2, bytes.fromhex("c0ffee01")),
        Notify(N.REKEY_SA, b"", 0, bytes.fromhex("c0ffee01")),
        Notify(N.REKEY_SA, b"", 3, b""),
        Notify(N.REKEY_SA, b"", 3, bytes.fromhex("c0ffee0101")),
    ],
)
def test_rekeying_a_child_that_is_not_there(rekey: Notify) -> None:
    """RFC 7296 2.25: CHILD_SA_NOT_FOUND."""
    host, peer = established()
    answer = peer.ask(Exchange.CREATE_CHILD_SA, [rekey, Nonce(bytes(32)), *peer.child_payloads(spi=b"\1\2\3\5")])
    assert set(kinds(answer)) <= {"CHILD_SA_NOT_FOUND", "INVALID_SYNTAX"}, kinds(answer)
    assert host.engine.reserved == set()
    if kinds(answer) == ["CHILD_SA_NOT_FOUND"]:
        alive(host, peer)


@pytest.mark.parametrize("spi", [b"", b"\1\2\3\4", bytes(8), b"123456789"])
def test_rekeying_the_ike_sa_with_a_wrong_spi(spi: bytes) -> None:
    host, peer = established()
    offer = Sa(proposals.numbered(IKE_PROPOSALS, spi))
    answer = peer.ask(Exchange.CREATE_CHILD_SA, [offer, Nonce(bytes(32)), Ke(31, Peer(host).exchange.public)])
    assert set(kinds(answer)) <= {"INVALID_SYNTAX", "NO_PROPOSAL_CHOSEN"}, kinds(answer)
    assert host.ike.half_open == 0


@pytest.mark.parametrize(("group", "data"), [(31, b""), (31, bytes(32)), (19, bytes(64))])
def test_rekeying_the_ike_sa_with_a_key_exchange_that_is_none(group: int, data: bytes) -> None:
    host, peer = established()
    answer = peer.ask(
        Exchange.CREATE_CHILD_SA, [Sa(proposals.numbered(IKE_PROPOSALS, b"NEWSPI01")), Nonce(bytes(32)), Ke(group, data)]
    )
    assert set(kinds(answer)) <= {"INVALID_SYNTAX", "INVALID_KE_PAYLOAD"}, kinds(answer)
    if kinds(answer) == ["INVALID_KE_PAYLOAD"]:
        alive(host, peer)


@pytest.mark.parametrize(
    "delete",
    [
        Delete(3, (b"\1\2\3\4",)),
        Delete(3, ()),
        Delete(3, tuple(struct.pack(">I", one) for one in range(1000, 2000))),
        Delete(2, (bytes.fromhex("c0ffee01"),)),
        Unknown(42, False, bytes.fromhex("03020001 0102")),
        Unknown(42, False, bytes.fromhex("09040001 01020304")),
        Unknown(42, False, bytes.fromhex("03000001")),
        Unknown(42, False, bytes.fromhex("03040002 01020304")),
        Unknown(42, False, bytes.fromhex("0304ffff 01020304")),
    ],
)
def test_deleting_what_is_not_there(delete: Payload) -> None:
    host, peer = established()
    answer = peer.ask(Exchange.INFORMATIONAL, [delete])
    assert answer is not None
    assert set(kinds(answer)) <= {"INVALID_SYNTAX"}
    if kinds(answer) == []:
        alive(host, peer)


def test_a_deleted_child_is_answered_with_its_other_half() -> None:
    """RFC 7296 1.4.1."""
    host, peer = established()
    (spi_in,) = host.engine.inbound
    answer = peer.ask(Exchange.INFORMATIONAL, [Delete(3, (bytes.fromhex("c0ffee01"),))])
    assert answer is not None
    assert answer.payloads == (Delete(3, (struct.pack(">I", spi_in),)),)
    assert host.engine.outbound is None
    assert host.engine.inbound == {}
    # twice makes no difference
    assert kinds(peer.ask(Exchange.INFORMATIONAL, [Delete(3, (bytes.fromhex("c0ffee01"),))])) == []


def test_a_deleted_ike_sa_takes_all_with_it() -> None:
    host, peer = established()
    assert kinds(peer.ask(Exchange.INFORMATIONAL, [Delete(1)])) == []
    assert host.engine.outbound is None
    assert host.engine.inbound == {}
    honest(host)


def test_what_is_malformed_inside_sk_ends_the_ike_sa() -> None:
    """RFC 7296 2.21.3: INVALID_SYNTAX, and it is over; nothing leaves any more."""
    host, peer = established()
    answer = peer.ask(Exchange.CREATE_CHILD_SA, [Unknown(33, False, b"no security association at all")])
    assert kinds(answer) == ["INVALID_SYNTAX"]
    assert host.engine.outbound is None
    assert host.engine.inbound == {}


def test_a_child_a_second_for_an_hour() -> None:
    """What a peer that is known can make is bounded too: at most four receiving SAs."""
    host, peer = established()
    for number in range(50):
        peer.ask(
            Exchange.CREATE_CHILD_SA, [Nonce(bytes([number]) * 32), *peer.child_payloads(spi=struct.pack(">I", 0x1000 + number))]
        )
        assert len(host.engine.inbound) <= 4
        assert len(host.engine.reserved) == 0


# ---------------------------------------------------------------- we ask: the responder is at fault


def asking(**changes: object) -> tuple[Host, Peer, bytes]:
    """The machine has sent its IKE_SA_INIT."""
    host = machine(**changes)
    host.initiate()
    return host, Peer(host, initiator=False), host.sent[-1].message


def auth_request(host: Host) -> bytes:
    found = [one.message for one in host.sent if wire.parse_header(one.message).exchange == Exchange.IKE_AUTH]
    assert found, host.letters()
    return found[-1]


def test_an_honest_responder() -> None:
    host, peer, request = asking(childless=False)
    peer.answer_init(request)
    peer.open(auth_request(host))
    peer.send(peer.sealed(Exchange.IKE_AUTH, peer.auth_payloads(SECRET), 1, response=True))
    assert host.told(IkeUp), host.letters()
    assert host.engine.outbound is not None


@pytest.mark.parametrize("data", [b"", bytes(32), bytes(31), bytes(33)])
def test_a_responders_key_exchange_that_is_none(data: bytes) -> None:
    host, peer, request = asking()
    peer.answer_init(request, [Sa(IKE_PROPOSALS), Ke(31, data), Nonce(peer.nonce)])
    assert not [one for one in host.sent if wire.parse_header(one.message).exchange == Exchange.IKE_AUTH]
    untouched(host)


@pytest.mark.parametrize("missing", [Sa, Ke, Nonce])
def test_a_response_without_a_payload(missing: type) -> None:
    host, peer, request = asking()
    payloads = [
        one for one in (Sa(IKE_PROPOSALS), Ke(31, peer.exchange.public), Nonce(peer.nonce)) if not isinstance(one, missing)
    ]
    peer.answer_init(request, payloads)
    assert not [one for one in host.sent if wire.parse_header(one.message).exchange == Exchange.IKE_AUTH]
    untouched(host)


@pytest.mark.parametrize(
    "words",
    [
        ["aes256gcm16-prfsha256-x25519"],
        ["aes128gcm16-prfsha256-ecp256"],
        ["aes128gcm16-prfsha256-x25519", "aes128gcm16-prfsha256-x25519"],
        ["aes128gcm16-aes256gcm16-prfsha256-x25519"],
    ],
)
def test_a_choice_that_was_not_offered(words: list[str]) -> None:
    """RFC 7296 2.7: the initiator makes sure that what is chosen is of what it offered."""
    host, peer, request = asking()
    peer.answer_init(request, [Sa(proposals.parse_list(words, "ike")), Ke(31, peer.exchange.public), Nonce(peer.nonce)])
    assert not [one for one in host.sent if wire.parse_header(one.message).exchange == Exchange.IKE_AUTH]
    untouched(host)


def test_cookies_without_end_end() -> None:
    """RFC 7296 2.6: a cookie is sent back; a responder that asks again and again is given up."""
    host, peer, request = asking()
    for number in range(50):
        peer.answer_init(request, [Notify(N.COOKIE, bytes([number]) * 20)], spi_r=bytes(8))
    assert len(host.sent) <= 12, len(host.sent)
    untouched(host)


def test_a_cookie_is_sent_back_in_front_of_the_same() -> None:
    host, peer, request = asking()
    peer.answer_init(request, [Notify(N.COOKIE, b"cookie of the peer")], spi_r=bytes(8))
    again = wire.parse(host.sent[-1].message)
    assert again.payloads[0] == Notify(N.COOKIE, b"cookie of the peer")
    assert again.payloads[1:] == wire.parse(request).payloads


@pytest.mark.parametrize("size", [0, 65, 1000])
def test_a_cookie_of_a_wrong_size(size: int) -> None:
    """RFC 7296 2.6: 1 to 64 bytes."""
    host, peer, request = asking()
    peer.answer_init(request, [Notify(N.COOKIE, bytes(size))], spi_r=bytes(8))
    for one in host.sent:
        first = wire.parse(one.message).payloads[0]
        assert not (isinstance(first, Notify) and first.kind == N.COOKIE)


def test_groups_without_end_end() -> None:
    host, peer, request = asking(ike_proposals=proposals.parse_list(["aes128gcm16-prfsha256-x25519-ecp256-modp2048"], "ike"))
    for number in range(30):
        group = (31, 19, 14)[number % 3]
        peer.answer_init(request, [Notify(N.INVALID_KE_PAYLOAD, struct.pack(">H", group))], spi_r=bytes(8))
    assert len(host.sent) <= 6, len(host.sent)
    untouched(host)


@pytest.mark.parametrize("data", [b"", b"\0", struct.pack(">H", 2), struct.pack(">H", 31), struct.pack(">H", 0), bytes(8)])
def test_a_group_that_was_not_offered_is_not_taken(data: bytes) -> None:
    host, peer, request = asking()
    peer.answer_init(request, [Notify(N.INVALID_KE_PAYLOAD, data)], spi_r=bytes(8))
    for one in host.sent:
        found = [payload for payload in wire.parse(one.message).payloads if isinstance(payload, Ke)]
        assert [ke.group for ke in found] in ([31], [])
    untouched(host)


@pytest.mark.parametrize("kind", [N.NO_PROPOSAL_CHOSEN, N.AUTHENTICATION_FAILED, N.INVALID_SYNTAX, N.INVALID_MAJOR_VERSION])
def test_an_error_in_the_open_is_not_the_last_word(kind: int) -> None:
    """RFC 7296 2.21.1: it may be forged: the machine goes on trying, and the true peer is heard."""
    host, peer, request = asking(childless=False)
    peer.answer_init(request, [Notify(kind)], spi_r=bytes(8))
    before = len(host.sent)
    wait(host, 10)
    peer = Peer(host, initiator=False)
    again = [one.message for one in host.sent[before:] if wire.parse_header(one.message).exchange == Exchange.IKE_SA_INIT]
    assert again, host.letters()
    peer.answer_init(again[-1])
    peer.send(peer.sealed(Exchange.IKE_AUTH, peer.auth_payloads(SECRET), 1, response=True))
    assert host.told(IkeUp), host.letters()


@pytest.mark.parametrize("spoil", ["secret", "identity", "auth", "no auth", "no identity", "reflected"])
def test_a_responder_that_does_not_prove_itself(spoil: str) -> None:
    host, peer, request = asking(childless=False)
    peer.answer_init(request)
    asked = peer.open(auth_request(host))
    payloads = peer.auth_payloads(SECRET)
    match spoil:
        case "secret":
            payloads = peer.auth_payloads(b"another secret")
        case "identity":
            payloads = peer.auth_payloads(SECRET, replace(peer.identity, data=b"stranger.example.org"))
        case "auth":
            payloads[1] = Auth(2, bytes(32))
        case "no auth":
            del payloads[1]
        case "no identity":
            del payloads[0]
        case _:
            payloads[1] = next(one for one in asked.payloads if isinstance(one, Auth))
    peer.send(peer.sealed(Exchange.IKE_AUTH, payloads, 1, response=True))
    untouched(host)
    assert host.told(Refused), host.letters()


@pytest.mark.parametrize("changes", [{"response": False}, {"spi_i": b"WRONGSPI"}, {"spi_r": b"WRONGSPI"}, {"message_id": 2}])
def test_an_answer_with_a_wrong_header_is_not_taken(changes: dict[str, object]) -> None:
    host, peer, request = asking(childless=False)
    peer.answer_init(request)
    peer.send(peer.sealed(Exchange.IKE_AUTH, peer.auth_payloads(SECRET), **{"message_id": 1, "response": True, **changes}))  # type: ignore[arg-type]
    assert host.engine.inbound == {}
    assert not host.told(IkeUp)
    peer.send(peer.sealed(Exchange.IKE_AUTH, peer.auth_payloads(SECRET), 1, response=True))
    assert host.told(IkeUp), host.letters()


def test_the_answer_comes_twice() -> None:
    host, peer, request = asking(childless=False)
    peer.answer_init(request)
    peer.send(peer.first)
    answer = peer.sealed(Exchange.IKE_AUTH, peer.auth_payloads(SECRET), 1, response=True)
    for _ in range(3):
        peer.send(answer)
    assert len(host.told(IkeUp)) == 1
    assert len(host.engine.inbound) == 1


@pytest.mark.parametrize("kind", [N.TS_UNACCEPTABLE, N.NO_PROPOSAL_CHOSEN, N.INTERNAL_ADDRESS_FAILURE, N.SINGLE_PAIR_REQUIRED])
def test_a_child_that_is_refused_leaves_the_ike_sa(kind: int) -> None:
    host, peer, request = asking(childless=False)
    peer.answer_init(request)
    peer.send(peer.sealed(Exchange.IKE_AUTH, [peer.id_payload(), peer.auth(SECRET), Notify(kind)], 1, response=True))
    assert host.told(IkeUp)
    assert host.told(Refused)
    assert host.engine.inbound == {}
    assert host.engine.outbound is None
    assert host.engine.reserved == set()


def test_selectors_that_are_wider_than_asked_are_not_taken() -> None:
    host, peer, request = asking(childless=False)
    peer.answer_init(request)
    everything = (wire.Selector(0, 0, 65535, bytes(4), b"\xff" * 4),)
    payloads = [*peer.auth_payloads(SECRET)[:-2], TsI(everything), TsR(everything)]
    peer.send(peer.sealed(Exchange.IKE_AUTH, payloads, 1, response=True))
    assert host.engine.outbound is None
    assert host.engine.inbound == {}
    assert host.engine.reserved == set()


def test_tunnel_mode_where_transport_mode_was_asked_is_not_taken_silently() -> None:
    host, peer, request = asking(childless=False)
    peer.answer_init(request)
    payloads = [one for one in peer.auth_payloads(SECRET) if not (isinstance(one, Notify) and one.kind == N.USE_TRANSPORT_MODE)]
    peer.send(peer.sealed(Exchange.IKE_AUTH, payloads, 1, response=True))
    if host.engine.outbound is not None:
        assert not host.engine.outbound.transport
    else:
        assert host.told(Refused)
