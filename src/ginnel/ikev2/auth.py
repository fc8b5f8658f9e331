"""
IKE_AUTH: each side proves who it is, over what both said in IKE_SA_INIT; and mostly the first child.

    initiator signs  message 1 | Nr | prf(SK_pi, IDi)        responder signs  message 2 | Ni | prf(SK_pr, IDr)

Nothing is installed, and nothing that stands is touched, before the proof is believed. Then a child that cannot be agreed on
leaves the IKE SA as it is. With a responder that can (RFC 6023), the initiator of a connection with PFS asks for no child here,
and makes it by CREATE_CHILD_SA at once: a mismatch of the groups shows now and not at the first rekeying.

What is wrong is told to the peer as AUTHENTICATION_FAILED and no more, and to our people in full. EAP, PPK and the like are
refused in words.

Source: RFC 7296 1.2, 2.15, 2.21.2; RFC 6023; RFC 6290 4.1; RFC 4478.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ginnel.crypto.ike import prf_public
from ginnel.ikev2 import crash, explain, identities, lifetime, negotiate, proposals
from ginnel.ikev2.connection import CannotProve, Connection
from ginnel.ikev2.content import Content, notify_name
from ginnel.ikev2.create import CreateChild
from ginnel.ikev2.delete import DeleteIke, DeleteSpi
from ginnel.ikev2.init import requested
from ginnel.ikev2.liveness import Liveness
from ginnel.ikev2.negotiate import No, Offer
from ginnel.ikev2.sa import IkeSa, Kept, State
from ginnel.ikev2.timers import Timer
from ginnel.ikev2.tunnel import Cause
from ginnel.units import Now
from ginnel.wire.ikev2 import (
    Auth,
    CertEncoding,
    CertReq,
    Exchange,
    Id,
    IdI,
    IdR,
    Notify,
    NotifyType,
    Payload,
)

if TYPE_CHECKING:
    from ginnel.ikev2.tunnel import Tunnel

_EAP: Final = 48
_CONFIGURATION: Final = 47


def _octets(sa: IkeSa, identity: Id, *, of_initiator: bool, ours: bool) -> tuple[object, ...]:
    """What one side signs, in pieces."""
    kept, keys = _kept(sa), sa.keys
    assert keys is not None
    mac = prf_public(keys.hash, keys.sk_p_ours if ours else keys.sk_p_theirs, identity.body)
    if of_initiator:
        return kept.message_i, kept.nonce_r, mac
    return kept.message_r, kept.nonce_i, mac


def _kept(sa: IkeSa) -> Kept:
    assert sa.init is not None, "kept until the SA is established"
    return sa.init


def _proof(sa: IkeSa, connection: Connection, identity: Id, requested: Sequence[bytes]) -> list[Payload]:
    """CERT payloads and AUTH; CannotProve."""
    assert sa.keys is not None
    octets = _octets(sa, identity, of_initiator=sa.initiator, ours=True)
    auth = connection.proving.auth(octets, sa.keys.hash, sa.traits.hashes)
    return [*connection.proving.certificates(requested), auth]


def _judge(sa: IkeSa, connection: Connection, peer: Id, auth: Auth, content: Content, now: Now) -> str:
    assert sa.keys is not None
    octets = _octets(sa, peer, of_initiator=not sa.initiator, ours=False)
    return connection.believing.verify(octets, auth, content.certificates, peer, sa.keys.hash, now.unix_ns)


# ---------------------------------------------------------------- initiator


class Authenticate:
    """The initiator's side."""

    exchange = Exchange.IKE_AUTH
    inherited = True

    def __init__(self) -> None:
        self._offer: Offer | None = None

    def request(self, sa: IkeSa, now: Now) -> tuple[Payload, ...] | None:
        """Who we are, the proof, and an offer of a child."""
        connection, lineage = sa.connection, sa.lineage
        assert lineage is not None
        identity = IdI(connection.local_id.kind, connection.local_id.data)
        try:
            *certificates, auth = _proof(sa, connection, identity, _kept(sa).requested)
        except CannotProve as sentence:
            lineage.tunnel.tell("us", "authentication", (str(sentence),), now)
            lineage.tunnel.failed(lineage, now)
            return None
        payloads: list[Payload] = [identity, *certificates]
        requests = connection.believing.requests()
        if requests:
            payloads.append(CertReq(CertEncoding.X509_SIGNATURE, requests))
        if connection.remote_id is not None:
            payloads.append(IdR(connection.remote_id.kind, connection.remote_id.data))
        payloads.append(auth)
        if not any(one.established for one in lineage.tunnel.lineages):
            payloads.append(Notify(NotifyType.INITIAL_CONTACT))
        payloads.append(crash.notify(sa.ctx.crash_secret, sa.local_spi))
        if not (connection.childless and sa.traits.childless and any(proposals.groups(connection.child_proposals))):
            self._offer, child = negotiate.offer(sa, None)
            payloads += child
        return tuple(payloads)

    def abandoned(self, sa: IkeSa, _now: Now) -> None:
        """The SPI becomes no SA."""
        if self._offer is not None:
            negotiate.release(sa, self._offer)

    def response(self, sa: IkeSa, content: Content, now: Now) -> None:
        """Who the peer is, its proof, and the child."""
        lineage = sa.lineage
        assert lineage is not None
        tunnel, connection = lineage.tunnel, sa.connection
        reason, lines, by_peer = self._believe(sa, connection, content, now)
        if lines:
            self.abandoned(sa, now)
            tunnel.tell("peer" if by_peer else "us", reason, lines, now)
            if by_peer:
                tunnel.failed(lineage, now)
            else:
                # The peer takes the IKE SA for established: tell it (RFC 7296 2.21.2).
                sa.become(State.CLOSING)
                sa.want(DeleteIke("the peer was not believed", Cause.OURS, NotifyType.AUTHENTICATION_FAILED), now)
            return
        assert content.id_r is not None, "believed"
        sa.become(State.ESTABLISHED)
        sa.traits.token = crash.taken(content.notifies)
        tunnel.established(lineage, content.id_r, now)
        tried = tunnel.settle(lineage, now)
        if tried is not None:
            tried.current.want(Liveness(), now)
        lifetime.obey(sa, content, now)
        self._child(sa, content, now)
        sa.init = None

    def _believe(self, sa: IkeSa, connection: Connection, content: Content, now: Now) -> tuple[str, tuple[str, ...], bool]:
        """(reason, why not, whether it was the peer who refused); no lines: believed."""
        if content.auth is None or content.id_r is None:
            error = content.error()
            if _EAP in content.unknown:
                return "unsupported", explain.unsupported("eap"), False
            if error is None:
                return "other", explain.malformed("IKE_AUTH without ID or AUTH", by_peer=False), False
            if error.kind == NotifyType.AUTHENTICATION_FAILED:
                lines = explain.refused_by_peer(
                    connection.local_id, connection.remote_id, connection.proving.kind, connection.secret_name
                )
                return "authentication", lines, True
            if error.kind == NotifyType.INVALID_SYNTAX:
                return "other", explain.malformed("", by_peer=True), True
            if error.kind == NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD:
                return "other", explain.critical_payload(error.data[0] if error.data else 0, by_peer=True), True
            return "other", explain.other_error(notify_name(error.kind)), True
        peer = content.id_r
        if connection.remote_id is not None and not identities.same(connection.remote_id, peer):
            return "identity", explain.other_identity(connection.remote_id, peer), False
        sentence = _judge(sa, connection, peer, content.auth, content, now)
        if sentence:
            lines = explain.not_believed(sentence, peer, connection.remote_id, connection.secret_name)
            return _failure_reason(connection), lines, False
        return "", (), False

    def _child(self, sa: IkeSa, content: Content, now: Now) -> None:
        lineage = sa.lineage
        assert lineage is not None
        if self._offer is None:
            sa.want(CreateChild(), now)
            return
        error = content.error()
        if content.sa is None and error is not None:
            no = negotiate.refused_by_peer(sa, self._offer, error)
        else:
            made = negotiate.conclude(sa, self._offer, content, now, rekeyed=False)
            if not isinstance(made, No):
                if lineage.room(now, force=True):
                    lineage.install(made, now, at_once=True)
                    return
                no = negotiate.NO_ROOM
            else:
                no = made
            sa.want(DeleteSpi(self._offer.spi), now)
        negotiate.release(sa, self._offer)
        lineage.tunnel.refuse(no, now)
        lineage.tunnel.retry_child(lineage, now)


def _failure_reason(connection: Connection) -> str:
    return "certificate" if connection.believing.kind == "certificate" else "authentication"


# ---------------------------------------------------------------- responder


def answer(sa: IkeSa, content: Content, candidates: Sequence[Tunnel], now: Now) -> tuple[Payload, ...]:
    """
    The peer's proof.

    Args:
        candidates: the tunnels it may be for.
    """
    if content.id_i is None:
        return _refuse(sa, candidates, "other", explain.malformed("IKE_AUTH without IDi", by_peer=False), now)
    if content.auth is None:
        return _refuse(sa, candidates, "unsupported", explain.unsupported("eap"), now)
    peer = content.id_i
    # By the bytes first: a thousand connections are told apart without comparing names by their rules.
    exact = [one for one in candidates if (known := one.connection.remote_id) is not None and known.data == peer.data]
    fitting = _fitting(sa, exact, peer, content.id_r) or _fitting(sa, candidates, peer, content.id_r)
    if not fitting:
        return _refuse(sa, candidates, "identity", _nobody(peer, content.id_r, candidates), now)
    # Who is named comes before "%any".
    tunnel = min(fitting, key=lambda one: one.connection.remote_id is None)
    connection = tunnel.connection
    sentence = _judge(sa, connection, peer, content.auth, content, now)
    if sentence:
        lines = explain.not_believed(sentence, peer, connection.remote_id, connection.secret_name)
        return _refuse(sa, [tunnel], _failure_reason(connection), lines, now)
    if connection.encapsulation == "raw" and sa.nat.found:
        return _refuse(sa, [tunnel], "nat", explain.nat_found(sa.nat.word), now)
    identity = IdR(connection.local_id.kind, connection.local_id.data)
    try:
        *certificates, auth = _proof(sa, connection, identity, requested(content))
    except CannotProve as why:
        return _refuse(sa, [tunnel], "authentication", (str(why),), now)
    if _CONFIGURATION in content.unknown:
        tunnel.tell("us", "unsupported", explain.unsupported("config-payload"), now)
    tunnel.adopt(sa)
    lineage = sa.lineage
    assert lineage is not None
    sa.become(State.ESTABLISHED)
    sa.ctx.timers.cancel(sa, Timer.HALF_OPEN)
    sa.window.tempo(connection.retransmit_ns, connection.give_up_ns)
    sa.traits.token = crash.taken(content.notifies)
    tunnel.established(lineage, peer, now)
    tried = tunnel.settle(lineage, now)
    if tried is not None:
        tried.current.want(Liveness(), now)
    payloads: list[Payload] = [identity, *certificates, auth, crash.notify(sa.ctx.crash_secret, sa.local_spi)]
    if content.sa is not None:
        payloads += _child(sa, content, now)
    if content.has(NotifyType.INITIAL_CONTACT):
        tunnel.first_contact(lineage, now)
    sa.init = None
    return tuple(payloads)


def _nobody(peer: Id, asked: Id | None, candidates: Sequence[Tunnel]) -> tuple[str, ...]:
    """Why no tunnel is for the two identities: its own is another, or the peer's is."""
    connections = [one.connection for one in candidates]
    ours = [one.local_id for one in connections if one.remote_id is None or identities.same(one.remote_id, peer)]
    if asked is not None and ours and not any(identities.same(one, asked) for one in ours):
        return explain.other_asked_for(peer, asked, ours)
    return explain.unknown_identity(peer, [one.remote_id for one in connections], asked)


def _fitting(sa: IkeSa, candidates: Sequence[Tunnel], peer: Id, asked: Id | None) -> list[Tunnel]:
    """Those for *peer*, and for us as it calls us, that could have agreed on the IKE SA as it is."""
    return [
        one
        for one in candidates
        if (one.connection.remote_id is None or identities.same(one.connection.remote_id, peer))
        and (asked is None or identities.same(one.connection.local_id, asked))
        and _could_have_chosen(sa, one.connection)
    ]


def _child(sa: IkeSa, content: Content, now: Now) -> tuple[Payload, ...]:
    lineage = sa.lineage
    assert lineage is not None
    made = negotiate.accept(sa, content, now, ke=False, rekeyed=False) if lineage.room(now, force=True) else negotiate.NO_ROOM
    if isinstance(made, No):
        lineage.tunnel.refuse(made, now)
        return (made.notify,)
    lineage.install(made, now, at_once=False)
    return made.answer


def _could_have_chosen(sa: IkeSa, connection: Connection) -> bool:
    """Whether what IKE_SA_INIT agreed on is among this connection's proposals, which was not known then."""
    assert sa.chosen is not None
    offered = (sa.chosen.proposal,)
    return isinstance(proposals.select(offered, connection.ike_proposals, ke=True, ke_group=sa.chosen.group), proposals.Chosen)


def _refuse(sa: IkeSa, candidates: Sequence[Tunnel], reason: str, lines: tuple[str, ...], now: Now) -> tuple[Payload, ...]:
    """The half-open SA stays a while, only to give the same answer again."""
    if candidates:
        candidates[0].tell_of_stranger(reason, lines, now)
    sa.become(State.REFUSED)
    return (Notify(NotifyType.AUTHENTICATION_FAILED),)
