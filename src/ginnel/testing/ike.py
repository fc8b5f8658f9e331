"""
Two (or more) `Ike` machines on one clock, over a network whose every message a test may hold, drop, double or reorder.

Each `Host` also plays the engine: it keeps the inbound SAs and the outbound one as the machine's effects say, refuses what the
engine would refuse, and `carries` tells whether a packet sent now would be taken at the other end.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ginnel.crypto.ike import KeyMaterial
from ginnel.ikev2 import effects, proposals, selectors
from ginnel.ikev2.connection import Connection
from ginnel.ikev2.effects import Path
from ginnel.ikev2.ike import Ike
from ginnel.ikev2.psk import PskBelieving, PskProving
from ginnel.testing.clock import FakeClock
from ginnel.units import NS_PER_S, Now
from ginnel.wire.ikev2 import Exchange, Header, Id, IdType, parse_header

#: Inbound SAs that the engine takes for one tunnel.
INBOUND_MAX = 4


@dataclass(frozen=True, slots=True)
class Datagram:
    """One IKE message on its way. number: in the order of sending, from 1. path: as its sender has it."""

    number: int
    sender: str
    receiver: str
    data: bytes
    path: Path
    sent_ns: int

    @property
    def header(self) -> Header:
        """Its header."""
        return parse_header(self.data)

    def is_(self, sender: str, exchange: Exchange, *, response: bool) -> bool:
        """Whether it is such a message."""
        header = self.header
        return self.sender == sender and header.exchange == exchange and header.response is response


@dataclass(slots=True)
class Inbound:
    """An inbound SA as the engine has it."""

    effect: effects.AddInbound
    since_ns: int
    used: bool = False
    #: Where its packets come from.
    place: tuple[bytes, int] | None = None


class Host:
    """One end: a machine, and a model of the engine under it."""

    def __init__(self, net: Net, name: str, address: bytes, *, crash_secret: bytes = b"", debug_keys: bool = False) -> None:
        self.net = net
        self.name = name
        self.address = address
        self.crash_secret = crash_secret or name.encode() * 8
        self.debug_keys = debug_keys
        self.spis = itertools.count(net.random.randrange(0x1000, 0x7FFF_0000))
        self.connections: dict[str, Connection] = {}
        self._clear()

    def _clear(self) -> None:
        self.reserved: set[int] = set()
        self.inbound: dict[tuple[str, int], Inbound] = {}
        self.outbound: dict[str, effects.SetOutbound] = {}
        self.spent: set[int] = set()
        self.events: list[effects.Event] = []
        self.keepalives = 0
        self.last_received: dict[str, int] = {}
        self.ike = Ike(
            entropy=self.net.random.randbytes,
            reserve_spi=self._reserve,
            last_received_ns=lambda tunnel: self.last_received.get(tunnel, 0),
            crash_secret=KeyMaterial.from_bytes(self.crash_secret),
            debug_keys=self.debug_keys,
        )

    def _reserve(self, _tunnel: str) -> int:
        spi = next(self.spis)
        self.reserved.add(spi)
        return spi

    def restart(self) -> None:
        """Killed and started again: nothing is left but the crash secret and the configuration."""
        self._clear()
        for connection in self.connections.values():
            self.ike.add(connection, self.net.clock.now())
        self.poll()

    def add(self, connection: Connection) -> None:
        """Configure a connection, for good."""
        self.connections[connection.name] = connection
        self.do(lambda ike, now: ike.add(connection, now))

    def do(self, act: Callable[[Ike, Now], None]) -> None:
        """An input, and what follows from it."""
        act(self.ike, self.net.clock.now())
        self.poll()

    def poll(self) -> int | None:
        """Do all that the machine wants; gives its deadline."""
        while True:
            out = self.ike.poll()
            match out:
                case effects.WaitUntil(at_ns):
                    return at_ns
                case effects.Send():
                    self.net.send(self, out)
                case effects.AddInbound():
                    here = [key for key in self.inbound if key[0] == out.tunnel]
                    assert len(here) < INBOUND_MAX, f"{self.name}: a fifth inbound SA"
                    assert out.spi in self.reserved, f"{self.name}: SPI {out.spi} was not reserved"
                    assert len(out.keys.key), f"{self.name}: keys were used before"
                    self.reserved.discard(out.spi)
                    self.inbound[out.tunnel, out.spi] = Inbound(out, self.net.clock.mono_ns)
                case effects.SetOutbound():
                    assert out.spi not in self.spent, f"{self.name}: outbound SA {out.spi} for the second time"
                    self.spent.add(out.spi)
                    self.outbound[out.tunnel] = out
                case effects.SetOutboundPath(tunnel, path, udp):
                    self.outbound[tunnel] = self.outbound[tunnel]._replace(path=path, udp=udp)
                case effects.RemoveInbound(tunnel, spi):
                    self.inbound.pop((tunnel, spi), None)
                case effects.ClearOutbound(tunnel):
                    self.outbound.pop(tunnel, None)
                case effects.ReleaseSpi(_, spi):
                    self.reserved.discard(spi)
                case effects.SendKeepalive():
                    self.keepalives += 1
                case _:
                    self.events.append(out)

    def told(self, kind: type) -> list[Any]:
        """Events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def view(self, tunnel: str = "t") -> Any:
        """What `show` would have."""
        return self.ike.view(tunnel, self.net.clock.now())


@dataclass(slots=True)
class Net:
    """
    The wire. rule: what becomes of a message: the delays (ns) after which it arrives, none: lost. Default: *delay_ns*, once.

    nats: who is behind one: the host's name -> (outside address, what is added to its ports).
    watch: called after every step; raise there when something that must hold does not.
    """

    seed: int = 1
    delay_ns: int = 1_000_000
    rule: Callable[[Datagram], list[int]] | None = None
    watch: Callable[[], None] | None = None
    clock: FakeClock = field(default_factory=FakeClock)
    hosts: dict[str, Host] = field(default_factory=dict)
    nats: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    sent: list[Datagram] = field(default_factory=list)
    random: random.Random = field(default_factory=random.Random)
    _flying: list[tuple[int, int, Datagram]] = field(default_factory=list)
    _number: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.random.seed(self.seed)

    def host(self, name: str, address: bytes, **options: Any) -> Host:
        """A new one."""
        self.hosts[name] = Host(self, name, address, **options)
        return self.hosts[name]

    def at(self, address: bytes) -> Host | None:
        """Whose address it is, seen from outside."""
        return next((one for one in self.hosts.values() if self.seen(one)[0] == address), None)

    def seen(self, host: Host) -> tuple[bytes, int]:
        """The address that others see *host* at, and what its NAT adds to its ports."""
        return self.nats.get(host.name, (host.address, 0))

    def send(self, host: Host, out: effects.Send) -> None:
        """Put a message on the wire."""
        other = self.at(out.path.remote)
        receiver = other.name if other is not None else ""
        datagram = Datagram(next(self._number), host.name, receiver, out.message, out.path, self.clock.mono_ns)
        self.sent.append(datagram)
        for delay_ns in [self.delay_ns] if self.rule is None else self.rule(datagram):
            self.deliver(datagram, delay_ns)

    def deliver(self, datagram: Datagram, delay_ns: int = 0) -> None:
        """Let it arrive, so much later."""
        heapq.heappush(self._flying, (self.clock.mono_ns + delay_ns, next(self._number), datagram))

    def arrive(self, datagram: Datagram) -> None:
        """Now."""
        host = self.hosts.get(datagram.receiver)
        if host is None:
            return
        address, shift = self.seen(self.hosts[datagram.sender])
        port = (4500 if datagram.path.natt else 500) + shift
        if (datagram.path.remote, datagram.path.remote_port) not in self._ways_to(host):
            return
        path = Path(host.address, address, port, datagram.path.natt)
        host.do(lambda ike, now: ike.receive(datagram.data, path, now))

    def _ways_to(self, host: Host) -> set[tuple[bytes, int]]:
        address, shift = self.seen(host)
        return {(address, 500 + shift), (address, 4500 + shift)}

    def step(self, until_ns: int) -> bool:
        """The next thing that happens; False when nothing does until then, and it is then."""
        deadlines = [(at, host) for host in self.hosts.values() if (at := host.poll()) is not None]
        at_ns = min((at for at, _ in deadlines), default=until_ns + 1)
        if self._flying and self._flying[0][0] <= min(at_ns, until_ns):
            arrives_ns, _, datagram = heapq.heappop(self._flying)
            self.clock.advance_to(max(arrives_ns, self.clock.mono_ns))
            self.arrive(datagram)
        elif at_ns <= until_ns:
            self.clock.advance_to(max(at_ns, self.clock.mono_ns))
            for deadline_ns, host in deadlines:
                if deadline_ns <= self.clock.mono_ns:
                    host.do(lambda ike, now: ike.timeout(now))
        else:
            self.clock.advance_to(until_ns)
            return False
        if self.watch is not None:
            self.watch()
        return True

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        until_ns = self.clock.mono_ns + int(seconds * NS_PER_S)
        steps = 0
        while self.step(until_ns):
            steps += 1
            assert steps < 1_000_000, "the machines never rest"

    def run_until(self, condition: Callable[[], bool], seconds: float = 60) -> bool:
        """Let time pass until *condition* holds; whether it does within *seconds*."""
        until_ns = self.clock.mono_ns + int(seconds * NS_PER_S)
        while not condition():
            if not self.step(until_ns):
                return condition()
        return True

    # ------------------------------------------------------------ the model of the data path

    def packet(self, sender: Host, receiver: Host, tunnel: str = "t", to: str = "t", *, use: bool = True) -> bool:
        """
        Whether a packet through the tunnel would be taken now; with *use* the receiver's machine is told, as the engine would.
        """
        out = sender.outbound.get(tunnel)
        if out is None:
            if use and sender.connections[tunnel].start == "trap":
                # The engine tells that an SA is missing, and the runtime asks for it.
                sender.do(lambda ike, now: ike.initiate(tunnel, now))
            return False
        found = receiver.inbound.get((to, out.spi))
        if out.path.remote != self.seen(receiver)[0] or (out.udp and out.path.remote_port != 4500 + self.seen(receiver)[1]):
            return False
        if found is None:
            if use:
                address, shift = self.seen(sender)
                path = Path(receiver.address, address, 4500 + shift if out.udp else 0, out.udp)
                receiver.do(lambda ike, now: ike.unknown_spi(out.spi, path, now))
            return False
        assert found.effect.suite == out.suite
        assert found.effect.transport == out.transport
        receiver.last_received[to] = self.clock.mono_ns
        if use and not found.used:
            found.used = True
            receiver.do(lambda ike, now: ike.sa_used(to, out.spi, now))
        if use and out.udp:
            # As the engine tells: once for each place.
            place = self.seen(sender)
            known, found.place = found.place, place
            if known not in {None, place}:
                receiver.do(lambda ike, now: ike.sa_moved(to, out.spi, place[0], 4500 + place[1], now))
        return True

    def carries(self, one: Host, other: Host) -> bool:
        """Whether packets would be taken in both directions, without anybody being told."""
        return self.packet(one, other, use=False) and self.packet(other, one, use=False)


LEFT, RIGHT = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
PSK = b"the secret of both"


def connection(local: bytes, remote: bytes | None, name: str = "t", *, psk: bytes = PSK, **changes: Any) -> Connection:
    """A connection between hosts that are known by their addresses; *changes* over the defaults."""
    secret = KeyMaterial.from_bytes(psk)
    made = Connection(
        name=name,
        local=local,
        remote=remote,
        local_id=Id(IdType.IPV4_ADDR, local),
        remote_id=Id(IdType.IPV4_ADDR, remote) if remote is not None else None,
        proving=PskProving(secret, "psk.key"),
        believing=PskBelieving(secret, "psk.key"),
        ike_proposals=proposals.parse_list(("aes256gcm16-prfsha256-x25519-ecp256",), "ike"),
        child_proposals=proposals.parse_list(("aes256gcm16-x25519-ecp256-none",), "esp"),
        transport=True,
        dynamic_protocol=selectors.PROTOCOLS["gre"],
        secret_name="psk.key",  # noqa: S106 - a file's name
    )
    return replace(made, **changes)


def pair(net: Net, left: dict[str, Any] | None = None, right: dict[str, Any] | None = None, **both: Any) -> tuple[Host, Host]:
    """Two hosts that know each other; the left one begins unless it is told otherwise."""
    one, other = net.host("left", LEFT), net.host("right", RIGHT)
    other.add(connection(RIGHT, LEFT, **({"start": "wait"} | both | (right or {}))))
    one.add(connection(LEFT, RIGHT, **(both | (left or {}))))
    return one, other
