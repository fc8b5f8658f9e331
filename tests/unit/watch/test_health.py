"""The three-part truth: each rule from its evidence, and never one part from another."""

from __future__ import annotations

import pytest

from ginnel.watch import health
from ginnel.watch.snapshot import Answer, PeerView, Verdict


@pytest.mark.parametrize(
    ("age_s", "text"),
    [(-1, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")],
)
def test_ages_as_a_person_says_them(age_s: float, text: str) -> None:
    assert health.age_text(age_s) == text


@pytest.mark.parametrize(
    ("has_key", "up", "allowed_ips", "endpoint", "host", "answer", "word"),
    [
        (False, True, 1, "192.0.2.1:1", "", "no", "private key"),
        (True, False, 1, "192.0.2.1:1", "", "no", "down"),
        (True, True, 0, "192.0.2.1:1", "", "no", "AllowedIPs"),
        (True, True, 1, None, "vpn.example.org:1", "no", "vpn.example.org:1 has not been resolved"),
        (True, True, 1, None, "", "yes", "has to speak first"),
        (True, True, 1, "192.0.2.1:1", "vpn.example.org:1", "yes", "in place"),
    ],
)
def test_configured(has_key: bool, up: bool, allowed_ips: int, endpoint: str | None, host: str, answer: str, word: str) -> None:
    verdict = health.judge_configured(has_key=has_key, up=up, allowed_ips=allowed_ips, endpoint=endpoint, endpoint_host=host)
    assert verdict.answer == answer
    assert word in verdict.why


@pytest.mark.parametrize(
    ("session_s", "handshake_s", "why_not", "expected"),
    [
        (0.0, 0.0, "", Verdict("yes", "session is 0 s old")),
        (179.9, 179.9, "", Verdict("yes", "session is 2 min 59 s old")),
        (
            180.0,
            180.0,
            "the next packet starts one",
            Verdict("no", "last handshake was 3 min 0 s ago: the next packet starts one"),
        ),
        (None, 5.0, "", Verdict("no", "last handshake was 5 s ago")),
        (None, None, "it is unreachable", Verdict("no", "no handshake yet: it is unreachable")),
        (None, None, "", Verdict("no", "no handshake yet")),
    ],
)
def test_alive(session_s: float | None, handshake_s: float | None, why_not: str, expected: Verdict) -> None:
    assert health.judge_alive(session_age_s=session_s, handshake_age_s=handshake_s, why_not=why_not) == expected


@pytest.mark.parametrize(
    ("alive", "receive_s", "send_s", "silent_s", "answer"),
    [
        (False, 1.0, 2.0, None, "no"),  # no session: whatever came before
        (True, None, None, None, "unknown"),  # nobody asked it to
        (True, None, 1.0, None, "unknown"),  # an answer may still come
        (True, None, 20.0, 5.0, "no"),  # the engine waited 15 s for one
        (True, 1.0, 2.0, None, "yes"),  # answered
        (True, 1.0, None, None, "yes"),
        (True, 25.0, 1.0, None, "yes"),  # we keep alive, it has nothing to say: keepalives are not answered
        (True, 60.0, 40.0, 30.0, "no"),  # silent, and nothing came since
        (True, 10.0, 40.0, 30.0, "yes"),  # silent once, heard since
        (True, 200.0, 1.0, None, "unknown"),  # idle too long to say
    ],
)
def test_carrying(alive: bool, receive_s: float | None, send_s: float | None, silent_s: float | None, answer: str) -> None:
    verdict = health.judge_carrying(alive=alive, receive_age_s=receive_s, send_age_s=send_s, silent_age_s=silent_s)
    assert verdict.answer == answer
    assert verdict.why


def peer(name: str, answer: Answer) -> PeerView:
    verdict = Verdict(answer, "because")
    return PeerView(
        name, "k" * 44, False, None, "", (), 0, "up", "", verdict, verdict, verdict, 0.0, None, None, None, None, 0, 0, 0, 0, 0
    )


def judged(*peers: PeerView) -> health.Judgement:
    judgement = health.Judgement()
    for view in peers:
        assert judgement.seen(view) is view
    return judgement


def test_a_tunnel_is_as_good_as_its_worst_peer() -> None:
    good, bad, unsure = peer("lyon", "yes"), peer("", "no"), peer("oslo", "unknown")
    assert judged().alive.verdict() == Verdict("unknown", "no peers")
    assert judged(good, good).alive.verdict() == Verdict("yes", "2 of 2 peers")
    assert judged(good, unsure).carrying.verdict() == Verdict("unknown", "1 of 2 peers; not oslo")
    assert judged(good, unsure, bad).configured.verdict() == Verdict("no", "2 of 3 peers; not kkkkkkkk…")
    many = judged(*[peer(f"p{i}", "no") for i in range(9)]).alive.verdict()
    assert many.why == "0 of 9 peers; not p0, p1, p2 and 6 more"
