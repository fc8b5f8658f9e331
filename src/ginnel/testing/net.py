"""
A network between nodes that loses, duplicates, delays and reorders datagrams, the same way for the same seed.

Each datagram draws from the seed once for each fault, whether or not the fault is on, so turning one on does not move the others.
"""

from __future__ import annotations

import heapq
import random
from typing import NamedTuple

from ginnel.units import Endpoint

#: How far a reordered datagram falls behind, at most.
_REORDER_NS = 50_000_000


class Datagram(NamedTuple):
    """What is on the wire."""

    source: Endpoint
    destination: Endpoint
    payload: bytes


class SimNet:
    """
    Faults are attributes and may change at any time: probabilities from 0 to 1, times in nanoseconds.

    loss, duplicate, reorder: of each datagram. delay_ns: one way. jitter_ns: added, uniformly.
    cut: addresses that neither send nor receive.
    """

    def __init__(self, seed: int, *, delay_ns: int = 1_000_000) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a simulation's chance, not a key's
        self.loss = 0.0
        self.duplicate = 0.0
        self.reorder = 0.0
        self.delay_ns = delay_ns
        self.jitter_ns = 0
        self.cut: set[Endpoint] = set()
        #: Every datagram ever sent, lost ones too, with the time of sending.
        self.sent: list[tuple[int, Datagram]] = []
        self._in_flight: list[tuple[int, int, Datagram]] = []
        self._number = 0

    def heal(self) -> None:
        """No more faults but the delay."""
        self.loss = self.duplicate = self.reorder = 0.0
        self.jitter_ns = 0
        self.cut.clear()

    def send(self, datagram: Datagram, now_ns: int) -> None:
        """Put a datagram on the wire."""
        self.sent.append((now_ns, datagram))
        lost, doubled, late, jitter, behind = (self._random.random() for _ in range(5))
        if lost < self.loss or datagram.source in self.cut or datagram.destination in self.cut:
            return
        at_ns = now_ns + self.delay_ns + int(jitter * self.jitter_ns)
        if late < self.reorder:
            at_ns += int(behind * _REORDER_NS)
        self.inject(datagram, at_ns)
        if doubled < self.duplicate:
            self.inject(datagram, at_ns + int(behind * _REORDER_NS))

    def inject(self, datagram: Datagram, at_ns: int) -> None:
        """Deliver a datagram at a time, whoever sent it: an attacker's, or a recorded one again."""
        self._number += 1
        heapq.heappush(self._in_flight, (at_ns, self._number, datagram))

    def next_ns(self) -> int | None:
        """When the next datagram arrives, or None."""
        return self._in_flight[0][0] if self._in_flight else None

    def pop_due(self, now_ns: int) -> Datagram | None:
        """The next datagram that has arrived by now."""
        if self._in_flight and self._in_flight[0][0] <= now_ns:
            return heapq.heappop(self._in_flight)[2]
        return None

    def drop_in_flight(self) -> int:
        """Lose everything on the wire; returns how much that was."""
        lost = len(self._in_flight)
        self._in_flight.clear()
        return lost
