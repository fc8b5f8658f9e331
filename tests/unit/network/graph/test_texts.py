"""
Graphviz's and Mermaid's languages: read again by rules of their grammar, with every node and link, and no text that is a command.

Mermaid's own parser runs in browsers; the rules here are stricter than it is: one statement a line, labels in quotes with nothing
in them but what stands for itself.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ginnel.network.graph import dot, mermaid
from ginnel.network.graph.scene import Cell, Scene
from unit.network.graph.test_picture import hub, mesh
from unit.network.graph.test_scene import OFFICES, seen

_LABEL = r'"(?:[A-Za-z0-9 .,:/\-_+()←]|<br>|#[0-9]+;)*"'
_NODE = rf"(?P<node>n[0-9]+)(?:\({_LABEL}\)|\{{\{{{_LABEL}\}}\}})"
_EDGE = rf"(?P<left>[ns][0-9]+) (?:---|-\.-|===)(?:\|{_LABEL}\|)? (?P<right>[ns][0-9]+)"
_OTHERS = (
    rf"subgraph c[0-9]+\[{_LABEL}\]", r"end", rf"(?P<set>s[0-9]+)\(\[{_LABEL}\]\)",
    r"linkStyle [0-9]+(?:,[0-9]+)* stroke:#[0-9a-f]{6}", r"classDef nat stroke-dasharray:4 3", r"class n[0-9]+(?:,n[0-9]+)* nat",
)  # fmt: skip
SHAPES = [
    OFFICES,
    mesh(2, 2),
    mesh(20, 12),
    mesh(100, 60),
    mesh(100, 100),
    mesh(9, 6, regions=3),
    mesh(100, 40, regions=5),
    hub(99),
]


def statements(text: str) -> list[re.Match[str]]:
    """Each line of a Mermaid drawing, matched; AssertionError for one that is none."""
    first, second, *rest = text.splitlines()
    assert first.startswith("%% ")
    assert second == "flowchart LR"
    found = []
    for line in rest:
        matched = [match for rule in (_NODE, _EDGE, *_OTHERS) if (match := re.fullmatch(rule, line.strip()))]
        assert len(matched) == 1, line
        found += matched
    return found


def counted(scene: Scene, edges: list[tuple[str, str, str]], sets: dict[str, str]) -> int:
    """How many links the edges of a drawing stand for; sets by their labels."""
    meshes = {name: int(match[1]) for name, label in sets.items() if (match := re.search(r"full mesh of ([0-9]+)", label))}
    total = sum(size * (size - 1) // 2 for size in meshes.values())
    for left, right, label in edges:
        if left in sets and right in sets:
            total += int(re.findall(r"([0-9,]+) links", label)[0].replace(",", ""))
        elif left not in sets and right not in sets:
            total += 1
    assert len(scene.actors) > 1
    return total


@pytest.mark.parametrize("text", SHAPES)
def test_mermaid_has_every_node_and_link(text: str) -> None:
    scene = seen(text)
    drawn = mermaid.render(scene)
    found = statements(drawn)
    nodes = [match["node"] for match in found if "node" in match.re.groupindex]
    assert sorted(nodes) == sorted(f"n{index}" for index in range(len(scene.actors)))
    for actor in scene.actors:
        assert re.search(rf'"{re.escape(actor.name)}(<br>|")', drawn)
    sets = {match["set"]: match[0] for match in found if "set" in match.re.groupindex}
    edges = [(match["left"], match["right"], match[0]) for match in found if "left" in match.re.groupindex]
    assert counted(scene, edges, sets) == len(scene.wires)
    assert len(edges) <= 500, "more, and Mermaid draws nothing"
    styled = [int(number) for match in found if match[0].startswith("linkStyle") for number in match[0].split()[1].split(",")]
    assert sorted(styled) == list(range(len(edges)))


def test_mermaid_of_pairs_through_a_relay() -> None:
    drawn = mermaid.render(seen(OFFICES, relayed=True))
    statements(drawn)
    assert 'n1 -.-|"through paris"| n2' in drawn


def test_a_label_is_never_a_command_of_mermaid() -> None:
    assert mermaid.text('a"b') == '"a#34;b"'
    assert mermaid.text("<script>|]}#;&") == '"#60;script#62;#124;#93;#125;#35;#59;#38;"'
    assert mermaid.text("a", "b") == '"a<br>b"'
    assert re.fullmatch(_LABEL, mermaid.text('end"\n---%%click', "\\`$[]{}")), mermaid.text('end"\n---%%click', "\\`$[]{}")


def tokens(text: str) -> list[str]:
    """A Graphviz file as words, signs and strings; AssertionError for anything else."""
    found = re.findall(r'"(?:[^"\\]|\\.)*"|[A-Za-z_][A-Za-z_0-9]*|-?[0-9.]+|--|[{}\[\];,=]', text)
    assert re.sub(r"\s", "", text) == re.sub(r"\s", "", "".join(found))
    return found


@pytest.mark.parametrize("text", SHAPES)
def test_dot_has_every_node_and_link(text: str) -> None:
    scene = seen(text)
    drawn = dot.render(scene)
    found = tokens(drawn)
    assert found.count("{") == found.count("}")
    assert found[:1] == ["graph"]
    edges = [
        (left, right, label) for left, right, label in re.findall(r'^ +"([^"]+)" -- "([^"]+)" \[(.*)\];$', drawn, re.MULTILINE)
    ]
    nodes = dict(re.findall(r'^ +"([^"]+)" \[(.*)\];$', drawn, re.MULTILINE))
    sets = {name: label for name, label in nodes.items() if name.startswith("set ")}
    assert set(nodes) - set(sets) == {actor.name for actor in scene.actors}
    assert counted(scene, edges, sets) == len(scene.wires)
    assert {end for edge in edges for end in edge[:2]} <= set(nodes)


def test_a_name_is_never_a_command_of_graphviz() -> None:
    scene = seen(OFFICES)
    odd = replace(scene, name='x" ]; evil [ "', cells=(Cell('a\\"b\nc', "region", scene.cells[0].members),))
    found = tokens(dot.render(odd))
    assert "evil" not in found
    assert dot.quoted('a\\"b\nc') == '"a\\\\\\"b\\nc"'


@pytest.mark.parametrize("render", [dot.render, mermaid.render])
def test_the_same_network_gives_the_same_text(render) -> None:  # type: ignore[no-untyped-def]
    assert render(seen(mesh(30, 20, regions=3))) == render(seen(mesh(30, 20, regions=3)))
