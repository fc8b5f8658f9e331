"""What a node file asks of its host, on a host in memory: done in order, undone exactly, shared where two want the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from ginnel.errors import GinnelError
from ginnel.linux import bringup, node_bringup
from ginnel.linux.fake import FakeHost, FakeNode
from ginnel.linux.record import OwnDone, Process, ProxyDone, Record, SettingDone, Store, network_namespace
from unit.linux.test_node_bringup import ONE, Said, nobody_is_ended, parsed, pretend_up, store

__all__ = ["nobody_is_ended", "store"]

BEFORE = {
    "net.ipv6.conf.default.disable_ipv6": "0",
    "net.ipv4.ip_forward": "0",
    "net.ipv6.conf.all.forwarding": "0",
    "net.ipv4.tcp_mtu_probing": "0",
}
ASKED = """
[node]
forward = true
sysctls = { "net.ipv4.tcp_mtu_probing" = 1, "net.ipv4.conf.gnl1.rp_filter" = 2 }
addresses = ["203.0.113.64/31", "2001:db8:64::/64"]
proxy = ["192.0.2.6/31 dev eth0"]
nft = '''
chain x { type filter hook input priority 0; }
'''
"""
TEXT = ASKED + ONE


def world() -> FakeHost:
    return FakeHost(sysctl=dict(BEFORE))


def bring_up(made: FakeHost, store: Store, text: str = TEXT, *, dry_run: bool = False) -> Said:
    said = Said()
    node_bringup.up(parsed(text), made.host(), FakeNode(made), store, said, dry_run=dry_run)
    return said


def down(made: FakeHost, store: Store, name: str = "edge") -> Said:
    said = Said()
    bringup.down(name, None, made.host(), store, said)
    return said


def test_the_steps_before_the_tunnels_and_with_their_devices(store: Store) -> None:
    made = world()
    said = bring_up(made, store)
    at = said.steps.index("serve edge")
    assert said.steps[1:at] == [
        "nft -f - # table inet ginnel-edge/host: [node] nft",
        "sysctl -q net.ipv4.ip_forward=1",
        "sysctl -q net.ipv6.conf.all.forwarding=1",
        "sysctl -q net.ipv4.tcp_mtu_probing=1",
        "ip address add 203.0.113.64/32 dev lo",
        "ip address add 203.0.113.65/32 dev lo",
        "ip -6 route add local 2001:db8:64::/64 dev lo",
        "ip neighbour add proxy 192.0.2.6 dev eth0",
        "ip neighbour add proxy 192.0.2.7 dev eth0",
    ]
    assert said.steps[at + 2] == "sysctl -q net.ipv4.conf.gnl1.rp_filter=2", "the device is there, and still down"
    assert made.tables["inet ginnel-edge/host"] == "chain x { type filter hook input priority 0; }\n"
    assert not any("forwards no" in note for note in said.notes)


def test_a_dry_run_says_the_same_and_does_nothing(store: Store) -> None:
    made = world()
    planned = bring_up(made, store, dry_run=True).steps
    assert made.calls == []
    assert made.sysctl == BEFORE
    assert planned == bring_up(made, store).steps


def test_down_leaves_the_host_as_it_was(store: Store) -> None:
    made = world()
    before = made.state()
    bring_up(made, store)
    pretend_up(store)
    assert made.sysctl["net.ipv4.ip_forward"] == "1"
    down(made, store)
    assert made.state() == before
    assert {name: made.sysctl[name] for name in BEFORE} == BEFORE
    assert store.load("edge") is None


CALLS = 30


@pytest.mark.parametrize("number", range(1, CALLS))
def test_a_failure_at_any_step_leaves_the_host_as_it_was(number: int, store: Store) -> None:
    made = world()
    before = made.state()
    made.fail_at = number
    try:
        bring_up(made, store)
    except GinnelError:
        assert made.state() == before
        assert {name: made.sysctl[name] for name in BEFORE} == BEFORE
        assert store.load("edge") is None
    else:
        assert len(made.calls) < number, "it went well only because there was no such step"


def test_what_is_there_already_is_somebody_elses(store: Store) -> None:
    made = world()
    made.own.add("ip address add 203.0.113.65/32 dev lo")
    before = made.state()
    with pytest.raises(GinnelError, match=r"ip address add 203\.0\.113\.65/32 dev lo"):
        bring_up(made, store)
    assert made.state() == before


def test_a_setting_that_the_kernel_does_not_have_is_said_before_the_tunnels(store: Store) -> None:
    made = world()
    made.no_settings = frozenset({"net.ipv4.tcp_mtu_probing"})
    with pytest.raises(GinnelError, match="has no such setting"):
        bring_up(made, store)
    assert made.links == {}


# ---------------------------------------------------------------- what two want


FORWARD = '[node]\nforward = "ipv4"\n' + ONE


def also(store: Store, name: str = "other") -> None:
    """Another node that is up and forwards, too."""
    record = Record(name, f"/{name}.toml", "engine", network_namespace(), 7, Process(), complete=True)
    first = store.load("edge")
    assert first is not None
    before = next(done.before for done in first.done if isinstance(done, SettingDone))
    record.done = [SettingDone("net.ipv4.ip_forward", before, "1")]
    store.save(record)


def test_the_last_one_to_go_puts_it_back(store: Store) -> None:
    made = world()
    bring_up(made, store, FORWARD)
    pretend_up(store)
    also(store)
    down(made, store)
    assert made.sysctl["net.ipv4.ip_forward"] == "1", "the other one still needs it"
    bring_up(made, store, FORWARD)
    pretend_up(store)
    store.delete("other")
    down(made, store)
    assert made.sysctl["net.ipv4.ip_forward"] == "0", "as it was before the first of them"


def test_what_was_on_before_stays_on(store: Store) -> None:
    made = world()
    made.sysctl["net.ipv4.ip_forward"] = "1"
    said = bring_up(made, store, FORWARD)
    assert "sysctl net.ipv4.ip_forward" not in made.calls
    assert "sysctl -q net.ipv4.ip_forward=1" in said.steps
    pretend_up(store)
    down(made, store)
    assert made.sysctl["net.ipv4.ip_forward"] == "1"


def test_what_somebody_set_meanwhile_stays(store: Store) -> None:
    made = world()
    bring_up(made, store)
    pretend_up(store)
    made.sysctl["net.ipv4.tcp_mtu_probing"] = "2"
    said = down(made, store)
    assert made.sysctl["net.ipv4.tcp_mtu_probing"] == "2"
    assert "net.ipv4.tcp_mtu_probing is 2 now, which edge did not set: it stays" in said.notes


def test_up_mends_what_a_killed_up_left(store: Store) -> None:
    made = world()
    bring_up(made, store)
    left = made.state()
    made.links.clear()  # the process died, and its devices with it
    said = bring_up(made, store)
    assert said.notes[0] == "mending what a killed edge left"
    assert made.state()[2:] == left[2:]
    pretend_up(store)
    down(made, store)
    assert made.sysctl["net.ipv4.ip_forward"] == "0"


def test_the_record_survives_its_disk(tmp_path: Path) -> None:
    record = Record("edge", str(tmp_path / "edge.toml"), "engine", network_namespace(), 7, Process())
    record.done = [
        SettingDone("net.ipv4.ip_forward", "0", "1"),
        OwnDone("203.0.113.64/32"),
        ProxyDone("192.0.2.6/31 dev eth0"),
    ]
    assert Record.from_json(record.to_json()) == record
