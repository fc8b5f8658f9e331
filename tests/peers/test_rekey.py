"""
Over two minutes of a real tunnel's life: keys change at 120 s while pings run, and none is lost.

All cases run beside each other in one test, so that the two minutes pass once: ginnel began the session (and must renew it), the
other did (and ginnel must leave that to it), with wireguard-go and with the Linux kernel, and one tunnel that only receives.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from peers.nodes import Pair, Side, latest_handshake, ping, transfer

#: REKEY_AFTER_TIME, and room for the initiation's own retry.
LIFE_S = 130
INTERVAL_S = 0.02


@dataclass(slots=True)
class Run:
    """One tunnel with its pings."""

    name: str
    pair: Pair
    first: Side
    second: Side
    pings: subprocess.Popen[Any]
    began: int = 0


def begin(name: str, pair: Pair, initiator: str) -> Run:
    """Configure so that *initiator* begins, and let the subject ping; data flows both ways whoever pings."""
    pair.configure(subject_knows=initiator == "subject", other_knows=initiator == "other")
    first, second = pair.sides(initiator)
    assert ping(first.node, second.inner4, within_s=4), name
    pings = pair.space.popen(
        "ping",
        "-n",
        "-q",
        "-i",
        str(INTERVAL_S),
        "-w",
        str(LIFE_S),
        "-W",
        "1",
        pair.other.inner4,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Run(name, pair, first, second, pings, latest_handshake(first.node, second.keys.public))


@pytest.mark.slow
def test_keys_change_and_no_packet_is_lost(make: Callable[..., Pair]) -> None:
    """Every run loses no ping of some 6,500; both sides have a new handshake, made by the one that began."""
    runs = [
        begin("ginnel to wireguard-go", make("wireguard-go"), "subject"),
        begin("wireguard-go to ginnel", make("wireguard-go"), "other"),
        begin("ginnel to the kernel", make("kernel"), "subject"),
    ]
    quiet = make("wireguard-go")
    quiet.configure()
    assert ping(quiet.other.node, quiet.subject.inner4, within_s=4)
    started = time.monotonic()
    before = transfer(quiet.other.node, quiet.subject.keys.public)
    for run in runs:
        said, _ = run.pings.communicate(timeout=LIFE_S + 30)
        sent, received = map(int, re.findall(r"(\d+) packets transmitted, (\d+) received", said)[0])
        # The last may be on its way when the time is over.
        assert sent > LIFE_S / INTERVAL_S * 0.8, run.name
        assert sent - received <= 1, f"{run.name}: {said}"
        for side, peer in ((run.first, run.second), (run.second, run.first)):
            assert latest_handshake(side.node, peer.keys.public) - run.began in range(118, 130), run.name
    # Nothing was due on the quiet tunnel after the passive keepalives that its one ping asked for: at most one from each side.
    assert time.monotonic() - started > 120
    after = transfer(quiet.other.node, quiet.subject.keys.public)
    assert after[0] - before[0] in {0, 32}
    assert after[1] - before[1] in {0, 32}
