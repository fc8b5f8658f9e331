"""
ESP with static keys against the Linux kernel: every suite, both modes, both families, raw and in UDP, with and without ESN,
under every kind of tunnel.

All cases stand at the same time, ours in one engine. Each sends pings and TCP both ways, through each family that it carries;
then both ends must have counted the same packets under each SA, and neither an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from namespaces import Net, wait_until
from peers.gre_nodes import SUBJECT, listening, ping_argv
from peers.guest import Guest
from peers.ipsec_kernel import TABLE, Case, Linux, Near, kernel_near, near_addresses
from peers.test_gre_kernel import GATHER_NOTHING

#: Bytes of one TCP transfer.
TRANSFER = 100_000


@dataclass(slots=True)
class Bench:
    """Both ends of all cases."""

    near: Near | Linux
    far: Linux


@pytest.fixture(scope="module")
def bench(guest: Guest) -> Iterator[Bench]:
    """Made in one go, gone at the end."""
    with Net.create() as net:
        near: Near | Linux
        if SUBJECT == "kernel":
            near = kernel_near(guest, TABLE)
            far = Linux(guest, device="near0")
        else:
            space = net.namespace("near")
            guest.join(space, near_addresses(TABLE))
            near = Near.start(space, TABLE)
            far = Linux(guest)
        try:
            far.start(TABLE)
            guest.host(sys.executable, "-c", GATHER_NOTHING, far.device)
            near.serve("iperf3", "--server")
            listening(near, 5201)
            yield Bench(near, far)
        finally:
            far.clear(TABLE)
            near.stop()


def at_rest(bench: Bench, case: Case) -> tuple[tuple[int, int], tuple[int, int]]:
    """Both ends' packets, received and sent, at a moment when none was under way."""

    def still() -> tuple[tuple[int, int], tuple[int, int]] | None:
        before = bench.far.packets(case)
        near = bench.near.packets(case)
        return (near, before) if bench.far.packets(case) == before else None

    return wait_until(still, 10, f"{case} to be at rest")


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_traffic_both_ways_and_counters_that_agree(bench: Bench, case: Case) -> None:
    """Pings, small and in fragments, from each end through each family, and TCP; no packet lost, replayed or refused."""
    wrong = bench.far.wrong()
    before = at_rest(bench, case)
    for family in case.carries:
        bench.near.run(*ping_argv(case.inner(2, family)))
        bench.far.run(*ping_argv(case.inner(1, family), "-s", "3000"))
    for family, way in ((case.carries[0], []), (case.carries[-1], ["--reverse"])):
        bench.far.run("iperf3", "--client", case.inner(1, family), "--bytes", str(TRANSFER), *way)

    def moved() -> tuple[tuple[int, int], tuple[int, int]]:
        near, far = at_rest(bench, case)
        return (near[0] - before[0][0], near[1] - before[0][1]), (far[0] - before[1][0], far[1] - before[1][1])

    try:
        (received, sent), _ = wait_until(lambda: (both := moved())[0] == both[1][::-1] and both, 5, "the same counts")
    except AssertionError:
        near, far = moved()
        assert near == far[::-1]
        raise
    assert min(received, sent) > 4 * len(case.carries)
    assert bench.far.wrong() == wrong
    if isinstance(bench.near, Near):
        assert bench.near.wrong(case) == {}
