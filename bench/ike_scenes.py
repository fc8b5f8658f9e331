"""
The scenes of IKE: full handshakes, a thousand protected tunnels, half-open floods.

The initiators of handshakes and the floods are bench/ike_load.py, on the other core; the responder is `ginnel up` on a node file,
pinned to one core with all its threads.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bed import APART, LEFT_OUTER, MTU, RIGHT_APART, RIGHT_INNER, RIGHT_OUTER, Bed, GreNode, Implementation, cpu_s, rss_kib
from scenes import (
    FLOOD_METRICS,
    GRE_INNER,
    STEP,
    THOUSAND,
    Figures,
    Metric,
    Scene,
    load_tool,
    percentile,
    round_trips_ms,
    tcp_gbit_s,
)

from namespaces import wait_until

LOAD = str(Path(__file__).with_name("ike_load.py"))
SECRET = "a secret of the bench"
#: Initiators' addresses, a /16 behind the left or the third namespace.
CALLERS, CALLERS_NET = ipaddress.IPv4Address("10.90.0.1"), "10.90.0.0/16"
#: Callers of `ike-handshakes`, each with a tunnel of its own at the responder.
CALLERS_COUNT = 256


# ---------------------------------------------------------------- what they share


def _load(space: Any, *options: str, cores: str = "") -> subprocess.Popen[str]:
    pinned = ("taskset", "-c", cores) if cores else ()
    process: subprocess.Popen[str] = space.popen(
        *pinned, sys.executable, LOAD, *options, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return process


def _done(process: subprocess.Popen[str], timeout_s: float) -> dict[str, Any]:
    """Its report."""
    text, said = process.communicate(SECRET + "\n", timeout=timeout_s)
    if process.returncode:
        raise RuntimeError(f"the load failed: {said}")
    report: dict[str, Any] = json.loads(text)
    return report


def _secret_file(bed: Bed) -> Path:
    path = bed.directory / "ike.psk"
    path.touch(mode=0o600)
    path.write_text(SECRET + "\n")
    return path


@contextlib.contextmanager
def _behind(bed: Bed, side: str) -> Iterator[None]:
    """The callers' addresses are in the left namespace, or in the third."""
    space, via = (bed.left, LEFT_OUTER) if side == "left" else (bed.apart, APART)
    space.run("ip", "route", "add", "local", CALLERS_NET, "dev", "lo")
    bed.right.run("ip", "route", "add", CALLERS_NET, "via", via)
    try:
        yield
    finally:
        bed.right.run("ip", "route", "delete", CALLERS_NET)
        space.run("ip", "route", "delete", "local", CALLERS_NET, "dev", "lo")


def _pin(pid: int, cores: str) -> None:
    subprocess.run(["taskset", "-a", "-p", "-c", cores, str(pid)], check=True, capture_output=True)


# ---------------------------------------------------------------- full handshakes


def _callers_file(bed: Bed, device: str) -> str:
    """The responder's node file: a tunnel for each caller."""
    tunnels = []
    for index in range(CALLERS_COUNT):
        name = f"{device[:9]}{index}"
        tunnels.append(
            f'[tunnel.{name}]\nkind = "ipsec"\nlocal = "{RIGHT_OUTER}"\nremote = "{CALLERS + index}"\nmtu = {MTU}\n'
            f'[tunnel.{name}.ipsec]\npsk-file = "{_secret_file(bed)}"\nlocal-id = "hub.example.org"\n'
            f'remote-id = "p{index}.example.org"\nstart = "wait"\n'
            'ike = "aes128gcm16-prfsha256-x25519"\nesp = "aes128gcm16-x25519"\n'
        )
    return "\n".join(tunnels)


def _handshakes(bed: Bed, implementation: Implementation, seconds: float) -> Figures:  # noqa: ARG001 - as all scenes
    """As many as one core answers, from another core; the first pass over all callers is not counted."""
    name = bed.net.unique("bk")
    node = GreNode(bed.right, name, bed.directory / f"{name}.toml")
    with _behind(bed, "left"), contextlib.ExitStack() as undo:
        undo.callback(node.stop)
        node.start(_callers_file(bed, name))
        cores = sorted(os.sched_getaffinity(0))
        _pin(node.pid, str(cores[0]))
        options = ("handshakes", "--to", RIGHT_OUTER, "--from", str(CALLERS), "--peers", str(CALLERS_COUNT))
        _done(_load(bed.left, *options, "--seconds", "2", cores=str(cores[-1])), 60)
        before, started = cpu_s(node.pid), rss_kib(node.pid)
        report = _done(_load(bed.left, *options, "--seconds", str(seconds), cores=str(cores[-1])), seconds + 60)
        used = cpu_s(node.pid) - before
        if report["refused"] or not report["up"]:
            raise RuntimeError(f"refused: {report['refused']}")
        return {
            "up_s": report["up"] / report["seconds"],
            "responder_ms": used / report["up"] * 1e3,
            "per_core_s": report["up"] / used,
            "responder_percent": 100 * used / report["seconds"],
            "initiator_percent": 100 * report["cpu_seconds"] / report["seconds"],
            "grown_mb": (rss_kib(node.pid) - started) / 1024,
        }


# ---------------------------------------------------------------- a thousand tunnels


def _thousand_file(bed: Bed, side: str, device: str, start: str) -> str:
    """GRE over IPsec between the same two ends, told apart by identities, and by the keys of GRE."""
    local, remote = (LEFT_OUTER, RIGHT_OUTER) if side == "left" else (RIGHT_OUTER, LEFT_OUTER)
    tunnels = []
    for index in range(THOUSAND):
        inner, name = GRE_INNER + STEP * index + (1 if side == "right" else 0), f"{device[:9]}{index}"
        ids = (f"l{index}.example.org", f"r{index}.example.org")
        ours, theirs = ids if side == "left" else ids[::-1]
        tunnels.append(
            f'[tunnel.{name}]\nkind = "gre"\nlocal = "{local}"\nremote = "{remote}"\nkey = {index + 1}\nttl = 64\n'
            f'mtu = {MTU}\naddress = ["{inner}/31"]\n'
            f'[tunnel.{name}.ipsec]\npsk-file = "{_secret_file(bed)}"\nlocal-id = "{ours}"\nremote-id = "{theirs}"\n'
            f'start = "{start}"\nesp = "aes128gcm16-x25519"\nencapsulation = "udp"\n'
        )
    return "\n".join(tunnels)


def _thousand(bed: Bed, implementation: Implementation, seconds: float) -> Figures:  # noqa: ARG001 - as all scenes
    """From the initiator's `ginnel up` until a ping has come back through each of a thousand tunnels."""
    names = {side: bed.net.unique("bk" + side[0]) for side in ("left", "right")}
    left = GreNode(bed.left, names["left"], bed.directory / f"{names['left']}.toml")
    right = GreNode(bed.right, names["right"], bed.directory / f"{names['right']}.toml")
    with contextlib.ExitStack() as undo:
        undo.callback(right.stop)
        right.start(_thousand_file(bed, "right", right.name, "wait"))
        fresh, before = rss_kib(right.pid), cpu_s(right.pid)
        undo.callback(left.stop)
        started = time.perf_counter()
        left.start(_thousand_file(bed, "left", left.name, "start"))
        options = ("--from", str(GRE_INNER + 1), "--step", str(STEP), "--peers", str(THOUSAND), "--seconds", str(seconds))
        report = _done(_load(bed.left, "reach", *options), seconds + 60)
        if report["missing"]:
            raise RuntimeError(f"{report['missing']} of {THOUSAND} tunnels carry nothing after {seconds} s")
        return {
            "all_up_s": time.perf_counter() - started,
            "of_that_command_s": left.up_s,
            "rss_mb": rss_kib(right.pid) / 1024,
            "fresh_mb": fresh / 1024,
            "responder_s": cpu_s(right.pid) - before,
        }


# ---------------------------------------------------------------- half-open floods


def _open_tunnel(bed: Bed, name: str) -> str:
    """Anybody who proves to be the guest."""
    return (
        f'[tunnel.{name}]\nkind = "ipsec"\nlocal = "{RIGHT_APART}"\nmtu = {MTU}\n'
        f'[tunnel.{name}.ipsec]\npsk-file = "{_secret_file(bed)}"\nlocal-id = "hub.example.org"\n'
        'remote-id = "guest.example.org"\nstart = "wait"\n'
    )


Stranger = Callable[[Bed, float], "subprocess.Popen[str]"]


def _forged(rate: int) -> Stranger:
    """IKE_SA_INIT of 20,000 addresses that do not answer: ginnel-load sends one with 4,096 SPIs in turn."""

    def flood(bed: Bed, seconds: float) -> subprocess.Popen[str]:
        message = _done(_load(bed.apart, "message", "--to", RIGHT_APART, "--from", str(CALLERS)), 20)["message"]
        process: subprocess.Popen[str] = bed.apart.popen(
            load_tool(), "template", "--to", f"{RIGHT_APART}:500", "--message", message, "--vary", "8", "--bind", str(CALLERS),
            "--sources", "20000", "--rate", str(rate), "--seconds", str(seconds),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        return process

    return flood


def _honest(rate: int) -> Stranger:
    """The same of addresses that give back the cookie they are sent: the table has its limits, and each address in it."""

    def flood(bed: Bed, seconds: float) -> subprocess.Popen[str]:
        options = ("--to", RIGHT_APART, "--from", str(CALLERS), "--peers", "20000", "--rate", str(rate))
        return _load(bed.apart, "half-open", *options, "--seconds", str(seconds))

    return flood


def _flood(stranger: Stranger) -> Callable[[Bed, Implementation, float], Figures]:
    """What an established tunnel keeps while strangers begin IKE SAs, towards a connection that is open to anybody."""

    def measure(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
        def text(side: str, name: str) -> str:
            own = bed.gre_file(side, name, implementation)
            return own if side == "left" else own + _open_tunnel(bed, bed.net.unique("bo"))

        with _behind(bed, "apart"), bed.gre_pair(text) as tunnel:
            wait_until(lambda: bed.left.ping(RIGHT_INNER), 20, "a ping through the tunnel")
            quiet = tcp_gbit_s(bed, seconds)
            before = tunnel.rss_kib()
            flood = stranger(bed, seconds + 4)
            flooded = tcp_gbit_s(bed, seconds)
            times = round_trips_ms(bed.left, RIGHT_INNER, 100, 0.01)
            report = _done(flood, seconds + 60)
            return {
                "kept_percent": 100 * flooded / quiet,
                "gbit_s": flooded,
                "p99_ms": percentile(times, 0.99),
                "grown_mb": (tunnel.rss_kib() - before) / 1024,
                "sent_k_s": report["sent_per_second"] / 1e3,
                "half_open_s": report.get("half-open", 0) / report["seconds"],
            }

    return measure


FORGED_METRICS = (*FLOOD_METRICS, Metric("sent_k_s", "k initiations/s", True))
HONEST_METRICS = (*FORGED_METRICS, Metric("half_open_s", "half-open SAs made/s", False))

SCENES: dict[str, Scene] = {
    scene.name: scene
    for scene in (
        Scene(
            "ike-handshakes",
            _handshakes,
            (
                Metric("up_s", "full handshakes/s, one core", True),
                Metric("per_core_s", "the same by the responder's CPU time", True),
                Metric("responder_ms", "ms of CPU, responder, a handshake", False),
                Metric("responder_percent", "% of a core, responder", True),
                Metric("initiator_percent", "% of a core, initiators", False),
                Metric("grown_mb", "MB grown", False),
            ),
            among=("ipsec",),
            reference="",
        ),
        Scene(
            "ipsec-1000",
            _thousand,
            (
                Metric("all_up_s", "s, 1,000 tunnels: from nothing to a ping through each", False),
                Metric("of_that_command_s", "s, of that ginnel up", False),
                Metric("rss_mb", "MB, responder", False),
                Metric("fresh_mb", "MB, of that before the first handshake", False),
                Metric("responder_s", "s of CPU, responder", False),
            ),
            seconds=60,
            among=("ipsec",),
            reference="",
            rounds=3,
        ),
        Scene("ike-flood", _flood(_forged(20_000)), FORGED_METRICS, 4, ("ipsec",), reference="", rounds=3),
        Scene("ike-flood-honest", _flood(_honest(2_000)), HONEST_METRICS, 4, ("ipsec",), reference="", rounds=3),
    )
}
