"""Revocation lists: both policies, old and wrong lists, and lists that say less than they seem to."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence

import pytest
from cryptography import x509

import pki
from ginnel.errors import ConfigError
from ginnel.ikev2 import credentials, signatures
from ginnel.wire.ikev2 import Cert, Id, IdType

OCTETS = (b"message", b"nonce", b"identity")
MOON = Id(IdType.FQDN, b"moon.example.org")


@functools.cache
def root() -> pki.Authority:
    return pki.Authority("Root")


def verdict(
    issued: pki.Issued,
    *lists: bytes,
    strict: bool = False,
    others: Sequence[pki.Authority] = (),
    authorities: Sequence[pki.Authority] | None = None,
    at: dt.datetime = pki.TODAY,
    peer: pki.Issued | None = None,
) -> str:
    files = {f"ca{number}": one.pem for number, one in enumerate([root()] if authorities is None else authorities)}
    crls = {f"list{number}.crl": one for number, one in enumerate(lists)}
    pinned = {"peer": peer.pem} if peer else {}
    trust = credentials.load_believing(
        "certificate",
        tuple(files),
        tuple(crls),
        "strict" if strict else "if-given",
        "peer" if peer else "",
        {**files, **crls, **pinned},
    )
    auth = signatures.sign(issued.key, OCTETS, frozenset({2}))
    certs = [Cert(4, one.der) for one in (issued, *others)]
    return trust.verify(OCTETS, auth, certs, MOON, "sha256", int(at.timestamp()) * 10**9)


@pytest.mark.parametrize("strict", [True, False])
def test_revoked_and_since_when_and_why(strict: bool) -> None:
    leaf, other = root().issue(), root().issue()
    crl = root().crl(leaf)
    said = verdict(leaf, crl, strict=strict)
    assert said == (
        "moon.example.org: the certificate of O=Test, CN=moon.example.org: "
        "it was revoked on 2026-11-20 12:00:00 UTC (keyCompromise), says list0.crl"
    )
    assert verdict(other, crl, strict=strict) == ""


def test_a_revocation_without_a_reason() -> None:
    leaf = root().issue()
    assert "was revoked on 2026-11-20 12:00:00 UTC, says" in verdict(leaf, root().crl(leaf, reason=None))


def test_no_list() -> None:
    leaf = root().issue()
    assert verdict(leaf) == ""
    assert "there is no revocation list of O=Test, CN=Root, and we are strict" in verdict(leaf, strict=True)


def test_an_old_list_still_revokes_and_is_not_enough_when_strict() -> None:
    leaf, gone = root().issue(), root().issue()
    old = root().crl(gone, made=pki.TODAY - 9 * pki.DAY, following=pki.TODAY - 2 * pki.DAY)
    assert verdict(leaf, old) == ""
    assert "is out of date since 2026-11-19 12:00:00 UTC, and we are strict" in verdict(leaf, old, strict=True)
    assert "was revoked" in verdict(gone, old)
    assert verdict(leaf, old, root().crl(), strict=True) == ""
    assert "was revoked" in verdict(gone, old, root().crl(), strict=True)


def test_a_list_of_tomorrow_is_not_current() -> None:
    early = root().crl(made=pki.TODAY + pki.DAY)
    assert "is not valid before 2026-11-22" in verdict(root().issue(), early, strict=True)


def test_a_list_is_current_until_the_second_of_the_next() -> None:
    leaf = root().issue()
    crl = root().crl(made=pki.TODAY, following=pki.TODAY + pki.DAY)
    second = dt.timedelta(seconds=1)
    assert verdict(leaf, crl, strict=True, at=pki.TODAY) == ""
    assert verdict(leaf, crl, strict=True, at=pki.TODAY + pki.DAY - second) == ""
    assert "out of date" in verdict(leaf, crl, strict=True, at=pki.TODAY + pki.DAY)
    assert "not valid before" in verdict(leaf, crl, strict=True, at=pki.TODAY - second)


def test_intermediates_are_looked_up_too() -> None:
    middle = pki.Authority("Middle", root())
    leaf = middle.issue()
    assert "the authority O=Test, CN=Middle: it was revoked" in verdict(leaf, root().crl(middle.own), others=[middle])
    assert "there is no revocation list of O=Test, CN=Middle" in verdict(leaf, root().crl(), others=[middle], strict=True)
    assert "there is no revocation list of O=Test, CN=Root" in verdict(leaf, middle.crl(), others=[middle], strict=True)
    assert verdict(leaf, root().crl(), middle.crl(), others=[middle], strict=True) == ""


def test_a_list_of_another_authority_says_nothing() -> None:
    other = pki.Authority("Other")
    leaf = root().issue()
    assert verdict(leaf, other.crl(leaf), authorities=[root(), other]) == ""
    assert "no revocation list of O=Test, CN=Root" in verdict(leaf, other.crl(), authorities=[root(), other], strict=True)


@pytest.mark.parametrize("strict", [True, False])
def test_a_forged_list_of_an_intermediate_closes_the_door(strict: bool) -> None:
    middle = pki.Authority("Middle", root())
    forged = middle.crl(key=pki.ecdsa_key())
    said = verdict(middle.issue(), forged, root().crl(), others=[middle], strict=strict)
    assert "list0.crl bears the name of O=Test, CN=Middle and is not signed with its key" in said


def test_a_forged_list_of_a_configured_authority_is_found_while_loading() -> None:
    with pytest.raises(
        ConfigError, match=r"list0\.crl: the list bears the name of O=Test, CN=Root and is not signed with its key"
    ):
        verdict(root().issue(), root().crl(key=pki.ecdsa_key()))


def test_an_authority_that_may_sign_no_lists_made_none() -> None:
    mute = pki.Authority("Mute", extensions=[pki.CA, (pki.key_usage(certificates=True), True)])
    with pytest.raises(ConfigError, match="is not signed with its key"):
        verdict(mute.issue(), mute.crl(), authorities=[mute])


def test_one_of_two_authorities_of_one_name_made_the_list() -> None:
    rolled = pki.Authority("Root")
    both = [root(), rolled]
    leaf = rolled.issue()
    assert "was revoked" in verdict(leaf, rolled.crl(leaf), authorities=both)
    assert "is not signed with its key" in verdict(rolled.issue(), root().crl(), authorities=both)


def test_a_configured_certificate_needs_no_list_and_heeds_one() -> None:
    leaf = root().issue()
    assert verdict(leaf, strict=True, peer=leaf) == ""
    assert "was revoked" in verdict(leaf, root().crl(leaf), strict=True, peer=leaf)
    assert "was revoked" in verdict(leaf, root().crl(leaf), peer=leaf)


def scope(**kinds: bool) -> x509.IssuingDistributionPoint:
    return x509.IssuingDistributionPoint(
        full_name=None if any(kinds.values()) else [x509.UniformResourceIdentifier("http://crl.example.org/")],
        relative_name=None,
        only_contains_user_certs=kinds.get("user", False),
        only_contains_ca_certs=kinds.get("ca", False),
        only_some_reasons=frozenset({x509.ReasonFlags.superseded}) if kinds.get("reasons") else None,
        indirect_crl=kinds.get("indirect", False),
        only_contains_attribute_certs=kinds.get("attribute", False),
    )


@pytest.mark.parametrize(
    ("extension", "said"),
    [
        (x509.DeltaCRLIndicator(3), "delta list"),
        (scope(user=True), "a part of the certificates only"),
        (scope(ca=True), "a part of the certificates only"),
        (scope(attribute=True), "a part of the certificates only"),
        (scope(indirect=True), "a part of the certificates only"),
        (scope(reasons=True), "a part of the certificates only"),
        (
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"),
            "critical extension that is not understood",
        ),
    ],
)
def test_lists_that_are_less_than_whole(extension: x509.ExtensionType, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        verdict(root().issue(), root().crl(extensions=[(extension, True)]))


@pytest.mark.parametrize(
    "extension",
    [
        (x509.CRLNumber(7), False),
        (scope(), True),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), False),
    ],
)
def test_extensions_of_a_list_that_do_no_harm(extension: tuple[x509.ExtensionType, bool]) -> None:
    leaf = root().issue()
    assert "was revoked" in verdict(leaf, root().crl(leaf, extensions=[extension]), strict=True)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", b"\x30\x00"])
def test_what_is_no_list(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"list0\.crl: expected a revocation list"):
        verdict(root().issue(), data)


def test_a_certificate_is_no_list() -> None:
    with pytest.raises(ConfigError, match="expected a revocation list"):
        verdict(root().issue(), root().pem)
