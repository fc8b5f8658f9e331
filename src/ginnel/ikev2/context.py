"""What every part of the machine is given by its owner: chance, SPIs, deadlines, and where effects go. No decisions here."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from ginnel.crypto.ike import KeyMaterial
from ginnel.ikev2.drops import Drop
from ginnel.ikev2.effects import Dropped, Effect, Event
from ginnel.ikev2.timers import Timers


@dataclass(slots=True)
class Context:
    """
    entropy: so many random bytes. reserve_spi: a fresh inbound SPI for the tunnel of that name. last_received_ns: when a
    genuine ESP packet came in last by that tunnel (CLOCK_BOOTTIME; 0: never).

    crash_secret: what crash tokens are made of; it outlives the process.
    """

    entropy: Callable[[int], bytes]
    reserve_spi: Callable[[str], int]
    last_received_ns: Callable[[str], int]
    crash_secret: KeyMaterial
    debug_keys: bool
    output: deque[Effect | Event] = field(default_factory=deque)
    timers: Timers[Hashable] = field(default_factory=Timers)
    drops: Counter[str] = field(default_factory=Counter)

    def emit(self, out: Effect | Event) -> None:
        """To whoever polls."""
        self.output.append(out)

    def drop(self, tunnel: str, why: Drop) -> None:
        """Count and tell that a message was refused."""
        self.drops[why.value] += 1
        self.output.append(Dropped(tunnel, why.value))

    def part(self, whole_ns: int) -> int:
        """Chance: 0 … *whole_ns*."""
        return int.from_bytes(self.entropy(4), "big") * whole_ns >> 32
