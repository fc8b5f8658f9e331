"""
Sealing a message into one datagram or several, and opening what came.

    SK:  header | SK generic header | IV | payloads, padding | checksum
    SKF: header | SKF generic header | number | total | IV | a part of the payloads, padding | checksum

The checksum covers everything from the header on (`wire.ikev2.associated`). What is sent is kept by whoever sends it: a
retransmission is the same bytes, or an AEAD's nonce would seal two texts.

A message is cut when it would not fit a packet of `PACKET_BYTES` with IP and UDP headers, and only if both sides said that they
can (RFC 7383, 2.3); IKE_SA_INIT is never sealed and never cut.

Payloads before SK are covered by the checksum but not expected; what is opened holds what was inside alone.

Source: RFC 7296, 3.14; RFC 5282; RFC 7383, 2.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from ginnel.errors import PeerError
from ginnel.ikev2.fragments import FRAGMENTS_MAX, Reassembly
from ginnel.wire.ikev2 import (
    HEADER_SIZE,
    NON_ESP_MARKER,
    Header,
    Message,
    Payload,
    Sk,
    associated,
    build_payloads,
    parse_payloads,
)

#: A packet that every path carries (IPv6's smallest MTU; strongSwan's default as well).
PACKET_BYTES: Final = 1280
#: Generic header, and fragment number and total.
_SKF_HEAD_BYTES: Final = 8


class Cipher(Protocol):
    """One direction of an IKE SA: `crypto.ike.IkeCipher`."""

    def sealed_size(self, plaintext_size: int) -> int: ...
    def seal(self, associated: bytes, plaintext: bytes) -> bytes: ...
    def open(self, associated: bytes, sealed: bytes) -> bytes: ...


def room(address_bytes: int, *, natt: bool, packet_bytes: int = PACKET_BYTES) -> int:
    """
    Bytes of IKE message that fit a packet.

    Args:
        address_bytes: 4 or 16: the family of the path.
        natt: with a non-ESP marker.
        packet_bytes: with IP and UDP headers.
    """
    return packet_bytes - (20 if address_bytes == 4 else 40) - 8 - (len(NON_ESP_MARKER) if natt else 0)


def seal(cipher: Cipher, header: Header, payloads: Iterable[Payload], room_bytes: int | None = None) -> tuple[bytes, ...]:
    """
    A protected message, ready to be sent (and sent again as it is), without markers.

    Args:
        room_bytes: what one datagram may take (`room`); None: it is not cut.

    Returns:
        One datagram, or the fragments in their order.

    Raises:
        ValueError: it would take more fragments than are allowed: our own mistake (certificates are bounded when they are
            loaded).
    """
    first, plaintext = build_payloads(payloads)
    size = cipher.sealed_size(len(plaintext))
    if room_bytes is None or HEADER_SIZE + 4 + size <= room_bytes:
        head = associated(header, first, size)
        return (head + cipher.seal(head, plaintext),)
    part = _part_bytes(cipher, room_bytes - HEADER_SIZE - _SKF_HEAD_BYTES)
    parts = [plaintext[at : at + part] for at in range(0, len(plaintext), part)]
    if len(parts) > FRAGMENTS_MAX:
        raise ValueError(f"expected a message of at most {FRAGMENTS_MAX} fragments, found {len(plaintext)} bytes")
    sealed: list[bytes] = []
    for number, text in enumerate(parts, 1):
        head = associated(header, first if number == 1 else 0, cipher.sealed_size(len(text)), number, len(parts))
        sealed.append(head + cipher.seal(head, text))
    return tuple(sealed)


def _part_bytes(cipher: Cipher, limit: int) -> int:
    """The longest plaintext that is sealed into at most *limit* bytes."""
    part = limit
    while part > 0 and (excess := cipher.sealed_size(part) - limit) > 0:
        part -= excess
    if part <= 0:
        raise ValueError(f"expected room for a fragment, found {limit} bytes")
    return part


class Opening:
    """What comes in under one IKE SA: opened, and put together."""

    __slots__ = ("_cipher", "_requests", "_responses", "first_fragment")

    def __init__(self, cipher: Cipher) -> None:
        """*cipher*: the peer's direction."""
        self._cipher = cipher
        self._requests = Reassembly()
        self._responses = Reassembly()
        #: The genuine fragment 1 of the peer's request that came last.
        self.first_fragment = b""

    @property
    def stored_bytes(self) -> int:
        """What fragments wait here."""
        return self._requests.size_bytes + self._responses.size_bytes

    def open(self, data: bytes, message: Message, now_ns: int) -> Message | None:
        """
        Open a protected message. Ask it only for message ids that are wanted: a repeated request is answered from what is kept
        (RFC 7383, 2.6.1: on fragment 1 alone), without opening anything.

        Args:
            data: the datagram.
            message: the same, parsed.
            now_ns: CLOCK_BOOTTIME.

        Returns:
            The header (of the last fragment) and what was inside; None while fragments are missing.

        Raises:
            AuthenticationFailed: the checksum is wrong; nothing has changed.
            PeerError: there is no SK; or what was inside is malformed, which then is the peer's own word (INVALID_SYNTAX), an
                `UnsupportedCriticalPayload` among it.
        """
        sk = message.payloads[-1] if message.payloads else None
        if not isinstance(sk, Sk):
            raise PeerError("expected a protected message, found one without SK")
        if not sk.sealed:
            raise PeerError("expected something sealed in SK, found nothing")
        head = data[: -len(sk.sealed)]
        header = message.header
        parts = self._responses if header.response else self._requests
        if not sk.total:
            plaintext = self._cipher.open(head, sk.sealed)
            parts.clear()
            return Message(header, parse_payloads(sk.first, plaintext))

        def opened() -> bytes:
            plaintext = self._cipher.open(head, sk.sealed)
            if sk.fragment == 1 and not header.response:
                self.first_fragment = data
            return plaintext

        whole = parts.add(header.message_id, header.exchange, sk, opened, now_ns)
        return None if whole is None else Message(header, parse_payloads(*whole))
