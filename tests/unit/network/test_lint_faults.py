"""
Faults planted one at a time into hosts that are in order: each gives its code, and no error beside it.

A row is: the code, the hosts it begins with, and what is done to them. Codes that one fault cannot but bring along are named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from ginnel.errors import Span
from ginnel.network import Compilation, Host, HostPort, Lock, allocate, parse_network
from ginnel.network.codes import CHAPTERS, CODES
from ginnel.network.host import InterfaceAddress, Peer, Place, Secret, Tunnel, WireguardInterface
from ginnel.network.lint import MAX_FINDINGS_A_RULE, lint
from ginnel.units import Prefix, PublicKey

HEAD = '[network]\nname = "acme"\npool = ["10.10.0.0/24", "fd10::/64"]\n'
SITES = """
[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24"]
[node.berlin]
endpoint = "198.51.100.20"
lans = ["10.30.0.0/24"]
[node.lyon]
lans = ["10.40.0.0/24"]
"""
MESH = HEAD + SITES
HUB = HEAD + 'shape = "hub"\nhub = "paris"\n' + SITES + "[node.phone]\n"
RELAY = HEAD + SITES.replace('lans = ["10.20.0.0/24"]', 'lans = ["10.20.0.0/24"]\nrelay = true') + "[node.nice]\n"
GRE = HEAD + 'kind = "gre"\n' + SITES.replace("[node.lyon]\n", '[node.lyon]\nendpoint = "192.0.2.30"\n')
IPSEC = GRE.replace('"gre"', '"gre+ipsec"')
EXIT = (
    HEAD
    + SITES.replace('lans = ["10.20.0.0/24"]', 'lans = ["10.20.0.0/24"]\nrelay = true')
    + '[node.phone]\nexit = "paris"\ndns = ["10.20.0.53"]\n'
)


def key(name: str) -> PublicKey:
    return PublicKey(f"{name:>32}".encode())


def hosts_of(text: str) -> dict[str, Host]:
    network = parse_network(text, "network.toml")
    keys = {node.name: key(node.name) for node in network.nodes}
    return {host.name: host for host in (each.host() for each in Compilation(network, allocate(network, Lock()), keys).nodes())}


Hosts = dict[str, Host]


def interface(name: str, **changes: Any) -> Callable[[Hosts], Hosts]:
    """Change the (first) interface of a host."""

    def change(hosts: Hosts) -> Hosts:
        host = hosts[name]
        first = replace(host.interfaces[0], **changes)
        return {**hosts, name: replace(host, interfaces=(first, *host.interfaces[1:]))}

    return change


def host(name: str, **changes: Any) -> Callable[[Hosts], Hosts]:
    return lambda hosts: {**hosts, name: replace(hosts[name], **changes)}


def peer(name: str, other: str, **changes: Any) -> Callable[[Hosts], Hosts]:
    """Change how a host has another as its peer."""

    def change(hosts: Hosts) -> Hosts:
        own = hosts[name].interfaces[0]
        assert any(each.name == other for each in own.peers)
        peers = tuple(replace(each, **changes) if each.name == other else each for each in own.peers)
        return interface(name, peers=peers)(hosts)

    return change


def allowed(name: str, other: str, *texts: str) -> Callable[[Hosts], Hosts]:
    return peer(name, other, allowed_ips=tuple(map(Prefix.parse, texts)))


def more(name: str, other: str, *texts: str) -> Callable[[Hosts], Hosts]:
    """More AllowedIPs than there are."""

    def change(hosts: Hosts) -> Hosts:
        now = next(each for each in hosts[name].interfaces[0].peers if each.name == other).allowed_ips
        return peer(name, other, allowed_ips=(*now, *map(Prefix.parse, texts)))(hosts)

    return change


def less(name: str, other: str, *texts: str) -> Callable[[Hosts], Hosts]:
    def change(hosts: Hosts) -> Hosts:
        now = next(each for each in hosts[name].interfaces[0].peers if each.name == other).allowed_ips
        gone = set(map(Prefix.parse, texts))
        assert gone <= set(now)
        return peer(name, other, allowed_ips=tuple(each for each in now if each not in gone))(hosts)

    return change


def without_peer(name: str, other: str) -> Callable[[Hosts], Hosts]:
    def change(hosts: Hosts) -> Hosts:
        return interface(name, peers=tuple(each for each in hosts[name].interfaces[0].peers if each.name != other))(hosts)

    return change


def one_more(name: str, *added: Peer) -> Callable[[Hosts], Hosts]:
    return lambda hosts: interface(name, peers=(*hosts[name].interfaces[0].peers, *added))(hosts)


def second(whose: str, **fields: Any) -> Callable[[Hosts], Hosts]:
    """Another interface."""
    given = {"name": "wg1", "public_key": key(f"{whose}-wg1"), **fields}
    return lambda hosts: host(whose, interfaces=(*hosts[whose].interfaces, WireguardInterface(**given)))(hosts)


def tunnel(name: str, other: str, **changes: Any) -> Callable[[Hosts], Hosts]:
    """Change a tunnel's description."""

    def change(hosts: Hosts) -> Hosts:
        now = hosts[name].tunnels
        assert any(each.peer == other for each in now)
        each = tuple(replace(one, config=replace(one.config, **changes)) if one.peer == other else one for one in now)
        return host(name, tunnels=each)(hosts)

    return change


def protection(name: str, other: str, **changes: Any) -> Callable[[Hosts], Hosts]:
    def change(hosts: Hosts) -> Hosts:
        (now,) = (one.config.ipsec for one in hosts[name].tunnels if one.peer == other)
        assert now is not None
        return tunnel(name, other, ipsec=replace(now, **changes))(hosts)

    return change


def psk(name: str, other: str, value: str) -> Callable[[Hosts], Hosts]:
    def change(hosts: Hosts) -> Hosts:
        now = hosts[name].tunnels
        return host(name, tunnels=tuple(replace(one, psk=value) if one.peer == other else one for one in now))(hosts)

    return change


def all_of(*changes: Callable[[Hosts], Hosts]) -> Callable[[Hosts], Hosts]:
    def change(hosts: Hosts) -> Hosts:
        for each in changes:
            hosts = each(hosts)
        return hosts

    return change


def hidden(hosts: Hosts) -> Hosts:
    """Of foreign files nobody knows who is behind NAT, who forwards, what lies behind whom; peers have no names."""
    return {
        name: replace(
            one,
            behind_nat=None,
            forwards=None,
            lans=(),
            endpoint=None,
            underlay_mtu=None,
            interfaces=tuple(
                replace(each, peers=tuple(replace(peer, name="") for peer in each.peers)) for each in one.interfaces
            ),
        )
        for name, one in hosts.items()
    }


STRANGER = Peer(key("stranger"), "stranger", (Prefix.parse("10.10.0.200/32"),))


@dataclass(frozen=True)
class Row:
    code: str
    base: str
    fault: Callable[[Hosts], Hosts]
    #: What else is found, because it follows.
    besides: frozenset[str] = frozenset()
    #: Whether the hosts are to be seen as foreign ones first.
    foreign: bool = False


def row(code: str, base: str, *faults: Callable[[Hosts], Hosts], besides: str = "", foreign: bool = False) -> Row:
    return Row(code, base, all_of(*faults), frozenset(besides.split()), foreign)


FAULTS = [
    # 01 prefixes
    row("G0102", MESH, more("paris", "lyon", "10.30.0.0/24")),
    row("G0102", MESH, more("paris", "lyon", "0.0.0.0/0"), more("paris", "berlin", "0.0.0.0/0"), besides="G0112"),
    row("G0102", MESH, more("lyon", "paris", "10.10.0.2/32")),
    row("G0102", HUB, one_more("paris", replace(STRANGER, allowed_ips=(Prefix.parse("10.10.0.3/32"),)))),
    row("G0102", MESH, more("paris", "lyon", "10.30.0.0/24"), hidden),
    row("G0101", MESH, more("paris", "lyon", "10.30.0.128/25")),
    row(
        "G0101",
        HUB,
        less("paris", "lyon", "10.40.0.0/24"),
        more("paris", "lyon", "10.40.0.0/16"),
        more("paris", "phone", "10.40.0.0/25"),
    ),
    row(
        "G0103",
        MESH,
        one_more("paris", Peer(key("x"), "x", (Prefix.parse("172.16.0.0/16"),))),
        more("paris", "lyon", "172.16.7.0/24"),
    ),
    row("G0104", MESH, allowed("paris", "lyon", "10.10.0.9/32", "fd10::3/128", "10.40.0.0/24")),
    row("G0104", MESH, less("lyon", "paris", "fd10::1/128"), more("lyon", "berlin", "fd10::1/128")),
    row("G0104", MESH, interface("lyon", address=(InterfaceAddress(bytes((10, 10, 0, 77)), 24),)), host("lyon", lans=())),
    row("G0104", MESH, less("paris", "lyon", "10.10.0.3/32"), hidden),
    row("G0105", MESH, less("paris", "lyon", "10.40.0.0/24")),
    row("G0105", HUB, less("lyon", "paris", "10.20.0.0/24")),
    row("G0106", RELAY, allowed("nice", "paris", "10.10.0.1/32", "fd10::1/128", "10.20.0.0/24")),
    row("G0106", HUB, allowed("phone", "paris", "10.10.0.1/32", "fd10::1/128", "10.20.0.0/24"), hidden),
    row(
        "G0106",
        HUB,
        allowed("lyon", "paris", "10.10.0.1/32", "fd10::1/128", "10.30.0.0/24"),
        allowed("berlin", "paris", "10.10.0.1/32", "fd10::1/128"),
        hidden,
    ),
    row("G0107", MESH, more("paris", "lyon", "10.20.0.0/24"), besides="G0101"),
    row("G0107", MESH, more("paris", "lyon", "10.20.0.64/26")),
    row("G0108", MESH, more("paris", "berlin", "172.16.0.0/12"), more("berlin", "paris", "172.16.0.0/12")),
    row("G0109", MESH, second("paris", peers=(replace(STRANGER, allowed_ips=(Prefix.parse("10.30.0.0/24"),)),))),
    row("G0109", GRE, tunnel("paris", "lyon", routes=("10.40.0.0/24", "10.30.0.0/24"))),
    row("G0110", MESH, interface("lyon", hooks=(("PostUp", "iptables -t nat -A POSTROUTING -o %i -j MASQUERADE"),))),
    row("G0110", MESH, interface("lyon", hooks=(("PostUp", 'nft add rule nat post oifname "wg0" masquerade'),))),
    row(
        "G0111",
        MESH,
        more("lyon", "paris", "0.0.0.0/0", "::/0"),
        interface("paris", table="off"),
        more("paris", "lyon", "0.0.0.0/0", "::/0"),
    ),
    row("G0112", MESH, more("lyon", "paris", "0.0.0.0/0")),
    row("G0113", MESH, one_more("paris", replace(STRANGER, allowed_ips=()))),
    # 02 who reaches whom
    row("G0201", MESH, peer("lyon", "paris", endpoint=None)),
    row("G0201", MESH, hidden, peer("lyon", "", endpoint=None), besides=""),
    row("G0202", MESH, peer("lyon", "paris", keepalive_s=0)),
    row("G0202", MESH, hidden, peer("lyon", "", keepalive_s=0)),
    row("G0203", HUB, peer("phone", "paris", keepalive_s=0)),
    row("G0204", MESH, more("lyon", "paris", "203.0.113.0/24")),
    row("G0204", MESH, more("lyon", "paris", "0.0.0.0/1", "128.0.0.0/1"), besides="G0205 G0505"),
    row("G0204", GRE, tunnel("paris", "lyon", routes=("10.40.0.0/24", "192.0.2.0/24"))),
    row("G0205", MESH, more("lyon", "berlin", "203.0.113.0/24"), besides="G0505"),
    row("G0205", MESH, second("lyon", peers=(replace(STRANGER, keepalive_s=25, endpoint=HostPort("10.10.0.1", 51820)),))),
    row(
        "G0206",
        MESH,
        second(
            "lyon",
            peers=(
                replace(
                    STRANGER, keepalive_s=25, endpoint=HostPort("10.10.0.1", 51820), allowed_ips=(Prefix.parse("203.0.113.0/24"),)
                ),
            ),
        ),
        besides="G0205",
    ),
    row("G0207", HUB, host("paris", forwards=False)),
    row("G0207", RELAY, host("paris", forwards=False, lans=())),
    row("G0207", EXIT, host("paris", forwards=False)),
    # 03 ends, WireGuard
    row("G0301", MESH, peer("berlin", "paris", public_key=key("old"))),
    row("G0301", MESH, peer("berlin", "paris", public_key=key("old")), hidden),
    row("G0301", MESH, interface("paris", public_key=key("new")), besides=""),
    row("G0302", MESH, without_peer("berlin", "paris")),
    row("G0302", MESH, without_peer("paris", "lyon"), hidden),
    row("G0303", MESH, peer("paris", "lyon", psk="aa")),
    row("G0303", MESH, peer("paris", "lyon", psk="?")),
    row("G0304", MESH, peer("paris", "lyon", psk="aa"), peer("lyon", "paris", psk="bb")),
    row("G0305", MESH, one_more("paris", Peer(key("paris"), "", (Prefix.parse("10.99.0.0/24"),)))),
    row("G0306", MESH, one_more("paris", Peer(key("lyon"), "lyon", (Prefix.parse("10.98.0.0/24"),))), besides="G0104 G0105"),
    row("G0307", MESH, peer("lyon", "paris", endpoint=HostPort("203.0.113.10", 51821))),
    row("G0308", MESH, interface("paris", listen_port=0)),
    row("G0309", MESH, peer("lyon", "paris", endpoint=HostPort("198.51.100.20", 51820))),
    # 03 ends, tunnels
    row("G0310", GRE, host("berlin", tunnels=())),
    row("G0311", GRE, tunnel("paris", "berlin", okey=7, ikey=7), besides="G0503"),
    row("G0311", GRE, tunnel("paris", "berlin", okey=7, ikey=7), tunnel("berlin", "paris", okey=8, ikey=7), besides="G0503"),
    row("G0312", GRE, tunnel("paris", "berlin", ocsum=True), besides="G0503"),
    row("G0312", GRE, tunnel("berlin", "paris", icsum=True)),
    row("G0313", GRE, tunnel("berlin", "paris", iseq=True)),
    row("G0314", GRE, tunnel("berlin", "paris", kind="ipip")),
    row("G0315", GRE, tunnel("paris", "berlin", remote="198.51.100.21")),
    row("G0316", GRE, tunnel("paris", "berlin", address=("10.10.0.129/30",))),
    row("G0317", GRE, tunnel("paris", "berlin", ttl=0)),
    row("G0106", GRE, tunnel("paris", "berlin", routes=())),
    row("G0207", GRE, host("paris", forwards=False)),
    row("G0321", IPSEC, tunnel("paris", "berlin", ipsec=None)),
    row("G0322", IPSEC, protection("paris", "berlin", mode="tunnel"), besides="G0503"),
    row(
        "G0323",
        IPSEC,
        protection("paris", "berlin", local_ts=("10.1.0.0/16",)),
        protection("berlin", "paris", remote_ts=("10.1.0.0/24",)),
    ),
    row("G0324", IPSEC, protection("paris", "berlin", esp_proposals=("aes128-sha256-modp2048",)), besides="G0503"),
    row("G0324", IPSEC, protection("paris", "berlin", ike_proposals=("aes128-sha256-modp2048",))),
    row("G0325", IPSEC, protection("paris", "berlin", local_id="paris.example.org")),
    row("G0325", IPSEC, protection("paris", "berlin", remote_id="192.0.2.99")),
    row("G0326", IPSEC, protection("paris", "berlin", auth="certificate")),
    row("G0327", IPSEC, psk("paris", "berlin", "aa"), psk("berlin", "paris", "bb")),
    row("G0328", IPSEC, protection("paris", "berlin", start="wait"), protection("berlin", "paris", start="wait")),
    # 04 addresses and ports
    row("G0401", MESH, second("lyon", address=(InterfaceAddress(bytes((10, 10, 0, 1)), 24),))),
    row(
        "G0402",
        MESH,
        host("lyon", lans=(Prefix.parse("10.40.0.0/24"), Prefix.parse("10.20.0.0/25"))),
        besides="G0105 G0107 G0101",
    ),
    row("G0403", MESH, second("paris", listen_port=51820)),
    row("G0404", MESH, hidden, one_more("lyon", replace(STRANGER, endpoint=HostPort("203.0.113.10", 51820)))),
    row("G0405", MESH, host("paris", lans=(Prefix.parse("10.10.0.0/25"),)), besides="G0105 G0107"),
    row("G0406", EXIT, allowed("phone", "paris", "10.10.0.1/32", "fd10::1/128"), besides="G0105 G0106"),
    # 05 MTU
    row("G0502", MESH, interface("paris", mtu=1200)),
    row("G0503", MESH, interface("paris", mtu=1480)),
    row("G0503", MESH, interface("paris", mtu=1480), hidden),
    row("G0503", GRE, tunnel("paris", "berlin", mtu=1490)),
    row("G0503", MESH, host("lyon", underlay_mtu=1460), interface("lyon", mtu=1380)),
    row("G0504", HUB, interface("paris", mtu=1300), hidden),
    row(
        "G0505",
        MESH,
        second("lyon", mtu=1420, peers=(replace(STRANGER, keepalive_s=25, endpoint=HostPort("10.10.0.1", 51820)),)),
        besides="G0205",
    ),
    # 06 secrets
    row(
        "G0601", MESH, host("berlin", interfaces=()), second("berlin", name="wg0", public_key=key("paris")), besides="G0301 G0302"
    ),
    row("G0602", MESH, host("paris", secrets=(Secret("/etc/wireguard/wg0.conf", 0o644),))),
    row("G0602", MESH, host("paris", secrets=(Secret("/etc/wireguard/wg0.conf", 0o604),))),
    row(
        "G0603",
        MESH,
        *(peer(a, b, psk="aa") for a, b in (("paris", "lyon"), ("lyon", "paris"), ("paris", "berlin"), ("berlin", "paris"))),
        hidden,
    ),
]


@pytest.mark.parametrize("planted", FAULTS, ids=lambda each: each.code)
def test_a_fault_has_its_code_and_no_error_beside_it(planted: Row) -> None:
    good = hosts_of(planted.base)
    assert lint(list(good.values())) == []
    found = lint(list(planted.fault(good).values()))
    assert planted.code in {each.code for each in found}
    beside = {each.code for each in found} - {planted.code} - planted.besides
    assert beside == set(), [(each.code, each.message) for each in found if each.code in beside]
    for each in found:
        assert each.message
        assert each.nodes or each.code == "G0603"
        assert each.severity == "note" or each.mend, each.code
        assert each.cause, each.code


def test_findings_are_the_same_whatever_the_order_of_peers() -> None:
    good = hosts_of(MESH)
    bad = more("paris", "lyon", "10.30.0.128/25")(good)
    turned = {name: interface(name, peers=one.interfaces[0].peers[::-1])(bad)[name] for name, one in bad.items()}
    assert {each.message for each in lint(list(bad.values()))} == {each.message for each in lint(list(turned.values()))}


def test_both_ends_are_shown() -> None:
    def placed(one: Host) -> Host:
        peers = tuple(
            replace(each, place=Place(f"{one.name}.conf", Span(number + 5), "[Peer]"))
            for number, each in enumerate(one.interfaces[0].peers)
        )
        return replace(one, interfaces=(replace(one.interfaces[0], peers=peers, place=Place(f"{one.name}.conf", Span(1))),))

    bad = {name: placed(one) for name, one in less("paris", "lyon", "10.10.0.3/32")(hosts_of(MESH)).items()}
    (found,) = [each for each in lint(list(bad.values())) if each.code == "G0104"]
    assert [place.source for place in found.places] == ["paris.conf", "lyon.conf"]


def test_a_flood_is_counted() -> None:
    peers = tuple(Peer(key(f"x{number}"), f"x{number}", (Prefix.parse("172.16.0.0/24"),)) for number in range(100))
    found = lint([Host("hub", (WireguardInterface("wg0", key("hub"), peers=peers),))])
    assert len([each for each in found if each.code == "G0102"]) == MAX_FINDINGS_A_RULE + 1
    assert found[-1].message == "and 49 more of the same"


def test_nobody_and_nothing() -> None:
    assert lint([]) == []
    assert lint([Host("alone")]) == []
    assert lint([Host("alone", (WireguardInterface("wg0"),), (Tunnel(hosts_of(GRE)["paris"].tunnels[0].config),))]) == []


def test_every_code_of_hosts_has_a_row() -> None:
    rows = {each.code for each in FAULTS}
    said_by_check_alone = set(CODES) - rows
    assert {code for code in said_by_check_alone if code[1:3] in ("01", "06")} == set()
    assert len(FAULTS) >= 60
    assert set(CHAPTERS) >= {code[1:3] for code in rows}
