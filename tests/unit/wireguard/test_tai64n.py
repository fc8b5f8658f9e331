"""Timestamps: the encoding, the rounding that hides the clock, and that they never go back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.wireguard import tai64n

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("unix_ns", "encoded"),
    [
        (0, "400000000000000a00000000"),
        (1, "400000000000000a00000001"),
        (999_999_999, "400000000000000a3b9ac9ff"),
        (1_700_000_000 * SECOND + 16_777_216, "400000006553f10a01000000"),
        (-SECOND, "400000000000000900000000"),
    ],
)
def test_encodes_big_endian_with_the_tai_offset(unix_ns: int, encoded: str) -> None:
    assert tai64n.encode(unix_ns).hex() == encoded


def test_never_is_before_everything_a_peer_can_send() -> None:
    assert tai64n.encode(0) > tai64n.NEVER
    assert len(tai64n.NEVER) == tai64n.SIZE_BYTES


@pytest.mark.parametrize(
    ("unix_ns", "rounded"),
    [
        (5 * SECOND, 5 * SECOND),
        (5 * SECOND + 16_777_215, 5 * SECOND),
        (5 * SECOND + 16_777_216, 5 * SECOND + 16_777_216),
        (5 * SECOND + 999_999_999, 5 * SECOND + 59 * 16_777_216),
    ],
)
def test_nanoseconds_are_rounded_down_to_2_to_the_24th(unix_ns: int, rounded: int) -> None:
    assert tai64n.next_after(0, unix_ns) == rounded


def test_twice_at_one_moment_is_a_grain_later() -> None:
    first = tai64n.next_after(0, 5 * SECOND)
    assert tai64n.next_after(first, 5 * SECOND) == 5 * SECOND + tai64n.GRAIN_NS


def test_after_the_last_grain_of_a_second_comes_the_next_second() -> None:
    assert tai64n.next_after(5 * SECOND + 59 * tai64n.GRAIN_NS, 5 * SECOND) == 6 * SECOND


def test_a_clock_set_back_by_years_is_ignored() -> None:
    last = tai64n.next_after(0, 2_000_000_000 * SECOND)
    assert tai64n.next_after(last, 1_000_000_000 * SECOND) == last + tai64n.GRAIN_NS


def test_a_clock_before_1970_counts_as_1970() -> None:
    assert tai64n.next_after(0, -5) > 0


@given(st.lists(st.integers(min_value=0, max_value=2**62), min_size=2, max_size=20))
def test_whatever_the_clock_does_timestamps_increase_as_bytes_and_show_no_fine_time(clocks: list[int]) -> None:
    last_ns, last = 0, tai64n.NEVER
    for unix_ns in clocks:
        last_ns = tai64n.next_after(last_ns, unix_ns)
        encoded = tai64n.encode(last_ns)
        assert encoded > last
        assert int.from_bytes(encoded[8:], "big") % tai64n.GRAIN_NS == 0
        assert last_ns >= unix_ns // SECOND * SECOND
        last = encoded
