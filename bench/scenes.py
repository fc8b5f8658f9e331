"""
The scenes: each measures one implementation once, on the bed, and gives named figures. bench/run.py repeats and compares them.

A scene's `metrics` say for each figure its unit and which way is better; the table and the targets are made from that.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import ipaddress
import json
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bed import (
    APART,
    CACHE,
    LEFT_OUTER,
    MTU,
    RIGHT_APART,
    RIGHT_INNER,
    RIGHT_OUTER,
    RIGHT_PORT,
    ROOT,
    Bed,
    GreNode,
    Implementation,
    Tunnel,
    Userspace,
    cpu_s,
    rss_kib,
    switches,
)

from namespaces import Namespace, run, wait_until
from peers.nodes import PeerConfig, setconf, up, wg

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a figure means."""

    name: str
    unit: str
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """One measurement; *seconds* is how long its load runs."""

    name: str
    measure: Callable[[Bed, Implementation, float], Figures]
    metrics: tuple[Metric, ...]
    seconds: float = 5.0
    #: Who takes part, and whom they are compared with.
    among: tuple[str, ...] = ("ginnel", "wireguard-go", "boringtun", "unencrypted")
    reference: str = "wireguard-go"
    #: Of these, for whom it makes no sense.
    without: tuple[str, ...] = ()
    #: Enough rounds where the spread is small or a round is long.
    rounds: int | None = None


# ---------------------------------------------------------------- iperf3


class Server:
    """iperf3's server in a namespace, for one client."""

    def __init__(self, space: Namespace, address: str) -> None:
        self.process = space.popen(
            "iperf3", "-s", "-1", "-B", address, "--forceflush", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        while "listening" not in (line := self.process.stdout.readline()):
            if not line:
                raise RuntimeError("iperf3's server did not start")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def iperf3(bed: Bed, seconds: float, *options: str, target: str = RIGHT_INNER) -> dict[str, dict[str, float]]:
    """One run from left to right; the `end` part of its report. The first second is not counted."""
    with Server(bed.right, target):
        text = bed.left.run(
            "iperf3", "-c", target, "-t", str(round(seconds)), "-O", "1", "-J", *options, check=False, timeout_s=seconds + 30
        )
    report = json.loads(text)
    if "error" in report:
        raise RuntimeError(f"iperf3: {report['error']}")
    end: dict[str, dict[str, float]] = report["end"]
    return end


def tcp_gbit_s(bed: Bed, seconds: float, *options: str, target: str = RIGHT_INNER) -> float:
    """Received Gb/s; both directions summed for --bidir."""
    end = iperf3(bed, seconds, *options, target=target)
    total = end["sum_received"]["bits_per_second"]
    if "--bidir" in options:
        total += end["sum_received_bidir_reverse"]["bits_per_second"]
    return total / 1e9


def _tcp(*options: str) -> Callable[[Bed, Implementation, float], Figures]:
    def measure(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
        with bed.tunnel(implementation) as tunnel:
            before = cpu_s(tunnel.left.pid) + cpu_s(tunnel.right.pid)
            speed = tcp_gbit_s(bed, seconds, *options)
            used = cpu_s(tunnel.left.pid) + cpu_s(tunnel.right.pid) - before
            return {"gbit_s": speed, "cpu_s_per_gbyte": used / (speed * (seconds + 1) / 8)}

    return measure


TCP_METRICS = (Metric("gbit_s", "Gb/s", True), Metric("cpu_s_per_gbyte", "CPU s/GB, both ends", False))


def _udp(load: str, payload: int) -> Callable[[Bed, Implementation, float], Figures]:
    """Unpaced datagrams of *payload* bytes, one a send; what the receiver got."""

    def measure(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
        with bed.tunnel(implementation):
            target = f"{RIGHT_INNER}:5201"
            receiver = bed.right.popen(
                load_tool(),
                load,
                "--at",
                target,
                "--seconds",
                str(seconds + 10),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert receiver.stderr is not None
            if "receiving" not in receiver.stderr.readline():
                raise RuntimeError("the receiver did not start")
            sent = loaded(bed.left, load, "--to", target, "--size", str(payload), "--seconds", str(seconds))
            text, _ = receiver.communicate(timeout=seconds + 30)
            got = json.loads(text)
            return {
                "delivered_k_s": got["delivered"] / sent["seconds"] / 1e3,
                "offered_k_s": sent["sent_per_second"] / 1e3,
                "out_of_order_percent": 100 * got["out_of_order"] / max(1, got["delivered"]),
            }

    return measure


UDP_METRICS = (
    Metric("delivered_k_s", "k packets/s delivered", True),
    Metric("offered_k_s", "k packets/s offered", True),
    Metric("out_of_order_percent", "% out of order", False),
)


# ---------------------------------------------------------------- round trips


def round_trips_ms(space: Namespace, target: str, count: int, interval_s: float) -> list[float]:
    """Round-trip times of pings, in milliseconds, sorted; a lost one counts as a whole second."""
    text = space.run("ping", "-n", "-c", str(count), "-i", str(interval_s), "-W", "1", target, check=False, timeout_s=count + 30)
    times = sorted(float(found) for found in re.findall(r"time=([\d.]+) ms", text))
    return times + [1000.0] * (count - len(times))


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that *share* of the sorted ones do not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _rtt_idle(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
    with bed.tunnel(implementation):
        times = round_trips_ms(bed.left, RIGHT_INNER, int(seconds / 0.005), 0.005)
        return {"p50_ms": percentile(times, 0.5), "p99_ms": percentile(times, 0.99)}


def _rtt_loaded(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
    with bed.tunnel(implementation), Server(bed.right, RIGHT_INNER):
        load = bed.left.popen(
            "iperf3", "-c", RIGHT_INNER, "-t", str(round(seconds) + 3), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(1)  # the load's own start, not a race: what follows holds at any time
        times = round_trips_ms(bed.left, RIGHT_INNER, int(seconds / 0.01), 0.01)
        if load.poll() is not None:
            raise RuntimeError("the load ended before the pings did")
        load.kill()
        load.wait()
        return {"p50_ms": percentile(times, 0.5), "p99_ms": percentile(times, 0.99)}


RTT_METRICS = (Metric("p50_ms", "ms, median", False), Metric("p99_ms", "ms, 99th percentile", False))


# ---------------------------------------------------------------- memory, peers, rest


def _memory(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
    with bed.tunnel(implementation) as tunnel:
        fresh = tunnel.rss_kib()
        with Server(bed.right, RIGHT_INNER):
            load = bed.left.popen(
                "iperf3",
                "-c",
                RIGHT_INNER,
                "-P",
                "8",
                "-t",
                str(round(seconds)),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            loaded = fresh
            while load.poll() is None:
                loaded = max(loaded, tunnel.rss_kib())
                time.sleep(0.1)
        return {"fresh_mb": fresh / 1024, "loaded_mb": loaded / 1024}


def many_peers(count: int) -> str:
    """[Peer] sections for *count* peers with one /32 each and no endpoint."""
    sections = []
    for index in range(count):
        key = base64.b64encode(os.urandom(32)).decode()
        sections.append(PeerConfig(key, [f"10.{100 + (index >> 16)}.{index >> 8 & 255}.{index & 255}/32"]).render())
    return "\n".join(sections)


def _peers(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
    count = 10_000
    node = bed.node(implementation, "right")
    node.start()
    try:
        setconf(node, bed.conf("right"))
        up(node, [f"{RIGHT_INNER}/24"], mtu=MTU)
        before = rss_kib(node.pid)
        path = f"/tmp/{node.interface}.peers"
        node.write(path, bed.conf("right") + "\n" + many_peers(count))
        started = time.perf_counter()
        node.run("wg", "setconf", node.interface, path)
        loading = time.perf_counter() - started
        Path(path).unlink()
        dumps = []
        for _ in range(5):
            started = time.perf_counter()
            text = wg(node, "show", node.interface, "dump")
            dumps.append(time.perf_counter() - started)
        if text.count("\n") != count + 2:
            raise RuntimeError(f"{implementation.name} dumps {text.count(chr(10))} lines for {count} peers")
        # Let it come to rest; then its share of a core while nothing happens.
        time.sleep(2)
        memory = rss_kib(node.pid) - before
        started, busy, woken = time.perf_counter(), cpu_s(node.pid), switches(node.pid)
        time.sleep(max(10.0, seconds))
        passed = time.perf_counter() - started
        return {
            "setconf_s": loading,
            "kib_per_peer": memory / count,
            "dump_ms": statistics.median(dumps) * 1e3,
            "idle_percent": (cpu_s(node.pid) - busy) / passed * 100,
            "wakeups_s": (switches(node.pid) - woken) / passed,
        }
    finally:
        node.stop()


def _idle(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
    with bed.tunnel(implementation) as tunnel:
        # Past the passive keepalive that the last ping asks for, so that nothing is due.
        time.sleep(12)
        started = time.perf_counter()
        before = [(switches(node.pid), cpu_s(node.pid)) for node in (tunnel.left, tunnel.right)]
        time.sleep(max(20.0, seconds))
        passed = time.perf_counter() - started
        after = [(switches(node.pid), cpu_s(node.pid)) for node in (tunnel.left, tunnel.right)]
        return {
            "wakeups_s": max(b[0] - a[0] for a, b in zip(before, after, strict=True)) / passed,
            "cpu_percent": max(b[1] - a[1] for a, b in zip(before, after, strict=True)) / passed * 100,
        }


# ---------------------------------------------------------------- recovery


def _restart(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
    """
    The side that does not know the other's endpoint is killed with -9 and started again at once with its same configuration,
    while the other sends a ping every 20 ms: from the kill to the first answer.
    """
    with bed.tunnel(implementation, right_knows=False) as tunnel:
        # A session in use: some seconds of traffic, so that whatever is remembered has been.
        pings = bed.left.popen("ping", "-n", "-i", "0.02", "-W", "1", "-O", RIGHT_INNER, stdout=subprocess.PIPE)
        assert pings.stdout is not None
        os.set_blocking(pings.stdout.fileno(), False)
        time.sleep(3)
        node = tunnel.right
        tunnel.right.kill()
        killed = time.perf_counter()
        node.start()
        setconf(node, bed.conf("right", knows_endpoint=False))
        up(node, [f"{RIGHT_INNER}/24"], mtu=MTU)
        ready = time.perf_counter()
        # What was printed until now is from before the kill.
        pings.stdout.read()

        def answered() -> bool:
            return b"bytes from" in (pings.stdout.read() or b"")

        wait_until(answered, max(30.0, seconds), f"{implementation.name}: traffic after the restart")
        back = time.perf_counter()
        pings.kill()
        pings.wait()
        pings.stdout.close()
        return {"back_s": back - killed, "of_that_start_s": ready - killed}


# ---------------------------------------------------------------- floods and handshakes, by bench/load


@functools.cache
def load_tool() -> str:
    """bench/load's binary, built if its sources are newer."""
    target = CACHE / "load"
    manifest = ROOT / "bench" / "load" / "Cargo.toml"
    run(
        ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", str(manifest), "--target-dir", str(target)],
        timeout_s=900,
    )
    return str(target / "release" / "ginnel-load")


def loaded(space: Namespace, load: str, *options: str, timeout_s: float = 120) -> dict[str, Any]:
    """Run one load to its end; its report."""
    report: dict[str, Any] = json.loads(space.run(load_tool(), load, *options, timeout_s=timeout_s))
    return report


class Flood:
    """An attacker in the third namespace while the block lasts."""

    def __init__(self, bed: Bed, kind: str, rate: int, *options: str) -> None:
        key = ("--key", bed.right_keys.public) if kind == "initiations" else ()
        self.process = bed.apart.popen(
            load_tool(), kind, "--to", f"{RIGHT_APART}:{RIGHT_PORT}", "--rate", str(rate), "--seconds", "60", *key, *options,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        early = self.process.poll()
        self.process.kill()
        _, said = self.process.communicate()
        if early is not None:
            raise RuntimeError(f"the flood ended early: {said}")


def _flood(kind: str, rate: int, *, nowhere: bool = False) -> Callable[[Bed, Implementation, float], Figures]:
    """
    What established TCP keeps while a stranger floods: the same tunnel just before and during.

    With *nowhere*, netfilter drops the flood before any socket is looked for: what TCP loses then went to the generator and to
    the way there, on the same cores, and no implementation can give it back.
    """

    def measure(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
        with bed.tunnel(implementation) as tunnel:
            quiet = tcp_gbit_s(bed, seconds)
            before = tunnel.rss_kib()
            with contextlib.ExitStack() as stack:
                if nowhere:
                    bed.right.run("nft", "-f", "-", stdin=NOWHERE)
                    stack.callback(bed.right.run, "nft", "delete", "table", "inet", "nowhere")
                stack.enter_context(Flood(bed, kind, rate))
                flooded = tcp_gbit_s(bed, seconds)
                times = round_trips_ms(bed.left, RIGHT_INNER, 100, 0.01)
            return {
                "kept_percent": 100 * flooded / quiet,
                "gbit_s": flooded,
                "p99_ms": percentile(times, 0.99),
                "grown_mb": (tunnel.rss_kib() - before) / 1024,
            }

    return measure


NOWHERE = f"""
table inet nowhere {{
    chain first {{
        type filter hook prerouting priority raw
        ip daddr {RIGHT_APART} udp dport {RIGHT_PORT} drop
    }}
}}
"""

FLOOD_METRICS = (
    Metric("kept_percent", "% of TCP kept", True),
    Metric("gbit_s", "Gb/s during", True),
    Metric("p99_ms", "ms, round trip during, 99th percentile", False),
    Metric("grown_mb", "MB grown", False),
)

HANDSHAKE_PEERS = 10_000


@contextlib.contextmanager
def responder(bed: Bed, implementation: Implementation, peers: int) -> Iterator[Userspace]:
    """The right side alone, with *peers* of the load generator's."""
    node = bed.node(implementation, "right")
    node.start()
    try:
        setconf(node, bed.conf("right", knows_endpoint=False))
        up(node, [f"{RIGHT_INNER}/24"], mtu=MTU)
        sections = run([load_tool(), "keys", "--peers", str(peers)])
        setconf(node, sections, "addconf")
        yield node
    finally:
        node.stop()


def _handshakes(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
    """Genuine initiations of 10,000 peers from one address, at three rates; a pause lets each begin without load."""
    figures: Figures = {}
    with responder(bed, implementation, HANDSHAKE_PEERS) as node:
        before = rss_kib(node.pid)
        for rate in (4_000, 6_000, 20_000):
            report = loaded(
                bed.apart, "handshakes", "--to", f"{RIGHT_APART}:{RIGHT_PORT}", "--key", bed.right_keys.public,
                "--peers", str(HANDSHAKE_PEERS), "--rate", str(rate), "--seconds", str(seconds),
            )  # fmt: skip
            figures[f"share_{rate}"] = 100 * report["answered_share"]
            figures[f"rate_{rate}"] = report["answered_per_second"]
            time.sleep(2)
        figures["grown_mb"] = (rss_kib(node.pid) - before) / 1024
    return figures


def _newcomer(sources: int) -> Callable[[Bed, Implementation, float], Figures]:
    """New genuine peers, ten a second from another address, while 50,000 forged initiations/s come from *sources* addresses."""

    def measure(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
        options: tuple[str, ...] = ()
        if sources > 1:
            options = ("--bind", "10.200.0.0", "--sources", str(sources))
            bed.apart.run("ip", "route", "replace", "local", "10.200.0.0/16", "dev", "lo")
            bed.right.run("ip", "route", "replace", "10.200.0.0/16", "via", APART)
        count = int(seconds / 0.1)
        with responder(bed, implementation, count), Flood(bed, "initiations", 50_000, *options):
            time.sleep(1)  # the flood's own start: under load is a state that lasts
            report = loaded(
                bed.left, "newcomers", "--to", f"{RIGHT_OUTER}:{RIGHT_PORT}", "--key", bed.right_keys.public,
                "--peers", str(count), "--rate", "10",
            )  # fmt: skip
        return {
            "p95_ms": report["p95_ms"] if report["given_up"] == 0 else 16_000.0,
            "p50_ms": report["p50_ms"],
            "given_up": report["given_up"],
            "retries": report["retries"],
        }

    return measure


NEWCOMER_METRICS = (
    Metric("p95_ms", "ms, new peer answered, 95th percentile", False),
    Metric("p50_ms", "ms, median", False),
    Metric("given_up", "never answered", False),
)


# ---------------------------------------------------------------- plain tunnels


def _over_wire(measure: Callable[[Bed, Implementation, float], Figures]) -> Callable[[Bed, Implementation, float], Figures]:
    """The same on a link that takes nothing but packets of the MTU."""

    def measured(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
        with bed.wire():
            return measure(bed, implementation, seconds)

    return measured


#: How many, and how far apart in the addresses inside: each has two.
THOUSAND, STEP = 1000, 2


def gre_thousand(side: str, device: str, count: int, more: str) -> str:
    """A node file of *count* GRE tunnels between the same two ends, told apart by their keys."""
    local, remote = (LEFT_OUTER, RIGHT_OUTER) if side == "left" else (RIGHT_OUTER, LEFT_OUTER)
    tunnels = []
    for index in range(count):
        inner = GRE_INNER + STEP * index + (1 if side == "right" else 0)
        tunnels.append(
            f'[tunnel.{device[:9]}{index}]\nkind = "gre"\nlocal = "{local}"\nremote = "{remote}"\nkey = {index + 1}\nttl = 64\n'
            f'mtu = {MTU}\naddress = ["{inner}/31"]\n{more}\n'
        )
    return "\n".join(tunnels)


GRE_INNER = ipaddress.IPv4Address("10.80.0.0")


def _packet_cost(bed: Bed, tunnel: Tunnel, seconds: float, spread: int) -> tuple[float, float]:
    """(microseconds of both processes for each packet that arrived, thousands a second), unpaced."""
    pids = (tunnel.left.pid, tunnel.right.pid)
    receiver = bed.right.popen(
        load_tool(), "udp", "--at", "0.0.0.0:5201", "--seconds", str(seconds + 10),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert receiver.stderr is not None
    if "receiving" not in receiver.stderr.readline():
        raise RuntimeError("the receiver did not start")
    before = sum(cpu_s(pid) for pid in pids)
    sent = loaded(
        bed.left, "udp", "--to", f"{GRE_INNER + 1}:5201", "--size", str(1000 - 28), "--seconds", str(seconds),
        "--spread", str(spread), "--step", str(STEP),
    )  # fmt: skip
    text, _ = receiver.communicate(timeout=seconds + 30)
    delivered = json.loads(text)["delivered"]
    used = sum(cpu_s(pid) for pid in pids) - before
    return used * 1e6 / max(1, delivered), delivered / sent["seconds"] / 1e3


def _gre_thousand(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
    """What a thousand tunnels in one process cost beyond one."""
    last = f"{GRE_INNER + STEP * (THOUSAND - 1) + 1}"
    more = implementation.gre or ""
    with bed.gre_pair(lambda side, name: gre_thousand(side, name, 1, more)) as tunnel:
        wait_until(lambda: bed.left.ping(f"{GRE_INNER + 1}"), 10, "a ping through the only tunnel")
        alone_us, alone_k = _packet_cost(bed, tunnel, seconds, 1)
        rss_one = tunnel.rss_kib()
    with bed.gre_pair(lambda side, name: gre_thousand(side, name, THOUSAND, more)) as tunnel:
        wait_until(lambda: bed.left.ping(last), 10, "a ping through the last tunnel")
        first_us, first_k = _packet_cost(bed, tunnel, seconds, 1)
        spread_us, spread_k = _packet_cost(bed, tunnel, seconds, THOUSAND)
        assert isinstance(tunnel.left, GreNode)
        return {
            "up_s": tunnel.left.up_s,
            "rss_mb": tunnel.rss_kib() / 1024,
            "kib_per_tunnel": (tunnel.rss_kib() - rss_one) / (THOUSAND - 1),
            "alone_us": alone_us,
            "first_us": first_us,
            "spread_us": spread_us,
            "first_to_alone": first_us / alone_us,
            "spread_to_alone": spread_us / alone_us,
            "alone_k_s": alone_k,
            "first_k_s": first_k,
            "spread_k_s": spread_k,
        }


#: What GRE goes in, or packets without it.
SUITES = ("ipsec", "ipsec-aes256", "ipsec-chacha", "ipsec-alone", "ipsec-raw")

SCENES: dict[str, Scene] = {
    scene.name: scene
    for scene in (
        Scene("tcp1", _tcp(), TCP_METRICS),
        Scene("tcp8", _tcp("-P", "8"), TCP_METRICS),
        Scene("tcp-bidir", _tcp("--bidir"), TCP_METRICS),
        # 1,400 bytes of IP packet, and 64.
        Scene("udp1400", _udp("udp", 1400 - 28), UDP_METRICS),
        Scene("small64", _udp("small", 64 - 28), UDP_METRICS),
        Scene("rtt-idle", _rtt_idle, RTT_METRICS),
        Scene("rtt-loaded", _rtt_loaded, RTT_METRICS),
        Scene("memory", _memory, (Metric("fresh_mb", "MB", False), Metric("loaded_mb", "MB under load", False)), rounds=3),
        Scene(
            "peers10k",
            _peers,
            (
                Metric("setconf_s", "s, wg setconf", False),
                Metric("kib_per_peer", "KiB/peer", False),
                Metric("dump_ms", "ms, wg show dump", False),
                Metric("idle_percent", "% of a core idle", False),
                Metric("wakeups_s", "wake-ups/s idle", False),
            ),
            without=("unencrypted",),
            rounds=3,
        ),
        Scene(
            "idle",
            _idle,
            (Metric("wakeups_s", "wake-ups/s", False), Metric("cpu_percent", "% of a core", False)),
            seconds=20,
            without=("unencrypted",),
            rounds=2,
        ),
        Scene(
            "restart",
            _restart,
            (Metric("back_s", "s, kill -9 to traffic", False), Metric("of_that_start_s", "s, of that start and setconf", False)),
            seconds=30,
            without=("unencrypted",),
            rounds=3,
        ),
        Scene("flood-nowhere", _flood("junk", 200_000, nowhere=True), FLOOD_METRICS, seconds=4),
        Scene("flood-junk", _flood("junk", 200_000), FLOOD_METRICS, seconds=4),
        Scene("flood-initiations", _flood("initiations", 200_000), FLOOD_METRICS, seconds=4),
        Scene("flood-data", _flood("unknown-index", 200_000), FLOOD_METRICS, seconds=4),
        Scene(
            "handshakes",
            _handshakes,
            (
                Metric("share_4000", "% answered at 4,000/s", True),
                Metric("share_6000", "% answered at 6,000/s", True),
                Metric("share_20000", "% answered at 20,000/s", True),
                Metric("rate_20000", "answered/s at 20,000/s", True),
                Metric("grown_mb", "MB grown", False),
            ),
            seconds=3,
            without=("unencrypted",),
            rounds=3,
        ),
        Scene("newcomer", _newcomer(1), NEWCOMER_METRICS, seconds=5, without=("unencrypted",), rounds=3),
        Scene("newcomer-spoofed", _newcomer(20_000), NEWCOMER_METRICS, seconds=5, without=("unencrypted",), rounds=3),
        Scene("gre-udp-tcp1", _tcp(), TCP_METRICS, among=("unencrypted", "gre-udp"), reference="unencrypted"),
        Scene("gre-raw-tcp1", _tcp(), TCP_METRICS, among=("ginnel", "gre-raw", "gre-udp"), reference="ginnel"),
        Scene("gre-wire-tcp1", _over_wire(_tcp()), TCP_METRICS, among=("ginnel", "gre-raw", "gre-udp"), reference="ginnel"),
        Scene("ipsec-udp-tcp1", _tcp(), TCP_METRICS, among=("ginnel", "ipsec", "strongswan"), reference="ginnel"),
        Scene("ipsec-suites-tcp1", _tcp(), TCP_METRICS, among=("ginnel", *SUITES), reference="ginnel"),
        Scene("ipsec-wire-tcp1", _over_wire(_tcp()), TCP_METRICS, among=("ginnel", "ipsec", "ipsec-raw"), reference="ginnel"),
        Scene("ipsec-small", _udp("small", 64 - 28), UDP_METRICS, among=("ginnel", "ipsec", "ipsec-raw"), reference="ginnel"),
        Scene("gre-small", _udp("small", 64 - 28), UDP_METRICS, among=("ginnel", "gre-raw", "gre-udp"), reference="ginnel"),
        Scene(
            "gre-1000",
            _gre_thousand,
            (
                Metric("up_s", "s, ginnel up of 1,000 tunnels", False),
                Metric("rss_mb", "MB", False),
                Metric("kib_per_tunnel", "KiB/tunnel", False),
                Metric("alone_us", "µs/packet, both ends, one tunnel alone", False),
                Metric("first_to_alone", "times that, first of 1,000", False),
                Metric("spread_to_alone", "times that, over all 1,000", False),
                Metric("alone_k_s", "k packets/s, one tunnel alone", True),
                Metric("first_k_s", "k packets/s, first of 1,000", True),
                Metric("spread_k_s", "k packets/s, over all 1,000", True),
            ),
            seconds=3,
            among=("gre-raw", "gre-udp"),
            reference="",
            rounds=3,
        ),
    )
}
