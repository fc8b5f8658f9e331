"""
The owner of one plain tunnel: its machines, the engine's half of it, and what the world says of its ends.

    engine's events  ------> keepalive, path ----effects----> PlainTunnel
    link messages    ------> up, down, MTU
    routes, names    ------> ends, hold
    the node's tick  ------> silence, a UDP port that was taken

One timer for all machines of the tunnel. An effect that the network refuses is not repeated: each machine sends again by itself.

A remote given by name is asked for at the start and, with back-off, whenever nothing came for `SILENT_S`; until it is known the
tunnel does not carry. It then has a remote that no packet can come from, so that several such tunnels can be told apart.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ginnel.config import layers
from ginnel.config.node import PlainConfig
from ginnel.engine import VERSION
from ginnel.engine.plain import ControlReceived, Mismatch, PathError, PlainEvent, PlainTunnelLike
from ginnel.gre import effects
from ginnel.gre.keepalive import KeepaliveMachine
from ginnel.gre.path import Notice, PathMachine
from ginnel.gre.probe import ProbeMachine
from ginnel.gre.reach import ReachMachine
from ginnel.gre.recursion import HoldMachine
from ginnel.runtime.journal import Journal
from ginnel.runtime.monitor import Link, device_name
from ginnel.runtime.resolve import ADDRESSES_LIMIT, FIRST_AGAIN_S, LAST_AGAIN_S, Resolver
from ginnel.runtime.routes import Route, Way, address_is_here
from ginnel.units import NS_PER_S, Endpoint
from ginnel.watch import plain as watch

if TYPE_CHECKING:
    from ginnel.runtime.ipsec_tunnel import Protection
    from ginnel.watch.ipsec import Evidence, IpsecView

#: A named remote that was silent for so long is asked for anew.
SILENT_S = 60
#: A mismatch that the engine did not repeat (it tells once a minute) is over.
MISMATCH_NS = 150 * NS_PER_S
#: Reasons of mismatches, sentences of other kinds: each list is closed, this only bounds mistakes.
REASONS_LIMIT = 16


class Host(Protocol):
    """What a tunnel needs of the process that it is in."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def resolver(self) -> Resolver: ...
    def mono_ns(self) -> int: ...
    def route_wanted(self) -> None:
        """The ends of a tunnel changed: look at its route soon."""

    def ping(self, tunnel: PlainOwner) -> None:
        """Ping the tunnel's remote outside the tunnel; `answered` is called if it answers."""

    def tunnel_gone(self, tunnel: PlainOwner, reason: str, *, deleted: bool) -> None:
        """The device was deleted (it is closed now), or a thread of the engine ended."""

    def mistake(self, error: BaseException) -> None:
        """A mistake in this program: say it."""


def packed(text: str) -> bytes | None:
    """A numeric address, packed; None for "any" and for a name."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return None


def text_of(address: bytes | None) -> str:
    """An address for people; empty without one."""
    if not address:
        return ""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def placeholder(position: int, family: int) -> bytes:
    """A remote that no packet can come from (0.0.0.0/8 of RFC 1122, 100::/64 of RFC 6666), another for each position."""
    if family == 4:
        return (position % 0xFF_FFFF + 1).to_bytes(4, "big")
    return b"\x01\x00" + bytes(6) + (position + 1).to_bytes(8, "big")


def is_one_host(address: bytes) -> bool:
    """
    Whether packets can go to that address and come from it, as a file's `remote` must be. What a name resolves to is not asked
    of the user: filters answer 0.0.0.0, which to the engine is *any*, and would open the tunnel to everybody.
    """
    one = ipaddress.ip_address(address)
    return not (one.is_unspecified or one.is_multicast or one.is_loopback or address == b"\xff" * 4)


class PlainOwner:
    """See the module."""

    def __init__(
        self,
        host: Host,
        config: PlainConfig,
        tunnel: PlainTunnelLike,
        *,
        position: int,
        protection: Protection | None = None,
    ) -> None:
        """
        Args:
            tunnel: made by `ends` of the same config and position.
            position: in the node file.
            protection: of a tunnel whose config has `ipsec`.
        """
        self.config, self.tunnel, self.name = config, tunnel, config.name
        self._host = host
        self.protection = protection
        self._named = config.remote != "any" and packed(config.remote) is None
        self._local, self._remote = ends(config, position)
        self._known = not self._named
        keepalive = config.keepalive
        self.keepalive = KeepaliveMachine(
            interval_s=keepalive.interval_s if keepalive else 0,
            retries=keepalive.retries if keepalive else 0,
            mikrotik=keepalive is not None and keepalive.dialect == "mikrotik",
            key=config.ikey,
            checksum=config.icsum,
        )
        self.overhead = layers.overhead(config)
        self.path = PathMachine(
            family=config.family,
            overhead=self.overhead,
            ttl=config.ttl,
            remote=self._remote if self._known else None,
            room=protection.room if protection is not None else None,
        )
        #: Only where keepalives are, and packets are never fragmented on their way.
        self.probe = (
            ProbeMachine(
                family=config.family,
                overhead=self.overhead,
                mikrotik=keepalive.dialect == "mikrotik",
                key=config.ikey,
                checksum=config.icsum,
            )
            if keepalive is not None and config.kind == "gre" and config.pmtudisc
            else None
        )
        self.hold = HoldMachine()
        self.reach = ReachMachine()
        #: Index of the underlay's device that the engine was given; 0 without one.
        self._device = self._device_index()
        #: The link's index where it is, and its MTU; 0 while unknown.
        self.index = self.mtu = 0
        self.link_up = False
        #: The device lives in another namespace than the process.
        self.moved = False
        #: Why the sockets could not be opened; empty while they are, and while the link is down.
        self.error = ""
        self._unwatched = ""
        #: The way's answer, and whether the local address is on this host.
        self.route: Route | None = None
        self.local_is_here = True
        self._source: bytes | None = None
        self._mismatches: dict[str, tuple[int, str, int]] = {}
        self._filtered_told = False
        self._rx_packets = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._asking = False
        self._ask_pause_s = FIRST_AGAIN_S
        self._ask_again_ns = 0
        self._unresolved = ""

    # ------------------------------------------------------------ life

    def close(self) -> None:
        """No more timers; the engine's half is closed with the engine, or by `gone`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.protection is not None:
            self.protection.close()

    def label(self) -> str:
        """How the remote is told to people."""
        return self.config.remote if self._named else text_of(self._remote) or "any"

    @property
    def carries(self) -> bool:
        """The device is up, its sockets are open."""
        return self.tunnel.is_up

    # ------------------------------------------------------------ the engine

    def handle(self, event: PlainEvent) -> None:
        """An event of the engine about this tunnel."""
        now_ns = self._host.mono_ns()
        match event:
            case ControlReceived(_, "returned", protocol, _) if self.probe is not None and protocol == self.probe.protocol:
                self.probe.returned(now_ns)
            case ControlReceived(_, "returned", _, _):
                self.keepalive.returned_to_us(now_ns)
                self.path.heard(now_ns, round_trip=True)
                self.reach.heard(now_ns)
                if self.probe is not None:
                    self.probe.kept_alive(now_ns)
            case ControlReceived(_, "asked", _, packet):
                self.keepalive.asked(packet, now_ns)
                self.reach.heard(now_ns)
                self.path.heard(now_ns)
            case PathError(_, kind, code, mtu, origin):
                self.path.error(kind, code, mtu, origin, now_ns, heard_ns=self._heard_ns())
            case Mismatch(_, reason, seen, _):
                self._mismatched(reason, seen, now_ns)
            case _:
                return
        self.apply()

    def peer_learned(self) -> None:
        """The peer's packets come from another address or port than before, and ours go there now."""
        self._tell_ends()
        self.apply()
        self._host.route_wanted()

    def device_gone(self, reason: str) -> None:
        """The engine lost the device: it was deleted, or a thread ended."""
        try:
            device_name(self.tunnel.tun_fd)
        except OSError:
            self.close()
            self.tunnel.close()
            self._host.tunnel_gone(self, reason, deleted=True)
        else:
            self._host.tunnel_gone(self, reason, deleted=False)

    def _heard_ns(self) -> int:
        """When the last packet or keepalive of the peer's came in."""
        return max(self.tunnel.counters().last_receive_ns, self.reach.heard_ns)

    def _mismatched(self, reason: str, seen: int | None, now_ns: int) -> None:
        sentence = watch.mismatch_sentence(reason, seen, key=self.config.ikey, kind=self.config.kind)
        if self._mismatches.get(reason, (0, "", 0))[1] != sentence:
            self._host.journal("mismatch", interface=self.name, reason=reason, why=sentence)
        self._mismatches[reason] = (now_ns, sentence, self.tunnel.counters().rx_packets)
        while len(self._mismatches) > REASONS_LIMIT:
            del self._mismatches[next(iter(self._mismatches))]

    # ------------------------------------------------------------ the machines

    def _machines(self) -> tuple[KeepaliveMachine | PathMachine | HoldMachine | ProbeMachine, ...]:
        machines = self.keepalive, self.path, self.hold
        return machines if self.probe is None else (*machines, self.probe)

    @property
    def path_mtu(self) -> int:
        """The largest inner packet that the path takes, by what ICMP says and by what probes found; 0 = nothing is known."""
        known = [mtu for mtu in (self.path.mtu, self.probe.mtu if self.probe is not None else 0) if mtu]
        return min(known, default=0)

    def _tell_ceiling(self) -> None:
        if self.probe is not None:
            self.probe.set_ceiling(self.mtu, self.path.mtu, self._host.mono_ns())

    def apply(self) -> None:
        """Do what the machines say until all of them wait."""
        waits: list[int] = []
        for machine in self._machines():
            while True:
                output: Any = machine.poll()
                if isinstance(output, effects.WaitUntil):
                    if output.mono_ns is not None:
                        waits.append(output.mono_ns)
                    break
                self._do(output)
        if waits:
            self._arm(min(waits))

    def _do(self, output: effects.Effect | effects.Event) -> None:
        journal = self._host.journal
        match output:
            case effects.SetPathMtu():
                self._tell_ceiling()
                self.tunnel.set_path_mtu(self.path_mtu)
            case effects.PathMtuProbed(mtu):
                self.tunnel.set_path_mtu(self.path_mtu)
                journal("path_probed", interface=self.name, mtu=mtu)
            case effects.SendControl() | effects.SendBack() | effects.SetHold() | effects.SetUnreachable():
                try:
                    output.apply(self.tunnel)
                except (OSError, ValueError) as error:
                    if journal.debugging:
                        journal("control_unsent", interface=self.name, error=error)
            case effects.PeerAlive():
                journal("peer_alive", interface=self.name, remote=self.label())
            case effects.PeerDead(unanswered):
                journal("peer_dead", interface=self.name, remote=self.label(), unanswered=unanswered)
            case effects.PathMtuLearned(mtu, delivery, origin):
                journal("path_mtu", interface=self.name, mtu=mtu, delivery=delivery, origin=text_of(origin))
            case effects.PathMtuForgotten():
                journal("path_mtu", interface=self.name, mtu=0)
            case effects.PathMtuTooSmall(named, used, origin):
                journal("path_mtu_refused", interface=self.name, named=named, used=used, origin=text_of(origin))
            case effects.RoutingLoop(falls, origin):
                journal("routing_loop", interface=self.name, falls=falls, origin=text_of(origin))
            case effects.PathRefused(notice, origin, code):
                why = watch.notice_sentence(notice, text_of(origin), self.ends(), ttl=self.config.ttl)
                journal("path_refused", interface=self.name, why=why, code=code)
            case effects.Held(why):
                journal("held", interface=self.name, why=why)
            case effects.Released(held_ns):
                journal("released", interface=self.name, held_s=held_ns // NS_PER_S)

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
        self._advance()

    def _advance(self) -> None:
        """Tell the machines the time, and do what they say."""
        now_ns = self._host.mono_ns()
        for machine in self._machines():
            try:
                machine.timeout(now_ns)
            except Exception as error:  # noqa: BLE001 - the other machines' deadlines are not lost with this one's
                self._host.mistake(error)
        self.apply()

    # ------------------------------------------------------------ the link

    def link_seen(self, link: Link) -> None:
        """The device as it is now."""
        self.index = link.index
        if link.name != self.name:
            self.name = link.name
        if link.mtu != self.mtu:
            self.mtu = link.mtu
            self.tunnel.set_mtu(link.mtu)
            self.path.set_link_mtu(link.mtu)
            self._tell_ceiling()
        if link.up != self.link_up:
            self.link_up = link.up
            if link.up:
                self.try_up()
                self._host.route_wanted()
            else:
                self._down()
        self.apply()

    def link_moved(self, inside: bool) -> None:
        """The device lives in another namespace now, or in the process's own again."""
        self.moved = not inside
        self._host.journal("link_moved", interface=self.name, namespace="moved" if self.moved else "birth")

    def link_lost(self, reason: str) -> None:
        """It lives where it cannot be watched."""
        self._unwatched = f"the device moved where it cannot be watched ({reason}): up, down and MTU are no longer followed"
        self._host.journal("link_lost_sight", interface=self.name, error=reason)

    def try_up(self) -> None:
        """Carry, if the device is up and the remote known; again when it did not work the last time."""
        if not self.link_up or not self._known or self.tunnel.is_up:
            return
        try:
            self.tunnel.up()
        except OSError as error:
            why = self._no_sockets(error)
            if why != self.error:
                self.error = why
                self._host.journal("link_up_failed", interface=self.name, error=why)
            return
        self.error = ""
        self._host.journal("link_up", interface=self.name, remote=self.label())
        self._tell_ends()
        if self.protection is not None:
            self.protection.set_up(True)
        self.keepalive.up(self._host.mono_ns())
        self.reach.begin(self._host.mono_ns())
        if self.probe is not None:
            self.probe.up()
            self._tell_ceiling()
        self._advance()

    def _down(self) -> None:
        self.error = ""
        if self.protection is not None:
            self.protection.set_up(False)
        self.tunnel.down()
        self.keepalive.down()
        if self.probe is not None:
            self.probe.down()
        self._mismatches.clear()
        self.path.heard(self._host.mono_ns(), round_trip=True)
        self._host.journal("link_down", interface=self.name)

    def _no_sockets(self, error: OSError) -> str:
        udp = self.config.encapsulation
        match error.errno:
            case errno.EADDRINUSE if udp:
                return f"UDP port {udp.listen} is taken by another program; free it or set another (listen)"
            case errno.EPERM | errno.EACCES:
                return "raw sockets are not allowed: it takes root or CAP_NET_RAW"
            case _:
                return f"its sockets could not be opened: {error.strerror or error}"

    # ------------------------------------------------------------ ends and routes

    def remote_now(self) -> bytes | None:
        """Where packets go: as configured or resolved, or learned from what came."""
        if not self._known:
            return None
        if self._remote is not None:
            return self._remote
        learned = self.tunnel.counters().remote
        return learned[0] if learned else None

    def way(self) -> Way | None:
        """What to ask the kernel about; None while there is nowhere to send to."""
        remote = self.remote_now()
        if remote is None:
            return None
        device = self._device_index()
        return Way(remote, self._local if self.local_is_here else None, self.config.fwmark, device)

    @property
    def local(self) -> bytes | None:
        """Our end as configured."""
        return self._local

    def routed(self, route: Route | None, why_held: str) -> None:
        """
        How the kernel routes our packets now.

        Args:
            why_held: a sentence when they come round to the tunnel; empty when they get out.
        """
        self.route = route
        source = route.source if route else None
        # The engine forgets the source address that it took from the old route; and a learned remote, so only if it must.
        if self._local is None and source != self._source:
            old, self._source = self._source, source
            if self.protection is not None and source is not None and self._known and self._remote is not None:
                self._set_ends(self._remote)  # in tunnel mode our address is that of the delivery header inside
            elif old is not None and self._known and (self._remote is not None or not address_is_here(old)):
                self._set_ends(self._remote)
        self._tell_ends()
        self.hold.routed(why_held, self._host.mono_ns())
        self.apply()

    def ends(self) -> watch.Ends:
        """For sentences."""
        return watch.Ends(
            self.config.kind if self.protection is None else "ipsec",
            text_of(self._local or self._source),
            text_of(self.remote_now()) or self.label(),
            self._remote_port(),
            self.config.remote if self._named else "",
        )

    def _remote_port(self) -> int:
        """Where its packets go in UDP; 0 when they go as they are."""
        if self.protection is not None:
            return self._learned_port()
        udp = self.config.encapsulation
        return ((udp.dport or self._learned_port()) or udp.listen) if udp else 0

    def _learned_port(self) -> int:
        learned = self.tunnel.counters().remote
        return learned[1] if learned else 0

    def _device_index(self) -> int:
        if not self.config.dev:
            return 0
        try:
            return socket.if_nametoindex(self.config.dev)
        except OSError:
            return 0

    def _tell_ends(self) -> None:
        local, remote = self._local or self._source, self.remote_now()
        self.keepalive.set_ends(local, remote)
        self.path.set_remote(remote)
        if self.probe is not None:
            self.probe.set_ends(local, remote)
        if self.protection is not None:
            # Towards anybody there is no route: which address is ours is whichever the peer spoke to.
            ours = local if self._remote is not None else self._local
            self.protection.set_ends(ours, self._remote, known=self._known)

    def _set_ends(self, remote: bytes | None) -> bool:
        local = self._local if self.protection is None else self._local or self._source
        try:
            self.tunnel.set_ends(local, remote)
        except OSError as error:  # FileExistsError: the name now means another tunnel's remote
            self.error = f"{self.config.remote} is now {text_of(remote)}, which is the remote of {error.filename or 'another'}"
            return False
        return True

    # ------------------------------------------------------------ names

    def look_at_name(self) -> None:
        """Ask for the remote's address if it is wanted now."""
        if not self._named or self._asking:
            return
        now_ns = self._host.mono_ns()
        heard_ns = self.tunnel.counters().last_receive_ns
        if self._known and heard_ns and now_ns - heard_ns < SILENT_S * NS_PER_S:
            self._ask_pause_s, self._ask_again_ns = FIRST_AGAIN_S, 0
            return
        if now_ns < self._ask_again_ns:
            return
        self._asking = True
        self._host.resolver.ask(self.config.remote, 0, self._resolved)

    def _resolved(self, found: list[Endpoint], why: str) -> None:
        self._asking = False
        self._ask_again_ns = self._host.mono_ns() + self._ask_pause_s * NS_PER_S
        self._ask_pause_s = min(self._ask_pause_s * 2, LAST_AGAIN_S)
        size = 4 if self.config.family == 4 else 16
        of_family = [one.packed for one in found if len(one.packed) == size]
        addresses = [one for one in of_family if is_one_host(one)][:ADDRESSES_LIMIT]
        if not addresses:
            reason = why or f"it has no IPv{self.config.family} address"
            if of_family:
                reason = f"its address is {text_of(of_family[0])}, which is no other host's"
            if self._unresolved != reason:
                self._unresolved = reason
                self._host.journal("remote_unresolved", interface=self.name, host=self.config.remote, error=reason)
            return
        self._unresolved = ""
        if self._known and self._remote in addresses:  # silent where it is: the next one, if there is one
            following = addresses[(addresses.index(self._remote) + 1) % len(addresses)]
        else:
            following = addresses[0]
        if self._known and following == self._remote:
            return
        if not self._set_ends(following):
            return
        self._host.journal("remote_changed", interface=self.name, host=self.config.remote)
        self._remote, self._known, self.error = following, True, ""
        self.reach.begin(self._host.mono_ns())
        self._tell_ends()
        self.try_up()
        self.apply()
        self._host.route_wanted()

    # ------------------------------------------------------------ the tick

    def tick(self) -> None:
        """Every ten seconds: what no event tells."""
        self.look_at_name()
        if not self.tunnel.is_up:
            self.try_up()
            return
        now_ns = self._host.mono_ns()
        counters = self.tunnel.counters()
        if self._remote is None:
            self._tell_ends()  # it may have been learned
        if counters.rx_packets != self._rx_packets:
            self._rx_packets = counters.rx_packets
            self._filtered_told = False
            self.path.heard(now_ns)
        self.apply()
        self.reach.looked(max(counters.last_send_ns, self.keepalive.last_sent_ns), counters.last_receive_ns)
        # Whether the peer of a protected tunnel is there is what IKE asks.
        if self.protection is None and self.remote_now() is not None and self.reach.wants_ping(now_ns):
            self._host.ping(self)

    def answered(self) -> None:
        """The remote answered a ping outside the tunnel."""
        now_ns = self._host.mono_ns()
        self.reach.answered(now_ns)
        if self.reach.is_filtered(now_ns) and not self._filtered_told:
            self._filtered_told = True
            why = watch.filtered_sentence(self.ends(), (now_ns - self.reach.unanswered_since_ns) / NS_PER_S)
            self._host.journal("path_filtered", interface=self.name, why=why)

    # ------------------------------------------------------------ looking

    def _problems(self, now_ns: int, rx_packets: int) -> Iterator[str]:
        """What keeps it from working as described, the gravest first."""
        if self.error:
            yield self.error
        if not self._known:
            why = f": {self._unresolved}" if self._unresolved else ""
            yield f"the remote {self.config.remote} has not been resolved{why}"
        if self._device and self._device_index() != self._device:
            gone = "is gone" if not self._device_index() else "was made anew: take the node down and up again"
            yield f"the interface {self.config.dev} {gone}"
        if not self.local_is_here:
            yield f"the local address {self.config.local} is on no interface of this host"
        if self.hold.why:
            yield f"held: {self.hold.why}"
        route = self.route
        if route is not None and not route.device and self.local_is_here and not self.hold.why:
            yield f"there is no route to {self.label()}: {os.strerror(route.errno)}"
        for told_ns, sentence, rx_then in self._mismatches.values():
            if now_ns - told_ns < MISMATCH_NS and rx_packets == rx_then:
                yield sentence

    def _refused(self, now_ns: int) -> str:
        """Why what is sent comes to nothing; empty when nobody said so."""
        for notice, origin in self.path.current_notices(now_ns).items():
            if notice is not Notice.BESIDE:
                return watch.notice_sentence(notice.value, text_of(origin), self.ends(), ttl=self.config.ttl)
        if self.protection is None and self.reach.is_filtered(now_ns):
            return watch.filtered_sentence(self.ends(), (now_ns - self.reach.unanswered_since_ns) / NS_PER_S)
        return ""

    def view(self, *, pid: int, started_unix: float, node: str, path: str) -> watch.PlainView:
        """The tunnel now, judged."""
        now_ns = self._host.mono_ns()
        config, tunnel, keepalive = self.config, self.tunnel, self.keepalive
        counters = tunnel.counters()
        if counters.rx_packets != self._rx_packets:
            self._rx_packets = counters.rx_packets
            self.path.heard(now_ns)
            self.apply()
        self.reach.looked(max(counters.last_send_ns, self.keepalive.last_sent_ns), counters.last_receive_ns)
        problems = tuple(self._problems(now_ns, counters.rx_packets))
        protected = self.protection.view(self.mtu) if self.protection is not None else None
        silent_ns = self.reach.unanswered_since_ns
        seen = watch.Evidence(
            up=self.link_up,
            problems=problems,
            speaks_first=self.remote_now() is None and self._known,
            refused=self._refused(now_ns),
            keepalive=keepalive.state if config.keepalive else "off",
            judged=keepalive.is_judged,
            unanswered=keepalive.unanswered,
            missing_s=_age_s(keepalive.missing_since_ns, now_ns) if keepalive.unanswered else None,
            returned_age_s=_age_s(keepalive.last_returned_ns, now_ns),
            receive_age_s=_age_s(counters.last_receive_ns, now_ns),
            send_age_s=_age_s(counters.last_send_ns, now_ns),
            silent_s=(now_ns - silent_ns) / NS_PER_S if silent_ns else None,
            protection=_evidence(protected) if protected is not None else None,
        )
        udp = config.encapsulation
        return watch.PlainView(
            name=self.name,
            kind=config.kind,
            backend="engine",
            version=VERSION,
            pid=pid,
            started_unix=started_unix,
            config=path,
            node=node,
            state="up" if tunnel.is_up else "down",
            public_key=None,
            listen_port=udp.listen if udp else 0,
            fwmark=config.fwmark,
            mtu=self.mtu,
            namespace="moved" if self.moved else "birth",
            configured=watch.judge_configured(seen),
            alive=watch.judge_alive(seen),
            carrying=watch.judge_carrying(seen),
            family=config.family,
            local=text_of(self._local or self._source) or None,
            remote=text_of(self.remote_now()) or None,
            remote_host=config.remote if self._named else "",
            encapsulation="udp" if udp else "",
            remote_port=self.ends().port,
            ikey=config.ikey,
            okey=config.okey,
            icsum=config.icsum,
            ocsum=config.ocsum,
            iseq=config.iseq,
            oseq=config.oseq,
            ttl=config.ttl,
            tos=config.tos,
            pmtudisc=config.pmtudisc,
            encaplimit=config.encaplimit,
            path_mtu=self.path_mtu or None,
            held=self.hold.why,
            keepalive=self._keepalive_view(now_ns),
            last_receive_age_s=seen.receive_age_s,
            last_send_age_s=seen.send_age_s,
            rx_bytes=counters.rx_bytes,
            tx_bytes=counters.tx_bytes,
            rx_packets=counters.rx_packets,
            tx_packets=counters.tx_packets,
            sequence_out=counters.sequence_out if config.oseq else None,
            sequence_in=counters.sequence_in if config.iseq else None,
            drops=tunnel.drops(),
            offloads=tunnel.offloads(),
            warnings=tuple(self._warnings(problems, seen)),
            ipsec=protected,
        )

    def _warnings(self, problems: tuple[str, ...], seen: watch.Evidence) -> Iterator[str]:
        if seen.up:
            yield from problems
        if seen.refused:
            yield seen.refused
        if self.probe is not None and self.probe.mtu:
            yield watch.black_hole_sentence(self.probe.mtu)
        beside = self.path.current_notices(self._host.mono_ns()).get(Notice.BESIDE)
        if beside is not None:
            yield watch.notice_sentence("beside", text_of(beside), self.ends(), ttl=self.config.ttl)
        if self.path.looping:
            yield watch.loop_sentence(self.overhead)
        if self._unwatched:
            yield self._unwatched

    def _keepalive_view(self, now_ns: int) -> watch.KeepaliveView | None:
        config, machine = self.config.keepalive, self.keepalive
        if config is None:
            return None
        return watch.KeepaliveView(
            config.interval_s,
            config.retries,
            config.dialect,
            machine.state,
            machine.unanswered,
            machine.sent,
            machine.returned,
            machine.answered,
            _age_s(machine.last_returned_ns, now_ns),
        )


def _evidence(view: IpsecView) -> Evidence:
    """Imported only where a tunnel is protected."""
    from ginnel.runtime.ipsec_view import evidence

    return evidence(view)


def ends(config: PlainConfig, position: int) -> tuple[bytes | None, bytes | None]:
    """Local and remote as the engine first gets them; a remote by name is a placeholder until it is resolved."""
    local = packed(config.local)
    if config.remote == "any":
        return local, None
    return local, packed(config.remote) or placeholder(position, config.family)


def _age_s(mono_ns: int, now_ns: int) -> float | None:
    """The age of a moment on the engine's clock, which says 0 for never."""
    return max(0, now_ns - mono_ns) / NS_PER_S if mono_ns else None
