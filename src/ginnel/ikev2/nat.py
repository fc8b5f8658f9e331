"""
Is there a NAT between us, and on whose side: each side tells hashes of the addresses and ports it sees (RFC 7296, 2.23).

    hash = SHA-1(SPI of the initiator | SPI of the responder | address | port)

A source hash that is not what arrived: the peer is behind a NAT. A destination hash that is not ours: we are. Several source
hashes may be sent; one that fits suffices. Some peers send a wrong source hash on purpose, since they can do nothing but ESP in
UDP: that leads to UDP and changes nothing else. The hashes hide nothing from anyone; SHA-1 is what the protocol says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ginnel.crypto.ike import digest
from ginnel.wire.ikev2 import Notify, NotifyType, Payload

Word = Literal["none", "us", "peer", "both"]


@dataclass(frozen=True, slots=True)
class Nat:
    """us: we are behind a NAT; peer: the peer is, or says so on purpose."""

    us: bool
    peer: bool

    @property
    def found(self) -> bool:
        """Whether ESP has to go in UDP."""
        return self.us or self.peer

    @property
    def word(self) -> Word:
        """For people and for `IkeUp`."""
        match self.us, self.peer:
            case True, True:
                return "both"
            case True, False:
                return "us"
            case False, True:
                return "peer"
            case _:
                return "none"


def detection_hash(spi_i: bytes, spi_r: bytes, address: bytes, port: int) -> bytes:
    """
    20 bytes. *address*: packed. *spi_r* is zero in the first message.

    Source: RFC 7296, 2.23.
    """
    return digest("sha1", spi_i, spi_r, address, port.to_bytes(2, "big"))


def notifies(
    spi_i: bytes, spi_r: bytes, local: bytes, local_port: int, remote: bytes, remote_port: int, bogus: bytes = b""
) -> tuple[Notify, Notify]:
    """
    What is sent: the source's hash and the destination's.

    Args:
        bogus: 20 random bytes in place of the source's hash, where ESP in UDP is wanted though there may be no NAT.
    """
    source = bogus or detection_hash(spi_i, spi_r, local, local_port)
    destination = detection_hash(spi_i, spi_r, remote, remote_port)
    return (
        Notify(NotifyType.NAT_DETECTION_SOURCE_IP, source),
        Notify(NotifyType.NAT_DETECTION_DESTINATION_IP, destination),
    )


def detect(
    payloads: Iterable[Payload], spi_i: bytes, spi_r: bytes, local: bytes, local_port: int, remote: bytes, remote_port: int
) -> Nat | None:
    """
    What the peer's hashes tell.

    Args:
        payloads: of its IKE_SA_INIT message.
        spi_i, spi_r: as in that message's header.
        local, local_port: where it arrived. remote, remote_port: where it came from.

    Returns:
        None when it sent no hashes: it does no NAT traversal.
    """
    sources: set[bytes] = set()
    destinations: set[bytes] = set()
    for payload in payloads:
        match payload:
            case Notify(NotifyType.NAT_DETECTION_SOURCE_IP, data):
                sources.add(data)
            case Notify(NotifyType.NAT_DETECTION_DESTINATION_IP, data):
                destinations.add(data)
            case _:
                pass
    if not sources or not destinations:
        return None
    return Nat(
        us=detection_hash(spi_i, spi_r, local, local_port) not in destinations,
        peer=detection_hash(spi_i, spi_r, remote, remote_port) not in sources,
    )
