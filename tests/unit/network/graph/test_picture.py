"""
The drawing: no two texts or cards overlap, nothing lies outside, every node and link is there, and it is XML that says so.
"""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginnel.network.graph import cards, picture, svg
from ginnel.network.graph.drawing import Picture
from ginnel.network.graph.metrics import Box, edge_of, width
from ginnel.network.graph.scene import Scene, Wire
from unit.network.graph.test_scene import node, seen

XML = "{http://www.w3.org/2000/svg}"
KINDS = ("wireguard", "gre", "gre+ipsec", "ipsec")


def head(name: str = "acme", *lines: str) -> str:
    return f'[network]\nname = "{name}"\npool = ["10.10.0.0/16"]\n' + "\n".join(lines) + "\n"


def mesh(count: int, reachable: int, *, regions: int = 0) -> str:
    text = head() + "".join(f"[region.r{index}]\n" for index in range(regions))
    for index in range(count):
        lines = [f'lans = ["10.{20 + index}.0.0/24"]']
        if index < reachable:
            lines.append(f'endpoint = "192.0.2.{index + 1}"')
        if index == 0:
            lines.append("relay = true")
        if regions:
            lines.append(f'region = "r{index % regions}"')
        text += node(f"node-{index}", *lines)
    return text


def hub(count: int, hubs: int = 1) -> str:
    names = ", ".join(f'"hub-{index}"' for index in range(hubs))
    text = head("acme", 'shape = "hub"', f"hub = [{names}]")
    text += "".join(node(f"hub-{index}", f'endpoint = "192.0.2.{index + 1}"') for index in range(hubs))
    return text + "".join(node(f"spoke-{index}", f'lans = ["10.{20 + index}.0.0/24"]') for index in range(count))


def overlaps(drawn: Picture) -> list[tuple[str, str]]:
    boxes = drawn.sheet.boxes
    return [(text, other) for index, (text, box) in enumerate(boxes) for other, theirs in boxes[:index] if box.overlaps(theirs)]


def outside(drawn: Picture) -> list[str]:
    found = []
    for text, box in drawn.sheet.boxes:
        left, top, right, bottom = box.bounds()
        if left < 0 or top < 0 or right > drawn.width or bottom > drawn.height:
            found.append(text)
    return found


def check(scene: Scene) -> ET.Element:
    """Draw it and hold the drawing against the scene; the drawing's root."""
    drawn = picture.draw(scene)
    assert overlaps(drawn) == []
    assert outside(drawn) == []
    text = svg.render(drawn)
    root = ET.fromstring(text)
    nodes = [each.get("data-node") for each in root.iter(f"{XML}g") if each.get("class") == "node"]
    assert sorted(filter(None, nodes)) == sorted(actor.name for actor in scene.actors)
    for group in root.iter(f"{XML}g"):
        if group.get("class") == "node":
            assert group.get("data-node") in [each.text for each in group.iter(f"{XML}text")]
    strokes = [each for each in root.iter(f"{XML}path") if each.get("data-links")]
    assert sum(int(each.get("data-links") or 0) for each in strokes) == len(scene.wires)
    single = {frozenset((each.get("data-ends") or "").split()) for each in strokes if each.get("data-ends")}
    assert single <= {frozenset((wire.left, wire.right)) for wire in scene.wires}
    assert len(single) == sum(1 for each in strokes if each.get("data-ends"))
    numbers = re.findall(r"-?[0-9.]+", " ".join(each.get("d") or "" for each in strokes))
    assert not {"nan", "inf"} & set(numbers)
    return root


@pytest.mark.parametrize(
    "text",
    [
        mesh(2, 2), mesh(3, 2), mesh(5, 3), mesh(12, 12), mesh(13, 13), mesh(20, 12), mesh(100, 60), mesh(100, 100),
        mesh(9, 6, regions=3), mesh(30, 20, regions=3), mesh(100, 40, regions=5), hub(1), hub(4), hub(11), hub(40), hub(99),
        hub(20, 2), hub(97, 3),
    ],
    ids=lambda text: f"{text.count('[node.')}, {text.count('endpoint')} reachable, {text.count('[region.')} regions",
)  # fmt: skip
def test_networks_of_each_shape(text: str) -> None:
    check(seen(text))


def test_a_hundred_nodes_take_less_than_a_second() -> None:
    for text in (mesh(100, 60), hub(99), mesh(100, 40, regions=5)):
        scene = seen(text)
        begun = time.process_time()
        svg.render(picture.draw(scene))
        assert time.process_time() - begun < 1.0


def test_the_same_network_gives_the_same_bytes() -> None:
    for text in (mesh(30, 20, regions=3), hub(11)):
        assert svg.render(picture.draw(seen(text))) == svg.render(picture.draw(seen(text)))


@st.composite
def networks(draw: st.DrawFn) -> str:
    """Nodes of any size of name and number of LANs, any links among them, perhaps in groups."""
    count = draw(st.integers(1, 26))
    names = draw(
        st.lists(st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True), min_size=count, max_size=count, unique=True)
    )
    text = head("acme", 'shape = "none"', f'kind = "{draw(st.sampled_from(KINDS))}"')
    for index, name in enumerate(names):
        lans = ", ".join(f'"10.{20 + index}.{each}.0/24"' for each in range(draw(st.integers(0, 7))))
        text += node(name, f'endpoint = "192.0.2.{index + 1}"', f"lans = [{lans}]")
    # A spanning tree, so that everybody is reached by somebody, and more.
    pairs = {(draw(st.integers(0, index)), index + 1) for index in range(count - 1)}
    most = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    pairs |= {(min(pair), max(pair)) for pair in draw(st.sets(most, max_size=40)) if pair[0] != pair[1]}
    for left, right in sorted(pairs):
        text += f'\n[[link]]\nbetween = ["{names[left]}", "{names[right]}"]\nkind = "{draw(st.sampled_from(KINDS))}"\n'
    cuts = sorted(draw(st.sets(st.integers(0, count), max_size=4)))
    for number, (first, last) in enumerate(pairwise(cuts)):
        members = ", ".join(f'"{name}"' for name in names[first:last])
        text += f"\n[group.group-{number}]\nnodes = [{members}]\n"
    return text


@settings(max_examples=40, deadline=None)
@given(text=networks())
def test_nothing_overlaps_in_random_networks(text: str) -> None:
    relays = re.sub(r"(\[node\.[^\]]+\]\n)", r"\1relay = true\n", text)
    check(seen(relays, relayed=True))


def test_texts_are_escaped() -> None:
    scene = seen(mesh(3, 2))
    odd = Scene('<script>alert("1")</script> & more', scene.facts, scene.actors, scene.wires, scene.cells)
    text = svg.render(picture.draw(odd))
    assert "<script" not in text
    root = ET.fromstring(text)
    assert root.findtext(f"{XML}title") == odd.name


def test_nothing_comes_from_elsewhere_and_nothing_runs() -> None:
    text = svg.render(picture.draw(seen(mesh(20, 12))))
    assert "<script" not in text
    assert re.findall(r"href|src=|url\((?!#)", text) == []
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text


def test_the_legend_has_what_there_is_and_no_more() -> None:
    root = check(seen(mesh(5, 3)))
    legend = {each.text for each in root.iter(f"{XML}text") if each.get("class") == "legend"}
    assert legend == {"WireGuard", "relay: carries for others", "behind NAT"}


def test_links_go_around_cards() -> None:
    """Three in a row by their links, and one from end to end: it passes by the one in the middle."""
    boxes = {"a": Box(0, 0, 100, 40), "b": Box(200, 0, 100, 40), "c": Box(400, 0, 100, 40)}
    assert cards.routed(Wire("a", "b", "gre"), boxes, list(boxes.items())).apex is None
    around = cards.routed(Wire("a", "c", "gre"), boxes, list(boxes.items()))
    assert around.apex is not None
    assert abs(around.apex[1]) > 20


def test_boxes() -> None:
    box = Box(0, 0, 10, 4)
    assert box.overlaps(Box(9, 0, 10, 4))
    assert not box.overlaps(Box(10, 0, 10, 4)), "an edge in common is none"
    assert not box.overlaps(Box(0, 4.5, 10, 4))
    assert Box(0, 0, 10, 1, 45).overlaps(Box(0, 0, 10, 1, -45))
    assert not Box(0, 0, 10, 1, 45).overlaps(Box(4, -4, 4, 1, 45)), "turned, they pass by one another"
    assert edge_of(box, (100, 0)) == (5, 0)
    assert edge_of(box, (0, -100)) == (0, -2)
    assert width("mmm", 10) > width("iii", 10)
