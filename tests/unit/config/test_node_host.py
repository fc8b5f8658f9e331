"""`[node]`: what a node file may ask of its host, and that the text of a table can be nothing but the inside of one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.config import node_host, nodefile
from ginnel.config.node import from_json, to_json
from ginnel.config.node_host import HostConfig, addresses_in, device_of, is_few, parts_of
from ginnel.errors import ConfigError
from ginnel.units import Prefix

TUNNEL = '[tunnel.gre1]\nkind = "gre"\nlocal = "203.0.113.10"\nremote = "198.51.100.20"\n'
CHAIN = (
    'chain leaving {\n  type nat hook postrouting priority srcnat;\n  oifname != "wg0" ip saddr { 10.0.0.0/8 } masquerade\n}\n'
)


def host(lines: str) -> HostConfig:
    return nodefile.parse(f"[node]\n{lines}\n{TUNNEL}", "/etc/ginnel/edge.toml").host


def complaint(lines: str) -> str:
    with pytest.raises(ConfigError) as caught:
        host(lines)
    (mistake,) = caught.value.mistakes
    return f"{mistake.span.line if mistake.span else ''}: {mistake.message}"


def test_every_key() -> None:
    text = f"""\
forward = true
sysctls = {{ "net.ipv4.conf.all.rp_filter" = 2, "net.ipv4.tcp_congestion_control" = "bbr" }}
addresses = ["203.0.113.64/28", "2001:db8::7"]
proxy = ["203.0.113.80/29 dev eth0"]
nft = '''
{CHAIN}'''
"""
    assert host(text) == HostConfig(
        forward=(4, 6),
        sysctls=(("net.ipv4.conf.all.rp_filter", "2"), ("net.ipv4.tcp_congestion_control", "bbr")),
        addresses=("203.0.113.64/28", "2001:db8::7/128"),
        proxy=("203.0.113.80/29 dev eth0",),
        nft=CHAIN,
    )


def test_nothing_is_asked_by_default_and_the_process_is_told_all_of_it() -> None:
    assert host("") == HostConfig()
    config = nodefile.parse(f'[node]\nforward = "ipv6"\naddresses = ["192.0.2.1"]\n{TUNNEL}', "/e/edge.toml")
    assert config.host.forward == (6,)
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("forward = 1", '2: node.forward: expected true, false, "ipv4" or "ipv6", found 1'),
        ('sysctls = ["net.x"]', "2: node.sysctls: expected a table of settings, found a list"),
        ('sysctls = { "kernel.hostname" = "x" }', "expected the name of a setting under net."),
        ('sysctls = { "net.ipv4.../../kernel.x" = 1 }', "expected the name of a setting under net."),
        ('sysctls = { "net.ipv4.conf.//.x" = 1 }', "expected the name of a setting under net."),
        ('sysctls = { "net.ipv4.ip_forward" = true }', "expected a number or a word, found true"),
        ('sysctls = { "net.ipv4.ip_forward" = "1\\n2" }', "expected a number or a word"),
        ('addresses = "192.0.2.1"', "2: node.addresses: expected a list such as"),
        ('addresses = ["192.0.2.1/24"]', "addresses[0]: expected a network, found 192.0.2.1/24"),
        ('addresses = ["0.0.0.0/0"]', "addresses[0]: 0.0.0.0/0 cannot be a host's own"),
        ('addresses = ["ff02::1"]', "addresses[0]: ff02::1/128 cannot be a host's own"),
        ('addresses = ["192.0.2.1", "192.0.2.1/32"]', "addresses[1]: 192.0.2.1/32 is there already"),
        ('proxy = ["192.0.2.0/28"]', 'proxy[0]: expected a prefix and an interface such as "203.0.113.64/28 dev eth0"'),
        ('proxy = ["192.0.2.0/28 dev eth0; reboot"]', "proxy[0]: expected a prefix and an interface"),
        ('proxy = ["10.0.0.0/8 dev eth0"]', "proxy[0]: 10.0.0.0/8 has more than 1024 addresses"),
        ("nft = 7", "2: node.nft: expected the text of a table's chains, found 7"),
    ],
)
def test_what_is_refused(lines: str, expected: str) -> None:
    assert expected in complaint(lines)


def test_every_mistake_is_told_at_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        host('sysctls = { "net.a.b.c" = 1, "x" = 1 }\naddresses = ["192.0.2.1", 7, "x"]')
    assert [(m.span.line, m.message.split(":")[0]) for m in caught.value.mistakes if m.span] == [
        (2, "node.sysctls.x"),
        (3, "node.addresses[1]"),
        (3, "node.addresses[2]"),
    ]


# ---------------------------------------------------------------- the text of a table

GOOD = [
    "",
    CHAIN,
    '# a } brace in a comment, and a " quote\n' + CHAIN,
    'set names { type ifname; elements = { "a}b", "c{d" } }\n',
    "chain x { type filter hook input priority 0; ct state established accept; }",
]
BAD = [
    ("chain x { } } table inet filter { chain input { type filter hook input priority 0; accept; }", "a brace that closes it"),
    ("}", "a brace that closes it"),
    ("chain x {", "a brace that nothing closes"),
    ('chain x { comment "unfinished }\n}', "a quote that does not end"),
    ('include "/etc/shadow"', "found include"),
    ("chain x { }\ndefine a = 1", "found define"),
    ("table inet x {\n chain y { }\n}", "found the table itself"),
    ("chain x { } \\\n}", "found a backslash"),
    ("chain x\\} { }", "found a backslash"),
    ("chain x { }\x00", "a control character"),
    ("chain x { }\x1b[2J", "a control character"),
    ("chain x { }\r\n}", "a control character"),
]


@pytest.mark.parametrize("text", GOOD)
def test_the_inside_of_a_table(text: str) -> None:
    assert node_host.READERS["nft"][1](text) == text


@pytest.mark.parametrize(("text", "why"), BAD)
def test_what_could_leave_its_table(text: str, why: str) -> None:
    with pytest.raises(node_host.BadValueError, match=why):
        node_host.READERS["nft"][1](text)


def test_a_text_without_end() -> None:
    with pytest.raises(node_host.BadValueError, match="at most 64 KiB"):
        node_host.READERS["nft"][1]("#" * (1 << 16) + "\n")


PIECES = st.sampled_from(
    [
        "{",
        "}",
        '"',
        "#",
        "\n",
        ";",
        " ",
        "\\",
        "chain x ",
        "table inet y ",
        "include ",
        "flush ruleset",
        "accept",
        "'",
        "/",
        "$",
        "*",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_whatever_is_taken_stays_inside(text: str) -> None:
    """Read as nft's lexer reads: strings without escapes, comments to the end of the line."""
    try:
        node_host.READERS["nft"][1](text)
    except node_host.BadValueError:
        return
    depth, quoted, comment = 1, False, False
    for character in text:
        if comment:
            comment = character != "\n"
        elif quoted:
            quoted = character != '"'
        elif character == "#":
            comment = True
        elif character == '"':
            quoted = True
        elif character in "{}":
            depth += 1 if character == "{" else -1
            assert depth >= 1
    assert (depth, quoted) == (1, False)


# ---------------------------------------------------------------- names and prefixes


def test_the_parts_of_a_settings_name() -> None:
    assert parts_of("net.ipv4.conf.wg-long/1234.rp_filter") == ("net", "ipv4", "conf", "wg-long.1234", "rp_filter")
    assert device_of("net.ipv4.conf.wg-long/1234.rp_filter") == "wg-long.1234"
    assert [device_of(name) for name in ("net.ipv4.conf.all.rp_filter", "net.ipv4.ip_forward", "net.core.rmem_max")] == [""] * 3


@pytest.mark.parametrize(
    ("text", "few", "count"), [("192.0.2.0/28", True, 16), ("192.0.2.0/27", False, 32), ("2001:db8::/126", True, 4)]
)
def test_a_prefix_is_a_few_addresses_or_one_route(text: str, few: bool, count: int) -> None:
    prefix = Prefix.parse(text)
    found: list[Any] = list(addresses_in(prefix))
    assert (is_few(prefix), len(found)) == (few, count)
    assert str(found[0]).partition("/")[0] == text.partition("/")[0]
