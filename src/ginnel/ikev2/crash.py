"""
Quick crash detection: a peer that lost its memory proves it, so that the other end need not wait for silence to tell.

    token = HMAC-SHA-256(crash secret, "token" | our SPI of the IKE SA)

Each end gives the other its token when an IKE SA is made. The crash secret outlives the process: after a restart, whoever sends
to an IKE SA that we no longer have is told INVALID_IKE_SPI with the token of those SPIs, and believes that, since nobody else
could have made it. Without a token (or with a wrong one) such a message does no more than make us ask the peer.

A token is only ever given for an SPI of which we have no SA. (The RFC's own examples hash both SPIs; ours alone is as unique,
and known already when a rekeying is asked for.)

Source: RFC 6290, 4 and 5.1.
"""

from __future__ import annotations

from typing import Final

from ginnel.crypto.ike import KeyMaterial, bytes_equal, prf_public
from ginnel.wire.ikev2 import Notify, NotifyType

#: RFC 6290 4.1: 16 to 128 bytes.
TOKEN_MIN_BYTES: Final = 16
TOKEN_MAX_BYTES: Final = 128


def token(secret: KeyMaterial, local_spi: bytes) -> bytes:
    """Ours for the IKE SA in which *local_spi* is our SPI; 32 bytes."""
    return prf_public("sha256", secret, b"token", local_spi)


def notify(secret: KeyMaterial, local_spi: bytes) -> Notify:
    """The payload that gives it."""
    return Notify(NotifyType.QUICK_CRASH_DETECTION, token(secret, local_spi))


def taken(notifies: dict[int, Notify]) -> bytes:
    """The peer's token out of its notifies; empty when it gave none that is of use."""
    given = notifies.get(NotifyType.QUICK_CRASH_DETECTION)
    return given.data if given is not None and TOKEN_MIN_BYTES <= len(given.data) <= TOKEN_MAX_BYTES else b""


def proves(expected: bytes, shown: bytes) -> bool:
    """Whether *shown* is the token that the peer gave us. In constant time."""
    return bool(expected) and bytes_equal(expected, shown)
