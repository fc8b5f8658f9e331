"""Routing tables by number or by the names that iproute2 knows."""

from __future__ import annotations

from pathlib import Path

_BUILT_IN = {"default": 253, "main": 254, "local": 255, "unspec": 0}
_PLACES = (Path("/usr/share/iproute2"), Path("/usr/lib/iproute2"), Path("/etc/iproute2"))


def table_number(name: str, places: tuple[Path, ...] = _PLACES) -> int | None:
    """The number of a table, or None when no file names it; a number is itself."""
    if name.isdigit():
        return int(name)
    numbers = dict(_BUILT_IN)
    for place in places:
        for file in (place / "rt_tables", *sorted((place / "rt_tables.d").glob("*.conf"))):
            if not file.is_file():
                continue
            for line in file.read_text("utf-8", "replace").splitlines():
                match line.partition("#")[0].split():
                    case [number, known] if number.isdigit():
                        numbers[known] = int(number)
                    case [number, known] if number.startswith("0x"):
                        numbers[known] = int(number, 16)
                    case _:
                        pass
    return numbers.get(name)
