"""What is shown of a connection: values, taken at one moment. No keys, no decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ginnel.ikev2 import identities, selectors
from ginnel.ikev2.child import Child, Stage
from ginnel.ikev2.context import Context
from ginnel.ikev2.effects import Path
from ginnel.ikev2.lineage import Lineage
from ginnel.ikev2.sa import State
from ginnel.ikev2.timers import Timer
from ginnel.ikev2.tunnel import Tunnel
from ginnel.units import NS_PER_S, Now

Word = Literal["up", "no-child", "connecting", "waiting", "down"]


@dataclass(frozen=True, slots=True)
class ChildView:
    """
    A child SA. Times in s: age; rekey_in, hard_in until they are due, None: never. state: "carrying", "waiting" (the peer does
    not use it yet), "rekeying", "replaced", "deleting", "retired".
    """

    spi_in: int
    spi_out: int
    proposal: str
    suite: str
    mode: Literal["transport", "tunnel"]
    esn: bool
    local_ts: tuple[str, ...]
    remote_ts: tuple[str, ...]
    initiator: bool
    state: str
    age_s: float
    rekey_in_s: float | None
    hard_in_s: float | None


@dataclass(frozen=True, slots=True)
class IkeView:
    """The IKE SA. nat: "none", "us", "peer", "both". udp: ESP goes in UDP. heard_s: since the peer's last genuine message."""

    spi_i: bytes
    spi_r: bytes
    initiator: bool
    proposal: str
    path: Path
    nat: str
    udp: bool
    fragmentation: bool
    peer_id: str
    age_s: float
    heard_s: float
    rekey_in_s: float | None
    hard_in_s: float | None


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """
    state: "up" (a child carries), "no-child" (an IKE SA, but nothing carries), "connecting", "waiting" (for the next attempt,
    or for traffic or the peer: next_attempt_s None), "down" (closed by the operator).

    refused: the lines of the refusal that explains most, by whom, and when (unix_ns; 0: none yet); see `Tunnel.explanation`.
    """

    name: str
    state: Word
    local_id: str
    remote_id: str
    ike: IkeView | None
    children: tuple[ChildView, ...]
    attempts_failed: int
    next_attempt_s: float | None
    ike_rekeys: int
    child_rekeys: int
    refused_by: str = ""
    refused_reason: str = ""
    refused_lines: tuple[str, ...] = ()
    refused_unix_ns: int = 0


def of(tunnel: Tunnel, ctx: Context, now: Now) -> ConnectionView:
    """The view of *tunnel*."""
    connection, lineage = tunnel.connection, tunnel.lineage
    refused, refused_ns = tunnel.explanation()
    return ConnectionView(
        name=tunnel.name,
        state=_state(tunnel),
        local_id=identities.text(connection.local_id),
        remote_id=identities.text(connection.remote_id),
        ike=_ike(lineage, ctx, now) if lineage is not None else None,
        children=tuple(_child(one, tunnel, ctx, now) for each in tunnel.lineages for one in each.children.values()),
        attempts_failed=tunnel.failures,
        next_attempt_s=_until(ctx.timers.at(tunnel, Timer.START), now),
        ike_rekeys=tunnel.ike_rekeys,
        child_rekeys=tunnel.child_rekeys,
        refused_by=refused.by if refused is not None else "",
        refused_reason=refused.reason if refused is not None else "",
        refused_lines=refused.lines if refused is not None else (),
        refused_unix_ns=refused_ns,
    )


def _state(tunnel: Tunnel) -> Word:
    if tunnel.carrier is not None:
        return "up"
    if tunnel.lineage is not None:
        return "no-child"
    if tunnel.lineages:
        return "connecting"
    # With a trap the next packet begins anew, also after it was ended by hand.
    begins = tunnel.wanted or tunnel.connection.start != "start" or tunnel.connection.dpd_action == "trap"
    return "waiting" if begins else "down"


def _ike(lineage: Lineage, ctx: Context, now: Now) -> IkeView:
    sa = lineage.current
    return IkeView(
        spi_i=sa.spi_i,
        spi_r=sa.spi_r,
        initiator=sa.initiator,
        proposal=sa.chosen.text if sa.chosen is not None else "",
        path=sa.path,
        nat=sa.nat.word,
        udp=sa.udp,
        fragmentation=sa.traits.fragmentation,
        peer_id=identities.text(lineage.tunnel.peer_id),
        age_s=(now.mono_ns - sa.established_ns) / NS_PER_S,
        heard_s=(now.mono_ns - sa.heard_ns) / NS_PER_S,
        rekey_in_s=_until(ctx.timers.at(sa, Timer.REKEY), now) if sa.state is State.ESTABLISHED else None,
        hard_in_s=_until(ctx.timers.at(sa, Timer.HARD), now),
    )


def _child(child: Child, tunnel: Tunnel, ctx: Context, now: Now) -> ChildView:
    if tunnel.carrier is child:
        state = "rekeying" if child.stage is Stage.REKEYING else "carrying"
    elif child.stage in {Stage.LIVE, Stage.REKEYING}:
        state = "waiting"
    else:
        state = child.stage.name.lower()
    return ChildView(
        spi_in=child.spi_in,
        spi_out=child.spi_out,
        proposal=child.chosen.text,
        suite=child.chosen.suite,
        mode="transport" if child.transport else "tunnel",
        esn=child.chosen.esn,
        local_ts=tuple(selectors.text(one) for one in child.local_ts),
        remote_ts=tuple(selectors.text(one) for one in child.remote_ts),
        initiator=child.initiated,
        state=state,
        age_s=(now.mono_ns - child.created_ns) / NS_PER_S,
        rekey_in_s=_until(ctx.timers.at(child, Timer.REKEY), now),
        hard_in_s=_until(child.hard_ns or None, now),
    )


def _until(at_ns: int | None, now: Now) -> float | None:
    return None if at_ns is None else (at_ns - now.mono_ns) / NS_PER_S
