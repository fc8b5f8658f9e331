"""
The rehearsal, in order: build, control, up, handshakes, probes, throughput, verdict.

The order is part of the proof. The capture runs before anything else and sees the control canary in clear; then nodes that others
can reach come up, then those behind NAT (which speak first); then every link is asked for its three parts; then every
place pings every other, expectations are tried, MTUs proven, names resolved, load put on; and last the capture says what it
saw. Deadlines are for a slow machine: a healthy lab never waits for one.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ginnel import crypto
from ginnel.lab import credentials, nodes, probe, tunnels
from ginnel.lab.capture import Capture, open_link
from ginnel.lab.model import Model
from ginnel.lab.namespaces import Held
from ginnel.lab.protected import Trial
from ginnel.lab.report import (
    CapturedLink,
    CaptureReport,
    DnsReport,
    ExpectReport,
    Finding,
    LabReport,
    LinkReport,
    MtuReport,
    NodeReport,
    ReachReport,
    ThroughputReport,
)
from ginnel.lab.topology import INTERNET, OUTSIDE_V6, RESOLVER_V4, ROUTER_V4, plan
from ginnel.lab.world import World
from ginnel.network import Expect, Link, Lock, Network, Node, NodeDescription, compile_network
from ginnel.network.addressing import within
from ginnel.network.model import PROTECTED
from ginnel.network.paths import Paths
from ginnel.network.reach import Verdict
from ginnel.units import PublicKey

UP_DEADLINE_S = 30.0
HANDSHAKE_DEADLINE_S = 20.0
NUDGE_S = 1.0
PROBE_DEADLINE_S = 6.0
#: How long silence is listened to where the file says that nothing reaches.
SILENCE_S = 1.0
#: When a GRE link stays silent: how long its processes are given to find out why and say it (they ask for 30 s of silence, and
#: look every 10).
EXPLAIN_DEADLINE_S = 50.0
#: When GRE of the computed size does not pass: how long the processes are given to find the size that does (probes of the path).
LEARN_DEADLINE_S = 15.0
#: A session is of no use after this age (WireGuard's REJECT_AFTER_TIME).
REJECT_AFTER_S = 180.0

_INSIDE_ANSWER, _OUTSIDE_ANSWER = "192.0.2.53", "192.0.2.54"


@dataclass(frozen=True, slots=True)
class Options:
    """What a rehearsal may be told besides the file."""

    keep: bool = False
    #: Seconds of load on one link; 0: none.
    throughput_s: float = 3.0


@dataclass(frozen=True, slots=True)
class _Place:
    """Somewhere to ping from and to: a LAN host, or a node that has no LAN."""

    name: str
    node: Node
    space: str
    address: tuple[bytes, ...]
    #: The same as it has them itself, where its LAN is mapped.
    bound: Mapping[bytes, bytes] = field(default_factory=dict)

    def of(self, version: int) -> str | None:
        """Its first address of that family, as others know it."""
        packed = self._first(version)
        return str(ipaddress.ip_address(packed)) if packed else None

    def own(self, version: int) -> str | None:
        """The same, as it has it itself."""
        packed = self._first(version)
        return str(ipaddress.ip_address(self.bound.get(packed, packed))) if packed else None

    def _first(self, version: int) -> bytes:
        return next((packed for packed in self.address if len(packed) == (4 if version == 4 else 16)), b"")


class Rehearsal:
    """One run of one network."""

    def __init__(self, network: Network, lock: Lock, options: Options, progress: Callable[[str], None]) -> None:
        """
        Args:
            network: a checked network.
            lock: its allocated addresses.
            options: see `Options`.
            progress: is told each step in a few words.
        """
        self.network = network
        self.options = options
        self.progress = progress
        self.lab_id = secrets.token_hex(2)
        self.topology = plan(network)
        self.paths = Paths(network)
        private = {node.name: crypto.generate_private_key() for node in network.nodes}
        self._private = private
        self.keys = {name: PublicKey(crypto.public_key(key)) for name, key in private.items()}
        self.descriptions = compile_network(network, lock, self.keys)
        self._credentials = credentials.made_for(network, self.paths.links, lock)
        self._psk = credentials.preshared(self.descriptions.values())
        self.places = tuple(self._places())
        self.model = Model(network, self.topology, self.descriptions.values())
        self.model_says = self.model.outcomes()
        # In every payload of ours; 16 random bytes are in no packet by chance.
        self.canary = b"ginnel canary " + secrets.token_bytes(16)
        self.control = b"ginnel control " + secrets.token_bytes(16)
        self.outside = b"ginnel outside " + secrets.token_bytes(16)
        self.client = b"ginnel client " + secrets.token_bytes(16)
        self.faulty = any(wire.faults.any for wire in self.topology.wires)
        self.world = World(self.topology, self.lab_id, keep=options.keep, seed=network.lab.seed)
        self.went_up = False
        #: Links that never came alive: what crosses them is not waited for at length.
        self.silent: set[frozenset[str]] = set()

    def run(self) -> LabReport:
        """Rehearse; the world is ended unless it is to be kept and every node came up."""
        began = time.monotonic()
        with self.world, ExitStack() as stack:
            self.progress(f"{len(self.topology.spaces)} namespaces, {len(self.topology.wires)} wires")
            capture = self._watch(stack)
            self._control(capture)
            servers = stack.enter_context(ExitStack())
            self._serve(servers)
            ups = self._up()
            report = LabReport(self.network.name, self.lab_id, 0.0, ups)
            if all(node.up.ok for node in ups):
                self.went_up = True
                report = self._probe(report, capture)
            capture.close()
            report = replace(report, capture=self._captured(capture, report.links), seconds=time.monotonic() - began)
            if self.options.keep and self.went_up:
                self.world.namespaces.leave_running()
            return report

    # -- before

    def _places(self) -> list[_Place]:
        places = [
            _Place(host.space, self.network.node(host.node), host.space, host.address, host.bound) for host in self.topology.hosts
        ]
        with_lan = {host.node for host in self.topology.hosts}
        for name, description in self.descriptions.items():
            if name not in with_lan:
                address = tuple(item.packed for item in description.address)
                places.append(_Place(name, description.node, name, address))
        return places

    def _watch(self, stack: ExitStack) -> Capture:
        inner = [*self.network.pool, *(lan for node in self.network.nodes for lan in node.lans)]
        protected = any(link.ipsec is not None for link in self.paths.links)
        capture = Capture(inner, self.canary, self.control, self.outside, self._plain_ends(), protected)
        capture.hide([prefix for protect in self.network.protects for prefix in protect.addresses])
        edges = {edge for protect in self.network.protects for edge in protect.edges}
        leaving = {node.name for node in self.network.nodes if node.exit is not None}
        exits = {node.exit for node in self.network.nodes}
        for wire in self.topology.wires:
            if wire.underlay:
                space, interface = wire.left
                node = wire.name.partition(" ")[0]
                sock = self.world[space].inside(lambda interface=interface: open_link(interface))  # type: ignore[misc]
                capture.watch(wire.name, sock, node if node in leaving else None, node in exits, node in edges)
        return stack.enter_context(capture)

    def _plain_ends(self) -> list[tuple[str, str]]:
        """Every pair of addresses between which GRE of this network may be seen, before and behind a NAT."""
        found: list[tuple[str, str]] = []
        for link in self._gre_links():
            left, right = ((self.topology.public[name], *self.topology.inside[name]) for name in link.between)
            found += [(one, other) for one in left for other in right if (":" in one) == (":" in other)]
        return found

    def _gre_links(self) -> list[Link]:
        return [link for link in self.paths.links if link.kind == "gre"]

    def _control(self, capture: Capture) -> None:
        """Send the control canary in clear over every link until every link has shown that it sees it."""
        deadline = time.monotonic() + PROBE_DEADLINE_S
        while time.monotonic() < deadline:
            for node in self.network.nodes:
                probe.send_clear(self.world[node.name], ROUTER_V4, self.control)
            settled = time.monotonic() + 0.05
            while time.monotonic() < settled:
                if all(link.control for link in capture.links):
                    self.progress(f"capturing {len(capture.links)} underlay links (control canary seen on each)")
                    return
                time.sleep(0.005)

    def _serve(self, stack: ExitStack) -> None:
        """Listeners for what expectations name, and the resolvers."""
        stack.enter_context(probe.Responder(self.world[INTERNET], RESOLVER_V4, _OUTSIDE_ANSWER))
        for server in dict.fromkeys(text for node in self.network.nodes for text in node.dns):
            where = self._space_of(ipaddress.ip_address(server).packed)
            if where is not None and where not in self.descriptions:  # a node's own address exists only once it is up
                own = self._own(ipaddress.ip_address(server).packed)
                stack.enter_context(probe.Responder(self.world[where], own, _INSIDE_ANSWER))
        served: set[tuple[bytes, int]] = set()
        for expect in self.network.expects:
            target = expect.target
            where = self._space_of(target.packed) if target.packed else None
            if (
                target.port
                and where is not None
                and where not in self.descriptions
                and (target.packed, target.port) not in served
            ):
                served.add((target.packed, target.port))
                stack.enter_context(probe.Echo(self.world[where], self._own(target.packed), target.port))

    def _own(self, packed: bytes) -> str:
        """An address as its host has it itself."""
        bound = (host.bound[packed] for host in self.topology.hosts if packed in host.bound)
        return str(ipaddress.ip_address(next(bound, packed)))

    def _space_of(self, packed: bytes) -> str | None:
        """The namespace in which an address lives: a LAN host, the internet, or a node."""
        for host in self.topology.hosts:
            if packed in host.address:
                return host.space
        if packed in self.topology.outside:
            return INTERNET
        for name, description in self.descriptions.items():
            own = [*description.address, *(item for tunnel in description.tunnels for item in tunnel.address)]
            if any(item.packed == packed for item in own):
                return name
            if any(within(packed, lan) for lan in description.node.lans):
                return name  # the node's own address in its LAN
        for protect in self.network.protects:
            if any(within(packed, prefix) for prefix in protect.addresses):
                return protect.origin
        return None

    # -- up

    def _up(self) -> tuple[NodeReport, ...]:
        reports: dict[str, NodeReport] = {}
        lock = threading.Lock()

        def up(name: str) -> None:
            description, held = self.descriptions[name], self.world[name]
            private = self._private[name].reveal_base64()
            paths = nodes.configure(held, description, private, self._credentials.get(name), self._psk.get(name))
            started = nodes.start(held, description, paths, UP_DEADLINE_S)
            evidence = f"{started.command} in {started.seconds:.1f} s" if started.ok else f"{started.command}: {started.said}"
            with lock:
                reports[name] = _node_report(description, started.seconds, Finding(started.ok, evidence))

        waves = (
            [node.name for node in self.network.nodes if not node.behind_nat],
            [node.name for node in self.network.nodes if node.behind_nat],
        )
        for wave in waves:
            if wave:
                self.world.each(up, wave)
        good = sum(report.up.ok for report in reports.values())
        self.progress(f"{good} of {len(reports)} nodes are up")
        return tuple(reports[node.name] for node in self.network.nodes)

    # -- probes

    def _probe(self, report: LabReport, capture: Capture) -> LabReport:
        for node in self.network.nodes:
            if node.exit is not None:
                capture.arm(node.name, self._outside_of_peers(self.descriptions[node.name]))
        self._wait_for_links()
        links = self._links()
        report = replace(report, links=links, reachability=self._reachability())
        self.progress(f"{sum(reach.ok for reach in report.reachability)} of {len(report.reachability)} ways are as the file says")
        carrying = [link.between for link in links if link.carrying.ok]
        report = replace(report, expectations=self._expectations(), mtu=self._mtus(carrying), dns=self._dns())
        if self.network.protects:
            report = replace(report, protects=Trial(self.network, self.world, self.client, self.progress).run())
        if self.options.throughput_s > 0 and carrying:
            capture.ignore_tunnels(True)
            report = replace(report, throughput=self._throughput(carrying))
            capture.ignore_tunnels(False)
        return replace(report, links=self._explained(links))

    def _outside_of_peers(self, description: NodeDescription) -> list[str]:
        return [self._numeric(peer.endpoint.host) for peer in description.peers if peer.endpoint is not None]

    def _numeric(self, host: str) -> str:
        return self.topology.names.get(host, host)

    def _wait_for_links(self) -> None:
        """Give every link a reason to come alive, and wait until both of its ends say that it is."""
        waiting = {frozenset(link.between): link for link in self.paths.links}
        began = time.monotonic()
        nudge = 0.0
        while waiting and time.monotonic() < began + HANDSHAKE_DEADLINE_S:
            if time.monotonic() >= nudge:
                nudge = time.monotonic() + NUDGE_S
                for link in waiting.values():
                    self._nudge(link)
            kinds = {link.kind for link in waiting.values()}
            live = {name: self._interface(name) for name in self.descriptions} if "wireguard" in kinds else {}
            said = self._said() if kinds != {"wireguard"} else {}
            for pair, link in list(waiting.items()):
                left, right = link.between
                if link.point_to_point:
                    alive = tunnels.is_alive(link.between, self._devices(link), said)
                else:
                    alive = all(self._shaken(live[near], far) for near, far in ((left, right), (right, left)))
                if alive:
                    del waiting[pair]
            if waiting:
                time.sleep(0.05)
        self.silent = set(waiting)
        done = len(self.paths.links) - len(waiting)
        words = "have shaken hands" if all(not link.point_to_point for link in self.paths.links) else "are alive"
        self.progress(f"{done} of {len(self.paths.links)} links {words}")

    def _interface(self, name: str) -> nodes.LiveInterface | None:
        """A node's WireGuard interface, with the peers of those beside it: each peer is on one of them."""
        description = self.descriptions[name]
        own = nodes.interface(self.world[name], description.interface) if description.wireguard else None
        if own is None or not description.beside:
            return own
        beside = (nodes.interface(self.world[name], each.interface) for each in description.beside)
        return replace(own, peers={**own.peers, **{key: peer for each in beside if each for key, peer in each.peers.items()}})

    def _said(self) -> dict[str, dict[str, tunnels.LiveTunnel]]:
        """What every node's process says of the tunnels of its node file."""
        return {name: tunnels.ask(self.world[name]) for name, each in self.descriptions.items() if each.tunnels}

    def _devices(self, link: Link) -> tuple[str, str]:
        """The names of a link's own devices, at its first end and at its second."""
        left, right = link.between
        return self.descriptions[left].tunnel(right).config.name, self.descriptions[right].tunnel(left).config.name

    def _nudge(self, link: Link) -> None:
        """Send one packet through a link, from the side that can find the other; it also repeats a lost confirmation."""
        left, right = sorted(link.between)
        caller, other = (left, right) if self.network.node(right).endpoint is not None else (right, left)
        version = self.network.pool[0].version
        with probe.Pinger(self.world[caller], version, self.canary) as pinger:
            pinger.ping(self._far_end(link, other, version), 0.0, tries=1)

    def _far_end(self, link: Link, far: str, version: int) -> str:
        """The address at the far end of a link: that of the link itself where it has one."""
        if link.point_to_point:
            for item in self.descriptions[far].tunnel(link.other(far)).address:
                if item.host.version == version:
                    return item.host.address
        return self._inner(far, version)

    def _explained(self, links: tuple[LinkReport, ...]) -> tuple[LinkReport, ...]:
        """Links of node files that stayed silent, with what their processes have found out by now, or after a while."""
        silent = {report.between: self.paths.link(*report.between) for report in links if not report.alive.ok}
        waiting = {between: link for between, link in silent.items() if link.point_to_point}
        if not waiting:
            return links
        self.progress(f"waiting for what the ends of {len(waiting)} silent links say of it")
        deadline = time.monotonic() + EXPLAIN_DEADLINE_S
        said = self._said()
        while time.monotonic() < deadline and not all(self._has_explained(link, said) for link in waiting.values()):
            for link in waiting.values():
                self._nudge(link)
            time.sleep(NUDGE_S)
            said = self._said()
        return tuple(
            replace(report, alive=tunnels.alive(report.between, self._devices(waiting[report.between]), said))
            if report.between in waiting
            else report
            for report in links
        )

    def _has_explained(self, link: Link, said: dict[str, dict[str, tunnels.LiveTunnel]]) -> bool:
        """Whether an end knows more than that nothing came."""
        found = [said[near].get(name) for near, name in zip(link.between, self._devices(link), strict=True)]
        return any(tunnel is not None and tunnel.explains for tunnel in found)

    def _patience_s(self, path: Sequence[str] | None) -> float:
        """How long an answer over *path* is worth waiting for."""
        hopeless = path is None or any(frozenset(hop) in self.silent for hop in pairwise(path))
        return SILENCE_S if hopeless else PROBE_DEADLINE_S

    def _shaken(self, live: nodes.LiveInterface | None, far: str) -> bool:
        peer = live.peers.get(self.keys[far]) if live else None
        return peer is not None and peer.handshake_unix_s > 0

    def _inner(self, name: str, version: int) -> str:
        """A node's own tunnel address."""
        for item in self.descriptions[name].address:
            if item.host.version == version:
                return item.host.address
        raise KeyError(f"{name} has no IPv{version} address")

    def _links(self) -> tuple[LinkReport, ...]:
        said = self._said()
        hosts = {name: tunnels.look(self.world[name]) for name in said}

        def judge(link: Link) -> LinkReport:
            between = left, right = link.between
            pings = [
                (version, self._ping(near, self._far_end(link, far, version), version, self._patience_s(between)))
                for version in self._pool_versions()
                for near, far in ((left, right), (right, left))
            ]
            best = min((pong.rtt_ms for _, pong in pings if pong.ok), default=0.0)
            if link.point_to_point:
                configured = tunnels.configured(between, self.descriptions, said, hosts, self._numeric)
                alive = tunnels.alive(between, self._devices(link), said)
            else:
                ends = {name: self._interface(name) for name in between}
                configured, alive = self._configured(between, ends), self._alive(between, ends)
            return LinkReport(
                between, configured, alive, _carrying(pings, best), round(best, 3), link.kind, self._faults(between)
            )

        with ThreadPoolExecutor(max_workers=8) as pool:
            return tuple(pool.map(judge, self.paths.links))

    def _faults(self, between: tuple[str, str]) -> tuple[str, ...]:
        """What the lab does to the paths of two nodes that could stop a tunnel between them."""
        found = [(name, tunnels.fault_words(self.network.lab.faults_of(name))) for name in between]
        return tuple(f"{words} on the way to {name}" for name, words in found if words)

    def _pool_versions(self) -> list[int]:
        return sorted({pool.version for pool in self.network.pool})

    def _ping(self, space: str, target: str, version: int, patience_s: float, payload: bytes | None = None) -> probe.Pong:
        with probe.Pinger(self.world[space], version, payload or self.canary) as pinger:
            return pinger.ping(target, patience_s)

    def _configured(self, between: tuple[str, str], ends: dict[str, nodes.LiveInterface | None]) -> Finding:
        wrong: list[str] = []
        prefixes = 0
        for near, far in (between, between[::-1]):
            description, live = self.descriptions[near], ends[near]
            if live is None:
                wrong.append(f"{near} has no interface {description.interface}")
                continue
            planned = description.peer(far)
            found = live.peers.get(planned.public_key) if planned.public_key is not None else None
            if found is None:
                wrong.append(f"{near} does not know {far}'s key")
                continue
            prefixes += len(planned.allowed_ips)
            if found.allowed_ips != frozenset(planned.allowed_ips):
                differing = found.allowed_ips ^ frozenset(planned.allowed_ips)
                wrong.append(f"{near}'s AllowedIPs for {far} differ by {', '.join(sorted(map(str, differing)))}")
            if found.keepalive_s != planned.keepalive_s:
                wrong.append(f"{near}'s keepalive for {far} is {found.keepalive_s}, planned {planned.keepalive_s}")
            if planned.endpoint is not None:
                host = self._numeric(planned.endpoint.host)
                # It may have spoken first, over the other IP version.
                own = {host, *self.topology.inside.get(far, ())}
                if found.endpoint is None or found.endpoint.host not in own or found.endpoint.port != planned.endpoint.port:
                    wrong.append(
                        f"{near}'s endpoint for {far} is {found.endpoint or 'unset'}, planned {host}:{planned.endpoint.port}"
                    )
            if description.listen_port and live.listen_port != description.listen_port:
                wrong.append(f"{near} listens on {live.listen_port}, planned {description.listen_port}")
        if wrong:
            return Finding(False, "; ".join(wrong))
        return Finding(True, f"as planned, {prefixes} prefixes")

    def _alive(self, between: tuple[str, str], ends: dict[str, nodes.LiveInterface | None]) -> Finding:
        now = time.time()
        ages = []
        for near, far in (between, between[::-1]):
            live = ends[near]
            peer = live.peers.get(self.keys[far]) if live else None
            if peer is None or not peer.handshake_unix_s:
                return Finding(False, f"{near} has never shaken hands with {far}")
            ages.append(now - peer.handshake_unix_s)
        oldest = max(ages)
        return Finding(oldest < REJECT_AFTER_S, f"handshake {max(0.0, oldest):.0f} s ago")

    def _reachability(self) -> tuple[ReachReport, ...]:
        def from_place(source: _Place) -> list[ReachReport]:
            found: list[ReachReport] = []
            for version in (4, 6):
                if source.of(version) is None:
                    continue
                ways = [
                    (target, address, way)
                    for target in self.places
                    if target is not source and (address := target.of(version)) is not None
                    if self.model.decides(way := self._way(source, version, address))
                ]
                # What has no route into a tunnel would leave by the uplink, in clear, for nobody to answer.
                found += [
                    ReachReport(source.name, target.name, version, False, False, 0.0, (), "not tried: no route", way.why)
                    for target, _, way in ways
                    if _astray(way)
                ]
                for patience_s in (PROBE_DEADLINE_S, SILENCE_S):
                    some = [each for each in ways if not _astray(each[2]) and self._patience_s(_nodes(each[2])) == patience_s]
                    if not some:
                        continue
                    with probe.Pinger(self.world[source.space], version, self.canary, source.own(version)) as pinger:
                        pongs = pinger.ping_all([address for _, address, _ in some], patience_s)
                    found += [
                        ReachReport(
                            source.name,
                            target.name,
                            version,
                            expected=way.reaches,
                            found=pong.ok,
                            rtt_ms=round(pong.rtt_ms, 3),
                            path=_nodes(way) or (),
                            said=pong.said,
                            model=way.why,
                        )
                        for (target, _, way), pong in zip(some, pongs, strict=True)
                    ]
            return found + self._leaving(source)

        with ThreadPoolExecutor(max_workers=8) as pool:
            return tuple(reach for reaches in pool.map(from_place, self.places) for reach in reaches)

    def _way(self, source: _Place, version: int, address: str) -> Verdict:
        """What the model says of the way from a place to an address."""
        first = ipaddress.ip_address(source.of(version) or "").packed if source.space != source.node.name else None
        return self.model.way(source.node.name, first, ipaddress.ip_address(address).packed)

    def _leaving(self, source: _Place) -> list[ReachReport]:
        """Somebody on the internet, through the exit."""
        if source.node.exit is None:
            return []
        found = []
        for version, target in ((4, RESOLVER_V4), (6, OUTSIDE_V6)):
            if version in self._pool_versions() and source.of(version) is not None:
                path = (source.node.name, source.node.exit, "internet")
                pong = self._ping(source.space, target, version, self._patience_s(path), self.outside)
                found.append(ReachReport(source.name, "internet", version, True, pong.ok, round(pong.rtt_ms, 3), path, pong.said))
        return found

    # -- expectations

    def _expectations(self) -> tuple[ExpectReport, ...]:
        with ThreadPoolExecutor(max_workers=8) as pool:
            return tuple(pool.map(self._expectation, self.network.expects))

    def _expectation(self, expect: Expect) -> ExpectReport:
        outcome = self.model_says[expect]
        patience_s = self._patience_s(_nodes(outcome.telling)) if expect.reaches else SILENCE_S
        results = [self._try(expect, space, source, patience_s) for space, source in self._sources(expect)]
        found = {result for result, _ in results}
        # The node and its LANs may differ: what went wrong is said of each, what went right only once.
        telling = [said for result, said in results if result != expect.reaches] or [results[-1][1]]
        evidence = f"{'; '.join(dict.fromkeys(telling))} ({outcome.why})"
        agreed = next(iter(found)) if len(found) == 1 else None
        finding = Finding(found == {expect.reaches}, evidence)
        said = outcome.why if outcome.reaches is not None else ""
        path = _nodes(outcome.telling) or ()
        return ExpectReport(expect.source, expect.target.text, expect.reaches, finding, agreed, outcome.reaches, said, path)

    def _sources(self, expect: Expect) -> list[tuple[str, str | None]]:
        """Where an expectation is tried from: that very address, or the node itself and every host of its LANs."""
        if expect.source not in self.descriptions:
            packed = ipaddress.ip_address(expect.source).packed
            where = self._space_of(packed)
            assert where is not None  # the file was checked
            same_family = len(packed) == len(expect.target.packed) or expect.target.node is not None
            return [(where, self._own(packed) if same_family else None)]
        size = len(expect.target.packed or self.descriptions[str(expect.target.node)].address[0].packed)
        in_lans: list[tuple[str, str | None]] = [
            (host.space, None)
            for host in self.topology.hosts
            if host.node == expect.source and any(len(packed) == size for packed in host.address)
        ]
        return [(expect.source, None), *in_lans]

    def _try(self, expect: Expect, space: str, source: str | None, deadline_s: float) -> tuple[bool, str]:
        target = expect.target
        held = self.world[space]
        payload = self.outside if target.packed in self.topology.outside else self.canary
        if target.node is None:
            address = str(ipaddress.ip_address(target.packed))
        else:
            first = self.descriptions[target.node].address[0].host.version
            address = self._inner(target.node, first if source is None else ipaddress.ip_address(source).version)
        if source is not None and (":" in source) != (":" in address):
            return False, f"{source} and {address} have no address family in common"
        if not target.port:
            with probe.Pinger(held, 6 if ":" in address else 4, payload, source) as pinger:
                pong = pinger.ping(address, deadline_s)
            return pong.ok, f"ping {pong.said}" + (f" in {pong.rtt_ms:.1f} ms" if pong.ok else "")
        where = self._space_of(ipaddress.ip_address(address).packed)
        with ExitStack() as stack:
            if where in self.descriptions:
                stack.enter_context(probe.Echo(self.world[where], address, target.port))
            return probe.tcp(held, address, target.port, payload, deadline_s, source)

    # -- MTU, names, load

    def _mtus(self, carrying: Sequence[tuple[str, str]]) -> tuple[MtuReport, ...]:
        with ThreadPoolExecutor(max_workers=8) as pool:
            return tuple(pool.map(self._mtu, carrying))

    def _mtu(self, between: tuple[str, str]) -> MtuReport:
        left, right = between
        link = self.paths.link(left, right)
        if link.point_to_point:
            tunnel = self.descriptions[left].tunnel(right)
            mtu, arithmetic = tunnel.mtu, tunnel.mtu_arithmetic
        else:
            # What is sent is bounded by the sender's own; so the end with the smaller one is asked.
            left, right = sorted(between, key=lambda name: self.descriptions[name].mtu)
            mtu = self.descriptions[left].mtu
            arithmetic = min((self.descriptions[name].mtu_arithmetic for name in between), key=lambda item: item.inner)
        version = self.network.pool[0].version
        host = next((h for h in self.topology.hosts if h.node == left and any(lan.version == version for lan in h.lans)), None)
        space = host.space if host and link.routed else left
        target = self._far_end(link, right, version)
        with probe.Pinger(self.world[space], version, self.canary) as pinger:
            fits = pinger.ping(target, PROBE_DEADLINE_S, mtu)
            over = pinger.ping(target, PROBE_DEADLINE_S if self.faulty else 2.0, mtu + 1)
        refused = not over.ok and over.said != "no answer"
        if fits.ok and refused:
            finding = Finding(True, f"{mtu} bytes pass whole, {mtu + 1} are refused ({over.said})")
        elif not fits.ok:
            finding = Finding(False, f"{mtu} bytes do not pass: {fits.said}{self._learned(link)}")
        else:
            finding = Finding(False, f"{mtu + 1} bytes {'pass as well' if over.ok else 'vanish without a word'}")
        words = str(arithmetic) if mtu == arithmetic.inner else f"{arithmetic}, but the file says {mtu}"
        return MtuReport(between, mtu, words, finding, self._faults(between))

    def _learned(self, link: Link) -> str:
        """What both ends have found out of the path's own MTU, now or after a while, as a part of a sentence."""
        if not link.point_to_point:
            return ""
        deadline = time.monotonic() + LEARN_DEADLINE_S
        while True:
            ends = zip(link.between, self._devices(link), strict=True)
            found = [(near, tunnel) for near, name in ends if (tunnel := tunnels.ask(self.world[near]).get(name)) is not None]
            known = [(near, tunnel) for near, tunnel in found if tunnel.path_mtu is not None]
            if known or time.monotonic() > deadline:
                break
            time.sleep(NUDGE_S)
        words = [f"{near} has learned that the path takes {tunnel.path_mtu}" for near, tunnel in known]
        words += [f"{near} says: {sentence}" for near, tunnel in known for sentence in tunnel.warnings]
        return "".join(f"; {word}" for word in words)

    def _dns(self) -> tuple[DnsReport, ...]:
        reports = []
        for node in self.network.nodes:
            if not node.dns:
                continue
            with ExitStack() as stack:
                for server in node.dns:
                    where = self._space_of(ipaddress.ip_address(server).packed)
                    if where in self.descriptions:
                        stack.enter_context(probe.Responder(self.world[where], server, _INSIDE_ANSWER))
                answer, said = probe.resolve(self.world[node.name], "host.lab.example", PROBE_DEADLINE_S)
            good = answer == _INSIDE_ANSWER
            if answer == _OUTSIDE_ANSWER:
                said += ", the internet's own resolver"
            elif missing := [domain for domain in node.search if domain not in probe.search_of(self.world[node.name])]:
                good, said = False, f"{said}, but {', '.join(missing)} is not searched"
            elif node.search:
                said += f", {', '.join(node.search)} is searched"
            reports.append(DnsReport(node.name, Finding(good, said)))
        return tuple(reports)

    def _throughput(self, carrying: Sequence[tuple[str, str]]) -> ThroughputReport:
        """iperf3 over the first link that has LANs at both ends, or between two nodes."""
        hosts = {host.node: host for host in self.topology.hosts}
        between = next((pair for pair in carrying if all(name in hosts for name in pair)), carrying[0])
        source, target = between
        if all(name in hosts for name in between):
            from_space, to_space = hosts[source].space, hosts[target].space
            packed = hosts[target].address[0]
            address, bound = str(ipaddress.ip_address(packed)), self._own(packed)
        else:
            from_space, to_space = source, target
            address = bound = self._inner(target, self.network.pool[0].version)
        seconds = self.options.throughput_s
        finding, gbit_s = _iperf3(self.world[from_space], self.world[to_space], address, bound, seconds)
        if finding.ok:
            self.progress(f"{gbit_s:.2f} Gbit/s from {from_space} to {to_space}")
        return ThroughputReport(from_space, to_space, between, round(gbit_s, 3), seconds, finding)

    # -- verdict

    def _captured(self, capture: Capture, links_found: Sequence[LinkReport]) -> CaptureReport:
        """What the capture says; *links_found* tell on which links there must have been something to see."""
        alive = {name for link in links_found if link.alive.ok and link.kind == "wireguard" for name in link.between}
        plain = {name for link in links_found if link.alive.ok and link.kind == "gre" for name in link.between}
        protected = {name for link in links_found if link.alive.ok and link.kind in PROTECTED for name in link.between}
        links = tuple(
            CapturedLink(
                link.name,
                link.frames,
                link.wireguard,
                link.control,
                link.leaks,
                link.fragments,
                link.dropped,
                link.tunnel_only is not None,
                link.exit,
                link.left,
                tuple(link.kept),
                link.plain,
                link.esp,
            )
            for link in capture.links
        )
        wrong: list[str] = []
        for link in links:
            if not link.control_seen:
                wrong.append(f"{link.name}: the capture did not even see the control canary, so it proves nothing")
            if link.leaks:
                wrong.append(f"{link.name}: {link.leaks} packets in clear ({'; '.join(link.leaked[:2])})")
            elif link.leaked:
                wrong.append(f"{link.name}: {'; '.join(link.leaked)}")
            if link.dropped:
                wrong.append(f"{link.name}: the capture lost {link.dropped} frames, so it proves nothing")
            if link.name in alive and link.exit and not link.left_here:
                wrong.append(f"{link.name}: nothing left through the exit")
            if link.name.partition(" ")[0] in alive and not link.wireguard:
                wrong.append(f"{link.name}: no WireGuard was seen")
            if link.name.partition(" ")[0] in plain and not link.plain:
                wrong.append(f"{link.name}: no GRE was seen")
            if link.name.partition(" ")[0] in protected and not link.esp:
                wrong.append(f"{link.name}: no ESP was seen")
        if wrong:
            return CaptureReport(links, Finding(False, "; ".join(wrong)))
        frames = sum(link.frames for link in links)
        left = sum(link.left_here for link in links)
        through = f"; {left} packets left through the exit, none past it" if left else ""
        clear = sum(link.plain for link in links)
        design = f", but in {clear} packets of GRE, which does not encrypt" if clear else ""
        said = f"{frames} frames on {len(links)} links: no canary, no inner address in clear{design}{through}"
        return CaptureReport(links, Finding(True, said))


def _nodes(way: Verdict) -> tuple[str, ...] | None:
    """By which nodes it goes; None where nothing carries."""
    return way.there.nodes if way.reaches else None


def _astray(way: Verdict) -> bool:
    """Whether the packet, or its answer, would leave a host for the internet although it is meant for the network."""
    return way.stop is not None and way.stop.code in ("no-route", "no-answer")


def _node_report(description: NodeDescription, seconds: float, up: Finding) -> NodeReport:
    return NodeReport(
        name=description.name,
        runs=description.node.runs,
        behind_nat=description.node.behind_nat,
        interface=" ".join(
            [
                *([description.interface] if description.wireguard else []),
                *(tunnel.config.name for tunnel in description.tunnels),
            ]
        ),
        address=tuple(map(str, description.address)),
        lans=tuple(map(str, description.node.lans)),
        mtu=min([*([description.mtu] if description.wireguard else []), *(tunnel.mtu for tunnel in description.tunnels)]),
        seconds=round(seconds, 3),
        up=up,
    )


def _carrying(pings: Sequence[tuple[int, probe.Pong]], best: float) -> Finding:
    silent = [f"IPv{version} to {pong.target}: {pong.said}" for version, pong in pings if not pong.ok]
    if silent:
        return Finding(False, "; ".join(silent))
    lost = sum(pong.tries - 1 for _, pong in pings)
    return Finding(True, f"{len(pings)} pings, {best:.1f} ms" + (f", {lost} lost" if lost else ""))


def _iperf3(source: Held, target: Held, address: str, bound: str, seconds: float) -> tuple[Finding, float]:
    server = target.start(["iperf3", "--server", "--one-off", "--bind", bound])
    try:
        deadline = time.monotonic() + PROBE_DEADLINE_S
        while not target.inside(_listens_5201):
            if server.poll() is not None or time.monotonic() > deadline:
                return Finding(False, "iperf3 --server did not start (Debian: iperf3)"), 0.0
            time.sleep(0.02)
        done = source.run(
            ["iperf3", "--client", address, "--time", f"{seconds:.0f}", "--json"], timeout_s=seconds + PROBE_DEADLINE_S + 10
        )
    finally:
        server.kill()
        server.wait()
    try:
        result = json.loads(done.stdout)
        received = result["end"]["sum_received"]
    except (ValueError, KeyError):
        return Finding(False, _iperf3_error(done.stdout) or done.stderr.strip()[-200:] or "iperf3 said nothing"), 0.0
    gbit_s = received["bits_per_second"] / 1e9
    return Finding(gbit_s > 0, f"{received['bytes'] / 1e6:.0f} MB in {received['seconds']:.1f} s, one TCP stream"), gbit_s


def _iperf3_error(text: str) -> str:
    try:
        return str(json.loads(text).get("error", ""))
    except ValueError:
        return ""


def _listens_5201() -> bool:
    for table in ("tcp", "tcp6"):
        with open(f"/proc/thread-self/net/{table}", encoding="ascii") as file:
            if any(fields[1].endswith(":1451") and fields[3] == "0A" for line in file if (fields := line.split())):
                return True
    return False


__all__ = ["Options", "Rehearsal"]
