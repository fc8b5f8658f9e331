"""
A topology built: namespaces, wires, addresses, NAT, and the relays of wires with faults. A context manager; leaving it ends all.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from ginnel.errors import EngineError, UsageError
from ginnel.lab import offload
from ginnel.lab.namespaces import Held, Namespaces, raise_refused
from ginnel.lab.topology import INTERNET, RESOLVER_V4, Topology, Wire

#: How long a relay may take from start to its first word: an interpreter and the native module.
RELAY_START_S = 20.0


class World:
    """The built topology."""

    def __init__(self, topology: Topology, lab_id: str, *, keep: bool = False, seed: int = 1) -> None:
        self.topology = topology
        self.seed = seed
        self.namespaces = Namespaces(lab_id, keep=keep)
        self._relays: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __getitem__(self, name: str) -> Held:
        return self.namespaces[name]

    def close(self) -> None:
        """End everything in it; idempotent."""
        self.namespaces.close()
        for relay in self._relays.values():
            if not self.namespaces.left_running:
                relay.wait()
            if relay.stdout is not None:
                relay.stdout.close()
        self._relays.clear()

    def each(self, work: Callable[[str], None], names: list[str]) -> None:
        """Do *work* for every name at once; the first exception comes through."""
        with ThreadPoolExecutor(max_workers=max(1, min(8, len(names)))) as pool:
            list(pool.map(work, names))

    # -- building

    def _build(self) -> None:
        topology = self.topology
        self.namespaces.start({space.name: space.role for space in topology.spaces})
        self._make_wires()
        self.each(self._configure, [space.name for space in topology.spaces])
        for wire in topology.wires:
            if wire.faults.any:
                self._start_relay(wire)

    def _make_wires(self) -> None:
        commands = []
        for wire in self.topology.wires:
            (left, left_name), (right, right_name) = wire.left, wire.right
            commands.append(
                f"link add {left_name} mtu {wire.mtu} netns {self[left].pid} type veth "
                f"peer name {right_name} mtu {wire.mtu} netns {self[right].pid}"
            )
        done = self[INTERNET].run(["ip", "-batch", "-"], stdin="\n".join(commands) + "\n", network_only=True)
        if done.returncode != 0:
            raise_refused("the lab", done.stderr, commands)

    def _configure(self, name: str) -> None:
        space = self.topology.space(name)
        held = self[name]
        ends = [end for wire in self.topology.wires for end in (wire.left, wire.right) if end[0] == name]
        held.configure([f"link set {interface} up" for _, interface in ends])
        held.configure(space.commands)
        if space.nft:
            done = held.run(["nft", "-f", "-"], stdin=space.nft, network_only=True)
            if done.returncode != 0:
                raise UsageError(f"in {name}: nft: {done.stderr.strip()}")
        if space.role == "node":
            self._write_etc(held)
        relayed = {f"relay-{wire.name}" for wire in self.topology.wires if wire.faults.any}
        for wire in self.topology.wires:
            for (near, interface), (far, _) in ((wire.left, wire.right), (wire.right, wire.left)):
                if near == name and (far in relayed or near in relayed):
                    held.inside(lambda interface=interface: offload.turn_off(interface))  # type: ignore[misc]

    def _write_etc(self, held: Held) -> None:
        """A node's private resolver and hosts: the internet's resolver until its tunnel says otherwise."""
        etc = held.root / "etc"
        for name, text in (
            ("resolv.conf", f"nameserver {RESOLVER_V4}\n"),
            (
                "hosts",
                "".join(f"{address} {name}\n" for name, address in [("localhost", "127.0.0.1"), *self.topology.names.items()]),
            ),
        ):
            path = etc / name
            path.unlink(missing_ok=True)  # on the host it may be a link to somewhere shared
            path.write_text(text)

    def _start_relay(self, wire: Wire) -> None:
        faults = wire.faults
        settings = {
            "loss": faults.loss,
            "delay_ms": faults.delay_ms,
            "jitter_ms": faults.jitter_ms,
            "reorder": faults.reorder,
            "duplicate": faults.duplicate,
            "blocked_protocols": list(faults.blocked_protocols),
            "blocked_udp_ports": list(faults.blocked_udp_ports),
            "mtu": faults.mtu if faults.black_hole else wire.mtu,
        }
        if faults.blocked_too_big:
            settings["blocked_too_big"] = True
        relay = self[f"relay-{wire.name}"].start(
            [sys.executable, "-m", "ginnel.lab.relay", "left", "right", str(self.seed), json.dumps(settings)],
            stdout=subprocess.PIPE,
        )
        self._relays[wire.name] = relay
        assert relay.stdout is not None
        first = relay.stdout.readline().decode(errors="replace").strip()
        if first != "ready":
            rest = relay.stdout.read().decode(errors="replace")
            raise EngineError(f"the relay of {wire.name} did not start: {first} {rest}".strip())

    def run_directory(self, name: str) -> Path:
        """A directory of 0700 that only *name* sees, for its configuration."""
        return self[name].root / "run" / "lab"
