"""
Node descriptions as the files of other programs; one module a format, each a pure function of a description.

Every module has `files(description, secrets=NONE) -> tuple[File, ...]`: the files of one node, the same bytes for the same
description. Without secrets nothing rendered is secret: where a format can, its file takes keys from files that lie on the host
(the module says which); a format that cannot (a phone's QR code, a router's commands) has a placeholder and says so in a
comment, or needs the secrets. `FORMATS` has them by the names that `ginnel render --as` knows.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ginnel.config.node import PlainConfig
from ginnel.errors import GinnelError, UsageError
from ginnel.network.compile import NodeDescription, PeerDescription
from ginnel.network.model import HostPort
from ginnel.units import PublicKey


@dataclass(frozen=True, slots=True)
class File:
    """
    One rendered file. *name*: relative to where it is to lie, which *where* says; *secret*: it holds keys, mode 0600; *private*:
    it holds none, and its reader wants mode 0600 all the same.
    """

    name: str
    content: bytes
    where: str = ""
    secret: bool = False
    executable: bool = False
    private: bool = False

    @property
    def text(self) -> str:
        """The content of a file of text."""
        return self.content.decode()


@dataclass(frozen=True, slots=True)
class Secrets:
    """
    The secrets of one node, base64 or as the file has them, where they are at hand and are to be in the files.

    private_key: of its WireGuard interface. psk: WireGuard's preshared keys by peer. ipsec: IPsec's by peer.
    """

    private_key: str = field(default="", repr=False)
    psk: Mapping[str, str] = field(default_factory=dict, repr=False)
    ipsec: Mapping[str, str] = field(default_factory=dict, repr=False)


NONE = Secrets()


class Renderer(Protocol):
    """What each module is."""

    def files(self, description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
        """The files of one node; UsageError where the format knows no such thing (GRE in a phone)."""


#: Format: its module, and what it is in a line.
FORMATS: dict[str, tuple[str, str]] = {
    "ginnel": ("ginnel", "what `ginnel up` runs: a wg-quick file, a node file, or both"),
    "wg-quick": ("wgquick", "wg-quick's NAME.conf"),
    "setconf": ("setconf", "what `wg setconf` reads: keys, peers and no more"),
    "node": ("node_toml", "a node file, NAME.toml"),
    "networkd": ("networkd", "systemd-networkd's .netdev and .network"),
    "networkmanager": ("networkmanager", "NetworkManager's keyfiles, .nmconnection"),
    "netplan": ("netplan", "netplan's YAML, for systemd-networkd"),
    "iproute2": ("iproute2", "a shell script of ip, wg and nft: up and down"),
    "qr": ("qr", "a QR code for a phone, in a terminal"),
    "png": ("png", "a QR code for a phone, as a picture"),
    "swanctl": ("swanctl", "strongSwan's connections, and a script for the kernel's devices"),
    "docker": ("docker", "Docker Compose: the node's tunnels in containers"),
    "cisco-ios": ("cisco_ios", "Cisco IOS and IOS XE: GRE and IPsec"),
    "routeros": ("routeros", "MikroTik RouterOS 7: WireGuard, GRE and IPsec"),
    "vyos": ("vyos", "VyOS: set commands for WireGuard, GRE and IPsec"),
}


def renderer(name: str) -> Renderer:
    """The module of a format; UsageError with the known ones when there is no such format."""
    if name not in FORMATS:
        raise UsageError(f"--as: expected one of {', '.join(FORMATS)}, found {name!r}")
    module: Renderer = importlib.import_module(f"{__name__}.{FORMATS[name][0]}")
    return module


def interfaces(description: NodeDescription) -> tuple[NodeDescription, ...]:
    """The host's WireGuard interfaces, each described by itself: the node's own first, then those beside it."""
    return (*((description,) if description.wireguard else ()), *description.beside)


def title(description: NodeDescription, mark: str = "#") -> str:
    """The line with which a rendered file begins, as a comment."""
    return f"{mark} {description.network}: {description.name}. Rendered by ginnel; changes belong in the network file."


def host_port(endpoint: HostPort) -> str:
    """An endpoint as WireGuard's tools have it, an IPv6 address in brackets."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host  # no host name has a colon
    return f"{host}:{endpoint.port}"


def wireguard_only(description: NodeDescription, who: str) -> None:
    """UsageError for what knows nothing but WireGuard, where the node has other tunnels, or none."""
    if description.tunnels:
        others = " and ".join(tunnel.config.name for tunnel in description.tunnels[:3])
        hint = "--as node, networkd, networkmanager, netplan and iproute2 have GRE; --as swanctl has IPsec"
        raise UsageError(f"{description.name} has {others}, and {who} knows WireGuard alone\n  hint: {hint}")
    if not description.wireguard:
        raise UsageError(f"{description.name} has no WireGuard link, and {who} knows nothing else")


def unprotected(config: PlainConfig, who: str) -> None:
    """UsageError where IPsec protects a tunnel, for what would bring it up without."""
    if config.ipsec is not None:
        hint = "--as swanctl has it, for strongSwan; --as node for ginnel"
        raise UsageError(f"{config.name} is protected by IPsec, which {who} does not have\n  hint: {hint}")


def public_key(peer: PeerDescription) -> PublicKey:
    """The key of a peer; GinnelError where it is not known yet."""
    if peer.public_key is None:
        hint = f"`ginnel keys new` makes one, or pin its own: `ginnel keys new {peer.name} --public KEY`"
        raise GinnelError(f"{peer.name} has no public key yet\n  hint: {hint}")
    return peer.public_key
