"""
Protected tunnels with static keys between ginnel's engine and Linux: one table of what is tried, and both ends of it.

`Linux` makes its end in the guest: a device (GRE, IP in IP, or an xfrm interface for `kind = "ipsec"`), and the SAs and
policies under it by `ip xfrm`. `Near` is the engine, in this process, over the seam alone. With GINNEL_TEST_SUBJECT=kernel
Linux, in a namespace inside the guest, stands in ginnel's place: what fails then is a mistake of the test. Every case has
delivery addresses and SPIs of its own, so that all stand at the same time:

    near 198.51.100.N       2001:db8:1::N        inner 10.201.N.1, fd21:N::1    SPI in  0x10000 + N
    far  198.51.100.(100+N) 2001:db8:1::(100+N)  inner 10.201.N.2, fd21:N::2    SPI in  0x20000 + N

What Linux wants: a socket with UDP_ENCAP on the port of ESP in UDP, for each family (`HOLD`); `flag af-unspec` for an SA in
tunnel mode that carries both families; ESN's window is its own attribute, and `replay-window` 33 or more selects it.
"""

from __future__ import annotations

import random
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ginnel import _native as native
from namespaces import Namespace
from native.plain_rig import packed
from native.rig import inside
from peers.gre_nodes import LINUX_TYPES, batch
from peers.guest import Guest
from peers.ipsec_suites import SUITES, Keys, Suite

#: In the order in which they load.
ESP_MODULES = (
    *("gcm", "ctr", "seqiv", "ghash_generic", "authenc", "authencesn", "echainiv", "sha512_generic", "ansi_cprng", "drbg"),
    *("chacha_generic", "poly1305_generic", "chacha20poly1305", "esp4", "esp6", "xfrm_user", "xfrm_interface"),
)
NATT = 4500
#: Every case's packets fit into it, whatever the suite's overhead.
MTU = 1320
#: Holds ESP-in-UDP's port for the kernel, in both families; says so and waits.
HOLD = """
import signal, socket
held = []
for family in (socket.AF_INET, socket.AF_INET6):
    one = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    one.bind(("", 4500))
    one.setsockopt(socket.IPPROTO_UDP, 100, 2)
    held.append(one)
print("held", flush=True)
signal.pause()
"""
#: What a policy selects, by our kind.
PROTOCOLS = {"gre": (47,), "gretap": (47,), "ipip": (4,), "sit": (41,), "ip6tnl": (4, 41)}


@dataclass(frozen=True, slots=True)
class Case:
    """One tunnel and its SAs."""

    number: int
    suite: Suite
    kind: str
    transport: bool
    family: int
    udp: bool
    esn: bool
    keyed: bool = False

    def __str__(self) -> str:
        """For pytest."""
        words = [self.suite.name, self.kind, "transport" if self.transport else "tunnel", f"v{self.family}"]
        return "-".join(words + ["udp"] * self.udp + ["esn"] * self.esn + ["keyed"] * self.keyed)

    @property
    def near(self) -> str:
        """Our end of the delivery header."""
        return f"198.51.100.{self.number}" if self.family == 4 else f"2001:db8:1::{self.number}"

    @property
    def far(self) -> str:
        """Theirs."""
        return f"198.51.100.{100 + self.number}" if self.family == 4 else f"2001:db8:1::{100 + self.number}"

    @property
    def name(self) -> str:
        """The device, at either end."""
        return f"s{self.number}{self.kind}"

    @property
    def carries(self) -> tuple[int, ...]:
        """Families that go through it."""
        return {"ipip": (4,), "sit": (6,)}.get(self.kind, (4, 6))

    @property
    def spi_near(self) -> int:
        """What comes to us."""
        return 0x10000 + self.number

    @property
    def spi_far(self) -> int:
        """What comes to them."""
        return 0x20000 + self.number

    def keys(self) -> tuple[Keys, Keys]:
        """To us, and to them; the same at every call."""
        chance = random.Random(str(self))
        return self.suite.keys(chance), self.suite.keys(chance)

    def inner(self, end: int, family: int) -> str:
        """The address inside: end 1 is near, 2 far."""
        return f"10.201.{self.number}.{end}" if family == 4 else f"fd21:{self.number}::{end}"

    def prefixes(self, end: int) -> list[str]:
        """The addresses inside, with the length of their network."""
        return [f"{self.inner(end, family)}/{24 if family == 4 else 64}" for family in self.carries]


def _table() -> list[Case]:
    #: kind, transport, family, udp, esn
    shapes: list[tuple[str, bool, int, bool, bool]] = [
        ("gre", True, 4, False, False),
        ("ipsec", False, 4, False, True),
        ("gre", False, 6, True, False),
        ("gre", True, 4, True, True),
        ("ipsec", False, 6, False, False),
        ("gretap", True, 4, False, True),
        ("gre", True, 6, False, True),
        ("ipsec", False, 4, True, False),
        ("ipip", True, 4, False, False),
        ("gre", False, 4, False, True),
        ("ip6tnl", True, 6, False, False),
        ("ipsec", False, 6, True, True),
        ("sit", True, 4, True, False),
        ("gre", True, 6, True, False),
    ]
    whole: list[tuple[Suite, tuple[str, bool, int, bool, bool]]] = []
    for index, suite in enumerate(SUITES):
        whole += [(suite, shapes[(index + 5 * step) % len(shapes)]) for step in range(2)]
    # The commonest suite in every shape.
    whole += [(SUITES[2], shape) for shape in shapes if (SUITES[2], shape) not in whole]
    table = [Case(number, suite, *shape) for number, (suite, shape) in enumerate(whole, 1)]
    return [*table, Case(len(table) + 1, SUITES[0], "gre", True, 4, False, False, keyed=True)]


TABLE = _table()


# ---------------------------------------------------------------- Linux


@dataclass(slots=True)
class Linux:
    """One end of all cases, the far one or (*end* 1) the near one; *space*: a namespace in the guest, *device*: its link."""

    guest: Guest
    end: int = 2
    space: str = ""
    device: str = "eth0"

    def start(self, table: Sequence[Case]) -> None:
        """Modules, addresses, the held port, SAs, policies, devices."""
        self.guest.load("ip_gre", "ip6_gre", "ipip", "sit", "ip6_tunnel", *ESP_MODULES)
        self.guest.host("true")
        # The namespace is the guest's own: it is entered before its files are left.
        prefix = ["ip", "netns", "exec", self.space] if self.space else []
        hold = shlex.join([*prefix, "chroot", "/host", sys.executable, "-c", HOLD])
        mark = f"/tmp/held{self.end}"
        self.guest.shell(f"{hold} > {mark} 2>&1 < /dev/null & echo $! > {mark}.pid")
        addresses = [f"{self._ends(one)[0]}/{24 if one.family == 4 else 64}" for one in table]
        self._batch([f"address add {address} dev {self.device}" for address in addresses])
        self._batch([line for one in table for line in self._lines(one)])
        self.guest.shell(f"for i in $(seq 100); do grep -q held {mark} && exit 0; sleep 0.1; done; cat {mark}; exit 1")

    def _ends(self, case: Case) -> tuple[str, str]:
        return (case.far, case.near) if self.end == 2 else (case.near, case.far)

    def _batch(self, lines: Sequence[str], *, check: bool = True) -> None:
        batch(self.guest, lines, *(["-n", self.space] if self.space else []), check=check)

    def _lines(self, case: Case) -> list[str]:
        to_near, to_far = case.keys()
        mine, theirs = self._ends(case)
        mode = "transport" if case.transport else "tunnel"
        flags = ["esn"] * case.esn + ["af-unspec"] * (case.kind == "ipsec")
        options = ["reqid", str(case.number), "mode", mode, "replay-window", "128" if case.esn else "32"]
        options += ["flag", *flags] if flags else []
        options += ["if_id", str(case.number)] if case.kind == "ipsec" else []
        if case.udp:
            options += ["encap", "espinudp", str(NATT), str(NATT), "0.0.0.0" if case.family == 4 else "::"]
        lines: list[str] = []
        for src, dst, spi, keys in (
            (case.far, case.near, case.spi_near, to_near),
            (case.near, case.far, case.spi_far, to_far),
        ):
            algorithms = " ".join(map(quoted, case.suite.xfrm(keys)))
            lines.append(f"xfrm state add src {src} dst {dst} proto esp spi {spi:#x} {' '.join(options)} {algorithms}")
        for src, dst, way in ((mine, theirs, "out"), (theirs, mine, "in")):
            ends = f"src {src} dst {dst} " if not case.transport else ""
            template = f"tmpl {ends}proto esp reqid {case.number} mode {mode}"
            if case.kind == "ipsec":
                nets = ("0.0.0.0/0", "::/0")
                lines += [f"xfrm policy add src {net} dst {net} dir {way} if_id {case.number} {template}" for net in nets]
            else:
                selector = f"src {src}/{32 if case.family == 4 else 128} dst {dst}/{32 if case.family == 4 else 128}"
                lines += [
                    f"xfrm policy add {selector} proto {protocol} dir {way} {template}" for protocol in PROTOCOLS[case.kind]
                ]
        return [*lines, *self._device(case)]

    def _device(self, case: Case) -> list[str]:
        mine, theirs = self._ends(case)
        if case.kind == "ipsec":
            made = f"link add {case.name} mtu {MTU} type xfrm dev {self.device} if_id {case.number}"
        else:
            kind = LINUX_TYPES[case.kind, case.family]
            made = f"link add {case.name} mtu {MTU} gso_max_segs 1 type {kind} local {mine} remote {theirs}"
            if kind == "ip6tnl":
                made += " mode any"
            if case.family == 6:
                made += " encaplimit none"
            if case.keyed:
                made += " key 42"
        return [
            made,
            *(f"address add {prefix} dev {case.name}" for prefix in case.prefixes(self.end)),
            f"link set {case.name} up",
        ]

    def clear(self, table: Sequence[Case]) -> None:
        """It is gone, as far as it was made."""
        self.guest.shell(f"kill $(cat /tmp/held{self.end}.pid)", check=False)
        lines = ["xfrm policy flush", "xfrm state flush", *(f"link del {one.name}" for one in table)]
        lines += [f"address del {self._ends(one)[0]}/{24 if one.family == 4 else 64} dev {self.device}" for one in table]
        self._batch(lines, check=False)

    def run(self, *argv: str, timeout_s: float = 60.0) -> str:
        """A command where the devices are."""
        prefix = ["ip", "netns", "exec", self.space] if self.space else []
        return self.guest.run(*prefix, *argv, timeout_s=timeout_s)

    def serve(self, *argv: str) -> None:
        """The same in the background."""
        prefix = ["ip", "netns", "exec", self.space] if self.space else []
        self.guest.shell(f"{shlex.join([*prefix, *argv])} > /dev/null 2>&1 < /dev/null &")

    def packets(self, case: Case) -> tuple[int, int]:
        """Received and sent under the case's SAs."""
        shown = self.run("ip", "-s", "xfrm", "state")
        counts = {
            int(spi, 16): int(count)
            for spi, count in re.findall(
                r"spi (0x[0-9a-f]+)\(.*?lifetime current:\s+\d+\(bytes\), (\d+)\(packets\)", shown, re.DOTALL
            )
        }
        to_near, to_far = counts[case.spi_near], counts[case.spi_far]
        return (to_far, to_near) if self.end == 2 else (to_near, to_far)

    def wrong(self, case: Case | None = None) -> dict[str, int]:
        """/proc/net/xfrm_stat, what is not zero, for all cases together."""
        words = self.run("cat", "/proc/net/xfrm_stat").split()
        return {name: int(count) for name, count in zip(words[::2], words[1::2], strict=True) if count != "0"}

    def stop(self) -> None:
        """Of a namespace inside the guest: it is gone, with all that ran in it."""
        if self.space:
            self.guest.shell(
                f"for pid in $(ip netns pids {self.space}); do kill $pid; done; ip netns del {self.space}", check=False
            )


def kernel_near(guest: Guest, table: Sequence[Case]) -> Linux:
    """Linux in ginnel's place: a namespace inside the guest, joined to it by the pair near0 and near1."""
    guest.load("veth")
    guest.shell(
        "set -e; ip netns add near; ip link add near0 type veth peer name near1 netns near; ip link set near0 up;"
        "ip -n near link set lo up; ip -n near link set near1 up;"
        "ip netns exec near sh -c 'for one in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 > $one; done';"
        "echo 0 > /proc/sys/net/ipv6/conf/near0/accept_dad;"
    )
    near = Linux(guest, 1, "near", "near1")
    near.start(table)
    return near


def quoted(word: str) -> str:
    """For `ip -batch`, whose words may not hold brackets bare."""
    return f'"{word}"' if word[-1:] == ")" else word


# ---------------------------------------------------------------- ginnel


def near_addresses(table: Sequence[Case]) -> list[str]:
    """Delivery addresses of our end."""
    return [f"{one.near}/{24 if one.family == 4 else 64}" for one in table]


@dataclass(slots=True)
class Near:
    """The engine's end of all cases, in *space*."""

    space: Namespace
    engine: Any
    tunnels: dict[str, Any]

    @classmethod
    def start(cls, space: Namespace, table: Sequence[Case]) -> Near:
        """Tunnels, SAs, addresses; up."""
        near = cls(space, native.Engine(), {})
        with inside(space):
            near.engine.ike()
            for case in table:
                near.tunnels[case.name] = near.engine.plain(
                    case.name, kind=case.kind, local=packed(case.near), remote=packed(case.far), mtu=MTU, protected=True,
                    **({"ikey": 42, "okey": 42} if case.keyed else {}),
                )  # fmt: skip
                near.tunnels[case.name].up()
        for case in table:
            near.secure(case)
            if 6 not in case.carries:
                space.write_proc(f"/proc/sys/net/ipv6/conf/{case.name}/disable_ipv6", "1")
            for prefix in case.prefixes(1):
                space.ip("address", "add", prefix, "dev", case.name)
            space.ip("link", "set", case.name, "up")
            if 6 in case.carries:
                space.settled(case.name)
        return near

    def secure(self, case: Case) -> None:
        """Its two SAs."""
        to_near, to_far = case.keys()
        common: dict[str, Any] = {"suite": case.suite.name, "transport": case.transport, "esn": case.esn}
        ports = {"local_port": NATT, "remote_port": NATT} if case.udp else {}
        tunnel = self.tunnels[case.name]
        tunnel.add_inbound(case.spi_near, **common, **to_near.material())
        tunnel.set_outbound(
            case.spi_far, **common, **to_far.material(), local=packed(case.near), remote=packed(case.far), **ports
        )

    def packets(self, case: Case) -> tuple[int, int]:
        """Received and sent under its SAs."""
        outbound, inbound = self.tunnels[case.name].associations()
        return inbound.packets, outbound.packets

    def wrong(self, case: Case) -> dict[str, int]:
        """Its drops."""
        return {reason: count for reason, count in self.tunnels[case.name].drops().items() if count}

    def run(self, *argv: str, timeout_s: float = 60.0) -> str:
        """A command where the devices are."""
        return self.space.run(*argv, timeout_s=timeout_s)

    def serve(self, *argv: str) -> None:
        """The same in the background."""
        self.space.popen(*argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        """Every device is gone."""
        self.engine.close()
