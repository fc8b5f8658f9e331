"""
`up`, `down`, `run`, `save`, `strip`: wg-quick's commands; the first three take node files as well.

A file is read and checked as a whole before anything is touched. `run` is `up` by a process that stays: it waits for a signal or
for the daemon's end, and takes down what is left; systemd is told READY when the tunnel is usable.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from ginnel.cli import files, ui
from ginnel.errors import ConfigError, GinnelError, KernelError, UsageError
from ginnel.linux import bringup
from ginnel.linux.backend import Backend, EngineBackend, wait_gone
from ginnel.linux.record import Record, Store

_CAP_NET_ADMIN, _CAP_NET_RAW = 12, 13
_TUN = Path("/dev/net/tun")

if TYPE_CHECKING:
    from ginnel.config.node import NodeConfig
    from ginnel.linux import node_bringup

_ARGUMENT = click.argument("tunnel", metavar="NAME|FILE")
_BACKEND = click.option(
    "--backend",
    type=click.Choice(["auto", "engine", "kernel"]),
    default="auto",
    help="Who carries the packets: our engine in user space (auto), or the kernel's module.",
)
_WRITE_KEYS = click.option(
    "--write-keys",
    metavar="DIR",
    help="Debug mode: write the keys of all IPsec SAs, as tshark reads them, into a new directory.",
)


@click.command()
@_ARGUMENT
@_BACKEND
@click.option("-n", "--dry-run", is_flag=True, help="Print every step and do none.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: the plan as JSON, schema ginnel.plan/1.")
@_WRITE_KEYS
def up(tunnel: str, backend: str, dry_run: bool, as_json: bool, write_keys: str | None) -> None:
    """
    Bring tunnels up: one from a wg-quick file, or all of a node file.

    NAME means /etc/wireguard/NAME.conf, or /etc/ginnel/NAME.toml where that is not; otherwise FILE is a path whose last part
    is the interface's name and `.conf`, or any name and `.toml`. Every mistake of the file is told at once, and then nothing is
    touched. Whatever fails later is undone.
    """
    if as_json and not dry_run:
        raise click.UsageError("--json goes with --dry-run")
    loaded = files.load(tunnel)
    store = Store()
    console = ui.ListConsole() if as_json else ui.StderrConsole()
    with bringup.real_host(store) as host:
        _bring_up(loaded, backend, host, store, console, dry_run=dry_run, write_keys=write_keys)
    if isinstance(console, ui.ListConsole):
        named = {"node": loaded.name} if loaded.is_node else {"interface": loaded.name}
        plan = {"schema": "ginnel.plan/1", **named, "steps": console.steps, "notes": console.notes}
        click.echo(json.dumps(plan, indent=2))


def _bring_up(
    loaded: files.Loaded,
    backend: str,
    host: bringup.Host,
    store: Store,
    console: bringup.Console,
    *,
    dry_run: bool = False,
    detached: bool = True,
    write_keys: str | None = None,
) -> None:
    """Check the file, whichever kind it is, and bring it up."""
    if not loaded.is_node:
        if write_keys is not None:
            raise UsageError("--write-keys is for node files with IPsec")
        file = files.check(loaded)
        if not dry_run:
            _may_we(backend)
        with _interruptible():
            bringup.up(file, loaded.name, host, _backend(backend, detached=detached), store, console, dry_run=dry_run)
        return
    from ginnel.linux import node_bringup

    config = files.check_node(loaded)
    chosen = backend if backend != "auto" else config.backend
    if chosen != "kernel":
        _check_protection(config, write_keys, console)
    if not dry_run:
        _may_we(chosen, raw=any(tunnel.encapsulation is None for tunnel in config.plain))
    with _interruptible():
        node_bringup.up(
            config, host, _node_backend(chosen, host, detached=detached, write_keys=write_keys), store, console, dry_run=dry_run
        )


def _check_protection(config: NodeConfig, write_keys: str | None, console: bringup.Console) -> None:
    """Secrets, keys and certificates are read before anything is touched; the process reads them again."""
    if not any(tunnel.ipsec for tunnel in config.plain):
        if write_keys is not None:
            raise UsageError(f"--write-keys: no tunnel of {config.path} is protected by IPsec")
        return
    from ginnel.runtime.ipsec_connection import doubts, read_all

    credentials = read_all(config)
    told: set[str] = set()
    for tunnel in config.plain:
        for doubt in doubts(tunnel, credentials, time.time_ns()) if tunnel.ipsec is not None else ():
            if doubt not in told:
                console.note(f"{tunnel.name}: {doubt}")
            told.add(doubt)
    if write_keys is not None:
        console.note(f"DEBUG: the keys of all IPsec SAs go to {write_keys}: whoever reads them reads the tunnels")


@click.command()
@_ARGUMENT
def down(tunnel: str) -> None:
    """
    Take a tunnel down: exactly what `up` did, in reverse.

    Works as well after the tunnel was killed: it mends what is left.
    """
    name, path = files.find(tunnel)
    store = Store()
    with bringup.real_host(store) as host:
        record = store.load(name)
        if record is None and name == tunnel:
            _not_of_a_node(name)
        if path.suffix == ".toml" or (record is not None and record.config.endswith(".toml")):
            take_node_down(name, host, store)
        else:
            take_down(name, tunnel, host, store)


def _not_of_a_node(tunnel: str) -> None:
    """A tunnel of a node file does not go down by itself: whoever tries is told by what name it does."""
    from ginnel.cli.devices import node_of

    node = node_of(tunnel)
    if node is not None:
        raise GinnelError(
            f"{tunnel} is a tunnel of the node {node}, which goes down as a whole\n"
            f"  hint: `ginnel down {node}`; to stop this one alone: `ip link set {tunnel} down`"
        )


def take_node_down(name: str, host: bringup.Host, store: Store) -> None:
    """Down by the record alone: a node file has no hooks."""
    with _interruptible():
        bringup.down(name, None, host, store, ui.StderrConsole())


def take_down(name: str, tunnel: str, host: bringup.Host, store: Store) -> None:
    """Down, by the hooks of the file if it can be read, else by those of the record."""
    console = ui.StderrConsole()
    try:
        loaded = files.load(tunnel)
        file = files.check(loaded)
    except (ConfigError, GinnelError) as error:
        if store.load(name) is None:
            raise
        ui.warn(f"the hooks are those that `up` read, since the file cannot be used now: {error}")
        bringup.down(name, None, host, store, console)
        return
    save_first = (lambda: _save(loaded, host, store)) if file.interface.save_config else None
    with _interruptible():
        bringup.down(name, file, host, store, console, save=save_first)


@click.command()
@_ARGUMENT
@_BACKEND
@_WRITE_KEYS
def run(tunnel: str, backend: str, write_keys: str | None) -> int:
    """
    The same as `up`, in the foreground, for systemd.

    Ends with `down` on TERM or INT, and with an error when the tunnel's process ends by itself. With Type=notify systemd learns
    when the tunnel is usable.
    """
    loaded = files.load(tunnel)
    store = Store()
    with bringup.real_host(store) as host:
        with _interruptible():
            _bring_up(loaded, backend, host, store, ui.StderrConsole(), detached=False, write_keys=write_keys)
            try:
                record = store.load(loaded.name)
                _notify(f"READY=1\nSTATUS={loaded.name} is up\n")
                died = record is None or _wait_for_the_end(record)
            except KeyboardInterrupt:
                died = False
        _notify("STOPPING=1\n")
        _wait_for_others(loaded.name, store)
        if store.load(loaded.name) is None:
            return ui.DONE  # `ginnel down` did it
        if loaded.is_node:
            take_node_down(loaded.name, host, store)
        else:
            take_down(loaded.name, tunnel, host, store)
    if died:
        raise GinnelError(f"the process of {loaded.name} ended by itself; what it left was mended")
    return ui.DONE


def _wait_for_the_end(record: Record) -> bool:
    """Until TERM, INT or HUP (False), or until the daemon has ended (True). The kernel's own tunnels only end by a signal."""
    numbers = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        while True:
            if record.daemon.pid and not record.daemon.alive:
                wait_gone(record.daemon)
                return True
            if signal.sigwait(numbers) != signal.SIGCHLD:
                return False
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def _wait_for_others(name: str, store: Store) -> None:
    """`ginnel down` of somebody else may be at work; it is over in seconds, and then there is nothing left to do."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with store.lock(name):
                return
        except GinnelError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _notify(text: str) -> None:
    """sd_notify(3): one datagram to the service manager, if there is one."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if where:
        address = "\0" + where[1:] if where.startswith("@") else where
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.sendto(text.encode(), address)


@click.command()
@_ARGUMENT
def save(tunnel: str) -> None:
    """
    Write what runs back to its file: peers, addresses, endpoints as they are now.

    Names and host names of endpoints are kept; other comments are lost, as with wg-quick.
    """
    loaded = files.load_quick(tunnel)
    store = Store()
    with bringup.real_host(store) as host:
        _save(loaded, host, store)


def _save(loaded: files.Loaded, host: bringup.Host, store: Store) -> None:
    from ginnel.cli.devices import read
    from ginnel.linux.saving import saved_text

    file = files.check(loaded)
    ui.StderrConsole().step(f"wg showconf {loaded.name}")
    device = read(loaded.name)
    record = store.load(loaded.name)
    kernel = host.kernel
    text = saved_text(
        file,
        device,
        addresses=kernel.addresses(loaded.name),
        mtu=kernel.link_mtu(loaded.name),
        chosen_fwmark=record.fwmark if record is not None and file.interface.fwmark is None else 0,
    )
    files.write_secret(loaded.path, text)


@click.command()
@_ARGUMENT
def strip(tunnel: str) -> None:
    """Print a file without wg-quick's own keys, for `wg syncconf NAME <(ginnel strip NAME)`."""
    from ginnel.config.wgquick import strip as stripped

    text = stripped(files.load_quick(tunnel).text)
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


# ---------------------------------------------------------------- what a tunnel needs


def _backend(choice: str, *, detached: bool = True) -> Backend:
    if choice == "kernel":
        from ginnel.linux.kernel_wireguard import KernelBackend

        return KernelBackend()
    return EngineBackend(detached=detached)


def _node_backend(choice: str, host: bringup.Host, *, detached: bool, write_keys: str | None = None) -> node_bringup.NodeBackend:
    if choice == "kernel":
        from ginnel.linux.kernel_gre import KernelTunnels

        return KernelTunnels(host.requests, host.fou)
    from ginnel.linux.node_bringup import NodeProcess

    return NodeProcess(detached=detached, write_keys=os.path.abspath(write_keys) if write_keys is not None else "")


def _may_we(backend: str, *, raw: bool = False) -> None:
    """
    What would fail later with less clear words: no privilege, no /dev/net/tun.

    Args:
        raw: packets of protocols other than UDP are sent and received.
    """
    needed = [("NET_ADMIN", _CAP_NET_ADMIN)] + ([("NET_RAW", _CAP_NET_RAW)] if raw and backend != "kernel" else [])
    for name, number in needed:
        if not _has(number):
            raise GinnelError(
                f"this needs CAP_{name}, which this process does not have\n"
                f"  hint: run it as root (`sudo ginnel …`); in a container, add `--cap-add {name}`"
            )
    if backend == "kernel":
        return
    try:
        os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise KernelError(
            f"open {_TUN}",
            errno.ENOENT,
            f"`mkdir -p {_TUN.parent} && mknod {_TUN} c 10 200`, or `modprobe tun`; in a container, add `--device {_TUN}`",
        ) from None
    except OSError as error:
        raise KernelError(
            f"open {_TUN}", error.errno or errno.EIO, "the container or the host does not allow TUN devices"
        ) from None


def _has(capability: int) -> bool:
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> capability & 1)
    return os.geteuid() == 0


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """TERM and HUP raise as INT does, so that what was begun is undone."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before: list[Callable[[int, FrameType | None], object] | int | None] = [
        signal.signal(number, interrupt) for number in numbers
    ]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
