"""
Deleting, by INFORMATIONAL: child SAs, the IKE SA with all of them; and answering the peer's INFORMATIONAL requests.

- A DELETE of children names what its sender receives with. The answer names the other halves, but for those that we are
  deleting at the same
  time: then each side forgets (RFC 7296 1.4.1, 2.25.1).
- Of a child that was replaced, the DELETE is what switches: the responder of the rekeying sends with the new one from now on,
  and takes late packets with the old one for a while.
- A DELETE of the IKE SA is answered with nothing, also when we are sending one ourselves.

Source: RFC 7296 1.4, 1.4.1, 2.8, 2.25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ginnel.ikev2 import lifetime
from ginnel.ikev2.child import Stage
from ginnel.ikev2.sa import State
from ginnel.ikev2.tunnel import Cause
from ginnel.wire.ikev2 import Delete, Exchange, Notify, NotifyType, Payload, ProtocolId

if TYPE_CHECKING:
    from ginnel.ikev2.child import Child
    from ginnel.ikev2.content import Content
    from ginnel.ikev2.sa import IkeSa
    from ginnel.units import Now

#: Of SPIs that the peer deleted before its answer that made them came.
EARLY_MAX: Final = 16


class DeleteChild:
    """Delete a child that both sides have."""

    exchange = Exchange.INFORMATIONAL
    inherited = True

    def __init__(self, child: Child, why: str) -> None:
        self.child = child
        self._why = why

    def request(self, sa: IkeSa, now: Now) -> tuple[Payload, ...] | None:
        """DELETE with the SPI that we receive with; nothing leaves with the child any more."""
        child, lineage = self.child, sa.lineage
        if not child.agreed or child.stage is Stage.DELETING or lineage is None:
            return None
        if child.stage is Stage.REKEYING:
            child.become(Stage.LIVE)
        child.become(Stage.DELETING)
        heir = child.heir
        if heir is not None and lineage.tunnel.carrier is child:
            lineage.tunnel.carry(heir, now)
        lineage.tunnel.uncarry(child, self._why, now)
        return (Delete(ProtocolId.ESP, (child.spi_in.to_bytes(4, "big"),)),)

    def response(self, sa: IkeSa, _content: Content, now: Now) -> None:
        """The peer has it no more."""
        if sa.lineage is not None:
            sa.lineage.drop(self.child, now, self._why)
            sa.lineage.tunnel.retry_child(sa.lineage, now)

    def abandoned(self, sa: IkeSa, now: Now) -> None:
        """The IKE SA is gone, or its successor asks again."""


class DeleteSpi:
    """Delete what the peer believes to be a child of ours, though we did not take it."""

    exchange = Exchange.INFORMATIONAL
    inherited = True

    def __init__(self, spi: int) -> None:
        self._spi = spi

    def request(self, _sa: IkeSa, _now: Now) -> tuple[Payload, ...] | None:
        """DELETE with the SPI that we had offered."""
        return (Delete(ProtocolId.ESP, (self._spi.to_bytes(4, "big"),)),)

    def response(self, sa: IkeSa, content: Content, now: Now) -> None:
        """That is all."""

    def abandoned(self, sa: IkeSa, now: Now) -> None:
        """Nothing is left behind."""


class DeleteIke:
    """Close an IKE SA. error: say this in place of DELETE (of a peer that did not prove who it is)."""

    exchange = Exchange.INFORMATIONAL
    inherited = True

    def __init__(self, why: str, cause: Cause, error: NotifyType | None = None) -> None:
        self.why = why
        self.cause = cause
        self._error = error

    def request(self, sa: IkeSa, now: Now) -> tuple[Payload, ...] | None:
        """DELETE of the SA that the message belongs to."""
        sa.become(State.CLOSING)
        if sa.lineage is not None and sa.lineage.current is sa:
            sa.lineage.silence(self.why, now)
        if self._error is not None:
            return (Notify(self._error),)
        return (Delete(ProtocolId.IKE),)

    def response(self, sa: IkeSa, _content: Content, now: Now) -> None:
        """The peer has it no more."""
        sa.home.closed(sa, self.why, self.cause, now)

    def abandoned(self, sa: IkeSa, now: Now) -> None:
        """It is gone all the same."""


def answer(sa: IkeSa, content: Content, now: Now) -> tuple[Payload, ...]:
    """The peer's INFORMATIONAL request."""
    if content.has(NotifyType.AUTHENTICATION_FAILED):
        # An initiator that does not believe us says so when we already hold the SA for established (RFC 7296 2.21.2).
        sa.doomed = "the peer did not accept who we are (AUTHENTICATION_FAILED)"
        return ()
    if content.has(NotifyType.INVALID_SYNTAX):
        sa.doomed = "the peer could not read what we sent (INVALID_SYNTAX)"
        return ()
    lifetime.obey(sa, content, now)
    deleted: list[bytes] = []
    for payload in content.deletes:
        if payload.protocol == ProtocolId.IKE:
            sa.doomed = "the peer deleted the IKE SA"
            return ()
        if payload.protocol == ProtocolId.ESP:
            for spi in payload.spis:
                paired = _delete(sa, int.from_bytes(spi, "big"), now)
                if paired is not None:
                    deleted.append(paired.to_bytes(4, "big"))
    return (Delete(ProtocolId.ESP, tuple(deleted)),) if deleted else ()


def _delete(sa: IkeSa, spi: int, now: Now) -> int | None:
    """The peer deletes what it receives with *spi*. Gives what we receive with, None when there is nothing to name."""
    lineage = sa.lineage
    child = lineage.by_out(spi) if lineage is not None else None
    if lineage is None or child is None:
        if lineage is not None and len(lineage.deleted_early) < EARLY_MAX:
            lineage.deleted_early.add(spi)
        return None
    both = child.stage is Stage.DELETING
    lineage.drop(child, now, "the peer deleted the child SA")
    lineage.tunnel.retry_child(lineage, now)
    return None if both else child.spi_in
