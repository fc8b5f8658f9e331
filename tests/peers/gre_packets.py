"""
Packets that nobody should send, and what each must come to: for the Linux kernel and for ginnel.

Every case carries a ping of its own number from the far end, so that whether it was admitted is seen on the wire: the answer
comes back through the tunnel, or does not. `linux` says what the kernel does, which test_gre_hostile.py puts to the proof in the
guest; `reason` is the one under which ginnel must count it. Where ginnel does something else than Linux, `other` says why.

A case is made by scapy or by hand, from the delivery header on. Cases of one tunnel are sent in the order of the table, because
sequence numbers have a past.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from scapy.all import GRE, ICMP, IP, UDP, Ether, ICMPv6EchoRequest, IPv6, Raw
from scapy.packet import Packet

from namespaces import Namespace
from native.rig import inside
from peers.gre_nodes import Plain

#: Far from the numbers of the matrix's tunnels, whose addresses they would share.
PLAIN = Plain("plain", 60, "gre", 4)
KEYED = Plain("keyed", 61, "gre", 4, {"ikey": 7, "okey": 7})
SUMMED = Plain("summed", 62, "gre", 4, {"icsum": True, "ocsum": True})
COUNTED = Plain("counted", 63, "gre", 4, {"iseq": True, "oseq": True})
TAP = Plain("tap", 64, "gretap", 4)
OVER6 = Plain("over6", 65, "gre", 6, {}, ("encaplimit", "none"))
IPIP = Plain("ipip", 66, "ipip", 4)
SIT = Plain("sit", 67, "sit", 4)
TNL6 = Plain("tnl6", 68, "ip6tnl", 6, {}, ("encaplimit", "none"))
UDP4 = Plain("udp4", 69, "gre", 4, {"udp": (4754, 4754, 4754)}, ("encap", "fou", "encap-sport", "4754", "encap-dport", "4754"))
TUNNELS = [PLAIN, KEYED, SUMMED, COUNTED, TAP, OVER6, IPIP, SIT, TNL6, UDP4]

#: An address of the wire's that no tunnel has.
STRANGER = "192.0.2.250"
#: The far end's hardware address in Ethernet tunnels; the near end is given it as a neighbour.
FAR_MAC = "02:00:00:00:02:64"
NEAR_MAC = "02:00:00:00:01:64"


@dataclass(frozen=True, slots=True)
class Case:
    """
    One packet (or several, for fragments).

    linux: "answered", "silent", or "unreachable" (ICMP comes back). reason: ginnel's; "" when it is admitted; "no_tunnel" when it
    is for none; "below us" when the kernel under ginnel drops it. other: why ginnel does something else than Linux.
    """

    label: str
    tunnel: Plain
    #: The ping's identifier; 0 when there is none inside.
    number: int
    packets: tuple[bytes, ...]
    linux: str = "answered"
    reason: str = ""
    other: str = ""

    @property
    def ginnel(self) -> str:
        """What ginnel does, in the words of *linux*."""
        return "silent" if self.reason else "answered"


# ---------------------------------------------------------------- building blocks


def outer(tunnel: Plain, **fields: Any) -> Packet:
    """The delivery header from the far end; fields replace its own."""
    if tunnel.family == 4:
        return IP(**{"src": tunnel.far, "dst": tunnel.near, "proto": 47, "ttl": 64, **fields})
    return IPv6(**{"src": tunnel.far, "dst": tunnel.near, "nh": 47, "hlim": 64, **fields})


def ping(tunnel: Plain, number: int, family: int = 4, **fields: Any) -> Packet:
    """An echo request from the far end's inner address to the near end's, which *number* tells from all others."""
    ends = {"src": tunnel.inner(2, family), "dst": tunnel.inner(1, family)}
    if family == 4:
        return IP(**{**ends, **fields}) / ICMP(type=8, id=number, seq=1) / Raw(b"ginnel")
    return IPv6(**{**ends, **fields}) / ICMPv6EchoRequest(id=number, seq=1, data=b"ginnel")


def gre(tunnel: Plain, proto: int = 0x0800, **fields: Any) -> Packet:
    """The header that this tunnel expects; fields replace its own."""
    expected: dict[str, Any] = {"proto": proto}
    if tunnel.options.get("ikey") is not None:
        expected |= {"key_present": 1, "key": tunnel.options["ikey"]}
    if tunnel.options.get("icsum"):
        expected |= {"chksum_present": 1}
    return GRE(**{**expected, **fields})


def fragments(packet: Packet, sizes: Sequence[int], order: Sequence[int], *, overlap: int = 0) -> tuple[bytes, ...]:
    """An IPv4 packet's payload cut at multiples of eight, each piece *overlap* bytes longer than it should be."""
    raw = bytes(packet[IP].payload)
    pieces: list[bytes] = []
    at = 0
    for index, size in enumerate(sizes):
        last = index == len(sizes) - 1
        body = raw[at:] if last else raw[at : at + size + overlap]
        head = IP(src=packet.src, dst=packet.dst, proto=packet.proto, id=packet.id, ttl=64, frag=at // 8, flags=0 if last else 1)
        pieces.append(bytes(head / Raw(body)))
        at += size
    return tuple(pieces[index] for index in order)


# ---------------------------------------------------------------- the table


def _cases() -> Iterator[Case]:
    next_number, given = 1000, 0

    def fresh() -> int:
        nonlocal next_number, given
        next_number += 1
        given = next_number
        return given

    def taken() -> int:
        """The number of the ping that was made since the last case, if any."""
        nonlocal given
        number, given = given, 0
        return number

    def one(label: str, tunnel: Plain, packet: Packet | bytes, *rest: str) -> Case:
        return Case(label, tunnel, taken(), (bytes(packet),), *rest)

    def cut(label: str, sizes: Sequence[int], order: Sequence[int], *rest: str, overlap: int = 0) -> Case:
        packet = outer(PLAIN, id=next_number) / gre(PLAIN) / ping(PLAIN, fresh())
        return Case(label, PLAIN, taken(), fragments(packet, sizes, order, overlap=overlap), *rest)

    # As it should be: the control.
    for tunnel in (PLAIN, KEYED, SUMMED, OVER6):
        for family, proto in ((4, 0x0800), (6, 0x86DD)):
            packet = outer(tunnel) / gre(tunnel, proto) / ping(tunnel, fresh(), family)
            yield one(f"good IPv{family} in {tunnel.label}", tunnel, packet)
    yield one("good frame", TAP, outer(TAP) / gre(TAP, 0x6558) / Ether(src=FAR_MAC, dst=NEAR_MAC) / ping(TAP, fresh()))
    yield one("good ipip", IPIP, outer(IPIP, proto=4) / ping(IPIP, fresh()))
    yield one("good sit", SIT, outer(SIT, proto=41) / ping(SIT, fresh(), 6))
    yield one("good ip6tnl 4", TNL6, outer(TNL6, nh=4) / ping(TNL6, fresh()))
    yield one("good ip6tnl 6", TNL6, outer(TNL6, nh=41) / ping(TNL6, fresh(), 6))
    yield one("good UDP", UDP4, outer(UDP4, proto=17) / UDP(sport=4754, dport=4754) / gre(UDP4) / ping(UDP4, fresh()))

    # Headers shorter than they say.
    whole = bytes(GRE(proto=0x0800, chksum_present=1, key_present=1, key=7, seqnum_present=1, sequence_number=1))
    for size in range(16):
        yield one(f"truncated at {size}", PLAIN, outer(PLAIN) / Raw(whole[:size]), "silent", "header_truncated")
    for version in range(1, 8):
        packet = outer(PLAIN) / gre(PLAIN, version=version) / ping(PLAIN, fresh())
        yield one(f"version {version}", PLAIN, packet, "silent", "version")
    pptp = struct.pack("!HHHHII", 0x3081, 0x880B, 4, 7, 1, 0) + b"\xff\x03\x00\x21"
    yield one("PPTP", PLAIN, outer(PLAIN) / Raw(pptp), "silent", "version")
    yield one("EoIP", PLAIN, outer(PLAIN) / Raw(b"\x20\x01\x64\x00" + b"\x00\x20\x07\x00" + bytes(32)), "silent", "version")
    routing = outer(PLAIN) / gre(PLAIN, routing_present=1) / ping(PLAIN, fresh())
    yield one("routing bit", PLAIN, routing, "silent", "routing")
    for bits, label in ((0x0800, "strict source route"), (0x0700, "recursion control"), (0x0080, "acknowledgement bit")):
        packet = bytes(outer(PLAIN) / gre(PLAIN) / ping(PLAIN, fresh()))
        yield one(f"{label} is ignored", PLAIN, packet[:20] + struct.pack("!H", bits) + packet[22:])
    packet = bytes(outer(PLAIN) / gre(PLAIN) / ping(PLAIN, fresh()))
    packet = packet[:20] + b"\0\x78" + packet[22:]
    other = "RFC 2784 2.3: reserved bits are ignored; Linux takes these four for a part of the version"
    yield one("reserved bits are ignored", PLAIN, packet, "silent", "", other)

    # Keys.
    yield one(
        "key to none",
        PLAIN,
        outer(PLAIN) / gre(PLAIN, key_present=1, key=9) / ping(PLAIN, fresh()),
        "unreachable",
        "key_mismatch",
    )
    yield one("wrong key", KEYED, outer(KEYED) / gre(KEYED, key=8) / ping(KEYED, fresh()), "unreachable", "key_mismatch")
    yield one("no key", KEYED, outer(KEYED) / GRE(proto=0x0800) / ping(KEYED, fresh()), "unreachable", "key_mismatch")
    yield one("key 0", KEYED, outer(KEYED) / gre(KEYED, key=0) / ping(KEYED, fresh()), "unreachable", "key_mismatch")

    # Checksums.
    yield one("checksum missing", SUMMED, outer(SUMMED) / GRE(proto=0x0800) / ping(SUMMED, fresh()), "silent", "checksum_missing")
    packet = outer(PLAIN) / gre(PLAIN, chksum_present=1) / ping(PLAIN, fresh())
    yield one("checksum unexpected", PLAIN, packet, "silent", "checksum_unexpected")
    for label, flip in (("header", 27), ("payload", 60)):
        raw = bytearray(bytes(outer(SUMMED) / gre(SUMMED) / ping(SUMMED, fresh())))
        raw[flip] ^= 1
        yield one(f"checksum wrong ({label})", SUMMED, bytes(raw), "silent", "checksum_wrong")

    # Sequence numbers, in this order.
    for label, sequence, reason in (
        ("the first may be any", 100, ""), ("the next", 101, ""), ("again", 101, "out_of_order"),
        ("an old one", 50, "out_of_order"), ("a gap", 200, ""), ("none", None, "sequence_missing"),
        ("the one before the first", 0xFFFFFFFF, "out_of_order"), ("far ahead", 0x70000000, ""), ("farther", 0xE0000000, ""),
        ("the last", 0xFFFFFFFF, ""), ("around", 0, ""), ("the last again", 0xFFFFFFFF, "out_of_order"), ("on", 1, ""),
    ):  # fmt: skip
        number_of = {} if sequence is None else {"seqnum_present": 1, "sequence_number": sequence}
        packet = outer(COUNTED) / gre(COUNTED, **number_of) / ping(COUNTED, fresh())
        yield one(f"sequence: {label}", COUNTED, packet, "silent" if reason else "answered", reason)
    packet = outer(PLAIN) / gre(PLAIN, seqnum_present=1, sequence_number=5) / ping(PLAIN, fresh())
    yield one("sequence nobody asked for", PLAIN, packet)

    # What is inside.
    for proto, label in (
        (0x8847, "MPLS"), (0x8848, "MPLS multicast"), (0x880B, "PPP"), (0x0806, "ARP"), (0xFFFF, "reserved"), (0x0001, "one"),
    ):  # fmt: skip
        yield one(f"type {label}", PLAIN, outer(PLAIN) / gre(PLAIN, proto) / ping(PLAIN, fresh()), "silent", "unknown_protocol")
    for proto, label in ((0x88BE, "ERSPAN"), (0x22EB, "ERSPAN III")):
        body = Raw(bytes(12)) / Ether() / ping(PLAIN, fresh())
        # A kernel that has ERSPAN looks for an ERSPAN tunnel, finds none, and says so.
        yield one(f"type {label}", PLAIN, outer(PLAIN) / gre(PLAIN, proto) / body, "unreachable", "unknown_protocol")
    frame = Ether(src=FAR_MAC, dst=NEAR_MAC) / ping(PLAIN, fresh())
    yield one("a frame to gre", PLAIN, outer(PLAIN) / gre(PLAIN, 0x6558) / frame, "silent", "unknown_protocol")
    yield one("IP to gretap", TAP, outer(TAP) / gre(TAP) / ping(TAP, fresh()), "unreachable", "unknown_protocol")
    for size in (0, 5, 13):
        yield one(f"a frame of {size}", TAP, outer(TAP) / gre(TAP, 0x6558) / Raw(bytes(size)), "silent", "inner_malformed")
    yield one("IPv6 as IPv4", PLAIN, outer(PLAIN) / gre(PLAIN) / ping(PLAIN, fresh(), 6), "silent", "inner_malformed")
    yield one("IPv4 as IPv6", PLAIN, outer(PLAIN) / gre(PLAIN, 0x86DD) / ping(PLAIN, fresh()), "silent", "inner_malformed")
    inner = bytes(ping(PLAIN, fresh()))
    for size in (0, 1, 19, 20, len(inner) - 1):
        yield one(f"inner cut at {size}", PLAIN, outer(PLAIN) / gre(PLAIN) / Raw(inner[:size]), "silent", "inner_malformed")
    yield one("inner trailing bytes", PLAIN, outer(PLAIN) / gre(PLAIN) / ping(PLAIN, fresh()) / Raw(bytes(9)))
    yield one("WCCP", PLAIN, outer(PLAIN) / gre(PLAIN, 0x883E) / ping(PLAIN, fresh()))
    yield one("WCCPv2", PLAIN, outer(PLAIN) / gre(PLAIN, 0x883E) / Raw(b"\0\0\0\1") / ping(PLAIN, fresh()))
    yield one("IPv6 to ipip", IPIP, outer(IPIP, proto=41) / ping(IPIP, fresh(), 6), "unreachable", "no_tunnel")
    yield one("IPv4 to sit", SIT, outer(SIT, proto=4) / ping(SIT, fresh()), "silent", "no_tunnel")
    yield one("IPv6 as IPv4 to ipip", IPIP, outer(IPIP, proto=4) / ping(IPIP, fresh(), 6), "silent", "inner_malformed")
    yield one("IPv4 as IPv6 to sit", SIT, outer(SIT, proto=41) / ping(SIT, fresh()), "silent", "inner_malformed")

    # ECN (RFC 6040): a CE mark outside is carried in where there is somebody to hear it, and is a drop where not.
    for inside_, label, reason in ((0, "Not-ECT", "ecn"), (1, "ECT(1)", ""), (2, "ECT(0)", ""), (3, "CE", "")):
        verdict = "silent" if reason else "answered"
        yield one(
            f"CE around {label}", PLAIN, outer(PLAIN, tos=3) / gre(PLAIN) / ping(PLAIN, fresh(), tos=inside_), verdict, reason
        )
        packet = outer(OVER6, tc=3) / gre(OVER6, 0x86DD) / ping(OVER6, fresh(), 6, tc=inside_)
        yield one(f"CE around {label} over IPv6", OVER6, packet, verdict, reason)
    yield one("ECT(1) around Not-ECT", PLAIN, outer(PLAIN, tos=1) / gre(PLAIN) / ping(PLAIN, fresh()))

    # Who sends.
    yield one("a stranger", PLAIN, outer(PLAIN, src=STRANGER) / gre(PLAIN) / ping(PLAIN, fresh()), "unreachable", "no_tunnel")
    yield one("a stranger in ipip", IPIP, outer(IPIP, src=STRANGER, proto=4) / ping(IPIP, fresh()), "unreachable", "no_tunnel")

    # IPv6 in front: a Tunnel Encapsulation Limit, another option, and a header chain that ends too soon.
    limit = Raw(bytes([47, 0, 4, 1, 4, 1, 1, 0]))
    yield one("encapsulation limit", OVER6, outer(OVER6, nh=60) / limit / gre(OVER6) / ping(OVER6, fresh()))
    skipped = Raw(bytes([47, 1, 0x1E, 12]) + bytes(12))
    yield one("an option to be skipped", OVER6, outer(OVER6, nh=60) / skipped / gre(OVER6) / ping(OVER6, fresh()))

    # Fragments of the delivery packet: the kernel below puts them together, or does not.
    yield cut("fragments", (16, 16, 8), (0, 1, 2))
    yield cut("fragments out of order", (16, 16, 8), (2, 0, 1))
    yield cut("fragments that overlap", (16, 16, 8), (0, 1, 2), "silent", "below us", overlap=8)
    yield cut("a fragment missing", (16, 16, 8), (0, 2), "silent", "below us")


CASES = list(_cases())


# ---------------------------------------------------------------- the wire


@dataclass(slots=True)
class Wire:
    """The far end of the link: sends frames, and keeps what came back; a plain packet socket in *space*."""

    space: Namespace
    interface: str
    #: The other end's hardware address.
    to: bytes
    sock: socket.socket = field(init=False)
    mac: bytes = field(init=False)

    def __post_init__(self) -> None:
        (link,) = self.space.ip_json("link", "show", self.interface)
        self.mac = bytes.fromhex(link["address"].replace(":", ""))
        with inside(self.space):
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
            self.sock.bind((self.interface, 0x0003))

    def send(self, packet: bytes) -> None:
        """An IP packet, to the other end."""
        kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
        self.sock.send(self.to + self.mac + kind + packet)

    def send_all(self, packets: Sequence[bytes]) -> None:
        """One after the other."""
        for packet in packets:
            self.send(packet)

    def heard(self, quiet_s: float) -> Iterator[bytes]:
        """IP packets that the other end sent, until *quiet_s* seconds brought none."""
        deadline = time.monotonic() + quiet_s
        while (left := deadline - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                frame, (_, kind, way, *_) = self.sock.recvfrom(65536)
            except TimeoutError:
                return
            if way != socket.PACKET_OUTGOING and kind in {0x0800, 0x86DD}:
                deadline = time.monotonic() + quiet_s
                yield frame[14:]

    def close(self) -> None:
        """The socket is gone."""
        self.sock.close()
