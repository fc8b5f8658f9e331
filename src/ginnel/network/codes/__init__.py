"""
The table of codes, one chapter a file; `docs/reference/check.md` is made from it, and `ginnel check --explain` reads it.

A code is for ever: scripts and people's notes refer to it. Its number says nothing but its chapter, and one that is given up is
not given again.
"""

from __future__ import annotations

from ginnel.network.codes import addresses, ends, expectations, form, importing, prefixes, reaching, secrets, sizes
from ginnel.network.codes.code import Code, Severity

__all__ = ["CHAPTERS", "CODES", "Code", "Severity"]

#: By the first two digits: what a chapter is called, and its codes.
CHAPTERS: dict[str, tuple[str, dict[str, Code]]] = {
    "01": ("Prefixes", prefixes.CODES),
    "02": ("Who reaches whom", reaching.CODES),
    "03": ("Ends that do not agree", ends.CODES),
    "04": ("Addresses and ports", addresses.CODES),
    "05": ("MTU", sizes.CODES),
    "06": ("Secrets and keys", secrets.CODES),
    "07": ("Expectations", expectations.CODES),
    "08": ("What an import could not take in", importing.CODES),
    "09": ("The form of a file", form.CODES),
}

CODES: dict[str, Code] = {code: entry for _, chapter in CHAPTERS.values() for code, entry in chapter.items()}
