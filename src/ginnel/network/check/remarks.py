"""What is right and still worth knowing: notes and warnings about a network file, which `ginnel check` alone tells."""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.config.positions import Path
from ginnel.errors import Mistake
from ginnel.network import gre
from ginnel.network.addressing import within
from ginnel.network.check.context import Context, Rule


def _regions(context: Context) -> Iterator[Mistake]:
    used = {node.region for node in context.network.nodes}
    for region in context.network.regions:
        if region.name not in used:
            yield context.at("G0221", ("region", region.name), f"region.{region.name}: no node is in it", key=True)


def _exposed(context: Context) -> Iterator[Mistake]:
    """A hidden origin that the file itself makes known, or that answers whoever finds it."""
    for index, protect in enumerate(context.network.protects):
        origin = context.nodes[protect.origin]
        path: Path = ("protect", index, "origin")
        if origin.endpoint is not None:
            packed = gre.numeric_endpoint(origin)
            if packed is not None and any(within(packed, prefix) for prefix in protect.addresses):
                what = f"its endpoint {origin.endpoint.host} is one of the protected addresses"
            elif not protect.only_edges:
                what = f"{origin.endpoint.host} answers everybody"
            else:
                continue
            message = f"protect[{index}]: {origin.name} has an endpoint of its own, and {what}"
            hint = f"leave the endpoint of {origin.name} out: then it speaks first; and only-edges = true"
            yield context.at("G0234", path, message, hint, also=(("node", origin.name, "endpoint"),))


RULES: tuple[Rule, ...] = (_regions, _exposed)
