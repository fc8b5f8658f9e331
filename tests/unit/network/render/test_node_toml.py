"""Rendering: the exact file, and that whatever can be described reads back as itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ginnel.config import nodefile
from ginnel.config.node import Encapsulation, Keepalive, PlainConfig
from ginnel.network.hostrules import host_config
from ginnel.network.render.node_toml import render, render_tunnels
from unit.network.networks import compiled
from unit.network.test_gre import NAT, TWO, UDP

PARIS = """\
# acme: paris. Rendered by ginnel; changes belong in the network file.

[node]
forward = true

[tunnel.gre-lyon]
kind = "gre"
local = "203.0.113.10"
remote = "198.51.100.20"
ttl = 64
address = ["10.10.0.1/30", "fd10:10::2/127"]
routes = ["10.30.0.0/24", "fd10:30::/64"]
mtu = 1476
keepalive = 10
"""


def test_the_exact_file() -> None:
    assert render(compiled(TWO)["paris"]) == PARIS


def test_rendered_networks_read_back() -> None:
    over, alone = (TWO.replace('kind = "gre"', f'kind = "{kind}"') for kind in ("gre+ipsec", "ipsec"))
    certificates = over + '[ipsec]\nauth = "certificate"\nmode = "tunnel"\nesp = ["aes128gcm16", "aes256-sha256"]\nrekey = 600\n'
    for text in (
        over,
        alone,
        certificates,
        NAT.replace('kind = "gre"', 'kind = "gre+ipsec"'),
        TWO,
        NAT + "[gre]\n" + UDP + 'csum = true\ntos = "inherit"\n',
        TWO.replace("198.51.100.20", "lyon.example.org"),
    ):
        for description in compiled(text).values():
            told = replace(description.config("/etc/ginnel/node.toml"), host=host_config(description))
            assert nodefile.parse(render(description), "/etc/ginnel/node.toml") == told


@st.composite
def tunnels(draw: st.DrawFn) -> PlainConfig:
    """Whatever makes sense as one GRE tunnel."""
    family: Any = draw(st.sampled_from([4, 6]))
    local, remote = ("192.0.2.1", "192.0.2.2") if family == 4 else ("2001:db8::1", "2001:db8::2")
    key = st.integers(0, 2**32 - 1)
    ikey = draw(key)
    udp = draw(st.none() | st.builds(Encapsulation, *[st.integers(0, 65535)] * 3))
    if udp is not None and not udp.listen:
        udp = Encapsulation(4754, udp.sport, udp.dport)
    sequenced = draw(st.booleans()) and (udp is None or udp.sport != 0)
    pmtudisc = family == 6 or draw(st.booleans())
    remote_text = draw(st.sampled_from([remote, "any", "host.example.org"]))
    keepalive = draw(st.none() | st.builds(Keepalive, st.integers(1, 32767), st.integers(0, 255)))
    if family == 6 and keepalive is not None and draw(st.booleans()):
        keepalive = Keepalive(keepalive.interval_s, keepalive.retries, "mikrotik")
    return PlainConfig(
        name=draw(st.sampled_from(["gre1", "a.b", "gre-lyon"])),
        kind="gre",
        family=family,
        local=draw(st.sampled_from([local, "any"])),
        remote=remote_text,
        ikey=ikey,
        okey=draw(st.none() | st.just(ikey) | key),
        icsum=draw(st.booleans()),
        ocsum=draw(st.booleans()),
        iseq=draw(st.booleans()),
        oseq=sequenced,
        ttl=draw(st.integers(0, 255)) if pmtudisc else 0,
        tos=draw(st.none() | st.integers(0, 255)),
        pmtudisc=pmtudisc,
        ignore_df=not pmtudisc and draw(st.booleans()),
        encaplimit=draw(st.none() | st.integers(0, 255)) if family == 6 and udp is None else None,
        flowlabel=draw(st.none() | st.integers(0, 0xFFFFF)) if family == 6 and udp is None else None,
        tolerant=draw(st.booleans()),
        encapsulation=udp,
        dev=draw(st.sampled_from(["", "eth0"])),
        fwmark=draw(st.integers(0, 2**32 - 1)),
        address=draw(st.sampled_from([(), ("10.10.10.1/30",), ("10.10.10.1/31", "fd00::1/127")])),
        routes=draw(st.sampled_from([(), ("10.30.0.0/24", "fd30::/64"), ("10.30.0.0/24 metric 20",)])),
        rules=draw(st.sampled_from([(), ("from 203.0.113.64/28 table 64",)])),
        mtu=draw(st.none() | st.integers(1280, 1476)),
        mss_clamp=draw(st.booleans()),
        keepalive=keepalive if remote_text != "any" else None,
    )


@given(tunnels())
def test_whatever_can_be_described_reads_back_as_itself(config: PlainConfig) -> None:
    assert nodefile.parse(render_tunnels((config,)), "node.toml").plain == (config,)
