"""
What is found wrong with a network, under stable codes: `G0101 allowed-ips-shadowed`.

A code is for ever: scripts and people's notes refer to it. Its number says nothing but its chapter (01 prefixes, 02 who reaches
whom, 03 ends that do not agree, 04 addresses and ports, 05 MTU, 06 secrets and keys, 07 expectations, 08 what an import could not
take in, 09 the form of a file); `ginnel.network.codes` is the table, a chapter a file, and the reference is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ginnel.errors import Mistake
from ginnel.network.codes import CODES, Code, Severity
from ginnel.network.host import Place

__all__ = ["CODES", "Code", "Finding", "Severity", "of_mistake"]


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


def of_mistake(mistake: Mistake, source: str) -> Finding:
    """A mistake of a network file as a finding; *source*: the file where the mistake does not say its own."""
    at = mistake.source or source
    places = [Place(at, mistake.span, mistake.excerpt)]
    places += [Place(other.source or at, other.span, other.excerpt) for other in mistake.also]
    return Finding(mistake.code or "G0904", mistake.message, tuple(places), mend=mistake.hint)
