"""
CREATE_CHILD_SA for children: a new one, or one in place of another; and the peer's requests for them.

Collisions (RFC 7296 2.8.1, 2.25.1). Both sides may rekey one child at once; each answers as usual. Whoever's exchange holds the
lowest of the four nonces made the redundant one, and deletes it; the other deletes the old one. Our request's response decides,
since then all four are known here; what the peer's request made waits as `replacement` of the old child till then, and may even
be gone again by then.

    the peer asks to rekey what we      are deleting          TEMPORARY_FAILURE
                                        do not have (any more) CHILD_SA_NOT_FOUND
                                        are rekeying           as usual
    the peer asks for any child while we rekey the IKE SA, or after it was replaced or is being closed: TEMPORARY_FAILURE

    we are told  TEMPORARY_FAILURE      later, with chance in it
                 CHILD_SA_NOT_FOUND     forget ours, make another; nothing when the peer's replacement is there
                 INVALID_KE_PAYLOAD     with that group, each once
                 NO_ADDITIONAL_SAS      a new IKE SA with its child, then the old one goes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ginnel.ikev2 import negotiate, proposals
from ginnel.ikev2.child import OVERDUE_NS, Child, Stage
from ginnel.ikev2.delete import DeleteChild, DeleteSpi
from ginnel.ikev2.negotiate import NO_ROOM, No, Offer
from ginnel.ikev2.sa import State
from ginnel.ikev2.timers import Timer
from ginnel.units import NS_PER_S
from ginnel.wire.ikev2 import Exchange, Notify, NotifyType, Payload, ProtocolId

if TYPE_CHECKING:
    from ginnel.ikev2.content import Content
    from ginnel.ikev2.lineage import Lineage
    from ginnel.ikev2.sa import IkeSa
    from ginnel.units import Now

#: When the peer said TEMPORARY_FAILURE: again after one to three seconds.
BUSY_NS: Final = NS_PER_S
BUSY_PART_NS: Final = 2 * NS_PER_S
#: When it refused to rekey: again after so long, while the keys last.
REFUSED_NS: Final = 30 * NS_PER_S
_WHY: Final = "rekeyed"


class CreateChild:
    """Ask for a child; replaces: in place of that one."""

    exchange = Exchange.CREATE_CHILD_SA
    inherited = True

    def __init__(self, replaces: Child | None = None) -> None:
        self.replaces = replaces
        self._group: int | None = None
        self._tried: set[int] = set()
        self._offer: Offer | None = None
        #: When we asked, the peer was known to have the old one.
        self._sure = True

    # ------------------------------------------------------------ the request

    def request(self, sa: IkeSa, now: Now) -> tuple[Payload, ...] | None:
        """An offer, with REKEY_SA in front when it is to replace one."""
        old, lineage = self.replaces, sa.lineage
        if lineage is None or sa.state is not State.ESTABLISHED:
            return None
        if old is None:
            if lineage.child is not None:
                return None
        elif old.stage is not Stage.LIVE or old.replaced:
            return None
        if not lineage.room(now):
            self._later(lineage, BUSY_NS, now)
            return None
        if old is not None:
            old.become(Stage.REKEYING)
            self._sure = old.unsure_in is None
        lineage.deleted_early.clear()
        group = self._next_group(sa)
        self._tried.add(group)
        self._offer, payloads = negotiate.offer(sa, group)
        if old is None:
            return payloads
        return (Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, old.spi_in.to_bytes(4, "big")), *payloads)

    def _next_group(self, sa: IkeSa) -> int:
        """The one the peer asked for, else the one that was taken before, else our first."""
        if self._group is not None:
            return self._group
        groups = proposals.groups(sa.connection.child_proposals)
        known = self.replaces.chosen.group if self.replaces is not None else 0
        if not known and sa.chosen is not None:
            known = sa.chosen.group
        if known in groups:
            return known
        return groups[0] if groups else 0

    def abandoned(self, sa: IkeSa, _now: Now) -> None:
        """As if it had not been asked."""
        self._not_made(sa)

    def _not_made(self, sa: IkeSa) -> None:
        if self._offer is not None:
            negotiate.release(sa, self._offer)
            self._offer = None
        if self.replaces is not None and self.replaces.stage is Stage.REKEYING:
            self.replaces.become(Stage.LIVE)

    # ------------------------------------------------------------ the response

    def response(self, sa: IkeSa, content: Content, now: Now) -> None:
        """A child, or why not."""
        lineage, asked = sa.lineage, self._offer
        assert lineage is not None
        assert asked is not None
        error = content.error()
        if content.sa is None and error is not None:
            self._not_made(sa)
            self._refused(sa, lineage, asked, error, now)
            return
        made = negotiate.conclude(sa, asked, content, now, rekeyed=self.replaces is not None)
        if not isinstance(made, No) and not lineage.room(now, force=True):
            made = NO_ROOM
        if isinstance(made, No):
            self._not_made(sa)
            sa.want(DeleteSpi(asked.spi), now, first=True)
            lineage.tunnel.refuse(made, now)
            self._later(lineage, REFUSED_NS, now)
            return
        if made.child.spi_out in lineage.deleted_early:
            # The answer is late: the peer has deleted since what it made.
            self._not_made(sa)
            self._later(lineage, BUSY_NS, now)
            return
        self._offer = None
        self._conclude(sa, lineage, made, now)

    def _conclude(self, sa: IkeSa, lineage: Lineage, made: negotiate.Made, now: Now) -> None:
        old, mine = self.replaces, made.child
        theirs = old.replacement if old is not None and old.replaced else None
        if old is not None and old.rival and mine.low_nonce < old.rival:
            # Ours holds the lowest nonce: it goes, and the peer deletes the old one.
            lineage.install(made, now, at_once=False)
            mine.become(Stage.REDUNDANT)
            sa.want(DeleteChild(mine, "redundant"), now, first=True)
            if old.stage is Stage.REKEYING:
                old.become(Stage.REPLACED)
            return
        if old is None:
            lineage.settle(now, mine)
        lineage.install(made, now, at_once=True)
        if theirs is not None and theirs.stage in {Stage.LIVE, Stage.REKEYING}:
            theirs.become(Stage.REDUNDANT)
            theirs.waiting = None
            lineage.ctx.timers.arm(theirs, Timer.OVERDUE, now.mono_ns + OVERDUE_NS)
        if old is not None and old.agreed:
            lineage.supersede(old, mine, now)
            if old.stage is Stage.REKEYING:
                old.become(Stage.REPLACED)
            sa.want(DeleteChild(old, _WHY), now, first=True)

    def _refused(self, sa: IkeSa, lineage: Lineage, asked: Offer, error: Notify, now: Now) -> None:
        old, tunnel = self.replaces, lineage.tunnel
        if old is not None and (old.replaced or not old.agreed):
            # The peer's own rekeying or deletion was faster.
            return
        match error.kind:
            case NotifyType.TEMPORARY_FAILURE:
                self._later(lineage, BUSY_NS + lineage.ctx.part(BUSY_PART_NS), now)
                return
            case NotifyType.CHILD_SA_NOT_FOUND if old is not None and not self._sure:
                # It was still waiting for our answer that made it.
                self._later(lineage, BUSY_NS + lineage.ctx.part(BUSY_PART_NS), now)
                return
            case NotifyType.CHILD_SA_NOT_FOUND if old is not None:
                lineage.drop(old, now, "the peer does not have this child SA any more")
                sa.want(CreateChild(), now, first=True)
                return
            case NotifyType.INVALID_KE_PAYLOAD:
                group = int.from_bytes(error.data[:2], "big")
                if group in proposals.groups(asked.proposals) and group not in self._tried:
                    self._group = group
                    sa.want(self, now, first=True)
                    return
            case NotifyType.NO_ADDITIONAL_SAS if old is not None:
                tunnel.refuse(negotiate.refused_by_peer(sa, asked, error), now)
                tunnel.renew(now)
                return
            case _:
                pass
        tunnel.refuse(negotiate.refused_by_peer(sa, asked, error), now)
        self._later(lineage, REFUSED_NS, now)

    def _later(self, lineage: Lineage, after_ns: int, now: Now) -> None:
        if self.replaces is None:
            lineage.tunnel.retry_child(lineage, now, after_ns)
        elif self.replaces.agreed:
            lineage.ctx.timers.arm(self.replaces, Timer.RETRY, now.mono_ns + after_ns)


# ---------------------------------------------------------------- the peer's requests


def answer(sa: IkeSa, content: Content, now: Now, *, busy: bool) -> tuple[Payload, ...]:
    """
    The peer asks for a child.

    Args:
        busy: we are rekeying the IKE SA.
    """
    lineage = sa.lineage
    assert lineage is not None
    if busy or sa.state is not State.ESTABLISHED:
        return (Notify(NotifyType.TEMPORARY_FAILURE),)
    rekey = content.notifies.get(NotifyType.REKEY_SA)
    old: Child | None = None
    if rekey is not None:
        old = lineage.by_out(int.from_bytes(rekey.spi, "big")) if rekey.protocol == ProtocolId.ESP else None
        if old is None:
            return (Notify(NotifyType.CHILD_SA_NOT_FOUND, b"", rekey.protocol, rekey.spi),)
        if old.stage not in {Stage.LIVE, Stage.REKEYING} or old.replaced:
            return (Notify(NotifyType.TEMPORARY_FAILURE),)
    if not lineage.room(now, spare=1 if isinstance(sa.active, CreateChild) else 0):
        if old is not None:
            return (Notify(NotifyType.TEMPORARY_FAILURE),)
        lineage.tunnel.refuse(NO_ROOM, now)
        return (NO_ROOM.notify,)
    made = negotiate.accept(sa, content, now, ke=True, rekeyed=old is not None)
    if isinstance(made, No):
        lineage.tunnel.refuse(made, now)
        return (made.notify,)
    child = lineage.install(made, now, at_once=False)
    child.unsure_in = sa
    if old is not None:
        lineage.supersede(old, child, now)
        old.rival = child.low_nonce
        if old.stage is Stage.LIVE:
            old.become(Stage.REPLACED)
    else:
        lineage.settle(now)
    return made.answer
