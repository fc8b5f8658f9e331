"""
A WireGuard interface's control half: one machine without I/O for all its peers.

The engine carries packets, holds sessions and the timers that data drives, and judges mac1 and load before a handshake
message gets here. This machine makes and answers handshakes, repeats them, gives up, forgets keys, and gives
configuration its meaning.

    inputs     receive(message, source, now)           a handshake message
               session_needed(peer, reason, now)       the engine's event
               session_confirmed(peer, index, now)     the engine's event
               endpoint_changed(peer, now)             the engine's event
               timeout(now)                            the time that WaitUntil named has come
               send_failed(peer, why)                  a SendHandshake raised OSError
    commands   configure_peer, replace_peers, set_private_key, set_listen_port, set_fwmark, up, down, restore
    output     poll() -> Effect | Event | WaitUntil

After an input, poll until WaitUntil and apply each effect in order. `timeout` does a bounded part of what is due, the longest
overdue first, and then WaitUntil names a time that has passed: call it again once others had their turn. Messages and events
may come in batches before that; after a command poll at once (a peer added again must not meet its own removal). Two things
are needed while a message is made, so they are callables and not effects: `add_peer(public_key) -> handle` and
`reserve_index(handle) -> index` of the tunnel; `entropy(n)` gives jitter.

Rules, each with its test:
- A refused message is a `Drop`, counted, and leaves no other trace: everything is computed in locals and assigned at the end.
- An initiation is consumed if its timestamp is greater than all before from that peer, and 20 ms after the last one consumed.
- No initiation is sent within 5 s of the last handshake message to that peer, except by the retransmit timer. The wish is
  kept until then.
- A response is taken for the one initiation that waits for it, once. Taking it ends the waiting before the session is installed.
- A cookie reply moves neither endpoint nor timers.
- Both sides may initiate at once. The kernel then forgets its own initiation when it consumes the other's, on both sides,
  and traffic waits for a retry. Here the side with the smaller public key keeps its own, so exactly one handshake
  completes, in one round trip; towards any other peer that is as good as what the kernel does or better.
- A session counts as complete for the responder when the first packet under it arrives, not before.
- What cannot be done now (no private key, no endpoint, down) is remembered as *wanted* and done when it can.

Source: WireGuard paper 5 and 6; the kernel's noise.c, send.c, receive.c, timers.c, netlink.c.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol, assert_never

from ginnel import crypto
from ginnel.crypto import AuthenticationFailed, Secret, ZeroSecret
from ginnel.errors import PeerError
from ginnel.units import Endpoint, Now, PublicKey
from ginnel.wire import wireguard as wire
from ginnel.wireguard import noise, tai64n
from ginnel.wireguard.constants import (
    INITIATION_INTERVAL_NS,
    MAX_INITIATIONS,
    RECOVERY_SPACING_NS,
    RECOVERY_WINDOW_NS,
    REKEY_TIMEOUT_JITTER_MAX_NS,
    REKEY_TIMEOUT_NS,
    REMEMBERED_MARGIN_NS,
    ZERO_KEY_MATERIAL_TIME_NS,
)
from ginnel.wireguard.cookie import Stamps
from ginnel.wireguard.effects import (
    AttemptOver,
    AttemptStarted,
    Authentic,
    ClearSource,
    ClockBehind,
    Down,
    Effect,
    Established,
    Event,
    ExpireSession,
    Flush,
    GaveUp,
    InstallSession,
    Outcome,
    Reason,
    ReleaseIndex,
    RemoveAllowedIps,
    RemovePeer,
    SendHandshake,
    SetAllowedIps,
    SetEndpoint,
    SetFwmark,
    SetKeepalive,
    SetListenPort,
    SetPrivateKey,
    Source,
    StopKeepaliveTimer,
    Up,
    WaitUntil,
    ZeroSessions,
)
from ginnel.wireguard.peer import LONG_AGO_NS, Initiation, Peer, PeerChange, PeerView, Remembered
from ginnel.wireguard.timers import Timer, Timers

_NO_PSK: Final = Secret.zero()

#: One call of `timeout` does this much, some 5 ms: ten thousand silent peers must not hold up those that speak.
TIMERS_PER_CALL: Final = 64

#: A wall clock this far behind the last timestamp sent was set back; less is the grain, or two handshakes in one.
_CLOCK_BEHIND_NS: Final = 1_000_000_000


class Drop(enum.Enum):
    """Why a handshake message was refused. `Interface.drops` counts each."""

    MALFORMED = "type, reserved bytes or length are those of no handshake message"
    DOWN = "the interface is down"
    NO_PRIVATE_KEY = "the interface has no private key"
    NOT_FOR_US = "it was not sealed to our public key"
    LOW_ORDER = "it holds a key that gives no shared secret"
    UNKNOWN_PEER = "the sender's public key is none of our peers'"
    IMPOSTOR = "the sender does not hold the private key it claims to"
    REPLAY = "its timestamp is not greater than the last one"
    TOO_SOON = "it came within 20 ms of the last one of that peer"
    UNKNOWN_INDEX = "no handshake of ours waits under that index"
    BAD_RESPONSE = "the response does not open: another identity, or another preshared key"
    BAD_COOKIE = "the cookie reply does not open, or nothing waits for one"


class Counters(Protocol):
    """What `remembered` needs of the engine's counters of one peer."""

    @property
    def peer(self) -> int: ...
    @property
    def endpoint(self) -> tuple[bytes, int, int] | None: ...
    @property
    def last_receive_ns(self) -> int: ...


class Interface:
    """See the module."""

    __slots__ = (
        "_add_peer",
        "_by_handle",
        "_by_index",
        "_by_key",
        "_entropy",
        "_next_recovery_ns",
        "_output",
        "_private_key",
        "_public_key",
        "_reserve_index",
        "_restored",
        "_start",
        "_timers",
        "_up",
        "drops",
        "fwmark",
        "listen_port",
    )

    def __init__(
        self,
        *,
        add_peer: Callable[[bytes], int],
        reserve_index: Callable[[int], int],
        entropy: Callable[[int], bytes],
    ) -> None:
        """
        A new interface: down, without a key, without peers.

        Args:
            add_peer: of the tunnel; the handle it returns names the peer from then on.
            reserve_index: of the tunnel.
            entropy: n random bytes, for jitter; a test's are predictable.
        """
        self._add_peer = add_peer
        self._reserve_index = reserve_index
        self._entropy = entropy
        self._private_key: Secret | None = None
        self._public_key: PublicKey | None = None
        #: `noise.initial_hash` of our own key: every initiation to us starts from it.
        self._start = b""
        self._up = False
        self._by_key: dict[bytes, Peer] = {}
        self._by_handle: dict[int, Peer] = {}
        #: Index -> peer, for responses and cookie replies: at most two a peer, the waiting initiation's and the last response's.
        self._by_index: dict[int, Peer] = {}
        self._timers = Timers()
        self._output: deque[Effect | Event] = deque()
        self._restored: dict[PublicKey, Remembered] = {}
        self._next_recovery_ns = LONG_AGO_NS
        #: Refused messages by reason, all reasons from the start.
        self.drops: dict[Drop, int] = dict.fromkeys(Drop, 0)
        #: As last commanded, for `get`; the tunnel knows the port really bound.
        self.listen_port = 0
        self.fwmark = 0

    # ------------------------------------------------------------ reading

    @property
    def private_key(self) -> Secret | None:
        """Our private key, clamped; None without one."""
        return self._private_key

    @property
    def public_key(self) -> PublicKey | None:
        """Our public key; None without a private one."""
        return self._public_key

    @property
    def is_up(self) -> bool:
        """Whether `up` was called last, not `down`."""
        return self._up

    def peers(self) -> Iterable[Peer]:
        """All peers in the order in which they were added."""
        return self._by_key.values()

    def peer(self, public_key: bytes) -> Peer | None:
        """The peer with that key."""
        return self._by_key.get(public_key)

    def peer_of(self, handle: int) -> Peer | None:
        """The peer with that handle."""
        return self._by_handle.get(handle)

    def view(self, now: Now) -> Iterator[PeerView]:
        """Every peer's state and why, in the order in which they were added."""
        has_key = self._private_key is not None
        for peer in self._by_key.values():
            yield peer.view(now, up=self._up, has_key=has_key)

    def remembered(self, counters: Iterable[Counters], now: Now) -> dict[PublicKey, Remembered]:
        """
        What to write down for `restore`, for each peer that has anything worth it.

        Args:
            counters: of the tunnel, all peers.
            now: both clocks; the engine's times are monotonic ones, what is remembered is wall time.
        """
        found: dict[PublicKey, Remembered] = {}
        for counter in counters:
            peer = self._by_handle.get(counter.peer)
            if peer is None:
                continue
            heard_ns = counter.last_receive_ns
            active_ns = max(0, now.unix_ns - (now.mono_ns - heard_ns)) if heard_ns else 0
            active_ns = max(active_ns, peer.handshake_unix_ns)
            if active_ns or peer.last_timestamp_ns:
                endpoint = Endpoint(*counter.endpoint) if counter.endpoint else None
                found[peer.public_key] = Remembered(endpoint, peer.last_timestamp_ns, active_ns)
        return found

    # ------------------------------------------------------------ output

    def poll(self) -> Effect | Event | WaitUntil:
        """The next thing to do, or how long to wait."""
        if self._output:
            return self._output.popleft()
        return WaitUntil(self._timers.next_ns())

    # ------------------------------------------------------------ handshake messages

    def receive(self, message: bytes, source: Source, now: Now) -> Drop | None:
        """
        Take one handshake message that the engine let through.

        Returns:
            None when it was taken, else why not.
        """
        drop = self._receive(message, source, now)
        if drop is not None:
            self.drops[drop] += 1
        return drop

    def _receive(self, message: bytes, source: Source, now: Now) -> Drop | None:
        try:
            parsed = wire.parse(message)
        except PeerError:
            return Drop.MALFORMED
        if not self._up:
            return Drop.DOWN
        if self._private_key is None:
            return Drop.NO_PRIVATE_KEY
        match parsed:
            case wire.Initiation():
                drop, genuine = self._receive_initiation(parsed, self._private_key, source, now)
                if drop is not None:
                    self._output.append(Outcome(source, genuine))
                return drop
            case wire.Response():
                return self._receive_response(parsed, self._private_key, source, now)
            case wire.CookieReply():
                peer = self._by_index.get(parsed.receiver)
                if peer is None or peer.stamps is None:
                    return Drop.UNKNOWN_INDEX
                return None if peer.stamps.accept(parsed, now.mono_ns) else Drop.BAD_COOKIE
            case _:
                assert_never(parsed)

    def _receive_initiation(
        self, message: wire.Initiation, private_key: Secret, source: Source, now: Now
    ) -> tuple[Drop | None, bool]:
        """(why it was refused, whether it was one of our peers' and fresh all the same); the load gate hears of each one."""
        try:
            half = noise.consume_static(self._start, private_key, message.ephemeral, message.encrypted_static)
        except ZeroSecret:
            return Drop.LOW_ORDER, False
        except AuthenticationFailed:
            return Drop.NOT_FOR_US, False
        peer = self._by_key.get(half.remote_static)
        if peer is None:
            return Drop.UNKNOWN_PEER, False
        static_static = self._static_static(peer, private_key)
        if static_static is None:
            return Drop.LOW_ORDER, False
        try:
            consumed, timestamp = noise.consume_payload(half, static_static, message.encrypted_timestamp)
        except AuthenticationFailed:
            return Drop.IMPOSTOR, False
        if timestamp <= peer.latest_timestamp:
            return Drop.REPLAY, False
        mono_ns = now.mono_ns
        if mono_ns < peer.last_consumed_ns + INITIATION_INTERVAL_NS:
            return Drop.TOO_SOON, True
        try:
            keys, ephemeral, nothing = noise.create_response(consumed, peer.preshared_key or _NO_PSK, Secret.random())
        except ZeroSecret:
            return Drop.LOW_ORDER, True
        handle = peer.handle
        index = self._reserve_index(handle)
        response = wire.Response(index, message.sender, ephemeral, nothing)
        stamped = self._stamps(peer).stamp(response.build(), mono_ns)

        peer.latest_timestamp = timestamp
        peer.last_consumed_ns = mono_ns
        peer.last_sent_ns = mono_ns
        peer.has_endpoint = True
        if peer.initiation is not None and not self._keeps_own_initiation(peer):
            self._forget_initiation(peer)
        if peer.response_index is not None:
            self._unmap(peer.response_index, peer)
        peer.response_index = index
        self._by_index[index] = peer
        self._timers.arm(handle, Timer.ZERO_KEY_MATERIAL, mono_ns + ZERO_KEY_MATERIAL_TIME_NS)
        output = self._output.append
        output(Outcome(source, genuine=True))
        output(Authentic(handle, source, wire.Initiation.SIZE_BYTES))
        output(InstallSession(handle, index, message.sender, keys.responder_sends, keys.initiator_sends, initiator=False))
        output(SendHandshake(handle, stamped))
        return None, True

    def _receive_response(self, message: wire.Response, private_key: Secret, source: Source, now: Now) -> Drop | None:
        peer = self._by_index.get(message.receiver)
        if peer is None or peer.initiation is None or peer.initiation.local_index != message.receiver:
            return Drop.UNKNOWN_INDEX
        try:
            keys, _ = noise.consume_response(
                peer.initiation.noise,
                private_key,
                peer.preshared_key or _NO_PSK,
                message.ephemeral,
                message.encrypted_nothing,
            )
        except ZeroSecret:
            return Drop.LOW_ORDER
        except AuthenticationFailed:
            return Drop.BAD_RESPONSE
        # The index now belongs to the session: it stays mapped only for a late cookie reply, as the last response's would.
        if peer.response_index is not None:
            self._unmap(peer.response_index, peer)
        peer.response_index = message.receiver
        peer.initiation = None
        peer.has_endpoint = True
        handle = peer.handle
        self._timers.arm(handle, Timer.ZERO_KEY_MATERIAL, now.mono_ns + ZERO_KEY_MATERIAL_TIME_NS)
        self._output.append(Authentic(handle, source, wire.Response.SIZE_BYTES))
        self._output.append(
            InstallSession(handle, message.receiver, message.sender, keys.initiator_sends, keys.responder_sends, initiator=True)
        )
        self._complete(peer, message.receiver, now, initiator=True)
        return None

    # ------------------------------------------------------------ the engine's events

    def session_needed(self, handle: int, reason: Reason, now: Now) -> None:
        """The engine asks for a session with the peer; it will not ask again until one is installed, or AttemptOver."""
        peer = self._by_handle.get(handle)
        if peer is None:
            return
        peer.wanted = peer.wanted or reason
        self._pursue(peer, now)

    def session_confirmed(self, handle: int, index: int, now: Now) -> None:
        """The first packet under a session that we answered came in: the handshake is complete for the responder."""
        peer = self._by_handle.get(handle)
        if peer is None:
            return
        asked = peer.wanted is not None
        if peer.initiation is not None:
            self._forget_initiation(peer)
        self._complete(peer, index, now, initiator=False)
        if asked:
            self._output.append(AttemptOver(handle, purge=False))

    def endpoint_changed(self, handle: int, now: Now) -> None:
        """The engine learned a new address of the peer from an authenticated packet."""
        peer = self._by_handle.get(handle)
        if peer is not None:
            peer.has_endpoint = True
            self._pursue(peer, now)

    def send_failed(self, handle: int, why: str) -> None:
        """A SendHandshake raised OSError: *why* is its text, shown until one goes out. The retransmit timer goes on."""
        peer = self._by_handle.get(handle)
        if peer is not None:
            peer.send_error = why

    # ------------------------------------------------------------ time

    def timeout(self, now: Now) -> None:
        """Do up to `TIMERS_PER_CALL` of what is due. Calling it early or late is harmless."""
        for _ in range(TIMERS_PER_CALL):
            due = self._timers.pop_due(now.mono_ns)
            if due is None:
                return
            handle, timer = due
            peer = self._by_handle[handle]
            match timer:
                case Timer.RETRANSMIT_HANDSHAKE:
                    self._retransmit(peer, now)
                case Timer.ZERO_KEY_MATERIAL:
                    self._zero_key_material(peer)
                case Timer.THROTTLED:
                    self._pursue(peer, now)
                case Timer.RECOVERY:
                    self._recover(peer, now)
                case _:
                    assert_never(timer)

    def _retransmit(self, peer: Peer, now: Now) -> None:
        if peer.initiations < MAX_INITIATIONS:
            self._output.append(ClearSource(peer.handle))
            self._initiate(peer, now)
            return
        self._output.append(StopKeepaliveTimer(peer.handle))
        self._output.append(AttemptOver(peer.handle, purge=True))
        self._output.append(GaveUp(peer.handle, peer.initiations))
        peer.initiations = 0
        peer.wanted = None
        peer.gave_up = True
        if not self._timers.armed(peer.handle, Timer.ZERO_KEY_MATERIAL):
            self._timers.arm(peer.handle, Timer.ZERO_KEY_MATERIAL, now.mono_ns + ZERO_KEY_MATERIAL_TIME_NS)

    def _zero_key_material(self, peer: Peer) -> None:
        if peer.initiation is not None:
            self._forget_initiation(peer)
        self._output.append(ZeroSessions(peer.handle))

    def _recover(self, peer: Peer, now: Now) -> None:
        """Speak first, if that still makes sense: it was active shortly before the restart and no session was made since."""
        if peer.handshake_unix_ns == 0 and now.unix_ns < peer.recover_until_unix_ns:
            peer.wanted = peer.wanted or "restart"
            self._pursue(peer, now)
        peer.recover_until_unix_ns = 0

    # ------------------------------------------------------------ configuration of the interface

    def set_private_key(self, key: Secret | None, now: Now) -> None:
        """
        Become another identity; None or all zero for none. Setting the same key changes nothing.

        A peer with our own new key is removed. Handshakes under way are forgotten and, where one was wanted, begun anew; sessions
        expire, so the next packet of any peer starts a handshake.
        """
        key = None if key is None or key.is_zero() else key.clamp()
        if key == self._private_key:
            return
        self._private_key = key
        self._public_key = None if key is None else crypto.public_key(key)
        self._start = b"" if self._public_key is None else noise.initial_hash(self._public_key)
        self._output.append(SetPrivateKey(key))
        if self._public_key is not None and (ourselves := self._by_key.get(self._public_key)) is not None:
            self._remove(ourselves)
        for peer in self._by_key.values():
            if peer.initiation is not None:
                self._forget_initiation(peer)
            peer.static_static = None
            peer.unusable = False
            self._reset_attempt(peer)
            self._output.append(ExpireSession(peer.handle))
            if peer.wanted is not None and key is not None:
                self._timers.arm(peer.handle, Timer.THROTTLED, now.mono_ns)
        self.timeout(now)  # the first of them at once, thousands in turns

    def set_listen_port(self, port: int) -> None:
        """Listen there; 0 for any. The effect may fail: see `SetListenPort`."""
        self.listen_port = port
        self._output.append(SetListenPort(port))

    def set_fwmark(self, mark: int) -> None:
        """Mark what the sockets send; 0 for no mark."""
        self.fwmark = mark
        self._output.append(SetFwmark(mark))

    def up(self, now: Now) -> None:
        """Open the sockets and begin. The effect may fail: see `Up`."""
        if self._up:
            return
        self._up = True
        self._output.append(Up())
        for peer in self._by_key.values():
            self._schedule_recovery(peer, now)

    def down(self) -> None:
        """Close the sockets; forget handshakes, sessions, wishes and the 5 s limit. Configuration and timestamps stay."""
        if not self._up:
            return
        self._up = False
        for peer in self._by_key.values():
            if peer.initiation is not None:
                self._forget_initiation(peer)
            self._timers.cancel_all(peer.handle)
            self._reset_attempt(peer)
            peer.wanted = None
            peer.gave_up = False
        self._output.append(Down())

    # ------------------------------------------------------------ configuration of peers

    def configure_peer(self, change: PeerChange, now: Now) -> Peer | None:
        """
        Add, change or remove one peer.

        Removing or only-updating a peer that does not exist does nothing, and so does adding our own public key: none is
        an error.

        Returns:
            The peer, or None when there is none (any more).
        """
        peer = self._by_key.get(change.public_key)
        if change.remove:
            if peer is not None:
                self._remove(peer)
            return None
        if peer is None:
            if change.update_only or change.public_key == self._public_key:
                return None
            peer = self._add(change.public_key, now)
        handle = peer.handle
        output = self._output.append
        if change.preshared_key is not None:
            peer.preshared_key = None if change.preshared_key.is_zero() else change.preshared_key
        if change.endpoint is not None:
            output(SetEndpoint(handle, *change.endpoint))
            peer.has_endpoint = True
        if change.replace_allowed_ips or change.allowed_ips:
            output(SetAllowedIps(handle, list(change.allowed_ips), change.replace_allowed_ips))
        if change.removed_allowed_ips:
            output(RemoveAllowedIps(handle, list(change.removed_allowed_ips)))
        if change.persistent_keepalive_s is not None:
            peer.keepalive_s = change.persistent_keepalive_s
            output(SetKeepalive(handle, change.persistent_keepalive_s))
        output(Flush(handle))
        if self._up:
            self._schedule_recovery(peer, now)
            self._pursue(peer, now)
        return peer

    def replace_peers(self) -> None:
        """Remove every peer."""
        for peer in list(self._by_key.values()):
            self._remove(peer)

    def restore(self, remembered: Mapping[PublicKey, Remembered], now: Now) -> None:
        """
        Take up what was remembered before a restart, for peers that are there and for those that are added later.

        A configured endpoint counts more than a remembered one. Peers that were active within 180 s are spoken to first, once
        they are configured and the interface is up, 200 per second.
        """
        self._restored = dict(remembered)
        for peer in self._by_key.values():
            self._take_up(peer, now)
            if self._up:
                self._schedule_recovery(peer, now)

    # ------------------------------------------------------------ handshakes under way

    def _pursue(self, peer: Peer, now: Now) -> None:
        """Begin an attempt if one is wanted, possible and not under way; else leave the wish for what makes it possible."""
        if peer.wanted is None or not self._up or self._private_key is None or not peer.has_endpoint or peer.initiations:
            return
        allowed_ns = peer.last_sent_ns + REKEY_TIMEOUT_NS
        if now.mono_ns >= allowed_ns:
            self._initiate(peer, now)
        elif peer.handshake_mono_ns >= peer.last_sent_ns:
            # A session was made after the engine asked, or it would not be so soon; if it still needs one it asks again.
            peer.wanted = None
            self._output.append(AttemptOver(peer.handle, purge=False))
        else:
            self._timers.arm(peer.handle, Timer.THROTTLED, allowed_ns)

    def _initiate(self, peer: Peer, now: Now) -> None:
        """Send an initiation, the attempt's first or another, and arm the retransmit timer."""
        private_key, public_key = self._private_key, self._public_key
        if private_key is None or public_key is None:
            raise AssertionError("an attempt without a private key: set_private_key ends them all")
        handle = peer.handle
        zero_ns = self._timers.deadline(handle, Timer.ZERO_KEY_MATERIAL)
        if zero_ns is not None and zero_ns <= now.mono_ns:
            # Overdue, as after a suspend when the packet is seen before the timers: later it would forget this handshake.
            self._timers.cancel(handle, Timer.ZERO_KEY_MATERIAL)
            self._zero_key_material(peer)
        static_static = self._static_static(peer, private_key)
        if static_static is None:
            return
        timestamp_ns = tai64n.next_after(peer.last_timestamp_ns, now.unix_ns)
        ephemeral = Secret.random()
        try:
            initiated, ephemeral_public, encrypted_static, encrypted_timestamp = noise.create_initiation(
                noise.initial_hash(peer.public_key),
                public_key,
                peer.public_key,
                static_static,
                tai64n.encode(timestamp_ns),
                ephemeral,
            )
        except ZeroSecret:
            peer.unusable = True
            return
        index = self._reserve_index(handle)
        message = wire.Initiation(index, ephemeral_public, encrypted_static, encrypted_timestamp)
        stamped = self._stamps(peer).stamp(message.build(), now.mono_ns)

        if peer.initiation is not None:
            self._forget_initiation(peer)
        peer.initiation = Initiation(index, initiated)
        self._by_index[index] = peer
        peer.initiations += 1
        peer.last_sent_ns = now.mono_ns
        peer.last_timestamp_ns = timestamp_ns
        peer.send_error = ""
        self._timers.arm(handle, Timer.RETRANSMIT_HANDSHAKE, now.mono_ns + REKEY_TIMEOUT_NS + self._jitter_ns())
        if peer.initiations == 1:
            self._output.append(AttemptStarted(handle, peer.wanted or "packets"))
            if timestamp_ns - now.unix_ns > _CLOCK_BEHIND_NS:
                self._output.append(ClockBehind(handle, timestamp_ns - now.unix_ns))
        self._output.append(SendHandshake(handle, stamped))

    def _complete(self, peer: Peer, local_index: int, now: Now, *, initiator: bool) -> None:
        """A handshake is complete on our side: nothing is wanted any more."""
        self._timers.cancel(peer.handle, Timer.RETRANSMIT_HANDSHAKE)
        self._timers.cancel(peer.handle, Timer.THROTTLED)
        peer.initiations = 0
        peer.wanted = None
        peer.gave_up = False
        peer.send_error = ""
        peer.handshake_mono_ns = now.mono_ns
        peer.handshake_unix_ns = now.unix_ns
        self._output.append(Established(peer.handle, local_index, initiator))

    def _reset_attempt(self, peer: Peer) -> None:
        """No attempt is under way, and none is too soon."""
        self._timers.cancel(peer.handle, Timer.RETRANSMIT_HANDSHAKE)
        self._timers.cancel(peer.handle, Timer.THROTTLED)
        peer.initiations = 0
        peer.last_sent_ns = LONG_AGO_NS
        peer.send_error = ""

    def _forget_initiation(self, peer: Peer) -> None:
        """Stop waiting for a response; the ephemeral key is zeroed as its last reference drops."""
        if peer.initiation is not None:
            self._unmap(peer.initiation.local_index, peer)
            self._output.append(ReleaseIndex(peer.initiation.local_index))
            peer.initiation = None

    def _keeps_own_initiation(self, peer: Peer) -> bool:
        return self._public_key is not None and self._public_key < peer.public_key

    def _unmap(self, index: int, peer: Peer) -> None:
        # The engine may have given the index to another peer since, once the session that had it was gone.
        if self._by_index.get(index) is peer:
            del self._by_index[index]

    def _static_static(self, peer: Peer, private_key: Secret) -> Secret | None:
        """The DH of both static keys, kept; None when it is zero: then the peer can never be spoken to."""
        if peer.static_static is None and not peer.unusable:
            try:
                peer.static_static = crypto.dh(private_key, peer.public_key)
            except ZeroSecret:
                peer.unusable = True
        return peer.static_static

    def _stamps(self, peer: Peer) -> Stamps:
        if peer.stamps is None:
            peer.stamps = Stamps(peer.public_key)
        return peer.stamps

    def _jitter_ns(self) -> int:
        return int.from_bytes(self._entropy(4), "little") * (REKEY_TIMEOUT_JITTER_MAX_NS + 1) >> 32

    # ------------------------------------------------------------ peers come and go

    def _add(self, public_key: PublicKey, now: Now) -> Peer:
        peer = Peer(self._add_peer(public_key), public_key)
        self._by_key[public_key] = peer
        self._by_handle[peer.handle] = peer
        self._take_up(peer, now)
        return peer

    def _remove(self, peer: Peer) -> None:
        if peer.initiation is not None:
            self._forget_initiation(peer)
        if peer.response_index is not None:
            self._unmap(peer.response_index, peer)
        self._timers.cancel_all(peer.handle)
        del self._by_key[peer.public_key]
        del self._by_handle[peer.handle]
        self._output.append(RemovePeer(peer.handle))

    def _take_up(self, peer: Peer, now: Now) -> None:
        remembered = self._restored.pop(peer.public_key, None)
        if remembered is None:
            return
        last_ns = remembered.last_timestamp_ns
        if last_ns > now.unix_ns:
            # The clock was set back. What was written down may be as old as the attempt that was then under way.
            last_ns += REMEMBERED_MARGIN_NS
        peer.last_timestamp_ns = max(peer.last_timestamp_ns, last_ns)
        if remembered.last_active_unix_ns:
            peer.recover_until_unix_ns = remembered.last_active_unix_ns + RECOVERY_WINDOW_NS
        if remembered.endpoint is not None and not peer.has_endpoint:
            self._output.append(SetEndpoint(peer.handle, *remembered.endpoint))
            peer.has_endpoint = True

    def _schedule_recovery(self, peer: Peer, now: Now) -> None:
        if now.unix_ns < peer.recover_until_unix_ns and not self._timers.armed(peer.handle, Timer.RECOVERY):
            at_ns = max(now.mono_ns, self._next_recovery_ns)
            self._next_recovery_ns = at_ns + RECOVERY_SPACING_NS
            self._timers.arm(peer.handle, Timer.RECOVERY, at_ns)
