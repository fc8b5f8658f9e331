"""
How much room a text takes, without a font at hand; boxes, upright and turned, and whether they overlap.

The widths are those of DejaVu Sans, which is wider than what any common system draws `sans-serif` with: what fits here fits
there.

Coordinates are of SVG: x to the right, y downwards, angles in degrees clockwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Of the size of the font; what is not here counts as wide as a digit.
_WIDTHS = {
    **dict.fromkeys("ijl'|.,:;! ", 0.34), **dict.fromkeys("ftr-/()[]", 0.42), **dict.fromkeys("m", 0.98),
    **dict.fromkeys("w%W", 0.9),
    **dict.fromkeys("MGOQ@", 0.88), **dict.fromkeys("ABCDEHKNPRUVXYZ", 0.74),
}  # fmt: skip
_USUAL, _BOLDER, _MONO = 0.64, 1.1, 0.61


def width(text: str, size: float, *, bold: bool = False, mono: bool = False) -> float:
    """How wide *text* is at *size*, at most."""
    if mono:
        return len(text) * _MONO * size
    return sum(_WIDTHS.get(character, _USUAL) for character in text) * size * (_BOLDER if bold else 1.0)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of *width* by *height* around (x, y), turned by *angle*."""

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0

    def corners(self) -> tuple[tuple[float, float], ...]:
        """The four, in order."""
        turn = math.radians(self.angle)
        cosine, sine = math.cos(turn), math.sin(turn)
        half = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        found = []
        for right, down in half:
            across, along = right * self.width / 2, down * self.height / 2
            found.append((self.x + across * cosine - along * sine, self.y + across * sine + along * cosine))
        return tuple(found)

    def moved(self, right: float, down: float) -> Box:
        """The same elsewhere."""
        return Box(self.x + right, self.y + down, self.width, self.height, self.angle)

    def grown(self, by: float) -> Box:
        """With a margin all around."""
        return Box(self.x, self.y, self.width + 2 * by, self.height + 2 * by, self.angle)

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        points = self.corners()
        xs, ys = [x for x, _ in points], [y for _, y in points]
        return min(xs), min(ys), max(xs), max(ys)

    def overlaps(self, other: Box) -> bool:
        """Whether the two have more than an edge in common: no side of either has all of the other beyond it."""
        if (self.x - other.x) ** 2 + (self.y - other.y) ** 2 > (_reach(self) + _reach(other)) ** 2:
            return False
        mine, theirs = self.corners(), other.corners()
        for box in (self, other):
            turn = math.radians(box.angle)
            for axis in ((math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))):
                near = [x * axis[0] + y * axis[1] for x, y in mine]
                far = [x * axis[0] + y * axis[1] for x, y in theirs]
                if max(near) <= min(far) + 1e-6 or max(far) <= min(near) + 1e-6:
                    return False
        return True


def _reach(box: Box) -> float:
    return math.hypot(box.width, box.height) / 2


def bounds_of(boxes: list[Box]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of all of them; all zero without any."""
    if not boxes:
        return 0.0, 0.0, 0.0, 0.0
    each = [box.bounds() for box in boxes]
    return min(b[0] for b in each), min(b[1] for b in each), max(b[2] for b in each), max(b[3] for b in each)


def edge_of(box: Box, towards: tuple[float, float]) -> tuple[float, float]:
    """Where the line from the middle of an upright *box* to a point outside of it leaves the box."""
    right, down = towards[0] - box.x, towards[1] - box.y
    scale = min(
        (box.width / 2 / abs(right)) if right else math.inf,
        (box.height / 2 / abs(down)) if down else math.inf,
        1.0,
    )
    return box.x + right * scale, box.y + down * scale
