"""One code, and how bad it can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: error: it does not work, or not as said. warning: it works until it does not. note: worth knowing.
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Code:
    """
    One code, as the reference has it.

    slug: its word. meaning: what is so, and what comes of it. example: what leads to it. mend: what is done about it.
    """

    slug: str
    severity: Severity
    meaning: str
    example: str = ""
    mend: str = ""
