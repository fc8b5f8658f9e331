"""
GRE keepalives: the one packet of the plain tunnels that control builds and reads. (Data never leaves the engine.)

A keepalive is a packet to ourselves, in the peer's hands: the payload of an ordinary GRE packet to the peer is an IP packet from
the peer to us, itself GRE, with nothing inside. A peer that decapsulates and routes has answered it, without knowing keepalives.

    what we send:     IP us -> peer | GRE 0x0800 or 0x86DD | inner
    inner:            IP peer -> us, protocol 47, TTL 255 | GRE
    what comes back:  inner

What follows the inner packet inside the outer one is not its part: padding, to try how much the path carries.

    GRE of the inner packet, all numbers big-endian:
      0  flags: C 0x8000, K 0x2000, S 0x1000; version 0 in the last three bits
      2  protocol: 0 (Cisco), 0x86DD (MikroTik, over IPv6)
      4  checksum, 0                  if C, over the GRE header
         key                          if K
         sequence number              if S

What comes back has to find our tunnel, so its key is the one that *we* expect, and its checksum is there if we expect one.

Source: RFC 2784, RFC 2890; Cisco document 64565 (GRE tunnel keepalives), where the inner part of 24 bytes is printed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ginnel.errors import PeerError

PROTOCOL_GRE: Final = 47
PROTOCOL_IPV4: Final = 0x0800
PROTOCOL_IPV6: Final = 0x86DD
#: Protocol type of what is inside a keepalive, by dialect.
CISCO: Final = 0
MIKROTIK: Final = PROTOCOL_IPV6
KEEPALIVE_TTL: Final = 255

_CHECKSUM, _ROUTING, _KEY, _SEQUENCE, _VERSION = 0x8000, 0x4000, 0x2000, 0x1000, 0x0007
_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")


@dataclass(frozen=True, slots=True)
class Keepalive:
    """
    The inner packet of a keepalive.

    source, destination: packed addresses, both of one family. protocol: `CISCO` or `MIKROTIK`.
    """

    source: bytes
    destination: bytes
    protocol: int = CISCO
    key: int | None = None
    checksum: bool = False
    #: As it was found; we never send one, since the number would be one of the tunnel's.
    sequence: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the packet."""
        gre = 4 + 4 * (self.checksum + (self.key is not None) + (self.sequence is not None))
        return (_IPV4.size if len(self.source) == 4 else _IPV6.size) + gre

    @property
    def carried_as(self) -> int:
        """The protocol type of the GRE header that it travels to the peer in."""
        return PROTOCOL_IPV4 if len(self.source) == 4 else PROTOCOL_IPV6

    def build(self) -> bytes:
        """The packet, from its IP header on; ValueError when the addresses are not of one family."""
        if len(self.source) != len(self.destination) or len(self.source) not in (4, 16):
            raise ValueError(f"expected two addresses of one family, found {len(self.source)} and {len(self.destination)} bytes")
        gre = self._gre()
        if len(self.source) == 16:
            return _IPV6.pack(6 << 28, len(gre), PROTOCOL_GRE, KEEPALIVE_TTL, self.source, self.destination) + gre
        fields = (0x45, 0, 20 + len(gre), 0, 0, KEEPALIVE_TTL, PROTOCOL_GRE)
        header = _IPV4.pack(*fields, 0, self.source, self.destination)
        return _IPV4.pack(*fields, checksum(header), self.source, self.destination) + gre

    def _gre(self) -> bytes:
        flags = _CHECKSUM * self.checksum | _KEY * (self.key is not None) | _SEQUENCE * (self.sequence is not None)
        head = struct.pack(">HH", flags, self.protocol)
        tail = b"".join(struct.pack(">I", field) for field in (self.key, self.sequence) if field is not None)
        if not self.checksum:
            return head + tail
        return head + struct.pack(">HH", checksum(head + bytes(4) + tail), 0) + tail

    @classmethod
    def parse(cls, packet: bytes) -> Keepalive:
        """
        Read the inner packet of a keepalive, from its IP header on.

        Raises:
            PeerError: it is anything else; says what was expected.
        """
        source, destination, gre = _ip(packet)
        if len(gre) < 4:
            raise PeerError(f"expected a GRE header, found {len(gre)} bytes")
        flags, protocol = struct.unpack_from(">HH", gre)
        if flags & (_ROUTING | _VERSION):
            raise PeerError(f"expected GRE of version 0 without routing, found flags {flags:#06x}")
        if protocol not in (CISCO, MIKROTIK):
            raise PeerError(f"expected a keepalive's protocol, found {protocol:#06x}")
        at = 4 + 4 * (bool(flags & _CHECKSUM) + bool(flags & _KEY) + bool(flags & _SEQUENCE))
        if len(gre) < at:
            raise PeerError(f"expected a GRE header of {at} bytes, found {len(gre)}")
        if len(gre) > at:
            raise PeerError(f"expected nothing inside a keepalive, found {len(gre) - at} bytes")
        if flags & _CHECKSUM and checksum(gre) != 0:
            raise PeerError("expected a GRE checksum that is right")
        key: int | None = struct.unpack_from(">I", gre, 8 if flags & _CHECKSUM else 4)[0] if flags & _KEY else None
        sequence: int | None = struct.unpack_from(">I", gre, at - 4)[0] if flags & _SEQUENCE else None
        return cls(source, destination, protocol, key, bool(flags & _CHECKSUM), sequence)


def _ip(packet: bytes) -> tuple[bytes, bytes, bytes]:
    """Source, destination and payload of a whole IP packet that carries GRE."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= _IPV4.size:
        first, _, total, _, fragment, _, protocol, _, source, destination = _IPV4.unpack_from(packet)
        header = (first & 0x0F) * 4
        if header != _IPV4.size:
            raise PeerError(f"expected an IPv4 header without options, found {header} bytes")
        if total < header or total > len(packet):
            raise PeerError(f"expected a whole IPv4 packet, found lengths {header} and {total} in {len(packet)} bytes")
        if fragment & 0x3FFF:
            raise PeerError("expected no fragment")
        if checksum(packet[:header]) != 0:
            raise PeerError("expected an IPv4 header checksum that is right")
    elif version == 6 and len(packet) >= _IPV6.size:
        _, payload, protocol, _, source, destination = _IPV6.unpack_from(packet)
        header, total = _IPV6.size, _IPV6.size + payload
        if total > len(packet):
            raise PeerError(f"expected a whole IPv6 packet of {total} bytes, found {len(packet)}")
    else:
        raise PeerError(f"expected an IP packet, found version {version} in {len(packet)} bytes")
    if protocol != PROTOCOL_GRE:
        raise PeerError(f"expected protocol {PROTOCOL_GRE}, found {protocol}")
    return source, destination, packet[header:total]


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): of *data* with its field zero, what goes there; of *data* with it in place, 0."""
    total: int = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
