"""
MAC1, MAC2 and cookies, from the side that sends handshake messages.

Every handshake message ends with two macs. mac1 is keyed by the public key of the receiver: it shows that the sender
knows whom it is talking to, and costs a receiver one hash to check. mac2 is keyed by a cookie: a receiver under load
answers with one (sealed to the mac1 of the message it answers, so that only who saw that message can have made it), and
whoever shows it as mac2 in the next message has proved that it can receive at its address.

`Stamps` is what we keep per peer for that: the two keys, the last mac1 sent, the cookie. A cookie reply is taken only
while a mac1 waits for one, and one reply per mac1: a second is refused. It changes nothing else; the machine moves
neither endpoint nor timers on one, since it is not authenticated by the peer's identity.

*Issuing* cookies and judging the macs of what arrives is the engine's gate, which must do both before Python sees a byte.

Source: WireGuard paper 5.3, 5.4.4, 5.4.7; the kernel's cookie.c.
"""

from __future__ import annotations

from typing import Final

from ginnel import crypto
from ginnel.wire.wireguard import MAC_SIZE_BYTES, MACS_SIZE_BYTES, ZERO_MAC, CookieReply
from ginnel.wireguard.constants import COOKIE_USE_NS

LABEL_MAC1: Final = b"mac1----"
LABEL_COOKIE: Final = b"cookie--"


def mac1_key(receiver_public: bytes) -> bytes:
    """The key of mac1 for messages to the holder of *receiver_public*: public by construction, 32 bytes."""
    return crypto.hash(LABEL_MAC1, receiver_public)


def cookie_key(issuer_public: bytes) -> bytes:
    """The key under which the holder of *issuer_public* seals cookies: public by construction, 32 bytes."""
    return crypto.hash(LABEL_COOKIE, issuer_public)


def mac1_valid(key: bytes, message: bytes) -> bool:
    """Whether the mac1 of a whole initiation or response is right under *key* (our own `mac1_key`)."""
    covered = len(message) - MACS_SIZE_BYTES
    return covered > 0 and crypto.mac_equal(key, message[:covered], message[covered : covered + MAC_SIZE_BYTES])


class Stamps:
    """The macs of what is sent to one peer, and the cookie it gave us."""

    __slots__ = ("_awaited_mac1", "_cookie", "_cookie_key", "_cookie_until_ns", "_mac1_key")

    def __init__(self, peer_public: bytes) -> None:
        self._mac1_key = mac1_key(peer_public)
        self._cookie_key = cookie_key(peer_public)
        #: The mac1 last sent, while no cookie has been taken for it.
        self._awaited_mac1: bytes | None = None
        self._cookie: bytes | None = None
        self._cookie_until_ns = 0

    def stamp(self, message: bytes, mono_ns: int) -> bytes:
        """
        Fill in the macs of a handshake message.

        Args:
            message: an initiation or a response as `build` made it, macs still zero.
            mono_ns: the monotonic clock.

        Returns:
            The same message with mac1, and with mac2 while a cookie is younger than 115 s.
        """
        body = message[:-MACS_SIZE_BYTES]
        mac1 = crypto.mac(self._mac1_key, body)
        cookie = self._cookie
        if cookie is not None and mono_ns >= self._cookie_until_ns:
            cookie = self._cookie = None
        mac2 = ZERO_MAC if cookie is None else crypto.mac(cookie, body, mac1)
        self._awaited_mac1 = mac1
        return body + mac1 + mac2

    def accept(self, reply: CookieReply, mono_ns: int) -> bool:
        """Keep the cookie in *reply*; False, and nothing kept, unless it answers the last mac1 sent and opens."""
        awaited = self._awaited_mac1
        if awaited is None:
            return False
        try:
            cookie = crypto.xaead_open(self._cookie_key, reply.nonce, reply.encrypted_cookie, awaited)
        except crypto.AuthenticationFailed:
            return False
        self._cookie = cookie
        self._cookie_until_ns = mono_ns + COOKIE_USE_NS
        self._awaited_mac1 = None
        return True

    def has_cookie(self, mono_ns: int) -> bool:
        """Whether the next message would carry a mac2."""
        return self._cookie is not None and mono_ns < self._cookie_until_ns
