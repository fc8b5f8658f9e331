"""
wg-quick files: `wg0.conf`, read into one checked value, with every mistake of the file at once.

Two programs read such a file elsewhere, and both are followed. `wg-quick` takes its own keys of `[Interface]` (Address, DNS,
MTU, Table, the four hooks, SaveConfig) and passes every other line to `wg setconf`, which drops all whitespace and knows
ListenPort, FwMark, PrivateKey, and in `[Peer]` PublicKey, PresharedKey, Endpoint, AllowedIPs, PersistentKeepalive.
Keys and sections are case-insensitive, `#` begins a comment (except in hooks, which keep theirs: they are shell), several
`[Interface]` sections add up, the last of two values wins, lists add up.

Stricter than they are, on purpose, because the kernel would silently take from one peer what another was given:
  - two peers with one prefix are refused, both named;
  - one peer given twice is refused.

Looser, for people: `# Name = lyon` (or `# friendly_name = lyon`) inside a `[Peer]`, or directly above it, names the peer.

Secrets: private and preshared keys become `Secret` in the line that reads them; no message and no excerpt ever shows a line
that holds one, nor any word as long as a key, since keys get pasted into the wrong place.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from ginnel.crypto import Secret, public_key
from ginnel.errors import ConfigError, Mistake, Span
from ginnel.units import Prefix, PublicKey

#: Names the kernel and wg-quick both accept: at most 15 characters (IFNAMSIZ less the NUL).
NAME_PATTERN = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")

#: A word this long in base64's alphabet may be a key: it is never shown.
_MAYBE_SECRET = re.compile(r"[A-Za-z0-9+/]{32,}")
_NAME_COMMENT = re.compile(r"#\s*(?:friendly_)?name\s*[=:]\s*(.+?)\s*$", re.IGNORECASE)
_SERVICE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_TABLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_HOST = re.compile(r"[A-Za-z0-9_.-]+")
_ADDRESS_LIKE_DNS = re.compile(r"[0-9.]+|.*:.*")

#: A name is shown on one line beside others.
NAME_MAX_CHARACTERS = 64
#: A person mends the first mistakes and runs again; a file that is not a wg-quick file at all need not print itself.
MISTAKES_MAX = 100
_U32_MAX = 2**32 - 1
#: IPv4 needs 68 bytes (RFC 791), a length field holds 65535.
_MTU_RANGE = (68, 65535)
IPV6_MTU_MIN = 1280

Sign = Literal["", "+", "-"]


@dataclass(frozen=True, slots=True)
class AllowedIp:
    """One entry of AllowedIPs. *sign*: "" sets, "+" adds, "-" takes away (wg's incremental form)."""

    prefix: Prefix
    sign: Sign = ""

    def __str__(self) -> str:
        return f"{self.sign}{self.prefix}"


@dataclass(frozen=True, slots=True)
class HostPort:
    """An endpoint as it was written: the host (a name, or an address without brackets) and the port (digits or a service)."""

    host: str
    port: str

    @property
    def is_numeric(self) -> bool:
        """Whether the host is an address, so that nothing has to be asked of DNS."""
        return ":" in self.host or _is_address(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """One `[Peer]`. None is "not given", which `wg` leaves at the default of a new peer."""

    public_key: PublicKey
    name: str = ""
    preshared_key: Secret | None = None
    endpoint: HostPort | None = None
    allowed_ips: tuple[AllowedIp, ...] = ()
    persistent_keepalive: int | None = None
    line: int = field(default=0, compare=False)

    @property
    def prefixes(self) -> tuple[Prefix, ...]:
        """What a new peer ends up with, once each, in the order of the file."""
        held: dict[Prefix, None] = {}
        for entry in self.allowed_ips:
            if entry.sign == "-":
                held.pop(entry.prefix, None)
            else:
                held[entry.prefix] = None
        return tuple(held)

    @property
    def title(self) -> str:
        """The name, or the key where there is none."""
        return self.name or self.public_key.base64()


@dataclass(frozen=True, slots=True)
class Hooks:
    """Shell lines by phase, in order, `%i` not yet expanded."""

    pre_up: tuple[str, ...] = ()
    post_up: tuple[str, ...] = ()
    pre_down: tuple[str, ...] = ()
    post_down: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InterfaceConfig:
    """
    All `[Interface]` sections together.

    addresses: as `ip address add` takes them, length always present. table: "auto", "off", a number or a name.
    mtu: None = from the route. fwmark: None = not given, 0 = "off".
    """

    private_key: Secret | None = None
    listen_port: str | None = None
    fwmark: int | None = None
    addresses: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    mtu: int | None = None
    table: str = "auto"
    save_config: bool = False
    hooks: Hooks = Hooks()
    name: str = ""


@dataclass(frozen=True, slots=True)
class WgQuickFile:
    """A checked file: what `up` needs, and what its reader should be told (*warnings*)."""

    source: str
    interface: InterfaceConfig
    peers: tuple[PeerConfig, ...]
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @property
    def names(self) -> dict[PublicKey, str]:
        """Public key to name, for the peers that have one."""
        return {peer.public_key: peer.name for peer in self.peers if peer.name}


def interface_name(path: str) -> str | None:
    """The interface that a file configures (`…/wg0.conf` is wg0), or None when its name cannot be one."""
    base = path.rsplit("/", 1)[-1]
    stem = base.removesuffix(".conf")
    return stem if base != stem and is_interface_name(stem) else None


def is_interface_name(text: str) -> bool:
    """Whether *text* can name an interface: wg-quick's pattern, less the two names that are directories."""
    return NAME_PATTERN.fullmatch(text) is not None and text not in {".", ".."}


def parse(text: str, source: str = "<text>") -> WgQuickFile:
    """
    Read a wg-quick file.

    Args:
        text: the whole file.
        source: its name, for messages.

    Raises:
        ConfigError: with every mistake found (at most MISTAKES_MAX), in the order of the file.
    """
    return _Reader(source).read(text)


def strip(text: str) -> str:
    """
    The file without wg-quick's own keys, byte for byte as `wg-quick strip` prints it (comments stay, one empty line ends it).

    Nothing is checked: `wg setconf` will. Lines lose the blanks around them, as bash's `read` takes them off.
    """
    kept: list[str] = []
    in_interface = False
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    for raw in lines:
        line = raw.strip(" \t")
        content = line.partition("#")[0]
        key = content.partition("=")[0].strip().lower()
        if key.startswith("["):
            in_interface = key == "[interface]"
        if not (in_interface and key in _QUICK_KEYS):
            kept.append(line)
    return "".join(f"{line}\n" for line in kept) + "\n"


def render(file: WgQuickFile) -> str:
    """The file in canonical form, secrets included: `parse(render(f)) == f`. Write it only where a private key may lie."""
    return (
        "\n\n".join(["\n".join(_interface_lines(file.interface)), *("\n".join(_peer_lines(peer)) for peer in file.peers)]) + "\n"
    )


def _interface_lines(interface: InterfaceConfig) -> Iterator[str]:
    yield "[Interface]"
    if interface.name:
        yield f"# Name = {interface.name}"
    for address in interface.addresses:
        yield f"Address = {address}"
    for server in (*interface.dns, *interface.dns_search):
        yield f"DNS = {server}"
    if interface.mtu is not None:
        yield f"MTU = {interface.mtu}"
    if interface.table != "auto":
        yield f"Table = {interface.table}"
    if interface.save_config:
        yield "SaveConfig = true"
    hooks = interface.hooks
    for key, lines in (
        ("PreUp", hooks.pre_up),
        ("PostUp", hooks.post_up),
        ("PreDown", hooks.pre_down),
        ("PostDown", hooks.post_down),
    ):
        for line in lines:
            yield f"{key} = {line}"
    if interface.listen_port is not None:
        yield f"ListenPort = {interface.listen_port}"
    if interface.fwmark is not None:
        yield f"FwMark = 0x{interface.fwmark:x}" if interface.fwmark else "FwMark = off"
    if interface.private_key is not None:
        yield f"PrivateKey = {interface.private_key.reveal_base64()}"


def _peer_lines(peer: PeerConfig) -> Iterator[str]:
    yield "[Peer]"
    if peer.name:
        yield f"# Name = {peer.name}"
    yield f"PublicKey = {peer.public_key.base64()}"
    if peer.preshared_key is not None:
        yield f"PresharedKey = {peer.preshared_key.reveal_base64()}"
    if peer.allowed_ips:
        yield f"AllowedIPs = {', '.join(map(str, peer.allowed_ips))}"
    if peer.endpoint is not None:
        yield f"Endpoint = {peer.endpoint}"
    if peer.persistent_keepalive is not None:
        yield f"PersistentKeepalive = {peer.persistent_keepalive}"


# ---------------------------------------------------------------- reading


class _BadValueError(ValueError):
    """One value that cannot be taken: the words, a hint, and where in the value (offset, length)."""

    def __init__(self, message: str, hint: str = "", at: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.at = at


@dataclass(slots=True)
class _Peer:
    """A `[Peer]` while its lines are read."""

    line: int
    header: str
    name: str = ""
    public_key: PublicKey | None = None
    public_key_given: bool = False
    preshared_key: Secret | None = None
    endpoint: HostPort | None = None
    allowed_ips: list[tuple[AllowedIp, Span, str]] = field(default_factory=list)
    persistent_keepalive: int | None = None


class _Reader:
    """One pass over the lines, then the checks that need them all."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.mistakes: list[Mistake] = []
        self.warnings: list[str] = []
        self.section: Literal["", "interface", "peer", "unknown"] = ""
        self.peers: list[_Peer] = []
        self.private_key: Secret | None = None
        self.listen_port: str | None = None
        self.fwmark: int | None = None
        self.addresses: list[str] = []
        self.dns: list[str] = []
        self.dns_search: list[str] = []
        self.mtu: int | None = None
        self.table = "auto"
        self.save_config = False
        self.hooks: dict[str, list[str]] = {"preup": [], "postup": [], "predown": [], "postdown": []}
        self.interface_name = ""
        self.saw_interface = False
        #: Name comments since the last blank or key line: they belong to a `[Peer]` that follows at once.
        self.pending_name = ""
        # The line at hand.
        self.number = 0
        self.raw = ""
        self.key = ""
        self.value = ""
        self.value_column = 1

    def read(self, text: str) -> WgQuickFile:
        if "\0" in text:
            raise ConfigError(self.source, [Mistake("expected a text file, found a NUL byte", hint="is this a wg-quick file?")])
        for self.number, self.raw in enumerate(text.split("\n"), 1):
            self._line()
            if len(self.mistakes) >= MISTAKES_MAX:
                self.mistakes.append(Mistake(f"stopped after {MISTAKES_MAX} mistakes"))
                raise ConfigError(self.source, self.mistakes)
        self._flush_name()
        self._check()
        if self.mistakes:
            self.mistakes.sort(key=lambda mistake: (mistake.span.line, mistake.span.column) if mistake.span else (0, 0))
            raise ConfigError(self.source, self.mistakes)
        return self._result()

    # -- lines

    def _line(self) -> None:
        content, hash_mark, comment = self.raw.partition("#")
        stripped = content.strip()
        if not stripped:
            if hash_mark:
                self._comment(hash_mark + comment)
            else:
                self._flush_name()
            return
        if stripped.startswith("["):
            self._section(stripped)
            return
        self._flush_name()
        if hash_mark:
            self._comment(hash_mark + comment)
            self._flush_name()
        self._key_line(content)

    def _comment(self, text: str) -> None:
        if found := _NAME_COMMENT.match(text):
            # A comment is free text, and a terminal obeys control characters.
            self.pending_name = "".join(c for c in found[1] if c.isprintable())[:NAME_MAX_CHARACTERS].strip()

    def _flush_name(self) -> None:
        """A name comment that no `[Peer]` followed belongs to the section it stands in; the first one there counts."""
        if not self.pending_name:
            return
        if self.section == "peer" and not self.peers[-1].name:
            self.peers[-1].name = self.pending_name
        elif self.section == "interface" and not self.interface_name:
            self.interface_name = self.pending_name
        self.pending_name = ""

    def _section(self, stripped: str) -> None:
        name = "".join(stripped.split()).lower()
        match name:
            case "[interface]":
                self._flush_name()
                self.section = "interface"
                self.saw_interface = True
            case "[peer]":
                self.section = "peer"
                self.peers.append(_Peer(self.number, self.raw.strip(), self.pending_name))
                self.pending_name = ""
            case _:
                self._flush_name()
                self.section = "unknown"
                self._mistake(
                    f"expected [Interface] or [Peer], found {_shown(stripped)}",
                    _closest(name, ("[Interface]", "[Peer]")),
                    column=self._column_of(stripped),
                    length=len(stripped),
                )

    def _key_line(self, content: str) -> None:
        key_text, equals, value_text = content.partition("=")
        key_shown = key_text.strip()
        key_column = self._column_of(key_shown) if key_shown else 1
        if not equals:
            self._mistake(f"expected key = value, found {_shown(key_shown)}", column=key_column, length=len(key_shown))
            return
        quick_key = key_shown.lower()
        wg_key = "".join(key_shown.split()).lower()
        value = value_text.strip()
        if self.section == "interface" and quick_key in _HOOK_KEYS:
            # Hooks are shell, and `#` is part of it: everything after the first `=`.
            value_text = self.raw.partition("=")[2]
            value = value_text.strip()
        self.value = value
        self.value_column = len(key_text) + 2 + (len(value_text) - len(value_text.lstrip()))
        reader: Callable[[_Reader], None] | None
        match self.section:
            case "interface":
                reader = _INTERFACE_READERS.get(quick_key) or _INTERFACE_WG_READERS.get(wg_key)
            case "peer":
                reader = _PEER_READERS.get(wg_key)
            case "":
                self._mistake(
                    f"expected [Interface] or [Peer] before the first key, found {_shown(key_shown)}",
                    column=key_column,
                    length=len(key_shown),
                )
                return
            case _:
                return  # said once, at the section
        if reader is None:
            self._unknown_key(key_shown, key_column)
            return
        self.key = key_shown
        try:
            reader(self)
        except _BadValueError as bad:
            offset, length = bad.at or (0, len(self.value))
            self._mistake(f"{self._where()}{bad.message}", bad.hint, column=self.value_column + offset, length=length)

    def _where(self) -> str:
        if self.section == "peer" and self.peers[-1].name:
            return f"peer {self.peers[-1].name}: {self.key}: "
        return f"{self.key}: "

    def _unknown_key(self, key: str, column: int) -> None:
        here, there = (_INTERFACE_KEYS, _PEER_KEYS) if self.section == "interface" else (_PEER_KEYS, _INTERFACE_KEYS)
        section, other = ("[Interface]", "[Peer]") if self.section == "interface" else ("[Peer]", "[Interface]")
        lowered = "".join(key.split()).lower()
        misplaced = next((known for known in there if known.lower() == lowered), "")
        if misplaced:
            hint = f"{misplaced} belongs into {other}"
        else:
            hint = _closest(lowered, here) or f"{section} knows {', '.join(here)}"
        # The value of a key that is not known may be a hook with a password in it: only the key is shown.
        self._mistake(f"expected a key of {section}, found {_shown(key)}", hint, column=column, length=len(key), whole=False)

    def _column_of(self, part: str) -> int:
        return self.raw.find(part) + 1

    def _mistake(self, message: str, hint: str = "", *, column: int = 1, length: int = 0, whole: bool = True) -> None:
        self.mistakes.append(Mistake(message, Span(self.number, column, length), hint, _excerpt(self.raw, whole=whole)))

    def _warn(self, message: str) -> None:
        self.warnings.append(f"{self.source}:{self.number}: {message}")

    def _items(self, separators: str) -> Iterator[tuple[str, tuple[int, int]]]:
        """The parts of a list value, each with its offset and length; *separators* is the inside of a character class."""
        for found in re.finditer(f"[^{separators}]+", self.value):
            yield found[0], (found.start(), len(found[0]))

    # -- values of [Interface]

    def _address(self) -> None:
        for item, at in self._items(r",\s"):
            self.addresses.append(_interface_address(item, at))

    def _dns(self) -> None:
        for item, at in self._items(r",\s"):
            if not _ADDRESS_LIKE_DNS.fullmatch(item):
                if not _HOST.fullmatch(item):
                    raise _BadValueError(f"expected an address or a search domain, found {_shown(item)}", at=at)
                self.dns_search.append(item)
            elif _is_address(item.partition("%")[0]):
                self.dns.append(item)
            else:
                raise _BadValueError(f"expected an address such as 10.0.0.53, found {_shown(item)}", at=at)

    def _mtu(self) -> None:
        if self.value:
            self.mtu = _number(self.value, *_MTU_RANGE)

    def _table(self) -> None:
        value = self.value
        if not value:
            return
        lowered = value.lower()
        if lowered in {"auto", "off"}:
            self.table = lowered
        elif re.fullmatch(r"0x[0-9a-fA-F]+|[0-9]+", value):
            self.table = str(_number(value, 1, _U32_MAX, base=0))
        elif _TABLE_NAME.fullmatch(value):
            self.table = value
        else:
            raise _BadValueError(f"expected auto, off, or a routing table's number or name, found {_shown(value)}")

    def _hook(self) -> None:
        if self.value:
            self.hooks[self.key.lower()].append(self.value)

    def _save_config(self) -> None:
        match self.value.lower():
            case "true":
                self.save_config = True
            case "false":
                self.save_config = False
            case _:
                raise _BadValueError(f"expected true or false, found {_shown(self.value)}")

    def _private_key(self) -> None:
        self.private_key = _secret(self._squeezed())

    def _listen_port(self) -> None:
        value = self._squeezed()
        if value.isascii() and value.isdigit():
            self.listen_port = str(_number(value, 0, 65535))
        elif _SERVICE.fullmatch(value):
            self.listen_port = value
        else:
            raise _BadValueError(f"expected a port from 0 to 65535, found {_shown(value)}")

    def _fwmark(self) -> None:
        value = self._squeezed()
        self.fwmark = 0 if value.lower() == "off" else _number(value, 0, _U32_MAX, base=0, also="off")

    # -- values of [Peer]

    def _public_key(self) -> None:
        peer = self.peers[-1]
        peer.public_key_given = True
        try:
            peer.public_key = PublicKey.from_base64(self._squeezed())
        except ValueError:
            raise _BadValueError(_not_a_key(self._squeezed()), "`ginnel pubkey` makes it from the private key") from None

    def _preshared_key(self) -> None:
        self.peers[-1].preshared_key = _secret(self._squeezed())

    def _endpoint(self) -> None:
        text = self._squeezed()
        endpoint = parse_endpoint(text)
        if ":" in endpoint.host and not text.startswith("["):
            self._warn(f"Endpoint {_shown(text)} is read as {endpoint}")
        self.peers[-1].endpoint = endpoint

    def _persistent_keepalive(self) -> None:
        value = self._squeezed()
        self.peers[-1].persistent_keepalive = (
            0 if value.lower() == "off" else _number(value, 0, 65535, also="off", unit=" seconds")
        )

    def _allowed_ips(self) -> None:
        self._squeezed()  # empty is a mistake, as for `wg`: a peer without prefixes has no such line
        peer = self.peers[-1]
        offset = 0
        for piece in self.value.split(","):
            item = "".join(piece.split())
            column = self.value_column + offset + len(piece) - len(piece.lstrip())
            span = Span(self.number, column, max(1, len(piece.strip())))
            offset += len(piece) + 1
            try:
                entry = parse_allowed_ip(item)
            except ValueError as error:
                self._mistake(f"{self._where()}{error}", column=span.column, length=span.length)
                continue
            peer.allowed_ips.append((entry, span, self.raw))
            if masked_host_part(item):
                self._warn(f"{item} has bits beyond its length; {entry.prefix} is meant")

    def _squeezed(self) -> str:
        """The value as `wg` sees it: without any whitespace. Empty is a mistake."""
        value = "".join(self.value.split())
        if not value:
            raise _BadValueError("expected a value, found nothing", at=(0, 1))
        return value

    # -- the whole file

    def _check(self) -> None:
        if not self.saw_interface:
            self.mistakes.append(Mistake("expected an [Interface] section, found none"))
        seen_peers: dict[PublicKey, _Peer] = {}
        held_by: dict[Prefix, _Peer] = {}
        for peer in self.peers:
            key = peer.public_key
            if key is None:
                if not peer.public_key_given:
                    self.mistakes.append(
                        Mistake(
                            f"{_peer_title(peer)}: expected a PublicKey, found none",
                            Span(peer.line, 1, len(peer.header)),
                            "every [Peer] needs the public key of the other side",
                            peer.header,
                        )
                    )
            elif (first := seen_peers.setdefault(key, peer)) is not peer:
                self.mistakes.append(
                    Mistake(
                        f"{_peer_title(peer)}: this peer was given before, at line {first.line}",
                        Span(peer.line, 1, len(peer.header)),
                        "join the two sections: the later one would silently replace the earlier one's AllowedIPs",
                        peer.header,
                    )
                )
            for entry, span, raw in peer.allowed_ips:
                if entry.sign == "-":
                    if held_by.get(entry.prefix) is peer:
                        del held_by[entry.prefix]
                    continue
                holder = held_by.setdefault(entry.prefix, peer)
                if holder is not peer and not (key is not None and key == holder.public_key):
                    self.mistakes.append(
                        Mistake(
                            f"{entry.prefix} is given to two peers: {_peer_title(holder)} and {_peer_title(peer)}",
                            span,
                            "a prefix leads to one peer; make one of them more specific, or take it from one",
                            _excerpt(raw),
                        )
                    )
        if self.mtu is not None and self.mtu < IPV6_MTU_MIN and any(":" in address for address in self.addresses):
            self.warnings.append(f"{self.source}: MTU {self.mtu} is below {IPV6_MTU_MIN}: the kernel takes IPv6 off such a link")

    def _own_key(self) -> PublicKey | None:
        """One file for all nodes lists each node among its own peers; the kernel leaves that one out, and so does this."""
        if self.private_key is None:
            return None
        own = public_key(self.private_key)
        for peer in self.peers:
            if peer.public_key == own:
                self.warnings.append(f"{self.source}:{peer.line}: {_peer_title(peer)} is this interface itself, and is left out")
        return own

    def _result(self) -> WgQuickFile:
        own = self._own_key()
        hooks = Hooks(*(tuple(self.hooks[phase]) for phase in ("preup", "postup", "predown", "postdown")))
        interface = InterfaceConfig(
            private_key=self.private_key,
            listen_port=self.listen_port,
            fwmark=self.fwmark,
            addresses=tuple(self.addresses),
            dns=tuple(self.dns),
            dns_search=tuple(self.dns_search),
            mtu=self.mtu,
            table=self.table,
            save_config=self.save_config,
            hooks=hooks,
            name=self.interface_name,
        )
        peers = tuple(
            PeerConfig(
                public_key=peer.public_key,
                name=peer.name,
                preshared_key=peer.preshared_key,
                endpoint=peer.endpoint,
                allowed_ips=tuple(entry for entry, _, _ in peer.allowed_ips),
                persistent_keepalive=peer.persistent_keepalive,
                line=peer.line,
            )
            for peer in self.peers
            if peer.public_key is not None and peer.public_key != own
        )
        return WgQuickFile(self.source, interface, peers, tuple(self.warnings))


_INTERFACE_READERS: dict[str, Callable[[_Reader], None]] = {
    "address": _Reader._address,
    "dns": _Reader._dns,
    "mtu": _Reader._mtu,
    "table": _Reader._table,
    "preup": _Reader._hook,
    "postup": _Reader._hook,
    "predown": _Reader._hook,
    "postdown": _Reader._hook,
    "saveconfig": _Reader._save_config,
}
_INTERFACE_WG_READERS: dict[str, Callable[[_Reader], None]] = {
    "privatekey": _Reader._private_key,
    "listenport": _Reader._listen_port,
    "fwmark": _Reader._fwmark,
}
_PEER_READERS: dict[str, Callable[[_Reader], None]] = {
    "publickey": _Reader._public_key,
    "presharedkey": _Reader._preshared_key,
    "endpoint": _Reader._endpoint,
    "allowedips": _Reader._allowed_ips,
    "persistentkeepalive": _Reader._persistent_keepalive,
}
_QUICK_KEYS = frozenset(_INTERFACE_READERS)
_HOOK_KEYS = frozenset({"preup", "postup", "predown", "postdown"})
_INTERFACE_KEYS = (
    "PrivateKey",
    "ListenPort",
    "FwMark",
    "Address",
    "DNS",
    "MTU",
    "Table",
    "PreUp",
    "PostUp",
    "PreDown",
    "PostDown",
    "SaveConfig",
)
_PEER_KEYS = ("PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive")


# ---------------------------------------------------------------- single values, also for `ginnel set`


def parse_allowed_ip(text: str) -> AllowedIp:
    """One entry of AllowedIPs, `[+-]address[/length]`; ValueError says what was expected and found."""
    sign: Sign = "+" if text.startswith("+") else "-" if text.startswith("-") else ""
    bare = text[len(sign) :]
    try:
        return AllowedIp(Prefix.parse(bare), sign)
    except ValueError as error:
        if _MAYBE_SECRET.search(bare):
            raise ValueError("expected a prefix such as 10.0.0.0/8, found a word that may be a key") from None
        raise ValueError(str(error)) from None


def parse_endpoint(text: str) -> HostPort:
    """
    `host:port`, `192.0.2.1:51820` or `[2001:db8::1]:51820`, names kept as they are; ValueError otherwise.

    As in `wg`, the port is a number or a service's name, a scope (`%eth0`) may follow a bracketed IPv6 address, and an IPv6
    address without brackets ends at its last colon.
    """
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]:")
        if not bracket:
            raise _BadValueError(f"expected [address]:port, found {_shown(text)}")
        if not _is_address(host.partition("%")[0]) or ":" not in host:
            raise _BadValueError(f"expected an IPv6 address in the brackets, found {_shown(host)}")
    else:
        host, colon, port = text.rpartition(":")
        if not colon or not host:
            raise _BadValueError(f"expected host:port, found {_shown(text)}", "the other side's ListenPort belongs after a colon")
        if ":" in host and not _is_address(host):
            raise _BadValueError(
                f"expected host:port, found {_shown(text)}", "an IPv6 address stands in brackets: [2001:db8::1]:51820"
            )
        if ":" not in host and not _HOST.fullmatch(host):
            raise _BadValueError(f"expected a host name or an address, found {_shown(host)}")
    if port.isascii() and port.isdigit():
        if not 1 <= int(port[:9]) <= 65535:
            raise _BadValueError(f"expected a port from 1 to 65535, found {_shown(port)}")
        port = str(int(port))
    elif not _SERVICE.fullmatch(port):
        raise _BadValueError(f"expected a port from 1 to 65535, found {_shown(port)}")
    return HostPort(host, port)


def parse_fwmark(text: str) -> int:
    """`off`, decimal or `0x…`, as `wg` reads it; ValueError otherwise."""
    return 0 if text.lower() == "off" else _number(text, 0, _U32_MAX, base=0, also="off")


def parse_keepalive(text: str) -> int:
    """`off` or seconds up to 65535; ValueError otherwise."""
    return 0 if text.lower() == "off" else _number(text, 0, 65535, also="off", unit=" seconds")


def masked_host_part(item: str) -> bool:
    """Whether the address of *item* (`[+-]address/length`, already known to parse) has bits beyond its length."""
    address, slash, _ = item.lstrip("+-").partition("/")
    if not slash:
        return False
    prefix = Prefix.parse(item.lstrip("+-"))
    return Prefix.parse(address).packed != prefix.packed


def _number(text: str, low: int, high: int, *, base: int = 10, also: str = "", unit: str = "") -> int:
    """A number in range. Base 0: hexadecimal after 0x, else decimal."""
    number = -1
    if text.isascii() and text[:1].isdigit() and len(text) <= 12:
        radix = base
        if base == 0:
            radix = 16 if text.startswith("0x") else 10
        try:
            number = int(text, radix) if "_" not in text else -1
        except ValueError:
            number = -1
    if not low <= number <= high:
        choice = f"{also} or " if also else ""
        raise _BadValueError(f"expected {choice}a number from {low} to {high}{unit}, found {_shown(text)}")
    return number


def _excerpt(raw: str, *, whole: bool = True) -> str:
    """The line for the caret, or nothing where it may hold a secret; one character of it is one column."""
    key_text, equals, _ = raw.partition("=")
    key = "".join(key_text.split()).lower()
    if "key" in key or "psk" in key or _MAYBE_SECRET.search(raw):
        return ""
    shown = raw if whole else f"{key_text}{equals} …"
    return "".join(c if c.isprintable() else " " for c in shown)[:200].rstrip()


def _interface_address(item: str, at: tuple[int, int]) -> str:
    """An address of the interface with its length, host bits kept: `10.0.0.1/24`."""
    address, _, _ = item.partition("/")
    try:
        prefix = Prefix.parse(item)
    except ValueError as error:
        if _MAYBE_SECRET.search(item):
            raise _BadValueError("expected an address such as 10.0.0.1/24, found a word that may be a key", at=at) from None
        raise _BadValueError(
            f"{str(error).replace('a prefix such as 10.0.0.0/8', 'an address such as 10.0.0.1/24')}", at=at
        ) from None
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return f"{socket.inet_ntop(family, socket.inet_pton(family, address))}/{prefix.length}"


def _secret(text: str) -> Secret:
    try:
        return Secret.from_base64(text)
    except ValueError:
        raise _BadValueError(_not_a_key(text), "`ginnel genkey` makes one; the value is not shown here") from None


def _not_a_key(text: str) -> str:
    return f"expected a key of 44 base64 characters, found {len(text)} characters" + (
        " that are not one" if len(text) == 44 else ""
    )


def _is_address(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:60]


def _shown(text: str) -> str:
    """*text* quoted for a message: never a word that may be a key, never a control character, never long."""
    if _MAYBE_SECRET.search(text):
        return "a word that may be a key"
    return f"'{_plain(text)}'" if text else "nothing"


def _closest(text: str, known: tuple[str, ...]) -> str:
    import difflib  # only mistakes need it

    lowered = {word.lower(): word for word in known}
    matches = difflib.get_close_matches(text.lower(), list(lowered), n=1, cutoff=0.6)
    return f"did you mean {lowered[matches[0]]}?" if matches else ""


def _peer_title(peer: _Peer) -> str:
    """How a message names a peer: its name, and always its key's beginning where it has one."""
    key = f"{peer.public_key.base64()[:8]}…" if peer.public_key is not None else ""
    place = f"line {peer.line}"
    return f"{peer.name} ({key or place})" if peer.name else f"peer {key} ({place})" if key else f"the peer at {place}"
