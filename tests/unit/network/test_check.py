"""Sense: each rule once by a file that breaks it, with the place it points at."""

from __future__ import annotations

import pytest

from unit.network.networks import HEAD, THREE, mistakes, parsed

LINE = HEAD.count("\n")


def only(text: str) -> str:
    """The one mistake of *text*."""
    (found,) = mistakes(text)
    return found


def test_kinds_that_are_not_built_name_those_that_are() -> None:
    with_kind = THREE.replace('name = "acme"', 'name = "acme"\nkind = "esp"')
    assert only(with_kind) == "3:8: network.kind: no links of kind 'esp'"
    link = THREE + '[[link]]\nbetween = ["paris", "lyon"]\nkind = "vxlan"\n'
    assert only(link).endswith("link[0].kind: no links of kind 'vxlan'")


@pytest.mark.parametrize(
    "addition",
    [
        '[[link]]\nbetween = ["paris", "lyn"]\n',
        '[[expect]]\nfrom = "lyn"\nto = "paris"\n',
        '[[expect]]\nfrom = "lyon"\nto = "lyn:80"\n',
        "[lab.node.lyn]\nloss = 0.1\n",
        '[node.x]\nexit = "lyn"\n',
    ],
)
def test_unknown_names_are_named(addition: str) -> None:
    assert "there is no node 'lyn'" in only(THREE + addition)


def test_overlapping_lans_are_refused_naming_both() -> None:
    text = THREE.replace("10.40.0.0/24", "10.20.0.128/25")
    assert only(text) == "14:9: lyon's lan 10.20.0.128/25 overlaps paris's lan 10.20.0.0/24: a packet for both has one way to go"
    same = THREE.replace("10.40.0.0/24", "10.20.0.0/24")
    assert "lyon's lan 10.20.0.0/24 overlaps paris's lan 10.20.0.0/24" in only(same)
    pool = THREE.replace("10.40.0.0/24", "10.10.0.0/16")
    assert "the pool 10.10.0.0/24 overlaps lyon's lan 10.10.0.0/16" in only(pool)


def test_nested_overlaps_are_all_found() -> None:
    text = HEAD + 'shape = "none"\n[node.a]\nlans = ["10.0.0.0/16", "10.0.1.0/24", "10.0.2.0/24", "10.1.0.0/24"]\n'
    found = mistakes(text)
    assert len(found) == 2
    assert all("10.0.0.0/16" in line for line in found)


def test_two_nodes_behind_nat_need_somebody_to_carry() -> None:
    text = THREE + "[node.nice]\n"
    assert only(text).endswith("nothing carries between lyon and nice: both are behind NAT and no node relays")
    parsed(text.replace('endpoint = "203.0.113.10"', 'endpoint = "203.0.113.10"\nrelay = true'))
    assert "both behind NAT, neither can reach the other" in "".join(
        mistakes(text.replace("[node.nice]", '[node.nice]\n[[link]]\nbetween = ["nice", "lyon"]'))
    )


def test_what_many_pairs_have_in_common_is_told_once() -> None:
    sites = "".join(f"[node.site{number}]\n" for number in range(14))
    assert only(HEAD + sites).endswith(
        "nothing carries between site0, site1, site2, site3, site4, site5, site6, site7 and 6 more: "
        "they are behind NAT and no node relays"
    )
    assert only(THREE + sites).endswith(
        "lyon, site0, site1, site2, site3, site4, site5, site6 and 7 more: they are behind NAT and no node relays"
    )
    parsed(HEAD + sites.replace("[node.site3]\n", '[node.site3]\nendpoint = "203.0.113.1"\nrelay = true\n'))


def test_nodes_that_do_not_all_lack_each_other_are_told_apart() -> None:
    hidden = "[node.a]\n[node.b]\n[node.c]\n[node.d]\n"
    link = '[[link]]\nbetween = ["a", "b"]\nends.a = { endpoint = "198.51.100.1" }\n'
    told = [line.partition("nothing carries between ")[2].partition(":")[0] for line in mistakes(HEAD + hidden + link)]
    assert told == ["a, c and d", "b, c and d"]


def test_a_hub_is_named_and_reachable() -> None:
    hub = THREE.replace('name = "acme"', 'name = "acme"\nshape = "hub"')
    assert 'network.shape: "hub" needs to know which node it is' in only(hub)
    assert "lyon has no endpoint" in only(hub.replace('shape = "hub"', 'shape = "hub"\nhub = "lyon"'))
    parsed(hub.replace('shape = "hub"', 'shape = "hub"\nhub = "paris"'))
    assert "only shape" in only(THREE.replace('name = "acme"', 'name = "acme"\nhub = "paris"'))


def test_a_relay_is_reachable() -> None:
    assert "a relay must be reachable" in only(THREE.replace("[node.lyon]", "[node.lyon]\nrelay = true"))


def test_links() -> None:
    assert "cannot be linked with itself" in only(THREE + '[[link]]\nbetween = ["paris", "paris"]\n')
    twice = THREE + '[[link]]\nbetween = ["paris", "lyon"]\n[[link]]\nbetween = ["lyon", "paris"]\n'
    assert "lyon and paris are already linked by link[0]" in only(twice)


def test_exits() -> None:
    assert "cannot leave through itself" in only(THREE.replace("[node.lyon]", '[node.lyon]\nexit = "lyon"'))
    chain = THREE.replace("[node.lyon]", '[node.lyon]\nexit = "paris"').replace(
        "[node.paris]", '[node.paris]\nexit = "frankfurt"'
    )
    assert "paris itself leaves through frankfurt" in only(chain)
    apart = THREE.replace('name = "acme"', 'name = "acme"\nshape = "none"').replace("[node.lyon]", '[node.lyon]\nexit = "paris"')
    assert "lyon has no link with paris" in only(apart)


def test_pools_must_have_room() -> None:
    text = THREE.replace("10.10.0.0/24", "10.10.0.0/31")
    assert only(text) == "3:9: network.pool[0]: 10.10.0.0/31 has room for 2 nodes, there are 3"


def test_fixed_addresses() -> None:
    fix = 'address = ["{}"]\n'
    assert "not a host address of a pool" in only(THREE + fix.format("10.99.0.1"))
    assert "not a host address of a pool" in only(THREE + fix.format("10.10.0.0"))
    assert "not a host address of a pool" in only(THREE + fix.format("10.10.0.255"))
    assert "already has an address of 10.10.0.0/24" in only(THREE + 'address = ["10.10.0.7", "10.10.0.8"]\n')
    both = THREE.replace("[node.paris]", '[node.paris]\naddress = ["10.10.0.7"]') + fix.format("10.10.0.7")
    assert "10.10.0.7 is already paris's" in only(both)


def test_endpoints() -> None:
    assert "203.0.113.10 port 51820 is already paris's" in only(THREE.replace("198.51.100.20", "203.0.113.10"))
    parsed(THREE.replace("198.51.100.20", "203.0.113.10:51821"))
    assert "its packets would be sent into their own tunnel" in only(THREE.replace("198.51.100.20", "10.40.0.9"))
    v6 = THREE.replace("198.51.100.20", "2001:db8::1").replace('name = "acme"', 'name = "acme"\nouter = "ipv4"')
    assert "network.outer says only IPv4" in only(v6)


def test_mtu_is_arithmetic() -> None:
    assert "1421 does not fit the way to paris" in only(THREE.replace('name = "acme"', 'name = "acme"\nmtu = 1421'))
    parsed(THREE.replace('name = "acme"', 'name = "acme"\nmtu = 1420'))
    parsed(THREE.replace('name = "acme"', 'name = "acme"\nmtu = 1440\nouter = "ipv4"'))
    narrow = THREE + "underlay_mtu = 1359\n"
    assert "less than the 1280 that IPv6 needs" in only(narrow)


def test_expectations_must_be_about_real_things() -> None:
    expect = '[[expect]]\nfrom = "{}"\nto = "{}"\n'
    assert "192.0.2.1 lies in no node's lan, and lyon has no exit" in only(THREE + expect.format("lyon", "192.0.2.1"))
    assert "10.99.0.1 lies in no node's lan" in only(THREE + expect.format("10.99.0.1", "paris"))
    parsed(THREE + expect.format("10.30.0.9", "10.20.0.5:443"))
    parsed(THREE.replace("[node.lyon]", '[node.lyon]\nexit = "paris"') + expect.format("lyon", "192.0.2.1:80"))


def test_a_flood_of_mistakes_is_counted() -> None:
    links = "".join('[[link]]\nbetween = ["paris", "paris"]\n' for _ in range(60))
    found = mistakes(THREE + links)
    assert len(found) == 51
    assert found[-1] == "and 10 more of the same"


def test_an_exit_by_a_link_that_is_held_ready() -> None:
    text = '[network]\nname = "x"\npool = ["10.0.0.0/24"]\nshape = "hub"\nhub = ["paris", "lyon"]\n'
    text += '[node.paris]\nendpoint = "203.0.113.1"\n[node.lyon]\nendpoint = "203.0.113.2"\nexit = "oslo"\n'
    text += '[node.oslo]\nendpoint = "203.0.113.3"\n'
    (mistake,) = mistakes(text)
    assert "the link of lyon with oslo is one to a second hub" in str(mistake)
    assert parsed(text.replace('["paris", "lyon"]', '["lyon", "paris"]'))
