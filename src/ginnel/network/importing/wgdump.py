"""
`wg show all dump` and `wg show wg0 dump`: what runs, one line an interface and a peer, tabs between.

    [interface] private-key public-key listen-port fwmark
    [interface] public-key preshared-key endpoint allowed-ips latest-handshake rx tx persistent-keepalive

`(none)` is an empty value; a kernel that hides keys prints `(hidden)`. An endpoint here is where the peer's last packet came
from, which need not be where its file says; the port of an interface without a ListenPort is the one that the kernel chose.
"""

from __future__ import annotations

import re

from ginnel.network.host import Peer, WireguardInterface
from ginnel.network.importing.reading import Notes, host_port, number, shown
from ginnel.network.importing.source import Part
from ginnel.units import Prefix, PublicKey

_KEY = r"(?:[A-Za-z0-9+/]{43}=|\(none\)|\(hidden\))"
_INTERFACE = re.compile(rf"^(?:\S{{1,15}}\t)?{_KEY}\t{_KEY}\t\d{{1,5}}\t\S+$", re.MULTILINE)


def detect(text: str) -> bool:
    """Whether a text is of this format."""
    return _INTERFACE.search(text[:4096]) is not None


def read(text: str, interface: str, notes: Notes) -> Part:
    """
    Read one file.

    Args:
        text: the whole of it.
        interface: the name of the interface where its lines do not say it.
        notes: takes the findings.
    """
    part = Part()
    peers: dict[str, list[Peer]] = {}
    for line, raw in enumerate(text.split("\n"), 1):
        if not raw.strip():
            continue
        fields = raw.rstrip("\n").split("\t")
        name = fields.pop(0) if len(fields) in {5, 9} else interface
        try:
            match fields:
                case [private, public, port, mark]:
                    part.interfaces.append(_interface(name, private, public, port, mark, notes, line))
                    part.secret |= private not in {"(none)", "(hidden)"}
                case [key, psk, endpoint, allowed, _, _, _, keepalive] if part.interfaces and name == part.interfaces[-1].name:
                    peers.setdefault(name, []).append(_peer(key, psk, endpoint, allowed, keepalive, notes, line))
                case _:
                    notes.add("G0802", f"{name[:15]}: a line that is not understood is left out", notes.place(line))
        except ValueError as error:
            notes.add("G0803", f"{name[:15]}: {str(error).partition(chr(10))[0]}", notes.place(line))
    part.interfaces = [
        WireguardInterface(
            one.name,
            one.public_key,
            (),
            one.listen_port,
            None,
            tuple(peers.get(one.name, ())),
            fwmark=one.fwmark,
            place=one.place,
        )
        for one in part.interfaces
    ]
    part.place = notes.place(0)
    return part


def _interface(name: str, private: str, public: str, port: str, mark: str, notes: Notes, line: int) -> WireguardInterface:
    if not re.fullmatch(r"[a-zA-Z0-9_=+.-]{1,15}", name):
        raise ValueError(f"expected an interface's name, found {shown(name)}")
    own = notes.own_key(private) or (None if public.startswith("(") else _key(public))
    fwmark = 0 if mark == "off" else number(mark, 0, 2**32 - 1)
    return WireguardInterface(name, own, (), number(port, 0, 65535), fwmark=fwmark, place=notes.place(line))


def _peer(key: str, psk: str, endpoint: str, allowed: str, keepalive: str, notes: Notes, line: int) -> Peer:
    fingerprint = "" if psk == "(none)" else "?" if psk == "(hidden)" else notes.psk(psk)
    if fingerprint is None:
        raise ValueError("expected a preshared key of 44 base64 characters; the value is not shown here")
    return Peer(
        _key(key),
        "",
        () if allowed == "(none)" else tuple(dict.fromkeys(Prefix.parse(word) for word in allowed.split(","))),
        None if endpoint == "(none)" else host_port(endpoint),
        0 if keepalive == "off" else number(keepalive, 0, 65535),
        fingerprint,
        notes.place(line),
    )


def _key(text: str) -> PublicKey:
    try:
        return PublicKey.from_base64(text)
    except ValueError:
        raise ValueError("expected a key of 44 base64 characters") from None
