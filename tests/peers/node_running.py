"""A running process of a node file for tests of the process itself: start it, ask it, see that it is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ginnel.config.node import NodeConfig, PlainConfig, to_json
from namespaces import Namespace
from peers.running import ENVIRONMENT, Running, ask

NODE = [sys.executable, "-m", "ginnel.runtime.node"]


@dataclass(slots=True)
class NodeProcess:
    """The process of one node in the foreground, in a namespace; its log is in a file."""

    space: Namespace
    config: NodeConfig
    log: Path
    process: subprocess.Popen[Any]

    @classmethod
    def start(
        cls, space: Namespace, name: str, directory: Path, tunnels: Sequence[PlainConfig], *, write_keys: str = ""
    ) -> NodeProcess:
        """Start it and wait for its word; AssertionError with that word unless it is "ready"."""
        config = NodeConfig(name, f"/etc/ginnel/{name}.toml", plain=tuple(tunnels))
        log = directory / f"{name}.log"
        reading, writing = os.pipe()
        with log.open("ab") as output:
            process = space.popen(
                *NODE, "--name", name, "--config", config.path, "--foreground", "--ready-fd", str(writing),
                *(["--write-keys", write_keys] if write_keys else []),
                stdin=subprocess.PIPE, stdout=output, stderr=output, pass_fds=[writing],
                env={**ENVIRONMENT, "LOG_LEVEL": "debug"},
            )  # fmt: skip
        os.close(writing)
        assert process.stdin is not None
        feeding = threading.Thread(target=_feed, args=(process.stdin, to_json(config).encode()))
        feeding.start()
        with os.fdopen(reading, "rb") as report:
            word = report.read().decode()
        feeding.join()
        assert word == "ready\n", word
        return cls(space, config, log, process)

    def up(self, *addresses: tuple[str, str]) -> None:
        """Give devices their addresses and set them up: ("gre1", "10.9.0.1/30")."""
        for device, address in addresses:
            self.space.ip("address", "add", address, "dev", device)
            self.space.ip("link", "set", device, "up")
            if ":" in address:
                self.space.settled(device)

    def ask(self, **request: Any) -> dict[str, Any]:
        """One question to its control socket."""
        return ask(self.config.name, request)

    def show(self, tunnel: str = "gre1") -> dict[str, Any]:
        """One tunnel's view."""
        found = self.ask(op="show", tunnel=tunnel)["tunnel"]
        assert isinstance(found, dict)
        return found

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")

    def running(self) -> Running:
        """For what can be asked of any process of ours: memory, wakeups."""
        return Running(self.space, self.config.name, self.log, self.process)

    def stop(self) -> int:
        """End it by SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=10)


def _feed(stdin: Any, text: bytes) -> None:
    with stdin:
        stdin.write(text)


def refusal(space: Namespace, name: str, text: str) -> tuple[int, str]:
    """Start a node that cannot run; its exit code and what it told its starter."""
    done = subprocess.run(
        [*space.prefix(), *NODE, "--name", name, "--foreground"],
        input=text, capture_output=True, text=True, timeout=20, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr
