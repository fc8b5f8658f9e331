"""Bring-up on a host in memory: the order of things, and that a failure at any step leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from ginnel.config import wgquick
from ginnel.errors import ConfigError, GinnelError
from ginnel.linux import bringup
from ginnel.linux.fake import FakeHost
from ginnel.linux.record import Process, Record, Store, network_namespace

KEY = "mEEyFdKeEQWDxqZCT/qu2hr0gHnGKsdz8DgQYIPjJ2M="
PEER = "UbjMLkDPHcFlIhOlcuwHUc6VyUuBrGgr2NEGaNdAKgo="

EVERYTHING = f"""
[Interface]
PrivateKey = {KEY}
Address = 10.9.0.1/24, fd09::1/64
DNS = 10.9.0.53, example.org
PreUp = pre up
PostUp = post up %i # kept
PreDown = pre down
PostDown = post down
[Peer]
PublicKey = {PEER}
AllowedIPs = 0.0.0.0/0, ::/0, 10.20.0.0/16, 10.9.0.7/32
Endpoint = 192.0.2.2:51820
"""

NAME = "ginneltest0"  # does not exist on the host that runs the test


class Said:
    """A console that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []

    def step(self, words: str) -> None:
        self.steps.append(words)

    def note(self, text: str) -> None:
        self.notes.append(text)


def bring_up(world: FakeHost, store: Store, text: str = EVERYTHING, *, dry_run: bool = False) -> Said:
    said = Said()
    bringup.up(wgquick.parse(text, "test.conf"), NAME, world.host(), world, store, said, dry_run=dry_run)
    return said


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "run")


def test_the_steps_are_wg_quicks_in_the_order_of_wg_quick(store: Store) -> None:
    world = FakeHost()
    assert bring_up(world, store).steps == [
        f"ginnel-wireguard {NAME}",
        "pre up",
        f"wg addconf {NAME} /dev/fd/63",
        f"ip -4 address add 10.9.0.1/24 dev {NAME}",
        f"ip -6 address add fd09::1/64 dev {NAME}",
        f"ip link set mtu 1420 up dev {NAME}",
        "dns 10.9.0.53",
        f"ip -4 route add 10.20.0.0/16 dev {NAME}",
        f"wg set {NAME} fwmark 51820",
        f"nft -f - # table ginnel-{NAME}",
        f"ip -4 route add 0.0.0.0/0 dev {NAME} table 51820",
        "ip -4 rule add not fwmark 51820 table 51820",
        "ip -4 rule add table main suppress_prefixlength 0",
        f"ip -6 route add ::/0 dev {NAME} table 51820",
        "ip -6 rule add not fwmark 51820 table 51820",
        "ip -6 rule add table main suppress_prefixlength 0",
        "sysctl -q net.ipv4.conf.all.src_valid_mark=1",
        f"post up {NAME} # kept",
    ]
    record = store.load(NAME)
    assert record is not None
    assert record.complete
    assert record.fwmark == 51820


def test_a_dry_run_says_the_same_and_does_nothing(store: Store) -> None:
    # PreUp may change what later steps find, so the real run asks the device; without it both know the same.
    text = EVERYTHING.replace("PreUp = pre up\n", "")
    world = FakeHost()
    planned = bring_up(world, store, text, dry_run=True).steps
    assert world.calls == []
    assert store.load(NAME) is None
    assert planned == bring_up(world, store, text).steps


def count_of_calls() -> int:
    world = FakeHost()
    text = EVERYTHING.replace("PreUp = pre up\n", "")
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        bring_up(world, Store(Path(directory)), text)
    return len(world.calls)


CALLS = count_of_calls()


def test_every_step_is_counted() -> None:
    assert CALLS == 18


@pytest.mark.parametrize("when", ["fail_at", "fail_after"])
@pytest.mark.parametrize("number", range(1, CALLS + 1))
def test_a_failure_at_any_step_leaves_the_host_as_it_was(number: int, when: str, store: Store) -> None:
    world = FakeHost(sysctl={"net.ipv4.conf.all.rp_filter": "1"})  # strict: the mark setting is needed
    world.links["other"] = {"index": 3, "mtu": 1500, "addresses": [], "routes": []}
    before = world.state()
    setattr(world, when, number)
    with pytest.raises(GinnelError):
        bring_up(world, store, EVERYTHING.replace("PreUp = pre up\n", ""))
    after = world.state()
    if when == "fail_after" and world.calls[number - 1].startswith(("rule", "nft")):
        # What the kernel refuses has not happened: a rule or a transaction that "failed" afterwards is not ours to undo.
        return
    assert after == before
    assert store.load(NAME) is None
    assert not any("down" in call for call in world.calls), "hooks of down belong to a tunnel that was up"


def test_down_undoes_exactly_what_up_did(store: Store) -> None:
    world = FakeHost()
    before = world.state()
    bring_up(world, store)
    # Another tunnel's rule of the same kind, as wg-quick makes it: it must survive.
    theirs = bringup.Rule(4, 32000, "specific", 0, 0)
    world.rules.add(theirs)
    said = Said()
    pretend_up(store)
    bringup.down(NAME, None, world.host(), store, said)
    assert world.rules == {theirs}
    world.rules.clear()
    assert world.state() == before
    assert said.steps[0] == "pre down"
    assert said.steps[-1] == "post down"
    assert store.load(NAME) is None


def pretend_up(store: Store) -> None:
    """The fake has no process and no link of this host: let the test's own process stand for the daemon."""
    import os

    record = store.load(NAME)
    assert record is not None
    record.daemon = Process.of(os.getppid())
    store.save(record)


@pytest.fixture(autouse=True)
def nobody_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here may wait for or end a process that stands for a daemon."""
    monkeypatch.setattr(bringup, "wait_gone", lambda process: True)
    monkeypatch.setattr(bringup, "end_process", lambda process: None)


def test_two_full_tunnels_keep_their_own_rules_and_tables(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    world = FakeHost()
    bring_up(world, store)
    first = set(world.rules)
    monkeypatch.setitem(globals(), "NAME", "ginneltest1")
    bring_up(world, store)
    assert store.load("ginneltest1").fwmark == 51821  # type: ignore[union-attr]
    assert len(world.rules) == 8
    assert len({(rule.version, rule.priority) for rule in world.rules}) == 8
    pretend_up(store)
    bringup.down("ginneltest1", None, world.host(), store, Said())
    assert world.rules == first


def test_a_priority_that_somebody_takes_meanwhile_is_not_shared(store: Store) -> None:
    world = FakeHost()
    taken = bringup.Rule(4, 32765, "unmarked", 51820, 51820)

    class Racing(FakeHost):
        __slots__ = ()

        def rule_priorities(self, version: bringup.Version) -> list[int]:
            return [0, 32766]  # as if read before the other one added its rule

    racing = Racing(rules={taken})
    bring_up(racing, store)
    ours = {done.rule for done in store.load(NAME).done if isinstance(done, bringup.RuleDone)}  # type: ignore[union-attr]
    assert taken not in ours
    assert len(ours) == 4
    assert world.rules == set()


def test_up_mends_what_a_killed_up_left(store: Store) -> None:
    world = FakeHost()
    bring_up(world, store)
    left = set(world.rules)
    world.links.clear()  # the daemon died, and the interface with it
    said = bring_up(world, store)
    assert "mending" in said.notes[0]
    assert said.steps[0] == "pre down", "a tunnel that was up gets its hooks of down"
    assert world.rules == left
    assert list(world.links) == [NAME]


def test_up_mends_an_up_that_was_killed_half_way_without_its_hooks(store: Store) -> None:
    world = FakeHost()
    bring_up(world, store)
    record = store.load(NAME)
    assert record is not None
    record.complete = False
    record.owner = Process()
    store.save(record)
    said = bring_up(world, store)
    assert "pre down" not in said.steps
    assert len(world.rules) == 4


def test_down_of_a_killed_tunnel_mends_and_tolerates_its_hooks(store: Store) -> None:
    world = FakeHost()
    before = world.state()
    bring_up(world, store)
    world.links.clear()
    world.fail_at = len(world.calls) + 1  # PreDown, which misses its interface
    said = Said()
    bringup.down(NAME, None, world.host(), store, said)
    assert world.state() == before
    assert store.load(NAME) is None
    assert len(said.notes) == 2


def test_what_cannot_be_undone_is_told_and_kept_for_the_next_time(store: Store) -> None:
    world = FakeHost()
    before = world.state()
    bring_up(world, store)
    pretend_up(store)
    world.fail_at = len(world.calls) + 2  # the first undoing after PreDown
    with pytest.raises(GinnelError, match="could not undo"):
        bringup.down(NAME, None, world.host(), store, Said())
    record = store.load(NAME)
    assert record is not None
    assert len(record.done) == 1
    bringup.down(NAME, None, world.host(), store, Said())
    assert world.state() == before


def test_a_tunnel_that_is_up_is_refused(store: Store) -> None:
    world = FakeHost()
    bring_up(world, store)
    pretend_up(store)
    with pytest.raises(GinnelError, match="already up"):
        bring_up(world, store)


def test_a_name_that_exists_is_refused_untouched(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "NAME", "lo")
    world = FakeHost()
    with pytest.raises(GinnelError, match="lo already exists, and ginnel did not make it"):
        bring_up(world, store)
    assert world.calls == []


def test_down_of_what_ginnel_did_not_bring_up_is_refused(store: Store) -> None:
    with pytest.raises(GinnelError, match="lo exists, but ginnel did not bring it up"):
        bringup.down("lo", None, FakeHost().host(), store, Said())
    with pytest.raises(GinnelError, match="is not up"):
        bringup.down(NAME, None, FakeHost().host(), store, Said())


def test_another_namespaces_tunnel_is_left_alone(store: Store) -> None:
    store.save(Record(NAME, "x.conf", "engine", "net:[1]", 0, Process()))
    with pytest.raises(GinnelError, match="another network namespace"):
        bringup.down(NAME, None, FakeHost().host(), store, Said())
    assert network_namespace() != "net:[1]"


def test_two_commands_on_one_name_are_kept_apart(store: Store) -> None:
    with store.lock(NAME), pytest.raises(GinnelError, match="another ginnel command is at work"):
        bring_up(FakeHost(), store)


def test_an_unknown_table_is_refused_before_anything_is_touched(store: Store) -> None:
    world = FakeHost()
    with pytest.raises(ConfigError, match="no routing table is called 'nosuchtable'"):
        bring_up(world, store, EVERYTHING.replace("[Peer]", "Table = nosuchtable\n[Peer]"))
    assert world.calls == []


@pytest.mark.parametrize(
    ("paths", "default", "expected"),
    [({"192.0.2.2": 1400}, 1500, 1320), ({}, 1280, 1200), ({}, None, 1420), ({"192.0.2.2": 9000, "192.0.2.3": 1500}, 1, 1420)],
)
def test_mtu_is_the_smallest_paths_less_80(store: Store, paths: dict[str, int], default: int | None, expected: int) -> None:
    second = f"[Peer]\nPublicKey = {KEY}\nEndpoint = 192.0.2.3:1\n"
    text = EVERYTHING.replace(f"PrivateKey = {KEY}\n", "") + second
    world = FakeHost(paths=paths, default_mtu=default)
    assert f"ip link set mtu {expected} up dev {NAME}" in bring_up(world, store, text).steps


def test_where_filtering_is_not_strict_the_mark_setting_may_be_refused(store: Store) -> None:
    world = FakeHost()
    world.fail_at = CALLS  # counted without PreUp: the sysctl, since PostUp is the last
    said = bring_up(world, store)
    assert world.calls[CALLS - 1].startswith("sysctl")
    assert "not needed here" in said.notes[-1]


def test_src_valid_mark_is_left_alone_when_it_is_set(store: Store) -> None:
    world = FakeHost(sysctl={bringup.SRC_VALID_MARK: "1"})
    assert not any("sysctl" in step for step in bring_up(world, store).steps)


def test_many_routes_are_one_batch(store: Store) -> None:
    prefixes = ", ".join(f"10.{n >> 8}.{n & 255}.0/24" for n in range(10_000, 10_600))
    text = f"[Interface]\nPrivateKey = {KEY}\n[Peer]\nPublicKey = {PEER}\nAllowedIPs = {prefixes}\n"
    world = FakeHost()
    steps = bring_up(world, store, text).steps
    assert [step for step in steps if "route add" in step] == [f"ip -batch - # 600 x route add ... dev {NAME}"]
    assert len(world.links[NAME]["routes"]) == 600
