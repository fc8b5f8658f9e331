"""Small networks for these tests."""

from __future__ import annotations

from ginnel.errors import ConfigError
from ginnel.network import Lock, Network, NodeDescription, allocate, compile_network, parse_network
from ginnel.units import PublicKey

HEAD = """\
[network]
name = "acme"
pool = ["10.10.0.0/24", "fd10:10::/64"]
"""

THREE = f"""{HEAD}
[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24"]

[node.frankfurt]
endpoint = "198.51.100.20"
lans = ["10.30.0.0/24", "fd10:30::/64"]

[node.lyon]
lans = ["10.40.0.0/24"]
"""


def parsed(text: str) -> Network:
    return parse_network(text, "network.toml")


def mistakes(text: str) -> list[str]:
    """Every mistake of *text* as `line:column: message`; at least one."""
    try:
        parsed(text)
    except ConfigError as error:
        return [f"{m.span.line}:{m.span.column}: {m.message}" if m.span else m.message for m in error.mistakes]
    raise AssertionError("nothing was found wrong")


def keys_for(network: Network) -> dict[str, PublicKey]:
    return {node.name: PublicKey(bytes([index + 1]) * 32) for index, node in enumerate(network.nodes)}


def compiled(text: str) -> dict[str, NodeDescription]:
    network = parsed(text)
    return compile_network(network, allocate(network, Lock()), keys_for(network))
