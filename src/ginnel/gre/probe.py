"""
Path MTU by probes: black holes are found without any ICMP (packetisation layer path MTU discovery, for a tunnel's own way).

A probe is a keepalive with padding *behind* the packet that the peer sends back: on the way there it is as large as is to be
tried, with DF like all packets of the tunnel; the peer's IP cuts the padding off, and what comes back is as small as any
keepalive. So exactly the one direction is measured that our packets take, with any peer that answers keepalives.

    probe       IP us -> peer, DF | GRE | IP peer -> us | GRE, the other dialect's protocol type | padding
    reference   IP us -> peer     | GRE | IP peer -> us | GRE, this dialect's protocol type                a keepalive

By the protocol type of what comes back it is known which of the two it was. A size has failed when `TRIES` probes of it did not
come back and at least `REFERENCES` of the references sent along with them did: silence alone says nothing of sizes.

    verify   every minute, and as soon as keepalives come back: what we keep to still passes
    floor    it does not: does anything padded pass at all? If not the peer is one that does not send padded keepalives back, and
             probes say nothing of the path: tried again in 10 min
    search   between the floor and what failed
    raise    10 min after a limit was found, and then every 10 min: does the whole size pass again, or at least one byte more?

Only one probe is out at a time, so that no late answer is taken for another size's: after a size that needed several tries the
next one waits. Errors of ICMP lower the ceiling beforehand (`path`); what the probes find is a limit beside theirs, and the
smaller counts.

Source: RFC 4821, RFC 8899 (black hole detection 4.3, raise timer 5.1.1); the keepalives of `keepalive`.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

from ginnel.gre import effects
from ginnel.gre.path import FLOOR, INNER_FLOOR
from ginnel.mtu.search import Search
from ginnel.units import NS_PER_S
from ginnel.wire import gre

#: A return is waited for so long, while it is not known how long the way is. Longer than any round the world with full queues.
WAIT_NS: Final = 2 * NS_PER_S
#: Then for so many round trips of an earlier probe, but never shorter than this.
ROUND_TRIPS: Final = 8
SHORTEST_WAIT_NS: Final = NS_PER_S // 4
TRIES: Final = 3
REFERENCES: Final = 2
VERIFY_NS: Final = 60 * NS_PER_S
#: PMTU_RAISE_TIMER of RFC 8899.
RAISE_NS: Final = 600 * NS_PER_S
#: What the engine sends at most for the control plane.
LARGEST: Final = 9216

Phase = Literal["rest", "verify", "raise", "floor", "search"]
Output = effects.SendControl | effects.PathMtuProbed | effects.WaitUntil


class ProbeMachine:
    """The probes of one tunnel; see the module. Silent until a keepalive has come back."""

    __slots__ = (
        "_checksum",
        "_due_ns",
        "_ends",
        "_floor",
        "_key",
        "_learned",
        "_link_mtu",
        "_output",
        "_protocols",
        "_raise_ns",
        "_references",
        "_round_trip_ns",
        "_search",
        "_sent_ns",
        "_size",
        "_tries",
        "_up",
        "answered",
        "mtu",
        "phase",
    )

    def __init__(
        self, *, family: int, overhead: int, mikrotik: bool = False, key: int | None = None, checksum: bool = False
    ) -> None:
        """
        Args:
            family: of the delivery header, 4 or 6.
            overhead: bytes that all layers add to an inner packet.
            mikrotik: the dialect of the tunnel's keepalives.
            key, checksum: what we expect of packets to us.
        """
        self._floor = max(FLOOR[family] - overhead, INNER_FLOOR)
        #: Of a reference, of a probe.
        self._protocols = (gre.MIKROTIK, gre.CISCO) if mikrotik else (gre.CISCO, gre.MIKROTIK)
        self._key, self._checksum = key, checksum
        self._ends: tuple[bytes, bytes] | None = None
        self._link_mtu, self._learned = 0, 0
        self._output: deque[Output] = deque()
        self._up = False
        #: The largest inner packet that passes, as found; 0 while all of the link's MTU does, or nothing is known.
        self.mtu = 0
        #: Whether any probe ever came back.
        self.answered = False
        self.phase: Phase = "rest"
        self._search: Search | None = None
        #: Of the probe that is out (0: none is), how often it was sent, and the references that came back meanwhile.
        self._size, self._tries, self._references = 0, 0, 0
        #: None: no keepalive has come back.
        self._due_ns: int | None = None
        self._raise_ns = 0
        self._sent_ns = 0
        #: Of probes that were answered at the first try; 0: none was.
        self._round_trip_ns = 0

    @property
    def protocol(self) -> int:
        """The protocol type by which a probe that comes back is known."""
        return self._protocols[1]

    # -- inputs

    def up(self) -> None:
        """The tunnel carries; begin when the next keepalive comes back."""
        self._up = True

    def down(self) -> None:
        """It does not: nothing is sent, nothing is known."""
        self._up = False
        self._lift()
        self._forget()

    def set_ends(self, local: bytes | None, remote: bytes | None) -> None:
        """Our address and the peer's, packed; None while one is unknown. Another way: what was found is void."""
        ends = (local, remote) if local is not None and remote is not None else None
        if ends != self._ends:
            self._ends = ends
            self._lift()
            self._forget()

    def set_ceiling(self, link_mtu: int, learned: int, now_ns: int) -> None:
        """
        The device's MTU, and what ICMP taught (0: nothing); anew whenever one of them changes.

        A limit that is no longer below the ceiling is none; another ceiling is looked at from the beginning.
        """
        before = self.ceiling
        self._link_mtu, self._learned = link_mtu, learned
        if self.ceiling == before:
            return
        if self.mtu >= self.ceiling:
            self._lift()
        if self._due_ns is not None:
            self._rest(now_ns)
            self._due_ns = self._raise_ns = now_ns + WAIT_NS

    @property
    def ceiling(self) -> int:
        """The largest inner packet that there is any use in trying."""
        return min(self._link_mtu, self._learned or self._link_mtu, LARGEST)

    def kept_alive(self, now_ns: int) -> None:
        """A keepalive came back, or a reference."""
        self._references += 1
        if self._due_ns is None and self._up and self._ends is not None:
            self._due_ns = now_ns

    def returned(self, now_ns: int) -> None:
        """A probe came back: the one that is out, or one that was given up too early and says nothing."""
        self.answered = True
        if self._size and self._due_ns is not None:
            if self._tries == 1:
                self._round_trip_ns = max(now_ns - self._sent_ns, self._round_trip_ns * 7 // 8)
            self._passed(self._size, now_ns)

    def timeout(self, now_ns: int) -> None:
        """Time passed."""
        if self._due_ns is None or now_ns < self._due_ns:
            return
        if not self._size:
            self._begin(now_ns)
        elif self._tries < TRIES:
            self._send(now_ns)
        elif self._references >= REFERENCES:
            self._failed(self._size, now_ns)
        else:
            self._rest(now_ns)  # nothing at all came back: not the size's fault

    def poll(self) -> Output:
        """The next thing to do."""
        return self._output.popleft() if self._output else effects.WaitUntil(self._due_ns)

    # -- the search

    def _begin(self, now_ns: int) -> None:
        if self._search is not None:  # between two sizes of a search
            self._next(now_ns)
        elif self.ceiling <= self._floor:
            self._rest(now_ns)
        elif self.mtu and now_ns < self._raise_ns:
            self._try("verify", self.mtu, now_ns)
        else:
            self._try("raise" if self.mtu else "verify", self.ceiling, now_ns)

    def _try(self, phase: Phase, size: int, now_ns: int) -> None:
        self.phase, self._size, self._tries, self._references = phase, size, 0, 0
        self._send(now_ns)

    def _send(self, now_ns: int) -> None:
        assert self._ends is not None
        local, remote = self._ends
        reference, probe = (gre.Keepalive(remote, local, protocol, self._key, self._checksum) for protocol in self._protocols)
        packet = probe.build()
        self._output.append(effects.SendControl(probe.carried_as, packet + bytes(max(0, self._size - len(packet)))))
        self._output.append(effects.SendControl(reference.carried_as, reference.build()))
        self._tries += 1
        self._sent_ns = now_ns
        self._due_ns = now_ns + self._wait_ns()

    def _wait_ns(self) -> int:
        if not self._round_trip_ns:
            return WAIT_NS
        return min(max(ROUND_TRIPS * self._round_trip_ns, SHORTEST_WAIT_NS), WAIT_NS)

    def _passed(self, size: int, now_ns: int) -> None:
        late = self._tries > 1
        self._size = 0
        match self.phase:
            case "search" | "floor":
                assert self._search is not None
                self._search.passed(size)
                self.phase = "search"
                # The answer to an earlier try may still be on its way.
                self._due_ns = now_ns + (WAIT_NS if late else 0)
            case _:
                if size >= self.ceiling:
                    self._lift()
                self._rest(now_ns)

    def _failed(self, size: int, now_ns: int) -> None:
        match self.phase:
            case "raise":
                # Not all of it. One byte more than now? Mostly not, and that was it.
                self._search = Search(self.mtu, size, hint=self.mtu)
                self._next(now_ns)
            case "floor":
                self._rest(now_ns)
                self._due_ns = now_ns + RAISE_NS
            case "search":
                assert self._search is not None
                self._search.failed(size)
                self._next(now_ns)
            case _:
                self._search = Search(self._floor - 1, size)
                self._try("floor", self._floor, now_ns)

    def _next(self, now_ns: int) -> None:
        assert self._search is not None
        sizes = self._search.sizes()
        if sizes:
            self._try("search", sizes[0], now_ns)
            return
        if self._search.low != self.mtu:
            self.mtu = self._search.low
            self._output.append(effects.PathMtuProbed(self.mtu))
        self._raise_ns = now_ns + RAISE_NS
        self._rest(now_ns)

    def _rest(self, now_ns: int) -> None:
        self.phase, self._search, self._size, self._tries = "rest", None, 0, 0
        self._due_ns = now_ns + VERIFY_NS

    def _lift(self) -> None:
        if self.mtu:
            self.mtu = 0
            self._output.append(effects.PathMtuProbed(0))

    def _forget(self) -> None:
        self.phase, self._search, self._size, self._tries, self._references = "rest", None, 0, 0, 0
        self._due_ns, self._raise_ns, self._round_trip_ns = None, 0, 0
