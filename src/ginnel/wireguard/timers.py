"""
The handshake's timers: one table of armed deadlines for all peers of an interface.

    RETRANSMIT_HANDSHAKE  an initiation was sent and not answered: 5 s and up to 333 ms later, send another or give up
    ZERO_KEY_MATERIAL     no session was made for 540 s: forget every key of the peer
    THROTTLED             a handshake was wanted within 5 s of the last handshake message: start it when those have passed;
                          or by many peers at once, when a private key was set: start them in turns
    RECOVERY              after a restart: speak first to a peer that was active just before it

The first two are the paper's; the engine holds the other three of its five, which data packets drive (ARCHITECTURE.md).
The last two are ours: they hold a wish that the kernel drops and waits to hear again with the next packet.

A heap finds the next deadline. Deadlines mostly move later (ZERO_KEY_MATERIAL with each session), and a heap has no cheap
way to move an entry, so an entry that comes up too early is put back at its true time, and thousands of handshakes a
second do not grow it. What cancelling leaves behind is swept out when it outnumbers what is armed.

Source: the kernel's timers.c; WireGuard paper 6.
"""

from __future__ import annotations

import enum
import heapq
from typing import Final


class Timer(enum.IntEnum):
    """What a deadline is for."""

    RETRANSMIT_HANDSHAKE = 0
    ZERO_KEY_MATERIAL = 1
    THROTTLED = 2
    RECOVERY = 3


_KINDS: Final = len(Timer)
_BY_VALUE: Final = tuple(Timer)
#: The heap may hold four times what is armed, and this much, before it is swept.
_SLACK: Final = 1024


class Timers:
    """Deadlines by peer and kind. Times are nanoseconds of the monotonic clock; peers are the engine's handles."""

    __slots__ = ("_deadline", "_heap", "_queued")

    def __init__(self) -> None:
        #: timer -> when it is due. A timer is one int, peer * _KINDS + kind: ten thousand tuples would cost a megabyte.
        self._deadline: dict[int, int] = {}
        #: timer -> the time of its earliest entry in the heap.
        self._queued: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []

    def arm(self, peer: int, kind: Timer, at_ns: int) -> None:
        """Make the timer due at *at_ns*, whether or not it was armed."""
        timer = peer * _KINDS + kind
        self._deadline[timer] = at_ns
        queued = self._queued.get(timer)
        if queued is None or at_ns < queued:
            self._queued[timer] = at_ns
            heapq.heappush(self._heap, (at_ns, timer))
            if len(self._heap) > 4 * len(self._deadline) + _SLACK:
                self._sweep()

    def cancel(self, peer: int, kind: Timer) -> None:
        """Make the timer due never."""
        self._deadline.pop(peer * _KINDS + kind, None)

    def cancel_all(self, peer: int) -> None:
        """Cancel every timer of *peer*."""
        first = peer * _KINDS
        for timer in range(first, first + _KINDS):
            self._deadline.pop(timer, None)

    def armed(self, peer: int, kind: Timer) -> bool:
        """Whether the timer is due some time."""
        return peer * _KINDS + kind in self._deadline

    def deadline(self, peer: int, kind: Timer) -> int | None:
        """When the timer is due, or None."""
        return self._deadline.get(peer * _KINDS + kind)

    def next_ns(self) -> int | None:
        """The earliest deadline, or None when nothing is armed."""
        heap = self._heap
        while heap:
            queued, timer = heap[0]
            deadline = self._deadline.get(timer)
            if deadline == queued:
                return queued
            heapq.heappop(heap)
            if self._queued.get(timer) != queued:
                continue  # armed earlier since; that entry has already done its work
            if deadline is None:
                del self._queued[timer]
            else:
                self._queued[timer] = deadline
                heapq.heappush(heap, (deadline, timer))
        return None

    def pop_due(self, now_ns: int) -> tuple[int, Timer] | None:
        """Disarm and return the earliest timer that is due at *now_ns*, or None."""
        deadline = self.next_ns()
        if deadline is None or deadline > now_ns:
            return None
        _, timer = heapq.heappop(self._heap)
        del self._deadline[timer]
        self._queued.pop(timer, None)
        return timer // _KINDS, _BY_VALUE[timer % _KINDS]

    def _sweep(self) -> None:
        """Rebuild the heap from what is armed."""
        self._queued = dict(self._deadline)
        self._heap = [(at_ns, timer) for timer, at_ns in self._deadline.items()]
        heapq.heapify(self._heap)
