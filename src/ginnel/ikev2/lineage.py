"""
A lineage: one agreement with the peer and all that followed from it: the IKE SA of the first IKE_AUTH, those that took its
place by rekeying, and the child SAs, which belong to none of them in particular: whoever is current inherits them as they are.

So the rekeying of an IKE SA moves nothing, and a child may be rekeyed or deleted by whichever of the lineage's IKE SAs carries
the message. The lineage is over when its current IKE SA is.

Here the order of switching is kept: what is new is installed before what is old is taken away, on rekeying; and what is dead or
deleted is taken away at once. The engine has room for four inbound SAs of a tunnel: the oldest that is only kept for late
packets gives way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ginnel.ikev2.child import LATE_NS, OVERDUE_NS, RETIRED_NS, SURPLUS_NS, Child, Stage
from ginnel.ikev2.context import Context
from ginnel.ikev2.effects import RemoveInbound
from ginnel.ikev2.sa import KEEPALIVE_NS, IkeSa, State
from ginnel.ikev2.timers import Timer
from ginnel.units import Now

if TYPE_CHECKING:
    from ginnel.ikev2.negotiate import Made
    from ginnel.ikev2.tunnel import Tunnel

#: Inbound SAs that the engine takes for one tunnel.
INBOUND_MAX: Final = 4
#: Rekeying is done up to a tenth of the time before it is due, at random, so that both ends seldom begin at once.
_JITTER_PART: Final = 10


class Lineage:
    """See above. initiated: the first IKE SA was ours. low_nonce: the lower of that one's nonces, which settles duplicates."""

    __slots__ = (
        "born_ns",
        "child_failures",
        "children",
        "ctx",
        "current",
        "deleted_early",
        "doubted",
        "established_ns",
        "initiated",
        "low_nonce",
        "sas",
        "surplus",
        "surplus_ns",
        "tunnel",
    )

    def __init__(self, ctx: Context, tunnel: Tunnel, first: IkeSa) -> None:
        self.ctx = ctx
        self.tunnel = tunnel
        self.current = first
        self.sas: list[IkeSa] = [first]
        #: By the SPI that we receive with.
        self.children: dict[int, Child] = {}
        self.initiated = first.initiator
        self.low_nonce = b""
        self.born_ns = first.created_ns
        #: 0: not yet.
        self.established_ns = 0
        #: While it was an attempt, somebody said that the peer knows nothing of it, and another was begun beside it.
        self.doubted = False
        #: Another lineage of the tunnel stays, this one goes.
        self.surplus = False
        #: What the peer deleted and we do not have, while our request for a child is unanswered: the answer may have made it.
        self.deleted_early: set[int] = set()
        self.surplus_ns = 0
        self.child_failures = 0

    @property
    def established(self) -> bool:
        """Whether both sides know each other."""
        return self.established_ns > 0

    @property
    def stands(self) -> bool:
        """Whether the peer surely has its IKE SA and its child: it has spoken since."""
        child, sa = self.child, self.current
        return child is not None and child.unsure_in is None and (sa.initiator or sa.heard_ns > sa.established_ns)

    # ------------------------------------------------------------ IKE SAs

    def arm(self, sa: IkeSa, now: Now) -> None:
        """The deadlines of an IKE SA that is current from now on."""
        connection, timers = self.tunnel.connection, self.ctx.timers
        if connection.ike_rekey_ns:
            sa.hard_ns = sa.established_ns + connection.ike_rekey_ns * 11 // 10
            timers.arm(sa, Timer.REKEY, sa.established_ns + self._early(connection.ike_rekey_ns))
            timers.arm(sa, Timer.HARD, sa.hard_ns)
        if connection.dpd_ns:
            timers.arm(sa, Timer.LIVENESS, now.mono_ns + connection.dpd_ns)
        if sa.nat.us:
            timers.arm(sa, Timer.KEEPALIVE, now.mono_ns + KEEPALIVE_NS)

    def promote(self, new: IkeSa, now: Now) -> None:
        """*new* takes the place of the current IKE SA, which one of us deletes next; what waited there goes on here."""
        old = self.current
        self.current = new
        new.heard_ns = max(new.heard_ns, old.heard_ns)
        if old.state is State.ESTABLISHED:
            old.become(State.REPLACED)
        for timer in (Timer.REKEY, Timer.HARD, Timer.LIVENESS, Timer.KEEPALIVE, Timer.REAUTHENTICATE):
            at_ns = self.ctx.timers.at(old, timer)
            self.ctx.timers.cancel(old, timer)
            if timer is Timer.REAUTHENTICATE and at_ns is not None:
                self.ctx.timers.arm(new, timer, at_ns)
        self.ctx.timers.arm(old, Timer.SURPLUS, now.mono_ns + OVERDUE_NS)
        self.arm(new, now)
        new.queue.extend(task for task in old.queue if task.inherited)
        old.queue.clear()
        self.tunnel.ike_rekeys += 1
        new.proceed(now)

    def confirm(self, sa: IkeSa, now: Now) -> None:
        """
        The peer sends a new request by *sa*: so it has our answers to those before, and what they made. Only then may we ask
        anything about that, or in it: a peer that has not seen our answer yet would not know what we speak of.
        """
        for child in self.children.values():
            if child.unsure_in is sa or child.unsure_in not in self.sas:
                child.unsure_in = None
        for one in self.sas:
            if one.unsure_in is sa or one is sa:
                one.unsure_in = None
        self.current.proceed(now)

    def inherits(self, sa: IkeSa, now: Now) -> bool:
        """*sa*, which is current, is over: whether the peer's rekeying had made one that takes its place (ours is forgotten)."""
        successor, sa.successor = sa.successor, None
        if successor is None or successor.state is not State.ESTABLISHED:
            return False
        self.promote(successor, now)
        return True

    def forget(self, sa: IkeSa, now: Now) -> None:
        """One of several IKE SAs of it is over."""
        sa.finish(now)
        if sa in self.sas:
            self.sas.remove(sa)
        # Nobody waits for a word in it any more.
        for child in self.children.values():
            if child.unsure_in is sa:
                child.unsure_in = None
        for one in self.sas:
            if one.unsure_in is sa:
                one.unsure_in = None

    # ------------------------------------------------------------ children

    def by_out(self, spi: int) -> Child | None:
        """The child that the peer receives with *spi*, if both sides have it."""
        return next((child for child in self.children.values() if child.spi_out == spi and child.agreed), None)

    @property
    def child(self) -> Child | None:
        """The one that counts: agreed on, not replaced, the newest."""
        found = [one for one in self.children.values() if one.stage in {Stage.LIVE, Stage.REKEYING} and not one.replaced]
        return found[-1] if found else None

    def room(self, now: Now, *, spare: int = 0, force: bool = False) -> bool:
        """
        Make room for one more inbound SA; False when all four are in use.

        Args:
            spare: so many more must be had as well (for what our own outstanding request may bring).
            force: whoever is only kept for late packets gives way, however young; else after `LATE_NS` at the earliest.
        """
        inbound = [child for lineage in self.tunnel.lineages for child in lineage.children.values()]
        old_ns = now.mono_ns - LATE_NS
        retired = [one for one in inbound if one.stage is Stage.RETIRED and (force or one.retired_ns <= old_ns)]
        free = INBOUND_MAX - len(inbound)
        if free + len(retired) < 1 + spare:
            return False
        if not free:
            oldest = min(retired, key=lambda one: one.retired_ns)
            if oldest.lineage is not None:
                oldest.lineage.remove(oldest)
        return True

    def install(self, made: Made, now: Now, *, at_once: bool) -> Child:
        """
        Receive with a new child from now on. There is `room`.

        at_once: the peer has it already, send with it too. Otherwise when the peer is seen to use it, or when nothing else
        carries.
        """
        child = made.child
        child.lineage = self
        self.children[child.spi_in] = child
        self.ctx.emit(made.inbound)
        self.tunnel.tell_keys(self.current, child, made)
        connection = self.tunnel.connection
        if connection.rekey_ns:
            self.ctx.timers.arm(child, Timer.REKEY, child.created_ns + self._early(connection.rekey_ns))
            self.ctx.timers.arm(child, Timer.HARD, child.hard_ns)
        if child.rekeyed:
            self.tunnel.child_rekeys += 1
        self.child_failures = 0
        if (at_once and not self.surplus and child.stage is Stage.LIVE) or self.tunnel.carrier is None:
            self.tunnel.carry(child, now)
        return child

    def settle(self, now: Now, new: Child | None = None) -> None:
        """
        Both ends have made a child that was missing, at once: the one with the lowest nonce goes, a little later, when both
        ends surely have both. Its initiator deletes it; the other end does if it does not. new: is about to be installed.
        """
        live = [one for one in self.children.values() if one.stage in {Stage.LIVE, Stage.REKEYING} and not one.replaced]
        live += [] if new is None else [new]
        if len({one.initiated for one in live}) < 2:
            return
        loser = min(live, key=lambda one: one.low_nonce)
        loser.become(Stage.REDUNDANT)
        self.ctx.timers.cancel_all(loser)
        after_ns = SURPLUS_NS if loser.initiated else OVERDUE_NS
        self.ctx.timers.arm(loser, Timer.OVERDUE, now.mono_ns + after_ns)

    def supersede(self, old: Child, new: Child, now: Now) -> None:
        """*new* is agreed on in the place of *old*, which the peer deletes; or we do, when it does not."""
        old.replacement = new
        if old.agreed and old.stage is not Stage.DELETING:
            self.ctx.timers.cancel(old, Timer.REKEY)
            self.ctx.timers.arm(old, Timer.OVERDUE, now.mono_ns + OVERDUE_NS)

    def drop(self, child: Child, now: Now, why: str) -> None:
        """
        One or both sides have deleted *child*. Nothing is sent with it any more; if another took its place, what is late still
        comes in for a while.
        """
        if not child.agreed:
            return
        late = child.replacement is not None
        heir = child.heir
        for other in self.children.values():
            if other.replacement is child and heir is not None:
                other.replacement = heir
            elif other.replacement is child:
                # What was to take its place is gone: it counts again.
                other.replacement = None
                self.ctx.timers.cancel(other, Timer.OVERDUE)
                if other.stage is Stage.REPLACED:
                    other.become(Stage.LIVE)
                if other.stage is Stage.LIVE:
                    self.ctx.timers.arm(other, Timer.RETRY, now.mono_ns + self.ctx.part(OVERDUE_NS))
        self.ctx.timers.cancel_all(child)
        child.become(Stage.RETIRED)
        child.retired_ns = now.mono_ns
        child.waiting = None
        if heir is not None and self.tunnel.carrier is child:
            self.tunnel.carry(heir, now)
        if late:
            self.ctx.timers.arm(child, Timer.RETIRE, now.mono_ns + RETIRED_NS)
        self.tunnel.uncarry(child, why, now)
        if not late:
            self.remove(child)

    def silence(self, why: str, now: Now) -> None:
        """Nothing leaves with any of the children any more: the lineage is being closed."""
        for child in self.children.values():
            child.waiting = None
            self.ctx.timers.cancel(child, Timer.REKEY)
            self.ctx.timers.cancel(child, Timer.RETRY)
        for child in list(self.children.values()):
            self.tunnel.uncarry(child, why, now)

    def remove(self, child: Child) -> None:
        """Not even late packets are taken any more."""
        if child.stage is Stage.GONE:
            return
        child.become(Stage.GONE)
        child.waiting = None
        self.ctx.timers.cancel_all(child)
        self.children.pop(child.spi_in, None)
        self.ctx.emit(RemoveInbound(self.tunnel.connection.name, child.spi_in))

    def _early(self, whole_ns: int) -> int:
        return whole_ns - self.ctx.part(whole_ns // _JITTER_PART)
