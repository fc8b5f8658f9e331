"""
What a child SA is, agreed on: proposal, keys, selectors, mode. For the child of IKE_AUTH and for those of CREATE_CHILD_SA alike.

Initiator: `offer` gives payloads, `conclude` judges what came back. Responder: `accept`. Each gives a `Made` (a child and its
keys, nothing installed yet), or a `No` that says what to tell the peer and what to tell a person.

Rules: the child of IKE_AUTH has no nonces and no key exchange of its own. Transport mode is ours to ask for (or to agree to)
where it is configured; where it is and the other side does not have it, there is no child. Selectors left to "dynamic" are the
addresses of the IKE SA.

Source: RFC 7296 1.2, 1.3, 2.7, 2.9, 2.17, 2.23.1; RFC 4303.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from ginnel.crypto.ike import InvalidPublicValue, KeyExchange, KeyMaterial
from ginnel.ikev2 import explain, keys, proposals, selectors
from ginnel.ikev2.child import Child
from ginnel.ikev2.content import Content, notify_name
from ginnel.ikev2.effects import AddInbound, ReleaseSpi, SetOutbound
from ginnel.ikev2.keys import ChildKeys
from ginnel.ikev2.proposals import Chosen, Difference
from ginnel.units import Now
from ginnel.wire.ikev2 import (
    Ke,
    Nonce,
    Notify,
    NotifyType,
    Payload,
    Proposal,
    Sa,
    Selector,
    TransformType,
    TsI,
    TsR,
)

if TYPE_CHECKING:
    from ginnel.ikev2.sa import IkeSa

NONCE_BYTES: Final = 32
#: RFC 4303 2.1: 0 to 255 are reserved.
SPI_MIN: Final = 256
Reason = Literal["proposal", "selectors", "mode", "busy", "other"]


@dataclass(frozen=True, slots=True)
class No:
    """No child. notify: what the peer is told; reason and lines: what a person is. by: who refused."""

    notify: Notify
    reason: Reason
    lines: tuple[str, ...]
    by: Literal["us", "peer"] = "us"


@dataclass(slots=True)
class Offer:
    """What we asked for, kept until it is answered. nonce, exchange: of CREATE_CHILD_SA, none in IKE_AUTH."""

    spi: int
    proposals: tuple[Proposal, ...]
    local_ts: tuple[Selector, ...]
    remote_ts: tuple[Selector, ...]
    nonce: bytes
    exchange: KeyExchange | None


@dataclass(frozen=True, slots=True)
class Made:
    """A child, and how it begins. answer: for the peer, of a responder."""

    child: Child
    inbound: AddInbound
    keys: ChildKeys
    answer: tuple[Payload, ...] = ()


def wanted_selectors(sa: IkeSa) -> tuple[tuple[Selector, ...], tuple[Selector, ...]]:
    """Ours and the peer's as configured, with addresses."""
    connection = sa.connection
    local = connection.local_ts
    remote = connection.remote_ts
    if local is None:
        local = (selectors.host(sa.path.local, connection.dynamic_protocol),)
    if remote is None:
        remote = (selectors.host(sa.path.remote, connection.dynamic_protocol),)
    return local, remote


def offer(sa: IkeSa, group: int | None) -> tuple[Offer, tuple[Payload, ...]]:
    """
    Ask for a child.

    Args:
        group: for the key exchange; 0: without one; None: in IKE_AUTH, where there are no nonces either.
    """
    connection = sa.connection
    spi = sa.ctx.reserve_spi(connection.name)
    configured = connection.child_proposals if group is not None else proposals.without_ke(connection.child_proposals)
    offered = proposals.numbered(configured, spi.to_bytes(4, "big"))
    local_ts, remote_ts = wanted_selectors(sa)
    nonce = sa.ctx.entropy(NONCE_BYTES) if group is not None else b""
    exchange = KeyExchange(group) if group else None
    payloads: list[Payload] = [Notify(NotifyType.USE_TRANSPORT_MODE)] if connection.transport else []
    payloads.append(Notify(NotifyType.ESP_TFC_PADDING_NOT_SUPPORTED))
    payloads.append(Sa(offered))
    if nonce:
        payloads.append(Nonce(nonce))
    if exchange is not None:
        payloads.append(Ke(exchange.group, exchange.public))
    payloads += [TsI(local_ts), TsR(remote_ts)]
    return Offer(spi, offered, local_ts, remote_ts, nonce, exchange), tuple(payloads)


def conclude(sa: IkeSa, asked: Offer, content: Content, now: Now, *, rekeyed: bool) -> Made | No:
    """Judge the response to an `offer`; an error notify in it has been looked at before."""
    if content.sa is None or content.ts_i is None or content.ts_r is None:
        return _malformed("a response without a proposal or selectors")
    chosen = proposals.check_answer(content.sa.proposals, asked.proposals, ke=bool(asked.nonce))
    if isinstance(chosen, Difference):
        lines = explain.bad_answer("esp", content.sa.proposals, asked.proposals, chosen)
        return No(Notify(NotifyType.NO_PROPOSAL_CHOSEN), "proposal", lines)
    if int.from_bytes(chosen.proposal.spi, "big") < SPI_MIN:
        return _malformed("an SPI that is reserved")
    transport = content.has(NotifyType.USE_TRANSPORT_MODE)
    if transport != sa.connection.transport:
        return _mode(sa, by_peer=True)
    local_ts, remote_ts = _as_seen_here(sa, content.ts_i.selectors, content.ts_r.selectors)
    for answer, ours in ((local_ts, asked.local_ts), (remote_ts, asked.remote_ts)):
        if not selectors.within(answer, ours):
            return No(Notify(NotifyType.TS_UNACCEPTABLE), "selectors", explain.selectors_widened(answer, ours))
    limit = selectors.pairs_max(asked.local_ts, asked.remote_ts)
    if len(local_ts) * len(remote_ts) > limit:
        lines = explain.selectors_in_pieces(len(local_ts), len(remote_ts), limit)
        return No(Notify(NotifyType.TS_UNACCEPTABLE), "selectors", lines)
    if not selectors.for_engine(local_ts, remote_ts):
        # Of no family or protocol in common: no packet could pass, and to the engine an empty list means that all may.
        lines = explain.selectors_widened(remote_ts, asked.remote_ts)
        return No(Notify(NotifyType.TS_UNACCEPTABLE), "selectors", lines)
    shared: KeyMaterial | None = None
    if asked.nonce:
        if content.nonce is None:
            return _malformed("a response without a nonce")
        if chosen.group:
            if asked.exchange is None or content.ke is None or not content.ke.group == asked.exchange.group == chosen.group:
                return _malformed("a response without the key exchange that it chose")
            try:
                shared = asked.exchange.agree(content.ke.data)
            except InvalidPublicValue:
                return _malformed("a Diffie-Hellman value that is none")
        nonces = (asked.nonce, content.nonce.data)
    else:
        nonces = _nonces_of(sa)
    return _make(
        sa,
        chosen,
        asked.spi,
        shared,
        nonces,
        now,
        initiator=True if asked.nonce else sa.initiator,
        transport=transport,
        local_ts=local_ts,
        remote_ts=remote_ts,
        rekeyed=rekeyed,
    )


def _as_seen_here(
    sa: IkeSa, local_ts: tuple[Selector, ...], remote_ts: tuple[Selector, ...]
) -> tuple[tuple[Selector, ...], tuple[Selector, ...]]:
    """
    The answer's selectors. Of transport mode through a NAT they name the addresses that the responder sees: ours in their place.

    Source: RFC 7296, 2.23.1.
    """
    if not sa.connection.transport:
        return local_ts, remote_ts
    if sa.nat.us:
        local_ts = selectors.substituted(local_ts, sa.path.local)
    if sa.nat.peer:
        remote_ts = selectors.substituted(remote_ts, sa.path.remote)
    return local_ts, remote_ts


def accept(sa: IkeSa, content: Content, now: Now, *, ke: bool, rekeyed: bool) -> Made | No:
    """
    Judge the peer's offer.

    Args:
        ke: in CREATE_CHILD_SA, with nonces and perhaps a key exchange; not in IKE_AUTH.
        rekeyed: it is to take another's place.
    """
    connection = sa.connection
    if content.sa is None or content.ts_i is None or content.ts_r is None or (ke and content.nonce is None):
        return _malformed("a request without a proposal, selectors or nonce")
    offered = content.sa.proposals
    configured = connection.child_proposals
    their_group = content.ke.group if content.ke is not None else None
    chosen = proposals.select(offered, configured, ke=ke, ke_group=their_group)
    if isinstance(chosen, Difference):
        pfs = ke and chosen.kind == TransformType.KE
        lines = explain.pfs_mismatch(offered, configured) if pfs else explain.no_proposal("esp", offered, configured, chosen)
        return No(Notify(NotifyType.NO_PROPOSAL_CHOSEN), "proposal", lines)
    if int.from_bytes(chosen.proposal.spi, "big") < SPI_MIN:
        return _malformed("an SPI that is reserved")
    if ke and chosen.group and chosen.group != their_group:
        wanted = Notify(NotifyType.INVALID_KE_PAYLOAD, chosen.group.to_bytes(2, "big"))
        return No(wanted, "proposal", ())
    asked_transport = content.has(NotifyType.USE_TRANSPORT_MODE)
    if connection.transport and not asked_transport:
        return _mode(sa, by_peer=False)
    narrowed = _narrowed(sa, content.ts_i.selectors, content.ts_r.selectors)
    if isinstance(narrowed, No):
        return narrowed
    local_ts, remote_ts, answer_i, answer_r = narrowed
    answer: list[Payload] = [Notify(NotifyType.USE_TRANSPORT_MODE)] if connection.transport else []
    answer.append(Notify(NotifyType.ESP_TFC_PADDING_NOT_SUPPORTED))
    shared: KeyMaterial | None = None
    exchange: KeyExchange | None = None
    if ke:
        assert content.nonce is not None, "looked at above"
        if chosen.group and content.ke is not None:
            exchange = KeyExchange(chosen.group)
            try:
                shared = exchange.agree(content.ke.data)
            except InvalidPublicValue:
                return _malformed("a Diffie-Hellman value that is none")
        nonces = (content.nonce.data, sa.ctx.entropy(NONCE_BYTES))
    else:
        nonces = _nonces_of(sa)
    spi = sa.ctx.reserve_spi(connection.name)
    answer.append(Sa((replace(chosen.proposal, spi=spi.to_bytes(4, "big")),)))
    if ke:
        answer.append(Nonce(nonces[1]))
    if exchange is not None:
        answer.append(Ke(exchange.group, exchange.public))
    answer += [TsI(answer_i), TsR(answer_r)]
    made = _make(
        sa,
        chosen,
        spi,
        shared,
        nonces,
        now,
        initiator=False if ke else sa.initiator,
        transport=connection.transport,
        local_ts=local_ts,
        remote_ts=remote_ts,
        rekeyed=rekeyed,
    )
    return replace(made, answer=tuple(answer))


def _narrowed(
    sa: IkeSa, theirs_i: tuple[Selector, ...], theirs_r: tuple[Selector, ...]
) -> tuple[tuple[Selector, ...], tuple[Selector, ...], tuple[Selector, ...], tuple[Selector, ...]] | No:
    """(ours, the peer's) as installed, (TSi, TSr) as answered: we are the responder, so that TSr is ours."""
    local, remote = wanted_selectors(sa)
    refused = No(Notify(NotifyType.TS_UNACCEPTABLE), "selectors", explain.selectors_refused(theirs_r, theirs_i, local, remote))
    if sa.connection.transport and sa.nat.found:
        ours = selectors.narrow_through_nat(theirs_r, local, sa.path.local)
        others = selectors.narrow_through_nat(theirs_i, remote, sa.path.remote)
    else:
        mine, peers = selectors.narrow(theirs_r, local), selectors.narrow(theirs_i, remote)
        ours, others = (mine, mine) if mine else None, (peers, peers) if peers else None
    if ours is None or others is None:
        return refused
    here, there = selectors.taken(len(ours[0]), len(others[0]), selectors.pairs_max(local, remote))
    # What has no family or protocol in common lets no packet pass; to the engine an empty list means that all may.
    if not selectors.for_engine(ours[0][:here], others[0][:there]):
        return refused
    return ours[0][:here], others[0][:there], others[1][:there], ours[1][:here]


def _make(
    sa: IkeSa,
    chosen: Chosen,
    spi_in: int,
    shared: KeyMaterial | None,
    nonces: tuple[bytes, bytes],
    now: Now,
    *,
    initiator: bool,
    transport: bool,
    local_ts: tuple[Selector, ...],
    remote_ts: tuple[Selector, ...],
    rekeyed: bool,
) -> Made:
    assert sa.keys is not None, "the IKE SA has keys"
    connection = sa.connection
    name, suite = connection.name, chosen.suite
    spi_out = int.from_bytes(chosen.proposal.spi, "big")
    made = keys.of_child(chosen, sa.keys, shared, nonces[0] + nonces[1], initiator=initiator, debug=sa.ctx.debug_keys)
    hard_ns = now.mono_ns + connection.rekey_ns * 11 // 10 if connection.rekey_ns else 0
    limits = (hard_ns, connection.rekey_bytes, connection.rekey_packets)
    inbound = AddInbound(
        name, spi_in, suite, made.inbound, transport, chosen.esn, connection.replay_window, remote_ts, local_ts, *limits
    )
    outbound = SetOutbound(
        name, spi_out, suite, made.outbound, transport, chosen.esn, sa.esp_path(), sa.udp, local_ts, remote_ts, *limits
    )
    child = Child(
        spi_in,
        spi_out,
        chosen,
        transport,
        local_ts,
        remote_ts,
        initiator,
        min(nonces),
        now.mono_ns,
        hard_ns,
        outbound,
        rekeyed,
    )
    return Made(child, inbound, made)


def _nonces_of(sa: IkeSa) -> tuple[bytes, bytes]:
    """Of IKE_SA_INIT, which the child of IKE_AUTH shares."""
    kept = sa.init
    assert kept is not None, "kept until the SA is established"
    return kept.nonce_i, kept.nonce_r


def _mode(sa: IkeSa, *, by_peer: bool) -> No:
    lines = explain.mode_mismatch(ours_transport=sa.connection.transport, by_peer=by_peer)
    return No(Notify(NotifyType.NO_PROPOSAL_CHOSEN), "mode", lines)


#: All four inbound SAs of the tunnel are in use.
NO_ROOM: Final = No(
    Notify(NotifyType.NO_ADDITIONAL_SAS), "busy", ("the tunnel has as many inbound SAs as it can have: no further child is made",)
)


def release(sa: IkeSa, asked: Offer) -> None:
    """The SPI of an offer that became no child."""
    sa.ctx.emit(ReleaseSpi(sa.name, asked.spi))


def _malformed(sentence: str) -> No:
    return No(Notify(NotifyType.INVALID_SYNTAX), "other", explain.malformed(sentence, by_peer=False))


def refused_by_peer(sa: IkeSa, asked: Offer, error: Notify) -> No:
    """The peer answered an `offer` with an error."""
    match error.kind:
        case NotifyType.NO_PROPOSAL_CHOSEN:
            return No(error, "proposal", explain.proposal_refused("esp", asked.proposals), "peer")
        case NotifyType.TS_UNACCEPTABLE:
            lines = explain.selectors_refused_by_peer(
                asked.local_ts, asked.remote_ts, transport=sa.connection.transport, nat=sa.nat.found
            )
            return No(error, "selectors", lines, "peer")
        case NotifyType.INVALID_KE_PAYLOAD:
            wanted = int.from_bytes(error.data[:2], "big")
            return No(error, "proposal", explain.group_refused(wanted, asked.proposals, "esp"), "peer")
        case NotifyType.NO_ADDITIONAL_SAS | NotifyType.TEMPORARY_FAILURE:
            return No(error, "busy", explain.busy(NotifyType(error.kind).name), "peer")
        case NotifyType.INVALID_SYNTAX:
            return No(error, "other", explain.malformed("", by_peer=True), "peer")
        case _:
            return No(error, "other", explain.other_error(notify_name(error.kind)), "peer")
