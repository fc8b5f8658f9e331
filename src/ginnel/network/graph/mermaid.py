"""
A drawing in Mermaid's language, which code forges and wikis draw from a block of text.

Nodes are called n0, n1 … and have their names as labels, so that no name can be a word of the language; regions and groups are
subgraphs; a link's line says its kind, and so does its class. Too many links are bundled as in `dot`, which also keeps below the
500 edges that Mermaid takes. In a label, what Mermaid or HTML would obey is written as a character's number.
"""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.network.graph.bundles import bundle
from ginnel.network.graph.scene import Actor, Scene, Wire

#: Lines by kind: solid, dotted, thick.
_LINES = {"wireguard": "---", "gre": "-.-", "gre+ipsec": "===", "ipsec": "==="}
_COLOURS = {"wireguard": "#2563c9", "gre": "#b45f06", "gre+ipsec": "#7c3aad", "ipsec": "#0b7a5b"}


def render(scene: Scene) -> str:
    """The text of the file."""
    return "\n".join(_lines(scene)) + "\n"


def _lines(scene: Scene) -> Iterator[str]:
    called = {actor.name: f"n{index}" for index, actor in enumerate(scene.actors)}
    yield f"%% {scene.name}: {', '.join(scene.facts)}"
    yield "flowchart LR"
    for index, cell in enumerate(scene.cells):
        members = [f"{called[actor.name]}{_shape(actor)}" for actor in scene.actors if actor.cell == index]
        if cell.name:
            yield f"    subgraph c{index}[{text(cell.name)}]"
            yield from (f"        {line}" for line in members)
            yield "    end"
        else:
            yield from (f"    {line}" for line in members)
    edges: list[tuple[str, str]] = []
    bundles = bundle([cell.members for cell in scene.cells], scene.wires)
    if bundles is not None:
        bands = dict(bundles.bands)
        for index in sorted(bundles.joined):
            members_of, wires = bundles.sets[index], bands.get(index, ())
            words = f"full mesh of {len(members_of)}, {len(wires):,} links" if wires else f"each of {len(members_of)}"
            own = wires or next(some for left, right, some in bundles.ribbons if index in (left, right))
            yield f"    s{index}([{text(words)}])"
            kind = own[0].kind
            edges += [(f"{called[name]} {_LINES[kind]} s{index}", kind) for name in members_of]
        for left, right, some in bundles.ribbons:
            words = text(f"each with each, {len(some):,} links")
            edges.append((f"s{left} {_LINES[some[0].kind]}|{words}| s{right}", some[0].kind))
    for wire in scene.wires if bundles is None else bundles.rest:
        edges.append((_edge(wire, called), wire.kind))
    yield from (f"    {line}" for line, _ in edges)
    yield from (f"    {called[left]} -.-|{text(f'through {relay}')}| {called[right]}" for left, right, relay in scene.relayed)
    for kind, colour in _COLOURS.items():
        numbers = [str(index) for index, (_, own) in enumerate(edges) if own == kind]
        if numbers:
            yield f"    linkStyle {','.join(numbers)} stroke:{colour}"
    nat = [called[actor.name] for actor in scene.actors if actor.nat]
    if nat:
        yield "    classDef nat stroke-dasharray:4 3"
        yield f"    class {','.join(nat)} nat"


def _shape(actor: Actor) -> str:
    """The name, the roles, the LANs; who carries for others has a heavier outline's shape."""
    roles = [*actor.roles, *(["behind NAT"] if actor.nat else [])]
    lines = [actor.name, *([", ".join(roles)] if roles else []), *actor.labels]
    if actor.exit is not None:
        lines.append(f"leaves through {actor.exit}")
    inside = text(*lines)
    return f"{{{{{inside}}}}}" if actor.roles else f"({inside})"


def _edge(wire: Wire, called: dict[str, str]) -> str:
    words = [wire.kind] if wire.kind != "wireguard" else []
    words += ["held ready"] if wire.held else []
    words += [f"all traffic leaves through {wire.exits}"] if wire.exits else []
    label = f"|{text(', '.join(words))}|" if words else ""
    return f"{called[wire.left]} {_LINES[wire.kind]}{label} {called[wire.right]}"


def text(*lines: str) -> str:
    """A quoted label of some lines."""
    return '"' + "<br>".join("".join(map(_character, line)) for line in lines) + '"'


def _character(character: str) -> str:
    if character.isalnum() or character in " .,:/-_+()←":
        return character
    return f"#{ord(character)};"
