"""
GRE links, live: what a node's process says of its tunnels (`ginnel.show/1`, asked over its control socket), what the host has of
them (addresses, routes, MTU), and both held against the plan.

The three words are those of the lab: *configured* is judged here, from what runs; *alive* is the word of the two processes, each
for its end; *carrying* is the lab's own pings.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ginnel.config.words import Route
from ginnel.errors import UsageError
from ginnel.lab.namespaces import Held
from ginnel.lab.report import Finding
from ginnel.network import NodeDescription, TunnelDescription
from ginnel.network.model import ICMP, Faults
from ginnel.units import Prefix

#: What a node file is called on a lab's node, and its process with it.
NODE_NAME = "node"
#: Bounds what a broken process can make us read.
MAX_REPLY_BYTES = 64 * 1024 * 1024

#: A route that the kernel keeps for the addresses themselves is none of ours.
_KERNEL_S_OWN = "kernel"


@dataclass(frozen=True, slots=True)
class Said:
    """One verdict of a process: yes, no or unknown, and why."""

    answer: str = "unknown"
    why: str = ""


@dataclass(frozen=True, slots=True)
class LiveTunnel:
    """One tunnel as its process has it."""

    name: str
    local: str | None
    remote: str | None
    encapsulation: str
    #: Those that the plan has too, by the names of the node file.
    options: Mapping[str, object]
    alive: Said
    carrying: Said
    warnings: tuple[str, ...] = ()
    #: The largest inner packet that the path takes, as learned; None: nothing was.
    path_mtu: int | None = None

    @property
    def explains(self) -> bool:
        """Whether it says more of a silence than that keepalives do not come back."""
        return self.carrying.answer == "no" and "keepalive" not in self.carrying.why

    def sentences(self) -> list[str]:
        """What it says is wrong, each sentence once."""
        verdicts = [said.why for said in (self.alive, self.carrying) if said.answer == "no"]
        return list(dict.fromkeys([*verdicts, *self.warnings]))


@dataclass(frozen=True, slots=True)
class LiveHost:
    """What the kernel of one node has of devices: addresses with their lengths, routes, MTU."""

    addresses: Mapping[str, frozenset[str]] = field(default_factory=dict)
    routes: Mapping[str, frozenset[Prefix]] = field(default_factory=dict)
    mtu: Mapping[str, int] = field(default_factory=dict)


_OPTIONS = ("ikey", "okey", "icsum", "ocsum", "iseq", "oseq", "ttl", "tos", "pmtudisc")


def ask(held: Held) -> dict[str, LiveTunnel]:
    """All tunnels of the node's process, by the names of their devices; empty when there is no process."""
    path = held.root / "run" / "ginnel" / f"{NODE_NAME}.sock"
    reply = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        try:
            sock.connect(str(path))
            sock.sendall(b'{"op": "show"}\n')
            while not reply.endswith(b"\n") and len(reply) < MAX_REPLY_BYTES and (data := sock.recv(1 << 16)):
                reply += data
        except OSError:
            return {}
    return parse_show(reply.decode())


def parse_show(text: str) -> dict[str, LiveTunnel]:
    """Read the answer to `show`; empty when it is an error."""
    document: dict[str, Any] = json.loads(text) if text.strip() else {}
    return {view["name"]: _live(view) for view in document.get("tunnels", ())}


def _live(view: Mapping[str, Any]) -> LiveTunnel:
    return LiveTunnel(
        name=view["name"],
        local=view["local"],
        remote=view["remote"],
        encapsulation=view["encapsulation"],
        options={name: view[name] for name in _OPTIONS},
        alive=Said(view["alive"]["answer"], view["alive"]["why"]),
        carrying=Said(view["carrying"]["answer"], view["carrying"]["why"]),
        warnings=tuple(view["warnings"]),
        path_mtu=view["path_mtu"],
    )


def look(held: Held) -> LiveHost:
    """What the node's kernel has, by three `ip -json`."""
    addresses: dict[str, set[str]] = {}
    routes: dict[str, set[Prefix]] = {}
    mtu: dict[str, int] = {}
    for link in _ip(held, "address"):
        name = link.get("ifname", "")
        mtu[name] = link.get("mtu", 0)
        addresses[name] = {
            f"{item['local']}/{item['prefixlen']}" for item in link.get("addr_info", ()) if item.get("scope") == "global"
        }
    for family in ("-4", "-6"):
        for route in _ip(held, family, "route"):
            if route.get("protocol") != _KERNEL_S_OWN and "dev" in route and route.get("dst", "default") != "default":
                routes.setdefault(route["dev"], set()).add(Prefix.parse(route["dst"]))
    return LiveHost(
        {name: frozenset(found) for name, found in addresses.items()},
        {name: frozenset(found) for name, found in routes.items()},
        mtu,
    )


def _ip(held: Held, *words: str) -> list[dict[str, Any]]:
    done = held.run(["ip", "-json", *words, "show"], network_only=True)
    if done.returncode != 0:
        raise UsageError(f"in {held.name}: ip {' '.join(words)} show: {done.stderr.strip()}")
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


# ---------------------------------------------------------------- against the plan


def configured(
    between: tuple[str, str],
    descriptions: Mapping[str, NodeDescription],
    live: Mapping[str, Mapping[str, LiveTunnel]],
    hosts: Mapping[str, LiveHost],
    numeric: Callable[[str], str],
) -> Finding:
    """
    What runs is what was planned, at both ends.

    Args:
        live: what each node's process says.
        hosts: what each node's kernel has.
        numeric: the address that a host name stands for here.
    """
    wrong: list[str] = []
    routes = 0
    for near, far in (between, between[::-1]):
        planned = descriptions[near].tunnel(far)
        found = live[near].get(planned.config.name)
        if found is None:
            wrong.append(f"{near} runs no tunnel {planned.config.name}")
            continue
        routes += len(planned.config.routes)
        wrong += [f"{near}: {text}" for text in differences(planned, found, hosts[near], numeric)]
    if wrong:
        return Finding(False, "; ".join(wrong))
    config = descriptions[between[0]].tunnel(between[1]).config
    what = "GRE in UDP" if config.encapsulation else "IPsec" if config.kind == "ipsec" else "GRE"
    if config.ipsec is not None and config.kind != "ipsec":
        what = f"GRE over IPsec in {config.ipsec.mode} mode"
    words = [what, f"over IPv{config.family}"]
    words += [f"key {config.ikey}"] if config.ikey is not None else []
    words += ["checksums"] if config.icsum else []
    words += ["sequence numbers"] if config.iseq else []
    return Finding(True, f"as planned: {', '.join([' '.join(words[:2]), *words[2:]])}, {routes} routes")


def differences(planned: TunnelDescription, found: LiveTunnel, host: LiveHost, numeric: Callable[[str], str]) -> Iterable[str]:
    """Each thing that is not as planned, in words."""
    config = planned.config
    if config.local not in ("any", found.local):
        yield f"{found.name} sends from {found.local}, planned {config.local}"
    if config.remote != "any" and found.remote != numeric(config.remote):
        yield f"{found.name} leads to {found.remote}, planned {numeric(config.remote)}"
    if (found.encapsulation == "udp") != (config.encapsulation is not None):
        yield f"{found.name} is encapsulated in {found.encapsulation or 'nothing'}"
    for option in _OPTIONS:
        if found.options[option] != getattr(config, option):
            yield f"{found.name} has {option} {found.options[option]}, planned {getattr(config, option)}"
    if host.mtu.get(found.name) != planned.mtu:
        yield f"{found.name} has MTU {host.mtu.get(found.name)}, planned {planned.mtu}"
    addresses = frozenset(str(item) for item in planned.address)
    if host.addresses.get(found.name) != addresses:
        yield f"{found.name} has {_words(host.addresses.get(found.name, ()))}, planned {_words(addresses)}"
    main = (route.prefix for route in map(Route.parse, config.routes) if not route.table)
    differing = host.routes.get(found.name, frozenset()) ^ frozenset(main)
    if differing:
        yield f"routes through {found.name} differ by {_words(map(str, differing))}"


def _words(items: Iterable[str]) -> str:
    return ", ".join(sorted(items)) or "nothing"


def alive(between: tuple[str, str], names: tuple[str, str], live: Mapping[str, Mapping[str, LiveTunnel]]) -> Finding:
    """
    The word of both ends.

    Args:
        names: of the devices, at the first end and at the second.
    """
    words: list[str] = []
    silent: list[tuple[str, LiveTunnel]] = []
    for near, name in zip(between, names, strict=True):
        found = live[near].get(name)
        if found is None:
            return Finding(False, f"{near} runs no tunnel {name}")
        words.append(found.alive.why)
        if found.alive.answer != "yes":
            silent.append((near, found))
    if silent:  # the end that knows why has the word
        near, found = next((item for item in silent if item[1].explains), silent[0])
        return Finding(False, f"{near} says: {'; '.join(found.sentences() or [found.alive.why])}")
    same = words[0] == words[1]
    return Finding(True, words[0] if same else "; ".join(f"{near}: {why}" for near, why in zip(between, words, strict=True)))


def is_alive(between: tuple[str, str], names: tuple[str, str], live: Mapping[str, Mapping[str, LiveTunnel]]) -> bool:
    """Whether both ends say so."""
    return alive(between, names, live).ok


# ---------------------------------------------------------------- what the lab does to a path

_NAMES = {1: "icmp", 4: "ipip", 6: "tcp", 17: "udp", 41: "sit", 47: "gre", 50: "esp"}


def fault_words(faults: Faults) -> str:
    """What the lab's internet does to a node's packets, in the words of the file; empty when nothing that would stop a tunnel."""
    numbers = set(faults.blocked_protocols)
    if ICMP in numbers:
        numbers.discard(58)  # its name stands for both
    blocked = [_NAMES.get(number, str(number)) for number in faults.blocked_protocols if number in numbers]
    blocked += ["icmp-too-big"] if faults.blocked_too_big else []
    words = [f"blocks {', '.join(blocked)}"] if blocked else []
    if faults.blocked_udp_ports:
        words.append(f"blocks UDP {', '.join(map(str, faults.blocked_udp_ports))}")
    if faults.mtu:
        silent = " and nobody says so" if faults.black_hole else ""
        words.append(f"carries no more than {faults.mtu} bytes{silent}")
    return ", ".join(words)
