"""
WireGuard's numbers: times in nanoseconds, the rest are counts.

Those that the engine holds too are compared with `ginnel._native.CONSTANTS` by a test, so the two sides cannot drift apart.

Source: WireGuard paper 6.1 and 6.5; the kernel's messages.h.
"""

from __future__ import annotations

from typing import Final

from ginnel.units import NS_PER_S

NS_PER_MS: Final = 1_000_000

#: A session's initiator starts the next handshake when it sends after this age, or after this many messages.
REKEY_AFTER_TIME_NS: Final = 120 * NS_PER_S
REKEY_AFTER_MESSAGES: Final = 2**60
#: A session is dead at this age, or at this counter.
REJECT_AFTER_TIME_NS: Final = 180 * NS_PER_S
REJECT_AFTER_MESSAGES: Final = 2**64 - 2**13 - 1
#: An initiation is repeated after this, plus a jitter that keeps two peers from colliding for ever; and none is sent sooner
#: after the last handshake message of either kind.
REKEY_TIMEOUT_NS: Final = 5 * NS_PER_S
REKEY_TIMEOUT_JITTER_MAX_NS: Final = 333 * NS_PER_MS
#: An attempt may last this long (the paper's 90 s): 18 repetitions fit, and it is given up when more have been made.
REKEY_ATTEMPT_TIME_NS: Final = 90 * NS_PER_S
MAX_TIMER_HANDSHAKES: Final = REKEY_ATTEMPT_TIME_NS // REKEY_TIMEOUT_NS
#: So an attempt is at most this many initiations: the first, and those sent while the count of repetitions was 0 to 18.
MAX_INITIATIONS: Final = MAX_TIMER_HANDSHAKES + 2
#: The passive keepalive answers data after this (the engine's timer).
KEEPALIVE_TIMEOUT_NS: Final = 10 * NS_PER_S
#: A session's initiator starts the next handshake when it receives after this age: a keepalive and a handshake before the end.
REKEY_ON_RECEIVE_TIME_NS: Final = REJECT_AFTER_TIME_NS - KEEPALIVE_TIMEOUT_NS - REKEY_TIMEOUT_NS
#: Data sent and nothing heard for this long (plus jitter) starts a handshake (the engine's timer).
NEW_HANDSHAKE_TIME_NS: Final = KEEPALIVE_TIMEOUT_NS + REKEY_TIMEOUT_NS
#: All keys of a peer are zeroed this long after its last session was made.
ZERO_KEY_MATERIAL_TIME_NS: Final = 3 * REJECT_AFTER_TIME_NS
#: A cookie is good for 120 s where it was issued; its user stops 5 s earlier, for the time a datagram travels.
COOKIE_SECRET_MAX_AGE_NS: Final = 120 * NS_PER_S
COOKIE_SECRET_LATENCY_NS: Final = 5 * NS_PER_S
COOKIE_USE_NS: Final = COOKIE_SECRET_MAX_AGE_NS - COOKIE_SECRET_LATENCY_NS
#: At most this many initiations of one peer are consumed per second: one in 20 ms.
INITIATIONS_PER_SECOND: Final = 50
INITIATION_INTERVAL_NS: Final = NS_PER_S // INITIATIONS_PER_SECOND

#: Packets that wait for a session; the oldest is dropped (the engine's queue).
MAX_STAGED_PACKETS: Final = 128

# ---------------------------------------------------------------- ours, not the protocol's

#: A peer that was active this recently before a restart is spoken to at once: its side of the session is still alive,
#: and without that it would take 15 s to notice.
RECOVERY_WINDOW_NS: Final = REJECT_AFTER_TIME_NS
#: Those initiations leave at this distance (200 per second), so that a hub with thousands of peers does not flood itself.
RECOVERY_SPACING_NS: Final = 5 * NS_PER_MS
#: A timestamp that was written down may be older than the last one sent by as much as one attempt lasts.
REMEMBERED_MARGIN_NS: Final = MAX_INITIATIONS * (REKEY_TIMEOUT_NS + REKEY_TIMEOUT_JITTER_MAX_NS)
