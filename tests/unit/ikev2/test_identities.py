"""Identities: text both ways, and which are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.errors import UsageError
from ginnel.ikev2 import identities
from ginnel.wire.ikev2 import Id, IdType

MOON = bytes.fromhex("300f310d300b06035504030c04") + b"moon"


@pytest.mark.parametrize(
    ("text", "identity", "shown"),
    [
        ("192.0.2.1", Id(IdType.IPV4_ADDR, bytes((192, 0, 2, 1))), "192.0.2.1"),
        ("2001:db8::1", Id(IdType.IPV6_ADDR, bytes.fromhex("20010db8000000000000000000000001")), "2001:db8::1"),
        ("moon.example.org", Id(IdType.FQDN, b"moon.example.org"), "moon.example.org"),
        ("@moon", Id(IdType.FQDN, b"moon"), "moon"),
        ("@192.0.2.1", Id(IdType.FQDN, b"192.0.2.1"), "@192.0.2.1"),
        ("fqdn:a@b", Id(IdType.FQDN, b"a@b"), "@a@b"),
        ("user@example.org", Id(IdType.RFC822_ADDR, b"user@example.org"), "user@example.org"),
        ("email:user", Id(IdType.RFC822_ADDR, b"user"), "email:user"),
        ("@#6d6f6f6e", Id(IdType.KEY_ID, b"moon"), "@#6d6f6f6e"),
        ("keyid:moon", Id(IdType.KEY_ID, b"moon"), "@#6d6f6f6e"),
        ("CN=moon", Id(IdType.DER_ASN1_DN, MOON), "CN=moon"),
        ("dn:/cn=moon", Id(IdType.DER_ASN1_DN, MOON), "CN=moon"),
        ("%any", None, "%any"),
    ],
)
def test_texts(text: str, identity: Id | None, shown: str) -> None:
    assert identities.parse(text) == identity
    assert identities.text(identity) == shown
    assert identities.parse(shown) == identity


def test_a_name_of_many_parts_is_the_one_that_certificates_have() -> None:
    # `openssl req -subj "/C=DE/O=Ex, Ltd/OU=Sites/CN=moon/emailAddress=a@b.c" -utf8`
    found = identities.parse(r"C=DE, O=Ex\, Ltd, OU=Sites, CN=moon, emailAddress=a@b.c")
    assert found is not None
    assert found.data == bytes.fromhex(
        "3054310b3009060355040613024445"
        "3110300e060355040a0c0745782c204c7464"
        "310e300c060355040b0c055369746573"
        "310d300b06035504030c046d6f6f6e"
        "3114301206092a864886f70d0109011605614062 2e63"
    )
    assert identities.text(found) == r"C=DE, O=Ex\, Ltd, OU=Sites, CN=moon, emailAddress=a@b.c"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "expected an identity of 1 to 1024 bytes, found 0"),
        ("@", "found 0"),
        ("x" * 1025, "found 1025"),
        ("@#xyz", "expected hexadecimal digits"),
        ("ipv4:moon", "expected an address"),
        ("CN=", "expected parts such as CN=moon"),
        ("CN=moon, Kind=gre", "'Kind' is no attribute of a name"),
        ("C=Österreich", "expected ASCII in C"),
    ],
)
def test_texts_that_are_no_identity(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        identities.parse(text)


def test_what_a_peer_sent_is_shown_without_control_characters() -> None:
    assert identities.text(Id(IdType.FQDN, b"a\x1b[31m\n\xff")) == r"a\x1b[31m\x0a\xff"
    assert identities.text(Id(IdType.DER_ASN1_DN, b"\x30\x05abc")).startswith("a distinguished name that cannot be read")
    assert identities.text(Id(IdType.IPV4_ADDR, b"abc")) == "identity of type 1, 0x616263"
    assert identities.text(Id(200, b"abc")) == "identity of type 200, 0x616263"
    assert len(identities.text(Id(IdType.FQDN, b"\xff" * 60_000))) < 5_000
    long = identities.parse(", ".join(f"OU={number:04}" for number in range(60)))
    assert long is not None
    assert identities.parse(identities.text(long)) == long
    body = long.data[4:] * 60
    huge = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    assert len(identities.text(Id(IdType.DER_ASN1_DN, huge))) < 5_000


def test_which_are_the_same() -> None:
    def same(one: str, other: str) -> bool:
        first, second = identities.parse(one), identities.parse(other)
        assert first is not None
        assert second is not None
        return identities.same(first, second)

    assert same("moon.Example.org", "MOON.example.org")
    assert same("A@example.org", "a@EXAMPLE.org")
    assert same("CN=Moon, O=Example  Ltd", "cn=moon, o=example ltd")
    assert same("192.0.2.1", "ipv4:192.0.2.1")
    assert not same("CN=moon, O=Example", "O=Example, CN=moon")
    assert not same("moon", "moon.example.org")
    assert not same("192.0.2.1", "@192.0.2.1")
    assert not same("keyid:moon", "keyid:MOON")
    assert not same("@moon", "keyid:moon")


@given(
    st.sampled_from([IdType.FQDN, IdType.RFC822_ADDR]), st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)
)
def test_any_name_comes_back(kind: IdType, name: str) -> None:
    identity = Id(kind, name.encode())
    assert identities.parse(identities.text(identity)) == identity


@given(st.binary(max_size=60))
def test_whatever_a_peer_sends_there_is_a_text(data: bytes) -> None:
    for kind in (*IdType, 99):
        assert identities.text(Id(kind, data)).isprintable()
