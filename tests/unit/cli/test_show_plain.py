"""How plain tunnels are shown, from the views that a process gives."""

from __future__ import annotations

from typing import Any

import pytest

from ginnel.cli import show_plain
from ginnel.cli.text import size_text


def verdict(answer: str, why: str = "because") -> dict[str, str]:
    return {"answer": answer, "why": why}


TUNNEL: dict[str, Any] = {
    "name": "gre1",
    "kind": "gre",
    "backend": "engine",
    "node": "server-a",
    "state": "up",
    "fwmark": 0,
    "mtu": 1476,
    "configured": verdict("yes", "device, ends and options are in place"),
    "alive": verdict("yes", "heard from it 1 s ago"),
    "carrying": verdict("yes", "sent 0 s ago, received 1 s ago"),
    "local": "192.0.2.1",
    "remote": "198.51.100.20",
    "remote_host": "",
    "encapsulation": "",
    "remote_port": 0,
    "ikey": None,
    "okey": None,
    "icsum": False,
    "ocsum": False,
    "iseq": False,
    "oseq": False,
    "ttl": 0,
    "tos": 0,
    "pmtudisc": True,
    "path_mtu": None,
    "keepalive": None,
    "last_receive_age_s": 1.0,
    "last_send_age_s": 0.2,
    "rx_bytes": 1_489_000,
    "tx_bytes": 37_888,
    "rx_packets": 1_000,
    "tx_packets": 400,
    "drops": {"not_ip": 0, "key_mismatch": 3},
    "warnings": [],
    "ipsec": None,
}
NODE = {"name": "server-a", "config": "/etc/ginnel/server-a.toml", "carrier": {"at_socket": 0}, "warnings": [], "ike": None}


def lines(**changes: Any) -> list[str]:
    return list(show_plain.tunnel_lines({**TUNNEL, **changes}, colour=False))


def test_a_node_is_one_line_a_tunnel() -> None:
    second = {
        **TUNNEL,
        "name": "gre2",
        "encapsulation": "udp",
        "remote_host": "b.example.org",
        "path_mtu": 1368,
        "configured": verdict("no", "peer sends key 7, this tunnel expects 8"),
    }
    head, titles, *rows = show_plain.node_lines(NODE, [TUNNEL, second], colour=False)
    assert head == "server-a: node, 2 tunnels · /etc/ginnel/server-a.toml"
    assert titles == "  TUNNEL  KIND        STATE           REMOTE                          MTU        RX        TX  WHY"
    assert [row.partition("  37.0 KiB  ")[2] for row in rows] == [
        "sent 0 s ago, received 1 s ago",
        "peer sends key 7, this tunnel expects 8",
    ]
    assert [row.partition("  37.0 KiB  ")[0] for row in rows] == [
        "  gre1    gre         carrying        198.51.100.20                  1476  1.42 MiB",
        "  gre2    gre in udp  not configured  b.example.org (198.51.100.20)  1368  1.42 MiB",
    ]


def test_what_concerns_the_node_comes_last() -> None:
    node = {**NODE, "config": "", "carrier": {"at_socket": 7}, "warnings": ["a \x1b[31mwarning"]}
    found = list(show_plain.node_lines(node, [TUNNEL], colour=False))
    assert found[0] == "server-a: node, 1 tunnel"
    assert found[-2].startswith("  lost before we could read them: 7 packets")
    assert found[-1] == "  warning: a ?[31mwarning"


def test_one_tunnel_with_everything() -> None:
    assert lines() == [
        "gre1: gre, engine, carrying · mtu 1476 · node server-a",
        "  why: sent 0 s ago, received 1 s ago",
        "  ends: 192.0.2.1 → 198.51.100.20",
        "  options: ttl inherit, tos 0x0",
        "  received: 1000 packets, 1.42 MiB, last 1 s ago",
        "  sent: 400 packets, 37.0 KiB, last 0 s ago",
        "  configured: yes (device, ends and options are in place)",
        "  alive: yes (heard from it 1 s ago)",
        "  carrying: yes (sent 0 s ago, received 1 s ago)",
        "  dropped: key_mismatch 3",
    ]


def test_options_in_the_words_of_ip() -> None:
    found = lines(ikey=7, okey=7, icsum=True, ocsum=False, iseq=True, oseq=True, ttl=64, tos=None, pmtudisc=False, fwmark=0xCA6C)
    assert "  options: key 7, icsum, seq, ttl 64, tos inherit, nopmtudisc, fwmark 0xca6c" in found
    assert "  options: ikey 0, okey 8, ttl inherit, tos 0x0" in lines(ikey=0, okey=8), "0 is a key"
    assert "  options: okey 8, ttl inherit, tos 0x0" in lines(okey=8)


def test_ends_path_and_keepalives() -> None:
    keepalive = {
        "interval_s": 10,
        "retries": 3,
        "state": "alive",
        "sent": 9,
        "returned": 8,
        "answered": 2,
        "last_returned_age_s": 3.0,
    }
    found = lines(
        local=None, remote=None, encapsulation="udp", remote_port=4754, path_mtu=1376, keepalive=keepalive, warnings=["look"]
    )
    assert "  ends: any → any port 4754" in found
    assert "  keepalive: alive, every 10 s, dead after 3; sent 9, came back 8, last 3 s ago; answered 2" in found
    assert any(line.startswith("  path: takes packets of 1376 bytes") for line in found)
    assert found[-1] == "  warning: look"
    silent = {**keepalive, "retries": 0, "state": "silent", "last_returned_age_s": None}
    assert "  keepalive: silent, every 10 s, not judged; sent 9, came back 8; answered 2" in lines(keepalive=silent)


@pytest.mark.parametrize(
    ("changes", "state", "colour"),
    [
        ({}, "carrying", "green"),
        ({"carrying": verdict("unknown")}, "alive", "green"),
        ({"carrying": verdict("unknown"), "alive": verdict("unknown")}, "up", "yellow"),
        ({"carrying": verdict("unknown"), "alive": verdict("no")}, "dead", "red"),
        ({"carrying": verdict("no")}, "not carrying", "red"),
        ({"configured": verdict("no")}, "not configured", "red"),
        ({"state": "down", "configured": verdict("no")}, "down", "red"),
    ],
)
def test_the_best_that_is_proven(changes: dict[str, Any], state: str, colour: str) -> None:
    found = show_plain.judged({**TUNNEL, **changes})
    assert (found[0], found[2]) == (state, colour)


def test_colours_only_where_asked() -> None:
    assert "\x1b[32mcarrying" in next(show_plain.tunnel_lines(TUNNEL, colour=True))
    assert "\x1b" not in "".join(lines())


def test_sizes() -> None:
    assert [size_text(size) for size in (0, 999, 1_500, 37_888, 500_000, 1 << 50)] == [
        "0 B",
        "999 B",
        "1.46 KiB",
        "37.0 KiB",
        "488 KiB",
        "1024 TiB",
    ]
