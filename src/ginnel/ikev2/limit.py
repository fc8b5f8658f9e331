"""A token bucket: so many at once, so many a second. What we do because a stranger said something goes through one."""

from __future__ import annotations

from ginnel.units import NS_PER_S


class Bucket:
    """*burst* at once, then *rate_per_s* a second."""

    __slots__ = ("_burst", "_filled_ns", "_rate", "_tokens")

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate = rate_per_s
        self._burst = burst
        self._tokens = float(burst)
        self._filled_ns = 0

    def take(self, now_ns: int) -> bool:
        """Whether one more may be done now."""
        passed_ns = max(0, now_ns - self._filled_ns) if self._filled_ns else 0
        self._filled_ns = now_ns
        self._tokens = min(float(self._burst), self._tokens + passed_ns * self._rate / NS_PER_S)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
