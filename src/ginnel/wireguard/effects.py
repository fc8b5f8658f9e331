"""
What an `Interface` puts out: effects for the engine's tunnel, events for whoever watches, and how long to wait.

Each effect is one call on the tunnel, as a value. The runtime takes them from `Interface.poll` in order and does nothing
with them but

    effect.apply(tunnel)

so a test reads the same values as they are, applies them to a fake, or both. They are tuples: six thousand handshakes a
second make thirty thousand of them. Those that may fail with an OSError say so; the rest only fail if the tunnel is
broken.

A peer is named by the engine's handle (an int that is never used again), a source is the engine's opaque value.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

from ginnel.crypto import Secret

#: Where a datagram came from: a value that the engine made, kept by nobody and handed back to it unread. Any, since no code here
#: may depend on what it is: `ginnel.engine.Source`, or a test's own.
Source = Any


class Tunnel(Protocol):
    """The part of the engine's tunnel that a WireGuard interface drives; what each does is written in `ginnel._native`."""

    def up(self) -> None: ...
    def down(self) -> None: ...
    def set_private_key(self, key: Secret | None, /) -> None: ...
    def set_listen_port(self, port: int, /) -> None: ...
    def set_fwmark(self, mark: int, /) -> None: ...
    def remove_peer(self, peer: int, /) -> None: ...
    def set_endpoint(self, peer: int, packed: bytes, port: int, scope_id: int = 0, /) -> None: ...
    def set_keepalive(self, peer: int, interval_s: int, /) -> None: ...
    def set_allowed_ips(self, peer: int, prefixes: list[tuple[bytes, int]], replace: bool, /) -> None: ...
    def remove_allowed_ips(self, peer: int, prefixes: list[tuple[bytes, int]], /) -> None: ...
    def flush(self, peer: int, /) -> None: ...
    def release_index(self, index: int, /) -> None: ...
    def install_session(
        self,
        peer: int,
        local_index: int,
        remote_index: int,
        send: Secret,
        receive: Secret,
        initiator: bool,
        /,
    ) -> None: ...
    def send_handshake(self, peer: int, message: bytes, /) -> None: ...
    def handshake_received(self, peer: int, source: Source, size_bytes: int, /) -> None: ...
    def handshake_outcome(self, source: Source, genuine: bool, /) -> None: ...
    def attempt_over(self, peer: int, purge: bool, /) -> None: ...
    def clear_source(self, peer: int, /) -> None: ...
    def stop_keepalive_timer(self, peer: int, /) -> None: ...
    def expire_session(self, peer: int, /) -> None: ...
    def zero_sessions(self, peer: int, /) -> None: ...


Reason = Literal["packets", "ageing", "silent", "keepalive", "restart"]

# ---------------------------------------------------------------- the handshake


class Outcome(NamedTuple):
    """An initiation from *source* was judged: from one of our peers and not a replay, or not. Feeds the load gate."""

    source: Source
    genuine: bool

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.handshake_outcome(self.source, self.genuine)


class Authentic(NamedTuple):
    """An initiation or a response of *peer* was authenticated: its endpoint is *source* from now on."""

    peer: int
    source: Source
    size_bytes: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.handshake_received(self.peer, self.source, self.size_bytes)


class InstallSession(NamedTuple):
    """A handshake gave these keys. The secrets are taken by the engine: apply it once."""

    peer: int
    local_index: int
    remote_index: int
    send: Secret
    receive: Secret
    initiator: bool

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.install_session(*self)


class SendHandshake(NamedTuple):
    """
    Send an initiation or a response to the peer's endpoint.

    Raises OSError when the network refuses; then tell `Interface.send_failed`. Nothing else is to be done: the timer is armed.
    """

    peer: int
    message: bytes

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.send_handshake(self.peer, self.message)


class ReleaseIndex(NamedTuple):
    """A handshake that had this index is over."""

    local_index: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.release_index(self.local_index)


class AttemptOver(NamedTuple):
    """No session will come of what the engine asked for; it may ask again. *purge*: and what waits for it is dropped."""

    peer: int
    purge: bool

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.attempt_over(self.peer, self.purge)


class ClearSource(NamedTuple):
    """Forget the local address used towards *peer*: it may be why no answer comes."""

    peer: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.clear_source(self.peer)


class StopKeepaliveTimer(NamedTuple):
    """An attempt was given up: no passive keepalive is due any more."""

    peer: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.stop_keepalive_timer(self.peer)


class ExpireSession(NamedTuple):
    """Our identity changed: the next packet starts a handshake."""

    peer: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.expire_session(self.peer)


class ZeroSessions(NamedTuple):
    """Nothing was heard of *peer* for three times a session's life: forget all keys."""

    peer: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.zero_sessions(self.peer)


# ---------------------------------------------------------------- configuration


class SetPrivateKey(NamedTuple):
    """Who the tunnel is, clamped; None for nobody. For mac1 and cookies only: sessions are not touched."""

    key: Secret | None

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.set_private_key(self.key)


class SetListenPort(NamedTuple):
    """Raises OSError (EADDRINUSE) and leaves the old sockets; then tell the interface the old port again."""

    port: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.set_listen_port(self.port)


class SetFwmark(NamedTuple):
    """The mark of what the sockets send."""

    mark: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.set_fwmark(self.mark)


class Up(NamedTuple):
    """Raises OSError (EADDRINUSE); then call `Interface.down`."""

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.up()


class Down(NamedTuple):
    """Close the sockets, drop what waits, forget all sessions."""

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.down()


class RemovePeer(NamedTuple):
    """The peer is gone, with its sessions and indices; its handle is never used again."""

    peer: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.remove_peer(self.peer)


class SetEndpoint(NamedTuple):
    """Where the peer is, by configuration."""

    peer: int
    packed: bytes
    port: int
    scope_id: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.set_endpoint(*self)


class SetKeepalive(NamedTuple):
    """The persistent keepalive; 0 for none."""

    peer: int
    interval_s: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.set_keepalive(self.peer, self.interval_s)


class SetAllowedIps(NamedTuple):
    """Prefixes that move to this peer from whoever had them; *replace*: and it keeps no others."""

    peer: int
    prefixes: list[tuple[bytes, int]]
    replace: bool

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.set_allowed_ips(self.peer, self.prefixes, self.replace)


class RemoveAllowedIps(NamedTuple):
    """Prefixes that this peer loses, where it has them."""

    peer: int
    prefixes: list[tuple[bytes, int]]

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.remove_allowed_ips(self.peer, self.prefixes)


class Flush(NamedTuple):
    """Configuring *peer* is done: send what waited for it."""

    peer: int

    def apply(self, tunnel: Tunnel) -> None:
        tunnel.flush(self.peer)


# ---------------------------------------------------------------- events, and time


class AttemptStarted(NamedTuple):
    """The first initiation of an attempt was made, because of *reason*."""

    peer: int
    reason: Reason


class Established(NamedTuple):
    """A handshake is complete on our side: the response came (initiator), or the first packet under the new keys did."""

    peer: int
    local_index: int
    initiator: bool


class GaveUp(NamedTuple):
    """An attempt ended without an answer to *initiations* messages."""

    peer: int
    initiations: int


class ClockBehind(NamedTuple):
    """The wall clock is *behind_ns* before the last timestamp sent to *peer*: it was set back. Handshakes go on regardless."""

    peer: int
    behind_ns: int


class WaitUntil(NamedTuple):
    """Nothing more to put out. Call `Interface.timeout` at this monotonic time, or with None not before the next input."""

    mono_ns: int | None


Effect = (
    Outcome
    | Authentic
    | InstallSession
    | SendHandshake
    | ReleaseIndex
    | AttemptOver
    | ClearSource
    | StopKeepaliveTimer
    | ExpireSession
    | ZeroSessions
    | SetPrivateKey
    | SetListenPort
    | SetFwmark
    | Up
    | Down
    | RemovePeer
    | SetEndpoint
    | SetKeepalive
    | SetAllowedIps
    | RemoveAllowedIps
    | Flush
)
Event = AttemptStarted | Established | GaveUp | ClockBehind
