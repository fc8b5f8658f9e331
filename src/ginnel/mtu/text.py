"""
A stack as a person writes it: `gre+key`, `gre+esp(aes256gcm16)`, `wireguard`.

    stack   = tunnel { "+" option } { "+" tunnel { "+" option } } [ "+pppoe" ]          the innermost tunnel first
    tunnel  = gre | gretap | ip6gre | ip6gretap | gre-in-udp | gretap-in-udp | ipip | sit | ip6tnl | eoip | wireguard
            | esp(SUITE [, transport | tunnel] [, nat-t])
    option  = key | csum | seq | vlan | udp | encaplimit | ipv4 | ipv6                   of the tunnel before it

So `gre+key+esp(aes256gcm16)` is keyed GRE under ESP, and `gre+wireguard` is GRE through a WireGuard tunnel. `ipv4` and `ipv6`
say what the tunnel's delivery header is; without them it is as asked for the outermost, and for those inside what the tunnel
around them is delivered over, where it carries that.

ESP is in transport mode when a tunnel lies inside (its delivery header serves both), in tunnel mode when nothing does.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Literal

from ginnel.mtu import esp, stacks
from ginnel.mtu.layers import Family, Layer, Stack, StackError

#: Tunnel words: (kind, family that the word itself names, GRE in UDP).
_PLAIN: dict[str, tuple[stacks.PlainKind, Family | None, bool]] = {
    "gre": ("gre", None, False),
    "ip6gre": ("gre", 6, False),
    "gretap": ("gretap", None, False),
    "ip6gretap": ("gretap", 6, False),
    "gre-in-udp": ("gre", None, True),
    "gretap-in-udp": ("gretap", None, True),
    "ipip": ("ipip", 4, False),
    "sit": ("sit", 4, False),
    "ip6tnl": ("ip6tnl", 6, False),
}
_OTHERS = ("eoip", "wireguard", "esp")
_OPTIONS = ("key", "csum", "seq", "vlan", "udp", "encaplimit", "ipv4", "ipv6")
#: What else people write, and what they mean.
_ALIASES = {
    "wg": "wireguard",
    "4in4": "ipip",
    "6in4": "sit",
    "4in6": "ip6tnl",
    "6in6": "ip6tnl",
    "gre-udp": "gre-in-udp",
    "greudp": "gre-in-udp",
    "eoipv6": "eoip+ipv6",
    "checksum": "csum",
    "sequence": "seq",
    "ikey": "key",
    "okey": "key",
    "icsum": "csum",
    "ocsum": "csum",
    "iseq": "seq",
    "oseq": "seq",
}
#: The kernel gives up on deeper nesting (IP_TUNNEL_RECURSION_LIMIT).
MAX_DEPTH = 5
#: Far more than the longest stack that makes sense.
_MAX_TEXT = 400


@dataclass(slots=True)
class _Tunnel:
    """One tunnel of the text; kind "esp" with its suite, "eoip", "wireguard", or a plain one."""

    word: str
    options: set[str] = field(default_factory=set)
    suite: esp.Suite | None = None
    mode: esp.Mode | Literal[""] = ""
    nat_t: bool = False


@dataclass(frozen=True, slots=True)
class Described:
    """A stack whose outermost family is still open; *families* are those that it exists over."""

    text: str
    tunnels: tuple[_Tunnel, ...]
    pppoe: bool
    families: tuple[Family, ...]

    def over(self, family: Family) -> Stack:
        """The stack over *family*; StackError when there is none."""
        if family not in self.families:
            raise StackError(f"{self.text} over IPv{family}: it is over IPv{self.families[0]}\n  hint: leave out --over")
        return _build(self, family)


def describe(text: str) -> Described:
    """
    Read *text*.

    Raises:
        StackError: what was expected and found, with a hint.
    """
    tunnels: list[_Tunnel] = []
    words = _words(text)
    pppoe = words[-1] == "pppoe"
    for word in words[:-1] if pppoe else words:
        if word == "pppoe":
            raise StackError("pppoe: it is the link's own and stands last\n  hint: for example gre+pppoe")
        if word in _OPTIONS:
            if not tunnels:
                raise StackError(f"{word}: an option stands behind the tunnel that it belongs to\n  hint: for example gre+{word}")
            tunnels[-1].options.add(word)
        else:
            tunnels.append(_tunnel(word))
    if not tunnels:
        raise StackError("expected a tunnel before +pppoe, such as gre+pppoe")
    if len(tunnels) > MAX_DEPTH:
        raise StackError(f"{len(tunnels)} tunnels in one another; Linux gives up after {MAX_DEPTH}")
    shown = Described("+".join(words), tuple(tunnels), pppoe, (4, 6))
    found: list[Family] = []
    refused: StackError | None = None
    families: tuple[Family, ...] = (4, 6)
    for family in families:
        try:
            _build(shown, family)
        except StackError as error:
            # What it says over IPv4 is what a person meant, unless the stack is IPv6's own.
            refused = error if refused is None or _named_family(tunnels[-1]) == family else refused
        else:
            found.append(family)
    if not found:
        assert refused is not None
        raise refused
    return Described(shown.text, shown.tunnels, pppoe, tuple(found))


def parse(text: str, over: Family | None = None) -> Stack:
    """
    The stack that *text* describes, over *over* (IPv4 where both exist and none is named).

    Raises:
        StackError: what was expected and found, with a hint.
    """
    described = describe(text)
    return described.over(over if over is not None else described.families[0])


# ---------------------------------------------------------------- reading


def _words(text: str) -> list[str]:
    """The words between the `+` outside brackets, aliases replaced."""
    if len(text) > _MAX_TEXT:
        raise StackError(f"a stack of {len(text)} characters; {_MAX_TEXT} are enough for any")
    found, depth = [""], 0
    for character in text.lower():
        depth += (character == "(") - (character == ")")
        if depth < 0 or depth > 1:
            raise StackError(f"{text}: the brackets do not match\n  hint: for example gre+esp(aes256gcm16,tunnel)")
        if character == "+" and depth == 0:
            found.append("")
        elif not character.isspace():
            found[-1] += character
    if depth:
        raise StackError(f"{text}: a bracket is not closed\n  hint: for example gre+esp(aes256gcm16,tunnel)")
    if "" in found:
        raise StackError(
            f"'{text}': expected a tunnel or an option on both sides of every +\n"
            "  hint: for example gre, gre+key, gre+esp(aes256gcm16)"
        )
    return [word for one in found for word in _ALIASES.get(one, one).split("+")]


def _tunnel(word: str) -> _Tunnel:
    if word.startswith("esp(") and word.endswith(")"):
        return _esp(word)
    if word == "esp":
        raise StackError("esp: which suite?\n  hint: for example esp(aes256gcm16) or esp(aes128-sha256,tunnel,nat-t)")
    if word in _PLAIN or word in _OTHERS:
        return _Tunnel(word)
    known = (*_PLAIN, *_OTHERS, *_OPTIONS, *_ALIASES, "pppoe")
    close = difflib.get_close_matches(word.partition("(")[0], known, n=1)
    hint = (
        f"did you mean {close[0]}?" if close else f"tunnels are {', '.join((*_PLAIN, *_OTHERS))}; options {', '.join(_OPTIONS)}"
    )
    raise StackError(f"'{word}' is neither a tunnel nor an option\n  hint: {hint}")


def _esp(word: str) -> _Tunnel:
    suite, *modes = word[4:-1].split(",")
    found = _Tunnel("esp", suite=esp.suite(suite))
    for mode in modes:
        match mode:
            case "transport" | "tunnel":
                if found.mode not in {"", mode}:
                    raise StackError(f"{word}: transport and tunnel exclude each other")
                found.mode = mode
            case "nat-t" | "natt" | "udp":
                found.nat_t = True
            case _:
                raise StackError(f"{word}: expected transport, tunnel or nat-t behind the suite, found '{mode}'")
    return found


# ---------------------------------------------------------------- building


def _build(described: Described, family: Family) -> Stack:
    """From the outermost tunnel inwards."""
    layers: list[Layer] = [stacks.PPPOE] if described.pppoe else []
    tunnels = described.tunnels
    around: Stack | None = None
    shared = False  # the delivery header of the ESP around in transport mode is that of the tunnel inside
    for position in range(len(tunnels) - 1, -1, -1):
        tunnel = tunnels[position]
        inside = tunnels[position - 1] if position else None
        own = _family_of(tunnel, family, around, shared=shared)
        stack, transport = _one(tunnel, own, inside)
        layers += stack.layers[1:] if shared else stack.layers
        around, shared = stack, transport
    assert around is not None
    outermost = _family_of(tunnels[-1], family, None, shared=False)
    return Stack(described.text, tuple(layers), around.carries, outermost)


def _named_family(tunnel: _Tunnel) -> Family | None:
    """The family that a tunnel's own words name."""
    own = _PLAIN[tunnel.word][1] if tunnel.word in _PLAIN else None
    if {"ipv4", "ipv6"} <= tunnel.options:
        raise StackError(f"{tunnel.word}: ipv4 and ipv6 exclude each other")
    named: Family | None = 4 if "ipv4" in tunnel.options else 6 if "ipv6" in tunnel.options else None
    if named is not None and own is not None and named != own:
        raise StackError(f"{tunnel.word}+ipv{named}: {tunnel.word} is over IPv{own} by its name")
    return own if named is None else named


def _family_of(tunnel: _Tunnel, family: Family, around: Stack | None, *, shared: bool) -> Family:
    """What *tunnel* is delivered over: by its words, else as asked (outermost), else what the tunnel around it carries."""
    named = _named_family(tunnel)
    if around is None:
        if named is not None and named != family:
            raise StackError(f"{tunnel.word} is over IPv{named}, not IPv{family}\n  hint: leave out --over")
        return family
    if shared:
        if named is not None and named != around.family:
            raise StackError(
                f"{tunnel.word} over IPv{named} under ESP over IPv{around.family}: in transport mode they share one header\n"
                f"  hint: esp(...,tunnel), or the same family for both"
            )
        assert around.family is not None
        return around.family
    if named is None:
        named = around.family if around.family in around.carries else min(around.carries)
    assert named is not None
    if named not in around.carries:
        raise StackError(f"{tunnel.word} over IPv{named} through {around.text}: it carries IPv{min(around.carries)} alone")
    return named


def _one(tunnel: _Tunnel, family: Family, inside: _Tunnel | None) -> tuple[Stack, bool]:
    """One tunnel's stack, and whether it is ESP in transport mode."""
    options = tunnel.options - {"ipv4", "ipv6"}
    if tunnel.word in _PLAIN:
        kind, _, in_udp = _PLAIN[tunnel.word]
        flags = {name: name in options for name in ("key", "csum", "seq", "vlan", "encaplimit")}
        return stacks.plain(kind, family, udp=in_udp or "udp" in options, **flags), False
    if tunnel.word == "esp":
        return _one_esp(tunnel, family, options, inside)
    allowed = {"vlan"} if tunnel.word == "eoip" else set[str]()
    if options - allowed:
        raise StackError(f"{tunnel.word}+{min(options - allowed)}: {tunnel.word} has no such option")
    if tunnel.word == "eoip":
        layers = [stacks.ip(family), Layer("EoIP", 8 if family == 4 else 2), stacks.ETHERNET]
        layers += [stacks.VLAN] if options else []
        return Stack("eoip", tuple(layers), frozenset({4, 6}), family), False
    return stacks.wireguard(family), False


def _one_esp(tunnel: _Tunnel, family: Family, options: set[str], inside: _Tunnel | None) -> tuple[Stack, bool]:
    if options - {"udp"}:
        raise StackError(f"esp+{min(options - {'udp'})}: esp has no such option\n  hint: esp(SUITE, transport|tunnel, nat-t)")
    transport = tunnel.mode != "tunnel" if inside is not None else tunnel.mode == "transport"
    if transport and inside is None:
        raise StackError(
            f"{tunnel.word}(...,transport): transport mode protects a tunnel (or two hosts' own traffic), and none lies inside\n"
            "  hint: gre+esp(...,transport), or esp(...,tunnel)"
        )
    if transport and inside is not None and inside.word == "esp":
        raise StackError("esp in esp: in transport mode that is one header after another\n  hint: esp(...,tunnel)")
    assert tunnel.suite is not None
    in_udp = [stacks.UDP] if tunnel.nat_t or options else []
    layers = (stacks.ip(family), *in_udp, *tunnel.suite.layers())
    return Stack(f"esp({tunnel.suite.text})", layers, frozenset({4, 6}), family), transport
