"""What `show` has of a protected tunnel: each state in a word and a sentence, refusals while they matter, layers."""

from __future__ import annotations

import dataclasses
import json
import socket
from typing import Any

import pytest

from ginnel.config.node import IpsecConfig, PlainConfig
from ginnel.ikev2.effects import Path
from ginnel.ikev2.view import ChildView, ConnectionView, IkeView
from ginnel.runtime import ipsec_view
from ginnel.testing.plain import SaCounters
from ginnel.units import NS_PER_S, Now
from ginnel.watch.ipsec import IpsecView
from ginnel.watch.snapshot import plain

US, PEER = socket.inet_aton("192.0.2.1"), socket.inet_aton("198.51.100.2")
NOW = Now(10_000 * NS_PER_S, 1_700_000_000 * NS_PER_S)
IPSEC = IpsecConfig(psk_file="/etc/psk", remote_auth="certificate", remote_id="sun.example.org")
CONFIG = PlainConfig("gre1", "gre", 4, local="192.0.2.1", remote="198.51.100.2", ipsec=IPSEC)
IKE = IkeView(
    spi_i=b"\1" * 8, spi_r=b"\2" * 8, initiator=True, proposal="aes256gcm16-prfsha256-x25519",
    path=Path(US, PEER, 4500, natt=True), nat="peer", udp=True, fragmentation=True, peer_id="sun.example.org", age_s=60.0,
    heard_s=20.0, rekey_in_s=100.0, hard_in_s=200.0,
)  # fmt: skip
CHILD = ChildView(
    spi_in=0x1234, spi_out=0xABCDEF01, proposal="aes256gcm16-x25519-esn", suite="aes256gcm16", mode="transport", esn=True,
    local_ts=("192.0.2.1[gre]",), remote_ts=("198.51.100.2[gre]",), initiator=True, state="carrying", age_s=50.0, rekey_in_s=30.0,
    hard_in_s=60.0,
)  # fmt: skip
UP = ConnectionView(
    name="gre1", state="up", local_id="192.0.2.1", remote_id="sun.example.org", ike=IKE, children=(CHILD,), attempts_failed=0,
    next_attempt_s=None, ike_rekeys=1, child_rekeys=2,
)  # fmt: skip
DOWN = dataclasses.replace(UP, state="waiting", ike=None, children=())


def view(connection: ConnectionView | None, *associations: Any, config: PlainConfig = CONFIG, **changes: Any) -> IpsecView:
    options: dict[str, Any] = {
        "ends": (US, PEER), "missing": "its device is down", "link_mtu": 1400, "unsent": "", "keys_written": "", **changes,
    }  # fmt: skip
    return ipsec_view.view(config, connection, associations, NOW, **options)


def test_everything_of_a_tunnel_that_is_protected() -> None:
    seen = view(
        UP,
        SaCounters(0xABCDEF01, inbound=False, packets=3, bytes=300, sequence=3, last_ns=9_999 * NS_PER_S),
        SaCounters(0x1234, inbound=True, packets=2, bytes=200, sequence=2, last_ns=9_998 * NS_PER_S, drops={"replayed": 1}),
    )
    assert (seen.state, seen.why) == ("protected", "aes256gcm16, transport mode, with sun.example.org for 50 s")
    assert (seen.auth, seen.remote_auth, seen.local_id, seen.peer_id) == ("psk", "certificate", "192.0.2.1", "sun.example.org")
    assert (seen.local, seen.remote, seen.remote_port, seen.encapsulation, seen.nat) == (
        "192.0.2.1", "198.51.100.2", 4500, "udp", "peer",
    )  # fmt: skip
    assert seen.ike is not None
    assert (seen.ike.spi_i, seen.ike.role, seen.ike.rekey_in_s) == ("01" * 8, "initiator", 100.0)
    assert seen.child is not None
    assert (seen.child.spi_in, seen.child.spi_out, seen.child.esn) == ("00001234", "abcdef01", True)
    assert [(one.direction, one.spi, one.last_age_s) for one in seen.associations] == [
        ("out", "abcdef01", 1.0),
        ("in", "00001234", 2.0),
    ]
    assert (seen.rekeyings, seen.ike_rekeyings) == (2, 1)
    assert seen.heard_age_s == 2.0  # ESP is later than IKE
    assert seen.stack == "gre+esp(aes256gcm16,nat-t)"
    assert sum(layer.size_bytes for layer in seen.layers) == seen.wire_bytes - 1400
    assert json.loads(json.dumps(plain(seen)))["child"]["mode"] == "transport"


@pytest.mark.parametrize(
    ("connection", "state", "words"),
    [
        (None, "down", "its device is down"),
        (dataclasses.replace(UP, state="no-child", children=()), "established", "there is no ESP SA, it is being made"),
        (
            dataclasses.replace(UP, state="no-child", children=(), refused_lines=("no proposal",), refused_unix_ns=NOW.unix_ns),
            "established",
            "there is no ESP SA: no proposal",
        ),
        (dataclasses.replace(DOWN, state="connecting"), "connecting", "the peer is being asked"),
        (dataclasses.replace(DOWN, state="connecting", attempts_failed=2), "connecting", "asked, after 2 failed attempts"),
        (dataclasses.replace(DOWN, next_attempt_s=0.1), "connecting", "about to be asked"),
        (dataclasses.replace(DOWN, next_attempt_s=7.0, attempts_failed=1), "retrying", "1 attempt failed, the next in 7 s"),
        (dataclasses.replace(DOWN, next_attempt_s=7.0, attempts_failed=3), "retrying", "3 attempts failed, the next in 7 s"),
        (DOWN, "waiting", "for the peer to begin"),
        (dataclasses.replace(DOWN, state="down"), "down", "`ginnel initiate` begins anew"),
    ],
)
def test_states_in_a_word_and_a_sentence(connection: ConnectionView | None, state: str, words: str) -> None:
    seen = view(connection)
    assert seen.state == state
    assert words in seen.why
    assert seen.child is None
    assert seen.encapsulation == ""
    assert (seen.local, seen.remote) == ("192.0.2.1", "198.51.100.2")
    evidence = ipsec_view.evidence(seen)
    assert (evidence.carries, evidence.proven) == (False, connection is not None and connection.ike is not None)


def test_a_refusal_is_shown_until_there_is_a_later_success() -> None:
    lines = {"refused_lines": ("no", "ours: a"), "refused_by": "peer", "refused_unix_ns": NOW.unix_ns - 30 * NS_PER_S}
    failing = view(dataclasses.replace(DOWN, **lines))
    assert (failing.refusal, failing.refused_by, failing.refusal_age_s) == (("no", "ours: a"), "peer", 30.0)
    assert ipsec_view.evidence(failing).failing == "no"
    # The SA is older than the refusal: its rekeying fails, which will matter.
    assert view(dataclasses.replace(UP, **lines)).refusal == ("no", "ours: a")
    later = dataclasses.replace(UP, children=(dataclasses.replace(CHILD, age_s=10.0),), **lines)
    assert (view(later).refusal, view(later).refused_by, view(later).refusal_age_s) == ((), "", None)


def test_before_the_suite_is_known_the_heaviest_is_counted() -> None:
    assert view(DOWN).stack == "gre+esp(aes128-sha256,nat-t)"
    raw = dataclasses.replace(CONFIG, ipsec=dataclasses.replace(IPSEC, encapsulation="raw", mode="tunnel"))
    assert view(DOWN, config=raw).stack == "gre+esp(aes128-sha256,tunnel)"
    alone = dataclasses.replace(CONFIG, kind="ipsec")
    assert view(UP, config=alone).stack == "esp(aes256gcm16,nat-t)"
    unknown = view(DOWN, link_mtu=0)
    assert (unknown.wire_bytes, unknown.layers) == (0, ())
    assert view(DOWN, link_mtu=20).wire_bytes > 20


def test_a_peer_that_may_be_anybody_has_no_name_yet() -> None:
    seen = view(dataclasses.replace(DOWN, remote_id="%any"), ends=(None, None))
    assert (seen.peer_id, seen.local, seen.remote) == ("", None, None)
    assert view(None, ends=(None, None)).peer_id == "sun.example.org"
