"""
Many nodes as dots on a circle, their names outwards like the spokes of a wheel; whoever most of them are linked with in the
middle.

A link between two dots is a curve through the inside. Where there are too many of those they are bundled (`bundles`), nodes that
are linked alike stand together, a band goes along the inside of the circle, and a ribbon from one arc of it to another.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ginnel.network.graph.bundles import Bundles, bundle
from ginnel.network.graph.cards import Card, card, figure, look_of, says, wire_says
from ginnel.network.graph.drawing import Disc, Figure, Rectangle, Sheet, Stroke, Words, curve, line, number
from ginnel.network.graph.metrics import Box, bounds_of, edge_of, width
from ginnel.network.graph.scene import Actor, Wire

#: Nodes in the middle at most.
_CENTRE_MAX = 5
_SLOT = 17.0
_NAME, _LABEL, _TITLE = 12.0, 10.5, 15.0
_DOT = 5.5
_SMALLEST = 150.0


@dataclass(frozen=True, slots=True)
class Spot:
    """A node on the circle: its angle in degrees (0: to the right, clockwise), its label's words and box."""

    actor: Actor
    angle: float
    words: tuple[tuple[str, str], ...]
    length: float


@dataclass(frozen=True, slots=True)
class Arc:
    """Nodes that stand together: a region, with its name."""

    title: str
    members: tuple[str, ...]


@dataclass(slots=True)
class Wheel:
    """A laid-out wheel around (0, 0)."""

    radius: float
    spots: dict[str, Spot]
    centre: tuple[tuple[Card, float, float], ...]
    wires: tuple[Wire, ...]
    bundles: Bundles | None
    regions: tuple[Arc, ...]
    titles: list[tuple[str, float, float, str]] = field(default_factory=list)

    def label(self, spot: Spot) -> Box:
        """The box of a spot's label."""
        turn = math.radians(spot.angle)
        middle = self.radius + _DOT + 10 + spot.length / 2
        return Box(middle * math.cos(turn), middle * math.sin(turn), spot.length, _NAME + 2, spot.angle)

    def boxes(self, right: float = 0.0, down: float = 0.0) -> dict[str, Box]:
        """What links to nodes elsewhere begin at: the dot, or the card in the middle; moved."""
        found = {}
        for name, spot in self.spots.items():
            x, y = self._at(spot.angle)
            found[name] = Box(x + right, y + down, 2 * _DOT, 2 * _DOT)
        for shown, x, y in self.centre:
            found[shown.actor.name] = shown.box(x + right, y + down)
        return found

    def bounds(self) -> tuple[float, float, float, float]:
        """Of everything, labels and titles too."""
        everything = [*self.boxes().values(), *(self.label(spot) for spot in self.spots.values())]
        return bounds_of([*everything, *(_title_box(*title) for title in self.titles)])

    def draw(self, sheet: Sheet, right: float, down: float) -> None:
        """All of it but links to nodes elsewhere."""
        for arc in self.regions:
            sheet.hulls.append(Stroke(self._arc(self._span(arc.members), self.radius + 1, right, down), "region-arc"))
        self._draw_links(sheet, right, down)
        for spot in self.spots.values():
            sheet.figures.append(self._figure(spot, right, down))
            sheet.boxes.append((spot.actor.name, self.label(spot).moved(right, down)))
        for shown, x, y in self.centre:
            sheet.figures.append(figure(shown, x + right, y + down))
            sheet.boxes.append((shown.actor.name, shown.box(x + right, y + down)))
        for text, x, y, anchor in self.titles:
            sheet.notes.append(Words(x + right, y + down, text, "hull-title", anchor))
            sheet.boxes.append((text, _title_box(text, x, y, anchor).moved(right, down)))

    # ------------------------------------------------------------ nodes

    def _at(self, angle: float, radius: float | None = None) -> tuple[float, float]:
        turn = math.radians(angle)
        far = self.radius if radius is None else radius
        return far * math.cos(turn), far * math.sin(turn)

    def _figure(self, spot: Spot, right: float, down: float) -> Figure:
        actor = spot.actor
        x, y = self._at(spot.angle)
        look = " ".join(["dot", *actor.roles, *(["nat"] if actor.nat else [])])
        shapes: list[Rectangle | Disc | Words] = []
        if actor.roles:
            shapes.append(Disc(x + right, y + down, _DOT + 3.5, f"halo {actor.roles[0]}"))
        shapes.append(Disc(x + right, y + down, _DOT, look))
        leftwards = 90 < spot.angle % 360 < 270
        at = self.radius + _DOT + 10
        for kind, text in spot.words:
            tx, ty = self._at(spot.angle, at)
            # Base line: a third of the height below the ray's.
            turn = math.radians(spot.angle + (90 if not leftwards else -90))
            tx, ty = tx + 0.34 * _NAME * math.cos(turn), ty + 0.34 * _NAME * math.sin(turn)
            angle = spot.angle - 180 if leftwards else spot.angle
            shapes.append(Words(tx + right, ty + down, text, kind, "end" if leftwards else "start", angle))
            at += _length(kind, text) + 8
        return Figure(actor.name, tuple(shapes), says(actor))

    # ------------------------------------------------------------ links

    def _draw_links(self, sheet: Sheet, right: float, down: float) -> None:
        within: Sequence[Wire] = [wire for wire in self.wires if wire.left in self.spots and wire.right in self.spots]
        if self.bundles is not None:
            for index, some in self.bundles.bands:
                self._band(sheet, self.bundles.sets[index], some, right, down)
            for left, other, some in self.bundles.ribbons:
                self._ribbon(sheet, self.bundles.sets[left], self.bundles.sets[other], some, right, down)
            within = self.bundles.rest
        for wire in within:
            start, end = (self._at(self.spots[name].angle, self.radius - _DOT) for name in (wire.left, wire.right))
            # Towards the middle, the less so the nearer the two are: neighbours' curve stays beside the circle.
            pull = 0.15 + 0.4 * (1 - math.dist(start, end) / (2 * self.radius))
            control = (start[0] + end[0]) / 2 * pull + right, (start[1] + end[1]) / 2 * pull + down
            path = curve((start[0] + right, start[1] + down), control, (end[0] + right, end[1] + down))
            sheet.strokes.append(Stroke(path, look_of(wire), 1, (wire.left, wire.right), wire_says(wire)))
        boxes = self.boxes(right, down)
        centre = {shown.actor.name for shown, _, _ in self.centre}
        for wire in self.wires:
            if wire.left in centre or wire.right in centre:
                sheet.strokes.append(_to_the_middle(wire, boxes))

    def _band(self, sheet: Sheet, members: Sequence[str], wires: Sequence[Wire], right: float, down: float) -> None:
        count = len(members)
        text = f"full mesh of {count}"
        first, last = self._span(members)
        path = self._arc((first, last), self.radius - _DOT - 9, right, down)
        sheet.strokes.append(Stroke(path, f"band {look_of(wires[0])}", len(wires), None, f"{text}: {len(wires)} links"))
        if self.regions or self.centre:
            return  # the legend says what a band is
        more = f"{len(wires):,} links"
        wide, high = max(width(text, 13, bold=True), width(more, 11)) + 20, 42.0
        whole = count == len(self.spots)
        far = 0.0 if whole else min(self.radius * 0.56, self.radius - 30 - math.hypot(wide, high) / 2)
        x, y = self._at((first + last) / 2, max(0.0, far))
        box = Box(x + right, y + down, wide, high)
        if any(box.overlaps(other) for _, other in sheet.boxes):
            return
        sheet.notes.append(Rectangle(box.x, box.y, box.width, box.height, 9, "note"))
        sheet.notes.append(Words(box.x, box.y - 3, text, "note-text", "middle"))
        sheet.notes.append(Words(box.x, box.y + 13, more, "note-aside", "middle"))
        sheet.boxes.append((text, box))

    def _ribbon(
        self, sheet: Sheet, here: Sequence[str], there: Sequence[str], wires: Sequence[Wire], right: float, down: float
    ) -> None:
        inner = self.radius - _DOT - 13
        a0, a1, b0, b1 = (
            (x + right, y + down)
            for first, last in (self._span(here), self._span(there))
            for x, y in (self._at(first, inner), self._at(last, inner))
        )
        middle = f"{number(right)} {number(down)}"
        spans = [last - first for first, last in (self._span(here), self._span(there))]
        arcs = [f"A{number(inner)} {number(inner)} 0 {int(span > 180)} 1" for span in spans]
        path = (
            f"M{number(a0[0])} {number(a0[1])}{arcs[0]} {number(a1[0])} {number(a1[1])}"
            f"Q{middle} {number(b0[0])} {number(b0[1])}{arcs[1]} {number(b1[0])} {number(b1[1])}"
            f"Q{middle} {number(a0[0])} {number(a0[1])}Z"
        )
        text = f"each of {len(here)} with each of {len(there)}: {len(wires)} links"
        sheet.strokes.append(Stroke(path, f"ribbon {look_of(wires[0])}", len(wires), None, text))

    def _span(self, members: Sequence[str]) -> tuple[float, float]:
        """The first and the last angle of those that stand together."""
        angles = [self.spots[name].angle for name in members]
        margin = math.degrees(_DOT / self.radius)
        return min(angles) - margin, max(angles) + margin

    def _arc(self, span: tuple[float, float], radius: float, right: float, down: float) -> str:
        first, last = span
        if last - first >= 359:
            last = first + 359.9
        (x0, y0), (x1, y1) = self._at(first, radius), self._at(last, radius)
        return (
            f"M{number(x0 + right)} {number(y0 + down)}A{number(radius)} {number(radius)} 0 {int(last - first > 180)} 1"
            f" {number(x1 + right)} {number(y1 + down)}"
        )


def _to_the_middle(wire: Wire, boxes: Mapping[str, Box]) -> Stroke:
    left, right = boxes[wire.left], boxes[wire.right]
    if wire.exits == wire.left:
        left, right = right, left
    start = edge_of(left, (right.x, right.y))
    end = edge_of(right.grown(5) if wire.exits else right, (left.x, left.y))
    return Stroke(line(start, end), look_of(wire), 1, (wire.left, wire.right), wire_says(wire))


def _title_box(text: str, x: float, y: float, anchor: str) -> Box:
    wide = width(text, _TITLE, bold=True)
    middle = {"start": x + wide / 2, "middle": x, "end": x - wide / 2}[anchor]
    return Box(middle, y - 5, wide, _TITLE + 4)


# ---------------------------------------------------------------- making one


def lay_out(actors: Sequence[Actor], wires: Sequence[Wire], regions: Sequence[Arc] = ()) -> Wheel:
    """
    A wheel of *actors*.

    Args:
        wires: the links among them.
        regions: titled arcs, which together have every one of them; () without.
    """
    centre = _centre(actors, wires) if not regions else []
    ring = [actor for actor in actors if actor.name not in centre]
    parts = [region.members for region in regions] or [tuple(actor.name for actor in ring)]
    bundles = bundle(parts, [wire for wire in wires if wire.left not in centre and wire.right not in centre])
    spots, around = _spots(ring, bundles.sets if bundles is not None else parts)
    middle = _in_the_middle([card(actor) for actor in actors if actor.name in centre])
    room = max([_SMALLEST, around / (2 * math.pi), *(math.hypot(*_far(one)) + 60 for one in middle)])
    made = Wheel(room, spots, tuple(middle), tuple(wires), bundles, tuple(regions))
    for region in regions:
        made.titles.append(_title(made, region))
    return made


def _centre(actors: Sequence[Actor], wires: Sequence[Wire]) -> list[str]:
    """Those that nearly all links end at: hubs and relays, of a network that is no mesh."""
    if len(wires) > 4 * len(actors):
        return []
    ends = Counter(end for wire in wires for end in (wire.left, wire.right))
    names = [actor.name for actor in actors]
    often = sorted(names, key=lambda name: -ends[name])[:_CENTRE_MAX]
    found = [name for name in often if ends[name] >= max(5, len(names) / 6)]
    # A hub that has nobody yet stands with the others.
    hubs = [actor.name for actor in actors if "hub" in actor.roles and actor.name not in found] if found else []
    return found + hubs[: _CENTRE_MAX - len(found)]


def _spots(ring: Sequence[Actor], arcs: Sequence[Sequence[str]]) -> tuple[dict[str, Spot], float]:
    """Every node's place, arcs apart from one another; and how long the circle must be."""
    by_name = {actor.name: actor for actor in ring}
    gaps = len(arcs) if len(arcs) > 1 else 0
    slots = len(ring) + 1.5 * gaps
    found: dict[str, Spot] = {}
    at = 0.5 + (0.75 if gaps else 0.0)
    for arc in arcs:
        for name in arc:
            words = _words(by_name[name])
            length = sum(_length(kind, text) + 8 for kind, text in words) - 8
            found[name] = Spot(by_name[name], 360 * at / slots - 90, words, length)
            at += 1
        at += 1.5 if gaps else 0.0
    return found, slots * _SLOT


def _words(actor: Actor) -> tuple[tuple[str, str], ...]:
    words = [("spoke-name", actor.name)]
    if actor.roles:
        words.append(("spoke-role", " ".join(actor.roles)))
    if actor.labels:
        more = f" +{len(actor.labels) - 1}" if len(actor.labels) > 1 else ""
        words.append(("spoke-lan", actor.labels[0] + more))
    if actor.exit is not None:
        words.append(("spoke-role", f"→ {actor.exit}"))
    return tuple(words)


def _length(kind: str, text: str) -> float:
    if kind == "spoke-lan":
        return width(text, _LABEL, mono=True)
    return width(text, _NAME if kind == "spoke-name" else _LABEL, bold=kind == "spoke-name")


def _in_the_middle(cards: Sequence[Card]) -> list[tuple[Card, float, float]]:
    """One card in the middle, more one under another."""
    found = []
    high = sum(one.height + 40 for one in cards) - 40
    at = -high / 2
    for one in cards:
        found.append((one, 0.0, at + one.height / 2))
        at += one.height + 40
    return found


def _far(placed: tuple[Card, float, float]) -> tuple[float, float]:
    shown, x, y = placed
    return abs(x) + shown.width / 2, abs(y) + shown.height / 2


def _title(made: Wheel, region: Arc) -> tuple[str, float, float, str]:
    """A region's title, outside of its labels and of every other title."""
    angles = [made.spots[name].angle for name in region.members]
    middle = (min(angles) + max(angles)) / 2
    turn = math.radians(middle)
    anchor = "start" if math.cos(turn) > 0.35 else "end" if math.cos(turn) < -0.35 else "middle"
    far = made.radius + 30.0
    taken = [made.label(spot) for spot in made.spots.values()] + [_title_box(*title) for title in made.titles]
    while True:
        title = region.title, far * math.cos(turn), far * math.sin(turn) + 5, anchor
        if not any(_title_box(*title).grown(6).overlaps(box) for box in taken):
            return title
        far += 6
