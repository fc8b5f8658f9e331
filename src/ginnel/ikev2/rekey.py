"""
CREATE_CHILD_SA for the IKE SA itself: new keys under a new pair of SPIs, message ids from 0, everything else inherited by the
lineage.

Whoever asked deletes the old one. Collisions (RFC 7296 2.8.1, 2.25.2):

    the peer asks to rekey the IKE SA while we   create, rekey or delete a child   TEMPORARY_FAILURE
                                                 are closing it, or have replaced it  TEMPORARY_FAILURE
                                                 are rekeying it                   as usual: what it made is kept as `successor`

When our response comes, all four nonces are known: the exchange with the lowest made the redundant SA, which its initiator
deletes at once; the other becomes current, and its initiator deletes the old one. When the old one is deleted before our
response came, the peer's successor is current and our request is forgotten. A redundant SA that nobody deletes ends by itself
(Timer.SURPLUS).

Source: RFC 7296 1.3.2, 2.8, 2.18, 2.25.2; RFC 6290 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ginnel.crypto.ike import InvalidPublicValue, KeyExchange, KeyMaterial
from ginnel.ikev2 import crash, explain, keys, proposals
from ginnel.ikev2.child import OVERDUE_NS
from ginnel.ikev2.content import Content, notify_name
from ginnel.ikev2.create import BUSY_NS, BUSY_PART_NS, REFUSED_NS, CreateChild
from ginnel.ikev2.delete import DeleteChild, DeleteIke, DeleteSpi
from ginnel.ikev2.init import NO_SPI, fresh_spi
from ginnel.ikev2.keys import Exchanged
from ginnel.ikev2.negotiate import NONCE_BYTES
from ginnel.ikev2.proposals import Chosen, Difference
from ginnel.ikev2.sa import IkeSa, State
from ginnel.ikev2.timers import Timer
from ginnel.ikev2.tunnel import Cause
from ginnel.wire.ikev2 import Exchange, Ke, Nonce, Notify, NotifyType, Payload, Proposal, Sa, TransformType

if TYPE_CHECKING:
    from ginnel.ikev2.lineage import Lineage
    from ginnel.units import Now

_WHY: Final = "rekeyed"
#: IKE SAs of one lineage: the current one, two of a collision, and those that are not deleted yet.
IKE_SAS_MAX: Final = 6


@dataclass(slots=True)
class _Asked:
    spi: bytes
    nonce: bytes
    exchange: KeyExchange
    proposals: tuple[Proposal, ...]


class RekeyIke:
    """Ask for new keys of the IKE SA."""

    exchange = Exchange.CREATE_CHILD_SA
    inherited = False

    def __init__(self) -> None:
        self._group: int | None = None
        self._tried: set[int] = set()
        self._asked: _Asked | None = None

    def request(self, sa: IkeSa, _now: Now) -> tuple[Payload, ...] | None:
        """Proposals with our new SPI, a nonce, a key exchange."""
        lineage = sa.lineage
        if lineage is None or sa.state is not State.ESTABLISHED or lineage.current is not sa:
            return None
        configured = same_prf(sa)
        groups = [group for group in proposals.groups(configured) if group]
        known = sa.chosen.group if sa.chosen is not None else 0
        group = self._group or (known if known in groups else groups[0])
        self._tried.add(group)
        spi = fresh_spi(sa.ctx)
        asked = _Asked(spi, sa.ctx.entropy(NONCE_BYTES), KeyExchange(group), proposals.numbered(configured, spi))
        self._asked = asked
        return (
            Sa(asked.proposals),
            Nonce(asked.nonce),
            Ke(asked.exchange.group, asked.exchange.public),
            crash.notify(sa.ctx.crash_secret, spi),
        )

    def abandoned(self, sa: IkeSa, now: Now) -> None:
        """Nothing is left behind."""

    def response(self, sa: IkeSa, content: Content, now: Now) -> None:
        """A new IKE SA, or why not."""
        lineage, asked = sa.lineage, self._asked
        assert lineage is not None
        assert asked is not None
        error = content.error()
        if content.sa is None and error is not None:
            self._refused(sa, lineage, asked, error, now)
            return
        made = self._made(sa, asked, content, now)
        if isinstance(made, tuple):
            # What the peer holds for the new SA cannot be spoken to: begin anew, and let all of this go.
            lineage.tunnel.tell("us", "proposal", made, now)
            self._take_successor(sa, lineage, now)
            lineage.tunnel.renew(now)
            return
        theirs, sa.successor = sa.successor, None
        if theirs is not None and theirs.state is not State.GONE and made.low_nonce < theirs.low_nonce:
            # Ours holds the lowest nonce: it goes, and the peer deletes the old one.
            lineage.sas.append(made)
            lineage.promote(theirs, now)
            made.want(DeleteIke("redundant", Cause.REPLACED), now)
            return
        lineage.sas.append(made)
        if theirs is not None and theirs.state is not State.GONE:
            theirs.become(State.REPLACED)
            lineage.ctx.timers.arm(theirs, Timer.SURPLUS, now.mono_ns + OVERDUE_NS)
        lineage.promote(made, now)
        sa.want(DeleteIke(_WHY, Cause.REPLACED), now)

    def _made(self, sa: IkeSa, asked: _Asked, content: Content, now: Now) -> IkeSa | tuple[str, ...]:
        if content.sa is None or content.ke is None or content.nonce is None:
            return explain.malformed("no proposal, key exchange or nonce", by_peer=False)
        chosen = proposals.check_answer(content.sa.proposals, asked.proposals, ke=True)
        if isinstance(chosen, Difference):
            return explain.bad_answer("ike", content.sa.proposals, asked.proposals, chosen)
        if not content.ke.group == asked.exchange.group == chosen.group or len(chosen.proposal.spi) != 8:
            return explain.malformed("another key exchange than was chosen, or no SPI", by_peer=False)
        try:
            shared = asked.exchange.agree(content.ke.data)
        except InvalidPublicValue:
            return explain.malformed("a Diffie-Hellman value that is none", by_peer=False)
        said = Exchanged(asked.nonce, content.nonce.data, asked.spi, chosen.proposal.spi)
        new = inherit(sa, said, chosen, shared, now, initiator=True)
        new.traits.token = crash.taken(content.notifies)
        return new

    def _refused(self, sa: IkeSa, lineage: Lineage, asked: _Asked, error: Notify, now: Now) -> None:
        if self._take_successor(sa, lineage, now):
            return
        match error.kind:
            case NotifyType.TEMPORARY_FAILURE:
                self._later(sa, BUSY_NS + sa.ctx.part(BUSY_PART_NS), now)
                return
            case NotifyType.INVALID_KE_PAYLOAD:
                group = int.from_bytes(error.data[:2], "big")
                if group and group in proposals.groups(asked.proposals) and group not in self._tried:
                    self._group = group
                    sa.want(self, now, first=True)
                    return
                lines = explain.group_refused(group, asked.proposals)
            case NotifyType.NO_PROPOSAL_CHOSEN:
                lines = explain.proposal_refused("ike", asked.proposals)
            case NotifyType.NO_ADDITIONAL_SAS:
                lines = explain.busy("NO_ADDITIONAL_SAS")
                lineage.tunnel.renew(now)
            case kind:
                lines = explain.other_error(notify_name(kind))
        lineage.tunnel.tell("peer", "proposal", lines, now)
        self._later(sa, REFUSED_NS, now)

    def _take_successor(self, sa: IkeSa, lineage: Lineage, now: Now) -> bool:
        """The peer's own rekeying, if there was one at the same time, is what counts."""
        theirs, sa.successor = sa.successor, None
        if theirs is None or theirs.state is State.GONE:
            return False
        lineage.promote(theirs, now)
        return True

    def _later(self, sa: IkeSa, after_ns: int, now: Now) -> None:
        sa.ctx.timers.arm(sa, Timer.REKEY, now.mono_ns + after_ns)


def same_prf(sa: IkeSa) -> tuple[Proposal, ...]:
    """
    The configured proposals with the PRF that the SA has, where there are such. Which of two PRFs expands the new keys is read
    differently by different peers (RFC 7296 2.18: the new one; strongSwan: the old one); with one there is nothing to read.
    """
    configured = sa.connection.ike_proposals
    kept: list[Proposal] = []
    for one in configured:
        transforms = tuple(
            each for each in one.transforms if each.kind != TransformType.PRF or (sa.chosen and each == sa.chosen.prf)
        )
        if any(each.kind == TransformType.PRF for each in transforms):
            kept.append(replace(one, transforms=transforms))
    return tuple(kept) or configured


def inherit(sa: IkeSa, said: Exchanged, chosen: Chosen, shared: KeyMaterial, now: Now, *, initiator: bool) -> IkeSa:
    """The IKE SA that follows *sa*; it belongs to the same lineage, but is not current yet."""
    assert sa.keys is not None
    new = IkeSa(sa.ctx, sa.home, said.spi_i, said.spi_r, sa.path, now, initiator=initiator, state=State.ESTABLISHED)
    new.lineage = sa.lineage
    new.nat = sa.nat
    new.traits.fragmentation = sa.traits.fragmentation
    new.traits.childless = sa.traits.childless
    new.traits.hashes = sa.traits.hashes
    new.window.tempo(sa.connection.retransmit_ns, sa.connection.give_up_ns)
    new.established_ns = now.mono_ns
    new.low_nonce = min(said.nonce_i, said.nonce_r)
    new.keyed(keys.of_ike(chosen, shared, said, initiator=initiator, old=sa.keys, debug=sa.ctx.debug_keys), chosen)
    sa.home.register(new)
    return new


def answer(sa: IkeSa, content: Content, now: Now) -> tuple[Payload, ...]:
    """The peer asks for new keys of the IKE SA."""
    lineage = sa.lineage
    assert lineage is not None
    assert content.sa is not None, "that is how it was told apart"
    at_a_child = isinstance(sa.active, CreateChild | DeleteChild | DeleteSpi)
    full = len(lineage.sas) >= IKE_SAS_MAX
    if full or sa.state is not State.ESTABLISHED or lineage.current is not sa or at_a_child or sa.successor is not None:
        return (Notify(NotifyType.TEMPORARY_FAILURE),)
    if content.ke is None or content.nonce is None:
        return (Notify(NotifyType.INVALID_SYNTAX),)
    chosen = proposals.select(content.sa.proposals, same_prf(sa), ke=True, ke_group=content.ke.group)
    if isinstance(chosen, Difference):
        chosen = proposals.select(content.sa.proposals, sa.connection.ike_proposals, ke=True, ke_group=content.ke.group)
    if isinstance(chosen, Difference):
        lines = explain.no_proposal("ike", content.sa.proposals, sa.connection.ike_proposals, chosen)
        lineage.tunnel.tell("us", "proposal", lines, now)
        return (Notify(NotifyType.NO_PROPOSAL_CHOSEN),)
    if chosen.group != content.ke.group:
        return (Notify(NotifyType.INVALID_KE_PAYLOAD, chosen.group.to_bytes(2, "big")),)
    if len(chosen.proposal.spi) != 8 or chosen.proposal.spi == NO_SPI:
        return (Notify(NotifyType.INVALID_SYNTAX),)
    exchange = KeyExchange(chosen.group)
    try:
        shared = exchange.agree(content.ke.data)
    except InvalidPublicValue:
        return (Notify(NotifyType.INVALID_SYNTAX),)
    said = Exchanged(content.nonce.data, sa.ctx.entropy(NONCE_BYTES), chosen.proposal.spi, fresh_spi(sa.ctx))
    new = inherit(sa, said, chosen, shared, now, initiator=False)
    new.unsure_in = sa
    new.traits.token = crash.taken(content.notifies)
    lineage.sas.append(new)
    if isinstance(sa.active, RekeyIke):
        sa.successor = new
    else:
        lineage.promote(new, now)
    answered = Proposal(chosen.proposal.number, chosen.proposal.protocol, said.spi_r, chosen.proposal.transforms)
    return (
        Sa((answered,)),
        Nonce(said.nonce_r),
        Ke(exchange.group, exchange.public),
        crash.notify(sa.ctx.crash_secret, said.spi_r),
    )
