#!/usr/bin/env python3
"""
Ways to send and to receive a raw IP protocol, one against another: bench/underlay.py [--rounds N] [--seconds S] [--save]

Each round measures every pair of ways once, in turns, between two namespaces joined by a veth pair; the next begins with the next
pair. The figure is the processor time of both ends by packet received (ns), in a closed loop that loses nothing (512 packets on
the way, 64 a call). Beside it: the same with a receiver that, while packets keep coming, sleeps 50 µs instead of until the next
one; what an unpaced sender loses; and the time of a lone packet from its sender's call to its receiver's answer in shared
memory. Medians; the kernel's softirq threads are counted in, also when they work for others: on a
quiet machine they hardly run.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bed import CACHE, LEFT_OUTER, RIGHT_OUTER, ROOT
from machine import facts

from namespaces import Namespace, Net, run

SENDERS = ("raw", "raw-plain", "packet", "packet-bypass", "ring", "ring-bypass", "xdp")
RECEIVERS = ("raw", "packet", "ring2", "ring3", "xdp-generic", "xdp-native")
#: Each sender to the plainest receiver, each receiver from the plainest sender, and the fastest of both kinds together.
PAIRS = (
    *((send, "raw") for send in SENDERS),
    *(("raw", receive) for receive in RECEIVERS[1:]),
    ("packet-bypass", "ring2"),
    ("xdp", "xdp-generic"),
    ("xdp", "xdp-native"),
    # Not a raw protocol: what GRE in UDP pays.
    ("udp", "udp"),
)
SIZES = (1500, 88)
WINDOW, BATCH = 512, 64
NAP_US = 50

Row = dict[str, Any]


@functools.cache
def tool() -> str:
    """bench/underlay's binary, built if its sources are newer."""
    target = CACHE / "underlay"
    manifest = ROOT / "bench" / "underlay" / "Cargo.toml"
    run(
        ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", str(manifest), "--target-dir", str(target)],
        timeout_s=600,
    )
    return str(target / "release" / "ginnel-underlay")


def softirq_threads() -> str:
    """The ids of the kernel's ksoftirqd threads."""
    found = [path.parent.name for path in Path("/proc").glob("[0-9]*/comm") if path.read_text().startswith("ksoftirqd/")]
    return ",".join(found)


class Wire:
    """Two namespaces and a veth pair, each end knowing the other's hardware address."""

    def __init__(self, net: Net) -> None:
        self.left, self.right = net.namespace("left"), net.namespace("right")
        self.link = net.veth(self.left, self.right, [f"{LEFT_OUTER}/24"], [f"{RIGHT_OUTER}/24"])
        self.left_mac, self.right_mac = self._mac(self.left, self.link.left), self._mac(self.right, self.link.right)
        for space, device, address, mac in (
            (self.left, self.link.left, RIGHT_OUTER, self.right_mac),
            (self.right, self.link.right, LEFT_OUTER, self.left_mac),
        ):
            space.ip("neighbour", "replace", address, "lladdr", mac, "dev", device, "nud", "permanent")

    @staticmethod
    def _mac(space: Namespace, device: str) -> str:
        return str(space.ip_json("link", "show", "dev", device)[0]["address"])

    def measure(self, send: str, receive: str, *options: str) -> Row:
        """One run of the tool; what the kernel refuses is a row with `refused`."""
        done = subprocess.run(
            [
                tool(), "--send", send, "--receive", receive,
                "--left", f"/run/netns/{self.left.name}", "--right", f"/run/netns/{self.right.name}",
                "--left-device", self.link.left, "--right-device", self.link.right,
                "--from", LEFT_OUTER, "--to", RIGHT_OUTER, "--from-mac", self.left_mac, "--to-mac", self.right_mac,
                "--softirq", softirq_threads(), *options,
            ],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        if done.returncode:
            return {"send": send, "receive": receive, "refused": done.stderr.strip()}
        row: Row = json.loads(done.stdout)
        return row


def measure(wire: Wire, rounds: int, seconds: float) -> dict[str, list[Row]]:
    """All rounds, by name of pair and size."""
    cells = [(send, receive, size) for size in SIZES for send, receive in PAIRS]
    results: dict[str, list[Row]] = {}
    for number in range(rounds):
        shift = number % len(cells)
        for send, receive, size in cells[shift:] + cells[:shift]:
            common = ("--size", str(size))
            closed = wire.measure(
                send, receive, *common, "--window", str(WINDOW), "--batch", str(BATCH), "--seconds", str(seconds)
            )
            row = closed
            if "refused" in closed and number:
                raise RuntimeError(f"{send} to {receive} was possible before: {closed['refused']}")
            if "refused" not in closed:
                flood = wire.measure(
                    send, receive, *common, "--window", "0", "--batch", str(BATCH), "--seconds", str(seconds / 2)
                )
                lone = wire.measure(send, receive, *common, "--window", "1", "--batch", "1", "--seconds", str(seconds / 2))
                naps = wire.measure(
                    send, receive, *common, "--window", str(WINDOW), "--batch", str(BATCH), "--nap", str(NAP_US),
                    "--seconds", str(seconds / 2),
                )  # fmt: skip
                for other in (flood, lone, naps):
                    if "refused" in other:
                        raise RuntimeError(f"{send} to {receive}: {other['refused']}")
                row = {
                    **closed,
                    "flood_sent_per_second": flood["sent"] / flood["seconds"],
                    "flood_received_per_second": flood["packets_per_second"],
                    "flood_lost_percent": 100 * flood["lost"] / max(1, flood["sent"]),
                    "naps_ns": naps["both_ns"],
                    "naps_packets_per_second": naps["packets_per_second"],
                    "lone_us": 1e6 / max(1.0, lone["packets_per_second"]),
                }
            results.setdefault(f"{send} {receive} {size}", []).append(row)
            shown = row.get("refused") or f"{row['both_ns']:.0f} ns  {row['packets_per_second'] / 1e3:.0f} k/s"
            print(f"  {number + 1}/{rounds} {send:>13} -> {receive:<11} {size:>4}  {shown}", file=sys.stderr)
    return results


def table(results: dict[str, list[Row]]) -> str:
    """Markdown: one line a pair, the ratio to raw sockets at both ends."""
    head = (
        "send", "receive", "ns/packet, both ends", "to raw", "k packets/s", "with naps: ns/packet", "to raw", "k packets/s",
        "flood: k/s received", "flood: lost", "lone packet",
    )  # fmt: skip
    lines = []
    for size in SIZES:
        lines += [f"\n### {size} bytes\n", "| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
        base = middle(results[f"raw raw {size}"], "both_ns")
        naps_base = middle(results[f"raw raw {size}"], "naps_ns")
        for send, receive in PAIRS:
            rows = results[f"{send} {receive} {size}"]
            if refused := rows[0].get("refused"):
                lines.append(f"| {send} | {receive} | refused: {refused} |" + " |" * (len(head) - 3))
                continue
            both = middle(rows, "both_ns")
            naps = middle(rows, "naps_ns")
            cells = (
                f"{both:.0f}", f"{both / base:.2f}x", f"{middle(rows, 'packets_per_second') / 1e3:.0f}",
                f"{naps:.0f}", f"{naps / naps_base:.2f}x", f"{middle(rows, 'naps_packets_per_second') / 1e3:.0f}",
                f"{middle(rows, 'flood_received_per_second') / 1e3:.0f}", f"{middle(rows, 'flood_lost_percent'):.0f} %",
                f"{middle(rows, 'lone_us'):.0f} µs",
            )  # fmt: skip
            lines.append(f"| {send} | {receive} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def middle(rows: list[Row], name: str) -> float:
    """Median of one figure."""
    return float(statistics.median(row[name] for row in rows))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each closed loop; the others take half as long")
    parser.add_argument("--save", action="store_true", help="keep all rounds in bench/results/underlay-<date>.json")
    options = parser.parse_args()
    machine = facts()
    with Net.create() as net:
        results = measure(Wire(net), options.rounds, options.seconds)
    print(table(results))
    if options.save:
        path = Path(__file__).resolve().parent / "results" / f"underlay-{time.strftime('%Y-%m-%d')}.json"
        document = {"schema": "ginnel.underlay/1", "machine": machine, "window": WINDOW, "batch": BATCH, "rounds": results}
        path.write_text(json.dumps(document, indent=1) + "\n")
        print(f"written: {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
