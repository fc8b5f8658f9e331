"""What a network becomes, as values: no namespace is made here."""

from __future__ import annotations

from ginnel.lab.topology import INTERNET, Topology, plan
from ginnel.network import parse_network

HEAD = '[network]\nname = "t"\npool = ["10.10.0.0/24", "fd10:10::/64"]\n'
TWO = f"""{HEAD}
[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24", "fd10:20::/64", "10.21.0.0/24"]
[node.lyon]
lans = ["10.40.0.0/24"]
"""


def planned(text: str) -> Topology:
    return plan(parse_network(text, "t.toml"))


def commands(topology: Topology, name: str) -> str:
    return "\n".join(topology.space(name).commands)


def test_namespaces_and_wires() -> None:
    topology = planned(TWO)
    assert [(space.name, space.role) for space in topology.spaces] == [
        (INTERNET, "internet"),
        ("paris", "node"),
        ("lan-paris", "lan"),
        ("lan2-paris", "lan"),
        ("lyon", "node"),
        ("nat-lyon", "nat"),
        ("lan-lyon", "lan"),
    ]
    assert [(wire.name, wire.underlay) for wire in topology.wires] == [
        ("paris", True),
        ("lan-paris", False),
        ("lan2-paris", False),
        ("lyon", True),
        ("lyon (home)", True),
        ("lan-lyon", False),
    ]


def test_a_node_has_the_addresses_by_which_single_links_find_it() -> None:
    links = """
[[link]]
between = ["paris", "lyon"]
ends.lyon = { endpoint = "192.0.2.7:51820" }
ends.paris = { endpoint = "192.0.2.8:51820" }
"""
    topology = planned(TWO.replace("[node.lyon]", "[node.lyon]\nlisten_port = 51830") + links)
    assert "addr add 192.0.2.7/32 dev eth0" in commands(topology, "paris")
    assert "addr add 192.0.2.8/32 dev out" in commands(topology, "nat-lyon")
    assert "dnat ip to 100.64.1.2:51830" in topology.space("nat-lyon").nft
    for single in ("192.0.2.7/32 dev to-paris", "192.0.2.8/32 dev to-lyon"):
        assert f"route add {single}" in commands(topology, INTERNET)


def test_a_node_with_an_endpoint_has_it_and_one_without_has_a_private_address_behind_a_nat() -> None:
    topology = planned(TWO)
    assert "addr add 203.0.113.10/32 dev eth0" in commands(topology, "paris")
    assert "addr add 100.64.1.2/24 dev eth0" in commands(topology, "lyon")
    assert "masquerade" in topology.space("nat-lyon").nft
    assert topology.public["lyon"].startswith("198.18.")
    assert f"addr add {topology.public['lyon']}/32 dev out" in commands(topology, "nat-lyon")
    assert topology.space("nat-lyon").forwards
    assert not topology.space("paris").forwards  # that is its own file's business


def test_lans_come_in_pairs_and_hosts_own_what_expectations_name() -> None:
    topology = planned(
        TWO + '[[expect]]\nfrom = "lyon"\nto = "10.20.0.5:443"\n[[expect]]\nfrom = "10.20.0.6"\nto = "10.40.0.1"\n'
    )
    hosts = {host.space: host for host in topology.hosts}
    assert [len(packed) for packed in hosts["lan-paris"].address] == [4, 4, 16]
    assert hosts["lan-paris"].address[:2] == (bytes([10, 20, 0, 5]), bytes([10, 20, 0, 6]))
    assert "addr add 10.20.0.1/24 dev lan0" in commands(topology, "paris")
    assert hosts["lan2-paris"].address == (bytes([10, 21, 0, 2]),)
    # 10.40.0.1 was asked for: so it is the host's, and the node takes the next.
    assert hosts["lan-lyon"].address == (bytes([10, 40, 0, 1]),)
    assert "addr add 10.40.0.2/24 dev lan0" in commands(topology, "lyon")


def test_a_lan_of_one_address_belongs_to_its_host() -> None:
    topology = planned(TWO.replace("10.40.0.0/24", "10.40.0.7/32"))
    assert "192.0.0.8" not in str(commands(topology, "lyon")), "or it would take the internet's router for itself"
    assert topology.hosts[-1].address == (bytes([10, 40, 0, 7]),)
    assert "route add 10.40.0.7/32 dev lan0" in commands(topology, "lyon")


def test_faults_put_a_relay_on_the_wire() -> None:
    topology = planned(TWO + '[lab.node.lyon]\nloss = "1%"\n')
    wires = {wire.name: wire for wire in topology.wires}
    assert wires["lyon"].right == ("relay-lyon", "left")
    assert wires["lyon (far)"].left == ("relay-lyon", "right")
    assert wires["lyon (far)"].right == ("nat-lyon", "out")
    assert not wires["lyon (far)"].underlay
    assert not wires["paris"].faults.any


def test_a_small_path_is_a_route_and_a_black_hole_a_relay() -> None:
    topology = planned(TWO + "[lab.node.paris]\nmtu = 1400\n[lab.node.lyon]\nmtu = 1300\n")
    told = commands(topology, INTERNET)
    public = topology.public["lyon"]
    assert "rule add from all iif to-paris lookup 100" in told
    assert "-6 rule add from all iif to-lyon lookup 101" in told
    assert f"route add {public}/32 dev to-lyon mtu lock 1300 table 100" in told, "the smaller of both"
    assert "route add 203.0.113.10/32 dev to-paris mtu lock 1300 table 101" in told
    assert "route replace 203.0.113.10/32 dev to-paris mtu lock 1400" in told
    assert not any(wire.faults.any for wire in topology.wires)
    hole = planned(TWO + '[lab.node.lyon]\nmtu = 1300\nblock = ["icmp"]\n')
    assert "mtu lock" not in commands(hole, INTERNET)
    assert [wire.name for wire in hole.wires if wire.faults.any] == ["lyon"]
    assert (hole.inside["lyon"], hole.inside["paris"][0]) == (("100.64.1.2", "2001:db8:ff2:1::2"), "203.0.113.10")


def test_a_host_name_stands_for_an_address_of_the_lab() -> None:
    topology = planned(TWO.replace("203.0.113.10", "vpn.example.org"))
    assert topology.names == {"vpn.example.org": topology.public["paris"]}


def test_outside_addresses_live_in_the_internet() -> None:
    text = TWO + 'exit = "paris"\n[[expect]]\nfrom = "lyon"\nto = "192.0.2.80:80"\n'
    topology = planned(text)
    assert topology.outside == (bytes([192, 0, 2, 80]),)
    assert "addr add 192.0.2.80/32 dev lo" in commands(topology, INTERNET)


def test_long_names_still_make_distinct_interfaces() -> None:
    long = "a" * 31
    topology = planned(f'{HEAD}[node.{long}a]\nendpoint = "203.0.113.1"\n[node.{long}b]\nendpoint = "203.0.113.2"\n')
    names = [wire.left[1] for wire in topology.wires]
    assert len(set(names)) == 2
    assert all(len(name) <= 15 for name in names)


def test_the_same_network_gives_the_same_topology() -> None:
    assert planned(TWO) == planned(TWO)
