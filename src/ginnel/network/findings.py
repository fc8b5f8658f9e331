"""
What is found wrong with a network, under stable codes: `G0101 allowed-ips-shadowed`.

A code is for ever: scripts and people's notes refer to it. Its number says nothing but its chapter (01 prefixes, 02 who
reaches whom,
03 ends that do not agree, 04 addresses and ports, 05 MTU, 06 secrets and keys, 07 expectations, 08 what an import could not
take in,
09 the form of a file); a code that is given up is not given again. `CODES` is the table, and the reference is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ginnel.network.host import Place

#: error: it does not work, or not as said. warning: it works until it does not. note: worth knowing.
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Code:
    """One code: its word, how bad it is, and what it means in a line."""

    slug: str
    severity: Severity
    meaning: str


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


CODES: dict[str, Code] = {
    "G0101": Code("allowed-ips-shadowed", "warning", "a longer prefix of another peer takes a part of this one"),
    "G0102": Code("allowed-ips-duplicate", "error", "two peers of an interface have the same prefix; the last one gets it"),
}
