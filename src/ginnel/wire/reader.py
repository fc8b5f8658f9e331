"""
The one place that counts bytes coming in.

A `Reader` walks a datagram from left to right and can neither run past its end nor stop before it unnoticed: `end()`
refuses what is left over. Every failure is a `PeerError` that says what was expected, what was found and where; what
was in the bytes is never quoted, since it may be ciphertext or worse.
"""

from __future__ import annotations

import struct
from typing import Any

from ginnel.errors import PeerError


class Reader:
    """A cursor over immutable bytes. *base*: where they begin in the datagram, for what errors say."""

    __slots__ = ("_at", "_base", "_data")

    def __init__(self, data: bytes, base: int = 0) -> None:
        self._data = data
        self._at = 0
        self._base = base

    @property
    def offset(self) -> int:
        """Where the next byte lies in the datagram."""
        return self._base + self._at

    @property
    def remaining(self) -> int:
        """How many bytes are still unread."""
        return len(self._data) - self._at

    def take(self, size_bytes: int) -> bytes:
        """The next *size_bytes* bytes; PeerError when fewer are left."""
        start = self._at
        stop = start + size_bytes
        if stop > len(self._data):
            raise PeerError(f"expected {size_bytes} bytes at offset {self.offset}, found {len(self._data) - start}")
        self._at = stop
        return self._data[start:stop]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The fields of a fixed structure; PeerError when fewer bytes are left than it takes."""
        start = self._at
        stop = start + layout.size
        if stop > len(self._data):
            raise PeerError(f"expected {layout.size} bytes at offset {self.offset}, found {len(self._data) - start}")
        self._at = stop
        return layout.unpack_from(self._data, start)

    def inner(self, size_bytes: int) -> Reader:
        """A reader of the next *size_bytes* bytes alone, which are thereby read here; PeerError when fewer are left."""
        offset = self.offset
        return Reader(self.take(size_bytes), offset)

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.remaining)

    def u32(self) -> int:
        """The next four bytes as a little-endian number; PeerError when fewer are left."""
        return int.from_bytes(self.take(4), "little")

    def end(self) -> None:
        """PeerError unless everything was read."""
        if self._at != len(self._data):
            raise PeerError(f"expected the end at offset {self.offset}, found {len(self._data) - self._at} more bytes")
