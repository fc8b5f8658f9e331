"""
What ICMP says of the way to a tunnel's remote: how large packets may be, and whether they arrive at all.

Only errors that quote a packet of this tunnel come here (the engine compares addresses, key, ports). They are still hearsay:
anybody on the way, and whoever guesses the ends, can send one. So what they can do is bounded.

**Too big.** A router names the largest delivery packet that it can forward (RFC 1191, RFC 8201); less the tunnel's layers it is
the largest inner packet, which the engine then keeps to.

    only lowers            a value above what we keep to already is late, and changes nothing
    forgotten              10 min after the last error, as Linux does; the next too large packet learns it anew
    names no MTU           routers before RFC 1191: the next lower plateau of its table
    below 552, 1280        no honest link over IPv4, IPv6: that is taken instead, and said. Else one forged packet would cut
                           everything into crumbs
    never below 68         of the inner packet (RFC 791); the engine sends IPv6 in less than 1280 without DF
    falls by the overhead, again and again    the tunnel's packets go round a routing loop and are encapsulated each time (FRR
                           issue 5201, and the famous comment in the kernel's ip_gre.c): named, and no longer followed

**Unreachable, time exceeded.** Counted as Linux does: for 30 s after an error as many inner senders as there were errors are
told that the host is unreachable. Time exceeded counts only if the tunnel sets the TTL; an inherited one is the inner sender's
affair (a traceroute, mostly). What an error says of tunnels in particular is kept as a `Notice` for people, until it is refuted
(the peer is heard; for what is said of the way, a keepalive came back, or the peer is heard and nobody repeated it for
`REPEAT_NS`) or `NOTICE_NS` old. With the last one the count ends. A
peer that is heard all the time and whose kernel refuses all the same has two that take GRE: its kernel's module, which knows no
such tunnel, and the one that answers.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import Final

from ginnel.gre import effects
from ginnel.units import NS_PER_S

AGE_NS: Final = 600 * NS_PER_S
#: IPTUNNEL_ERR_TIMEO of Linux.
UNREACHABLE_NS: Final = 30 * NS_PER_S
#: A peer that was heard so lately has a tunnel, whatever its kernel answers.
HEARD_NS: Final = 10 * NS_PER_S
#: A refusal that was not repeated for so long is history.
NOTICE_NS: Final = 120 * NS_PER_S
#: Who refuses packets on the way says so about once a second (RFC 1812 4.3.2.8), as long as there are any.
REPEAT_NS: Final = 5 * NS_PER_S
#: Linux's min_pmtu over IPv4, and the least that every IPv6 link takes.
FLOOR: Final = {4: 552, 6: 1280}
INNER_FLOOR: Final = 68
#: RFC 1191 7.1, those that are above the floor.
PLATEAUS: Final = (65_535, 32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 552)
#: So many falls by the overhead (or twice it, ...), each within `LOOP_NS` of the one before, are no path: a packet that goes
#: round a loop makes one each time.
LOOP_FALLS: Final = 3
LOOP_NS: Final = 60 * NS_PER_S
#: Packets told unreachable for one burst of errors; the engine hands us at most ten errors a second.
UNREACHABLE_LIMIT: Final = 300

Output = (
    effects.SetPathMtu
    | effects.SetUnreachable
    | effects.PathMtuLearned
    | effects.PathMtuForgotten
    | effects.PathMtuTooSmall
    | effects.RoutingLoop
    | effects.PathRefused
    | effects.WaitUntil
)


class Notice(enum.Enum):
    """What an ICMP error says of a tunnel, beyond "unreachable"."""

    #: The remote itself: it has no tunnel with these ends (a kernel answers so when its gre module finds none).
    NO_TUNNEL = "no-tunnel"
    #: The remote itself: nothing there speaks the protocol.
    NO_PROTOCOL = "no-protocol"
    #: A router on the way, or a filter, refuses the protocol.
    REFUSED = "refused"
    #: The TTL that the tunnel sets ran out.
    TTL = "ttl"
    #: There is no way to the remote, or it does not answer in its network.
    UNREACHABLE = "unreachable"
    #: The remote's kernel refuses what a tunnel in user space beside it takes: a warning, no refusal.
    BESIDE = "beside"


#: What hearing the peer refutes.
_OF_THE_PEER: Final = frozenset({Notice.NO_TUNNEL, Notice.NO_PROTOCOL, Notice.UNREACHABLE})


class PathMachine:
    """What is known of one tunnel's path; see the module."""

    __slots__ = (
        "_errors",
        "_falls",
        "_family",
        "_fell_ns",
        "_learned_ns",
        "_link_mtu",
        "_output",
        "_overhead",
        "_remote",
        "_room",
        "_ttl_is_ours",
        "_unreachable_ns",
        "looping",
        "mtu",
        "notices",
    )

    def __init__(
        self,
        *,
        family: int,
        overhead: int,
        ttl: int,
        remote: bytes | None = None,
        room: Callable[[int], int] | None = None,
    ) -> None:
        """
        Args:
            family: of the delivery header, 4 or 6.
            overhead: bytes that all layers add to an inner packet (for Ethernet inside: to the IP packet in the frame).
            ttl: of the delivery header; 0 = inherited.
            remote: the peer's address, packed.
            room: the largest inner packet in a delivery packet of so many bytes, where padding makes that no mere difference.
        """
        self._room = room if room is not None else lambda delivery: delivery - overhead
        self._family, self._overhead, self._ttl_is_ours, self._remote = family, overhead, ttl != 0, remote
        self._link_mtu = 0xFFFF
        self._output: deque[Output] = deque()
        #: The largest inner packet, as learned; 0 while nothing is.
        self.mtu = 0
        self._learned_ns = 0
        self._falls, self._fell_ns = 0, 0
        self.looping = False
        self._errors, self._unreachable_ns = 0, 0
        #: Each with when it was last told, and by whom (packed).
        self.notices: dict[Notice, tuple[int, bytes]] = {}

    # -- inputs

    def set_remote(self, remote: bytes | None) -> None:
        """The peer has another address: what was known of the way is void."""
        if remote != self._remote:
            self._remote = remote
            self.notices.clear()
            self._forget()

    def set_link_mtu(self, mtu: int) -> None:
        """The device's MTU: what is learned counts only below it."""
        self._link_mtu = mtu
        if self.mtu >= mtu:
            self._forget()

    def heard(self, now_ns: int, *, round_trip: bool = False) -> None:
        """
        A packet of the peer's came in: its end is there, whatever was said of it before.

        Args:
            round_trip: it was a packet of ours that came back, so nothing on the way refuses ours, either.
        """
        if not self.notices:
            return
        for notice, (told_ns, _) in [*self.notices.items()]:
            over = round_trip or now_ns - told_ns >= REPEAT_NS
            if notice in _OF_THE_PEER or (over and notice is not Notice.BESIDE):
                del self.notices[notice]
        if self._errors and not self.notices.keys() - {Notice.BESIDE}:
            self._errors = 0
            self._output.append(effects.SetUnreachable(0, 0))

    def error(self, kind: str, code: int, mtu: int, origin: bytes, now_ns: int, *, heard_ns: int = 0) -> None:
        """
        An ICMP error about a packet of ours; arguments as of the engine's `PathError`.

        Args:
            kind: "too-big", "unreachable", "time-exceeded" or "other".
            code: of ICMP or ICMPv6, by the tunnel's family.
            mtu: of the delivery packet, 0 when the router named none.
            origin: who says so, packed; empty for this host's own kernel.
            heard_ns: when the last packet of the peer's came in, 0 = never.
        """
        match kind:
            case "too-big":
                self._too_big(mtu, origin, now_ns)
            case "unreachable":
                notice = self._meaning(code, origin)
                if notice in {Notice.NO_TUNNEL, Notice.NO_PROTOCOL} and heard_ns and now_ns - heard_ns < HEARD_NS:
                    self._notice(Notice.BESIDE, origin, code, now_ns)
                else:
                    self._refused(notice, origin, code, now_ns)
            case "time-exceeded" if self._ttl_is_ours:
                self._refused(Notice.TTL, origin, code, now_ns)
            case "other" if self._family == 6 and code == 1:  # parameter problem: the next header is not known there
                self._refused(Notice.NO_PROTOCOL if origin == self._remote else Notice.REFUSED, origin, code, now_ns)

    def timeout(self, now_ns: int) -> None:
        """Time passed."""
        if self.mtu and now_ns >= self._learned_ns + AGE_NS:
            self._output.append(effects.PathMtuForgotten(self.mtu))
            self._forget()

    def poll(self) -> Output:
        """The next thing to do."""
        if self._output:
            return self._output.popleft()
        return effects.WaitUntil(self._learned_ns + AGE_NS if self.mtu else None)

    def current_notices(self, now_ns: int) -> dict[Notice, bytes]:
        """What was said lately and not refuted, with who said it; the newest first, since it may have replaced the others."""
        newest = sorted(self.notices.items(), key=lambda item: item[1][0], reverse=True)
        return {notice: origin for notice, (told_ns, origin) in newest if now_ns - told_ns < NOTICE_NS}

    # -- too big

    def _too_big(self, named: int, origin: bytes, now_ns: int) -> None:
        kept_to = (self.mtu or self._link_mtu) + self._overhead
        delivery = named or next((plateau for plateau in PLATEAUS if plateau < kept_to), FLOOR[self._family])
        if delivery < FLOOR[self._family]:
            self._output.append(effects.PathMtuTooSmall(delivery, FLOOR[self._family], origin))
            delivery = FLOOR[self._family]
        inner = max(self._room(delivery), INNER_FLOOR)
        if inner == self.mtu:
            self._learned_ns = now_ns
            return
        if inner > (self.mtu or self._link_mtu - 1):
            return
        if self._goes_round(kept_to - delivery, origin, now_ns):
            return
        self.mtu, self._learned_ns = inner, now_ns
        self._output.append(effects.SetPathMtu(inner))
        self._output.append(effects.PathMtuLearned(inner, delivery, origin))

    def _goes_round(self, fall: int, origin: bytes, now_ns: int) -> bool:
        """Whether this fall of the MTU is one too many to be a path's."""
        if fall % self._overhead:
            self._falls = 0
            return False
        if now_ns - self._fell_ns > LOOP_NS:
            self._falls, self.looping = 0, False
        self._fell_ns = now_ns
        self._falls += 1
        if self._falls < LOOP_FALLS:
            return False
        if not self.looping:
            self.looping = True
            self._output.append(effects.RoutingLoop(self._falls, origin))
        return True

    def _forget(self) -> None:
        self._falls, self.looping = 0, False
        if self.mtu:
            self.mtu = 0
            self._output.append(effects.SetPathMtu(0))

    # -- unreachable

    def _meaning(self, code: int, origin: bytes) -> Notice:
        """
        What a destination-unreachable says.

        Source: RFC 792 and RFC 1812 5.2.7.1 (codes of ICMP type 3), RFC 4443 3.1 (codes of ICMPv6 type 1).
        """
        from_peer = origin == self._remote
        match self._family, code:
            case 4, 2:
                return Notice.NO_PROTOCOL if from_peer else Notice.REFUSED
            case (4, 3) | (6, 4):
                return Notice.NO_TUNNEL if from_peer else Notice.REFUSED
            case (4, 9 | 10 | 13) | (6, 1 | 5 | 6):
                return Notice.REFUSED
            case _:
                return Notice.UNREACHABLE

    def _notice(self, notice: Notice, origin: bytes, code: int, now_ns: int) -> None:
        known = self.notices.get(notice)
        if known is None or now_ns - known[0] >= NOTICE_NS:
            self._output.append(effects.PathRefused(notice.value, origin, code))
        self.notices[notice] = (now_ns, origin)

    def _refused(self, notice: Notice, origin: bytes, code: int, now_ns: int) -> None:
        self._notice(notice, origin, code, now_ns)
        if now_ns - self._unreachable_ns >= UNREACHABLE_NS:
            self._errors = 0
        self._errors = min(self._errors + 1, UNREACHABLE_LIMIT)
        self._unreachable_ns = now_ns
        self._output.append(effects.SetUnreachable(self._errors, now_ns + UNREACHABLE_NS))
