"""Routes and rules in iproute2's words: each word, each mistake, and back to words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.config.words import Route, Rule
from ginnel.units import Prefix


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.20.0.0/24", Route(Prefix.parse("10.20.0.0/24"))),
        ("10.20.0.7", Route(Prefix.parse("10.20.0.7/32"))),
        ("fd00::/8 table 64", Route(Prefix.parse("fd00::/8"), "64")),
        ("0.0.0.0/0 table origin metric 0x10", Route(Prefix.parse("0.0.0.0/0"), "origin", 16)),
        ("10.0.0.0/8 src 10.0.0.1", Route(Prefix.parse("10.0.0.0/8"), "", 0, "10.0.0.1")),
        ("10.0.0.0/8 table 254", Route(Prefix.parse("10.0.0.0/8"))),
        ("  10.0.0.0/8   table  main ", Route(Prefix.parse("10.0.0.0/8"))),
    ],
)
def test_routes(text: str, expected: Route) -> None:
    assert Route.parse(text) == expected
    assert Route.parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "expected a prefix such as 10.20.0.0/24, found ''", ""),
        ("lan", "expected a prefix such as 10.20.0.0/24, found 'lan'", ""),
        ("10.0.0.0/33", "expected a prefix such as 10.20.0.0/24, found '10.0.0.0/33'", ""),
        ("10.0.0.1/8", "expected a network, found 10.0.0.1/8, which is an address in it", "write 10.0.0.0/8"),
        ("default", "expected a prefix, found 'default'", "write 0.0.0.0/0 or ::/0"),
        ("10.0.0.0/8 tabel 7", "expected table, metric or src, found 'tabel'", "did you mean 'table'?"),
        ("10.0.0.0/8 table", "expected a value after table, found the end", ""),
        ("10.0.0.0/8 table 1 table 2", "table stands there twice", ""),
        ("10.0.0.0/8 table a/b", "table: expected a number or a name of /etc/iproute2/rt_tables, found 'a/b'", ""),
        ("10.0.0.0/8 metric -1", "metric: expected a number from 0 to 4294967295, found '-1'", ""),
        ("10.0.0.0/8 src host", "src: expected an address, found 'host'", ""),
        ("10.0.0.0/8 src fd00::1", "src: fd00::1 is not IPv4, as 10.0.0.0/8 is", ""),
    ],
)
def test_wrong_routes(text: str, message: str, hint: str) -> None:
    with pytest.raises(ValueError) as caught:
        Route.parse(text)
    assert caught.value.args == (message, hint)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from 10.0.0.0/8 table 64", Rule("64", source=Prefix.parse("10.0.0.0/8"), version=4)),
        ("not fwmark 7 lookup origin", Rule("origin", inverted=True, mark=7)),
        ("fwmark 0x10/0xff table 5 priority 9", Rule("5", mark=16, mask=255, priority=9)),
        ("from all to fd00::/8 table 5", Rule("5", destination=Prefix.parse("fd00::/8"), version=6)),
        ("iif gre1 table 64", Rule("64", iif="gre1")),
        ("from 10.1.2.3 oif eth0 table 64", Rule("64", source=Prefix.parse("10.1.2.3/32"), oif="eth0", version=4)),
    ],
)
def test_rules(text: str, expected: Rule) -> None:
    assert Rule.parse(text) == expected
    assert Rule.parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "expected table and its number, found ''", 'as in "from 203.0.113.64/28 table 64"'),
        ("from all table 5 iif e/h", "iif: expected the name of an interface, found 'e/h'", ""),
        ("table 5", "expected from, to, fwmark, iif or oif, found 'table 5'", "this rule would be for every packet"),
        (
            "from 10.0.0.0/8 to fd00::/8 table 5",
            "expected prefixes of one IP version, found 10.0.0.0/8 and fd00::/8",
            "write two rules",
        ),
        ("from 10.0.0.1/8 table 5", "expected a network, found 10.0.0.1/8, which is an address in it", "write 10.0.0.0/8"),
        ("fwmark x table 5", "fwmark: expected a number from 0 to 4294967295, found 'x'", ""),
        ("fwmark 1 table 5 priority 0", "priority: expected a number from 1 to 32765, found '0'", ""),
        (
            "fwmark 1 table 5 prio 7",
            "expected from, to, fwmark, iif, oif, priority, table or lookup, found 'prio'",
            "did you mean 'priority'?",
        ),
    ],
)
def test_wrong_rules(text: str, message: str, hint: str) -> None:
    with pytest.raises(ValueError) as caught:
        Rule.parse(text)
    assert caught.value.args == (message, hint)


@given(st.text(alphabet="0123456789abcdf./: xfromtable\x00\x1b-", max_size=60))
def test_any_text_is_read_or_refused_in_one_way(text: str) -> None:
    for kind in (Route, Rule):
        said: tuple[str, ...] = ("", "")
        try:
            read = kind.parse(text)
        except ValueError as error:
            said = error.args
        else:
            assert kind.parse(str(read)) == read
        assert len(said) == 2
        assert all(part.isprintable() for part in said)
