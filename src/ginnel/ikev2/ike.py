"""
All of IKE of one host, without I/O: connections, IKE SAs, and who is spoken to.

    inputs    receive, timeout, sa_used, sa_expiring, sa_moved, unknown_spi; commands: add, change, remove, initiate, ...
    output    poll: effects and events, then `WaitUntil`; after each input it is to be polled until that comes

This file finds the IKE SA that something is about; who has none goes to `strangers`, what is due to `due`, and what an exchange
means is in its own file. How the rest hangs together: a `Tunnel` (one connection) has lineages, a `Lineage` has IKE SAs and
children, an `IkeSa` has a window and tasks.

Unprotected messages never change anything that stands: at most the peer is asked whether it is there. The one exception proves
itself: a crash token (`crash`).

Source: RFC 7296 2.4, 2.21; RFC 6290.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, assert_never

from ginnel.crypto.ike import KeyMaterial
from ginnel.errors import PeerError
from ginnel.ikev2 import auth, create, delete, due, ending, init, rekey, view
from ginnel.ikev2.child import Child, Stage
from ginnel.ikev2.connection import Connection
from ginnel.ikev2.content import Content
from ginnel.ikev2.context import Context
from ginnel.ikev2.create import CreateChild
from ginnel.ikev2.delete import DeleteIke
from ginnel.ikev2.drops import Drop
from ginnel.ikev2.effects import Effect, Event, Path, WaitUntil
from ginnel.ikev2.hearsay import Hearsay
from ginnel.ikev2.init import Initiate
from ginnel.ikev2.lineage import Lineage
from ginnel.ikev2.rekey import RekeyIke
from ginnel.ikev2.sa import IkeSa, State
from ginnel.ikev2.strangers import Strangers
from ginnel.ikev2.timers import Timer
from ginnel.ikev2.tunnel import Cause, Tunnel
from ginnel.units import Now
from ginnel.wire.ikev2 import (
    Exchange,
    Header,
    Payload,
    ProtocolId,
    Sk,
    parse,
    parse_header,
)

#: Deadlines handled by one `timeout`; what is left is due at once.
DEADLINES_AT_ONCE: Final = 64
#: Attempts begin so far apart, when many are to begin at once.
START_APART_NS: Final = 3_000_000


class Ike:
    """See above. Names are those of tunnels."""

    def __init__(
        self,
        *,
        entropy: Callable[[int], bytes],
        reserve_spi: Callable[[str], int],
        last_received_ns: Callable[[str], int],
        crash_secret: KeyMaterial,
        debug_keys: bool = False,
    ) -> None:
        """
        Args:
            entropy: so many random bytes.
            reserve_spi: a fresh inbound SPI of that tunnel.
            last_received_ns: when a genuine ESP packet came by that tunnel last (CLOCK_BOOTTIME); 0: never.
            crash_secret: what crash tokens are made of; the same after a restart.
            debug_keys: tell keys as `KeysMade`.
        """
        self._ctx = Context(entropy, reserve_spi, last_received_ns, crash_secret, debug_keys)
        self._tunnels: dict[str, Tunnel] = {}
        #: By the peer's address, None: anybody.
        self._by_remote: dict[bytes | None, dict[str, Tunnel]] = {}
        #: By our SPI.
        self._sas: dict[bytes, IkeSa] = {}
        self._strangers = Strangers(self._ctx, self, self._candidates, self._named)
        self._hearsay = Hearsay(self._ctx, self._strangers, self._at, self._sas.__contains__)
        self._next_start_ns = 0

    # ------------------------------------------------------------ what is seen

    @property
    def half_open(self) -> int:
        """IKE SAs that we answered and that have not authenticated."""
        return self._strangers.half_open

    @property
    def drops(self) -> Counter[str]:
        """Messages refused without any other trace, by reason."""
        return self._ctx.drops

    def view(self, name: str, now: Now) -> view.ConnectionView:
        """Everything that is shown of a connection; KeyError when there is none."""
        return view.of(self._tunnels[name], self._ctx, now)

    def names(self) -> tuple[str, ...]:
        """Of all connections."""
        return tuple(self._tunnels)

    def poll(self) -> Effect | Event | WaitUntil:
        """What is to be done or told next."""
        if self._ctx.output:
            return self._ctx.output.popleft()
        return WaitUntil(self._ctx.timers.next_ns())

    # ------------------------------------------------------------ commands

    def add(self, connection: Connection, now: Now) -> None:
        """A connection from now on; ValueError when there is one of that name."""
        if connection.name in self._tunnels:
            raise ValueError(f"expected a new connection, found a second {connection.name!r}")
        tunnel = Tunnel(self._ctx, connection, self._begin)
        self._tunnels[connection.name] = tunnel
        self._by_remote.setdefault(connection.remote, {})[connection.name] = tunnel
        if connection.start == "start":
            self._start(tunnel, now)
        elif connection.start == "wait" and connection.remote is not None and self._strangers.may_hint(now):
            # A peer that has what we lost is to find out at once.
            self._hearsay.hint(self._path_to(connection), 0)

    def change(self, connection: Connection, now: Now) -> None:
        """
        Another address or configuration for a connection that is there; KeyError when it is not. What was agreed on stays if
        only times and the like have changed.
        """
        tunnel = self._tunnels[connection.name]
        if tunnel.connection == connection:
            return
        if _agreement(tunnel.connection) == _agreement(connection):
            tunnel.connection = connection
            tunnel.wanted = tunnel.wanted or connection.start == "start"
            if connection.start == "start" and not tunnel.lineages:
                self._start(tunnel, now)
            return
        self.remove(connection.name, now)
        self.add(connection, now)

    def remove(self, name: str, now: Now) -> None:
        """The connection is no more; the peer is told once, and not waited for. KeyError when there is none."""
        tunnel = self._tunnels.pop(name)
        tunnel.wanted = False
        connection = tunnel.connection
        others = self._by_remote[connection.remote]
        del others[name]
        if not others:
            del self._by_remote[connection.remote]
        for lineage in list(tunnel.lineages):
            if lineage.established and lineage.current.state is State.ESTABLISHED:
                lineage.current.say_goodbye()
            tunnel.down(lineage, Cause.OURS, "taken down", now)
        self._ctx.timers.cancel_all(tunnel)

    def initiate(self, name: str, now: Now) -> None:
        """Be up from now on: begin, or make the child that is missing. KeyError when there is none."""
        tunnel = self._tunnels[name]
        if tunnel.connection.remote is None:
            tunnel.tell("us", "other", ("the peer's address is not configured: only the peer can begin",), now)
            return
        tunnel.wanted = True
        lineage = tunnel.lineage
        if lineage is not None:
            if lineage.current.wants(DeleteIke):
                tunnel.renew(now)  # what stands is being closed: begin beside it
            elif lineage.child is None and not lineage.current.wants(CreateChild):
                lineage.current.want(CreateChild(), now)
        elif not tunnel.lineages:
            tunnel.start(now)

    def terminate(self, name: str, now: Now) -> None:
        """Close what is there, and do not begin again before `initiate`. KeyError when there is none."""
        tunnel = self._tunnels[name]
        tunnel.wanted = False
        self._ctx.timers.cancel(tunnel, Timer.START)
        for lineage in list(tunnel.lineages):
            if lineage.established:
                lineage.silence("closed by us", now)
                lineage.current.want(DeleteIke("closed by us", Cause.OURS), now, first=True)
            else:
                tunnel.down(lineage, Cause.OURS, "closed by us", now)

    def rekey_child(self, name: str, now: Now) -> None:
        """New keys for the child now. KeyError when there is no such connection."""
        lineage = self._tunnels[name].lineage
        if lineage is not None and lineage.child is not None:
            lineage.current.want(CreateChild(lineage.child), now)

    def rekey_ike(self, name: str, now: Now) -> None:
        """New keys for the IKE SA now. KeyError when there is no such connection."""
        lineage = self._tunnels[name].lineage
        if lineage is not None:
            lineage.current.want(RekeyIke(), now)

    # ------------------------------------------------------------ what the engine tells

    def sa_used(self, name: str, spi: int, now: Now) -> None:
        """The peer sends with inbound SA *spi*: it has it, so that we may send with its other half."""
        found = self._child(name, spi)
        if found is None:
            return
        lineage, child = found
        child.unsure_in = None
        if not lineage.surplus and child.stage in {Stage.LIVE, Stage.REKEYING}:
            lineage.tunnel.carry(child, now)

    def sa_expiring(self, name: str, spi: int, inbound: bool, hard: bool, now: Now) -> None:
        """An SA is near its limit, or has reached it."""
        tunnel = self._tunnels.get(name)
        if tunnel is None:
            return
        for lineage in tunnel.lineages:
            child = lineage.children.get(spi) if inbound else lineage.by_out(spi)
            if child is not None and child.agreed:
                due.replace(lineage, child, now, hard=hard)
                return

    def sa_moved(self, name: str, spi: int, remote: bytes, remote_port: int, now: Now) -> None:  # noqa: ARG002 - as all inputs
        """Genuine packets of inbound SA *spi* come from elsewhere: go after the peer, if it is its NAT that moved it."""
        found = self._child(name, spi)
        if found is None:
            return
        sa = found[0].current
        if sa.authenticated and sa.nat.peer and not sa.nat.us and sa.path.natt and remote_port:
            path = Path(sa.path.local, remote, remote_port, True)
            if path != sa.path:
                sa.move(path)

    def unknown_spi(self, spi: int, path: Path, now: Now) -> None:
        """
        ESP came for an SPI that is none of ours. A peer that has what we lost is to find out soon: it is told INVALID_SPI, in
        the open, and will ask; or we begin ourselves.
        """
        for tunnel in self._at(path.remote):
            if tunnel.lineage is not None:
                # What is late after a rekeying; the IKE SA tells all the rest.
                continue
            if tunnel.connection.start != "wait" and tunnel.wanted:
                if not tunnel.failures:
                    # After a failure its time counts: a peer that refuses us may go on sending.
                    tunnel.start(now)
            elif self._strangers.may_hint(now):
                port = path.remote_port if path.natt else tunnel.connection.port
                self._hearsay.hint(Path(path.local, path.remote, port, path.natt), spi)
            return

    # ------------------------------------------------------------ messages

    def receive(self, message: bytes, path: Path, now: Now) -> None:
        """A datagram of an IKE port, without marker."""
        try:
            header = parse_header(message)
        except PeerError:
            self._ctx.drop("", Drop.MALFORMED)
            return
        if header.major != 2:
            self._strangers.other_version(header, path, now)
            return
        sa = self._find(header)
        if sa is None:
            if header.exchange == Exchange.IKE_SA_INIT and header.spi_r == init.NO_SPI and not header.response:
                self._strangers.request(message, header, path, now)
            else:
                self._hearsay.unknown(message, header, path, now)
            return
        try:
            parsed = parse(message)
        except PeerError:
            self._ctx.drop(sa.name, Drop.MALFORMED)
            return
        if parsed.payloads and isinstance(parsed.payloads[-1], Sk):
            sa.receive(message, parsed, path, now)
        else:
            self._hearsay.in_the_open(sa, message, parsed, path, now)

    def _find(self, header: Header) -> IkeSa | None:
        sa = self._sas.get(header.spi_r if header.initiator else header.spi_i)
        if sa is not None and sa.initiator is not header.initiator and sa.answers_to(header):
            return sa
        if header.response:
            # Who has no such SA cannot know whose flag to set.
            other = self._sas.get(header.spi_i) or self._sas.get(header.spi_r)
            if other is not None and (other.spi_i, other.spi_r) == (header.spi_i, header.spi_r):
                return other
        return None

    # ------------------------------------------------------------ whose address it is

    def _candidates(self, path: Path) -> Iterator[Tunnel]:
        """Whom a stranger on *path* may mean: who names its address first."""
        for tunnel in self._at(path.remote):
            if tunnel.connection.local in {None, path.local}:
                yield tunnel

    def _named(self, remote: bytes | None) -> int:
        return len(self._tunnels) if remote is None else len(self._by_remote.get(remote, ()))

    def _at(self, remote: bytes) -> Iterator[Tunnel]:
        for key in (remote, None):
            yield from tuple(self._by_remote.get(key, {}).values())

    # ------------------------------------------------------------ what IKE SAs need (`sa.Home`)

    def answer(self, sa: IkeSa, exchange: int, content: Content, now: Now) -> tuple[Payload, ...]:
        """See `Home`."""
        match exchange:
            case Exchange.IKE_AUTH:
                candidates = list(self._candidates(sa.path))
                payloads = auth.answer(sa, content, candidates, now)
                if sa.state is not State.REFUSED:
                    self._strangers.settled(sa)
                return payloads
            case Exchange.CREATE_CHILD_SA:
                ike = content.sa is not None and any(one.protocol == ProtocolId.IKE for one in content.sa.proposals)
                if ike:
                    return rekey.answer(sa, content, now)
                return create.answer(sa, content, now, busy=isinstance(sa.active, RekeyIke))
            case _:
                return delete.answer(sa, content, now)

    def register(self, sa: IkeSa) -> None:
        """See `Home`."""
        self._sas[sa.local_spi] = sa

    def forget(self, sa: IkeSa) -> None:
        """See `Home`."""
        if self._sas.get(sa.local_spi) is sa:
            del self._sas[sa.local_spi]
        self._hearsay.forget(sa)
        self._strangers.settled(sa)

    def unanswered(self, sa: IkeSa, now: Now) -> None:
        """See `Home`."""
        ending.unanswered(sa, now)

    def ended(self, sa: IkeSa, why: str, now: Now) -> None:
        """See `Home`."""
        ending.ended(sa, why, now)

    def closed(self, sa: IkeSa, why: str, cause: Cause, now: Now) -> None:
        """See `Home`."""
        ending.closed(sa, why, cause, now)

    # ------------------------------------------------------------ time

    def timeout(self, now: Now) -> None:
        """Do what is due: a bounded part of it; what is left is due at once."""
        for _ in range(DEADLINES_AT_ONCE):
            deadline = self._ctx.timers.pop_due(now.mono_ns)
            if deadline is None:
                return
            owner, timer = deadline
            match owner:
                case IkeSa():
                    due.sa_due(self._ctx, owner, timer, now)
                case Child():
                    due.child_due(self._ctx, owner, timer, now)
                case Lineage():
                    due.lineage_due(owner, timer, now)
                case Tunnel():
                    owner.start(now)
                case _:
                    assert_never(owner)  # type: ignore[arg-type]

    # ------------------------------------------------------------ beginning

    def _start(self, tunnel: Tunnel, now: Now) -> None:
        """As soon as those that began lately leave room."""
        at_ns = max(now.mono_ns, self._next_start_ns)
        self._next_start_ns = at_ns + START_APART_NS
        tunnel.begin_at(at_ns)

    def _begin(self, tunnel: Tunnel, now: Now) -> None:
        connection = tunnel.connection
        sa = init.begin(self._ctx, self, self._path_to(connection), now)
        sa.window.tempo(connection.retransmit_ns, connection.give_up_ns)
        lineage = tunnel.adopt(sa)
        self.register(sa)
        Initiate(tunnel, lineage, self._ctx).send(sa, now)

    def _path_to(self, connection: Connection) -> Path:
        """Before the peer has answered: from our address, or from whichever the route gives (all zero)."""
        remote = connection.remote
        assert remote is not None, "there is somebody to call"
        return Path(connection.local or bytes(len(remote)), remote, connection.port, False)

    def _child(self, name: str, spi: int) -> tuple[Lineage, Child] | None:
        tunnel = self._tunnels.get(name)
        for lineage in tunnel.lineages if tunnel is not None else ():
            child = lineage.children.get(spi)
            if child is not None:
                return lineage, child
        return None


def _agreement(connection: Connection) -> Connection:
    """What both sides agreed on: the connection without what is ours alone."""
    return replace(
        connection,
        start="start",
        ike_rekey_ns=0,
        rekey_ns=0,
        rekey_bytes=0,
        rekey_packets=0,
        dpd_ns=0,
        dpd_action="restart",
        retransmit_ns=0,
        give_up_ns=0,
    )
