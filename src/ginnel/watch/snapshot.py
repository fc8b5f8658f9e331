"""
One tunnel at one moment, as frozen values, and their JSON.

A snapshot is what a person may ask about a running tunnel: how it is configured, what state each peer is in *and why*,
what was counted. It holds no secret: whether a preshared key exists is told, never which. Times are of two kinds: `*_unix` is
wall clock seconds (0 = never), `*_age_s` is an age in seconds on a clock that is never set back (null = never).

The JSON has one schema name, `ginnel.show/1`. Fields are only ever added to it; one that must change its meaning makes it `/2`.

    {"schema": "ginnel.show/1", "tunnel": {"peers": [PeerView, ...], the other fields of TunnelView}}

Every judgement is a `Verdict`: `{"answer": "yes" | "no" | "unknown", "why": "in words"}`. See `health` for the rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, is_dataclass
from itertools import islice
from typing import Any, Literal

SCHEMA = "ginnel.show/1"
#: A piece is made in some 5 ms.
PEERS_PER_PIECE = 128

Answer = Literal["yes", "no", "unknown"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer and, in words a person reads, why."""

    answer: Answer
    why: str


@dataclass(frozen=True, slots=True)
class PeerView:
    """
    One peer.

    name: from the configuration; empty where it gave none.
    state: one word of the protocol machine (never, handshaking, up, stale, no-endpoint, no-key ...), and `why` its sentence.
    endpoint: numeric address:port as the engine sends to it now, or null; endpoint_host is the name it was configured by.
    """

    name: str
    public_key: str
    has_preshared_key: bool
    endpoint: str | None
    endpoint_host: str
    allowed_ips: tuple[str, ...]
    keepalive_s: int
    state: str
    why: str
    configured: Verdict
    alive: Verdict
    carrying: Verdict
    handshake_unix: float
    handshake_age_s: float | None
    session_age_s: float | None
    last_receive_age_s: float | None
    last_send_age_s: float | None
    rx_bytes: int
    tx_bytes: int
    rx_packets: int
    tx_packets: int
    staged: int


@dataclass(frozen=True, slots=True)
class TunnelView:
    """
    One tunnel and its peers.

    state: "up" | "down"; down means the interface is administratively down: no sockets, no sessions.
    config: the file that describes the tunnel, empty for a bare interface.
    namespace: "birth" while the device is where it was made, "moved" when it was moved elsewhere (its sockets stay).
    drops: packets dropped by reason, all reasons of the closed list. offloads: "on" or why not.
    warnings: sentences for a person (a clock set back, a device we cannot follow); empty when all is well.
    """

    name: str
    kind: str
    backend: str
    version: str
    pid: int
    started_unix: float
    config: str
    state: str
    public_key: str | None
    listen_port: int
    fwmark: int
    mtu: int
    namespace: str
    configured: Verdict
    alive: Verdict
    carrying: Verdict
    drops: dict[str, int]
    offloads: dict[str, str]
    warnings: tuple[str, ...]
    peers: tuple[PeerView, ...]


def plain(view: object) -> Any:
    """A view as the lists and dicts that JSON knows; unlike `dataclasses.asdict` it copies nothing it need not."""
    if is_dataclass(view):
        return {field: plain(getattr(view, field)) for field in view.__dataclass_fields__}
    if isinstance(view, tuple):
        return [plain(item) for item in view]
    return view


def json_pieces(peers: Iterable[PeerView], tunnel: Callable[[], TunnelView]) -> Iterator[str]:
    """
    The snapshot as one JSON object of schema `ginnel.show/1`, in pieces of `PEERS_PER_PIECE` peers.

    Ten thousand peers are 8 MB: neither the views nor the text of all of them need exist at once.

    Args:
        peers: made one by one as they are asked for.
        tunnel: asked for when all peers have been seen, because its verdicts are theirs; its own `peers` are left out.
    """
    yield f'{{"schema": "{SCHEMA}", "tunnel": {{"peers": ['
    separator = ""
    peers = iter(peers)
    while batch := list(islice(peers, PEERS_PER_PIECE)):
        yield separator + ", ".join([json.dumps(plain(peer)) for peer in batch])
        separator = ", "
    whole = plain(tunnel())
    del whole["peers"]
    yield "], " + json.dumps(whole)[1:] + "}"


def to_json(view: TunnelView) -> str:
    """The snapshot as one line of JSON."""
    return "".join(json_pieces(view.peers, lambda: view))
