"""The leak detector finds what it is for: in bytes, through the kernel's filter, and on a live link."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ginnel.lab.capture import _LISTING, Capture, Watched, _passing_over, assemble, open_link, parse
from ginnel.units import Prefix
from lab.conftest import Pair
from namespaces import wait_until

ETHERNET = bytes(12)
CANARY, CONTROL, OUTSIDE = b"the canary in clear", b"the control in clear", b"what leaves by the exit"


def ipv4(protocol: int, payload: bytes, source: str = "192.0.2.1", target: str = "192.0.2.2", flags: int = 0) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, flags, 64, protocol, 0)
    return ETHERNET + b"\x08\x00" + header + socket.inet_aton(source) + socket.inet_aton(target) + payload


def ipv6(protocol: int, payload: bytes) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
    return ETHERNET + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + ends + payload


def udp(payload: bytes) -> bytes:
    return struct.pack("!HHHH", 1000, 51820, 8 + len(payload), 0) + payload


WIREGUARD = udp(b"\x04\0\0\0" + bytes(28))

#: Frames, whether the outside says WireGuard, and whether the kernel's filter passes them to us.
FRAMES = [
    (ipv4(17, WIREGUARD), True, False),
    (ipv6(17, WIREGUARD), True, False),
    (ipv4(17, udp(b"\x01\0\0\0" + bytes(144))), True, False),
    (ipv4(17, udp(b"\x05\0\0\0" + bytes(28))), False, True),
    (ipv4(17, udp(b"\x04\0\0\x01" + bytes(28))), False, True),
    (ipv4(17, WIREGUARD, flags=0x2000), False, True),  # a fragment
    (ipv4(6, b"\x03\xe8\xca\x6c" + bytes(16)), False, True),
    (ipv6(58, b"\x80\0\0\0" + bytes(8)), False, True),
    (ETHERNET + b"\x08\x06" + bytes(28), False, False),  # ARP
    (ETHERNET + b"\x12\x34" + bytes(60), False, True),
]


@pytest.mark.parametrize(("frame", "wireguard", "passes"), FRAMES)
def test_frames_are_read(frame: bytes, wireguard: bool, passes: bool) -> None:
    assert parse(frame).wireguard is wireguard


def test_every_truncation_is_read_without_an_error() -> None:
    for frame, _, _ in FRAMES:
        for end in range(len(frame)):
            parse(frame[:end])


GRE = b"\0\0\x08\0" + bytes(20)
IN_UDP = struct.pack("!HHHH", 4754, 4754, 8 + len(GRE), 0) + GRE

#: Frames, whether they are GRE (outside, or quoted by an ICMP error), and whether the kernel's filter for GRE passes them to us.
GRE_FRAMES = [
    (ipv4(47, GRE), True, False),
    (ipv6(47, GRE), True, False),
    (ipv4(17, IN_UDP), True, False),
    (ipv6(17, IN_UDP), True, False),
    (ipv4(47, GRE, flags=0x0010), True, False),  # a later fragment
    (ipv6(60, b"\x2f\0\x04\x01\x04\x01\0\0" + GRE), True, True),  # behind Linux's encapsulation limit
    (ipv4(1, b"\x03\x04" + bytes(6) + ipv4(47, GRE)[14:]), True, True),
    (ipv6(58, b"\x02\0" + bytes(6) + ipv6(17, IN_UDP)[14:]), True, True),
    (ipv4(1, b"\x08\0" + bytes(6) + ipv4(47, GRE)[14:]), False, True),  # an echo quotes nothing
    (ipv4(17, WIREGUARD), False, False),
    (ipv4(17, udp(b"\x05\0\0\0" + bytes(28))), False, True),
]


@pytest.mark.parametrize(("frame", "gre", "passes"), GRE_FRAMES)
def test_gre_is_told_from_the_rest(frame: bytes, gre: bool, passes: bool) -> None:
    packet = parse(frame)
    assert (packet.quoted or packet).gre is gre
    assert run_filter(assemble(tuple(_passing_over(_LISTING, gre=True, esp=False))), frame) is passes
    for end in range(len(frame)):
        parse(frame[:end])


@pytest.mark.parametrize(("frame", "gre", "passes"), GRE_FRAMES)
def test_only_gre_between_the_ends_of_a_link_may_be_in_clear(frame: bytes, gre: bool, passes: bool) -> None:
    """The canary inside: counted between the ends of a GRE link of the network, a leak between any others."""
    ends = [("192.0.2.2", "192.0.2.1"), ("2001:db8::1", "2001:db8::2")]
    for plain, leaks in ((ends, not gre), ([("192.0.2.1", "192.0.2.9")], True)):
        capture = Capture([Prefix.parse("10.10.0.0/24")], CANARY, CONTROL, OUTSIDE, plain)
        seen = Watched("link")
        capture._judge(frame + CANARY, seen, outgoing=False)
        capture.close()
        assert (seen.plain, seen.leaks) == ((0, 1) if leaks else (1, 0))


ESP = b"\xc1\x02\x03\x04\0\0\0\x01" + bytes(40)


@pytest.mark.parametrize(
    ("source", "target", "edge", "leaks"),
    [
        ("203.0.113.65", "192.0.2.80", True, 0),  # an answer, by its edge
        ("203.0.113.65", "192.0.2.80", False, 1),  # the same straight from the origin
        ("192.0.2.80", "203.0.113.65", True, 0),
        ("192.0.2.80", "203.0.113.65", False, 0),  # anybody may try
        ("192.0.2.80", "203.0.113.80", False, 0),  # not one of them
        ("203.0.113.65", "10.10.0.7", True, 0),
        ("192.0.2.80", "10.10.0.7", True, 1),
    ],
)
def test_a_protected_address_speaks_by_its_edges_alone(source: str, target: str, edge: bool, leaks: int) -> None:
    capture = Capture([Prefix.parse("10.10.0.0/24")], CANARY, CONTROL, OUTSIDE)
    capture.hide([Prefix.parse("203.0.113.64/28"), Prefix.parse("2001:db8:64::/64")])
    watched = Watched("link", edge=edge)
    capture._judge(ipv4(17, udp(b"a page"), source, target), watched, outgoing=True)
    assert watched.leaks == leaks
    capture.close()


def natt(payload: bytes, source: int = 4500) -> bytes:
    return struct.pack("!HHHH", source, 1024, 8 + len(payload), 0) + payload


#: Frames, whether they are ESP, and whether the kernel's filter for a network with IPsec alone passes them to us.
ESP_FRAMES = [
    (ipv4(50, ESP), True, False),
    (ipv6(50, ESP), True, False),
    (ipv4(17, natt(ESP)), True, False),
    (ipv6(17, natt(ESP)), True, False),
    (ipv4(17, natt(b"\x04\0\0\0" + bytes(40))), True, False),  # an SPI that looks like WireGuard
    (ipv4(17, natt(bytes(4) + bytes(28))), False, False),  # IKE
    (ipv4(17, natt(b"\xff")), False, False),
    (ipv4(47, GRE), False, True),
    (ipv4(17, IN_UDP), False, True),
    (ipv4(17, WIREGUARD), False, False),
]


@pytest.mark.parametrize(("frame", "esp", "passes"), ESP_FRAMES)
def test_esp_is_told_from_the_rest(frame: bytes, esp: bool, passes: bool) -> None:
    assert parse(frame).esp is esp
    assert run_filter(assemble(tuple(_passing_over(_LISTING, gre=False, esp=True))), frame) is passes
    for end in range(len(frame)):
        parse(frame[:end])


def test_wireguard_may_have_the_port_of_esp() -> None:
    """Many listen on 4500 because firewalls let it pass."""
    frame = ipv4(17, natt(b"\x04\0\0\0" + bytes(40)))
    for protected, seen in ((False, (1, 0)), (True, (1, 1))):
        capture = Capture([Prefix.parse("10.10.0.0/24")], CANARY, CONTROL, OUTSIDE, (), protected)
        watched = Watched("link")
        capture._judge(frame, watched, outgoing=False)
        capture.close()
        assert (watched.wireguard, watched.esp) == seen


def test_where_gre_is_to_be_protected_bare_gre_is_a_leak() -> None:
    capture = Capture([Prefix.parse("10.10.0.0/24")], CANARY, CONTROL, OUTSIDE, (), protected=True)
    seen = Watched("link")
    capture._judge(ipv4(47, GRE + CANARY), seen, outgoing=False)
    capture._judge(ipv4(50, ESP), seen, outgoing=False)
    capture.close()
    assert (seen.esp, seen.leaks, seen.plain) == (1, 1, 0)


def run_filter(program: bytes, frame: bytes) -> bool:
    """A classic BPF machine, as far as our program needs one (linux/Documentation/networking/filter.rst)."""
    steps = [struct.unpack_from("HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator = index = at = 0
    while True:
        code, true, false, operand = steps[at]
        at += 1
        match code:
            case 0x28:
                accumulator = int.from_bytes(frame[operand : operand + 2], "big")
            case 0x30:
                accumulator = frame[operand]
            case 0x20:
                accumulator = int.from_bytes(frame[operand : operand + 4], "big")
            case 0x48:
                accumulator = int.from_bytes(frame[index + operand : index + operand + 2], "big")
            case 0x40:
                accumulator = int.from_bytes(frame[index + operand : index + operand + 4], "big")
            case 0xB1:
                index = 4 * (frame[operand] & 0x0F)
            case 0x15:
                at += true if accumulator == operand else false
            case 0x45:
                at += true if accumulator & operand else false
            case 0x05:
                at += operand
            case 0x06:
                return operand != 0
            case _:
                raise AssertionError(f"unknown step {code:#x}")


@pytest.mark.parametrize(("frame", "wireguard", "passes"), FRAMES)
def test_the_filter_passes_all_but_wireguard_and_arp(frame: bytes, wireguard: bool, passes: bool) -> None:
    assert run_filter(assemble(_LISTING), frame) is passes


# ---------------------------------------------------------------- live


def listening(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("192.0.2.1", port))
    return sock


class Link:
    """A capture on the left end of a real link, and the means to send from the right end."""

    def __init__(self, pair: Pair, stack: ExitStack, *, tunnel_only: str | None = None, exit_link: bool = False) -> None:
        self.right = pair.right
        self.capture = Capture([Prefix.parse("10.10.0.0/24")], CANARY, CONTROL, OUTSIDE)
        self.capture.watch("link", pair.left.inside(lambda: open_link("eth")), tunnel_only, exit_link)
        self.watched = self.capture.links[0]
        for port in (9, 53):  # somebody listens, so no ICMP error quotes our payload back
            stack.enter_context(pair.left.inside(lambda port=port: listening(port)))  # type: ignore[misc]
        stack.enter_context(self.capture)

    def send(self, payload: bytes, port: int = 9) -> None:
        with self.right.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.sendto(payload, ("192.0.2.1", port))

    def send_and_see(self, payload: bytes) -> None:
        frames = self.watched.frames
        self.send(payload)
        wait_until(lambda: self.watched.frames > frames, 5, "the capture has seen it")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_canary_in_clear_is_a_leak_and_the_control_is_none(pair: Pair, stack: ExitStack) -> None:
    link = Link(pair, stack)
    link.send_and_see(CONTROL)
    link.send_and_see(b"anything else")
    assert (link.watched.control, link.watched.leaks) == (1, 0)
    link.send_and_see(b"before" + CANARY + b"after")
    wait_until(lambda: link.watched.leaks == 1, 5, "the leak is counted")
    assert link.watched.kept[0].startswith("the canary in clear: 192.0.2.2 port")


def test_an_inner_address_outside_is_a_leak(pair: Pair, stack: ExitStack) -> None:
    link = Link(pair, stack)
    pair.right.configure(["addr add 10.10.0.7/32 dev lo"])
    with link.right.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.bind(("10.10.0.7", 0))
        sock.sendto(b"no canary in here", ("192.0.2.1", 9))
    wait_until(lambda: link.watched.leaks, 5, "the leak is counted")
    assert link.watched.kept[0].startswith("an inner address outside: 10.10.0.7")


def test_a_dns_query_beside_the_tunnel_is_a_leak_once_it_is_up(pair: Pair, stack: ExitStack) -> None:
    link = Link(pair, stack, tunnel_only="laptop")
    link.send_and_see(b"a query before the tunnel is up")
    assert link.watched.leaks == 0
    link.capture.arm("laptop", ["192.0.2.1"])
    link.send_and_see(b"\x04\0\0\0" + bytes(28))  # WireGuard to its peer
    assert link.watched.leaks == 0
    link.send(b"a query", port=53)
    wait_until(lambda: link.watched.leaks, 5, "the leak is counted")
    assert "beside the tunnel of laptop" in link.watched.kept[0]
    assert "port 53" in link.watched.kept[0]


def test_wireguard_to_a_stranger_is_beside_the_tunnel_too(pair: Pair, stack: ExitStack) -> None:
    link = Link(pair, stack, tunnel_only="laptop")
    link.capture.arm("laptop", ["192.0.2.99"])
    link.send(b"\x04\0\0\0" + bytes(28))
    wait_until(lambda: link.watched.leaks, 5, "the leak is counted")


@pytest.mark.parametrize(("exit_link", "leaks"), [(True, 0), (False, 1)])
def test_what_leaves_by_the_exit_is_clear_only_there(pair: Pair, stack: ExitStack, exit_link: bool, leaks: int) -> None:
    link = Link(pair, stack, exit_link=exit_link)
    link.send_and_see(OUTSIDE)
    wait_until(lambda: link.watched.left == 1, 5, "it was counted")
    assert link.watched.leaks == leaks


def test_under_load_only_what_is_not_wireguard_is_looked_at(pair: Pair, stack: ExitStack) -> None:
    link = Link(pair, stack)
    link.send_and_see(b"everything is seen")
    link.capture.ignore_tunnels(True)
    for _ in range(20):
        link.send(b"\x04\0\0\0" + bytes(28))
    link.send(CANARY)
    wait_until(lambda: link.watched.leaks == 1, 5, "the leak is still found")
    assert link.watched.wireguard == 0
    link.capture.ignore_tunnels(False)
    link.send_and_see(b"\x04\0\0\0" + bytes(28))
    assert link.watched.wireguard == 1
