"""
The three-part truth of a plain tunnel, and the sentences that say what is wrong with it.

A tunnel without protection has no session, so there is less to prove than with WireGuard:

    configured   it can work as it was described: the device is up, its ends are there, it is not held because of its own route,
                 and the peer does not send what this configuration refuses
    alive        a keepalive came back lately (that needs both ways); without keepalives, packets of the peer's came lately;
                 else unknown, with what is missing
    carrying     packets went both ways lately. No: what is known to come to nothing (refused, filtered, dead). Else unknown:
                 silence is also what one-way traffic looks like, an edge's whose origin answers directly

Everything here is pure; what is said to people is made here and nowhere else. `PlainView` is one tunnel of a `ginnel.show/1`
snapshot: the fields of a `TunnelView`, and then its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ginnel.watch import ipsec
from ginnel.watch.health import age_text
from ginnel.watch.ipsec import IpsecView
from ginnel.watch.snapshot import Verdict

#: What is older says nothing of now; two of Cisco's default keepalives and some patience.
RECENT_S = 60.0


_PROTOCOLS = {"ipip": "protocol 4", "sit": "protocol 41", "ip6tnl": "protocols 4 and 41", "ipsec": "protocol 50 (ESP)"}


@dataclass(frozen=True, slots=True)
class Ends:
    """How a tunnel is told to people: its kind ("ipsec" for whatever ESP protects), both ends as text, and what carries it."""

    kind: str
    local: str
    remote: str
    #: Destination port of GRE or ESP in UDP; 0 = raw.
    port: int = 0
    #: As it was configured, when that was a name.
    host: str = ""

    @property
    def protocol(self) -> str:
        """What a filter on the way would have to let pass."""
        if self.port:
            return f"UDP port {self.port}"
        return _PROTOCOLS.get(self.kind, "protocol 47")

    @property
    def way_out(self) -> str:
        """How to get past a filter for the protocol; empty when there is no other way."""
        return '; encapsulation = "udp" goes around it' if not self.port and self.kind in {"gre", "gretap", "ipsec"} else ""


# ---------------------------------------------------------------- sentences


def mismatch_sentence(reason: str, seen: int | None, *, key: int | None, kind: str = "gre") -> str:
    """
    Why the peer's packets are dropped.

    Args:
        reason: of the engine's `Mismatch`.
        seen: what the peer sends, as that event has it.
        key: the key that this tunnel expects.
    """
    match reason:
        case "key_mismatch":
            sent = "no key" if seen is None else f"key {key_text(seen)}"
            return f"peer sends {sent}, this tunnel expects {'none' if key is None else key_text(key)}"
        case "checksum_unexpected":
            return "peer sends checksums, this tunnel does not expect them (icsum)"
        case "checksum_missing":
            return "peer sends no checksums, this tunnel expects them (icsum)"
        case "checksum_wrong":
            return "checksums of the peer's packets are wrong: something on the way changes them"
        case "sequence_missing":
            return "peer sends no sequence numbers, this tunnel expects them (iseq)"
        case "out_of_order":
            return (
                "sequence numbers of the peer's packets go back: it was restarted, there is a second sender, or the way reorders"
            )
        case "unknown_protocol" if seen == 0x6558:
            return f"peer sends Ethernet frames: its tunnel is a gretap, this one is a {kind}"
        case "unknown_protocol" if seen in {0x0800, 0x86DD}:
            return f"peer sends IP packets without Ethernet: its tunnel is a gre, this one is a {kind}"
        case "unknown_protocol":
            return f"peer sends what this tunnel does not carry{f': protocol type 0x{seen:04x}' if seen is not None else ''}"
        case "version":
            return (
                f"peer sends GRE version {seen}: version 1 is PPTP" if seen is not None else "peer sends another version of GRE"
            )
        case "routing":
            return "peer sends GRE with the routing bit, which nobody supports any more"
        case "ecn":
            return "packets of the peer's are marked as congested though what is inside cannot be marked (RFC 6040)"
        case _:
            return f"packets of the peer's are dropped: {reason.replace('_', ' ')}"


def key_text(key: int) -> str:
    """A key as it is usually written: a number, and as an address too when it looks like one."""
    if key < 1 << 24:
        return str(key)
    return f"{key} ({'.'.join(str(part) for part in key.to_bytes(4, 'big'))})"


def notice_sentence(notice: str, origin: str, ends: Ends, *, ttl: int) -> str:
    """What an ICMP error said; *notice* is one of `ginnel.gre.path.Notice`, *origin* who said it."""
    match notice:
        case "no-tunnel" if ends.port:
            return f"{origin} answered port-unreachable: nobody listens there on {ends.protocol}"
        case "beside":
            return (
                f"the kernel at {origin} answers port-unreachable to packets that the tunnel there takes: its gre module does "
                "not know that tunnel; remove the module (`modprobe -r ip_gre gre`), or let no such answer out"
            )
        case "no-tunnel":
            return f"the peer's kernel answered port-unreachable: no tunnel at {origin} matches ours (ends, key)"
        case "no-protocol":
            return f"{origin} does not know {ends.protocol}: there is no tunnel of this kind"
        case "refused":
            return f"{ends.protocol} is refused on the way: {origin or 'this host'} said so{ends.way_out}"
        case "ttl":
            return f"packets of the tunnel end at {origin}: their TTL is {ttl}, which is too few hops or goes round in a loop"
        case _:
            return f"{ends.remote} cannot be reached{f', says {origin}' if origin and origin != ends.remote else ''}"


def filtered_sentence(ends: Ends, silent_s: float) -> str:
    """The remote answers pings, the tunnel is silent."""
    return (
        f"{ends.protocol} seems filtered on the way: {ends.remote} answers ping but nothing came back for "
        f"{age_text(silent_s)}{ends.way_out}"
    )


def black_hole_sentence(mtu: int) -> str:
    """Probes found what no ICMP told."""
    return f"packets larger than {mtu} vanish on the way to the remote, and no ICMP says so: a black hole, found by probes"


def loop_sentence(overhead: int) -> str:
    """Packets of the tunnel come round again."""
    return (
        f"the path MTU falls by {overhead} again and again: packets of the tunnel are routed back into it somewhere on the way "
        "(a routing loop); what is learned is no longer followed"
    )


# ---------------------------------------------------------------- judgement


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    What the judgement of one tunnel rests on. Ages in seconds, None = never.

    problems: sentences, each of which alone keeps the tunnel from working as described; the first is told.
    refused: a sentence: what is sent is known to come to nothing.
    keepalive: "off" · "silent" · "alive" · "dead"; judged: it may be "dead".
    missing_s: age of the first keepalive that is unanswered; None without one.
    silent_s: for how long packets went out and none came; None when they did.
    protection: of a protected tunnel.
    """

    up: bool
    problems: tuple[str, ...]
    speaks_first: bool
    refused: str
    keepalive: str
    judged: bool
    unanswered: int
    missing_s: float | None
    returned_age_s: float | None
    receive_age_s: float | None
    send_age_s: float | None
    silent_s: float | None
    protection: ipsec.Evidence | None = None


def judge_configured(seen: Evidence) -> Verdict:
    """Can it work as it was described?"""
    if not seen.up:
        return Verdict("no", "the device is down")
    if seen.problems:
        return Verdict("no", seen.problems[0])
    if seen.speaks_first:
        return Verdict("yes", "no remote: it has to speak first")
    return Verdict("yes", "device, ends and options are in place")


def judge_alive(seen: Evidence) -> Verdict:
    """Is there a peer that hears us, or at least one that we hear?"""
    if not seen.up:
        return Verdict("no", "the device is down")
    if seen.protection is not None:
        return ipsec.judge_alive(seen.protection, unheard_s=seen.silent_s if seen.receive_age_s is None else None)
    if seen.keepalive == "dead":
        return Verdict("no", seen.refused or _dead(seen))
    if _recent(seen.returned_age_s):
        return Verdict("yes", f"a keepalive came back {age_text(seen.returned_age_s or 0)} ago")
    if seen.keepalive == "alive" and seen.returned_age_s is not None:  # a long interval
        return Verdict("yes", f"the last keepalive came back, {age_text(seen.returned_age_s)} ago")
    if seen.refused:
        return Verdict("no", seen.refused)
    if _recent(seen.receive_age_s):
        return Verdict("yes", f"heard from it {age_text(seen.receive_age_s or 0)} ago")
    if seen.keepalive == "silent":
        return Verdict("unknown", "no keepalive came back yet")
    heard = "ever" if seen.receive_age_s is None else f"for {age_text(seen.receive_age_s)}"
    return Verdict("unknown", f"nothing was received {heard}, and there are no keepalives to ask with")


def judge_carrying(seen: Evidence) -> Verdict:
    """Do packets go both ways?"""
    if not seen.up:
        return Verdict("no", "the device is down")
    if seen.refused:
        return Verdict("no", seen.refused)
    if seen.problems:
        return Verdict("no", seen.problems[0])
    if seen.protection is not None and (closed := ipsec.judge_carrying(seen.protection)) is not None:
        return closed
    if seen.keepalive == "dead":
        return Verdict("unknown" if _speaks_though_dead(seen) else "no", _dead(seen))
    sent, received = _recent(seen.send_age_s), _recent(seen.receive_age_s)
    if sent and received:
        return Verdict("yes", f"sent {age_text(seen.send_age_s or 0)} ago, received {age_text(seen.receive_age_s or 0)} ago")
    if sent and seen.silent_s is not None:
        return Verdict("unknown", f"sent, and nothing came back for {age_text(seen.silent_s)}; one-way traffic looks the same")
    if sent:
        return Verdict("unknown", "sent, and nothing came back yet")
    if received:
        return Verdict("unknown", f"received {age_text(seen.receive_age_s or 0)} ago, and nothing was sent lately")
    if seen.send_age_s is None and seen.receive_age_s is None:
        return Verdict("unknown", "idle: nothing was sent or received yet")
    ages = [age for age in (seen.send_age_s, seen.receive_age_s) if age is not None]
    return Verdict("unknown", f"idle: last packet {age_text(min(ages))} ago")


def _speaks_though_dead(seen: Evidence) -> bool:
    """Packets of the peer's came after keepalives began to be missing: it is there."""
    return seen.receive_age_s is not None and seen.missing_s is not None and seen.receive_age_s < min(seen.missing_s, RECENT_S)


def _dead(seen: Evidence) -> str:
    missing = f"{seen.unanswered} keepalives in a row did not come back"
    if not _speaks_though_dead(seen):
        return missing
    return (
        f"{missing}, though packets of the peer's arrive: ours do not reach it, or it sends no keepalives back (Linux does with "
        "accept_local=1 and without rp_filter)"
    )


def _recent(age_s: float | None) -> bool:
    return age_s is not None and age_s < RECENT_S


# ---------------------------------------------------------------- the snapshot


@dataclass(frozen=True, slots=True)
class KeepaliveView:
    """Keepalives: what was configured, and what became of them."""

    interval_s: int
    retries: int
    dialect: str
    state: str
    unanswered: int
    sent: int
    returned: int
    answered: int
    last_returned_age_s: float | None


@dataclass(frozen=True, slots=True)
class PlainView:
    """
    One plain tunnel; the fields of `TunnelView` mean the same here (no public key, no peers; listen_port is GRE in UDP's).

    node: the node file's name. local, remote: numeric, null while unknown; remote_host: as it was configured by name.
    encapsulation: "udp" or "". path_mtu: the largest inner packet as learned (ICMP, probes), null when nothing was.
    held: why nothing is sent, empty when it is. ipsec: how it is protected, null when it is not.
    """

    name: str
    kind: str
    backend: str
    version: str
    pid: int
    started_unix: float
    config: str
    node: str
    state: str
    public_key: str | None
    listen_port: int
    fwmark: int
    mtu: int
    namespace: str
    configured: Verdict
    alive: Verdict
    carrying: Verdict
    family: int
    local: str | None
    remote: str | None
    remote_host: str
    encapsulation: str
    remote_port: int
    ikey: int | None
    okey: int | None
    icsum: bool
    ocsum: bool
    iseq: bool
    oseq: bool
    ttl: int
    tos: int | None
    pmtudisc: bool
    encaplimit: int | None
    path_mtu: int | None
    held: str
    keepalive: KeepaliveView | None
    last_receive_age_s: float | None
    last_send_age_s: float | None
    rx_bytes: int
    tx_bytes: int
    rx_packets: int
    tx_packets: int
    sequence_out: int | None
    sequence_in: int | None
    drops: dict[str, int]
    offloads: dict[str, str]
    warnings: tuple[str, ...]
    peers: tuple[()] = ()
    ipsec: IpsecView | None = None


@dataclass(frozen=True, slots=True)
class CarrierView:
    """What concerns no single tunnel of a process."""

    no_tunnel: int
    at_socket: int
    sockets: dict[str, str]


@dataclass(frozen=True, slots=True)
class NodeView:
    """The process that owns the tunnels of a node file."""

    name: str
    config: str
    pid: int
    version: str
    started_unix: float
    carrier: CarrierView
    warnings: tuple[str, ...]
    #: Of IKE's sockets and machine: numbers by name, drops by reason; null without protected tunnels.
    ike: dict[str, Any] | None = None


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """One answer for many: no if any is, else unknown if any is; the first such one's reason."""
    found = list(verdicts)
    for answer in ("no", "unknown"):
        for verdict in found:
            if verdict.answer == answer:
                return verdict
    return found[0] if found else Verdict("unknown", "no tunnels")
