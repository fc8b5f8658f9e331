"""Names joined to a loop: what is asked of whom, and that a bare interface has no timer."""

from __future__ import annotations

import asyncio

import pytest

from ginnel.runtime import names as module
from ginnel.runtime import resolve
from ginnel.runtime.control import Name
from ginnel.runtime.journal import Journal
from ginnel.runtime.names import Facts, Names
from ginnel.units import Endpoint, PublicKey
from ginnel.watch.log import Level

KEY = PublicKey(b"\xaa" * 32)
ONE, TWO = Endpoint.parse("192.0.2.1:7"), Endpoint.parse("[2001:db8::2]:7")


class World:
    """One peer and a name server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 10**12
        self.facts: Facts | None = Facts(None, None, False)
        self.set: list[Endpoint] = []
        self.lines: list[str] = []
        self.answer: list[Endpoint] = [ONE, TWO]
        self.asked = 0
        monkeypatch.setattr(resolve, "resolve", self.resolve)
        self.names = Names(
            loop,
            Journal(Level.DEBUG, lambda _, line: self.lines.append(line)),
            facts=lambda _: self.facts,
            set_endpoint=self.set_endpoint,
            mono_ns=lambda: self.now_ns,
        )

    def resolve(self, host: str, port: int) -> list[Endpoint]:
        self.asked += 1
        if not self.answer:
            raise OSError(0, "Name or service not known")
        return self.answer

    def set_endpoint(self, _: PublicKey, endpoint: Endpoint) -> None:
        self.set.append(endpoint)
        if self.facts is not None:
            self.facts = self.facts._replace(endpoint=endpoint, seeking=True)

    async def later(self, seconds: float) -> None:
        """Time passes, the names are looked at, and what was asked is answered."""
        self.now_ns += int(seconds * 10**9)
        asked = self.asked
        self.names.look()
        for _ in range(1000):
            await asyncio.sleep(0.001)
            if self.asked == asked or self.set or any("unresolved" in line for line in self.lines):
                return


def run(monkeypatch: pytest.MonkeyPatch, scene: object) -> None:
    async def wrapped() -> None:
        world = World(asyncio.get_running_loop(), monkeypatch)
        assert callable(scene)
        await scene(world)
        world.names.close()

    asyncio.run(wrapped())


def test_a_peer_without_an_endpoint_gets_one_and_then_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: World) -> None:
        world.names.replace({KEY: Name("lyon", ("vpn.example.org", 7))})
        for _ in range(1000):
            await asyncio.sleep(0.001)
            if world.set:
                break
        assert world.set == [ONE]
        await world.later(5)
        await world.later(5)
        assert world.set == [ONE, TWO, ONE], "in turn while nobody answers"
        assert world.facts is not None
        world.facts = world.facts._replace(handshake_age_s=1.0, seeking=False)
        await world.later(5)
        assert len(world.set) == 3, "and no more when one did"

    run(monkeypatch, scene)


def test_a_name_that_does_not_resolve_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: World) -> None:
        world.answer = []
        world.names.replace({KEY: Name("lyon", ("vpn.example.org", 7))})
        for _ in range(1000):
            await asyncio.sleep(0.001)
            if world.lines:
                break
        assert world.lines == ['endpoint_unresolved peer=lyon host=vpn.example.org:7 error="Name or service not known"']
        assert world.set == []

    run(monkeypatch, scene)


def test_an_endpoint_that_was_learned_is_left_while_handshakes_are_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: World) -> None:
        roamed = Endpoint.parse("198.51.100.9:1000")
        world.facts = Facts(roamed, 100.0, True)
        world.names.replace({KEY: Name("", ("vpn.example.org", 7))})
        await world.later(5)
        assert (world.asked, world.set) == (0, [])
        world.facts = Facts(roamed, 136.0, True)
        await world.later(5)
        assert world.set == [ONE], "but not after it went silent"

    run(monkeypatch, scene)


def test_labels_and_hosts() -> None:
    async def scene() -> None:
        names = Names(
            asyncio.get_running_loop(),
            Journal(Level.SILENT, lambda _, line: None),
            facts=lambda _: None,
            set_endpoint=lambda key, endpoint: None,
            mono_ns=lambda: 0,
        )
        assert (names.name(KEY), names.host(KEY), names.label(KEY)) == ("", "", "qqqqqqqq…")
        names.replace({KEY: Name("lyon", ("vpn.example.org", 7))})
        assert (names.name(KEY), names.host(KEY), names.label(KEY)) == ("lyon", "vpn.example.org:7", "lyon")
        names.replace({KEY: Name("lyon", None)})
        assert names.host(KEY) == ""
        assert names._tick is None, "without host names there is no timer"
        names.close()

    asyncio.run(scene())


def test_the_table_of_ticks_is_that_of_the_module() -> None:
    assert module.SEEKING_TICK_S * 10**9 >= resolve.TRY_NS, "or every second tick would be wasted"
