"""
One host as it is to be: the description that a node file, a wg-quick file or the compiler of the network gives, as plain values.

A `NodeConfig` is complete and checked: names are interfaces', addresses are numeric or host names, numbers are in range,
defaults are filled in
(`mtu` alone may be left to be computed from the route). The process that owns the tunnels gets it as JSON (`to_json`,
`from_json`), which
holds no secret: keys of WireGuard tunnels are named by the file they lie in.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

PlainKind = Literal["gre", "gretap", "ipip", "sit", "ip6tnl"]
Backend = Literal["auto", "engine", "kernel"]

#: RFC 8086.
GRE_IN_UDP_PORT = 4754


@dataclass(frozen=True, slots=True)
class Encapsulation:
    """GRE in UDP: *sport* 0 is flow entropy ("auto"), *dport* 0 is the port the peer's packets come from ("learned")."""

    listen: int = GRE_IN_UDP_PORT
    sport: int = GRE_IN_UDP_PORT
    dport: int = GRE_IN_UDP_PORT


@dataclass(frozen=True, slots=True)
class Keepalive:
    """
    Probes that the peer sends back: every *interval_s*, dead after *retries* unanswered; 0 retries: sent, never judged.

    dialect: "cisco" (inner GRE protocol 0) or "mikrotik" (0x86DD, over IPv6).
    """

    interval_s: int = 10
    retries: int = 3
    dialect: Literal["cisco", "mikrotik"] = "cisco"


@dataclass(frozen=True, slots=True)
class PlainConfig:
    """
    One GRE or IP-in-IP tunnel, under iproute2's names.

    local, remote: numeric addresses (remote may be a host name, or "any"); family: of the delivery header, 4 or 6.
    ttl 0 and tos None inherit. mtu None: from the route to *remote*, less the layers. mss_clamp: TCP SYNs through the tunnel
    are clamped to it. routes and rules are in the words of iproute2 (`config.words`), the prefix of a route first.
    """

    name: str
    kind: PlainKind
    family: Literal[4, 6]
    local: str = "any"
    remote: str = "any"
    ikey: int | None = None
    okey: int | None = None
    icsum: bool = False
    ocsum: bool = False
    iseq: bool = False
    oseq: bool = False
    ttl: int = 0
    tos: int | None = 0
    pmtudisc: bool = True
    ignore_df: bool = False
    encaplimit: int | None = None
    flowlabel: int | None = None
    tolerant: bool = False
    encapsulation: Encapsulation | None = None
    dev: str = ""
    fwmark: int = 0
    address: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    mtu: int | None = None
    mss_clamp: bool = True
    keepalive: Keepalive | None = None


@dataclass(frozen=True, slots=True)
class WireguardConfig:
    """
    One WireGuard tunnel of a node file: the wg-quick text that it amounts to, without private and preshared keys, and where
    those lie.
    """

    name: str
    text: str
    private_key_file: str
    #: Public key -> path.
    preshared_key_files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """All tunnels of one host; *name* is the file's, without its ending."""

    name: str
    path: str
    backend: Backend = "auto"
    plain: tuple[PlainConfig, ...] = ()
    wireguard: tuple[WireguardConfig, ...] = ()


def to_json(config: NodeConfig) -> str:
    """One line of JSON."""
    return json.dumps(dataclasses.asdict(config))


def from_json(text: str) -> NodeConfig:
    """The inverse of `to_json`; TypeError or ValueError for anything else."""
    whole: dict[str, Any] = json.loads(text)
    plain = tuple(
        PlainConfig(
            **{
                **one,
                "encapsulation": Encapsulation(**one["encapsulation"]) if one["encapsulation"] else None,
                "keepalive": Keepalive(**one["keepalive"]) if one["keepalive"] else None,
                "address": tuple(one["address"]),
                "routes": tuple(one["routes"]),
                "rules": tuple(one["rules"]),
            }
        )
        for one in whole["plain"]
    )
    wireguard = tuple(
        WireguardConfig(**{**one, "preshared_key_files": tuple((key, path) for key, path in one["preshared_key_files"])})
        for one in whole["wireguard"]
    )
    return NodeConfig(**{**whole, "plain": plain, "wireguard": wireguard})
