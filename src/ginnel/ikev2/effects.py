"""
What the IKE machine wants done, as values in the words of the engine, and what it tells.

After an input the machine is polled until it gives `WaitUntil`. `tunnel` is the name of the connection, which is the tunnel's.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from ginnel.crypto.ike import KeyMaterial
from ginnel.wire.ikev2 import Selector


class Path(NamedTuple):
    """
    Between which addresses and ports messages travel. Addresses are packed.

    natt: on the NAT traversal port (a non-ESP marker in front), from and to.
    """

    local: bytes
    remote: bytes
    remote_port: int
    natt: bool


class Keys(NamedTuple):
    """One direction of a child SA; both are taken by whoever installs them."""

    key: KeyMaterial
    integrity: KeyMaterial


class Send(NamedTuple):
    """A datagram. When the network refuses nothing is to be done: it is repeated in time."""

    tunnel: str
    message: bytes
    path: Path


class AddInbound(NamedTuple):
    """
    Receive with *spi*. source, destination: what may come in, peer's selectors first.

    hard_ns: CLOCK_BOOTTIME when the SA must carry no more; limits of bytes and packets: 0 is none.
    """

    tunnel: str
    spi: int
    suite: str
    keys: Keys
    transport: bool
    esn: bool
    replay_window: int
    source: tuple[Selector, ...]
    destination: tuple[Selector, ...]
    hard_ns: int
    soft_bytes: int = 0
    soft_packets: int = 0


class SetOutbound(NamedTuple):
    """
    Send with *spi* along *path* from now on; *udp*: encapsulated (from our NAT traversal port to path.remote_port), else raw.
    """

    tunnel: str
    spi: int
    suite: str
    keys: Keys
    transport: bool
    esn: bool
    path: Path
    udp: bool
    source: tuple[Selector, ...]
    destination: tuple[Selector, ...]
    hard_ns: int
    soft_bytes: int = 0
    soft_packets: int = 0


class SetOutboundPath(NamedTuple):
    """The peer moved (its NAT did): the same SA by another path."""

    tunnel: str
    path: Path
    udp: bool


class RemoveInbound(NamedTuple):
    tunnel: str
    spi: int


class ClearOutbound(NamedTuple):
    """Nothing may leave until the next `SetOutbound`."""

    tunnel: str


class ReleaseSpi(NamedTuple):
    """A reserved SPI that became no SA."""

    tunnel: str
    spi: int


class SendKeepalive(NamedTuple):
    """One byte to the peer, so that our NAT keeps its mapping."""

    tunnel: str
    path: Path


Effect = Send | AddInbound | SetOutbound | SetOutboundPath | RemoveInbound | ClearOutbound | ReleaseSpi | SendKeepalive


# ---------------------------------------------------------------- events, for the log and for `show`


class IkeUp(NamedTuple):
    """An IKE SA is established. proposal in strongSwan's words; peer_id as text; nat: "none", "us", "peer", "both"."""

    tunnel: str
    spi_i: bytes
    spi_r: bytes
    initiator: bool
    proposal: str
    peer_id: str
    nat: str


class IkeDown(NamedTuple):
    """An IKE SA is gone, and its child with it. why: a sentence."""

    tunnel: str
    why: str


class ChildUp(NamedTuple):
    """A child SA carries. rekeyed: it took the place of another."""

    tunnel: str
    spi_in: int
    spi_out: int
    proposal: str
    rekeyed: bool


class ChildDown(NamedTuple):
    tunnel: str
    why: str


class Refused(NamedTuple):
    """
    A negotiation failed, here or there. *lines* explain it to a person, first what failed, then both sides and the nearest
    difference.

    by: who refused. reason: a word of a closed list: "proposal", "selectors", "authentication", "identity", "certificate",
    "mode", "busy",
    "nat", "unsupported", "timeout", "other".
    """

    tunnel: str
    by: Literal["us", "peer"]
    reason: str
    lines: tuple[str, ...]


class Dropped(NamedTuple):
    """A message was refused without any other trace. reason: the name of a `Drop`; tunnel empty when it was for none."""

    tunnel: str
    reason: str


class PeerDead(NamedTuple):
    """Nothing came back for so long; what follows is the connection's dpd_action."""

    tunnel: str
    silent_s: float


class KeysMade(NamedTuple):
    """Only in debug mode: a line for tshark's tables (`ikev2_decryption_table`, `esp_sa`). Holds keys."""

    tunnel: str
    table: str
    line: str


Event = IkeUp | IkeDown | ChildUp | ChildDown | Refused | Dropped | PeerDead | KeysMade


class WaitUntil(NamedTuple):
    """Nothing more until an input or *mono_ns* (None: an input)."""

    mono_ns: int | None
