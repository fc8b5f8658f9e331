"""
A host in memory for tests of `bringup`: it holds what the real one would, and fails at whatever call it is told to.

State is compared before and after: equal means that nothing was left. Every call that changes something counts; `fail_at`
makes the n-th of them fail before it has any effect, `fail_after` after its effect (a process that dies in between).
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ginnel.config.node import NodeConfig
from ginnel.config.wgquick import HostPort
from ginnel.config.words import Rule as Policy
from ginnel.errors import KernelError
from ginnel.linux.bringup import Host
from ginnel.linux.host import Kernel, Rule, Version
from ginnel.linux.links import Link
from ginnel.linux.record import FouDone, Process
from ginnel.linux.rtnl import AddAddress, AddLink, AddRoute, BlockRoute, ChangeRule, LinkUp, Request, SetLink, Way
from ginnel.linux.rtnl_host import OwnAddress, OwnPrefix, Proxied
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
    #: Settings that this kernel does not have.
    no_settings: frozenset[str] = frozenset()
    #: Addresses of the host itself.
    here: frozenset[str] = frozenset({"203.0.113.10"})
    calls: list[str] = field(default_factory=list)
    taken_ports: frozenset[int] = frozenset()
    fail_at: int = 0
    fail_after: int = 0
    next_index: int = 7
    #: Policy rules of node files: version and words.
    policies: set[tuple[int, str]] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)
    #: UDP ports that the kernel takes GRE from: version and port.
    fou_ports: set[tuple[int, int]] = field(default_factory=set)
    #: What the host has or answers for beside its tunnels, in words.
    own: set[str] = field(default_factory=set)
    modules: Path = Path("/nonexistent")

    name: str = "engine"
    words: str = "ginnel-wireguard %i"

    def host(self) -> Host:
        """As `bringup` takes it."""
        return Host(
            lambda: self,
            _Firewall(self),
            _Settings(self),
            _Shell(self),
            _Resolver(self),
            _resolve,
            self.is_free,
            FakeRequests(self),
            FakeFou(self),
            self.modules,
        )

    def is_free(self, port: int) -> bool:
        return port not in self.taken_ports

    def state(self) -> Any:
        """What must be as before after any failure; sysctl is not undone, as in wg-quick."""
        return (
            dict(self.links),
            set(self.rules),
            dict(self.tables),
            dict(self.servers),
            set(self.policies),
            set(self.blocked),
            set(self.fou_ports),
            set(self.own),
        )

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
        self.make_link(name, "")

    def make_link(self, name: str, kind: str) -> None:
        """A new interface, down."""
        self.next_index += 1
        self.links[name] = {"index": self.next_index, "mtu": 1420, "addresses": [], "routes": [], "kind": kind}

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
class FakeRequests:
    """`host.Requests`: each request of a batch is one counted call."""

    world: FakeHost

    def links(self) -> list[Link]:
        return [
            Link(name, held["index"], held["mtu"], held.get("up", False), held.get("kind", ""), held.get("data", b""))
            for name, held in self.world.links.items()
        ]

    def way(self, packed: bytes, *, mark: int = 0, device: int = 0) -> Way | None:  # noqa: ARG002
        mtu = self.world.paths.get(str(ipaddress.ip_address(packed)), self.world.default_mtu)
        here = str(ipaddress.ip_address(packed)) in self.world.here
        return None if mtu is None and not here else Way(0, mtu, local=here)

    def rule_priorities(self, version: int) -> list[int]:
        held = [Policy.parse(words).priority for of, words in self.world.policies if of == version]
        return sorted([0, 32766, *(rule.priority for rule in self.world.rules if rule.version == version), *held])

    def apply(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self.world.did(request.words, lambda request=request: self._one(request))  # type: ignore[misc]

    def _one(self, request: Request) -> None:
        links = self.world.links
        match request:
            case SetLink(name, mtu, _):
                links[name]["mtu"] = mtu
            case LinkUp(name):
                links[name]["up"] = True
            case AddAddress(name, address):
                links[name]["addresses"].append(address)
            case AddRoute(name, route):
                if any(str(route) == held for link in links.values() for held in link["routes"]):
                    raise KernelError(request.words, errno.EEXIST)
                links[name]["routes"].append(str(route))
            case AddLink(name, kind, _, _):
                self.world.make_link(name, kind)
            case BlockRoute(route, delete):
                if delete and str(route) not in self.world.blocked:
                    raise KernelError(request.words, errno.ESRCH)
                self.world.blocked = self.world.blocked - {str(route)} if delete else self.world.blocked | {str(route)}
            case ChangeRule(rule, version, delete):
                entry = (version, str(rule))
                if delete != (entry in self.world.policies):
                    raise KernelError(request.words, errno.ENOENT if delete else errno.EEXIST)
                self.world.policies ^= {entry}
            case OwnAddress() | OwnPrefix() | Proxied():
                words = replace(request, delete=False).words
                if request.delete != (words in self.world.own):
                    raise KernelError(request.words, errno.ESRCH if request.delete else errno.EEXIST)
                self.world.own ^= {words}
            case _:
                raise AssertionError(request)

    def delete_links(self, found: Sequence[tuple[str, int]]) -> None:
        def delete() -> None:
            for name, index in found:
                if self.world.link_index(name) == index:
                    del self.world.links[name]

        self.world.did(f"delete {' '.join(name for name, _ in found)}", delete)


@dataclass(frozen=True, slots=True)
class FakeFou:
    """`host.Fou`."""

    world: FakeHost

    def add(self, version: int, port: int) -> None:
        self.world.did(f"fou add {port}", lambda: self.world.fou_ports.add((version, port)))

    def delete(self, version: int, port: int) -> None:
        self.world.did(f"fou delete {port}", lambda: self.world.fou_ports.discard((version, port)))


@dataclass(slots=True)
class FakeNode:
    """`node_bringup.NodeBackend`: a process that makes its devices, or fails and leaves none."""

    world: FakeHost
    name: str = "engine"
    words: str = "serve %n"
    #: Why its tunnels do not carry, once they are up.
    refuses: str = ""

    def ports(self, config: NodeConfig) -> list[FouDone]:  # noqa: ARG002
        return []

    def start(self, config: NodeConfig) -> Process:
        self.world.did(f"start {config.name}", lambda: None)
        return Process()

    def wait(self, config: NodeConfig) -> None:
        try:
            self.world.did(f"wait {config.name}", lambda: self._make(config))
        except KernelError:
            for tunnel in config.plain:
                self.world.links.pop(tunnel.name, None)
            raise

    def carrying(self, config: NodeConfig, tunnels: Sequence[str], directory: Path) -> dict[str, str]:  # noqa: ARG002
        return {name: self.refuses for name in tunnels if self.refuses}

    def _make(self, config: NodeConfig) -> None:
        for tunnel in config.plain:
            self.world.make_link(tunnel.name, "tun")


@dataclass(frozen=True, slots=True)
class _Firewall:
    world: FakeHost

    def apply(self, script: str) -> None:
        def change() -> None:
            inside = ""
            for line in script.splitlines():
                if inside:  # a table written out as a whole
                    inside = "" if line == "}" else inside
                    if inside:
                        self.world.tables[inside] += f"{line}\n"
                    continue
                match line.split():
                    case ["table", family, table, "{"]:
                        inside = f"{family} {table}"
                        self.world.tables.setdefault(inside, "")
                    case ["delete", "table", family, table]:
                        self.world.tables.pop(f"{family} {table}", None)
                    case ["add", "table", family, table]:
                        self.world.tables.setdefault(f"{family} {table}", "")
                    case ["add", "rule" | "chain", family, table, *rest] if rest:
                        self.world.tables[f"{family} {table}"] += f"{' '.join(rest)}\n"
                    case _:
                        raise AssertionError(line)

        self.world.did("nft", change)


@dataclass(frozen=True, slots=True)
class _Settings:
    world: FakeHost

    def read(self, name: str) -> str | None:
        return None if name in self.world.no_settings else self.world.sysctl.get(name, "0")

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
