"""
Two interfaces that talk to each other: machine, engine's model, network and clock, joined.

`Node` is one interface as the runtime would run it: events of the tunnel go into the machine, effects of the machine onto
the tunnel, until both are quiet. `Pair` moves time from one thing that is due to the next (a datagram, a timer), so a day
passes in milliseconds and every deadline is met to the nanosecond. What happens at one instant happens in a fixed order:
datagrams, then left's timers, then right's.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from ginnel import crypto
from ginnel.crypto import Secret
from ginnel.testing.clock import FakeClock
from ginnel.testing.net import Datagram, SimNet
from ginnel.testing.tunnel import EndpointChanged, FakePeer, FakeTunnel, HandshakeReceived, SessionConfirmed, SessionNeeded
from ginnel.units import NS_PER_S, Endpoint, Now, PublicKey
from ginnel.wireguard.effects import AttemptStarted, ClockBehind, Effect, Established, Event, GaveUp, WaitUntil
from ginnel.wireguard.interface import Drop, Interface
from ginnel.wireguard.peer import Peer, PeerChange, Remembered


class Node:
    """One interface with one peer, at one address."""

    def __init__(self, name: str, clock: FakeClock, net: SimNet, address: Endpoint, seed: int, keys: set[str]) -> None:
        self.name = name
        self.clock = clock
        self.net = net
        self.address = address
        self._random = random.Random(seed)  # noqa: S311 - a simulation's chance, not a key's
        self._keys = keys
        self.private_key = Secret.from_bytes(self._random.randbytes(32)).clamp()
        #: What the machine put out since the test last looked, and the refusals of `receive`.
        self.effects: list[Effect] = []
        self.events: list[Event] = []
        self.drops: list[Drop] = []
        self._begin()

    def _begin(self) -> None:
        self.tunnel = FakeTunnel(
            seed=self._random.getrandbits(32),
            mono_ns=lambda: self.clock.mono_ns,
            transmit=lambda to, payload: self.net.send(Datagram(self.address, to, payload), self.clock.mono_ns),
            keys=self._keys,
        )
        self.machine = Interface(
            add_peer=self.tunnel.add_peer, reserve_index=self.tunnel.reserve_index, entropy=self._random.randbytes
        )

    def crash(self) -> None:
        """Lose everything but the key: a new machine on a new tunnel, down and without peers."""
        self._begin()

    @property
    def now(self) -> Now:
        """One reading of both clocks."""
        return self.clock.now()

    @property
    def peer(self) -> Peer:
        """The one peer, of the machine."""
        (peer,) = self.machine.peers()
        return peer

    @property
    def tunnel_peer(self) -> FakePeer:
        """The one peer, of the tunnel."""
        return self.tunnel.peers[self.peer.handle]

    @property
    def delivered(self) -> list[bytes]:
        """Payloads that came out of the tunnel, in order."""
        return [payload for _, payload in self.tunnel.delivered]

    def configure(self, change: PeerChange) -> None:
        """Give the machine a peer's configuration."""
        self.machine.configure_peer(change, self.now)
        self.settle()

    def command(self, give: Callable[[Interface, Now], object]) -> None:
        """Give the machine a command."""
        give(self.machine, self.now)
        self.settle()

    def send(self, payload: bytes) -> None:
        """A packet for the peer."""
        self.tunnel.send(self.peer.handle, payload)
        self.settle()

    def receive(self, datagram: bytes, source: Endpoint) -> None:
        """A datagram arrived."""
        self.tunnel.receive(datagram, source)
        self.settle()

    def remembered(self) -> dict[PublicKey, Remembered]:
        """What would be written down now."""
        return self.machine.remembered(self.tunnel.counters(), self.now)

    def next_ns(self) -> int | None:
        """When something is due here."""
        wait = self.machine.poll()
        assert isinstance(wait, WaitUntil), "settle() was not called"
        return min((at_ns for at_ns in (wait.mono_ns, self.tunnel.next_ns()) if at_ns is not None), default=None)

    def timeout(self) -> None:
        """Do what is due."""
        self.tunnel.timeout()
        self.settle()
        self.machine.timeout(self.now)
        self.settle()

    def settle(self) -> None:
        """Carry events and effects to and fro until there are none."""
        while True:
            while not isinstance(output := self.machine.poll(), WaitUntil):
                if isinstance(output, (AttemptStarted, Established, GaveUp, ClockBehind)):
                    self.events.append(output)
                else:
                    self.effects.append(output)
                    output.apply(self.tunnel)
            if not self.tunnel.events:
                return
            match self.tunnel.events.popleft():
                case HandshakeReceived(message, source):
                    drop = self.machine.receive(message, source, self.now)
                    if drop is not None:
                        self.drops.append(drop)
                case SessionNeeded(peer, reason):
                    self.machine.session_needed(peer, reason, self.now)
                case SessionConfirmed(peer, index):
                    self.machine.session_confirmed(peer, index, self.now)
                case EndpointChanged(peer):
                    self.machine.endpoint_changed(peer, self.now)


class Pair:
    """
    Two nodes, each other's only peer, up and with each other's endpoint.

    Args:
        seed: of everything but the ephemeral keys, which change no decision.
        preshared_key: of both sides.
        delay_ns: one way.
        introduced: false leaves right without left's endpoint, as a server is.
    """

    def __init__(
        self, *, seed: int = 1, preshared_key: Secret | None = None, delay_ns: int = 1_000_000, introduced: bool = True
    ) -> None:
        chance = random.Random(seed)  # noqa: S311 - a simulation's chance, not a key's
        self.clock = FakeClock()
        self.net = SimNet(chance.getrandbits(32), delay_ns=delay_ns)
        #: All keys ever installed, by role.
        self.keys: set[str] = set()
        self.left, self.right = (
            Node(name, self.clock, self.net, Endpoint(bytes([192, 0, 2, last]), 51820), chance.getrandbits(32), self.keys)
            for name, last in (("left", 1), ("right", 2))
        )
        self._preshared_key = preshared_key
        for node, other in ((self.left, self.right), (self.right, self.left)):
            self.set_up(node, other.address if introduced or node is self.left else None)

    def other(self, node: Node) -> Node:
        """The one at the other end."""
        return self.right if node is self.left else self.left

    def set_up(self, node: Node, endpoint: Endpoint | None) -> None:
        """Configure a node afresh: key, peer, up."""
        public_key = crypto.public_key(self.other(node).private_key)
        node.command(lambda machine, now: machine.set_private_key(node.private_key, now))
        node.configure(PeerChange(public_key, preshared_key=self._preshared_key, endpoint=endpoint))
        node.command(lambda machine, now: machine.up(now))

    def restart(self, node: Node, *, remembering: bool) -> None:
        """Kill a node and start it again at once, with its configuration, and with or without what it had written down."""
        remembered = node.machine.remembered(node.tunnel.counters(), node.now)
        endpoint = node.tunnel_peer.endpoint
        node.crash()
        if remembering:
            node.command(lambda machine, now: machine.restore(remembered, now))
        self.set_up(node, endpoint)

    def establish(self) -> None:
        """Let left make a session and both sides confirm it; nothing is in flight afterwards."""
        self.left.send(b"first")
        self.run_for(milliseconds=100)
        assert self.right.delivered[-1:] == [b"first"], "no session came about"

    def next_ns(self) -> int | None:
        """When the next thing is due."""
        return min(
            (at_ns for at_ns in (self.net.next_ns(), self.left.next_ns(), self.right.next_ns()) if at_ns is not None),
            default=None,
        )

    def step(self, limit_ns: int) -> bool:
        """Move to the next thing that is due by *limit_ns* and do it; False (and the clock at *limit_ns*) when there is none."""
        at_ns = self.next_ns()
        if at_ns is None or at_ns > limit_ns:
            self.clock.advance_to(limit_ns)
            return False
        self.clock.advance_to(max(at_ns, self.clock.mono_ns))
        while (datagram := self.net.pop_due(self.clock.mono_ns)) is not None:
            for node in (self.left, self.right):
                if node.address == datagram.destination:
                    node.receive(datagram.payload, datagram.source)
        self.left.timeout()
        self.right.timeout()
        return True

    def run_for(self, *, seconds: float = 0, milliseconds: float = 0) -> int:
        """Let time pass; returns how many times something was due."""
        limit_ns = self.clock.mono_ns + round(seconds * NS_PER_S) + round(milliseconds * NS_PER_S / 1000)
        steps = 0
        while self.step(limit_ns):
            steps += 1
        return steps
