"""
A node's WireGuard interface as `wg setconf` and `wg syncconf` read it: keys, port, mark, peers; nothing that is the host's.

Without secrets there is no PrivateKey in it: `wg setconf` then leaves the interface without one, so the command that gives it
stands in a comment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ginnel.network.compile import NodeDescription, PeerDescription
from ginnel.network.render import NONE, File, Secrets, host_port, interfaces, public_key, sound, title, wireguard_only

#: Where a host has its keys; what wg-quick's users have.
KEYS = "/etc/wireguard"


def key_file(interface: str, directory: str = KEYS) -> str:
    """Where a host has the private key of an interface."""
    return f"{directory}/{interface}.key"


def psk_file(interface: str, peer: str, directory: str = KEYS) -> str:
    """Where a host has its preshared key with a peer."""
    return f"{directory}/{interface}.{peer}.psk"


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """One file for each interface."""
    sound.check(description, secrets)
    wireguard_only(description, "wg setconf")
    return tuple(_file(each, secrets) for each in interfaces(description))


def _file(description: NodeDescription, secrets: Secrets) -> File:
    lines = [title(description), *_hints(description, secrets)]
    lines += interface(description, secrets.private_key, description.node.fwmark)
    lines += peers(description, secrets.psk)
    return File(f"{description.interface}.setconf", ("\n".join(lines) + "\n").encode(), "", is_secret(description, secrets))


def _hints(description: NodeDescription, secrets: Secrets) -> Iterator[str]:
    name = description.interface
    yield f"# wg setconf {name} {name}.setconf"
    for command in key_commands(description, secrets, name):
        yield f"# {command}"


def key_commands(description: NodeDescription, secrets: Secrets, name: str, directory: str = KEYS) -> Iterator[str]:
    """The commands that give the interface *name* the keys that are not in the file; the private one last, then it speaks."""
    for peer in description.peers:
        if peer.psk and peer.name not in secrets.psk:
            yield f"wg set {name} peer {public_key(peer).base64()} preshared-key {psk_file(name, peer.name, directory)}"
    if not secrets.private_key:
        yield f"wg set {name} private-key {key_file(description.beside_of or name, directory)}"


def is_secret(description: NodeDescription, secrets: Secrets) -> bool:
    """Whether a WireGuard file of the node holds one of these."""
    return description.wireguard and bool(secrets.private_key or secrets.psk)


def interface(description: NodeDescription, private_key: str = "", mark: int = 0) -> Iterator[str]:
    """The lines of `[Interface]` that `wg` knows."""
    yield "[Interface]"
    if private_key:
        yield f"PrivateKey = {private_key}"
    if description.listen_port:
        yield f"ListenPort = {description.listen_port}"
    if mark:
        yield f"FwMark = {mark:#x}"


def peers(description: NodeDescription, psk: Mapping[str, str] = NONE.psk) -> Iterator[str]:
    """The lines of each `[Peer]`."""
    for peer in description.peers:
        yield peer.said(_title)
        yield from peer_lines(peer, psk.get(peer.name, "")) if peer.name in psk else peer.said(_alike)


def _title(peer: PeerDescription) -> str:
    return f"\n[Peer]\n# Name = {peer.name}" + ("\n# The key that it is about to take." if peer.coming else "")


def _alike(peer: PeerDescription) -> tuple[str, ...]:
    return ("\n".join(peer_lines(peer)),)


def peer_lines(peer: PeerDescription, psk: str = "") -> Iterator[str]:
    """What `wg` knows of a peer."""
    yield f"PublicKey = {public_key(peer).base64()}"
    if psk:
        yield f"PresharedKey = {psk}"
    if peer.allowed_ips:
        yield f"AllowedIPs = {', '.join(map(str, peer.allowed_ips))}"
    if peer.endpoint is not None:
        yield f"Endpoint = {host_port(peer.endpoint)}"
    if peer.keepalive_s:
        yield f"PersistentKeepalive = {peer.keepalive_s}"
