"""
`up` and `down` of a wg-quick file: what is done to the host, in which order, and how it is undone.

The order is wg-quick's (2026): interface, PreUp, configuration, addresses, MTU and up, DNS, routes, PostUp; and down: PreDown,
SaveConfig, all effects in reverse, PostDown. A full tunnel (an AllowedIPs of length 0, Table auto) gets its routes in a table of
its own, two policy rules and a firewall; the firewall comes first, so that there is no moment without it.

Every effect outside the interface is noted in the record *before* it happens, as data (`record.Done`), and one function undoes
such a note, whether the effect ever happened or not. A failed `up`, a `down`, and the mending after a kill -9 are therefore one
path: `undo_all`. Rules are noted with the priority that they will have, chosen as the kernel would choose it, so that exactly
ours are deleted, however many tunnels have the same ones.

What a hook did only hooks can undo: mending a tunnel that was up runs its PreDown and PostDown; their failures are told and
do not stop it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ginnel.config.wgquick import PeerConfig, WgQuickFile
from ginnel.config.words import Route
from ginnel.config.words import Rule as PolicyRule
from ginnel.errors import ConfigError, GinnelError, KernelError, Mistake
from ginnel.linux import fou, mtu, nft, node_host, shell, uapi
from ginnel.linux.backend import Backend, control, end_process, wait_gone
from ginnel.linux.device_lines import device_lines, port_number
from ginnel.linux.endpoints import resolve
from ginnel.linux.host import Firewall, Fou, Kernel, Requests, Resolver, Rule, Settings, Shell, Version
from ginnel.linux.record import (
    BlocksDone,
    DnsDone,
    Done,
    FirewallDone,
    FouDone,
    LinkDone,
    LinksDone,
    OwnDone,
    PolicyDone,
    Process,
    ProxyDone,
    Record,
    RuleDone,
    SettingDone,
    Store,
    TableDone,
    network_namespace,
)
from ginnel.linux.rtnl import BlockRoute, ChangeRule, Rtnl
from ginnel.linux.tables import table_number
from ginnel.units import Endpoint, Prefix, PublicKey

FIRST_TABLE = 51820
#: Tables looked at for an empty one; each look is two dumps.
TABLES_MAX = 1000
_PRIORITY_TRIES = 16
#: Unreachable routes that are told one by one when they are deleted.
BLOCKS_TOLD = 50
_GONE_ROUTE = frozenset({errno.ESRCH, errno.EAFNOSUPPORT})
SRC_VALID_MARK = "net.ipv4.conf.all.src_valid_mark"


class Console(Protocol):
    """Where a person reads what happens."""

    def step(self, words: str) -> None:
        """A command about to be done, in the words of ip, wg, nft: `[#] words`."""
        ...

    def note(self, text: str) -> None:
        """Something worth knowing: `[!] text`."""
        ...


def port_is_free(port: int) -> bool:
    """Whether a UDP port can be had, in both IP versions where the host has both."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(("", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                raise KernelError(f"bind UDP port {port}", error.errno or errno.EIO) from None
    return True


@dataclass(slots=True)
class Host:
    """All of the host that a tunnel touches; *open_kernel* is called once, as late as possible (its import is slow)."""

    open_kernel: Callable[[], Kernel]
    firewall: Firewall
    settings: Settings
    shell: Shell
    resolver: Resolver
    resolve: Callable[..., Endpoint] = resolve
    port_is_free: Callable[[int], bool] = port_is_free
    requests: Requests = field(default_factory=Rtnl)
    fou: Fou = field(default_factory=fou.IpFou)
    #: The kernel's modules, loaded or built in.
    modules: Path = Path("/sys/module")
    _kernel: Kernel | None = None

    @property
    def kernel(self) -> Kernel:
        """Netlink, opened at its first use."""
        if self._kernel is None:
            self._kernel = self.open_kernel()
        return self._kernel


@contextlib.contextmanager
def real_host(store: Store) -> Iterator[Host]:
    """The host this process runs on, in its namespaces; its netlink socket is closed at the end."""
    from ginnel.linux.dns import SystemResolver
    from ginnel.linux.netlink import Netlink
    from ginnel.linux.nft import Nft
    from ginnel.linux.settings import ProcSettings

    with contextlib.ExitStack() as opened:

        def open_kernel() -> Netlink:
            netlink = Netlink()
            opened.callback(netlink.close)
            return netlink

        yield Host(open_kernel, Nft(), ProcSettings(), shell.Bash(), SystemResolver(store.directory))


# ---------------------------------------------------------------- up


def up(
    file: WgQuickFile, name: str, host: Host, backend: Backend, store: Store, console: Console, *, dry_run: bool = False
) -> None:
    """
    Bring *name* up as *file* says, or leave the host as it was.

    Args:
        file: checked.
        dry_run: say every step and do none; what depends on the host is read from it.

    Raises:
        GinnelError: it could not be done and has been undone; the text says why.
    """
    _check_table(file)
    if dry_run:
        _Up(file, name, host, backend, store, console, dry=True).run()
        return
    with store.lock(name):
        make_way(name, [name], host, store, console)
        job = _Up(file, name, host, backend, store, console, dry=False)
        try:
            job.run()
        except BaseException as error:
            with deaf():
                problems = undo_all(job.record, host, store, console)
            if problems and isinstance(error, Exception):
                raise GinnelError("\n".join([str(error), *problems])) from error
            raise


def _check_table(file: WgQuickFile) -> None:
    table = file.interface.table
    if table not in {"auto", "off"} and table_number(table) is None:
        hint = "name it in /etc/iproute2/rt_tables, or give its number"
        raise ConfigError(file.source, [Mistake(f"Table: no routing table is called '{table}' here", hint=hint)])


def make_way(
    name: str, interfaces: Sequence[str], host: Host, store: Store, console: Console, *, keep: tuple[type[Done], ...] = ()
) -> None:
    """
    Refuse where *name* is up, or an interface is in use; mend what a killed process left of them.

    Args:
        keep: effects that are not undone; they stay in the record, for whoever takes it up.
    """
    record = store.load(name)
    if record is not None:
        same_namespace(record)
        if is_running(record):
            raise GinnelError(
                f"{name} is already up (from {record.config})\n  hint: `ginnel show {name}`, or `ginnel down {name}` first"
            )
        console.note(f"mending what a killed {name} left")
        mend(record, host, store, console, keep=keep)
    taken = [interface for interface in interfaces if _index(interface)]
    if taken:
        raise GinnelError(_taken(taken, store))


def _taken(interfaces: Sequence[str], store: Store) -> str:
    first = interfaces[0]
    also = f", and {len(interfaces) - 1} more," if len(interfaces) > 1 else ""
    for name in store.names():
        with contextlib.suppress(GinnelError):
            record = store.load(name)
            if record is not None and any(link == first for link, _ in _links(record)):
                return f"{first}{also} already exists: {record.config} has it up\n  hint: `ginnel down {name}` first"
    return f"{first}{also} already exists, and ginnel did not make it\n  hint: `ip link show {first}` says what it is"


def is_running(record: Record) -> bool:
    """Whether the tunnel of *record* is up, or a command is at work on it."""
    if not record.complete:
        return record.owner.alive
    if record.daemon.pid:
        return record.daemon.alive
    return any(_index(name) == index for name, index in _links(record))


def _links(record: Record) -> Iterator[tuple[str, int]]:
    """The interfaces that a record says were made."""
    for done in record.done:
        match done:
            case LinkDone(name, index) if index:
                yield name, index
            case LinksDone(links):
                yield from (link for link in links if link[1])
            case _:
                pass


def _index(name: str) -> int:
    """The interface's index, 0 where there is none."""
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(name)
    return 0


def same_namespace(record: Record) -> None:
    if record.namespace != network_namespace():
        raise GinnelError(
            f"{record.name} belongs to another network namespace ({record.namespace})\n"
            "  hint: enter it with `ip netns exec` or `nsenter -n`"
        )


@dataclass(slots=True)
class _Up:
    """One `up`: its steps in order, and what it knows while it goes."""

    file: WgQuickFile
    name: str
    host: Host
    backend: Backend
    store: Store
    console: Console
    dry: bool
    record: Record = field(init=False)
    endpoints: dict[PublicKey, Endpoint] = field(default_factory=dict)
    #: What a dry run would have routed into the interface so far.
    planned: list[Prefix] = field(default_factory=list)

    def __post_init__(self) -> None:
        hooks = self.file.interface.hooks
        self.record = Record(
            name=self.name,
            config=self.file.source,
            backend=self.backend.name,
            namespace=network_namespace(),
            started_unix=int(time.time()),
            owner=Process.of(os.getpid()),
            table=self.file.interface.table,
            fwmark=self.file.interface.fwmark or 0,
            hooks={"pre_down": list(hooks.pre_down), "post_down": list(hooks.post_down)},
        )

    def run(self) -> None:
        interface = self.file.interface
        self._start_interface()
        self._hooks(interface.hooks.pre_up)
        self._configure()
        for address in interface.addresses:
            self._add_address(address)
        self._set_mtu_up()
        self._set_dns()
        self._add_routes()
        self._hooks(interface.hooks.post_up)
        if not self.dry:
            self.record.complete = True
            self.store.save(self.record)

    # -- one step

    def _step(self, words: str, action: Callable[[], object], done: Done | None = None, *, atomic: bool = False) -> None:
        """
        Say it, note how to undo it, do it.

        *atomic*: when the action fails nothing has happened, and there is nothing to undo.
        """
        self.console.step(words)
        if self.dry:
            return
        if done is not None:
            self.record.done.append(done)
            self.store.save(self.record)
        try:
            action()
        except GinnelError:
            if atomic and done is not None:
                self.record.done.remove(done)
                self.store.save(self.record)
            raise

    def _hooks(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._step(shell.expand(line, self.name), lambda line=line: self.host.shell.run(line, self.name))  # type: ignore[misc]

    # -- the interface

    def _start_interface(self) -> None:
        words = self.backend.words.replace("%i", self.name)
        self._step(words, self._start_process, LinkDone(self.name))
        if self.dry:
            return
        kernel = self.host.kernel  # imported while the daemon starts
        self.backend.wait(self.name, kernel)
        index = kernel.link_index(self.name)
        if index is None:
            raise KernelError(f"find interface {self.name}", errno.ENODEV, "it was deleted as soon as it was made")
        self.record.done = [LinkDone(self.name, index)]
        self.store.save(self.record)

    def _start_process(self) -> None:
        self.record.daemon = self.backend.start(self.name, self.file.source)
        self.store.save(self.record)

    def _configure(self) -> None:
        for peer in self.file.peers:
            if peer.endpoint is not None:
                self._resolve(peer)
        lines = device_lines(self.file, self.endpoints)
        self._step(f"wg addconf {self.name} /dev/fd/63", lambda: self._send(lines))
        if not self.dry and self.backend.name == "engine":
            names = peer_names(self.file, self.endpoints)
            if names:
                control(self.name, {"op": "names", "peers": names}, self.store.directory)

    def _send(self, lines: str) -> None:
        """The port is tried first: the device itself opens it only when it goes up, and then nobody would be told."""
        port = port_number(self.file.interface.listen_port or "0")
        if port and not self.host.port_is_free(port):
            raise GinnelError(port_taken(port))
        self.backend.configure(self.name, lines)

    def _resolve(self, peer: PeerConfig) -> None:
        if peer.endpoint is None:
            return
        try:
            self.endpoints[peer.public_key] = self.host.resolve(peer.endpoint, self.console.note)
        except GinnelError as error:
            if not self.dry:
                raise GinnelError(f"peer {peer.title}: {error}") from None
            self.console.note(f"peer {peer.title}: {error}")

    def _add_address(self, address: str) -> None:
        version = 6 if ":" in address else 4
        self._step(
            f"ip -{version} address add {address} dev {self.name}", lambda: self.host.kernel.add_address(self.name, address)
        )
        self.planned.append(Prefix.parse(address))

    def _set_mtu_up(self) -> None:
        size = self.file.interface.mtu
        if size is None:
            size = mtu.from_routes(self.host.kernel, [where.host for where in self._endpoints_now()])
        self._step(f"ip link set mtu {size} up dev {self.name}", lambda: self.host.kernel.set_link_up(self.name, size))

    def _set_dns(self) -> None:
        interface = self.file.interface
        if not interface.dns:
            return  # as wg-quick: search domains alone change nothing
        resolver = self.host.resolver
        method = resolver.choose(self.name)
        first, *notes = resolver.words(method, interface.dns, interface.dns_search)
        for text in notes:
            self.console.note(text)
        self._step(first, lambda: resolver.install(method, interface.dns, interface.dns_search), DnsDone(method))

    # -- routes

    def _add_routes(self) -> None:
        table = self.file.interface.table
        if table == "off":
            return
        prefixes = sorted(self._prefixes_now(), key=lambda prefix: -prefix.length)
        if table != "auto":
            number = table_number(table)
            self._route_all(prefixes, number, f" table {table}")
            return
        wanted = [prefix for prefix in prefixes if prefix.length and not self._covered(prefix)]
        self._route_all(wanted, None, "")
        defaults = [prefix for prefix in prefixes if not prefix.length]
        if defaults:
            self._add_defaults(defaults)

    def _covered(self, prefix: Prefix) -> bool:
        """Whether the route of an address leads there already; those of AllowedIPs cannot, since the longest come first."""
        if not self.dry:
            return self.host.kernel.route_covers(self.name, prefix)
        width = len(prefix.packed) * 8
        bits = int.from_bytes(prefix.packed, "big")
        return any(
            held.version == prefix.version
            and held.length <= prefix.length
            and (int.from_bytes(held.packed, "big") ^ bits) >> (width - held.length) == 0
            # The kernel makes no route of an IPv4 host address.
            and not (held.version == 4 and held.length == 32)
            for held in self.planned
        )

    def _route_all(self, prefixes: Sequence[Prefix], table: int | None, suffix: str) -> None:
        from ginnel.linux.netlink import BATCH_ABOVE

        if len(prefixes) > BATCH_ABOVE:
            words = f"ip -batch - # {len(prefixes)} x route add ... dev {self.name}{suffix}"
            self._step(words, lambda: self.host.kernel.add_routes(self.name, prefixes, table))
            return
        for prefix in prefixes:
            self._step(
                f"ip -{prefix.version} route add {prefix} dev {self.name}{suffix}",
                lambda prefix=prefix: self.host.kernel.add_routes(self.name, [prefix], table),  # type: ignore[misc]
            )

    def _add_defaults(self, defaults: Sequence[Prefix]) -> None:
        """A full tunnel: firewall, then for each IP version its default route in a table of its own and the two rules."""
        shared = contextlib.nullcontext() if self.dry else self.store.lock("")
        with shared:
            mark = self._fwmark_now()
            if not mark:
                mark = self._free_table()
                self._step(f"wg set {self.name} fwmark {mark}", lambda: self.backend.configure(self.name, f"fwmark={mark}\n"))
                self.record.fwmark = mark
            versions: list[Version] = [4 if prefix.version == 4 else 6 for prefix in defaults]
            addresses = self.file.interface.addresses if self.dry else self.host.kernel.addresses(self.name)
            script = nft.full_tunnel(self.name, mark, addresses, versions)
            words = f"nft -f - # table {nft.table_name(self.name)}"
            self._step(words, lambda: self.host.firewall.apply(script), FirewallDone(self.name, tuple(versions)), atomic=True)
            for prefix, version in zip(defaults, versions, strict=True):
                self._step(
                    f"ip -{version} route add {prefix} dev {self.name} table {mark}",
                    lambda prefix=prefix: self.host.kernel.add_routes(self.name, [prefix], mark),  # type: ignore[misc]
                )
                self._add_rule(Rule(version, 0, "unmarked", mark, mark))
                self._add_rule(Rule(version, 0, "specific", 0, 0))
            if 4 in versions:
                self._allow_marked_sources()

    def _add_rule(self, rule: Rule) -> None:
        """At the priority that the kernel would give it; a lower one when somebody took that at the same moment."""
        words = f"ip -{rule.version} rule add {rule.selector}"
        for attempt in range(_PRIORITY_TRIES):
            # The kernel's choice: just before the second rule (the first is `local`, at 0).
            priorities = self.host.kernel.rule_priorities(rule.version)
            priority = (priorities[1] if len(priorities) > 1 else 1) - 1 - attempt
            if priority < 1:
                raise GinnelError(f"{words}: no priority is left before {priorities[1:2]}\n  hint: see `ip -{rule.version} rule`")
            placed = Rule(rule.version, priority, rule.kind, rule.mark, rule.table)
            try:
                self._step(words, lambda placed=placed: self.host.kernel.add_rule(placed), RuleDone(placed), atomic=True)  # type: ignore[misc]
                return
            except KernelError as error:
                if error.errno != errno.EEXIST:
                    raise
        raise GinnelError(f"{words}: every priority was taken at once\n  hint: see `ip -{rule.version} rule`")

    def _free_table(self) -> int:
        for table in range(FIRST_TABLE, FIRST_TABLE + TABLES_MAX):
            if self.host.kernel.table_is_empty(table):
                return table
        raise GinnelError(
            f"no empty routing table from {FIRST_TABLE} to {FIRST_TABLE + TABLES_MAX}\n  hint: set FwMark to one of your own"
        )

    def _allow_marked_sources(self) -> None:
        """Strict reverse path filtering must look answers up by their mark, or it drops them."""
        if self.host.settings.read(SRC_VALID_MARK) == "1":
            return
        try:
            self._step(f"sysctl -q {SRC_VALID_MARK}=1", lambda: self.host.settings.write(SRC_VALID_MARK, "1"))
        except KernelError as error:
            if self._strict_filtering():
                raise
            self.console.note(f"{error.attempted}: {os.strerror(error.errno)}; not needed here, since rp_filter is not strict")

    def _strict_filtering(self) -> bool:
        """rp_filter 1 anywhere; the larger of `all` and the interface's counts, so 2 in `all` makes all of them loose."""
        everywhere = self.host.settings.read("net.ipv4.conf.all.rp_filter")
        if everywhere in {"1", "2"}:
            return everywhere == "1"
        names = self.host.kernel.link_names()
        return any(self.host.settings.read(f"net/ipv4/conf/{name}/rp_filter") == "1" for name in names)

    # -- what is so now: from the device where a hook may have changed it

    def _device(self) -> uapi.Device | None:
        if self.dry or not self.file.interface.hooks.pre_up:
            return None
        return self.backend.read(self.name)

    def _fwmark_now(self) -> int:
        device = self._device()
        return device.fwmark if device is not None else self.file.interface.fwmark or 0

    def _prefixes_now(self) -> list[Prefix]:
        device = self._device()
        if device is not None:
            return [Prefix.parse(text) for peer in device.peers for text in peer.allowed_ips]
        return list(dict.fromkeys(prefix for peer in self.file.peers for prefix in peer.prefixes))

    def _endpoints_now(self) -> list[Endpoint]:
        device = self._device()
        if device is not None:
            return [Endpoint.parse(peer.endpoint) for peer in device.peers if peer.endpoint]
        return list(self.endpoints.values())


def peer_names(file: WgQuickFile, endpoints: dict[PublicKey, Endpoint]) -> dict[str, dict[str, str]]:
    """What the daemon cannot learn over UAPI: the peers' names, and the host names behind their endpoints."""
    names: dict[str, dict[str, str]] = {}
    for peer in file.peers:
        entry = {"name": peer.name} if peer.name else {}
        if peer.endpoint is not None and not peer.endpoint.is_numeric and peer.public_key in endpoints:
            entry["endpoint_host"] = f"{peer.endpoint.host}:{endpoints[peer.public_key].port}"
        if entry:
            names[peer.public_key.base64()] = entry
    return names


def port_taken(port: int, what: str = "ListenPort") -> str:
    """Why a port cannot be had, by which process where /proc tells."""
    holder = _port_holder(port) if port else ""
    other = "ListenPort (without one, any free port is used)" if what == "ListenPort" else "port: `listen`"
    return f"{what} {port} is taken{f' by {holder}' if holder else ''}\n  hint: end it, or choose another {other}"


def _port_holder(port: int) -> str:
    inodes = set()
    for table in ("udp", "udp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(descriptor) in inodes for descriptor in (process / "fd").iterdir()):
                words = (process / "cmdline").read_text("utf-8", "replace").split("\0")
                if "ginnel.runtime.node" in words and "--name" in words[:-1]:
                    return f"the node {words[words.index('--name') + 1]} (process {process.name})"
                command = (process / "comm").read_text("utf-8", "replace").strip()
                return f"{command} (process {process.name})"
    return "the kernel (a WireGuard interface of its own?)"


# ---------------------------------------------------------------- down


def down(
    name: str,
    file: WgQuickFile | None,
    host: Host,
    store: Store,
    console: Console,
    *,
    save: Callable[[], None] | None = None,
) -> None:
    """
    Take *name* down: exactly what `up` did, in reverse.

    Args:
        file: the configuration as it is now, for its hooks; None = it cannot be read, and the record's hooks serve.
        save: called before the interface goes, when the file says SaveConfig.

    Raises:
        GinnelError: it is not ours, a PreDown hook failed (then it stays up), or something could not be undone.
    """
    with store.lock(name):
        record = store.load(name)
        if record is None:
            raise GinnelError(_not_ours(name))
        same_namespace(record)
        if file is not None:
            hooks = file.interface.hooks
            record.hooks = {"pre_down": list(hooks.pre_down), "post_down": list(hooks.post_down)}
        if not is_running(record):
            console.note(f"{name} was killed; mending what it left")
            mend(record, host, store, console)
            store.forget_crash(name)
            return
        for line in record.hooks.get("pre_down", []):
            console.step(shell.expand(line, name))
            host.shell.run(line, name)
        if save is not None:
            save()
        with deaf():
            problems = undo_all(record, host, store, console)
        for line in record.hooks.get("post_down", []):
            console.step(shell.expand(line, name))
            host.shell.run(line, name)
        store.forget_crash(name)
        if problems:
            raise GinnelError("\n".join(problems))


def mend(record: Record, host: Host, store: Store, console: Console, *, keep: tuple[type[Done], ...] = ()) -> None:
    """
    Undo what is left of a tunnel whose process is gone.

    Args:
        keep: effects that are not undone; they stay in the record.

    Raises:
        GinnelError: something could not be undone; the record keeps it.
    """
    phases = ("pre_down", "post_down") if record.complete else ()
    _tolerant_hooks(record, phases[:1], host, console)
    with deaf():
        problems = undo_all(record, host, store, console, keep=keep)
    _tolerant_hooks(record, phases[1:], host, console)
    if problems:
        raise GinnelError("\n".join(problems))


def _tolerant_hooks(record: Record, phases: Sequence[str], host: Host, console: Console) -> None:
    for phase in phases:
        for line in record.hooks.get(phase, []):
            console.step(shell.expand(line, record.name))
            try:
                host.shell.run(line, record.name)
            except GinnelError as error:
                console.note(str(error))


def _not_ours(name: str) -> str:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return f"{name} is not up\n  hint: `ginnel show` lists what is"
    return (
        f"{name} exists, but ginnel did not bring it up and will not touch it\n"
        f"  hint: `wg-quick down {name}`, or `ip link delete {name}`"
    )


# ---------------------------------------------------------------- undoing


def undo_all(record: Record, host: Host, store: Store, console: Console, *, keep: tuple[type[Done], ...] = ()) -> list[str]:
    """
    Undo all that is noted, last first, going on when one thing fails; the record is removed when nothing is left.

    Args:
        keep: effects that are left as they are, and in the record.

    Returns:
        what could not be undone, one text each.
    """
    problems: list[str] = []
    left: list[Done] = []
    for done in reversed(record.done):
        if isinstance(done, keep):
            left.append(done)
            continue
        try:
            _undo(done, record, host, store, console)
        except GinnelError as error:
            problems.append(f"could not undo: {error}")
            left.append(done)
    record.done = left[::-1]
    if record.done:
        record.complete = False
        record.owner = Process()
        store.save(record)
    else:
        store.delete(record.name)
    return problems


def _undo(done: Done, record: Record, host: Host, store: Store, console: Console) -> None:
    match done:
        case DnsDone(method):
            console.step(host.resolver.remove_words(method))
            host.resolver.remove(method)
        case FirewallDone(interface, versions):
            kept: list[Version] = [4 if version == 4 else 6 for version in versions]
            console.step(f"nft -f - # delete table {nft.table_name(interface)}")
            host.firewall.apply(nft.removal(interface, kept))
        case RuleDone(rule):
            console.step(f"ip -{rule.version} rule delete {rule.selector}")
            if not host.kernel.delete_rule(rule):
                console.note(f"rule {rule.priority} was gone already")
        case PolicyDone(version, words):
            change = ChangeRule(PolicyRule.parse(words), version, delete=True)
            console.step(change.words)
            try:
                host.requests.apply([change])
            except KernelError as error:
                if error.errno not in {errno.ENOENT, errno.EAFNOSUPPORT}:
                    raise
                console.note(f"rule {words} was gone already")
        case BlocksDone(routes):
            unblock(routes, host, console)
        case TableDone(table):
            console.step(f"nft -f - # delete table inet {table}")
            host.firewall.apply(f"add table inet {table}\ndelete table inet {table}\n")
        case FouDone(version, port):
            console.step(fou.words("del", version, port))
            host.fou.delete(version, port)
        case LinkDone():
            _undo_link(done, record, host, store, console)
        case LinksDone():
            _undo_links(done, record, host, store, console)
        case SettingDone():
            node_host.undo_setting(done, record, host, store, console)
        case OwnDone():
            node_host.undo_own(done, host, console)
        case ProxyDone():
            node_host.undo_proxy(done, host, console)


def unblock(routes: Sequence[str], host: Host, console: Console) -> None:
    """Delete the unreachable routes behind those into protected tunnels; one that is gone already is no problem."""
    requests = [BlockRoute(Route.parse(text), delete=True) for text in routes]
    for request in requests[:BLOCKS_TOLD]:
        console.step(request.words)
    if len(requests) > BLOCKS_TOLD:
        console.step(f"ip -batch - # {len(requests) - BLOCKS_TOLD} more of route delete unreachable")
    try:
        host.requests.apply(requests)
        return
    except KernelError as error:
        if error.errno not in _GONE_ROUTE:
            raise
    for request in requests:
        try:
            host.requests.apply([request])
        except KernelError as error:
            if error.errno not in _GONE_ROUTE:
                raise


def _undo_link(done: LinkDone, record: Record, host: Host, store: Store, console: Console) -> None:
    """The link by its index, then its process. A link of that name with another index is somebody else's."""
    if done.index and host.kernel.link_index(done.name) == done.index:
        console.step(f"ip link delete dev {done.name}")
        host.kernel.delete_link(done.name)
        if wait_gone(record.daemon):
            _forget_sockets(record, store)
            return
    end_process(record.daemon)
    _forget_sockets(record, store)


def _undo_links(done: LinksDone, record: Record, host: Host, store: Store, console: Console) -> None:
    """All links by their indexes in one go, then the process that served them."""
    made = [(name, index) for name, index in done.links if index]
    if made:
        words = f"ip link delete dev {made[0][0]}" if len(made) == 1 else f"ip -batch - # {len(made)} x link delete"
        console.step(words)
        host.requests.delete_links(made)
    end_process(record.daemon)
    _forget_sockets(record, store)


def _forget_sockets(record: Record, store: Store) -> None:
    """Sockets that a killed daemon left behind; a live one's are never touched."""
    if record.backend == "engine" and not record.daemon.alive and not uapi.is_served(record.name):
        for path in (uapi.socket_path(record.name), store.directory / f"{record.name}.sock"):
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """No interruption while things are undone: the second Ctrl-C of an impatient person must not leave half of them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
