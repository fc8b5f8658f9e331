"""Each format: what is taken in, and that everything else is named, with its place."""

from __future__ import annotations

import pytest

from ginnel.config.node import PlainConfig
from ginnel.network.host import Host, InterfaceAddress
from ginnel.network.importing import Imported, Source, read_hosts
from ginnel.network.model import HostPort
from ginnel.units import Prefix
from unit.network.importing.fleets import filled, fleet, key_of


def read(text: str, path: str = "lyon/wg0.conf") -> Imported:
    return read_hosts([Source(path, filled(text).encode())])


def one(text: str, path: str = "lyon/wg0.conf") -> Host:
    (host,) = read(text, path).hosts
    return host


def named(imported: Imported) -> list[tuple[str, int]]:
    """Codes and lines of the findings."""
    return [
        (finding.code, finding.places[0].span.line if finding.places and finding.places[0].span else 0)
        for finding in imported.findings
    ]


ODD = """\
\ufeff# the server in the attic
[interface]
address=10.0.0.1/24, fd00::1/64
Address = 10.9.0.1
PRIVATEKEY = @private lyon@
ListenPort\t=\t51820 # the port
MTU =
Table = 0x1f
FwMark = 0xca6c
DNS = 1.1.1.1, corp.example
dns = 2606:4700::1111
PostUp = echo a # b
PostUp = curl -H 'Authorization: Bearer abc' https://x
SaveConfig = true
Colour = blue
just words

### Client Phone of Bob (2c9ec0b4-5a29-4f4e-9bb6-0a7bb1a0c8f1)
[Peer]
Public Key = @public phone@
PresharedKey = @psk a b@
AllowedIPs = 10.0.0.2
AllowedIPs = 10.1.0.5/24,fd00::2/128
AllowedIPs = 10.0.0.300/32
Endpoint = Phone.Example.ORG:51820
PersistentKeepalive = off

# [Peer]
# PublicKey = @public gone@
# AllowedIPs = 10.0.0.3/32

[Peer]
# friendly_name = tablet
PublicKey = @public tablet@
# PersistentKeepalive = 25
AllowedIPs = 10.0.0.4/32
Endpoint = [2001:DB8::7]:51821

[Peer]
AllowedIPs = 10.0.0.9/32

[Strange]
X = 1
"""


def test_wg_quick_as_people_write_it() -> None:
    imported = read(ODD.replace("\n", "\r\n"))
    (host,) = imported.hosts
    (wg0,) = host.interfaces
    assert wg0.public_key == key_of("lyon")
    assert list(map(str, wg0.address)) == ["10.0.0.1/24", "fd00::1/64", "10.9.0.1/32"]
    assert (wg0.listen_port, wg0.mtu, wg0.table, wg0.fwmark) == (51820, None, "31", 0xCA6C)
    assert (wg0.dns, wg0.search) == (("1.1.1.1", "2606:4700::1111"), ("corp.example",))
    assert wg0.hooks == (("PostUp", "echo a # b"),)
    phone, tablet = wg0.peers
    assert (phone.name, phone.public_key, phone.keepalive_s) == ("Phone of Bob", key_of("phone"), 0)
    assert phone.allowed_ips == tuple(map(Prefix.parse, ("10.0.0.2/32", "10.1.0.0/24", "fd00::2/128")))
    assert phone.endpoint == HostPort("phone.example.org", 51820)
    assert phone.psk == "psk-1"
    assert (tablet.name, tablet.endpoint) == ("tablet", HostPort("2001:db8::7", 51821))
    assert named(imported) == [
        ("G0805", 13),
        ("G0809", 14),
        ("G0802", 15),
        ("G0802", 16),
        ("G0814", 23),
        ("G0803", 24),
        ("G0804", 28),
        ("G0804", 35),
        ("G0802", 42),
        ("G0802", 43),
        ("G0803", 39),
    ]


@pytest.mark.parametrize(
    ("comment", "name"),
    [
        ("# Name = lyon", "lyon"),
        ("#name: lyon", "lyon"),
        ("# friendly_name = lyon office", "lyon office"),
        ("### Client lyon", "lyon"),
        ("# Client: lyon (2c9ec0b4-5a29-4f4e-9bb6-0a7bb1a0c8f1)", "lyon"),
        ("# BEGIN_PEER lyon", "lyon"),
        ("### begin lyon ###", "lyon"),
        ("# lyon", "lyon"),
        ("# This is a long sentence about a peer", ""),
        ("# PublicKey of somebody = x", ""),
        ("# \x1blyon\x07", "lyon"),
        ("# AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", ""),
    ],
)
def test_names_in_comments(comment: str, name: str) -> None:
    above = one(f"[Interface]\nListenPort = 1\n\n{comment}\n[Peer]\nPublicKey = @public a@\n")
    assert above.interfaces[0].peers[0].name == name
    below = one(f"[Interface]\nListenPort = 1\n\n[Peer]\n{comment}\nPublicKey = @public a@\n")
    assert below.interfaces[0].peers[0].name == name


def test_a_preshared_key_in_a_file_of_its_own() -> None:
    text = "[Interface]\nPostUp = wg set %i peer @public a@ preshared-key /etc/wireguard/a.psk\n[Peer]\nPublicKey = @public a@\n"
    assert one(text).interfaces[0].peers[0].psk == "?"


def test_the_same_preshared_key_has_one_number_everywhere() -> None:
    hosts = read_hosts(fleet("installer")).hosts
    numbers = {(host.name, peer.psk) for host in hosts for peer in host.interfaces[0].peers}
    assert numbers == {("alice", "psk-1"), ("bobs_laptop", "psk-2"), ("installer", "psk-1"), ("installer", "psk-2")}


def test_wg_show_dump_of_one_interface_and_what_it_hides() -> None:
    text = (
        "(none)\t@public lyon@\t0\toff\n"
        "@public a@\t(hidden)\t[2001:db8::1]:7\t10.0.0.2/32,10.1.0.0/24\t0\t0\t0\t25\n"
        "@public b@\t(none)\t(none)\t(none)\t0\t0\t0\toff\n"
        "odd\tline\n"
        "@public c@\t(none)\t(none)\t10.0.0.300/32\t0\t0\t0\toff\n"
    )
    imported = read(text, "lyon-wg7-dump.txt")
    (wg7,) = imported.hosts[0].interfaces
    assert (wg7.name, wg7.public_key, [peer.psk for peer in wg7.peers]) == ("wg7", key_of("lyon"), ["?", ""])
    assert wg7.peers[0].endpoint == HostPort("2001:db8::1", 7)
    assert named(imported) == [("G0802", 4), ("G0803", 5)]


def test_networkd_with_its_drop_ins_and_networkmanager_beside_it() -> None:
    hosts = {host.name: host for host in read_hosts(fleet("mixed")).hosts}
    wg0 = hosts["paris"].interfaces[0]
    assert (wg0.public_key, wg0.mtu, wg0.listen_port) == (key_of("paris"), 1400, 51820)
    assert hosts["paris"].forwards is True
    assert [peer.name for peer in wg0.peers] == ["laptop", ""]
    assert wg0.peers[1].psk == "?"
    laptop = hosts["laptop"].interfaces[0]
    assert (laptop.dns, laptop.search, list(map(str, laptop.address))) == (("10.40.0.1",), ("office.example",), ["10.40.0.2/24"])
    assert hosts["server"].interfaces[0].address == (InterfaceAddress(bytes([10, 40, 0, 3]), 24),)


def test_iproute2s_json() -> None:
    hosts = {host.name: host for host in read_hosts(fleet("gre")).hosts}
    assert hosts["edge"].tunnels[0].config == PlainConfig(
        name="gre1",
        kind="gre",
        family=4,
        local="198.51.100.1",
        remote="198.51.100.2",
        ikey=42,
        okey=42,
        ttl=64,
        address=("10.99.0.1/30",),
        routes=("10.60.0.0/16",),
        mtu=1428,
    )


SWANCTL = """\
connections {
  site {
    version = 2
    local_addrs = 198.51.100.1
    remote_addrs = 198.51.100.2
    proposals = aes256gcm16-prfsha384-x25519
    vips = 0.0.0.0   # asks for an address
    local { auth = psk
      id = edge.example }
    remote {
      auth = psk
      id = "core.example"
    }
    children {
      gre {
        mode = transport
        local_ts = dynamic[gre]
        remote_ts = dynamic[gre]
        esp_proposals = aes256gcm16-x25519
        rekey_time = 1h
      }
      net { local_ts = 10.1.0.0/16
        remote_ts = 10.2.0.0/16, 10.3.0.0/16
        start_action = trap }
    }
  }
}
secrets {
  ike-site { id-1 = edge.example
    id-2 = core.example
    secret = "correct horse" }
  eap-x { id = bob
    secret = hunter2 }
}
"""


def test_swanctl_protects_the_tunnel_that_ip_shows() -> None:
    sources = [*(source for source in fleet("gre") if "/edge/" in source.path), Source("gre/edge/swanctl.conf", SWANCTL.encode())]
    imported = read_hosts(sources)
    (host,) = imported.hosts
    by_name = {tunnel.config.name: tunnel for tunnel in host.tunnels}
    assert set(by_name) == {"gre1", "net"}
    ipsec = by_name["gre1"].config.ipsec
    assert ipsec is not None
    assert (ipsec.mode, ipsec.local_id, ipsec.remote_id, ipsec.rekey_s) == ("transport", "edge.example", "core.example", 3600)
    assert by_name["gre1"].psk == by_name["net"].psk == "psk-1"
    assert by_name["net"].config.ipsec is not None
    assert by_name["net"].config.ipsec.remote_ts == ("10.2.0.0/16", "10.3.0.0/16")
    assert [finding.message for finding in imported.findings] == [
        "site: 'vips' has no counterpart here, and is left out",
        "secrets of kind 'eap' are left out",
    ]


def test_what_is_no_format_is_named_and_nothing_else_suffers() -> None:
    imported = read_hosts([Source("a/notes.txt", b"hello"), Source("a/b.bin", b"\0\1"), *fleet("sites")])
    assert [host.name for host in imported.hosts] == ["berlin", "muenchen"]
    assert [(finding.code, finding.places[0].source) for finding in imported.findings] == [
        ("G0817", "a/notes.txt"),
        ("G0817", "a/b.bin"),
    ]


def test_two_files_of_one_device_that_do_not_agree() -> None:
    quick = Source("lyon/wg0.conf", filled("[Interface]\n[Peer]\nPublicKey = @public a@\n").encode())
    dump = Source(
        "lyon/wg0-dump.txt", filled("(none)\t@public lyon@\t0\toff\n@public b@\t(none)\t(none)\t(none)\t0\t0\t0\toff\n").encode()
    )
    imported = read_hosts([quick, dump])
    assert "G0806" in [finding.code for finding in imported.findings]
    assert [peer.public_key for peer in imported.hosts[0].interfaces[0].peers] == [key_of("a")]


def test_utf_16_as_windows_saves_it() -> None:
    (host,) = read_hosts([Source("lyon/wg0.conf", "[Interface]\r\nListenPort = 7\r\n".encode("utf-16"))]).hosts
    assert host.interfaces[0].listen_port == 7
