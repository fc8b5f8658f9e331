"""
The control socket: what `ginnel` asks of the process that owns a tunnel, and the UAPI has no words for.

    /run/ginnel/NAME.sock    mode 0600; root or the user who runs the process

One request a line, one answer a line, both JSON objects. Every answer has a schema and is `ginnel.show/1` (see
`watch.snapshot`) or

    {"schema": "ginnel.control/1", "ok": true, ...}          or          {"schema": "ginnel.control/1", "ok": false, "error":
    "words"}

    {"op": "show"}                   the snapshot; of a node's process all its tunnels, or one: {"op": "show", "tunnel": "gre1"}
    {"op": "names", "peers": {"<public key, base64>": {"name": "lyon", "endpoint_host": "vpn.example.org:51820"}, ...}}
                                     replaces all names; either field may be left out; a peer need not be configured yet
    {"op": "state"}                  {"interface", "pid", "state": "up" | "down", "config", "uapi_path"}; of a node's process
                                     {"node", "pid", "state", "config", "namespace", "tunnels": [{"name", "kind", "state",
                                     "error"}, ...]}; namespace: of its sockets, as /proc names it
    {"op": "initiate", "tunnel": "gre1"}, and so "terminate", "rekey", "rekey-ike"
                                     of a node's process: begin that for a protected tunnel, or without "tunnel" for all;
                                     the answer has their names: "tunnels"
    {"op": "stop"}                   answers, then the process ends as by SIGTERM
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ginnel.runtime.resolve import parse_host
from ginnel.units import PublicKey

SCHEMA = "ginnel.control/1"
#: Names for a hundred thousand peers.
REQUEST_LIMIT_BYTES = 16 << 20
#: A name is shown in a column of a terminal.
NAME_LIMIT_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Name:
    """What a configuration calls a peer, and the host and port that it gave as endpoint; both may be missing."""

    name: str
    host: tuple[str, int] | None


class Controlled(Protocol):
    """What the control socket needs of the owner of the tunnel."""

    def show(self, tunnel: str | None = None) -> Iterator[str]: ...
    def set_names(self, names: dict[PublicKey, Name]) -> None: ...
    def describe(self) -> dict[str, object]: ...
    def stop(self, reason: str) -> None: ...
    def ipsec(self, what: str, tunnel: str | None) -> list[str]:
        """Begin *what* for a protected tunnel or all of them; their names. ValueError: not possible, and why."""


def peer_may_ask(sock: socket.socket) -> bool:
    """The other end runs as root or as us (SO_PEERCRED)."""
    _, uid, _ = struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid in (0, os.geteuid())


def parse_names(peers: object) -> dict[PublicKey, Name]:
    """
    The table of a `names` request.

    Raises:
        ValueError: says which entry is wrong and what was expected.
    """
    if not isinstance(peers, dict):
        raise ValueError("peers: expected an object of public keys")
    return {PublicKey.from_base64(key): _name(key, entry) for key, entry in peers.items()}


def _name(key: str, entry: object) -> Name:
    if not isinstance(entry, dict):
        raise ValueError(f"peers.{key}: expected an object")
    name, host = entry.get("name") or "", entry.get("endpoint_host") or ""
    if not isinstance(name, str) or not isinstance(host, str):
        raise ValueError(f"peers.{key}: expected name and endpoint_host to be strings")
    if len(name) > NAME_LIMIT_CHARACTERS or not all(c.isprintable() for c in name):
        raise ValueError(f"peers.{key}.name: expected at most {NAME_LIMIT_CHARACTERS} printable characters")
    return Name(name, parse_host(host) if host else None)


class ControlSession:
    """One connection to the control socket."""

    def __init__(self, owner: Controlled) -> None:
        self._owner = owner
        self._tail = b""
        self.finished = False

    def receive(self, data: bytes) -> Iterator[bytes]:
        """Answer every whole line of *data*."""
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            for piece in self._answer(line):
                yield piece.encode()
            yield b"\n"
        if len(self._tail) > REQUEST_LIMIT_BYTES:
            self._tail = b""
            self.finished = True
            yield (_refusal(f"expected a request of at most {REQUEST_LIMIT_BYTES} bytes") + "\n").encode()

    def _answer(self, line: bytes) -> Iterator[str]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return iter([_refusal("expected one JSON object a line")])
        if not isinstance(request, dict):
            return iter([_refusal("expected a JSON object")])
        try:
            if request.get("op") == "show":
                return self._owner.show(_tunnel(request))
            return iter([self._serve(request)])
        except ValueError as error:
            return iter([_refusal(str(error))])

    def _serve(self, request: dict[str, Any]) -> str:
        match request.get("op"):
            case "names":
                self._owner.set_names(parse_names(request.get("peers")))
                return _done({})
            case "state":
                return _done(self._owner.describe())
            case "initiate" | "terminate" | "rekey" | "rekey-ike" as what:
                return _done({"tunnels": self._owner.ipsec(what, _tunnel(request))})
            case "stop":
                self._owner.stop("asked to by the control socket")
                return _done({})
            case _:
                return _refusal("op: expected show, names, state, initiate, terminate, rekey, rekey-ike or stop")


def _tunnel(request: dict[str, Any]) -> str | None:
    name = request.get("tunnel")
    if name is not None and not isinstance(name, str):
        raise ValueError("tunnel: expected a string")
    return name


def _done(fields: dict[str, object]) -> str:
    return json.dumps({"schema": SCHEMA, "ok": True, **fields})


def _refusal(error: str) -> str:
    return json.dumps({"schema": SCHEMA, "ok": False, "error": error})
