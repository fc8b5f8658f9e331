"""
WireGuard's three handshake messages, both ways. (Data messages, type 4, never leave the engine.)

All numbers are little-endian. The type is one byte followed by three reserved zero bytes; it is compared as one u32, so a
reserved byte that is not zero makes an unknown type. Lengths are exact: one byte more or less is another message.

    Initiation, 148 bytes                 Response, 92 bytes                 CookieReply, 64 bytes
      0  type = 1                           0  type = 2                        0  type = 3
      4  sender index                       4  sender index                    4  receiver index
      8  ephemeral            32            8  receiver index                  8  nonce              24
     40  encrypted static     32 + 16      12  ephemeral            32        32  encrypted cookie   16 + 16
     88  encrypted timestamp  12 + 16      44  encrypted nothing     0 + 16
    116  mac1                 16           60  mac1                 16
    132  mac2                 16           76  mac2                 16

mac1 covers everything before mac1, mac2 everything before mac2; both are zero until `wireguard.cookie` stamps them.

Source: WireGuard paper 5.4.2 to 5.4.7; checklist in the kernel's messages.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from ginnel.errors import PeerError
from ginnel.wire.reader import Reader
from ginnel.wire.writer import Writer

KEY_SIZE_BYTES: Final = 32
TAG_SIZE_BYTES: Final = 16
TIMESTAMP_SIZE_BYTES: Final = 12
MAC_SIZE_BYTES: Final = 16
COOKIE_SIZE_BYTES: Final = 16
NONCE_SIZE_BYTES: Final = 24
#: Both macs, at the end of an initiation and of a response.
MACS_SIZE_BYTES: Final = 2 * MAC_SIZE_BYTES

ZERO_MAC: Final = bytes(MAC_SIZE_BYTES)


@dataclass(frozen=True, slots=True)
class Initiation:
    """The first message: who I am (encrypted), and when (encrypted; strictly increasing)."""

    TYPE: ClassVar[int] = 1
    SIZE_BYTES: ClassVar[int] = 148

    sender: int
    ephemeral: bytes
    encrypted_static: bytes
    encrypted_timestamp: bytes
    mac1: bytes = ZERO_MAC
    mac2: bytes = ZERO_MAC

    @classmethod
    def parse(cls, data: bytes) -> Initiation:
        """Take a whole datagram apart; PeerError unless type and length are exactly right."""
        reader = _opened(data, cls.TYPE)
        message = cls(
            sender=reader.u32(),
            ephemeral=reader.take(KEY_SIZE_BYTES),
            encrypted_static=reader.take(KEY_SIZE_BYTES + TAG_SIZE_BYTES),
            encrypted_timestamp=reader.take(TIMESTAMP_SIZE_BYTES + TAG_SIZE_BYTES),
            mac1=reader.take(MAC_SIZE_BYTES),
            mac2=reader.take(MAC_SIZE_BYTES),
        )
        reader.end()
        return message

    def build(self) -> bytes:
        """The datagram, 148 bytes; ValueError when a field has the wrong size."""
        writer = Writer()
        writer.u32(self.TYPE)
        writer.u32(self.sender)
        writer.put(self.ephemeral, KEY_SIZE_BYTES)
        writer.put(self.encrypted_static, KEY_SIZE_BYTES + TAG_SIZE_BYTES)
        writer.put(self.encrypted_timestamp, TIMESTAMP_SIZE_BYTES + TAG_SIZE_BYTES)
        writer.put(self.mac1, MAC_SIZE_BYTES)
        writer.put(self.mac2, MAC_SIZE_BYTES)
        return writer.bytes()


@dataclass(frozen=True, slots=True)
class Response:
    """The second message: an ephemeral, and a tag over nothing which proves that both sides derived the same keys."""

    TYPE: ClassVar[int] = 2
    SIZE_BYTES: ClassVar[int] = 92

    sender: int
    receiver: int
    ephemeral: bytes
    encrypted_nothing: bytes
    mac1: bytes = ZERO_MAC
    mac2: bytes = ZERO_MAC

    @classmethod
    def parse(cls, data: bytes) -> Response:
        """Take a whole datagram apart; PeerError unless type and length are exactly right."""
        reader = _opened(data, cls.TYPE)
        message = cls(
            sender=reader.u32(),
            receiver=reader.u32(),
            ephemeral=reader.take(KEY_SIZE_BYTES),
            encrypted_nothing=reader.take(TAG_SIZE_BYTES),
            mac1=reader.take(MAC_SIZE_BYTES),
            mac2=reader.take(MAC_SIZE_BYTES),
        )
        reader.end()
        return message

    def build(self) -> bytes:
        """The datagram, 92 bytes; ValueError when a field has the wrong size."""
        writer = Writer()
        writer.u32(self.TYPE)
        writer.u32(self.sender)
        writer.u32(self.receiver)
        writer.put(self.ephemeral, KEY_SIZE_BYTES)
        writer.put(self.encrypted_nothing, TAG_SIZE_BYTES)
        writer.put(self.mac1, MAC_SIZE_BYTES)
        writer.put(self.mac2, MAC_SIZE_BYTES)
        return writer.bytes()


@dataclass(frozen=True, slots=True)
class CookieReply:
    """What a receiver under load answers instead: a cookie to be shown as mac2 of the next message."""

    TYPE: ClassVar[int] = 3
    SIZE_BYTES: ClassVar[int] = 64

    receiver: int
    nonce: bytes
    encrypted_cookie: bytes

    @classmethod
    def parse(cls, data: bytes) -> CookieReply:
        """Take a whole datagram apart; PeerError unless type and length are exactly right."""
        reader = _opened(data, cls.TYPE)
        message = cls(
            receiver=reader.u32(),
            nonce=reader.take(NONCE_SIZE_BYTES),
            encrypted_cookie=reader.take(COOKIE_SIZE_BYTES + TAG_SIZE_BYTES),
        )
        reader.end()
        return message

    def build(self) -> bytes:
        """The datagram, 64 bytes; ValueError when a field has the wrong size."""
        writer = Writer()
        writer.u32(self.TYPE)
        writer.u32(self.receiver)
        writer.put(self.nonce, NONCE_SIZE_BYTES)
        writer.put(self.encrypted_cookie, COOKIE_SIZE_BYTES + TAG_SIZE_BYTES)
        return writer.bytes()


Message = Initiation | Response | CookieReply


def parse(data: bytes) -> Message:
    """
    Take apart whichever handshake message *data* is.

    Raises:
        PeerError: the type (four bytes) is none of the three, or the length is not exactly that of its type.
    """
    match int.from_bytes(data[:4], "little"):
        case Initiation.TYPE:
            return Initiation.parse(data)
        case Response.TYPE:
            return Response.parse(data)
        case CookieReply.TYPE:
            return CookieReply.parse(data)
        case unknown:
            raise PeerError(f"expected a handshake message of type 1, 2 or 3, found {unknown}")


def _opened(data: bytes, expected_type: int) -> Reader:
    reader = Reader(data)
    found = reader.u32()
    if found != expected_type:
        raise PeerError(f"expected a message of type {expected_type}, found {found}")
    return reader
