"""
TAI64N timestamps: what an initiation carries so that it cannot be replayed.

Twelve bytes, big-endian: 2^62 + 10 + seconds since 1970, then nanoseconds; so timestamps compare as bytes. Two rules:

- Nanoseconds are rounded down to a multiple of 2^24 (about 16.8 ms, the greatest power of two below the 20 ms in which a
  receiver takes one initiation): a precise clock on the wire would let an observer measure what this machine is doing.
- Timestamps to one peer strictly increase, whatever the wall clock does: the peer refuses one that is not greater than the
  last. So the next one is never before the last one *sent*; set back by years, the clock is simply ignored for that peer.

Inside the machines a timestamp is wall time in nanoseconds since 1970 (an int, 0 for never), already rounded.

Source: WireGuard paper 5.1 and 5.4.2; the kernel's noise.c `tai64n_now`; https://cr.yp.to/libtai/tai64.html.
"""

from __future__ import annotations

from typing import Final

from ginnel.units import NS_PER_S

SIZE_BYTES: Final = 12
#: TAI was 10 s ahead of UTC in 1970; like everybody, we leave out the leap seconds since.
_EPOCH: Final = 2**62 + 10
GRAIN_NS: Final = 2**24

#: Before any timestamp that a peer can send.
NEVER: Final = bytes(SIZE_BYTES)


def encode(unix_ns: int) -> bytes:
    """The twelve bytes for a time since 1970."""
    seconds, nanoseconds = divmod(unix_ns, NS_PER_S)
    return (_EPOCH + seconds).to_bytes(8, "big") + nanoseconds.to_bytes(4, "big")


def next_after(last_ns: int, unix_ns: int) -> int:
    """
    The timestamp to send now.

    Args:
        last_ns: the last one sent to this peer, as returned from here; 0 for none.
        unix_ns: wall clock.

    Returns:
        *unix_ns* rounded down, or when that would not be greater than *last_ns* the next grain after it.
    """
    rounded = _round_down(max(unix_ns, 0))
    if rounded > last_ns:
        return rounded
    following = _round_down(last_ns) + GRAIN_NS
    # The grains count from each full second, as a second is not a whole number of them.
    return following if following % NS_PER_S >= GRAIN_NS else following - following % NS_PER_S


def _round_down(unix_ns: int) -> int:
    seconds, nanoseconds = divmod(unix_ns, NS_PER_S)
    return seconds * NS_PER_S + (nanoseconds & ~(GRAIN_NS - 1))
