"""Node files: what each key becomes, and what is told of each mistake, word by word."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginnel.config import nodefile
from ginnel.config.node import Encapsulation, Keepalive, NodeConfig, PlainConfig, from_json, to_json
from ginnel.config.node_values import KEYS
from ginnel.errors import ConfigError

PATH = "/etc/ginnel/edge.toml"
SEED = """
[tunnel.gre1]
kind = "gre"
local = "203.0.113.10"
remote = "198.51.100.20"
ttl = 255
address = ["10.10.10.1/30"]
routes = ["10.20.0.0/24"]
mtu = "auto"
"""
V4 = 'local = "203.0.113.10"\nremote = "198.51.100.20"\n'
V6 = 'local = "2001:db8::1"\nremote = "2001:db8::2"\n'


def table(options: str, kind: str = "gre", ends: str = V4, name: str = "t") -> str:
    return f'[tunnel.{name}]\nkind = "{kind}"\n{ends}{options}\n'


def parse(text: str) -> NodeConfig:
    return nodefile.parse(text, PATH)


def one(options: str, kind: str = "gre", ends: str = V4) -> PlainConfig:
    (tunnel,) = parse(table(options, kind, ends)).plain
    return tunnel


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value).replace(f"{PATH}:", "")


def test_the_seeds_example_as_it_is_written() -> None:
    config = parse(SEED)
    assert config == NodeConfig(
        "edge",
        PATH,
        "auto",
        (
            PlainConfig(
                "gre1", "gre", 4, "203.0.113.10", "198.51.100.20", ttl=255, address=("10.10.10.1/30",), routes=("10.20.0.0/24",)
            ),
        ),
    )


# ---------------------------------------------------------------- what each key becomes


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {}),
        ('ttl = "inherit"', {"ttl": 0}),
        ("ttl = 0", {"ttl": 0}),
        ("hoplimit = 64", {"ttl": 64}),
        ('tos = "inherit"', {"tos": None}),
        ('tos = "0x10"', {"tos": 16}),
        ("tos = 0xb8", {"tos": 184}),
        ('tclass = "inherit"', {"tos": None}),
        ("dsfield = 4", {"tos": 4}),
        ("key = 7", {"ikey": 7, "okey": 7}),
        ("key = 0", {"ikey": 0, "okey": 0}),
        ('key = "0xffffffff"', {"ikey": 2**32 - 1, "okey": 2**32 - 1}),
        ('key = "10.0.0.7"', {"ikey": 0x0A000007, "okey": 0x0A000007}),
        ("ikey = 1", {"ikey": 1}),
        ("okey = 2", {"okey": 2}),
        ("key = 9\nokey = 2", {"ikey": 9, "okey": 2}),
        ("csum = true", {"icsum": True, "ocsum": True}),
        ("icsum = true", {"icsum": True}),
        ("csum = true\nocsum = false", {"icsum": True}),
        ("seq = true", {"iseq": True, "oseq": True}),
        ("oseq = true", {"oseq": True}),
        ("pmtudisc = false", {"pmtudisc": False}),
        ("pmtudisc = false\nignore-df = true", {"pmtudisc": False, "ignore_df": True}),
        ("pmtudisc = false\nignore_df = true", {"pmtudisc": False, "ignore_df": True}),
        ("ignore-df = false", {}),
        ('dev = "eth0"', {"dev": "eth0"}),
        ("fwmark = 0x20", {"fwmark": 32}),
        ('fwmark = "0x20"', {"fwmark": 32}),
        ("tolerant = true", {"tolerant": True}),
        ('encapsulation = "udp"', {"encapsulation": Encapsulation()}),
        ('encapsulation = "udp"\nlisten = 5000', {"encapsulation": Encapsulation(5000, 5000, 4754)}),
        (
            'encapsulation = "udp"\nencap-sport = "auto"\nencap-dport = "learned"',
            {"encapsulation": Encapsulation(4754, 0, 0)},
        ),
        ('encapsulation = "udp"\nencap_sport = 1\nencap_dport = 2', {"encapsulation": Encapsulation(4754, 1, 2)}),
        ('address = ["10.0.0.1", "FD00::1/64"]', {"address": ("10.0.0.1/32", "fd00::1/64")}),
        ('address = ["10.0.0.0/31"]', {"address": ("10.0.0.0/31",)}),
        ('routes = ["10.0.0.0/8", "192.0.2.7", "fd00::/8"]', {"routes": ("10.0.0.0/8", "192.0.2.7/32", "fd00::/8")}),
        (
            'routes = ["0.0.0.0/0 src 10.0.0.1 metric 7 table 64"]',
            {"routes": ("0.0.0.0/0 table 64 metric 7 src 10.0.0.1",)},
        ),
        ('routes = ["10.0.0.0/8 table main"]', {"routes": ("10.0.0.0/8",)}),
        ('rules = ["from 10.0.0.0/8 lookup 64"]', {"rules": ("from 10.0.0.0/8 table 64",)}),
        ("mtu = 1400", {"mtu": 1400}),
        ('mtu = "auto"', {}),
        ("mss-clamp = false", {"mss_clamp": False}),
        ("mss_clamp = false", {"mss_clamp": False}),
        ("keepalive = 10", {"keepalive": Keepalive()}),
        ("keepalive = 0", {}),
        ("keepalive = {}", {"keepalive": Keepalive()}),
        ("keepalive = { interval = 3, retries = 0 }", {"keepalive": Keepalive(3, 0)}),
        ('keepalive = 25\nencapsulation = "udp"', {"keepalive": Keepalive(25, 0), "encapsulation": Encapsulation()}),
    ],
)
def test_each_key(options: str, expected: dict[str, Any]) -> None:
    plain = PlainConfig("t", "gre", 4, "203.0.113.10", "198.51.100.20")
    assert one(options) == dataclasses.replace(plain, **expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("encaplimit = 4", {"encaplimit": 4}),
        ('encaplimit = "none"', {}),
        ("flowlabel = 0xfffff", {"flowlabel": 0xFFFFF}),
        ('flowlabel = "inherit"', {}),
        ('keepalive = { dialect = "mikrotik" }', {"keepalive": Keepalive(dialect="mikrotik")}),
    ],
)
def test_each_key_of_ipv6(options: str, expected: dict[str, Any]) -> None:
    plain = PlainConfig("t", "gre", 6, "2001:db8::1", "2001:db8::2")
    assert one(options, "gre", V6) == dataclasses.replace(plain, **expected)


@pytest.mark.parametrize(
    ("kind", "ends", "expected"),
    [
        ("gre", V4, ("gre", 4)),
        ("gre", V6, ("gre", 6)),
        ("gre", 'local = "any"\nremote = "2001:db8::2"\nkey = 1\n', ("gre", 6)),
        ("gre", 'local = "203.0.113.10"\nremote = "vpn.example.org"\n', ("gre", 4)),
        ("gre", 'remote = "vpn.example.org"\nkey = 1\n', ("gre", 4)),
        ("ip6gre", 'remote = "vpn.example.org"\nkey = 1\n', ("gre", 6)),
        ("gretap", V6, ("gretap", 6)),
        ("ip6gretap", V6, ("gretap", 6)),
        ("ipip", V4, ("ipip", 4)),
        ("ipip", 'remote = "198.51.100.20"\n', ("ipip", 4)),
        ("sit", V4, ("sit", 4)),
        ("ip6tnl", V6, ("ip6tnl", 6)),
    ],
)
def test_kinds_and_what_they_go_over(kind: str, ends: str, expected: tuple[str, int]) -> None:
    tunnel = one("", kind, ends)
    assert (tunnel.kind, tunnel.family) == expected


def test_any_end_is_any_however_it_is_written() -> None:
    tunnel = one("", "gre", 'local = "0.0.0.0"\nremote = "0.0.0.0"\nkey = 1\n')
    assert (tunnel.local, tunnel.remote, tunnel.family) == ("any", "any", 4)
    assert one("", "gre", 'local = "::"\nkey = 1\n').family == 6


def test_the_backend() -> None:
    assert parse('[node]\nbackend = "kernel"\n' + SEED).backend == "kernel"


def test_several_tunnels_in_their_order_and_back_from_json() -> None:
    text = (
        SEED + table('keepalive = 5\nencapsulation = "udp"\nrules = ["fwmark 7 table 9"]', name="b") + table("", "ipip", name="a")
    )
    config = parse(text)
    assert [tunnel.name for tunnel in config.plain] == ["gre1", "b", "a"]
    assert from_json(to_json(config)) == config


def test_tunnels_that_can_be_told_apart_may_share_their_ends() -> None:
    text = table("key = 1", name="a") + table("key = 2", name="b") + table("", name="c") + table("", "gretap", name="d")
    text += table("", "ipip", name="e") + table("", "sit", name="f") + table('encapsulation = "udp"', name="g")
    text += table('dev = "eth0"', name="h")
    assert len(parse(text).plain) == 8


# ---------------------------------------------------------------- refusals, word by word


def refusals() -> list[tuple[str, str]]:
    """nodefile_refusals.txt: a file, a line of dashes, and what is told of it (the path left out)."""
    blocks = re.split(r"(?m)^==== \d+\n", Path(__file__).with_name("nodefile_refusals.txt").read_text())[1:]
    return [(text, told.rstrip("\n")) for text, told in (block.split("----\n") for block in blocks)]


REFUSALS = refusals()


def test_the_refusals_were_read() -> None:
    assert len(REFUSALS) == 133


@pytest.mark.parametrize(("text", "expected"), REFUSALS, ids=[expected.partition("\n")[0] for _, expected in REFUSALS])
def test_each_refusal_with_its_reason_and_its_mend(text: str, expected: str) -> None:
    found = complaint(text)
    assert found == expected
    assert all(len(line) < 140 for line in found.splitlines())


def test_every_mistake_of_a_file_is_told_at_once_in_its_order() -> None:
    text = (
        table('ttl = 300\nkey = "x"\naddress = ["10.0.0.1/30", 7]', name="a") + table("csumm = true", "ipip", name="b") + "[x]\n"
    )
    found = complaint(text)
    assert [line.split(": ")[0] for line in found.splitlines() if line[:1].isdigit()] == ["5:7", "6:7", "7:27", "12:1", "13:1"]


def test_every_mistake_of_one_list_and_of_one_table_is_told() -> None:
    found = complaint(
        table('routes = ["10.0.0.1/24", 2, "10.3.0.0/16"]\nkeepalive = { interval = 0, retries = 300, dialect = "x", foo = 1 }')
    )
    assert [line.split(": ")[1] for line in found.splitlines() if line[:1].isdigit()] == [
        "tunnel.t.routes[0]",
        "tunnel.t.routes[1]",
        *(f"tunnel.t.keepalive.{key}" for key in ("interval", "retries", "dialect", "foo")),
    ]


def test_a_byte_order_mark_is_no_mistake_and_bytes_that_are_not_utf_8_are() -> None:
    assert parse("\ufeff" + SEED).plain == parse(SEED).plain
    assert complaint("\ufeff[tunnel.t]\n").startswith("1:1: tunnel.t has no kind")
    raw = b'[tunnel.t]\nkind = "\xe9"\n'.decode("utf-8", "surrogateescape")
    assert complaint(raw) == "2:9: not TOML: expected UTF-8, found the byte 0xe9\n  hint: save it as UTF-8"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = " + "[" * 5000, "not TOML that can be read: nested too deeply"),
        (f"a = {'[' * 40}{']' * 40}", "not TOML that can be read: nested deeper than 32"),
        (".".join("abcdefgh" * 5) + " = 1", "not TOML that can be read: nested deeper than 32"),
        ("a = " + "9" * 5000, "not TOML that can be read: a number has too many digits"),
    ],
)
def test_what_tomllib_cannot_hold_is_a_mistake_of_the_file(text: str, expected: str) -> None:
    assert complaint(text).endswith(expected)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[Interface]\nPrivateKey = abc\n", "this looks like a wg-quick file: its name ends in .conf"),
        ('[gre1]\nkind = "gre"\n', "write [tunnel.gre1]"),
    ],
)
def test_files_of_another_kind_are_known(text: str, hint: str) -> None:
    assert complaint(text).endswith(f"hint: {hint}")


def test_a_file_of_mistakes_ends() -> None:
    text = "".join(f"[tunnel.t{number}]\n" for number in range(500))
    found = complaint(text)
    assert found.count("has no kind") == nodefile.MISTAKES_MAX
    assert found.endswith("and 400 more")


def test_a_recursion_that_is_bound_or_marked_or_in_another_table_is_no_mistake() -> None:
    for options in ('dev = "eth0"', "fwmark = 7"):
        assert one(f'routes = ["0.0.0.0/0"]\n{options}').routes == ("0.0.0.0/0",)
    assert one('routes = ["0.0.0.0/0 table 64"]').routes == ("0.0.0.0/0 table 64",)


def test_link_local_addresses_are_each_links_own() -> None:
    text = table('address = ["fe80::1/64"]', name="a") + table('key = 1\naddress = ["fe80::1/64"]', name="b")
    assert [tunnel.address for tunnel in parse(text).plain] == [("fe80::1/64",), ("fe80::1/64",)]


def test_the_name_is_the_one_it_was_called_by() -> None:
    assert nodefile.parse(SEED, "/srv/tunnels/paris.toml", "edge").name == "edge"


def test_a_secret_is_never_quoted() -> None:
    found = complaint(table('psk = "hunter2"'))
    assert "hunter2" not in found


@pytest.mark.parametrize("path", ["/etc/ginnel/edge.conf", "/etc/ginnel/.toml", "/etc/ginnel/a b.toml", f"/{'x' * 65}.toml"])
def test_a_file_whose_name_cannot_be_a_nodes(path: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a name that ends in \.toml"):
        nodefile.parse(SEED, path)


def _quoted(items: list[str]) -> str:
    return "[" + ", ".join(f'"{item}"' for item in items) + "]"


LITERALS = st.one_of(
    st.sampled_from(
        [
            '"gre"',
            '"sit"',
            '"ip6tnl"',
            '"any"',
            '"auto"',
            '"inherit"',
            '"udp"',
            '"learned"',
            "true",
            "[]",
            "{}",
            "[[]]",
            "{a = 1}",
        ]
    ),
    st.sampled_from(
        ['"203.0.113.10"', '"2001:db8::1"', '["10.0.0.1/30"]', '["::/0"]', '["fwmark 1 table 2"]', "1979-05-27", "1e9", "nan"]
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.text(st.characters(codec="ascii", exclude_characters='"\\\n\r', exclude_categories=["Cc"]), max_size=20).map(
        lambda text: f'"{text}"'
    ),
    st.lists(st.text("0123456789./: abcdef", max_size=20), max_size=3).map(_quoted),
)


@given(st.lists(st.dictionaries(st.sampled_from([*KEYS, "kind", "ipsec", "x"]), LITERALS, max_size=8), min_size=1, max_size=3))
@settings(max_examples=400)
def test_any_values_are_read_or_refused_with_their_places(tables: list[dict[str, str]]) -> None:
    text = "".join(
        f"[tunnel.t{number}]\n" + "".join(f"{key} = {value}\n" for key, value in table.items())
        for number, table in enumerate(tables)
    )
    try:
        config = parse(text)
    except ConfigError as error:
        mistakes = error.mistakes
    else:
        mistakes = ()
        assert from_json(to_json(config)) == config
        assert len(config.plain) == len(tables)
    lines = text.splitlines()
    for mistake in mistakes:
        assert mistake.span is not None
        line = lines[mistake.span.line - 1]
        looks_secret = any(word in line.lower() for word in ("private", "preshared", "psk", "secret", "password"))
        assert mistake.excerpt == ("" if looks_secret else line)
        assert mistake.message.isprintable()
        assert mistake.hint.isprintable()


@pytest.mark.parametrize("value", ["[]", "{}", "7", "nan", "1979-05-27", "true"])
def test_nothing_but_words_is_a_word(value: str) -> None:
    """Values of any type where one of some words is expected."""
    for text in (
        f"[node]\nbackend = {value}\n{SEED}",
        table("", "gre").replace('kind = "gre"', f"kind = {value}"),
        table(f"encapsulation = {value}"),
        table(f"keepalive = {{ dialect = {value} }}"),
        f"node = {value}\n{SEED}",
    ):
        if text.startswith("node = {}"):
            continue
        assert "expected" in complaint(text)


def test_control_characters_of_a_file_do_not_reach_a_terminal() -> None:
    assert "\x1b" not in complaint(table('dev = "\\u001b[31m"'))
