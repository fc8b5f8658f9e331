"""
From the bytes of files to what we prove ourselves with and what we believe: `runtime` reads the files, everything about their
contents is judged here, before anything runs, and all mistakes are told at once, each with its file and a way out.

Only for certificates and public keys; a pre-shared secret needs no more than `psk`, and this module brings the library that
reads certificates into memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from ginnel.errors import ConfigError, Mistake
from ginnel.ikev2 import certificates, chain, rawkeys, revocation, signatures
from ginnel.ikev2.certificates import Certificate
from ginnel.ikev2.proofs import CertificateBelieving, CertificateProving
from ginnel.ikev2.rawkeys import RawKeyBelieving, RawKeyProving


def load_proving(
    auth: Literal["certificate", "public-key"],
    certificate_files: Sequence[str],
    private_key_file: str,
    files: Mapping[str, bytes],
) -> CertificateProving | RawKeyProving:
    """
    What we prove ourselves with.

    Args:
        certificate_files: PEM or DER; the first certificate of the first file is ours, the others are sent along.
        private_key_file: PEM (PKCS #8, or the older forms) or DER, not encrypted.
        files: the bytes of each of them by its path.

    Raises:
        ConfigError: a key or certificate is unreadable or not taken, or they do not belong together. Never quotes a key.
    """
    key = _private(private_key_file, files)
    if auth == "public-key":
        return RawKeyProving(key, private_key_file)
    found = [one for path in certificate_files for one in _certificates(path, files)]
    if not found:
        raise _mistake(
            private_key_file, "expected a certificate beside the private key, found none", "name it in certificate_files"
        )
    if rawkeys.spki(found[0].key) != rawkeys.spki(key.public_key()):
        other = next((one for one in found if rawkeys.spki(one.key) == rawkeys.spki(key.public_key())), None)
        raise _mistake(
            certificate_files[0],
            f"the private key in {private_key_file} ({signatures.key_words(key.public_key())}) does not belong to "
            f"the certificate of {found[0]} ({signatures.key_words(found[0].key)})",
            f"it belongs to the certificate of {other}, which has to come first"
            if other
            else "`openssl pkey -pubout` of the key and `openssl x509 -pubkey -noout` of the certificate must agree",
        )
    sent = [found[0], *(one for one in found[1:] if not one.self_issued)]
    if len(sent) > certificates.CERTIFICATES_MAX:
        raise _mistake(
            certificate_files[0], f"expected at most {certificates.CERTIFICATES_MAX} certificates, found {len(sent)}", ""
        )
    return CertificateProving(key, sent, certificate_files[0])


def load_believing(
    auth: Literal["certificate", "public-key"],
    ca_files: Sequence[str],
    crl_files: Sequence[str],
    revocation_: Literal["strict", "if-given"],
    peer_key_file: str,
    files: Mapping[str, bytes],
    *,
    sha1: bool = False,
) -> CertificateBelieving | RawKeyBelieving:
    """
    What we take from the peer for a proof.

    Args:
        ca_files: authorities; a certificate among them that is none is a peer's own, believed as it is.
        peer_key_file: for "public-key" the peer's key (or a certificate with it); for "certificate" its own, or empty.
        files: the bytes of each of them by its path.
        sha1: RSA signatures with SHA-1 are taken in AUTH (old peers).

    Raises:
        ConfigError: something is unreadable or not taken, or there is nothing to believe.
    """
    if auth == "public-key":
        return RawKeyBelieving(_public(peer_key_file, files), peer_key_file)
    known = [one for path in ca_files for one in _certificates(path, files)]
    pinned = _certificates(peer_key_file, files) if peer_key_file else []
    authorities = [one for one in known if one.is_authority]
    peers = [*pinned, *(one for one in known if not one.is_authority)]
    if not authorities and not peers:
        raise _mistake(
            "ca_files", "expected an authority or the peer's certificate, found none", "name a file with the CA's certificate"
        )
    lists = []
    for path in crl_files:
        try:
            lists.append(revocation.parse(files[path], path))
        except ValueError as wrong:
            raise _mistake(path, str(wrong), "") from None
    heeded = revocation.Revocation(lists, strict=revocation_ == "strict")
    orphans = heeded.orphans(authorities)
    if orphans:
        raise _mistake(orphans[0].partition(": ")[0], orphans[0].partition(": ")[2], "fetch the current list of this authority")
    return CertificateBelieving(chain.Trust(tuple(authorities), tuple(peers), heeded), sha1=sha1)


# ---------------------------------------------------------------- files


def _certificates(path: str, files: Mapping[str, bytes]) -> list[Certificate]:
    data = files[path]
    try:
        return certificates.parse_all(data)
    except ValueError as wrong:
        hint = "this is the private key's file" if b"PRIVATE KEY-----" in data else ""
        raise _mistake(path, str(wrong), hint) from None


def _private(path: str, files: Mapping[str, bytes]) -> signatures.PrivateKey:
    if not path:
        raise _mistake("private_key_file", "expected the file of our private key, found none", "")
    data = files[path]
    plain = f"`openssl pkey -in {path} -out {path}.plain` takes the passphrase off; keep the file at mode 0600"
    if b"ENCRYPTED" in data:
        raise _mistake(path, "expected a private key without a passphrase, found an encrypted one", plain)
    if b"BEGIN OPENSSH PRIVATE KEY" in data:
        raise _mistake(
            path, "expected a private key in PEM, found OpenSSH's own form", f"`ssh-keygen -p -m PKCS8 -f {path}` rewrites it"
        )
    try:
        if b"-----BEGIN" in data:
            return signatures.checked_private(serialization.load_pem_private_key(data, None))
        return signatures.checked_private(serialization.load_der_private_key(data, None))
    except TypeError:  # how the library says that a passphrase is wanted
        raise _mistake(path, "expected a private key without a passphrase, found an encrypted one", plain) from None
    except UnsupportedAlgorithm:
        raise _mistake(path, "expected an RSA, ECDSA or Ed25519 private key, found another kind", "") from None
    except ValueError as wrong:
        ours = str(wrong).startswith("expected ")  # the library's own words might quote what it read
        raise _mistake(path, str(wrong) if ours else "expected a private key in PEM or DER, found something else", "") from None


def _public(path: str, files: Mapping[str, bytes]) -> signatures.PublicKey:
    if not path:
        raise _mistake("peer_key_file", "expected the file of the peer's public key, found none", "")
    data = files[path]
    if b"PRIVATE KEY-----" in data:
        raise _mistake(
            path, "expected the peer's public key, found a private one", f"`openssl pkey -in {path} -pubout` makes the public one"
        )
    if b"BEGIN CERTIFICATE" in data:
        return _certificates(path, files)[0].key
    try:
        if b"-----BEGIN" in data:
            return signatures.checked_public(serialization.load_pem_public_key(data))
        return signatures.checked_public(serialization.load_der_public_key(data))
    except (ValueError, UnsupportedAlgorithm) as wrong:
        ours = str(wrong).startswith("expected ")
        raise _mistake(path, str(wrong) if ours else "expected a public key in PEM or DER, found something else", "") from None


def _mistake(source: str, message: str, hint: str) -> ConfigError:
    return ConfigError(source, [Mistake(message, hint=hint)])
