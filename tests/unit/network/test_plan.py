"""Plans: the least that is to be done, in an order that holds, and what becomes of sessions."""

from __future__ import annotations

import random
import time
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ginnel.config.node import IpsecConfig, PlainConfig
from ginnel.network import Compilation, Lock, Network, allocate
from ginnel.network.host import Host, InterfaceAddress, Peer, Tunnel, WireguardInterface
from ginnel.network.model import HostPort, Node
from ginnel.network.plan import Step, plan, plan_compilations
from ginnel.network.plan.text import render
from ginnel.units import Prefix, PublicKey
from unit.network.drawn_networks import networks
from unit.network.networks import THREE, keys_for, parsed


def key(number: int) -> PublicKey:
    return PublicKey(bytes([number]) * 32)


def prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(Prefix.parse, texts))


WG = WireguardInterface(
    "wg0",
    key(1),
    (InterfaceAddress(bytes([10, 0, 0, 1]), 24),),
    51820,
    1420,
    (
        Peer(key(2), "lyon", prefixes("10.0.0.2/32", "10.20.0.0/24"), HostPort("192.0.2.2", 51820), 25, "psk-1"),
        Peer(key(3), "rome", prefixes("10.0.0.3/32", "10.30.0.0/24")),
    ),
)
HOST = Host("paris", (WG,))


def steps(after: WireguardInterface, before: WireguardInterface = WG) -> list[Step]:
    found = plan([replace(HOST, interfaces=(before,))], [replace(HOST, interfaces=(after,))])
    return [step for host in found.hosts for step in host.steps]


def with_peer(index: int, **changes: object) -> WireguardInterface:
    peers = list(WG.peers)
    peers[index] = replace(peers[index], **changes)  # type: ignore[arg-type]
    return replace(WG, peers=tuple(peers))


def told(found: list[Step]) -> list[tuple[str, str, str, list[str]]]:
    return [(step.action, step.peer, step.sessions, list(step.lines())) for step in found]


LYON = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="
ROME = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM="


def test_nothing_changes() -> None:
    assert plan([HOST], [HOST]).empty
    assert steps(replace(WG, peers=WG.peers[::-1])) == []
    assert steps(with_peer(0, allowed_ips=WG.peers[0].allowed_ips[::-1], place=None)) == []
    assert steps(replace(WG, mtu=None)) == steps(WG, replace(WG, mtu=None)) == []
    assert steps(replace(WG, listen_port=0)) == []
    assert steps(WG, with_peer(0, psk="?")) == []


def test_what_an_interface_has_of_its_own() -> None:
    other = InterfaceAddress(bytes([10, 0, 0, 9]), 24)
    assert told(steps(replace(WG, listen_port=7, mtu=1380, fwmark=0x1F, address=(other,), dns=("10.0.0.53",)))) == [
        ("listen-port", "", "kept", ["wg set wg0 listen-port 7"]),
        ("fwmark", "", "kept", ["wg set wg0 fwmark 0x1f"]),
        ("mtu", "", "kept", ["ip link set dev wg0 mtu 1380"]),
        ("address-add", "", "kept", ["ip address add 10.0.0.9/24 dev wg0"]),
        ("dns", "", "kept", ["resolvectl dns wg0 10.0.0.53", "resolvectl domain wg0 '~.'"]),
        (
            "address-remove",
            "",
            "kept",
            ["sysctl -q -w net/ipv4/conf/wg0/promote_secondaries=1", "ip address del 10.0.0.1/24 dev wg0"],
        ),
    ]
    assert told(steps(replace(WG, public_key=key(9)))) == [
        ("key", "", "broken", ["wg set wg0 private-key /etc/wireguard/wg0.key"])
    ]
    assert [step.action for step in steps(replace(WG, table="off", hooks=(("PostUp", "true"),)))] == ["table", "hooks"]
    sixth = InterfaceAddress(bytes.fromhex("fd100000000000000000000000000001"), 64)
    assert told(steps(replace(WG, name="wg1", address=(*WG.address, sixth)), replace(WG, address=(*WG.address, sixth)))) == [
        (
            "interface-name",
            "",
            "broken",
            [
                "ip link set dev wg0 down",
                "ip link set dev wg0 name wg1",
                "ip link set dev wg1 up",
                "ip address replace fd10::1/64 dev wg1",
                "ip -4 route replace 10.20.0.0/24 dev wg1",
                "ip -4 route replace 10.30.0.0/24 dev wg1",
            ],
        )
    ]


def test_no_session_outlives_an_interface_that_is_made_anew() -> None:
    everything = with_peer(1, allowed_ips=prefixes("0.0.0.0/0"))
    for before, after in ((WG, everything), (everything, WG)):
        (step,) = steps(after, before)
        assert ("wg-quick", "down", "wg0") in step.commands
        assert step.sessions == "broken"
    named = steps(replace(everything, name="wg1"), everything)
    assert told(named) == [("interface-name", "", "broken", ["wg-quick down wg0", "wg-quick up wg1"])]


def test_what_changes_at_a_peer() -> None:
    changed = with_peer(0, endpoint=HostPort("2001:db8::2", 7), keepalive_s=0, psk="psk-2")
    assert told(steps(changed)) == [
        ("endpoint", "lyon", "kept", [f"wg set wg0 peer {LYON} endpoint '[2001:db8::2]:7'"]),
        ("keepalive", "lyon", "kept", [f"wg set wg0 peer {LYON} persistent-keepalive off"]),
        ("psk", "lyon", "broken", [f"wg set wg0 peer {LYON} preshared-key /etc/wireguard/wg0.lyon.psk"]),
    ]
    assert told(steps(with_peer(0, psk=""))) == [("psk", "lyon", "broken", [f"wg set wg0 peer {LYON} preshared-key /dev/null"])]


def test_a_prefix_moves_in_one_command_and_keeps_its_route() -> None:
    moved = replace(
        WG,
        peers=(
            replace(WG.peers[0], allowed_ips=prefixes("10.0.0.2/32")),
            replace(WG.peers[1], allowed_ips=prefixes("10.0.0.3/32", "10.30.0.0/24", "10.20.0.0/24")),
        ),
    )
    for before, after in ((WG, moved), (moved, WG)):
        found = steps(after, before)
        assert [(step.action, step.sessions) for step in found] == [("allowed-ips", "kept"), ("allowed-ips", "kept")]
        assert len(found[0].commands) == 1, "no route changes"
        assert found[1].commands == ()
        holds_once(before, found)
    assert told(steps(moved))[0][3] == [
        f"wg set wg0 peer {LYON} allowed-ips 10.0.0.2/32 peer {ROME} allowed-ips 10.0.0.3/32,10.30.0.0/24,10.20.0.0/24"
    ]
    assert steps(moved)[1].text == "AllowedIPs +10.20.0.0/24 (from lyon)"


def test_peers_come_go_and_get_another_key() -> None:
    oslo = Peer(key(4), "oslo", prefixes("10.0.0.4/32", "10.30.0.0/24"), HostPort("192.0.2.4", 1), 25, "?")
    found = steps(replace(WG, peers=(WG.peers[0], oslo)))
    assert [(step.action, step.peer, step.sessions) for step in found] == [
        ("peer-add", "oslo", "new"),
        ("peer-remove", "rome", "ended"),
    ]
    assert found[0].lines()[0] == (
        f"wg set wg0 peer {key(4).base64()} preshared-key /etc/wireguard/wg0.oslo.psk endpoint 192.0.2.4:1 "
        "persistent-keepalive 25 allowed-ips 10.0.0.4/32,10.30.0.0/24"
    )
    assert found[1].lines() == (f"wg set wg0 peer {ROME} remove",), "its address is in the interface's own network"
    assert told(steps(with_peer(1, public_key=key(7)))) == [
        (
            "peer-key",
            "rome",
            "broken",
            [f"wg set wg0 peer {ROME} remove peer {key(7).base64()} allowed-ips 10.0.0.3/32,10.30.0.0/24"],
        )
    ]


def test_a_peer_that_gets_another_key_and_other_prefixes_has_their_routes() -> None:
    (step,) = steps(with_peer(1, public_key=key(7), allowed_ips=prefixes("10.0.0.3/32", "10.31.0.0/24")))
    assert step.lines()[1:] == ("ip -4 route replace 10.31.0.0/24 dev wg0", "ip -4 route del 10.30.0.0/24 dev wg0")


def test_in_the_middle_of_a_change_of_keys_the_rest_is_compared_as_well() -> None:
    network = parsed(THREE)
    lock = allocate(network, Lock())
    lock = replace(lock, nodes={**lock.nodes, "lyon": replace(lock.nodes["lyon"], next_key=key(77))})
    larger = parsed(THREE.replace('lans = ["10.40.0.0/24"', 'lans = ["10.99.0.0/24", "10.40.0.0/24"'))
    old, new = compilation(network, lock), compilation(larger, lock)
    found = plan_compilations(old, new)
    assert found == plan([node.host() for node in old.nodes()], [node.host() for node in new.nodes()])
    assert [host.name for host in found.hosts] == ["paris", "frankfurt"]


def test_words_of_strangers_are_quoted() -> None:
    bad = with_peer(0, name="x; rm -rf /", psk="psk-9", endpoint=HostPort("$(id)", 7))
    lines = [line for step in steps(bad) for line in step.lines()]
    assert lines == [
        f"wg set wg0 peer {LYON} endpoint '$(id):7'",
        f"wg set wg0 peer {LYON} preshared-key /etc/wireguard/wg0.AgICAgIC.psk",
    ]


def test_hosts_come_and_go_and_are_known_by_their_keys() -> None:
    found = plan([HOST], [replace(HOST, name="lutetia")])
    assert found.empty
    assert found.unchanged == 1
    found = plan([HOST], [Host("oslo", (replace(WG, public_key=key(9)),))])
    assert [(host.name, host.status) for host in found.hosts] == [("oslo", "new"), ("paris", "gone")]
    assert found.counted() == {"new": 1, "gone": 1, "changed": 0, "same": 0}


def test_a_host_with_two_interfaces_may_be_two_nodes() -> None:
    wg1 = replace(WG, name="wg1", public_key=key(8), peers=())
    two = replace(HOST, interfaces=(WG, wg1))
    assert plan([two], [HOST, Host("paris-wg1", (wg1,))]).empty
    (step,) = plan([two], [HOST]).hosts[0].steps
    assert (step.action, step.device) == ("interface-remove", "wg1")


PROTECTED = """
[network]
name = "x"
pool = ["10.10.0.0/24"]
[node.edge]
endpoint = "203.0.113.10"
[node.origin]
endpoint = "203.0.113.11"
[node.rome]
endpoint = "203.0.113.12"
[[protect]]
edge = "edge"
origin = "origin"
addresses = ["198.51.100.64/32"]
"""


def test_interfaces_of_one_key_are_told_apart_by_their_names() -> None:
    old, again = (compilation(parsed(PROTECTED)) for _ in range(2))
    assert len(old.node("origin").host().interfaces) == 2
    assert plan([node.host() for node in old.nodes()], [node.host() for node in again.nodes()]).empty
    renamed = [node.host().renamed(f"new-{node.name}") for node in again.nodes()]
    assert plan([node.host() for node in old.nodes()], renamed).empty


def test_what_changes_about_a_protected_origin_is_told() -> None:
    old, new = compilation(parsed(PROTECTED)), compilation(parsed(PROTECTED + "only-edges = true\n"))
    found = plan_compilations(old, new)
    assert {host.name: [step.action for step in host.steps] for host in found.hosts} == {
        "edge": ["protect"],
        "origin": ["protect"],
    }
    assert found.hosts[0].steps[0].text == "protected origins: 198.51.100.64/32 by edge to origin, which answers nobody else"


GRE = PlainConfig(
    "gre1", "gre", 4, "192.0.2.1", "192.0.2.2", 7, 7, ttl=64, address=("10.9.0.1/30",), routes=("10.30.0.0/24",), mtu=1476
)


def tunnel_steps(after: Tunnel, before: Tunnel | None = None) -> list[tuple[str, str, list[str]]]:
    found = plan([Host("a", tunnels=(before or Tunnel(GRE),))], [Host("a", tunnels=(after,))])
    return [(step.action, step.sessions, list(step.lines())) for host in found.hosts for step in host.steps]


def test_tunnels() -> None:
    assert tunnel_steps(Tunnel(GRE, "b")) == []
    changed = replace(GRE, mtu=1400, ttl=0, ikey=8, okey=8, routes=("10.31.0.0/24",))
    assert tunnel_steps(Tunnel(changed)) == [
        ("tunnel-options", "broken", ["ip link set dev gre1 type gre ikey 8 okey 8 ttl inherit"]),
        ("mtu", "kept", ["ip link set dev gre1 mtu 1400"]),
        ("routes", "kept", ["ip -4 route replace 10.31.0.0/24 dev gre1", "ip -4 route del 10.30.0.0/24 dev gre1"]),
    ]
    assert tunnel_steps(Tunnel(replace(GRE, name="gre2"))) == [("interface-name", "kept", ["ip link set dev gre1 name gre2"])]
    protected = replace(GRE, ipsec=IpsecConfig(psk_file="b.psk"))
    assert [step[:2] for step in tunnel_steps(Tunnel(protected))] == [("protection", "broken")]
    later = replace(protected, ipsec=IpsecConfig(psk_file="b.psk", rekey_s=60))
    assert [step[:2] for step in tunnel_steps(Tunnel(later), Tunnel(protected))] == [("protection", "renewed")]


def test_a_route_that_goes_over_to_another_device_is_not_taken_out_behind_it() -> None:
    lost, gre2 = replace(GRE, routes=()), replace(GRE, name="gre2", remote="192.0.2.9", ikey=9, okey=9, routes=())
    has = replace(gre2, routes=GRE.routes)
    for old, new in (((GRE, gre2), (lost, has)), ((gre2, GRE), (has, lost))):
        found = plan([Host("a", tunnels=tuple(map(Tunnel, old)))], [Host("a", tunnels=tuple(map(Tunnel, new)))])
        lines = [line for step in found.hosts[0].steps for line in step.lines()]
        assert lines == ["ip -4 route replace 10.30.0.0/24 dev gre2"]
    less = replace(WG, peers=(WG.peers[0], replace(WG.peers[1], allowed_ips=prefixes("10.0.0.3/32"))))
    found = plan([Host("a", (WG,), (Tunnel(lost),))], [Host("a", (less,), (Tunnel(GRE),))])
    lines = [line for step in found.hosts[0].steps for line in step.lines()]
    assert lines == [f"wg set wg0 peer {ROME} allowed-ips 10.0.0.3/32", "ip -4 route replace 10.30.0.0/24 dev gre1"]
    found = plan([Host("a", (less,), (Tunnel(GRE),))], [Host("a", (WG,), (Tunnel(lost),))])
    lines = [line for step in found.hosts[0].steps for line in step.lines()]
    assert lines[1:] == ["ip -4 route replace 10.30.0.0/24 dev wg0"]


def test_the_text_and_the_json() -> None:
    found = plan(
        [HOST], [replace(HOST, interfaces=(with_peer(0, keepalive_s=0),)), Host("oslo", (replace(WG, public_key=key(9)),))]
    )
    assert render(found, commands=False) == (
        "~ paris: 1 step; sessions survive\n    wg0 lyon: no keepalive\n\n"
        "+ oslo: its whole file: wg0, 2 links\n\nPlan: 1 new, 1 changed, 0 as they should be.\n"
    )
    assert render(plan([HOST], [HOST])) == "Nothing to do: 1 host is as it should be.\n"
    document = found.json()
    assert (document["schema"], document["empty"], document["count"]["changed"]) == ("ginnel.network-plan/1", False, 1)
    assert document["hosts"][0]["steps"][0]["commands"] == [["wg", "set", "wg0", "peer", LYON, "persistent-keepalive", "off"]]


# ---------------------------------------------------------------- networks


def compilation(network: Network, lock: Lock | None = None) -> Compilation:
    return Compilation(network, allocate(network, lock or Lock()), keys_for(network))


def holds_once(before: WireguardInterface, found: list[Step]) -> dict[str, set[str]]:
    """Run the `wg set`s on what the kernel holds; at no time is a prefix at two peers, as it never is, nor lost on the way."""
    held = {str(prefix): peer.public_key.base64() for peer in before.peers if peer.public_key for prefix in peer.allowed_ips}
    for step in found:
        for words in step.commands:
            if words[:2] != ("wg", "set"):
                continue
            peer = ""
            for word, value in zip(words[3:], (*words[4:], ""), strict=True):
                if word == "peer":
                    peer = value
                elif word == "remove":
                    held = {prefix: whose for prefix, whose in held.items() if whose != peer}
                elif word == "allowed-ips":
                    held = {prefix: whose for prefix, whose in held.items() if whose != peer}
                    held.update(dict.fromkeys((each for each in value.split(",") if each), peer))
    peers: dict[str, set[str]] = {}
    for prefix, whose in held.items():
        peers.setdefault(whose, set()).add(prefix)
    return peers


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(networks(kinds=("wireguard",)), networks(kinds=("wireguard",)))
def test_doing_the_steps_gives_what_is_to_be(before: Network, after: Network) -> None:
    old, new = compilation(before), compilation(after)
    found = plan_compilations(old, new)
    assert found == plan([node.host() for node in old.nodes()], [node.host() for node in new.nodes()])
    for node in new.nodes():
        if node.name not in {each.name for each in old.nodes()}:
            continue
        done = next((list(host.steps) for host in found.hosts if host.name == node.name), [])
        held = holds_once(old.node(node.name).host().interfaces[0], done)
        wanted = {
            peer.public_key.base64(): set(map(str, peer.allowed_ips))
            for peer in node.host().interfaces[0].peers
            if peer.public_key is not None and peer.allowed_ips
        }
        assert {whose: has for whose, has in held.items() if has} == wanted


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(networks(), st.randoms(use_true_random=False))
def test_a_network_against_itself_is_nothing_whatever_the_order(network: Network, chance: random.Random) -> None:
    compiled = compilation(network)
    hosts = [node.host() for node in compiled.nodes()]
    shuffled = chance.sample(hosts, len(hosts))
    assert plan(shuffled, hosts).empty
    assert plan_compilations(compiled, compilation(network)).empty


def test_a_node_more_is_one_step_at_the_others_and_its_whole_file() -> None:
    before = parsed(THREE)
    old = compilation(before)
    after = parsed(THREE + '\n[node.rome]\nendpoint = "192.0.2.7"\n')
    found = plan_compilations(old, old.updated(after, allocate(after, old.lock), keys_for(after)))
    assert {host.name: [step.action for step in host.steps] for host in found.hosts} == {
        "paris": ["peer-add"],
        "frankfurt": ["peer-add"],
        "lyon": ["peer-add"],
        "rome": ["host-add"],
    }


def test_a_thousand_nodes_are_compared_in_a_moment() -> None:
    def mesh(count: int) -> Network:
        nodes = tuple(Node(f"n{i}", endpoint=HostPort(f"203.0.{i // 250}.{i % 250 + 1}")) for i in range(count))
        return Network("x", prefixes("10.0.0.0/16"), nodes)

    def named_keys(count: int) -> dict[str, PublicKey]:
        return {f"n{i}": PublicKey(f"{i:>32}".encode()) for i in range(count)}

    old = Compilation(mesh(1000), allocate(mesh(1000), Lock()), named_keys(1000))
    new = old.updated(mesh(1001), allocate(mesh(1001), old.lock), named_keys(1001))
    list(old.nodes()), list(new.nodes())
    before = time.process_time()
    found = plan_compilations(old, new)
    assert time.process_time() - before < 3, "a third of that on an idle core"
    assert found.counted() == {"new": 1, "gone": 0, "changed": 1000, "same": 0}
