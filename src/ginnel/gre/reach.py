"""
Silence: packets go out and nothing comes in. Is the peer away, or does something on the way eat the tunnel's protocol?

GRE says nothing of itself, so this only gathers evidence. An idle tunnel is not silent: its last packet is nearly always one that
nobody answers. It is silent when a packet was sent `SILENT_NS` or later after the last that was heard, so when somebody goes on
trying; keepalives of either side that arrive are heard, too.

Then the remote is pinged outside the tunnel, at most once in `PING_NS`. A remote that answers pings while nothing comes out of
the tunnel points at a filter for the protocol; one that answers neither says nothing at all. One-way traffic (a protected edge
whose origin answers directly) looks the same, so the sentence that is made of it says "seems".
"""

from __future__ import annotations

from typing import Final

from ginnel.units import NS_PER_S

SILENT_NS: Final = 30 * NS_PER_S
PING_NS: Final = 10 * NS_PER_S
#: An answer to a ping is believed for so long.
BELIEVED_NS: Final = 60 * NS_PER_S


class ReachMachine:
    """
    The silence of one tunnel.

    It has no timer of its own: whoever looks at the counters calls `looked`, and then asks. Times are the engine's, 0 = never.
    """

    __slots__ = ("_answered_ns", "_began_ns", "_pinged_ns", "_sent_ns", "_up_ns", "heard_ns")

    def __init__(self) -> None:
        self._up_ns = self._pinged_ns = self._answered_ns = 0
        #: When the first packet of this life was seen to have been sent, and the last one was.
        self._began_ns = self._sent_ns = 0
        #: The last packet or keepalive of the peer's; 0 = none in this life.
        self.heard_ns = 0

    def begin(self, now_ns: int) -> None:
        """The tunnel carries, or has other ends: what was before says nothing."""
        self._up_ns = now_ns
        self._began_ns = self._sent_ns = self.heard_ns = self._answered_ns = self._pinged_ns = 0

    def looked(self, last_send_ns: int, last_receive_ns: int) -> None:
        """When packets were last sent and received, by the engine's counters."""
        if last_receive_ns > max(self.heard_ns, self._up_ns):
            self.heard(last_receive_ns)
        if last_send_ns >= max(1, self._up_ns):
            self._sent_ns = last_send_ns
            self._began_ns = self._began_ns or last_send_ns

    def heard(self, now_ns: int) -> None:
        """Something of the peer's arrived."""
        self.heard_ns = now_ns
        self._answered_ns = 0

    @property
    def unanswered_since_ns(self) -> int:
        """Since when nothing was heard, while something was sent; 0: nothing was sent since."""
        since_ns = self.heard_ns or self._began_ns
        return since_ns if self._sent_ns and self._sent_ns >= since_ns else 0

    @property
    def is_silent(self) -> bool:
        """Somebody goes on sending, and nothing comes."""
        since_ns = self.unanswered_since_ns
        return since_ns > 0 and self._sent_ns >= since_ns + SILENT_NS

    def wants_ping(self, now_ns: int) -> bool:
        """Whether the remote is to be pinged now; whoever asks does it."""
        if not self.is_silent or (self._pinged_ns and now_ns < self._pinged_ns + PING_NS):
            return False
        self._pinged_ns = now_ns
        return True

    def answered(self, now_ns: int) -> None:
        """The remote answered a ping."""
        self._answered_ns = now_ns

    def is_filtered(self, now_ns: int) -> bool:
        """Silent, though the remote answers pings."""
        return self.is_silent and self._answered_ns > 0 and now_ns < self._answered_ns + BELIEVED_NS
