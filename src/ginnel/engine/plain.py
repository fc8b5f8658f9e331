"""
The typed face of the engine's plain tunnels: what `ginnel.engine` is for WireGuard.

`PlainTunnelLike` is what the runtime needs of one, so that fakes type-check against the same words; its methods are documented at
the boundary itself, `_native.pyi`.
"""

from __future__ import annotations

from typing import Protocol

from ginnel._native import (
    CarrierCounters,
    ControlReceived,
    DeviceGone,
    EndpointChanged,
    Mismatch,
    PathError,
    PlainCounters,
    PlainTunnel,
)

__all__ = [
    "CarrierCounters",
    "ControlReceived",
    "Mismatch",
    "PathError",
    "PlainCounters",
    "PlainEvent",
    "PlainTunnel",
    "PlainTunnelLike",
]

#: What the engine tells of a plain tunnel. (The peer of an `EndpointChanged` is 0: there is one.)
PlainEvent = ControlReceived | PathError | Mismatch | EndpointChanged | DeviceGone


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
