"""
What routers get: exact files, read again by small readers of their own languages, and held against the description.

The readers know nothing of the renderers: VyOS's builds the tree that `set` commands make, RouterOS's takes a line apart by its
quoting rules, Cisco's makes sections of indented lines. What must be there is there once: every key, prefix, endpoint, address.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.errors import UsageError
from ginnel.network import Lock, NodeDescription, allocate, compile_network
from ginnel.network.model import Mapped
from ginnel.network.render import NONE, Secrets, cisco_ios, renderer, router, routeros, vyos
from ginnel.units import Prefix
from unit.network.networks import keys_for, parsed

ROUTERS = ("cisco-ios", "routeros", "vyos")
KEY = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
PSK = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="

SITES = """\
[network]
name = "acme"
pool = ["10.10.0.0/24", "fd10:10::/64"]
kind = "{kind}"

[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24", "fd10:20::/64"]

[node.lyon]
endpoint = "198.51.100.20"
lans = ["10.30.0.0/24"]
"""
FOUR = SITES.replace(', "fd10:10::/64"', "").replace(', "fd10:20::/64"', "")
ROAD = """\
[network]
name = "acme"
pool = ["10.10.0.0/24"]
shape = "hub"
hub = "lyon"

[node.lyon]
endpoint = "vpn.example.org:4000"
lans = ["10.30.0.0/24"]

[node.phone]
exit = "lyon"

[node.shop]
lans = ["10.40.0.0/24"]
"""


def described(text: str, node: str = "lyon", runs: str = "ginnel", **changes: Any) -> NodeDescription:
    """One node of a network, run by a router."""
    network = parsed(text)
    nodes = tuple(replace(each, runs=runs, **changes) if each.name == node else each for each in network.nodes)
    network = replace(network, nodes=nodes)
    return compile_network(network, allocate(network, Lock()), keys_for(network))[node]


def text_of(format_: str, description: NodeDescription, secrets: Secrets = NONE) -> str:
    (file,) = renderer(format_).files(description, secrets)
    assert file.text.endswith("\n")
    assert file.secret == (secrets is not NONE)
    return file.text


# ---------------------------------------------------------------- readers


def vyos_tree(text: str) -> dict[str, Any]:
    """What `set` commands make; the last word of each is a value."""
    tree: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        words = re.findall(r"'[^']*'|[^\s']+", line)
        assert " ".join(words) == line, line
        assert words[0] == "set", line
        node = tree
        for word in words[1:]:
            node = node.setdefault(word.strip("'"), {})
    return tree


def routeros_line(line: str) -> tuple[str, list[str], dict[str, str]]:
    """(menu and command, flags, properties) of one line; AssertionError for what its console would not take."""
    pieces: list[str] = []
    piece, quoted, protected = "", False, False
    for character in line:
        if protected:
            assert character in '"\\$?nrt', line
            piece, protected = piece + character, False
        elif character == "\\":
            assert quoted, line
            protected = True
        elif character == '"':
            quoted = not quoted
        elif character == " " and not quoted:
            pieces.append(piece)
            piece = ""
        else:
            assert quoted or character not in ";{}[]()$", line
            piece += character
    assert not quoted, line
    assert not protected, line
    pieces.append(piece)
    command = pieces[: pieces.index("add" if "add" in pieces else "set") + 1]
    rest = pieces[len(command) :]
    names = [word.partition("=")[0] for word in rest]
    assert len(names) == len(set(names)), line
    flags = [word for word in rest if "=" not in word]
    return " ".join(command), flags, dict(word.split("=", 1) for word in rest if "=" in word)


def routeros_lines(text: str) -> list[tuple[str, list[str], dict[str, str]]]:
    return [routeros_line(line) for line in text.splitlines() if not line.startswith("#")]


def of(lines: list[tuple[str, list[str], dict[str, str]]], command: str) -> list[dict[str, str]]:
    return [values for each, _, values in lines if each == command]


def cisco_sections(text: str) -> dict[str, list[str]]:
    """Each line at the margin with the lines that are indented behind it; no line at the margin twice."""
    found: dict[str, list[str]] = {}
    here = ""
    for line in text.splitlines():
        if line.startswith("!"):
            continue
        if line.startswith(" "):
            found[here].append(line.strip())
        else:
            assert line not in found, line
            here = line
            found[here] = []
    return found


# ---------------------------------------------------------------- Cisco


def test_gre_over_ipsec_on_cisco_is_what_the_howto_has() -> None:
    """The same words as in docs/howto/ipsec-with-cisco-ios.md, with this network's names and addresses."""
    assert (
        text_of("cisco-ios", described(FOUR.format(kind="gre+ipsec"), runs="cisco-ios"))
        == """\
! acme: lyon. Rendered by ginnel; changes belong in the network file.
! For Cisco IOS and IOS XE, in configuration mode. Written after Cisco's documents; not tried with a router.
! Lines that begin with ! and a word in capitals wait for a secret.
crypto ikev2 proposal GINNEL-1
 encryption aes-cbc-256
 integrity sha256
 group 19
crypto ikev2 policy GINNEL
 proposal GINNEL-1
crypto ikev2 keyring GINNEL
 peer paris
  address 203.0.113.10
! pre-shared-key PUT-THE-SECRET-OF-lyon-AND-paris-HERE
crypto ikev2 profile GINNEL-paris
 match identity remote fqdn paris.acme
 identity local fqdn lyon.acme
 authentication remote pre-share
 authentication local pre-share
 keyring local GINNEL
 lifetime 14400
 dpd 30 5 on-demand
crypto ipsec transform-set GINNEL-paris esp-gcm 256
 mode transport
crypto ipsec profile GINNEL-paris
 set transform-set GINNEL-paris
 set security-association lifetime seconds 3600
 set pfs group19
 set ikev2-profile GINNEL-paris
interface Tunnel0
 description paris
 ip address 10.10.0.2 255.255.255.252
 ip mtu 1434
 ip tcp adjust-mss 1394
 tunnel source 198.51.100.20
 tunnel destination 203.0.113.10
 tunnel mode gre ip
 tunnel ttl 64
 tunnel path-mtu-discovery
 tunnel protection ipsec profile GINNEL-paris
ip route 10.20.0.0 255.255.255.0 10.10.0.1
"""
    )


def test_what_cisco_negotiates_is_what_the_other_end_offers() -> None:
    network = FOUR.format(kind="gre+ipsec")
    theirs = parsed(network)
    nodes = tuple(replace(node, runs="cisco-ios" if node.name == "lyon" else "ginnel") for node in theirs.nodes)
    theirs = replace(theirs, nodes=nodes)
    paris = compile_network(theirs, allocate(theirs, Lock()), {})["paris"].tunnel("lyon").config.ipsec
    assert paris is not None
    assert (paris.ike_proposals, paris.esp_proposals) == (("aes256-sha256-ecp256",), ("aes256gcm16-ecp256",))
    assert (paris.local_id, paris.remote_id) == ("paris.acme", "lyon.acme")


def test_ipsec_alone_on_cisco_is_a_virtual_tunnel_interface() -> None:
    text = text_of("cisco-ios", described(FOUR.format(kind="ipsec"), runs="cisco-ios"))
    sections = cisco_sections(text)
    assert "tunnel mode ipsec ipv4" in sections["interface Tunnel0"]
    assert sections["crypto ipsec transform-set GINNEL-paris esp-gcm 256"] == ["mode tunnel"]
    with pytest.raises(UsageError, match="carries IPv4 alone"):
        text_of("cisco-ios", described(SITES.format(kind="ipsec"), runs="cisco-ios"))
    # And the other end asks for no more than that.
    config = described(FOUR.format(kind="ipsec"), runs="cisco-ios").tunnel("paris").config.ipsec
    assert config is not None
    assert (config.local_ts, config.remote_ts) == (("0.0.0.0/0",), ("0.0.0.0/0",))


def test_gre_on_cisco_with_both_families_and_every_option() -> None:
    options = "[gre]\nkey = 7\ncsum = true\nseq = true\ntos = 16\nkeepalive = { interval = 5, retries = 4 }\n"
    sections = cisco_sections(text_of("cisco-ios", described(SITES.format(kind="gre") + options, runs="cisco-ios")))
    tunnel = sections["interface Tunnel0"]
    for line in (
        "ipv6 address fd10:10::3/127", "ipv6 mtu 1464", "ipv6 tcp adjust-mss 1404", "tunnel key 7", "tunnel checksum",
        "tunnel sequence-datagrams", "tunnel tos 16", "keepalive 5 4",
    ):  # fmt: skip
        assert tunnel.count(line) == 1, (line, tunnel)
    assert sections["ipv6 route fd10:20::/64 fd10:10::2"] == []
    assert sections["ipv6 unicast-routing"] == []


@pytest.mark.parametrize(
    ("secret", "line"),
    [
        ("correct-horse", "  pre-shared-key correct-horse"),
        ("0xC0FFEE", "  pre-shared-key hex c0ffee"),
        ("0swP/u", "  pre-shared-key hex c0ffee"),
    ],
)
def test_a_secret_on_cisco(secret: str, line: str) -> None:
    text = text_of("cisco-ios", described(FOUR.format(kind="gre+ipsec"), runs="cisco-ios"), Secrets(ipsec={"paris": secret}))
    assert text.splitlines().count(line) == 1
    assert "PUT-THE-SECRET" not in text


@pytest.mark.parametrize("format_", ROUTERS)
@pytest.mark.parametrize("secret", ["two\nlines", "a\rb", "ünicode", "tab\there", "nul\0x"])
def test_a_secret_that_would_end_its_line_is_refused_unquoted(format_: str, secret: str) -> None:
    with pytest.raises(UsageError) as refused:
        text_of(format_, described(FOUR.format(kind="gre+ipsec"), runs=format_), Secrets(ipsec={"paris": secret}))
    assert secret not in str(refused.value)


# ---------------------------------------------------------------- RouterOS


def test_gre_over_ipsec_on_routeros() -> None:
    text = text_of(
        "routeros", described(FOUR.format(kind="gre+ipsec"), runs="routeros"), Secrets(ipsec={"paris": 'a "b" \\c $d?'})
    )
    lines = routeros_lines(text)
    (profile,) = of(lines, "/ip ipsec profile add")
    assert (profile["enc-algorithm"], profile["hash-algorithm"], profile["dh-group"]) == ("aes-256", "sha256", "ecp256")
    (proposal,) = of(lines, "/ip ipsec proposal add")
    assert (proposal["enc-algorithms"], proposal["auth-algorithms"], proposal["pfs-group"]) == ("aes-256-gcm", "", "ecp256")
    (peer,) = of(lines, "/ip ipsec peer add")
    assert (peer["address"], peer["local-address"], peer["exchange-mode"]) == ("203.0.113.10/32", "198.51.100.20", "ike2")
    (identity,) = of(lines, "/ip ipsec identity add")
    assert identity["secret"] == 'a "b" \\c $d?'
    assert (identity["my-id"], identity["remote-id"]) == ("fqdn:lyon.acme", "fqdn:paris.acme")
    (policy,) = of(lines, "/ip ipsec policy add")
    assert (policy["protocol"], policy["tunnel"], policy["level"]) == ("gre", "no", "require")
    ((_, flags, gre),) = [each for each in lines if each[0] == "/interface gre add"]
    assert (gre["allow-fast-path"], gre["mtu"], flags) == ("no", "1434", ["!keepalive"])
    assert [each["address"] for each in of(lines, "/ip address add")] == ["10.10.0.2/30"]
    assert [(each["dst-address"], each["gateway"]) for each in of(lines, "/ip route add")] == [("10.20.0.0/24", "10.10.0.1")]


def test_without_a_secret_nothing_comes_up_with_one_that_everybody_can_read() -> None:
    for format_ in ROUTERS:
        text = text_of(format_, described(FOUR.format(kind="gre+ipsec"), runs=format_))
        (waiting,) = [line for line in text.splitlines() if "PUT-THE-SECRET" in line]
        assert waiting.startswith(("! ", "# "))


def test_wireguard_on_routeros() -> None:
    lines = routeros_lines(text_of("routeros", described(SITES.format(kind="wireguard"), runs="routeros"), Secrets(PSK)))
    (interface,) = of(lines, "/interface wireguard add")
    assert interface == {"name": "wg0", "mtu": "1420", "listen-port": "51820", "private-key": PSK}
    (peer,) = of(lines, "/interface wireguard peers add")
    assert peer == {
        "interface": "wg0", "comment": "paris", "public-key": KEY, "endpoint-address": "203.0.113.10", "endpoint-port": "51820",
        "allowed-address": "10.10.0.1/32,fd10:10::1/128,10.20.0.0/24,fd10:20::/64",
    }  # fmt: skip
    assert [each["address"] for each in of(lines, "/ipv6 address add")] == ["fd10:10::2/64"]
    assert [each["dst-address"] for each in of(lines, "/ip route add")] == ["10.20.0.0/24"]
    assert [each["dst-address"] for each in of(lines, "/ipv6 route add")] == ["fd10:20::/64"]


def test_an_exit_on_routeros_and_vyos() -> None:
    lines = routeros_lines(text_of("routeros", described(ROAD, runs="routeros")))
    masquerade = [each for each in of(lines, "/ip firewall nat add") if each["action"] == "masquerade"]
    assert [(each["src-address"], each["out-interface"]) for each in masquerade] == [("10.10.0.2/32", "!wg0")]
    kept = [each for each in of(lines, "/ip firewall nat add") if each["action"] == "accept"]
    assert [each["dst-address"] for each in kept] == ["10.30.0.0/24"]
    tree = vyos_tree(text_of("vyos", described(ROAD, runs="vyos")))
    rules = tree["nat"]["source"]["rule"]
    assert rules["9000"]["exclude"] == {}
    assert rules["9001"] == {
        "source": {"address": {"10.10.0.2/32": {}}}, "outbound-interface": {"name": {"!wg0": {}}},
        "translation": {"address": {"masquerade": {}}},
    }  # fmt: skip


def test_what_routeros_has_not() -> None:
    with pytest.raises(UsageError, match="no device for IPsec alone"):
        text_of("routeros", described(FOUR.format(kind="ipsec"), runs="routeros"))
    for option in ("key = 5", "csum = true", "seq = true"):
        with pytest.raises(UsageError, match=f"no {option.split()[0]}"):
            text_of("routeros", described(FOUR.format(kind="gre") + f"[gre]\n{option}\n", runs="routeros"))


# ---------------------------------------------------------------- VyOS


def test_gre_over_ipsec_on_vyos() -> None:
    secret = Secrets(ipsec={"paris": "a secret with blanks"})
    tree = vyos_tree(text_of("vyos", described(FOUR.format(kind="gre+ipsec"), runs="vyos"), secret))
    tunnel = tree["interfaces"]["tunnel"]["tun0"]
    assert set(tunnel["source-address"]) == {"198.51.100.20"}
    assert set(tunnel["remote"]) == {"203.0.113.10"}
    assert set(tunnel["address"]) == {"10.10.0.2/30"}
    ipsec = tree["vpn"]["ipsec"]
    assert ipsec["ike-group"]["GINNEL-paris"]["proposal"] == {
        "1": {"encryption": {"aes256": {}}, "hash": {"sha256": {}}, "dh-group": {"19": {}}}
    }
    assert set(ipsec["esp-group"]["GINNEL-paris"]["mode"]) == {"transport"}
    assert ipsec["authentication"]["psk"]["paris"] == {
        "id": {"lyon.acme": {}, "paris.acme": {}}, "secret": {"a secret with blanks": {}}
    }  # fmt: skip
    peer = ipsec["site-to-site"]["peer"]["paris"]
    assert peer["tunnel"] == {"1": {"protocol": {"gre": {}}}}
    assert set(peer["remote-address"]) == {"203.0.113.10"}
    assert tree["protocols"]["static"]["route"] == {"10.20.0.0/24": {"next-hop": {"10.10.0.1": {}}}}


def test_ipsec_alone_on_vyos_is_a_vti() -> None:
    tree = vyos_tree(text_of("vyos", described(SITES.format(kind="ipsec"), runs="vyos")))
    assert set(tree["interfaces"]["vti"]["vti0"]["address"]) == {"10.10.0.2/30", "fd10:10::3/127"}
    assert tree["vpn"]["ipsec"]["site-to-site"]["peer"]["paris"]["vti"] == {
        "bind": {"vti0": {}}, "esp-group": {"GINNEL-paris": {}}
    }  # fmt: skip
    assert "tunnel" not in tree["interfaces"]


def test_wireguard_on_vyos() -> None:
    tree = vyos_tree(text_of("vyos", described(SITES.format(kind="wireguard"), runs="vyos"), Secrets(PSK)))
    wg0 = tree["interfaces"]["wireguard"]["wg0"]
    assert set(wg0["address"]) == {"10.10.0.2/24", "fd10:10::2/64"}
    assert set(wg0["private-key"]) == {PSK}
    assert wg0["peer"]["paris"] == {
        "public-key": {KEY: {}}, "address": {"203.0.113.10": {}}, "port": {"51820": {}},
        "allowed-ips": {prefix: {} for prefix in ("10.10.0.1/32", "fd10:10::1/128", "10.20.0.0/24", "fd10:20::/64")},
    }  # fmt: skip
    static = tree["protocols"]["static"]
    assert static == {
        "route": {"10.20.0.0/24": {"interface": {"wg0": {}}}},
        "route6": {"fd10:20::/64": {"interface": {"wg0": {}}}},
    }
    with pytest.raises(UsageError, match="called wg0, wg1"):
        text_of("vyos", described(SITES.format(kind="wireguard"), runs="vyos", interface="tunnel"))


def test_a_quote_in_a_secret_is_refused_on_vyos() -> None:
    with pytest.raises(UsageError, match="cannot be written there"):
        text_of("vyos", described(FOUR.format(kind="gre+ipsec"), runs="vyos"), Secrets(ipsec={"paris": "it's"}))


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("format_", ROUTERS)
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hooks": (("PostUp", "true"),)}, "hooks"),
        ({"table": "off"}, "routing table"),
    ],
)
def test_what_no_router_can_is_refused(format_: str, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        text_of(format_, described(FOUR.format(kind="gre"), runs=format_, **changes))


@pytest.mark.parametrize("format_", ROUTERS)
def test_an_end_without_a_number_is_refused(format_: str) -> None:
    for text, whose in (
        (FOUR.replace("203.0.113.10", "paris.example.org"), "paris"),
        (FOUR.replace('endpoint = "198.51.100.20"', ""), "this end"),
    ):
        with pytest.raises(UsageError, match=f"numeric endpoint of {whose}"):
            text_of(format_, described(text.format(kind="gre+ipsec"), runs=format_))


@pytest.mark.parametrize("format_", ROUTERS)
def test_algorithms_that_a_router_has_not_are_named(format_: str) -> None:
    text = FOUR.format(kind="gre+ipsec") + '[ipsec]\nike = ["chacha20poly1305-prfsha256-ecp256"]\nesp = ["aes256gcm16-ecp256"]\n'
    if format_ == "vyos":
        assert "chacha20poly1305" in text_of(format_, described(text, runs=format_))
    else:
        with pytest.raises(UsageError, match="chacha20poly1305"):
            text_of(format_, described(text, runs=format_))
    later = text.replace("ike = [", 'ike = ["aes256ccm16-prfsha256-ecp256", ').replace(
        "chacha20poly1305-prfsha256", "aes128-sha384"
    )
    with pytest.raises(Exception, match="ccm"):
        text_of(format_, described(later, runs=format_))
    taken = text.replace("chacha20poly1305-prfsha256-ecp256", 'chacha20poly1305-prfsha256-x25519", "aes128-sha384-ecp384')
    if format_ != "vyos":
        assert "128" in text_of(format_, described(taken, runs=format_))


@pytest.mark.parametrize("format_", ["routeros", "vyos"])
def test_preshared_keys_of_wireguard(format_: str) -> None:
    description = described(SITES.format(kind="wireguard"), runs=format_)
    peers = tuple(replace(peer, psk=True) for peer in description.peers)
    description = replace(description, peers=peers)
    waiting = text_of(format_, description)
    assert next(line for line in waiting.splitlines() if "PUT-THE-SECRET" in line).startswith("# ")
    assert text_of(format_, description, Secrets(KEY, {"paris": PSK})).count(PSK) == 1


@pytest.mark.parametrize("format_", ["routeros", "vyos"])
def test_a_lan_known_by_another_prefix(format_: str) -> None:
    mapped = (Mapped(Prefix.parse("10.30.0.0/24"), Prefix.parse("192.168.1.0/24")),)
    text = text_of(format_, described(SITES.format(kind="wireguard"), runs=format_, mapped=mapped))
    assert "192.168.1.0/24" in text
    if format_ == "routeros":
        rules = [each for each in of(routeros_lines(text), "/ip firewall nat add") if each["action"] == "netmap"]
        assert [(each["chain"], each["to-addresses"]) for each in rules] == [
            ("dstnat", "192.168.1.0/24"), ("srcnat", "10.30.0.0/24")
        ]  # fmt: skip
    else:
        (rule,) = vyos_tree(text)["nat"]["static"]["rule"].values()
        assert rule["destination"] == {"address": {"10.30.0.0/24": {}}}


def test_a_new_neighbour_renumbers_no_tunnel() -> None:
    before = FOUR.format(kind="gre")
    new = '[node.aachen]\nendpoint = "192.0.2.77"\n\n'
    after = before.replace("[node.paris]", new + "[node.paris]")
    network = parsed(before)
    lock = allocate(network, Lock())
    was = router.numbers(compile_network(network, lock, {})["lyon"])
    grown = parsed(after)
    now = router.numbers(compile_network(grown, allocate(grown, lock), {})["lyon"])
    assert now["paris"] == was["paris"]
    assert len(set(now.values())) == len(now) == 2


@given(data=st.data(), kind=st.sampled_from(["gre", "gre+ipsec", "wireguard"]), count=st.integers(2, 6))
def test_everything_is_there_once(data: st.DataObject, kind: str, count: int) -> None:
    """Random meshes: each peer's key, endpoint, addresses and prefixes, on each router that knows the kind."""
    both = data.draw(st.booleans())
    nodes = "".join(
        f'[node.n{index}]\nendpoint = "192.0.2.{index + 1}"\nlans = ["10.{50 + index}.0.0/16"'
        + (f', "fd50:{index}::/64"' if both else "") + "]\n\n"
        for index in range(count)
    )  # fmt: skip
    pools = '"10.10.0.0/24", "fd10:10::/64"' if both else '"10.10.0.0/24"'
    text = f'[network]\nname = "acme"\npool = [{pools}]\nkind = "{kind}"\n\n{nodes}'
    for format_ in ROUTERS:
        if format_ == "cisco-ios" and kind == "wireguard":
            continue
        description = described(text, "n0", format_)
        rendered = text_of(format_, description)
        assert rendered == text_of(format_, description)
        words = Counter(re.split(r"[\s=,]+", rendered.replace('"', " ").replace("'", " ")))
        for peer in description.peers:
            assert peer.public_key is not None
            assert rendered.count(peer.public_key.base64()) == 1
            for prefix in peer.allowed_ips:
                assert words[str(prefix)] == 1 + (prefix.length not in (32, 128))
        if format_ == "vyos":
            tree = vyos_tree(rendered)
            routed = {*tree["protocols"]["static"].get("route", {}), *tree["protocols"]["static"].get("route6", {})}
        elif format_ == "routeros":
            lines = routeros_lines(rendered)
            routed = {each["dst-address"] for menu in ("/ip", "/ipv6") for each in of(lines, f"{menu} route add")}
        else:
            routed = set()
            for line in cisco_sections(rendered):
                if line.startswith("ip route"):
                    address, mask = line.split()[2:4]
                    routed.add(str(Prefix.parse(f"{address}/{int.from_bytes(Prefix.parse(mask).packed).bit_count()}")))
                elif line.startswith("ipv6 route"):
                    routed.add(line.split()[2])
        lans = {str(lan) for index in range(1, count) for lan in parsed(text).nodes[index].lans}
        assert lans <= routed
        assert not any(str(lan) in routed for lan in description.node.lans)


def test_names_in_the_files_are_not_commands() -> None:
    """A description that did not come of a checked file is refused before a line is written."""
    good = described(FOUR.format(kind="gre"), runs="vyos")
    for name in ("x\nset system login", "a b", "a;b", "a$(b)", "a'b"):
        bad = replace(good, node=replace(good.node, name=name))
        for module in (cisco_ios, routeros, vyos):
            with pytest.raises(UsageError, match="cannot stand in a rendered file"):
                module.files(bad)
    for search in ("x y", "x\ny"):
        with pytest.raises(UsageError, match="cannot stand in a rendered file"):
            vyos.files(replace(good, search=(search,)))
