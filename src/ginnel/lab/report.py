"""
What a rehearsal found, as values: the truth table and its JSON (`ginnel.lab/1`).

A `Finding` is a verdict with its evidence; nothing is called good without saying why. The report is good when every finding in
it is: `failures` lists the others, each with what to look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

SCHEMA = "ginnel.lab/1"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict and what it rests on."""

    ok: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node: did it come up, and as what."""

    name: str
    runs: str
    behind_nat: bool
    interface: str
    address: tuple[str, ...]
    lans: tuple[str, ...]
    mtu: int
    seconds: float
    up: Finding


@dataclass(frozen=True, slots=True)
class LinkReport:
    """One link, in three parts."""

    between: tuple[str, str]
    configured: Finding
    alive: Finding
    carrying: Finding
    rtt_ms: float
    kind: str = "wireguard"
    #: What the lab does on the way that could stop it, in words.
    faults: tuple[str, ...] = ()

    @property
    def look_at(self) -> str:
        """Where the cause of its silence is to be looked for."""
        left, right = self.between
        if self.kind == "wireguard":
            usual = "the endpoint, the keys, what blocks UDP between them"
        else:
            usual = "the ends, the keys, what blocks GRE (protocol 47) between them"
        done = f"; this file's lab {' and '.join(self.faults)}" if self.faults else ""
        return f"{left}, {right}: {usual}{done}"


@dataclass(frozen=True, slots=True)
class ReachReport:
    """One way from one place to another, for one address family."""

    source: str
    target: str
    version: int
    expected: bool
    found: bool
    rtt_ms: float
    path: tuple[str, ...]
    said: str
    #: What the model of packets says of it, in a line.
    model: str = ""

    @property
    def ok(self) -> bool:
        """As the model says."""
        return self.expected == self.found


@dataclass(frozen=True, slots=True)
class ExpectReport:
    """One `[[expect]]`, live."""

    source: str
    target: str
    reaches: bool
    finding: Finding
    #: What was so in the lab, and by the model (None: not everywhere the same, or not decided by the file), which says why.
    found: bool | None = None
    model: bool | None = None
    model_said: str = ""
    #: By which nodes the model says that it goes; empty where it says that nothing does.
    path: tuple[str, ...] = ()

    @property
    def disagrees(self) -> bool:
        """The model says one thing and the lab another."""
        return self.model is not None and self.found is not None and self.model != self.found


@dataclass(frozen=True, slots=True)
class MtuReport:
    """The MTU of one link: computed, then proven."""

    between: tuple[str, str]
    mtu: int
    arithmetic: str
    proven: Finding
    #: What the lab does on the way that could spoil it, in words.
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ThroughputReport:
    """How much one link carried."""

    source: str
    target: str
    path: tuple[str, ...]
    gbit_s: float
    seconds: float
    measured: Finding


@dataclass(frozen=True, slots=True)
class DnsReport:
    """Who resolves names for one node."""

    node: str
    finding: Finding


@dataclass(frozen=True, slots=True)
class ProtectReport:
    """A protected origin: each trial in words, and how it ended."""

    origin: str
    edges: tuple[str, ...]
    addresses: tuple[str, ...]
    trials: tuple[tuple[str, Finding], ...]


@dataclass(frozen=True, slots=True)
class CapturedLink:
    """What crossed one underlay link."""

    name: str
    frames: int
    wireguard: int
    control_seen: int
    leaks: int
    fragments: int
    dropped: int
    tunnel_only: bool
    exit: bool
    #: Packets in clear that were meant to leave here.
    left_here: int
    leaked: tuple[str, ...]
    #: Packets of the network's GRE links, which are in clear by design.
    plain: int = 0
    #: Packets of ESP, bare or in UDP.
    esp: int = 0


@dataclass(frozen=True, slots=True)
class CaptureReport:
    """The underlay: watched, and whether anything was there that belongs inside."""

    links: tuple[CapturedLink, ...]
    clean: Finding


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that is not as the file says."""

    what: str
    look_at: str


@dataclass(frozen=True, slots=True)
class LabReport:
    """All of it."""

    network: str
    lab_id: str
    seconds: float
    nodes: tuple[NodeReport, ...]
    links: tuple[LinkReport, ...] = ()
    reachability: tuple[ReachReport, ...] = ()
    expectations: tuple[ExpectReport, ...] = ()
    mtu: tuple[MtuReport, ...] = ()
    throughput: ThroughputReport | None = None
    dns: tuple[DnsReport, ...] = ()
    protects: tuple[ProtectReport, ...] = ()
    capture: CaptureReport | None = None

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Everything that is not as the file says, the cause before its consequences."""
        return tuple(self._failures())

    @property
    def ok(self) -> bool:
        """All is as the file says."""
        return not self.failures

    def _failures(self) -> Iterator[Failure]:
        for node in self.nodes:
            if not node.up.ok:
                yield Failure(f"{node.name} did not come up: {node.up.evidence}", f"{node.name}: the lines above")
        for link in self.links:
            name, (left, right) = " — ".join(link.between), link.between
            if not link.configured.ok:
                yield Failure(f"{name} is not configured as planned: {link.configured.evidence}", f"{left}, {right}: ginnel show")
            elif not link.alive.ok:
                yield Failure(f"{name} is configured, but not alive: {link.alive.evidence}", link.look_at)
            elif not link.carrying.ok:
                allowed = "AllowedIPs on both sides, " if link.kind == "wireguard" else ""
                yield Failure(
                    f"{name} is alive, but not carrying: {link.carrying.evidence}",
                    f"{left}, {right}: {allowed}routes (ip route get), forwarding",
                )
        broken = {
            frozenset(link.between) for link in self.links if not (link.configured.ok and link.alive.ok and link.carrying.ok)
        }
        followed = 0
        for reach in self.reachability:
            if not reach.ok and any(frozenset(hop) in broken for hop in pairwise(reach.path)):
                followed += 1
            elif not reach.ok:
                verb = "does not reach" if reach.expected else "reaches"
                way = " → ".join(reach.path) or reach.model or "no path in the file"
                what = f"{reach.source} {verb} {reach.target} over IPv{reach.version}: {reach.said}"
                yield Failure(what, f"the model says otherwise: {way}")
        if followed:
            yield Failure(f"{followed} of {len(self.reachability)} ways fail with the links above", "those links first")
        for expect in self.expectations:
            if expect.disagrees and not any(frozenset(hop) in broken for hop in pairwise(expect.path)):
                verb = "reaches" if expect.model else "does not reach"
                said = "and in the lab it does" if expect.found else "and in the lab it does not"
                yield Failure(
                    f"the model says that {expect.source} {verb} {expect.target} ({expect.model_said}), {said}: "
                    f"{expect.finding.evidence}",
                    f"ginnel path FILE {expect.source} {expect.target}, and the links' three parts above",
                )
            elif not expect.finding.ok:
                yield Failure(
                    f"expected {expect.source} {'to reach' if expect.reaches else 'not to reach'} {expect.target}: "
                    f"{expect.finding.evidence}",
                    "the [[expect]] in the file, and the link's three parts above",
                )
        for mtu in self.mtu:
            if not mtu.proven.ok:
                done = f"; this file's lab {' and '.join(mtu.faults)}" if mtu.faults else ""
                yield Failure(
                    f"the MTU of {' — '.join(mtu.between)} is not {mtu.mtu}: {mtu.proven.evidence}", mtu.arithmetic + done
                )
        for dns in self.dns:
            if not dns.finding.ok:
                yield Failure(f"names on {dns.node} are not resolved as planned: {dns.finding.evidence}", "its /etc/resolv.conf")
        for protect in self.protects:
            edges = ", ".join(protect.edges)
            for what, finding in protect.trials:
                if not finding.ok:
                    yield Failure(
                        f"{protect.origin} behind {edges}: {what}: {finding.evidence}",
                        f"{protect.origin}: ip rule, nft list ruleset; {edges}: ip route get",
                    )
        if self.throughput is not None and not self.throughput.measured.ok:
            yield Failure(f"no throughput was measured: {self.throughput.measured.evidence}", "iperf3 on both ends")
        if self.capture is not None and not self.capture.clean.ok:
            yield Failure(f"the underlay is not clean: {self.capture.clean.evidence}", "the links and packets named there")

    def to_json(self) -> dict[str, Any]:
        """As a JSON document; names and types are those of the schema, which only ever grows."""
        document: dict[str, Any] = {"schema": SCHEMA, "ok": self.ok}
        document |= asdict(self)
        document["id"] = document.pop("lab_id")
        document["seconds"] = round(self.seconds, 3)
        for reach, found in zip(document["reachability"], self.reachability, strict=True):
            reach["ok"] = found.ok
        for protect in document["protects"]:
            protect["trials"] = [{"what": what, **finding} for what, finding in protect["trials"]]
        document["failures"] = [asdict(failure) for failure in self.failures]
        return document
