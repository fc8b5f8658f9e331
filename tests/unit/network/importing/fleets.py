"""
Networks as the files of their hosts: what imports read.

`corpus/FLEET/...` are files as they are found in the world; keys in them are made of names: `@private hub@`, `@public hub@`,
`@psk alice hub@`. corpus/meshconf is what wg-meshconf writes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

from ginnel.crypto import Secret, public_key
from ginnel.network import Compilation, Lock, Network, allocate
from ginnel.network.importing import Source
from ginnel.network.render import Secrets, renderer
from ginnel.units import PublicKey


def private_key(name: str) -> bytes:
    """The same for the same name."""
    return hashlib.sha256(f"private {name}".encode()).digest()


def key_of(name: str) -> PublicKey:
    return public_key(Secret.from_bytes(private_key(name)))


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def preshared_key(left: str, right: str) -> str:
    return base64_of(hashlib.sha256(" ".join(sorted((left, right))).encode()).digest())


def compiled(network: Network) -> Compilation:
    """With keys of which the private ones are known here."""
    lock = allocate(network, Lock())
    return Compilation(network, lock, {node.name: key_of(node.name) for node in network.nodes})


def secrets_of(name: str, peers: list[str]) -> Secrets:
    return Secrets(base64_of(private_key(name)), {peer: preshared_key(name, peer) for peer in peers})


def sources(compilation: Compilation, format_name: str, *, keys: bool = True) -> list[Source]:
    """As `ginnel render --all -o DIR` lays them out."""
    found = []
    for description in compilation.nodes():
        secrets = secrets_of(description.name, [peer.name for peer in description.peers if peer.psk]) if keys else Secrets()
        files = renderer(format_name).files(description, secrets)
        found += [Source(f"out/{description.name}/{file.name}", file.content) for file in files]
    return found


CORPUS = Path(__file__).parent / "corpus"
FLEETS = tuple(sorted(path.name for path in CORPUS.iterdir()))


def _filled(found: re.Match[str]) -> str:
    match found[1].split():
        case ["private", name]:
            return base64_of(private_key(name))
        case ["public", name]:
            return key_of(name).base64()
        case ["psk", left, right]:
            return preshared_key(left, right)
    raise ValueError(found[0])


def filled(text: str) -> str:
    """With keys for their names."""
    return re.sub(r"@(private \S+|public \S+|psk \S+ \S+)@", _filled, text)


def fleet(name: str) -> list[Source]:
    """The files of one fleet of the corpus."""
    files = sorted(path for path in (CORPUS / name).rglob("*") if path.is_file())
    return [Source(str(path.relative_to(CORPUS)), filled(path.read_text()).encode()) for path in files]


def as_it_runs(compilation: Compilation) -> list[Source]:
    """What `wg show all dump` and `ip -j addr` would print on every host, before anybody has roamed."""
    found = []
    for node in compilation.nodes():
        name = node.interface
        lines = [[name, base64_of(private_key(node.name)), key_of(node.name).base64(), str(node.listen_port), "off"]]
        for peer in node.peers:
            assert peer.public_key is not None
            host = peer.endpoint and (f"[{peer.endpoint.host}]" if ":" in peer.endpoint.host else peer.endpoint.host)
            endpoint = f"{host}:{peer.endpoint.port}" if peer.endpoint else "(none)"
            psk = preshared_key(node.name, peer.name) if peer.psk else "(none)"
            allowed = ",".join(map(str, peer.allowed_ips)) or "(none)"
            keepalive = str(peer.keepalive_s or "off")
            lines.append([name, peer.public_key.base64(), psk, endpoint, allowed, "0", "0", "0", keepalive])
        addresses = [{"local": each.host.address, "prefixlen": each.length, "scope": "global"} for each in node.address]
        links = [{"ifname": name, "mtu": node.mtu, "addr_info": addresses}]
        dump = "".join("\t".join(line) + "\n" for line in lines)
        found.append(Source(f"out/{node.name}/wg-show-all-dump.txt", dump.encode()))
        found.append(Source(f"out/{node.name}/ip-addr.json", json.dumps(links).encode()))
    return found
