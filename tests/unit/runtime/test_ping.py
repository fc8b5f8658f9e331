"""Pings outside the tunnels: their bytes, and loopback's answer."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.runtime import ping
from ginnel.runtime.ping import AT_ONCE, Pinger, echo, is_answer
from ginnel.wire.gre import checksum


def test_a_request_and_its_reply() -> None:
    request = echo(socket.AF_INET, 0x1234)
    assert request == bytes.fromhex("0800e5ca12340001")
    assert checksum(request) == 0
    assert echo(socket.AF_INET6, 0x1234) == bytes.fromhex("8000000012340001"), "the kernel adds that checksum"
    header = b"\x45" + bytes(19)
    assert is_answer(socket.AF_INET, header + bytes.fromhex("0000eddc12340001"), 0x1234)
    assert is_answer(socket.AF_INET, b"\x46" + bytes(23) + bytes.fromhex("0000eddc12340001"), 0x1234)
    assert is_answer(socket.AF_INET6, bytes.fromhex("8100000012340001"), 0x1234)


@pytest.mark.parametrize("data", ["0800e5ca12340001", "0000eddc12350001", "0001eddc12340001", "0000eddc1234", ""])
def test_what_is_none(data: str) -> None:
    assert not is_answer(socket.AF_INET, b"\x45" + bytes(19) + bytes.fromhex(data), 0x1234)


@given(st.binary(max_size=64))
def test_no_bytes_break_it(data: bytes) -> None:
    is_answer(socket.AF_INET, data, 1)
    is_answer(socket.AF_INET6, data, 1)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_loopback_answers(address: str) -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        pinger = Pinger(loop)
        answered = loop.create_future()
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        assert pinger.ask(packed, lambda: answered.set_result(True))
        assert await asyncio.wait_for(answered, 5)
        pinger.close()

    asyncio.run(scene())


def test_who_does_not_answer_is_forgotten_and_there_are_never_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "WAIT_S", 0.05)
    monkeypatch.setattr(ping, "is_answer", lambda *_: False)  # nobody does

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        pinger = Pinger(loop)
        sent = [pinger.ask(socket.inet_aton("127.0.0.1"), lambda: pytest.fail("nobody answered")) for _ in range(AT_ONCE + 5)]
        assert sent == [True] * AT_ONCE + [False] * 5
        ended = loop.time() + 5
        while pinger._pings:
            assert loop.time() < ended
            await asyncio.sleep(0.01)
        assert pinger.ask(socket.inet_aton("127.0.0.1"), lambda: None)
        pinger.close()
        assert not pinger._pings

    asyncio.run(scene())


def test_without_a_way_it_says_so() -> None:
    async def scene() -> None:
        pinger = Pinger(asyncio.get_running_loop())
        assert not pinger.ask(socket.inet_aton("127.0.0.1"), lambda: None, device=999_999)
        pinger.close()

    asyncio.run(scene())
