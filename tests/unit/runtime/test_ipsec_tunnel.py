"""When a protected tunnel has a connection, and with which ends."""

from __future__ import annotations

import dataclasses
import socket
from typing import Any

import pytest

from ginnel.config.node import IpsecConfig, PlainConfig
from ginnel.crypto.ike import KeyMaterial
from ginnel.ikev2.psk import PskBelieving, PskProving
from ginnel.runtime.ipsec import Ipsec
from ginnel.runtime.ipsec_tunnel import Protection
from ginnel.runtime.journal import Journal
from ginnel.testing import FakeClock
from ginnel.testing.ipsec import FakeIke
from ginnel.testing.loop import FakeLoop
from ginnel.testing.plain import FakeIkePorts, FakePlain
from ginnel.watch.log import Level

US, OTHER, PEER = (socket.inet_aton(text) for text in ("192.0.2.1", "192.0.2.9", "198.51.100.2"))
CONFIG = PlainConfig("gre1", "gre", 4, local="192.0.2.1", remote="198.51.100.2", ipsec=IpsecConfig(psk_file="/etc/psk"))


class World:
    """One protected tunnel; it is the loop's `Host`."""

    def __init__(self, config: PlainConfig = CONFIG) -> None:
        self.clock = FakeClock()
        self.loop: Any = FakeLoop(self.clock)
        self.journal = Journal(Level.DEBUG, lambda _level, _line: None)
        secret = KeyMaterial.from_bytes(b"secret")
        self.ipsec = Ipsec(self, FakeIkePorts(), crash_secret=secret, machine=FakeIke)  # type: ignore[arg-type]
        self.ike: Any = self.ipsec.ike
        self.tunnel: Any = FakePlain()
        proofs = PskProving(secret), PskBelieving(secret)
        self.protection = Protection(self.ipsec, config, self.tunnel, *proofs)

    def mono_ns(self) -> int:
        return self.clock.mono_ns

    def mistake(self, error: BaseException) -> None:
        raise error

    def calls(self) -> list[str]:
        return [call[0] for call in self.ike.calls]


def test_the_connection_is_there_from_up_to_down() -> None:
    world = World()
    world.protection.set_ends(US, PEER, known=True)
    assert world.calls() == []
    world.protection.set_up(True)
    world.protection.set_up(True)
    assert world.calls() == ["add"]
    added = world.ike.told("add")[0][0]
    assert (added.name, added.local, added.remote) == ("gre1", US, PEER)
    world.protection.set_up(False)
    assert world.calls() == ["add", "remove"]
    world.protection.set_up(True)
    assert world.calls() == ["add", "remove", "add"]


def test_before_both_ends_are_known_there_is_nothing_to_negotiate() -> None:
    world = World()
    world.protection.set_up(True)
    world.protection.set_ends(None, None, known=False)
    world.protection.set_ends(None, PEER, known=True)
    assert world.calls() == []
    with pytest.raises(ValueError, match="gre1: there is nothing to rekey: its ends are not known yet"):
        world.protection.command("rekey")
    world.protection.set_ends(US, PEER, known=True)
    assert world.calls() == ["add"]
    world.protection.command("rekey")
    assert world.ike.told("rekey_child") == [("gre1",)]


def test_other_ends_change_it_and_a_lost_route_does_not() -> None:
    world = World()
    world.protection.set_up(True)
    world.protection.set_ends(US, PEER, known=True)
    world.protection.set_ends(None, PEER, known=True)
    world.protection.set_ends(US, PEER, known=True)
    assert world.calls() == ["add"]
    world.protection.set_ends(OTHER, PEER, known=True)
    assert world.calls() == ["add", "change"]
    assert world.ike.told("change")[0][0].local == OTHER
    assert world.ike.told("change")[0][0].local_id.data == OTHER


def test_towards_anybody_no_address_of_ours_is_needed() -> None:
    ipsec = dataclasses.replace(CONFIG.ipsec or IpsecConfig(), local_id="hub", remote_id="%any")
    world = World(dataclasses.replace(CONFIG, local="any", remote="any", ipsec=ipsec))
    world.protection.set_up(True)
    world.protection.set_ends(None, None, known=True)
    assert world.calls() == ["add"]
    assert world.ike.told("add")[0][0].start == "wait"


def test_closed_it_is_told_and_forgotten() -> None:
    world = World()
    world.protection.set_ends(US, PEER, known=True)
    world.protection.set_up(True)
    world.protection.close()
    assert world.calls() == ["add", "remove"]
    assert world.ike.last_received_ns("gre1") == 0
    world.protection.close()
    assert world.calls() == ["add", "remove"]
    with pytest.raises(ValueError, match="gre1: there is nothing to initiate: its device is down"):
        world.protection.command("initiate")


def test_what_is_shown_without_a_connection() -> None:
    world = World()
    seen = world.protection.view(1400)
    assert (seen.state, seen.why) == ("down", "its device is down")
    world.protection.set_up(True)
    assert world.protection.view(1400).why == "its ends are not known yet"
    assert world.protection.room(1500) == 1418
