"""What becomes a node, and how prefixes lie to one another."""

from __future__ import annotations

from dataclasses import dataclass, field

from ginnel.network.host import Host, InterfaceAddress, Place, Tunnel, WireguardInterface
from ginnel.network.model import HostPort
from ginnel.units import Prefix, PublicKey


@dataclass(slots=True)
class Unit:
    """One node to be. *host*, *interface*: as imported; None for a node that only others know of."""

    name: str
    key: PublicKey | None = None
    host: Host | None = None
    interface: WireguardInterface | None = None
    tunnels: tuple[Tunnel, ...] = ()
    address: tuple[InterfaceAddress, ...] = ()
    lans: list[Prefix] = field(default_factory=list)
    endpoint: HostPort | None = None
    exit: str | None = None
    place: Place | None = None

    @property
    def listen_port(self) -> int:
        """0: any."""
        return self.interface.listen_port if self.interface is not None else self.endpoint.port if self.endpoint else 0


def holds(outer: Prefix, inner: Prefix) -> bool:
    """Whether *inner* lies in *outer*."""
    if len(outer.packed) != len(inner.packed) or outer.length > inner.length:
        return False
    rest = len(outer.packed) * 8 - outer.length
    return int.from_bytes(outer.packed, "big") >> rest == int.from_bytes(inner.packed, "big") >> rest


def overlap(one: Prefix, two: Prefix) -> bool:
    """Whether two prefixes have an address in common."""
    return holds(one, two) or holds(two, one)


def cut(prefix: Prefix, length: int) -> Prefix:
    """The prefix of *length* bits around *prefix*."""
    size = len(prefix.packed) * 8
    mask = ((1 << length) - 1) << (size - length)
    return Prefix((int.from_bytes(prefix.packed, "big") & mask).to_bytes(size // 8, "big"), length)
