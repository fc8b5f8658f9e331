"""
Expectations, judged by what the file alone says.
"""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.errors import Mistake
from ginnel.network.addressing import within
from ginnel.network.check.context import Context, Rule, packed_address
from ginnel.network.model import Expect, Network, Node
from ginnel.network.paths import Paths


def _expectations(context: Context) -> Iterator[Mistake]:
    network = context.network
    paths = context.paths
    for expect in network.expects:
        where = f"expect[{expect.row}]"
        source = source_node(network, expect)
        if source is None:
            message = f"{where}.from: {expect.source} lies in no node's lan"
            yield context.at("G0702", ("expect", expect.row, "from"), message)
            continue
        found, why = predict(network, paths, source, expect)
        if found is None:
            pooled = any(within(expect.target.packed, pool) for pool in network.pool)
            hint = "tunnel addresses are allocated: say the node's name, or fix its address" if pooled else ""
            code = "G0704" if "routing daemon" in why else "G0703"
            yield context.at(code, ("expect", expect.row, "to"), f"{where}.to: {why}", hint)
        elif found != expect.reaches:
            verb = "reaches" if found else "does not reach"
            said = str(expect.reaches).lower()
            yield context.at(
                "G0701",
                ("expect", expect.row, "to" if expect.reaches else "reaches"),
                f"{where}: by this file {expect.source} {verb} {expect.target.text} ({why}), but reaches = {said}",
            )


def source_node(network: Network, expect: Expect) -> Node | None:
    """The node an expectation starts at or behind; None when its address lies in no LAN."""
    packed = packed_address(expect.source)
    if packed is None:
        return network.node(expect.source)
    return owner_of(network, packed)


def owner_of(network: Network, packed: bytes) -> Node | None:
    """The node whose LAN, or fixed address, *packed* lies in."""
    for node in network.nodes:
        if packed in node.address or any(within(packed, lan) for lan in node.lans):
            return node
    return None


def predict(network: Network, paths: Paths, source: Node, expect: Expect) -> tuple[bool | None, str]:
    """
    What the file alone says about an expectation.

    Returns:
        (reaches, why); reaches is None when the target is nothing that this network knows.
    """
    target = network.node(expect.target.node) if expect.target.node else owner_of(network, expect.target.packed)
    if target is None:
        if source.exit is not None:
            return True, f"everything leaves through {source.exit}"
        return None, f"{expect.target.text} lies in no node's lan, and {source.name} has no exit"
    if target is source:
        return True, "the same site"
    path = paths.path(source.name, target.name)
    if path is None and not all(link.routed for link in paths.links):
        return None, f"nothing is routed between {source.name} and {target.name} (routes = false): a routing daemon decides"
    if path is None:
        return False, f"nothing carries between {source.name} and {target.name}"
    return True, " → ".join(path)


RULES: tuple[Rule, ...] = (_expectations,)
