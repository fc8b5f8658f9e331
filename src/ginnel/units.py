"""
The small values everything else speaks in: parsed once, trusted after.

`Now` is time as an argument; `PublicKey`, `Prefix` and `Endpoint` are immutable, hashable, cheap to make by the
hundred thousand (a full UAPI load has 130,560 prefixes), and hold packed bytes: text exists only at the edges.
Secrets are not here: they are `ginnel.crypto.Secret`, opaque handles on memory that the engine owns and zeroes.
"""

from __future__ import annotations

import binascii
import ipaddress
import socket
from typing import NamedTuple, Self

NS_PER_S = 1_000_000_000

KEY_SIZE_BYTES = 32


class Now(NamedTuple):
    """
    One reading of both clocks.

    mono_ns: CLOCK_BOOTTIME in nanoseconds: ages and timers (it counts suspend, and is never set back).
    unix_ns: wall clock in nanoseconds since 1970: TAI64N, certificates, and what is shown to people.
    """

    mono_ns: int
    unix_ns: int


class PublicKey(bytes):
    """A Curve25519 public key, 32 bytes; compares and hashes as bytes."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        """Take *raw*, exactly 32 bytes; ValueError otherwise."""
        if len(raw) != KEY_SIZE_BYTES:
            raise ValueError(f"expected a key of {KEY_SIZE_BYTES} bytes, found {len(raw)}")
        return super().__new__(cls, raw)

    @classmethod
    def from_base64(cls, text: str) -> Self:
        """Parse the 44 characters that `wg` prints; ValueError on anything else, non-canonical bits included."""
        try:
            raw = binascii.a2b_base64(text, strict_mode=True)
        except (binascii.Error, ValueError):
            raise ValueError("expected a key of 44 base64 characters") from None
        key = cls(raw)
        if len(text) != 44 or key.base64() != text:
            raise ValueError("expected a key of 44 base64 characters")
        return key

    def base64(self) -> str:
        """The key as `wg` prints it, 44 characters."""
        return binascii.b2a_base64(self, newline=False).decode("ascii")

    def __repr__(self) -> str:
        return f"PublicKey({self.base64()})"


class Prefix(NamedTuple):
    """An IP prefix: packed address (4 or 16 bytes, host bits zero) and length in bits."""

    packed: bytes
    length: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Parse `10.0.0.0/8`, `fd00::/8`, or a bare address (a host prefix); host bits are masked off.

        Raises:
            ValueError: with what was expected and what was found.
        """
        address, slash, bits = text.partition("/")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            packed = socket.inet_pton(family, address)
        except OSError:
            raise ValueError(f"expected a prefix such as 10.0.0.0/8, found {text!r}") from None
        full = len(packed) * 8
        if not slash:
            return cls(packed, full)
        if not (bits.isascii() and bits.isdigit()) or int(bits) > full:
            raise ValueError(f"expected a prefix length from 0 to {full}, found {bits!r}")
        length = int(bits)
        if length != full:
            mask = ((1 << length) - 1) << (full - length)
            packed = (int.from_bytes(packed, "big") & mask).to_bytes(full // 8, "big")
        return cls(packed, length)

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if len(self.packed) == 4 else 6

    @property
    def address(self) -> str:
        """The address as text, without the length."""
        family = socket.AF_INET if len(self.packed) == 4 else socket.AF_INET6
        return socket.inet_ntop(family, self.packed)

    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """The same as an `ipaddress` network, for arithmetic off the hot path."""
        return ipaddress.ip_network((self.packed, self.length))

    def __str__(self) -> str:
        return f"{self.address}/{self.length}"


class Endpoint(NamedTuple):
    """Where datagrams go: packed address (4 or 16 bytes), UDP port, and the scope id of a link-local address."""

    packed: bytes
    port: int
    scope_id: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Parse numeric `192.0.2.1:51820` or `[2001:db8::1%3]:51820`; a host name is a ValueError.

        The scope is a number or, for a link-local address, the name of an interface that exists.
        """
        host, _, port = text.rpartition(":")
        if not (port.isascii() and port.isdigit()) or not 0 < int(port) <= 65535:
            raise ValueError(f"expected address:port, found {text!r}")
        scope_id = 0
        if host.startswith("[") and host.endswith("]"):
            host, percent, scope = host[1:-1].partition("%")
            family = socket.AF_INET6
            if percent:
                try:
                    scope_id = int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
                except OSError:
                    raise ValueError(f"no interface named {scope!r} for the scope in {text!r}") from None
                if scope_id > 0xFFFF_FFFF:
                    raise ValueError(f"expected a scope of 32 bits, found {text!r}")
        else:
            family = socket.AF_INET
        try:
            return cls(socket.inet_pton(family, host), int(port), scope_id)
        except OSError:
            raise ValueError(f"expected a numeric address:port, found {text!r}") from None

    @property
    def host(self) -> str:
        """The address as text, with its scope where it has one."""
        if len(self.packed) == 4:
            return socket.inet_ntop(socket.AF_INET, self.packed)
        text = socket.inet_ntop(socket.AF_INET6, self.packed)
        return f"{text}%{self.scope_id}" if self.scope_id else text

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if len(self.packed) == 4 else f"[{self.host}]:{self.port}"
