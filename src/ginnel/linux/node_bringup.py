"""
`up` of a node file: its tunnels' process, then what the host has to know: addresses, MTU, link up, routes, rules, MSS.

    what each tunnel's MTU is (asked of the routes, before anything is touched)
    the nft tables, before a packet can pass; what the file asks of the host (`node_host`)
    unreachable routes behind those into protected tunnels
    the process, which makes all devices, down
    per tunnel: MTU, addresses, up, routes            one batch for all of them
    policy rules

Every effect outside the interfaces is noted in the record before it happens, as for a wg-quick file, and `bringup` undoes such a
record whoever made it: `down`, a failed `up` and the mending after a kill -9 are one path.

A tunnel over IPv4 gets the link-local address that the kernel gives its own gre and sit devices, made of the outer one, so that
it is the same after every start; other devices get the kernel's random one, and one that carries no IPv6 gets none.

What is routed into a protected tunnel must not leave by a shorter prefix, in clear, when its device is down or its process was
killed: behind each such route stands an unreachable one (`BlockRoute`), from before the device is there until `down`; behind the
network of each of its addresses, too, where the peer's end inside mostly is. The next `up` after a kill takes them over from the
record as they stand.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ginnel.config import words
from ginnel.config.link_words import link_words
from ginnel.config.node import NodeConfig, PlainConfig, to_json
from ginnel.config.node_host import FORWARDING
from ginnel.config.node_values import IPV6_MTU_MIN
from ginnel.errors import ConfigError, EngineError, GinnelError, KernelError, Mistake
from ginnel.linux import bringup, clamp, fou, kernel_gre, node_host, node_mtu, other_nodes
from ginnel.linux.backend import Child, control
from ginnel.linux.bringup import Console, Host
from ginnel.linux.record import (
    BlocksDone,
    Done,
    FouDone,
    LinksDone,
    PolicyDone,
    Process,
    Record,
    Store,
    TableDone,
    network_namespace,
)
from ginnel.linux.rtnl import AddAddress, AddRoute, BlockRoute, ChangeRule, LinkUp, Request, SetLink
from ginnel.linux.tables import table_number
from ginnel.units import Prefix

#: Above this many tunnels their steps are told as one line; a dry run tells each.
SUMMARY_ABOVE = 50
_PRIORITY_TRIES = 16
CARRYING_TIMEOUT_S = 10.0
_POLL_S = 0.01


class NodeBackend(Protocol):
    """One way to have a node's interfaces."""

    @property
    def name(self) -> str:
        """ "engine" or "kernel"."""
        ...

    def ports(self, config: NodeConfig) -> list[FouDone]:
        """UDP ports that the kernel has to be told of, before `start`."""
        ...

    @property
    def words(self) -> str:
        """The command of the process, `%n` is the node; empty: there is none."""
        ...

    def start(self, config: NodeConfig) -> Process:
        """Begin to make all interfaces, down; the process that serves them (pid 0: the kernel itself)."""
        ...

    def wait(self, config: NodeConfig) -> None:
        """Until all of them exist; GinnelError says why not, for a person."""
        ...

    def carrying(self, config: NodeConfig, tunnels: Sequence[str], directory: Path) -> dict[str, str]:
        """Wait until *tunnels*, which are up, carry packets; of each that does not, the reason."""
        ...


class NodeProcess:
    """Our process, in user space; see `ginnel.runtime.node`."""

    name = "engine"
    words = "python -m ginnel.runtime.node --name %n"

    def __init__(self, *, detached: bool = True, write_keys: str = "") -> None:
        """
        Args:
            detached: the process outlives this one, silent; else (`ginnel run`) it writes its log to our stderr.
            write_keys: debug mode: the directory that it writes the keys of IPsec SAs to.
        """
        self._detached, self._write_keys = detached, write_keys
        self.child: Child | None = None

    def ports(self, config: NodeConfig) -> list[FouDone]:  # noqa: ARG002 - we listen ourselves
        """See `NodeBackend`."""
        return []

    def start(self, config: NodeConfig) -> Process:
        """See `NodeBackend`."""
        arguments = ["--name", config.name, "--config", config.path]
        arguments += ["--write-keys", self._write_keys] if self._write_keys else []
        self.child = Child("ginnel.runtime.node", arguments, detached=self._detached, told=True)
        return Process.of(self.child.pid)

    def wait(self, config: NodeConfig) -> None:
        """See `NodeBackend`."""
        assert self.child is not None
        self.child.tell(to_json(config))
        self.child.wait_ready(config.name)

    def carrying(self, config: NodeConfig, tunnels: Sequence[str], directory: Path) -> dict[str, str]:
        """See `NodeBackend`. The process hears of a link that goes up from the kernel, and then opens its sockets."""
        deadline = time.monotonic() + CARRYING_TIMEOUT_S
        wanted = set(tunnels)
        while True:
            answer = control(config.name, {"op": "state"}, directory)
            if answer is None:
                raise EngineError(f"the daemon of {config.name} ended as soon as it was ready")
            waiting = {
                each["name"]: each["error"] for each in answer["tunnels"] if each["state"] != "up" and each["name"] in wanted
            }
            if all(waiting.values()):
                return waiting
            if time.monotonic() > deadline:
                return {name: error or "it does not carry yet" for name, error in waiting.items()}
            time.sleep(_POLL_S)


def up(config: NodeConfig, host: Host, backend: NodeBackend, store: Store, console: Console, *, dry_run: bool = False) -> None:
    """
    Bring all tunnels of a node file up, or leave the host as it was.

    Args:
        config: checked.
        dry_run: say every step and do none; what depends on the host is read from it.

    Raises:
        GinnelError: it could not be done and has been undone; the text says why.
    """
    _check_tables(config)
    if dry_run:
        _Up(config, host, backend, store, console, dry=True).run()
        return
    with store.lock(config.name):
        names = [tunnel.name for tunnel in config.plain]
        bringup.make_way(config.name, names, host, store, console, keep=(BlocksDone,))
        left = store.load(config.name)
        job = _Up(config, host, backend, store, console, dry=False)
        job.record.done += left.done if left is not None else []
        try:
            job.run()
        except BaseException as error:
            with bringup.deaf():
                problems = bringup.undo_all(job.record, host, store, console)
            if problems and isinstance(error, Exception):
                raise GinnelError("\n".join([str(error), *problems])) from error
            raise


def _check_tables(config: NodeConfig) -> None:
    """Routing tables by name are known to the host alone."""
    mistakes = []
    for tunnel in config.plain:
        named = [words.Route.parse(text).table for text in tunnel.routes] + [
            words.Rule.parse(text).table for text in tunnel.rules
        ]
        for table in dict.fromkeys(named):
            if table and table_number(table) is None:
                hint = "name it in /etc/iproute2/rt_tables, or give its number"
                mistakes.append(Mistake(f"tunnel.{tunnel.name}: no routing table is called '{table}' here", hint=hint))
    if mistakes:
        raise ConfigError(config.path, mistakes)


@dataclass(slots=True)
class _Up:
    """One `up`: its steps in order, and what it knows while it goes."""

    config: NodeConfig
    host: Host
    backend: NodeBackend
    store: Store
    console: Console
    dry: bool
    record: Record = field(init=False)
    mtus: dict[str, int] = field(default_factory=dict)
    beside: kernel_gre.Beside = field(default_factory=kernel_gre.Beside)

    def __post_init__(self) -> None:
        self.record = Record(
            name=self.config.name,
            config=self.config.path,
            backend=self.backend.name,
            namespace=network_namespace(),
            started_unix=int(time.time()),
            owner=Process.of(os.getpid()),
        )

    def run(self) -> None:
        self._check_host()
        remotes = {tunnel.name: packed for tunnel in self.config.plain if (packed := self._remote(tunnel)) is not None}
        sizes = node_mtu.largest(self.config.plain, self.host.requests, remotes)
        self.mtus = sizes.mtus
        self._note_ends(sizes)
        self._make_table()
        host, devices = self.config.host, frozenset(tunnel.name for tunnel in self.config.plain)
        node_host.prepare(self.config.name, host, devices, self.host, self.store, self.console, self._do, dry=self.dry)
        self._block()
        self._start()
        node_host.set_devices(host, devices, self.host, self.console, self._do)
        self._apply([request for tunnel in self.config.plain for request in self._requests(tunnel)])
        self._add_rules()
        self._wait_for_carrying(remotes)
        self._note_forwarding()
        self._note_protection()
        if not self.dry:
            self.record.complete = True
            self.store.save(self.record)

    # -- one step

    def _say(self, lines: Sequence[str], summary: str) -> None:
        """Each line; of very many only what they are, but in a dry run."""
        if len(self.config.plain) > SUMMARY_ABOVE and len(lines) > SUMMARY_ABOVE and not self.dry:
            lines = [f"ip -batch - # {len(lines)} x {summary}"]
        for line in lines:
            self.console.step(line)

    def _do(self, action: Callable[[], object], done: Done | None = None, *, atomic: bool = False) -> None:
        """
        Note how to undo it, do it.

        *atomic*: when the action is refused nothing has happened, and there is nothing to undo.
        """
        if self.dry:
            return
        if done is not None:
            self.record.done.append(done)
            self.store.save(self.record)
        try:
            action()
        except GinnelError as error:
            unknown = isinstance(error, KernelError) and error.errno == errno.ETIMEDOUT
            if atomic and done is not None and not unknown:
                self.record.done.remove(done)
                self.store.save(self.record)
            raise

    # -- before anything

    def _check_host(self) -> None:
        here = {link.name for link in self.host.requests.links()}
        for tunnel in self.config.plain:
            if tunnel.dev and tunnel.dev not in here and tunnel.dev not in {other.name for other in self.config.plain}:
                raise GinnelError(
                    f"{tunnel.name}: dev: there is no interface {tunnel.dev} here\n  hint: `ip link` lists what there is"
                )
        if self.backend.name == "kernel":
            return
        self._look_beside()
        if self.dry:
            return
        apart = list(other_nodes.twins(self.config, self.store))
        for twin in apart:
            if twin.same_key:
                hint = f"give them different keys, or `ginnel down {twin.node}` first"
                what = f"{twin.ours}: {twin.theirs} of {twin.node} has the same ends: both would get every packet"
                raise GinnelError(f"{what}\n  hint: {hint}")
        if apart:
            names = f"{apart[0].ours} and {apart[0].theirs} of {apart[0].node}"
            why = "apart, each says of the other's packets that their key differs"
            self.console.note(f"{names} differ by their keys alone: put them into one node file; {why}")
        for port in dict.fromkeys(tunnel.encapsulation.listen for tunnel in self.config.plain if tunnel.encapsulation):
            if not self.host.port_is_free(port):
                raise GinnelError(bringup.port_taken(port, "UDP port"))
        protected = [tunnel.ipsec for tunnel in self.config.plain if tunnel.ipsec]
        for port in dict.fromkeys(port for each in protected for port in (each.ike_port, each.natt_port)):
            if not self.host.port_is_free(port):
                raise GinnelError(
                    f"{bringup.port_taken(port, 'UDP port').partition(chr(10))[0]}, and IKE needs it\n"
                    "  hint: end that IKE daemon, put all protected tunnels into one node file, or set ike_port and natt_port"
                )

    def _look_beside(self) -> None:
        """The kernel's own tunnels: where it has them, it gets our packets as well."""
        self.beside = kernel_gre.beside(self.config.plain, self.host.requests.links(), self.host.modules)
        if self.beside.twins:
            lines = [
                f"{twin.tunnel}: {twin.kernel} of the kernel has the same ends: both would get every packet"
                for twin in self.beside.twins
            ]
            raise GinnelError(
                "\n".join([*lines, f"  hint: `ip link delete {self.beside.twins[0].kernel}`, or give one of them a key"])
            )
        for sentence in self.beside.handlers:
            self.console.note(f"{sentence}, which answers our packets with port-unreachable: those answers are dropped here")

    def _remote(self, tunnel: PlainConfig) -> bytes | None:
        """The remote's address; a name that cannot be resolved now is none: the process goes on asking."""
        if tunnel.remote == "any":
            return None
        if (packed := node_mtu.numeric(tunnel.remote)) is not None:
            return packed
        try:
            found = socket.getaddrinfo(tunnel.remote, None, node_mtu.family_of(tunnel), socket.SOCK_DGRAM)
        except OSError as error:
            self.console.note(
                f"{tunnel.name}: {tunnel.remote}: {error.strerror or error}; it is asked for again while the tunnel is up"
            )
            return None
        return node_mtu.numeric(str(found[0][4][0]))

    # -- the interfaces

    def _start(self) -> None:
        for port in self.backend.ports(self.config):
            self.console.step(fou.words("add", port.version, port.port))
            self._do(lambda port=port: self.host.fou.add(port.version, port.port), port)  # type: ignore[misc]
        names = [tunnel.name for tunnel in self.config.plain]
        if self.backend.words:
            self.console.step(self.backend.words.replace("%n", self.config.name))
        ours = " # in user space" if self.backend.words else ""
        self._say([f"{link_words(tunnel)}{ours}" for tunnel in self.config.plain], "link add")
        self._do(self._start_process, LinksDone(tuple((name, 0) for name in names)))
        if self.dry:
            return
        self.backend.wait(self.config)
        indexes = {link.name: link.index for link in self.host.requests.links()}
        lost = [name for name in names if name not in indexes]
        if lost:
            raise KernelError(f"find interface {lost[0]}", errno.ENODEV, "it was deleted as soon as it was made")
        self.record.done[-1] = LinksDone(tuple((name, indexes[name]) for name in names))
        self.store.save(self.record)

    def _start_process(self) -> None:
        self.record.daemon = self.backend.start(self.config)
        self.store.save(self.record)

    def _make_table(self) -> None:
        """Before a packet can pass: TCP's MSS, and no answers of the kernel's to packets that are ours."""
        clamped = {tunnel.name: self.mtus[tunnel.name] for tunnel in self.config.plain if tunnel.mss_clamp}
        ours = [] if self.backend.name == "kernel" else list(self.config.plain)
        if not clamped and not self.beside.handlers:
            return
        table = clamp.table(self.config.name)
        what = [f"TCP MSS of {_some(list(clamped))}"] if clamped else []
        what += ["no port-unreachable of the kernel's own"] if self.beside.handlers else []
        self.console.step(f"nft -f - # table inet {table}: {', '.join(what)}")
        script = clamp.script(self.config.name, clamped, kernel_gre.drops(ours))
        self._do(lambda: self.host.firewall.apply(script), TableDone(table), atomic=True)

    def _block(self) -> None:
        """Nothing that is routed into a protected tunnel leaves another way."""
        protected = [tunnel for tunnel in self.config.plain if tunnel.ipsec is not None]
        routes = [words.Route(network) for tunnel in protected for network in _networks(tunnel)]
        routes += [
            words.Route(route.prefix, route.table) for tunnel in protected for route in map(words.Route.parse, tunnel.routes)
        ]
        wanted = tuple(dict.fromkeys(map(str, routes)))
        stale = [text for done in self.record.done if isinstance(done, BlocksDone) for text in done.routes if text not in wanted]
        requests = [BlockRoute(words.Route.parse(text)) for text in wanted]
        self._say([request.words for request in requests], "route replace unreachable")
        if wanted:
            self._do(lambda: self.host.requests.apply(requests), BlocksDone(wanted))
        if stale:
            self._do(lambda: bringup.unblock(stale, self.host, self.console))
        if self.dry:
            return
        # Those of an earlier run that was killed are among the new ones, or gone.
        others: list[Done] = [done for done in self.record.done if not isinstance(done, BlocksDone)]
        self.record.done = [BlocksDone(wanted), *others] if wanted else others

    def _requests(self, tunnel: PlainConfig) -> Iterator[Request]:
        name, mtu = tunnel.name, self.mtus[tunnel.name]
        link_local = self._link_local(tunnel)
        yield SetLink(name, mtu, quiet=link_local is not None and mtu >= IPV6_MTU_MIN)
        for address in tunnel.address:
            yield AddAddress(name, address)
        if link_local and mtu >= IPV6_MTU_MIN:
            yield AddAddress(name, link_local)
        yield LinkUp(name)
        for text in tunnel.routes:
            yield AddRoute(name, words.Route.parse(text))

    def _link_local(self, tunnel: PlainConfig) -> str | None:
        """Ours; "" for none at all; None = what the kernel does by itself."""
        if self.host.settings.read("net.ipv6.conf.default.disable_ipv6") != "0":
            return None
        if tunnel.kind == "ipip" or any(text.startswith("fe80:") for text in tunnel.address):
            return ""
        return link_local(tunnel)

    def _apply(self, requests: Sequence[Request]) -> None:
        self._say([request.words for request in requests], "link set, address add, route add")
        self._do(lambda: self.host.requests.apply(requests))

    def _wait_for_carrying(self, remotes: Mapping[str, bytes]) -> None:
        """A name that nobody could resolve is waited for by the process, not here."""
        if self.dry:
            return
        ready = [tunnel.name for tunnel in self.config.plain if tunnel.remote == "any" or tunnel.name in remotes]
        failed = self.backend.carrying(self.config, ready, self.store.directory)
        if failed:
            raise EngineError("\n".join(f"{name}: {why}" for name, why in failed.items()))

    # -- rules

    def _add_rules(self) -> None:
        rules = [words.Rule.parse(text) for tunnel in self.config.plain for text in tunnel.rules]
        if not rules:
            return
        shared = contextlib.nullcontext() if self.dry else self.store.lock("")
        with shared:
            for rule in rules:
                has_ipv6 = self.host.settings.read("net.ipv6.conf.default.disable_ipv6") is not None
                versions = [rule.version] if rule.version else [4, 6] if has_ipv6 else [4]
                for version in versions:
                    self._add_rule(rule, version)

    def _add_rule(self, rule: words.Rule, version: int) -> None:
        """At its priority, or the one that the kernel would choose: just before the second rule (the first is `local`, at 0)."""
        for attempt in range(_PRIORITY_TRIES):
            priority = rule.priority
            if not priority:
                priorities = self.host.requests.rule_priorities(version)
                priority = (priorities[1] if len(priorities) > 1 else 1) - 1 - attempt
                if priority < 1:
                    raise GinnelError(f"ip -{version} rule add {rule}: no priority is left\n  hint: see `ip -{version} rule`")
            change = ChangeRule(words.Rule.parse(f"{_bare(rule)} priority {priority}"), version)
            done = PolicyDone(version, str(change.rule))
            self.console.step(change.words)
            try:
                self._do(lambda change=change: self.host.requests.apply([change]), done, atomic=True)  # type: ignore[misc]
                return
            except KernelError as error:
                if error.errno != errno.EEXIST or rule.priority:
                    raise
        raise GinnelError(f"ip -{version} rule add {rule}: every priority was taken at once\n  hint: see `ip -{version} rule`")

    # -- what is worth knowing

    def _note_ends(self, sizes: node_mtu.Sizes) -> None:
        """What may be right in a minute (an address by DHCP, a link that comes up) is told, and no failure."""
        devices = {link.name: link.index for link in self.host.requests.links()}
        locals_: dict[tuple[str, int], list[str]] = {}
        for tunnel in self.config.plain:
            if tunnel.local != "any":
                locals_.setdefault((tunnel.local, devices.get(tunnel.dev, 0)), []).append(tunnel.name)
        for (local, device), names in locals_.items():
            packed = node_mtu.numeric(local)
            way = self.host.requests.way(packed, device=device) if packed is not None else None
            if way is None or not way.local:
                self.console.note(f"{_some(names)}: {local} is no address of this host now, and nothing is sent until it is")
        if sizes.routeless:
            self.console.note(f"{_some(sizes.routeless)}: there is no route to the remote now")
        for name, room in sizes.too_large.items():
            mtu = self.mtus[name]
            self.console.note(
                f"{name}: the path carries {room} bytes inside, and mtu is {mtu}: larger packets are cut or refused"
            )

    def _note_forwarding(self) -> None:
        """Routes into a tunnel are mostly there for others, and then this host has to forward."""
        for version, setting in FORWARDING.items():
            routed = any(
                Prefix.parse(text.split()[0]).version == version for tunnel in self.config.plain for text in tunnel.routes
            )
            if routed and version not in self.config.host.forward and self.host.settings.read(setting) == "0":
                self.console.note(f"this host forwards no IPv{version}: others can use these routes with [node] forward = true")

    def _note_protection(self) -> None:
        """`up` does not wait for the peers: they may be down, and there is nothing to undo because of that."""
        protected = [tunnel.name for tunnel in self.config.plain if tunnel.ipsec]
        if protected:
            where = protected[0] if len(protected) == 1 else self.config.name
            self.console.note(
                f"{_some(protected)}: nothing passes until the peer has proven itself: `ginnel show {where}` tells how far it is"
            )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _networks(tunnel: PlainConfig) -> Iterator[Prefix]:
    """What the kernel routes into the device for its addresses; an IPv6 link-local network is every device's own."""
    for text in tunnel.address:
        network = Prefix.parse(text)
        if network.length < len(network.packed) * 8 and not text.startswith("fe80:"):
            yield network


def _bare(rule: words.Rule) -> str:
    text = str(rule)
    return text if not rule.priority else text.replace(f" priority {rule.priority}", "")


def link_local(tunnel: PlainConfig) -> str | None:
    """
    The link-local address that the kernel gives its own device with these ends; None where that is a random one.

    Source: net/ipv6/addrconf.c, __ipv6_isatap_ifid (gre) and add_v4_addrs (sit).
    """
    if tunnel.family != 4 or tunnel.local == "any" or tunnel.kind not in {"gre", "sit"}:
        return None
    outer = ipaddress.IPv4Address(tunnel.local)
    if tunnel.kind == "sit":
        identifier = int(outer)
    else:
        # The universal bit is set where the address is of the public internet.
        identifier = (0x0000_5EFE if any(outer in network for network in _NOT_GLOBAL) else 0x0200_5EFE) << 32 | int(outer)
    return f"{ipaddress.IPv6Address((0xFE80 << 112) | identifier)}/64"


_NOT_GLOBAL = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.2.0/24", "192.88.99.0/24",
            "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "255.255.255.255/32",
        ),
    )
)  # fmt: skip
