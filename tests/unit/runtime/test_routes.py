"""RTM_GETROUTE: questions and answers from literal bytes, every truncation, and the kernel's own word about loopback."""

from __future__ import annotations

import errno
import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from ginnel.runtime import routes
from ginnel.runtime.routes import Route, Router, Way, address_is_here

ONE, TWO = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")
# As the kernel answers: sequence 7, IPv4 /32, table main; RTA_DST, RTA_OIF 3, RTA_PREFSRC.
ANSWER = bytes.fromhex(
    "34000000 1800 0000 07000000 0000000002 20 00 00 fe 00 00 01 000000000800 0100 c0000202 0800 0400 03000000 0800 0700 c0000201"
)


def test_a_question() -> None:
    data = routes.request(Way(TWO, ONE, mark=9, device=4), 7)
    assert data == struct.pack("=IHHII", 60, 26, 1, 7, 0) + bytes.fromhex(
        "02 20 20 00 00 00 00 00 00000000 0800 0100 c0000202 0800 0200 c0000201 0800 1000 09000000 0800 0400 04000000"
    )
    six = routes.request(Way(bytes(15) + b"\1"), 1)
    assert (len(six), six[16], six[17], six[18]) == (16 + 12 + 20, socket.AF_INET6, 128, 0)


def test_an_answer_and_a_refusal() -> None:
    assert len(ANSWER) == 0x34
    assert list(routes.parse(ANSWER)) == [(7, Route(3, ONE))]
    refusal = struct.pack("=IHHIIi", 20, 2, 0, 8, 0, -errno.ENETUNREACH)
    assert list(routes.parse(ANSWER + refusal)) == [(7, Route(3, ONE)), (8, Route(0, None, errno.ENETUNREACH))]


def test_every_truncation_is_survived() -> None:
    for size in range(len(ANSWER)):
        assert list(routes.parse(ANSWER[:size])) == []
    for size in range(17, len(ANSWER)):
        for _, route in routes.parse(struct.pack("=I", size) + ANSWER[4:size]):
            assert route.device in {0, 3}


@given(st.binary(max_size=120))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    list(routes.parse(data))
    list(routes.parse(struct.pack("=IHHII", 16 + len(data), 24, 0, 1, 0) + data))
    list(routes.parse(struct.pack("=IHHII", 16 + len(data), 2, 0, 1, 0) + data))


def test_the_kernel_answers_many_at_once() -> None:
    loopback = socket.if_nametoindex("lo")
    ways = [Way(bytes([127, 1, number >> 8, number & 255])) for number in range(500)]
    router = Router()
    try:
        found = router.ask([*ways, Way(socket.inet_pton(socket.AF_INET6, "::1"))])
        assert {route.device for route in found.values()} == {loopback}
        assert found[ways[7]].source is not None
        assert len(found) == 501
        assert router.ask([]) == {}
    finally:
        router.close()


def test_which_addresses_are_here() -> None:
    assert address_is_here(socket.inet_aton("127.0.0.1"))
    assert not address_is_here(ONE)
