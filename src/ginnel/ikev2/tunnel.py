"""
One connection as it stands: its lineages (nearly always one), the child SA that carries, and when to begin, or to begin again.

- At most one child carries: what leaves, leaves under it. A child that waits carries when it is its turn; what once carried never
  does again (its numbers are spent). With none, the engine drops everything.
- Both ends may have begun at once: then there are two lineages. The one with the lowest of the four nonces of IKE_SA_INIT goes;
  its initiator deletes it, 2 s after both stand (the other end after 10 s, should it not), so that nothing is lost on the way.
  Of two with the same initiator the one begun first goes. INITIAL_CONTACT removes what stood before that IKE SA began, without a
  word.
- An attempt that the peer does not know of any more, as somebody says in the open, goes on for `DOUBTED_NS`, and another is begun
  beside it: one at a time. So forged words end nothing, and a peer that forgot us (it was pressed, or started anew) costs no
  minute of silence.
- After a failure: again after 2 s, then twice as long each time, up to a minute, each shortened by up to a quarter at random.

The wish to be up: "start" always has it; "trap" from `initiate` on until `terminate`; "wait" never begins.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_ntop
from typing import TYPE_CHECKING, Final, Literal

from ginnel.ikev2 import identities, keys
from ginnel.ikev2.child import Child, Stage
from ginnel.ikev2.connection import Connection
from ginnel.ikev2.context import Context
from ginnel.ikev2.effects import ChildDown, ChildUp, ClearOutbound, IkeDown, IkeUp, KeysMade, Refused
from ginnel.ikev2.limit import Bucket
from ginnel.ikev2.lineage import Lineage
from ginnel.ikev2.sa import IkeSa, State
from ginnel.ikev2.timers import Timer
from ginnel.units import NS_PER_S, Now
from ginnel.wire.ikev2 import Id

if TYPE_CHECKING:
    from ginnel.ikev2.negotiate import Made, No

#: How long both of two that do the same stand, when it is ours to delete one, and when it is the peer's.
SURPLUS_OURS_NS: Final = 2 * NS_PER_S
SURPLUS_THEIRS_NS: Final = 10 * NS_PER_S
BACKOFF_FIRST_NS: Final = 2 * NS_PER_S
BACKOFF_MAX_NS: Final = 60 * NS_PER_S
#: How long an attempt goes on that the peer is said not to know.
DOUBTED_NS: Final = 5 * NS_PER_S
#: After the peer deleted what we want to have.
AGAIN_NS: Final = NS_PER_S
#: Lineages that wait to be deleted since another does the same; the oldest go at once when there are more.
SURPLUS_MAX: Final = 3
#: Refusals of those who did not prove who they are that are told of one connection: a second, and at once.
STRANGERS_TOLD_PER_S: Final = 1
STRANGERS_TOLD_BURST: Final = 20
#: Lines of a refusal that are kept to be shown.
LINES_MAX: Final = 64


class Cause(enum.Enum):
    """Why a lineage is over, for what follows."""

    #: The peer answers nothing.
    DEAD = enum.auto()
    #: The peer has lost its memory, and proved it.
    CRASHED = enum.auto()
    #: The peer deleted it, or it broke.
    PEER = enum.auto()
    #: Our operator wants it.
    OURS = enum.auto()
    #: Another takes its place.
    REPLACED = enum.auto()


class Tunnel:
    """See above."""

    __slots__ = (
        "_begin",
        "_strangers",
        "carrier",
        "child_rekeys",
        "connection",
        "ctx",
        "failures",
        "group",
        "ike_rekeys",
        "lineages",
        "peer_id",
        "refused",
        "refused_here",
        "refused_ns",
        "wanted",
    )

    def __init__(self, ctx: Context, connection: Connection, begin: Callable[[Tunnel, Now], None]) -> None:
        self.ctx = ctx
        self.connection = connection
        self._begin = begin
        self._strangers = Bucket(STRANGERS_TOLD_PER_S, STRANGERS_TOLD_BURST)
        self.lineages: list[Lineage] = []
        #: The child that everything leaves with.
        self.carrier: Child | None = None
        self.wanted = connection.start == "start"
        self.failures = 0
        #: The group that the peer took last time; 0: not known.
        self.group = 0
        self.peer_id: Id | None = None
        #: The last refusal, and the last one of ours since a peer proved itself, with their times.
        self.refused: Refused | None = None
        self.refused_ns = 0
        self.refused_here: tuple[Refused, int] | None = None
        self.ike_rekeys = 0
        self.child_rekeys = 0

    @property
    def name(self) -> str:
        """The connection's."""
        return self.connection.name

    @property
    def lineage(self) -> Lineage | None:
        """The established one that stays."""
        found = [one for one in self.lineages if one.established]
        return next((one for one in found if not one.surplus), found[-1] if found else None)

    # ------------------------------------------------------------ what carries

    def carry(self, child: Child, now: Now) -> None:
        """Everything leaves with *child* from now on, if it has not carried before."""
        waiting, child.waiting = child.waiting, None
        if waiting is None or child.lineage is None:
            return
        sa = child.lineage.current
        self.ctx.emit(waiting._replace(path=sa.esp_path(), udp=sa.udp))
        self.carrier = child
        child.carried_ns = now.mono_ns
        self.ctx.emit(ChildUp(self.name, child.spi_in, child.spi_out, child.chosen.text, child.rekeyed))

    def uncarry(self, child: Child, why: str, now: Now) -> None:
        """*child* is over. Another that waits takes its place, or nothing leaves."""
        if self.carrier is not child:
            return
        self.carrier = None
        waiting = [
            one
            for lineage in self.lineages
            for one in lineage.children.values()
            if one.waiting is not None and one.stage in {Stage.LIVE, Stage.REKEYING}
        ]
        if waiting:
            self.carry(max(waiting, key=lambda one: one.created_ns), now)
            return
        self.ctx.emit(ClearOutbound(self.name))
        self.ctx.emit(ChildDown(self.name, why))
        left = self.lineage
        if left is not None and left.child is not None:
            # Agreed on, but its numbers are spent: it is to be rekeyed.
            self.ctx.timers.arm(left, Timer.RETRY, now.mono_ns)

    # ------------------------------------------------------------ beginning

    def begin_at(self, at_ns: int) -> None:
        """Begin then, unless it has begun by then."""
        self.ctx.timers.arm(self, Timer.START, at_ns)

    def start(self, now: Now) -> None:
        """It is time to begin."""
        if not self.lineages and self.connection.remote is not None:
            self._begin(self, now)

    def renew(self, now: Now) -> None:
        """Begin anew beside what stands, which goes when the new one stands."""
        if self.connection.remote is not None and all(one.established for one in self.lineages):
            self._begin(self, now)

    def doubt(self, attempt: Lineage, now: Now) -> None:
        """Somebody says that the peer knows nothing of *attempt*: see above."""
        if any(one is not attempt and not one.established for one in self.lineages):
            return
        attempt.doubted = True
        attempt.current.give_up_by(now.mono_ns + DOUBTED_NS)
        self._begin(self, now)

    def failed(self, lineage: Lineage, now: Now) -> None:
        """An attempt of ours came to nothing."""
        self._remove(lineage, now)
        if lineage.doubted and self.lineages:
            return
        self.failures += 1
        if self.wanted and not self.lineages:
            self.begin_at(now.mono_ns + self._backoff_ns())

    def _backoff_ns(self) -> int:
        whole = min(BACKOFF_MAX_NS, BACKOFF_FIRST_NS << min(10, max(0, self.failures - 1)))
        return whole - self.ctx.part(whole // 4)

    def retry_child(self, lineage: Lineage, now: Now, after_ns: int | None = None) -> None:
        """If the lineage has no child, and having one is ours to see to, try again: after 1 s, then twice as long each time."""
        if lineage.child is not None or lineage.current.state is not State.ESTABLISHED:
            return
        if not (self.wanted or lineage.initiated):
            return
        if after_ns is None:
            after_ns = min(BACKOFF_MAX_NS, AGAIN_NS << min(10, lineage.child_failures))
            lineage.child_failures += 1
        self.ctx.timers.arm(lineage, Timer.RETRY, now.mono_ns + after_ns)

    # ------------------------------------------------------------ up and down

    def adopt(self, sa: IkeSa) -> Lineage:
        """*sa* is this tunnel's: a lineage begins with it."""
        lineage = Lineage(self.ctx, self, sa)
        sa.lineage = lineage
        self.lineages.append(lineage)
        return lineage

    def established(self, lineage: Lineage, peer_id: Id, now: Now) -> None:
        """Both sides know each other: before the child of the same exchange is installed."""
        sa = lineage.current
        lineage.established_ns = sa.established_ns = now.mono_ns
        lineage.low_nonce = sa.low_nonce
        self.failures = 0
        self.refused_here = None
        self.peer_id = peer_id
        self.ctx.timers.cancel(self, Timer.START)
        lineage.arm(sa, now)
        proposal = sa.chosen.text if sa.chosen is not None else ""
        self.ctx.emit(IkeUp(self.name, sa.spi_i, sa.spi_r, sa.initiator, proposal, identities.text(peer_id), sa.nat.word))

    def settle(self, new: Lineage, now: Now) -> Lineage | None:
        """*new* stands; of two that do the same, mark the one that goes. Gives an older one that stays, which is to be tried."""
        tried: Lineage | None = None
        for other in self.lineages:
            if other is new or not other.established or other.surplus:
                continue
            first = other.born_ns <= new.born_ns if other.initiated == new.initiated else other.low_nonce < new.low_nonce
            if first:
                loser = other
            else:
                loser, tried = new, other
            loser.surplus = True
            loser.surplus_ns = now.mono_ns
            delay_ns = SURPLUS_OURS_NS if loser.initiated else SURPLUS_THEIRS_NS
            self.ctx.timers.arm(loser, Timer.SURPLUS, now.mono_ns + delay_ns)
        surplus = [one for one in self.lineages if one.surplus and one is not new]
        for one in surplus[:-SURPLUS_MAX]:
            if one.current.state is State.ESTABLISHED:
                one.current.say_goodbye()
            self.down(one, Cause.REPLACED, "the peer begins anew again and again", now)
        return tried

    def first_contact(self, new: Lineage, now: Now) -> None:
        """The peer says that it knows of no other: what stood before it asked is gone at its end."""
        for other in list(self.lineages):
            if other is not new and other.established and other.established_ns <= new.born_ns:
                self.down(other, Cause.REPLACED, "the peer began anew (INITIAL_CONTACT)", now)

    def down(self, lineage: Lineage, cause: Cause, why: str, now: Now) -> None:
        """A lineage is over; nothing is told to the peer."""
        if lineage not in self.lineages:
            return
        was_up = lineage.established
        self._remove(lineage, now, why)
        if was_up:
            self.ctx.emit(IkeDown(self.name, why))
        survivor = self.lineage
        if survivor is not None:
            if survivor.surplus and len(self.lineages) == 1:
                survivor.surplus = False
                self.ctx.timers.cancel(survivor, Timer.SURPLUS)
            if self.carrier is None:
                self.ctx.timers.arm(survivor, Timer.RETRY, now.mono_ns)
            return
        if self.lineages or self.connection.start == "wait":
            return
        match cause:
            case Cause.DEAD | Cause.CRASHED:
                if self.connection.dpd_action == "restart" and (self.wanted or cause is Cause.CRASHED or was_up):
                    self.begin_at(now.mono_ns)
                elif self.connection.dpd_action != "restart":
                    self.wanted = False
            case Cause.PEER:
                if self.wanted:
                    self.begin_at(now.mono_ns + AGAIN_NS + self.ctx.part(AGAIN_NS))
            case Cause.OURS | Cause.REPLACED:
                pass

    def _remove(self, lineage: Lineage, now: Now, why: str = "") -> None:
        if lineage in self.lineages:
            self.lineages.remove(lineage)
        self.ctx.timers.cancel_all(lineage)
        for child in list(lineage.children.values()):
            child.replacement = None
            lineage.drop(child, now, why)
        for child in list(lineage.children.values()):
            lineage.remove(child)
        for sa in list(lineage.sas):
            lineage.forget(sa, now)

    # ------------------------------------------------------------ what is told

    def refuse(self, no: No, now: Now) -> None:
        """A negotiation failed: tell why, and keep it to be shown."""
        if no.lines:
            self.tell(no.by, no.reason, no.lines, now)

    def tell_of_stranger(self, reason: str, lines: tuple[str, ...], now: Now) -> None:
        """Somebody wanted to be this connection's peer, and is not: told so often, not more."""
        if self._strangers.take(now.mono_ns):
            self.tell("us", reason, lines, now)

    def tell(self, by: Literal["us", "peer"], reason: str, lines: tuple[str, ...], now: Now) -> None:
        """As `refuse`, in parts."""
        self.refused = Refused(self.name, by, reason, lines[:LINES_MAX])
        self.refused_ns = now.unix_ns
        if by == "us":
            self.refused_here = self.refused, now.unix_ns
        self.ctx.emit(self.refused)

    def explanation(self) -> tuple[Refused | None, int]:
        """
        The refusal that explains most, and when it was (unix_ns).

        Where both ends call, each refuses the other in turn: the peer's one word would hide what we know of both sides, so ours
        stays in front of it while attempts go on.
        """
        if self.refused is None or self.refused.by == "us" or self.refused_here is None:
            return self.refused, self.refused_ns
        ours, at_ns = self.refused_here
        if not 0 <= self.refused_ns - at_ns <= 2 * BACKOFF_MAX_NS:
            return self.refused, self.refused_ns
        since = f"the peer refuses us as well: {self.refused.lines[0]}"
        return ours._replace(lines=(*ours.lines, since)), self.refused_ns

    def tell_keys(self, sa: IkeSa, child: Child, made: Made) -> None:
        """In the debug mode: lines for tshark."""
        if made.keys.esp is None:
            return
        family = AF_INET if len(sa.path.local) == 4 else AF_INET6
        here, there = inet_ntop(family, sa.path.local), inet_ntop(family, sa.path.remote)
        outbound, inbound = made.keys.esp
        suite = child.chosen.suite
        self.ctx.emit(KeysMade(self.name, "esp_sa", keys.esp_line(suite, here, there, child.spi_out, outbound)))
        self.ctx.emit(KeysMade(self.name, "esp_sa", keys.esp_line(suite, there, here, child.spi_in, inbound)))
