"""
The compiler of networks under load, in a process of its own: what `network_scenes.py` runs and times.

    network_load.py file mesh|hub COUNT             the network file
    network_load.py work FILE                       parse, check, allocate, compile, lint, plan; one node more; as JSON

*mesh* is full: every node can be reached, each is every other's peer. *hub* has 20 hubs, each of a region of its own with a LAN;
the nodes are behind NAT, have the hub of their region, and that of the next one held ready. What is measured is processor time of
this one process. The collector of cyclic garbage is on, as Python has it.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

HUBS = 20
_T = TypeVar("_T")


def file_of(shape: str, count: int) -> str:
    """A network of *count* nodes."""
    lines = ["[network]", 'name = "bench"', 'pool = ["10.0.0.0/9", "fd10::/48"]']
    if shape == "mesh":
        for index in range(count):
            lines += ["", f"[node.n{index}]", f'endpoint = "198.18.{index // 250}.{index % 250 + 1}"']
        return "\n".join(lines) + "\n"
    names = ", ".join(f'"h{index}"' for index in range(HUBS))
    lines += ['shape = "hub"', f"hub = [{names}]"]
    for index in range(HUBS):
        near = ", ".join(f'"r{(index + step) % HUBS}"' for step in (1, HUBS - 1))
        lines += ["", f"[region.r{index}]", f"near = [{near}]"]
        lines += ["", f"[node.h{index}]", f'endpoint = "198.18.0.{index + 1}"', f'region = "r{index}"']
        lines += [f'lans = ["10.200.{index}.0/24"]']
    for index in range(count - HUBS):
        lines += ["", f"[node.n{index}]", f'region = "r{index % HUBS}"']
    return "\n".join(lines) + "\n"


class Clock:
    """Processor time of each step, in seconds."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}

    def of(self, step: str, work: Callable[[], _T]) -> _T:
        """Do *work*, and note what it cost."""
        began = time.process_time()
        result = work()
        self.steps[step] = time.process_time() - began
        return result


def work(file: Path) -> dict[str, float]:
    """
    The whole way from text to plan twice: of the network as the file has it, and of it with one node more.

    Returns:
        seconds by step, and resident memory at its highest.
    """
    from ginnel.network import Compilation, HostPort, Lock, allocate
    from ginnel.network.check import check
    from ginnel.network.file import read_network
    from ginnel.network.lint import Linted
    from ginnel.network.plan import plan_compilations
    from ginnel.units import PublicKey

    text, clock = file.read_text(), Clock()
    parsed = clock.of("parse", lambda: read_network([(str(file), text)], str(file)))
    network = parsed.network
    keys = {node.name: PublicKey(f"{node.name:>32}".encode()) for node in network.nodes}
    lock = clock.of("allocate", lambda: allocate(network, Lock()).with_keys(keys))
    made = Compilation(network, lock)
    hosts = clock.of("compile", lambda: [node.host() for node in made.nodes()])
    linted = clock.of("lint", lambda: Linted.of(hosts))
    planned = clock.of("plan", lambda: plan_compilations(made, Compilation(network, lock)))
    links = sum(len(node.peers) for node in made.nodes()) // 2
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if linted.findings or planned.hosts:
        raise SystemExit(f"a network in order has {len(linted.findings)} findings and {len(planned.hosts)} hosts in its plan")
    last = network.nodes[-1]
    endpoint = HostPort("198.19.255.1") if last.endpoint is not None else None
    grown = replace(network, nodes=(*network.nodes, replace(last, name="new", endpoint=endpoint)))
    gc.collect()  # what was left by all that is not this one's to clear away
    more = Clock()
    mistakes = more.of("sense", lambda: check(grown, parsed.sources))
    grown_lock = more.of("allocate", lambda: allocate(grown, lock).with_keys({"new": PublicKey(b"n" * 32)}))
    after = more.of("take over", lambda: made.updated(grown, grown_lock))
    hosts = more.of("compile", lambda: [node.host() for node in after.nodes()])
    relinted = more.of("lint", lambda: linted.updated(hosts))
    planned = more.of("plan", lambda: plan_compilations(made, after))
    if not any(host.name == "new" for host in planned.hosts) or mistakes or relinted.findings:
        raise SystemExit("the new node is not in the plan, or not in order")
    total_s = sum(more.steps.values())
    afresh = Clock()
    afresh.of("lint", lambda: Linted.of(hosts))
    same = sum(after.node(node.name) is made.node(node.name) for node in network.nodes)
    return {
        "links": links,
        **{f"{step}_s": seconds for step, seconds in clock.steps.items()},
        "total_s": sum(clock.steps.values()),
        "peak_mb": peak_mb,
        **{f"more_{step}_s".replace(" ", "_"): seconds for step, seconds in more.steps.items()},
        "more_total_s": total_s,
        "more_lint_afresh_s": afresh.steps["lint"],
        "more_same": same,
    }


def main(arguments: list[str]) -> None:
    """The command."""
    match arguments:
        case ["file", ("mesh" | "hub") as shape, count]:
            sys.stdout.write(file_of(shape, int(count)))
        case ["work", file]:
            print(json.dumps(work(Path(file))))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
