"""
A wg-quick file as lines for a device: what `wg addconf` would send to a new interface.

The result holds secrets as text, for as long as it takes to send them.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from ginnel.config.wgquick import WgQuickFile
from ginnel.errors import GinnelError
from ginnel.units import Endpoint, PublicKey


def device_lines(file: WgQuickFile, endpoints: Mapping[PublicKey, Endpoint]) -> str:
    """
    UAPI lines for a fresh device.

    Args:
        endpoints: where each peer with an Endpoint was found to be.
    """
    interface = file.interface
    lines: list[str] = []
    if interface.private_key is not None:
        lines.append(f"private_key={interface.private_key.reveal_hex()}")
    if interface.listen_port is not None:
        lines.append(f"listen_port={port_number(interface.listen_port)}")
    if interface.fwmark is not None:
        lines.append(f"fwmark={interface.fwmark}")
    for peer in file.peers:
        lines.append(f"public_key={peer.public_key.hex()}")
        if peer.preshared_key is not None:
            lines.append(f"preshared_key={peer.preshared_key.reveal_hex()}")
        if (endpoint := endpoints.get(peer.public_key)) is not None:
            lines.append(f"endpoint={endpoint}")
        if peer.persistent_keepalive is not None:
            lines.append(f"persistent_keepalive_interval={peer.persistent_keepalive}")
        lines.append("replace_allowed_ips=true")
        lines += [f"allowed_ip={prefix}" for prefix in peer.prefixes]
    return "".join(f"{line}\n" for line in lines)


def port_number(port: str) -> int:
    """A port by number or by the name of a UDP service."""
    if port.isdigit():
        return int(port)
    try:
        return socket.getservbyname(port, "udp")
    except OSError:
        raise GinnelError(f"ListenPort: expected a port or a UDP service, found '{port}'") from None
