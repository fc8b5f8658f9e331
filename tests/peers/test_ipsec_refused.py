"""
Negotiations with strongSwan that must fail, from either side: who says what, and that our explanation names what is wrong.

Each connection is wrong in one thing. strongSwan's own word (the notify, as swanctl prints it) is asked for where we answer;
ours is asked for in `show`, in both roles. Nothing is ever installed.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from cryptography import x509

import pki
from namespaces import Net, wait_until
from peers.ipsec_credentials import NOW, VALID, authority, certified
from peers.ipsec_world import Peering, World


@dataclass(frozen=True, slots=True)
class Wrong:
    """
    said: what swanctl must say when strongSwan initiates. answering, asking: words that our explanation must have, when we answer
    and when we ask.
    """

    peering: Peering
    said: str
    answering: tuple[str, ...]
    asking: tuple[str, ...]

    def __str__(self) -> str:
        """For pytest."""
        return self.peering.label


EXPIRED = {"begins": NOW - dt.timedelta(days=30), "ends": NOW - dt.timedelta(days=2)}
STRANGER = pki.Authority("Somebody else", **VALID)


def _swan(number: int, **options: object) -> pki.Issued:
    name = f"swan{number}.example.org"
    return authority().issue(name, names=[x509.DNSName(name)], **{**VALID, **options})  # type: ignore[arg-type]


def _revoked(number: int) -> Peering:
    issued = _swan(number)
    crl = authority().crl(issued, made=NOW - dt.timedelta(hours=1), following=NOW + dt.timedelta(days=7))
    return certified(number, "revoked", "ecp256", swan=issued, crl=crl)


WRONG = [
    Wrong(
        Peering(1, "secret", our_files={"psk": b"not that secret"}),
        "AUTH_FAILED", ("swan1", "psk"), ("AUTHENTICATION_FAILED",),
    ),
    Wrong(
        Peering(2, "ike-proposal", theirs={"proposals": "aes128-sha256-prfsha256-modp2048"}),
        "NO_PROP", ("aes128-sha256", "aes256gcm16", "modp2048"), ("NO_PROPOSAL_CHOSEN", "aes256gcm16"),
    ),
    Wrong(
        Peering(3, "esp-proposal", theirs_child={"esp_proposals": "aes128-sha256-noesn"}),
        "NO_PROP", ("aes128-sha256", "aes256gcm16"), ("NO_PROPOSAL_CHOSEN", "aes256gcm16"),
    ),
    Wrong(
        Peering(4, "selectors", theirs_child={"local_ts": "10.99.0.0/24"}),
        "TS_UNACCEPT", ("10.99.0.0/24", "10.2.4.0/24"), ("TS_UNACCEPTABLE", "10.2.4.0/24"),
    ),
    Wrong(
        Peering(5, "their-identity", ours={"remote_id": "somebody"}),
        "AUTH_FAILED", ("swan5", "somebody"), ("AUTHENTICATION_FAILED",),
    ),
    Wrong(
        Peering(6, "our-identity", ours={"local_id": "nobody"}),
        "AUTH_FAILED", ("node", "nobody"), ("AUTHENTICATION_FAILED",),
    ),
    Wrong(certified(7, "expired", "ecp256", swan=_swan(7, **EXPIRED)), "AUTH_FAILED", ("expired",), ("expired",)),
    Wrong(
        certified(
            8, "unknown-authority", "ecp256",
            swan=STRANGER.issue("swan8.example.org", names=[x509.DNSName("swan8.example.org")], **VALID),
        ),
        "AUTH_FAILED", ("Somebody else",), ("Somebody else",),
    ),
    Wrong(_revoked(9), "AUTH_FAILED", ("revoked",), ("revoked",)),
]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All of them, none established."""
    with Net.create() as net:
        started = World.start(net, tmp_path_factory.mktemp("refused"), [one.peering for one in WRONG], name="refused")
        yield started
        started.stop()


def explained(world: World, peering: Peering) -> list[str]:
    """Our lines about the last failure."""
    lines: list[str] = world.node.show(peering.device)["ipsec"]["refusal"]
    return lines


def refused_s(world: World, peering: Peering) -> float:
    """How long ago that was."""
    seconds: float = world.node.show(peering.device)["ipsec"]["refusal_age_s"]
    return seconds


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_refused_and_explained(world: World, wrong: Wrong) -> None:
    """See the module."""
    peering = wrong.peering
    said = world.charon.initiate(peering.name, check=False, within_s=10)
    assert wrong.said in said, said
    text = "\n".join(wait_until(lambda: explained(world, peering), 5, "an explanation"))
    print(f"--- {peering}: answering\n{text}")
    assert [word for word in wrong.answering if word not in text] == [], text
    assert not world.charon.children(peering.name)
    assert world.node.show(peering.device)["ipsec"]["child"] is None

    for one in [one for one in world.charon.associations() if one["name"] == peering.name]:
        assert one["children"] == []
        world.charon.terminate(peering.name, force=True)
    begun = time.monotonic()
    world.command(peering, "initiate")
    wait_until(lambda: refused_s(world, peering) < time.monotonic() - begun, 10, "another explanation")
    asking = "\n".join(explained(world, peering))
    print(f"--- {peering}: asking\n{asking}")
    assert [word for word in wrong.asking if word not in asking] == [], asking
    assert world.node.show(peering.device)["ipsec"]["child"] is None
    assert secrets_unsaid(world)


def secrets_unsaid(world: World) -> bool:
    """No secret is in our log."""
    return "not that secret" not in world.node.said() and "battery" not in world.node.said()
