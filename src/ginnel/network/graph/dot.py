"""
A drawing in Graphviz's language, for who wants to lay it out anew: `dot -Tsvg`, `neato`, `sfdp`.

Nodes are boxes with their name, roles and LANs; regions and groups are clusters; kinds of links differ in colour and style. Too
many links are bundled (`bundles`): a full mesh is an oval that its nodes hang on, "each with each" a bold line between two of
those. Every name and text is a quoted string.
"""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.network.graph.bundles import bundle
from ginnel.network.graph.scene import KINDS, Actor, Scene, Wire

_LOOK = {
    "wireguard": 'color="#2563c9"',
    "gre": 'color="#b45f06", style="dotted"',
    "gre+ipsec": 'color="#7c3aad", style="dashed"',
    "ipsec": 'color="#0b7a5b", style="bold"',
}


def render(scene: Scene) -> str:
    """The text of the file."""
    return "\n".join(_lines(scene)) + "\n"


def _lines(scene: Scene) -> Iterator[str]:
    yield f"graph {quoted(scene.name)} {{"
    yield f'  label={quoted(" · ".join((scene.name, *scene.facts)))}; labelloc=t; fontname="Helvetica";'
    yield '  node [shape=box, style="rounded,filled", fillcolor="white", fontname="Helvetica", fontsize=11];'
    yield '  edge [penwidth=1.5, fontname="Helvetica", fontsize=10];'
    by_cell = [[actor for actor in scene.actors if actor.cell == index] for index in range(len(scene.cells))]
    for index, (cell, members) in enumerate(zip(scene.cells, by_cell, strict=True)):
        inside = [f"{quoted(actor.name)} [{_node(actor)}];" for actor in members]
        if cell.name:
            yield f"  subgraph {quoted(f'cluster_{index}')} {{"
            yield f'    label={quoted(cell.name)}; style="rounded,filled"; color="#d9dfe9"; fillcolor="#f3f5f9";'
            yield from (f"    {line}" for line in inside)
            yield "  }"
        else:
            yield from (f"  {line}" for line in inside)
    bundles = bundle([cell.members for cell in scene.cells], scene.wires)
    if bundles is not None:
        bands = dict(bundles.bands)
        for index in sorted(bundles.joined):
            alike, wires = bundles.sets[index], bands.get(index, ())
            text = f"full mesh of {len(alike)}\n{len(wires):,} links" if wires else f"each of {len(alike)}"
            own = wires or next(some for left, right, some in bundles.ribbons if index in (left, right))
            yield f'  {quoted(_joint(index))} [shape=oval, style="filled", fillcolor="#e8effb", label={quoted(text)}];'
            yield from (f"  {quoted(name)} -- {quoted(_joint(index))} [{_LOOK[own[0].kind]}];" for name in alike)
        for left, right, some in bundles.ribbons:
            text = f"each with each\n{len(some):,} links"
            look = f"{_LOOK[some[0].kind]}, penwidth=5, label={quoted(text)}"
            yield f"  {quoted(_joint(left))} -- {quoted(_joint(right))} [{look}];"
    for wire in scene.wires if bundles is None else bundles.rest:
        yield f"  {quoted(wire.left)} -- {quoted(wire.right)} [{_edge(wire)}];"
    for left_name, right_name, relay in scene.relayed:
        look = f'style="dotted", color="#8d99ad", constraint=false, tooltip={quoted(f"through {relay}")}'
        yield f"  {quoted(left_name)} -- {quoted(right_name)} [{look}];"
    yield "}"


def _node(actor: Actor) -> str:
    roles = [*actor.roles, *(["behind NAT"] if actor.nat else [])]
    lines = [actor.name, *([", ".join(roles)] if roles else []), *actor.labels]
    if actor.exit is not None:
        lines.append(f"leaves through {actor.exit}")
    look = 'style="rounded,dashed,filled"' if actor.nat else 'style="rounded,filled"'
    return f"label={quoted(chr(10).join(lines))}, {look}" + (", penwidth=2" if actor.roles else "")


def _edge(wire: Wire) -> str:
    words = [_LOOK[wire.kind], f"tooltip={quoted(KINDS[wire.kind])}"]
    if wire.held:
        words.append("penwidth=0.6")
    if wire.exits:
        words.append(f'dir="{"forward" if wire.exits == wire.right else "back"}", arrowhead="normal"')
    return ", ".join(words)


def _joint(index: int) -> str:
    """What stands for a set: no node has a blank in its name."""
    return f"set {index}"


def quoted(text: str) -> str:
    """A string of this language: a quote and a backslash are protected, a line's end is written down."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
