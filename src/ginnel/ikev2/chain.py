"""
From a peer's certificate to an authority that we trust.

    leaf <- intermediate … <- authority     "issued by": looked for from the leaf up, in what the peer sent and what is configured

Each way up is judged whole once it reaches a configured authority; one good way is enough. A certificate that is configured
itself needs no authority: it is the peer's, and may be self-signed.

Everything here is done for a peer that is not believed yet, so all of it is bounded: ways of at most `DEPTH_MAX` certificates,
`SIGNATURES_MAX` signatures checked for one verdict.

What is judged, each with a sentence of its own: signatures (SHA-2 or Ed25519), validity at the given time, basic constraints, key
usage, extended key usage, path length, name constraints, critical extensions that are not understood, revocation. Policies are
not asked for; a certificate that insists on them is refused.

Source: RFC 5280 6.1; RFC 4945 5.1.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtensionOID

from ginnel.ikev2 import constraints
from ginnel.ikev2.certificates import Certificate, extension, name_words, validity_problem
from ginnel.ikev2.revocation import Revocation

#: The leaf, six intermediates, the authority.
DEPTH_MAX: Final = 8
SIGNATURES_MAX: Final = 32

#: Critical extensions that are heeded here or need no heeding. inhibitAnyPolicy only narrows policies, which nobody asks for.
_UNDERSTOOD: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.INHIBIT_ANY_POLICY,
    }
)

#: What an extended key usage must have one of, where there is one (RFC 4945 5.1.3.12 and what authorities give out).
_USAGES: Final = frozenset(
    {
        x509.ObjectIdentifier("2.5.29.37.0"),  # any
        x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1"),  # serverAuth
        x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2"),  # clientAuth
        x509.ObjectIdentifier("1.3.6.1.5.5.7.3.5"),  # ipsecEndSystem
        x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6"),  # ipsecTunnel
        x509.ObjectIdentifier("1.3.6.1.5.5.7.3.7"),  # ipsecUser
        x509.ObjectIdentifier("1.3.6.1.5.5.7.3.17"),  # ipsecIKE
        x509.ObjectIdentifier("1.3.6.1.5.5.8.2.2"),  # iKEIntermediate
    }
)


@dataclass(frozen=True, slots=True)
class Trust:
    """authorities: that may issue; peers: certificates of peers, configured themselves."""

    authorities: tuple[Certificate, ...]
    peers: tuple[Certificate, ...] = ()
    revocation: Revocation = field(default_factory=Revocation)

    def configured(self, leaf: Certificate) -> bool:
        """Whether *leaf* is one of the configured certificates itself."""
        return any(leaf.whole == known.whole for known in (*self.authorities, *self.peers))


def judge(leaf: Certificate, others: Sequence[Certificate], trust: Trust, at_ns: int) -> str:
    """
    Whether *leaf* may be believed.

    Args:
        others: what else the peer sent, in any order.
        at_ns: wall clock.

    Returns:
        "" or a clause about the certificate that does not hold, with its name.
    """
    wrong = _leaf_problem(leaf, at_ns, configured=trust.configured(leaf))
    if wrong:
        return f"the certificate of {leaf}: {wrong}"
    if trust.configured(leaf):
        authority = next((one for one in trust.authorities if one.whole != leaf.whole and _issued(leaf, one)), None)
        revoked = trust.revocation.problem(leaf, authority, at_ns, configured=True) if authority else ""
        return f"the certificate of {leaf}: {revoked}" if revoked else ""
    search = _Search(trust, others)
    first = ""
    for way in search.ways((leaf,)):
        wrong = _way_problem(way, trust.revocation, at_ns)
        if not wrong:
            return ""
        first = first or wrong
    return first or search.unknown(leaf)


class _Search:
    """One search for ways up; counts the signatures it checks."""

    def __init__(self, trust: Trust, others: Sequence[Certificate]) -> None:
        self._trust = trust
        self._others = others
        self._left = SIGNATURES_MAX
        #: Names that issued the top of a way and were not found: for the sentence.
        self._missing: list[bytes] = []
        #: The first with a signature that is not taken, and the first that a known name did not sign: likewise.
        self._weak: Certificate | None = None
        self._forged: Certificate | None = None

    def ways(self, way: tuple[Certificate, ...]) -> Iterator[tuple[Certificate, ...]]:
        """All ways that continue *way*, each ending with a configured authority; shorter and configured ones first."""
        top = way[-1]
        found = False
        for authority in self._trust.authorities:
            if self._issued(top, authority):
                found = True
                yield (*way, authority)
        if len(way) + 1 < DEPTH_MAX:
            for between in self._others:
                known = any(between.subject == one.subject and between.spki == one.spki for one in way)
                if not known and self._issued(top, between):
                    found = True
                    yield from self.ways((*way, between))
        if not found:
            self._missing.append(top.issuer)

    def _issued(self, below: Certificate, above: Certificate) -> bool:
        if below.issuer != above.subject or self._left <= 0:
            return False
        if _hash_problem(below):
            self._weak = self._weak or below
            return False
        self._left -= 1
        if _issued(below, above):
            return True
        self._forged = self._forged or below
        return False

    def unknown(self, leaf: Certificate) -> str:
        """Why there was no way."""
        if self._weak is not None:
            return f"the {'certificate of' if self._weak is leaf else 'authority'} {self._weak}: {_hash_problem(self._weak)}"
        if self._forged is not None:
            what = "certificate of" if self._forged is leaf else "authority"
            issuer = name_words(self._forged.issuer)
            return f"the {what} {self._forged}: it names {issuer} as its authority, and is not signed with the key of that one"
        if leaf.self_issued:
            return f"the certificate of {leaf} is self-signed, and is not the one that is configured for the peer"
        asked = name_words(self._missing[-1] if self._missing else leaf.issuer)
        known = "; ".join(str(one) for one in self._trust.authorities[:8]) or "none"
        return f"the certificate of {leaf} is issued by an authority that is not trusted here: {asked}; trusted are: {known}"


def _issued(below: Certificate, above: Certificate) -> bool:
    """Name and signature."""
    if below.issuer != above.subject:
        return False
    try:
        below.x509.verify_directly_issued_by(above.x509)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


# ---------------------------------------------------------------- what is judged


def _hash_problem(certificate: Certificate) -> str:
    """Whether its authority signed it with a hash that is not taken."""
    try:
        used = certificate.x509.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return f"it is signed with an unknown algorithm ({certificate.x509.signature_algorithm_oid.dotted_string})"
    if used is None or isinstance(used, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        return ""
    return f"it is signed with {used.name}, which is too weak or unknown here; SHA-2 would do"


def _way_problem(way: Sequence[Certificate], revocation: Revocation, at_ns: int) -> str:
    """*way*: the leaf first (judged by itself already), a configured authority last; signatures hold."""
    for height, authority in enumerate(way[1:], 1):
        wrong = validity_problem(authority, at_ns) or _authority_problem(authority, way[1:height])
        if wrong:
            return f"the authority {authority}: {wrong}"
    for height, certificate in enumerate(way[:-1]):
        who = f"the certificate of {certificate}: " if height == 0 else f"the authority {certificate}: "
        wrong = revocation.problem(certificate, way[height + 1], at_ns)
        if wrong:
            return who + wrong
        if height and certificate.self_issued:  # RFC 5280 6.1.3: the names of a rolled key are its own
            continue
        for authority in way[height + 1 :]:
            wrong = constraints.problem(authority, certificate)
            if wrong:
                return who + wrong
    return ""


def _leaf_problem(leaf: Certificate, at_ns: int, *, configured: bool) -> str:
    wrong = validity_problem(leaf, at_ns) or _critical_problem(leaf)
    if wrong:
        return wrong
    if leaf.is_authority and not configured:
        return "it is an authority's, not an end entity's"
    usage = extension(leaf, x509.KeyUsage)
    if usage is not None and not (usage.digital_signature or usage.content_commitment):
        return "its key is not for signatures (key usage)"
    return _usage_problem(leaf)


def _usage_problem(certificate: Certificate) -> str:
    usages = extension(certificate, x509.ExtendedKeyUsage)
    if usages is None or not _USAGES.isdisjoint(usages):
        return ""
    return (
        f"its key is not for IKE (extended key usage {', '.join(one.dotted_string for one in list(usages)[:8])}; "
        "serverAuth, clientAuth or ipsecIKE would do)"
    )


def _authority_problem(authority: Certificate, between: Sequence[Certificate]) -> str:
    """*between*: the intermediates below it."""
    wrong = _critical_problem(authority)
    if wrong:
        return wrong
    limits = extension(authority, x509.BasicConstraints)
    if limits is None or not limits.ca:
        return "it may not issue certificates (basic constraints)"
    if limits.path_length is not None and sum(not one.self_issued for one in between) > limits.path_length:
        return f"it allows {limits.path_length} authorities below it, and there are more (path length)"
    usage = extension(authority, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        return "its key is not for signing certificates (key usage)"
    return _usage_problem(authority)


def _critical_problem(certificate: Certificate) -> str:
    for found in certificate.x509.extensions:
        if found.critical and found.oid not in _UNDERSTOOD:
            return f"it has a critical extension that is not understood ({found.oid.dotted_string})"
    return ""
