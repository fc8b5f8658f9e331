"""
What can be told of a node whose tunnels the kernel carries: no process of ours is there to ask.

The node file says what they are, the record of `up` that they are ours, and the kernel's links that they are there, up, and what
they counted. Whether anybody is at the other end the kernel does not know.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ginnel.config.node import NodeConfig, PlainConfig
from ginnel.errors import ConfigError, GinnelError
from ginnel.linux.links import Link, links
from ginnel.linux.record import Record, Store, network_namespace

#: struct rtnl_link_stats64 (linux/if_link.h), the beginning of it.
_STATS = struct.Struct("=15Q")
_COUNTED = (
    "rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped", "multicast",
    "collisions", "rx_length_errors", "rx_over_errors", "rx_crc_errors", "rx_frame_errors", "rx_fifo_errors",
)  # fmt: skip
_NO_DROPS = frozenset({"rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "multicast"})
_UNKNOWN = {"answer": "unknown", "why": "the kernel carries it, and does not tell"}


def names() -> list[str]:
    """The nodes of this network namespace that the kernel carries."""
    return [name for name in Store().names() if _record(name) is not None]


def node(name: str) -> dict[str, Any] | None:
    """As the process of a node answers `show`; None when no node of that name is carried by the kernel here."""
    record = _record(name)
    if record is None:
        return None
    return views(_config(record), record, {link.name: link for link in links()})


def _record(name: str) -> Record | None:
    try:
        record = Store().load(name)
    except GinnelError:
        return None
    if record is None or record.backend != "kernel" or not record.config.endswith(".toml"):
        return None
    return record if record.namespace == network_namespace() else None


def _config(record: Record) -> NodeConfig:
    from ginnel.config import nodefile

    try:
        return nodefile.parse(Path(record.config).read_text("utf-8"), record.config, record.name)
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise GinnelError(f"{record.name}: its node file cannot be read any more: {error}") from None


def views(config: NodeConfig, record: Record, here: Mapping[str, Link]) -> dict[str, Any]:
    """The node and its tunnels, from its file, its record and the links that are *here*."""
    return {
        "node": {
            "name": record.name,
            "config": record.config,
            "pid": 0,
            "version": "",
            "started_unix": record.started_unix,
            "carrier": {"no_tunnel": 0, "at_socket": 0, "sockets": {}},
            "warnings": [],
            "ike": None,
        },
        "tunnels": [_view(tunnel, record, here.get(tunnel.name)) for tunnel in config.plain],
    }


def _view(tunnel: PlainConfig, record: Record, link: Link | None) -> dict[str, Any]:
    counted = dict(zip(_COUNTED, _STATS.unpack_from(link.stats), strict=True)) if link and len(link.stats) >= _STATS.size else {}
    udp = tunnel.encapsulation
    if link is None:
        configured = {"answer": "no", "why": "the interface is gone"}
    elif not link.is_up:
        configured = {"answer": "no", "why": "the device is down"}
    else:
        configured = {"answer": "yes", "why": "the device is up"}
    return {
        "name": tunnel.name,
        "kind": tunnel.kind,
        "backend": "kernel",
        "version": "",
        "pid": 0,
        "started_unix": record.started_unix,
        "config": record.config,
        "node": record.name,
        "state": "up" if link is not None and link.is_up else "down",
        "public_key": None,
        "listen_port": udp.listen if udp else 0,
        "fwmark": tunnel.fwmark,
        "mtu": link.mtu if link is not None else 0,
        "namespace": "birth",
        "configured": configured,
        "alive": _UNKNOWN,
        "carrying": _UNKNOWN,
        "family": tunnel.family,
        "local": None if tunnel.local == "any" else tunnel.local,
        "remote": None if tunnel.remote == "any" else tunnel.remote,
        "remote_host": "",
        "encapsulation": "udp" if udp else "",
        "remote_port": udp.dport if udp else 0,
        "ikey": tunnel.ikey,
        "okey": tunnel.okey,
        "icsum": tunnel.icsum,
        "ocsum": tunnel.ocsum,
        "iseq": tunnel.iseq,
        "oseq": tunnel.oseq,
        "ttl": tunnel.ttl,
        "tos": tunnel.tos,
        "pmtudisc": tunnel.pmtudisc,
        "encaplimit": tunnel.encaplimit,
        "path_mtu": None,
        "held": "",
        "keepalive": None,
        "last_receive_age_s": None,
        "last_send_age_s": None,
        "rx_bytes": counted.get("rx_bytes", 0),
        "tx_bytes": counted.get("tx_bytes", 0),
        "rx_packets": counted.get("rx_packets", 0),
        "tx_packets": counted.get("tx_packets", 0),
        "sequence_out": None,
        "sequence_in": None,
        "drops": {reason: count for reason, count in counted.items() if reason not in _NO_DROPS},
        "offloads": {},
        "warnings": [],
        "peers": [],
        "ipsec": None,
    }
