"""The writer is the reader's mirror, and holds every field to its size."""

from __future__ import annotations

import pytest

from ginnel.wire.writer import Writer


def test_joins_fields_in_order() -> None:
    writer = Writer()
    writer.u32(0x04030201)
    writer.put(b"\xaa\xbb", 2)
    assert writer.bytes() == bytes.fromhex("01020304aabb")


@pytest.mark.parametrize("field", [b"", b"\x00", b"\x00" * 3])
def test_refuses_a_field_of_another_size(field: bytes) -> None:
    with pytest.raises(ValueError, match=f"expected a field of 2 bytes, found {len(field)}"):
        Writer().put(field, 2)


@pytest.mark.parametrize("number", [-1, 2**32])
def test_refuses_a_number_that_does_not_fit(number: int) -> None:
    with pytest.raises(OverflowError):
        Writer().u32(number)
