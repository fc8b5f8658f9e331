"""
Plain tunnels against the Linux kernel: every kind, over IPv4 and IPv6, with every set of options, and GRE in UDP against FOU.

All tunnels stand at the same time, ours in one process. A case sends pings and TCP both ways, through both families where the
tunnel carries both; then both ends must have counted the same packets and bytes, and neither an error.
The guest makes and gathers no super-packets, which would count as one (and which Linux 6.1 loses in FOU). But it leaves checksums
to its network card, as every kernel does, and the card leaves them to nobody: GRE's own and those inside come unfinished.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from namespaces import Net, wait_until
from peers.gre_nodes import SUBJECT, TABLE, Counters, Far, KernelNear, Near, Plain, Subject, listening, ping_argv
from peers.guest import Guest

NEAR_ADDRESSES = [f"{one.near}/{24 if one.family == 4 else 64}" for one in TABLE]
#: `ethtool -K DEVICE gro off`, in Python, which is there where ethtool is not.
GATHER_NOTHING = """
import array, fcntl, socket, struct, sys
value = array.array("I", [0x2C, 0])
fcntl.ioctl(socket.socket(), 0x8946, struct.pack("16sP", sys.argv[1].encode(), value.buffer_info()[0]))
"""
#: Bytes of one TCP transfer.
TRANSFER = 500_000


@dataclass(slots=True)
class Bench:
    """Both ends of all tunnels of the table."""

    guest: Guest
    near: Subject
    far: Far


@pytest.fixture(scope="module")
def bench(guest: Guest) -> Iterator[Bench]:
    """Made in one go, gone at the end."""
    with Net.create() as net:
        near: Subject
        if SUBJECT == "kernel":
            near = KernelNear(guest)
            near.start(NEAR_ADDRESSES)
            far = Far(guest, "near0")
        else:
            space = net.namespace("near")
            guest.join(space, NEAR_ADDRESSES)
            near = Near(space)
            near.start()
            far = Far(guest)
        try:
            far.prepare(TABLE)
            near.add(TABLE, far.add(TABLE))
            guest.host(sys.executable, "-c", GATHER_NOTHING, far.device)
            near.serve("iperf3", "--server")
            listening(near, 5201)
            yield Bench(guest, near, far)
        finally:
            near.stop()
            far.clear(TABLE)


def agreed(bench: Bench, name: str) -> tuple[Counters, Counters]:
    """Both ends' counters at a moment when none of them moved; polled, since the last packets may be under way."""

    def still() -> tuple[Counters, Counters] | None:
        before = bench.far.counters()[name]
        near = bench.near.counters()[name]
        return (near, before) if bench.far.counters()[name] == before else None

    return wait_until(still, 10, f"{name} to be at rest")


def moved(before: Counters, after: Counters) -> tuple[int, int, int, int]:
    """Packets and bytes received, packets and bytes sent, meanwhile."""
    return (
        after.rx_packets - before.rx_packets, after.rx_bytes - before.rx_bytes,
        after.tx_packets - before.tx_packets, after.tx_bytes - before.tx_bytes,
    )  # fmt: skip


def used(bench: Bench, tunnel: Plain, near_before: Counters, far_before: Counters) -> tuple[Counters, Counters]:
    """Traffic of all kinds; the counters of both ends as soon as they agree, else after 5 s."""
    for family in tunnel.carries:
        bench.near.run(*ping_argv(tunnel.inner(2, family)))
        bench.guest.run(*ping_argv(tunnel.inner(1, family)))
    first, last = tunnel.carries[0], tunnel.carries[-1]
    for family, way in ((first, []), (last, ["--reverse"])):
        bench.guest.run("iperf3", "--client", tunnel.inner(1, family), "--bytes", str(TRANSFER), *way)

    def same() -> tuple[Counters, Counters] | None:
        near, far = agreed(bench, tunnel.name)
        ours, theirs = moved(near_before, near), moved(far_before, far)
        return (near, far) if ours == (*theirs[2:], *theirs[:2]) else None

    with contextlib.suppress(AssertionError):
        return wait_until(same, 5, "counters that agree")
    return agreed(bench, tunnel.name)


@pytest.mark.parametrize("tunnel", TABLE, ids=[one.label for one in TABLE])
def test_traffic_both_ways_and_counters_that_agree(bench: Bench, tunnel: Plain) -> None:
    """
    Pings and TCP from each end through each family; then both ends counted the same packets and bytes.

    What the guest's network card drops when TCP fills it (the machine is busy) one end has counted and the other has not: then it
    is all done anew. A miscount would be there every time.
    """
    for left in (2, 1, 0):
        near_before, far_before = agreed(bench, tunnel.name)
        near, far = used(bench, tunnel, near_before, far_before)
        ours, theirs = moved(near_before, near), moved(far_before, far)
        if ours == (*theirs[2:], *theirs[:2]):
            break
        assert left, f"three times: {ours} here, {theirs} there"
    received, received_bytes, sent, sent_bytes = moved(near_before, near)
    assert min(received, sent) > 4 * len(tunnel.carries)
    assert min(received_bytes, sent_bytes) > TRANSFER // 2
    assert near.wrong == near_before.wrong, "what came before the device was up is no matter"
    assert far.wrong == far_before.wrong
