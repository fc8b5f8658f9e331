"""Quantities as people read them; ages are `ginnel.watch.health.age_text`."""

from __future__ import annotations


def size_text(size_bytes: int) -> str:
    """Bytes in binary units, three digits: `0 B`, `1.42 KiB`, `37.0 MiB`."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1000 or unit == "TiB":
            if unit == "B":
                return f"{size_bytes} B"
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
        value /= 1024
    raise AssertionError
