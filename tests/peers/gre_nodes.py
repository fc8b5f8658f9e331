"""
Plain tunnels for tests: one table of what is tried, and who can be their two ends.

`TABLE` names every combination of kind, delivery family and options once, with ginnel's arguments and iproute2's. `Far` makes
them of the Linux kernel in the guest. `Near` makes them of ginnel's engine, many in one process in a namespace, over the seam
alone (`Engine.plain`): what there is to know of the process and of node files is tried elsewhere. `KernelNear` makes them of
Linux again, in a namespace inside the guest: GINNEL_TEST_SUBJECT=kernel puts it in ginnel's place, and what fails then is a
mistake of the test.

Each tunnel has delivery addresses of its own, so that tunnels without keys can stand beside each other:

    near 192.0.2.N      2001:db8::1:N        inner 10.200.N.1, fd20:N::1
    far  192.0.2.(100+N) 2001:db8::2:N       inner 10.200.N.2, fd20:N::2

Run as a program it is the engine's process: requests as JSON lines on stdin, an answer for each on stdout.
"""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from namespaces import CommandFailed, Namespace, run, wait_until
from peers.guest import Guest

ROOT = Path(__file__).resolve().parents[2]
SUBJECT = os.environ.get("GINNEL_TEST_SUBJECT", "ginnel")

# ---------------------------------------------------------------- what is tried

#: iproute2's `type` by our kind and the delivery header's family.
LINUX_TYPES = {
    ("gre", 4): "gre", ("gre", 6): "ip6gre", ("gretap", 4): "gretap", ("gretap", 6): "ip6gretap",
    ("ipip", 4): "ipip", ("sit", 4): "sit", ("ip6tnl", 6): "ip6tnl",
}  # fmt: skip
#: Keys as the near end has them; the far end's are swapped.
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "key": {"ikey": 7, "okey": 7},
    "keys": {"ikey": 11, "okey": 4_000_000_022},
    "csum": {"icsum": True, "ocsum": True},
    "seq": {"iseq": True, "oseq": True},
    "all": {"ikey": 11, "okey": 22, "icsum": True, "ocsum": True, "iseq": True, "oseq": True},
}


@dataclass(frozen=True, slots=True)
class Plain:
    """One tunnel: *options* are ginnel's arguments, *linux* iproute2's that are not told by them."""

    label: str
    number: int
    kind: str
    family: int
    options: Mapping[str, Any] = field(default_factory=dict)
    linux: tuple[str, ...] = ()

    @property
    def near(self) -> str:
        """Our end of the delivery header."""
        return f"192.0.2.{self.number}" if self.family == 4 else f"2001:db8::1:{self.number}"

    @property
    def far(self) -> str:
        """Their end."""
        return f"192.0.2.{100 + self.number}" if self.family == 4 else f"2001:db8::2:{self.number}"

    @property
    def carries(self) -> tuple[int, ...]:
        """Families that go through it."""
        return {"ipip": (4,), "sit": (6,)}.get(self.kind, (4, 6))

    def inner(self, end: int, family: int) -> str:
        """The address inside: end 1 is near, 2 far."""
        return f"10.200.{self.number}.{end}" if family == 4 else f"fd20:{self.number}::{end}"

    def prefixes(self, end: int) -> list[str]:
        """The addresses inside, with the length of their network."""
        return [f"{self.inner(end, family)}/{24 if family == 4 else 64}" for family in self.carries]

    @property
    def name(self) -> str:
        """The device, at either end."""
        return f"t{self.number}{self.label.replace('-', '')}"[:15]

    def ip_link(self, *, near: bool = False) -> list[str]:
        """`link add ...` for iproute2, as the far end, or (*near*) as ours."""
        get, mine, theirs = self.options.get, *(("i", "o") if near else ("o", "i"))
        local, remote = (self.near, self.far) if near else (self.far, self.near)
        # Without super-packets, which would count as one.
        line = [
            "link",
            "add",
            self.name,
            "gso_max_segs",
            "1",
            "type",
            LINUX_TYPES[self.kind, self.family],
            "local",
            local,
            "remote",
            remote,
        ]
        if self.kind == "ip6tnl":
            line += ["mode", "any"]
        for ours, linux in ((f"{mine}key", "ikey"), (f"{theirs}key", "okey")):
            if get(ours) is not None:
                line += [linux, str(get(ours))]
        for what in ("csum", "seq"):
            line += [f"i{what}"] if get(mine + what) else []
            line += [f"o{what}"] if get(theirs + what) else []
        return [*line, *self.linux]


def _table() -> list[Plain]:
    wanted: list[tuple[str, str, int, dict[str, Any], tuple[str, ...]]] = []
    for kind in ("gre", "gretap"):
        for family in (4, 6):
            for name, options in OPTIONS.items():
                # Over IPv6 Linux sends an option header unless told not to; "none" leaves it its default.
                linux = ("encaplimit", "none") if family == 6 and name != "none" else ()
                wanted.append((f"{kind}-{family}-{name}", kind, family, options, linux))
    wanted += [
        ("ipip-4", "ipip", 4, {}, ()),
        ("sit-4", "sit", 4, {}, ()),
        ("ip6tnl-6", "ip6tnl", 6, {}, ()),
        ("ip6tnl-6-nolimit", "ip6tnl", 6, {}, ("encaplimit", "none")),
        ("gre-6-limit", "gre", 6, {"encaplimit": 4}, ("encaplimit", "4")),
        ("ip6tnl-6-limit", "ip6tnl", 6, {"encaplimit": 4}, ("encaplimit", "4")),
        ("fou-4", "gre", 4, {"udp": (4754, 0, 4754)}, (*FOU, "encap-csum")),
        ("fou-4-key", "gre", 4, {"udp": (4754, 4754, 4754), **OPTIONS["keys"]}, FOU),
        ("fou-6", "gre", 6, {"udp": (4754, 0, 4754)}, (*FOU, "encap-udp6-csum", "encaplimit", "none")),
        ("fou-6-all", "gre", 6, {"udp": (4754, 4754, 4754), **OPTIONS["all"]}, (*FOU, "encap-udp6-csum", "encaplimit", "none")),
    ]
    return [Plain(label, number, *rest) for number, (label, *rest) in enumerate(wanted, 1)]


TUNNEL_MODULES = ("ip_gre", "ip6_gre", "ipip", "sit", "ip6_tunnel", "fou", "fou6")
#: The kernel's side of GRE in UDP.
FOU = ("encap", "fou", "encap-sport", "auto", "encap-dport", "4754")
FOU_PORT = "fou add port 4754 ipproto 47"
TABLE = _table()


@dataclass(frozen=True, slots=True)
class Counters:
    """What an end counted; *wrong* are its errors and drops by name, those that are not zero."""

    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    wrong: dict[str, int]


#: Bytes of each frame, received and sent, that Linux 6.1 does not count: the Ethernet header.
UNCOUNTED = {"gretap": (0, 14), "ip6gretap": (14, 14)}


def linux_counters(shown: Mapping[str, Any]) -> Counters:
    """From one device of `ip -details -s -s -json link show`; for Ethernet the bytes are those of whole frames."""
    rx, tx = shown["stats64"]["rx"], shown["stats64"]["tx"]
    fine = {"packets", "bytes", "multicast"}
    wrong = {
        f"{way}_{name}": count
        for way, counts in (("rx", rx), ("tx", tx))
        for name, count in counts.items()
        if count and name not in fine
    }
    plus_rx, plus_tx = UNCOUNTED.get(shown.get("linkinfo", {}).get("info_kind"), (0, 0))
    rx_bytes, tx_bytes = rx["bytes"] + plus_rx * rx["packets"], tx["bytes"] + plus_tx * tx["packets"]
    return Counters(rx["packets"], rx_bytes, tx["packets"], tx_bytes, wrong)


# ---------------------------------------------------------------- who can be an end


class Subject(Protocol):
    """The near end: what the tests ask of ginnel, or of the kernel in its place."""

    def add(self, tunnels: Sequence[Plain], mtus: Mapping[str, int]) -> None:
        """Make them, give them the addresses of end 1, and bring them up."""

    def remove(self, tunnels: Sequence[Plain]) -> None: ...
    def counters(self) -> dict[str, Counters]:
        """Of every tunnel, by the device's name."""

    def run(self, *argv: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """A command where the devices are."""

    def serve(self, *argv: str) -> None:
        """The same in the background, until the end of the tests."""

    def stop(self) -> None: ...


def batch(guest: Guest, lines: Sequence[str], *options: str, check: bool = True) -> None:
    """Lines for `ip -batch` in the guest; those that fail fail the whole when *check*."""
    text = "\n".join(lines)
    guest.shell(f"ip {' '.join(options)} {'' if check else '-force'} -batch - <<'END'\n{text}\nEND", check=check)


@dataclass(slots=True)
class Far:
    """Tunnels of the guest's kernel; *device* bears their delivery addresses. *end* 1: it stands where ginnel would."""

    guest: Guest
    device: str = "eth0"
    end: int = 2

    def addresses(self, tunnels: Sequence[Plain]) -> list[str]:
        """The delivery addresses, with the length of their network."""
        ends = [(one.family, one.far if self.end == 2 else one.near) for one in tunnels]
        return [f"{address}/{24 if family == 4 else 64}" for family, address in ends]

    def prepare(self, tunnels: Sequence[Plain]) -> None:
        """Modules, FOU's ports, and the delivery addresses of both families."""
        self.guest.load(*TUNNEL_MODULES)
        lines = [f"address add {address} dev {self.device}" for address in self.addresses(tunnels)]
        batch(self.guest, [*lines, FOU_PORT])
        batch(self.guest, [FOU_PORT], "-6")

    def add(self, tunnels: Sequence[Plain]) -> dict[str, int]:
        """Make them, with the addresses of their end, up; the MTU that the kernel gave each."""
        lines: list[str] = []
        for one in tunnels:
            lines.append(" ".join(one.ip_link(near=self.end == 1)))
            lines += [f"address add {prefix} dev {one.name}" for prefix in one.prefixes(self.end)]
            lines.append(f"link set {one.name} up")
        batch(self.guest, lines)
        shown = json.loads(self.guest.run("ip", "-json", "link", "show"))
        names = {one.name for one in tunnels}
        return {link["ifname"]: link["mtu"] for link in shown if link["ifname"] in names}

    def clear(self, tunnels: Sequence[Plain]) -> None:
        """They are gone, and what `prepare` made, as far as it was made."""
        addresses = [f"address del {address} dev {self.device}" for address in self.addresses(tunnels)]
        batch(self.guest, [*(f"link del {one.name}" for one in tunnels), *addresses, "fou del port 4754"], check=False)
        batch(self.guest, ["fou del port 4754"], "-6", check=False)

    def counters(self) -> dict[str, Counters]:
        """Of every device, by its name."""
        shown = json.loads(self.guest.run("ip", "-details", "-s", "-s", "-json", "link", "show"))
        return {link["ifname"]: linux_counters(link) for link in shown}


@dataclass(slots=True)
class Near:
    """Tunnels of ginnel's engine in one process in *space*, which bears the delivery addresses."""

    space: Namespace
    process: subprocess.Popen[str] | None = None
    #: Every event since the beginning, as `serve` writes them.
    events: list[dict[str, Any]] = field(default_factory=list)

    def start(self) -> None:
        """Run the process and wait for its first word."""
        self.process = self.space.popen(
            sys.executable, __file__,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"},
        )  # fmt: skip
        assert self._read() == {"ready": True}

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request; what it answers. CommandFailed with the exception's text when it could not."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self._read()
        if "failed" in answer:
            raise CommandFailed(f"{request}: {answer['failed']}")
        return answer

    def _read(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the engine's process ended with {self.process.wait(timeout=10)}")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def make(self, name: str, kind: str, local: str | None, remote: str | None, *, mtu: int, **options: Any) -> None:
        """One tunnel by the seam's arguments; its device is there and down."""
        self.ask(op="add", name=name, kind=kind, local=local, remote=remote, mtu=mtu, options=options)

    def raise_up(self, name: str, mtu: int, prefixes: Sequence[str]) -> None:
        """The engine carrying, and the device with its addresses up."""
        self.space.ip("link", "set", name, "mtu", str(mtu))
        for prefix in prefixes:
            self.space.ip("address", "add", prefix, "dev", name)
        # In this order nothing that the kernel says to the neighbours of a new interface is dropped.
        self.ask(op="up", name=name)
        self.space.ip("link", "set", name, "up")
        if any(":" in prefix for prefix in prefixes):
            self.space.settled(name)

    def add(self, tunnels: Sequence[Plain], mtus: Mapping[str, int]) -> None:
        """Make them, give them the addresses of end 1, and bring them up."""
        for one in tunnels:
            self.make(one.name, one.kind, one.near, one.far, mtu=mtus[one.name], **one.options)
            if 6 not in one.carries:
                # Else the kernel would send what it says to neighbours into a tunnel that does not carry it.
                self.space.write_proc(f"/proc/sys/net/ipv6/conf/{one.name}/disable_ipv6", "1")
            self.raise_up(one.name, mtus[one.name], one.prefixes(1))

    def remove(self, tunnels: Sequence[Plain]) -> None:
        """They and their devices are gone."""
        for one in tunnels:
            self.ask(op="remove", name=one.name)

    def state(self) -> dict[str, Any]:
        """All counters; events are added to `events`."""
        state = self.ask(op="state")
        self.events += state["events"]
        return state

    def counters(self) -> dict[str, Counters]:
        """Of every tunnel, by its name."""
        return {
            name: Counters(
                *(one[what] for what in ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")),
                {reason: count for reason, count in one["drops"].items() if count},
            )
            for name, one in self.state()["tunnels"].items()
        }

    def told(self, event: str, tunnel: str, **wanted: Any) -> list[dict[str, Any]]:
        """Events of this kind about this tunnel, with these fields, until now."""
        self.state()
        return [
            one for one in self.events
            if one["event"] == event and one["name"] == tunnel and all(one[name] == value for name, value in wanted.items())
        ]  # fmt: skip

    def run(self, *argv: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """A command in its namespace."""
        return self.space.run(*argv, check=check, timeout_s=timeout_s)

    def serve(self, *argv: str) -> None:
        """A command in its namespace, in the background."""
        self.space.popen(*argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        """The process is gone, and with it every device."""
        if self.process is None:
            return
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(timeout=10) == 0


@dataclass(slots=True)
class KernelNear:
    """Linux's own tunnels in the near end's place: a namespace inside the guest, joined to it by the pair near0 and near1."""

    guest: Guest

    def start(self, addresses: Sequence[str]) -> None:
        """Make the namespace; the far end's delivery addresses belong on near0."""
        self.guest.load("veth", *TUNNEL_MODULES)
        self.guest.shell(
            "set -e; ip netns add near; ip link add near0 type veth peer name near1 netns near; ip link set near0 up;"
            "ip -n near link set lo up; ip -n near link set near1 up;"
            "ip netns exec near sh -c 'for one in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 > $one; done';"
            "echo 0 > /proc/sys/net/ipv6/conf/near0/accept_dad;"
        )
        batch(self.guest, [*(f"address add {address} dev near1" for address in addresses), FOU_PORT], "-n", "near")
        batch(self.guest, [FOU_PORT], "-n", "near", "-6")

    def add(self, tunnels: Sequence[Plain], mtus: Mapping[str, int]) -> None:
        """Make them, give them the addresses of end 1, and bring them up."""
        lines: list[str] = []
        for one in tunnels:
            lines.append(" ".join(one.ip_link(near=True)))
            lines += [f"address add {prefix} dev {one.name}" for prefix in one.prefixes(1)]
            lines.append(f"link set {one.name} mtu {mtus[one.name]} up")
        batch(self.guest, lines, "-n", "near")

    def remove(self, tunnels: Sequence[Plain]) -> None:
        """They are gone."""
        batch(self.guest, [f"link del {one.name}" for one in tunnels], "-n", "near")

    def counters(self) -> dict[str, Counters]:
        """Of every device, by its name."""
        shown = json.loads(self.guest.run("ip", "-n", "near", "-details", "-s", "-s", "-json", "link", "show"))
        return {link["ifname"]: linux_counters(link) for link in shown}

    def run(self, *argv: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """A command in the namespace inside the guest."""
        return self.guest.run("ip", "netns", "exec", "near", *argv, check=check, timeout_s=timeout_s)

    def serve(self, *argv: str) -> None:
        """The same in the background."""
        self.guest.shell(f"ip netns exec near {' '.join(argv)} >/dev/null 2>&1 </dev/null &")

    def stop(self) -> None:
        """The namespace is gone, with all that ran in it."""
        self.guest.shell("for pid in $(ip netns pids near); do kill $pid; done; ip netns del near", check=False)


# ---------------------------------------------------------------- the engine's process


def _packed(address: str | None) -> bytes | None:
    return ipaddress.ip_address(address).packed if address else None


def _readable(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def main() -> None:
    """Serve requests until stdin ends: add, remove, up, call (any method of a tunnel), state."""
    from ginnel import _native

    engine = _native.Engine()
    tunnels: dict[str, _native.PlainTunnel] = {}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            match request["op"]:
                case "add":
                    options = request["options"]
                    if "udp" in options:
                        options["udp"] = tuple(options["udp"])
                    tunnels[request["name"]] = engine.plain(
                        request["name"], kind=request["kind"], mtu=request["mtu"],
                        local=_packed(request["local"]), remote=_packed(request["remote"]), **options,
                    )  # fmt: skip
                case "up":
                    tunnels[request["name"]].up()
                case "remove":
                    tunnels.pop(request["name"]).close()
                case "call":
                    arguments = [bytes.fromhex(one["hex"]) if isinstance(one, dict) else one for one in request["arguments"]]
                    answer["gave"] = _readable(getattr(tunnels[request["name"]], request["method"])(*arguments))
                case "state":
                    answer = _state(engine, tunnels)
        except (OSError, ValueError, KeyError) as error:
            answer = {"failed": f"{type(error).__name__}: {error} {getattr(error, 'filename', None) or ''}".strip()}
        print(json.dumps(answer), flush=True)
    engine.close()


def _state(engine: Any, tunnels: Mapping[str, Any]) -> dict[str, Any]:
    names = {tunnel.id: name for name, tunnel in tunnels.items()}
    events: list[dict[str, Any]] = []
    while batch := engine.drain():
        for event in batch:
            fields = {name: _readable(getattr(event, name)) for name in type(event).__match_args__}
            events.append({"event": type(event).__name__, "name": names.get(fields["tunnel"], ""), **fields})
    shown: dict[str, Any] = {}
    for name, tunnel in tunnels.items():
        counters = tunnel.counters()
        shown[name] = {
            what: _readable(getattr(counters, what))
            for what in (
                *("rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "last_receive_ns", "last_send_ns"),
                *("sequence_out", "sequence_in"),
            )
        }
        shown[name]["remote"] = counters.remote and [counters.remote[0].hex(), counters.remote[1]]
        shown[name]["drops"] = tunnel.drops()
        shown[name]["offloads"] = tunnel.offloads()
    carrier = engine.carrier()
    return {
        "tunnels": shown,
        "events": events,
        "carrier": {"no_tunnel": carrier.no_tunnel, "at_socket": carrier.at_socket, "sockets": dict(carrier.sockets)},
    }


# ---------------------------------------------------------------- one step each


def ping_argv(target: str, *options: str, count: int = 2, within_s: float = 2.0) -> list[str]:
    """A ping whose exit code says that all came back."""
    return ["ping", "-n", "-q", "-c", str(count), "-i", "0.05", "-W", str(within_s), *options, target]


def succeeds(who: Subject | Guest, *argv: str, timeout_s: float = 60.0) -> bool:
    """Whether the command exits with 0 where *who* is."""
    try:
        who.run(*argv, timeout_s=timeout_s)
    except CommandFailed:
        return False
    return True


def listening(who: Subject, port: int, within_s: float = 10.0) -> None:
    """Wait until somebody listens on this TCP port."""
    wanted = f":{port:04X} "
    wait_until(
        lambda: any(wanted in line and " 0A " in line for line in who.run("cat", "/proc/net/tcp", "/proc/net/tcp6").splitlines()),
        within_s, f"a listener on {port}",
    )  # fmt: skip


def quiet(*argv: str) -> str:
    """A command on this machine itself."""
    return run(list(argv))


if __name__ == "__main__":
    main()
