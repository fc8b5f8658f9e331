"""
What is found wrong with a network, under stable codes: `G0101 allowed-ips-shadowed`.

A code is for ever: scripts and people's notes refer to it. Its number says nothing but its chapter (01 prefixes, 02 who reaches
whom, 03 ends that do not agree, 04 addresses and ports, 05 MTU, 06 secrets and keys, 07 expectations, 08 what an import could not
take in, 09 the form of a file); `ginnel.network.codes` is the table, a chapter a file, and the reference is made from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ginnel.errors import Mistake, caret
from ginnel.network.codes import CODES, Code, Severity
from ginnel.network.host import Place

__all__ = ["CODES", "Code", "Finding", "Severity", "of_mistake", "ordered", "paragraph"]

_ORDER: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing found.

    message: what is wrong, with the names of the nodes. places: where it is said, the nearer one first (both ends of a link where
    both matter). cause: what comes of it, in the packet's terms. mend: what to change. nodes: whom it concerns.
    """

    code: str
    message: str
    places: tuple[Place, ...] = ()
    cause: str = ""
    mend: str = ""
    nodes: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The code's word."""
        return CODES[self.code].slug

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return CODES[self.code].severity


def of_mistake(mistake: Mistake, source: str, otherwise: str = "G0904") -> Finding:
    """A mistake as a finding; *source* and *otherwise*: the file and the code where the mistake does not say its own."""
    at = mistake.source or source
    places = [Place(at, mistake.span, mistake.excerpt)]
    places += [Place(other.source or at, other.span, other.excerpt) for other in mistake.also]
    return Finding(mistake.code or otherwise, mistake.message, tuple(places), mend=mistake.hint)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings, then notes; each as they were found, and once."""
    return sorted(dict.fromkeys(findings), key=lambda finding: _ORDER.index(finding.severity))


def paragraph(finding: Finding) -> list[str]:
    """A finding as people read it: place, severity, code and message; the line and what it collides with; why, and what to do."""
    head = f"{finding.severity} {finding.code} {finding.slug}: {finding.message}"
    lines = [_shown(f"{_where(place)}: {head}" if (place := next(iter(finding.places), None)) else head)]
    for index, place in enumerate(finding.places):
        if index:
            lines.append(_shown(f"  and {_where(place)}:" if place.excerpt else f"  and {_where(place)}"))
        lines += map(_shown, caret(place.span, place.excerpt))
    if finding.cause:
        lines.append(_shown(f"  because: {finding.cause}"))
    if finding.mend:
        lines.append(_shown(f"  mend: {finding.mend}"))
    return lines


def _where(place: Place) -> str:
    return f"{place.source}:{place.span.line}:{place.span.column}" if place.span is not None else place.source


def _shown(text: str) -> str:
    """Without what a terminal would obey: names and lines come from others' files."""
    return "".join(char if char.isprintable() else " " if char == "\t" else "?" for char in text)
