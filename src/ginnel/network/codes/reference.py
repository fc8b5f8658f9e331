"""The reference of all codes as Markdown, and one code of it: what `docs/reference/check.md` holds and `--explain` prints."""

from __future__ import annotations

from ginnel.network.codes import CHAPTERS, CODES


def find(text: str) -> str | None:
    """The code that is meant by `G0102`, `g0102` or `allowed-ips-duplicate`; None when there is none."""
    wanted = text.strip()
    if wanted.upper() in CODES:
        return wanted.upper()
    return next((code for code, entry in CODES.items() if entry.slug == wanted.lower()), None)


def explain(code: str) -> str:
    """What the reference says of one code; KeyError for one that there is not."""
    entry = CODES[code]
    lines = [f"### {code} {entry.slug}", "", f"*{entry.severity}.* {entry.meaning}", ""]
    lines += [f"- For example: {entry.example}", f"- Mend: {entry.mend}"]
    return "\n".join(lines) + "\n"


def reference() -> str:
    """All codes, chapter by chapter."""
    parts = []
    for number, (title, codes) in CHAPTERS.items():
        parts.append(f"## {number} {title}\n")
        parts += [explain(code) for code in sorted(codes)]
    return "\n".join(parts)
