"""What is proven of a protected tunnel, from evidence."""

from __future__ import annotations

import dataclasses

import pytest

from ginnel.watch import ipsec as watch
from ginnel.watch import plain
from ginnel.watch.ipsec import Evidence

UP = Evidence(
    proven=True,
    carries=True,
    state="protected",
    why="aes256gcm16, transport mode, with sun for 3 s",
    failing="",
    peer_id="sun",
    heard_age_s=2.0,
)
ASKING = dataclasses.replace(UP, proven=False, carries=False, state="connecting", why="the peer is being asked", heard_age_s=None)
SEEN = plain.Evidence(
    up=True, problems=(), speaks_first=False, refused="", keepalive="off", judged=False, unanswered=0, missing_s=None,
    returned_age_s=None, receive_age_s=1.0, send_age_s=1.0, silent_s=None, protection=UP,
)  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "answer", "why"),
    [
        (UP, "yes", "sun has proven who it is, heard 2 s ago"),
        (ASKING, "unknown", "the peer is being asked"),
        (dataclasses.replace(ASKING, failing="the peer took none"), "no", "the peer took none"),
        (dataclasses.replace(ASKING, state="retrying", why="2 attempts failed"), "no", "2 attempts failed"),
        (dataclasses.replace(UP, carries=False, failing="no ESP proposal"), "yes", "sun has proven who it is, heard 2 s ago"),
    ],
)
def test_alive_is_a_peer_that_has_proven_itself(seen: Evidence, answer: str, why: str) -> None:
    found = watch.judge_alive(seen)
    assert (found.answer, found.why) == (answer, why)


def test_nothing_is_carried_without_an_sa() -> None:
    assert watch.judge_carrying(UP) is None
    found = watch.judge_carrying(ASKING)
    assert found is not None
    assert (found.answer, found.why) == ("no", "nothing may leave without an SA: the peer is being asked")
    failing = watch.judge_carrying(dataclasses.replace(ASKING, failing="the peer took none"))
    assert failing is not None
    assert failing.why == "nothing may leave without an SA: the peer took none"


def test_the_three_parts_of_a_protected_tunnel() -> None:
    def parts(seen: plain.Evidence) -> tuple[str, str, str]:
        return (plain.judge_configured(seen).answer, plain.judge_alive(seen).answer, plain.judge_carrying(seen).answer)

    assert parts(SEEN) == ("yes", "yes", "yes")
    assert parts(dataclasses.replace(SEEN, protection=ASKING)) == ("yes", "unknown", "no")
    assert parts(dataclasses.replace(SEEN, up=False)) == ("no", "no", "no")
    assert parts(dataclasses.replace(SEEN, send_age_s=None, receive_age_s=None)) == ("yes", "yes", "unknown")
    # What the way refuses is known sooner than any silence.
    assert plain.judge_carrying(dataclasses.replace(SEEN, refused="ESP is refused")).why == "ESP is refused"


def test_a_filter_for_esp_has_a_way_around() -> None:
    raw = plain.Ends("ipsec", "192.0.2.1", "192.0.2.2")
    assert plain.notice_sentence("refused", "192.0.2.254", raw, ttl=0) == (
        'protocol 50 (ESP) is refused on the way: 192.0.2.254 said so; encapsulation = "udp" goes around it'
    )
    udp = plain.Ends("ipsec", "192.0.2.1", "192.0.2.2", 4500)
    assert (
        plain.notice_sentence("refused", "192.0.2.254", udp, ttl=0) == "UDP port 4500 is refused on the way: 192.0.2.254 said so"
    )


@pytest.mark.parametrize(
    ("raw", "silent_s", "receive_age_s", "told"),
    [
        (True, 5.0, None, True),
        (True, 4.0, None, False),  # an answer may be on its way
        (True, None, None, False),  # nothing was sent
        (True, 60.0, 90.0, False),  # it did come once
        (False, 60.0, None, False),  # in UDP, ESP goes by IKE's own port
    ],
)
def test_ike_that_passes_and_esp_that_does_not(
    raw: bool, silent_s: float | None, receive_age_s: float | None, told: bool
) -> None:
    protection = dataclasses.replace(UP, raw=raw)
    seen = dataclasses.replace(SEEN, silent_s=silent_s, receive_age_s=receive_age_s, protection=protection)
    found = plain.judge_alive(seen)
    assert found.answer == "yes"
    assert ("does a filter drop protocol 50?" in found.why) is told
