"""
What the machines of a plain tunnel want done, as values, in the words of the engine.

An effect has `apply(tunnel)`, which is one call of the engine; an event is for the log and for whoever judges the tunnel. After
any one input a machine is polled until it gives `WaitUntil`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Tunnel(Protocol):
    """The part of the engine's plain tunnel that the machines drive; what each does is written in `ginnel._native`."""

    def set_path_mtu(self, mtu: int, /) -> None: ...
    def set_hold(self, held: bool, /) -> None: ...
    def set_unreachable(self, packets: int, until_ns: int, /) -> None: ...
    def send_control(self, protocol: int, payload: bytes, /) -> None: ...
    def send_back(self, packet: bytes, /) -> None: ...


class SendControl(NamedTuple):
    """Send *payload* through the tunnel, under that GRE protocol type. OSError when the network refuses: nothing to be done."""

    protocol: int
    payload: bytes

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.send_control(self.protocol, self.payload)


class SendBack(NamedTuple):
    """Send the peer's own packet back to it, as it is."""

    packet: bytes

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.send_back(self.packet)


class SetPathMtu(NamedTuple):
    """The largest inner packet that the path takes; 0: nothing is known."""

    mtu: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.set_path_mtu(self.mtu)


class SetHold(NamedTuple):
    """Send nothing from the device, or again."""

    held: bool

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.set_hold(self.held)


class SetUnreachable(NamedTuple):
    """Tell the next *packets* inner senders that the host cannot be reached, until that time."""

    packets: int
    until_ns: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.set_unreachable(self.packets, self.until_ns)


# ---------------------------------------------------------------- events, and time


class PeerAlive(NamedTuple):
    """A keepalive came back, the first ever or the first after it was dead."""


class PeerDead(NamedTuple):
    """*unanswered* keepalives in a row did not come back."""

    unanswered: int


class PathMtuLearned(NamedTuple):
    """The path takes inner packets of *mtu* bytes, delivery packets of *delivery*, says the router at *origin* (packed)."""

    mtu: int
    delivery: int
    origin: bytes


class PathMtuForgotten(NamedTuple):
    """What was learned is too old to be believed."""

    mtu: int


class PathMtuProbed(NamedTuple):
    """Probes found that inner packets of *mtu* bytes pass and larger ones vanish; 0: everything passes, as far as is known."""

    mtu: int


class PathMtuTooSmall(NamedTuple):
    """*origin* named a delivery MTU that is below every honest link's; *used* is taken instead."""

    named: int
    used: int
    origin: bytes


class RoutingLoop(NamedTuple):
    """The MTU fell *falls* times, each time by what the tunnel adds: its packets go round and are encapsulated again."""

    falls: int
    origin: bytes


class PathRefused(NamedTuple):
    """An ICMP error says that our packets do not arrive; *notice* is a key of `path.Notice`."""

    notice: str
    origin: bytes
    code: int


class Held(NamedTuple):
    """The route to the remote leads back into the tunnel: nothing is sent. *why* is a sentence."""

    why: str


class Released(NamedTuple):
    """It does not any more, and has not for long enough."""

    held_ns: int


class WaitUntil(NamedTuple):
    """Nothing more to put out. Call `timeout` at this monotonic time, or with None not before the next input."""

    mono_ns: int | None


Effect = SendControl | SendBack | SetPathMtu | SetHold | SetUnreachable
Event = (
    PeerAlive
    | PeerDead
    | PathMtuLearned
    | PathMtuForgotten
    | PathMtuProbed
    | PathMtuTooSmall
    | RoutingLoop
    | PathRefused
    | Held
    | Released
)
