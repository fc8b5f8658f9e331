"""Chapter 06: keys that two have, and files that others read."""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.network.findings import Finding
from ginnel.network.host import Place
from ginnel.network.lint.view import View, identity, places

_OTHERS = 0o007


def shared_keys(view: View) -> Iterator[Finding]:
    """G0601: one private key at two hosts."""
    for ends in view.by_identity.values():
        hosts = list(dict.fromkeys(end.host.name for end in ends))
        if len(hosts) < 2 or ends[0].interface.public_key is None:
            continue
        yield Finding(
            "G0601",
            f"{' and '.join(hosts)} have the same private key",
            places(*(end.interface for end in ends)),
            "to their peers they are one: its endpoint jumps to whoever spoke last, and each breaks the other's sessions",
            f"a key of its own for each: `wg genkey` at {hosts[-1]}, and its own [Peer] at everybody else",
            tuple(hosts),
        )


def readable(view: View) -> Iterator[Finding]:
    """G0602: files of secrets that others on the host read."""
    for host in view.hosts:
        for secret in host.secrets:
            if secret.mode & _OTHERS:
                yield Finding(
                    "G0602",
                    f"{secret.path} holds a secret of {host.name}, and its mode is {secret.mode & 0o7777:04o}",
                    (Place(secret.path),),
                    "everybody on that host can read it",
                    f"chmod 600 {_quoted(secret.path)}",
                    (host.name,),
                )


def _quoted(path: str) -> str:
    """For a shell, where it needs to be."""
    return path if path and all(char.isalnum() or char in "/._-" for char in path) else "'" + path.replace("'", "'\\''") + "'"


def shared_psks(view: View) -> Iterator[Finding]:
    """G0603: one preshared key for several pairs."""
    pairs: dict[str, set[frozenset[str]]] = {}
    known = {peer.psk for peer in view.peers} - {"", "?"}
    for end in view.ends if known else ():
        for peer in end.interface.peers:
            if peer.psk in known:
                far = view.far(peer)
                other = far[0].host.name if far else str(identity(peer))
                pairs.setdefault(peer.psk, set()).add(frozenset((end.host.name, other)))
    for of_key in pairs.values():
        if len(of_key) > 1:
            names = sorted({name for pair in of_key for name in pair if name in view.by_name})
            yield Finding(
                "G0603",
                f"{len(of_key)} pairs have the same preshared key",
                (),
                "each of them can read along what it protects of the others",
                "a key for each pair",
                tuple(names[:8]),
            )


RULES = (shared_keys, readable, shared_psks)
