"""
Putting the fragments of one protected message together (RFC 7383, 2.6).

Each fragment is a message of its own, with its own checksum: nothing is stored, and nothing that was stored is thrown away, for
one that is not genuine. So memory can be taken only by a peer that holds the keys of the IKE SA, and even then: one message at a
time (a `Reassembly` for the peer's requests and another for its responses), so many fragments, so many bytes, so long.

What is checked before the costly part: the message is the one being put together, or a later one (a window of one: the older will
not be finished), the total is not smaller than the one known, the number was not seen. A greater total is the same message cut
anew into smaller pieces, after the path turned out narrower: what was stored is of no use any more.

Source: RFC 7383, 2.6 and 2.6.1; libreswan and strongSwan for how many are seen in practice (Windows at a small MTU: above 16).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ginnel.errors import PeerError
from ginnel.wire.ikev2 import MESSAGE_MAX_BYTES, Sk

#: 64 × 1,280 bytes is more than a message may have.
FRAGMENTS_MAX: Final = 64
#: Longer than any retransmission of it takes; then what is stored is dropped when the next fragment comes.
KEPT_NS: Final = 60 * 10**9


@dataclass(slots=True)
class _Partial:
    message_id: int
    exchange: int
    total: int
    began_ns: int
    #: The type of the first payload, from fragment 1.
    first: int = 0
    size_bytes: int = 0
    parts: dict[int, bytes] = field(default_factory=dict)


class Reassembly:
    """Fragments of one direction's messages: the peer's requests, or its responses."""

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial: _Partial | None = None

    @property
    def size_bytes(self) -> int:
        """How much is stored."""
        return self._partial.size_bytes if self._partial is not None else 0

    def add(self, message_id: int, exchange: int, sk: Sk, opened: Callable[[], bytes], now_ns: int) -> tuple[int, bytes] | None:
        """
        Take one fragment in.

        Args:
            sk: the fragment, sealed.
            opened: gives its plaintext; raises AuthenticationFailed. Called only if the fragment is wanted.
            now_ns: CLOCK_BOOTTIME.

        Returns:
            (type of the first payload, payloads) once all are there; None before, and for one that is not wanted.

        Raises:
            PeerError: too many fragments, or together too long.
            AuthenticationFailed: from *opened*; nothing has changed then.
        """
        if sk.total > FRAGMENTS_MAX:
            raise PeerError(f"expected at most {FRAGMENTS_MAX} fragments, found {sk.total}")
        partial = self._current(message_id, exchange, now_ns)
        if partial is not None and (sk.total < partial.total or (sk.total == partial.total and sk.fragment in partial.parts)):
            return None
        plaintext = opened()
        if partial is None or sk.total > partial.total:
            partial = _Partial(message_id, exchange, sk.total, now_ns)
        size_bytes = partial.size_bytes + len(plaintext)
        if size_bytes > MESSAGE_MAX_BYTES:
            self._partial = None
            raise PeerError(f"expected a message of at most {MESSAGE_MAX_BYTES} bytes, found more in its fragments")
        partial.size_bytes = size_bytes
        partial.parts[sk.fragment] = plaintext
        if sk.fragment == 1:
            partial.first = sk.first
        if len(partial.parts) < partial.total:
            self._partial = partial
            return None
        self._partial = None
        return partial.first, b"".join(partial.parts[number] for number in range(1, partial.total + 1))

    def clear(self) -> None:
        """The message came whole, or is no longer wanted."""
        self._partial = None

    def _current(self, message_id: int, exchange: int, now_ns: int) -> _Partial | None:
        partial = self._partial
        if partial is None or partial.message_id != message_id or partial.exchange != exchange:
            return None
        return partial if now_ns - partial.began_ns <= KEPT_NS else None
