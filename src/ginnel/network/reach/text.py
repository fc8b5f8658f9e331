"""
A verdict as people read it: a sentence, both ways hop by hop, what passes whole, what it depends on.

Names and words of foreign files are shown without control characters: a terminal obeys them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ginnel.network.host import Place
from ginnel.network.reach.standby import Standby
from ginnel.network.reach.values import Hop, Stop, Verdict, Way, text_of


def render(verdict: Verdict) -> str:
    """The verdict, as lines of text with an end."""
    return "".join(f"{_printable(line)}\n" for line in _lines(verdict))


def held_ready(ways: Iterable[Standby]) -> str:
    """What becomes of a way when one of the nodes in its middle fails, a line each; empty without any."""
    lines = []
    for each in ways:
        nodes = each.verdict.there.nodes
        if not each.verdict.reaches:
            line = f"nothing, if {each.without} fails: {each.verdict.why}"
        else:
            line = f"{', '.join(nodes[1:-1]) or 'the link between them'}, if {each.without} fails: {' → '.join(nodes)}"
        lines.append(_printable(f"held ready  {line}"))
    return "".join(f"{line}\n" for line in ["", *lines]) if lines else ""


def _lines(verdict: Verdict) -> Iterator[str]:
    verb = "reaches" if verdict.reaches else "does not reach"
    yield f"{verdict.source} {verb} {verdict.target}"
    yield from _way("there", verdict.there)
    if verdict.back is not None:
        yield from _way("back", verdict.back)
    if verdict.reaches:
        yield from _size(verdict)
    yield from ("", *(f"note   {note}" for note in verdict.notes)) if verdict.notes else ()


def _way(word: str, way: Way) -> Iterator[str]:
    if not way.hops and way.stop is None:
        return
    yield ""
    yield f"{word.ljust(5)}  {text_of(way.source)} → {text_of(way.target)}"
    for number, hop in enumerate(way.hops, 1):
        yield from _hop(number, hop)
    if way.stop is not None:
        yield from _stop(way.stop)


def _hop(number: int, hop: Hop) -> Iterator[str]:
    by = f" (by {hop.came} from {hop.sender})" if hop.sender else f" (from its {hop.came})" if hop.came else ""
    yield f"  {number}  {hop.node}{by}"
    if hop.admitted:
        yield f"       in   {hop.admitted}"
    for words in hop.changed:
        yield f"       nat  {words}"
    onward = f" → {hop.device}" if hop.device else ""
    onward += f" to {hop.to}" if hop.to else ""
    onward += f", MTU {hop.mtu}" if hop.mtu is not None else ""
    yield f"       {'out ' if hop.device else 'here'} {hop.rule}{onward}{_where(hop.place)}"


def _stop(stop: Stop) -> Iterator[str]:
    yield f"  ✗  {stop.node}: {stop.message} [{stop.code}]{_where(stop.place)}"
    if stop.mend:
        yield f"       mend {stop.mend}"


def _size(verdict: Verdict) -> Iterator[str]:
    if verdict.mtu is None:
        return
    yield ""
    line = f"mtu    {verdict.mtu} bytes pass whole, there and back"
    narrow = verdict.there.narrowest
    if narrow is not None and verdict.there.mtu is not None:
        line += f"; {verdict.there.mtu + 1} are refused by {narrow.node} at {narrow.device} (or fragmented, where IPv4 may be)"
    yield line


def _where(place: Place | None) -> str:
    if place is None:
        return ""
    return f"  [{place.source}:{place.span.line}]" if place.span is not None else f"  [{place.source}]"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
