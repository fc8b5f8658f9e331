"""Protected origins: edges that are found, origins that are linked with them, addresses that are nobody else's."""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.config.node_host import MAX_PROXIED
from ginnel.config.positions import Path
from ginnel.errors import Mistake
from ginnel.network.addressing import within
from ginnel.network.check.context import Context, Rule
from ginnel.network.origin import MAX_EDGES, edges_of
from ginnel.network.prefix_table import PrefixTable
from ginnel.units import Prefix


def _protects(context: Context) -> Iterator[Mistake]:
    nodes, paths = context.nodes, context.paths
    for index, protect in enumerate(context.network.protects):
        where = f"protect[{index}]"
        for edge in protect.edges:
            path: Path = ("protect", index, "edge")
            if edge == protect.origin:
                yield context.at("G0231", path, f"{where}: {edge} cannot be the edge of itself", "name another origin")
                continue
            if nodes[edge].behind_nat:
                message = f"{where}.edge: {edge} has no endpoint, so what is for these addresses does not come to it"
                yield context.at("G0232", path, message, also=(("node", edge),))
            if not paths.linked(edge, protect.origin):
                hint = f'add [[link]] between = ["{edge}", "{protect.origin}"]'
                yield context.at("G0230", path, f"{where}: {edge} has no link with {protect.origin}", hint)
        fourth = next((number for number, prefix in enumerate(protect.addresses) if prefix.version == 4), None)
        if fourth is not None and all(pool.version != 4 for pool in context.network.pool):
            what = f"{protect.addresses[fourth]} is IPv4, and no pool gives the link to {protect.origin} an IPv4 address"
            at_it: Path = ("protect", index, "addresses", fourth)
            yield context.at("G0236", at_it, f"{where}: {what}", "add an IPv4 prefix to network.pool")
        if nodes[protect.origin].exit is not None:
            message = f"{where}.origin: {protect.origin} leaves through {nodes[protect.origin].exit}, and so would its answers"
            at: Path = ("node", protect.origin, "exit")
            yield context.at(
                "G0235", ("protect", index, "origin"), message, f"take exit out of [node.{protect.origin}]", also=(at,)
            )


def _bounds(context: Context) -> Iterator[Mistake]:
    """What is done address by address, and what has a number for each edge."""
    protects = context.network.protects
    for index, protect in enumerate(protects):
        where = f"protect[{index}]"
        for number, prefix in enumerate(protect.addresses if protect.uplink else ()):
            if len(prefix.packed) * 8 - prefix.length >= MAX_PROXIED.bit_length():
                message = f"{where}.addresses[{number}]: {prefix} has more addresses than {protect.uplink} can answer for"
                hint = f"at most {MAX_PROXIED}: have the prefix routed to the edge, and take uplink out"
                yield context.at("G0237", ("protect", index, "addresses", number), message, hint)
        if len(edges_of(protects[: index + 1], protect.origin)) > MAX_EDGES:
            message = f"{where}: {protect.origin} has more than {MAX_EDGES} edges"
            yield context.at("G0237", ("protect", index, "edge"), message, "an origin tells so many apart")


def _addresses(context: Context) -> Iterator[Mistake]:
    """Each lies in no pool and no LAN, and belongs to one origin."""
    network = context.network
    if not network.protects:
        return
    known: list[tuple[Prefix, str, Path]] = [
        (pool, f"the pool {pool}", ("network", "pool", index)) for index, pool in enumerate(network.pool)
    ]
    for node in network.nodes:
        known += [(lan, f"{node.name}'s lan {lan}", ("node", node.name, "lans", i)) for i, lan in enumerate(node.lans)]
    table: PrefixTable[tuple[str, Path]] = PrefixTable()
    for prefix, whose, path in known:
        table.add(prefix, (whose, path))
    origins: dict[Prefix, tuple[str, Path]] = {}
    for index, protect in enumerate(network.protects):
        for number, prefix in enumerate(protect.addresses):
            path = ("protect", index, "addresses", number)
            where = f"protect[{index}].addresses[{number}]"
            around = next(table.covering(prefix.packed, prefix.length), None)
            inside = next((item for item in known if item[0].length > prefix.length and within(item[0].packed, prefix)), None)
            if around is not None:
                yield context.at("G0233", path, f"{where}: {prefix} overlaps {around[1][0]}", also=(around[1][1],))
            elif inside is not None:
                yield context.at("G0233", path, f"{where}: {prefix} overlaps {inside[1]}", also=(inside[2],))
            for other, (origin, elsewhere) in origins.items():
                wide, narrow = (other, prefix) if other.length <= prefix.length else (prefix, other)
                if origin != protect.origin and within(narrow.packed, wide):
                    message = f"{where}: {prefix} overlaps {other}, which is {origin}'s"
                    yield context.at("G0233", path, message, also=(elsewhere,))
            origins.setdefault(prefix, (protect.origin, path))


RULES: tuple[Rule, ...] = (_protects, _bounds, _addresses)
