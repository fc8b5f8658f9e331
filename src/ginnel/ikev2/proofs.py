"""
Certificates as proof of identity, in the words of `connection`: what we send and sign, and what we believe of a peer.

The first X.509 certificate that a peer sends holds the key of its AUTH (RFC 7296 3.6); the others help to find the way up. A
peer that sends none is looked for among the certificates that are configured themselves. The signature is judged first: whoever
does not hold the key makes us do no more than that.

Certificates "by hash and URL" are refused: nothing is fetched on behalf of a peer that is not believed yet.

Source: RFC 7296 2.15, 3.6, 3.7; RFC 7427.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ginnel.ikev2 import certificates as x509
from ginnel.ikev2 import chain, identities, signatures
from ginnel.ikev2.certificates import Certificate
from ginnel.ikev2.psk import method_words
from ginnel.units import NS_PER_S
from ginnel.wire.ikev2 import Auth, AuthMethod, Cert, CertEncoding, Id

#: So long before a certificate ends whoever starts us is told; with short-lived ones in their last third.
SOON_NS: Final = 14 * 86_400 * NS_PER_S


class CertificateProving:
    """
    We prove ourselves with a certificate and its key.

    chain_: the own one first, then the intermediates that are sent along. name: of the file, for sentences.
    """

    __slots__ = ("_chain", "_key", "certificate", "name")

    kind: Final = "certificate"

    def __init__(self, key: signatures.PrivateKey, chain_: Sequence[Certificate], name: str = "") -> None:
        self._key = key
        self._chain = tuple(chain_)
        self.certificate = self._chain[0]
        self.name = name

    def certificates(self, requested: Sequence[bytes]) -> tuple[Cert, ...]:  # noqa: ARG002 - there is one to choose from
        """All, whatever was asked for: peers leave authorities out of CERTREQ that they trust nevertheless."""
        return tuple(Cert(CertEncoding.X509_SIGNATURE, one.whole) for one in self._chain)

    def auth(self, octets: Sequence[object], prf: str, hashes: frozenset[int]) -> Auth:  # noqa: ARG002 - `Proving`
        """See `connection.Proving.auth`."""
        return signatures.sign(self._key, octets, hashes, pss=self.certificate.pss_only)

    def default_identity(self) -> Id:
        """Who we are when the node file does not say: the certificate's subject, else its first alternative name."""
        return x509.default_identity(self.certificate)

    def identity_problem(self, identity: Id) -> str:
        """ "" or why peers would not believe that we are *identity*: "it is for …, not for …"."""
        return x509.identity_problem(self.certificate, identity)

    def doubts(self, at_ns: int) -> tuple[str, ...]:
        """What will keep peers from believing us, or soon will; for the one who starts us."""
        return tuple(filter(None, (_doubt(one, f"{self.name}: the certificate of {one}", at_ns) for one in self._chain)))


class CertificateBelieving:
    """The peer has to prove itself with a certificate that leads to *trust*; *sha1*: its signature may be RSA with SHA-1."""

    __slots__ = ("_sha1", "_trust")

    kind: Final = "certificate"

    def __init__(self, trust: chain.Trust, *, sha1: bool = False) -> None:
        self._trust = trust
        self._sha1 = sha1

    def doubts(self, at_ns: int) -> tuple[str, ...]:
        """What will keep us from believing any peer, or soon will; for the one who starts us."""
        known = (*self._trust.authorities, *self._trust.peers)
        found = tuple(filter(None, (_doubt(one, f"the known certificate of {one}", at_ns) for one in known)))
        return (*found, *self._trust.revocation.doubts(at_ns))

    def requests(self) -> bytes:
        """The SHA-1 hashes of the authorities' keys, 20 bytes each (RFC 7296 3.7)."""
        return b"".join(dict.fromkeys(authority.key_hash for authority in self._trust.authorities))

    def verify(
        self,
        octets: Sequence[object],
        auth: Auth,
        certificates: Sequence[Cert],
        peer: Id,
        prf: str,  # noqa: ARG002 - `Believing`
        unix_ns: int,
    ) -> str:
        """See `connection.Believing.verify`."""
        who = identities.text(peer)
        if auth.method in {AuthMethod.PSK, AuthMethod.NULL}:
            return f"expected {who} to prove itself with a certificate, found {method_words(auth.method)}"
        try:
            leaf, others = self._sent(certificates, peer)
        except ValueError as wrong:
            return f"{who}: {wrong}"
        unsigned = signatures.verify(leaf.key, octets, auth, sha1=self._sha1 and not leaf.pss_only, pss_only=leaf.pss_only)
        if unsigned:
            return f"{who}: {unsigned} (certificate of {leaf}, {signatures.key_words(leaf.key)})"
        judged = chain.judge(leaf, others, self._trust, unix_ns)
        if judged:
            return f"{who}: {judged}"
        other = x509.identity_problem(leaf, peer)
        return f"{who}: the certificate does not vouch for this identity: {other}" if other else ""

    def _sent(self, sent: Sequence[Cert], peer: Id) -> tuple[Certificate, list[Certificate]]:
        """The peer's own certificate and the others; ValueError with a clause when there is none to work with."""
        if len(sent) > x509.CERTIFICATES_MAX:
            raise ValueError(f"expected at most {x509.CERTIFICATES_MAX} certificates, found {len(sent)}")
        bodies = [one.data for one in sent if one.encoding == CertEncoding.X509_SIGNATURE]
        if not bodies:
            if any(one.encoding in _BY_URL for one in sent):
                raise ValueError(
                    "it sent its certificate by hash and URL, which is never fetched; let it send the certificate itself"
                )
            configured = [one for one in self._trust.peers if not x509.identity_problem(one, peer)]
            if not configured:
                raise ValueError("it sent no certificate, and none is configured for this identity")
            return configured[0], []
        try:
            leaf = x509.parse(bodies[0])
        except ValueError as wrong:
            raise ValueError(f"its certificate is refused: {wrong}") from None
        others = []
        for body in bodies[1:]:
            try:
                others.append(x509.parse(body))
            except ValueError:
                continue  # an intermediate that is of no use; the way is found without it or not at all
        return leaf, others


#: Of a certificate, and of a bundle.
_BY_URL: Final = frozenset({CertEncoding.HASH_AND_URL_X509, 13})


def _doubt(certificate: Certificate, who: str, at_ns: int) -> str:
    problem = x509.validity_problem(certificate, at_ns)
    if problem:
        return f"{who}: {problem}"
    if certificate.not_after_ns - at_ns < min(SOON_NS, (certificate.not_after_ns - certificate.not_before_ns) // 3):
        return f"{who}: it expires {x509.date_words(certificate.not_after_ns)}"
    return ""
