"""
One host as it is configured, whoever configured it: the common ground of the compiler, of `check`, `path`, `plan` and `import`.

A network file compiles to hosts (`NodeDescription.host`); a directory of wg-quick files, networkd units or `wg showconf` of
several
machines is read into hosts (`importing`). What compares, lints or follows packets works on hosts alone, so that it says the same
of a network that was written by ginnel and of one that was written by hand over the years.

Values only. No secret is in a host: of a preshared key it has a fingerprint, which tells whether two ends have the same one.
What a
host's configuration does not say is None (a host may forward or not; a file says so rarely), and is never guessed here. Each
value
that a finding may be about has its `Place`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ginnel.config.node import PlainConfig
from ginnel.errors import Span
from ginnel.network.model import HostPort, Mapped, Protect
from ginnel.units import Prefix, PublicKey


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is said: a file (or what it is called), a span of it, and the line for the caret (empty: it holds a
    secret)."""

    source: str
    span: Span | None = None
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address of an interface (packed), with the length of its prefix."""

    packed: bytes
    length: int

    @property
    def host(self) -> Prefix:
        """The address alone, as a prefix."""
        return Prefix(self.packed, len(self.packed) * 8)

    def __str__(self) -> str:
        return f"{self.host.address}/{self.length}"


@dataclass(frozen=True, slots=True)
class Peer:
    """
    One peer of a WireGuard interface.

    name: the node it is, where that is known; else "". keepalive_s 0: none. psk: "" without a preshared key, "?" where there is
    one that was not shown, else a fingerprint that two ends with the same key have in common.
    """

    public_key: PublicKey | None
    name: str = ""
    allowed_ips: tuple[Prefix, ...] = ()
    endpoint: HostPort | None = None
    keepalive_s: int = 0
    psk: str = ""
    place: Place | None = None
    #: It has no prefix on purpose: a hub held ready, a key to come.
    waiting: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class WireguardInterface:
    """
    One WireGuard interface.

    listen_port 0: any. mtu None: computed when it comes up. public_key None: not known. table, fwmark, hooks as in wg-quick.
    """

    name: str
    public_key: PublicKey | None = None
    address: tuple[InterfaceAddress, ...] = ()
    listen_port: int = 0
    mtu: int | None = None
    peers: tuple[Peer, ...] = ()
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    table: str = "auto"
    fwmark: int = 0
    hooks: tuple[tuple[str, str], ...] = ()
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A GRE, IP-in-IP or IPsec tunnel; *peer*: the node at its other end where that is known, else ""."""

    config: PlainConfig
    peer: str = ""
    #: The secret's fingerprint where it is protected by one; as `Peer.psk`.
    psk: str = ""
    place: Place | None = None
    #: The kernel's own device, as others configure it, which knows nothing of keepalives, MSS clamps and the like.
    kernel: bool = False


@dataclass(frozen=True, slots=True)
class Secret:
    """A file that holds a secret, and its mode."""

    path: str
    mode: int


@dataclass(frozen=True, slots=True)
class Host:
    """
    One host.

    lans: what lies behind it, as its peers know it; mapped: those of them that are something else on the spot.
    endpoint: by which others find it, where anybody says so. behind_nat, forwards: None where nothing says so.
    masquerades: sources that leave through it under its own address. shown: how `place`-less findings call its configuration.
    """

    name: str
    interfaces: tuple[WireguardInterface, ...] = ()
    tunnels: tuple[Tunnel, ...] = ()
    lans: tuple[Prefix, ...] = ()
    mapped: tuple[Mapped, ...] = ()
    endpoint: HostPort | None = None
    behind_nat: bool | None = None
    forwards: bool | None = None
    masquerades: tuple[Prefix, ...] = ()
    #: The protected origins that it is the origin or an edge of.
    protects: tuple[Protect, ...] = ()
    underlay_mtu: int | None = None
    secrets: tuple[Secret, ...] = ()
    place: Place | None = None
    #: The addresses inside its tunnels (packed) that are meant when it is called by its name; empty: the first of each family.
    called: tuple[bytes, ...] = ()

    @property
    def addresses(self) -> tuple[bytes, ...]:
        """Every address inside its tunnels, packed."""
        own = [address.packed for interface in self.interfaces for address in interface.address]
        return (*own, *(_packed(text) for tunnel in self.tunnels for text in tunnel.config.address))

    def renamed(self, name: str) -> Host:
        """The same host under another name."""
        return replace(self, name=name)


def _packed(text: str) -> bytes:
    return Prefix.parse(text.partition("/")[0]).packed
