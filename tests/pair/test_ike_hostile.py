"""
Both machines at work, and every third protected message is spoilt by who sends it, who has the keys: payloads left out, doubled,
swapped for others or made up, bytes changed, other exchanges, ids and directions in the header, pieces that do not fit; beside
bytes changed on the way, messages doubled and overtaken, commands and time at random.

No exception leaves a machine, its SAs and lineages stay few, and when both ends have closed, nothing is left in it or its engine.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest

from ginnel.ikev2 import proposals, protection
from ginnel.ikev2.effects import Path
from ginnel.units import NS_PER_S
from ginnel.wire.ikev2 import (
    Auth,
    Cert,
    CertReq,
    Delete,
    Exchange,
    Header,
    IdI,
    IdR,
    Ke,
    Nonce,
    Notify,
    NotifyType,
    Payload,
    associated,
    build_payloads,
)
from ike_pair import NAME, Host, IkePair

SPOILT = 0.3
STEPS = 150


class Liar:
    """Seals in the place of `protection.seal`."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.seen: list[Payload] = []
        self.honest = True
        self._seal = protection.seal

    def seal(
        self, cipher: protection.Cipher, header: Header, payloads: Iterable[Payload], room: int | None = None
    ) -> tuple[bytes, ...]:
        chance, given = self.chance, tuple(payloads)
        self.seen = [*self.seen[-200:], *given]
        if self.honest or chance.random() > SPOILT:
            return self._seal(cipher, header, given, room)
        match chance.randrange(4):
            case 0:
                try:
                    return self._seal(cipher, header, self.other_payloads(given), room)
                except ValueError:
                    return self._seal(cipher, header, given, room)
            case 1:
                return self._seal(cipher, self.other_header(header), given, room)
            case 2:
                return self.pieces(cipher, header, given, 0)
            case _:
                return self.pieces(cipher, header, given, chance.randrange(1, 5))

    def other_payloads(self, given: tuple[Payload, ...]) -> list[Payload]:
        chance, made = self.chance, list(given)
        for _ in range(chance.randrange(1, 4)):
            what = chance.randrange(4)
            if what == 0 and made:
                del made[chance.randrange(len(made))]
            elif what == 1 and made:
                made.append(chance.choice(made))
            elif what == 2 and made:
                made[chance.randrange(len(made))] = self.payload()
            else:
                made.insert(chance.randrange(len(made) + 1), self.payload())
        return made

    def payload(self) -> Payload:
        chance = self.chance
        data = chance.randbytes(chance.choice((0, 1, 4, 8, 20, 32, 64)))
        spi = chance.choice((b"", b"abcd", b"12345678"))
        kind = chance.choice([one.value for one in NotifyType]) if chance.random() < 0.8 else chance.randrange(65536)
        return chance.choice(
            [
                Notify(kind, data, chance.randrange(4), spi),
                Notify(kind, data),
                Delete(chance.choice((1, 2, 3)), () if chance.random() < 0.3 else (chance.randbytes(4),)),
                Nonce(chance.randbytes(32)),
                Ke(chance.choice((0, 2, 14, 19, 31)), data),
                Auth(chance.randrange(16), data),
                IdI(chance.randrange(14), data),
                IdR(chance.randrange(14), data),
                Cert(chance.randrange(16), data),
                CertReq(4, data),
                *self.seen[-20:],
            ]
        )

    def other_header(self, header: Header) -> Header:
        chance = self.chance
        return replace(
            header,
            exchange=chance.choice((34, 35, 36, 37, 38, 43, 99)),
            message_id=header.message_id if chance.random() < 0.7 else chance.randrange(6),
            response=header.response is (chance.random() < 0.7),
        )

    def pieces(self, cipher: protection.Cipher, header: Header, given: tuple[Payload, ...], count: int) -> tuple[bytes, ...]:
        """Bytes changed; count: of fragments, 0: none."""
        first, text = build_payloads(given)
        if self.chance.random() < 0.2:
            first = self.chance.randrange(256)
        text = self.spoilt(text)
        made = []
        for number in range(1, max(1, count) + 1):
            part = text[number - 1 :: count] if count else text
            size = cipher.sealed_size(len(part))
            total = count if self.chance.random() < 0.9 else self.chance.randrange(number, 70)
            head = associated(header, first if number == 1 else 0, size, *((number, total) if count else ()))
            made.append(head + cipher.seal(head, part))
        return tuple(made)

    def spoilt(self, data: bytes) -> bytes:
        chance, made = self.chance, bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            if not made:
                break
            at = chance.randrange(len(made))
            match chance.randrange(4):
                case 0:
                    made[at] ^= 1 << chance.randrange(8)
                case 1:
                    made[at] = chance.choice((0, 1, 41, 43, 127, 128, 255))
                case 2:
                    del made[at : at + chance.randrange(1, 9)]
                case _:
                    made[at:at] = chance.randbytes(chance.randrange(1, 9))
        return bytes(made)


def arrive(pair: IkePair, host: Host, liar: Liar) -> None:
    chance, flight = liar.chance, pair.flight[host.letter]
    del flight[100:]
    for _ in range(20):
        if not flight or chance.random() < 0.15:
            return
        one = flight.pop(chance.randrange(len(flight)) if chance.random() < 0.1 else 0)
        if chance.random() < 0.05:
            flight.append(one)
        message = liar.spoilt(one.message) if chance.random() < 0.05 else one.message
        host.receive(message, Path(host.address, pair.other(host).address, one.path.remote_port, one.path.natt))


def happen(pair: IkePair, host: Host, chance: random.Random) -> None:
    """What comes from elsewhere than the peer."""
    match chance.randrange(24):
        case 0 | 1:
            host.rekey_child()
        case 2 | 3:
            host.rekey_ike()
        case 4:
            host.initiate()
        case 5 if chance.random() < 0.5:
            host.terminate()
        case 6:
            host.expire(hard=chance.random() < 0.5)
        case 7 if host.engine.inbound:
            host.ike.sa_used(NAME, chance.choice(list(host.engine.inbound)), pair.clock.now())
            host.poll()
        case 8:
            path = Path(host.address, pair.other(host).address, 4500, True)
            host.ike.unknown_spi(chance.randrange(2**32), path, pair.clock.now())
            host.poll()
        case 9:
            host.ike.sa_moved(NAME, next(iter(host.engine.inbound), 0), bytes([10, 0, 0, 1]), 4000, pair.clock.now())
            host.poll()
        case 10 | 11:
            pair.clock.advance_to(pair.clock.mono_ns + int(chance.choice((0.5, 2, 10, 70)) * NS_PER_S))
            for one in pair.hosts:
                one.timeout()
        case _:
            pass


@pytest.mark.parametrize("seed", range(200))
def test_whoever_has_the_keys_breaks_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    liar = Liar(seed)
    monkeypatch.setattr(protection, "seal", liar.seal)
    words = ["aes128gcm16-noesn"] if seed % 3 == 0 else ["aes128gcm16-x25519-none-noesn"]
    start = "start" if seed % 4 == 1 else "wait"
    pair = IkePair(seed=seed, child_proposals=proposals.parse_list(words, "esp"), start=start)
    liar.honest = seed % 2 == 0
    pair.a.initiate()
    for _ in range(STEPS):
        for host in pair.hosts:
            arrive(pair, host, liar)
            assert len(host.engine.inbound) <= 4
            assert len(host.ike._sas) <= 32
        liar.honest = False
        happen(pair, liar.chance.choice(pair.hosts), liar.chance)
    liar.honest = True
    for host in pair.hosts:
        host.terminate()
    for _ in range(200):
        for host in pair.hosts:
            pair.flight[host.letter].clear()
        pair.clock.advance_to(pair.clock.mono_ns + 5 * NS_PER_S)
        for host in pair.hosts:
            host.timeout()
    for host in pair.hosts:
        assert not host.ike._sas
        assert not host.engine.inbound
        assert host.engine.outbound is None
        assert not host.engine.reserved


def test_the_liar_lies() -> None:
    """What it makes is sealed rightly: it is opened, and is not what was said."""
    liar = Liar(1)
    exchange = Header(b"i" * 8, b"r" * 8, Exchange.INFORMATIONAL, True, False, 1)
    other = [liar.other_header(exchange) for _ in range(50)]
    assert any(one != exchange for one in other)
    assert any(liar.other_payloads((Nonce(b"n" * 16),)) != [Nonce(b"n" * 16)] for _ in range(5))
