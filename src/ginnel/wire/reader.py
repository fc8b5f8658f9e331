"""
The one place that counts bytes coming in.

A `Reader` walks a datagram from left to right and can neither run past its end nor stop before it unnoticed: `end()`
refuses what is left over. Every failure is a `PeerError` that says what was expected, what was found and where; what
was in the bytes is never quoted, since it may be ciphertext or worse.
"""

from __future__ import annotations

from ginnel.errors import PeerError


class Reader:
    """A cursor over immutable bytes."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def remaining(self) -> int:
        """How many bytes are still unread."""
        return len(self._data) - self._at

    def take(self, size_bytes: int) -> bytes:
        """The next *size_bytes* bytes; PeerError when fewer are left."""
        start = self._at
        stop = start + size_bytes
        if stop > len(self._data):
            raise PeerError(f"expected {size_bytes} bytes at offset {start}, found {len(self._data) - start}")
        self._at = stop
        return self._data[start:stop]

    def u32(self) -> int:
        """The next four bytes as a little-endian number; PeerError when fewer are left."""
        return int.from_bytes(self.take(4), "little")

    def end(self) -> None:
        """PeerError unless everything was read."""
        if self._at != len(self._data):
            raise PeerError(f"expected the end at offset {self._at}, found {len(self._data) - self._at} more bytes")
