"""
What a node's process has once for all its protected tunnels: credentials, IKE's ports, the crash secret, the file of keys.

Made in two steps, so that a mistake in a file is told before anything exists: reading first (`__init__`), then `open`. The ports
of IKE are the process's: tunnels of one node file that want other ports, another mark or another device than their neighbours
are refused, since a process listens once; they can be another node.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

from ginnel.config.node import NodeConfig, PlainConfig
from ginnel.engine import Engine
from ginnel.engine.plain import IkeEvent, PlainTunnelLike, ProtectionEvent
from ginnel.errors import UsageError
from ginnel.runtime import credentials, ipsec_connection
from ginnel.runtime.ipsec import Host, Ipsec
from ginnel.runtime.ipsec_tunnel import Protection
from ginnel.runtime.keylog import KeyLog

WARNINGS_LIMIT = 16


class NodeIpsec:
    """See the module."""

    def __init__(self, host: Host, config: NodeConfig, crash_path: str, *, write_keys: str = "") -> None:
        """
        Read everything.

        Args:
            crash_path: where the crash secret lies, or will.
            write_keys: debug mode: the directory for keys; empty: none are written.

        Raises:
            UsageError: a file, an identity or a proposal cannot be.
        """
        self._host, self._crash_path, self._write_keys = host, crash_path, write_keys
        self._tunnels = [tunnel for tunnel in config.plain if tunnel.ipsec is not None]
        self._ports = ipsec_connection.shared_ports(self._tunnels)
        self.credentials = ipsec_connection.read_all(config)
        self._loop: Ipsec | None = None
        self._keys: KeyLog | None = None

    def open(self, engine: Engine) -> None:
        """
        IKE's ports, the crash secret, the files for keys.

        Raises:
            UsageError: a port is taken, raw sockets are not allowed, a file cannot be made.
        """
        port, natt_port, fwmark, dev = self._ports
        device = 0
        if dev:
            try:
                device = socket.if_nametoindex(dev)
            except OSError:
                raise UsageError(f"there is no interface {dev}\n  hint: `ip link` lists them") from None
        families = tuple(sorted({tunnel.family for tunnel in self._tunnels}))
        if self._write_keys:
            self._keys = KeyLog(self._write_keys)
            self._host.journal("keys_written", directory=self._write_keys)
        try:
            ports = engine.ike(port=port, natt_port=natt_port, fwmark=fwmark, device=device, families=families)
        except OSError as error:
            raise UsageError(_no_ports(error)) from None
        # Last, so that nothing of it is left where the rest cannot be had.
        secret = credentials.crash_secret(self._crash_path)
        self._loop = Ipsec(self._host, ports, crash_secret=secret, keys=self._keys)

    def protect(self, config: PlainConfig, tunnel: PlainTunnelLike) -> Protection:
        """The protection of a tunnel that was just made."""
        assert config.ipsec is not None
        for weakness in ipsec_connection.weaknesses(config):
            self._host.journal("weak_algorithm", interface=config.name, why=weakness)
        return Protection(self.loop, config, tunnel, *self.credentials.of(config.ipsec))

    @property
    def loop(self) -> Ipsec:
        """Between the machine and the engine; once open."""
        assert self._loop is not None
        return self._loop

    def handle(self, event: IkeEvent | ProtectionEvent) -> None:
        """An event of the engine."""
        self.loop.handle(event)

    def warnings(self) -> Iterator[str]:
        """What is said of the whole node."""
        if self._keys is not None:
            where = self._write_keys
            yield f"the keys of all IPsec SAs are written to {where} (--write-keys): whoever reads them reads the tunnels"

    def counters(self) -> dict[str, Any]:
        """Of IKE's sockets and machine, for `show`."""
        loop = self.loop
        return {
            "port": loop.ports.port,
            "natt_port": loop.ports.natt_port,
            "half_open": loop.ike.half_open,
            **loop.ports.counters(),
            "drops": dict(loop.ike.drops),
        }

    def close(self) -> None:
        """All tunnels were closed, and their peers told: nothing needs to be remembered."""
        if self._loop is not None:
            self._loop.close()
            self._loop.ports.close()
        if self._keys is not None:
            self._keys.close()
        credentials.forget_crash_secret(self._crash_path)


def _no_ports(error: OSError) -> str:
    what = str(error.filename or "IKE's ports")
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"{what} is taken: another IKE daemon runs here, or another node with protected tunnels\n"
                "  hint: `ss -lunp` names it: stop it, put all protected tunnels into one node file, or set ike_port and "
                "natt_port"
            )
        case errno.EPERM | errno.EACCES:
            return f"{what}: raw sockets are not allowed\n  hint: it takes root or CAP_NET_RAW"
        case _:
            return f"{what}: {os.strerror(error.errno or 0)}"
