"""
What the nodes of a lab prove themselves with under IPsec, and WireGuard's preshared keys: made for one rehearsal, gone with it.

A network file holds no secret, and on the real hosts each lies beside the node file (`network.ipsec`). The lab puts others in
their places: a key for each link, the same at both ends; and where links are authenticated by certificates an authority that
signs one for each node. So a rehearsal needs no secrets, and proves nothing about the real ones.
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ginnel.network import Link, Lock, Network, Node, NodeDescription
from ginnel.network.gre import numeric_endpoint
from ginnel.network.ipsec import CA_FILE, CERTIFICATE_FILE, KEY_FILE, identity, psk_file

#: The clock of a lab is the host's own; a certificate made now is already valid on a host that is a little behind.
_BEFORE, _AFTER = dt.timedelta(hours=1), dt.timedelta(days=1)


def made_for(network: Network, links: Iterable[Link], lock: Lock | None = None) -> Mapping[str, Mapping[str, bytes]]:
    """
    The files of every node with a protected link: node -> name of the file -> content.

    By *lock*, nodes that were renamed are known to their peers as before.
    """
    known = {node.name: replace(node, name=lock.known_as(node.name)) if lock else node for node in network.nodes}
    files: dict[str, dict[str, bytes]] = {}
    certified: dict[str, Node] = {}
    for link in links:
        if link.ipsec is None:
            continue
        left, right = (network.node(name) for name in link.between)
        if link.ipsec.auth == "certificate":
            certified |= {left.name: left, right.name: right}
            continue
        key = secrets.token_urlsafe(32).encode()
        files.setdefault(left.name, {})[psk_file(known[right.name])] = key
        files.setdefault(right.name, {})[psk_file(known[left.name])] = key
    for name, found in _certificates(network, certified.values(), known).items():
        files.setdefault(name, {}).update(found)
    return files


def preshared(descriptions: Iterable[NodeDescription]) -> Mapping[str, Mapping[str, str]]:
    """WireGuard's preshared keys of every pair that is to have one: node -> peer -> base64."""
    found: dict[str, dict[str, str]] = {}
    for description in descriptions:
        for peer in (peer for each in (description, *description.beside) for peer in each.peers if peer.psk):
            key = found.get(peer.name, {}).get(description.name) or base64.b64encode(secrets.token_bytes(32)).decode()
            found.setdefault(description.name, {})[peer.name] = key
    return found


def _certificates(network: Network, nodes: Iterable[Node], known: Mapping[str, Node]) -> dict[str, dict[str, bytes]]:
    """An authority of this lab alone, and what it signed for each node."""
    wanted = list(nodes)
    if not wanted:
        return {}
    # Imported here: most labs have no certificates, and the library is large.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = dt.datetime.now(dt.UTC)

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def begun(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        return builder.not_valid_before(now - _BEFORE).not_valid_after(now + _AFTER)

    def usage(*, sign: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not sign,
            key_cert_sign=sign,
            crl_sign=sign,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )

    issuer = named(f"{network.name} lab")
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = begun(issuer, ca_key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    ca = ca.add_extension(usage(sign=True), critical=True)
    ca_pem = ca.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    files = {}
    for node in wanted:
        key = ec.generate_private_key(ec.SECP256R1())
        own = identity(network, known[node.name])
        names: list[x509.GeneralName] = [x509.DNSName(own)]
        address = numeric_endpoint(node)
        names += [x509.IPAddress(ipaddress.ip_address(address))] if address is not None else []
        leaf = begun(named(own), key).add_extension(x509.SubjectAlternativeName(names), critical=False)
        leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        leaf = leaf.add_extension(usage(sign=False), critical=True)
        files[node.name] = {
            CA_FILE: ca_pem,
            CERTIFICATE_FILE: leaf.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            KEY_FILE: key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        }
    return files
