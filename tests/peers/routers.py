"""
BIRD in a namespace: a router daemon with a configuration of one test, and what it says of its protocols and routes.

Its socket and process id lie in the test's directory; it changes only the routing tables of its namespace.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namespaces import Namespace, run, wait_until


@dataclass(slots=True)
class Bird:
    """One running daemon."""

    space: Namespace
    directory: Path
    process: subprocess.Popen[Any]

    @classmethod
    def start(cls, space: Namespace, directory: Path, router_id: str, protocols: str) -> Bird:
        """Run it with these protocols, and the kernel's tables as where learned routes go; wait until it answers."""
        directory.mkdir()
        (directory / "bird.conf").write_text(
            f"router id {router_id};\nlog stderr all;\nprotocol device {{ scan time 1; }}\n"
            "protocol kernel { ipv4 { export where source != RTS_DEVICE; }; }\n"
            "protocol kernel { ipv6 { export where source != RTS_DEVICE; }; }\n" + protocols
        )
        with (directory / "log").open("wb") as log:
            process = space.popen(
                *("bird", "-f", "-c", str(directory / "bird.conf"), "-s", str(directory / "ctl"), "-P", str(directory / "pid")),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        bird = cls(space, directory, process)
        wait_until(lambda: bird.ask("show", "status", check=False), 10, "bird to answer")
        return bird

    def ask(self, *words: str, check: bool = True) -> str:
        """What birdc says."""
        return run(["birdc", "-r", "-s", str(self.directory / "ctl"), *words], check=check)

    def log(self) -> str:
        """What it logged."""
        return (self.directory / "log").read_text(errors="replace")

    def full(self, protocol: str) -> bool:
        """Whether OSPF *protocol* has a neighbour, in state Full."""
        return "Full/" in self.ask("show", "ospf", "neighbors", protocol)

    def established(self, protocol: str) -> bool:
        """Whether BGP *protocol* is."""
        return "Established" in self.ask("show", "protocols", protocol)
