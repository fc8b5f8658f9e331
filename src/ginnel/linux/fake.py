"""
A host in memory for tests of `bringup`: it holds what the real one would, and fails at whatever call it is told to.

State is compared before and after: equal means that nothing was left. Every call that changes something counts; `fail_at`
makes the n-th of them fail before it has any effect, `fail_after` after its effect (a process that dies in between).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ginnel.config.wgquick import HostPort
from ginnel.errors import KernelError
from ginnel.linux.bringup import Host
from ginnel.linux.host import Kernel, Rule, Version
from ginnel.linux.record import Process
from ginnel.linux.uapi import Device, parse
from ginnel.units import Endpoint, Prefix


@dataclass(slots=True)
class FakeHost:
    """
    The whole host: kernel, firewall, settings, shell, resolver and backend in one, each under its Protocol's names.

    calls: every effect in order, in words. fail_at and fail_after: the number of the call that fails, from 1.
    """

    links: dict[str, dict[str, Any]] = field(default_factory=dict)
    rules: set[Rule] = field(default_factory=set)
    tables: dict[str, str] = field(default_factory=dict)
    servers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sysctl: dict[str, str] = field(default_factory=dict)
    #: MTU by address, of the route there.
    paths: dict[str, int] = field(default_factory=dict)
    default_mtu: int | None = 1500
    calls: list[str] = field(default_factory=list)
    taken_ports: frozenset[int] = frozenset()
    fail_at: int = 0
    fail_after: int = 0
    next_index: int = 7

    name: str = "engine"
    words: str = "ginnel-wireguard %i"

    def host(self) -> Host:
        """As `bringup` takes it."""
        return Host(lambda: self, _Firewall(self), _Settings(self), _Shell(self), _Resolver(self), _resolve, self.is_free)

    def is_free(self, port: int) -> bool:
        return port not in self.taken_ports

    def state(self) -> Any:
        """What must be as before after any failure; sysctl is not undone, as in wg-quick."""
        return (dict(self.links), set(self.rules), dict(self.tables), dict(self.servers))

    def did(self, words: str, effect: Callable[[], Any]) -> Any:
        """One counted call."""
        self.calls.append(words)
        if len(self.calls) == self.fail_at:
            raise KernelError(words, errno.EIO)
        result = effect()
        if len(self.calls) == self.fail_after:
            raise KernelError(words, errno.EIO)
        return result

    # -- Kernel

    def link_index(self, name: str) -> int | None:
        return self.links[name]["index"] if name in self.links else None

    def link_names(self) -> list[str]:
        return list(self.links)

    def link_mtu(self, name: str) -> int | None:
        return self.links[name]["mtu"] if name in self.links else None

    def set_link_up(self, name: str, mtu: int) -> None:
        self.did(f"up {name} {mtu}", lambda: self.links[name].update(mtu=mtu, up=True))

    def add_wireguard_link(self, name: str) -> None:
        self.did(f"link {name}", lambda: self._add_link(name))

    def _add_link(self, name: str) -> None:
        self.next_index += 1
        self.links[name] = {"index": self.next_index, "mtu": 1420, "addresses": [], "routes": []}

    def delete_link(self, name: str) -> None:
        self.did(f"delete {name}", lambda: self.links.pop(name, None))

    def add_address(self, name: str, address: str) -> None:
        self.did(f"address {address}", lambda: self.links[name]["addresses"].append(address))

    def addresses(self, name: str) -> list[str]:
        return list(self.links[name]["addresses"])

    def add_routes(self, name: str, prefixes: Sequence[Prefix], table: int | None) -> None:
        words = f"routes {' '.join(map(str, prefixes))} table {table}"
        self.did(words, lambda: self.links[name]["routes"].extend((prefix, table) for prefix in prefixes))

    def route_covers(self, name: str, prefix: Prefix) -> bool:
        held = [Prefix.parse(address) for address in self.links[name]["addresses"]]
        return any(
            each.version == prefix.version and each.length <= prefix.length and prefix.network().subnet_of(each.network())  # type: ignore[arg-type]
            for each in held
            if each.length < 32
        )

    def table_is_empty(self, table: int) -> bool:
        return not any(used == table for link in self.links.values() for _, used in link["routes"])

    def mtu_towards(self, address: str) -> int | None:
        return self.paths.get(address)

    def default_route_mtu(self) -> int | None:
        return self.default_mtu

    def rule_priorities(self, version: Version) -> list[int]:
        return sorted([0, 32766, *(rule.priority for rule in self.rules if rule.version == version)])

    def add_rule(self, rule: Rule) -> None:
        def add() -> None:
            if rule in self.rules:
                raise KernelError("ip rule add", errno.EEXIST)
            self.rules.add(rule)

        self.did(f"rule {rule.version} {rule.kind} {rule.priority}", add)

    def delete_rule(self, rule: Rule) -> bool:
        def delete() -> bool:
            there = rule in self.rules
            self.rules.discard(rule)
            return there

        deleted: bool = self.did(f"unrule {rule.version} {rule.kind} {rule.priority}", delete)
        return deleted

    # -- Backend

    def start(self, interface: str, config: str) -> Process:  # noqa: ARG002
        self.did(f"start {interface}", lambda: None)
        return Process()

    def wait(self, interface: str, kernel: Kernel) -> None:  # noqa: ARG002
        try:
            self.did(f"wait {interface}", lambda: self._add_link(interface))
        except KernelError:
            self.links.pop(interface, None)  # a daemon that fails leaves nothing
            raise

    def configure(self, interface: str, lines: str) -> None:
        def change() -> None:
            self.links[interface]["lines"] = lines + self.links[interface].get("lines", "")

        self.did(f"configure {interface} {len(lines.splitlines())}", change)

    def read(self, interface: str) -> Device:
        return parse(interface, f"{self.links[interface].get('lines', '')}errno=0\n\n".encode())


def _resolve(where: HostPort, note: Callable[[str], None]) -> Endpoint:  # noqa: ARG001
    return Endpoint.parse(str(where))


@dataclass(frozen=True, slots=True)
class _Firewall:
    world: FakeHost

    def apply(self, script: str) -> None:
        def change() -> None:
            for line in script.splitlines():
                match line.split():
                    case ["delete", "table", family, table]:
                        self.world.tables.pop(f"{family} {table}", None)
                    case ["add", "table", family, table]:
                        self.world.tables.setdefault(f"{family} {table}", "")
                    case ["add", "rule" | "chain", family, table, *rest]:
                        self.world.tables[f"{family} {table}"] += f"{' '.join(rest)}\n"
                    case _:
                        raise AssertionError(line)

        self.world.did("nft", change)


@dataclass(frozen=True, slots=True)
class _Settings:
    world: FakeHost

    def read(self, name: str) -> str | None:
        return self.world.sysctl.get(name, "0")

    def write(self, name: str, value: str) -> None:
        self.world.did(f"sysctl {name}", lambda: self.world.sysctl.update({name: value}))


@dataclass(frozen=True, slots=True)
class _Shell:
    world: FakeHost

    def run(self, line: str, interface: str) -> None:
        self.world.did(f"hook {line} {interface}", lambda: None)


@dataclass(frozen=True, slots=True)
class _Resolver:
    world: FakeHost

    def choose(self, interface: str) -> dict[str, str]:
        return {"kind": "fake", "interface": interface}

    def words(self, method: dict[str, str], servers: Sequence[str], search: Sequence[str]) -> list[str]:  # noqa: ARG002
        return [f"dns {' '.join(servers)}"]

    def install(self, method: dict[str, str], servers: Sequence[str], search: Sequence[str]) -> None:
        self.world.did("dns", lambda: self.world.servers.update({method["interface"]: (*servers, *search)}))

    def remove_words(self, method: dict[str, str]) -> str:
        return f"undns {method['interface']}"

    def remove(self, method: dict[str, str]) -> None:
        self.world.did("undns", lambda: self.world.servers.pop(method["interface"], None))
