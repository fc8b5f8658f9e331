"""
Endpoints by name: kept, and asked again when a peer went silent.

A name is resolved when the peer has no endpoint yet, and again when its last handshake is older than `STALE_S` (a live session
is renewed after 120 s; 135 s means that at least one renewal failed). A name that has several addresses, of either family, is
tried in turn: one address for each handshake try (`TRY_NS`), beginning after the one in use. While a peer is silent the name is
asked again with back-off, from `FIRST_AGAIN_S` doubling to `LAST_AGAIN_S`; a handshake resets it. An endpoint learned from the
peer itself (roaming) is never overruled while its handshakes are fresh.

`Seeker` is the whole decision for one peer, with time as an argument; `Resolver` asks in threads, because getaddrinfo blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ginnel.units import NS_PER_S, Endpoint

STALE_S = 135
#: One try: REKEY_TIMEOUT (5 s, the machine sends an initiation that often while it seeks), less the slack of a tick.
TRY_NS = 4_500_000_000
FIRST_AGAIN_S = 10
LAST_AGAIN_S = 600
#: Names are looked at this often while one of their peers is silent, and this often when all is well.
SEEKING_TICK_S = 5.0
IDLE_TICK_S = 30.0
#: Addresses kept of one name.
ADDRESSES_LIMIT = 16
Answer = Callable[[list[Endpoint], str], None]

#: Lookups at once; a hanging name server holds up others no longer than its own timeout.
THREADS = 4


@dataclass(slots=True)
class Seeker:
    """
    One named peer: what to do now, and nothing else.

    `look` is asked at every tick; it says whether to resolve. `found` takes the answer. `turn` gives the next address to try.
    """

    host: str
    port: int
    addresses: list[Endpoint] = field(default_factory=list)
    asking: bool = False
    _again_ns: int = 0
    _pause_s: int = FIRST_AGAIN_S
    _turned_ns: int = 0

    @property
    def name(self) -> str:
        """As it was configured: `vpn.example.org:51820`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def silent(self, handshake_age_s: float | None) -> bool:
        """The peer does not answer where it is sought: no handshake ever, or none for `STALE_S`."""
        return handshake_age_s is None or handshake_age_s > STALE_S

    def look(self, handshake_age_s: float | None, has_endpoint: bool, seeking: bool, now_ns: int) -> bool:
        """
        Should the name be resolved now?

        Args:
            handshake_age_s: age of the last handshake, None = never.
            has_endpoint: the peer has an endpoint to be sought at.
            seeking: the machine is sending initiations that nobody answers. An idle silent peer is left alone.
            now_ns: a clock that is never set back.
        """
        if not self.silent(handshake_age_s):
            self._pause_s, self._again_ns = FIRST_AGAIN_S, 0
            return False
        if self.asking or now_ns < self._again_ns or (has_endpoint and not seeking):
            return False
        self.asking = True
        return True

    def found(self, addresses: list[Endpoint], now_ns: int) -> None:
        """The answer to a resolution, empty when it failed: keep it, and ask again later."""
        self.asking = False
        if addresses:
            self.addresses = addresses[:ADDRESSES_LIMIT]
        self._again_ns = now_ns + self._pause_s * NS_PER_S
        self._pause_s = min(self._pause_s * 2, LAST_AGAIN_S)

    def turn(self, current: Endpoint | None, now_ns: int) -> Endpoint | None:
        """The address to try next, for a silent peer; None to stay with *current*: its try is not over, or there is no other."""
        if not self.addresses or (current is not None and now_ns < self._turned_ns + TRY_NS):
            return None
        if current in self.addresses:
            following = self.addresses[(self.addresses.index(current) + 1) % len(self.addresses)]
        else:
            following = self.addresses[0]
        self._turned_ns = now_ns
        return None if following == current else following


def parse_host(text: str) -> tuple[str, int]:
    """`vpn.example.org:51820` or `[2001:db8::1]:51820` to host and port; ValueError on anything else."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or len(host) > 255 or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= 65_535:
        raise ValueError(f"expected host:port, found {text!r}")
    return host, int(port)


def resolve(host: str, port: int) -> list[Endpoint]:
    """
    All addresses of *host*, of both families, in the order of the system's preference. Blocks.

    Raises:
        OSError: (gaierror) there is none, or nobody could be asked.
    """
    found: dict[Endpoint, None] = {}
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM):
        if family == socket.AF_INET:
            found[Endpoint(socket.inet_pton(family, str(address[0])), port)] = None
        elif family == socket.AF_INET6:
            text = str(address[0]).partition("%")[0]
            found[Endpoint(socket.inet_pton(family, text), port, int(address[3]) if len(address) > 3 else 0)] = None
    return list(found)


class Resolver:
    """
    Resolves in up to `THREADS` threads at once; answers come on the loop.

    The threads are daemons: one that hangs in the system's resolver does not hold up the end of the process.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[str, int, Answer]] = deque()
        self._busy = 0
        self._closed = False

    def ask(self, host: str, port: int, answer: Answer) -> None:
        """Resolve, then call *answer* with the addresses and "", or with none and why."""
        self._waiting.append((host, port, answer))
        self._next()

    def close(self) -> None:
        """Answer no more."""
        self._closed = True
        self._waiting.clear()

    def _next(self) -> None:
        if self._waiting and self._busy < THREADS:
            self._busy += 1
            threading.Thread(target=self._work, args=self._waiting.popleft(), name="resolve", daemon=True).start()

    def _work(self, host: str, port: int, answer: Answer) -> None:
        addresses: list[Endpoint] = []
        why = ""
        try:
            addresses = resolve(host, port)
        except OSError as error:
            why = error.strerror or str(error)
        except UnicodeError:
            why = "not a host name"
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._done, answer, addresses, why)

    def _done(self, answer: Answer, addresses: list[Endpoint], why: str) -> None:
        self._busy -= 1
        if not self._closed:
            self._next()
            answer(addresses, why)
