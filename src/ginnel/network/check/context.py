"""What every rule of `check` gets: the network, its paths, and the places of what the file says."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from ginnel.config.positions import Path, Positions
from ginnel.errors import Elsewhere, Mistake
from ginnel.network.model import POINT_TO_POINT, Link, Network, Node
from ginnel.network.paths import Paths

#: More is never read by a person; the rest is counted.
MAX_MISTAKES_A_RULE = 50

#: What people call them.
CALLED = {"gre": "GRE", "gre+ipsec": "GRE over IPsec", "ipsec": "IPsec", "wireguard": "WireGuard"}


@dataclass(frozen=True)
class Context:
    """A network under check."""

    network: Network
    positions: Positions

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """By name."""
        return {node.name: node for node in self.network.nodes}

    @cached_property
    def paths(self) -> Paths:
        """Found once for all rules; only where every name is that of a node."""
        return Paths(self.network)

    @cached_property
    def point_to_point(self) -> tuple[Link, ...]:
        """The links that have a device at each end."""
        if self.network.kinds.isdisjoint(POINT_TO_POINT):
            return ()  # of a large mesh, its links are never made
        return tuple(link for link in self.paths.links if link.point_to_point)

    def at(
        self, code: str, path: Path, message: str, hint: str = "", *, key: bool = False, also: tuple[Path, ...] = ()
    ) -> Mistake:
        """A mistake at the value of *path* (or its key), and what it collides with."""
        span = self.positions.key(path) if key else self.positions.value(path)
        others = [(each, self.positions.value(each)) for each in also]
        elsewhere = tuple(Elsewhere(each, self.positions.line(each)) for _, each in others if each is not None and each != span)
        return Mistake(message, span, hint, self.positions.line(span), code, also=elsewhere)

    def named(self, link: Link) -> tuple[Path, str]:
        """The place of a link, and what to call it: its `[[link]]`, or the shape that makes it."""
        index = self._rows.get(frozenset(link.between))
        if index is None:
            return ("network", "kind"), f"the link {' — '.join(link.between)}"
        return ("link", index, "between"), f"link[{index}]"

    @cached_property
    def _rows(self) -> dict[frozenset[str], int]:
        return {frozenset(link.between): link.row for link in self.network.links}


Rule = Callable[[Context], Iterable[Mistake]]


def collect(context: Context, rules: Iterable[Rule]) -> list[Mistake]:
    """What the rules find, in their order."""
    mistakes: list[Mistake] = []
    for rule in rules:
        found = list(rule(context))
        mistakes += found[:MAX_MISTAKES_A_RULE]
        if len(found) > MAX_MISTAKES_A_RULE:
            mistakes.append(Mistake(f"and {len(found) - MAX_MISTAKES_A_RULE} more of the same", code=found[0].code))
    return mistakes


def packed_address(text: str) -> bytes | None:
    """An IP address packed; None for what is none."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return None
