"""
A peer of an IKE machine that says whatever a test wants, right or wrong, in either role: it does the Diffie-Hellman exchange and
has the keys of the IKE SA, and nothing forces it to prove itself or to keep to an order.

    peer = Peer(host)                     # host: one end of tests/ike_pair.py, configured, alone
    peer.init()                           # IKE_SA_INIT, as initiator
    answer = peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET))

Keys are derived here from the RFC's formulas, not with the machine's code.

Source: RFC 7296 2.14, 2.15, 2.17.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ginnel.crypto.ike import IkeCipher, KeyExchange, KeyMaterial, prf, prf_plus, prf_public
from ginnel.ikev2 import proposals, protection
from ginnel.ikev2.effects import Path
from ginnel.ikev2.psk import auth_value
from ginnel.wire import ikev2 as wire
from ginnel.wire.ikev2 import (
    Auth,
    Exchange,
    Header,
    Id,
    IdI,
    IdR,
    IdType,
    Ke,
    Message,
    Nonce,
    Notify,
    NotifyType,
    Payload,
    Proposal,
    Sa,
    Selector,
    TsI,
    TsR,
)
from ike_pair import Host

GROUP = 31
IKE_PROPOSALS = proposals.parse_list(["aes128gcm16-prfsha256-x25519"], "ike")
CHILD_PROPOSALS = proposals.parse_list(["aes128gcm16-noesn"], "esp")
PFS_PROPOSALS = proposals.parse_list(["aes128gcm16-x25519-noesn"], "esp")
_numbers = itertools.count()
ESP_SPI = bytes.fromhex("c0ffee01")


@dataclass
class Keys:
    """Of one IKE SA, with AES-GCM: no integrity keys."""

    d: KeyMaterial
    initiator: IkeCipher
    responder: IkeCipher
    pi: KeyMaterial
    pr: KeyMaterial


def derive(seed: KeyMaterial, nonces: bytes, spis: bytes) -> Keys:
    """SK_* from SKEYSEED (RFC 7296 2.14)."""
    d, ei, er, pi, pr = prf_plus("sha256", seed, nonces + spis, 32 + 20 + 20 + 32 + 32).split(32, 20, 20, 32, 32)
    empty = KeyMaterial.from_bytes
    return Keys(d, IkeCipher("aes128gcm16", ei, empty(b"")), IkeCipher("aes128gcm16", er, empty(b"")), pi, pr)


class Peer:
    """One IKE SA with *host*, from the other side."""

    def __init__(
        self, host: Host, *, initiator: bool = True, address: bytes = bytes([192, 0, 2, 2]), name: str = "b.example.org"
    ) -> None:
        self.host = host
        self.address = address
        self.initiator = initiator
        self.identity = Id(IdType.FQDN, name.encode())
        spi = b"PEER" + struct.pack(">I", next(_numbers))
        self.spi_i = spi if initiator else bytes(8)
        self.spi_r = bytes(8) if initiator else spi
        self.nonce = b"n" * 32
        self.exchange = KeyExchange(GROUP)
        self.keys: Keys | None = None
        self.next_id = 0
        self.first = b""
        self.their_first = b""
        self.their_nonce = b""
        self.natt = False

    # ------------------------------------------------------------ bytes in and out

    @property
    def path(self) -> Path:
        return Path(self.host.address, self.address, 4500 if self.natt else 500, self.natt)

    def send(self, message: bytes) -> list[bytes]:
        """Hand *message* to the machine; what it sends at once."""
        before = len(self.host.sent)
        self.host.receive(message, self.path)
        return [one.message for one in self.host.sent[before:]]

    def header(self, exchange: int, message_id: int, *, response: bool = False, **changes: object) -> Header:
        return replace(Header(self.spi_i, self.spi_r, exchange, self.initiator, response, message_id), **changes)  # type: ignore[arg-type]

    def sealed(
        self,
        exchange: int,
        payloads: Sequence[Payload],
        message_id: int | None = None,
        *,
        response: bool = False,
        **changes: object,
    ) -> bytes:
        """A protected message; the next request's id by default."""
        if message_id is None:
            message_id = self.next_id
            self.next_id += 1
        assert self.keys is not None
        cipher = self.keys.initiator if self.initiator else self.keys.responder
        (made,) = protection.seal(cipher, self.header(exchange, message_id, response=response, **changes), payloads)
        return made

    def open(self, message: bytes) -> Message:
        """What the machine said."""
        assert self.keys is not None
        cipher = self.keys.responder if self.initiator else self.keys.initiator
        opened = protection.Opening(cipher).open(message, wire.parse(message), 0)
        assert opened is not None
        return opened

    # ------------------------------------------------------------ IKE_SA_INIT

    def init_payloads(self) -> list[Payload]:
        return [Sa(IKE_PROPOSALS), Ke(GROUP, self.exchange.public), Nonce(self.nonce)]

    def init(self, payloads: Sequence[Payload] | None = None) -> Message:
        """As initiator; takes the answer, and has the keys if it is one."""
        self.first = wire.build(Message(self.header(Exchange.IKE_SA_INIT, 0), tuple(payloads or self.init_payloads())))
        (answer,) = self.send(self.first)
        message = wire.parse(answer)
        found = {type(one): one for one in message.payloads}
        if Ke in found:
            self.spi_r = message.header.spi_r
            self._agree(answer, found)
            self.next_id = 1
        return message

    def answer_init(self, request: bytes, payloads: Sequence[Payload] = (), **changes: object) -> list[bytes]:
        """As responder; *payloads*: in place of the right ones. What the machine sends upon it."""
        message = wire.parse(request)
        self.spi_i = message.header.spi_i
        ours = tuple(payloads) or (Sa(IKE_PROPOSALS), Ke(GROUP, self.exchange.public), Nonce(self.nonce))
        self.first = wire.build(Message(self.header(Exchange.IKE_SA_INIT, 0, response=True, **changes), ours))
        found = {type(one): one for one in message.payloads}
        if not payloads:
            self._agree(request, found)
        return self.send(self.first)

    def _agree(self, their_first: bytes, found: dict[type, Payload]) -> None:
        ke, nonce = found[Ke], found[Nonce]
        assert isinstance(ke, Ke)
        assert isinstance(nonce, Nonce)
        self.their_first, self.their_nonce = their_first, nonce.data
        shared = self.exchange.agree(ke.data)
        nonces = self.nonce + nonce.data if self.initiator else nonce.data + self.nonce
        self.keys = derive(prf("sha256", nonces, shared), nonces, self.spi_i + self.spi_r)

    # ------------------------------------------------------------ IKE_AUTH

    def octets(self, identity: Id | None = None) -> tuple[object, ...]:
        """What our AUTH covers (RFC 7296 2.15)."""
        assert self.keys is not None
        one = identity or self.identity
        body = bytes([one.kind, 0, 0, 0]) + one.data
        return self.first, self.their_nonce, prf_public("sha256", self.keys.pi if self.initiator else self.keys.pr, body)

    def auth(self, secret: bytes, identity: Id | None = None) -> Auth:
        return Auth(2, auth_value(KeyMaterial.from_bytes(secret), "sha256", self.octets(identity)))

    def id_payload(self, identity: Id | None = None) -> IdI | IdR:
        one = identity or self.identity
        return (IdI if self.initiator else IdR)(one.kind, one.data)

    def selectors(self, protocol: int = 47) -> tuple[TsI, TsR]:
        def host(address: bytes) -> tuple[Selector, ...]:
            return (Selector(protocol, 0, 65535, address, address),)

        mine, theirs = (self.address, self.host.address) if self.initiator else (self.host.address, self.address)
        return TsI(host(mine)), TsR(host(theirs))

    def child_payloads(self, offer: Sequence[Proposal] = CHILD_PROPOSALS, spi: bytes = ESP_SPI) -> list[Payload]:
        return [Notify(NotifyType.USE_TRANSPORT_MODE), Sa(proposals.numbered(offer, spi)), *self.selectors()]

    def auth_payloads(self, secret: bytes, identity: Id | None = None) -> list[Payload]:
        """All of the first IKE_AUTH of an initiator, or of its answer."""
        return [self.id_payload(identity), self.auth(secret, identity), *self.child_payloads()]

    # ------------------------------------------------------------ requests

    def ask(self, exchange: int, payloads: Sequence[Payload], **changes: object) -> Message | None:
        """A protected request and the opened answer, None without one."""
        answers = self.send(self.sealed(exchange, payloads, **changes))  # type: ignore[arg-type]
        replies = [one for one in answers if wire.parse_header(one).response]
        return self.open(replies[0]) if replies else None


def kinds(message: Message | None) -> list[str]:
    """What a message consists of, in short: notifies by their name."""
    if message is None:
        return ["nothing"]
    names = {one.value: one.name for one in NotifyType}
    return [names.get(one.kind, str(one.kind)) if isinstance(one, Notify) else type(one).__name__ for one in message.payloads]


def notify(message: Message | None, kind: int) -> Notify | None:
    """The notify of *kind* in *message*, None without one."""
    return next((one for one in (message.payloads if message else ()) if isinstance(one, Notify) and one.kind == kind), None)
