"""
wg-quick files and the output of `wg showconf`, as they are found in the field.

The rules are those of `ginnel.config.wgquick`, whose values it parses with, but nothing here refuses a file: what cannot be taken
in is named and left out, and what would make a file wrong (two peers with one prefix) is taken in as it stands, for the
linter to judge. Keys and sections in any case, tabs, several `[Interface]` sections, lists on several lines, addresses without
a length.

Hooks are kept as they are, but not those that hold a secret: a network file lies in git. Hooks that ginnel itself rendered are
what they mean instead: forwarding, masquerading, the key's file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ginnel.config import wgquick
from ginnel.network.host import InterfaceAddress, Peer, Place, WireguardInterface
from ginnel.network.importing import comments
from ginnel.network.importing.ours import Ours, is_ours, without_ours
from ginnel.network.importing.reading import Notes, hides_a_secret, host_port, interface_address, number, shown
from ginnel.network.importing.source import Part
from ginnel.network.model import HostPort
from ginnel.units import Prefix, PublicKey

_HOOKS = {"preup": "PreUp", "postup": "PostUp", "predown": "PreDown", "postdown": "PostDown"}
#: Of one interface; a kernel takes 2^20.
PEERS_MAX = 1 << 20
#: A preshared key that lies in a file of its own: no secret, and it says that there is one.
_PSK_HOOK = re.compile(r"wg set \S+ peer ([A-Za-z0-9+/]{43}=) preshared-key /\S+")


@dataclass(slots=True)
class _Peer:
    place: Place
    comments: list[str]
    public_key: PublicKey | None = None
    given: bool = False
    psk: str = ""
    endpoint: HostPort | None = None
    #: In order; what is taken back need not be looked for.
    allowed: dict[Prefix, None] = field(default_factory=dict)
    keepalive_s: int = 0


def detect(text: str) -> bool:
    """Whether a text is of this format."""
    return re.search(r"^[ \t]*\[\s*(?:interface|peer)\s*\]", text, re.IGNORECASE | re.MULTILINE) is not None


def read(text: str, interface: str, notes: Notes) -> Part:
    """
    Read one file.

    Args:
        text: the whole file.
        interface: the name of the interface that it configures.
        notes: takes the findings.

    Returns:
        one interface, the name that its comments have for the host, and what its rendered hooks mean.
    """
    return _Reader(text, interface, notes).part()


class _Reader:
    """One pass over the lines."""

    def __init__(self, text: str, interface: str, notes: Notes) -> None:
        self.notes = notes
        self.name = interface
        self.section: Literal["", "interface", "peer", "unknown", "disabled"] = ""
        self.above: list[str] = []
        self.interface_comments: list[str] = []
        self.interface_place = notes.place(0)
        self.peers: list[_Peer] = []
        self.public_key: PublicKey | None = None
        self.secret = False
        self.address: list[InterfaceAddress] = []
        self.listen_port = 0
        self.mtu: int | None = None
        self.dns: list[str] = []
        self.search: list[str] = []
        self.table = "auto"
        self.fwmark = 0
        self.hooks: list[tuple[str, str]] = []
        self.fresh = False
        self.rendered = is_ours(text)
        self.psk_in_file: set[str] = set()
        for self.number, self.raw in enumerate(text.split("\n"), 1):
            self._line()

    # -- lines

    def _line(self) -> None:
        content, mark, comment = self.raw.partition("#")
        stripped = content.strip()
        if not stripped:
            if mark or self.raw.strip().startswith(";"):
                self._comment(mark + comment)
            else:
                self.above = []
                if self.section == "disabled":
                    self.section = "unknown"
            return
        if stripped.startswith(";"):
            self._comment(stripped)
        elif stripped.startswith("["):
            self._section(stripped)
        else:
            self.above = []
            self.fresh = False
            if mark and comments.says_a_name(mark + comment):
                self._named(mark + comment)
            self._setting(content)

    def _comment(self, text: str) -> None:
        if self.number == 1 and self.rendered:
            return
        if comments.disables_a_peer(text):
            self.section = "disabled"
            self.notes.add("G0804", f"{self._where()}: a peer that is commented out is left out", self._place())
            return
        if self.section == "disabled":
            return  # said once, at its header
        if key := comments.setting(text):
            self.notes.add("G0804", f"{self._where()}: a {key} that is commented out is left out", self._place())
            return
        self.above.append(text)
        if self.fresh or comments.says_a_name(text):
            self._named(text)

    def _named(self, text: str) -> None:
        if self.section == "peer":
            self.peers[-1].comments.append(text)
        elif self.section == "interface":
            self.interface_comments.append(text)

    def _section(self, stripped: str) -> None:
        name = "".join(stripped.split()).lower()
        above, self.above = self.above, []
        self.fresh = True
        match name:
            case "[interface]":
                self.section = "interface"
                self.interface_place = self._place()
                self.interface_comments += [line for line in above if comments.says_a_name(line)]
            case "[peer]" if len(self.peers) < PEERS_MAX:
                self.section = "peer"
                self.peers.append(_Peer(self._place(), above))
            case _:
                self.section = "unknown"
                self.notes.add("G0802", f"{self._where()}: the section {shown(stripped)} is not known here", self._place())

    def _setting(self, content: str) -> None:
        key_text, equals, value_text = content.partition("=")
        key = "".join(key_text.split()).lower()
        if self.section == "disabled":
            self.section = "unknown"
        if not equals or self.section in {"", "unknown"}:
            self.notes.add("G0802", f"{self._where()}: a line that is not understood is left out", self._place())
            return
        if self.section == "interface" and key in _HOOKS:
            self._hook(key)
            return
        table = _OF_INTERFACE if self.section == "interface" else _OF_PEER
        reader = table.get(key)
        value = value_text.strip()
        if reader is None:
            self.notes.add(
                "G0802", f"{self._where()}: {shown(key_text.strip())} is not known here", self._place(key_text.strip())
            )
            return
        try:
            reader(self, value)
        except ValueError as error:
            self.notes.add(
                "G0803", f"{self._where()}: {key_text.strip()[:30]}: {str(error).partition(chr(10))[0]}", self._place(value)
            )

    def _where(self) -> str:
        if self.section == "peer":
            peer = self.peers[-1]
            key = peer.public_key.base64()[:8] if peer.public_key else "?"
            return f"{self.name}: peer {comments.name_of(peer.comments) or key}"
        return self.name

    def _place(self, part: str = "") -> Place:
        return self.notes.place(self.number, self.raw, part)

    # -- [Interface]

    def _private_key(self, value: str) -> None:
        self.secret = True
        self.public_key = self.notes.own_key("".join(value.split()))
        if self.public_key is None:
            raise ValueError("expected a key of 44 base64 characters; the value is not shown here")

    def _listen_port(self, value: str) -> None:
        self.listen_port = number(value, 0, 65535)

    def _fwmark(self, value: str) -> None:
        self.fwmark = wgquick.parse_fwmark(value)

    def _address(self, value: str) -> None:
        for item in _items(value):
            self.address.append(InterfaceAddress(*interface_address(item)))

    def _dns(self, value: str) -> None:
        for item in _items(value):
            try:
                self.dns.append(Prefix.parse(item).address if "/" not in item else item)
            except ValueError:
                self.search.append(item.lower())

    def _mtu(self, value: str) -> None:
        self.mtu = number(value, 68, 65535) if value else None

    def _table(self, value: str) -> None:
        if value.lower() in {"auto", "off", ""}:
            self.table = value.lower() or "auto"
        elif re.fullmatch(r"0[xX][0-9a-fA-F]+|[0-9]+", value):
            self.table = str(number(value, 1, 2**32 - 1))
        elif re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,30}", value):
            self.table = value
        else:
            raise ValueError(f"expected auto, off, or a routing table's number or name, found {shown(value)}")

    def _save_config(self, value: str) -> None:
        if value.lower() == "true":
            message = f"{self.name}: SaveConfig is left out: what runs would be written over what the network file says"
            self.notes.add("G0809", message, self._place())

    def _hook(self, key: str) -> None:
        value = self.raw.partition("=")[2].strip()
        if not value:
            return
        if found := _PSK_HOOK.fullmatch(value):
            self.psk_in_file.add(found[1])
            self.hooks.append((_HOOKS[key], value))
        elif hides_a_secret(value):
            message = f"{self.name}: a {_HOOKS[key]} that seems to hold a secret is left out"
            self.notes.add("G0805", message, self.notes.place(self.number), "let the command read the secret from a file")
        elif not value.isprintable():
            self.notes.add("G0803", f"{self.name}: a {_HOOKS[key]} with control characters is left out", self._place())
        else:
            self.hooks.append((_HOOKS[key], value))

    # -- [Peer]

    def _public_key(self, value: str) -> None:
        self.peers[-1].given = True
        try:
            self.peers[-1].public_key = PublicKey.from_base64("".join(value.split()))
        except ValueError:
            raise ValueError("expected a key of 44 base64 characters") from None

    def _preshared_key(self, value: str) -> None:
        self.secret = True
        found = self.notes.psk("".join(value.split()))
        if found is None:
            raise ValueError("expected a key of 44 base64 characters; the value is not shown here")
        self.peers[-1].psk = found

    def _endpoint(self, value: str) -> None:
        self.peers[-1].endpoint = host_port("".join(value.split()))

    def _allowed_ips(self, value: str) -> None:
        held = self.peers[-1].allowed
        for item in value.split(","):
            word = "".join(item.split())
            if not word:
                continue
            entry = wgquick.parse_allowed_ip(word)
            if entry.sign == "-":
                held.pop(entry.prefix, None)
            else:
                held.setdefault(entry.prefix)
            if wgquick.masked_host_part(word):
                message = f"{self._where()}: {shown(word)} has bits beyond its length; {entry.prefix} is meant"
                self.notes.add("G0814", message, self._place(word))

    def _persistent_keepalive(self, value: str) -> None:
        self.peers[-1].keepalive_s = wgquick.parse_keepalive("".join(value.split()))

    # -- the whole

    def part(self) -> Part:
        hooks, ours = without_ours(self.hooks) if self.rendered else (tuple(self.hooks), Ours())
        peers = []
        for peer in self.peers:
            if peer.public_key is None:
                if not peer.given:
                    self.notes.add("G0803", f"{self.name}: a peer without a PublicKey is left out", peer.place)
                continue
            if peer.public_key == self.public_key:
                self.notes.add("G0809", f"{self.name}: a peer that is this interface itself is left out", peer.place)
                continue
            peers.append(
                Peer(
                    peer.public_key,
                    comments.name_of(peer.comments),
                    tuple(peer.allowed),
                    peer.endpoint,
                    peer.keepalive_s,
                    peer.psk or ("?" if peer.public_key.base64() in self.psk_in_file else ""),
                    peer.place,
                )
            )
        if self.public_key is None and not self.secret:
            message = f"{self.name}: the file has no PrivateKey, so whose peer it is follows from the other hosts alone"
            self.notes.add("G0807", message, self.interface_place)
        interface = WireguardInterface(
            self.name,
            self.public_key,
            tuple(dict.fromkeys(self.address)),
            self.listen_port,
            self.mtu,
            tuple(peers),
            tuple(dict.fromkeys(self.dns)),
            tuple(dict.fromkeys(self.search)),
            self.table,
            self.fwmark,
            hooks,
            self.interface_place,
        )
        outright = [comment for comment in self.interface_comments if comments.says_a_name(comment)]
        return Part(
            interfaces=[interface],
            name=comments.name_of(outright),
            forwards=ours.forwards if self.rendered else None,
            masquerades=ours.masquerades,
            mapped=ours.mapped,
            ours=self.rendered,
            secret=self.secret,
            place=self.interface_place,
        )


def _items(value: str) -> list[str]:
    return [item for item in re.split(r"[,\s]+", value) if item]


_OF_INTERFACE: dict[str, Callable[[_Reader, str], None]] = {
    "privatekey": _Reader._private_key,
    "listenport": _Reader._listen_port,
    "fwmark": _Reader._fwmark,
    "address": _Reader._address,
    "dns": _Reader._dns,
    "mtu": _Reader._mtu,
    "table": _Reader._table,
    "saveconfig": _Reader._save_config,
}
_OF_PEER: dict[str, Callable[[_Reader, str], None]] = {
    "publickey": _Reader._public_key,
    "presharedkey": _Reader._preshared_key,
    "endpoint": _Reader._endpoint,
    "allowedips": _Reader._allowed_ips,
    "persistentkeepalive": _Reader._persistent_keepalive,
}
