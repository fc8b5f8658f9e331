"""What a node with ginnel on it runs: its WireGuard interface as a wg-quick file, its other tunnels as a node file."""

from __future__ import annotations

from ginnel.network.compile import NodeDescription
from ginnel.network.render import NONE, File, Secrets, interfaces, node_toml, wgquick


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """Those of the two that the node needs."""
    quick = wgquick.files(description, secrets) if interfaces(description) else ()
    return (*quick, *(node_toml.files(description, secrets) if description.tunnels else ()))
