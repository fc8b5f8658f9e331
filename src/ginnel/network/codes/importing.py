"""Chapter 08: what could not be taken in of configurations that others wrote."""

from __future__ import annotations

from ginnel.network.codes.code import Code

CODES: dict[str, Code] = {
    "G0801": Code(
        "more-findings",
        "note",
        "A file has more findings than are told.",
        "A file of another kind that is taken for a configuration.",
        "Mend the ones that are told, and look again.",
    ),
}
