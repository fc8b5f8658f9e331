"""
Strangers: whoever sends IKE_SA_INIT, or anything to an IKE SA that we do not have.

An answer to IKE_SA_INIT costs a Diffie-Hellman result and memory, so from `COOKIES_FROM` half-open SAs on (or
`COOKIES_FROM_SOURCE` of one address) a cookie is asked for first; the table is bounded, and so is each address's share in it.
Whatever else is answered to strangers goes through a token bucket, and so does what is told to our people of them.

Source: RFC 7296 2.5, 2.6, 2.21; strongSwan's figures for half-open SAs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from ginnel.errors import PeerError
from ginnel.ikev2 import explain, init
from ginnel.ikev2.content import Content
from ginnel.ikev2.context import Context
from ginnel.ikev2.cookies import COOKIES_FROM, Cookies
from ginnel.ikev2.drops import Drop
from ginnel.ikev2.effects import Path, Send
from ginnel.ikev2.limit import Bucket
from ginnel.ikev2.sa import Home, IkeSa
from ginnel.ikev2.timers import Timer
from ginnel.ikev2.tunnel import Tunnel
from ginnel.units import NS_PER_S, Now
from ginnel.wire.ikev2 import (
    Header,
    Message,
    Notify,
    NotifyType,
    Payload,
    UnsupportedCriticalPayload,
    build,
    cookie_and_nonce,
    parse,
)

#: SAs that we answer and that have not authenticated: this many, or twice as many as there are connections.
HALF_OPEN_MAX: Final = 1_024
#: Of one address without a cookie, and with one (a site behind a NAT); a configured peer may have as many more as connections
#: name it.
COOKIES_FROM_SOURCE: Final = 8
HALF_OPEN_PER_SOURCE: Final = 64
#: strongSwan's half_open_timeout; when the table is half full, less for whoever is no configured peer.
HALF_OPEN_NS: Final = 30 * NS_PER_S
HALF_OPEN_PRESSED_NS: Final = 5 * NS_PER_S
#: Of an IKE_SA_INIT request, which is kept until it is authenticated: several times what the largest groups and lists take.
REQUEST_MAX_BYTES: Final = 8_192
#: What is answered to strangers besides: a second, and at once.
STRANGERS_PER_S: Final = 100
STRANGERS_BURST: Final = 200
#: Refusals of strangers that are told to our people.
TOLD_PER_S: Final = 5
TOLD_BURST: Final = 20


class Strangers:
    """
    The door. candidates: whom a message on a path may mean. named: how many connections name that address (None: how many there
    are).
    """

    def __init__(
        self,
        ctx: Context,
        home: Home,
        candidates: Callable[[Path], Iterator[Tunnel]],
        named: Callable[[bytes | None], int],
    ) -> None:
        self._ctx = ctx
        self._home = home
        self._candidates = candidates
        self._named = named
        self._cookies = Cookies(ctx)
        #: By the initiator's address, port and SPI.
        self._half_open: dict[tuple[bytes, int, bytes], IkeSa] = {}
        self._half_open_of: Counter[bytes] = Counter()
        #: Whoever writes with a configured address has a bucket of its own, which others cannot empty.
        self._strangers = Bucket(STRANGERS_PER_S, STRANGERS_BURST)
        self._configured = Bucket(STRANGERS_PER_S, STRANGERS_BURST)
        #: So have hints: a peer's ESP that we do not know must not use up the answers that prove why.
        self._hints = Bucket(STRANGERS_PER_S, STRANGERS_BURST)
        self._told = Bucket(TOLD_PER_S, TOLD_BURST)

    @property
    def half_open(self) -> int:
        """IKE SAs that we answered and that have not authenticated."""
        return len(self._half_open)

    def may_speak(self, remote: bytes, now: Now) -> bool:
        """Whether one more message may go out to somebody there whom we do not know."""
        return (self._configured if self._named(remote) else self._strangers).take(now.mono_ns)

    def may_hint(self, now: Now) -> bool:
        """Whether one more may be told that we do not know its ESP."""
        return self._hints.take(now.mono_ns)

    def other_version(self, header: Header, path: Path, now: Now) -> None:
        self._ctx.drop("", Drop.VERSION)
        if header.major > 2:
            if not header.response:
                self.answer(header, path, (Notify(NotifyType.INVALID_MAJOR_VERSION),), now)
            return
        tunnel = next(self._candidates(path), None)
        if tunnel is not None and self._told.take(now.mono_ns):
            tunnel.tell("us", "unsupported", explain.unsupported("ikev1"), now)

    def answer(self, header: Header, path: Path, payloads: tuple[Payload, ...], now: Now) -> None:
        """In the open, bounded, and never longer than what asked by much."""
        if not self.may_speak(path.remote, now):
            self._ctx.drop("", Drop.RATE_LIMIT)
            return
        answered = replace(header, initiator=not header.initiator, response=True, major=2, minor=0)
        self._ctx.emit(Send("", build(Message(answered, payloads)), path))

    def request(self, data: bytes, header: Header, path: Path, now: Now) -> None:
        """IKE_SA_INIT."""
        key = (path.remote, path.remote_port, header.spi_i)
        known = self._half_open.get(key)
        if known is not None:
            kept = known.window.kept_answer(data)
            for datagram in kept or ():
                self._ctx.emit(Send("", datagram, path))
            self._ctx.drop("", Drop.REPEATED if kept is not None else Drop.MESSAGE_ID)
            return
        if not header.initiator or header.message_id or header.spi_i == init.NO_SPI or len(data) > REQUEST_MAX_BYTES:
            self._ctx.drop("", Drop.MALFORMED)
            return
        candidates = list(self._candidates(path))
        if not candidates:
            self._ctx.drop("", Drop.UNKNOWN_PEER)
            self.answer(header, path, (Notify(NotifyType.NO_PROPOSAL_CHOSEN),), now)
            return
        if not self._admitted(data, header, path, now):
            return
        try:
            message = parse(data)
            content = Content(message.payloads)
        except UnsupportedCriticalPayload as mistake:
            self._ctx.drop("", Drop.MALFORMED)
            told = Notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, bytes((mistake.kind,)))
            self.answer(header, path, (told,), now)
            return
        except PeerError:
            self._ctx.drop("", Drop.MALFORMED)
            self.answer(header, path, (Notify(NotifyType.INVALID_SYNTAX),), now)
            return
        connections = [one.connection for one in candidates]
        answered = init.answer(self._ctx, self._home, connections, data, message, content, path, now)
        if isinstance(answered, IkeSa):
            self._keep(key, answered, now)
            return
        told, reason, lines = answered
        self.answer(header, path, (told,), now)
        if lines and self._told.take(now.mono_ns):
            candidates[0].tell("us", reason, lines, now)

    def _admitted(self, data: bytes, header: Header, path: Path, now: Now) -> bool:
        """Whether it may cost us a Diffie-Hellman result and memory, or even a look at what it offers: limits and cookies."""
        source = path.remote
        named = self._named(source)
        mine = self._half_open_of[source]
        if len(self._half_open) >= COOKIES_FROM or mine >= COOKIES_FROM_SOURCE:
            try:
                cookie, nonce = cookie_and_nonce(data)
            except PeerError:
                nonce = None
            if nonce is None:
                self._ctx.drop("", Drop.MALFORMED)
                return False
            if cookie is None or not self._cookies.genuine(cookie, nonce, path, header.spi_i, now.mono_ns):
                self._ctx.drop("", Drop.COOKIE)
                made = self._cookies.make(nonce, path, header.spi_i, now.mono_ns)
                answered = replace(header, initiator=False, response=True)
                self._ctx.emit(Send("", build(Message(answered, (Notify(NotifyType.COOKIE, made),))), path))
                return False
        full = len(self._half_open) >= max(HALF_OPEN_MAX, 2 * self._named(None))
        if mine >= HALF_OPEN_PER_SOURCE + 2 * named or (full and (not named or mine >= 2 * named)):
            self._ctx.drop("", Drop.HALF_OPEN_LIMIT)
            return False
        return True

    def _keep(self, key: tuple[bytes, int, bytes], sa: IkeSa, now: Now) -> None:
        self._half_open[key] = sa
        self._half_open_of[sa.path.remote] += 1
        sa.half_open_key = key
        self._home.register(sa)
        # A configured peer that is slow while many begin at once is not forgotten: it has a share of its own.
        pressed = len(self._half_open) * 2 >= HALF_OPEN_MAX and not self._named(sa.path.remote)
        self._ctx.timers.arm(sa, Timer.HALF_OPEN, now.mono_ns + (HALF_OPEN_PRESSED_NS if pressed else HALF_OPEN_NS))
        kept = sa.window.answered
        for datagram in kept.datagrams if kept is not None else ():
            self._ctx.emit(Send("", datagram, sa.path))

    def settled(self, sa: IkeSa) -> None:
        key, sa.half_open_key = sa.half_open_key, None
        if key is not None and self._half_open.pop(key, None) is not None:
            self._half_open_of[key[0]] -= 1
            if not self._half_open_of[key[0]]:
                del self._half_open_of[key[0]]
