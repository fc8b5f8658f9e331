"""
The protection of a tunnel as it is told to people and programs, and what it proves of the tunnel.

    configured   as for every tunnel; a protected one has usable credentials, identities and proposals, or it does not start
    alive        the peer has proven who it is, and has been heard since (IKE or ESP): that needs both ways. No: the negotiation
                 fails, or the peer does not answer. Unknown: nobody tried yet
    carrying     no: there is no outbound SA, so nothing may leave (and nothing does). Else as for every tunnel: packets both ways

`IpsecView` is one field of a tunnel in a `ginnel.show/1` snapshot; null for an unprotected one. It holds no keys. Bytes and
packets of SAs begin anew with each rekeying; the tunnel's own (`rx_bytes`, `tx_bytes`) go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ginnel.watch.health import age_text
from ginnel.watch.snapshot import Verdict


@dataclass(frozen=True, slots=True)
class AssociationView:
    """One ESP SA as the engine counts it. spi: eight hexadecimal digits. last_age_s: since its last packet, null = none yet."""

    spi: str
    direction: Literal["out", "in"]
    packets: int
    bytes: int
    sequence: int
    last_age_s: float | None
    drops: dict[str, int]


@dataclass(frozen=True, slots=True)
class IkeView:
    """The IKE SA. SPIs: sixteen hexadecimal digits; role: "initiator" | "responder"; rekey_in_s null: never."""

    spi_i: str
    spi_r: str
    role: str
    proposal: str
    age_s: float
    rekey_in_s: float | None


@dataclass(frozen=True, slots=True)
class ChildView:
    """The child SA in use. spi_in: ours to receive with; mode: "transport" | "tunnel"; selectors in strongSwan's words."""

    spi_in: str
    spi_out: str
    suite: str
    mode: str
    esn: bool
    local_ts: str
    remote_ts: str
    age_s: float
    rekey_in_s: float | None


@dataclass(frozen=True, slots=True)
class LayerView:
    """One layer of the MTU sum: what it takes from the largest packet."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class IpsecView:
    """
    The protection of one tunnel.

    state: one word: "down", "waiting" (for the peer, or for a first packet), "connecting", "established" (IKE alone), "protected"
    (a child SA carries), "retrying", "failed". why: its sentence. auth, remote_auth: "psk", "certificate", "public-key".
    local_id, peer_id: as text; peer_id is the proven one while there is an IKE SA, else the expected one.
    encapsulation: "udp", "raw", empty without an SA; nat: "none", "us", "peer", "both", empty while unknown.
    refusal: lines that explain the last failed negotiation, empty when none failed since the last success; refused_by: "us",
    "peer".
    stack: how its packets are packed, as `ginnel mtu` takes it: under the SA that there is, else the heaviest that is offered.
    wire_bytes: how large the largest inner packet is on the way; layers: what makes the difference.
    """

    state: str
    why: str
    auth: str
    remote_auth: str
    local_id: str
    peer_id: str
    local: str | None
    remote: str | None
    remote_port: int
    encapsulation: str
    nat: str
    ike: IkeView | None
    child: ChildView | None
    associations: tuple[AssociationView, ...]
    rekeyings: int
    ike_rekeyings: int
    heard_age_s: float | None
    refusal: tuple[str, ...]
    refused_by: str
    refusal_age_s: float | None
    unsent: str
    stack: str
    wire_bytes: int
    layers: tuple[LayerView, ...]
    keys_written: str


# ---------------------------------------------------------------- judgement

#: Sending so long and hearing nothing is worth a word.
UNHEARD_S = 5.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    What the judgement rests on.

    proven: there is an IKE SA. carries: there is an outbound ESP SA. state, why: see `IpsecView`. failing: the first line of a
    refusal since the last success; empty without. heard_age_s: since anything genuine came from the peer. raw: ESP goes as
    protocol 50.
    """

    proven: bool
    carries: bool
    state: str
    why: str
    failing: str
    peer_id: str
    heard_age_s: float | None
    raw: bool = False


def judge_alive(seen: Evidence, *, unheard_s: float | None = None) -> Verdict:
    """
    Is there a peer that has proven who it is, and hears us?

    Args:
        unheard_s: for how long we send by ESP and nothing came back, where nothing ever came; else None.
    """
    if seen.proven:
        heard = f", heard {age_text(seen.heard_age_s)} ago" if seen.heard_age_s is not None else ""
        filtered = _filtered(unheard_s) if seen.raw and seen.carries and (unheard_s or 0) >= UNHEARD_S else ""
        return Verdict("yes", f"{seen.peer_id} has proven who it is{heard}{filtered}")
    if seen.failing:
        return Verdict("no", seen.failing)
    return Verdict("no" if seen.state in {"retrying", "failed"} else "unknown", seen.why)


def _filtered(unheard_s: float | None) -> str:
    """What most often lets IKE pass and ESP not; a peer that has nothing to say looks the same."""
    return (
        f"; but nothing came by ESP in {age_text(unheard_s or 0)} of sending: does a filter drop protocol 50? "
        'encapsulation = "udp" at both ends goes past it'
    )


def judge_carrying(seen: Evidence) -> Verdict | None:
    """No, as long as there is no SA to send with; None: it depends on packets, as for every tunnel."""
    if seen.carries:
        return None
    return Verdict("no", f"nothing may leave without an SA: {seen.failing or seen.why}")


def layers_sentence(view: IpsecView, mtu: int) -> str:
    """`1390 inside = 1446 on the way: 20 IPv4, 8 UDP, ...`."""
    parts = ", ".join(f"{layer.size_bytes} {layer.name}" for layer in view.layers if layer.size_bytes)
    return f"{mtu} inside, {view.wire_bytes} on the way: {parts}"
