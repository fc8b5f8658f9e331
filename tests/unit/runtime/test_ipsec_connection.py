"""What a node file says of a protected tunnel, as the IKE machine has it: identities, proposals, selectors, times."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

import pytest

from ginnel.config.node import IpsecConfig, NodeConfig, PlainConfig
from ginnel.crypto.ike import KeyMaterial
from ginnel.errors import ConfigError, UsageError
from ginnel.ikev2 import identities, proposals, selectors
from ginnel.ikev2.connection import Connection
from ginnel.ikev2.psk import PskBelieving, PskProving
from ginnel.runtime import ipsec_connection
from ginnel.units import NS_PER_S

US, PEER = socket.inet_aton("192.0.2.1"), socket.inet_aton("198.51.100.2")
SECRET = KeyMaterial.from_bytes(b"secret")
PROOFS = PskProving(SECRET, "psk"), PskBelieving(SECRET, "psk")
CONFIG = PlainConfig("gre1", "gre", 4, local="192.0.2.1", remote="198.51.100.2", ipsec=IpsecConfig(psk_file="/etc/psk"))


def config(kind: Any = "gre", *, local: str = "192.0.2.1", remote: str = "198.51.100.2", **ipsec: Any) -> PlainConfig:
    return dataclasses.replace(CONFIG, kind=kind, local=local, remote=remote, ipsec=IpsecConfig(psk_file="/etc/psk", **ipsec))


def connect(made: PlainConfig, local: bytes | None = US, remote: bytes | None = PEER) -> Connection:
    return ipsec_connection.connect(made, *PROOFS, local, remote)


def test_the_defaults() -> None:
    made = connect(CONFIG)
    assert (made.name, made.local, made.remote) == ("gre1", US, PEER)
    assert [identities.text(one) for one in (made.local_id, made.remote_id)] == ["192.0.2.1", "198.51.100.2"]
    assert (made.ike_proposals, made.child_proposals) == (proposals.default_ike(), proposals.default_esp())
    assert (made.transport, made.local_ts, made.remote_ts, made.dynamic_protocol) == (True, None, None, 47)
    assert (made.start, made.encapsulation, made.port, made.natt_port) == ("start", "auto", 500, 4500)
    assert (made.ike_rekey_ns, made.rekey_ns) == (14_400 * NS_PER_S, 3_600 * NS_PER_S)
    assert (made.dpd_ns, made.retransmit_ns, made.give_up_ns) == (30 * NS_PER_S, 2 * NS_PER_S, 60 * NS_PER_S)
    assert made.secret_name == "/etc/psk"
    assert made == connect(CONFIG)


@pytest.mark.parametrize(("kind", "protocol"), [("gre", 47), ("gretap", 47), ("ipip", 4), ("sit", 41), ("ip6tnl", 0)])
def test_a_tunnel_of_either_mode_is_its_own_protocol_between_both_ends(kind: str, protocol: int) -> None:
    for mode in ("transport", "tunnel"):
        made = connect(config(kind, mode=mode))
        assert (made.local_ts, made.remote_ts, made.dynamic_protocol) == (None, None, protocol)
        assert made.transport is (mode == "transport")


def test_ipsec_alone_carries_everything_in_tunnel_mode() -> None:
    made = connect(config("ipsec"))
    assert made.transport is False
    assert made.local_ts is not None
    assert selectors.texts(made.local_ts) == "0.0.0.0/0, ::/0"
    assert made.local_ts == made.remote_ts


def test_selectors_as_they_are_written() -> None:
    made = connect(config("ipsec", local_ts=("10.1.0.0/16[tcp/80]",), remote_ts=("10.2.0.0/16", "dynamic[udp]")))
    assert made.local_ts is not None
    assert made.remote_ts is not None
    assert selectors.texts(made.local_ts) == "10.1.0.0/16[tcp/80]"
    assert selectors.texts(made.remote_ts) == "10.2.0.0/16, 198.51.100.2[udp]"
    both = connect(config(local_ts=("dynamic[gre]",), remote_ts=("dynamic[gre]",)))
    assert (both.local_ts, both.remote_ts, both.dynamic_protocol) == (None, None, 47)
    one = connect(config(local_ts=("dynamic[udp]",)))
    assert one.local_ts is not None
    assert one.remote_ts is not None
    assert (selectors.texts(one.local_ts), selectors.texts(one.remote_ts)) == ("192.0.2.1[udp]", "198.51.100.2[gre]")


def test_a_peer_that_may_be_anybody_is_waited_for() -> None:
    made = connect(config(remote="any", remote_id="branch.example.org", local_id="hub"), None, None)
    assert (made.start, made.local, made.remote) == ("wait", None, None)
    assert identities.text(made.remote_id) == "branch.example.org"
    assert (made.local_ts, made.remote_ts) == (None, None)
    assert connect(config(remote="any", remote_id="%any", local_id="hub"), None, None).remote_id is None


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (config(remote="any", local_id="hub"), "gre1: remote_id: expected an identity, since the peer's address is any"),
        (config(remote="any", local="any", remote_id="%any"), "gre1: local_id: expected an identity, since neither"),
        (config(local_id="%any"), "gre1: local_id: expected who we are, found %any"),
        (config(local_id="@#xyz"), "gre1: local_id: '@#xyz': expected hexadecimal digits"),
        (config(ike_proposals=("aes256gcm16",)), "gre1: "),
        (config(esp_proposals=("rot13",)), "gre1: "),
        (config(local_ts=("10.0.0.1/8",)), "gre1: local_ts: '10.0.0.1/8': expected a prefix"),
        (config(remote="any", remote_id="%any", local_id="x", remote_ts=("dynamic[gre]", "10.0.0.0/8")), "gre1: remote_ts: "),
    ],
)
def test_what_cannot_be_is_refused_with_tunnel_and_field(made: PlainConfig, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        ipsec_connection.check(made, *PROOFS)
    assert str(refused.value).startswith(message)


def test_where_the_ends_are_does_not_matter_to_the_check() -> None:
    for local in ("192.0.2.1", "any"):
        for remote in ("198.51.100.2", "vpn.example.org"):
            ipsec_connection.check(config(local=local, remote=remote), *PROOFS)
    ipsec_connection.check(dataclasses.replace(CONFIG, family=6, local="2001:db8::1", remote="any.example.org"), *PROOFS)


def test_algorithms_that_are_no_longer_safe_are_told() -> None:
    assert ipsec_connection.weaknesses(CONFIG) == ()
    found = ipsec_connection.weaknesses(config(ike_proposals=("aes128-sha1-modp1024",), esp_proposals=("aes128-sha1",)))
    assert len(found) == 2
    assert all(isinstance(one, str) for one in found)


def test_everything_is_read_before_anything_is_made(tmp_path: Path) -> None:
    path = tmp_path / "psk"
    path.write_bytes(b"secret")
    path.chmod(0o600)

    def node(*tunnels: PlainConfig) -> NodeConfig:
        return NodeConfig("site", "/etc/ginnel/site.toml", plain=tunnels)

    one = dataclasses.replace(CONFIG, ipsec=IpsecConfig(psk_file=str(path)))
    ipsec_connection.read_all(node(one, dataclasses.replace(one, name="gre2", ipsec=None)))
    other = dataclasses.replace(one, name="gre2", ipsec=IpsecConfig(psk_file=str(path), ike_port=501))
    with pytest.raises(ConfigError, match="gre2: ike_port: expected 500 as gre1 has it, found 501"):
        ipsec_connection.read_all(node(one, other))
    with pytest.raises(ConfigError, match="gre1: /nowhere/psk: the pre-shared secret cannot be read"):
        ipsec_connection.read_all(node(dataclasses.replace(one, ipsec=IpsecConfig(psk_file="/nowhere/psk"))))


def test_all_that_is_wrong_with_the_files_is_told_at_once_and_each_once(tmp_path: Path) -> None:
    open_to_all, empty = tmp_path / "open.psk", tmp_path / "empty.psk"
    open_to_all.write_bytes(b"secret")
    open_to_all.chmod(0o644)
    empty.touch(0o600)
    files = {"gre1": open_to_all, "gre2": empty, "gre3": empty, "gre4": tmp_path, "gre5": tmp_path / "none"}
    tunnels = [dataclasses.replace(CONFIG, name=name, ipsec=IpsecConfig(psk_file=str(path))) for name, path in files.items()]
    with pytest.raises(ConfigError) as found:
        ipsec_connection.read_all(NodeConfig("site", "/etc/ginnel/site.toml", plain=tuple(tunnels)))
    expected = [
        f"gre1: {open_to_all}: others may read the pre-shared secret: expected mode 0600, found 0644",
        f"gre2: {empty}: the pre-shared secret is missing: the file is empty",
        f"gre4: {tmp_path}: expected a regular file with the pre-shared secret, found a directory",
        f"gre5: {tmp_path}/none: the pre-shared secret cannot be read: No such file or directory",
    ]
    assert [one.message for one in found.value.mistakes] == expected
    assert f"chmod 600 {open_to_all}" in found.value.mistakes[0].hint
    assert "head -c 32 /dev/urandom" in found.value.mistakes[3].hint
    assert found.value.source == "/etc/ginnel/site.toml"


@pytest.mark.parametrize(("size_bytes", "doubted"), [(1, True), (15, True), (16, False), (44, False)])
def test_a_short_secret_is_told_and_not_shown(tmp_path: Path, size_bytes: int, doubted: bool) -> None:
    path = tmp_path / "psk"
    path.write_bytes(b"z" * size_bytes)
    path.chmod(0o600)
    tunnel = dataclasses.replace(CONFIG, ipsec=IpsecConfig(psk_file=str(path)))
    credentials = ipsec_connection.read_all(NodeConfig("site", "/etc/ginnel/site.toml", plain=(tunnel,)))
    found = ipsec_connection.doubts(tunnel, credentials, 0)
    assert [f"only {size_bytes} bytes long" in one for one in found] == [True] * doubted
    assert "zz" not in "".join(found)
