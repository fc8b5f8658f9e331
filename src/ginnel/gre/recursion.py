"""
Recursion: the way to a tunnel's remote leads through the tunnel itself.

It happens when a routing protocol learns the remote's prefix through the tunnel, or a static route is too wide; each packet
would then be encapsulated again and again. Whoever owns the tunnels asks the kernel, at each change of routes, by which device
the route to each remote leaves; this decides what to do with the answers:

    the device is the tunnel's own                      held at once
    it is another tunnel of ours, whose remote leaves   the same, for each on the way round; a chain that ends at a real device is
    by a third, ... and the first comes again           nesting, and nobody's mistake
    otherwise                                           released, but no sooner than `HOLD_NS` after the last bad answer

The hold-down is what keeps it from flapping: while held nothing is sent, so what was learned through the tunnel is forgotten, so
the route is good again, so it would be released, and learned again (Cisco's TUN-5-RECURDOWN).

Source: Cisco document 22327.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from ginnel.gre import effects
from ginnel.units import NS_PER_S

HOLD_NS: Final = 30 * NS_PER_S
Output = effects.SetHold | effects.Held | effects.Released | effects.WaitUntil


def loop_of(tunnel: str, leaves_by: Mapping[str, str]) -> tuple[str, ...]:
    """
    The tunnels that packets of *tunnel* go round in, itself first; empty when they get out.

    Args:
        leaves_by: for each tunnel of ours, the device that the route to its remote leaves by; without a route it is missing.
    """
    way = [tunnel]
    while (following := leaves_by.get(way[-1])) is not None:
        if following == tunnel:
            return tuple(way)
        if following in way:
            return ()  # a loop of others that this one leads into: they are held
        way.append(following)
    return ()


def sentence(remote: str, way: tuple[str, ...]) -> str:
    """Why a tunnel is held, for a person."""
    if len(way) == 1:
        return f"the route to {remote} goes through {way[0]} itself"
    return f"the route to {remote} goes in a circle: {' through '.join([*way[1:], way[0]])}"


class HoldMachine:
    """Hold and release of one tunnel; see the module."""

    __slots__ = ("_bad_ns", "_began_ns", "_good", "_output", "why")

    def __init__(self) -> None:
        #: Why it is held; empty while it is not.
        self.why = ""
        self._good = True
        self._began_ns = self._bad_ns = 0
        self._output: deque[Output] = deque()

    def routed(self, why: str, now_ns: int) -> None:
        """The routes were looked at: *why* says how they go round, empty when they do not."""
        if not why and self._good:
            return
        self._good = not why
        self._bad_ns = now_ns  # the last moment at which it was bad, also when it is good now
        if why and why != self.why:
            if not self.why:
                self._began_ns = now_ns
                self._output.append(effects.SetHold(held=True))
            self.why = why
            self._output.append(effects.Held(why))

    def timeout(self, now_ns: int) -> None:
        """Time passed."""
        if self.why and self._good and now_ns >= self._bad_ns + HOLD_NS:
            self.why = ""
            self._output.append(effects.SetHold(held=False))
            self._output.append(effects.Released(now_ns - self._began_ns))

    def poll(self) -> Output:
        """The next thing to do."""
        if self._output:
            return self._output.popleft()
        return effects.WaitUntil(self._bad_ns + HOLD_NS if self.why and self._good else None)
