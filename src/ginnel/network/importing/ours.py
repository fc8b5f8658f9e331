"""
Hooks that ginnel renders into a wg-quick file, read back as what they mean, so that they are not taken for the operator's own.

    echo 1 > /proc/sys/net/ipv4/ip_forward, …ipv6…     the host forwards
    wg set %i private-key /etc/wireguard/%i.key         the key lies in a file of its own
    wg set %i peer … preshared-key …                    so does a preshared key
    nft with the table ginnel-… or ginnel.…             what the host hides, maps or protects
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ginnel.units import Prefix

_FORWARD = re.compile(r"(?:echo 1 > /proc/sys/net/ipv[46]/\S*forward\S*|sysctl (?:-q )?-w net\.ipv[46]\.\S*forward\S*=1)\Z")
_KEYS = re.compile(r"wg set \S+ (?:private-key|peer \S+ preshared-key) \S+\Z")
_TABLE = re.compile(r"nft\b.*\binet\s+ginnel[-_.]")
_SOURCES = re.compile(r"\bip6? saddr \{ ([^}]*) \}[^;]*?\bmasquerade\b")


@dataclass(frozen=True, slots=True)
class Ours:
    """What rendered hooks say of the host."""

    forwards: bool = False
    masquerades: tuple[Prefix, ...] = ()


def without_ours(hooks: list[tuple[str, str]]) -> tuple[tuple[tuple[str, str], ...], Ours]:
    """The operator's own hooks of a rendered file, in order, and what the others mean."""
    own: list[tuple[str, str]] = []
    forwards = False
    hidden: dict[Prefix, None] = {}
    for key, line in hooks:
        if _FORWARD.match(line):
            forwards = True
        elif _TABLE.match(line):
            for found in _SOURCES.finditer(line):
                hidden.update(dict.fromkeys(_prefixes(found[1])))
        elif not _KEYS.match(line):
            own.append((key, line))
    return tuple(own), Ours(forwards, tuple(hidden))


def _prefixes(words: str) -> list[Prefix]:
    try:
        return [Prefix.parse(word.strip()) for word in words.split(",")]
    except ValueError:  # nobody's rendering after all
        return []
