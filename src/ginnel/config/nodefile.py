"""
Node files: `node.toml`, all tunnels of one host, read into one checked value, with every mistake of the file at once.

    text -> tomllib -> each key by itself (form) -> each tunnel, then all of them together (sense) -> NodeConfig

A `[tunnel.NAME]` has a `kind` and the options of `ip link add NAME type KIND …` under iproute2's own names; NAME is the
interface. A hyphen and an underscore are the same letter in a key. What iproute2 leaves to the kernel has the kernel's default
here: TTL and flow label from the packet inside, TOS 0, path MTU discovery on. Two defaults differ, both because the kernel's
cost people packets: `encaplimit` is "none" (its ip6gre adds 8 bytes of Destination Options that some firewalls drop), and the
MSS of TCP connections through a tunnel is clamped.

Refused, each with its reason, is what would come up and then not work, or work until the second tunnel: the rules of VyOS
(two tunnels that cannot be told apart, any source without a key, a TTL without path MTU discovery, keys where there is no GRE,
too small an MTU for IPv6) and ours (a route to the remote through the tunnel itself, two tunnels with one address, ends
that never leave the host). Nothing is guessed: an unknown key is a mistake, with the nearest known one as a hint.

The places of keys in the text are only looked for when there is something to complain of.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, cast

from ginnel.config import words
from ginnel.config.node import GRE_IN_UDP_PORT, Backend, Encapsulation, Keepalive, NodeConfig, PlainConfig, PlainKind
from ginnel.config.positions import Path, Positions
from ginnel.config.wgquick import is_interface_name
from ginnel.errors import ConfigError, Mistake, Span
from ginnel.units import Prefix

#: A thousand tunnels are 200 KiB.
SIZE_MAX_BYTES = 1 << 24
#: A person mends the first mistakes and runs again.
MISTAKES_MAX = 100
#: One process carries them all; what it was measured with, and some.
TUNNELS_MAX = 10_000

IPV4_MTU_MIN = 68
IPV6_MTU_MIN = 1280
_U32_MAX = 2**32 - 1
_NAME = re.compile(r"[a-zA-Z0-9_=+.-]{1,64}")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*")
_SECRET = re.compile(r"private|preshared|psk|secret|password", re.IGNORECASE)

_KINDS: tuple[str, ...] = ("gre", "gretap", "ipip", "sit", "ip6tnl", "ip6gre", "ip6gretap")
_GRE_KINDS = frozenset({"gre", "gretap"})
#: What people write who know other programs.
_OTHER_KINDS = {
    "wireguard": "WireGuard has files of its own here: `ginnel up wg0` reads /etc/wireguard/wg0.conf",
    "gre6": 'write "ip6gre", or "gre" with IPv6 addresses',
    "gre-bridge": 'write "gretap"',
    "tap": 'write "gretap"',
    "ip6ip6": 'write "ip6tnl": it carries IPv4 and IPv6',
    "ipip6": 'write "ip6tnl": it carries IPv4 and IPv6',
    "6in4": 'write "sit"',
    "ip6ip": 'write "sit"',
    "4in6": 'write "ip6tnl"',
    "ipsec": "IPsec comes later",
}


class _BadError(ValueError):
    """One value that cannot be taken: what was expected and found, and a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class _Found(NamedTuple):
    """A mistake before its place is looked for."""

    path: Path
    message: str
    hint: str
    at_key: bool


def node_name(path: str) -> str | None:
    """What a node file is called (`…/edge.toml` is edge), or None when the path is not that of one."""
    base = path.rsplit("/", 1)[-1]
    stem = base.removesuffix(".toml")
    return stem if base != stem and is_node_name(stem) else None


def is_node_name(text: str) -> bool:
    """Whether *text* can name a node: it names sockets and records, so it is a plain word of at most 64 characters."""
    return _NAME.fullmatch(text) is not None and text not in {".", ".."}


def parse(text: str, path: str) -> NodeConfig:
    """
    Read a node file.

    Args:
        text: the whole file.
        path: where it lies: the name of the node is its last part without `.toml`, and messages begin with it.

    Raises:
        ConfigError: with every mistake found (at most MISTAKES_MAX), in the order of the file.
    """
    name = node_name(path)
    if name is None:
        hint = "at most 64 of a-z A-Z 0-9 _ = + . -, as in edge.toml"
        raise ConfigError(path, [Mistake("expected a name that ends in .toml", hint=hint)])
    if len(text) > SIZE_MAX_BYTES:
        raise ConfigError(path, [Mistake(f"expected at most {SIZE_MAX_BYTES >> 20} MiB")])
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, [_toml_mistake(str(error), text)]) from None
    reader = _Reader()
    config = reader.read(document, name, path)
    if reader.found:
        raise ConfigError(path, _placed(reader.found, text))
    return config


def _toml_mistake(message: str, text: str) -> Mistake:
    what, _, place = message.partition(" (at ")
    lines = text.split("\n")
    match = re.match(r"line (\d+), column (\d+)", place)
    span = Span(int(match[1]), int(match[2]), 1) if match else Span(len(lines), max(1, len(lines[-1])), 1)
    line = lines[min(span.line, len(lines)) - 1].rstrip("\r")
    hint = 'texts stand in quotes: key = "value"' if "Invalid value" in what else ""
    return Mistake(f"not TOML: {what[:1].lower()}{what[1:]}", span, hint, "" if _SECRET.search(line) else line)


def _placed(found: list[_Found], text: str) -> list[Mistake]:
    """With line, column and excerpt, in the order of the file."""
    positions = Positions(text)
    mistakes = []
    for each in dict.fromkeys(found):
        span = positions.key(each.path) if each.at_key else positions.value(each.path)
        line = positions.line(span)
        mistakes.append(Mistake(each.message, span, each.hint, "" if _SECRET.search(line) else line))
    mistakes.sort(key=lambda mistake: (mistake.span.line, mistake.span.column) if mistake.span else (0, 0))
    if len(mistakes) > MISTAKES_MAX:
        mistakes = [*mistakes[:MISTAKES_MAX], Mistake(f"and {len(mistakes) - MISTAKES_MAX} more")]
    return mistakes


# ---------------------------------------------------------------- values


def _shown(value: object) -> str:
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
    raise _BadError(f"expected {also}a number from {least} to {most}, found {_shown(value)}")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _BadError(f"expected true or false, found {_shown(value)}")


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
            raise _BadError(f"expected a number or four numbers with dots, such as 10.0.0.7, found {_shown(value)}") from None
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
    raise _BadError(f"expected the name of an interface, found {_shown(value)}")


def _encapsulation(value: object) -> Literal["udp"]:
    if value == "udp":
        return "udp"
    hint = 'on the wire FOU with ipproto 47 is GRE in UDP: write "udp"' if value in {"fou", "gue"} else ""
    raise _BadError(f'expected "udp", found {_shown(value)}', hint)


def _port(value: object) -> int:
    return _number(value, 1, 65535)


def _source_port(value: object) -> int:
    return 0 if value == "auto" else _number(value, 1, 65535, '"auto" or ')


def _destination_port(value: object) -> int:
    return 0 if value == "learned" else _number(value, 1, 65535, '"learned" or ')


def _end(value: object) -> str:
    """One end of a tunnel: an address in its canonical form, "any", or (kept for `remote`) a host name."""
    if not isinstance(value, str):
        raise _BadError(f"expected an address, found {_shown(value)}")
    if value in {"any", "0.0.0.0", "::"}:
        return "any" if value == "any" else value
    if "%" in value:
        bare, _, device = value.partition("%")
        raise _BadError(f"expected an address, found {_shown(value)}", f'write "{bare}", and dev = "{device}"')
    if "/" in value:
        raise _BadError(f"expected an address without a length, found {_shown(value)}", f'write "{value.partition("/")[0]}"')
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        if ":" in value or value.replace(".", "").isdigit() or _HOST.fullmatch(value) is None:
            raise _BadError(f"expected an address, found {_shown(value)}") from None
        return value.lower()
    reason = _never_an_end(address)
    if reason:
        raise _BadError(f"{value} cannot be an end of a tunnel: {reason}")
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
    if _version(end) == 0 and end != "any":
        raise _BadError(f'expected an address of this host, or "any", found {_shown(value)}', "only `remote` may be a host name")
    return end


def _list(value: object, of: Callable[[object], str], what: str) -> tuple[str, ...]:
    """A list; each item's mistake carries its index."""
    if not isinstance(value, list):
        hint = f"write [{_shown(value)}]" if isinstance(value, str) else ""
        raise _BadError(f"expected a list such as {what}, found {_shown(value)}", hint)
    out: dict[str, None] = {}
    for index, item in enumerate(value):
        try:
            text = of(item)
        except _BadError as bad:
            raise _BadItemError(index, bad) from None
        if text in out:
            raise _BadItemError(index, _BadError(f"{text} is there already"))
        out[text] = None
    return tuple(out)


class _BadItemError(_BadError):
    """A mistake in one item of a list."""

    def __init__(self, index: int, bad: _BadError) -> None:
        super().__init__(bad.message, bad.hint)
        self.index = index


def _address(value: object) -> str:
    """An address with its length; without one, the address alone."""
    try:
        interface = ipaddress.ip_interface(value) if isinstance(value, str) and "%" not in value else None
    except ValueError:
        interface = None
    if interface is None:
        raise _BadError(f"expected an address such as 10.10.10.1/30, found {_shown(value)}")
    address, network = interface.ip, interface.network
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise _BadError(f"{address} cannot be an address of a tunnel")
    if isinstance(network, ipaddress.IPv4Network) and network.prefixlen < 31:
        if address == network.network_address:
            raise _BadError(f"{interface} is the network itself, not an address in it", f"write {network[1]}/{network.prefixlen}")
        if address == network.broadcast_address:
            raise _BadError(f"{interface} is the broadcast address of its network", f"write {network[1]}/{network.prefixlen}")
    return str(interface)


def _route(value: object) -> str:
    if not isinstance(value, str):
        raise _BadError(f"expected a prefix such as 10.20.0.0/24, found {_shown(value)}")
    try:
        return str(words.Route.parse(value))
    except ValueError as error:
        raise _BadError(*error.args[:2]) from None


def _rule(value: object) -> str:
    if not isinstance(value, str):
        raise _BadError(f'expected a rule such as "from 203.0.113.64/28 table 64", found {_shown(value)}')
    try:
        return str(words.Rule.parse(value))
    except ValueError as error:
        raise _BadError(*error.args[:2]) from None


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
        for key, item in value.items():
            match key:
                case "interval":
                    given["interval_s"] = _number(item, 1, 32767)
                case "retries":
                    given["retries"] = _number(item, 0, 255)
                case "dialect" if item in {"cisco", "mikrotik"}:
                    given["dialect"] = item
                case "dialect":
                    raise _BadError(f'dialect: expected "cisco" or "mikrotik", found {_shown(item)}')
                case _:
                    hint = _closest(key, ("interval", "retries", "dialect"))
                    raise _BadError(f"expected interval, retries or dialect, found {_shown(key)}", hint)
        return given
    try:
        return {"interval_s": _number(value, 0, 32767)}
    except _BadError:
        message = f"expected seconds from 1 to 32767 (0: none), or a table, found {_shown(value)}"
        raise _BadError(message, "keepalive = 10, or keepalive = { interval = 10, retries = 3 }") from None


#: Every key of a [tunnel.NAME] and what reads its value, under iproute2's names where it has one.
_READERS: dict[str, Callable[[object], Any]] = {
    "local": _local,
    "remote": _end,
    "ttl": _ttl,
    "tos": _tos,
    "key": _key,
    "ikey": _key,
    "okey": _key,
    "csum": _flag,
    "icsum": _flag,
    "ocsum": _flag,
    "seq": _flag,
    "iseq": _flag,
    "oseq": _flag,
    "pmtudisc": _flag,
    "ignore-df": _flag,
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
    "mss-clamp": _flag,
    "keepalive": _keepalive,
    "tolerant": _flag,
}
#: The same by name, for documentation and its test.
KEYS = tuple(_READERS)
#: iproute2 has two names for some.
_ALIASES = {"hoplimit": "ttl", "tclass": "tos", "dsfield": "tos"}
_GRE_ONLY = ("key", "ikey", "okey", "csum", "icsum", "ocsum", "seq", "iseq", "oseq", "tolerant", "encapsulation")
_UDP_ONLY = ("encap-sport", "encap-dport", "listen")
#: Words of other programs and of iproute2's flags, and what they are here.
_MEANT = {
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

_MULTIPLE_END_HINT = "give them different keys (key = 1, key = 2 …), the same at the other ends"


def _closest(word: str, known: tuple[str, ...] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word.lower(), known, n=1)
    return f"did you mean '{near[0]}'?" if near else ""


def _version(end: str) -> Literal[0, 4, 6]:
    """IP version of a numeric end; 0 for a host name and for "any"."""
    if ":" in end:
        return 6
    return 4 if end.replace(".", "").isdigit() else 0


# ---------------------------------------------------------------- reading


@dataclass(slots=True)
class _Tunnel:
    """One tunnel while it is checked: what the file gives, by the keys as they are known here, and as they stand there."""

    name: str
    given: dict[str, Any] = field(default_factory=dict)
    spelled: dict[str, str] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)

    def path(self, key: str = "") -> Path:
        return ("tunnel", self.name, self.spelled.get(key, key)) if key else ("tunnel", self.name)

    def given_path(self, key: str) -> Path:
        """The key where it is given, else the tunnel."""
        return self.path(key if key in self.given else "")

    def has(self, *keys: str) -> str:
        """The first of *keys* that is given and on, or nothing."""
        return next((key for key in keys if key in self.given and self.given[key] is not False), "")


class _Reader:
    """Form, then sense: what is wrong in form is not judged again for its sense."""

    def __init__(self) -> None:
        self.found: list[_Found] = []
        self.tunnels: list[tuple[_Tunnel, PlainConfig]] = []

    def read(self, document: dict[str, Any], name: str, path: str) -> NodeConfig:
        for key in document:
            if key not in {"node", "tunnel"}:
                hint = _closest(key, ("node", "tunnel")) or "a node file has [node] and [tunnel.NAME]"
                if key in {"network", "link", "lab", "expect"}:
                    hint = "this looks like a network file: `ginnel lab` rehearses it; a node file has [tunnel.NAME]"
                self._mistake((key,), f"expected node or tunnel, found {_shown(key)}", hint, at_key=True)
        backend = self._node(document.get("node", {}))
        tables = document.get("tunnel", {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            self._mistake(("tunnel",), "tunnel: expected tables such as [tunnel.gre1]", "each tunnel has a name")
            tables = {}
        if not tables and not self.found:
            self._mistake((), "no tunnel in it", 'begin with [tunnel.gre1] and kind = "gre"')
        if len(tables) > TUNNELS_MAX:
            self._mistake(("tunnel",), f"expected at most {TUNNELS_MAX} tunnels, found {len(tables)}")
            tables = {}
        for tunnel_name, table in tables.items():
            self._tunnel(tunnel_name, table)
        if not self.found:
            self._together()
        return NodeConfig(name=name, path=path, backend=backend, plain=tuple(config for _, config in self.tunnels))

    def _mistake(self, path: Path, message: str, hint: str = "", *, at_key: bool = False) -> None:
        self.found.append(_Found(path, message, hint, at_key))

    def _node(self, table: object) -> Backend:
        if not isinstance(table, dict):
            self._mistake(("node",), f"node: expected a table, found {_shown(table)}")
            return "auto"
        for key in table:
            if key != "backend":
                self._mistake(
                    ("node", key), f"node: expected backend, found {_shown(key)}", _closest(key, ("backend",)), at_key=True
                )
        backend = table.get("backend", "auto")
        if backend not in {"auto", "engine", "kernel"}:
            message = f'node.backend: expected "auto", "engine" or "kernel", found {_shown(backend)}'
            self._mistake(("node", "backend"), message, _closest(str(backend), ("auto", "engine", "kernel")))
            return "auto"
        return cast(Backend, backend)

    # -- one tunnel

    def _tunnel(self, name: str, table: dict[str, Any]) -> None:
        tunnel = _Tunnel(name)
        before = len(self.found)
        if not is_interface_name(name):
            message = f"expected the name of an interface, found {_shown(name)}"
            self._mistake(tunnel.path(), message, "at most 15 of a-z A-Z 0-9 _ = + . -, as in gre1", at_key=True)
        kind = self._kind(tunnel, table)
        for spelled, value in table.items():
            if spelled != "kind":
                self._value(tunnel, spelled, value)
        if kind is None or len(self.found) > before:
            return
        for path, message, hint, at_key in _sense(tunnel, *kind):
            self._mistake(path, f"tunnel.{name}{message}", hint, at_key=at_key)
        if len(self.found) == before:
            self.tunnels.append((tunnel, _config(tunnel, *kind)))

    def _kind(self, tunnel: _Tunnel, table: dict[str, Any]) -> tuple[PlainKind, Literal[0, 4, 6]] | None:
        """The kind, and the delivery header's version where the kind says it."""
        match table.get("kind"):
            case None:
                hint = f'add kind = "gre" (or {", ".join(_KINDS[1:5])})'
                self._mistake(tunnel.path(), f"tunnel.{tunnel.name} has no kind", hint, at_key=True)
            case "gre" | "gretap" as kind:
                return kind, 0
            case "ip6gre" | "ip6gretap" as kind:
                return ("gre" if kind == "ip6gre" else "gretap"), 6
            case "ipip" | "sit" as kind:
                return kind, 4
            case "ip6tnl":
                return "ip6tnl", 6
            case other:
                hint = _OTHER_KINDS.get(str(other).lower(), "") or _closest(str(other), _KINDS)
                message = f"tunnel.{tunnel.name}.kind: expected one of {', '.join(_KINDS)}, found {_shown(other)}"
                self._mistake(tunnel.path("kind"), message, hint)
        return None

    def _value(self, tunnel: _Tunnel, spelled: str, value: object) -> None:
        key = spelled.replace("_", "-")
        key = _ALIASES.get(key, key)
        where = f"tunnel.{tunnel.name}.{spelled}"
        path: Path = ("tunnel", tunnel.name, spelled)
        if key == "ipsec":
            hint = "take [tunnel.NAME.ipsec] out to have the tunnel unprotected: then everybody on the way can read it"
            self._mistake(path, f"{where} comes with GRE over IPsec, which is not built yet", hint, at_key=True)
            return
        reader = _READERS.get(key)
        if reader is None:
            hint = _MEANT.get(key, "") or _closest(key, _READERS)
            self._mistake(path, f"{where}: there is no such option", hint, at_key=True)
            return
        if key in tunnel.spelled:
            self._mistake(path, f"{where}: {tunnel.spelled[key]} says the same already", at_key=True)
            return
        tunnel.spelled[key] = spelled
        try:
            tunnel.given[key] = reader(value)
        except _BadItemError as bad:
            self._mistake((*path, bad.index), f"{where}[{bad.index}]: {bad.message}", bad.hint)
        except _BadError as bad:
            self._mistake(path, f"{where}: {bad.message}", bad.hint)

    # -- all tunnels

    def _together(self) -> None:
        """What is wrong only because of another tunnel of the file."""
        ends: dict[object, str] = {}
        addresses: dict[str, str] = {}
        networks: dict[Prefix, str] = {}
        routes: dict[tuple[str, str, str], str] = {}
        for tunnel, config in self.tunnels:
            other = ends.setdefault(_identity(config), tunnel.name)
            if other != tunnel.name:
                self._mistake(tunnel.path("remote"), *_same_ends(tunnel.name, other, config))
            for index, text in enumerate(config.address):
                where = f"tunnel.{tunnel.name}.address[{index}]"
                bare = text.partition("/")[0]
                if (other := addresses.setdefault(bare, tunnel.name)) != tunnel.name:
                    hint = "each end of each tunnel has an address of its own"
                    self._mistake((*tunnel.path("address"), index), f"{where}: {bare} is the address of {other} already", hint)
                    continue
                network = Prefix.parse(text)
                if network.length == len(network.packed) * 8 or ipaddress.ip_address(network.packed).is_link_local:
                    continue
                if (other := networks.setdefault(network, tunnel.name)) != tunnel.name:
                    message = f"{where}: {network} is the network of {other} already, and packets to it take one way only"
                    self._mistake((*tunnel.path("address"), index), message, "each tunnel has a network of its own")
            for index, text in enumerate(config.routes):
                route = words.Route.parse(text)
                key = (str(route.prefix), route.table, str(route.metric))
                if (other := routes.setdefault(key, tunnel.name)) != tunnel.name:
                    message = f"tunnel.{tunnel.name}.routes[{index}]: {route.prefix} goes through {other} already"
                    hint = f'give one of them a metric: "{route.prefix} metric 20" is taken when the other is gone'
                    self._mistake((*tunnel.path("routes"), index), message, hint)


def _identity(config: PlainConfig) -> object:
    """
    What tells this tunnel's packets from those of others; two tunnels with the same are one to the receiver.

    UDP ports are not part of it: a NAT makes of them what it wants.
    """
    return (config.family, config.kind, config.encapsulation is not None, config.local, config.remote, config.ikey, config.dev)


def _same_ends(name: str, other: str, config: PlainConfig) -> tuple[str, str]:
    ends = f"from {config.remote} to {config.local}"
    if config.kind not in _GRE_KINDS:
        message = f"tunnel.{name}: packets {ends} are those of {other} already, and {config.kind} has no keys to tell them apart"
        return message, 'use kind = "gre" with keys, or other addresses'
    if config.ikey is None:
        return f"tunnel.{name}: packets {ends} without a key are those of {other} already", _MULTIPLE_END_HINT
    return f"tunnel.{name}: packets {ends} with key {config.ikey} are those of {other} already", _MULTIPLE_END_HINT


# ---------------------------------------------------------------- sense

#: Path, message (after the tunnel's name), hint, whether the key is meant rather than its value.
_Complaint = tuple[Path, str, str, bool]


def _family(tunnel: _Tunnel, version: Literal[0, 4, 6]) -> Literal[4, 6]:
    """Of the delivery header: what the kind says, else what the addresses say, else IPv4."""
    for end in (tunnel.given.get("local", "any"), tunnel.given.get("remote", "any")):
        version = version or _version(end)
    return version or 4


def _sense(tunnel: _Tunnel, kind: PlainKind, version: Literal[0, 4, 6]) -> Iterator[_Complaint]:
    """What is wrong with one tunnel whose values are all well formed."""
    family = _family(tunnel, version)
    yield from _options_of_the_kind(tunnel, kind, family)
    yield from _ends(tunnel, kind, family)
    yield from _header(tunnel, family)
    yield from _inside(tunnel, kind)
    yield from _recursion(tunnel)


def _options_of_the_kind(tunnel: _Tunnel, kind: PlainKind, family: Literal[4, 6]) -> Iterator[_Complaint]:
    given = tunnel.given
    if kind not in _GRE_KINDS:
        for key in (*_GRE_ONLY, "keepalive"):
            if key in given:
                hint = f'leave it out, or use kind = "gre": {kind} has no header to hold it'
                yield tunnel.path(key), f".{tunnel.spelled[key]} is an option of GRE, and this is {kind}", hint, True
    if "ignore-df" in given and kind not in _GRE_KINDS:
        yield tunnel.path("ignore-df"), f".ignore-df is an option of gre and gretap, and this is {kind}", "leave it out", True
    if kind == "gretap" and "keepalive" in given:
        yield tunnel.path("keepalive"), ".keepalive is an IP packet in GRE, and gretap carries Ethernet", "leave it out", True
    for key in ("encaplimit", "flowlabel"):
        if key in given and family == 4:
            yield tunnel.path(key), f".{tunnel.spelled[key]} is of IPv6, and this tunnel goes over IPv4", "leave it out", True
    for key in ("pmtudisc", "ignore-df"):
        if key in given and family == 6:
            hint = "leave it out: IPv6 packets are never fragmented on the way"
            yield tunnel.path(key), f".{tunnel.spelled[key]} is of IPv4, and this tunnel goes over IPv6", hint, True
    if "encapsulation" not in given:
        for key in _UDP_ONLY:
            if key in given:
                yield tunnel.path(key), f".{tunnel.spelled[key]} is of GRE in UDP", 'add encapsulation = "udp"', True
    if given.get("encaplimit") is not None and given.get("encapsulation"):
        yield tunnel.path("encaplimit"), ".encaplimit is not sent in UDP", "leave it out", True


def _ends(tunnel: _Tunnel, kind: PlainKind, family: Literal[4, 6]) -> Iterator[_Complaint]:
    given = tunnel.given
    local, remote = given.get("local", "any"), given.get("remote", "any")
    for key, end in (("local", local), ("remote", remote)):
        if _version(end) not in {0, family}:
            other = "remote" if key == "local" else "local"
            found = f"{end} is IPv{_version(end)}"
            why = (
                f"{other} is IPv{family}" if _version(given.get(other, "any")) == family else f"the tunnel goes over IPv{family}"
            )
            hint = "both ends are of one version"
            if kind in {"ipip", "sit", "ip6tnl"}:
                better = {"ipip": '"ip6tnl"', "sit": '"ip6tnl"', "ip6tnl": '"ipip" (IPv4 inside) or "sit" (IPv6 inside)'}[kind]
                hint = f"{kind} goes over IPv{family}; over IPv{_version(end)} use kind = {better}"
            yield tunnel.path(key), f".{key}: {found}, and {why}", hint, False
    no_local, no_remote = (end in {"any", "0.0.0.0", "::"} for end in (local, remote))
    keyed = bool(tunnel.has("key", "ikey"))
    if not no_local and local == remote:
        yield tunnel.path("remote"), f": both ends are {local}", "remote is the address of the other host", False
    if kind in _GRE_KINDS:
        if no_remote and not keyed:
            hint = "add remote, or key for a tunnel whose remote is learned"
            yield tunnel.given_path("remote"), " has no remote, and no key to know its packets by", hint, True
        elif no_local and not keyed:
            hint = "add local (`ip route get REMOTE` names it after src), or key"
            message = f" has no local: without one and without a key every packet of {remote} would be this tunnel's"
            yield tunnel.given_path("local"), message, hint, True
    elif no_remote:
        message = f" has no remote, and {kind} has nothing else to know its packets by"
        yield tunnel.given_path("remote"), message, "add remote", True
    for key, end in (("local", local), ("remote", remote)):
        if end.startswith(("fe8", "fe9", "fea", "feb")) and _version(end) == 6 and "dev" not in given:
            yield tunnel.path(key), f".{key}: {end} is on one link only, and which is not said", 'add dev = "eth0"', False
    if "dev" in given and given["dev"] == tunnel.name:
        yield tunnel.path("dev"), f".dev: {tunnel.name} would be carried by itself", "dev is the device below the tunnel", False


def _header(tunnel: _Tunnel, family: Literal[4, 6]) -> Iterator[_Complaint]:
    given = tunnel.given
    ttl, pmtudisc = given.get("ttl", 0), given.get("pmtudisc", True)
    if ttl and not pmtudisc:
        hint = "leave ttl out (it is then the inner packet's), or pmtudisc"
        message = f".ttl: a fixed TTL needs path MTU discovery: with pmtudisc off a routing loop would go on for {ttl} hops"
        yield tunnel.path("ttl"), message, hint, False
    if given.get("ignore-df") and pmtudisc:
        hint = "add pmtudisc = false: then large packets are sent in fragments"
        yield tunnel.path("ignore-df"), ".ignore-df contradicts path MTU discovery, which sets DF on every packet", hint, True
    entropy = given.get("encapsulation") and given.get("encap-sport") == 0
    if entropy and (key := tunnel.has("seq", "oseq")):
        hint = 'leave it out, or set encap-sport to a port: with "auto" packets take several ways and change their order'
        message = f".{tunnel.spelled[key]}: sequence numbers and source ports by flow exclude each other (RFC 8086)"
        yield tunnel.path(key), message, hint, True
    keepalive = given.get("keepalive")
    if keepalive and keepalive.get("interval_s", 1):
        if given.get("remote", "any") in {"any", "0.0.0.0", "::"}:
            yield tunnel.path("keepalive"), ".keepalive: there is nobody to send it to without a remote", "add remote", False
        if keepalive.get("dialect") == "mikrotik" and family == 4:
            message = ".keepalive: the mikrotik dialect is for tunnels over IPv6; over IPv4 RouterOS speaks cisco's"
            yield tunnel.path("keepalive"), message, "leave dialect out", False


def _inside(tunnel: _Tunnel, kind: PlainKind) -> Iterator[_Complaint]:
    given = tunnel.given
    only = {"ipip": 4, "sit": 6}.get(kind, 0)
    addresses, routes = given.get("address", ()), [words.Route.parse(text) for text in given.get("routes", ())]
    inner = [(("address", index), text, 6 if ":" in text else 4) for index, text in enumerate(addresses)]
    inner += [(("routes", index), str(route.prefix), route.prefix.version) for index, route in enumerate(routes)]
    for (key, index), text, version in inner:
        if only and version != only:
            path = (*tunnel.path(key), index)
            better = f'kind = "{"sit" if only == 4 else "ipip"}" carries IPv{version}, "gre" both'
            yield path, f".{key}[{index}]: {text} is IPv{version}, and {kind} carries IPv{only} alone", better, False
    mtu = given.get("mtu")
    if mtu is not None and mtu < IPV6_MTU_MIN:
        first = next((text for _, text, version in inner if version == 6), "")
        if first or kind == "sit":
            what = f"{first} is IPv6" if first else "sit carries IPv6"
            hint = f"{IPV6_MTU_MIN} or more, or no IPv6 inside"
            yield tunnel.path("mtu"), f".mtu: {mtu} is too small: {what}, which needs {IPV6_MTU_MIN}", hint, False
    local = given.get("local", "any")
    for index, text in enumerate(addresses):
        if text.partition("/")[0] == local:
            hint = "inside the tunnel the hosts have addresses of their own, such as 10.10.10.1/30"
            yield (*tunnel.path("address"), index), f".address[{index}]: {local} is the tunnel's outer end", hint, False


def _recursion(tunnel: _Tunnel) -> Iterator[_Complaint]:
    """A route of the tunnel that its own packets would take: they would go round until they are dropped."""
    given = tunnel.given
    remote = given.get("remote", "any")
    if not _version(remote) or remote in {"0.0.0.0", "::"} or given.get("dev") or given.get("fwmark"):
        return
    packed = Prefix.parse(remote)
    hint = 'bind the tunnel to the device below it (dev = "eth0"), or mark its packets (fwmark) and route those elsewhere'
    for key in ("address", "routes"):
        for index, text in enumerate(given.get(key, ())):
            route = words.Route.parse(text) if key == "routes" else None
            prefix = route.prefix if route is not None else Prefix.parse(text)
            if route is not None and route.table not in {"", "main", "254"}:
                continue
            if prefix.version == packed.version and _covers(prefix, packed):
                message = f".{key}[{index}]: {prefix} holds the remote {remote}: the tunnel would carry itself"
                yield (*tunnel.path(key), index), message, hint, False


def _covers(prefix: Prefix, inner: Prefix) -> bool:
    shift = len(prefix.packed) * 8 - prefix.length
    return int.from_bytes(prefix.packed, "big") >> shift == int.from_bytes(inner.packed, "big") >> shift


# ---------------------------------------------------------------- the result


def _config(tunnel: _Tunnel, kind: PlainKind, version: Literal[0, 4, 6]) -> PlainConfig:
    """The tunnel with every default filled in."""
    given = tunnel.given
    local, remote = (
        "any" if end in {"0.0.0.0", "::"} else end for end in (given.get("local", "any"), given.get("remote", "any"))
    )
    udp = "encapsulation" in given
    listen = given.get("listen", GRE_IN_UDP_PORT)
    keepalive = given.get("keepalive")
    if keepalive is not None and keepalive.get("interval_s", 1):
        # In UDP an answer comes back as bare GRE, which is what UDP was to get past: then nothing is judged by it.
        keepalive = replace(Keepalive(retries=0) if udp else Keepalive(), **keepalive)
    else:
        keepalive = None
    return PlainConfig(
        name=tunnel.name,
        kind=kind,
        family=_family(tunnel, version),
        local=local,
        remote=remote,
        ikey=given.get("ikey", given.get("key")),
        okey=given.get("okey", given.get("key")),
        icsum=given.get("icsum", given.get("csum", False)),
        ocsum=given.get("ocsum", given.get("csum", False)),
        iseq=given.get("iseq", given.get("seq", False)),
        oseq=given.get("oseq", given.get("seq", False)),
        ttl=given.get("ttl", 0),
        tos=given.get("tos", 0),
        pmtudisc=given.get("pmtudisc", True),
        ignore_df=given.get("ignore-df", False),
        encaplimit=given.get("encaplimit"),
        flowlabel=given.get("flowlabel"),
        tolerant=given.get("tolerant", False),
        encapsulation=Encapsulation(
            listen=listen, sport=given.get("encap-sport", listen), dport=given.get("encap-dport", GRE_IN_UDP_PORT)
        )
        if udp
        else None,
        dev=given.get("dev", ""),
        fwmark=given.get("fwmark", 0),
        address=given.get("address", ()),
        routes=given.get("routes", ()),
        rules=given.get("rules", ()),
        mtu=given.get("mtu"),
        mss_clamp=given.get("mss-clamp", True),
        keepalive=keepalive,
    )
