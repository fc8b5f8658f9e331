"""
X.509 certificates as values, and the names that they vouch for.

A certificate is read once, strictly: its issuer, subject and public key are kept as the bytes that they travel in (names are
compared, keys are hashed as bytes), its extensions as the library gives them. Keys that are too weak are refused while reading.

Which identity a certificate vouches for (RFC 7296 3.5, RFC 4945 3.1):

    FQDN            a dNSName of the SAN, whole and without regard to case; wildcards vouch for nothing here
    RFC822_ADDR     an rfc822Name of the SAN; the domain without regard to case
    IPV4, IPV6      an iPAddress of the SAN
    DER_ASN1_DN     the subject (see `der.same_name`)

A common name is part of the subject and vouches for no FQDN. KEY_ID and GN have no place in a certificate.

Source: RFC 5280 4; RFC 4945.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from ginnel.crypto.ike import digest
from ginnel.ikev2 import der, identities
from ginnel.ikev2.signatures import PublicKey, checked_public
from ginnel.wire.ikev2 import Id, IdType

#: One certificate; ordinary ones have 1 to 2 KiB, RSA-8192 with many names 5.
CERTIFICATE_MAX_BYTES: Final = 16_384
#: Sent by a peer in one message, or by us.
CERTIFICATES_MAX: Final = 16

_NS: Final = 10**9
_PSS_KEY: Final = bytes.fromhex("2a864886f70d01010a")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Names:
    """The subject alternative names that can be matched with identities; DNS names and domains in lower case."""

    dns: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    addresses: tuple[bytes, ...] = ()
    #: Encoded distinguished names.
    directories: tuple[bytes, ...] = ()
    #: Kinds of names that are there and not looked into ("URI", ...).
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    One certificate. subject, issuer, spki: as encoded. Times in ns since 1970.

    pss_only: the key is for RSASSA-PSS alone (id-RSASSA-PSS).
    """

    whole: bytes
    x509: x509.Certificate
    subject: bytes
    issuer: bytes
    spki: bytes
    key: PublicKey
    pss_only: bool
    names: Names
    not_before_ns: int
    not_after_ns: int

    @property
    def self_issued(self) -> bool:
        """Subject and issuer are one."""
        return self.subject == self.issuer

    @property
    def is_authority(self) -> bool:
        """Whether it may issue certificates, as its basic constraints say."""
        constraints = extension(self, x509.BasicConstraints)
        return constraints is not None and constraints.ca

    @property
    def key_hash(self) -> bytes:
        """SHA-1 of the SubjectPublicKeyInfo, as CERTREQ names an authority (RFC 7296 3.7)."""
        return digest("sha1", self.spki)

    def __str__(self) -> str:
        return name_words(self.subject)


def parse(whole: bytes) -> Certificate:
    """
    A certificate from its DER.

    Raises:
        ValueError: unreadable, too large, or its key is not taken; the message says what was expected.
    """
    if len(whole) > CERTIFICATE_MAX_BYTES:
        raise ValueError(f"expected a certificate of at most {CERTIFICATE_MAX_BYTES} bytes, found {len(whole)}")
    try:
        issuer, subject, spki = _parts(whole)
        certificate = x509.load_der_x509_certificate(whole)
        key = certificate.public_key()
        names = _names(certificate)
    except UnsupportedAlgorithm as wrong:
        raise ValueError(f"expected a certificate with an RSA, ECDSA or Ed25519 key: {wrong}") from None
    except (ValueError, TypeError, *_UNREADABLE) as wrong:
        raise ValueError(f"expected an X.509 certificate: {wrong}") from None
    return Certificate(
        whole=whole,
        x509=certificate,
        subject=subject,
        issuer=issuer,
        spki=spki,
        key=checked_public(key),
        pss_only=_key_algorithm(spki) == _PSS_KEY,
        names=names,
        not_before_ns=unix_ns(certificate.not_valid_before_utc),
        not_after_ns=unix_ns(certificate.not_valid_after_utc),
    )


def parse_all(data: bytes) -> list[Certificate]:
    """
    All certificates of a file: PEM, one or many, or one in DER.

    Raises:
        ValueError: as `parse`; which of several is said.
    """
    if b"-----BEGIN" not in data:
        return [parse(data)]
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError as wrong:
        raise ValueError(f"expected certificates in PEM: {wrong}") from None
    parsed = []
    for number, certificate in enumerate(found, 1):
        try:
            parsed.append(parse(certificate.public_bytes(Encoding.DER)))
        except ValueError as wrong:
            raise ValueError(f"certificate {number} of {len(found)}: {wrong}") from None
    return parsed


def _parts(whole: bytes) -> tuple[bytes, bytes, bytes]:
    """Issuer, subject and SubjectPublicKeyInfo as they are encoded (RFC 5280 4.1)."""
    signed = list(der.elements(der.one(whole, der.SEQUENCE).body))
    if len(signed) != 3:
        raise ValueError("expected the signed part, an algorithm and a signature")
    if signed[2].tag != der.BIT_STRING or signed[2].body[:1] != b"\0":
        raise ValueError("expected a signature of whole bytes")
    fields = list(der.elements(der.one(signed[0].whole, der.SEQUENCE).body))
    if fields and fields[0].tag == 0xA0:  # the version; absent in version 1
        del fields[0]
    if len(fields) < 6:
        raise ValueError("expected at least six fields in the signed part")
    serial, _algorithm, issuer, _validity, subject, spki = fields[:6]
    if not any(serial.body) or serial.body[0] & 0x80:
        raise ValueError("its serial number is not positive")
    return issuer.whole, subject.whole, spki.whole


def _key_algorithm(spki: bytes) -> bytes:
    """The contents of the algorithm's OBJECT IDENTIFIER; *spki* was read by the library already."""
    algorithm = next(der.elements(der.one(spki, der.SEQUENCE).body))
    return next(der.elements(algorithm.body)).body


# ---------------------------------------------------------------- extensions

#: What the library raises for extensions and versions that it cannot read.
_UNREADABLE: Final = (x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion)

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def extension(certificate: Certificate, kind: type[_Extension]) -> _Extension | None:
    """The extension of *kind*, None when there is none. (They were all read once, in `parse`.)"""
    try:
        return certificate.x509.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _names(certificate: x509.Certificate) -> Names:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names()
    dns, emails, addresses, directories, others = [], [], [], [], []
    for name in names:
        match name:
            case x509.DNSName():
                dns.append(folded(name.value))
            case x509.RFC822Name():
                emails.append(folded_email(name.value))
            case x509.IPAddress():
                addresses.append(_packed(name))
            case x509.DirectoryName():
                directories.append(name.value.public_bytes())
            case _:
                others.append(type(name).__name__)
    return Names(tuple(dns), tuple(emails), tuple(addresses), tuple(directories), tuple(others))


def _packed(name: x509.IPAddress) -> bytes:
    packed = getattr(name.value, "packed", None)
    if not isinstance(packed, bytes):
        raise ValueError("expected an address as an alternative name, found a network")
    return packed


# ---------------------------------------------------------------- names and identities


def folded(text: str) -> str:
    """ASCII letters in lower case, nothing else changed: DNS names."""
    return "".join(chr(ord(letter) + 32) if "A" <= letter <= "Z" else letter for letter in text)


def folded_email(text: str) -> str:
    """The domain in lower case."""
    local, at, domain = text.rpartition("@")
    return local + at + folded(domain)


def identity_problem(certificate: Certificate, identity: Id) -> str:
    """
    Whether *certificate* vouches for *identity*.

    Returns:
        "" or a clause: "it is for moon.example.org (CN=moon), not for sun.example.org".
    """
    names = certificate.names
    match identity.kind:
        case IdType.FQDN:
            asked = identity.data.decode("ascii", "replace")
            good = bool(asked) and "*" not in asked and folded(asked) in names.dns
        case IdType.RFC822_ADDR:
            good = bool(identity.data) and folded_email(identity.data.decode("ascii", "replace")) in names.emails
        case IdType.IPV4_ADDR | IdType.IPV6_ADDR:
            good = len(identity.data) == (4 if identity.kind == IdType.IPV4_ADDR else 16) and identity.data in names.addresses
        case IdType.DER_ASN1_DN:
            good = len(identity.data) > 2 and der.same_name(certificate.subject, identity.data)
        case _:
            return (
                f"certificates do not vouch for an identity such as {identities.text(identity)}; "
                f"use a name that it has: {has(certificate)}"
            )
    return "" if good else f"it is for {has(certificate)}, not for {identities.text(identity)}"


def has(certificate: Certificate) -> str:
    """All names that a certificate vouches for, in words."""
    names = certificate.names
    addresses = [identities.text(Id(IdType.IPV4_ADDR if len(a) == 4 else IdType.IPV6_ADDR, a)) for a in names.addresses]
    found = [*names.dns, *names.emails, *addresses]
    shown = [*found[:8], *([f"{len(found) - 8} more"] if len(found) > 8 else [])]
    subject = name_words(certificate.subject)
    return f"{', '.join(shown)} ({subject})" if shown else subject


def default_identity(certificate: Certificate) -> Id:
    """Who we are when nothing else was said: the subject, or the first alternative name where the subject is empty."""
    if len(certificate.subject) > 2:
        return Id(IdType.DER_ASN1_DN, certificate.subject)
    names = certificate.names
    if names.dns:
        return Id(IdType.FQDN, names.dns[0].encode("ascii", "replace"))
    if names.emails:
        return Id(IdType.RFC822_ADDR, names.emails[0].encode("ascii", "replace"))
    if names.addresses:
        first = names.addresses[0]
        return Id(IdType.IPV4_ADDR if len(first) == 4 else IdType.IPV6_ADDR, first)
    raise ValueError("the certificate has neither a subject nor an alternative name")


def name_words(encoded: bytes) -> str:
    """A distinguished name for a sentence."""
    return identities.text(Id(IdType.DER_ASN1_DN, encoded)) if len(encoded) > 2 else "no subject"


# ---------------------------------------------------------------- time


def unix_ns(at: dt.datetime) -> int:
    """ns since 1970, exactly."""
    span = at - _EPOCH
    return (span.days * 86_400 + span.seconds) * _NS + span.microseconds * 1000


def date_words(at_ns: int) -> str:
    """A moment for a sentence: "2026-11-21 17:30:00 UTC"."""
    return (_EPOCH + dt.timedelta(seconds=at_ns // _NS)).strftime("%Y-%m-%d %H:%M:%S UTC")


def validity_problem(certificate: Certificate, at_ns: int) -> str:
    """ "" or a clause: "it expired 2026-11-21 17:30:00 UTC"."""
    if at_ns < certificate.not_before_ns:
        return f"it is not valid before {date_words(certificate.not_before_ns)} (it is {date_words(at_ns)} here)"
    if at_ns >= certificate.not_after_ns + _NS:  # the last second belongs to it (RFC 5280 4.1.2.5)
        return f"it is expired since {date_words(certificate.not_after_ns)} (it is {date_words(at_ns)} here)"
    return ""
