"""
What a configuration calls its peers, and the endpoints it gave by host name: kept, watched, tried in turn.

The decisions for one peer are `resolve.Seeker`'s; this joins them to the loop. It looks at the named peers every 30 s, and
every 5 s while one of them is sought in vain; without host names there is no timer at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from ginnel.runtime.control import Name
from ginnel.runtime.journal import Journal
from ginnel.runtime.resolve import IDLE_TICK_S, SEEKING_TICK_S, Resolver, Seeker
from ginnel.units import Endpoint, PublicKey

#: After a request on the UAPI socket; a script may make thousands of them.
SOON_S = 0.2


class Facts(NamedTuple):
    """What there is to know about a configured peer: its endpoint now, its handshake's age, whether initiations go unanswered."""

    endpoint: Endpoint | None
    handshake_age_s: float | None
    seeking: bool


class Names:
    """See the module."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        journal: Journal,
        *,
        facts: Callable[[PublicKey], Facts | None],
        set_endpoint: Callable[[PublicKey, Endpoint], None],
        mono_ns: Callable[[], int],
    ) -> None:
        """
        Args:
            facts: of a peer, None when it is not configured.
            set_endpoint: send to the peer there from now on.
            mono_ns: a clock that is never set back.
        """
        self._loop, self._journal = loop, journal
        self._facts, self._set_endpoint, self._mono_ns = facts, set_endpoint, mono_ns
        self._resolver = Resolver(loop)
        self._names: dict[PublicKey, str] = {}
        self._seekers: dict[PublicKey, Seeker] = {}
        self._tick: asyncio.TimerHandle | None = None

    def name(self, public_key: PublicKey) -> str:
        """What the configuration calls the peer; empty where it does not."""
        return self._names.get(public_key, "")

    def host(self, public_key: PublicKey) -> str:
        """The endpoint as it was configured by name, empty where it was not."""
        seeker = self._seekers.get(public_key)
        return seeker.name if seeker else ""

    def label(self, public_key: PublicKey) -> str:
        """How log lines call the peer."""
        return self._names.get(public_key) or public_key.base64()[:8] + "…"

    def replace(self, names: dict[PublicKey, Name]) -> None:
        """Take a new table of names; what is known of an unchanged host is kept."""
        self._names = {key: entry.name for key, entry in names.items() if entry.name}
        old, self._seekers = self._seekers, {}
        for key, entry in names.items():
            if entry.host is not None:
                known = old.get(key)
                unchanged = known is not None and (known.host, known.port) == entry.host
                self._seekers[key] = known if known is not None and unchanged else Seeker(*entry.host)
        self.look()

    def look(self) -> None:
        """Look at all peers with a host name now, and again in a while."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if not self._seekers:
            return
        now_ns = self._mono_ns()
        seeking = [self._look_at(key, seeker, now_ns) for key, seeker in self._seekers.items()]
        self._tick = self._loop.call_later(SEEKING_TICK_S if any(seeking) else IDLE_TICK_S, self.look)

    def look_soon(self) -> None:
        """Peers were configured: look at all of them shortly, once for however many requests."""
        if self._seekers and (self._tick is None or self._tick.when() > self._loop.time() + SOON_S):
            if self._tick is not None:
                self._tick.cancel()
            self._tick = self._loop.call_later(SOON_S, self.look)

    def close(self) -> None:
        """No more ticks, no more answers."""
        self._resolver.close()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _look_at(self, key: PublicKey, seeker: Seeker, now_ns: int) -> bool:
        """Do what is to be done for one peer; True while it is sought."""
        facts = self._facts(key)
        if facts is None:
            return False
        if seeker.look(facts.handshake_age_s, facts.endpoint is not None, facts.seeking, now_ns):
            self._resolver.ask(seeker.host, seeker.port, lambda found, why: self._answer(key, seeker, found, why))
        silent = seeker.silent(facts.handshake_age_s)
        if silent and (facts.seeking or facts.endpoint is None):
            self._try_next(key, seeker, facts.endpoint, now_ns)
        return silent and (facts.seeking or facts.endpoint is None)

    def _answer(self, key: PublicKey, seeker: Seeker, found: list[Endpoint], why: str) -> None:
        now_ns = self._mono_ns()
        seeker.found(found, now_ns)
        if self._seekers.get(key) is not seeker:
            return  # renamed meanwhile
        if not found:
            self._journal("endpoint_unresolved", peer=self.label(key), host=seeker.name, error=why)
            return
        facts = self._facts(key)
        if facts is not None and seeker.silent(facts.handshake_age_s):
            self._try_next(key, seeker, facts.endpoint, now_ns)

    def _try_next(self, key: PublicKey, seeker: Seeker, current: Endpoint | None, now_ns: int) -> None:
        following = seeker.turn(current, now_ns)
        if following is not None:
            self._journal("endpoint_resolved", peer=self.label(key), host=seeker.name)
            self._set_endpoint(key, following)
