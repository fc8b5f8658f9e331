"""
Links that IPsec protects: what a network file leaves open about them, decided.

    identities  NODE.NETWORK, a host name that needs not exist: with it each end names itself, whatever its address is now
    who begins  the end behind NAT; of two that can be reached the one named first, the other when it has something to send
    proposals   one authenticated cipher and one group for IKE and for ESP: both ends are ours and have them, and the MTU is
                exact; where an end is a router, AES-CBC and a NIST curve for IKE, which every release of theirs has
    selectors   of everything, as route-based tunnels have them; of IPv4 alone where an end knows no more (Cisco's)
    secrets     lie beside the node file, each readable by root alone; the network file has none:
                  PEER.psk   of the link with PEER: the same bytes at both ends (`psk-file` in the node file)
                  node.crt, node.key, ca.crt   where links are authenticated by certificates; node.crt names NODE.NETWORK
    MTU         of the worst of the suites that are offered, and in UDP unless the file says that no NAT is ever on the way: what
                `config.layers` has for any node file

Source: RFC 7296, 2.15, 3.5; strongSwan's words for proposals.
"""

from __future__ import annotations

from typing import Literal

from ginnel.config.node import IpsecConfig
from ginnel.network.model import Link, Network, Node

IKE_PROPOSALS = ("aes256gcm16-prfsha384-x25519",)
ESP_PROPOSALS = ("aes256gcm16-x25519",)
#: The same where an end is one of `ROUTERS`: what docs/howto/ipsec-with-*.md has for all of them.
ROUTERS = ("cisco-ios", "routeros", "vyos")
ROUTER_IKE_PROPOSALS = ("aes256-sha256-ecp256",)
ROUTER_ESP_PROPOSALS = ("aes256gcm16-ecp256",)
_ALL_OF_IPV4 = ("0.0.0.0/0",)

CERTIFICATE_FILE, KEY_FILE, CA_FILE = "node.crt", "node.key", "ca.crt"


def identity(network: Network, node: Node) -> str:
    """What a node calls itself, and its certificate it."""
    return f"{node.name}.{network.name}"


def psk_file(peer: Node) -> str:
    """Where a node has the key of its link with *peer*, beside the node file."""
    return f"{peer.name}.psk"


def start_of(link: Link, node: Node, peer: Node) -> Literal["start", "trap", "wait"]:
    """Who begins: two that begin at once would work as well, and do everything twice."""
    if not _finds(link, node, peer):
        return "wait"
    return "start" if not _finds(link, peer, node) or link.between[0] == node.name else "trap"


def _finds(link: Link, node: Node, peer: Node) -> bool:
    """Whether *node* knows where *peer* is: by the peer's endpoint, or by what the link says of this end."""
    endpoint = link.end(node.name).endpoint or peer.endpoint
    return endpoint is not None and endpoint.host != ""


def config_of(network: Network, link: Link, node: Node, peer: Node) -> IpsecConfig | None:
    """The protection of a link as *node* has it; files are named relative to the node file."""
    options = link.ipsec
    if options is None:
        return None
    by_certificate = options.auth == "certificate"
    with_router = node.runs in ROUTERS or peer.runs in ROUTERS
    ike, esp = (ROUTER_IKE_PROPOSALS, ROUTER_ESP_PROPOSALS) if with_router else (IKE_PROPOSALS, ESP_PROPOSALS)
    selectors = _ALL_OF_IPV4 if link.kind == "ipsec" and "cisco-ios" in {node.runs, peer.runs} else ()
    return IpsecConfig(
        mode="tunnel" if link.kind == "ipsec" else options.mode,
        start=start_of(link, node, peer),
        auth=options.auth,
        psk_file="" if by_certificate else psk_file(peer),
        certificate_files=(CERTIFICATE_FILE,) if by_certificate else (),
        private_key_file=KEY_FILE if by_certificate else "",
        ca_files=(CA_FILE,) if by_certificate else (),
        local_id=identity(network, node),
        remote_id=identity(network, peer),
        ike_proposals=options.ike or ike,
        esp_proposals=options.esp or esp,
        local_ts=selectors,
        remote_ts=selectors,
        encapsulation=options.encapsulation,
        ike_rekey_s=options.ike_rekey_s,
        rekey_s=options.rekey_s,
        dpd_s=options.dpd_s,
    )
