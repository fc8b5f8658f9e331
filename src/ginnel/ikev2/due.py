"""
What is done when a deadline has come, one function for each kind of owner; and the replacing of children, which the engine asks
for too.

Source: RFC 7296 2.4, 2.8; RFC 3948 4 (keepalives).
"""

from __future__ import annotations

from typing import Final

from ginnel.ikev2.child import OVERDUE_NS, SURPLUS_NS, Child
from ginnel.ikev2.context import Context
from ginnel.ikev2.create import CreateChild
from ginnel.ikev2.delete import DeleteChild, DeleteIke
from ginnel.ikev2.effects import SendKeepalive
from ginnel.ikev2.lineage import Lineage
from ginnel.ikev2.liveness import Liveness
from ginnel.ikev2.rekey import RekeyIke
from ginnel.ikev2.sa import KEEPALIVE_NS, IkeSa, State
from ginnel.ikev2.timers import Timer
from ginnel.ikev2.tunnel import Cause
from ginnel.units import NS_PER_S, Now

#: For so long a second IKE SA is kept at most, while it is not sure that the peer has the one that stays.
SURPLUS_MAX_NS: Final = 30 * NS_PER_S


def sa_due(ctx: Context, sa: IkeSa, timer: Timer, now: Now) -> None:
    """A deadline of an IKE SA."""
    lineage = sa.lineage
    match timer:
        case Timer.RETRANSMIT:
            sa.retransmit(now)
        case Timer.HALF_OPEN:
            sa.finish(now)
        case Timer.REKEY:
            if not sa.wants(RekeyIke):
                sa.want(RekeyIke(), now)
        case Timer.HARD:
            sa.want(DeleteIke("its keys are too old", Cause.PEER), now, first=True)
        case Timer.SURPLUS:
            surplus_due(ctx, sa, now)
        case Timer.LIVENESS:
            liveness_due(ctx, sa, now)
        case Timer.KEEPALIVE:
            ctx.emit(SendKeepalive(sa.name, sa.path))
            ctx.timers.arm(sa, Timer.KEEPALIVE, now.mono_ns + KEEPALIVE_NS)
        case Timer.REAUTHENTICATE if lineage is not None:
            lineage.tunnel.renew(now)
        case _:
            pass


def surplus_due(ctx: Context, sa: IkeSa, now: Now) -> None:
    """The peer should have deleted *sa*, but may still wait for our answer that made its successor: is it there at all?"""
    lineage = sa.lineage
    if lineage is not None and lineage.current.unsure_in is sa:
        sa.want(Liveness(), now)
        ctx.timers.arm(sa, Timer.SURPLUS, now.mono_ns + OVERDUE_NS)
        return
    sa.want(DeleteIke("replaced", Cause.REPLACED), now, first=True)


def liveness_due(ctx: Context, sa: IkeSa, now: Now) -> None:
    """Ask, unless something came lately; then when that is `dpd_ns` ago."""
    dpd_ns = sa.connection.dpd_ns
    if not dpd_ns or sa.state is not State.ESTABLISHED:
        return
    heard_ns = max(sa.heard_ns, ctx.last_received_ns(sa.name))
    if now.mono_ns - heard_ns < dpd_ns:
        ctx.timers.arm(sa, Timer.LIVENESS, heard_ns + dpd_ns)
        return
    if sa.window.spent:
        sa.want(RekeyIke(), now)
    elif sa.active is None:
        sa.want(Liveness(), now)
    ctx.timers.arm(sa, Timer.LIVENESS, now.mono_ns + dpd_ns)


def child_due(ctx: Context, child: Child, timer: Timer, now: Now) -> None:
    """A deadline of a child."""
    lineage = child.lineage
    if lineage is None:
        return
    match timer:
        case Timer.REKEY | Timer.RETRY:
            replace(lineage, child, now, hard=False)
        case Timer.HARD:
            replace(lineage, child, now, hard=True)
        case Timer.OVERDUE if child.heir is not None and child.heir.unsure_in is not None:
            # The peer may still wait for our answer that made the other.
            ctx.timers.arm(child, Timer.OVERDUE, now.mono_ns + OVERDUE_NS)
        case Timer.OVERDUE:
            lineage.current.want(DeleteChild(child, "replaced"), now)
        case Timer.RETIRE:
            lineage.remove(child)
        case _:
            pass


def lineage_due(lineage: Lineage, timer: Timer, now: Now) -> None:
    """A deadline of a lineage."""
    tunnel = lineage.tunnel
    match timer:
        case Timer.RETRY:
            if lineage.child is None or tunnel.carrier is None:
                missing_child(lineage, now)
        case Timer.SURPLUS:
            winner = next((one for one in tunnel.lineages if one.established and not one.surplus), None)
            if winner is not None and not winner.stands and now.mono_ns < lineage.surplus_ns + SURPLUS_MAX_NS:
                # The peer may not have it yet: if it answers there, it has.
                winner.current.want(Liveness(), now)
                winner.ctx.timers.arm(lineage, Timer.SURPLUS, now.mono_ns + SURPLUS_NS)
            elif winner is not None:
                lineage.current.want(DeleteIke("another IKE SA does the same", Cause.REPLACED), now, first=True)
            else:
                lineage.surplus = False
        case _:
            pass


def missing_child(lineage: Lineage, now: Now) -> None:
    """The lineage has nothing to carry with: make it."""
    child = lineage.child
    if child is None:
        sa = lineage.current
        coming = [task for task in (sa.active, *sa.queue) if isinstance(task, CreateChild)]
        if not any(task.replaces is None or task.replaces.agreed for task in coming):
            sa.want(CreateChild(), now)
    elif child.waiting is not None:
        lineage.tunnel.carry(child, now)
    else:
        # It has carried once, and its numbers are spent: another.
        lineage.current.want(CreateChild(child), now)


def replace(lineage: Lineage, child: Child, now: Now, *, hard: bool) -> None:
    """New keys for a child; hard: it carries nothing any more, so it is deleted first."""
    if not hard:
        queued = lineage.current.queue
        if any(isinstance(task, CreateChild) and task.replaces is child for task in queued):
            return
        lineage.current.want(CreateChild(child), now)
        return
    lineage.current.want(DeleteChild(child, "its keys are too old"), now)
    if not child.replaced:
        lineage.current.want(CreateChild(), now)
