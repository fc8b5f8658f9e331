"""
The UAPI socket's sessions: `ginnel.wire.uapi`'s operations, applied to the owner of the tunnel as they are parsed.

A `set` is applied line after line and never taken back; its first failure is answered and ends the connection. A `get` is made
in pieces of about `PIECE_BYTES`, from counters taken at once: peers that go away while a slow reader reads are left out.

`remove`, `update_only` on an unknown peer and adding our own public key give no peer: what the same section says further is
checked and has no effect. So has `update_only` on a peer that an earlier line of the same section made: it is unmade.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from ginnel.crypto import Secret
from ginnel.runtime.owner import Owner
from ginnel.wire import uapi
from ginnel.wireguard.peer import Peer, PeerChange

#: A piece of an answer: made in a few milliseconds.
PIECE_BYTES = 65_536
#: Prefixes rendered at once.
PREFIXES_PER_PIECE = 2_048


class UapiSession:
    """One connection to the UAPI socket."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser: uapi.Parser[Secret] = uapi.Parser(Secret.from_hex)
        #: Whether the section that is being read made its peer, and whether what it says further has no effect.
        self._made = False
        self._void = False
        self.finished = False

    def receive(self, data: bytes) -> Iterator[bytes]:
        """Apply what *data* completes; the answers of operations that it ends."""
        operations = self._parser.feed(data) if data else self._parser.end_of_stream()
        for operation in operations:
            match operation:
                case uapi.Get():
                    yield from self._answer_get()
                case uapi.Failure(kind, number, message):
                    yield self._refuse(kind, number, message)
                    return
                case uapi.Unknown():
                    self.finished = True
                    return
                case _:
                    try:
                        answer = self._apply(operation)
                    except OSError as error:
                        yield self._refuse("set", error.errno or errno.EIO, error.strerror or "the engine refused")
                        return
                    if answer:
                        yield answer

    def _refuse(self, operation: str, number: int, message: str) -> bytes:
        self._owner.journal("uapi_refused", operation=operation, errno=errno.errorcode.get(number, number), error=message)
        self.finished = True
        return uapi.status_text(number, "get" if operation == "get" else "set").encode()

    def _apply(self, operation: uapi.Operation[Secret]) -> bytes:
        """Apply one operation of a `set`; its answer, empty but for the last."""
        owner = self._owner
        match operation:
            case uapi.PeerChange():
                self._apply_peer(operation)
            case uapi.SetPrivateKey(key):
                owner.set_private_key(key)
            case uapi.SetListenPort(port):
                owner.set_listen_port(port)
            case uapi.SetFwmark(mark):
                owner.set_fwmark(mark)
            case uapi.ReplacePeers():
                owner.replace_peers()
            case uapi.End():
                owner.configured()
                return uapi.status_text(0, "set").encode()
            case _:
                raise AssertionError("not an operation of a set")
        return b""

    def _apply_peer(self, change: uapi.PeerChange[Secret]) -> None:
        owner, key = self._owner, change.public_key
        if change.first:
            self._void = False
            self._made = owner.interface.peer(key) is None
        if self._void:
            return
        unmade = change.update_only and self._made and not change.first
        there = owner.configure_peer(
            PeerChange(
                key,
                change.remove or unmade,
                change.update_only or not change.first,
                change.preshared_key,
                change.endpoint,
                change.keepalive_s,
                change.replace_allowed_ips,
                tuple(change.add),
                tuple(change.take),
            )
        )
        self._void = not there

    # ------------------------------------------------------------ get

    def _answer_get(self) -> Iterator[bytes]:
        owner = self._owner
        key = owner.interface.private_key
        pieces = [uapi.device_text(key.reveal_hex() if key else None, owner.tunnel.listen_port, owner.interface.fwmark)]
        size = len(pieces[0])
        counters = {counter.peer: counter for counter in owner.tunnel.counters()}
        for peer in list(owner.interface.peers()):
            counter = counters.get(peer.handle)
            if counter is None:
                continue
            psk = peer.preshared_key
            text = uapi.peer_text(
                peer.public_key,
                psk.reveal_hex() if psk else uapi.NO_PSK_HEX,
                counter.endpoint,
                peer.handshake_unix_ns,
                counter.tx_bytes,
                counter.rx_bytes,
                peer.keepalive_s,
            )
            pieces.append(text)
            size += len(text)
            for text in self._prefixes(peer):
                pieces.append(text)
                size += len(text)
                if size >= PIECE_BYTES:
                    yield "".join(pieces).encode()
                    pieces, size = [], 0
        pieces.append(uapi.status_text(0, "get"))
        yield "".join(pieces).encode()

    def _prefixes(self, peer: Peer) -> Iterator[str]:
        try:
            prefixes = self._owner.tunnel.allowed_ips(peer.handle)
        except KeyError:  # removed while the reader was slow
            return
        if len(prefixes) <= PREFIXES_PER_PIECE:
            yield uapi.allowed_ips_text(prefixes)
            return
        for start in range(0, len(prefixes), PREFIXES_PER_PIECE):
            yield uapi.allowed_ips_text(prefixes[start : start + PREFIXES_PER_PIECE])
