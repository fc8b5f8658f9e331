"""Time that moves only when a test says so."""

from __future__ import annotations

from ginnel.units import NS_PER_S, Now


class FakeClock:
    """Both clocks of a machine: the monotonic one only goes forward, the wall clock can be set."""

    __slots__ = ("mono_ns", "unix_ns")

    def __init__(self, mono_ns: int = 1_000 * NS_PER_S, unix_ns: int = 1_700_000_000 * NS_PER_S) -> None:
        self.mono_ns = mono_ns
        self.unix_ns = unix_ns

    def now(self) -> Now:
        """One reading of both."""
        return Now(self.mono_ns, self.unix_ns)

    def advance_to(self, mono_ns: int) -> None:
        """Let time pass until *mono_ns*; ValueError if that is over."""
        if mono_ns < self.mono_ns:
            raise ValueError(f"the clock is at {self.mono_ns} ns and cannot go back to {mono_ns}")
        self.unix_ns += mono_ns - self.mono_ns
        self.mono_ns = mono_ns

    def step_wall(self, by_ns: int) -> None:
        """Set the wall clock *by_ns* forward, or back if negative; ages are not touched."""
        self.unix_ns += by_ns
