"""
IKE_SA_INIT: the first exchange, in the open: algorithms, Diffie-Hellman, nonces, NAT detection, what each side can do.

Initiator: `Initiate`. The same nonce and SPI go through all rounds: COOKIE (answer it, everything else unchanged),
INVALID_KE_PAYLOAD (another group, each once, the same proposals), in any order; `ROUNDS_MAX` in all. Responder: `answer`, after
cookies and limits were looked at (`ike`), so that a Diffie-Hellman result is only computed for those who passed.

Notifies in these messages are nobody's word: they move an attempt along or end it, and touch nothing that stands.

Source: RFC 7296 1.2, 2.6, 2.6.1, 2.7, 2.23; RFC 7383 2.3; RFC 7427 4; RFC 6023 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from socket import AF_INET, AF_INET6, inet_ntop
from typing import TYPE_CHECKING, Final

from ginnel.crypto.ike import InvalidPublicValue, KeyExchange
from ginnel.ikev2 import explain, keys, nat, proposals
from ginnel.ikev2.connection import Connection
from ginnel.ikev2.content import Content, notify_name
from ginnel.ikev2.context import Context
from ginnel.ikev2.cookies import COOKIE_MAX_BYTES
from ginnel.ikev2.drops import Drop
from ginnel.ikev2.effects import Path
from ginnel.ikev2.keys import Exchanged
from ginnel.ikev2.negotiate import NONCE_BYTES
from ginnel.ikev2.proposals import Chosen, Difference
from ginnel.ikev2.sa import Home, IkeSa, Kept, State
from ginnel.ikev2.tunnel import Tunnel
from ginnel.units import Now
from ginnel.wire.ikev2 import (
    CertEncoding,
    CertReq,
    Exchange,
    Header,
    Ke,
    Message,
    Nonce,
    Notify,
    NotifyType,
    Payload,
    Sa,
    build,
)

if TYPE_CHECKING:
    from ginnel.ikev2.lineage import Lineage

NO_SPI: Final = bytes(8)
#: Cookie and group may both be asked for, the cookie again since its secret changed, and each group once.
ROUNDS_MAX: Final = 8
#: Of RFC 7427: SHA2-256, -384, -512, and "identity" (Ed25519, RFC 8420).
HASHES: Final = (2, 3, 4, 5)


def local_port(connection: Connection, path: Path) -> int:
    """Which port of ours *path* begins at."""
    return connection.natt_port if path.natt else connection.port


def _abilities(connection: Connection) -> list[Payload]:
    hashes = b"".join(one.to_bytes(2, "big") for one in HASHES)
    found: list[Payload] = [Notify(NotifyType.SIGNATURE_HASH_ALGORITHMS, hashes)]
    if connection.fragmentation:
        found.append(Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED))
    return found


def _note_abilities(sa: IkeSa, content: Content, connection: Connection) -> None:
    sa.traits.fragmentation = connection.fragmentation and content.has(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED)
    sa.traits.childless = content.has(NotifyType.CHILDLESS_IKEV2_SUPPORTED)
    hashes = content.notifies.get(NotifyType.SIGNATURE_HASH_ALGORITHMS)
    if hashes is not None:
        found = hashes.data[:128]
        sa.traits.hashes = frozenset(int.from_bytes(found[at : at + 2], "big") for at in range(0, len(found) - 1, 2))


def _nat_payloads(ctx: Context, connection: Connection, spi_i: bytes, spi_r: bytes, path: Path) -> tuple[Notify, Notify]:
    bogus = ctx.entropy(20) if connection.encapsulation == "udp" else b""
    return nat.notifies(spi_i, spi_r, path.local, local_port(connection, path), path.remote, path.remote_port, bogus)


def _note_nat(sa: IkeSa, payloads: Sequence[Payload], spi_r: bytes, path: Path, connection: Connection) -> None:
    found = nat.detect(payloads, sa.spi_i, spi_r, path.local, local_port(connection, path), path.remote, path.remote_port)
    if found is not None:
        sa.nat = found


def requested(content: Content) -> tuple[bytes, ...]:
    """The hashes of the authorities that the peer takes, each 20 bytes."""
    found: list[bytes] = []
    for one in content.certificate_requests:
        if one.encoding == CertEncoding.X509_SIGNATURE:
            found += [one.data[at : at + 20] for at in range(0, len(one.data) - 19, 20)]
    return tuple(found)


# ---------------------------------------------------------------- initiator


class Initiate:
    """The initiator's side, from the first message until keys are made; then *proceed* is called."""

    exchange = Exchange.IKE_SA_INIT
    inherited = True

    def __init__(self, tunnel: Tunnel, lineage: Lineage, ctx: Context) -> None:
        self._tunnel = tunnel
        self._lineage = lineage
        connection = tunnel.connection
        groups = [group for group in proposals.groups(connection.ike_proposals) if group]
        self._groups = groups
        self._group = tunnel.group if tunnel.group in groups else groups[0]
        self._tried = {self._group}
        self._nonce = ctx.entropy(NONCE_BYTES)
        self._ke = KeyExchange(self._group)
        self._cookie: bytes | None = None
        self._rounds = 0
        self._offered = proposals.numbered(connection.ike_proposals, b"")
        self._sent = b""

    def send(self, sa: IkeSa, now: Now) -> None:
        """The request, as it has to be by now."""
        self._rounds += 1
        connection = self._tunnel.connection
        payloads: list[Payload] = [] if self._cookie is None else [Notify(NotifyType.COOKIE, self._cookie)]
        payloads += [Sa(self._offered), Ke(self._ke.group, self._ke.public), Nonce(self._nonce)]
        payloads += _nat_payloads(sa.ctx, connection, sa.spi_i, NO_SPI, sa.path)
        payloads += _abilities(connection)
        self._sent = build(Message(Header(sa.spi_i, NO_SPI, Exchange.IKE_SA_INIT, True, False, 0), tuple(payloads)))
        sa.window.next_id = 0
        sa.ask_openly(self, self._sent, now)

    def request(self, _sa: IkeSa, _now: Now) -> tuple[Payload, ...] | None:
        """Never asked for: it goes out by `send`."""
        raise AssertionError("IKE_SA_INIT is not sealed")

    def response(self, _sa: IkeSa, _content: Content, _now: Now) -> None:
        """Never given: it comes by `receive`."""
        raise AssertionError("IKE_SA_INIT is not sealed")

    def abandoned(self, sa: IkeSa, now: Now) -> None:
        """Nothing is left behind."""

    def receive(self, sa: IkeSa, data: bytes, message: Message, content: Content, path: Path, now: Now) -> bool:
        """
        A response to our request: it may be anybody's who saw that.

        Returns:
            Whether there are keys now, and IKE_AUTH is next.
        """
        if content.sa is not None and content.ke is not None and content.nonce is not None:
            return self._agree(sa, data, message, content, path, now)
        cookie, wanted = content.notifies.get(NotifyType.COOKIE), content.notifies.get(NotifyType.INVALID_KE_PAYLOAD)
        if self._rounds >= ROUNDS_MAX:
            return self._give_up(sa, "other", (f"the peer asks for another round for the {self._rounds + 1}th time",), now)
        if cookie is not None and content.error() is None:
            if not 1 <= len(cookie.data) <= COOKIE_MAX_BYTES:
                return self._give_up(sa, "other", ("the peer sent a cookie that is none",), now)
            self._cookie = cookie.data
            sa.answered_openly()
            self.send(sa, now)
            return False
        if wanted is not None:
            group = int.from_bytes(wanted.data[:2], "big")
            if group not in self._groups or group in self._tried:
                return self._give_up(sa, "proposal", explain.group_refused(group, self._offered), now)
            self._tried.add(group)
            self._group, self._ke = group, KeyExchange(group)
            sa.answered_openly()
            self.send(sa, now)
            return False
        if content.has(NotifyType.REDIRECT):
            return self._give_up(sa, "unsupported", explain.unsupported("redirect"), now)
        error = content.error()
        match error.kind if error is not None else None:
            case NotifyType.NO_PROPOSAL_CHOSEN:
                return self._give_up(sa, "proposal", explain.proposal_refused("ike", self._offered), now, by_peer=True)
            case NotifyType.INVALID_SYNTAX:
                return self._give_up(sa, "other", explain.malformed("", by_peer=True), now, by_peer=True)
            case None:
                return self._give_up(sa, "other", explain.malformed("no proposal, key exchange or nonce", by_peer=False), now)
            case kind:
                return self._give_up(sa, "other", explain.other_error(notify_name(kind)), now, by_peer=True)

    def _agree(self, sa: IkeSa, data: bytes, message: Message, content: Content, path: Path, now: Now) -> bool:
        assert content.sa is not None
        assert content.ke is not None
        assert content.nonce is not None
        connection = self._tunnel.connection
        chosen = proposals.check_answer(content.sa.proposals, self._offered, ke=True)
        if isinstance(chosen, Difference):
            return self._give_up(sa, "proposal", explain.bad_answer("ike", content.sa.proposals, self._offered, chosen), now)
        if not content.ke.group == self._ke.group == chosen.group or message.header.spi_r == NO_SPI:
            sentence = "another key exchange than was chosen, or no SPI"
            return self._give_up(sa, "other", explain.malformed(sentence, by_peer=False), now)
        _note_nat(sa, message.payloads, message.header.spi_r, path, connection)
        if connection.encapsulation == "raw" and sa.nat.found:
            return self._give_up(sa, "nat", explain.nat_found(sa.nat.word), now)
        try:
            shared = self._ke.agree(content.ke.data)
        except InvalidPublicValue:
            sentence = "a Diffie-Hellman value that is none"
            return self._give_up(sa, "other", explain.malformed(sentence, by_peer=False), now)
        sa.answered_openly()
        sa.spi_r = message.header.spi_r
        said = Exchanged(self._nonce, content.nonce.data, sa.spi_i, sa.spi_r)
        sa.keyed(keys.of_ike(chosen, shared, said, initiator=True, debug=sa.ctx.debug_keys), chosen)
        sa.low_nonce = min(said.nonce_i, said.nonce_r)
        sa.init = Kept(said.nonce_i, said.nonce_r, self._sent, data, requested(content))
        _note_abilities(sa, content, connection)
        self._tunnel.group = chosen.group
        sa.path = path
        if sa.nat.found or connection.encapsulation == "udp":
            sa.path = Path(path.local, path.remote, connection.natt_port, True)
        sa.become(State.PROVING)
        return True

    def _give_up(self, _sa: IkeSa, reason: str, lines: tuple[str, ...], now: Now, *, by_peer: bool = False) -> bool:
        self._tunnel.tell("peer" if by_peer else "us", reason, lines, now)
        self._tunnel.failed(self._lineage, now)
        return False


# ---------------------------------------------------------------- responder


def answer(
    ctx: Context,
    home: Home,
    candidates: Sequence[Connection],
    data: bytes,
    message: Message,
    content: Content,
    path: Path,
    now: Now,
) -> IkeSa | tuple[Notify, str, tuple[str, ...]]:
    """
    The peer's request, after limits and cookies.

    Args:
        candidates: the connections that it may be for, the most particular first; at least one.

    Returns:
        The half-open SA, its answer sent by the caller from `window.answered`; or (what the peer is told, reason, lines for a
        person).
    """
    if content.sa is None or content.ke is None or content.nonce is None:
        sentence = "IKE_SA_INIT without a proposal, a key exchange or a nonce"
        return Notify(NotifyType.INVALID_SYNTAX), "other", explain.malformed(sentence, by_peer=False)
    picked = _pick(content, candidates)
    if isinstance(picked, Difference):
        lines = explain.no_proposal("ike", content.sa.proposals, candidates[0].ike_proposals, picked)
        return Notify(NotifyType.NO_PROPOSAL_CHOSEN), "proposal", lines
    connection, chosen = picked
    if chosen.group != content.ke.group:
        return Notify(NotifyType.INVALID_KE_PAYLOAD, chosen.group.to_bytes(2, "big")), "proposal", ()
    exchange = KeyExchange(chosen.group)
    try:
        shared = exchange.agree(content.ke.data)
    except InvalidPublicValue:
        return _spoiled(ctx, home, data, message, path, now)
    spi_i, spi_r = message.header.spi_i, fresh_spi(ctx)
    sa = IkeSa(ctx, home, spi_i, spi_r, path, now, initiator=False, state=State.HALF_OPEN)
    _note_nat(sa, message.payloads, NO_SPI, path, connection)
    _note_abilities(sa, content, connection)
    said = Exchanged(content.nonce.data, ctx.entropy(NONCE_BYTES), spi_i, spi_r)
    sa.keyed(keys.of_ike(chosen, shared, said, initiator=False, debug=ctx.debug_keys), chosen)
    sa.low_nonce = min(said.nonce_i, said.nonce_r)
    payloads: list[Payload] = [Sa((chosen.proposal,)), Ke(exchange.group, exchange.public), Nonce(said.nonce_r)]
    payloads += _nat_payloads(ctx, connection, spi_i, spi_r, path)
    payloads += _abilities(connection)
    requests = connection.believing.requests()
    if requests:
        payloads.append(CertReq(CertEncoding.X509_SIGNATURE, requests))
    if connection.childless:
        payloads.append(Notify(NotifyType.CHILDLESS_IKEV2_SUPPORTED))
    datagram = build(Message(Header(spi_i, spi_r, Exchange.IKE_SA_INIT, False, True, 0), tuple(payloads)))
    sa.init = Kept(said.nonce_i, said.nonce_r, data, datagram)
    sa.window.answer(data, (datagram,))
    return sa


def _spoiled(ctx: Context, home: Home, data: bytes, message: Message, path: Path, now: Now) -> IkeSa:
    """Its value cost us a key of our own and was none: it takes a place among the half-open SAs all the same."""
    ctx.drop("", Drop.MALFORMED)
    spi_i = message.header.spi_i
    sa = IkeSa(ctx, home, spi_i, fresh_spi(ctx), path, now, initiator=False, state=State.HALF_OPEN)
    sa.become(State.REFUSED)
    told = build(Message(Header(spi_i, NO_SPI, Exchange.IKE_SA_INIT, False, True, 0), (Notify(NotifyType.INVALID_SYNTAX),)))
    sa.window.answer(data, (told,))
    return sa


def _pick(content: Content, candidates: Sequence[Connection]) -> tuple[Connection, Chosen] | Difference:
    """The first connection with a proposal in common; else the difference to the first."""
    assert content.sa is not None
    assert content.ke is not None
    first: Difference | None = None
    looked_at: set[int] = set()
    for one in candidates:
        if id(one.ike_proposals) in looked_at:
            continue
        looked_at.add(id(one.ike_proposals))
        found = proposals.select(content.sa.proposals, one.ike_proposals, ke=True, ke_group=content.ke.group)
        if isinstance(found, Chosen):
            return one, found
        first = first or found
    assert first is not None, "there is a candidate"
    return first


def fresh_spi(ctx: Context) -> bytes:
    """Random, and not zero."""
    while True:
        spi = ctx.entropy(8)
        if spi != NO_SPI:
            return spi


def address_text(packed: bytes) -> str:
    """For sentences."""
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)


def begin(ctx: Context, home: Home, path: Path, now: Now) -> IkeSa:
    """An IKE SA of ours that has said nothing yet."""
    return IkeSa(ctx, home, fresh_spi(ctx), NO_SPI, path, now, initiator=True, state=State.INITIATING)
