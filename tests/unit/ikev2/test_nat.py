"""NAT detection: the hashes, and what each pair of them tells."""

from __future__ import annotations

import hashlib

import pytest

from ginnel.ikev2 import nat
from ginnel.ikev2.nat import Nat
from ginnel.wire.ikev2 import Notify, NotifyType, Payload

SPI_I, SPI_R = b"initiato", b"responde"
HERE, THERE, OUTSIDE = bytes((192, 0, 2, 1)), bytes((10, 0, 0, 5)), bytes((198, 51, 100, 2))


def test_the_hash() -> None:
    expected = hashlib.sha1(SPI_I + SPI_R + HERE + b"\x01\xf4", usedforsecurity=False).digest()
    assert nat.detection_hash(SPI_I, SPI_R, HERE, 500) == expected


def seen(payloads: tuple[Payload, ...], remote: bytes = OUTSIDE, port: int = 500, local: bytes = HERE) -> Nat | None:
    return nat.detect(payloads, SPI_I, SPI_R, local, 500, remote, port)


@pytest.mark.parametrize(
    ("sender", "port", "destination", "expected", "word"),
    [
        (OUTSIDE, 500, HERE, Nat(us=False, peer=False), "none"),
        (THERE, 500, HERE, Nat(us=False, peer=True), "peer"),
        (OUTSIDE, 501, HERE, Nat(us=False, peer=True), "peer"),
        (OUTSIDE, 500, THERE, Nat(us=True, peer=False), "us"),
        (THERE, 500, THERE, Nat(us=True, peer=True), "both"),
    ],
)
def test_what_the_hashes_tell(sender: bytes, port: int, destination: bytes, expected: Nat, word: str) -> None:
    found = seen(nat.notifies(SPI_I, SPI_R, sender, port, destination, 500))
    assert found == expected
    assert found.word == word
    assert found.found == (word != "none")


def test_one_source_of_several_suffices() -> None:
    first, destination = nat.notifies(SPI_I, SPI_R, THERE, 500, HERE, 500)
    second, _ = nat.notifies(SPI_I, SPI_R, OUTSIDE, 500, HERE, 500)
    assert seen((first, second, destination)) == Nat(us=False, peer=False)


def test_a_source_that_is_wrong_on_purpose_leads_to_udp() -> None:
    assert seen(nat.notifies(SPI_I, SPI_R, OUTSIDE, 500, HERE, 500, bogus=bytes(20))) == Nat(us=False, peer=True)


def test_without_hashes_there_is_no_nat_traversal() -> None:
    assert seen(()) is None
    source, _ = nat.notifies(SPI_I, SPI_R, OUTSIDE, 500, HERE, 500)
    assert seen((source, Notify(NotifyType.COOKIE, b"x"))) is None
