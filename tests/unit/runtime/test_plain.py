"""
The owner of one plain tunnel, with an engine and a loop of the test: ends, names, keepalives, mismatches, what is said.

What it does when all is well is seen on real devices, in tests/peers/test_node.py.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from ginnel.config.node import Encapsulation, Keepalive, PlainConfig
from ginnel.runtime import plain as module
from ginnel.runtime.journal import Journal
from ginnel.runtime.monitor import Link
from ginnel.runtime.plain import PlainOwner, ends, packed, placeholder, text_of
from ginnel.runtime.routes import Route, Way
from ginnel.testing import FakeClock
from ginnel.testing import plain as testing
from ginnel.testing.loop import FakeLoop
from ginnel.testing.plain import ControlReceived, FakePlain, Mismatch, PathError
from ginnel.units import NS_PER_S, Endpoint
from ginnel.watch.log import Level
from ginnel.watch.snapshot import plain as as_json
from ginnel.wire import gre

US, PEER, ROUTER = (socket.inet_aton(text) for text in ("192.0.2.1", "198.51.100.20", "203.0.113.7"))
CONFIG = PlainConfig("gre1", "gre", 4, local="192.0.2.1", remote="198.51.100.20", mtu=1476)


class Resolver:
    """Keeps the questions; the test answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[list[Endpoint], str], None] | None = None

    def ask(self, host: str, port: int, answer: Callable[[list[Endpoint], str], None]) -> None:
        self.asked.append(host)
        self.answer = answer

    def give(self, *addresses: str, why: str = "") -> None:
        answer, self.answer = self.answer, None
        assert answer is not None
        answer([Endpoint(module.packed(text) or b"", 0) for text in addresses], why)


class World:
    """One tunnel, and the process around it; it is the tunnel's `Host`."""

    def __init__(self, config: PlainConfig = CONFIG, *, up: bool = True) -> None:
        self.clock = FakeClock()
        self.loop: Any = FakeLoop(self.clock)
        self.lines: list[str] = []
        self.journal = Journal(Level.DEBUG, lambda _, line: self.lines.append(line))
        self.names = Resolver()
        self.resolver: Any = self.names
        self.pinged = self.routes_wanted = 0
        self.gone: list[tuple[str, bool]] = []
        self.tunnel = FakePlain()
        self.owner = PlainOwner(self, config, self.tunnel, position=0)  # type: ignore[arg-type]
        if up:
            self.link()
            self.route()

    def mono_ns(self) -> int:
        return self.clock.mono_ns

    def route_wanted(self) -> None:
        self.routes_wanted += 1

    def ping(self, tunnel: PlainOwner) -> None:
        self.pinged += 1

    def tunnel_gone(self, tunnel: PlainOwner, reason: str, *, deleted: bool) -> None:
        self.gone.append((reason, deleted))

    def mistake(self, error: BaseException) -> None:
        raise error

    def link(self, *, up: bool = True, mtu: int = 1476, name: str = "gre1") -> None:
        self.owner.link_seen(Link(7, name, up, mtu))

    def route(self, device: int = 3, source: bytes | None = US, why: str = "", number: int = 0) -> None:
        self.owner.routed(Route(device, source, number), why)

    def run_for(self, seconds: float, *, tick_s: float = 10.0) -> None:
        left = seconds
        while left > 0:
            step = min(left, tick_s)
            self.loop.run_for(step)
            self.owner.tick()
            left -= step

    def carried(self, *, sent: int = 0, received: int = 0) -> None:
        seen = self.tunnel.seen
        seen.tx_packets += sent
        seen.rx_packets += received
        seen.last_send_ns = self.mono_ns() if sent else seen.last_send_ns
        seen.last_receive_ns = self.mono_ns() if received else seen.last_receive_ns

    def show(self) -> dict[str, Any]:
        view = as_json(self.owner.view(pid=1, started_unix=0.0, node="site", path="/etc/ginnel/site.toml"))
        assert isinstance(view, dict)
        return view

    def said(self, event: str) -> list[str]:
        return [line for line in self.lines if line.startswith(f"{event} ")]


@pytest.fixture(autouse=True)
def events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that a test can make, in place of the engine's."""
    for name in ("ControlReceived", "PathError", "Mismatch"):
        monkeypatch.setattr(module, name, getattr(testing, name))


# ---------------------------------------------------------------- link


def test_up_down_and_mtu_follow_the_link() -> None:
    world = World(up=False)
    assert world.show()["configured"] == {"answer": "no", "why": "the device is down"}
    world.link(mtu=1400)
    assert world.tunnel.calls == [("set_mtu", 1400), ("up",)]
    assert world.show()["state"] == "up"
    world.link(mtu=1400)
    assert len(world.tunnel.calls) == 2, "news of other things"
    world.link(up=False, mtu=1400)
    assert world.tunnel.calls[2:] == [("down",)]
    assert world.said("link_up")
    assert world.said("link_down")


def test_a_renamed_device_is_told_by_its_new_name() -> None:
    world = World()
    world.link(name="wan0")
    assert world.show()["name"] == "wan0"


def test_a_taken_port_is_said_and_tried_again() -> None:
    world = World(
        PlainConfig("gre1", "gre", 4, local="192.0.2.1", remote="198.51.100.20", encapsulation=Encapsulation()), up=False
    )
    world.tunnel.up_error = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), "bind")
    world.link()
    why = "UDP port 4754 is taken by another program; free it or set another (listen)"
    assert world.show()["configured"] == {"answer": "no", "why": why}
    assert world.show()["state"] == "down"
    world.run_for(50)
    assert len(world.said("link_up_failed")) == 1, "once"
    world.tunnel.up_error = None
    world.run_for(10)
    assert world.show()["state"] == "up"
    assert world.owner.error == ""


def test_missing_rights_are_said() -> None:
    world = World(up=False)
    world.tunnel.up_error = PermissionError(errno.EPERM, "no", "socket")
    world.link()
    assert "CAP_NET_RAW" in world.owner.error


def test_where_it_moved() -> None:
    world = World()
    world.owner.link_moved(False)
    assert world.show()["namespace"] == "moved"
    world.owner.link_lost("TUNGETDEVNETNS: Operation not permitted")
    assert "no longer followed" in world.show()["warnings"][0]


# ---------------------------------------------------------------- ends


def test_numeric_ends_and_any() -> None:
    assert ends(CONFIG, 0) == (US, PEER)
    assert ends(PlainConfig("a", "gre", 4, okey=1, ikey=1), 0) == (None, None)
    assert packed("2001:db8::1") == socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    assert text_of(packed("2001:db8::1")) == "2001:db8::1"
    assert text_of(None) == ""


def test_remotes_by_name_that_are_not_known_yet_can_be_told_apart() -> None:
    found = {placeholder(position, family) for position in range(1_000) for family in (4, 6)}
    assert len(found) == 2_000
    assert all(text_of(one).startswith(("0.", "100::")) for one in found)


def test_a_named_remote_is_asked_for_and_until_then_nothing_is_carried() -> None:
    world = World(PlainConfig("gre1", "gre", 4, remote="b.example.org"), up=False)
    world.link()
    assert not world.tunnel.is_up
    world.owner.tick()
    assert world.names.asked == ["b.example.org"]
    assert world.show()["configured"]["why"] == "the remote b.example.org has not been resolved"
    world.names.give(why="Name or service not known")
    assert "Name or service not known" in world.show()["configured"]["why"]
    world.run_for(20)
    world.names.give("2001:db8::1", "198.51.100.20")
    assert world.tunnel.told("set_ends") == [(None, PEER)]
    assert world.tunnel.is_up
    shown = world.show()
    assert (shown["remote"], shown["remote_host"]) == ("198.51.100.20", "b.example.org")


def test_a_name_without_an_address_of_the_family_is_said() -> None:
    world = World(PlainConfig("gre1", "gre", 4, remote="b.example.org"), up=False)
    world.owner.tick()
    world.names.give("2001:db8::1")
    assert "it has no IPv4 address" in world.said("remote_unresolved")[0]


@pytest.mark.parametrize("answer", ["0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255"])
def test_a_name_that_means_no_other_host_is_not_followed(answer: str) -> None:
    """To the engine 0.0.0.0 is any: a filter in the resolver would have opened the tunnel to everybody."""
    world = World(PlainConfig("gre1", "gre", 4, remote="b.example.org"), up=False)
    world.link()
    world.owner.tick()
    world.names.give(answer)
    assert world.tunnel.told("set_ends") == []
    assert not world.tunnel.is_up
    assert answer in world.said("remote_unresolved")[0]
    world.run_for(20)
    world.names.give(answer, "198.51.100.20")
    assert world.tunnel.told("set_ends") == [(None, PEER)]


def test_a_silent_named_remote_is_asked_for_again_with_back_off_and_followed() -> None:
    world = World(PlainConfig("gre1", "gre", 4, remote="b.example.org"), up=False)
    world.link()
    world.owner.tick()
    world.names.give("198.51.100.20")
    for _ in range(120):
        world.run_for(10)
        if world.names.answer is not None:
            world.names.give("198.51.100.20")
    assert 5 < len(world.names.asked) < 12, "10, 20, 40, ... 600 s"
    world.run_for(600)
    world.names.give("198.51.100.21")
    assert world.tunnel.told("set_ends")[-1] == (None, socket.inet_aton("198.51.100.21"))
    assert len(world.said("remote_changed")) == 2


def test_a_named_remote_that_speaks_is_left_alone() -> None:
    world = World(PlainConfig("gre1", "gre", 4, remote="b.example.org"), up=False)
    world.link()
    world.owner.tick()
    world.names.give("198.51.100.20")
    for _ in range(100):
        world.carried(received=1)
        world.run_for(10)
    assert len(world.names.asked) == 1


def test_a_name_that_now_means_another_tunnels_remote_is_said() -> None:
    world = World(PlainConfig("gre1", "gre", 4, remote="b.example.org"), up=False)
    world.link()
    world.owner.tick()
    world.tunnel.ends_error = FileExistsError(errno.EEXIST, "exists", "gre7")
    world.names.give("198.51.100.20")
    assert not world.tunnel.is_up
    assert "which is the remote of gre7" in world.owner.error


def test_a_source_address_that_changes_is_forgotten_by_the_engine() -> None:
    world = World(PlainConfig("gre1", "gre", 4, remote="198.51.100.20"))
    assert world.tunnel.told("set_ends") == []
    world.route(source=socket.inet_aton("192.0.2.77"))
    assert world.tunnel.told("set_ends") == [(None, PEER)]
    assert world.show()["local"] == "192.0.2.77"


def test_a_learned_remote_is_not_forgotten_for_a_new_source_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "address_is_here", lambda address: address == US)
    world = World(PlainConfig("gre1", "gre", 4, ikey=1, okey=1))
    world.route(source=socket.inet_aton("192.0.2.77"))
    assert world.tunnel.told("set_ends") == [], "the old address is still ours"
    world.route(source=US)
    assert world.tunnel.told("set_ends") == [(None, None)], "that one is not"


def test_an_underlay_device_that_was_made_anew_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    index = {"ppp0": 5}
    monkeypatch.setattr(module.socket, "if_nametoindex", lambda name: index.get(name) or (_ for _ in ()).throw(OSError()))
    world = World(PlainConfig("gre1", "gre", 4, local="192.0.2.1", remote="198.51.100.20", dev="ppp0"))
    assert world.show()["configured"]["answer"] == "yes"
    assert world.owner.way() == Way(PEER, US, 0, 5)
    index.clear()
    assert world.show()["configured"]["why"] == "the interface ppp0 is gone"
    index["ppp0"] = 9
    assert world.show()["configured"]["why"] == "the interface ppp0 was made anew: take the node down and up again"


def test_what_the_kernel_is_asked() -> None:
    assert World().owner.way() == Way(PEER, US)
    learned = World(PlainConfig("gre1", "gre", 4, ikey=1, okey=1, fwmark=9))
    assert learned.owner.way() is None
    assert learned.show()["configured"] == {"answer": "yes", "why": "no remote: it has to speak first"}
    learned.tunnel.seen.remote = (PEER, 0)
    assert learned.owner.way() == Way(PEER, None, 9)


def test_missing_ends_are_said() -> None:
    world = World()
    world.owner.local_is_here = False
    assert world.show()["configured"]["why"] == "the local address 192.0.2.1 is on no interface of this host"
    world.owner.local_is_here = True
    world.route(device=0, source=None, number=errno.ENETUNREACH)
    assert world.show()["configured"]["why"] == "there is no route to 198.51.100.20: Network is unreachable"


# ---------------------------------------------------------------- keepalives


def keepalive_config(**options: Any) -> PlainConfig:
    return PlainConfig("gre1", "gre", 4, local="192.0.2.1", remote="198.51.100.20", keepalive=Keepalive(10, 3), **options)


def test_keepalives_are_sent_judged_and_shown() -> None:
    world = World(keepalive_config(ikey=7, okey=8))
    assert world.tunnel.told("send_control") == [(0x0800, gre.Keepalive(PEER, US, key=7).build())]
    assert world.show()["alive"] == {"answer": "unknown", "why": "no keepalive came back yet"}
    world.owner.handle(ControlReceived(1, "returned", 0, b""))  # type: ignore[arg-type]
    world.run_for(4)
    assert world.show()["alive"] == {"answer": "yes", "why": "a keepalive came back 4 s ago"}
    world.run_for(40)
    assert world.show()["alive"] == {"answer": "no", "why": "4 keepalives in a row did not come back"}
    assert world.show()["carrying"]["answer"] == "no"
    assert world.show()["keepalive"]["sent"] == 5
    assert world.said("peer_alive")
    assert world.said("peer_dead")


def test_the_peers_are_answered_without_keepalives_of_ours() -> None:
    world = World()
    asked = gre.Keepalive(US, PEER).build()
    world.owner.handle(ControlReceived(1, "asked", 0x0800, asked))  # type: ignore[arg-type]
    assert world.tunnel.told("send_back") == [(asked,)]
    assert world.tunnel.told("send_control") == []


def test_a_network_that_refuses_a_keepalive_changes_nothing() -> None:
    world = World(keepalive_config(), up=False)
    world.tunnel.send_error = OSError(errno.ENETUNREACH, "Network is unreachable")
    world.link()
    world.route()
    world.run_for(25)
    assert len(world.tunnel.told("send_control")) == 3
    assert len(world.said("control_unsent")) == 3


def test_idle_tunnels_have_no_timers() -> None:
    world = World()
    world.loop.run_for(3_600)
    assert world.loop.fired == 0


# ---------------------------------------------------------------- what the network says


def test_a_smaller_path_goes_to_the_engine_and_is_shown() -> None:
    world = World()
    world.owner.handle(PathError(1, "too-big", 4, 1400, ROUTER))  # type: ignore[arg-type]
    assert world.tunnel.told("set_path_mtu") == [(1376,)]
    assert world.show()["path_mtu"] == 1376
    assert world.said("path_mtu") == ["path_mtu interface=gre1 mtu=1376 delivery=1400 origin=203.0.113.7"]
    world.run_for(601)
    assert world.tunnel.told("set_path_mtu") == [(1376,), (0,)]
    assert world.show()["path_mtu"] is None


def test_a_router_that_names_no_mtu_is_taken_by_the_devices() -> None:
    world = World()
    world.owner.handle(PathError(1, "too-big", 4, 0, ROUTER))  # type: ignore[arg-type]
    assert world.tunnel.told("set_path_mtu") == [(1492 - 24,)], "the next plateau below 1476 + 24"
    world.link(mtu=1400)
    assert world.tunnel.told("set_path_mtu")[-1] == (0,)


def test_a_refusal_is_said_until_a_keepalive_comes_back() -> None:
    world = World()
    world.owner.handle(PathError(1, "unreachable", 13, 0, ROUTER))  # type: ignore[arg-type]
    why = 'protocol 47 is refused on the way: 203.0.113.7 said so; encapsulation = "udp" goes around it'
    assert world.show()["carrying"] == {"answer": "no", "why": why}
    assert world.show()["alive"] == {"answer": "no", "why": why}
    assert why in world.show()["warnings"]
    assert world.tunnel.told("set_unreachable") == [(1, world.mono_ns() + 30 * NS_PER_S)]
    world.carried(received=1)
    assert world.show()["carrying"]["answer"] == "no", "one way may be refused and the other not"
    world.owner.keepalive.up(world.mono_ns())
    world.owner.handle(ControlReceived(1, "returned", 0, b""))  # type: ignore[arg-type]
    assert world.show()["carrying"]["answer"] == "unknown"
    assert world.tunnel.told("set_unreachable")[-1] == (0, 0)


def test_the_peers_kernel_has_no_such_tunnel() -> None:
    world = World()
    world.owner.handle(PathError(1, "unreachable", 3, 0, PEER))  # type: ignore[arg-type]
    why = "the peer's kernel answered port-unreachable: no tunnel at 198.51.100.20 matches ours (ends, key)"
    assert world.show()["carrying"]["why"] == why


def test_a_kernel_beside_the_peers_tunnel_is_a_warning() -> None:
    world = World()
    world.carried(sent=1, received=1)
    world.owner.handle(PathError(1, "unreachable", 3, 0, PEER))  # type: ignore[arg-type]
    shown = world.show()
    assert shown["carrying"]["answer"] == "yes"
    assert "modprobe -r ip_gre gre" in shown["warnings"][0]
    assert world.tunnel.told("set_unreachable") == []


def test_keepalives_alone_show_a_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(keepalive_config())
    world.run_for(60)
    assert world.pinged == 3
    world.owner.answered()
    assert "seems filtered" in world.show()["alive"]["why"]


def test_a_mismatch_is_said_in_both_tunnels_words_until_it_is_mended() -> None:
    world = World(PlainConfig("gre1", "gre", 4, local="192.0.2.1", remote="198.51.100.20", ikey=8, okey=8))
    world.owner.handle(Mismatch(1, "key_mismatch", 7, PEER))  # type: ignore[arg-type]
    assert world.show()["configured"] == {"answer": "no", "why": "peer sends key 7, this tunnel expects 8"}
    assert world.said("mismatch") == [
        'mismatch interface=gre1 reason=key_mismatch why="peer sends key 7, this tunnel expects 8"',
    ]
    for _ in range(5):
        world.run_for(60)
        world.owner.handle(Mismatch(1, "key_mismatch", 7, PEER))  # type: ignore[arg-type]
    assert len(world.said("mismatch")) == 1, "the same is told once"
    world.carried(received=1)
    assert world.show()["configured"]["answer"] == "yes"
    world.owner.handle(Mismatch(1, "key_mismatch", 9, PEER))  # type: ignore[arg-type]
    world.run_for(151)
    assert world.show()["configured"]["answer"] == "yes", "the engine would have repeated it"


def test_a_silent_peer_is_pinged_and_a_filter_named() -> None:
    world = World()
    for _ in range(3):
        world.carried(sent=1)
        world.run_for(10)
    assert world.pinged == 0
    assert world.show()["carrying"]["why"] == "sent, and nothing came back for 30 s; one-way traffic looks the same"
    for _ in range(2):
        world.carried(sent=1)
        world.run_for(10)
    assert world.pinged == 2
    assert world.show()["carrying"]["answer"] == "unknown"
    world.owner.answered()
    assert world.show()["carrying"] == {
        "answer": "no",
        "why": "protocol 47 seems filtered on the way: 198.51.100.20 answers ping but nothing came back for 50 s; "
        'encapsulation = "udp" goes around it',
    }
    assert len(world.said("path_filtered")) == 1
    world.owner.answered()
    assert len(world.said("path_filtered")) == 1
    world.carried(sent=1, received=1)
    world.run_for(10)
    assert world.show()["carrying"]["answer"] == "yes"
    world.run_for(600)
    assert world.pinged == 2, "idle"


def test_a_keepalive_that_comes_back_refutes_a_filter() -> None:
    world = World(keepalive_config())
    for _ in range(10):
        world.carried(sent=1)
        world.owner.handle(ControlReceived(1, "returned", 0, b""))  # type: ignore[arg-type]
        world.run_for(10)
    assert world.pinged == 0


# ---------------------------------------------------------------- recursion


def test_a_route_through_itself_holds_the_tunnel() -> None:
    world = World()
    why = "the route to 198.51.100.20 goes through gre1 itself"
    world.route(device=7, why=why)
    assert world.tunnel.told("set_hold") == [(True,)]
    assert world.show()["configured"] == {"answer": "no", "why": f"held: {why}"}
    assert world.show()["held"] == why
    world.run_for(5)
    world.route()
    world.run_for(29)
    assert world.tunnel.told("set_hold") == [(True,)]
    world.run_for(2)
    assert world.tunnel.told("set_hold") == [(True,), (False,)]
    assert world.said("released") == ["released interface=gre1 held_s=35"]


# ---------------------------------------------------------------- its end


def test_a_deleted_device_closes_this_tunnel(tmp_path: Any) -> None:
    world = World(keepalive_config())
    world.owner.device_gone("deleted")
    assert world.gone == [("deleted", True)], "the descriptor of the test is none: EBADF, as of a deleted device"
    assert world.tunnel.calls[-1] == ("close",)
    fired = world.loop.fired
    world.loop.run_for(100)
    assert world.loop.fired == fired
