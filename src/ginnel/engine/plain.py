"""
The typed face of the engine's plain and protected tunnels, and of IKE's ports: what `ginnel.engine` is for WireGuard.

`PlainTunnelLike` is what the runtime needs of one, so that fakes type-check against the same words; its methods are documented at
the boundary itself, `_native.pyi`.
"""

from __future__ import annotations

from typing import Literal, Protocol

from ginnel._native import (
    CarrierCounters,
    ControlReceived,
    DeviceGone,
    EndpointChanged,
    IkePorts,
    IkeReceived,
    KeyMaterial,
    Mismatch,
    PathError,
    PlainCounters,
    PlainTunnel,
    SaCounters,
    SaExpiring,
    SaMissing,
    SaMoved,
    SaUsed,
    UnknownSpi,
)

__all__ = [
    "CarrierCounters",
    "ControlReceived",
    "IkeEvent",
    "IkePorts",
    "IkePortsLike",
    "IkeReceived",
    "Mismatch",
    "PathError",
    "PlainCounters",
    "PlainEvent",
    "PlainTunnel",
    "PlainTunnelLike",
    "ProtectionEvent",
    "SaCounters",
    "SaExpiring",
    "SaMissing",
    "SaMoved",
    "SaUsed",
    "SelectorTuple",
    "UnknownSpi",
]

#: What the engine tells of a plain tunnel. (The peer of an `EndpointChanged` is 0: there is one.)
PlainEvent = ControlReceived | PathError | Mismatch | EndpointChanged | DeviceGone
#: What it tells of a protected tunnel's SAs.
ProtectionEvent = SaUsed | SaExpiring | SaMissing | SaMoved
#: What came for no tunnel yet: IKE messages, and ESP that is nobody's.
IkeEvent = IkeReceived | UnknownSpi
#: Selectors as the engine takes them: protocol, first and last source port, first and last source address, then destinations'.
SelectorTuple = tuple[int, int, int, bytes, bytes, int, int, bytes, bytes]


class PlainTunnelLike(Protocol):
    """One plain tunnel of the engine, or a fake of it; see `PlainTunnel` in `_native.pyi` for every method."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def tun_fd(self) -> int: ...
    @property
    def is_up(self) -> bool: ...
    def up(self) -> None: ...
    def down(self) -> None: ...
    def close(self) -> None: ...
    def set_mtu(self, mtu: int) -> None: ...
    def set_path_mtu(self, mtu: int, /) -> None: ...
    def set_hold(self, held: bool, /) -> None: ...
    def set_unreachable(self, packets: int, until_ns: int, /) -> None: ...
    def set_ends(self, local: bytes | None, remote: bytes | None) -> None: ...
    def send_control(self, protocol: int, payload: bytes, /) -> None: ...
    def send_back(self, packet: bytes, /) -> None: ...
    def counters(self) -> PlainCounters: ...
    def drops(self) -> dict[str, int]: ...
    def offloads(self) -> dict[str, str]: ...
    def reserve_spi(self) -> int: ...
    def release_spi(self, spi: int, /) -> None: ...
    def add_inbound(
        self,
        spi: int,
        *,
        suite: str,
        key: KeyMaterial,
        integrity: KeyMaterial,
        transport: bool,
        esn: bool = False,
        replay_window: int = 1024,
        selectors: list[SelectorTuple] = ...,
        soft_bytes: int = 0,
        hard_bytes: int = 0,
        soft_packets: int = 0,
        hard_packets: int = 0,
        hard_ns: int = 0,
        sequence: int = 0,
    ) -> None: ...
    def remove_inbound(self, spi: int, /) -> None: ...
    def set_outbound(
        self,
        spi: int,
        *,
        suite: str,
        key: KeyMaterial,
        integrity: KeyMaterial,
        transport: bool,
        esn: bool = False,
        local: bytes,
        remote: bytes,
        local_port: int = 0,
        remote_port: int = 0,
        selectors: list[SelectorTuple] = ...,
        dscp: bool = True,
        df: Literal["copy", "set", "clear"] = "copy",
        soft_bytes: int = 0,
        hard_bytes: int = 0,
        soft_packets: int = 0,
        hard_packets: int = 0,
        hard_ns: int = 0,
        sequence: int = 0,
    ) -> None: ...
    def set_outbound_path(self, local: bytes, remote: bytes, local_port: int, remote_port: int, /) -> None: ...
    def clear_outbound(self) -> None: ...
    def associations(self) -> list[SaCounters]: ...


class IkePortsLike(Protocol):
    """IKE's and ESP's sockets, or a fake of them; see `IkePorts` in `_native.pyi`."""

    @property
    def port(self) -> int: ...
    @property
    def natt_port(self) -> int: ...
    def send(self, message: bytes, *, local: bytes | None, remote: bytes, remote_port: int, natt: bool) -> None: ...
    def send_keepalive(self, *, local: bytes | None, remote: bytes, remote_port: int) -> None: ...
    def counters(self) -> dict[str, int]: ...
    def close(self) -> None: ...
