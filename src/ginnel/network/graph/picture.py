"""
The whole drawing: regions (or groups) beside one another, links between them, title above, legend below.

Each cell is laid out by itself: up to a dozen nodes as cards, more as a wheel. Cells stand on an ellipse in their order, the one
that all others are linked with in its middle; nothing overlaps. Where regions are linked with one another through and through,
they are arcs of one wheel instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ginnel.network.graph import cards, wheel
from ginnel.network.graph.drawing import Disc, Picture, Rectangle, Sheet, Stroke, Words, line
from ginnel.network.graph.metrics import Box, width
from ginnel.network.graph.scene import KINDS, Scene, Wire

#: More links than this between cells, and they are drawn as one wheel.
_BETWEEN_CELLS_MAX = 60
_MARGIN, _HULL_PAD, _HULL_TITLE = 36.0, 22.0, 26.0
_APART = 54.0
_TITLE, _FACTS, _HULL, _LEGEND = 24.0, 13.0, 14.0, 12.0

_Plan = cards.Cards | wheel.Wheel
#: Left, top, right, bottom.
_Frame = tuple[float, float, float, float]


def draw(scene: Scene) -> Picture:
    """The drawing of *scene*."""
    cell_of = {actor.name: actor.cell for actor in scene.actors}
    across = [wire for wire in scene.wires if cell_of[wire.left] != cell_of[wire.right]]
    sheet = Sheet()
    as_arcs = len(scene.cells) > 1 and len(across) > _BETWEEN_CELLS_MAX
    if as_arcs:
        arcs = [wheel.Arc(cell.name or "others", cell.members) for cell in scene.cells]
        plans: list[_Plan] = [wheel.lay_out(scene.actors, scene.wires, arcs)]
        titles = [""]
        across = []
    else:
        plans = [_plan(scene, index) for index in range(len(scene.cells))]
        titles = [cell.name for cell in scene.cells]
    places = _places(plans, titles, across, cell_of)
    boxes: dict[str, Box] = {}
    for plan, title, (right, down) in zip(plans, titles, places, strict=True):
        if title:
            _hull(sheet, plan, title, right, down)
        plan.draw(sheet, right, down)
        boxes |= plan.boxes(right, down)
    by_cards = {name for plan in plans if isinstance(plan, cards.Cards) for name in plan.boxes()}
    apart = {id(wire) for wire in across}
    obstacles = [*sheet.boxes]
    for wire in scene.wires:
        if id(wire) in apart or (wire.left in by_cards and wire.right in by_cards):
            sheet.strokes.append(cards.routed(wire, boxes, obstacles))
    for left, right_name, relay in scene.relayed:
        says = f"{left} and {right_name} reach each other through {relay}"
        ends = boxes[left], boxes[right_name]
        path = line((ends[0].x, ends[0].y), (ends[1].x, ends[1].y))
        sheet.strokes.insert(0, Stroke(path, "relayed", 0, None, says))
    return _finished(scene, sheet, _extent(plans, titles, places, [stroke.apex for stroke in sheet.strokes if stroke.apex]))


def _plan(scene: Scene, index: int) -> _Plan:
    members = [actor for actor in scene.actors if actor.cell == index]
    names = {actor.name for actor in members}
    wires = [wire for wire in scene.wires if wire.left in names and wire.right in names]
    if len(members) <= cards.CARDS_MAX:
        return cards.lay_out(members, wires, len(scene.cells))
    return wheel.lay_out(members, wires)


# ---------------------------------------------------------------- where cells stand


def _frame(plan: _Plan, title: str) -> _Frame:
    """Left, top, right, bottom of a cell with its hull."""
    left, top, right, bottom = plan.bounds()
    if not title:
        return left, top, right, bottom
    wide = width(title, _HULL, bold=True) + 2 * _HULL_PAD
    missing = max(0.0, wide - (right - left + 2 * _HULL_PAD)) / 2
    return left - _HULL_PAD - missing, top - _HULL_PAD - _HULL_TITLE, right + _HULL_PAD + missing, bottom + _HULL_PAD


def _places(
    plans: Sequence[_Plan], titles: Sequence[str], across: Sequence[Wire], cell_of: dict[str, int]
) -> list[tuple[float, float]]:
    """Where the origin of each cell goes."""
    frames = [_frame(plan, title) for plan, title in zip(plans, titles, strict=True)]
    if len(plans) == 1:
        return [(0.0, 0.0)]
    linked: dict[int, set[int]] = {index: set() for index in range(len(plans))}
    for wire in across:
        left, right = cell_of[wire.left], cell_of[wire.right]
        linked[left].add(right)
        linked[right].add(left)
    middle = _middle(linked)
    ring = [index for index in linked if index != middle]
    if len(ring) == 2 and middle is None:
        return _side_by_side(frames)
    tall, turn = 60.0, -math.pi / 2 + (math.pi / len(ring) if len(ring) % 2 == 0 else 0.0)
    while True:
        found = {}
        for number, index in enumerate(ring):
            angle = turn + 2 * math.pi * number / len(ring)
            found[index] = (1.3 * tall * math.cos(angle), tall * math.sin(angle))
        if middle is not None:
            found[middle] = (0.0, 0.0)
        if not _clash(frames, found):
            break
        tall += 12.0
    for index in ring:  # an ellipse that fits the largest leaves the others too far out
        while (found[index][0] ** 2 + found[index][1] ** 2) > 1:
            nearer = {**found, index: (found[index][0] * 0.96, found[index][1] * 0.96)}
            if _clash(frames, nearer):
                break
            found = nearer
    return [_origin(frames[index], *found[index]) for index in linked]


def _clash(frames: Sequence[_Frame], at: Mapping[int, tuple[float, float]]) -> bool:
    """Whether two cells are too near."""
    boxes = [_box(frames[index], *place).grown(_APART / 2) for index, place in at.items()]
    return any(left.overlaps(right) for index, left in enumerate(boxes) for right in boxes[:index])


def _middle(linked: dict[int, set[int]]) -> int | None:
    """The cell that all others are linked with, where those are hardly linked with one another."""
    links = sum(map(len, linked.values())) / 2
    for index, others in linked.items():
        if len(linked) > 3 and len(others) == len(linked) - 1 and links - len(others) <= len(linked) / 3:
            return index
    return None


def _side_by_side(frames: Sequence[_Frame]) -> list[tuple[float, float]]:
    at, found = 0.0, []
    for frame in frames:
        wide = frame[2] - frame[0]
        found.append(_origin(frame, at + wide / 2, 0.0))
        at += wide + 2.6 * _APART
    return found


def _box(frame: _Frame, x: float, y: float) -> Box:
    return Box(x, y, frame[2] - frame[0], frame[3] - frame[1])


def _origin(frame: _Frame, x: float, y: float) -> tuple[float, float]:
    """Where the cell's own origin goes so that its frame is around (x, y)."""
    return x - (frame[0] + frame[2]) / 2, y - (frame[1] + frame[3]) / 2


def _hull(sheet: Sheet, plan: _Plan, title: str, right: float, down: float) -> None:
    left, top, end, bottom = _frame(plan, title)
    box = Box((left + end) / 2 + right, (top + bottom) / 2 + down, end - left, bottom - top)
    sheet.hulls.append(Rectangle(box.x, box.y, box.width, box.height, 16, "hull"))
    x, y = left + right + _HULL_PAD - 4, top + down + _HULL_TITLE
    sheet.hulls.append(Words(x, y, title, "hull-title"))
    wide = width(title, _HULL, bold=True)
    sheet.boxes.append((title, Box(x + wide / 2, y - 5, wide, _HULL + 2)))


def _extent(
    plans: Sequence[_Plan],
    titles: Sequence[str],
    places: Sequence[tuple[float, float]],
    apices: Sequence[tuple[float, float]],
) -> _Frame:
    moved = [(x - 4, y - 4, x + 4, y + 4) for x, y in apices]
    for plan, title, (right, down) in zip(plans, titles, places, strict=True):
        left, top, end, bottom = _frame(plan, title)
        moved.append((left + right, top + down, end + right, bottom + down))
    return min(b[0] for b in moved), min(b[1] for b in moved), max(b[2] for b in moved), max(b[3] for b in moved)


# ---------------------------------------------------------------- title and legend


def _finished(scene: Scene, sheet: Sheet, extent: _Frame) -> Picture:
    left, top, right, bottom = extent
    title_wide = width(scene.name, _TITLE, bold=True)
    facts = " · ".join(scene.facts)
    entries = _legend_entries(scene, sheet)
    needed = max(title_wide, width(facts, _FACTS), 420.0 if entries else 0.0)
    if right - left < needed:
        left, right = (left + right - needed) / 2, (left + right + needed) / 2
    top -= 74.0
    sheet.notes.append(Words(left, top + 22, scene.name, "title"))
    sheet.notes.append(Words(left, top + 43, facts, "facts"))
    sheet.boxes.append((scene.name, Box(left + title_wide / 2, top + 14, title_wide, _TITLE)))
    facts_wide = width(facts, _FACTS)
    sheet.boxes.append((facts, Box(left + facts_wide / 2, top + 39, facts_wide, _FACTS + 2)))
    bottom = _legend(sheet, entries, left, right, bottom + 44)
    _shift(sheet, _MARGIN - left, _MARGIN - top)
    description = f"{facts}. " + "; ".join(text for _, text in entries)
    return Picture(scene.name, description, right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN, sheet)


def _legend_entries(scene: Scene, sheet: Sheet) -> list[tuple[str, str]]:
    """(what is shown, what it means), of what there is."""
    entries = [(f"link {kind.replace('+', '-')}", KINDS[kind]) for kind in scene.kinds]
    if any(wire.held for wire in scene.wires):
        entries.append((f"link {scene.kinds[0].replace('+', '-')} held", "held ready"))
    if any(wire.exits for wire in scene.wires):
        entries.append(("exits", "all traffic leaves there"))
    looks = " ".join(stroke.look for stroke in sheet.strokes)
    kind = scene.kinds[0].replace("+", "-") if scene.kinds else ""
    if "band" in looks:
        entries.append((f"link band sample {kind}", "full mesh"))
    if "ribbon" in looks:
        entries.append((f"link ribbon-sample {kind}", "each with each"))
    if scene.relayed:
        entries.append(("relayed", "through a relay"))
    meanings = {
        "hub": "hub", "relay": "relay: carries for others", "exit": "exit to the internet", "edge": "edge of a protected origin",
        "origin": "protected origin",
    }  # fmt: skip
    there = {role for actor in scene.actors for role in actor.roles}
    entries += [(f"role {role}", text) for role, text in meanings.items() if role in there]
    if any(actor.nat for actor in scene.actors):
        entries.append(("role nat", "behind NAT"))
    return entries


def _legend(sheet: Sheet, entries: Sequence[tuple[str, str]], left: float, right: float, top: float) -> float:
    """In rows below everything; where it ends."""
    x, y = left, top
    for look, text in entries:
        wide = 40 + width(text, _LEGEND) + 26
        if x > left and x + wide - 26 > right:
            x, y = left, y + 24
        if look.startswith("role "):
            role = look.removeprefix("role ")
            sheet.notes.append(Disc(x + 15, y - 4, 6, f"dot sample {role}"))
        else:
            style = "link wireguard exits" if look == "exits" else look
            sheet.notes.append(Stroke(line((x, y - 4), (x + 30, y - 4)), style))
        sheet.notes.append(Words(x + 38, y, text, "legend"))
        sheet.boxes.append((text, Box(x + 38 + width(text, _LEGEND) / 2, y - 4, width(text, _LEGEND), _LEGEND + 2)))
        x += wide
    return y + 4 if entries else top - 40


def _shift(sheet: Sheet, right: float, down: float) -> None:
    """The picture begins at (0, 0): `svg` moves everything by this, and so do the boxes."""
    sheet.origin = right, down
    sheet.boxes = [(text, box.moved(right, down)) for text, box in sheet.boxes]
