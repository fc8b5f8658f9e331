"""Whatever hosts say, lint answers: no exception, the same findings for the same hosts, and of each all that people need."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ginnel.config.node import IpsecConfig, PlainConfig
from ginnel.network import Host, HostPort
from ginnel.network.findings import ordered, paragraph
from ginnel.network.host import InterfaceAddress, Peer, Secret, Tunnel, WireguardInterface
from ginnel.network.lint import lint
from ginnel.units import Prefix, PublicKey

NAMES = ["a", "b", "c", "d", ""]
KEYS = [None, *(PublicKey(bytes([number]) * 32) for number in range(5))]
PREFIXES = [
    Prefix.parse(text)
    for text in (
        "0.0.0.0/0", "::/0", "0.0.0.0/1", "10.0.0.0/8", "10.0.0.0/24", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32", "10.1.0.0/24",
        "10.1.0.128/25", "fd00::/64", "fd00::1/128", "fe80::1/128", "203.0.113.0/24",
    )
]  # fmt: skip
ENDPOINTS = [
    None,
    HostPort("203.0.113.1", 51820),
    HostPort("10.0.0.2", 51821),
    HostPort("a.example.org", 443),
    HostPort("::1", 1),
]
ADDRESSES = [InterfaceAddress(prefix.packed, length) for prefix in PREFIXES[5:8] for length in (24, 32)]
HOOKS = [("PostUp", "iptables -t nat -A POSTROUTING -o %i -j MASQUERADE"), ("PostUp", "ip route add 203.0.113.1 via 10.9.9.9")]


def some(values: list[object], most: int = 3) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(st.sampled_from(values), max_size=most).map(tuple)


PEERS = st.builds(
    Peer,
    public_key=st.sampled_from(KEYS),
    name=st.sampled_from(NAMES),
    allowed_ips=some(PREFIXES),
    endpoint=st.sampled_from(ENDPOINTS),
    keepalive_s=st.sampled_from([0, 25]),
    psk=st.sampled_from(["", "?", "aa", "bb"]),
)
INTERFACES = st.builds(
    WireguardInterface,
    name=st.sampled_from(["wg0", "wg1"]),
    public_key=st.sampled_from(KEYS),
    address=some(ADDRESSES, 2),
    listen_port=st.sampled_from([0, 51820, 51821]),
    mtu=st.sampled_from([None, 1200, 1280, 1420, 1500, 9000]),
    peers=st.lists(PEERS, max_size=4).map(tuple),
    dns=some(["10.0.0.3", "fd00::53", "example.org", "1.1.1.1"], 2),
    table=st.sampled_from(["auto", "off", "100"]),
    hooks=some(HOOKS, 2),
)
IPSEC = st.builds(
    IpsecConfig,
    mode=st.sampled_from(["transport", "tunnel"]),
    start=st.sampled_from(["start", "wait"]),
    auth=st.sampled_from(["psk", "certificate"]),
    remote_auth=st.sampled_from(["", "psk"]),
    local_id=st.sampled_from(["", "a.x", "%any", "nonsense=", "C=?"]),
    remote_id=st.sampled_from(["", "a.x", "%any"]),
    ike_proposals=some(["aes256gcm16-prfsha384-x25519", "aes128-sha256-modp2048", "rot13"], 2),
    esp_proposals=some(["aes256gcm16-x25519", "null-md5"], 2),
    local_ts=some(["10.0.0.0/24", "dynamic[gre]", "what"], 1),
    remote_ts=some(["10.0.0.0/24", "0.0.0.0/0"], 1),
)
TUNNELS = st.builds(
    Tunnel,
    st.builds(
        PlainConfig,
        name=st.sampled_from(["gre1", "gre2"]),
        kind=st.sampled_from(["gre", "ipip"]),
        family=st.sampled_from([4, 6]),
        local=st.sampled_from(["any", "203.0.113.1", "203.0.113.2"]),
        remote=st.sampled_from(["any", "203.0.113.1", "203.0.113.2", "a.example.org"]),
        ikey=st.sampled_from([None, 7]),
        okey=st.sampled_from([None, 7]),
        iseq=st.booleans(),
        ocsum=st.booleans(),
        ttl=st.sampled_from([0, 64]),
        address=some(["10.0.0.1/30", "10.0.0.2/30", "fd00::1/127"], 2),
        routes=some(["10.1.0.0/24", "203.0.113.0/24", "0.0.0.0/0 table 7", "default"], 2),
        mtu=st.sampled_from([None, 1200, 1476]),
        ipsec=st.none() | IPSEC,
    ),
    peer=st.sampled_from(NAMES),
    psk=st.sampled_from(["", "?", "aa", "bb"]),
)


@st.composite
def fleets(draw: st.DrawFn) -> list[Host]:
    names = draw(st.lists(st.sampled_from(NAMES[:4]), min_size=1, unique=True))
    return [
        Host(
            name,
            tuple(draw(st.lists(INTERFACES, max_size=2, unique_by=lambda each: each.name))),
            tuple(draw(st.lists(TUNNELS, max_size=2, unique_by=lambda each: each.config.name))),
            lans=tuple(draw(some(PREFIXES[3:10], 2))),  # type: ignore[arg-type]
            endpoint=draw(st.sampled_from(ENDPOINTS)),
            behind_nat=draw(st.sampled_from([None, True, False])),
            forwards=draw(st.sampled_from([None, True, False])),
            underlay_mtu=draw(st.sampled_from([None, 1492, 1500])),
            secrets=draw(st.sampled_from([(), (Secret("/etc/wireguard/a b.conf", 0o644),)])),
        )
        for name in names
    ]


@given(fleets())
def test_lint_answers_whatever_hosts_say(hosts: list[Host]) -> None:
    found = lint(hosts)
    assert found == lint(hosts)
    for finding in ordered(found):
        lines = paragraph(finding)
        assert all(line.isprintable() for line in lines)
        assert finding.slug in lines[0]
        assert set(finding.nodes) - {host.name for host in hosts} <= {"", "a", "b", "c", "d"} | {
            node for node in finding.nodes if node.startswith("the peer") or node == "a peer"
        }
