"""Echo requests over loopback, and the bytes that come back with errors. Real paths: tests/peers/test_mtu.py."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from ginnel.errors import GinnelError
from ginnel.linux import echo
from ginnel.linux.echo import Echo
from ginnel.mtu.proof import Answer


def soon() -> float:
    return time.monotonic() + 5


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_every_size_comes_back_whole(host: str) -> None:
    with Echo(host) as probe:
        assert probe.privileged
        sizes = (88, 89, 1280, 1500, 40_000, 65_535)
        assert probe.round(sizes, soon()) == {size: Answer(size, "passed") for size in sizes}
        assert probe.wait_s < echo.FIRST_WAIT_S


def test_forged_replies_are_not_taken() -> None:
    """A reply without the nonce, one of another size, one of another program: none of them answers."""
    with Echo("127.0.0.1") as probe, socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as forger:
        answers: dict[int, Answer] = {}
        probe._sent[7] = echo._Sent(108, time.monotonic())

        def forge(ident: int, payload: bytes) -> None:
            message = struct.pack("!BBHHH", 0, 0, 0, ident, 7) + payload
            message = message[:2] + struct.pack("!H", echo._checksum(message)) + message[4:]
            forger.sendto(message, ("127.0.0.1", 0))

        forge(probe._ident, bytes(80))
        forge(probe._ident, probe._nonce + bytes(71))
        forge(probe._ident ^ 1, probe._nonce + bytes(72))
        probe._gather([108], answers, {}, time.monotonic() + 0.3)
        assert answers == {}
        forge(probe._ident, probe._nonce + bytes(72))
        probe._gather([108], answers, {}, soon())
        assert answers == {108: Answer(108, "passed")}


def test_what_the_error_queue_says() -> None:
    with Echo("127.0.0.1") as probe:
        refusal = probe._refusal
        assert refusal(1500, 3, 4, 1400, "192.0.2.1") == Answer(1500, "refused", "192.0.2.1", 1400)
        assert refusal(1500, 3, 1, 0, "192.0.2.1") == Answer(1500, "unreachable", "192.0.2.1", why="host unreachable")
        assert refusal(1500, 3, 99, 0, "192.0.2.1") == Answer(1500, "unreachable", "192.0.2.1", why="unreachable (code 99)")
        assert refusal(1500, 4, 0, 0, "192.0.2.1") is None
        probe._sent[9] = echo._Sent(1500, 0.0)
        quoted = struct.pack("!BBHHH", 8, 0, 0, probe._ident, 9)
        assert probe._quoted(quoted) == echo._Sent(1500, 0.0)
        for end in range(8):
            assert probe._quoted(quoted[:end]) is None
        assert probe._quoted(struct.pack("!BBHHH", 8, 0, 0, probe._ident ^ 1, 9)) is None
    with Echo("::1") as probe:
        assert probe._refusal(1500, 2, 0, 1280, "2001:db8::1") == Answer(1500, "refused", "2001:db8::1", 1280)
        assert probe._refusal(1500, 3, 0, 0, "") == Answer(
            1500, "unreachable", "", why="the hop limit ran out on the way: a routing loop"
        )


def test_senders_and_fragments_are_read_and_bounded() -> None:
    head = bytes(16)
    assert echo._sender(head + struct.pack("=HH4s8x", socket.AF_INET, 0, bytes([192, 0, 2, 1]))) == "192.0.2.1"
    assert echo._sender(head + struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, bytes(15) + b"\1", 0)) == "::1"
    for size in range(8):
        assert echo._sender(head + bytes(size)) == ""
    assert echo._fragment([(socket.IPPROTO_IP, 25, struct.pack("=i", 1396))]) == 1396
    assert echo._fragment([(socket.IPPROTO_IPV6, 77, struct.pack("=i", 1336))]) == 1336
    assert echo._fragment([(socket.IPPROTO_IP, 25, b"\1"), (socket.IPPROTO_IP, 8, bytes(4))]) == 0


def test_the_checksum_is_the_internets() -> None:
    assert echo._checksum(bytes.fromhex("4500003c1c4640004006" + "0000" + "ac100a63ac100a0c")) == 0xB1E6
    assert echo._checksum(b"\xff") == echo._checksum(b"\xff\0")


def test_neither_kind_of_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError

    monkeypatch.setattr(echo.socket, "socket", refuse)
    with pytest.raises(GinnelError, match="this user may not\n  hint: run it with `sudo`, or let your group: sysctl"):
        Echo("127.0.0.1")
