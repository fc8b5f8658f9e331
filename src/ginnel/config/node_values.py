"""
The value of each key of a `[tunnel.NAME]`, by itself: what is taken, and what is said of anything else.

`READERS` is the table: each reader takes what TOML gave and returns what the key means, or raises `BadValueError` with what was
expected, what was found, and how to mend it. What values mean for one another is `node_sense`.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from ginnel.config import words
from ginnel.config.wgquick import is_interface_name

IPV4_MTU_MIN = 68
IPV6_MTU_MIN = 1280
_U32_MAX = 2**32 - 1
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*")


class BadValueError(ValueError):
    """One value that cannot be taken: what was expected and found, and a hint. *at_key*: its key is what is wrong."""

    def __init__(self, message: str, hint: str = "", *, at_key: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.at_key = at_key


def shown(value: object) -> str:
    """A value as it would stand in the file, without control characters and not without end."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            text = f'"{value}"'
        case list():
            text = "a list"
        case dict():
            text = "a table"
        case _:
            text = str(value)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _number(value: object, least: int, most: int, also: str = "") -> int:
    """A number of TOML, or of a text (decimal, or hexadecimal with 0x)."""
    number = value
    if isinstance(value, str) and re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10}", value):
        number = int(value, 16) if value[:2] in {"0x", "0X"} else int(value)
    if isinstance(number, int) and not isinstance(number, bool) and least <= number <= most:
        return number
    raise BadValueError(f"expected {also}a number from {least} to {most}, found {shown(value)}")


def flag(value: object) -> bool:
    """true or false."""
    if isinstance(value, bool):
        return value
    raise BadValueError(f"expected true or false, found {shown(value)}")


def _ttl(value: object) -> int:
    return 0 if value == "inherit" else _number(value, 0, 255, '"inherit" or ')


def _tos(value: object) -> int | None:
    if value == "inherit":
        return None
    return _number(value, 0, 255, '"inherit" or ')


def _key(value: object) -> int:
    """A number or a dotted quad, as iproute2 takes it."""
    if isinstance(value, str) and "." in value:
        try:
            return int(ipaddress.IPv4Address(value))
        except ValueError:
            raise BadValueError(f"expected a number or four numbers with dots, such as 10.0.0.7, found {shown(value)}") from None
    return _number(value, 0, _U32_MAX, "four numbers with dots or ")


def _encaplimit(value: object) -> int | None:
    return None if value == "none" else _number(value, 0, 255, '"none" or ')


def _flowlabel(value: object) -> int | None:
    return None if value == "inherit" else _number(value, 0, 0xFFFFF, '"inherit" or ')


def _mtu(value: object) -> int | None:
    return None if value == "auto" else _number(value, IPV4_MTU_MIN, 65535, '"auto" or ')


def _device(value: object) -> str:
    if isinstance(value, str) and is_interface_name(value):
        return value
    raise BadValueError(f"expected the name of an interface, found {shown(value)}")


def _encapsulation(value: object) -> Literal["udp"]:
    if value == "udp":
        return "udp"
    hint = 'on the wire FOU with ipproto 47 is GRE in UDP: write "udp"' if str(value) in {"fou", "gue"} else ""
    raise BadValueError(f'expected "udp", found {shown(value)}', hint)


def _port(value: object) -> int:
    return _number(value, 1, 65535)


def _source_port(value: object) -> int:
    return 0 if value == "auto" else _number(value, 1, 65535, '"auto" or ')


def _destination_port(value: object) -> int:
    return 0 if value == "learned" else _number(value, 1, 65535, '"learned" or ')


def _end(value: object) -> str:
    """One end of a tunnel: an address in its canonical form, "any", or (kept for `remote`) a host name."""
    if not isinstance(value, str):
        raise BadValueError(f"expected an address, found {shown(value)}")
    if value in {"any", "0.0.0.0", "::"}:
        return "any" if value == "any" else value
    if "%" in value:
        bare, _, device = value.partition("%")
        raise BadValueError(f"expected an address, found {shown(value)}", f'write "{bare}", and dev = "{device}"')
    if "/" in value:
        raise BadValueError(f"expected an address without a length, found {shown(value)}", f'write "{value.partition("/")[0]}"')
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        if ":" in value or value.replace(".", "").isdigit() or _HOST.fullmatch(value) is None:
            raise BadValueError(f"expected an address, found {shown(value)}") from None
        return value.lower()
    reason = _never_an_end(address)
    if reason:
        raise BadValueError(f"{value} cannot be an end of a tunnel: {reason}")
    return str(address)


def _never_an_end(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if address.is_multicast:
        return "it is a multicast address, and a tunnel here has one other end"
    if address.is_loopback:
        return "a loopback address never leaves the host"
    if address == ipaddress.IPv4Address("255.255.255.255"):
        return "it is the broadcast address"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return f"it is IPv4 written as IPv6: write {address.ipv4_mapped}"
    return ""


def _local(value: object) -> str:
    end = _end(value)
    if version_of(end) == 0 and end != "any":
        raise BadValueError(
            f'expected an address of this host, or "any", found {shown(value)}', "only `remote` may be a host name"
        )
    return end


def _list(value: object, of: Callable[[object], str], what: str) -> tuple[str, ...]:
    """A list; the mistakes of all its items at once, each with its index."""
    if not isinstance(value, list):
        hint = f"write [{shown(value)}]" if isinstance(value, str) else ""
        raise BadValueError(f"expected a list such as {what}, found {shown(value)}", hint)
    out: dict[str, None] = {}
    wrong: dict[str | int, BadValueError] = {}
    for index, item in enumerate(value):
        try:
            text = of(item)
        except BadValueError as bad:
            wrong[index] = bad
            continue
        if text in out:
            wrong[index] = BadValueError(f"{text} is there already")
        out[text] = None
    if wrong:
        raise BadItemsError(wrong)
    return tuple(out)


class BadItemsError(Exception):
    """Mistakes in the items of a list, by their index, or of a table, by their key."""

    def __init__(self, wrong: Mapping[str | int, BadValueError]) -> None:
        super().__init__(wrong)
        self.wrong = wrong


def _address(value: object) -> str:
    """An address with its length; without one, the address alone."""
    try:
        interface = ipaddress.ip_interface(value) if isinstance(value, str) and "%" not in value else None
    except ValueError:
        interface = None
    if interface is None:
        raise BadValueError(f"expected an address such as 10.10.10.1/30, found {shown(value)}")
    address, network = interface.ip, interface.network
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise BadValueError(f"{address} cannot be an address of a tunnel")
    if isinstance(network, ipaddress.IPv4Network) and network.prefixlen < 31:
        if address == network.network_address:
            raise BadValueError(
                f"{interface} is the network itself, not an address in it", f"write {network[1]}/{network.prefixlen}"
            )
        if address == network.broadcast_address:
            raise BadValueError(f"{interface} is the broadcast address of its network", f"write {network[1]}/{network.prefixlen}")
    return str(interface)


def _route(value: object) -> str:
    if not isinstance(value, str):
        raise BadValueError(f"expected a prefix such as 10.20.0.0/24, found {shown(value)}")
    try:
        return str(words.Route.parse(value))
    except ValueError as error:
        raise BadValueError(*error.args[:2]) from None


def _rule(value: object) -> str:
    if not isinstance(value, str):
        raise BadValueError(f'expected a rule such as "from 203.0.113.64/28 table 64", found {shown(value)}')
    try:
        return str(words.Rule.parse(value))
    except ValueError as error:
        raise BadValueError(*error.args[:2]) from None


def _addresses(value: object) -> tuple[str, ...]:
    return _list(value, _address, '["10.10.10.1/30"]')


def _routes(value: object) -> tuple[str, ...]:
    return _list(value, _route, '["10.20.0.0/24"]')


def _rules(value: object) -> tuple[str, ...]:
    return _list(value, _rule, '["from 203.0.113.64/28 table 64"]')


def _keepalive(value: object) -> Mapping[str, Any]:
    """Seconds, or a table; None of its parts is filled in yet."""
    if isinstance(value, dict):
        given: dict[str, Any] = {}
        wrong: dict[str | int, BadValueError] = {}
        for key, item in value.items():
            try:
                name, given_item = _keepalive_item(key, item)
                given[name] = given_item
            except BadValueError as bad:
                wrong[key] = bad
        if wrong:
            raise BadItemsError(wrong)
        return given
    try:
        return {"interval_s": _number(value, 0, 32767)}
    except BadValueError:
        message = f"expected seconds from 1 to 32767 (0: none), or a table, found {shown(value)}"
        raise BadValueError(message, "keepalive = 10, or keepalive = { interval = 10, retries = 3 }") from None


def _keepalive_item(key: str, item: object) -> tuple[str, object]:
    """One key of the table, under the name that `Keepalive` has for it."""
    match key:
        case "interval":
            return "interval_s", _number(item, 1, 32767)
        case "retries":
            return "retries", _number(item, 0, 255)
        case "dialect" if item in ("cisco", "mikrotik"):
            return "dialect", item
        case "dialect":
            raise BadValueError(f'expected "cisco" or "mikrotik", found {shown(item)}')
        case _:
            hint = closest(key, ("interval", "retries", "dialect"))
            raise BadValueError("there is no such option: expected interval, retries or dialect", hint, at_key=True)


#: Every key of a [tunnel.NAME] and what reads its value, under iproute2's names where it has one.
READERS: dict[str, Callable[[object], Any]] = {
    "local": _local,
    "remote": _end,
    "ttl": _ttl,
    "tos": _tos,
    "key": _key,
    "ikey": _key,
    "okey": _key,
    "csum": flag,
    "icsum": flag,
    "ocsum": flag,
    "seq": flag,
    "iseq": flag,
    "oseq": flag,
    "pmtudisc": flag,
    "ignore-df": flag,
    "dev": _device,
    "fwmark": lambda value: _number(value, 0, _U32_MAX),
    "encaplimit": _encaplimit,
    "flowlabel": _flowlabel,
    "encapsulation": _encapsulation,
    "encap-sport": _source_port,
    "encap-dport": _destination_port,
    "listen": _port,
    "address": _addresses,
    "routes": _routes,
    "rules": _rules,
    "mtu": _mtu,
    "mss-clamp": flag,
    "keepalive": _keepalive,
    "tolerant": flag,
}
#: The same by name, for documentation and its test.
KEYS = tuple(READERS)
#: iproute2 has two names for some.
ALIASES = {"hoplimit": "ttl", "tclass": "tos", "dsfield": "tos"}
#: Words of other programs and of iproute2's flags, and what they are here.
MEANT = {
    "nopmtudisc": "write pmtudisc = false",
    "noignore-df": "leave it out: it is so by default",
    "type": 'write kind = "gre"',
    "mode": 'write kind = "gre"',
    "encap": 'write encapsulation = "udp"',
    "source": "write local",
    "destination": "write remote",
    "endpoint": "write remote",
    "addresses": "write address",
    "route": "write routes",
    "rule": "write rules",
    "mss": "write mss-clamp = true: it follows the MTU",
    "link": "write dev",
}


def closest(word: str, known: tuple[str, ...] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word.lower(), known, n=1)
    return f"did you mean '{near[0]}'?" if near else ""


def version_of(end: str) -> Literal[0, 4, 6]:
    """IP version of a numeric end; 0 for a host name and for "any"."""
    if ":" in end:
        return 6
    return 4 if end.replace(".", "").isdigit() else 0
