"""
The way of a packet: each hop with its rule, each reason to stop, NAT there and back; on networks that are compiled and on hosts
as their own files have them. That it is what Linux does is held by tests/lab/test_model_and_lab.py.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ginnel.config.node import Encapsulation, IpsecConfig, PlainConfig
from ginnel.network import Compilation, Lock, allocate
from ginnel.network.host import Host, InterfaceAddress, Peer, Tunnel, WireguardInterface
from ginnel.network.model import HostPort
from ginnel.network.reach import INTERNET, Fleet, Verdict, reach, resolve
from ginnel.network.reach.behind import with_lans
from ginnel.network.reach.expect import fleet_of
from ginnel.network.reach.routes import Routings
from ginnel.network.reach.standby import standby
from ginnel.network.reach.text import held_ready, render
from ginnel.units import Prefix, PublicKey
from unit.network.networks import HEAD, THREE, parsed


def of(text: str, down: tuple[str, ...] = ()) -> Fleet:
    network = parsed(text)
    return fleet_of(Compilation(network, allocate(network, Lock())), down=down)


def way(fleet: Fleet, source: str, target: str) -> Verdict:
    return reach(Routings(fleet), resolve(fleet, source), resolve(fleet, target))


def stopped(fleet: Fleet, source: str, target: str) -> str:
    """The word for what stops it."""
    verdict = way(fleet, source, target)
    assert not verdict.reaches
    assert verdict.stop is not None
    return verdict.stop.code


# ---------------------------------------------------------------- networks


def test_every_hop_has_its_rule_and_what_let_it_in() -> None:
    verdict = way(of(THREE), "10.40.0.7", "10.20.0.5:443")
    assert verdict.reaches
    first, second = verdict.there.hops
    assert (first.node, first.came, first.device, first.to, first.mtu) == ("lyon", "LAN", "wg0", "paris", 1420)
    assert first.rule == "10.20.0.0/24 is in paris's AllowedIPs on wg0"
    assert (second.node, second.came, second.sender, second.device) == ("paris", "wg0", "lyon", "LAN")
    assert second.admitted == "10.40.0.7 is in lyon's AllowedIPs 10.40.0.0/24"
    assert second.rule == "10.20.0.0/24 is paris's own LAN"
    assert verdict.back is not None
    assert verdict.back.nodes == ("paris", "lyon")
    assert verdict.mtu == 1420


def test_a_node_sends_from_the_address_of_the_device_that_it_leaves_by() -> None:
    fleet = of(THREE)
    assert way(fleet, "lyon", "10.20.0.5").there.source == fleet["lyon"].called[0]
    assert way(fleet, "lyon", "fd10:30::5").there.source == fleet["lyon"].called[1]


def test_through_a_hub_and_back() -> None:
    hub = THREE.replace('name = "acme"', 'name = "acme"\nshape = "hub"\nhub = "paris"')
    verdict = way(of(hub), "10.30.0.5", "10.40.0.5")
    assert verdict.there.nodes == ("frankfurt", "paris", "lyon")
    assert verdict.why == "frankfurt → paris → lyon"
    assert stopped(of(hub, down=("paris",)), "10.30.0.5", "10.40.0.5") == "down"


EXIT = f"""{HEAD}
shape = "hub"
hub = "office"
[node.office]
endpoint = "203.0.113.1"
lans = ["10.20.0.0/24"]
[node.phone]
exit = "office"
lans = ["10.30.0.0/24"]
"""


def test_an_exit_hides_and_finds_again() -> None:
    verdict = way(of(EXIT), "10.30.0.9", "192.0.2.80:80")
    assert verdict.reaches
    office = verdict.there.hops[-1]
    assert (office.node, office.to) == ("office", INTERNET)
    assert office.changed == ("source 10.30.0.9 is hidden behind 203.0.113.1",)
    assert verdict.back is not None
    assert verdict.back.hops[0].changed == ("the answer is 10.30.0.9's, hidden behind 203.0.113.1",)
    assert verdict.back.nodes == ("office", "phone")


def test_an_exit_hides_nobody_from_its_own_lan() -> None:
    verdict = way(of(EXIT), "phone", "10.20.0.5")
    assert verdict.reaches
    assert not any(hop.changed for hop in verdict.there.hops)


def test_a_full_tunnel_keeps_its_address_to_itself() -> None:
    fleet = of(EXIT)
    assert stopped(fleet, "10.30.0.9", "phone") == "guarded"
    assert way(fleet, "office", "phone").reaches


def test_who_has_no_exit_leaves_in_clear_or_not_at_all() -> None:
    fleet = of(THREE)
    verdict = way(fleet, "paris", "192.0.2.80")
    assert verdict.reaches
    assert verdict.notes == ("it leaves paris by its own uplink, in no tunnel",)
    assert stopped(fleet, "10.20.0.5", "192.0.2.80") == "no-answer"
    assert stopped(fleet, "paris", "10.99.0.1") == "no-route"


def test_gre_is_routed_without_a_source_check() -> None:
    text = THREE.replace('name = "acme"', 'name = "acme"\nkind = "gre"')
    verdict = way(of(text), "10.20.0.5", "10.30.0.5")
    assert verdict.reaches
    assert (verdict.there.hops[0].device, verdict.there.hops[0].mtu) == ("gre-frankfurt", 1476)
    assert verdict.there.hops[1].admitted == ""


def test_a_lan_that_others_know_by_another_prefix() -> None:
    text = THREE.replace('lans = ["10.40.0.0/24"]', 'lans = [{ seen = "10.40.0.0/24", real = "192.168.1.0/24" }]')
    verdict = way(of(text), "10.20.0.5", "10.40.0.7")
    assert verdict.reaches
    assert verdict.there.hops[-1].changed == ("target 10.40.0.7 is 192.168.1.7 here",)
    assert verdict.back is not None
    assert verdict.back.hops[0].changed == ("source 192.168.1.7 is 10.40.0.7 outside",)
    assert way(of(text), "10.40.0.7", "10.20.0.5").there.hops[0].changed == ("source 192.168.1.7 is 10.40.0.7 outside",)


PROTECTED = f"""{HEAD}
shape = "none"
[node.west]
endpoint = "203.0.113.1"
[node.east]
endpoint = "203.0.113.2"
[node.cellar]
lans = ["10.20.0.0/24"]
[[link]]
between = ["west", "cellar"]
[[link]]
between = ["east", "cellar"]
[[protect]]
edge = ["west", "east"]
origin = "cellar"
addresses = ["198.51.100.64/29"]
only-edges = true
"""


def test_a_protected_origin_answers_by_the_edge_that_a_connection_came_by() -> None:
    fleet = of(PROTECTED)
    verdict = way(fleet, "192.0.2.80", "198.51.100.66:443")
    assert verdict.reaches
    assert verdict.there.nodes == ("west", "cellar")
    assert verdict.back is not None
    assert verdict.back.nodes == ("cellar", "west")
    assert verdict.back.hops[-1].source == Prefix.parse("198.51.100.66").packed


def test_a_protected_address_is_reached_through_the_edges_alone() -> None:
    fleet = of(PROTECTED)
    assert stopped(fleet, "10.20.0.5", "198.51.100.66") == "guarded"
    assert stopped(fleet, "192.0.2.80", "10.20.0.5") == "no-route"


def test_what_is_held_ready() -> None:
    text = f"""{HEAD}
[node.paris]
endpoint = "203.0.113.10"
relay = true
[node.frankfurt]
endpoint = "198.51.100.20"
relay = true
[node.lyon]
[node.nice]
"""
    network = parsed(text)
    compilation = Compilation(network, allocate(network, Lock()))
    verdict = way(fleet_of(compilation), "lyon", "nice")
    ready = list(standby(compilation, verdict))
    assert [(each.without, each.verdict.there.nodes) for each in ready] == [("paris", ("lyon", "frankfurt", "nice"))]
    assert held_ready(ready) == "\nheld ready  frankfurt, if paris fails: lyon → frankfurt → nice\n"


def test_nothing_in_common() -> None:
    fleet = of(THREE)
    assert stopped(fleet, "10.40.0.7", "fd10:30::5") == "families"
    assert stopped(fleet, "192.0.2.1", "10.40.0.7") == "no-route"
    with pytest.raises(ValueError, match="expected a node or an address, found 'nobody'"):
        resolve(fleet, "nobody")


def test_the_same_lan_asks_no_node() -> None:
    verdict = way(of(THREE), "10.40.0.7", "10.40.0.8")
    assert verdict.reaches
    assert verdict.notes == ("they are in the same LAN: no node is asked",)
    assert render(verdict) == "10.40.0.7 reaches 10.40.0.8\n\nnote   they are in the same LAN: no node is asked\n"


# ---------------------------------------------------------------- hosts of whoever


def address(text: str) -> InterfaceAddress:
    packed, _, length = text.partition("/")
    return InterfaceAddress(Prefix.parse(packed).packed, int(length))


def key(number: int) -> PublicKey:
    return PublicKey(bytes([number]) * 32)


def peer(number: int, *allowed: str, endpoint: str = "", keepalive_s: int = 0, psk: str = "") -> Peer:
    found = HostPort(endpoint, 51820) if endpoint else None
    return Peer(key(number), allowed_ips=tuple(map(Prefix.parse, allowed)), endpoint=found, keepalive_s=keepalive_s, psk=psk)


def wireguard(name: str, number: int, own: str, *peers: Peer, **more: object) -> Host:
    interface = WireguardInterface("wg0", key(number), (address(own),), 51820, None, peers)
    return Host(name, (interface,), **more)  # type: ignore[arg-type]


A = wireguard(
    "a", 1, "10.0.0.1/24", peer(2, "10.0.0.2/32", "10.2.0.0/24", endpoint="192.0.2.2"), lans=(Prefix.parse("10.1.0.0/24"),)
)
B = wireguard(
    "b", 2, "10.0.0.2/24", peer(1, "10.0.0.1/32", "10.1.0.0/24", endpoint="192.0.2.1"), lans=(Prefix.parse("10.2.0.0/24"),)
)


def changed(host: Host, **changes: object) -> Host:
    """With its one interface, or the one peer of it, changed."""
    (interface,) = host.interfaces
    (only,) = interface.peers
    of_peer = {name: changes.pop(name) for name in list(changes) if name in Peer.__dataclass_fields__ and name != "public_key"}
    interface = replace(interface, peers=(replace(only, **of_peer),), **changes)  # type: ignore[arg-type]
    return replace(host, interfaces=(interface,))


def test_two_hosts_by_hand() -> None:
    assert way(Fleet([A, B]), "10.1.0.5", "10.2.0.5").reaches
    assert way(Fleet([A, B]), "a", "b").reaches


@pytest.mark.parametrize(
    ("hosts", "source", "target", "code", "words"),
    [
        ([changed(A, allowed_ips=()), B], "a", "b", "no-peer", "no peer of a's wg0 has 10.0.0.2 in its AllowedIPs"),
        ([changed(A, allowed_ips=()), B], "a", "10.2.0.5", "no-route", "a has no route to 10.2.0.5 (b's LAN 10.2.0.0/24)"),
        (
            [A, changed(B, allowed_ips=(Prefix.parse("10.0.0.1/32"),))],
            "10.1.0.5",
            "b",
            "source-refused",
            "b accepts from a only 10.0.0.1/32: source 10.1.0.5 is dropped (cryptokey routing)",
        ),
        (
            [A, replace(B, forwards=False)],
            "a",
            "10.2.0.5",
            "not-forwarded",
            "b does not pass on what is for 10.2.0.5: it does not forward",
        ),
        ([A], "a", "10.0.0.2", "unknown-peer", "its configuration is not among those given"),
        ([A, changed(B, public_key=key(9))], "a", "10.0.0.2", "unknown-peer", "ends there"),
        ([A, replace(B, interfaces=(replace(B.interfaces[0], peers=()),))], "a", "b", "not-mutual", "b does not know a"),
        ([changed(A, endpoint=None), changed(B, endpoint=None)], "a", "b", "no-session", "neither has an endpoint"),
        (
            [replace(changed(A, endpoint=None), behind_nat=True), replace(changed(B, endpoint=None), behind_nat=True)],
            "a",
            "b",
            "no-session",
            "both are behind NAT",
        ),
        (
            [changed(A, allowed_ips=(Prefix.parse("10.0.0.2/32"), Prefix.parse("192.0.2.0/24"))), changed(B, endpoint=None)],
            "a",
            "b",
            "endpoint-inside",
            "a sends what is for 192.0.2.2 into wg0, whose own packets go there (192.0.2.0/24)",
        ),
        ([changed(A, psk="aa"), B], "a", "b", "psk-mismatch", "do not have the same preshared key"),
        ([changed(A, psk="aa"), changed(B, psk="bb")], "a", "b", "psk-mismatch", "do not have the same preshared key"),
        (
            [
                changed(A, endpoint=None),
                replace(changed(B, endpoint=HostPort("192.0.2.2", 51820)), endpoint=HostPort("192.0.2.2")),
            ],
            "a",
            "b",
            "no-session",
            "b does not find a at 192.0.2.2:51820: that is b",
        ),
        (
            [A, changed(B, allowed_ips=(Prefix.parse("10.0.0.1/32"), Prefix.parse("10.1.0.0/24"), Prefix.parse("10.2.0.0/23")))],
            "a",
            "10.2.1.5",
            "no-route",
            "a has no route to 10.2.1.5",
        ),
    ],
)
def test_what_stops_a_packet(hosts: list[Host], source: str, target: str, code: str, words: str) -> None:
    verdict = way(Fleet(hosts), source, target)
    assert verdict.stop is not None
    assert verdict.stop.code == code
    assert words in verdict.stop.message
    assert verdict.stop.message in render(verdict)
    assert json.loads(json.dumps(verdict.to_json()))["reaches"] is False


def test_two_that_send_to_each_other_what_neither_has() -> None:
    lost = Prefix.parse("10.9.0.0/24")
    loop = [changed(A, allowed_ips=(Prefix.parse("10.0.0.2/32"), lost)), changed(B, allowed_ips=(Prefix.parse("10.0.0.0/8"),))]
    verdict = way(Fleet(loop), "a", "10.9.0.1")
    assert verdict.stop is not None
    assert verdict.stop.code in ("loop", "source-refused")
    everything = [changed(host, allowed_ips=(Prefix.parse("10.0.0.0/8"),)) for host in (A, B)]
    assert stopped(Fleet(everything), "a", "10.9.0.1") == "loop"


def test_a_prefix_by_two_devices_keeps_a_host_from_coming_up() -> None:
    taken = changed(A, allowed_ips=(Prefix.parse("10.0.0.2/32"), Prefix.parse("10.1.0.0/24")))
    verdict = way(Fleet([taken, B]), "b", "a")
    assert verdict.stop is not None
    assert verdict.stop.code == "not-up"
    assert verdict.stop.message == "a does not come up: 10.1.0.0/24 is to be routed by two devices"


def test_the_way_back_is_a_way_of_its_own() -> None:
    deaf = changed(B, allowed_ips=(Prefix.parse("10.0.0.1/32"), Prefix.parse("10.1.0.0/25")))
    verdict = way(Fleet([changed(A, allowed_ips=(Prefix.parse("10.0.0.2/32"),)), deaf]), "10.1.0.5", "b")
    assert verdict.reaches
    verdict = way(Fleet([A, replace(deaf, interfaces=(replace(deaf.interfaces[0], table="off"),))]), "10.1.0.5", "b")
    assert verdict.there.stop is None
    assert verdict.stop is not None
    assert (verdict.stop.node, verdict.stop.code) == ("b", "no-route")
    assert verdict.why.startswith("it arrives, but the answer does not: b has no route to 10.1.0.5")


def test_who_cannot_begin_waits_for_the_other() -> None:
    verdict = way(Fleet([changed(A, endpoint=None), B]), "a", "b")
    assert verdict.notes == ("a cannot begin with b: until b has spoken, nothing reaches it (no keepalive)",)
    assert way(Fleet([changed(A, endpoint=None), changed(B, keepalive_s=25)]), "a", "b").notes == ()


def test_table_off_and_a_table_of_its_own_route_nothing() -> None:
    for table in ("off", "1234"):
        quiet = changed(A, table=table)
        assert stopped(Fleet([quiet, B]), "a", "10.2.0.5") == "no-route"
        assert way(Fleet([quiet, B]), "a", "b").reaches  # the subnet of the interface is routed all the same


def test_a_default_route_spares_what_is_more_specific_and_the_tunnels_own_packets() -> None:
    client = wireguard("c", 3, "10.0.0.3/32", peer(1, "0.0.0.0/0", endpoint="192.0.2.1"), lans=(Prefix.parse("10.3.0.0/24"),))
    hub = changed(A, allowed_ips=(Prefix.parse("10.0.0.3/32"), Prefix.parse("10.3.0.0/24")))
    hub = replace(hub, interfaces=(replace(hub.interfaces[0], peers=(replace(hub.interfaces[0].peers[0], public_key=key(3)),)),))
    fleet = Fleet([client, replace(hub, endpoint=HostPort("192.0.2.1"))])
    assert way(fleet, "c", "10.3.0.5").there.hops[0].device == "LAN"
    verdict = way(fleet, "c", "192.0.2.1")
    assert verdict.there.hops[0].rule == "0.0.0.0/0 is in a's AllowedIPs on wg0, by the rule that sends everything into wg0"
    assert verdict.reaches


def test_the_last_of_two_peers_with_a_prefix_has_it() -> None:
    interface = A.interfaces[0]
    other = peer(3, "10.2.0.0/24", endpoint="192.0.2.3")
    both = replace(A, interfaces=(replace(interface, peers=(*interface.peers, other)),))
    assert stopped(Fleet([both, B]), "a", "10.2.0.5") == "unknown-peer"


def test_a_hook_that_hides_is_understood() -> None:
    hub = changed(B, allowed_ips=(Prefix.parse("10.0.0.1/32"),))
    client = changed(A, allowed_ips=(Prefix.parse("0.0.0.0/0"),))
    assert stopped(Fleet([client, hub]), "a", "192.0.2.80") == "no-answer"
    hooks = (("PostUp", "iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE"),)
    hub = replace(hub, interfaces=(replace(hub.interfaces[0], hooks=hooks),))
    assert way(Fleet([client, hub]), "a", "192.0.2.80").reaches


def test_lans_that_only_others_know() -> None:
    hosts = with_lans([replace(A, lans=()), replace(B, lans=())])
    assert [list(map(str, host.lans)) for host in hosts] == [["10.1.0.0/24"], ["10.2.0.0/24"]]
    assert way(Fleet(hosts), "10.1.0.5", "10.2.0.5").reaches


# ---------------------------------------------------------------- GRE and its like


def gre(name: str, local: str, remote: str, own: str, *routes: str, **more: object) -> Tunnel:
    return Tunnel(PlainConfig(name, "gre", 4, local, remote, address=(own,), routes=routes, **more))  # type: ignore[arg-type]


LEFT = gre("gre1", "192.0.2.1", "192.0.2.2", "10.0.0.1/30", "10.2.0.0/24")
RIGHT = gre("gre2", "192.0.2.2", "192.0.2.1", "10.0.0.2/30", "10.1.0.0/24")


def joined(left: Tunnel, right: Tunnel) -> Fleet:
    lans = [(Prefix.parse(text),) for text in ("10.1.0.0/24", "10.2.0.0/24")]
    return Fleet([Host("a", tunnels=(left,), lans=lans[0]), Host("b", tunnels=(right,), lans=lans[1])])


def with_config(tunnel: Tunnel, **changes: object) -> Tunnel:
    return replace(tunnel, config=replace(tunnel.config, **changes))  # type: ignore[arg-type]


def test_two_ends_find_each_other_by_their_addresses() -> None:
    verdict = way(joined(LEFT, RIGHT), "10.1.0.5", "10.2.0.5")
    assert verdict.reaches
    assert verdict.there.hops[0].rule == "10.2.0.0/24 is the routes of gre1"
    assert verdict.mtu == 1476


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        ({"okey": 7, "ikey": 7}, {}, "a sends key 7, b expects no key"),
        ({"okey": 7, "ikey": 8}, {"okey": 8, "ikey": 8}, "a sends key 7, b expects key 8"),
        ({"ocsum": True, "icsum": True}, {}, "a sends with checksums, b expects them without"),
        ({}, {"iseq": True, "oseq": True}, "a sends no sequence numbers, b expects them"),
        ({}, {"kind": "ipip"}, "a sends gre over IPv4, b takes ipip over IPv4"),
        ({"encapsulation": Encapsulation()}, {}, "a has it in UDP, b has not"),
        ({"ipsec": IpsecConfig()}, {}, "a protects it by IPsec, b does not"),
        ({"ipsec": IpsecConfig(mode="tunnel")}, {"ipsec": IpsecConfig()}, "a has IPsec in tunnel mode, b in transport mode"),
        ({"ipsec": IpsecConfig(local_id="x")}, {"ipsec": IpsecConfig(remote_id="y")}, "a calls itself x, b expects y"),
        (
            {"ipsec": IpsecConfig(esp_proposals=("aes256gcm16",))},
            {"ipsec": IpsecConfig(esp_proposals=("aes128gcm16",))},
            "no ESP proposal of a (aes256gcm16) is one of b (aes128gcm16)",
        ),
    ],
)
def test_ends_that_do_not_agree(left: dict[str, object], right: dict[str, object], words: str) -> None:
    verdict = way(joined(with_config(LEFT, **left), with_config(RIGHT, **right)), "10.1.0.5", "10.2.0.5")
    assert verdict.stop is not None
    assert verdict.stop.code == "tunnel-mismatch"
    assert words in verdict.stop.message


def test_a_key_may_differ_by_direction() -> None:
    left, right = with_config(LEFT, okey=7, ikey=8), with_config(RIGHT, okey=8, ikey=7)
    assert way(joined(left, right), "10.1.0.5", "10.2.0.5").reaches


def test_a_remote_inside_the_tunnel_is_never_reached() -> None:
    left = with_config(LEFT, routes=("10.2.0.0/24", "192.0.2.0/24"))
    assert stopped(joined(left, RIGHT), "10.1.0.5", "10.2.0.5") == "endpoint-inside"


def test_a_policy_rule_chooses_the_table() -> None:
    left = with_config(LEFT, routes=("0.0.0.0/0 table 64",), rules=("from 10.1.0.0/25 table 64",))
    fleet = joined(left, RIGHT)
    verdict = way(fleet, "10.1.0.5", "10.2.0.5")
    assert verdict.reaches
    assert verdict.there.hops[0].rule == "0.0.0.0/0 is the routes of gre1, in table 64"
    assert stopped(fleet, "10.1.0.200", "10.2.0.5") == "no-route"
