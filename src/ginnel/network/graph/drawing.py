"""
Shapes on a plane: what a layout makes and `svg` writes down.

Every shape has a `look`: the classes of the style sheet, words with blanks between. What belongs to a node stands in a
`Figure`, what stands for links in a `Stroke` that says for how many (`links`) and, if for one, between whom. Boxes are what must
not overlap: cards, labels, titles.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ginnel.network.graph.metrics import Box


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Around (x, y); *round*: the radius of its corners."""

    x: float
    y: float
    width: float
    height: float
    round: float
    look: str


@dataclass(frozen=True, slots=True)
class Disc:
    """A circle around (x, y)."""

    x: float
    y: float
    radius: float
    look: str


@dataclass(frozen=True, slots=True)
class Words:
    """Text at (x, y), its base line; *anchor* as in SVG; turned by *angle* around that point."""

    x: float
    y: float
    text: str
    look: str
    anchor: str = "start"
    angle: float = 0.0


@dataclass(frozen=True, slots=True)
class Stroke:
    """
    A path in the words of SVG that stands for *links* links.

    ends: of one link, whose. says: for who points at it. apex: how far a curve bulges.
    """

    path: str
    look: str
    links: int = 0
    ends: tuple[str, str] | None = None
    says: str = ""
    apex: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """All shapes of one node; *says*: for who points at it."""

    name: str
    shapes: tuple[Rectangle | Disc | Words, ...]
    says: str


@dataclass(slots=True)
class Sheet:
    """What is drawn, from the back to the front."""

    hulls: list[Rectangle | Stroke | Words] = field(default_factory=list)
    strokes: list[Stroke] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    notes: list[Rectangle | Words | Stroke | Disc] = field(default_factory=list)
    #: What must not overlap, each with what it is.
    boxes: list[tuple[str, Box]] = field(default_factory=list)
    #: How far all shapes are moved when they are written down; boxes are moved already.
    origin: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished drawing."""

    title: str
    description: str
    width: float
    height: float
    sheet: Sheet


def number(value: float) -> str:
    """A coordinate, to a tenth, without what says nothing."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def line(*points: tuple[float, float]) -> str:
    """A path of straight lines."""
    first, *rest = points
    return f"M{number(first[0])} {number(first[1])}" + "".join(f"L{number(x)} {number(y)}" for x, y in rest)


def curve(start: tuple[float, float], control: tuple[float, float], end: tuple[float, float]) -> str:
    """A path of one quadratic curve."""
    return f"M{number(start[0])} {number(start[1])}Q{number(control[0])} {number(control[1])} {number(end[0])} {number(end[1])}"
