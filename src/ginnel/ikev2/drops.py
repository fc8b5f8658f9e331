"""Why a message was refused without any other trace: a closed list, counted, and told as `effects.Dropped`."""

from __future__ import annotations

import enum


class Drop(enum.StrEnum):
    """The value is what people see."""

    #: Not an IKE message, or payloads that do not parse, where nothing may be answered.
    MALFORMED = "malformed"
    #: IKEv1, or a version that does not exist yet.
    VERSION = "version"
    #: An IKE SA that we do not have.
    UNKNOWN_SA = "unknown_sa"
    #: IKE_SA_INIT from an address that no connection is configured for.
    UNKNOWN_PEER = "unknown_peer"
    #: The table of half-open SAs is full, or the source has its share.
    HALF_OPEN_LIMIT = "half_open_limit"
    #: A wrong or stale cookie (another was sent).
    COOKIE = "cookie"
    #: The checksum of an encrypted message is wrong.
    INTEGRITY = "integrity"
    #: Unprotected where only a protected message counts.
    UNPROTECTED = "unprotected"
    #: A message id outside the window.
    MESSAGE_ID = "message_id"
    #: A response to nothing, or of another exchange than was asked.
    UNEXPECTED_RESPONSE = "unexpected_response"
    #: An exchange that may not come now.
    UNEXPECTED_EXCHANGE = "unexpected_exchange"
    #: A retransmitted request; the kept answer was sent again.
    REPEATED = "repeated"
    #: A fragment that fits no message, or more of them than we keep.
    FRAGMENT = "fragment"
    #: An answer to a stranger that was not sent since too many were.
    RATE_LIMIT = "rate_limit"
    #: An unprotected notify: believed no further than for a check of liveness.
    HINT = "hint"
    #: A crash token that is not the one we were given.
    TOKEN = "token"  # noqa: S105 - a word, no secret
