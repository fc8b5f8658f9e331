"""Messages sealed, cut, opened and put together, with a cipher that hides nothing and with the engine's."""

from __future__ import annotations

import hashlib
import random

import pytest

from ginnel.crypto.ike import AuthenticationFailed, IkeCipher, KeyMaterial
from ginnel.errors import PeerError
from ginnel.ikev2 import fragments, protection
from ginnel.ikev2.protection import Opening, room, seal
from ginnel.wire import ikev2 as wire
from ginnel.wire.ikev2 import Cert, Header, Message, Nonce, Notify, Payload, Sk, UnsupportedCriticalPayload, Vendor


class Plain:
    """A cipher that hides nothing: 8 bytes of IV, the text, its padding length, 16 bytes of checksum over everything."""

    def __init__(self, key: bytes = b"key", block: int = 1) -> None:
        self._key = key
        self._block = block
        self.opened = 0

    def sealed_size(self, plaintext_size: int) -> int:
        return 8 + -(-(plaintext_size + 1) // self._block) * self._block + 16

    def seal(self, associated: bytes, plaintext: bytes) -> bytes:
        padding = self.sealed_size(len(plaintext)) - 8 - 16 - 1 - len(plaintext)
        text = bytes(8) + plaintext + bytes(padding) + bytes((padding,))
        return text + self._checksum(associated, text)

    def open(self, associated: bytes, sealed: bytes) -> bytes:
        self.opened += 1
        text, checksum = sealed[:-16], sealed[-16:]
        if checksum != self._checksum(associated, text):
            raise AuthenticationFailed
        return text[8 : -1 - text[-1]]

    def _checksum(self, associated: bytes, text: bytes) -> bytes:
        return hashlib.sha256(self._key + associated + text).digest()[:16]


HEADER = Header(bytes(8), b"\1" * 8, 35, initiator=True, response=False, message_id=1)
SMALL: tuple[Payload, ...] = (Nonce(b"\5" * 32), Notify(16391))
LARGE: tuple[Payload, ...] = (Vendor(b"first"), Cert(4, bytes(random.Random(1).randbytes(5000))))


def opened(opening: Opening, datagrams: tuple[bytes, ...], now_ns: int = 0) -> Message | None:
    """The last thing that came of them."""
    found: Message | None = None
    for data in datagrams:
        found = opening.open(data, wire.parse(data), now_ns)
    return found


def test_what_is_sealed_is_what_is_opened() -> None:
    (data,) = seal(Plain(), HEADER, SMALL, room(4, natt=False))
    message = wire.parse(data)
    assert isinstance(message.payloads[-1], Sk)
    assert Opening(Plain()).open(data, message, 0) == Message(HEADER, SMALL)
    assert opened(Opening(Plain()), seal(Plain(), HEADER, ())) == Message(HEADER, ())


@pytest.mark.parametrize("block", [1, 16])
@pytest.mark.parametrize("address_bytes", [4, 16])
def test_a_large_message_is_cut_into_packets_that_are_full(block: int, address_bytes: int) -> None:
    space = room(address_bytes, natt=True)
    assert space == 1280 - 8 - 4 - {4: 20, 16: 40}[address_bytes]
    datagrams = seal(Plain(block=block), HEADER, LARGE, space)
    assert len(datagrams) == 5
    assert all(space - block < len(data) <= space for data in datagrams[:-1])
    numbers = [(sk.first, sk.fragment, sk.total) for data in datagrams for sk in wire.parse(data).payloads if isinstance(sk, Sk)]
    assert numbers == [(43, 1, 5), (0, 2, 5), (0, 3, 5), (0, 4, 5), (0, 5, 5)]
    assert opened(Opening(Plain(block=block)), datagrams) == Message(HEADER, LARGE)


def test_without_fragmentation_nothing_is_cut() -> None:
    (data,) = seal(Plain(), HEADER, LARGE)
    assert opened(Opening(Plain()), (data,)) == Message(HEADER, LARGE)


def test_a_message_of_more_fragments_than_are_allowed_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="at most 64 fragments"):
        seal(Plain(), HEADER, [Cert(4, bytes(60_000))], 576)
    with pytest.raises(ValueError, match="expected room for a fragment"):
        seal(Plain(), HEADER, LARGE, 60)


def test_fragments_in_any_order_and_repeated() -> None:
    datagrams = list(seal(Plain(), HEADER, LARGE, 600))
    chance = random.Random(7383)
    for _ in range(20):
        shuffled = datagrams + [chance.choice(datagrams) for _ in range(5)]
        chance.shuffle(shuffled)
        cipher = Plain()
        opening = Opening(cipher)
        found = [message for data in shuffled if (message := opening.open(data, wire.parse(data), 0)) is not None]
        assert found[0] == Message(HEADER, LARGE)
        assert cipher.opened <= len(shuffled)


def test_a_repeated_fragment_is_not_opened_again() -> None:
    first, *_ = seal(Plain(), HEADER, LARGE, 600)
    cipher = Plain()
    opening = Opening(cipher)
    for _ in range(3):
        assert opening.open(first, wire.parse(first), 0) is None
    assert cipher.opened == 1


def test_a_fragment_that_is_not_genuine_changes_nothing() -> None:
    datagrams = seal(Plain(), HEADER, LARGE, 600)
    forged = seal(Plain(b"other"), HEADER, (Vendor(bytes(9000)),), 600)
    opening = Opening(Plain())
    assert opened(opening, datagrams[:-1]) is None
    stored = opening.stored_bytes
    for data in forged:
        # Some have a greater total: for a genuine one all that is stored would go.
        with pytest.raises(AuthenticationFailed):
            opening.open(data, wire.parse(data), 0)
    assert opening.stored_bytes == stored
    assert opened(opening, datagrams[-1:]) == Message(HEADER, LARGE)
    assert opening.stored_bytes == 0


def test_the_message_cut_anew_into_more_takes_the_place_of_the_old_and_fewer_are_ignored() -> None:
    coarse, fine = seal(Plain(), HEADER, LARGE, 1200), seal(Plain(), HEADER, LARGE, 600)
    opening = Opening(Plain())
    assert opened(opening, coarse[:-1]) is None
    assert opened(opening, fine[:1]) is None
    assert opening.stored_bytes < 600
    assert opened(opening, coarse) is None
    assert opened(opening, fine[1:]) == Message(HEADER, LARGE)


def test_a_whole_message_ends_what_was_in_pieces() -> None:
    datagrams = seal(Plain(), HEADER, LARGE, 600)
    opening = Opening(Plain())
    assert opened(opening, datagrams[:2]) is None
    assert opened(opening, seal(Plain(), HEADER, LARGE)) == Message(HEADER, LARGE)
    assert opening.stored_bytes == 0


def test_requests_and_responses_do_not_mix_and_a_later_message_takes_the_place() -> None:
    response = Header(bytes(8), b"\1" * 8, 35, initiator=True, response=True, message_id=1)
    later = Header(bytes(8), b"\1" * 8, 36, initiator=True, response=False, message_id=2)
    asked, answered = seal(Plain(), HEADER, LARGE, 600), seal(Plain(), response, LARGE, 600)
    opening = Opening(Plain())
    assert opened(opening, asked[:-1]) is None
    assert opened(opening, answered[:-1]) is None
    assert opened(opening, asked[-1:]) == Message(HEADER, LARGE)
    assert opened(opening, answered[-1:]) == Message(response, LARGE)
    assert opened(opening, asked[:1]) is None
    assert opened(opening, seal(Plain(), later, LARGE, 600)) == Message(later, LARGE)


def test_fragments_do_not_wait_for_ever() -> None:
    datagrams = seal(Plain(), HEADER, LARGE, 600)
    opening = Opening(Plain())
    assert opened(opening, datagrams[:-1]) is None
    assert opened(opening, datagrams[-1:], fragments.KEPT_NS + 1) is None
    assert opened(opening, datagrams[:-1], fragments.KEPT_NS + 2) == Message(HEADER, LARGE)


def test_what_fragments_can_take_is_bounded() -> None:
    def fragment(number: int, total: int, size: int) -> bytes:
        cipher = Plain()
        head = wire.associated(HEADER, 43 if number == 1 else 0, cipher.sealed_size(size), number, total)
        return head + cipher.seal(head, bytes(size))

    opening = Opening(Plain())
    too_many = fragment(1, fragments.FRAGMENTS_MAX + 1, 10)
    with pytest.raises(PeerError, match="at most 64 fragments"):
        opening.open(too_many, wire.parse(too_many), 0)
    assert opened(opening, (fragment(1, 3, 60_000),)) is None
    too_long = fragment(2, 3, 6_000)
    with pytest.raises(PeerError, match="at most 65535 bytes"):
        opening.open(too_long, wire.parse(too_long), 0)
    assert opening.stored_bytes == 0


def test_every_changed_bit_is_found() -> None:
    (data,) = seal(Plain(), HEADER, SMALL)
    for at in range(len(data)):
        changed = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        with pytest.raises((AuthenticationFailed, PeerError)):
            Opening(Plain()).open(changed, wire.parse(changed), 0)


def test_what_is_malformed_inside_is_told_apart_from_what_is_forged() -> None:
    cipher = Plain()
    for text, expected in ((b"\0\0\0\3", PeerError), (b"\0\x80\0\4", UnsupportedCriticalPayload)):
        head = wire.associated(HEADER, 200 if expected is UnsupportedCriticalPayload else 43, cipher.sealed_size(len(text)))
        data = head + cipher.seal(head, text)
        with pytest.raises(expected):
            Opening(cipher).open(data, wire.parse(data), 0)


def test_a_message_without_a_sealed_part_is_refused() -> None:
    for payloads in ((), (Vendor(b"x"),), (Sk(0, b""),)):
        data = wire.build(Message(HEADER, payloads))
        with pytest.raises(PeerError, match="expected"):
            Opening(Plain()).open(data, wire.parse(data), 0)


@pytest.mark.parametrize(
    ("suite", "key", "integrity"),
    [
        ("aes256gcm16", 36, 0),
        ("aes128gcm16", 20, 0),
        ("chacha20poly1305", 36, 0),
        ("aes256-sha512", 32, 64),
        ("aes128-sha1", 16, 20),
    ],
)
def test_with_the_engines_ciphers(suite: str, key: int, integrity: int) -> None:
    def cipher() -> IkeCipher:
        return IkeCipher(suite, KeyMaterial.from_bytes(b"\7" * key), KeyMaterial.from_bytes(b"\x08" * integrity))

    sealing, space = cipher(), protection.room(4, natt=True)
    for payloads in (SMALL, LARGE):
        datagrams = seal(sealing, HEADER, payloads, space)
        assert all(len(data) <= space for data in datagrams)
        assert opened(Opening(cipher()), datagrams) == Message(HEADER, payloads)
    changed = datagrams[0][:-1] + bytes((datagrams[0][-1] ^ 1,))
    with pytest.raises(AuthenticationFailed):
        Opening(cipher()).open(changed, wire.parse(changed), 0)
