"""
Connections whose ends prove themselves by certificates or raw keys, with all the files that both want.

Certificates are valid around now, since real processes judge them; `pki` alone would have them valid around a day of its own.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

import pki
from peers.ipsec_world import Peering

NOW = dt.datetime.now(dt.UTC)
VALID: dict[str, Any] = {"begins": NOW - dt.timedelta(days=1), "ends": NOW + dt.timedelta(days=30)}
#: Names in a certificate that does not fit one datagram.
MANY = [f"alias-{number}.of.a.rather.long.name.example.org" for number in range(40)]


@functools.cache
def authority() -> pki.Authority:
    """Both ends trust it."""
    return pki.Authority("Root of the peers", **VALID)


def key_of(kind: str) -> pki.Key:
    """A key of that kind; RSA keys are kept."""
    match kind:
        case "rsa":
            return pki.rsa_key(2048)
        case "rsa4096":
            return pki.rsa_key(4096)
        case "ed25519":
            return pki.ed25519_key()
    return pki.ecdsa_key({"ecp256": ec.SECP256R1(), "ecp384": ec.SECP384R1(), "ecp521": ec.SECP521R1()}[kind])


def certified(
    number: int, label: str, kind: str, *, names: Sequence[str] = (), theirs: str = "pubkey", swan: pki.Issued | None = None,
    crl: bytes = b"", **options: Any,
) -> Peering:  # fmt: skip
    """
    A connection whose ends prove themselves by certificates with keys of *kind*.

    names: further ones in them. theirs: strongSwan's word for its proof. swan: its certificate instead. crl: what we are given.
    """
    issued = [
        authority().issue(name, key=key_of(kind), names=[x509.DNSName(one) for one in (name, *names)], **VALID)
        for name in (f"node{number}.example.org", f"swan{number}.example.org")
    ]
    node, other = issued[0], swan or issued[1]
    crls = {"crl_files": ("{dir}/crl.pem",)} if crl else {}
    return Peering(
        number, label,
        ours={
            "auth": "certificate", "certificate_files": ("{dir}/own.pem",), "private_key_file": "{dir}/key.pem",
            "ca_files": ("{dir}/ca.pem",), "local_id": f"node{number}.example.org", "remote_id": f"swan{number}.example.org",
            **crls,
        },
        our_files={"own.pem": node.pem, "key.pem": node.key_pem, "ca.pem": authority().pem} | ({"crl.pem": crl} if crl else {}),
        theirs={
            "local": {"auth": theirs, "certs": f"c{number}.pem", "id": f"swan{number}.example.org"},
            "remote": {"auth": "pubkey", "cacerts": "ca.pem", "id": f"node{number}.example.org"},
        },
        their_files={
            f"x509/c{number}.pem": other.pem, f"private/c{number}.pem": other.key_pem, "x509ca/ca.pem": authority().pem,
        },
        **options,
    )  # fmt: skip


def pinned(number: int, label: str, **options: Any) -> Peering:
    """A connection whose ends know each other's public key."""
    node, swan = pki.ed25519_key(), pki.ed25519_key()
    return Peering(
        number, label,
        ours={
            "auth": "public-key", "private_key_file": "{dir}/key.pem", "peer_key_file": "{dir}/peer.pem",
            "local_id": f"node{number}", "remote_id": f"swan{number}",
        },
        our_files={"key.pem": pki.key_pem(node), "peer.pem": pki.public_pem(swan)},
        theirs={
            "local": {"auth": "pubkey", "pubkeys": f"own{number}.pem", "id": f"swan{number}"},
            "remote": {"auth": "pubkey", "pubkeys": f"peer{number}.pem", "id": f"node{number}"},
        },
        their_files={
            f"pubkey/own{number}.pem": pki.public_pem(swan), f"private/own{number}.pem": pki.key_pem(swan),
            f"pubkey/peer{number}.pem": pki.public_pem(node),
        },
        **options,
    )  # fmt: skip
