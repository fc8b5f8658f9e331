"""The snapshot's JSON: its schema, every field, and no more."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import pytest

from ginnel.watch.snapshot import PEERS_PER_PIECE, PeerView, TunnelView, Verdict, json_pieces, to_json

YES = Verdict("yes", "because")


def tunnel() -> TunnelView:
    peer = PeerView(
        name="lyon", public_key="k", has_preshared_key=True, endpoint=None, endpoint_host="", allowed_ips=("10.0.0.0/8",),
        keepalive_s=25, state="up", why="w", configured=YES, alive=YES, carrying=YES, handshake_unix=1.5, handshake_age_s=None,
        session_age_s=None, last_receive_age_s=None, last_send_age_s=2.5, rx_bytes=1, tx_bytes=2, rx_packets=3, tx_packets=4,
        staged=0,
    )  # fmt: skip
    return TunnelView(
        name="wg0", kind="wireguard", backend="engine", version="0", pid=1, started_unix=0.0, config="", state="up",
        public_key=None, listen_port=1, fwmark=0, mtu=1420, namespace="birth", configured=YES, alive=YES, carrying=YES,
        drops={"replay": 1}, offloads={}, warnings=("w",), peers=(peer,),
    )  # fmt: skip


def test_every_field_is_in_the_json_and_nothing_else() -> None:
    whole = json.loads(to_json(tunnel()))
    assert whole["schema"] == "ginnel.show/1"
    assert list(whole) == ["schema", "tunnel"]
    assert set(whole["tunnel"]) == {field.name for field in dataclasses.fields(TunnelView)}
    (peer,) = whole["tunnel"]["peers"]
    assert list(peer) == [field.name for field in dataclasses.fields(PeerView)]
    assert peer["alive"] == {"answer": "yes", "why": "because"}
    assert peer["allowed_ips"] == ["10.0.0.0/8"]
    assert peer["handshake_age_s"] is None


def test_it_is_one_line() -> None:
    assert "\n" not in to_json(tunnel())


@pytest.mark.parametrize("count", [0, 1, PEERS_PER_PIECE, PEERS_PER_PIECE + 1, 3 * PEERS_PER_PIECE])
def test_pieces_are_one_object_and_peers_are_made_as_they_are_written(count: int) -> None:
    made = 0

    def peers() -> Iterator[PeerView]:
        nonlocal made
        for i in range(count):
            made += 1
            yield dataclasses.replace(tunnel().peers[0], name=f"p{i}")

    pieces: list[str] = []
    for piece in json_pieces(peers(), tunnel):
        assert made <= len(pieces) * PEERS_PER_PIECE
        pieces.append(piece)
    whole = json.loads("".join(pieces))
    assert [peer["name"] for peer in whole["tunnel"]["peers"]] == [f"p{i}" for i in range(count)]
    assert whole["tunnel"]["name"] == "wg0"
