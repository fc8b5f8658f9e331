"""
What is allocated once and then kept: addresses, ports, public keys and GRE keys, pinned in a lock file beside the network file.

`network.lock.toml` holds, for each node, its tunnel addresses, its listen port and (once it is known) its public key; for each
GRE link, its subnets and its key where it needs one. Both files live in git. Rules:

- what is pinned stays, as long as it lies in a pool and nothing in the file demands it by `address = [...]` or `subnet = [...]`;
- a new node gets the lowest free address of each pool, a new GRE link the lowest free subnet, and the lowest free key: adding
  one renumbers nothing;
- a node whose links are all GRE has no address but theirs; it is called by that on one of them, the first when it was new;
- a node that is gone from the network file is gone from the lock file; its addresses are free again;
- of a preshared key it has the name and the generation, once they differ from the usual ones; of a key in rotation, its
neighbours;
- the lock file holds no secret: public keys only.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ginnel.config import toml
from ginnel.config.positions import Path, Positions
from ginnel.errors import ConfigError, Mistake
from ginnel.network import gre
from ginnel.network.model import POINT_TO_POINT, Network, Node
from ginnel.network.paths import Paths
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
    #: While the key is being rotated: the one to come, which its peers are to know before it is used.
    next_key: PublicKey | None = None
    #: The day since which `public_key` is in use, as 2026-11-21; empty: not known.
    key_since: str = ""


@dataclass(frozen=True, slots=True)
class PinnedLink:
    """What one GRE link keeps."""

    #: Whose address is the lower one, and the other.
    between: tuple[str, str]
    #: One of each pool.
    subnet: tuple[Prefix, ...]
    #: As the file says, or allocated; None: it needs none.
    key: int | None = None

    def end(self, name: str) -> tuple[bytes, ...]:
        """The addresses of *name*, one of each subnet."""
        which = self.between.index(name)
        return tuple(gre.ends_of(subnet)[which] for subnet in self.subnet)


@dataclass(frozen=True, slots=True)
class PinnedPair:
    """
    What the preshared key of a WireGuard link keeps; a pair that is not pinned is called after its nodes, and of generation 1.

    identity: what the key is called, and derived from, whatever the nodes are called by now. generation: rises with each
    rotation.
    """

    identity: str
    generation: int = 1
    #: The day since which it is in use; empty: not known.
    since: str = ""


@dataclass(frozen=True, slots=True)
class Lock:
    """The lock file's content: nodes by name, GRE links and preshared keys by the names of their ends."""

    nodes: Mapping[str, Pinned] = field(default_factory=dict)
    links: Mapping[frozenset[str], PinnedLink] = field(default_factory=dict)
    pairs: Mapping[frozenset[str], PinnedPair] = field(default_factory=dict)

    def link(self, left: str, right: str) -> PinnedLink:
        """The GRE link between two nodes; KeyError when there is none."""
        return self.links[frozenset((left, right))]

    def pair(self, left: str, right: str) -> PinnedPair:
        """What is pinned of the preshared key between two nodes, or what holds where nothing is."""
        return self.pairs.get(frozenset((left, right))) or PinnedPair("+".join(sorted((left, right))))

    def with_keys(self, keys: Mapping[str, PublicKey]) -> Lock:
        """The same with these public keys pinned."""
        nodes = {name: replace(pin, public_key=keys.get(name, pin.public_key)) for name, pin in self.nodes.items()}
        return replace(self, nodes=nodes)


def allocate(network: Network, lock: Lock) -> Lock:
    """
    Give every node its addresses and port, and every GRE link its subnets and key, keeping what *lock* has pinned.

    Args:
        network: a checked network (fixed addresses and subnets are distinct and lie in pools).
        lock: the pins so far; empty for a new network.

    Returns:
        the pins of exactly the nodes and GRE links of *network*, in their order.

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
        self.links = [link for link in paths.links if link.point_to_point]
        self.at = {node.name: paths.point_to_point_at(node.name) for node in network.nodes}
        self.numbered = [node for node in network.nodes if numbered(node, paths)]
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
        nodes = {}
        for node in self.network.nodes:
            before_node = self.lock.nodes.get(node.name)
            by_link = [links[frozenset(link.between)].end(node.name) for link in self.at[node.name]]
            nodes[node.name] = replace(
                before_node or Pinned(()),
                address=addresses.get(node.name) or _called_by(by_link, before_node),
                listen_port=_listen_port(self.network, node, before_node) if node.name in addresses else 0,
            )
        pairs = {ends: pin for ends, pin in self.lock.pairs.items() if ends <= nodes.keys()}
        return Lock(nodes, links, pairs)

    def _addresses(self) -> dict[str, tuple[bytes, ...]]:
        """Of the nodes that have an address of their own."""
        pools = self.network.pool
        chosen: dict[str, dict[Prefix, bytes]] = {}
        exact = {node.name: node.address for node in self.numbered if node.lengths}
        numbered = [node for node in self.numbered if node.name not in exact]
        for node in numbered:
            chosen[node.name] = {pool: packed for packed in node.address for pool in pools if within(packed, pool)}
        for node in numbered:
            pinned = self.lock.nodes.get(node.name)
            for packed in pinned.address if pinned else ():
                for pool in pools:
                    if pool not in chosen[node.name] and usable(packed, pool) and packed not in self.taken:
                        chosen[node.name][pool] = packed
                        self.taken.add(packed)
        for pool in pools:
            following = _first(pool)
            for node in numbered:
                if pool in chosen[node.name]:
                    continue
                while following in self.taken:
                    following = _after(following)
                if not usable(following, pool):
                    raise _full(pool, node.name)
                chosen[node.name][pool] = following
                self.taken.add(following)
        return exact | {name: tuple(by_pool[pool] for pool in pools) for name, by_pool in chosen.items()}

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
    kinds = paths.kinds_at(node.name) or {paths.network.kind}
    return not kinds.issubset(POINT_TO_POINT)


def _called_by(by_link: list[tuple[bytes, ...]], before: Pinned | None) -> tuple[bytes, ...]:
    """Which of its link's addresses a node is called by: the one it was, else that on its first link."""
    if before is not None and before.address in by_link:
        return before.address
    return by_link[0] if by_link else ()


def _full(pool: Prefix, who: str) -> ConfigError:
    return ConfigError("network", [Mistake(f"the pool {pool} has no address left for {who}", hint="use a larger pool")])


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
        if pin.next_key is not None:
            lines.append(f'next_key = "{pin.next_key.base64()}"')
        if pin.key_since:
            lines.append(f'key_since = "{pin.key_since}"')
    for link in lock.links.values():
        subnets = ", ".join(f'"{subnet}"' for subnet in link.subnet)
        lines += ["", "[[link]]", f'between = ["{link.between[0]}", "{link.between[1]}"]', f"subnet = [{subnets}]"]
        if link.key is not None:
            lines.append(f"key = {link.key}")
    for ends, pair in lock.pairs.items():
        left, right = sorted(ends)
        lines += ["", "[[psk]]", f'between = ["{left}", "{right}"]', f'id = "{pair.identity}"', f"generation = {pair.generation}"]
        if pair.since:
            lines.append(f'since = "{pair.since}"')
    return "\n".join(lines) + "\n"


def parse_lock(text: str, source: str) -> Lock:
    """
    Read a lock file.

    Raises:
        ConfigError: every mistake in it, with line and column.
    """
    try:
        document = toml.loads(text)
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
        keys: dict[str, PublicKey | None] = dict.fromkeys(("public_key", "next_key"))
        for which in keys.keys() & table.keys():
            try:
                keys[which] = PublicKey.from_base64(table[which])
            except (ValueError, TypeError, binascii.Error):
                mistake(("node", name, which), f"node.{name}: expected a public key of 44 base64 characters")
        since = table.get("key_since", "")
        if not _is_day(since):
            mistake(("node", name, "key_since"), f"node.{name}: expected a day such as 2026-11-21, found {since!r}")
        nodes[name] = Pinned(tuple(addresses), port, keys["public_key"], keys["next_key"], since)
    links: dict[frozenset[str], PinnedLink] = {}
    entries = document.get("link", [])
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        try:
            pinned = _parse_link(entry)
        except ValueError as error:
            mistake(("link", index), f"link[{index}]: {error}")
        else:
            links[frozenset(pinned.between)] = pinned
    pairs: dict[frozenset[str], PinnedPair] = {}
    entries = document.get("psk", [])
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        try:
            ends, pair = _parse_pair(entry)
        except ValueError as error:
            mistake(("psk", index), f"psk[{index}]: {error}")
        else:
            pairs[ends] = pair
    if mistakes:
        raise ConfigError(source, mistakes)
    return Lock(nodes, links, pairs)


_DAY = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})?")


def _is_day(value: object) -> bool:
    """Whether it is a day as the lock file has it, or empty."""
    return isinstance(value, str) and _DAY.fullmatch(value) is not None


def _parse_pair(entry: object) -> tuple[frozenset[str], PinnedPair]:
    """One `[[psk]]` of the lock file; ValueError says what was expected."""
    if not isinstance(entry, dict):
        raise ValueError("expected a table")
    match entry.get("between"):
        case [str(left), str(right)] if left != right:
            pass
        case between:
            raise ValueError(f"between: expected the names of two nodes, found {between!r}")
    identity, generation, since = entry.get("id"), entry.get("generation", 1), entry.get("since", "")
    if not isinstance(identity, str) or not _IDENTITY.fullmatch(identity):
        raise ValueError(f"id: expected a name such as lyon+paris, found {identity!r}")
    if isinstance(generation, bool) or not isinstance(generation, int) or not 1 <= generation < 1 << 32:
        raise ValueError(f"generation: expected a number from 1, found {generation!r}")
    if not _is_day(since):
        raise ValueError(f"since: expected a day such as 2026-11-21, found {since!r}")
    return frozenset((left, right)), PinnedPair(identity, generation, since)


_IDENTITY = re.compile(r"[a-z0-9+-]{1,80}")


def _parse_link(entry: object) -> PinnedLink:
    """One `[[link]]` of the lock file; ValueError says what was expected."""
    if not isinstance(entry, dict):
        raise ValueError("expected a table")
    between, subnets, key = entry.get("between"), entry.get("subnet"), entry.get("key")
    match between:
        case [str(left), str(right)] if left != right:
            pass
        case _:
            raise ValueError(f"between: expected the names of two nodes, found {between!r}")
    if not isinstance(subnets, list) or not all(isinstance(item, str) and "/" in item for item in subnets):
        raise ValueError(f"subnet: expected a list of prefixes, found {subnets!r}")
    parsed = tuple(map(Prefix.parse, subnets))
    for subnet in parsed:
        if subnet.length >= len(subnet.packed) * 8:
            raise ValueError(f"subnet: {subnet} has no room for two ends")
    if key is not None and (isinstance(key, bool) or not isinstance(key, int) or not 0 <= key < 1 << 32):
        raise ValueError(f"key: expected a number from 0 to 4294967295, found {key!r}")
    return PinnedLink((left, right), parsed, key)
