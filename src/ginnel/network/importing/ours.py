"""
What ginnel renders beside the tunnels, read back as what it means, so that it is not taken for the operator's own.

    echo V > /proc/sys/net/…                            a setting: that the host forwards, mostly
    wg set %i private-key FILE, wg set %i peer KEY preshared-key FILE    keys lie in files of their own
    ip -4 route replace …, ip -4 rule add … and the like                policy routes, addresses, neighbours
    nft '… inet ginnel-NETWORK …'                       what the host hides behind its address, and maps one to one

Only files that say in their first line that ginnel rendered them are looked at like that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ginnel.network.model import Mapped
from ginnel.units import Prefix

_RENDERED = re.compile(r"#.{0,200}Rendered by ginnel")
_FORWARD = re.compile(r"net[/.]ipv(?:4[/.]ip_forward|6[/.]conf[/.]all[/.]forwarding)\b")
#: A word that no shell does anything with: a line that does more than ours is the operator's.
_W = r"[^\s;|&<>$`()]+"
_SETTING = re.compile(rf"echo {_W} > /proc/sys/net/{_W}|sysctl (?:-q )?-w {_W}")
_KEYS = re.compile(rf"wg set {_W} (?:private-key|peer {_W} preshared-key) {_W}")
_HOST = re.compile(r"ip -[46] (?:route|rule|address|neighbour) (?:replace|add|del) [^;|&<>$`]+")
_NFT = re.compile(r"nft (?:'[^']*'|[^;|&<>$`'\"]*)")
_TABLE = re.compile(r"\binet\s+'?ginnel[-_.]")
_SOURCES = re.compile(r"\bip6? saddr \{ ([^{}]*) \}[^;\n]*?\bmasquerade\b")
_MAPS = re.compile(r"\bdnat ip6? prefix to ip6? daddr map \{ ([^{}]*) \}")


@dataclass(frozen=True, slots=True)
class Ours:
    """What rendered words say of the host."""

    forwards: bool = False
    masquerades: tuple[Prefix, ...] = ()
    mapped: tuple[Mapped, ...] = ()

    def __or__(self, other: Ours) -> Ours:
        return Ours(
            self.forwards or other.forwards,
            tuple(dict.fromkeys((*self.masquerades, *other.masquerades))),
            tuple(dict.fromkeys((*self.mapped, *other.mapped))),
        )


def is_ours(text: str) -> bool:
    """Whether the first line of a file says that ginnel rendered it."""
    return _RENDERED.match(text) is not None


def without_ours(hooks: list[tuple[str, str]]) -> tuple[tuple[tuple[str, str], ...], Ours]:
    """The operator's own hooks of a rendered file, in order, and what the others mean."""
    own: list[tuple[str, str]] = []
    found = Ours()
    for key, line in hooks:
        if _SETTING.fullmatch(line):
            found |= Ours(forwards=_FORWARD.search(line) is not None)
        elif _NFT.fullmatch(line) and _TABLE.search(line):
            found |= of_nft(line)
        elif not (_KEYS.fullmatch(line) or _HOST.fullmatch(line)):
            own.append((key, line))
    return tuple(own), found


def of_nft(text: str) -> Ours:
    """What the rules of ginnel's table mean."""
    hidden = [prefix for found in _SOURCES.finditer(text) for prefix in _prefixes(found[1])]
    mapped = [one for found in _MAPS.finditer(text) for one in _mapped(found[1])]
    return Ours(False, tuple(dict.fromkeys(hidden)), tuple(dict.fromkeys(mapped)))


def _prefixes(words: str) -> list[Prefix]:
    try:
        return [Prefix.parse(word.strip()) for word in words.split(",")]
    except ValueError:  # nobody's rendering after all
        return []


def _mapped(words: str) -> list[Mapped]:
    try:
        pairs = [tuple(Prefix.parse(word) for word in pair.split(" : ", 1)) for pair in words.split(", ")]
        return [Mapped(seen, real) for seen, real in pairs]
    except ValueError:
        return []
