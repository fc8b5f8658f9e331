"""
A connection: everything that is configured about one peer and one child SA, resolved, with its credentials.

Built by the runtime from an `IpsecConfig` (`runtime` reads the files, resolves names), used by the machines, changed by nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ginnel.wire.ikev2 import Auth, Cert, Id, Proposal, Selector


class CannotProve(Exception):
    """We have no proof that this peer would take; the message says why, for the log and for `Refused`, never for the peer."""


class Proving(Protocol):
    """What we prove ourselves with. `psk.PskAuth`, `certificates.…`, `rawkeys.…` are such."""

    @property
    def kind(self) -> Literal["psk", "certificate", "public-key"]: ...
    def certificates(self, requested: Sequence[bytes]) -> tuple[Cert, ...]:
        """What is sent along; *requested*: SHA-1 hashes of the peer's CERTREQ (empty: it did not say)."""

    def auth(self, octets: Sequence[object], prf: str, hashes: frozenset[int]) -> Auth:
        """
        Sign.

        Args:
            octets: the signed octets in pieces (bytes): message | nonce | MACed ID.
            prf: of the IKE SA ("sha256", ...), for PSK.
            hashes: of the peer's SIGNATURE_HASH_ALGORITHMS; empty: it knows no RFC 7427.

        Raises:
            CannotProve: the peer takes no signature that our key can make.
        """


class Believing(Protocol):
    """What we take from the peer for a proof."""

    @property
    def kind(self) -> Literal["psk", "certificate", "public-key"]: ...
    def requests(self) -> bytes:
        """For our CERTREQ; empty: none is sent."""

    def verify(self, octets: Sequence[object], auth: Auth, certificates: Sequence[Cert], peer: Id, prf: str, unix_ns: int) -> str:
        """
        Judge the peer's AUTH.

        Returns:
            "" when it proves *peer*, else a sentence: what was expected, what found (no secret in it), for the log, never for
            the peer.
        """


@dataclass(frozen=True, slots=True)
class Connection:
    """
    name: the tunnel's. local, remote: packed; remote None: anybody who proves itself. Times in ns.

    ike_proposals, child_proposals: with empty SPIs, numbered from 1. transport: wanted mode. local_ts, remote_ts: already with
    addresses in place of "dynamic"; None in place of the list: the addresses of the IKE SA (host to host), with
    `dynamic_protocol`.
    """

    name: str
    local: bytes | None
    remote: bytes | None
    local_id: Id
    #: None: whoever proves itself ("%any").
    remote_id: Id | None
    proving: Proving
    believing: Believing
    ike_proposals: tuple[Proposal, ...]
    child_proposals: tuple[Proposal, ...]
    transport: bool
    local_ts: tuple[Selector, ...] | None = None
    remote_ts: tuple[Selector, ...] | None = None
    dynamic_protocol: int = 0
    start: Literal["start", "trap", "wait"] = "start"
    encapsulation: Literal["auto", "udp", "raw"] = "auto"
    port: int = 500
    natt_port: int = 4500
    ike_rekey_ns: int = 14_400 * 10**9
    rekey_ns: int = 3_600 * 10**9
    rekey_bytes: int = 0
    rekey_packets: int = 0
    dpd_ns: int = 30 * 10**9
    dpd_action: Literal["restart", "trap", "clear"] = "restart"
    retransmit_ns: int = 2 * 10**9
    give_up_ns: int = 60 * 10**9
    replay_window: int = 1024
    fragmentation: bool = True
    childless: bool = True
    #: "" or the file whose secret was taken, for sentences only.
    secret_name: str = field(default="", compare=False)
