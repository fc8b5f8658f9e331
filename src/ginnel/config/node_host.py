"""
What a node file asks of its host beside the tunnels: `[node]`, all of it undone by `down`.

    forward     the kernel passes packets on: true, or "ipv4" or "ipv6" alone (IPv6 hosts that forward stop listening to routers)
    sysctls     settings under net., each with the value it gets
    addresses   the host's own, on lo: a few (`is_few`) one by one, a larger prefix by one route of type local
    proxy       addresses that it answers ARP and NDP for on an interface: "203.0.113.64/28 dev eth0"
    nft         the inside of one table of the family inet, which is the node's own

The text of `nft` can become nothing but the inside of that table: no brace of it closes the table, and nothing is read from
elsewhere. What its rules say is nft's to judge, as a whole, before any of it holds.

Source: nft(8), lexical conventions: comments, strings without escapes, include.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ginnel.config.node_values import BadItemsError, BadValueError, shown
from ginnel.config.wgquick import is_interface_name
from ginnel.config.words import parse_prefix
from ginnel.units import Prefix

#: A prefix with more addresses is the host's by one route instead of address by address.
MAX_SINGLE_ADDRESSES = 16
#: A host answers ARP and NDP for so many others.
MAX_PROXIED = 1024
MAX_PREFIXES = 256
#: What makes the kernel pass packets on, by IP version.
FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
MAX_SYSCTLS = 64
NFT_MAX_BYTES = 1 << 16

#: sysctl's way: dots between parts, and slashes for dots inside of one (an interface's name may have some).
_SYSCTL = re.compile(r"net(\.[A-Za-z0-9_=+/-]{1,32}){2,5}")
_SYSCTL_VALUE = re.compile(r"[0-9A-Za-z_. -]{1,64}")


@dataclass(frozen=True, slots=True)
class HostConfig:
    """
    What is asked of the host; of nothing by default.

    forward: IP versions. sysctls: (name, value). addresses: prefixes. proxy: "PREFIX dev NAME". nft: the inside of a table.
    """

    forward: tuple[int, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    addresses: tuple[str, ...] = ()
    proxy: tuple[str, ...] = ()
    nft: str = ""


def is_few(prefix: Prefix) -> bool:
    """Whether its addresses are put on the host one by one."""
    return len(prefix.packed) * 8 - prefix.length <= MAX_SINGLE_ADDRESSES.bit_length() - 1


def addresses_in(prefix: Prefix) -> Iterator[Prefix]:
    """Every address of a prefix, as a prefix."""
    size = len(prefix.packed)
    first = int.from_bytes(prefix.packed, "big")
    for step in range(1 << (size * 8 - prefix.length)):
        yield Prefix((first + step).to_bytes(size, "big"), size * 8)


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a setting's name, as the directories of /proc/sys are called."""
    return tuple(part.replace("/", ".") for part in name.split("."))


def device_of(name: str) -> str:
    """The interface that a setting is of; empty: of the host."""
    parts = parts_of(name)
    device = parts[3] if len(parts) == 5 and parts[2] in {"conf", "neigh"} else ""
    return "" if device in {"all", "default"} else device


# ---------------------------------------------------------------- values


def _forward(value: object) -> tuple[int, ...]:
    match value:
        case True:
            return (4, 6)
        case False:
            return ()
        case "ipv4" | "ipv6":
            return (int(value[-1]),)
    raise BadValueError(f'expected true, false, "ipv4" or "ipv6", found {shown(value)}')


def _sysctls(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        hint = 'sysctls = { "net.ipv4.conf.all.rp_filter" = 2 }'
        raise BadValueError(f"expected a table of settings, found {shown(value)}", hint)
    if len(value) > MAX_SYSCTLS:
        raise BadValueError(f"expected at most {MAX_SYSCTLS} settings, found {len(value)}")
    wrong: dict[str | int, BadValueError] = {}
    found = []
    for name, setting in value.items():
        text = str(setting) if isinstance(setting, (int, str)) and not isinstance(setting, bool) else ""
        if _SYSCTL.fullmatch(name) is None or any(part in {"", ".", ".."} for part in parts_of(name)):
            hint = 'in quotes, as sysctl(8) has it: "net.ipv4.conf.all.rp_filter"' if name == "net" else ""
            wrong[name] = BadValueError(f"expected the name of a setting under net., found {shown(name)}", hint, at_key=True)
        elif _SYSCTL_VALUE.fullmatch(text) is None:
            wrong[name] = BadValueError(f"expected a number or a word, found {shown(setting)}")
        else:
            found.append((name, text))
    if wrong:
        raise BadItemsError(wrong)
    return tuple(found)


def _list(value: object, of: Callable[[str], str], sample: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise BadValueError(f"expected a list such as {sample}, found {shown(value)}")
    if len(value) > MAX_PREFIXES:
        raise BadValueError(f"expected at most {MAX_PREFIXES} of them, found {len(value)}")
    found: dict[str, None] = {}
    wrong: dict[str | int, BadValueError] = {}
    for index, item in enumerate(value):
        try:
            if not isinstance(item, str):
                raise BadValueError(f"expected a text such as {sample[1:-1]}, found {shown(item)}")
            text = of(item)
            if text in found:
                raise BadValueError(f"{text} is there already")
            found[text] = None
        except BadValueError as bad:
            wrong[index] = bad
    if wrong:
        raise BadItemsError(wrong)
    return tuple(found)


def _prefix(text: str) -> Prefix:
    try:
        prefix = parse_prefix(text)
    except ValueError as error:
        raise BadValueError(*error.args[:2]) from None
    first = prefix.packed[0]
    if prefix.length == 0 or first in (0, 127) or (first >= 224 if prefix.version == 4 else first == 0xFF):
        raise BadValueError(f"{prefix} cannot be a host's own")
    return prefix


def _own(text: str) -> str:
    return str(_prefix(text))


def _proxied(text: str) -> str:
    words = text.split()
    if len(words) != 3 or words[1] != "dev" or not is_interface_name(words[2]):
        raise BadValueError(f'expected a prefix and an interface such as "203.0.113.64/28 dev eth0", found {shown(text)}')
    prefix = _prefix(words[0])
    if len(prefix.packed) * 8 - prefix.length > MAX_PROXIED.bit_length() - 1:
        hint = "let the network route a prefix of this size to this host"
        raise BadValueError(f"{prefix} has more than {MAX_PROXIED} addresses, and each is answered for by itself", hint)
    return f"{prefix} dev {words[2]}"


def _nft(value: object) -> str:
    if not isinstance(value, str):
        raise BadValueError(f"expected the text of a table's chains, found {shown(value)}")
    if len(value.encode()) > NFT_MAX_BYTES:
        raise BadValueError(f"expected at most {NFT_MAX_BYTES >> 10} KiB")
    if why := _leaves_its_table(value):
        raise BadValueError(f"expected the inside of one table, {why}", "write chains and sets as they stand between its braces")
    return value


#: What the lexer of nft tells apart, as far as it matters here: comments, strings, words, everything else.
_TOKENS = re.compile(r'#[^\n]*|"[^"]*"|[A-Za-z_][A-Za-z0-9_./\\-]*|.', re.DOTALL)
_ALLOWED_CONTROL = frozenset("\n\t")


def _leaves_its_table(text: str) -> str:
    """Why *text* could become anything but the inside of one table; empty when it cannot."""
    if any((not character.isprintable() and character not in _ALLOWED_CONTROL) for character in text):
        return "found a control character"
    depth = 0
    tokens = [token for token in _TOKENS.findall(text) if token[0] not in "# \t\n"]
    if tokens[:1] == ["table"]:
        return "found the table itself"
    for token in tokens:
        match token:
            case "{":
                depth += 1
            case "}":
                depth -= 1
                if depth < 0:
                    return "found a brace that closes it"
            case '"':
                return "found a quote that does not end"
            case "include" | "define" | "redefine" | "undefine":
                return f"found {token}"
            case _ if "\\" in token and token[0] != '"':
                return "found a backslash"
    return "found a brace that nothing closes" if depth else ""


#: Every key of [node] beside `backend`, the field it fills, and what reads it.
READERS: Mapping[str, tuple[str, Callable[[object], Any]]] = {
    "forward": ("forward", _forward),
    "sysctls": ("sysctls", _sysctls),
    "addresses": ("addresses", lambda value: _list(value, _own, '["203.0.113.64/28"]')),
    "proxy": ("proxy", lambda value: _list(value, _proxied, '["203.0.113.64/28 dev eth0"]')),
    "nft": ("nft", _nft),
}


def from_plain(plain: Mapping[str, Any]) -> HostConfig:
    """The inverse of `dataclasses.asdict` by way of JSON; TypeError or ValueError for anything else."""
    return HostConfig(
        forward=tuple(plain["forward"]),
        sysctls=tuple((str(name), str(value)) for name, value in plain["sysctls"]),
        addresses=tuple(plain["addresses"]),
        proxy=tuple(plain["proxy"]),
        nft=str(plain["nft"]),
    )
