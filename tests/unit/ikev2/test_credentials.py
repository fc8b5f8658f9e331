"""From files' bytes to credentials: every form of key and certificate, mistakes with file and way out, raw public keys."""

from __future__ import annotations

import functools

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

import pki
from ginnel.errors import ConfigError
from ginnel.ikev2 import credentials
from ginnel.ikev2.connection import Believing, Proving
from ginnel.ikev2.proofs import CertificateBelieving, CertificateProving
from ginnel.ikev2.rawkeys import RawKeyBelieving, RawKeyProving
from ginnel.wire.ikev2 import Auth, Cert, CertEncoding, Id, IdType

OCTETS = (b"message", b"nonce", b"identity")
HASHES = frozenset({2, 3, 4, 5})
MOON = Id(IdType.FQDN, b"moon.example.org")


@functools.cache
def root() -> pki.Authority:
    return pki.Authority("Root")


def proving(key: bytes, *certificates: bytes) -> CertificateProving:
    files = {"/etc/own.key": key, **{f"/etc/own{number}.pem": one for number, one in enumerate(certificates)}}
    made = credentials.load_proving("certificate", tuple(files)[1:], "/etc/own.key", files)
    assert isinstance(made, CertificateProving)
    return made


def wrong(key: bytes, *certificates: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        proving(key, *certificates)
    return str(caught.value)


def raw_pair(key: pki.Key, public: bytes) -> tuple[Proving, Believing]:
    ours = credentials.load_proving("public-key", (), "own", {"own": pki.key_pem(key)})
    theirs = credentials.load_believing("public-key", (), (), "if-given", "peer", {"peer": public})
    return ours, theirs


# ---------------------------------------------------------------- what is told at the start


def at_ns(days: float) -> int:
    """So many days from the authority's today."""
    return int((pki.TODAY.timestamp() + days * 86_400) * 10**9)


@pytest.mark.parametrize(
    ("days", "words"),
    [(-31, "it is not valid before"), (0, ""), (15, ""), (17, "it expires "), (31, "it is expired since")],
)
def test_a_certificate_out_of_its_time_is_told_before_peers_refuse_it(days: int, words: str) -> None:
    leaf = root().issue()
    found = proving(leaf.key_pem, leaf.pem).doubts(at_ns(days))
    assert [words in one for one in found] == [True] * bool(words)
    assert all(one.startswith("/etc/own0.pem: the certificate of ") for one in found)


def test_a_short_lived_certificate_is_told_in_its_last_third() -> None:
    leaf = root().issue(begins=pki.TODAY, ends=pki.TODAY + 3 * pki.DAY)
    made = proving(leaf.key_pem, leaf.pem)
    assert made.doubts(at_ns(1.9)) == ()
    assert len(made.doubts(at_ns(2.1))) == 1


def test_an_authority_and_a_list_out_of_their_time_are_told() -> None:
    authority = pki.Authority("Old", begins=pki.TODAY - 300 * pki.DAY, ends=pki.TODAY + 20 * pki.DAY)
    files = {"ca": authority.pem, "crl": authority.crl()}
    made = credentials.load_believing("certificate", ("ca",), ("crl",), "strict", "", files)
    assert isinstance(made, CertificateBelieving)
    assert made.doubts(at_ns(0)) == ()
    both = made.doubts(at_ns(21))
    assert ["it is expired since" in both[0], "the revocation list crl is out of date since" in both[1]] == [True, True]


# ---------------------------------------------------------------- our certificate


@pytest.mark.parametrize("key", [pki.ecdsa_key, pki.ed25519_key, pki.rsa_key, lambda: pki.ecdsa_key(ec.SECP521R1())])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_what_is_proved_is_believed_whatever_form_the_key_has(key: object, form: PrivateFormat, encoding: Encoding) -> None:
    assert callable(key)
    leaf = root().issue(key=key())
    if form is PrivateFormat.TraditionalOpenSSL and not hasattr(leaf.key, "key_size"):
        form = PrivateFormat.PKCS8  # Ed25519 has no older form
    made = proving(leaf.key.private_bytes(encoding, form, NoEncryption()), leaf.pem if encoding is Encoding.PEM else leaf.der)
    trust = credentials.load_believing(
        "certificate", ("ca",), (), "if-given", "", {"ca": root().der if encoding is Encoding.DER else root().pem}
    )
    auth = made.auth(OCTETS, "sha256", HASHES)
    assert trust.verify(OCTETS, auth, made.certificates(()), MOON, "sha256", pki.TODAY_NS) == ""
    assert trust.verify(OCTETS, auth, made.certificates(()), made.default_identity(), "sha256", pki.TODAY_NS) == ""
    assert (made.kind, trust.kind) == ("certificate", "certificate")


def test_intermediates_are_sent_and_roots_are_not() -> None:
    middle = pki.Authority("Middle", root())
    leaf = middle.issue()
    made = proving(leaf.key_pem, leaf.pem + middle.pem + root().pem)
    assert made.certificates(()) == (Cert(4, leaf.der), Cert(4, middle.der))
    apart = proving(leaf.key_pem, leaf.pem, middle.pem)
    assert apart.certificates((bytes(20),)) == (Cert(4, leaf.der), Cert(4, middle.der))
    trust = credentials.load_believing("certificate", ("ca",), (), "if-given", "", {"ca": root().pem})
    assert trust.verify(OCTETS, made.auth(OCTETS, "sha256", HASHES), made.certificates(()), MOON, "sha256", pki.TODAY_NS) == ""


def test_whether_the_certificate_vouches_for_our_identity() -> None:
    leaf = root().issue()
    made = proving(leaf.key_pem, leaf.pem)
    assert made.identity_problem(MOON) == ""
    assert (
        made.identity_problem(Id(IdType.FQDN, b"sun")) == "it is for moon.example.org (O=Test, CN=moon.example.org), not for sun"
    )


def test_a_key_and_a_certificate_that_do_not_belong_together() -> None:
    leaf, other = root().issue("sun.example.org"), root().issue()
    said = wrong(leaf.key_pem, other.pem)
    assert "/etc/own0.pem: the private key in /etc/own.key (ECDSA P-256) does not belong to the certificate of" in said
    assert "CN=moon.example.org" in said
    assert "openssl pkey -pubout" in said
    assert "CN=sun.example.org, which has to come first" in wrong(leaf.key_pem, other.pem + leaf.pem)
    assert "does not belong" in wrong(pki.key_pem(pki.rsa_key()), other.pem)


def test_an_encrypted_key_is_refused_with_a_way_out() -> None:
    leaf = root().issue()
    for protected in (
        pki.key_pem(leaf.key, b"secret"),
        leaf.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, pki.BestAvailableEncryption(b"secret")),
    ):
        said = wrong(protected, leaf.pem)
        assert "expected a private key without a passphrase, found an encrypted one" in said
        assert "openssl pkey -in /etc/own.key" in said


def test_openssh_keys_are_refused_with_a_way_out() -> None:
    leaf = root().issue(key=pki.ed25519_key())
    said = wrong(leaf.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), leaf.pem)
    assert "ssh-keygen -p -m PKCS8" in said


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (b"", "expected a private key in PEM or DER, found something else"),
        (b"hunter2", "expected a private key in PEM or DER, found something else"),
        (pki.public_pem(pki.ecdsa_key()), "expected a private key in PEM or DER"),
        (pki.key_pem(pki.rsa_key(1024)), "expected an RSA key of 2048 to 8192 bits, found 1024"),
        (pki.key_pem(pki.ecdsa_key(ec.SECP256K1())), "expected an ECDSA key on P-256, P-384 or P-521, found secp256k1"),
        (ed448.Ed448PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "found Ed448"),
        (pki.key_pem(pki.ecdsa_key())[:-60], "expected a private key in PEM or DER"),
    ],
)
def test_other_keys_are_refused_and_never_quoted(key: bytes, said: str) -> None:
    found = wrong(key, root().issue().pem)
    assert said in found
    assert found.startswith("/etc/own.key: ")
    assert "hunter2" not in found


@pytest.mark.parametrize("certificate", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_other_certificates_are_refused(certificate: bytes) -> None:
    assert wrong(root().issue().key_pem, certificate).startswith("/etc/own0.pem: expected ")


def test_the_files_the_wrong_way_round() -> None:
    leaf = root().issue()
    assert "this is the private key's file" in wrong(leaf.key_pem, leaf.key_pem)
    with pytest.raises(ConfigError, match="expected the peer's public key, found a private one"):
        raw_pair(pki.ecdsa_key(), leaf.key_pem)


def test_nothing_configured() -> None:
    with pytest.raises(ConfigError, match="expected a certificate beside the private key"):
        proving(root().issue().key_pem)
    with pytest.raises(ConfigError, match="expected the file of our private key"):
        credentials.load_proving("public-key", (), "", {})
    with pytest.raises(ConfigError, match="expected an authority or the peer's certificate"):
        credentials.load_believing("certificate", (), (), "if-given", "", {})
    with pytest.raises(ConfigError, match="expected the file of the peer's public key"):
        credentials.load_believing("public-key", (), (), "if-given", "", {})


def test_one_bad_certificate_in_a_bundle_is_counted() -> None:
    weak = pki.Authority("Weak", key=pki.rsa_key(1024))
    with pytest.raises(ConfigError, match="certificate 2 of 3: expected an RSA key of 2048 to 8192 bits, found 1024"):
        credentials.load_believing("certificate", ("ca",), (), "if-given", "", {"ca": root().pem + weak.pem + root().pem})


# ---------------------------------------------------------------- raw public keys


@pytest.mark.parametrize("key", [pki.ecdsa_key, pki.ed25519_key, pki.rsa_key])
def test_raw_keys_both_ways(key: object) -> None:
    assert callable(key)
    own = key()
    spki = own.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for public in (pki.public_pem(own), spki, pki.Authority("Any", key=own).pem):
        ours, theirs = raw_pair(own, public)
        assert isinstance(ours, RawKeyProving)
        assert isinstance(theirs, RawKeyBelieving)
        auth = ours.auth(OCTETS, "sha256", HASHES)
        assert ours.certificates(()) == (Cert(CertEncoding.RAW_PUBLIC_KEY, spki),)
        assert theirs.verify(OCTETS, auth, ours.certificates(()), MOON, "sha256", 0) == ""
        assert theirs.verify(OCTETS, auth, (), MOON, "sha256", 0) == ""
        assert theirs.requests() == b""
        assert (ours.kind, theirs.kind) == ("public-key", "public-key")


def test_only_the_configured_key_is_believed() -> None:
    own, other = pki.ecdsa_key(), pki.ecdsa_key()
    ours, theirs = raw_pair(other, pki.public_pem(own))
    auth = ours.auth(OCTETS, "sha256", HASHES)
    assert "it sent another public key than the one in peer" in theirs.verify(
        OCTETS, auth, ours.certificates(()), MOON, "sha256", 0
    )
    assert "its AUTH is not made with that key" in theirs.verify(OCTETS, auth, (), MOON, "sha256", 0)
    right, _ = raw_pair(own, pki.public_pem(own))
    assert "is not made with that key" in theirs.verify(OCTETS, auth, right.certificates(()), MOON, "sha256", 0)
    assert "is not made with that key" in theirs.verify((b"other",), right.auth(OCTETS, "sha256", HASHES), (), MOON, "sha256", 0)


def test_a_certificate_does_not_stand_in_for_the_key() -> None:
    leaf = root().issue()
    ours, theirs = raw_pair(pki.ecdsa_key(), pki.public_pem(pki.ecdsa_key()))
    auth = ours.auth(OCTETS, "sha256", HASHES)
    assert theirs.verify(OCTETS, auth, [Cert(4, leaf.der)], MOON, "sha256", 0) != ""


@pytest.mark.parametrize("method", [2, 13])
def test_another_proof_is_named(method: int) -> None:
    _, theirs = raw_pair(pki.ecdsa_key(), pki.public_pem(pki.ecdsa_key()))
    assert theirs.verify(OCTETS, Auth(method, bytes(32)), (), MOON, "sha256", 0).startswith(
        "expected moon.example.org to prove itself with the key in peer, found "
    )


@pytest.mark.parametrize(
    ("public", "said"),
    [
        (b"nonsense", "expected a public key in PEM or DER, found something else"),
        (b"", "expected a public key in PEM or DER, found something else"),
        (pki.public_pem(pki.rsa_key(1024)), "expected an RSA key of 2048"),
    ],
)
def test_other_public_keys_are_refused(public: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=f"peer: {said}"):
        raw_pair(pki.ecdsa_key(), public)
