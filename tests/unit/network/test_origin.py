"""Protected origins, compiled: what edges and origin run, by kind and number of edges; and what their hosts do beside."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.config.words import Rule
from ginnel.network import NodeDescription, origin
from ginnel.network.hostrules import HostRules, host_config, host_part, host_rules, interface_part, of_node_file, of_wireguard
from ginnel.network.model import Protect
from ginnel.units import Prefix
from unit.network.networks import HEAD, compiled

ONE = f"""{HEAD}
shape = "none"
[node.paris]
endpoint = "203.0.113.1"
[node.lyon]
[[link]]
between = ["paris", "lyon"]
[[protect]]
edge = "paris"
origin = "lyon"
addresses = ["203.0.113.64/31", "2001:db8:64::/64"]
"""
TWO = (
    ONE.replace("[node.lyon]", '[node.berlin]\nendpoint = "198.51.100.1"\n[node.lyon]')
    .replace('edge = "paris"', 'edge = ["paris", "berlin"]')
    .replace("[[protect]]", '[[link]]\nbetween = ["berlin", "lyon"]\n[[protect]]')
)
OFFICE = TWO.replace("[node.lyon]", '[node.lyon]\nendpoint = "192.0.2.99"\n[node.office]').replace(
    "[[protect]]", '[[link]]\nbetween = ["office", "lyon"]\n[[protect]]'
)
#: No ARP for addresses on lo.
SILENT = ("net.ipv4.conf.all.arp_ignore", "1")


def texts(prefixes: tuple[Prefix, ...]) -> list[str]:
    return list(map(str, prefixes))


def chain(rules: HostRules, name: str) -> tuple[str, ...]:
    (found,) = [lines for called, _, lines in rules.chains if called == name]
    return found


def test_the_edge_sends_the_addresses_to_the_origin_and_forwards_both_families() -> None:
    edge = compiled(ONE)["paris"]
    assert texts(edge.peer("lyon").allowed_ips)[-2:] == ["203.0.113.64/31", "2001:db8:64::/64"]
    assert edge.masquerades == ()
    rules = host_rules(edge)
    assert dict(rules.sysctls) == {"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"}
    assert chain(rules, "passing") == (
        'oifname != "wg0" ip daddr { 203.0.113.64/31 } drop',
        'oifname != "wg0" ip6 daddr { 2001:db8:64::/64 } drop',
    )
    assert 'iifname "wg0" meta nfproto ipv4 tcp flags & (syn | rst) == syn tcp option maxseg size set 1380' in chain(
        rules, "segments"
    )
    assert not any("masquerade" in rule for _, _, lines in rules.chains for rule in lines)


def test_an_only_edge_stays_on_the_interface_that_there_is() -> None:
    lyon = compiled(ONE)["lyon"]
    assert (lyon.interface, lyon.node.table, lyon.beside) == ("wg0", "20101", ())
    assert texts(lyon.peer("paris").allowed_ips)[:2] == ["0.0.0.0/0", "::/0"]
    rules = host_rules(lyon)
    assert rules.rules == (
        "from 203.0.113.64/31 priority 20401 table 20101",
        "from 2001:db8:64::/64 priority 20401 table 20101",
    )
    assert rules.addresses == ("203.0.113.64/32 dev lo", "203.0.113.65/32 dev lo")
    assert "local 2001:db8:64::/64 dev lo" in rules.routes
    assert rules.sysctls == (SILENT,), "the kernel finds the tunnel plausible: the way back is known by the source"
    assert [called for called, _, _ in rules.chains] == ["guarding", "segments", "departing"], "no connection is tracked for it"
    # What the interface's own address brings needs no route in the main table.
    assert not any(route.startswith("10.10.0.") for route in rules.routes)


def test_several_edges_have_an_interface_each_and_one_key() -> None:
    nodes = compiled(OFFICE)
    lyon = nodes["lyon"]
    assert [(each.interface, each.node.table, [peer.name for peer in each.peers]) for each in (lyon, *lyon.beside)] == [
        ("wg0", "auto", ["office"]),
        ("wg-paris", "20101", ["paris"]),
        ("wg-berlin", "20102", ["berlin"]),
    ]
    assert {each.public_key for each in lyon.beside} == {lyon.public_key}
    assert {each.beside_of for each in lyon.beside} == {"wg0"}
    assert [str(address) for address in lyon.beside[0].address] == ["10.10.0.3/32", "fd10:10::3/128"]
    for each in lyon.beside:
        (peer,) = each.peers
        assert (each.listen_port, peer.keepalive_s) == (0, 25), "it speaks first and goes on speaking"
        assert peer.endpoint is not None
    for edge in ("paris", "berlin"):
        assert nodes[edge].peer("lyon").endpoint is None, "an edge does not know where the origin is"
    assert lyon.device("berlin") == "wg-berlin"
    assert lyon.peer("berlin").name == "berlin"
    assert [interface.name for interface in lyon.host().interfaces] == ["wg0", "wg-paris", "wg-berlin"]


def test_without_other_peers_the_first_edge_stays_on_the_nodes_own_interface() -> None:
    nodes = compiled(TWO)
    lyon = nodes["lyon"]
    assert [peer.name for peer in lyon.peers] == ["paris"]
    assert [each.interface for each in lyon.beside] == ["wg-berlin"]
    assert nodes["paris"].peer("lyon").endpoint is None, "lyon is behind NAT"


def test_the_interfaces_of_an_origin_share_no_subnet() -> None:
    """With a subnet on wg0, a route to all of it by an edge would take the place of the one that leads to the office."""
    ends = 'between = ["paris", "lyon"]\nends.lyon = { allowed-ips = ["10.10.0.0/24"] }\n'
    lyon = compiled(OFFICE.replace('between = ["paris", "lyon"]\n', ends))["lyon"]
    assert {address.length for each in (lyon, *lyon.beside) for address in each.address} == {32, 128}
    assert interface_part(lyon.beside[0]).routes == ("10.10.0.0/24 dev wg-paris",)
    assert texts(lyon.peer("office").allowed_ips)[0].endswith("/32"), "which wg-quick routes to wg0, being longer"


def test_each_connection_is_answered_by_its_edge() -> None:
    rules = host_part(compiled(OFFICE)["lyon"])
    assert chain(rules, "arriving")[2] == (
        'iifname "wg-berlin" ip daddr { 203.0.113.64/31 } ct mark set ct mark and 0x00ffffff or 0x02000000'
    )
    assert chain(rules, "answering")[2] == (
        "ip saddr { 203.0.113.64/31 } ct mark and 0xff000000 == 0x02000000 meta mark set meta mark and 0x00ffffff or 0x02000000"
    )
    assert chain(rules, "guarding")[0] == 'iifname != { "lo", "wg-paris", "wg-berlin" } ip daddr { 203.0.113.64/31 } drop'
    assert chain(rules, "departing")[1] == 'oifname != { "lo", "wg-paris", "wg-berlin" } ip6 saddr { 2001:db8:64::/64 } drop'


def test_each_file_brings_its_part() -> None:
    lyon = compiled(OFFICE)["lyon"]
    assert of_wireguard(lyon) == host_part(lyon), "no edge is on wg0"
    for number, each in enumerate(lyon.beside, 1):
        rules = of_wireguard(each)
        assert rules == interface_part(each)
        assert (rules.chains, rules.addresses) == ((), ())
        assert all(str(20100 + number) in rule for rule in rules.rules)
        assert f"10.10.0.{number}/32 dev {each.interface}" in rules.routes
    assert of_node_file(lyon) == HostRules()


def test_only_edges_closes_the_origins_own_address_but_for_its_tunnels() -> None:
    text = OFFICE.replace('origin = "lyon"', 'origin = "lyon"\nonly-edges = true').replace(
        "[node.lyon]", '[node.lyon]\nlans = [{ seen = "10.99.0.0/24", real = "192.168.1.0/24" }]'
    )
    lines = chain(host_part(compiled(text)["lyon"]), "only_edges")
    assert lines[0] == 'iifname { "lo", "wg0", "wg-paris", "wg-berlin" } accept'
    assert lines[1] == "ct state established,related accept"
    assert "ip saddr { 192.168.1.0/24 } fib saddr . iif oif exists accept" in lines
    assert "udp dport 51820 accept" in lines, "the office is behind NAT, and WireGuard is silent to strangers"
    assert lines[-1] == "drop"
    assert not any(called == "only_edges" for called, _, _ in host_part(compiled(OFFICE)["lyon"]).chains)


@pytest.mark.parametrize(
    ("kind", "door"),
    [
        ("gre", "ip saddr 203.0.113.1 meta l4proto gre accept"),
        ("gre+ipsec", "ip saddr 203.0.113.1 meta l4proto esp accept"),
        ("ipsec", "ip saddr 203.0.113.1 udp dport { 500, 4500 } accept"),
    ],
)
def test_links_with_devices_of_their_own(kind: str, door: str) -> None:
    text = TWO.replace("[network]", f'[network]\nkind = "{kind}"').replace("[node.lyon]", '[node.lyon]\nendpoint = "192.0.2.99"')
    text = text.replace('origin = "lyon"', 'origin = "lyon"\nonly-edges = true')
    nodes = compiled(text)
    lyon = nodes["lyon"]
    (first, second) = (tunnel.config for tunnel in lyon.tunnels)
    assert first.routes[-2:] == ("0.0.0.0/0 table 20101", "::/0 table 20101")
    assert second.rules == (
        "from 0.0.0.0/0 fwmark 0x2000000/0xff000000 priority 20102 table 20102",
        "from ::/0 fwmark 0x2000000/0xff000000 priority 20102 table 20102",
        "from 203.0.113.64/31 priority 20402 table 20102",
        "from 2001:db8:64::/64 priority 20402 table 20102",
    )
    assert "203.0.113.64/31" in nodes["berlin"].tunnel("lyon").config.routes
    rules = of_node_file(lyon)
    assert dict(rules.sysctls) == dict([SILENT]) | {f"net.ipv4.conf.{name}.rp_filter": "2" for name in (first.name, second.name)}
    assert door in chain(rules, "only_edges")
    host = host_config(lyon)
    assert (host.forward, host.addresses) == ((), ("203.0.113.64/31", "2001:db8:64::/64"))
    assert host_config(nodes["berlin"]).forward == (4, 6)


def test_an_edge_on_the_network_of_the_addresses_answers_for_each_of_them() -> None:
    text = ONE.replace('origin = "lyon"', 'origin = "lyon"\nuplink = "eth0"').replace("::/64", "::4/127")
    rules = host_part(compiled(text.replace("fd10:10::4/127", "fd10:10::/64"))["paris"])
    assert rules.neighbours == (
        "proxy 203.0.113.64 dev eth0",
        "proxy 203.0.113.65 dev eth0",
        "proxy 2001:db8:64::4 dev eth0",
        "proxy 2001:db8:64::5 dev eth0",
    )
    assert ("net.ipv6.conf.eth0.proxy_ndp", "1") in rules.sysctls


def test_a_node_without_a_part_in_it_is_as_before() -> None:
    with_it, without = compiled(OFFICE)["office"], compiled(OFFICE.partition("[[protect]]")[0])["office"]
    assert with_it == without
    assert host_rules(with_it) == host_rules(without)


# ---------------------------------------------------------------- mapped LANs and exits


MAPPED = f"""{HEAD}
[node.paris]
endpoint = "203.0.113.1"
lans = [{{ seen = "10.101.0.0/24", real = "192.168.1.0/24" }}, {{ seen = "fd00:101::/64", real = "fd00:1::/64" }}]
[node.lyon]
lans = [{{ seen = "10.102.0.0/24", real = "192.168.1.0/24" }}]
[[link]]
between = ["paris", "lyon"]
kind = "gre"
[node.phone]
exit = "paris"
"""


def test_a_lan_known_by_another_prefix() -> None:
    text = MAPPED.replace("[node.paris]\n", "[node.paris]\nrelay = true\n")
    paris = host_rules(compiled(text)["paris"])
    assert (
        chain(paris, "mapped_in")
        == chain(paris, "mapped_here")
        == (
            "dnat ip prefix to ip daddr map { 10.101.0.0/24 : 192.168.1.0/24 }",
            "dnat ip6 prefix to ip6 daddr map { fd00:101::/64 : fd00:1::/64 }",
        )
    )
    assert chain(paris, "mapped_out")[0] == (
        'oifname { "wg0", "gre-lyon" } snat ip prefix to ip saddr map { 192.168.1.0/24 : 10.101.0.0/24 }'
    )
    # The phone, which leaves through paris, is not hidden from the LAN there, whose addresses are the real ones by then.
    (hidden, *_) = chain(paris, "leaving")
    assert hidden.endswith("ip daddr != { 192.168.1.0/24 } masquerade")
    lyon = compiled(text)["lyon"]
    assert of_node_file(lyon).chains[0][0] == "mapped_in"
    assert "10.101.0.0/24" in lyon.tunnel("paris").config.routes


# ---------------------------------------------------------------- words


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,30}", fullmatch=True)


@given(NAMES)
def test_an_interfaces_name_fits_and_is_the_same_for_ever(name: str) -> None:
    device = origin.device_name(name)
    assert len(device) <= 15
    assert device == origin.device_name(name)
    assert device.startswith("wg-")


def test_marks_and_tables_of_all_edges_differ_and_read_back() -> None:
    edges = tuple(f"e{number}" for number in range(origin.MAX_EDGES))
    protects = (Protect(edges, "o", (Prefix.parse("203.0.113.64/28"), Prefix.parse("2001:db8::/64"))),)
    found = [origin.rules_of(protects, "o", edge) for edge in edges]
    assert len({rule.mark for rules in found for rule in rules if rule.mark}) == origin.MAX_EDGES
    assert all((rule.mark or 0) & ~origin.MARK_MASK == 0 for rules in found for rule in rules)
    priorities = [rule.priority for rules in found for rule in rules]
    assert max(p for p in priorities if p < 20_400) < min(p for p in priorities if p > 20_400), "marks come first"
    assert max(priorities) < 32_764
    for rule in itertools.chain(*found):
        assert str(Rule.parse(str(rule))) == str(rule)


def test_the_table_is_the_same_bytes_whatever_is_asked_first() -> None:
    def table(description: NodeDescription) -> str:
        return host_rules(description).nft("ginnel-acme")

    first, second = compiled(OFFICE), compiled(OFFICE)
    assert [table(first[name]) for name in sorted(first)] == [table(second[name]) for name in sorted(second, reverse=True)][::-1]
