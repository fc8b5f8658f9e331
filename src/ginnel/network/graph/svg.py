"""
A drawing as SVG: one file, no script, no font, no picture from elsewhere; light or dark as the reader has it.

Colours are in the style sheet alone, once for a light page and once for a dark one (`prefers-color-scheme`). Kinds of links
differ in colour and in their dashes, so that they differ in black and white too. Every text and attribute is escaped; every node
and link has a title, which a browser shows when pointed at. A stroke says in `data-links` for how many links it stands, and in
`data-ends` between whom if it is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from ginnel.network.graph.drawing import Disc, Figure, Picture, Rectangle, Stroke, Words, number

_SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_MONO = "ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', monospace"

#: What does not change with the light.
_SHAPES = f"""\
text {{ font-family: {_SANS}; }}
.title {{ font-size: 24px; font-weight: 700; letter-spacing: -0.01em; }}
.facts {{ font-size: 13px; }}
.name {{ font-size: 14px; font-weight: 650; }}
.lan {{ font-size: 11px; font-family: {_MONO}; }}
.aside {{ font-size: 11px; font-style: italic; }}
.pill-text {{ font-size: 10px; font-weight: 600; }}
.hull-title {{ font-size: 14px; font-weight: 650; }}
.spoke-name {{ font-size: 12px; font-weight: 600; }}
.spoke-role {{ font-size: 10.5px; }}
.spoke-lan {{ font-size: 10.5px; font-family: {_MONO}; }}
.note-text {{ font-size: 13px; font-weight: 650; }}
.note-aside {{ font-size: 11px; }}
.legend {{ font-size: 12px; }}
.card {{ stroke-width: 1.3; }}
.card.nat, .dot.nat {{ stroke-dasharray: 4 3; }}
.card.hub, .card.relay {{ stroke-width: 2; }}
.dot {{ stroke-width: 1.8; }}
.halo {{ fill: none; stroke-width: 1.8; }}
.hull {{ stroke-width: 1; }}
.region-arc {{ fill: none; stroke-width: 26; stroke-linecap: round; }}
.link {{ fill: none; stroke-width: 1.9; stroke-linecap: round; }}
.link.gre {{ stroke-dasharray: 1 6; stroke-width: 2.6; }}
.link.gre-ipsec {{ stroke-dasharray: 11 5; }}
.link.ipsec {{ stroke-dasharray: 11 5 1 5; }}
.link.held {{ stroke-width: 1.1; opacity: 0.55; }}
.link.exits {{ marker-end: url(#arrow); }}
.fine .link {{ stroke-width: 1.1; opacity: 0.6; }}
.fine .link.held {{ stroke-width: 0.7; opacity: 0.3; }}
.link.band {{ stroke-width: 9; stroke-dasharray: none; opacity: 0.9; }}
.link.band.sample {{ stroke-linecap: butt; }}
.link.ribbon {{ stroke-width: 0.8; stroke-dasharray: none; fill-opacity: 0.14; stroke-opacity: 0.5; opacity: 1; }}
.link.ribbon-sample {{ stroke-width: 12; stroke-dasharray: none; stroke-linecap: butt; opacity: 0.25; }}
.relayed {{ fill: none; stroke-width: 1; stroke-dasharray: 1 5; stroke-linecap: round; }}
.arrow {{ stroke: none; }}
"""

#: By word: page, card, hull, line of cards, text, muted text; then kinds; then roles.
_LIGHT = {
    "page": "#ffffff", "card": "#ffffff", "hull": "#f3f5f9", "hull-line": "#d9dfe9", "line": "#8d99ad", "text": "#161c27",
    "muted": "#5a6678", "wireguard": "#2563c9", "gre": "#b45f06", "gre-ipsec": "#7c3aad", "ipsec": "#0b7a5b",
    "hub": "#2563c9", "relay": "#0e7490", "exit": "#b3451f", "edge": "#6d4bc3", "origin": "#a61e4d", "nat": "#6b7788",
}  # fmt: skip
_DARK = {
    "page": "#11151c", "card": "#1b222d", "hull": "#171d27", "hull-line": "#2b3544", "line": "#6d7b90", "text": "#e8ecf3",
    "muted": "#a3aec0", "wireguard": "#6ea8ff", "gre": "#f0a24a", "gre-ipsec": "#c792f5", "ipsec": "#4fd1a5",
    "hub": "#6ea8ff", "relay": "#4cc4de", "exit": "#ff9a73", "edge": "#b3a0ff", "origin": "#ff86ab", "nat": "#97a4b8",
}  # fmt: skip
_KIND_WORDS = ("wireguard", "gre", "gre-ipsec", "ipsec")
_ROLE_WORDS = ("hub", "relay", "exit", "edge", "origin", "nat")
#: Links beyond which lines are drawn finer.
_FINE = 60


def render(picture: Picture) -> str:
    """The text of the file."""
    return "\n".join(_lines(picture)) + "\n"


def _lines(picture: Picture) -> Iterator[str]:
    wide, high = number(picture.width), number(picture.height)
    sheet = picture.sheet
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" role="img"'
        ' aria-labelledby="title description">'
    )
    yield f'<title id="title">{escape(picture.title)}</title>'
    yield f'<desc id="description">{escape(picture.description)}</desc>'
    yield f"<style>\n{_SHAPES}{_colours(_LIGHT)}@media (prefers-color-scheme: dark) {{\n{_colours(_DARK)}}}\n</style>"
    yield (
        '<defs><marker id="arrow" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="12" markerHeight="12"'
        ' markerUnits="userSpaceOnUse" orient="auto"><path class="arrow" d="M0 1L10 5L0 9Z"/></marker></defs>'
    )
    yield f'<rect class="page" width="{wide}" height="{high}"/>'
    right, down = sheet.origin
    yield f'<g transform="translate({number(right)} {number(down)})">'
    yield from (_shape(shape) for shape in sheet.hulls)
    yield f'<g class="links{" fine" if len(sheet.strokes) > _FINE else ""}">'
    # What stands for many lies under what stands for one.
    yield from (_shape(stroke) for stroke in sorted(sheet.strokes, key=lambda stroke: stroke.ends is not None))
    yield "</g>"
    for figure in sheet.figures:
        yield from _figure(figure)
    yield from (_shape(shape) for shape in sheet.notes)
    yield "</g>"
    yield "</svg>"


def _figure(figure: Figure) -> Iterator[str]:
    yield f'<g class="node" data-node={quoteattr(figure.name)}><title>{escape(figure.says)}</title>'
    yield from (_shape(shape) for shape in figure.shapes)
    yield "</g>"


def _shape(shape: Rectangle | Disc | Words | Stroke) -> str:
    look = f"class={quoteattr(shape.look)}"
    match shape:
        case Rectangle():
            left, top = number(shape.x - shape.width / 2), number(shape.y - shape.height / 2)
            size = f'width="{number(shape.width)}" height="{number(shape.height)}"'
            return f'<rect {look} x="{left}" y="{top}" {size} rx="{number(shape.round)}"/>'
        case Disc():
            return f'<circle {look} cx="{number(shape.x)}" cy="{number(shape.y)}" r="{number(shape.radius)}"/>'
        case Words():
            at = f'x="{number(shape.x)}" y="{number(shape.y)}"'
            anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
            turned = f' transform="rotate({number(shape.angle)} {number(shape.x)} {number(shape.y)})"' if shape.angle else ""
            return f"<text {look} {at}{anchor}{turned}>{escape(shape.text)}</text>"
        case Stroke():
            stands = f' data-links="{shape.links}"' if shape.links else ""
            ends = f" data-ends={quoteattr(' '.join(shape.ends))}" if shape.ends else ""
            says = f"<title>{escape(shape.says)}</title>" if shape.says else ""
            return f'<path {look} d="{shape.path}"{stands}{ends}' + (f">{says}</path>" if says else "/>")


def _colours(of: dict[str, str]) -> str:
    lines = [
        f".page {{ fill: {of['page']}; }}",
        f".hull {{ fill: {of['hull']}; stroke: {of['hull-line']}; }}",
        f".region-arc {{ stroke: {of['hull-line']}; }}",
        f".card, .dot {{ fill: {of['card']}; stroke: {of['line']}; }}",
        f".note {{ fill: {of['page']}; fill-opacity: 0.9; }}",
        f"text {{ fill: {of['text']}; }}",
        f".facts, .lan, .aside, .spoke-role, .spoke-lan, .legend, .note-aside {{ fill: {of['muted']}; }}",
        f".hull-title {{ fill: {of['muted']}; }}",
        f".relayed {{ stroke: {of['line']}; }}",
        f".arrow {{ fill: {of['exit']}; }}",
        f".dot {{ fill: {of['line']}; }}",
        f".dot.nat {{ fill: {of['card']}; stroke: {of['nat']}; }}",
    ]
    for kind in _KIND_WORDS:
        lines += [f".link.{kind} {{ stroke: {of[kind]}; }}", f".link.ribbon.{kind} {{ fill: {of[kind]}; }}"]
    for role in _ROLE_WORDS:
        if role != "nat":
            lines += [
                f".card.{role}, .halo.{role} {{ stroke: {of[role]}; }}",
                f".dot.{role} {{ fill: {of[role]}; stroke: {of[role]}; }}",
            ]
        lines += [f".pill.{role} {{ fill: {of[role]}; fill-opacity: 0.14; }}", f".pill-text.{role} {{ fill: {of[role]}; }}"]
    return "".join(f"  {line}\n" for line in lines)
