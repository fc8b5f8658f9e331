"""
Routes and rules of a node file, in the words of `ip route` and `ip rule`.

    PREFIX [table T] [metric N] [src ADDRESS]
    [not] [from P] [to P] [fwmark N[/MASK]] [iif D] [oif D] [priority N] table T

A subset, checked word by word: what is not here is a mistake, with the words that are. `str` of either gives the words back in
one canonical order, so that equal ones compare equal as text.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from ginnel.config.wgquick import is_interface_name
from ginnel.units import Prefix

_U32_MAX = 2**32 - 1
_TABLE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,30}|[0-9]{1,10}")
#: `local`, and what the kernel counts down from.
_PRIORITY_RANGE = (1, 32765)


def parse_prefix(text: str) -> Prefix:
    """
    A prefix whose host bits are clear; a bare address is itself alone.

    Raises:
        ValueError: (message, hint).
    """
    try:
        written = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(f"expected a prefix such as 10.20.0.0/24, found '{_shown(text)}'", "") from None
    prefix = Prefix(written.network.network_address.packed, written.network.prefixlen)
    if written.packed != prefix.packed:
        raise ValueError(f"expected a network, found {text}, which is an address in it", f"write {prefix}")
    return prefix


@dataclass(frozen=True, slots=True)
class Route:
    """One route through a tunnel. *table* as it was written, empty = main; *metric* 0 = the kernel's choice."""

    prefix: Prefix
    table: str = ""
    metric: int = 0
    source: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read the words.

        Raises:
            ValueError: (message, hint).
        """
        head, *rest = text.split() or [""]
        if head == "default":
            raise ValueError("expected a prefix, found 'default'", "write 0.0.0.0/0 or ::/0")
        prefix = parse_prefix(head)
        options = _pairs(rest, ("table", "metric", "src"))
        source = options.get("src", "")
        if source:
            try:
                same = ipaddress.ip_address(source).version == prefix.version
            except ValueError:
                raise ValueError(f"src: expected an address, found '{_shown(source)}'", "") from None
            if not same:
                raise ValueError(f"src: {source} is not IPv{prefix.version}, as {prefix} is", "")
        return cls(prefix, _table(options.get("table", "")), _number("metric", options.get("metric", "0")), source)

    def __str__(self) -> str:
        words = [str(self.prefix)]
        words += ["table", self.table] if self.table else []
        words += ["metric", str(self.metric)] if self.metric else []
        words += ["src", self.source] if self.source else []
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy rule. *version* 0: both, since nothing in it says which. *priority* 0: the kernel's choice."""

    table: str
    inverted: bool = False
    source: Prefix | None = None
    destination: Prefix | None = None
    mark: int | None = None
    mask: int | None = None
    iif: str = ""
    oif: str = ""
    priority: int = 0
    version: int = field(default=0)

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read the words.

        Raises:
            ValueError: (message, hint).
        """
        words = text.split()
        inverted = words[:1] == ["not"]
        options = _pairs(words[inverted:], ("from", "to", "fwmark", "iif", "oif", "priority", "table", "lookup"))
        table = options.get("table", "") or options.get("lookup", "")
        if not table:
            raise ValueError(f"expected table and its number, found '{_shown(text)}'", 'as in "from 203.0.113.64/28 table 64"')
        source = parse_prefix(options["from"]) if options.get("from", "all") != "all" else None
        destination = parse_prefix(options["to"]) if options.get("to", "all") != "all" else None
        versions = {prefix.version for prefix in (source, destination) if prefix is not None}
        if len(versions) > 1:
            raise ValueError(f"expected prefixes of one IP version, found {source} and {destination}", "write two rules")
        mark, _, mask = options.get("fwmark", "").partition("/")
        for key in ("iif", "oif"):
            if key in options and not is_interface_name(options[key]):
                raise ValueError(f"{key}: expected the name of an interface, found '{_shown(options[key])}'", "")
        if not {"from", "to", "fwmark", "iif", "oif"} & set(options):
            raise ValueError(
                f"expected from, to, fwmark, iif or oif, found '{_shown(text)}'", "this rule would be for every packet"
            )
        return cls(
            table=_table(table),
            inverted=inverted,
            source=source,
            destination=destination,
            mark=_number("fwmark", mark) if mark else None,
            mask=_number("fwmark", mask) if mask else None,
            iif=options.get("iif", ""),
            oif=options.get("oif", ""),
            priority=_number("priority", options["priority"], *_PRIORITY_RANGE) if "priority" in options else 0,
            version=versions.pop() if versions else 0,
        )

    def __str__(self) -> str:
        words = ["not"] if self.inverted else []
        words += ["from", str(self.source)] if self.source is not None else []
        words += ["to", str(self.destination)] if self.destination is not None else []
        if self.mark is not None:
            words += ["fwmark", f"{self.mark:#x}/{self.mask:#x}" if self.mask is not None else f"{self.mark:#x}"]
        words += ["iif", self.iif] if self.iif else []
        words += ["oif", self.oif] if self.oif else []
        words += ["priority", str(self.priority)] if self.priority else []
        return " ".join([*words, "table", self.table])


def _pairs(words: Sequence[str], known: tuple[str, ...]) -> dict[str, str]:
    options: dict[str, str] = {}
    for at in range(0, len(words), 2):
        key = words[at]
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"expected {', '.join(known[:-1])} or {known[-1]}, found '{_shown(key)}'", hint)
        if at + 1 >= len(words):
            raise ValueError(f"expected a value after {key}, found the end", "")
        if key in options:
            raise ValueError(f"{key} stands there twice", "")
        options[key] = words[at + 1]
    return options


def _table(text: str) -> str:
    if text and _TABLE.fullmatch(text) is None:
        raise ValueError(f"table: expected a number or a name of /etc/iproute2/rt_tables, found '{_shown(text)}'", "")
    return "" if text in {"main", "254"} else text


def _number(key: str, text: str, least: int = 0, most: int = _U32_MAX) -> int:
    number = -1
    if re.fullmatch(r"0x[0-9a-fA-F]{1,8}|[0-9]{1,10}", text):
        number = int(text, 0) if text.startswith("0x") else int(text)
    if not least <= number <= most:
        raise ValueError(f"{key}: expected a number from {least} to {most}, found '{_shown(text)}'", "")
    return number


def _shown(text: str) -> str:
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
