"""
TOML, whatever the text holds.

`tomllib` says of a text that is not TOML where it is wrong, and raises other errors for those that are: one nested deeper than
Python's stack, one with a number longer than Python reads. It also takes hours over a key of a million parts.
Here all of them are one error, and nothing that is nested deeper than any file of ours is handed on, so that what walks the
result may be recursive.

tomli, compiled, reads in half the time: 0.17 s less for a network of 10,000 nodes and its lock. That is not worth a dependency.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

#: Our files need five.
DEPTH_MAX = 32
#: A dotted key of more parts than a host's name has labels: tomllib takes time by the square of them.
_LONG_KEY = re.compile(r"""(?<![A-Za-z0-9_.-])(?:(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){128}""")


def loads(text: str) -> dict[str, Any]:
    """
    Read a TOML text.

    Raises:
        tomllib.TOMLDecodeError: it is not TOML, or nests too deeply, or holds a number of thousands of digits.
    """
    if _LONG_KEY.search(text):
        raise tomllib.TOMLDecodeError("a key has too many parts")
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError("nested too deeply") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        raise tomllib.TOMLDecodeError("a number has too many digits") from None
    level: list[Any] = [document]
    for _ in range(DEPTH_MAX):
        level = [item for each in level for item in _items(each)]
        if not level:
            return document
    raise tomllib.TOMLDecodeError(f"nested deeper than {DEPTH_MAX}")


def _items(value: object) -> list[Any]:
    match value:
        case dict():
            return list(value.values())
        case list():
            return value
        case _:
            return []
