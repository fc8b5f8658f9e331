"""
Prefixes by which addresses are looked up: the longest one that an address lies in, as routers and WireGuard choose.

One dictionary for each length that occurs (a network has few): a lookup costs as many steps, whatever the number of prefixes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from ginnel.units import Prefix

T = TypeVar("T")


class PrefixTable(Generic[T]):
    """A value for each prefix; of two equal prefixes the later one is kept, as WireGuard does."""

    def __init__(self) -> None:
        #: By size of the address in bytes, then by length, longest first.
        self._lengths: dict[int, dict[int, dict[int, tuple[Prefix, T]]]] = {4: {}, 16: {}}

    def add(self, prefix: Prefix, value: T) -> None:
        """Put *value* at *prefix*, over what is there."""
        size = len(prefix.packed)
        lengths = self._lengths[size]
        entries = lengths.get(prefix.length)
        if entries is None:
            entries = lengths[prefix.length] = {}
            self._lengths[size] = dict(sorted(lengths.items(), reverse=True))
        entries[int.from_bytes(prefix.packed, "big") >> (size * 8 - prefix.length)] = (prefix, value)

    def remove(self, prefix: Prefix) -> None:
        """Take out what stands at exactly this prefix, if anything does."""
        entries = self._lengths[len(prefix.packed)].get(prefix.length, {})
        entries.pop(int.from_bytes(prefix.packed, "big") >> (len(prefix.packed) * 8 - prefix.length), None)

    def copy(self) -> PrefixTable[T]:
        """Another table with the same in it."""
        made: PrefixTable[T] = PrefixTable()
        made._lengths = {size: {length: entries.copy() for length, entries in of.items()} for size, of in self._lengths.items()}
        return made

    def prefixes(self) -> Iterator[Prefix]:
        """Every prefix that something stands at."""
        for lengths in self._lengths.values():
            for entries in lengths.values():
                for prefix, _ in entries.values():
                    yield prefix

    def get(self, prefix: Prefix) -> T | None:
        """What stands at exactly this prefix."""
        entries = self._lengths[len(prefix.packed)].get(prefix.length, {})
        found = entries.get(int.from_bytes(prefix.packed, "big") >> (len(prefix.packed) * 8 - prefix.length))
        return found[1] if found is not None else None

    def covering(self, packed: bytes, most: int | None = None) -> Iterator[tuple[Prefix, T]]:
        """Every prefix of at most *most* bits that the address lies in, longest first."""
        bits = len(packed) * 8
        number = int.from_bytes(packed, "big")
        for length, entries in self._lengths[len(packed)].items():
            if most is not None and length > most:
                continue
            found = entries.get(number >> (bits - length))
            if found is not None:
                yield found

    def longest(self, packed: bytes) -> tuple[Prefix, T] | None:
        """The longest prefix that the address lies in, and its value."""
        return next(self.covering(packed), None)
