"""
A small PKI for tests: authorities that issue whatever a test wants, right or wrong, and revocation lists.

Everything is made with the library `cryptography`; nothing of ginnel's is used, so that it can judge ginnel. Keys are made anew
in each process; RSA keys, which take long, are kept by size.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

#: The moment tests judge at, and its ns.
TODAY = dt.datetime(2026, 11, 21, 12, 0, 0, tzinfo=dt.UTC)
TODAY_NS = int(TODAY.timestamp()) * 10**9
DAY = dt.timedelta(days=1)


@functools.cache
def rsa_key(bits: int = 2048, which: int = 0) -> rsa.RSAPrivateKey:
    """One of the RSA keys of a size; *which* tells them apart."""
    return rsa.generate_private_key(65537, bits)


def ecdsa_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def key_pem(key: Key, passphrase: bytes | None = None) -> bytes:
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


def public_pem(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def name(*common: str, organisation: str = "Test") -> x509.Name:
    """O=Test, CN=…"""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            *(x509.NameAttribute(NameOID.COMMON_NAME, one) for one in common),
        ]
    )


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)


def certificate(
    subject: x509.Name,
    key: Key,
    issuer: x509.Name,
    issuer_key: Key,
    *,
    names: Sequence[x509.GeneralName] = (),
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    begins: dt.datetime = TODAY - 30 * DAY,
    ends: dt.datetime = TODAY + 30 * DAY,
) -> Issued:
    """A certificate with exactly these extensions (and the names as SAN)."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    hashed = None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Issued(builder.sign(issuer_key, hashed), key)


def key_usage(
    *, signature: bool = False, certificates: bool = False, crls: bool = False, agreement: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signature, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=agreement, key_cert_sign=certificates, crl_sign=crls, encipher_only=False, decipher_only=False,
    )  # fmt: skip


CA = (x509.BasicConstraints(ca=True, path_length=None), True)
CA_USAGE = (key_usage(certificates=True, crls=True), True)


@dataclass
class Authority:
    """An authority; without *above* its certificate is self-signed."""

    title: str = "Root"
    above: Authority | None = None
    key: Key = field(default_factory=ecdsa_key)
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (CA, CA_USAGE)
    begins: dt.datetime = TODAY - 300 * DAY
    ends: dt.datetime = TODAY + 300 * DAY

    def __post_init__(self) -> None:
        above = self.above or self
        self.name = name(self.title)
        self.own = certificate(
            self.name, self.key, name(above.title), above.key,
            extensions=self.extensions, begins=self.begins, ends=self.ends,
        )  # fmt: skip

    @property
    def pem(self) -> bytes:
        return self.own.pem

    @property
    def der(self) -> bytes:
        return self.own.der

    def issue(
        self,
        common: str = "moon.example.org",
        *,
        key: Key | None = None,
        names: Sequence[x509.GeneralName] | None = None,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
        begins: dt.datetime = TODAY - 30 * DAY,
        ends: dt.datetime = TODAY + 30 * DAY,
    ) -> Issued:
        """An end entity's certificate; names: by default the common name as a DNS name."""
        return certificate(
            name(common), key or ecdsa_key(), self.name, self.key,
            names=[x509.DNSName(common)] if names is None else names,
            extensions=extensions, begins=begins, ends=ends,
        )  # fmt: skip

    def crl(
        self,
        *revoked: Issued,
        made: dt.datetime = TODAY - DAY,
        following: dt.datetime | None = TODAY + 7 * DAY,
        reason: x509.ReasonFlags | None = x509.ReasonFlags.key_compromise,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
        key: Key | None = None,
    ) -> bytes:
        """A revocation list in PEM; *key*: signed with another than ours."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(made)
        builder = builder.next_update(following or TODAY + 7 * DAY)
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(made)
            if reason is not None:
                entry = entry.add_extension(x509.CRLReason(reason), critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        signing = key or self.key
        hashed = None if isinstance(signing, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return builder.sign(signing, hashed).public_bytes(Encoding.PEM)
