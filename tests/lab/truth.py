"""
What really happens: the hosts of a network in namespaces, and a ping from everywhere to everywhere.

No report and no capture, only the truth: each pair of places, by each address family, answers or does not. Sessions come up
while it is asked; who is expected to answer is asked until it does, and after the last has answered, silence is listened to for
a while.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

from ginnel.lab import credentials, nodes, probe
from ginnel.lab.topology import INTERNET, OUTSIDE_V6, RESOLVER_V4, Topology, plan
from ginnel.lab.world import World
from ginnel.network import Network, NodeDescription
from ginnel.network.paths import links_of

UP_DEADLINE_S = 60.0
#: A handshake that crossed another's, or met a peer that was not up yet, is repeated after 5 s.
ANSWER_DEADLINE_S = 20.0
ROUND_S = 0.4
#: How long silence is listened to, once all others have answered.
SILENCE_S = 1.2
_CANARY = b"ginnel truth"


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to ping from and to; *source*: the addresses it sends from (none: the host's choice)."""

    name: str
    node: str
    space: str
    address: tuple[bytes, ...]
    lan: bool = False
    #: What it has itself, where the network knows its LAN by another prefix.
    bound: Mapping[bytes, bytes] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Pair:
    """From one place to an address of another (or of the internet)."""

    source: Place
    target: str
    packed: bytes

    @property
    def from_address(self) -> bytes | None:
        """What it is sent from; None: the host's choice."""
        if not self.source.lan:
            return None
        return next(each for each in self.source.address if len(each) == len(self.packed))

    def __str__(self) -> str:
        return f"{self.source.name} -> {self.target} {ipaddress.ip_address(self.packed)}"


class Truth:
    """The network in namespaces; a context manager."""

    def __init__(
        self, network: Network, descriptions: Mapping[str, NodeDescription], private: Mapping[str, str], name: str
    ) -> None:
        self.network, self.descriptions, self._private = network, descriptions, private
        self.topology: Topology = plan(network)
        self.world = World(self.topology, name)
        self._credentials = credentials.made_for(network, links_of(network))

    def __enter__(self) -> Self:
        self.world.__enter__()
        try:
            for wave in (False, True):
                self.world.each(self._up, [node.name for node in self.network.nodes if node.behind_nat is wave])
        except BaseException:
            self.world.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.world.close()

    def _up(self, name: str) -> None:
        description, held = self.descriptions[name], self.world[name]
        paths = nodes.configure(held, description, self._private[name], self._credentials.get(name))
        started = nodes.start(held, description, paths, UP_DEADLINE_S)
        assert started.ok, f"{name}: {started.command}: {started.said}"

    @property
    def places(self) -> list[Place]:
        """Every node, and everybody in a LAN."""
        found = [Place(name, name, name, tuple(item.packed for item in each.address)) for name, each in self.descriptions.items()]
        return found + [Place(host.space, host.node, host.space, host.address, True, host.bound) for host in self.topology.hosts]

    @property
    def pairs(self) -> list[Pair]:
        """From every place to every address of every other, and to somebody outside."""
        outside = [ipaddress.ip_address(text).packed for text in (RESOLVER_V4, OUTSIDE_V6)]
        found = []
        for source in self.places:
            for target in self.places:
                if target.name != source.name:
                    found += [Pair(source, target.name, packed) for packed in target.address if _can(source, packed)]
            found += [Pair(source, "outside", packed) for packed in outside if _can(source, packed)]
            found += [Pair(source, "protected", packed) for packed in self.protected if _can(source, packed)]
        return found + list(self._from_outside())

    @property
    def protected(self) -> list[bytes]:
        """An address of each prefix that is protected."""
        return [prefix.packed for protect in self.network.protects for prefix in protect.addresses]

    def _from_outside(self) -> Iterator[Pair]:
        """Clients and attackers of protected origins: at the addresses, and at the nodes' own ones."""
        found = self.topology.outsiders
        own = [ipaddress.ip_address(node.endpoint.host).packed for node in self.network.nodes if node.endpoint is not None]
        for role, them in (("client", found.clients), ("attacker", found.attackers)):
            for near, each in them.items():
                address = tuple(ipaddress.ip_address(text).packed for text in (each.v4, each.v6))
                place = Place(f"{role} near {near}", near, INTERNET, address, lan=True)
                yield from (Pair(place, "protected", packed) for packed in self.protected)
                yield from (Pair(place, "a node", packed) for packed in own)

    def answers(self, expected: Mapping[Pair, bool]) -> dict[Pair, bool]:
        """Who answers whom. *expected*: how long each is worth asking."""
        waiting = {pair for pair, reaches in expected.items() if reaches}
        found: dict[Pair, bool] = dict.fromkeys(expected, False)
        groups: dict[tuple[str, int, bytes | None], list[Pair]] = {}
        for pair in expected:
            source = pair.from_address
            own = pair.source.bound.get(source, source) if source is not None else None
            groups.setdefault((pair.source.space, len(pair.packed), own), []).append(pair)
        lock, end = threading.Lock(), time.monotonic() + ANSWER_DEADLINE_S
        settled = threading.Event()

        def ask(group: tuple[str, int, bytes | None]) -> None:
            space, size, source = group
            bound = str(ipaddress.ip_address(source)) if source is not None else None
            pairs = {str(ipaddress.ip_address(pair.packed)): pair for pair in groups[group]}
            with probe.Pinger(self.world[space], 4 if size == 4 else 6, _CANARY, bound) as pinger:
                last = False
                while pairs and not last:
                    last = settled.is_set()
                    for pong in pinger.ping_all(list(pairs), SILENCE_S if last else ROUND_S):
                        if pong.ok:
                            with lock:
                                pair = pairs.pop(pong.target)
                                found[pair] = True
                                waiting.discard(pair)
                    with lock:
                        if not waiting or time.monotonic() > end:
                            settled.set()
                    if pairs and not settled.is_set():
                        time.sleep(0.05)  # a refusal comes at once

        with ThreadPoolExecutor(max_workers=len(groups)) as pool:
            list(pool.map(ask, groups))
        return found


def _can(source: Place, packed: bytes) -> bool:
    """Whether it has an address of that family to send from; a node's is the host's business."""
    return not source.lan or any(len(each) == len(packed) for each in source.address)
