"""
What a node's host has to do beside its tunnels, in the words of Linux: forwarding, NAT, policy routes. Renderers write it down.

    sysctls   it forwards
    nft       one table of ginnel's own: sources that leave here under the host's address, LANs mapped one to one, protected
    origins
    rules     `ip rule` words, and `routes` the words of `ip route` in tables of their own

Every rule lies in the one table (and the routing tables) that `name` and `TABLE` say, so that taking it away takes away
exactly that.
"""

from __future__ import annotations

from dataclasses import dataclass

from ginnel.network.compile import NodeDescription
from ginnel.units import Prefix


@dataclass(frozen=True, slots=True)
class HostRules:
    """
    sysctls: (dotted name, value). chains: (name, the words in its first line, its rules) of a table of the family inet. rules:
    what
    follows `ip [-6] rule add`. routes: what follows `ip [-6] route add`. Interfaces have their names.
    """

    sysctls: tuple[tuple[str, str], ...] = ()
    chains: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    rules: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()

    def nft(self, table: str) -> str:
        """The table as `nft -f` reads it; empty without chains."""
        if not self.chains:
            return ""
        lines = [f"table inet {table} {{"]
        for name, head, rules in self.chains:
            lines += [f"  chain {name} {{", f"    {head}", *(f"    {rule}" for rule in rules), "  }"]
        return "\n".join([*lines, "}"]) + "\n"


def host_rules(description: NodeDescription) -> HostRules:
    """What the host of *description* needs besides its tunnels."""
    versions = {len(address.packed) for address in description.address} | {len(lan.packed) for lan in description.node.lans}
    settings = {4: "net.ipv4.ip_forward", 16: "net.ipv6.conf.all.forwarding"}
    sysctls = tuple((name, "1") for size, name in settings.items() if size in versions) if description.forwards else ()
    leaving = tuple(_masquerade(description))
    chains = (("leaving", "type nat hook postrouting priority srcnat;", leaving),) if leaving else ()
    return HostRules(sysctls, chains)


def _masquerade(description: NodeDescription) -> list[str]:
    """Sources that exit here leave under the host's own address, but not towards its own LANs."""
    lines = []
    for version, word in ((4, "ip"), (6, "ip6")):
        sources = [prefix for prefix in description.masquerades if prefix.version == version]
        if not sources:
            continue
        lans = [prefix for prefix in description.node.lans if prefix.version == version]
        outside = f" {word} daddr != {_set(lans)}" if lans else ""
        lines.append(f'oifname != "{description.interface}" {word} saddr {_set(sources)}{outside} masquerade')
    return lines


def _set(prefixes: list[Prefix]) -> str:
    return "{ " + ", ".join(map(str, prefixes)) + " }"
