"""The small parts of the machine: payloads by name, token buckets, crash tokens, the legality of states and stages."""

from __future__ import annotations

import pytest

from ginnel.crypto.ike import KeyMaterial
from ginnel.errors import PeerError
from ginnel.ikev2 import child, crash, sa
from ginnel.ikev2.content import Content, notify_name
from ginnel.ikev2.limit import Bucket
from ginnel.units import NS_PER_S
from ginnel.wire.ikev2 import Auth, Cert, Ke, Nonce, Notify, NotifyType, Unknown


def test_content_finds_each_payload() -> None:
    content = Content(
        (
            Notify(NotifyType.COOKIE, b"1"),
            Notify(NotifyType.COOKIE, b"2"),
            Notify(NotifyType.TS_UNACCEPTABLE),
            Notify(NotifyType.NO_PROPOSAL_CHOSEN),
            Ke(31, b"k"),
            Nonce(b"n" * 16),
            Cert(4, b"a"),
            Cert(4, b"b"),
            Unknown(48, False, b""),
        )
    )
    assert content.notifies[NotifyType.COOKIE].data == b"1"
    assert content.error() == Notify(NotifyType.TS_UNACCEPTABLE)
    assert content.ke == Ke(31, b"k")
    assert [one.data for one in content.certificates] == [b"a", b"b"]
    assert content.unknown == {48}
    assert content.auth is None
    assert content.has(NotifyType.COOKIE)
    assert not content.has(NotifyType.REDIRECT)


@pytest.mark.parametrize("payload", [Ke(31, b"k"), Nonce(b"n" * 16), Auth(2, b"a")])
def test_what_may_be_there_once_is_refused_twice(payload: Ke | Nonce | Auth) -> None:
    with pytest.raises(PeerError, match="expected one"):
        Content((payload, payload))


def test_names_of_notifies() -> None:
    assert notify_name(NotifyType.TS_UNACCEPTABLE) == "TS_UNACCEPTABLE"
    assert notify_name(12345) == "notify 12345"


def test_a_bucket_gives_a_burst_and_then_its_rate() -> None:
    bucket = Bucket(10, 5)
    start = 1000 * NS_PER_S
    assert [bucket.take(start) for _ in range(6)] == [True] * 5 + [False]
    assert sum(bucket.take(start + NS_PER_S * each // 100) for each in range(1, 101)) == 10
    assert sum(bucket.take(start + 1000 * NS_PER_S) for _ in range(10)) == 5, "never more than a burst"


def test_tokens_are_of_the_secret_and_the_spi() -> None:
    secret, other = KeyMaterial.from_bytes(b"a" * 32), KeyMaterial.from_bytes(b"b" * 32)
    token = crash.token(secret, b"12345678")
    assert len(token) == 32
    assert token == crash.token(secret, b"12345678")
    assert token != crash.token(secret, b"12345679")
    assert token != crash.token(other, b"12345678")


@pytest.mark.parametrize("size", [0, 15, 129])
def test_tokens_of_a_strange_size_are_not_taken(size: int) -> None:
    assert crash.taken({NotifyType.QUICK_CRASH_DETECTION: Notify(NotifyType.QUICK_CRASH_DETECTION, bytes(size))}) == b""
    assert crash.taken({}) == b""


def test_no_token_proves_nothing() -> None:
    assert not crash.proves(b"", b"")
    assert not crash.proves(b"a" * 16, b"a" * 15)
    assert crash.proves(b"a" * 16, b"a" * 16)


def test_every_state_and_stage_has_its_row_and_an_end() -> None:
    assert set(sa.LEGAL) == set(sa.State)
    assert set(child.LEGAL) == set(child.Stage)
    assert all(sa.State.GONE in after for state, after in sa.LEGAL.items() if state is not sa.State.GONE)
    assert set(sa.ANSWERED) == {sa.State.HALF_OPEN, *sa.AUTHENTICATED}
    assert all(child.Stage.GONE in after for stage, after in child.LEGAL.items() if stage is not child.Stage.GONE)
