"""
The owner when something goes wrong, with an engine of the test: mistakes, refused ports, a worker's end.

What it does when all is well is seen on real devices, in tests/peers.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ginnel import crypto
from ginnel.crypto import Secret
from ginnel.runtime import owner as module
from ginnel.runtime.journal import Journal
from ginnel.runtime.monitor import Link
from ginnel.runtime.owner import WARNINGS_LIMIT, Owner, read_clocks
from ginnel.units import NS_PER_S, Endpoint, Now, Prefix, PublicKey
from ginnel.watch.log import Level
from ginnel.wireguard.interface import TIMERS_PER_CALL, Interface
from ginnel.wireguard.peer import PeerChange

KEY = PublicKey(b"\xaa" * 32)


class Handshake(NamedTuple):
    """In place of the engine's event, which only the engine can make."""

    tunnel: int
    message: bytes
    source: object


class Needed(NamedTuple):
    tunnel: int
    peer: int
    reason: str


class Gone(NamedTuple):
    tunnel: int
    reason: str


class Engine:
    """Gives the events it is told to; its eventfd is never readable by itself."""

    def __init__(self) -> None:
        self.eventfd, self._other = os.pipe()
        self.events: list[object] = []

    def drain(self, limit: int) -> list[object]:
        taken, self.events = self.events[:limit], self.events[limit:]
        return taken

    def close(self) -> None:
        os.close(self.eventfd)
        os.close(self._other)


class Tunnel:
    """Answers every call; refuses ports that it is told are taken."""

    name, tun_fd, id, is_up = "wg0", 9_999, 1, False

    def __init__(self) -> None:
        self.listen_port = 0
        self.taken: set[int] = set()
        self.handles = self.indices = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments: None

    def add_peer(self, public_key: bytes) -> int:
        self.handles += 1
        return self.handles

    def reserve_index(self, peer: int) -> int:
        self.indices += 1
        return self.indices

    def set_listen_port(self, port: int) -> None:
        if port in self.taken:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), "bind")
        self.listen_port = port

    def up(self) -> None:
        self.set_listen_port(self.listen_port)

    def counters(self) -> list[object]:
        return []

    def drops(self) -> dict[str, int]:
        return {}

    def offloads(self) -> dict[str, str]:
        return {}


class World:
    """An owner, and all it said."""

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Path) -> None:
        self.engine, self.tunnel = Engine(), Tunnel()
        self.lines: list[str] = []
        self.owner = Owner(
            loop,
            self.engine,  # type: ignore[arg-type]
            self.tunnel,
            Journal(Level.INFO, lambda _, line: self.lines.append(line)),
            state_path=str(directory / "wg0.state"),
            uapi_path="",
        )

    def show(self) -> dict[str, Any]:
        tunnel = json.loads("".join(self.owner.show()))["tunnel"]
        assert isinstance(tunnel, dict)
        return tunnel


def play(tmp_path: Path, scene: Callable[[World], None]) -> None:
    async def wrapped() -> None:
        world = World(asyncio.get_running_loop(), tmp_path)
        scene(world)
        world.owner.close()

    asyncio.run(wrapped())


def test_a_mistake_is_said_without_its_text_and_loses_no_other_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HandshakeReceived", Handshake)
    monkeypatch.setattr(module, "SessionNeeded", Needed)
    needed: list[tuple[int, str]] = []

    def receive(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(Interface, "receive", receive)
    monkeypatch.setattr(Interface, "session_needed", lambda _, peer, reason, now: needed.append((peer, reason)))

    def scene(world: World) -> None:
        world.engine.events = [Handshake(1, b"", None), Needed(1, 7, "packets"), Handshake(1, b"", None), Needed(1, 8, "silent")]
        world.owner._drain()
        assert needed == [(7, "packets"), (8, "silent")]
        assert [line.split(" at=")[0] for line in world.lines] == ["failed error=ZeroDivisionError"] * 2
        (warning,) = world.show()["warnings"]
        assert "ZeroDivisionError at test_owner.py:" in warning
        assert "secret" not in warning + "".join(world.lines)

    play(tmp_path, scene)


def test_a_mistake_with_one_peer_stops_neither_the_timers_nor_the_others(tmp_path: Path) -> None:
    def scene(world: World) -> None:
        owner, tunnel = world.owner, world.tunnel
        owner.set_private_key(Secret.random())
        owner._link_seen(Link(1, "wg0", True, 1420))
        began = read_clocks()
        for number in range(3):
            key = crypto.public_key(crypto.generate_private_key())
            owner.configure_peer(PeerChange(key, endpoint=Endpoint(b"\x7f\0\0\1", 9)))
            owner.interface.session_needed(number + 1, "packets", began)
            owner._apply()
        sent: list[int] = []

        def clear_source(peer: int) -> None:
            if peer == 2:
                raise KeyError(peer)

        tunnel.__dict__.update(clear_source=clear_source, send_handshake=lambda peer, message: sent.append(peer))
        owner._clocks = lambda: Now(began.mono_ns + 6 * NS_PER_S, began.unix_ns + 6 * NS_PER_S)
        owner._timeout()
        assert sorted(sent) == [1, 2, 3]
        assert owner._timer is not None
        assert [line.split(" at=")[0] for line in world.lines if line.startswith("failed")] == ["failed error=KeyError"]

    play(tmp_path, scene)


def test_a_mistake_of_the_machine_leaves_its_timer_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scene(world: World) -> None:
        world.owner.set_private_key(Secret.random())
        world.owner._link_seen(Link(1, "wg0", True, 1420))
        now = read_clocks()
        world.owner.configure_peer(PeerChange(KEY, endpoint=Endpoint(b"\x7f\0\0\1", 9)))
        world.owner.interface.session_needed(1, "packets", now)

        def timeout(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(Interface, "timeout", timeout)
        world.owner._timeout()
        assert world.owner._timer is not None
        assert "ZeroDivisionError" in world.show()["warnings"][0]

    play(tmp_path, scene)


def test_thousands_of_overdue_timers_leave_others_their_turn(tmp_path: Path) -> None:
    async def scene() -> None:
        world = World(asyncio.get_running_loop(), tmp_path)
        owner, count = world.owner, 10 * TIMERS_PER_CALL
        began = read_clocks()
        owner._clocks = lambda: began
        owner.set_private_key(Secret.random())
        owner._link_seen(Link(1, "wg0", True, 1420))
        for _ in range(count):
            key = crypto.public_key(crypto.generate_private_key())
            owner.configure_peer(PeerChange(key, endpoint=Endpoint(b"\x7f\0\0\1", 9)))
            owner.interface.session_needed(world.tunnel.handles, "packets", began)
            owner._apply()
        peers = list(owner.interface.peers())
        owner._clocks = lambda: Now(began.mono_ns + 6 * NS_PER_S, began.unix_ns + 6 * NS_PER_S)
        owner._timeout()
        turns = 0
        while not all(peer.initiations == 2 for peer in peers):
            await asyncio.sleep(0)  # another's turn
            turns += 1
            assert sum(peer.initiations == 2 for peer in peers) <= (turns + 1) * TIMERS_PER_CALL
            assert turns < 100_000
        owner.close()

    asyncio.run(scene())


def test_what_was_silent_is_forgotten_with_its_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SessionNeeded", Needed)

    def scene(world: World) -> None:
        for _ in range(10):
            world.owner.configure_peer(PeerChange(KEY))
            world.engine.events = [Needed(1, world.tunnel.handles, "silent")]
            world.owner._drain()
            world.owner.configure_peer(PeerChange(KEY, remove=True))
        world.engine.events = [Needed(1, world.tunnel.handles, "silent")]  # was on its way when the peer was removed
        world.owner._drain()
        assert world.owner._silent_ns == {}

    play(tmp_path, scene)


def test_after_a_suspend_an_event_brings_the_overdue_timer_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's clock stood still: what is due on the engine's clock is hours away on the loop's."""
    monkeypatch.setattr(module, "SessionNeeded", Needed)

    async def scene() -> None:
        world = World(asyncio.get_running_loop(), tmp_path)
        owner, began = world.owner, read_clocks()
        owner._clocks = lambda: began
        owner.set_private_key(Secret.random())
        owner._link_seen(Link(1, "wg0", True, 1420))
        owner.configure_peer(PeerChange(KEY, endpoint=Endpoint(b"\x7f\0\0\1", 9)))
        world.engine.events = [Needed(1, 1, "packets")]
        owner._drain()
        (peer,) = owner.interface.peers()
        assert peer.initiations == 1
        owner._clocks = lambda: Now(began.mono_ns + 3600 * NS_PER_S, began.unix_ns + 3600 * NS_PER_S)
        world.engine.events = [Needed(1, 99, "packets")]
        owner._drain()
        for _ in range(5):
            await asyncio.sleep(0)
        assert peer.initiations == 2
        owner.close()

    asyncio.run(scene())


def test_warnings_are_bounded(tmp_path: Path) -> None:
    def scene(world: World) -> None:
        for i in range(WARNINGS_LIMIT + 5):
            world.owner._warn(f"{i}")
        assert world.show()["warnings"] == [str(i) for i in range(5, WARNINGS_LIMIT + 5)]

    play(tmp_path, scene)


def test_a_refused_port_leaves_the_old_one_in_every_place(tmp_path: Path) -> None:
    def scene(world: World) -> None:
        world.owner.set_listen_port(51820)
        world.tunnel.taken = {51821}
        with pytest.raises(OSError, match="in use"):
            world.owner.set_listen_port(51821)
        assert (world.owner.interface.listen_port, world.show()["listen_port"]) == (51820, 51820)

    play(tmp_path, scene)


def test_sockets_that_could_not_be_opened_are_tried_again_after_each_request(tmp_path: Path) -> None:
    def scene(world: World) -> None:
        world.owner.set_listen_port(51820)
        world.tunnel.taken = {51820}
        world.owner._link_seen(Link(1, "wg0", True, 1420))
        assert world.show()["state"] == "down"
        assert "UDP port 51820: Address already in use" in world.show()["warnings"][0]
        with pytest.raises(OSError, match="in use"):
            world.owner.configured()
        world.tunnel.taken = set()
        world.owner.configured()
        assert (world.show()["state"], world.show()["warnings"]) == ("up", [])

    play(tmp_path, scene)


def test_a_worker_that_ended_is_a_failure_and_a_deleted_device_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DeviceGone", Gone)

    def deleted(world: World) -> None:
        world.engine.events = [Gone(1, "the device wg0 was deleted")]
        world.owner._drain()  # its descriptor is none: the device is gone
        assert (world.owner.exit_code, world.owner.finished.result()) == (0, "the device wg0 was deleted")

    def panicked(world: World) -> None:
        monkeypatch.setattr(module, "device_name", lambda _: "wg0")
        world.engine.events = [Gone(1, "a thread panicked")]
        world.owner._drain()
        assert (world.owner.exit_code, world.owner.finished.result()) == (1, "a thread panicked")
        assert world.lines == ['worker_ended interface=wg0 reason="a thread panicked"']

    play(tmp_path, deleted)
    play(tmp_path, panicked)


def test_what_changed_is_written_when_it_ends(tmp_path: Path) -> None:
    def scene(world: World) -> None:
        world.owner.set_private_key(Secret.random())
        world.owner.configure_peer(PeerChange(KEY, allowed_ips=(Prefix.parse("10.0.0.0/8"),)))
        world.owner._changed()

    play(tmp_path, scene)
    assert json.loads((tmp_path / "wg0.state").read_text())["schema"] == "ginnel.state/1"


def test_without_a_thread_to_write_the_state_it_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    def scene(world: World) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(module.threading.Thread, "start", refuse)
            world.owner._save()
        assert [line.split()[0] for line in world.lines] == ["state_unwritable"]
        assert world.owner._save_timer is not None

    play(tmp_path, scene)
    assert (tmp_path / "wg0.state").exists()


def test_a_state_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    async def scene() -> list[str]:
        world = World(asyncio.get_running_loop(), tmp_path / "missing")
        world.owner._save()
        for _ in range(2000):  # a thread writes
            await asyncio.sleep(0.005)
            if world.lines:
                break
        world.owner.close()
        return world.lines

    (line,) = asyncio.run(scene())
    assert line.startswith("state_unwritable path=")
    assert 'error="No such file or directory"' in line
