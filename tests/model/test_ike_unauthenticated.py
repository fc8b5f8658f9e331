"""
Every sequence of six messages (five where the world is larger) from a peer that cannot prove who it is: no IKE SA, no child, no
key in the engine; and what stands with somebody else stands.

The peer may do the Diffie-Hellman exchange, so it has the keys of its IKE SA and seals whatever it likes: proofs that prove
nothing, requests that only a known peer may make, responses to nothing, deletions, notifies, out of order and again. Four
worlds: the machine waits; it waits for a certificate; it has a connection with the true peer; it asks, and the stranger answers
in the true peer's place.

Sequences are walked breadth first. One that brings the machine into a state that it was in before is not continued: the machine
is deterministic, so nothing new can follow. A state is all that the machine keeps, but for counters of what was dropped, with
byte strings by their length and moments by their being there (`shape`): keys and nonces differ each time and decide nothing here.

CVE-2014-2338, -2015-8023, -2021-45079, -2023-26463 of strongSwan, CVE-2019-12312 of libreswan and CVE-2020-16088 of OpenIKED
are such sequences.
"""

from __future__ import annotations

import enum
import functools
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import pytest

import pki
from ginnel.ikev2 import credentials, proposals, signatures
from ginnel.ikev2.connection import Believing, Proving
from ginnel.ikev2.effects import ChildUp, IkeDown, IkeUp
from ginnel.testing import FakeClock
from ginnel.units import NS_PER_S
from ginnel.wire import ikev2 as wire
from ginnel.wire.ikev2 import (
    Auth,
    Cert,
    Delete,
    Exchange,
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
    Sa,
    Unknown,
)
from ike_pair import SECRET, Host, connection, psk
from ike_peer import GROUP, IKE_PROPOSALS, Peer

DEPTH: Final = 6
HERE, THERE = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
N = NotifyType
WRONG = b"not the secret"


class World:
    """The machine, the stranger, and what has to stay as it is."""

    def __init__(self, *, address: bytes = THERE, credentials_: tuple[Proving, Believing] | None = None) -> None:
        self.host = Host("a", HERE, FakeClock(unix_ns=pki.TODAY_NS), 3)
        self.host.add(connection(HERE, THERE, "a.example.org", "b.example.org", credentials_, childless=False, dpd_ns=0))
        self.address = address
        self.peer = self.stranger()
        self.before: object = None

    def stranger(self) -> Peer:
        return Peer(self.host, address=self.address)

    def begin(self) -> None:
        """From now on the stranger talks."""
        engine = self.host.engine
        self.before = dict(engine.inbound), engine.outbound, len(self.host.told(IkeUp)), len(self.host.told(ChildUp))

    def check(self) -> str:
        """ "" or what went wrong."""
        engine, host = self.host.engine, self.host
        now = dict(engine.inbound), engine.outbound, len(host.told(IkeUp)), len(host.told(ChildUp))
        if now != self.before:
            return f"the engine or the connection changed: {now}"
        return "the connection went down" if host.told(IkeDown) else ""


Message_ = Callable[[World], None]


# ---------------------------------------------------------------- the stranger's messages


def sealed(
    exchange: int, make: Callable[[Peer], Sequence[Payload]], *, response: bool = False, message_id: int | None = None
) -> Message_:
    """A sealed message of the stranger's own IKE SA, if it has one; with this id, or the next one, which an answer moves on."""

    def send(world: World) -> None:
        peer = world.peer
        if peer.keys is None:
            return
        number = peer.next_id if message_id is None else message_id
        answers = peer.send(peer.sealed(exchange, make(peer), number, response=response))
        if message_id is None and answers:
            peer.next_id += 1

    return send


def in_the_open(exchange: int, *payloads: Payload, response: bool = False, message_id: int = 0) -> Message_:
    def send(world: World) -> None:
        peer = world.peer
        peer.send(wire.build(Message(peer.header(exchange, message_id, response=response), payloads)))

    return send


def init(world: World) -> None:
    """A new IKE_SA_INIT."""
    world.peer = world.stranger()
    world.peer.init()


def init_again(world: World) -> None:
    """The last one once more."""
    if world.peer.first:
        world.peer.send(world.peer.first)


def init_other(world: World) -> None:
    """The same SPI with another nonce and key."""
    peer = world.peer
    again = Message(
        peer.header(Exchange.IKE_SA_INIT, 0, spi_r=bytes(8)),
        (Sa(IKE_PROPOSALS), Ke(GROUP, b"\x09" + bytes(31)), Nonce(b"m" * 32)),
    )
    peer.send(wire.build(again))


def later(world: World) -> None:
    """A while passes."""
    world.host.clock.advance_to(world.host.clock.mono_ns + 31 * NS_PER_S)
    world.host.timeout()


def auth(*payloads: Callable[[Peer], Payload], child: bool = True) -> Callable[[Peer], Sequence[Payload]]:
    def make(peer: Peer) -> Sequence[Payload]:
        return [*(one(peer) for one in payloads), *(peer.child_payloads() if child else [])]

    return make


def me(peer: Peer) -> Payload:
    """Who it says it is: the true peer."""
    return peer.id_payload()


def as_id(kind: int, data: bytes) -> Callable[[Peer], Payload]:
    return lambda peer: (IdI if peer.initiator else IdR)(kind, data)


def wrong_psk(peer: Peer) -> Payload:
    return peer.auth(WRONG)


def own_psk_of_another(peer: Peer) -> Payload:
    """A right AUTH of an identity that is not the one it names."""
    return peer.auth(WRONG, Id(IdType.FQDN, b"a.example.org"))


def reflected_keys(peer: Peer) -> Payload:
    """The AUTH for the other direction."""
    assert peer.keys is not None
    turned = Peer(peer.host, initiator=peer.initiator)
    turned.__dict__.update(peer.__dict__)
    turned.keys = replace(peer.keys, pi=peer.keys.pr, pr=peer.keys.pi)
    return turned.auth(WRONG)


def fixed(payload: Payload) -> Callable[[Peer], Payload]:
    return lambda _: payload


def new_child(peer: Peer) -> Sequence[Payload]:
    return [Nonce(b"c" * 32), *peer.child_payloads(spi=b"\1\2\3\4")]


def rekey_child(peer: Peer) -> Sequence[Payload]:
    return [Notify(N.REKEY_SA, b"", 3, bytes.fromhex("c0ffee01")), *new_child(peer)]


def rekey_ike(peer: Peer) -> Sequence[Payload]:
    return [Sa(proposals.numbered(IKE_PROPOSALS, b"NEWSPI01")), Nonce(b"r" * 32), Ke(GROUP, b"\x09" + bytes(31))]


def payloads(*given: Payload) -> Callable[[Peer], Sequence[Payload]]:
    return lambda _: given


AUTHS: Final[dict[str, Callable[[Peer], Sequence[Payload]]]] = {
    "wrong secret": auth(me, wrong_psk),
    "another's AUTH": auth(me, own_psk_of_another),
    "the other direction's AUTH": auth(me, reflected_keys),
    "the wrong identity": auth(as_id(IdType.FQDN, b"c.example.org"), wrong_psk),
    "no identity": auth(wrong_psk),
    "no AUTH (EAP)": auth(me),
    "an EAP message": auth(me, fixed(Unknown(48, False, b"\x03\x01\x00\x04"))),
    "NULL authentication": auth(as_id(IdType.NULL, b""), fixed(Auth(13, bytes(32)))),
    "NULL authentication of a name": auth(me, fixed(Auth(13, bytes(32)))),
    "empty AUTH": auth(me, fixed(Auth(2, b""))),
    "a signature": auth(me, fixed(Auth(14, bytes.fromhex("0f300d06092a864886f70d01010b0500") + bytes(256)))),
    "two AUTHs": auth(me, wrong_psk, wrong_psk),
    "no child": auth(me, wrong_psk, child=False),
    "initial contact": auth(me, wrong_psk, fixed(Notify(N.INITIAL_CONTACT))),
    "nothing": payloads(),
    "success, it says": payloads(Notify(N.CHILDLESS_IKEV2_SUPPORTED)),
}

#: What both roles can say once there are keys.
INSIDE: Final[dict[str, Message_]] = {
    "new child": sealed(Exchange.CREATE_CHILD_SA, new_child),
    "new child, id 1": sealed(Exchange.CREATE_CHILD_SA, new_child, message_id=1),
    "new child, id 0": sealed(Exchange.CREATE_CHILD_SA, new_child, message_id=0),
    "rekey child": sealed(Exchange.CREATE_CHILD_SA, rekey_child),
    "rekey ike": sealed(Exchange.CREATE_CHILD_SA, rekey_ike),
    "rekey ike, id 0": sealed(Exchange.CREATE_CHILD_SA, rekey_ike, message_id=0),
    "informational": sealed(Exchange.INFORMATIONAL, payloads()),
    "delete ike": sealed(Exchange.INFORMATIONAL, payloads(Delete(1))),
    "delete ike, id 0": sealed(Exchange.INFORMATIONAL, payloads(Delete(1)), message_id=0),
    "delete child": sealed(Exchange.INFORMATIONAL, payloads(Delete(3, (bytes.fromhex("c0ffee01"),)))),
    "initial contact": sealed(Exchange.INFORMATIONAL, payloads(Notify(N.INITIAL_CONTACT))),
    "intermediate": sealed(43, payloads()),
    "resume": sealed(38, new_child),
    "child answered": sealed(Exchange.CREATE_CHILD_SA, new_child, response=True, message_id=1),
    "informational answered": sealed(Exchange.INFORMATIONAL, payloads(), response=True, message_id=1),
    "open delete": in_the_open(Exchange.INFORMATIONAL, Delete(1)),
    "open token": in_the_open(
        Exchange.INFORMATIONAL, Notify(N.INVALID_IKE_SPI), Notify(N.QUICK_CRASH_DETECTION, bytes(32)), response=True
    ),
    "open auth": in_the_open(Exchange.IKE_AUTH, IdI(IdType.FQDN, b"b.example.org"), Auth(2, bytes(32)), message_id=1),
    "later": later,
}

AS_INITIATOR: Final[dict[str, Message_]] = {
    "init": init,
    "init again": init_again,
    "init of the same SPI": init_other,
    **{f"auth: {name}": sealed(Exchange.IKE_AUTH, make) for name, make in AUTHS.items()},
    "auth again, id 1": sealed(Exchange.IKE_AUTH, AUTHS["wrong secret"], message_id=1),
    "auth, id 0": sealed(Exchange.IKE_AUTH, AUTHS["wrong secret"], message_id=0),
    "auth answered": sealed(Exchange.IKE_AUTH, AUTHS["wrong secret"], response=True, message_id=1),
    **INSIDE,
}


def answer_init(world: World) -> None:
    """As responder: with our keys."""
    asked = [one.message for one in world.host.sent if wire.parse_header(one.message).exchange == Exchange.IKE_SA_INIT]
    if asked:
        world.peer = Peer(world.host, initiator=False)
        world.peer.answer_init(asked[-1])


def answer_init_with(*given: Payload) -> Message_:
    def send(world: World) -> None:
        asked = [one.message for one in world.host.sent if wire.parse_header(one.message).exchange == Exchange.IKE_SA_INIT]
        if asked:
            peer = Peer(world.host, initiator=False)
            peer.answer_init(asked[-1], given, spi_r=bytes(8))

    return send


AS_RESPONDER: Final[dict[str, Message_]] = {
    "init answered": answer_init,
    "cookie": answer_init_with(Notify(N.COOKIE, b"cookie")),
    "another group": answer_init_with(Notify(N.INVALID_KE_PAYLOAD, b"\x00\x13")),
    "no proposal": answer_init_with(Notify(N.NO_PROPOSAL_CHOSEN)),
    **{f"auth answered: {name}": sealed(Exchange.IKE_AUTH, make, response=True, message_id=1) for name, make in AUTHS.items()},
    "auth answered with failure": sealed(
        Exchange.IKE_AUTH, payloads(Notify(N.AUTHENTICATION_FAILED)), response=True, message_id=1
    ),
    "auth answered with a child's failure": sealed(
        Exchange.IKE_AUTH, payloads(Notify(N.NO_PROPOSAL_CHOSEN)), response=True, message_id=1
    ),
    "auth answered, id 2": sealed(Exchange.IKE_AUTH, AUTHS["wrong secret"], response=True, message_id=2),
    "auth asked": sealed(Exchange.IKE_AUTH, AUTHS["wrong secret"], message_id=1),
    **INSIDE,
}


# ---------------------------------------------------------------- certificates


@functools.cache
def authority() -> pki.Authority:
    return pki.Authority("Root")


@functools.cache
def own_credentials() -> tuple[Proving, Believing]:
    own = authority().issue("a.example.org")
    return (
        credentials.load_proving("certificate", ("c",), "k", {"c": own.pem, "k": own.key_pem}),
        credentials.load_believing("certificate", ("ca",), (), "if-given", "", {"ca": authority().pem}),
    )


@functools.cache
def others() -> dict[str, pki.Issued]:
    """Certificates that a stranger may have, with a key of its own each."""
    true = authority().issue("b.example.org")
    false = pki.Authority("Root")
    return {
        "stolen": pki.Issued(true.certificate, pki.ecdsa_key()),
        "of another authority": false.issue("b.example.org"),
        "of another name": authority().issue("c.example.org"),
        "expired": authority().issue("b.example.org", ends=pki.TODAY - pki.DAY),
    }


def with_certificate(which: str) -> Callable[[Peer], Sequence[Payload]]:
    def make(peer: Peer) -> Sequence[Payload]:
        one = others()[which]
        return [me(peer), Cert(4, one.der), signatures.sign(one.key, peer.octets(), frozenset({2})), *peer.child_payloads()]

    return make


def without_signature(which: str) -> Callable[[Peer], Sequence[Payload]]:
    return lambda peer: [me(peer), Cert(4, others()[which].der), *peer.child_payloads()]


WITH_CERTIFICATES: Final[dict[str, Message_]] = {
    **AS_INITIATOR,
    **{
        f"auth: certificate {name}": sealed(Exchange.IKE_AUTH, with_certificate(name))
        for name in ("stolen", "of another authority")
    },
    **{f"auth: certificate {name}": sealed(Exchange.IKE_AUTH, with_certificate(name)) for name in ("of another name", "expired")},
    "auth: certificate without signature": sealed(Exchange.IKE_AUTH, without_signature("stolen")),
}


# ---------------------------------------------------------------- the worlds


def waiting() -> World:
    world = World()
    world.begin()
    return world


def waiting_for_a_certificate() -> World:
    world = World(credentials_=own_credentials())
    world.begin()
    return world


def connected() -> World:
    """The true peer is there already; the stranger comes from the same address."""
    world = World(credentials_=psk())
    peer = Peer(world.host)
    peer.init()
    peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET))
    assert world.host.engine.outbound is not None
    world.begin()
    return world


def asking() -> World:
    world = World()
    world.host.initiate()
    world.begin()
    return world


# ---------------------------------------------------------------- the walk

#: What does not make a state: counts of what was dropped, how many strangers may be answered at once, what was told.
_LEFT_OUT: Final = frozenset({"drops", "_strangers", "_told", "output", "ctx", "_ctx", "refused", "refused_ns"})


def shape(one: object, seen: dict[int, int]) -> object:
    """All that hangs on *one*, without contents that are chance or time."""
    match one:
        case None | bool() | str() | enum.Enum():
            return one
        case int():
            return one if abs(one) < 10**9 else "moment"
        case float():
            return "number"
        case bytes() | bytearray():
            return len(one) if len(one) <= 64 else "message"
        case _ if callable(one) and not hasattr(one, "__slots__"):
            return "function"
    if id(one) in seen:
        return seen[id(one)]
    seen[id(one)] = len(seen)
    match one:
        case dict():
            return (
                sorted(repr(shape(value, seen)) for value in one.values())
                if _chance(one)
                else repr([(repr(shape(key, seen)), repr(shape(value, seen))) for key, value in one.items()])
            )
        case list() | tuple() | deque():
            return [shape(value, seen) for value in one]
        case set() | frozenset():
            return sorted(repr(shape(value, seen)) for value in one)
    names = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())] or list(getattr(one, "__dict__", {}))
    return type(one).__name__, [
        (name, shape(getattr(one, name), seen)) for name in names if name not in _LEFT_OUT and hasattr(one, name)
    ]


def _chance(table: dict[object, object]) -> bool:
    """Whether the keys are chosen by chance (SPIs)."""
    return any(isinstance(key, bytes) for key in table)


def state(world: World) -> str:
    peer = world.peer
    mine = peer.keys is not None, peer.next_id, peer.initiator, bool(peer.first)
    return repr((shape(world.host.ike, {}), mine))


def walk(build: Callable[[], World], alphabet: dict[str, Message_], depth: int = DEPTH) -> Counter[int]:
    """All sequences up to *depth*; how many states were new at each length."""
    known = {state(build())}
    frontier: list[tuple[str, ...]] = [()]
    found: Counter[int] = Counter()
    for length in range(1, depth + 1):
        following: list[tuple[str, ...]] = []
        for words in frontier:
            world: World | None = None
            before = ""
            for name, send in alphabet.items():
                if world is None:
                    world = build()
                    for word in words:
                        alphabet[word](world)
                    before = state(world)
                send(world)
                wrong = world.check()
                assert wrong == "", f"{' | '.join((*words, name))}: {wrong}\n{world.host.letters()}"
                reached = state(world)
                if reached == before:
                    continue  # nothing happened: the same world serves for the next message
                world = None
                if reached not in known:
                    known.add(reached)
                    following.append((*words, name))
        found[length] = len(following)
        frontier = following
    return found


@pytest.mark.parametrize(
    ("build", "alphabet", "depth"),
    [
        (waiting, AS_INITIATOR, DEPTH),
        (waiting_for_a_certificate, WITH_CERTIFICATES, DEPTH - 1),
        (connected, AS_INITIATOR, DEPTH - 1),
        (asking, AS_RESPONDER, DEPTH),
    ],
    ids=["waiting", "certificate", "connected", "asking"],
)
def test_nothing_is_given_to_a_stranger(build: Callable[[], World], alphabet: dict[str, Message_], depth: int) -> None:
    found = walk(build, alphabet, depth)
    assert found[1] >= 1, "the walk goes somewhere"
    assert found[2] >= 1


def test_the_same_peer_with_the_secret_gets_in() -> None:
    """The rule can be broken: the walk would see it."""
    world = waiting()
    init(world)
    world.peer.ask(Exchange.IKE_AUTH, world.peer.auth_payloads(SECRET))
    assert "changed" in world.check()
    world = asking()
    answer_init(world)
    world.peer.send(world.peer.sealed(Exchange.IKE_AUTH, world.peer.auth_payloads(SECRET), 1, response=True))
    assert "changed" in world.check()
    world = waiting_for_a_certificate()
    init(world)
    true = authority().issue("b.example.org")
    proof = signatures.sign(true.key, world.peer.octets(), frozenset({2}))
    world.peer.ask(Exchange.IKE_AUTH, [me(world.peer), Cert(4, true.der), proof, *world.peer.child_payloads()])
    assert "changed" in world.check()


def test_after_any_short_sequence_the_true_peer_still_gets_in() -> None:
    for name, send in AS_INITIATOR.items():
        for second in AS_INITIATOR.values():
            world = waiting()
            init(world)
            send(world)
            second(world)
            peer = Peer(world.host)
            peer.init()
            peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET))
            assert world.host.engine.outbound is not None, (name, world.host.letters())
