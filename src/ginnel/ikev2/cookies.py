"""
Cookies: before a stranger costs us a Diffie-Hellman result or memory, it shows that it receives at the address it sends from.

    cookie = version || HMAC-SHA-256(secret, Ni | address and port | SPIi), cut to 16 bytes

The secret changes every 120 s; the one before is accepted as long again, told apart by the version byte. Nothing is kept for each
stranger. Asked for from `COOKIES_FROM` half-open SAs on.

Source: RFC 7296 2.6.
"""

from __future__ import annotations

from typing import Final

from ginnel.crypto.ike import KeyMaterial, bytes_equal, prf_public
from ginnel.ikev2.context import Context
from ginnel.ikev2.effects import Path
from ginnel.units import NS_PER_S

#: strongSwan's cookie_threshold.
COOKIES_FROM: Final = 30
#: What we take from others (RFC 7296 2.6: 1 to 64 bytes).
COOKIE_MAX_BYTES: Final = 64
_SECRET_LIVES_NS: Final = 120 * NS_PER_S
_MAC_BYTES: Final = 16


class Cookies:
    """Makes cookies and knows its own."""

    __slots__ = ("_ctx", "_made_ns", "_secrets", "_version")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._version = 0
        self._secrets: dict[int, KeyMaterial] = {}
        self._made_ns = 0

    def make(self, nonce: bytes, path: Path, spi_i: bytes, now_ns: int) -> bytes:
        """The cookie for this request."""
        self._rotate(now_ns)
        return self._cookie(self._version, nonce, path, spi_i)

    def genuine(self, cookie: bytes, nonce: bytes, path: Path, spi_i: bytes, now_ns: int) -> bool:
        """Whether we made *cookie* for this request, lately. In constant time."""
        self._rotate(now_ns)
        if len(cookie) != 1 + _MAC_BYTES or cookie[0] not in self._secrets:
            return False
        return bytes_equal(self._cookie(cookie[0], nonce, path, spi_i), cookie)

    def _cookie(self, version: int, nonce: bytes, path: Path, spi_i: bytes) -> bytes:
        where = path.remote + path.remote_port.to_bytes(2, "big")
        mac = prf_public("sha256", self._secrets[version], len(nonce).to_bytes(2, "big"), nonce, where, spi_i)
        return bytes((version,)) + mac[:_MAC_BYTES]

    def _rotate(self, now_ns: int) -> None:
        if self._secrets and now_ns - self._made_ns < _SECRET_LIVES_NS:
            return
        stale = not self._secrets or now_ns - self._made_ns >= 2 * _SECRET_LIVES_NS
        before = {} if stale else {self._version: self._secrets[self._version]}
        self._version = (self._version + 1) & 0xFF
        self._made_ns = now_ns
        self._secrets = before | {self._version: KeyMaterial.from_bytes(self._ctx.entropy(32))}
