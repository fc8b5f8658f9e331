"""
What runs, as a wg-quick file again: `save`, and SaveConfig at `down`.

The order and the words are wg-quick's: its own keys first, then what `wg showconf` prints. Better than wg-quick in three places:
the names of peers stay, an endpoint that was given by host name stays a host name, and a mark that `up` chose is not written, so
that the next `up` chooses again.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Sequence

from ginnel.config.wgquick import WgQuickFile
from ginnel.linux.uapi import Device, DevicePeer


def saved_text(file: WgQuickFile, device: Device, *, addresses: Sequence[str], mtu: int | None, chosen_fwmark: int) -> str:
    """
    The file to write; it holds the private key.

    Args:
        file: as it was read: its hooks, names, DNS and Table are kept.
        device: as it runs.
        addresses: of the interface now, with lengths.
        mtu: of the interface now; written only where the file had one.
        chosen_fwmark: a mark that `up` chose by itself, or 0.
    """
    sections = ["".join(f"{line}\n" for line in _interface(file, device, addresses, mtu, chosen_fwmark))]
    known = {peer.public_key.hex(): peer for peer in file.peers}
    for peer in device.peers:
        before = known.get(peer.public_key)
        host = before.endpoint if before is not None and before.endpoint is not None and not before.endpoint.is_numeric else None
        lines = _peer(peer, before.name if before is not None else "", str(host) if host is not None else peer.endpoint)
        sections.append("".join(f"{line}\n" for line in lines))
    return "\n".join(sections)


def _interface(file: WgQuickFile, device: Device, addresses: Sequence[str], mtu: int | None, chosen_fwmark: int) -> Iterator[str]:
    interface = file.interface
    yield "[Interface]"
    if interface.name:
        yield f"# Name = {interface.name}"
    for address in addresses:
        # The kernel gives TUN devices a link-local address by itself.
        if not address.startswith("fe80:") or address in interface.addresses:
            yield f"Address = {address}"
    for server in (*interface.dns, *interface.dns_search):
        yield f"DNS = {server}"
    if interface.mtu is not None:
        yield f"MTU = {mtu or interface.mtu}"
    if interface.table != "auto":
        yield f"Table = {interface.table}"
    if interface.save_config:
        yield "SaveConfig = true"
    hooks = interface.hooks
    phases = {"PreUp": hooks.pre_up, "PostUp": hooks.post_up, "PreDown": hooks.pre_down, "PostDown": hooks.post_down}
    for key, lines in phases.items():
        for line in lines:
            yield f"{key} = {line}"
    if device.listen_port:
        yield f"ListenPort = {device.listen_port}"
    if device.fwmark and device.fwmark != chosen_fwmark:
        yield f"FwMark = 0x{device.fwmark:x}"
    if device.private_key:
        yield f"PrivateKey = {base64_of(device.private_key)}"


def _peer(peer: DevicePeer, name: str, endpoint: str) -> Iterator[str]:
    yield "[Peer]"
    if name:
        yield f"# Name = {name}"
    yield f"PublicKey = {base64_of(peer.public_key)}"
    if peer.preshared_key:
        yield f"PresharedKey = {base64_of(peer.preshared_key)}"
    if peer.allowed_ips:
        yield f"AllowedIPs = {', '.join(peer.allowed_ips)}"
    if endpoint:
        yield f"Endpoint = {endpoint}"
    if peer.keepalive_s:
        yield f"PersistentKeepalive = {peer.keepalive_s}"


def base64_of(key: str) -> str:
    """64 hexadecimal digits as `wg` prints a key."""
    return binascii.b2a_base64(bytes.fromhex(key), newline=False).decode("ascii")
