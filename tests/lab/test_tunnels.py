"""What processes and kernels say of GRE links, held against the plan: each difference in words, and what silence is called."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ginnel.lab.tunnels import LiveHost, LiveTunnel, Said, alive, configured, fault_words, parse_show
from ginnel.network.model import Faults
from ginnel.units import Prefix
from unit.network.networks import compiled
from unit.network.test_gre import TWO

NODES = compiled(TWO)
BETWEEN, NAMES = ("paris", "lyon"), ("gre-lyon", "gre-paris")


def tunnel(name: str, **changed: object) -> LiveTunnel:
    local, remote = ("203.0.113.10", "198.51.100.20") if name == "gre-lyon" else ("198.51.100.20", "203.0.113.10")
    options: dict[str, object] = {"ikey": None, "okey": None, "ttl": 64, "tos": 0, "pmtudisc": True}
    options |= dict.fromkeys(("icsum", "ocsum", "iseq", "oseq"), False)
    found = LiveTunnel(name, local, remote, "", options, Said("yes", "a keepalive came back 1 s ago"), Said("yes", ""))
    known = {key: value for key, value in changed.items() if key in LiveTunnel.__slots__}
    return replace(found, options=options | {key: value for key, value in changed.items() if key not in known}, **known)  # type: ignore[arg-type]


HOSTS = {
    "paris": LiveHost(
        {"gre-lyon": frozenset({"10.10.0.1/30", "fd10:10::2/127"})},
        {"gre-lyon": frozenset(map(Prefix.parse, ("10.30.0.0/24", "fd10:30::/64")))},
        {"gre-lyon": 1476},
    ),
    "lyon": LiveHost(
        {"gre-paris": frozenset({"10.10.0.2/30", "fd10:10::3/127"})},
        {"gre-paris": frozenset({Prefix.parse("10.20.0.0/24")})},
        {"gre-paris": 1476},
    ),
}


def judged(paris: LiveTunnel | None, host: LiveHost = HOSTS["paris"]) -> str:
    live = {"paris": {"gre-lyon": paris} if paris else {}, "lyon": {"gre-paris": tunnel("gre-paris")}}
    found = configured(BETWEEN, NODES, live, HOSTS | {"paris": host}, lambda name: name)
    return ("yes: " if found.ok else "NO: ") + found.evidence


def test_as_planned() -> None:
    assert judged(tunnel("gre-lyon")) == "yes: as planned: GRE over IPv4, 3 routes"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"local": "203.0.113.11"}, "gre-lyon sends from 203.0.113.11, planned 203.0.113.10"),
        ({"remote": None}, "gre-lyon leads to None, planned 198.51.100.20"),
        ({"encapsulation": "udp"}, "gre-lyon is encapsulated in udp"),
        ({"okey": 7}, "gre-lyon has okey 7, planned None"),
        ({"icsum": True}, "gre-lyon has icsum True, planned False"),
        ({"ttl": 255}, "gre-lyon has ttl 255, planned 64"),
    ],
)
def test_each_difference_of_the_tunnel_is_said(changed: dict[str, Any], says: str) -> None:
    assert judged(tunnel("gre-lyon", **changed)) == f"NO: paris: {says}"


def test_each_difference_of_the_host_is_said() -> None:
    good, live = HOSTS["paris"], tunnel("gre-lyon")
    assert "gre-lyon has MTU 1400, planned 1476" in judged(live, replace(good, mtu={"gre-lyon": 1400}))
    assert "gre-lyon has nothing, planned 10.10.0.1/30, fd10:10::2/127" in judged(live, replace(good, addresses={}))
    assert "routes through gre-lyon differ by 10.30.0.0/24, fd10:30::/64" in judged(live, replace(good, routes={}))
    assert judged(None) == "NO: paris runs no tunnel gre-lyon"


def test_alive_is_the_word_of_both_ends() -> None:
    def found(paris: LiveTunnel) -> tuple[bool, str]:
        verdict = alive(BETWEEN, NAMES, {"paris": {"gre-lyon": paris}, "lyon": {"gre-paris": tunnel("gre-paris")}})
        return verdict.ok, verdict.evidence

    assert found(tunnel("gre-lyon")) == (True, "a keepalive came back 1 s ago")
    dead = Said("no", "3 keepalives in a row did not come back")
    said = "protocol 47 seems filtered on the way: 198.51.100.20 answers ping but nothing came back for 31 s"
    silent = tunnel("gre-lyon", alive=dead, carrying=dead)
    assert found(silent) == (False, f"paris says: {dead.why}")
    assert not silent.explains
    assert tunnel("gre-lyon", alive=Said("no", said), carrying=Said("no", said)).explains
    explained = tunnel("gre-lyon", alive=dead, carrying=Said("no", said))
    assert found(explained) == (False, f"paris says: {dead.why}; {said}")
    assert explained.explains
    both = {"paris": {"gre-lyon": silent}, "lyon": {"gre-paris": replace(explained, name="gre-paris")}}
    assert alive(BETWEEN, NAMES, both).evidence == f"lyon says: {dead.why}; {said}", "the end that knows why has the word"
    unknown = tunnel("gre-lyon", alive=Said("unknown", "no keepalive came back yet"))
    assert found(unknown) == (False, "paris says: no keepalive came back yet")


def test_what_a_process_answers_is_read() -> None:
    view = {
        "name": "gre-lyon",
        "local": "203.0.113.10",
        "remote": None,
        "encapsulation": "udp",
        **dict.fromkeys(("ikey", "okey"), 7),
        **dict.fromkeys(("icsum", "ocsum", "iseq", "oseq"), False),
        "ttl": 64,
        "tos": None,
        "pmtudisc": True,
        "alive": {"answer": "unknown", "why": "no remote"},
        "carrying": {"answer": "no", "why": "refused"},
        "path_mtu": 1376,
        "warnings": ["peer sends key 7, this tunnel expects 8"],
    }
    found = parse_show(json.dumps({"schema": "ginnel.show/1", "node": {}, "tunnels": [view]}))["gre-lyon"]
    assert (found.remote, found.encapsulation, found.options["ikey"]) == (None, "udp", 7)
    assert found.path_mtu == 1376
    assert found.sentences() == ["refused", "peer sends key 7, this tunnel expects 8"]
    assert parse_show('{"schema": "ginnel.control/1", "ok": false, "error": "no"}') == {}
    assert parse_show("") == {}


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (Faults(loss=0.1), ""),
        (Faults(blocked_protocols=(47,)), "blocks gre"),
        (Faults(blocked_protocols=(1, 58, 99), blocked_udp_ports=(4754,)), "blocks icmp, 99, blocks UDP 4754"),
        (Faults(blocked_too_big=True), "blocks icmp-too-big"),
        (Faults(mtu=1400), "carries no more than 1400 bytes"),
        (Faults(mtu=1400, blocked_protocols=(1, 58)), "blocks icmp, carries no more than 1400 bytes and nobody says so"),
    ],
)
def test_faults_in_the_words_of_the_file(faults: Faults, words: str) -> None:
    assert fault_words(faults) == words
