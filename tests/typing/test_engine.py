"""The engine's tunnel is what the runtime asks for, as types."""

from __future__ import annotations

from ginnel.engine import Tunnel, TunnelLike
from ginnel.wireguard import effects


def as_runtime_needs_it(tunnel: Tunnel) -> TunnelLike:
    return tunnel


def as_machines_need_it(tunnel: TunnelLike) -> effects.Tunnel:
    return tunnel
