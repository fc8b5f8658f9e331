"""
How an IKE SA ends, and what that ends besides: an attempt, or a lineage with its children, unless another IKE SA carries it on.

Source: RFC 7296 1.4.1, 2.4, 2.21, 2.25.2.
"""

from __future__ import annotations

from ginnel.ikev2 import explain, init
from ginnel.ikev2.delete import DeleteIke
from ginnel.ikev2.effects import PeerDead
from ginnel.ikev2.sa import IkeSa, State
from ginnel.ikev2.tunnel import Cause
from ginnel.units import NS_PER_S, Now


def unanswered(sa: IkeSa, now: Now) -> None:
    """The peer answered nothing to our request for so long: what follows depends on how far it had come."""
    lineage = sa.lineage
    if lineage is None:
        sa.finish(now)
        return
    tunnel = lineage.tunnel
    silent_s = (now.mono_ns - sa.heard_ns) / NS_PER_S
    match sa.state:
        case State.INITIATING | State.PROVING:
            if lineage.doubted and len(tunnel.lineages) > 1:
                tunnel.failed(lineage, now)
                return
            out = sa.window.outstanding
            tried_s = (now.mono_ns - out.since_ns) / NS_PER_S if out is not None else 0.0
            port, answered = sa.path.remote_port, sa.state is State.PROVING
            lines = explain.no_answer(init.address_text(sa.path.remote), port, tried_s, answered=answered)
            tunnel.tell("us", "timeout", lines, now)
            tunnel.failed(lineage, now)
        case State.CLOSING:
            task = sa.active
            cause = task.cause if isinstance(task, DeleteIke) else Cause.OURS
            closed(sa, "closed, unanswered", cause, now)
        case State.ESTABLISHED if lineage.current is sa and not lineage.inherits(sa, now):
            sa.ctx.emit(PeerDead(tunnel.name, silent_s))
            tunnel.down(lineage, Cause.DEAD, f"the peer has answered nothing for {silent_s:.0f} s", now)
        case _:
            lineage.confirm(sa, now)
            lineage.forget(sa, now)


def ended(sa: IkeSa, why: str, now: Now) -> None:
    """It is over by the peer's word, or by what it said."""
    lineage = sa.lineage
    if lineage is None:
        _refused_for_good(sa, now)
    elif lineage.current is sa and not lineage.inherits(sa, now):
        if lineage.established:
            lineage.tunnel.down(lineage, Cause.PEER, why, now)
        else:
            lineage.tunnel.tell("us", "other", (why,), now)
            lineage.tunnel.failed(lineage, now)
    else:
        lineage.confirm(sa, now)
        lineage.forget(sa, now)


def _refused_for_good(sa: IkeSa, now: Now) -> None:
    """A half-open SA whose only request was malformed: the answer is kept for a while."""
    if sa.state is State.HALF_OPEN:
        sa.become(State.REFUSED)
    else:
        sa.finish(now)


def closed(sa: IkeSa, why: str, cause: Cause, now: Now) -> None:
    """The peer has answered our DELETE, or will not."""
    lineage = sa.lineage
    if lineage is None:
        sa.finish(now)
    elif lineage.current is not sa:
        lineage.forget(sa, now)
        lineage.current.proceed(now)
    elif lineage.established:
        lineage.tunnel.down(lineage, cause, why, now)
    else:
        lineage.tunnel.failed(lineage, now)
