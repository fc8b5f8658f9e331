"""The numbers of the paper, and that the engine has the same."""

from __future__ import annotations

from ginnel import _native
from ginnel.wire import wireguard
from ginnel.wireguard import constants

#: Those that both sides act on: the engine must name each of them.
SHARED = {
    "REKEY_AFTER_TIME_NS",
    "REKEY_AFTER_MESSAGES",
    "REJECT_AFTER_TIME_NS",
    "REJECT_AFTER_MESSAGES",
    "REKEY_TIMEOUT_NS",
    "REKEY_TIMEOUT_JITTER_MAX_NS",
    "KEEPALIVE_TIMEOUT_NS",
    "REKEY_ON_RECEIVE_TIME_NS",
    "NEW_HANDSHAKE_TIME_NS",
    "COOKIE_SECRET_MAX_AGE_NS",
    "COOKIE_SECRET_LATENCY_NS",
    "MAX_STAGED_PACKETS",
    "MAX_TIMER_HANDSHAKES",
    "REKEY_ATTEMPT_TIME_NS",
    "ZERO_KEY_MATERIAL_TIME_NS",
    "INITIATION_INTERVAL_NS",
}


def test_the_table_of_the_paper() -> None:
    second = 1_000_000_000
    assert constants.REKEY_AFTER_MESSAGES == 2**60
    assert constants.REJECT_AFTER_MESSAGES == 2**64 - 2**13 - 1
    assert 120 * second == constants.REKEY_AFTER_TIME_NS
    assert 180 * second == constants.REJECT_AFTER_TIME_NS
    assert 90 * second == constants.REKEY_ATTEMPT_TIME_NS
    assert 5 * second == constants.REKEY_TIMEOUT_NS
    assert second * 333 // 1000 == constants.REKEY_TIMEOUT_JITTER_MAX_NS
    assert 10 * second == constants.KEEPALIVE_TIMEOUT_NS
    assert constants.MAX_TIMER_HANDSHAKES == 18
    assert constants.MAX_INITIATIONS == 20
    assert 540 * second == constants.ZERO_KEY_MATERIAL_TIME_NS
    assert 165 * second == constants.REKEY_ON_RECEIVE_TIME_NS
    assert 15 * second == constants.NEW_HANDSHAKE_TIME_NS
    assert 115 * second == constants.COOKIE_USE_NS
    assert second // 50 == constants.INITIATION_INTERVAL_NS


def test_the_engine_has_the_same_numbers() -> None:
    assert set(_native.CONSTANTS) >= SHARED
    ours = {name: getattr(constants, name) for name in SHARED}
    theirs = {name: _native.CONSTANTS[name] for name in SHARED}
    assert ours == theirs


def test_whatever_else_the_engine_names_alike_is_alike() -> None:
    for name, value in _native.CONSTANTS.items():
        assert getattr(constants, name, value) == value, name


def test_messages_have_the_same_sizes_on_both_sides() -> None:
    assert _native.CONSTANTS["INITIATION_SIZE"] == wireguard.Initiation.SIZE_BYTES
    assert _native.CONSTANTS["RESPONSE_SIZE"] == wireguard.Response.SIZE_BYTES
    assert _native.CONSTANTS["COOKIE_REPLY_SIZE"] == wireguard.CookieReply.SIZE_BYTES
