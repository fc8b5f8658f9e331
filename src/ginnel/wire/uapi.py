"""
The configuration protocol that `wg` speaks to a user-space implementation, as bytes and values; no socket, no state of a device.

    get=1\\n\\n                                   -> key=value lines, errno=0, blank line
    set=1\\n key=value\\n ... \\n (blank line)    -> errno=N, blank line

A connection may carry several operations. Lines take effect in the order in which they stand and are never taken back:
when line 7 is wrong, lines 1 to 6 have been applied. `Parser.feed` therefore gives what was understood so far before it gives
the `Failure`. Lines about one peer are gathered into a `PeerChange`, which is given at the peer's end (the next `public_key`,
the blank line, an error) or sooner: when their order would be lost otherwise, or after `PREFIXES_PER_CHANGE` prefixes, so that
a peer with a hundred thousand of them is applied in pieces and never held whole.

Error numbers are negative in answers to `set` and positive in answers to `get`, because `wg` reads the first with a sign and the
second as digits only.

Secrets: this layer knows no keys. The caller gives the constructor of its secret type, which is called on the hexadecimal text.

Source: wireguard.com/xplatform; where it is silent, wireguard-go.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Generic, Literal, TypeVar

from ginnel.units import KEY_SIZE_BYTES, Endpoint, Prefix, PublicKey

S = TypeVar("S")

#: The longest line; the longest honest one is an IPv6 endpoint with a scope. wireguard-go allows 64 KiB.
LINE_LIMIT_BYTES = 65_536
#: A peer's prefixes are handed over in pieces of this many.
PREFIXES_PER_CHANGE = 2_048

NO_PSK_HEX = "0" * 64


@dataclass(frozen=True, slots=True)
class Get:
    """`get=1`: everything about the device is asked for."""


@dataclass(frozen=True, slots=True)
class SetPrivateKey(Generic[S]):
    """The interface's private key; an all-zero one removes it."""

    key: S


@dataclass(frozen=True, slots=True)
class SetListenPort:
    """The UDP port; 0 = any."""

    port: int


@dataclass(frozen=True, slots=True)
class SetFwmark:
    """The mark of outgoing datagrams; 0 = none."""

    mark: int


@dataclass(frozen=True, slots=True)
class ReplacePeers:
    """Forget all peers; those that follow are the only ones."""


@dataclass(slots=True)
class PeerChange(Generic[S]):
    """
    What a run of lines says about one peer; None = not said. Filled by the parser, then only read.

    To be applied in this order: create (unless `update_only` or `remove`), remove, preshared key, endpoint, keepalive,
    `replace_allowed_ips`, `add`, `take`. *first* is False for a piece that continues the same section; *last* is True for the
    piece that ends it.
    """

    public_key: PublicKey
    first: bool = True
    last: bool = False
    update_only: bool = False
    remove: bool = False
    preshared_key: S | None = None
    endpoint: Endpoint | None = None
    keepalive_s: int | None = None
    replace_allowed_ips: bool = False
    add: list[Prefix] = field(default_factory=list)
    take: list[Prefix] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class End:
    """The blank line that ends a `set`: all of it was understood; answer with errno 0 when all of it could be applied."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Bytes that cannot be understood; answer with `errno` and close. *message* says what was expected; it holds no value."""

    operation: Literal["get", "set"]
    errno: int
    message: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """An operation that is neither get nor set: close without an answer, as wireguard-go does."""


Operation = Get | SetPrivateKey[S] | SetListenPort | SetFwmark | ReplacePeers | PeerChange[S] | End | Failure | Unknown


class _Bad(Exception):
    """Inside the parser: a line that cannot be applied; args are errno and message."""


class Parser(Generic[S]):
    """
    One connection's bytes, in pieces of any size, to operations.

    After a `Failure` or `Unknown` it gives nothing more. Memory is bounded by one line, one `PeerChange` and what `feed` was
    given.
    """

    __slots__ = ("_dead", "_peer", "_secret", "_state", "_tail")

    def __init__(self, secret: Callable[[str], S]) -> None:
        """
        Args:
            secret: makes a secret of 64 hexadecimal digits; ValueError on anything else.
        """
        self._secret = secret
        self._tail = b""
        self._state: Literal["idle", "get", "device", "peer"] = "idle"
        self._peer: PeerChange[S] | None = None
        self._dead = False

    @property
    def busy(self) -> bool:
        """True inside an operation: the end of the stream now would cut it short."""
        return self._state != "idle" or bool(self._tail)

    def feed(self, data: bytes) -> list[Operation[S]]:
        """The operations that *data* completes, in order."""
        out: list[Operation[S]] = []
        if self._dead:
            return out
        *lines, self._tail = (self._tail + data).split(b"\n")
        try:
            for line in lines:
                if not self._line(line.decode("latin-1"), out):
                    self._dead = True
                    return out
            if len(self._tail) > LINE_LIMIT_BYTES:
                raise _Bad(errno.EIO, f"expected lines of at most {LINE_LIMIT_BYTES} bytes")
        except _Bad as bad:
            self._give_peer(out)
            self._dead = True
            number, message = bad.args
            out.append(Failure("get" if self._state == "get" else "set", number, message))
        return out

    def end_of_stream(self) -> list[Operation[S]]:
        """The stream ended: what was said about the last peer still counts, as for wireguard-go."""
        out: list[Operation[S]] = []
        if not self._dead:
            self._give_peer(out)
            self._dead = True
        return out

    def _line(self, line: str, out: list[Operation[S]]) -> bool:
        """Take one line; False when nothing after it can be understood."""
        match self._state:
            case "peer" if line:
                self._peer_line(line, out)
            case "device" if line:
                self._device_line(line, out)
            case "device" | "peer":
                self._give_peer(out)
                self._state = "idle"
                out.append(End())
            case "idle" if line == "set=1":
                self._state = "device"
            case "idle" if line == "get=1":
                self._state = "get"
            case "idle":
                out.append(Unknown())
                return False
            case _ if line:
                raise _Bad(errno.EINVAL, "expected a blank line after get=1")
            case _:
                self._state = "idle"
                out.append(Get())
        return True

    def _device_line(self, line: str, out: list[Operation[S]]) -> None:
        key, equals, value = line.partition("=")
        if not equals:
            raise _Bad(errno.EPROTO, "expected key=value")
        match key:
            case "public_key":
                self._state = "peer"
                self._begin_peer(value)
            case "private_key":
                out.append(SetPrivateKey(self._secret_of(value, key)))
            case "listen_port":
                out.append(SetListenPort(_number(value, 0xFFFF, key)))
            case "fwmark":
                out.append(SetFwmark(_number(value, 0xFFFF_FFFF, key)))
            case "replace_peers":
                _true(value, key)
                out.append(ReplacePeers())
            case _:
                raise _Bad(errno.EINVAL, "expected a key of an interface before the first public_key")

    def _peer_line(self, line: str, out: list[Operation[S]]) -> None:
        key, equals, value = line.partition("=")
        peer = self._peer
        if not equals or peer is None:
            raise _Bad(errno.EPROTO, "expected key=value")
        if key == "allowed_ip":  # first: a full load has 130,560 of these lines
            self._allowed_ip(peer, value, out)
            return
        match key:
            case "public_key":
                self._give_peer(out)
                self._begin_peer(value)
            case "update_only":
                _true(value, key)
                peer.update_only = True
            case "remove":
                _true(value, key)
                peer.remove = True
            case "preshared_key":
                peer.preshared_key = self._secret_of(value, key)
            case "endpoint":
                try:
                    peer.endpoint = Endpoint.parse(value)
                except ValueError:
                    raise _Bad(errno.EINVAL, "endpoint: expected a numeric address:port") from None
            case "persistent_keepalive_interval":
                peer.keepalive_s = _number(value, 0xFFFF, key)
            case "replace_allowed_ips":
                _true(value, key)
                if peer.add or peer.take:
                    peer = self._give_part(peer, out)
                peer.replace_allowed_ips = True
            case "protocol_version":
                if value != "1":
                    raise _Bad(errno.EINVAL, "protocol_version: expected 1")
            case _:
                raise _Bad(errno.EINVAL, "expected a key of a peer")

    def _allowed_ip(self, peer: PeerChange[S], value: str, out: list[Operation[S]]) -> None:
        taking = value[:1] == "-"
        try:
            prefix = Prefix.parse(value[1:] if taking else value)
        except ValueError:
            raise _Bad(errno.EINVAL, "allowed_ip: expected address/length") from None
        if taking:
            peer.take.append(prefix)
        else:
            if peer.take:
                peer = self._give_part(peer, out)
            peer.add.append(prefix)
        if len(peer.add) + len(peer.take) >= PREFIXES_PER_CHANGE:
            self._give_part(peer, out)

    def _begin_peer(self, value: str) -> None:
        try:
            if len(value) != 2 * KEY_SIZE_BYTES:  # fromhex would pass over spaces
                raise ValueError
            self._peer = PeerChange(PublicKey(bytes.fromhex(value)))
        except ValueError:
            raise _Bad(errno.EINVAL, "public_key: expected 64 hexadecimal digits") from None

    def _give_part(self, peer: PeerChange[S], out: list[Operation[S]]) -> PeerChange[S]:
        """Give what was said so far and go on with an empty change for the same peer."""
        out.append(peer)
        self._peer = PeerChange(peer.public_key, first=False)
        return self._peer

    def _give_peer(self, out: list[Operation[S]]) -> None:
        if self._peer is not None:
            self._peer.last = True
            out.append(self._peer)
            self._peer = None

    def _secret_of(self, value: str, key: str) -> S:
        try:
            return self._secret(value)
        except ValueError:
            raise _Bad(errno.EINVAL, f"{key}: expected 64 hexadecimal digits") from None


def _true(value: str, key: str) -> None:
    if value != "true":
        raise _Bad(errno.EINVAL, f"{key}: expected true")


def _number(value: str, limit: int, key: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 10 or int(value) > limit:
        raise _Bad(errno.EINVAL, f"{key}: expected a number from 0 to {limit}")
    return int(value)


def status_text(number: int, operation: Literal["get", "set"]) -> str:
    """The line that ends an answer; *number* is a positive errno or 0."""
    return f"errno={-number if operation == 'set' else number}\n\n"


def device_text(private_key_hex: str | None, listen_port: int, fwmark: int) -> str:
    """The interface's part of the answer to `get`; what is unset is left out."""
    return (
        (f"private_key={private_key_hex}\n" if private_key_hex else "")
        + (f"listen_port={listen_port}\n" if listen_port else "")
        + (f"fwmark={fwmark}\n" if fwmark else "")
    )


def peer_text(
    public_key: bytes,
    preshared_key_hex: str,
    endpoint: tuple[bytes, int, int] | None,
    handshake_ns: int,
    tx_bytes: int,
    rx_bytes: int,
    keepalive_s: int,
) -> str:
    """
    One peer's part of the answer to `get`, without its prefixes (`allowed_ips_text`).

    Args:
        preshared_key_hex: `NO_PSK_HEX` where there is none; it is always told.
        endpoint: packed address, port, scope id.
        handshake_ns: wall clock of the last completed handshake, 0 = never.
    """
    if endpoint is None:
        where = ""
    else:
        packed, port, scope_id = endpoint
        if len(packed) == 4:
            where = f"endpoint={inet_ntop(AF_INET, packed)}:{port}\n"
        else:
            scope = f"%{scope_id}" if scope_id else ""
            where = f"endpoint=[{inet_ntop(AF_INET6, packed)}{scope}]:{port}\n"
    seconds, nanoseconds = divmod(handshake_ns, 1_000_000_000)
    return (
        f"public_key={public_key.hex()}\npreshared_key={preshared_key_hex}\nprotocol_version=1\n{where}"
        f"last_handshake_time_sec={seconds}\nlast_handshake_time_nsec={nanoseconds}\n"
        f"tx_bytes={tx_bytes}\nrx_bytes={rx_bytes}\npersistent_keepalive_interval={keepalive_s}\n"
    )


def allowed_ips_text(prefixes: Iterable[tuple[bytes, int]]) -> str:
    """A peer's prefixes as lines of the answer to `get`."""
    return "".join(
        [f"allowed_ip={inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)}/{bits}\n" for packed, bits in prefixes]
    )
