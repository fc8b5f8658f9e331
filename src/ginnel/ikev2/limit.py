"""A token bucket: so many at once, so many a second. What we do because a stranger said something goes through one."""

from __future__ import annotations

from ginnel.units import NS_PER_S


class Bucket:
    """*burst* at once, then *rate_per_s* a second."""

    __slots__ = ("_cost_ns", "_full_ns", "_saved_ns", "_seen_ns")

    def __init__(self, rate_per_s: int, burst: int) -> None:
        #: Time is what is saved and spent: one costs so much.
        self._cost_ns = NS_PER_S // rate_per_s
        self._full_ns = self._cost_ns * burst
        self._saved_ns = self._full_ns
        self._seen_ns: int | None = None

    def take(self, now_ns: int) -> bool:
        """Whether one more may be done now."""
        passed_ns = 0 if self._seen_ns is None else max(0, now_ns - self._seen_ns)
        self._seen_ns = now_ns
        self._saved_ns = min(self._full_ns, self._saved_ns + passed_ns)
        if self._saved_ns < self._cost_ns:
            return False
        self._saved_ns -= self._cost_ns
        return True
