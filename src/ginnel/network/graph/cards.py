"""
Nodes as cards: the name, the roles, the LANs, all inside of one rectangle; up to a dozen of them in a row, a circle or a star.

    row       one node, two, or a chain of up to four; a column, beside another region
    star      one node that all others are linked with, and few links among those: it is in the middle
    circle    everything else; neighbours that are linked stand beside one another where that can be had

The circle is an ellipse as flat as the cards are, grown until no two of them are nearer than a finger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ginnel.network.graph.drawing import Disc, Figure, Rectangle, Sheet, Stroke, Words, curve, line
from ginnel.network.graph.metrics import Box, bounds_of, edge_of, width
from ginnel.network.graph.scene import Actor, Wire

#: Above so many it is a wheel.
CARDS_MAX = 12
_NAME, _LABEL, _PILL = 14.0, 11.0, 10.0
_PAD, _LINE = 12.0, 16.0
_HEAD = 22.0
#: LANs that a card names.
_LABELS_MAX = 5
_BETWEEN = 46.0
#: How far links stay from cards that are not theirs; how far they bend for that, as a share of their length, best first.
_CLEAR = 7.0
_BENDS = (0.0, 0.12, -0.12, 0.22, -0.22, 0.34, -0.34, 0.5, -0.5, 0.7, -0.7)


@dataclass(frozen=True, slots=True)
class Card:
    """What a node's card shows and how large it is."""

    actor: Actor
    pills: tuple[str, ...]
    lines: tuple[tuple[str, str], ...]
    width: float
    height: float

    def box(self, x: float, y: float) -> Box:
        """Around a place."""
        return Box(x, y, self.width, self.height)


def card(actor: Actor) -> Card:
    """The card of a node: (look, text) a line."""
    pills = (*actor.roles, *(("NAT",) if actor.nat else ()))
    lines = [("lan", text) for text in actor.labels[:_LABELS_MAX]]
    if len(actor.labels) > _LABELS_MAX:
        lines.append(("aside", f"and {len(actor.labels) - _LABELS_MAX} more"))
    if actor.exit is not None:
        lines.append(("aside", f"leaves through {actor.exit}"))
    if actor.runs not in ("ginnel", "other"):
        lines.append(("aside", f"runs {actor.runs}"))
    head = width(actor.name, _NAME, bold=True) + sum(pill_width(pill) + 5 for pill in pills) + (6 if pills else 0)
    widest = max([head, *(width(text, _LABEL, mono=look == "lan") for look, text in lines)])
    return Card(actor, pills, tuple(lines), round(widest + 2 * _PAD), _HEAD + _LINE * len(lines) + 12)


def pill_width(text: str) -> float:
    """How wide a role's pill is."""
    return width(text, _PILL, bold=True) + 12


def figure(shown: Card, x: float, y: float) -> Figure:
    """The card around a place."""
    actor = shown.actor
    left, top = x - shown.width / 2, y - shown.height / 2
    look = " ".join(["card", *actor.roles, *(["nat"] if actor.nat else [])])
    shapes: list[Rectangle | Disc | Words] = [Rectangle(x, y, shown.width, shown.height, 9, look)]
    base = top + _HEAD + (0 if shown.lines else 2)
    shapes.append(Words(left + _PAD, base, actor.name, "name"))
    at = left + shown.width - _PAD
    for pill in reversed(shown.pills):
        wide = pill_width(pill)
        shapes.append(Rectangle(at - wide / 2, base - 5, wide, 16, 8, f"pill {pill.lower()}"))
        shapes.append(Words(at - wide / 2, base - 1.4, pill, f"pill-text {pill.lower()}", "middle"))
        at -= wide + 5
    for index, (kind, text) in enumerate(shown.lines, 1):
        shapes.append(Words(left + _PAD, base + _LINE * index + 1, text, kind))
    return Figure(actor.name, tuple(shapes), says(actor))


def says(actor: Actor) -> str:
    """A node in a sentence."""
    words = [actor.name, *actor.roles, *(["behind NAT"] if actor.nat else []), f"runs {actor.runs}"]
    if actor.exit is not None:
        words.append(f"leaves through {actor.exit}")
    return ", ".join([*words, *actor.labels])


def wire_says(wire: Wire) -> str:
    """A link in a sentence."""
    held = ", held ready" if wire.held else ""
    leaves = f", all its traffic leaves through {wire.exits}" if wire.exits else ""
    return f"{wire.left} — {wire.right}: {wire.kind}{held}{leaves}"


def look_of(wire: Wire) -> str:
    """The classes of a link."""
    words = ["link", wire.kind.replace("+", "-"), *(["held"] if wire.held else []), *(["exits"] if wire.exits else [])]
    return " ".join(words)


def routed(wire: Wire, boxes: Mapping[str, Box], obstacles: Sequence[tuple[str, Box]]) -> Stroke:
    """
    A link between two boxes: a line, or the flattest of a few curves that passes by all *obstacles* but its own ends.

    Where all traffic of one end leaves through the other, the line ends there as an arrow.
    """
    first, last = (wire.right, wire.left) if wire.exits == wire.left else (wire.left, wire.right)
    left, right = boxes[first], boxes[last].grown(5) if wire.exits else boxes[last]
    ends = (wire.left, wire.right)
    others = [box.grown(_CLEAR) for name, box in obstacles if name not in ends]
    away = math.dist((left.x, left.y), (right.x, right.y))
    across = ((right.y - left.y) / away, (left.x - right.x) / away) if away else (0.0, 0.0)
    for bend in _BENDS:
        by = bend * max(60.0, away)
        control = (left.x + right.x) / 2 + across[0] * by, (left.y + right.y) / 2 + across[1] * by
        start, end = edge_of(left, control), edge_of(right, control)
        if not bend:
            start, end = edge_of(left, (right.x, right.y)), edge_of(right, (left.x, left.y))
        if not any(_passes(start, control, end, box) for box in others):
            break
    else:
        bend = 0.0
        start, end = edge_of(left, (right.x, right.y)), edge_of(right, (left.x, left.y))
    if not bend:
        return Stroke(line(start, end), look_of(wire), 1, ends, wire_says(wire))
    apex = (start[0] + 2 * control[0] + end[0]) / 4, (start[1] + 2 * control[1] + end[1]) / 4
    return Stroke(curve(start, control, end), look_of(wire), 1, ends, wire_says(wire), apex)


def _passes(start: tuple[float, float], control: tuple[float, float], end: tuple[float, float], box: Box) -> bool:
    """Whether a curve goes through an upright box, looked at in steps smaller than a card."""
    half_wide, half_high = box.width / 2, box.height / 2
    lowest = min(start[0], control[0], end[0]), min(start[1], control[1], end[1])
    highest = max(start[0], control[0], end[0]), max(start[1], control[1], end[1])
    if (
        highest[0] < box.x - half_wide
        or lowest[0] > box.x + half_wide
        or highest[1] < box.y - half_high
        or lowest[1] > box.y + half_high
    ):
        return False
    steps = max(8, int(math.dist(start, end) / 12))
    for step in range(steps + 1):
        share = step / steps
        near, middle, far = (1 - share) ** 2, 2 * share * (1 - share), share**2
        x = near * start[0] + middle * control[0] + far * end[0]
        y = near * start[1] + middle * control[1] + far * end[1]
        if abs(x - box.x) < half_wide and abs(y - box.y) < half_high:
            return True
    return False


@dataclass(frozen=True, slots=True)
class Cards:
    """A placed set of cards, around nothing in particular."""

    cards: tuple[Card, ...]
    places: tuple[tuple[float, float], ...]

    def boxes(self, right: float = 0.0, down: float = 0.0) -> dict[str, Box]:
        """By node, moved."""
        placed = zip(self.cards, self.places, strict=True)
        return {shown.actor.name: shown.box(x + right, y + down) for shown, (x, y) in placed}

    def bounds(self) -> tuple[float, float, float, float]:
        """Of all cards."""
        return bounds_of(list(self.boxes().values()))

    def draw(self, sheet: Sheet, right: float, down: float) -> None:
        """Every card; links are drawn by whoever knows all of them."""
        for shown, (x, y) in zip(self.cards, self.places, strict=True):
            sheet.figures.append(figure(shown, x + right, y + down))
            sheet.boxes.append((shown.actor.name, shown.box(x + right, y + down)))


def lay_out(actors: Sequence[Actor], wires: Sequence[Wire], cells: int = 1) -> Cards:
    """
    Cards for *actors*, by the links among them.

    Args:
        cells: how many there are in the picture. Beside another one a chain is a column, so that all of it is as near to the
            other; among several a circle, which has no far end.
    """
    shown = tuple(card(actor) for actor in actors)
    names = [actor.name for actor in actors]
    near: dict[str, set[str]] = {name: set() for name in names}
    for wire in wires:
        near[wire.left].add(wire.right)
        near[wire.right].add(wire.left)
    chain = _chain(names, near)
    if chain is not None and (cells <= 2 or len(chain) <= 2):
        return _column(shown, chain) if cells == 2 else _row(shown, chain)
    middle = _middle(names, near)
    order = _around([name for name in names if name != middle], near)
    by_name = {one.actor.name: one for one in shown}
    ring = [by_name[name] for name in order]
    centre = [by_name[middle]] if middle is not None else []
    places = _ellipse(ring, centre)
    placed = dict(zip(order, places, strict=True))
    if middle is not None:
        placed[middle] = (0.0, 0.0)
    return Cards(shown, tuple(placed[name] for name in names))


def _chain(names: Sequence[str], near: Mapping[str, set[str]]) -> list[str] | None:
    """The nodes one behind another, when that is how they are linked, or when nobody is linked and they are few."""
    if len(names) <= 2:
        return list(names)
    if len(names) > 4:
        return None
    ends = [name for name in names if len(near[name]) == 1]
    if len(ends) != 2 or any(len(near[name]) != 2 for name in names if name not in ends):
        return None
    found = [ends[0]]
    while len(found) < len(names):
        following = [name for name in names if name in near[found[-1]] and name not in found]
        if not following:
            return None
        found.append(following[0])
    return found


def _row(shown: Sequence[Card], order: Sequence[str]) -> Cards:
    by_name = {one.actor.name: one for one in shown}
    at, placed = 0.0, {}
    for name in order:
        one = by_name[name]
        placed[name] = (at + one.width / 2, 0.0)
        at += one.width + 2.4 * _BETWEEN
    return Cards(tuple(shown), tuple(placed[one.actor.name] for one in shown))


def _column(shown: Sequence[Card], order: Sequence[str]) -> Cards:
    by_name = {one.actor.name: one for one in shown}
    at, placed = 0.0, {}
    for name in order:
        one = by_name[name]
        placed[name] = (0.0, at + one.height / 2)
        at += one.height + _BETWEEN
    return Cards(tuple(shown), tuple(placed[one.actor.name] for one in shown))


def _middle(names: Sequence[str], near: Mapping[str, set[str]]) -> str | None:
    """Who is linked with everybody, where the others are hardly linked with one another."""
    links = sum(len(others) for others in near.values()) / 2
    for name in names:
        if len(near[name]) == len(names) - 1 and len(names) > 3 and links - len(near[name]) <= len(names) / 3:
            return name
    return None


def _around(names: Sequence[str], near: Mapping[str, set[str]]) -> list[str]:
    """An order in which linked nodes stand together; that of the file where everybody is linked with everybody."""
    found: list[str] = []
    waiting = list(names)
    while waiting:
        here = min(waiting, key=lambda name: (len(near[name]), names.index(name))) if not found else None
        linked = [name for name in waiting if found and name in near[found[-1]]]
        name = here or (linked[0] if linked else waiting[0])
        if all(len(near[one]) == len(near[names[0]]) for one in names):
            name = waiting[0]
        found.append(name)
        waiting.remove(name)
    return found


def _ellipse(ring: Sequence[Card], centre: Sequence[Card]) -> list[tuple[float, float]]:
    """Places on the smallest ellipse on which no two cards are too near; the first at the top, or two at the top."""
    count = len(ring)
    flat = 1.45
    tall = 40.0
    turn = -math.pi / 2 + (math.pi / count if count % 2 == 0 else 0.0)
    while True:
        places = [
            (flat * tall * math.cos(turn + 2 * math.pi * index / count), tall * math.sin(turn + 2 * math.pi * index / count))
            for index in range(count)
        ]
        boxes = [one.box(x, y).grown(_BETWEEN / 2) for one, (x, y) in zip(ring, places, strict=True)]
        boxes += [one.box(0.0, 0.0).grown(_BETWEEN / 2 + 10) for one in centre]
        if not any(left.overlaps(right) for index, left in enumerate(boxes) for right in boxes[:index]):
            return places
        tall += 6.0
