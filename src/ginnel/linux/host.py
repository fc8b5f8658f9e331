"""
What a tunnel does to its host, as Protocols: everything `bringup` may touch, and nothing else.

All methods raise `KernelError` (or another `GinnelError`) when they cannot do what they are asked. None prints: the words for a
person come from the caller, which says them before it acts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ginnel.linux.links import Link
from ginnel.linux.rtnl import Request, Way
from ginnel.units import Prefix

Version = Literal[4, 6]

MAIN_TABLE = 254


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One policy rule of a full tunnel, named by its priority so that exactly this one can be deleted again.

    kind "unmarked": `not fwmark MARK table TABLE`: everything but the tunnel's own datagrams goes into the tunnel.
    kind "specific": `table main suppress_prefixlength 0`: routes of the main table that are not a default one come first.
    """

    version: Version
    priority: int
    kind: Literal["unmarked", "specific"]
    mark: int
    table: int

    @property
    def selector(self) -> str:
        """The rule as `ip rule` takes it, without its priority."""
        return f"not fwmark {self.mark} table {self.table}" if self.kind == "unmarked" else "table main suppress_prefixlength 0"


class Kernel(Protocol):
    """Links, addresses, routes and rules, as netlink has them. *table* None is main."""

    def link_index(self, name: str) -> int | None:
        """The interface's index, or None where there is none."""
        ...

    def link_names(self) -> list[str]: ...

    def link_mtu(self, name: str) -> int | None: ...

    def set_link_up(self, name: str, mtu: int) -> None: ...

    def add_wireguard_link(self, name: str) -> None: ...

    def delete_link(self, name: str) -> None: ...

    def add_address(self, name: str, address: str) -> None:
        """*address* with its length, host bits kept."""
        ...

    def addresses(self, name: str) -> list[str]:
        """In the kernel's order, with lengths."""
        ...

    def add_routes(self, name: str, prefixes: Sequence[Prefix], table: int | None) -> None:
        """All or, on an error, any part of them: they go when the link goes."""
        ...

    def route_covers(self, name: str, prefix: Prefix) -> bool:
        """Whether the main table already leads *prefix* into the interface: `ip route show dev NAME match PREFIX`."""
        ...

    def table_is_empty(self, table: int) -> bool:
        """Neither IPv4 nor IPv6 routes in it."""
        ...

    def mtu_towards(self, address: str) -> int | None:
        """MTU of the route to *address*, else of its device; None without a route."""
        ...

    def default_route_mtu(self) -> int | None: ...

    def rule_priorities(self, version: Version) -> list[int]:
        """Of all rules, lowest first."""
        ...

    def add_rule(self, rule: Rule) -> None:
        """FileExists (KernelError with EEXIST) when exactly this rule is there."""
        ...

    def delete_rule(self, rule: Rule) -> bool:
        """Delete exactly this rule; False when it is not there."""
        ...


class Requests(Protocol):
    """What a node file asks of the kernel, many things at once; see `rtnl`."""

    def links(self) -> list[Link]:
        """All interfaces."""
        ...

    def way(self, packed: bytes, *, mark: int = 0, device: int = 0) -> Way | None:
        """The route to an address, for packets with *mark* that leave by *device* (0: any); None without one."""
        ...

    def rule_priorities(self, version: int) -> list[int]:
        """Of all rules, lowest first."""
        ...

    def apply(self, requests: Sequence[Request]) -> None:
        """All of them in order; KernelError names the first that was refused, and others may have been done."""
        ...

    def delete_links(self, found: Sequence[tuple[str, int]]) -> None:
        """Those (name, index) that are still there."""
        ...


class Fou(Protocol):
    """UDP ports whose datagrams the kernel takes for GRE; see `fou`."""

    def add(self, version: int, port: int) -> None: ...

    def delete(self, version: int, port: int) -> None:
        """A port that is gone is no error."""
        ...


class Firewall(Protocol):
    """nftables."""

    def apply(self, script: str) -> None:
        """One transaction: all of it or nothing."""
        ...


class Settings(Protocol):
    """sysctl, by dotted name, or with slashes where a part holds dots itself (interfaces may)."""

    def read(self, name: str) -> str | None:
        """The value, or None where the kernel has no such setting."""
        ...

    def write(self, name: str, value: str) -> None: ...


class Shell(Protocol):
    """Hooks."""

    def run(self, line: str, interface: str) -> None:
        """Run *line* by bash with the caller's streams; HookError when it ends with anything but 0."""
        ...


class Resolver(Protocol):
    """How the host is told which name servers to ask; see `dns`."""

    def choose(self, interface: str) -> dict[str, str]:
        """The method that this host has, with all that undoing it will need: plain data for the record. Touches nothing."""
        ...

    def words(self, method: dict[str, str], servers: Sequence[str], search: Sequence[str]) -> list[str]:
        """What `install` will do, in words; the first is a command, others are notes."""
        ...

    def install(self, method: dict[str, str], servers: Sequence[str], search: Sequence[str]) -> None: ...

    def remove_words(self, method: dict[str, str]) -> str: ...

    def remove(self, method: dict[str, str]) -> None:
        """Take back exactly what `install` did; nothing when that was never reached."""
        ...
