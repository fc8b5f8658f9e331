"""
As much DER as identities and signatures need: walking over elements, and comparing distinguished names.

Strict: definite lengths in their shortest form, no element beyond its parent, nothing left over. What is compared byte by byte
elsewhere (names in certificates, algorithm identifiers) must have one encoding only.

A distinguished name is a sequence of sets of (type, value). Two are the same when their bytes are, or when types and order
agree and the values do after case and runs of blanks are taken away, whatever string type each is in: people write names into
files, and authorities choose the string type.

Source: X.690 8.1, 10; RFC 5280 7.1 (a simpler folding of characters than RFC 4518's: what it does not fold is different).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Final, NamedTuple

SEQUENCE: Final = 0x30
SET: Final = 0x31
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
NULL: Final = 0x05
OID: Final = 0x06

#: Names longer than this are not remembered.
SHORT_NAME_BYTES: Final = 512
#: String types of names and how their bytes are text: UTF8String, PrintableString, TeletexString, IA5String, BMPString.
_STRINGS: Final = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}

#: ASCII alone: beyond it, what one rule folds together another keeps apart, and an authority may have named two people so.
_LOWER: Final = {upper: upper + 32 for upper in range(0x41, 0x5B)}


class Element(NamedTuple):
    """One element: its tag byte, its contents, and its whole encoding."""

    tag: int
    body: bytes
    whole: bytes


def elements(data: bytes) -> Iterator[Element]:
    """
    The elements that *data* consists of, one after another.

    Raises:
        ValueError: a length that is not DER, or does not fit.
    """
    at = 0
    while at < len(data):
        start = at
        if len(data) - at < 2:
            raise ValueError(f"expected a tag and a length at byte {at}, found {len(data) - at} byte")
        tag, length = data[at], data[at + 1]
        if tag & 0x1F == 0x1F:
            raise ValueError(f"expected a tag of one byte at byte {at}, found {tag:#x}")
        at += 2
        if length >= 0x80:
            count = length & 0x7F
            coded = data[at : at + count]
            length = int.from_bytes(coded, "big")
            if not 1 <= count <= 4 or len(coded) != count or length < 0x80 or coded[0] == 0:
                raise ValueError(f"expected a length in its shortest form at byte {at - 1}")
            at += count
        if length > len(data) - at:
            raise ValueError(f"expected {length} bytes at byte {at}, found {len(data) - at}")
        at += length
        yield Element(tag, data[at - length : at], data[start:at])


def one(data: bytes, tag: int) -> Element:
    """The single element that *data* is, with *tag*; ValueError otherwise."""
    found = list(elements(data))
    if len(found) != 1 or found[0].tag != tag:
        raise ValueError(f"expected one element of tag {tag:#x}, found {[f'{element.tag:#x}' for element in found]}")
    return found[0]


def small_integer(element: Element) -> int:
    """A non-negative INTEGER below 2^31 in its shortest form; ValueError otherwise."""
    body = element.body
    if element.tag != INTEGER or not 1 <= len(body) <= 4 or body[0] & 0x80 or (len(body) > 1 and body[0] == 0 and body[1] < 0x80):
        raise ValueError("expected a small integer")
    return int.from_bytes(body, "big")


Names = tuple[frozenset[tuple[bytes, str | bytes]], ...]


def name_parts(der: bytes) -> Names:
    """
    A distinguished name for comparing: for each part the set of (OID, folded value); bytes where the value is no string.

    Raises:
        ValueError: *der* is not a Name.
    """
    parts = []
    for part in elements(one(der, SEQUENCE).body):
        if part.tag != SET:
            raise ValueError(f"expected a set in a distinguished name, found tag {part.tag:#x}")
        attributes = []
        for attribute in elements(part.body):
            pair = list(elements(attribute.body))
            if attribute.tag != SEQUENCE or len(pair) != 2 or pair[0].tag != OID:
                raise ValueError("expected a type and a value in a distinguished name")
            attributes.append((pair[0].body, _folded(pair[1])))
        parts.append(frozenset(attributes))
    return tuple(parts)


def same_name(left: bytes, right: bytes) -> bool:
    """Whether two encoded distinguished names are one; what cannot be read is the same as nothing but itself."""
    if left == right:
        return True
    first = _known_parts(left)
    return first is not None and first == _known_parts(right)


def _known_parts(encoded: bytes) -> tuple[object, ...] | None:
    return _short_parts(encoded) if len(encoded) <= SHORT_NAME_BYTES else _parts_or_none(encoded)


def _parts_or_none(encoded: bytes) -> tuple[object, ...] | None:
    try:
        return name_parts(encoded)
    except ValueError:
        return None


#: A stranger's name is held against those of a thousand connections, so none is read twice that was read lately.
_short_parts = functools.lru_cache(maxsize=2048)(_parts_or_none)


def _folded(value: Element) -> str | bytes:
    encoding = _STRINGS.get(value.tag)
    if encoding is None:
        return value.whole
    try:
        text = value.body.decode(encoding)
    except UnicodeDecodeError:
        return value.whole
    return " ".join(part for part in text.translate(_LOWER).split(" ") if part)
