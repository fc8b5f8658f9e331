"""
A node description as a wg-quick file: what `ginnel up` and stock `wg-quick up` both run.

Names travel as `# Name =` comments, the convention that `ginnel show` and several exporters read. What wg-quick has no key
for (forwarding, hiding an exit's clients) becomes hooks in plain words of /proc and nft, so that the file alone is the
whole node. The same description renders to the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.network.compile import NodeDescription, PeerDescription
from ginnel.network.model import HostPort
from ginnel.network.render import public_key
from ginnel.units import Prefix


def render(description: NodeDescription, private_key: str = "") -> str:
    """
    Render the file for one node.

    Args:
        description: what the node runs.
        private_key: its private key in base64, where the text goes straight into a 0600 file on the node itself. Without it
            the file holds no secret, and takes the key from /etc/wireguard/NAME.key at `up`.

    Returns:
        the text of NAME.conf.
    """
    return "\n".join([*_interface(description, private_key), *_peers(description)]) + "\n"


def _interface(description: NodeDescription, private_key: str) -> Iterator[str]:
    yield f"# {description.network}: {description.name}. Rendered by ginnel; changes belong in the network file."
    yield "[Interface]"
    yield f"# Name = {description.name}"
    if private_key:
        yield f"PrivateKey = {private_key}"
    yield f"Address = {', '.join(map(str, description.address))}"
    if description.listen_port:
        yield f"ListenPort = {description.listen_port}"
    yield f"MTU = {description.mtu}"
    if description.dns:
        yield f"DNS = {', '.join(description.dns)}"
    if description.forwards:
        versions = {len(address.packed) for address in description.address} | {len(p.packed) for p in description.node.lans}
        if 4 in versions:
            yield "PreUp = echo 1 > /proc/sys/net/ipv4/ip_forward"
        if 16 in versions:
            yield "PreUp = echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
    if not private_key:
        yield "PostUp = wg set %i private-key /etc/wireguard/%i.key"
    if description.masquerades:
        yield f"PostUp = nft '{_masquerade(description)}'"
        yield "PostDown = nft 'delete table inet ginnel-exit-%i'"


def _masquerade(description: NodeDescription) -> str:
    """One transaction: sources that exit here leave under the host's own address, but not towards its own LANs."""
    steps = [
        "add table inet ginnel-exit-%i",
        "add chain inet ginnel-exit-%i leaving { type nat hook postrouting priority srcnat; }",
    ]
    for version, word in ((4, "ip"), (6, "ip6")):
        sources = [prefix for prefix in description.masquerades if prefix.version == version]
        if not sources:
            continue
        lans = [prefix for prefix in description.node.lans if prefix.version == version]
        outside = f" {word} daddr != {_set(lans)}" if lans else ""
        steps.append(f'add rule inet ginnel-exit-%i leaving oifname != "%i" {word} saddr {_set(sources)}{outside} masquerade')
    return "; ".join(steps)


def _set(prefixes: list[Prefix]) -> str:
    return "{ " + ", ".join(map(str, prefixes)) + " }"


def _peers(description: NodeDescription) -> Iterator[str]:
    for peer in description.peers:
        yield ""
        yield "[Peer]"
        yield f"# Name = {peer.name}"
        yield from _peer(peer)


def _peer(peer: PeerDescription) -> Iterator[str]:
    yield f"PublicKey = {public_key(peer).base64()}"
    yield f"AllowedIPs = {', '.join(map(str, peer.allowed_ips))}"
    if peer.endpoint is not None:
        yield f"Endpoint = {_endpoint(peer.endpoint)}"
    if peer.keepalive_s:
        yield f"PersistentKeepalive = {peer.keepalive_s}"


def _endpoint(endpoint: HostPort) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host  # no host name has a colon
    return f"{host}:{endpoint.port}"
