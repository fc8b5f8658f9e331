"""
The loop between the IKE machine and the engine: one for a process, opened when one of its tunnels is protected.

    IKE messages, unknown SPIs  ------>            -----> IkePorts
    what is told of SAs         ------>    Ike     -----> inbound and outbound SAs of tunnels
    the timer, commands         ------>            -----> the log, `show`, keys for tshark (in debug mode)

It has no opinions: an input goes in, then what the machine says is done until it waits. A datagram that the network refuses is
not repeated here (the machine repeats by time); an SA that the engine refuses is a mistake of this program, and the tunnel stays
closed, since the engine sends nothing without one.

Tunnels are named by what they are called in the node file, whatever becomes of the device's name.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, assert_never

from ginnel.config.node import IpsecConfig
from ginnel.crypto.ike import KeyMaterial
from ginnel.engine.plain import (
    IkeEvent,
    IkePortsLike,
    IkeReceived,
    PlainTunnelLike,
    ProtectionEvent,
    SaExpiring,
    SaMissing,
    SaMoved,
    SaUsed,
    UnknownSpi,
)
from ginnel.ikev2 import effects
from ginnel.ikev2.connection import Connection
from ginnel.ikev2.effects import Path
from ginnel.ikev2.ike import Ike
from ginnel.ikev2.selectors import for_engine
from ginnel.ikev2.view import ConnectionView
from ginnel.runtime.journal import Journal
from ginnel.runtime.keylog import KeyLog
from ginnel.units import NS_PER_S, Now

#: A hard limit of bytes or packets is so many times the soft one: time for a rekeying at full speed.
HARD_FACTOR = 2
#: What was already explained is not explained again in the log for so long.
EXPLAIN_AGAIN_NS = 600 * NS_PER_S
#: Different failures of one tunnel that are remembered for that.
EXPLAINED_LIMIT = 8


class Host(Protocol):
    """What is needed of the process."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def journal(self) -> Journal: ...
    def mono_ns(self) -> int: ...
    def mistake(self, error: BaseException) -> None:
        """A mistake in this program: say it."""


@dataclass(frozen=True, slots=True)
class Member:
    """A protected tunnel: the engine's half, and how it is protected."""

    name: str
    tunnel: PlainTunnelLike
    config: IpsecConfig


class Ipsec:
    """See the module."""

    def __init__(
        self,
        host: Host,
        ports: IkePortsLike,
        *,
        crash_secret: KeyMaterial,
        keys: KeyLog | None = None,
        machine: Callable[..., Ike] = Ike,
    ) -> None:
        """
        Args:
            ports: open.
            crash_secret: see `credentials.crash_secret`.
            keys: debug mode: where keys are written; None: they are not.
            machine: another, in tests.
        """
        self._host, self.ports, self.keys = host, ports, keys
        self.ike = machine(
            entropy=os.urandom,
            reserve_spi=self._reserve_spi,
            last_received_ns=self._last_received_ns,
            crash_secret=crash_secret,
            debug_keys=keys is not None,
        )
        self._members: dict[str, Member] = {}
        self._names: dict[int, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        #: What the log has explained of each tunnel, and when.
        self._explained: dict[str, dict[effects.Refused, int]] = {}
        #: Why the last datagram to a tunnel's peer could not be sent; empty when it could.
        self.unsent: dict[str, str] = {}

    # ------------------------------------------------------------ members

    def join(self, member: Member) -> None:
        """A tunnel that is protected; nothing is negotiated for it yet."""
        self._members[member.name] = member
        self._names[member.tunnel.id] = member.name

    def leave(self, name: str) -> None:
        """Its device is gone, and the engine's half closed."""
        member = self._members.pop(name, None)
        if member is not None:
            self._names.pop(member.tunnel.id, None)
        for table in (self._explained, self.unsent):
            table.pop(name, None)

    def _reserve_spi(self, name: str) -> int:
        return self._members[name].tunnel.reserve_spi()

    def _last_received_ns(self, name: str) -> int:
        member = self._members.get(name)
        return member.tunnel.counters().last_receive_ns if member is not None else 0

    # ------------------------------------------------------------ inputs

    def now(self) -> Now:
        """Both clocks."""
        return Now(self._host.mono_ns(), time.time_ns())

    def handle(self, event: IkeEvent | ProtectionEvent) -> None:
        """An event of the engine."""
        now = self.now()
        match event:
            case IkeReceived(message, remote, remote_port, local, natt):
                self.ike.receive(message, Path(local, remote, remote_port, natt), now)
            case UnknownSpi(spi, remote, remote_port, local, natt):
                self.ike.unknown_spi(spi, Path(local, remote, remote_port, natt), now)
            case _:
                name = self._names.get(event.tunnel)
                if name is not None:
                    self._handle_of(name, event, now)
        self.apply()

    def _handle_of(self, name: str, event: ProtectionEvent, now: Now) -> None:
        match event:
            case SaUsed(_, spi):
                self.ike.sa_used(name, spi, now)
            case SaExpiring(_, spi, inbound, hard):
                self.ike.sa_expiring(name, spi, inbound, hard, now)
            case SaMoved(_, spi, remote, remote_port):
                self.ike.sa_moved(name, spi, remote, remote_port, now)
            case SaMissing():
                if _is_trap(self._members[name].config):
                    self.ike.initiate(name, now)
            case _:
                assert_never(event)

    def add(self, connection: Connection) -> None:
        """Negotiate, or wait for the peer, as the connection says; in the place of one of that name."""
        self.ike.add(connection, self.now())
        self.apply()

    def change(self, connection: Connection) -> None:
        """The ends or the configuration are other ones now."""
        self.ike.change(connection, self.now())
        self.apply()

    def remove(self, name: str) -> None:
        """End it, telling the peer as far as one datagram does, and forget it."""
        self.ike.remove(name, self.now())
        self.apply()

    def command(self, what: str, name: str) -> None:
        """
        What a person asks for: "initiate", "terminate", "rekey" (the child SA) or "rekey-ike".

        Raises:
            ValueError: it is none of these, or not possible now; in words.
        """
        now = self.now()
        match what:
            case "initiate":
                self.ike.initiate(name, now)
            case "terminate":
                self.ike.terminate(name, now)
            case "rekey":
                self.ike.rekey_child(name, now)
            case "rekey-ike":
                self.ike.rekey_ike(name, now)
            case _:
                raise ValueError(f"expected initiate, terminate, rekey or rekey-ike, found {what!r}")
        self.apply()

    def view(self, name: str) -> ConnectionView:
        """What the machine knows of a connection; KeyError while it has none of that name."""
        return self.ike.view(name, self.now())

    def close(self) -> None:
        """No more timers. Nothing is sent: see `remove`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------ outputs

    def apply(self) -> None:
        """Do what the machine says until it waits. What fails by our mistake does not keep back what is behind it."""
        poll = self.ike.poll
        while True:
            output = poll()
            match output:
                case effects.WaitUntil(mono_ns):
                    if mono_ns is not None:
                        self._arm(mono_ns)
                    return
                case effects.Send():
                    self._send(output)
                case effects.SendKeepalive():
                    self._send_keepalive(output)
                case (
                    effects.AddInbound()
                    | effects.SetOutbound()
                    | effects.SetOutboundPath()
                    | effects.RemoveInbound()
                    | effects.ClearOutbound()
                    | effects.ReleaseSpi()
                ):
                    member = self._members.get(output.tunnel)
                    if member is None:
                        continue  # its device was deleted meanwhile
                    try:
                        self._install(output, member)
                    except Exception as error:  # noqa: BLE001 - see above
                        self._host.journal("sa_refused", interface=output.tunnel, effect=type(output).__name__, error=error)
                        self._host.mistake(error)
                case _:
                    self._tell(output)

    def _send(self, output: effects.Send) -> None:
        path = output.path
        try:
            self.ports.send(
                output.message, local=_known(path.local), remote=path.remote, remote_port=path.remote_port, natt=path.natt
            )
        except OSError as error:
            self._unsent(output.tunnel, error)
        else:
            self.unsent.pop(output.tunnel, None)

    def _send_keepalive(self, output: effects.SendKeepalive) -> None:
        path = output.path
        try:
            self.ports.send_keepalive(local=_known(path.local), remote=path.remote, remote_port=path.remote_port)
        except OSError as error:
            self._unsent(output.tunnel, error)

    def _unsent(self, tunnel: str, error: OSError) -> None:
        if tunnel in self._members:
            self.unsent[tunnel] = error.strerror or str(error)
        if self._host.journal.debugging:
            self._host.journal("ike_unsent", interface=tunnel, error=error.strerror or error)

    def _install(self, output: effects.Effect, member: Member) -> None:
        tunnel, config = member.tunnel, member.config
        match output:
            case effects.AddInbound():
                tunnel.add_inbound(
                    output.spi,
                    suite=output.suite,
                    key=output.keys.key,
                    integrity=output.keys.integrity,
                    transport=output.transport,
                    esn=output.esn,
                    replay_window=output.replay_window,
                    selectors=for_engine(output.source, output.destination),
                    **_limits(output),
                )
            case effects.SetOutbound():
                path = output.path
                tunnel.set_outbound(
                    output.spi,
                    suite=output.suite,
                    key=output.keys.key,
                    integrity=output.keys.integrity,
                    transport=output.transport,
                    esn=output.esn,
                    local=path.local,
                    remote=path.remote,
                    local_port=self.ports.natt_port if output.udp else 0,
                    remote_port=path.remote_port if output.udp else 0,
                    selectors=for_engine(output.source, output.destination),
                    dscp=config.copy_dscp,
                    df=config.df,
                    **_limits(output),
                )
            case effects.SetOutboundPath(_, path, udp):
                ports = (self.ports.natt_port, path.remote_port) if udp else (0, 0)
                tunnel.set_outbound_path(path.local, path.remote, *ports)
                self._host.journal("path_moved", interface=output.tunnel)
            case effects.RemoveInbound(_, spi):
                tunnel.remove_inbound(spi)
            case effects.ClearOutbound():
                tunnel.clear_outbound()
            case effects.ReleaseSpi(_, spi):
                tunnel.release_spi(spi)

    # ------------------------------------------------------------ the log

    def _tell(self, event: effects.Event) -> None:
        journal = self._host.journal
        match event:
            case effects.IkeUp(tunnel, spi_i, spi_r, initiator, proposal, peer_id, nat):
                self._explained.pop(tunnel, None)
                role = "initiator" if initiator else "responder"
                spis = f"{spi_i.hex()}-{spi_r.hex()}"
                journal("ike_up", interface=tunnel, peer=peer_id, proposal=proposal, role=role, nat=nat, spis=spis)
            case effects.IkeDown(tunnel, why):
                journal("ike_down", interface=tunnel, why=why)
            case effects.ChildUp(tunnel, spi_in, spi_out, proposal, rekeyed):
                spis = f"{spi_in:08x}-{spi_out:08x}"
                journal("child_rekeyed" if rekeyed else "child_up", interface=tunnel, proposal=proposal, spis=spis)
            case effects.ChildDown(tunnel, why):
                journal("child_down", interface=tunnel, why=why)
            case effects.Refused():
                self._explain(event)
            case effects.Dropped(tunnel, reason):
                if journal.debugging:
                    journal("ike_dropped", interface=tunnel, reason=reason)
            case effects.PeerDead(tunnel, silent_s):
                journal("ike_peer_dead", interface=tunnel, silent_s=round(silent_s, 1))
            case effects.KeysMade(_, table, line):
                if self.keys is not None:
                    self.keys.write(table, line)
            case _:
                assert_never(event)

    def _explain(self, event: effects.Refused) -> None:
        """A failed negotiation is tried again and again: the same failure is told in full once in a while."""
        journal, now_ns = self._host.journal, self._host.mono_ns()
        first = event.lines[0] if event.lines else event.reason
        known = self._explained.setdefault(event.tunnel, {}) if event.tunnel in self._members else {}
        again = now_ns - known.get(event, -EXPLAIN_AGAIN_NS) < EXPLAIN_AGAIN_NS
        journal(
            "negotiation_failed_again" if again else "negotiation_failed",
            interface=event.tunnel,
            by=event.by,
            reason=event.reason,
            why=first,
        )
        if again:
            return
        for line in event.lines[1:]:
            journal("explained", interface=event.tunnel, why=line)
        known[event] = now_ns
        while len(known) > EXPLAINED_LIMIT:
            del known[next(iter(known))]

    # ------------------------------------------------------------ the timer

    def _arm(self, mono_ns: int) -> None:
        if self._timer is not None:
            if self._timer_ns <= mono_ns:
                return  # it fires early, finds nothing due and is armed anew
            self._timer.cancel()
        self._timer_ns = mono_ns
        delay_s = max(0, mono_ns - self._host.mono_ns()) / NS_PER_S
        self._timer = self._host.loop.call_later(delay_s, self._timeout)

    def _timeout(self) -> None:
        self._timer = None
        try:
            self.ike.timeout(self.now())
        except Exception as error:  # noqa: BLE001 - what it was about is lost, the other deadlines are not
            self._host.mistake(error)
        self.apply()


def _is_trap(config: IpsecConfig) -> bool:
    """Whether a packet that needs an SA begins: from the start, or when the peer was found dead."""
    return config.start == "trap" or (config.start == "start" and config.dpd_action == "trap")


def _known(local: bytes) -> bytes | None:
    """None for an address of zeros: the route's choice."""
    return local if any(local) else None


def _limits(output: effects.AddInbound | effects.SetOutbound) -> dict[str, Any]:
    """Soft limits as the machine has them, hard ones behind them; 0 is none."""
    return {
        "soft_bytes": output.soft_bytes,
        "hard_bytes": output.soft_bytes * HARD_FACTOR,
        "soft_packets": output.soft_packets,
        "hard_packets": output.soft_packets * HARD_FACTOR,
        "hard_ns": output.hard_ns,
    }
