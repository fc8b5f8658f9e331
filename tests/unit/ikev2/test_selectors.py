"""Traffic selectors: words both ways, what is in common, and a NAT on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.errors import UsageError
from ginnel.ikev2 import selectors
from ginnel.wire.ikev2 import Selector

HERE = bytes((192, 0, 2, 1))
THERE = bytes((198, 51, 100, 2))
PRIVATE = bytes((10, 0, 0, 5))


def one(text: str, dynamic: bytes = HERE) -> Selector:
    return selectors.parse_words(text).at(dynamic)


def some(*texts: str) -> tuple[Selector, ...]:
    return tuple(one(text) for text in texts)


def test_words_become_selectors() -> None:
    assert one("10.1.0.0/16[tcp/80]") == Selector(6, 80, 80, bytes((10, 1, 0, 0)), bytes((10, 1, 255, 255)))
    assert one("dynamic[gre]") == Selector(47, 0, 65535, HERE, HERE)
    assert one("10.0.0.1-10.0.0.9") == Selector(0, 0, 65535, bytes((10, 0, 0, 1)), bytes((10, 0, 0, 9)))
    assert one("::/0") == Selector(0, 0, 65535, bytes(16), b"\xff" * 16)
    assert selectors.parse_words("dynamic").dynamic
    assert not selectors.parse_words("10.0.0.1").dynamic
    # A type of ICMP is the upper half of a port (RFC 7296, 3.13.1).
    assert one("10.0.0.1[icmp/8]").first_port == 0x0800
    assert one("10.0.0.1[icmp/8]").last_port == 0x08FF


@pytest.mark.parametrize(
    "text",
    [
        "10.1.0.0/16",
        "10.1.0.0/16[tcp/80]",
        "10.1.0.0/16[udp/1024-65535]",
        "0.0.0.0/0",
        "192.0.2.1[gre]",
        "192.0.2.1-192.0.2.6",
        "2001:db8::/32[icmpv6/128]",
        "192.0.2.1[tcp/opaque]",
        "192.0.2.1[99]",
        "192.0.2.1[any/500]",
    ],
)
def test_words_come_back(text: str) -> None:
    assert selectors.text(one(text)) == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "expected a selector such as"),
        ("10.1.0.0/33", "expected a selector such as"),
        ("10.1.0.5/16", "write 10.1.0.0/16"),
        ("10.0.0.9-10.0.0.1", "from the lower to the higher"),
        ("10.0.0.9-::1", "from the lower to the higher"),
        ("10.0.0.1[gre", "expected a closing bracket"),
        ("10.0.0.1[grr]", "'grr' is no protocol"),
        ("10.0.0.1[256]", "'256' is no protocol"),
        ("10.0.0.1[tcp/65536]", "found '65536'"),
        ("10.0.0.1[tcp/90-80]", "found '90-80'"),
        ("10.0.0.1[tcp/]", "expected a port"),
        ("10.0.0.1[gre/80]", "gre has no ports, found '80'"),
        ("dynamics", "expected a selector such as"),
    ],
)
def test_words_that_are_no_selector(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        selectors.parse_words(text)


@pytest.mark.parametrize(
    ("offered", "configured", "expected"),
    [
        (("10.1.0.0/16",), ("10.1.2.0/24",), ("10.1.2.0/24",)),
        (("10.1.2.0/24",), ("0.0.0.0/0",), ("10.1.2.0/24",)),
        (("0.0.0.0/0",), ("10.1.0.0/16[tcp]", "10.2.0.0/16"), ("10.1.0.0/16[tcp]", "10.2.0.0/16")),
        (("192.0.2.1[gre]",), ("192.0.2.1",), ("192.0.2.1[gre]",)),
        (("10.0.0.1-10.0.0.9[tcp/80-90]",), ("10.0.0.5-10.0.0.20[tcp/85-443]",), ("10.0.0.5-10.0.0.9[tcp/85-90]",)),
        (("0.0.0.0/0", "::/0"), ("::/0",), ("::/0",)),
        # What came first stays first, and nothing is there twice.
        (("10.1.2.3[tcp/80]", "10.1.0.0/16"), ("10.0.0.0/8",), ("10.1.2.3[tcp/80]", "10.1.0.0/16")),
        (("10.1.0.0/16", "10.1.2.3[tcp/80]"), ("10.0.0.0/8",), ("10.1.0.0/16",)),
        (("10.9.9.9", "10.1.2.0/24", "10.1.0.0/16"), ("10.0.0.0/8",), ("10.9.9.9", "10.1.0.0/16")),
        (("192.0.2.1[tcp/opaque]",), ("192.0.2.1",), ("192.0.2.1[tcp/opaque]",)),
    ],
)
def test_narrowing(offered: tuple[str, ...], configured: tuple[str, ...], expected: tuple[str, ...]) -> None:
    found = selectors.narrow(some(*offered), some(*configured))
    assert found is not None
    assert tuple(selectors.text(selector) for selector in found) == expected
    assert selectors.within(found, some(*offered))
    assert selectors.within(found, some(*configured))


@pytest.mark.parametrize(
    ("offered", "configured"),
    [
        (("10.1.0.0/16",), ("10.2.0.0/16",)),
        (("10.1.0.0/16[tcp]",), ("10.1.0.0/16[udp]",)),
        (("10.1.0.0/16[tcp/80]",), ("10.1.0.0/16[tcp/443]",)),
        (("10.1.0.0/16[tcp/opaque]",), ("10.1.0.0/16[tcp/80]",)),
        (("0.0.0.0/0",), ("::/0",)),
        ((), ("::/0",)),
        (("::/0",), ()),
    ],
)
def test_nothing_in_common(offered: tuple[str, ...], configured: tuple[str, ...]) -> None:
    assert selectors.narrow(some(*offered), some(*configured)) is None


def test_an_answer_that_says_more_than_was_offered_is_not_within() -> None:
    assert selectors.within(some("10.1.2.0/24"), some("10.1.0.0/16"))
    assert not selectors.within(some("10.1.2.0/24", "10.2.0.0/16"), some("10.1.0.0/16"))
    assert not selectors.within(some("10.1.0.0/16"), some("10.1.0.0/16[tcp]"))
    assert not selectors.within((), some("0.0.0.0/0"))


def test_the_bound_on_what_two_long_lists_have_in_common() -> None:
    offered = tuple(selectors.host(bytes((10, 0, 0, at))) for at in range(200))
    configured = tuple(Selector(number, 0, 65535, bytes(4), b"\xff" * 4) for number in range(1, 200))
    found = selectors.narrow(offered, configured)
    assert found is not None
    assert len(found) == 255


@pytest.mark.parametrize(
    ("local", "remote", "expected"),
    [
        (1, 1, (1, 1)),
        (4, 255, (4, 255)),
        (32, 32, (32, 32)),
        (5, 255, (5, 204)),
        (255, 5, (204, 5)),
        (32, 255, (32, 32)),
        (33, 33, (32, 32)),
        (255, 255, (32, 32)),
    ],
)
def test_pairs_are_bounded_by_taking_fewer_of_the_side_that_has_more(local: int, remote: int, expected: tuple[int, int]) -> None:
    assert selectors.taken(local, remote, selectors.PAIRS_MAX) == expected


def test_who_has_configured_more_pairs_gets_them() -> None:
    many = tuple(selectors.host(bytes((10, 0, 0, at))) for at in range(100))
    assert selectors.pairs_max(some("0.0.0.0/0", "::/0"), some("0.0.0.0/0")) == selectors.PAIRS_MAX
    assert selectors.pairs_max(many, many) == 10_000
    assert selectors.taken(100, 100, 10_000) == (100, 100)


def test_transport_mode_behind_a_nat_as_the_responder_sees_it() -> None:
    # The peer has 10.0.0.5, and comes from 198.51.100.2.
    offered, configured = (selectors.host(PRIVATE, 47),), (selectors.host(THERE, 47),)
    assert selectors.narrow(offered, configured) is None
    found = selectors.narrow_through_nat(offered, configured, THERE)
    assert found == ((selectors.host(THERE, 47),), offered)


def test_without_a_nat_the_substitution_changes_nothing() -> None:
    offered, configured = (selectors.host(THERE),), (selectors.host(THERE, 47),)
    narrowed = (selectors.host(THERE, 47),)
    assert selectors.narrow_through_nat(offered, configured, THERE) == (narrowed, narrowed)
    networks = some("10.1.0.0/16")
    assert selectors.narrow_through_nat(networks, networks, THERE) == (networks, networks)
    assert selectors.narrow_through_nat(offered, some("10.1.0.0/16"), THERE) is None


def test_substitution_is_for_hosts_of_one_family() -> None:
    v6 = selectors.host(bytes(15) + b"\1")
    mixed = (selectors.host(PRIVATE, 47), v6, one("10.1.0.0/16"))
    assert selectors.substituted(mixed, THERE) == (selectors.host(THERE, 47), v6, one("10.1.0.0/16"))


def test_as_the_engine_takes_them() -> None:
    assert selectors.for_engine((selectors.host(HERE, 47),), (selectors.host(THERE),)) == [
        (47, 0, 65535, HERE, HERE, 0, 65535, THERE, THERE)
    ]
    assert selectors.for_engine(some("0.0.0.0/0", "::/0"), some("0.0.0.0/0", "::/0")) == [
        (0, 0, 65535, bytes(4), b"\xff" * 4, 0, 65535, bytes(4), b"\xff" * 4),
        (0, 0, 65535, bytes(16), b"\xff" * 16, 0, 65535, bytes(16), b"\xff" * 16),
    ]
    assert selectors.for_engine(some("10.0.0.1[tcp]"), some("10.0.0.2[udp]")) == []


_SMALL = st.builds(
    lambda protocol, ports, ends: Selector(protocol, *sorted(ports), *(bytes((10, 0, 0, end)) for end in sorted(ends))),
    st.sampled_from([0, 6, 17]),
    st.tuples(st.integers(0, 3), st.integers(0, 3)) | st.just((0, 65_535)),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
)


def _holds(selector: Selector, protocol: int, port: int, last: int) -> bool:
    inside = selector.first <= bytes((10, 0, 0, last)) <= selector.last
    return inside and selector.protocol in (0, protocol) and selector.first_port <= port <= selector.last_port


@given(st.lists(_SMALL, max_size=3), st.lists(_SMALL, max_size=3))
def test_narrowing_is_the_intersection_packet_by_packet(offered: list[Selector], configured: list[Selector]) -> None:
    found = selectors.narrow(offered, configured) or ()
    for protocol in (6, 17, 99):
        for port in (0, 2, 4, 65_535):
            for last in range(6):
                wanted = any(_holds(o, protocol, port, last) for o in offered) and any(
                    _holds(c, protocol, port, last) for c in configured
                )
                assert any(_holds(f, protocol, port, last) for f in found) == wanted
