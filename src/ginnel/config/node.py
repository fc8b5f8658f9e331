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

from ginnel.config import node_host
from ginnel.config.node_host import HostConfig

PlainKind = Literal["gre", "gretap", "ipip", "sit", "ip6tnl", "ipsec"]
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
class IpsecConfig:
    """
    How a tunnel is protected: one IKE peer and one child SA, in strongSwan's words where it has them.

    Secrets are named by the file they lie in; paths are absolute. The peer's address is the tunnel's `remote`, ours its `local`.

    mode: "transport" (GRE and IP in IP: the tunnel's delivery header serves both) or "tunnel" ("ipsec": always).
    start: "start" (at once), "trap" (with the first packet), "wait" (for the peer).
    ike_proposals, esp_proposals: "aes256gcm16-prfsha256-x25519"; several are offered in this order.
    local_id, remote_id: identities as text ("moon.example.org", "@keyword", "192.0.2.1", "CN=moon"); empty: our address or the
    certificate's subject; the peer's address, and for the peer "%any" takes whoever proves itself.
    local_ts, remote_ts: traffic selectors ("10.1.0.0/16", "dynamic[gre]", "0.0.0.0/0"); empty: the mode's default.
    encapsulation: "auto" (UDP when there is a NAT), "udp" (always), "raw" (never: a NAT is an error).
    dpd_action: "restart", "trap" or "clear". Times in s; 0 turns off. rekey_bytes, rekey_packets: of the child; 0: no limit.
    """

    peer: str = ""
    mode: Literal["transport", "tunnel"] = "transport"
    start: Literal["start", "trap", "wait"] = "start"
    auth: Literal["psk", "certificate", "public-key"] = "psk"
    #: What the peer proves itself with; empty: the same as we do.
    remote_auth: Literal["", "psk", "certificate", "public-key"] = ""
    psk_file: str = ""
    certificate_files: tuple[str, ...] = ()
    private_key_file: str = ""
    ca_files: tuple[str, ...] = ()
    crl_files: tuple[str, ...] = ()
    #: "strict": without a current CRL of each authority nobody is believed; "if-given": a CRL at hand is heeded.
    revocation: Literal["strict", "if-given"] = "if-given"
    peer_key_file: str = ""
    local_id: str = ""
    remote_id: str = ""
    ike_proposals: tuple[str, ...] = ()
    esp_proposals: tuple[str, ...] = ()
    local_ts: tuple[str, ...] = ()
    remote_ts: tuple[str, ...] = ()
    encapsulation: Literal["auto", "udp", "raw"] = "auto"
    ike_port: int = 500
    natt_port: int = 4500
    ike_rekey_s: int = 14_400
    rekey_s: int = 3_600
    rekey_bytes: int = 0
    rekey_packets: int = 0
    dpd_s: int = 30
    dpd_action: Literal["restart", "trap", "clear"] = "restart"
    #: First interval of retransmission, and for how long a request is repeated before the peer is taken for dead.
    retransmit_s: float = 2.0
    give_up_s: float = 60.0
    replay_window: int = 1024
    fragmentation: bool = True
    #: "auto": offered, and used when the peer offers it; "never".
    childless: Literal["auto", "never"] = "auto"
    copy_dscp: bool = True
    df: Literal["copy", "set", "clear"] = "copy"


@dataclass(frozen=True, slots=True)
class PlainConfig:
    """
    One GRE, IP-in-IP or IPsec tunnel, under iproute2's names. ipsec: how it is protected, None: not at all.

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
    ipsec: IpsecConfig | None = None


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


_NOTHING_MORE = HostConfig()


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """All tunnels of one host; *name* is the file's, without its ending."""

    name: str
    path: str
    backend: Backend = "auto"
    plain: tuple[PlainConfig, ...] = ()
    wireguard: tuple[WireguardConfig, ...] = ()
    #: What is asked of the host beside them.
    host: HostConfig = _NOTHING_MORE


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
                "ipsec": _ipsec(one["ipsec"]) if one["ipsec"] else None,
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
    host = node_host.from_plain(whole["host"])
    return NodeConfig(**{**whole, "plain": plain, "wireguard": wireguard, "host": host})


def _ipsec(one: dict[str, Any]) -> IpsecConfig:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in one.items()}
    return IpsecConfig(**fields)
