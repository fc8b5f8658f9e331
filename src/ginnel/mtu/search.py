"""
The largest size that passes, found by probes: a search between what is known to pass and what is known not to.

    passes .... low                     high .... does not pass
                 |  candidates: spread   |
                 |  evenly between them  |

Every answer moves one of the two ends towards the other; a round of *width* probes at once leaves one part in width + 1. What
a router names as its next link's MTU is tried first, together with one byte more, since it is right nearly always and never
trusted alone.

Source: RFC 4821 and 8899, with a plain search instead of their tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Search:
    """
    Sizes from *low* (passes) to *high* (does not); over when they are neighbours.

    hint: a size that somebody named as the largest, 0 when nobody did or when it was tried.
    """

    low: int
    high: int
    hint: int = 0
    #: Where *high* began.
    ceiling: int = field(init=False)

    def __post_init__(self) -> None:
        self.ceiling = self.high

    @property
    def over(self) -> bool:
        """Whether *low* is the answer."""
        return self.high - self.low <= 1

    def passed(self, size: int) -> None:
        """
        A packet of *size* came through (and so would any smaller one).

        It outweighs what failed before: packets are lost for other reasons than their size, and none arrives by chance.
        """
        self.low = max(self.low, size)
        if self.low >= self.high:
            self.high = max(self.ceiling, self.low + 1)

    def failed(self, size: int, hint: int = 0) -> None:
        """
        A packet of *size* did not come through; unless as large a one did before.

        Args:
            size: of the packet.
            hint: the MTU that came back with it, 0 for none. Used only when it says more than is known.
        """
        if size > self.low:
            self.high = min(self.high, size)
        if self.low <= hint < self.high:
            self.hint = hint

    def sizes(self, width: int = 1) -> tuple[int, ...]:
        """At most *width* sizes to try next, smallest first; empty when the search is over. A hint comes before all else."""
        if self.over:
            return ()
        hint, self.hint = self.hint, 0
        if hint and (named := [size for size in (hint, hint + 1) if self.low < size < self.high]):
            return tuple(named[:width])
        room = self.high - self.low
        count = min(width, room - 1)
        return tuple(self.low + room * (step + 1) // (count + 1) for step in range(count))
