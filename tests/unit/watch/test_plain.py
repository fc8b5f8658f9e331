"""The sentences and the judgement of plain tunnels."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ginnel.watch import plain as watch
from ginnel.watch.plain import Ends, Evidence
from ginnel.watch.snapshot import Verdict
from ginnel.watch.snapshot import plain as as_plain

IDLE = Evidence(
    up=True,
    problems=(),
    speaks_first=False,
    refused="",
    keepalive="off",
    judged=False,
    unanswered=0,
    missing_s=None,
    returned_age_s=None,
    receive_age_s=None,
    send_age_s=None,
    silent_s=None,
)
GRE = Ends("gre", "192.0.2.1", "198.51.100.20")


def seen(**changes: object) -> Evidence:
    return dataclasses.replace(IDLE, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reason", "told", "key", "sentence"),
    [
        ("key_mismatch", 7, 8, "peer sends key 7, this tunnel expects 8"),
        ("key_mismatch", None, 8, "peer sends no key, this tunnel expects 8"),
        ("key_mismatch", 7, None, "peer sends key 7, this tunnel expects none"),
        ("key_mismatch", 0x0A00_0001, 8, "peer sends key 167772161 (10.0.0.1), this tunnel expects 8"),
        ("checksum_unexpected", None, None, "peer sends checksums, this tunnel does not expect them (icsum)"),
        ("checksum_missing", None, None, "peer sends no checksums, this tunnel expects them (icsum)"),
        ("sequence_missing", None, None, "peer sends no sequence numbers, this tunnel expects them (iseq)"),
        ("unknown_protocol", 0x6558, None, "peer sends Ethernet frames: its tunnel is a gretap, this one is a gre"),
        ("unknown_protocol", 0x8847, None, "peer sends what this tunnel does not carry: protocol type 0x8847"),
        ("unknown_protocol", None, None, "peer sends what this tunnel does not carry"),
        ("version", 1, None, "peer sends GRE version 1: version 1 is PPTP"),
        ("some_new_reason", None, None, "packets of the peer's are dropped: some new reason"),
    ],
)
def test_mismatches_are_said_from_both_ends(reason: str, told: int | None, key: int | None, sentence: str) -> None:
    assert watch.mismatch_sentence(reason, told, key=key) == sentence


@pytest.mark.parametrize("reason", ["checksum_wrong", "out_of_order", "routing", "ecn", "version"])
def test_every_other_reason_has_words_of_its_own(reason: str) -> None:
    assert "are dropped:" not in watch.mismatch_sentence(reason, None, key=None)


@pytest.mark.parametrize(
    ("notice", "ends", "origin", "sentence"),
    [
        (
            "no-tunnel",
            GRE,
            "198.51.100.20",
            "the peer's kernel answered port-unreachable: no tunnel at 198.51.100.20 matches ours (ends, key)",
        ),
        (
            "no-tunnel",
            dataclasses.replace(GRE, port=4754),
            "198.51.100.20",
            "198.51.100.20 answered port-unreachable: nobody listens there on UDP port 4754",
        ),
        (
            "refused",
            GRE,
            "203.0.113.7",
            'protocol 47 is refused on the way: 203.0.113.7 said so; encapsulation = "udp" goes around it',
        ),
        ("refused", dataclasses.replace(GRE, kind="sit"), "", "protocol 41 is refused on the way: this host said so"),
        (
            "refused",
            dataclasses.replace(GRE, port=4754),
            "203.0.113.7",
            "UDP port 4754 is refused on the way: 203.0.113.7 said so",
        ),
        (
            "no-protocol",
            dataclasses.replace(GRE, kind="ip6tnl"),
            "2001:db8::2",
            "2001:db8::2 does not know protocols 4 and 41: there is no tunnel of this kind",
        ),
        (
            "ttl",
            GRE,
            "203.0.113.7",
            "packets of the tunnel end at 203.0.113.7: their TTL is 3, which is too few hops or goes round in a loop",
        ),
        ("unreachable", GRE, "203.0.113.7", "198.51.100.20 cannot be reached, says 203.0.113.7"),
        ("unreachable", GRE, "198.51.100.20", "198.51.100.20 cannot be reached"),
    ],
)
def test_what_icmp_said(notice: str, ends: Ends, origin: str, sentence: str) -> None:
    assert watch.notice_sentence(notice, origin, ends, ttl=3) == sentence


def test_a_kernel_beside_the_peers_tunnel_is_said_with_the_mend() -> None:
    found = watch.notice_sentence("beside", "198.51.100.20", GRE, ttl=0)
    assert found.startswith("the kernel at 198.51.100.20 answers port-unreachable to packets that the tunnel there takes")
    assert "modprobe -r ip_gre gre" in found


def test_a_filter_is_said_with_the_way_out() -> None:
    assert watch.filtered_sentence(GRE, 42.7) == (
        "protocol 47 seems filtered on the way: 198.51.100.20 answers ping but nothing came back for 42 s; "
        'encapsulation = "udp" goes around it'
    )


@pytest.mark.parametrize(
    ("evidence", "configured", "alive", "carrying"),
    [
        (seen(up=False), "no", "no", "no"),
        (IDLE, "yes", "unknown", "unknown"),
        (seen(problems=("held",), receive_age_s=1.0, send_age_s=1.0), "no", "yes", "no"),
        (seen(refused="refused", send_age_s=1.0), "yes", "no", "no"),
        (seen(send_age_s=1.0, receive_age_s=2.0), "yes", "yes", "yes"),
        (seen(send_age_s=1.0, silent_s=45.0), "yes", "unknown", "unknown"),
        (seen(send_age_s=1.0, receive_age_s=90.0), "yes", "unknown", "unknown"),
        (seen(receive_age_s=1.0), "yes", "yes", "unknown"),
        (seen(keepalive="silent", judged=True), "yes", "unknown", "unknown"),
        (seen(keepalive="alive", judged=True, returned_age_s=3.0), "yes", "yes", "unknown"),
        (seen(keepalive="alive", judged=True, returned_age_s=300.0), "yes", "yes", "unknown"),
        (seen(keepalive="dead", judged=True, unanswered=3, send_age_s=1.0), "yes", "no", "no"),
        (seen(keepalive="dead", unanswered=3, missing_s=30.0, receive_age_s=29.9, send_age_s=1.0), "yes", "no", "unknown"),
        (seen(keepalive="dead", unanswered=3, missing_s=30.0, receive_age_s=30.1, send_age_s=1.0), "yes", "no", "no"),
        (seen(keepalive="dead", judged=True, unanswered=3, refused="filtered", send_age_s=1.0), "yes", "no", "no"),
    ],
)
def test_the_three_parts(evidence: Evidence, configured: str, alive: str, carrying: str) -> None:
    found = (watch.judge_configured(evidence), watch.judge_alive(evidence), watch.judge_carrying(evidence))
    assert tuple(verdict.answer for verdict in found) == (configured, alive, carrying)
    assert all(verdict.why for verdict in found)


def test_reasons_are_sentences_with_ages() -> None:
    assert watch.judge_carrying(seen(send_age_s=1.0, receive_age_s=2.0)).why == "sent 1 s ago, received 2 s ago"
    assert watch.judge_carrying(seen(send_age_s=90.0, receive_age_s=95.0)).why == "idle: last packet 1 min 30 s ago"
    assert watch.judge_carrying(seen(send_age_s=1.0, silent_s=45.0)).why == (
        "sent, and nothing came back for 45 s; one-way traffic looks the same"
    )
    assert watch.judge_alive(seen(keepalive="alive", returned_age_s=3.0)).why == "a keepalive came back 3 s ago"
    assert watch.judge_configured(seen(speaks_first=True)).why == "no remote: it has to speak first"


def test_a_peer_that_sends_no_keepalives_back_is_told_from_one_that_is_gone() -> None:
    gone = seen(keepalive="dead", judged=True, unanswered=3, missing_s=30.0, send_age_s=1.0)
    assert watch.judge_alive(gone).why == "3 keepalives in a row did not come back"
    speaks = dataclasses.replace(gone, receive_age_s=1.0)
    assert "accept_local=1" in watch.judge_alive(speaks).why
    assert watch.judge_alive(dataclasses.replace(gone, refused="filtered")).why == "filtered"


def test_the_worst_of_many() -> None:
    yes, no, unknown = Verdict("yes", "a"), Verdict("no", "b"), Verdict("unknown", "c")
    assert watch.worst([yes, unknown, no]) == no
    assert watch.worst([yes, unknown]) == unknown
    assert watch.worst([yes, yes]) == yes
    assert watch.worst([]).answer == "unknown"


def test_a_view_is_json() -> None:
    view = watch.NodeView("site", "/etc/ginnel/site.toml", 1, "0", 0.0, watch.CarrierView(0, 0, {"gre over IPv4": "on"}), ("w",))
    assert json.loads(json.dumps(as_plain(view))) == {
        "name": "site",
        "config": "/etc/ginnel/site.toml",
        "pid": 1,
        "version": "0",
        "started_unix": 0.0,
        "carrier": {"no_tunnel": 0, "at_socket": 0, "sockets": {"gre over IPv4": "on"}},
        "warnings": ["w"],
        "ike": None,
    }
