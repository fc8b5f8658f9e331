"""
Two IKE machines, each with a model of the engine's SAs, and a network between them that delivers what a test says, when it says
so.

    pair = IkePair()
    pair.establish()
    pair.a.rekey_child()
    pair.b.rekey_child()
    pair.deliver(pair.b)            # the oldest message that is under way to b
    pair.check_settled()            # the rest, in order, and what time brings

After every step the rules that no schedule may break are checked (`check`): what an end sends with, the other end can receive,
with the same keys, and (until somebody meant to end the connection) an end that could send still can. `check_settled` says what
is left when all is over: one IKE SA, one child, nothing forgotten.

Nothing of the machines' insides is used: inputs, effects and events alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from ginnel.crypto.ike import KeyMaterial
from ginnel.ikev2 import proposals
from ginnel.ikev2.connection import Believing, Connection, Proving
from ginnel.ikev2.effects import (
    AddInbound,
    ClearOutbound,
    Dropped,
    Event,
    Path,
    ReleaseSpi,
    RemoveInbound,
    Send,
    SendKeepalive,
    SetOutbound,
    SetOutboundPath,
    WaitUntil,
)
from ginnel.ikev2.ike import Ike
from ginnel.ikev2.psk import PskBelieving, PskProving
from ginnel.testing import FakeClock
from ginnel.units import NS_PER_S
from ginnel.wire.ikev2 import Exchange, Id, IdType, parse_header

NAME = "gre1"
SECRET = b"a secret that both ends have"
#: What was sent shortly before the sender changed SAs is still under way.
IN_FLIGHT_NS = NS_PER_S


def psk(secret: bytes = SECRET) -> tuple[Proving, Believing]:
    return PskProving(KeyMaterial.from_bytes(secret), "psk"), PskBelieving(KeyMaterial.from_bytes(secret), "psk")


def connection(
    local: bytes, remote: bytes, ours: str, theirs: str, credentials: tuple[Proving, Believing] | None = None, **changes: object
) -> Connection:
    """A GRE tunnel's transport mode connection; *changes*: other fields."""
    proving, believing = credentials or psk()
    made = Connection(
        name=NAME,
        local=local,
        remote=remote,
        local_id=Id(IdType.FQDN, ours.encode()),
        remote_id=Id(IdType.FQDN, theirs.encode()),
        proving=proving,
        believing=believing,
        ike_proposals=proposals.parse_list(["aes128gcm16-prfsha256-x25519"], "ike"),
        child_proposals=proposals.parse_list(["aes128gcm16-x25519-none-noesn"], "esp"),
        transport=True,
        dynamic_protocol=47,
        start="wait",
        ike_rekey_ns=10**6 * NS_PER_S,
        rekey_ns=10**6 * NS_PER_S,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


class Entropy:
    """Chance that follows from a seed; `nonces` are the first bytes of the next nonces (32 bytes each)."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.nonces: list[int] = []

    def __call__(self, size_bytes: int) -> bytes:
        made = self._random.randbytes(size_bytes)
        return bytes([self.nonces.pop(0)]) + made[1:] if size_bytes == 32 and self.nonces else made


@dataclass(frozen=True)
class Datagram:
    """A message under way; number: the how many-th of its sender."""

    sender: str
    number: int
    message: bytes
    path: Path

    def __str__(self) -> str:
        header = parse_header(self.message)
        names = {one.value: one.name for one in Exchange}
        kind = names.get(header.exchange, str(header.exchange))
        return f"{self.sender}{self.number} {kind} {'response' if header.response else 'request'} {header.message_id}"


@dataclass
class Engine:
    """The SAs of one tunnel as the engine has them."""

    inbound: dict[int, AddInbound] = field(default_factory=dict)
    outbound: SetOutbound | None = None
    reserved: set[int] = field(default_factory=set)
    used: set[int] = field(default_factory=set)
    #: SPI -> when it was last sent with.
    sent_ns: dict[int, int] = field(default_factory=dict)
    received_ns: int = 0
    next_spi: int = 0x100

    def reserve(self, tunnel: str) -> int:
        assert tunnel == NAME
        self.next_spi += 1
        self.reserved.add(self.next_spi)
        return self.next_spi


class Host:
    """One end: the machine, its engine's model, and all it told."""

    def __init__(self, letter: str, address: bytes, clock: FakeClock, seed: int, **options: object) -> None:
        self.letter, self.address, self.clock = letter, address, clock
        self.entropy = Entropy(seed)
        self.engine = Engine(next_spi=0x100 if letter == "a" else 0x10000)
        self.events: list[Event] = []
        self.sent: list[Datagram] = []
        self.outbox: Callable[[Datagram], None] = lambda _: None
        self.wake_ns: int | None = None
        #: SAs were ended on purpose, or came to their end: for a while nothing has to carry.
        self.ending = False
        #: Of the connection: "trap" is begun by a packet.
        self.start = "wait"
        self._options = options
        self.boot()

    def boot(self) -> None:
        """A new machine, as after the process was started."""
        self.ike = Ike(
            entropy=self.entropy,
            reserve_spi=self.engine.reserve,
            last_received_ns=lambda _: self.engine.received_ns,
            crash_secret=KeyMaterial.from_bytes(b"crash secret of " + self.letter.encode()),
            **self._options,  # type: ignore[arg-type]
        )

    def kill(self) -> None:
        """As kill -9 does: machine and engine are gone."""
        self.engine.inbound.clear()
        self.engine.outbound = None
        self.engine.reserved.clear()
        self.engine.sent_ns.clear()
        self.engine.used.clear()
        self.boot()

    # ------------------------------------------------------------ inputs

    def add(self, one: Connection) -> None:
        self.start = one.start
        self.ike.add(one, self.clock.now())
        self.poll()

    def initiate(self) -> None:
        self.ike.initiate(NAME, self.clock.now())
        self.poll()

    def terminate(self) -> None:
        self.ending = True
        self.ike.terminate(NAME, self.clock.now())
        self.poll()

    def rekey_child(self) -> None:
        self.ike.rekey_child(NAME, self.clock.now())
        self.poll()

    def rekey_ike(self) -> None:
        self.ike.rekey_ike(NAME, self.clock.now())
        self.poll()

    def expire(self, *, hard: bool, inbound: bool = False) -> None:
        """The engine tells that the current SA comes to its end, or is there; nothing if there is none."""
        out = self.engine.outbound
        if out is None:
            return
        self.ending |= hard
        spi = next(iter(self.engine.inbound)) if inbound else out.spi
        self.ike.sa_expiring(NAME, spi, inbound, hard, self.clock.now())
        self.poll()

    def receive(self, message: bytes, path: Path) -> None:
        self.ike.receive(message, path, self.clock.now())
        self.poll()

    def timeout(self) -> None:
        self.ike.timeout(self.clock.now())
        self.poll()

    # ------------------------------------------------------------ effects

    def poll(self) -> None:
        while True:
            match self.ike.poll():
                case WaitUntil(mono_ns=wake_ns):
                    self.wake_ns = wake_ns
                    return
                case one:
                    self._do(one)

    def _do(self, one: object) -> None:
        engine = self.engine
        match one:
            case Send(message=message, path=path):
                self.sent.append(Datagram(self.letter, len(self.sent), message, path))
                self.outbox(self.sent[-1])
            case AddInbound(spi=spi):
                engine.reserved.remove(spi)
                engine.inbound[spi] = one
                assert len(engine.inbound) <= 4, "more than four receiving SAs"
            case RemoveInbound(spi=spi):
                del engine.inbound[spi]
            case ReleaseSpi(spi=spi):
                engine.reserved.remove(spi)
            case SetOutbound():
                if engine.outbound is not None:
                    engine.sent_ns[engine.outbound.spi] = self.clock.mono_ns
                engine.outbound = one
            case SetOutboundPath(path=path, udp=udp):
                assert engine.outbound is not None
                engine.outbound = engine.outbound._replace(path=path, udp=udp)
            case ClearOutbound():
                engine.outbound = None
            case SendKeepalive():
                pass
            case _:
                self.events.append(one)  # type: ignore[arg-type]

    # ------------------------------------------------------------ what was told

    def told(self, *kinds: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kinds)]

    @property
    def drops(self) -> Counter[str]:
        return Counter(event.reason for event in self.events if isinstance(event, Dropped))

    def letters(self) -> str:
        """The events in short, for messages of assertions."""
        return "\n".join(f"  {self.letter}: {event}" for event in self.events)


class IkePair:
    """Ends a and b; a initiates."""

    def __init__(
        self,
        *,
        seed: int = 1,
        credentials: tuple[tuple[Proving, Believing], tuple[Proving, Believing]] | None = None,
        traffic: bool = False,
        changes_a: Mapping[str, object] = MappingProxyType({}),
        changes_b: Mapping[str, object] = MappingProxyType({}),
        **changes: object,
    ) -> None:
        """changes: of both connections' fields; changes_a, changes_b: of one's."""
        self.clock = FakeClock()
        addresses = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
        self.a = Host("a", addresses[0], self.clock, seed)
        self.b = Host("b", addresses[1], self.clock, seed + 1000)
        #: What is under way, by the letter of who it is for.
        self.flight: dict[str, list[Datagram]] = {"a": [], "b": []}
        self.traffic = traffic
        #: The rules hold from when both ends have an SA.
        self.strict = False
        self.log: list[str] = []
        self.lost: list[str] = []
        for host, other in ((self.a, self.b), (self.b, self.a)):
            host.outbox = self.flight[other.letter].append
        mine = credentials or (psk(), psk())
        self.connections = (
            connection(addresses[0], addresses[1], "a.example.org", "b.example.org", mine[0], **{**changes, **changes_a}),
            connection(addresses[1], addresses[0], "b.example.org", "a.example.org", mine[1], **{**changes, **changes_b}),
        )
        self.a.add(self.connections[0])
        self.b.add(self.connections[1])

    @property
    def hosts(self) -> tuple[Host, Host]:
        return self.a, self.b

    def other(self, host: Host) -> Host:
        return self.b if host is self.a else self.a

    # ------------------------------------------------------------ steps

    def establish(self) -> tuple[bytes, bytes]:
        """All the way up, without faults, and quiet; the SPIs of the IKE SA."""
        self.a.initiate()
        self.flush()
        for host in self.hosts:
            assert host.engine.outbound is not None, f"no child SA\n{self.story()}"
        self.strict = True
        self.check()
        header = parse_header(self.a.sent[-1].message)
        for host in self.hosts:
            host.events.clear()
            host.sent.clear()
        self.log.clear()
        return header.spi_i, header.spi_r

    def deliver(self, to: Host, index: int = 0) -> Datagram:
        """One message that is under way to *to*, the oldest by default."""
        one = self.flight[to.letter].pop(index)
        self.log.append(f"{one} -> {to.letter}")
        self.hand(to, one)
        return one

    def hand(self, to: Host, one: Datagram) -> None:
        """*one* arrives (again)."""
        sender = self.other(to)
        port = 4500 if one.path.natt else 500
        to.receive(one.message, Path(to.address, sender.address, port, one.path.natt))
        self.step()

    def drop(self, to: Host, index: int = 0) -> Datagram:
        """It never arrives."""
        one = self.flight[to.letter].pop(index)
        self.log.append(f"{one} lost")
        return one

    def flush(self) -> None:
        """Everything under way arrives, in order, and what is answered to it."""
        for _ in range(200):
            busy = [host for host in self.hosts if self.flight[host.letter]]
            if not busy:
                return
            self.deliver(busy[0])
        raise AssertionError(f"the ends talk without end\n{self.story()}")

    def step(self) -> None:
        """After each input: traffic flows if there is some, and the rules are looked at."""
        if self.traffic:
            for host in self.hosts:
                self._packet(host)
        self.check()

    def run_until(self, mono_ns: int, lose: Callable[[Datagram], bool] = lambda _: False) -> None:
        """Time goes on; messages arrive at once, but for those that *lose* picks."""
        for _ in range(100_000):
            for host in self.hosts:
                while self.flight[host.letter]:
                    if lose(self.flight[host.letter][0]):
                        self.drop(host)
                    else:
                        self.deliver(host)
            if any(self.flight.values()):
                continue
            wakes = [host.wake_ns for host in self.hosts if host.wake_ns is not None]
            following = min(wakes, default=mono_ns + 1)
            if following > mono_ns:
                break
            self.clock.advance_to(max(following, self.clock.mono_ns))
            for host in self.hosts:
                if host.wake_ns is not None and host.wake_ns <= self.clock.mono_ns:
                    host.timeout()
                    assert host.wake_ns is None or host.wake_ns > self.clock.mono_ns or any(self.flight.values()), (
                        "a timer that is due again and again"
                    )
            self.step()
        else:
            raise AssertionError(f"no end\n{self.story()}")
        self.clock.advance_to(max(mono_ns, self.clock.mono_ns))

    def run_for(self, seconds: float, lose: Callable[[Datagram], bool] = lambda _: False) -> None:
        self.run_until(self.clock.mono_ns + int(seconds * NS_PER_S), lose)

    def _packet(self, host: Host) -> None:
        """One packet of the tunnel's from *host* to the other."""
        out, peer = host.engine.outbound, self.other(host)
        if out is None:
            if host.start == "trap":
                host.initiate()
            return
        host.engine.sent_ns[out.spi] = self.clock.mono_ns
        if out.spi not in peer.engine.inbound:
            peer.ike.unknown_spi(out.spi, Path(peer.address, host.address, 0, False), self.clock.now())
            peer.poll()
            return
        peer.engine.received_ns = self.clock.mono_ns
        if out.spi not in peer.engine.used:
            peer.engine.used.add(out.spi)
            peer.ike.sa_used(NAME, out.spi, self.clock.now())
            peer.poll()

    # ------------------------------------------------------------ rules

    def check(self) -> None:
        """Nothing that is sent is lost: the rules of every moment."""
        for host in self.hosts:
            out, peer = host.engine.outbound, self.other(host)
            ending = host.ending or peer.ending or not self.strict
            if out is None:
                if not ending:
                    self._wrong(f"{host.letter} cannot send any more")
                continue
            if ending:
                continue
            there = peer.engine.inbound.get(out.spi)
            if there is None:
                self._wrong(f"{host.letter} sends with {out.spi:#x}, which {peer.letter} does not receive")
            elif there.keys.key != out.keys.key or there.keys.integrity != out.keys.integrity or there.suite != out.suite:
                self._wrong(f"{host.letter} and {peer.letter} have other keys for {out.spi:#x}")
            for spi, sent_ns in host.engine.sent_ns.items():
                if self.clock.mono_ns - sent_ns < IN_FLIGHT_NS and spi not in peer.engine.inbound:
                    self._wrong(
                        f"packets of {host.letter} with {spi:#x} are under way, and {peer.letter} does not receive them any more"
                    )

    def check_settled(self) -> tuple[bytes, bytes]:
        """
        Once all is over: one IKE SA, one child, the same at both ends; nothing kept of others.

        Returns:
            The SPIs of the IKE SA.
        """
        self.run_for(60)
        a, b = self.a.engine, self.b.engine
        for engine, peer in ((a, b), (b, a)):
            if len(engine.inbound) != 1:
                self._wrong(f"expected one receiving SA, found {[hex(spi) for spi in engine.inbound]}")
            if engine.outbound is None or set(peer.inbound) != {engine.outbound.spi}:
                self._wrong("the ends' child SAs are not one")
            if engine.reserved:
                self._wrong(f"SPIs that nobody released: {[hex(spi) for spi in engine.reserved]}")
        self.check()
        # Whatever IKE SA an end still has, it asks the other about it.
        quiet = self.traffic
        self.traffic = False
        begin = {host.letter: len(host.sent) for host in self.hosts}
        self.run_for(200)
        self.traffic = quiet
        spis = {
            (header.spi_i, header.spi_r)
            for host in self.hosts
            for one in host.sent[begin[host.letter] :]
            for header in [parse_header(one.message)]
        }
        if len(spis) != 1:
            self._wrong(f"expected one IKE SA that is alive, found {[(i.hex(), r.hex()) for i, r in spis]}")
        return spis.pop()

    def check_gone(self) -> None:
        """The connection was ended: nothing is left at either end."""
        self.run_for(200)
        for host in self.hosts:
            if host.engine.inbound or host.engine.outbound is not None or host.engine.reserved:
                self._wrong(f"{host.letter} kept SAs: {host.engine}")
        begin = {host.letter: len(host.sent) for host in self.hosts}
        self.run_for(200)
        for host in self.hosts:
            if len(host.sent) > begin[host.letter]:
                self._wrong(f"{host.letter} still talks: {[str(one) for one in host.sent[begin[host.letter] :]]}")

    def _wrong(self, sentence: str) -> None:
        raise AssertionError(f"{sentence}\n{self.story()}")

    def story(self) -> str:
        return "\n".join([*self.log[-60:], self.a.letters(), self.b.letters()])
