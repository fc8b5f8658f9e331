"""GRE links: what each end runs, that every packet of the network has a way there and back, and what is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.config.node import Encapsulation, Keepalive
from ginnel.errors import ConfigError
from ginnel.network import Lock, Network, NodeDescription, allocate, compile_network, parse_lock, render_lock
from ginnel.network.addressing import within
from ginnel.network.gre import device_name, ends_of
from ginnel.network.paths import Paths
from ginnel.units import Prefix
from unit.network.networks import compiled, keys_for, mistakes, parsed

HEAD = """\
[network]
name = "acme"
pool = ["10.10.0.0/24", "fd10:10::/64"]
kind = "gre"
"""
TWO = f"""{HEAD}
[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24"]

[node.lyon]
endpoint = "198.51.100.20"
lans = ["10.30.0.0/24", "fd10:30::/64"]
"""
NAT = TWO.replace('[node.lyon]\nendpoint = "198.51.100.20"', "[node.lyon]")
UDP = 'encapsulation = "udp"\n'
LINK = '[[link]]\nbetween = ["paris", "lyon"]\n'


def only(text: str) -> str:
    """The one mistake of *text*."""
    (found,) = mistakes(text)
    return found


# ---------------------------------------------------------------- what each end runs


def test_a_peer_whose_kernel_has_the_tunnel_is_not_taken_for_dead() -> None:
    def told(runs: str, more: str = "") -> tuple[Keepalive | None, Keepalive | None]:
        text = TWO.replace('"198.51.100.20"\n', f'"198.51.100.20"\nruns = "{runs}"\n') + more
        nodes = compiled(text)
        return nodes["paris"].tunnel("lyon").config.keepalive, nodes["lyon"].tunnel("paris").config.keepalive

    assert told("networkd") == (None, Keepalive(10, 3))
    assert told("cisco-ios") == (Keepalive(10, 3), Keepalive(10, 3)), "IOS sends them back"
    assert told("iproute2", "[gre]\nkeepalive = 5\n")[0] == Keepalive(5, 0)
    assert told("iproute2", "[gre]\nkeepalive = { interval = 5, retries = 2 }\n")[0] == Keepalive(5, 2), "as the file says"
    assert told("networkd", '[gre]\nencapsulation = "udp"\n')[0] == Keepalive(10, 0), "a NAT's memory wants them"


def test_both_ends() -> None:
    nodes = compiled(TWO)
    assert not any(node.wireguard or node.peers for node in nodes.values())
    (tunnel,) = nodes["paris"].tunnels
    config = tunnel.config
    assert (config.name, config.kind, config.family) == ("gre-lyon", "gre", 4)
    assert (config.local, config.remote) == ("203.0.113.10", "198.51.100.20")
    assert (config.ikey, config.okey, config.encapsulation) == (None, None, None)
    assert (config.ttl, config.tos, config.pmtudisc) == (64, 0, True)
    assert config.address == ("10.10.0.1/30", "fd10:10::2/127")
    assert config.routes == ("10.30.0.0/24", "fd10:30::/64")
    assert (config.mtu, config.keepalive) == (1476, Keepalive(10, 3))
    other = nodes["lyon"].tunnel("paris").config
    assert (other.local, other.remote, other.address) == (config.remote, config.local, ("10.10.0.2/30", "fd10:10::3/127"))
    assert other.routes == ("10.20.0.0/24",)
    assert [str(item) for item in nodes["lyon"].address] == ["10.10.0.2/30", "fd10:10::3/127"]
    assert nodes["lyon"].forwards


def test_options_of_all_links_and_of_one() -> None:
    text = TWO + '[node.nice]\nendpoint = "192.0.2.30"\n[gre]\ncsum = true\nttl = "inherit"\nkeepalive = 0\n'
    text += '[[link]]\nbetween = ["nice", "paris"]\ncsum = false\nseq = true\nkey = "10.0.0.7"\ntos = "inherit"\nmtu = 1400\n'
    nodes = compiled(text)
    general = nodes["paris"].tunnel("lyon").config
    assert (general.icsum, general.ocsum, general.iseq, general.ttl, general.keepalive) == (True, True, False, 0, None)
    assert general.mtu == 1472
    own = nodes["paris"].tunnel("nice").config
    assert (own.icsum, own.iseq, own.oseq, own.ttl, own.tos, own.mtu) == (False, True, True, 0, None, 1400)
    assert own.ikey == own.okey == 0x0A000007
    assert nodes["nice"].tunnel("paris").config.ikey == own.ikey
    assert nodes["nice"].tunnel("paris").config.address[0] == "10.10.0.5/30", "nice is named first, so it has the lower one"


def test_through_nat_in_udp() -> None:
    nodes = compiled(NAT + "[gre]\n" + UDP)
    outside, hidden = nodes["paris"].tunnel("lyon").config, nodes["lyon"].tunnel("paris").config
    assert (outside.local, outside.remote, outside.encapsulation) == ("203.0.113.10", "any", Encapsulation(dport=0))
    assert (hidden.local, hidden.remote, hidden.encapsulation) == ("any", "203.0.113.10", Encapsulation())
    assert outside.ikey == hidden.okey == 1, "any packet could be anybody's, so it has a key"
    assert (outside.keepalive, hidden.keepalive) == (None, Keepalive(10, 0)), "the one behind NAT speaks first, and on"
    assert outside.mtu == hidden.mtu == 1500 - 20 - 8 - 4 - 4


def test_a_name_for_an_endpoint_leaves_local_to_the_route_and_takes_a_key() -> None:
    nodes = compiled(TWO.replace("198.51.100.20", "lyon.example.org"))
    config = nodes["lyon"].tunnel("paris").config
    assert (config.local, config.remote, config.ikey) == ("any", "203.0.113.10", 1)
    assert nodes["paris"].tunnel("lyon").config.remote == "lyon.example.org"


def test_over_ipv6() -> None:
    text = TWO.replace("203.0.113.10", "2001:db8::10").replace("198.51.100.20", "2001:db8:1::20")
    config = compiled(text)["paris"].tunnel("lyon").config
    assert (config.family, config.local, config.mtu) == (6, "2001:db8::10", 1456)


def test_the_smaller_underlay_counts_at_both_ends() -> None:
    nodes = compiled(TWO + "underlay_mtu = 1492\n")
    assert {node.tunnels[0].config.mtu for node in nodes.values()} == {1468}
    assert str(nodes["paris"].tunnels[0].mtu_arithmetic) == "1492 - 20 (IPv4) - 4 (GRE) = 1468"


def test_a_hub_of_gre_with_wireguard_for_one() -> None:
    """The phone knows the hub by WireGuard, the offices are behind GRE; everybody reaches everybody."""
    text = TWO.replace('kind = "gre"', 'kind = "gre"\nshape = "hub"\nhub = "paris"')
    text += '[node.nice]\nendpoint = "192.0.2.30"\n[node.phone]\n[[link]]\nbetween = ["phone", "paris"]\nkind = "wireguard"\n'
    nodes = compiled(text)
    assert nodes["paris"].wireguard
    assert [tunnel.peer for tunnel in nodes["paris"].tunnels] == ["lyon", "nice"]
    assert nodes["phone"].wireguard
    assert not nodes["phone"].tunnels
    allowed = nodes["phone"].peer("paris").allowed_ips
    assert {str(prefix) for prefix in allowed} >= {"10.20.0.0/24", "10.30.0.0/24", "10.10.0.0/24"}
    phone = str(nodes["phone"].address[0].host)
    assert phone in nodes["nice"].tunnel("paris").config.routes
    assert nodes["nice"].tunnel("paris").carries == ("lyon", "phone")
    assert [str(item) for item in nodes["paris"].address] == ["10.10.0.1/24", "fd10:10::1/64"]


def test_links_whose_routes_are_a_daemon_s_business() -> None:
    text = TWO + '[node.nice]\nendpoint = "192.0.2.30"\n[gre]\nroutes = false\n'
    network = parsed(text)
    assert Paths(network).path("paris", "lyon") is None
    assert Paths(network).neighbours("paris") == ("lyon", "nice")
    for node in compiled(text).values():
        assert [tunnel.config.routes for tunnel in node.tunnels] == [(), ()]
        assert all(tunnel.config.address for tunnel in node.tunnels)
    own = compiled(text + '[[link]]\nbetween = ["paris", "lyon"]\nroutes = true\n')["paris"]
    assert own.tunnel("lyon").config.routes == ("10.30.0.0/24", "fd10:30::/64")


@pytest.mark.parametrize(
    ("peer", "device"),
    [
        ("lyon", "gre-lyon"),
        ("elevenchars", "gre-elevenchars"),
        ("twelve-chars", "gre-twelve.8dd1"),
        ("a" * 32, "gre-aaaaaa.3ba3"),
    ],
)
def test_devices_are_named_after_the_other_end(peer: str, device: str) -> None:
    assert device_name(peer) == device
    assert len(device) <= 15


# ---------------------------------------------------------------- addresses


def test_the_lock_there_and_back() -> None:
    network = parsed(NAT + "[gre]\n" + UDP)
    lock = allocate(network, Lock())
    text = render_lock(lock)
    assert text.endswith(
        """
[node.paris]
address = ["10.10.0.1", "fd10:10::2"]

[node.lyon]
address = ["10.10.0.2", "fd10:10::3"]

[[link]]
between = ["paris", "lyon"]
subnet = ["10.10.0.0/30", "fd10:10::2/127"]
key = 1
"""
    )
    assert parse_lock(text, "x") == lock


def test_a_new_link_renumbers_nothing() -> None:
    before = allocate(parsed(NAT + "[gre]\n" + UDP), Lock())
    grown = NAT.replace("[node.paris]", '[node.athens]\nendpoint = "192.0.2.99"\n\n[node.paris]') + "[gre]\n" + UDP
    grown += '[[link]]\nbetween = ["lyon", "paris"]\n'  # named the other way round now
    after = allocate(parsed(grown), before)
    assert after.link("lyon", "paris") == before.link("paris", "lyon")
    assert {name: after.nodes[name].address for name in before.nodes} == {n: p.address for n, p in before.nodes.items()}
    assert str(after.link("athens", "paris").subnet[0]) == "10.10.0.4/30"
    assert (after.link("athens", "paris").key, after.link("athens", "lyon").key) == (None, 2)


def test_a_subnet_that_the_file_demands_goes_before_what_was_pinned() -> None:
    three = TWO + '[node.nice]\nendpoint = "192.0.2.30"\n'
    before = allocate(parsed(three), Lock())
    demanded = three + '[[link]]\nbetween = ["nice", "lyon"]\nsubnet = ["10.10.0.0/30"]\n'
    after = allocate(parsed(demanded), before)
    assert str(after.link("nice", "lyon").subnet[0]) == "10.10.0.0/30"
    assert after.link("nice", "lyon").end("nice")[0] == bytes([10, 10, 0, 1])
    assert str(after.link("paris", "lyon").subnet[0]) == "10.10.0.8/30", "nice gave it up"
    assert after.link("nice", "paris") == before.link("nice", "paris")


def test_a_pool_that_is_one_subnet_is_that_link() -> None:
    for pool, ends in (("192.0.2.4/31", ["192.0.2.4/31", "192.0.2.5/31"]), ("192.0.2.4/30", ["192.0.2.5/30", "192.0.2.6/30"])):
        nodes = compiled(TWO.replace('pool = ["10.10.0.0/24", "fd10:10::/64"]', f'pool = ["{pool}"]'))
        assert [nodes[name].tunnels[0].config.address[0] for name in ("paris", "lyon")] == ends


def test_a_pool_without_room_for_the_links() -> None:
    text = TWO.replace("10.10.0.0/24", "10.10.0.0/29") + "".join(
        f'[node.n{index}]\nendpoint = "192.0.2.{index}"\n' for index in (1, 2)
    )
    assert only(text) == "3:9: network.pool[0]: 10.10.0.0/29 has room for 2 GRE links (a /30 each), there are 6"
    assert "10.10.0.0/32 has room for 0 GRE links (two addresses each)" in only(TWO.replace("10.10.0.0/24", "10.10.0.0/32"))
    # A node that speaks WireGuard besides has an address of its own, which takes one of the two subnets that there are.
    phone = TWO.replace("10.10.0.0/24", "10.10.0.0/30") + '[node.p]\n[[link]]\nbetween = ["p", "paris"]\nkind = "wireguard"\n'
    phone = phone.replace('kind = "gre"\n', 'kind = "gre"\nshape = "hub"\nhub = "paris"\n', 1)
    with pytest.raises(ConfigError, match="no address left for the link paris — lyon"):
        allocate(parsed(phone), Lock())


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ('between = ["a"]\nsubnet = []', "between: expected the names of two nodes"),
        ('between = ["a", "a"]\nsubnet = []', "between: expected the names of two nodes"),
        ('between = ["a", "b"]\nsubnet = ["10.0.0.1"]', "subnet: expected a list of prefixes"),
        ('between = ["a", "b"]\nsubnet = ["10.0.0.1/32"]', "subnet: 10.0.0.1/32 has no room for two ends"),
        ('between = ["a", "b"]\nsubnet = []\nkey = 4294967296', "key: expected a number from 0 to 4294967295"),
    ],
)
def test_a_lock_file_that_was_damaged_says_where(entry: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_lock(f"version = 1\n[[link]]\n{entry}\n", "x")
    (mistake,) = caught.value.mistakes
    assert says in mistake.message
    assert mistake.span is not None
    assert mistake.span.line == 2


# ---------------------------------------------------------------- every packet has a way there and back


@st.composite
def networks(draw: st.DrawFn) -> Network:
    count = draw(st.integers(2, 7))
    shape = draw(st.sampled_from(["mesh", "hub", "none"]))
    lines = [HEAD, f'shape = "{shape}"', 'hub = "n0"' if shape == "hub" else ""]
    for index in range(count):
        lines += [f"[node.n{index}]", f'endpoint = "203.0.113.{index + 1}"']
        lines += ["relay = true"] if draw(st.booleans()) else []
        lines += [f'lans = ["10.20.{index}.0/24"]'] if draw(st.booleans()) else []
    pairs = [(left, right) for left in range(count) for right in range(left)]
    for left, right in draw(st.lists(st.sampled_from(pairs), unique=True, max_size=8)):
        lines += ["[[link]]", f'between = ["n{left}", "n{right}"]']
        lines += ['kind = "wireguard"'] if draw(st.booleans()) else []
    return parsed("\n".join(lines))


def way(node: NodeDescription, address: bytes) -> str | None:
    """The neighbour that *node* hands a packet for *address* to: the longest prefix of addresses, routes and AllowedIPs."""
    found: list[tuple[int, str]] = []
    for tunnel in node.tunnels:
        prefixes = [Prefix.parse(text) for text in (*tunnel.config.routes, *tunnel.config.address)]
        found += [(prefix.length, tunnel.peer) for prefix in prefixes if within(address, prefix)]
    for peer in node.peers:
        found += [(prefix.length, peer.name) for prefix in peer.allowed_ips if within(address, prefix)]
    longest = [peer for length, peer in found if length == max(length for length, _ in found)]
    assert len(set(longest)) <= 1, "one way"
    return longest[0] if longest else None


def sends_from(node: NodeDescription, hop: str) -> bytes:
    """What the kernel puts as the source: the address of the device that the packet leaves by."""
    if any(tunnel.peer == hop for tunnel in node.tunnels):
        return node.tunnel(hop).address[0].packed
    return node.address[0].packed


@given(networks())
def test_every_packet_takes_the_path_and_its_answer_comes_back(network: Network) -> None:
    lock = allocate(network, Lock())
    nodes = compile_network(network, lock, keys_for(network))
    paths = Paths(network)
    for source in network.nodes:
        for target in network.nodes:
            path = paths.path(source.name, target.name)
            if source is target or path is None:
                continue
            source_address = sends_from(nodes[source.name], path[1])
            target_address = nodes[target.name].address[0].packed
            for here, following in pairwise(path):
                assert way(nodes[here], target_address) == following
                peers = {peer.name for peer in nodes[following].peers}
                if here in peers:  # WireGuard checks the source
                    allowed = nodes[following].peer(here).allowed_ips
                    assert any(within(source_address, prefix) for prefix in allowed)
            for here, following in pairwise(path[::-1]):
                assert way(nodes[here], source_address) == following


@given(networks())
def test_no_address_is_given_twice(network: Network) -> None:
    lock = allocate(network, Lock())
    given_out: list[bytes] = [packed for name, pin in lock.nodes.items() if pin.listen_port for packed in pin.address]
    for link in lock.links.values():
        for subnet in link.subnet:
            assert any(within(subnet.packed, pool) for pool in network.pool)
            given_out += ends_of(subnet)
    assert len(set(given_out)) == len(given_out)
    assert allocate(network, lock) == lock, "a second run changes nothing"
    assert parse_lock(render_lock(lock), "x") == lock


# ---------------------------------------------------------------- what is refused


def test_behind_nat_bare_gre_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(NAT + '[gre]\nencapsulation = "none"\n')
    (mistake,) = caught.value.mistakes
    assert "the link paris — lyon: lyon is behind NAT, and GRE has no ports" in mistake.message
    assert mistake.hint.startswith('encapsulation = "auto" takes GRE through it')
    assert only(NAT + LINK + 'encapsulation = "none"\n').startswith("13:11: link[0]: lyon is behind NAT")
    parsed(NAT + LINK + UDP)


def test_where_an_end_is_behind_nat_gre_goes_in_udp_of_itself() -> None:
    assert compiled(NAT) == compiled(NAT + LINK + UDP)


def test_ends() -> None:
    assert "lyon runs wg-quick, which knows no GRE" in only(TWO + 'runs = "wg-quick"\n')
    same = TWO.replace("198.51.100.20", "203.0.113.10:4500")
    assert "203.0.113.10 is already paris's, and GRE has no ports" in only(same)
    mixed = TWO.replace("198.51.100.20", "2001:db8::20")
    assert "paris has 203.0.113.10 and lyon has 2001:db8::20: both ends of a GRE tunnel are of one family" in only(mixed)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("ttl = 64\npmtudisc = false\n", "a fixed ttl sets DF, which pmtudisc = false would take away"),
        ("ignore-df = true\n", "ignore-df needs pmtudisc = false"),
        ("mtu = 1477\n", "mtu 1477 does not fit its way"),
        ("key = 4294967296\n", "expected a number from 0 to 4294967295"),
        ('key = "10.0.0"\n', "expected a number or a key such as"),
        ("ttl = 256\n", 'expected "inherit" or a number from 0 to 255'),
        ("keepalive = { interval = 10, tries = 3 }\n", "expected interval and retries, found 'tries'"),
        ("keepalive = -1\n", "expected seconds (0: none)"),
        ('encapsulation = "gue"\n', "expected 'auto', 'none' or 'udp', found 'gue'"),
        ('subnet = ["10.11.0.0/30"]\n', "10.11.0.0/30 is not in a pool"),
        ('subnet = ["10.10.0.0/29"]\n', "expected a /30 or /31, found 10.10.0.0/29"),
        ('subnet = ["10.10.0.0/30", "10.10.0.4/30"]\n', "the link already has a subnet of 10.10.0.0/24"),
        ("ikey = 7\n", "knows no 'ikey'"),
    ],
)
def test_options(options: str, says: str) -> None:
    assert says in only(TWO + LINK + options)


def test_options_that_go_together() -> None:
    config = compiled(TWO + LINK + "pmtudisc = false\nignore-df = true\nmtu = 1500\n")["paris"].tunnels[0].config
    assert (config.ttl, config.pmtudisc, config.ignore_df, config.mtu) == (0, False, True, 1500)


def test_over_ipv6_there_is_no_pmtudisc_to_choose() -> None:
    text = TWO.replace("203.0.113.10", "2001:db8::10").replace("198.51.100.20", "2001:db8:1::20")
    assert "over IPv6 nothing is fragmented on the way" in only(text + LINK + "pmtudisc = false\n")


def test_two_hidden_peers_need_two_keys() -> None:
    text = NAT + "[node.nice]\n[gre]\n" + UDP + "key = 7\n"
    text = text.replace('kind = "gre"', 'kind = "gre"\nshape = "hub"\nhub = "paris"')
    assert "paris has the tunnels to lyon and nice, both behind NAT, and key 7 for both" in only(text)
    lock = allocate(parsed(text.replace("key = 7\n", "")), Lock())
    assert [link.key for link in lock.links.values()] == [1, 2]
    one = text.replace("key = 7\n", "") + LINK + "key = 1\n"
    assert allocate(parsed(one), Lock()).link("paris", "nice").key == 2, "not one that the file uses"


def test_what_a_network_of_gre_alone_cannot_have() -> None:
    assert "each has a subnet of its own" in only(TWO + 'address = ["10.10.0.9"]\n')
    assert "goes with a WireGuard interface" in only(TWO + 'dns = ["10.20.0.53"]\n')
    assert "would be in clear on the way to it" in only(TWO + 'exit = "paris"\n')


def test_an_exit_and_gre_at_one_node() -> None:
    text = TWO + 'exit = "nice"\n[node.nice]\nendpoint = "192.0.2.30"\n[[link]]\nbetween = ["nice", "lyon"]\nkind = "wireguard"\n'
    assert "lyon has GRE links, and their packets would leave through nice as well" in only(text)


def test_options_of_gre_on_another_link() -> None:
    text = TWO.replace('kind = "gre"\n', "") + LINK + "csum = true\nignore-df = true\n"
    assert mistakes(text) == [
        "14:1: link[0].csum: an option of GRE links, and this one is wireguard",
        "15:1: link[0].ignore-df: an option of GRE links, and this one is wireguard",
    ]


def test_too_small_for_ipv6() -> None:
    assert "is less than the 1280 that IPv6 needs" in only(TWO + "underlay_mtu = 1300\n")
    parsed(TWO.replace(', "fd10:10::/64"', "").replace(', "fd10:30::/64"', "") + "underlay_mtu = 1300\n")


def test_a_wireguard_interface_called_like_a_tunnel() -> None:
    text = TWO.replace('kind = "gre"', 'kind = "gre"\ninterface = "gre-lyon"\nshape = "hub"\nhub = "paris"')
    text += '[node.phone]\n[[link]]\nbetween = ["phone", "paris"]\nkind = "wireguard"\n'
    assert "gre-lyon is what paris's GRE tunnel to lyon is called" in only(text)
