"""The numbers of the paper, and that the engine has the same."""

from __future__ import annotations

from ginnel import _native
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
}


def test_the_table_of_the_paper() -> None:
    second = 1_000_000_000
    assert constants.REKEY_AFTER_MESSAGES == 2**60
    assert constants.REJECT_AFTER_MESSAGES == 2**64 - 2**13 - 1
    assert constants.REKEY_AFTER_TIME_NS == 120 * second
    assert constants.REJECT_AFTER_TIME_NS == 180 * second
    assert constants.REKEY_ATTEMPT_TIME_NS == 90 * second
    assert constants.REKEY_TIMEOUT_NS == 5 * second
    assert constants.REKEY_TIMEOUT_JITTER_MAX_NS == second * 333 // 1000
    assert constants.KEEPALIVE_TIMEOUT_NS == 10 * second
    assert constants.MAX_TIMER_HANDSHAKES == 18
    assert constants.MAX_INITIATIONS == 20
    assert constants.ZERO_KEY_MATERIAL_TIME_NS == 540 * second
    assert constants.REKEY_ON_RECEIVE_TIME_NS == 165 * second
    assert constants.NEW_HANDSHAKE_TIME_NS == 15 * second
    assert constants.COOKIE_USE_NS == 115 * second
    assert constants.INITIATION_INTERVAL_NS == second // 50


def test_the_engine_has_the_same_numbers() -> None:
    assert set(_native.CONSTANTS) >= SHARED
    ours = {name: getattr(constants, name) for name in SHARED}
    theirs = {name: _native.CONSTANTS[name] for name in SHARED}
    assert ours == theirs


def test_whatever_else_the_engine_names_alike_is_alike() -> None:
    for name, value in _native.CONSTANTS.items():
        assert getattr(constants, name, value) == value, name
