"""
A plain tunnel of the engine without a device or a network: it keeps what it was told, and has the counters that a test gives it.

Its methods are those of `ginnel.engine.plain.PlainTunnelLike`; every call is in `calls`, in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class ControlReceived(NamedTuple):
    """As the native event of that name."""

    tunnel: int
    kind: str
    protocol: int
    packet: bytes


class PathError(NamedTuple):
    """As the native event of that name."""

    tunnel: int
    kind: str
    code: int
    mtu: int
    origin: bytes


class Mismatch(NamedTuple):
    """As the native event of that name."""

    tunnel: int
    reason: str
    seen: int | None
    remote: bytes


@dataclass(slots=True)
class FakePlainCounters:
    """As the native `PlainCounters`."""

    rx_packets: int = 0
    rx_bytes: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0
    last_receive_ns: int = 0
    last_send_ns: int = 0
    remote: tuple[bytes, int] | None = None
    sequence_out: int = 0
    sequence_in: int | None = None


@dataclass(slots=True)
class FakePlain:
    """See the module."""

    name: str = "gre1"
    id: int = 1
    tun_fd: int = 9_999
    is_up: bool = False
    #: Raised by the next `up`, by `set_ends`, by what is sent; None: they work.
    up_error: OSError | None = None
    ends_error: OSError | None = None
    send_error: OSError | None = None
    seen: FakePlainCounters = field(default_factory=FakePlainCounters)
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def up(self) -> None:
        self.calls.append(("up",))
        if self.up_error is not None:
            raise self.up_error
        self.is_up = True

    def down(self) -> None:
        self.calls.append(("down",))
        self.is_up = False

    def close(self) -> None:
        self.calls.append(("close",))
        self.is_up = False

    def set_mtu(self, mtu: int) -> None:
        self.calls.append(("set_mtu", mtu))

    def set_path_mtu(self, mtu: int) -> None:
        self.calls.append(("set_path_mtu", mtu))

    def set_hold(self, held: bool) -> None:
        self.calls.append(("set_hold", held))

    def set_unreachable(self, packets: int, until_ns: int) -> None:
        self.calls.append(("set_unreachable", packets, until_ns))

    def set_ends(self, local: bytes | None, remote: bytes | None) -> None:
        self.calls.append(("set_ends", local, remote))
        if self.ends_error is not None:
            raise self.ends_error

    def send_control(self, protocol: int, payload: bytes) -> None:
        self.calls.append(("send_control", protocol, payload))
        if self.send_error is not None:
            raise self.send_error

    def send_back(self, packet: bytes) -> None:
        self.calls.append(("send_back", packet))
        if self.send_error is not None:
            raise self.send_error

    def counters(self) -> FakePlainCounters:
        return self.seen

    def drops(self) -> dict[str, int]:
        return {}

    def offloads(self) -> dict[str, str]:
        return {}

    def told(self, what: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of that name."""
        return [call[1:] for call in self.calls if call[0] == what]
