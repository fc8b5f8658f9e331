"""`[tunnel.NAME.ipsec]`: what each key becomes, what follows from the rest, and the peers' profiles. Refusals:
nodefile_refusals.txt."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.config import ipsec_profiles, ipsec_values, layers, nodefile
from ginnel.config.ipsec_profiles import PROFILES
from ginnel.config.node import IpsecConfig, NodeConfig, PlainConfig, from_json, to_json
from ginnel.errors import ConfigError, Mistake
from ginnel.ikev2 import algorithms, proposals

PATH = "/etc/ginnel/edge.toml"
V4 = 'local = "203.0.113.10"\nremote = "198.51.100.20"\n'
V6 = 'local = "2001:db8::1"\nremote = "2001:db8::2"\n'
PSK = 'psk-file = "t.psk"\n'
CERTIFICATES = 'certificate-file = "t.crt"\nprivate-key-file = "t.key"\nca-file = "ca.crt"\n'
CRL = 'crl-file = "c"\nrevocation = "strict"\n'


def text(options: str, kind: str = "gre", ends: str = V4, proof: str = PSK, name: str = "t") -> str:
    return f'[tunnel.{name}]\nkind = "{kind}"\n{ends}[tunnel.{name}.ipsec]\n{proof}{options}\n'


def parse(whole: str, path: str = PATH) -> NodeConfig:
    return nodefile.parse(whole, path)


def tunnel(options: str, kind: str = "gre", ends: str = V4, proof: str = PSK) -> PlainConfig:
    (found,) = parse(text(options, kind, ends, proof)).plain
    return found


def one(options: str, kind: str = "gre", ends: str = V4, proof: str = PSK) -> IpsecConfig:
    found = tunnel(options, kind, ends, proof).ipsec
    assert found is not None
    return found


def test_a_secret_is_all_that_has_to_be_given() -> None:
    assert one("") == IpsecConfig(psk_file="/etc/ginnel/t.psk")
    assert tunnel("").kind == "gre"
    assert one("", "ipsec") == IpsecConfig(psk_file="/etc/ginnel/t.psk", mode="tunnel")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ('mode = "tunnel"', {"mode": "tunnel"}),
        ('start = "trap"', {"start": "trap"}),
        ('auth = "psk"', {}),
        ('local-id = "moon.example.org"', {"local_id": "moon.example.org"}),
        ('remote_id = "%any"', {"remote_id": "%any"}),
        ('ike = "aes256gcm16-prfsha256-x25519"', {"ike_proposals": ("aes256gcm16-prfsha256-x25519",)}),
        ('esp = ["aes256gcm16-x25519", "aes256-sha256"]', {"esp_proposals": ("aes256gcm16-x25519", "aes256-sha256")}),
        ('local-ts = "dynamic[gre]"', {"local_ts": ("dynamic[gre]",)}),
        ('remote-ts = "198.51.100.20[47]"', {"remote_ts": ("198.51.100.20[47]",)}),
        ('encapsulation = "udp"', {"encapsulation": "udp"}),
        ('encapsulation = "raw"', {"encapsulation": "raw"}),
        ("ike-port = 1500\nnatt_port = 14500", {"ike_port": 1500, "natt_port": 14500}),
        ('ike-rekey = "1d"\nrekey = 1800', {"ike_rekey_s": 86_400, "rekey_s": 1800}),
        ('rekey = "90 s"', {"rekey_s": 90}),
        ('rekey = "5m"\nike_rekey = "8h"', {"rekey_s": 300, "ike_rekey_s": 28_800}),
        ("rekey = 0\nike-rekey = 0", {"rekey_s": 0, "ike_rekey_s": 0}),
        ('rekey-bytes = "100G"\nrekey-packets = 1000', {"rekey_bytes": 10**11, "rekey_packets": 1000}),
        ('rekey-bytes = "500MB"', {"rekey_bytes": 5 * 10**8}),
        ("dpd = 0", {"dpd_s": 0}),
        ('dpd = "2m"\ndpd-action = "clear"', {"dpd_s": 120, "dpd_action": "clear"}),
        ("retransmit = 0.5\ngive-up = 30", {"retransmit_s": 0.5, "give_up_s": 30.0}),
        ("replay-window = 64", {"replay_window": 64}),
        ('replay-window = 0\nesp = "aes256gcm16"', {"replay_window": 0, "esp_proposals": ("aes256gcm16",)}),
        ("fragmentation = false", {"fragmentation": False}),
        ('childless = "never"', {"childless": "never"}),
        ('mode = "tunnel"\ncopy-dscp = false\ndf = "clear"', {"mode": "tunnel", "copy_dscp": False, "df": "clear"}),
        ('mode = "tunnel"\nlocal-ts = "10.1.0.0/16"', {"mode": "tunnel", "local_ts": ("10.1.0.0/16",)}),
    ],
)
def test_each_key(options: str, expected: dict[str, Any]) -> None:
    assert one(options) == dataclasses.replace(IpsecConfig(psk_file="/etc/ginnel/t.psk"), **expected)


def test_every_key_was_tried() -> None:
    fields = {field.name for field in dataclasses.fields(IpsecConfig)}
    assert {field for field, _ in ipsec_values.READERS.values()} == fields


@pytest.mark.parametrize(
    ("proof", "expected"),
    [
        (
            CERTIFICATES,
            IpsecConfig(
                auth="certificate",
                certificate_files=("/etc/ginnel/t.crt",),
                private_key_file="/etc/ginnel/t.key",
                ca_files=("/etc/ginnel/ca.crt",),
            ),
        ),
        (
            'certificate-file = ["t.crt", "chain/i.crt"]\nprivate-key-file = "/k"\nca-file = ["a", "/b"]\n' + CRL,
            IpsecConfig(
                auth="certificate",
                certificate_files=("/etc/ginnel/t.crt", "/etc/ginnel/chain/i.crt"),
                private_key_file="/k",
                ca_files=("/etc/ginnel/a", "/b"),
                crl_files=("/etc/ginnel/c",),
                revocation="strict",
            ),
        ),
        (
            'private-key-file = "t.key"\npeer-key-file = "sun.pub"\n',
            IpsecConfig(auth="public-key", private_key_file="/etc/ginnel/t.key", peer_key_file="/etc/ginnel/sun.pub"),
        ),
        (
            'auth = "psk"\nremote-auth = "certificate"\npsk-file = "t.psk"\nca-file = "ca.crt"\n',
            IpsecConfig(auth="psk", remote_auth="certificate", psk_file="/etc/ginnel/t.psk", ca_files=("/etc/ginnel/ca.crt",)),
        ),
        (
            'auth = "certificate"\nremote-auth = "psk"\npsk-file = "t.psk"\ncertificate-file = "c"\nprivate-key-file = "k"\n',
            IpsecConfig(
                auth="certificate",
                remote_auth="psk",
                psk_file="/etc/ginnel/t.psk",
                certificate_files=("/etc/ginnel/c",),
                private_key_file="/etc/ginnel/k",
            ),
        ),
    ],
)
def test_the_kind_of_proof_follows_from_the_files(proof: str, expected: IpsecConfig) -> None:
    assert one("", proof=proof) == expected


def test_files_lie_beside_the_node_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (found,) = parse(text(""), "edge.toml").plain
    assert found.ipsec == IpsecConfig(psk_file=f"{tmp_path}/t.psk")


def test_a_peer_that_may_come_from_anywhere_is_waited_for() -> None:
    found = tunnel('remote-id = "branch.example.org"', ends='local = "203.0.113.10"\n')
    assert found.remote == "any"
    assert found.ipsec is not None
    assert found.ipsec.start == "wait"


def test_protected_tunnels_are_told_apart_by_their_identities_and_not_by_keys() -> None:
    ids = 'local-id = "a{0}"\nremote-id = "b{0}"'
    config = parse(text(ids.format(1), name="t1") + text(ids.format(2), name="t2"))
    assert [one.ipsec.local_id for one in config.plain if one.ipsec is not None] == ["a1", "a2"]


def test_every_kind_can_be_protected() -> None:
    for kind, ends in (("gre", V4), ("gre", V6), ("gretap", V4), ("ipip", V4), ("sit", V4), ("ip6tnl", V6), ("ipsec", V6)):
        assert tunnel("", kind, ends).ipsec is not None


def test_what_the_process_gets_is_what_was_read() -> None:
    config = parse(text('peer = "juniper"\nesp = ["aes256gcm16", "aes256-sha256"]', "ipsec", proof=CERTIFICATES))
    assert from_json(to_json(config)) == config


# ---------------------------------------------------------------- profiles


@pytest.mark.parametrize("peer", PROFILES)
def test_a_profile_has_what_can_be_offered_and_nothing_weak(peer: str) -> None:
    profile = PROFILES[peer]
    for texts, protocol in ((profile.ike, "ike"), (profile.esp, "esp")):
        assert texts
        for proposal in proposals.parse_list(texts, protocol):  # type: ignore[arg-type]
            assert all(algorithms.supported(one) and not algorithms.weakness(one) for one in proposal.transforms)


@pytest.mark.parametrize("peer", PROFILES)
@pytest.mark.parametrize(("kind", "ends"), [("gre", V4), ("gre", V6), ("ipsec", V4)])
def test_a_profile_sets_defaults_and_what_is_given_comes_first(peer: str, kind: str, ends: str) -> None:
    found = one(f'peer = "{peer}"', kind, ends)
    assert found.peer == peer
    assert found.ike_proposals == PROFILES[peer].ike
    assert found.mode == ("tunnel" if kind == "ipsec" else PROFILES[peer].mode)
    own = one(f'peer = "{peer}"\nike = "aes128-sha256-modp2048"\nmode = "tunnel"\nlocal-ts = "dynamic"', kind, ends)
    assert (own.ike_proposals, own.mode, own.local_ts) == (("aes128-sha256-modp2048",), "tunnel", ("dynamic",))
    # The sum of an MTU can be made of each.
    assert layers.overhead(tunnel(f'peer = "{peer}"', kind, ends)) > 40


def test_profiles_of_routers_have_one_pair_of_selectors_for_ipsec_alone() -> None:
    assert one('peer = "cisco-ios"', "ipsec").remote_ts == ("0.0.0.0/0",)
    assert one('peer = "strongswan"', "ipsec").remote_ts == ()
    # Juniper's tunnels are by route; GRE goes through them in tunnel mode, under the delivery header's own family.
    assert one('peer = "juniper"').local_ts == ("0.0.0.0/0",)
    assert one('peer = "juniper"', ends=V6).local_ts == ("::/0",)
    assert ipsec_profiles.defaults("", "gre", 4) == {}


# ---------------------------------------------------------------- whatever stands there

_LITERALS = st.sampled_from(
    [
        "1",
        "-1",
        "0",
        "1.5",
        "true",
        '""',
        '"x"',
        '"0.0.0.0/0"',
        '"aes256gcm16"',
        "[]",
        '["x", 1]',
        "{}",
        '"5m"',
        '"%any"',
        "[[1]]",
    ]
)


@given(st.dictionaries(st.sampled_from([*ipsec_values.KEYS, *ipsec_values.MEANT, "x"]), _LITERALS, max_size=8))
def test_any_values_are_read_or_refused_with_their_places(options: dict[str, str]) -> None:
    whole = text("\n".join(f"{key} = {value}" for key, value in options.items()), proof="")
    mistakes: tuple[Mistake, ...] = ()
    try:
        parse(whole)
    except ConfigError as error:
        mistakes = error.mistakes
    assert all(mistake.span is not None for mistake in mistakes)


@pytest.mark.parametrize("key", ["psk", "secret", "pre-shared-key", "key", "password", "psk-file", "passphrase", "shared_secret"])
def test_a_secret_that_stands_in_the_file_is_never_quoted(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text(f'{key} = "hunter2\\n"', proof=""))
    assert "hunter2" not in str(caught.value)
