"""
What may stand in a rendered file as it is.

The network file is checked where it is read; a description may also come of an import, or of code. Every format writes names,
addresses and hooks into a language of its own, so each renderer asks here first: after that, nothing but a hook's text holds a
blank, a quote, a bracket or anything else that one of these languages obeys. Hooks are shell by intent; they are one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ginnel.errors import UsageError
from ginnel.network.compile import NodeDescription, PeerDescription
from ginnel.network.render import Secrets

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DEVICE = re.compile(r"[A-Za-z0-9_=+][A-Za-z0-9_=+.-]{0,14}")
_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,253}")
_TABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,30}")
_WORDS = re.compile(r"[A-Za-z0-9_.:/ -]{1,253}")
_HOOK_KEY = re.compile(r"(Pre|Post)(Up|Down)")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{43}=")


def check(description: NodeDescription, secrets: Secrets) -> None:
    """UsageError, with the first value that no rendered file may hold; a secret is not shown."""
    for what, value, pattern in _values(description):
        if pattern.fullmatch(value) is None:
            raise UsageError(f"{what}: {_shown(value)!r} cannot stand in a rendered file")
    for key, command in description.node.hooks:
        if _HOOK_KEY.fullmatch(key) is None:
            raise UsageError(f"hooks: expected PreUp, PostUp, PreDown or PostDown, found {_shown(key)!r}")
        if not command.isprintable():
            raise UsageError(f"{key}: a hook is one line without control characters")
    keys = [("private key", secrets.private_key), *((f"preshared key for {name}", key) for name, key in secrets.psk.items())]
    for what, key in keys:
        if key and _BASE64.fullmatch(key) is None:
            raise UsageError(f"{what}: expected 44 characters of base64")


def _values(description: NodeDescription) -> Iterator[tuple[str, str, re.Pattern[str]]]:
    yield "network", description.network, _NAME
    yield "node", description.name, _NAME
    for each in (description, *description.beside):
        yield "interface", each.interface, _DEVICE
        yield "table", each.node.table, _TABLE
    for address in description.dns:
        yield "dns", address, _HOST
    for domain in description.search:
        yield "search", domain, _HOST
    for each in (description, *description.beside):
        for peer in each.peers:
            if not peer.said(_is_sound):
                yield "peer", peer.name, _NAME
                if peer.endpoint is not None:
                    yield f"endpoint of {peer.name}", peer.endpoint.host, _HOST
    for tunnel in description.tunnels:
        config = tunnel.config
        yield "peer", tunnel.peer, _NAME
        yield "device", config.name, _DEVICE
        for what, value in (("local", config.local), ("remote", config.remote)):
            yield f"{what} of {config.name}", value, _HOST
        if config.dev:
            yield f"dev of {config.name}", config.dev, _DEVICE
        for line in (*config.address, *config.routes, *config.rules):
            yield f"words of {config.name}", line, _WORDS


def _is_sound(peer: PeerDescription) -> bool:
    return _NAME.fullmatch(peer.name) is not None and (peer.endpoint is None or _HOST.fullmatch(peer.endpoint.host) is not None)


def _shown(text: str) -> str:
    return text[:60] if text.isprintable() else ascii(text[:60])
