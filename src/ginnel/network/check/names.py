"""Names: of nodes, groups, regions and kinds. What is below them all; while one is wrong, nothing else is asked."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from ginnel.config.positions import Path
from ginnel.errors import Mistake
from ginnel.network.check.context import Context, Rule, packed_address
from ginnel.network.model import POINT_TO_POINT

SUPPORTED_KINDS = ("wireguard", *POINT_TO_POINT)


def _kinds(context: Context) -> Iterator[Mistake]:
    network = context.network
    supported = f"supported here: {', '.join(SUPPORTED_KINDS)}"
    if network.kind not in SUPPORTED_KINDS:
        message = f"network.kind: no links of kind {network.kind!r}"
        yield context.at("G0908", ("network", "kind"), message, supported)
    for group in network.groups:
        if group.kind is not None and group.kind not in SUPPORTED_KINDS:
            message = f"group.{group.name}.kind: no links of kind {group.kind!r}"
            yield context.at("G0908", ("group", group.name, "kind"), message, supported)
    for row, kind in {link.row: link.kind for link in network.links}.items():
        if kind not in SUPPORTED_KINDS and kind != network.kind:
            yield context.at("G0908", ("link", row, "kind"), f"link[{row}].kind: no links of kind {kind!r}", supported)


def _node_names(context: Context) -> Iterator[Mistake]:
    network, names = context.network, context.nodes

    def unknown(path: Path, where: str, name: str) -> Iterator[Mistake]:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"nodes are {', '.join(list(names)[:12])}"
            yield context.at("G0907", path, f"{where}: there is no node {name!r}", hint)

    for hub in network.hubs:
        yield from unknown(("network", "hub"), "network.hub", hub)
    for node in network.nodes:
        if node.exit is not None:
            yield from unknown(("node", node.name, "exit"), f"node.{node.name}.exit", node.exit)
    members: set[str] = set()
    for group in network.groups:
        for side, member in enumerate(group.nodes):
            yield from unknown(("group", group.name, "nodes", side), f"group.{group.name}.nodes", member)
        members.update(group.nodes)
        for hub in group.hubs:
            yield from unknown(("group", group.name, "hub"), f"group.{group.name}.hub", hub)
    for link in network.links:
        for side, name in enumerate(link.between):
            if name in members or name in names:
                continue  # what is wrong with a group's node, the group itself has said
            yield from unknown(("link", link.row, "between", side), f"link[{link.row}].between", name)
    for index, protect in enumerate(network.protects):
        for edge in protect.edges:
            yield from unknown(("protect", index, "edge"), f"protect[{index}].edge", edge)
        yield from unknown(("protect", index, "origin"), f"protect[{index}].origin", protect.origin)
    for expect in network.expects:
        if expect.source not in members and packed_address(expect.source) is None:
            yield from unknown(("expect", expect.row, "from"), f"expect[{expect.row}].from", expect.source)
        if expect.target.node is not None and expect.target.node not in members:
            yield from unknown(("expect", expect.row, "to"), f"expect[{expect.row}].to", expect.target.node)
    for name in network.lab.of_node:
        yield from unknown(("lab", "node", name), "lab.node", name)


def _regions(context: Context) -> Iterator[Mistake]:
    """A region is a table of its own, even an empty one: else a slip of the pen would be a region without a relay."""
    network = context.network
    names = [region.name for region in network.regions]
    for node in network.nodes:
        if node.region is not None and node.region not in names:
            message = f"node.{node.name}.region: there is no region {node.region!r}"
            yield context.at("G0907", ("node", node.name, "region"), message, _region(node.region, names))
    for region in network.regions:
        where = f"region.{region.name}.near"
        for side, near in enumerate(region.near):
            path = ("region", region.name, "near", side)
            if near == region.name:
                yield context.at("G0220", path, f"{where}: {near} is near to itself as it is", "take it out")
            elif near not in names:
                yield context.at("G0907", path, f"{where}: there is no region {near!r}", _region(near, names))


def _region(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"add the table [region.{name}]"


RULES: tuple[Rule, ...] = (_kinds, _node_names, _regions)
