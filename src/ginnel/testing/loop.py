"""The part of an event loop that timers need, on a clock that moves only when a test says so."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from ginnel.testing.clock import FakeClock
from ginnel.units import NS_PER_S


class FakeTimer:
    """What `call_later` gives back."""

    __slots__ = ("cancelled", "due_ns", "run")

    def __init__(self, due_ns: int, run: Callable[[], None]) -> None:
        self.due_ns, self.run = due_ns, run
        self.cancelled = False

    def cancel(self) -> None:
        """It will not run."""
        self.cancelled = True


class FakeLoop:
    """Timers in the order in which they are due; those of one moment in the order in which they were made."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self._timers: list[tuple[int, int, FakeTimer]] = []
        self._order = count()
        #: Timers that ran.
        self.fired = 0

    def call_later(self, delay_s: float, callback: Callable[..., Any], *arguments: Any) -> FakeTimer:
        """As asyncio's."""
        timer = FakeTimer(self.clock.mono_ns + round(delay_s * NS_PER_S), lambda: callback(*arguments))
        heapq.heappush(self._timers, (timer.due_ns, next(self._order), timer))
        return timer

    def run_for(self, seconds: float) -> None:
        """Let time pass, and run what becomes due."""
        end_ns = self.clock.mono_ns + round(seconds * NS_PER_S)
        while self._timers and self._timers[0][0] <= end_ns:
            due_ns, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                self.clock.advance_to(max(due_ns, self.clock.mono_ns))
                self.fired += 1
                timer.run()
        self.clock.advance_to(end_ns)
