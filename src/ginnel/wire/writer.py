"""
The one place that counts bytes going out: the mirror of `reader`.

A field that does not have the size its protocol gives it is our own mistake, so it is a ValueError, not a PeerError.
"""

from __future__ import annotations


class Writer:
    """Collects fields; `bytes()` joins them once."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def put(self, field: bytes, size_bytes: int) -> None:
        """Append *field*, which must be exactly *size_bytes* long."""
        if len(field) != size_bytes:
            raise ValueError(f"expected a field of {size_bytes} bytes, found {len(field)}")
        self._parts.append(field)

    def u32(self, number: int) -> None:
        """Append *number* as four little-endian bytes; OverflowError when it does not fit."""
        self._parts.append(number.to_bytes(4, "little"))

    def bytes(self) -> bytes:
        """Everything written so far."""
        return b"".join(self._parts)
