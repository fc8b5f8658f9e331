"""
The lock file: what was allocated once and is kept, `network.lock.toml` beside the network file, both in git.

    [node.NAME]   address, listen_port, public_key; next_key and key_since of keys (`rotation`); known_as once it was renamed
    [[link]]      between, subnet, key: of links with devices of their own
    [[psk]]       between, id, generation, since: of preshared keys that are not called and derived as usual

No secret is in it. Entries stand in the order in which they came: what is new is appended, so the order of the network file
changes no byte here, and no line of an existing lock file ever moves. Two branches in git that each add a node have most likely
given them the same address; both append, so git asks, and where somebody keeps both, it is an error here, with both lines.

A node that is renamed keeps all of this (`Lock.renamed`), and what its peers know it by: its identity in IPsec, the names of
their devices and of the secret that they share. That is `known_as`; a new node of the old name is known by another.

A file is of version 2 when it has `known_as`, which a reader of version 1 would lose; else it stays of version 1.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ginnel.config import toml
from ginnel.config.positions import Path, Positions
from ginnel.errors import ConfigError, Elsewhere, Mistake
from ginnel.network import gre
from ginnel.units import Prefix, PublicKey

LOCK_VERSIONS = (1, 2)

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
    #: The name by which its peers know it, where that is not the one it has now; empty: it is.
    known_as: str = ""


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
    """The lock file's content: nodes by name, GRE links and preshared keys by the names of their ends; each in its order."""

    nodes: Mapping[str, Pinned] = field(default_factory=dict)
    links: Mapping[frozenset[str], PinnedLink] = field(default_factory=dict)
    pairs: Mapping[frozenset[str], PinnedPair] = field(default_factory=dict)

    def link(self, left: str, right: str) -> PinnedLink:
        """The GRE link between two nodes; KeyError when there is none."""
        return self.links[frozenset((left, right))]

    def pair(self, left: str, right: str) -> PinnedPair:
        """What is pinned of the preshared key between two nodes, or what holds where nothing is."""
        ends = sorted((self.known_as(left), self.known_as(right)))
        return self.pairs.get(frozenset((left, right))) or PinnedPair("+".join(ends))

    def known_as(self, name: str) -> str:
        """The name by which the peers of a node know it: its own, unless it was renamed."""
        pin = self.nodes.get(name)
        return pin.known_as if pin is not None and pin.known_as else name

    def with_keys(self, keys: Mapping[str, PublicKey]) -> Lock:
        """The same with these public keys pinned."""
        nodes = {name: replace(pin, public_key=keys[name]) if name in keys else pin for name, pin in self.nodes.items()}
        return replace(self, nodes=nodes)

    def renamed(self, old: str, new: str) -> Lock:
        """
        The same for a network in which the node *old* is called *new*: nothing that any host has changes.

        Raises:
            KeyError: *old* is not pinned.
            ValueError: *new* is.
        """
        if new in self.nodes:
            raise ValueError(f"{new} is a node already")
        known_as = self.known_as(old)
        pin = replace(self.nodes[old], known_as="" if known_as == new else known_as)

        def called(name: str) -> str:
            return new if name == old else name

        return Lock(
            {called(name): pin if name == old else other for name, other in self.nodes.items()},
            {
                frozenset(map(called, ends)): replace(link, between=(called(link.between[0]), called(link.between[1])))
                for ends, link in self.links.items()
            },
            {frozenset(map(called, ends)): pair for ends, pair in self.pairs.items()},
        )


# ---------------------------------------------------------------- writing


def render_lock(lock: Lock) -> str:
    """The lock file's text: the same bytes for the same lock."""
    version = 2 if any(pin.known_as for pin in lock.nodes.values()) else 1
    lines = [_HEADER, f"version = {version}"]
    for name, pin in lock.nodes.items():
        addresses = ", ".join(f'"{_text(packed)}"' for packed in pin.address)
        lines += ["", f"[node.{name}]", f"address = [{addresses}]"]
        if pin.listen_port:
            lines.append(f"listen_port = {pin.listen_port}")
        if pin.public_key is not None:
            lines.append(f'public_key = "{pin.public_key.base64()}"')
        if pin.next_key is not None:
            lines.append(f'next_key = "{pin.next_key.base64()}"')
        if pin.key_since:
            lines.append(f'key_since = "{pin.key_since}"')
        if pin.known_as:
            lines.append(f'known_as = "{pin.known_as}"')
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


def _text(packed: bytes) -> str:
    return Prefix(packed, len(packed) * 8).address


# ---------------------------------------------------------------- reading


def parse_lock(text: str, source: str) -> Lock:
    """
    Read a lock file.

    Raises:
        ConfigError: every mistake in it, with line and column.
    """
    try:
        document = toml.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, [_not_toml(text, error)]) from None
    reading = _Reading(document, Positions(text))
    lock = reading.lock()
    if reading.mistakes:
        raise ConfigError(source, reading.mistakes)
    return lock


_CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)", re.MULTILINE)


def _not_toml(text: str, error: tomllib.TOMLDecodeError) -> Mistake:
    if _CONFLICT.search(text):
        return Mistake("a merge in git is not finished: both sides have changed it", hint=_ONE_OF_THEM, code="G0913")
    return Mistake(f"not TOML: {error}", hint="restore it from git", code="G0913")


_ONE_OF_THEM = "keep the entries of both sides, and of two with the same address only one: the other gets a new one"
_FROM_A_MERGE = "two branches have each added one: remove one of the two entries, and it is allocated anew"
_RESTORE = "restore it from git, or remove the entry"
_DAY = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_IDENTITY = re.compile(r"[a-z0-9+-]{1,80}")


class _Reading:
    """One pass over a document; what is wrong adds up in `mistakes`."""

    def __init__(self, document: Mapping[str, Any], positions: Positions) -> None:
        self._document, self._positions = document, positions
        self.mistakes: list[Mistake] = []

    def lock(self) -> Lock:
        if self._document.get("version") not in LOCK_VERSIONS or isinstance(self._document.get("version"), bool):
            found = self._document.get("version")
            self._mistake(("version",), f"expected version = {' or '.join(map(str, LOCK_VERSIONS))}, found {found!r}")
            return Lock()
        nodes: dict[str, Pinned] = {}
        tables = self._document.get("node", {})
        for name, table in tables.items() if isinstance(tables, dict) else ():
            if not _NAME.fullmatch(name):
                self._mistake(("node", name), f"node.{name!r}: expected the name of a node")
            elif not isinstance(table, dict):
                self._mistake(("node", name), f"node.{name}: expected a table")
            else:
                nodes[name] = self._node(name, table)
        links, pairs = dict(self._rows("link", _parse_link)), dict(self._rows("psk", _parse_pair))
        if not self.mistakes:
            self._conflicts(nodes, links)
        return Lock(nodes, links, pairs)

    def _node(self, name: str, table: Mapping[str, Any]) -> Pinned:
        addresses, listed = [], table.get("address", [])
        if not isinstance(listed, list):
            self._mistake(("node", name, "address"), f"node.{name}: expected a list of IP addresses, found {listed!r}")
            listed = []
        for index, item in enumerate(listed):
            if isinstance(item, str) and (packed := _address(item)) is not None:
                addresses.append(packed)
            else:
                self._mistake(("node", name, "address", index), f"node.{name}: expected an IP address, found {item!r}")
        port = table.get("listen_port", 0)
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
            self._mistake(("node", name, "listen_port"), f"node.{name}: expected a port, found {port!r}")
        keys: dict[str, PublicKey | None] = dict.fromkeys(("public_key", "next_key"))
        for which in [key for key in keys if key in table]:
            try:
                keys[which] = PublicKey.from_base64(table[which])
            except (ValueError, TypeError):
                self._mistake(("node", name, which), f"node.{name}: expected a public key of 44 base64 characters")
        since, known_as = table.get("key_since", ""), table.get("known_as", "")
        if not _is_day(since):
            self._mistake(("node", name, "key_since"), f"node.{name}: expected a day such as 2026-11-21, found {since!r}")
        if not isinstance(known_as, str) or (known_as and not _NAME.fullmatch(known_as)):
            self._mistake(("node", name, "known_as"), f"node.{name}: expected a name, found {known_as!r}")
        return Pinned(tuple(addresses), port, keys["public_key"], keys["next_key"], since, known_as)

    def _rows(self, table: str, parse: Any) -> Iterator[tuple[frozenset[str], Any]]:
        entries = self._document.get(table, [])
        seen: dict[frozenset[str], int] = {}
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            try:
                ends, pinned = parse(entry)
            except ValueError as error:
                self._mistake((table, index), f"{table}[{index}]: {error}")
                continue
            if ends in seen:
                message = f"{table}[{index}]: {' and '.join(sorted(ends))} already have an entry"
                self._mistake((table, index), message, _FROM_A_MERGE, (table, seen[ends]))
            seen[ends] = index
            yield ends, pinned

    def _conflicts(self, nodes: Mapping[str, Pinned], links: Mapping[frozenset[str], PinnedLink]) -> None:
        """What two entries have, as they do after two branches were merged."""
        owner: dict[bytes, Path] = {}
        known: dict[str, Path] = {}
        # A node may be called by its address on one of its links.
        of_links = {(name, packed) for link in links.values() for name in link.between for packed in link.end(name)}
        for name, pin in nodes.items():
            path: Path = ("node", name)
            for index, packed in enumerate(pin.address):
                if (name, packed) not in of_links:
                    self._once(owner, packed, (*path, "address", index), f"node.{name}: {_text(packed)} is")
            identity = pin.known_as or name
            self._once(known, identity, (*path, "known_as"), f"node.{name}: the name {identity} is")
        for number, link in enumerate(links.values()):
            between = " and ".join(link.between)
            for index, subnet in enumerate(link.subnet):
                for packed in gre.ends_of(subnet):
                    self._once(owner, packed, ("link", number, "subnet", index), f"the link of {between}: {_text(packed)} is")

    def _once(self, owner: dict[Any, Path], value: Any, path: Path, words: str) -> None:
        first = owner.setdefault(value, path)
        if first is not path:
            whose = f"{first[1]}'s" if first[0] == "node" else "that of another link"
            self._mistake(path, f"{words} already {whose}", _FROM_A_MERGE, first)

    def _mistake(self, path: Path, message: str, hint: str = _RESTORE, also: Path | None = None) -> None:
        span = self._positions.value(path)
        other = self._positions.value(also) if also is not None else None
        elsewhere = (Elsewhere(other, self._positions.line(other)),) if other is not None else ()
        self.mistakes.append(Mistake(message, span, hint, self._positions.line(span), "G0913", also=elsewhere))


def _address(text: str) -> bytes | None:
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return None


def _is_day(value: object) -> bool:
    """Whether it is a day as the lock file has it, or empty."""
    if not isinstance(value, str) or _DAY.fullmatch(value) is None:
        return False
    try:
        return not value or dt.date.fromisoformat(value) is not None
    except ValueError:  # the 31st of some months
        return False


def _between(entry: object) -> tuple[str, str]:
    if not isinstance(entry, dict):
        raise ValueError("expected a table")
    match entry.get("between"):
        case [str(left), str(right)] if left != right and _all_names((left, right)):
            return left, right
        case between:
            raise ValueError(f"between: expected the names of two nodes, found {between!r}")


def _all_names(names: Iterable[str]) -> bool:
    return all(_NAME.fullmatch(name) for name in names)


def _parse_link(entry: dict[str, Any]) -> tuple[frozenset[str], PinnedLink]:
    """One `[[link]]` of the lock file; ValueError says what was expected."""
    between = _between(entry)
    subnets, key = entry.get("subnet"), entry.get("key")
    if not isinstance(subnets, list) or not all(isinstance(item, str) and "/" in item for item in subnets):
        raise ValueError(f"subnet: expected a list of prefixes, found {subnets!r}")
    parsed = tuple(map(Prefix.parse, subnets))
    for subnet in parsed:
        if subnet.length >= len(subnet.packed) * 8:
            raise ValueError(f"subnet: {subnet} has no room for two ends")
    if key is not None and (isinstance(key, bool) or not isinstance(key, int) or not 0 <= key < 1 << 32):
        raise ValueError(f"key: expected a number from 0 to 4294967295, found {key!r}")
    return frozenset(between), PinnedLink(between, parsed, key)


def _parse_pair(entry: dict[str, Any]) -> tuple[frozenset[str], PinnedPair]:
    """One `[[psk]]` of the lock file; ValueError says what was expected."""
    between = _between(entry)
    identity, generation, since = entry.get("id"), entry.get("generation", 1), entry.get("since", "")
    if not isinstance(identity, str) or not _IDENTITY.fullmatch(identity):
        raise ValueError(f"id: expected a name such as lyon+paris, found {identity!r}")
    if isinstance(generation, bool) or not isinstance(generation, int) or not 1 <= generation < 1 << 32:
        raise ValueError(f"generation: expected a number from 1, found {generation!r}")
    if not _is_day(since):
        raise ValueError(f"since: expected a day such as 2026-11-21, found {since!r}")
    return frozenset(between), PinnedPair(identity, generation, since)
