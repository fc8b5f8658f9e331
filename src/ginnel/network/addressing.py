"""
What is allocated once and then kept: addresses, ports and public keys, pinned in a lock file beside the network file.

`network.lock.toml` holds, for each node, its tunnel addresses, its listen port and (once it is known) its public key. Both
files live in git. Rules:

- what is pinned stays, as long as it lies in a pool and no other node demands it by `address = [...]`;
- a new node gets the lowest free address of each pool: adding a node renumbers nothing;
- a node that is gone from the network file is gone from the lock file; its addresses are free again;
- the lock file holds no secret: public keys only.
"""

from __future__ import annotations

import binascii
import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ginnel.config.positions import Path, Positions
from ginnel.errors import ConfigError, Mistake
from ginnel.network.model import Network, Node
from ginnel.units import Prefix, PublicKey

LOCK_VERSION = 1

_HEADER = """\
# Addresses, ports and public keys that are in use: written by ginnel, kept in git beside the network file.
# Removing a line lets it be allocated anew; nothing here is secret.
"""


@dataclass(frozen=True, slots=True)
class Pinned:
    """What one node keeps."""

    address: tuple[bytes, ...]
    #: 0: it has none (it is behind NAT, and any port will do).
    listen_port: int = 0
    public_key: PublicKey | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    """The lock file's content, by node name."""

    nodes: Mapping[str, Pinned] = field(default_factory=dict)

    def with_keys(self, keys: Mapping[str, PublicKey]) -> Lock:
        """The same with these public keys pinned."""
        return Lock({name: replace(pin, public_key=keys.get(name, pin.public_key)) for name, pin in self.nodes.items()})


def allocate(network: Network, lock: Lock) -> Lock:
    """
    Give every node its addresses and port, keeping what *lock* has pinned.

    Args:
        network: a checked network (fixed addresses are distinct and lie in pools, pools are large enough).
        lock: the pins so far; empty for a new network.

    Returns:
        the pins of exactly the nodes of *network*, in their order.

    Raises:
        ConfigError: a pool has no address left.
    """
    taken = {packed for node in network.nodes for packed in node.address}
    chosen: dict[str, dict[Prefix, bytes]] = {}
    for node in network.nodes:
        chosen[node.name] = {pool: packed for packed in node.address for pool in network.pool if within(packed, pool)}
    for node in network.nodes:
        pinned = lock.nodes.get(node.name)
        for packed in pinned.address if pinned else ():
            for pool in network.pool:
                if pool not in chosen[node.name] and usable(packed, pool) and packed not in taken:
                    chosen[node.name][pool] = packed
                    taken.add(packed)
    for pool in network.pool:
        following = _first(pool)
        for node in network.nodes:
            if pool in chosen[node.name]:
                continue
            while following in taken:
                following = _after(following)
            if not usable(following, pool):
                raise ConfigError(
                    "network", [Mistake(f"the pool {pool} has no address left for {node.name}", hint="use a larger pool")]
                )
            chosen[node.name][pool] = following
            taken.add(following)
    nodes = {}
    for node in network.nodes:
        before = lock.nodes.get(node.name)
        nodes[node.name] = Pinned(
            address=tuple(chosen[node.name][pool] for pool in network.pool),
            listen_port=_listen_port(network, node, before),
            public_key=before.public_key if before else None,
        )
    return Lock(nodes)


def capacity(pool: Prefix) -> int:
    """How many nodes a pool can number."""
    bits = len(pool.packed) * 8 - pool.length
    if bits <= 1:
        return 1 << bits
    return (1 << bits) - (2 if pool.version == 4 else 1)


def _listen_port(network: Network, node: Node, before: Pinned | None) -> int:
    if node.listen_port is not None:
        return node.listen_port
    if node.behind_nat:
        return 0
    return before.listen_port if before and before.listen_port else network.listen_port


def within(packed: bytes, pool: Prefix) -> bool:
    """Whether the address *packed* lies in *pool*; never across families."""
    if len(packed) != len(pool.packed):
        return False
    host_bits = len(packed) * 8 - pool.length
    return int.from_bytes(packed, "big") >> host_bits == int.from_bytes(pool.packed, "big") >> host_bits


def usable(packed: bytes, pool: Prefix) -> bool:
    """In the pool, and neither its network nor (IPv4) its broadcast address."""
    if not within(packed, pool):
        return False
    host_bits = len(packed) * 8 - pool.length
    if host_bits <= 1:
        return True
    host = int.from_bytes(packed, "big") & ((1 << host_bits) - 1)
    return host != 0 and not (len(packed) == 4 and host == (1 << host_bits) - 1)


def _first(pool: Prefix) -> bytes:
    return pool.packed if len(pool.packed) * 8 - pool.length <= 1 else _after(pool.packed)


def _after(packed: bytes) -> bytes:
    return ((int.from_bytes(packed, "big") + 1) % (1 << len(packed) * 8)).to_bytes(len(packed), "big")


# ---------------------------------------------------------------- the file


def render_lock(lock: Lock) -> str:
    """The lock file's text: the same bytes for the same lock."""
    lines = [_HEADER, f"version = {LOCK_VERSION}"]
    for name, pin in lock.nodes.items():
        addresses = ", ".join(f'"{ipaddress.ip_address(packed)}"' for packed in pin.address)
        lines += ["", f"[node.{name}]", f"address = [{addresses}]"]
        if pin.listen_port:
            lines.append(f"listen_port = {pin.listen_port}")
        if pin.public_key is not None:
            lines.append(f'public_key = "{pin.public_key.base64()}"')
    return "\n".join(lines) + "\n"


def parse_lock(text: str, source: str) -> Lock:
    """
    Read a lock file.

    Raises:
        ConfigError: every mistake in it, with line and column.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, [Mistake(f"not TOML: {error}", hint="restore it from git")]) from None
    positions = Positions(text)
    mistakes: list[Mistake] = []

    def mistake(path: Path, message: str) -> None:
        span = positions.value(path)
        mistakes.append(Mistake(message, span, "restore it from git, or remove the entry", positions.line(span)))

    if document.get("version") != LOCK_VERSION:
        mistake(("version",), f"expected version = {LOCK_VERSION}, found {document.get('version')!r}")
        raise ConfigError(source, mistakes)
    nodes: dict[str, Pinned] = {}
    tables = document.get("node", {})
    for name, table in tables.items() if isinstance(tables, dict) else ():
        if not isinstance(table, dict):
            mistake(("node", name), f"node.{name}: expected a table")
            continue
        addresses = []
        for index, item in enumerate(table.get("address", [])):
            try:
                addresses.append(ipaddress.ip_address(item).packed)
            except ValueError:
                mistake(("node", name, "address", index), f"node.{name}: expected an IP address, found {item!r}")
        port = table.get("listen_port", 0)
        if not isinstance(port, int) or not 0 <= port <= 65535:
            mistake(("node", name, "listen_port"), f"node.{name}: expected a port, found {port!r}")
        key = None
        if "public_key" in table:
            try:
                key = PublicKey.from_base64(table["public_key"])
            except (ValueError, TypeError, binascii.Error):
                mistake(("node", name, "public_key"), f"node.{name}: expected a public key of 44 base64 characters")
        nodes[name] = Pinned(tuple(addresses), port, key)
    if mistakes:
        raise ConfigError(source, mistakes)
    return Lock(nodes)
