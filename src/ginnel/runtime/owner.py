"""
The owner of one WireGuard tunnel: a machine, an engine's tunnel, a loop, one timer.

    engine's eventfd --drain--> events ----> Interface ----poll----> effects --apply--> Tunnel
    loop's timer ------timeout-------------^      ^-------- commands: UAPI, link monitor, names, state file

Every input is followed by `_apply`, which polls the machine until it waits and does what it says, in order: handshake messages
leave before the next event is looked at. One drain takes at most `EVENTS_PER_TURN`, so sockets and signals are served
between batches even when handshakes come faster than they can be answered; the engine's queue is bounded and its load gate
decides then.

Errors: a handshake that the network refuses is told to the machine, which repeats it. A port that is taken is told to whoever
asked. A mistake in this program is logged, counted, shown by `ginnel show`, and ends nothing: a tunnel that carries is worth
more than the answer that failed.

The timer is armed for the machine's next deadline and never re-armed for a later one: it fires early then, finds nothing due
and is armed anew, which is far cheaper than moving it with every handshake. The loop's clock stands still in suspend; the first
event of the engine after a resume brings overdue deadlines forward.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, assert_never

from ginnel import crypto
from ginnel.engine import (
    VERSION,
    DeviceGone,
    EndpointChanged,
    Engine,
    Event,
    HandshakeReceived,
    SessionConfirmed,
    SessionNeeded,
    TunnelLike,
)
from ginnel.runtime import state
from ginnel.runtime.control import Name
from ginnel.runtime.journal import Journal
from ginnel.runtime.monitor import Link, Monitor, device_name
from ginnel.runtime.names import Facts, Names
from ginnel.units import NS_PER_S, Endpoint, Now, Prefix, PublicKey
from ginnel.watch import health
from ginnel.watch.snapshot import PeerView, TunnelView, json_pieces
from ginnel.wireguard import effects
from ginnel.wireguard import peer as machine
from ginnel.wireguard.interface import Interface
from ginnel.wireguard.peer import Remembered

if TYPE_CHECKING:
    from ginnel.engine.plain import IkeEvent, PlainEvent, ProtectionEvent

#: About 10 ms of handshakes.
EVENTS_PER_TURN = 64
#: Sentences kept for `show`; the newest.
WARNINGS_LIMIT = 16


def read_clocks() -> Now:
    """Both clocks, now."""
    return Now(time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns())


class Owner:
    """See the module. `finished` is resolved with the reason when the process is to end."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        tunnel: TunnelLike,
        journal: Journal,
        *,
        state_path: str,
        uapi_path: str,
        config: str = "",
        mtu: int = 1420,
        clocks: Callable[[], Now] = read_clocks,
    ) -> None:
        self.loop, self.engine, self.tunnel, self.journal = loop, engine, tunnel, journal
        self.config, self.uapi_path = config, uapi_path
        self._state_path = state_path
        self._clocks = clocks
        self.interface = Interface(add_peer=tunnel.add_peer, reserve_index=tunnel.reserve_index, entropy=crypto.entropy)
        self.finished: asyncio.Future[str] = loop.create_future()
        #: What the process is to end with, once `finished`.
        self.exit_code = 0
        self.names = Names(loop, journal, facts=self._facts, set_endpoint=self._resolved, mono_ns=lambda: clocks().mono_ns)
        self._started_unix = clocks().unix_ns / NS_PER_S
        self._mtu = mtu
        self._link_up = False
        self._moved = False
        #: What does not pass by itself, as sentences; newest last.
        self._warnings: dict[str, None] = {}
        #: Handle -> when the engine said that data went unanswered.
        self._silent_ns: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._save_timer: asyncio.TimerHandle | None = None
        self._save_pause_s = state.INTERVAL_S
        #: The thread that writes, while it does, and whether something changed since it began.
        self._saving: threading.Thread | None = None
        self._changed_since = False
        self._monitor = Monitor(
            loop,
            tunnel.tun_fd,
            link=self._link_seen,
            moved=self._device_moved,
            lost=self._device_out_of_sight,
            host_changed=self._host_changed,
        )

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Take up what was remembered, listen to the engine and to the kernel."""
        self.loop.set_exception_handler(self._loop_failed)
        try:
            remembered = state.read(self._state_path)
        except (ValueError, OSError) as error:
            self.journal("state_unreadable", path=self._state_path, error=error)
            remembered = {}
        if remembered:
            self.journal("remembered", peers=len(remembered))
            self.interface.restore(remembered, self._clocks())
        self.loop.add_reader(self.engine.eventfd, self._drain)
        self._monitor.start()

    def stop(self, reason: str) -> None:
        """End the process; the first reason counts."""
        if not self.finished.done():
            self.finished.set_result(reason)

    def close(self) -> None:
        """Stop listening, write down what is worth remembering, end the engine (which deletes the device)."""
        self.loop.remove_reader(self.engine.eventfd)
        self._monitor.close()
        self.names.close()
        for timer in (self._timer, self._save_timer):
            if timer is not None:
                timer.cancel()
        unsaved = self._save_timer is not None or self._changed_since
        if self._saving is not None:
            self._saving.join()
        if unsaved:
            self._write(self.interface.remembered(self.tunnel.counters(), self._clocks()))
        self.engine.close()

    def _loop_failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._mistake(context.get("exception") or RuntimeError(context.get("message")))

    def _mistake(self, error: BaseException) -> None:
        """A mistake in this program: to the log and to `show`. Its type and place, not its text, which might quote a secret."""
        where = traceback.extract_tb(error.__traceback__)[-1:]
        place = f"{os.path.basename(where[0].filename)}:{where[0].lineno}" if where else "?"
        self.journal("failed", error=type(error).__name__, at=place)
        self._warn(f"a mistake in ginnel: {type(error).__name__} at {place}; please report it")

    def _warn(self, text: str) -> None:
        self._warnings.pop(text, None)
        self._warnings[text] = None
        while len(self._warnings) > WARNINGS_LIMIT:
            del self._warnings[next(iter(self._warnings))]

    # ------------------------------------------------------------ the machine

    def _drain(self) -> None:
        """One batch of the engine's events through the machine."""
        now = self._clocks()
        for event in self.engine.drain(EVENTS_PER_TURN):
            try:
                self._handle(event, now)
                self._apply()
            except Exception as error:  # noqa: BLE001 - the engine asks once: one event's mistake must not lose the others
                self._mistake(error)
        timer = self._timer
        if timer is not None and self._timer_ns <= now.mono_ns and timer.when() > self.loop.time():
            self._arm(self._timer_ns)  # the loop's clock stood still in a suspend

    def _handle(self, event: Event | PlainEvent | ProtectionEvent | IkeEvent, now: Now) -> None:
        interface = self.interface
        match event:
            case HandshakeReceived(_, message, source):
                drop = interface.receive(message, source, now)
                if drop is not None and self.journal.debugging:
                    self.journal("handshake_refused", reason=drop.value)
            case SessionNeeded(_, peer, reason):
                if reason == "silent" and interface.peer_of(peer) is not None:
                    self._silent_ns[peer] = now.mono_ns
                interface.session_needed(peer, reason, now)
            case SessionConfirmed(_, peer, index):
                interface.session_confirmed(peer, index, now)
            case EndpointChanged(_, peer):
                interface.endpoint_changed(peer, now)
                self._changed()
                if self.journal.debugging:
                    self.journal("endpoint_changed", peer=self._label(peer), endpoint=self._endpoint(peer))
            case DeviceGone(_, reason):
                self._device_gone(reason)
            case _:
                raise AssertionError("the engine tells of a plain tunnel, and there is none here")

    def _device_gone(self, reason: str) -> None:
        try:
            device_name(self.tunnel.tun_fd)
        except OSError:
            pass  # deleted, as somebody wished
        else:
            self.exit_code = 1
            self.journal("worker_ended", interface=self.tunnel.name, reason=reason)
        self.stop(reason)

    def _timeout(self) -> None:
        self._timer = None
        try:
            self.interface.timeout(self._clocks())
        except Exception as error:  # noqa: BLE001 - what it was about is lost, the other deadlines are not
            self._mistake(error)
        self._apply()

    def _apply(self) -> OSError | None:
        """
        Do what the machine says until it waits. An effect that fails by our mistake does not keep back those behind it.

        Returns:
            The first error of an effect that serves a command (a port that is taken), for whoever gave the command.
        """
        poll, tunnel = self.interface.poll, self.tunnel
        failure: OSError | None = None
        while True:
            output = poll()
            match output:
                case effects.WaitUntil(mono_ns):
                    if mono_ns is not None and (self._timer is None or mono_ns < self._timer_ns):
                        self._arm(mono_ns)
                    return failure
                case effects.SendHandshake(peer):
                    try:
                        output.apply(tunnel)
                    except OSError as error:
                        self.interface.send_failed(peer, error.strerror or str(error))
                case effects.RemovePeer(peer):
                    self._silent_ns.pop(peer, None)
                    output.apply(tunnel)
                case effects.Established() | effects.AttemptStarted() | effects.GaveUp() | effects.ClockBehind():
                    self._tell(output)
                case _:
                    try:
                        output.apply(tunnel)
                    except OSError as error:
                        failure = failure or error
                    except Exception as error:  # noqa: BLE001 - see above
                        self._mistake(error)
                        failure = failure or OSError(errno.EIO, "a mistake in ginnel, see its log")

    def _arm(self, mono_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = mono_ns
        delay_s = max(0, mono_ns - self._clocks().mono_ns) / NS_PER_S
        self._timer = self.loop.call_later(delay_s, self._timeout)

    def _tell(self, event: effects.Event) -> None:
        """An event of the machine: to the log, and to the state file."""
        match event:
            case effects.Established(peer=peer, initiator=initiator):
                self._silent_ns.pop(peer, None)
                self._changed()
                if self.journal.debugging:
                    self.journal("session_started", peer=self._label(peer), initiator=initiator)
            case effects.AttemptStarted():
                self._changed()  # a timestamp was sent
            case effects.GaveUp(peer, initiations):
                self.journal("handshake_gave_up", peer=self._label(peer), initiations=initiations)
            case effects.ClockBehind(peer, behind_ns):
                behind = health.age_text(behind_ns / NS_PER_S)
                self.journal("clock_set_back", peer=self._label(peer), behind=behind)
                self._warn(
                    f"the clock was set back: it is {behind} before a timestamp already sent to {self._label(peer)}; "
                    "handshakes go on from that timestamp"
                )
            case _:
                assert_never(event)

    def _label(self, handle: int) -> str:
        peer = self.interface.peer_of(handle)
        return self.names.label(peer.public_key) if peer is not None else str(handle)

    def _endpoint(self, handle: int) -> Endpoint | None:
        try:
            found = self.tunnel.peer_counters(handle).endpoint
        except KeyError:
            return None
        return Endpoint(*found) if found else None

    # ------------------------------------------------------------ commands

    def set_private_key(self, key: crypto.Secret) -> None:
        """Become another identity; all zero for none."""
        self.interface.set_private_key(key, self._clocks())
        self._apply()

    def set_listen_port(self, port: int) -> None:
        """Listen there. OSError (EADDRINUSE) leaves the old port."""
        old = self.interface.listen_port
        self.interface.set_listen_port(port)
        failure = self._apply()
        if failure is not None:
            self.interface.listen_port = old
            raise failure
        self._keep_port()

    def set_fwmark(self, mark: int) -> None:
        """Mark what the sockets send. OSError leaves the old mark."""
        old = self.interface.fwmark
        self.interface.set_fwmark(mark)
        failure = self._apply()
        if failure is not None:
            self.interface.fwmark = old
            raise failure

    def replace_peers(self) -> None:
        """Remove every peer."""
        self.interface.replace_peers()
        self._apply()

    def configure_peer(self, change: machine.PeerChange) -> bool:
        """Add, change or remove one peer; whether there is one afterwards. OSError when the engine cannot."""
        before = self.interface.peer(change.public_key) if self.journal.debugging else None
        peer = self.interface.configure_peer(change, self._clocks())
        failure = self._apply()
        if self.journal.debugging and (before is None) != (peer is None):
            self.journal("peer_added" if before is None else "peer_removed", peer=self.names.label(change.public_key))
        if failure is not None:
            raise failure
        return peer is not None

    def configured(self) -> None:
        """
        A whole request was applied: names are looked at, and an interface that could not open its sockets tries again.

        Raises:
            OSError: it still cannot.
        """
        self.names.look_soon()
        if self._link_up and not self.interface.is_up:
            failure = self._set_up()
            if failure is not None:
                raise failure

    def set_names(self, names: dict[PublicKey, Name]) -> None:
        """What the configuration calls its peers."""
        self.names.replace(names)

    # ------------------------------------------------------------ what the kernel tells

    def _link_seen(self, link: Link) -> None:
        if link.mtu != self._mtu:
            self._mtu = link.mtu
            self.tunnel.set_mtu(link.mtu)
            self.journal("link_mtu", interface=link.name, mtu=link.mtu)
        if link.up != self._link_up:
            self._link_up = link.up
            if link.up:
                self._set_up()
            else:
                self.interface.down()
                self._apply()
                self.journal("link_down", interface=link.name)

    def _set_up(self) -> OSError | None:
        self.interface.up(self._clocks())
        failure = self._apply()
        if failure is not None:
            self.interface.down()
            self._apply()
            self.journal("link_up_failed", interface=self.tunnel.name, port=self.interface.listen_port, error=failure.strerror)
            self._warn(self._no_sockets(failure))
            return failure
        for text in [text for text in self._warnings if text.startswith(_NO_SOCKETS)]:
            del self._warnings[text]
        self._keep_port()
        self.journal("link_up", interface=self.tunnel.name, port=self.tunnel.listen_port)
        return None

    def _keep_port(self) -> None:
        """A port that the system chose is kept across down and up, as the kernel's WireGuard does: peers know it."""
        if self.interface.is_up and self.interface.listen_port == 0:
            self.tunnel.set_listen_port(self.tunnel.listen_port)

    def _no_sockets(self, error: OSError) -> str:
        port = self.interface.listen_port
        return f"{_NO_SOCKETS} UDP port {port}: {error.strerror}; set another, or free it and set this one again"

    def _device_moved(self, inside: bool) -> None:
        self._moved = not inside
        self.journal("link_moved", interface=self.tunnel.name, namespace=self._namespace())

    def _device_out_of_sight(self, reason: str) -> None:
        self.journal("link_lost_sight", interface=self.tunnel.name, error=reason)
        self._warn(f"the device moved where it cannot be watched ({reason}): up, down and MTU are no longer followed")

    def _host_changed(self) -> None:
        self.tunnel.clear_sources()
        self.journal("host_changed", interface=self.tunnel.name)

    def _namespace(self) -> str:
        return "moved" if self._moved else "birth"

    # ------------------------------------------------------------ what is remembered

    def _changed(self) -> None:
        """Something worth remembering happened: write it down soon."""
        if self._save_timer is None and self._saving is None:
            self._save_timer = self.loop.call_later(self._save_pause_s, self._save)
        elif self._saving is not None:
            self._changed_since = True

    def _save(self) -> None:
        """Gather on the loop; a thread makes the text and writes it, some 50 ms for ten thousand peers."""
        self._save_timer = None
        self._changed_since = False
        remembered = self.interface.remembered(self.tunnel.counters(), self._clocks())
        thread = threading.Thread(target=self._write, args=(remembered,), name="state", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the host gives no more threads
            self._changed_since = True
            self._saved(str(error), 0.0)
        else:
            self._saving = thread

    def _write(self, remembered: Mapping[PublicKey, Remembered]) -> None:
        began = time.thread_time()
        error = ""
        try:
            state.write(self._state_path, state.encode(remembered))
        except OSError as failure:
            error = failure.strerror or str(failure)
        except Exception as failure:  # noqa: BLE001 - a mistake of ours must not be the last time that anything is written
            error = type(failure).__name__
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self.loop.call_soon_threadsafe(self._saved, error, time.thread_time() - began)

    def _saved(self, error: str, took_s: float) -> None:
        self._saving = None
        self._save_pause_s = max(state.INTERVAL_S, took_s * state.SHARE)
        if error:
            self.journal("state_unwritable", path=self._state_path, error=error)
        if self._changed_since:
            self._changed()

    # ------------------------------------------------------------ names

    def _facts(self, public_key: PublicKey) -> Facts | None:
        peer = self.interface.peer(public_key)
        if peer is None:
            return None
        now = self._clocks()
        age_s = (now.mono_ns - peer.handshake_mono_ns) / NS_PER_S if peer.handshake_unix_ns else None
        return Facts(self._endpoint(peer.handle), age_s, self.interface.is_up and peer.initiations > 0)

    def _resolved(self, public_key: PublicKey, endpoint: Endpoint) -> None:
        self.configure_peer(machine.PeerChange(public_key, update_only=True, endpoint=endpoint))

    # ------------------------------------------------------------ looking

    def ipsec(self, what: str, tunnel: str | None) -> list[str]:  # noqa: ARG002 - see `control.Controlled`
        """WireGuard has no IKE."""
        raise ValueError("ipsec: this is a WireGuard tunnel")

    def describe(self) -> dict[str, object]:
        """The answer to `{"op": "state"}`."""
        return {
            "interface": self.tunnel.name,
            "pid": os.getpid(),
            "state": "up" if self.interface.is_up else "down",
            "config": self.config,
            "uapi_path": self.uapi_path,
        }

    def show(self, tunnel: str | None = None) -> Iterator[str]:
        """
        Everything there is to show, judged: the JSON of `ginnel.show/1` in pieces, the loop being free between them.

        Raises:
            ValueError: *tunnel* is another's name.
        """
        if tunnel not in {None, self.tunnel.name}:
            raise ValueError(f"tunnel: there is no {tunnel!r} here")
        now = self._clocks()
        counters = {counter.peer: counter for counter in self.tunnel.counters()}
        judgement = health.Judgement()
        peers = (
            judgement.seen(self._peer_view(view, counters[view.handle], now))
            for view in list(self.interface.view(now))
            if view.handle in counters and self.interface.peer_of(view.handle) is not None
        )
        return json_pieces(peers, lambda: self._tunnel_view(judgement))

    def _tunnel_view(self, judgement: health.Judgement) -> TunnelView:
        refused = {f"handshake_{drop.name.lower()}": count for drop, count in self.interface.drops.items()}
        public_key = self.interface.public_key
        return TunnelView(
            name=self.tunnel.name,
            kind="wireguard",
            backend="engine",
            version=VERSION,
            pid=os.getpid(),
            started_unix=self._started_unix,
            config=self.config,
            state="up" if self.interface.is_up else "down",
            public_key=public_key.base64() if public_key else None,
            listen_port=self.tunnel.listen_port,
            fwmark=self.interface.fwmark,
            mtu=self._mtu,
            namespace=self._namespace(),
            configured=judgement.configured.verdict(),
            alive=judgement.alive.verdict(),
            carrying=judgement.carrying.verdict(),
            drops={**self.tunnel.drops(), **refused},
            offloads=self.tunnel.offloads(),
            warnings=tuple(self._warnings),
            peers=(),
        )

    def _peer_view(self, view: machine.PeerView, counter: Any, now: Now) -> PeerView:
        peer = self.interface.peer_of(view.handle)
        if peer is None:
            raise AssertionError("the machine was asked for it a moment ago")
        key = view.public_key
        prefixes = self.tunnel.allowed_ips(view.handle)
        endpoint = str(Endpoint(*counter.endpoint)) if counter.endpoint else None
        session_age_s = counter.session_age_ns / NS_PER_S if counter.session == "current" else None
        handshake_age_s = view.handshake_age_ns / NS_PER_S if view.handshake_age_ns is not None else None
        receive_age_s = _age_s(counter.last_receive_ns, now)
        send_age_s = _age_s(counter.last_send_ns, now)
        silent_ns = self._silent_ns.get(view.handle)
        host = self.names.host(key)
        alive = health.judge_alive(
            session_age_s=session_age_s, handshake_age_s=handshake_age_s, why_not="" if view.state == "up" else view.why
        )
        return PeerView(
            name=self.names.name(key),
            public_key=key.base64(),
            has_preshared_key=peer.preshared_key is not None,
            endpoint=endpoint,
            endpoint_host=host,
            allowed_ips=tuple([str(Prefix(packed, length)) for packed, length in prefixes]),
            keepalive_s=peer.keepalive_s,
            state=view.state,
            why=view.why,
            configured=health.judge_configured(
                has_key=view.state != "no-key",
                up=self.interface.is_up,
                allowed_ips=len(prefixes),
                endpoint=endpoint,
                endpoint_host=host,
            ),
            alive=alive,
            carrying=health.judge_carrying(
                alive=alive.answer == "yes",
                receive_age_s=receive_age_s,
                send_age_s=send_age_s,
                silent_age_s=_age_s(silent_ns, now) if silent_ns else None,
            ),
            handshake_unix=view.handshake_unix_ns / NS_PER_S,
            handshake_age_s=handshake_age_s,
            session_age_s=session_age_s,
            last_receive_age_s=receive_age_s,
            last_send_age_s=send_age_s,
            rx_bytes=counter.rx_bytes,
            tx_bytes=counter.tx_bytes,
            rx_packets=counter.rx_packets,
            tx_packets=counter.tx_packets,
            staged=counter.staged,
        )


_NO_SOCKETS = "the interface is up but has no sockets:"


def _age_s(mono_ns: int, now: Now) -> float | None:
    """The age of a moment on the engine's clock, which says 0 for never."""
    return max(0, now.mono_ns - mono_ns) / NS_PER_S if mono_ns else None
