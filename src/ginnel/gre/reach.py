"""
Silence: packets go out and nothing comes in. Is the peer away, or does something on the way eat the tunnel's protocol?

GRE says nothing of itself, so this only gathers evidence. When something was sent and nothing was received for `SILENT_NS`, the
remote is pinged outside the tunnel, at most once in `PING_NS`. A remote that answers pings while nothing comes out of the tunnel
points at a filter for the protocol; one that answers neither says nothing at all.

One-way traffic (a protected edge whose origin answers directly) looks the same, so the sentence that is made of it says "seems".
"""

from __future__ import annotations

from typing import Final

from ginnel.units import NS_PER_S

SILENT_NS: Final = 30 * NS_PER_S
PING_NS: Final = 10 * NS_PER_S
#: An answer to a ping is believed for so long.
BELIEVED_NS: Final = 60 * NS_PER_S


class ReachMachine:
    """The silence of one tunnel; it has no timer of its own: whoever looks at the counters calls `looked`."""

    __slots__ = ("_answered_ns", "_pinged_ns", "_rx", "_tx", "silent_since_ns")

    def __init__(self) -> None:
        self._rx = self._tx = 0
        #: When the first packet went out that nothing followed; 0 while nothing is unanswered.
        self.silent_since_ns = 0
        self._pinged_ns = self._answered_ns = 0

    def looked(self, tx_packets: int, rx_packets: int, now_ns: int) -> None:
        """The counters, now."""
        if rx_packets != self._rx:
            self._rx = rx_packets
            self.silent_since_ns = self._answered_ns = 0
        elif tx_packets != self._tx and not self.silent_since_ns:
            self.silent_since_ns = now_ns
        self._tx = tx_packets

    def wants_ping(self, now_ns: int) -> bool:
        """Whether the remote is to be pinged now; whoever asks does it."""
        if not self.is_silent(now_ns) or (self._pinged_ns and now_ns < self._pinged_ns + PING_NS):
            return False
        self._pinged_ns = now_ns
        return True

    def answered(self, now_ns: int) -> None:
        """The remote answered a ping."""
        self._answered_ns = now_ns

    def is_silent(self, now_ns: int) -> bool:
        """Sent for long enough, and nothing came."""
        return self.silent_since_ns > 0 and now_ns >= self.silent_since_ns + SILENT_NS

    def is_filtered(self, now_ns: int) -> bool:
        """Silent, though the remote answers pings."""
        return self.is_silent(now_ns) and self._answered_ns > 0 and now_ns < self._answered_ns + BELIEVED_NS

    def reset(self) -> None:
        """The tunnel went down, or has other ends."""
        self.silent_since_ns = self._answered_ns = self._pinged_ns = 0
