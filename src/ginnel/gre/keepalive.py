"""
Keepalives of a GRE tunnel: is there anybody at the other end?

Every interval, dead or alive, one keepalive is sent (`wire.gre`: a packet to ourselves, in the peer's hands). Only what comes
back is evidence: a peer that sends its own keepalives, or data, proves that its packets reach us, not that ours reach it.

    silent    nothing came back yet, or keepalives are never judged (retries = 0)
    alive     the last one came back, or fewer than *retries* in a row are missing
    dead      *retries* in a row did not come back; the first that does makes it alive again

A keepalive is missing when the next one is due. So the peer is dead *retries* intervals after the first unanswered one was sent,
as with Cisco's `keepalive interval retries`.

The peer's own keepalives are sent back to it, at most `ANSWERS_PER_S` a second: only packets from our end to its end, GRE, with
nothing inside. The engine has checked that, and it is checked here again: what sends packets that strangers hand to it must be
nobody's reflector.

Deadlines keep their phase: a timer that comes late does not move the following ones, and after a suspend one keepalive is sent,
not all that were missed.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

from ginnel.errors import PeerError
from ginnel.gre import effects
from ginnel.units import NS_PER_S
from ginnel.wire import gre

#: A peer asks once in some seconds; Cloudflare-like edges have tens of servers behind one address.
ANSWERS_PER_S: Final = 50
ANSWERS_BURST: Final = 50

State = Literal["silent", "alive", "dead"]
Output = effects.SendControl | effects.SendBack | effects.PeerAlive | effects.PeerDead | effects.WaitUntil


class KeepaliveMachine:
    """
    The keepalives of one tunnel; see the module.

    It sends when it is `up` and knows both ends, at once when the second becomes known; it answers whether it sends or not.
    """

    __slots__ = (
        "_budget",
        "_budget_ns",
        "_checksum",
        "_due_ns",
        "_ends",
        "_interval_ns",
        "_key",
        "_output",
        "_protocol",
        "_retries",
        "answered",
        "last_returned_ns",
        "last_sent_ns",
        "missing_since_ns",
        "refused",
        "returned",
        "sent",
        "state",
        "unanswered",
    )

    def __init__(
        self, *, interval_s: int = 0, retries: int = 0, mikrotik: bool = False, key: int | None = None, checksum: bool = False
    ) -> None:
        """
        Args:
            interval_s: 0: never send, only answer.
            retries: 0: send, but never judge.
            mikrotik: the inner protocol type is 0x86DD, not 0.
            key, checksum: what we expect of packets to us.
        """
        self._interval_ns = interval_s * NS_PER_S
        self._retries = retries
        self._protocol = gre.MIKROTIK if mikrotik else gre.CISCO
        self._key, self._checksum = key, checksum
        self._ends: tuple[bytes, bytes] | None = None
        self._due_ns: int | None = None
        self._output: deque[Output] = deque()
        self._budget, self._budget_ns = ANSWERS_BURST * NS_PER_S, 0
        self.state: State = "silent"
        #: Sent since the last that came back.
        self.unanswered = 0
        self.last_returned_ns = self.last_sent_ns = 0
        #: When the first of those unanswered was sent; says nothing while none is.
        self.missing_since_ns = 0
        self.sent = self.returned = self.answered = self.refused = 0

    @property
    def is_judged(self) -> bool:
        """Whether `dead` can ever be its answer."""
        return self._interval_ns > 0 and self._retries > 0

    def up(self, now_ns: int) -> None:
        """The tunnel carries: the first keepalive is due at once."""
        if self._interval_ns and self._due_ns is None:
            self._due_ns = now_ns

    def down(self) -> None:
        """The tunnel does not carry: nothing is sent, nothing is known."""
        self._due_ns = None
        self.state = "silent"
        self.unanswered = 0
        self._output.clear()

    def set_ends(self, local: bytes | None, remote: bytes | None) -> None:
        """Our address and the peer's, packed; None while one is unknown."""
        self._ends = (local, remote) if local is not None and remote is not None else None

    def returned_to_us(self, now_ns: int) -> None:
        """The engine recognised a keepalive of ours that came back."""
        if self._due_ns is None:
            return  # down, or we never sent any
        self.returned += 1
        self.last_returned_ns = now_ns
        self.unanswered = 0
        if self.state != "alive":
            self.state = "alive"
            self._output.append(effects.PeerAlive())

    def asked(self, packet: bytes, now_ns: int) -> None:
        """The peer wants *packet* back."""
        wanted = self._ours_to_answer(packet)
        if wanted is None or not self._spend(now_ns):
            self.refused += 1
            return
        self.answered += 1
        self._output.append(effects.SendBack(wanted))

    def timeout(self, now_ns: int) -> None:
        """Time passed."""
        if self._due_ns is None or self._ends is None or now_ns < self._due_ns:
            return
        missed = (now_ns - self._due_ns) // self._interval_ns
        self._due_ns += (missed + 1) * self._interval_ns
        if 0 < self._retries <= self.unanswered and self.state != "dead":
            self.state = "dead"
            self._output.append(effects.PeerDead(self.unanswered))
        local, remote = self._ends
        inner = gre.Keepalive(remote, local, self._protocol, self._key, self._checksum)
        self._output.append(effects.SendControl(inner.carried_as, inner.build()))
        if not self.unanswered:
            self.missing_since_ns = now_ns
        self.unanswered += 1
        self.last_sent_ns = now_ns
        self.sent += 1

    def poll(self) -> Output:
        """The next thing to do."""
        if self._output:
            return self._output.popleft()
        return effects.WaitUntil(self._due_ns if self._ends is not None else None)

    def _ours_to_answer(self, packet: bytes) -> bytes | None:
        """The packet that the peer wants back, without what follows it; None when we send it to nobody."""
        try:
            inner = gre.Keepalive.parse(packet)
        except PeerError:
            return None
        return packet[: inner.size] if (inner.source, inner.destination) == self._ends else None

    def _spend(self, now_ns: int) -> bool:
        """A token bucket, counted in nanoseconds of tokens: exact, without fractions."""
        self._budget = min(ANSWERS_BURST * NS_PER_S, self._budget + (now_ns - self._budget_ns) * ANSWERS_PER_S)
        self._budget_ns = now_ns
        if self._budget < NS_PER_S:
            return False
        self._budget -= NS_PER_S
        return True
