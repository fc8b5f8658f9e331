"""
What the kernel's own tunnels cannot do, and the daemons that only configure them neither: said by name, before anything is
rendered that would come up and be something else.

    ends         are numbers: a name is resolved by nobody when it changes
    in UDP       a peer behind NAT has a port that is learned from what it sends; the kernel has one that is written down
    keepalives   are not sent; the peer that judges them gets no answer (a kernel that forwards answers, unless it checks sources)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from ginnel.config import words
from ginnel.config.node import PlainConfig
from ginnel.errors import UsageError
from ginnel.network.compile import NodeDescription
from ginnel.network.render import unprotected
from ginnel.units import Prefix


def check(config: PlainConfig, who: str) -> None:
    """UsageError for a tunnel that no kernel has as it is described; *who*: the format's reader, for the message."""
    unprotected(config, who)
    for what, end in (("local", config.local), ("remote", config.remote)):
        if end != "any":
            try:
                ipaddress.ip_address(end)
            except ValueError:
                hint = "give the node a numeric endpoint, or run ginnel there: it resolves names again when they change"
                raise UsageError(f"{config.name}: {what} is {end}, and {who} takes numbers\n  hint: {hint}") from None
    if config.encapsulation is not None and config.encapsulation.dport == 0:
        hint = "run ginnel at this end: it answers to where the peer's packets come from"
        raise UsageError(
            f"{config.name}: its peer is behind NAT, and {who} takes GRE in UDP to a port that is known\n  hint: {hint}"
        )


def refuse(config: PlainConfig, who: str, **wanted: object) -> None:
    """UsageError where one of these options (iproute2's names, `_` for `-`) is set, which *who* has no key for."""
    for name, value in wanted.items():
        if value:
            option = name.replace("_", "-")
            raise UsageError(f"{config.name}: {who} has no key for {option}\n  hint: --as iproute2 and --as node have it")


def notes(description: NodeDescription, who: str, *, hooks: bool = True) -> Iterator[str]:
    """Comments on what is not in the files, without their mark; *hooks*: the node's are not run."""
    silent = [tunnel.config.name for tunnel in description.tunnels if tunnel.config.keepalive is not None]
    if silent:
        yield f"No keepalives are sent on {', '.join(silent)}: the kernel's GRE has none."
    for key, command in description.node.hooks if hooks else ():
        yield f"{who} runs no hooks; this node has: {key} = {command}"


@dataclass(frozen=True, slots=True)
class HostRoute:
    """One route of `HostRules.routes`, taken apart; device and gateway empty where it has none."""

    prefix: Prefix
    device: str = ""
    gateway: str = ""
    table: str = ""
    kind: str = "unicast"


def host_route(text: str) -> HostRoute:
    """
    Read the words of a route of `HostRules`.

    Raises:
        ValueError: words that none of ours has.
    """
    kind, rest = "unicast", text.split()
    if rest and rest[0] in ("unicast", "blackhole", "unreachable", "prohibit", "local"):
        kind, *rest = rest
    if not rest or len(rest) % 2 == 0:
        raise ValueError(f"a route that is not understood: {text}")
    options = dict(zip(rest[1::2], rest[2::2], strict=True))
    if unknown := set(options) - {"dev", "via", "table"}:
        raise ValueError(f"a route that is not understood: {text}: {min(unknown)}")
    every = "::/0" if ":" in text else "0.0.0.0/0"
    prefix = words.parse_prefix(every if rest[0] == "default" else rest[0])
    return HostRoute(prefix, options.get("dev", ""), options.get("via", ""), options.get("table", ""), kind)
