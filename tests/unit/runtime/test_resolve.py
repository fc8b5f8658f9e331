"""Endpoints by name: when they are asked for, how often, and in which order their addresses are tried; on a simulated clock."""

from __future__ import annotations

import asyncio
import itertools
import socket

import pytest

from ginnel.runtime import resolve
from ginnel.runtime.resolve import Resolver, Seeker
from ginnel.units import NS_PER_S, Endpoint

ONE, TWO, THREE = (Endpoint.parse(text) for text in ("192.0.2.1:7", "[2001:db8::2]:7", "192.0.2.3:7"))


def at(seconds: float) -> int:
    return int(seconds * NS_PER_S)


def test_a_peer_without_an_endpoint_is_asked_for_at_once_and_once() -> None:
    seeker = Seeker("vpn.example.org", 7)
    assert seeker.look(None, False, False, at(0))
    assert not seeker.look(None, False, False, at(5)), "the question is out"
    seeker.found([], at(6))
    assert not seeker.look(None, False, False, at(15))
    assert seeker.look(None, False, False, at(16))


def test_a_fresh_handshake_asks_for_nothing_and_an_idle_silent_peer_neither() -> None:
    seeker = Seeker("vpn.example.org", 7)
    assert not seeker.look(0.0, True, True, at(0))
    assert not seeker.look(135.0, True, True, at(0)), "renewals may still succeed"
    assert seeker.look(135.1, True, True, at(0))
    idle = Seeker("vpn.example.org", 7)
    assert not idle.look(10_000.0, True, False, at(0)), "nobody wants to speak to it"


def test_back_off_doubles_to_ten_minutes_and_a_handshake_resets_it() -> None:
    seeker = Seeker("vpn.example.org", 7)
    asked, now = [], 0
    while now < 3000:
        if seeker.look(None, True, True, at(now)):
            asked.append(now)
            seeker.found([ONE], at(now))
        now += 1
    pauses = [later - sooner for sooner, later in itertools.pairwise(asked)]
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert not seeker.look(1.0, True, False, at(now))
    assert seeker.look(136.0, True, True, at(now + 136))
    seeker.found([ONE], at(now + 136))
    assert not seeker.look(145.0, True, True, at(now + 145))
    assert seeker.look(146.0, True, True, at(now + 146)), "ten seconds again"


def test_addresses_are_tried_in_turn_one_for_each_try() -> None:
    seeker = Seeker("vpn.example.org", 7)
    seeker.found([ONE, TWO, THREE], at(100))
    current = seeker.turn(None, at(100))
    assert current == ONE
    assert seeker.turn(current, at(104)) is None, "its try is not over"
    order = []
    for step in range(1, 5):
        current = seeker.turn(current, at(100 + 5 * step)) or current
        order.append(current)
    assert order == [TWO, THREE, ONE, TWO]


def test_an_address_that_the_name_no_longer_has_is_left() -> None:
    seeker = Seeker("vpn.example.org", 7)
    seeker.found([TWO], at(100))
    assert seeker.turn(ONE, at(100)) == TWO
    assert seeker.turn(TWO, at(200)) is None, "there is no other"


def test_a_failed_question_keeps_the_addresses_known() -> None:
    seeker = Seeker("vpn.example.org", 7)
    seeker.found([ONE, TWO], at(0))
    seeker.found([], at(20))
    assert seeker.addresses == [ONE, TWO]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vpn.example.org:51820", ("vpn.example.org", 51820)),
        ("[2001:db8::1]:1", ("2001:db8::1", 1)),
        ("192.0.2.1:65535", ("192.0.2.1", 65535)),
    ],
)
def test_hosts_are_parsed(text: str, expected: tuple[str, int]) -> None:
    assert resolve.parse_host(text) == expected
    assert Seeker(*expected).name == text


@pytest.mark.parametrize("text", ["", ":1", "host", "host:", "host:0", "host:65536", "host:1e3", "[]:1", "x" * 300 + ":1"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        resolve.parse_host(text)


def test_both_families_are_taken_and_doubles_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
        return [
            (socket.AF_INET6, 2, 17, "", ("2001:db8::2", port, 0, 0)),
            (socket.AF_INET, 2, 17, "", ("192.0.2.1", port)),
            (socket.AF_INET, 2, 17, "", ("192.0.2.1", port)),
            (socket.AF_INET6, 2, 17, "", ("fe80::1%3", port, 0, 3)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    link_local = Endpoint(socket.inet_pton(socket.AF_INET6, "fe80::1"), 7, 3)
    assert resolve.resolve("vpn.example.org", 7) == [TWO, ONE, link_local]


def test_the_resolver_answers_on_the_loop_and_bounds_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = 0, 0

    def slow(host: str, port: int) -> list[Endpoint]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            if host == "bad":
                raise socket.gaierror(-2, "Name or service not known")
            return [ONE]
        finally:
            running -= 1

    monkeypatch.setattr(resolve, "resolve", slow)

    async def ask() -> list[tuple[list[Endpoint], str]]:
        loop = asyncio.get_running_loop()
        resolver = Resolver(loop)
        answers: list[tuple[list[Endpoint], str]] = []
        done = loop.create_future()

        def answer(found: list[Endpoint], why: str) -> None:
            answers.append((found, why))
            if len(answers) == 20:
                done.set_result(None)

        for i in range(20):
            resolver.ask("bad" if i % 2 else "good", 7, answer)
        await asyncio.wait_for(done, 10)
        resolver.close()
        return answers

    answers = asyncio.run(ask())
    assert answers.count(([ONE], "")) == 10
    assert answers.count(([], "Name or service not known")) == 10
    assert most <= resolve.THREADS
