"""
Other people's readers and writers of ESP, on random packets: scapy and tshark.

The engine sends under static SAs and what is on the wire is decrypted by scapy, byte for byte what went in; scapy encrypts, and
what comes out of the device is what it had. Suites meet every mode, kind, family, encapsulation and ESN at least once.
tshark reads a capture of both directions: its integrity check and its dissection must come out right.

What they cannot: tshark 4.0.17 has neither ESN nor ChaCha20-Poly1305 in ESP; scapy has both. scapy's transport mode knows no UDP
encapsulation, its tunnel mode does: there the UDP header is put and taken off here.
"""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scapy.all import ESP, GRE, IP, UDP, IPv6, PcapWriter, Raw, SecurityAssociation, raw
from scapy.packet import Packet

from ginnel import _native as native
from namespaces import Net
from native.plain_rig import FAR, FAR6, NEAR, NEAR6, Wire, joined, packed
from native.rig import WITHIN_S, inside
from peers.ipsec_suites import SUITES, Keys, Suite

ETH_P_ALL = 3
NATT = 4500
PACKETS = 8
#: GRE's protocol type by the version of what is inside.
INNER = {4: 0x0800, 6: 0x86DD}


@dataclass(frozen=True, slots=True)
class Case:
    """One SA each way, on a tunnel of this kind."""

    suite: Suite
    kind: str
    transport: bool
    family: int
    udp: bool
    esn: bool

    def __str__(self) -> str:
        """For pytest."""
        words = [self.suite.name, self.kind, "transport" if self.transport else "tunnel", f"v{self.family}"]
        return "-".join(words + ["udp"] * self.udp + ["esn"] * self.esn)

    @property
    def ends(self) -> tuple[str, str]:
        """Ours and the peer's delivery addresses."""
        return (NEAR, FAR) if self.family == 4 else (NEAR6, FAR6)


def _cases() -> Iterator[Case]:
    shapes = [
        ("gre", True, 4, False, False),
        ("gre", True, 4, True, True),
        ("gre", False, 4, True, False),
        ("ipsec", False, 4, False, True),
        ("gre", True, 6, False, True),
        ("ipsec", False, 6, True, False),
        ("ipip", True, 4, False, False),
        ("gre", False, 6, False, False),
        ("ipsec", False, 4, True, False),
        ("ip6tnl", True, 6, False, True),
        ("gre", True, 6, True, False),
        ("sit", True, 4, True, True),
    ]
    for index, suite in enumerate(SUITES):
        for step in range(4):
            yield Case(suite, *shapes[(index + 3 * step) % len(shapes)])


CASES = list(_cases())


@dataclass
class Rig:
    """A protected tunnel that is up, scapy's view of both of its SAs, and the wire."""

    wire: Wire
    case: Case
    tunnel: Any
    spi_in: int
    spi_out: int
    keys_in: Keys
    keys_out: Keys
    device: socket.socket

    def header(self) -> Packet:
        """Of the peer's delivery packets."""
        near, far = self.case.ends
        return IP(src=far, dst=near) if self.case.family == 4 else IPv6(src=far, dst=near)

    def association(self, spi: int, keys: Keys) -> Any:
        """scapy's SA."""
        options: dict[str, Any] = self.case.suite.scapy(keys)
        header = None if self.case.transport else self.header()
        return SecurityAssociation(ESP, spi=spi, esn_en=self.case.esn, esn=0, tunnel_header=header, **options)

    def write(self, packet: bytes) -> None:
        """As the kernel would route it into the device."""
        with inside(self.wire.near), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as made:
            made.sendto(packet, (self.tunnel.name, 0x86DD if packet[0] >> 4 == 6 else 0x0800))

    def capture(self) -> bytes:
        """The next ESP packet on the wire, from its IP header on."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            self.wire.tap.settimeout(max(deadline - time.monotonic(), 0.001))
            frame, address = self.wire.tap.recvfrom(65536)
            if address[2] == socket.PACKET_OUTGOING or address[1] not in (0x0800, 0x86DD):
                continue
            header, protocol = (20, frame[9]) if frame[0] >> 4 == 4 else (40, frame[6])
            if protocol == 50 or (protocol == 17 and frame[header + 2 : header + 4] == NATT.to_bytes(2, "big")):
                return frame

    def came(self) -> bytes:
        """The next packet that the device gave its host."""
        while True:
            packet, address = self.device.recvfrom(65536)
            if address[2] != socket.PACKET_OUTGOING:
                return packet

    def opened(self, sent: bytes) -> bytes:
        """What scapy finds in a packet of the engine's: from the (first) IP header to the end."""
        packet = IP(sent) if sent[0] >> 4 == 4 else IPv6(sent)
        if self.case.udp:
            assert packet[UDP].sport == packet[UDP].dport == NATT
            esp = raw(packet[UDP].payload)
            packet = (
                IP(src=packet.src, dst=packet.dst, proto=50)
                if self.case.family == 4
                else IPv6(src=packet.src, dst=packet.dst, nh=50)
            )
            packet = packet / ESP(esp)
        assert packet[ESP].spi == self.spi_out
        return raw(self.association(self.spi_out, self.keys_out).decrypt(packet))

    def delivery(self, inner: bytes) -> bytes:
        """What the peer protects: *inner* as this kind of tunnel carries it, from the delivery header on."""
        near, far = self.case.ends
        payload, protocol = inner, 4 if inner[0] >> 4 == 4 else 41
        if self.case.kind == "gre":
            payload, protocol = raw(GRE(proto=INNER[inner[0] >> 4])) + inner, 47
        head: Packet = IP(src=far, dst=near, proto=protocol) if self.case.family == 4 else IPv6(src=far, dst=near, nh=protocol)
        return raw(head / Raw(payload))

    def seal(self, inner: bytes, sequence: int) -> bytes:
        """The peer's packet with *inner*, by scapy."""
        whole = inner if self.case.kind == "ipsec" else self.delivery(inner)
        plain = IP(whole) if whole[0] >> 4 == 4 else IPv6(whole)
        sealed = self.association(self.spi_in, self.keys_in).encrypt(plain, seq_num=sequence)
        if not self.case.udp:
            return raw(sealed)
        return raw(self.header() / UDP(sport=NATT, dport=NATT) / Raw(raw(sealed[ESP])))

    def inner_of(self, whole: bytes) -> bytes:
        """The packet inside what scapy decrypted, its headers checked."""
        near, far = self.case.ends
        if self.case.kind == "ipsec":
            return whole
        packet = IP(whole) if whole[0] >> 4 == 4 else IPv6(whole)
        assert (packet.src, packet.dst) == (near, far)
        if self.case.kind != "gre":
            return raw(packet.payload)
        body = raw(packet.payload)
        assert body[:4] == struct.pack("!HH", 0, INNER[body[4] >> 4])
        return body[4:]


@contextmanager
def protected(wire: Wire, case: Case, chance: random.Random) -> Iterator[Rig]:
    """A tunnel of this case with an SA each way."""
    near, far = case.ends
    engine = native.Engine()
    name = f"e{chance.randbytes(5).hex()}"
    with inside(wire.near):
        engine.ike(families=(4, 6))
        tunnel = engine.plain(name, kind=case.kind, local=packed(near), remote=packed(far), mtu=1300, protected=True)  # type: ignore[arg-type]
        tunnel.up()
        # No protocol before it is bound: it would see other devices' packets in between.
        device = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    wire.near.write_proc(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "1")
    wire.near.ip("link", "set", name, "up")
    device.bind((name, ETH_P_ALL))
    device.settimeout(WITHIN_S)
    keys_in, keys_out = case.suite.keys(chance), case.suite.keys(chance)
    spi_in, spi_out = tunnel.reserve_spi(), chance.randrange(256, 1 << 32)
    common: dict[str, Any] = {"suite": case.suite.name, "transport": case.transport, "esn": case.esn}
    tunnel.add_inbound(spi_in, **common, **keys_in.material())
    ports = {"local_port": NATT, "remote_port": NATT} if case.udp else {}
    tunnel.set_outbound(spi_out, **common, **keys_out.material(), local=packed(near), remote=packed(far), **ports)
    try:
        yield Rig(wire, case, tunnel, spi_in, spi_out, keys_in, keys_out, device)
    finally:
        engine.close()
        device.close()


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """One link for all cases, somebody at its far end who wants ESP."""
    with Net.create() as net, joined(net) as made:
        with inside(made.far):
            for family in (socket.AF_INET, socket.AF_INET6):
                made.sinks.append(socket.socket(family, socket.SOCK_RAW, 50))
                port = socket.socket(family, socket.SOCK_DGRAM)
                if family == socket.AF_INET6:
                    port.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                port.bind(("", NATT))
                made.sinks.append(port)
        yield made


def random_packet(case: Case, chance: random.Random, size: int | None = None) -> bytes:
    """A UDP packet of random addresses, ports and length that this kind carries."""
    version = {"ipip": 4, "sit": 6}.get(case.kind) or chance.choice((4, 6))
    data = chance.randbytes(
        chance.choice((0, 1, 2, 3, 15, 16, 17, 100, 1000, 1200, chance.randrange(1200))) if size is None else size
    )
    ports = UDP(sport=chance.randrange(1024, 65536), dport=chance.randrange(1024, 65536))
    head = (
        IP(src="10.9.0.1", dst=f"10.9.0.{chance.randrange(2, 250)}", id=chance.randrange(65536), tos=chance.choice((0, 0xB8)))
        if version == 4
        else IPv6(src="fd09::1", dst=f"fd09::{chance.randrange(2, 999):x}", fl=chance.randrange(1 << 20))
    )
    return raw(head / ports / Raw(data))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_scapy_reads_what_is_sent_and_is_read(wire: Wire, case: Case) -> None:
    """Random packets both ways, byte for byte."""
    chance = random.Random(str(case))
    with protected(wire, case, chance) as rig:
        wire.flush()
        for number in range(PACKETS):
            packet = random_packet(case, chance)
            rig.write(packet)
            assert rig.inner_of(rig.opened(rig.capture())) == packet, f"packet {number}, {rig.tunnel.drops()}"
        for number in range(1, PACKETS + 1):
            packet = random_packet(case, chance)
            wire.send(rig.seal(packet, number))
            try:
                assert rig.came() == packet
            except TimeoutError:
                raise AssertionError(f"packet {number}: { ({k: v for k, v in rig.tunnel.drops().items() if v}) }") from None
        outbound, inbound = rig.tunnel.associations()
        assert (outbound.packets, inbound.packets) == (PACKETS, PACKETS)
        assert (outbound.sequence, inbound.sequence) == (PACKETS, PACKETS)


# ---------------------------------------------------------------- tshark


def tshark(capture: Path, rows: Sequence[str]) -> list[dict[str, list[str]]]:
    """Every packet's fields, as tshark reads it with these SAs."""
    fields = [
        "frame.number",
        "esp.spi",
        "esp.sequence",
        "esp.icv_good",
        "esp.pad_len",
        "ip.dst",
        "ipv6.dst",
        "udp.dstport",
        "udp.payload",
    ]
    argv = ["tshark", "-n", "-r", str(capture), "-T", "fields", "-E", "separator=|", "-E", "aggregator=,"]
    argv += ["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]
    for row in rows:
        argv += ["-o", f"uat:esp_sa:{row}"]
    for field in fields:
        argv += ["-e", field]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines()]
    return [{field: value.split(",") if value else [] for field, value in zip(fields, line, strict=True)} for line in lines]


def test_tshark_reads_both_directions(wire: Wire, tmp_path: Path) -> None:
    """All its suites, in one capture: ICV good, and the random port and data inside seen."""
    chance = random.Random(4)
    cases = [
        Case(suite, kind, transport, family, udp, False)
        for suite in SUITES
        for kind, transport, family, udp in (("gre", True, 4, False), ("ipsec", False, 4, True), ("gre", False, 6, False))
    ]
    capture = tmp_path / "esp.pcap"
    rows: list[str] = []
    expected: list[tuple[int, str, str]] = []
    with PcapWriter(str(capture), linktype=101) as writer:  # raw IP
        for case in cases:
            with protected(wire, case, chance) as rig:
                wire.flush()
                if case.suite.tshark(rig.keys_out) is None:
                    continue
                for spi, keys in ((rig.spi_out, rig.keys_out), (rig.spi_in, rig.keys_in)):
                    quoted = ",".join(
                        f'"{word}"' for word in (f"IPv{case.family}", "*", "*", f"0x{spi:08x}", *(case.suite.tshark(keys) or ()))
                    )
                    rows.append(quoted)
                packet = random_packet(case, chance, chance.randrange(1, 1000))
                rig.write(packet)
                sent = rig.capture()
                answer = random_packet(case, chance, chance.randrange(1, 1000))
                sealed = rig.seal(answer, 1)
                wire.send(sealed)
                assert rig.came() == answer
                for spi, inner, outer in ((rig.spi_out, packet, sent), (rig.spi_in, answer, sealed)):
                    writer.write(outer)
                    udp = (IP(inner) if inner[0] >> 4 == 4 else IPv6(inner))[UDP]
                    expected.append((spi, str(udp.dport), raw(udp.payload).hex()))
    seen = tshark(capture, rows)
    assert len(seen) == len(expected) == 2 * 3 * 8
    for fields, (spi, port, data) in zip(seen, expected, strict=True):
        assert fields["esp.spi"] == [f"0x{spi:08x}"]
        assert fields["esp.sequence"] == ["1"]
        assert fields["esp.icv_good"] == ["1"], fields
        assert fields["udp.dstport"][-1] == port
        assert fields["udp.payload"][-1] == data
