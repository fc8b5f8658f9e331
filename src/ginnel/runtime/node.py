"""
The process that owns all tunnels of a node file: `python -m ginnel.runtime.node --name NAME`.

    --name NAME        the node file's name without its ending: of the control socket, /run/ginnel/NAME.sock
    --config PATH      the node file; only told again by `show`
    --foreground       stay; without it the process detaches and its starter returns when the devices exist
    --ready-fd N       "ready" or "error: ..." is written there, see `process`
    --write-keys DIR   debug mode: keys of IKE and ESP SAs for tshark, see `keylog`

What the tunnels are comes as one `NodeConfig` in JSON on standard input. The process makes the devices, which begin down, and
configures nothing else: addresses, routes and MTU are given by whoever started it. `ip link set gre1 up` makes a tunnel carry,
down ends that, deleting the device removes it.

One engine, one loop, one listener for links and routes, one tick every `TICK_S`, whatever the number of tunnels; events of the
engine go to the tunnel that they name, those about IKE and SAs to the one loop of `ipsec`, which is there when a tunnel is
protected. When routes or addresses of the host change, the kernel is asked once for each distinct remote where its packets
leave, and all tunnels are told (`gre.recursion`).

It ends, leaving nothing, when it is told to (SIGTERM, SIGINT, the control socket) and when its last device is deleted: exit 0.
It exits with 1 when it could not start, or the engine could not go on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import os
import re
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ginnel.config.node import NodeConfig, PlainConfig, from_json
from ginnel.engine import (
    VERSION,
    DeviceGone,
    EndpointChanged,
    Engine,
    HandshakeReceived,
    SessionConfirmed,
    SessionNeeded,
    open_engine,
)
from ginnel.engine.plain import ControlReceived, Mismatch, PathError
from ginnel.errors import GinnelError, UsageError
from ginnel.gre import recursion
from ginnel.runtime import process, stream
from ginnel.runtime.control import ControlSession, Name, peer_may_ask
from ginnel.runtime.daemon import RUN_DIRECTORY, check_name, explain
from ginnel.runtime.journal import Journal
from ginnel.runtime.links import SETTLE_S, Links, Watched
from ginnel.runtime.ping import Pinger
from ginnel.runtime.plain import PlainOwner, ends
from ginnel.runtime.resolve import Resolver
from ginnel.runtime.routes import Router, address_is_here
from ginnel.units import PublicKey
from ginnel.watch import plain as watch
from ginnel.watch.snapshot import SCHEMA, plain

if TYPE_CHECKING:
    from ginnel.engine import Event as WireguardEvent
    from ginnel.engine.plain import IkeEvent, PlainEvent, ProtectionEvent
    from ginnel.runtime.ipsec_node import NodeIpsec

    Event = WireguardEvent | PlainEvent | ProtectionEvent | IkeEvent

#: What no event tells is looked at this often.
TICK_S = 10.0
EVENTS_PER_TURN = 64
#: Events of IKE may cost milliseconds each: a turn takes no new ones after this.
TURN_S = 0.005
EVENTS_AT_ONCE = 8
#: Of a device whose MTU is left to whoever started us, until that is set.
DEFAULT_MTU = 1400
#: Looking at routes never takes more than one part in so many of the time.
ROUTES_SHARE = 20
#: Ten thousand tunnels.
CONFIG_LIMIT_BYTES = 32 << 20
#: Tunnels of a snapshot made at once: some milliseconds.
TUNNELS_PER_PIECE = 32
WARNINGS_LIMIT = 16
#: As a file may be called: one word that is no path.
NAME_PATTERN = re.compile(r"[a-zA-Z0-9_=+.@-]{1,64}")


@dataclass(frozen=True, slots=True)
class Options:
    """What to run."""

    config: NodeConfig
    path: str = ""
    #: Debug mode: the directory for keys; empty: none are written.
    write_keys: str = ""


def check_node_name(name: str) -> str:
    """The name when it can be a socket's; UsageError otherwise."""
    if not NAME_PATTERN.fullmatch(name) or name in {".", ".."}:
        raise UsageError(f"expected a node's name, found {name!r}\n  hint: at most 64 letters, digits or any of _ = + . @ -")
    return name


class Node:
    """Devices, sockets and owners of all tunnels, made together and ended together."""

    def __init__(self, options: Options, log: Journal, *, engine: Engine | None = None) -> None:
        """
        Make everything.

        Args:
            engine: a fake, in tests.

        Raises:
            GinnelError: with the message a person needs; nothing is left behind.
        """
        self.config, self._path, self.journal = options.config, options.path or options.config.path, log
        self.loop = asyncio.new_event_loop()
        self.finished: asyncio.Future[str] = self.loop.create_future()
        self.exit_code = 0
        self._started_unix = time.time()
        self._by_id: dict[int, PlainOwner] = {}
        self._watched: dict[int, Watched] = {}
        self._warnings: dict[str, None] = {}
        self._routes_timer: asyncio.TimerHandle | None = None
        self._routes_pause_s = SETTLE_S
        self._tick_timer: asyncio.TimerHandle | None = None
        with contextlib.ExitStack() as undo:
            undo.callback(self.loop.close)
            self.loop.set_exception_handler(self._loop_failed)
            for number in (signal.SIGTERM, signal.SIGINT):
                self.loop.add_signal_handler(number, self.stop, signal.Signals(number).name)
            path = f"{RUN_DIRECTORY}/{self.config.name}.sock"
            control = stream.bind(path, what="this node")
            undo.callback(stream.remove, path, stream.identity(path))
            undo.callback(control.close)
            self.resolver = Resolver(self.loop)
            undo.callback(self.resolver.close)
            self._pinger = Pinger(self.loop)
            undo.callback(self._pinger.close)
            self._router = Router()
            undo.callback(self._router.close)
            ipsec = self._read_credentials(options.write_keys)
            self.engine = engine if engine is not None else open_engine()
            undo.callback(self.engine.close)
            self._ipsec = ipsec
            if ipsec is not None:
                ipsec.open(self.engine)
                undo.callback(ipsec.close)
            self._links = Links(self.loop, host_changed=self.route_wanted)
            undo.callback(self._links.close)
            undo.callback(self._links.delete_devices)
            undo.callback(self._stop_timers)
            for position, config in enumerate(self.config.plain):
                self._add(config, position)
            self.loop.add_reader(self.engine.eventfd, self._drain)
            undo.callback(self.loop.remove_reader, self.engine.eventfd)
            undo.callback(stream.Listener(self.loop, control, self._control_session).close)
            self._undo = undo.pop_all()
        self._tick()

    def run(self, ready: process.Readiness) -> int:
        """Serve until the end; the exit code."""
        self.journal("started", node=self.config.name, pid=os.getpid(), tunnels=len(self._by_id))
        process.settle()
        ready.ready()
        with self._undo:
            reason = self.loop.run_until_complete(self.finished)
            self.journal("stopping", node=self.config.name, reason=reason)
        return self.exit_code

    def close(self) -> None:
        """End everything without having run; for tests."""
        self._undo.close()

    def _add(self, config: PlainConfig, position: int) -> None:
        local, remote = ends(config, position)
        device = 0
        if config.dev:
            try:
                device = socket.if_nametoindex(config.dev)
            except OSError:
                raise UsageError(f"{config.name}: there is no interface {config.dev}\n  hint: `ip link` lists them") from None
        udp = config.encapsulation
        try:
            tunnel = self.engine.plain(
                check_name(config.name),
                kind=config.kind,
                local=local,
                remote=remote,
                ikey=config.ikey,
                okey=config.okey,
                icsum=config.icsum,
                ocsum=config.ocsum,
                iseq=config.iseq,
                oseq=config.oseq,
                ttl=config.ttl,
                tos=config.tos or 0,
                tos_inherit=config.tos is None,
                pmtudisc=config.pmtudisc,
                ignore_df=config.ignore_df,
                encaplimit=config.encaplimit,
                flowlabel=config.flowlabel,
                udp=(udp.listen, udp.sport, udp.dport) if udp else None,
                tolerant=config.tolerant,
                fwmark=config.fwmark,
                device=device,
                mtu=config.mtu or DEFAULT_MTU,
                protected=config.ipsec is not None,
            )
        except FileExistsError as error:
            if error.errno == errno.EBUSY or error.filename in {None, config.name} or "/" in str(error.filename):
                raise UsageError(explain(error, config.name)) from None
            raise UsageError(
                f"{config.name}: its packets could not be told from those of {error.filename}: the same ends and no other key\n"
                "  hint: give both a key, and the same ones at the peer"
            ) from None
        except OSError as error:
            raise UsageError(explain(error, config.name)) from None
        protection = self._ipsec.protect(config, tunnel) if self._ipsec is not None and config.ipsec is not None else None
        owner = PlainOwner(self, config, tunnel, position=position, protection=protection)
        self._by_id[tunnel.id] = owner
        self._watched[tunnel.id] = self._links.watch(
            tunnel.tun_fd, link=owner.link_seen, moved=owner.link_moved, lost=owner.link_lost
        )

    def _read_credentials(self, write_keys: str) -> NodeIpsec | None:
        """What protected tunnels need, before anything is made; None (and nothing of it is imported) without such."""
        if not any(config.ipsec for config in self.config.plain):
            return None
        from ginnel.runtime.ipsec_node import NodeIpsec

        return NodeIpsec(self, self.config, f"{RUN_DIRECTORY}/{self.config.name}.crash", write_keys=write_keys)

    # ------------------------------------------------------------ life

    def stop(self, reason: str) -> None:
        """End the process; the first reason counts."""
        if not self.finished.done():
            self.finished.set_result(reason)

    def _stop_timers(self) -> None:
        for timer in (self._tick_timer, self._routes_timer):
            if timer is not None:
                timer.cancel()
        for owner in self._by_id.values():
            owner.close()

    def _loop_failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.mistake(context.get("exception") or RuntimeError(context.get("message")))

    def mistake(self, error: BaseException) -> None:
        """A mistake in this program: to the log and to `show`; its type and place."""
        where = traceback.extract_tb(error.__traceback__)[-1:]
        place = f"{os.path.basename(where[0].filename)}:{where[0].lineno}" if where else "?"
        self.journal("failed", error=type(error).__name__, at=place)
        self._warnings[f"a mistake in ginnel: {type(error).__name__} at {place}; please report it"] = None
        while len(self._warnings) > WARNINGS_LIMIT:
            del self._warnings[next(iter(self._warnings))]

    def mono_ns(self) -> int:
        """The engine's clock."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def _tick(self) -> None:
        self._tick_timer = self.loop.call_later(TICK_S, self._tick)
        for owner in list(self._by_id.values()):
            try:
                owner.tick()
            except Exception as error:  # noqa: BLE001 - one tunnel's mistake must not keep the tick from the others
                self.mistake(error)

    # ------------------------------------------------------------ the engine

    def _drain(self) -> None:
        """Some events; what is left is there in the next turn of the loop, after everybody else had theirs."""
        until = time.monotonic() + TURN_S
        for _ in range(EVENTS_PER_TURN // EVENTS_AT_ONCE):
            events = self.engine.drain(EVENTS_AT_ONCE)
            for event in events:
                try:
                    self._handle(event)
                except Exception as error:  # noqa: BLE001 - the engine tells once: one event's mistake must not lose the others
                    self.mistake(error)
            if len(events) < EVENTS_AT_ONCE or time.monotonic() > until:
                return

    def _handle(self, event: Event) -> None:
        match event:
            case DeviceGone(number, reason):
                if (owner := self._by_id.get(number)) is not None:  # else: closed a moment ago
                    owner.device_gone(reason)
            case EndpointChanged(number, _):
                if (owner := self._by_id.get(number)) is not None:
                    owner.peer_learned()
            case ControlReceived() | PathError() | Mismatch():
                if (owner := self._by_id.get(event.tunnel)) is not None:
                    owner.handle(event)
            case HandshakeReceived() | SessionNeeded() | SessionConfirmed():
                raise AssertionError("the engine tells of another kind of tunnel")
            case _:
                if self._ipsec is not None:
                    self._ipsec.handle(event)

    def tunnel_gone(self, tunnel: PlainOwner, reason: str, *, deleted: bool) -> None:
        """See `plain.Host`."""
        number = tunnel.tunnel.id
        if not deleted:
            self.exit_code = 1
            self.journal("worker_ended", interface=tunnel.name, reason=reason)
            self.stop(reason)
            return
        self.journal("device_gone", interface=tunnel.name)
        self._by_id.pop(number, None)
        watched = self._watched.pop(number, None)
        if watched is not None:
            self._links.forget(watched)
        if not self._by_id:
            self.stop("its last device was deleted")

    def ping(self, tunnel: PlainOwner) -> None:
        """See `plain.Host`."""
        way = tunnel.way()
        if way is not None:
            self._pinger.ask(way.remote, tunnel.answered, mark=way.mark, device=way.device)

    # ------------------------------------------------------------ routes

    def route_wanted(self) -> None:
        """See `plain.Host`; also when the host changed."""
        if self._routes_timer is None:
            self._routes_timer = self.loop.call_later(self._routes_pause_s, self._look_at_routes)

    def _look_at_routes(self) -> None:
        self._routes_timer = None
        began = time.monotonic()
        owners = [owner for owner in self._by_id.values() if owner.link_up]
        here = {local: address_is_here(local) for local in {owner.local for owner in owners} if local is not None}
        for owner in owners:
            owner.local_is_here = owner.local is None or here[owner.local]
        ways = {id(owner): way for owner in owners if (way := owner.way()) is not None}
        try:
            found = self._router.ask(list(set(ways.values())))
        except OSError as error:
            self.mistake(error)
            return
        routes = {number: found[way] for number, way in ways.items()}
        names = {owner.index: owner.name for owner in owners if not owner.moved}
        leaves_by = {
            owner.name: names[route.device]
            for owner in owners
            if (route := routes.get(id(owner))) is not None and route.device in names
        }
        for owner in owners:
            way_round = recursion.loop_of(owner.name, leaves_by)
            owner.routed(routes.get(id(owner)), recursion.sentence(owner.label(), way_round) if way_round else "")
        self._routes_pause_s = max(SETTLE_S, (time.monotonic() - began) * ROUTES_SHARE)

    # ------------------------------------------------------------ the control socket

    def _control_session(self, accepted: socket.socket) -> ControlSession | None:
        if peer_may_ask(accepted):
            return ControlSession(self)
        self.journal("control_refused", node=self.config.name, error="expected root or the owner of the process")
        return None

    def set_names(self, names: dict[PublicKey, Name]) -> None:  # noqa: ARG002 - see `control.Controlled`
        """Peers have names in WireGuard only."""
        raise ValueError("names: the tunnels of this process have no peers with keys")

    def ipsec(self, what: str, tunnel: str | None) -> list[str]:
        """See `control.Controlled`. One tunnel that cannot keeps the others from nothing."""
        wanted = [owner for owner in self._by_id.values() if owner.protection is not None and tunnel in {None, owner.name}]
        if not wanted:
            raise ValueError(f"there is no protected tunnel {tunnel}" if tunnel else "no tunnel of this node is protected")
        done, refused = [], []
        for owner in wanted:
            assert owner.protection is not None
            try:
                owner.protection.command(what)
            except ValueError as error:
                refused.append(str(error))
            else:
                done.append(owner.name)
        if refused and not done:
            raise ValueError("\n".join(refused[:WARNINGS_LIMIT]))
        return done

    def describe(self) -> dict[str, object]:
        """The answer to `{"op": "state"}`."""
        owners = list(self._by_id.values())
        return {
            "node": self.config.name,
            "pid": os.getpid(),
            "config": self._path,
            "namespace": os.readlink("/proc/self/ns/net"),
            "state": "up" if all(owner.carries for owner in owners) else "down",
            "tunnels": [
                {
                    "name": owner.name,
                    "kind": owner.config.kind,
                    "state": "up" if owner.carries else "down",
                    "error": owner.error,
                }
                for owner in owners
            ],
        }

    def show(self, tunnel: str | None = None) -> Iterator[str]:
        """
        One tunnel or all of them, judged: `ginnel.show/1` in pieces.

        Raises:
            ValueError: there is no such tunnel.
        """
        if tunnel is None:
            return self._show_all()
        for owner in self._by_id.values():
            if owner.name == tunnel:
                views = {"node": plain(self._node_view()), "tunnel": plain(self._view(owner))}
                return iter([json.dumps({"schema": SCHEMA, **views})])
        raise ValueError(f"tunnel: there is no {tunnel!r} here")

    def _show_all(self) -> Iterator[str]:
        yield f'{{"schema": "{SCHEMA}", "node": {json.dumps(plain(self._node_view()))}, "tunnels": ['
        owners, separator = list(self._by_id.items()), ""
        for start in range(0, len(owners), TUNNELS_PER_PIECE):
            views = [self._view(owner) for number, owner in owners[start : start + TUNNELS_PER_PIECE] if number in self._by_id]
            if views:
                yield separator + ", ".join([json.dumps(plain(view)) for view in views])
                separator = ", "
        yield "]}"

    def _view(self, owner: PlainOwner) -> watch.PlainView:
        return owner.view(pid=os.getpid(), started_unix=self._started_unix, node=self.config.name, path=self._path)

    def _node_view(self) -> watch.NodeView:
        carrier = self.engine.carrier()
        return watch.NodeView(
            self.config.name,
            self._path,
            os.getpid(),
            VERSION,
            self._started_unix,
            watch.CarrierView(carrier.no_tunnel, carrier.at_socket, carrier.sockets),
            (*self._warnings, *(self._ipsec.warnings() if self._ipsec is not None else ())),
            self._ipsec.counters() if self._ipsec is not None else None,
        )


def allow_many_descriptors() -> None:
    """As many descriptors as we may have: each tunnel takes one or two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def read_config(fd: int, name: str) -> NodeConfig:
    """
    The `NodeConfig` that comes through *fd*.

    Raises:
        UsageError: it is not one, or of another name.
    """
    text = b""
    while (piece := os.read(fd, 1 << 16)) and len(text) < CONFIG_LIMIT_BYTES:
        text += piece
    try:
        config = from_json(text.decode())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(f"standard input: expected a node's description in JSON: {type(error).__name__}") from None
    if config.name != name:
        raise UsageError(f"standard input: expected the description of {name!r}, found {config.name!r}")
    if config.wireguard:
        raise UsageError(f"{config.wireguard[0].name}: a node's process serves no WireGuard tunnels\n  hint: use a wg-quick file")
    if not config.plain:
        raise UsageError(f"{name}: expected at least one tunnel")
    return config


def serve(options: Options, log: Journal, ready: process.Readiness) -> int:
    """Make the tunnels, say whether they are usable, and serve them; the exit code."""
    process.slim()
    process.harden()
    allow_many_descriptors()
    try:
        node = Node(options, log)
    except GinnelError as error:
        log("start_failed", node=options.config.name, error=str(error).partition("\n")[0])
        ready.failed(str(error))
        return 1
    return node.run(ready)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of `python -m ginnel.runtime.node`."""
    parser = argparse.ArgumentParser("ginnel.runtime.node", description="The process that owns the tunnels of a node file.")
    parser.add_argument("--name", required=True, metavar="NAME")
    parser.add_argument("--config", default="", metavar="PATH")
    parser.add_argument("--foreground", action="store_true")
    parser.add_argument("--ready-fd", type=int, metavar="N")
    parser.add_argument("--write-keys", default="", metavar="DIR")
    given = parser.parse_args(argv)
    starter = process.Readiness(given.ready_fd)
    try:
        options = Options(read_config(0, check_node_name(given.name)), given.config, given.write_keys)
    except GinnelError as error:
        starter.failed(str(error))
        return 2
    return process.start(lambda log, ready: serve(options, log, ready), foreground=given.foreground, starter=starter)


if __name__ == "__main__":
    sys.exit(main())
