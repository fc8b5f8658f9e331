"""
A plain or protected tunnel of the engine, and IKE's ports, without a device or a network.

They keep what they were told, and have the counters that a test gives them. Their methods are those of
`ginnel.engine.plain.PlainTunnelLike` and `IkePortsLike`; every call is in `calls`, in order. Of SAs the tunnel keeps what
`associations` would show; keys are not taken.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: Inbound SAs of one tunnel.
MAX_INBOUND = 4


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


class SaCounters(NamedTuple):
    """As the native class of that name."""

    spi: int
    inbound: bool
    packets: int = 0
    bytes: int = 0
    sequence: int = 0
    last_ns: int = 0
    drops: dict[str, int] = {}  # noqa: RUF012 - nobody changes it


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
    next_spi: int = 0x1000
    outbound: int | None = None
    inbound: list[int] = field(default_factory=list)

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

    def reserve_spi(self) -> int:
        self.next_spi += 1
        self.calls.append(("reserve_spi", self.next_spi))
        return self.next_spi

    def release_spi(self, spi: int) -> None:
        self.calls.append(("release_spi", spi))

    def add_inbound(self, spi: int, **terms: Any) -> None:
        self.calls.append(("add_inbound", spi, terms))
        if len(self.inbound) >= MAX_INBOUND:
            raise OSError(errno.ENOBUFS, "No buffer space available", "add_inbound")
        self.inbound.append(spi)

    def remove_inbound(self, spi: int) -> None:
        self.calls.append(("remove_inbound", spi))
        if spi in self.inbound:
            self.inbound.remove(spi)

    def set_outbound(self, spi: int, **terms: Any) -> None:
        self.calls.append(("set_outbound", spi, terms))
        self.outbound = spi

    def set_outbound_path(self, local: bytes, remote: bytes, local_port: int, remote_port: int) -> None:
        self.calls.append(("set_outbound_path", local, remote, local_port, remote_port))
        if self.outbound is None:
            raise KeyError("there is no outbound SA")

    def clear_outbound(self) -> None:
        self.calls.append(("clear_outbound",))
        self.outbound = None

    def associations(self) -> list[SaCounters]:
        out = [] if self.outbound is None else [SaCounters(self.outbound, inbound=False)]
        return out + [SaCounters(spi, inbound=True) for spi in self.inbound]

    def told(self, what: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of that name."""
        return [call[1:] for call in self.calls if call[0] == what]


@dataclass(slots=True)
class FakeIkePorts:
    """See the module."""

    port: int = 500
    natt_port: int = 4500
    #: Raised by what is sent; None: it works.
    send_error: OSError | None = None
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def send(self, message: bytes, *, local: bytes | None, remote: bytes, remote_port: int, natt: bool) -> None:
        self.calls.append(("send", message, local, remote, remote_port, natt))
        if self.send_error is not None:
            raise self.send_error

    def send_keepalive(self, *, local: bytes | None, remote: bytes, remote_port: int) -> None:
        self.calls.append(("send_keepalive", local, remote, remote_port))
        if self.send_error is not None:
            raise self.send_error

    def counters(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self.calls.append(("close",))
