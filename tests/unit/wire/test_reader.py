"""The reader counts bytes: it neither runs past the end nor stops before it unnoticed."""

from __future__ import annotations

import pytest

from ginnel.errors import PeerError
from ginnel.wire.reader import Reader


def test_takes_fields_from_left_to_right() -> None:
    reader = Reader(bytes.fromhex("01020304 aabbcc"))
    assert reader.u32() == 0x04030201
    assert reader.remaining == 3
    assert reader.take(3) == b"\xaa\xbb\xcc"
    reader.end()


def test_says_what_was_expected_and_found_and_where_when_bytes_run_out() -> None:
    reader = Reader(b"\x00" * 6)
    reader.take(4)
    with pytest.raises(PeerError, match=r"expected 4 bytes at offset 4, found 2"):
        reader.u32()
    assert reader.remaining == 2  # nothing was consumed


def test_refuses_bytes_left_over() -> None:
    reader = Reader(b"\x00" * 5)
    reader.u32()
    with pytest.raises(PeerError, match=r"expected the end at offset 4, found 1 more bytes"):
        reader.end()


def test_an_empty_field_is_a_field() -> None:
    reader = Reader(b"")
    assert reader.take(0) == b""
    reader.end()
