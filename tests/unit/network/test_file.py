"""Reading: the form of the file, all mistakes at once, each with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from ginnel.errors import ConfigError
from ginnel.network import HostPort, parse_network
from ginnel.network.file import MAX_FILE_BYTES
from ginnel.network.language.tables import (
    ExpectTable,
    GreTable,
    IpsecTable,
    LabTable,
    LinkTable,
    NetworkTable,
    NodeTable,
)
from ginnel.network.language.values import (
    parse_endpoint,
    parse_milliseconds,
    parse_protocol,
    parse_ratio,
    parse_target,
)
from ginnel.units import Prefix
from unit.network.networks import HEAD, THREE, mistakes, parsed


def test_a_whole_file() -> None:
    network = parsed(
        THREE
        + """
[[link]]
between = ["paris", "lyon"]
[[expect]]
from = "lyon"
to = "10.20.0.5:443"
[lab]
loss = "1%"
delay = "0.02s"
[lab.node.lyon]
blocked_protocols = ["gre", 50]
blocked_udp_ports = [51820]
"""
    )
    assert network.name == "acme"
    assert [node.name for node in network.nodes] == ["paris", "frankfurt", "lyon"]
    assert network.node("paris").endpoint == HostPort("203.0.113.10")
    assert network.node("lyon").behind_nat
    assert network.node("frankfurt").lans == (Prefix.parse("10.30.0.0/24"), Prefix.parse("fd10:30::/64"))
    assert network.links[0].between == ("paris", "lyon")
    assert network.expects[0].target.port == 443
    assert network.lab.faults_of("paris").loss == pytest.approx(0.01)
    assert network.lab.faults_of("paris").delay_ms == pytest.approx(20)
    assert network.lab.faults_of("lyon").blocked_protocols == (47, 50)
    assert network.lab.faults_of("lyon").loss == 0


@pytest.mark.parametrize("table", [NetworkTable, NodeTable, GreTable, IpsecTable, LinkTable, ExpectTable, LabTable])
def test_every_key_is_in_the_reference(table: type[BaseModel]) -> None:
    text = (Path(__file__).parents[3] / "docs" / "reference" / "network-file.md").read_text()
    keys = {info.alias or name for name, info in table.model_fields.items()} - {"node"}
    assert {key for key in keys if f"`{key}`" not in text and f"`{key} = " not in text} == set()


def test_what_a_firewall_in_the_way_stops_has_names() -> None:
    text = (
        '[lab]\nblock = ["gre"]\n[lab.node.lyon]\nblock = ["icmp", 50]\nmtu = 1400\n[lab.node.paris]\nblock = ["icmp-too-big"]\n'
    )
    lab = parsed(THREE + text).lab
    assert lab.faults_of("frankfurt").blocked_protocols == (47,)
    assert lab.faults_of("lyon").blocked_protocols == (1, 58, 50), "ICMP of both families goes by one name"
    assert lab.faults_of("lyon").black_hole
    assert (lab.faults_of("paris").blocked_too_big, lab.faults_of("paris").blocked_protocols) == (True, ())
    assert not lab.faults_of("paris").black_hole
    small = parsed(THREE + "[lab.node.lyon]\nmtu = 1400\n").lab.faults_of("lyon")
    assert (small.mtu, small.any, small.black_hole) == (1400, False, False), "the internet's router says so: no relay"
    (wrong,) = mistakes(THREE + '[lab]\nblock = ["gree"]\n')
    assert "expected gre, ipip, sit, esp, tcp, udp, icmp, icmp-too-big or a protocol's number, found 'gree'" in wrong


def test_all_mistakes_come_at_once_in_reading_order() -> None:
    found = mistakes(
        """\
[network]
nam = "x"
pool = ["10.0.0.1/24"]
mtu = 99
[node.Paris]
endpont = "203.0.113.1"
lans = [3, "10.0.0.0/33"]
relay = "yes"
[[link]]
between = ["a"]
[lab]
loss = "300%"
"""
    )
    assert found == [
        "1:1: [network] has no 'name'",
        "2:1: [network] knows no 'nam'",
        "3:9: network.pool[0]: expected the network address 10.0.0.0/24, found '10.0.0.1/24' (host bits are set)",
        '4:7: network.mtu: expected "auto" or a number from 1280 to 65455, found 99',
        "5:1: node.Paris: expected a name of lower-case letters, digits and '-', at most 32, found 'Paris'",
        "6:1: [node.Paris] knows no 'endpont'",
        "7:9: node.Paris.lans[0]: expected a string, found 3",
        "7:12: node.Paris.lans[1]: expected a prefix length from 0 to 32, found '33'",
        "8:9: node.Paris.relay: expected true or false, found 'yes'",
        "10:11: link[0].between: expected at least 2 of them, found 1",
        "12:8: lab.loss: expected a share such as \"1%\" or 0.01, found '300%'",
    ]


def test_a_mistake_is_shown_with_its_line_a_caret_and_a_hint() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed('[network]\nname = "a"\npool = ["10.0.0.0/24"]\nshap = "hub"\n[node.a]\n')
    assert str(caught.value).splitlines() == [
        "network.toml:4:1: [network] knows no 'shap' [G0902]",
        '    shap = "hub"',
        "    ^^^^",
        "  hint: did you mean 'shape'?",
    ]


@pytest.mark.parametrize("key", ["private_key", "preshared_key", "psk", "PrivateKey"])
def test_a_secret_is_refused_and_never_quoted(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(f'{HEAD}[node.a]\n{key} = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="\n')
    assert "yAnz" not in str(caught.value)
    assert "born on their node" in str(caught.value)


def test_text_that_is_not_toml() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed("[network\nname = 1")
    assert str(caught.value).startswith("network.toml:1:9: not TOML: ")
    with pytest.raises(ConfigError) as caught:
        parsed('[network]\nprivate = "secret\n')
    assert "secret" not in str(caught.value).partition("\n")[2]


def test_a_node_file_is_known_for_what_it_is() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_network('[tunnel.gre1]\nkind = "gre"\n', "edge.toml")
    assert str(caught.value) == (
        "edge.toml: expected a network file, found a node file [G0906]\n"
        "  hint: `ginnel up FILE` brings its tunnels up; a network file has [network] and [node.NAME]"
    )


def test_an_empty_file_says_what_it_needs() -> None:
    assert mistakes("") == ["the file has no 'network'", "the file has no 'node'"]


def test_a_file_without_bound_is_refused() -> None:
    assert mistakes("#" * (MAX_FILE_BYTES + 1)) == [f"expected at most {MAX_FILE_BYTES} bytes"]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("203.0.113.10", "203.0.113.10", 0),
        ("203.0.113.10:4500", "203.0.113.10", 4500),
        ("2001:db8::1", "2001:db8::1", 0),
        ("[2001:DB8::1]:4500", "2001:db8::1", 4500),
        ("[2001:db8::1]", "2001:db8::1", 0),
        ("VPN.example.org", "vpn.example.org", 0),
        ("vpn.example.org:1", "vpn.example.org", 1),
    ],
)
def test_endpoints(text: str, host: str, port: int) -> None:
    assert parse_endpoint(text) == HostPort(host, port)


@pytest.mark.parametrize(
    "text",
    ["", ":1", "a:0", "a:65536", "a:x", "[2001:db8::1", "[2001:db8::1]4", "300.1.1.1", "-a.org", "a..b", "a b", "a/b", "é.org"],
)
def test_endpoints_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_endpoint(text)


def test_targets() -> None:
    assert parse_target("10.20.0.5:443").packed == bytes([10, 20, 0, 5])
    assert parse_target("[fd00::5]:22").port == 22
    assert parse_target("fd00::5").port == 0
    assert parse_target("paris").node == "paris"
    assert parse_target("paris:80").port == 80
    with pytest.raises(ValueError, match="expected an address"):
        parse_target("Paris!")


@pytest.mark.parametrize(("value", "share"), [("1%", 0.01), ("0.5 %", 0.005), (0.25, 0.25), (1, 1.0), ("0.1", 0.1)])
def test_shares(value: object, share: float) -> None:
    assert parse_ratio(value) == pytest.approx(share)


@pytest.mark.parametrize("value", ["", "x%", "1%x", "101%", -0.1, 1.5, True, [], "nan", "inf"])
def test_shares_that_are_none(value: object) -> None:
    with pytest.raises(ValueError, match="expected a share"):
        parse_ratio(value)


@pytest.mark.parametrize("value", ["", "1", "ms", "-1ms", "11s", 10_001, True, None, "1 m"])
def test_times_that_are_none(value: object) -> None:
    with pytest.raises(ValueError, match="expected a time"):
        parse_milliseconds(value)


@pytest.mark.parametrize("value", ["", "GRE", 256, -1, True, None])
def test_protocols_that_are_none(value: object) -> None:
    with pytest.raises(ValueError, match="expected an IP protocol"):
        parse_protocol(value)


def refused_with_reasons(text: str) -> bool:
    """Whether *text* is no network; if so, every mistake must say something."""
    try:
        parse_network(text, "x")
    except ConfigError as error:
        return all(mistake.message for mistake in error.mistakes) and len(error.mistakes) > 0
    return True


@given(st.text(max_size=200))
def test_any_text_is_a_network_or_a_config_error(text: str) -> None:
    assert refused_with_reasons(text)


LINES = [*THREE.splitlines(), "x = 1", "[node.x]", "lans = [1]", 'exit = "paris"', "[[expect]]"]


@given(st.lists(st.sampled_from(LINES), max_size=30))
def test_any_mixture_of_lines_is_a_network_or_a_config_error(lines: list[str]) -> None:
    assert refused_with_reasons("\n".join(lines))


def test_of_very_many_mistakes_a_thousand_are_told_and_the_rest_counted() -> None:
    text = '[network]\nname = "x"\npool = ["10.0.0.0/24"]\n[node.a]\n' + "".join(f"odd{number} = 1\n" for number in range(1500))
    with pytest.raises(ConfigError) as told:
        parse_network(text, "network.toml")
    assert len(told.value.mistakes) == 1500
    assert str(told.value).count("knows no") == 1000
    assert str(told.value).endswith("network.toml: and 500 more")
