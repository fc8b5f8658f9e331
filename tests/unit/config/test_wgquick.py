"""wg-quick files: what they mean, every mistake with its place, and no secret in any message."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginnel.config import wgquick
from ginnel.config.wgquick import AllowedIp, HostPort, WgQuickFile, parse, render, strip
from ginnel.crypto import Secret
from ginnel.errors import ConfigError, Span
from ginnel.units import Prefix, PublicKey

KEY = "mEEyFdKeEQWDxqZCT/qu2hr0gHnGKsdz8DgQYIPjJ2M="
OWN = "AfewuNA8fXRTlmmAqtt4/Vf7ac7qT+LrVYrXwlCd/Cg="
A = "UbjMLkDPHcFlIhOlcuwHUc6VyUuBrGgr2NEGaNdAKgo="
B = "8X2Qq9XGX6dJg0Rk2bCM4mZzQpV7cYFqVbWq3mHnL0M="


def mistakes(text: str) -> list[str]:
    """Each mistake as `line:column message | hint`."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.conf")
    return [
        f"{m.span.line}:{m.span.column} {m.message} | {m.hint}" if m.span else f"{m.message} | {m.hint}"
        for m in caught.value.mistakes
    ]


def one_mistake(text: str) -> str:
    found = mistakes(text)
    assert len(found) == 1, found
    return found[0]


def interface(line: str) -> wgquick.InterfaceConfig:
    return parse(f"[Interface]\n{line}\n").interface


def peer(lines: str) -> wgquick.PeerConfig:
    return parse(f"[Interface]\n[Peer]\nPublicKey = {A}\n{lines}\n").peers[0]


def test_a_whole_file() -> None:
    file = parse(f"""
# Name = paris
[Interface]
PrivateKey = {KEY}
Address = 10.0.0.1/24, fd00::1/64
Address = 10.1.0.1
DNS = 10.0.0.53, example.org fd00::53
MTU = 1380
Table = 1234
ListenPort = 51820
FwMark = 0x10
PreUp = one; two
PostUp = iptables -A FORWARD -i %i -j ACCEPT # keep this
PreDown = three
PostDown = four
SaveConfig = true

[Peer]
# Name = lyon
PublicKey = {A}
PresharedKey = {B}
AllowedIPs = 10.0.0.2/32, 10.5.0.0/16
AllowedIPs = fd00::2/128
Endpoint = vpn.example.org:51820
PersistentKeepalive = 25
""")
    assert file.interface == wgquick.InterfaceConfig(
        private_key=Secret.from_base64(KEY),
        listen_port="51820",
        fwmark=16,
        addresses=("10.0.0.1/24", "fd00::1/64", "10.1.0.1/32"),
        dns=("10.0.0.53", "fd00::53"),
        dns_search=("example.org",),
        mtu=1380,
        table="1234",
        save_config=True,
        hooks=wgquick.Hooks(("one; two",), ("iptables -A FORWARD -i %i -j ACCEPT # keep this",), ("three",), ("four",)),
    )
    (lyon,) = file.peers
    assert lyon.name == "lyon"
    assert lyon.public_key == PublicKey.from_base64(A)
    assert lyon.preshared_key == Secret.from_base64(B)
    assert lyon.prefixes == (Prefix.parse("10.0.0.2"), Prefix.parse("10.5.0.0/16"), Prefix.parse("fd00::2"))
    assert lyon.endpoint == HostPort("vpn.example.org", "51820")
    assert lyon.persistent_keepalive == 25
    assert file.warnings == ()
    assert file.names == {PublicKey.from_base64(A): "lyon"}


def test_a_file_without_anything_but_the_section_is_a_file() -> None:
    file = parse("[Interface]")
    assert file.interface == wgquick.InterfaceConfig()
    assert file.peers == ()


def test_crlf_missing_last_newline_and_other_encodings() -> None:
    text = f"[Interface]\r\nAddress = 10.0.0.1/24\r\n# na\udce9ve\r\n[Peer]\r\nPublicKey = {A}\r\nAllowedIPs = 10.0.0.2/32"
    file = parse(text)
    assert file.interface.addresses == ("10.0.0.1/24",)
    assert file.peers[0].prefixes == (Prefix.parse("10.0.0.2"),)


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("address=10.0.0.1/8", "addresses", ("10.0.0.1/8",)),
        ("ADDRESS = 10.0.0.1,10.0.0.2 10.0.0.3\t10.0.0.4", "addresses", tuple(f"10.0.0.{n}/32" for n in (1, 2, 3, 4))),
        ("Address = ", "addresses", ()),
        ("DNS = 1.1.1.1 corp.example", "dns_search", ("corp.example",)),
        ("MTU = ", "mtu", None),
        ("MTU = 1280", "mtu", 1280),
        ("Table = OFF", "table", "off"),
        ("Table = Auto", "table", "auto"),
        ("Table = 0x10", "table", "16"),
        ("Table = main", "table", "main"),
        ("Table =", "table", "auto"),
        ("SaveConfig = TRUE", "save_config", True),
        ("SaveConfig = false", "save_config", False),
        ("Listen Port = 5 1 820", "listen_port", "51820"),
        ("ListenPort = 0", "listen_port", "0"),
        ("ListenPort = domain", "listen_port", "domain"),
        ("FwMark = off", "fwmark", 0),
        ("FwMark = 4294967295", "fwmark", 2**32 - 1),
        ("FwMark = 0xfF", "fwmark", 255),
        ("FwMark = 010", "fwmark", 10),
        ("PostUp =", "hooks", wgquick.Hooks()),
        ("PostUp = a=b; c # d", "hooks", wgquick.Hooks(post_up=("a=b; c # d",))),
    ],
)
def test_interface_values(line: str, field: str, value: object) -> None:
    assert getattr(interface(line), field) == value


def test_the_last_of_two_values_wins_and_lists_add_up() -> None:
    both = interface("MTU = 1400\nMTU = 1300\nPostUp = a\nPostUp = b\n[Peer]\nPublicKey=" + A + "\n[Interface]\nAddress=10.0.0.1")
    assert both.mtu == 1300
    assert both.hooks.post_up == ("a", "b")
    assert both.addresses == ("10.0.0.1/32",)


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("allowed ips = 10.0.0.0 / 8 , ::/0", "prefixes", (Prefix.parse("10.0.0.0/8"), Prefix.parse("::/0"))),
        ("AllowedIPs = 10.0.0.1", "prefixes", (Prefix.parse("10.0.0.1/32"),)),
        ("AllowedIPs = +10.0.0.0/8,-10.0.0.0/8,+11.0.0.0/8", "prefixes", (Prefix.parse("11.0.0.0/8"),)),
        ("AllowedIPs = -1.0.0.0/8", "allowed_ips", (AllowedIp(Prefix.parse("1.0.0.0/8"), "-"),)),
        ("Endpoint = 192.0.2.1:1", "endpoint", HostPort("192.0.2.1", "1")),
        ("Endpoint = [2001:db8::1]:065", "endpoint", HostPort("2001:db8::1", "65")),
        ("Endpoint = [fe80::1%eth0]:65", "endpoint", HostPort("fe80::1%eth0", "65")),
        ("Endpoint = 2001:db8::1:51820", "endpoint", HostPort("2001:db8::1", "51820")),
        ("Endpoint = a-b.example : domain", "endpoint", HostPort("a-b.example", "domain")),
        ("PersistentKeepalive = off", "persistent_keepalive", 0),
        ("persistent keep alive = 65535", "persistent_keepalive", 65535),
    ],
)
def test_peer_values(line: str, field: str, value: object) -> None:
    assert getattr(peer(line), field) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Interface]\nMTU = abc", "2:7 MTU: expected a number from 68 to 65535, found 'abc' | "),
        ("[Interface]\nMTU = 67", "2:7 MTU: expected a number from 68 to 65535, found '67' | "),
        ("[Interface]\n Address = 10.0.0.1/33", "2:12 Address: expected a prefix length from 0 to 32, found '33' | "),
        (
            "[Interface]\nAddress = 10.0.0.1/24, 10.0.0/8",
            "2:24 Address: expected an address such as 10.0.0.1/24, found '10.0.0/8' | ",
        ),
        ("[Interface]\nDNS = 1.2.3", "2:7 DNS: expected an address such as 10.0.0.53, found '1.2.3' | "),
        ("[Interface]\nTable = a b", "2:9 Table: expected auto, off, or a routing table's number or name, found 'a b' | "),
        ("[Interface]\nTable = 0", "2:9 Table: expected a number from 1 to 4294967295, found '0' | "),
        ("[Interface]\nSaveConfig = yes", "2:14 SaveConfig: expected true or false, found 'yes' | "),
        ("[Interface]\nListenPort = 65536", "2:14 ListenPort: expected a number from 0 to 65535, found '65536' | "),
        ("[Interface]\nListenPort = -1", "2:14 ListenPort: expected a port from 0 to 65535, found '-1' | "),
        ("[Interface]\nFwMark = 0x", "2:10 FwMark: expected off or a number from 0 to 4294967295, found '0x' | "),
        ("[Interface]\nFwMark =", "2:9 FwMark: expected a value, found nothing | "),
        (f"[Interface]\n[Peer]\nPublicKey={A}\nAllowedIPs = ", "4:14 AllowedIPs: expected a value, found nothing | "),
        ("[Interface]\nfoo", "2:1 expected key = value, found 'foo' | "),
        ("[Interface]\nAdress = 1", "2:1 expected a key of [Interface], found 'Adress' | did you mean Address?"),
        (
            "[Interface]\nAllowedIPs = ::/0",
            "2:1 expected a key of [Interface], found 'AllowedIPs' | AllowedIPs belongs into [Peer]",
        ),
        (
            f"[Interface]\n[Peer]\nPublicKey={A}\nMTU=1",
            "4:1 expected a key of [Peer], found 'MTU' | MTU belongs into [Interface]",
        ),
        (
            "[Interfac]\nMTU = abc\n[Interface]",
            "1:1 expected [Interface] or [Peer], found '[Interfac]' | did you mean [Interface]?",
        ),
        ("MTU = 1400\n[Interface]", "1:1 expected [Interface] or [Peer] before the first key, found 'MTU' | "),
        ("", "expected an [Interface] section, found none | "),
        ("a\0b", "expected a text file, found a NUL byte | is this a wg-quick file?"),
        (
            "[Interface]\n\n[Peer]\nAllowedIPs = ::/0",
            "3:1 the peer at line 3: expected a PublicKey, found none | every [Peer] needs the public key of the other side",
        ),
        (
            f"[Interface]\n[Peer]\n# Name = x\nPublicKey = {A}\nEndpoint = host",
            "5:12 peer x: Endpoint: expected host:port, found 'host' | the other side's ListenPort belongs after a colon",
        ),
        (
            f"[Interface]\n[Peer]\nPublicKey = {A}\nEndpoint = h:0",
            "4:12 Endpoint: expected a port from 1 to 65535, found '0' | ",
        ),
        (
            f"[Interface]\n[Peer]\nPublicKey = {A}\nEndpoint = [1.2.3.4]:5",
            "4:12 Endpoint: expected an IPv6 address in the brackets, found '1.2.3.4' | ",
        ),
        (
            f"[Interface]\n[Peer]\nPublicKey = {A}\nPersistentKeepalive = 65536",
            "4:23 PersistentKeepalive: expected off or a number from 0 to 65535 seconds, found '65536' | ",
        ),
        (
            f"[Interface]\n[Peer]\nPublicKey = {A}\nAllowedIPs = ::/0,",
            "4:19 AllowedIPs: expected a prefix such as 10.0.0.0/8, found '' | ",
        ),
    ],
)
def test_a_mistake_names_its_place_what_was_expected_and_found(text: str, expected: str) -> None:
    assert one_mistake(text) == expected


def test_every_mistake_is_told_at_once_in_the_order_of_the_file() -> None:
    text = f"[Interface]\nMTU = x\nTable = -\n[Peer]\nPublicKey = {A}\nAllowedIPs = 1, 10.0.0.0/8, 2/3\nEndpoint = :\n[Pear]\n"
    assert [found.split(" ")[0] for found in mistakes(text)] == ["2:7", "3:9", "6:14", "6:29", "7:12", "8:1"]


def test_the_text_shows_the_line_with_a_caret_under_what_is_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("[Interface]\n\tAddress = 10.0.0.1/24,\t10.0.0.1/99\n", "wg0.conf")
    assert str(caught.value).splitlines() == [
        "wg0.conf:2:25: Address: expected a prefix length from 0 to 32, found '99'",
        "     Address = 10.0.0.1/24, 10.0.0.1/99",
        "                            ^^^^^^^^^^^",
    ]


def test_mistakes_are_bounded() -> None:
    found = mistakes("[Interface]\n" + "x = 1\n" * 10_000)
    assert len(found) == wgquick.MISTAKES_MAX + 1
    assert found[-1].startswith("stopped after 100")


def test_two_peers_with_one_prefix_are_refused_and_both_named() -> None:
    text = (
        f"[Interface]\n[Peer]\n# Name = lyon\nPublicKey={A}\nAllowedIPs=10.0.0.5/8\n[Peer]\nPublicKey={B}\nAllowedIPs=10.0.0.0/8"
    )
    assert one_mistake(text) == (
        "8:12 10.0.0.0/8 is given to two peers: lyon (UbjMLkDP…) and peer 8X2Qq9XG… (line 6)"
        " | a prefix leads to one peer; make one of them more specific, or take it from one"
    )


def test_one_peer_may_name_a_prefix_twice_and_nested_prefixes_may_differ() -> None:
    text = f"[Interface]\n[Peer]\nPublicKey={A}\nAllowedIPs=10.0.0.0/8,10.0.0.0/8\n[Peer]\nPublicKey={B}\nAllowedIPs=10.0.0.0/9"
    assert [len(each.prefixes) for each in parse(text).peers] == [1, 1]


def test_a_prefix_taken_away_may_be_given_to_another() -> None:
    text = f"[Interface]\n[Peer]\nPublicKey={A}\nAllowedIPs=+10.0.0.0/8,-10.0.0.0/8\n[Peer]\nPublicKey={B}\nAllowedIPs=10.0.0.0/8"
    assert len(parse(text).peers) == 2


def test_one_peer_twice_is_refused() -> None:
    found = one_mistake(f"[Interface]\n[Peer]\nPublicKey={A}\n[Peer]\nPublicKey={A}\n")
    assert found.startswith("4:1 peer UbjMLkDP… (line 4): this peer was given before, at line 2 | join the two sections")


def test_the_interface_itself_among_its_peers_is_left_out_and_said() -> None:
    file = parse(f"[Interface]\nPrivateKey={KEY}\n[Peer]\nPublicKey={OWN}\nAllowedIPs=10.0.0.1\n[Peer]\nPublicKey={A}\n")
    assert [each.public_key.base64() for each in file.peers] == [A]
    assert "is this interface itself" in file.warnings[0]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("AllowedIPs = 10.1.2.3/8", "10.1.2.3/8 has bits beyond its length; 10.0.0.0/8 is meant"),
        ("Endpoint = 2001:db8::1:51820", "is read as [2001:db8::1]:51820"),
    ],
)
def test_what_works_but_is_odd_is_warned_of(text: str, warning: str) -> None:
    file = parse(f"[Interface]\n[Peer]\nPublicKey={A}\n{text}", "f.conf")
    assert len(file.warnings) == 1
    assert file.warnings[0].startswith("f.conf:4: ")
    assert warning in file.warnings[0]


def test_a_small_mtu_with_ipv6_is_warned_of() -> None:
    assert "the kernel takes IPv6 off" in parse("[Interface]\nAddress=fd00::1\nMTU=1279").warnings[0]
    assert parse("[Interface]\nAddress=fd00::1\nMTU=1280").warnings == ()


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[Peer]\n# Name = a\nPublicKey={A}\n[Peer]\n# Name = b\nPublicKey={B}", ["a", "b"]),
        ("# Name = a\n[Peer]\nPublicKey={A}\n# Name = b\n[Peer]\nPublicKey={B}", ["a", "b"]),
        ("# friendly_name=a\n[Peer]\nPublicKey={A}\n\n# friendly_name = b\n[Peer]\nPublicKey={B}", ["a", "b"]),
        ("[Peer]\nPublicKey={A}\n# name: a\n\n[Peer]\nPublicKey={B}\n#NAME=b", ["a", "b"]),
        ("[Peer]\nPublicKey={A} # Name = a\n[Peer]\nPublicKey={B}", ["a", ""]),
        ("# Name = a\n# Name is not this one\n[Peer]\nPublicKey={A}\n[Peer]\nPublicKey={B}", ["a", ""]),
        ("[Peer]\n# Name = a\n# Name = second\nPublicKey={A}\n[Peer]\nPublicKey={B}", ["second", ""]),
        ("[Peer]\n# rename = x\nPublicKey={A}\n[Peer]\nPublicKey={B}", ["", ""]),
    ],
)
def test_comments_name_peers(text: str, names: list[str]) -> None:
    file = parse("[Interface]\n\n" + text.replace("{A}", A).replace("{B}", B))
    assert [each.name for each in file.peers] == names


def test_a_name_cannot_command_a_terminal_and_has_an_end() -> None:
    assert peer("# Name = a\x1b[31mb\x07c").name == "a[31mbc"
    assert len(peer("# Name = " + "x" * 1000).name) == wgquick.NAME_MAX_CHARACTERS


def test_the_interface_has_a_name_too() -> None:
    assert parse("[Interface]\n# Name = paris\nMTU = 1400").interface.name == "paris"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("wg0.conf", "wg0"),
        ("/etc/wireguard/a-b_c.=+.conf", "a-b_c.=+"),
        ("wg0", None),
        ("0123456789abcdef.conf", None),
        ("a b.conf", None),
        (".conf", None),
        ("/x/..conf", None),
        ("é.conf", None),
    ],
)
def test_the_files_name_is_the_interfaces(path: str, name: str | None) -> None:
    assert wgquick.interface_name(path) == name


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "line",
    [
        "PrivateKey = {}x",
        "PrivatKey = {}",
        "PresharedKey = {}",
        "Address = {}",
        "Address = 10.0.0.1/{}",
        "DNS = {}=",
        "MTU = {}",
        "Table = {}",
        "ListenPort = {}",
        "FwMark = {}",
        "SaveConfig = {}",
        "{} = PrivateKey",
        "{}",
        "[{}]",
        "Postup{} = x",
        "[Peer]\nPublicKey = {}x",
        "[Peer]\nPublicKey = {}\nPresharedKey = {}A",
        "[Peer]\nAllowedIPs = {}",
        "[Peer]\nAllowedIPs = 10.0.0.0/{}",
        "[Peer]\nEndpoint = {}",
        "[Peer]\nEndpoint = [{}]:1",
        "[Peer]\nEndpoint = {}:1/1",
        "[Peer]\nEndpoint = a:{}",
        "[Peer]\nPersistentKeepalive = {}",
        "[Peer]\nPriv = {}",
    ],
)
def test_no_message_shows_a_key_wherever_it_was_pasted(line: str) -> None:
    secret = Secret.random().reveal_base64()
    with pytest.raises(ConfigError) as caught:
        parse("[Interface]\n" + line.replace("{}", secret), "f.conf")
    for length in range(8, len(secret)):
        assert secret[:length] not in str(caught.value)
        assert secret[-length:] not in str(caught.value)


def test_the_value_of_an_unknown_key_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("[Interface]\nPostUpp = login --password hunter2\n")
    assert "hunter2" not in str(caught.value)


def test_the_value_has_no_secret_in_its_repr() -> None:
    file = parse(f"[Interface]\nPrivateKey={KEY}\n[Peer]\nPublicKey={A}\nPresharedKey={B}\n")
    assert KEY[:12] not in repr(file)
    assert B[:12] not in repr(file)


# ---------------------------------------------------------------- round trips and robustness

keys = st.binary(min_size=32, max_size=32)
prefixes = st.one_of(
    st.builds(lambda raw, bits: f"{'.'.join(map(str, raw))}/{bits}", st.binary(min_size=4, max_size=4), st.integers(0, 32)),
    st.builds(lambda raw, bits: f"{raw.hex(':', 2)}/{bits}", st.binary(min_size=16, max_size=16), st.integers(0, 128)),
)
words = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=1, max_size=20)
hook_lines = st.lists(words.filter(lambda word: word.strip() == word), max_size=2).map(tuple)


@st.composite
def files(draw: st.DrawFn) -> WgQuickFile:
    """Any file that is valid."""
    used: set[Prefix] = set()
    peers = []
    for raw in draw(st.lists(keys, max_size=4, unique=True)):
        entries = []
        for text in draw(st.lists(prefixes, max_size=4)):
            prefix = Prefix.parse(text)
            if prefix not in used:
                used.add(prefix)
                entries.append(AllowedIp(prefix, draw(st.sampled_from(["", "+"]))))
        peers.append(
            wgquick.PeerConfig(
                public_key=PublicKey(raw),
                name=draw(st.one_of(st.just(""), st.from_regex(r"[A-Za-z][A-Za-z0-9 ]{0,20}[a-z]", fullmatch=True))),
                preshared_key=draw(st.none() | keys.map(Secret.from_bytes)),
                endpoint=draw(st.none() | st.sampled_from([HostPort("a.example", "1"), HostPort("::1", "65535")])),
                allowed_ips=tuple(entries),
                persistent_keepalive=draw(st.none() | st.integers(0, 65535)),
            )
        )
    interface = wgquick.InterfaceConfig(
        private_key=draw(st.none() | keys.map(Secret.from_bytes)),
        listen_port=draw(st.none() | st.integers(0, 65535).map(str)),
        fwmark=draw(st.none() | st.integers(0, 2**32 - 1)),
        addresses=tuple(draw(st.lists(st.sampled_from(["10.0.0.1/24", "fd00::1/64"]), max_size=2))),
        dns=tuple(draw(st.lists(st.sampled_from(["1.1.1.1", "fd00::53"]), max_size=2))),
        dns_search=tuple(draw(st.lists(st.sampled_from(["corp", "a.example"]), max_size=2))),
        mtu=draw(st.none() | st.integers(68, 65535)),
        table=draw(st.sampled_from(["auto", "off", "1234", "main"])),
        save_config=draw(st.booleans()),
        hooks=wgquick.Hooks(draw(hook_lines), draw(hook_lines), draw(hook_lines), draw(hook_lines)),
        name=draw(st.sampled_from(["", "paris"])),
    )
    return WgQuickFile("<text>", interface, tuple(peers))


@given(files())
@settings(deadline=None)
def test_what_is_rendered_is_read_back(file: WgQuickFile) -> None:
    assert parse(render(file)) == file


@given(st.text(max_size=400))
@settings(deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse(text)
    strip(text)


def spans(text: str) -> list[Span]:
    """The places of all mistakes; none in a good file."""
    try:
        parse(text)
    except ConfigError as error:
        return [mistake.span for mistake in error.mistakes if mistake.span is not None]
    return []


LINES = [
    "[Interface]", "[Peer]", " [ peer ]", "# Name = x", "", f"PrivateKey={KEY}", f"PublicKey = {A}", f"PublicKey={B}", "MTU=1",
    "AllowedIPs=1.2.3.4/5", "AllowedIPs = ,", "Endpoint=a:1", "Endpoint = [::]:", "PostUp = #", "Address=::/0", "=", "==", "[",
    "#",
]  # fmt: skip


@given(st.lists(st.sampled_from(LINES), max_size=30))
@settings(deadline=None)
def test_any_mixture_of_lines_is_read_or_refused_with_places_inside_the_file(lines: list[str]) -> None:
    text = "\n".join(lines)
    for span in spans(text):
        line = text.split("\n")[span.line - 1]
        assert 1 <= span.column <= len(line) + 1


def test_ten_thousand_peers_are_read_in_under_a_second() -> None:
    import os
    import time

    sections = (
        f"[Peer]\nPublicKey={PublicKey(os.urandom(32)).base64()}\nAllowedIPs=10.{n >> 8}.{n & 255}.0/24\nEndpoint=192.0.2.1:5\n"
        for n in range(10_000)
    )
    text = "[Interface]\n" + "".join(sections)
    begin = time.process_time()
    assert len(parse(text).peers) == 10_000
    assert time.process_time() - begin < 1.0


def test_strip_leaves_what_wg_reads() -> None:
    text = (
        f"# top\n [Interface]\nAddress = 10.0.0.1\n  PrivateKey = {KEY}  \nDNS=1.1.1.1\n[Peer]\nAddress = kept\nPublicKey = {A}"
    )
    assert strip(text) == f"# top\n[Interface]\nPrivateKey = {KEY}\n[Peer]\nAddress = kept\nPublicKey = {A}\n\n"


def test_the_keys_in_these_tests_are_a_pair() -> None:
    from ginnel.crypto import public_key

    assert public_key(Secret.from_base64(KEY)).base64() == OWN
    assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", KEY)
