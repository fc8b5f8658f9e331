"""
Node files: `node.toml`, all tunnels of one host, read into one checked value, with every mistake of the file at once.

    text -> tomllib -> each key by itself (form) -> each tunnel, then all of them together (sense) -> NodeConfig

A `[tunnel.NAME]` has a `kind` and the options of `ip link add NAME type KIND …` under iproute2's own names; NAME is the
interface. A hyphen and an underscore are the same letter in a key. What iproute2 leaves to the kernel has the kernel's default
here: TTL and flow label from the packet inside, TOS 0, path MTU discovery on. Two defaults differ, both because the kernel's
cost people packets: `encaplimit` is "none" (its ip6gre adds 8 bytes of Destination Options that some firewalls drop), and the
MSS of TCP connections through a tunnel is clamped.

A `[tunnel.NAME.ipsec]` protects the tunnel; its keys, rules and defaults are `ipsec_values`, `ipsec_sense`, `ipsec_profiles`.

Refused, each with its reason, is what would come up and then not work, or work until the second tunnel: the rules of VyOS
(two tunnels that cannot be told apart, any source without a key, a TTL without path MTU discovery, keys where there is no GRE,
too small an MTU for IPv6) and ours (a route to the remote through the tunnel itself, two tunnels with one address, ends
that never leave the host). Nothing is guessed: an unknown key is a mistake, with the nearest known one as a hint.

The places of keys in the text are only looked for when there is something to complain of.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple, cast

from ginnel.config import ipsec_sense, ipsec_values, node_host, toml
from ginnel.config.ipsec_sense import Ipsec
from ginnel.config.node import GRE_IN_UDP_PORT, Backend, Encapsulation, Keepalive, NodeConfig, PlainConfig, PlainKind
from ginnel.config.node_host import HostConfig
from ginnel.config.node_sense import Tunnel, around, family_of, of_all, of_one
from ginnel.config.node_values import ALIASES, MEANT, READERS, BadItemsError, BadValueError, closest, shown
from ginnel.config.positions import Path, Positions
from ginnel.config.wgquick import is_interface_name
from ginnel.errors import ConfigError, Mistake, Span

#: A thousand tunnels are 200 KiB.
SIZE_MAX_BYTES = 1 << 24
#: A person mends the first mistakes and runs again.
MISTAKES_MAX = 100
#: One process carries them all; what it was measured with, and some.
TUNNELS_MAX = 10_000

_NAME = re.compile(r"[a-zA-Z0-9_=+.-]{1,64}")
#: Lines that are never quoted. In an ipsec table people write the secret under many names.
_SECRET = re.compile(r"private|shared|psk|secret|pass", re.IGNORECASE)
_SECRET_OF_IPSEC = re.compile(r"key|private|shared|psk|secret|pass", re.IGNORECASE)

_KINDS: tuple[str, ...] = ("gre", "gretap", "ipip", "sit", "ip6tnl", "ip6gre", "ip6gretap", "ipsec")
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
    "gre+ipsec": 'write kind = "gre", and protect it by [tunnel.NAME.ipsec]',
    "esp": 'write "ipsec"',
    "vti": 'write "ipsec"',
    "vti6": 'write "ipsec"',
    "xfrm": 'write "ipsec"',
}


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


def parse(text: str, path: str, name: str | None = None) -> NodeConfig:
    """
    Read a node file.

    Args:
        text: the whole file.
        path: where it lies: messages begin with it.
        name: of the node; without one, the last part of *path* without `.toml`.

    Raises:
        ConfigError: with every mistake found (at most MISTAKES_MAX), in the order of the file.
    """
    name = name or node_name(path)
    if name is None:
        hint = "at most 64 of a-z A-Z 0-9 _ = + . -, as in edge.toml"
        raise ConfigError(path, [Mistake("expected a name that ends in .toml", hint=hint)])
    if len(text) > SIZE_MAX_BYTES:
        raise ConfigError(path, [Mistake(f"expected at most {SIZE_MAX_BYTES >> 20} MiB")])
    text = text.removeprefix("\ufeff")  # what Windows editors put in front is no mistake
    foreign = re.search("[\udc80-\udcff]", text)
    if foreign:
        line, start = text.count("\n", 0, foreign.start()) + 1, text.rfind("\n", 0, foreign.start())
        message = f"not TOML: expected UTF-8, found the byte 0x{ord(foreign[0]) - 0xDC00:02x}"
        raise ConfigError(path, [Mistake(message, Span(line, foreign.start() - start, 1), "save it as UTF-8")])
    try:
        document = toml.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, [_toml_mistake(str(error), text)]) from None
    reader = _Reader(path)
    config = reader.read(document, name)
    if reader.found:
        raise ConfigError(path, _placed(reader.found, text))
    return config


def _toml_mistake(message: str, text: str) -> Mistake:
    what, _, place = message.partition(" (at ")
    lines = text.split("\n")
    match = re.match(r"line (\d+), column (\d+)", place)
    if not place:
        return Mistake(f"not TOML that can be read: {what}")
    span = Span(int(match[1]), int(match[2]), 1) if match else Span(len(lines), max(1, len(lines[-1])), 1)
    line = lines[min(span.line, len(lines)) - 1].rstrip("\r")
    hint = 'texts stand in quotes: key = "value"' if "Invalid value" in what else ""
    if re.search(r"^\s*\[(Interface|Peer)\]", text, re.MULTILINE | re.IGNORECASE):
        hint = "this looks like a wg-quick file: its name ends in .conf"
    return Mistake(f"not TOML: {what[:1].lower()}{what[1:]}", span, hint, "" if _SECRET.search(line) else line)


def _placed(found: list[_Found], text: str) -> list[Mistake]:
    """With line, column and excerpt, in the order of the file."""
    positions = Positions(text)
    mistakes = []
    for each in dict.fromkeys(found):
        span = positions.key(each.path) if each.at_key else positions.value(each.path)
        line = positions.line(span)
        secret = _SECRET_OF_IPSEC if "ipsec" in each.path else _SECRET
        mistakes.append(Mistake(each.message, span, each.hint, "" if secret.search(line) else line))
    mistakes.sort(key=lambda mistake: (mistake.span.line, mistake.span.column) if mistake.span else (0, 0))
    if len(mistakes) > MISTAKES_MAX:
        mistakes = [*mistakes[:MISTAKES_MAX], Mistake(f"and {len(mistakes) - MISTAKES_MAX} more")]
    return mistakes


# ---------------------------------------------------------------- reading


class _Reader:
    """Form, then sense: what is wrong in form is not judged again for its sense."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.found: list[_Found] = []
        self.tunnels: list[tuple[Tunnel, PlainConfig]] = []

    def read(self, document: dict[str, Any], name: str) -> NodeConfig:
        for key, value in document.items():
            if key not in {"node", "tunnel"}:
                hint = closest(key, ("node", "tunnel")) or "a node file has [node] and [tunnel.NAME]"
                if key in {"network", "link", "lab", "expect"}:
                    hint = "this looks like a network file: `ginnel lab` rehearses it; a node file has [tunnel.NAME]"
                elif isinstance(value, dict) and "kind" in value and is_interface_name(key):
                    hint = f"write [tunnel.{key}]"
                self._mistake((key,), f"expected node or tunnel, found {shown(key)}", hint, at_key=True)
        backend, host = self._node(document.get("node", {}))
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
            for path, message, hint, at_key in of_all(self.tunnels):
                self._mistake(path, message, hint, at_key=at_key)
        plain = tuple(config for _, config in self.tunnels)
        return NodeConfig(name=name, path=self.path, backend=backend, plain=plain, host=host)

    def _mistake(self, path: Path, message: str, hint: str = "", *, at_key: bool = False) -> None:
        self.found.append(_Found(path, message, hint, at_key))

    def _node(self, table: object) -> tuple[Backend, HostConfig]:
        if not isinstance(table, dict):
            self._mistake(("node",), f"node: expected a table, found {shown(table)}")
            return "auto", HostConfig()
        known = ("backend", *node_host.READERS)
        given: dict[str, Any] = {}
        for key, value in table.items():
            if key not in known:
                expected = f"node: expected {', '.join(known[:-1])} or {known[-1]}, found {shown(key)}"
                self._mistake(("node", key), expected, closest(key, known), at_key=True)
            elif key != "backend":
                field, reader = node_host.READERS[key]
                given[field] = self._read(("node", key), f"node.{key}", reader, value)
        backend = table.get("backend", "auto")
        if backend not in ("auto", "engine", "kernel"):
            message = f'node.backend: expected "auto", "engine" or "kernel", found {shown(backend)}'
            self._mistake(("node", "backend"), message, closest(str(backend), ("auto", "engine", "kernel")))
            backend = "auto"
        read = {field: value for field, value in given.items() if value is not None}
        return cast(Backend, backend), HostConfig(**read)

    def _read(self, path: Path, where: str, reader: Callable[[object], Any], value: object) -> Any:
        """What *reader* makes of a value; None after its mistakes."""
        try:
            return reader(value)
        except BadItemsError as several:
            for at, bad in several.wrong.items():
                item = f"{where}[{at}]" if isinstance(at, int) else f"{where}.{at}"
                self._mistake((*path, at), f"{item}: {bad.message}", bad.hint, at_key=bad.at_key)
        except BadValueError as bad:
            self._mistake(path, f"{where}: {bad.message}", bad.hint)
        return None

    # -- one tunnel

    def _tunnel(self, name: str, table: dict[str, Any]) -> None:
        tunnel = Tunnel(name)
        before = len(self.found)
        if not is_interface_name(name):
            message = f"expected the name of an interface, found {shown(name)}"
            self._mistake(tunnel.path(), message, "at most 15 of a-z A-Z 0-9 _ = + . -, as in gre1", at_key=True)
        kind = self._kind(tunnel, table)
        for spelled, value in table.items():
            if spelled != "kind":
                self._value(tunnel, spelled, value)
        if kind is None or len(self.found) > before:
            return
        for path, message, hint, at_key in of_one(tunnel, *kind):
            self._mistake(path, f"tunnel.{name}{message}", hint, at_key=at_key)
        if len(self.found) == before:
            protection = None
            if tunnel.ipsec is not None:
                protection = ipsec_sense.config(tunnel.ipsec, around(tunnel, *kind), self.path)
            self.tunnels.append((tunnel, replace(_config(tunnel, *kind), ipsec=protection)))

    def _kind(self, tunnel: Tunnel, table: dict[str, Any]) -> tuple[PlainKind, Literal[0, 4, 6]] | None:
        """The kind, and the delivery header's version where the kind says it."""
        match table.get("kind"):
            case None:
                hint = f'add kind = "gre" (or {", ".join(_KINDS[1:5])})'
                self._mistake(tunnel.path(), f"tunnel.{tunnel.name} has no kind", hint, at_key=True)
            case "gre" | "gretap" | "ipsec" as kind:
                return kind, 0
            case "ip6gre" | "ip6gretap" as kind:
                return ("gre" if kind == "ip6gre" else "gretap"), 6
            case "ipip" | "sit" as kind:
                return kind, 4
            case "ip6tnl":
                return "ip6tnl", 6
            case other:
                hint = _OTHER_KINDS.get(str(other).lower(), "") or closest(str(other), _KINDS)
                message = f"tunnel.{tunnel.name}.kind: expected one of {', '.join(_KINDS)}, found {shown(other)}"
                self._mistake(tunnel.path("kind"), message, hint)
        return None

    def _value(self, tunnel: Tunnel, spelled: str, value: object) -> None:
        key = spelled.replace("_", "-")
        key = ALIASES.get(key, key)
        where = f"tunnel.{tunnel.name}.{spelled}"
        path: Path = ("tunnel", tunnel.name, spelled)
        if key == "ipsec":
            self._ipsec(tunnel, where, path, value)
            return
        reader = READERS.get(key)
        if reader is None:
            hint = MEANT.get(key, "") or closest(key, READERS)
            self._mistake(path, f"{where}: there is no such option", hint, at_key=True)
            return
        if key in tunnel.spelled:
            self._mistake(path, f"{where}: {tunnel.spelled[key]} says the same already", at_key=True)
            return
        tunnel.spelled[key] = spelled
        before = len(self.found)
        read = self._read(path, where, reader, value)
        if len(self.found) == before:
            tunnel.given[key] = read

    def _ipsec(self, tunnel: Tunnel, where: str, path: Path, value: object) -> None:
        """`[tunnel.NAME.ipsec]`, each key by itself."""
        if not isinstance(value, dict):
            hint = f'write [tunnel.{tunnel.name}.ipsec] and psk-file = "{tunnel.name}.psk"'
            self._mistake(path, f"{where}: expected a table, found {shown(value)}", hint)
            return
        found = tunnel.ipsec = Ipsec()
        for spelled, item in value.items():
            key = spelled.replace("_", "-")
            at = f"{where}.{spelled}"
            known = ipsec_values.READERS.get(key)
            if known is None:
                hint = ipsec_values.MEANT.get(key, "") or closest(key, ipsec_values.KEYS)
                self._mistake((*path, spelled), f"{at}: there is no such option", hint, at_key=True)
                continue
            if key in found.spelled:
                self._mistake((*path, spelled), f"{at}: {found.spelled[key]} says the same already", at_key=True)
                continue
            found.spelled[key] = spelled
            field, reader = known
            try:
                found.given[key] = found.fields[field] = reader(item)
            except BadItemsError as several:
                for index, bad in several.wrong.items():
                    self._mistake((*path, spelled, index), f"{at}[{index}]: {bad.message}", bad.hint)
            except BadValueError as bad:
                self._mistake((*path, spelled), f"{at}: {bad.message}", bad.hint)


# ---------------------------------------------------------------- the result


def _config(tunnel: Tunnel, kind: PlainKind, version: Literal[0, 4, 6]) -> PlainConfig:
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
        family=family_of(tunnel, version),
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
