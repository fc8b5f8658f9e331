"""Expectations: that both of their ends are in the network."""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.errors import Mistake
from ginnel.network.addressing import within
from ginnel.network.check.context import Context, Rule, packed_address
from ginnel.network.model import Expect, Network, Node


def _expectations(context: Context) -> Iterator[Mistake]:
    """Both ends are somebody's; whether one reaches the other is the model's business (`reach.expect`)."""
    network = context.network
    for expect in network.expects:
        where = f"expect[{expect.row}]"
        source = source_node(network, expect)
        if source is None:
            message = f"{where}.from: {expect.source} lies in no node's lan"
            yield context.at("G0702", ("expect", expect.row, "from"), message, "name a node, or an address in one of its LANs")
            continue
        if expect.target.node is None and owner_of(network, expect.target.packed) is None and source.exit is None:
            if any(within(expect.target.packed, each) for protect in network.protects for each in protect.addresses):
                continue
            pooled = any(within(expect.target.packed, pool) for pool in network.pool)
            hint = "tunnel addresses are allocated: say the node's name, or fix its address" if pooled else ""
            message = f"{where}.to: {expect.target.text} lies in no node's lan, and {source.name} has no exit"
            yield context.at("G0703", ("expect", expect.row, "to"), message, hint)


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


RULES: tuple[Rule, ...] = (_expectations,)
