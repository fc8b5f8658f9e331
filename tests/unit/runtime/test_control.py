"""The control socket's conversation, without a socket: every operation, every mistake, any cut of the stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ginnel.runtime.control import NAME_LIMIT_CHARACTERS, REQUEST_LIMIT_BYTES, ControlSession, Name
from ginnel.units import PublicKey
from ginnel.watch.snapshot import TunnelView, Verdict, json_pieces

KEY = PublicKey(b"\xaa" * 32)
NONE = Verdict("unknown", "no peers")


class Owner:
    """Records what it is asked for."""

    def __init__(self) -> None:
        self.names: dict[PublicKey, Name] = {}
        self.stopped = ""

    def show(self, tunnel: str | None = None) -> Iterator[str]:
        view = TunnelView(
            "wg0", "wireguard", "engine", "0", 1, 0.0, "", "up", None, 0, 0, 1420, "birth", NONE, NONE, NONE, {}, {}, (), ()
        )
        return json_pieces((), lambda: view)

    def set_names(self, names: dict[PublicKey, Name]) -> None:
        self.names = names

    def describe(self) -> dict[str, object]:
        return {"interface": "wg0"}

    def stop(self, reason: str) -> None:
        self.stopped = reason


def converse(owner: Owner, *pieces: bytes) -> list[dict[str, Any]]:
    session = ControlSession(owner)
    said = b"".join(part for piece in pieces for part in session.receive(piece))
    return [json.loads(line) for line in said.splitlines()]


def test_each_operation() -> None:
    owner = Owner()
    names = {KEY.base64(): {"name": "lyon", "endpoint_host": "vpn.example.org:51820"}}
    shown, named, state, stopped = converse(
        owner,
        b'{"op": "show"}\n',
        json.dumps({"op": "names", "peers": names}).encode() + b"\n",
        b'{"op": "state"}\n{"op": "stop"}\n',
    )
    assert shown["schema"] == "ginnel.show/1"
    assert shown["tunnel"]["name"] == "wg0"
    assert named == {"schema": "ginnel.control/1", "ok": True}
    assert owner.names == {KEY: Name("lyon", ("vpn.example.org", 51820))}
    assert state == {"schema": "ginnel.control/1", "ok": True, "interface": "wg0"}
    assert stopped["ok"]
    assert owner.stopped


@pytest.mark.parametrize("piece", [1, 2, 5])
def test_pieces_of_any_size_give_the_same(piece: int) -> None:
    text = b'{"op": "state"}\n{"op": "fly"}\n'
    pieces = [text[i : i + piece] for i in range(0, len(text), piece)]
    assert converse(Owner(), *pieces) == converse(Owner(), text)


def test_either_field_of_a_name_may_be_left_out() -> None:
    owner = Owner()
    converse(owner, json.dumps({"op": "names", "peers": {KEY.base64(): {}}}).encode() + b"\n")
    assert owner.names == {KEY: Name("", None)}


@pytest.mark.parametrize(
    "entry",
    [
        [],
        {"name": 7},
        {"endpoint_host": 7},
        {"endpoint_host": "nohost"},
        {"name": "x" * (NAME_LIMIT_CHARACTERS + 1)},
        {"name": "two\nlines"},
        {"name": "\x1b[31m"},
    ],
)
def test_a_name_that_is_none_changes_nothing(entry: object) -> None:
    owner = Owner()
    (answer,) = converse(owner, json.dumps({"op": "names", "peers": {KEY.base64(): entry}}).encode() + b"\n")
    assert answer["ok"] is False
    assert "expected" in answer["error"]
    assert owner.names == {}


def test_a_request_without_end_is_refused_and_closed_upon() -> None:
    session = ControlSession(Owner())
    said = b"".join(session.receive(b"x" * (REQUEST_LIMIT_BYTES + 1)))
    assert "at most" in json.loads(said)["error"]
    assert session.finished
