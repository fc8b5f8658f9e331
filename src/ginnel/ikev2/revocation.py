"""
Revocation lists: files that the operator keeps current; nothing is fetched.

A list counts for the certificates of the authority whose name and key made it. Two policies:

    if-given    a list that is there is heeded, an old one too (what it revokes stays revoked); without a list nothing is known
    strict      every certificate but the configured ones needs a list of its authority that is current

A list that bears an authority's name and is not signed by its key is no list: certificates of that authority are refused under
either policy until it is mended, because a revocation may be hidden by it. Delta lists, indirect ones and those for a part of
the certificates say too little when taken for whole lists, and are refused while loading.

Source: RFC 5280 5, 6.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtensionOID

from ginnel.ikev2 import der
from ginnel.ikev2.certificates import Certificate, date_words, extension, name_words, unix_ns

#: Pairs of a list and an authority whose signature was checked; far more than a host has authorities.
_CHECKED_MAX: Final = 256

#: Extensions of a list that are understood; another critical one makes it unusable.
_UNDERSTOOD: Final = frozenset(
    {
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.CRL_NUMBER,
        ExtensionOID.ISSUER_ALTERNATIVE_NAME,
        ExtensionOID.FRESHEST_CRL,
    }
)


@dataclass(frozen=True, slots=True)
class Crl:
    """One list. issuer: the authority's name as encoded; next_update_ns: 0 when it does not say."""

    name: str
    x509: x509.CertificateRevocationList
    issuer: bytes
    this_update_ns: int
    next_update_ns: int


def parse(data: bytes, name: str) -> Crl:
    """
    A list from PEM or DER; *name*: of its file.

    Raises:
        ValueError: unreadable, or of a kind that cannot be heeded.
    """
    try:
        crl = x509.load_pem_x509_crl(data) if b"-----BEGIN" in data else x509.load_der_x509_crl(data)
        for found in crl.extensions:
            if found.oid == ExtensionOID.DELTA_CRL_INDICATOR:
                raise ValueError("it is a delta list, which says only what changed; give the whole one")
            if found.oid == ExtensionOID.ISSUING_DISTRIBUTION_POINT:
                _check_scope(found.value)
            elif found.critical and found.oid not in _UNDERSTOOD:
                raise ValueError(f"it has a critical extension that is not understood ({found.oid.dotted_string})")
        fields = list(der.elements(der.one(crl.tbs_certlist_bytes, der.SEQUENCE).body))
        updates = crl.last_update_utc, crl.next_update_utc
        weak = isinstance(crl.signature_hash_algorithm, hashes.SHA1 | hashes.MD5)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as wrong:
        raise ValueError(f"expected a revocation list: {wrong}") from None
    if fields and fields[0].tag == der.INTEGER:  # the version; absent in version 1
        del fields[0]
    if weak:
        raise ValueError("expected a revocation list signed with SHA-2, found SHA-1 or MD5")
    return Crl(name, crl, fields[1].whole, unix_ns(updates[0]), unix_ns(updates[1]) if updates[1] else 0)


def _check_scope(scope: object) -> None:
    """A distribution point's name alone does not make a list less than whole."""
    if not isinstance(scope, x509.IssuingDistributionPoint) or (
        scope.only_contains_user_certs
        or scope.only_contains_ca_certs
        or scope.only_contains_attribute_certs
        or scope.indirect_crl
        or scope.only_some_reasons
    ):
        raise ValueError("it is for a part of the certificates only (issuing distribution point); give the whole one")


class Revocation:
    """All lists of a host, and what they say of a certificate."""

    __slots__ = ("_checked", "_crls", "strict")

    def __init__(self, crls: Sequence[Crl] = (), *, strict: bool = False) -> None:
        self._crls = tuple(crls)
        self.strict = strict
        self._checked: dict[tuple[int, bytes], bool] = {}

    def problem(self, certificate: Certificate, authority: Certificate, at_ns: int, *, configured: bool = False) -> str:
        """
        Whether *certificate*, issued by *authority*, is revoked.

        Args:
            configured: *certificate* is trusted by itself; no list is demanded, one at hand is heeded.

        Returns:
            "" or a clause: "it was revoked on … (keyCompromise)".
        """
        named = [index for index, crl in enumerate(self._crls) if der.same_name(crl.issuer, authority.subject)]
        lists = [self._crls[index] for index in named if self._made_by(index, authority)]
        if named and not lists:
            return f"the revocation list {self._crls[named[0]].name} bears the name of {authority} and is not signed with its key"
        for crl in lists:
            entry = crl.x509.get_revoked_certificate_by_serial_number(certificate.x509.serial_number)
            if entry is not None:
                return f"it was revoked on {date_words(unix_ns(entry.revocation_date_utc))}{_reason(entry)}, says {crl.name}"
        if not self.strict or configured:
            return ""
        if not lists:
            return f"there is no revocation list of {authority}, and we are strict"
        if any(crl.this_update_ns <= at_ns < crl.next_update_ns for crl in lists):
            return ""
        newest = max(lists, key=lambda crl: crl.next_update_ns)
        if newest.this_update_ns > at_ns:
            return f"the revocation list {newest.name} is not valid before {date_words(newest.this_update_ns)}"
        if newest.next_update_ns == 0:
            return f"the revocation list {newest.name} does not say when the next one comes, and we are strict"
        return f"the revocation list {newest.name} is out of date since {date_words(newest.next_update_ns)}, and we are strict"

    def doubts(self, at_ns: int) -> tuple[str, ...]:
        """Sentences about lists that are out of date."""
        return tuple(
            f"the revocation list {crl.name} is out of date since {date_words(crl.next_update_ns)}"
            for crl in self._crls
            if 0 < crl.next_update_ns <= at_ns
        )

    def orphans(self, authorities: Sequence[Certificate]) -> list[str]:
        """For loading: a sentence for each list that bears the name of one of *authorities* and is signed by none of them."""
        found = []
        for index, crl in enumerate(self._crls):
            named = [authority for authority in authorities if der.same_name(crl.issuer, authority.subject)]
            if named and not any(self._made_by(index, authority) for authority in named):
                found.append(f"{crl.name}: the list bears the name of {name_words(crl.issuer)} and is not signed with its key")
        return found

    def _made_by(self, index: int, authority: Certificate) -> bool:
        pair = index, authority.spki
        if pair not in self._checked:
            if len(self._checked) >= _CHECKED_MAX:
                self._checked.clear()
            self._checked[pair] = _signed(self._crls[index], authority)
        return self._checked[pair]


def _signed(crl: Crl, authority: Certificate) -> bool:
    usage = extension(authority, x509.KeyUsage)
    if usage is not None and not usage.crl_sign:
        return False
    try:
        return crl.x509.is_signature_valid(authority.key)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return f" ({entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value})"
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension):
        return ""
