"""The loop between the IKE machine and the engine, with fakes of both: what goes in, what is done, what is said, and when."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

import pytest

from ginnel.config.node import IpsecConfig
from ginnel.crypto.ike import KeyMaterial
from ginnel.ikev2 import effects
from ginnel.ikev2.effects import Keys
from ginnel.ikev2.effects import Path as IkePath
from ginnel.runtime import ipsec as module
from ginnel.runtime.ipsec import EXPLAIN_AGAIN_NS, HARD_FACTOR, Ipsec, Member
from ginnel.runtime.journal import Journal
from ginnel.runtime.keylog import KeyLog
from ginnel.testing import FakeClock
from ginnel.testing import ipsec as testing
from ginnel.testing.ipsec import FakeIke, IkeReceived, SaExpiring, SaMissing, SaMoved, SaUsed, UnknownSpi
from ginnel.testing.loop import FakeLoop
from ginnel.testing.plain import MAX_INBOUND, FakeIkePorts, FakePlain
from ginnel.units import NS_PER_S
from ginnel.watch.log import Level
from ginnel.wire.ikev2 import Selector

US, PEER = socket.inet_aton("192.0.2.1"), socket.inet_aton("198.51.100.2")
PATH = IkePath(US, PEER, 4500, natt=True)
ANY = Selector(0, 0, 65_535, bytes(4), b"\xff" * 4)


class World:
    """The loop with one tunnel, and the process around it."""

    def __init__(self, config: IpsecConfig | None = None, *, keys: KeyLog | None = None, level: Level = Level.DEBUG) -> None:
        self.clock = FakeClock()
        self.loop: Any = FakeLoop(self.clock)
        self.lines: list[str] = []
        self.journal = Journal(level, lambda _, line: self.lines.append(line))
        self.mistakes: list[BaseException] = []
        self.ports = FakeIkePorts()
        secret = KeyMaterial.from_bytes(b"crash")
        self.ipsec = Ipsec(self, self.ports, crash_secret=secret, keys=keys, machine=FakeIke)  # type: ignore[arg-type]
        self.ike: Any = self.ipsec.ike
        self.tunnel: Any = FakePlain()
        self.ipsec.join(Member("gre1", self.tunnel, config or IpsecConfig()))

    def mono_ns(self) -> int:
        return self.clock.mono_ns

    def mistake(self, error: BaseException) -> None:
        self.mistakes.append(error)

    def do(self, *outputs: Any) -> None:
        self.ike.says.extend(outputs)
        self.ipsec.apply()

    def said(self, event: str) -> list[str]:
        return [line for line in self.lines if line.startswith(f"{event} ")]


@pytest.fixture(autouse=True)
def events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that a test can make, in place of the engine's."""
    for name in ("IkeReceived", "UnknownSpi", "SaUsed", "SaExpiring", "SaMissing", "SaMoved"):
        monkeypatch.setattr(module, name, getattr(testing, name))


def keys() -> Keys:
    return Keys(KeyMaterial.from_bytes(b"k" * 36), KeyMaterial.from_bytes(b""))


def inbound(**changes: Any) -> effects.AddInbound:
    made = effects.AddInbound("gre1", 0x1234, "aes256gcm16", keys(), True, False, 1024, (ANY,), (ANY,), 77)
    return made._replace(**changes)


def outbound(**changes: Any) -> effects.SetOutbound:
    made = effects.SetOutbound("gre1", 0x5678, "aes256gcm16", keys(), True, True, PATH, True, (ANY,), (ANY,), 88)
    return made._replace(**changes)


# ---------------------------------------------------------------- in


def test_events_of_the_engine_become_inputs() -> None:
    world = World()
    for event in (
        IkeReceived(b"message", PEER, 500, US, False),
        UnknownSpi(9, PEER, 4500, US, True),
        SaUsed(1, 0x1234),
        SaExpiring(1, 0x5678, False, True),
        SaMoved(1, 0x1234, PEER, 1024),
    ):
        world.ipsec.handle(event)  # type: ignore[arg-type]
    assert world.ike.calls == [
        ("receive", b"message", IkePath(US, PEER, 500, natt=False)),
        ("unknown_spi", 9, IkePath(US, PEER, 4500, natt=True)),
        ("sa_used", "gre1", 0x1234),
        ("sa_expiring", "gre1", 0x5678, False, True),
        ("sa_moved", "gre1", 0x1234, PEER, 1024),
    ]


def test_of_a_tunnel_that_is_gone_nothing_is_told() -> None:
    world = World()
    world.ipsec.leave("gre1")
    world.ipsec.handle(SaUsed(1, 0x1234))  # type: ignore[arg-type]
    world.do(inbound(), effects.ClearOutbound("gre1"))
    assert (world.ike.calls, world.tunnel.calls, world.mistakes) == ([], [], [])


@pytest.mark.parametrize(
    ("start", "dpd_action", "initiated"),
    [
        ("trap", "restart", [("gre1",)]),
        ("trap", "clear", [("gre1",)]),
        ("start", "trap", [("gre1",)]),
        ("start", "restart", []),
        ("start", "clear", []),
        ("wait", "trap", []),
    ],
)
def test_a_packet_without_an_sa_springs_the_trap(start: Any, dpd_action: Any, initiated: list[tuple[str]]) -> None:
    world = World(IpsecConfig(start=start, dpd_action=dpd_action))
    world.ipsec.handle(SaMissing(1))  # type: ignore[arg-type]
    assert world.ike.told("initiate") == initiated


def test_what_the_machine_asks_of_a_tunnel() -> None:
    world = World()
    world.tunnel.seen.last_receive_ns = 5
    assert world.ike.last_received_ns("gre1") == 5
    assert world.ike.last_received_ns("gone") == 0
    assert len(world.ike.entropy(16)) == 16
    assert world.ike.debug_keys is False


# ---------------------------------------------------------------- out


def test_datagrams_go_by_the_ports() -> None:
    world = World()
    raw = IkePath(b"", PEER, 500, natt=False)
    world.do(effects.Send("gre1", b"one", PATH), effects.Send("", b"two", raw), effects.SendKeepalive("gre1", PATH))
    assert world.ports.calls == [
        ("send", b"one", US, PEER, 4500, True),
        ("send", b"two", None, PEER, 500, False),
        ("send_keepalive", US, PEER, 4500),
    ]


def test_what_the_network_refuses_is_told_until_it_does_not() -> None:
    world = World()
    world.ports.send_error = OSError(101, "Network is unreachable")
    world.do(effects.Send("gre1", b"one", PATH), effects.Send("", b"two", PATH))
    assert world.ipsec.unsent == {"gre1": "Network is unreachable"}
    assert len(world.said("ike_unsent")) == 2
    world.ports.send_error = None
    world.do(effects.Send("gre1", b"one", PATH))
    assert world.ipsec.unsent == {}


def test_sas_are_installed_with_limits_and_the_files_rules() -> None:
    world = World(IpsecConfig(copy_dscp=False, df="set"))
    world.do(inbound(soft_bytes=1000), outbound(soft_packets=50), outbound(udp=False))
    kinds = [call[0] for call in world.tunnel.calls]
    assert kinds == ["add_inbound", "set_outbound", "set_outbound"]
    first, second, third = (call[-1] for call in world.tunnel.calls)
    everything = (0, 0, 65_535, bytes(4), b"\xff" * 4, 0, 65_535, bytes(4), b"\xff" * 4)
    assert first["selectors"] == [everything]
    assert (first["soft_bytes"], first["hard_bytes"], first["hard_ns"]) == (1000, 1000 * HARD_FACTOR, 77)
    assert (first["hard_packets"], first["replay_window"], first["transport"], first["esn"]) == (0, 1024, True, False)
    assert (second["local_port"], second["remote_port"], second["esn"]) == (4500, 4500, True)
    assert (second["dscp"], second["df"], second["hard_packets"]) == (False, "set", 50 * HARD_FACTOR)
    assert (third["local_port"], third["remote_port"], third["local"], third["remote"]) == (0, 0, US, PEER)


def test_paths_and_ends_of_sas() -> None:
    world = World()
    world.tunnel.outbound = 9
    world.do(
        effects.SetOutboundPath("gre1", PATH, True),
        effects.SetOutboundPath("gre1", PATH, False),
        effects.RemoveInbound("gre1", 1),
        effects.ReleaseSpi("gre1", 2),
        effects.ClearOutbound("gre1"),
    )
    assert world.tunnel.calls == [
        ("set_outbound_path", US, PEER, 4500, 4500),
        ("set_outbound_path", US, PEER, 0, 0),
        ("remove_inbound", 1),
        ("release_spi", 2),
        ("clear_outbound",),
    ]


def test_an_sa_that_the_engine_refuses_keeps_back_nothing_else() -> None:
    world = World()
    world.tunnel.inbound = list(range(MAX_INBOUND))
    world.do(inbound(), effects.ClearOutbound("gre1"))
    assert len(world.mistakes) == 1
    assert len(world.said("sa_refused")) == 1
    assert world.tunnel.calls[-1] == ("clear_outbound",)


def test_the_end_of_a_connection_is_the_machines() -> None:
    world = World()
    world.ipsec.remove("gre1")
    assert world.ike.calls == [("remove", "gre1")]


def test_commands_have_names() -> None:
    world = World()
    for what in ("initiate", "terminate", "rekey", "rekey-ike"):
        world.ipsec.command(what, "gre1")
    assert [call[0] for call in world.ike.calls] == ["initiate", "terminate", "rekey_child", "rekey_ike"]
    with pytest.raises(ValueError, match="expected initiate, terminate, rekey or rekey-ike, found 'explode'"):
        world.ipsec.command("explode", "gre1")


# ---------------------------------------------------------------- time


def test_one_timer_that_is_the_earliest() -> None:
    world = World()
    start_ns = world.mono_ns()
    world.ike.until_ns = start_ns + 5 * NS_PER_S
    world.ipsec.apply()
    world.ike.until_ns = start_ns + 2 * NS_PER_S
    world.ipsec.apply()
    world.loop.run_for(1.9)
    assert world.ike.told("timeout") == []
    world.ike.until_ns = None
    world.loop.run_for(0.2)
    assert world.ike.told("timeout") == [(start_ns + 2 * NS_PER_S,)]
    world.loop.run_for(10)
    assert len(world.ike.told("timeout")) == 1


def test_a_mistake_in_the_machine_ends_no_deadline() -> None:
    world = World()
    world.ike.until_ns = world.mono_ns() + NS_PER_S
    world.ipsec.apply()
    world.ike.raises["timeout"] = RuntimeError("ours")
    world.ike.until_ns = world.mono_ns() + 2 * NS_PER_S
    world.loop.run_for(1.5)
    assert len(world.mistakes) == 1
    world.ike.until_ns = None
    world.loop.run_for(1)
    assert len(world.ike.told("timeout")) == 2


def test_closed_it_fires_no_more() -> None:
    world = World()
    world.ike.until_ns = world.mono_ns() + NS_PER_S
    world.ipsec.apply()
    world.ipsec.close()
    world.loop.run_for(5)
    assert world.ike.told("timeout") == []


# ---------------------------------------------------------------- the log


def test_what_is_said_of_sas() -> None:
    world = World()
    world.do(
        effects.IkeUp("gre1", b"\1" * 8, b"\2" * 8, True, "aes256gcm16-prfsha256-x25519", "sun.example.org", "none"),
        effects.ChildUp("gre1", 0x1234, 0x5678, "aes256gcm16", False),
        effects.ChildUp("gre1", 0x1235, 0x5679, "aes256gcm16", True),
        effects.ChildDown("gre1", "the peer deleted it"),
        effects.IkeDown("gre1", "the peer deleted it"),
        effects.PeerDead("gre1", 12.34),
        effects.Dropped("", "malformed"),
    )
    (up,) = world.said("ike_up")
    assert up.startswith("ike_up interface=gre1 peer=sun.example.org proposal=aes256gcm16-prfsha256-x25519 role=initiator ")
    assert up.endswith(" nat=none spis=0101010101010101-0202020202020202")
    assert world.said("child_up") == ["child_up interface=gre1 proposal=aes256gcm16 spis=00001234-00005678"]
    for event in ("child_rekeyed", "child_down", "ike_down", "ike_peer_dead", "ike_dropped"):
        assert len(world.said(event)) == 1


def test_a_failure_is_explained_once_in_a_while() -> None:
    world = World()
    refused = effects.Refused("gre1", "peer", "proposal", ("the peer took none of our proposals", "ours: a", "theirs: b"))
    other = effects.Refused("gre1", "us", "authentication", ("the peer could not prove who it is",))
    world.do(refused, other, refused, other)
    first, second = world.said("negotiation_failed")
    assert first == 'negotiation_failed interface=gre1 by=peer reason=proposal why="the peer took none of our proposals"'
    assert "by=us" in second
    assert [line.split("why=")[1] for line in world.said("explained")] == ['"ours: a"', '"theirs: b"']
    assert len(world.said("negotiation_failed_again")) == 2
    world.clock.advance_to(world.mono_ns() + EXPLAIN_AGAIN_NS)
    world.do(other)
    assert len(world.said("negotiation_failed")) == 3
    world.do(*(refused._replace(lines=(str(number),)) for number in range(20)))
    assert len(world.ipsec._explained["gre1"]) == module.EXPLAINED_LIMIT
    world.do(effects.IkeUp("gre1", b"", b"", True, "", "", ""), other)
    assert len(world.said("negotiation_failed")) == 24


def test_keys_are_written_only_in_the_debug_mode(tmp_path: Path) -> None:
    line = effects.KeysMade("gre1", "esp_sa", "secret-line")
    plain = World()
    plain.do(line)
    log = KeyLog(str(tmp_path / "keys"))
    debugging = World(keys=log)
    assert debugging.ike.debug_keys is True
    debugging.do(line)
    assert (tmp_path / "keys" / "esp_sa").read_text() == "secret-line\n"
    assert not any("secret-line" in said for said in (*plain.lines, *debugging.lines))
    log.close()


def test_at_info_nothing_is_gathered_for_debug() -> None:
    world = World(level=Level.INFO)
    world.do(effects.Dropped("", "malformed"))
    assert world.lines == []
    assert dataclasses.is_dataclass(world.tunnel)
