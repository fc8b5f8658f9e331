"""
swanctl.conf: each child of each connection is a tunnel of IPsec, or the protection of a GRE tunnel that another file makes.

A child in transport mode (or one whose selectors are of GRE) protects the tunnel with its addresses; one in tunnel mode stands
for itself. Of `secrets` only this is kept: which two ends have the same one.

Source: swanctl.conf(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from ginnel.config.node import IpsecConfig, PlainConfig
from ginnel.network.host import Tunnel
from ginnel.network.importing.braces import Block, tree
from ginnel.network.importing.ours import is_ours
from ginnel.network.importing.reading import Notes, shown
from ginnel.network.importing.source import Part
from ginnel.units import Prefix

_CONNECTION = frozenset(
    {
        "version", "local_addrs", "remote_addrs", "proposals", "encap", "rekey_time", "dpd_delay", "mobike", "fragmentation",
        "unique", "keyingtries", "dpd_timeout", "childless", "reauth_time", "over_time", "aggressive", "send_cert",
        "local_port", "remote_port",
    }
)  # fmt: skip
_CHILD = frozenset(
    {
        "mode", "local_ts", "remote_ts", "esp_proposals", "rekey_time", "start_action", "dpd_action", "close_action",
        "if_id_in", "if_id_out", "life_time", "replay_window", "copy_df", "copy_dscp", "policies", "set_mark_out",
    }
)  # fmt: skip
_END = frozenset({"auth", "id", "certs", "cacerts", "pubkeys"})
_TIME = re.compile(r"(\d{1,9})\s*([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def detect(text: str) -> bool:
    """Whether a text is of this format."""
    return re.search(r"^\s*(?:connections|secrets|authorities|pools)\s*\{", text, re.MULTILINE) is not None


def read(text: str, interface: str, notes: Notes) -> Part:  # noqa: ARG001 - connections have names of their own
    """Read one file."""
    notes.quiet = True  # secrets stand in the same file, in any words
    part = Part(ours=is_ours(text), place=notes.place(0))
    root = tree(text, notes)
    for name, _, place in root.values:
        notes.add("G0802", f"{shown(name)} outside of every section is left out", place)
    for block in root.blocks:
        match block.name:
            case "connections":
                for connection in block.blocks:
                    part.tunnels += _connection(connection, notes)
            case "secrets":
                for secret in block.blocks:
                    part.secret = True
                    _secret(secret, part, notes)
            case "authorities" | "pools":
                notes.add("G0802", f"the section {block.name} has no counterpart here, and is left out", block.place)
            case _:
                notes.add("G0802", f"the section {shown(block.name)} is not known here", block.place)
    return part


def _secret(block: Block, part: Part, notes: Notes) -> None:
    kind = block.name.partition("-")[0].rstrip("0123456789")
    if kind != "ike":
        notes.add("G0802", f"secrets of kind {shown(kind)} are left out", block.place)
        return
    identities = frozenset(value for name, value, _ in block.values if name.startswith("id"))
    part.secrets[identities] = notes.fingerprints.of_passphrase(block.one("secret").encode())


def _connection(block: Block, notes: Notes) -> Iterator[Tunnel]:
    for name, _, place in block.values:
        if name not in _CONNECTION:
            notes.add("G0802", f"{block.name}: {shown(name)} has no counterpart here, and is left out", place)
    ends: dict[str, Block] = {}
    children: list[Block] = []
    for inner in block.blocks:
        if inner.name == "children":
            children += inner.blocks
        elif inner.name.startswith(("local", "remote")):
            ends.setdefault("local" if inner.name.startswith("local") else "remote", inner)
            for name, _, place in inner.values:
                if name not in _END:
                    notes.add("G0802", f"{block.name}: {shown(name)} has no counterpart here, and is left out", place)
    for child in children:
        for name, _, place in child.values:
            if name not in _CHILD:
                notes.add("G0802", f"{block.name}: {child.name}: {shown(name)} has no counterpart here, and is left out", place)
        try:
            yield _tunnel(block, ends, child)
        except ValueError as error:
            notes.add("G0803", f"{block.name}: {child.name}: {str(error).partition(', found')[0]}", child.place)


def _tunnel(block: Block, ends: dict[str, Block], child: Block) -> Tunnel:
    local, remote = _address(block.one("local_addrs")), _address(block.one("remote_addrs"))
    family: Literal[4, 6] = 6 if ":" in local + remote else 4
    nothing = Block("", block.place)
    near, far = ends.get("local", nothing), ends.get("remote", nothing)
    how = near.one("auth", "pubkey")
    mode: Literal["transport", "tunnel"] = "transport" if child.one("mode") == "transport" else "tunnel"
    start = child.one("start_action", "none")
    ipsec = IpsecConfig(
        mode=mode,
        start="wait" if start == "none" else "start" if "start" in start else "trap",
        auth="psk" if how == "psk" else "certificate",
        local_id=near.one("id"),
        remote_id=far.one("id"),
        ike_proposals=_words(block.one("proposals")),
        esp_proposals=_words(child.one("esp_proposals")),
        local_ts=_words(child.one("local_ts")),
        remote_ts=_words(child.one("remote_ts")),
        encapsulation="udp" if block.one("encap") in {"yes", "true", "1"} else "auto",
        ike_rekey_s=_seconds(block.one("rekey_time"), 14_400),
        rekey_s=_seconds(child.one("rekey_time"), 3_600),
        dpd_s=_seconds(block.one("dpd_delay"), 0),
    )
    config = PlainConfig(name=child.name[:15], kind="ipsec", family=family, local=local, remote=remote, ipsec=ipsec)
    return Tunnel(config, place=child.place, kernel=True)


def protects_another(tunnel: Tunnel) -> bool:
    """Whether the tunnel of a child is the protection of a GRE or IP-in-IP tunnel."""
    ipsec = tunnel.config.ipsec
    return ipsec is not None and (ipsec.mode == "transport" or any("gre" in each or "[47]" in each for each in ipsec.local_ts))


def protected(tunnel: Tunnel, by: Tunnel) -> Tunnel:
    """A GRE tunnel with the protection that a child gives it."""
    return replace(tunnel, config=replace(tunnel.config, ipsec=by.config.ipsec), psk=by.psk)


def _address(text: str) -> str:
    words = _words(text)
    if not words or words[0] in {"%any", "%any4", "%any6", "0.0.0.0/0", "0.0.0.0", "::"}:
        return "any"
    if re.fullmatch(r"[0-9.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*", words[0]):
        return Prefix.parse(words[0]).address
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})", words[0]):
        return words[0].lower()
    raise ValueError("expected an address or a host name")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[,\s]+", text) if word)


def _seconds(text: str, default: int) -> int:
    if not text:
        return default
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError("expected a time such as 4h")
    return int(found[1]) * _UNITS[found[2]]
