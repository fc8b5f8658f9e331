"""
The other nodes of this host, and whether a tunnel of theirs is one of ours.

Within a node file two tunnels that cannot be told apart are refused; two files are two processes, each with raw sockets of its
own, and a raw socket gets every packet of its protocol. Both would take the packets of such a tunnel, and deliver them twice. In
UDP this cannot be: the port belongs to one of them; and under IPsec a packet's tunnel is found by its SA.

Tunnels with the same ends and different keys work in two files, but each process also sees the packets of the other's, and says
of them that their key differs while its own tunnel is idle: they belong into one file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ginnel.config.node import NodeConfig, PlainConfig
from ginnel.errors import GinnelError
from ginnel.linux.backend import control
from ginnel.linux.record import Store, network_namespace


@dataclass(frozen=True, slots=True)
class Twin:
    """A tunnel of ours, one of another node between the same ends, and whether their keys are the same, too."""

    ours: str
    theirs: str
    node: str
    same_key: bool


def twins(config: NodeConfig, store: Store) -> Iterator[Twin]:
    """
    Tunnels of other nodes that run here, of a kind with ours and between the same ends.

    A tunnel that is bound to a device is not looked at: another process does not tell its device.
    """
    mine = [tunnel for tunnel in config.plain if tunnel.encapsulation is None and tunnel.ipsec is None and not tunnel.dev]
    if not mine:
        return
    here = network_namespace()
    for name in store.names():
        with contextlib.suppress(GinnelError):  # one that cannot be read or asked is its own `up`'s business
            record = store.load(name)
            if name == config.name or record is None or record.namespace != here or not record.config.endswith(".toml"):
                continue
            answer = control(name, {"op": "show"}, store.directory) if record.daemon.alive else None
            theirs = answer.get("tunnels", []) if answer is not None else []
            for tunnel in mine:
                for other in theirs:
                    if _is_twin(tunnel, other):
                        yield Twin(tunnel.name, other["name"], name, tunnel.ikey == other["ikey"])


def _is_twin(tunnel: PlainConfig, other: dict[str, Any]) -> bool:
    """Whether *other*, of ginnel.show/1, takes packets of *tunnel*'s, but for the key."""
    if (
        other["encapsulation"]
        or other.get("ipsec") is not None
        or (other["kind"], other["family"]) != (tunnel.kind, tunnel.family)
    ):
        return False
    same_local = "any" in (tunnel.local, other["local"] or "any") or tunnel.local == other["local"]
    remote = other["remote_host"] or other["remote"] or "any"
    return same_local and ("any" in (tunnel.remote, remote) or tunnel.remote in (remote, other["remote"]))
