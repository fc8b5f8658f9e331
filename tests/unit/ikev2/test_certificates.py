"""A peer that proves itself with a certificate: what is believed, and each reason not to with its own sentence."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import ipaddress
import random
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import pki
from ginnel.ikev2 import certificates, credentials, signatures
from ginnel.ikev2.proofs import CertificateBelieving
from ginnel.wire.ikev2 import Auth, Cert, Id, IdType

OCTETS = (b"message", b"nonce", b"identity")
HASHES = frozenset({2, 3, 4, 5})
MOON = Id(IdType.FQDN, b"moon.example.org")
OID = x509.ObjectIdentifier


@functools.cache
def root() -> pki.Authority:
    return pki.Authority("Root")


@functools.cache
def middle() -> pki.Authority:
    return pki.Authority("Middle", root())


def x509_cert(one: pki.Issued | pki.Authority) -> Cert:
    return Cert(4, one.der)


def believing(
    *authorities: pki.Authority | pki.Issued, crls: Sequence[bytes] = (), strict: bool = False, peer: pki.Issued | None = None
) -> CertificateBelieving:
    files = {f"ca{number}.pem": one.pem for number, one in enumerate(authorities)}
    lists = {f"list{number}.crl": one for number, one in enumerate(crls)}
    pinned = {"peer.pem": peer.pem} if peer else {}
    made = credentials.load_believing(
        "certificate",
        tuple(files),
        tuple(lists),
        "strict" if strict else "if-given",
        "peer.pem" if peer else "",
        {**files, **lists, **pinned},
    )
    assert isinstance(made, CertificateBelieving)
    return made


def verdict(
    issued: pki.Issued,
    *others: pki.Issued | pki.Authority,
    trust: CertificateBelieving | None = None,
    peer: Id = MOON,
    at: dt.datetime = pki.TODAY,
    sent: Sequence[Cert] | None = None,
) -> str:
    """The judgement of a peer that has *issued* and its key and sends it with *others*."""
    auth = signatures.sign(issued.key, OCTETS, HASHES)
    certs = [x509_cert(one) for one in (issued, *others)] if sent is None else sent
    return (trust or believing(root())).verify(OCTETS, auth, certs, peer, "sha256", int(at.timestamp()) * 10**9)


# ---------------------------------------------------------------- who is believed


@pytest.mark.parametrize("key", [pki.ecdsa_key, lambda: pki.ecdsa_key(ec.SECP384R1()), pki.ed25519_key, pki.rsa_key])
@pytest.mark.parametrize("ca_key", [pki.ecdsa_key, lambda: pki.ecdsa_key(ec.SECP521R1()), pki.ed25519_key, pki.rsa_key])
def test_every_kind_of_key_under_every_kind_of_authority(key: object, ca_key: object) -> None:
    assert callable(key)
    assert callable(ca_key)
    authority = pki.Authority("Root", key=ca_key())
    assert verdict(authority.issue(key=key()), trust=believing(authority)) == ""


def test_a_way_over_intermediates_in_any_order_with_others_between() -> None:
    third = pki.Authority("Third", middle())
    noise = pki.Authority("Noise")
    leaf = third.issue()
    assert verdict(leaf, noise, third, root(), middle()) == ""
    assert verdict(leaf, middle(), third) == ""
    said = verdict(leaf, third)
    assert "not trusted here" in said
    assert "Middle" in said
    assert "trusted are" in said
    assert "Root" in said


def test_an_intermediate_may_be_what_is_trusted() -> None:
    assert verdict(middle().issue(), trust=believing(middle())) == ""


def test_one_good_way_is_enough() -> None:
    old = pki.Authority("Middle", root(), key=middle().key, begins=pki.TODAY - 20 * pki.DAY, ends=pki.TODAY - pki.DAY)
    leaf = middle().issue()
    assert "expired" in verdict(leaf, old)
    assert verdict(leaf, old, middle()) == ""
    assert verdict(leaf, middle(), old) == ""


@pytest.mark.parametrize(
    ("identity", "names"),
    [
        (Id(IdType.FQDN, b"MOON.example.org"), [x509.DNSName("moon.EXAMPLE.org")]),
        (Id(IdType.RFC822_ADDR, b"carol@Example.org"), [x509.RFC822Name("carol@example.ORG")]),
        (Id(IdType.IPV4_ADDR, bytes([192, 0, 2, 1])), [x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]),
        (Id(IdType.IPV6_ADDR, bytes(15) + b"\1"), [x509.IPAddress(ipaddress.ip_address("::1"))]),
        (Id(IdType.DER_ASN1_DN, pki.name("moon.example.org").public_bytes()), []),
        (Id(IdType.DER_ASN1_DN, pki.name("MOON.example.org", organisation="test").public_bytes()), []),
    ],
)
def test_identities_that_a_certificate_vouches_for(identity: Id, names: list[x509.GeneralName]) -> None:
    assert verdict(root().issue(names=names), peer=identity) == ""


@pytest.mark.parametrize(
    ("identity", "names"),
    [
        (Id(IdType.FQDN, b"sun.example.org"), [x509.DNSName("moon.example.org")]),
        (Id(IdType.FQDN, b"moon.example.org"), [x509.DNSName("*.example.org")]),
        (Id(IdType.FQDN, b"*.example.org"), [x509.DNSName("*.example.org")]),
        (Id(IdType.FQDN, b"moon.example.org."), [x509.DNSName("moon.example.org")]),
        (Id(IdType.FQDN, b"moon.example.org\0"), [x509.DNSName("moon.example.org")]),
        (Id(IdType.FQDN, b"m\xc3\xb6\xc3\xb6n.example.org"), [x509.DNSName("moon.example.org")]),
        (Id(IdType.FQDN, b""), [x509.DNSName("")]),
        (Id(IdType.FQDN, b"moon.example.org"), []),
        (Id(IdType.FQDN, b"moon.example.org"), [x509.UniformResourceIdentifier("https://moon.example.org")]),
        (Id(IdType.FQDN, b"carol@example.org"), [x509.RFC822Name("carol@example.org")]),
        (Id(IdType.FQDN, b"192.0.2.1"), [x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]),
        (Id(IdType.RFC822_ADDR, b"Carol@example.org"), [x509.RFC822Name("carol@example.org")]),
        (Id(IdType.RFC822_ADDR, b"example.org"), [x509.RFC822Name("carol@example.org")]),
        (Id(IdType.IPV4_ADDR, bytes([192, 0, 2, 2])), [x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]),
        (Id(IdType.IPV4_ADDR, bytes(15) + b"\1"), [x509.IPAddress(ipaddress.ip_address("::1"))]),
        (Id(IdType.IPV6_ADDR, bytes([192, 0, 2, 1])), [x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]),
        (Id(IdType.DER_ASN1_DN, pki.name("sun.example.org").public_bytes()), [x509.DNSName("sun.example.org")]),
        (Id(IdType.DER_ASN1_DN, b"\x30\x00"), []),
        (Id(IdType.DER_ASN1_DN, b""), []),
        (Id(IdType.KEY_ID, b"moon.example.org"), [x509.DNSName("moon.example.org")]),
        (Id(IdType.DER_ASN1_GN, b"moon.example.org"), [x509.DNSName("moon.example.org")]),
        (Id(IdType.NULL, b""), [x509.DNSName("moon.example.org")]),
        (Id(77, b"moon.example.org"), [x509.DNSName("moon.example.org")]),
    ],
)
def test_identities_that_it_does_not_vouch_for_and_which_names_it_has(identity: Id, names: list[x509.GeneralName]) -> None:
    said = verdict(root().issue(names=names), peer=identity)
    assert "the certificate does not vouch for this identity" in said
    assert "CN=moon.example.org" in said


def test_the_sentence_names_asked_and_found() -> None:
    said = verdict(
        root().issue(names=[x509.DNSName("moon.example.org"), x509.DNSName("moon")]), peer=Id(IdType.FQDN, b"sun.example.org")
    )
    assert "it is for moon.example.org, moon (O=Test, CN=moon.example.org), not for sun.example.org" in said


def test_an_empty_subject_vouches_for_no_name() -> None:
    issued = pki.certificate(x509.Name([]), pki.ecdsa_key(), root().name, root().key, names=[x509.DNSName("moon.example.org")])
    assert verdict(issued) == ""
    assert verdict(issued, peer=Id(IdType.DER_ASN1_DN, b"\x30\x00")) != ""


# ---------------------------------------------------------------- time


def test_validity_begins_and_ends_with_the_second() -> None:
    leaf = root().issue(begins=pki.TODAY, ends=pki.TODAY + pki.DAY)
    second = dt.timedelta(seconds=1)
    assert verdict(leaf, at=pki.TODAY) == ""
    assert verdict(leaf, at=pki.TODAY + pki.DAY) == ""
    assert "not valid before 2026-11-21 12:00:00 UTC" in verdict(leaf, at=pki.TODAY - second)
    assert "expired since 2026-11-22 12:00:00 UTC" in verdict(leaf, at=pki.TODAY + pki.DAY + second)


def test_authorities_have_to_be_valid_too() -> None:
    old = pki.Authority("Root", ends=pki.TODAY - pki.DAY)
    said = verdict(old.issue(), trust=believing(old))
    assert "the authority O=Test, CN=Root: it is expired since" in said
    young = pki.Authority("Middle", root(), begins=pki.TODAY + pki.DAY)
    assert "the authority O=Test, CN=Middle: it is not valid before" in verdict(young.issue(), young)


# ---------------------------------------------------------------- ways that do not hold


def test_an_unknown_authority_is_named_and_so_are_the_trusted_ones() -> None:
    said = verdict(pki.Authority("Nobody").issue())
    assert "issued by an authority that is not trusted here: O=Test, CN=Nobody; trusted are: O=Test, CN=Root" in said


def test_an_authority_of_the_same_name_with_another_key_is_another() -> None:
    impostor = pki.Authority("Root")
    for sent in ((), (impostor,)):
        said = verdict(impostor.issue(), *sent)
        assert "it names O=Test, CN=Root as its authority, and is not signed with the key of that one" in said


def test_a_self_signed_end_entity_only_where_it_is_configured_itself() -> None:
    key = pki.ecdsa_key()
    own = pki.certificate(
        pki.name("moon.example.org"), key, pki.name("moon.example.org"), key, names=[x509.DNSName("moon.example.org")]
    )
    assert "is self-signed, and is not the one that is configured" in verdict(own)
    assert verdict(own, trust=believing(own)) == ""
    assert verdict(own, trust=believing(peer=own)) == ""
    assert verdict(own, trust=believing(root(), peer=own)) == ""
    other_key = pki.ecdsa_key()
    other = pki.certificate(
        pki.name("moon.example.org"), other_key, pki.name("moon.example.org"), other_key, names=[x509.DNSName("moon.example.org")]
    )
    assert "is self-signed" in verdict(other, trust=believing(own))
    assert "expired" in verdict(own, trust=believing(peer=own), at=pki.TODAY + 31 * pki.DAY)


def test_a_self_signed_authority_may_be_a_configured_peer() -> None:
    """`openssl req -x509` makes certificates that say they are authorities."""
    key = pki.ecdsa_key()
    own = pki.certificate(
        pki.name("moon.example.org"),
        key,
        pki.name("moon.example.org"),
        key,
        names=[x509.DNSName("moon.example.org")],
        extensions=[pki.CA],
    )
    assert verdict(own, trust=believing(own)) == ""
    assert "it is an authority's, not an end entity's" in verdict(own)


def test_an_end_entity_that_is_configured_issues_nothing() -> None:
    plain = root().issue()
    below = pki.certificate(
        pki.name("sun"), pki.ecdsa_key(), pki.name("moon.example.org"), plain.key, names=[x509.DNSName("moon.example.org")]
    )
    assert "not trusted here" in verdict(below, plain, trust=believing(plain))
    said = verdict(below, plain)
    assert "it may not issue certificates (basic constraints)" in said


def test_a_peer_without_a_certificate_is_known_by_its_configured_one() -> None:
    leaf = root().issue()
    assert verdict(leaf, trust=believing(root(), peer=leaf), sent=[]) == ""
    assert "sent no certificate" in verdict(leaf, sent=[])
    assert "sent no certificate" in verdict(leaf, trust=believing(peer=leaf), sent=[], peer=Id(IdType.FQDN, b"sun.example.org"))
    assert "is not made with that key" in verdict(
        pki.Issued(leaf.certificate, pki.ecdsa_key()), trust=believing(peer=leaf), sent=[]
    )


def test_somebody_elses_certificate_is_no_proof() -> None:
    stolen = pki.Issued(root().issue().certificate, pki.ecdsa_key())
    assert "its AUTH is not made with that key" in verdict(stolen)


@pytest.mark.parametrize(
    ("extensions", "said"),
    [
        ([(pki.key_usage(agreement=True), True)], "its key is not for signatures (key usage)"),
        ([(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)], "its key is not for IKE (extended key usage"),
        ([(x509.UnrecognizedExtension(OID("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)], "not understood (1.3.6.1.4.1.99999.1)"),
        ([(x509.PolicyConstraints(0, None), True)], "not understood"),
        ([pki.CA, pki.CA_USAGE], "it is an authority's"),
    ],
)
def test_an_end_entity_that_is_for_something_else(extensions: list[tuple[x509.ExtensionType, bool]], said: str) -> None:
    assert said in verdict(root().issue(extensions=extensions))


@pytest.mark.parametrize(
    "extensions",
    [
        [(pki.key_usage(signature=True), True)],
        [(x509.UnrecognizedExtension(OID("1.3.6.1.4.1.99999.1"), b"\x05\x00"), False)],
        [(x509.BasicConstraints(ca=False, path_length=None), True)],
        [(x509.CertificatePolicies([x509.PolicyInformation(OID("1.2.3"), None)]), True)],
        *[
            [(x509.ExtendedKeyUsage([usage]), True)]
            for usage in (
                ExtendedKeyUsageOID.SERVER_AUTH,
                ExtendedKeyUsageOID.CLIENT_AUTH,
                ExtendedKeyUsageOID.IPSEC_IKE,
                ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
                OID("1.3.6.1.5.5.8.2.2"),
            )
        ],
    ],
)
def test_extensions_that_do_no_harm(extensions: list[tuple[x509.ExtensionType, bool]]) -> None:
    assert verdict(root().issue(extensions=extensions)) == ""


@pytest.mark.parametrize(
    ("extensions", "said"),
    [
        ([], "it may not issue certificates"),
        ([(x509.BasicConstraints(ca=False, path_length=None), True)], "it may not issue certificates"),
        ([pki.CA, (pki.key_usage(signature=True, crls=True), True)], "its key is not for signing certificates"),
        ([pki.CA, (x509.UnrecognizedExtension(OID("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)], "not understood"),
        ([pki.CA, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)], "not for IKE"),
    ],
)
def test_an_authority_that_is_none(extensions: list[tuple[x509.ExtensionType, bool]], said: str) -> None:
    between = pki.Authority("Middle", root(), extensions=extensions)
    found = verdict(between.issue(), between)
    assert "the authority O=Test, CN=Middle: it" in found
    assert said in found


def test_path_length() -> None:
    short = pki.Authority("Root", extensions=[(x509.BasicConstraints(ca=True, path_length=0), True), pki.CA_USAGE])
    between = pki.Authority("Middle", short)
    assert verdict(short.issue(), trust=believing(short)) == ""
    assert "(path length)" in verdict(between.issue(), between, trust=believing(short))
    rolled = pki.certificate(short.name, pki.ecdsa_key(), short.name, short.key, extensions=[pki.CA, pki.CA_USAGE])
    leaf = pki.certificate(pki.name("moon"), pki.ecdsa_key(), short.name, rolled.key, names=[x509.DNSName("moon.example.org")])
    assert verdict(leaf, rolled, trust=believing(short)) == ""  # a self-issued one does not count


def test_a_way_has_a_length() -> None:
    ladder = [root()]
    for number in range(8):
        ladder.append(pki.Authority(f"Step {number}", ladder[-1]))
    assert verdict(ladder[6].issue(), *ladder[1:7]) == ""
    assert "not trusted here" in verdict(ladder[7].issue(), *ladder[1:8])


def with_sha1(issued: pki.Issued, authority: pki.Authority) -> pki.Issued:
    """The same certificate as an old authority would sign it: sha1WithRSAEncryption in place of SHA-256."""
    new, old = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    signed = issued.certificate.tbs_certificate_bytes.replace(new, old, 1)
    assert isinstance(authority.key, rsa.RSAPrivateKey)
    signature = authority.key.sign(signed, padding.PKCS1v15(), hashes.SHA1())
    whole = issued.der.replace(issued.certificate.tbs_certificate_bytes, signed).replace(new, old)
    return pki.Issued(x509.load_der_x509_certificate(whole[: -len(signature)] + signature), issued.key)


def test_certificates_signed_with_sha1_are_named() -> None:
    old = pki.Authority("Old", key=pki.rsa_key())
    assert "CN=moon.example.org: it is signed with sha1" in verdict(with_sha1(old.issue(), old), trust=believing(old))
    between = pki.Authority("Middle", old)
    weak = with_sha1(between.own, old)
    assert "the authority O=Test, CN=Middle: it is signed with sha1" in verdict(between.issue(), weak, trust=believing(old))


def test_a_small_rsa_key_is_named() -> None:
    assert "expected an RSA key of 2048 to 8192 bits, found 1024" in verdict(root().issue(key=pki.rsa_key(1024)))


# ---------------------------------------------------------------- bounds on what a stranger sends


def test_seventeen_certificates_are_too_many() -> None:
    leaf = root().issue()
    assert verdict(leaf, sent=[x509_cert(leaf)] * 16) == ""
    assert "expected at most 16 certificates, found 17" in verdict(leaf, sent=[x509_cert(leaf)] * 17)


def test_a_large_certificate_is_not_read() -> None:
    leaf = root().issue(names=[x509.DNSName("moon.example.org"), *(x509.DNSName(f"{n}.example.org") for n in range(1200))])
    assert len(leaf.der) > certificates.CERTIFICATE_MAX_BYTES
    assert "expected a certificate of at most 16384 bytes" in verdict(leaf)


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"nonsense", bytes(100), b"\x30\x80\x00\x00"])
def test_what_is_no_certificate(data: bytes) -> None:
    leaf = root().issue()
    assert "its certificate is refused: expected" in verdict(leaf, sent=[Cert(4, data)])
    assert verdict(leaf, sent=[x509_cert(leaf), Cert(4, data)]) == ""


def test_every_truncation_of_a_certificate_is_refused() -> None:
    leaf = root().issue()
    for size in range(len(leaf.der)):
        with pytest.raises(ValueError, match="expected"):
            certificates.parse(leaf.der[:size])
    with pytest.raises(ValueError, match="expected"):
        certificates.parse(leaf.der + b"\0")


def test_a_bent_certificate_never_becomes_another_peers() -> None:
    """Each byte in turn: refused with a sentence, never an exception."""
    leaf = root().issue()
    trust = believing(root())
    auth = signatures.sign(leaf.key, OCTETS, HASHES)
    for at in range(len(leaf.der)):
        for bit in (0x01, 0x20, 0x80):
            bent = bytearray(leaf.der)
            bent[at] ^= bit
            said = trust.verify(OCTETS, auth, [Cert(4, bytes(bent))], MOON, "sha256", pki.TODAY_NS)
            assert said != "", (at, bit)


def test_mutated_chains_are_refused_with_a_sentence() -> None:
    """Never an exception, and never believed, whatever is done to either certificate."""
    chance = random.Random(4)
    names = [
        x509.DNSName("moon.example.org"),
        x509.RFC822Name("a@example.org"),
        x509.IPAddress(ipaddress.ip_address("::1")),
        x509.DirectoryName(pki.name("x")),
        x509.UniformResourceIdentifier("http://example.org/"),
        x509.RegisteredID(OID("1.2.3")),
    ]
    limits = (x509.NameConstraints([x509.DNSName("example.org")], [x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))]), True)
    between = pki.Authority("Middle", root(), extensions=[pki.CA, pki.CA_USAGE, limits])
    usages = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    leaf = between.issue(names=names, extensions=[(pki.key_usage(signature=True), True), usages])
    trust = believing(root(), crls=[root().crl()])
    auth = signatures.sign(leaf.key, OCTETS, HASHES)
    assert trust.verify(OCTETS, auth, [x509_cert(leaf), x509_cert(between)], MOON, "sha256", pki.TODAY_NS) == ""
    for _ in range(4000):
        chain = [leaf.der, between.der]
        which = chance.randrange(2)
        bent = bytearray(chain[which])
        for _ in range(chance.choice([1, 1, 2, 4])):
            at = chance.randrange(len(bent))
            match chance.randrange(4):
                case 0:
                    bent[at] ^= 1 << chance.randrange(8)
                case 1:
                    bent[at] = chance.choice([0, 1, 2, 3, 4, 5, 6, 0x0C, 0x13, 0x30, 0x31, 0x80, 0x81, 0xA0, 0xA3, 0xFF])
                case 2:
                    del bent[at : at + chance.randrange(1, 9)]
                case _:
                    bent[at:at] = bytes(chance.choice([0, 0x30, 0x80, 0xFF]) for _ in range(chance.randrange(1, 5)))
        if bytes(bent) == chain[which]:
            continue
        chain[which] = bytes(bent)
        assert trust.verify(OCTETS, auth, [Cert(4, one) for one in chain], MOON, "sha256", pki.TODAY_NS) != "", bytes(bent).hex()


def test_hash_and_url_is_refused_and_nothing_fetched() -> None:
    for encoding in (12, 13):
        said = verdict(root().issue(), sent=[Cert(encoding, bytes(20) + b"http://192.0.2.1/x")])
        assert "by hash and URL, which is never fetched" in said


def test_a_maze_of_cross_certified_authorities_ends() -> None:
    keys = [pki.ecdsa_key() for _ in range(4)]
    maze = [
        pki.certificate(pki.name(f"M{a}"), keys[a], pki.name(f"M{b}"), keys[b], extensions=[pki.CA])
        for a in range(4)
        for b in range(4)
        if a != b
    ]
    leaf = pki.certificate(pki.name("moon"), pki.ecdsa_key(), pki.name("M0"), keys[0], names=[x509.DNSName("moon.example.org")])
    assert "not trusted here" in verdict(leaf, *maze)


@pytest.mark.parametrize("method", [2, 13])
def test_another_kind_of_proof_is_named(method: int) -> None:
    said = believing(root()).verify(OCTETS, Auth(method, bytes(32)), [x509_cert(root().issue())], MOON, "sha256", pki.TODAY_NS)
    assert said.startswith("expected moon.example.org to prove itself with a certificate, found ")


# ---------------------------------------------------------------- name constraints


class Constraint(NamedTuple):
    permitted: list[x509.GeneralName] | None
    excluded: list[x509.GeneralName] | None


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(one) for one in names]


def network(text: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ipaddress.ip_network(text))]


def directory(*common: str, organisation: str = "Test") -> list[x509.GeneralName]:
    return [x509.DirectoryName(pki.name(*common, organisation=organisation))]


ADDRESS: list[x509.GeneralName] = [x509.DNSName("moon.example.org"), x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]
MAIL: list[x509.GeneralName] = [x509.DNSName("moon.example.org"), x509.RFC822Name("carol@host.example.org")]


@pytest.mark.parametrize(
    ("constraint", "names", "good"),
    [
        (Constraint(dns("example.org"), None), dns("moon.example.org"), True),
        (Constraint(dns("Moon.Example.org"), None), dns("moon.example.org"), True),
        (Constraint(dns("example.com", "example.org"), None), dns("moon.example.org"), True),
        (Constraint(dns("example.com"), None), dns("moon.example.org"), False),
        (Constraint(dns("xample.org"), None), dns("moon.example.org"), False),
        (Constraint(dns("example.org"), None), dns("moon.example.org", "other.example.com"), False),
        (Constraint(None, dns("example.com")), dns("moon.example.org"), True),
        (Constraint(None, dns("moon.example.org")), dns("moon.example.org"), False),
        (Constraint(None, dns("")), dns("moon.example.org"), False),
        (Constraint(dns("example.org"), dns("moon.example.org")), dns("moon.example.org"), False),
        (Constraint(network("192.0.2.0/24"), None), ADDRESS, True),
        (Constraint(network("198.51.100.0/24"), None), ADDRESS, False),
        (Constraint(network("2001:db8::/32"), None), ADDRESS, False),
        (Constraint(None, network("192.0.2.0/31")), ADDRESS, False),
        (Constraint([x509.RFC822Name("host.example.org")], None), MAIL, True),
        (Constraint([x509.RFC822Name("carol@host.example.org")], None), MAIL, True),
        (Constraint([x509.RFC822Name(".example.org")], None), MAIL, True),
        (Constraint([x509.RFC822Name("example.org")], None), MAIL, False),
        (Constraint(None, [x509.RFC822Name("carol@host.example.org")]), MAIL, False),
        (Constraint(directory(), None), dns("moon.example.org"), True),
        (Constraint(directory(organisation="test"), None), dns("moon.example.org"), True),
        (Constraint(directory(organisation="Other"), None), dns("moon.example.org"), False),
        (Constraint(None, directory("moon.example.org")), dns("moon.example.org"), False),
        (Constraint(None, [x509.UniformResourceIdentifier(".example.com")]), dns("moon.example.org"), True),
        (
            Constraint(None, [x509.UniformResourceIdentifier(".example.com")]),
            [x509.DNSName("moon.example.org"), x509.UniformResourceIdentifier("https://moon.example.org")],
            False,
        ),
    ],
)
def test_name_constraints(constraint: Constraint, names: list[x509.GeneralName], good: bool) -> None:
    limits = (x509.NameConstraints(constraint.permitted, constraint.excluded), True)
    between = pki.Authority("Middle", root(), extensions=[pki.CA, pki.CA_USAGE, limits])
    said = verdict(between.issue(names=names), between)
    assert (said == "") is good, said
    if not good:
        assert "CN=Middle" in said
        # also when another authority lies between
        below = pki.Authority("Below", between)
        assert "constrain" in verdict(below.issue(names=names), below, between)


# ---------------------------------------------------------------- what we send and ask for


def test_requests_are_the_hashes_of_the_authorities_keys() -> None:
    def key_hash(authority: pki.Authority) -> bytes:
        spki = authority.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha1(spki).digest()

    assert believing(root(), middle()).requests() == key_hash(root()) + key_hash(middle())
    assert believing(root(), root()).requests() == key_hash(root())
    assert believing(root().issue()).requests() == b""


def test_the_subject_is_who_we_are_by_default() -> None:
    leaf = root().issue()
    parsed = certificates.parse(leaf.der)
    assert certificates.default_identity(parsed) == Id(IdType.DER_ASN1_DN, pki.name("moon.example.org").public_bytes())
    assert verdict(leaf, peer=certificates.default_identity(parsed)) == ""


@pytest.mark.parametrize(
    ("names", "identity"),
    [
        ([x509.DNSName("moon.example.org")], Id(IdType.FQDN, b"moon.example.org")),
        ([x509.RFC822Name("carol@example.org")], Id(IdType.RFC822_ADDR, b"carol@example.org")),
        ([x509.IPAddress(ipaddress.ip_address("192.0.2.1"))], Id(IdType.IPV4_ADDR, bytes([192, 0, 2, 1]))),
        ([x509.IPAddress(ipaddress.ip_address("::1"))], Id(IdType.IPV6_ADDR, bytes(15) + b"\1")),
    ],
)
def test_without_a_subject_the_first_name(names: list[x509.GeneralName], identity: Id) -> None:
    issued = pki.certificate(x509.Name([]), pki.ecdsa_key(), root().name, root().key, names=names)
    assert certificates.default_identity(certificates.parse(issued.der)) == identity


def test_without_any_name_we_are_nobody() -> None:
    issued = pki.certificate(x509.Name([]), pki.ecdsa_key(), root().name, root().key)
    with pytest.raises(ValueError, match="neither a subject nor"):
        certificates.default_identity(certificates.parse(issued.der))


def test_multi_valued_parts_of_a_subject() -> None:
    both = x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(NameOID.COMMON_NAME, "moon"), x509.NameAttribute(NameOID.USER_ID, "7")]
            )
        ]
    )
    issued = pki.certificate(both, pki.ecdsa_key(), root().name, root().key)
    assert verdict(issued, peer=Id(IdType.DER_ASN1_DN, both.public_bytes())) == ""
    assert verdict(issued, peer=Id(IdType.DER_ASN1_DN, pki.name("moon").public_bytes())) != ""
