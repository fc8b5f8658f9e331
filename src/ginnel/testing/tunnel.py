"""
A model of the engine's tunnel in a few hundred lines: what a WireGuard peer does with packets, as simply as it can be said.

It has the methods of the native tunnel that the machines drive, takes time as an argument, and reports events as the
engine does: handshake messages that passed mac1 (and the load gate, when `under_load`), a session is needed, a session
was confirmed, an endpoint moved. Data is really sealed and opened, so a test that delivers a payload has proved that both
sides hold the same keys.

What it keeps of the protocol: three sessions a peer and their rotation; rekeying by age; the replay window; the three
timers that data drives (send_keepalive, new_handshake, persistent_keepalive); roaming; staging. What it leaves out:
prefixes (a packet names its peer), padding, batching, counters beyond what tests read.

It also watches: a key that is installed twice, anywhere among the tunnels that share one `keys` set, is an AssertionError.

Source: WireGuard paper 5 and 6; the kernel's timers.c, receive.c, send.c.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ginnel import crypto
from ginnel.crypto import Secret
from ginnel.units import NS_PER_S, Endpoint
from ginnel.wire import wireguard as wire
from ginnel.wireguard import constants, cookie
from ginnel.wireguard.effects import Reason

DATA_TYPE: Final = 4
_HEADER_SIZE_BYTES: Final = 16
_WINDOW: Final = 8128


class HandshakeReceived(NamedTuple):
    """As the native event of that name."""

    message: bytes
    source: Endpoint


class SessionNeeded(NamedTuple):
    """As the native event of that name."""

    peer: int
    reason: Reason


class SessionConfirmed(NamedTuple):
    """As the native event of that name."""

    peer: int
    local_index: int


class EndpointChanged(NamedTuple):
    """As the native event of that name."""

    peer: int


TunnelEvent = HandshakeReceived | SessionNeeded | SessionConfirmed | EndpointChanged


class FakeCounters(NamedTuple):
    """The part of the native `PeerCounters` that machines read."""

    peer: int
    endpoint: tuple[bytes, int, int] | None
    last_receive_ns: int


@dataclass(slots=True)
class Session:
    """One session's keys and what was done with them."""

    local_index: int
    remote_index: int
    send: Secret
    receive: Secret
    initiator: bool
    born_ns: int
    counter: int = 0
    greatest: int = -1
    seen: set[int] = field(default_factory=set)
    asked_on_receive: bool = False
    usable: bool = True

    def alive(self, now_ns: int) -> bool:
        """Whether it may still receive."""
        return now_ns < self.born_ns + constants.REJECT_AFTER_TIME_NS

    def may_send(self, now_ns: int) -> bool:
        """Whether it may still send."""
        return self.usable and self.alive(now_ns) and self.counter < constants.REJECT_AFTER_MESSAGES

    def fresh(self, counter: int) -> bool:
        """Whether *counter* is new; marks it."""
        if counter in self.seen or counter + _WINDOW <= self.greatest:
            return False
        self.seen.add(counter)
        self.greatest = max(self.greatest, counter)
        return True


@dataclass(slots=True)
class FakePeer:
    """One peer of the model."""

    handle: int
    public_key: bytes
    endpoint: Endpoint | None = None
    keepalive_s: int = 0
    prefixes: set[tuple[bytes, int]] = field(default_factory=set)
    staged: deque[bytes] = field(default_factory=deque)
    #: previous, current, next
    previous: Session | None = None
    current: Session | None = None
    next: Session | None = None
    asked: bool = False
    last_receive_ns: int = 0
    # Deadlines of the three timers, 0 = not armed.
    send_keepalive_ns: int = 0
    need_another_keepalive: bool = False
    new_handshake_ns: int = 0
    persistent_ns: int = 0

    def sessions(self) -> list[Session]:
        """Those that there are."""
        return [session for session in (self.previous, self.current, self.next) if session is not None]


class FakeTunnel:
    """See the module. *transmit* sends a datagram to an endpoint; *mono_ns* reads the clock for calls that carry no time."""

    def __init__(
        self, *, seed: int, mono_ns: Callable[[], int], transmit: Callable[[Endpoint, bytes], None], keys: set[str]
    ) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a simulation's chance, not a key's
        self._now = mono_ns
        self._transmit = transmit
        self._keys = keys
        self._last_handle = 0
        self._public_key: bytes | None = None
        self._mac1_key = b""
        self._cookie_secret = self._random.randbytes(32)
        self.is_up = False
        self.listen_port = 0
        self.fwmark = 0
        #: Answer handshake messages without a good mac2 by a cookie, as under load.
        self.under_load = False
        self.peers: dict[int, FakePeer] = {}
        #: Every live index and whose it is.
        self.indices: dict[int, int] = {}
        self.events: deque[TunnelEvent] = deque()
        self.delivered: list[tuple[int, bytes]] = []
        self.outcomes: list[bool] = []
        #: The names of the methods called, in order, with the peer where there is one.
        self.sources_cleared = 0
        self.cookies_issued = 0
        self.handshakes_sent: list[tuple[int, int]] = []

    # ------------------------------------------------------------ interface

    def up(self) -> None:
        """Open; peers with a keepalive speak at once."""
        self.is_up = True
        for peer in self.peers.values():
            if peer.keepalive_s:
                self._send_keepalive(peer, "keepalive")

    def down(self) -> None:
        """Close, forget sessions, staged packets and timers."""
        self.is_up = False
        for peer in self.peers.values():
            peer.staged.clear()
            peer.asked = False
            peer.send_keepalive_ns = peer.new_handshake_ns = peer.persistent_ns = 0
            peer.need_another_keepalive = False
            self.zero_sessions(peer.handle)

    def set_private_key(self, key: Secret | None) -> None:
        """For mac1 and cookies."""
        self._public_key = None if key is None else crypto.public_key(key)
        self._mac1_key = b"" if self._public_key is None else cookie.mac1_key(self._public_key)

    def set_listen_port(self, port: int) -> None:
        """Remembered."""
        self.listen_port = port

    def set_fwmark(self, mark: int) -> None:
        """Remembered."""
        self.fwmark = mark

    # ------------------------------------------------------------ peers

    def add_peer(self, public_key: bytes) -> int:
        """A new handle."""
        assert all(peer.public_key != public_key for peer in self.peers.values()), "the peer is already there"
        self._last_handle += 1
        self.peers[self._last_handle] = FakePeer(self._last_handle, public_key)
        return self._last_handle

    def remove_peer(self, peer: int) -> None:
        """Gone, with its indices."""
        self.zero_sessions(peer)
        del self.peers[peer]
        self.indices = {index: owner for index, owner in self.indices.items() if owner != peer}

    def set_endpoint(self, peer: int, packed: bytes, port: int, scope_id: int = 0) -> None:
        """Where to send."""
        self.peers[peer].endpoint = Endpoint(packed, port, scope_id)

    def set_keepalive(self, peer: int, interval_s: int) -> None:
        """Turned on while up: one is sent at once."""
        found = self.peers[peer]
        before, found.keepalive_s = found.keepalive_s, interval_s
        if not interval_s:
            found.persistent_ns = 0
        elif not before and self.is_up:
            self._send_keepalive(found, "keepalive")

    def set_allowed_ips(self, peer: int, prefixes: list[tuple[bytes, int]], replace: bool) -> None:
        """Each prefix moves here."""
        for other in self.peers.values():
            other.prefixes -= set(prefixes)
        if replace:
            self.peers[peer].prefixes.clear()
        self.peers[peer].prefixes |= set(prefixes)

    def remove_allowed_ips(self, peer: int, prefixes: list[tuple[bytes, int]]) -> None:
        """Taken away where held."""
        self.peers[peer].prefixes -= set(prefixes)

    def flush(self, peer: int) -> None:
        """Send what waits."""
        if self.is_up and self.peers[peer].staged:
            self._send_staged(self.peers[peer])

    # ------------------------------------------------------------ sessions

    def reserve_index(self, peer: int) -> int:
        """A random index that is not in use."""
        self.peers[peer]
        while (index := self._random.getrandbits(32)) in self.indices:
            pass
        self.indices[index] = peer
        return index

    def release_index(self, index: int) -> None:
        """Unless it became a session's."""
        owner = self.peers.get(self.indices.get(index, 0))
        if owner is None or all(session.local_index != index for session in owner.sessions()):
            self.indices.pop(index, None)

    def install_session(
        self, peer: int, local_index: int, remote_index: int, send: Secret, receive: Secret, initiator: bool
    ) -> None:
        """Rotate as the kernel's add_new_keypair does."""
        assert self.indices[local_index] == peer, "the session's index is not the peer's"
        for role, key in (("send", send), ("receive", receive)):
            name = f"{role} {key.reveal_hex()}"
            assert name not in self._keys, "a key was installed twice"
            self._keys.add(name)
        found = self.peers[peer]
        session = Session(local_index, remote_index, send, receive, initiator, self._now())
        found.asked = False
        if initiator:
            self._retire(found.previous)
            if found.next is not None:
                self._retire(found.current)
                found.previous, found.next = found.next, None
            else:
                found.previous = found.current
            found.current = session
            if found.staged:
                self._send_staged(found)
            else:
                self._send_keepalive(found, "packets")
        else:
            self._retire(found.next)
            self._retire(found.previous)
            found.previous, found.next = None, session

    def send_handshake(self, peer: int, message: bytes) -> None:
        """To the endpoint; counts as authenticated traversal."""
        found = self.peers[peer]
        if found.endpoint is None:
            raise OSError(89, "Destination address required")
        self.handshakes_sent.append((self._now(), message[0]))
        self._any_sent(found)
        self._transmit(found.endpoint, message)

    def handshake_received(self, peer: int, source: Endpoint, size_bytes: int) -> None:
        """Roam, and count as an authenticated receive."""
        assert size_bytes in {wire.Initiation.SIZE_BYTES, wire.Response.SIZE_BYTES}
        self._any_received(self.peers[peer], source)

    def handshake_outcome(self, _source: Endpoint, genuine: bool) -> None:
        """Kept for tests to read."""
        self.outcomes.append(genuine)

    def attempt_over(self, peer: int, purge: bool) -> None:
        """It may be asked again."""
        found = self.peers[peer]
        found.asked = False
        if purge:
            found.staged.clear()

    def clear_source(self, peer: int) -> None:
        """Counted."""
        self.peers[peer]
        self.sources_cleared += 1

    def stop_keepalive_timer(self, peer: int) -> None:
        """No passive keepalive is due."""
        self.peers[peer].send_keepalive_ns = 0

    def expire_session(self, peer: int) -> None:
        """Nothing is sent under the old keys any more."""
        for session in (self.peers[peer].current, self.peers[peer].next):
            if session is not None:
                session.usable = False

    def zero_sessions(self, peer: int) -> None:
        """Forget all keys of the peer."""
        found = self.peers[peer]
        for session in found.sessions():
            self._retire(session)
        found.previous = found.current = found.next = None

    def counters(self) -> list[FakeCounters]:
        """All peers."""
        return [FakeCounters(p.handle, p.endpoint, p.last_receive_ns) for p in self.peers.values()]

    # ------------------------------------------------------------ packets and time

    def send(self, peer: int, payload: bytes) -> None:
        """A packet for *peer* came from the device; staged, the oldest dropped when too many wait."""
        found = self.peers[peer]
        if not self.is_up or found.endpoint is None:
            return
        if len(found.staged) == constants.MAX_STAGED_PACKETS:
            found.staged.popleft()
        found.staged.append(payload)
        self._send_staged(found)

    def receive(self, datagram: bytes, source: Endpoint) -> None:
        """A datagram arrived."""
        if not self.is_up or len(datagram) < 4:
            return
        match int.from_bytes(datagram[:4], "little"):
            case 1 if len(datagram) == wire.Initiation.SIZE_BYTES:
                if self._gate(datagram, source):
                    self.events.append(HandshakeReceived(datagram, source))
            case 2 if len(datagram) == wire.Response.SIZE_BYTES:
                if int.from_bytes(datagram[8:12], "little") in self.indices and self._gate(datagram, source):
                    self.events.append(HandshakeReceived(datagram, source))
            case 3 if len(datagram) == wire.CookieReply.SIZE_BYTES:
                if int.from_bytes(datagram[4:8], "little") in self.indices:
                    self.events.append(HandshakeReceived(datagram, source))
            case 4 if len(datagram) >= _HEADER_SIZE_BYTES + wire.TAG_SIZE_BYTES:
                self._receive_data(datagram, source)

    def next_ns(self) -> int | None:
        """The earliest deadline of the data timers."""
        deadlines = [
            at_ns
            for peer in self.peers.values()
            for at_ns in (peer.send_keepalive_ns, peer.new_handshake_ns, peer.persistent_ns)
            if at_ns
        ]
        return min(deadlines, default=None)

    def timeout(self) -> None:
        """Do what is due."""
        now_ns = self._now()
        for peer in self.peers.values():
            if 0 < peer.new_handshake_ns <= now_ns:
                peer.new_handshake_ns = 0
                self._ask(peer, "silent")
            if 0 < peer.send_keepalive_ns <= now_ns:
                peer.send_keepalive_ns = 0
                self._send_keepalive(peer, "keepalive")
                if peer.need_another_keepalive:
                    peer.need_another_keepalive = False
                    peer.send_keepalive_ns = now_ns + constants.KEEPALIVE_TIMEOUT_NS
            if 0 < peer.persistent_ns <= now_ns:
                peer.persistent_ns = now_ns + peer.keepalive_s * NS_PER_S
                self._send_keepalive(peer, "keepalive")

    # ------------------------------------------------------------ inside

    def _gate(self, datagram: bytes, source: Endpoint) -> bool:
        if not self._mac1_key or not cookie.mac1_valid(self._mac1_key, datagram):
            return False
        if not self.under_load:
            return True
        macs = len(datagram) - wire.MACS_SIZE_BYTES
        mac1, mac2 = datagram[macs : macs + 16], datagram[macs + 16 :]
        wanted = crypto.mac(self._cookie_secret, source.packed, source.port.to_bytes(2, "big"))
        if crypto.mac(wanted, datagram[: macs + 16]) == mac2:
            return True
        nonce = self._random.randbytes(wire.NONCE_SIZE_BYTES)
        sealed = crypto.xaead_seal(cookie.cookie_key(self._public_key or b""), nonce, wanted, mac1)
        self.cookies_issued += 1
        sender = int.from_bytes(datagram[4:8], "little")
        self._transmit(source, wire.CookieReply(sender, nonce, sealed).build())
        return False

    def rotate_cookie_secret(self) -> None:
        """Cookies given out so far are worth nothing."""
        self._cookie_secret = self._random.randbytes(32)

    def _receive_data(self, datagram: bytes, source: Endpoint) -> None:
        index, counter = int.from_bytes(datagram[4:8], "little"), int.from_bytes(datagram[8:16], "little")
        peer = self.peers.get(self.indices.get(index, 0))
        session = next((s for s in peer.sessions() if s.local_index == index), None) if peer else None
        now_ns = self._now()
        if peer is None or session is None or not session.alive(now_ns) or counter >= constants.REJECT_AFTER_MESSAGES:
            return
        try:
            payload = crypto.aead_open(session.receive, counter, datagram[_HEADER_SIZE_BYTES:], b"")
        except crypto.AuthenticationFailed:
            return
        if not session.fresh(counter):
            return
        if session is peer.next:
            self._retire(peer.previous)
            peer.previous, peer.current, peer.next = peer.current, session, None
            self.events.append(SessionConfirmed(peer.handle, index))
        self._any_received(peer, source)
        if peer.staged:
            self._send_staged(peer)
        old_ns = session.born_ns + constants.REKEY_ON_RECEIVE_TIME_NS
        if session is peer.current and session.initiator and not session.asked_on_receive and now_ns >= old_ns:
            session.asked_on_receive = True
            self._ask(peer, "ageing")
        if payload:
            self.delivered.append((peer.handle, payload))
            if peer.send_keepalive_ns:
                peer.need_another_keepalive = True
            else:
                peer.send_keepalive_ns = now_ns + constants.KEEPALIVE_TIMEOUT_NS

    def _send_staged(self, peer: FakePeer) -> None:
        now_ns = self._now()
        session = peer.current
        if session is None or not session.may_send(now_ns):
            self._ask(peer, "packets")
            return
        while peer.staged:
            self._seal(peer, session, peer.staged.popleft())
            if not peer.new_handshake_ns:
                peer.new_handshake_ns = now_ns + constants.NEW_HANDSHAKE_TIME_NS + self._jitter_ns()
        self._keep_fresh(peer, session)

    def _send_keepalive(self, peer: FakePeer, reason: Reason) -> None:
        if peer.endpoint is None:
            return
        if peer.staged:
            self._send_staged(peer)
            return
        session = peer.current
        if session is None or not session.may_send(self._now()):
            self._ask(peer, reason)
            return
        self._seal(peer, session, b"")
        self._keep_fresh(peer, session)

    def _keep_fresh(self, peer: FakePeer, session: Session) -> None:
        old = session.initiator and self._now() >= session.born_ns + constants.REKEY_AFTER_TIME_NS
        if old or session.counter > constants.REKEY_AFTER_MESSAGES:
            self._ask(peer, "ageing")

    def _seal(self, peer: FakePeer, session: Session, payload: bytes) -> None:
        assert peer.endpoint is not None
        header = b"".join(
            (DATA_TYPE.to_bytes(4, "little"), session.remote_index.to_bytes(4, "little"), session.counter.to_bytes(8, "little"))
        )
        sealed = crypto.aead_seal(session.send, session.counter, payload, b"")
        session.counter += 1
        self._any_sent(peer)
        self._transmit(peer.endpoint, header + sealed)

    def _ask(self, peer: FakePeer, reason: Reason) -> None:
        if not peer.asked:
            peer.asked = True
            self.events.append(SessionNeeded(peer.handle, reason))

    def _any_sent(self, peer: FakePeer) -> None:
        peer.send_keepalive_ns = 0
        self._traversal(peer)

    def _any_received(self, peer: FakePeer, source: Endpoint) -> None:
        peer.new_handshake_ns = 0
        peer.last_receive_ns = self._now()
        if peer.endpoint != source:
            peer.endpoint = source
            self.events.append(EndpointChanged(peer.handle))
        self._traversal(peer)

    def _traversal(self, peer: FakePeer) -> None:
        if peer.keepalive_s:
            peer.persistent_ns = self._now() + peer.keepalive_s * NS_PER_S

    def _retire(self, session: Session | None) -> None:
        if session is not None:
            self.indices.pop(session.local_index, None)

    def _jitter_ns(self) -> int:
        return self._random.randrange(constants.REKEY_TIMEOUT_JITTER_MAX_NS + 1)
