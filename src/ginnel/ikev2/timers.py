"""
Deadlines of everything in one heap, so that a thousand connections cost what one does: O(log n) to arm, O(1) to look.

A deadline is armed for an owner and a purpose; arming again moves it, and what was armed before is left in the heap and skipped
when it comes up (the heap is rebuilt when most of it is such).
"""

from __future__ import annotations

import enum
import heapq
import itertools
from typing import Final, Generic, TypeVar

Owner = TypeVar("Owner")

#: The heap is not rebuilt below this size.
_REBUILD_FROM: Final = 64


class Timer(enum.IntEnum):
    """What a deadline is for: one sentence each."""

    #: A request is unanswered: send it again, or take the peer for dead. (IKE SA)
    RETRANSMIT = 1
    #: A half-open SA that we answer has not authenticated in time, or a refused one needs no cached answer any more. (IKE SA)
    HALF_OPEN = 2
    #: It is time to make new keys. (IKE SA, child)
    REKEY = 3
    #: The keys are too old to be used. (IKE SA, child)
    HARD = 4
    #: Nothing was heard for a while: ask. (IKE SA)
    LIVENESS = 5
    #: Our NAT would forget us. (IKE SA)
    KEEPALIVE = 6
    #: A task was told to wait, and tries again. (IKE SA, child)
    RETRY = 7
    #: One of two SAs that do the same has to go. (IKE SA)
    SURPLUS = 8
    #: The peer should have deleted what its rekeying replaced. (child)
    OVERDUE = 9
    #: The last packets of a replaced SA have arrived. (child)
    RETIRE = 10
    #: Begin, or begin again. (tunnel)
    START = 11
    #: The peer wants us to authenticate anew before this. (IKE SA)
    REAUTHENTICATE = 12


class Timers(Generic[Owner]):
    """Owners are hashable and compared by identity or value; they are kept alive while a deadline of theirs is armed."""

    __slots__ = ("_armed", "_heap", "_number")

    def __init__(self) -> None:
        self._armed: dict[tuple[Owner, Timer], int] = {}
        self._heap: list[tuple[int, int, tuple[Owner, Timer]]] = []
        self._number = itertools.count()

    def __len__(self) -> int:
        return len(self._armed)

    def arm(self, owner: Owner, timer: Timer, at_ns: int) -> None:
        """From now on *timer* of *owner* is due at *at_ns*, and at no other time."""
        key = (owner, timer)
        if self._armed.get(key) == at_ns:
            return
        self._armed[key] = at_ns
        heapq.heappush(self._heap, (at_ns, next(self._number), key))
        if len(self._heap) > _REBUILD_FROM and len(self._heap) > 4 * len(self._armed):
            self._heap = [(at, next(self._number), key) for key, at in self._armed.items()]
            heapq.heapify(self._heap)

    def cancel(self, owner: Owner, timer: Timer) -> None:
        """Idempotent."""
        self._armed.pop((owner, timer), None)

    def cancel_all(self, owner: Owner) -> None:
        """Everything of *owner*. Idempotent."""
        for timer in Timer:
            self._armed.pop((owner, timer), None)

    def at(self, owner: Owner, timer: Timer) -> int | None:
        """When it is due; None when it is not armed."""
        return self._armed.get((owner, timer))

    def next_ns(self) -> int | None:
        """The earliest deadline; None without any."""
        while self._heap:
            at_ns, _, key = self._heap[0]
            if self._armed.get(key) == at_ns:
                return at_ns
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now_ns: int) -> tuple[Owner, Timer] | None:
        """One deadline that has come, disarmed; None when none has."""
        at_ns = self.next_ns()
        if at_ns is None or at_ns > now_ns:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._armed[key]
        return key
