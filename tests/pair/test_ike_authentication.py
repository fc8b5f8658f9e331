"""
Two machines that prove themselves to each other: secrets, certificates of every kind, raw keys, each with each; large chains cut
into fragments, some of them lost; and every way to be refused, told at the end that refuses and never to the other.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

import pki
from ginnel.ikev2 import credentials
from ginnel.ikev2.connection import Believing, Proving
from ginnel.ikev2.effects import ChildUp, IkeUp, Refused
from ginnel.testing import FakeClock
from ginnel.units import NS_PER_S
from ginnel.wire.ikev2 import Exchange, Id, IdType, parse_header
from ike_pair import IkePair, psk

Side = tuple[Proving, Believing]
A, B = "a.example.org", "b.example.org"


@functools.cache
def root() -> pki.Authority:
    return pki.Authority("Root")


def proving(issued: pki.Issued, *above: pki.Authority) -> Proving:
    files = {"own.pem": b"".join([issued.pem, *(one.pem for one in above)]), "own.key": issued.key_pem}
    return credentials.load_proving("certificate", ("own.pem",), "own.key", files)


def believing(*authorities: pki.Authority, crl: bytes = b"", strict: bool = False) -> Believing:
    files = {f"ca{number}": one.pem for number, one in enumerate(authorities)}
    lists = {"list": crl} if crl else {}
    return credentials.load_believing(
        "certificate", tuple(files), tuple(lists), "strict" if strict else "if-given", "", {**files, **lists}
    )


def certified(name: str, key: pki.Key | None = None) -> Side:
    return proving(root().issue(name, key=key)), believing(root())


def raw(own: pki.Key, other: pki.Key) -> Side:
    files = {"own": pki.key_pem(own), "peer": pki.public_pem(other)}
    return (
        credentials.load_proving("public-key", (), "own", files),
        credentials.load_believing("public-key", (), (), "if-given", "peer", files),
    )


def made(a: Side, b: Side, **changes: object) -> IkePair:
    pair = IkePair(credentials=(a, b), **changes)
    pair.clock.step_wall(pki.TODAY_NS - pair.clock.unix_ns)
    return pair


def goes_up(a: Side, b: Side, **changes: object) -> IkePair:
    pair = made(a, b, **changes)
    pair.establish()
    pair.check_settled()
    return pair


def refused(pair: IkePair, letter: str, *words: str) -> None:
    """The initiator asks; the end *letter* refuses, and says why; nobody has anything."""
    pair.a.initiate()
    pair.flush()
    judge = pair.a if letter == "a" else pair.b
    told = [event for event in judge.told(Refused) if isinstance(event, Refused) and event.by == "us"]
    assert told, pair.story()
    text = "\n".join(told[0].lines)
    for word in words:
        assert word in text, text
    # a responder that proved itself may be believed by an initiator that it does not believe; but there is no child
    assert not judge.told(IkeUp, ChildUp), pair.story()
    pair.run_for(1)
    for host in pair.hosts:
        assert host.engine.outbound is None, pair.story()
        assert host.engine.inbound == {}, pair.story()
    other = pair.other(judge)
    their_lines = "\n".join(line for event in other.told(Refused) if isinstance(event, Refused) for line in event.lines)
    for word in words:
        if " " in word:
            assert word not in their_lines, "what we say to ourselves is not said to the peer"


# ---------------------------------------------------------------- who is believed

KEYS: dict[str, Callable[[], pki.Key]] = {
    "rsa": pki.rsa_key,
    "p256": pki.ecdsa_key,
    "p384": lambda: pki.ecdsa_key(ec.SECP384R1()),
    "p521": lambda: pki.ecdsa_key(ec.SECP521R1()),
    "ed25519": pki.ed25519_key,
}


@pytest.mark.parametrize("theirs", KEYS)
@pytest.mark.parametrize("ours", KEYS)
def test_certificates_of_every_kind(ours: str, theirs: str) -> None:
    goes_up(certified(A, KEYS[ours]()), certified(B, KEYS[theirs]()))


@pytest.mark.parametrize("kind", KEYS)
def test_raw_keys_of_every_kind(kind: str) -> None:
    a, b = KEYS[kind](), pki.ed25519_key()
    goes_up(raw(a, b), raw(b, a))
    goes_up(raw(b, a), raw(a, b))


def test_each_end_in_its_own_way() -> None:
    """One by certificate, the other by secret."""
    secret, certificate = psk(), certified(B)
    goes_up((secret[0], certificate[1]), (certificate[0], secret[1]))
    certificate = certified(A)
    goes_up((certificate[0], secret[1]), (secret[0], certificate[1]))


@pytest.mark.parametrize(
    ("identity", "names"),
    [
        (Id(IdType.DER_ASN1_DN, pki.name("moon").public_bytes()), []),
        (Id(IdType.IPV4_ADDR, bytes([192, 0, 2, 2])), [x509.IPAddress(ipaddress.ip_address("192.0.2.2"))]),
        (Id(IdType.RFC822_ADDR, b"b@example.org"), [x509.RFC822Name("b@example.org")]),
    ],
)
def test_by_other_identities(identity: Id, names: list[x509.GeneralName]) -> None:
    """Whoever is accepted ("%any") still has to be who it says it is."""
    side = proving(root().issue("moon", names=names)), believing(root())
    for expected in (identity, None):
        goes_up(certified(A), side, changes_a={"remote_id": expected}, changes_b={"local_id": identity})
    stranger = Id(IdType.FQDN, b"stranger.example.org")
    pair = made(certified(A), side, changes_a={"remote_id": None}, changes_b={"local_id": stranger})
    refused(pair, "a", "the certificate does not vouch for this identity", "stranger.example.org")


def test_strict_revocation_with_current_lists() -> None:
    crl = root().crl(root().issue("c.example.org"))
    side = believing(root(), crl=crl, strict=True)
    goes_up((proving(root().issue(A)), side), (proving(root().issue(B)), side))


# ---------------------------------------------------------------- large ones


def large(name: str) -> Side:
    """A chain of RSA-4096 with many names: more than 1,280 bytes many times over."""
    key = pki.rsa_key(4096)
    middle = pki.Authority("Middle", root(), key=key)
    names = [x509.DNSName(name), *(x509.DNSName(f"{number}.{name}") for number in range(100))]
    return proving(middle.issue(name, key=key, names=names), middle), believing(root())


def test_large_chains_are_cut_into_fragments() -> None:
    pair = made(large(A), large(B))
    pair.a.initiate()
    pair.flush()
    assert pair.a.engine.outbound is not None, pair.story()
    sizes = [len(one.message) for host in pair.hosts for one in host.sent]
    assert max(sizes) <= 1280 - 28
    parts = [one for one in pair.a.sent if parse_header(one.message).exchange == Exchange.IKE_AUTH]
    assert len(parts) >= 4


@pytest.mark.parametrize("end", ["a", "b"])
@pytest.mark.parametrize("lost", range(5))
def test_a_lost_fragment_is_sent_again(lost: int, end: str) -> None:
    """Of the request, and of its answer; the others come in the reverse order."""
    pair = made(large(A), large(B))
    pair.flush()
    pair.a.initiate()
    pair.deliver(pair.b)
    pair.deliver(pair.a)
    host = pair.a if end == "a" else pair.b
    if host is pair.a:
        while pair.flight["b"]:
            pair.deliver(pair.b)
    parts = pair.flight[end]
    assert len(parts) >= 4
    pair.drop(host, min(lost, len(parts) - 1))
    while parts:
        pair.deliver(host, len(parts) - 1)
    assert not host.told(IkeUp)
    pair.run_for(10)
    assert pair.a.engine.outbound is not None, pair.story()
    assert pair.b.engine.outbound is not None


def test_without_fragmentation_it_is_one_datagram() -> None:
    pair = goes_up(large(A), large(B), fragmentation=False)
    assert pair.a.engine.outbound is not None


# ---------------------------------------------------------------- who is not

ISSUES: dict[str, tuple[Callable[[str], Proving], str]] = {
    "expired": (
        lambda name: proving(root().issue(name, ends=pki.TODAY - pki.DAY)),
        "it is expired since 2026-11-20 12:00:00 UTC",
    ),
    "young": (
        lambda name: proving(root().issue(name, begins=pki.TODAY + pki.DAY)),
        "it is not valid before 2026-11-22 12:00:00 UTC",
    ),
    "wrong name": (lambda name: proving(root().issue("sun.example.org")), "it is for sun.example.org"),
    "unknown authority": (lambda name: proving(pki.Authority("Nobody").issue(name)), "not trusted here: O=Test, CN=Nobody"),
    "self-signed": (
        lambda name: proving(
            pki.certificate(pki.name(name), own := pki.ecdsa_key(), pki.name(name), own, names=[x509.DNSName(name)])
        ),
        "is self-signed",
    ),
    "not for IKE": (
        lambda name: proving(
            root().issue(name, extensions=[(x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.3")]), False)])
        ),
        "its key is not for IKE",
    ),
    "raw key": (lambda name: raw(pki.ed25519_key(), pki.ed25519_key())[0], "sent no certificate"),
    "secret": (lambda name: psk()[0], "to prove itself with a certificate, found a pre-shared secret"),
}


@pytest.mark.parametrize("why", ISSUES)
def test_an_initiator_that_is_not_believed(why: str) -> None:
    make, words = ISSUES[why]
    refused(made((make(A), believing(root())), certified(B)), "b", words, A)


@pytest.mark.parametrize("childless", [True, False])
@pytest.mark.parametrize("why", ISSUES)
def test_a_responder_that_is_not_believed(why: str, childless: bool) -> None:
    make, words = ISSUES[why]
    refused(made(certified(A), (make(B), believing(root())), childless=childless), "a", words, B)


def test_a_revoked_one() -> None:
    issued = root().issue(A)
    side = certified(B)
    judge = believing(root(), crl=root().crl(issued))
    refused(made((proving(issued), side[1]), (side[0], judge)), "b", "it was revoked on 2026-11-20 12:00:00 UTC (keyCompromise)")


def test_strict_without_a_list() -> None:
    refused(
        made(certified(A), (certified(B)[0], believing(root(), strict=True))),
        "b",
        "there is no revocation list of O=Test, CN=Root",
    )


def test_another_secret() -> None:
    refused(made(psk(b"one"), psk(b"other")), "b", "wrong pre-shared secret", A)


def test_another_raw_key() -> None:
    a, b, c = pki.ed25519_key(), pki.ecdsa_key(), pki.ed25519_key()
    refused(made(raw(c, b), raw(b, a)), "b", "it sent another public key than the one in peer")
    refused(made(raw(a, c), raw(b, a)), "a", "it sent another public key than the one in peer")


def test_a_certificate_expires_while_it_is_used_and_a_new_start_is_refused() -> None:
    issued = root().issue(A, ends=pki.TODAY + pki.DAY)
    pair = made((proving(issued), believing(root())), certified(B))
    pair.establish()
    pair.clock.step_wall(2 * 86_400 * NS_PER_S)
    pair.a.rekey_ike()
    pair.check_settled()  # what stands stands; rekeying proves nothing anew
    pair.a.terminate()
    pair.flush()
    for host in pair.hosts:
        host.events.clear()
    pair.strict = False
    refused(pair, "b", "it is expired since")


def test_a_clock_that_is_wrong_is_said() -> None:
    """Both times stand in the sentence: the certificate's and ours."""
    pair = IkePair(credentials=(certified(A), certified(B)))
    assert isinstance(pair.clock, FakeClock)
    refused(pair, "b", "it is not valid before", "(it is 2023-")
