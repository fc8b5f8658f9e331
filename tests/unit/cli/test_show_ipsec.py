"""How the protection of a tunnel is shown."""

from __future__ import annotations

from typing import Any

from ginnel.cli.show_ipsec import ike_lines, ipsec_lines

VIEW: dict[str, Any] = {
    "state": "protected",
    "why": "aes256gcm16, transport mode, with sun for 50 s",
    "auth": "psk",
    "remote_auth": "psk",
    "local_id": "moon",
    "peer_id": "sun",
    "local": "192.0.2.1",
    "remote": "198.51.100.2",
    "remote_port": 4500,
    "encapsulation": "udp",
    "nat": "us",
    "ike": {
        "spi_i": "01" * 8, "spi_r": "02" * 8, "role": "initiator", "proposal": "aes256gcm16-prfsha256-x25519", "age_s": 60.0,
        "rekey_in_s": 40.0,
    },
    "child": {
        "spi_in": "00001234", "spi_out": "abcdef01", "suite": "aes256gcm16-x25519", "mode": "transport", "esn": False,
        "local_ts": "192.0.2.1[gre]", "remote_ts": "198.51.100.2[gre]", "age_s": 50.0, "rekey_in_s": None,
    },
    "associations": [
        {"spi": "abcdef01", "direction": "out", "packets": 3, "bytes": 2048, "sequence": 3, "last_age_s": 1.0, "drops": {}},
        {
            "spi": "00001234", "direction": "in", "packets": 0, "bytes": 0, "sequence": 0, "last_age_s": None,
            "drops": {"replayed": 2, "bad_icv": 0},
        },
    ],
    "rekeyings": 2,
    "ike_rekeyings": 1,
    "heard_age_s": 2.0,
    "refusal": [],
    "refused_by": "",
    "refusal_age_s": None,
    "unsent": "",
    "stack": "gre+esp(aes256gcm16,nat-t)",
    "wire_bytes": 1468,
    "layers": [{"name": "IPv4", "size_bytes": 20}, {"name": "padding to 4", "size_bytes": 0}, {"name": "GRE", "size_bytes": 4}],
    "keys_written": "",
}  # fmt: skip


def lines(**changes: Any) -> list[str]:
    return list(ipsec_lines({"ipsec": {**VIEW, **changes}, "mtu": 1400}, colour=False))


def test_a_tunnel_that_is_protected() -> None:
    assert lines() == [
        "  protection: aes256gcm16, transport mode, with sun for 50 s",
        "    identities: we are moon, the peer sun (proven by psk)",
        "    path: 192.0.2.1 → 198.51.100.2 port 4500, ESP in UDP, we are behind a NAT",
        "    ike: 0101010101010101:0202020202020202 (initiator) · aes256gcm16-prfsha256-x25519 · 1 min 0 s old, rekeyed in 40 s",
        "    esp: in 00001234, out abcdef01 · aes256gcm16-x25519 · transport · no ESN · 50 s old, never rekeyed",
        "    selectors: 192.0.2.1[gre] ↔ 198.51.100.2[gre]",
        "    out abcdef01: 3 packets, 2.00 KiB, last 1 s ago",
        "    in 00001234: 0 packets, 0 B, replayed 2",
        "    rekeyed: esp 2 times, ike 1 times",
        "    mtu: 1400 inside is 1468 on the way: 20 IPv4, 4 GRE",
    ]


def test_a_tunnel_that_is_not() -> None:
    down = {"ike": None, "child": None, "associations": [], "encapsulation": "", "nat": "", "remote_port": 0, "layers": []}
    found = lines(
        **down, why="2 attempts failed", peer_id="", rekeyings=0, ike_rekeyings=0, local=None, unsent="Network is unreachable",
        refusal=["the peer took none of our proposals", "ours: a\x1b[31m"], refused_by="peer", refusal_age_s=3.0,
    )  # fmt: skip
    assert found == [
        "  protection: 2 attempts failed",
        "    identities: we are moon, the peer may be anybody who proves itself by psk",
        "    path: any → 198.51.100.2",
        "    not sent: Network is unreachable",
        "    refused (by the peer, 3 s ago):",
        "      the peer took none of our proposals",
        "      ours: a?[31m",
    ]


def test_the_debug_mode_is_said_first() -> None:
    assert lines(keys_written="/run/keys")[1] == "    DEBUG: its keys are written to /run/keys"


def test_what_was_dropped_for_no_tunnel() -> None:
    quiet = {"half_open": 0, "beyond_share": 0, "received": 9, "drops": {}}
    assert list(ike_lines({"ike": None})) == []
    assert list(ike_lines({"ike": quiet})) == []
    busy = {**quiet, "half_open": 30, "beyond_share": 4, "drops": {"cookie": 985, "unknown_sa": 0}}
    assert list(ike_lines({"ike": busy})) == ["  ike: 30 half open, messages dropped: beyond_share 4, cookie 985"]


def test_nothing_of_an_unprotected_one() -> None:
    assert list(ipsec_lines({"ipsec": None, "mtu": 1400}, colour=False)) == []
