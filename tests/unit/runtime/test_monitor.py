"""rtnetlink messages from literal bytes, every truncation of them, and what is asked."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from ginnel.runtime import monitor

# A little-endian RTM_NEWLINK as the kernel sends it: index 7, flags UP|..., IFLA_IFNAME "wg0", IFLA_MTU 1420.
NEW_LINK = bytes.fromhex(
    "30000000 1000 0000 00000000 00000000"  # length, type, flags, sequence, port
    "00 00 fefe 07000000 d1100100 00000000"  # family, index, flags, change mask
    "0800 0300 77673000 0800 0400 8c050000"
)
DEL_LINK = bytes.fromhex("20000000 1100 0000 00000000 00000000 00 00 fefe 07000000 00000000 ffffffff")


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def route(table: int, *, oif: int = 0, flags: int = 0, long_table: int = 0) -> bytes:
    body = struct.pack("=8BI", 2, 24, 0, 0, table, 3, 0, 1, flags)
    for kind, value in ((4, oif), (15, long_table)):
        if value:
            body += struct.pack("=HHI", 8, kind, value)
    return body


def parse(data: bytes) -> list[monitor.Message]:
    return list(monitor.parse(data))


def test_links_come_and_go() -> None:
    assert parse(NEW_LINK) == [monitor.Link(7, "wg0", True, 1420)]
    assert parse(NEW_LINK[:24] + bytes(4) + NEW_LINK[28:]) == [monitor.Link(7, "wg0", False, 1420)]
    assert parse(DEL_LINK) == [monitor.LinkGone(7)]
    assert parse(NEW_LINK + DEL_LINK) == [monitor.Link(7, "wg0", True, 1420), monitor.LinkGone(7)]


def test_an_answer_about_another_namespace_says_which() -> None:
    attribute = struct.pack("=HHi", 8, 46, 3)
    data = struct.pack("=I", len(NEW_LINK) + 8) + NEW_LINK[4:] + attribute
    assert parse(data) == [monitor.Link(7, "wg0", True, 1420, 3)]


def test_what_may_make_a_source_address_wrong() -> None:
    assert parse(message(21, bytes(8))) == [monitor.HostChanged(0)], "an address went"
    assert parse(message(20, bytes(8))) == [], "one that came makes no other wrong"
    assert parse(message(24, route(254, oif=3))) == [monitor.HostChanged(3)]
    assert parse(message(25, route(254))) == [monitor.HostChanged(0)]
    assert parse(message(24, route(255, oif=3))) == [], "the local table follows the addresses"
    assert parse(message(24, route(252, oif=3, long_table=51820))) == [monitor.HostChanged(3)]
    assert parse(message(24, route(254, oif=3, flags=0x200))) == [], "a cache entry"
    assert parse(message(32, bytes(12))) == [monitor.HostChanged(0)], "a rule came"
    assert parse(message(33, bytes(12))) == [monitor.HostChanged(0)], "a rule went"


def test_a_refusal_has_its_errno_and_an_acknowledgement_is_nothing() -> None:
    assert parse(message(2, struct.pack("=i", -19) + bytes(16))) == [monitor.Refused(19)]
    assert parse(message(2, struct.pack("=i", 0) + bytes(16))) == []


def test_every_truncation_is_survived() -> None:
    for size in range(len(NEW_LINK)):
        assert parse(NEW_LINK[:size]) == []
    for size in range(17, len(NEW_LINK)):
        cut = struct.pack("=I", size) + NEW_LINK[4:size]
        assert all(found.index == 7 for found in parse(cut) if isinstance(found, monitor.Link))


@given(st.binary(max_size=120))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    parse(data)
    parse(message(16, data))
    parse(message(24, data))
    parse(message(2, data))


def test_a_question_about_a_link_is_aligned_and_whole() -> None:
    for name in ("a", "wg0", "fifteen-letters"):
        asked = monitor.link_request(name, 5)
        size, kind, flags, _, _ = struct.unpack_from("=IHHII", asked)
        assert (size, kind, flags, size % 4) == (len(asked), 18, 1, 0)
        assert name.encode() + b"\0" in asked
        assert asked.endswith(struct.pack("=HHi", 8, 46, 5))
    assert len(monitor.link_request("wg0")) == len(monitor.link_request("wg0", 5)) - 8
