"""
One peer of a WireGuard interface, as far as Python knows it: identity, handshake, what was last sent, and why it is as it is.

The engine holds the rest: endpoint, prefixes, sessions, counters. `Peer` is plain state that only `interface.Interface`
changes; others read it. It is kept small (there may be a hundred thousand): slots, and what only handshakes need is made
with the first one.

The handshake itself is in one of two states, as in the paper: idle (`initiation is None`), or *initiated*, waiting for
the response to exactly one message. Consuming an initiation and answering it is one step here, so a responder has no
state to keep.

Memory: about 0.5 KiB a peer that never spoke; the interface's two dictionaries add 0.2 KiB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from ginnel.crypto import Secret
from ginnel.units import NS_PER_S, Endpoint, Now, Prefix, PublicKey
from ginnel.wireguard import noise, tai64n
from ginnel.wireguard.constants import REJECT_AFTER_TIME_NS
from ginnel.wireguard.cookie import Stamps
from ginnel.wireguard.effects import Reason

#: "Never" on the monotonic clock: further back than any age that is compared.
LONG_AGO_NS: Final = -(2**62)

State = Literal["down", "no-key", "bad-key", "no-endpoint", "handshaking", "up", "stale", "never"]


@dataclass(frozen=True, slots=True)
class PeerChange:
    """
    One peer's part of a configuration request, as UAPI and `wg` have it; None means unchanged.

    preshared_key: all zero removes it.
    persistent_keepalive_s: 0 turns it off.
    replace_allowed_ips: the peer's prefixes are replaced by *allowed_ips*, else added to.
    removed_allowed_ips: taken away again after that, where this peer has them.
    update_only: nothing happens unless the peer exists.
    """

    public_key: PublicKey
    remove: bool = False
    update_only: bool = False
    preshared_key: Secret | None = None
    endpoint: Endpoint | None = None
    persistent_keepalive_s: int | None = None
    replace_allowed_ips: bool = False
    allowed_ips: tuple[Prefix, ...] = ()
    removed_allowed_ips: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class Remembered:
    """
    What outlives a crash, so that traffic is back within a second of the restart. No secret in it.

    endpoint: where the peer was last; None if unknown. last_timestamp_ns: the last TAI64N timestamp sent to it (0: none);
    the next must be greater even if the clock was set back meanwhile. last_active_unix_ns: when something authenticated
    last came from it, or a session was made (0: never).

    The last timestamp *received* is left out on purpose: a peer whose clock fell back (no battery) is mended by a restart on our
    side, as with every other implementation, and a replayed initiation only costs us a response.
    """

    endpoint: Endpoint | None
    last_timestamp_ns: int
    last_active_unix_ns: int


@dataclass(frozen=True, slots=True)
class PeerView:
    """
    A peer's state in one word, and why in a sentence a person reads.

        down         the interface is down
        no-key       the interface has no private key
        bad-key      the peer's public key is a point that gives no secret
        no-endpoint  nobody said where the peer is, and it has not spoken
        handshaking  an attempt is under way: *initiations* messages sent so far
        up           a handshake completed within the last 180 s
        stale        the last handshake is older than that
        never        no handshake ever completed
    """

    public_key: PublicKey
    handle: int
    state: State
    why: str
    initiations: int
    handshake_age_ns: int | None
    handshake_unix_ns: int


class Initiation(NamedTuple):
    """An initiation that waits for its response."""

    local_index: int
    noise: noise.Initiated


class Peer:
    """See the module. Read anything; write nothing."""

    __slots__ = (
        "gave_up",
        "handle",
        "handshake_mono_ns",
        "handshake_unix_ns",
        "has_endpoint",
        "initiation",
        "initiations",
        "keepalive_s",
        "last_consumed_ns",
        "last_sent_ns",
        "last_timestamp_ns",
        "latest_timestamp",
        "preshared_key",
        "public_key",
        "recover_until_unix_ns",
        "response_index",
        "send_error",
        "stamps",
        "static_static",
        "unusable",
        "wanted",
    )

    def __init__(self, handle: int, public_key: PublicKey) -> None:
        self.handle = handle
        self.public_key = public_key
        self.preshared_key: Secret | None = None
        self.keepalive_s = 0
        #: Configured, or heard from: the engine knows where to send.
        self.has_endpoint = False
        #: DH of our private key with its public key, from the first handshake on. Dropped when our key changes.
        self.static_static: Secret | None = None
        #: That DH is zero: its public key is a low-order point, and nothing is ever sent.
        self.unusable = False
        self.stamps: Stamps | None = None
        self.initiation: Initiation | None = None
        #: The index of our last response: a cookie reply to it names that.
        self.response_index: int | None = None
        #: Why a session is wanted, from the engine's asking until it has one (or is told that there will be none).
        self.wanted: Reason | None = None
        #: Sent in the attempt under way; 0 when there is none.
        self.initiations = 0
        #: Monotonic time of the last handshake message sent, either kind.
        self.last_sent_ns = LONG_AGO_NS
        self.last_timestamp_ns = 0
        #: Greatest timestamp received, twelve bytes.
        self.latest_timestamp = tai64n.NEVER
        self.last_consumed_ns = LONG_AGO_NS
        #: When the last handshake completed, on both clocks; wall time 0 for never.
        self.handshake_mono_ns = LONG_AGO_NS
        self.handshake_unix_ns = 0
        #: The last attempt ended unanswered, and nothing was completed since.
        self.gave_up = False
        #: Of the last SendHandshake that the network refused, in words; empty after one that went out.
        self.send_error = ""
        #: Until then it is to be spoken to first, after a restart; 0 otherwise.
        self.recover_until_unix_ns = 0

    def view(self, now: Now, *, up: bool, has_key: bool) -> PeerView:
        """The peer's state and why; *up* and *has_key* are the interface's."""
        completed = self.handshake_unix_ns != 0
        age_ns = max(0, now.mono_ns - self.handshake_mono_ns) if completed else None
        state, why = self._state(age_ns, up, has_key)
        return PeerView(self.public_key, self.handle, state, why, self.initiations, age_ns, self.handshake_unix_ns)

    def _state(self, age_ns: int | None, up: bool, has_key: bool) -> tuple[State, str]:
        if not has_key:
            return "no-key", "the interface has no private key"
        if not up:
            return "down", "the interface is down"
        if self.unusable:
            return "bad-key", "its public key gives no shared secret (a low-order point): it is not a key that anybody holds"
        if age_ns is not None and age_ns < REJECT_AFTER_TIME_NS:
            if self.initiations:
                return "up", f"handshake {_seconds(age_ns)} ago; {self._attempt()}"
            return "up", f"handshake {_seconds(age_ns)} ago"
        if not self.has_endpoint:
            return "no-endpoint", "nobody said where it is: give it an endpoint, or wait until it speaks"
        if self.initiations:
            return "handshaking", self._attempt()
        return ("never" if age_ns is None else "stale"), self._quiet()

    def _attempt(self) -> str:
        sent = f"{self.initiations} initiation{'s' if self.initiations > 1 else ''} sent, no answer yet"
        why = f"{sent} ({_REASONS[self.wanted]})" if self.wanted else sent
        return f"{why}; sending fails: {self.send_error}" if self.send_error else why

    def _quiet(self) -> str:
        if self.gave_up:
            failing = (
                f"sending fails: {self.send_error}"
                if self.send_error
                else ("it is unreachable, does not know our public key, or has another preshared key")
            )
            return f"gave up after 90 s without an answer: {failing}; the next packet tries again"
        if self.wanted:
            return f"a handshake is about to start ({_REASONS[self.wanted]})"
        return "nothing was sent to it; the next packet starts a handshake"


_REASONS: Final[dict[Reason, str]] = {
    "packets": "packets wait",
    "ageing": "the session gets old",
    "silent": "data went unanswered for 15 s",
    "keepalive": "a keepalive is due",
    "restart": "speaking first after a restart",
}


def _seconds(age_ns: int) -> str:
    return f"{age_ns // NS_PER_S} s"
