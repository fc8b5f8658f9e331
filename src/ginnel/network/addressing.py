"""
What is allocated once and then kept (see `lock`): addresses, ports, the subnets and keys of GRE links.

- What is pinned stays, as long as it lies in a pool and nothing in the file demands it by `address = [...]` or `subnet = [...]`.
- What is new gets the lowest that is free, in the order of the file: a node an address of each pool, a GRE link a subnet of each
  and a key. Adding one renumbers nothing.
- A node whose links are all GRE has no address but theirs; it is called by that on one of them, the first when it was new.
- A node that is gone from the network file is gone from the lock; its addresses are free again. Of a preshared key the name and
  the generation stay as long as both nodes do.
- Entries keep their order; new ones come last.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from ginnel.errors import ConfigError, Mistake
from ginnel.network import gre
from ginnel.network.links import State
from ginnel.network.lock import Lock, Pinned, PinnedLink, PinnedPair, parse_lock, render_lock
from ginnel.network.model import POINT_TO_POINT, Network, Node
from ginnel.network.paths import Paths
from ginnel.units import Prefix

__all__ = [
    "Lock",
    "Pinned",
    "PinnedLink",
    "PinnedPair",
    "addresses_of",
    "allocate",
    "capacity",
    "numbered",
    "parse_lock",
    "render_lock",
    "usable",
    "within",
]


_K = TypeVar("_K")
_V = TypeVar("_V")


def allocate(network: Network, lock: Lock) -> Lock:
    """
    Give every node its addresses and port, and every GRE link its subnets and key, keeping what *lock* has pinned.

    Args:
        network: a checked network (fixed addresses and subnets are distinct and lie in pools).
        lock: the pins so far; empty for a new network.

    Returns:
        the pins of exactly the nodes and GRE links of *network*: in the order of *lock*, then what is new, in that of the file.

    Raises:
        ConfigError: a pool has no room left.
    """
    return _Allocation(network, lock).result()


class _Allocation:
    """One pass: what the file demands first, then what is pinned, then what is new."""

    def __init__(self, network: Network, lock: Lock) -> None:
        self.network = network
        self.lock = lock
        paths = Paths(network)
        self.links = paths.all_links.point_to_point()
        with_devices = {name for link in self.links for name in link.between}
        # A node is not called by its address on a link held ready, on which it would be reached past its first hub.
        self.at = {
            name: sorted(paths.point_to_point_at(name), key=lambda link: paths.state(*link.between) is State.HELD)
            for name in with_devices
        }
        # Without such links all have an address of their own, unless such links are all that there will be.
        own = bool(with_devices) or network.kind in POINT_TO_POINT
        self.numbered = [node for node in network.nodes if numbered(node, paths)] if own else list(network.nodes)
        self.taken = {packed for node in network.nodes for packed in node.address}

    def result(self) -> Lock:
        subnets = self._pinned_subnets()
        addresses = self._addresses()
        self._new_subnets(subnets)
        keys = self._keys()
        links: dict[frozenset[str], PinnedLink] = {}
        for link in self.links:
            ends = frozenset(link.between)
            before = self.lock.links.get(ends)
            # Whose address is the lower one stays too, however the file now names the two, unless it demands the subnet.
            between = before.between if before and not link.subnet else link.between
            links[ends] = PinnedLink(between, tuple(subnets[ends][pool] for pool in self.network.pool), keys[ends])
        nodes: dict[str, Pinned] = {}
        for node in self.network.nodes:
            pin = self.lock.nodes.get(node.name)
            address = addresses.get(node.name)
            if not address:
                address = _called_by([links[frozenset(link.between)].end(node.name) for link in self.at.get(node.name, ())], pin)
            port = _listen_port(self.network, node, pin) if node.name in addresses else 0
            if pin is None or (pin.address, pin.listen_port) != (address, port):
                pin = replace(pin or Pinned((), known_as=self._name_for(node)), address=address, listen_port=port)
            nodes[node.name] = pin
        pairs = {ends: pin for ends, pin in self.lock.pairs.items() if ends <= nodes.keys()}
        return Lock(_in_order(nodes, self.lock.nodes), _in_order(links, self.lock.links), pairs)

    def _name_for(self, node: Node) -> str:
        """What the peers of a new node know it by: its name, unless a node that was renamed is known by that."""
        taken = {pin.known_as for name, pin in self.lock.nodes.items() if self.network.has(name)}
        if node.name not in taken:
            return ""
        names = (f"{node.name[:28]}-{number}" for number in itertools.count(2))
        return next(name for name in names if name not in taken and not self.network.has(name))

    def _addresses(self) -> dict[str, tuple[bytes, ...]]:
        """Of the nodes that have an address of their own."""
        pools = self.network.pool
        exact = {node.name: tuple(dict.fromkeys(node.address)) for node in self.numbered if node.lengths}
        numbered = [node for node in self.numbered if node.name not in exact]
        found: list[dict[str, bytes]] = []
        for pool in pools:
            chosen = {node.name: packed for node in numbered for packed in node.address if within(packed, pool)}
            first, last = _range(pool)
            for node in numbered:
                pinned = self.lock.nodes.get(node.name)
                if pinned is None or node.name in chosen:
                    continue
                for packed in pinned.address:
                    if len(packed) == len(first) and first <= packed <= last and packed not in self.taken:
                        chosen[node.name] = packed
                        self.taken.add(packed)
                        break
            found.append(chosen)
        for pool, chosen in zip(pools, found, strict=True):
            following, (_, last) = _range(pool)[0], _range(pool)
            full = False
            for node in numbered:
                if node.name in chosen:
                    continue
                while following in self.taken and following != last:
                    following = _after(following)
                full = full or following in self.taken
                if full:
                    raise _full(pool, node.name)
                chosen[node.name] = following
                self.taken.add(following)
        return exact | {node.name: tuple(chosen[node.name] for chosen in found) for node in numbered}

    def _pinned_subnets(self) -> dict[frozenset[str], dict[Prefix, Prefix]]:
        """What the file demands, and what is pinned and still free, by pool."""
        found: dict[frozenset[str], dict[Prefix, Prefix]] = {frozenset(link.between): {} for link in self.links}
        for link in self.links:
            for subnet in link.subnet:
                self._take(subnet, found[frozenset(link.between)])
        for link in self.links:
            before = self.lock.links.get(frozenset(link.between))
            for subnet in before.subnet if before else ():
                if not self.taken.intersection(gre.ends_of(subnet)):
                    self._take(subnet, found[frozenset(link.between)])
        return found

    def _take(self, subnet: Prefix, into: dict[Prefix, Prefix]) -> None:
        for pool in self.network.pool:
            if pool not in into and pool.length <= subnet.length and within(subnet.packed, pool):
                into[pool] = subnet
                self.taken.update(addresses_of(subnet))

    def _new_subnets(self, subnets: dict[frozenset[str], dict[Prefix, Prefix]]) -> None:
        for pool in self.network.pool:
            length = gre.subnet_length(pool)
            free = _subnets(pool, length) if length is not None else iter(())
            for link in self.links:
                by_pool = subnets[frozenset(link.between)]
                if pool in by_pool:
                    continue
                subnet = next((one for one in free if not self.taken.intersection(addresses_of(one))), None)
                if subnet is None:
                    raise _full(pool, f"the link {' — '.join(link.between)}")
                self._take(subnet, by_pool)

    def _keys(self) -> dict[frozenset[str], int | None]:
        found = {frozenset(link.between): gre.gre_of(link).key for link in self.links}
        used = {key for key in found.values() if key is not None}
        wanting = [link for link in self.links if gre.needs_key(self.network, link) and gre.gre_of(link).key is None]
        for link in wanting:
            before = self.lock.links.get(frozenset(link.between))
            if before is not None and before.key is not None and before.key not in used:
                found[frozenset(link.between)] = before.key
                used.add(before.key)
        following = 1
        for link in wanting:
            if found[frozenset(link.between)] is None:
                while following in used:
                    following += 1
                found[frozenset(link.between)] = following
                used.add(following)
        return found


def numbered(node: Node, paths: Paths) -> bool:
    """Whether a node has an address of its own: it has, unless all its links are point to point, which bring theirs."""
    if paths.only_wireguard:
        return True
    kinds = paths.kinds_at(node.name) or {paths.network.kind}
    return not kinds.issubset(POINT_TO_POINT)


def _called_by(by_link: list[tuple[bytes, ...]], before: Pinned | None) -> tuple[bytes, ...]:
    """Which of its link's addresses a node is called by: the one it was, else that on its first link."""
    if before is not None and before.address in by_link:
        return before.address
    return by_link[0] if by_link else ()


def _full(pool: Prefix, who: str) -> ConfigError:
    return ConfigError(
        "network", [Mistake(f"the pool {pool} has no address left for {who}", hint="use a larger pool", code="G0410")]
    )


def addresses_of(subnet: Prefix) -> tuple[bytes, ...]:
    """Every address of a link's subnet: two, or the four of a /30."""
    size = len(subnet.packed)
    base = int.from_bytes(subnet.packed, "big")
    return tuple((base + step).to_bytes(size, "big") for step in range(min(4, 1 << (size * 8 - subnet.length))))


def _subnets(pool: Prefix, length: int) -> Iterator[Prefix]:
    """The subnets of *pool*, lowest first, but not one with an address that no node may have."""
    size = len(pool.packed)
    step = 1 << (size * 8 - length)
    base = int.from_bytes(pool.packed, "big")
    for number in range(1 << (length - pool.length)):
        subnet = Prefix((base + number * step).to_bytes(size, "big"), length)
        if all(usable(packed, pool) for packed in gre.ends_of(subnet)):
            yield subnet


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


def _range(pool: Prefix) -> tuple[bytes, bytes]:
    """The first and the last address that `usable` has in a pool; packed addresses of one family compare as numbers."""
    size = len(pool.packed)
    base, count = int.from_bytes(pool.packed, "big"), 1 << (size * 8 - pool.length)
    first, last = (0, count - 1) if count <= 2 else (1, count - 2 if size == 4 else count - 1)
    return (base + first).to_bytes(size, "big"), (base + last).to_bytes(size, "big")


def _in_order(found: dict[_K, _V], before: Mapping[_K, _V]) -> dict[_K, _V]:
    """As before, and what is new behind it."""
    return {key: found[key] for key in (*(key for key in before if key in found), *(key for key in found if key not in before))}


def _after(packed: bytes) -> bytes:
    return ((int.from_bytes(packed, "big") + 1) % (1 << len(packed) * 8)).to_bytes(len(packed), "big")
