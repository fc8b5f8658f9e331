"""Links under IPsec: what each end runs, what it is called, who begins, what fits, and what is refused."""

from __future__ import annotations

import pytest

from ginnel.config.node import IpsecConfig, PlainConfig
from unit.network.networks import compiled, mistakes
from unit.network.test_gre import LINK, NAT, TWO

OVER = TWO.replace('kind = "gre"', 'kind = "gre+ipsec"')
ALONE = TWO.replace('kind = "gre"', 'kind = "ipsec"')
BEHIND_NAT = NAT.replace('kind = "gre"', 'kind = "gre+ipsec"')


def only(text: str) -> str:
    """The one mistake of *text*."""
    (found,) = mistakes(text)
    return found


def ends(text: str) -> tuple[tuple[PlainConfig, IpsecConfig], tuple[PlainConfig, IpsecConfig]]:
    """What paris and lyon run, each with its protection."""
    nodes = compiled(text)
    configs = [nodes[name].tunnels[0].config for name in ("paris", "lyon")]
    first, second = [(config, config.ipsec) for config in configs]
    assert first[1] is not None
    assert second[1] is not None
    return (first[0], first[1]), (second[0], second[1])


def test_gre_over_ipsec_is_the_gre_link_and_its_protection() -> None:
    (near, ours), (far, theirs) = ends(OVER)
    bare = compiled(TWO)["paris"].tunnels[0].config
    assert (near.name, near.kind, near.address, near.routes) == (bare.name, bare.kind, bare.address, bare.routes)
    assert (near.local, near.remote) == (far.remote, far.local)
    assert (near.keepalive, near.encapsulation, near.ikey) == (None, None, None)
    assert (ours.mode, ours.auth, ours.psk_file, theirs.psk_file) == ("transport", "psk", "lyon.psk", "paris.psk")
    assert (ours.local_id, ours.remote_id) == ("paris.acme", "lyon.acme") == (theirs.remote_id, theirs.local_id)
    assert ours.ike_proposals == theirs.ike_proposals
    assert ours.esp_proposals == theirs.esp_proposals
    assert (ours.start, theirs.start) == ("start", "trap")


def test_ipsec_alone_has_a_device_of_its_own_kind_and_always_tunnel_mode() -> None:
    (near, ours), _ = ends(ALONE)
    assert (near.name, near.kind, ours.mode) == ("sec-lyon", "ipsec", "tunnel")
    assert near.address == ("10.10.0.1/30", "fd10:10::2/127")
    assert near.routes == ("10.30.0.0/24", "fd10:30::/64")


@pytest.mark.parametrize(
    ("options", "mtu"),
    [  # of 1500, as in the tables of docs/reference/mtu.md
        ("", 1434),
        ('encapsulation = "raw"\n', 1442),
        ('mode = "tunnel"\n', 1414),
        ('esp = ["aes256-sha512-modp2048"]\n', 1402),
        ('esp = ["aes256gcm16", "aes128-aes256-sha256-ecp256"]\n', 1418),
    ],
)
def test_what_fits_is_what_fits_the_worst_suite(options: str, mtu: int) -> None:
    (near, _), (far, _) = ends(OVER + "[ipsec]\n" + options)
    assert (near.mtu, far.mtu) == (mtu, mtu)


def test_the_end_behind_nat_begins_and_the_other_waits_for_it() -> None:
    (near, ours), (far, theirs) = ends(BEHIND_NAT)
    assert (near.remote, far.local) == ("any", "any")
    assert (ours.start, theirs.start) == ("wait", "start")
    assert near.ikey is None, "the SPI tells tunnels apart"


def test_whoever_finds_the_other_begins_also_where_a_link_says_how() -> None:
    text = OVER + '[node.nice]\n[[link]]\nbetween = ["lyon", "nice"]\nends.nice = { endpoint = "192.0.2.9" }\n'
    text = text.replace("[node.lyon]\nendpoint", "[node.lyon]\n#").replace("[node.paris]\n", "[node.paris]\nrelay = true\n")
    nodes = compiled(text)
    ipsec = [nodes[name].tunnel(other).config.ipsec for name, other in (("nice", "lyon"), ("lyon", "nice"))]
    assert [each.start for each in ipsec if each is not None] == ["start", "wait"]


def test_what_one_link_says_goes_before_what_is_said_of_all() -> None:
    text = OVER + "[ipsec]\nrekey = 600\ndpd = 10\n" + LINK + 'ipsec = { rekey = 1200, mode = "tunnel" }\ncsum = true\n'
    (near, ours), _ = ends(text)
    assert (ours.rekey_s, ours.dpd_s, ours.mode, near.icsum) == (1200, 10, "tunnel", True)


def test_certificates_lie_beside_the_node_file() -> None:
    node = compiled(OVER + '[ipsec]\nauth = "certificate"\n')["paris"]
    ipsec = node.config("/etc/ginnel/edge.toml").plain[0].ipsec
    assert ipsec is not None
    assert (ipsec.psk_file, ipsec.private_key_file) == ("", "/etc/ginnel/node.key")
    assert (ipsec.certificate_files, ipsec.ca_files) == (("/etc/ginnel/node.crt",), ("/etc/ginnel/ca.crt",))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BEHIND_NAT + '[ipsec]\nencapsulation = "raw"\n', "lyon is behind NAT, and raw ESP has no ports"),
        (OVER + '[gre]\nencapsulation = "udp"\n', "GRE in UDP under IPsec is two wrappings for one purpose"),
        (OVER + "[gre]\nkeepalive = 10\n", "a GRE keepalive comes back outside the protection"),
        (OVER + '[ipsec]\nesp = ["aes257gcm16"]\n', "ipsec.esp[0]"),
        (OVER + '[ipsec]\nike = ["aes256gcm16-x25519-"]\n', "ipsec.ike[0]"),
        (OVER + '[ipsec]\npsk = "swordfish"\n', "knows no 'psk'"),
        (OVER + "[ipsec]\nrekey = 5\n", "expected 30 or more"),
        (ALONE + LINK + "csum = true\n", "an option of GRE links, and this one is ipsec"),
        (TWO + LINK + "ipsec = {}\n", "an option of IPsec links, and this one is gre"),
        (OVER + 'runs = "wg-quick"\n', "runs wg-quick, which knows no GRE over IPsec"),
    ],
)
def test_refused(text: str, says: str) -> None:
    found = only(text)
    assert says in found
    assert "swordfish" not in found


def test_three_kinds_reach_the_same() -> None:
    """The routes of a network do not depend on what its links are made of."""
    found = {}
    for kind in ("gre", "gre+ipsec", "ipsec"):
        nodes = compiled(TWO.replace('kind = "gre"', f'kind = "{kind}"'))
        found[kind] = {name: [(tunnel.peer, tunnel.config.routes) for tunnel in node.tunnels] for name, node in nodes.items()}
    assert found["gre"] == found["gre+ipsec"] == found["ipsec"]
